"""Small projects with a history, and a tokenizer whose tokens are bytes and a few merges."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

from intract_lsp.completion.prompt import FORMATS
from intract_lsp.inference.healing import Vocabulary
from intract_lsp.inference.tokenizer import TextTokenizer
from intract_lsp.training.samples import Renderer
from intract_lsp.training.spec import DataSpec, RunSpec, TrainerSpec

DAY = 86_400
NOON = 1_700_000_000
"""Seconds since 1970 of the first commit."""

QWEN = FORMATS["qwen2.5-coder"]


def git(root: Path, *arguments: str, day: float = 0) -> str:
    identity = ("-c", "user.name=a", "-c", "user.email=a@example.invalid", "-c", "commit.gpgsign=false")
    date = f"@{int(NOON + day * DAY)} +0000"
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("GIT_")},
        "GIT_CONFIG_GLOBAL": os.devnull,
        "GIT_CONFIG_SYSTEM": os.devnull,
        "GIT_AUTHOR_DATE": date,
        "GIT_COMMITTER_DATE": date,
    }
    done = subprocess.run(
        ["git", *identity, *arguments], cwd=root, check=True, capture_output=True, text=True, env=environment
    )
    return done.stdout.strip()


def commit(root: Path, files: Mapping[str, str | bytes], day: float = 0) -> str:
    """Write files and commit everything; return the commit."""
    if not (root / ".git").exists() and not (root / "objects").exists():
        root.mkdir(parents=True, exist_ok=True)
        git(root, "init", "-q")
    for path, content in files.items():
        target = root / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content if isinstance(content, bytes) else content.encode())
    git(root, "add", "-A")
    git(root, "commit", "-qm", "change", "--allow-empty", day=day)
    return git(root, "rev-parse", "HEAD")


WORDS = ("alpha", "beta", "gamma", "delta", "omega", "sigma", "kappa", "theta", "lambda_", "mu")


def module(name: str, functions: int, first: int = 0) -> str:
    """Return a Python module in which no two functions say the same."""
    parts = [f'"""The module {name}."""\n\nimport os\n']
    for number in range(first, first + functions):
        one, two = WORDS[number % 10], WORDS[(number * 7 + len(name)) % 10]
        parts.append(
            f"\n\ndef {name}_{number}({one}: int, {two}_{number}: str) -> str:\n"
            f'    """Return {name} {number}."""\n'
            f"    total_{number} = {one} * {number + 3} + len({two}_{number})\n"
            f"    if total_{number} > {number * 11}:\n"
            f"        return os.path.join({two}_{number}, str(total_{number}))\n"
            f"    return {two}_{number}.upper()\n"
        )
    return "".join(parts)


def project(root: Path, commits: int = 20) -> Path:
    """Make a repository of four modules to which each commit, one in ten days, adds a function."""
    texts = {f"src/{name}.py": module(name, 10) for name in ("one", "two", "three", "four")}
    commit(root, texts)
    for number in range(1, commits):
        path = list(texts)[number % 4]
        texts[path] += module(f"new{number}", 1, first=number * 3).split("import os\n")[1]
        commit(root, {path: texts[path]}, day=number * 10)
    return root


def copy(template: Path, root: Path) -> Path:
    """Copy a project, which is quicker than to commit everything again."""
    shutil.copytree(template, root, dirs_exist_ok=True)
    return root


def byte_tokenizer() -> TextTokenizer:
    """A token a byte, a few merges, and the sentinels of Qwen."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    merges = [("d", "e"), ("de", "f"), ("Ġ", "Ġ"), ("r", "e"), ("re", "t"), ("Ġ", "re")]
    vocabulary = {token: index for index, token in enumerate([*alphabet, *("".join(pair) for pair in merges)])}
    tokenizer = Tokenizer(models.BPE(vocabulary, merges))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    control = [*QWEN.sentinels, QWEN.file, *QWEN.ends]
    tokenizer.add_tokens([AddedToken(token, special=True, normalized=False) for token in control])
    return TextTokenizer(tokenizer)


def renderer(context_length: int = 512, family: str = "qwen2.5-coder") -> Renderer:
    tokenizer = byte_tokenizer()
    return Renderer(FORMATS[family], tokenizer, Vocabulary(tokenizer.token_bytes()).spells, context_length)


def spec(root: Path, *, steps: int = 0, seed: int = 0, **data: object) -> RunSpec:
    return RunSpec(
        id="run",
        workspace=str(root),
        folder=str(root),
        model="tiny",
        model_directory=str(root),
        fim_family="qwen2.5-coder",
        data=DataSpec(**data),  # type: ignore[arg-type]
        trainer=TrainerSpec(steps=steps, seed=seed),
    )
