"""Loss curves as one SVG element that needs nothing beside it. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape

WIDTH, HEIGHT = 720, 300
LEFT, RIGHT, TOP, BOTTOM = 56, 16, 16, 44

Points = Sequence[tuple[float, float]]


def line_chart(series: Sequence[tuple[str, str, Points]], title: str, across: str, up: str) -> str:
    """Return a chart of named series (name, CSS class, points), or a sentence where no point can be drawn.

    Classes style the lines; points that are no numbers are left out. Few points get marks, so that a lone one shows.
    """
    drawn = [(name, css, [(x, y) for x, y in points if math.isfinite(y)]) for name, css, points in series]
    drawn = [one for one in drawn if one[2]]
    if not drawn:
        return "<p>No loss was recorded.</p>"
    xs = [x for _, _, points in drawn for x, _ in points]
    ys = [y for _, _, points in drawn for _, y in points]
    x_ticks, y_ticks = ticks(0 if min(xs) >= 0 else min(xs), max(xs)), ticks(min(ys), max(ys))
    x_low, x_high = min(0, x_ticks[0], *xs), max(x_ticks[-1], *xs)
    y_low, y_high = min(y_ticks[0], *ys), max(y_ticks[-1], *ys)

    def place(x: float, y: float) -> tuple[float, float]:
        across = LEFT + (x - x_low) / ((x_high - x_low) or 1) * (WIDTH - LEFT - RIGHT)
        return across, HEIGHT - BOTTOM - (y - y_low) / ((y_high - y_low) or 1) * (HEIGHT - TOP - BOTTOM)

    parts = [
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(title)}" class="chart">',
        *(_grid_line(place(x_low, y)[1], y) for y in y_ticks),
        *(_tick(place(x, y_low)[0], x) for x in x_ticks),
        f'<text x="{(WIDTH + LEFT) / 2:.0f}" y="{HEIGHT - 6}" text-anchor="middle">{escape(across)}</text>',
        f'<text x="14" y="{HEIGHT / 2:.0f}" text-anchor="middle" transform="rotate(-90 14 {HEIGHT / 2:.0f})">'
        f"{escape(up)}</text>",
    ]
    for _, css, points in drawn:
        places = [place(x, y) for x, y in points]
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
        parts.append(f'<polyline class="{css}" points="{path}"/>')
        if len(places) <= 40:
            parts += [f'<circle class="{css}" cx="{x:.1f}" cy="{y:.1f}" r="3"/>' for x, y in places]
    parts += [_legend(index, name, css) for index, (name, css, _) in enumerate(drawn)]
    return "\n".join([*parts, "</svg>"])


def ticks(low: float, high: float, about: int = 5) -> list[float]:
    """Return round numbers that span ``low`` to ``high``, some ``about`` of them, at least one."""
    if high - low <= max(abs(low), abs(high), 1e-3) * 1e-9:
        return [low]
    rough = (high - low) / about
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * factor for factor in (1, 2, 5, 10) if power * factor >= rough * 0.999)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [number * step for number in range(first, last + 1)]


def _grid_line(y: float, value: float) -> str:
    line = f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>'
    return f'{line}<text x="{LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{value:.4g}</text>'


def _tick(x: float, value: float) -> str:
    return f'<text x="{x:.1f}" y="{HEIGHT - BOTTOM + 18}" text-anchor="middle">{value:.4g}</text>'


def _legend(index: int, name: str, css: str) -> str:
    y = TOP + 6 + 18 * index
    line = f'<polyline class="{css}" points="{WIDTH - 150},{y} {WIDTH - 120},{y}"/>'
    return f'{line}<text x="{WIDTH - 112}" y="{y + 4}">{escape(name)}</text>'
