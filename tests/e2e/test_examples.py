"""The examples on what the road built."""

import pytest

from atft_model.interchange.panel import latest_panel

pytestmark = pytest.mark.e2e


def printed(built, line: str) -> str:
    done = built.shell.run(f". ./env.sh && python examples/{line}")
    assert done.returncode == 0, done.stdout[-3000:]
    return done.stdout


def test_a_table_is_read(built):
    assert "features/all_features" in printed(built, "read_table.py")
    assert "data version" in printed(built, "read_table.py features/stock_features 2023-03")


def test_a_panel_and_a_run_are_looked_at(built):
    code = latest_panel(built.shell.data / "panel").codes[3]
    for phase in range(4):
        shown = printed(built, f"look_at_panel.py {code} {phase}")
        assert "its scores of the validation block" in shown and f"those of {code}" in shown


def test_the_scores_of_a_run_are_judged_as_a_file_of_ones_own(built):
    runs = built.shell.data / "runs" / "main" / "phase0"
    file = runs / (runs / "latest").read_text().strip() / "scores.parquet"
    lines = printed(built, f"judge_scores.py {file}").splitlines()
    assert {"mine", "ridge", "lightgbm", "reversal_5d", "low_volatility"} <= {line.split()[0] for line in lines}
