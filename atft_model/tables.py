"""Text tables for people."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from atft_model.interchange.statistics import LEVEL


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Plain text table, first column left, the others right."""
    widths = [max(len(str(r[i])) for r in [header, *rows]) for i in range(len(header))]

    def line(cells: Sequence[str]) -> str:
        first = str(cells[0]).ljust(widths[0])
        return "  ".join([first, *(str(c).rjust(w) for c, w in zip(cells[1:], widths[1:], strict=True))])

    return "\n".join([line(header), "  ".join("-" * w for w in widths), *(line(r) for r in rows)])


STARRED = f"* p of the horizon below {LEVEL:.0%}, of this figure alone; vs first: headlines, their p, and after Holm"


def metric_cells(summary: Mapping[str, Any], horizons: Sequence[int]) -> list[str]:
    """Cells of a summary, under `metric_header`; a star at a t says that the p of its horizon is below 5 %."""
    by = [f"{summary['rank_ic_by_horizon'][str(h)]:+.4f}" for h in horizons]
    t = [
        f"{summary['t_newey_west_by_horizon'][str(h)]:+.1f}{'*' if summary['p_by_horizon'][str(h)] < LEVEL else ' '}"
        for h in horizons
    ]
    return [f"{summary['rank_ic']:+.4f}", *by, *t]


def p_cell(p: float) -> str:
    """A p value; of days that are too few to have one, a dash."""
    return "–" if math.isnan(p) else "<.001" if p < 0.001 else f"{p:.3f}".lstrip("0")


def metric_header(horizons: Sequence[int]) -> list[str]:
    """Headline RankIC, RankIC by horizon, its Newey-West t by horizon."""
    return ["RankIC", *(f"{h}d" for h in horizons), *(f"t {h}d" for h in horizons)]


def mean_and_error(values: Sequence[float]) -> str:
    """Mean and standard error over seeds; of one value just that."""
    x = np.asarray(values, dtype=np.float64)
    return f"{x.mean():+.4f}" + (f" ± {x.std(ddof=1) / np.sqrt(len(x)):.4f}" if len(x) > 1 else "")
