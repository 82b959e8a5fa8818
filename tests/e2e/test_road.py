"""What the README promises of the command line."""

import os
import re
import signal
import time
from itertools import pairwise

import pytest

from atft_assets.store import Store
from atft_model.interchange.run import LATEST, RunRecord, read_finished
from tests.patience import PATIENCE

pytestmark = pytest.mark.e2e

RAW = ("trading_calendar", "listed_info", "daily_quotes", "topix", "sector_indices")
FEATURES = (
    "universe", "stock_features", "market_features", "stock_market_features", "sector_features", "all_features",
    "labels",
)  # fmt: skip


def latest_run(data, phase: int) -> RunRecord:
    """The record of the newest finished run of a phase, on the fold `main`."""
    folder = data / "runs" / "main" / f"phase{phase}"
    return read_finished(folder / (folder / LATEST).read_text().strip())


def test_make_road_builds_every_table_and_four_checkpoints(built):
    store = Store(root=str(built.shell.data))
    for name in RAW:
        assert store.table("raw", name).keys(), name
    for name in FEATURES:
        table = store.table("features", name)
        assert all(entry.contract_passed for entry in table.manifest().entries.values()) and table.keys(), name
    assert len(store.table("features", "all_features").keys()) == 24
    runs = [latest_run(built.shell.data, phase) for phase in range(4)]
    assert [run.phase for run in runs] == [0, 1, 2, 3]
    assert {run.fold.name for run in runs} == {"main"} and len({run.panel_id for run in runs}) == 1
    assert runs[0].parent is None
    for child, parent in pairwise(reversed(runs)):
        assert child.parent is not None and child.parent.sha256 == parent.checkpoint_sha256


def test_the_closing_table_names_phases_baselines_and_the_oracle(built):
    table = built.printed[-4000:]
    for row in ("Baseline", "Adaptive Norm", "GAT", "Fine-tuning", "ridge", "oracle"):
        assert re.search(row, table, re.IGNORECASE), table
    for column in ("RankIC", "ICIR", "seconds"):
        assert column in table


def test_the_cards_line_retrains_that_phase_alone(built):
    """`dagster asset materialize --select train_phase2`, word for word, after sourcing env.sh."""
    data = built.shell.data
    before = [latest_run(data, phase) for phase in range(4)]
    done = built.shell.run(". ./env.sh && dagster asset materialize --select train_phase2")
    assert done.returncode == 0, done.stdout[-4000:]
    after = [latest_run(data, phase) for phase in range(4)]
    assert [a == b for a, b in zip(before, after, strict=True)] == [True, True, False, True]
    assert after[2].parent is not None and after[2].parent.sha256 == before[1].checkpoint_sha256


def test_a_phase_without_its_upstreams_says_in_one_sentence_what_to_run(new_shell):
    done = new_shell().run(". ./env.sh && dagster asset materialize --select train_phase2")
    assert done.returncode != 0
    says = re.findall(r"Failure: (.*)", done.stdout)
    assert says and says[0].startswith("train_phase2 cannot start: nothing has been built"), done.stdout[-3000:]
    assert says[0].endswith("run: make road")


def test_a_backfill_killed_at_any_moment_is_completed_by_the_next(built, new_shell):
    """`kill -9` of the whole process group, earlier and later; then the same line again: the same tables."""
    shell = new_shell()
    line = (
        ". ./env.sh && dagster asset materialize --select trading_calendar && "
        "dagster asset materialize --select daily_quotes,topix --partition-range 2022-01...2022-06"
    )
    for seconds in (4.0, 8.0, 11.0, 13.0):
        process = shell.popen(f"exec setsid bash -c '{line}'")
        time.sleep(seconds)
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.wait(PATIENCE)
    done = shell.run(line)
    assert done.returncode == 0, done.stdout[-4000:]
    months = [f"2022-0{month}" for month in range(1, 7)]
    for name in ("daily_quotes", "topix"):
        ours, theirs = (Store(root=str(s.data)).table("raw", name) for s in (shell, built.shell))
        assert ours.version(months) == theirs.version(months)
