"""SavedModels, as TensorFlow alone serves them."""

import io
import json
import subprocess
import sys
from unittest import mock

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

import keras_t2t
from keras_t2t.preprocessing import Preprocessing
from tests.exporting.trained import inputs, photos, trained_model

pytestmark = pytest.mark.tensorflow

NAMES = ["ant", "bee", "cat", "dog", "eel", "fox"]
# A process in which neither this package nor Keras can be imported.
SERVE = """
import json, sys
for name in ("keras_t2t", "keras", "tf_keras"):
    sys.modules[name] = None
import numpy as np
import tensorflow as tf

path, data = sys.argv[1:]
signatures = tf.saved_model.load(path).signatures
given = np.load(data, allow_pickle=False)
files = [given["file_0"].tobytes(), given["file_1"].tobytes()]
found = {
    "signatures": sorted(signatures),
    "whole": signatures["serving_default"](images=given["photos"])["probabilities"],
    "files": signatures["encoded_images"](images=tf.constant(files))["probabilities"],
    "prepared": signatures["prepared_images"](images=given["prepared"])["probabilities"],
}
print(json.dumps({k: np.asarray(v).tolist() for k, v in found.items() if k != "signatures"}))
"""


def encoded(image, format):
    file = io.BytesIO()
    Image.fromarray(image).save(file, format, quality=90)
    return file.getvalue()


def test_tensorflow_alone_serves_it(tmp_path):
    model, whole = trained_model(), photos(2)
    path = tmp_path / "served"
    found = keras_t2t.export(
        model, path, with_preprocessing=True, with_softmax=True, labels=NAMES, verbose=False
    )
    assert found["passed"] and found["preprocessing_correlation"] > 0.9999
    assert (path / "assets" / "labels.txt").read_text().splitlines() == NAMES
    files = [encoded(whole[0], "JPEG"), encoded(whole[1], "PNG")]
    decoded = [np.asarray(Image.open(io.BytesIO(file)).convert("RGB")) for file in files]
    prepare = keras_t2t.model_preprocessing(model)
    np.savez(
        tmp_path / "data.npz",
        photos=np.stack(whole),
        prepared=inputs(3),
        **{f"file_{i}": np.frombuffer(file, np.uint8) for i, file in enumerate(files)},
    )
    result = subprocess.run(
        [sys.executable, "-c", SERVE, str(path), str(tmp_path / "data.npz")],
        check=True,
        capture_output=True,
        text=True,
        cwd=tmp_path,
    )
    found = json.loads(result.stdout)

    def expected(images):
        return np.asarray(model(np.stack(list(images)), training=False))

    np.testing.assert_allclose(found["prepared"], expected(inputs(3)), atol=1e-5)
    # Pixels that Pillow and TensorFlow round differently are rare, and differ by one in 255.
    np.testing.assert_allclose(found["whole"], expected(map(prepare, whole)), atol=2e-3)
    np.testing.assert_allclose(found["files"], expected(map(prepare, decoded)), atol=2e-3)


@settings(max_examples=30, deadline=None)
@given(
    st.tuples(*[st.integers(3, 80)] * 2),
    st.tuples(*[st.integers(5, 40)] * 2),
    st.sampled_from([None, 0.9, 0.7]),
    st.sampled_from(["bicubic", "bilinear"]),
)
def test_preprocessing_in_the_graph_is_pillows(size, target, crop, interpolation):
    from keras_t2t.exporting.serving import prepare_pixels

    preprocessing = Preprocessing(*target, crop_fraction=crop, interpolation=interpolation)
    (photo,) = photos(1, size)
    found = np.asarray(prepare_pixels(photo[None], preprocessing)[0])

    def difference():
        return 255 * np.abs(found - preprocessing(photo)) * preprocessing.std

    # Since Pillow 13 the height goes first where that is cheaper.
    assert difference().mean() < 0.4
    # In the graph's own order they differ where a value falls halfway between two integers, which
    # whole ratios of the sizes make frequent: by one, and by one more through the second pass.
    with mock.patch.object(Image.Image, "resize", width_first):
        assert difference().max() < 2.01
        assert difference().mean() < 0.15


def width_first(image, size, resampling, resize=Image.Image.resize):
    return resize(resize(image, (size[0], image.height), resampling), size, resampling)


def test_grey_files():
    from keras_t2t.exporting.serving import decode

    (photo,) = photos(1)
    grey = np.asarray(Image.fromarray(photo).convert("L"))
    np.testing.assert_array_equal(decode(encoded(photo, "PNG"), 1)[..., 0], grey)


def test_without_preprocessing_prepared_images_go_in(tmp_path):
    import tensorflow as tf

    model = trained_model(classifier_activation=None)
    assert keras_t2t.export(model, tmp_path / "served", verbose=False)["passed"]
    served = tf.saved_model.load(str(tmp_path / "served")).signatures
    assert list(served) == ["serving_default"]
    found = served["serving_default"](images=tf.constant(inputs()))["logits"]
    np.testing.assert_allclose(found, model(inputs(), training=False), atol=1e-5)
