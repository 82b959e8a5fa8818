"""`ablation.html`: what each family of features is worth to a model, and what its columns say by themselves."""

from collections.abc import Mapping, Sequence
from typing import Any

import polars as pl

from atft_assets.reports.markup import details, document, number, paragraph, percent, section, shown, table
from atft_assets.reports.pictures import ACCENT, GREY, WIDTH, Picture, base64_png, figure, plain
from atft_model.interchange.fold import MAIN
from atft_model.interchange.horizons import HORIZONS
from atft_model.interchange.statistics import LEVEL

TITLE = "What each family of features is worth"
COLOURS = {"ridge": GREY, "lightgbm": ACCENT}
CHANGES = {"left out": "all families, this one left out", "added": "the price set, this one added"}
TEXT = ("family", "best column", "verdict", "column", "model", "set")


def page_name(fold: str = MAIN) -> str:
    """The file of the page of a fold."""
    return "ablation.html" if fold == MAIN else f"ablation-{fold}.html"


def render(board: Mapping[str, Any], outcome: str, columns: pl.DataFrame) -> str:
    """The page as one HTML file.

    Args:
        board: `ablation.json`.
        outcome: what was found, a sentence.
        columns: as `family_table.by_column` gives it.
    """
    models = " and ".join(board["models"])
    seeds = f", LightGBM with {len(board['seeds'])} seeds," if len(board["seeds"]) > 1 else ""
    said = (
        f"Fold {board['fold']}, validation block {board['first']} to {board['last']}, {board['days']} days; the test "
        f"block was not looked at. {models}{seeds} fitted on the train block. "
        f"The price set is {', '.join(board['price_set']) or 'empty'}."
    )
    return document(
        TITLE,
        paragraph(outcome, "good" if any(_beyond(one["p_holm"]) for one in board["comparisons"]) else "warning"),
        paragraph(said),
        section(
            "worth",
            "What a model loses without a family, and what it gains by one",
            "RankIC with the family minus RankIC without it, day by day on the same rows, so that a positive figure "
            "speaks for the family in both pictures. Bars are 95 % intervals (EWC) of one comparison; a full point is "
            f"beyond chance among all of them (p below {LEVEL:.0%} after Holm). What others can replace costs nothing "
            "when it is left out, and may still be worth much when it is added.",
            shown(picture(board), "There was nothing to compare."),
            *(_comparisons(board, change) for change in CHANGES),
        ),
        section(
            "sets",
            "How well each set ranks",
            "Headline RankIC on the block, a mean over the seeds.",
            details("Every set", _sets(board)),
        ),
        section(
            "columns",
            "What single columns say",
            "From feature_report: mean daily RankIC with the close-to-close return of the next day, t after Newey and "
            f"West, a star where p is below {LEVEL:.0%} after Holm among all columns. Coverage is the share of rows "
            f"that have a value, {board['coverage_first']} to {board['last']}. What is equal for all names of a day "
            "ranks nothing by itself.",
            _families(board["univariate"]),
            details("Every column", _columns(columns)),
        ),
    )


def picture(board: Mapping[str, Any]) -> Picture | None:
    """The differences of all families with their intervals; None where nothing was compared."""
    rows = board["comparisons"]
    if not rows:
        return None
    families = [name for name in board["families"] if any(one["family"] == name for one in rows)]
    models = board["models"]
    made = figure(WIDTH, 0.34 * len(families) + 1.6)
    for axes, (change, title) in zip(made.subplots(1, 2, sharey=True), CHANGES.items(), strict=True):
        plain(axes)
        axes.axvline(0, color="black", linewidth=0.8)
        axes.set_title(title)
        axes.set_xlabel("RankIC with the family minus without")
        for i, model in enumerate(models):
            mine = [one for one in rows if one["model"] == model and one["change"] == change and _known(one["mean"])]
            colour = COLOURS.get(model, GREY)
            for n, one in enumerate(mine):
                place = families.index(one["family"]) + (i - (len(models) - 1) / 2) * 0.3
                if _known(one["low"]):
                    axes.plot([one["low"], one["high"]], [place, place], color=colour, linewidth=1.5)
                axes.plot(
                    [one["mean"]],
                    [place],
                    marker="o",
                    markersize=5,
                    color=colour,
                    markerfacecolor=colour if _beyond(one["p_holm"]) else "white",
                    linestyle="none",
                    label=model if n == 0 else None,
                )
        axes.set_yticks(range(len(families)), families)
        axes.set_ylim(len(families) - 0.4, -0.6)
        if axes.get_legend_handles_labels()[0]:
            axes.legend(frameon=False, loc="best")
    return Picture("What each family adds to the RankIC of the validation block", base64_png(made))


def _comparisons(board: Mapping[str, Any], change: str) -> str:
    mine = [one for one in board["comparisons"] if one["change"] == change]
    mine.sort(key=lambda one: -(one["mean"] if _known(one["mean"]) else float("-inf")))
    rows = [
        [
            one["family"],
            one["model"],
            str(one["columns"]),
            number(one["mean"], "+.4f"),
            f"{number(one['low'], '+.4f')} to {number(one['high'], '+.4f')}",
            number(one["p"], ".3f"),
            number(one["p_holm"], ".3f"),
            number(one["t"], ".1f"),
            number(one["critical"], ".1f"),
            number(one["neutral"]["mean"], "+.4f") + ("*" if _beyond(one["neutral"]["p_holm"]) else ""),
            *(number(value, "+.4f") for value in one["by_horizon"].values()),
            one["verdict"],
        ]
        for one in mine
    ]
    if not rows:
        return ""
    horizons = [f"{h} d" for h in mine[0]["by_horizon"]]
    head = ["family", "model", "columns", "difference", "95 % interval", "p", "p Holm", "t", "t to exceed", "neutral"]
    return f"<h3>{CHANGES[change].capitalize()}</h3>" + table([*head, *horizons, "verdict"], rows, text=TEXT)


def _sets(board: Mapping[str, Any]) -> str:
    rows = [
        [
            one["set"],
            one["model"],
            str(one["columns"]),
            number(one["rank_ic"], ".4f"),
            number(one["neutral_rank_ic"], ".4f"),
            number(one["seconds"], ".1f"),
        ]
        for one in board["sets"]
    ]
    return table(["set", "model", "columns", "RankIC", "neutral", "seconds"], rows, text=TEXT)


def _families(lines: Sequence[Mapping[str, Any]]) -> str:
    rows = [
        [
            one["family"],
            f"{one['ranking']} of {one['columns']}",
            percent(one["coverage"]),
            str(one["beyond_chance"]),
            number(one["mean_abs_rank_ic"], ".4f"),
            one["best"] or "–",
            number(one["best_rank_ic"], "+.4f") + ("*" if _beyond(one["best_p_holm"]) else ""),
            number(one["best_t"], ".1f"),
            percent(one["best_coverage"]),
        ]
        for one in lines
    ]
    head = ["family", "columns that rank", "coverage", "beyond chance", "mean |RankIC|"]
    return table([*head, "best column", "its RankIC", "t", "its coverage"], rows, text=TEXT)


def _columns(columns: pl.DataFrame) -> str:
    rows = [
        [
            one["feature"],
            one["family"],
            percent(one["coverage"]),
            "–" if one["days"] is None else str(one["days"]),
            *(number(one[f"rank_ic_{h}d"], "+.4f") for h in HORIZONS),
            number(one["t_newey_west"], ".1f") + ("*" if _beyond(one["p_holm"]) else ""),
        ]
        for one in columns.iter_rows(named=True)
    ]
    return table(["column", "family", "coverage", "days", *(f"IC {h} d" for h in HORIZONS), "t"], rows, text=TEXT)


def _known(value: float | None) -> bool:
    return value is not None


def _beyond(p: float | None) -> bool:
    return p is not None and p < LEVEL
