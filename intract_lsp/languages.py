"""Language identifiers of the protocol, by file name: for files that no editor has named the language of."""

from __future__ import annotations

from pathlib import PurePath
from types import MappingProxyType

_BY_SUFFIX = MappingProxyType(
    {
        ".c": "c",
        ".cc": "cpp",
        ".cpp": "cpp",
        ".cs": "csharp",
        ".css": "css",
        ".go": "go",
        ".h": "c",
        ".hpp": "cpp",
        ".html": "html",
        ".java": "java",
        ".js": "javascript",
        ".json": "json",
        ".jsx": "javascriptreact",
        ".kt": "kotlin",
        ".lua": "lua",
        ".md": "markdown",
        ".mjs": "javascript",
        ".php": "php",
        ".py": "python",
        ".pyi": "python",
        ".rb": "ruby",
        ".rs": "rust",
        ".scala": "scala",
        ".sh": "shellscript",
        ".sql": "sql",
        ".swift": "swift",
        ".toml": "toml",
        ".ts": "typescript",
        ".tsx": "typescriptreact",
        ".yaml": "yaml",
        ".yml": "yaml",
    }
)
_BY_NAME = MappingProxyType({"dockerfile": "dockerfile", "makefile": "makefile"})


def language_id(name: str) -> str:
    """Return the protocol's identifier for a file's language, ``plaintext`` where the name does not tell."""
    path = PurePath(name.lower())
    return _BY_NAME.get(path.name) or _BY_SUFFIX.get(path.suffix, "plaintext")
