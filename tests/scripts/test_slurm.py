"""The launch file for SLURM, with stand-ins for its commands."""

import os
import subprocess
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[2] / "examples/slurm/train.sbatch"


@pytest.mark.tensorflow
@pytest.mark.parametrize(
    ("status", "saves", "requeued"),
    [
        (0, True, False),
        (2, False, False),  # a wrong path
        (2, True, False),  # a loss that is NaN
        (143, True, True),
        (137, True, True),
        (137, False, False),  # it would be killed again
    ],
)
def test_requeued_only_if_a_signal_ended_a_training_that_got_further(
    status, saves, requeued, tmp_path
):
    checkpoints = tmp_path / "run/checkpoints"
    checkpoints.mkdir(parents=True)
    (checkpoints / "step-0000000010.npz").touch()
    save = f"touch {checkpoints}/step-0000000020.npz" if saves else ":"
    commands = {"srun": f"{save}; exit {status}", "scontrol": f'echo "$@" > {tmp_path}/told'}
    for name, line in commands.items():
        (tmp_path / name).write_text(f"#!/bin/sh\n{line}\n")
        (tmp_path / name).chmod(0o755)
    done = subprocess.run(
        ["bash", SCRIPT, "data", tmp_path / "run"],
        env={**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}", "SLURM_JOB_ID": "7"},
        check=False,
    )
    assert done.returncode == status
    told = tmp_path / "told"
    assert (told.read_text() if told.exists() else None) == ("requeue 7\n" if requeued else None)
