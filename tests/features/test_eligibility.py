"""Age, trading and liquidity rank against counts and medians by hand, and never from the future."""

from datetime import date, datetime, timedelta

import numpy as np
import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from atft_assets.calendar import TOKYO, decision_instant, previous_trading_day, trading_days
from atft_assets.features.eligibility import liquidity_ranks
from atft_assets.features.universe import CONTRACT, universe

FIRST, LAST = date(2019, 1, 4), date(2021, 3, 31)
DAYS = trading_days(FIRST, LAST)
NAMES = 12
CODES = [f"{1301 + i}0" for i in range(NAMES)]


def market(seed: int) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Quotes with listings, delistings and untraded days; weekly snapshots of the master, names coming and going."""
    rng = np.random.default_rng(seed)
    listed_from = rng.integers(0, 2, NAMES) * rng.integers(0, 400, NAMES)
    listed_until = len(DAYS) - rng.integers(0, 2, NAMES) * rng.integers(0, 300, NAMES)
    rows, shots = [], []
    size = np.exp(rng.normal(10, 2, NAMES)).round()
    for t, day in enumerate(DAYS):
        week = previous_trading_day(day).isocalendar()[:2] != day.isocalendar()[:2]
        eve = previous_trading_day(day)
        known = datetime(eve.year, eve.month, eve.day, 17, 30, tzinfo=TOKYO)
        for n, code in enumerate(CODES):
            if not listed_from[n] <= t < listed_until[n]:
                continue
            traded = rng.random() > (0.55 if n == 3 else 0.1)
            value = float(size[n] * (1 + t // 200 * (n % 3)) + rng.integers(0, 3))
            rows.append((day, code, 100.0 if traded else None, value if traded else None))
            if week or t == 0:
                market_code = "0109" if n == 5 and day.year == 2019 else "0111"
                shots.append((day, code, "0050", "1", market_code, "-", known))
    quotes = pl.DataFrame(
        rows, schema={"date": pl.Date, "code": pl.String, "C": pl.Float64, "Va": pl.Float64}, orient="row"
    )
    schema = {
        **{"date": pl.Date, "code": pl.String, "S33": pl.String, "S17": pl.String, "Mkt": pl.String},
        **{"ScaleCat": pl.String, "available_at": pl.Datetime("us", "Asia/Tokyo")},
    }
    return quotes, pl.DataFrame(shots, schema=schema, orient="row")


def oracle_rank(quotes: pl.DataFrame, listed: pl.DataFrame, year: int) -> dict[str, int]:
    """Ranks from plain lists: the middle of all sessions of the year before, absent days as zeros."""
    sessions = trading_days(date(year - 1, 1, 1), date(year - 1, 12, 31))
    evening = decision_instant(sessions[-1])
    known = [row for row in listed.iter_rows(named=True) if row["available_at"] <= evening]
    newest = max(row["date"] for row in known)
    names = [row["code"] for row in known if row["date"] == newest and row["Mkt"] == "0111"]
    values = {(d, c): v or 0.0 for d, c, v in quotes.select("date", "code", "Va").iter_rows()}
    median = {c: sorted(values.get((d, c), 0.0) for d in sessions)[(len(sessions) - 1) // 2] for c in names}
    return {c: i + 1 for i, c in enumerate(sorted(names, key=lambda c: (-median[c], c)))}


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_ranks_ages_and_trading_by_hand(seed: int) -> None:
    quotes, listed = market(seed)
    got = universe(quotes, listed)
    assert got.select("age", "traded", "turnover_mean_60", "liquidity_rank").schema == {
        "age": pl.Int32, "traded": pl.Boolean, "turnover_mean_60": pl.Float64, "liquidity_rank": pl.UInt32,
    }  # fmt: skip
    ranks = {year: oracle_rank(quotes, listed, year) for year in (2020, 2021)}
    by_name: dict[str, list[date]] = {}
    closes = {(d, c): x for d, c, x in quotes.select("date", "code", "C").iter_rows()}
    for d, c in got.select("date", "code").iter_rows():  # members only: a bar before the master knows a name is no age
        by_name.setdefault(c, []).append(d)
    bars: dict[str, list[tuple[date, float]]] = {}
    for d, c, v in quotes.select("date", "code", "Va").iter_rows():
        bars.setdefault(c, []).append((d, v or 0.0))
    for row in got.iter_rows(named=True):
        day, code = row["date"], row["code"]
        values = [v for d, v in bars[code] if d <= day]
        assert row["turnover_mean_60"] == (pytest.approx(sum(values[-60:]) / 60) if len(values) >= 60 else None)
        month = day.year * 12 + day.month - 1 - 13
        since = date(month // 12, month % 12 + 1, 1)
        assert row["age"] == sum(since <= d <= day for d in by_name[code])
        assert row["traded"] == (closes[day, code] is not None)
        assert row["liquidity_rank"] == ranks.get(day.year, {}).get(code)
    assert got.filter(pl.col("date").dt.year() == 2019)["liquidity_rank"].null_count() == (
        got.filter(pl.col("date").dt.year() == 2019).height
    )
    assert CONTRACT.audit(got, "2021-03").passed


def test_the_median_asks_for_half_a_year_of_trading_and_ties_are_ordered_by_code() -> None:
    sessions = trading_days(date(2020, 1, 1), date(2020, 12, 31))
    half = len(sessions) // 2 + 1
    bars = [
        *((day, "20000", 1e12) for day in sessions[: half - 1]),  # much, on one day too few
        *((day, "30000", 1.0) for day in sessions[:half]),  # hardly anything, on just enough
        *((day, "10000", None) for day in sessions),
        *((date(2021, 1, 4), "10000", 1e15) for _ in range(1)),  # not of the year
    ]
    quotes = pl.DataFrame(bars, schema={"date": pl.Date, "code": pl.String, "Va": pl.Float64}, orient="row")
    listed = pl.DataFrame({"code": ["30000", "20000", "10000", "05000"]})
    got = liquidity_ranks(quotes, listed, 2021)
    assert got.rows() == [("30000", 1), ("05000", 2), ("10000", 3), ("20000", 4)]


def test_a_year_that_is_not_wholly_in_the_data_ranks_nobody() -> None:
    quotes, listed = market(0)
    late = quotes.filter(pl.col("date") >= date(2020, 2, 3))
    assert universe(late, listed)["liquidity_rank"].null_count() == universe(late, listed).height
    assert universe(late, listed, first="2020-01")["liquidity_rank"].null_count() < universe(late, listed).height


few = settings(max_examples=6, deadline=None, suppress_health_check=list(HealthCheck))


@few
@given(seed=st.integers(0, 100), place=st.integers(5, len(DAYS) - 2))
def test_a_row_knows_nothing_of_later_records(seed: int, place: int) -> None:
    quotes, listed = market(seed)
    day = DAYS[place]
    whole = universe(quotes, listed).filter(pl.col("date") <= day)
    known = listed.filter(pl.col("available_at") <= decision_instant(day))
    assert universe(quotes.filter(pl.col("date") <= day), known).equals(whole)
    later = pl.col("date") > day
    spoiled = quotes.with_columns(pl.when(later).then(pl.col("Va") * 7 + 1).otherwise("Va").alias("Va")).filter(
        ~later | (pl.col("code") != CODES[0])
    )
    wrong = listed.with_columns(
        pl.when(pl.col("available_at") > decision_instant(day)).then(pl.lit("0109")).otherwise("Mkt").alias("Mkt")
    )
    assert universe(spoiled, wrong).filter(pl.col("date") <= day).equals(whole)


@pytest.mark.parametrize("key", ["2020-01", "2020-12", "2021-02"])
def test_a_month_alone_equals_the_month_within_the_whole_history(key: str) -> None:
    """The declared look-backs of 23 and 14 months suffice, and nothing older counts."""
    quotes, listed = market(4)
    whole = universe(quotes, listed).filter(pl.col("date").dt.strftime("%Y-%m") == key)
    since = date.fromisoformat(f"{key}-01")

    def back(frame: pl.DataFrame, months: int) -> pl.DataFrame:
        month = since.year * 12 + since.month - 1 - months
        first = date(month // 12, month % 12 + 1, 1)
        end = (since + timedelta(days=32)).replace(day=1)
        return frame.filter((pl.col("date") >= first) & (pl.col("date") < end))

    alone = universe(back(quotes, 23), back(listed, 14), since=since, first="2019-01")
    assert alone.equals(whole)


def test_sixty_rows_that_reach_beyond_the_look_back_are_none() -> None:
    """A name with few bars: what a month alone cannot know, the month within the whole history does not tell either."""
    quotes, listed = market(5)
    (whole,) = [code for code in CODES if quotes.filter(pl.col("code") == code).height == len(DAYS)][:1]
    got = universe(quotes.filter((pl.col("code") != whole) | (pl.col("date").dt.day() <= 5)), listed)
    got = got.filter(pl.col("code") == whole)
    assert got.height > 60 and got["turnover_mean_60"].null_count() == got.height


def test_what_the_columns_are_computed_from_and_nothing_else() -> None:
    quotes, listed = market(1)
    before = universe(quotes, listed)

    def changed(after: pl.DataFrame) -> list[str]:
        return [c for c in before.columns if not before[c].equals(after[c])]

    by_value = ["turnover_mean_60", "liquidity_rank"]
    assert changed(universe(quotes.with_columns(pl.col("Va").reverse()), listed)) == by_value
    assert changed(universe(quotes.with_columns(pl.lit(1.0).alias("C")), listed)) == ["traded"]
