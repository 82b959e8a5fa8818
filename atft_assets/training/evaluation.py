"""Everything that ranks, judged on one block: the phases' newest runs, the baselines, the blend of the last phase with
LightGBM, on the sandbox the oracle.

`evaluation` scores the validation block, as often as one likes. `test_evaluation` scores the test block, once: days
that were looked at before a choice was made are no test any more. So the ledger is kept by days, whatever was scored on
them, and a second look must be asked for by config, and is recorded as one.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dagster as dg
import polars as pl
from pydantic import Field

from atft_assets.baselines.blend import blend
from atft_assets.baselines.registry import LIGHTGBM
from atft_assets.code_version import code_version
from atft_assets.contracts import Event
from atft_assets.failures import PermanentFailure, Refusal, permanent
from atft_assets.groups import TRAINING
from atft_assets.reports.closing_table import sentence
from atft_assets.reports.scoreboard import (
    ORACLE,
    TOLERANCE,
    Row,
    by_horizon,
    disagreements,
    figures,
    legend,
    records,
    table,
)
from atft_assets.scoring.block import Block
from atft_assets.settings import Settings
from atft_assets.store import Store
from atft_assets.training.baselines import StoredBaselines, stored_baselines
from atft_assets.training.folds import NAME as FOLDS_ASSET
from atft_assets.training.folds import fold_on
from atft_assets.training.lanes import BASELINES, EVALUATION, MAIN_LANE, Lane, in_partition
from atft_assets.training.looks import ledger, looked_at, record_looks
from atft_assets.training.profiling import members_of, profiles_of, shown, write_page
from atft_assets.training.protocol import TrainingFailed, TrainingLauncher
from atft_assets.training.runs import scores_of
from atft_assets.training.seeds import Ensemble, averaged, latest_ensemble
from atft_assets.training.tried import blends
from atft_assets.trials.ledger import root_of, seen
from atft_model.interchange.fold import BLOCKS, MAIN, Fold
from atft_model.interchange.panel import Panel, latest_panel
from atft_model.interchange.phases import PHASES, Phase
from atft_model.interchange.records import write_json
from atft_model.interchange.request import PredictRequest, Scoring

VALIDATION_FILE, TEST_FILE = "validation.json", "test.json"
AGREEMENT = "agreement"
TEST_EVALUATION = "test_evaluation"
CLOSED = (
    "the test block stays closed, nothing was scored: a look at it is made once, at the end; to make it, run "
    f"{TEST_EVALUATION} with the config open_test: true"
)
BLEND = "blend"
CODE_VERSION = code_version(
    "atft_assets.baselines.blend",
    "atft_assets.reports.scoreboard",
    "atft_assets.scoring.evaluation",
    "atft_assets.scoring.profile",
    "atft_assets.scoring.surroundings",
    "atft_model.interchange.horizons",
    "atft_model.interchange.statistics",
    "atft_model.interchange.student",
    rooms=("atft_assets.scoring",),
)


class NothingToScore(Refusal):
    """There is no run that may be judged on the block, or the block was judged before."""


@dataclass(frozen=True)
class Candidates:
    """What may be judged on a fold of the newest panel.

    Attributes:
        runs: the newest published runs of each phase, a seed each, that learned and were chosen by exactly these days.
        baselines: fitted on this panel and these days; None if there are none.
        left_out: reasons why others are not among them.
    """

    panel: Panel
    fold: Fold
    runs: Mapping[Phase, Ensemble]
    baselines: StoredBaselines | None
    left_out: list[str]

    @property
    def last_runs(self) -> Ensemble:
        """The runs of the last phase that has some."""
        return self.runs[max(self.runs, key=lambda phase: phase.index)]

    def baseline_rows(self, block: Block) -> Iterator[Row]:
        """The baselines' lines."""
        if self.baselines is None:
            return
        for name in self.baselines.names():
            facts = {"seconds": self.baselines.record["baselines"][name]["seconds"]}
            scores = self.baselines.scores(name, block.name)
            yield Row(name, "baseline", block.score(scores), facts=facts, scores=scores)


def candidates(store: Store, lane: Lane, fold_name: str) -> Candidates:
    """Gather what may be judged.

    Raises:
        PanelError, FoldError, RunError: there is no panel, the fold was not cut on it, or a pointer names a run that is
            not whole.
        NothingToScore: no phase has a run on the fold's days.
    """
    panel = latest_panel(store.local("panel"))
    fold = fold_on(store, panel, fold_name)
    newest = {phase: latest_ensemble(store.local("runs", fold_name, phase.key)) for phase in PHASES}
    runs, left_out = {}, []
    for phase, published in newest.items():
        if published is None:
            continue
        others = {run.run_id: why for run in published.runs if (why := _other_days(run.record.fold, fold))}
        if others:
            left_out += [f"{lane.phase(phase)} {run_id}, which {why}" for run_id, why in others.items()]
        else:
            runs[phase] = published
    baselines = stored_baselines(store.local("runs", fold_name, BASELINES))
    if baselines and not baselines.fitted_on(panel, fold):
        left_out.append("the baselines, which were fitted on another panel or on other days")
        baselines = None
    if baselines:
        left_out += [f"{name}: {why}" for name, why in baselines.left_out().items()]
    if not baselines or LIGHTGBM not in baselines.names():
        left_out.append(f"the {BLEND}, for which there are no scores of {LIGHTGBM} on these days")
    if not runs:
        first = lane.phase(PHASES[0])
        raise NothingToScore(
            f"no phase has a finished run on the days of the fold {fold_name} of panel {panel.panel_id}"
            f"{'; left out: ' if left_out else ''}{'; '.join(left_out)}; "
            f"run: {lane.command([first], fold_name)}"
        )
    return Candidates(panel, fold, runs, baselines, left_out)


def _other_days(theirs: Fold, ours: Fold) -> str:
    """How a run's fold differs from this one in its dates."""
    for block in BLOCKS:
        if theirs.span(block) != ours.span(block):
            (first, last), (our_first, our_last) = theirs.span(block), ours.span(block)
            return f"was trained with the {block} block {first} to {last}, not {our_first} to {our_last}"
    return ""


def phase_row(asset: str, phase: Phase, runs: Ensemble, block: Block, scores: pl.DataFrame) -> Row:
    """A phase's line; of several seeds the trainer has no figure of its own, nor a panel to compare it on."""
    record, several = runs.newest.record, len(runs.runs) > 1
    facts = {
        "run_id": ", ".join(runs.run_ids),
        "panel_id": None if several else record.panel_id,
        "seconds": sum(run.record.seconds or 0 for run in runs.runs),
        "epochs": record.epochs,
        "reported_rank_ic": None if several else (record.validation or {}).get("rank_ic"),
    }
    label = f"{phase.name}, {len(runs.runs)} seeds" if several else phase.name
    return Row(asset, "phase", block.score(scores), label, facts, scores)


def blend_rows(block: Block, rows: Sequence[Row]) -> Iterator[Row]:
    """The line of the last phase and LightGBM in equal parts; none where one of them is not among the rows."""
    phases = [row for row in rows if row.kind == "phase"]
    trees = [row for row in rows if row.name == LIGHTGBM]
    if not phases or not trees:
        return
    parts = (phases[-1], trees[0])
    dense = blend([block.dense(row.scores) for row in parts if row.scores is not None], block.eligible)
    scores = block.frame(dense)
    yield Row(BLEND, "blend", block.score_dense(dense), scores=scores, parts=tuple(row.name for row in parts))


def oracle_row(settings: Settings, block: Block) -> Row | None:
    """What a perfect forecaster of the sandbox's planted signals attains; None on real data."""
    if not settings.sandbox or settings.end is None:
        return None
    from atft_assets.sandbox.market import demo_config, simulate
    from atft_assets.sandbox.oracle import oracle_scores

    market = simulate(demo_config(settings.start, settings.end))
    scores = oracle_scores(market, block.panel.horizons)
    return Row(ORACLE, "oracle", block.score(scores), scores=scores)


def evaluation_asset(settings: Settings, lane: Lane = MAIN_LANE) -> dg.AssetsDefinition:
    """The asset `evaluation`, or `fold_evaluation`."""
    asset = lane.asset(EVALUATION)

    @dg.asset(
        name=asset,
        group_name=TRAINING,
        deps=["training_panel", FOLDS_ASSET, lane.asset(BASELINES), *(lane.phase(phase) for phase in PHASES)],
        check_specs=[
            dg.AssetCheckSpec(
                AGREEMENT,
                asset=asset,
                description=f"The trainer's own validation RankIC equals this evaluation's within {TOLERANCE:g}.",
            )
        ],
        kinds={"numpy"},
        tags={"atft/kind": "evaluation"},
        code_version=CODE_VERSION,
        description="All phases and baselines, judged on the validation block. The newest run of each phase, paired by "
        "day with the phase before and with the baselines; the last phase blended with LightGBM; on the sandbox also "
        "the oracle.",
        **lane.partitioning,
    )
    def evaluation(context: dg.AssetExecutionContext, store: Store) -> Iterator[Event]:
        with permanent(f"{asset} cannot start"):
            found = candidates(store, lane, lane.fold(context))
        _warn(context, found)
        block = Block.of(found.panel, found.fold, "validation")
        rows = [phase_row(lane.phase(phase), phase, run, block, run.scores()) for phase, run in found.runs.items()]
        rows += found.baseline_rows(block)
        rows += blend_rows(block, rows)
        if oracle := oracle_row(settings, block):
            rows.append(oracle)
        with permanent(f"{asset} cannot read the universe"):
            profiles = profiles_of(rows, block, members_of(store, block))
        board = table(rows, block, found.fold.name)
        path = store.local("evaluation", found.fold.name, VALIDATION_FILE)
        with permanent(f"{asset} cannot be kept"):
            if found.baselines:
                seen(root_of(store), blends(rows, found.last_runs, found.baselines, found.fold.name))
            write_json(path, {**board, "profiles": profiles})
            store.push("trials")
            store.push("evaluation", found.fold.name)
            page = write_page(store, board, profiles)
        yield _shown(asset, board, path, **shown(page, board, profiles))
        compared = sum(row["kind"] == "phase" and row["panel_id"] == found.panel.panel_id for row in board["rows"])
        wrong = disagreements(board)
        verdict = dg.AssetCheckResult(
            asset_key=asset,
            check_name=AGREEMENT,
            passed=not wrong,
            severity=dg.AssetCheckSeverity.ERROR,
            description="; ".join(wrong) or f"trainer and evaluation agree on {compared} runs of this panel",
            metadata={"compared": compared},
        )
        yield in_partition(verdict, lane, found.fold.name)

    return evaluation


class ScoringConfig(dg.Config):
    """How the test block is scored."""

    open_test: bool = Field(
        False,
        description="Look at the test block. Without it nothing is scored: a run over everything must not use up the "
        "days that are kept for the end.",
    )
    score_again: bool = Field(
        False, description="Score days that were scored before; the ledger keeps both, and says that it was again."
    )


def test_evaluation_asset(settings: Settings) -> dg.AssetsDefinition:
    """The asset `test_evaluation`, of the fold `main` alone."""
    lane = MAIN_LANE

    @dg.asset(
        name=TEST_EVALUATION,
        group_name=TRAINING,
        deps=["training_panel", FOLDS_ASSET, BASELINES, *(lane.phase(phase) for phase in PHASES), EVALUATION],
        pool="gpu",
        kinds={"numpy", "torch"},
        tags={"atft/kind": "evaluation"},
        code_version=CODE_VERSION,
        output_required=False,
        description="The same table on the test block, opened once by hand. Set the config `open_test: true` at the "
        "end; without it a run, *Materialize all* among them, passes the asset by.",
    )
    def test_evaluation(
        context: dg.AssetExecutionContext,
        config: ScoringConfig,
        store: Store,
        launcher: dg.ResourceParam[TrainingLauncher],
    ) -> Iterator[dg.MaterializeResult]:
        if not (config.open_test or config.score_again):
            context.log.warning(CLOSED)
            context.log_event(dg.AssetObservation(TEST_EVALUATION, metadata={"test_block": CLOSED}))
            return
        with permanent(f"{TEST_EVALUATION} cannot start"):
            found = candidates(store, lane, MAIN)
            folder = store.local("evaluation")
            before = looked_at(ledger(folder), found.fold)
            if before and not config.score_again:
                raise NothingToScore(_scored_before(before[-1], found.fold, folder / MAIN / TEST_FILE))
        _warn(context, found)
        block = Block.of(found.panel, found.fold, "test")
        frames = predicted(context, launcher, TEST_EVALUATION, lane, found.runs, found, folder / MAIN / "scores")
        rows = [
            phase_row(lane.phase(phase), phase, runs, block, averaged(frames[phase]))
            for phase, runs in found.runs.items()
        ]
        rows += found.baseline_rows(block)
        rows += blend_rows(block, rows)
        if oracle := oracle_row(settings, block):
            rows.append(oracle)
        board = {**table(rows, block, MAIN), "scorings": len(before) + 1}
        entry = {
            "fold": MAIN,
            "first": str(found.fold.test[0]),
            "last": str(found.fold.test[1]),
            "runs": {lane.phase(phase): ", ".join(runs.run_ids) for phase, runs in found.runs.items()},
            "panel_id": found.panel.panel_id,
            "at": board["created_at"],
            "dagster_run": context.run.run_id,
        }
        with permanent(f"{TEST_EVALUATION} cannot be kept"):
            # the ledger first: figures that somebody can read must stand in it
            record_looks(folder, [entry])
            write_json(folder / MAIN / TEST_FILE, board)
            store.push("evaluation")
        yield _shown(TEST_EVALUATION, board, folder / MAIN / TEST_FILE, scorings=board["scorings"])

    return test_evaluation


def predicted(
    context: dg.AssetExecutionContext, launcher: TrainingLauncher, asking: str, lane: Lane,
    runs: Mapping[Phase, Ensemble], found: Candidates, folder: Path,
) -> dict[Phase, list[pl.DataFrame]]:  # fmt: skip
    """Scores of the fold's test block by each run of the phases, kept in a folder as `<asset>-<run_id>-test.parquet`.

    One process makes them all: it takes longer to begin, on a cluster much longer, than to score.

    Args:
        asking: the asset that asks, for messages.

    Raises:
        PermanentFailure: a run could not score the block.
    """
    first, last = found.fold.test
    wanted = {
        phase: [Scoring(run.folder, folder / scores_file(lane.phase(phase), run.run_id)) for run in ensemble.runs]
        for phase, ensemble in runs.items()
    }
    every = [one for scorings in wanted.values() for one in scorings]
    if not every:
        return {}
    head, *also = every
    request = PredictRequest(found.panel.folder, head.run, head.out, first=first, last=last, also=tuple(also))
    try:
        launcher.predict(context, request)
    except TrainingFailed as failure:
        who = ", ".join(f"{lane.phase(phase)} {', '.join(ensemble.run_ids)}" for phase, ensemble in runs.items())
        raise PermanentFailure(f"{asking}: {who}: {failure}") from failure
    with permanent(asking):
        return {phase: [scores_of(one.out) for one in scorings] for phase, scorings in wanted.items()}


def scores_file(asset: str, run_id: str) -> str:
    """Name of the file with a run's scores of a test block."""
    return f"{asset}-{run_id}-test.parquet"


def _scored_before(entry: Mapping[str, Any], fold: Fold, path: Path) -> str:
    days = f"{entry.get('first', 'unknown days')} to {entry.get('last', '')}".removesuffix(" to ")
    return (
        f"days of the test block, {fold.test[0]} to {fold.test[1]}, were scored on {entry['at']} ({days}): a second "
        "look would make it a validation block, whatever was trained since. The figures of the newest scoring are in "
        f"{path}; wait for days that nobody has looked at, or set the config score_again: true, which the ledger "
        "records"
    )


def _warn(context: dg.AssetExecutionContext, found: Candidates) -> None:
    for why in found.left_out:
        context.log.warning(f"left out: {why}")


def _shown(asset: str, board: Mapping[str, Any], path: Path, **more: Any) -> dg.MaterializeResult:
    return dg.MaterializeResult(
        asset_key=asset,
        metadata={
            "outcome": sentence(board),
            "table": dg.MetadataValue.table(records(board)),
            "by_horizon": dg.MetadataValue.table(by_horizon(board)),
            "legend": legend(board),
            **more,
            **figures(board),
            "fold": board["fold"],
            "path": dg.MetadataValue.path(str(path)),
        },
    )
