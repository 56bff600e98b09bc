"""What a terminal shows, as a picture that scales and that a browser draws."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import groupby
from operator import itemgetter
from typing import Any
from xml.sax.saxutils import escape

CELL_WIDTH, CELL_HEIGHT, MARGIN = 9, 20, 12
"""In the picture's own units."""

NO_BREAK = "\u00a0"
"""A space that counts wherever it stands."""

FONT = "ui-monospace, 'DejaVu Sans Mono', Menlo, Consolas, monospace"

CELLS = """
local rows = {}
for row = 0, vim.o.lines - 1 do
  rows[row + 1] = {}
  for column = 0, vim.o.columns - 1 do
    local text, look = unpack(vim.api.nvim__inspect_cell(1, row, column))
    rows[row + 1][column + 1] = { text, look.foreground or -1, look.background or -1, look.reverse and 1 or 0 }
  end
end
local normal = vim.api.nvim_get_hl(0, { name = 'Normal' })
return { rows, normal.fg or 0xe0e2ea, normal.bg or 0x14161b, vim.fn.screenrow() - 1, vim.fn.screencol() - 1 }
"""
"""Lua for Neovim: each cell's text and colours, the colours of those without, and where the cursor is, from 0."""


@dataclass(frozen=True)
class _Run:
    """Cells of one row that look alike."""

    column: int
    text: str
    cells: int
    foreground: int
    background: int


def screen_svg(shown: list[Any]) -> str:
    """Return the picture of a screen as ``CELLS`` describes it."""
    rows, foreground, background, cursor_row, cursor_column = shown
    width, height = len(rows[0]) * CELL_WIDTH + 2 * MARGIN, len(rows) * CELL_HEIGHT + 2 * MARGIN
    drawn = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}">',
        f'<rect width="{width}" height="{height}" rx="8" fill="{_colour(background)}"/>',
        f'<g font-family="{FONT}" font-size="15">',
    ]
    for number, row in enumerate(rows):
        top = MARGIN + number * CELL_HEIGHT
        for run in _runs(row, foreground, background):
            left, long = MARGIN + run.column * CELL_WIDTH, run.cells * CELL_WIDTH
            if run.background != background:
                drawn.append(_box(left, top, long, run.background))
            if run.text.strip():
                place = f'x="{left}" y="{top + 15}" textLength="{long}"'
                text = escape(run.text).replace(" ", NO_BREAK)
                drawn.append(f'<text {place} fill="{_colour(run.foreground)}">{text}</text>')
    drawn.append(_box(MARGIN + cursor_column * CELL_WIDTH, MARGIN + cursor_row * CELL_HEIGHT, 2, foreground))
    return "\n".join([*drawn, "</g>", "</svg>", ""])


def _runs(row: list[list[Any]], foreground: int, background: int) -> list[_Run]:
    runs, column = [], 0
    for look, cells in groupby(row, itemgetter(1, 2, 3)):
        texts = [cell[0] for cell in cells]
        front = foreground if look[0] < 0 else look[0]
        behind = background if look[1] < 0 else look[1]
        if look[2]:
            front, behind = behind, front
        runs.append(_Run(column, "".join(texts), len(texts), front, behind))
        column += len(texts)
    return runs


def _box(left: int, top: int, width: int, colour: int) -> str:
    return f'<rect x="{left}" y="{top}" width="{width}" height="{CELL_HEIGHT}" fill="{_colour(colour)}"/>'


def _colour(value: int) -> str:
    return f"#{value:06x}"
