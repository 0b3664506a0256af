"""Several devices and hosts compute what one does; what cannot work is refused with its reason."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import keras
import pytest

from keras_t2t.training import Options
from keras_t2t.training.distribution import choose_devices

BACKEND = keras.backend.backend()
SCRIPT = Path(__file__).with_name("replicas.py")
COMPARED = ("loss", "top1", "val_cross_entropy", "val_top1", "ema_val_cross_entropy")


def start(*arguments, **variables):
    root = SCRIPT.parents[2]
    return subprocess.Popen(
        [sys.executable, SCRIPT, *map(str, arguments)],
        env={**os.environ, "PYTHONPATH": str(root), "KERAS_BACKEND": BACKEND} | variables,
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


@pytest.fixture(scope="module")
def one(tmp_path_factory):
    """The log of one device."""
    history = result(start(tmp_path_factory.mktemp("one"), 1))
    assert len(history) == 5 and history[-1]["step"] == 20
    assert history[-1]["loss"] < 0.9 * history[0]["loss"]
    return history


# On JAX two are two hosts, below.
LONG = pytest.param({"tensorflow": 4}.get(BACKEND, 2), marks=pytest.mark.long)


@pytest.mark.not_torch  # which trains on one
@pytest.mark.parametrize("count", [{"tensorflow": 2}.get(BACKEND, 4), LONG])
def test_devices_agree_over_20_steps(count, one, tmp_path):
    # A process for each: TensorFlow's collectives do not outlive their strategy well.
    assert_agree(result(start(tmp_path, count)), one)


def free_port():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return str(free.getsockname()[1])


def start_hosts(folder):
    address = f"127.0.0.1:{free_port()}"
    return [start("--host", address, 2, host, folder) for host in (0, 1)]


@pytest.fixture(scope="module")
def two_hosts(tmp_path_factory):
    """What both hosts print, and their folder."""
    folder = tmp_path_factory.mktemp("hosts")
    return [result(host) for host in start_hosts(folder)], folder


@pytest.mark.skipif(BACKEND != "jax", reason="several hosts need JAX")
def test_two_hosts_end_with_identical_weights(two_hosts, one):
    ((weights, history), (others, other_history)), folder = two_hosts
    assert weights == others
    assert_agree(history, other_history)
    assert_agree(history, one)
    # Only the first host writes.
    assert (folder / "model.keras").is_file()


@pytest.mark.long
@pytest.mark.skipif(BACKEND != "jax", reason="several hosts need JAX")
def test_sigterm_to_one_host_stops_both_and_they_go_on_exactly(two_hosts, tmp_path):
    hosts = start_hosts(tmp_path)
    while not list(tmp_path.glob("checkpoints/*.npz")):
        assert hosts[0].poll() is None, hosts[0].communicate()[1][-3000:]
        time.sleep(0.01)
    hosts[0].send_signal(signal.SIGTERM)
    for host in hosts:
        # A host that waits for the other ends after 300 seconds only.
        _, err = host.communicate(timeout=100)
        assert host.returncode == 128 + signal.SIGTERM, err[-3000:]
    assert not (tmp_path / "results.json").exists()
    (weights, history), (others, _) = map(result, start_hosts(tmp_path))
    (expected, expected_history), _ = two_hosts[0]
    assert weights == others == expected
    assert_agree(history, expected_history)


SLURM = {"SLURM_NTASKS": "2", "SLURM_STEP_NODELIST": "127.0.0.1", "SLURM_JOB_ID": "1"}


@pytest.mark.long
@pytest.mark.skipif(BACKEND != "jax", reason="several hosts need JAX")
def test_the_only_process_of_a_slurm_node_uses_all_its_gpus():
    def srun(nodes, port):
        return [
            start(
                "--visible",
                **SLURM,
                SLURM_STEP_NUM_NODES=str(nodes),
                SLURM_PROCID=str(task),
                SLURM_LOCALID=str(task % (2 // nodes)),
                JAX_COORDINATOR_PORT=port,
            )
            for task in (0, 1)
        ]

    one_a_node, one_a_gpu = srun(2, free_port()), srun(1, free_port())
    assert [result(task) for task in one_a_node] == [["all", 2, 0], ["all", 2, 1]]
    assert [result(task) for task in one_a_gpu] == [["0", 2, 0], ["1", 2, 1]]


@pytest.mark.parametrize(
    ("variables", "message"),
    [
        (SLURM, "SLURM_NTASKS tells of 2 processes"),
        ({"OMPI_COMM_WORLD_SIZE": "2"}, "OMPI_COMM_WORLD_SIZE tells of 2 processes"),
        (
            {"TF_CONFIG": json.dumps({"cluster": {"chief": ["a:1"], "worker": ["b:1", "c:1"]}})},
            "TF_CONFIG tells of 3 processes",
        ),
    ],
)
@pytest.mark.skipif(BACKEND == "jax", reason="JAX trains in several processes")
def test_processes_that_know_nothing_of_each_other_are_refused(variables, message, monkeypatch):
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ValueError, match=message):
        choose_devices(Options())
    assert choose_devices(Options(strategy="one_device")).strategy == "one_device"


@pytest.mark.tensorflow
def test_one_process_of_a_slurm_allocation_trains(monkeypatch):
    monkeypatch.setenv("SLURM_NTASKS", "2")  # as salloc and sbatch set it, not srun
    assert choose_devices(Options()).hosts == 1


@pytest.mark.skipif(BACKEND != "jax", reason="several hosts need JAX")
def test_hosts_that_jax_does_not_find_are_told(monkeypatch):
    import jax

    updates = {}
    monkeypatch.setattr(jax.config, "update", updates.__setitem__)
    monkeypatch.setattr("jax._src.xla_bridge.backends_are_initialized", lambda: False)
    monkeypatch.setenv("SLURM_NTASKS", "2")
    with pytest.raises(ValueError, match="do not find each other .coordinator_address should be"):
        choose_devices(Options())


def test_refusals():
    cases = {
        "strategy: expected one of auto, mirrored": {"strategy": "multi_worker"},
        "devices: expected at least 1": {"devices": 0},
        "devices: expected 1 with strategy='one_device'": {"strategy": "one_device", "devices": 2},
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
        cases["expected strategy='data_parallel', got 'one_device'"] = {
            **hosts,
            "strategy": "one_device",
        }
        cases["devices: 4096 asked for"] = {"devices": 4096}
    if BACKEND == "torch":
        cases["trains on one device only"] = hosts
        cases["mirrored needs KERAS_BACKEND=tensorflow, got torch"] = {"strategy": "mirrored"}
    for message, arguments in cases.items():
        with pytest.raises(ValueError, match=message):
            choose_devices(Options(**arguments))


def test_one_device_is_what_a_cpu_has():
    devices = choose_devices(Options())
    assert (devices.strategy, devices.count, devices.hosts, devices.host) == ("one_device", 1, 1, 0)
