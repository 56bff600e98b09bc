"""Which adapter serves: the record of it, and the model in memory brought in line with that record.

The record comes first and is taken back where the model cannot follow, so that the two never differ for long.
"""

from __future__ import annotations

import contextlib
import logging
import random
from collections.abc import Callable
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from intract_lsp.completion.generation import CancelToken
from intract_lsp.errors import AdapterError, AdapterRoomError, IntractError, ModelError
from intract_lsp.inference.engine import AdapterFiles, EngineState, LoadOrder, ModelCard, ModelFiles
from intract_lsp.inference.worker import InferenceWorker
from intract_lsp.training.hold_back import Found
from intract_lsp.training.trial import Served, drawn, outcome, record, recorded

if TYPE_CHECKING:
    from intract_lsp.training.adapter_table import Adapter
    from intract_lsp.training.adapters import AdapterRegistry

log = logging.getLogger(__name__)

NOW = "now"
LATER = "from the next start on, and in editors that are open from the next pause on"


@dataclass(frozen=True, slots=True)
class Entry:
    """An adapter with what people want to know of it."""

    adapter: Adapter
    metrics: dict[str, object]
    """What was measured before it was taken in."""
    git_head: str
    trial: Found | None = None
    """What was seen of it in service, and of what stood before it."""

    def values(self) -> dict[str, object]:
        """Return it as plain JSON values."""
        adapter = self.adapter
        return {
            "id": adapter.id,
            "status": adapter.status.value,
            "active": adapter.status.value == "active",
            "kind": adapter.kind.value,
            "base": adapter.base_name,
            "workspace": adapter.workspace,
            "run": adapter.run,
            "created": adapter.created,
            "gitHead": self.git_head,
            "directory": str(adapter.directory),
            "metrics": self.metrics,
            "trial": None if self.trial is None else self.trial.values(),
        }


class AdapterSwitch:
    """Adapters as a program uses them; its methods may be called from any thread and return at once.

    One thread does the work, which reads and copies files. Its futures fail with ``AdapterError``.
    """

    def __init__(
        self,
        registry: Callable[[], AdapterRegistry],
        directory: Path,
        find_model: Callable[[str], ModelFiles | None],
        worker: InferenceWorker,
    ) -> None:
        """``registry`` opens the registry, whose adapters are in ``directory``, on this object's thread.

        ``find_model`` returns a model that is on this machine, by the name that the settings or an adapter gives.
        """
        self._open = registry
        self._directory = directory
        self._find_model = find_model
        self._worker = worker
        self._registry: AdapterRegistry | None = None
        self._thread = ThreadPoolExecutor(1, "intract-adapters")
        self.workspace: Path | None = None
        """The folder whose adapter serves; ``move`` changes it."""
        self.chosen = ""
        """Id of the adapter to load whatever is recorded; empty = the one recorded for the folder."""
        self.model_name: Callable[[], str] = lambda: "auto"
        """The name of the model that the settings ask for."""
        self.on_swapped: Callable[[], None] = lambda: None
        """Called on this object's thread when another adapter serves, or none."""
        self.share_held_back: Callable[[], float] = lambda: 0.0
        """With which chance ``draw`` has what stood before an adapter answer in its place; 0 = it never does."""
        self.chance: Callable[[], float] = random.random
        """Returns a number in 0..1."""
        self.served = Served()
        """What was last asked of the model in memory; its card says whether that serves."""
        self._order = LoadOrder("auto")
        """As the model was last loaded."""

    def load(self, order: LoadOrder) -> Future[ModelCard]:
        """Load a model with the adapter that is recorded for the folder, if any; see ``InferenceWorker.load``."""
        self._order = order
        # Opening the registry takes a moment, which a start without any adapter need not wait for.
        if not self.chosen and (self.workspace is None or not self._directory.is_dir()):
            return self._worker.load(order)
        loaded: Future[ModelCard] = Future()

        def begin() -> None:
            wanted = order
            try:
                wanted = replace(order, adapter=self._for_loading(order.model))
            except IntractError as error:
                if self.chosen:
                    loaded.set_exception(error)
                    return
                log.warning("no adapter is loaded: %s", error)
                wanted = replace(order, refusal=str(error))
            begun = self._worker.load(wanted)
            begun.add_done_callback(lambda done: self._pass_on(done, loaded))

        self._thread.submit(begin)
        return loaded

    def entries(self, workspace: Path | None = None) -> Future[list[Entry]]:
        """Return the adapters, those trained on one folder if given; the newest first."""
        return self._thread.submit(self._entries, workspace)

    def show(self, id_: str) -> Future[Entry]:
        """Return one adapter, after a look at whether its files are whole."""
        return self._thread.submit(self._show, id_)

    def promote(self, id_: str, workspace: Path | None = None) -> Future[str]:
        """Have an adapter serve in a folder, by default the one that it was trained on; return a sentence."""
        return self._thread.submit(self._promote, id_, workspace)

    def rollback(self, workspace: Path) -> Future[str]:
        """Have the adapter before the present one serve in a folder again, or the base alone; return a sentence."""
        return self._thread.submit(self._roll_back, workspace)

    def remove(self, id_: str) -> Future[str]:
        """Delete an adapter that does not serve; return a sentence."""
        return self._thread.submit(self._remove, id_)

    def export(self, id_: str, target: Path, *, merged: bool) -> Future[str]:
        """Write an adapter to a new directory, in peft's format or as a whole model; return a sentence."""
        return self._thread.submit(self._export, id_, target, merged)

    def saw(self, path: str, workspace: Path | None = None) -> Future[list[str]]:
        """Return the ids of the adapters that were trained on a file or folder, named as inside the workspace."""
        return self._thread.submit(self._saw, path, workspace)

    def forget(self, path: str, workspace: Path | None = None) -> Future[str]:
        """Take the adapters that were trained on a file or folder out of service and delete them; return a sentence."""
        return self._thread.submit(self._forget, path, workspace)

    @property
    def any_kept(self) -> bool:
        """Whether there may be any adapter on this machine; takes no time."""
        return self._directory.is_dir()

    def move(self, folder: Path) -> Future[None]:
        """Serve with the adapter of another folder from now on."""
        return self._thread.submit(self._move, folder)

    def draw(self, *, anew: bool = True) -> Future[None]:
        """Let chance say whether the adapter answers for the next while or is held back, if it is on trial.

        Without ``anew`` it has no say as long as the same adapter is recorded.

        On a GPU, where a swap loads all weights, nothing is held back. What another program has changed in the record
        is followed everywhere.
        """
        return self._thread.submit(self._draw, anew)

    def record(self, served: Served, seen: int, kept: int) -> Future[str]:
        """Record what was seen of a version; return a sentence where the adapter was therefore taken back, or none."""
        return self._thread.submit(self._record, served, seen, kept)

    def tidy(self, workspace: Path, model: str, base: str) -> None:
        """Remove what runs on a folder have left of a model that nobody is likely to use, if there is anything.

        ``base`` is ``models.store.weights_fingerprint`` of the model.
        """
        if self._directory.is_dir():
            self._thread.submit(lambda: self._clear(_key(workspace), model, base))

    def recover(self) -> None:
        """Put in order what killed programs left behind, if there is anything."""
        if self._directory.is_dir():
            self._thread.submit(lambda: self._adapters.recover())

    def close(self) -> None:
        """Let the thread go; what waits is dropped."""
        self._thread.submit(self._close)
        self._thread.shutdown(wait=False)

    def _pass_on(self, done: Future[ModelCard], to: Future[ModelCard]) -> None:
        """Hand the outcome of a load on: where an adapter was named, without it is a failure."""
        if done.cancelled():
            to.cancel()
            return
        error = done.exception()
        if error is None and self.chosen and done.result().adapter != self.chosen:
            error = AdapterError(" ".join(done.result().notes) or f"The adapter {self.chosen} could not be loaded.")
        if error is not None:
            to.set_exception(error)
        else:
            to.set_result(done.result())

    # What follows runs on the thread.

    @property
    def _adapters(self) -> AdapterRegistry:
        if self._registry is None:
            self._registry = self._open()
        return self._registry

    def _close(self) -> None:
        if self._registry is not None:
            self._registry.close()

    def _for_loading(self, model: str) -> AdapterFiles | None:
        """Return the adapter that is to be merged into a model."""
        if self.chosen:
            return self._adapters.files(self.chosen)
        files = self._find_model(model)
        if files is None or self.workspace is None:
            return None
        self.served = recorded(self._adapters, self.workspace, _key(self.workspace), _fingerprint(files))
        return self._adapters.files(self.served.adapter) if self.served.adapter else None

    def _entries(self, workspace: Path | None) -> list[Entry]:
        found = self._adapters.list(None if workspace is None else _key(workspace))
        return [self._entry(adapter) for adapter in found]

    def _entry(self, adapter: Adapter) -> Entry:
        trial = outcome(self._adapters, adapter.id)
        try:
            provenance = self._adapters.meta(adapter.id).provenance
        except AdapterError:
            return Entry(adapter, {}, "", trial)
        return Entry(adapter, dict(provenance.metrics), provenance.git_head, trial)

    def _show(self, id_: str) -> Entry:
        self._adapters.verify(id_)
        return self._entry(self._adapters.get(id_))

    def _promote(self, id_: str, workspace: Path | None) -> str:
        adapter = self._adapters.get(id_)
        place = adapter.workspace if workspace is None else _key(workspace)
        before = self._adapters.active(place, adapter.base)
        self._adapters.promote(id_, place)
        try:
            serves = self._follow(place, adapter.base)
        except IntractError as error:
            if before is None or before.id != id_:
                self._adapters.rollback(place, adapter.base)
            now = before.id if before is not None else f"{adapter.base_name} alone"
            left = f"{now} serves as before" if self._worker.card is not None else "no model is loaded any more"
            raise AdapterError(f"{error} It was taken back: {left}.") from error
        self._clear(place, adapter.base_name, adapter.base)
        return f"The adapter {id_} serves {NOW if serves else LATER}."

    def _roll_back(self, workspace: Path) -> str:
        files = self._find_model(self.model_name())
        if files is None:
            raise AdapterError(f"{self.model_name()} is not on this machine: choose the adapter's model first.")
        base = _fingerprint(files)
        left = self._adapters.active(_key(workspace), base)
        now = self._adapters.rollback(_key(workspace), base)
        try:
            serves = self._follow(_key(workspace), base)
        except IntractError as error:
            if left is not None:
                self._adapters.promote(left.id, _key(workspace))
            state = "All is as it was" if self._worker.card is not None else "No model is loaded any more"
            raise AdapterError(f"{error} {state}.") from error
        what = now.id if now is not None else f"{files.name} without an adapter"
        return f"Rolled back: {what} serves {NOW if serves else LATER}."

    def _remove(self, id_: str) -> str:
        base_name = self._adapters.get(id_).base_name
        base = self._adapters.get(id_).base
        self._adapters.remove(id_)
        self._drop_copies(base_name, base)
        return f"The adapter {id_} is removed."

    def _export(self, id_: str, target: Path, merged: bool) -> str:
        base = None
        if merged:
            name = self._adapters.get(id_).base_name
            files = self._find_model(name)
            if files is None:
                raise AdapterError(f"{name}, which it is to be merged with, is not on this machine: pull it first.")
            base = files.directory
        self._adapters.export(id_, target, base)
        return f"The adapter {id_} is in {target}."

    def _saw(self, path: str, workspace: Path | None) -> list[str]:
        return [one.id for one in self._adapters.saw(path, None if workspace is None else _key(workspace))]

    def _forget(self, path: str, workspace: Path | None) -> str:
        found = self._saw(path, workspace)
        if not found:
            return f"No adapter was trained on {path}."
        self._take_out(set(found))
        for id_ in found:
            self._remove(id_)
        many = f"{len(found)} adapters were" if len(found) > 1 else "1 adapter was"
        return (
            f"{many} trained on {path} and are gone: {', '.join(found)}. For later ones to do without it, name it in "
            "the setting training.exclude, or in .intractignore to keep it out of prompts, too."
        )

    def _take_out(self, doomed: set[str]) -> None:
        """Roll back wherever one of these serves, until none does."""
        for id_ in doomed:
            adapter = self._adapters.get(id_)
            for place in self._adapters.folders(adapter.base):
                changed = False
                while (active := self._adapters.active(place, adapter.base)) is not None and active.id in doomed:
                    self._adapters.rollback(place, adapter.base)
                    changed = True
                if changed:
                    self._follow(place, adapter.base)

    def _move(self, folder: Path) -> None:
        self.workspace = folder
        files = self._find_model(self.model_name())
        if files is not None:
            self._follow(_key(folder), _fingerprint(files), in_place=False)

    def _draw(self, anew: bool) -> None:
        card, files = self._worker.card, self._find_model(self.model_name())
        if self.workspace is None or files is None or card is None:
            return
        folder, base = _key(self.workspace), _fingerprint(files)
        if not anew and recorded(self._adapters, self.workspace, folder, base).adapter == self.served.promoted:
            return
        share = 0.0 if card.device in ("cuda", "mps") else self.share_held_back()
        wanted = drawn(self._adapters, self.workspace, folder, base, share, self.chance)
        try:
            self._serve(files, wanted, in_place=False)
        except IntractError as error:
            # What goes on is no block of the trial: chance had no say.
            self.served = replace(self.served, place=None)
            log.warning("what answers stays as it is: %s", error)

    def _record(self, served: Served, seen: int, kept: int) -> str:
        found = record(self._adapters, served, seen, kept)
        if found is None:
            return ""
        now = self._adapters.rollback(served.workspace, served.base)
        self._follow(served.workspace, served.base)
        serves = "the model alone" if now is None else now.id
        return f"The adapter {served.promoted} was taken back: {found.sentence}. Now {serves} serves."

    def _follow(self, workspace: str, base: str, *, in_place: bool = True) -> bool:
        """Have the model in memory serve with what is recorded, if it is that model and that folder; whether it is."""
        card = self._worker.card
        loading = self._worker.status.state is EngineState.LOADING
        if self.workspace is None or _key(self.workspace) != workspace or (card is None and not loading):
            return False
        files = self._find_model(self.model_name())
        if files is None or _fingerprint(files) != base:
            return False
        self._serve(files, recorded(self._adapters, self.workspace, workspace, base), in_place=in_place)
        return True

    def _serve(self, files: ModelFiles, wanted: Served, *, in_place: bool = True) -> None:
        """Have the model in memory serve with an adapter or none.

        Where there is no room for it beside what serves, and it may be loaded ``in_place``, completions wait meanwhile.
        """
        card = self._worker.card
        if card is not None and card.adapter == wanted.adapter:
            self.served = wanted
            return
        adapter = self._adapters.files(wanted.adapter) if wanted.adapter else None
        if adapter is not None and card is not None and card.precision == "int8":
            # Imported where it is needed: it brings numbers and files that most starts do without.
            from intract_lsp.inference.adapted_child import int8_copy_in_child

            int8_copy_in_child(files, adapter, lambda sentence, fraction: None, CancelToken())
        crowded: ModelCard | None = None
        try:
            self._worker.swap(adapter).result()
        except AdapterRoomError:
            if not in_place or card is None:
                raise
            crowded = card
        except CancelledError as error:
            raise AdapterError("The program ends before the model has another adapter.") from error
        # Outside of the handler, where the failed swap's traceback no longer holds what serves.
        if crowded is not None:
            self._load_in_place(adapter, crowded)
        self.served = wanted
        self.on_swapped()

    def _load_in_place(self, adapter: AdapterFiles | None, before: ModelCard) -> None:
        """Load the model anew with an adapter or none; with what it had ``before`` where that fails."""
        # As it was chosen when it had all of the memory.
        order = replace(self._order, device=before.device, precision=before.precision)
        try:
            card = self._worker.load(replace(order, adapter=adapter)).result()
            if card.adapter == (adapter.id if adapter is not None else ""):
                return
            reason = " ".join(card.notes)
        except CancelledError as error:
            raise AdapterError("The model was asked for anew before it had another adapter.") from error
        except ModelError as error:
            reason = str(error)
        earlier = self._adapters.files(before.adapter) if before.adapter else None
        with contextlib.suppress(ModelError, CancelledError):  # the status says so
            self._worker.load(replace(order, adapter=earlier)).result()
        raise AdapterError(reason)

    def _clear(self, workspace: str, model: str, base: str) -> None:
        """Remove a folder's oldest adapters that have not served, and int8 copies that are not worth their place."""
        self._adapters.prune(workspace, base)
        self._drop_copies(model, base)

    def _drop_copies(self, model: str, base: str) -> None:
        """Remove the int8 copies with adapters that are not likely to serve soon."""
        from intract_lsp.inference.adapted import keep_int8_copies

        try:
            files = self._find_model(model)
        except ModelError:
            return  # it is not there any more, or damaged: what is wrong with it is said when it is asked for
        if files is not None and files.quantized is not None:
            keep_int8_copies(files.quantized, self._adapters.worth_keeping(base))


def _key(folder: Path) -> str:
    # Imported where it is needed, as the registry is: they bring the database's library, which takes a while.
    from intract_lsp.index.folder import folder_key

    return folder_key(folder)


def _fingerprint(files: ModelFiles) -> str:
    from intract_lsp.models.store import weights_fingerprint

    return weights_fingerprint(files.directory)
