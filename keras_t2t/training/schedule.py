"""The published learning rate schedule."""

import dataclasses
import math

import keras
from keras import ops


@keras.saving.register_keras_serializable(package="keras_t2t")
@dataclasses.dataclass(eq=False)
class WarmupCosine(keras.optimizers.schedules.LearningRateSchedule):
    """Linear warm-up, cosine, and a constant end.

    At time `t`, in epochs: below `warmup_epochs` a line from `warmup_rate` to `peak`; below
    `epochs` `floor + (peak - floor) (1 + cos(pi t / epochs)) / 2`, which the warm-up does not
    shift; after that `floor`.

    Args:
        peak: Float, the highest learning rate.
        epochs: Number, length of the cosine, the warm-up in it.
        steps_per_epoch: Int.
        warmup_epochs: Number of epochs. Defaults to 10.
        warmup_rate: Float, the first learning rate. Defaults to 1e-6.
        floor: Float, the last learning rate. Defaults to 1e-5.
        every_step: Bool, whether `t` grows with every step, which suits short runs, or with every
            epoch, as published, which is the default.

    Source: `CosineLRScheduler` of timm as `main.py` calls it.
    """

    peak: float
    epochs: float
    steps_per_epoch: int
    warmup_epochs: float = 10
    warmup_rate: float = 1e-6
    floor: float = 1e-5
    every_step: bool = False

    def __call__(self, step):
        time = ops.cast(step, "float32") / self.steps_per_epoch
        if not self.every_step:
            # In integers: a float32 has not the digits for the steps of a long run.
            time = ops.cast(ops.floor_divide(step, self.steps_per_epoch), "float32")
        angle = math.pi * ops.minimum(time / self.epochs, 1.0)
        rate = self.floor + (self.peak - self.floor) * (1.0 + ops.cos(angle)) / 2.0
        if not self.warmup_epochs:
            return rate
        line = self.warmup_rate + (self.peak - self.warmup_rate) * time / self.warmup_epochs
        return ops.where(time < self.warmup_epochs, line, rate)

    def get_config(self):
        return dataclasses.asdict(self)
