"""Writes a run's report beside the run: ``report.json`` for programs, ``report.html`` for people."""

from __future__ import annotations

import json
from pathlib import Path

from intract_lsp.training.durable import replace_file
from intract_lsp.training.report import Report
from intract_lsp.training.report_page import page

JSON_NAME, PAGE_NAME = "report.json", "report.html"


def write_report(report: Report, folder: Path) -> tuple[Path, Path]:
    """Write both files into a folder, each whole or not at all; return their paths, JSON first. Raises ``OSError``."""
    text = json.dumps(report.to_json(), indent=2, ensure_ascii=False, allow_nan=False)
    found = folder / JSON_NAME, folder / PAGE_NAME
    for path, content in zip(found, (text, page(report)), strict=True):
        replace_file(path, content)
    return found
