"""The fault drill, in short."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest

from keras_t2t.training.checkpoints import Checkpoints

BACKEND = keras.backend.backend()
SCRIPT = Path(__file__).resolve().parents[2] / "scripts/fault_drill.py"


@pytest.mark.above_backends
@pytest.mark.slow
def test_a_training_that_is_killed_ends_like_one_that_is_not():
    done = subprocess.run(
        [sys.executable, SCRIPT, "--kills", "1", "--epochs", "3", "--no-full-disk"],
        env={**os.environ, "PYTHONPATH": str(SCRIPT.parents[1]), "KERAS_BACKEND": BACKEND},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr[-2000:]
    assert "killed: after step" in done.stdout and "to the last bit" in done.stdout


@pytest.mark.tensorflow
def test_a_checkpoint_that_a_kill_damages_is_a_failure(tmp_path, monkeypatch):
    spec = importlib.util.spec_from_file_location("fault_drill", SCRIPT)
    fault_drill = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(fault_drill)
    checkpoints = Checkpoints(tmp_path / "checkpoints")
    for step in (1, 2):
        newest = checkpoints.save(step, {"a": np.arange(100)}, {"step": step})
    sleep = [sys.executable, "-c", "import time; time.sleep(60)"]
    monkeypatch.setattr(fault_drill.Drill, "start", lambda *_: subprocess.Popen(sleep))
    monkeypatch.setattr(fault_drill, "wait_for_progress", lambda *_: None)
    drill = fault_drill.Drill(tmp_path, epochs=1)
    drill.kill(tmp_path, 1)
    assert drill.failures == 0
    newest.write_bytes(newest.read_bytes()[:-100])
    with pytest.warns(UserWarning, match="is damaged"):
        drill.kill(tmp_path, 2)
    assert drill.failures == 1
