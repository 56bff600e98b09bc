"""Drafts for speculative greedy decoding: a small tree of likely next tokens, from what the text itself repeats.

Counts what followed the last one to four tokens elsewhere, in the document on both sides of the cursor and in earlier
answers, and blends the counts of the four lengths into one estimate (prediction by partial matching, Cleary and Witten
1984). The likeliest continuations become the nodes of a tree that one forward pass checks (SpecInfer, Miao et al.
2024); as many as make the expected tokens for the cost of the pass most.

Contexts are the canonical tokens of the cursor's line as a whole. The prompt's own tokens are cut at the cursor and its
end is the suffix's, so that nothing in the document would match the first tokens of an answer.
"""

from __future__ import annotations

import heapq
import re
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

REACH = 4096
"""Characters of the document on either side of the cursor that are looked through."""

LONGEST_LINE = 512
"""Characters before the cursor that are encoded anew with each step."""

REMEMBERED = 16
"""Answers kept as places to look in, with the line's beginning before each."""

DOUBT = (8.0, 4.0, 2.0, 1.0)
"""By length of context: how many occurrences weigh as much as what the shorter contexts say."""

BRANCHES = 4
"""Most continuations of one node."""

_OCCURRENCES = 8
"""Most that are counted for one context, the nearest to the cursor first."""

_LEAST = 0.02
"""Chance below which a continuation is not worth a place in the queue."""

_UNSEEN = 0.1
"""Weight of the tokenizer's own token, and of all others, beside the known tokens that fit a text given back."""

_CACHED_LINES = 16384

_FORGETTING = 0.02
_FIRST_EXTRA = 0.03
"""Cost of a drafted token as a share of a plain step's, while there is little to go by."""

_FIRST_STEPS = 4.0
"""How many steps that first guess weighs as much as."""

_LINE = re.compile(r"[^\n]*\n(?:[^\S\n]*\n)*|[^\n]+")
"""A line with the blank ones below it: tokenizers join line ends, so that pieces cut here encode as the whole does."""


@dataclass(frozen=True, slots=True)
class Draft:
    """Nodes of a tree in the order in which they were chosen: a parent stands before its children."""

    tokens: tuple[int, ...] = ()
    parents: tuple[int, ...] = ()
    """Index of each node's parent; -1 for the token that the tree follows."""
    expected: float = field(default=1.0, compare=False)
    """Tokens that a pass with it gives on average, as far as whoever drafted it can tell."""

    def __len__(self) -> int:
        return len(self.tokens)

    @property
    def is_chain(self) -> bool:
        """Whether each node follows the one before it."""
        return self.parents == tuple(range(-1, len(self) - 1))

    def accept(self, choose: Callable[[int], int]) -> tuple[list[int], list[int]]:
        """Return the tokens that the model chose, and the nodes among them in order: one less.

        ``choose(0)`` gives the choice behind the token that the tree follows and ``choose(n + 1)`` that behind node
        ``n``; it is called along the path only, from the root on.
        """
        chosen = [choose(0)]
        path: list[int] = []
        last = -1
        for node, (token, parent) in enumerate(zip(self.tokens, self.parents, strict=True)):
            if parent == last and token == chosen[-1]:
                path.append(node)
                chosen.append(choose(node + 1))
                last = node
        return chosen, path


class Drafter:
    """Proposes what may follow in the line being decoded. Texts go in, tokens come out.

    Runs of tokens are kept as strings with a character for each token, so that ``str.find`` looks for them. Such a
    string may hold lone surrogates; nothing encodes it.
    """

    def __init__(
        self, encode: Callable[[str], Sequence[int]], spell: Callable[[int], str], branches: int = BRANCHES
    ) -> None:
        """``spell`` gives the text of one token; with one of ``branches`` all trees are chains."""
        self._encode = encode
        self._spell = spell
        self._branches = branches
        self._lines: dict[str, str] = {}
        """Tokens of whole lines: a keystroke changes one of them."""
        self._answers: deque[str] = deque(maxlen=REMEMBERED)
        self._above = self._line = self._below = self._given_back = ""

    def begin(self, before: str, after: str, given_back: str = "") -> None:
        """Take the document's text around the cursor, for the answers to come.

        ``given_back`` is the end of ``before`` where the answers begin with it once more (token healing).
        """
        self._given_back = given_back
        window = before[-REACH:].replace("\r\n", "\n").removesuffix(given_back)
        start = max(window.rfind("\n") + 1, len(window) - LONGEST_LINE)
        self._above, self._line = self._tokens(window[:start]), window[start:]
        self._below = self._tokens(after[:REACH].replace("\r\n", "\n"))

    def remember(self, answer: str) -> None:
        """Keep an answer to the text given last as a place to look in."""
        if answer.strip():
            self._answers.append(self._tokens(self._line + answer))

    def forget(self) -> None:
        """Drop the answers kept."""
        self._answers.clear()

    def draft(self, answer: str, costs: Sequence[float]) -> Draft:
        """Return the tree worth checking behind ``answer``, the text decoded so far; it may be empty.

        ``costs[n]`` is what a pass with ``n`` drafted tokens costs, in any unit; there are never more than that.
        """
        text = self._above + self._tokens(self._line + answer)
        places = [text, self._below, *reversed(self._answers)]
        wanted = self._given_back[len(answer) :] if self._given_back.startswith(answer) else ""
        known: dict[str, list[tuple[float, str]]] = {}
        tokens: list[int] = []
        parents: list[int] = []
        expected, best, size, worth = 1.0, 1.0 / costs[0], 0, 1.0
        queue: list[tuple[float, int, str, int, str]] = []

        def grow(chance: float, path: str, node: int) -> None:
            context = (text[-len(DOUBT) :] + path)[-len(DOUBT) :]
            spelled = "".join(self._spell(ord(token)) for token in path) if wanted else ""
            if len(spelled) < len(wanted):
                followers = self._likeliest(self._fitting(_followers(context, places), wanted[len(spelled) :]))
            elif context in known:
                followers = known[context]
            else:
                followers = known[context] = self._likeliest(_followers(context, places))
            for share, token in followers:
                if chance * share >= _LEAST:
                    heapq.heappush(queue, (-chance * share, len(path), token, node, path))

        grow(1.0, "", -1)
        while queue and len(tokens) < len(costs) - 1:
            negative, _, token, parent, path = heapq.heappop(queue)
            tokens.append(ord(token))
            parents.append(parent)
            expected -= negative
            if expected / costs[len(tokens)] >= best:
                best, size, worth = expected / costs[len(tokens)], len(tokens), expected
            grow(-negative, path + token, len(tokens) - 1)
        return Draft(tuple(tokens[:size]), tuple(parents[:size]), worth)

    def _likeliest(self, chances: dict[str, float]) -> list[tuple[float, str]]:
        return heapq.nlargest(self._branches, ((chance, token) for token, chance in chances.items()))

    def _fitting(self, chances: dict[str, float], wanted: str) -> dict[str, float]:
        """Leave the tokens that spell the beginning of ``wanted`` or begin with it, and share out the chances anew.

        The token that the tokenizer would begin with has a chance also where it was never seen.
        """
        fitting = {token: chance for token, chance in chances.items() if _fits(self._spell(ord(token)), wanted)}
        for own in self._tokens(wanted)[:1]:
            fitting[own] = fitting.get(own, 0.0) + _UNSEEN
        whole = _UNSEEN + sum(fitting.values())
        return {token: chance / whole for token, chance in fitting.items()}

    def _tokens(self, text: str) -> str:
        """Return a text's tokens, each as one character."""
        pieces: list[str] = []
        for line in _LINE.findall(text):
            piece = self._lines.get(line)
            if piece is None:
                piece = "".join(map(chr, self._encode(line)))
                if line.endswith("\n"):
                    if len(self._lines) >= _CACHED_LINES:
                        self._lines.clear()
                    self._lines[line] = piece
            pieces.append(piece)
        return "".join(pieces)


class StepCost:
    """What a pass costs by the tokens drafted for it: a line fitted to the steps timed lately, by least squares."""

    def __init__(self) -> None:
        self._weight = self._drafted = self._squares = self._seconds = self._products = 0.0
        """Sums over the steps, older ones fading: of 1, n, n * n, s and n * s for n drafted tokens in s seconds."""

    def learn(self, drafted: int, seconds: float) -> None:
        """Note how long a step with ``drafted`` tokens took."""
        kept = 1 - _FORGETTING
        self._weight = kept * self._weight + 1
        self._drafted = kept * self._drafted + drafted
        self._squares = kept * self._squares + drafted * drafted
        self._seconds = kept * self._seconds + seconds
        self._products = kept * self._products + drafted * seconds

    @property
    def plain_seconds(self) -> float:
        """What a step without a draft takes; 0 before the first step."""
        return self._line()[0] if self._seconds else 0.0

    def costs(self, longest: int) -> list[float]:
        """Return the cost of a step with 0 to ``longest`` drafted tokens, that of one without as 1."""
        if not self._seconds:
            return [1 + _FIRST_EXTRA * count for count in range(longest + 1)]
        plain, slope, spread = self._line()
        trust = spread / (spread + _FIRST_STEPS * longest)
        extra = max(0.0, trust * slope / plain + (1 - trust) * _FIRST_EXTRA)
        return [1 + extra * count for count in range(longest + 1)]

    def _line(self) -> tuple[float, float, float]:
        """Return the seconds of a plain step, those of each drafted token, and how far the drafts' lengths spread."""
        mean, seconds = self._drafted / self._weight, self._seconds / self._weight
        spread = self._squares - mean * self._drafted
        slope = (self._products - mean * self._seconds) / spread if spread > 0 else 0.0
        return max(seconds - slope * mean, 0.2 * seconds), slope, spread


def _followers(context: str, places: Sequence[str]) -> dict[str, float]:
    """Return the chances of the tokens that followed a context."""
    chances: dict[str, float] = {}
    for length, doubt in enumerate(DOUBT[: len(context)], start=1):
        counts: dict[str, int] = {}
        total = 0
        for token in _behind(context[-length:], places):
            counts[token] = counts.get(token, 0) + 1
            total += 1
            if total == _OCCURRENCES:
                break
        if not total:
            break
        weight = 1 / (total + doubt)
        chances = {token: chance * doubt * weight for token, chance in chances.items()}
        for token, count in counts.items():
            chances[token] = chances.get(token, 0.0) + count * weight
    return chances


def _behind(context: str, places: Sequence[str]) -> Iterator[str]:
    """Yield the tokens that follow a context: latest first, but nearest first below the cursor, the second place."""
    length = len(context)
    for number, place in enumerate(places):
        if number == 1:
            found = place.find(context)
            while 0 <= found < len(place) - length:
                yield place[found + length]
                found = place.find(context, found + 1)
        else:
            found = place.rfind(context, 0, -1)
            while found >= 0:
                yield place[found + length]
                found = place.rfind(context, 0, found + length - 1)


def _fits(text: str, wanted: str) -> bool:
    return bool(text) and (text.startswith(wanted) or wanted.startswith(text))
