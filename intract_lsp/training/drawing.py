"""Which places of which files become samples, how long their prompts are and which of them show other files."""

from __future__ import annotations

import random
from bisect import bisect_right
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate

from intract_lsp.completion.generation import Chunk
from intract_lsp.index.grammars import Grammars
from intract_lsp.training.corpus import Piece
from intract_lsp.training.sample import Sample, SampleKind
from intract_lsp.training.samples import CHARACTERS_OF_TEXT, Renderer, Retrieve, cursor_at
from intract_lsp.training.spans import MIXTURE, Holes

BUDGETS = (128, 256, 512, 1024)
"""Tokens of text around the cursor, of which each sample gets one: a model that has seen long prompts alone completes
worse behind short ones (Petryshyn, 2405.15729)."""

PREFIX_SHARE = (0.7, 0.9)
"""Of such a budget: between these, four fifths on average, as serving has it."""

RECENT_SHARE = 0.5
"""Of the samples are drawn by how recently their lines were changed, where that is known: the next lines to be written
lie in the same files more often than in others."""

RANDOM_CHUNKS = 0.2
"""Of the samples with pieces of other files: those that show any pieces, so that useless ones do no harm (most
retrieved pieces are: Repoformer, 2403.10059)."""

CHUNK_LINES = 8
"""Of a piece that is drawn at random, as of one that is retrieved."""

MOST_CHUNKS = 3

TRIES = 12
"""Places looked at for each hole: many lines are blank, or have no hole of the kind that is wanted."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """How many samples are drawn, and which."""

    holes: int
    text_share: float
    """Of the tokens; 1 where there are no holes."""
    context_share: float
    context_length: int
    texts: int = 0
    """Samples of text where there are no holes."""


class Drawer:
    """Draws samples from pieces; the same seed draws the same ones."""

    def __init__(
        self,
        pieces: Sequence[Piece],
        renderer: Renderer,
        grammars: Grammars,
        seed: str,
        recent: Mapping[str, Mapping[int, float]] | None = None,
        retrieve: Retrieve | None = None,
        twins: Mapping[str, Collection[str]] | None = None,
    ) -> None:
        """``recent`` has the weights of changed lines by path and line, ``twins`` the copies of a path's file."""
        self._pieces = pieces
        self._renderer = renderer
        self._grammars = grammars
        self._chance = random.Random(seed)
        self._retrieve = retrieve
        self._twins = twins or {}
        self._holes: dict[int, Holes] = {}
        self._seen: set[tuple[int, int, int]] = set()
        self._counts = list(accumulate(len(piece.lines) for piece in pieces))
        self._recent: dict[tuple[int, int], float] = {}
        for number, piece in enumerate(pieces):
            for line, weight in (recent or {}).get(piece.path, {}).items():
                own = line - piece.first_line
                if 0 <= own < len(piece.lines) and piece.lines[own].strip():
                    self._recent[number, own] = weight
        self._places = list(self._recent)
        self._recent_weights = list(accumulate(self._recent.values()))

    def draw(self, wanted: Wanted) -> list[Sample]:
        """Return samples with holes and of text, shuffled; fewer than wanted where the pieces do not give as many."""
        budgets = [size for size in BUDGETS if size <= wanted.context_length] or [wanted.context_length]
        holes = [
            sample for _ in range(wanted.holes) if (sample := self._hole(budgets, wanted.context_share)) is not None
        ]
        tokens = sum(len(sample.ids) for sample in holes) * wanted.text_share / max(1e-9, 1 - wanted.text_share)
        texts = self._texts(tokens if wanted.holes else float("inf"), wanted)
        samples = [*holes, *texts]
        self._chance.shuffle(samples)
        return samples

    def _hole(self, budgets: Sequence[int], context_share: float) -> Sample | None:
        chance = self._chance
        kind = chance.choices(list(MIXTURE), list(MIXTURE.values()))[0]
        for attempt in range(TRIES):
            number, line = self._line()
            holes = self._holes.get(number)
            if holes is None:
                holes = self._holes[number] = Holes(self._pieces[number], self._grammars)
            if kind is SampleKind.BLOCK and not holes.blocks and attempt == TRIES // 2:
                kind = SampleKind.LINE
            hole = holes.draw(kind, line, chance)
            if hole is None or (number, hole.start, hole.end) in self._seen:
                continue
            cursor = cursor_at(holes.piece, hole.start, hole.end)
            chunks: tuple[Chunk, ...] = ()
            if chance.random() < context_share:
                if chance.random() < RANDOM_CHUNKS:
                    chunks = self._any_chunks(number)
                elif self._retrieve is not None:
                    found = cursor.pieces(self._retrieve, self._renderer.context_tokens)
                    others = self._twins.get(cursor.path, ())
                    chunks = tuple(each for each in found if each.path != cursor.path and each.path not in others)
            sample = self._renderer.hole(cursor, kind, chance.choice(budgets), chance.uniform(*PREFIX_SHARE), chunks)
            if sample is not None:
                self._seen.add((number, hole.start, hole.end))
                return sample
        return None

    def _line(self) -> tuple[int, int]:
        """Return a piece and a line of it."""
        chance = self._chance
        if self._places and chance.random() < RECENT_SHARE:
            return chance.choices(self._places, cum_weights=self._recent_weights)[0]
        at = chance.randrange(self._counts[-1])
        number = bisect_right(self._counts, at)
        return number, at - (self._counts[number - 1] if number else 0)

    def _any_chunks(self, own: int) -> tuple[Chunk, ...]:
        """Return pieces of other files, whatever they say."""
        chance = self._chance
        path = self._pieces[own].path
        left = self._renderer.context_tokens * CHARACTERS_OF_TEXT
        chunks: list[Chunk] = []
        for _ in range(chance.randint(1, MOST_CHUNKS)):
            number, line = self._line()
            piece = self._pieces[number]
            text = "\n".join(piece.lines[line : line + CHUNK_LINES]).strip("\n")
            left -= len(text) + len(piece.path)
            if piece.path != path and piece.path not in self._twins.get(path, ()) and text.strip() and left > 0:
                chunks.append(Chunk(piece.path, text))
        return tuple(chunks)

    def _texts(self, tokens: float, wanted: Wanted) -> list[Sample]:
        """Return samples of text until they have so many tokens, no line twice."""
        if not wanted.text_share:
            return []
        texts: list[Sample] = []
        for number, line in self._windows(wanted.context_length * CHARACTERS_OF_TEXT):
            if tokens <= 0 or (not wanted.holes and len(texts) >= wanted.texts):
                break
            sample = self._renderer.text(self._pieces[number], line)
            if sample is not None:
                texts.append(sample)
                tokens -= len(sample.ids)
        return texts

    def _windows(self, width: int) -> list[tuple[int, int]]:
        """Return pieces and lines at least ``width`` characters apart in each, shuffled, recent ones rather first."""
        windows: list[tuple[int, int]] = []
        for number, piece in enumerate(self._pieces):
            last = -width
            for line, start in enumerate(piece.starts):
                if start - last >= width and piece.lines[line].strip():
                    windows.append((number, line))
                    last = start
        weights = [(1.0 - RECENT_SHARE) / len(windows)] * len(windows) if windows else []
        for place, weight in self._recent.items():
            weights[bisect_right(windows, place) - 1] += RECENT_SHARE * weight / self._recent_weights[-1]
        # The first of exponential waiting times: as drawn one after another (Efraimidis and Spirakis 2006).
        order = sorted(
            (self._chance.expovariate(weight), window) for weight, window in zip(weights, windows, strict=True)
        )
        return [window for _, window in order]
