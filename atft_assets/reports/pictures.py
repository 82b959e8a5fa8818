"""Figures of matplotlib without a screen, as the text that Markdown and HTML hold, and how ours look.

Each title states what is seen; the same score has the same colour on all pages.
"""

import base64
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

WIDTH = 11.25  # inches: 900 pixels
ACCENT, GREY, PALE = "#1f5fa8", "#555555", "#b5b5b5"
BELOW = "#b03a2e"
DEFAULT_SIZE = 10  # of text, points
SMALLEST = 10.8  # points: 12 pixels
LEAST_GAP = 0.055  # of the height of a picture, between the names of two lines


@dataclass(frozen=True)
class Picture:
    """A picture in its place on the page.

    Attributes:
        title: what is seen.
        png: base64.
    """

    title: str
    png: str


def figure(width: float, height: float, dpi: int = 80) -> Any:
    """An empty figure of so many inches; no window and no global state."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # slow to import, and only needed for pictures
    from matplotlib.figure import Figure

    made = Figure(figsize=(width, height), dpi=dpi, layout="constrained")
    FigureCanvasAgg(made)
    return made


def base64_png(made: Any) -> str:
    """The figure as a PNG in base64; text without a size of its own is no smaller than twelve pixels."""
    from matplotlib.text import Text

    for text in made.findobj(Text):
        if text.get_fontsize() == DEFAULT_SIZE:
            text.set_fontsize(SMALLEST)
    picture = io.BytesIO()
    made.savefig(picture, format="png")
    return base64.b64encode(picture.getvalue()).decode()


def one_axes(height: float) -> tuple[Any, Any]:
    """A figure of 900 pixels' width, so many inches high, and its axes."""
    made = figure(WIDTH, height)
    axes = made.subplots()
    plain(axes)
    return made, axes


def zero_lines(height: float) -> tuple[Any, Any]:
    """Axes with a line at zero, drawn first: it decides on the limits."""
    made, axes = one_axes(height)
    axes.axhline(0, color="black", linewidth=0.8)
    return made, axes


def plain(axes: Any) -> None:
    """Without the frame above and to the right; labels of the ticks that can be read."""
    axes.tick_params(labelsize=SMALLEST)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)


def legend(axes: Any, columns: int = 3) -> None:
    """Above the picture, not in it."""
    axes.legend(frameon=False, ncols=columns, loc="lower left", bbox_to_anchor=(0, 1))


def name_lines(axes: Any, ends: Mapping[str, float], colours: Mapping[str, str]) -> None:
    """Names beside the ends of their lines, pushed apart where they would lie over each other."""
    axes.get_ylim()  # settles the limits, which the transform takes as they are
    in_axes = axes.transScale + axes.transLimits  # also of a logarithmic scale
    names = sorted(ends, key=lambda one: ends[one])
    places = apart([float(in_axes.transform((0.0, ends[name]))[1]) for name in names])
    for name, place in zip(names, places, strict=True):
        axes.annotate(
            f" {name}", (1.0, place), xycoords="axes fraction", annotation_clip=False, va="center", color=colours[name]
        )


def apart(places: Sequence[float], gap: float = LEAST_GAP) -> list[float]:
    """Ascending places moved as little as it takes for each to lie a gap above the one before.

    Neighbours that are too close become a block about the mean of where its members were (pool adjacent violators).
    """
    blocks: list[tuple[float, int]] = []  # where the first member would like to be, on the mean; members
    for place in places:
        wish, size = place, 1
        while blocks and wish < blocks[-1][0] + gap * blocks[-1][1]:
            before, members = blocks.pop()
            wish = (before * members + (wish - gap * members) * size) / (members + size)
            size += members
        blocks.append((wish, size))
    return [first + gap * i for first, size in blocks for i in range(size)]


def colour_of(name: str) -> str:
    """Of a model beside the one that is shown, which is ACCENT."""
    return "black" if name == "oracle" else GREY if name == "lightgbm" else PALE


def as_text(value: float, form: str) -> str:
    """A figure in a format, for a title."""
    return format(value, form) if np.isfinite(value) else "unknown"
