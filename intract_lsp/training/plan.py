"""What a run is going to learn from: shown by a dry run, kept beside the run, and part of an adapter's provenance."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from intract_lsp.errors import TrainingError
from intract_lsp.training.corpus import Refused, by_reason
from intract_lsp.training.sample import Sample

LEAST_TOKENS = 2_000
"""Of code; less says nothing of how a project is written."""

LEAST_SAMPLES = 20

PATHS_SHOWN = 10
"""Of the files that were left out for one reason."""


@dataclass(frozen=True)
class DataPlan:
    """Files, samples and places of a run."""

    commit: str
    """The newest commit that is trained on; empty without git."""
    head: str
    """The newest commit when the run began; empty without git."""
    weak: bool
    """Whether files were held out by chance, for want of a history."""
    held_out_commits: int
    files: tuple[tuple[str, str], ...] = field(repr=False)
    """Path and blob of each file that is trained on, by path: which adapter saw a file is known by it."""
    lines: int
    """Of these files."""
    refused: tuple[Refused, ...] = field(repr=False)
    uncounted: Mapping[str, int] = field(repr=False)
    """Further names that were left out, by the reason; where a folder was listed without git."""
    samples: Mapping[str, int]
    """By kind."""
    tokens: Mapping[str, int]
    """Of these samples, prompts included."""
    supervised_tokens: int
    """Those of them that are learnt."""
    with_context: int
    """Samples that show pieces of other files."""
    replayed: int
    """Samples of code that is not the project's, against forgetting."""
    validation_places: int
    test_places: int

    @property
    def fingerprint(self) -> str:
        """SHA-256 over the paths and blobs: the same for the same files, whatever else the run does."""
        digest = hashlib.sha256()
        for path, blob in self.files:
            digest.update(path.encode("utf-8", "surrogatepass") + b"\0" + blob.encode() + b"\n")
        return digest.hexdigest()

    def values(self) -> dict[str, Any]:
        """Return the plan as JSON has it; of the files that were left out, some of each reason."""
        left_out: dict[str, dict[str, Any]] = {
            reason: {"files": len(paths), "such_as": list(paths[:PATHS_SHOWN])}
            for reason, paths in by_reason(self.refused).items()
        }
        for reason, count in self.uncounted.items():
            found = left_out.setdefault(reason, {"files": 0, "such_as": []})
            found["files"] += count
        return {
            "commit": self.commit,
            "head": self.head,
            "held_out_commits": self.held_out_commits,
            "weak": self.weak,
            "fingerprint": self.fingerprint,
            "files": len(self.files),
            "lines": self.lines,
            "left_out": left_out,
            "samples": dict(self.samples),
            "tokens": dict(self.tokens),
            "supervised_tokens": self.supervised_tokens,
            "samples_with_context": self.with_context,
            "replayed_samples": self.replayed,
            "validation_places": self.validation_places,
            "test_places": self.test_places,
        }


def counts(samples: Sequence[Sample]) -> tuple[Mapping[str, int], Mapping[str, int]]:
    """Return the numbers of samples and of tokens by kind."""
    numbers: Counter[str] = Counter()
    tokens: Counter[str] = Counter()
    for sample in samples:
        numbers[sample.kind.value] += 1
        tokens[sample.kind.value] += len(sample.ids)
    return MappingProxyType(dict(numbers)), MappingProxyType(dict(tokens))


def require_code(tokens: int, files: int, folder: str, submodules: Sequence[str] = ()) -> None:
    """Raise ``TrainingError`` where there is too little code to learn from; it may lie in ``submodules``."""
    if tokens < LEAST_TOKENS:
        elsewhere = f" Its submodules are folders of their own: fine-tune on {submodules[0]}." if submodules else ""
        raise TrainingError(
            f"There is too little code to learn from in {folder}: {files} {'file' if files == 1 else 'files'} with "
            f"{tokens:,} tokens, and {LEAST_TOKENS:,} are needed (some 200 lines).{elsewhere}"
        )


def require_samples(samples: int, folder: str) -> None:
    """Raise ``TrainingError`` where the code gave too few samples."""
    if samples < LEAST_SAMPLES:
        raise TrainingError(
            f"There is too little code to learn from in {folder}: it gives {samples} samples, and {LEAST_SAMPLES} are "
            "needed (some 200 lines of code)."
        )
