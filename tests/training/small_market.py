"""A small market in a real store: 40 names, 300 trading days, one feature that ranks, one pair that moves together."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import numpy as np
import polars as pl

from atft_assets.calendar import month_key, trading_days
from atft_assets.panel.asset import PublishedPanel, build_audit_publish, panel_asset
from atft_assets.panel.config import PanelConfig
from atft_assets.panel.sources import PanelFrames, PanelPlan, plan_panel, read_frames
from atft_assets.settings import Plan, Settings
from atft_assets.store import Store
from atft_assets.training.folds import FoldRow, audited, cut_rows, write_folds
from atft_assets.training.lanes import MAIN_LANE, Lane
from atft_assets.training.phases import phase_asset
from atft_model.interchange.fold import MAIN, Fold
from atft_model.interchange.panel import Panel, latest_panel, point_latest
from atft_model.interchange.phases import PHASES

START, END = date(2019, 1, 4), date(2020, 6, 30)
NAMES = 40
HORIZONS = (1, 5, 10, 20)
PREVIOUS_END = date(2020, 2, 12)  # the last validation day of main
# on fewer than 80 days a gain is not told from chance
FOLDS = (FoldRow(MAIN, least_validation_days=90), FoldRow("previous", end=PREVIOUS_END))


@dataclass(frozen=True)
class Feature:
    """The part of a catalogue row that the panel reads."""

    name: str
    family: str = "price"
    kind: str = "time_series"
    lookback: int = 5
    sequence: bool = False


FEATURES = (
    Feature("signal", sequence=True),
    Feature("noise", sequence=True),
    Feature("tied"),
    Feature("mkt_level", family="market", kind="market"),
    Feature("is_valid", family="validity", kind="flag"),
)


def catalogue(feature_set: str) -> tuple[tuple[Feature, ...], str]:
    text = feature_set + "".join(f.name for f in FEATURES)
    return FEATURES, hashlib.sha256(text.encode()).hexdigest()[:16]


@dataclass
class World:
    """The store and what is in it."""

    root: Path
    store: Store
    settings: Settings
    days: list[date]
    codes: list[str]
    returns: np.ndarray  # [T,N], row t is the return from t-1 to t

    def plan(self, features: Sequence[Feature] | None = None, **config) -> PanelPlan:
        known, digest = catalogue("full")
        named = {"feature_set": "full", "catalogue_hash": "0" if features else digest}
        return plan_panel(self.store, features or known, **named, config=PanelConfig(**config))

    def frames(self) -> PanelFrames:
        return read_frames(self.store, self.plan())

    def panel(self, features: Sequence[Feature] | None = None, **config) -> PublishedPanel:
        """Build and publish a panel; `latest` and the folds stay as they are."""
        return build_audit_publish(self.store, self.plan(features, **config))

    def newest(self) -> Panel:
        return latest_panel(self.store.local("panel"))

    def cut(self, panel: Panel, rows: Sequence[FoldRow] = FOLDS) -> dict[str, Fold]:
        """Make a panel the newest, and cut the folds on it as the asset does."""
        point_latest(self.store.local("panel"), panel.panel_id)
        kept, _ = audited(panel, cut_rows(panel.dates, rows))
        write_folds(self.store.local("fold", panel.panel_id), kept)
        return kept.folds

    def fold(self, name: str = MAIN) -> Fold:
        """A fold of the newest panel."""
        return cut_rows(self.newest().dates, FOLDS).folds[name]

    def runs(self, phase: int, fold: str = MAIN) -> Path:
        return self.store.local("runs", fold, f"phase{phase}")

    def panel_asset(self):
        return panel_asset(self.settings, catalogue)

    def phase_assets(self, lane: Lane = MAIN_LANE):
        return [phase_asset(phase, self.settings, lambda name: catalogue(name)[1], lane) for phase in PHASES]

    def publish(self, group: str, name: str, frame: pl.DataFrame) -> None:
        """Publish a frame in months, or whole if it has no date or is the labels."""
        table = self.store.table(group, name)
        if name == "labels":
            table.publish([table.stage("all", frame, code_version="t")])
            return
        keyed = frame.with_columns(key=pl.col("date").dt.strftime("%Y-%m"))
        for (key,), rows in keyed.partition_by("key", as_dict=True).items():
            table.publish([table.stage(str(key), rows.drop("key"), code_version="t")])


def liquidity_ranks(days: list[date], codes: list[str], va: pl.Series) -> list[int | None]:
    """Place of each row's name by its median trading value of the year before; null where that year is not held."""
    value = va.fill_null(0.0).to_numpy().reshape(len(days), len(codes))
    years = np.array([day.year for day in days])
    ranks: list[int | None] = []
    for year in years:
        before = value[years == year - 1]
        if not len(before):
            ranks += [None] * len(codes)
            continue
        middle = np.sort(before, axis=0)[::-1][len(before) // 2]
        order = np.lexsort((codes, -middle))
        ranks += (np.argsort(order) + 1).tolist()
    return ranks


def turnover_means(days: list[date], codes: list[str], va: pl.Series) -> list[float | None]:
    """Mean trading value of each row's name over its last 60 rows; null before there are so many."""
    value = va.fill_null(0.0).to_numpy().reshape(len(days), len(codes))
    sums = np.vstack([np.zeros(len(codes)), value.cumsum(axis=0)])
    means = np.full(value.shape, np.nan)
    means[59:] = (sums[60:] - sums[:-60]) / 60
    return pl.Series(means.ravel()).fill_nan(None).to_list()


def make_world(root: Path, seed: int = 0) -> World:
    """Returns follow today's `signal`; codes 0 and 1 share their residual, 2 moves against them."""
    rng = np.random.default_rng(seed)
    days = trading_days(START, END)
    codes = [f"{1000 + 7 * n}0" for n in range(NAMES)]
    signal = rng.normal(size=(len(days), NAMES))
    market = rng.normal(size=(len(days), 1)) * 0.01
    own = rng.normal(size=(len(days), NAMES)) * 0.02
    own[:, 1] = 0.9 * own[:, 0] + 0.3 * own[:, 1]
    own[:, 2] = -0.9 * own[:, 0] + 0.3 * own[:, 2]
    returns = market + own
    returns[1:] += 0.003 * signal[:-1]
    prices = 1000 * np.cumprod(1 + returns, axis=0)
    untraded = rng.random(prices.shape) < 0.01
    settings = Settings(base_url="http://127.0.0.1:9/v2", plan=Plan.STANDARD, data_root=str(root), start=START, end=END)
    world = World(root, Store(root=str(root)), settings, days, codes, returns)
    grid = pl.DataFrame({"date": np.repeat(np.array(days, "datetime64[D]"), NAMES), "code": codes * len(days)})
    grid = grid.with_columns(pl.col("date").cast(pl.Date))
    close = pl.Series(np.where(untraded, np.nan, prices).ravel()).fill_nan(None)
    # trading value falls from name to name; name 3 trades much in a few days only, name 4 not before autumn
    value = np.tile(1e9 / np.arange(1, NAMES + 1), (len(days), 1))
    value[:, 3] = np.where(np.arange(len(days)) % 5 == 0, 1e12, 0)
    value[:170, 4] = np.nan
    va = pl.Series(np.where(untraded, np.nan, value).ravel()).fill_nan(None)
    world.publish(
        "raw", "daily_quotes", grid.with_columns(O=close, H=close, L=close, C=close, Vo=close, Va=va, AdjFactor=1.0)
    )
    sectors = [f"{3050 + 100 * (n % 3)}" for n in range(NAMES)]
    universe = grid.with_columns(
        s33=pl.Series(sectors * len(days)),
        mkt=pl.Series((["0111", "0112"] * (NAMES // 2)) * len(days)),
        scale_cat=pl.Series((["TOPIX Small 1", "-"] * (NAMES // 2)) * len(days)),
        age=pl.Series(np.repeat(np.arange(1, len(days) + 1), NAMES), dtype=pl.Int32),
        traded=pl.Series(~untraded.ravel()),
        turnover_mean_60=pl.Series(turnover_means(days, codes, va), dtype=pl.Float64),
        liquidity_rank=pl.Series(liquidity_ranks(days, codes, va), dtype=pl.UInt32),
    )
    world.publish("features", "universe", universe)
    level = np.repeat(rng.normal(size=len(days)).cumsum(), NAMES)
    noise = np.where(rng.random(signal.shape) < 0.05, np.nan, rng.normal(size=signal.shape))
    features = grid.with_columns(
        signal=pl.Series(signal.ravel(), dtype=pl.Float32),
        noise=pl.Series(noise.ravel(), dtype=pl.Float32).fill_nan(None),
        tied=pl.Series(np.round(rng.normal(size=signal.shape)).ravel(), dtype=pl.Float32),
        mkt_level=pl.Series(level, dtype=pl.Float32),
        is_valid=pl.Series((rng.random(signal.shape) < 0.9).ravel()),
    )
    world.publish("features", "all_features", features)
    labels = {}
    for h in HORIZONS:
        y = np.full(prices.shape, np.nan)
        y[:-h] = prices[h:] / prices[:-h] - 1
        y[:-h][untraded[h:] | untraded[:-h]] = np.nan
        labels[f"y_cc_{h}d"] = labels[f"y_oo_{h}d"] = pl.Series(y.ravel(), dtype=pl.Float32).fill_nan(None)
    world.publish("features", "labels", grid.with_columns(**labels))
    from atft_assets.graph.asset import GraphConfig, month_graphs

    months = sorted({month_key(day) for day in days})
    table = world.store.table("graph", "correlation_graph")
    for key, frame in month_graphs(world.store, START, months, GraphConfig(k=4)):
        table.publish([table.stage(key, frame, code_version="t")])
    return world
