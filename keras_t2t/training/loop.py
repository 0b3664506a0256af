"""The training loop: `model.fit` that can be killed at any time and goes on at the exact step."""

import contextlib
import csv
import io
import math
import signal
import threading
import time
from pathlib import Path

import keras

from keras_t2t.files import replacing
from keras_t2t.training import state
from keras_t2t.training.checkpoints import Checkpoints

AGREE_EVERY = 10  # steps; to agree, hosts wait for each other and for their devices


class TrainingInterrupted(Exception):
    """SIGTERM or Ctrl-C stopped the training, after a checkpoint was written."""


class LossNotFinite(ValueError):
    """The loss or a weight became NaN or infinite."""


def fit(
    model,
    batches,
    evaluation,
    folder,
    *,
    epochs,
    steps_per_epoch,
    batch_size,
    schedule,
    minutes=10.0,
    keep=3,
    writes=True,
    agree=None,
    data=None,
    callbacks=(),
    verbose="auto",
):
    """Trains a compiled model, from the newest checkpoint in `folder` if there is one.

    After every epoch a checkpoint is written and the model is evaluated, with its trained weights
    and, where the optimizer has `use_ema`, with their moving average.

    Args:
        model: Compiled `keras.Model`.
        batches: Function from a step, an int, to a dataset of the batches from this step on,
            without end. The batch of a step must always be the same one.
        evaluation: Dataset to evaluate on, or `None`.
        folder: Path of the run; `checkpoints` and `log.csv` are written into it.
        epochs: Int, number of epochs in all.
        steps_per_epoch: Int.
        batch_size: Int, images in a step.
        schedule: Learning rate schedule of the optimizer, for the log.
        minutes: Float, a checkpoint is written whenever so many have passed since the last, and at
            the end of every epoch. Defaults to 10.
        keep: Int, number of checkpoints to keep. Defaults to 3.
        writes: Bool, whether this process writes files; of several hosts only one does.
        agree: With several hosts, function of a list of ints that returns the largest that any of
            them has of each. They then stop and save at the same step, whichever is asked to.
        data: Dictionary of what tells the training data from others, for JSON. A checkpoint of
            other data is refused.
        callbacks: Further Keras callbacks; `on_epoch_end` sees the evaluation in its logs.
        verbose: As for `model.fit`.

    Returns:
        List with a dictionary for each epoch: the rows of `log.csv`.

    Raises:
        TrainingInterrupted: On SIGTERM or Ctrl-C, once a checkpoint is written.
        LossNotFinite: If the loss or a weight is NaN or infinite. The last checkpoint is good.
        OSError: If a checkpoint cannot be written.
        ValueError: If the checkpoints are of another model or other data, or all damaged, or if
            hosts go on from different ones.
    """
    if not model.optimizer.built:
        model.optimizer.build(model.trainable_variables)
    run = _Run(model, evaluation, Path(folder), epochs, steps_per_epoch, keep)
    run.batch_size, run.schedule = batch_size, schedule
    run.seconds_between, run.writes = 60 * minutes, writes
    run.agree = agree
    run.data = {"steps_per_epoch": steps_per_epoch, **(data or {})}
    run.resume()
    with _signals(run):
        if run.unfinished:
            run.finish_epoch()
        # Keras resumes at the start of an epoch only, so the rest of one is a `fit` of its own.
        while run.step < epochs * steps_per_epoch:
            epoch, done = divmod(run.step, steps_per_epoch)
            run.random = state.random_state()
            model.fit(
                batches(run.step),
                initial_epoch=epoch,
                epochs=epoch + 1 if done else epochs,
                steps_per_epoch=steps_per_epoch - done,
                callbacks=[run, *callbacks],
                shuffle=False,  # the batches come in their order
                verbose=verbose,
            )
    return run.history


class _Run(keras.callbacks.Callback):
    """Where a training stands, and what has to happen on the way."""

    # Keras then calls `on_train_batch_end` from another thread and need not wait for the device.
    async_safe = True

    def __init__(self, model, evaluation, folder, epochs, steps_per_epoch, keep):
        super().__init__()
        self.set_model(model)
        self.evaluation = evaluation
        self.folder = folder
        self.epochs = epochs
        self.steps_per_epoch = steps_per_epoch
        self.checkpoints = Checkpoints(folder / "checkpoints", keep)
        self.step = 0
        self.history = []
        self.unfinished = None  # the row of an epoch that is trained but not yet evaluated
        self.earlier = None  # (steps, logs) of an epoch ahead of an interruption
        self.seconds = 0.0  # of training in the epoch
        self.restored = self.random = None
        self.stop = 0  # number of the signal that asks for it
        self.bad_step = -1  # of which the loss is not finite
        self.saved_at = time.monotonic()

    # Checkpoints

    def resume(self):
        """Goes back to the newest checkpoint."""
        found = self.checkpoints.newest()
        if self.writes:
            self.checkpoints.clear_unfinished()
        if self.agree:
            # Slow file systems may not yet show all hosts the same.
            step = found[2]["step"] if found else -1
            newest, oldest = self.agree([step, -step])
            if newest != -oldest:
                raise ValueError(
                    f"{self.folder}: hosts go on from different checkpoints, of steps {-oldest} "
                    f"to {newest}. Start again"
                )
        if not found:
            return
        path, self.restored, info = found
        self._assert_same_data(path, info.get("data", self.data))
        state.write_state(self.model, self.restored)
        self.step, self.history = info["step"], info["history"]
        self.unfinished, self.earlier = info["unfinished"], info["earlier"]
        self.seconds = info["seconds"]
        if self.writes:
            epoch, done = divmod(self.step, self.steps_per_epoch)
            print(f"Going on from {path}: {epoch} epochs and {done} steps are done.")

    def _assert_same_data(self, path, before):
        different = [name for name in self.data if before.get(name) != self.data[name]]
        if different:
            told = ", ".join(
                f"{name} {before.get(name)} there, {self.data[name]} here" for name in different
            )
            raise ValueError(
                f"{path}: is of a training on other data ({told}). Choose another folder, or the "
                "same data"
            )

    def save(self):
        arrays = state.read_state(self.model)
        bad = state.not_finite(arrays)
        if bad:
            raise self._not_finite(f"{bad} is not finite")
        failure = None
        if self.writes:
            info = {
                "data": self.data,
                "step": self.step,
                "history": self.history,
                "unfinished": self.unfinished,
                "earlier": self.earlier,
                "seconds": self.seconds,
            }
            try:
                self.checkpoints.save(self.step, arrays, info)
            except OSError as error:
                failure = error
        if self._agreed([failure is not None]) != [0]:
            raise failure or OSError("The host that writes could not write the checkpoint.")
        self.saved_at = time.monotonic()

    def _agreed(self, values):
        return self.agree(values) if self.agree else values

    def asked(self, step):
        """What the hosts are to do at this step: stop for a signal, save, give up a bad step."""
        if self.agree and step % AGREE_EVERY:
            return 0, False, -1
        overdue = time.monotonic() - self.saved_at > self.seconds_between
        return self._agreed([self.stop, overdue, self.bad_step])

    # What Keras calls

    def on_epoch_begin(self, epoch, logs=None):
        if self.restored:
            # Again: building the metrics calls the model, which on torch moves its seeds on.
            state.write_state(self.model, self.restored)
            self.restored = None
        self.first_step = self.step
        self.clock = time.monotonic()

    def on_train_batch_begin(self, batch, logs=None):
        # Here, and not at the end of a batch, because Keras calls that one from another thread.
        self.step = self.first_step + batch
        if self.random:
            # Building the metrics and opening the data have drawn from it, once for each `fit`.
            state.set_random_state(self.random)
            self.random = None
        stop, overdue, bad_step = self.asked(self.step)
        if bad_step >= 0:
            raise self._not_finite(f"the loss is not finite at step {bad_step}")
        if stop or overdue:
            self._save_within_epoch()
        if stop:
            raise TrainingInterrupted(signal.Signals(stop).name)

    def on_train_batch_end(self, batch, logs=None):
        if self.bad_step < 0 and not math.isfinite(logs["loss"]):
            self.bad_step = self.first_step + batch

    def on_epoch_end(self, epoch, logs=None):
        self.step = (epoch + 1) * self.steps_per_epoch
        if not math.isfinite(logs["loss"]):
            raise self._not_finite(f"the loss is not finite in epoch {epoch + 1}")
        self._count_seconds()
        self.unfinished = {
            "epoch": epoch + 1,
            "step": self.step,
            **self._with_earlier(logs),
            "learning_rate": float(self.schedule(self.step - 1)),
            "seconds": self.seconds,
            "images_per_second": self.steps_per_epoch * self.batch_size / self.seconds,
        }
        self.seconds, self.earlier = 0.0, None
        self.save()
        row = self.finish_epoch()
        logs.update({name: row[name] for name in row if name not in ("epoch", "step", "seconds")})

    # Within and at the end of an epoch

    def _save_within_epoch(self):
        if hasattr(self.model, "jax_state_sync"):
            self.model.jax_state_sync()
        self._count_seconds()
        if self.step > self.first_step:
            logs = {name: float(value) for name, value in self.model.get_metrics_result().items()}
            before = self.earlier
            self.earlier = (self.step % self.steps_per_epoch, self._with_earlier(logs))
            self.save()
            self.earlier = before
        else:
            self.save()

    def _with_earlier(self, logs):
        """The means over an epoch, of which Keras knows only what came after the interruption."""
        if self.earlier is None:
            return dict(logs)
        steps, earlier = self.earlier
        share = steps / ((self.step - 1) % self.steps_per_epoch + 1)
        return {name: share * earlier[name] + (1 - share) * logs[name] for name in logs}

    def finish_epoch(self):
        """Evaluates and writes the log; also when only this was cut off."""
        row, start = self.unfinished, time.monotonic()
        if self.evaluation is not None:
            row.update(self._evaluate("val_"))
            if state.averages(self.model):
                with state.averaged_weights(self.model):
                    row.update(self._evaluate("ema_val_"))
        epoch_seconds = row["seconds"] + time.monotonic() - start
        row["hours_left"] = (self.epochs - row["epoch"]) * epoch_seconds / 3600
        self.history.append(row)
        self.unfinished = None
        if self.writes:
            _write_csv(self.folder / "log.csv", self.history)
        return row

    def _evaluate(self, prefix):
        random = state.random_state()
        logs = self.model.evaluate(
            self.evaluation, callbacks=[_StopEvaluation(self)], verbose=0, return_dict=True
        )
        state.set_random_state(random)
        # The compiled loss counts the padding of the last batch; the metrics do not.
        return {prefix + name: value for name, value in logs.items() if name != "loss"}

    def _count_seconds(self):
        now = time.monotonic()
        self.seconds, self.clock = self.seconds + now - self.clock, now

    def _not_finite(self, what):
        paths = self.checkpoints.paths()
        last = f"The last good checkpoint is {paths[-1]}." if paths else "There is no checkpoint."
        return LossNotFinite(
            f"Training stopped: {what}. {last} Start again from it with a lower learning rate, a "
            "longer warm-up or gradient clipping."
        )


class _StopEvaluation(keras.callbacks.Callback):
    """Stops an evaluation on a signal: the checkpoint ahead of it is written already."""

    def __init__(self, run):
        super().__init__()
        self.run = run

    def on_test_batch_begin(self, batch, logs=None):
        stop, *_ = self.run.asked(batch)
        if stop:
            raise TrainingInterrupted(signal.Signals(stop).name)


@contextlib.contextmanager
def _signals(run):
    """SIGTERM and Ctrl-C ask the run to stop, at the next step; a second Ctrl-C does not wait."""

    asked = []

    def ask(number, frame):
        if asked and number == signal.SIGINT:
            raise KeyboardInterrupt
        asked.append(number)
        run.stop = number

    if threading.current_thread() is not threading.main_thread():
        yield  # Python allows handlers in the main thread only.
        return
    before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _write_csv(path, rows):
    text = io.StringIO()
    names = dict.fromkeys(name for row in rows for name in row)
    writer = csv.DictWriter(text, names, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    with replacing(path, overwrite=True) as temporary:
        temporary.write_text(text.getvalue())
