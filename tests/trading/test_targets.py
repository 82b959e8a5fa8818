"""From scores to shares: who stays, who leaves and why, caps that hold after lots, and sectors in balance."""

from collections import Counter
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linprog

from atft_assets.trading.market import Market
from atft_assets.trading.optimise import optimal_weights
from atft_assets.trading.policy import NO_REASON, REASONS, BookSide, Rule, sub_books
from atft_assets.trading.selection import evening_of
from atft_assets.trading.targets import Book, Decision, decide, due_names, target_shares
from tests.trading.made import made_market
from tests.trading.random_market import changed_after, reordered

NAV = 100e6
OPEN = Rule(names=4, tranches=1, name_cap=1, sector_band=1, adv_share=1, turnover_cap=1, liquid_only=False,
            fill_lots=False)  # fmt: skip


def market_of(names: int = 20, *, price: Any = 1_000.0, days: int = 1, **given: Any) -> Market:
    return made_market(np.broadcast_to(price, (days, names)), **({"adv": 1e12, "value": 1e12} | given))


def ranked(names: int = 20) -> np.ndarray:
    """Scores by which the first name is the best."""
    return -np.arange(names, dtype=np.float32)


def book(market: Market, t: int = 0, nav: float = NAV, **held: int) -> Book:
    """Holdings by place: n3=500 are 500 shares of the fourth name."""
    shares = np.zeros(len(market.codes), np.int64)
    for name, count in held.items():
        shares[int(name[1:])] = count
    return Book(shares, market.close[t].astype(np.float64), nav)


def decided(market: Market, rule: Rule, scores: np.ndarray | None = None, nav: float = NAV, **held: int) -> Decision:
    wanted = ranked(len(market.codes)) if scores is None else scores.astype(np.float32)
    return decide(market, len(market.dates) - 1, wanted, book(market, len(market.dates) - 1, nav, **held), rule)


def why(decision: Decision) -> dict[int, tuple[int, str]]:
    """Place: shares and reason, of all names that have one."""
    names = np.flatnonzero(decision.reason != NO_REASON)
    return {int(n): (int(decision.shares[n]), REASONS[decision.reason[n]]) for n in names}


# -- a long book ------------------------------------------------------------------------------------------------------


def test_the_best_are_bought_in_equal_weight() -> None:
    assert why(decided(market_of(), OPEN)) == {n: (25_000, "enter") for n in range(4)}


def test_a_holding_stays_within_the_buffer() -> None:
    """Eight places of ranks: the fifth to the eighth stay, the ninth leaves, and its place goes to the best."""
    held = {"n7": 25_000, "n8": 25_000, "n1": 25_000, "n5": 25_000}
    found = why(decided(market_of(), OPEN, **held))
    assert found == {
        0: (25_000, "enter"),
        1: (25_000, "hold"),
        5: (25_000, "buffer"),
        7: (25_000, "buffer"),
        8: (0, "exit_rank"),
    }


def test_who_left_the_universe_or_lost_its_score_is_sold() -> None:
    eligible = np.ones((1, 20), bool)
    eligible[0, 1] = False
    scores = ranked()
    scores[2] = np.nan
    found = why(decided(market_of(eligible=eligible), OPEN, scores, n0=25_000, n1=25_000, n2=25_000))
    assert found[0] == (25_000, "hold") and found[1] == found[2] == (0, "exit_universe")
    assert {n for n, (_, reason) in found.items() if reason == "enter"} == {3, 4, 5}


def test_what_does_not_trade_or_trades_little_is_not_bought_but_may_stay() -> None:
    price = np.full(20, 1_000.0)
    price[0] = np.nan
    adv = np.where(np.arange(20) < 3, 1e6, 1e12)
    market = market_of(price=price, adv=adv)
    rule = replace(OPEN, liquid_only=True)
    assert sorted(why(decided(market, rule))) == [3, 4, 5, 6]
    assert why(decided(market, rule, n1=25_000))[1] == (25_000, "hold")


def test_a_weight_within_its_band_is_left_alone_and_one_beyond_is_set_anew() -> None:
    found = why(decided(market_of(), OPEN, n0=36_000, n1=14_000, n2=25_100, n3=12_000))
    assert found == {0: (36_000, "hold"), 1: (14_000, "hold"), 2: (25_100, "hold"), 3: (24_900, "hold")}
    assert why(decided(market_of(), OPEN, n0=40_000))[0] == (25_000, "hold")


def test_odd_lots_stay_until_all_is_sold() -> None:
    found = why(decided(market_of(), OPEN, n0=25_050, n1=8_030, n9=30))
    assert found[0] == (25_050, "hold")
    assert found[1] == (24_930, "hold")  # topped up by whole lots
    assert found[9] == (0, "exit_rank")


def test_shares_are_rounded_towards_none() -> None:
    unit = np.full(6, 1e-5)
    held = np.array([0, 0, 150, 150, 150, -250])
    weights = np.array([0.00199, -0.00199, 0.0026, 0.0012, 0.0003, -0.0012])
    assert target_shares(weights, unit, held).tolist() == [100, -100, 250, 0, 0, 0]
    assert target_shares(np.zeros(1), np.zeros(1), np.array([500])).tolist() == [0]


# -- caps -------------------------------------------------------------------------------------------------------------


def test_a_name_above_its_cap_is_brought_back_to_its_place_on_any_evening() -> None:
    market = market_of()
    rule = replace(OPEN, name_cap=0.3, tranches=5)
    turn = due_names(market, 0, rule, np.zeros(20, bool))
    idle = int(np.flatnonzero(~turn)[0])
    scores = ranked()
    scores[idle] = 1
    found = why(decided(market, rule, scores, **{f"n{idle}": 31_000}))
    assert found[idle] == (25_000, "cap_name")
    assert why(decided(market, rule, scores, **{f"n{idle}": 29_000}))[idle] == (29_000, "hold")  # it is not its turn


def test_a_sector_takes_no_more_than_its_band() -> None:
    """Half of the names are of the first sector, and the best eight: the band lets in three of them at a quarter."""
    sector = np.where(np.arange(20) < 10, 50, 100)
    rule = replace(OPEN, sector_band=0.25)
    found = why(decided(market_of(sector=sector), rule))
    assert sorted(found) == [0, 1, 2, 10]


def test_a_sector_that_grew_beyond_its_band_loses_its_worst() -> None:
    sector = np.where(np.arange(20) < 10, 50, 100)
    rule = replace(OPEN, sector_band=0.25)
    found = why(decided(market_of(sector=sector), rule, n0=25_000, n1=25_000, n2=26_000, n3=12_500))
    assert found[3] == (0, "cap_sector") and found[2] == (0, "cap_sector")
    assert found[0] == found[1] == (25_000, "hold")


def test_free_places_go_first_to_a_sector_that_is_short() -> None:
    """Half of the names are of the second sector, so a quarter of the book has to be, though its ranks are last."""
    sector = np.where(np.arange(20) < 10, 50, 100)
    found = why(decided(market_of(sector=sector), replace(OPEN, sector_band=0.25, names=8)))
    assert sum(n >= 10 for n in found) == 2
    assert sorted(found)[:6] == list(range(6))


def test_an_order_is_no_more_than_a_share_of_the_usual_turnover() -> None:
    adv = np.full(20, 1e12)
    adv[[1, 9]] = 100e6
    rule = replace(OPEN, adv_share=0.05)
    found = decided(market_of(adv=adv), rule, n9=25_000)
    assert why(found)[1] == (5_000, "cap_adv")
    assert why(found)[9] == (20_000, "exit_rank")
    assert np.flatnonzero(found.unfinished).tolist() == [1, 9]
    thin = decided(market_of(adv=np.full(20, 1e5)), rule, n9=25_000)
    assert thin.shares[9] == 24_900  # one lot may always be sold
    assert thin.shares[0] == 0 and why(thin)[0] == (0, "cap_adv")
    unknown = decided(market_of(adv=np.full(20, np.nan)), rule, n9=25_000)
    assert unknown.shares.sum() == 24_900


def test_an_evening_trades_no_more_than_its_share() -> None:
    rule = replace(OPEN, turnover_cap=0.35)
    first = decided(market_of(), rule)
    assert first.shares.tolist()[:4] == [25_000, 10_000, 0, 0] and first.weights.sum() == pytest.approx(0.35)
    assert np.flatnonzero(first.unfinished).tolist() == [1, 2, 3]
    sold = decided(market_of(), rule, n16=25_000, n17=25_000, n18=25_000, n19=25_000)
    assert sold.shares[16:].tolist() == [25_000, 25_000, 15_000, 0]  # the worst leave first
    assert sold.weights.sum() <= 1 + 1e-9


def test_what_left_the_universe_is_sold_before_other_sales() -> None:
    eligible = np.ones((1, 20), bool)
    eligible[0, 10] = False
    found = decided(market_of(eligible=eligible), replace(OPEN, turnover_cap=0.25), n10=25_000, n19=25_000)
    assert found.shares[[10, 19]].tolist() == [0, 25_000]


def test_a_lot_that_is_dearer_than_a_place() -> None:
    price = np.full(20, 1_000.0)
    price[[0, 1]] = 3_000, 60_000
    market = market_of(price=price)
    rule = replace(OPEN, name_cap=0.4, fill_lots=False)
    found = why(decided(market, rule, nav=1e6))
    assert found[0] == (0, "lot_zero") and found[1] == (0, "lot_zero")
    assert sorted(found) == [0, 1, 2, 3, 4, 5]  # the next ones move up
    filled = why(decided(market, replace(rule, fill_lots=True), nav=1e6))
    assert filled[1] == (0, "lot_zero") and sorted(filled) == [0, 1, 2, 3, 4]
    assert filled[0] == (100, "enter")  # within its cap, and paid from what lots left of all places
    cheap = market_of(price=np.where(np.arange(20) == 3, 3_000.0, 1_400.0))
    left = why(decided(cheap, replace(rule, fill_lots=True), nav=1e6))
    # the better ranks come first: a second lot brings each nearer to its weight, and the fourth name gets none
    assert left == {0: (200, "enter"), 1: (200, "enter"), 2: (200, "enter"), 3: (0, "lot_zero")}


def test_a_book_taken_over_with_too_many_names_keeps_the_best() -> None:
    held = {f"n{n}": 10_000 for n in range(7)}
    found = why(decided(market_of(), OPEN, **held))
    assert [n for n, (_, reason) in found.items() if reason == "exit_rank"] == [4, 5, 6]


@st.composite
def evenings(draw: st.DrawFn) -> tuple[Market, np.ndarray, Book, Rule]:
    """Sixty names of five sectors, dear and cheap, thick and thin, some held with odd lots."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    n = 60
    price = np.rint(np.exp(rng.normal(7, 1, n)))
    market = made_market(
        price[None], adv=np.exp(rng.normal(18, 2, n)), eligible=rng.random(n) < 0.95, sector=rng.integers(1, 6, n) * 50,
        shortable=rng.random(n) < 0.7,
    )  # fmt: skip
    rule = draw(
        st.builds(
            Rule,
            names=st.integers(3, 25),
            tranches=st.integers(1, 5),
            name_cap=st.sampled_from([0.04, 0.1, 0.5]),
            sector_band=st.sampled_from([0.05, 0.1, 0.3]),
            adv_share=st.sampled_from([0.01, 0.05, 1.0]),
            turnover_cap=st.sampled_from([0.1, 0.35, 1.0]),
            liquid_only=st.booleans(),
            fill_lots=st.booleans(),
            side=st.sampled_from(BookSide),
            decile=st.sampled_from([0.1, 0.3]),
        )
    )
    nav = draw(st.sampled_from([1e6, 1e7, 1e8, 1e9]))
    weights = np.where(rng.random(n) < 0.3, rng.dirichlet(np.ones(n)) * rng.choice([0.5, 2.5]), 0.0)
    if rule.side is BookSide.LONG_SHORT:
        weights *= rng.choice([-1, 1], n)
    weights /= max(1.0, np.abs(weights).sum())
    shares = (weights * nav / price // 100 * 100).astype(np.int64)
    shares += np.where(shares > 0, rng.choice([0, 0, 50], n), 0)
    shares *= np.abs(shares) * price <= nav
    scores = np.where(rng.random(n) < 0.95, rng.normal(size=n), np.nan).astype(np.float32)
    return market, scores, Book(shares, price, nav), rule


@settings(max_examples=400, deadline=None)
@given(evenings())
def test_what_holds_of_every_evening(evening: tuple[Market, np.ndarray, Book, Rule]) -> None:
    market, scores, before, rule = evening
    found = decide(market, 0, scores, before, rule)
    weights, unit, change = found.shares * before.unit, before.unit, found.shares - before.shares
    lot, reach = 100 * unit, market.adv[0] * rule.adv_share / before.nav
    old, tiny = before.weights, 1e-9
    np.testing.assert_allclose(found.weights, weights)
    # whole lots, or whole positions
    assert ((change % 100 == 0) | (found.shares == 0)).all()
    # orders within what is usual; to leave, a lot at least
    less = np.abs(found.shares) < np.abs(before.shares)
    assert (np.abs(change) * unit <= np.where(less, np.maximum(reach, lot), reach) + tiny).all()
    assert np.maximum(change, 0) @ unit <= rule.turnover_cap + tiny
    assert np.maximum(-change, 0) @ unit <= rule.turnover_cap + tiny
    # never more than there is, a name never beyond its cap unless it could not be sold
    assert np.abs(weights).sum() <= max(rule.gross, np.abs(old).sum()) + tiny
    more = np.abs(found.shares) > np.abs(before.shares)
    assert (np.abs(weights)[more] <= rule.name_cap + tiny).all()
    free = rule.turnover_cap == 1 and rule.adv_share == 1
    capped = np.flatnonzero((np.abs(weights) > rule.name_cap + tiny) & ~found.unfinished)
    assert not len(capped) or not free or (reach[capped] < lot[capped]).any()
    assert not (more & ~market.eligible[0]).any() and not (more & np.isnan(scores)).any()
    if rule.side is BookSide.LONG:
        assert (found.shares >= 0).all()
        place = market.sector[0]
        liquid = market.adv[0] >= np.median(market.adv[0][market.eligible[0]]) if rule.liquid_only else True
        candidates = market.eligible[0] & np.isfinite(scores) & liquid
        for sector in np.unique(place):
            now = weights[place == sector].sum()
            share = (candidates & (place == sector)).sum() / max(candidates.sum(), 1)
            bought = (more & (place == sector)).any()
            assert not bought or now <= max(share + rule.sector_band, old[place == sector].sum()) + tiny
        assert (found.shares > 0).sum() <= max(rule.names, (before.shares > 0).sum() + rule.names)
    else:
        opened = (found.shares < 0) & (before.shares == 0)
        assert market.shortable[0][opened].all()
    # every name that is held or wanted has a reason, no other has
    assert ((found.reason == NO_REASON) <= ((found.shares == 0) & (before.shares == 0))).all()


@settings(max_examples=100, deadline=None)
@given(evenings(), st.integers(0, 2**32 - 1))
def test_the_order_of_names_does_not_matter(evening: tuple[Market, np.ndarray, Book, Rule], seed: int) -> None:
    market, scores, before, rule = evening
    scores = np.round(scores, 0)  # with ties
    places = np.random.default_rng(seed).permutation(len(scores))
    one = decide(market, 0, scores, before, rule)
    moved = Book(before.shares[places], before.price[places], before.nav)
    two = decide(reordered(market, places), 0, scores[places], moved, rule)
    assert (one.shares[places] == two.shares).all() and (one.reason[places] == two.reason).all()


@settings(max_examples=50, deadline=None)
@given(evenings(), st.integers(0, 2**32 - 1))
def test_only_the_row_of_the_evening_is_read(evening: tuple[Market, np.ndarray, Book, Rule], seed: int) -> None:
    day, scores, before, rule = evening
    arrays = {
        name: np.repeat(array, 4, axis=0)
        for name, array in vars(day).items()
        if isinstance(array, np.ndarray) and array.ndim == 2
    }
    market = replace(day, **arrays, dates=day.dates * 4, topix=np.repeat(day.topix, 4))
    one = decide(market, 1, scores, before, rule)
    two = decide(changed_after(market, 1, seed), 1, scores, before, rule)
    flipped = replace(market, last_day=~market.last_day, open=market.open * 2, high=market.high * 3)
    three = decide(flipped, 1, scores, before, rule)
    for other in (two, three):
        assert (one.shares == other.shares).all() and (one.reason == other.reason).all()


# -- tranches ---------------------------------------------------------------------------------------------------------


def test_every_name_has_its_turn_once_in_as_many_evenings() -> None:
    market = market_of(200, days=10)
    rule = Rule(tranches=5)
    none = np.zeros(200, bool)
    turns = np.array([due_names(market, t, rule, none) for t in range(10)])
    assert (turns[:5].sum(axis=0) == 1).all() and (turns[:5] == turns[5:]).all()
    assert all(20 < count < 60 for count in turns.sum(axis=1))
    # by the day, not by where a market begins; by the code, not by the place
    later = replace(market, dates=market.dates[3:], **{})
    assert (due_names(later, 0, rule, none) == turns[3]).all()
    assert (sub_books(market.codes[::-1], 5)[::-1] == sub_books(market.codes, 5)).all()


def test_an_evening_decides_about_its_sub_book_and_unfinished_orders() -> None:
    market = market_of()
    rule = replace(OPEN, tranches=4)
    turn = due_names(market, 0, rule, np.zeros(20, bool))
    found = decided(market, rule, n15=25_000, n16=25_000, n17=25_000, n18=25_000)
    left = {n for n, (shares, _) in why(found).items() if shares == 0}
    assert left == {n for n in range(15, 19) if turn[n]}
    waiting = np.zeros(20, bool)
    waiting[[n for n in range(15, 19) if not turn[n]]] = True
    holding = book(market, n15=25_000, n16=25_000, n17=25_000, n18=25_000)
    again = decide(market, 0, ranked(), holding, rule, waiting)
    assert (again.shares[15:19] == 0).all()


def test_a_book_is_built_in_as_many_evenings_as_there_are_sub_books() -> None:
    market = market_of(100, days=5)
    rule = replace(OPEN, names=20, tranches=5)
    shares, counts = np.zeros(100, np.int64), []
    for t in range(5):
        shares = decide(market, t, ranked(100), Book(shares, market.close[t].astype(float), NAV), rule).shares
        counts.append(int((shares > 0).sum()))
    assert counts[-1] == 20 and counts[0] < 12
    assert (shares[:20] == 5_000).all()


# -- long and short ---------------------------------------------------------------------------------------------------

DECILES = replace(OPEN, side=BookSide.LONG_SHORT, drift_band=0.3)


def test_the_best_decile_of_each_sector_is_bought_and_the_worst_sold() -> None:
    sector = np.repeat([50, 100], [40, 20])
    found = decided(market_of(60, sector=sector), DECILES)
    assert np.flatnonzero(found.shares > 0).tolist() == [0, 1, 2, 3, 40, 41]
    assert np.flatnonzero(found.shares < 0).tolist() == [36, 37, 38, 39, 58, 59]
    assert found.weights[sector == 50].sum() == found.weights[sector == 100].sum() == pytest.approx(0)
    assert np.abs(found.weights).sum() == pytest.approx(1, abs=0.02)
    assert np.abs(found.weights[sector == 50]).sum() == pytest.approx(2 / 3, abs=0.02)  # as large as its sector


def test_shorts_are_the_worst_that_can_be_borrowed_and_the_sides_are_equal() -> None:
    shortable = np.ones((1, 40), bool)
    shortable[0, 37:] = False
    found = decided(market_of(40, shortable=shortable), DECILES)
    assert np.flatnonzero(found.shares < 0).tolist() == [33, 34, 35, 36]
    shortable[0, 21:] = False
    few = decided(market_of(40, shortable=shortable), DECILES)  # one name is left in the worse half
    assert np.flatnonzero(few.shares < 0).tolist() == [20]
    assert few.weights.sum() == pytest.approx(0, abs=0.01)
    none = decided(market_of(40, shortable=np.zeros((1, 40), bool)), DECILES)
    assert not none.shares.any()


def test_a_short_position_stays_in_the_buffer_and_is_bought_back_beyond() -> None:
    found = why(decided(market_of(40), DECILES, n33=-12_500, n25=-12_500, n5=12_500, n10=12_500))
    assert found[33][1] == found[5][1] == "buffer"
    assert found[25] == found[10] == (0, "exit_rank")


def test_sectors_that_are_too_small_are_left_out() -> None:
    sector = np.r_[np.full(31, 50), np.full(9, 100)]
    found = decided(market_of(40, sector=sector), DECILES)
    assert not found.shares[sector == 100].any() and np.abs(found.weights).sum() == pytest.approx(1, abs=0.02)


# -- by linear programme ----------------------------------------------------------------------------------------------


def whole_programme(alpha: np.ndarray, held: np.ndarray, rule: Rule, sector: np.ndarray, kappa: float) -> float:
    """Value of the same programme written another way: weights and absolute changes, dense, without the split."""
    n = len(alpha)
    eye = np.eye(n)
    shares = np.array([(sector == s).mean() for s in np.unique(sector)])
    member = np.array([sector == s for s in np.unique(sector)], float)
    left = [np.c_[eye, -eye], np.c_[-eye, -eye], np.c_[member, 0 * member], np.c_[-member, 0 * member],
            np.r_[np.ones(n), np.zeros(n)][None], np.r_[np.full(n, 0.5), np.full(n, 0.5)][None],
            np.r_[np.full(n, -0.5), np.full(n, 0.5)][None]]  # fmt: skip
    right = [held, -held, shares + rule.sector_band, -np.maximum(shares - rule.sector_band, 0), [rule.gross],
             [rule.turnover_cap + held.sum() / 2], [rule.turnover_cap - held.sum() / 2]]  # fmt: skip
    # purchases are half of changes and of the difference of sums, sales the other half
    bounds = [(0, rule.name_cap)] * n + [(0, None)] * n
    found = linprog(np.r_[-alpha, np.full(n, kappa)], np.vstack(left), np.concatenate(right), bounds=bounds)
    assert found.success
    return -float(found.fun)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32 - 1), st.sampled_from([0.0, 0.3, 2.0]))
def test_weights_are_the_best_there_are(seed: int, kappa: float) -> None:
    rng = np.random.default_rng(seed)
    n = 40
    market = market_of(n, sector=rng.integers(1, 5, n) * 50)
    rule = replace(OPEN, name_cap=0.1, sector_band=0.1, turnover_cap=0.6, kappa=kappa)
    held = np.full(n, 1 / n)  # within the bands, so that they hold exactly
    scores = rng.normal(size=n).astype(np.float32)
    evening = evening_of(market, 0, scores, rule, np.full(n, 1e-5), NAV)
    wanted = optimal_weights(evening, scores, held, rule, np.ones(n, bool), kappa)
    value = scores @ wanted.weights - kappa * np.abs(wanted.weights - held).sum()
    assert value == pytest.approx(whole_programme(scores.astype(float), held, rule, market.sector[0], kappa), abs=1e-6)
    assert (wanted.weights >= 0).all() and wanted.weights.max() <= 0.1 + 1e-9 and wanted.weights.sum() <= 1 + 1e-9


def test_a_dear_trade_is_not_made_and_what_must_go_goes() -> None:
    eligible = np.ones((1, 20), bool)
    eligible[0, 3] = False
    market = market_of(eligible=eligible)
    held = {f"n{n}": 5_000 for n in range(19)}
    idle = decided(market, replace(OPEN, kappa=1e6), **held)
    assert idle.shares[3] == 0 and REASONS[idle.reason[3]] == "exit_universe"
    assert (np.delete(idle.shares[:19], 3) == 5_000).all()
    eager = decided(market, replace(OPEN, kappa=0.0, name_cap=0.25), ranked() + 20, **held)
    assert np.flatnonzero(eager.shares).tolist() == [0, 1, 2, 4]
    assert Counter(REASONS[r] for r in eager.reason if r != NO_REASON)["exit_rank"] == 14


# -- refusals ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"names": 0}, "names of a rule is 0: 1 is the least"),
        ({"buffer": 0.5}, "buffer of a rule is 0.5"),
        ({"tranches": 0}, "tranches of a rule is 0"),
        ({"name_cap": 4}, r"name_cap of a rule is 4: a share above 0, 1 at most \(0.05 is 5 %\)"),
        ({"adv_share": 0}, "adv_share of a rule is 0"),
        ({"turnover_cap": float("nan")}, "turnover_cap of a rule is nan"),
        ({"gross": 1.5}, "gross of a rule is 1.5"),
        ({"drift_band": 1}, "drift_band of a rule is 1"),
        ({"decile": 0.6}, "decile of a rule is 0.6"),
        ({"side": "short"}, "'short' is not a valid"),
        ({"kappa": -1}, "kappa of a rule is -1"),
        ({"kappa": 1, "side": "long_short"}, "of a long book only"),
    ],
)
def test_a_rule_that_cannot_be_is_refused(wrong: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        Rule(**wrong)


def test_what_does_not_fit_is_refused() -> None:
    market = market_of()
    with pytest.raises(ValueError, match=r"the market has 20 names, but scores are \(3,\)"):
        decide(market, 0, np.zeros(3, np.float32), book(market), OPEN)
    with pytest.raises(ValueError, match="a book of 0 JPY cannot be invested"):
        decide(market, 0, ranked(), book(market, nav=0), OPEN)
