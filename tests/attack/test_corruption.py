"""Every kind of file damaged: the reader says so and names the command that mends, which mends."""

import hashlib
import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import dagster as dg
import pytest

from atft_assets.store import Store
from atft_assets.tools import mend
from atft_assets.training.evaluation import evaluation_asset
from atft_assets.training.launcher import LocalLauncher
from tests.attack.cases import CASES
from tests.attack.damage import BY_ITSELF, TABLES, TRAININGS, Row, cut, empty, flipped
from tests.attack.hostile import passthrough
from tests.attack.lab import MONTH, Lab, published, sentence
from tests.training import small_market
from tests.training.small_market import World

TRAINER = Path(small_market.__file__).parent


def the_file(data: Path, row: Row) -> Path:
    (path,) = [path for path in data.glob(row.place) if not path.is_symlink()]
    return path


def hashes(data: Path) -> dict[str, str]:
    return {
        str(p.relative_to(data)): hashlib.sha256(p.read_bytes()).hexdigest() for p in data.rglob("*") if p.is_file()
    }


def mended(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], data: Path) -> str:
    """What the command that mends prints over a data root."""
    monkeypatch.setenv("ATFT_DATA", str(data))
    capsys.readouterr()
    mend.main([])
    return capsys.readouterr().out


# ── tables ────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture(scope="module")
def tables(lab: Lab) -> Iterator[Lab]:
    """The lab with a table of features in its clean root."""
    lab.clean()
    lab.proxy.use(passthrough)
    for month in ("2022-01", MONTH):
        assert lab.run("universe", month).success
    before = lab.root / "clean-of-features"
    (lab.root / "clean").rename(before)
    shutil.copytree(lab.data, lab.root / "clean")
    yield lab
    shutil.rmtree(lab.root / "clean")
    before.rename(lab.root / "clean")


@pytest.mark.parametrize("row", TABLES, ids=lambda row: row.name)
def test_a_damaged_file_of_a_table(
    tables: Lab, row: Row, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    tables.clean()
    path = the_file(tables.data, row)
    row.damage(path)
    if row.says != BY_ITSELF:
        said = sentence(tables.run(row.reader, MONTH))
        assert row.says in said, said
        assert path.name in said or path.parent.name in said, said
        printed = mended(monkeypatch, capsys, tables.data)
        assert str(path.relative_to(tables.data)) in printed, printed
        if row.rebuild:
            assert row.rebuild in printed, printed  # the command that builds it again stands there
            assert tables.run(row.rebuild, MONTH).success
    again = tables.run(row.reader, MONTH)
    assert again.success, sentence(again)
    clean = published(tables.root / "clean")
    assert {p: h for p, h in published(tables.data).items() if p in clean and p.endswith(".parquet")} == {
        p: h for p, h in clean.items() if p.endswith(".parquet")
    }
    assert "nothing is damaged" in mended(monkeypatch, capsys, tables.data)


@pytest.mark.parametrize("damage", [flipped, cut, empty], ids=["flipped", "cut", "empty"])
def test_a_damaged_file_of_an_interrupted_fetch_is_asked_for_again(tables: Lab, damage: Callable) -> None:
    (case,) = [case for case in CASES if case.name == "403, the key expires half way"]
    assert not tables.attack(case).success
    (landed,) = (tables.data / "raw/daily_quotes").glob(f".{MONTH}.*.landed")
    damage(landed)
    assert tables.run("daily_quotes", MONTH).success
    assert tables.frame("daily_quotes").equals(tables.truth("daily_quotes"))


# ── panel and runs ────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass
class Trained:
    """A small market with a panel, its folds, and a run of a trainer that is quick."""

    world: World

    def run(self, *names: str) -> dg.ExecuteInProcessResult:
        world = self.world
        return dg.materialize(
            [*world.phase_assets(), evaluation_asset(world.settings), dg.AssetSpec("training_panel"),
             dg.AssetSpec("folds"), dg.AssetSpec("baselines")],
            selection=list(names),
            resources={"store": world.store, "launcher": LocalLauncher(module="fake_trainer", threads=1)},
            run_config={"ops": {n: {"config": {"allow_ephemeral_instance": True}} for n in names if "phase" in n}},
            raise_on_error=False,
        )  # fmt: skip

    def read(self, reader: str) -> str:
        """What a reader says of the files; "" if nothing is wrong."""
        if reader == "evaluation":
            result = self.run("evaluation")
            return "" if result.success else sentence(result)
        try:
            panel = self.world.newest()
            for name in panel.tensors:
                panel.tensors[name].any()
        except ValueError as error:
            return str(error)
        return ""

    def rebuild(self, what: str) -> None:
        if what == "panel":
            self.world.cut(self.world.panel().panel)
        else:
            assert self.run(what).success


@pytest.fixture(scope="module")
def once(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Trained]:
    world = small_market.make_world(tmp_path_factory.mktemp("trained") / "data")
    world.cut(world.panel().panel)
    trained = Trained(world)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", os.pathsep.join([str(TRAINER), str(TRAINER.parents[1])]))
        assert trained.run("train_phase0").success
        yield trained


@pytest.fixture
def trained(once: Trained, tmp_path: Path) -> Trained:
    root = tmp_path / "data"
    shutil.copytree(once.world.root, root, symlinks=True)
    world = once.world
    settings = world.settings.model_copy(update={"data_root": str(root)})
    return Trained(World(root, Store(root=str(root)), settings, world.days, world.codes, world.returns))


@pytest.mark.parametrize("row", TRAININGS, ids=lambda row: row.name)
def test_a_damaged_file_of_a_panel_or_run(
    trained: Trained, row: Row, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    root = trained.world.root
    path = the_file(root, row)
    row.damage(path)
    said = trained.read(row.reader)
    assert row.says in said, said
    assert path.name in said or path.parent.name in said, said
    printed = mended(monkeypatch, capsys, root)
    assert str(path.relative_to(root)) in printed or str(path.parent) in printed, printed
    if trained.read(row.reader):  # a pointer is set again from what is whole; what is not whole is made again
        trained.rebuild(row.rebuild)
    assert trained.read(row.reader) == ""


def test_nothing_is_mended_where_nothing_is_damaged(
    trained: Trained, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    root = trained.world.root
    before = hashes(root)
    mended(monkeypatch, capsys, root)
    assert hashes(root) == before
