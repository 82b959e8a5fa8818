"""One table of everything that ranks: the stages' newest runs, the baselines, on the sandbox the oracle.

`evaluation` scores the validation block, as often as one likes. `test_evaluation` scores the test block, once for a set
of runs: a block that was looked at before a choice was made is no test any more, so a second look must be asked for
by config, and the ledger says that it was taken.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import dagster as dg
import polars as pl

from atft_assets.settings import Settings
from atft_assets.store import Store, StoreError, write_text_atomically
from atft_assets.training.baselines import StoredBaselines, stored_baselines
from atft_assets.training.block import Block
from atft_assets.training.evaluation import Score, paired_difference
from atft_assets.training.launcher import TrainingFailed, TrainingLauncher
from atft_assets.training.panel_file import Panel, PanelError, latest_panel
from atft_assets.training.phases import PHASES
from atft_assets.training.runs import Run, RunError, latest_run

CODE_VERSION = "1"
VALIDATION_FILE, TEST_FILE, LEDGER_FILE = "validation.json", "test.json", "test_ledger.jsonl"
TOLERANCE = 1e-4  # between the trainer's own RankIC and ours
AGREEMENT = "agreement"
ORACLE = "oracle"


@dataclass
class Row:
    """One line of the table."""

    name: str
    kind: str  # stage, baseline or oracle
    score: Score
    label: str = ""
    facts: dict[str, Any] = field(default_factory=dict)


def stage_runs(runs: Path) -> dict[str, Run]:
    """The newest published run of each stage that has one.

    Raises:
        RunError: a pointer names a run that is not whole.
    """
    newest = {spec.asset: latest_run(runs / spec.asset) for spec in PHASES}
    return {stage: run for stage, run in newest.items() if run is not None}


def table(rows: list[Row], block: Block) -> dict[str, Any]:
    """The scoreboard as plain JSON: every row with its figures and its paired daily differences.

    A stage is compared with the stage before it, and with each baseline.
    """
    by_name = {row.name: row for row in rows}
    stages = [row for row in rows if row.kind == "stage"]
    baselines = [row for row in rows if row.kind == "baseline"]
    lines = []
    for row in rows:
        against = {other.name: other for other in baselines} if row.kind == "stage" else {}
        previous = stages[stages.index(row) - 1] if row in stages[1:] else None
        if previous:
            against[previous.name] = previous
        lines.append(
            {
                "name": row.name,
                "kind": row.kind,
                "label": row.label,
                **row.facts,
                **row.score.as_json(),
                "previous": previous.name if previous else None,
                "against": {
                    name: {
                        **paired_difference(row.score.daily, other.score.daily).as_json(),
                        "neutral": paired_difference(row.score.daily_neutral, other.score.daily_neutral).as_json(),
                    }
                    for name, other in against.items()
                },
            }
        )
    first, last = block.days[0], block.days[-1]
    return {
        "block": block.name,
        "first": str(block.panel.dates[first]),
        "last": str(block.panel.dates[last]),
        "days": len(block.days),
        "panel_id": block.panel.panel_id,
        "horizons": block.panel.horizons,
        "has_oracle": ORACLE in by_name,
        "created_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "rows": lines,
    }


def stage_row(stage: str, run: Run, score: Score) -> Row:
    """A stage's line."""
    record = run.record
    spec = next(spec for spec in PHASES if spec.asset == stage)
    facts = {
        "run_id": run.run_id,
        "seconds": record.get("seconds"),
        "epochs": record.get("epochs"),
        "reported_rank_ic": record["validation"]["rank_ic"],
    }
    return Row(stage, "stage", score, spec.name, facts)


def baseline_rows(stored: StoredBaselines | None, block: Block) -> Iterator[Row]:
    """The baselines' lines, if they were fitted on this panel."""
    if stored is None or stored.record["panel_id"] != block.panel.panel_id:
        return
    for name in stored.names():
        facts = {"seconds": stored.record["baselines"][name]["seconds"]}
        yield Row(name, "baseline", block.score(stored.scores(name, block.name)), facts=facts)


def oracle_row(settings: Settings, block: Block) -> Row | None:
    """What a perfect forecaster of the sandbox's planted signals attains; None on real data."""
    if not settings.sandbox or settings.end is None:
        return None
    from atft_assets.sandbox.market import demo_config, simulate
    from atft_assets.sandbox.oracle import oracle_scores

    market = simulate(demo_config(settings.start, settings.end))
    return Row(ORACLE, "oracle", block.score(oracle_scores(market, block.panel.horizons)))


def markdown(board: Mapping[str, Any]) -> str:
    """The table for Dagster's UI."""
    head = "| | RankIC | t | ICIR | " + " | ".join(f"{h}d" for h in board["horizons"])
    head += " | neutral | Δ previous | Δ ridge | coverage |"
    lines = [head, "|---" * (8 + len(board["horizons"])) + "|"]
    for row in board["rows"]:
        cells = [f"{row['name']} {row['label']}".strip(), _cell(row["rank_ic"], ".4f"), _cell(row["t"], ".1f")]
        cells += [_cell(row["icir"], ".2f")]
        cells += [_cell(row["by_horizon"][str(h)]["rank_ic"], ".4f") for h in board["horizons"]]
        cells += [_cell(row["neutral_rank_ic"], ".4f")]
        cells += [_difference(row["against"].get(name)) for name in (row["previous"], "ridge")]
        cells += [_cell(row["coverage"], ".3f")]
        lines.append("| " + " | ".join(cells) + " |")
    lines.append(
        f"\n{board['block']} block, {board['first']} to {board['last']}, {board['days']} days, "
        f"panel {board['panel_id']}.\n"
        "RankIC: mean daily Spearman, horizons weighted 1, 0.8, 0.6, 0.4. Δ: paired daily difference with its 95 % "
        "interval (block bootstrap). Neutral: residual on 20-day volatility and sector33."
    )
    return "\n".join(lines)


def _cell(value: float | None, form: str) -> str:
    return "–" if value is None else format(value, form)


def _difference(pair: Mapping[str, Any] | None) -> str:
    if pair is None or pair["mean"] is None:
        return "–"
    return f"{pair['mean']:+.4f} [{pair['low']:+.4f}, {pair['high']:+.4f}]"


def _figures(board: Mapping[str, Any]) -> dict[str, float]:
    """Numbers that Dagster plots over the evaluations."""
    figures = {}
    for row in board["rows"]:
        for name in ("rank_ic", "t", "icir", "neutral_rank_ic"):
            if row[name] is not None:
                figures[f"{row['name']}/{name}"] = float(row[name])
    return figures


def disagreements(board: Mapping[str, Any]) -> list[str]:
    """Stages whose own RankIC is not ours; both are of the same scores, days and names."""
    found = []
    for row in board["rows"]:
        if row["kind"] == "stage":
            ours, theirs = row["rank_ic"], row["reported_rank_ic"]
            if ours is None or theirs is None or not abs(ours - theirs) <= TOLERANCE:
                found.append(f"{row['name']} reports {theirs}, its scores give {ours}")
    return found


def evaluation_asset(settings: Settings) -> dg.AssetsDefinition:
    """The asset `evaluation`."""

    @dg.asset(
        name="evaluation",
        group_name="training",
        deps=["training_panel", "baselines", *(spec.asset for spec in PHASES)],
        check_specs=[
            dg.AssetCheckSpec(
                AGREEMENT,
                asset="evaluation",
                description=f"The trainer's own validation RankIC equals this evaluation's within {TOLERANCE:g}.",
            )
        ],
        kinds={"numpy"},
        owners=["team:atft"],
        tags={"atft/kind": "evaluation"},
        code_version=CODE_VERSION,
        description="All stages' newest runs on the validation block, against baselines and (sandbox) the oracle.",
    )
    def evaluation(context: dg.AssetExecutionContext, store: Store):
        panel, runs = _panel_and_runs(context, "evaluation", store)
        block = Block(panel, "validation")
        rows = [stage_row(stage, run, block.score(run.scores())) for stage, run in runs.items()]
        rows += baseline_rows(stored_baselines(store.local("runs")), block)
        if oracle := oracle_row(settings, block):
            rows.append(oracle)
        board = table(rows, block)
        path = store.local("evaluation", VALIDATION_FILE)
        write_text_atomically(path, json.dumps(board, indent=1) + "\n")
        yield dg.MaterializeResult(
            asset_key="evaluation",
            metadata={
                "table": dg.MetadataValue.md(markdown(board)),
                "path": dg.MetadataValue.path(str(path)),
                **_figures(board),
            },
        )
        wrong = disagreements(board)
        yield dg.AssetCheckResult(
            asset_key="evaluation",
            check_name=AGREEMENT,
            passed=not wrong,
            severity=dg.AssetCheckSeverity.ERROR,
            description="; ".join(wrong) or f"trainer and evaluation agree on {len(runs)} runs",
            metadata={"compared": len(runs)},
        )

    return evaluation


class ScoringConfig(dg.Config):
    """How the test block is scored.

    Attributes:
        score_again: score runs whose test block was scored before; the ledger keeps both.
    """

    score_again: bool = False


def ledger(folder: Path) -> list[dict[str, Any]]:
    """Every scoring of a test block so far: panel, runs, when, and whether it was a repetition."""
    try:
        return [json.loads(line) for line in (folder / LEDGER_FILE).read_text().splitlines() if line]
    except FileNotFoundError:
        return []


def test_evaluation_asset(settings: Settings) -> dg.AssetsDefinition:
    """The asset `test_evaluation`."""

    @dg.asset(
        name="test_evaluation",
        group_name="training",
        deps=["training_panel", "baselines", *(spec.asset for spec in PHASES), "evaluation"],
        pool="gpu",
        kinds={"numpy", "torch"},
        owners=["team:atft"],
        tags={"atft/kind": "evaluation"},
        code_version=CODE_VERSION,
        description="The same table on the test block: scored once for a set of runs, at the end.",
    )
    def test_evaluation(
        context: dg.AssetExecutionContext, config: ScoringConfig, store: Store, launcher: TrainingLauncher
    ):
        panel, runs = _panel_and_runs(context, "test_evaluation", store)
        folder = store.local("evaluation")
        ids = {stage: run.run_id for stage, run in runs.items()}
        before = [entry for entry in ledger(folder) if set(entry["runs"].items()) & set(ids.items())]
        if before and not config.score_again:
            raise dg.Failure(
                f"the test block of these runs was scored on {before[-1]['at']}: a second look would make it a "
                f"validation block. Its figures are in {folder / TEST_FILE}; train anew, or set the config "
                "score_again: true, which the ledger records",
                allow_retries=False,
            )
        block = Block(panel, "test")
        rows = []
        for stage, run in runs.items():
            scores = folder / "scores" / f"{stage}-{run.run_id}-test.parquet"
            try:
                launcher.predict(context, panel=panel.folder, run=run.folder, block="test", out=scores)
            except TrainingFailed as failure:
                raise dg.Failure(f"test_evaluation: {stage} {run.run_id}: {failure}", allow_retries=False) from failure
            rows.append(stage_row(stage, run, block.score(pl.read_parquet(scores))))
        rows += baseline_rows(stored_baselines(store.local("runs")), block)
        if oracle := oracle_row(settings, block):
            rows.append(oracle)
        board = {**table(rows, block), "scorings": len(before) + 1}
        entry = {
            "panel_id": panel.panel_id,
            "runs": ids,
            "at": board["created_at"],
            "again": bool(before),
            "dagster_run": context.run.run_id,
        }
        write_text_atomically(
            folder / LEDGER_FILE, "".join(json.dumps(line) + "\n" for line in [*ledger(folder), entry])
        )
        write_text_atomically(folder / TEST_FILE, json.dumps(board, indent=1) + "\n")
        return dg.MaterializeResult(
            asset_key="test_evaluation",
            metadata={
                "table": dg.MetadataValue.md(markdown(board)),
                "path": dg.MetadataValue.path(str(folder / TEST_FILE)),
                "scorings": board["scorings"],
                **_figures(board),
            },
        )

    return test_evaluation


def _panel_and_runs(context: dg.AssetExecutionContext, asset: str, store: Store) -> tuple[Panel, dict[str, Run]]:
    """The newest panel, and the stages' newest runs on it.

    Runs of another panel are left out: they may have learned from days that this panel's block judges by.
    """
    try:
        panel = latest_panel(store.local("panel"))
        runs = stage_runs(store.local("runs"))
    except (PanelError, RunError, StoreError) as error:
        raise dg.Failure(f"{asset} cannot start: {error}", allow_retries=False) from error
    usable = {stage: run for stage, run in runs.items() if run.record["panel_id"] == panel.panel_id}
    if left_out := [stage for stage in runs if stage not in usable]:
        context.log.warning(f"left out, because they were trained on another panel: {', '.join(left_out)}")
    if not usable:
        raise dg.Failure(
            f"{asset} cannot start: no stage has a finished run on panel {panel.panel_id}; run: "
            f"dagster asset materialize --select {PHASES[0].asset}",
            allow_retries=False,
        )
    return panel, usable
