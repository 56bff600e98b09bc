"""The project as a run may see it: its files at the cut, what was left out and why, and what is kept for measuring."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from intract_lsp.errors import IndexingError, TrainingError
from intract_lsp.index.files import FilePolicy, list_files
from intract_lsp.index.grammars import Grammars
from intract_lsp.index.policy import LARGEST_NOTEBOOK, Refusal, refuse_path, refuse_size
from intract_lsp.index.source import is_inside, read_source
from intract_lsp.training.corpus import Admitted, Refused, admit, refuse_name
from intract_lsp.training.exclusion import Exclusion
from intract_lsp.training.git_objects import GitFailure, GitFolder, Tree
from intract_lsp.training.held_out import HeldOut
from intract_lsp.training.history import Cut, find_cut, fixed_cut, recent_lines
from intract_lsp.training.spec import RunSpec

log = logging.getLogger(__name__)

MOST_FILES = 20_000
"""Of a folder; of more, those nearest to its root."""

LINES_OF_A_PLACE = 3
"""Added lines that each of the least number of places takes at least."""

LEAST_CHARACTERS = 8_000
"""Of code before the cut: with less there is nothing to learn from, and files are held out in the place of commits."""

WEAK_SHARE = 0.1
"""Of the lines are held out as whole files where there is no history."""

LARGEST_WEAK = 0.25
"""Of the lines: a file with more is not held out, or too little is left."""

EXCLUDED = "The setting training.exclude names it."
TOO_MANY = "The folder has more files than are looked at, and this one is among those that lie deepest."
SUBMODULE = "It is a submodule: fine-tune on its own folder."
LACKING = "The clone of the repository has it not: it is a partial one."


@dataclass(frozen=True)
class CutTree:
    """A project's files, divided. Whatever is committed or edited later changes nothing here."""

    commit: str
    """The newest commit that is trained on; empty where there is no git."""
    head: str
    """The newest commit; empty where there is no git."""
    weak: bool
    """Whether whole files were held out by chance, for want of a history: a weaker proof."""
    held_out_commits: int
    files: tuple[Admitted, ...]
    """To train on, by path."""
    contents: Mapping[str, bytes] = field(repr=False)
    """Of every file that an index of the tree may show, prose included; nothing of what is held out."""
    held_out: tuple[HeldOut, ...] = field(repr=False)
    new_files: tuple[Admitted, ...] = field(repr=False)
    """Held-out files of which the tree has nothing."""
    recent: Mapping[str, Mapping[int, float]] = field(repr=False)
    """Weights of the lines that were changed lately, by path and line."""
    refused: tuple[Refused, ...] = field(repr=False)
    uncounted: Mapping[str, int] = field(default_factory=dict, repr=False)
    """How many further names were left out, by the reason; where a folder was listed without git."""

    def write(self, folder: Path) -> None:
        """Write the tree's files below a folder, for an index of their own. Raises ``OSError``."""
        for path, content in self.contents.items():
            if is_inside(path):
                target = folder / path
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(content)


def cut_tree(spec: RunSpec, commits: tuple[str, str] | None = None) -> CutTree:
    """Divide a run's workspace. Takes seconds for a large one, reads only, and does not touch git's index.

    ``commits`` are the cut and the head of a run that goes on, as its plan has them. Raises ``TrainingError`` where the
    folder is not there or these are gone.
    """
    root = Path(spec.workspace)
    reader = _Reader(Grammars(), Exclusion(spec.data.exclude))
    if commits is None or commits[1]:
        try:
            return _from_git(spec, root, reader, commits)
        except GitFailure as failure:
            log.info("the project's history cannot be used: %s", failure)
            if commits is not None:
                raise TrainingError(
                    "The commits that the run began with are not in the repository any more: start a new run."
                ) from failure
    try:
        return _from_folder(spec, root, reader)
    except IndexingError as error:
        raise TrainingError(str(error)) from error


class _Reader:
    """Admits files, each content once: most are the same at the cut and now."""

    def __init__(self, grammars: Grammars, exclusion: Exclusion) -> None:
        self._grammars = grammars
        self.exclusion = exclusion
        self._known: dict[tuple[str, str], Admitted | Refused] = {}

    def admit(self, path: str, blob: str, content: bytes) -> Admitted | Refused:
        key = path, blob
        if key not in self._known:
            self._known[key] = admit(path, blob, content, self._grammars)
        return self._known[key]


@dataclass(frozen=True, slots=True)
class _Files:
    """Those of a commit, or of a folder without git, under the policy."""

    contents: dict[str, bytes]
    admitted: dict[str, Admitted]
    refused: list[Refused]


def _from_git(spec: RunSpec, root: Path, reader: _Reader, commits: tuple[str, str] | None) -> CutTree:
    git = GitFolder(root, commits[1] if commits else "HEAD")
    newest = git.tree(git.head)
    blobs = newest.blobs
    if not blobs:
        raise GitFailure("the repository has nothing of the folder")
    policy = {path: refusal.value for path, refusal in FilePolicy(root).refused(blobs).items()}
    policy |= {path: EXCLUDED for path in blobs if path not in policy and reader.exclusion.names(path)}
    now = _read(git, git.head, newest, policy, reader)
    # A notebook is trained on, and nowhere measured at.
    counted = _counted(now)
    lines = sum(counted.values())
    history = git.commits()
    cut: Cut | None
    if commits is not None:
        cut = fixed_cut(git, history, commits[0], counted.__contains__) if commits[0] != commits[1] else None
        if cut is None and commits[0] != commits[1]:
            raise GitFailure("the cut is not in the history")
    elif not spec.data.held_out:
        cut = None
    else:
        least = spec.data.least_held_out * LINES_OF_A_PLACE
        cut = find_cut(git, history, counted.__contains__, lines, spec.data.held_out, least)
    if cut is not None:
        old = git.tree(cut.commit)
        renamed = {change.old_path: change.path for change in cut.changes if change.old_path != change.path}
        policy_then = _policy_then(old.blobs, blobs, renamed, policy, reader.exclusion)
        then = _read(git, cut.commit, old, policy_then, reader)
        if _characters(then.admitted.values()) >= LEAST_CHARACTERS:
            return CutTree(
                commit=cut.commit,
                head=git.head,
                weak=False,
                held_out_commits=cut.held_out_commits,
                files=_by_path(then.admitted),
                contents=then.contents,
                held_out=tuple(HeldOut(now.admitted[change.path].pieces, change.added) for change in cut.changes),
                new_files=tuple(now.admitted[change.path] for change in cut.changes if change.is_new),
                recent=_recent(git, history, cut.commit, then),
                refused=tuple(then.refused),
            )
    recent = _recent(git, history, history[0], now) if history else {}
    return _uncut(spec, now, git.head, recent)


def _counted(files: _Files) -> dict[str, int]:
    """Return how many lines each file has, but for those in which git counts others than those of their texts."""
    return {
        path: sum(len(piece.lines) for piece in file.pieces)
        for path, file in files.admitted.items()
        if not file.is_notebook
    }


def _recent(git: GitFolder, history: Sequence[str], newest: str, files: _Files) -> Mapping[str, Mapping[int, float]]:
    counted = _counted(files)
    return recent_lines(git, history, newest, counted.__contains__, sum(counted.values()))


def _policy_then(
    blobs: Iterable[str],
    now: Mapping[str, str],
    renamed: Mapping[str, str],
    policy: Mapping[str, str],
    exclusion: Exclusion,
) -> dict[str, str]:
    """Return why files of an older tree are left out: by today's rules, under the names that they have today.

    What the user has excluded is so under its old name, too.
    """
    found: dict[str, str] = {}
    for path in blobs:
        today = path if path in now else renamed.get(path)
        reason = Refusal.VANISHED.value if today is None else policy.get(today)
        if exclusion.names(path):
            reason = EXCLUDED
        if reason is not None:
            found[path] = reason
    return found


def _read(git: GitFolder, commit: str, listed: Tree, policy: Mapping[str, str], reader: _Reader) -> _Files:
    """Return the files of a commit under the policy; ``policy`` has the reasons that are known already."""
    blobs, missing = listed.blobs, git.missing(commit)
    refused = [Refused(path, reason) for path, reason in policy.items() if path in blobs]
    refused += [Refused(path, LACKING) for path, blob in blobs.items() if blob in missing and path not in policy]
    refused += [Refused(path, SUBMODULE if module else Refusal.SYMLINK.value) for path, module in listed.links.items()]
    usable = [path for path, blob in blobs.items() if path not in policy and blob not in missing]
    usable.sort(key=lambda path: (path.count("/"), path))
    refused += [Refused(path, TOO_MANY) for path in usable[MOST_FILES:]]
    names = {path: blobs[path] for path in usable[:MOST_FILES]}
    contents = git.contents(names.values(), LARGEST_NOTEBOOK)
    found = _Files({}, {}, refused)
    for path, blob in names.items():
        content = contents.get(blob)
        if content is None:
            refused.append(Refused(path, refuse_name(path) or Refusal.TOO_LARGE.value))
            continue
        _sort(found, path, blob, content, reader)
    return found


def _sort(files: _Files, path: str, blob: str, content: bytes, reader: _Reader) -> None:
    """Put a file where it belongs: what training leaves out an index may show all the same."""
    if refuse_path(path) is None and refuse_size(path, len(content)) is None:
        files.contents[path] = content
    found = reader.admit(path, blob, content)
    if isinstance(found, Refused):
        files.refused.append(found)
    else:
        files.admitted[path] = found


def _from_folder(spec: RunSpec, root: Path, reader: _Reader) -> CutTree:
    listing = list_files(root, MOST_FILES)
    files = _Files({}, {}, [])
    for file in listing.files:
        if reader.exclusion.names(file.path):
            files.refused.append(Refused(file.path, EXCLUDED))
            continue
        text = read_source(root, file.path)
        if isinstance(text, Refusal):
            files.refused.append(Refused(file.path, text.value))
            continue
        content = text.encode("utf-8", "replace")
        blob = hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()
        _sort(files, file.path, blob, content, reader)
    counts = {refusal.value: count for refusal, count in listing.refused.items()}
    return _uncut(spec, files, "", {}, counts)


def _uncut(
    spec: RunSpec,
    files: _Files,
    head: str,
    recent: Mapping[str, Mapping[int, float]],
    uncounted: Mapping[str, int] | None = None,
) -> CutTree:
    """Hold out whole files, chosen by the hash of their paths: the same ones each time, whatever is added.

    None where the run asks for no place to measure at.
    """
    share = WEAK_SHARE if spec.data.held_out else 0.0
    lines = {path: sum(len(piece.lines) for piece in file.pieces) for path, file in files.admitted.items()}
    total = sum(lines.values())
    chosen: set[str] = set()
    held = 0
    for path in sorted(lines, key=lambda path: hashlib.sha256(path.encode("utf-8", "surrogatepass")).digest()):
        if held >= total * share:
            break
        if lines[path] <= total * LARGEST_WEAK:
            chosen.add(path)
            held += lines[path]
    held_out = tuple(files.admitted[path] for path in sorted(chosen))
    return CutTree(
        commit=head,
        head=head,
        weak=bool(held_out),
        held_out_commits=0,
        files=_by_path({path: file for path, file in files.admitted.items() if path not in chosen}),
        contents={path: content for path, content in files.contents.items() if path not in chosen},
        held_out=tuple(HeldOut(file.pieces, None) for file in held_out),
        new_files=held_out,
        recent=recent,
        refused=tuple(files.refused),
        uncounted=uncounted or {},
    )


def _by_path(files: Mapping[str, Admitted]) -> tuple[Admitted, ...]:
    return tuple(files[path] for path in sorted(files))


def _characters(files: Iterable[Admitted]) -> int:
    return sum(len(piece.text) for file in files for piece in file.pieces)
