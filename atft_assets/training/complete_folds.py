"""Which folds of a walk-forward are complete on the newest panel, with their scores; of the others, what they lack."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import polars as pl

from atft_assets.store import Store
from atft_assets.training.evaluation import Candidates, NothingToScore, candidates
from atft_assets.training.fold_scores import scored_fold, scores_of_phase
from atft_assets.training.folds import FoldRow, fold_on
from atft_assets.training.lanes import BASELINES, FOLD_SCORES, Lane
from atft_assets.training.seeds import Ensemble
from atft_assets.training.stitching import Part
from atft_model.interchange.errors import FoldError
from atft_model.interchange.fold import MAIN
from atft_model.interchange.panel import Panel, latest_panel
from atft_model.interchange.phases import PHASES, Phase
from atft_model.interchange.run import lineage


@dataclass(frozen=True)
class Found:
    """The folds as they stand on the newest panel.

    Attributes:
        runs: of each part, by the part's name, the phases that have scored it.
        missing: of the other folds, why they are not among the parts.
    """

    panel: Panel
    parts: list[Part] = field(default_factory=list)
    runs: dict[str, dict[Phase, Ensemble]] = field(default_factory=dict)
    missing: dict[str, str] = field(default_factory=dict)


def gather(store: Store, lane: Lane, rows: Sequence[FoldRow]) -> Found:
    """Every fold that was trained and scored on the newest panel; of the others the reason.

    Raises:
        PanelError, FoldError, RunError: there is no panel, `main` was not cut on it, or a file is damaged.
    """
    panel = latest_panel(store.local("panel"))
    kept = fold_on(store, panel, MAIN).test
    found = Found(panel)
    for row in (row for row in rows if row.name != MAIN):
        try:
            one = candidates(store, lane, row.name)
            runs = _scored(store, lane, one)
        except (FoldError, NothingToScore) as why:
            found.missing[row.name] = str(why)
            continue
        first, last = one.fold.test
        found.parts.append(
            Part(
                one.fold,
                row.final or (first <= kept[1] and last >= kept[0]),
                {
                    f"run {record.run_id}": record.fold
                    for ensemble in runs.values()
                    for run in ensemble.runs
                    for record in lineage(run.folder)
                },
                _scores(store, lane, one, runs),
            )
        )
        found.runs[row.name] = runs
    found.parts.sort(key=lambda part: part.fold.test)
    return found


def _scored(store: Store, lane: Lane, found: Candidates) -> dict[Phase, Ensemble]:
    """The phases whose newest runs have scored the fold's test block."""
    name = found.fold.name
    again = f"run: {lane.command([FOLD_SCORES], name)}"
    index = scored_fold(store.local("evaluation", name))
    if index is None:
        raise NothingToScore(f"its test block was not scored; {again}")
    if (index.fold, index.panel_id) != (found.fold, found.panel.panel_id):
        raise NothingToScore(f"its test block was scored on other days or on panel {index.panel_id}; {again}")
    scored = {phase: index.runs[phase.key] for phase in PHASES if phase.key in index.runs}
    newer = [
        lane.phase(phase)
        for phase, ids in scored.items()
        if phase not in found.runs or found.runs[phase].run_ids != ids
    ]
    if newer:
        raise NothingToScore(f"{', '.join(newer)} was trained anew since its test block was scored; {again}")
    if found.baselines is None:
        raise NothingToScore(f"it has no baselines on these days; run: {lane.command([lane.asset(BASELINES)], name)}")
    return {phase: found.runs[phase] for phase in scored}


def _scores(store: Store, lane: Lane, found: Candidates, runs: Mapping[Phase, Ensemble]) -> dict[str, pl.DataFrame]:
    """Scores of the test block by name: phases, then baselines."""
    folder = store.local("evaluation", found.fold.name)
    scores = {
        lane.phase(phase): scores_of_phase(folder, lane.phase(phase), runs[phase].run_ids)
        for phase in PHASES
        if phase in runs
    }
    assert found.baselines is not None
    return scores | {name: found.baselines.scores(name, "test") for name in found.baselines.names()}
