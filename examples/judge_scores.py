"""Judge scores of your own, on the rows and by the judge by which the platform's own models are judged.

    python examples/judge_scores.py mine.parquet

`mine.parquet` holds date, code and a score per horizon: score_1d, score_5d, score_10d, score_20d; higher is better, and
only the order within a day counts. They are scored on the validation block of the newest run's fold, beside the stored
baselines; the test block is not touched. *neutral* is what is left beyond sector and 20-day volatility; *p* is that of
the difference, after Holm, as there is one a baseline; a block too short to tell has none.
"""

import math
import sys
from pathlib import Path

import polars as pl

from atft_assets.scoring.block import Block
from atft_assets.scoring.evaluation import Score
from atft_assets.settings import Settings
from atft_assets.store import Store
from atft_assets.training.baselines import stored_baselines
from atft_assets.training.lanes import BASELINES
from atft_assets.training.runs import latest_run
from atft_model.interchange.fold import MAIN
from atft_model.interchange.panel import open_panel
from atft_model.interchange.statistics import holm, paired_difference

BLOCK = "validation"


def baselines(runs: Path) -> dict[str, pl.DataFrame]:
    """Scores of the newest stored baselines, by name; empty where there are none."""
    stored = stored_baselines(runs / MAIN / BASELINES)
    return {name: stored.scores(name, BLOCK) for name in stored.names()} if stored else {}


def main(arguments: list[str]) -> None:
    """Print one line for the scores and one for each baseline."""
    if len(arguments) != 1:
        raise SystemExit("usage: python examples/judge_scores.py SCORES.parquet")
    store = Store(root=Settings.from_env().data_root)
    runs = store.local("runs")
    newest = latest_run(runs / MAIN / "phase0")
    if newest is None:
        raise SystemExit("no run of phase0 yet: dagster asset materialize --select train_phase0")
    run = newest.record
    block = Block.of(open_panel(store.local("panel", run.panel_id)), run.fold, BLOCK)
    mine = block.score(pl.read_parquet(arguments[0]))
    print(
        f"{BLOCK} block of fold {run.fold.name}, {len(block.days)} trading days; {mine.coverage:.0%} of the rows scored"
    )
    print(f"{'':<20}{'RankIC':>8}{'t':>7}{'neutral':>9}{'mine minus it':>15}{'p':>7}")
    print(_line("mine", mine))
    theirs = {name: block.score(frame) for name, frame in sorted(baselines(runs).items())}
    longest = max(block.panel.horizons)
    gains = [paired_difference(mine.daily, score.daily, longest) for score in theirs.values()]
    for (name, score), gain, p in zip(theirs.items(), gains, holm([gain.p for gain in gains]), strict=True):
        print(f"{_line(name, score)}{gain.mean:>+15.4f}{'–' if math.isnan(p) else f'{p:.2f}':>7}")


def _line(name: str, score: Score) -> str:
    return f"{name:<20}{score.rank_ic:>8.4f}{score.t:>7.1f}{score.neutral_rank_ic:>9.4f}"


if __name__ == "__main__":
    main(sys.argv[1:])
