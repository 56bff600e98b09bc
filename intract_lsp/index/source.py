"""Reading a file of a workspace, or saying why not."""

from __future__ import annotations

import errno
from pathlib import Path, PurePath

from intract_lsp.index.plain_file import open_plain
from intract_lsp.index.policy import LARGEST_NOTEBOOK, Refusal, refuse_path, refuse_size, refuse_text


def read_source(root: Path, path: str) -> str | Refusal:
    """Read a file that may be used, or say why not; its name, its size and its content are checked here too.

    ``path`` is relative to the root, with ``/``. Ignore files are not asked. Bytes that are not UTF-8 become U+FFFD,
    as long as they are few; a byte order mark is left out.
    """
    if not is_inside(path):
        return Refusal.OUTSIDE
    if refusal := refuse_path(path):
        return refusal
    folder = root
    try:
        for name in path.split("/")[:-1]:
            folder = folder / name
            if folder.is_symlink():
                return Refusal.SYMLINK
        with open_plain(root / path) as stream:
            content = stream.read(LARGEST_NOTEBOOK + 1)
    except (FileNotFoundError, NotADirectoryError):
        return Refusal.VANISHED
    except OSError as error:
        if error.errno == errno.ELOOP:
            return Refusal.SYMLINK
        return Refusal.NOT_A_FILE if error.errno in (errno.EISDIR, errno.EINVAL, errno.ENXIO) else Refusal.UNREADABLE
    if refusal := refuse_size(path, len(content)):
        return refusal
    text = content.removeprefix(b"\xef\xbb\xbf").decode("utf-8", "replace")
    return refuse_text(path, text) or text


def is_inside(path: str) -> bool:
    """Return whether a path is a plain relative one, with ``/`` and without ``..``."""
    return bool(path) and not PurePath(path).anchor and {"", ".", ".."}.isdisjoint(path.split("/"))
