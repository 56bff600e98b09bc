"""Where an anchored prompt splits the text before the cursor.

A prompt that has the suffix before the middle is the same for each keystroke on a line if it is split where the line's
code begins: what was typed since is the beginning of the middle. The last word of it is given back to the model (token
healing), since what is typed of a word is seldom spelled in the tokens of the whole one.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

LONGEST_WORD = 40
"""Characters of a word that is healed; a longer one is a row of dashes or data."""

_WORD = re.compile(
    r"""'(?i:s|t|re|ve|m|ll|d)
      | (?:[^\w\r\n]|_)?[^\W\d_]+    # letters, with what stands before them
      | \d
      | [ ]?(?:[^\w\s]|_)+[\r\n]*
      | \s*[\r\n]+ | \s+(?!\S) | \s+""",
    re.VERBOSE,
)


@dataclass(frozen=True, slots=True)
class Anchored:
    """The text before a cursor in three parts, which joined are that text."""

    head: str
    """Up to the anchor."""
    typed: str = ""
    """From there on, without the last word."""
    word: str = ""
    """The last word, to be healed."""


def split(prefix: str, longest: int) -> Anchored:
    """Split a prefix where the code of the cursor's line begins; nowhere if more than ``longest`` characters follow."""
    line = prefix[max(prefix.rfind("\n"), prefix.rfind("\r")) + 1 :].lstrip()
    if len(line) > longest:
        return Anchored(prefix)
    word = last_word(line)
    return Anchored(prefix[: len(prefix) - len(line)], line[: len(line) - len(word)], word)


def last_word(text: str) -> str:
    """Return the end of a text that a tokenizer may join with what follows.

    Tokenizers cut a text into words before they merge characters to tokens, and no token reaches from one word into the
    next. The words are those of the most common pattern (cl100k, Qwen2), a word with the blank or sign before it; the
    patterns of other families cut finer. Empty where the word is too long to be one.
    """
    word = ""
    for match in _WORD.finditer(text):
        word = match[0]
    return word if len(word) <= LONGEST_WORD else ""
