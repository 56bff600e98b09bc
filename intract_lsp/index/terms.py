"""Code as the terms that a full-text search counts: whole identifiers, and the words that they are made of."""

from __future__ import annotations

import re
import zlib
from functools import lru_cache

_IDENTIFIER = re.compile(r"\b[^\W\d]\w+")
_WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+")
_LETTERS = re.compile(r"[^\W\d_]+")

LONGEST_TERM = 64
"""Characters. A longer identifier is data (a hash, a base64 text) that nobody writes twice."""

IDENTIFIERS_KNOWN = 1 << 14
"""Whose terms are remembered: a project's identifiers stand in it again and again."""

COMMON_WORDS = frozenset(
    {
        *("and", "as", "break", "case", "catch", "class", "const", "continue", "def", "default", "del", "do"),
        *("elif", "else", "end", "enum", "except", "export", "extends", "false", "final", "finally", "fn"),
        *("for", "from", "func", "function", "if", "impl", "import", "in", "int", "is", "let", "local", "new"),
        *("nil", "none", "not", "null", "or", "package", "pass", "private", "protected", "public", "raise"),
        *("return", "self", "static", "struct", "super", "switch", "then", "this", "throw", "true", "try"),
        *("type", "var", "void", "while", "with", "yield"),
    }
)
"""Keywords that stand in so many pieces that a match says nothing, while looking them up costs the most."""


def code_terms(text: str) -> list[str]:
    """Return the terms of a text in the order of the text, repeated as often as they occur.

    An identifier gives itself in lower case and, where it has several, the words that case, underscores and digits
    part it into: ``parseHTTPHeader_v2`` gives ``parsehttpheader_v2 parse http header``. Numbers, single characters,
    `COMMON_WORDS` and what is longer than `LONGEST_TERM` are left out. No term contains white space.
    """
    terms: list[str] = []
    for identifier in _IDENTIFIER.findall(text):
        terms += _terms_of(identifier)
    return terms


def term_id(term: str) -> int:
    """Return the 32 bits that stand for a term in the index: its CRC-32, the same in every process.

    Of 200,000 terms, some five pairs share their bits; each of them then also finds the other.
    """
    return zlib.crc32(term.encode("utf-8", "surrogatepass"))


@lru_cache(IDENTIFIERS_KNOWN)
def _terms_of(identifier: str) -> tuple[str, ...]:
    if len(identifier) > LONGEST_TERM:
        return ()
    whole = identifier.lower().strip("_")
    words = _WORD.findall(identifier) if identifier.isascii() else _words(identifier)
    lowered = [word.lower() for word in words]
    terms = [whole, *lowered] if lowered != [whole] else lowered
    return tuple(term for term in terms if len(term) > 1 and term not in COMMON_WORDS)


def _words(identifier: str) -> list[str]:
    """Split as `_WORD` does, by what Unicode says of case; regular expressions know it for ASCII alone."""
    words = []
    for letters in _LETTERS.findall(identifier):
        start = 0
        for at in range(1, len(letters)):
            rises = letters[at].isupper() and not letters[at - 1].isupper()
            acronym_ends = letters[at].isupper() and letters[at + 1 : at + 2].islower()
            if rises or acronym_ends:
                words.append(letters[start:at])
                start = at
        words.append(letters[start:])
    return words
