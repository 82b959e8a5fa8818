"""The examples, run as a reader runs them, on a small root; tests/e2e runs them on what the road built."""

import os
import subprocess
import sys
from datetime import date
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from atft_assets.calendar import trading_days
from atft_assets.store import Store
from atft_model.interchange.fold import Fold, cut
from atft_model.interchange.panel import (
    FORMAT,
    PanelDescription,
    PanelFeature,
    point_latest,
    publish_panel,
    staged_panel,
    to_bfloat16,
    write_panel,
)
from atft_model.interchange.records import write_json
from atft_model.interchange.run import CHECKPOINT, LATEST, RUN_JSON, SCORES, RunRecord, write_record
from atft_model.interchange.run import FORMAT as RUN_FORMAT
from tests.patience import PATIENCE

pytestmark = pytest.mark.slow  # each example is a process that imports Dagster
REPOSITORY = Path(__file__).parents[1]
DAYS = tuple(trading_days(date(2022, 1, 4), date(2023, 12, 29)))
CODES = tuple(f"{1301 + n}0" for n in range(30))
HORIZONS = (1, 5, 10, 20)
T, N, H, F, K = len(DAYS), len(CODES), len(HORIZONS), 6, 4


def run_example(name: str, *arguments: str, root: Path) -> str:
    """What an example prints."""
    environ = {**os.environ, "ATFT_DATA": str(root), "PYTHONPATH": str(REPOSITORY)}
    command = [sys.executable, str(REPOSITORY / "examples" / name), *arguments]
    done = subprocess.run(command, env=environ, cwd=root, capture_output=True, text=True, check=False, timeout=PATIENCE)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def scores(fold: Fold, values: np.ndarray) -> pl.DataFrame:
    """Values [T,N] as scores of the validation block, the same for every horizon."""
    places = list(fold.places(DAYS, "validation"))
    frame = pl.DataFrame({"date": [DAYS[t] for t in places for _ in CODES], "code": list(CODES) * len(places)})
    column = values[places].astype(np.float32).ravel()
    return frame.with_columns(pl.Series(f"score_{h}d", column) for h in HORIZONS)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A table of two months, a panel whose first feature tells tomorrow's return, a run, and two baselines."""
    root = tmp_path_factory.mktemp("root")
    rng = np.random.default_rng(0)
    table = Store(root=str(root)).table("features", "stock_features")
    for month in ("2022-01", "2022-02"):
        days = [day for day in DAYS if f"{day:%Y-%m}" == month]
        frame = pl.DataFrame({"date": days, "code": [CODES[0]] * len(days), "ret_1d": rng.normal(size=len(days))})
        table.publish([table.stage(month, frame, code_version="1")])

    x, y = rng.normal(size=(T, N, F)).astype(np.float32), rng.normal(size=(H, T, N)).astype(np.float32)
    y += x[:, :, 0]
    features = tuple(PanelFeature(f"f{i}", "family", "time_series") for i in range(F))
    described = PanelDescription(FORMAT, "p1", DAYS, CODES, features, "hash", HORIZONS, sector33=("a",) * N)
    tensors = {
        "x": to_bfloat16(x),
        "valid": np.ones((T, N), bool),
        "y_cc": y,
        "y_oo": y,
        "neighbours": np.tile(np.arange(N, dtype=np.int32)[:, None], (1, 1, K)).reshape(1, N, K),
        "neighbour_attr": np.zeros((1, N, K, 3), np.float32),
        "neighbour_mask": np.ones((1, N, K), bool),
        "graph_period": np.zeros(T, np.int32),
    }
    with staged_panel(root / "panel") as staged:
        write_panel(staged, tensors, described)
        publish_panel(staged, root / "panel", "p1")
    point_latest(root / "panel", "p1")

    fold = cut(DAYS, validation_days=120)  # long enough to tell a difference of 20-day labels from chance
    folder = root / "runs" / "main" / "phase0" / "r1"
    folder.mkdir(parents=True)
    record = RunRecord(
        format=RUN_FORMAT, status="finished", run_id="r1", phase=0, name="Baseline", fold=fold, panel_id="p1",
        catalogue_hash="hash", features=tuple(f.name for f in features), horizons=HORIZONS, label="y_cc", target="y_cc",
        config={}, curriculum={}, switches={}, parent=None, code_version="1", seed=0, n_seeds=1, mode="safe",
        controls={}, hardware={}, versions={},
    )  # fmt: skip
    write_record(folder, record)
    (folder / CHECKPOINT).write_bytes(b"weights")
    scores(fold, x[:, :, 1]).write_parquet(folder / SCORES)
    (folder.parent / LATEST).write_text("r1\n")

    baselines = root / "runs" / "main" / "baselines" / "b1"
    baselines.mkdir(parents=True)
    scores(fold, x[:, :, 2]).write_parquet(baselines / "ridge.validation.parquet")
    scores(fold, -x[:, :, 0]).write_parquet(baselines / "reversal_5d.validation.parquet")
    described_set = {
        "status": "finished",
        "panel_id": "p1",
        "fold": fold,
        "baselines": {"ridge": {}, "reversal_5d": {}},
    }
    for path in [*baselines.glob("*.validation.parquet")]:  # the examples never look at the test block
        path.with_name(path.name.replace("validation", "test")).write_bytes(path.read_bytes())
    write_json(baselines / RUN_JSON, described_set)
    (baselines.parent / LATEST).write_text("b1\n")
    scores(fold, x[:, :, 0]).write_parquet(root / "mine.parquet")
    return root


def test_read_table_lists_and_shows(root: Path) -> None:
    listed = run_example("read_table.py", root=root)
    assert "features/stock_features" in listed and "2022-01 … 2022-02" in listed
    shown = run_example("read_table.py", "features/stock_features", "2022-01", root=root)
    assert "19 rows × 3 columns" in shown and "ret_1d" in shown and "mean" in shown


def test_look_at_panel_shows_shapes_a_name_and_the_fold(root: Path) -> None:
    printed = run_example("look_at_panel.py", root=root)
    assert f"panel p1: {T} days × {N} names × {F} features" in printed
    assert "run r1 of Baseline" in printed and "validation" in printed and CODES[0] in printed
    with pytest.raises(AssertionError, match="00000 is not among the names of the panel"):
        run_example("look_at_panel.py", "00000", root=root)
    assert "no run of phase3 yet" in run_example("look_at_panel.py", CODES[1], "3", root=root)


def test_judge_scores_puts_them_beside_the_baselines(root: Path) -> None:
    printed = run_example("judge_scores.py", "mine.parquet", root=root)
    figures = {line.split()[0]: [float(v) for v in line.split()[1:]] for line in printed.splitlines()[2:]}
    assert set(figures) == {"mine", "ridge", "reversal_5d"}
    assert figures["mine"][0] > 0.5 and abs(figures["ridge"][0]) < 0.1 and figures["reversal_5d"][0] < -0.5
    assert figures["ridge"][3] > 0.5 and figures["ridge"][4] < 0.05  # the gain on it, and its p
    assert "100% of the rows scored" in printed
