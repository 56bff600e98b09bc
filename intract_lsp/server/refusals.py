"""What is wrong with what a command asks for, as its answer."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from pygls.exceptions import JsonRpcInvalidParams

from intract_lsp.errors import IntractError


@contextmanager
def answered() -> Iterator[None]:
    """Have an ``IntractError`` answered with its sentence, in place of pygls' traceback."""
    try:
        yield
    except IntractError as error:
        raise JsonRpcInvalidParams(str(error)) from error
