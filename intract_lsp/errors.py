"""Errors whose message is what the user reads: one clear sentence that says what to do."""

from __future__ import annotations


class IntractError(Exception):
    """Base of all errors that are shown to the user as they are."""


class SettingsError(IntractError):
    """Settings could not be used; ``problems`` lists every one of them."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("; ".join(problems))
        self.problems = problems
        """One sentence a problem, each naming the setting."""


class ModelError(IntractError):
    """A model could not be found, fetched, checked, converted or loaded."""


class IndexingError(IntractError):
    """A workspace could not be indexed, or its index not be read."""


class LocationError(IntractError):
    """A FILE:LINE:COL argument does not point into a text file."""


class TrainingError(IntractError):
    """A fine-tuning run cannot be started or go on."""


class AdapterError(IntractError):
    """An adapter cannot be used."""


class AdapterRoomError(AdapterError):
    """Memory does not hold a model with an adapter beside the one that serves."""
