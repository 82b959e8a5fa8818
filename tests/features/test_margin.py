"""Weekly margin against a search through all balances; one definition over the change to daily balances."""

from datetime import date, timedelta

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from atft_assets.calendar import decision_instant, is_trading_day, shift_trading_days, trading_days
from atft_assets.features.margin import FEATURES, FLAG, STALE, TABLE, VALIDITY, balance_weeks, margin_features
from tests.features.events_proof import assert_as_declared, assert_no_future, differing
from tests.features.synthetic import raw_quotes
from tests.features.synthetic_records import at, margin_interest, week_ends, with_instants

NAMES = 3
FIRST, LAST = date(2019, 1, 4), date(2020, 4, 30)
QUOTES = raw_quotes(NAMES, 330, seed=4, untraded=0.03, splits=True)
BALANCES = margin_interest(NAMES, FIRST, LAST, seed=1, lacking=0.03)
ROWS = QUOTES.select("date", "code")


def tables(balances: pl.DataFrame = BALANCES, quotes: pl.DataFrame = QUOTES) -> dict[str, pl.DataFrame]:
    return {"balances": balances, "quotes": quotes, "rows": quotes.select("date", "code")}


def make(t) -> pl.DataFrame:
    return margin_features(t["balances"], t["quotes"], t["rows"])


GOT = make(tables())


def weeks_apart(early: date, late: date) -> int:
    """Published weeks between two week ends."""
    ends = week_ends(date(2018, 12, 3), LAST)
    return ends.index(late) - ends.index(early)


def factor_between(quotes: pl.DataFrame, code: str, early: date, late: date) -> float:
    """Shares of `late` for one share of `early`."""
    rows = quotes.filter((pl.col("code") == code) & (pl.col("date") > early) & (pl.col("date") <= late))
    return float(np.prod(1 / rows["AdjFactor"].to_numpy()))


def by_hand(balances: pl.DataFrame, quotes: pl.DataFrame, code: str, evening: date) -> dict[str, float] | None:
    """The columns of one evening, from the balances that it knew."""
    known = {
        row["date"]: row
        for row in balances.filter((pl.col("code") == code) & (pl.col("available_at") <= decision_instant(evening)))
        .sort("date")
        .iter_rows(named=True)
    }
    if not known:
        return None
    newest = max(known)
    first_evening = known[newest]["available_at"].date()
    age = len(trading_days(first_evening, evening)) - 1
    if age > STALE:
        return None

    def shares(day: date, side: str) -> float:  # in shares of the newest balance's day
        return known[day][side] * factor_between(quotes, code, day, newest)

    lately = [d for d in known if weeks_apart(d, newest) < 52]
    before = {n: next((d for d in known if weeks_apart(d, newest) == n), None) for n in (1, 2, 3, 4)}
    long, short = known[newest]["LongVol"], known[newest]["ShrtVol"]
    imbalance = {
        d: (known[d]["LongVol"] - known[d]["ShrtVol"]) / (known[d]["LongVol"] + known[d]["ShrtVol"]) for d in known
    }
    found = {
        "margin_imbalance": imbalance[newest],
        "margin_credit_ratio": np.log((long + 1) / (short + 1)),
        "margin_std_share_long": known[newest]["LongStdVol"] / long,
        "margin_std_share_short": known[newest]["ShrtStdVol"] / short,
        "margin_is_borrowable": float(known[newest]["IssType"] == "2"),
        "margin_days_since": age,
        "margin_impulse": float(age == 0),
    }
    for name, side in (("long", "LongVol"), ("short", "ShrtVol")):
        for steps, label in ((1, "wow"), (4, "4w")):
            if (day := before[steps]) is not None:
                found[f"margin_d_{name}_{label}"] = np.log((known[newest][side] + 1) / (shares(day, side) + 1))
    if before[1] is not None:
        found["margin_d_imbalance_wow"] = imbalance[newest] - imbalance[before[1]]
    gross = {d: shares(d, "LongVol") + shares(d, "ShrtVol") for d in lately}
    month = [gross[d] for d in lately if weeks_apart(d, newest) < 4]
    if len(month) >= 3:
        found["margin_gross_mom4"] = np.log(gross[newest] / np.mean(month))
    series = {
        "long": [shares(d, "LongVol") for d in lately],
        "short": [shares(d, "ShrtVol") for d in lately],
        "gross": list(gross.values()),
        "imbalance": [imbalance[d] for d in lately],
    }
    for name, values in series.items():
        if len(values) >= 26:
            found[f"margin_{name}_z52"] = (values[-1] - np.mean(values)) / np.std(values, ddof=1)
    traded = quotes.filter((pl.col("code") == code) & (pl.col("date") <= evening)).sort("date").tail(20)
    if traded.height == 20:
        volumes = [
            (v or 0.0) / factor_between(quotes, code, newest, d)
            if d >= newest
            else (v or 0.0) * factor_between(quotes, code, d, newest)
            for d, v in traded.select("date", "Vo").iter_rows()
        ]
        adv = np.mean(volumes)
        found |= {
            "margin_long_to_adv20": long / adv,
            "margin_short_to_adv20": short / adv,
            "margin_net_to_adv20": (long - short) / adv,
        }
        if before[1] is not None:
            found["margin_d_long_to_adv20"] = (long - shares(before[1], "LongVol")) / (5 * adv)
            found["margin_d_short_to_adv20"] = (short - shares(before[1], "ShrtVol")) / (5 * adv)
    return found


def against_hand(got: pl.DataFrame, balances: pl.DataFrame, quotes: pl.DataFrame, days: list[date]) -> None:
    for day in days:
        for row in got.filter(pl.col("date") == day).iter_rows(named=True):
            expected = by_hand(balances, quotes, row["code"], day)
            assert row[FLAG] == int(expected is not None), (day, row["code"])
            for f in FEATURES:
                if expected is None or f.name not in expected:
                    assert row[f.name] is None, (day, row["code"], f.name, row[f.name])
                else:
                    assert row[f.name] == pytest.approx(expected[f.name], rel=2e-4, abs=2e-5), (
                        day,
                        row["code"],
                        f.name,
                    )


def test_every_column_against_a_search_through_all_balances():
    days = ROWS["date"].unique().sort().to_list()
    against_hand(GOT, BALANCES, QUOTES, [*days[:9], *days[40:220:40], *days[290:326:12]])
    assert_as_declared(GOT, (*FEATURES, *VALIDITY))


@settings(max_examples=6, deadline=None)
@given(seed=st.integers(0, 1000), place=st.integers(25, 320), lacking=st.sampled_from([0.0, 0.1, 0.4]))
def test_random_markets_against_the_same_search(seed, place, lacking):
    quotes = raw_quotes(2, 330, seed=seed, untraded=0.1, splits=True)
    balances = margin_interest(2, FIRST, LAST, seed=seed, lacking=lacking)
    days = quotes["date"].unique().sort().to_list()[place : place + 2]
    rows = quotes.select("date", "code").filter(pl.col("date").is_in(days))
    against_hand(margin_features(balances, quotes, rows), balances, quotes, days)


@settings(max_examples=8, deadline=None)
@given(seed=st.integers(0, 1000), place=st.integers(10, 320))
def test_what_is_not_out_changes_nothing(seed, place):
    assert_no_future(make, tables(), ROWS["date"].unique().sort()[place], seed)


def test_a_balance_enters_on_the_second_business_day_of_the_next_week():
    friday = date(2019, 5, 17)
    balances = BALANCES.filter(pl.col("date") <= friday)
    name = balances.filter(pl.col("date") == friday)["code"][0]
    row = make(tables(balances)).filter((pl.col("code") == name) & (pl.col("margin_impulse") == 1)).sort("date")
    assert row["date"].to_list()[-1] == date(2019, 5, 21)
    # Golden Week of 2019: the week of 26 April is out on 8 May, ten closed days later
    golden = make(tables(BALANCES.filter(pl.col("date") == date(2019, 4, 26)))).filter(pl.col("code") == "13010")
    assert golden.filter(pl.col(FLAG) == 1)["date"].min() == date(2019, 5, 8)


def test_no_balance_no_value_and_old_ones_end():
    cut = BALANCES.filter(pl.col("date") <= date(2019, 6, 7))
    got = make(tables(cut)).filter(pl.col("code") == "13010").sort("date")
    out = date(2019, 6, 11)
    assert got.filter(pl.col(FLAG) == 1)["date"].max() == shift_trading_days(out, STALE)
    values = got.filter(pl.col("date") > shift_trading_days(out, STALE)).drop("date", "code", FLAG)
    assert all(values[c].null_count() == values.height for c in values.columns)
    assert make(tables(BALANCES.clear()))[FLAG].sum() == 0


def test_one_definition_over_the_change_to_daily_balances():
    """The same balances published weekly, and daily with further days between: the same columns, a day earlier."""
    first, change, last = date(2026, 3, 2), date(2026, 9, 25), date(2026, 11, 20)
    ends = week_ends(first, last)
    assert {date(2026, 9, 18), date(2026, 10, 2)} <= set(ends)  # the week of 25 September has two sessions
    daily = margin_interest(2, first, last, seed=5)
    quotes = raw_quotes(2, 1, seed=5).clear()
    days = trading_days(first, last)
    rows = pl.DataFrame({"date": days}).join(pl.DataFrame({"code": ["13010", "13020"]}), how="cross")
    assert daily.filter(pl.col("date") >= change)["date"].n_unique() > 35 and daily["PubDate"].drop_nulls().len()
    closes = daily.filter(pl.col("date").is_in(ends)).drop("PubDate")
    weekly = with_instants(closes, [at(shift_trading_days(d, 2), 16, 30) for d in closes["date"]])
    one, other = margin_features(daily, quotes, rows), margin_features(weekly, quotes, rows)
    same = [f.name for f in FEATURES if "adv20" not in f.name and f.name not in ("margin_impulse", "margin_days_since")]
    published = [shift_trading_days(d, 2) for d in ends]
    on = pl.col("date").is_in(published)
    assert differing(one.filter(on).select("date", "code", *same), other.filter(on).select("date", "code", *same)) == []
    monday = one.filter((pl.col("date") == date(2026, 10, 5)) & (pl.col("code") == "13010"))
    assert monday["margin_days_since"].to_list() == [0.0]  # Friday's daily balance is out on Monday
    # a balance of a Wednesday is no balance of a week, whichever day it is read on
    spoiled = daily.with_columns(
        pl.when(pl.col("date").is_in(ends)).then("LongVol").otherwise(pl.col("LongVol") * 9).alias("LongVol")
    )
    assert margin_features(spoiled, quotes, rows).equals(one)
    wednesday = daily.filter(pl.col("available_at") <= decision_instant(date(2026, 10, 14)))
    early = rows.filter(pl.col("date") <= date(2026, 10, 14))
    assert differing(margin_features(wednesday, quotes, early), one.filter(pl.col("date") <= date(2026, 10, 14))) == []


def test_weeks_of_two_sessions_have_no_balance_in_either_edition():
    ends = balance_weeks(pl.Series("date", [date(2023, 7, 28), date(2026, 6, 5)]))["date"].to_list()
    for thursday in (date(2023, 8, 10), date(2023, 11, 2), date(2024, 5, 2), date(2026, 3, 19)):
        assert thursday in ends and not is_trading_day(thursday + timedelta(days=1))
    for short in (date(2024, 1, 5), date(2025, 1, 3), date(2026, 1, 2), date(2026, 5, 8)):
        assert short not in ends
    assert [day for day in ends if day >= date(2023, 7, 28)] == week_ends(date(2023, 7, 28), date(2026, 6, 5))


def test_a_split_is_no_change_of_positions():
    """Balances doubled by a split of 1 into 2 (and volumes with them) are the same balances."""
    quotes = raw_quotes(1, 330, seed=9)
    balances = margin_interest(1, FIRST, LAST, seed=2)
    ex = date(2019, 9, 18)
    after, columns = pl.col("date") >= ex, ("LongVol", "ShrtVol", "LongStdVol", "ShrtStdVol")
    split = quotes.with_columns(
        pl.when(after).then(pl.col("Vo") * 2).otherwise("Vo").alias("Vo"),
        pl.when(pl.col("date") == ex).then(0.5).otherwise("AdjFactor").alias("AdjFactor"),
    )
    doubled = balances.with_columns(pl.when(after).then(pl.col(c) * 2).otherwise(c).alias(c) for c in columns)
    rows = quotes.select("date", "code")
    one, two = margin_features(balances, quotes, rows), margin_features(doubled, split, rows)
    assert differing(one, two) == []
    naive = margin_features(doubled, quotes, rows)  # a factor that nobody undoes is seen
    assert "margin_d_long_wow" in differing(one, naive)


def test_a_month_alone_equals_the_month_within_a_longer_history():
    quotes = raw_quotes(2, 560, seed=3, untraded=0.1, splits=True)
    balances = margin_interest(2, FIRST, date(2021, 4, 30), seed=7, lacking=0.2)
    rows = quotes.select("date", "code").filter(pl.col("date") >= date(2021, 3, 1))
    since = date(2019, 12, 1)  # fifteen months earlier
    alone = margin_features(balances.filter(pl.col("date") >= since), quotes.filter(pl.col("date") >= since), rows)
    assert differing(margin_features(balances, quotes, rows), alone) == []


def test_positions_of_nobody():
    """Seventy rows a week are all zero."""
    zero = BALANCES.with_columns(pl.lit(0.0).alias(c) for c in ("LongVol", "ShrtVol", "LongStdVol", "ShrtStdVol"))
    got = make(tables(zero))
    assert got[FLAG].sum() > 0
    assert got["margin_imbalance"].null_count() == got.height and got["margin_long_z52"].null_count() == got.height
    assert set(got["margin_d_long_wow"].drop_nulls()) == {0.0}


def test_who_holds_nothing_any_more_has_no_logarithm():
    gone = pl.col("date") >= BALANCES["date"].unique().sort()[-3]
    zero = BALANCES.with_columns(
        pl.when(gone).then(0.0).otherwise(pl.col(c)).alias(c)
        for c in ("LongVol", "ShrtVol", "LongStdVol", "ShrtStdVol")
    )
    before, got = make(tables())["margin_gross_mom4"], make(tables(zero))["margin_gross_mom4"]
    assert got.null_count() > before.null_count() and not got.is_infinite().any()


def test_the_row_of_the_registry():
    assert TABLE.plan == "standard" and len([f for f in FEATURES if f.model_input]) == 19
    assert all(f.among == FLAG for f in FEATURES) and not any(f.core or f.sequence for f in FEATURES)
