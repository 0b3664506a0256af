"""The training loop: `model.fit` that can be killed at any time and resumes at the exact step."""

import contextlib
import csv
import dataclasses
import math
import signal
import threading
import time
from pathlib import Path
from typing import Any

import keras

from keras_t2t.files import replacing
from keras_t2t.training import state
from keras_t2t.training.build import make_schedule
from keras_t2t.training.checkpoints import Checkpoints

AGREE_EVERY = 10  # steps; to agree, hosts wait for each other and for their devices


class TrainingInterrupted(Exception):
    """SIGTERM or Ctrl-C stopped the training, after a checkpoint was written."""


class LossNotFinite(ValueError):
    """The loss or a weight became NaN or infinite."""


@dataclasses.dataclass
class Progress:
    """Where a training stands: what a checkpoint holds beside the arrays.

    Attributes:
        step: Number of steps that are done.
        history: The rows of `log.csv`.
        unfinished: The row of an epoch that is trained but not yet evaluated, or `None`.
        earlier: (steps, logs) of the part of the epoch ahead of an interruption, or `None`.
        seconds: Of training in the epoch.
    """

    step: int = 0
    history: list[dict[str, float]] = dataclasses.field(default_factory=list)
    unfinished: Any = None
    earlier: Any = None
    seconds: float = 0.0


class Loop(keras.callbacks.Callback):
    """Trains a compiled model, from the newest checkpoint in a folder if there is one.

    After every epoch a checkpoint is written and the model is evaluated, with its trained weights
    and, where the optimizer has `use_ema`, with their moving average. It is a callback too, by
    which Keras tells it of every step.

    Args:
        model: Compiled `keras.Model`.
        batches: The `Batches` to train and evaluate on.
        recipe: A `Recipe`: the number of epochs, and the learning rate for the log.
        options: `Options`: how often to save, how many checkpoints to keep, TensorBoard.
        devices: `Devices`. Several hosts stop and save at the same step, whichever is asked to.
        folder: Path of the run; `checkpoints` and `log.csv` are written into it.
        verbose: As for `model.fit`.
        callbacks: Further Keras callbacks; `on_epoch_end` sees the evaluation in its logs.
    """

    # Keras then calls `on_train_batch_end` from another thread and need not wait for the device.
    async_safe = True

    def __init__(self, model, batches, recipe, options, devices, folder, verbose, callbacks=()):
        super().__init__()
        self.set_model(model)
        self.batches, self.devices, self.folder = batches, devices, Path(folder)
        self.epochs, self.steps_per_epoch = recipe.epochs, batches.steps_per_epoch
        self.schedule = make_schedule(recipe, batches.steps_per_epoch)
        self.seconds_between = 60 * options.checkpoint_minutes
        self.checkpoints = Checkpoints(self.folder / "checkpoints", options.keep_checkpoints)
        self.callbacks = [self, *callbacks]
        if options.tensorboard and devices.writes:
            self.callbacks.append(keras.callbacks.TensorBoard(self.folder / "tensorboard"))
        self.verbose = verbose if devices.writes else 0
        # A checkpoint of other data, or from elsewhere, is refused.
        self.data = {"images": batches.images, "classes": len(batches.class_names)}
        self.data["steps_per_epoch"] = batches.steps_per_epoch
        self.place = {"backend": keras.backend.backend(), "strategy": devices.strategy}
        self.place |= {"devices": devices.count, "hosts": devices.hosts}
        self.progress = Progress()
        self.stop = 0  # number of the signal that asks for it
        self.bad_step = -1  # of which the loss is not finite
        self.saved_at = time.monotonic()

    def run(self) -> list[dict[str, float]]:
        """Trains to the end, and returns a dictionary for each epoch: the rows of `log.csv`.

        Raises:
            TrainingInterrupted: On SIGTERM or Ctrl-C, once a checkpoint is written.
            LossNotFinite: If the loss or a weight is NaN or infinite. The last checkpoint is good.
            OSError: If a checkpoint cannot be written.
            ValueError: If the checkpoints are of another model or other data, or all damaged, or
                if hosts resume from different ones.
        """
        if not self.model.optimizer.built:
            self.model.optimizer.build(self.model.trainable_variables)
        self._resume()
        with self._signals_handled():
            if self.progress.unfinished:
                self._finish_epoch()
            while self.progress.step < self.epochs * self.steps_per_epoch:
                self._fit()
        return self.progress.history

    def _resume(self):
        """Goes back to the newest checkpoint."""
        found = self.checkpoints.newest()
        if self.devices.writes:
            self.checkpoints.clear_unfinished()
        # Slow file systems may not yet show all hosts the same.
        step = found[2]["step"] if found else -1
        newest, oldest = self.devices.agree([step, -step])
        if newest != -oldest:
            raise ValueError(
                f"{self.folder}: hosts resume from different checkpoints, of steps {-oldest} to "
                f"{newest}. Start again"
            )
        if not found:
            return
        path, arrays, info = found
        _refuse_other(path, "data", info.pop("data", self.data), self.data)
        # Sums are rounded in another order there, random numbers drawn in another way.
        _refuse_other(path, "devices", info.pop("place", self.place), self.place)
        state.write_state(self.model, arrays)
        self.progress = Progress(**info)
        if self.devices.writes:
            epoch, done = divmod(step, self.steps_per_epoch)
            print(f"Resuming from {path}: {epoch} epochs and {done} steps are done.")

    def _fit(self):
        """Trains from where the training stands to the end of the epoch, or of all."""
        # Keras resumes at the start of an epoch only, so the rest of one is a `fit` of its own.
        epoch, done = divmod(self.progress.step, self.steps_per_epoch)
        self.ends_with_epoch = done > 0
        self.start = state.read_state(self.model)
        self.model.fit(
            self.batches.training(self.progress.step),
            initial_epoch=epoch,
            epochs=self.epochs,
            steps_per_epoch=self.steps_per_epoch - done,
            callbacks=self.callbacks,
            shuffle=False,  # the batches come in their order
            verbose=self.verbose,
        )

    # What Keras calls

    def on_epoch_begin(self, epoch, logs=None):
        if self.start:
            # Building the metrics has called the model, which on torch moves its seeds on.
            state.write_state(self.model, self.start)
        self.first_step = self.progress.step
        self.clock = time.monotonic()

    def on_train_batch_begin(self, batch, logs=None):
        # Here, and not at the end of a batch, because Keras calls that one from another thread.
        self.progress.step = self.first_step + batch
        if self.start:
            # Opening the data has drawn from it, once for each `fit`.
            state.set_random_state(self.start)
            self.start = None
        stop, overdue, bad_step = self._asked(self.progress.step)
        if bad_step >= 0:
            raise self._not_finite(f"the loss is not finite at step {bad_step}")
        if stop or overdue:
            self._save_within_epoch()
        if stop:
            raise TrainingInterrupted(signal.Signals(stop).name)

    def on_train_batch_end(self, batch, logs: Any = None):
        if self.bad_step < 0 and not math.isfinite(logs["loss"]):
            self.bad_step = self.first_step + batch

    def on_epoch_end(self, epoch, logs: Any = None):
        progress = self.progress
        progress.step = (epoch + 1) * self.steps_per_epoch
        if not math.isfinite(logs["loss"]):
            raise self._not_finite(f"the loss is not finite in epoch {epoch + 1}")
        self._count_seconds()
        progress.unfinished = {
            "epoch": epoch + 1,
            "step": progress.step,
            **self._with_earlier(logs),
            "learning_rate": float(self.schedule(progress.step - 1)),
            "seconds": progress.seconds,
            "images_per_second": self.steps_per_epoch * self.batches.batch_size / progress.seconds,
        }
        progress.seconds, progress.earlier = 0.0, None
        self._save(progress)
        row = self._finish_epoch()
        logs.update({name: row[name] for name in row if name not in ("epoch", "step", "seconds")})
        self.model.stop_training = self.ends_with_epoch

    def on_test_batch_begin(self, batch, logs=None):
        stop, *_ = self._asked(batch)
        if stop:  # The checkpoint ahead of the evaluation is written already.
            raise TrainingInterrupted(signal.Signals(stop).name)

    # Within and at the end of an epoch

    def _asked(self, step):
        """What the hosts are to do at this step: stop for a signal, save, give up a bad step."""
        if self.devices.hosts > 1 and step % AGREE_EVERY:
            return 0, False, -1
        overdue = time.monotonic() - self.saved_at > self.seconds_between
        return self.devices.agree([self.stop, overdue, self.bad_step])

    def _save_within_epoch(self):
        if hasattr(self.model, "jax_state_sync"):
            self.model.jax_state_sync()
        self._count_seconds()
        progress = self.progress
        if progress.step > self.first_step:
            logs = {name: float(value) for name, value in self.model.get_metrics_result().items()}
            earlier = (progress.step % self.steps_per_epoch, self._with_earlier(logs))
            progress = dataclasses.replace(progress, earlier=earlier)
        self._save(progress)

    def _with_earlier(self, logs):
        """The means over an epoch, of which Keras knows only what came after the interruption.

        They differ in the seventh digit from those of an uninterrupted epoch, which Keras sums up
        in float32; the weights do not.
        """
        if self.progress.earlier is None:
            return dict(logs)
        steps, earlier = self.progress.earlier
        share = steps / ((self.progress.step - 1) % self.steps_per_epoch + 1)
        return {name: share * earlier[name] + (1 - share) * logs[name] for name in logs}

    def _save(self, progress):
        arrays = state.read_state(self.model)
        bad = state.not_finite(arrays)
        if bad:
            raise self._not_finite(f"{bad} is not finite")
        failure = None
        if self.devices.writes:
            info = {"data": self.data, "place": self.place, **dataclasses.asdict(progress)}
            try:
                self.checkpoints.save(progress.step, arrays, info)
            except OSError as error:
                failure = error
        if self.devices.agree([failure is not None]) != [0]:
            raise failure or OSError("The host that writes could not write the checkpoint.")
        self.saved_at = time.monotonic()

    def _finish_epoch(self):
        """Evaluates and writes the log; also when only this was cut off."""
        row, start = self.progress.unfinished, time.monotonic()
        row.update(self._evaluate("val_"))
        if state.averages(self.model):
            with state.averaged_weights(self.model):
                row.update(self._evaluate("ema_val_"))
        epoch_seconds = row["seconds"] + time.monotonic() - start
        row["hours_left"] = (self.epochs - row["epoch"]) * epoch_seconds / 3600
        self.progress.history.append(row)
        self.progress.unfinished = None
        if self.devices.writes:
            _write_csv(self.folder / "log.csv", self.progress.history)
        return row

    def _evaluate(self, prefix):
        random = state.random_state()
        logs = self.model.evaluate(
            self.batches.evaluation, callbacks=[self], verbose=0, return_dict=True
        )
        state.set_random_state(random)
        # The compiled loss counts the padding of the last batch; the metrics do not.
        return {prefix + name: value for name, value in logs.items() if name != "loss"}

    def _count_seconds(self):
        now = time.monotonic()
        self.progress.seconds += now - self.clock
        self.clock = now

    def _not_finite(self, what):
        paths = self.checkpoints.paths()
        last = f"The last good checkpoint is {paths[-1]}." if paths else "There is no checkpoint."
        return LossNotFinite(
            f"Training stopped: {what}. {last} Start again from it with a lower learning rate, a "
            "longer warm-up or gradient clipping."
        )

    @contextlib.contextmanager
    def _signals_handled(self):
        """SIGTERM and Ctrl-C ask to stop at the next step; a second Ctrl-C does not wait."""

        def ask(number, frame):
            if self.stop and number == signal.SIGINT:
                raise KeyboardInterrupt
            self.stop = number

        if threading.current_thread() is not threading.main_thread():
            yield  # Python allows handlers in the main thread only.
            return
        before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


def _refuse_other(path, what, there, here):
    different = [
        f"{name} {there.get(name)} there, {here[name]} here"
        for name in here
        if there.get(name) != here[name]
    ]
    if different:
        raise ValueError(
            f"{path}: is of a training on other {what} ({', '.join(different)}), so it would not "
            f"go on as it began. Choose another folder, or the same {what}"
        )


def _write_csv(path, rows):
    names = dict.fromkeys(name for row in rows for name in row)
    with replacing(path, overwrite=True) as temporary, open(temporary, "w", newline="") as file:
        writer = csv.DictWriter(file, names, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
