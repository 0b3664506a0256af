"""The optimizers of the published recipes: AdamW, and SGD with coupled L2."""

import re

import keras
from keras import ops
from keras.optimizers.schedules import LearningRateSchedule

from keras_t2t import compat


def decays(variable):
    """Whether weight decay applies.

    Not to one-dimensional variables (biases, norms), nor to the class token.

    Source: `add_weight_decay` of timm, which `main.py` uses, and `no_weight_decay` in
    `models/t2t_vit.py`.
    """
    return len(variable.shape) > 1 and variable.path.rsplit("/", 1)[-1] != "class_token"


class _Parts(keras.optimizers.Optimizer):
    """What both optimizers add to Keras': learning rates by part, and how the average starts.

    Adam divides a gradient's scale out again, so the rate itself has to differ, not the gradient.
    """

    def __init__(self, part_rates=None, ema_warmup=False, ema_in_model=True, **kwargs):
        super().__init__(**kwargs)
        self.part_rates = dict(part_rates or {})
        self.ema_warmup = ema_warmup
        self.ema_in_model = ema_in_model

    def build(self, variables):
        if not self.built:
            self._lines = [self._line(variable.path) for variable in variables]
        super().build(variables)

    def _line(self, path):
        matches = (line for pattern, line in self.part_rates.items() if re.search(pattern, path))
        return next(matches, (1.0, 0.0))

    def rate_of(self, variable, learning_rate):
        """The learning rate of one variable, in its dtype."""
        scale, offset = self._lines[compat.variable_index(self, variable)]
        return ops.cast(learning_rate, variable.dtype) * scale + offset

    def _update_model_variables_moving_average(self, trainable_variables):
        if not self.ema_warmup:
            return super()._update_model_variables_moving_average(trainable_variables)
        step = ops.cast(self.iterations, "float32")
        decay = ops.minimum(step / (step + 9.0), self.ema_momentum)
        for variable, average in compat.moving_averages(self):
            share = ops.cast(1.0 - decay, variable.dtype)
            average.assign(average + (variable - average) * share)

    def finalize_variable_values(self, var_list):
        if self.ema_in_model:
            super().finalize_variable_values(var_list)

    def get_config(self):
        return {
            **super().get_config(),
            "part_rates": self.part_rates,
            "ema_warmup": self.ema_warmup,
            "ema_in_model": self.ema_in_model,
        }


@keras.saving.register_keras_serializable(package="keras_t2t")
class AdamW(_Parts, keras.optimizers.AdamW):
    """`keras.optimizers.AdamW` with PyTorch's epsilon and the published exclusions.

    PyTorch adds epsilon to the square root of the second moment once its bias is corrected, Keras
    before, where it counts `1 / sqrt(1 - beta_2 ** step)` as much: 32 times at the first step.

    One-dimensional variables (biases, norms) and the class token do not decay. The rule belongs to
    the optimizer and so survives saving and loading; what `exclude_from_weight_decay` is told does
    not.

    Args:
        learning_rate: Float or learning rate schedule. Defaults to 5e-4, published for a global
            batch of 512.
        weight_decay: Float, decoupled weight decay. Defaults to 0.05, published for T2T-ViT-14.
        epsilon: Float, as PyTorch takes it. Defaults to 1e-8, PyTorch's default; Keras' is 1e-7.
        part_rates: Dictionary from regular expressions to pairs `(scale, offset)`: a variable has
            the learning rate `scale * learning_rate + offset` of the first expression that is found
            in its path, also for its decay. Defaults to none.
        ema_warmup: Bool. With `use_ema`, whether the average's decay after `t` steps is
            `min(ema_momentum, t / (t + 9))`, so that the average of a short run is not still its
            beginning. Defaults to `False`, as published.
        ema_in_model: Bool. With `use_ema`, whether `fit` ends with the average in the model, which
            is what Keras does and the default.
        **kwargs: Other arguments of `keras.optimizers.AdamW`.

    Source: README of the published implementation; `main.py`; PyTorch's documentation of
    `torch.optim.AdamW`.
    """

    def __init__(
        self,
        learning_rate: float | LearningRateSchedule = 5e-4,
        weight_decay: float = 0.05,
        epsilon: float = 1e-8,
        **kwargs,
    ):
        kwargs.setdefault("name", "adamw")
        super().__init__(
            learning_rate=learning_rate, weight_decay=weight_decay, epsilon=epsilon, **kwargs
        )

    def build(self, variables):
        if not self.built:
            self.exclude_from_weight_decay([v for v in variables if not decays(v)])
        super().build(variables)

    def update_step(self, gradient, variable, learning_rate):
        rate = self.rate_of(variable, learning_rate)
        if self.weight_decay and compat.uses_weight_decay(self, variable):
            self.assign_sub(variable, variable * (rate * self.weight_decay))
        epsilon, step = self.epsilon, ops.cast(self.iterations + 1, variable.dtype)
        # With which Keras' formula becomes PyTorch's.
        self.epsilon = epsilon * ops.sqrt(1 - ops.power(self.beta_2, step))
        try:
            super().update_step(gradient, variable, rate)
        finally:
            self.epsilon = epsilon

    def _apply_weight_decay(self, variables):
        """Nothing: `update_step` does it, which knows the rate of each variable."""


@keras.saving.register_keras_serializable(package="keras_t2t")
class SGD(_Parts, keras.optimizers.SGD):
    """`keras.optimizers.SGD` with the published transfer recipe's L2, which is coupled.

    Coupled: `l2 * variable` is added to the gradient, ahead of the momentum, for every trained
    variable. Keras' own `weight_decay` is decoupled, which is not the same.

    Args:
        learning_rate: Float or learning rate schedule. Defaults to 0.05, as published.
        momentum: Float. Defaults to 0.9, as published.
        l2: Float. Defaults to 5e-4, as published.
        part_rates, ema_warmup, ema_in_model: As for `AdamW`.
        **kwargs: Other arguments of `keras.optimizers.SGD`.

    Source: `transfer_learning.py` of the published implementation.
    """

    def __init__(
        self,
        learning_rate: float | LearningRateSchedule = 0.05,
        momentum: float = 0.9,
        l2: float = 5e-4,
        **kwargs,
    ):
        kwargs.setdefault("name", "sgd")
        super().__init__(learning_rate=learning_rate, momentum=momentum, **kwargs)
        self.l2 = l2

    def update_step(self, gradient, variable, learning_rate):
        gradient = ops.cast(gradient, variable.dtype) + self.l2 * variable
        super().update_step(gradient, variable, self.rate_of(variable, learning_rate))

    def get_config(self):
        return {**super().get_config(), "l2": self.l2}
