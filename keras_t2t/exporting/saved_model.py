"""SavedModels, which TensorFlow alone can serve."""

import tempfile
from pathlib import Path
from typing import Any

import tensorflow as tf

from keras_t2t.exporting.serving import decode, images_spec, prepare_pixels


def write(path, network, metadata, options):
    """Writes a SavedModel.

    Its signature `serving_default` takes `images` as the model does. With preprocessing it takes
    uint8 images of any size; then `encoded_images` takes JPEG or PNG files as strings, and
    `prepared_images` what the model takes. What it says of itself lies in `assets/`.

    Args:
        path: Path of the folder, which must not exist.
        network: A model as `serving_model` makes.
        metadata: Its `Metadata`.
        options: The `ExportOptions`.

    Returns:
        Dict of what is to be reported: nothing.
    """
    batch, channels = options.batch, network.input_shape[-1]
    signatures = {"serving_default": signature(network, images_spec(network, batch))}
    if options.with_preprocessing:

        def prepare(images):
            return prepare_pixels(images, metadata.preprocessing)

        def prepare_file(file):
            return prepare(decode(file, channels)[None])[0]

        def prepare_files(files):
            return tf.map_fn(prepare_file, files, fn_output_signature=tf.float32)

        whole = tf.TensorSpec((batch, None, None, channels), "uint8", name="images")
        files = tf.TensorSpec((batch,), "string", name="images")
        signatures |= {
            "prepared_images": signatures["serving_default"],
            "serving_default": signature(network, whole, prepare),
            "encoded_images": signature(network, files, prepare_files),
        }
    save(path, network, signatures, metadata.files())
    return {}


def signature(network, spec, prepare=lambda images: images):
    """A TensorFlow function from what `spec` describes to the model's output by name."""
    return tf.function(
        lambda images: network(prepare(images), training=False), input_signature=[spec]
    )


def save(path, network, signatures, texts):
    """Saves a model's signatures, and texts by the names of their files in `assets/`."""
    module: Any = tf.Module()
    # TensorFlow's own variables: a reader needs no Keras.
    module.weights = [variable.value for variable in network.variables]
    module.assets = []
    with tempfile.TemporaryDirectory() as folder:
        for name, text in texts.items():
            file = Path(folder, name)
            file.write_text(text, encoding="utf-8")
            module.assets.append(tf.saved_model.Asset(str(file)))
        tf.saved_model.save(module, str(path), signatures=signatures)
