"""`keras_t2t.export`: writes, verifies and only then moves into place."""

import json
import os
from typing import Any

import keras

from keras_t2t.exporting.options import ExportOptions
from keras_t2t.exporting.verification import bundled_inputs, compare, size_of, table
from keras_t2t.files import replacing
from keras_t2t.inference.images import prepared
from keras_t2t.inference.metadata import Labels, Metadata, classes_of
from keras_t2t.inference.runners import graph_shapes, image_shapes
from keras_t2t.layers.head import model_class_names
from keras_t2t.preprocessing_layer import carried_preprocessing, model_preprocessing
from keras_t2t.progress import working


def export(
    model: keras.Model,
    path: str | os.PathLike,
    format: str | None = None,
    precision: str = "float32",
    batch_size: int | str | None = None,
    with_preprocessing: bool = False,
    with_softmax: bool = False,
    labels: Labels = None,
    integer_io: bool = False,
    images: Any = None,
    calibration: Any = None,
    verify: bool = True,
    threads: int | None = None,
    overwrite: bool = False,
    verbose: bool = True,
) -> dict[str, Any]:
    """Exports a model for servers (SavedModel), the edge (LiteRT) or any runtime (ONNX).

    The file computes the same in another form: see `keras_t2t.rewrite.export.fold`. It is loaded
    again and verified against the model before it appears at `path`; what was found is printed and
    written beside it, as `NAME.json`. `keras_t2t.Predictor` runs it.

        keras_t2t.export(model, "t2t_vit_7.tflite", precision="dynamic_int8")

    Args:
        model: A functional or sequential `keras.Model` from one image to one output, any `T2TViT`
            or one around it. Mixed precision is left behind: the file computes as `precision` says.
        path: Where to: a folder for a SavedModel, a file that ends in `.tflite` or `.onnx`.
        format: `"saved_model"`, `"litert"` or `"onnx"`; Keras' own names `"tf_saved_model"` and
            `"tflite"` will do. `None` means what the path's suffix says, a SavedModel without one.
        precision: `"float32"`; `"float16"`, half the size; `"dynamic_int8"`, a quarter of the size
            and the fastest without images to calibrate with, recommended for the edge; `"int8"`,
            LiteRT only: with ranges known from `calibration`. A SavedModel is float32.
        batch_size: Int, or `"dynamic"` for any. `None` means `"dynamic"` for a SavedModel, else 1,
            with which LiteRT computes the whole model in XNNPACK.
        with_preprocessing: Bool, whether uint8 pixels go in. LiteRT and ONNX take them at the
            model's size; a SavedModel takes images of any size, which it resizes and crops, or
            JPEG and PNG files (signature `encoded_images`).
        with_softmax: Bool, whether probabilities come out. By default logits do, also of a model
            that ends in a softmax.
        labels: Class names that travel in the file, as `keras_t2t.decode_predictions` takes them.
            `None` means those that the model carries, else ImageNet's for 1000 classes.
        integer_io: Bool, with `"int8"`, whether what goes in and comes out is int8 too.
        images: What to verify with: as `Predictor.predict` takes images. `None` means 16 images
            that come with the package.
        calibration: With `"int8"`, some 16 to 100 images like those that the model is to see,
            again as `Predictor.predict` takes them.
        verify: Bool, whether the file is verified against the model.
        threads: Int, threads to verify and time with. `None` means one for each CPU core.
        overwrite: Bool, whether what is at `path`, and beside it as `NAME.json`, may be replaced: a
            file, or by a SavedModel a SavedModel, but no other folder.
        verbose: Bool, whether the table of what was found is printed.

    Returns:
        Dict of what was found: see `keras_t2t.exporting.verification.compare`.

    Raises:
        ValueError: If an argument is out of range or they do not fit together; or if the file
            differs from the model by more than its precision explains: it is not written then.
        FileExistsError: If there is something at `path` or `NAME.json` and `overwrite` is `False`.
        IsADirectoryError: If it is a folder that is not replaced.
        FileNotFoundError: If the folder that `path` is to lie in does not exist.
        RuntimeError: If Keras runs on another backend than TensorFlow.
        ImportError: If the format's tools are not installed: `pip install "keras_t2t[export]"`.
    """
    chosen = {name: value for name, value in locals().items() if name != "model"}
    return write(model, ExportOptions(**chosen))


def write(model: keras.Model, options: ExportOptions) -> dict[str, Any]:
    """`export` with its arguments checked."""
    path, form = options.path, options.format
    if keras.backend.backend() != "tensorflow":
        raise RuntimeError(
            "keras_t2t.export needs the TensorFlow backend, and Keras runs on "
            f"{keras.backend.backend()}. Save the model, model.save('model.keras'), and run "
            f"`keras-t2t export model.keras {path}`, which chooses TensorFlow."
        )
    # Here, because they bring TensorFlow.
    from keras_t2t.exporting import litert, onnx, saved_model
    from keras_t2t.exporting.serving import serving_model
    from keras_t2t.rewrite.export import fold, for_inference
    from keras_t2t.rewrite.graph import is_quantized

    (_, *shape), _ = image_shapes(f"model {model.name!r}", *graph_shapes(model))
    preprocessing_of = model_preprocessing if options.with_preprocessing else carried_preprocessing
    preprocessing = preprocessing_of(model)  # the first of which raises where there is none
    if form == "litert" and is_quantized(model):
        raise ValueError(
            f"model {model.name!r}: expected one that is not quantised, which LiteRT cannot "
            "compute. Export what it was before, with precision='dynamic_int8'"
        )
    reference, output = for_inference(model)
    if options.with_softmax and output != "logits":
        raise ValueError(
            f"with_softmax: expected a model that gives logits or their softmax, but the last "
            f"activation of {model.name!r} is neither"
        )
    labels = model_class_names(model) if options.labels is None else options.labels
    metadata = Metadata(
        name=model.name,
        output="probabilities" if options.with_softmax else output,
        pixels=options.with_preprocessing and form != "saved_model",
        preprocessing=preprocessing,
        classes=classes_of(labels, model.output_shape[-1], model.name),
        precision=options.precision,
    )
    images, source = options.images, "yours"
    if images is None:
        images, source = bundled_inputs(shape, preprocessing), "bundled Fashion-MNIST"
    images = prepared(images, preprocessing, shape)
    writer = {"saved_model": saved_model, "litert": litert, "onnx": onnx}[str(form)]

    found = {name: getattr(options, name) for name in ("format", "precision", "batch_size")}
    with replacing(path, options.overwrite) as temporary:
        with working(f"Writing {path}"):
            network = serving_model(fold(reference), metadata)
            found |= writer.write(temporary, network, metadata, options)
        found["bytes"] = size_of(temporary)
        if options.verify:
            found["images"] = f"{len(images)} ({source})"
            # Where layers round, the smallest difference may become a step.
            bound = "dynamic_int8" if is_quantized(model) else options.precision
            with working(f"Verifying {path}"):
                found |= compare(temporary, reference, images, bound, options.threads)
        if options.verbose:
            print(f"{path}\n{table(found)}")
        if not found.get("passed", True):
            raise ValueError(
                f"{path}: not written, because it does not compute what the model does. Expected a "
                f"{found['bound']}, got a largest difference of {found['largest_difference']:.2e} "
                f"and a correlation of {found['correlation']:.6f}"
            )
    with replacing(options.report, options.overwrite) as temporary:
        temporary.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    return found
