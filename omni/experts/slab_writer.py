"""Writing a slab: record by record, in any order, taken up again after a kill, one process at a time."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import logging
import os
import shutil
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from torch import Tensor

from omni.experts.record import Layout
from omni.experts.slab import (
    ENTRY,
    Contents,
    Key,
    OnDisk,
    Pool,
    Slab,
    SlabError,
    bytes_of,
    parse_slab,
    partial_of,
    read_at,
)

log = logging.getLogger(__name__)


class SlabWriter(OnDisk):
    """Writes a slab record by record, in any order, taking up what an earlier process left.

    State: the partial file, open and locked until ``close``, and left for the next attempt where it is not finished;
    its table; ``done``, whether the slab stands finished under its own name, which another process may have seen to
    while this one waited for the lock.
    """

    def __init__(self, target: Path, identity: str, layout: Layout, pools: Sequence[Pool]):
        """Raises SlabError where the folder cannot be written or has too little room for what is missing."""
        self.target, self.partial = Path(target), partial_of(target)
        self.contents = Contents(identity, layout, tuple(pools))
        self._table, self.done = np.zeros(len(self.contents.sizes), ENTRY), False
        with self._sentences():
            self.target.parent.mkdir(parents=True, exist_ok=True)
            self._file = _locked(self.partial)
            try:
                with contextlib.suppress(SlabError), Slab.open(self.target, identity) as slab:
                    self.done = slab.contents == self.contents
                if not self.done:
                    self._take_up()
                    if self._lacking() > 0:
                        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
                elif not os.fstat(self._file).st_size:
                    self.partial.unlink()  # made by opening it just now
            except BaseException:
                self.close()
                raise

    def missing(self) -> Iterator[Key]:
        """The records still to be written, in the order of the file."""
        for number, key in enumerate(() if self.done else self.contents.every_key()):
            if not self._table["written"][number]:
                yield key

    @property
    def total_bytes(self) -> int:
        """Bytes of all records."""
        return int(self.contents.sizes.sum())

    @property
    def written_bytes(self) -> int:
        """Bytes of the records that are written."""
        return self.total_bytes if self.done else int(self.contents.sizes @ self._table["written"].astype(np.int64))

    def put(self, pool: int, layer: int, expert: int, record: Tensor) -> None:
        """Write one record, (record_bytes,) uint8 on the CPU. Raises SlabError where the disk is full or fails."""
        number, offset, size = self.contents.place(pool, layer, expert)
        view = bytes_of(record, size)
        with self._sentences():
            write_at(self._file, view, offset)
            self._enter(number, zlib.crc32(view), 1)

    def finish(self) -> None:
        """Put all of it on the disk and give the file its name. Raises ValueError where records are missing."""
        if self.done:
            return
        if not self._table["written"].all():
            raise ValueError(f"{self.target} cannot be finished while records are missing")
        with self._sentences():
            os.fsync(self._file)
            write_at(self._file, self.contents.prefix(True, self._table), 0)
            os.fsync(self._file)
            os.replace(self.partial, self.target)
            folder = os.open(self.target.parent, os.O_RDONLY)
            try:
                os.fsync(folder)  # the name too
            finally:
                os.close(folder)
        self.done = True

    def _take_up(self) -> None:
        """Keep of the partial file what is of the same contents and undamaged; begin anew otherwise."""
        contents = None
        with contextlib.suppress(SlabError):
            contents, table, _ = parse_slab(self._file, self.partial)
        if contents != self.contents:
            os.ftruncate(self._file, 0)
            write_at(self._file, self.contents.prefix(False, self._table) + self.contents.header, 0)
            write_at(self._file, self._table.tobytes(), self.contents.table_at)
            return
        self._table = table
        for key in self.contents.every_key():
            number, offset, size = self.contents.place(*key)
            if table["written"][number] and zlib.crc32(read_at(self._file, size, offset)) != table["crc"][number]:
                self._enter(number, 0, 0)
        log.info("Going on with %s: %d of %d records are there", self.target, table["written"].sum(), len(table))

    def _enter(self, number: int, crc: int, written: int) -> None:
        self._table[number] = crc, written
        write_at(self._file, self._table[number].tobytes(), self.contents.table_at + number * ENTRY.itemsize)

    def _lacking(self) -> int:
        """Bytes that the disk lacks for what is still to be written."""
        folder = next(parent for parent in self.target.absolute().parents if parent.exists())
        return self.total_bytes - self.written_bytes - shutil.disk_usage(folder).free

    @contextlib.contextmanager
    def _sentences(self) -> Iterator[None]:
        """Failures of the disk as sentences."""
        try:
            yield
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                raise SlabError(f"The expert file {self.target} cannot be written: {error.strerror}.") from error
            lacking = max(1, -(-self._lacking() // 10**8)) / 10
            raise SlabError(
                f"The disk is full: {lacking:.1f} GB more are needed in {self.target.parent}. Make room and start "
                "again; what is written stays."
            ) from error


def _locked(partial: Path) -> int:
    """The partial file, opened, and locked against every other writer; waits for one that is at work."""
    while True:
        file = os.open(partial, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            log.info("Another process is writing %s; waiting until it is done", partial)
            fcntl.flock(file, fcntl.LOCK_EX)
        with contextlib.suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(file), os.stat(partial)):
                return file
        os.close(file)  # the process that had the lock has given the file its own name


def write_at(file: int, data: bytes | memoryview, offset: int) -> None:
    """Write all of ``data``."""
    view = memoryview(data)
    while view:
        done = os.pwrite(file, view, offset)
        view, offset = view[done:], offset + done
