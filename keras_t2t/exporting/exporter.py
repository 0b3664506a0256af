"""`keras_t2t.export`: writes, verifies and only then moves into place."""

import json
from pathlib import Path

import keras

from keras_t2t.class_names import class_names
from keras_t2t.exporting.verification import bundled_inputs, compare, size_of, table
from keras_t2t.files import refuse_existing, replacing
from keras_t2t.inference.metadata import Metadata, classes_of
from keras_t2t.inference.predictor import batches, check_images, prepared
from keras_t2t.preprocessing_layer import carried_preprocessing
from keras_t2t.validation import one_of, positive_int

SUFFIXES = {"saved_model": "", "litert": ".tflite", "onnx": ".onnx"}
KERAS_NAMES = {"tf_saved_model": "saved_model", "tflite": "litert"}
PRECISIONS = {
    "saved_model": ("float32",),
    "litert": ("float32", "float16", "dynamic_int8", "int8"),
    "onnx": ("float32", "float16", "dynamic_int8"),
}
BATCH_SIZES = {"saved_model": "dynamic", "litert": 1, "onnx": 1}


def export(
    model,
    path,
    format=None,
    precision="float32",
    batch_size=None,
    with_preprocessing=False,
    with_softmax=False,
    labels=None,
    integer_io=False,
    images=None,
    calibration=None,
    verify=True,
    threads=None,
    overwrite=False,
    verbose=True,
):
    """Exports a model for servers (SavedModel), the edge (LiteRT) or any runtime (ONNX).

    The file computes the same in another form: see `keras_t2t.rewrite.export.fold`.
    It is loaded again and held against the model before it takes its name, and what was found is
    printed and written beside it, as `NAME.json`. `keras_t2t.Predictor` runs it.

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
            `None` means ImageNet's for 1000 classes.
        integer_io: Bool, with `"int8"`, whether what goes in and comes out is int8 too.
        images: What to verify with: as `Predictor.predict` takes images. `None` means 16 images
            that come with the package.
        calibration: With `"int8"`, some 16 to 100 images like those that the model is to see,
            again as `Predictor.predict` takes them.
        verify: Bool, whether the file is held against the model.
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
        ImportError: If the format's tools are not installed: `pip install keras_t2t[export]`.
    """
    path, format, batch = check_arguments(
        path,
        format=format,
        precision=precision,
        batch_size=batch_size,
        labels=labels,
        integer_io=integer_io,
        images=images,
        calibration=calibration,
        threads=threads,
        overwrite=overwrite,
    )
    if keras.backend.backend() != "tensorflow":
        raise RuntimeError(
            "keras_t2t.export needs the TensorFlow backend, and Keras runs on "
            f"{keras.backend.backend()}. Save the model, model.save('model.keras'), and run "
            f"`keras-t2t export model.keras {path}`, which starts TensorFlow in a process of its "
            "own."
        )
    # Here, because they bring TensorFlow.
    from keras_t2t.exporting.serving import serving_model
    from keras_t2t.rewrite.export import fold, for_inference
    from keras_t2t.rewrite.graph import is_quantized

    input_shape = _image_shape(model)
    preprocessing = carried_preprocessing(model)
    if with_preprocessing and preprocessing is None:
        raise ValueError(
            f"with_preprocessing: expected a model that says how images are prepared, but "
            f"{model.name!r} has no PreprocessedImages layer. T2TViT(..., preprocessing=...) puts "
            "one in."
        )
    if format == "litert" and is_quantized(model):
        raise ValueError(
            f"model {model.name!r}: expected one that is not quantised, which LiteRT cannot "
            "compute. Export what it was before, with precision='dynamic_int8'"
        )
    reference, output = for_inference(model)
    if with_softmax and output != "logits":
        raise ValueError(
            f"with_softmax: expected a model that gives logits or their softmax, but the last "
            f"activation of {model.name!r} is neither"
        )
    metadata = Metadata(
        name=model.name,
        output="probabilities" if with_softmax else output,
        pixels=with_preprocessing and format != "saved_model",
        preprocessing=preprocessing,
        classes=classes_of(labels, model.output_shape[-1], model.name),
        precision=precision,
    )
    inputs, source = images, "yours"
    if images is None:
        inputs, source = bundled_inputs(input_shape, preprocessing), "bundled Fashion-MNIST"
    inputs = prepared(inputs, preprocessing, input_shape)
    network = serving_model(fold(reference), metadata)

    found = {"format": format, "precision": precision, "batch_size": batch or "dynamic"}
    with replacing(path, overwrite) as temporary:
        if format == "saved_model":
            from keras_t2t.exporting.saved_model import write_saved_model

            write_saved_model(temporary, network, batch, metadata, with_preprocessing)
        elif format == "onnx":
            from keras_t2t.exporting.onnx import OPSET, write_onnx

            found["opset"] = OPSET
            write_onnx(temporary, network, batch, metadata)
        else:
            from keras_t2t.exporting.litert import write_litert, xnnpack_partitions

            if precision == "int8":
                calibration = prepared(calibration, preprocessing, input_shape)
                calibration = batches(calibration, metadata, batch or 1)
            write_litert(temporary, network, batch, metadata, calibration, integer_io)
            found["xnnpack_partitions"] = xnnpack_partitions(temporary)
        found["bytes"] = size_of(temporary)
        if verify:
            found["images"] = f"{len(inputs)} ({source})"
            # Where layers round, the smallest difference may become a step.
            bound = "dynamic_int8" if is_quantized(model) else precision
            found |= compare(temporary, reference, inputs, bound, threads)
        if verbose:
            print(f"{path}\n{table(found)}")
        if verify and not found["passed"]:
            raise ValueError(
                f"{path}: not written, because it does not compute what the model does. Expected a "
                f"{found['bound']}, got a largest difference of {found['largest_difference']:.2e} "
                f"and a correlation of {found['correlation']:.6f}"
            )
    with replacing(_report(path), overwrite) as temporary:
        temporary.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    return found


def check_arguments(
    path,
    format=None,
    precision="float32",
    batch_size=None,
    labels=None,
    integer_io=False,
    images=None,
    calibration=None,
    threads=None,
    overwrite=False,
):
    """What `export` can say of its arguments without the model.

    Returns:
        (path, format, batch): the `Path`, the format's name, and the batch, `None` for any.

    Raises:
        ValueError, OSError: As `export`.
    """
    path = Path(path).expanduser()
    format = _format(format, path)
    batch = BATCH_SIZES[format] if batch_size is None else batch_size
    batch = None if batch == "dynamic" else positive_int(batch, "batch_size")
    if precision not in PRECISIONS[format]:
        raise ValueError(
            f"`precision` must be one of {', '.join(map(repr, PRECISIONS[format]))} for format "
            f"{format!r}. Received: precision={precision!r}"
        )
    if labels is not None:
        class_names(labels)
    if images is not None:
        _check_some(images, "images")
    if precision == "int8":
        _check_some(() if calibration is None else calibration, "calibration")
    elif calibration is not None:
        raise ValueError(f"calibration: expected None with precision={precision!r}")
    if integer_io and precision != "int8":
        raise ValueError(f"integer_io: expected False with precision={precision!r}")
    if threads is not None:
        positive_int(threads, "threads")
    for taken in (path, _report(path)):
        refuse_existing(taken, overwrite)
    if path.is_dir() and format != "saved_model":
        raise IsADirectoryError(f"{path} is a folder, which is not replaced by a file")
    if not path.parent.is_dir():
        raise FileNotFoundError(f"There is no folder {path.parent}")
    return path, format, batch


def _check_some(images, name):
    check_images(images, name)
    if not len(images):
        needed = "some 16 to 100 images, which int8 needs" if name == "calibration" else "some"
        raise ValueError(f"{name}: expected {needed}, got none")


def _report(path):
    """The file beside an export that says what was found."""
    return path.with_name(path.name + ".json")


def _format(format, path):
    """The name of the format that is meant."""
    suffix = path.suffix.lower()
    if format is None:
        names = {suffix: name for name, suffix in SUFFIXES.items()}
        if suffix not in names:
            raise ValueError(
                "path: expected .tflite or .onnx at the end, or no suffix for a SavedModel, got "
                f"{path}. Name the format to write a SavedModel there"
            )
        return names[suffix]
    format = KERAS_NAMES.get(format, format)
    one_of(format, "format", (*SUFFIXES, *KERAS_NAMES))
    if suffix != SUFFIXES[format] and (SUFFIXES[format] or suffix in SUFFIXES.values()):
        raise ValueError(
            f"path: expected {SUFFIXES[format] or 'no suffix'} at the end for format {format!r}, "
            f"got {path}"
        )
    return format


def _image_shape(model):
    """(height, width, channels) of a model from one image to one output."""
    shape = model.input_shape if hasattr(model, "inputs") and model.inputs else None
    if (
        shape is None
        or len(model.inputs) != 1
        or len(model.outputs) != 1
        or not isinstance(shape, tuple)
        or len(shape) != 4
        or None in shape[1:]
    ):
        raise ValueError(
            f"model {model.name!r}: expected one input (batch, height, width, channels) of known "
            f"size and one output, got {shape}"
        )
    return shape[1:]
