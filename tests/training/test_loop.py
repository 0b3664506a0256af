"""The training loop: killed at any time, it ends where an uninterrupted one does.

What Python does alone runs on TensorFlow only: JAX takes seconds to compile each tiny training.
"""

import dataclasses
import os
import signal
from collections.abc import Callable

import keras
import numpy as np
import pytest

from keras_t2t.training import LossNotFinite, Options, TrainingInterrupted, checkpoints, loop, state
from keras_t2t.training.distribution import Devices
from tests.training import tiny


class At(keras.callbacks.Callback):
    """Does something once, ahead of a batch of training, of evaluation, or of an epoch."""

    def __init__(self, action, epoch, batch=None, test_batch=None):
        super().__init__()
        self.action, self.epoch, self.batch, self.test_batch = action, epoch, batch, test_batch
        self.now = None

    def on_epoch_begin(self, epoch, logs=None):
        self.now = epoch

    def on_train_batch_begin(self, batch, logs=None):
        if (self.now, batch) == (self.epoch, self.batch):
            self.action()


def run(folder, callbacks=(), model=None, devices=None, minutes=10.0, keep=3, verbose=0, **batches):
    model, devices = model or tiny.model(), devices or Devices()
    options = Options(checkpoint_minutes=minutes, keep_checkpoints=keep)
    trained = loop.Loop(
        model, tiny.data(**batches), tiny.RECIPE, options, devices, folder, verbose, callbacks
    )
    return model, trained.run()


def terminate():
    os.kill(os.getpid(), signal.SIGTERM)


def die():
    raise SystemError("the machine burns")


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole")
    model, history = run(folder)
    return state.read_state(model), history, folder


def assert_same(model, history, uninterrupted):
    expected, rows, _ = uninterrupted
    found = state.read_state(model)
    assert found.keys() == expected.keys()
    for name in expected:
        np.testing.assert_array_equal(found[name], expected[name], err_msg=name)
    for row, expected_row in zip(history, rows, strict=True):
        assert row.keys() == expected_row.keys()
        for name in row:
            if name not in ("seconds", "images_per_second", "hours_left"):
                assert row[name] == pytest.approx(expected_row[name], rel=1e-5), name


@pytest.mark.tensorflow
def test_the_state_has_all(uninterrupted):
    names = " ".join(uninterrupted[0])
    for part in ("hidden/kernel", "seed_generator_state", "iteration", "average", "velocity"):
        assert part in names


@pytest.mark.parametrize(
    ("epoch", "batch"),
    [
        (1, 1),
        pytest.param(0, 3, marks=pytest.mark.tensorflow),
        pytest.param(1, 0, marks=pytest.mark.tensorflow),
        pytest.param(2, 4, marks=pytest.mark.tensorflow),
    ],
)
def test_sigterm_saves_and_resuming_is_exact(epoch, batch, uninterrupted, tmp_path):
    with pytest.raises(TrainingInterrupted, match="SIGTERM"):
        run(tmp_path, [At(terminate, epoch, batch)])
    # The handler only asks: the training stops ahead of the next step.
    (*_, newest) = checkpoints.Checkpoints(tmp_path / "checkpoints").paths()
    stopped = epoch * tiny.STEPS + batch + 1
    assert int(newest.stem.removeprefix("step-")) == stopped
    assert_same(*run(tmp_path), uninterrupted)


def test_a_resumed_training_counts_its_epochs_on(tmp_path, capsys):
    with pytest.raises(TrainingInterrupted):
        run(tmp_path, [At(terminate, 1, 1)])
    capsys.readouterr()
    run(tmp_path, verbose=2)
    lines = capsys.readouterr().out.splitlines()
    assert [line for line in lines if line.startswith("Epoch")] == ["Epoch 2/3", "Epoch 3/3"]


@pytest.mark.tensorflow
def test_twice_in_an_epoch(uninterrupted, tmp_path):
    for batch in (1, 0):
        with pytest.raises(TrainingInterrupted):
            run(tmp_path, [At(terminate, 1, batch)])
    assert_same(*run(tmp_path), uninterrupted)


@pytest.mark.tensorflow
def test_death_loses_no_more_than_the_steps_after_the_checkpoint(uninterrupted, tmp_path):
    with pytest.raises(SystemError):
        run(tmp_path, [At(die, 1, 3)])
    (newest,) = checkpoints.Checkpoints(tmp_path / "checkpoints").paths()
    assert newest.name == f"step-{tiny.STEPS:010d}.npz"
    assert_same(*run(tmp_path), uninterrupted)


@pytest.mark.tensorflow
def test_checkpoints_by_the_clock(uninterrupted, tmp_path):
    with pytest.raises(SystemError):
        run(tmp_path, [At(die, 1, 3)], minutes=1e-9, keep=100)
    steps = [path.stem for path in checkpoints.Checkpoints(tmp_path / "checkpoints").paths()]
    assert steps == [f"step-{step:010d}" for step in range(tiny.STEPS + 4)]
    assert_same(*run(tmp_path), uninterrupted)


@pytest.mark.parametrize("stop", [terminate, pytest.param(die, marks=pytest.mark.tensorflow)])
def test_stopped_while_evaluating(stop, uninterrupted, tmp_path, monkeypatch):
    evaluate, calls = keras.Model.evaluate, []

    def stopping(*args, **kwargs):
        calls.append(1)
        if len(calls) == 4:  # the averaged weights of the second epoch
            stop()
        return evaluate(*args, **kwargs)

    monkeypatch.setattr(keras.Model, "evaluate", stopping)
    with pytest.raises((TrainingInterrupted, SystemError)):
        run(tmp_path)
    assert_same(*run(tmp_path), uninterrupted)


@pytest.mark.tensorflow
def test_ctrl_c_and_handlers_are_put_back(uninterrupted, tmp_path):
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(TrainingInterrupted, match="SIGINT"):
        run(tmp_path, [At(lambda: os.kill(os.getpid(), signal.SIGINT), 0, 2)])
    assert signal.getsignal(signal.SIGINT) is before
    assert_same(*run(tmp_path), uninterrupted)


@pytest.mark.tensorflow
def test_a_finished_run_does_nothing(uninterrupted):
    *_, folder = uninterrupted

    def none(step):
        raise AssertionError("there is nothing to train")

    assert_same(*run(folder, training=none), uninterrupted)


def test_both_weights_are_evaluated(uninterrupted):
    """Against NumPy: the padded images of the evaluation do not count."""
    arrays, history, _ = uninterrupted
    images, labels = tiny.batch(0, seed=9)

    def top1(prefix, suffix):
        kernels = (
            {
                name: next(
                    v
                    for k, v in arrays.items()
                    if k.startswith(prefix) and name in k and k.endswith(suffix)
                )
                for name in ("hidden_kernel", "hidden_bias", "head_kernel", "head_bias")
            }
            if suffix
            else {
                name: next(
                    v
                    for k, v in arrays.items()
                    if k.startswith(prefix) and k.endswith(name.replace("_", "/"))
                )
                for name in ("hidden_kernel", "hidden_bias", "head_kernel", "head_bias")
            }
        )
        hidden = images @ kernels["hidden_kernel"] + kernels["hidden_bias"]
        hidden = hidden * (1 + np.vectorize(__import__("math").erf)(hidden / 2**0.5)) / 2
        logits = hidden @ kernels["head_kernel"] + kernels["head_bias"]
        return np.mean((logits.argmax(1) == labels.argmax(1))[:-3])

    assert history[-1]["val_top1"] == pytest.approx(top1("model/", ""), abs=1e-6)
    assert history[-1]["ema_val_top1"] == pytest.approx(top1("optimizer/", "average"), abs=1e-6)


def test_the_log(uninterrupted):
    *_, history, folder = uninterrupted
    lines = (folder / "log.csv").read_text().splitlines()
    assert lines[0].split(",") == list(history[0])
    assert [line.split(",")[0] for line in lines[1:]] == ["1", "2", "3"]
    assert history[0]["learning_rate"] == pytest.approx(1e-6 + (0.02 - 1e-6) * 4 / 5)


def test_nan_stops_the_run_and_leaves_a_good_checkpoint(tmp_path):
    broken = tiny.STEPS + 2
    with pytest.raises(LossNotFinite, match="The last good checkpoint is .*step-0000000005.npz"):
        run(tmp_path, training=lambda step: tiny.batches(step, broken))
    path, arrays, info = checkpoints.Checkpoints(tmp_path / "checkpoints").newest()
    assert info["step"] == tiny.STEPS
    assert state.not_finite(arrays) is None


@pytest.mark.tensorflow
def test_not_finite_weights_are_never_saved(tmp_path):
    model = tiny.model()
    (head,) = [v for v in model.variables if v.path == "head/bias"]

    def poison():
        if hasattr(model, "jax_state_sync"):
            model.jax_state_sync()
        head.assign([0.0, np.inf, 0.0])
        terminate()

    with pytest.raises(LossNotFinite):
        run(tmp_path, [At(poison, 1, 2)], model=model)
    (newest,) = checkpoints.Checkpoints(tmp_path / "checkpoints").paths()
    assert newest.name == f"step-{tiny.STEPS:010d}.npz"


@pytest.mark.tensorflow
def test_another_model_is_told(uninterrupted):
    *_, folder = uninterrupted
    inputs = keras.Input((6,))
    other = keras.Model(inputs, keras.layers.Dense(3, name="other")(inputs))
    other.compile("sgd", "categorical_crossentropy")
    with pytest.raises(ValueError, match="The checkpoint is of another model or optimizer"):
        run(folder, model=other)


@pytest.mark.tensorflow
def test_other_data_are_told(tmp_path):
    with pytest.raises(TrainingInterrupted):
        run(tmp_path, [At(terminate, 0, 1)])
    with pytest.raises(ValueError, match="other data .images 80 there, 40 here"):
        run(tmp_path, images=40)
    with pytest.raises(ValueError, match="other data .steps_per_epoch 5 there, 2 here"):
        run(tmp_path, batch_size=40)


@pytest.mark.tensorflow
@pytest.mark.parametrize(
    ("here", "message"),
    [
        (Devices("mirrored"), "strategy one_device there, mirrored here"),
        (Devices("mirrored", 2), "one_device there, mirrored here, devices 1 there, 2 here"),
        (Devices("data_parallel", 2, hosts=1), "strategy one_device there, data_parallel here"),
        (Devices(count=2), "other devices .devices 1 there, 2 here"),
    ],
)
def test_other_devices_are_told(here, message, tmp_path):
    with pytest.raises(TrainingInterrupted):
        run(tmp_path, [At(terminate, 0, 1)])
    with pytest.raises(ValueError, match=message):
        run(tmp_path, devices=here)


@pytest.mark.tensorflow
def test_another_backend_is_told(tmp_path, monkeypatch):
    with pytest.raises(TrainingInterrupted):
        run(tmp_path, [At(terminate, 0, 1)])
    monkeypatch.setattr(loop.keras.backend, "backend", lambda: "jax")
    with pytest.raises(ValueError, match="backend tensorflow there, jax here"):
        run(tmp_path)


@dataclasses.dataclass(frozen=True)
class Hosts(Devices):
    """One of two hosts, and what they agree on."""

    strategy: str = "data_parallel"
    hosts: int = 2
    answer: Callable = None

    def agree(self, values):
        return self.answer(values)


@pytest.mark.tensorflow
def test_what_other_hosts_are_asked_stops_this_one(uninterrupted, tmp_path):
    questions = []

    def agree(values):
        questions.append(len(values))
        # The first step, two evaluations after each of two epochs, and then this step.
        stop = len(values) == 3 and questions.count(3) == 6
        return [signal.SIGTERM, *values[1:]] if stop else values

    with pytest.raises(TrainingInterrupted, match="SIGTERM"):
        run(tmp_path, devices=Hosts(answer=agree))
    (*_, newest) = checkpoints.Checkpoints(tmp_path / "checkpoints").paths()
    assert newest.name == f"step-{loop.AGREE_EVERY:010d}.npz"
    with pytest.raises(OSError, match="The host that writes could not"):
        second = Hosts(host=1, answer=lambda values: [1] if len(values) == 1 else values)
        run(tmp_path, devices=second)
    with pytest.raises(ValueError, match="different checkpoints, of steps 8 to 10"):
        run(tmp_path, devices=Hosts(answer=lambda values: [values[0], -8]))
    assert_same(*run(tmp_path, devices=Hosts(answer=lambda values: values)), uninterrupted)
