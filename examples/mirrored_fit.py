"""MirroredStrategy in plain Keras: `mirrored_fit.py 2` trains on two logical CPU devices."""

import os
import sys

os.environ["KERAS_BACKEND"] = "tensorflow"

import tensorflow as tf

import keras_t2t

count = int(sys.argv[1]) if len(sys.argv) > 1 else 2
(cpu,) = tf.config.list_physical_devices("CPU")
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * count)

# Noise in four brightnesses, so that there is something to learn.
labels = tf.random.uniform((512,), maxval=4, dtype="int32")
images = tf.random.normal((512, 32, 32, 3)) + tf.cast(labels, "float32")[:, None, None, None]

with tf.distribute.MirroredStrategy([f"CPU:{index}" for index in range(count)]).scope():
    model = keras_t2t.fuse(keras_t2t.T2TViT7(input_shape=(32, 32, 3), classes=4))
    model.compile("adamw", "sparse_categorical_crossentropy", metrics=["accuracy"])
model.fit(images, labels, batch_size=64, epochs=3)
