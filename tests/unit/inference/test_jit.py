"""The tiles that all products are made of, in every kind of instructions that this CPU has."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from llvmlite import binding
from numba import config, literally, njit

from intract_lsp.inference.jit import (
    BLOCK,
    QUAD,
    ROWS,
    Kind,
    add_atomically,
    bits_of_float,
    dot_tile,
    float_of_bits,
    kind_of_cpu,
    sum_tile,
)

NEEDS = {
    Kind.VNNI512: "avx512vnni",
    Kind.VNNI256: "avx512vnni",
    Kind.AVX2: "avx2",
    Kind.SDOT: "dotprod",
    Kind.PLAIN: "",
}
FEATURES = binding.get_host_cpu_features()
HERE = [kind for kind, feature in NEEDS.items() if not feature or FEATURES.get(feature)]
"""The kinds that this CPU can run: all but ARM's, or only ARM's and the plain one."""


@njit
def product(kind: Any, rows: Any, weights: Any, levels: Any, sums: Any) -> None:
    kind, rows = literally(kind), literally(rows)
    dot_tile(kind, weights.ctypes.data, levels.ctypes.data, levels.shape[1], weights.shape[0], sums.ctypes.data, rows)


@njit
def total(kind: Any, rows: Any, columns: Any, factors: Any, sums: Any, count: int) -> None:
    kind, rows = literally(kind), literally(rows)
    source, step = columns.ctypes.data, columns.shape[1] * 4
    stride, apart = factors.shape[1] * 4, sums.shape[1] * 4
    sum_tile(kind, source, step, factors.ctypes.data, stride, count, sums.ctypes.data, apart, rows)


@pytest.mark.parametrize("kind", HERE)
@pytest.mark.parametrize("rows", [1, 4, ROWS])
def test_a_tile_is_a_product(kind: Kind, rows: int) -> None:
    random = np.random.default_rng(rows)
    quads = 19
    weights = random.integers(-128, 128, (BLOCK, quads * QUAD))
    levels = random.integers(-127, 128, (rows, quads * QUAD)).astype(np.int8)
    levels[0], weights[0] = 127, -128  # the extremes must not overflow
    stored = (weights + 128).astype(np.uint8).reshape(BLOCK, quads, QUAD).transpose(1, 0, 2).copy()
    sums = np.zeros((rows, BLOCK), np.int32)
    product(int(kind), rows, stored, levels, sums)
    wide = levels.astype(np.int64)
    offset = 0 if kind in (Kind.SDOT, Kind.PLAIN) else 128 * wide.sum(1, keepdims=True)
    assert np.array_equal(sums - offset, wide @ weights.T)
    columns = random.random((quads, BLOCK + 5), np.float32)
    factors = random.random((rows, quads + 3), np.float32) - np.float32(0.5)
    found = np.zeros((rows, BLOCK + 7), np.float32)
    total(int(kind), rows, columns, factors, found, quads)
    expected = factors[:, :quads].astype(np.float64) @ columns[:, :BLOCK]
    np.testing.assert_allclose(found[:, :BLOCK], expected, rtol=1e-5, atol=1e-5)
    assert not found[:, BLOCK:].any()


@pytest.mark.parametrize(
    ("features", "kind"),
    [
        ("+avx2,+avx512vnni", Kind.VNNI512),
        ("+avx2,+avxvnni", Kind.VNNI256),
        ("+avx2,-avx512vnni", Kind.AVX2),
        ("+neon,+dotprod", Kind.SDOT),
        ("+neon", Kind.PLAIN),
        ("", Kind.PLAIN),
    ],
)
def test_the_kind_follows_the_cpu_compiled_for(features: str, kind: Kind, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(config, "CPU_NAME", "some")
    monkeypatch.setattr(config, "CPU_FEATURES", features)
    assert kind_of_cpu() is kind


@pytest.mark.parametrize("features", [{"avx2": True}, {"avx2": False, "dotprod": True}, {}])
def test_the_kind_of_this_cpu(features: dict[str, bool], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(config, "CPU_NAME", None)
    monkeypatch.setattr(binding, "get_host_cpu_features", lambda: features)
    expected = Kind.AVX2 if features.get("avx2") else Kind.SDOT if features else Kind.PLAIN
    assert kind_of_cpu() is expected
    assert all(kind.sentence for kind in Kind)


def test_bits_and_counts() -> None:
    @njit
    def there_and_back(value: Any) -> Any:
        return float_of_bits(bits_of_float(value))

    @njit
    def count(numbers: Any) -> int:
        return add_atomically(numbers.ctypes.data, 5)  # type: ignore[no-any-return, call-arg]

    assert there_and_back(np.float32(-1.5)) == np.float32(-1.5)
    numbers = np.array([2], np.int64)
    assert count(numbers) == 2
    assert numbers[0] == 7
