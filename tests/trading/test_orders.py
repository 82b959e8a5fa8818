"""Orders as pure functions: names, lots, ticks, bands, caps, cash; the file; brokers; files of holdings."""

import csv
import io
from dataclasses import asdict, replace
from datetime import date
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from atft_assets.calendar import next_trading_day
from atft_assets.trading.brokers import kabu_station, to_csv
from atft_assets.trading.costs import PRESETS
from atft_assets.trading.holdings import Holdings, HoldingsRefused, read_holdings, read_wishes
from atft_assets.trading.market import Market
from atft_assets.trading.orders import (
    CONTRACT,
    Check,
    OrderRefused,
    Ways,
    broken_rows,
    checks_of,
    effect_of,
    limit_prices_of,
    orders_of,
    symbol_of,
)
from atft_assets.trading.policy import BookSide, Rule
from atft_assets.trading.portfolio import CONTRACT as TARGETS
from atft_assets.trading.portfolio import Tomorrow, estimated_cost, rows_of, targets_of, tomorrow_of
from atft_assets.trading.portfolio import broken_rows as broken_targets
from atft_assets.trading.rules import LOT, Effect, OrderType, Side, limit_prices, on_the_grid
from atft_assets.trading.standing import Standing, broker_book, fresh, last_closes, paper_book
from tests.trading.made import made_market
from tests.trading.random_market import changed_after, random_market, random_scores

ZERO, AT_MARKET = PRESETS["retail_zero"], Ways()
RULES = {
    "few": Rule(names=5, tranches=1, buffer=1, name_cap=0.2, sector_band=0.3, turnover_cap=1, liquid_only=False),
    "usual": Rule(names=6, name_cap=0.15, sector_band=0.2),
    "both": Rule(side=BookSide.LONG_SHORT, tranches=1, decile=0.3, name_cap=0.2, gross=1.5, liquid_only=False),
}


def evening_after(market: Market, t: int) -> Tomorrow:
    listed = np.isfinite(market.close[t]) | ~market.last_day[: t + 1].any(axis=0)
    return tomorrow_of(market, t, next_trading_day(market.dates[t]), market.fine_tick[t], listed)


def decided(
    market: Market,
    t: int,
    scores: np.ndarray,
    standing: Standing,
    rule: Rule,
    ways: Ways = AT_MARKET,
    strategy: str = "main",
) -> tuple[pl.DataFrame, pl.DataFrame, dict[Check, list[str]]]:
    """Targets, orders and what is wrong with them."""
    tomorrow = evening_after(market, t)
    decision = targets_of(market, t, scores, standing, rule, ZERO, tomorrow)
    targets = rows_of(market, t, decision, standing, tomorrow.day, strategy, "default", "{}", ZERO.name)
    orders = orders_of(market, t, targets, tomorrow, ZERO, ways, {}, {})
    wrong = checks_of(orders, targets, market, t, scores, standing, rule, ZERO, tomorrow, True)
    return targets, orders, wrong


def some_standing(market: Market, t: int, seed: int, short: bool) -> Standing:
    """A book at random, odd shares among them."""
    rng = np.random.default_rng(seed)
    price = last_closes(market, t).mark
    shares = rng.integers(-3 if short else 0, 8, len(price)) * LOT + rng.choice([0, 0, 0, 50], len(price))
    shares = np.where(np.isfinite(price) & (rng.random(len(price)) < 0.5), shares, 0).astype(np.int64)
    held = np.flatnonzero(shares)
    cash = float(rng.uniform(0, 3e6)) + max(-float(shares[held] @ price[held]), 0) + 1e5
    return Standing(shares, price, cash, rng.random(len(price)) < 0.3)


@settings(max_examples=150, deadline=None)
@given(st.integers(0, 10_000), st.sampled_from(sorted(RULES)), st.sampled_from(["MOO", "LOO"]))
def test_whatever_is_held_orders_keep_to_lots_ticks_bands_caps_and_cash(seed: int, name: str, kind: str) -> None:
    """Pitfall 17, on markets with splits, dark days and names that leave."""
    market = random_market(seed)
    t = int(np.random.default_rng(seed).integers(3, 20))
    rule, scores = RULES[name], random_scores(seed, market)[t]
    standing = some_standing(market, t, seed, rule.side is BookSide.LONG_SHORT)
    targets, orders, wrong = decided(market, t, scores, standing, rule, Ways(OrderType(kind), 0.05))
    assert wrong == {check: [] for check in Check}
    assert TARGETS.audit(targets, "2021-06").passed and not list(broken_targets(targets))
    assert CONTRACT.audit(orders, "2021-06").passed and not list(broken_rows(orders))
    assert (orders["shares"] % LOT == 0).all() and (orders["shares"] > 0).all()
    if rule.side is BookSide.LONG:  # by hand
        buys = orders.filter(pl.col("side") == "BUY")
        assert (buys["adv_share"] <= rule.adv_share * 1.000001).all()
        spent = buys["est_value"].sum() + orders["est_cost"].sum()
        assert spent <= standing.cash + orders.filter(pl.col("side") == "SELL")["est_value"].sum() + 1
    assert targets.filter(pl.col("odd"))["code"].to_list() == [
        code for code, n in sorted(zip(market.codes, standing.shares, strict=True)) if n % LOT
    ]


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10_000))
def test_orders_know_nothing_of_tomorrow(seed: int) -> None:
    """Pitfall 1: whatever comes after the evening, its orders are the same to the last bit."""
    market, t = random_market(seed), 10
    listed = np.ones(len(market.codes), bool)
    tomorrow = [
        tomorrow_of(one, t, next_trading_day(market.dates[t]), market.fine_tick[t], listed)
        for one in (market, changed_after(market, t, seed))
    ]
    np.testing.assert_array_equal(tomorrow[0].limit_up, tomorrow[1].limit_up)
    np.testing.assert_array_equal(tomorrow[0].limit_down, tomorrow[1].limit_down)
    standing, scores = some_standing(market, t, seed, False), random_scores(seed, market)[t]
    found = [
        targets_of(one, t, scores, standing, RULES["few"], ZERO, tomorrow[0]).shares
        for one in (market, changed_after(market, t, seed))
    ]
    np.testing.assert_array_equal(*found)


def test_the_band_of_tomorrow_is_that_of_the_table_and_wide_after_days_at_the_limit() -> None:
    """Three days locked at the upper limit: 2,019 + 4 x 500, rounded up to the 5 yen of its zone; down as ever."""
    market = made_market([[1_019, 500], [1_319, 500], [1_619, 500], [2_019, 501]])
    assert [market.limit_up[d, 0] for d in (1, 2)] == [1_319, 1_619]
    tomorrow = evening_after(market, 3)
    assert tomorrow.limit_up.tolist() == [4_020, 601] and tomorrow.limit_down.tolist() == [1_519, 401]


def test_names_without_a_band_and_names_that_leave_are_not_ordered() -> None:
    market = made_market([[1_000, 1_000, np.nan], [1_000, 1_000, np.nan]])
    tomorrow = replace(evening_after(market, 1), listed=np.array([True, False, True]))
    assert tomorrow.tradable.tolist() == [True, False, False]
    standing = replace(fresh(market, 1, 1e6), shares=np.array([0, 200, 0]))
    rule = Rule(names=2, tranches=1, buffer=1, name_cap=0.5, sector_band=1, turnover_cap=1, liquid_only=False)
    decision = targets_of(market, 1, np.array([1, np.nan, 2], np.float32), standing, rule, ZERO, tomorrow)
    assert decision.shares.tolist()[1:] == [200, 0] and decision.shares[0] > 0
    assert decision.unfinished[1], "it is decided again"


def test_costs_are_paid_from_what_is_there() -> None:
    """A rule that invests everything leaves no yen for costs: the worst purchase gives way."""
    market = made_market(np.full((3, 2), 1_000.0), adv=1e9)
    rule = Rule(
        names=2, tranches=1, buffer=1, name_cap=0.5, sector_band=1, turnover_cap=1, adv_share=1, liquid_only=False
    )
    targets, orders, wrong = decided(market, 2, np.array([2, 1], np.float32), fresh(market, 2, 1e6), rule)
    assert targets["shares"].to_list() == [500, 400] and targets["cut"].to_list() == [False, True]
    cost = estimated_cost(market, 2, evening_after(market, 2), ZERO, np.array([500, 400]), np.array([1e3, 1e3]))
    by_hand = [v * (max(0.5 / 1000, 5e-4) + 0.8 * 0.02 * np.sqrt(v / 1e9)) for v in (5e5, 4e5)]
    np.testing.assert_allclose(cost, by_hand)
    np.testing.assert_allclose(orders["est_cost"], by_hand, atol=0.01)
    assert wrong[Check.CASH] == []


# -- the paper book ----------------------------------------------------------------------------------------------------


def row(market: Market, t: int, held: int, shares: int, cash: float) -> pl.DataFrame:
    standing = replace(fresh(market, t, cash), shares=np.array([held, 0]))
    tomorrow = evening_after(market, t)
    rule = Rule(
        names=1, tranches=1, buffer=1, name_cap=1, sector_band=1, adv_share=1, turnover_cap=1, liquid_only=False
    )
    decision = targets_of(market, t, np.array([1, np.nan], np.float32), standing, rule, ZERO, tomorrow)
    decision = replace(decision, shares=np.array([shares, 0]), unfinished=np.zeros(2, bool))
    return rows_of(market, t, decision, standing, tomorrow.day, "main", "default", "{}", ZERO.name)


def test_a_split_a_dark_day_and_evenings_without_a_decision() -> None:
    """Pitfall 7: 100 held, 300 wanted on the evening before a 2-for-1 split: 600 are held after, then nothing moves."""
    market = made_market(
        [[1_000, 500], [500, 500], [np.nan, 500], [520, 500]], adj_factor=[[1, 1], [0.5, 1], [1, 1], [1, 1]], adv=1e12,
        value=1e12,
    )  # fmt: skip
    before = row(market, 0, 100, 300, 1e6)
    for t in (1, 2, 3):
        found = paper_book(market, t, before, ZERO)
        assert found.shares.tolist() == [600, 0] and not found.unfinished[0]
        assert found.price[0] == (520 if t == 3 else 500)
        assert found.cash == pytest.approx(1e6 - 400 * 500, rel=1e-3) and found.cash < 1e6 - 400 * 500


def test_an_order_that_was_not_filled_is_decided_again() -> None:
    market = made_market([[1_000, 500], [np.nan, 500]], adv=1e12)
    found = paper_book(market, 1, row(market, 0, 0, 300, 1e6), ZERO)
    assert found.shares.tolist() == [0, 0] and found.cash == 1e6 and found.unfinished.tolist() == [True, False]


def test_a_dividend_counts_as_cash_on_its_ex_date() -> None:
    market = made_market([[1_000, 500], [990, 500]], dividend=[[0, 0], [10, 0]], dividends_known=True)
    found = paper_book(market, 1, row(market, 0, 100, 100, 1e5), ZERO)
    assert found.cash == 1e5 + 1_000 and found.nav == 2e5


def test_a_brokers_book_decides_again_what_it_does_not_hold_yet() -> None:
    market = made_market([[1_000, 500], [1_000, 500]])
    before = row(market, 0, 0, 300, 1e6)
    part = broker_book(market, 1, Holdings({"10000": 100}), 1e6, before)
    assert part.unfinished.tolist() == [True, False] and part.cash == 9e5
    whole = broker_book(market, 1, Holdings({"10000": 300}, 0.0), 1e6, before)
    assert not whole.unfinished.any() and whole.cash == 0 and whole.nav == 3e5


# -- single orders -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("code", "symbol"), [("13010", "1301"), ("130A0", "130A"), ("72030", "7203")])
def test_a_symbol_is_the_code_without_its_zero(code: str, symbol: str) -> None:
    assert symbol_of(code) == symbol


@pytest.mark.parametrize("code", ["25935", "1301", "130A5"])
def test_a_preferred_share_is_refused_with_a_sentence(code: str) -> None:
    """Pitfall 27."""
    with pytest.raises(OrderRefused, match=f"{code} is no common share: its code does not end in 0"):
        symbol_of(code)
    market = made_market([[1_000, 1_000]] * 2, codes=[code if len(code) == 5 else "25935", "99990"])
    rule = RULES["few"]
    if len(code) == 5:
        with pytest.raises(OrderRefused, match="no common share"):
            decided(market, 1, np.array([1, np.nan], np.float32), fresh(market, 1, 1e7), rule)


@pytest.mark.parametrize(
    ("held", "target", "effect"),
    [
        (0, 100, Effect.CASH),
        (300, 0, Effect.CASH),
        (0, -100, Effect.MARGIN_OPEN),
        (-300, -100, Effect.MARGIN_CLOSE),
        (-300, 0, Effect.MARGIN_CLOSE),
    ],
)
def test_what_an_order_does_to_the_account(held: int, target: int, effect: Effect) -> None:
    assert effect_of(held, target) is effect


def test_one_order_does_not_turn_a_position_round() -> None:
    with pytest.raises(OrderRefused, match="closes one position and opens another"):
        effect_of(100, -100)


@given(st.lists(st.integers(1, 99_999), min_size=1, max_size=20), st.floats(0, 0.99), st.booleans(), st.booleans())
def test_limits_can_be_quoted_and_lie_in_the_band(prices: list[int], tolerance: float, fine: bool, buy: bool) -> None:
    price, day = np.array(prices, float), date(2024, 6, 3)
    fines = np.full(len(price), fine)
    up, down = limit_prices(price, day, fine)
    tomorrow = Tomorrow(day, up, down, fines, np.ones(len(price), bool))
    found = limit_prices_of(np.full(len(price), 100 if buy else -100), price, tomorrow, tolerance)
    assert on_the_grid(found, day, fines).all() and (down <= found).all() and (found <= up).all()
    assert (
        (found <= np.maximum(price * (1 + tolerance), down))
        if buy
        else (found >= np.minimum(price * (1 - tolerance), up))
    ).all()


# -- each check can fail -----------------------------------------------------------------------------------------------


def planted() -> tuple[Market, pl.DataFrame, pl.DataFrame, Standing, Rule]:
    market = made_market(np.full((3, 4), 1_000.0), sector=[1, 1, 2, 2])
    rule = Rule(
        names=4,
        tranches=1,
        buffer=1,
        name_cap=0.3,
        sector_band=0.2,
        turnover_cap=0.9,
        adv_share=0.01,
        liquid_only=False,
    )
    standing = replace(fresh(market, 2, 9e6), shares=np.array([1_000, 0, 0, 0]))
    targets, orders, wrong = decided(market, 2, np.array([4, 3, 2, 1], np.float32), standing, rule, Ways(OrderType.LOO))
    assert not any(wrong.values()) and orders.height >= 3
    return market, targets, orders, standing, rule


def first(column: str, value: object, dtype: object = None) -> pl.Expr:
    return pl.when(pl.int_range(pl.len()) == 0).then(pl.lit(value, dtype)).otherwise(column).alias(column)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("check", "change", "said"),
    [
        (Check.LOTS, first("shares", 150, pl.Int32), "no whole lots"),
        (Check.LOTS, first("shares", 100, pl.Int32), "are not the target"),
        (Check.TICKS, first("limit_price", 1_000.5, pl.Float32), "cannot be quoted"),
        (Check.BANDS, first("limit_price", 1_301, pl.Float32), "is outside 700.0 to 1,300.0"),
        (Check.BANDS, first("limit_price", None, pl.Float32), "is LOO with a limit of None"),
        (Check.CAPS, first("shares", 4_000, pl.Int32), "would weigh"),
        (Check.CAPS, first("shares", 10_100, pl.Int32), "is beyond 1% of the usual"),
        (Check.CASH, first("shares", 9_000, pl.Int32), "cash of 9,000,000 JPY would become"),
    ],
)
def test_a_planted_fault_is_found(check: Check, change: pl.Expr, said: str) -> None:
    market, targets, orders, standing, rule = planted()
    scores = np.array([4, 3, 2, 1], np.float32)
    wrong = checks_of(
        orders.with_columns(change), targets, market, 2, scores, standing, rule, ZERO, evening_after(market, 2), True
    )
    assert any(said in text for text in wrong[check]), wrong


def test_orders_of_a_withheld_evening_are_found() -> None:
    market, targets, orders, standing, rule = planted()
    scores = np.array([4, 3, 2, 1], np.float32)
    wrong = checks_of(orders, targets, market, 2, scores, standing, rule, ZERO, evening_after(market, 2), False)
    assert "whose scores were withheld" in wrong[Check.PUBLISHED][0]
    lacking = checks_of(
        orders.clear(), targets, market, 2, scores, standing, rule, ZERO, evening_after(market, 2), False
    )
    assert lacking[Check.PUBLISHED] == [] and "nothing ordered" in lacking[Check.LOTS][0]


@pytest.mark.parametrize(
    ("change", "column"),
    [
        (first("shares", 150, pl.Int32), "shares"),
        (first("shares", 0, pl.Int32), "shares"),
        (first("order_id", "x"), "order_id"),
        (first("symbol", "9999"), "symbol"),
        (first("limit_price", 5_000, pl.Float32), "limit_price"),
        (first("limit_price", None, pl.Float32), "limit_price"),
    ],
)
def test_the_contract_refuses(change: pl.Expr, column: str) -> None:
    *_, orders, _, _ = planted()
    broken = orders.with_columns(change)
    assert column in CONTRACT.audit(broken, "2021-06", also=tuple(broken_rows(broken))).failures["column"].to_list()


# -- the file ----------------------------------------------------------------------------------------------------------


def test_the_file_opens_in_excel() -> None:
    """Pitfall 27: a byte order mark, codes as text, no exponent, dates ISO; prices as they are quoted."""
    day, codes = date(2024, 6, 3), ["13010", "130A0", "99990"]
    market = made_market([[1_234.5, 5e7, 80.0]] * 3, codes=codes, fine_tick=True, first=day, adv=1e12)
    rule = Rule(names=3, tranches=1, buffer=1, name_cap=0.34, sector_band=1, turnover_cap=1, liquid_only=False)
    _, orders, _ = decided(
        market, 2, np.array([3, 2, 1], np.float32), fresh(market, 2, 2e10), rule, Ways(OrderType.LOO)
    )
    data = to_csv(orders.with_columns(name=pl.lit('株式会社"ア", 日本')))
    assert data.startswith(b"\xef\xbb\xbf") and data == to_csv(orders.with_columns(name=pl.lit('株式会社"ア", 日本')))
    head, *lines = csv.reader(io.StringIO(data.decode("utf-8-sig")))
    table = [dict(zip(head, line, strict=True)) for line in lines]
    assert head == orders.columns
    assert [line["symbol"] for line in table] == ["1301", "130A", "9999"]
    assert [line["code"] for line in table] == ["13010", "130A0", "99990"]
    assert {line["trade_date"] for line in table} == {"2024-06-06"} and {line["name"] for line in table} == {
        '株式会社"ア", 日本'
    }
    assert [line["ref_price"] for line in table] == ["1234.5", "50000000", "80"]
    numbers = [value for line in table for value in line.values() if value[:1].isdigit()]
    assert not [value for value in numbers if "e" in value.lower()]
    assert '"130A0"' in data.decode() and '"13010"' in data.decode()
    for line, row_ in zip(table, orders.iter_rows(named=True), strict=True):
        assert float(line["limit_price"]) == pytest.approx(row_["limit_price"], rel=1e-6)


# -- brokers -----------------------------------------------------------------------------------------------------------

ORDER = {"symbol": "7203", "shares": 300, "limit_price": None, "side": "BUY", "effect": "CASH", "order_type": "MOO"}


def test_kabu_station_is_told_what_its_reference_asks_for() -> None:
    assert kabu_station(ORDER) == {
        "Symbol": "7203", "Exchange": 27, "SecurityType": 1, "Side": "2", "CashMargin": 1, "DelivType": 2,
        "FundType": "02", "AccountType": 4, "Qty": 300, "FrontOrderType": 13, "Price": 0, "ExpireDay": 0,
    }  # fmt: skip
    sell = kabu_station({**ORDER, "side": "SELL", "order_type": "LOO", "limit_price": np.float32(1234.5)}, exchange=9)
    assert (sell["Side"], sell["FrontOrderType"], sell["Price"], sell["Exchange"]) == ("1", 21, 1234.5, 9)
    assert (sell["DelivType"], sell["FundType"]) == (0, "  ") and "MarginTradeType" not in sell
    short = kabu_station({**ORDER, "side": "SELL", "effect": "MARGIN_OPEN"})
    assert (short["CashMargin"], short["MarginTradeType"], short["DelivType"]) == (2, 1, 0)
    cover = kabu_station({**ORDER, "effect": "MARGIN_CLOSE"}, margin_trade=3)
    assert (cover["CashMargin"], cover["ClosePositionOrder"], cover["DelivType"], cover["MarginTradeType"]) == (
        3,
        0,
        2,
        3,
    )


@pytest.mark.parametrize("wrong", [{"exchange": 2}, {"account": 3}, {"margin_trade": 0}])
def test_kabu_station_refuses_what_it_does_not_know(wrong: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="use one of"):
        kabu_station(ORDER, **wrong)


# -- files of holdings -------------------------------------------------------------------------------------------------

KNOWN = ("13010", "130A0", "72030")


def written(folder: Path, text: str, encoding: str = "utf-8") -> Path:
    path = folder / "holdings.csv"
    path.write_bytes(text.encode(encoding))
    return path


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "cp932"])
def test_an_account_is_read(tmp_path: Path, encoding: str) -> None:
    text = 'code,名称,shares\r\n1301,極洋,"1,200"\r\n130a0,,-150\n7203,,0\n\nCASH,,250000.5\n'
    found = read_holdings(written(tmp_path, text, encoding), KNOWN)
    assert found == Holdings({"13010": 1200, "130A0": -150}, 250_000.5) and found.odd == ["130A0"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("code,shares\n9999,100\n", "line 2: 9999 is no share of the universe"),
        ("code,shares\n25935,100\n", "line 2: 25935 is no share of the universe .*preferred"),
        ("code,shares\n1301,many\n", "line 2: 'many' is no number"),
        ("code,shares\n1301,\n", "line 2: '' is no number"),
        ("code,shares\n1301,nan\n", "line 2: 'nan' is no number"),
        ("code,shares\n1301,10.5\n", "line 2: 10.5 of 1301 is no whole number"),
        ("code,shares\n1301,100\n13010,200\n", "line 3: 13010 stands there twice"),
        ("code,shares\ncash,1\ncash,2\n", "line 3: cash stands there twice"),
        ("code,shares\ncash,-5\n", "the cash is -5 JPY"),
        ("code;shares\n1301;100\n", "has no column code and none shares: its first line must be code,shares"),
        ("", "has no column code"),
    ],
)
def test_a_file_that_cannot_be_used_is_a_sentence(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(HoldingsRefused, match=said):
        read_holdings(written(tmp_path, text), KNOWN)


def test_a_file_that_is_not_there_is_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(HoldingsRefused, match="cannot be read: no such file"):
        read_holdings(tmp_path / "nowhere.csv", KNOWN)


def test_wishes_as_the_tutorial_writes_them(tmp_path: Path) -> None:
    text = "date,Local Code,budget\n2021-06-07,1301,50000\n2021-06-07,130A,60000\n2021-06-14,72030,1\n"
    found = read_wishes(written(tmp_path, text))
    assert found["code"].to_list() == ["13010", "130A0", "72030"] and found["rank"].to_list() == [1, 2, 1]
    assert found["date"].to_list()[-1] == date(2021, 6, 14) and found["budget"].sum() == 110_001
    for bad, said in (("June 7,1301,5", "'June 7' is no date"), ("2021-06-07,1301,0", "a budget of 0 buys nothing")):
        with pytest.raises(HoldingsRefused, match=said):
            read_wishes(written(tmp_path, f"date,Local Code,budget\n{bad}\n"))


def test_a_rule_survives_its_way_through_json() -> None:
    import json

    for rule in RULES.values():
        assert Rule(**json.loads(json.dumps(asdict(rule)))) == rule
    assert Side("BUY") is Side.BUY
