"""Metadata in a LiteRT model, as LiteRT's task libraries and MediaPipe read it.

A LiteRT model is a flatbuffer that may hold another one, which says how input and output are meant;
the files that it names are a zip archive behind the model. The numbers of the fields are those of
`metadata_schema.fbs` of TensorFlow Lite Support, for which no writer is kept.
"""

import io
import zipfile

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema

from keras_t2t.inference.metadata import LABELS_NAME, NAME

# Of the schema's enumerations.
IMAGE_PROPERTIES, NORMALIZATION = 2, 1
RGB, GRAYSCALE = 1, 2
AXIS_LABELS = 2


def with_metadata(content, metadata):
    """The bytes of a LiteRT model with metadata and labels packed in.

    Args:
        content: Bytes of a model.
        metadata: A `Metadata`.
    """
    model = schema.ModelT.InitFromPackedBuf(content)
    for buffer in model.buffers:
        if buffer.offset:  # the quantizer puts what is large behind the flatbuffer
            buffer.data = np.frombuffer(content, np.uint8, buffer.size, buffer.offset)
            buffer.offset = buffer.size = 0
    described = schema.BufferT()
    described.data = np.frombuffer(_described(metadata), np.uint8)
    entry = schema.MetadataT()
    entry.name, entry.buffer = "TFLITE_METADATA", len(model.buffers)
    model.buffers.append(described)
    model.metadata = [*(model.metadata or ()), entry]
    builder = flatbuffers.Builder(len(content) + 2**16)
    builder.Finish(model.Pack(builder), b"TFL3")

    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as files:
        files.writestr(NAME, metadata.to_json())
        if metadata.classes:
            files.writestr(LABELS_NAME, metadata.labels())
    return bytes(builder.Output()) + packed.getvalue()


def _described(metadata):
    """The flatbuffer that describes input and output."""
    builder = flatbuffers.Builder(1024)

    def table(**fields):
        """A table of values, by `field_N`; of offsets, by `offset_N`."""
        size = 1 + max(int(name.rsplit("_", 1)[1]) for name in fields)
        builder.StartObject(size)
        for name, value in fields.items():
            kind, number = name.split("_")
            prepend = {
                "offset": builder.PrependUOffsetTRelativeSlot,
                "byte": builder.PrependUint8Slot,
                "uint": builder.PrependUint32Slot,
            }[kind]
            prepend(int(number), value, 0)
        return builder.EndObject()

    def vector(*offsets):
        builder.StartVector(4, len(offsets), 4)
        for offset in reversed(offsets):
            builder.PrependUOffsetTRelative(offset)
        return builder.EndVector()

    source = {"offset_0": builder.CreateString("images")}
    preprocessing = metadata.preprocessing
    if preprocessing is not None:
        size = table(uint_0=preprocessing.width, uint_1=preprocessing.height)
        color = GRAYSCALE if len(preprocessing.mean) == 1 else RGB
        image = table(byte_0=color, offset_1=size)
        source["offset_3"] = table(byte_0=IMAGE_PROPERTIES, offset_1=image)
        # From pixels in 0..255 to what goes in. MediaPipe takes one number for all channels only.
        mean, std = (255.0 * np.array(part) for part in (preprocessing.mean, preprocessing.std))
        if metadata.pixels:
            mean, std = np.zeros(1), np.ones(1)
        normalization = table(
            offset_0=builder.CreateNumpyVector(mean.astype("float32")),
            offset_1=builder.CreateNumpyVector(std.astype("float32")),
        )
        source["offset_4"] = vector(table(byte_0=NORMALIZATION, offset_1=normalization))
    target = {"offset_0": builder.CreateString(metadata.output)}
    if metadata.classes:
        labels = table(offset_0=builder.CreateString(LABELS_NAME), byte_2=AXIS_LABELS)
        target["offset_6"] = vector(labels)
    graph = table(offset_2=vector(table(**source)), offset_3=vector(table(**target)))
    name = builder.CreateString(metadata.name)
    packed = vector(table(offset_0=builder.CreateString(NAME)))
    builder.Finish(table(offset_0=name, offset_3=vector(graph), offset_6=packed), b"M001")
    return bytes(builder.Output())
