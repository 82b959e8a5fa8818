"""Rules of the master and of the indices on small frames, and the rules of bars through the real assets."""

from datetime import date, timedelta

import polars as pl
import pytest

from atft_assets.raw import index_rules, listed_info
from atft_assets.raw.beside import Beside
from tests.features.synthetic import topix

from .conftest import failed_rules, materialized

FIRST = date(2022, 1, 31)
CODES = [f"{1301 + i}0" for i in range(40)]
SECTORS = listed_info.SECTORS33


def snapshot(weeks: int, codes: list[str] = CODES) -> pl.DataFrame:
    sectors = [SECTORS[int(code[:4]) % len(SECTORS)] for code in codes]
    return pl.DataFrame({"date": [FIRST + timedelta(weeks=weeks)] * len(codes), "code": codes, "S33": sectors})


MONTH = pl.concat(snapshot(week) for week in (1, 2, 3))


def broken(month: pl.DataFrame, before: pl.DataFrame | None = None) -> list[str]:
    return [rule for _, rule, _, _ in listed_info.rules(month, Beside(before))]


def test_a_clean_master_passes_and_so_do_a_few_changes() -> None:
    assert broken(MONTH) == broken(MONTH, snapshot(0)) == []
    third = pl.col("date") == FIRST + timedelta(weeks=3)
    fewer = MONTH.filter(~third | (pl.col("code") != CODES[0]))
    moved = fewer.with_columns(
        pl.when(third & (pl.col("code") == CODES[5])).then(pl.lit("9050")).otherwise("S33").alias("S33")
    )
    assert broken(moved, snapshot(0)) == []
    assert broken(pl.concat([MONTH, snapshot(4, [*CODES, "99990", "99980"])])) == []


def test_half_a_master_is_seen() -> None:
    half = MONTH.filter((pl.col("date") != FIRST + timedelta(weeks=2)) | pl.col("code").is_in(CODES[::2]))
    (rule,) = broken(half)
    assert "holds the names of the one before" in rule
    assert broken(MONTH.filter(pl.col("code").is_in(CODES[::2])), snapshot(0)) == [rule]  # every snapshot of a month


def test_a_master_without_sectors_is_seen() -> None:
    assert [rule for rule in broken(MONTH.with_columns(pl.lit("9999").alias("S33"))) if "no sector" in rule]
    rotated = MONTH.filter(pl.col("date") == FIRST + timedelta(weeks=2)).with_columns(
        pl.col("S33").shift(3, fill_value="0050")
    )
    assert [rule for rule in broken(pl.concat([snapshot(1), rotated])) if "change their sector" in rule]


def test_an_unknown_sector_breaks_the_schema(lab) -> None:
    lab.exchange.edit = lambda path, record: record | {"S33": "3051"} if "S33" in record else record
    assert "isin" in failed_rules(lab.run("listed_info", "2024-01"))["S33"]["rule"]


@pytest.mark.parametrize("place", [0, 7])
def test_an_index_times_1000_is_seen_also_on_the_first_day_of_a_month(place: int) -> None:
    index = topix(21)
    before, month = index.head(1), index.tail(20)
    assert list(index_rules.index_jumps(month, Beside(before))) == []
    wrong = month.with_row_index("n").with_columns(
        pl.when(pl.col("n") == place).then(pl.col("C") * 1000).otherwise("C").alias("C")
    )
    ((column, rule, rows, _),) = index_rules.index_jumps(wrong, Beside(before))
    assert (column, rows) == ("C", 2) and "factor of 1.3" in rule  # up, and down again


def test_each_sector_index_is_held_against_itself() -> None:
    two = pl.concat(
        [topix(20).with_columns(code=pl.lit("0040")), topix(20).with_columns(pl.col("C") * 9, code=pl.lit("0041"))]
    )
    assert list(index_rules.index_jumps(two, Beside())) == []


# -- through the assets


def lose_pages(path, record):
    return None if path == "/equities/bars/daily" and record["Code"] > "25935" else record


def lose_names(path, record):
    return None if path == "/equities/master" and record["Code"] > "25935" else record


def test_bars_are_judged_beside_the_master_that_is_published(lab) -> None:
    materialized(lab.run("listed_info", "2024-01", "2024-02"))
    lab.exchange.edit = lose_pages
    failure = failed_rules(lab.run("daily_quotes", "2024-01"))["date, code"]
    assert "the names of the master" in failure["rule"] and "2024-01-04: 5 of 12 gone" in failure["sample"]
    lab.exchange.edit = None
    metadata = materialized(lab.run("daily_quotes", "2024-01", "2024-02"))
    assert metadata["judged_beside"] == "2024-01-31, listed_info"


def test_a_master_that_lost_half_stops_the_bars(lab) -> None:
    lab.exchange.edit = lose_names
    materialized(lab.run("listed_info", "2024-01"))  # the first month of all: nothing says that there are more names
    failure = failed_rules(lab.run("daily_quotes", "2024-01"))["date, code"]
    assert "the master (listed_info) holds the names of a day" in failure["rule"]


def test_months_of_one_run_are_judged_beside_each_other(lab) -> None:
    lab.exchange.edit = lambda path, record: lose_pages(path, record) if record["Date"] >= "2024-02" else record
    failure = failed_rules(lab.run("daily_quotes", "2024-01", "2024-02"))["date, code"]
    assert "the names of the day before" in failure["rule"] and failure["sample"] == "2024-02-01: 5 of 12 gone"
    lab.exchange.edit = None
    materialized(lab.run("daily_quotes", "2024-01"))
    lab.exchange.edit = lose_pages
    failed_rules(lab.run("daily_quotes", "2024-02"))  # and beside the published month


def test_listed_info_is_built_before_the_bars_in_one_run(lab) -> None:
    from atft_assets.raw import definitions
    from atft_assets.settings import Settings

    settings = Settings(
        base_url=lab.server.base_url, plan=lab.plan, data_root=str(lab.root), start=lab.start, end=lab.end
    )
    (quotes,) = (one for one in definitions(settings).assets or [] if one.key.to_user_string() == "daily_quotes")
    assert {key.to_user_string() for key in quotes.dependency_keys} == {"trading_calendar", "listed_info"}
