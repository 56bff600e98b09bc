"""``:Intract``, the status line and ``:checkhealth``, with the real server and its echo engine."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from conftest import Neovim, StartNeovim

BY_ITSELF = {"intract.accepted"}
"""Commands of the server that no user runs."""


@pytest.fixture
def opened(neovim: Neovim, source: Path) -> Neovim:
    neovim.open(source)
    neovim.wait(lambda: neovim.execute("intract.status")["engine"]["state"] == "ready" or None, "the engine")
    return neovim


def answers(neovim: Neovim, choice: int | None = None, text: str | None = None, yes: bool = True) -> None:
    """Have what asks the user answered: lists by a number, lines by a text, questions by yes or no."""
    neovim.lua(
        """
        local choice, text, yes = ...
        _G.asked = {}
        vim.ui.select = function(items, options, on_choice)
          local titles = vim.tbl_map(options.format_item or tostring, items)
          table.insert(_G.asked, titles)
          on_choice(choice and items[choice] or nil, choice)
        end
        vim.ui.input = function(options, on_confirm)
          table.insert(_G.asked, options.prompt)
          on_confirm(text)
        end
        vim.fn.confirm = function(question)
          table.insert(_G.asked, question)
          return yes and 1 or 2
        end
        """,
        choice,
        text,
        yes,
    )


def asked(neovim: Neovim) -> list[Any]:
    """Return what the user was asked since ``answers``."""
    return list(neovim.lua("return _G.asked"))


def test_every_command_of_the_server_is_reachable(opened: Neovim) -> None:
    announced = set(opened.lua("return require('intract.servers').announced(require('intract.servers').client())"))
    reached = set(
        opened.lua(
            """
            local found = {}
            local function collect(commands)
              for _, command in pairs(commands) do
                if command.server then
                  table.insert(found, command.server)
                end
                collect(command.sub or {})
              end
            end
            collect(require('intract.commands').tree)
            return found
            """
        )
    )
    assert len(announced) > 10
    assert reached == announced - BY_ITSELF


def test_subcommands_complete(opened: Neovim) -> None:
    def complete(line: str) -> list[str]:
        return list(opened.api.funcs.getcompletion(line, "cmdline"))

    commands = complete("Intract ")
    assert set(commands) >= {"status", "why", "model", "index", "finetune", "adapters", "toggle", "log", "restart"}
    assert complete("Intract st") == ["status"]
    assert complete("Intract index ") == ["reindex", "search", "status"]
    assert complete("Intract finetune s") == ["start", "status"]
    assert "lora" in complete("Intract finetune start ")
    assert "qwen2.5-coder-0.5b" in complete("Intract model qwen")
    assert complete("Intract nothing ") == []


def test_status_is_a_page_to_read(opened: Neovim) -> None:
    page = opened.page("Intract status")
    assert re.search(r"^state +.*is ready\.$", page, re.MULTILINE), page
    assert re.search(r"^suggestions +on$", page, re.MULTILINE), page
    assert "table:" not in page


def test_why_says_what_became_of_the_last_request(opened: Neovim) -> None:
    opened.keys("Gothird")
    opened.wait_ghost("echo(third)")
    opened.keys("<Esc>")
    page = opened.page("Intract why")
    assert page.startswith("A suggestion was shown.")
    assert re.search(r"^time +.*total", page, re.MULTILINE), page


def test_why_says_that_there_is_no_server_here(opened: Neovim) -> None:
    opened.api.command("enew")
    assert "no file with a filetype" in opened.page("Intract why")


def test_the_index_is_shown_rebuilt_and_searched(start_neovim: StartNeovim, source: Path) -> None:
    (source.parent / ".intract.toml").write_text("", encoding="utf-8")
    (source.parent / "shapes.py").write_text("def area_of_circle(radius):\n    return 3.14 * radius**2\n", "utf-8")
    neovim = start_neovim("--engine", "echo", version="0.11")
    neovim.open(source)

    def files() -> bool | None:
        folders = neovim.execute("intract.indexStatus")["folders"]
        return (folders and folders[0]["files"] == 3) or None

    neovim.wait(files, "the files and the settings in the index")
    assert re.search(r"^ +files +3$", neovim.page("Intract index"), re.MULTILINE)
    neovim.api.command("Intract index search area circle")
    found = neovim.wait(lambda: neovim.api.funcs.getqflist() or None, "what was found")
    assert found[0]["lnum"] == 1 and "area_of_circle" in found[0]["text"]
    assert neovim.api.funcs.bufname(found[0]["bufnr"]).endswith("shapes.py")
    neovim.api.command("cclose")
    neovim.api.command("Intract index reindex")
    neovim.wait(lambda: "anew" in neovim.messages or None, "the message")


def test_suggestions_are_switched_off_and_on(opened: Neovim) -> None:
    opened.api.command("Intract toggle")
    opened.wait(lambda: "Completions are off." in opened.messages or None, "the message")
    opened.wait(lambda: statusline(opened) == "intract: paused" or None, "the status line")
    opened.keys("Gothird")
    reason = opened.wait(lambda: opened.execute("intract.why").get("reason"), "the request")
    assert reason == "disabled" and opened.ghost() is None
    opened.keys("<Esc>")
    opened.api.command("Intract toggle")
    opened.wait(lambda: statusline(opened) == "intract" or None, "the status line")


def statusline(neovim: Neovim) -> str:
    return str(neovim.lua("return require('intract').statusline()"))


def test_the_model_is_chosen_from_a_list_and_a_download_is_asked_about(opened: Neovim) -> None:
    answers(opened, choice=1, yes=False)
    opened.api.command("Intract model")
    titles, question = opened.wait(lambda: found if len(found := asked(opened)) == 2 else None, "the two questions")
    assert any("qwen2.5-coder-0.5b" in title and "of memory" in title for title in titles)
    assert question.startswith("Download ")


def test_a_model_that_there_is_not_is_refused_in_a_sentence(opened: Neovim) -> None:
    opened.api.command("Intract model no-such-model")
    opened.wait(lambda: "no-such-model" in opened.messages or None, "the message")
    assert "Traceback" not in opened.messages


def test_adapters_and_runs_say_that_there_are_none(opened: Neovim) -> None:
    assert "There is no adapter yet" in opened.page("Intract adapters")
    opened.api.command("Intract adapters promote")
    opened.wait(lambda: "there is no adapter yet" in opened.messages or None, "the message")
    assert "No run has been asked for yet" in opened.page("Intract finetune")
    opened.api.command("Intract finetune report")
    opened.wait(lambda: "There is no report yet" in opened.messages or None, "the message")
    opened.api.command("Intract finetune cancel")
    opened.wait(lambda: "No run is going on." in opened.messages or None, "the message")


def test_what_destroys_asks_first(opened: Neovim) -> None:
    answers(opened, yes=False)
    opened.api.command("Intract adapters remove some-adapter")
    opened.api.command("Intract adapters rollback")
    opened.api.command("Intract adapters forget")
    opened.api.command("Intract finetune start lora 5")
    questions = asked(opened)
    assert len(questions) == 4
    assert "some-adapter" in questions[0] and "source.py" in questions[2]
    assert opened.execute("intract.fineTune.status").get("run") is None
    opened.api.command("Intract! adapters remove some-adapter")
    opened.wait(lambda: "some-adapter" in opened.messages or None, "the server's refusal")
    assert len(asked(opened)) == 4


def test_mistakes_in_a_command_are_told_in_a_sentence(opened: Neovim) -> None:
    for command, sentence in [
        ("Intract dance", 'knows no "dance"'),
        ("Intract index dance", 'Intract index knows no "dance"'),
        ("Intract finetune start tomorrow", '"tomorrow" is neither'),
    ]:
        opened.keys(f":{command}<CR>")
        opened.wait(lambda: sentence in opened.messages or None, sentence)  # noqa: B023 - waited for at once


def test_the_log_opens(opened: Neovim) -> None:
    opened.api.command("Intract log")
    assert opened.api.current.buffer.name.endswith("intract/logs/server.log")
    assert any("intract_lsp" in line for line in opened.lines)
    opened.api.command("tabclose")


def test_the_health_of_a_right_set_up_is_clean(opened: Neovim) -> None:
    opened.keys("Gothird")
    opened.wait_ghost("echo(third)")
    opened.keys("<Esc>")
    opened.api.command("checkhealth intract")
    report = "\n".join(opened.lines)
    assert "ERROR" not in report and "WARNING" not in report, report
    version = opened.version.replace(".", r"\.")
    for sentence in [
        rf"OK {version}\.\d+",
        r"version \d+\.\d+",
        "attached to 1 buffer",
        "is ready",
        "A suggestion was",
    ]:
        assert re.search(sentence, report), report
    opened.api.command("bwipeout")


ANSWERS = {
    "intract.fineTune.status": {
        "run": "r1",
        "state": "running",
        "message": "step 3 of 9",
        "workspace": "/work/shop",
        "fraction": 0.333,
        "step": 3,
        "steps": 9,
        "loss": 1.25,
        "validationLoss": None,
        "secondsLeft": 130,
        "paused": False,
        "adapter": None,
        "notes": ["The text is short."],
    },
    "intract.adapters.list": {
        "adapters": [
            {
                "id": "shop-1",
                "status": "active",
                "active": True,
                "kind": "lora",
                "base": "tiny",
                "workspace": "/work/shop",
                "metrics": {"edit_similarity_base": 57.3, "edit_similarity_adapter": 68.9},
                "trial": {"message": "9 of 30 suggestions seen with it were kept, and 1 of 8 without it"},
            },
            {
                "id": "shop-2",
                "status": "ready",
                "active": False,
                "kind": "lora",
                "base": "tiny",
                "workspace": "/work/shop",
                "metrics": {},
                "trial": None,
            },
        ],
        "runs": [{"id": "r1", "state": "promoted", "message": "It is better.", "created": 0}],
    },
    "intract.fineTune.report": {"run": "r1", "html": "/runs/r1/report.html", "message": "It is better.", "figures": {}},
    "intract.adapters.promote": {"message": "shop-2 serves."},
}
"""What a server that has trained answers; training itself is not for these tests."""


@pytest.fixture
def trained(opened: Neovim) -> Iterator[Neovim]:
    """A Neovim whose server seems to have trained."""
    opened.lua(
        """
        local servers, answers = require('intract.servers'), ...
        _G.real_execute, _G.calls = servers.execute, {}
        servers.execute = function(command, argument, on_result)
          table.insert(_G.calls, { command, argument or vim.NIL })
          on_result(servers.without_nulls(vim.deepcopy(answers[command])))
        end
        vim.ui.open = function(path)
          _G.opened = path
          return {}
        end
        """,
        ANSWERS,
    )
    yield opened
    opened.lua("require('intract.servers').execute = _G.real_execute")


def test_a_run_and_its_report_are_pages_to_read(trained: Neovim) -> None:
    page = trained.page("Intract finetune status")
    for line in (
        "so far +step 3 of 9",
        "progress +33%",
        "loss +1.250",
        "left +about 3 minutes",
        "- The text is short.",
    ):
        assert re.search(f"^{line}$", page, re.MULTILINE), page
    assert "validation" not in page
    page = trained.page("Intract finetune report")
    assert page.startswith("It is better.") and "Opened /runs/r1/report.html" in page
    assert trained.lua("return _G.opened") == "/runs/r1/report.html"


def test_adapters_are_listed_with_their_gains_and_chosen(trained: Neovim) -> None:
    page = trained.page("Intract adapters list")
    assert page.startswith("* shop-1 (active, edit similarity 57.3 → 68.9)")
    assert "\n    9 of 30 suggestions seen with it were kept, and 1 of 8 without it\n" in page
    assert "  shop-2 (ready, not measured)" in page and "  r1  promoted: It is better." in page
    answers(trained, choice=2)
    trained.api.command("Intract adapters promote")
    assert trained.lua("return _G.calls")[-1] == ["intract.adapters.promote", {"id": "shop-2"}]
    assert "shop-2 serves." in trained.messages


STATUS = {
    "engine": {"state": "ready", "model": "tiny", "message": "", "fraction": None},
    "model": {"name": "tiny", "adapter": ""},
    "enabled": True,
    "disabledLanguages": ["markdown"],
    "index": {"state": "idle", "queue": 0},
    "training": None,
    "busy": False,
}


@pytest.mark.parametrize(
    ("changes", "language", "text"),
    [
        ({}, "python", "intract"),
        ({"engine": {"state": "loading", "model": "tiny", "fraction": 0.416}}, "python", "intract: loading 42%"),
        ({"engine": {"state": "failed", "message": "No weights."}}, "python", "intract: error"),
        ({"engine": {"state": "absent"}}, "python", "intract: no model"),
        ({"engine": {"state": "resting"}}, "python", "intract: training, no suggestions"),
        ({"enabled": False}, "python", "intract: paused"),
        ({}, "markdown", "intract: off for markdown"),
        ({"busy": True}, "python", "intract: …"),
        ({"index": {"state": "indexing", "queue": 7}}, "python", "intract: indexing"),
        ({"training": {"state": "running", "fraction": 0.5, "message": "step"}}, "python", "intract: training 50%"),
        ({"training": {"state": "promoted", "fraction": 1, "message": "done"}}, "python", "intract"),
        (
            {"training": {"state": "running", "fraction": 0.5, "message": "step"}, "busy": True},
            "python",
            "intract: training 50% …",
        ),
    ],
)
@pytest.mark.parametrize("echo_neovim", ["0.12"], indirect=True)
def test_each_state_has_its_words_in_the_status_line(
    echo_neovim: Neovim, changes: dict[str, Any], language: str, text: str
) -> None:
    status = {**STATUS, **changes}
    present = """
        local status, language = ...
        local clean = require('intract.servers').without_nulls(status)
        return require('intract.status').present(clean, language).text
    """
    assert echo_neovim.lua(present, status, language) == text


def test_the_help_has_its_tags(opened: Neovim, tmp_path: Path) -> None:
    help_file = Path(__file__).resolve().parents[2] / "editors" / "nvim" / "doc" / "intract.txt"
    (tmp_path / "intract.txt").write_bytes(help_file.read_bytes())
    opened.api.command(f"helptags {tmp_path}")
    tags = {line.split("\t")[0] for line in (tmp_path / "tags").read_text(encoding="utf-8").splitlines()}
    assert {"intract", "intract-install", ":Intract", "intract.accept()", "intract-statusline"} <= tags
    text = help_file.read_text(encoding="utf-8")
    assert all(len(line) <= 78 for line in text.splitlines())
    for name in opened.lua("return vim.tbl_keys(require('intract.commands').tree)"):
        assert f":Intract {name}" in text
    for name in opened.lua("return vim.tbl_keys(require('intract'))"):
        assert f"*intract.{name}()*" in text
    assert set(re.findall(r"\|(intract[^|]*)\|", text)) <= tags
