"""From tables to one dense file: the asset `training_panel`.

Everything a training reads, on one calendar and one list of names: features (normalised per day), validity, raw
labels, the month's graph. Built month by month, audited, published as a directory, `latest` moved last. Old panels
stay while a run refers to them.
"""

import hashlib
import json
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Any, Literal

import dagster as dg
import numpy as np
import polars as pl
from numpy.typing import NDArray

from atft_assets.calendar import month_key, months_between, shift_month, shift_trading_days, trading_days
from atft_assets.contracts import (
    CONTRACT_CHECK,
    ContractViolation,
    Verdict,
    contract_check,
    failed_check,
    failures_frame,
    require_columns,
)
from atft_assets.settings import Settings
from atft_assets.store import MissingColumns, Store, StoreError, Table
from atft_assets.training.evaluation import residual, trailing_volatility
from atft_assets.training.panel_contract import HORIZONS, LABELS, FeatureSums, PanelFeature, audit_panel
from atft_assets.training.panel_file import (
    Panel,
    PanelError,
    open_panel,
    point_latest,
    prune_panels,
    publish_panel,
    sector_numbers,
    staged_panel,
    to_bfloat16,
    write_panel,
)
from atft_assets.training.ranking import gaussian_ranks
from atft_assets.training.runs import panels_in_use
from atft_assets.training.splits import EMBARGO_DAYS, PURGE_DAYS, SplitError, split_by_date

CODE_VERSION = "1"
FORMAT = 1

# Three simulated years must hold three blocks and two gaps; waiting for the longest look-back would take one of them.
SANDBOX_WARM_UP_DAYS = 63

MARKET_WINDOW = 252  # trading days over which market-level features are standardised
MARKET_LEAST = 20  # known values without which such a feature is 0
MARKET_CLIP = 5.0

# (group, table), in the order of the road
SOURCES = (
    ("raw", "daily_quotes"),
    ("features", "universe"),
    ("features", "phase2_features"),
    ("features", "labels"),
    ("graph", "correlation_graph"),
)


class PanelConfig(dg.Config):
    """What goes into the panel and where it is cut.

    Attributes:
        feature_set: "core", "phase1" or "phase2"; by default core on the sandbox, phase2 elsewhere.
        start, end: first and last day (YYYY-MM-DD); by default all days after the warm-up.
        warm_up_days: trading days from the first row of data to the panel's first day; by default the longest look-back
            of the features, and on the sandbox 63. A feature that looks back further is missing (0) until it can.
        validation_start, test_start: first days of the blocks; by default the last 15 % of the days are test, as many
            before them validation.
        purge_days, embargo_days: trading days left out between two blocks.
        min_history: rows of a name in the universe before it is valid.
        most_liquid: only so many names are valid in a calendar year: those whose median daily trading value was largest
            in the year before, as an index is reconstituted; by default all.
        target: what models are fitted to: "raw" returns, or what is left of them ("neutral") once sector and 20-day
            volatility are taken out of each day, which is what the neutral figures of the evaluation judge.
        min_names: least number of valid names on half of the days.
        keep: newest panels that stay on disk, besides those that a run refers to.
    """

    feature_set: str | None = None
    start: str | None = None
    end: str | None = None
    warm_up_days: int | None = None
    validation_start: str | None = None
    test_start: str | None = None
    purge_days: int = PURGE_DAYS
    embargo_days: int = EMBARGO_DAYS
    min_history: int = 60
    most_liquid: int | None = None
    target: Literal["raw", "neutral"] = "raw"
    min_names: int = 20
    keep: int = 3


def default_feature_set(settings: Settings) -> str:
    """A small set on the sandbox, so that its curriculum takes minutes; everything elsewhere."""
    return "core" if settings.sandbox else "phase2"


@dataclass
class _Names:
    """The axis of names and what the universe says of them."""

    codes: list[str]
    sectors: list[str]
    ages: NDArray[np.int32]  # [T,N] rows in the universe up to the day; 0 on a day without a row

    def only(self, kept: NDArray[np.integer]) -> "_Names":
        """The names at some places of the axis."""
        return _Names([self.codes[n] for n in kept], [self.sectors[n] for n in kept], self.ages[:, kept])


@dataclass(frozen=True)
class BuiltPanel:
    """A published panel and whether it was there already."""

    panel: Panel
    reused: bool


def build_panel(
    store: Store,
    features: Sequence[PanelFeature],
    *,
    feature_set: str,
    catalogue_hash: str,
    config: PanelConfig,
) -> BuiltPanel:
    """Build, audit and publish the panel of the store's current tables; `latest` is not moved.

    The same sources, config and catalogue give the same id, and a panel that stands is used again.

    Raises:
        MissingTable, MissingColumns: an input was not published, or lacks a feature.
        SplitError: the days do not suffice for three blocks.
        ContractViolation: the panel is not fit to train on.
    """
    features_table = store.table("features", "phase2_features")
    universe = store.table("features", "universe")
    graph = store.table("graph", "correlation_graph")
    labels = store.table("features", "labels")
    first_row = _edge_day(universe, first=True)
    last_row = _edge_day(universe, first=False)
    warm_up = config.warm_up_days
    if warm_up is None:
        warm_up = max((f.lookback for f in features), default=0)
    start = date.fromisoformat(config.start) if config.start else shift_trading_days(first_row, warm_up)
    end = min(date.fromisoformat(config.end), last_row) if config.end else last_row
    days = trading_days(start, end)
    try:
        split = split_by_date(
            days,
            validation_start=date.fromisoformat(config.validation_start) if config.validation_start else None,
            test_start=date.fromisoformat(config.test_start) if config.test_start else None,
            purge_days=config.purge_days,
            embargo_days=config.embargo_days,
        )
    except SplitError as error:
        raise SplitError(
            f"{error}. The first row of the universe is of {first_row}; without a start date in its config the panel "
            f"begins {warm_up} trading days later (the longest look-back of the feature set {feature_set!r} is "
            f"{max((f.lookback for f in features), default=0)})"
        ) from error

    panel_months = months_between(month_key(days[0]), month_key(days[-1]))
    # market-level features are standardised over a year, names age from their first row
    feature_months = [
        k for k in features_table.manifest().entries if shift_month(panel_months[0], -13) <= k <= panel_months[-1]
    ]
    universe_months = [k for k in universe.manifest().entries if k <= panel_months[-1]]
    sources = {
        "features/phase2_features": features_table.version(sorted({*feature_months, *panel_months})),
        "features/universe": universe.version(universe_months),
        "features/labels": labels.version(),
        "raw/daily_quotes": store.table("raw", "daily_quotes").version(panel_months),
        "graph/correlation_graph": graph.version(panel_months),
    }
    identity = {
        "format": FORMAT,
        "code_version": CODE_VERSION,
        "sources": sources,
        "catalogue_hash": catalogue_hash,
        "feature_set": feature_set,
        "config": {k: v for k, v in config.model_dump().items() if k not in ("feature_set", "keep")},
    }
    panel_id = hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:16]
    panels = store.local("panel")
    try:
        return BuiltPanel(open_panel(panels / panel_id), reused=True)
    except PanelError:
        pass  # not there, or damaged: build it

    names = _names(universe, universe_months, days)
    sums = FeatureSums.zeros(len(features))
    valid = (names.ages >= config.min_history) & _traded(store, panel_months, days, names.codes)
    if config.most_liquid is not None:
        valid &= _most_liquid(store, config.most_liquid, days, names.codes)
        (kept,) = np.nonzero(valid.any(axis=0))
        names, valid = names.only(kept), valid[:, kept]
    x = _fill_features(features_table, feature_months, features, days, names.codes, valid, sums)
    y = _fill_labels(labels, days, names.codes)
    label = target = "y_cc"
    if config.target == "neutral":
        target = "y_neutral"
        y[target] = neutral_returns(y[label], valid, sector_numbers(names.sectors))
    tensors = {"x": x, "valid": valid, **y, **_fill_graph(graph, panel_months, days, names.codes)}
    description = {
        "format": FORMAT,
        "panel_id": panel_id,
        "dates": [str(day) for day in days],
        "codes": names.codes,
        "features": [{"name": f.name, "family": f.family, "kind": str(f.kind)} for f in features],
        "feature_set": feature_set,
        "catalogue_hash": catalogue_hash,
        "horizons": list(HORIZONS),
        "split": split.as_json(),
        "label": label,
        "target": target,
        "sources": sources,
        "sector33": names.sectors,
        "created_at": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    verdict = audit_panel(
        tensors, days=days, features=features, split=split, sums=sums, panel_id=panel_id, min_names=config.min_names
    )
    if not verdict.passed:
        raise ContractViolation(verdict)
    with staged_panel(panels) as folder:
        write_panel(folder, tensors, description)
        return BuiltPanel(open_panel(publish_panel(folder, panels, panel_id)), reused=False)


def _edge_day(universe: Table, *, first: bool) -> date:
    key = None if not (keys := universe.keys()) else keys[0 if first else -1]
    dates = universe.read([key] if key else None, columns=["date"])["date"].sort()
    return dates[0] if first else dates[-1]


def _names(universe: Table, keys: list[str], days: list[date]) -> _Names:
    """Names with a row on a day of the panel, ascending; ages counted from a name's first row anywhere."""
    frames = []
    for key in keys:
        frame = universe.read([key])
        require_columns(frame, ["date", "code", "s33"], table="universe", partition=key)
        frames.append(frame.select("date", pl.col("code").cast(pl.Categorical), pl.col("s33").cast(pl.Categorical)))
    rows = pl.concat(frames).sort("date")
    newest = rows.unique("code", keep="last").select(pl.col("code").cast(pl.String), pl.col("s33").cast(pl.String))
    names = newest.sort("code")
    codes = names["code"].to_list()
    aged = rows.select(
        "date", pl.col("code").cast(pl.String), age=pl.int_range(1, pl.len() + 1, dtype=pl.Int32).over("code")
    )
    aged = _positions(aged, days, codes)
    ages = np.zeros((len(days), len(codes)), np.int32)
    ages[aged["t"].to_numpy(), aged["n"].to_numpy()] = aged["age"].to_numpy()
    there = ages.any(axis=0)
    kept = names.filter(pl.Series(there))
    return _Names(kept["code"].to_list(), kept["s33"].fill_null("").to_list(), ages[:, there])


def _traded(store: Store, keys: list[str], days: list[date], codes: list[str]) -> NDArray[np.bool_]:
    """Whether a name had a price on a day [T,N]: a bar without a trade is null, but a row of the universe."""
    quotes = store.table("raw", "daily_quotes")
    traded = np.zeros((len(days), len(codes)), bool)
    for key in keys:
        frame = quotes.read([key], columns=["date", "code", "C"]).filter(pl.col("C").is_not_null())
        rows = _positions(frame, days, codes)
        traded[rows["t"].to_numpy(), rows["n"].to_numpy()] = True
    return traded


def _most_liquid(store: Store, count: int, days: list[date], codes: list[str]) -> NDArray[np.bool_]:
    """Whether a name is among the `count` most traded of the calendar year before the day [T,N].

    A day without a trade counts as zero, so does a day of that year before the listing: the median asks for half a
    year of trading.

    Raises:
        SplitError: quotes of a year before a day of the panel were not published.
    """
    quotes = store.table("raw", "daily_quotes")
    published = set(quotes.manifest().entries)
    member = np.zeros((len(days), len(codes)), bool)
    years = np.array([day.year for day in days])
    for year in np.unique(years):
        before = months_between(f"{year - 1}-01", f"{year - 1}-12")
        if missing := [key for key in before if key not in published]:
            raise SplitError(
                f"most_liquid ranks the names of {year} by their trading in {year - 1}, but daily_quotes lacks "
                f"{missing[0]}{f' and {len(missing) - 1} more months' if len(missing) > 1 else ''}: let the panel "
                f"start later (config `start`) or fetch that year"
            )
        traded = quotes.read(before, columns=["date", "code", "Va"])
        sessions = traded["date"].n_unique()
        value = (
            traded.filter(pl.col("code").is_in(codes))
            .group_by("code")
            .agg(pl.col("Va").fill_null(0.0).sort(descending=True).alias("values"))
            .with_columns(median=pl.col("values").list.get(sessions // 2, null_on_oob=True).fill_null(0.0))
            .sort(["median", "code"], descending=[True, False])
            .head(count)
        )
        member[np.ix_(years == year, np.isin(codes, value["code"].to_numpy()))] = True
    return member


def _fill_features(
    table: Table,
    keys: list[str],
    features: Sequence[PanelFeature],
    days: list[date],
    codes: list[str],
    valid: NDArray[np.bool_],
    sums: FeatureSums,
) -> NDArray[np.uint16]:
    """The tensor x [T,N,F] in bfloat16 bits, month by month."""
    names = [f.name for f in features]
    kinds = np.array([str(f.kind) for f in features])
    market, flags = np.flatnonzero(kinds == "market"), np.flatnonzero(kinds == "flag")
    ranked = np.flatnonzero((kinds != "market") & (kinds != "flag"))
    x = np.zeros((len(days), len(codes), len(features)), np.uint16)
    place = {day: t for t, day in enumerate(days)}
    history: list[NDArray[np.float32]] = []  # market-level values, one row a day, oldest first

    def fill(work: tuple[int, NDArray[np.int64], NDArray[np.float32], NDArray[np.float32]]) -> FeatureSums:
        t, who, values, level = work
        normal = np.empty_like(values)
        normal[:, ranked] = gaussian_ranks(values[:, ranked])
        normal[:, flags] = values[:, flags] - 0.5
        normal[:, market] = level
        missing = ~np.isfinite(normal)
        normal[missing] = 0
        x[t, who] = to_bfloat16(normal)
        return FeatureSums.of(normal, missing)

    with ThreadPoolExecutor(2) as pool:
        for key in keys:
            frame = table.read([key], columns=["date", "code", *names]).sort("date", "code")
            known = frame.with_columns(pl.col("code").replace_strict(codes, range(len(codes)), default=-1).alias("n"))
            work = []
            for (day,), rows in known.partition_by("date", as_dict=True, maintain_order=True).items():
                values = rows.select(pl.col(names).cast(pl.Float32)).to_numpy()
                if len(market):
                    history.append(_first_known(values[:, market]))
                    history = history[-MARKET_WINDOW:]
                if day in place:
                    t, who = place[day], rows["n"].to_numpy()
                    kept = (who >= 0) & valid[t, who]
                    level = standardised(np.stack(history)) if len(market) else np.zeros(0, np.float32)
                    work.append((t, who[kept], values[kept], level))
            for day_sums in pool.map(fill, work):
                sums.add(day_sums)
    return x


def _first_known(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """The value of the day of market-level columns: equal for all names that have it."""
    known = np.isfinite(values)
    picked = values[known.argmax(axis=0), np.arange(values.shape[1])]
    return np.where(known.any(axis=0), picked, np.nan).astype(np.float32)


def standardised(history: NDArray[np.float32]) -> NDArray[np.float32]:
    """The newest row in standard deviations from the mean of the known rows, itself among them, within ±5.

    Args:
        history: [D,F] trailing daily values, oldest first; NaN is missing.

    Returns:
        [F] float32; NaN where the newest value is missing, fewer than 20 are known, or they do not vary.
    """
    known = np.isfinite(history)
    count = known.sum(axis=0)
    values = np.where(known, history, 0).astype(np.float64)
    mean = values.sum(axis=0) / np.maximum(count, 1)
    deviation = np.sqrt((np.where(known, values - mean, 0) ** 2).sum(axis=0) / np.maximum(count, 1))
    usable = known[-1] & (count >= MARKET_LEAST) & (deviation > 1e-9 * np.maximum(np.abs(mean), 1e-6))
    z = (values[-1] - mean) / np.where(usable, deviation, 1)
    return np.where(usable, np.clip(z, -MARKET_CLIP, MARKET_CLIP), np.nan).astype(np.float32)


def _positions(frame: pl.DataFrame, days: list[date], codes: list[str]) -> pl.DataFrame:
    """Rows of the frame that lie on the panel's axes, with their places t and n."""
    return frame.join(
        pl.DataFrame({"date": days, "t": range(len(days))}, schema={"date": pl.Date, "t": pl.Int64}), on="date"
    ).join(pl.DataFrame({"code": codes, "n": range(len(codes))}, schema={"code": pl.String, "n": pl.Int64}), on="code")


def _fill_labels(table: Table, days: list[date], codes: list[str]) -> dict[str, NDArray[np.float32]]:
    """Raw returns [H,T,N] of both label kinds, NaN where unknown."""
    columns = [f"{label}_{h}d" for label in LABELS for h in HORIZONS]
    rows = _positions(table.read(columns=["date", "code", *columns]), days, codes)
    t, n = rows["t"].to_numpy(), rows["n"].to_numpy()
    filled = {}
    for label in LABELS:
        filled[label] = np.full((len(HORIZONS), len(days), len(codes)), np.nan, np.float32)
        for i, h in enumerate(HORIZONS):
            filled[label][i, t, n] = rows[f"{label}_{h}d"].cast(pl.Float32).to_numpy()
    return filled


def neutral_returns(
    returns: NDArray[np.float32], valid: NDArray[np.bool_], sectors: NDArray[np.integer]
) -> NDArray[np.float32]:
    """Returns without what sector and 20-day volatility explain of them on the day.

    Args:
        returns: [H,T,N] raw, the first horizon one day; NaN where unknown.
        valid: [T,N], the names that are ranked against each other.
        sectors: [N] numbers.

    Returns:
        [H,T,N] residuals of `evaluation.residual`, NaN where a name is not valid or its return unknown.
    """
    volatility = trailing_volatility(returns[0], range(returns.shape[1]))
    neutral = np.full_like(returns, np.nan)
    for h, t in np.ndindex(returns.shape[:2]):
        rows = valid[t] & np.isfinite(returns[h, t])
        if rows.any():
            values = returns[h, t, rows].astype(np.float64)
            neutral[h, t, rows] = residual(values, volatility[t, rows], sectors[rows])
    return neutral


def _fill_graph(table: Table, keys: list[str], days: list[date], codes: list[str]) -> dict[str, NDArray[Any]]:
    """The neighbour tables [P,N,K]: the name itself first, unused slots its own index and masked."""
    columns = ["code", "rank", "neighbour", "corr", "same_market", "same_sector", "warm_up"]
    place = pl.DataFrame({"code": codes, "n": range(len(codes))}, schema={"code": pl.String, "n": pl.Int64})
    period = {key: p for p, key in enumerate(keys)}
    frames = [
        table.read([key], columns=columns)
        .filter(~pl.col("warm_up"))
        .join(place, on="code")
        .join(place.rename({"code": "neighbour", "n": "m"}), on="neighbour")
        .with_columns(slot=pl.col("rank").rank("ordinal").over("code").cast(pl.Int64))
        for key in keys
    ]
    slots = 1 + max((max(frame["slot"].to_list(), default=0) for frame in frames), default=0)
    shape = (len(keys), len(codes), slots)
    own = np.arange(len(codes), dtype=np.int32)
    neighbours = np.broadcast_to(own[:, None], shape).copy()
    mask, attributes = np.zeros(shape, bool), np.zeros((*shape, 3), np.float32)
    mask[:, :, 0], attributes[:, :, 0] = True, 1.0
    for p, frame in enumerate(frames):
        n, slot = frame["n"].to_numpy(), frame["slot"].to_numpy()
        neighbours[p, n, slot] = frame["m"].to_numpy()
        attributes[p, n, slot] = frame.select(pl.col("corr", "same_market", "same_sector").cast(pl.Float32)).to_numpy()
        mask[p, n, slot] = True
    return {
        "neighbours": neighbours,
        "neighbour_attr": attributes,
        "neighbour_mask": mask,
        "graph_period": np.array([period[month_key(day)] for day in days], np.int32),
    }


def catalogued(feature_set: str) -> tuple[Sequence[PanelFeature], str]:
    """The features of a named set, and the hash of what the catalogue says of them."""
    from atft_assets.features import catalogue

    features = catalogue.feature_set(feature_set)
    return features, catalogue.catalogue_hash(features)


def panel_asset(
    settings: Settings, features_of: Callable[[str], tuple[Sequence[PanelFeature], str]] = catalogued
) -> dg.AssetsDefinition:
    """The asset `training_panel`.

    Args:
        features_of: the features of a named set, and their catalogue hash.
    """

    @dg.asset(
        name="training_panel",
        group_name="training",
        deps=[name for _, name in SOURCES],
        check_specs=[contract_check("training_panel")],
        code_version=CODE_VERSION,
        kinds={"numpy", "safetensors"},
        owners=["team:atft"],
        tags={"atft/kind": "panel"},
        description="Features, labels and graph on one calendar and one list of names: all that a training reads.",
    )
    def training_panel(context: dg.AssetExecutionContext, config: PanelConfig, store: Store):
        chosen = config.feature_set or default_feature_set(settings)
        if settings.sandbox and config.warm_up_days is None:
            config = config.model_copy(update={"warm_up_days": SANDBOX_WARM_UP_DAYS})
        features, catalogue_hash = features_of(chosen)
        try:
            built = build_panel(store, features, feature_set=chosen, catalogue_hash=catalogue_hash, config=config)
        except (ContractViolation, MissingColumns) as error:
            verdict = error.verdict if isinstance(error, ContractViolation) else _missing_verdict(error)
            yield failed_check("training_panel", verdict)
            raise dg.Failure(
                f"{verdict}. No panel was published, the pointer `latest` is as it was. "
                "See the check `contract` of training_panel.",
                allow_retries=False,
            ) from error
        except (StoreError, SplitError) as error:
            raise dg.Failure(f"training_panel cannot be built: {error}", allow_retries=False) from error
        panel, panels = built.panel, store.local("panel")
        point_latest(panels, panel.panel_id)
        removed = prune_panels(panels, panels_in_use(store.local("runs")) | {panel.panel_id}, config.keep)
        context.log.info(
            f"panel {panel.panel_id}: {len(panel.dates)} days × {len(panel.codes)} names × {len(panel.features)} "
            f"features{', as it stood' if built.reused else ''}{'; removed ' + ', '.join(removed) if removed else ''}"
        )
        yield dg.MaterializeResult(
            asset_key="training_panel",
            data_version=dg.DataVersion(panel.panel_id),
            metadata={
                "panel_id": panel.panel_id,
                "path": dg.MetadataValue.path(str(panel.folder)),
                "days": len(panel.dates),
                "names": len(panel.codes),
                "features": len(panel.features),
                "feature_set": chosen,
                "valid_share": float(panel.valid.mean()),
                "names_a_day": float(panel.valid.sum(axis=1).mean()),
                "graph_slots": int(panel.tensors["neighbours"].shape[2]),
                "megabytes": panel.description["bytes"] / 1e6,
                "catalogue_hash": panel.description["catalogue_hash"],
                "split": dg.MetadataValue.json(panel.description["split"]),
                "through_date": str(panel.dates[-1]),
            },
        )
        yield dg.AssetCheckResult(
            passed=True,
            asset_key="training_panel",
            check_name=CONTRACT_CHECK,
            metadata={"valid_share": float(panel.valid.mean()), "features": len(panel.features)},
        )

    return training_panel


def _missing_verdict(error: MissingColumns) -> Verdict:
    rows = [(c, "required input column is present", 0, str(error)) for c in error.columns]
    return Verdict(error.table, error.key, failures_frame(rows))
