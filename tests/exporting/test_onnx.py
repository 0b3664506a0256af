"""ONNX files, run by ONNX Runtime."""

import os
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest

import keras_t2t
from tests.exporting.trained import SHAPE, inputs, photos, trained_model, with_weights

pytestmark = pytest.mark.tensorflow
onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")


# Layers that are not rearranged have TensorFlow's Erfc, which ONNX lacks.
@pytest.mark.parametrize("flavor", ["plain", "ghost"])
def test_equals_the_model(flavor, tmp_path):
    model, path = trained_model(flavor=flavor), tmp_path / "model.onnx"
    found = keras_t2t.export(model, path, batch_size="dynamic", with_softmax=True, verbose=False)
    assert found["passed"] and found["opset"] == 18
    proto = onnx.load(path)
    assert [entry.version for entry in proto.opset_import if entry.domain == ""] == [18]
    assert [value.name for value in proto.graph.input] == ["images"]
    assert [value.name for value in proto.graph.output] == ["probabilities"]
    expected = np.asarray(model(inputs(3), training=False))
    np.testing.assert_allclose(keras_t2t.Predictor(path).predict(inputs(3)), expected, atol=1e-5)


MODELS = {
    "performer": {},
    "transformer": {"token_mixer": "transformer"},
    "convolution": {"token_mixer": "convolution"},
    "patch": {"token_mixer": "patch"},
    "features": {"include_top": False},
    "squeeze_excite": {"flavor": "squeeze_excite"},
    "ghost": {"flavor": "ghost"},
}


@pytest.mark.parametrize("name", [*MODELS, "fused"])
def test_keras_own_export(name, tmp_path):
    import onnxruntime

    model, path = trained_model(depth=1, **MODELS.get(name, {})), tmp_path / "model.onnx"
    model = keras_t2t.fuse(model) if name == "fused" else model
    expected = np.asarray(model(inputs(3), training=False))
    model.export(path, format="onnx", verbose=False)
    session = onnxruntime.InferenceSession(path)
    (found,) = session.run(None, {session.get_inputs()[0].name: inputs(3)})
    np.testing.assert_allclose(found, expected, atol=1e-5)


IN_THIS_ORDER = """
import sys
for name in sys.argv[1:]:
    __import__(name)
import keras, numpy
model = keras.saving.load_model("model.keras")
model(numpy.zeros((1, *model.input_shape[1:])))  # as Keras asks for before
model.export("model.onnx", format="onnx", verbose=False)
import onnxruntime
onnxruntime.InferenceSession("model.onnx")
"""


@pytest.mark.parametrize("order", ["keras_t2t", "keras tf2onnx keras_t2t"])
def test_keras_own_export_whatever_is_imported_first(order, tmp_path):
    trained_model(depth=1).save(tmp_path / "model.keras")
    root = Path(__file__).parents[2]
    result = subprocess.run(
        [sys.executable, "-c", IN_THIS_ORDER, *order.split()],
        env={**os.environ, "PYTHONPATH": str(root)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stderr
    assert "not supported" not in result.stderr


@pytest.mark.parametrize("precision", ["float16", "dynamic_int8"])
def test_smaller_precisions(precision, tmp_path):
    model, path = trained_model(depth=1, embed_dim=96), tmp_path / "model.onnx"
    found = keras_t2t.export(model, path, precision=precision, images=inputs(8), verbose=False)
    assert found["correlation"] > 0.999
    # In float32 the weights alone would take four bytes each.
    assert found["bytes"] < 0.8 * 4 * model.count_params()


def convolutional_model():
    x = keras.Input(SHAPE)
    y = keras.layers.Conv2D(8, 3, activation="relu")(x)
    y = keras.layers.DepthwiseConv2D(3)(y)
    return with_weights(keras.Model(x, keras.layers.Dense(5)(keras.layers.Flatten()(y))))


@pytest.mark.parametrize("make", [trained_model, convolutional_model])
def test_int8_products_saturate_on_no_processor(make, tmp_path):
    """Read off the file, because most processors of today would not show it.

    x86 without VNNI multiplies unsigned inputs, up to 255, with signed weights and adds two
    products in 16 bits, with saturation.
    """
    model, path = make(), tmp_path / "model.onnx"
    keras_t2t.export(model, path, precision="dynamic_int8", verify=False, verbose=False)
    graph = onnx.load(path).graph
    arrays = {array.name: onnx.numpy_helper.to_array(array) for array in graph.initializer}
    kinds = ("MatMulInteger", "ConvInteger")
    weights = [arrays.get(node.input[1]) for node in graph.node if node.op_type in kinds]
    linear = [layer for layer in model.layers if isinstance(layer, keras.layers.Dense)]
    assert len(weights) > len(linear) > 0
    for weight in weights:
        assert weight is not None, "products of two inputs"
        if weight.dtype == np.int8:
            assert 2 * 255 * np.abs(weight.astype(int)).max() < 2**15
        else:
            assert weight.dtype == np.uint8


def test_pixels_in(tmp_path):
    import onnxruntime

    model, path = trained_model(classifier_activation=None), tmp_path / "model.onnx"
    assert keras_t2t.export(model, path, with_preprocessing=True, verbose=False)["passed"]
    session = onnxruntime.InferenceSession(path)
    (image,) = photos(1, size=(32, 40))
    (found,) = session.run(["logits"], {"images": image[None]})
    prepared = (image / 255 - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]
    expected = np.asarray(model(prepared[None].astype("float32"), training=False))
    np.testing.assert_allclose(found, expected, atol=2e-5)
