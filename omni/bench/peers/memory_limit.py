"""A memory limit that the page cache counts in: a control group of Linux (v1 or v2) around one process.

Needs the right to make a group below (v1) or beside (v2) our own, as root has it where the controller is mounted.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

PROC, SYS = Path("/proc/self"), Path("/sys")
PATIENCE = 5.0  # seconds in which the last process of a group should have gone


class NoMemoryLimitError(Exception):
    """Memory cannot be limited here; the message says why."""


@dataclass(frozen=True)
class Group:
    """A control group with a limit: where it is, and what the kernel has counted in it."""

    path: Path
    version: int

    def peak_mb(self) -> float:
        """The most memory the group has had, page cache included; 0.0 where the kernel does not say."""
        name = "memory.max_usage_in_bytes" if self.version == 1 else "memory.peak"
        file = self.path / name
        return round(int(file.read_text()) / 2**20, 1) if file.exists() else 0.0


@contextlib.contextmanager
def memory_limit(limit_bytes: int) -> Iterator[Group]:
    """A new group that may hold ``limit_bytes``, swap off; removed in the end. A process joins it with ``join``.

    Raises NoMemoryLimitError where no group can be made.
    """
    parent, version = _parent()
    group = Group(parent / f"omni-bench-{os.getpid()}-{time.monotonic_ns()}", version)
    try:
        group.path.mkdir()
    except OSError as error:
        raise NoMemoryLimitError(f"No control group can be made in {parent}: {error.strerror}.") from error
    try:
        _limit(group, limit_bytes)
        yield group
    finally:
        _remove(group)


def join(path: str | Path) -> None:
    """Move this process into the group at ``path``; what it allocates or reads from now on counts there."""
    (Path(path) / "cgroup.procs").write_text(str(os.getpid()))


def evict(*paths: str | Path) -> None:
    """Drop files, or all files in folders, from the page cache, so that whoever reads them next starts cold."""
    for path in map(Path, paths):
        for file in sorted(path.rglob("*")) if path.is_dir() else [path]:
            if file.is_file():
                descriptor = os.open(file, os.O_RDONLY)
                try:
                    os.fsync(descriptor)  # what is not on the disk yet cannot be dropped
                    os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
                finally:
                    os.close(descriptor)


def read_ahead_kb(path: str | Path) -> int | None:
    """How much of a mapped file the kernel reads around a missing page, at the most; None where it does not say.

    128 is its default. A device with megabytes here makes whoever maps a file larger than memory very slow.
    """
    device = Path(path).stat().st_dev
    file = SYS / "class/bdi" / f"{os.major(device)}:{os.minor(device)}" / "read_ahead_kb"
    return int(file.read_text()) if file.exists() else None


def _parent() -> tuple[Path, int]:
    """The group to make ours in, and the version of its controller."""
    groups = dict(_own_groups())
    for mount, kind, options in _mounts():
        if kind == "cgroup" and "memory" in options.split(","):
            own = mount / groups.get("memory", "/").lstrip("/")
            return (own if own.is_dir() else mount), 1
    for mount, kind, _ in _mounts():
        if kind == "cgroup2":
            own = mount / groups.get("", "/").lstrip("/")
            parent = own.parent if own != mount and own.is_dir() else mount  # a v2 group with processes has no children
            if "memory" in (parent / "cgroup.subtree_control").read_text().split():
                return parent, 2
    raise NoMemoryLimitError("This machine has no memory controller for control groups.")


def _own_groups() -> Iterator[tuple[str, str]]:
    """Our group by controller; version 2 has no name."""
    for line in (PROC / "cgroup").read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        yield from ((controller, path) for controller in controllers.split(","))


def _mounts() -> Iterator[tuple[Path, str, str]]:
    """Where what kind of file system is mounted, and its own options."""
    for line in (PROC / "mountinfo").read_text().splitlines():
        place, _, system = line.partition(" - ")
        kind, _, options = system.split(" ", 2)
        yield Path(place.split(" ")[4]), kind, options


def _limit(group: Group, limit_bytes: int) -> None:
    memory, swap = ("memory.limit_in_bytes", "memory.memsw.limit_in_bytes") if group.version == 1 else (
        "memory.max", "memory.swap.max",
    )  # fmt: skip
    try:
        (group.path / memory).write_text(str(limit_bytes))
        if (group.path / swap).exists():  # v1 counts memory and swap together
            (group.path / swap).write_text(str(limit_bytes) if group.version == 1 else "0")
    except OSError as error:
        raise NoMemoryLimitError(f"The limit of {group.path} cannot be set: {error.strerror}.") from error


def _remove(group: Group) -> None:
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            group.path.rmdir()
            return
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)
