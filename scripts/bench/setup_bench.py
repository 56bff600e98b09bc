"""What the benches share: their arguments, the model, llama.cpp beside it, and what machine they ran on."""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import platform
import re
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from keystrokes import Figures
from rich.console import Console
from rich.progress import track
from rich.table import Table
from server_session import ServerSession

from intract_lsp.app import load_settings
from intract_lsp.completion.generation import CancelToken, PromptBudget
from intract_lsp.errors import IntractError, SettingsError
from intract_lsp.evaluation.items import Item, read_items
from intract_lsp.inference.engine import LoadOrder
from intract_lsp.models import fetch
from intract_lsp.models.store import InstalledModel
from intract_lsp.paths import default_paths
from intract_lsp.settings import Settings

if TYPE_CHECKING:
    from llama_engine import LlamaEngine

Thing = TypeVar("Thing")

FIXED = (
    "completion.prefix_tokens=512",
    "completion.suffix_tokens=128",
    "completion.debounce_ms=0",
    "completion.deadline_ms=120000",
)
"""Settings of every bench: one size of prompt whatever the device, and each request answered at once and in full."""


def parser(description: str | None, rivals: Sequence[str] = ("llama.cpp",)) -> argparse.ArgumentParser:
    """Return a parser with the arguments that every bench takes; ``rivals`` are what it can be measured beside."""
    made = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("items", type=Path, metavar="ITEMS.jsonl")
    made.add_argument("--limit", type=int, metavar="N", help="N items at most")
    made.add_argument("--every", type=int, default=1, metavar="N", help="take every n-th item")
    made.add_argument("--model", default="auto", metavar="M", help="our model (default: the one for this machine)")
    made.add_argument("--set", action="append", default=[], metavar="SECTION.NAME=VALUE", help="any setting")
    made.set_defaults(engine="model")
    made.add_argument("--against", choices=rivals, help="measure this beside ours, alternating")
    made.add_argument("--gguf", type=Path, metavar="FILE", help="its weights: the file our model was converted from")
    return made


def add_typing_arguments(made: argparse.ArgumentParser) -> None:
    """Add what the benches take that type through the server."""
    made.add_argument("--keys", type=int, metavar="N", help="N keys of a line at most")
    made.add_argument("--engine", choices=["model", "echo"], help="what answers in the server")


def run(name: str, main: Callable[[argparse.Namespace], None], arguments: argparse.Namespace) -> None:
    """Run a bench; what the user can repair ends it with a sentence."""
    try:
        check(arguments)
        main(arguments)
    except IntractError as error:
        sys.exit(f"{name}: {error}")


def check(arguments: argparse.Namespace) -> None:
    """Raise ``IntractError`` for what would otherwise show minutes later, or make the server fetch a model."""
    settings_in_force(arguments)
    if arguments.engine == "model":
        installed_model(arguments.model)
    if arguments.against == "llama.cpp":
        if arguments.gguf is None or not arguments.gguf.is_file():
            raise IntractError("--against llama.cpp needs --gguf FILE, the GGUF that the model was converted from.")
        import_llama()


def chosen_items(arguments: argparse.Namespace) -> list[Item]:
    return read_items(arguments.items)[:: arguments.every][: arguments.limit]


def bench_settings(arguments: argparse.Namespace) -> list[str]:
    """Return SECTION.NAME=VALUE texts: what the benches fix, the model, and over them what the user sets."""
    return [*FIXED, f"model.name={json.dumps(arguments.model)}", *arguments.set]


def settings_in_force(arguments: argparse.Namespace) -> Settings:
    """Return the settings that a server with ``bench_settings`` has. Raises ``SettingsError``."""
    stack, problems = load_settings(default_paths(), bench_settings(arguments))
    if problems:
        raise SettingsError(problems)
    return stack.current


def installed_model(name: str) -> InstalledModel:
    """Return a model that is on this machine; benches fetch none."""
    found = fetch.cached(name, default_paths())
    if found is None:
        raise IntractError(f"{name} is not on this machine; fetch it with `intract-lsp models pull {name}`.")
    return found


def start_server(arguments: argparse.Namespace) -> ServerSession:
    return ServerSession(bench_settings(arguments), arguments.engine)


@dataclass(frozen=True, slots=True)
class Rival:
    """llama.cpp, loaded."""

    engine: LlamaEngine
    load_s: float
    facts: Figures
    """What the bench's last line says of it."""


def budget_in_force(arguments: argparse.Namespace) -> PromptBudget:
    completion = settings_in_force(arguments).completion
    return PromptBudget(completion.prefix_tokens, completion.suffix_tokens)


def rival(arguments: argparse.Namespace, threads: int) -> Rival | None:
    """Load llama.cpp where the arguments ask for it, with our threads and our tokenizer."""
    if arguments.against != "llama.cpp":
        return None
    gguf, module = arguments.gguf, import_llama()
    installed = installed_model(arguments.model)
    same = same_weights(installed, gguf)
    if same is False:
        print(f"Note: {installed.name} was not converted from {gguf.name}: the weights differ.", file=sys.stderr)
    engine: LlamaEngine = module.LlamaEngine(installed, threads, budget_in_force(arguments))
    began = time.perf_counter()
    engine.load(LoadOrder(str(gguf)), lambda sentence, fraction: None, CancelToken())
    seconds = time.perf_counter() - began
    return Rival(engine, seconds, {"same_weights": same, "llama_cpp": module.VERSION})


def import_llama() -> Any:
    """Import llama.cpp's arm, or say how to install what it needs."""
    try:
        import llama_engine
    except ImportError as error:
        raise IntractError("llama-cpp-python is not installed here; run `pip install '.[bench]'`.") from error
    return llama_engine


def same_weights(installed: InstalledModel, gguf: Path) -> bool | None:
    """Tell whether the model was converted from this very file; ``None`` where its checksum is not on record."""
    if not installed.sha256:
        return None
    with gguf.open("rb") as file:
        digest = hashlib.sha256()
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest() == installed.sha256


def machine() -> Figures:
    """Return the processor's name and how many cores this process may use."""
    cores = len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count()
    return {"machine": f"{_processor()}, {platform.system()}", "cores": cores}


def _processor() -> str:
    """Return the processor's name; on Linux only the kernel's list has it, elsewhere ``platform`` does."""
    listed = Path("/proc/cpuinfo")
    names = re.findall(r"^model name\s*: (.+)$", listed.read_text(), re.MULTILINE) if listed.exists() else []
    return names[0] if names else platform.processor() or platform.machine()


def engine_facts(status: dict[str, Any]) -> Figures:
    """Return what a server's status says of its model."""
    return {key: status["engine"][key] for key in ("model", "device", "precision", "threads")}


def progress(things: Iterable[Thing], title: str, total: int) -> Iterator[Thing]:
    """Pass things on and show on stderr how far it is: as a bar, or in a log as a line each tenth of the way."""
    console = Console(stderr=True)
    if console.is_terminal:
        yield from track(things, title, total, console=console)
        return
    for done, thing in enumerate(things):
        if done % max(1, total // 10) == 0:
            print(f"{title}: {done} of {total}", file=sys.stderr, flush=True)
        yield thing


def report(title: str, rows: Sequence[tuple[str, str, str]], figures: Figures) -> None:
    """Print a table of (what, figure's key, key of its n), then all figures as the one JSON object of the last line."""
    rounded = {key: round(value, 4) if isinstance(value, float) else value for key, value in figures.items()}
    table = Table(title=title)
    table.add_column("")
    table.add_column("figure", justify="right")
    table.add_column("n", justify="right")
    for what, key, count in rows:
        if figures[key] is not None:
            table.add_row(
                what, f"{figures[key]:.3g}" if abs(figures[key]) < 10 else f"{figures[key]:.0f}", str(figures[count])
            )
    Console().print(table)
    print(json.dumps(rounded))
