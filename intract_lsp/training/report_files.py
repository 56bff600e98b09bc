"""Writes a run's report beside the run: ``report.json`` for programs, ``report.html`` for people."""

from __future__ import annotations

import json
from pathlib import Path

from intract_lsp.training.report import Report
from intract_lsp.training.report_page import page

JSON_NAME, PAGE_NAME = "report.json", "report.html"


def write_report(report: Report, folder: Path) -> tuple[Path, Path]:
    """Write both files into a folder, each whole or not at all; return their paths, JSON first. Raises ``OSError``."""
    text = json.dumps(report.to_json(), indent=2, ensure_ascii=False, allow_nan=False)
    return _write(folder / JSON_NAME, text), _write(folder / PAGE_NAME, page(report))


def _write(path: Path, text: str) -> Path:
    unfinished = path.with_name(path.name + ".tmp")
    # A document may hold lone surrogates, which no file takes.
    unfinished.write_text(text, encoding="utf-8", errors="replace")
    unfinished.replace(path)
    return path
