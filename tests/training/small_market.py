"""A small market in a real store: 40 names, 300 trading days, one feature that ranks, one pair that moves together."""

import hashlib
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import numpy as np
import polars as pl

from atft_assets.calendar import month_key, trading_days
from atft_assets.settings import Plan, Settings
from atft_assets.store import Store
from atft_assets.training.panel import BuiltPanel, PanelConfig, build_panel, panel_asset
from atft_assets.training.phases import PHASES, train_asset

START, END = date(2019, 1, 4), date(2020, 6, 30)
NAMES = 40
HORIZONS = (1, 5, 10, 20)


@dataclass(frozen=True)
class Feature:
    """The part of a catalogue row that the panel reads."""

    name: str
    family: str = "price"
    kind: str = "time_series"
    lookback: int = 5


FEATURES = (
    Feature("signal"),
    Feature("noise"),
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

    def panel(self, **config) -> BuiltPanel:
        features, digest = catalogue("phase2")
        return build_panel(
            self.store, features, feature_set="phase2", catalogue_hash=digest, config=PanelConfig(**config)
        )

    def panel_asset(self):
        return panel_asset(self.settings, catalogue)

    def train_assets(self):
        return [train_asset(spec, self.settings, lambda name: catalogue(name)[1]) for spec in PHASES]

    def publish(self, group: str, name: str, frame: pl.DataFrame) -> None:
        """Publish a frame in months, or whole if it has no date or is the labels."""
        table = self.store.table(group, name)
        if name == "labels":
            table.publish([table.stage("all", frame, code_version="t")])
            return
        keyed = frame.with_columns(key=pl.col("date").dt.strftime("%Y-%m"))
        for (key,), rows in keyed.partition_by("key", as_dict=True).items():
            table.publish([table.stage(str(key), rows.drop("key"), code_version="t")])


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
    world.publish("raw", "daily_quotes", grid.with_columns(C=close, Va=va, AdjFactor=1.0))
    sectors = [f"{3050 + 100 * (n % 3)}" for n in range(NAMES)]
    universe = grid.with_columns(
        s33=pl.Series(sectors * len(days)), mkt=pl.Series((["0111", "0112"] * (NAMES // 2)) * len(days))
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
    world.publish("features", "phase2_features", features)
    labels = {}
    for h in HORIZONS:
        y = np.full(prices.shape, np.nan)
        y[:-h] = prices[h:] / prices[:-h] - 1
        y[:-h][untraded[h:] | untraded[:-h]] = np.nan
        labels[f"y_cc_{h}d"] = labels[f"y_oo_{h}d"] = pl.Series(y.ravel(), dtype=pl.Float32).fill_nan(None)
    world.publish("features", "labels", grid.with_columns(**labels))
    from atft_assets.training.graph import GraphConfig, month_graphs

    months = sorted({month_key(day) for day in days})
    table = world.store.table("graph", "correlation_graph")
    for key, frame in month_graphs(world.store, START, months, GraphConfig(k=4)):
        table.publish([table.stage(key, frame, code_version="t")])
    return world
