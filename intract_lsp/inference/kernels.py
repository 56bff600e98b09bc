"""The forward pass of a decoder with int8 weights as one compiled function, which several threads run together.

Each thread calls ``forward`` with its own number; between two stages all wait for each other, and within a stage they
take pieces of work as they get to them, so that a thread that another program holds up does less. A row's results do
not depend on the rows computed with it: every sum is taken in the same order.

Activations are rounded to 8 bits, a scale a row; weights have a scale a column. Softmax is computed in one piece, since
the scores of a row are no more than its context.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from intract_lsp.inference.jit import (
    BLOCK,
    KIND,
    OFFSET,
    add_atomically,
    bits_of_float,
    dot_tile,
    float_of_bits,
    give_way,
    read_atomically,
    sum_tile,
    write_atomically,
)

Floats = NDArray[np.float32]

MEETING_WORDS = 24
"""64-bit numbers that threads meet at: arrivals, the meeting's number and the next piece of work, a cache line each."""

_ARRIVED, _MEETING, _NEXT = 0, 64, 128

_PATIENCE = 2000
"""Looks at the meeting's number before a waiting thread offers its core to others."""

_LOWEST = np.float32(-3.0e38)
_FAST = {"reassoc", "contract", "nsz", "arcp"}
"""Liberties with floats: sums in the order that suits the vectors. NaN stays NaN."""


class Linear(NamedTuple):
    """A matrix of each layer."""

    weight: NDArray[np.uint8]
    """(layers, blocks of 64 columns, quads, 64, 4): quad q, column c holds inputs 4q to 4q + 3, 128 added."""
    scale: Floats
    """(layers, columns)"""
    bias: Floats
    """(layers, columns)"""


class Weights(NamedTuple):
    """A decoder's matrices and norms; columns and inputs padded to multiples of 64."""

    qkv: Linear
    out: Linear
    up: Linear
    """Gate and up, one behind the other, for gated feed-forwards."""
    down: Linear
    head: Linear
    before_attention: Floats
    """(layers, hidden) factors of the norms, and what they add where they are layer norms."""
    before_attention_bias: Floats
    before_feed_forward: Floats
    before_feed_forward_bias: Floats
    norm: Floats
    """(1, hidden)"""
    norm_bias: Floats


class Sizes(NamedTuple):
    """A decoder's measures."""

    layers: int
    heads: int
    kv_heads: int
    head_size: int
    hidden: int
    gated: bool
    epsilon: np.float32


class Room(NamedTuple):
    """What the threads work in; for at most ``len(x)`` rows."""

    x: Floats
    """(rows, hidden padded): the residual stream."""
    wide: Floats
    """(rows, widest output): what a matrix gave."""
    levels: NDArray[np.int8]
    """(rows, widest input): activations, rounded."""
    scale: Floats
    """(rows,)"""
    sums: NDArray[np.int32]
    """(rows,): of the levels."""
    block: NDArray[np.int32]
    """(threads, rows, 64): a block's products."""
    query: Floats
    """(threads, 6, head size)"""
    scores: Floats
    """(threads, 6, positions)"""
    mixed: Floats
    """(threads, 6, 64)"""
    meeting: NDArray[np.int64]
    """(MEETING_WORDS,), zero at first."""


@njit(nogil=True, error_model="numpy")
def _exp(x: np.float32) -> np.float32:
    """Return e to the ``x`` within 2e-7 of it, as code that becomes vectors (Cody and Waite's split, a polynomial)."""
    x = min(max(x, np.float32(-87.0)), np.float32(88.0))
    whole = np.int32(x * np.float32(1.4426950408889634) + np.float32(128.5)) - np.int32(128)
    power = np.float32(whole)
    rest = x - power * np.float32(0.693359375) + power * np.float32(2.12194440e-4)
    value = np.float32(1.9875691500e-4)
    value = value * rest + np.float32(1.3981999507e-3)
    value = value * rest + np.float32(8.3334519073e-3)
    value = value * rest + np.float32(4.1665795894e-2)
    value = value * rest + np.float32(1.6666665459e-1)
    value = value * rest + np.float32(5.0000001201e-1)
    value = value * rest * rest + rest + np.float32(1.0)
    return value * float_of_bits((whole + np.int32(127)) << np.int32(23))


@njit(nogil=True, error_model="numpy")
def _meet(meeting: NDArray[np.int64], threads: int) -> None:
    """Wait until all threads are here; then the work of the next stage begins at piece 0."""
    base = meeting.ctypes.data
    number = read_atomically(base + _MEETING)
    if add_atomically(base + _ARRIVED, 1) == threads - 1:
        write_atomically(base + _ARRIVED, 0)
        write_atomically(base + _NEXT, 0)
        add_atomically(base + _MEETING, 1)
        return
    looks = 0
    while read_atomically(base + _MEETING) == number:
        looks += 1
        if looks > _PATIENCE:
            give_way()


@njit(nogil=True, error_model="numpy")
def _claim(meeting: NDArray[np.int64]) -> int:
    return add_atomically(meeting.ctypes.data + _NEXT, 1)


@njit(nogil=True, error_model="numpy", fastmath=_FAST)
def _quantize(values: Floats, levels: NDArray[np.int8], scale: Floats, sums: NDArray[np.int32], row: int) -> None:
    """Round a row to levels of its largest magnitude's 127th. What is no number makes the whole row none."""
    # Magnitudes are in the order of their bits, and what is no number is above them all.
    bits = bits_of_float(np.float32(1e-12))
    for index in range(len(values)):
        bits = max(bits, bits_of_float(values[index]) & np.int32(0x7FFFFFFF))
    largest = float_of_bits(bits)
    factor = np.float32(127.0) / largest
    whole = np.int32(0)
    for index in range(len(values)):
        level = np.int32(values[index] * factor + np.float32(128.5)) - np.int32(128)
        levels[row, index] = level
        whole += level
    sums[row] = whole
    scale[row] = largest / np.float32(127.0)


@njit(nogil=True, error_model="numpy", fastmath=_FAST)
def _normalise(x: Floats, weight: Floats, bias: Floats, sizes: Sizes, into: Floats) -> None:
    count = sizes.hidden
    mean = np.float32(0.0)
    if not sizes.gated:
        for index in range(count):
            mean += x[index]
        mean /= np.float32(count)
    square = np.float32(0.0)
    for index in range(count):
        square += (x[index] - mean) * (x[index] - mean)
    factor = np.float32(1.0) / np.float32(math.sqrt(square / np.float32(count) + sizes.epsilon))
    for index in range(count):
        into[index] = (x[index] - mean) * factor * weight[index] + bias[index]
    for index in range(count, len(into)):
        into[index] = np.float32(0.0)


@njit(nogil=True, error_model="numpy")
def _multiply(
    weight: NDArray[np.uint8], levels: NDArray[np.int8], first: int, rows: int, sums: NDArray[np.int32]
) -> None:
    """Put the products of one block, (quads, 64, 4), with rows of levels into ``sums``, (rows, 64)."""
    quads = weight.shape[0]
    block, stride = weight.ctypes.data, levels.shape[1]
    row = 0
    while row < rows:
        source = levels.ctypes.data + (first + row) * stride
        target = sums.ctypes.data + row * (4 * BLOCK)
        left = rows - row
        if left >= 6:
            dot_tile(KIND, block, source, stride, quads, target, 6)
        elif left == 5:
            dot_tile(KIND, block, source, stride, quads, target, 5)
        elif left == 4:
            dot_tile(KIND, block, source, stride, quads, target, 4)
        elif left == 3:
            dot_tile(KIND, block, source, stride, quads, target, 3)
        elif left == 2:
            dot_tile(KIND, block, source, stride, quads, target, 2)
        else:
            dot_tile(KIND, block, source, stride, quads, target, 1)
        row += 6


# In the loops below each array is indexed by the loop's own variable alone: only such loops become vectors.


@njit(nogil=True, error_model="numpy")
def _scaled(
    sums: NDArray[np.int32], offset: np.int32, factor: np.float32, scale: Floats, bias: Floats, into: Floats
) -> None:
    for column in range(BLOCK):
        into[column] = np.float32(sums[column] - offset) * (factor * scale[column]) + bias[column]


@njit(nogil=True, error_model="numpy")
def _add_scaled(
    sums: NDArray[np.int32], offset: np.int32, factor: np.float32, scale: Floats, bias: Floats, into: Floats
) -> None:
    for column in range(BLOCK):
        into[column] += np.float32(sums[column] - offset) * (factor * scale[column]) + bias[column]


@njit(nogil=True, error_model="numpy")
def _multiply_by_scaled(
    sums: NDArray[np.int32], offset: np.int32, factor: np.float32, scale: Floats, bias: Floats, into: Floats
) -> None:
    for column in range(BLOCK):
        into[column] *= np.float32(sums[column] - offset) * (factor * scale[column]) + bias[column]


@njit(nogil=True, error_model="numpy")
def _silu(values: Floats) -> None:
    for column in range(BLOCK):
        value = values[column]
        values[column] = value / (np.float32(1.0) + _exp(-value))


@njit(nogil=True, error_model="numpy")
def _gelu(values: Floats) -> None:
    """Apply the tanh form of GELU, with the tanh as a logistic."""
    for column in range(BLOCK):
        value = values[column]
        inner = np.float32(-1.5957691216) * (value + np.float32(0.044715) * value * value * value)
        values[column] = value / (np.float32(1.0) + _exp(inner))


@njit(nogil=True, error_model="numpy")
def _linear(linear: Linear, layer: int, room: Room, me: int, first: int, rows: int, into: Floats, add: bool) -> None:
    """Multiply rows of levels with a matrix, block by block: into ``into``, or added to what is there."""
    weight, sums = linear.weight[layer], room.block[me]
    while True:
        block = _claim(room.meeting)
        if block >= weight.shape[0]:
            return
        _multiply(weight[block], room.levels, first, rows, sums)
        begin, end = block * BLOCK, (block + 1) * BLOCK
        scale, bias = linear.scale[layer, begin:end], linear.bias[layer, begin:end]
        for row in range(rows):
            factor, offset = room.scale[first + row], np.int32(OFFSET) * room.sums[first + row]
            if add:
                _add_scaled(sums[row], offset, factor, scale, bias, into[row, begin:end])
            else:
                _scaled(sums[row], offset, factor, scale, bias, into[row, begin:end])


@njit(nogil=True, error_model="numpy")
def _feed_forward(linear: Linear, layer: int, gated: bool, room: Room, me: int, rows: int) -> None:
    """Multiply with the up matrix, and the gate's, and activate: what goes into the down matrix."""
    weight, sums = linear.weight[layer], room.block[me]
    blocks = weight.shape[0] // 2 if gated else weight.shape[0]
    while True:
        block = _claim(room.meeting)
        if block >= blocks:
            return
        begin, end = block * BLOCK, (block + 1) * BLOCK
        _multiply(weight[block], room.levels, 0, rows, sums)
        scale, bias = linear.scale[layer, begin:end], linear.bias[layer, begin:end]
        for row in range(rows):
            target = room.wide[row, begin:end]
            _scaled(sums[row], np.int32(OFFSET) * room.sums[row], room.scale[row], scale, bias, target)
            if gated:
                _silu(target)
            else:
                _gelu(target)
        if gated:
            _multiply(weight[blocks + block], room.levels, 0, rows, sums)
            begin, end = (blocks + block) * BLOCK, (blocks + block + 1) * BLOCK
            scale, bias = linear.scale[layer, begin:end], linear.bias[layer, begin:end]
            for row in range(rows):
                target = room.wide[row, block * BLOCK : (block + 1) * BLOCK]
                offset = np.int32(OFFSET) * room.sums[row]
                _multiply_by_scaled(sums[row], offset, room.scale[row], scale, bias, target)


@njit(nogil=True, error_model="numpy")
def _place(
    row: int,
    position: int,
    slot: int,
    cosine: Floats,
    sine: Floats,
    sizes: Sizes,
    room: Room,
    keys: Floats,
    values: Floats,
) -> None:
    """Rotate a row's queries and keys (RoPE, Su et al. 2021) and write its key and value where they stay.

    keys: (key-value heads, blocks of 64 positions, head size, 64); values: (key-value heads, positions, head size).
    """
    half = sizes.head_size // 2
    wide = room.wide[row]
    scale = np.float32(1.0 / math.sqrt(sizes.head_size))
    for head in range(sizes.heads + sizes.kv_heads):
        factor = scale if head < sizes.heads else np.float32(1.0)
        begin = head * sizes.head_size
        for index in range(half):
            first, second = wide[begin + index], wide[begin + half + index]
            c, s = cosine[position, index], sine[position, index]
            wide[begin + index] = (first * c - second * s) * factor
            wide[begin + half + index] = (second * c + first * s) * factor
    for head in range(sizes.kv_heads):
        key = (sizes.heads + head) * sizes.head_size
        value = (sizes.heads + sizes.kv_heads + head) * sizes.head_size
        for index in range(sizes.head_size):
            keys[head, slot // BLOCK, index, slot % BLOCK] = wide[key + index]
            values[head, slot, index] = wide[value + index]


@njit(nogil=True, error_model="numpy")
def _sum_tile(columns: int, step: int, factors: Floats, count: int, sums: int, apart: int, rows: int) -> None:
    source, stride = factors.ctypes.data, factors.shape[1] * 4
    if rows == 6:
        sum_tile(KIND, columns, step, source, stride, count, sums, apart, 6)
    elif rows == 5:
        sum_tile(KIND, columns, step, source, stride, count, sums, apart, 5)
    elif rows == 4:
        sum_tile(KIND, columns, step, source, stride, count, sums, apart, 4)
    elif rows == 3:
        sum_tile(KIND, columns, step, source, stride, count, sums, apart, 3)
    elif rows == 2:
        sum_tile(KIND, columns, step, source, stride, count, sums, apart, 2)
    else:
        sum_tile(KIND, columns, step, source, stride, count, sums, apart, 1)


@njit(nogil=True, error_model="numpy")
def _order(value: np.float32) -> np.int32:
    """Return a number that is larger for larger floats: comparing integers becomes vectors, comparing floats not."""
    bits = bits_of_float(value)
    return bits ^ ((bits >> np.int32(31)) & np.int32(0x7FFFFFFF))


@njit(nogil=True, error_model="numpy", fastmath=_FAST)
def _softmax(scores: Floats) -> None:
    """Turn scores, a multiple of 64 of them, into shares, in place."""
    order = _order(_LOWEST)
    for index in range(len(scores)):
        order = max(order, _order(scores[index]))
    largest = float_of_bits(order ^ ((order >> np.int32(31)) & np.int32(0x7FFFFFFF)))
    # In float64 the sum is the same wherever among a tree's other branches the shares lie.
    total = 0.0
    for index in range(len(scores)):
        # What is out of sight counts nothing at all.
        share = _exp(scores[index] - largest) if scores[index] > _LOWEST else np.float32(0.0)
        scores[index] = share
        total += np.float64(share)
    factor = np.float32(1.0 / total)
    for index in range(len(scores)):
        scores[index] *= factor


@njit(nogil=True, error_model="numpy")
def _attend(
    sizes: Sizes,
    room: Room,
    me: int,
    keys: Floats,
    values: Floats,
    start: int,
    rows: int,
    seen: NDArray[np.uint8],
) -> None:
    """Mix the values for all heads of all rows, in place of their queries: ``wide`` gets (rows, heads * head size).

    Queries of a tile are read before its mixture is written over them, and no two tiles share any.
    """
    group, size = sizes.heads // sizes.kv_heads, sizes.head_size
    queries, scores, mixed = room.query[me], room.scores[me], room.mixed[me]
    tiles = (rows * group + 5) // 6
    while True:
        piece = _claim(room.meeting)
        if piece >= tiles * sizes.kv_heads:
            return
        kv_head, first = piece // tiles, piece % tiles * 6
        count = min(6, rows * group - first)
        for number in range(count):
            row, head = (first + number) // group, kv_head * group + (first + number) % group
            for index in range(size):
                queries[number, index] = room.wide[row, head * size + index]
        # The last row of a tile sees most: positions before the pass, and of the pass at most those up to itself.
        last = (first + count - 1) // group
        blocks = (start + last + BLOCK) // BLOCK
        positions = blocks * BLOCK
        apart = scores.shape[1] * 4
        for block in range(blocks):
            into = scores.ctypes.data + block * (4 * BLOCK)
            _sum_tile(keys[kv_head, block].ctypes.data, 4 * BLOCK, queries, size, into, apart, count)
        for number in range(count):
            row = (first + number) // group
            for other in range(row + 1):
                if seen[row, other] == 0:
                    scores[number, start + other] = _LOWEST
            for position in range(start + row + 1, positions):
                scores[number, position] = _LOWEST
            _softmax(scores[number, :positions])
        for part in range(0, size, BLOCK):
            base = values[kv_head].ctypes.data + part * 4
            _sum_tile(base, size * 4, scores, start + last + 1, mixed.ctypes.data, 4 * BLOCK, count)
            for number in range(count):
                row, head = (first + number) // group, kv_head * group + (first + number) % group
                for index in range(min(BLOCK, size - part)):
                    room.wide[row, head * size + part + index] = mixed[number, index]


@njit(nogil=True, error_model="numpy", cache=True)
def forward(
    weights: Weights,
    sizes: Sizes,
    room: Room,
    keys: Floats,
    values: Floats,
    positions: NDArray[np.int64],
    cosine: Floats,
    sine: Floats,
    start: int,
    seen: NDArray[np.uint8],
    logits: Floats,
    threads: int,
    me: int,
) -> None:
    """Run rows through the decoder; each of ``threads`` threads calls it with its own ``me``, from 0.

    The embedded rows are in ``room.x``. keys: (layers, key-value heads, blocks of 64 positions, head size, 64); values:
    (layers, key-value heads, positions and 64 numbers more, head size), of which ``start`` positions are filled: the
    rows' follow. positions: (rows,) for the rotation. cosine, sine: (positions, head size / 2). seen: (rows, rows),
    whether a row sees another one before it. The logits of the last rows are written into ``logits``, (last rows,
    vocabulary padded).
    """
    rows = len(positions)
    width = room.x.shape[1]
    mixed_width = weights.out.weight.shape[2] * 4
    inner_width = weights.down.weight.shape[2] * 4
    for layer in range(sizes.layers):
        for row in range(me, rows, threads):
            into = room.wide[row, :width]
            _normalise(room.x[row], weights.before_attention[layer], weights.before_attention_bias[layer], sizes, into)
            _quantize(into, room.levels, room.scale, room.sums, row)
        _meet(room.meeting, threads)
        _linear(weights.qkv, layer, room, me, 0, rows, room.wide, False)
        _meet(room.meeting, threads)
        for row in range(me, rows, threads):
            _place(row, positions[row], start + row, cosine, sine, sizes, room, keys[layer], values[layer])
        _meet(room.meeting, threads)
        _attend(sizes, room, me, keys[layer], values[layer], start, rows, seen)
        _meet(room.meeting, threads)
        for row in range(me, rows, threads):
            room.wide[row, sizes.heads * sizes.head_size : mixed_width] = np.float32(0.0)
            _quantize(room.wide[row, :mixed_width], room.levels, room.scale, room.sums, row)
        _meet(room.meeting, threads)
        _linear(weights.out, layer, room, me, 0, rows, room.x, True)
        _meet(room.meeting, threads)
        for row in range(me, rows, threads):
            into = room.wide[row, :width]
            _normalise(
                room.x[row], weights.before_feed_forward[layer], weights.before_feed_forward_bias[layer], sizes, into
            )
            _quantize(into, room.levels, room.scale, room.sums, row)
        _meet(room.meeting, threads)
        _feed_forward(weights.up, layer, sizes.gated, room, me, rows)
        _meet(room.meeting, threads)
        for row in range(me, rows, threads):
            _quantize(room.wide[row, :inner_width], room.levels, room.scale, room.sums, row)
        _meet(room.meeting, threads)
        _linear(weights.down, layer, room, me, 0, rows, room.x, True)
        _meet(room.meeting, threads)
    last = len(logits)
    for row in range(rows - last + me, rows, threads):
        into = room.wide[row, :width]
        _normalise(room.x[row], weights.norm[0], weights.norm_bias[0], sizes, into)
        _quantize(into, room.levels, room.scale, room.sums, row)
    _meet(room.meeting, threads)
    _linear(weights.head, 0, room, me, rows - last, last, logits, False)
    _meet(room.meeting, threads)
