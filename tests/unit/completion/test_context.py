from __future__ import annotations

import time

import pytest

from intract_lsp.completion.context import CompletionContext, Extent, build_context
from intract_lsp.completion.request import CompletionRequest, RejectReason, TriggerKind


def build(
    drawn: str,
    language: str = "python",
    trigger: TriggerKind = TriggerKind.AUTOMATIC,
    multi_line: str = "auto",
    tab_size: int = 0,
) -> CompletionContext | RejectReason:
    prefix, _, suffix = drawn.partition("║")
    request = CompletionRequest("file:///a", 1, language, prefix, suffix, trigger, tab_size=tab_size)
    return build_context(request, multi_line)


def built(drawn: str, language: str = "python", multi_line: str = "auto", tab_size: int = 0) -> CompletionContext:
    context = build(drawn, language, TriggerKind.AUTOMATIC, multi_line, tab_size)
    assert isinstance(context, CompletionContext)
    return context


@pytest.mark.parametrize(
    ("drawn", "reason"),
    [
        ("║", RejectReason.NO_TEXT),
        ("a║", RejectReason.NO_TEXT),
        ("ab\0c║", RejectReason.BINARY),
        ("abc║\0", RejectReason.BINARY),
        ("na║me", RejectReason.MID_WORD),
        ("größ║e", RejectReason.MID_WORD),
        ("x = ║name", RejectReason.MID_WORD),
        ("x = f(a║, b)", RejectReason.MID_LINE),
        ("x = a ║+ b", RejectReason.MID_LINE),
    ],
)
def test_refused(drawn: str, reason: RejectReason) -> None:
    assert build(drawn) is reason


@pytest.mark.parametrize("rest", ["", ")", "))", '")', "];", "):", ") {", "}>", "',", "  ", "`);", ");  "])
def test_closers_behind_the_cursor(rest: str) -> None:
    context = built(f"call(a║{rest}\nnext()")
    assert context.line_suffix == rest


def test_invoked_in_the_middle_of_a_line() -> None:
    context = build("x = a ║+ b", trigger=TriggerKind.INVOKED)
    assert isinstance(context, CompletionContext)
    assert context.extent is Extent.LINE
    assert build("na║me", trigger=TriggerKind.INVOKED) is RejectReason.MID_WORD


@pytest.mark.parametrize(
    ("drawn", "language", "extent"),
    [
        ("x = ║", "python", Extent.LINE),
        ("def f():\n    ║", "python", Extent.BLOCK),
        ("def f():\n    ║\n    return 1", "python", Extent.BLOCK),
        ("def f():  # why\n    ║\n    return 1", "python", Extent.BLOCK),
        ("def f():\n    a = 1\n    ║\n    return a", "python", Extent.LINE),
        ("def f():\n    a = 1\n    ║\n\ndef g():", "python", Extent.BLOCK),
        ("def f():║", "python", Extent.LINE),
        ("if x:\n    # so ║", "python", Extent.LINE),
        ("f(() => {\n  ║\n})", "typescript", Extent.BLOCK),
        ("if a then\n  ║\n  b()\nend", "lua", Extent.BLOCK),
        ("foo({║})", "typescript", Extent.LINE),
        ("# Title:\n║", "markdown", Extent.LINE),
        ("fn f() {\r\n    ║\r\n    g();\r\n}", "rust", Extent.BLOCK),
    ],
)
def test_extent(drawn: str, language: str, extent: Extent) -> None:
    assert built(drawn, language).extent is extent


def test_extent_by_setting() -> None:
    assert built("x = ║", multi_line="always").extent is Extent.BLOCK
    assert built("x = f(║)", multi_line="always").extent is Extent.LINE
    assert built("def f():\n    ║", multi_line="never").extent is Extent.LINE


@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_lines_around_the_cursor(end: str) -> None:
    context = built(f"def f():{end}    x = g(║){end}{end}    return x{end}")
    assert context.line_prefix == "    x = g("
    assert context.line_suffix == ")"
    assert context.following_lines == ["    return x"]
    assert context.indent == "    "
    assert context.end_of_line == end


@pytest.mark.parametrize(
    ("drawn", "tab_size", "unit"),
    [
        ("ab║", 0, "    "),
        ("ab║", 2, "  "),
        ("def f():\n  a\n║", 8, "  "),
        ("def f():\n  if a:\n    b\n  ║", 4, "  "),
        ("def f():\n\ta\n║", 4, "\t"),
        ("fn f() {\r\n   a\r\n║", 0, "   "),
        ("ab\n║\ndef f():\n  a\nb", 0, "  "),
        ("class A:\n    def f(self):\n        call(a,\n             b)\n    def g(self):\n        c\n║", 0, "    "),
    ],
)
def test_indent_unit(drawn: str, tab_size: int, unit: str) -> None:
    assert built(drawn, tab_size=tab_size).indent_unit == unit


@pytest.mark.parametrize("rest", [" " * 1_000_000 + "x", ")" * 1_000_000, " " * 1_000_000])
def test_a_megabyte_behind_the_cursor(rest: str) -> None:
    started = time.perf_counter()
    build(f"call(a║{rest}")
    assert time.perf_counter() - started < 1.0
