"""Pictures of trainings: loss and validation RankIC by epoch, of one run or of two over each other."""

from collections.abc import Mapping
from typing import Any

import polars as pl

from atft_assets.reports.pictures import base64_png, figure

HORIZON_COLOURS = ("tab:blue", "tab:orange", "tab:green", "tab:purple")
RUN_COLOURS = ("black", "tab:red")


def curves_markdown(metrics: pl.DataFrame, title: str, kept_epoch: int | None) -> str:
    """One run's picture, 1,000 pixels wide, as an inline PNG in Markdown; nothing is fetched to show it.

    Args:
        metrics: one row an epoch: epoch, loss, rank_ic and, where present, rank_ic_<h>d.
        kept_epoch: the epoch that was kept; 0 or None marks none.
    """
    made = figure(12.5, 4.6)
    left, right = made.subplots(1, 2)
    epochs = metrics["epoch"].to_list()
    left.plot(epochs, metrics["loss"].to_list(), marker="o", color="tab:gray")
    left.set(title="training loss", xlabel="epoch")
    horizons = [column for column in metrics.columns if column.startswith("rank_ic_")]
    for column, colour in zip(horizons, HORIZON_COLOURS, strict=False):
        right.plot(epochs, metrics[column].to_list(), linewidth=1, color=colour, label=column.removeprefix("rank_ic_"))
    right.plot(epochs, metrics["rank_ic"].to_list(), marker="o", color="black", linewidth=2, label="headline")
    _mark(right, metrics, kept_epoch, "black")
    right.axhline(0, color="tab:gray", linewidth=0.5)
    _finish(right)
    made.suptitle(title)
    return f"![{title}](data:image/png;base64,{base64_png(made)})"


def overlay_png(runs: Mapping[str, tuple[pl.DataFrame, int | None]]) -> str:
    """Two runs over each other as a PNG in base64.

    Args:
        runs: metrics and kept epoch by the name that the legend gives.
    """
    made = figure(12.5, 4.6)
    left, right = made.subplots(1, 2)
    for (name, (metrics, best)), colour in zip(runs.items(), RUN_COLOURS, strict=False):
        epochs = metrics["epoch"].to_list()
        left.plot(epochs, metrics["loss"].to_list(), marker="o", color=colour)
        right.plot(epochs, metrics["rank_ic"].to_list(), marker="o", color=colour, label=name)
        _mark(right, metrics, best, colour)
    left.set(title="training loss", xlabel="epoch")
    _finish(right)
    return base64_png(made)


def _mark(axes: Any, metrics: pl.DataFrame, best: int | None, colour: str) -> None:
    kept = metrics.filter(pl.col("epoch") == best)["rank_ic"].to_list() if best else []
    if kept and kept[0] is not None:
        axes.plot([best], kept[:1], marker="*", markersize=18, color=colour, markeredgecolor="white", linestyle="none")
        axes.annotate(f"{kept[0]:.4f}, epoch {best}", (best, kept[0]), textcoords="offset points", xytext=(8, 8))


def _finish(axes: Any) -> None:
    axes.set(title="validation RankIC (star: the epoch that was kept)", xlabel="epoch")
    axes.margins(y=0.15)
    axes.legend(loc="upper left", bbox_to_anchor=(1.01, 1.0), frameon=False)  # beside the lines, not over them
