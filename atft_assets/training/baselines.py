"""What a model must beat: ridge, LightGBM and two one-line rules, on the same panel, fold, rows and label.

Fitted on the train block alone, on the daily gaussian ranks of the panel's target (which a market-wide move does not
change), the same that the network learns. Their scores of the validation and test blocks are stored; nobody looks at
how good those of the test block are until `test_evaluation`.
"""

import hashlib
import io
import json
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any

import dagster as dg
import numpy as np
import polars as pl
from numpy.typing import NDArray
from pydantic import Field

from atft_assets.code_version import code_version
from atft_assets.failures import permanent
from atft_assets.groups import TRAINING
from atft_assets.reports.shown import numbers
from atft_assets.scoring.block import Block
from atft_assets.scoring.evaluation import Score
from atft_assets.scoring.ranking import gaussian_ranks
from atft_assets.scoring.trailing import Floats, trailing_return, trailing_volatility
from atft_assets.store import Store
from atft_assets.training.folds import NAME as FOLDS_ASSET
from atft_assets.training.folds import fold_on
from atft_assets.training.lanes import BASELINES as NAME
from atft_assets.training.lanes import MAIN_LANE, Lane
from atft_assets.training.runs import parquet
from atft_model.interchange.disk import writing
from atft_model.interchange.errors import FoldError, RunError, damaged
from atft_model.interchange.fold import Fold
from atft_model.interchange.hashes import checked_bytes
from atft_model.interchange.panel import Panel, latest_panel
from atft_model.interchange.records import from_plain, read_json, read_pointer, to_plain, write_json, write_text
from atft_model.interchange.run import LATEST, RUN_JSON

BLOCKS = ("validation", "test")

RIDGE_PENALTIES = (1e-4, 1e-3, 1e-2, 1e-1, 1.0)  # relative to the number of rows
HOLDOUT = 0.2  # newest share of the training days, on which the penalty is chosen
ONE_THREAD_ROWS = 200_000
REVERSAL_DAYS = 5
VOLATILITY_DAYS = 20

Predict = Callable[[Panel, range], Floats]  # scores [H, len(days), N] of days


class BaselineConfig(dg.Config):
    """How the baselines are fitted."""

    seed: int = Field(0, description="Seed of LightGBM's bagging.")
    lightgbm_rounds: int = Field(100, description="Trees a horizon.")
    lightgbm_rows: int = Field(400_000, description="Rows at most; days are thinned evenly to stay below.")
    threads: int = Field(
        0,
        description="Threads of LightGBM; 0: all, or one where the data are small: threads that wait for each other on "
        "a busy machine then cost many times what they save.",
    )


def training_days(panel: Panel, fold: Fold, max_rows: int | None = None) -> list[int]:
    """Day indices of the train block, thinned evenly so that at most `max_rows` valid rows remain."""
    days = list(fold.places(panel.dates, "train"))
    rows = int(panel.valid[days[0] : days[-1] + 1].sum())
    step = -(-rows // max_rows) if max_rows else 1
    return days[::step]


def day_sample(panel: Panel, t: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Features [n,F] and gaussian ranks of the targets [n,H] of a day's valid names; NaN where one is unknown."""
    rows = panel.valid[t]
    return panel.x(t)[rows], gaussian_ranks(panel.target[:, t, rows].T)


def fit_ridge(panel: Panel, fold: Fold) -> tuple[Floats, dict[str, float]]:
    """Ridge by normal equations, a penalty per horizon chosen on the newest fifth of the train block.

    The holdout is separated by the purge, so no label that was fitted reaches into it.

    Returns:
        Weights [H, F+1], the last for the constant, and the chosen penalty of each horizon.
    """
    days = training_days(panel, fold)
    split = int(len(days) * (1 - HOLDOUT))
    fitted = _Moments.of(panel, days[: max(split - fold.purge_days, 1)])
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


def ridge(panel: Panel, fold: Fold, config: BaselineConfig) -> tuple[Predict, dict[str, Any]]:
    """Linear in the day's features."""
    weights, chosen = fit_ridge(panel, fold)

    def predict(panel: Panel, days: range) -> Floats:
        return np.stack([panel.x(t) @ weights[:, :-1].T.astype(np.float32) for t in days]).transpose(2, 0, 1)

    return predict, chosen


def lightgbm(panel: Panel, fold: Fold, config: BaselineConfig) -> tuple[Predict, dict[str, Any]]:
    """Boosted trees on the same rows (days thinned), one regression per horizon, one modest setting, untuned."""
    import lightgbm as engine  # 1 s to import

    days = training_days(panel, fold, config.lightgbm_rows)
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


def reversal(panel: Panel, fold: Fold, config: BaselineConfig) -> tuple[Predict, dict[str, Any]]:
    """Buy what fell over the last week (Lehmann 1990); the same score for every horizon."""
    return _rule(lambda returns, days: -trailing_return(returns, days, REVERSAL_DAYS)), {"days": REVERSAL_DAYS}


def low_volatility(panel: Panel, fold: Fold, config: BaselineConfig) -> tuple[Predict, dict[str, Any]]:
    """Buy what moves least (Ang, Hodrick, Xing & Zhang 2006); the same score for every horizon."""
    return _rule(lambda returns, days: -trailing_volatility(returns, days, VOLATILITY_DAYS)), {"days": VOLATILITY_DAYS}


def _rule(score: Callable[[Floats, range], Floats]) -> Predict:
    def predict(panel: Panel, days: range) -> Floats:
        one = score(panel.one_day_returns, days)
        # a name without enough history is judged like the day's middle, so that all are judged on the same rows
        middle = np.nanmedian(np.where(np.isfinite(one), one, np.nan), axis=1, keepdims=True)
        one = np.where(np.isfinite(one), one, np.nan_to_num(middle))
        return np.broadcast_to(one, (len(panel.horizons), *one.shape)).astype(np.float32)

    return predict


BASELINES: Mapping[str, Callable[[Panel, Fold, BaselineConfig], tuple[Predict, dict[str, Any]]]] = {
    "ridge": ridge,
    "lightgbm": lightgbm,
    "reversal_5d": reversal,
    "low_volatility": low_volatility,
}


def fit_all(
    panel: Panel, fold: Fold, config: BaselineConfig
) -> Iterator[tuple[str, dict[str, Any], dict[str, pl.DataFrame]]]:
    """Fit each baseline; yields its name, its settings and its scores of the blocks as frames."""
    blocks = [Block.of(panel, fold, name) for name in BLOCKS]
    for name, fit in BASELINES.items():
        started = datetime.now(UTC)
        predict, settings = fit(panel, fold, config)
        frames = {block.name: block.frame(predict(panel, block.days)) for block in blocks}
        yield name, {**settings, "seconds": (datetime.now(UTC) - started).total_seconds()}, frames


@dataclass(frozen=True)
class StoredBaselines:
    """Scores of all baselines on one fold of one panel, as published."""

    folder: Path

    @cached_property
    def record(self) -> dict[str, Any]:
        """`run.json`.

        Raises:
            RunError: it is missing or damaged.
        """
        path = self.folder / RUN_JSON
        document = read_json(path, "give a set of baselines", RunError)
        if not isinstance(document, dict) or not {"baselines", "panel_id", "fold"} <= set(document):
            raise RunError(damaged(path, "it describes no set of baselines"))
        return document

    def names(self) -> list[str]:
        return list(self.record["baselines"])

    def fitted_on(self, panel: Panel, fold: Fold) -> bool:
        """Whether they were fitted on this panel and these days."""
        theirs = from_plain(Fold, self.record["fold"], str(self.folder / RUN_JSON), FoldError)
        return self.record["panel_id"] == panel.panel_id and theirs == fold

    def scores(self, name: str, block: str) -> pl.DataFrame:
        """A baseline's scores of a block. Those of version 0.2 and before have no hash and are read as they stand.

        Raises:
            RunError: they are gone, or not those of the record.
        """
        path = self.folder / f"{name}.{block}.parquet"
        return parquet(checked_bytes(path, self.record.get("files", {}).get(path.name), RunError), path)


def stored_baselines(folder: Path) -> StoredBaselines | None:
    """The newest set under `runs/<fold>/baselines`; None if there is none.

    Raises:
        RunError: the pointer, or a file of the set, is damaged.
    """
    newest = read_pointer(folder / LATEST, RunError)
    if newest is None:
        return None
    if not (folder / newest).is_dir():
        raise RunError(damaged(folder / LATEST, f"it names {newest}, which is no set of baselines"))
    return open_baselines(folder / newest)


def open_baselines(folder: Path) -> StoredBaselines:
    """The set in a directory.

    Raises:
        RunError: a file of it is gone or damaged.
    """
    found = StoredBaselines(folder)
    for name in found.names():
        for block in BLOCKS:
            found.scores(name, block)  # now, so that a set that is not whole is found here
    return found


def baselines_asset(lane: Lane = MAIN_LANE) -> dg.AssetsDefinition:
    """The asset `baselines`, or `fold_baselines`."""
    asset = lane.asset(NAME)

    @dg.asset(
        name=asset,
        group_name=TRAINING,
        deps=["training_panel", FOLDS_ASSET],
        kinds={"lightgbm", "numpy"},
        tags={"atft/kind": "baseline"},
        code_version=code_version(
            "atft_assets.training.baselines", "atft_assets.scoring.ranking", "atft_assets.scoring.trailing"
        ),
        description="What a model must beat: ridge, LightGBM and two rules. Ridge, LightGBM, 5-day reversal and low "
        "volatility, fitted on the fold's train block and scored beyond it.",
        **lane.partitioning,
    )
    def baselines(context: dg.AssetExecutionContext, config: BaselineConfig, store: Store) -> dg.MaterializeResult:
        with permanent(f"{asset} cannot be fitted"):
            panel = latest_panel(store.local("panel"))
            fold = fold_on(store, panel, lane.fold(context))
            folder = store.local("runs", fold.name, NAME, _id(panel, fold, config))
        validation = Block.of(panel, fold, "validation")
        staged = folder.with_name(f".{folder.name}.{context.run.run_id[:8]}")
        record: dict[str, Any] = {}
        scored: dict[str, Score] = {}
        files: dict[str, str] = {}
        with permanent(f"{asset} cannot be kept"), ExitStack() as stack:
            stack.callback(shutil.rmtree, staged, ignore_errors=True)
            with writing(staged):
                staged.mkdir(parents=True)
            for name, settings, frames in fit_all(panel, fold, config):
                record[name] = settings
                scored[name] = validation.score(frames[validation.name])
                context.log.info(f"{name}: {settings}")
                for block, frame in frames.items():
                    files |= _write(staged / f"{name}.{block}.parquet", frame)
            description = {
                "status": "finished",
                "panel_id": panel.panel_id,
                "fold": fold,
                "catalogue_hash": panel.description.catalogue_hash,
                "config": config.model_dump(),
                "baselines": record,
                "files": files,
            }
            write_json(staged / RUN_JSON, description)
            shutil.rmtree(folder, ignore_errors=True)
            staged.rename(folder)
            write_text(folder.parent / LATEST, folder.name + "\n")
        return dg.MaterializeResult(
            asset_key=asset,
            metadata={
                "scores": dg.MetadataValue.table(
                    [
                        dg.TableRecord(
                            {"validation": name, "RankIC": f"{score.rank_ic:.4f}", "t": f"{score.t:.1f}"}
                            | {f"{h}d": f"{part.rank_ic:.4f}" for h, part in score.by_horizon.items()}
                        )
                        for name, score in scored.items()
                    ]
                ),
                **numbers({f"{name}/rank_ic": score.rank_ic for name, score in scored.items()}),
                **numbers({f"seconds_{name}": settings["seconds"] for name, settings in record.items()}),
                **numbers({f"config_{name}": value for name, value in config.model_dump().items()}),
                "panel_id": panel.panel_id,
                "fold": fold.name,
                "path": dg.MetadataValue.path(str(folder)),
            },
        )

    return baselines


def _write(path: Path, frame: pl.DataFrame) -> dict[str, str]:
    """Write a frame of scores; its hash by the file's name."""
    buffer = io.BytesIO()  # through memory: a full disk is then a plain OSError
    frame.write_parquet(buffer, compression="zstd")
    with writing(path, len(buffer.getbuffer())):
        path.write_bytes(buffer.getbuffer())
    return {path.name: hashlib.sha256(buffer.getbuffer()).hexdigest()}


def _id(panel: Panel, fold: Fold, config: BaselineConfig) -> str:
    """The same panel, days and config give the same directory."""
    text = json.dumps([panel.panel_id, to_plain(fold), config.model_dump()], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]
