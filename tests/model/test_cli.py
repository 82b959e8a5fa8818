"""The command line as its callers use it: exit codes, signals, the lock, the parent's death, Dagster Pipes."""

from __future__ import annotations

import argparse
import dataclasses
import fcntl
import json
import os
import re
import shutil
import signal
import subprocess
import sys

import pyarrow.parquet as pq
import pytest

import atft_model.__main__ as cli_main
from atft_model import checkpoint as files
from atft_model.cli import build_parser
from atft_model.interchange.errors import MEND
from atft_model.interchange.panel import open_panel
from atft_model.interchange.request import TrainRequest, write_request
from atft_model.interchange.run import RUN_JSON, STATE
from tests.patience import PATIENCE, until

THREADS = ["--threads", "2"]


def command(*arguments):
    return [sys.executable, "-m", "atft_model", *map(str, arguments)]


def run(*arguments, **options):
    return subprocess.run(command(*arguments), capture_output=True, text=True, timeout=PATIENCE, **options)


def settings(**fields):
    """Fields of a request as `--set` arguments; `__` stands for the dot inside a name."""
    return [word for name, value in fields.items() for word in ("--set", f"{name.replace('__', '.')}={value}")]


@pytest.fixture(scope="module")
def small(panel_directory, fold_file):
    """Arguments that train phase 0 of a tiny network on the small panel: `small(out, **fields)`."""

    def arguments(out, **fields):
        standard = {
            "panel": panel_directory, "fold": fold_file, "phase": 0, "out": out, "preset": "demo", "device": "cpu",
            "network__lookback": 12, "training__chunk_days": 4,
        }  # fmt: skip
        return ["train", *THREADS, *settings(**{**standard, **fields})]

    return arguments


@pytest.fixture
def main(monkeypatch):
    """The command line in this process, without what it asks of a process of its own."""
    monkeypatch.setattr(cli_main, "limit_threads", lambda _: 2)
    monkeypatch.setattr(cli_main, "keep_memory", lambda: None)
    monkeypatch.setattr(cli_main, "stop_flag", lambda: lambda: False)
    return lambda arguments: cli_main.main([str(a) for a in arguments])


@pytest.fixture(scope="module")
def phase0(ask, tmp_path_factory):
    """A finished phase 0, started the way a launcher does: a request file, and a Pipes channel to a file."""
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
    write_request(root / "request.json", ask(root / "p0"))
    flags = [*THREADS, "--lock", root / "lock", "--die-with-parent"]
    done = run("train", root / "request.json", *flags, env=environment)
    assert done.returncode == 0, done.stderr
    return root / "p0", done.stdout, [json.loads(line) for line in (root / "messages").read_text().splitlines()]


def test_training_prints_a_line_per_epoch_and_reports_to_pipes(phase0):
    out, stdout, messages = phase0
    lines = stdout.splitlines()
    assert "epoch 1/2" in lines[0] and "epoch 2/2" in lines[1] and "finished" in lines[-1]
    assert all(line.startswith("device idle") for line in lines[2:-1]) and len(lines) <= 4
    for words in ("loss", "RankIC", "20d", "stock-days/s", "ETA"):
        assert words in lines[0]
    custom = [m["params"]["payload"] for m in messages if m["method"] == "report_custom_message"]
    assert [c["event"] for c in custom] == ["epoch", "epoch", "finished"]
    assert custom[0]["epoch"] == 1 and "rank_ic_5d" in custom[0]
    assert custom[2]["run_json"] == str(out / RUN_JSON)
    assert not [m for m in messages if "materialization" in m["method"]]


def test_predict_evaluate_and_info(main, capsys, phase0, panel_directory, fold_file, small_panel, tmp_path):
    out, dates = phase0[0], small_panel.dates

    def said(*arguments):
        assert main(arguments) == 0, capsys.readouterr().err
        return capsys.readouterr().out

    asked = settings(
        panel=panel_directory, run=out, first=dates[-60], last=dates[-11], out=tmp_path / "s" / "s.parquet"
    )
    assert f"{dates[-60]} to {dates[-11]}" in said("predict", *asked)
    scores = pq.read_table(tmp_path / "s" / "s.parquet")
    assert scores.num_rows > 1000
    assert scores["date"].to_pylist()[0] == dates[-60] and scores["date"].to_pylist()[-1] == dates[-11]
    stored = json.loads((out / RUN_JSON).read_text())["validation"]
    for more in ([], ["--fold", fold_file]):
        evaluate = ["evaluate", "--panel", panel_directory, "--run", out, "--neutral", "--json", *more]
        raw, neutral = json.loads(said(*evaluate))
        assert raw["rank_ic"] == stored["rank_ic"], "the fold of the run is the default"
        assert neutral["neutral"] and neutral["rank_ic"] != raw["rank_ic"]
    assert main(["evaluate", "--panel", panel_directory, "--run", out, "--run", out, "--block", "test"]) == 0
    compared, warned = capsys.readouterr()
    assert "looks at the test block" in warned and "no ledger is told" in warned
    assert "vs first" in compared and "+0.0000" in compared
    run_words, panel_words = said("info", out), said("info", panel_directory)
    assert "phase 0 Baseline, finished" in run_words and "parameters" in run_words
    assert "fold synthetic: train" in run_words and "fold" not in panel_words
    assert "48 names" in panel_words and "mean degree" in panel_words


def test_runs_of_different_folds_are_compared_on_one_that_is_given(main, capsys, phase0, panel_directory, tmp_path):
    shutil.copytree(phase0[0], tmp_path / "other")
    record = json.loads((tmp_path / "other" / RUN_JSON).read_text())
    record["fold"]["name"] = "other"
    (tmp_path / "other" / RUN_JSON).write_text(json.dumps(record))
    assert main(["evaluate", "--panel", panel_directory, "--run", phase0[0], "--run", tmp_path / "other"]) == 2
    assert "different folds (p0: synthetic, other: other): say with --fold FILE" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"panel": "nowhere"}, "materialize --select training_panel"),
        ({"fold": "nowhere.json"}, "give a fold file"),
        ({"phase": 2}, "phase 2 starts from phase 1: give the directory of its run as init"),
        ({"phase": 9}, "there is no phase 9; the phases are 0, 1, 2, 3"),
        ({"phase": 1, "init": "nowhere"}, "does not exist"),
        ({"network__hidden_size": 30}, "multiple"),
        ({"network__hiden_size": 32}, "unknown fields: hiden_size"),
        ({"training__learning_rate": "fast"}, "learning_rate is 'fast'"),
        ({"curriculum__epoch": 1}, "curriculum has unknown fields: epoch"),
        ({"curriculum__losses__sharp": 1}, "curriculum.losses has unknown terms: sharp"),
        ({"epochs": 1}, "unknown fields: epochs"),
        ({"device": "tpu"}, "device is 'tpu'"),
    ],
)
def test_bad_input_is_one_sentence_and_exit_2(main, small, tmp_path, capsys, fields, words):
    assert main(small(tmp_path / "x", **fields)) == 2
    said = capsys.readouterr().err
    assert said.startswith("atft_model: ") and words in said
    assert not (tmp_path / "x").exists()


def test_a_damaged_panel_is_refused(main, small, panel_directory, tmp_path, capsys):
    """Of the right length, whichever tensor; nothing is trained."""
    shutil.copytree(panel_directory, tmp_path / "p")
    path = tmp_path / "p" / "panel.safetensors"
    whole = path.read_bytes()
    for name, tensor in open_panel(panel_directory).tensors.items():
        if name == "y_oo":
            continue  # which no training reads
        at = whole.index(tensor.tobytes()) + tensor.nbytes // 2
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
        assert main(small(tmp_path / "out", panel=tmp_path / "p")) == 2
        assert re.search(f"the tensor {name} is not the one .*{MEND}", capsys.readouterr().err)
    assert not (tmp_path / "out").exists()


def test_what_it_writes_is_for_its_user_alone(main, panel_directory):
    before = os.umask(0o022)
    try:
        assert main(["info", panel_directory]) == 0
    finally:
        assert os.umask(before) == 0o077


def test_bad_predictions_and_studies_are_one_sentence_too(main, panel_directory, tmp_path, capsys):
    assert main(["predict", *settings(panel=panel_directory, run=tmp_path / "nowhere", out=tmp_path / "x")]) == 2
    assert "does not exist: the training wrote no record" in capsys.readouterr().err
    assert main(["predict", *settings(panel=panel_directory, run="r", out="x", block="test")]) == 2
    assert "unknown fields: block" in capsys.readouterr().err
    assert main(["predict", "--set", "panel"]) == 2
    assert "'panel' sets nothing: write name=value" in capsys.readouterr().err
    assert main(["study", "--panel", panel_directory]) == 2
    assert "give --panel DIR and --fold FILE" in capsys.readouterr().err
    assert main(["study", "--epochs", "1", "2"]) == 2
    assert "--epochs has 2 numbers: give one for each of the 4 phases" in capsys.readouterr().err


def test_a_failure_is_printed_without_a_traceback(small, tmp_path):
    done = run(*small(tmp_path / "x", phase=2))
    assert done.returncode == 2 and "give the directory of its run" in done.stderr and "Traceback" not in done.stderr


def test_help_needs_no_torch_and_lists_the_fields_of_a_request():
    code = (
        "import sys, atft_model.__main__ as m\n"
        "try: m.main(['train', '--help'])\n"
        "except SystemExit: pass\n"
        "print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=PATIENCE)
    assert done.stdout.splitlines()[-1] == "False"
    listed = {
        line.split()[0] for line in done.stdout.partition("fields of the request")[2].splitlines() if line.strip()
    }
    assert {field.name for field in dataclasses.fields(TrainRequest)} <= listed
    assert "No epoch starts that would end later" in done.stdout


def test_flags_are_about_the_process_alone():
    (commands,) = (a for a in build_parser()._actions if isinstance(a, argparse._SubParsersAction))
    for name in ("train", "predict"):
        flags = {flag for action in commands.choices[name]._actions for flag in action.option_strings}
        assert flags == {"-h", "--help", "--set", "--threads", "--lock", "--die-with-parent"}


def test_nothing_heavy_is_imported(phase0, panel_directory):
    code = (
        "import sys, atft_model.__main__ as m\n"
        f"m.main(['evaluate', '--panel', {str(panel_directory)!r}, '--run', {str(phase0[0])!r}])\n"
        "banned = {'dagster', 'dagster_pipes', 'polars', 'pandas', 'requests', 'torch_geometric', 'atft_assets'}\n"
        "print(sorted(banned & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=PATIENCE)
    assert done.stdout.splitlines()[-1] == "[]", done.stderr


def test_a_taken_lock_is_exit_75(small, tmp_path):
    with open(tmp_path / "lock", "w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        done = run(*small(tmp_path / "o"), "--lock", tmp_path / "lock")
    assert done.returncode == 75 and "held by another process" in done.stderr
    assert not (tmp_path / "o").exists()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_saves_the_state_and_the_run_can_go_on(small, tmp_path, number):
    arguments = small(tmp_path / "r", curriculum__epochs=30)
    process = subprocess.Popen(command(*arguments), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    until((tmp_path / "r" / STATE).exists, "the first epoch", process=process)
    process.send_signal(number)
    _, errors = process.communicate(timeout=PATIENCE)
    assert process.returncode == 130 and "resume=true" in errors
    state = files.read_values(tmp_path / "r" / STATE)
    assert state["fit"]["steps"] > 0
    assert not list((tmp_path / "r").glob("*.tmp"))


def test_a_killed_run_resumes(small, tmp_path):
    """kill -9 after the first epoch: `resume` continues, and ends like a run that was never killed."""
    process = subprocess.Popen(command(*small(tmp_path / "r", curriculum__epochs=3)), stdout=subprocess.DEVNULL)
    until((tmp_path / "r" / STATE).exists, "the first epoch", process=process)
    process.kill()
    process.wait()
    if not (tmp_path / "r" / STATE).exists():
        pytest.fail("the run ended before it could be killed")
    again = run(*small(tmp_path / "r", curriculum__epochs=3, resume="true"))
    whole = run(*small(tmp_path / "w", curriculum__epochs=3))
    assert again.returncode == 0 and "resuming" in again.stdout, again.stderr
    sums = [json.loads((tmp_path / d / RUN_JSON).read_text())["checkpoint_sha256"] for d in "rw"]
    assert whole.returncode == 0 and sums[0] == sums[1]


def test_the_parents_death_ends_the_training(small, tmp_path):
    """A shell starts the training and is killed with -9; the kernel takes the training along."""
    training = command(*small(tmp_path / "r", curriculum__epochs=1000), "--die-with-parent")
    code = f"import subprocess, sys; p = subprocess.Popen({training!r}); print(p.pid, flush=True); p.wait()"
    parent = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    child = int(parent.stdout.readline())
    until((tmp_path / "r" / STATE).exists, "the first epoch", process=parent)
    parent.kill()
    parent.wait()

    def gone():
        try:
            with open(f"/proc/{child}/stat") as file:
                return file.read().rsplit(")", 1)[1].split()[0] == "Z"
        except FileNotFoundError:
            return True

    until(gone, "the end of the training")


def test_thread_limits_are_set_before_torch(tmp_path):
    code = (
        "import os, atft_model.process as m, sys\n"
        "assert 'torch' not in sys.modules\n"
        "m.limit_threads(1)\n"
        "print(os.environ['OMP_NUM_THREADS'], os.environ['OMP_WAIT_POLICY'])\n"
        "import torch; print(torch.get_num_threads())"
    )
    environment = {k: v for k, v in os.environ.items() if not k.startswith("OMP")}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=PATIENCE, env=environment
    )
    assert done.stdout.split() == ["1", "passive", "1"]
