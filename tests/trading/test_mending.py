"""Damaged records of trials and promotions: what can be read stays, and what was tried or in use is not forgotten."""

from pathlib import Path

import pytest

from atft_assets.store.damage import Damage
from atft_assets.trading import champion as c
from atft_assets.trading.mending import menders, trading_damages
from atft_assets.trials.ledger import FILE, FOLDER, count, seen
from tests.trading.test_champion import make_run, network, promoted
from tests.trials.test_ledger import trial


def mended(root: Path) -> list[str]:
    """As `tools.mend` does it."""
    lines = []
    for damage in trading_damages(root):
        assert isinstance(damage, Damage)
        data = damage.path.read_bytes()
        lines.append(damage.mend(root))
        lines += menders(root)[damage.path](damage.path, data)
    return lines


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for run_id in ("one", "two"):
        make_run(tmp_path, run_id)
    seen(tmp_path, [trial("a"), trial("b"), trial("c")])
    promoted(tmp_path, network(tmp_path, "one"))
    promoted(tmp_path, network(tmp_path, "two", name="n2"))
    return tmp_path


def test_what_is_whole_is_left_alone(root: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    assert list(trading_damages(root)) == [] and list(trading_damages(tmp_path_factory.mktemp("empty"))) == []


def test_a_lost_trial_counts_as_one(root: Path) -> None:
    path = root / FOLDER / FILE
    lines = path.read_bytes().splitlines()
    path.write_bytes(b"\n".join([lines[0], b"\xff" + lines[1], lines[2][:20]]) + b"\n")
    said = mended(root)
    assert "1 trials kept, 2 lost" in said[-1] and (root / "retired" / FOLDER / FILE).exists()
    assert count(root).trials == 3 and list(trading_damages(root)) == []


def test_promotions_that_can_be_read_stay(root: Path) -> None:
    path = root / c.FOLDER / c.PROMOTIONS
    path.write_bytes(path.read_bytes() + b"half a li")
    said = mended(root)
    assert "3 lines kept, 1 lost" in said[-1]
    assert c.needed(root / c.FOLDER).champion_id == "n2" and list(trading_damages(root)) == []


@pytest.mark.parametrize("text", ["nobody\n", "two words\n", ""])
def test_a_pointer_to_nobody_goes_back_to_the_last(root: Path, text: str) -> None:
    (root / c.FOLDER / c.POINTER).write_text(text)
    said = mended(root)
    assert "names n2" in said[-1] and c.needed(root / c.FOLDER).champion_id == "n2"


def test_tables_of_a_back_test_that_are_torn_go_aside_and_the_command_makes_them_anew(root: Path) -> None:
    from atft_assets.trading.backtest_sets import newest
    from atft_assets.trading.judging import SWEEP
    from atft_model.interchange.hashes import file_sha256, write_sidecar
    from atft_model.interchange.records import write_json, write_text

    sets, sweep = root / "trading" / "backtest", root / "trading" / SWEEP
    table = sets / "0123" / "equity.parquet"
    table.parent.mkdir(parents=True)
    for path in (table, sweep):
        path.write_bytes(b"a table")
    write_json(table.parent / "run.json", {"files": {table.name: file_sha256(table)}})
    write_text(sets / "latest", "0123\n")
    write_sidecar(sweep, file_sha256(sweep))
    assert list(trading_damages(root)) == [] and newest(root) is not None
    for path in (table, sweep):
        path.write_bytes(b"a tabl")
    found = list(trading_damages(root))
    assert [one.path for one in found] == [table.parent, sweep]
    assert {one.command for one in found} == {"dagster asset materialize --select backtest"}
    for one in found:
        one.mend(root)
    (pointer,) = trading_damages(root)
    assert pointer.path == sets / "latest" and "it names 0123, which is no back-test" in pointer.said
    pointer.mend(root)
    assert list(trading_damages(root)) == [] and newest(root) is None
