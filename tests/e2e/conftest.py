"""Servers for the end-to-end tests, each with a home of its own."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from raw_client import RawClient, Start, server_command, watched_command


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Return a function that starts a server process by a command; without one, the product's."""
    started: list[RawClient] = []

    def run(command: list[str] | None = None, home: Path | None = None) -> RawClient:
        started.append(RawClient(command or server_command(), home or tmp_path / f"home{len(started)}"))
        return started[-1]

    yield run
    for client in started:
        client.kill()


@pytest.fixture
def client(start: Start) -> RawClient:
    """A session that is ready to complete."""
    client = start()
    client.initialize()
    client.wait_ready()
    return client


@pytest.fixture
def watched(start: Start) -> Callable[..., RawClient]:
    """Return a function that begins a session with the server that can be looked into."""

    def run(**options: object) -> RawClient:
        client = start(watched_command(**options))
        client.initialize()
        client.wait_ready()
        return client

    return run
