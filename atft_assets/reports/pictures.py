"""Figures of matplotlib without a screen, as the text that Markdown and HTML hold."""

import base64
import io
from typing import Any


def figure(width: float, height: float, dpi: int = 80) -> Any:
    """An empty figure of so many inches; no window and no global state."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # slow to import, and only needed for pictures
    from matplotlib.figure import Figure

    made = Figure(figsize=(width, height), dpi=dpi, layout="constrained")
    FigureCanvasAgg(made)
    return made


def base64_png(made: Any) -> str:
    """The figure as a PNG in base64."""
    picture = io.BytesIO()
    made.savefig(picture, format="png")
    return base64.b64encode(picture.getvalue()).decode()
