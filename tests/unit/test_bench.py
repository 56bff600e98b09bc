"""The benches' own arithmetic: keystrokes, percentiles, ratios and the names in their last line."""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

from intract_lsp.completion.generation import Finish, Generation
from intract_lsp.errors import IntractError
from intract_lsp.evaluation.items import Item, read_items
from intract_lsp.training.lora import write_files
from intract_lsp.training.network import attach, load_base
from intract_lsp.training.spec import RunSpec

BENCH = Path(__file__).parents[2] / "scripts" / "bench"


def load(name: str) -> ModuleType:
    """Import a bench as the script that it is: its directory first on the path, which it then changes."""
    before = list(sys.path)
    sys.path.insert(0, str(BENCH))
    try:
        spec = importlib.util.spec_from_file_location(f"bench_{name}", BENCH / f"{name}.py")
        assert spec is not None and spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[spec.name] = module
        spec.loader.exec_module(module)
        return module
    finally:
        sys.path[:] = before


engine = load("engine")
keystrokes = sys.modules["keystrokes"]


def item(prefix: str, truth: str, block: str = "", suffix: str = "\n") -> Item:
    return Item("id", "a.py", prefix, suffix, truth, block or truth, "set")


def stroke(key: int, ms: float, answered: str = "model", line: int = 0, shown: bool = True, **more: Any) -> Any:
    made = keystrokes.Keystroke(
        line=line,
        key=key,
        typed="",
        answered=keystrokes.Answered(answered),
        shown=shown,
        latency_ms=ms,
        decode_ms=0.0,
        decoded=0,
        used=0,
    )
    return replace(made, **more)


def rival(ms: float, shown: bool = True) -> Any:
    return keystrokes.RivalTime(ms, ms / 2, shown)


# What is typed.


def test_the_keys_are_the_indentation_and_then_each_character() -> None:
    line = keystrokes.typed_line(item("def f():\n    re", "turn 1"))
    assert line.before == "def f():\n"
    assert line.keys == ("    ", *"return 1")
    assert line.line_number == 1


def test_enter_is_a_key_where_the_block_goes_on() -> None:
    line = keystrokes.typed_line(item("x\n", "if a:", "if a:\n    b()\n    c()"))
    assert line.keys == (*"if a:", "\n    ")
    assert line.truth == "if a:\n    b()\n    c()"
    assert keystrokes.typed_line(item("x\n", "if a:")).keys[-1] == ":"


def test_lines_are_counted_as_the_protocol_does() -> None:
    line = keystrokes.typed_line(item("a\r\nb\rc\n\td", "e", "e\r\n\tf"))
    assert line.line_number == 3
    assert line.keys == ("\t", "d", "e", "\r\n\t")


def test_what_is_typed_spells_the_document() -> None:
    one = item("a = 1\n  b = ", "[c, d]", "[c, d]\n  e")
    line = keystrokes.typed_line(one)
    assert line.before + "".join(line.keys) == one.prefix + one.truth_line + "\n  "
    assert len(keystrokes.typed_line(one, most_keys=4).keys) == 4


# How a keystroke was answered.


def why(source: str | None = None, reason: str | None = None, prompt: int = 0) -> dict[str, Any]:
    return {"source": source, "reason": reason, "promptTokens": prompt, "message": "A sentence."}


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (why("model", prompt=9), "model"),
        (why("cache"), "cache"),
        (why("in-flight", prompt=9), "in-flight"),
        (why(reason="mid-line"), "gate"),
        (why(reason="secret-file"), "gate"),
        (why(reason="empty", prompt=9), "model"),
        (why(reason="empty"), "cache"),
        (why(reason="after-accept"), "cache"),
    ],
)
def test_how_a_keystroke_was_answered(answer: dict[str, Any], expected: str) -> None:
    assert keystrokes.how_answered(answer).value == expected


@pytest.mark.parametrize("reason", ["loading", "engine-error", "deadline"])
def test_a_server_that_cannot_answer_ends_the_bench(reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        keystrokes.how_answered(why(reason=reason))


# What it adds up to.


def test_percentiles_lie_between_neighbours() -> None:
    assert keystrokes.percentile([4, 1, 3, 2], 0.5) == 2.5
    assert keystrokes.percentile([1, 2, 3], 0.5) == 2
    assert keystrokes.percentile(range(101), 0.95) == 95
    assert keystrokes.percentile([7], 0.95) == 7
    assert keystrokes.percentile([], 0.5) is None


def test_a_ratio_needs_both_sides() -> None:
    assert keystrokes.ratio(1.0, 4.0) == 0.25
    assert keystrokes.ratio(None, 4.0) is None
    assert keystrokes.ratio(1.0, None) is None
    assert keystrokes.ratio(1.0, 0.0) is None


def test_used_tokens_are_those_that_the_author_wrote_too() -> None:
    assert keystrokes.used_tokens(4, "abcd", "abXd") == 2
    assert keystrokes.used_tokens(4, "abcd", "abcdef") == 4
    assert keystrokes.used_tokens(4, "abcd", "ab") == 2
    assert keystrokes.used_tokens(4, "a\nbc", "a\r\nbc") == 4
    assert keystrokes.used_tokens(3, "", "abc") == 0


def test_warm_keystrokes_reached_the_model_behind_another_of_their_line() -> None:
    strokes = [
        stroke(0, 1, "cache"),
        stroke(1, 2),
        stroke(2, 3, "gate", shown=False),
        stroke(3, 4),
        stroke(4, 5, shown=False),
        stroke(5, 6, rival=rival(9, shown=False)),
        stroke(0, 7, line=1),
        stroke(1, 8, line=1, rival=rival(9)),
    ]
    assert [s.latency_ms for s in keystrokes.first_calls(strokes)] == [2, 7]
    assert [s.latency_ms for s in keystrokes.warm_calls(strokes)] == [4, 8]


def test_a_replay_is_summed_up() -> None:
    strokes = [
        stroke(0, 100, rival=rival(400), decoded=10, used=4),
        stroke(1, 20, rival=rival(80), decode_ms=5, decoded=10, used=1),
        stroke(2, 40, rival=rival(160), decode_ms=25),
        stroke(3, 1, "cache"),
        stroke(4, 3, "in-flight"),
        stroke(5, 1, "gate", shown=False),
    ]
    figures = keystrokes.summarise(strokes)
    assert (figures["n"], figures["lines"], figures["keystrokes"]) == (2, 1, 6)
    assert (figures["p50_ms"], figures["llama_p50_ms"], figures["ratio_p50"]) == (30, 120, 0.25)
    assert figures["first_token_ratio_p50"] == 15 / 60
    assert (figures["first_suggestion_p50_ms"], figures["first_suggestion_ratio_p50"]) == (100, 0.25)
    assert figures["answered_without_model"] == 40
    assert figures["refused_by_gate"] == pytest.approx(100 / 6)
    assert figures["all_keystrokes_p50_ms"] == 11.5
    assert (figures["decoded_tokens"], figures["wasted_tokens"], figures["wasted_share"]) == (20, 15, 75)


def test_without_llama_the_names_are_the_same_and_its_figures_missing() -> None:
    figures = keystrokes.summarise([stroke(0, 10), stroke(1, 20)])
    wanted = {"p50_ms", "p95_ms", "answered_without_model", "all_keystrokes_p50_ms", "n"}
    missing = {"ratio_p50", "ratio_p95", "first_token_ratio_p50"}
    assert all(figures[key] is not None for key in wanted)
    assert all(figures[key] is None for key in missing)
    assert json.loads(json.dumps(figures)) == figures


def test_busy_is_compared_with_quiet_over_the_same_keystrokes() -> None:
    quiet = [stroke(0, 9), stroke(1, 10, rival=rival(50)), stroke(2, 30, rival=rival(50)), stroke(3, 99)]
    busy = [stroke(0, 9), stroke(1, 20, rival=rival(500)), stroke(2, 60, rival=rival(500)), stroke(3, 1, "cache")]
    figures = keystrokes.over_quiet(quiet, busy)
    assert (figures["n"], figures["p50_over_quiet"], figures["llama_p50_over_quiet"]) == (2, 2.0, 10.0)
    assert keystrokes.over_quiet([], [])["p50_over_quiet"] is None


def generation(tokens: int, finish: Finish = Finish.STOP, text: str = "", decode_ms: float = 0) -> Generation:
    return Generation(text, finish, 600, token_ids=tuple(range(tokens)), prefill_ms=1000, decode_ms=decode_ms)


def test_decoding_steps_are_the_tokens_without_the_prefills_and_with_the_end() -> None:
    assert engine.steps(generation(5)) == 4
    assert engine.steps(generation(5, Finish.END)) == 5
    assert engine.steps(generation(0, Finish.END)) == 0
    assert engine.steps(generation(0, Finish.CANCELLED)) == 0


def test_the_engines_are_compared() -> None:
    def arm(cold: float, decode: float) -> Any:
        short = Generation("", Finish.LENGTH, 100, token_ids=(1,), prefill_ms=1)
        colds = [(cold, generation(1)), (cold, generation(1)), (1.0, short)]
        return engine.Arm(None, None, colds, [generation(11, decode_ms=decode), generation(1, decode_ms=999)])

    figures = engine.compare(arm(500, 500), arm(500, 250), arm(1000, 1000), 640)
    assert (figures["cold_n"], figures["cold_prompt_tokens"], figures["cold_ratio"]) == (2, 600, 0.5)
    assert figures["prefill_tokens_per_second"] == 600
    assert figures["prefill_ratio"] == 1
    assert figures["decoded_tokens"] == 10
    assert (figures["decode_tokens_per_second"], figures["decode_ratio"]) == (20, 2)
    assert figures["decode_ratio_speculative"] == 4
    assert figures["speculation_equal_text"] == 100
    alone = engine.compare(arm(500, 500), arm(500, 250), None, 640)
    assert alone.keys() == figures.keys()
    assert alone["cold_ratio"] is None


# The scripts themselves.


def run(name: str, home: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(BENCH / name), str(BENCH / "items.jsonl"), *arguments]
    environment = {**os.environ, "INTRACT_HOME": str(home)}
    return subprocess.run(command, capture_output=True, text=True, env=environment, timeout=120)


def test_typing_ends_with_one_json_object(tmp_path: Path) -> None:
    """Also that a script named as a standard module does not stand in for it."""
    ended = run("typing.py", tmp_path, "--engine", "echo", "--limit", "1", "--keys", "6")
    assert ended.returncode == 0, ended.stderr
    figures = json.loads(ended.stdout.splitlines()[-1])
    assert figures["keystrokes"] == 6
    assert figures["model"] == "echo"
    assert figures["p50_ms"] > 0
    assert {"machine", "cores", "precision", "threads", "ratio_p50"} <= figures.keys()


def test_busy_ends_with_one_json_object(tmp_path: Path) -> None:
    ended = run("busy.py", tmp_path, "--engine", "echo", "--limit", "1", "--keys", "6")
    assert ended.returncode == 0, ended.stderr
    figures = json.loads(ended.stdout.splitlines()[-1])
    assert figures["p50_over_quiet"] > 0
    assert figures["burners"] == 1


def test_llama_cpp_needs_its_weights(tmp_path: Path) -> None:
    ended = run("typing.py", tmp_path, "--engine", "echo", "--limit", "1", "--against", "llama.cpp")
    assert ended.returncode == 1
    assert ended.stderr.splitlines()[-1].startswith("typing.py: --against llama.cpp needs --gguf FILE")


def test_a_variant_of_a_training_says_which_part_of_the_spec_it_changes() -> None:
    recipe = load("recipe")
    found = recipe.variant("learning_rate=1e-3,steps=7,lora_r=2,data_ntp_share=0.5")
    assert found == {"learning_rate": 1e-3, "steps": 7, "lora_r": 2, "data_ntp_share": 0.5}
    plain = RunSpec("r", "/work", "/run", "m", "/m", "")
    changed = recipe.with_settings(plain, found)
    trainer = replace(plain.trainer, learning_rate=1e-3, steps=7, lora=replace(plain.trainer.lora, r=2, alpha=4))
    assert changed == replace(plain, trainer=trainer, data=replace(plain.data, ntp_share=0.5))
    assert recipe.with_settings(plain, {}) == plain
    with pytest.raises(argparse.ArgumentTypeError, match="is none of batch_size, "):
        recipe.variant("rate=1")


def test_an_adapter_beside_some_of_the_layers_is_read_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(Path(__file__).parent / "training"))
    from training_models import run_spec, write_qwen

    model = write_qwen(tmp_path / "model")
    spec = run_spec(model, targets=("model.layers.1.self_attn.q_proj", "down_proj"))
    written = attach(load_base(spec), spec)
    written.load({name: torch.full_like(tensor, 0.25) for name, tensor in written.tensors().items()})
    assert written.adapter is not None
    write_files(written.adapter, tmp_path, spec.model, 0.5)
    read = load("recipe").load_adapter(run_spec(model), tmp_path)
    assert read.tensors().keys() == written.tensors().keys() and len(read.tensors()) == 6
    assert all(bool((tensor == 0.25).all()) for tensor in read.tensors().values())
    assert read.adapter.spec.alpha == spec.trainer.lora.alpha / 2


def test_insertions_are_cut_out_of_later_commits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(Path(__file__).parent / "training"))
    from training_projects import commit

    clone, out = tmp_path / "clone", tmp_path / "items.jsonl"
    before = "import os\n\n\ndef first(value):\n    return value\n\n\ndef last(value):\n    return os.fspath(value)\n"
    since = commit(clone, {"a.py": before, "c.py": "one = 1\n"})
    parent = commit(clone, {"c.py": "one = 2\n"}, day=1)
    block = "checked = require(value)\n    print(checked)"
    inserted = f'    """Text of several\n    lines that document it.\n    """\n    {block}\n'
    text = before.replace("(value):\n", f"(value):\n{inserted}", 1).replace("last", "final")
    commit(clone, {"a.py": text, "new.py": "two = 2\n", "a.md": "Not code at all.\n"}, day=2)
    command = [sys.executable, str(BENCH / "insertions.py"), str(clone), "--name", "o/n", "--out", str(out)]
    ended = subprocess.run([*command, "--since", since], capture_output=True, text=True, timeout=120)
    assert ended.returncode == 0, ended.stderr
    assert json.loads(ended.stdout.splitlines()[-1]) == {"commits": 2, "found": 2, "items": 2, "out": str(out)}
    items = {one.prefix.count("\n"): one for one in read_items(out)}
    assert set(items) == {7, 8}, "neither documentation, nor new files, nor lines that took the place of others"
    for number, one in items.items():
        start = "".join(text.splitlines(keepends=True)[:number])
        assert one.prefix.startswith(start)
        assert (one.prefix + one.truth_line).removeprefix(start) == text.splitlines()[number]
        assert one.suffix == before[before.index("    return value") - 1 :], "the parent's file behind the insertion"
        assert (one.repository, one.parent, one.pure_insertion, one.set) == ("o/n", parent, True, "commit-replay")
    assert items[7].truth_block == block.removeprefix(items[7].prefix.rpartition("\n")[2].lstrip())
    assert items[7].crossfile
    wrong = subprocess.run([*command, "--since", "no-such"], capture_output=True, text=True, timeout=120)
    assert wrong.returncode == 1 and "is no whole clone with these commits" in wrong.stderr


def test_two_runs_are_compared_item_by_item(tmp_path: Path) -> None:
    paired = load("paired")

    def rows(name: str, *scores: tuple[bool, float, float]) -> Path:
        names = ("exact_match", "edit_similarity", "saved_characters")
        lines = [{"task_id": str(n), "scores": dict(zip(names, one, strict=True))} for n, one in enumerate(scores)]
        (tmp_path / name).write_text("".join(json.dumps(line) + "\n" for line in lines))
        return tmp_path / name

    first = rows("first", (False, 40.0, 0.5), (True, 100.0, 1.0), (False, 0.0, 0.0))
    second = rows("second", (True, 100.0, 0.75), (True, 100.0, 1.0), (False, 30.0, 0.0))
    figures = paired.compare(paired.pairs([first, second]))
    assert figures["n"] == 3 and figures["mcnemar_p"] == 1.0
    assert figures["exact_match_change"] == pytest.approx(100 / 3)
    assert figures["edit_similarity_change"] == pytest.approx(30)
    assert figures["edit_similarity_low"] == 0 and figures["edit_similarity_high"] == 60
    assert (figures["edit_similarity_better"], figures["edit_similarity_worse"]) == (2, 0)
    assert figures["saved_characters_first"] == 50 and figures["saved_characters_second"] == pytest.approx(58.333, 1e-4)
    both = paired.compare(paired.pairs([first, second, second, first]))
    assert both["n"] == 6 and both["edit_similarity_change"] == 0
    with pytest.raises(IntractError, match="the same items"):
        paired.pairs([first, rows("third", (True, 1.0, 1.0))])
    with pytest.raises(IntractError, match="even number"):
        paired.pairs([first])
    with pytest.raises(IntractError, match="is not what `intract-lsp eval --out` writes"):
        paired.pairs([first, BENCH / "items.jsonl"])
