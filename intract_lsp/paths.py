"""Where things live on this machine: one rule, one environment variable to override it."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import platformdirs

HOME_VARIABLE = "INTRACT_HOME"
"""Set it to keep everything of ours under one directory (tests do)."""


@dataclass(frozen=True, slots=True)
class Paths:
    """The directories that intract-lsp reads and writes; none is created by looking it up."""

    config: Path
    """The user's settings: ``config.toml`` lives here."""
    cache: Path
    """What can be fetched or computed again: models, conversions."""
    data: Path
    """What cannot: adapters, runs, state."""
    logs: Path
    """Rotating log files (ids, sizes and timings, never code)."""

    @property
    def models(self) -> Path:
        """One directory a model, each complete or absent."""
        return self.cache / "models"

    @property
    def user_settings(self) -> Path:
        """The user's settings file; it need not exist."""
        return self.config / "config.toml"


def default_paths() -> Paths:
    """Return the platform's directories, or those under ``$INTRACT_HOME``."""
    home = os.environ.get(HOME_VARIABLE)
    if home:
        root = Path(home).expanduser().absolute()
        return Paths(config=root / "config", cache=root / "cache", data=root / "data", logs=root / "logs")
    directories = platformdirs.PlatformDirs("intract-lsp", appauthor=False)
    return Paths(
        config=directories.user_config_path,
        cache=directories.user_cache_path,
        data=directories.user_data_path,
        logs=directories.user_log_path,
    )
