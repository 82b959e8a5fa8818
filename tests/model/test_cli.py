"""The command line as its callers use it: exit codes, signals, the lock, the parent's death, Dagster Pipes."""

from __future__ import annotations

import fcntl
import json
import os
import signal
import subprocess
import sys
import time

import pyarrow.parquet as pq
import pytest

from atft_model import checkpoint as files

SMALL = ["--preset", "demo", "--lookback", "12", "--chunk-days", "4", "--threads", "2"]


def command(*arguments):
    return [sys.executable, "-m", "atft_model", *map(str, arguments)]


def run(*arguments, **options):
    return subprocess.run(command(*arguments), capture_output=True, text=True, timeout=120, **options)


def wait_for(condition, seconds=60):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.02)


@pytest.fixture(scope="module")
def phase0(panel_directory, tmp_path_factory):
    """A finished phase 0, started the way a launcher does, with a Pipes channel to a file."""
    from dagster_pipes import PipesDefaultContextLoader, PipesDefaultMessageWriter, encode_param

    root = tmp_path_factory.mktemp("cli")
    context = root / "context.json"
    context.write_text(
        json.dumps(
            {
                "asset_keys": ["x"],
                "code_version_by_asset_key": None,
                "provenance_by_asset_key": None,
                "partition_key": None,
                "partition_key_range": None,
                "partition_time_window": None,
                "run_id": "r",
                "job_name": None,
                "retry_number": 0,
                "extras": {},
            }
        )
    )
    assert PipesDefaultContextLoader and PipesDefaultMessageWriter
    environment = os.environ | {
        "DAGSTER_PIPES_CONTEXT": encode_param({"path": str(context)}),
        "DAGSTER_PIPES_MESSAGES": encode_param({"path": str(root / "messages")}),
    }
    done = run(
        "train",
        "--panel",
        panel_directory,
        "--phase",
        0,
        "--out",
        root / "p0",
        "--epochs",
        2,
        *SMALL,
        "--lock",
        root / "lock",
        "--die-with-parent",
        env=environment,
    )
    assert done.returncode == 0, done.stderr
    return root / "p0", done.stdout, [json.loads(line) for line in (root / "messages").read_text().splitlines()]


def test_training_prints_a_line_per_epoch_and_reports_to_pipes(phase0):
    out, stdout, messages = phase0
    lines = stdout.splitlines()
    assert len(lines) == 3 and "epoch 1/2" in lines[0] and "finished" in lines[2]
    for words in ("loss", "RankIC", "20d", "stock-days/s", "ETA"):
        assert words in lines[0]
    custom = [m["params"]["payload"] for m in messages if m["method"] == "report_custom_message"]
    assert [c["event"] for c in custom] == ["epoch", "epoch", "finished"]
    assert custom[0]["epoch"] == 1 and "rank_ic_5d" in custom[0]
    assert custom[2]["run_json"] == str(out / files.RUN_JSON)
    assert not [m for m in messages if "materialization" in m["method"]]


def test_predict_evaluate_and_info(phase0, panel_directory, tmp_path):
    out = phase0[0]
    done = run(
        "predict",
        "--panel",
        panel_directory,
        "--run",
        out,
        "--block",
        "test",
        "--out",
        tmp_path / "s" / "scores.parquet",
    )
    assert done.returncode == 0, done.stderr
    assert pq.read_table(tmp_path / "s" / "scores.parquet").num_rows > 1000
    done = run("evaluate", "--panel", panel_directory, "--run", out, "--json")
    figures = json.loads(done.stdout)[0]
    stored = json.loads((out / files.RUN_JSON).read_text())["validation"]
    assert figures["rank_ic"] == stored["rank_ic"]
    done = run("info", out)
    assert "phase 0 Baseline, finished" in done.stdout and "parameters" in done.stdout
    done = run("info", panel_directory)
    assert "48 names" in done.stdout and "validation" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["train", "--panel", "nowhere", "--phase", "0", "--out", "x", *SMALL], "materialize training_panel"),
        (["train", "--panel", "PANEL", "--phase", "2", "--out", "x", *SMALL], "give its run directory with --init"),
        (["train", "--panel", "PANEL", "--phase", "1", "--out", "x", "--init", "nowhere"], "does not exist"),
        (["predict", "--panel", "PANEL", "--run", "nowhere", "--out", "x"], "does not exist"),
        (["train", "--panel", "PANEL", "--phase", "0", "--out", "x", "--hidden-size", "30"], "multiple"),
    ],
)
def test_bad_input_is_one_sentence_and_exit_2(panel_directory, tmp_path, arguments, words):
    done = run(
        *[str(panel_directory) if a == "PANEL" else a for a in arguments],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": os.getcwd()},
    )
    assert done.returncode == 2
    assert words in done.stderr and "Traceback" not in done.stderr


def test_help_needs_no_torch():
    code = (
        "import sys, atft_model.__main__ as m\n"
        "try: m.main(['train', '--help'])\n"
        "except SystemExit: pass\n"
        "print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.stdout.splitlines()[-1] == "False"
    assert "--max-seconds" in done.stdout and "start no epoch" in done.stdout


def test_nothing_heavy_is_imported(phase0, panel_directory):
    code = (
        "import sys, atft_model.__main__ as m\n"
        f"m.main(['evaluate', '--panel', {str(panel_directory)!r}, '--run', {str(phase0[0])!r}])\n"
        "banned = {'dagster', 'dagster_pipes', 'polars', 'pandas', 'requests', 'torch_geometric', 'atft_assets'}\n"
        "print(sorted(banned & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.stdout.splitlines()[-1] == "[]", done.stderr


def test_a_taken_lock_is_exit_75(panel_directory, tmp_path):
    with open(tmp_path / "lock", "w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        done = run(
            "train",
            "--panel",
            panel_directory,
            "--phase",
            0,
            "--out",
            tmp_path / "o",
            *SMALL,
            "--lock",
            tmp_path / "lock",
        )
    assert done.returncode == 75 and "held by another process" in done.stderr
    assert not (tmp_path / "o").exists()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_saves_the_state_and_the_run_can_go_on(panel_directory, tmp_path, number):
    arguments = ["train", "--panel", panel_directory, "--phase", 0, "--out", tmp_path / "r", "--epochs", 30, *SMALL]
    process = subprocess.Popen(command(*arguments), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    wait_for(lambda: (tmp_path / "r" / files.STATE).exists())
    process.send_signal(number)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130 and "--resume" in errors
    state = files.read_values(tmp_path / "r" / files.STATE)
    assert state["fit"]["steps"] > 0
    assert not list((tmp_path / "r").glob("*.tmp"))


def test_a_killed_run_resumes(panel_directory, tmp_path):
    """kill -9 after the first epoch: --resume continues, and ends like a run that was never killed."""
    arguments = ["train", "--panel", panel_directory, "--phase", 0, "--epochs", 3, *SMALL]
    process = subprocess.Popen(command(*arguments, "--out", tmp_path / "r"), stdout=subprocess.DEVNULL)
    wait_for(lambda: (tmp_path / "r" / files.STATE).exists())
    process.kill()
    process.wait()
    if not (tmp_path / "r" / files.STATE).exists():
        pytest.fail("the run ended before it could be killed")
    again, whole = run(*arguments, "--out", tmp_path / "r", "--resume"), run(*arguments, "--out", tmp_path / "w")
    assert again.returncode == 0 and "resuming" in again.stdout, again.stderr
    sums = [json.loads((tmp_path / d / files.RUN_JSON).read_text())["checkpoint_sha256"] for d in "rw"]
    assert whole.returncode == 0 and sums[0] == sums[1]


def test_the_parents_death_ends_the_training(panel_directory, tmp_path):
    """A shell starts the training and is killed with -9; the kernel takes the training along."""
    training = command(
        "train",
        "--panel",
        panel_directory,
        "--phase",
        0,
        "--out",
        tmp_path / "r",
        "--epochs",
        1000,
        *SMALL,
        "--die-with-parent",
    )
    code = f"import subprocess, sys; p = subprocess.Popen({training!r}); print(p.pid, flush=True); p.wait()"
    parent = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    child = int(parent.stdout.readline())
    wait_for(lambda: (tmp_path / "r" / files.STATE).exists())
    parent.kill()
    parent.wait()

    def gone():
        try:
            with open(f"/proc/{child}/stat") as file:
                return file.read().rsplit(")", 1)[1].split()[0] == "Z"
        except FileNotFoundError:
            return True

    wait_for(gone, 10)


def test_thread_limits_are_set_before_torch(tmp_path):
    code = (
        "import os, atft_model.__main__ as m, sys\n"
        "assert 'torch' not in sys.modules\n"
        "m.limit_threads(1)\n"
        "print(os.environ['OMP_NUM_THREADS'], os.environ['OMP_WAIT_POLICY'])\n"
        "import torch; print(torch.get_num_threads())"
    )
    environment = {k: v for k, v in os.environ.items() if not k.startswith("OMP")}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, env=environment)
    assert done.stdout.split() == ["1", "passive", "1"]
