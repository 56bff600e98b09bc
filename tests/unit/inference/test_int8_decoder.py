"""The compiled forward pass against torch's, on tiny models of every architecture that it takes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from llvmlite.binding import get_host_cpu_features
from test_decoder import FAMILIES, model_of, path_to, random_trees, tokens

from intract_lsp.inference import quantize, weights
from intract_lsp.inference.decoder import LeanDecoder
from intract_lsp.inference.int8_decoder import FIRST_CAPACITY, FIRST_ROWS, Int8Decoder
from intract_lsp.inference.packing import pack
from intract_lsp.inference.team import Team


def both(config: Any, team: Team) -> tuple[Int8Decoder, LeanDecoder]:
    """An int8 model, and the same weights as floats."""
    with torch.inference_mode():
        shape, tensors = weights.take_over(model_of(config), 4096)
        quantized = quantize.quantize(shape, tensors, [tokens(50, seed=5), tokens(50, seed=6)])
        floats = {name: tensor.float() for name, tensor in quantized.items()}
        for name, tensor in quantized.items():
            if name.endswith(".scale"):
                floats[name.replace(".scale", ".weight")] *= tensor[:, None]
        lean = LeanDecoder(shape, floats)
        return Int8Decoder(shape, pack(shape, quantized), team), lean


@pytest.fixture(scope="module")
def team() -> Team:
    return Team(3)


@pytest.fixture(scope="module")
def small(team: Team) -> Int8Decoder:
    return both(FAMILIES["llama with biases (Granite code)"], team)[0]


@pytest.mark.parametrize("config", FAMILIES.values(), ids=FAMILIES)
def test_only_the_rounding_of_activations_differs(config: Any, team: Team) -> None:
    decoder, lean = both(config, team)
    ids = tokens(150)
    with torch.inference_mode():
        exact = lean.forward(lean.begin(), ids, 150).numpy()
    found = decoder.forward(decoder.begin(), ids, 150)
    assert found.shape == exact.shape
    errors = np.linalg.norm(found - exact, axis=1) / np.linalg.norm(exact, axis=1)
    assert np.median(errors) < 0.03
    assert errors.max() < 0.3
    assert (found.argmax(1) == exact.argmax(1)).mean() > 0.8


@given(cuts=st.lists(st.integers(1, 40), min_size=1, max_size=9), threads=st.integers(1, 3))
@settings(deadline=None)
def test_a_row_depends_on_nothing_but_what_it_sees(
    small: Int8Decoder, team: Team, cuts: list[int], threads: int
) -> None:
    """Neither on the rows it is computed with nor on the threads: what KV reuse and speculation rely on, to the bit."""
    ids = tokens(sum(cuts))
    team.size = 2
    whole = small.forward(small.begin(), ids, len(ids))
    team.size = threads
    sequence, first = small.begin(), 0
    for count in cuts:
        piece = small.forward(sequence, ids[first : first + count], count)
        assert np.array_equal(piece, whole[first : first + count])
        first += count
    assert sequence.length == len(ids)


@given(count=st.integers(1, 70), tree=random_trees, kept=st.integers(-1, 9))
@settings(deadline=None)
def test_any_tree(small: Int8Decoder, count: int, tree: list[tuple[int, int]], kept: int) -> None:
    ids, kept = [id_ for id_, _ in tree], min(kept, len(tree) - 1)
    parents = [parent % (index + 1) - 1 for index, (_, parent) in enumerate(tree)]
    sequence, plain = small.begin(), small.begin()
    small.forward(sequence, tokens(count))
    small.forward(plain, tokens(count))
    found = small.forward(sequence, ids, len(ids), parents)
    for node in range(len(ids)):
        plain.cut(count)
        expected = small.forward(plain, [ids[each] for each in path_to(node, parents)])[-1]
        assert np.array_equal(found[node], expected)
    path = path_to(kept, parents)
    sequence.keep(count, path)
    assert sequence.length == count + len(path)
    plain.cut(count)
    if path:
        small.forward(plain, [ids[each] for each in path])
    expected = small.forward(plain, tokens(3, seed=5), 3)
    assert np.array_equal(small.forward(sequence, tokens(3, seed=5), 3), expected)


def test_a_copy_goes_its_own_way(small: Int8Decoder) -> None:
    ids, other = tokens(100), tokens(9, seed=2)
    sequence = small.begin()
    small.forward(sequence, ids)
    twin = sequence.copy(70)
    expected = small.forward(small.begin(), [*ids[:70], *other], 9)
    assert np.array_equal(small.forward(twin, other, 9), expected)
    sequence.cut(70)
    assert np.array_equal(small.forward(sequence, other, 9), expected)
    assert twin.size_bytes == sequence.size_bytes


def test_the_buffers_grow_without_losing_anything(small: Int8Decoder) -> None:
    ids = tokens(FIRST_CAPACITY + 70)
    sequence = small.begin()
    assert sequence.capacity == FIRST_CAPACITY
    small.forward(sequence, ids[: FIRST_CAPACITY - 10])
    assert FIRST_CAPACITY - 10 > FIRST_ROWS  # and so does the room for rows
    grown = small.forward(sequence, ids[FIRST_CAPACITY - 10 :], 5)
    assert sequence.capacity == 2 * FIRST_CAPACITY
    assert np.array_equal(grown, small.forward(small.begin(), ids, 5))


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_what_is_no_number_stays_none(team: Team, value: float) -> None:
    decoder, _ = both(FAMILIES["qwen2"], team)
    ids = tokens(12)
    ids[7] = 96
    embedding = decoder._embedding.copy()
    embedding[96, 3] = value
    decoder._embedding = embedding
    found = decoder.forward(decoder.begin(), ids, 12)
    assert np.isnan(found[7]).all()
    assert np.isfinite(decoder.forward(decoder.begin(), ids[:7], 7)).all()


@pytest.mark.skipif(not get_host_cpu_features().get("avx2"), reason="made for x86 CPUs")
def test_other_instructions_give_the_same_numbers(small: Int8Decoder) -> None:
    """A CPU without VNNI: compiled for one in a process of its own."""
    code = (
        "import sys, numpy as np; sys.path.insert(0, sys.argv[1])\n"
        "from test_int8_decoder import FAMILIES, Team, both, tokens\n"
        "from intract_lsp.inference.jit import KIND, Kind\n"
        "assert KIND == Kind.AVX2, KIND\n"
        "decoder, _ = both(FAMILIES['llama with biases (Granite code)'], Team(2))\n"
        "print(decoder.forward(decoder.begin(), tokens(40), 40).argmax(1).tolist())"
    )
    environment = {**os.environ, "NUMBA_CPU_NAME": "haswell", "NUMBA_CPU_FEATURES": "+avx2,+fma"}
    folder = str(Path(__file__).parent)
    done = subprocess.run(
        [sys.executable, "-c", code, folder], env=environment, capture_output=True, text=True, timeout=280
    )
    assert done.returncode == 0, done.stderr
    expected = small.forward(small.begin(), tokens(40), 40).argmax(1).tolist()
    assert np.mean(np.array(json.loads(done.stdout)) == expected) > 0.9
