from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path

import pytest
from training_projects import QWEN, byte_tokenizer, commit, copy, git, module, project, spec

from intract_lsp.completion.generation import Chunk
from intract_lsp.errors import TrainingError
from intract_lsp.training.preparation import RunData, cursor_of, prepare
from intract_lsp.training.sample import SampleKind
from intract_lsp.training.spec import RunSpec

TOKENIZER = byte_tokenizer()


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return project(tmp_path_factory.mktemp("project"))


def prepared(asked: RunSpec, **changes: object) -> RunData:
    arguments = {"retrieve": None, "loss_of": None, "report": lambda sentence, fraction: None} | changes
    return prepare(asked, TOKENIZER, QWEN, **arguments)  # type: ignore[arg-type]


def small(root: Path, **data: object) -> RunSpec:
    values: dict[str, object] = {"context_length": 128, "held_out": 6, "least_held_out": 2, "replay_share": 0.0} | data
    return spec(root, steps=10, **values)


def test_a_run_has_samples_places_and_a_plan(tmp_path: Path, template: Path) -> None:
    copy(template, tmp_path)
    said: list[str] = []
    asked = small(tmp_path, replay_share=0.1)
    data = prepared(asked, report=lambda sentence, fraction: said.append(sentence))
    assert said[0] == "Reading the project" and len(said) >= 4
    plan = data.plan
    assert not plan.weak and plan.head == git(tmp_path, "rev-parse", "HEAD")
    assert dict(plan.files) == {
        f"src/{name}.py": git(tmp_path, "rev-parse", f"{plan.commit}:src/{name}.py")
        for name in ("one", "two", "three", "four")
    }
    rows = b"".join(path.encode() + b"\0" + blob.encode() + b"\n" for path, blob in sorted(plan.files))
    assert plan.fingerprint == hashlib.sha256(rows).hexdigest()
    # Steps times batch bound the holes; text comes on top.
    assert sum(plan.samples.values()) == len(data.train) >= 70
    assert sum(plan.tokens.values()) == sum(len(sample.ids) for sample in data.train)
    assert max(len(sample.ids) for sample in [*data.train, *data.validation, *data.replay]) <= 128
    assert len(data.replay) == pytest.approx(len(data.train) / 9, rel=0.4)
    assert (plan.validation_places, plan.test_places) == (len(data.validation_items), len(data.test_items))
    assert len(data.validation_items) + len(data.test_items) == 6
    assert len(data.validation) == len(data.validation_items)
    values = json.loads(json.dumps(plan.values()))
    assert values["files"] == 4 and values["commit"] == plan.commit and values["samples"]["text"] > 0
    assert data == prepared(asked)
    assert data.train != prepared(replace(asked, trainer=replace(asked.trainer, seed=1))).train


def test_nothing_that_is_measured_is_trained_on(tmp_path: Path, template: Path) -> None:
    copy(template, tmp_path)
    data = prepared(small(tmp_path))
    shown = [TOKENIZER.decode(sample.ids) for sample in data.train]
    for item in (*data.validation_items, *data.test_items):
        line = (item.prefix.split("\n")[-1] + item.truth_line).strip()
        if line not in ("return os.path.join(", "import os"):
            assert not any(line in text for text in shown), line


def test_validation_samples_are_the_places(tmp_path: Path, template: Path) -> None:
    copy(template, tmp_path)

    def retrieve(path: str, language: str, above: str, below: str, tokens: int) -> tuple[Chunk, ...]:
        return (Chunk("lib/x.py", "found = 1"),)

    data = prepared(small(tmp_path, context_length=256), retrieve=retrieve)
    for sample, item in zip(data.validation, data.validation_items, strict=True):
        text = TOKENIZER.decode(sample.ids)
        answer = TOKENIZER.decode(sample.ids[sample.supervised_from : -1])
        assert answer.endswith((item.truth_block, item.truth_line)) and sample.with_context
        assert "# lib/x.py\nfound = 1" in text
        cursor = cursor_of(item)
        assert cursor.prefix.endswith(item.prefix[-200:]) and cursor.middle == item.truth_block
    assert any(sample.with_context for sample in data.train)


def test_duplicates_and_copies_of_new_files_are_left_out(tmp_path: Path, template: Path) -> None:
    copy(template, tmp_path)
    kept, fresh = module("kept", 12), module("fresh", 12)
    commit(tmp_path, {"a.py": kept, "b.py": kept.replace("total_3", "sum_3"), "c.py": fresh}, day=192)
    commit(tmp_path, {"d.py": fresh.replace("total_5", "sum_5"), "e.py": module("e", 6)}, day=205)
    data = prepared(small(tmp_path))
    assert not data.plan.weak
    assert {"a.py"} == {path for path, _ in data.plan.files} & {"a.py", "b.py", "c.py", "d.py", "e.py"}
    reasons = {refused.path: refused.reason for refused in data.plan.refused}
    assert reasons["b.py"] == "It says nearly the same as a.py."
    assert reasons["c.py"] == "It says nearly the same as code that is kept for measuring, in d.py."


def test_files_that_the_model_can_make_nothing_of_are_left_out(tmp_path: Path, template: Path) -> None:
    copy(template, tmp_path)
    asked: list[str] = []

    def loss_of(text: str) -> float:
        asked.append(text)
        return 3.4 if "two_" in text else float("nan") if "three_" in text else 2.9

    data = prepared(small(tmp_path), loss_of=loss_of)
    assert {path for path, _ in data.plan.files} == {"src/one.py", "src/four.py"}
    reasons = {refused.path: refused.reason for refused in data.plan.refused}
    assert reasons["src/two.py"] == reasons["src/three.py"]  # one line of the list of what is left out
    assert "a loss of more than 3.0 a token" in reasons["src/two.py"]
    assert len(asked) == 4 and max(map(len, asked)) <= 1600


@pytest.mark.parametrize(("fim", "ntp"), [(True, False), (False, True)])
def test_one_kind_of_samples_alone(tmp_path: Path, template: Path, fim: bool, ntp: bool) -> None:
    copy(template, tmp_path)
    data = prepared(small(tmp_path, use_fim=fim, use_ntp=ntp))
    assert {sample.kind is SampleKind.TEXT for sample in data.train} == {ntp}
    assert data.replay == []


def test_secrets_are_in_no_sample_and_are_handed_on_for_the_probe(tmp_path: Path, template: Path) -> None:
    token = "ghp_" + "aB3dE5gH7jK9mN1pQ3sT5vW7yZ9bC1eF3hJ5"
    copy(template, tmp_path)
    text = module("safe", 6) + f'\n\ndef connect() -> str:\n    return "{token}"\n'
    commit(tmp_path, {"src/net.py": text}, day=191)
    commit(tmp_path, {"src/one.py": module("one", 30)}, day=205)
    data = prepared(small(tmp_path))
    assert [path for path, _ in data.secrets] == ["src/net.py"] and token in data.secrets[0][1]
    assert not any(token in TOKENIZER.decode(sample.ids) for sample in data.train)
    assert any(sample.path == "src/net.py" for sample in data.train)
    assert token not in repr(data)


def test_too_little_says_how_much_is_needed(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text("x = 1\n" * 10)
    with pytest.raises(TrainingError, match=r"too little code.*tokens, and 2,000 are needed"):
        prepared(small(tmp_path))
    with pytest.raises(TrainingError, match="not there"):
        prepared(small(tmp_path / "missing"))
    with pytest.raises(TrainingError, match="switch one on"):
        prepared(small(tmp_path, use_fim=False, use_ntp=False))
    outer = tmp_path / "outer"
    commit(outer, {"a.py": "x = 1\n" * 10})
    git(outer, "update-index", "--add", "--cacheinfo", f"160000,{git(outer, 'rev-parse', 'HEAD')},inner")
    git(outer, "commit", "-qm", "inner")
    with pytest.raises(TrainingError, match="submodules are folders of their own: fine-tune on inner"):
        prepared(small(outer))
    (tmp_path / "b.py").write_text(module("b", 60))
    with pytest.raises(TrainingError, match=r"gives \d+ samples, and 20 are needed"):
        prepared(spec(tmp_path, steps=1, context_length=128))
