"""From a question to pieces of other files: the real store and symbol table, the editor's text over both."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from intract_lsp.completion.request import Retrieved
from intract_lsp.completion.retrieval import Question
from intract_lsp.index.retriever import WorkspaceRetriever
from intract_lsp.index.status import IndexedFolder
from intract_lsp.index.worker import IndexWorker

PATIENCE = 30

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
        self, path: str = "shop/returns.py", above: str = ABOVE, tokens: int = 256, **more: object
    ) -> list[Retrieved]:
        question = Question(self.uri(path), path, "python", above, "\n", tokens, **more)  # type: ignore[arg-type]
        return list(self.retriever.ask(question).result(PATIENCE))

    def close(self) -> None:
        self.retriever.close()
        self.worker.stop()


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Shop]:
    made = Shop(tmp_path)
    yield made
    made.close()


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
    question = Question(shop.uri("shop/returns.py"), "shop/returns.py", "python", ABOVE, "\n", 256)
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
    question = Question(shop.uri("shop/orders.py"), "orders.py", "python", ABOVE, "\n", 256)
    found = shop.retriever.ask(question).result(PATIENCE)
    assert all(piece.chunk.path != "shop/orders.py" for piece in found)
