"""What git says about the files of a folder, from its command line."""

from __future__ import annotations

import logging
import os
import shutil
import subprocess
from collections.abc import Iterable, Sequence
from pathlib import Path

_log = logging.getLogger(__name__)

_TIMEOUT_SECONDS = 20.0
"""A listing of a million files takes git a few seconds; beyond, something hangs."""

_SETTINGS = (
    *("-c", "core.fsmonitor=false", "-c", f"core.hooksPath={os.devnull}", "-c", "core.untrackedCache=false"),
    *("-c", "init.defaultObjectFormat=sha1"),
)
"""Settings must not start a program (``core.fsmonitor`` and hooks may name one) nor have git write to a repository; one
that is made here has the ids of ``_NO_CONTENT``'s kind."""

_NO_CONTENT = "e69de29bb2d1d6434b8b29ae775ad8c2e48c5391"
"""What git calls an empty file."""

_KEPT = frozenset({"GIT_CONFIG_GLOBAL", "GIT_CONFIG_SYSTEM", "GIT_CONFIG_NOSYSTEM", "GIT_EXEC_PATH"})
"""Other ``GIT_`` variables would point git at the repository of whoever started the server, such as a commit hook."""


def listed_by_git(root: Path) -> list[str] | None:
    """Return what git tracks, or would track, below a folder: paths relative to it, with ``/``, in no order.

    Submodules and other repositories inside are asked in turn. ``None`` where git cannot tell: there is no git, the
    folder is in no repository or in one that ignores it, or git failed.
    """
    output = _git(root, ("ls-files", "-z", "--cached", "--others", "--exclude-standard"))
    if output is None or _ignored_here(root, ()) is None:
        return None
    paths: list[str] = []
    for path in {os.fsdecode(entry).rstrip("/") for entry in output.split(b"\0") if entry}:
        if os.path.lexists(f"{root}/{path}/.git"):
            paths.extend(f"{path}/{inner}" for inner in listed_by_git(root / path) or ())
        else:
            paths.append(path)
    return paths


def track(root: Path, paths: Iterable[str]) -> None:
    """Make a folder a repository of its own that tracks these files, whatever ignore rules say. None is read.

    Without git, or where it fails, the folder is none.
    """
    entries = b"".join(f"100644 {_NO_CONTENT} 0\t".encode() + os.fsencode(path) + b"\0" for path in paths)
    # No object is written: Windows would not let read-only files be deleted with the folder.
    made = _git(root, ("init", "--quiet", "--template="))
    if made is None or _git(root, ("update-index", "-z", "--index-info"), entries) is None:
        shutil.rmtree(root / ".git", ignore_errors=True)


def ignored_by_git(root: Path, paths: Iterable[str]) -> frozenset[str] | None:
    """Return which of some paths git would leave out of a listing: one process a repository, however many they are.

    The paths are relative to the folder, with ``/``; none is behind a symbolic link, for git then refuses to answer
    for any. ``None`` as in ``listed_by_git``.
    """
    own: list[str] = []
    inner: dict[str, list[str]] = {}
    known: dict[str, bool] = {}
    for path in paths:
        repository = _inner_repository(root, path, known)
        if repository:
            inner.setdefault(repository, []).append(path)
        else:
            own.append(path)
    ignored = _ignored_here(root, (*own, *inner))
    if ignored is None:
        return None
    found = ignored.intersection(own)
    for repository, members in inner.items():
        cut = len(repository) + 1
        below = None if repository in ignored else ignored_by_git(root / repository, (path[cut:] for path in members))
        # What its own repository cannot tell of is not in a listing either.
        found |= set(members) if below is None else {f"{repository}/{path}" for path in below}
    return found


def _ignored_here(root: Path, paths: Iterable[str]) -> frozenset[str] | None:
    """Return what the repository of a folder ignores of some paths in it; ``None`` also if it ignores the folder."""
    # Without the dot, a name such as ":(x" would be read as a pattern; the command knows no other way to say so.
    asked = b"".join(b"./" + os.fsencode(path) + b"\0" for path in (".", *paths))
    output = _git(root, ("check-ignore", "-z", "--stdin"), asked, (0, 1))
    if output is None:
        return None
    ignored = frozenset(os.fsdecode(path)[2:] for path in output.split(b"\0") if path)
    # At the top of a repository, a pattern ``*`` of its own seems to be about the folder itself.
    return None if "." in ignored and not os.path.lexists(root / ".git") else ignored


def _inner_repository(root: Path, path: str, known: dict[str, bool]) -> str:
    """Return the outermost repository below a folder that a path lies in, or nothing."""
    end = path.find("/")
    while end >= 0:
        folder = path[:end]
        if folder not in known:
            known[folder] = os.path.lexists(f"{root}/{folder}/.git")
        if known[folder]:
            return folder
        end = path.find("/", end + 1)
    return ""


def _git(root: Path, arguments: Sequence[str], stdin: bytes = b"", codes: tuple[int, ...] = (0,)) -> bytes | None:
    """Run git in a folder and return its output; ``None`` if there is none, or its exit code is another."""
    program = shutil.which("git")
    if program is None:
        return None
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GIT_") or name in _KEPT}
    environment |= {"GIT_OPTIONAL_LOCKS": "0", "GIT_TERMINAL_PROMPT": "0", "GIT_NO_LAZY_FETCH": "1"}
    try:
        done = subprocess.run(
            (program, *_SETTINGS, *arguments),
            cwd=root,
            input=stdin,
            capture_output=True,
            timeout=_TIMEOUT_SECONDS,
            env=environment,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        _log.warning("git %s: %s", arguments[0], type(error).__name__)
        return None
    if done.returncode not in codes:
        _log.info("git %s: exit code %d", arguments[0], done.returncode)
        return None
    return done.stdout
