"""`ablation.html`: what each family of features is worth to a model, and what its columns say by themselves."""

from collections.abc import Mapping, Sequence
from typing import Any

import polars as pl

from atft_assets.reports.markup import details, document, number, paragraph, percent, section, shown, subheading, table
from atft_assets.reports.pictures import ACCENT, GREY, WIDTH, Picture, base64_png, figure, plain
from atft_model.interchange.fold import MAIN
from atft_model.interchange.horizons import HORIZONS
from atft_model.interchange.statistics import LEVEL

TITLE = "What each family of features is worth"
COLOURS = {"ridge": GREY, "lightgbm": ACCENT}
# what is compared, and how a reader is told
SERIES = {"headline": "Headline: the weighted mean of all horizons", "shortest": "The next day alone"}
CHANGES = {"left out": "all families, this one left out", "added": "the price set, this one added"}
TEXT = ("family", "best column", "verdict", "its verdict", "column", "model", "set")


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
    compared, looked_at = len(board["comparisons"]), columns["rank_ic_1d"].count()
    return document(
        TITLE,
        paragraph(outcome, "good" if any(_found(one) for one in board["comparisons"]) else "warning"),
        paragraph(said),
        paragraph(_served(board)),
        section(
            "worth",
            "What a model loses without a family, and what it gains by one",
            "RankIC with the family minus RankIC without it, day by day on the same rows, so that a positive figure "
            "speaks for the family whichever way it was asked. Bars are 95 % intervals (EWC) of one comparison; a full "
            f"point, in the tables a star, is beyond chance among all {2 * compared} figures, {compared} comparisons "
            f"of the headline and as many of the next day (p below {LEVEL:.0%} after Holm). Labels of the headline "
            "reach over weeks, so few days say little of it; the next day is told more surely. What others can replace "
            "costs nothing when it is left out, and may still be worth much when it is added; families of the price "
            "set are not added to it.",
            *(
                part
                for series, title in SERIES.items()
                for part in (
                    subheading(title),
                    paragraph(_power(board, series)),
                    shown(picture(board, series), "There was nothing to compare."),
                    _by_family(board, series),
                )
            ),
            *(
                details(f"Every comparison: {CHANGES[change]}", made)
                for change in CHANGES
                if (made := _comparisons(board, change))
            ),
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
            f"West, a star where p is below {LEVEL:.0%} after Holm among all {looked_at} columns that rank; the best "
            "column is the one with the largest t. Coverage is the share of rows that have a value, "
            f"{board['coverage_first']} to {board['last']}. What is equal for all names of a day ranks nothing by "
            "itself, and is worth something to a model alone.",
            _families(board["univariate"]),
            details("Every column", _columns(columns)),
        ),
    )


def _served(board: Mapping[str, Any]) -> str:
    """Which families could be asked about, and which the plan does not serve."""
    lacking = ", ".join(f"{family} ({plan})" for family, plan in board["not_served"].items())
    return (
        f"The panel holds the {len(board['families'])} families of the set {board['feature_set']} that the plan "
        f"{board['plan']} serves. "
        + (f"Not looked at, for they need a larger plan: {lacking}." if lacking else "No family needs a larger plan.")
    )


def _power(board: Mapping[str, Any], series: str) -> str:
    """How small a difference these days can show."""
    told = [of(one, series) for one in board["comparisons"]]
    wide = sorted((one["high"] - one["low"]) / 2 for one in told if _known(one["low"]))
    if not wide:
        return ""
    return f"Half of the intervals reach {wide[len(wide) // 2]:.4f} or further to each side: less is not seen here."


def of(one: Mapping[str, Any], series: str) -> Mapping[str, Any]:
    """What a comparison says of a series."""
    return one if series == "headline" else one[series]


def _found(one: Mapping[str, Any]) -> bool:
    return any(_beyond(of(one, series)["p_holm"]) for series in SERIES)


def _by_family(board: Mapping[str, Any], series: str) -> str:
    """A line a family: what each model says of it, both ways."""
    found = {(one["family"], one["model"], one["change"]): of(one, series) for one in board["comparisons"]}
    alone = {one["family"]: one for one in board["univariate"]}
    asked = [name for name in board["families"] if any(name == family for family, *_ in found)]
    if not asked:
        return ""
    ways = [(model, change) for model in board["models"] for change in CHANGES]
    rows = [
        [
            family,
            str(board["families"][family]),
            percent(alone.get(family, {}).get("coverage")),
            *(_difference(found.get((family, *way))) for way in ways),
        ]
        for family in asked
    ]
    return table(["family", "columns", "coverage", *(f"{model}, {change}" for model, change in ways)], rows, text=TEXT)


def _difference(one: Mapping[str, Any] | None) -> str:
    if one is None:
        return "–"
    return number(one["mean"], "+.4f") + ("*" if _beyond(one["p_holm"]) else "")


def picture(board: Mapping[str, Any], series: str = "headline") -> Picture | None:
    """The differences of all families with their intervals; None where nothing was compared."""
    keys = ("family", "model", "change")
    rows = [{**of(one, series), **{key: one[key] for key in keys}} for one in board["comparisons"]]
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
    what = "RankIC" if series == "headline" else "next day's RankIC"
    return Picture(f"What each family adds to the {what} of the validation block", base64_png(made))


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
            one["verdict"],
            number(one["shortest"]["mean"], "+.4f"),
            number(one["shortest"]["p_holm"], ".3f"),
            one["shortest"]["verdict"],
            number(one["t"], ".1f"),
            number(one["critical"], ".1f"),
            number(one["neutral"]["mean"], "+.4f") + ("*" if _beyond(one["neutral"]["p_holm"]) else ""),
            *(number(value, "+.4f") for value in one["by_horizon"].values()),
        ]
        for one in mine
    ]
    if not rows:
        return ""
    horizons = [f"{h} d" for h in mine[0]["by_horizon"]]
    head = ["family", "model", "columns", "difference", "95 % interval", "p", "p Holm", "verdict", "next day"]
    return table([*head, "its p Holm", "its verdict", "t", "t to exceed", "neutral", *horizons], rows, text=TEXT)


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
            one["best"] or "–",
            number(one["best_rank_ic"], "+.4f"),
            number(one["best_t"], ".1f") + ("*" if _beyond(one["best_p_holm"]) else ""),
            percent(one["best_coverage"]),
        ]
        for one in lines
    ]
    head = ["family", "that rank", "coverage", "beyond chance"]
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
