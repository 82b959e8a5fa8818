"""What the device did during a training: a picture over its minutes, and the figures that plot over runs."""

from typing import Any

from atft_assets.reports.pictures import ACCENT, GREY, base64_png, figure, plain
from atft_assets.reports.shown import numbers
from atft_model.interchange.telemetry import Reading, Summary, Telemetry

MINUTE, GB = 60.0, 1e9
GAP = 30.0  # seconds between two readings beyond which the run did not work: the line is cut there


def device_markdown(telemetry: Telemetry, title: str) -> str:
    """The readings as an inline PNG in Markdown, a panel a quantity that was told; empty text where there are none.

    Args:
        title: of the picture; the idle share is put after it.
    """
    summary = telemetry.summary()
    if summary is None:
        return ""
    quantities: list[tuple[str, list[float | None]]] = [
        ("device at work, %", [_times(one.utilisation, 100) for one in telemetry.readings]),
        ("memory, GB", [_times(one.memory_used, 1 / GB) for one in telemetry.readings]),
        ("cores of the process", [one.cores for one in telemetry.readings]),
        ("power, W", [one.watts for one in telemetry.readings]),
        ("temperature, °C", [one.celsius for one in telemetry.readings]),
    ]
    told = [(name, values) for name, values in quantities if any(value is not None for value in values)]
    edges, places = _minutes(telemetry.readings)
    made = figure(12.5, 1.4 * len(told) + 0.6)
    rows = made.subplots(len(told), 1, sharex=True, squeeze=False)[:, 0]
    for axes, (name, values) in zip(rows, told, strict=True):
        _steps(axes, edges, [values[place] if place is not None else None for place in places])
        axes.set_title(name, loc="left")
        axes.set_ylim(bottom=0)
        plain(axes)
    rows[-1].set(xlabel="minutes at work")
    made.suptitle(f"{title}: {summary}")
    return f"![{title}](data:image/png;base64,{base64_png(made)})"


def device_figures(summary: Summary) -> dict[str, int | float]:
    """The numbers of a summary under the names by which the UI plots them over runs."""
    return numbers(
        {
            "device_idle_share": summary.idle_share,
            "device_memory_peak_gb": _times(summary.peak_memory, 1 / GB),
            "device_watts": summary.watts,
            "device_celsius": summary.celsius,
            "host_cores": summary.cores,
        }
    )


def _times(value: float | None, factor: float) -> float | None:
    return None if value is None else value * factor


def _minutes(readings: tuple[Reading, ...]) -> tuple[list[float], list[int | None]]:
    """Edges of the readings in minutes of work, and the reading between each two; None where a run was interrupted."""
    edges, places, at, before = [0.0], list[int | None](), 0.0, None
    for place, one in enumerate(readings):
        if before is not None and one.at - one.seconds - before > GAP:
            edges.append(at)
            places.append(None)
        at += one.seconds / MINUTE
        edges.append(at)
        places.append(place)
        before = one.at
    return edges, places


def _steps(axes: Any, edges: list[float], values: list[float | None]) -> None:
    """A mean over each reading's time, as a step."""
    heights = [float("nan") if value is None else value for value in values]
    axes.stairs(heights, edges, baseline=None, color=ACCENT, linewidth=1.5)
    for edge, value, following in zip(edges, values, edges[1:], strict=False):
        if value is None and edge == following:
            axes.axvline(edge, color=GREY, linewidth=0.8, linestyle=":")
