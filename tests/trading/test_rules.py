"""Rules of the exchange, held against its own notices and against tables written down in another way."""

from datetime import date, time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from atft_assets.trading.rules import (
    LOT,
    OrderType,
    base_price,
    ex_date_of,
    fine_categories,
    limit_prices,
    limit_width,
    on_the_grid,
    rounded_down,
    rounded_up,
    session_hours,
    tick_size,
    widening,
)

NOW = date(2024, 6, 3)
DAYS = [date(2013, 6, 3), date(2014, 2, 3), date(2014, 9, 1), date(2016, 1, 4), NOW]

# -- ticks ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("price", "fine", "coarse"),
    [
        # (price, TOPIX500, others) at both sides of each bound of the table of today
        (999.9, 0.1, 1), (1_000, 0.1, 1), (1_000.5, 0.5, 1), (3_000, 0.5, 1), (3_001, 1, 5), (3_005, 1, 5),
        (5_000, 1, 5), (5_001, 1, 10), (10_000, 1, 10), (10_005, 5, 10), (30_000, 5, 10), (30_010, 10, 50),
        (50_000, 10, 50), (50_010, 10, 100), (100_000, 10, 100), (100_050, 50, 100), (300_000, 50, 100),
        (300_100, 100, 500), (500_000, 100, 500), (500_100, 100, 1_000), (1_000_000, 100, 1_000),
        (1_000_500, 500, 1_000), (3_000_000, 500, 1_000), (3_001_000, 1_000, 5_000), (5_000_000, 1_000, 5_000),
        (5_001_000, 1_000, 10_000), (10_000_000, 1_000, 10_000), (10_005_000, 5_000, 10_000),
        (30_000_000, 5_000, 10_000), (30_010_000, 10_000, 50_000), (50_000_000, 10_000, 50_000),
        (50_010_000, 10_000, 100_000),
    ],
)  # fmt: skip
def test_ticks_of_today_at_both_sides_of_each_bound(price: float, fine: float, coarse: float) -> None:
    assert tick_size([price, price], NOW, [True, False]).tolist() == [fine, coarse]


@pytest.mark.parametrize(
    ("day", "expected"),
    [
        # ticks of a name of the TOPIX100 at 900, 2,900, 4,900, 9,900, 29,900, 49,900 yen
        (date(2014, 1, 13), [1, 1, 5, 10, 10, 50]),
        (date(2014, 1, 14), [1, 1, 1, 1, 5, 5]),
        (date(2014, 7, 21), [1, 1, 1, 1, 5, 5]),
        (date(2014, 7, 22), [0.1, 0.5, 0.5, 1, 5, 5]),
        (date(2015, 9, 23), [0.1, 0.5, 0.5, 1, 5, 5]),
        (date(2015, 9, 24), [0.1, 0.5, 1, 1, 5, 10]),
    ],
)
def test_the_three_steps_of_the_fine_ticks(day: date, expected: list[float]) -> None:
    assert tick_size([900, 2_900, 4_900, 9_900, 29_900, 49_900], day, True).tolist() == expected


def test_who_has_the_fine_ticks_changes_with_the_date() -> None:
    mid, core = "TOPIX Mid400", "TOPIX Core30"
    assert fine_categories(date(2014, 1, 13)) == ()
    assert core in fine_categories(date(2014, 1, 14))
    assert mid not in fine_categories(date(2023, 6, 2))
    assert mid in fine_categories(date(2023, 6, 5))
    assert "TOPIX Small 1" not in fine_categories(NOW)


def test_before_the_tables_begin_nothing_is_said() -> None:
    with pytest.raises(ValueError, match=r"2009-12-30 are not known.*2010-01-04"):
        tick_size(1_000, date(2009, 12, 30))


@given(
    price=st.floats(1, 9e6),
    day=st.sampled_from(DAYS),
    fine=st.booleans(),
)
def test_rounding_reaches_the_nearest_quotable_prices(price: float, day: date, fine: bool) -> None:
    up, down = float(rounded_up(price, day, fine)), float(rounded_down(price, day, fine))
    assert down <= price * (1 + 1e-6)
    assert up >= price * (1 - 1e-6)
    assert on_the_grid(up, day, fine)
    assert down == 0 or on_the_grid(down, day, fine)
    assert up - down <= float(tick_size(price, day, fine)) + 1e-6
    if on_the_grid(price, day, fine):
        assert up == down == pytest.approx(price, abs=1e-5)


def test_missing_prices_stay_missing() -> None:
    assert np.isnan(tick_size([np.nan, 1_000], NOW)).tolist() == [True, False]
    assert np.isnan(limit_prices([np.nan, 1_000], NOW)[0]).tolist() == [True, False]
    assert not on_the_grid(np.nan, NOW)


# -- limits -----------------------------------------------------------------------------------------------------------


def slow_width(base: float) -> float:
    """The published table as a person reads it: row by row, and ten times the row of a tenth from 10,000 yen on."""
    for below, width in ((100, 30), (200, 50), (500, 80), (700, 100), (1_000, 150), (1_500, 300), (2_000, 400),
                         (3_000, 500), (5_000, 700), (7_000, 1_000), (10_000, 1_500)):  # fmt: skip
        if base < below:
            return width
    return 10 * slow_width(base / 10)


@given(st.integers(1, 49_999_999))
def test_widths_repeat_themselves_by_tens(base: int) -> None:
    assert limit_width(base) == slow_width(base)


def test_below_is_strict() -> None:
    assert limit_width([99, 100, 199.9, 200, 999.9, 1_000, 9_990, 10_000]).tolist() == [
        30, 50, 50, 80, 150, 300, 1_500, 3_000,
    ]  # fmt: skip
    up, down = limit_prices([999.9, 1_000.0], NOW, True)
    assert up.tolist() == [1_150.0, 1_300.0]  # 1,149.9 is between two ticks of its own zone
    assert down.tolist() == [849.9, 700.0]


@pytest.mark.parametrize(
    ("base", "up_times", "down_times", "up", "down"),
    [
        (1_769, 4, 1, 3_370, 1_369),  # 3558
        (3_310, 1, 4, 4_010, 510),  # 3350
        (617, 4, 1, 1_017, 517),  # 6085
        (495, 1, 4, 575, 175),  # 9827
        (19_170, 1, 4, 23_170, 3_170),  # 7794
    ],
)
def test_bands_of_the_exchanges_notices(base: float, up_times: int, down_times: int, up: float, down: float) -> None:
    got = limit_prices(base, NOW, False, up_times, down_times)
    assert (float(got[0]), float(got[1])) == (up, down)


def test_the_upper_limit_is_rounded_up_to_the_ticks_of_its_own_zone() -> None:
    assert float(limit_prices(2_991, NOW)[0]) == 3_495  # 3,491 lies above 3,000, where five yen are a tick
    assert float(limit_prices(2_991, NOW, True)[0]) == 3_491


def test_nothing_is_quoted_below_one_tick() -> None:
    assert limit_prices([25.0, 25.0], NOW, [False, True])[1].tolist() == [1, 0.1]


@given(
    base=st.integers(1, 3_000_000),
    day=st.sampled_from(DAYS),
    fine=st.booleans(),
)
def test_bands_lie_on_the_grid_around_the_base(base: int, day: date, fine: bool) -> None:
    price = float(rounded_up(base, day, fine))
    up, down = (float(x) for x in limit_prices(price, day, fine))
    assert on_the_grid([up, down], day, fine).all()
    assert down < price < up or (price <= 1 and down <= price < up)
    width = float(limit_width(price))
    assert up - price - width < float(tick_size(up, day, fine))
    assert down == pytest.approx(max(price - width, float(tick_size(1.0, day, fine))), abs=1e-6)


def test_widening_became_quicker_and_wider() -> None:
    before, since = widening(date(2020, 7, 31)), widening(date(2020, 8, 3))
    assert (before.days, before.times) == (3, 2)
    assert (since.days, since.times) == (2, 4)


# -- base prices ------------------------------------------------------------------------------------------------------


def test_an_ex_dividend_base_is_lower_by_the_dividend() -> None:
    assert float(base_price(1_180, 1, 20, NOW)) == 1_160
    up, down = limit_prices(base_price(1_010, 1, 12.5, NOW), NOW)
    assert (float(up), float(down)) == (1_148, 848)  # of 997.5: 150 either way, not the 300 of 1,010


def test_a_split_base_is_a_price() -> None:
    third = np.float32(1 / 3)
    # float32 and six digits alike: 3,000 yen in three are 1,000, whose band is that of 1,000
    assert base_price([3_000, 3_000], [third, 0.333333], 0, NOW).tolist() == [1_000, 1_000]
    assert float(base_price(1_001, 0.5, 0, NOW)) == 501
    assert float(base_price(120, 10, 0, NOW)) == 1_200
    assert float(base_price(2_000, 0.5, 20, NOW)) == 990  # the dividend belongs to the shares as they were


def test_a_dividend_that_leaves_nothing_leaves_no_base() -> None:
    assert np.isnan(base_price([10, np.nan], 1, [10, 0], NOW)).all()


# -- hours and dates --------------------------------------------------------------------------------------------------


def test_the_afternoon_is_longer_since_november_2024() -> None:
    before, since = session_hours(date(2024, 11, 1)), session_hours(date(2024, 11, 5))
    assert (before.afternoon[1], before.closing_call) == (time(15), None)
    assert (since.afternoon[1], since.closing_call) == (time(15, 30), time(15, 25))
    assert before.accepted_from == time(8)


@pytest.mark.parametrize(
    ("record", "ex"),
    [
        (date(2018, 3, 31), date(2018, 3, 28)),  # a Saturday: the register of Friday the 30th, three days to settle
        (date(2019, 7, 17), date(2019, 7, 12)),  # the last under three days
        (date(2019, 7, 18), date(2019, 7, 17)),  # the first under two
        (date(2019, 12, 31), date(2019, 12, 27)),  # closed: the register of the 30th
        (date(2024, 3, 31), date(2024, 3, 28)),
        (date(2024, 9, 30), date(2024, 9, 27)),
    ],
)
def test_ex_dates(record: date, ex: date) -> None:
    assert ex_date_of(record) == ex


def test_names_of_orders() -> None:
    assert [(one.value, one.japanese) for one in OrderType] == [("MOO", "寄成"), ("LOO", "寄指")]
    assert LOT == 100
