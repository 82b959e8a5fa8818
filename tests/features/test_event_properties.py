"""What holds of tables of events whatever the records are: units, order of rows, names that do not touch each other."""

from datetime import date

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from atft_assets.features.breakdown import FEATURES as BREAKDOWN
from atft_assets.features.breakdown import breakdown_features
from atft_assets.features.daily_margin import daily_margin_features
from atft_assets.features.flow import flow_features
from atft_assets.features.margin import margin_features
from atft_assets.features.short import short_features
from tests.features import synthetic_records as records
from tests.features.events_proof import differing
from tests.features.synthetic import raw_quotes

FIRST = date(2019, 1, 4)
QUOTES = raw_quotes(4, 170, seed=8, untraded=0.05, splits=True)
LAST = QUOTES["date"].max()
ROWS = QUOTES.select("date", "code").with_columns(
    pl.col("code").replace_strict({"13010": "0050", "13020": "1050"}, default="0050").alias("s33"),
    pl.lit("0101").alias("mkt"),
)
RATES = {
    f"returns_{h}d": pl.Series(np.random.default_rng(h).normal(0, 0.03, ROWS.height), dtype=pl.Float32) for h in (1, 5)
}
TABLES = {
    "quotes": QUOTES,
    "stock": ROWS.select("date", "code").with_columns(**RATES),
    "rows": ROWS,
    "balances": records.margin_interest(4, FIRST, LAST, lacking=0.05),
    "alerts": records.margin_alert(4, FIRST, LAST, on_list=0.7),
    "sales": records.short_ratio(("0050", "1050", "9999"), FIRST, LAST),
    "reports": records.short_sale_report(4, date(2017, 12, 4), LAST, share=0.05),
    "weeks": records.investor_types(FIRST, LAST, corrected=0.2),
    "turnover": records.breakdown(QUOTES),
}
KEYS = ("date", "code")
MAKE = {
    "margin": lambda t: margin_features(t["balances"], t["quotes"], t["rows"].select(KEYS)),
    "daily_margin": lambda t: daily_margin_features(t["alerts"], t["quotes"], t["stock"], t["rows"].select(KEYS)),
    "short": lambda t: short_features(t["sales"], t["reports"], t["quotes"], t["stock"], t["rows"]),
    "flow": lambda t: flow_features(t["weeks"], t["rows"]),
    "breakdown": lambda t: breakdown_features(t["turnover"], t["rows"].select(KEYS)),
}
SOURCES = {
    "margin": "balances", "daily_margin": "alerts", "short": "reports", "flow": "weeks", "breakdown": "turnover",
}  # fmt: skip
WHOLE = {name: make(TABLES) for name, make in MAKE.items()}


@pytest.mark.parametrize("name", MAKE)
@settings(max_examples=3, deadline=None)
@given(seed=st.integers(0, 1000))
def test_the_order_of_rows_says_nothing(name: str, seed: int):
    """A server promises no order; two records of one disclosure that differ in nothing but their place are the same."""
    source = TABLES[SOURCES[name]]
    if name == "short":  # reports of one disclosure: their order by CalcDate, and nothing else
        source = source.unique(["code", "SSName", "date"], keep="last", maintain_order=True)
    shuffled = source.sample(fraction=1.0, shuffle=True, seed=seed)
    before = MAKE[name]({**TABLES, SOURCES[name]: source})
    assert differing(before, MAKE[name]({**TABLES, SOURCES[name]: shuffled})) == []


@settings(max_examples=4, deadline=None)
@given(factor=st.sampled_from([1e-3, 7.0, 1000.0]))
def test_units_of_money_do_not_matter(factor: float):
    """Yen, thousand yen, million yen."""
    for name, source in (("flow", "weeks"), ("short", "sales")):
        money = [c for c, dtype in TABLES[source].schema.items() if dtype == pl.Float64]
        scaled = TABLES[source].with_columns(pl.col(money) * factor)
        assert differing(WHOLE[name], MAKE[name]({**TABLES, source: scaled})) == []
    values = [c for c in TABLES["turnover"].columns if c.endswith("Va")]
    scaled = TABLES["turnover"].with_columns(pl.col(values) * factor)
    assert differing(WHOLE["breakdown"], MAKE["breakdown"]({**TABLES, "turnover": scaled})) == []


@settings(max_examples=4, deadline=None)
@given(factor=st.sampled_from([3.0, 100.0]))
def test_units_of_shares_do_not_matter(factor: float):
    """A name counted in other units, positions and volume alike: all but what adds a share to a logarithm."""
    volumes = ("LongVol", "ShrtVol", "LongStdVol", "ShrtStdVol")
    balances = TABLES["balances"].with_columns(pl.col(volumes) * factor)
    quotes = QUOTES.with_columns(pl.col("Vo") * factor)
    got = MAKE["margin"]({**TABLES, "balances": balances, "quotes": quotes})
    logs = [
        c
        for c in got.columns
        if c.startswith(("margin_d_long_w", "margin_d_long_4", "margin_d_short_w", "margin_d_short_4"))
    ]
    assert differing(WHOLE["margin"].drop(logs), got.drop(logs)) == []
    for name in logs:
        assert ((WHOLE["margin"][name] - got[name]).abs().max() or 0) < 2e-3


@pytest.mark.parametrize("name", ("margin", "daily_margin", "short", "breakdown"))
def test_names_do_not_touch_each_other(name: str):
    """Another name's records changed: this one's columns stay, but for what is ranked within the day."""
    source = SOURCES[name]
    other = pl.col("code") == "13020"
    numbers = [c for c, dtype in TABLES[source].schema.items() if dtype == pl.Float64]
    rng = np.random.default_rng(0)
    noise = {c: pl.Series(rng.uniform(0.2, 0.9, TABLES[source].height)) for c in numbers}
    changed = TABLES[source].with_columns(
        pl.when(other).then(pl.col(c) * factor).otherwise(c).alias(c) for c, factor in noise.items()
    )
    ranked = [c for c in ("dmi_short_squeeze_setup", "ss_pos_squeeze_risk") if c in WHOLE[name].columns]
    mine = ~other
    before, after = (f.filter(mine).drop(ranked) for f in (WHOLE[name], MAKE[name]({**TABLES, source: changed})))
    assert differing(before, after) == []
    assert differing(WHOLE[name].filter(other), MAKE[name]({**TABLES, source: changed}).filter(other)) != []


def test_a_name_that_moves_between_sectors_has_the_new_one_from_that_day():
    """The sector of the date: a map of the newest snapshot gives one sector for all times, or nothing before it."""
    day = ROWS["date"].unique().sort()[90]
    moved = ROWS.with_columns(
        pl.when((pl.col("code") == "13010") & (pl.col("date") >= day))
        .then(pl.lit("1050"))
        .otherwise("s33")
        .alias("s33")
    )
    got = MAKE["short"]({**TABLES, "rows": moved}).filter(pl.col("code") == "13010").sort("date")
    one, two = (WHOLE["short"].filter(pl.col("code") == code).sort("date") for code in ("13010", "13020"))
    before = pl.col("date") < day
    assert got.filter(before)["ss_sec_short_share"].equals(one.filter(before)["ss_sec_short_share"])
    after = ~before & pl.col("date").is_in(two["date"].implode())
    assert got.filter(after)["ss_sec_short_share_z60"].equals(two.filter(~before)["ss_sec_short_share_z60"])
    assert got["ss_sec_short_share"].null_count() == 0


@settings(max_examples=6, deadline=None)
@given(seed=st.integers(0, 10_000))
def test_shares_of_orders_add_up(seed: int):
    turnover = records.breakdown(QUOTES, seed=seed)
    got = breakdown_features(turnover, ROWS.select(KEYS)).drop_nulls("bd_short_share")
    both = got["bd_short_no_margin_share"] + got["bd_margin_sell_share"]
    assert (both - got["bd_short_share"]).abs().max() < 1e-5
    assert all(got[f.name].is_finite().all() for f in BREAKDOWN[:7])
