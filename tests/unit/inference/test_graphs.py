"""The passes that CUDA graphs are recorded of, computed one by one: they need no GPU to be right."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from transformers import AutoModelForCausalLM, LlamaConfig, Qwen2Config, Starcoder2Config

from intract_lsp.inference import graphs, weights
from intract_lsp.inference.buffers import KeyValues
from intract_lsp.inference.decoder import LeanDecoder
from intract_lsp.inference.graphs import ROWS, GraphedDecoder
from intract_lsp.inference.kv_cache import PrefixCache
from intract_lsp.inference.torch_network import TorchNetwork

SIZES: dict[str, Any] = {
    "vocab_size": 97,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 4096,
    "initializer_range": 0.2,
}
CONFIGS: dict[str, Any] = {
    "qwen2": Qwen2Config(**SIZES),
    "one key head a query head": LlamaConfig(**{**SIZES, "num_key_value_heads": 4}),
    "starcoder2": Starcoder2Config(**SIZES, use_bias=True, sliding_window=None),
}


@pytest.fixture(autouse=True)
def small_capacity(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(graphs, "FIRST_CAPACITY", 32)


def decoder_of(config: Any, context_length: int = 4096, flash: bool = False) -> LeanDecoder:
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config).eval()
    with torch.inference_mode():
        shape, tensors = weights.take_over(model, context_length)
        return LeanDecoder(shape, tensors, flash=flash)


@pytest.fixture(scope="module")
def lean() -> LeanDecoder:
    return decoder_of(CONFIGS["qwen2"])


class Recorder:
    """In the place of CUDA's: computes once to warm up, as that does, and gives the same tensor each time."""

    def __init__(self) -> None:
        self.recorded = 0
        self.played = 0

    def __call__(self, compute: Callable[[], Tensor]) -> Callable[[], Tensor]:
        self.recorded += 1
        result = compute().clone()

        def play() -> Tensor:
            self.played += 1
            return result.copy_(compute())

        return play


def tokens(count: int, seed: int = 1) -> list[int]:
    return torch.randint(97, (count,), generator=torch.Generator().manual_seed(seed)).tolist()


def assert_same(found: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(found, expected, atol=2e-4, rtol=1e-4)
    assert torch.equal(found.argmax(-1), expected.argmax(-1))


@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
@torch.inference_mode()
def test_the_logits_are_those_of_the_plain_forward(config: Any) -> None:
    plain, record = decoder_of(config), Recorder()
    graphed = GraphedDecoder(plain, record)
    ours, theirs = graphed.begin(), plain.begin()
    for piece in (tokens(20), [5], tokens(9, 2), tokens(2, 3), tokens(4, 4), tokens(40, 5), [7], tokens(5, 6)):
        assert_same(graphed.forward(ours, piece, len(piece)), plain.forward(theirs, piece, len(piece)))
    tree = [-1, 0, 0, 1, 2, 2, 0, 5, 7]
    assert_same(graphed.forward(ours, tokens(9, 7), 9, tree), plain.forward(theirs, tokens(9, 7), 9, tree))
    torch.testing.assert_close(ours.keys[:, :, : ours.length], theirs.keys[:, :, : theirs.length], atol=1e-4, rtol=1e-4)
    assert record.played == 7


@torch.inference_mode()
def test_what_was_cut_off_and_computed_anew_is_copied_anew(lean: LeanDecoder) -> None:
    graphed = GraphedDecoder(lean, Recorder())
    ours, theirs = graphed.begin(), lean.begin()
    for network, sequence in ((graphed, ours), (lean, theirs)):
        for piece in ([2], tokens(9), tokens(9, 2)):
            network.forward(sequence, piece)
        sequence.cut(4)
        network.forward(sequence, tokens(12, 3))  # too many rows to be played
    assert_same(graphed.forward(ours, [1]), lean.forward(theirs, [1]))


pieces = st.one_of(
    st.tuples(st.just("append"), st.lists(st.integers(0, 96), min_size=1, max_size=11)),
    st.tuples(st.just("tree"), st.lists(st.tuples(st.integers(0, 96), st.integers(0, 8)), min_size=1, max_size=9)),
    st.tuples(st.just("cut"), st.integers(0, 20)),
    st.tuples(st.just("switch"), st.just(None)),
    st.tuples(st.just("copy"), st.integers(0, 20)),
)


@given(st.lists(pieces, max_size=12))
@torch.inference_mode()
def test_whatever_happens_to_the_sequences(lean: LeanDecoder, moves: list[tuple[str, Any]]) -> None:
    """Appending, trees of which one path is kept, cutting, copies, and two sequences taking turns."""
    graphed = GraphedDecoder(lean, Recorder())
    pairs = [(graphed.begin(), lean.begin()), (graphed.begin(), lean.begin())]
    for move, what in moves:
        ours, theirs = pairs[0]
        if move == "append":
            assert_same(graphed.forward(ours, what, len(what)), lean.forward(theirs, what, len(what)))
        elif move == "tree":
            ids = [id_ for id_, _ in what]
            parents = [parent % (index + 1) - 1 for index, (_, parent) in enumerate(what)]
            start = ours.length
            assert_same(
                graphed.forward(ours, ids, len(ids), parents), lean.forward(theirs, ids, len(ids), list(parents))
            )
            path, node = [len(ids) - 1], parents[-1]
            while node >= 0:
                path.insert(0, node)
                node = parents[node]
            for each in (ours, theirs):
                each.keep(start, path)
        elif move == "cut":
            for each in (ours, theirs):
                each.cut(max(0, each.length - what))
        elif move == "copy":
            length = max(0, ours.length - what)
            pairs[1] = (ours.copy(length), theirs.copy(length))
        else:
            pairs.reverse()
        assert pairs[0][0].length == pairs[0][1].length
    for ours, theirs in pairs:
        assert_same(graphed.forward(ours, [3], 1), lean.forward(theirs, [3], 1))


@torch.inference_mode()
def test_each_pass_is_recorded_once() -> None:
    record = Recorder()
    graphed = GraphedDecoder(decoder_of(CONFIGS["qwen2"]), record)
    fractions: list[float] = []
    graphed.prepare(60, fractions.append)
    assert record.recorded == len(fractions) == 2 * len(ROWS)
    assert fractions == sorted(fractions)
    assert (fractions[0], record.played) == (0, 0)
    sequence = graphed.begin()
    for _ in range(30):
        graphed.forward(sequence, [1])
        graphed.forward(sequence, [1])
    assert (record.recorded, record.played) == (2 * len(ROWS), 60)
    for _ in range(3):
        graphed.forward(sequence, tokens(9))
    assert record.recorded == 2 * len(ROWS) + 1, "and a larger one when it is needed"


@torch.inference_mode()
def test_beyond_the_context_and_for_many_rows_nothing_is_played() -> None:
    record = Recorder()
    graphed = GraphedDecoder(decoder_of(CONFIGS["qwen2"], context_length=48), record)
    sequence = graphed.begin()
    graphed.forward(sequence, tokens(46))
    graphed.forward(sequence, tokens(2), 2)
    assert record.played == 1, "the pass is longer than the context, the sequence is not"
    graphed.forward(sequence, [1])
    assert (record.played, sequence.length) == (1, 49)
    graphed.forward(graphed.begin(), tokens(10))
    assert record.played == 1


@torch.inference_mode()
def test_a_recording_that_fails_is_done_without(lean: LeanDecoder, caplog: pytest.LogCaptureFixture) -> None:
    def record(compute: Callable[[], Tensor]) -> Callable[[], Tensor]:
        raise RuntimeError("operation not permitted when stream is capturing")

    graphed = GraphedDecoder(lean, record)
    ours, theirs = graphed.begin(), lean.begin()
    with caplog.at_level(logging.WARNING):
        for piece in (tokens(3), [5], tokens(9)):
            assert torch.equal(graphed.forward(ours, piece, len(piece)), lean.forward(theirs, piece, len(piece)))
    assert [record.message for record in caplog.records] == [
        "CUDA graphs cannot be recorded (operation not permitted when stream is capturing): "
        "each step starts its kernels one by one"
    ]


@torch.inference_mode()
def test_what_is_not_a_number_in_one_sequence_stays_there(lean: LeanDecoder) -> None:
    graphed = GraphedDecoder(lean, Recorder())
    broken = graphed.begin()
    graphed.forward(broken, tokens(9))
    graphed.forward(broken, tokens(9))
    broken.keys.fill_(float("nan"))
    broken.values.fill_(float("nan"))
    broken.keep(0, [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12])
    assert graphed.forward(broken, [1]).isnan().all()
    assert_same(graphed.forward(graphed.begin(), [1, 2], 2), lean.forward(lean.begin(), [1, 2], 2))


def test_the_prefix_cache_works_on_it(lean: LeanDecoder) -> None:
    graphed, plain = (
        PrefixCache(TorchNetwork(GraphedDecoder(lean, Recorder())), 1 << 20),
        PrefixCache(TorchNetwork(lean), 1 << 20),
    )
    first, second = tokens(70), tokens(60, 2)
    for prompt in (first, [*first[:10], 4, 5], second, first, [*first[:66], 9], [*second, 1, 2, 3]):
        assert graphed.reuse(prompt) == plain.reuse(prompt)
        ours, theirs = (cache.append(prompt[len(cache) :]) for cache in (graphed, plain))
        assert_same(torch.from_numpy(ours), torch.from_numpy(theirs))


def test_a_sequence_is_let_go_of(lean: LeanDecoder) -> None:
    graphed = GraphedDecoder(lean, Recorder())
    with torch.inference_mode():
        sequence: KeyValues | None = graphed.begin()
        assert sequence is not None
        graphed.forward(sequence, [1])
        seen = graphs.weakref.ref(sequence)
        del sequence
    assert seen() is None


@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
@torch.inference_mode()
def test_the_form_that_flash_attention_takes(config: Any) -> None:
    plain, flash = decoder_of(config), decoder_of(config, flash=True)
    ours, theirs = flash.begin(), plain.begin()
    for piece in (tokens(30), tokens(7, 2), [1]):
        assert_same(flash.forward(ours, piece, len(piece)), plain.forward(theirs, piece, len(piece)))
    tree = [-1, -1, 0]
    assert_same(flash.forward(ours, [1, 2, 3], 3, tree), plain.forward(theirs, [1, 2, 3], 3, tree))
