"""What the layers made of other layers share: published defaults, seeds, and their config."""

import inspect

import keras
import numpy as np
from keras import ops

from keras_t2t.compat import sublayers


def on_tokens(layer, x):
    """`layer(x)` of a linear layer, with all tokens of the batch in one row of vectors.

    The gradient by a kernel is then one matrix product. Over more axes XLA fuses it with what comes
    before it, which it computes anew in every block.
    """
    y = layer(ops.reshape(x, (-1, x.shape[-1])))
    return ops.reshape(y, (-1, *ops.shape(x)[1:-1], y.shape[-1]))


def split_seed(seed, count):
    """`count` seeds made from one; all `None` (Keras' global seed) where `seed` is `None`.

    Parts of equal shape would otherwise start with equal weights and drop the same units.
    """
    if seed is None:
        return [None] * count
    # 31 bits: the torch backend keeps seeds in int32.
    return [int(word) >> 1 for word in np.random.SeedSequence(seed).generate_state(count)]


class CompositeLayer(keras.layers.Layer):
    """A layer made of layers, which it creates when its input shape is known.

    Args:
        seed: Int or `None`, seed of initial weights and dropout.
    """

    input_spec = keras.layers.InputSpec(ndim=3)

    def __init__(self, seed: int | None = None, **kwargs):
        super().__init__(**kwargs)
        self.seed = seed

    @property
    def stable_dtype(self):
        """The dtype of exponentials and their sums: the compute dtype, but at least float32."""
        return keras.backend.result_type(self.compute_dtype, "float32")

    def linear(self, units, input_shape, name, use_bias=True, activation=None, seed=None):
        """A built Dense layer, initialised as published: Normal(0, 0.02) and zeros."""
        policy = self.dtype_policy
        if isinstance(policy, keras.dtype_policies.DTypePolicyMap):
            # Dense stores itself wrongly if its policy is that of several layers.
            policy = policy[f"{self.path}/{name}"]
        layer = keras.layers.Dense(
            units,
            activation=activation,
            use_bias=use_bias,
            # timm truncates at +-2, a hundred standard deviations: nothing is cut.
            kernel_initializer=keras.initializers.RandomNormal(stddev=0.02, seed=seed),
            dtype=policy,
            name=name,
        )
        layer.build(input_shape)
        return layer

    def layer_norm(self, input_shape, name):
        """A built LayerNormalization with PyTorch's epsilon, 1e-5; Keras' own is 1e-3."""
        layer = keras.layers.LayerNormalization(epsilon=1e-5, dtype=self.dtype_policy, name=name)
        layer.build(input_shape)
        return layer

    def dropout(self, rate, name, seed=None, noise_shape=None):
        """A Dropout layer."""
        return keras.layers.Dropout(
            rate, noise_shape=noise_shape, seed=seed, dtype=self.dtype_policy, name=name
        )

    def get_config(self):
        # Every argument of a layer is an attribute of its name.
        kinds = [kind for kind in type(self).__mro__ if issubclass(kind, CompositeLayer)]
        names = [name for kind in kinds for name in inspect.signature(kind.__init__).parameters]
        arguments = {name: getattr(self, name) for name in names if name not in ("self", "kwargs")}
        config = {**super().get_config(), **arguments}
        # Quantisation changes the policy of single parts; only this layer can say so on reloading.
        quantized = {
            part.path: part.dtype_policy
            for part in sublayers(self)
            if part.quantization_mode is not None
        }
        if quantized:
            policy, parts = self.dtype_policy, {}
            if isinstance(policy, keras.dtype_policies.DTypePolicyMap):
                policy, parts = policy.default_policy, dict(policy)
            config["dtype"] = keras.dtype_policies.DTypePolicyMap(policy, parts | quantized)
        return config
