"""Retention of run directories, panels and what was put aside: who stays, who goes, and how."""

import os
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from atft_assets.operations import run_folders
from atft_assets.operations.going import Going, markdown, table
from atft_assets.operations.run_folders import DataRoot, RunFolder, dagster_runs, going_folders, kept_runs, remove
from atft_assets.store.retired import retire
from atft_assets.tools.reaper import STAGED
from atft_assets.trading.champion import Champion, Promotion, install, record
from atft_assets.training.runs import new_run_id
from atft_model.interchange.disk import size_of
from atft_model.interchange.fold import Fold
from atft_model.interchange.records import write_json
from atft_model.interchange.run import CHECKPOINT, FORMAT, REQUEST, SCORES, Parent, RunRecord, held, write_record

DAY = 86_400.0
NOW = time.time()
OLD, YOUNG = NOW - 100 * DAY, NOW - 10 * DAY
BEFORE = NOW - 90 * DAY


FOLD = Fold(
    "main",
    (date(2020, 1, 6), date(2021, 1, 6)),
    (date(2021, 4, 1), date(2021, 7, 1)),
    (date(2021, 10, 1), date(2021, 12, 1)),
)


def aged(path: Path, at: float) -> Path:
    for one in (path, *path.rglob("*")):
        os.utime(one, (at, at))
    return path


class Root:
    """A data root whose runs are records without networks."""

    def __init__(self, path: Path):
        self.path = path

    def run(
        self, name: str, rank_ic: float | None = 0.01, *, phase: int = 0, status: Any = "finished",
        parent: str | None = None, panel: str = "p1", at: float = OLD, fold: str = "main",
    ) -> Path:  # fmt: skip
        folder = self.path / "runs" / fold / f"phase{phase}" / name
        folder.mkdir(parents=True)
        (folder / CHECKPOINT).write_bytes(b"w" * 1000)
        write_record(
            folder,
            RunRecord(
                format=FORMAT, status=status, run_id=name, phase=phase, name="Baseline", fold=FOLD,
                panel_id=panel, catalogue_hash="h", features=("a",), horizons=(1,), label="y", target="y",
                config={}, curriculum={}, switches={}, parent=Parent(parent, "/", "h", 0) if parent else None,
                code_version="1", seed=0, n_seeds=1, mode="safe", controls={}, hardware={}, versions={},
                validation=None if rank_ic is None else {"rank_ic": rank_ic},
            ),
        )  # fmt: skip
        return aged(folder, at)

    def baselines(self, name: str, panel: str = "p1", at: float = OLD) -> Path:
        folder = self.path / "runs" / "main" / "baselines" / name
        folder.mkdir(parents=True)
        write_json(folder / "run.json", {"status": "finished", "panel_id": panel})
        return aged(folder, at)

    def panel(self, name: str, at: float = OLD) -> Path:
        folder = self.path / "panel" / name
        folder.mkdir(parents=True)
        (folder / "panel.json").write_text("{}")
        (folder / "panel.safetensors").write_bytes(b"x" * 5000)
        return aged(folder, at)

    def latest(self, folder: Path, text: str | None = None) -> None:
        (folder.parent / "latest").write_text(text or folder.name + "\n")

    def seen(self, keep: int = 0) -> DataRoot:
        return DataRoot(self.path, BEFORE, keep)

    def going(self, keep: int = 0) -> dict[str, str]:
        """What would go: kind by path below the root."""
        return {one.name: one.kind for one in going_folders(self.seen(keep))}

    def kept(self, keep: int = 0) -> dict[str, str]:
        return {path.name: why for path, why in kept_runs(self.seen(keep)).items()}


@pytest.fixture
def root(tmp_path: Path) -> Root:
    return Root(tmp_path)


def test_each_keeper_keeps_its_run_and_the_rest_goes(root: Root) -> None:
    root.run("20260101T000000-aaaaaaaa", 0.01)
    root.run("20260102T000000-bbbbbbbb", 0.09)
    root.run("20260103T000000-cccccccc", 0.02)
    root.run("20260104T000000-dddddddd", 0.03)
    pointed = root.run("20260105T000000-eeeeeeee", 0.01)
    root.latest(pointed)
    root.run("20260106T000000-ffffffff", 0.04)
    root.run("20260107T000000-01010101", 0.05, at=YOUNG)
    (root.path / "evaluation" / "main").mkdir(parents=True)
    (root.path / "evaluation" / "test_ledger.jsonl").write_text(
        '{"runs": {"train_phase0": "20260103T000000-cccccccc"}}\n'
    )
    assert root.kept(keep=2) == {
        "20260102T000000-bbbbbbbb": "the best validation RankIC of its fold and phase",
        "20260103T000000-cccccccc": "figures or the test ledger name it",
        "20260105T000000-eeeeeeee": "`latest` names it",
        "20260106T000000-ffffffff": "among the newest",
        "20260107T000000-01010101": "it is young",
    }
    assert root.going(keep=2) == dict.fromkeys(
        ("runs/main/phase0/20260101T000000-aaaaaaaa", "runs/main/phase0/20260104T000000-dddddddd"), "run"
    )


def test_each_fold_and_phase_is_counted_by_itself(root: Root) -> None:
    for fold in ("main", "w1"):
        for phase in (0, 1):
            for number in (1, 2, 3):
                root.run(f"2026010{number}T000000-{fold}{phase}", 0.1 / number, phase=phase, fold=fold)
    assert len(root.kept(keep=1)) == 8 and len(root.going(keep=1)) == 4
    assert all("/20260102T" in name for name in root.going(keep=1))


def test_the_runs_that_a_kept_run_started_from_stay_to_the_first(root: Root) -> None:
    root.run("20260101T000000-00000001", 0.01)
    root.run("20260102T000000-00000002", 0.02, phase=1, parent="20260101T000000-00000001")
    root.run("20260103T000000-00000003", 0.03, phase=2, parent="20260102T000000-00000002")
    for phase in (0, 1):
        root.run("20260201T000000-0000000f", 0.5, phase=phase)
    assert root.kept()["20260101T000000-00000001"] == "20260102T000000-00000002 started from it"
    assert root.going() == {}


@pytest.mark.parametrize("record", [b"{", b"\xff", b"[]", b'{"format": 1}', b'{"format": 2}'])
def test_what_cannot_be_read_is_left_to_mend(root: Root, record: bytes) -> None:
    folder = root.run("20260101T000000-aaaaaaaa")
    (folder / "run.json").write_bytes(record)
    aged(folder, OLD)
    assert root.kept() == {folder.name: "its record cannot be read"}
    (folder / "run.json").unlink()
    (folder / SCORES).write_bytes(b"")  # a record that was lost, which `mend` reports
    aged(folder, OLD)
    assert root.going() == {}


def test_a_damaged_pointer_keeps_everything_beside_it(root: Root) -> None:
    folders = [root.run(f"2026010{n}T000000-aaaaaaaa") for n in (1, 2, 3)]
    root.latest(folders[0], "two words\n")
    assert root.going() == {}


@pytest.mark.parametrize("status", ["running", "interrupted", "failed"])
def test_unfinished_runs_stay_while_they_are_young(root: Root, status: str) -> None:
    young = root.run("20260101T000000-aaaaaaaa", None, status=status, at=YOUNG)
    old = root.run("20260102T000000-bbbbbbbb", None, status=status)
    begun = root.path / "runs" / "main" / "phase0" / "20260103T000000-cccccccc"
    begun.mkdir()
    (begun / REQUEST).write_text("{}")
    aged(begun, OLD)
    assert set(root.going(keep=9)) == {str(path.relative_to(root.path)) for path in (old, begun)}
    assert young.name in root.kept()


def test_baselines_stay_by_pointer_and_number(root: Root) -> None:
    for number, name in enumerate(("b9", "b1", "b5")):
        root.baselines(name, at=OLD + number)
    root.latest(root.path / "runs" / "main" / "baselines" / "b9")
    assert root.going(keep=1) == {"runs/main/baselines/b1": "baselines"}


def test_panels_stay_with_the_runs_that_stay(root: Root) -> None:
    for name in ("p1", "p2", "p3", "p4", "p5"):
        root.panel(name, at=OLD)
    root.panel("p6", at=OLD + 1)
    root.panel("p7", at=YOUNG)
    (root.path / "panel" / "p8").mkdir()  # no panel: a case for mend
    root.latest(root.path / "panel" / "p2")
    root.run("20260101T000000-aaaaaaaa", 0.01, panel="p3")
    root.run("20260102T000000-bbbbbbbb", 0.02, panel="p1")
    root.baselines("b1", panel="p4")
    assert root.going(keep=1) == {
        "runs/main/phase0/20260101T000000-aaaaaaaa": "run",
        **dict.fromkeys(("panel/p3", "panel/p5", "panel/p6"), "panel"),
    }
    root.latest(root.path / "panel" / "p2", "..\n")
    assert set(root.going(keep=1).values()) == {"run"}


def test_the_newest_panel_stays(root: Root) -> None:
    root.panel("p1", at=OLD)
    root.panel("p2", at=OLD + 1)
    assert root.going() == {"panel/p1": "panel"}


def test_what_was_put_aside_goes_by_the_day_on_which_it_was(root: Root) -> None:
    written_long_ago = aged(root.run("20260101T000000-aaaaaaaa"), OLD)
    assert retire(root.path, written_long_ago) is not None
    (root.path / "raw" / "topix").mkdir(parents=True)
    (root.path / "raw" / "topix" / "2026-01.parquet").write_bytes(b"x")
    retire(root.path, root.path / "raw" / "topix" / "2026-01.parquet")
    assert root.going() == {}  # put aside just now
    seen = DataRoot(root.path, time.time() + 60, 0)
    going = [one for one in going_folders(seen) if one.kind == "put aside"]
    assert {one.name for one in going} == {"retired/raw/topix", f"retired/runs/main/phase0/{written_long_ago.name}"}
    assert all(remove(root.path, one) for one in going)
    assert [path for path in (root.path / "retired").rglob("*") if path.is_file()] == []


def test_a_run_is_removed_whole_or_not_at_all(root: Root) -> None:
    folder = root.run("20260101T000000-aaaaaaaa")
    root.run("20260102T000000-bbbbbbbb", 0.5)
    (going,) = going_folders(root.seen())
    assert going.size == size_of(folder) > 1000
    with held(folder):  # a training that was resumed meanwhile
        assert not remove(root.path, going) and folder.exists()
    assert remove(root.path, going) and not folder.exists()
    assert not remove(root.path, going)  # it is gone: another was faster
    assert sorted(path.name for path in folder.parent.iterdir()) == ["20260102T000000-bbbbbbbb"]


def test_what_a_crash_leaves_behind_is_what_the_reaper_removes(root: Root, monkeypatch: pytest.MonkeyPatch) -> None:
    root.run("20260101T000000-aaaaaaaa")
    root.run("20260102T000000-bbbbbbbb", 0.5)
    (going,) = going_folders(root.seen())

    def dies(path: Path) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(run_folders.shutil, "rmtree", dies)
    with pytest.raises(KeyboardInterrupt):
        remove(root.path, going)
    (left,) = (root.path / "runs" / "main" / "phase0").glob(".*")
    assert STAGED.match(left.name)
    assert root.going() == {}  # no run any more


def test_a_panel_that_a_run_has_begun_to_need_stays(root: Root) -> None:
    panel = root.panel("p1")
    root.panel("p2", at=OLD + 1)
    (going,) = going_folders(root.seen())
    root.run("20260101T000000-aaaaaaaa", panel="p1", at=NOW)
    assert not remove(root.path, going) and panel.exists()


def test_what_was_ever_in_use_stays(root: Root) -> None:
    root.run("20260101T000000-aaaaaaaa", phase=3)
    root.run("20260102T000000-bbbbbbbb", phase=3)
    root.baselines("set1")
    root.baselines("set2")
    root.run("20260103T000000-cccccccc", 0.5, phase=3)
    champion = Champion(
        "c1", "blend", "main", "r", "p1", "h", date(2021, 12, 1), phase="phase3",
        runs=("20260101T000000-aaaaaaaa",), checkpoints=("h",), baselines="set1",
    )  # fmt: skip
    install(root.path / "trading", Promotion("now", "champion", champion))
    later = replace(champion, champion_id="c2", kind="lightgbm", phase="", runs=(), checkpoints=(), baselines="set2")
    install(root.path / "trading", Promotion("now", "champion", later))
    only_judged = replace(champion, champion_id="c3", runs=("20260102T000000-bbbbbbbb",))
    record(root.path / "trading", Promotion("now", "candidate", only_judged))
    assert set(root.going()) == {"runs/main/phase3/20260102T000000-bbbbbbbb"}
    assert "champion" in root.kept()["20260101T000000-aaaaaaaa"]
    (root.path / "trading" / "promotions.jsonl").write_text("no line")
    assert root.going() == {}  # nobody can tell what is in use


def test_a_reason_to_stay_is_one_function_more(root: Root, monkeypatch: pytest.MonkeyPatch) -> None:
    root.run("20260101T000000-aaaaaaaa")
    root.run("20260102T000000-bbbbbbbb", 0.5)

    def promoted(seen: DataRoot) -> Any:
        yield from ((run, "in use") for run in seen.runs if run.path.name.endswith("aaaaaaaa"))

    monkeypatch.setattr(run_folders, "KEEPERS", (*run_folders.KEEPERS, promoted))
    assert root.kept()["20260101T000000-aaaaaaaa"] == "in use" and root.going() == {}


def test_a_training_names_its_dagster_run() -> None:
    made = new_run_id("12ab34cd-0000-0000-0000-000000000000")
    assert dagster_runs([made, "b1", "0011223344556677"]) == {"12ab34cd"}


@given(
    runs=st.lists(st.tuples(st.floats(-1, 1) | st.none(), st.booleans(), st.integers(0, 7)), max_size=8),
    keep=st.integers(0, 9),
)
def test_no_kept_run_loses_what_it_started_from(runs: list[tuple[float | None, bool, int]], keep: int) -> None:
    folders = [
        RunFolder(Path("runs/main/phase0", f"r{n}"), YOUNG if young else OLD, "finished", ic, f"r{parent}")
        for n, (ic, young, parent) in enumerate(runs)
    ]
    seen = DataRoot(Path("nowhere"), BEFORE, keep)
    seen.__dict__["runs"] = tuple(folders)
    kept = kept_runs(seen)
    names = {path.name for path in kept}
    for folder in folders:
        if folder.path in kept:
            assert folder.parent in names or folder.parent not in {one.path.name for one in folders}
        else:
            assert folder.changed < BEFORE and len(folders) > keep
    judged = [folder for folder in folders if folder.rank_ic is not None]
    assert not judged or max(judged, key=lambda one: one.rank_ic or 0).path in kept


def test_the_table_ends_with_sums() -> None:
    going = [Going("run", "a", "old", 2_000_000), Going("panel", "b", "unused", 1_500_000), Going("run", "c", "old", 5)]
    lines = list(table(going))
    assert lines[-1].split() == ["total", "3.50", "MB", "in", "3"]
    assert [line.split()[-1] for line in lines if " in " in line] == ["2", "1", "3"]
    assert "nothing may go" in next(table([]))
    shown = markdown(going * 100)
    assert "and 100 more" in shown and "| **run** | 200 | | **200.00** |" in shown


def test_the_size_of_what_vanishes_is_nothing(tmp_path: Path) -> None:
    assert size_of(tmp_path / "gone") == 0
    (tmp_path / "link").symlink_to(tmp_path / "gone")
    make: Callable[[str], Any] = (tmp_path / "file").write_text
    make("four")
    assert size_of(tmp_path / "file") == 4 and size_of(tmp_path) > 4
