"""Ours against the numbers of the published implementation, on the same weights and images."""

import functools

import keras
import numpy as np
import pytest

import keras_t2t
from keras_t2t.training import AdamW
from keras_t2t.weights.building import build_unfilled, network
from keras_t2t.weights.mapping import published_slots
from tests import parity
from tests.fixtures.reference_weights import reference_array, sinusoid_table
from tests.gradients import gradients

STAGES = {
    "soft_split0": "soft_split_0",
    "attention1": "t2t_block_0",
    "soft_split1": "soft_split_1",
    "attention2": "t2t_block_1",
    "tokens": "tokens",
    "block0": "encoder_block_0",
    "norm": "norm",
}


def reference_model(variant):
    # Without initial values: JAX would compile the drawing of each shape.
    model = build_unfilled(network(variant), classifier_activation=None)
    keras_t2t.load_checkpoint(model, parity.reference_state_dict(variant))
    return model


def predict(model, images):
    # Compiled: operation by operation, JAX would compile each of them.
    return model.predict(images, verbose=0)


def test_logits_and_features(parity_variant):
    model = reference_model(parity_variant)
    features = model.get_layer("token_pooling").output
    both = keras.Model(model.input, [model.output, features])
    logits, features = predict(both, parity.images())
    # Two right float32 implementations differ by about 1e-5.
    assert np.abs(logits - parity.expected(f"{parity_variant}/logits")).max() < 2e-5
    assert np.abs(features - parity.expected(f"{parity_variant}/features")).max() < 2e-5


@pytest.mark.parametrize("variant", ["t2t_vit_7", "t2t_vit_t_14"])
def test_stage_by_stage(variant):
    model = reference_model(variant)
    outputs = {name: model.get_layer(layer).output for name, layer in STAGES.items()}
    stages = predict(keras.Model(model.input, outputs), parity.images()[:1])
    for name, ours in stages.items():
        ours = ours.reshape(1, -1, ours.shape[-1])[:, :16]
        if name.startswith("soft_split"):  # Published patches are channel-major.
            kernel = model.get_layer(STAGES[name]).kernel_size
            ours = ours.reshape(1, 16, *kernel, -1).transpose(0, 1, 4, 2, 3).reshape(1, 16, -1)
        np.testing.assert_allclose(
            ours, parity.expected(f"{variant}/{name}"), rtol=1e-5, atol=2e-5, err_msg=name
        )


@pytest.mark.slow
@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
@pytest.mark.parametrize("variant", ["t2t_vit_7", "t2t_vit_t_14"])
def test_mixed_precision_keeps_to_its_digits(variant, policy):
    """The bound is a random walk of rounding errors.

    Each of the `2 * depth + 8` matrix products that stand one after another (two branches for a
    block, the stem's four a T2T block) rounds its inputs to the policy's spacing `eps` and its
    result again: at most three roundings of relative size eps / 2, independent of each other, each
    carried to the logits (standard deviation 1) by a network that neither grows nor shrinks it.
    Four standard deviations hold for the largest of the 2,000 logits.
    """
    keras.config.set_dtype_policy(policy)
    model = reference_model(variant)
    logits = predict(model, parity.images())
    error = np.abs(logits - parity.expected(f"{variant}/logits"))
    eps = {"mixed_float16": 2.0**-10, "mixed_bfloat16": 2.0**-7}[policy]
    depth = {"t2t_vit_7": 7, "t2t_vit_t_14": 14}[variant]
    assert error.max() < 4 * eps / 2 * np.sqrt(3 * (2 * depth + 8))
    # Half precision was really used: float32 would be a hundred times closer.
    assert error.max() > eps / 20


TRAIN = parity.SPEC["train"]


def training_model():
    """The model, loss and batches of the published training run."""
    model = keras_t2t.create(
        TRAIN["variant"],
        input_shape=(TRAIN["size"], TRAIN["size"], 3),
        classes=TRAIN["classes"],
        classifier_activation=None,
        # The published run was in evaluation mode.
        performer_dropout_rate=0.0,
    )
    arrays = parity.reference_state_dict(TRAIN["variant"])
    arrays["pos_embed"] = sinusoid_table(17, 256)
    arrays["head.weight"] = reference_array("head.weight", (TRAIN["classes"], 256))
    arrays["head.bias"] = reference_array("head.bias", (TRAIN["classes"],))
    keras_t2t.load_checkpoint(model, arrays)
    loss = keras.losses.CategoricalCrossentropy(
        from_logits=True, label_smoothing=TRAIN["label_smoothing"]
    )
    return model, loss


@functools.cache
def training_batches():
    labels = np.random.RandomState(100)
    return [
        (
            parity.reference_images(TRAIN["batch"], TRAIN["size"], seed=100 + step),
            np.eye(TRAIN["classes"], dtype="float32")[
                labels.randint(0, TRAIN["classes"], TRAIN["batch"])
            ],
        )
        for step in range(TRAIN["steps"])
    ]


def test_gradient_norms_of_the_first_step():
    model, loss = training_model()
    images, labels = training_batches()[0]
    value, found, _ = gradients(model, lambda y, labels: loss(labels, y), images, labels)
    np.testing.assert_allclose(value, parity.expected("train/t2t_vit_7/losses")[0], rtol=1e-5)
    keys = {slot.variable.path: key for key, slot in published_slots(model).items()}
    norms = {
        keys[variable.path]: np.linalg.norm(gradient)
        for variable, gradient in zip(model.trainable_variables, found, strict=True)
    }
    assert norms.keys() == TRAIN["grad_norms_step0"].keys()
    for key, norm in TRAIN["grad_norms_step0"].items():
        np.testing.assert_allclose(norms[key], norm, rtol=1e-3, err_msg=key)


@pytest.mark.above_backends
@pytest.mark.slow
def test_twelve_steps_of_adamw():
    model, loss = training_model()
    optimizer = AdamW(
        learning_rate=TRAIN["learning_rate"],
        weight_decay=TRAIN["weight_decay"],
        beta_1=TRAIN["beta_1"],
        beta_2=TRAIN["beta_2"],
        epsilon=TRAIN["epsilon"],
    )
    model.compile(optimizer, loss)
    losses = [model.train_on_batch(*batch) for batch in training_batches()]
    np.testing.assert_allclose(losses, parity.expected("train/t2t_vit_7/losses"), atol=1e-4)
