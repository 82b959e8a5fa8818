"""`walk_forward`: the test blocks of all folds, stitched and judged together.

Each fold's network, and each baseline, was fitted on days before its block; put end to end their scores are one long
record that nothing has learned from, judged once by the function that judges everything else.

Development folds are judged as often as one likes, and the ledger of test blocks says so each time. The blocks of final
folds, those of the setting's final years and those that share a day with the test block of `main`, stay closed until
`open_final: true`, once: the rule, and the ledger, are those of `test_evaluation`.
"""

import hashlib
import io
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import dagster as dg
import polars as pl
from pydantic import Field

from atft_assets.contracts import Event
from atft_assets.failures import PermanentFailure, Refusal, permanent
from atft_assets.groups import TRAINING
from atft_assets.reports import walk_forward as report
from atft_assets.reports.scoreboard import Row, table
from atft_assets.scoring.block import Block
from atft_assets.settings import Settings
from atft_assets.store import Store
from atft_assets.training.baselines import stored_baselines
from atft_assets.training.complete_folds import Found, gather
from atft_assets.training.evaluation import CODE_VERSION, NothingToScore, blend_rows, oracle_row
from atft_assets.training.folds import NAME as FOLDS_ASSET
from atft_assets.training.folds import FoldRow
from atft_assets.training.lanes import BASELINES, FOLD_SCORES, WALK_FORWARD, Lane
from atft_assets.training.looks import ledger, looked_at, record_looks
from atft_assets.training.profiling import members_of, most_traded, profiles_of, shown, write_page
from atft_assets.training.stitching import (
    Part,
    StitchedBlock,
    audit,
    by_fold,
    by_month,
    gaps,
    in_folds,
    stitched,
    stitched_block,
)
from atft_assets.training.tried import blends
from atft_assets.trials.ledger import Trial, root_of, seen
from atft_model.interchange.disk import writing
from atft_model.interchange.hashes import write_sidecar
from atft_model.interchange.phases import PHASES, Phase
from atft_model.interchange.records import write_json

NO_OVERLAP, GAIN = "no_overlap", "gain"
DEVELOPMENT, FINAL = "development", "final"  # names of the boards
OPEN = f"run {WALK_FORWARD} with the config open_final: true, once, at the end"


class CannotStitch(Refusal):
    """The folds do not make one record; the text is one sentence with the remedy."""


class WalkForwardConfig(dg.Config):
    """What is stitched, and whether final folds are opened."""

    phases: list[int] = Field([], description="Phases to judge, 0 to 3. Default: those that every fold was scored by")
    allow_gaps: bool = Field(False, description="Judge although days between the folds are tested by none.")
    open_final: bool = Field(False, description="Look at the test blocks of the final folds, together with the others.")
    score_again: bool = Field(
        False, description="Look at final folds that were looked at before; the ledger says that it was again."
    )


def judged_parts(found: Found, config: WalkForwardConfig, entries: list[dict[str, Any]]) -> list[Part]:
    """The folds that are judged, and nothing that must not be.

    Raises:
        CannotStitch: there is a gap, or none is left.
        NothingToScore: a final fold was looked at before.
    """
    opened = config.open_final or config.score_again
    parts = [part for part in found.parts if opened or not part.final]
    lost = [f"{name}: {why}" for name, why in found.missing.items()]
    if not parts:
        closed = [part.fold.name for part in found.parts]
        what = f"only final folds could be judged ({', '.join(closed)}); {OPEN}" if closed else "no fold is complete"
        raise CannotStitch("; ".join([what, *lost]))
    if (between := gaps(parts, found.panel.dates)) and not config.allow_gaps:
        raise CannotStitch(
            f"no fold tests {', '.join(between)}. {'; '.join(lost) or 'They are of final folds'}. Train the missing "
            "folds, or set the config allow_gaps: true"
        )
    for part in parts:
        if part.final and not config.score_again and (before := looked_at(entries, part.fold)):
            raise NothingToScore(
                f"days of the final fold {part.fold.name} were scored on {before[-1]['at']}: a second look would make "
                "it a development fold, whatever was trained since. Wait for days that nobody has looked at, or set "
                "the config score_again: true, which the ledger records"
            )
    return parts


def common_phases(found: Found, parts: Sequence[Part], wanted: Sequence[int]) -> list[Phase]:
    """The phases that are judged: those that every fold was scored by.

    Raises:
        CannotStitch: there is none, or a fold lacks one that is asked for.
    """
    lacking = {phase: [part.fold.name for part in parts if phase not in found.runs[part.fold.name]] for phase in PHASES}
    kept = [phase for phase in PHASES if (phase.index in wanted if wanted else not lacking[phase])]
    for phase in kept:
        if lacking[phase]:
            raise CannotStitch(f"phase {phase.index} has not scored the folds {', '.join(lacking[phase])}")
    if not kept or not set(wanted) <= {phase.index for phase in PHASES}:
        raise CannotStitch("no phase has scored every fold: train one phase on all of them, or give the config phases")
    return kept


def walk_forward_asset(settings: Settings, lane: Lane, rows: Sequence[FoldRow]) -> dg.AssetsDefinition:
    """The asset; it reads every partition of the folds."""
    all_folds = dg.AllPartitionMapping()

    @dg.asset(
        name=WALK_FORWARD,
        group_name=TRAINING,
        deps=[
            "training_panel",
            FOLDS_ASSET,
            dg.AssetDep(lane.asset(BASELINES), partition_mapping=all_folds),
            *(dg.AssetDep(lane.phase(phase), partition_mapping=all_folds) for phase in PHASES),
            dg.AssetDep(FOLD_SCORES, partition_mapping=all_folds),
        ],
        check_specs=[
            dg.AssetCheckSpec(
                NO_OVERLAP,
                asset=WALK_FORWARD,
                blocking=True,
                description="No day is tested twice, and all training ends before its fold's test block by purge and "
                "embargo.",
            ),
            dg.AssetCheckSpec(
                GAIN,
                asset=WALK_FORWARD,
                description="Paired daily RankIC of the last phase against each baseline over all folds; a warning.",
            ),
        ],
        kinds={"numpy"},
        tags={"atft/kind": "evaluation"},
        code_version=CODE_VERSION,
        description="All test blocks end to end, judged once. The folds' networks and baselines on the same rows; "
        "final folds stay shut until the config `open_final: true`.",
    )
    def walk_forward(context: dg.AssetExecutionContext, config: WalkForwardConfig, store: Store) -> Iterator[Event]:
        folder = store.local("evaluation")
        with permanent(f"{WALK_FORWARD} cannot start"):
            found = gather(store, lane, rows)
            faults = audit(found.parts, found.panel.dates)
        if faults:
            yield _no_overlap(found, faults)
            raise PermanentFailure(f"{WALK_FORWARD} refuses the folds, nothing was judged: {'; '.join(faults)}")
        with permanent(f"{WALK_FORWARD} cannot start"):
            entries = ledger(folder)
            parts = judged_parts(found, config, entries)
            phases = common_phases(found, parts, config.phases)
        for name, why in found.missing.items():
            context.log.warning(f"fold {name} is missing: {why}")
        frames = {name: stitched(parts, name) for name in names(parts, lane, phases)}
        block = stitched_block(found.panel, parts, frames)
        scored = judged_rows(settings, lane, block, phases, frames)
        board = judge(lane, found, parts, phases, block, scored)
        with permanent(f"{WALK_FORWARD} cannot read the universe"):
            members = members_of(store, block)
        board["most_traded"] = among_most_traded(block, scored, members)
        profiles = profiles_of(scored, block, members)
        which = FINAL if any(part.final for part in parts) else DEVELOPMENT
        looks = [_look(found, part, lane, board["created_at"], context.run.run_id) for part in parts]
        board["scorings"] = {
            look["fold"]: len(looked_at(entries, p.fold)) + 1 for look, p in zip(looks, parts, strict=True)
        }
        path = folder / WALK_FORWARD / f"{which}.json"
        with permanent(f"{WALK_FORWARD} cannot be kept"):
            # the ledgers first: figures that somebody can read must stand in them
            record_looks(folder, looks)
            seen(root_of(store), _blends(store, found, parts, phases[-1], scored))
            for name, frame in {**frames, **blended(parts, scored)}.items():
                write_scores(path.parent / "scores" / f"{which}-{name}.parquet", frame)
            write_json(path, {**board, "profiles": profiles})
            store.push("trials")
            store.push("evaluation")
            page = write_page(store, board, profiles)
        yield dg.MaterializeResult(
            asset_key=WALK_FORWARD,
            metadata={
                **report.shown(board),
                **shown(page, board, profiles),
                "path": dg.MetadataValue.path(str(path)),
            },
        )
        yield _no_overlap(found, [])
        yield gain_verdict(board)

    return walk_forward


def names(parts: Sequence[Part], lane: Lane, phases: Sequence[Phase]) -> list[str]:
    """What is judged: these phases, and the baselines that all folds share."""
    networks = {lane.phase(phase) for phase in PHASES}
    shared = [name for name in parts[0].scores if all(name in part.scores for part in parts)]
    return [*(lane.phase(phase) for phase in phases), *(name for name in shared if name not in networks)]


def judged_rows(
    settings: Settings, lane: Lane, block: Block, phases: Sequence[Phase], frames: Mapping[str, pl.DataFrame]
) -> list[Row]:
    """The lines of the table: phases, baselines, the last phase blended with LightGBM, on the sandbox the oracle."""
    kinds = {lane.phase(phase): phase for phase in phases}
    rows = []
    for name, frame in frames.items():
        label = kinds[name].name if name in kinds else ""
        rows.append(Row(name, "phase" if name in kinds else "baseline", block.score(frame), label, scores=frame))
    rows += blend_rows(block, rows)
    if oracle := oracle_row(settings, block):
        rows.append(oracle)
    return rows


def among_most_traded(block: StitchedBlock, rows: Sequence[Row], members: pl.DataFrame | None) -> dict[str, Any] | None:
    """The same table among the 1,000 most traded names of each year, ranked among themselves; None where there are no
    more, or nobody knows.
    """
    among = most_traded(block, members)
    if among is None:
        return None
    narrow = replace(block, scored=block.scored & among)
    judged = [replace(row, score=narrow.score(row.scores)) for row in rows if row.scores is not None]
    return table(judged, narrow, WALK_FORWARD)


def blended(parts: Sequence[Part], rows: Sequence[Row]) -> dict[str, pl.DataFrame]:
    """The stitched scores of the blend by its name, as those of a network or a baseline are; empty without one."""
    return {
        row.name: in_folds(parts, [row.scores.filter(pl.col("date").is_between(*part.fold.test)) for part in parts])
        for row in rows
        if row.kind == "blend" and row.scores is not None
    }


def judge(
    lane: Lane, found: Found, parts: Sequence[Part], phases: Sequence[Phase], block: StitchedBlock, rows: Sequence[Row]
) -> dict[str, Any]:
    """The table of all names, on the rows that all have scored, with the figures of each fold."""
    seeds = {len(found.runs[part.fold.name][phase].runs) for part in parts for phase in phases}
    daily = {row.name: row.score.daily for row in rows}
    board = table(rows, block, WALK_FORWARD)
    judged = block.judged_days
    return {
        **board,
        "days": int(judged.sum()),
        "rows_left_out": block.left_out,
        "seeds": max(seeds),
        "folds": [
            {
                "fold": part.fold.name,
                "train": [str(day) for day in part.fold.train],
                "validation": [str(day) for day in part.fold.validation],
                "test": [str(day) for day in part.fold.test],
                "final": part.final,
                "runs": {lane.phase(phase): found.runs[part.fold.name][phase].run_ids for phase in phases},
            }
            for part in parts
        ],
        "by_fold": {name: by_fold(found.panel, parts, block, values) for name, values in daily.items()},
        "by_month": {name: by_month(found.panel, block, values) for name, values in daily.items()},
        "missing": found.missing,
        "closed": [part.fold.name for part in found.parts if part not in parts],
        "gaps": gaps(parts, found.panel.dates),
    }


def write_scores(path: Path, frame: pl.DataFrame) -> None:
    """Publish stitched scores with their hash beside them; the file is replaced in one step."""
    buffer = io.BytesIO()
    frame.write_parquet(buffer, compression="zstd")
    data = buffer.getvalue()
    sibling = path.with_name(f".{path.name}.{os.getpid()}.staged")
    with writing(path, len(data)):
        path.parent.mkdir(parents=True, exist_ok=True)
        sibling.write_bytes(data)
        os.replace(sibling, path)
    write_sidecar(path, hashlib.sha256(data).hexdigest())


def _blends(store: Store, found: Found, parts: Sequence[Part], last: Phase, rows: Sequence[Row]) -> Iterator[Trial]:
    """The blend of each fold as lines of the ledger of trials; one if all are of one recipe."""
    for part in parts:
        name = part.fold.name
        if fitted := stored_baselines(store.local("runs", name, BASELINES)):
            yield from blends(rows, found.runs[name][last], fitted, WALK_FORWARD)


def _look(found: Found, part: Part, lane: Lane, at: str, dagster_run: str) -> dict[str, Any]:
    """The ledger's line of one fold."""
    first, last = map(str, part.fold.test)
    runs = {lane.phase(phase): ", ".join(one.run_ids) for phase, one in found.runs[part.fold.name].items()}
    return {
        "fold": part.fold.name,
        "first": first,
        "last": last,
        "runs": runs,
        "panel_id": found.panel.panel_id,
        "at": at,
        "kind": FINAL if part.final else DEVELOPMENT,
        "dagster_run": dagster_run,
    }


def _no_overlap(found: Found, faults: Sequence[str]) -> dg.AssetCheckResult:
    return dg.AssetCheckResult(
        asset_key=WALK_FORWARD,
        check_name=NO_OVERLAP,
        passed=not faults,
        severity=dg.AssetCheckSeverity.ERROR,
        description="; ".join(faults) or f"{len(found.parts)} test blocks, no day twice, none too near to a training",
    )


def gain_verdict(board: Mapping[str, Any]) -> dg.AssetCheckResult:
    """Passes if the last phase is above every baseline beyond chance."""
    pairs = report.gains(board)
    behind = [name for name, pair in pairs.items() if not (pair["low"] is not None and pair["low"] > 0)]
    return dg.AssetCheckResult(
        asset_key=WALK_FORWARD,
        check_name=GAIN,
        passed=bool(pairs) and not behind,
        severity=dg.AssetCheckSeverity.WARN,
        description=f"not told apart from, or below: {', '.join(behind)}"
        if behind
        else f"above {', '.join(pairs)} beyond chance"
        if pairs
        else "no baseline was fitted on every fold",
        metadata={"against": dg.MetadataValue.table(report.gain_records(board))} if pairs else {},
    )
