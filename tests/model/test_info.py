"""`runs` and `info` read whatever passes over the wall, and `latest` stands wherever a directory may."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys

import pytest

import atft_model.__main__ as cli_main
from atft_model.interchange.config import PRESETS
from atft_model.interchange.records import to_plain, write_json
from atft_model.interchange.request import train_request, write_request
from atft_model.interchange.run import CHECKPOINT, LATEST, METRICS, REQUEST, RUN_JSON, SCORES
from atft_model.listing import preset_name
from atft_model.train import train
from tests.model.conftest import QUIET
from tests.patience import PATIENCE


@pytest.fixture(scope="module")
def root(ask, panel_directory, small_fold, tmp_path_factory):
    """A data root: a panel, two runs of phase 0 of which the second is `latest`, one of phase 1, one without record."""
    root = tmp_path_factory.mktemp("root")
    shutil.copytree(panel_directory, root / "panel" / "p1")
    (root / "panel" / LATEST).write_text("p1\n")
    phase0 = root / "runs" / "main" / "phase0"
    request = ask(phase0 / "20260101T000000-aaaaaaaa", panel=root / "panel" / "p1")
    train(request, QUIET)
    write_request(request.out / REQUEST, request)
    second = phase0 / "20260102T000000-bbbbbbbb"
    shutil.copytree(request.out, second)
    record = json.loads((second / RUN_JSON).read_text())
    write_json(second / RUN_JSON, {**record, "run_id": second.name})
    (phase0 / LATEST).write_text(second.name + "\n")
    begun = root / "runs" / "main" / "phase1" / "20260103T000000-cccccccc"
    begun.mkdir(parents=True)
    write_request(begun / REQUEST, ask(begun, 1, panel=root / "panel" / "p1", init=second))
    baselines = root / "runs" / "main" / "baselines" / "b1"
    baselines.mkdir(parents=True)
    described = {"status": "finished", "panel_id": "p1", "fold": small_fold, "baselines": {"ridge": {}, "lightgbm": {}}}
    write_json(baselines / RUN_JSON, described)
    (baselines.parent / LATEST).write_text("b1\n")
    return root


@pytest.fixture
def said(monkeypatch, capsys):
    """What a command prints; with `code`, its exit code and what it says on stderr."""
    monkeypatch.setattr(cli_main, "limit_threads", lambda _: 2)
    monkeypatch.setattr(cli_main, "keep_memory", lambda: None)

    def call(*arguments, code=0):
        capsys.readouterr()
        assert cli_main.main([str(a) for a in arguments]) == code
        out, err = capsys.readouterr()
        assert (err == "") == (code == 0), err
        return out if code == 0 else err

    return call


def test_runs_are_listed_with_the_newest_marked(root, said, monkeypatch):
    printed = said("runs", "--runs", root / "runs")
    lines = {line.split()[1]: line.split() for line in printed.splitlines() if line.startswith("main/")}
    assert list(lines) == ["20260101T000000-aaaaaaaa", "20260102T000000-bbbbbbbb", "20260103T000000-cccccccc"]
    record = json.loads((root / "runs/main/phase0/20260101T000000-aaaaaaaa" / RUN_JSON).read_text())
    figures = [str(record["epochs"]), str(record["kept_epoch"]), f"{record['validation']['rank_ic']:+.4f}"]
    assert lines["20260101T000000-aaaaaaaa"][2:8] == ["finished", preset_name(record["config"]), "32", *figures]
    assert lines["20260102T000000-bbbbbbbb"][2] == "*" and "baselines" not in printed
    assert lines["20260103T000000-cccccccc"][2:] == ["no", "record"]
    monkeypatch.setenv("ATFT_DATA", str(root))
    assert said("runs") == printed
    of_phase = [line.split() for line in said("runs", "--runs", root / "runs/main/phase0").splitlines()]
    assert [line for line in of_phase if "main/phase0" in line] == list(lines.values())[:2]


def test_a_preset_is_named_by_what_was_trained():
    config = to_plain(PRESETS["demo"])
    assert preset_name(config) == "demo"
    config["model"]["dropout"] = 0.123
    assert preset_name(config) == "demo+1"


def test_damaged_and_older_records_are_rows_too(root, said, tmp_path):
    shutil.copytree(root / "runs", tmp_path / "runs")
    first, second = sorted((tmp_path / "runs/main/phase0").glob("2*"))
    (first / RUN_JSON).write_text("{")
    (second / RUN_JSON).write_text(json.dumps({"format": 1}))
    (second.parent / LATEST).write_text("../../elsewhere\n")
    printed = said("runs", "--runs", tmp_path / "runs")
    assert [line.split()[2] for line in printed.splitlines() if "phase0" in line] == ["damaged", "older"]
    assert "does not exist" in said("runs", "--runs", tmp_path / "nowhere", code=2)
    (tmp_path / "empty").mkdir()
    assert "holds no run" in said("runs", "--runs", tmp_path / "empty", code=2)


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("", ("data root", "folder of 1 panels", "p1 (latest)", "folder of runs", "phase1")),
        ("panel", ("folder of 1 panels",)),
        ("panel/latest", ("pointer", "to p1", "48 names", "mean degree")),
        ("panel/p1/panel.json", ("48 names",)),
        ("runs", ("folder of runs", "main/phase0")),
        ("runs/main/phase0", ("folder of runs", "bbbbbbbb")),
        ("runs/main/phase0/latest", ("to 20260102T000000-bbbbbbbb", "phase 0 Baseline, finished")),
        (f"runs/main/phase0/20260101T000000-aaaaaaaa/{CHECKPOINT}", ("checkpoint", "phase 0 Baseline")),
        (f"runs/main/phase0/20260101T000000-aaaaaaaa/{SCORES}", ("scores: ", "48 names", "horizons 1, 5, 10, 20")),
        (f"runs/main/phase0/20260101T000000-aaaaaaaa/{METRICS}", ("metrics", "2 rows")),
        (f"runs/main/phase0/20260101T000000-aaaaaaaa/{REQUEST}", ("request to train phase 0", "fold synthetic")),
        ("runs/main/phase1/20260103T000000-cccccccc", ("has no record yet", "request to train phase 1")),
        ("runs/main/baselines", ("baselines b1: ridge, lightgbm",)),
        ("runs/main/baselines/latest", ("pointer", "baselines b1", "fold synthetic")),
    ],
)  # fmt: skip
def test_info_says_what_a_path_is(root, said, path, words):
    printed = said("info", root / path)
    assert [word for word in words if word not in printed] == [], printed


def test_info_tells_by_which_rule_a_run_was_judged(root, said, tmp_path):
    """By today's: t and p, or that the days are too few for a p; a record of an earlier version has another t."""
    folder = root / "runs/main/phase0/20260101T000000-aaaaaaaa"
    record = json.loads((folder / RUN_JSON).read_text())
    known = record["validation"]["p_by_horizon"]
    printed = said("info", folder)
    assert known.keys() == {"1", "5", "10", "20"} and known["20"] is None and known["1"] is not None
    assert printed.count(", p ") == sum(p is not None for p in known.values())
    assert printed.count("too few days for a p") == sum(p is None for p in known.values())
    older = tmp_path / "older"
    shutil.copytree(folder, older)
    validation = {name: value for name, value in record["validation"].items() if name != "p_by_horizon"}
    write_json(older / RUN_JSON, {**record, "validation": {**validation, "rank_ic_by_horizon": {"1": None, "5": 0.1}}})
    printed = said("info", older)
    assert printed.count("by the rule of an earlier version, too large") == 2 and "1d – (t" in printed
    assert f"{record['validation']['rank_ic']:+.4f}" in said("runs", "--runs", tmp_path)


def test_info_of_a_fold_and_of_a_prediction(fold_file, said, tmp_path):
    assert said("info", fold_file).startswith("fold synthetic: train ")
    request = {"panel": "p", "run": "r", "out": "s.parquet", "exact": True}
    (tmp_path / "ask.json").write_text(json.dumps(request))
    assert "request to predict with r into s.parquet" in said("info", tmp_path / "ask.json")


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("x.json", b"{", "damaged"),
        ("x.json", b"[1]", "neither a fold nor a request"),
        ("x.json", b'{"phase": 9}', "lacks the field"),
        ("x.parquet", b"no", "no Parquet file"),
        ("x.safetensors", b"no", "damaged"),
        ("x.txt", b"words", "is nothing that ATFT's trainer reads or writes: give a run"),
        ("latest", b"../../etc", "should hold one name"),
        ("latest", b"gone", "it names gone, which is not there"),
        ("run.json", b"\xff", "damaged"),
    ],
)  # fmt: skip
def test_info_refuses_in_a_sentence(said, tmp_path, name, content, words):
    (tmp_path / name).write_bytes(content)
    assert words in said("info", tmp_path / name, code=2)


def test_info_of_nothing(said, tmp_path):
    assert "does not exist: give a run" in said("info", tmp_path / "nowhere", code=2)
    assert "nothing was published there yet" in said("info", tmp_path / "latest", code=2)
    assert "is nothing that" in said("info", tmp_path, code=2)


def test_latest_stands_where_a_directory_may(root, ask, said, small_fold, tmp_path):
    phase0, newest = root / "runs/main/phase0", root / "runs/main/phase0/20260102T000000-bbbbbbbb"
    document = to_plain(ask(tmp_path / "out", 1)) | {"panel": str(root / "panel/latest"), "init": str(phase0)}
    request = train_request(document)
    assert (request.panel, request.init) == (root / "panel" / "p1", newest)
    scores = tmp_path / "s.parquet"
    settings = [f"panel={root / 'panel'}", f"run={phase0 / LATEST}", f"out={scores}"]
    said("predict", *(word for setting in settings for word in ("--set", setting)))
    assert "its hash holds" in said("info", scores)
    scores.write_bytes(scores.read_bytes() + b"x")
    assert "not the file that its record describes" in said("info", scores, code=2)
    table = said("evaluate", "--panel", root / "panel/latest", "--run", phase0 / LATEST, "--run", phase0)
    assert table.count("20260102") == 2 and "p Holm" in table and "below 5%" in table.splitlines()[-1]
    missing = said("evaluate", "--panel", root / "panel", "--run", root / "runs/main/phase3/latest", code=2)
    assert "nothing was published there yet" in missing


def test_records_are_read_without_torch(root):
    program = (
        "import sys\nfrom atft_model.__main__ import main\n"
        f"assert main(['runs', '--runs', {str(root / 'runs')!r}]) == 0\n"
        f"assert main(['info', {str(root / 'panel' / LATEST)!r}]) == 0\n"
        f"assert main(['info', {str(root / 'runs/main/phase0' / LATEST)!r}]) == 0\n"
        "assert 'torch' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=PATIENCE)
    assert (done.returncode, done.stderr) == (0, "")
