"""LiteRT files of a published variant and of small models."""

import zipfile

import flatbuffers
import numpy as np
import pytest

import keras_t2t
from keras_t2t.exporting.litert import operations, xnnpack_partitions
from tests import parity
from tests.exporting.trained import inputs, photos, trained_model
from tests.fixtures.reference_weights import reference_images

pytestmark = pytest.mark.tensorflow
pytest.importorskip("ai_edge_litert")

# What the files may weigh, in MB.
SIZES = {"float32": 17.6, "float16": 8.8, "dynamic_int8": 4.9, "int8": 5.1}


@pytest.fixture(scope="module")
def variant(tmp_path_factory):
    """{precision: path} of t2t_vit_7 with the weights of the published numbers."""
    model = keras_t2t.create("t2t_vit_7", classifier_activation=None)
    keras_t2t.load_checkpoint(model, parity.reference_state_dict("t2t_vit_7"))
    folder = tmp_path_factory.mktemp("variant")
    paths = {precision: folder / f"{precision}.tflite" for precision in SIZES}
    calibration = np.concatenate([reference_images(2, 224, seed=seed) for seed in range(1, 9)])
    for precision, path in paths.items():
        keras_t2t.export(
            model,
            path,
            precision=precision,
            calibration=calibration if precision == "int8" else None,
            verify=False,
            verbose=False,
        )
    return paths


def test_float32_gives_the_published_logits(variant):
    logits = keras_t2t.Predictor(variant["float32"]).scores(parity.images())
    np.testing.assert_allclose(logits, parity.expected("t2t_vit_7/logits"), atol=2e-5)


@pytest.mark.parametrize(
    ("precision", "least"), [("float16", 0.99999), ("dynamic_int8", 0.9995), ("int8", 0.998)]
)
def test_correlation_with_the_published_logits(variant, precision, least):
    logits = keras_t2t.Predictor(variant[precision]).scores(parity.images())
    expected = parity.expected("t2t_vit_7/logits")
    assert np.corrcoef(logits.ravel(), expected.ravel())[0, 1] > least


@pytest.mark.parametrize("precision", SIZES)
def test_size(variant, precision):
    assert variant[precision].stat().st_size < SIZES[precision] * 1e6


@pytest.mark.parametrize("precision", SIZES)
def test_xnnpack_computes_all_of_it_in_one_piece(variant, precision):
    assert xnnpack_partitions(variant[precision]) == 1


def test_operations_are_built_in(variant):
    kinds = {kind for kind, _ in operations(variant["float32"].read_bytes())}
    assert {"FULLY_CONNECTED", "GELU", "SOFTMAX"} <= kinds
    assert not kinds & {"CUSTOM", "GATHER", "SHAPE", "TILE", "PACK"}


def test_int8_keeps_what_has_no_range_out_of_fixed_ranges(variant):
    kinds = [kind for kind, _ in operations(variant["int8"].read_bytes())]
    # Each linear layer of fixed ranges stands between QUANTIZE and DEQUANTIZE: all but the head,
    # and, of each of the two Performers, two of random features and the projection of means.
    linear = kinds.count("FULLY_CONNECTED")
    assert kinds.count("DEQUANTIZE") == linear - 7


@pytest.fixture(scope="module")
def model():
    return trained_model()


def export(model, path, **arguments):
    return keras_t2t.export(model, path, verbose=False, **arguments)


def test_dynamic_batch(model, tmp_path):
    found = export(model, tmp_path / "model.tflite", batch_size="dynamic")
    assert found["passed"] and found["batch_size"] == "dynamic"
    predictor = keras_t2t.Predictor(tmp_path / "model.tflite", batch_size=3)
    assert predictor.input_shape[0] is None
    expected = np.asarray(model(inputs(5), training=False))
    np.testing.assert_allclose(predictor.predict(inputs(5)), expected, atol=1e-5)


def test_many_heads_in_one_piece(tmp_path):
    model = trained_model(num_heads=8)
    assert export(model, tmp_path / "model.tflite")["xnnpack_partitions"] == 1


def test_pixels_in_and_probabilities_out(model, tmp_path):
    from ai_edge_litert.interpreter import Interpreter

    path = tmp_path / "model.tflite"
    assert export(model, path, with_preprocessing=True, with_softmax=True)["passed"]
    run = Interpreter(model_path=str(path)).get_signature_runner()
    assert run.get_input_details()["images"]["dtype"] == np.uint8
    (image,) = photos(1, size=(32, 40))
    # By hand.
    prepared = (image / 255 - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]
    expected = np.asarray(model(prepared[None].astype("float32"), training=False))
    np.testing.assert_allclose(run(images=image[None])["probabilities"], expected, atol=1e-5)


def test_integers_in_and_out(model, tmp_path):
    from ai_edge_litert.interpreter import Interpreter

    path = tmp_path / "model.tflite"
    calibration = inputs(32, seed=1)
    export(model, path, precision="int8", calibration=calibration, integer_io=True, verify=False)
    interpreter = Interpreter(model_path=str(path))
    assert interpreter.get_input_details()[0]["dtype"] == np.int8
    assert interpreter.get_output_details()[0]["dtype"] == np.int8
    expected = np.log(np.asarray(model(inputs(64), training=False)))
    found = np.log(keras_t2t.Predictor(path).predict(inputs(64)))
    # 0.94 was seen, 0.98 with float images: a small model feels the rounding of its images.
    assert np.corrcoef(found.ravel(), expected.ravel())[0, 1] > 0.9


@pytest.mark.parametrize("with_softmax", [False, True])
def test_integers_that_come_out_are_not_clipped(model, tmp_path, with_softmax):
    found = export(
        model,
        tmp_path / "model.tflite",
        precision="int8",
        calibration=photos(64, seed=5),
        images=photos(32, seed=9),
        integer_io=True,
        with_preprocessing=True,
        with_softmax=with_softmax,
    )
    assert found["correlation"] > 0.98  # logits 0.97 at the calibrated range


def test_labels_and_normalisation_are_packed_in(model, tmp_path):
    path, names = tmp_path / "model.tflite", ["ant", "bee", "cat", "dog", "eel", "fox"]
    export(model, path, labels=names, verify=False)
    with zipfile.ZipFile(path) as packed:
        assert packed.read("labels.txt").decode().splitlines() == names

    from ai_edge_litert import schema_py_generated as schema

    packed = schema.Model.GetRootAs(path.read_bytes())
    entries = [packed.Metadata(i) for i in range(packed.MetadataLength())]
    (buffer,) = (e.Buffer() for e in entries if e.Name() == b"TFLITE_METADATA")
    described = packed.Buffers(buffer).DataAsNumpy().tobytes()
    assert described[4:8] == b"M001"
    root = field_reader(described)
    graph = root(3, "tables")[0]
    (image,), (scores,) = graph(2, "tables"), graph(3, "tables")
    assert image(0, "text") == "images" and scores(0, "text") == "logits"
    (unit,) = image(4, "tables")
    normalization = unit(1, "table")
    np.testing.assert_allclose(normalization(0, "floats"), [123.675, 116.28, 103.53], rtol=1e-6)
    np.testing.assert_allclose(normalization(1, "floats"), [58.395, 57.12, 57.375], rtol=1e-6)
    (labels,) = scores(6, "tables")
    assert labels(0, "text") == "labels.txt"


def field_reader(data, position=None):
    """A function that reads fields of a table of a flatbuffer by their number."""
    if position is None:
        position = flatbuffers.encode.Get(flatbuffers.packer.uoffset, data, 0)
    table = flatbuffers.table.Table(bytearray(data), position)

    def read(number, kind):
        at = table.Offset(4 + 2 * number) + table.Pos
        if kind == "text":
            return table.String(at).decode()
        if kind == "table":
            return field_reader(data, table.Indirect(at))
        start, count = table.Vector(at - table.Pos), table.VectorLen(at - table.Pos)
        if kind == "floats":
            return np.frombuffer(data, "<f4", count, start)
        return [field_reader(data, table.Indirect(start + 4 * i)) for i in range(count)]

    return read
