"""From the frames of a plan to the tensors of a panel and their description: pure functions, top to bottom."""

from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from atft_assets.calendar import month_key, months_between
from atft_assets.panel.config import Label, Target
from atft_assets.panel.contract import FeatureSums
from atft_assets.panel.normalise import Scaling
from atft_assets.panel.sources import PanelFrames, PanelPlan, PanelRefused
from atft_assets.scoring.neutral import neutral_returns
from atft_model.interchange.horizons import HORIZONS, LABELS
from atft_model.interchange.panel import (
    FORMAT,
    NEUTRAL,
    PanelDescription,
    PanelFeature,
    sector_numbers,
    to_bfloat16,
)


@dataclass(frozen=True)
class BuiltPanel:
    """A panel that nobody has judged yet; `sums` are of its filled cells, before missing ones became 0."""

    tensors: dict[str, NDArray[Any]]
    description: PanelDescription
    sums: FeatureSums


def build_panel(plan: PanelPlan, frames: PanelFrames) -> BuiltPanel:
    """Put features, labels and graph on one calendar and one list of names.

    Returns:
        Tensors as `atft_model.interchange.panel.SPECS` has them.

    Raises:
        PanelRefused: names are to be chosen by their trading in a year that the universe does not know.
        MissingColumns: a month of the features lacks one.
    """
    names = members(frames.universe, plan.days)
    present = listed(names, plan)
    valid = present & trades_enough(names, plan)
    if plan.config.most_liquid is None and not plan.config.turnover_floor:
        kept = np.arange(len(names.codes))
    else:
        (kept,) = np.nonzero(valid.any(axis=0))
    x, sums = features(frames.features, plan.features, plan.days, names.codes, present, kept)
    names, valid = names.only(kept), valid[:, kept]
    y = labels(frames.labels, plan.days, names.codes)
    label = target = str(plan.config.label or Label.y_cc)
    if plan.config.target is Target.neutral:
        target = NEUTRAL
        y[NEUTRAL] = neutral_returns(y[label], y[Label.y_cc][0], valid, sector_numbers(names.sectors))
    tensors = {"x": x, "valid": valid, **y, **graph(frames.graphs, plan.months, plan.days, names.codes)}
    description = PanelDescription(
        format=FORMAT,
        panel_id=plan.panel_id,
        dates=plan.days,
        codes=tuple(names.codes),
        features=plan.features,
        feature_set=plan.feature_set,
        catalogue_hash=plan.catalogue_hash,
        horizons=HORIZONS,
        label=label,
        target=target,
        sources=plan.sources,
        sector33=tuple(names.sectors),
        turnover_floor=plan.config.turnover_floor or 0,
        created_at=datetime.now(UTC).isoformat(timespec="seconds"),
    )
    return BuiltPanel(tensors, description, sums)


@dataclass(frozen=True)
class Members:
    """The axis of names, and what the universe says of their rows.

    Attributes:
        codes: N names with a row on a day of the panel, ascending.
        sectors: newest sector33 code of each.
        there: [T,N] whether a name has a row.
        age: [T,N] int32, rows of the name in the universe up to the day; 0 without a row.
        traded: [T,N] whether it had a price.
        turnover: [T,N] float64, yen a day over the last 60 rows; 0 where it is not known or nobody asks for it.
        rank: [T,N] uint32, place by its trading in the year before, the first is 1; 0 where it is not known.
    """

    codes: list[str]
    sectors: list[str]
    there: NDArray[np.bool_]
    age: NDArray[np.int32]
    traded: NDArray[np.bool_]
    turnover: NDArray[np.float64]
    rank: NDArray[np.uint32]

    def only(self, kept: NDArray[np.integer]) -> "Members":
        """The names at some places of the axis."""
        return Members(
            [self.codes[n] for n in kept],
            [self.sectors[n] for n in kept],
            self.there[:, kept],
            self.age[:, kept],
            self.traded[:, kept],
            self.turnover[:, kept],
            self.rank[:, kept],
        )


def members(universe: pl.DataFrame, days: Sequence[date]) -> Members:
    """The names of the universe on the panel's days."""
    rows = universe.join(_axis("date", days, "t"), on="date")
    newest = rows.sort("t").unique("code", keep="last").sort("code")
    codes = newest["code"].to_list()
    rows = rows.join(_axis("code", codes, "n"), on="code")
    cells = (rows["t"].to_numpy(), rows["n"].to_numpy())
    shape = (len(days), len(codes))
    there, age, traded = np.zeros(shape, bool), np.zeros(shape, np.int32), np.zeros(shape, bool)
    turnover, rank = np.zeros(shape), np.zeros(shape, np.uint32)
    there[cells] = True
    age[cells] = rows["age"].fill_null(0).to_numpy()
    traded[cells] = rows["traded"].fill_null(False).to_numpy()
    if "turnover_mean_60" in rows.columns:
        turnover[cells] = rows["turnover_mean_60"].fill_null(0.0).to_numpy()
    rank[cells] = rows["liquidity_rank"].fill_null(0).to_numpy()
    return Members(codes, newest["s33"].fill_null("").to_list(), there, age, traded, turnover, rank)


def listed(names: Members, plan: PanelPlan) -> NDArray[np.bool_]:
    """Whether a name is there on a day [T,N], with features and a rank among the others: old enough, traded, among the
    most liquid of the year.

    Raises:
        PanelRefused: the most liquid are asked for, and the year before a day of the panel is not known.
    """
    present = (names.age >= plan.config.min_history) & names.traded
    if plan.config.most_liquid is None:
        return present
    years = np.array([day.year for day in plan.days])
    for year in np.unique(years).tolist():
        if names.there[years == year].any() and not names.rank[years == year].any():
            raise PanelRefused(_unknown_year(year, plan.published))
    return present & (names.rank > 0) & (names.rank <= plan.config.most_liquid)


def trades_enough(names: Members, plan: PanelPlan) -> NDArray[np.bool_]:
    """Whether a name's trading of late reaches the floor [T,N].

    A name may cross it from day to day. What is below is neither learned from nor judged, but keeps its features: a
    window that looks back from a day above the floor is whole.
    """
    return names.turnover >= (plan.config.turnover_floor or 0)


def _unknown_year(year: int, published: Sequence[str]) -> str:
    missing = [key for key in months_between(f"{year - 1}-01", f"{year - 1}-12") if key not in published]
    lacks = f"lacks {missing[0]}{f' and {len(missing) - 1} more months' if len(missing) > 1 else ''}" if missing else ""
    return (
        f"most_liquid ranks the names of {year} by their trading in {year - 1}, but the universe "
        f"{lacks or 'was built without that year'}: let the panel start later (config `start`) or fetch that year and "
        f"materialize the universe of {year} again"
    )


def features(
    months: Iterable[pl.DataFrame],
    wanted: Sequence[PanelFeature],
    days: Sequence[date],
    codes: Sequence[str],
    present: NDArray[np.bool_],
    kept: NDArray[np.integer],
) -> tuple[NDArray[np.uint16], FeatureSums]:
    """The tensor x [T,N,F] in bfloat16 bits, 0 where a value is missing or a name not there; and sums of its cells.

    Args:
        months: frames of date, code and the wanted columns, oldest first; months before the days are history of the
            market-level ones.
        codes: all members.
        present: [T,len(codes)], who is ranked on a day, whether on the axis N or not.
        kept: places in `codes` of the axis N.
    """
    columns = [f.name for f in wanted]
    scaling = Scaling([f.kind for f in wanted])
    x = np.zeros((len(days), len(kept), len(wanted)), np.uint16)
    on_axis = np.full(len(codes), -1)
    on_axis[kept] = np.arange(len(kept))
    sums = FeatureSums.zeros(len(wanted))
    place = {day: t for t, day in enumerate(days)}

    def fill(work: tuple[int, NDArray[np.int64], NDArray[np.float32], NDArray[np.float32]]) -> FeatureSums:
        t, who, values, level = work
        scaled, who = scaling.scaled(values, level), on_axis[who]
        scaled, who = scaled[who >= 0], who[who >= 0]
        missing = ~np.isfinite(scaled)
        scaled[missing] = 0
        x[t, who] = to_bfloat16(scaled)
        return FeatureSums.of(scaled, missing)

    with ThreadPoolExecutor(2) as pool:
        for month in months:
            known = month.sort("date", "code").with_columns(
                pl.col("code").replace_strict(codes, range(len(codes)), default=-1).alias("n")
            )
            work = []
            for (day,), rows in known.partition_by("date", as_dict=True, maintain_order=True).items():
                values = rows.select(pl.col(columns).cast(pl.Float32)).to_numpy()
                level = scaling.level(values)
                if day in place:
                    t, who = place[day], rows["n"].to_numpy()
                    ranked = (who >= 0) & present[t, who]
                    work.append((t, who[ranked], values[ranked], level))
            for day_sums in pool.map(fill, work):
                sums.add(day_sums)
    return x, sums


def labels(frame: pl.DataFrame, days: Sequence[date], codes: Sequence[str]) -> dict[str, NDArray[np.float32]]:
    """Raw returns [H,T,N] of both label kinds, NaN where unknown."""
    rows = frame.join(_axis("date", days, "t"), on="date").join(_axis("code", codes, "n"), on="code")
    t, n = rows["t"].to_numpy(), rows["n"].to_numpy()
    filled = {}
    for label in LABELS:
        filled[label] = np.full((len(HORIZONS), len(days), len(codes)), np.nan, np.float32)
        for i, h in enumerate(HORIZONS):
            filled[label][i, t, n] = rows[f"{label}_{h}d"].cast(pl.Float32).to_numpy()
    return filled


def graph(
    months: Sequence[pl.DataFrame], keys: Sequence[str], days: Sequence[date], codes: Sequence[str]
) -> dict[str, NDArray[Any]]:
    """The neighbour tables [P,N,K]: the name itself first, unused slots its own index and masked.

    Args:
        months: edges of each month in `keys`; those of a month that warms up are left out.
    """
    place = _axis("code", codes, "n")
    frames = [
        month.filter(~pl.col("warm_up"))
        .join(place, on="code")
        .join(place.rename({"code": "neighbour", "n": "m"}), on="neighbour")
        .with_columns(slot=pl.col("rank").rank("ordinal").over("code").cast(pl.Int64))
        for month in months
    ]
    slots = 1 + max((max(frame["slot"].to_list(), default=0) for frame in frames), default=0)
    shape = (len(frames), len(codes), slots)
    own = np.arange(len(codes), dtype=np.int32)
    neighbours = np.broadcast_to(own[:, None], shape).copy()
    mask, attributes = np.zeros(shape, bool), np.zeros((*shape, 3), np.float32)
    mask[:, :, 0], attributes[:, :, 0] = True, 1.0
    for p, frame in enumerate(frames):
        n, slot = frame["n"].to_numpy(), frame["slot"].to_numpy()
        neighbours[p, n, slot] = frame["m"].to_numpy()
        attributes[p, n, slot] = frame.select(pl.col("corr", "same_market", "same_sector").cast(pl.Float32)).to_numpy()
        mask[p, n, slot] = True
    period = {key: p for p, key in enumerate(keys)}
    return {
        "neighbours": neighbours,
        "neighbour_attr": attributes,
        "neighbour_mask": mask,
        "graph_period": np.array([period[month_key(day)] for day in days], np.int32),
    }


def _axis(name: str, values: Sequence[Any], place: str) -> pl.DataFrame:
    """Values of an axis with their places."""
    dtype = pl.Date if name == "date" else pl.String
    return pl.DataFrame({name: values, place: range(len(values))}, schema={name: dtype, place: pl.Int64})
