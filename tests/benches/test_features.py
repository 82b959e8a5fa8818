"""The bench of features: every raw table that features read is filled as ingestion would, and costs are told."""

from datetime import date
from pathlib import Path

import polars as pl
import pytest

from atft_assets.benches.features import Cost, by_table, line, linearity, total, with_inputs
from atft_assets.benches.features_raw import ANSWERS, as_stored, fill_raw
from atft_assets.features.registry import TABLES
from atft_assets.jquants.endpoints import FINS_DIVIDEND, MARGIN_ALERT
from atft_assets.raw.registry import SOURCES
from atft_assets.sandbox import MarketConfig, simulate
from atft_assets.sandbox.wire import raw
from atft_assets.store import Store

NAMES, START, END = 60, date(2019, 5, 20), date(2019, 6, 21)
RAW = sorted({name for table in TABLES for name in table.reads} - {table.name for table in TABLES})


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Store:
    store = Store(root=str(tmp_path_factory.mktemp("filled")))
    assert fill_raw(store, simulate(MarketConfig(n_names=NAMES, start=START, end=END))) == ["2019-05", "2019-06"]
    return store


def test_no_table_of_features_is_left_out(filled: Store) -> None:
    assert with_inputs(filled) == TABLES
    assert sorted(folder.name for folder in (Path(filled.root) / "raw").iterdir()) == RAW


@pytest.mark.parametrize("name", sorted(ANSWERS))
def test_every_table_is_as_its_raw_contract_says(filled: Store, name: str) -> None:
    source = next(source for source in SOURCES if source.name == name)
    rows = 0
    for key in ("2019-05", "2019-06"):
        frame = filled.table("raw", name).read([key])
        verdict = source.contract.audit(frame, key)
        assert verdict.passed, str(verdict)
        assert frame["date"].dt.strftime("%Y-%m").is_in([key]).all()
        rows += frame.height
    assert rows


def test_cells_of_an_open_kind_are_stored_as_ingestion_stores_them() -> None:
    alert = {"PubDate": "2019-05-21", "Code": "13010", "AppDate": "2019-05-20", "PubReason": raw({"b": "1", "a": "0"})}
    frame = as_stored(MARGIN_ALERT, pl.DataFrame({**alert, "ShrtOut": 100, "ShrtOutChg": "-"}), "-")
    assert frame.row(0, named=True) | {"available_at": None} == {
        "date": date(2019, 5, 21), "code": "13010", "AppDate": "2019-05-20", "PubReason": '{"a": "0", "b": "1"}',
        "ShrtOut": 100.0, "ShrtOutChg": "-", "available_at": None,
    }  # fmt: skip
    dividend = {"PubDate": "2019-05-21", "PubTime": "12:00", "Code": "13010", "RefNo": "1", "DivRate": raw(12.0)}
    assert as_stored(FINS_DIVIDEND, pl.DataFrame(dividend), "-")["DivRate"].to_list() == ["12"]


def size(rows: int, cpu: float) -> dict:
    tables = {"universe": {"wall_s": 1.0, "cpu_s": 1.5}}
    return {
        "names": 10, "days": rows // 10, "rows": rows, "wall_s": cpu, "cpu_s": cpu, "refresh_s": 1.0,
        "refresh_cpu_s": 0.5, "whole_s": 2.0, "peak_gb": 0.5, "load": 1.0, "tables": tables,
    }  # fmt: skip


def test_what_is_told_of_a_size() -> None:
    assert line(size(1_000_000, 25.0)).split() == ["10", "100000", "1,000,000", "25.0", "25.0", "25.0", "1.0", "0.5"]
    assert "universe 1.0 (1.5)" in by_table(size(1_000_000, 25.0))
    assert linearity(size(100, 1.0), size(200, 2.0), "days").endswith("no more than linear.")
    assert total([Cost(1.0, 2.0), Cost(3.0, 4.0)]) == Cost(4.0, 6.0)
