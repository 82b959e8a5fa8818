"""Costs, against their closed forms and the hand-made ledger of two names."""

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from atft_assets.trading.costs import ADV_BOUNDS, HALF_SPREAD_BP, MULTIPLES, PRESETS, SIGMA_UNKNOWN, Costs

HALF_TICK = Costs("half a tick", half_spread_bp=(0.0,) * 6)
values = st.floats(1e3, 1e9)


@pytest.mark.parametrize(
    ("value", "adv", "half", "impact"),
    [
        (480_000, 200e6, 200.00, 376.24),  # 400 shares at 1,200
        (455_000, 50e6, 350.00, 694.47),  # 700 at 650
        (472_000, 200e6, 200.00, 366.87),  # 400 at 1,180
        (490_000, 50e6, 350.00, 776.12),  # 700 at 700
    ],
)
def test_the_trades_of_the_ledger_by_hand(value: float, adv: float, half: float, impact: float) -> None:
    shares = 2 * half
    assert float(HALF_TICK.half_spread(value, value / shares, 1.0, adv)) == pytest.approx(half)
    assert round(float(HALF_TICK.market_impact(value, adv, 0.02)), 2) == impact


def test_impact_by_share_of_turnover() -> None:
    """At a volatility of 2 %: 5.1, 16, 36 and 51 basis points at 0.1, 1, 5 and 10 % of a day."""
    share = np.array([0.001, 0.01, 0.05, 0.10])
    bp = HALF_TICK.market_impact(share * 1e9, 1e9, 0.02) / (share * 1e9) * 1e4
    assert np.round(bp, 1).tolist() == [5.1, 16.0, 35.8, 50.6]


@pytest.mark.parametrize(
    ("adv", "bp"),
    [(9.9e6, 40), (10e6, 25), (49e6, 25), (50e6, 15), (200e6, 8), (1e9, 5), (4.9e9, 5), (5e9, 3), (np.nan, 40)],
)
def test_half_spreads_by_turnover(adv: float, bp: float) -> None:
    costs = PRESETS["retail_zero"]
    assert float(costs.half_spread(1e6, 5_000, 1, adv)) == pytest.approx(1e6 * bp / 1e4)  # half a tick is 1 bp
    assert float(costs.half_spread(1e6, 100, 1, adv)) == pytest.approx(1e6 * max(bp, 50) / 1e4)  # 50 bp: never less


def test_a_bucket_for_every_turnover() -> None:
    assert len(HALF_SPREAD_BP) == len(ADV_BOUNDS) + 1
    assert sorted(HALF_SPREAD_BP, reverse=True) == list(HALF_SPREAD_BP)


def test_presets_at_printed_fees() -> None:
    value = np.array([0, 50_000, 50_001, 100_000, 200_000, 500_000, 1_000_000, 1_500_000, 30_000_000, 30_000_001])
    assert PRESETS["retail_zero"].commission(value).tolist() == [0.0] * 10
    assert PRESETS["retail_classic"].commission(value).tolist() == [0, 55, 99, 99, 115, 275, 535, 640, 1_013, 1_070]
    assert PRESETS["ib"].commission([0, 50_000, 100_000, 1_000_000]).tolist() == pytest.approx([0, 80, 80, 800])
    assert float(PRESETS["institution"].commission(1_000_000)) == pytest.approx(200)
    assert {name: one.name for name, one in PRESETS.items()} == {name: name for name in PRESETS}


@given(value=values, adv=st.floats(1e6, 1e10), sigma=st.floats(0.001, 0.2), name=st.sampled_from(sorted(PRESETS)))
def test_multiples_multiply_every_amount(value: float, adv: float, sigma: float, name: str) -> None:
    once = PRESETS[name]
    for n in MULTIPLES:
        costs = once.times(n)
        for got, one in (
            (costs.commission(value), once.commission(value)),
            (costs.half_spread(value, 1_234, 1, adv), once.half_spread(value, 1_234, 1, adv)),
            (costs.market_impact(value, adv, sigma), once.market_impact(value, adv, sigma)),
            (costs.borrow(value, 3), once.borrow(value, 3)),
        ):
            assert float(got) >= 0
            assert float(got) == pytest.approx(n * float(one))


@given(value=values, adv=st.floats(1e6, 1e10), sigma=st.floats(0.001, 0.2))
def test_the_square_root_law(value: float, adv: float, sigma: float) -> None:
    costs = PRESETS["institution"]
    assert float(costs.market_impact(value, adv, sigma)) == pytest.approx(0.8 * sigma * math.sqrt(value / adv) * value)
    # two orders of half the size pay 1/sqrt(2) of what one pays
    half = 2 * float(costs.market_impact(value / 2, adv, sigma))
    assert half == pytest.approx(float(costs.market_impact(value, adv, sigma)) / math.sqrt(2))


def test_names_of_which_nothing_is_known_pay_as_if_it_were_bad() -> None:
    costs = PRESETS["retail_zero"]
    worst = costs.impact * SIGMA_UNKNOWN * math.sqrt(costs.participation_cap_day) * 1e6
    assert costs.market_impact(1e6, [np.nan, 0.0], np.nan).tolist() == pytest.approx([worst, worst])


def test_nothing_traded_costs_nothing() -> None:
    costs = PRESETS["ib"]
    assert float(costs.commission(0)) == 0
    assert float(costs.half_spread(0, np.nan, np.nan, np.nan)) == 0
    assert float(costs.market_impact(0, np.nan, np.nan)) == 0


def test_borrowing_is_charged_by_calendar_days() -> None:
    costs = PRESETS["retail_zero"]
    assert float(costs.borrow(1e6, 3)) == pytest.approx(1e6 * 0.0115 * 3 / 365)  # over a weekend
    assert float(costs.borrow(1e6, 365)) == pytest.approx(11_500)
    stressed = replace(costs, alert_rate=0.0005)
    assert stressed.borrow(1e6, 1, [False, True]).tolist() == pytest.approx([31.51, 531.51], abs=0.01)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"rate": -0.1}, "rate must not be negative"),
        ({"multiple": float("nan")}, "multiple must not be negative"),
        ({"participation_cap_adv": 1.5}, "participation_cap_adv must be between 0 and 1"),
        ({"half_spread_bp": (1.0, 2.0)}, "half_spread_bp has 2 values"),
        ({"fees": ((5e4, 55.0), (1e5, 99.0))}, "the last must be infinite"),
    ],
)
def test_impossible_costs_are_refused(changes: dict, said: str) -> None:
    with pytest.raises(ValueError, match=f"mine: .*{said}"):
        Costs("mine", **changes)
