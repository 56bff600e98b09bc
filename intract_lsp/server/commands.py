"""The commands an editor can run through ``workspace/executeCommand``: each takes an object or none, returns one."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from pygls.exceptions import JsonRpcInvalidParams
from pygls.lsp.server import LanguageServer

from intract_lsp.app import App
from intract_lsp.completion.service import Answered
from intract_lsp.errors import ModelError
from intract_lsp.server import adapters
from intract_lsp.server.convert import ACCEPTED_COMMAND
from intract_lsp.server.index import IndexSession
from intract_lsp.server.status import StatusPublisher, status_values
from intract_lsp.server.training import TrainingSession

Arguments = dict[str, Any]
Command = Callable[[Arguments], dict[str, Any] | Awaitable[dict[str, Any]]]

MOST_RESULTS = 100
"""Of one search."""


def register(
    server: LanguageServer, app: App, publisher: StatusPublisher, index: IndexSession, training: TrainingSession
) -> None:
    """Announce every command and route its calls."""
    own = commands(app, publisher, index)
    for name, command in {
        **own,
        **training_commands(training),
        **adapters.commands(app, training.folders, training.begin),
    }.items():
        server.command(name)(_route(command))


def training_commands(training: TrainingSession) -> dict[str, Command]:
    """Return the commands about fine-tuning by name."""
    return {
        "intract.fineTune": training.fine_tune,
        "intract.fineTune.cancel": training.cancel,
        "intract.fineTune.status": training.status,
        "intract.fineTune.report": training.report,
    }


def commands(app: App, publisher: StatusPublisher, index: IndexSession) -> dict[str, Command]:
    """Return the commands about completions, the model and the index by name."""

    def status(arguments: Arguments) -> dict[str, Any]:
        return status_values(app)

    def why(arguments: Arguments) -> dict[str, Any]:
        uri = arguments.get("uri")
        answered = next((a for a in reversed(app.service.history) if uri in (None, a.uri)), None)
        if answered is None:
            return {"message": "No completion has been asked for yet.", "suggestion": False}
        return _explain(answered)

    def toggle(arguments: Arguments) -> dict[str, Any]:
        enabled = arguments.get("enabled", not app.settings.current.completion.enabled)
        if not isinstance(enabled, bool):
            raise JsonRpcInvalidParams('intract.toggle takes {"enabled": true} or {"enabled": false}, or nothing.')
        _put_session(app, "completion", "enabled", enabled)
        publisher.publish()
        return {"enabled": enabled, "message": f"Completions are {'on' if enabled else 'off'}."}

    def select_model(arguments: Arguments) -> dict[str, Any]:
        from intract_lsp.models import fetch, listing

        name = arguments.get("name")
        if name is None:
            return {"models": listing.model_values(app.paths), "current": app.worker.status.model}
        if not isinstance(name, str) or not name:
            raise JsonRpcInvalidParams('intract.selectModel takes {"name": MODEL}, or nothing to list the models.')
        try:
            fetch.cached(name, app.paths)
        except ModelError as error:
            raise JsonRpcInvalidParams(str(error)) from error
        before = app.settings.current
        _put_session(app, "model", "name", name)
        if app.settings.current.model == before.model:
            app.load_model()  # chosen again: what failed, or was removed meanwhile, gets another try
        return {"message": f"Loading {name}."}

    def clear_cache(arguments: Arguments) -> dict[str, Any]:
        app.service.clear_cache()
        app.worker.forget()
        return {"message": "The cached suggestions and the model's KV cache are cleared."}

    def accepted(arguments: Arguments) -> dict[str, Any]:
        known = app.service.accept(str(arguments.get("id", "")))
        publisher.publish()
        return {"known": known}

    def reindex(arguments: Arguments) -> dict[str, Any]:
        return index.reindex()

    def index_status(arguments: Arguments) -> dict[str, Any]:
        return index.status()

    async def search_workspace(arguments: Arguments) -> dict[str, Any]:
        query, limit = arguments.get("query"), arguments.get("limit", 10)
        if not isinstance(query, str) or type(limit) is not int or not 1 <= limit <= MOST_RESULTS:
            raise JsonRpcInvalidParams(
                f'intract.searchWorkspace takes {{"query": TEXT}}, also with a "limit" of 1 to {MOST_RESULTS}.'
            )
        return await index.search(query, limit)

    return {
        "intract.status": status,
        "intract.why": why,
        "intract.toggle": toggle,
        "intract.selectModel": select_model,
        "intract.clearCache": clear_cache,
        "intract.reindex": reindex,
        "intract.indexStatus": index_status,
        "intract.searchWorkspace": search_workspace,
        ACCEPTED_COMMAND: accepted,
    }


def _route(command: Command) -> Callable[..., dict[str, Any] | Awaitable[dict[str, Any]]]:
    def run(*arguments: Any) -> dict[str, Any] | Awaitable[dict[str, Any]]:
        first = arguments[0] if arguments else {}
        if not isinstance(first, dict):
            raise JsonRpcInvalidParams("A command of intract takes one JSON object as its argument, or none.")
        return command(first)

    async def run_awaiting(*arguments: Any) -> dict[str, Any]:
        result = run(*arguments)
        assert isinstance(result, Awaitable)
        return await result

    # pygls tells the two apart by the function; what need not be waited for keeps its place among the messages.
    return run_awaiting if asyncio.iscoroutinefunction(command) else run


def _put_session(app: App, section: str, name: str, value: object) -> None:
    before = app.settings.current
    values = app.settings.values("session")
    app.settings.put("session", "session", {**values, section: {**values.get(section, {}), name: value}})
    app.apply(before)


def _explain(answered: Answered) -> dict[str, Any]:
    result = answered.result
    reason = result.reject_reason
    message = "A suggestion was shown." if reason is None else reason.sentence
    return {
        "uri": answered.uri,
        "suggestion": result.suggestion is not None,
        "source": result.suggestion.source.value if result.suggestion else None,
        "reason": reason.value if reason is not None else None,
        "message": message,
        "timings": result.timings.milliseconds(),
        "promptTokens": result.timings.prompt_tokens,
        "reusedTokens": result.timings.reused_tokens,
        "generatedTokens": result.timings.generated_tokens,
        "model": result.model,
        "context": [piece.values() for piece in result.pieces],
    }
