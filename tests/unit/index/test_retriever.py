"""From a question to pieces of other files: the real store and symbol table, the editor's text over both."""

from __future__ import annotations

import subprocess
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from intract_lsp.completion.request import Retrieved
from intract_lsp.completion.retrieval import Need, Question
from intract_lsp.index.recent import LiveKind, LiveSnippet
from intract_lsp.index.retriever import WorkspaceRetriever
from intract_lsp.index.status import IndexedFolder
from intract_lsp.index.worker import IndexWorker

PATIENCE = 90

FILES = {
    "shop/orders.py": """
def order_total(order, customer):
    basket = open_basket(order)
    for item in basket.items:
        basket.add_tax(item, customer.region)
    return basket.settle_total(customer)
""",
    "shop/returns.py": """
def refund(order, customer):
    basket = open_basket(order)
    for item in basket.items:
        pass
""",
    "docs/guide.md": "# Guide\n\nHow to bake bread.\n",
    ".gitignore": "private/\n",
    "private/notes.py": "def basket_secret(basket, customer):\n    return basket.items.hidden_total(customer)\n",
}
ABOVE = "def refund(order, customer):\n    basket = open_basket(order)\n    for item in basket.items:\n"


@dataclass
class Document:
    uri: str
    version: int
    text: str


class Shop:
    def __init__(self, root: Path) -> None:
        self.root = root
        for name, text in FILES.items():
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).write_text(text)
        self.worker = IndexWorker(root / "cache", root / "state.db", 1000, lambda: False, watch=False)
        self.worker.start()
        self.indexed: tuple[IndexedFolder, ...] = ()
        self.documents: list[Document] = []
        self.retriever = WorkspaceRetriever(lambda uri: self.indexed[0] if self.indexed else None)
        self.retriever.documents = lambda: self.documents

    def index(self) -> None:
        self.worker.set_folders([self.root])
        self.worker.settled().result(PATIENCE)
        self.indexed = self.worker.folders()

    def uri(self, path: str) -> str:
        return (self.root / path).as_uri()

    def ask(
        self,
        path: str = "shop/returns.py",
        above: str = ABOVE,
        tokens: int = 256,
        definitions: bool = False,
        **more: object,
    ) -> list[Retrieved]:
        question = Question(self.uri(path), path, "python", above, "\n", Need(tokens, definitions), **more)  # type: ignore[arg-type]
        return list(self.retriever.ask(question).result(PATIENCE))

    def close(self) -> None:
        self.retriever.close()
        self.worker.stop()


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Shop]:
    made = Shop(tmp_path)
    yield made
    made.close()


def test_definitions_of_the_names_in_use_where_they_are_wanted(shop: Shop) -> None:
    (shop.root / "shop/baskets.py").write_text(
        "class Basket:\n    items: list[str]\n\n    def settle(self, customer: str) -> float:\n        return 0.0\n"
    )
    (shop.root / "shop/other.py").write_text("class Basket:\n    wrong: int\n")
    shop.index()
    above = "from shop.baskets import Basket as Trolley\n\ndef pay(trolley: Trolley):\n"
    assert shop.ask(path="shop/pay.py", above=above) == []
    found = shop.ask(path="shop/pay.py", above=above, definitions=True)
    (piece,) = [one for one in found if one.sources == ("symbols",)]
    assert piece.chunk.path == "shop/baskets.py"
    assert "items: list[str]" in piece.chunk.text
    assert "def settle(self, customer: str) -> float" in piece.chunk.text


def test_where_the_user_was_lately_counts(shop: Shop) -> None:
    (shop.root / "shop/draft.py").write_text("nothing = alike\n")
    shop.index()
    text = FILES["shop/orders.py"].strip("\n").replace("settle_total", "settle_by_hand").replace("item", "thing")

    def was(path: str, text: str) -> None:
        snippet = LiveSnippet(shop.uri(path), 40, text, LiveKind.EDITED, 1.0)
        shop.retriever.recent = lambda uri: [snippet]

    was("shop/draft.py", text)
    lately = [one for one in shop.ask(above=ABOVE.replace("item", "thing")) if "live" in one.sources]
    assert [(one.chunk.path, one.start_line) for one in lately] == [("shop/draft.py", 40)]
    assert "settle_by_hand" in lately[0].chunk.text
    for path, kept in (
        ("private/notes.py", text),
        ("../elsewhere.py", text),
        ("shop/draft.py", f'{text}\n    key = "ghp_{"a1B2" * 9}"'),
        ("shop/draft.py", "nothing = alike\n"),
    ):
        was(path, kept)
        assert not any("live" in one.sources for one in shop.ask(above=ABOVE.replace("item", "thing")))


def test_what_is_not_committed_counts_where_it_is_not_open(shop: Shop) -> None:
    git = ("git", "-C", str(shop.root), "-c", "user.name=n", "-c", "user.email=e", "-c", "commit.gpgsign=false")
    (shop.root / "shop/draft.py").write_text("nothing = alike\n")
    for command in (["init", "-q"], ["add", "."], ["commit", "-qm", "all"]):
        subprocess.run([*git, *command], check=True)
    text = FILES["shop/orders.py"].strip("\n").replace("item", "thing")
    (shop.root / "shop/draft.py").write_text(f"nothing = alike\n{text}\n")
    shop.index()
    deadline = time.monotonic() + PATIENCE
    while not shop.indexed[0].unfinished and time.monotonic() < deadline:
        shop.indexed = shop.worker.folders()
    above = ABOVE.replace("item", "thing")

    def found(path: str) -> set[str]:
        return {one.chunk.path for one in shop.ask(path=path, above=above) if "live" in one.sources}

    assert found("shop/returns.py") == {"shop/draft.py"}
    assert found("shop/draft.py") == set()
    shop.documents = [Document(shop.uri("shop/draft.py"), 1, "nothing = alike\n")]
    assert found("shop/returns.py") == set()


def test_without_an_index_there_is_nothing(shop: Shop) -> None:
    assert shop.ask() == []


def test_without_an_index_the_document_itself_is_searched(shop: Shop) -> None:
    filler = "".join(f"unrelated_{number} = measure({number})\n" for number in range(60))
    (piece,) = shop.ask(path="größe 1.py", above=FILES["shop/orders.py"] + filler + ABOVE)
    assert (piece.chunk.path, piece.sources) == ("größe 1.py", ("document",))
    assert "settle_total" in piece.chunk.text
    assert shop.ask(path="a.py", above=FILES["shop/orders.py"] + filler + ABOVE, tokens=0) == []


def test_what_was_written_below_such_lines_before(shop: Shop) -> None:
    shop.index()
    (found,) = shop.ask()
    assert found.chunk.path == "shop/orders.py"
    assert "basket.add_tax(item, customer.region)" in found.chunk.text
    assert found.sources == ("search",)
    assert found.tokens <= 256
    assert FILES["shop/orders.py"].splitlines()[found.start_line] == found.chunk.text.splitlines()[0]


def test_what_is_present_stays_and_little_room_holds_little(shop: Shop) -> None:
    shop.index()
    first = shop.ask()
    assert shop.ask(present=tuple(first)) == first
    assert shop.ask(tokens=5) == []
    assert shop.ask(tokens=0) == []


def test_unsaved_text_overrules_the_file(shop: Shop) -> None:
    shop.index()
    uri = shop.uri("shop/orders.py")
    text = FILES["shop/orders.py"]
    shop.documents = [Document(uri, 1, text.replace("add_tax(item, customer.region)", "add_duty(item)"))]
    for _ in range(2):
        (found,) = shop.ask()
        assert "add_duty(item)" in found.chunk.text
        assert "add_tax" not in found.chunk.text
    shop.documents = [Document(uri, 2, "")]
    assert shop.ask() == []
    shop.documents = []
    (found,) = shop.ask()
    assert "add_tax" in found.chunk.text


def test_a_document_opened_before_the_index_is_ready(shop: Shop) -> None:
    text = FILES["shop/orders.py"].replace("add_tax", "add_duty")
    shop.documents = [Document(shop.uri("shop/orders.py"), 1, text)]
    assert shop.ask() == []
    shop.index()
    (found,) = shop.ask()
    assert "add_duty" in found.chunk.text


def test_ignored_and_foreign_documents_stay_out(shop: Shop) -> None:
    shop.index()
    text = FILES["shop/orders.py"].replace("add_tax", "add_duty")
    shop.documents = [
        Document(shop.uri("private/notes.py"), 1, text),
        Document("untitled:Untitled-1", 1, text),
        Document("file:///elsewhere/a.py", 1, text),
    ]
    assert all("add_duty" not in found.chunk.text for found in shop.ask())


def test_a_secret_typed_in_another_document_stays_there(shop: Shop) -> None:
    shop.index()
    token = "ghp_" + "a1B2c3D4e5F6" * 3
    text = FILES["shop/orders.py"].replace("    return", f'    basket.key = "{token}"\n    return')
    shop.documents = [Document(shop.uri("shop/orders.py"), 1, text)]
    assert all(token not in found.chunk.text for found in shop.ask())


def test_where_nothing_resembles_the_place_nothing_is_shown(shop: Shop) -> None:
    shop.index()
    assert shop.ask(above="import zebra\n\nquagga = zebra.count()\n") == []


def test_code_of_another_language_is_no_example(shop: Shop) -> None:
    (shop.root / "shop" / "orders.go").write_text(FILES["shop/orders.py"])
    (shop.root / "shop" / "orders.py").unlink()
    shop.index()
    assert shop.ask() == []


def test_a_question_that_is_dropped_takes_no_change_with_it(shop: Shop) -> None:
    """The deadline cancels what waits behind a slow search; the edits that came with it count all the same."""
    shop.index()
    blocked = threading.Event()
    shop.retriever._thread.submit(blocked.wait, PATIENCE)
    text = FILES["shop/orders.py"].replace("add_tax", "add_duty")
    shop.documents = [Document(shop.uri("shop/orders.py"), 1, text)]
    question = Question(shop.uri("shop/returns.py"), "shop/returns.py", "python", ABOVE, "\n", Need(256))
    assert shop.retriever.ask(question).cancel()
    blocked.set()
    (found,) = shop.ask()
    assert "add_duty" in found.chunk.text


def test_a_header_cut_off_inside_a_secret_stays_out_of_open_documents(shop: Shop) -> None:
    """What an open document gives is filtered as what the index reads."""
    shop.index()
    token = "ghp_" + "a1B2c3D4e5F6" * 3
    header = f'class Basket(Base, key="{token}"):\n'
    # Longer than a chunk: each method is one, below the header of its class.
    filler = "".join(f"    def rule_{number}(self):\n" + "        return self.value\n" * 12 for number in range(9))
    body = "".join(f"    {line}\n" for line in FILES["shop/orders.py"].strip().splitlines())
    shop.documents = [Document(shop.uri("shop/orders.py"), 1, header + filler + body)]
    assert all("ghp_" not in found.chunk.text for found in shop.ask())


def test_a_document_does_not_find_itself_whatever_folder_the_editor_counts_from(shop: Shop) -> None:
    shop.index()
    question = Question(shop.uri("shop/orders.py"), "orders.py", "python", ABOVE, "\n", Need(256))
    found = shop.retriever.ask(question).result(PATIENCE)
    assert all(piece.chunk.path != "shop/orders.py" for piece in found)
