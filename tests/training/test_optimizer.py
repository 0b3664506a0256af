"""AdamW: what decays, and that it still does not after saving and loading."""

import keras
import numpy as np
import pytest
from keras import ops

import keras_t2t
from keras_t2t import compat
from keras_t2t.training import SGD, AdamW
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


class Layers:
    """Two variables, and gradients that differ with the step."""

    def __init__(self):
        self.variables = [
            keras.Variable(np.linspace(-1, 1, 6).reshape(2, 3), name="kernel", dtype="float32"),
            keras.Variable(np.linspace(1, 2, 3), name="bias", dtype="float32"),
        ]

    def gradients(self, step):
        rng = np.random.default_rng(step)
        return [rng.normal(size=v.shape).astype("float32") for v in self.variables]

    def train(self, optimizer, steps):
        """The variables and, if there is one, the average after each step."""
        optimizer.build(self.variables)
        values, averages = [], []
        for step in range(steps):
            gradients = [ops.convert_to_tensor(g) for g in self.gradients(step)]
            optimizer.apply(gradients, self.variables)
            values.append([ops.convert_to_numpy(v) for v in self.variables])
            if optimizer.use_ema:
                averages.append(
                    [ops.convert_to_numpy(a) for _, a in compat.moving_averages(optimizer)]
                )
        return values, averages


def test_adamw_by_parts_equals_its_formula():
    """PyTorch's AdamW with a group of a tenth of the learning rate, in NumPy."""
    layers = Layers()
    expected = [ops.convert_to_numpy(v).astype("float64") for v in layers.variables]
    values, _ = layers.train(AdamW(0.1, weight_decay=0.3, part_rates={"bias": (0.1, 0.02)}), 5)
    m, v = [0.0, 0.0], [0.0, 0.0]
    for step, found in enumerate(values):
        for i, gradient in enumerate(layers.gradients(step)):
            rate, decay = ((0.1, 0.3), (0.03, 0.0))[i]
            expected[i] = expected[i] * (1 - rate * decay)
            m[i] = 0.9 * m[i] + 0.1 * gradient
            v[i] = 0.999 * v[i] + 0.001 * gradient.astype("float64") ** 2
            first = m[i] / (1 - 0.9 ** (step + 1))
            second = v[i] / (1 - 0.999 ** (step + 1))
            expected[i] = expected[i] - rate * first / (np.sqrt(second) + 1e-8)
            np.testing.assert_allclose(found[i], expected[i], rtol=2e-5)


@pytest.mark.parametrize("scale", [1e-9, 1e-8, 1e-7, 1e-5, 1e-3, 1])
@pytest.mark.parametrize("amsgrad", [False, True])
def test_adamw_equals_torch(scale, amsgrad):
    """Also where epsilon counts: on small gradients, and at the first steps above all."""
    torch = pytest.importorskip("torch")
    layers = Layers()
    gradients = layers.gradients
    layers.gradients = lambda step: [np.float32(scale) * g for g in gradients(step)]
    theirs = [
        torch.nn.Parameter(torch.tensor(ops.convert_to_numpy(v)).double()) for v in layers.variables
    ]
    groups = [{"params": theirs[:1]}, {"params": theirs[1:], "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=0.1, weight_decay=0.3, amsgrad=amsgrad)
    values, _ = layers.train(AdamW(0.1, weight_decay=0.3, amsgrad=amsgrad), 20)
    for step, found in enumerate(values):
        for parameter, gradient in zip(theirs, layers.gradients(step), strict=True):
            parameter.grad = torch.tensor(gradient).double()
        optimizer.step()
        for one, other in zip(found, theirs, strict=True):
            # In float32, 1 - 0.999 is known to four digits; each of 20 steps is of 0.1 at most.
            np.testing.assert_allclose(one, other.detach().numpy(), rtol=2e-5, atol=1e-5)


def test_sgd_couples_l2_ahead_of_the_momentum():
    """`torch.optim.SGD(weight_decay=...)` in NumPy."""
    layers = Layers()
    expected = [ops.convert_to_numpy(v).astype("float64") for v in layers.variables]
    values, _ = layers.train(SGD(0.1, l2=0.3, part_rates={"^ker": (0.01, 0.0)}), 5)
    momentum = [0.0, 0.0]
    for step, found in enumerate(values):
        for i, gradient in enumerate(layers.gradients(step)):
            rate = (0.001, 0.1)[i]
            momentum[i] = 0.9 * momentum[i] + gradient + 0.3 * expected[i]
            expected[i] = expected[i] - rate * momentum[i]
            np.testing.assert_allclose(found[i], expected[i], rtol=2e-5)


@pytest.mark.parametrize("warmup", [False, True])
def test_the_average(warmup):
    layers = Layers()
    optimizer = AdamW(0.1, use_ema=True, ema_momentum=0.5, ema_warmup=warmup)
    values, averages = layers.train(optimizer, 20)
    expected = values[0]  # the first step is the beginning of the average either way
    for step in range(1, 20):
        decay = min(0.5, step / (step + 9)) if warmup else 0.5
        expected = [
            decay * e + (1 - decay) * v for e, v in zip(expected, values[step], strict=True)
        ]
        for found, wanted in zip(averages[step], expected, strict=True):
            np.testing.assert_allclose(found, wanted, rtol=1e-5)


def test_accumulated_gradients_are_averaged():
    """Two steps of half the batch are one of the whole."""
    halves, whole = Layers(), Layers()
    whole.gradients = lambda step: [
        (a + b) / 2
        for a, b in zip(halves.gradients(2 * step), halves.gradients(2 * step + 1), strict=True)
    ]
    arguments = {"weight_decay": 0.3, "part_rates": {"bias": (0.1, 0.0)}}
    found, _ = halves.train(AdamW(0.1, gradient_accumulation_steps=2, **arguments), 6)
    expected, _ = whole.train(AdamW(0.1, **arguments), 3)
    for a, b in zip(found[1::2], expected, strict=True):
        for one, other in zip(a, b, strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-5)
    np.testing.assert_array_equal(found[2][0], found[1][0])


@pytest.mark.parametrize("kind", [AdamW, SGD])
def test_config_round_trip(kind):
    optimizer = kind(0.1, part_rates={"a": (0.5, 0.1)}, ema_warmup=True, ema_in_model=False)
    again = keras.optimizers.deserialize(keras.optimizers.serialize(optimizer))
    assert type(again) is kind
    assert again.get_config() == optimizer.get_config()
