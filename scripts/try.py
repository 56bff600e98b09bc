"""Ask the real language server for completions and print them as an editor would show them (run by scripts/try)."""

from __future__ import annotations

import argparse
import asyncio
import subprocess
import sys
import time
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, SpinnerColumn, TaskProgressColumn, TextColumn, TimeElapsedColumn
from rich.text import Text
from try_places import ROOT, Place, TryError, own_places, parse_place
from try_server import Answer, Server, as_mapping

COMMAND = Path(sys.executable).with_name("intract-lsp")
LINES_BEFORE, LINES_BEHIND = 3, 2
GHOST_STYLE = "italic bright_cyan"


def draw(console: Console, place: Place, answer: Answer) -> None:
    """Print the place with its ghost text, and where the time went."""
    console.rule(Text(place.title, style="bold"), align="left")
    number = place.line + 1
    above = place.before.split("\n")[:-1][-LINES_BEFORE:]
    below = place.behind[answer.replaced :].replace("\r\n", "\n").split("\n")
    text = Text()
    for offset, line in enumerate(above):
        text.append(f"{number - len(above) + offset:>5}  ", "dim").append(line.rstrip("\r") + "\n")
    text.append(f"{number:>5}  ", "bold").append(place.line_prefix)
    if answer.text:
        ghost = answer.text.replace("\r\n", "\n").replace("\n", "\n       ")
        coloured = console.is_terminal and not console.no_color
        text.append(ghost if coloured else f"[ghost]{ghost}[/ghost]", GHOST_STYLE)
    text.append(below[0] + "\n")
    for offset, line in enumerate(below[1 : 1 + LINES_BEHIND], start=1):
        text.append(f"{number + place.removed.count(chr(10)) + offset:>5}  ", "dim").append(line + "\n")
    console.print(text, soft_wrap=True, end="")
    console.print(f"       {escape(summarise(answer))}\n", style="dim", highlight=False, soft_wrap=True)


def summarise(answer: Answer) -> str:
    """Say in one line how long it took and where the time went, or why nothing is shown."""
    timings = as_mapping(answer.why.get("timings"))
    stages = " · ".join(f"{name} {value:.0f}" for name, value in timings.items() if name != "total")
    spent = f"{answer.seconds * 1000:.0f} ms at the client" + (f" ({stages})" if stages else "")
    if answer.text:
        return f"→ {spent}"
    return f"→ nothing to show: {answer.why.get('message', 'The server gave no reason.')} {spent}"


def print_setup(console: Console) -> None:
    """Print how to use the server from editors."""
    console.rule(Text("In your editor", style="bold"), align="left")
    console.print(
        f"""[bold]Neovim 0.10 or newer[/bold], in init.lua:
  vim.opt.runtimepath:append('{escape(str(ROOT / "editors" / "nvim"))}')
  require('intract').setup({{ cmd = {{ '{escape(str(COMMAND))}', 'serve' }} }})
  vim.keymap.set('i', '<Tab>', function() return require('intract').accept('<Tab>') end, {{ expr = true }})
[bold]VS Code[/bold]: `scripts/package-vscode` builds the extension, `code --install-extension` installs it.
[bold]Helix, Emacs and others[/bold]: see editors/README.md; any client of inline completions, with
  {escape(str(COMMAND))} serve""",
        highlight=False,
        soft_wrap=True,
    )


async def run(console: Console, places: list[Place], started: float) -> int:
    """Show every place and return the exit status."""
    server = Server(COMMAND)
    try:
        await server.start()
        columns = (SpinnerColumn(), TextColumn("{task.description}", markup=False), BarColumn())
        with Progress(*columns, TaskProgressColumn(), TimeElapsedColumn(), console=console) as progress:
            await server.wait_ready(progress)
        console.print()
        unanswered = 0
        for index, place in enumerate(places):
            answer = await server.complete(place)
            draw(console, place, answer)
            if index == 0:
                console.print(f"First answer {time.time() - started:.1f} s after the start.\n", highlight=False)
            if not answer.text and (place.own or not answer.why):
                unanswered += 1
    finally:
        await server.stop()
    if unanswered:
        raise TryError(f"{unanswered} of {len(places)} places got no suggestion.")
    print_setup(console)
    return 0


def main() -> int:
    """Read the arguments, fetch the model if needed, and show the places."""
    parser = argparse.ArgumentParser(prog="scripts/try", description="Show what the language server suggests.")
    parser.add_argument("--started", type=float, default=time.time(), help=argparse.SUPPRESS)
    parser.add_argument(
        "places",
        nargs="*",
        metavar="FILE:LINE:COL",
        help="where to complete, counted from 1; the rest of the line is taken out (default: three of our own places)",
    )
    arguments = parser.parse_args()
    console = Console()
    try:
        places = [parse_place(text) for text in arguments.places] or own_places()
    except TryError as error:
        console.print(str(error), style="red", markup=False, soft_wrap=True)
        return 2
    if subprocess.run([str(COMMAND), "models", "pull"], check=False).returncode:
        return 1
    try:
        return asyncio.run(run(console, places, arguments.started))
    except TryError as error:
        console.print(str(error), style="red", markup=False, soft_wrap=True)
        return 1


if __name__ == "__main__":
    sys.exit(main())
