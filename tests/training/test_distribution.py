"""Several devices and hosts compute what one does; what cannot work is refused with its reason."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import keras
import pytest

from keras_t2t.training.distribution import choose_devices

BACKEND = keras.backend.backend()
SCRIPT = Path(__file__).with_name("replicas.py")
COMPARED = ("loss", "top1", "val_cross_entropy", "val_top1", "ema_val_cross_entropy")


def start(*arguments):
    root = SCRIPT.parents[2]
    return subprocess.Popen(
        [sys.executable, SCRIPT, *map(str, arguments)],
        env={**os.environ, "PYTHONPATH": str(root), "KERAS_BACKEND": BACKEND},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def result(process):
    out, err = process.communicate(timeout=240)
    assert process.returncode == 0, err[-3000:]
    return json.loads(out.split("RESULT", 1)[1])


def assert_agree(history, expected):
    for row, other in zip(history, expected, strict=True):
        for name in COMPARED:
            assert row[name] == pytest.approx(other[name], abs=1e-4), (row["epoch"], name)


@pytest.mark.skipif(BACKEND == "torch", reason="torch trains on one device")
def test_one_two_and_four_devices_agree_over_20_steps(tmp_path):
    # A process for each: TensorFlow's collectives do not outlive their strategy well.
    one, *several = [result(start(tmp_path, count)) for count in (1, 2, 4)]
    assert len(one) == 10 and one[-1]["step"] == 20
    assert one[-1]["loss"] < 0.9 * one[0]["loss"]
    for history in several:
        assert_agree(history, one)


@pytest.mark.skipif(BACKEND != "jax", reason="several hosts need JAX")
def test_two_hosts_end_with_identical_weights(tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    hosts = [start("--host", address, 2, host, tmp_path / "run") for host in (0, 1)]
    (weights, history), (others, other_history) = map(result, hosts)
    assert weights == others
    assert_agree(history, other_history)
    one = result(start(tmp_path, 1))
    assert_agree(history, one)
    # Only the first host writes.
    assert (tmp_path / "run" / "model.keras").is_file()


def test_refusals():
    cases = {
        "strategy: expected one of auto, mirrored": {"strategy": "multi_worker"},
        "devices: expected at least 1": {"devices": 0},
        "devices: expected 1 with strategy one_device": {"strategy": "one_device", "devices": 2},
        "coordinator, num_hosts, host_id: expected all three or none": {"num_hosts": 2},
    }
    hosts = {"coordinator": "localhost:1", "num_hosts": 2, "host_id": 0}
    if BACKEND == "tensorflow":
        cases["keras issue 20585"] = hosts
        cases["data_parallel needs KERAS_BACKEND=jax, got tensorflow"] = {
            "strategy": "data_parallel"
        }
    if BACKEND == "jax":
        keras.ops.zeros(())  # JAX runs: its devices are counted
        cases["expected strategy data_parallel, got one_device"] = {
            **hosts,
            "strategy": "one_device",
        }
        cases["devices: 4096 asked for"] = {"devices": 4096}
    if BACKEND == "torch":
        cases["trains on one device only"] = hosts
        cases["mirrored needs KERAS_BACKEND=tensorflow, got torch"] = {"strategy": "mirrored"}
    for message, arguments in cases.items():
        with pytest.raises(ValueError, match=message):
            choose_devices(**arguments)


def test_one_device_is_what_a_cpu_has():
    devices = choose_devices()
    assert (devices.strategy, devices.count, devices.hosts, devices.host) == ("one_device", 1, 1, 0)
