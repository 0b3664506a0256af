"""AdamW: what decays, and that it still does not after saving and loading."""

import keras
import numpy as np
import pytest
from keras import ops

import keras_t2t
from keras_t2t.training import AdamW
from keras_t2t.training.optimizer import decays


def model():
    return keras_t2t.T2TViT(
        (16, 16, 1),
        ((3, 2, 1), (3, 2, 1)),
        token_dim=8,
        embed_dim=12,
        depth=1,
        num_heads=2,
        classes=3,
    )


def test_kernels_decay_and_nothing_else():
    names = {v.path.rsplit("/", 1)[-1] for v in model().trainable_variables if decays(v)}
    assert names == {"kernel"}
    names = {v.path.rsplit("/", 1)[-1] for v in model().trainable_variables if not decays(v)}
    assert names == {"bias", "beta", "gamma", "class_token"}


def step_without_gradient(trained):
    """What one step does to each variable when all gradients are zero: the decay alone."""
    before = [ops.convert_to_numpy(v) for v in trained.trainable_variables]
    zeros = [ops.zeros(v.shape) for v in trained.trainable_variables]
    trained.optimizer.apply(zeros, trained.trainable_variables)
    after = [ops.convert_to_numpy(v) for v in trained.trainable_variables]
    return zip(trained.trainable_variables, before, after, strict=True)


@pytest.mark.parametrize("reload", [False, True])
def test_exclusions_hold_also_after_reloading(reload, tmp_path):
    trained = model()
    trained.compile(AdamW(0.1, weight_decay=0.5), "sparse_categorical_crossentropy")
    for variable in trained.trainable_variables:
        variable.assign(np.ones(variable.shape))
    trained.optimizer.build(trained.trainable_variables)
    if reload:
        trained.save(tmp_path / "model.keras")
        trained = keras.saving.load_model(tmp_path / "model.keras")
        assert isinstance(trained.optimizer, AdamW)
        assert trained.optimizer.epsilon == 1e-8
    for variable, before, after in step_without_gradient(trained):
        factor = 1 - 0.1 * 0.5 if variable.path.endswith("kernel") else 1
        np.testing.assert_allclose(after, factor * before, rtol=1e-6, err_msg=variable.path)
