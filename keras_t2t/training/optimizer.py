"""AdamW as the published recipe sets it up."""

import keras


def decays(variable):
    """Whether weight decay applies: not to one-dimensional variables (biases, norms), nor to the
    class token.

    Source: `add_weight_decay` of timm, which `main.py` uses, and `no_weight_decay` in
    `models/t2t_vit.py`.
    """
    return len(variable.shape) > 1 and variable.path.rsplit("/", 1)[-1] != "class_token"


@keras.saving.register_keras_serializable(package="keras_t2t")
class AdamW(keras.optimizers.AdamW):
    """`keras.optimizers.AdamW` with PyTorch's epsilon and the published exclusions from decay.

    One-dimensional variables (biases, norms) and the class token do not decay. The rule belongs to
    the optimizer and so survives saving and loading; what `exclude_from_weight_decay` is told does
    not.

    Args:
        learning_rate: Float or learning rate schedule. Defaults to 5e-4, published for a global
            batch of 512.
        weight_decay: Float, decoupled weight decay. Defaults to 0.05, published for T2T-ViT-14.
        epsilon: Float. Defaults to 1e-8, PyTorch's; Keras' is 1e-7.
        **kwargs: Other arguments of `keras.optimizers.AdamW`.

    Source: README of the published implementation; `main.py`.
    """

    def __init__(self, learning_rate=5e-4, weight_decay=0.05, epsilon=1e-8, **kwargs):
        kwargs.setdefault("name", "adamw")
        super().__init__(
            learning_rate=learning_rate, weight_decay=weight_decay, epsilon=epsilon, **kwargs
        )

    def build(self, variables):
        if not self.built:
            self.exclude_from_weight_decay([v for v in variables if not decays(v)])
        super().build(variables)
