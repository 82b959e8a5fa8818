"""Each kind of file is damaged; its reader names the command, the command mends it, and building again works."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from atft_assets.scoring.block import Block
from atft_assets.store import Store
from atft_assets.tools.mend import main
from atft_assets.training.baselines import stored_baselines
from atft_assets.training.folds import fold_on
from atft_assets.training.looks import ledger, looked_at, write_ledger
from atft_assets.training.runs import latest_run, open_run, scores_of
from atft_model.interchange.errors import MEND, InterchangeError
from atft_model.interchange.hashes import file_sha256, write_sidecar
from atft_model.interchange.panel import latest_panel
from atft_model.interchange.records import write_json
from atft_model.interchange.run import CHECKPOINT, FORMAT, METRICS, RUN_JSON, SCORES, STATE, RunRecord, write_record
from tests.training.small_market import World

RUNS = ("20260101T000000-aaaaaaaa", "20260102T000000-bbbbbbbb")
GRAPH = ("graph", "correlation_graph")
BYTES = {"binary": b"\xff\xfe\x00\x01", "nul": b"a\0b\n", "empty": b"", "list": b"[]", "half": b"{"}


@pytest.fixture
def road(world: World, monkeypatch: pytest.MonkeyPatch) -> World:
    """The small market with two runs and a set of baselines, without the tables that break their real contract."""
    for name in ("daily_quotes", "universe", "all_features", "labels"):
        for group in ("raw", "features"):
            shutil.rmtree(world.root / group / name, ignore_errors=True)
    monkeypatch.delenv("DAGSTER_HOME", raising=False)
    monkeypatch.setenv("ATFT_DATA", str(world.root))
    monkeypatch.setenv("ATFT_START", "2019-01-04")
    panel, fold = world.newest(), world.fold()
    block = Block.of(panel, fold, "validation")
    scores = block.frame(np.nan_to_num(panel.y[:, block.days.start : block.days.stop]))
    for number, name in enumerate(RUNS):
        folder = world.runs(0) / name
        folder.mkdir(parents=True)
        (folder / CHECKPOINT).write_bytes(b"weights %d" % number)
        scores.write_parquet(folder / SCORES)
        pl.DataFrame({"epoch": [1], "loss": [1.0], "rank_ic": [0.1]}).write_parquet(folder / METRICS)
        write_record(
            folder,
            RunRecord(
                format=FORMAT, status="finished", run_id=name, phase=0, name="Baseline", fold=fold,
                panel_id=panel.panel_id, catalogue_hash="h", features=("a",), horizons=panel.horizons, label="y_cc",
                target="y_cc", config={}, curriculum={}, switches={}, parent=None, code_version="1", seed=0, n_seeds=1,
                mode="safe", controls={}, hardware={}, versions={},
                **{f"{part}_sha256": file_sha256(folder / file) for part, file in PARTS.items()},
            ),
        )  # fmt: skip
    (world.runs(0) / "latest").write_text(RUNS[1] + "\n")
    baselines = world.root / "runs" / "main" / "baselines" / "b1"
    baselines.mkdir(parents=True)
    for file in ("ridge.validation.parquet", "ridge.test.parquet"):
        scores.write_parquet(baselines / file)
    hashes = {path.name: file_sha256(path) for path in baselines.glob("*.parquet")}
    described = {"panel_id": panel.panel_id, "fold": fold, "baselines": {"ridge": {}}, "files": hashes}
    write_json(baselines / RUN_JSON, described)
    (baselines.parent / "latest").write_text("b1\n")
    write_json(world.root / "evaluation" / "main" / "validation.json", {"fold": "main"})
    predicted = world.root / "evaluation" / "main" / "scores" / "one.parquet"
    predicted.parent.mkdir()
    scores.write_parquet(predicted)
    write_sidecar(predicted, file_sha256(predicted))
    write_ledger(world.root / "evaluation", [scoring("2019-01-04", "2019-02-01"), scoring("2020-06-01", "2020-06-30")])
    return world


PARTS = {"checkpoint": CHECKPOINT, "scores": SCORES, "metrics": METRICS}


def scoring(first: str, last: str) -> dict:
    return {"fold": "main", "first": first, "last": last, "runs": {}, "at": "2026-01-01"}


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 0x10
    path.write_bytes(bytes(data))


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-9])


def put(kind: str) -> Callable[[Path], None]:
    return lambda path: path.write_bytes(BYTES[kind])  # type: ignore[func-returns-value]


def refused(read: Callable[[], object]) -> str:
    """The reader's sentence, which names the command."""
    with pytest.raises((InterchangeError, Exception)) as caught:
        read()
    assert type(caught.value).__module__.startswith("atft_"), repr(caught.value)
    assert MEND in str(caught.value)
    return str(caught.value)


def mended(capsys: pytest.CaptureFixture[str]) -> str:
    """What the command says; before it `--check` has found something and touched nothing, after it nothing is left."""
    assert main(["--check"]) == 1
    assert "To mend it: python -m atft_assets.tools.mend" in capsys.readouterr().out
    assert main([]) == 0
    return capsys.readouterr().out


def nothing_left(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--check"]) == 0
    assert "nothing is damaged" in capsys.readouterr().out


def test_a_whole_root_is_whole(road: World, capsys) -> None:
    nothing_left(capsys)
    assert main([]) == 0
    assert "nothing is damaged" in capsys.readouterr().out and not (road.root / "retired").exists()


@pytest.mark.parametrize("damage", [flip, truncate, Path.unlink, put("empty")])
def test_a_month(road: World, damage: Callable[[Path], None], capsys) -> None:
    table = road.store.table(*GRAPH)
    months = [table.read([key]) for key in ("2019-09", "2019-10", "2019-12")]
    for key in ("2019-09", "2019-10", "2019-12"):
        damage(Path(str(table.path(key))))
    refused(lambda: table.read(["2019-10"]))
    said = mended(capsys)
    assert "dagster asset materialize --select correlation_graph --partition-range 2019-09...2019-10\n" in said
    assert "dagster asset materialize --select correlation_graph --partition 2019-12\n" in said
    nothing_left(capsys)
    assert not {"2019-09", "2019-10", "2019-12"} & set(table.keys())
    assert "2019-11" in set(table.keys())
    aside = road.root / "retired" / "graph" / "correlation_graph" / "2019-10.parquet"
    assert aside.exists() == (damage is not Path.unlink)
    table.publish(
        [
            table.stage(key, frame, code_version="t")
            for key, frame in zip(("2019-09", "2019-10", "2019-12"), months, strict=True)
        ]
    )
    assert table.read(["2019-10"]).equals(months[1])


@pytest.mark.parametrize("damage", [flip, truncate, Path.unlink, *map(put, BYTES)])
def test_a_manifest(road: World, damage: Callable[[Path], None], capsys) -> None:
    """It is made again from the files, of which one does not meet its contract any more."""
    table = road.store.table(*GRAPH)
    before, whole = table.manifest(), table.version()
    bad = table.read(["2020-01"]).with_columns(corr=pl.lit(7.0, pl.Float32))
    manifest = Path(str(table.folder / "manifest.json"))
    text = manifest.read_text().replace('"rows"', '"rows', 1) if damage is flip else ""
    damage(manifest)
    if text:
        manifest.write_text(text)
    if damage is not Path.unlink:
        refused(table.read)
        refused(lambda: table.publish([table.stage("2020-01", bad, code_version="t")]))
    bad.write_parquet(str(table.path("2020-01")))
    said = mended(capsys)
    assert "breaks its contract: column corr" in said
    assert "--select correlation_graph --partition 2020-01\n" in said
    nothing_left(capsys)
    after = table.manifest().entries
    assert set(before.entries) - set(after) == {"2020-01"}
    for key, entry in after.items():
        theirs = before.entries[key]
        assert (entry.rows, entry.through_date, entry.sha256) == (theirs.rows, theirs.through_date, theirs.sha256)
        assert entry.schema_fingerprint == theirs.schema_fingerprint and entry.code_version == "unknown"
    assert table.version() != whole and table.read().height


def test_a_panel_and_its_folds(road: World, capsys) -> None:
    panel = road.newest()
    flip(panel.folder / "panel.safetensors")
    refused(lambda: [*latest_panel(road.root / "panel").tensors.values()])
    said = mended(capsys)
    assert "dagster asset materialize --select training_panel\n" in said
    nothing_left(capsys)
    assert (road.root / "retired" / "panel" / panel.panel_id / "panel.json").exists()
    with pytest.raises(InterchangeError, match="there is no training panel"):
        road.newest()


def test_an_older_panel_takes_the_place_of_a_damaged_one(road: World, capsys) -> None:
    panel = road.newest()
    older = panel.folder.with_name("0123456789abcdef")
    shutil.copytree(panel.folder, older)
    for damage in (put("binary"), put("list"), put("half"), flip):
        again = panel.folder.with_name("9876543210fedcba")
        shutil.copytree(older, again)
        (road.root / "panel" / "latest").write_text(again.name)
        damage(again / "panel.json")
        refused(road.newest)
        assert "latest: names " in mended(capsys)
        nothing_left(capsys)
        assert road.newest().dates == panel.dates
    assert len([*(road.root / "retired" / "panel").glob("9876543210fedcba*")]) == 4


@pytest.mark.parametrize("kind", [*BYTES, "nonsense", "path", "parent"])
def test_a_pointer(road: World, kind: str, capsys) -> None:
    damage = {**BYTES, "nonsense": b"deadbeef\n", "path": b"../../../etc/passwd\n", "parent": b"..\n"}[kind]
    pointers = [road.root / "panel" / "latest", road.runs(0) / "latest", road.root / "runs/main/baselines/latest"]
    before = [pointer.read_text() for pointer in pointers]
    readers = (road.newest, lambda: latest_run(road.runs(0)), lambda: stored_baselines(pointers[2].parent))
    for pointer, read in zip(pointers, readers, strict=True):
        pointer.write_bytes(damage)
        refused(read)
    said = mended(capsys)
    nothing_left(capsys)
    assert [pointer.read_text() for pointer in pointers] == before
    assert said.count("the newest that is whole") == 3


@pytest.mark.parametrize("damage", [*map(put, BYTES), Path.unlink, truncate])
def test_a_record_of_a_run(road: World, damage: Callable[[Path], None], capsys) -> None:
    damage(road.runs(0) / RUNS[1] / RUN_JSON)
    if damage is not Path.unlink:
        refused(lambda: latest_run(road.runs(0)))
    said = mended(capsys)
    assert "dagster asset materialize --select train_phase0\n" in said
    nothing_left(capsys)
    newest = latest_run(road.runs(0))
    assert newest is not None and newest.run_id == RUNS[0]
    assert (road.root / "retired" / "runs" / "main" / "phase0" / RUNS[1] / CHECKPOINT).exists()


@pytest.mark.parametrize("damage", [flip, truncate, Path.unlink, put("empty")])
def test_a_checkpoint(road: World, damage: Callable[[Path], None], capsys) -> None:
    damage(road.runs(0) / RUNS[1] / CHECKPOINT)
    refused(lambda: latest_run(road.runs(0)))
    assert "--select train_phase0\n" in mended(capsys)
    nothing_left(capsys)
    newest = latest_run(road.runs(0))
    assert newest is not None and newest.run_id == RUNS[0]


@pytest.mark.parametrize("damage", [flip, truncate, Path.unlink, put("empty")])
def test_scores_alone_are_predicted_again(road: World, damage: Callable[[Path], None], capsys) -> None:
    run = road.runs(0) / RUNS[1]
    scores = (run / SCORES).read_bytes()
    damage(run / SCORES)
    refused(lambda: latest_run(road.runs(0)))
    said = mended(capsys)
    first, last = road.fold().validation
    assert f"python -m atft_model predict --set run={run} --set panel={road.newest().folder} " in said
    assert f" --set first={first} --set last={last} --set out={run / SCORES}\n" in said
    assert main(["--check"]) == 1, "they are lacking until they are there again"
    (run / SCORES).write_bytes(scores)
    capsys.readouterr()
    nothing_left(capsys)
    assert open_run(run).scores().height
    if damage is not Path.unlink:  # what comes out otherwise the second time is not predicted a third time
        flip(run / SCORES)
        assert "--select train_phase0\n" in mended(capsys)
        nothing_left(capsys)


def test_the_state_of_an_unfinished_run(road: World, capsys) -> None:
    run = road.runs(0) / RUNS[0]
    document = json.loads((run / RUN_JSON).read_text())
    (run / RUN_JSON).write_text(json.dumps({**document, "status": "running"}))
    (run / STATE).write_bytes(b"\x10\0\0\0\0\0\0\0half a header")
    assert f"`resume_run: {RUNS[0]}` begins at the first epoch" in mended(capsys)
    nothing_left(capsys)
    assert (run / RUN_JSON).exists() and not (run / STATE).exists()


def test_metrics_and_old_runs(road: World, capsys) -> None:
    run = open_run(road.runs(0) / RUNS[1])
    flip(run.folder / METRICS)
    refused(run.metrics)
    assert "metrics.parquet" in mended(capsys)
    nothing_left(capsys)
    old = road.runs(0) / RUNS[0]
    document = json.loads((old / RUN_JSON).read_text())
    del document["scores_sha256"], document["metrics_sha256"]
    (old / RUN_JSON).write_text(json.dumps(document))
    assert open_run(old).scores().height and open_run(old).metrics().height, "runs of before are read as they stand"
    put("binary")(old / SCORES)
    refused(lambda: open_run(old).scores())


@pytest.mark.parametrize("file", [RUN_JSON, "ridge.validation.parquet", "ridge.test.parquet"])
@pytest.mark.parametrize("damage", [flip, put("half"), Path.unlink])
def test_baselines(road: World, file: str, damage: Callable[[Path], None], capsys) -> None:
    folder = road.root / "runs" / "main" / "baselines"
    if damage is flip and file == RUN_JSON:
        damage = put("list")
    damage(folder / "b1" / file)
    if damage is not Path.unlink or file != RUN_JSON:
        refused(lambda: stored_baselines(folder))
    assert "dagster asset materialize --select baselines\n" in mended(capsys)
    nothing_left(capsys)
    assert stored_baselines(folder) is None


@pytest.mark.parametrize("damage", [put("binary"), put("list"), put("half")])
def test_a_fold(road: World, damage: Callable[[Path], None], capsys) -> None:
    path = road.root / "fold" / road.newest().panel_id / "main.json"
    damage(path)
    refused(lambda: fold_on(road.store, road.newest(), "main"))
    assert "dagster asset materialize --select folds\n" in mended(capsys)
    nothing_left(capsys)
    road.cut(road.newest())
    assert fold_on(road.store, road.newest(), "main") == road.fold()


def test_a_fold_whose_days_do_not_fit_its_panel(road: World, capsys) -> None:
    path = road.root / "fold" / road.newest().panel_id / "main.json"
    document = json.loads(path.read_text())
    document["validation"][0] = document["train"][1]
    path.write_text(json.dumps(document))
    assert "trading days apart" in mended(capsys)
    nothing_left(capsys)


def test_figures_predicted_scores_and_the_ledger(road: World, capsys) -> None:
    folder = road.root / "evaluation"
    put("half")(folder / "main" / "validation.json")
    flip(folder / "main" / "scores" / "one.parquet")
    refused(lambda: scores_of(folder / "main" / "scores" / "one.parquet"))
    lines = (folder / "test_ledger.jsonl").read_bytes().splitlines()
    (folder / "test_ledger.jsonl").write_bytes(lines[0] + b"\n" + b"\xff\x00" + lines[1] + b"\n")
    refused(lambda: ledger(folder))
    said = mended(capsys)
    assert "dagster asset materialize --select evaluation\n" in said and "1 scorings kept, 1 lost" in said
    nothing_left(capsys)
    assert looked_at(ledger(folder), road.fold()), "what was looked at stays looked at"


def test_what_lies_beside_raw_tables(road: World, capsys) -> None:
    raw = road.root / "raw" / "topix"
    raw.mkdir(parents=True)
    (road.root / "raw" / "origin.txt").write_bytes(BYTES["binary"])
    (raw / ".2020-01.v1.landed").write_bytes(b"PAR1 and what else")
    (raw / "asked.json").write_bytes(BYTES["list"])
    said = mended(capsys)
    assert said.count("moved to retired/raw/") == 3 and "make sure that it is the one of the tables" in said
    nothing_left(capsys)


def test_it_does_nothing_while_something_is_written(road: World, capsys) -> None:
    table = road.store.table(*GRAPH)
    Path(str(table.path("2019-09"))).unlink()
    with table.locked():
        assert main([]) == 1
    assert "is being published" in capsys.readouterr().err
    staged = road.root / "graph" / f".2019-09.{os.getppid()}-0123abcd.staged"
    staged.touch()
    assert main([]) == 1
    assert f"the process {os.getppid()} is writing" in capsys.readouterr().err
    staged.unlink()
    assert main([]) == 0


def test_open_modes_are_closed(road: World, capsys) -> None:
    os.chmod(road.root, 0o755)
    for path in road.root.rglob("*"):
        path.chmod(0o755 if path.is_dir() else 0o644)
    assert main(["--check"]) == 0 and "open to other users" in capsys.readouterr().out
    assert main([]) == 0
    assert [path for path in (road.root, *road.root.rglob("*")) if path.stat().st_mode & 0o077] == []


def test_a_root_that_is_not_there(tmp_path: Path, capsys) -> None:
    assert main(["--root", str(tmp_path / "none")]) == 1
    assert "there is no data root" in capsys.readouterr().err
    assert Store(root=str(tmp_path)).local() == tmp_path


@pytest.mark.parametrize("options", [[], ["--check"]])
def test_a_bucket_is_not_mended_and_the_page_that_tells_what_to_do_is_named(
    options: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("ATFT_DATA", "s3://bucket/atft")
    assert main(options) == 1
    said = capsys.readouterr().err
    assert "s3://bucket/atft is a bucket" in said and "docs/how-to/bucket.md, section Damage" in said
    assert "\n## Damage\n" in (Path(__file__).parents[2] / "docs" / "how-to" / "bucket.md").read_text()
