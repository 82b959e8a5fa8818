"""Fills at the open: the table of states, the short side, caps, cash, lots, and what may not be seen."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from atft_assets.trading.costs import Costs
from atft_assets.trading.fills import REASONS, Fills, Orders, fill
from atft_assets.trading.market import Market
from tests.trading.made import made_market

FREE = Costs("free", multiple=0)
AUCTION = 2  # row; the evening before is row 1
NAN = np.nan


def bars(*rows: tuple[float, float, float, float], **given: Any) -> Market:
    """A market of one auction: two days at 1,000 yen (band 700 to 1,300), then open, high, low, close by name."""
    day = np.array(rows).T
    before = np.full((2, len(rows)), 1_000.0)
    opened, high, low, close = (np.vstack([before, line]) for line in day)
    return made_market(close, open=opened, high=high, low=low, **({"value": 1e9} | given))


def orders(*shares: int, rank: list[float] | None = None) -> Orders:
    return Orders(np.array(shares, np.int64), np.array(rank or range(1, len(shares) + 1), np.float64))


def filled(
    market: Market, *shares: int, held: list[int] | None = None, cash: float = 1e9, costs: Costs = FREE,
    rank: list[float] | None = None,
) -> Fills:  # fmt: skip
    holdings = np.array(held or [0] * len(shares), np.int64)
    return fill(market, AUCTION, orders(*shares, rank=rank), holdings, cash, costs)


def said(fills: Fills) -> list[tuple[int, str]]:
    return [(int(s), REASONS[r]) for s, r in zip(fills.shares, fills.reason, strict=True)]


# -- the table of states ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("bar", "buy", "sell"),
    [
        ((1_010, 1_050, 990, 1_020), (100, "ok"), (-100, "ok")),
        ((NAN, NAN, NAN, NAN), (0, "untraded"), (0, "untraded")),
        ((1_300, 1_300, 1_200, 1_250), (0, "limit_up"), (-100, "ok")),
        ((700, 800, 700, 750), (100, "ok"), (0, "limit_down")),
        ((1_300, 1_300, 1_300, 1_300), (0, "locked"), (-100, "ok")),
        ((700, 700, 700, 700), (100, "ok"), (0, "locked")),
        ((1_200, 1_300, 1_200, 1_300), (100, "ok"), (-100, "ok")),  # the limit was touched later
        ((800, 800, 700, 700), (100, "ok"), (-100, "ok")),
        ((1_250, 1_250, 1_250, 1_250), (0, "locked"), (-100, "ok")),  # at what may be the limit of a lower base
        ((1_200, 1_200, 1_200, 1_200), (100, "ok"), (-100, "ok")),  # one trade of a quiet name
    ],
)
def test_states_of_the_auction(bar: tuple, buy: tuple[int, str], sell: tuple[int, str]) -> None:
    market = bars(bar, bar)
    assert said(filled(market, 100, -100, held=[0, 100])) == [buy, sell]


def test_a_short_sale_is_blocked_where_a_sale_is() -> None:
    down, up = (700, 800, 700, 750), (1_300, 1_300, 1_200, 1_250)
    assert said(filled(bars(down, up), -100, -100)) == [(0, "limit_down"), (-100, "ok")]


def test_the_first_day_of_a_name_fills_nothing() -> None:
    market = made_market([[1_000, NAN], [1_000, NAN], [1_000, 2_000]], listed=[[1, 0], [1, 0], [1, 1]])
    assert said(filled(market, 100, 100)) == [(100, "ok"), (0, "untraded")]


def test_a_name_that_is_gone_says_so() -> None:
    market = made_market([[1_000, 1_000], [1_000, 1_000], [1_000, NAN]], listed=[[1, 1], [1, 1], [1, 0]])
    assert said(filled(market, -100, -100, held=[100, 100])) == [(-100, "ok"), (0, "delisted")]


def test_the_day_on_which_the_exchange_stood_still() -> None:
    market = bars((NAN,) * 4, (NAN,) * 4)
    fills = filled(market, 100, -100, held=[0, 100])
    assert said(fills) == [(0, "untraded")] * 2
    assert fills.value.tolist() == fills.costs.tolist() == [0, 0]
    assert np.isnan(fills.price).all()


def test_a_share_of_what_stands_at_the_limit_can_be_given() -> None:
    market = bars((1_300, 1_300, 1_300, 1_300), (700, 700, 700, 700))
    assert said(filled(market, 1_000, -1_000, held=[0, 1_000], costs=replace(FREE, limit_fill=0.25))) == [
        (200, "locked"),
        (-200, "locked"),
    ]


def test_prices_are_those_that_were_printed() -> None:
    market = bars((999.9, 1_000, 999.9, 1_000), fine_tick=True)
    fills = filled(market, 100)
    assert fills.price.tolist() == [999.9]
    assert fills.value.tolist() == pytest.approx([99_990.0])


def test_costs_of_a_fill_are_those_of_its_own_value() -> None:
    """Day 1 of the ledger by hand: half a tick of one yen, c = 0.8, sigma = 2 %."""
    market = made_market(
        [[1_180, 640], [1_180, 640], [1_190, 660]],
        open=[[1_180, 640], [1_180, 640], [1_200, 650]],
        adv=[200e6, 50e6],
    )
    fills = filled(market, 400, 700, cash=1e6, costs=Costs("by hand", half_spread_bp=(0.0,) * 6))
    assert fills.half_spread.tolist() == pytest.approx([200, 350])
    assert fills.impact.round(2).tolist() == [376.24, 694.47]
    assert round(1e6 - fills.paid, 2) == 63_379.29


# -- short sales ------------------------------------------------------------------------------------------------------


def test_only_what_can_be_borrowed_on_the_evening_is_sold_short() -> None:
    bar = (1_000, 1_010, 990, 1_000)
    market = bars(bar, bar, bar, shortable=[[1, 0, 0], [1, 0, 0], [0, 1, 0]])
    assert said(filled(market, -100, -100, -300, held=[0, 0, 100])) == [
        (-100, "ok"),
        (0, "not_shortable"),
        (-100, "not_shortable"),  # what is held is sold all the same
    ]


@pytest.mark.parametrize(
    ("low", "opened", "expected"),
    [
        (901, 1_000, (-100, "ok")),  # not ten per cent below the base: no trigger
        (900, 960, (-100, "ok")),  # triggered: above the close of 950 it may be sold
        (900, 950, (0, "short_restricted")),
        (900, 940, (0, "short_restricted")),
    ],
)
def test_after_a_fall_of_ten_per_cent_shorts_sell_above_the_last_price(
    low: float, opened: float, expected: tuple[int, str]
) -> None:
    close = [[1_000.0], [950.0], [opened]]
    market = made_market(close, low=[[1_000], [low], [opened]], high=[[1_000], [1_000], [opened + 1]])
    assert said(filled(market, -100)) == [expected]
    assert said(filled(market, -100, held=[100])) == [(-100, "ok")]  # a sale of what is held is no short sale


def test_the_restriction_is_held_against_the_base_of_an_ex_date() -> None:
    close = [[1_000.0], [950.0], [480.0]]
    market = made_market(
        close, low=[[1_000], [900], [478]], high=[[1_000], [1_000], [482]], adj_factor=[[1], [1], [0.5]]
    )
    assert said(filled(market, -100)) == [(-100, "ok")]  # 480 in new shares is above 475


def test_an_order_beyond_the_holding_closes_it_and_opens_the_rest() -> None:
    bar = (1_000, 1_010, 990, 1_000)
    market = bars(bar, bar, bar)
    fills = filled(market, -350, 250, -350, held=[150, -150, 150], costs=FREE)
    assert said(fills) == [(-350, "ok"), (250, "ok"), (-350, "ok")]


def test_nothing_is_opened_before_all_is_closed() -> None:
    bar = (1_000, 1_010, 990, 1_000)
    market = bars(bar, value=[[1e9], [1e9], [3e6]])  # a tenth of the day: 300 shares
    assert said(filled(market, -900, held=[700])) == [(-300, "volume_cap")]


# -- caps and lots ----------------------------------------------------------------------------------------------------


def test_orders_are_cut_to_a_share_of_turnover() -> None:
    bar = (1_000, 1_010, 990, 1_000)
    market = bars(bar, bar, bar, adv=[10e6, 10e6, NAN], value=[[1e9] * 3, [1e9] * 3, [1e9, 2e6, 1e9]])
    assert said(filled(market, 900, 900, 900)) == [
        (500, "volume_cap"),  # 5 % of what was usual
        (200, "volume_cap"),  # 10 % of the day
        (0, "volume_cap"),  # nobody knows what is usual
    ]


def test_one_lot_of_a_name_that_dried_up_can_be_sold() -> None:
    bar = (1_000, 1_010, 990, 1_000)
    market = bars(bar, bar, bar, adv=0.0, value=[[1e9] * 3, [1e9] * 3, [1e9, 9e5, 1e9]])
    assert said(filled(market, -500, -500, -500, held=[500, 500, 0])) == [
        (-100, "volume_cap"),
        (0, "volume_cap"),  # the day itself had not enough
        (0, "volume_cap"),  # and none is opened
    ]


def test_only_whole_positions_leave_in_odd_lots() -> None:
    bar = (1_000, 1_010, 990, 1_000)
    market = bars(*[bar] * 5)
    assert said(filled(market, -150, -150, 150, 150, 150, held=[150, 250, -150, -250, 0])) == [
        (-150, "ok"),
        (-100, "ok"),
        (150, "ok"),
        (100, "ok"),
        (100, "ok"),
    ]


# -- cash -------------------------------------------------------------------------------------------------------------


def test_sales_pay_for_purchases_and_the_worst_ranks_are_cut() -> None:
    bar = (1_000, 1_010, 990, 1_000)
    market = bars(*[bar] * 4)
    fills = filled(market, -300, 200, 200, 200, held=[300, 0, 0, 0], cash=50_000, rank=[0, 3, 1, 2])
    assert said(fills) == [(-300, "ok"), (0, "cash"), (200, "ok"), (100, "cash")]
    assert fills.received == 300_000
    assert fills.paid == 300_000
    assert fills.intraday_low(50_000) == -250_000


def test_a_cheaper_name_takes_what_a_dear_one_leaves() -> None:
    dear, cheap = (1_000, 1_010, 990, 1_000), (800, 810, 790, 800)
    market = bars(dear, dear, cheap)
    assert said(filled(market, 100, 100, 100, cash=190_000)) == [(100, "ok"), (0, "cash"), (100, "ok")]


def test_without_cash_nothing_is_bought() -> None:
    bar = (1_000, 1_010, 990, 1_000)
    assert said(filled(bars(bar), 100, cash=-1.0)) == [(0, "cash")]


def test_equal_ranks_go_by_code() -> None:
    bar = (1_000, 1_010, 990, 1_000)
    market = bars(bar, bar, codes=["20000", "10000"])
    assert said(filled(market, 100, 100, cash=100_000, rank=[1, 1])) == [(0, "cash"), (100, "ok")]


def test_a_higher_open_changes_the_value_and_not_the_shares() -> None:
    low, high = bars((1_000, 1_010, 990, 1_000)), bars((1_200, 1_210, 1_190, 1_200))
    assert filled(low, 500).shares.tolist() == filled(high, 500).shares.tolist() == [500]
    assert filled(high, 500).value[0] == pytest.approx(1.2 * filled(low, 500).value[0])
    assert said(filled(high, 500, cash=500_000)) == [(400, "cash")]  # a shortfall is said


# -- properties -------------------------------------------------------------------------------------------------------

COSTS = Costs("all", rate=0.001, minimum=80.0)


@st.composite
def situations(draw: st.DrawFn) -> tuple[Market, Orders, np.ndarray, float]:
    """Six names around 1,000 yen: some dark, some at a limit, some locked, thin ones among them."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    n = 6
    close = np.rint(1_000 * np.exp(rng.normal(0, 0.03, (4, n)))).astype(float)
    opened = np.rint(close * np.exp(rng.normal(0, 0.02, (4, n))))
    high, low = (
        np.maximum(opened, close) + rng.integers(0, 9, (4, n)),
        np.minimum(opened, close) - rng.integers(0, 9, (4, n)),
    )
    made = made_market(
        close, open=opened, high=high, low=low, value=rng.choice([1e6, 1e7, 1e9], (4, n)),
        adv=rng.choice([0, 1e7, 1e9], n), shortable=rng.random((4, n)) < 0.7,
    )  # fmt: skip
    state = rng.choice(["usual", "usual", "dark", "up", "down", "locked_up", "locked_down"], n)
    arrays = {name: getattr(made, name).copy() for name in ("open", "high", "low", "close")}
    for i, one in enumerate(state):
        limit = made.limit_up[AUCTION, i] if "up" in one else made.limit_down[AUCTION, i]
        if one == "dark":
            for array in arrays.values():
                array[AUCTION, i] = NAN
        elif one != "usual":
            arrays["open"][AUCTION, i] = limit
            extreme = "high" if "up" in one else "low"
            arrays[extreme][AUCTION, i] = limit
        if "locked" in one:
            for array in arrays.values():
                array[AUCTION, i] = limit
    held = rng.integers(-8, 9, n) * 100 + rng.choice([0, 0, 50], n)
    shares = rng.integers(-12, 13, n) * 100
    whole = rng.random(n) < 0.3
    shares[whole] = -held[whole]
    return replace(made, **arrays), Orders(shares, rng.permutation(n) + 1.0), held, float(rng.choice([0.0, 3e5, 1e8]))


@settings(max_examples=300, deadline=None)
@given(situations())
def test_what_holds_of_every_fill(situation: tuple[Market, Orders, np.ndarray, float]) -> None:
    market, wanted, held, cash = situation
    got = fill(market, AUCTION, wanted, held, cash, COSTS)
    assert (np.abs(got.shares) <= np.abs(wanted.shares)).all()
    assert (got.shares * wanted.shares >= 0).all()
    after = held + got.shares
    odd = got.shares % 100 != 0
    closed = np.where(np.sign(held) == -np.sign(got.shares), np.minimum(np.abs(held), np.abs(got.shares)), 0)
    assert (closed[odd] == np.abs(held[odd])).all()  # an odd lot is a whole position
    assert ((np.abs(got.shares) - closed) % 100 == 0).all()
    assert (got.shares[after % 100 != 0] % 100 == 0).all()
    for amount in (got.value, got.commission, got.half_spread, got.impact):
        assert (amount[got.shares == 0] == 0).all()
        assert (amount >= 0).all()
    assert np.allclose(got.value, np.abs(got.shares) * np.nan_to_num(got.price))
    opened = market.open[AUCTION]
    buying, selling = got.shares > 0, got.shares < 0
    assert np.isfinite(opened[got.shares != 0]).all()
    assert (opened[buying] < market.limit_up[AUCTION, buying]).all()
    assert (opened[selling] > market.limit_down[AUCTION, selling]).all()
    short = selling & (after < 0) & (after < held)
    assert market.shortable[AUCTION - 1, short].all()
    assert (got.value <= 0.10 * market.value[AUCTION] + 1e-6).all()
    if cash + got.received >= 0:
        assert cash + got.received - got.paid >= -1e-6
    else:
        assert not buying.any()
    against = np.sign(held) == -np.sign(wanted.shares)
    closing = np.where(against, np.minimum(np.abs(held), np.abs(wanted.shares)), 0)
    lots = np.where(closing == np.abs(held), closing, closing // 100 * 100)
    lots = lots + np.where(against & (closing < np.abs(held)), 0, (np.abs(wanted.shares) - closing) // 100 * 100)
    lots = np.where(against, lots, np.abs(wanted.shares) // 100 * 100)
    assert ((np.abs(got.shares) < lots) == (got.reason != 0)).all()  # what is missing has a reason, and nothing else


@settings(max_examples=200, deadline=None)
@given(situations(), st.integers(0, 2**32 - 1))
def test_the_future_does_not_reach_a_fill(situation: tuple[Market, Orders, np.ndarray, float], seed: int) -> None:
    """Everything after the day, and high, low and close of the day, as random as they can be: the fills stay."""
    market, wanted, held, cash = situation
    rng = np.random.default_rng(seed)
    changed = {}
    for name in (
        "open",
        "high",
        "low",
        "close",
        "value",
        "adv",
        "sigma",
        "base",
        "limit_up",
        "limit_down",
        "adj_factor",
    ):
        array = getattr(market, name).copy()
        array[AUCTION + 1 :] = rng.uniform(1, 5_000, array[AUCTION + 1 :].shape)
        changed[name] = array
    one_price = (market.high == market.low)[AUCTION]
    for name in ("high", "low", "close"):
        noise = rng.uniform(700, 1_300, len(one_price)).astype(np.float32)
        changed[name][AUCTION] = np.where(one_price | np.isnan(market.open[AUCTION]), changed[name][AUCTION], noise)
    for name in ("adv", "sigma"):  # of the day itself, known at its close only
        changed[name][AUCTION] = rng.uniform(1, 5_000, len(one_price))
    flags = {
        name: np.concatenate([getattr(market, name)[:AUCTION], ~getattr(market, name)[AUCTION:]])
        for name in ("shortable", "eligible", "last_day")
    }
    before = fill(market, AUCTION, wanted, held, cash, COSTS)
    after = fill(replace(market, **changed, **flags), AUCTION, wanted, held, cash, COSTS)
    for name in ("shares", "price", "value", "commission", "half_spread", "impact", "reason"):
        assert np.array_equal(getattr(before, name), getattr(after, name), equal_nan=True), name


@settings(max_examples=200, deadline=None)
@given(situations(), st.floats(0, 1))
def test_a_thinner_day_only_takes_away(situation: tuple[Market, Orders, np.ndarray, float], share: float) -> None:
    market, wanted, held, _ = situation
    value = market.value.copy()
    value[AUCTION] *= share
    much = fill(market, AUCTION, wanted, held, 1e12, COSTS)
    little = fill(replace(market, value=value), AUCTION, wanted, held, 1e12, COSTS)
    assert (np.abs(little.shares) <= np.abs(much.shares)).all()


@settings(max_examples=200, deadline=None)
@given(situations(), st.permutations(range(6)))
def test_the_order_of_names_does_not_matter(
    situation: tuple[Market, Orders, np.ndarray, float], places: list[int]
) -> None:
    market, wanted, held, cash = situation
    tied = Orders(wanted.shares, np.ceil(wanted.rank / 3))
    moved = {
        name: array[:, places]
        for name, array in vars(market).items()
        if isinstance(array, np.ndarray) and array.ndim == 2
    }
    other = replace(market, **moved, codes=tuple(market.codes[i] for i in places))
    before = fill(market, AUCTION, tied, held, cash, COSTS)
    after = fill(other, AUCTION, Orders(tied.shares[places], tied.rank[places]), held[places], cash, COSTS)
    for name in ("shares", "value", "commission", "half_spread", "impact", "reason"):
        assert np.array_equal(getattr(before, name)[places], getattr(after, name)), name
    assert (before.paid, before.received) == (after.paid, after.received)


@settings(max_examples=200, deadline=None)
@given(situations())
def test_cash_is_used_up_by_rank(situation: tuple[Market, Orders, np.ndarray, float]) -> None:
    """A purchase that was cut could not have had one lot more, whatever those behind it got."""
    market, wanted, held, cash = situation
    got = fill(market, AUCTION, wanted, held, cash, COSTS)
    rich = fill(market, AUCTION, wanted, held, 1e12, COSTS)
    buys = np.flatnonzero(rich.shares > 0)
    left = cash + got.received
    for i in buys[np.argsort(wanted.rank[buys])]:
        if got.shares[i] < rich.shares[i]:
            more = np.zeros_like(wanted.shares)
            rest = -held[i] - got.shares[i]  # to the end of a short position, if that is nearer than a lot
            more[i] = got.shares[i] + (min(100, rest) if rest > 0 else 100)
            one = fill(market, AUCTION, Orders(more, wanted.rank), held, 1e12, COSTS)
            assert one.paid > left - 1e-6
        left -= float(got.value[i] + got.costs[i])


# -- misuse -----------------------------------------------------------------------------------------------------------


def test_what_does_not_fit_is_refused() -> None:
    market = bars((1_000, 1_010, 990, 1_000))
    one = np.array([100], np.int64)
    with pytest.raises(ValueError, match=r"the market has 1 names, but .*holdings.*\(2,\)"):
        fill(market, AUCTION, Orders(one, one), np.zeros(2, np.int64), 1e6, FREE)
    with pytest.raises(ValueError, match="t_fill is 0"):
        fill(market, 0, Orders(one, one), one, 1e6, FREE)
    with pytest.raises(ValueError, match="t_fill is 3"):
        fill(market, 3, Orders(one, one), one, 1e6, FREE)
    with pytest.raises(ValueError, match="give whole numbers"):
        fill(market, AUCTION, Orders(np.array([99.5]), one), one, 1e6, FREE)
