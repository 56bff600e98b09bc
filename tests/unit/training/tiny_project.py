"""A small git repository and a random model, to carry a whole run out on."""

from __future__ import annotations

import random
import subprocess
from pathlib import Path

WORDS = (
    *("account", "amount", "balance", "batch", "client", "customer"),
    *("entry", "invoice", "order", "payment", "price", "tax", "total"),
)


def module(number: int, functions: int) -> str:
    """Return a module's text: functions that follow a few patterns, as a project's do."""
    randomness = random.Random(number)
    parts = [f'"""Part {number} of the books."""\n\nfrom decimal import Decimal\n']
    for index in range(functions):
        first, second, third = randomness.sample(WORDS, 3)
        parts.append(
            f"def {first}_of_{second}_{number}_{index}({second}: Decimal, {third}: Decimal) -> Decimal:\n"
            f'    """Return the {first} of a {second}."""\n'
            f"    {first} = {second} * {third} + {index}\n"
            f"    if {first} < {number}:\n"
            f'        raise ValueError("the {first} of the {second} is too small")\n'
            f"    return {first} - {third}\n"
        )
    return "\n\n".join(parts)


def git(folder: Path, *command: str) -> str:
    names = ["-c", "user.name=n", "-c", "user.email=e@e", "-c", "commit.gpgsign=false"]
    done = subprocess.run(["git", "-C", str(folder), *names, *command], capture_output=True, text=True, check=True)
    return done.stdout.strip()


def write_project(folder: Path, modules: int = 12, functions: int = 6) -> Path:
    """Write a repository with a commit for each module."""
    folder.mkdir(parents=True)
    git(folder, "init", "-q")
    for number in range(modules):
        path = folder / "books" / f"part_{number}.py"
        path.parent.mkdir(exist_ok=True)
        path.write_text(module(number, functions), encoding="utf-8")
        git(folder, "add", "-A")
        git(folder, "commit", "-qm", f"part {number}")
    return folder
