#!/usr/bin/env python3
"""Kills a training again and again, and shows that it ends where an uninterrupted one does.

    python scripts/fault_drill.py                 # the whole drill, some minutes
    python scripts/fault_drill.py --kills 2       # a short one

On a tiny T2T-ViT that saves ten times a second: SIGKILL at random moments, SIGTERM, a damaged
newest checkpoint, and a disk that fills up while a checkpoint is written (a small tmpfs, which
takes root on Linux; left out with a message elsewhere). The exit status is 1 if anything was lost.
"""

import argparse
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np

from keras_t2t.training import Recipe, TrainingInterrupted, small, train
from keras_t2t.training.checkpoints import Checkpoints

TMPFS_MIB = 4
LONGEST_SECONDS = 300  # that a training may take to end


def recipe(epochs):
    pre = {"preprocessing": small().preprocessing, "augmentation": small().augmentation}
    return Recipe(
        variant=None,
        model={
            "soft_splits": [[7, 4, 2], [3, 2, 1]],
            "token_dim": 8,
            "embed_dim": 32,
            "depth": 1,
            "num_heads": 2,
            "drop_path_rate": 0.2,
        },
        epochs=epochs,
        batch_size=16,
        warmup_epochs=1,
        cooldown_epochs=0,
        ema=0.99,
        ema_warmup=True,
        **pre,
    )


def child(folder, epochs):
    """The training that is killed."""
    rng = np.random.default_rng(0)
    labels = np.arange(320) % 4
    images = rng.integers(0, 100, (320, 28, 28, 1)) + 50 * labels[:, None, None, None]
    images = images.astype("uint8")
    data = {"train": (images, labels), "validation": (images[:64], labels[:64])}
    try:
        train(recipe(epochs), data, folder, checkpoint_minutes=0.1 / 60, verbose=0)
    except TrainingInterrupted as stopped:
        sys.exit(128 + signal.Signals[str(stopped)])
    except OSError as error:
        sys.exit(f"error: {error}")


def newest_step(folder):
    paths = Checkpoints(folder / "checkpoints").paths()
    return int(paths[-1].stem.removeprefix("step-")) if paths else 0


def wait_for_progress(process, folder):
    """Waits until the training has saved something new, and a random moment longer."""
    before = newest_step(folder)
    while newest_step(folder) <= before:
        if process.poll() is not None:
            sys.exit(f"The training ended by itself:\n{process.stderr.read()}")
        time.sleep(0.01)
    time.sleep(random.uniform(0, 0.5))


class Drill:
    def __init__(self, folder, epochs):
        self.folder, self.epochs, self.failures = folder, epochs, 0

    def start(self, run):
        return subprocess.Popen(
            [sys.executable, __file__, "--child", run, "--epochs", str(self.epochs)],
            stderr=subprocess.PIPE,
            text=True,
        )

    def check(self, right, text):
        print(f"{'ok    ' if right else 'FAILED'}  {text}", flush=True)
        self.failures += not right

    def kill(self, run, number):
        process = self.start(run)
        wait_for_progress(process, run)
        process.send_signal(signal.SIGKILL)
        process.communicate(timeout=LONGEST_SECONDS)
        step = newest_step(run)  # before it is read: a damaged one is renamed
        path, _, info = Checkpoints(run / "checkpoints").newest()
        self.check(info["step"] == step, f"SIGKILL {number}: {path.name} is whole")

    def terminate(self, run):
        process = self.start(run)
        wait_for_progress(process, run)
        before = newest_step(run)
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=LONGEST_SECONDS)
        # It exits so only once it has saved; at the very step of `before`, if nothing came between.
        saved = process.returncode == 128 + signal.SIGTERM and newest_step(run) >= before
        self.check(saved, f"SIGTERM: saved step {newest_step(run)}, exit {process.returncode}")

    def damage(self, run):
        """Damages the newest checkpoint; the training goes on from the one before, to its end."""
        newest = Checkpoints(run / "checkpoints").paths()[-1]
        data = bytearray(newest.read_bytes())
        data[len(data) // 2] ^= 0xFF
        newest.write_bytes(data)
        warned = f"{newest.name} is damaged" in self.finish(run, "killed")
        self.check(warned, f"{newest.name} damaged: a warning, and one before is taken")

    def fill_disk(self):
        mount = self.folder / "tmpfs"
        mount.mkdir()
        size = f"size={TMPFS_MIB}m"
        mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", size, "tmpfs", mount], stderr=-1)
        if mounted.returncode:
            print("left out: the full disk, which needs the right to mount a tmpfs")
            return
        try:
            run, filler = mount / "run", mount / "filler"
            process = self.start(run)
            wait_for_progress(process, run)
            with open(filler, "wb", buffering=0) as file:
                try:
                    while True:
                        file.write(b"\0" * 4096)
                except OSError:
                    pass
            _, err = process.communicate(timeout=LONGEST_SECONDS)
            told = process.returncode == 1 and "No space left on device" in err
            self.check(told, f"full disk: stops with {err.strip().splitlines()[-1][:150]!r}")
            path, _, _ = Checkpoints(run / "checkpoints").newest()
            self.check(True, f"full disk: {path.name} is whole")
            filler.unlink()
            self.finish(run, "full disk")
        finally:
            subprocess.run(["umount", mount], check=True)

    def finish(self, run, name):
        """Lets a training go on to its end, and returns what it wrote to stderr."""
        process = self.start(run)
        _, err = process.communicate(timeout=LONGEST_SECONDS)
        if process.returncode:
            self.check(False, f"{name}: went on and failed: {err[-500:]}")
            return err
        _, expected, _ = Checkpoints(self.folder / "uninterrupted/checkpoints").newest()
        _, found, info = Checkpoints(run / "checkpoints").newest()
        different = [key for key in expected if not np.array_equal(expected[key], found[key])]
        self.check(
            found.keys() == expected.keys() and not different,
            f"{name}: after step {info['step']} all {len(expected)} arrays equal the "
            f"uninterrupted run's to the last bit{f', but {different[:3]}' if different else ''}",
        )
        return err


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=12, help="SIGKILLs (default 12)")
    parser.add_argument("--seed", type=int, default=0, help="of the moments (default 0)")
    parser.add_argument("--no-full-disk", action="store_true", help="leave the full disk out")
    parser.add_argument(
        "--epochs", type=int, help="of the training (default: enough for the kills)"
    )
    parser.add_argument("--child", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        child(arguments.child, arguments.epochs)
        return
    random.seed(arguments.seed)
    begin = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        drill = Drill(Path(folder), arguments.epochs or 10 + 2 * arguments.kills)
        process = drill.start(drill.folder / "uninterrupted")
        _, err = process.communicate(timeout=LONGEST_SECONDS)
        if process.returncode:
            sys.exit(err)
        run = drill.folder / "killed"
        for number in range(1, arguments.kills + 1):
            drill.kill(run, number)
        drill.terminate(run)
        drill.damage(run)
        if not arguments.no_full_disk:
            drill.fill_disk()
        shutil.rmtree(run)
    print(f"{time.monotonic() - begin:.0f} s, {drill.failures} failures")
    sys.exit(drill.failures > 0)


if __name__ == "__main__":
    main()
