"""Draws that need no order, days as numbers, cells that are JSON already: the small parts under the records."""

import json
from datetime import date, timedelta

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import kstest, norm

from atft_assets import calendar
from atft_assets.sandbox import MarketConfig, draws, ordinals, simulate, wire

SEEDS = st.integers(0, 2**40)


@settings(max_examples=25, deadline=None)
@given(seed=SEEDS, key=st.lists(st.integers(-(2**40), 2**40), min_size=1, max_size=30), other=st.integers(0, 50))
def test_a_draw_depends_on_its_keys_alone(seed: int, key: list[int], other: int) -> None:
    """Whatever stands beside it in the array, and however the arrays are shaped."""
    keys = np.array(key)
    whole = draws.uniform(seed, "what", keys, other)
    one_by_one = [float(draws.uniform(seed, "what", np.array([k]), np.array(other))[0]) for k in key]
    assert whole.tolist() == one_by_one
    grid = draws.uniform(seed, "what", keys[:, None], np.arange(other, other + 3)[None, :])
    assert grid[:, 0].tolist() == one_by_one
    assert (draws.uniform(seed, "what", keys, other + 1) != whole).all()
    assert (draws.uniform(seed, "else", keys, other) != whole).all()
    assert (draws.uniform(seed + 1, "what", keys, other) != whole).all()


def test_draws_have_their_laws() -> None:
    keys = np.arange(20_000)
    assert kstest(draws.uniform(3, "u", keys), "uniform").pvalue > 1e-3
    assert kstest(draws.normal(3, "n", keys), norm.cdf).pvalue > 1e-3
    counts = np.bincount(draws.pick(3, "p", (1, 2, 1), keys)) / len(keys)
    assert counts == pytest.approx([0.25, 0.5, 0.25], abs=0.015)
    numbers = draws.whole(3, "w", -2, 3, keys)
    assert numbers.min() == -2 and numbers.max() == 3 and np.unique(numbers).size == 6
    neighbours = np.corrcoef(draws.normal(3, "n", keys[:-1]), draws.normal(3, "n", keys[1:]))[0, 1]
    assert abs(neighbours) < 0.03


def test_paths_wander_at_their_scale() -> None:
    who, t = np.arange(300)[:, None], np.arange(2000)[None, :]
    slow, quick = draws.wander(1, "a", who, t, (50,)), draws.wander(1, "b", who, t, (1,))
    for path in (slow, quick):
        assert abs(path.mean()) < 0.05 and path.std() == pytest.approx(1, abs=0.05)
    assert np.corrcoef(slow[:, 0], slow[:, 5])[0, 1] > 0.9 > 0.2 > abs(np.corrcoef(quick[:, 0], quick[:, 5])[0, 1])
    assert abs(np.corrcoef(slow[:, 0], slow[:, 150])[0, 1]) < 0.2


@pytest.mark.parametrize("seed", range(6))
def test_a_turning_path_makes_up_for_itself(seed: int) -> None:
    path = draws.turning(seed, "a", np.arange(1200), (10, 25))
    assert abs(path.mean()) < 0.12 and 0.6 < path.std() < 1.3
    assert (path > 0.3).mean() > 0.25 and (path < -0.3).mean() > 0.25


DAYS = st.dates(date(2008, 5, 7), date(2026, 11, 1))


@settings(max_examples=60, deadline=None)
@given(day=DAYS, n=st.integers(-40, 40))
def test_days_as_numbers_agree_with_the_calendar(day: date, n: int) -> None:
    number = day.toordinal()
    assert bool(ordinals.is_open(number)) is calendar.is_trading_day(day)
    assert ordinals.text(np.array([number]))[0] == day.isoformat()
    if n:
        assert int(ordinals.shift(number, n)) == calendar.shift_trading_days(day, n).toordinal()
    after = calendar.next_trading_day(day - timedelta(days=1))
    assert int(ordinals.on_or_after(number)) == after.toordinal()
    before = calendar.previous_trading_day(day + timedelta(days=1))
    assert int(ordinals.on_or_before(number)) == before.toordinal()
    end = date.fromordinal(int(ordinals.month_end(day.year, day.month)))
    assert end.month == day.month and (end + timedelta(days=1)).day == 1
    assert int(ordinals.month_end(day.year, day.month - 12)) == int(ordinals.month_end(day.year - 1, day.month))


@given(
    text=st.text(st.characters(exclude_characters=wire.RAW, exclude_categories=["Cs"])),
    number=st.floats(allow_nan=False, allow_infinity=False),
)
def test_cells_that_are_json_already_go_through_as_they_are(text: str, number: float) -> None:
    nested = {"of a kind": text, text: str(number)}
    frame = pl.DataFrame({"a": [wire.raw(number), text, wire.raw(nested), "-"], "b": [1.0, 2.0, None, 4.0]})
    rows = json.loads(wire.rows_json(frame))
    assert [row["a"] for row in rows] == [number, text, nested, "-"]
    assert [row["b"] for row in rows] == [1.0, 2.0, None, 4.0]
    assert [wire.value_of(cell) for cell in frame["a"]] == [number, text, nested, "-"]


def test_numbers_and_markers_share_a_column() -> None:
    column = wire.numbers_or(np.array([1.0, 2.5, -3.0]), np.array([False, True, False]), "*")
    assert json.loads(wire.rows_json(pl.DataFrame({"x": column}))) == [{"x": 1.0}, {"x": "*"}, {"x": -3.0}]


def test_what_is_remembered_is_made_once_and_forgotten_in_turn() -> None:
    market = simulate(MarketConfig(n_names=4, start=date(2024, 1, 4), end=date(2024, 1, 12)))
    made: list[int] = []

    @wire.remembered(2)
    def record(market: object, row: int) -> list[int]:
        made.append(row)
        return [row]

    first = record(market, 1)
    assert record(market, 1) is first and made == [1]
    record(market, 2), record(market, 3)
    assert record(market, 1) == [1] and made == [1, 2, 3, 1]
    again = market.with_split(market.names.code[0], market.days[3], 0.5)
    record(again, 1)
    assert made[-2:] == [1, 1], "another market remembers nothing of this one"
