"""Which files are worth reading, by name and by content: one policy for the index, for prompts and for training.

Limits are those of the hard rejects that training data is filtered with (Refact's file scan, The Stack's filters):
200 kB, lines of 1000, 150 and 5 characters, 30 % digits, "generated" in the first five lines.
"""

from __future__ import annotations

import re
from enum import Enum
from fnmatch import translate

from intract_lsp.completion.secret_files import holds_secrets

TEXT_RULES_VERSION = 1
"""Changes with the rules of `refuse_text`, whose answers the manifest remembers."""

LARGEST_SOURCE = 1_000_000
"""Bytes of a file of code or prose."""
LARGEST_CONFIGURATION = 20_000
"""Bytes of a file of settings; beyond, JSON and YAML are mostly data."""
LARGEST_NOTEBOOK = 2_000_000
"""Bytes of a notebook: most are the outputs of its cells, which are not indexed."""
LONGEST_LINE = 1000
MEAN_LINE = (5, 150)
"""Characters of a line that is not blank, at least and at most, on average over a file."""
MOST_DIGITS = 0.3
"""Share of a file's characters."""
SMALL_FILE = 1000
"""Characters; averages over a shorter text say nothing."""
FILE_HEAD_LINES = 5
LICENCE_LINES = 60
"""A formal mark of generated code may stand below a licence."""


def _any_of(*patterns: str) -> re.Pattern[str]:
    return re.compile("|".join(translate(pattern) for pattern in patterns))


class Refusal(Enum):
    """Why a file is left out; the value is what the user reads."""

    OUTSIDE = "It is not inside the workspace folder."
    NAME = "Its name has control characters or is not valid Unicode."
    VANISHED = "It is not there any more."
    UNREADABLE = "It cannot be read: look at its permissions."
    NOT_A_FILE = "It is not a regular file."
    SYMLINK = "It is reached through a symbolic link; what the link points to counts under its own name."
    IGNORED = "Git's ignore files exclude it."
    INTRACTIGNORE = "An .intractignore file excludes it."
    SECRET_NAME = "Files with such a name hold secrets."
    VENDORED = "It lies in a folder of other people's code or of a tool's own files."
    BUILD_OUTPUT = "It lies in a folder that builds write to."
    LOCK_FILE = "It is a lock file, written by a package manager."
    NOT_SOURCE = "It is neither source code nor prose nor a file of settings."
    TOO_LARGE = "It is larger than files of its kind that people write."
    BINARY = "It is not text in UTF-8."
    GENERATED = "A program wrote it."
    MINIFIED = "Its lines are too long for code that people write: it is minified, or data."
    MOSTLY_DATA = "It is mostly numbers or scraps of a few characters."


VENDORED_FOLDERS = frozenset(
    {
        *(".git", ".hg", ".svn", ".jj", ".idea", ".vs", ".cache", ".direnv", ".ipynb_checkpoints"),
        *("node_modules", "bower_components", "jspm_packages", ".yarn", ".pnpm-store", ".npm"),
        *("vendor", "vendored", "_vendor", "third_party", "third-party", "thirdparty", "pods", "carthage"),
        *(".venv", "site-packages", "dist-packages", "__pypackages__", "__pycache__", ".eggs"),
        *(".tox", ".nox", ".mypy_cache", ".pytest_cache", ".ruff_cache", ".hypothesis", ".bundle"),
        *(".gradle", ".terraform", ".next", ".nuxt", ".svelte-kit", ".parcel-cache", ".turbo", ".nx", ".dart_tool"),
    }
)
"""Lower case. Left out even where git tracks them."""

BUILD_FOLDERS = frozenset({"build", "dist", "target", "out", "_build", "cmake-build-debug", "cmake-build-release"})
"""Left out only where git cannot tell: under git, what is tracked in a folder ``build`` was written by people."""

_LOCK_FILES = frozenset(
    {
        *("package-lock.json", "npm-shrinkwrap.json", "pnpm-lock.yaml", "packages.lock.json", "deno.lock", "bun.lock"),
        *("go.sum", "package.resolved", "cartfile.resolved", "gradle.lockfile", "conda-lock.yml", "mix.lock"),
    }
)
_UNUSABLE = re.compile("[\x00-\x1f\x7f\ud800-\udfff]")
_MINIFIED = _any_of("*.min.*", "*-min.js", "*-min.css", "*.bundle.js", "*.bundle.css", "*.chunk.js", "*.chunk.css")
_GENERATED = _any_of(
    *("*_pb2.py", "*_pb2.pyi", "*_pb2_grpc.py", "*.pb.go", "*.pb.gw.go", "*.pb.cc", "*.pb.h", "*_pb.js", "*_pb.d.ts"),
    *("*.g.cs", "*.g.i.cs", "*.designer.cs", "*.g.dart", "*.freezed.dart", "*.generated.*", "*.gen.go", "*.gen.ts"),
    *("*_generated.go", "*_generated.rs", "zz_generated*", "moc_*.cpp", "qrc_*.cpp"),
)

_CODE = frozenset(
    {
        *("py", "pyi", "pyx", "pxd", "js", "jsx", "mjs", "cjs", "ts", "tsx", "mts", "cts", "vue", "svelte", "astro"),
        *("go", "rs", "java", "kt", "kts", "scala", "sc", "groovy", "gradle", "clj", "cljs", "cljc", "edn"),
        *("c", "h", "cc", "cpp", "cxx", "c++", "hh", "hpp", "hxx", "inl", "ipp", "cu", "cuh", "m", "mm", "ino"),
        *("cs", "fs", "fsi", "fsx", "vb", "razor", "cshtml", "swift", "dart", "zig", "nim", "d", "v", "sv", "svh"),
        *("vhd", "vhdl", "rb", "rake", "erb", "gemspec", "php", "phtml", "pl", "pm", "t", "lua", "r", "rmd", "jl"),
        *("sh", "bash", "zsh", "fish", "ksh", "ps1", "psm1", "bat", "cmd", "awk", "sql", "graphql", "gql", "proto"),
        *("thrift", "hs", "lhs", "elm", "purs", "ml", "mli", "re", "ex", "exs", "eex", "heex", "erl", "hrl", "lisp"),
        *("el", "cl", "scm", "rkt", "f", "f90", "f95", "f03", "for", "pas", "pp", "adb", "ads", "asm", "s", "cob"),
        *("html", "htm", "css", "scss", "sass", "less", "styl", "jinja", "j2", "tmpl", "hbs", "ejs", "pug", "liquid"),
        *(
            "cmake",
            "dockerfile",
            "mk",
            "mak",
            "ninja",
            "bzl",
            "bazel",
            "star",
            "nix",
            "tf",
            "hcl",
            "rego",
            "cue",
            "dhall",
            "jsonnet",
        ),
        *("tcl", "vim", "wgsl", "glsl", "vert", "frag", "comp", "hlsl", "metal", "sol", "vy", "move", "cairo", "wat"),
        *("coffee", "cr", "hx", "gd", "lean", "agda", "idr", "tla", "feature", "robot", "y", "l", "g4", "just"),
    }
)
_PROSE = frozenset({"md", "markdown", "mdx", "rst", "txt", "adoc", "asciidoc", "org", "tex", "typ"})
_CONFIGURATION = frozenset({"toml", "yaml", "yml", "json", "jsonc", "json5", "ini", "cfg", "conf", "properties"})
_NOTEBOOK = "ipynb"
_PLAIN_NAMES = frozenset(
    {
        *("makefile", "gnumakefile", "dockerfile", "containerfile", "justfile", "rakefile", "gemfile", "guardfile"),
        *("podfile", "fastfile", "vagrantfile", "jenkinsfile", "procfile", "brewfile", "build", "workspace", "readme"),
        *("contributing", "changelog", "snakefile", "sconstruct", "sconscript", "kconfig", "codeowners"),
    }
)
"""Names without a suffix; other such files have to begin with ``#!``."""

_MACHINE_MADE = re.compile(
    r"""@generated\b
    | \bcode\ generated\b.{0,200}\bdo\ not\ edit\b
    | \b(?:auto|automatically)[-\ ]?generated\b.{0,200}\bdo\ not\b
    | \bdo\ not\ (?:edit|modify)\b.{0,200}\b(?:auto|automatically)?[-\ ]?generated\b""",
    re.IGNORECASE | re.VERBOSE,
)
_SAYS_GENERATED = re.compile(
    r"""^\W*(?:this\ \w+\ (?:is|was|has\ been)\ )?
         (?:auto(?:matically)?[-\ ]?)?generated\ (?:by|from|using|with|code|file)\b
    | \b(?:is|was|been)\ auto(?:matically)?[-\ ]?generated\b
    | ^\W*auto(?:matically)?[-\ ]?generated\b
    | \bdo\ not\ edit\b(?!\ (?:without|this\ line|further))""",
    re.IGNORECASE | re.VERBOSE | re.MULTILINE,
)


def refuse_folder(name: str) -> Refusal | None:
    """Return why nothing below a folder of this name is used, whoever tracks it."""
    name = name.lower()
    return Refusal.VENDORED if name in VENDORED_FOLDERS or name.endswith(".egg-info") else None


def refuse_path(path: str) -> Refusal | None:
    """Return why a file is left out by its path inside the workspace (with ``/``)."""
    if _UNUSABLE.search(path):
        return Refusal.NAME
    *folders, name = path.lower().split("/")
    for folder in folders:
        if refusal := refuse_folder(folder):
            return refusal
    if holds_secrets(path):
        return Refusal.SECRET_NAME
    if name in _LOCK_FILES or name.endswith((".lock", "-lock.json", ".lock.json", ".lock.hcl")):
        return Refusal.LOCK_FILE
    if _largest(name) is None:
        return Refusal.NOT_SOURCE
    if _MINIFIED.match(name):
        return Refusal.MINIFIED
    if _GENERATED.match(name):
        return Refusal.GENERATED
    return None


def refuse_size(path: str, size: int) -> Refusal | None:
    """Return why a file is left out by how many bytes it has."""
    largest = _largest(path.lower().rpartition("/")[2])
    return Refusal.TOO_LARGE if largest is not None and size > largest else None


def refuse_text(path: str, text: str) -> Refusal | None:
    """Return why a file is left out by its content; not its secrets, for which single chunks are left out."""
    name = path.lower().rpartition("/")[2]
    suffix = _suffix(name)
    if "\0" in text:
        return Refusal.BINARY
    if text.count("\ufffd") * 10 > len(text):
        return Refusal.BINARY
    if not suffix and name not in _PLAIN_NAMES and not text.startswith("#!"):
        return Refusal.NOT_SOURCE
    if suffix == _NOTEBOOK:
        # One line may hold a picture; what is taken from a notebook is the source of its cells.
        return None
    if is_generated(text):
        return Refusal.GENERATED
    lengths = [length for line in text.splitlines() if (length := len(line.strip()))]
    if suffix in _PROSE and suffix != "txt":
        # A paragraph may be one line, and a table of figures is prose.
        return None
    if max(lengths, default=0) > LONGEST_LINE:
        return Refusal.MINIFIED
    if len(text) < SMALL_FILE or not lengths:
        return None
    mean = sum(lengths) / len(lengths)
    if mean > MEAN_LINE[1]:
        return Refusal.MINIFIED
    digits = sum(text.count(digit) for digit in "0123456789")
    if mean < MEAN_LINE[0] or digits > MOST_DIGITS * sum(lengths):
        return Refusal.MOSTLY_DATA
    return None


def is_generated(text: str) -> bool:
    """Return whether a file's head says that a program wrote it."""
    head = text[:20_000].split("\n", LICENCE_LINES)[:LICENCE_LINES]
    if _SAYS_GENERATED.search("\n".join(head[:FILE_HEAD_LINES])):
        return True
    # A formal mark may be in the words of a program that writes such files: only comments count.
    comments = (line for line in head if line.lstrip().startswith(("#", "//", "/*", "*", "--", ";", "%", "<!--")))
    return any(_MACHINE_MADE.search(line) for line in comments)


def _largest(name: str) -> int | None:
    """Return how many bytes a file of a name (lower case) may have; ``None`` if such files are not used at all."""
    suffix = _suffix(name)
    if suffix in _CODE or suffix in _PROSE or not (suffix or name.startswith(".")):
        return LARGEST_SOURCE
    if suffix in _CONFIGURATION:
        return LARGEST_CONFIGURATION
    return LARGEST_NOTEBOOK if suffix == _NOTEBOOK else None


def _suffix(name: str) -> str:
    """Return what stands behind the last dot; nothing for ``name`` and ``.name``."""
    stem, dot, suffix = name.rpartition(".")
    return suffix if dot and stem else ""
