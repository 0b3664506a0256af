"""SavedModels, which TensorFlow alone can serve."""

import tempfile
from pathlib import Path

import tensorflow as tf

from keras_t2t.exporting.serving import decode, prepare_pixels
from keras_t2t.inference.metadata import LABELS_NAME, NAME


def write_saved_model(path, model, batch_size, metadata, with_preprocessing=False):
    """Writes a SavedModel.

    Its signature `serving_default` takes `images` as the model does. With preprocessing it takes
    uint8 images of any size; then `encoded_images` takes JPEG or PNG files as strings, and
    `prepared_images` what the model takes. What it says of itself lies in `assets/`.

    Args:
        path: Path of the folder, which must not exist.
        model: A model as `serving_model` makes.
        batch_size: Int, or `None` for any.
        metadata: A `Metadata`.
        with_preprocessing: Bool, whether the preprocessing of the metadata stands in front.
    """
    preprocessing, output = metadata.preprocessing, metadata.output
    *size, channels = model.input_shape[1:]

    def signature(shape, dtype, prepare):
        return tf.function(
            lambda images: {output: model(prepare(images), training=False)[output]},
            input_signature=[tf.TensorSpec((batch_size, *shape), dtype, name="images")],
        )

    def prepare_file(encoded):
        return prepare_pixels(decode(encoded, channels)[None], preprocessing)[0]

    own = signature((*size, channels), model.inputs[0].dtype, lambda images: images)
    signatures = {"serving_default": own}
    if with_preprocessing:
        signatures = {
            "serving_default": signature(
                (None, None, channels),
                "uint8",
                lambda images: prepare_pixels(images, preprocessing),
            ),
            "encoded_images": signature(
                (),
                "string",
                lambda images: tf.map_fn(prepare_file, images, fn_output_signature=tf.float32),
            ),
            "prepared_images": own,
        }
    module = tf.Module()
    # TensorFlow's own variables: a reader needs no Keras.
    module.weights = [variable.value for variable in model.variables]
    with tempfile.TemporaryDirectory() as folder:
        texts = {NAME: metadata.to_json()}
        if metadata.classes:
            texts[LABELS_NAME] = metadata.labels()
        module.assets = []
        for name, text in texts.items():
            file = Path(folder, name)
            file.write_text(text, encoding="utf-8")
            module.assets.append(tf.saved_model.Asset(str(file)))
        tf.saved_model.save(module, str(path), signatures=signatures)
