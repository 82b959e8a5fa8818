"""The assets `baselines` and `fold_baselines`: what a model must beat, fitted on a fold's train block, and its scores.

What is fitted, and how it is chosen, is in the room `baselines`. The scores of the validation and test blocks are
stored; nobody looks at how good those of the test block are until `test_evaluation`. So are the fitted models of
LightGBM (`baselines.kept`): by them it scores an evening that did not exist when it was fitted.
"""

import hashlib
import io
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any

import dagster as dg
import polars as pl

from atft_assets.baselines.config import BaselineConfig, for_source
from atft_assets.baselines.fitted import CannotFit
from atft_assets.baselines.kept import files_of, kept_models, model_file, read_set
from atft_assets.baselines.registry import chosen
from atft_assets.code_version import code_version
from atft_assets.failures import permanent
from atft_assets.groups import TRAINING
from atft_assets.reports.shown import numbers
from atft_assets.scoring.block import Block
from atft_assets.scoring.evaluation import Score
from atft_assets.settings import Settings
from atft_assets.store import Store
from atft_assets.training.folds import NAME as FOLDS_ASSET
from atft_assets.training.folds import fold_on
from atft_assets.training.lanes import BASELINES as NAME
from atft_assets.training.lanes import MAIN_LANE, Lane
from atft_assets.training.runs import parquet
from atft_assets.trials.ledger import BASELINES as TRIED
from atft_assets.trials.ledger import Trial, root_of, seen
from atft_assets.trials.recipes import recipe_of_baseline
from atft_model.interchange.disk import writing
from atft_model.interchange.errors import FoldError, RunError, damaged
from atft_model.interchange.fold import Fold
from atft_model.interchange.hashes import checked_bytes
from atft_model.interchange.panel import Panel, latest_panel, publish_panel, staged_panel
from atft_model.interchange.records import from_plain, read_pointer, to_plain, write_json, write_text
from atft_model.interchange.run import LATEST, RUN_JSON

BLOCKS = ("validation", "test")
CODE_VERSION = code_version(
    "atft_assets.baselines.ridge",
    "atft_assets.baselines.rules",
    "atft_assets.baselines.samples",
    "atft_assets.baselines.trees",
    "atft_assets.scoring.ranking",
    "atft_assets.scoring.trailing",
)


@dataclass(frozen=True)
class Scored:
    """A baseline's settings, its scores by block and its models, or the reason why there are none."""

    name: str
    settings: dict[str, Any] = field(default_factory=dict)
    frames: dict[str, pl.DataFrame] = field(default_factory=dict)
    left_out: str = ""
    models: Mapping[str, str] = field(default_factory=dict)


def fit_all(panel: Panel, fold: Fold, config: BaselineConfig) -> Iterator[Scored]:
    """Fit one baseline after the other, and score the blocks."""
    blocks = [Block.of(panel, fold, name) for name in BLOCKS]
    for name, fit in chosen(config).items():
        started = datetime.now(UTC)
        try:
            predict, facts, models = fit(panel, fold, config)
        except CannotFit as why:
            yield Scored(name, left_out=str(why))
            continue
        frames = {block.name: block.frame(predict(panel, block.days)) for block in blocks}
        seconds = (datetime.now(UTC) - started).total_seconds()
        yield Scored(name, {**facts, "seconds": seconds}, frames, models=models)


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
        return read_set(self.folder)

    def names(self) -> list[str]:
        return list(self.record["baselines"])

    def left_out(self) -> dict[str, str]:
        """Baselines that could not be fitted, with the reason."""
        return dict(self.record.get("left_out", {}))

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
        return parquet(checked_bytes(path, files_of(self.record).get(path.name), RunError), path)


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
        kept_models(folder, name)
    return found


def baselines_asset(settings: Settings, lane: Lane = MAIN_LANE) -> dg.AssetsDefinition:
    """The asset `baselines`, or `fold_baselines`."""
    asset = lane.asset(NAME)

    @dg.asset(
        name=asset,
        group_name=TRAINING,
        deps=["training_panel", FOLDS_ASSET],
        kinds={"lightgbm", "numpy"},
        tags={"atft/kind": "baseline"},
        code_version=CODE_VERSION,
        description="What a model must beat: ridge, LightGBM and three rules. Ridge, also on the liquid names alone, "
        "and LightGBM, both chosen within the fold's train block and fitted on all of it; 5-day reversal, low "
        "volatility and 12–1 momentum. All are scored beyond it.",
        **lane.partitioning,
    )
    def baselines(context: dg.AssetExecutionContext, config: BaselineConfig, store: Store) -> dg.MaterializeResult:
        config = for_source(config, settings)
        with permanent(f"{asset} cannot be fitted"):
            panel = latest_panel(store.local("panel"))
            fold = fold_on(store, panel, lane.fold(context))
            sets = store.local("runs", fold.name, NAME)
        validation = Block.of(panel, fold, "validation")
        record: dict[str, Any] = {}
        scored: dict[str, Score] = {}
        left_out: dict[str, str] = {}
        files: dict[str, str] = {}
        # whole or not at all: what a run that is killed leaves, the next one removes
        with permanent(f"{asset} cannot be kept"), staged_panel(sets) as staged:
            for one in fit_all(panel, fold, config):
                if one.left_out:
                    left_out[one.name] = one.left_out
                    context.log.warning(f"{one.name} is left out: {one.left_out}")
                    continue
                record[one.name] = one.settings
                scored[one.name] = validation.score(one.frames[validation.name])
                context.log.info(f"{one.name}: {one.settings}")
                for block, frame in one.frames.items():
                    files |= _write_frame(staged / f"{one.name}.{block}.parquet", frame)
                for part, text in one.models.items():
                    files |= _write(staged / model_file(one.name, part), text.encode())
            description = {
                "status": "finished",
                "panel_id": panel.panel_id,
                "fold": fold,
                "catalogue_hash": panel.description.catalogue_hash,
                "label": panel.description.label,
                "target": panel.description.target,
                "config": config.model_dump(),
                "baselines": record,
                "left_out": left_out,
                "files": files,
            }
            write_json(staged / RUN_JSON, description)
            folder = publish_panel(staged, sets, _id(panel, fold, config))
            write_text(sets / LATEST, folder.name + "\n")
            figures = {name: {fold.name: score.rank_ic} for name, score in scored.items()}
            seen(root_of(store), [_trial(name, description, values) for name, values in figures.items()])
            store.push("runs", fold.name, NAME)
            store.push("trials")
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
                "chosen": dg.MetadataValue.json(to_plain(record)),
                **{f"left out: {name}": why for name, why in left_out.items()},
                **numbers({f"{name}/rank_ic": score.rank_ic for name, score in scored.items()}),
                **numbers({f"seconds_{name}": facts["seconds"] for name, facts in record.items()}),
                **numbers({f"config_{name}": value for name, value in config.model_dump().items()}),
                "panel_id": panel.panel_id,
                "fold": fold.name,
                "path": dg.MetadataValue.path(str(folder)),
            },
        )

    return baselines


def _trial(name: str, record: Mapping[str, Any], values: Mapping[str, float]) -> Trial:
    """A baseline as a line of the ledger of trials."""
    return Trial(TRIED, name, recipe_of_baseline(name, record), params=record["config"], values=to_plain(values))


def _write_frame(path: Path, frame: pl.DataFrame) -> dict[str, str]:
    """Write a frame of scores; its hash by the file's name."""
    buffer = io.BytesIO()  # through memory: a full disk is then a plain OSError
    frame.write_parquet(buffer, compression="zstd")
    return _write(path, buffer.getvalue())


def _write(path: Path, data: bytes) -> dict[str, str]:
    with writing(path, len(data)):
        path.write_bytes(data)
    return {path.name: hashlib.sha256(data).hexdigest()}


def _id(panel: Panel, fold: Fold, config: BaselineConfig) -> str:
    """The same panel, days and config give the same directory."""
    text = json.dumps([panel.panel_id, to_plain(fold), config.model_dump()], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]
