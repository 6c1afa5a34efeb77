"""Products with 4-bit matrices, one way for each kind of processor. Each knows how an expert lies in its slot.

    native   CPU with a C compiler: our own fused products, a whole expert in one call
    packed   CPU with AVX512-BF16: bitsandbytes' fused kernel over tiles, called without the detour through torch
    unpacked any CPU or GPU: to floats, then a matrix product
    cuda     CUDA: bitsandbytes' fused kernel for one token, ``unpacked`` for more
    floats   any device: floats already in the slot, seven times the memory; for small models

The same inputs give the same bits whatever else is in memory: a way depends on the processor and on the number of
tokens, never on what is cached.
"""

from __future__ import annotations

import ctypes
import logging
from collections.abc import Iterable, Sequence
from functools import cache
from typing import NamedTuple, Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers.activations import SiLUActivation
from transformers.integrations.moe import _default_apply_gate

from omni.experts import native, nf4, record
from omni.experts.record import ExpertShape, Layout, Matrix, Record
from omni.experts.wide import product_dtype

log = logging.getLogger(__name__)

FUSED_TOKENS = 40  # up to here bitsandbytes' kernel, which works token by token, beats unpacking
NATIVE_TOKENS = 32  # and up to here our own
SILU = (nn.SiLU, SiLUActivation)


class Kernel(Protocol):
    """How matrices in NF4 are held and applied. A slot holds one record: an expert, or a matrix that stands alone."""

    layout: Layout  # of the records that it wants
    dtype: torch.dtype  # of what goes in and comes out

    def slot_bytes(self, shape: Record) -> int:
        """Bytes of the slot for a record of that shape."""

    def settle(self, taken: Tensor, slot: Tensor, shape: Record) -> None:
        """Turn a record (bytes,) as it stands on disk into what lies in the slot; both may be the same memory."""

    def prepare(self, slot: Tensor, shape: Record) -> tuple:
        """The operands of the matrices in a slot, made once and good for whatever lies there later."""

    def apply(self, x: Tensor, operand) -> Tensor:
        """(T, columns) times a matrix (rows, columns), transposed: (T, rows), in the dtype of ``x``, ``dtype``."""

    def experts(self, module: nn.Module, x: Tensor, operands: Sequence[tuple]) -> Tensor:
        """One token (1, hidden) through experts, each as ``prepare`` gives it, to a row for each (k, hidden).

        ``module._apply_gate`` is what stands between the two matrices.
        """


class MatrixByMatrix:
    """``experts`` by ``apply``."""

    def experts(self, module: nn.Module, x: Tensor, operands: Sequence[tuple]) -> Tensor:
        return torch.cat([self.apply(module._apply_gate(self.apply(x, gate_up)), down) for gate_up, down in operands])


class Half(NamedTuple):
    """One matrix in a slot, ready to be multiplied: its bytes and block maxima, and for the packed kernel where."""

    matrix: Matrix
    packed: Tensor
    absmax: Tensor


class Unpacked(MatrixByMatrix):
    """Each matrix to floats when it is used, by bitsandbytes where it is there, and forgotten."""

    layout: Layout = "rows"

    def __init__(self, dtype: torch.dtype):
        self.dtype = dtype

    def slot_bytes(self, shape: Record) -> int:
        return shape.record_bytes

    def settle(self, taken: Tensor, slot: Tensor, shape: Record) -> None:
        if taken.data_ptr() != slot.data_ptr():
            slot.copy_(taken, non_blocking=True)

    def prepare(self, slot: Tensor, shape: Record) -> tuple[Half, ...]:
        return tuple(Half(matrix, matrix.packed(slot), matrix.absmax(slot)) for matrix in shape.matrices)

    def apply(self, x: Tensor, operand: Half) -> Tensor:
        dtype = product_dtype(x.device, self.dtype)
        weights = _floats(operand.packed, operand.absmax, operand.matrix, dtype)
        return torch.mm(x.to(dtype), weights.T).to(self.dtype)


class Cuda(Unpacked):
    """bitsandbytes' fused 4-bit product for one token; more tokens go the ``unpacked`` way."""

    def apply(self, x: Tensor, operand: Half) -> Tensor:
        if len(x) != 1 or not _bitsandbytes():
            return super().apply(x, operand)
        matrix, packed = operand.matrix, operand.packed.view(-1, 1)
        shape = (matrix.rows, matrix.columns)
        return torch.ops.bitsandbytes.gemv_4bit(x, packed, shape, operand.absmax, _levels(x.device), nf4.BLOCK)


@cache
def _levels(device: torch.device) -> Tensor:
    """The levels of NF4 on a GPU. Made when they are first used: a process that touched CUDA cannot be forked."""
    return torch.tensor(nf4.LEVELS, device=device)


class Floats(MatrixByMatrix):
    """Floats in the slot."""

    layout: Layout = "rows"

    def __init__(self, dtype: torch.dtype):
        self.dtype = dtype

    def slot_bytes(self, shape: Record) -> int:
        return sum(matrix.rows * matrix.columns for matrix in shape.matrices) * self.dtype.itemsize

    def settle(self, taken: Tensor, slot: Tensor, shape: Record) -> None:
        for matrix, weights in zip(shape.matrices, self.prepare(slot, shape), strict=True):
            weights.copy_(record.dequantise(taken, matrix, self.layout, self.dtype))

    def prepare(self, slot: Tensor, shape: Record) -> tuple[Tensor, ...]:
        weights = slot.view(self.dtype).split([matrix.rows * matrix.columns for matrix in shape.matrices])
        return tuple(w.view(matrix.rows, matrix.columns) for w, matrix in zip(weights, shape.matrices, strict=True))

    def apply(self, x: Tensor, operand: Tensor) -> Tensor:
        return torch.mm(x, operand.T)


class PackedHalf(NamedTuple):
    """One matrix in tiles: its sizes, the addresses of its bytes and of its block maxima in bf16, and their views."""

    rows: int
    columns: int
    packed_address: int
    absmax_address: int
    matrix: Matrix
    packed: Tensor
    absmax: Tensor  # (columns / 64, rows) bf16


class Packed(MatrixByMatrix):
    """bitsandbytes' AVX512-BF16 kernel over tiles. In the slot the block maxima are bf16: 8 bits, as the kernel wants.

    It works in bf16 whatever the model's dtype. Many tokens at once are worth unpacking the matrix for.
    """

    layout: Layout = "tiles"
    dtype = torch.bfloat16

    def __init__(self):
        self.product = packed_product()

    def __reduce__(self):
        return Packed, ()  # a function out of a library can be neither copied nor sent

    def slot_bytes(self, shape: Record) -> int:
        return shape.record_bytes

    def settle(self, taken: Tensor, slot: Tensor, shape: Record) -> None:
        if taken.data_ptr() != slot.data_ptr():
            slot.copy_(taken)
        for matrix in shape.matrices:
            exact = matrix.absmax(slot)
            exact.view(torch.bfloat16)[: matrix.blocks] = exact.bfloat16()  # in the first half of their own room

    def prepare(self, slot: Tensor, shape: Record) -> tuple[PackedHalf, ...]:
        halves = []
        for matrix in shape.matrices:
            absmax = matrix.absmax(slot).view(torch.bfloat16)[: matrix.blocks].view(-1, matrix.rows)
            packed = matrix.packed(slot)
            places = packed.data_ptr(), absmax.data_ptr()
            halves.append(PackedHalf(matrix.rows, matrix.columns, *places, matrix, packed, absmax))
        return tuple(halves)

    def apply(self, x: Tensor, operand: PackedHalf) -> Tensor:
        tokens, rows, columns = x.shape[0], operand.rows, operand.columns
        if not 0 < tokens <= FUSED_TOKENS:  # of none, the kernel divides by their number
            packed = record.from_tiles(operand.packed)
            absmax = operand.absmax.T.float().contiguous().view(-1)
            return torch.mm(x, _floats(packed, absmax, operand.matrix, self.dtype).T)
        out = x.new_empty(tokens, rows)
        self.product(
            tokens, rows, columns, x.data_ptr(), operand.packed_address, operand.absmax_address, out.data_ptr(),
            nf4.BLOCK, x.stride(0), rows,
        )  # fmt: skip
        return out


class AddressedHalf(NamedTuple):
    """A ``Half`` and where it lies, see ``native.places``."""

    matrix: Matrix
    packed: Tensor
    absmax: Tensor
    places: tuple[int, int, int, int]


class Native(Unpacked):
    """Our own products, see ``nf4.c``. Many tokens at once are worth unpacking the matrix for."""

    def __init__(self, dtype: torch.dtype):
        super().__init__(dtype)
        self.library = native.library()

    def __reduce__(self):
        return Native, (self.dtype,)  # a library can be neither copied nor sent

    def prepare(self, slot: Tensor, shape: Record) -> tuple[AddressedHalf, ...]:
        halves = super().prepare(slot, shape)
        return tuple(AddressedHalf(*half, native.places(half.packed, half.absmax)) for half in halves)

    def apply(self, x: Tensor, operand: AddressedHalf) -> Tensor:
        tokens, matrix = len(x), operand.matrix
        if not 0 < tokens <= NATIVE_TOKENS:
            return super().apply(x, operand)
        x = x.float().contiguous()
        out = x.new_empty(tokens, matrix.rows)
        self.done(
            self.library.nf4_product(
                tokens, matrix.rows, matrix.columns, x.data_ptr(), *operand.places[:2], out.data_ptr(),
                torch.get_num_threads(),
            )
        )  # fmt: skip
        return out.to(self.dtype)

    def experts(self, module: nn.Module, x: Tensor, operands: Sequence[tuple]) -> Tensor:
        if not _is_swiglu(module):
            return super().experts(module, x, operands)
        return self.swiglu(x.float(), [gate_up.places + down.places[:2] for gate_up, down in operands], operands[0][1])

    def swiglu(self, x: Tensor, experts: Sequence[tuple[int, ...]], down: AddressedHalf) -> Tensor:
        """x (1, hidden) float32 through SwiGLU experts, each the places of gate, up and down, to (k, hidden) float32.

        All are of one size, that of ``down``.
        """
        hidden, inner = down.matrix.rows, down.matrix.columns
        out = x.new_empty(len(experts), hidden)
        listed = native.addresses([place for expert in experts for place in expert])
        threads = torch.get_num_threads()
        self.done(self.library.nf4_experts(len(experts), hidden, inner, x.data_ptr(), listed, out.data_ptr(), threads))
        return out

    def side_by_side(self, x: Tensor, operands: Sequence[AddressedHalf]) -> Tensor:
        """x (1, columns) float32 times each matrix, one behind the other in (rows of all,) float32."""
        listed = [number for one in operands for number in (*one.places[:2], one.matrix.rows)]
        out = x.new_empty(sum(one.matrix.rows for one in operands))
        columns, threads = operands[0].matrix.columns, torch.get_num_threads()
        self.done(
            self.library.nf4_products(
                len(operands), native.addresses(listed), columns, x.data_ptr(), out.data_ptr(), threads
            )
        )
        return out

    @staticmethod
    def done(failed: int) -> None:
        if failed:
            raise MemoryError("there is no memory for the activations of a product")


def _is_swiglu(module: nn.Module) -> bool:
    """Whether what stands between an expert's matrices is SiLU(gate) * up, gate first."""
    plain = type(module)._apply_gate is _default_apply_gate
    return plain and (isinstance(module.act_fn, SILU) or module.act_fn is F.silu)


def _floats(packed: Tensor, absmax: Tensor, matrix: Matrix, dtype: torch.dtype) -> Tensor:
    """A matrix in rows to (rows, columns) of ``dtype``."""
    shape = (matrix.rows, matrix.columns)
    if not _bitsandbytes():
        return nf4.dequantise(packed, absmax, shape, dtype)
    return torch.ops.bitsandbytes.dequantize_4bit(packed.reshape(-1, 1), absmax, nf4.BLOCK, "nf4", shape, dtype)


@cache
def _bitsandbytes() -> bool:
    """Whether bitsandbytes can be used; without it all goes through plain torch."""
    logging.getLogger("bitsandbytes.backends.cpu.ops").setLevel(logging.ERROR)  # it asks for a package of remote code
    try:
        import bitsandbytes  # noqa: F401  registers its operators with torch
        from bitsandbytes.cextension import lib

        if torch.cuda.is_available() and not lib.compiled_with_cuda:  # then it fails only when it is called
            raise RuntimeError(f"it has no library for CUDA {torch.version.cuda}")
    except Exception as error:  # it fails in many ways where its libraries do not fit the machine
        log.warning("bitsandbytes cannot be used (%s): 4-bit products take the slow way", error)
        return False
    return True


@cache
def packed_product():
    """bitsandbytes' fused product as a plain function of addresses, or None.

    It is no public interface, so it is tried on a small matrix first and left alone where the numbers are wrong.
    """
    if not _bitsandbytes():
        return None
    from bitsandbytes.cextension import lib

    try:
        if not lib.has_avx512bf16_cpu():
            return None
        product = lib.gemv_4bit_inference_cpu_nf4_bf16
    except (AttributeError, OSError, RuntimeError):
        return None
    product.argtypes = [ctypes.c_int64] * 3 + [ctypes.c_void_p] * 4 + [ctypes.c_int64] * 3
    product.restype = None
    return product if _is_right(product) else None


def _is_right(product) -> bool:
    """Whether the fused product of a small matrix is what the same numbers give in float32."""
    shape, generator = ExpertShape(128, 64), torch.Generator().manual_seed(0)
    held = torch.zeros(shape.record_bytes, dtype=torch.uint8)
    weights = torch.randn(128, 128, generator=generator), torch.randn(128, 64, generator=generator)
    record.write(held, shape, *weights, "tiles")
    true = record.dequantise(held, shape.gate_up, "tiles", torch.float32)
    x = torch.randn(2, 128, generator=generator).bfloat16()
    made = torch.zeros(2, 128, dtype=torch.bfloat16)
    absmax = shape.gate_up.absmax(held).bfloat16()
    packed = shape.gate_up.packed(held)
    product(2, 128, 128, x.data_ptr(), packed.data_ptr(), absmax.data_ptr(), made.data_ptr(), nf4.BLOCK, 128, 128)
    wanted = F.linear(x.float(), true)
    right = bool((made.float() - wanted).norm() < 0.01 * wanted.norm())  # bf16 rounds to 2^-9
    if not right:
        log.warning("the fused 4-bit product of bitsandbytes gives other numbers here: it is not used")
    return right


def best_kernel(shapes: Iterable[Record], device: torch.device, dtype: torch.dtype) -> Kernel:
    """The fastest way on ``device`` for a model in ``dtype`` with records of these shapes."""
    if device.type == "cuda":
        return Cuda(dtype)
    if native.library() is not None:
        return Native(dtype)
    if all(shape.tileable for shape in shapes) and packed_product() is not None:
        return Packed()
    return Unpacked(dtype)
