"""Files that hold secrets, by name: never completed, so that nothing of them reaches a prompt."""

from __future__ import annotations

import re
from fnmatch import translate
from pathlib import PurePosixPath

PATTERNS = (
    *(".env*", "*.env", "*.env.*", ".envrc*"),
    *("*.pem", "*.key", "*.p8", "*.p12", "*.pfx", "*.ppk", "*.keystore", "*.jks", "*.kdbx", "*.asc", "*.gpg", "*.ovpn"),
    *("id_rsa*", "id_dsa*", "id_ecdsa*", "id_ed25519*"),
    *(".netrc", "_netrc", ".pgpass", ".my.cnf", ".htpasswd", ".npmrc", ".pypirc", ".git-credentials", ".vault*"),
    *(".dockercfg", ".s3cfg", ".boto", "kubeconfig", "*.kubeconfig", "aws_credentials"),
    *("credentials", "credentials.*", "*credential*.json", "client_secret*", "*service*account*.json"),
    *("*adminsdk*.json", "token.json", "auth.json", "wallet.json", "password*.txt"),
    *("secret.*", "secrets.*", "secret-keys.*"),
    *("*.tfvars", "*.tfvars.*", "*.tfstate", "*.tfstate.*"),
)
"""Names of files, lower case: Continue's deny list (continuedev/continue, core/indexing/ignore.ts) and what tools of
the last years keep keys in."""

DIRECTORIES = frozenset({".aws", ".ssh", ".gnupg", ".kube", ".azure", ".docker", "secrets", ".secrets"})
"""Whatever lies below one of these is taken for a secret."""

EXAMPLES = (".env.example", ".env.sample", ".env.template", "*.example", "*.sample")
"""Names that say that the file holds none."""

CODE = frozenset({".py", ".js", ".ts", ".tsx", ".jsx", ".go", ".rs", ".java", ".rb", ".c", ".cc", ".cpp", ".h", ".cs"})
"""A module called ``secrets.py`` is code about secrets."""


_SECRET = re.compile("|".join(map(translate, PATTERNS)))
_EXAMPLE = re.compile("|".join(map(translate, EXAMPLES)))


def holds_secrets(path: str) -> bool:
    """Return whether a path inside the workspace (or a bare name) is one that secrets are kept in."""
    parts = PurePosixPath(path.lower())
    name = parts.name
    if parts.suffix in CODE or _EXAMPLE.fullmatch(name):
        return False
    return not DIRECTORIES.isdisjoint(parts.parts[:-1]) or _SECRET.fullmatch(name) is not None
