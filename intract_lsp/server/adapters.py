"""The commands about adapters: listed, promoted, rolled back, removed, exported, forgotten."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from concurrent.futures import Future
from pathlib import Path
from typing import Any, TypeVar

from pygls.exceptions import JsonRpcInvalidParams
from pygls.uris import to_fs_path

from intract_lsp.app import App
from intract_lsp.index.folder import inside
from intract_lsp.server.refusals import answered
from intract_lsp.training.spec import RunSpec

Command = Callable[[dict[str, Any]], Awaitable[dict[str, Any]]]

Begin = Callable[[Callable[[], RunSpec]], Awaitable[dict[str, Any]]]

MOST_RUNS = 20
"""That are listed beside the adapters."""

_Done = TypeVar("_Done")


def commands(app: App, folders: Callable[[], list[Path]], begin: Begin) -> dict[str, Command]:
    """Return the commands by name; ``folders`` returns those that are open, the first of which is meant by default.

    ``begin`` begins the run that a function returns, which takes a moment, and says so.
    """

    async def list_adapters(arguments: dict[str, Any]) -> dict[str, Any]:
        entries = await _done(app.adapters.entries())
        with answered():
            runs = await asyncio.to_thread(app.recorded_runs, None, folders())
        rows = [
            {"id": row.id, "state": row.state.value, "message": row.message, "created": row.created}
            for row in runs[:MOST_RUNS]
        ]
        return {"adapters": [entry.values() for entry in entries], "runs": rows}

    async def promote(arguments: dict[str, Any]) -> dict[str, Any]:
        return await _said(app.adapters.promote(_text(arguments, "id", "intract.adapters.promote"), _folder(arguments)))

    async def rollback(arguments: dict[str, Any]) -> dict[str, Any]:
        folder = _folder(arguments) or app.adapters.workspace or next(iter(folders()), None)
        if folder is None:
            raise JsonRpcInvalidParams("Open a folder first: an adapter serves in a folder.")
        return await _said(app.adapters.rollback(folder))

    async def remove(arguments: dict[str, Any]) -> dict[str, Any]:
        return await _said(app.adapters.remove(_text(arguments, "id", "intract.adapters.remove")))

    async def export(arguments: dict[str, Any]) -> dict[str, Any]:
        id_, target = (_text(arguments, name, "intract.adapters.export") for name in ("id", "target"))
        merged = arguments.get("merged", False)
        if not isinstance(merged, bool) or not Path(target).is_absolute():
            raise JsonRpcInvalidParams('"target" must be an absolute path, and "merged" true or false.')
        return await _said(app.adapters.export(id_, Path(target), merged=merged))

    async def forget(arguments: dict[str, Any]) -> dict[str, Any]:
        path, folder = _inside(_text(arguments, "path", "intract.adapters.forget"), folders())
        retrain = arguments.get("retrain", False)
        if not isinstance(retrain, bool):
            raise JsonRpcInvalidParams('"retrain" must be true or false.')
        with answered():
            sentence, changed = await asyncio.to_thread(app.forget, folder, path)
        if not retrain or not changed:
            return {"message": sentence}
        begun = await begin(lambda: app.run_without(folder, path))
        return {"run": begun["run"], "message": f"{sentence} {begun['message']}"}

    return {
        "intract.adapters.list": list_adapters,
        "intract.adapters.promote": promote,
        "intract.adapters.rollback": rollback,
        "intract.adapters.remove": remove,
        "intract.adapters.export": export,
        "intract.adapters.forget": forget,
    }


async def _said(done: Future[str]) -> dict[str, Any]:
    return {"message": await _done(done)}


async def _done(future: Future[_Done]) -> _Done:
    with answered():
        return await asyncio.wrap_future(future)


def _text(arguments: Mapping[str, Any], name: str, command: str) -> str:
    value = arguments.get(name)
    if not isinstance(value, str) or not value:
        raise JsonRpcInvalidParams(f'{command} takes an object with the text "{name}".')
    return value


def _folder(arguments: Mapping[str, Any]) -> Path | None:
    folder = arguments.get("folder")
    if folder is None:
        return None
    if not isinstance(folder, str) or not Path(path := _path(folder)).is_absolute():
        raise JsonRpcInvalidParams('"folder" must be the absolute path of a folder.')
    return Path(path)


def _inside(path: str, folders: list[Path]) -> tuple[str, Path]:
    """Return a path inside the innermost open folder that holds it, and that folder."""
    place = _path(path)
    found = {folder: known for folder in folders if (known := inside(folder, place)) is not None}
    if not found:
        raise JsonRpcInvalidParams(f"{path} is in no folder that is open: name a file or folder inside one.")
    # A relative one is meant as in the first folder, an absolute one is in each of several nested ones.
    folder = max(found, key=lambda one: len(one.parts)) if Path(place).is_absolute() else next(iter(found))
    return found[folder], folder


def _path(text: str) -> str:
    return (to_fs_path(text) or text) if text.startswith("file:") else text
