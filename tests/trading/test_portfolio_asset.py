"""`portfolio` and `orders` as assets: what an evening writes, what is held, evenings that decide nothing."""

import json
import shutil
from datetime import date
from pathlib import Path

import dagster as dg
import numpy as np
import polars as pl
import pytest

from atft_assets.calendar import trading_days
from atft_assets.store import Store
from atft_assets.trading import orders, portfolio
from atft_assets.trading.champion import Champion, Promotion, install
from atft_assets.trading.costs import PRESETS
from atft_assets.trading.daily_scores import WITHHELD
from atft_assets.trading.fills import Orders, fill
from atft_assets.trading.loading import market_of
from atft_assets.trading.orders import Check
from atft_assets.trading.orders_asset import orders_asset
from atft_assets.trading.portfolio_asset import portfolio_asset
from atft_assets.trading.rulebook import CAPITAL
from atft_assets.trading.scores_asset import daily_scores_asset
from tests.trading.evenings import RESOURCES, TONIGHT, book, publish_scores, with_master
from tests.training.small_market import World, catalogue
from tests.training.test_phases import checks, failure

RULE = {"names": 10, "tranches": 1, "buffer": 1}
BEFORE = date(2020, 6, 29)
KINDS = (".parquet", ".csv")


@pytest.fixture(scope="module")
def _listed(_world: World, tmp_path_factory: pytest.TempPathFactory) -> World:
    root = tmp_path_factory.mktemp("listed") / "data"
    shutil.copytree(_world.root, root)
    settings = _world.settings.model_copy(update={"data_root": str(root)})
    return with_master(World(root, Store(root=str(root)), settings, _world.days, _world.codes, _world.returns))


@pytest.fixture
def listed(_listed: World, tmp_path: Path) -> World:
    """The market with a master, which a test may break."""
    root = tmp_path / "listed"
    shutil.copytree(_listed.root, root)
    settings = _listed.settings.model_copy(update={"data_root": str(root)})
    return World(root, Store(root=str(root)), settings, _listed.days, _listed.codes, _listed.returns)


def scores(world: World, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).permutation(len(world.codes)).astype(np.float32)


def rows(world: World, day: date = TONIGHT) -> pl.DataFrame:
    return world.store.table(portfolio.GROUP, portfolio.NAME).read().filter(pl.col("date") == day)


def ordered(world: World, day: date = TONIGHT) -> pl.DataFrame:
    return world.store.table(orders.GROUP, orders.NAME).read().filter(pl.col("date") == day)


def files(world: World) -> dict[str, bytes]:
    folder = world.store.local("trading")
    found = [path for name in ("portfolio", "orders") for path in folder.glob(f"{name}/*") if path.suffix in KINDS]
    return {str(path.relative_to(folder)): path.read_bytes() for path in found}


def test_the_first_evening_buys_the_best_and_writes_a_file(listed: World, instance: dg.DagsterInstance) -> None:
    publish_scores(listed, TONIGHT, scores(listed))
    result = book(listed, instance, rule=RULE)
    assert result.success, failure(result)
    held = rows(listed)
    assert held.schema == pl.Schema(portfolio.SCHEMA) and held["held"].sum() == 0
    assert held["cash"].unique().to_list() == [CAPITAL] == held["nav"].unique().to_list()
    found = ordered(listed)
    assert found.schema == pl.Schema(orders.SCHEMA) and 3 <= found.height <= 10
    assert set(found["side"]) == {"BUY"} and set(found["effect"]) == {"CASH"}
    assert (found["trade_date"] == date(2020, 7, 1)).all() and found["order_id"].is_unique().all()
    names = dict(zip(listed.codes, (f"会社{n}" for n in range(40)), strict=True))
    assert found["name"].to_list() == [names[code] for code in found["code"]]
    csv = listed.store.local("trading", "orders", "2020-07-01.csv").read_text("utf-8-sig").splitlines()
    assert len(csv) == found.height + 1
    verdicts = checks(result)
    assert {name for asset, name in verdicts if asset == "orders"} == {"contract", *Check}
    assert all(one.passed for one in verdicts.values())


def test_the_same_evening_again_is_the_same_files(listed: World, instance: dg.DagsterInstance) -> None:
    """Pitfall 26, of the orders; and an evening of before does not move when a later one was decided."""
    publish_scores(listed, BEFORE, scores(listed))
    assert book(listed, instance, BEFORE, rule=RULE).success
    publish_scores(listed, TONIGHT, scores(listed, 1))
    assert book(listed, instance).success  # the rule stays
    first, table = files(listed), ordered(listed)
    tables = {"portfolio/2020-06.parquet", "orders/2020-06.parquet"}
    assert set(first) == {*tables, "orders/2020-06-30.csv", "orders/2020-07-01.csv"} and table.height
    for day in (TONIGHT, BEFORE, TONIGHT):
        assert book(listed, instance, day, **({"rule": RULE} if day == BEFORE else {})).success
        assert files(listed) == first
    assert rows(listed)["rule"].unique().to_list() == rows(listed, BEFORE)["rule"].unique().to_list()


def test_the_paper_book_goes_on_from_what_was_filled_at_the_open(listed: World, instance: dg.DagsterInstance) -> None:
    """Against the auction itself: shares, and the cash to the yen."""
    publish_scores(listed, BEFORE, scores(listed))
    assert book(listed, instance, BEFORE, rule=RULE).success
    before = ordered(listed, BEFORE)
    publish_scores(listed, TONIGHT, scores(listed, 1))
    assert book(listed, instance).success
    market = market_of(listed.store, date(2020, 6, 1), TONIGHT)
    shares, rank = (np.zeros(len(market.codes), kind) for kind in (np.int64, np.float64))
    for row in before.iter_rows(named=True):
        n = market.codes.index(row["code"])
        shares[n], rank[n] = row["shares"], row["rank"]
    nothing = np.zeros_like(shares)
    filled = fill(market, market.dates.index(TONIGHT), Orders(shares, rank), nothing, CAPITAL, PRESETS["retail_zero"])
    tonight = rows(listed)
    held = {row["code"]: row["held"] for row in tonight.iter_rows(named=True) if row["held"]}
    assert held == {code: n for code, n in zip(market.codes, filled.shares.tolist(), strict=True) if n} != {}
    assert tonight["cash"][0] == pytest.approx(CAPITAL - filled.paid, abs=0.01)
    value = sum(n * float(market.close[-1, market.codes.index(code)].round(1)) for code, n in held.items())
    assert tonight["nav"][0] == pytest.approx(tonight["cash"][0] + value, rel=1e-6)
    for row in ordered(listed).iter_rows(named=True):
        mine = tonight.filter(pl.col("code") == row["code"])
        sign = 1 if row["side"] == "BUY" else -1
        assert mine["held"][0] + sign * row["shares"] == mine["shares"][0]


def test_a_promoted_rule_is_followed_and_a_persons_changes_hold_as_long_as_it_does(
    listed: World, instance: dg.DagsterInstance
) -> None:
    """A rollback brings the old rule back, without the changes that were made of it: a new name is a new rule."""
    for name, rule in (("c1", "default"), ("c2", "concentrated")):
        champion = Champion(name, "network", "main", "r", "p", "h", TONIGHT, portfolio_rule=rule)
        install(listed.store.local(portfolio.GROUP), Promotion("2020-07-01", "champion", champion))
    found = {}
    evenings = trading_days(date(2020, 6, 24), TONIGHT)
    for day, name in zip(evenings, ("c1", "c1", "c2", "c2", "c1"), strict=True):
        publish_scores(listed, day, scores(listed), name=name)
        given = {"rule": {"name_cap": 0.3}} if day in (evenings[0], evenings[2]) else {}
        assert book(listed, instance, day, **given).success
        row = rows(listed, day).row(0, named=True)
        rule = json.loads(row["rule"])
        found[day] = (row["rule_name"], rule["names"], rule["name_cap"])
    ours, theirs = ("default", 20), ("concentrated", 12)  # of forty names
    assert list(found.values()) == [(*ours, 0.3), (*ours, 0.3), (*theirs, 0.3), (*theirs, 0.3), (*ours, 0.1)]


def test_a_withheld_evening_keeps_the_targets_and_orders_nothing(listed: World, instance: dg.DagsterInstance) -> None:
    """Pitfall 28, of the orders: no failure, an empty file; the evening after goes on from the one that decided."""
    two_before = date(2020, 6, 26)
    publish_scores(listed, two_before, scores(listed))
    assert book(listed, instance, two_before, rule=RULE).success
    publish_scores(listed, BEFORE, scores(listed, 1), WITHHELD)
    result = book(listed, instance, BEFORE)
    assert result.success and all(one.passed for one in checks(result).values())
    said = result.asset_materializations_for_node("portfolio")[0].metadata
    assert said["status"].value == "withheld" and "the targets of 2020-06-26 stand" in said["said"].value
    assert result.asset_materializations_for_node("orders")[0].metadata["orders"].value == 0
    assert rows(listed, BEFORE).is_empty() and ordered(listed, BEFORE).is_empty()
    lines = listed.store.local("trading", "orders", "2020-06-30.csv").read_text("utf-8-sig").splitlines()
    assert len(lines) == 1 and lines[0].startswith('"order_id"')
    publish_scores(listed, TONIGHT, scores(listed, 1))
    assert book(listed, instance).success
    assert rows(listed)["held"].sum() > 0 and ordered(listed).height > 0


def test_an_evening_that_is_withheld_afterwards_loses_its_orders(listed: World, instance: dg.DagsterInstance) -> None:
    publish_scores(listed, TONIGHT, scores(listed))
    assert book(listed, instance, rule=RULE).success and ordered(listed).height > 0
    publish_scores(listed, TONIGHT, scores(listed), WITHHELD)
    assert book(listed, instance, select=["orders"]).success
    assert ordered(listed).is_empty() and not rows(listed).is_empty()
    assert book(listed, instance).success
    assert ordered(listed).is_empty() and rows(listed).is_empty()
    assert len(listed.store.local("trading", "orders", "2020-07-01.csv").read_text("utf-8-sig").splitlines()) == 1


def test_of_an_evening_that_left_no_scores_nothing_is_ordered(listed: World, instance: dg.DagsterInstance) -> None:
    """The refresh is of an evening on which nobody traded: yesterday's scores are not taken for tonight's."""
    publish_scores(listed, BEFORE, scores(listed))
    assert book(listed, instance, None, tags={"atft/trading_day": "2020-06-30"}).success
    assert ordered(listed).is_empty()
    assert len(listed.store.local("trading", "orders", "2020-07-01.csv").read_text("utf-8-sig").splitlines()) == 1


def test_without_a_champion_nothing_is_decided_and_nothing_fails(listed: World, instance: dg.DagsterInstance) -> None:
    result = book(listed, instance, select=["portfolio"])
    assert result.success and result.asset_materializations_for_node("portfolio") == []
    assert all(one.passed and "there was no champion" in one.description for one in checks(result).values())
    result = book(listed, instance, select=["orders"])
    assert result.success and len(checks(result)) == 1 + len(Check) and files(listed) == {}


def write(world: World, text: str) -> None:
    path = world.store.local("trading", "holdings.csv")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def test_a_brokers_file_is_what_is_held(listed: World, instance: dg.DagsterInstance) -> None:
    """Odd shares stay and are flagged; a name that is no longer wanted is sold in whole lots."""
    publish_scores(listed, TONIGHT, -np.arange(40.0))
    worst, good = listed.codes[30], listed.codes[1]
    write(listed, f"code,shares\n{worst[:4]},1150\n{good},200\ncash,5000000\n")
    result = book(listed, instance, rule=RULE)
    assert result.success, failure(result)
    tonight = rows(listed)
    assert tonight["book"].unique().to_list() == ["broker"] and tonight["cash"][0] == 5e6
    sold = tonight.filter(pl.col("code") == worst)
    assert sold["held"][0] == 1150 and sold["odd"][0] and sold["shares"][0] % 100 == 50
    assert ordered(listed).filter(pl.col("code") == worst)["side"].to_list() == ["SELL"]
    assert f"odd lots are kept: {worst}" in str(
        result.asset_materializations_for_node("portfolio")[0].metadata["notes"]
    )


def test_without_a_line_of_cash_the_capital_says_it(listed: World, instance: dg.DagsterInstance) -> None:
    publish_scores(listed, TONIGHT, scores(listed))
    write(listed, f"code,shares\n{listed.codes[0]},100\n")
    assert book(listed, instance, rule=RULE, capital=3_000_000).success
    tonight = rows(listed)
    assert tonight["nav"][0] == pytest.approx(3_000_000) and 0 < tonight["cash"][0] < 3_000_000


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({"holdings": "/nowhere/held.csv"}, "which is no file"),
        ({"costs": "free"}, "the config `costs` is 'free': use one of retail_zero, retail_classic, ib, institution"),
        ({"rule": {"naems": 3}}, "the config `rule` cannot be used"),
        ({"rule": {"names": 0}}, "names of a rule is 0"),
    ],
)
def test_a_wrong_config_is_a_sentence(listed: World, instance: dg.DagsterInstance, config, said: str) -> None:
    publish_scores(listed, TONIGHT, scores(listed))
    assert said in failure(book(listed, instance, select=["portfolio"], **config))


def test_an_unknown_code_in_the_file_is_a_sentence(listed: World, instance: dg.DagsterInstance) -> None:
    publish_scores(listed, TONIGHT, scores(listed))
    write(listed, "code,shares\n9999,100\n")
    said = failure(book(listed, instance, select=["portfolio"]))
    assert said.startswith("portfolio cannot be computed: ") and "line 2: 9999 is no share of the universe" in said


def test_orders_with_a_limit_are_inside_the_band(listed: World, instance: dg.DagsterInstance) -> None:
    publish_scores(listed, TONIGHT, scores(listed))
    assert book(listed, instance, rule=RULE, order={"order_type": "LOO", "tolerance": 0.9}).success
    found = ordered(listed)
    assert set(found["order_type"]) == {"LOO"} and (found["limit_price"] == found["limit_up"]).all()


def test_what_breaks_a_check_is_not_published(listed: World, instance: dg.DagsterInstance) -> None:
    """A target beyond the cap, as only another program could write it: the old file stands."""
    publish_scores(listed, TONIGHT, scores(listed))
    assert book(listed, instance, rule=RULE).success
    before = files(listed)
    table = listed.store.table(portfolio.GROUP, portfolio.NAME)
    broken = table.read().with_columns(shares=pl.col("shares") * 20, weight=pl.col("weight") * 20)
    table.publish([table.stage("2020-06", broken, code_version="t")])
    result = book(listed, instance, select=["orders"])
    assert not result.success and "no order is to be sent" in failure(result)
    wrong = {name for (_, name), one in checks(result).items() if not one.passed}
    assert wrong == {"caps", "cash"}
    assert files(listed)["orders/2020-07-01.csv"] == before["orders/2020-07-01.csv"] and ordered(listed).height > 0


def test_in_one_run_without_a_champion_nothing_follows_and_the_run_goes_well(
    listed: World, instance: dg.DagsterInstance
) -> None:
    """As the nightly refresh of a root on which nothing was trained yet."""
    read = ("data_release", "promotion", "labels", "daily_quotes", "listed_info", "topix", "universe")
    road = ("daily_scores", "portfolio", "orders")
    result = dg.materialize(
        [
            daily_scores_asset(listed.settings, catalogue),
            portfolio_asset(listed.settings),
            orders_asset(listed.settings),
            *map(dg.AssetSpec, read),
        ],
        selection=list(road),
        partition_key="2020-06",
        resources={"store": listed.store, **RESOURCES},
        instance=instance,
        raise_on_error=False,
    )
    assert result.success and not any(result.asset_materializations_for_node(name) for name in road)
