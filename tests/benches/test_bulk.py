"""The bench of history by file: its figures, and that it notices tables that differ."""

import subprocess
import sys

import pytest

from atft_assets.benches.bulk import Taken, table
from tests.patience import PATIENCE


def test_the_table_shows_both_ways_and_their_ratio() -> None:
    hashes = {"2024-01": "0"}
    found = {"by day": Taken(20.0, 9.0, 540, 1000, 0, hashes), "by file": Taken(4.0, 3.0, 27, 1000, 12, hashes)}
    head, day, file, ratio = table(found)
    assert head.split()[:6] == ["rows", "seconds", "CPU", "requests", "light", "standard"]
    assert day.split() == ["by", "day", "1,000", "20.0", "9.0", "540", "10.00", "5.00", "1.40"]
    assert file.split() == ["by", "file", "1,000", "4.0", "3.0", "27", "0.50", "0.25", "0.07"]
    assert ratio.split() == ["ratio", "5.0", "3.0", "20.0", "20.0", "20.0", "20.0"]


@pytest.mark.slow
def test_a_small_year_is_the_same_by_both_ways() -> None:
    command = [sys.executable, "-W", "ignore", "-m", "atft_assets.benches.bulk", "--names", "12"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE)
    assert done.returncode == 0, done.stderr[-2000:]
    assert "12 files" in done.stdout and "the same to the last byte (12 months)" in done.stdout
