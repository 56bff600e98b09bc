"""Files that hold secrets, by name: never completed, so that nothing of them reaches a prompt."""

from __future__ import annotations

from fnmatch import fnmatchcase
from pathlib import PurePosixPath

PATTERNS = (
    ".env",
    ".env.*",
    "*.env",
    ".envrc",
    "*.pem",
    "*.key",
    "*.p12",
    "*.pfx",
    "*.keystore",
    "*.jks",
    "*.kdbx",
    "*.asc",
    "*.gpg",
    "id_rsa*",
    "id_dsa*",
    "id_ecdsa*",
    "id_ed25519*",
    ".netrc",
    "_netrc",
    ".pgpass",
    ".htpasswd",
    ".npmrc",
    ".pypirc",
    ".git-credentials",
    ".dockercfg",
    "credentials",
    "credentials.*",
    "secret.*",
    "secrets.*",
    "*.tfvars",
    "*.tfstate",
)
"""Names of files, lower case, as Continue's deny list has them (continuedev/continue, core/indexing/ignore.ts)."""

DIRECTORIES = frozenset({".aws", ".ssh", ".gnupg", ".kube", ".azure", "secrets", ".secrets"})
"""Whatever lies below one of these is taken for a secret."""

EXAMPLES = (".env.example", ".env.sample", ".env.template", "*.example", "*.sample")
"""Names that say that the file holds none."""

CODE = frozenset({".py", ".js", ".ts", ".tsx", ".jsx", ".go", ".rs", ".java", ".rb", ".c", ".cc", ".cpp", ".h", ".cs"})
"""A module called ``secrets.py`` is code about secrets."""


def holds_secrets(path: str) -> bool:
    """Return whether a path inside the workspace (or a bare name) is one that secrets are kept in."""
    parts = PurePosixPath(path.lower())
    name = parts.name
    if parts.suffix in CODE or any(fnmatchcase(name, pattern) for pattern in EXAMPLES):
        return False
    return not DIRECTORIES.isdisjoint(parts.parts[:-1]) or any(fnmatchcase(name, pattern) for pattern in PATTERNS)
