"""What trainings, baselines and blends add to the ledger of trials: a line a recipe, before its figures can be read."""

from collections.abc import Iterator, Sequence

from atft_assets.reports.scoreboard import Row
from atft_assets.training.baselines import StoredBaselines
from atft_assets.training.run_facts import settings_of
from atft_assets.training.seeds import Ensemble
from atft_assets.trials.ledger import BLENDS, TRAININGS, Trial
from atft_assets.trials.recipes import recipe_of_baseline, recipe_of_blend, recipe_of_run
from atft_model.interchange.records import to_plain


def trainings(asset: str, trained: Ensemble) -> Iterator[Trial]:
    """The runs of a phase; seeds of one recipe are one trial."""
    for run in trained.runs:
        rank_ic = (run.record.validation or {}).get("rank_ic")
        yield Trial(
            study=TRAININGS,
            number=f"{asset} {run.run_id}",
            recipe=recipe_of_run(run.folder),
            params={name: value for name, value in settings_of(run.record).items() if name not in ("seed", "device")},
            values={} if rank_ic is None else {run.record.fold.name: rank_ic},
        )


def blends(rows: Sequence[Row], network: Ensemble, baselines: StoredBaselines, fold: str) -> Iterator[Trial]:
    """The blend of a table, if it has one.

    Args:
        network: the runs of the phase that the blend is made of.
        baselines: the set that its other part is of.
    """
    for row in rows:
        if row.kind == "blend":
            trees = recipe_of_baseline(row.parts[1], baselines.record)
            yield Trial(
                study=BLENDS,
                number=f"{' + '.join(row.parts)} {fold}",
                recipe=recipe_of_blend([recipe_of_run(network.newest.folder), trees]),
                values=to_plain({fold: row.score.rank_ic}),
            )
