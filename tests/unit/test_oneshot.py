from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from intract_lsp.app import App, build_app, load_settings
from intract_lsp.console import Reporter
from intract_lsp.errors import IndexingError
from intract_lsp.oneshot import evaluate_file
from intract_lsp.paths import default_paths

HELPER = "def charge_customer(account, amount_in_cents):\n    return account, amount_in_cents\n"
CURSOR = "import helper\n\n\ndef bill(account):\n    # charge_customer with amount_in_cents\n    charged = "


def echo_app(*options: str) -> App:
    settings, problems = load_settings(default_paths(), ("completion.context_tokens=400", *options))
    assert not problems
    return build_app(settings, default_paths(), "echo", watch=False)


def git(folder: Path, *command: str) -> str:
    names = ["-c", "user.name=n", "-c", "user.email=e", "-c", "commit.gpgsign=false"]
    done = subprocess.run(["git", "-C", str(folder), *names, *command], capture_output=True, text=True, check=True)
    return done.stdout.strip()


@pytest.fixture
def items(tmp_path: Path) -> Path:
    """Two items of one file: the helper is in the tree of the second one's parent alone."""
    clone = tmp_path / "clones" / "owner+name"
    clone.mkdir(parents=True)
    git(clone, "init", "-q")
    rows = []
    for name, text in (("other.py", "nothing = 1\n"), ("helper.py", HELPER)):
        (clone / name).write_text(text)
        git(clone, "add", "-A")
        git(clone, "commit", "-qm", name)
        cursor = {"task_id": name, "path": "bill.py", "prefix": CURSOR, "suffix": "\n", "repo": "owner/name"}
        rows.append({**cursor, "parent": git(clone, "rev-parse", "HEAD"), "groundtruth": "helper()"})
    items = tmp_path / "items.jsonl"
    items.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    return items


def shown(app: App) -> list[list[str]]:
    """The paths of the pieces that each request's prompt held: cold and warm of each item."""
    return [[piece.chunk.path for piece in answered.result.pieces] for answered in app.service.history]


def test_each_item_sees_the_tree_of_its_parent(items: Path) -> None:
    app = echo_app()
    evaluate_file(app, items, None, items.parent / "clones", None, None, Reporter())
    assert shown(app) == [[], [], ["helper.py"], ["helper.py"]]
    assert not (app.paths.cache / "evaluation").exists()


def test_a_workspace_is_indexed_too_unless_retrieval_is_off(items: Path) -> None:
    workspace = items.parent / "clones" / "owner+name"
    app = echo_app()
    evaluate_file(app, items, workspace, None, None, None, Reporter())
    assert shown(app) == [["helper.py"]] * 4
    for option in ("completion.retrieval=false", "index.enabled=false"):
        app = echo_app(option)
        evaluate_file(app, items, workspace, None, None, None, Reporter())
        assert shown(app) == [[]] * 4


def test_an_index_that_fails_ends_the_evaluation(items: Path) -> None:
    cache = default_paths().cache
    cache.parent.mkdir(parents=True)
    cache.write_text("in the way")
    with pytest.raises(IndexingError, match="index directory"):
        evaluate_file(echo_app(), items, items.parent, None, None, None, Reporter())
