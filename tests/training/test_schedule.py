"""The learning rate, against timm's formula written out."""

import math

import keras
import pytest

from keras_t2t.training import WarmupCosine


def timm(epoch, peak=5e-4, floor=1e-5, first=1e-6, warmup=10, length=300):
    """`CosineLRScheduler._get_lr` with one cycle, as `main.py` sets it up."""
    if epoch < warmup:
        return first + epoch * (peak - first) / warmup
    if epoch < length:
        return floor + 0.5 * (peak - floor) * (1 + math.cos(math.pi * epoch / length))
    return floor


def test_published():
    steps = 2502  # 1,281,167 images, 512 a step
    schedule = WarmupCosine(5e-4, 300, steps)
    for epoch in (0, 1, 5, 9, 10, 11, 150, 299, 300, 309):
        for step in (epoch * steps, epoch * steps + steps - 1):
            assert float(schedule(step)) == pytest.approx(timm(epoch), rel=1e-5), (epoch, step)


def test_every_step():
    schedule = WarmupCosine(5e-4, 300, 100, every_step=True)
    for step in (0, 1, 550, 999, 1000, 15_050, 29_999, 30_000, 31_000):
        assert float(schedule(step)) == pytest.approx(timm(step / 100), rel=1e-4), step


def test_no_warmup_and_config():
    schedule = WarmupCosine(0.05, 60, 10, warmup_epochs=0, floor=2e-4)
    assert float(schedule(0)) == pytest.approx(0.05)
    config = keras.optimizers.schedules.serialize(schedule)
    again = keras.optimizers.schedules.deserialize(config)
    assert (
        float(again(305)) == float(schedule(305)) == pytest.approx(timm(30, 0.05, 2e-4, 0, 0, 60))
    )
