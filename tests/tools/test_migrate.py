"""Old data roots: refused by every feature asset in one sentence, migrated by one command, twice without harm."""

import json
from datetime import date
from pathlib import Path

import dagster as dg
import polars as pl
import pytest

from atft_assets.calendar import trading_days
from atft_assets.features import OldRoot, definitions, refuse_old_root
from atft_assets.graph.asset import graph_asset
from atft_assets.panel.asset import panel_asset
from atft_assets.settings import Plan, Settings
from atft_assets.store import Store
from atft_assets.tools.migrate import main, migrate
from atft_assets.training.looks import LEDGER_FILE, ledger, looked_at
from atft_model.interchange.fold import cut
from atft_model.interchange.panel import FORMAT as PANEL_FORMAT

PANEL, SECOND = "0a0a0a0a0a0a0a0a", "0b0b0b0b0b0b0b0b"  # of the first format and of the second


@pytest.fixture
def old(tmp_path: Path) -> Store:
    """A root as the first version left it."""
    store = Store(root=str(tmp_path))
    frame = pl.DataFrame({"code": ["13010"], "x": [1.0]})
    for group, name in (
        ("raw", "daily_quotes"), ("features", "phase1_features"), ("features", "phase2_features"),
        ("features", "market_features"),
    ):  # fmt: skip
        table = store.table(group, name)
        table.publish([table.stage("2022-01", frame, code_version="1")])
    split = {"test": ["2021-01-04", "2021-06-30"]}
    write(tmp_path / "panel" / PANEL / "panel.json", {"format": 1, "split": split})
    (tmp_path / "panel" / "latest").write_text(PANEL)
    write(tmp_path / "panel" / "0123456789abcdef" / "panel.json", {"format": PANEL_FORMAT})
    write(tmp_path / "panel" / SECOND / "panel.json", {"format": 2})
    write(tmp_path / "runs" / "train_phase0" / "20261125T184120-38981f1c" / "run.json", {"status": "finished"})
    (tmp_path / "runs" / "train_phase0" / "latest").write_text("20261125T184120-38981f1c")
    write(tmp_path / "runs" / "main" / "train_phase0" / "20270101T000000-00000000" / "run.json", {"format": 2})
    write(tmp_path / "evaluation" / "validation.json", {})
    scorings = [{"panel_id": panel, "at": "2026-11-01", "runs": {}} for panel in (PANEL, "gone")]
    (tmp_path / "evaluation" / LEDGER_FILE).write_text("".join(json.dumps(line) + "\n" for line in scorings))
    return store


def write(path: Path, content: dict) -> None:
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps(content))


def listing(root: Path) -> list[str]:
    return sorted(str(path.relative_to(root)) for path in root.rglob("*") if path.is_file())


def test_an_old_root_is_refused_in_one_sentence(old: Store) -> None:
    with pytest.raises(OldRoot, match=r"holds features/phase1_features, .* python -m atft_assets\.tools\.migrate"):
        refuse_old_root(old)
    migrate(Path(old.root))
    refuse_old_root(old)


@pytest.mark.parametrize("name", ["universe", "labels", "all_features", "correlation_graph", "training_panel"])
def test_every_asset_refuses_it(old: Store, name: str) -> None:
    settings = Settings(base_url=None, plan=Plan.STANDARD, data_root=old.root, start="2022-01-04", end="2022-01-31")
    assets = [*(definitions(settings).assets or []), graph_asset(settings), panel_asset(settings)]
    tags = (
        {}
        if name in ("labels", "training_panel")
        else {f"dagster/asset_partition_range_{x}": "2022-01" for x in ("start", "end")}
    )
    with dg.DagsterInstance.ephemeral() as instance:
        result = dg.materialize(
            assets, selection=[name], resources={"store": old}, tags=tags, instance=instance, raise_on_error=False
        )
        (failure,) = [e for e in result.all_events if e.is_step_failure]
        said = str(failure.event_specific_data.error)
    assert f"{name} cannot be built" in said and "python -m atft_assets.tools.migrate" in said
    assert not [e for e in result.all_events if e.event_type_value == "STEP_UP_FOR_RETRY"]


def test_tables_get_their_names_and_what_cannot_be_read_is_put_aside(old: Store, capsys) -> None:
    root = Path(old.root)
    before = {name: old.table("features", name).read() for name in ("phase1_features", "phase2_features")}
    assert main(["--root", old.root]) == 0
    said = capsys.readouterr().out
    assert "moved features/phase1_features to features/stock_features" in said and "make road" in said
    for was, name in (("phase1_features", "stock_features"), ("phase2_features", "all_features")):
        assert old.table("features", name).read(["2022-01"]).equals(before[was])
        assert not (root / "features" / was).exists()
    assert old.table("raw", "daily_quotes").keys() == ["2022-01"]
    retired = root / "retired"
    assert (retired / "panel" / PANEL / "panel.json").exists() and (retired / "panel" / "latest").exists()
    assert (retired / "runs" / "train_phase0" / "latest").exists()
    assert (retired / "evaluation" / "validation.json").exists()
    assert (retired / "panel" / SECOND / "panel.json").exists() and not (root / "panel" / SECOND).exists()
    assert (root / "panel" / "0123456789abcdef" / "panel.json").exists()  # of this format
    assert (root / "runs" / "main" / "train_phase0" / "20270101T000000-00000000" / "run.json").exists()


def test_test_blocks_that_were_looked_at_stay_looked_at(old: Store) -> None:
    root = Path(old.root)
    fold = cut(trading_days(date(2017, 1, 4), date(2020, 12, 30)))
    assert len(looked_at(ledger(root / "evaluation"), fold)) == 2  # of unknown days: all of them
    migrate(root)
    known, unknown = ledger(root / "evaluation")
    assert (known["first"], known["last"]) == ("2021-01-04", "2021-06-30") and "first" not in unknown
    assert looked_at([known], fold) == []
    later = cut(trading_days(date(2018, 1, 4), date(2021, 3, 31)))
    assert looked_at([known], later) == [known]


def test_a_dry_run_moves_nothing_and_a_second_run_finds_nothing(old: Store, capsys) -> None:
    root = Path(old.root)
    before = listing(root)
    assert main(["--root", old.root, "--dry-run"]) == 0
    assert "would move runs/train_phase0 to retired/runs/train_phase0" in capsys.readouterr().out
    assert listing(root) == before
    migrate(root)
    after = listing(root)
    assert len(after) == len(before)
    assert main(["--root", old.root]) == 0
    assert "needs no migration" in capsys.readouterr().out
    assert listing(root) == after


def test_a_table_that_was_built_anew_is_kept_and_the_old_one_put_aside(old: Store) -> None:
    table = old.table("features", "stock_features")
    table.publish([table.stage("2022-01", pl.DataFrame({"code": ["13010"], "x": [2.0]}), code_version="2")])
    migrate(Path(old.root))
    assert table.read()["x"].to_list() == [2.0]
    assert (Path(old.root) / "retired" / "features" / "phase1_features" / "2022-01.parquet").exists()


def test_a_root_that_is_not_there_is_named(tmp_path: Path, capsys) -> None:
    assert main(["--root", str(tmp_path / "nowhere")]) == 1
    assert "nowhere; set ATFT_DATA" in capsys.readouterr().out
