"""Where a training runs; what is trained, and how, is the recipe's."""

import dataclasses
from typing import Any

from keras_t2t import validation

STRATEGIES = ("auto", "mirrored", "data_parallel", "one_device")


@dataclasses.dataclass(frozen=True)
class Options:
    """Where a training runs: on which data and devices, and how often it saves.

    Args:
        data: "tfds:NAME", a prepared TFDS folder, an image folder with train/ and val/, or a folder
            of IDX files; from Python also pairs of arrays (images, labels), as
            {"train": pair, "validation": pair}.
        data_dir: Folder of all TFDS data sets. Defaults to TFDS' own.
        manual_dir: Folder of what TFDS cannot download, such as ImageNet's tar files.
        bad_images: What to do about an image that cannot be read or decoded: "error" stops
            the run with its name; "skip" puts another image in its place, counts it and names it at
            the end.
        strategy: How to use several devices: "mirrored" (TensorFlow, the GPUs of one machine),
            "data_parallel" (JAX, all devices of one or many hosts), "one_device", or "auto", the
            first of them that the backend has and that there are several devices for.
        devices: Number of devices to use. Defaults to all. On a machine without GPUs the CPU is
            split into that many logical devices, which shows that it works but is not faster.
        coordinator: ADDRESS:PORT of host 0, for JAX on many hosts. Defaults to one host, or those
            that SLURM's srun or Open MPI's mpirun started; with "one_device" each of their
            processes trains by itself.
        num_hosts: Number of hosts, with the coordinator.
        host_id: Number of this host, from 0, with the coordinator.
        checkpoint_minutes: Minutes from one checkpoint to the next; one is also written after every
            epoch.
        keep_checkpoints: Number of checkpoints to keep.
        tensorboard: Whether to log for TensorBoard too.

    Raises:
        ValueError: If a value is out of range, or they do not fit each other.
    """

    data: Any = None
    data_dir: str | None = None
    manual_dir: str | None = None
    bad_images: str = "error"
    strategy: str = "auto"
    devices: int | None = None
    coordinator: str | None = None
    num_hosts: int | None = None
    host_id: int | None = None
    checkpoint_minutes: float = 10.0
    keep_checkpoints: int = 3
    tensorboard: bool = False

    def __post_init__(self):
        for name, choices in {"bad_images": ("error", "skip"), "strategy": STRATEGIES}.items():
            expected = f"one of {', '.join(choices)}"
            validation.fields(self, expected, choices.__contains__, name)
        validation.fields(self, "above 0", lambda value: value > 0, "checkpoint_minutes")
        validation.fields(self, "at least 1", lambda value: value >= 1, "keep_checkpoints")
        validation.fields(self, "at least 1", lambda value: value is None or value >= 1, "devices")
        if self.strategy == "one_device" and (self.devices or 1) > 1:
            raise ValueError(f"devices: expected 1 with strategy='one_device', got {self.devices}")
        given = (self.coordinator, self.num_hosts, self.host_id)
        if self.many_hosts and None in given:
            raise ValueError("coordinator, num_hosts, host_id: expected all three or none")

    @property
    def many_hosts(self) -> bool:
        """Whether the hosts are named here, not by the environment."""
        return (self.coordinator, self.num_hosts, self.host_id) != (None, None, None)
