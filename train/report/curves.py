"""Curves as inline SVG."""

import math
from collections.abc import Callable, Sequence

WIDTH, HEIGHT = 560.0, 220.0
LEFT, RIGHT, TOP, BOTTOM = 64.0, 12.0, 10.0, 26.0  # margins
TICKS = 4
MOST_POINTS = 600  # of more, the means of neighbours are drawn
INK, LINE = "#888", "#2a6fdb"

Points = Sequence[tuple[float, float]]


def draw_curve(points: Points) -> str:
    """Draw values by step, with ticks at round numbers; values far apart get a log scale."""
    shown = thin([(x, y) for x, y in points if math.isfinite(y)])
    if not shown:
        return "<p>no finite value</p>"
    xs, ys = zip(*shown, strict=True)
    is_log = min(ys) > 0 and max(ys) > 50 * sorted(ys)[len(ys) // 2]
    heights = [math.log10(y) if is_log else y for y in ys]
    x_ticks, y_ticks = ticks(min(xs), max(xs)), ticks(min(heights), max(heights))
    across = _scale(min(xs), max(xs), LEFT, WIDTH - RIGHT)
    low, high = min(*heights, y_ticks[0]), max(*heights, y_ticks[-1])
    up = _scale(low, high, HEIGHT - BOTTOM, TOP)
    parts = [f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" font-size="11" fill="{INK}">']
    for tick in y_ticks:
        y, label = up(tick), _label(10**tick if is_log else tick)
        parts.append(
            f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}" '
            f'stroke="{INK}" stroke-opacity=".25"/>'
            f'<text x="{LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{label}</text>'
        )
    parts += [
        f'<text x="{across(tick):.1f}" y="{HEIGHT - 8}" text-anchor="middle">{_label(tick)}</text>'
        for tick in x_ticks
    ]
    places = [(across(x), up(height)) for x, height in zip(xs, heights, strict=True)]
    if len(places) == 1:
        parts.append(
            f'<circle cx="{places[0][0]:.1f}" cy="{places[0][1]:.1f}" r="3" fill="{LINE}"/>'
        )
    line = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
    parts.append(
        f'<polyline points="{line}" fill="none" stroke="{LINE}" stroke-width="1.5"/></svg>'
    )
    return "".join(parts)


def thin(points: Points) -> Points:
    """Return at most `MOST_POINTS`: the means of neighbours."""
    each = math.ceil(len(points) / MOST_POINTS)
    groups = [points[start : start + each] for start in range(0, len(points), max(1, each))]
    return [(sum(x for x, _ in g) / len(g), sum(y for _, y in g) / len(g)) for g in groups]


def ticks(low: float, high: float) -> list[float]:
    """Return round numbers between two, or around one."""
    if high <= low:
        return [low]
    rough = (high - low) / TICKS
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(m * power for m in (1, 2, 5, 10) if m * power >= rough)
    first = math.ceil(low / step - 1e-9)
    last = math.floor(high / step + 1e-9)
    return [number * step for number in range(first, last + 1)] or [low]


def _scale(low: float, high: float, start: float, end: float) -> Callable[[float], float]:
    """Return the map of low..high on start..end; all of one value lies in the middle."""
    if high <= low:
        return lambda value: (start + end) / 2
    return lambda value: start + (value - low) / (high - low) * (end - start)


def _label(value: float) -> str:
    if value and abs(value) < 1e-3:
        return f"{value:.1e}"
    return f"{value:.4g}" if abs(value) < 1e5 else f"{value:.0f}"
