"""The models as a list: for programs, and as a table for people."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from intract_lsp.models import catalog, hardware, store
from intract_lsp.models.progress import mebibytes
from intract_lsp.paths import Paths

if TYPE_CHECKING:
    from rich.table import Table


def model_values(paths: Paths) -> list[dict[str, Any]]:
    """Return the catalogue, then what else is in the cache, as plain JSON values; sizes in bytes."""
    local = {model.name: model for model in store.installed(paths)}
    default = hardware.default_model(hardware.detect())
    known = [
        {
            "name": spec.name,
            "installed": spec.name in local,
            "default": spec.name == default,
            "parameters": spec.parameters,
            "download_bytes": spec.download_bytes,
            "memory_bytes": spec.memory_bytes("bfloat16"),
            "fim": spec.fim_family,
            "licence": spec.licence,
        }
        for spec in catalog.CATALOG
    ]
    names = {spec.name for spec in catalog.CATALOG}
    own = [
        {
            "name": model.name,
            "installed": True,
            "default": False,
            "parameters": 0,
            "download_bytes": 0,
            "memory_bytes": model.size_bytes,
            "fim": model.fim_family,
            "licence": "",
        }
        for model in local.values()
        if model.name not in names
    ]
    return known + own


def model_table(paths: Paths) -> Table:
    """Return the same as a table."""
    from rich.table import Table

    table = Table(box=None)
    for heading in ("", "model", "download", "memory", "infilling", "licence"):
        table.add_column(heading, no_wrap=heading != "licence")
    for row in model_values(paths):
        mark = "●" if row["installed"] else ""
        name = f"{row['name']} (default)" if row["default"] else row["name"]
        download = mebibytes(row["download_bytes"]) if row["download_bytes"] else ""
        infilling = "no" if row["fim"] == "none" else "yes"
        table.add_row(mark, name, download, mebibytes(row["memory_bytes"]), infilling, row["licence"])
    table.caption = "● on this machine · memory with 16-bit weights"
    return table
