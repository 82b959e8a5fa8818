"""Breakdown against sums by hand; days without a trade, phantom codes, rows that come late."""

from datetime import date

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from atft_assets.calendar import decision_instant, shift_trading_days, trading_days
from atft_assets.features.breakdown import FEATURES, FLAG, VALIDITY, breakdown_features
from tests.features.events_proof import assert_as_declared, assert_no_future, differing
from tests.features.synthetic import raw_quotes
from tests.features.synthetic_records import at, breakdown, with_instants

QUOTES = raw_quotes(3, 160, seed=6, untraded=0.1, splits=True)
TURNOVER = breakdown(QUOTES, seed=1)
ROWS = QUOTES.select("date", "code")
DAYS = ROWS["date"].unique().sort().to_list()
CALENDAR = trading_days(DAYS[0], date(2019, 12, 30))
PLACES = {day: i for i, day in enumerate(CALENDAR)}


def make(t) -> pl.DataFrame:
    return breakdown_features(t["turnover"], t["rows"])


GOT = make({"turnover": TURNOVER, "rows": ROWS})


def of_a_day(row: dict) -> dict[str, float]:
    sold = row["LongSellVa"] + row["ShrtNoMrgnVa"] + row["MrgnSellNewVa"] + row["MrgnSellCloseVa"]
    bought = row["LongBuyVa"] + row["MrgnBuyNewVa"] + row["MrgnBuyCloseVa"]
    short = row["ShrtNoMrgnVa"] + row["MrgnSellNewVa"]
    price = short / (row["ShrtNoMrgnVo"] + row["MrgnSellNewVo"])
    return {
        "bd_short_share": short / sold,
        "bd_short_no_margin_share": row["ShrtNoMrgnVa"] / sold,
        "bd_margin_sell_share": row["MrgnSellNewVa"] / sold,
        "bd_margin_buy_share": row["MrgnBuyNewVa"] / bought,
        "bd_close_share": (row["MrgnSellCloseVa"] + row["MrgnBuyCloseVa"]) / (sold + bought),
        "bd_net_margin_long": (row["MrgnBuyNewVa"] - row["MrgnSellCloseVa"]) / bought,
        "bd_net_margin_short": (row["MrgnSellNewVa"] - row["MrgnBuyCloseVa"]) / sold,
        "bd_short_price_gap": np.log(price / (row["LongSellVa"] / row["LongSellVo"])),
    }


def by_hand(turnover: pl.DataFrame, code: str, evening: date) -> dict[str, float] | None:
    known = {
        PLACES[row["date"]]: row
        for row in turnover.filter(
            (pl.col("code") == code) & (pl.col("available_at") <= decision_instant(evening))
        ).iter_rows(named=True)
    }
    if not known:
        return None
    newest = max(known)
    instant = known[newest]["available_at"]
    first = instant.date() if instant <= decision_instant(instant.date()) else CALENDAR[PLACES[instant.date()] + 1]
    if first != evening:
        return None
    found = of_a_day(known[newest])
    short = {p: of_a_day(row)["bd_short_share"] for p, row in known.items()}
    net = {p: of_a_day(row)["bd_net_margin_long"] for p, row in known.items()}

    def lately(values: dict[int, float], n: int) -> list[float]:
        return [values[p] for p in range(newest - n + 1, newest + 1) if p in values]

    if len(lately(net, 5)) >= 3:
        found["bd_net_margin_long_5"] = np.mean(lately(net, 5))
        found["bd_short_mom5"] = short[newest] - np.mean(lately(short, 5))
    if len(year := lately(short, 60)) >= 40:
        found["bd_short_share_z60"] = (short[newest] - np.mean(year)) / np.std(year, ddof=1)
    return found


def against_hand(got: pl.DataFrame, turnover: pl.DataFrame, days: list[date]) -> None:
    for day in days:
        for row in got.filter(pl.col("date") == day).iter_rows(named=True):
            expected = by_hand(turnover, row["code"], day)
            assert row[FLAG] == int(expected is not None)
            for f in FEATURES:
                if expected and f.name in expected:
                    assert row[f.name] == pytest.approx(expected[f.name], rel=1e-4, abs=1e-5), (day, f.name)
                else:
                    assert row[f.name] is None, (day, f.name, row[f.name])


def test_every_column_against_sums_by_hand():
    against_hand(GOT, TURNOVER, [*DAYS[:8], *DAYS[30:160:9]])
    assert_as_declared(GOT, (*FEATURES, *VALIDITY))


@settings(max_examples=8, deadline=None)
@given(seed=st.integers(0, 1000), place=st.integers(45, 150))
def test_rows_that_come_late_against_the_same_sums(seed, place):
    rng = np.random.default_rng(seed)
    instants = [
        at(shift_trading_days(d, int(rng.integers(1, 4))), 18)
        if rng.random() < 0.05
        else at(d, 18, int(rng.choice([0, 45], p=[0.9, 0.1])))
        for d in TURNOVER["date"]
    ]
    turnover = with_instants(TURNOVER.drop("available_at"), instants)
    day = DAYS[place]
    against_hand(breakdown_features(turnover, ROWS.filter(pl.col("date") == day)), turnover, [day])


@settings(max_examples=6, deadline=None)
@given(seed=st.integers(0, 1000), place=st.integers(10, 150))
def test_what_is_not_out_changes_nothing(seed, place):
    assert_no_future(make, {"turnover": TURNOVER, "rows": ROWS}, DAYS[place], seed)


def test_a_name_without_a_trade_has_no_value_that_day():
    untraded = QUOTES.filter(pl.col("Vo").is_null()).select("date", "code")
    rows = untraded.join(GOT, on=["date", "code"])
    assert rows.height > 10 and rows[FLAG].sum() == 0 and rows["bd_short_share"].null_count() == rows.height


def test_codes_that_are_no_names_are_in_no_row():
    phantom = pl.concat(
        [TURNOVER, TURNOVER.filter(pl.col("code") == "13010").with_columns(pl.lit("20000").alias("code"))]
    )
    got = breakdown_features(phantom, ROWS)
    assert got.equals(GOT) and "20000" not in got["code"].to_list()


def test_a_split_changes_nothing():
    """Volumes are unadjusted; every column holds amounts of one day against each other."""
    volumes = ("LongSellVo", "ShrtNoMrgnVo", "MrgnSellNewVo")
    doubled = TURNOVER.with_columns(
        pl.when(pl.col("date") >= DAYS[70]).then(pl.col(c) * 2).otherwise(c).alias(c) for c in volumes
    )
    assert differing(GOT, breakdown_features(doubled, ROWS)) == []


def test_a_side_without_orders_divides_by_nothing():
    none = TURNOVER.with_columns(
        pl.lit(0.0).alias(c) for c in ("ShrtNoMrgnVa", "MrgnSellNewVa", "ShrtNoMrgnVo", "MrgnSellNewVo")
    )
    got = breakdown_features(none, ROWS)
    assert got["bd_short_price_gap"].null_count() == got.height and set(got["bd_short_share"].drop_nulls()) == {0.0}
    assert got["bd_short_share_z60"].null_count() == got.height  # nothing moves
    empty = TURNOVER.with_columns(pl.lit(0.0).alias(c) for c in TURNOVER.columns if c.endswith(("Va", "Vo")))
    assert all(breakdown_features(empty, ROWS)[f.name].null_count() == ROWS.height for f in FEATURES)


def test_a_month_alone_equals_the_month_within_a_longer_history():
    month = date(2019, 8, 1)
    rows = ROWS.filter(pl.col("date") >= month)
    alone = breakdown_features(TURNOVER.filter(pl.col("date") >= date(2019, 4, 1)), rows)
    assert rows.height and differing(breakdown_features(TURNOVER, rows), alone) == []


def test_nothing_known_nothing_said():
    got = breakdown_features(TURNOVER.clear(), ROWS)
    assert got[FLAG].sum() == 0 and all(got[f.name].null_count() == got.height for f in FEATURES)
