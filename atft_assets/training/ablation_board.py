"""What the ablation says, as plain values: paired daily differences, verdicts, the ledger's lines, the closed test.

A difference is RankIC with a family minus RankIC without it, so a positive one speaks for the family whichever way it
was asked.
"""

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, date, datetime
from typing import Any

import numpy as np

from atft_assets.baselines.families import BASE, Judged, Question
from atft_assets.scoring.block import Block
from atft_assets.trials.ledger import ABLATIONS, Trial
from atft_assets.trials.recipes import recipe_of
from atft_model.interchange.fold import Fold
from atft_model.interchange.panel import Panel
from atft_model.interchange.records import to_plain
from atft_model.interchange.statistics import LEVEL, MeanVerdict, holm, paired_difference

GOOD, BAD, CHANCE, SHORT = "worth its place", "does harm", "not told from chance", "too few days"
SAME = "ranks the same"
# Mean absolute daily difference of RankIC below which two sets rank alike but for round-off: what is equal for all
# names of a day shifts a linear model's scores all at once, and a test of round-off finds patterns in it.
LEAST_DIFFERENCE = 1e-4


def reaches_test(panel: Panel, fold: Fold, first: date, last: date) -> str:
    """How days that are looked at touch the test block, by themselves or by the days that their labels end on.

    Args:
        first, last: of the days that are scored.

    Returns:
        Empty where they do not.
    """
    begins, ends = fold.test
    if first <= ends and last >= begins:
        return f"the days {first} to {last} touch the test block {begins} to {ends}"
    if last > ends:
        return ""
    # an open-to-open label begins on the day after
    reach = max(panel.horizons) + (panel.description.label == "y_oo")
    days = panel.dates
    final = days[min(days.index(last) + reach, len(days) - 1)]
    return f"labels of {last} end on {final}, within the test block {begins} to {ends}" if final >= begins else ""


def named(families: frozenset[str], asked: Sequence[Question]) -> str:
    """What a set is called: "full", "full − flow", "price set", "price set + flow"."""
    for one in asked:
        whole, sign = (one.with_it, "−") if one.change == "left out" else (one.without_it, "+")
        changed = one.without_it if one.change == "left out" else one.with_it
        if families == whole:
            return one.against
        if families == changed:
            return f"{one.against} {sign} {one.family}"
    raise KeyError(f"no question is about {', '.join(sorted(families))}")


def verdict(mean: float, p_holm: float) -> str:
    """What a comparison says, in words; a p that is not known is of too few days."""
    if p_holm != p_holm:
        return SHORT
    if p_holm >= LEVEL:
        return CHANCE
    return GOOD if mean > 0 else BAD


def compared(judged: Sequence[Judged], asked: Sequence[Question], sizes: Mapping[str, int]) -> list[dict[str, Any]]:
    """Every question put to every model: of the headline, whose labels reach over weeks, so that a year says little of
    small differences, and of the shortest horizon, of which it says much. p after Holm over all of both; neutral ones
    are a family of their own.

    Args:
        sizes: number of columns by family.
    """
    found = {(one.model, one.families): one for one in judged}
    rows: list[dict[str, Any]] = []
    plain, shortest, neutral = [], [], []
    for model in dict.fromkeys(one.model for one in judged):
        for one in asked:
            ours, theirs = found[model, one.with_it], found[model, one.without_it]
            longest = max(ours.by_horizon)
            told = {
                "model": model,
                "family": one.family,
                "change": one.change,
                "against": one.against,
                "columns": sizes[one.family],
                "by_horizon": {h: ours.by_horizon[h] - theirs.by_horizon[h] for h in ours.by_horizon},
                "same": _same(ours, theirs),
            }
            rows.append(told)
            plain.append(paired_difference(ours.daily, theirs.daily, longest))
            neutral.append(paired_difference(ours.daily_neutral, theirs.daily_neutral, longest))
            shortest.append(paired_difference(ours.daily_shortest, theirs.daily_shortest, min(ours.by_horizon)))
    same = [row["same"] for row in rows]
    both = holm([*_ps(plain, same), *_ps(shortest, same)])
    return [
        told
        | _told(one, p)
        | {
            "shortest": {"horizon": min(told["by_horizon"]), **_told(near, near_p)},
            "neutral": {"mean": left.mean, "p": left.p, "p_holm": left_p},
        }
        for told, one, p, near, near_p, left, left_p in zip(
            rows, plain, both[: len(rows)], shortest, both[len(rows) :], neutral, holm(_ps(neutral, same)), strict=True
        )
    ]


def _same(ours: Judged, theirs: Judged) -> bool:
    """Whether two sets rank the names of each day alike."""
    moved = np.abs(np.stack([ours.daily - theirs.daily, ours.daily_shortest - theirs.daily_shortest]))
    return not bool((np.nanmean(moved, axis=1) >= LEAST_DIFFERENCE).any()) if np.isfinite(moved).any() else False


def _ps(verdicts: Sequence[MeanVerdict], same: Sequence[bool]) -> list[float]:
    """p of each; that of round-off is none."""
    return [float("nan") if alike else one.p for one, alike in zip(verdicts, same, strict=True)]


def _told(one: MeanVerdict, p_holm: float) -> dict[str, Any]:
    return {
        "mean": one.mean,
        "low": one.low,
        "high": one.high,
        "p": one.p,
        "p_holm": p_holm,
        "t": one.t,
        "critical": one.critical,
        "spaced_t": one.spaced_t,
        "days": one.days,
        "days_needed": one.days_needed,
        "verdict": SAME if one.p == one.p and p_holm != p_holm else verdict(one.mean, p_holm),
    }


def ablation_board(
    block: Block,
    fold: Fold,
    judged: Sequence[Judged],
    asked: Sequence[Question],
    sizes: Mapping[str, int],
    **more: Any,
) -> dict[str, Any]:
    """The document `ablation.json`, NaN as None."""
    dates = block.panel.dates
    base = next((one.with_it - {one.family} for one in asked if one.against == BASE), frozenset())
    board = {
        "fold": fold.name,
        "panel_id": block.panel.panel_id,
        "feature_set": block.panel.description.feature_set,
        "label": block.panel.description.label,
        "block": block.name,
        "first": dates[block.days[0]],
        "last": dates[block.days[-1]],
        "days": len(block.days),
        "families": dict(sizes),
        "price_set": [name for name in sizes if name in base],
        "sets": [
            {
                "model": one.model,
                "set": named(one.families, asked),
                "columns": one.columns,
                "rank_ic": one.rank_ic,
                "neutral_rank_ic": one.neutral_rank_ic,
                "by_horizon": one.by_horizon,
                "seconds": round(one.seconds, 2),
            }
            for one in judged
        ],
        "comparisons": compared(judged, asked, sizes),
        "created_at": datetime.now(UTC).isoformat(timespec="seconds"),
        **more,
    }
    plain: dict[str, Any] = to_plain(board)
    return plain


def tried(
    panel: Panel, judged: Sequence[Judged], asked: Sequence[Question], config: Mapping[str, Any], fold: str
) -> Iterator[Trial]:
    """A line of the ledger of trials for each model and set of columns: its figure on the validation block was seen.

    Args:
        config: how the models were fitted; seeds do not make a recipe another one.
    """
    described = panel.description
    chosen = {name: value for name, value in config.items() if name not in ("seed", "threads")}
    for one in judged:
        columns = sorted(feature.name for feature in described.features if feature.family in one.families)
        yield Trial(
            study=ABLATIONS,
            number=f"{one.model}, {named(one.families, asked)}",
            recipe=recipe_of(
                [
                    one.model,
                    chosen if one.model != "ridge" else {},
                    described.catalogue_hash,
                    described.label,
                    described.target,
                    columns,
                ]
            ),
            params={"model": one.model, "families": sorted(one.families), **chosen},
            values=to_plain({fold: one.rank_ic}),
        )


def outcome(board: Mapping[str, Any]) -> str:
    """What was found, in one sentence or two."""
    if not board["comparisons"]:
        return "No family could be asked about: the panel has a single one."
    said = {word: _families(board, word) for word in (GOOD, BAD, SHORT)}
    if len(said[SHORT]) == 2 * len(board["comparisons"]):
        needed = board["comparisons"][0]["days_needed"]
        return f"{board['days']} days are too few to tell anything: {needed} are the least."
    good = ", ".join(said[GOOD]) or "no family"
    harm = f"; {', '.join(said[BAD])} do harm" if said[BAD] else ""
    return (
        f"Beyond chance after Holm, of {len(board['comparisons'])} comparisons on {board['days']} days, each of the "
        f"headline and of the next day: {good}{harm}. What is not named is not worthless, it was not told from chance."
    )


def _families(board: Mapping[str, Any], word: str) -> list[str]:
    return [
        f"{one['family']} ({one['model']}, {one['change']}{of})"
        for one in board["comparisons"]
        for told, of in ((one, ""), (one["shortest"], ", next day"))
        if told["verdict"] == word
    ]
