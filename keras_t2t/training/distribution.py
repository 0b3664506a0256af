"""On which devices a training runs: one, all of a machine, or those of many machines."""

import contextlib
import dataclasses
import json
import os

import keras
import numpy as np

STRATEGIES = ("auto", "mirrored", "data_parallel", "one_device")
_ISSUE = "keras issue 20585: values of several replicas cannot be converted to a tensor"
_USE_JAX = "Several hosts work on JAX: set KERAS_BACKEND=jax"
_GIVEN = ("coordinator_address", "num_processes", "process_id")


@dataclasses.dataclass(frozen=True)
class Devices:
    """The devices of a training, and this process' part in it.

    Attributes:
        strategy: "mirrored", "data_parallel" or "one_device".
        count: Int, devices of this host.
        hosts: Int, number of hosts.
        host: Int, number of this host, from 0.
        scope: Function without arguments: the context in which model and optimizer are created.
    """

    strategy: str
    count: int = 1
    hosts: int = 1
    host: int = 0
    scope: object = contextlib.nullcontext

    @property
    def jit_compile(self):
        """What `model.compile` is to be told."""
        on_gpu = bool(_tensorflow_devices("GPU")) if _backend() == "tensorflow" else True
        if _backend() == "tensorflow" and not on_gpu:
            # Keras' "auto" leaves XLA out on a CPU, where it is a third faster. Under
            # MirroredStrategy it cannot reach the variables of the other CPU devices.
            return self.strategy == "one_device"
        return "auto"


def choose_devices(strategy="auto", devices=None, coordinator=None, num_hosts=None, host_id=None):
    """Sets the devices up; before anything is computed.

    Args:
        strategy: "mirrored", `tf.distribute.MirroredStrategy` over the GPUs of this machine;
            "data_parallel", `keras.distribution.DataParallel` on JAX, over all devices of one or
            many hosts; "one_device"; "auto", the default: the first of them that the backend has
            and that there are several devices for.
        devices: Int, how many to use. On a machine without GPUs the CPU is split into so many
            logical devices, which shows that it works but is not faster. `None` means all.
        coordinator: "ADDRESS:PORT" of host 0, for JAX on many hosts. `None` means one host, or
            those that SLURM's `srun` or Open MPI's `mpirun` started; with "one_device" each of
            their processes trains by itself.
        num_hosts: Int, with `coordinator`.
        host_id: Int, number of this host, with `coordinator`. It uses all devices of the host.

    Returns:
        `Devices`.

    Raises:
        ValueError: If the backend cannot do what is asked for, or the hosts do not find each other;
            the message has the reason.
    """
    if strategy not in STRATEGIES:
        raise ValueError(f"strategy: expected one of {', '.join(STRATEGIES)}, got {strategy!r}")
    if devices is not None and devices < 1:
        raise ValueError(f"devices: expected at least 1, got {devices}")
    if strategy == "one_device" and (devices or 1) > 1:
        raise ValueError(f"devices: expected 1 with strategy one_device, got {devices}")
    given = (coordinator, num_hosts, host_id)
    many = any(value is not None for value in given)
    if many and None in given:
        raise ValueError("coordinator, num_hosts, host_id: expected all three or none")
    backend = _backend()
    _refuse(backend, strategy, many, devices)
    if backend != "jax" and strategy != "one_device":
        _refuse_many_processes(backend)
    if backend == "tensorflow":
        return _tensorflow(strategy, devices)
    if backend == "jax":
        return _jax(strategy, devices, given if many else None)
    return Devices("one_device")


def largest_of_hosts(values):
    """The largest that any host has of each of some ints; waits for all hosts to ask."""
    from jax.experimental import multihost_utils

    return multihost_utils.process_allgather(np.int32(values)).max(axis=0).tolist()


def _refuse(backend, strategy, many, devices):
    if many and backend == "tensorflow":
        raise ValueError(
            "coordinator: TensorFlow trains on one host only, because Keras 3's `fit` does not "
            f"work under MultiWorkerMirroredStrategy ({_ISSUE}). {_USE_JAX}"
        )
    if many and strategy in ("mirrored", "one_device"):
        raise ValueError(f"coordinator: expected strategy data_parallel, got {strategy}")
    needs = {"mirrored": "tensorflow", "data_parallel": "jax"}.get(strategy, backend)
    if needs != backend:
        raise ValueError(f"strategy: {strategy} needs KERAS_BACKEND={needs}, got {backend}")
    if backend == "torch" and (many or (devices or 1) > 1):
        raise ValueError(
            "devices: the torch backend of Keras trains on one device only. For several set "
            "KERAS_BACKEND to tensorflow or jax"
        )


def _refuse_many_processes(backend):
    """Several processes that know nothing of each other would train in the same folder."""
    workers = json.loads(os.environ.get("TF_CONFIG") or "{}").get("cluster", {})
    told = {
        # Without a list of its nodes this is no process that `srun` started.
        "SLURM_NTASKS": "SLURM_STEP_NODELIST" in os.environ and _number("SLURM_NTASKS"),
        "OMPI_COMM_WORLD_SIZE": _number("OMPI_COMM_WORLD_SIZE"),
        "TF_CONFIG": sum(len(workers.get(kind, ())) for kind in ("chief", "worker")),
    }
    for name, count in told.items():
        if count > 1:
            raise ValueError(
                f"strategy: {name} tells of {count} processes, but Keras trains in one only "
                f"on {backend}{f' ({_ISSUE})' if backend == 'tensorflow' else ''}. {_USE_JAX}. To "
                "train each process by itself, in a folder of its own, choose strategy one_device"
            )


def _number(variable):
    return int(os.environ.get(variable, "1"))


def _tensorflow(strategy, devices):
    import tensorflow as tf

    with contextlib.suppress(RuntimeError):  # TensorFlow runs already.
        # It takes as many threads as cores. On one core the steps and the data that they wait for,
        # or the end of the process, would lock each other out.
        if tf.config.threading.get_inter_op_parallelism_threads() == 0:
            threads = max(os.cpu_count(), 2 * (devices or 1) + 2)
            tf.config.threading.set_inter_op_parallelism_threads(threads)
    kind = "GPU" if _tensorflow_devices("GPU") else "CPU"
    if kind == "CPU" and (devices or 1) > 1:
        (cpu,) = tf.config.list_physical_devices("CPU")
        if len(tf.config.get_logical_device_configuration(cpu) or "1") < devices:
            try:
                tf.config.set_logical_device_configuration(
                    cpu, [tf.config.LogicalDeviceConfiguration()] * devices
                )
            except RuntimeError as error:
                raise ValueError(
                    "devices: TensorFlow is running already; split the CPU before it computes"
                ) from error
    names = [device.name for device in tf.config.list_logical_devices(kind)]
    _enough(devices, names)
    names = names[:devices]
    if strategy == "one_device" or (strategy == "auto" and len(names) == 1):
        return Devices("one_device")
    mirrored = tf.distribute.MirroredStrategy(names)
    return Devices("mirrored", len(names), scope=mirrored.scope)


def _tensorflow_devices(kind):
    import tensorflow as tf

    return tf.config.list_physical_devices(kind)


def _jax(strategy, devices, given):
    import jax

    several = any(_number(name) > 1 for name in ("SLURM_NTASKS", "OMPI_COMM_WORLD_SIZE"))
    several = several or "JAX_COORDINATOR_ADDRESS" in os.environ
    if given or (several and strategy != "one_device"):
        _connect(given)
    if devices is not None:
        with contextlib.suppress(RuntimeError):  # JAX runs already: it is told below.
            jax.config.update("jax_num_cpu_devices", devices)
    hosts, found = jax.process_count(), jax.devices()
    if hosts > 1 and devices is not None:
        raise ValueError("devices: expected none with several hosts, all are used")
    _enough(devices, found)
    if strategy == "one_device" or (strategy == "auto" and len(found) == 1):
        return Devices("one_device")
    chosen = found[:devices]
    mesh = keras.distribution.DeviceMesh(
        (len(chosen),), ["batch"], [f"{device.platform}:{device.id}" for device in chosen]
    )
    distribution = keras.distribution.DataParallel(device_mesh=mesh, auto_shard_dataset=False)
    return Devices(
        "data_parallel", len(chosen) // hosts, hosts, jax.process_index(), distribution.scope
    )


def _connect(given):
    import jax

    if jax.distributed.is_initialized():
        return
    # On CPUs the hosts talk through gloo; GPUs have NCCL.
    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    # It swallows SIGTERM as long as the training does not handle it.
    jax.config.update("jax_enable_preemption_service", False)
    if given:
        arguments = dict(zip(_GIVEN, given, strict=True), cluster_detection_method="deactivate")
    elif _alone_on_host():
        # JAX gives every process of SLURM and Open MPI one GPU. This one is to have all of its
        # host: without any listed there is no limit.
        arguments = {"local_device_ids": []}
    else:
        arguments = {}
    try:
        jax.distributed.initialize(**arguments)
    except (ValueError, RuntimeError) as error:
        raise ValueError(
            f"coordinator: the hosts do not find each other ({str(error).rstrip('.')}). "
            + (
                f"Tried {given[0]}"
                if given
                else "The environment tells of several: start them with srun or mpirun, or give "
                "coordinator, num_hosts and host_id, or choose strategy one_device"
            )
        ) from error


def _alone_on_host():
    if "OMPI_COMM_WORLD_SIZE" in os.environ:
        return _number("OMPI_COMM_WORLD_LOCAL_SIZE") == 1
    return _number("SLURM_NTASKS") == _number("SLURM_STEP_NUM_NODES")


def _enough(devices, found):
    if devices and devices > len(found):
        raise ValueError(f"devices: {devices} asked for, but there are {len(found)}")


def _backend():
    return keras.backend.backend()
