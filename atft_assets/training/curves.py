"""One picture of a training: its loss and its validation RankIC by epoch."""

import base64
import io

import polars as pl


def curves_markdown(metrics: pl.DataFrame, title: str) -> str:
    """The picture as an inline PNG in Markdown, which Dagster's UI renders without fetching anything.

    Args:
        metrics: one row an epoch: epoch, loss, rank_ic and, where present, rank_ic_<h>d.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # slow to import, and only needed here
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.4, 2.6), dpi=80, layout="constrained")
    FigureCanvasAgg(figure)
    left, right = figure.subplots(1, 2)
    epochs = metrics["epoch"].to_list()
    left.plot(epochs, metrics["loss"].to_list(), marker="o", color="tab:gray")
    left.set(title="training loss", xlabel="epoch")
    right.plot(epochs, metrics["rank_ic"].to_list(), marker="o", color="black", linewidth=2, label="headline")
    for column in metrics.columns:
        if column.startswith("rank_ic_"):
            right.plot(epochs, metrics[column].to_list(), linewidth=1, label=column.removeprefix("rank_ic_"))
    right.axhline(0, color="tab:gray", linewidth=0.5)
    right.set(title="validation RankIC", xlabel="epoch")
    right.legend(fontsize="x-small")
    figure.suptitle(title, fontsize="small")
    picture = io.BytesIO()
    figure.savefig(picture, format="png")
    return f"![{title}](data:image/png;base64,{base64.b64encode(picture.getvalue()).decode()})"
