"""The gates of `trading.gates` on an evening: what is usual for the champion, and what tonight looks like beside it.

What is usual is what it said of its validation block, evening after evening: that it has from the first day on, and no
test block is looked at for it. How well it ranks is asked only of evenings that were published and whose returns are
known by now.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import date
from itertools import pairwise
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from atft_assets.calendar import month_key, previous_trading_day
from atft_assets.reports.sector_names import SECTOR33
from atft_assets.scoring.block import Block
from atft_assets.scoring.daily import daily_spearman
from atft_assets.scoring.ordering import levels_of
from atft_assets.scoring.trailing import Floats
from atft_assets.store import Store
from atft_assets.trading import gates
from atft_assets.trading.champion import Champion
from atft_assets.trading.daily_scores import GROUP, NAME, PUBLISHED, combined
from atft_assets.trading.gates import Gate
from atft_model.interchange.horizons import horizon_weights
from atft_model.interchange.panel import Panel, from_bfloat16

OVERALL = "published"  # the check that an alert is told of: whether the evening may be used
# names of the gates, as the UI shows them, and whether each forbids to publish
GATES: dict[str, bool] = {
    "kill_switch": True,
    "catalogue": True,
    "newest_bars": True,
    "coverage": True,
    "score_spread": True,
    "distinct_share": True,
    "rank_agreement": True,
    "feature_drift": True,
    "leak": True,
    "top_overlap": False,
    "sector_weights": False,
    "champion_age": False,
    "matured_rank_ic": False,
}
DRIFT_DAYS = 20  # evenings before, with which the features are compared
MATURED_MONTHS = 13  # of the table, in which published evenings are looked for


@dataclass(frozen=True)
class Usual:
    """The champion's evenings of its validation block [K], oldest first, and how well it ranked the next day's returns.

    Attributes:
        spreads, distinct: of the scores as the model gives them.
        agreements, overlaps: with the evening before.
        rank_ic, rank_ic_spread: mean and standard deviation of the daily RankIC with the one-day label.
    """

    spreads: NDArray[np.float64]
    distinct: NDArray[np.float64]
    agreements: NDArray[np.float64]
    overlaps: NDArray[np.float64]
    rank_ic: float
    rank_ic_spread: float

    @classmethod
    def of(cls, scores: Floats, block: Block) -> "Usual":
        """From scores of the validation block [H,D,N]."""
        newest = slice(-gates.HISTORY_DAYS, None)
        raw = raw_of(scores, block.panel.horizons)
        _, score = combined(scores, block.panel.horizons)
        one_day = block.panel.y[block.panel.horizons.index(1), block.rows]
        one_day = np.where(block.eligible, one_day, np.nan)
        daily = daily_spearman(levels_of(score), levels_of(one_day))
        known = daily[np.isfinite(daily)]
        pairs = list(pairwise(score[newest]))
        return cls(
            spreads=np.array([gates.spread(day) for day in raw[newest]]),
            distinct=np.array([gates.distinct(day) for day in raw[newest]]),
            agreements=np.array([gates.agreement(after, before) for before, after in pairs]),
            overlaps=np.array([gates.overlap(after, before) for before, after in pairs]),
            rank_ic=float(known.mean()) if len(known) else float("nan"),
            rank_ic_spread=float(known.std(ddof=1)) if len(known) > 1 else float("nan"),
        )


@dataclass(frozen=True)
class Tonight:
    """An evening to be judged, on the names of its panel.

    Attributes:
        t: its place in the panel.
        raw, score: of the evening [N]: as the model gives them, headline weights; and standardised.
        before: standardised scores of the evening before by the same champion [N]; None on the first.
        bars: date of the newest bar of each listed name.
        sectors: sector33 codes of the names [N].
        matured: RankIC of published evenings with the one-day label.
    """

    day: date
    panel: Panel
    t: int
    raw: Floats
    score: Floats
    before: Floats | None
    bars: NDArray[np.datetime64]
    sectors: Sequence[str]
    matured: NDArray[np.float64]


def raw_of(scores: Floats, horizons: Sequence[int]) -> NDArray[np.float64]:
    """Scores [H,D,N] in headline weights, on the model's own scale [D,N]."""
    return np.einsum("h,hdn->dn", horizon_weights(horizons), scores.astype(np.float64))


def judge(tonight: Tonight, champion: Champion, usual: Usual, folder: Path, simulated: bool) -> list[Gate]:
    """What every gate says of an evening, in the order of `GATES`.

    Args:
        folder: where a person may lay the file that stops publication.
        simulated: the market is: its planted signals rank better than anything honest, and are no leak.
    """
    leak = gates.leak_alarm(tonight.matured)
    if simulated and not leak.passed:
        leak = replace(leak, passed=True, sentence=f"{leak.sentence}, but the signals of this market are planted")
    codes = sorted(set(tonight.sectors))
    numbers = np.array([codes.index(code) for code in tonight.sectors], dtype=np.int64)
    past, current, names = features(tonight.panel, tonight.t)
    said = [
        gates.kill_switch(folder),
        gates.catalogue_equal(champion.catalogue_hash, tonight.panel.description.catalogue_hash),
        gates.newest_bars(tonight.day, tonight.bars),
        gates.coverage(tonight.score, tonight.panel.valid[tonight.t]),
        gates.score_spread(tonight.raw, usual.spreads),
        gates.distinct_share(tonight.raw, usual.distinct),
        gates.rank_agreement(tonight.score, tonight.before, usual.agreements),
        gates.feature_drift(past, current, names),
        leak,
        gates.top_overlap(tonight.score, tonight.before, usual.overlaps),
        gates.sector_weights(tonight.score, numbers, [SECTOR33.get(code, code) for code in codes]),
        gates.champion_age(champion.as_of, tonight.day),
        gates.matured_rank_ic(tonight.matured, usual.rank_ic, usual.rank_ic_spread),
    ]
    by_name = {gate.name: gate for gate in said}
    return [by_name[name] for name in GATES]


def features(panel: Panel, t: int) -> tuple[list[NDArray[np.float32]], NDArray[np.float32], list[str]]:
    """The features of each of the evenings before [M,F], of an evening [N,F], and their names.

    Of the inputs as the model gets them, ranks, so that a wild day of the market moves none of them, while one that is
    broken shows as a heap. Columns that were equal for all names on every evening before, the market's and the
    calendar's, are left out: their one value of an evening says nothing.
    """
    days = [d for d in range(max(0, t - DRIFT_DAYS), t) if panel.valid[d].any()]
    past = [from_bfloat16(panel.tensors["x"][d][panel.valid[d]]) for d in days]
    current = from_bfloat16(panel.tensors["x"][t][panel.valid[t]])
    if not past:
        return [], current[:, :0], []
    # fmax and fmin pass over what is missing
    varied = np.logical_or.reduce([np.fmax.reduce(day) > np.fmin.reduce(day) for day in past])
    names = [name for name, there in zip(panel.features, varied, strict=True) if there]
    return [day[:, varied] for day in past], current[:, varied], names


def matured(store: Store, champion: Champion, label: str, day: date) -> NDArray[np.float64]:
    """RankIC with the one-day label of the champion's published evenings before a day, oldest first.

    Only returns that the evening knows are read, whatever the table of labels holds by now: the label of an evening
    ends at the next close, one from the open at the open after that.

    Args:
        label: y_cc or y_oo.
    """
    table = store.table(GROUP, NAME)
    published = table.keys()
    keys = [key for key in published if key <= month_key(day)][-MATURED_MONTHS:]
    if not keys:
        return np.zeros(0)
    known_before = previous_trading_day(day) if label == "y_oo" else day
    ours = (pl.col("status") == PUBLISHED) & (pl.col("model_run") == champion.champion_id)
    rows = table.read(keys, columns=["date", "code", "score", "model_run", "status"])
    rows = rows.filter(ours & (pl.col("date") < known_before))
    if rows["date"].n_unique() < gates.CUSUM_DAYS:
        return np.zeros(0)
    labels = store.table("features", "labels").read(columns=["date", "code", f"{label}_1d"])
    known = rows.join(labels, on=["date", "code"]).drop_nulls(f"{label}_1d").sort("date")
    daily = []
    for _, one in known.partition_by("date", as_dict=True, maintain_order=True).items():
        pair = one.select("score", f"{label}_1d").to_numpy().astype(np.float64).T  # [2,n]
        daily.append(daily_spearman(levels_of(pair[:1]), levels_of(pair[1:]))[0])
    return np.array(daily)
