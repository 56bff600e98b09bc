from __future__ import annotations

import pytest

from intract_lsp.completion.secret_files import holds_secrets


@pytest.mark.parametrize(
    "path",
    [
        *(".env", "app/.env.production", "prod.env.local", "deploy/server.PEM", "id_rsa", "home/.ssh/config"),
        *("credentials.json", "x/.npmrc", "my-service-account-1.json", "client_secret_9.json", ".docker/config.json"),
        *("infra/prod.tfvars.json", "AuthKey_1.p8", "kubeconfig"),
    ],
)
def test_secret(path: str) -> None:
    assert holds_secrets(path)


@pytest.mark.parametrize(
    "path",
    [
        "",
        ".env.example",
        "src/secrets.py",
        "environment.yml",
        "keyboard.ts",
        "docs/credentials.md.example",
        "package.json",
        "token.ts",
    ],
)
def test_not_secret(path: str) -> None:
    assert not holds_secrets(path)
