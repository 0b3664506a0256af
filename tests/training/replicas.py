"""Trains the same on any number of devices: `replicas.py FOLDER COUNT` prints the log of 20 steps.

With `--host ADDRESS HOSTS HOST FOLDER` it is one of several hosts, each with one device. With
`--visible` it prints which GPUs JAX would use on this host.
"""

import hashlib
import json
import signal
import sys

import numpy as np

from keras_t2t.data.augment import Augmentation
from keras_t2t.preprocessing import Preprocessing
from keras_t2t.training import Options, Recipe, TrainingInterrupted, train
from keras_t2t.training.distribution import choose_devices

MODEL = {
    "soft_splits": [[3, 2, 1], [3, 2, 1]],
    "token_dim": 8,
    "embed_dim": 16,
    "depth": 1,
    "num_heads": 2,
    "performer_dropout_rate": 0.0,
}
AUGMENTATION = Augmentation(
    crop_area=None, flip=0.0, randaugment_draws=0, erasing=0.0, mixup=0.0, cutmix=0.0
)


def recipe(**arguments):
    """20 steps, two an epoch with `data()`, on 8 x 8 pixels."""
    return Recipe(
        **{
            "variant": None,
            "model": MODEL,
            "initial_weights": "glorot",
            "preprocessing": Preprocessing(8, 8, (0.5,), (0.25,), crop_fraction=None),
            "augmentation": AUGMENTATION,
            "epochs": 10,
            "batch_size": 16,
            "learning_rate": 1e-2,
            "warmup_epochs": 1,
            "cooldown_epochs": 0,
            "rate_every_step": True,
            "ema": 0.9,
            "ema_warmup": True,
            **arguments,
        }
    )


def data(count=32):
    rng = np.random.default_rng(3)
    labels = np.arange(count) % 4
    images = rng.integers(0, 120, (count, 8, 8, 1)) + 40 * labels[:, None, None, None]
    # 13 for validation: no multiple of the batch size.
    return {
        "train": (images.astype("uint8"), labels),
        "validation": (images[:13].astype("uint8"), labels[:13]),
    }


def fingerprint(model):
    digest = hashlib.sha256()
    for weight in model.get_weights():
        digest.update(np.ascontiguousarray(weight).tobytes())
    return digest.hexdigest()


def main(folder, count):
    out = f"{folder}/{count}"
    _, history = train(recipe(epochs=5), data(64), out, devices=int(count), verbose=0)
    print("RESULT", json.dumps(history))


def host(address, hosts, host, folder):
    try:
        model, history = train(
            recipe(epochs=5),
            data(64),
            folder,
            coordinator=address,
            num_hosts=int(hosts),
            host_id=int(host),
            verbose=0,
        )
    except TrainingInterrupted as stopped:
        sys.exit(128 + signal.Signals[str(stopped)])
    print("RESULT", json.dumps([fingerprint(model), history]))


def visible():
    import jax

    devices = choose_devices(Options())
    print(
        "RESULT",
        json.dumps([jax.config.read("jax_cuda_visible_devices"), devices.hosts, devices.host]),
    )


if __name__ == "__main__":
    if sys.argv[1] == "--host":
        host(*sys.argv[2:])
    elif sys.argv[1] == "--visible":
        visible()
    else:
        main(*sys.argv[1:])
