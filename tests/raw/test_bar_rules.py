"""Wrong bars, planted one kind at a time in a clean random market: each breaks the contract, and clean markets pass."""

from datetime import date

import polars as pl
import pytest

from atft_assets.calendar import SYSTEM_HALTS
from atft_assets.raw.beside import Beside
from atft_assets.raw.daily_quotes import MASTER, TRADED, rules
from tests.features.synthetic import raw_quotes

CLEAN = raw_quotes(60, 25, seed=11, untraded=0.03, splits=False)
DAYS = CLEAN["date"].unique().sort().to_list()
BEFORE, MONTH = CLEAN.filter(pl.col("date") == DAYS[0]), CLEAN.filter(pl.col("date") > DAYS[0])
DAY, CODES = DAYS[12], CLEAN["code"].unique().sort().to_list()
SNAPSHOTS = pl.concat(pl.DataFrame({"date": [day] * 60, "code": CODES}) for day in (DAYS[0], DAYS[8], DAYS[16]))
ON_DAY = pl.col("date") == DAY
PRICES = ("O", "H", "L", "C")


def found(month: pl.DataFrame, before: pl.DataFrame | None = BEFORE, master: pl.DataFrame | None = SNAPSHOTS) -> list:
    """The rules that the month breaks."""
    tables = {} if master is None else {MASTER: master}
    return [rule for _, rule, _, _ in rules(month.sort("date", "code"), Beside(before, tables))]


def where(mask: pl.Expr, month: pl.DataFrame = MONTH, **values: pl.Expr | float | None) -> pl.DataFrame:
    return month.with_columns(
        pl.when(mask).then(value if isinstance(value, pl.Expr) else pl.lit(value)).otherwise(pl.col(name)).alias(name)
        for name, value in values.items()
    )


def yesterday_again() -> pl.DataFrame:
    yesterday = MONTH.filter(pl.col("date") == DAYS[11]).with_columns(pl.lit(DAY).alias("date"))
    return pl.concat([MONTH.filter(~ON_DAY), yesterday])


def shifted_codes() -> pl.DataFrame:
    """The prices lie apart, as those of a real market do; then each name gets the bars of the next."""
    level = pl.col("code").rank("dense").mod(7).add(1)
    apart = MONTH.with_columns(pl.col(c) * level for c in PRICES)
    following = dict(zip(CODES, CODES[1:] + CODES[:1], strict=True))
    moved = apart.filter(ON_DAY).with_columns(pl.col("code").replace_strict(following))
    return pl.concat([apart.filter(~ON_DAY), moved])


PLANTED = {
    "pages lost on one day": (MONTH.filter(~ON_DAY | pl.col("code").is_in(CODES[:36])), "the day before"),
    "pages lost on every day": (MONTH.filter(pl.col("code").is_in(CODES[:36])), "names of the master"),
    "the end of each page lost": (MONTH.filter(~ON_DAY | pl.col("code").is_in(CODES[:42])), "names of the master"),
    "all prices times 1000": (where(ON_DAY, **{c: pl.col(c) * 1000 for c in PRICES}), "median move"),
    "prices null, volume kept": (
        where(ON_DAY & pl.col("code").is_in(CODES[::2]), **dict.fromkeys(PRICES)),
        "null together",
    ),
    "close null for all but one": (where(ON_DAY & (pl.col("code") != CODES[0]), C=None), "null together"),
    "yesterday's bars": (yesterday_again(), "repeat the bar of the day before"),
    "all prices 100": (where(ON_DAY & pl.col("C").is_not_null(), **dict.fromkeys(PRICES, 100.0)), "at one price"),
    "a factor for all": (where(ON_DAY, AdjFactor=0.5), "have an adjustment on one day"),
    "codes shifted by one name": (shifted_codes(), "move by more than a factor of 1.5"),
}


@pytest.mark.parametrize("case", PLANTED)
def test_what_cannot_be_breaks_the_contract(case: str) -> None:
    month, rule = PLANTED[case]
    assert any(rule in one for one in found(month)), found(month)


def test_pages_lost_on_every_day_are_seen_by_the_month_before_as_well() -> None:
    month = PLANTED["pages lost on every day"][0]
    assert ["day before" in one for one in found(month, master=None)] == [True]
    assert found(month, before=None, master=None) == []  # nothing says that there are more names


def test_half_a_master_is_seen_by_the_bars() -> None:
    half = SNAPSHOTS.filter(pl.col("code").is_in(CODES[::2]))
    assert ["the master (listed_info) holds" in one for one in found(MONTH, master=half)] == [True]


@pytest.mark.parametrize("untraded", [0.0, 0.03, 0.2])
@pytest.mark.parametrize("names", [1, 4, 60])
def test_a_clean_market_passes_with_and_without_a_past(names: int, untraded: float) -> None:
    market = raw_quotes(names, 25, seed=names, untraded=untraded, splits=True)
    master = pl.DataFrame({"date": DAYS[:1] * names, "code": market["code"].unique().sort()})
    for before in (None, market.filter(pl.col("date") == DAYS[0])):
        month = market.filter(pl.col("date") > DAYS[0])
        assert [rule for rule in found(month, before, master) if "null for every name" not in rule] == []


def test_names_that_come_and_go_one_by_one_pass() -> None:
    gone = MONTH.filter((pl.col("code") != CODES[3]) | (pl.col("date") < DAY))
    new = gone.filter((pl.col("code") != CODES[9]) | (pl.col("date") > DAYS[5]))
    assert found(new) == []


@pytest.mark.parametrize("halt", [DAY, *SYSTEM_HALTS])
def test_a_day_without_any_trade_breaks_nothing(halt: date) -> None:
    month = MONTH.with_columns(pl.when(ON_DAY).then(pl.lit(halt)).otherwise(pl.col("date")).alias("date"))
    assert found(where(pl.col("date") == halt, month, **dict.fromkeys(TRADED)), master=None) == []


def test_a_fall_of_the_whole_market_by_a_fifth_passes() -> None:
    later = pl.col("date") >= DAY
    assert found(where(later, **{c: pl.col(c) * 0.8 for c in PRICES})) == []
