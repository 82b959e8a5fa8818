"""Files of a run: atomic, refused when they do not fit, and safe on a full disk."""

from __future__ import annotations

import errno
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from atft_model import checkpoint as files
from atft_model.interchange.config import PhaseChanges
from atft_model.interchange.errors import RequestError, RunError
from atft_model.interchange.panel import write_description
from atft_model.interchange.run import CHECKPOINT, RUN_JSON
from atft_model.predict import load_run
from atft_model.train import train
from tests.model.conftest import NETWORK, QUIET
from tests.patience import PATIENCE

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def finished(ask, tmp_path_factory):
    out = tmp_path_factory.mktemp("runs") / "p0"
    train(ask(out, curriculum=PhaseChanges(epochs=1)), QUIET)
    return out


def altered_panel(source, target, change):
    shutil.copytree(source, target)
    document = json.loads((target / "panel.json").read_text())
    change(document)
    write_description(target, document)
    return target


def other_features(document):
    document["catalogue_hash"] = "0" * 16
    document["features"][3]["name"] = "turnover_5d"


def test_other_features_are_refused_with_their_names(finished, panel_directory, tmp_path):
    panel = altered_panel(panel_directory, tmp_path / "p", other_features)
    with pytest.raises(
        files.Mismatch, match=r"missing in the panel: planted_own_mean; unknown to the checkpoint: turnover_5d"
    ):
        load_run(finished, panel, CPU)


def test_reordered_features_are_refused(finished, panel_directory, tmp_path):
    def swap(document):
        document["catalogue_hash"] = "0" * 16
        document["features"][0], document["features"][1] = document["features"][1], document["features"][0]

    with pytest.raises(files.Mismatch, match="another order from column 0"):
        load_run(finished, altered_panel(panel_directory, tmp_path / "p", swap), CPU)


def test_other_sequences_are_refused(finished, panel_directory, tmp_path):
    """The same features, another of them read over the look-back: the encoder's inputs would be others."""

    def mark(document):
        document["features"][0]["sequence"], document["features"][7]["sequence"] = False, True

    with pytest.raises(files.Mismatch, match=r"sequence inputs: .*planted_level; unknown to the checkpoint: noise_7"):
        load_run(finished, altered_panel(panel_directory, tmp_path / "p", mark), CPU)


def test_other_horizons_are_refused(finished, panel_directory, tmp_path):
    panel = altered_panel(panel_directory, tmp_path / "p", lambda d: d.update(horizons=[1, 5, 10, 60]))
    with pytest.raises(files.Mismatch, match=r"horizons: checkpoint \[1, 5, 10, 20\], panel \[1, 5, 10, 60\]"):
        load_run(finished, panel, CPU)


def test_a_parent_must_fit_the_panel_it_is_trained_on_next(ask, finished, panel_directory, tmp_path):
    panel = altered_panel(panel_directory, tmp_path / "p", other_features)
    with pytest.raises(files.Mismatch, match="unknown to the checkpoint: turnover_5d"):
        train(ask(tmp_path / "o", 1, panel=panel, init=finished), QUIET)


def test_another_architecture_is_refused_with_the_difference(ask, finished, tmp_path):
    with pytest.raises(files.Mismatch, match="hidden_size: checkpoint 32, this network 64"):
        train(ask(tmp_path / "o", 1, init=finished, network={**NETWORK, "hidden_size": 64}), QUIET)


def test_shapes_are_checked_one_by_one(finished):
    weights = files.load_members(finished)[0]
    model = torch.nn.Linear(3, 2)
    with pytest.raises(files.Mismatch, match="weight: missing in the checkpoint"):
        files.load_weights(model, weights)
    with pytest.raises(files.Mismatch, match=r"weight: checkpoint \(2, 4\), network \(2, 3\)"):
        files.load_weights(model, {"weight": torch.zeros(2, 4), "bias": torch.zeros(2)})


def test_a_changed_checkpoint_is_refused(finished, panel_directory, tmp_path):
    copy = tmp_path / "run"
    shutil.copytree(finished, copy)
    data = bytearray((copy / CHECKPOINT).read_bytes())
    data[-1] ^= 1
    (copy / CHECKPOINT).write_bytes(bytes(data))
    with pytest.raises(files.Mismatch, match="sha256 differs"):
        load_run(copy, panel_directory, CPU)


def test_an_unfinished_parent_is_refused(ask, finished, tmp_path):
    copy = tmp_path / "run"
    shutil.copytree(finished, copy)
    run = json.loads((copy / RUN_JSON).read_text())
    (copy / RUN_JSON).write_text(json.dumps({**run, "status": "failed"}))
    with pytest.raises(RunError, match="'failed', not 'finished'"):
        train(ask(tmp_path / "o", 1, init=copy), QUIET)
    with pytest.raises(RequestError, match="give the directory of its run as init"):
        train(ask(tmp_path / "o", 1), QUIET)


def test_missing_runs_say_so(tmp_path, panel_directory):
    with pytest.raises(RunError, match="does not exist"):
        load_run(tmp_path, panel_directory, CPU)


def test_a_write_is_whole_or_not_at_all(tmp_path, monkeypatch):
    path = tmp_path / "f"
    files.write_atomically(path, b"old")

    def fails(_):
        raise OSError(errno.EDQUOT, "Disk quota exceeded")

    monkeypatch.setattr(os, "fsync", fails)
    with pytest.raises(files.DiskFull, match="quota is exhausted"):
        files.write_atomically(path, b"new")
    monkeypatch.undo()
    assert path.read_bytes() == b"old"
    assert [p.name for p in tmp_path.iterdir()] == ["f"], "a temporary file was left behind"
    files.write_atomically(path, b"new")
    assert path.read_bytes() == b"new"


def test_space_is_checked_before_writing(tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(10, 10, 5_000_000))
    files.require_space(tmp_path, 3_000_000, "x")
    with pytest.raises(files.DiskFull, match=r"needs 6\.0 MB .* 5\.0 MB are free"):
        files.require_space(tmp_path, 6_000_000, "the checkpoint")


@pytest.fixture
def tiny_disk(tmp_path):
    """A 3 MB file system."""
    place = tmp_path / "disk"
    place.mkdir()
    if (
        os.geteuid() != 0
        or subprocess.run(
            ["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", str(place)], capture_output=True
        ).returncode
    ):
        pytest.skip("mounting a small file system needs root and a kernel that allows it")
    yield place
    subprocess.run(["umount", str(place)], check=True)


def train_command(panel: Path, fold: Path, out: Path, preset: str, *settings: str) -> list[str]:
    """Phase 0 on the small panel, as the command line has it."""
    fields = [
        f"panel={panel}", f"fold={fold}", f"out={out}", "phase=0", f"preset={preset}", "network.lookback=12",
        "training.chunk_days=4", "device=cpu", *settings,
    ]  # fmt: skip
    return [sys.executable, "-m", "atft_model", "train", "--threads", "2", *(w for f in fields for w in ("--set", f))]


def test_a_full_disk_ends_the_run_cleanly(tiny_disk, panel_directory, fold_file):
    """The disk fills after the first epoch (past the check before writing): exit code 74, the last good checkpoint
    loads, no temporary file is left.
    """
    command = train_command(panel_directory, fold_file, tiny_disk / "run", "demo", "curriculum.epochs=3")
    filler = (
        "import atft_model.fit as t, atft_model.checkpoint as c, os, sys, runpy\n"
        "real = t.Fit.validate\n"
        "def fill(self):\n"
        "    if self.epoch == 2:\n"
        "        c.RESERVE_BYTES = -10**12\n"
        f"        f = os.open({str(tiny_disk / 'filler')!r}, os.O_WRONLY | os.O_CREAT)\n"
        "        try:\n"
        "            while True: os.write(f, b'0' * 4096)\n"
        "        except OSError: pass\n"
        "    return real(self)\n"
        "t.Fit.validate = fill\n"
        "sys.argv = ['atft_model'] + sys.argv[1:]\n"
        "runpy.run_module('atft_model', run_name='__main__')\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", filler, *command[3:]], capture_output=True, text=True, timeout=PATIENCE
    )
    assert done.returncode == 74, done.stderr
    assert "disk is full" in done.stderr or "no space" in done.stderr
    tensors = files.read_tensors(tiny_disk / "run" / CHECKPOINT)
    assert all(torch.isfinite(t).all() for t in tensors.values())
    assert not [p.name for p in (tiny_disk / "run").iterdir() if p.name.startswith(".")]
    # with room again, the run goes on from there
    (tiny_disk / "filler").unlink()
    again = subprocess.run([*command, "--set", "resume=true"], capture_output=True, text=True, timeout=PATIENCE)
    assert again.returncode == 0, again.stderr
    assert json.loads((tiny_disk / "run" / RUN_JSON).read_text())["status"] == "finished"


def test_too_small_a_disk_is_refused_before_training(tiny_disk, panel_directory, fold_file):
    command = train_command(panel_directory, fold_file, tiny_disk / "run", "base")
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE)
    assert done.returncode == 74 and "MB are free" in done.stderr
    assert "epoch" not in done.stdout and not (tiny_disk / "run" / RUN_JSON).exists()


def test_the_log_rotates(tmp_path):
    log = files.RunLog(tmp_path, limit=300, files=3)
    for i in range(40):
        log.write({"event": "epoch", "i": i, "loss": float("nan")})
    names = sorted(p.name for p in tmp_path.iterdir())
    assert names == ["log.jsonl", "log.jsonl.1", "log.jsonl.2"]
    assert all(p.stat().st_size <= 300 for p in tmp_path.iterdir())
    last = json.loads((tmp_path / "log.jsonl").read_text().splitlines()[-1])
    assert last["i"] == 39 and last["loss"] is None


def test_values_travel_with_the_tensors(tmp_path):
    values = {"epoch": 3, "rows": [{"x": 0.1 + 0.2}], "best": None}
    files.write_tensors(tmp_path / "s", {"a": torch.arange(3)}, values)
    assert files.read_values(tmp_path / "s") == values
    assert torch.equal(files.read_tensors(tmp_path / "s")["a"], torch.arange(3))


def test_feature_difference_words():
    assert "formulas" in files.feature_difference(["a"], ["a"])
