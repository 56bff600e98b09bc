"""Where a project's history is cut: what was there before is trained on, what was added since is kept for measuring.

A split by time measures what the model is for, the user's next lines; files chosen at random would leak through those
that resemble them (Giagnorio et al. 2025 test on each developer's newest changes, too).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType

from intract_lsp.training.git_objects import Change, GitFolder

HELD_OUT_SHARE = 0.1
"""Of the lines of code: as soon as the newest commits have added so many, the cut is behind them."""

LINES_A_PLACE = 10
"""Added lines that a place to measure at takes: many are blank or closing, and few commits are about one thing each."""

MOST_COMMITS_SHARE = 0.5
"""Of the commits may be held out; a project that has so few that more would be needed has no history to speak of."""

LOOKED_BACK = 0.5
"""Of the lines of code: how far back changes are looked at. Beyond, what changed says little of what comes next."""

HALF_LIFE = 0.1
"""Of the lines of code: as soon as so many have been changed since, a line's weight has halved. By days instead, a
young project's lines would all be as recent."""


@dataclass(frozen=True, slots=True)
class Cut:
    """The commit up to which a run may see the project."""

    commit: str
    head: str
    """The newest commit."""
    held_out_commits: int
    changes: tuple[Change, ...] = field(repr=False)
    """Between the two, of the files that count."""


def find_cut(
    git: GitFolder, commits: Sequence[str], counts: Callable[[str], bool], lines: int, places: int, least: int
) -> Cut | None:
    """Return the newest cut behind which enough lines were added, ``None`` where no cut leaves half of the commits.

    ``commits`` are the main line's, the newest first; ``counts`` says which paths of the newest tree are code that is
    used, ``lines`` how many lines that code has. Enough is what gives ``places`` places or a tenth of the code, and the
    ``least`` lines in any case; a history that does not even give these has no cut. Raises ``GitFailure``.
    """
    most = int(len(commits) * MOST_COMMITS_SHARE)
    enough = max(least, min(lines * HELD_OUT_SHARE, places * LINES_A_PLACE))

    def look(back: int) -> tuple[int, tuple[Change, ...]]:
        return _changes(git, commits[back], git.head, counts)

    # Doubling, then halving: what the newest commits have changed is quick to ask, the whole history is not.
    short = back = 0
    for back in _doubling(most):
        if back == most or look(back)[0] >= enough:
            break
        short = back
    while back - short > 1:
        middle = (short + back) // 2
        if look(middle)[0] < enough:
            short = middle
        else:
            back = middle
    if back < 1:
        return None
    added, changes = look(back)
    return Cut(commits[back], git.head, back, changes) if added >= least else None


def fixed_cut(git: GitFolder, commits: Sequence[str], commit: str, counts: Callable[[str], bool]) -> Cut | None:
    """Return the cut at a commit that was chosen before, ``None`` where it is not in the history any more."""
    if commit not in commits:
        return None
    return Cut(commit, git.head, commits.index(commit), _changes(git, commit, git.head, counts)[1])


def recent_lines(
    git: GitFolder, commits: Sequence[str], newest: str, counts: Callable[[str], bool], lines: int
) -> Mapping[str, Mapping[int, float]]:
    """Return the lines of a commit's tree that were changed last, with their weights in 0..1.

    By path, and in it by line from 0. ``counts`` says which paths are code that is used, ``lines`` how many lines that
    code has; a line is as old as the share of them that was changed since. Raises ``GitFailure``.
    """
    behind = commits[commits.index(newest) :]
    weights: dict[str, dict[int, float]] = {}
    previous = 0
    for back in _doubling(len(behind) - 1):
        if previous >= lines * LOOKED_BACK:
            break
        changed, changes = _changes(git, behind[back], newest, counts)
        weight = 0.5 ** ((previous + changed) / 2 / lines / HALF_LIFE)
        for change in changes:
            of_file = weights.setdefault(change.path, {})
            for added in change.added:
                for line in range(added.start, added.end):
                    of_file.setdefault(line, weight)
        previous = changed
    return MappingProxyType(weights)


def _doubling(last: int) -> Iterator[int]:
    """Yield 1, 2, 4, ... below ``last``, and then that; nothing where it is below 1."""
    number = 1
    while number < last:
        yield number
        number *= 2
    if last > 0:
        yield last


def _changes(git: GitFolder, old: str, new: str, counts: Callable[[str], bool]) -> tuple[int, tuple[Change, ...]]:
    """Return how many lines were added between two commits to the files that count, and the changes."""
    found = tuple(change for change in git.changes(old, new) if counts(change.path))
    return sum(added.end - added.start for change in found for added in change.added), found
