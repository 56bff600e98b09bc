"""Token healing: an answer that has to begin with a given text is decoded in the tokens that the model itself prefers.

A text that ends within a word ends in tokens that the model has seldom seen before what follows: ``retu`` is ``ret``
and ``u``, but ``return`` is one token. The word is given back instead, and the first tokens of the answer are chosen
among those that spell it; what the last of them spells beyond it is the beginning of the suggestion. After Lundberg's
token healing in Guidance (2023), with bytes for characters and any number of tokens.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


class Vocabulary:
    """The texts of all tokens, in the order of their bytes: those that begin alike stand beside each other."""

    def __init__(self, tokens: Mapping[int, bytes]) -> None:
        """Take the tokens that may stand in an answer; several may have the same text."""
        import numpy as np

        ids = sorted((id_ for id_, text in tokens.items() if text), key=tokens.__getitem__)
        self._tokens = tokens
        self._texts = [tokens[id_] for id_ in ids]
        self._ids: NDArray[np.int64] = np.array(ids, np.int64)

    def spells(self, text: bytes) -> bool:
        """Return whether ``text`` can be spelled to its end, whatever beginning of it has been spelled already."""
        return all(len(self._ids[self._equal(bytes([byte]))]) for byte in set(text))

    def allowed(self, text: bytes) -> NDArray[np.int64]:
        """Return the ids of the tokens that begin with ``text`` and of those that ``text`` begins with.

        ``text`` is not empty.
        """
        import numpy as np

        start, above = bisect_left(self._texts, text), _successor(text)
        end = len(self._texts) if above is None else bisect_left(self._texts, above, start)
        shorter = (self._ids[self._equal(text[:length])] for length in range(1, len(text)))
        return np.concatenate([self._ids[start:end], *shorter])

    def rest(self, text: bytes, id_: int) -> bytes:
        """Return what of ``text`` is left to be spelled after a token; nothing where the token spells more."""
        return text[len(self._tokens[id_]) :]

    def _equal(self, text: bytes) -> slice:
        """Return the places of the tokens whose text is ``text``."""
        return slice(bisect_left(self._texts, text), bisect_right(self._texts, text))


class Spelling:
    """Chooses tokens of one answer: the most likely of those that spell a text, then of all."""

    def __init__(self, vocabulary: Vocabulary, text: str) -> None:
        self._vocabulary = vocabulary
        self._left = text.encode()

    @property
    def done(self) -> bool:
        """Whether all of the text is spelled, so that every token may follow."""
        return not self._left

    def choose(self, logits: NDArray[np.float32]) -> int:
        """Take the most likely token that may follow by its logits, (vocabulary,), and return its id."""
        if self.done:
            return int(logits.argmax())
        allowed = self._vocabulary.allowed(self._left)
        id_ = int(allowed[int(logits[allowed].argmax())])
        self._left = self._vocabulary.rest(self._left, id_)
        return id_


def _successor(text: bytes) -> bytes | None:
    """Return the least text above all that begin with ``text``; ``None`` where there is none."""
    stem = text.rstrip(b"\xff")
    return stem[:-1] + bytes([stem[-1] + 1]) if stem else None
