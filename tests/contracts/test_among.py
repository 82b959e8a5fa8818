"""Columns of events: judged where their flag is 1, from the day on which their source begins."""

from datetime import date

import pandera.polars as pa
import polars as pl

from atft_assets.calendar import trading_days
from atft_assets.contracts import Contract
from atft_assets.contracts.contract import FEWEST_ROWS

SCHEMA = pa.DataFrameSchema(
    {
        "date": pa.Column(pl.Date),
        "code": pa.Column(pl.String),
        "balance": pa.Column(pl.Float32, nullable=True),
        "is_valid": pa.Column(pl.UInt8),
    },
    strict=True,
)
CONTRACT = Contract(
    "events", SCHEMA, coverage={"balance": 0.9}, lookback={"balance": 20, "is_valid": 5}, among={"balance": "is_valid"},
    valid={"is_valid": 0.1}, since={"balance": date(2015, 4, 1), "is_valid": date(2015, 4, 1)},
    constant_ok=frozenset({"date", "code", "is_valid"}),
)  # fmt: skip
DAYS = trading_days(date(2024, 1, 4), date(2024, 1, 31))


def month(valid: int, known: int, first: date = DAYS[0], same: bool = False) -> pl.DataFrame:
    """A hundred names on a day: as many of them on a list, as many of these with a balance."""
    values = [7.0 if same else float(i) if i < known else None for i in range(100)]
    values = [value if i < known else None for i, value in enumerate(values)]
    return pl.DataFrame(
        {
            "date": [first] * 100,
            "code": [f"{1301 + i}0" for i in range(100)],
            "balance": values,
            "is_valid": [int(i < valid) for i in range(100)],
        },
        schema={"date": pl.Date, "code": pl.String, "balance": pl.Float32, "is_valid": pl.UInt8},
    )


def rules(frame: pl.DataFrame, contract: Contract = CONTRACT, history: int | None = None) -> dict[str, str]:
    failures = contract.audit(frame, "2024-01", history).failures
    return dict(failures.select("column", "rule").iter_rows())


def test_few_names_are_enough_if_each_of_them_is_covered():
    assert rules(month(valid=40, known=40)) == {}
    assert rules(month(valid=40, known=37)) == {}
    assert rules(month(valid=40, known=30)) == {"balance": "present in at least 90% of rows (75.0% are)"}
    assert rules(month(valid=40, known=0)) == {"balance": "not null throughout"}
    assert rules(month(valid=40, known=40, same=True)) == {"balance": "not one constant value"}


def test_of_a_handful_nobody_can_say():
    assert rules(month(valid=FEWEST_ROWS - 1, known=0)) == {}
    assert rules(month(valid=FEWEST_ROWS, known=0)) == {"balance": "not null throughout"}


def test_a_join_that_finds_nothing_shows_in_the_flag():
    assert rules(month(valid=5, known=5)) == {"is_valid": "1 in at least 10% of rows (5.0% are)"}
    assert rules(month(valid=0, known=0)) == {"is_valid": "1 in at least 10% of rows (0.0% are)"}
    one_will_do = Contract("events", SCHEMA, among={"balance": "is_valid"}, valid={"is_valid": 0.0},
                           constant_ok=frozenset({"date", "code", "is_valid"}))  # fmt: skip
    assert rules(month(valid=1, known=1), one_will_do) == {}
    assert rules(month(valid=0, known=0), one_will_do) == {"is_valid": "1 in a row at least"}


def test_nothing_is_judged_before_the_source_begins_and_its_look_back_has_passed():
    before, begun, warm = (month(0, 0, first) for first in (date(2014, 7, 1), date(2015, 4, 6), date(2015, 6, 1)))
    assert rules(before) == {} and rules(begun) == {}
    assert rules(warm) == {"is_valid": "1 in at least 10% of rows (0.0% are)"}
    assert rules(month(40, 0, date(2015, 4, 20))) == {}  # thirteen days of a look-back of twenty
    assert rules(month(40, 0), history=19) == {} and "balance" in rules(month(40, 0), history=20)


def test_a_flag_that_is_gone_is_a_missing_column():
    assert rules(month(40, 40).drop("is_valid"))["is_valid"] == "present"
