from __future__ import annotations

import time

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from intract_lsp.completion.context import CompletionContext, Extent
from intract_lsp.completion.stop import MAX_LINES, stop_rule


def at(drawn: str, extent: Extent) -> CompletionContext:
    prefix, _, suffix = drawn.partition("║")
    return CompletionContext(prefix, suffix, "python", extent)


def stream(text: str, context: CompletionContext) -> str:
    """Feed a text by the character; return what is kept."""
    rule = stop_rule(context)
    for end in range(1, len(text) + 1):
        keep = rule(text[:end])
        if keep is not None:
            return text[:keep]
    return text


@pytest.mark.parametrize(
    ("drawn", "text", "kept"),
    [
        ("x = ║", "1\ny", "1"),
        ("x = 1║", "\ny", ""),
        ("    ║", "\n    x = 1\ny", "\n    x = 1"),
        ("    ║", "\n\n\n\n", ""),
        ("x = ║", "12, " * 40, "12, " * 6),
        ("x = ║", "no end yet", "no end yet"),
    ],
)
def test_line(drawn: str, text: str, kept: str) -> None:
    assert stream(text, at(drawn, Extent.LINE)) == kept


@pytest.mark.parametrize(
    ("drawn", "text", "kept"),
    [
        pytest.param("def f():\n    ║", "a = 1\n    b\nc", "a = 1\n    b\nc", id="unfinished line is not judged"),
        pytest.param("def f():\n    ║", "a = 1\n    b\nc\n", "a = 1\n    b", id="dedent"),
        pytest.param("f(\n    ║", "a,\n)\ng()\n", "a,\n)", id="missing closing line"),
        pytest.param("f(\n    ║\n)", "a,\n)\ng()\n", "a,", id="closing line is there"),
        pytest.param("║", "def f():\n    return 1\n\ndef g():\n", "def f():\n    return 1", id="next definition"),
        pytest.param("║", "@cache\ndef f():\n    return 1\n", "@cache\ndef f():\n    return 1\n", id="decorator"),
        pytest.param("def f():║", "\n    return 1\n\ndef g():\n", "\n    return 1", id="cursor behind a header"),
        pytest.param("║", "a = 1\n\n\nb = 2\n", "a = 1", id="two blank lines"),
        pytest.param("║", "\n\ndef f():\n", "\n\ndef f():\n", id="blank lines before a definition"),
        pytest.param("║", "\n\n\n\n", "", id="blank lines only"),
        pytest.param("║\n\nfoo()\n", "a = 1\nfoo()\nbar()\n", "a = 1", id="suffix reached"),
        pytest.param("║\n\nfoo()\n", "foo()\nbar()\n", "foo()", id="suffix at once is for the filter to name"),
        pytest.param("║", "ab()\nab()\nab()\nab()\n", "ab()\nab()\nab()", id="same line"),
        pytest.param("║", "a = 1\n" + "12, " * 40, "a = 1", id="looping line"),
    ],
)
def test_block(drawn: str, text: str, kept: str) -> None:
    assert stream(text, at(drawn, Extent.BLOCK)) == kept


def test_line_limit() -> None:
    lines = [f"value_{index} = {index * 7919}" for index in range(MAX_LINES + 3)]
    assert stream("\n".join(lines), at("║", Extent.BLOCK)) == "\n".join(lines[:MAX_LINES])


PIECES = [
    "\n",
    "\n\n",
    "\n    ",
    "    ",
    "  ",
    "\t",
    "a",
    "bc",
    "0, ",
    "}",
    "end",
    "def f():",
    "@d",
    "x = 1",
    ")",
    "# c",
]
texts = st.lists(st.sampled_from(PIECES), max_size=60).map("".join)
contexts = st.builds(
    CompletionContext, prefix=texts, suffix=texts, language_id=st.just("python"), extent=st.sampled_from(Extent)
)


@settings(max_examples=400, deadline=None)
@given(texts, contexts)
@example("a\n0, 0, 0, 0, 0, 0, 0, 0, \nb\n", at("    ║", Extent.BLOCK))
@example("bc" * 60 + "\n" + "bc" * 60 + "\n", at("║\n" + "bc" * 60, Extent.BLOCK))
def test_a_stream_keeps_no_more_than_the_whole(text: str, context: CompletionContext) -> None:
    keep = stop_rule(context)(text)
    whole = text if keep is None else text[:keep]
    streamed = stream(text, context)
    assert whole.startswith(streamed)


@settings(max_examples=300, deadline=None)
@given(st.text(max_size=80), contexts)
def test_keeps_a_part(text: str, context: CompletionContext) -> None:
    keep = stop_rule(context)(text)
    assert keep is None or 0 <= keep <= len(text)


def test_a_call_is_cheap() -> None:
    context = at("def f():\n    ║\n    return 1\n", Extent.BLOCK)
    rule = stop_rule(context)
    text = "\n".join(f"    value_{index} = load_from_somewhere({index * 7919}, 'abc')" for index in range(8)) * 4
    assert len(text) < 2048
    started = time.perf_counter()
    for _ in range(50):
        rule(text)
    # Measured at 0.1 ms a call; the bound leaves room for a busy machine and still catches anything quadratic.
    assert (time.perf_counter() - started) / 50 < 0.005
