"""The slab: one file with the 4-bit experts of a model, one record an expert, each at the start of a page.

    prefix | header (JSON) | CRC32 of every record, and whether it is written | records, by pool, layer and expert

A slab is written under the name ``NAME.partial``, which a killed conversion takes up again, and gets its own name only
when all of it is on the disk. Reading is by ``preadv``, never by a map: an unreadable page must be an error to catch,
not a signal. Knows nothing of checkpoints or caches.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import struct
import zlib
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Self

import numpy as np
import torch
from torch import Tensor

from omni.experts.record import PAGE, ExpertShape, Layout

MAGIC = b"omnislab"
VERSION = 1
PREFIX = struct.Struct("<8s6I")  # magic, version, complete, bytes and CRC of the header, CRC of the table, CRC of these
ENTRY = np.dtype([("crc", "<u4"), ("written", "<u4")])
AGAIN = "delete it and convert the checkpoint again"

Key = tuple[int, int, int]  # pool, layer within the pool, expert


class SlabError(Exception):
    """A slab that cannot be read, written or made; the text says what happened and what to do."""


@dataclass(frozen=True)
class Pool:
    """Experts of one size: the dotted names of their modules in the model, and how many each module holds."""

    name: str
    layers: tuple[str, ...]
    experts: int
    shape: ExpertShape

    @property
    def records(self) -> int:
        return len(self.layers) * self.experts


@dataclass(frozen=True)
class Contents:
    """What a slab holds, which is what its header says, and where in the file each part stands."""

    identity: str
    layout: Layout
    pools: tuple[Pool, ...]

    @cached_property
    def header(self) -> bytes:
        pools = [asdict(pool) for pool in self.pools]
        return json.dumps({"identity": self.identity, "layout": self.layout, "pools": pools}).encode()

    @staticmethod
    def parse(header: bytes) -> Contents:
        """The inverse of ``header``. Raises ValueError, KeyError or TypeError where it is something else."""
        told = json.loads(header)
        pools = [
            Pool(**{**pool, "layers": tuple(pool["layers"]), "shape": ExpertShape(**pool["shape"])})
            for pool in told["pools"]
        ]
        return Contents(told["identity"], told["layout"], tuple(pools))

    @property
    def table_at(self) -> int:
        return _page_up(PREFIX.size + len(self.header))

    @property
    def records_at(self) -> int:
        return _page_up(self.table_at + ENTRY.itemsize * len(self.sizes))

    @cached_property
    def sizes(self) -> np.ndarray:
        """Bytes of every record, (records,) int64, in the order of the file."""
        sizes = np.array([pool.shape.record_bytes for pool in self.pools], np.int64)
        return sizes.repeat([pool.records for pool in self.pools])

    @cached_property
    def ends(self) -> np.ndarray:
        """Where in the file every record ends, (records,) int64."""
        return self.records_at + np.cumsum(self.sizes)

    @property
    def size(self) -> int:
        """Bytes of the whole file."""
        return self.records_at + int(self.sizes.sum())

    def place(self, pool: int, layer: int, expert: int) -> tuple[int, int, int]:
        """The record's number, its offset and its size in bytes. Raises IndexError for what the slab does not hold."""
        it = self.pools[pool]
        if not (pool >= 0 and 0 <= layer < len(it.layers) and 0 <= expert < it.experts):
            raise IndexError(f"no expert {expert} in layer {layer} of pool {pool}")
        number = sum(before.records for before in self.pools[:pool]) + layer * it.experts + expert
        return number, int(self.ends[number]) - it.shape.record_bytes, it.shape.record_bytes

    def every_key(self) -> Iterator[Key]:
        """All records in the order of the file."""
        for index, pool in enumerate(self.pools):
            yield from ((index, layer, expert) for layer in range(len(pool.layers)) for expert in range(pool.experts))

    def prefix(self, complete: bool, table: np.ndarray) -> bytes:
        fields = (MAGIC, VERSION, complete, len(self.header), zlib.crc32(self.header), zlib.crc32(table.tobytes()))
        return PREFIX.pack(*fields, zlib.crc32(PREFIX.pack(*fields, 0)[:-4]))


class OnDisk(contextlib.AbstractContextManager):
    """What is closed at the end of its context. State: the open file, -1 when it is closed."""

    _file = -1

    def close(self) -> None:
        """Let go of the file, and of a writer's lock on it."""
        if self._file >= 0:
            os.close(self._file)
        self._file = -1

    def __exit__(self, *_) -> None:
        self.close()


class Slab(OnDisk):
    """A finished slab, open for reading, by any number of threads and by forked processes too.

    State: the open file; by record, whether its checksum was compared in this process.
    """

    def __init__(self, path: Path, file: int, contents: Contents, table: np.ndarray):
        self.path, self.contents = path, contents
        self.identity, self.layout, self.pools = contents.identity, contents.layout, contents.pools
        self._file, self._table = file, table
        self._known = bytearray(len(table))

    @classmethod
    def open(cls, path: Path, identity: str | None = None) -> Self:
        """The slab at ``path``, of the checkpoint ``identity`` where one is asked for.

        Raises SlabError where there is none, or where it is of another version or checkpoint, truncated, incomplete or
        damaged in its header.
        """
        path = Path(path)
        try:
            file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError as error:
            begun = partial_of(path).exists()
            why = "Its conversion was not finished; start it again and it goes on" if begun else "Convert it first"
            raise SlabError(f"There is no expert file {path}. {why}.") from error
        except OSError as error:
            raise SlabError(f"The expert file {path} cannot be opened: {error.strerror}.") from error
        try:
            contents, table, complete = parse_slab(file, path)
            if not complete:
                raise SlabError(f"The expert file {path} was never finished; {AGAIN}.")
            if identity not in (None, contents.identity):
                raise SlabError(f"{path} holds the experts of another checkpoint; {AGAIN}, or name another file.")
            if (size := os.fstat(file).st_size) != contents.size:
                how = "truncated" if size < contents.size else "too long"
                raise SlabError(f"{path} is {how}: {size} bytes where {contents.size} are due; {AGAIN}.")
        except BaseException:
            os.close(file)
            raise
        return cls(path, file, contents, table)

    @property
    def checksum(self) -> str:
        """One hex digest for all records: equal for equal experts in an equal layout, whatever the checkpoint."""
        return hashlib.sha256(self._table.tobytes()).hexdigest()[:32]

    def read(self, pool: int, layer: int, expert: int, out: Tensor, verify: bool = True) -> None:
        """Fill ``out``, (record_bytes,) uint8 on the CPU, with an expert's record.

        With ``verify`` its checksum is compared when it is read for the first time. Raises SlabError where the file
        cannot be read or the record is damaged: then ``out`` holds nothing of use.
        """
        number, offset, size = self.contents.place(pool, layer, expert)
        view = bytes_of(out, size)
        where = f"{self.path}, expert {expert} of {self.pools[pool].layers[layer]},"
        try:
            got = _fill(self._file, view, offset)
        except OSError as error:
            raise SlabError(f"{where} cannot be read ({error.strerror}): the disk may be failing; check it.") from error
        if got < size:
            raise SlabError(f"{where} is missing, the file has become shorter; {AGAIN}.")
        if verify and not self._known[number]:
            if zlib.crc32(view) != self._table["crc"][number]:
                raise SlabError(f"{where} is damaged; delete the file and convert the checkpoint again.")
            self._known[number] = 1

    def verify(self) -> None:
        """Read every record and compare its checksum. Raises SlabError at the first that is not as it was written."""
        self._known = bytearray(len(self._table))
        for key in self.contents.every_key():
            self.read(*key, torch.empty(self.pools[key[0]].shape.record_bytes, dtype=torch.uint8))

    def advise(self, pool: int, layer: int, expert: int) -> None:
        """Ask the system to read a record ahead, where it takes such advice."""
        if hasattr(os, "posix_fadvise"):
            _, offset, size = self.contents.place(pool, layer, expert)
            os.posix_fadvise(self._file, offset, size, os.POSIX_FADV_WILLNEED)


def partial_of(target: Path) -> Path:
    """Where a slab is written before it is finished."""
    return Path(target).with_name(f"{Path(target).name}.partial")


def parse_slab(file: int, path: Path) -> tuple[Contents, np.ndarray, bool]:
    """Contents, table, and whether the slab is complete. Raises SlabError where the header is not a sound one."""
    damaged = SlabError(f"The header of {path} is damaged or cut off; {AGAIN}.")
    try:
        prefix = read_at(file, PREFIX.size, 0)
        if len(prefix) < PREFIX.size or not prefix.startswith(MAGIC):
            raise SlabError(f"{path} is not an expert file; {AGAIN}.")
        _, version, complete, size, header_crc, table_crc, prefix_crc = PREFIX.unpack(prefix)
        if version != VERSION:
            raise SlabError(f"{path} is of format {version}, and this program reads format {VERSION}; {AGAIN}.")
        header = read_at(file, size, PREFIX.size) if zlib.crc32(prefix[:-4]) == prefix_crc else b""
        if not header or zlib.crc32(header) != header_crc:
            raise damaged
        contents = Contents.parse(bytes(header))
        table = np.frombuffer(read_at(file, ENTRY.itemsize * len(contents.sizes), contents.table_at), ENTRY)
    except OSError as error:
        raise SlabError(f"{path} cannot be read ({error.strerror}): the disk may be failing; check it.") from error
    except (ValueError, KeyError, TypeError) as error:
        raise damaged from error
    if len(table) < len(contents.sizes) or complete and zlib.crc32(table) != table_crc:
        raise damaged
    return contents, table, bool(complete)


def _page_up(at: int) -> int:
    return -(-at // PAGE) * PAGE


def bytes_of(record: Tensor, size: int) -> memoryview:
    """The bytes of a tensor, not copied. Raises ValueError where it is no record of ``size`` bytes."""
    if record.shape != (size,) or record.dtype != torch.uint8 or record.device.type != "cpu" or record.stride() != (1,):
        raise ValueError(f"a record is ({size},) uint8 on the CPU, not {tuple(record.shape)} {record.dtype}")
    return memoryview(record.numpy())


def _fill(file: int, view: memoryview, offset: int) -> int:
    """Read into ``view`` until it is full or the file ends; the number of bytes."""
    done = 0
    while done < len(view) and (got := os.preadv(file, [view[done:]], offset + done)):
        done += got
    return done


def read_at(file: int, size: int, offset: int) -> bytearray:
    """Up to ``size`` bytes, fewer where the file ends."""
    held = bytearray(min(size, max(0, os.fstat(file).st_size - offset)))
    with memoryview(held) as view:
        got = _fill(file, view, offset)
    del held[got:]
    return held
