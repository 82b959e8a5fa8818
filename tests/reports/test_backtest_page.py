"""The page of a back-test: every section in order, years that are right, yardsticks that do not mislead."""

import re
from dataclasses import replace
from datetime import date
from math import inf, nan

import matplotlib.axes
import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from atft_assets.reports import backtest_page as page
from atft_assets.reports import backtest_pictures as drawn
from atft_assets.reports.backtest import Backtest, Luck, NoYardstick
from atft_assets.trading.performance import by_month
from tests.reports.made_backtest import CAPITAL, equity_of, trips_of, whole
from tests.reports.page import checked

SECTIONS = ["figures", "value", "drawdown", "ahead", "months", "costs", "rules", "capacity", "bets", "luck", "trips"]


@pytest.fixture(scope="module")
def full() -> Backtest:
    return whole()


@pytest.fixture(scope="module")
def text(full: Backtest) -> str:
    return page.render(full)


def test_every_section_is_there_in_the_order_of_questions(text: str) -> None:
    plain = checked(text)
    assert re.findall(r'<h2 id="([a-z]+)">', plain) == SECTIONS
    assert plain.count("<img") == 13


def test_the_figures_are_those_that_were_given(full: Backtest, text: str) -> None:
    plain = checked(text)
    assert f"{full.figures.cagr:+.1%}" in plain and f"{full.figures.sharpe:.2f}" in plain
    assert "deflated by 42 trials it is above chance with a probability of 81%" in plain
    assert "+5.0% a year beyond the equal-weight universe, a lead that is told from zero" in plain
    for said in ("walk_forward, 5 folds", "31 bp a traded yen", "688 are needed", "low volatility", "2020-03-16",
                 "not yet", "limit up on 2019-02-01", "+300,000", "-250,000", "¥3bn", "3 ×", "volume cap"):  # fmt: skip
        assert said in plain, said
    assert f"One yen became {full.equity['nav'][-1] / CAPITAL:.2f}" in plain


def test_the_page_is_the_same_twice(full: Backtest, text: str) -> None:
    assert page.render(full) == text


# -- years (quantstats draws its bars one label off) -------------------------------------------------------------------


def by_hand(equity: pl.DataFrame, column: str = "ret") -> dict[int, float]:
    found: dict[int, float] = {}
    for day, value in equity.select("date", column).iter_rows():
        found[day.year] = (1 + found.get(day.year, 0.0)) * (1 + value) - 1
    return found


def test_year_bars_carry_the_right_years(full: Backtest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each bar stands above the label of its own year, and is as high as that year's compounded return."""
    bars: list[tuple[float, float, str]] = []
    ticks: list[tuple[list[float], list[str]]] = []
    bar, set_xticks = matplotlib.axes.Axes.bar, matplotlib.axes.Axes.set_xticks

    def seen_bar(self, x, height, **more):
        bars.extend((float(a), float(b), more["label"]) for a, b in zip(x, height, strict=True))
        return bar(self, x, height, **more)

    def seen_ticks(self, places, labels):
        ticks.append((list(places), list(labels)))
        return set_xticks(self, places, labels)

    monkeypatch.setattr(matplotlib.axes.Axes, "bar", seen_bar)
    monkeypatch.setattr(matplotlib.axes.Axes, "set_xticks", seen_ticks)
    drawn.years(full)
    ((places, labels),) = ticks
    counts = full.equity["date"].dt.year().value_counts(sort=False)
    assert labels == [f"{year}\n{days} days" for year, days in sorted(counts.iter_rows())]
    columns = {"phase3, net": "ret", "universe": "bench_equal", "TOPIX": "bench_topix"}
    assert len(bars) == 15
    for x, height, label in bars:
        year = int(labels[round(x)].partition("\n")[0])
        assert abs(x - places[round(x)]) < 0.5
        assert height == pytest.approx(100 * by_hand(full.equity, columns[label])[year])


def test_the_table_of_months_by_hand(full: Backtest, text: str) -> None:
    lines = text.partition('id="months"')[2].partition('id="costs"')[0]
    march = full.equity.filter((pl.col("date") >= date(2019, 3, 1)) & (pl.col("date") <= date(2019, 3, 31)))
    row = next(line for line in lines.splitlines() if line.startswith("<tr><td>2019<"))
    cells = re.findall(r"<td>([^<]*)</td>", row)
    assert cells[3] == f"{100 * (np.prod(1 + march['ret'].to_numpy()) - 1):+.1f}"
    assert cells[13] == f"{100 * by_hand(full.equity)[2019]:+.1f}"
    assert cells[14] == f"{100 * by_hand(full.equity, 'bench_equal')[2019]:+.1f}"


def test_a_record_that_begins_in_december_has_two_years() -> None:
    equity = equity_of(date(2019, 12, 16), date(2020, 1, 31))
    assert drawn.yearly(by_month(equity["date"].to_list(), equity["ret"])) == pytest.approx(by_hand(equity))
    plain = checked(page.render(whole(equity)))
    assert "<tr><td>2019</td><td></td>" in plain and "too short for a beta" in plain


# -- yardsticks --------------------------------------------------------------------------------------------------------


def test_an_equal_weight_book_beside_a_weighted_index_alone_is_refused(full: Backtest) -> None:
    for nothing in (None, nan):
        equity = equity_of().with_columns(pl.lit(nothing, pl.Float64).alias("bench_equal"))
        with pytest.raises(NoYardstick, match="equal-weight eligible universe"):
            replace(full, equity=equity)


def test_topix_of_another_return_type_is_refused(full: Backtest) -> None:
    with pytest.raises(NoYardstick, match=r"credits dividends.*bench_topix_tr"):
        replace(full, total_return=True)
    only_total = equity_of().with_columns(
        pl.col("bench_topix").alias("bench_topix_tr"), pl.lit(None, pl.Float64).alias("bench_topix")
    )
    with pytest.raises(NoYardstick, match="has no dividends in it"):
        replace(full, equity=only_total)
    plain = checked(page.render(replace(full, total_return=True, topix=None)))
    assert "TOPIX of the same return type (bench_topix_tr) is not known" in plain
    assert "Returns hold dividends." in plain


def test_a_ledger_without_a_day_is_refused(full: Backtest) -> None:
    with pytest.raises(NoYardstick, match="no day"):
        replace(full, equity=full.equity.clear())


@given(st.integers(0, 40), st.integers(1, 12))
def test_no_trip_is_both_best_and_worst(trips: int, count: int) -> None:
    best, worst = page.extremes(trips_of(trips), count)
    assert not set(best["code"]) & set(worst["code"])
    assert (best.height, worst.height) == (min(count, -(-trips // 2)), min(count, trips // 2))
    if best.height and worst.height:
        assert best["profit"].min() >= worst["profit"].max()
        assert best["profit"].is_sorted(descending=True) and worst["profit"].is_sorted()


# -- what could not be had ---------------------------------------------------------------------------------------------


def test_what_is_missing_is_said_and_not_drawn() -> None:
    empty = pl.DataFrame()
    unknown = Luck(nan, nan, nan, nan, nan, nan, 1, nan, nan, nan, 10, inf, nan)
    bare = whole(
        topix=None, others=[], others_nav={}, drawdowns=[], at_costs=[], at_capital=[], sectors=empty, exposures=empty,
        trips=empty, facts={}, luck=unknown, orders=0,
        unfilled=whole().unfilled.clear(), betas={},
    )  # fmt: skip
    plain = checked(page.render(replace(bare, figures=replace(bare.figures, sharpe_low=nan, sharpe_high=nan))))
    for said in ("never fell below its start", "not run again at other costs", "not run again with other capital",
                 "Sector weights are not known", "no round trip yet", "Every order was filled", "No other portfolio",
                 "no number of days", "one rule alone was run", "whose interval is not known"):  # fmt: skip
        assert said in plain, said
    assert plain.count("<img") == 7


@pytest.mark.parametrize("days", [1, 2, 25])
def test_a_short_record_has_a_page(days: int) -> None:
    checked(page.render(whole(equity_of().head(days), exposures=pl.DataFrame())))


def test_amounts_in_few_letters() -> None:
    amounts = {
        10e6: "¥10m",
        1e9: "¥1bn",
        2.5e6: "¥2.5m",
        300e6: "¥300m",
        900.0: "¥900",
        55e3: "¥55k",
        1.234e9: "¥1.2bn",
    }
    assert {amount: drawn.yen(amount) for amount in amounts} == amounts


def test_the_ui_has_every_picture(full: Backtest) -> None:
    assert list(drawn.pictures(full)) == [
        "value", "drawdown", "ahead", "years", "costs", "at_costs", "workings", "unfilled", "capacity", "betas",
        "exposures", "sectors", "sharpes",
    ]  # fmt: skip
