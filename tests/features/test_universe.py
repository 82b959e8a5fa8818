"""The universe: market codes, share classes, and the master of the day."""

from datetime import date, datetime, timedelta

import polars as pl

from atft_assets.calendar import TOKYO, previous_trading_day, trading_days
from atft_assets.features.universe import MARKET_CODES, universe


def snapshot(day: date, rows: list[tuple], product: bool = True) -> pl.DataFrame:
    """listed_info of a day from (code, mkt, s33[, prodcat])."""
    before = previous_trading_day(day)
    frame = pl.DataFrame(
        {
            "date": [day] * len(rows),
            "code": [r[0] for r in rows],
            "S33": [r[2] for r in rows],
            "S17": ["1"] * len(rows),
            "Mkt": [r[1] for r in rows],
            "ScaleCat": ["-"] * len(rows),
            "ProdCat": [r[3] if len(r) > 3 else "011" for r in rows],
            "available_at": [datetime(before.year, before.month, before.day, 17, 30, tzinfo=TOKYO)] * len(rows),
        }
    ).with_columns(pl.col("available_at").dt.cast_time_unit("us").dt.convert_time_zone("Asia/Tokyo"))
    return frame if product else frame.drop("ProdCat")


def quotes(codes: list[str], days: list[date]) -> pl.DataFrame:
    rows = pl.DataFrame({"date": days}).join(pl.DataFrame({"code": codes}), how="cross")
    return rows.with_columns(pl.lit(100.0).alias("C"), pl.lit(1e6).alias("Va"))


MONDAY = date(2021, 6, 7)
WEEK = trading_days(MONDAY, MONDAY + timedelta(days=4))


def test_only_domestic_common_shares_of_the_cash_market():
    rows = [
        *((f"{1000 + i}0", code, "0050") for i, code in enumerate(MARKET_CODES)),
        ("20000", "0105", "0050"),  # TOKYO PRO
        ("20010", "0109", "0050", "014"),  # ETF
        ("25935", "0111", "0050"),  # preferred share
        ("83010", "0112", "0050"),  # Bank of Japan
        ("84210", "0112", "0050"),
        ("20020", "0111", "0050", "014"),  # not a domestic share although on Prime
        ("130A0", "0113", "0050"),
        ("285A0", "0111", "0050"),
    ]
    listed = snapshot(MONDAY, rows)
    got = universe(quotes([r[0] for r in rows], [MONDAY]), listed)
    assert got["code"].to_list() == sorted([*(f"{1000 + i}0" for i in range(8)), "130A0", "285A0"])


def test_without_a_product_category_the_market_code_decides():
    listed = snapshot(MONDAY, [("13010", "0111", "0050"), ("20010", "0109", "0050")], product=False)
    assert universe(quotes(["13010", "20010"], WEEK), listed)["code"].unique().to_list() == ["13010"]
    blank = snapshot(MONDAY, [("13010", "0111", "0050", ""), ("13020", "0111", "0050", None)])
    assert universe(quotes(["13010", "13020"], [MONDAY]), blank).height == 2


def test_a_snapshot_is_used_from_the_evening_on_which_it_is_out():
    next_monday = date(2021, 6, 14)
    friday = date(2021, 6, 11)
    listed = pl.concat(
        [snapshot(MONDAY, [("13010", "0101", "0050")]), snapshot(next_monday, [("13010", "0101", "3050")])]
    )
    got = universe(quotes(["13010"], trading_days(MONDAY, next_monday)), listed)
    sector = dict(got.select("date", "s33").iter_rows())
    assert [sector[d] for d in WEEK[:-1]] == ["0050"] * 4
    assert sector[friday] == "3050"  # Monday's master is out on Friday at 17:30
    assert sector[next_monday] == "3050"


def test_a_newer_master_never_reaches_back():
    before = universe(quotes(["13010"], WEEK), snapshot(MONDAY, [("13010", "0101", "0050")]))
    later = snapshot(date(2021, 6, 21), [("13010", "0111", "9050")])
    assert universe(quotes(["13010"], WEEK), pl.concat([snapshot(MONDAY, [("13010", "0101", "0050")]), later])).equals(
        before
    )


def test_days_before_the_first_snapshot_have_no_rows():
    early = trading_days(date(2021, 6, 1), MONDAY)
    got = universe(quotes(["13010"], early), snapshot(MONDAY, [("13010", "0101", "0050")]))
    assert got["date"].min() == date(2021, 6, 4)


def test_a_delisted_name_stays_in_its_past_and_a_new_one_begins_with_its_listing():
    second = date(2021, 6, 14)
    listed = pl.concat(
        [
            snapshot(MONDAY, [("13010", "0101", "0050"), ("13020", "0101", "0050")]),
            snapshot(second, [("13010", "0101", "0050"), ("13030", "0104", "0050")]),
        ]
    )
    bars = pl.concat(
        [
            quotes(["13010"], trading_days(MONDAY, date(2021, 6, 18))),
            quotes(["13020"], WEEK[:4]),
            quotes(["13030"], trading_days(second, date(2021, 6, 18))),
        ]
    )
    got = universe(bars, listed)
    assert got.filter(pl.col("code") == "13020")["date"].to_list() == WEEK[:4]
    assert got.filter(pl.col("code") == "13030")["date"].min() == second


def test_the_reform_of_2022_changes_the_market_code_and_nobody_leaves():
    friday, reform = date(2022, 4, 1), date(2022, 4, 4)
    listed = pl.concat(
        [snapshot(date(2022, 3, 28), [("13010", "0101", "0050")]), snapshot(reform, [("13010", "0111", "0050")])]
    )
    got = universe(quotes(["13010"], trading_days(date(2022, 3, 28), date(2022, 4, 8))), listed)
    assert got.height == 10
    market = dict(got.select("date", "mkt").iter_rows())
    assert market[date(2022, 3, 31)] == "0101"
    assert market[friday] == market[reform] == "0111"  # the list of the reform is out on Friday evening


def test_a_name_that_vanishes_and_returns_is_absent_between_and_new_afterwards():
    gone, back = date(2023, 3, 6), date(2025, 6, 9)
    names = [("13010", "0111", "0050"), ("83030", "0111", "7050")]
    parts = [snapshot(date(2023, 2, 27), names), snapshot(gone, names[:1]), snapshot(back, names)]
    days = trading_days(date(2023, 2, 27), date(2023, 3, 17)) + trading_days(back, date(2025, 6, 13))
    got = universe(quotes(["13010", "83030"], days), pl.concat(parts)).filter(pl.col("code") == "83030")
    # Monday's list is out on Friday evening: it is gone from the Friday, and there from the day of its own
    assert got["date"].to_list() == [
        *trading_days(date(2023, 2, 27), date(2023, 3, 2)),
        *trading_days(back, date(2025, 6, 13)),
    ]
    assert got.filter(pl.col("date") == back)["age"].item() == 1, "seven months are another life"
