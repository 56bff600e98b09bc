from __future__ import annotations

import pytest

from intract_lsp.completion.ahead import after_accepting, at_line_end
from intract_lsp.completion.request import CompletionRequest, Suggestion, TriggerKind


def request(drawn: str, language: str = "python", tab_size: int = 0) -> CompletionRequest:
    prefix, _, suffix = drawn.partition("║")
    return CompletionRequest("file:///a", 1, language, prefix, suffix, TriggerKind.INVOKED, tab_size=tab_size)


def drawn(request: CompletionRequest | None) -> str | None:
    return request and f"{request.prefix}║{request.suffix}"


@pytest.mark.parametrize(
    ("before", "text", "replaced", "after"),
    [
        ("x = ║\nrest\n", "1", 0, "x = 1\n║\nrest\n"),
        ("x = ║", "1", 0, "x = 1\n║"),
        ("    x = ║  \nrest", "1", 0, "    x = 1\n    ║\nrest"),
        ("    x = ║\r\nrest", "1", 0, "    x = 1\r\n    ║\r\nrest"),
        ("f(║)\nrest", "1)", 1, "f(1)\n║\nrest"),
        ("def f():\n    ║\n", "x = 1\n    y = 2", 0, "def f():\n    x = 1\n    y = 2\n    ║\n"),
        ("def f():\n  x = 1\n  ║\n", "if x:  # so", 0, "def f():\n  x = 1\n  if x:  # so\n    ║\n"),
        ("def f():\n  a\n  if a:\n    ║\n", "return 1", 0, "def f():\n  a\n  if a:\n    return 1\n  ║\n"),
        ("def f():\n  a\n  ║\n", "returned = 1", 0, "def f():\n  a\n  returned = 1\n  ║\n"),
    ],
)
def test_the_next_line_is_asked_for_behind_an_accepted_suggestion(
    before: str, text: str, replaced: int, after: str
) -> None:
    following = after_accepting(request(before), Suggestion("id", text, replaced))
    assert drawn(following) == after
    assert following is not None
    assert following.trigger is TriggerKind.AUTOMATIC


def test_other_languages_go_further_in_and_never_out() -> None:
    following = after_accepting(request("fn f() {\n\tx();\n\t║\n}", "rust"), Suggestion("id", "if x {"))
    assert drawn(following) == "fn f() {\n\tx();\n\tif x {\n\t\t║\n}"
    following = after_accepting(request("fn f() {\n\tx();\n\t║\n}", "rust"), Suggestion("id", "return 1"))
    assert drawn(following) == "fn f() {\n\tx();\n\treturn 1\n\t║\n}"
    following = after_accepting(request("║", "c", tab_size=2), Suggestion("id", "if (x) {"))
    assert drawn(following) == "if (x) {\n  ║"


def test_a_line_that_goes_on_has_nothing_to_prepare() -> None:
    assert after_accepting(request("f(║)\n"), Suggestion("id", "1")) is None
    assert after_accepting(request("f(║);\n"), Suggestion("id", "1)", 1)) is None


@pytest.mark.parametrize(
    ("before", "after"),
    [("na║me = 1\nrest", "name = 1║\nrest"), ("a║ b\r\nc", "a b║\r\nc"), ("a║\nb", "a║\nb"), ("a║ b", "a b║")],
)
def test_the_end_of_the_line(before: str, after: str) -> None:
    assert drawn(at_line_end(request(before))) == after
