"""Runs the drawn cases of tests/golden/postprocess through the filters."""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path
from typing import Any

import pytest

from intract_lsp.completion.context import CompletionContext, Extent, build_context
from intract_lsp.completion.postprocess import after_cache, before_cache
from intract_lsp.completion.request import CompletionRequest, RejectReason, TriggerKind

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

FOLDER = Path(__file__).parents[2] / "golden" / "postprocess"
CASES = [
    pytest.param(case, id=f"{path.stem}: {case['description']}")
    for path in sorted(FOLDER.glob("*.toml"))
    for case in tomllib.loads(path.read_text(encoding="utf-8"))["case"]
]


def outcome(case: dict[str, Any]) -> dict[str, object]:
    drawn = case["context"]["text"]
    if case["context"].get("crlf"):
        drawn = drawn.replace("\n", "\r\n")
    prefix, cursor, suffix = drawn.partition("║")
    assert cursor, "the case draws no cursor"
    request = CompletionRequest("file:///a", 1, case["context"]["language"], prefix, suffix, TriggerKind.INVOKED)
    context = build_context(request)
    if isinstance(context, RejectReason):
        return {"discard": context.value}
    if "extent" in case["context"]:
        context = dataclasses.replace(context, extent=Extent(case["context"]["extent"]))
    cleaned = before_cache(case["suggestion"]["text"], context)
    if isinstance(cleaned, RejectReason):
        return {"discard": cleaned.value}
    typed = case["suggestion"].get("typed", "")
    assert cleaned.startswith(typed)
    context = CompletionContext(prefix + typed, suffix, context.language_id, Extent.LINE if typed else context.extent)
    polished = after_cache(cleaned[len(typed) :], context)
    if isinstance(polished, RejectReason):
        return {"discard": polished.value}
    after = context.prefix + polished.text + "║" + suffix[polished.replace :]
    return {"text": polished.text, "replace": polished.replace, "after": after}


@pytest.mark.parametrize("case", CASES)
def test_golden(case: dict[str, Any]) -> None:
    expected = dict(case["expected"])
    if "discard" not in expected:
        expected.setdefault("replace", 0)
    actual = outcome(case)
    assert {key: actual.get(key) for key in expected | actual if key in expected or key == "discard"} == expected


def test_the_cases_have_distinct_names() -> None:
    assert len(CASES) >= 40
    assert len({case.id for case in CASES}) == len(CASES)
