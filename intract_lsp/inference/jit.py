"""What numba cannot say: integer dot products, atomics and the like, as LLVM instructions.

A *tile* is the inner loop of every product here: a block of 64 columns times a few rows, with all sums in registers.
Which instructions and how many registers it uses is the CPU's affair; the layout in memory and the sums are the same
everywhere.
"""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

from llvmlite import binding, ir
from numba.core import cgutils, config, types
from numba.extending import intrinsic

BLOCK = 64
"""Columns of a weight that are stored, and computed, together."""

QUAD = 4
"""Numbers that an integer dot product takes at once."""

_I8, _I16, _I32, _I64, _F32 = ir.IntType(8), ir.IntType(16), ir.IntType(32), ir.IntType(64), ir.FloatType()


class Kind(IntEnum):
    """The instructions that integer dot products are made of."""

    VNNI512 = 0
    """AVX-512 VNNI: 64 products an instruction."""
    VNNI256 = 1
    """The same on vectors of 32 (AVX-VNNI)."""
    AVX2 = 2
    """Products of 16 bits, added in pairs."""
    SDOT = 3
    """ARM's dot products (ARMv8.2 and later: Apple, Graviton, recent Snapdragons)."""
    PLAIN = 4
    """Vectors without dot products: right everywhere, fast nowhere."""

    @property
    def sentence(self) -> str:
        """What people call them."""
        return ("AVX-512 VNNI", "AVX-VNNI", "AVX2", "ARM dot products", "plain vectors")[self]


@dataclass(frozen=True, slots=True)
class _Form:
    """How a block is cut to fit the registers."""

    lanes: int
    """32-bit numbers in a vector."""
    vectors: int
    """Vectors of sums in a row of a tile."""
    signed: bool = False
    """Whether weights have to be made signed first."""


_FORMS = {
    Kind.VNNI512: _Form(16, 4),
    Kind.VNNI256: _Form(8, 2),
    Kind.AVX2: _Form(8, 2),
    Kind.SDOT: _Form(4, 4, signed=True),
    Kind.PLAIN: _Form(4, 2, signed=True),
}

ROWS = 6
"""Most rows of a tile."""


def kind_of_cpu() -> Kind:
    """Return what the CPU that numba compiles for is best at."""
    if config.CPU_NAME:
        features = {name.lstrip("+") for name in (config.CPU_FEATURES or "").split(",") if name.startswith("+")}
    else:
        features = {name for name, present in binding.get_host_cpu_features().items() if present}
    if "avx512vnni" in features:
        return Kind.VNNI512
    if "avxvnni" in features:
        return Kind.VNNI256
    if "avx2" in features:
        return Kind.AVX2
    return Kind.SDOT if "dotprod" in features else Kind.PLAIN


KIND = int(kind_of_cpu())
"""The kind that this process's kernels are compiled with."""

OFFSET = 0 if _FORMS[Kind(KIND)].signed else 128
"""Weights are stored with 128 added; this is what the dot products still see of it."""


def _publish_yield() -> None:
    """Name the system's call that lets other threads run, so that compiled code finds it, from a cache too."""
    if sys.platform == "win32":
        call: Any = ctypes.windll.kernel32.SwitchToThread
    else:
        call = ctypes.CDLL(None).sched_yield
    binding.add_symbol("intract_yield", ctypes.cast(call, ctypes.c_void_p).value)


_publish_yield()


@contextmanager
def _counted(builder: ir.IRBuilder, count: ir.Value, carried: list[ir.VectorType]) -> Iterator[Any]:
    """Open a loop body that runs ``count`` times, at least once; yields its index, the carried values and a way on."""
    before, function = builder.block, builder.function
    body, after = function.append_basic_block("body"), function.append_basic_block("after")
    builder.branch(body)
    builder.position_at_end(body)
    index = builder.phi(_I64)
    index.add_incoming(ir.Constant(_I64, 0), before)
    values = [builder.phi(type_) for type_ in carried]
    for value in values:
        value.add_incoming(ir.Constant(value.type, None), before)
    results: list[ir.Value] = []
    yield index, values, results
    following = builder.add(index, ir.Constant(_I64, 1))
    index.add_incoming(following, builder.block)
    for value, result in zip(values, results, strict=True):
        value.add_incoming(result, builder.block)
    builder.cbranch(builder.icmp_signed("<", following, count), body, after)
    builder.position_at_end(after)


def _load(builder: ir.IRBuilder, address: ir.Value, type_: ir.Type, align: int) -> ir.Value:
    return builder.load(builder.inttoptr(address, type_.as_pointer()), align=align)


def _at(builder: ir.IRBuilder, base: ir.Value, *terms: tuple[ir.Value | int, ir.Value | int]) -> ir.Value:
    """Return ``base`` plus the terms' products."""
    for index, size in terms:
        left = ir.Constant(_I64, index) if isinstance(index, int) else index
        right = ir.Constant(_I64, size) if isinstance(size, int) else size
        base = builder.add(base, builder.mul(left, right))
    return base


def _splat(builder: ir.IRBuilder, value: ir.Value, lanes: int) -> ir.Value:
    type_ = ir.VectorType(value.type, lanes)
    first = builder.insert_element(ir.Constant(type_, ir.Undefined), value, ir.Constant(_I32, 0))
    zeros = ir.Constant(ir.VectorType(_I32, lanes), None)
    return builder.shuffle_vector(first, ir.Constant(type_, ir.Undefined), zeros)


def _filled(type_: ir.VectorType, value: int) -> ir.Constant:
    return ir.Constant(type_, [ir.Constant(type_.element, value)] * type_.count)


def _call(builder: ir.IRBuilder, name: str, result: ir.Type, *values: ir.Value) -> ir.Value:
    type_ = ir.FunctionType(result, [value.type for value in values])
    return builder.call(cgutils.get_or_insert_function(builder.module, type_, name), values)


def _dot(builder: ir.IRBuilder, kind: Kind, total: ir.Value, weights: ir.Value, levels: ir.Value) -> ir.Value:
    """Add to each lane of ``total`` the products of its four bytes of ``weights`` with those of ``levels``."""
    lanes = total.type.count
    if kind in (Kind.VNNI512, Kind.VNNI256):
        name = f"llvm.x86.avx512.vpdpbusd.{lanes * 32}"
        return _call(builder, name, total.type, total, weights, levels)
    shorts = ir.VectorType(_I16, 2 * lanes)
    if kind is Kind.AVX2:
        eight = _filled(shorts, 8)
        by_two, levels_by_two = builder.bitcast(weights, shorts), builder.bitcast(levels, shorts)
        pairs = (
            (builder.and_(by_two, _filled(shorts, 255)), builder.ashr(builder.shl(levels_by_two, eight), eight)),
            (builder.lshr(by_two, eight), builder.ashr(levels_by_two, eight)),
        )
        for left, right in pairs:
            total = builder.add(total, _call(builder, "llvm.x86.avx2.pmadd.wd", total.type, left, right))
        return total
    bytes_ = ir.VectorType(_I8, QUAD * lanes)
    signed = builder.xor(builder.bitcast(weights, bytes_), _filled(bytes_, -128))
    if kind is Kind.SDOT:
        name = "llvm.aarch64.neon.sdot.v4i32.v16i8"
        return _call(builder, name, total.type, total, signed, builder.bitcast(levels, bytes_))
    wide = ir.VectorType(_I32, QUAD * lanes)
    product = builder.mul(builder.sext(signed, wide), builder.sext(builder.bitcast(levels, bytes_), wide))
    for place in range(QUAD):
        chosen = ir.Constant(
            ir.VectorType(_I32, lanes), [ir.Constant(_I32, QUAD * lane + place) for lane in range(lanes)]
        )
        total = builder.add(total, builder.shuffle_vector(product, ir.Constant(wide, ir.Undefined), chosen))
    return total


@intrinsic(prefer_literal=True)
def dot_tile(
    typingctx: Any, kind: Any, weights: Any, levels: Any, stride: Any, quads: Any, sums: Any, rows: Any
) -> Any:
    """Multiply a block of weights with ``rows`` rows of levels, 1 to ``ROWS`` (a literal, as is ``kind``).

    Addresses of: the block, uint8 (quads, 64, 4); the first row's int8 levels, rows ``stride`` bytes apart; where the
    sums go, int32 (rows, 64).
    """
    signature = types.void(kind, types.intp, types.intp, types.intp, types.intp, types.intp, rows)

    def generate(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any) -> ir.Value:
        _, weights, levels, stride, quads, sums, _ = arguments
        chosen, count = Kind(kind.literal_value), rows.literal_value
        form = _FORMS[chosen]
        vector = ir.VectorType(_I32, form.lanes)
        width = form.lanes * form.vectors
        for first in range(0, BLOCK, width):
            with _counted(builder, quads, [vector] * (count * form.vectors)) as (index, totals, results):
                base = _at(builder, weights, (index, BLOCK * QUAD), (first, QUAD))
                columns = [
                    _load(builder, _at(builder, base, (number, QUAD * form.lanes)), vector, 4)
                    for number in range(form.vectors)
                ]
                for row in range(count):
                    four = _load(builder, _at(builder, levels, (stride, row), (index, QUAD)), _I32, 1)
                    spread = _splat(builder, four, form.lanes)
                    for number, column in enumerate(columns):
                        results.append(_dot(builder, chosen, totals[row * form.vectors + number], column, spread))
            _store(builder, results, sums, 4 * BLOCK, first, count, form)
        return context.get_dummy_value()

    return signature, generate


@intrinsic(prefer_literal=True)
def sum_tile(
    typingctx: Any,
    kind: Any,
    columns: Any,
    step: Any,
    factors: Any,
    stride: Any,
    count: Any,
    sums: Any,
    apart: Any,
    rows: Any,
) -> Any:
    """Add up ``count`` vectors of 64 numbers, each times a factor of its own, for ``rows`` rows of factors.

    Addresses of: the first vector, float32, the next ones ``step`` bytes apart; the first row's factors, rows
    ``stride`` bytes apart; where the sums go, 64 float32 a row, rows ``apart`` bytes apart. ``kind`` and ``rows`` (1
    to ``ROWS``) are literals.
    """
    signature = types.void(kind, *[types.intp] * 7, rows)

    def generate(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any) -> ir.Value:
        _, columns, step, factors, stride, count, sums, apart, _ = arguments
        form, number_of_rows = _FORMS[Kind(kind.literal_value)], rows.literal_value
        vector = ir.VectorType(_F32, form.lanes)
        multiply_add = f"llvm.fmuladd.v{form.lanes}f32"
        for first in range(0, BLOCK, form.lanes * form.vectors):
            with _counted(builder, count, [vector] * (number_of_rows * form.vectors)) as (index, totals, results):
                base = _at(builder, columns, (index, step), (first, 4))
                loaded = [
                    _load(builder, _at(builder, base, (number, 4 * form.lanes)), vector, 4)
                    for number in range(form.vectors)
                ]
                for row in range(number_of_rows):
                    factor = _load(builder, _at(builder, factors, (stride, row), (index, 4)), _F32, 4)
                    spread = _splat(builder, factor, form.lanes)
                    for number, column in enumerate(loaded):
                        total = totals[row * form.vectors + number]
                        results.append(_call(builder, multiply_add, vector, column, spread, total))
            _store(builder, results, sums, apart, first, number_of_rows, form)
        return context.get_dummy_value()

    return signature, generate


def _store(
    builder: ir.IRBuilder,
    results: list[ir.Value],
    sums: ir.Value,
    apart: ir.Value | int,
    first: int,
    rows: int,
    form: _Form,
) -> None:
    for row in range(rows):
        for number in range(form.vectors):
            address = _at(builder, sums, (apart, row), (first + number * form.lanes, 4))
            value = results[row * form.vectors + number]
            builder.store(value, builder.inttoptr(address, value.type.as_pointer()), align=4)


@intrinsic
def add_atomically(typingctx: Any, address: Any, amount: Any) -> Any:
    """Add to the 64-bit number at an address and return what it was; seen by all threads in one order."""

    def generate(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any) -> ir.Value:
        pointer = builder.inttoptr(arguments[0], _I64.as_pointer())
        return builder.atomic_rmw("add", pointer, arguments[1], "seq_cst")

    return types.int64(types.intp, types.int64), generate


@intrinsic
def read_atomically(typingctx: Any, address: Any) -> Any:
    """Return the 64-bit number at an address as other threads last left it."""

    def generate(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any) -> ir.Value:
        return builder.load_atomic(builder.inttoptr(arguments[0], _I64.as_pointer()), "seq_cst", 8)

    return types.int64(types.intp), generate


@intrinsic
def write_atomically(typingctx: Any, address: Any, value: Any) -> Any:
    """Put a 64-bit number at an address, after all that was written before."""

    def generate(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any) -> ir.Value:
        builder.store_atomic(arguments[1], builder.inttoptr(arguments[0], _I64.as_pointer()), "seq_cst", 8)
        return context.get_dummy_value()

    return types.void(types.intp, types.int64), generate


@intrinsic
def give_way(typingctx: Any) -> Any:
    """Let another thread run on this core, if there is one that waits."""

    def generate(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any) -> ir.Value:
        type_ = ir.FunctionType(_I32, [])
        builder.call(cgutils.get_or_insert_function(builder.module, type_, "intract_yield"), [])
        return context.get_dummy_value()

    return types.void(), generate


@intrinsic
def float_of_bits(typingctx: Any, bits: Any) -> Any:
    """Return the float32 that 32 bits stand for."""

    def generate(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any) -> ir.Value:
        return builder.bitcast(arguments[0], _F32)

    return types.float32(types.int32), generate


@intrinsic
def bits_of_float(typingctx: Any, value: Any) -> Any:
    """Return the 32 bits of a float32."""

    def generate(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any) -> ir.Value:
        return builder.bitcast(arguments[0], _I32)

    return types.int32(types.float32), generate
