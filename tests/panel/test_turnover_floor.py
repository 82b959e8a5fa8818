"""The turnover floor: who is eligible above it, what stays of those below, and that nobody is told by the future."""

import shutil
from datetime import date

import numpy as np
import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from atft_assets.calendar import decision_instant
from atft_assets.features.universe import universe
from atft_assets.panel.build import listed, members, trades_enough
from atft_assets.panel.config import TURNOVER_FLOOR, Label, PanelConfig, Target, with_defaults
from atft_assets.panel.sources import PanelPlan
from atft_assets.settings import Settings
from atft_assets.store import MissingColumns
from tests.features.test_eligibility import CODES, DAYS, market
from tests.training.small_market import World

FLOOR = 30_000_000
CROSSING, BELOW, UNKNOWN = 5, 6, 7  # names whose turnover the tests set; all others trade 25 million and more


def with_turnover(world: World, changes: dict[int, pl.Expr]) -> None:
    """Publish the universe with other turnovers of some names, 100 million of the rest."""
    value = pl.lit(1e8)
    for n, expression in changes.items():
        value = pl.when(pl.col("code") == world.codes[n]).then(expression).otherwise(value)
    frame = world.store.table("features", "universe").read()
    world.publish("features", "universe", frame.with_columns(value.cast(pl.Float64).alias("turnover_mean_60")))


@pytest.fixture
def crossing(world: World) -> World:
    """One name is above the floor in 2019-10 and from 2020-03 on, one never, of one nothing is known."""
    day = pl.col("date")
    above = day.is_between(date(2019, 10, 1), date(2019, 10, 31)) | (day >= date(2020, 3, 2))
    changes = {
        CROSSING: pl.when(above).then(float(FLOOR)).otherwise(FLOOR - 1.0),
        BELOW: pl.lit(FLOOR - 1.0),
        UNKNOWN: pl.lit(None, pl.Float64),
    }
    with_turnover(world, changes)
    return world


def test_a_name_crosses_the_floor_both_ways_and_keeps_its_features(crossing: World) -> None:
    whole, panel = crossing.panel().panel, crossing.panel(turnover_floor=FLOOR).panel
    assert (whole.description.turnover_floor, panel.description.turnover_floor) == (0, FLOOR)
    n = panel.codes.index(crossing.codes[CROSSING])
    all_n = whole.codes.index(crossing.codes[CROSSING])
    above = np.array([(day.year, day.month) == (2019, 10) or day >= date(2020, 3, 2) for day in panel.dates])
    np.testing.assert_array_equal(panel.valid[:, n], whole.valid[:, all_n] & above)
    assert np.flatnonzero(np.diff(above.astype(int))).size == 3  # up, down, up again
    # eligibility alone differs: a window that ends above the floor is whole
    np.testing.assert_array_equal(panel.tensors["x"][:, n], whole.tensors["x"][:, all_n])
    assert panel.tensors["x"][~above & whole.valid[:, all_n], n].any()
    np.testing.assert_array_equal(panel.y[:, :, n], whole.y[:, :, all_n])


def test_names_that_never_reach_the_floor_are_left_out(crossing: World) -> None:
    whole, panel = crossing.panel().panel, crossing.panel(turnover_floor=FLOOR).panel
    assert set(whole.codes) - set(panel.codes) == {crossing.codes[BELOW], crossing.codes[UNKNOWN]}
    places = [whole.codes.index(code) for code in panel.codes]
    # the others are ranked among the same names as without a floor
    np.testing.assert_array_equal(panel.tensors["x"], whole.tensors["x"][:, places])
    assert panel.tensors["neighbours"].max() < len(panel.codes)
    others = [n for n, code in enumerate(panel.codes) if code != crossing.codes[CROSSING]]
    np.testing.assert_array_equal(panel.valid[:, others], whole.valid[:, places][:, others])


def test_the_neutral_target_is_among_the_eligible(crossing: World) -> None:
    panel = crossing.panel(turnover_floor=FLOOR, target="neutral").panel
    known = np.isfinite(panel.target)
    assert not known[:, ~panel.valid].any() and known[:, panel.valid].mean() > 0.9


def test_the_floor_and_the_most_liquid_both_hold(world: World) -> None:
    with_turnover(world, {0: pl.lit(1.0)})
    panel = world.panel(turnover_floor=FLOOR, most_liquid=10, min_names=5, start="2020-01-06").panel
    liquid = world.panel(most_liquid=10, min_names=5, start="2020-01-06").panel
    assert set(liquid.codes) - set(panel.codes) == {world.codes[0]}


def test_a_universe_of_an_older_version_serves_without_a_floor(world: World) -> None:
    frame = world.store.table("features", "universe").read().drop("turnover_mean_60")
    shutil.rmtree(world.root / "features" / "universe")
    world.publish("features", "universe", frame)
    assert world.panel().panel.valid.any()
    with pytest.raises(MissingColumns, match=r"universe .* lacks the column turnover_mean_60"):
        world.panel(turnover_floor=1)


def test_the_defaults_are_those_of_the_source() -> None:
    sandbox, real = Settings.from_env({}), Settings.from_env({"JQUANTS_BASE_URL": "http://127.0.0.1:9/v2"})
    demo, tokyo = with_defaults(PanelConfig(), sandbox), with_defaults(PanelConfig(), real)
    assert (demo.turnover_floor, demo.label, demo.target) == (0, Label.y_cc, Target.raw)
    assert (tokyo.turnover_floor, tokyo.label, tokyo.target) == (
        TURNOVER_FLOOR,
        Label.y_oo,
        Target.neutral,
    ) and TURNOVER_FLOOR == 10_000_000
    asked = with_defaults(PanelConfig(turnover_floor=0, label=Label.y_cc, target=Target.raw), real)
    assert (asked.turnover_floor, asked.label, asked.target) == (0, Label.y_cc, Target.raw)


def eligible(quotes: pl.DataFrame, master: pl.DataFrame, floor: int, days: list[date]) -> np.ndarray:
    """Eligibility [T,N] of all names, from raw tables."""
    config = PanelConfig(min_history=20, turnover_floor=floor)
    plan = PanelPlan("-", tuple(days), (), "core", "-", config, (), (), (), {})
    names = members(universe(quotes, master), days)
    found = np.zeros((len(days), len(CODES)), bool)
    found[:, [CODES.index(code) for code in names.codes]] = listed(names, plan) & trades_enough(names, plan)
    return found


@settings(max_examples=6, deadline=None, suppress_health_check=list(HealthCheck))
@given(seed=st.integers(0, 100), place=st.integers(70, len(DAYS) - 100))
def test_eligibility_knows_nothing_of_later_records(seed: int, place: int) -> None:
    """Cut off after a day, and every later record changed: up to the day nothing moves."""
    quotes, master = market(seed)
    day, known = DAYS[place], DAYS[: place + 1]
    floor = int(quotes["Va"].median())
    every_day = eligible(quotes, master, floor, DAYS)
    whole = every_day[: place + 1]
    assert every_day.any() and not whole[:59].any()
    past = master.filter(pl.col("available_at") <= decision_instant(day))
    np.testing.assert_array_equal(eligible(quotes.filter(pl.col("date") <= day), past, floor, known), whole)
    later = pl.col("date") > day
    moved = []
    for factor in (50, 0):  # up, and down: on the last days all names may be above the floor already
        value = pl.when(later).then(pl.col("Va") * factor).otherwise("Va").alias("Va")
        spoiled = eligible(quotes.with_columns(value), master, floor, DAYS)
        np.testing.assert_array_equal(spoiled[: place + 1], whole)
        moved.append(not np.array_equal(spoiled, every_day))
    assert any(moved)


def test_eligibility_by_hand() -> None:
    """Sums of sixty plain numbers."""
    quotes, master = market(3)
    floor = 20_000
    value = {(d, c): (x, v or 0.0) for d, c, x, v in quotes.select("date", "code", "C", "Va").iter_rows()}
    rows = {(d, c) for d, c in universe(quotes, master).select("date", "code").iter_rows()}
    found = eligible(quotes, master, floor, DAYS)
    crossed = 0
    for n, code in enumerate(CODES):
        bars = [day for day in DAYS if (day, code) in value]
        for t, day in enumerate(DAYS):
            lately = [value[d, code][1] for d in bars if d <= day][-60:]
            enough = len(lately) == 60 and sum(lately) / 60 >= floor
            there = (day, code) in rows and value[day, code][0] is not None
            assert found[t, n] == (there and enough), (day, code)
        crossed += 0 < found[80:, n].mean() < 0.85
    assert crossed
