from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from intract_lsp.settings import (
    Settings,
    SettingsStack,
    as_toml,
    layer_from_options,
    merge_layers,
    read_layer,
    setting_names,
)

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib


def merged(*layers: dict[str, Any]) -> tuple[Settings, list[str]]:
    return merge_layers((f"layer {index}", layer) for index, layer in enumerate(layers))


def test_without_layers_the_defaults_hold() -> None:
    assert merged() == (Settings(), [])


def test_later_layers_win_and_leave_the_rest() -> None:
    now, problems = merged(
        {"model": {"name": "low", "threads": 1}, "log": {"level": "debug"}},
        {"model": {"name": "middle", "device": "cpu"}},
        {"model": {"name": "high"}},
    )
    assert (now.model.name, now.model.threads, now.model.device, now.log.level) == ("high", 1, "cpu", "debug")
    assert not problems


def test_layers_are_not_changed() -> None:
    low, high = {"model": {"name": "a", "threads": "bad"}}, {"model": {"name": "b"}}
    merged(low, high)
    assert (low, high) == ({"model": {"name": "a", "threads": "bad"}}, {"model": {"name": "b"}})


def test_every_problem_is_listed_and_everything_else_holds() -> None:
    now, problems = merged(
        {
            "model": {"threads": -1, "device": "tpu", "name": "kept"},
            "completion": {"deadline_ms": "soon", "enabled": False, "debonce_ms": 5},
            "log": "loud",
            "colour": "blue",
        }
    )
    assert len(problems) == 6
    for name in ("model.threads", "model.device", "completion.deadline_ms", "completion.debonce_ms", "log", "colour"):
        assert sum(f" {name} " in problem or f" {name}." in problem for problem in problems) == 1, name
    for problem in problems:
        assert problem.startswith("layer 0: ")
        assert problem.endswith(".")
        assert "\n" not in problem
    assert (now.model.name, now.completion.enabled) == ("kept", False)
    assert now.model.threads == Settings().model.threads
    assert now.log == Settings().log


def test_a_wrong_value_leaves_the_layer_below() -> None:
    now, problems = merged({"model": {"threads": 3}}, {"model": {"threads": 10_000}})
    assert now.model.threads == 3
    assert len(problems) == 1
    assert "10000" in problems[0]


@pytest.mark.parametrize(
    ("section", "name", "near"),
    [
        ("completion", "debonce_ms", "completion.debounce_ms"),
        ("model", "thread", "model.threads"),
    ],
)
def test_unknown_names_get_the_nearest(section: str, name: str, near: str) -> None:
    _, (problem,) = merged({section: {name: 1}})
    assert f"there is no setting {section}.{name} (did you mean {near}?)" in problem


def test_a_name_like_no_other_gets_no_suggestion() -> None:
    _, (problem,) = merged({"completion": {"zzzzzzzzzzzzzzzzzzzzzzz": 1}})
    assert problem == "layer 0: there is no setting completion.zzzzzzzzzzzzzzzzzzzzzzz."


def test_a_long_value_is_not_quoted() -> None:
    _, (problem,) = merged({"model": {"device": "x" * 500}})
    assert "a str" in problem
    assert "xxx" not in problem


@pytest.mark.parametrize(
    "layer",
    [{"model": None}, {"model": []}, {"model": {"name": ""}}, {"completion": {"disabled_languages": "python"}}],
)
def test_values_of_the_wrong_kind(layer: dict[str, Any]) -> None:
    now, problems = merged(layer)
    assert now == Settings()
    assert len(problems) == 1


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)
sections = st.sampled_from(["model", "completion", "log", "other"])
setting_keys = st.sampled_from([*(name.partition(".")[2] for name in setting_names()), "unknown"])


@given(st.dictionaries(sections, st.one_of(json_values, st.dictionaries(setting_keys, json_values, max_size=4))))
def test_no_layer_breaks_the_settings(layer: dict[str, Any]) -> None:
    now, problems = merged(layer)
    assert isinstance(now, Settings)
    assert all(isinstance(problem, str) and problem.endswith(".") for problem in problems)
    assert merged(layer) == (now, problems)


# --- where layers come from


def test_a_file(tmp_path: Path) -> None:
    file = tmp_path / "config.toml"
    file.write_text('[model]\nname = "größer"\n', encoding="utf-8")
    problems: list[str] = []
    assert read_layer(file, problems) == (str(file), {"model": {"name": "größer"}})
    assert not problems


def test_a_missing_file_is_no_problem(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    problems: list[str] = []
    for path in (tmp_path / "none.toml", tmp_path / "file" / "config.toml"):
        assert read_layer(path, problems) == (str(path), {})
    assert not problems


@pytest.mark.parametrize("content", [b"[model\n", b"\xff\xfe", b"a = 1\na = 2\n"])
def test_a_broken_file_is_one_problem(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "config.toml"
    file.write_bytes(content)
    problems: list[str] = []
    assert read_layer(file, problems)[1] == {}
    (problem,) = problems
    assert str(file) in problem
    assert "ignored" in problem


def test_a_directory_in_place_of_the_file_is_one_problem(tmp_path: Path) -> None:
    problems: list[str] = []
    read_layer(tmp_path, problems)
    assert len(problems) == 1


def test_options_of_the_command_line() -> None:
    problems: list[str] = []
    options = [
        "model.threads=2",
        "completion.enabled=false",
        'model.name="a=b"',
        "model.device=cpu",
        "log.level = debug",
    ]
    layer = layer_from_options(options, problems)
    assert not problems
    assert layer["model"] == {"threads": 2, "name": "a=b", "device": "cpu"}
    assert layer["completion"] == {"enabled": False}
    now, problems = merged(layer)
    assert not problems
    assert now.log.level == "debug"


@pytest.mark.parametrize("option", ["model.threads", "threads=2", "a.b.c=1", ".x=1", "model.=1", ""])
def test_what_is_no_option(option: str) -> None:
    problems: list[str] = []
    assert layer_from_options([option], problems) == {}
    (problem,) = problems
    assert repr(option) in problem
    assert "section.name=value" in problem


def test_a_stack_keeps_its_order_whatever_is_put_first() -> None:
    stack = SettingsStack()
    assert stack.put("session", "s", {"completion": {"enabled": False}}) == []
    assert stack.put("command line", "c", {"model": {"threads": 4}}) == []
    assert stack.put("user file", "u", {"model": {"threads": 1, "name": "u"}, "completion": {"enabled": True}}) == []
    assert (stack.current.model.threads, stack.current.model.name) == (4, "u")
    assert stack.current.completion.enabled is False
    assert [source for source, _ in stack.layers()] == ["u", "c", "s"]


def test_a_layer_can_be_replaced_live() -> None:
    stack = SettingsStack()
    stack.put("client", "client", {"model": {"threads": 4, "name": "x"}})
    problems = stack.put("client", "client", {"model": {"threads": "many", "device": "cpu"}})
    assert len(problems) == 1
    assert stack.values("client") == {"model": {"device": "cpu"}}
    assert (stack.current.model.threads, stack.current.model.name) == (0, "auto")


def test_values_are_a_copy() -> None:
    stack = SettingsStack()
    stack.put("client", "client", {"model": {"threads": 4}})
    stack.values("client")["model"]["threads"] = 5
    assert stack.values("client") == {"model": {"threads": 4}}
    assert stack.values("session") == {}


# --- what is made from the classes


def test_names_are_those_of_the_schema() -> None:
    schema = Settings.model_json_schema()
    definitions = schema["$defs"]
    found = []
    for section, value in schema["properties"].items():
        reference = value.get("$ref") or value["allOf"][0]["$ref"]
        found += [f"{section}.{name}" for name in definitions[reference.rpartition("/")[2]]["properties"]]
    assert found == setting_names()


def test_every_setting_is_documented() -> None:
    schema = Settings.model_json_schema()
    for section in schema["$defs"].values():
        for name, value in section["properties"].items():
            assert len(value.get("description", "")) > 15, name
            assert value["description"].endswith("."), name
            assert "default" in value, name


def test_settings_cannot_be_changed_in_place() -> None:
    with pytest.raises(ValueError, match="frozen"):
        Settings().model.name = "x"  # type: ignore[misc]


def test_toml_round_trip() -> None:
    changed, _ = merged(
        {
            "model": {"name": 'a "quoted" C:\\path\nß😀', "threads": 3, "offline": True},
            "completion": {"disabled_languages": ["markdown", "c"], "debounce_ms": -1},
        }
    )
    for settings in (Settings(), changed):
        text = as_toml(settings)
        assert merged(tomllib.loads(text)) == (settings, [])
        assert text.count("# ") == len(setting_names())
