"""Fine-tuning as a session sees it: runs begun, cancelled, asked about, shown while at work, told of at their end."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from lsprotocol import types
from pygls.exceptions import JsonRpcInvalidParams
from pygls.lsp.server import LanguageServer
from pygls.uris import to_fs_path

from intract_lsp.app import App
from intract_lsp.errors import IntractError
from intract_lsp.server.convert import open_folders
from intract_lsp.server.progress import ProgressItem
from intract_lsp.server.refusals import answered
from intract_lsp.server.serving import Serving
from intract_lsp.training.progress import RunStatus
from intract_lsp.training.runs import RunState
from intract_lsp.training.schedule import LOOK_SECONDS
from intract_lsp.training.spec import RunSpec

log = logging.getLogger(__name__)

METHODS = ("auto", "standard", "lora", "qlora")
LONGEST_MINUTES = 10_080
NO_RUN = "No run has been asked for yet: begin one with intract.fineTune."
NO_REPORT = "There is no report yet: a run writes it at its end."
NO_FOLDER = "Open a folder first: fine-tuning learns from its code."
USAGE = (
    'intract.fineTune takes {"method": "auto", "lora", "qlora" or "standard", "minutes": NUMBER, "folder": PATH}, '
    "each of which may be left out."
)

_LOUD = {RunState.FAILED: types.MessageType.Error}


class TrainingSession:
    """Begins runs for the editor and shows them. Used on the event loop only."""

    def __init__(self, server: LanguageServer, app: App, publish: Callable[[], None]) -> None:
        """``publish`` is called when the status has changed."""
        self._server = server
        self._app = app
        self._publish = publish
        self._loop: asyncio.AbstractEventLoop | None = None
        self._items: dict[str, ProgressItem] = {}
        self._told: set[str] = set()
        self._watching: asyncio.Task[None] | None = None
        self._serving = Serving(app, self.folders, self._say, publish)

    def start(self) -> None:
        """Show runs from now on, and go on with those that an earlier server left behind."""
        self._loop = asyncio.get_running_loop()
        supervisor = self._app.training
        supervisor.on_status = lambda status: self._from_thread(self._on_status, status)
        supervisor.may_pause = lambda: self._app.settings.current.training.pause_while_typing
        supervisor.may_begin = lambda: self._app.settings.current.training.enabled
        if self._app.settings.current.training.enabled:
            self._app.recover_runs(self.folders())
        self._app.adapters.on_swapped = lambda: self._from_thread(self._swapped)
        self._watching = asyncio.ensure_future(self._watch())
        self._serving.start()

    def folders(self) -> list[Path]:
        """Return the workspace's folders, in the editor's order."""
        paths = (to_fs_path(uri) for uri in open_folders(self._server))
        return [Path(path) for path in dict.fromkeys(paths) if path]

    async def fine_tune(self, arguments: Mapping[str, Any]) -> dict[str, Any]:
        """Begin a run and return its id with a sentence."""
        changes = _changes(arguments)
        folder = self._folder(arguments.get("folder"))
        return await self.begin(lambda: self._app.new_run(folder, changes))

    async def begin(self, make: Callable[[], RunSpec]) -> dict[str, Any]:
        """Begin the run that ``make`` returns and return its id with a sentence."""
        with answered():
            # Reading the model's files and looking for a GPU takes longer than the event loop may be held up.
            spec = await asyncio.to_thread(make)
        ahead = [status for status in self._app.training.statuses() if not status.state.is_over]
        self._app.training.start(spec)
        self._publish()
        waits = f" It begins when the {len(ahead)} before it have ended." if ahead else ""
        method = spec.trainer.method.value
        return {
            "run": spec.id,
            "message": f"Fine-tuning {spec.model} on {Path(spec.workspace).name} ({method}) begins.{waits}",
        }

    def cancel(self, arguments: Mapping[str, Any]) -> dict[str, Any]:
        """End a run; without an id the one at work."""
        status = self._status(arguments)
        if status is None or not self._app.training.cancel(status.run):
            return {"run": None, "message": "No run is going on."}
        return {"run": status.run, "message": f"The run {status.run} is being cancelled."}

    async def status(self, arguments: Mapping[str, Any]) -> dict[str, Any]:
        """Return how a run stands, and all runs of this session; without an id the one at work or the newest."""
        status = self._status(arguments)
        runs = [each.values() for each in self._app.training.statuses()]
        if status is not None:
            return {**status.values(), "runs": runs}
        with answered():
            row = await asyncio.to_thread(self._app.recorded_run, _run_id(arguments), self.folders())
        if row is None:
            return {"run": None, "state": None, "message": NO_RUN, "runs": runs}
        return {**row.result, "run": row.id, "state": row.state.value, "message": row.message, "runs": runs}

    async def report(self, arguments: Mapping[str, Any]) -> dict[str, Any]:
        """Return where a run's report is, with its figures; without an id that of the newest run that has one."""
        with answered():
            return await asyncio.to_thread(self._report, _run_id(arguments), self.folders())

    def stop(self) -> None:
        """Show nothing more, and begin nothing more."""
        if self._watching is not None:
            self._watching.cancel()
        self._app.training.on_status = lambda status: None
        self._serving.stop()
        for item in self._items.values():
            item.end("The server ends; the run goes on at its next start.")
        self._items.clear()

    def _report(self, run: str | None, folders: list[Path]) -> dict[str, Any]:
        for row in self._app.recorded_runs(run, folders):
            page, values = Path(row.folder) / "report.html", Path(row.folder) / "report.json"
            if page.is_file():
                figures = row.result.get("figures", {})
                report: dict[str, Any] = {}
                with contextlib.suppress(OSError, ValueError):
                    report = json.loads(values.read_text(encoding="utf-8"))
                place = {"run": row.id, "html": str(page), "json": str(values)}
                return {**place, "message": row.message, "figures": figures, "report": report}
        return {
            "run": None,
            "html": None,
            "json": None,
            "message": NO_REPORT,
        }

    def _folder(self, asked: object) -> Path:
        if asked is None:
            folders = self.folders()
            if not folders:
                raise JsonRpcInvalidParams(NO_FOLDER)
            return folders[0]
        if not isinstance(asked, str) or not asked:
            raise JsonRpcInvalidParams(USAGE)
        path = Path(to_fs_path(asked) or asked if asked.startswith("file:") else asked)
        if not path.is_absolute() or not path.is_dir():
            raise JsonRpcInvalidParams(f"There is no folder {asked}: give the absolute path of one.")
        return path

    def _status(self, arguments: Mapping[str, Any]) -> RunStatus | None:
        return self._app.training.status(_run_id(arguments))

    def _from_thread(self, call: Callable[..., None], *arguments: object) -> None:
        with contextlib.suppress(RuntimeError):  # the loop has closed; nobody is left to tell
            if self._loop is not None:
                self._loop.call_soon_threadsafe(call, *arguments)

    async def _watch(self) -> None:
        """Begin a run by itself where the settings want that, when the time has come."""
        refused = ""
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            training = self._app.settings.current.training
            folder = next(iter(self.folders()), None)
            if training.schedule != "idle" or not training.enabled or folder is None:
                continue
            try:
                if not await asyncio.to_thread(self._app.may_train_by_itself):
                    continue
                spec = await asyncio.to_thread(self._app.scheduled_run, folder)
            except IntractError as error:
                if str(error) != refused:  # said once, not each minute
                    refused = str(error)
                    log.warning("no run begins by itself: %s", error)
                continue
            if spec is not None:
                log.info("run %s begins by itself", spec.id)
                self._app.training.start(spec)

    def _swapped(self) -> None:
        self._app.service.clear_cache()
        self._publish()

    def _on_status(self, status: RunStatus) -> None:
        if status.state.is_over:
            self._end(status)
        else:
            item = self._items.get(status.run)
            if item is None:
                title = f"Fine-tuning on {Path(status.workspace).name}"
                cancel = lambda: self._cancelled(status.run)  # noqa: E731 - a line that names it would say no more
                item = self._items[status.run] = ProgressItem(self._server, "train", title, cancel)
            item.report(status.line, status.fraction)
        self._publish()

    def _say(self, sentence: str) -> None:
        self._server.window_show_message(types.ShowMessageParams(types.MessageType.Info, sentence))

    def _cancelled(self, run: str) -> None:
        self._app.training.cancel(run)

    def _end(self, status: RunStatus) -> None:
        if status.run in self._told:
            return
        self._told.add(status.run)
        item = self._items.pop(status.run, None)
        if item is not None:
            item.end(status.message)
        kind = _LOUD.get(status.state, types.MessageType.Info)
        sentence = f"Fine-tuning on {Path(status.workspace).name}: {status.message}"
        self._server.window_show_message(types.ShowMessageParams(kind, sentence))


def _changes(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings that a call changes for its run. Raises ``JsonRpcInvalidParams``."""
    unknown = arguments.keys() - {"method", "minutes", "folder"}
    method, minutes = arguments.get("method"), arguments.get("minutes")
    number = minutes is None or (isinstance(minutes, (int, float)) and not isinstance(minutes, bool))
    if unknown or (method is not None and method not in METHODS) or not number:
        raise JsonRpcInvalidParams(USAGE)
    if minutes is not None and not 0 < minutes <= LONGEST_MINUTES:
        raise JsonRpcInvalidParams(f"The minutes must be more than 0 and at most {LONGEST_MINUTES}.")
    given = {"method": method, "minutes": minutes}
    return {name: value for name, value in given.items() if value is not None}


def _run_id(arguments: Mapping[str, Any]) -> str | None:
    run = arguments.get("run")
    if run is not None and not isinstance(run, str):
        raise JsonRpcInvalidParams('The run is named by its id: {"run": ID}, or nothing for the newest.')
    return run
