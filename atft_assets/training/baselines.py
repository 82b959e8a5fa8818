"""What a model must beat: ridge, LightGBM and two one-line rules, on the same panel, rows and label.

Fitted on the train block alone, on the daily gaussian ranks of the panel's target (which a market-wide move does not
change), the same that the network learns. Their
scores of the validation and test blocks are stored; nobody looks at how good those of the test block are until
`test_evaluation`.
"""

import json
import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import dagster as dg
import numpy as np
import polars as pl
from numpy.typing import NDArray

from atft_assets.store import Store, StoreError, write_text_atomically
from atft_assets.training.block import Block
from atft_assets.training.evaluation import Floats, trailing_return, trailing_volatility
from atft_assets.training.panel_file import Panel, PanelError, latest_panel
from atft_assets.training.ranking import gaussian_ranks
from atft_assets.training.runs import LATEST

CODE_VERSION = "1"
STAGE = "baselines"  # folder under runs/
BLOCKS = ("validation", "test")

RIDGE_PENALTIES = (1e-4, 1e-3, 1e-2, 1e-1, 1.0)  # relative to the number of rows
HOLDOUT = 0.2  # newest share of the training days, on which the penalty is chosen
ONE_THREAD_ROWS = 200_000
REVERSAL_DAYS = 5
VOLATILITY_DAYS = 20

Predict = Callable[[Panel, range], Floats]  # scores [H, len(days), N] of days


class BaselineConfig(dg.Config):
    """How the baselines are fitted.

    Attributes:
        seed: of LightGBM's bagging.
        lightgbm_rounds: trees per horizon.
        lightgbm_rows: rows at most; days are thinned evenly to stay below.
        threads: of LightGBM; 0 means all, or one where the data are small: threads that wait for each other on a busy
            machine then cost many times what they save.
    """

    seed: int = 0
    lightgbm_rounds: int = 100
    lightgbm_rows: int = 400_000
    threads: int = 0


def training_days(panel: Panel, max_rows: int | None = None) -> list[int]:
    """Day indices of the train block, thinned evenly so that at most `max_rows` valid rows remain."""
    days = list(panel.block("train"))
    rows = int(panel.valid[days[0] : days[-1] + 1].sum())
    step = -(-rows // max_rows) if max_rows else 1
    return days[::step]


def day_sample(panel: Panel, t: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Features [n,F] and gaussian ranks of the targets [n,H] of a day's valid names; NaN where one is unknown."""
    rows = panel.valid[t]
    return panel.x(t)[rows], gaussian_ranks(panel.target[:, t, rows].T)


def fit_ridge(panel: Panel) -> tuple[Floats, dict[str, float]]:
    """Ridge by normal equations, a penalty per horizon chosen on the newest fifth of the train block.

    The holdout is separated by the purge, so no label that was fitted reaches into it.

    Returns:
        Weights [H, F+1], the last for the constant, and the chosen penalty of each horizon.
    """
    days = training_days(panel)
    split = int(len(days) * (1 - HOLDOUT))
    purge = panel.description["split"]["purge_days"]
    fitted = _Moments.of(panel, days[: max(split - purge, 1)])
    weights, chosen = [], {}
    for h, horizon in enumerate(panel.horizons):
        candidates = {penalty: fitted.solve(h, penalty) for penalty in RIDGE_PENALTIES}
        fit = {penalty: _holdout_ic(panel, days[split:], h, w) for penalty, w in candidates.items()}
        chosen[f"penalty_{horizon}d"] = max(RIDGE_PENALTIES, key=lambda penalty: fit[penalty])
    whole = _Moments.of(panel, days)
    for h, horizon in enumerate(panel.horizons):
        weights.append(whole.solve(h, chosen[f"penalty_{horizon}d"]))
    return np.stack(weights), chosen


@dataclass
class _Moments:
    """X'X [H,F+1,F+1] and X'y [H,F+1] over the rows whose label is known, and their number [H]."""

    xx: Floats
    xy: Floats
    rows: NDArray[np.int64]

    @classmethod
    def of(cls, panel: Panel, days: list[int]) -> "_Moments":
        heads, size = len(panel.horizons), len(panel.features) + 1
        xx, xy, rows = np.zeros((heads, size, size)), np.zeros((heads, size)), np.zeros(heads, np.int64)
        for t in days:
            x, y = day_sample(panel, t)
            x = np.hstack([x, np.ones((len(x), 1), np.float32)])
            known = np.isfinite(y)
            products: dict[bytes, Floats] = {}  # horizons nearly always share their rows
            for h in range(heads):
                kept, key = x[known[:, h]], known[:, h].tobytes()
                if key not in products:
                    products[key] = kept.T @ kept
                xx[h] += products[key]
                xy[h] += kept.T @ y[known[:, h], h]
                rows[h] += len(kept)
        return cls(xx, xy, rows)

    def solve(self, h: int, penalty: float) -> Floats:
        shrink = np.eye(len(self.xy[h])) * penalty * max(self.rows[h], 1)
        shrink[-1, -1] = 1e-9  # the constant is not shrunk
        return np.linalg.solve(self.xx[h] + shrink, self.xy[h])


def _holdout_ic(panel: Panel, days: list[int], h: int, weights: Floats) -> float:
    """Mean daily correlation of a linear score with the gaussian ranks."""
    daily = []
    for t in days:
        x, y = day_sample(panel, t)
        known = np.isfinite(y[:, h])
        score = x[known] @ weights[:-1]
        if known.sum() > 10 and score.std() > 0:
            daily.append(np.corrcoef(score, y[known, h])[0, 1])
    return float(np.mean(daily)) if daily else float("-inf")


def ridge(panel: Panel, config: BaselineConfig) -> tuple[Predict, dict[str, Any]]:
    """Linear in the day's features."""
    weights, chosen = fit_ridge(panel)

    def predict(panel: Panel, days: range) -> Floats:
        return np.stack([panel.x(t) @ weights[:, :-1].T.astype(np.float32) for t in days]).transpose(2, 0, 1)

    return predict, chosen


def lightgbm(panel: Panel, config: BaselineConfig) -> tuple[Predict, dict[str, Any]]:
    """Boosted trees on the same rows (days thinned), one regression per horizon, one modest setting, untuned."""
    import lightgbm as engine  # 1 s to import

    days = training_days(panel, config.lightgbm_rows)
    samples = [day_sample(panel, t) for t in days]
    x, y = np.concatenate([s[0] for s in samples]), np.concatenate([s[1] for s in samples])
    del samples
    parameters = {
        "objective": "regression",
        "learning_rate": 0.05,
        "num_leaves": 31,
        "min_data_in_leaf": 100,
        "feature_fraction": 0.8,
        "bagging_fraction": 0.8,
        "bagging_freq": 5,
        "lambda_l2": 1.0,
        "max_bin": 63,
        "seed": config.seed,
        "deterministic": True,
        "num_threads": config.threads or (1 if len(x) < ONE_THREAD_ROWS else 0),
        "verbosity": -1,
    }
    models = []
    for h in range(len(panel.horizons)):
        known = np.isfinite(y[:, h])
        data = engine.Dataset(x[known], y[known, h], free_raw_data=True)
        models.append(engine.train(parameters, data, num_boost_round=config.lightgbm_rounds))

    def predict(panel: Panel, days: range) -> Floats:
        scores = np.empty((len(models), len(days), len(panel.codes)), np.float32)
        for d, t in enumerate(days):
            x = panel.x(t)
            for h, model in enumerate(models):
                scores[h, d] = model.predict(x)
        return scores

    return predict, {"rows": len(x), "rounds": config.lightgbm_rounds}


def reversal(panel: Panel, config: BaselineConfig) -> tuple[Predict, dict[str, Any]]:
    """Buy what fell over the last week (Lehmann 1990); the same score for every horizon."""
    return _rule(lambda returns, days: -trailing_return(returns, days, REVERSAL_DAYS)), {"days": REVERSAL_DAYS}


def low_volatility(panel: Panel, config: BaselineConfig) -> tuple[Predict, dict[str, Any]]:
    """Buy what moves least (Ang, Hodrick, Xing & Zhang 2006); the same score for every horizon."""
    return _rule(lambda returns, days: -trailing_volatility(returns, days, VOLATILITY_DAYS)), {"days": VOLATILITY_DAYS}


def _rule(score: Callable[[Floats, range], Floats]) -> Predict:
    def predict(panel: Panel, days: range) -> Floats:
        one = score(panel.tensors["y_cc"][panel.horizons.index(1)], days)
        # a name without enough history is judged like the day's middle, so that all are judged on the same rows
        middle = np.nanmedian(np.where(np.isfinite(one), one, np.nan), axis=1, keepdims=True)
        one = np.where(np.isfinite(one), one, np.nan_to_num(middle))
        return np.broadcast_to(one, (len(panel.horizons), *one.shape)).astype(np.float32)

    return predict


BASELINES: Mapping[str, Callable[[Panel, BaselineConfig], tuple[Predict, dict[str, Any]]]] = {
    "ridge": ridge,
    "lightgbm": lightgbm,
    "reversal_5d": reversal,
    "low_volatility": low_volatility,
}


def fit_all(panel: Panel, config: BaselineConfig) -> Iterator[tuple[str, dict[str, Any], dict[str, pl.DataFrame]]]:
    """Fit each baseline; yields its name, its settings and its scores of the blocks as frames."""
    blocks = [Block(panel, name) for name in BLOCKS]
    for name, fit in BASELINES.items():
        started = datetime.now(UTC)
        predict, settings = fit(panel, config)
        frames = {block.name: block.frame(predict(panel, block.days)) for block in blocks}
        yield name, {**settings, "seconds": (datetime.now(UTC) - started).total_seconds()}, frames


@dataclass(frozen=True)
class StoredBaselines:
    """Scores of all baselines on one panel, as published."""

    folder: Path

    @property
    def record(self) -> dict[str, Any]:
        return json.loads((self.folder / "run.json").read_text())

    def names(self) -> list[str]:
        return list(self.record["baselines"])

    def scores(self, name: str, block: str) -> pl.DataFrame:
        return pl.read_parquet(self.folder / f"{name}.{block}.parquet")


def stored_baselines(runs: Path) -> StoredBaselines | None:
    """The newest set; None if there is none."""
    try:
        return StoredBaselines(runs / STAGE / (runs / STAGE / LATEST).read_text().strip())
    except FileNotFoundError:
        return None


def baselines_asset() -> dg.AssetsDefinition:
    """The asset `baselines`."""

    @dg.asset(
        name="baselines",
        group_name="training",
        deps=["training_panel"],
        kinds={"lightgbm", "numpy"},
        owners=["team:atft"],
        tags={"atft/kind": "baseline"},
        code_version=CODE_VERSION,
        description="Ridge, LightGBM, 5-day reversal and low volatility on the panel's train block, scored beyond it.",
    )
    def baselines(context: dg.AssetExecutionContext, config: BaselineConfig, store: Store):
        try:
            panel = latest_panel(store.local("panel"))
        except (PanelError, StoreError) as error:
            raise dg.Failure(f"baselines cannot be fitted: {error}", allow_retries=False) from error
        folder = store.local("runs", STAGE, f"{panel.panel_id}-{config.lightgbm_rounds}-{config.seed}")
        staged = folder.with_name(f".{folder.name}.{context.run.run_id[:8]}")
        staged.mkdir(parents=True)
        record: dict[str, Any] = {}
        try:
            for name, settings, frames in fit_all(panel, config):
                record[name] = settings
                context.log.info(f"{name}: {settings}")
                for block, frame in frames.items():
                    frame.write_parquet(staged / f"{name}.{block}.parquet", compression="zstd")
            description = {
                "status": "finished",
                "panel_id": panel.panel_id,
                "catalogue_hash": panel.description["catalogue_hash"],
                "baselines": record,
            }
            write_text_atomically(staged / "run.json", json.dumps(description, indent=1) + "\n")
            shutil.rmtree(folder, ignore_errors=True)
            staged.rename(folder)
        finally:
            shutil.rmtree(staged, ignore_errors=True)
        write_text_atomically(folder.parent / LATEST, folder.name + "\n")
        return dg.MaterializeResult(
            asset_key="baselines",
            metadata={
                "panel_id": panel.panel_id,
                "path": dg.MetadataValue.path(str(folder)),
                **{f"seconds_{name}": settings["seconds"] for name, settings in record.items()},
            },
        )

    return baselines
