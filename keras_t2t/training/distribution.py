"""On which devices a training runs: one, all of a machine, or those of many machines."""

import contextlib
import dataclasses
import json
import os
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import keras
import numpy as np

from keras_t2t.training.options import Options

_ISSUE = "keras issue 20585: values of several replicas cannot be converted to a tensor"
_USE_JAX = "Several hosts work on JAX: set KERAS_BACKEND=jax"


@dataclasses.dataclass(frozen=True)
class Devices:
    """The devices of a training, and this process' part in it.

    Attributes:
        strategy: "mirrored", "data_parallel" or "one_device".
        count: Number of devices of this host.
        hosts: Number of hosts.
        host: Number of this host, from 0.
        scope: Function without arguments: the context in which model and optimizer are created.
    """

    strategy: str = "one_device"
    count: int = 1
    hosts: int = 1
    host: int = 0
    scope: Callable[[], AbstractContextManager] = contextlib.nullcontext

    @property
    def jit_compile(self) -> bool | str:
        """What `model.compile` is to be told."""
        if keras.backend.backend() == "tensorflow" and _tensorflow_kind() == "CPU":
            # Keras' "auto" leaves XLA out on a CPU, where it is a third faster. Under
            # MirroredStrategy it cannot reach the variables of the other CPU devices.
            return self.strategy == "one_device"
        return "auto"

    @property
    def writes(self) -> bool:
        """Whether this process writes the run's files: of several hosts only the first does."""
        return self.host == 0

    def agree(self, values: list[int]) -> list[int]:
        """The largest that any host has of each value; waits for all hosts to ask."""
        if self.hosts == 1:
            return values
        from jax.experimental import multihost_utils

        return multihost_utils.process_allgather(np.array(values, "int32")).max(axis=0).tolist()


def choose_devices(options: Options) -> Devices:
    """Sets up the devices that the options ask for; before anything is computed.

    Strategy "auto" is `tf.distribute.MirroredStrategy` over the GPUs of this machine on TensorFlow,
    `keras.distribution.DataParallel` over all devices of one or many hosts on JAX, and one device
    where there is only one, or on PyTorch.

    Raises:
        ValueError: If the backend cannot do what is asked for, or the hosts do not find each other;
            the message has the reason.
    """
    backend = keras.backend.backend()
    _refuse(options, backend)
    if backend == "tensorflow":
        return _tensorflow(options)
    if backend == "jax":
        return _jax(options)
    return Devices()


def _refuse(options, backend):
    if options.many_hosts and backend == "tensorflow":
        raise ValueError(
            "coordinator: TensorFlow trains on one host only, because Keras 3's `fit` does not "
            f"work under MultiWorkerMirroredStrategy ({_ISSUE}). {_USE_JAX}"
        )
    if options.many_hosts and options.strategy in ("mirrored", "one_device"):
        raise ValueError(
            f"coordinator: expected strategy='data_parallel', got {options.strategy!r}"
        )
    chosen = options.strategy
    needed = {"mirrored": "tensorflow", "data_parallel": "jax"}.get(chosen, backend)
    if needed != backend:
        raise ValueError(f"strategy: {chosen} needs KERAS_BACKEND={needed}, got {backend}")
    if backend == "torch" and (options.many_hosts or (options.devices or 1) > 1):
        raise ValueError(
            "devices: the torch backend of Keras trains on one device only. For several set "
            "KERAS_BACKEND to tensorflow or jax"
        )
    if backend == "jax" or options.strategy == "one_device":
        return
    # Several processes that know nothing of each other would train in the same folder.
    workers = json.loads(os.environ.get("TF_CONFIG") or "{}").get("cluster", {})
    processes = {
        # Without a list of its nodes this is no process that `srun` started.
        "SLURM_NTASKS": "SLURM_STEP_NODELIST" in os.environ and _number("SLURM_NTASKS"),
        "OMPI_COMM_WORLD_SIZE": _number("OMPI_COMM_WORLD_SIZE"),
        "TF_CONFIG": sum(len(workers.get(kind, ())) for kind in ("chief", "worker")),
    }
    for name, count in processes.items():
        if count > 1:
            raise ValueError(
                f"strategy: {name} tells of {count} processes, but Keras trains in one only "
                f"on {backend}{f' ({_ISSUE})' if backend == 'tensorflow' else ''}. {_USE_JAX}. To "
                "train each process by itself, in a folder of its own, choose strategy='one_device'"
            )


def _number(variable):
    return int(os.environ.get(variable, "1"))


def _first(found, options):
    """The devices to use of those that there are."""
    if options.devices and options.devices > len(found):
        raise ValueError(f"devices: {options.devices} asked for, but there are {len(found)}")
    return found[: options.devices]


def _is_one(options, chosen):
    return options.strategy == "one_device" or (options.strategy == "auto" and len(chosen) == 1)


def _tensorflow_kind():
    import tensorflow as tf

    return "GPU" if tf.config.list_physical_devices("GPU") else "CPU"


def _tensorflow(options):
    import tensorflow as tf

    count, kind = options.devices or 1, _tensorflow_kind()
    with contextlib.suppress(RuntimeError):  # TensorFlow runs already.
        # It takes as many threads as cores. On one core the steps and the data that they wait for,
        # or the end of the process, would lock each other out.
        if tf.config.threading.get_inter_op_parallelism_threads() == 0:
            threads = max(os.cpu_count() or 1, 2 * count + 2)
            tf.config.threading.set_inter_op_parallelism_threads(threads)
    if kind == "CPU" and count > 1:
        (cpu,) = tf.config.list_physical_devices("CPU")
        if len(tf.config.get_logical_device_configuration(cpu) or "1") < count:
            parts = [tf.config.LogicalDeviceConfiguration()] * count
            try:
                tf.config.set_logical_device_configuration(cpu, parts)
            except RuntimeError as error:
                raise ValueError(
                    "devices: TensorFlow is running already; split the CPU before it computes"
                ) from error
    chosen = _first([device.name for device in tf.config.list_logical_devices(kind)], options)
    if _is_one(options, chosen):
        return Devices()
    mirrored = tf.distribute.MirroredStrategy(chosen)
    return Devices("mirrored", len(chosen), scope=mirrored.scope)


def _jax(options):
    import jax

    several = any(_number(name) > 1 for name in ("SLURM_NTASKS", "OMPI_COMM_WORLD_SIZE"))
    several = several or "JAX_COORDINATOR_ADDRESS" in os.environ
    if options.many_hosts or (several and options.strategy != "one_device"):
        _connect(options)
    if options.devices is not None:
        with contextlib.suppress(RuntimeError):  # JAX runs already: it is told below.
            jax.config.update("jax_num_cpu_devices", options.devices)
    hosts = jax.process_count()
    if hosts > 1 and options.devices is not None:
        raise ValueError("devices: expected none with several hosts, all are used")
    chosen = _first(jax.devices(), options)
    if _is_one(options, chosen):
        return Devices()
    mesh = keras.distribution.DeviceMesh(
        (len(chosen),), ["batch"], [f"{device.platform}:{device.id}" for device in chosen]
    )
    distribution = keras.distribution.DataParallel(device_mesh=mesh, auto_shard_dataset=False)
    return Devices(
        "data_parallel", len(chosen) // hosts, hosts, jax.process_index(), distribution.scope
    )


def _connect(options):
    import jax

    if jax.distributed.is_initialized():
        return
    # On CPUs the hosts talk through gloo; GPUs have NCCL.
    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    # It swallows SIGTERM as long as the training does not handle it.
    jax.config.update("jax_enable_preemption_service", False)
    arguments: dict[str, Any] = {}
    if options.many_hosts:
        arguments = {
            "coordinator_address": options.coordinator,
            "num_processes": options.num_hosts,
            "process_id": options.host_id,
            "cluster_detection_method": "deactivate",
        }
    elif _alone_on_host():
        # JAX gives every process of SLURM and Open MPI one GPU. This one is to have all of its
        # host: without any listed there is no limit.
        arguments = {"local_device_ids": []}
    try:
        jax.distributed.initialize(**arguments)
    except (ValueError, RuntimeError) as error:
        tried = (
            f"Tried {options.coordinator}"
            if options.many_hosts
            else "The environment tells of several: start them with srun or mpirun, or give "
            "`coordinator`, `num_hosts` and `host_id`, or choose strategy='one_device'"
        )
        raise ValueError(
            f"coordinator: the hosts do not find each other ({str(error).rstrip('.')}). {tried}"
        ) from error


def _alone_on_host():
    if "OMPI_COMM_WORLD_SIZE" in os.environ:
        return _number("OMPI_COMM_WORLD_LOCAL_SIZE") == 1
    return _number("SLURM_NTASKS") == _number("SLURM_STEP_NUM_NODES")
