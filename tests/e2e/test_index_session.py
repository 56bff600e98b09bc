"""The index of a session, through the protocol: built, searched, followed, switched off and on."""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from raw_client import CLIENT, SECONDS, AnsweredWithError, RawClient, Start, server_command, watched_command

SEARCHABLE_SECONDS = 1.0
PROGRESS = {**CLIENT, "window": {"workDoneProgress": True}}
AT_ONCE = "from intract_lsp.server import progress; progress.PATIENCE = 0.0; from intract_lsp.cli import main; main()"
"""Starts the server with one that shows a build of the index however short it is."""


def write(root: Path, **files: str) -> None:
    for name, text in files.items():
        path = root / name.replace("__", "/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.with_suffix(".py").write_text(text, encoding="utf-8")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A folder with two files; blanks and letters of other scripts in its path."""
    root = tmp_path / "vœux 漢 work"
    write(
        root,
        billing="class Invoice:\n    def settle_invoice(self, amount):\n        return amount\n",
        deep__orders="import billing\n\n\ndef place_order(customer):\n    return billing.Invoice()\n",
    )
    return root


@pytest.fixture
def crowded(tmp_path: Path) -> Path:
    """A folder that takes seconds to index."""
    root = tmp_path / "crowded"
    for number in range(150):
        lines = (f"def part_{number}_{line}(value):\n    return value * {line}\n" for line in range(20))
        write(root, **{f"pack_{number % 20}__module_{number}": "\n".join(lines)})
    return root


@pytest.fixture
def open_folders(start: Start) -> Callable[..., RawClient]:
    """Return a function that begins a session with folders."""

    def run(*roots: Path, command: list[str] | None = None, capabilities: Any = None, **options: Any) -> RawClient:
        client = start(command)
        client.initialize(capabilities, workspaceFolders=[folder(root) for root in roots], **options)
        return client

    return run


def folder(root: Path) -> dict[str, str]:
    return {"uri": root.as_uri(), "name": root.name}


def run_until(client: RawClient, command: str, accept: Callable[[Any], object], *arguments: object) -> Any:
    params = {"command": command, "arguments": list(arguments)}
    return client.until("workspace/executeCommand", accept, params)


def settled(client: RawClient, files: int) -> Any:
    """Wait until all is quiet with so many files indexed."""

    def accept(status: Any) -> bool:
        folders = status["folders"]
        return all(each["state"] == "idle" for each in folders) and sum(each["files"] for each in folders) == files

    return run_until(client, "intract.indexStatus", accept)["folders"]


def search(client: RawClient, query: str) -> list[dict[str, Any]]:
    results = client.run("intract.searchWorkspace", {"query": query})["results"]
    assert isinstance(results, list)
    return results


def paths(client: RawClient, query: str) -> set[str]:
    return {result["path"] for result in search(client, query)}


def seconds_until(condition: Callable[[], bool]) -> float:
    """Return how long a condition, asked for again and again, takes to hold."""
    began = time.monotonic()
    while not condition():
        assert time.monotonic() - began < SECONDS
        time.sleep(0.01)  # the server is to index, not to search
    return time.monotonic() - began


def test_a_folder_is_indexed_and_searched(open_folders: Callable[..., RawClient], root: Path) -> None:
    client = open_folders(root)
    (status,) = settled(client, 2)
    assert status["root"].endswith(root.name)
    assert status["chunks"] >= 2
    assert status["queue"] == 0
    assert status["diskBytes"] > 0
    assert 0 <= status["ageSeconds"] < SECONDS
    best = search(client, "settle")[0]
    assert (best["path"], best["symbol"].partition(".")[0]) == ("billing.py", "Invoice")
    assert "def settle_invoice(self, amount):" in best["text"]
    assert 1 <= best["start_line"] <= 2 <= best["end_line"] <= 3
    assert best["root"] == status["root"]
    shown = client.notified("intract/status", lambda status: status["index"] and status["index"]["files"] == 2)
    assert shown["index"].keys() >= {"state", "files", "chunks", "queue", "updatedAt", "message"}
    assert len(client.run("intract.searchWorkspace", {"query": "invoice", "limit": 1})["results"]) == 1
    assert search(client, "no_such_word_anywhere") == search(client, "") == []
    assert client.leave() == 0
    assert "Traceback" not in client.stderr


@pytest.mark.parametrize("arguments", [{}, {"query": 3}, {"query": "a", "limit": 0}, {"query": "a", "limit": "all"}])
def test_a_wrong_question_is_answered_with_what_is_right(client: RawClient, arguments: dict[str, Any]) -> None:
    with pytest.raises(AnsweredWithError, match=r"intract\.searchWorkspace takes"):
        client.run("intract.searchWorkspace", arguments)


def test_a_saved_file_is_found_within_a_second(open_folders: Callable[..., RawClient], root: Path) -> None:
    """The fastest of some saves counts: other work on the machine only ever adds time."""
    client = open_folders(root)
    settled(client, 2)
    times: list[float] = []
    for number in range(5):
        name = f"fresh_name_{'abcde'[number]}"
        write(root, saved=f"def {name}():\n    return 1\n")
        client.notify("textDocument/didSave", {"textDocument": {"uri": (root / "saved.py").as_uri()}})
        times.append(seconds_until(lambda name=name: any(name in one["text"] for one in search(client, name))))
        if times[-1] < SEARCHABLE_SECONDS:
            break
    assert min(times) < SEARCHABLE_SECONDS


def test_what_others_change_is_followed(open_folders: Callable[..., RawClient], root: Path) -> None:
    client = open_folders(root)
    settled(client, 2)
    write(root, later__quiet="def unannounced_function():\n    return 2\n")
    seconds_until(lambda: paths(client, "unannounced function") == {"later/quiet.py"})
    shutil.move(root / "later", root / "moved")
    seconds_until(lambda: paths(client, "unannounced function") == {"moved/quiet.py"})
    shutil.rmtree(root / "moved")
    seconds_until(lambda: not paths(client, "unannounced function"))
    (root / "billing.py").unlink()
    change = {"uri": (root / "billing.py").as_uri(), "type": 3}
    client.notify("workspace/didChangeWatchedFiles", {"changes": [change]})
    seconds_until(lambda: not paths(client, "settle"))
    settled(client, 1)


def test_the_client_is_asked_to_watch_where_it_can(start: Start) -> None:
    client = start()
    client.initialize({**CLIENT, "workspace": {"didChangeWatchedFiles": {"dynamicRegistration": True}}})
    (registration,) = client.requested("client/registerCapability")["registrations"]
    assert registration["method"] == "workspace/didChangeWatchedFiles"
    assert registration["registerOptions"] == {"watchers": [{"globPattern": "**/*"}]}


def test_ignored_files_are_left_out(open_folders: Callable[..., RawClient], root: Path) -> None:
    (root / ".gitignore").write_text("hidden/\n*_local.py\n")
    (root / ".intractignore").write_text("private.py\n")
    for name in ("hidden__a", "b_local", "private", "node_modules__c"):
        write(root, **{name: "def ignored_function():\n    return 3\n"})
    client = open_folders(root)
    settled(client, 2)
    assert paths(client, "ignored function") == set()
    assert paths(client, "place order") == {"deep/orders.py"}


def test_folders_come_and_go(open_folders: Callable[..., RawClient], root: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    write(other, extra="def only_in_the_other():\n    return 4\n")
    client = open_folders(root)
    settled(client, 2)

    def change(**event: Any) -> None:
        client.notify("workspace/didChangeWorkspaceFolders", {"event": {"added": [], "removed": [], **event}})

    change(added=[folder(other)])
    assert len(settled(client, 3)) == 2
    assert paths(client, "only in the other") == {"extra.py"}
    change(removed=[folder(root)])
    (status,) = settled(client, 1)
    assert status["root"].endswith("other")
    assert paths(client, "settle") == set()
    change(removed=[folder(other)])
    settled(client, 0)
    assert client.run("intract.indexStatus")["folders"] == []
    client.notified("intract/status", lambda status: status["index"] is None)


def test_a_folder_inside_another_is_found_once(open_folders: Callable[..., RawClient], root: Path) -> None:
    client = open_folders(root, root / "deep")
    settled(client, 3)
    assert len(search(client, "place order")) == 1


def test_the_index_is_switched_off_and_on_while_it_runs(open_folders: Callable[..., RawClient], root: Path) -> None:
    client = open_folders(root)
    settled(client, 2)

    def push(**index: Any) -> None:
        client.notify("workspace/didChangeConfiguration", {"settings": {"intract": {"index": index}}})

    push(enabled=False)
    run_until(client, "intract.indexStatus", lambda status: status["folders"] == [])
    answer = client.run("intract.searchWorkspace", {"query": "settle"})
    assert answer["results"] == []
    assert "No folder is open" in answer["message"]
    write(root, meanwhile="def written_while_off():\n    return 5\n")
    push(disabled_folders=[root.name])
    assert client.run("intract.reindex")["message"].startswith("No folder")
    push(enabled=True)
    settled(client, 3)
    assert paths(client, "written while off") == {"meanwhile.py"}
    push(max_files=2)
    (status,) = settled(client, 2)
    assert "2" in status["message"]


def test_without_a_folder_nothing_is_indexed(start: Start) -> None:
    client = start(watched_command())
    client.initialize()
    client.wait_ready()
    client.notify("textDocument/didSave", {"textDocument": {"uri": "file:///w/a.py"}})
    client.notify("workspace/didChangeWatchedFiles", {"changes": [{"uri": "untitled:x", "type": 2}]})
    assert client.run("intract.indexStatus")["folders"] == []
    assert client.run("intract.status")["index"] is None
    for command in ("intract.reindex", "intract.indexStatus"):
        assert "No folder is open" in client.run(command)["message"]
    assert not {"lancedb", "pyarrow", "tree_sitter", "watchdog", "detect_secrets"} & set(client.call("$test/modules"))
    assert client.leave() == 0


def test_a_huge_folder_is_capped_and_the_status_says_so(open_folders: Callable[..., RawClient], root: Path) -> None:
    for number in range(10):
        write(root, **{f"deep__down__file_{number}": "def far_below():\n    return 6\n"})
    client = open_folders(root, initializationOptions={"index": {"max_files": 2}})
    (status,) = settled(client, 2)
    assert "2" in status["message"]
    assert paths(client, "settle") == {"billing.py"}
    assert paths(client, "far below") == set()


def test_reindexing_finds_everything_again(open_folders: Callable[..., RawClient], root: Path) -> None:
    client = open_folders(root)
    settled(client, 2)
    assert root.name in client.run("intract.reindex")["message"]
    settled(client, 2)
    assert paths(client, "settle") == {"billing.py"}


def test_a_folder_that_vanishes_is_no_trouble(open_folders: Callable[..., RawClient], root: Path) -> None:
    client = open_folders(root)
    client.wait_ready()
    settled(client, 2)
    shutil.rmtree(root)
    client.notify("textDocument/didSave", {"textDocument": {"uri": (root / "billing.py").as_uri()}})
    run_until(client, "intract.indexStatus", lambda status: status["folders"][0]["message"])
    client.open((root / "billing.py").as_uri(), "x = spam")
    assert client.complete((root / "billing.py").as_uri(), 0, 8)["items"]
    assert client.leave() == 0
    assert "Traceback" not in client.stderr


def test_a_folder_that_is_not_there_is_no_trouble(open_folders: Callable[..., RawClient], tmp_path: Path) -> None:
    client = open_folders(tmp_path / "nowhere")
    run_until(client, "intract.indexStatus", lambda status: [one for one in status["folders"] if one["message"]])
    assert client.leave() == 0


def shown_progress(client: RawClient) -> list[dict[str, Any]]:
    found = (n["params"] for n in client.notifications if n["method"] == "$/progress")
    return [params["value"] for params in found if params["token"].startswith("intract-index-")]


def test_a_long_build_is_shown_with_its_progress(open_folders: Callable[..., RawClient], crowded: Path) -> None:
    command = [sys.executable, "-c", AT_ONCE, *server_command()[3:]]
    client = open_folders(crowded, command=command, capabilities=PROGRESS)
    client.notified("$/progress", lambda params: params["value"]["kind"] == "report")
    settled(client, 150)
    end = client.notified("$/progress", lambda params: params["value"].get("message") == "150 files")
    begin, *reports, last = shown_progress(client)
    assert (begin["kind"], begin["title"], begin["cancellable"]) == ("begin", "Indexing crowded", True)
    assert last == end["value"]
    assert last["kind"] == "end"
    percentages = [report["percentage"] for report in reports if report.get("percentage") is not None]
    assert percentages == sorted(percentages)
    assert percentages, "how far it is, however quick the machine"
    client.notifications.clear()
    write(crowded, one__more="def one_more():\n    return 7\n")
    settled(client, 151)
    assert shown_progress(client) == []


def test_the_user_can_pause_the_indexing(open_folders: Callable[..., RawClient], crowded: Path) -> None:
    command = [sys.executable, "-c", AT_ONCE, *server_command()[3:]]
    client = open_folders(crowded, command=command, capabilities=PROGRESS)
    begun = client.notified(
        "$/progress", lambda p: p["value"]["kind"] == "begin" and p["token"].startswith("intract-index")
    )
    client.notify("window/workDoneProgress/cancel", {"token": begun["token"]})
    assert "paused" in client.notified("window/showMessage")["message"]
    run_until(client, "intract.indexStatus", lambda status: status["folders"] == [])
    assert client.run("intract.indexStatus")["message"].startswith("Indexing is paused")
    client.notified("$/progress", lambda params: params["value"]["kind"] == "end")
    client.notify("textDocument/didSave", {"textDocument": {"uri": (crowded / "pack_0" / "module_0.py").as_uri()}})
    settled(client, 150)


def test_the_end_of_a_session_does_not_wait_for_the_index(
    open_folders: Callable[..., RawClient], crowded: Path
) -> None:
    client = open_folders(crowded)
    client.notified("intract/status", lambda status: status["index"] and status["index"]["files"] > 0)
    began = time.monotonic()
    assert client.leave() == 0
    assert time.monotonic() - began < 3.0
    assert "Traceback" not in client.stderr


@pytest.fixture
def both(tmp_path: Path, root: Path) -> Iterator[tuple[RawClient, RawClient]]:
    """Two servers of one user on one folder."""
    clients = []
    for _ in range(2):
        clients.append(RawClient(server_command(), tmp_path / "shared"))
        clients[-1].initialize(workspaceFolders=[folder(root)])
    yield clients[0], clients[1]
    for client in clients:
        client.kill()


def test_two_servers_share_the_index_of_a_folder(both: tuple[RawClient, RawClient], root: Path) -> None:
    for client in both:
        seconds_until(lambda client=client: paths(client, "settle") == {"billing.py"})
    write(root, shared="def seen_by_both():\n    return 8\n")
    for client in both:
        seconds_until(lambda client=client: paths(client, "seen by both") == {"shared.py"})
    both[0].leave()
    write(root, shared="def seen_by_the_one_left():\n    return 9\n")
    seconds_until(lambda: any("left" in one["text"] for one in search(both[1], "seen by the one left")))


CRUST = """def bake(oven, crust):
    dough = knead_dough(crust)
    for layer in dough.layers:
        dough.spread(layer, oven.heat)
    return dough.finish_pie(oven)
"""


def live_pieces(client: RawClient, uri: str, text: str) -> list[tuple[str, int]]:
    """Return the places, lines from 1, that a completion was shown of where the user was lately."""
    client.run("intract.clearCache")
    client.complete(uri, text.count("\n"), 4)
    context = client.run("intract.why", {"uri": uri})["context"]
    return [(piece["path"], piece["start_line"]) for piece in context if "live" in piece["sources"]]


def test_what_was_edited_or_copied_elsewhere_is_shown(open_folders: Callable[..., RawClient], root: Path) -> None:
    command = server_command("--set", "completion.retrieval_deadline_ms=5000", "--set", "completion.context_tokens=256")
    client = open_folders(root, command=command)
    settled(client, 2)
    billing, orders = (root / "billing.py").as_uri(), (root / "deep" / "orders.py").as_uri()
    text = "def order(oven, crust):\n    dough = knead_dough(crust)\n    for layer in dough.layers:\n    "
    client.open(orders, text)
    client.open(billing, "class Invoice:\n    pass\n")
    assert live_pieces(client, orders, text) == []
    client.notify("intract/copied", {"textDocument": {"uri": billing}, "text": CRUST, "line": 7})
    assert live_pieces(client, orders, text) == [("billing.py", 8)]
    client.notify("intract/copied", {"textDocument": {"uri": billing}, "text": 3})
    assert client.leave() == 0
    assert client.log.count("intract/copied names no text") == 1


def test_where_an_edit_was_made_is_shown(open_folders: Callable[..., RawClient], root: Path) -> None:
    command = server_command("--set", "completion.retrieval_deadline_ms=5000", "--set", "completion.context_tokens=256")
    client = open_folders(root, command=command)
    settled(client, 2)
    billing, orders = (root / "billing.py").as_uri(), (root / "deep" / "orders.py").as_uri()
    text = "def order(oven, crust):\n    dough = knead_dough(crust)\n    for layer in dough.layers:\n    "
    client.open(orders, text)
    client.open(billing, "class Invoice:\n    pass\n")
    client.change(billing, 2, {"range": at(2, 0), "text": CRUST})
    assert live_pieces(client, orders, text) == [("billing.py", 1)]


def test_where_an_edit_was_made_is_forgotten_when_the_closed_file_changes(
    open_folders: Callable[..., RawClient], root: Path
) -> None:
    command = server_command("--set", "completion.retrieval_deadline_ms=5000", "--set", "completion.context_tokens=256")
    client = open_folders(root, command=command)
    settled(client, 2)
    billing, orders = (root / "billing.py").as_uri(), (root / "deep" / "orders.py").as_uri()
    text = "def order(oven, crust):\n    dough = knead_dough(crust)\n    for layer in dough.layers:\n    "
    client.open(orders, text)
    client.open(billing, "class Invoice:\n    pass\n")
    client.change(billing, 2, {"range": at(2, 0), "text": CRUST})
    client.close_document(billing)
    assert live_pieces(client, orders, text) == [("billing.py", 1)]
    client.notify("workspace/didChangeWatchedFiles", {"changes": [{"uri": billing, "type": 2}]})
    assert live_pieces(client, orders, text) == []


def at(line: int, character: int) -> dict[str, Any]:
    place = {"line": line, "character": character}
    return {"start": place, "end": place}
