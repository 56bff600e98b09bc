"""One table a filter: what the golden cases do not draw, edge by edge."""

from __future__ import annotations

import pytest

from intract_lsp.completion.context import CompletionContext, Extent
from intract_lsp.completion.postprocess import after_cache, trim_partial
from intract_lsp.completion.postprocess.blank import refuse_blank
from intract_lsp.completion.postprocess.block import limit_to_block
from intract_lsp.completion.postprocess.brackets import covered, trim_surplus_closers
from intract_lsp.completion.postprocess.extent import limit_to_line
from intract_lsp.completion.postprocess.indentation import fit_first_line, use_document_indentation
from intract_lsp.completion.postprocess.line_ends import trim_end, use_document_ends, use_newlines
from intract_lsp.completion.postprocess.repetition import cut_loop, cut_repeated_lines, tail_loop
from intract_lsp.completion.postprocess.secrets import refuse_secrets
from intract_lsp.completion.postprocess.sentinels import cut_at_sentinel
from intract_lsp.completion.postprocess.suffix import drop_following_lines, trim_overlap
from intract_lsp.completion.request import RejectReason


def at(drawn: str, language: str = "python", extent: Extent = Extent.BLOCK) -> CompletionContext:
    prefix, _, suffix = drawn.partition("║")
    return CompletionContext(prefix, suffix, language, extent)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", RejectReason.EMPTY),
        (" \n\t", RejectReason.BLANK),
        (" x", " x"),
    ],
)
def test_blank(text: str, expected: object) -> None:
    assert refuse_blank(text, at("║")) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a\r\nb\rc\nd", "a\nb\nc\nd"),
        ("a\r", "a\n"),
    ],
)
def test_newlines(text: str, expected: str) -> None:
    assert use_newlines(text, at("║")) == expected


def test_line_ends_of_the_document() -> None:
    assert use_document_ends("a\nb", at("x\r\n║\r\n")) == "a\r\nb"
    assert use_document_ends("a\nb", at("x\n║\n")) == "a\nb"


def test_trim_end_leaves_a_blank_text_to_its_filter() -> None:
    assert trim_end("a \n\n", at("║")) == "a"
    assert trim_end("  ", at("║")) == "  "


@pytest.mark.parametrize(
    "token",
    [
        "<|endoftext|>",
        "<|fim_middle|>",
        "<|file_sep|>",
        "<|im_end|>",
        "<fim_suffix>",
        "<fim-prefix>",
        "<file_sep>",
        "<｜fim▁hole｜>",
        "<｜end▁of▁sentence｜>",
        "▁<MID>",
        "<EOT>",
        "[SUFFIX]",
        "</s>",
        "<end_of_turn>",
        "\ufffd",
        "\x00",
    ],
)
def test_sentinels(token: str) -> None:
    context = at("x = ║")
    assert cut_at_sentinel("f()" + token, context) == "f()"
    assert cut_at_sentinel("  " + token, context) is RejectReason.SENTINEL


@pytest.mark.parametrize("text", ["a <| b |> c", "List<String>", "x < y | z > w", "[suffix]", "<filename>", "a<|b"])
def test_code_that_only_resembles_sentinels(text: str) -> None:
    assert cut_at_sentinel(text, at("x = ║")) == text


@pytest.mark.parametrize(
    ("drawn", "text", "expected"),
    [
        ("x = ║", "1\n2", "1"),
        ("x = 1║", "\ny = 2", ""),
        ("    ║", "\n    y = 2\n    z", "\n    y = 2"),
        ("║", "one\n\ntwo", "one"),
    ],
)
def test_one_line(drawn: str, text: str, expected: str) -> None:
    assert limit_to_line(text, at(drawn, extent=Extent.LINE)) == expected
    assert limit_to_line(text, at(drawn, extent=Extent.BLOCK)) == text


@pytest.mark.parametrize(
    ("drawn", "text", "expected"),
    [
        ("if a:\n    ║", "b\n    c\nd", "b\n    c"),
        ("if a:\n    ║", "b\n\n    c", "b\n\n    c"),
        ("if a:\n    ║", "\ndef f():", ""),
        ("if a:\n║", "    b\nc", "    b"),
        ("    if a:║", "\n        b\n    c\nd", "\n        b\n    c"),
        ("f(\n    ║", "a,\n    b\n)\ng()", "a,\n    b\n)"),
        ("f(\n    ║\n)", "a,\n    b\n)", "a,\n    b"),
        ("f(\n    ║\n);", "a,\n    b\n)", "a,\n    b"),
        ("{\n    ║", "a\n}\nb", "a\n}"),
        ("    {\n        ║", "a\n}", "a"),
        ("if x\n  ║\nend", "y\nend", "y"),
        ("if x\n  ║\nfi", "y\nend", "y\nend"),
    ],
)
def test_block(drawn: str, text: str, expected: str) -> None:
    assert limit_to_block(text, at(drawn)) == expected


@pytest.mark.parametrize(
    ("drawn", "text", "expected"),
    [
        ("f() {\n\t║", "a {\n        b\n    }", "a {\n\t\tb\n\t}"),
        ("f() {\n\t║", "a {\n    b\n  }", "a {\n\t\tb\n\t}"),
        ("f() {\n\ta = 1;║", "    b\n    c", "    b\n\tc"),
        ("f() {\n\ta\n    b\n║", "    b", "    b"),
        ("f():\n  a\n  ║", "if a:\n\t\tb", "if a:\n    b"),
        ("f()\n║", "\tb", "\tb"),
    ],
)
def test_indentation_style(drawn: str, text: str, expected: str) -> None:
    assert use_document_indentation(text, at(drawn)) == expected


@pytest.mark.parametrize(
    ("drawn", "text", "expected"),
    [
        ("x = ║", "  1", "1"),
        ("x =║", " 1", " 1"),
        ("def f():\n║", "    return", "    return"),
        ("def f():\n    ║", "    return", "return"),
        ("def f():\n    ║", " return", "return"),
        ("    a\n    if a:\n    ║", "    b", "    b"),
        ("def f():\n    if a:\n        b\n    ║", "    c", "    c"),
        ("def f():\n    ║", "\n\n    a\n    b", "a\n    b"),
        ("def f():\n    ║", "\n\na", "\n\na"),
        ("import a\n║", "\n\ndef f():", "\n\ndef f():"),
    ],
)
def test_first_line(drawn: str, text: str, expected: str) -> None:
    assert fit_first_line(text, at(drawn)) == expected


@pytest.mark.parametrize(
    ("text", "loops"),
    [
        ("1, 2, " * 6, True),
        ("1, 2, " * 3, False),
        ("word and " * 6, True),
        ("word and " * 4, False),
        ("0" * 64, False),
        ("0" * 120, True),
        ("# " + "-" * 78, False),
        (" " * 200, False),
        ("    add(item)\n" * 4, True),
        ("x = 1\ny = 2\nz = 3\n", False),
    ],
)
def test_tail_loop(text: str, loops: bool) -> None:
    assert (tail_loop(text) is not None) is loops


def test_tail_loop_finds_where_it_begins() -> None:
    assert tail_loop("values=" + "12, " * 100) == (7, 4)


def test_cut_loop_keeps_the_first_copy_of_looping_lines() -> None:
    context = at("║")
    assert cut_loop("a()\n" + "b(1)\nc(22)\n" * 5, context) == "a()\nb(1)\nc(22)"
    assert cut_loop("a()\n" + "12, " * 20, context) == "a()"
    assert cut_loop("12, " * 20, context) is RejectReason.REPETITION


@pytest.mark.parametrize(
    ("drawn", "text", "expected"),
    [
        ("║", "a\na", "a\na"),
        ("║", "a\na\na", "a"),
        ("║", "a\n\na\n\na", "a"),
        ("a\n║", "a\nb", "a\nb"),
        ("a\n║", "a\na", RejectReason.REPETITION),
        ("0,\n0,\n0,\n║", "0,\n0,\n0,", "0,"),
        ("║", "a\n  a\na\n  a\na\n  a", "a\n  a"),
        (
            "first()\nsecond()\nthird_one()\n║",
            "new()\nfirst()\nsecond()\nthird_one()",
            "new()\nfirst()\nsecond()\nthird_one()",
        ),
        ("║", "first()\nsecond()\nthird_one()\nfirst()\nsecond()\nthird_one()", "first()\nsecond()\nthird_one()"),
        ("first()\nsecond()\nthird_one()\nfi║", "rst()\nsecond()\nthird_one()", RejectReason.REPETITION),
    ],
)
def test_repeated_lines(drawn: str, text: str, expected: object) -> None:
    assert cut_repeated_lines(text, at(drawn)) == expected


@pytest.mark.parametrize(
    ("drawn", "text", "expected"),
    [
        ("║\nfoo()", "foo()", RejectReason.REPEATS_SUFFIX),
        ("fo║\nfoo()", "o()", RejectReason.REPEATS_SUFFIX),
        ("    ║\nfoo()", "foo()", "foo()"),
        ("║\n\nfoo()", "bar()\nfoo()\nbaz()", "bar()"),
        ("f() {║\n}", "\n  a;\n}", "\n  a;"),
        ("f() {║\n};", "\n  a;\n}", "\n  a;"),
        ("f() {\n  g() {║\n}", "\n    a;\n  }", "\n    a;\n  }"),
        ("║", "foo()", "foo()"),
        ("║\none = load(1)\ntwo = load(2)", "zero\none = load(1)\ntwo = load(3)", "zero"),
        ("║\none = load(1)", "one = load(2)", "one = load(2)"),
    ],
)
def test_following_lines(drawn: str, text: str, expected: object) -> None:
    assert drop_following_lines(text, at(drawn)) == expected


@pytest.mark.parametrize(
    ("drawn", "text", "expected"),
    [
        ("a = ║ + b", "c + b", "c"),
        ("a = ║ + b", "c", "c"),
        ("a = ║ + b", " + b", RejectReason.REPEATS_SUFFIX),
        ("a = f(║)", "c)", "c)"),
    ],
)
def test_overlap(drawn: str, text: str, expected: object) -> None:
    assert trim_overlap(text, at(drawn)) == expected


@pytest.mark.parametrize(
    ("drawn", "text", "replace"),
    [
        ("f(║)", "a)", 1),
        ("f(║)", "g(a)", 0),
        ("f(║);", "a);", 2),
        ("f([║])", "a])", 2),
        ("f([║])", "a]", 1),
        ("f('║')", "a')", 2),
        ("f(b'║')", "\\'a')", 2),
        ("f(║, ", "a, b", 0),
        ("f(\n  a║)", ", b)", 1),
        ("f(\n  a║)", "(b)", 0),
        ("x = g()║)", ".h())", 1),
        ("f(║) + 1", "a)", 0),
        ("f(║", "a)", 0),
        ("f(║)", "() => {", 0),
        ("f(║ )", "a )", 2),
    ],
)
def test_covered(drawn: str, text: str, replace: int) -> None:
    assert covered(text, at(drawn, "typescript")) == replace


@pytest.mark.parametrize(
    ("drawn", "text", "expected"),
    [
        ("f(║)", "a))", "a)"),
        ("f(║)", "a)", "a)"),
        ("f(║", "a))", "a))"),
        ("f(║)", "() => {", "() => {"),
        ('f("║")', 'a"))', 'a")'),
    ],
)
def test_surplus_closers(drawn: str, text: str, expected: str) -> None:
    assert trim_surplus_closers(text, at(drawn)) == expected


# Put together at run time: the file itself must not look as if it held secrets.
JWT = ".".join(["eyJhbGciOiJIUzI1NiJ9", "eyJzdWIiOiIxMjM0NTY3ODkwIn0", "dozjgNryP4J3jVmNHl0w5N"])
RANDOM = "q7Rk2mZ0" + "Xw9bT4cV" + "n6Yp1sLd" + "8Hg3Jf5A"


@pytest.mark.parametrize(
    "secret",
    [
        "-----BEGIN " + "PRIVATE KEY-----",
        "-----BEGIN OPENSSH " + "PRIVATE KEY-----",
        "AKIA" + "ABCDEFGHIJKLMNOP",
        "ghp_" + "a1" * 18,
        "sk-" + "proj-a1b2c3d4e5f6g7h8i9",
        "xoxb-" + "1234567890-abcdef",
        JWT,
    ],
)
def test_secrets(secret: str) -> None:
    text = f'"{secret}"'
    assert refuse_secrets(text, at("value = ║")) is RejectReason.SECRET
    assert refuse_secrets(text, at(f"value = ║\nother = {text}")) == text


@pytest.mark.parametrize("name", ["api_key", "SECRET", "accessToken", "password", "private_key: str"])
def test_assigned_secrets(name: str) -> None:
    assert refuse_secrets(f'"{RANDOM}"', at(f"{name} = ║")) is RejectReason.SECRET
    assert refuse_secrets(f'{name} = "{RANDOM}"', at("║")) is RejectReason.SECRET


@pytest.mark.parametrize(
    ("drawn", "text"),
    [
        ("checksum = ║", f'"{RANDOM}"'),
        ("key = ║", '"completion.max_block_tokens.of_the_model"'),
        ("key = ║", '"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa1"'),
        ("class_name = ║", '"sk-loading-spinner-container"'),
        (f'key = "{RANDOM}"║', "  # the old one"),
    ],
)
def test_no_secrets(drawn: str, text: str) -> None:
    assert refuse_secrets(text, at(drawn)) == text


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a\nb\nc(", "a\nb"),
        ("a\n\n", "a"),
        ("\n    foo(ba", "\n    foo"),
        ("foo.bar", "foo"),
        ("foo(bar)", "foo(bar)"),
        ("foo(bar, ", "foo(bar,"),
        ("foo(bar + ", "foo(bar"),
        ("foo_ba", ""),
        ("foo()<|fim_mid", "foo()"),
        ("naïve_größe.län", "naïve_größe"),
        ("", ""),
    ],
)
def test_trim_partial(text: str, expected: str) -> None:
    assert trim_partial(text, at("x = ║")) == expected


def test_a_long_line_costs_little() -> None:
    line = "[" * 500_000 + " " * 500_000
    context = at(f"a\n{line}║)]")
    assert not isinstance(after_cache("x)]" * 100, context), RejectReason)
