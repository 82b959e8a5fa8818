"""`runs_report`: every run of all folds and phases side by side, and two of them over each other."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import dagster as dg
from pydantic import Field

from atft_assets.failures import Refusal, permanent
from atft_assets.groups import TRAINING
from atft_assets.reports.curves import overlay_png
from atft_assets.reports.pages import write_page
from atft_assets.reports.run_table import RunLine, best_of, records, render, two_newest
from atft_assets.store import Store
from atft_assets.training.lanes import EVALUATION, Lane
from atft_assets.training.run_facts import figures_of, settings_of
from atft_assets.training.runs import all_runs, open_run
from atft_model.interchange.errors import RunError
from atft_model.interchange.phases import PHASES
from atft_model.interchange.records import read_pointer
from atft_model.interchange.run import LATEST, read_record

NAME = "runs_report"
PAGE = "runs.html"


class NoSuchRun(Refusal):
    """A run that is to be drawn is not there."""


class RunsReportConfig(dg.Config):
    """What the report draws."""

    overlay: list[str] = Field(
        default=[],
        max_length=2,
        description="Ids of two finished runs to draw over each other. Default: the newest two of one fold and phase",
    )


def run_lines(runs: Path) -> Iterator[RunLine]:
    """A line for each run directory under `runs`; one whose record cannot be read says why."""
    phases = {phase.key for phase in PHASES}
    for folder in sorted(all_runs(runs)):
        fold, phase = folder.parts[-3:-1]
        if phase not in phases:
            continue
        try:
            record = read_record(folder)
            published = read_pointer(folder.parent / LATEST, RunError) == folder.name
        except RunError as error:
            yield RunLine(fold, phase, folder.name, f"unreadable: {error}", "–", False, {}, {})
            continue
        parent = record.parent.run_id if record.parent else "random weights"
        figures = figures_of(record) if record.status == "finished" else {}
        yield RunLine(fold, phase, folder.name, record.status, parent, published, settings_of(record), figures)


def picked(lines: Sequence[RunLine], wanted: Sequence[str]) -> list[RunLine]:
    """The runs to draw: those with the ids that are wanted, or the newest two of one fold and phase.

    Raises:
        NoSuchRun: none that finished has such an id.
    """
    if not wanted:
        return two_newest(lines)
    by_id = {line.run_id: line for line in lines if line.status == "finished"}
    if missing := [one for one in wanted if one not in by_id]:
        raise NoSuchRun(
            f"there is no finished run {', '.join(missing)}; the newest are {', '.join(sorted(by_id)[-5:])}"
        )
    return [by_id[one] for one in wanted]


def runs_report_asset(lanes: Sequence[Lane]) -> dg.AssetsDefinition:
    """The asset; unpartitioned, it reads the runs of every fold."""

    @dg.asset(
        name=NAME,
        group_name=TRAINING,
        deps=[*(lane.phase(phase) for lane in lanes for phase in PHASES), EVALUATION],
        kinds={"matplotlib"},
        tags={"atft/kind": "evaluation"},
        description="Every run, its settings and figures side by side. An HTML page; the best of each phase is marked, "
        "two runs are drawn over each other.",
    )
    def runs_report(context: dg.AssetExecutionContext, config: RunsReportConfig, store: Store) -> dg.MaterializeResult:
        with permanent(f"{NAME} cannot be made"):
            runs = store.local("runs")
            lines = list(run_lines(runs))
            drawn = picked(lines, config.overlay)
            opened = {line.run_id: open_run(runs / line.fold / line.phase / line.run_id) for line in drawn}
            picture = overlay_png(
                {
                    f"{line.fold}/{line.phase}\n{line.run_id}": (
                        opened[line.run_id].metrics(),
                        opened[line.run_id].record.kept_epoch,
                    )
                    for line in drawn
                }
            )
            page = write_page(store, PAGE, render(lines, drawn, picture))
        best = sorted(best_of(lines), key=lambda line: line.place)
        return dg.MaterializeResult(
            asset_key=NAME,
            metadata={
                "outcome": "; ".join(
                    f"{line.fold}/{line.phase} {line.figures['rank_ic']:.4f} ({line.settings['preset']}, {line.run_id})"
                    for line in best
                )
                or "no run has finished yet",
                "page": dg.MetadataValue.path(str(page)),
                "newest": dg.MetadataValue.table(records(lines)) if lines else "none",
                "overlaid": dg.MetadataValue.md(f"![overlaid](data:image/png;base64,{picture})"),
                "runs": len(lines),
                "runs_finished": sum(line.status == "finished" for line in lines),
            },
        )

    return runs_report
