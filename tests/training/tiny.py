"""A tiny training for the tests of the loop; its batches are a function of the step."""

import keras
import numpy as np
import tensorflow as tf

from keras_t2t.training import AdamW, Recipe
from keras_t2t.training.batches import Batches
from keras_t2t.training.build import make_schedule

STEPS = 5  # per epoch
BATCH = 16
RECIPE = Recipe(
    epochs=3,
    batch_size=BATCH,
    learning_rate=0.02,
    warmup_epochs=1,
    cooldown_epochs=0,
    rate_every_step=True,
)


def model(**arguments):
    """Compiled, with dropout, whose seed belongs to the state, and a moving average."""
    keras.utils.clear_session()
    keras.utils.set_random_seed(1)
    inputs = keras.Input((6,))
    x = keras.layers.Dense(8, activation="gelu", name="hidden")(inputs)
    x = keras.layers.Dropout(0.5, name="dropout")(x)
    small = keras.Model(inputs, keras.layers.Dense(3, name="head")(x))
    schedule = make_schedule(RECIPE, STEPS)
    small.compile(
        AdamW(schedule, use_ema=True, ema_momentum=0.9, ema_in_model=False, ema_warmup=True),
        keras.losses.CategoricalCrossentropy(from_logits=True),
        weighted_metrics=[keras.metrics.CategoricalAccuracy(name="top1")],
        **arguments,
    )
    return small


def batch(step, seed=0):
    rng = np.random.default_rng([seed, step])
    labels = rng.integers(3, size=BATCH)
    images = rng.normal(size=(BATCH, 6)) + labels[:, None] * [1, 0, -1, 0, 2, 0]
    return images.astype("float32"), np.eye(3, dtype="float32")[labels]


def batches(step, broken=None):
    """Batches from a step on; the images of step `broken` are NaN."""
    images, labels = zip(*(batch(number) for number in range(4 * STEPS)), strict=True)
    images = np.stack(images)
    if broken is not None:
        images[broken] = np.nan
    return tf.data.Dataset.from_tensor_slices((images, np.stack(labels))).skip(step).repeat()


def evaluation():
    images, labels = batch(0, seed=9)
    weights = np.ones(BATCH, "float32")
    weights[-3:] = 0
    return tf.data.Dataset.from_tensors((images, labels, weights)).repeat(2)


def data(**changed):
    arguments = {
        "training": batches,
        "evaluation": evaluation(),
        "batch_size": BATCH,
        "images": STEPS * BATCH,
        "class_names": ["a", "b", "c"],
    }
    return Batches(**arguments | changed)
