"""`fold_scores`: the test block of a fold, scored by the networks that were trained on it. Nobody looks at how well.

A file per run, `evaluation/<fold>/scores/<asset>-<run_id>-test.parquet`, and `evaluation/<fold>/test_scores.json`,
written last, which says of which runs, fold and panel they are. Judged they are by `walk_forward` alone.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import dagster as dg
import polars as pl
from pydantic import Field

from atft_assets.code_version import code_version
from atft_assets.contracts import Event
from atft_assets.failures import PermanentFailure, permanent
from atft_assets.groups import TRAINING
from atft_assets.store import Store
from atft_assets.training.evaluation import Candidates, NothingToScore, candidates, predicted, scores_file
from atft_assets.training.fold_contract import audit_fold
from atft_assets.training.folds import NAME as FOLDS_ASSET
from atft_assets.training.lanes import FOLD_SCORES, Lane, in_partition
from atft_assets.training.protocol import TrainingLauncher
from atft_assets.training.runs import scores_of
from atft_assets.training.seeds import Ensemble, averaged
from atft_assets.training.stitching import too_close
from atft_model.interchange.errors import RunError
from atft_model.interchange.fold import Fold
from atft_model.interchange.hashes import SIDECAR
from atft_model.interchange.phases import PHASES, Phase
from atft_model.interchange.records import entry, from_plain, read_json, write_json
from atft_model.interchange.run import lineage

INDEX = "test_scores.json"
NO_LEAK = "no_leak"


@dataclass(frozen=True)
class FoldScores:
    """`test_scores.json`: of what the scores beside it are."""

    fold: Fold = entry("The fold whose test block was scored")
    panel_id: str = entry("The panel on which")
    runs: Mapping[str, tuple[str, ...]] = entry("Ids of the runs of each phase, by the phase's key, a seed each")
    created_at: str = entry("When")


class FoldScoresConfig(dg.Config):
    """Which networks score."""

    phases: list[int] = Field(
        [], description="Phases whose networks score the test block, 0 to 3. Default: all that were trained on the fold"
    )


def scored_fold(folder: Path) -> FoldScores | None:
    """The index of a fold's scores in `evaluation/<fold>`; None if the fold was not scored.

    Raises:
        RunError: it is damaged.
    """
    path = folder / INDEX
    if not path.exists():
        return None
    return from_plain(FoldScores, read_json(path, "score the fold", RunError), str(path), RunError)


def scores_of_phase(folder: Path, asset: str, run_ids: tuple[str, ...]) -> pl.DataFrame:
    """Scores of a fold's test block by a phase, the mean of its seeds.

    Raises:
        RunError: a file is gone, or not what was written.
    """
    return averaged([scores_of(folder / "scores" / scores_file(asset, run_id)) for run_id in run_ids])


def chosen(runs: Mapping[Phase, Ensemble], wanted: list[int], lane: Lane, fold: str) -> dict[Phase, Ensemble]:
    """The phases that are to score.

    Raises:
        NothingToScore: one that is asked for was not trained on the fold.
    """
    lacking = [one for one in wanted if one not in {phase.index for phase in runs}]
    if lacking:
        assets = [lane.phase(phase) for phase in PHASES if phase.index in lacking]
        if len(assets) < len(lacking):
            raise NothingToScore(f"phases is {wanted}: the phases are {', '.join(str(p.index) for p in PHASES)}")
        raise NothingToScore(
            f"{', '.join(assets)} has no run on the days of fold {fold}; run: {lane.command(assets, fold)}"
        )
    return {phase: ensemble for phase, ensemble in runs.items() if not wanted or phase.index in wanted}


def leaks(found: Candidates, runs: Mapping[Phase, Ensemble]) -> list[str]:
    """What a fold's networks may have seen of its test block: features that know the future, or days too near."""
    verdict = audit_fold(found.panel, found.fold)
    said = [] if verdict.passed else [str(verdict)]
    for ensemble in runs.values():
        for run in ensemble.runs:
            for record in lineage(run.folder):
                said += too_close(f"run {record.run_id}", record.fold, found.fold, found.panel.dates)
    return list(dict.fromkeys(said))


def fold_scores_asset(lane: Lane) -> dg.AssetsDefinition:
    """The asset; a partition a fold."""

    @dg.asset(
        name=FOLD_SCORES,
        group_name=TRAINING,
        deps=["training_panel", FOLDS_ASSET, *(lane.phase(phase) for phase in PHASES)],
        check_specs=[
            dg.AssetCheckSpec(
                NO_LEAK,
                asset=FOLD_SCORES,
                blocking=True,
                description="No feature has seen the future, and everything that was learned from ends before the test "
                "block by purge and embargo, of the runs that a run started from as well.",
            )
        ],
        pool="gpu",
        kinds={"torch"},
        tags={"atft/kind": "evaluation"},
        code_version=code_version("atft_assets.training.fold_scores", "atft_assets.training.seeds"),
        description="A fold's test block, scored by its networks. Each run's scores, unjudged: `walk_forward` stitches "
        "the folds and judges them.",
        **lane.partitioning,
    )
    def fold_scores(
        context: dg.AssetExecutionContext,
        config: FoldScoresConfig,
        store: Store,
        launcher: dg.ResourceParam[TrainingLauncher],
    ) -> Iterator[Event]:
        name = lane.fold(context)
        with permanent(f"{FOLD_SCORES} cannot start"):
            found = candidates(store, lane, name)
            runs = chosen(found.runs, config.phases, lane, name)
            said = leaks(found, runs)
        for why in found.left_out:
            context.log.warning(f"left out: {why}")
        verdict = dg.AssetCheckResult(
            asset_key=FOLD_SCORES,
            check_name=NO_LEAK,
            passed=not said,
            severity=dg.AssetCheckSeverity.ERROR,
            description="; ".join(said) or f"training ends {found.fold.train[1]}, the test begins {found.fold.test[0]}",
        )
        if said:
            yield in_partition(verdict, lane, name)
            raise PermanentFailure(f"{FOLD_SCORES} refuses the fold {name}, nothing was scored: {'; '.join(said)}")
        folder = store.local("evaluation", name)
        frames = predicted(context, launcher, FOLD_SCORES, lane, runs, found, folder / "scores")
        rows = {lane.phase(phase): averaged(made).height for phase, made in frames.items()}
        ids = {phase.key: ensemble.run_ids for phase, ensemble in runs.items()}
        kept = {scores_file(lane.phase(phase), one) for phase, ensemble in runs.items() for one in ensemble.run_ids}
        with permanent(f"{FOLD_SCORES} cannot be kept"):
            now = datetime.now(UTC).isoformat(timespec="seconds")
            write_json(folder / INDEX, FoldScores(found.fold, found.panel.panel_id, ids, now))
            for path in (folder / "scores").glob("*-test.parquet*"):
                if path.name.removesuffix(SIDECAR) not in kept:
                    path.unlink()
            store.push("evaluation", name)
        yield dg.MaterializeResult(
            asset_key=FOLD_SCORES,
            metadata={
                "test_block": " to ".join(map(str, found.fold.test)),
                **{f"runs_{key}": ", ".join(run_ids) for key, run_ids in ids.items()},
                **{f"rows_{asset}": count for asset, count in rows.items()},
                "fold": name,
                "panel_id": found.panel.panel_id,
                "path": dg.MetadataValue.path(str(folder / "scores")),
            },
        )
        yield in_partition(verdict, lane, name)

    return fold_scores
