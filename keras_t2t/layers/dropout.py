"""Dropout whose random numbers are quick where TensorFlow compiles."""

import keras
from keras import ops


class Dropout(keras.layers.Dropout):
    """`keras.layers.Dropout` that draws by Threefry in TensorFlow's `jit_compile=True`.

    XLA's default, Philox, takes four times as long on CPUs: a fifth of the training step of the
    Performer's stem. TensorFlow's own kernels have no Threefry.
    """

    def call(self, inputs, training=False):
        if not (training and self.rate and _compiled_by_tensorflow()):
            return super().call(inputs, training=training)
        import tensorflow as tf

        sizes = zip(self.noise_shape or inputs.shape, ops.shape(inputs), strict=True)
        return tf.nn.experimental.stateless_dropout(
            inputs,
            self.rate,
            seed=tf.cast(self.seed_generator.next(), "int32"),
            noise_shape=[own or whole for own, whole in sizes],
            rng_alg="threefry",
        )


def _compiled_by_tensorflow():
    """Whether what is traced now is for XLA."""
    if keras.backend.backend() != "tensorflow":
        return False
    import tensorflow as tf
    from tensorflow.python.ops.control_flow_util import GraphOrParentsInXlaContext

    return GraphOrParentsInXlaContext(tf.compat.v1.get_default_graph())
