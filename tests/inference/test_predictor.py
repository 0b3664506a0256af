"""`keras_t2t.Predictor`: the same answers from every file."""

import keras
import numpy as np
import pytest
from PIL import Image

import keras_t2t
from keras_t2t.inference.evaluate import evaluate
from tests.exporting.trained import inputs, photos, trained_model

tensorflow = pytest.mark.tensorflow
NAMES = ["ant", "bee", "cat", "dog", "eel", "fox"]


@pytest.fixture(scope="module")
def model():
    return trained_model()


@pytest.fixture(scope="module")
def files(model, tmp_path_factory):
    """The model in every kind of file."""
    folder = tmp_path_factory.mktemp("files")
    model.save(folder / "model.keras")
    quietly = {"verify": False, "verbose": False, "labels": NAMES}
    keras_t2t.export(model, folder / "model.tflite", **quietly)
    keras_t2t.export(model, folder / "pixels.tflite", with_preprocessing=True, **quietly)
    keras_t2t.export(model, folder / "model.onnx", with_softmax=True, **quietly)
    keras_t2t.export(model, folder / "saved", with_preprocessing=True, **quietly)
    return folder


@tensorflow
@pytest.mark.parametrize(
    "name", ["model.keras", "model.tflite", "pixels.tflite", "model.onnx", "saved"]
)
def test_every_file_gives_the_same_probabilities(name, model, files, tmp_path):
    whole = photos(5)
    prepare = keras_t2t.model_preprocessing(model)
    expected = np.asarray(model(np.stack([prepare(photo) for photo in whole]), training=False))
    predictor = keras_t2t.Predictor(files / name, batch_size=2)
    assert [class_name for _, class_name in predictor.classes] == (
        list("012345") if name == "model.keras" else NAMES
    )
    assert predictor.preprocessing == prepare and predictor.input_shape[1:] == (32, 40, 3)
    Image.fromarray(whole[1]).save(tmp_path / "photo.png")
    mixed = [whole[0], tmp_path / "photo.png", Image.fromarray(whole[2]), *whole[3:]]
    probabilities = predictor.predict(mixed)
    assert probabilities.dtype == np.float32
    np.testing.assert_allclose(probabilities, expected, atol=1e-5)
    prepared = np.stack([prepare(photo) for photo in whole])
    np.testing.assert_allclose(predictor.predict(prepared), expected, atol=1e-5)
    assert predictor.predict([]).shape == (0, 6)


@pytest.fixture(scope="module", params=[1, 8, "dynamic"])
def batch_files(request, model, tmp_path_factory):
    """The model in files that take batches of one size."""
    folder = tmp_path_factory.mktemp("batches")
    for name in ("model.tflite", "model.onnx", "saved"):
        options = {"batch_size": request.param, "verify": False, "verbose": False}
        keras_t2t.export(model, folder / name, **options)
    return request.param, folder


@tensorflow
@pytest.mark.parametrize("name", ["model.tflite", "model.onnx", "saved"])
def test_any_number_of_images_whatever_batch_a_file_takes(name, batch_files, model):
    batch, folder = batch_files
    predictor = keras_t2t.Predictor(folder / name, batch_size=5)
    assert predictor.input_shape[0] == (None if batch == "dynamic" else batch)
    images = inputs(20)
    expected = np.asarray(model(images, training=False))
    for count in (20, 1, 7, 8, 9, 0):
        found = predictor.predict(images[:count])
        np.testing.assert_allclose(found, expected[:count], atol=1e-5)


@tensorflow
def test_a_keras_model_of_a_fixed_batch():
    x = keras.Input((4, 4, 1), batch_size=3)
    model = keras.Model(x, keras.layers.Dense(3, "softmax")(keras.layers.Flatten()(x)))
    images, (kernel, bias) = inputs(20, (4, 4, 1)), model.get_weights()
    expected = np.exp(images.reshape(20, 16) @ kernel + bias)
    expected /= expected.sum(axis=1, keepdims=True)
    found = keras_t2t.Predictor(model).predict(images)
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_a_keras_model_on_any_backend():
    x = keras.Input((4, 4, 1))
    logits = keras.layers.Dense(3)(keras.layers.Flatten()(x))
    model = keras.Model(x, logits)
    images = inputs(3, (4, 4, 1))
    predictor = keras_t2t.Predictor(model, labels=["ant", "bee", "cat"], batch_size=2)
    kernel, bias = model.get_weights()
    expected = np.exp(images.reshape(3, 16) @ kernel + bias)
    expected /= expected.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(predictor.predict(images), expected, atol=1e-5)
    with pytest.raises(ValueError, match="images: the model does not say how they are prepared"):
        predictor.predict(photos(1))
    with pytest.raises(ValueError, match="images: expected shape \\(n, 4, 4, 1\\)"):
        predictor.predict(images[:, :3])
    with pytest.raises(ValueError, match="labels: expected 3, one for each output"):
        keras_t2t.Predictor(model, labels=["ant"])


def test_images_and_numbers_of_other_kinds():
    x = keras.Input((4, 4, 1))
    model = keras.Model(x, keras.layers.Dense(3)(keras.layers.Flatten()(x)))
    predictor = keras_t2t.Predictor(model)
    listed = "images: expected a list of paths, Pillow images or uint8 arrays, or an array, got "
    for images, message in (
        (np.zeros((4, 4, 1), "uint8"), "images: expected shape (n, rows, columns, channels), got"),
        (np.zeros((4, 4, 1), "float32"), "images: expected shape (n, rows, columns, channels)"),
        ("cat.jpg", listed + "'cat.jpg'"),
        (None, listed + "None"),
        ((path for path in ["cat.jpg"]), listed + "<generator"),
    ):
        with pytest.raises(ValueError) as error:
            predictor.predict(images)
        assert message in str(error.value)
    for wrong in ({"batch_size": 0}, {"batch_size": -1}, {"threads": -1}):
        with pytest.raises(ValueError, match=f"`{[*wrong][0]}` must be a positive int"):
            keras_t2t.Predictor(model, **wrong)


def end(name):
    """A model that ends so, and how its answers follow from the logits."""
    x = keras.Input((4, 4, 1))
    dense = keras.layers.Dense(3, None if name in ("linear", "Softmax") else name)
    y = dense(keras.layers.Flatten()(x))
    return keras.Model(x, keras.layers.Softmax()(y) if name == "Softmax" else y)


@pytest.mark.parametrize("name", ["linear", "softmax", "Softmax", "sigmoid"])
def test_softmax_behind_logits_alone(name):
    model, images = end(name), inputs(3, (4, 4, 1))
    expected = model.predict(images, verbose=0)
    if name == "linear":
        expected = np.exp(expected) / np.exp(expected).sum(axis=1, keepdims=True)
    found = keras_t2t.Predictor(model).predict(images)
    np.testing.assert_allclose(found, expected, atol=1e-6)


@tensorflow
@pytest.mark.parametrize("name", ["a.tflite", "a.onnx", "a"])
def test_other_answers_stay_as_they_are_in_every_file(name, tmp_path):
    model, images = end("sigmoid"), inputs(3, (4, 4, 1))
    expected = keras_t2t.Predictor(model).predict(images)
    keras_t2t.export(model, tmp_path / name, verify=False, verbose=False)
    found = keras_t2t.Predictor(tmp_path / name).predict(images)
    np.testing.assert_allclose(found, expected, atol=1e-6)


@tensorflow
@pytest.mark.parametrize(("name", "format"), [("a.tflite", "litert"), ("a", "tf_saved_model")])
def test_files_that_keras_exported_say_nothing_of_logits(name, format, tmp_path):
    model, images = end("softmax"), inputs(3, (4, 4, 1))
    model.export(tmp_path / name, format=format, verbose=False)
    found = keras_t2t.Predictor(tmp_path / name).predict(images[:1])
    np.testing.assert_allclose(found, model.predict(images[:1], verbose=0), atol=1e-6)


def test_no_classifier():
    x = keras.Input((4, 4, 1))
    for outputs in (x, keras.layers.Flatten()(x)[:, None]):
        with pytest.raises(ValueError, match="expected an output of shape \\(batch, classes\\)"):
            keras_t2t.Predictor(keras.Model(x, outputs))


def test_no_graph_from_one_image():
    class Subclassed(keras.Model):
        def call(self, images):
            return keras.ops.mean(images, axis=(1, 2))

    subclassed = Subclassed(name="subclassed")
    subclassed(np.zeros((1, 4, 4, 3), "float32"))
    two = keras.Input((4, 4, 3)), keras.Input((4, 4, 3))
    for model in (subclassed, keras.Model(two, keras.layers.Add()(two))):
        with pytest.raises(ValueError, match=f"^{model.name}: expected one input \\(batch, height"):
            keras_t2t.Predictor(model)


@tensorflow
@pytest.mark.parametrize("name", ["model.keras", "model.tflite", "model.onnx", "saved"])
def test_damaged_files(name, files, tmp_path):
    path = tmp_path / name
    if name == "saved":
        path.mkdir()
        content = (files / name / "saved_model.pb").read_bytes()
        (path / "saved_model.pb").write_bytes(content[: len(content) // 2])
    else:
        content = (files / name).read_bytes()
        path.write_bytes(content[: len(content) // 2])
    with pytest.raises(ValueError, match=f"{path}.*(cannot be read as|is not a complete)") as error:
        keras_t2t.Predictor(path)
    assert "\n" not in str(error.value)


@tensorflow
@pytest.mark.parametrize("missing", [5, 30, 200])
def test_a_litert_model_without_the_end_of_what_is_packed_in(missing, files, tmp_path):
    path = tmp_path / "model.tflite"
    path.write_bytes((files / "model.tflite").read_bytes()[:-missing])
    with pytest.raises(ValueError, match="is not a complete LiteRT model"):
        keras_t2t.Predictor(path)


@tensorflow
def test_a_litert_model_without_all_that_is_packed_in(files, tmp_path):
    content, path = (files / "model.tflite").read_bytes(), tmp_path / "model.tflite"
    path.write_bytes(content[: content.index(b"PK\x03\x04")])
    with pytest.raises(ValueError, match="is not a complete LiteRT model"):
        keras_t2t.Predictor(path)


def test_files_that_are_none(tmp_path):
    (tmp_path / "model.txt").touch()
    (tmp_path / "folder").mkdir()
    with pytest.raises(ValueError, match="expected a .keras, .tflite or .onnx file or the folder"):
        keras_t2t.Predictor(tmp_path / "model.txt")
    with pytest.raises(ValueError, match="expected the folder of a SavedModel"):
        keras_t2t.Predictor(tmp_path / "folder")
    with pytest.raises(FileNotFoundError, match="There is no model file"):
        keras_t2t.Predictor(tmp_path / "missing.onnx")


@tensorflow
def test_accuracy_counts_the_right_answers(model, files):
    whole = np.stack(photos(40, seed=3))
    predictor = keras_t2t.Predictor(files / "model.tflite")
    probabilities = keras_t2t.Predictor(model).predict(list(whole))
    ranks = np.argsort(-probabilities, axis=1)
    # 20 images with their best class, 12 with their third, 8 with their last of six.
    labels = np.concatenate((ranks[:20, 0], ranks[20:32, 2], ranks[32:, 5]))
    found = evaluate(predictor, (whole, labels), batch_size=16)
    assert found["images"] == 40 and found["images_per_second"] > 0
    assert found["top1"] == pytest.approx(20 / 40) and found["top5"] == pytest.approx(32 / 40)


@tensorflow
def test_data_of_more_classes_are_refused(files):
    with pytest.raises(ValueError, match="data: expected at most the 6 classes"):
        evaluate(keras_t2t.Predictor(files / "model.keras"), (np.stack(photos(1)), np.array([6])))
