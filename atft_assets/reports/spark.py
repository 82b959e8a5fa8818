"""A line as a very small SVG: Dagster's UI shows Markdown of under 1,000 characters in place, and hides what is longer.

So the headline curve of a training is drawn without a library, its points thinned until it fits.
"""

import base64
from collections.abc import Mapping, Sequence

INLINE_LIMIT = 1000  # characters of Markdown that the UI shows without a click
# pixels: what an asset's page leaves a value; above the line stands the text, below it the epochs
WIDTH, HEIGHT, TOP, FOOT = 520, 180, 34, 24


def spark_markdown(values: Sequence[float | None], best: int | None, label: str) -> str:
    """The line of a figure by epoch, its best epoch marked, as Markdown of less than `INLINE_LIMIT` characters.

    Args:
        values: the figure of epochs 1, 2, …; None where an epoch has none.
        best: the epoch that was kept; 0 or None marks none.
        label: what the figure is called.
    """
    points = [(epoch, value) for epoch, value in enumerate(values, 1) if value is not None and value == value]
    if not points:
        return f"no {label} yet"
    kept = dict(points).get(best) if best else None
    marked = f"epoch {best} kept: {kept:.4f}" if kept is not None else "the weights it started from were kept"
    ends = (f"epoch {points[0][0]}", str(points[-1][0]))
    return _thinned(points, (best or 0, kept) if kept is not None else None, f"{label}, {marked}", ends)


def line_markdown(values: Mapping[str, float], title: str) -> str:
    """A line through figures by name, in their order, first and last name below it; as long as `spark_markdown`."""
    points = list(enumerate(values.values()))
    if not points:
        return f"no {title} yet"
    names = list(values)
    return _thinned(points, None, title, (names[0], names[-1]))


def _thinned(
    points: Sequence[tuple[int, float]], best: tuple[int, float] | None, title: str, ends: tuple[str, str]
) -> str:
    step = 1
    while True:
        line = sorted({*points[::step], points[-1], *([best] if best and best[0] else [])})
        text = _markdown(_svg(line, points, best, title, ends))
        if len(text) < INLINE_LIMIT or step >= len(points):
            return text
        step += 1


def _svg(
    line: Sequence[tuple[int, float]],
    points: Sequence[tuple[int, float]],
    best: tuple[int, float] | None,
    title: str,
    ends: tuple[str, str],
) -> str:
    low, high = min(value for _, value in points), max(value for _, value in points)
    first, last = points[0][0], points[-1][0]

    def place(epoch: int, value: float) -> tuple[int, int]:
        x = 60 + (WIDTH - 80) * (epoch - first) / max(last - first, 1)
        y = TOP + (HEIGHT - TOP - FOOT - 8) * (1 - (value - low) / ((high - low) or 1))
        return round(x), round(y)

    path = "L".join("{} {}".format(*place(*point)) for point in line)
    mark = '<circle cx="{}" cy="{}" r="6" fill="#d33"/>'.format(*place(*best)) if best else ""
    floor = HEIGHT - FOOT - 8
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{HEIGHT}" fill="#888" font-size="14" '
        f'font-family="sans-serif"><text x="60" y="18">{title}</text>'
        f'<text x="0" y="{TOP + 5}">{high:.4f}</text><text x="0" y="{floor}">{low:.4f}</text>'
        f'<path d="M{path}" fill="none" stroke="#36c" stroke-width="2"/>{mark}'
        f'<text x="60" y="{HEIGHT - 4}">{ends[0]}</text>'
        f'<text x="{WIDTH - 30 - 6 * max(len(ends[1]) - 3, 0)}" y="{HEIGHT - 4}">{ends[1]}</text></svg>'
    )


def _markdown(svg: str) -> str:
    return f"![curve](data:image/svg+xml;base64,{base64.b64encode(svg.encode()).decode()})"
