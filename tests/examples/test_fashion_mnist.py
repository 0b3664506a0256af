"""The trained model in `examples/models` classifies what it has not seen, on every backend."""

from pathlib import Path

import pytest

import keras_t2t
from keras_t2t.inference.evaluate import evaluate

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.mark.above_backends
@pytest.mark.slow
def test_the_trained_model():
    predictor = keras_t2t.Predictor(EXAMPLES / "models/fashion_mnist.keras")
    # 2,000 of the 10,000 test images, with a standard error of 0.6 %.
    found = evaluate(predictor, EXAMPLES / "data/fashion_mnist_subset/1.0.0")
    assert found["top1"] == pytest.approx(0.92, abs=0.02)
