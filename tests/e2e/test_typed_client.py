"""A client that reads every answer into lsprotocol's types, as pytest-lsp does: all of them must fit."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from lsprotocol import types
from pytest_lsp import ClientServerConfig, LanguageClient
from raw_client import SECONDS, server_command

URI = "file:///w/a.py"
CLIENT = types.ClientCapabilities(
    text_document=types.TextDocumentClientCapabilities(inline_completion=types.InlineCompletionClientCapabilities())
)


@pytest_asyncio.fixture
async def client(tmp_path: Path) -> AsyncIterator[LanguageClient]:
    environment = {**os.environ, "INTRACT_HOME": str(tmp_path)}
    client = await ClientServerConfig(server_command(), server_env=environment).start()
    assert isinstance(client, LanguageClient)
    yield client
    await client.shutdown_session()
    await client.stop()


@pytest.mark.asyncio
async def test_all_answers_fit_the_protocol_types(client: LanguageClient) -> None:
    session = await client.initialize_session(types.InitializeParams(capabilities=CLIENT))
    assert session.capabilities.inline_completion_provider == types.InlineCompletionOptions()
    assert session.server_info is not None
    assert session.server_info.name == "intract-lsp"
    status = types.ExecuteCommandParams("intract.status")

    async def ready() -> None:
        while (await client.workspace_execute_command_async(status))["engine"]["state"] != "ready":
            pass

    await asyncio.wait_for(ready(), SECONDS)
    document = types.TextDocumentItem(URI, "python", 1, "x = spam")
    client.text_document_did_open(types.DidOpenTextDocumentParams(document))
    params = types.InlineCompletionParams(
        types.InlineCompletionContext(types.InlineCompletionTriggerKind.Invoked),
        types.TextDocumentIdentifier(URI),
        types.Position(0, 8),
    )
    answer = await client.text_document_inline_completion_async(params)
    assert isinstance(answer, types.InlineCompletionList)
    (item,) = answer.items
    assert (item.insert_text, item.range) == (
        "echo(spam)",
        types.Range(types.Position(0, 8), types.Position(0, 8)),
    )
    assert item.command is not None
    accept = types.ExecuteCommandParams(item.command.command, item.command.arguments)
    assert (await client.workspace_execute_command_async(accept)) == {"known": True}
