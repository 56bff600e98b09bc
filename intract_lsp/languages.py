"""Language identifiers of the protocol, by file name: for files that no editor has named the language of."""

from __future__ import annotations

from pathlib import PurePath
from types import MappingProxyType

_BY_SUFFIX = MappingProxyType(
    {
        ".c": "c",
        ".bash": "shellscript",
        ".cc": "cpp",
        ".cjs": "javascript",
        ".cpp": "cpp",
        ".cs": "csharp",
        ".css": "css",
        ".cts": "typescript",
        ".cxx": "cpp",
        ".go": "go",
        ".h": "c",
        ".hh": "cpp",
        ".hpp": "cpp",
        ".hxx": "cpp",
        ".html": "html",
        ".java": "java",
        ".js": "javascript",
        ".json": "json",
        ".jsx": "javascriptreact",
        ".kt": "kotlin",
        ".lua": "lua",
        ".md": "markdown",
        ".mjs": "javascript",
        ".mts": "typescript",
        ".php": "php",
        ".py": "python",
        ".pyi": "python",
        ".rake": "ruby",
        ".rb": "ruby",
        ".rs": "rust",
        ".rst": "restructuredtext",
        ".scala": "scala",
        ".sh": "shellscript",
        ".sql": "sql",
        ".swift": "swift",
        ".toml": "toml",
        ".ts": "typescript",
        ".tsx": "typescriptreact",
        ".yaml": "yaml",
        ".yml": "yaml",
        ".zsh": "shellscript",
    }
)
_BY_NAME = MappingProxyType({"dockerfile": "dockerfile", "makefile": "makefile"})


def language_id(name: str) -> str:
    """Return the protocol's identifier for a file's language, ``plaintext`` where the name does not tell."""
    path = PurePath(name.lower())
    return _BY_NAME.get(path.name) or _BY_SUFFIX.get(path.suffix, "plaintext")
