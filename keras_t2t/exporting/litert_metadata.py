"""Metadata in a LiteRT model, as LiteRT's task libraries and MediaPipe read it.

A LiteRT model is a flatbuffer that may hold another one, which says how input and output are meant;
the files that it names are a zip archive behind the model. The numbers of the fields are those of
`metadata_schema.fbs` of TensorFlow Lite Support, for which no writer is kept.
"""

import io
import zipfile
from typing import Any

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema

from keras_t2t.inference.metadata import LABELS_NAME, NAME
from keras_t2t.seal import DIGITS, SEAL, sealed

# Of the schema's enumerations.
IMAGE_PROPERTIES, NORMALIZATION = np.uint8(2), np.uint8(1)
RGB, GRAYSCALE = np.uint8(1), np.uint8(2)
AXIS_LABELS = np.uint8(2)


def with_metadata(content, metadata):
    """The bytes of a LiteRT model with metadata and labels packed in, and a seal at the end.

    Args:
        content: Bytes of a model.
        metadata: A `Metadata`.
    """
    model: Any = schema.ModelT.InitFromPackedBuf(content)
    for buffer in model.buffers:
        if buffer.offset:  # the quantizer puts what is large behind the flatbuffer
            buffer.data = np.frombuffer(content, np.uint8, buffer.size, buffer.offset)
            buffer.offset = buffer.size = 0
    described: Any = schema.BufferT()
    described.data = np.frombuffer(_flatbuffer(_described(metadata), b"M001"), np.uint8)
    entry = schema.MetadataT()
    entry.name, entry.buffer = "TFLITE_METADATA", len(model.buffers)
    model.buffers.append(described)
    model.metadata = [*(model.metadata or ()), entry]
    builder = flatbuffers.Builder(len(content) + 2**16)
    builder.Finish(model.Pack(builder), b"TFL3")

    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as files:
        for name, text in metadata.files().items():
            files.writestr(name, text)
        files.comment = SEAL + bytes(DIGITS)
    return sealed(bytes(builder.Output()) + packed.getvalue()[:-DIGITS])


def _described(metadata):
    """What is said of input and output, as `_flatbuffer` takes it."""
    source: dict[int, Any] = {0: "images"}
    target: dict[int, Any] = {0: metadata.output}
    preprocessing = metadata.preprocessing
    if preprocessing is not None:
        size = {0: np.uint32(preprocessing.width), 1: np.uint32(preprocessing.height)}
        color = GRAYSCALE if len(preprocessing.mean) == 1 else RGB
        # From pixels in 0..255 to what goes in. MediaPipe takes one number for all channels only.
        mean, std = 255.0 * np.array(preprocessing.mean), 255.0 * np.array(preprocessing.std)
        if metadata.pixels:
            mean, std = np.zeros(1), np.ones(1)
        source[3] = {0: IMAGE_PROPERTIES, 1: {0: color, 1: size}}
        source[4] = [{0: NORMALIZATION, 1: {0: mean, 1: std}}]
    if metadata.classes:
        target[6] = [{0: LABELS_NAME, 2: AXIS_LABELS}]
    return {0: metadata.name, 3: [{2: [source], 3: [target]}], 6: [{0: NAME}]}


def _flatbuffer(root, identifier):
    """A flatbuffer of a table.

    A table is a dict of its fields by their numbers; a field is a str, a NumPy integer, an array of
    floats, a table or a list of tables.
    """
    builder = flatbuffers.Builder(1024)

    def added(value):
        if isinstance(value, str):
            return builder.CreateString(value)
        if isinstance(value, np.ndarray):
            return builder.CreateNumpyVector(value.astype("float32"))
        if isinstance(value, list):
            places = [added(item) for item in value]
            builder.StartVector(4, len(places), 4)
            for place in reversed(places):
                builder.PrependUOffsetTRelative(place)
            return builder.EndVector()
        # What fields point to lies before the table, and numbers in it.
        places = {
            number: field if isinstance(field, np.integer) else added(field)
            for number, field in value.items()
        }
        builder.StartObject(1 + max(places))
        prepend = {
            np.uint8: builder.PrependUint8Slot,
            np.uint32: builder.PrependUint32Slot,
            int: builder.PrependUOffsetTRelativeSlot,
        }
        for number, place in places.items():
            prepend[type(place)](number, place, 0)
        return builder.EndObject()

    builder.Finish(added(root), identifier)
    return bytes(builder.Output())
