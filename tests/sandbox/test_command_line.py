"""`python -m atft_assets.sandbox` in processes of its own, as the Makefile calls it."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import polars as pl
import requests

from tests.patience import PATIENCE

MODULE = [sys.executable, "-m", "atft_assets.sandbox"]
SMALL = ["--names", "40", "--start", "2022-01-04", "--end", "2022-03-31"]
ASK = """
import os, sys, requests
answer = requests.get(os.environ["JQUANTS_BASE_URL"] + "/equities/bars/daily", params={"date": "20220301"},
                      headers={"x-api-key": os.environ["JQUANTS_API_KEY"]}, timeout=100)
print(answer.status_code, len(answer.json()["data"]), os.environ["JQUANTS_PLAN"], os.environ["ATFT_START"])
sys.exit(7)
"""


def test_run_serves_while_the_command_runs_and_returns_its_code() -> None:
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("JQUANTS_", "ATFT_"))}
    command = [*MODULE, "run", *SMALL, "--plan", "light", "--", sys.executable, "-c", ASK]
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, env=environment)
    assert done.returncode == 7, done.stderr
    status, rows, plan, start = done.stdout.split()
    assert status == "200" and int(rows) > 30 and (plan, start) == ("light", "2022-01-04")


def test_run_without_or_with_a_missing_command_says_so() -> None:
    for command, code, word in (([], 2, "needs a command"), (["no-such-command-here"], 127, "command not found")):
        done = subprocess.run(
            [*MODULE, "run", *SMALL, "--", *command], capture_output=True, text=True, timeout=PATIENCE
        )
        assert done.returncode == code and word in done.stderr and "Traceback" not in done.stderr


def test_serve_prints_one_ready_line_and_stops_when_interrupted() -> None:
    command = [*MODULE, "serve", *SMALL, "--fault", "500:1,times=1", "--now", "2022-03-01T12:00"]
    environment = os.environ | {"ATFT_SANDBOX_KEY": "k\r\n"}  # not an argument: those are shown to every user
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    ) as process:
        assert process.stdout and process.stderr
        word, _, ready = process.stdout.readline().partition(" ")
        assert word == "ready"
        facts = json.loads(ready)
        assert facts["api_key"] == "k" and facts["now"] == "2022-03-01T12:00:00+09:00"
        url = f"{facts['base_url']}/indices/bars/daily/topix"
        answers = [requests.get(url, headers={"x-api-key": "k"}, timeout=PATIENCE) for _ in range(2)]
        assert [a.status_code for a in answers] == [500, 200]
        assert answers[1].json()["data"][-1]["Date"] == "2022-02-28"
        process.send_signal(signal.SIGINT)
        assert process.wait(PATIENCE) == 130
        assert "Traceback" not in process.stderr.read()


def test_oracle_prints_the_attainable_rank_correlations(tmp_path: Path) -> None:
    command = [*MODULE, "oracle", "--names", "60", "--scores", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=True)
    lines = done.stdout.splitlines()
    assert lines[1].split() == ["horizon", "all", "level", "deviation", "neighbour"]
    assert [line.split()[0] for line in lines[2:]] == ["1", "5", "10", "20"]
    assert all(0 < float(value) < 0.4 for value in lines[2].split()[2:])
    scores = {name: pl.read_parquet(tmp_path / f"{name}.parquet") for name in lines[1].split()[2:]}
    together = pl.read_parquet(tmp_path / "oracle.parquet")
    for column in ("score_1d", "score_5d", "score_10d", "score_20d"):
        total = sum(part[column] for part in scores.values())
        assert (together[column] - total).abs().max() < 1e-6 and together[column].std() > 0


def test_what_is_planted_besides_has_a_column_of_its_own() -> None:
    command = [*MODULE, "oracle", "--names", "60", "--plant", "regime=0.3", "--plant", "covering=0.2"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=True)
    head, first, *_ = (line.split() for line in done.stdout.splitlines()[1:])
    assert head[-2:] == ["covering", "regime"] and all(float(value) > 0.05 for value in first[-2:])


def test_a_part_that_cannot_be_planted_is_named() -> None:
    for text in ("momentum=0.1", "regime", "regime=much", "covering=-1"):
        done = subprocess.run([*MODULE, "bench", "--plant", text], capture_output=True, text=True, timeout=PATIENCE)
        assert done.returncode == 2 and "NAME=STRENGTH" in done.stderr and "Traceback" not in done.stderr


def test_importing_the_package_loads_nothing_heavy() -> None:
    heavy = "('numpy', 'polars', 'pydantic', 'http.server')"
    code = f"import sys, atft_assets.sandbox; print([m for m in {heavy} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=PATIENCE, check=True)
    assert done.stdout.strip() == "[]"
