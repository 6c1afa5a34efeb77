"""What one expert looks like in memory and on disk: its two matrices in NF4, packed bytes first, block maxima behind.

    record = gate and up | down | absmax of gate and up | absmax of down | zeros up to a page

Two layouts hold the same numbers. ``rows`` is bitsandbytes' own: row by row, the first of two neighbours in the high
half of a byte. ``tiles`` is what its AVX512-BF16 kernel reads: 32 rows side by side, and the block maxima transposed.
Knows nothing of files, caches or models.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import torch
from torch import Tensor

from omni.experts import nf4

PAGE = 4096  # bytes; records start on pages, so that they can be read past the page cache
TILE = 32  # rows that the packed kernel takes at once

Layout = Literal["rows", "tiles"]


@dataclass(frozen=True)
class Matrix:
    """One 4-bit matrix (rows, columns) of a record: where its bytes and its block maxima stand, in bytes."""

    rows: int
    columns: int
    packed_at: int
    absmax_at: int

    @property
    def packed_bytes(self) -> int:
        return self.rows * self.columns // 2

    @property
    def blocks(self) -> int:
        return self.rows * self.columns // nf4.BLOCK

    def packed(self, record: Tensor) -> Tensor:
        """A view of the record's bytes, (rows, columns / 2) uint8."""
        return record[self.packed_at : self.packed_at + self.packed_bytes].view(self.rows, self.columns // 2)

    def absmax(self, record: Tensor) -> Tensor:
        """A view of the block maxima, (blocks,) float32, in the order of the record's layout."""
        return record[self.absmax_at : self.absmax_at + 4 * self.blocks].view(torch.float32)


class Record:
    """What lies in one record: matrices, packed bytes first, then all block maxima."""

    matrices: tuple[Matrix, ...]

    @property
    def used_bytes(self) -> int:
        """Bytes of a record without its padding."""
        last = self.matrices[-1]
        return last.absmax_at + 4 * last.blocks

    @property
    def record_bytes(self) -> int:
        """Bytes of a record, a whole number of pages."""
        return -(-self.used_bytes // PAGE) * PAGE

    @property
    def tileable(self) -> bool:
        """Whether all matrices can be laid out in tiles."""
        return all(matrix.rows % TILE == 0 for matrix in self.matrices)


def laid_out(*sizes: tuple[int, int]) -> tuple[Matrix, ...]:
    """Matrices of (rows, columns) one behind the other in a record.

    Raises ValueError where a row is not a whole number of NF4 blocks: a block would span two rows.
    """
    if flawed := next((size for size in sizes if size[1] % nf4.BLOCK), None):
        raise ValueError(f"a matrix of {flawed[0]} x {flawed[1]} cannot be cut into blocks of {nf4.BLOCK}")
    weights = [rows * columns for rows, columns in sizes]
    packed_at = [sum(weights[:index]) // 2 for index in range(len(sizes))]
    absmax_at = [sum(weights) // 2 + 4 * sum(weights[:index]) // nf4.BLOCK for index in range(len(sizes))]
    return tuple(
        Matrix(rows, columns, *places)
        for (rows, columns), places in zip(sizes, zip(packed_at, absmax_at, strict=True), strict=True)
    )


@dataclass(frozen=True)
class LoneMatrix(Record):
    """One matrix in a record of its own: a linear layer."""

    rows: int
    columns: int

    @cached_property
    def matrices(self) -> tuple[Matrix, ...]:
        return laid_out((self.rows, self.columns))


@dataclass(frozen=True)
class ExpertShape(Record):
    """Sizes of a gated expert: ``gate_up`` (2 * inner, hidden) and ``down`` (hidden, inner).

    Raises ValueError where they cannot be cut into NF4 blocks.
    """

    hidden: int
    inner: int

    def __post_init__(self):
        laid_out(*self.sizes)

    @property
    def sizes(self) -> tuple[tuple[int, int], tuple[int, int]]:
        return (2 * self.inner, self.hidden), (self.hidden, self.inner)

    @cached_property
    def matrices(self) -> tuple[Matrix, ...]:
        return laid_out(*self.sizes)

    @property
    def gate_up(self) -> Matrix:
        return self.matrices[0]

    @property
    def down(self) -> Matrix:
        return self.matrices[1]

    @property
    def parameters(self) -> int:
        return 3 * self.hidden * self.inner


def write(record: Tensor, shape: ExpertShape, gate_up: Tensor, down: Tensor, layout: Layout) -> None:
    """Quantise one expert, ``gate_up`` (2I, H) and ``down`` (H, I) of floats, into ``record`` (bytes,) uint8."""
    for matrix, weights in ((shape.gate_up, gate_up), (shape.down, down)):
        put(record, matrix, *nf4.quantise(weights), layout)


def put(record: Tensor, matrix: Matrix, packed: Tensor, absmax: Tensor, layout: Layout) -> None:
    """Write a quantised matrix, bytes (N / 2,) and block maxima (N / 64,) as ``nf4.quantise`` gives them."""
    packed = packed.view(matrix.rows, matrix.columns // 2)
    if layout == "tiles":
        packed, absmax = to_tiles(packed), absmax.view(matrix.rows, -1).T.flatten()
    matrix.packed(record).copy_(packed)
    matrix.absmax(record).copy_(absmax)


def take(record: Tensor, matrix: Matrix, layout: Layout) -> tuple[Tensor, Tensor]:
    """The bytes (rows, columns / 2) and block maxima (blocks,) of a matrix as bitsandbytes has them; ``put`` undone."""
    packed, absmax = matrix.packed(record), matrix.absmax(record)
    if layout == "tiles":
        return from_tiles(packed), absmax.view(-1, matrix.rows).T.flatten()
    return packed, absmax


def to_tiles(packed: Tensor) -> Tensor:
    """Bytes row by row, (N, K / 2) uint8, to tiles of 32 rows, same shape.

    A tile holds for each pair of columns 32 bytes: row r of the first sixteen in the low halves, row r + 16 in the high
    ones, the two columns side by side.
    """
    rows, pairs = packed.shape
    low, high = packed.view(rows // TILE, 2, TILE // 2, pairs).unbind(1)
    first, second = low >> 4 | high & 0xF0, low & 15 | high << 4
    return torch.stack([first, second], -1).transpose(1, 2).reshape(rows, pairs)


def from_tiles(tiles: Tensor) -> Tensor:
    """The inverse of ``to_tiles``."""
    rows, pairs = tiles.shape
    first, second = tiles.view(rows // TILE, pairs, TILE // 2, 2).transpose(1, 2).unbind(-1)
    return torch.stack([first << 4 | second & 15, first & 0xF0 | second >> 4], 1).reshape(rows, pairs)


def dequantise(record: Tensor, matrix: Matrix, layout: Layout, dtype: torch.dtype) -> Tensor:
    """The weights of a matrix, (rows, columns) of ``dtype``."""
    return nf4.dequantise(*take(record, matrix, layout), (matrix.rows, matrix.columns), dtype)
