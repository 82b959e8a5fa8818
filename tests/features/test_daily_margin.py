"""Daily margin against a search through all publications; the list, corrections, markers."""

import json
from datetime import date, timedelta

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from atft_assets.calendar import decision_instant, next_trading_day, shift_trading_days, trading_days
from atft_assets.features.daily_margin import FEATURES, FLAG, STALE, VALIDITY, daily_margin_features
from atft_assets.features.daily_margin_records import REASONS
from atft_assets.features.raw_text import number_of, said
from tests.features.events_proof import assert_as_declared, assert_no_future, differing
from tests.features.synthetic import raw_quotes
from tests.features.synthetic_records import at, margin_alert, reasons, with_instants

NAMES = 6
FIRST, LAST = date(2019, 1, 4), date(2019, 7, 31)
SKIPPED = date(2019, 3, 12)
QUOTES = raw_quotes(NAMES, 140, seed=4, untraded=0.03, splits=True)
ALERTS = margin_alert(NAMES, FIRST, LAST, seed=3, on_list=0.7, skipped=[SKIPPED])
CALENDAR = trading_days(date(2018, 12, 3), LAST)
PLACES = {day: i for i, day in enumerate(CALENDAR)}


def stock_of(quotes: pl.DataFrame) -> pl.DataFrame:
    rng = np.random.default_rng(1)
    returns = {f"returns_{h}d": pl.Series(rng.normal(0, 0.03, quotes.height), dtype=pl.Float32) for h in (1, 5)}
    return quotes.select("date", "code").with_columns(**returns)


STOCK = stock_of(QUOTES)


def tables(alerts: pl.DataFrame = ALERTS, quotes: pl.DataFrame = QUOTES) -> dict[str, pl.DataFrame]:
    return {"alerts": alerts, "quotes": quotes, "stock": STOCK, "rows": quotes.select("date", "code")}


def make(t) -> pl.DataFrame:
    return daily_margin_features(t["alerts"], t["quotes"], t["stock"], t["rows"])


GOT = make(tables())


def factor_between(quotes: pl.DataFrame, code: str, early: date, late: date) -> float:
    rows = quotes.filter((pl.col("code") == code) & (pl.col("date") > early) & (pl.col("date") <= late))
    return float(np.prod(1 / rows["AdjFactor"].to_numpy()))


def newest_versions(alerts: pl.DataFrame, evening: date) -> dict[str, dict[date, dict]]:
    """Balances by name and day, each in the newest version that the evening knew."""
    found: dict[str, dict[date, dict]] = {}
    known = alerts.filter(pl.col("available_at") <= decision_instant(evening)).sort("available_at", maintain_order=True)
    for row in known.iter_rows(named=True):
        app = date.fromisoformat(row["AppDate"])
        entry = found.setdefault(row["code"], {}).setdefault(app, {"first": row["available_at"]})
        entry.update(row)
    return found


def of_the_list(mine: dict[date, dict], newest: date | None, apps: dict, evening: date) -> dict[str, float]:
    """The flags: 0 for who is not on the newest list that is known, if that is not too old."""
    expected: dict[str, float] = {}
    list_flags = ["dmi_on_list", *(f"dmi_reason_{r}" for r in REASONS), "dmi_reg_restricted", "dmi_reg_lifted"]
    market = max(apps, default=None)
    if market and PLACES[evening] - PLACES[apps[market].date()] <= STALE:
        expected |= dict.fromkeys(list_flags, 0.0)
        if newest == market:
            row = mine[newest]
            given = json.loads(row["PubReason"].replace("'", '"'))
            expected["dmi_on_list"] = 1.0
            expected |= {f"dmi_reason_{r}": float(given[flag] == "1") for r, flag in REASONS.items()}
            expected["dmi_reg_restricted"] = float(row["TSEMrgnRegCls"] in ("003", "004", "005", "006"))
            expected["dmi_reg_lifted"] = float(row["TSEMrgnRegCls"] == "101")
    return expected


def by_hand(alerts, quotes, stock, code: str, evening: date) -> dict[str, float]:
    known = newest_versions(alerts, evening)
    apps = {
        app: min(e["first"] for name in known.values() for a, e in name.items() if a == app)
        for name in known.values()
        for app in name
    }
    mine = known.get(code, {})
    newest = max(mine, default=None)
    expected = of_the_list(mine, newest, apps, evening)
    if newest is None:
        return expected
    age = PLACES[evening] - PLACES[mine[newest]["first"].date()]
    if age > STALE:
        return expected
    row = mine[newest]
    given = json.loads(row["PubReason"].replace("'", '"'))

    def shares(app: date, side: str) -> float:
        return mine[app][side] * factor_between(quotes, code, app, newest)

    def imbalance(app: date) -> float:
        return (mine[app]["LongOut"] - mine[app]["ShrtOut"]) / (mine[app]["LongOut"] + mine[app]["ShrtOut"])

    stay = 1
    while CALENDAR[PLACES[newest] - stay] in mine:
        stay += 1
    expected |= {
        "dmi_days_since": age,
        "dmi_imbalance": imbalance(newest),
        "dmi_days_on_list": min(stay, 40),
        "dmi_reason_count": sum(v == "1" for v in given.values()),
        "dmi_std_share_long": row["LongStdOut"] / row["LongOut"],
        "dmi_std_share_short": row["ShrtStdOut"] / row["ShrtOut"],
        "dmi_long_to_shares": float(row["LongOutRatio"]) / 100,
        "dmi_short_to_shares": float(row["ShrtOutRatio"]) / 100,
    }
    before = CALENDAR[PLACES[newest] - 1]
    lately = sorted(app for app in mine if PLACES[newest] - PLACES[app] < 26)
    series = {
        "long": [shares(a, "LongOut") for a in lately],
        "short": [shares(a, "ShrtOut") for a in lately],
        "imbalance": [imbalance(a) for a in lately],
    }
    for name, values in series.items():
        if len(values) >= 6:
            expected[f"dmi_{name}_z26"] = (values[-1] - np.mean(values)) / np.std(values, ddof=1)
    r1, r5 = (
        stock.filter((pl.col("code") == code) & (pl.col("date") == evening))[f"returns_{h}d"].item() for h in (1, 5)
    )
    if before in mine:
        expected |= {
            "dmi_d_long_1d": np.log((row["LongOut"] + 1) / (shares(before, "LongOut") + 1)),
            "dmi_d_short_1d": np.log((row["ShrtOut"] + 1) / (shares(before, "ShrtOut") + 1)),
            "dmi_d_imbalance_1d": imbalance(newest) - imbalance(before),
        }
        moved = (row["LongOut"] - shares(before, "LongOut")) - (row["ShrtOut"] - shares(before, "ShrtOut"))
        expected["dmi_with_trend"] = float(np.sign(moved) == np.sign(r5))
    if "dmi_long_z26" in expected:
        expected["dmi_long_unwind_risk"] = float(expected["dmi_long_z26"] > 1.5 and r1 < 0)
    traded = quotes.filter((pl.col("code") == code) & (pl.col("date") <= evening)).sort("date").tail(20)
    if traded.height == 20:
        adv = np.mean(
            [
                (v or 0.0) / factor_between(quotes, code, newest, d)
                if d >= newest
                else (v or 0.0) * factor_between(quotes, code, d, newest)
                for d, v in traded.select("date", "Vo").iter_rows()
            ]
        )
        for name, side in (("long", "LongOut"), ("short", "ShrtOut")):
            expected[f"dmi_{name}_to_adv20"] = row[side] / adv
            if before in mine:
                expected[f"dmi_d_{name}_to_adv20"] = (row[side] - shares(before, side)) / adv
    expected["_r1"] = r1
    return expected


def against_hand(got: pl.DataFrame, alerts: pl.DataFrame, days: list[date], quotes: pl.DataFrame = QUOTES) -> None:
    for day in days:
        codes = got.filter(pl.col("date") == day)["code"].to_list()
        hand = {code: by_hand(alerts, quotes, STOCK, code, day) for code in codes}
        pressed = [h["dmi_short_to_adv20"] for h in hand.values() if "dmi_short_to_adv20" in h]
        for code in codes:
            row, expected = (
                got.filter((pl.col("date") == day) & (pl.col("code") == code)).row(0, named=True),
                hand[code],
            )
            if "dmi_short_to_adv20" in expected:
                high = expected["dmi_short_to_adv20"] >= np.quantile(pressed, 0.8)
                expected["dmi_short_squeeze_setup"] = float(high and expected["_r1"] > 0)
            assert row[FLAG] == int("dmi_days_since" in expected), (day, code)
            for f in FEATURES:
                if f.name in expected:
                    assert row[f.name] == pytest.approx(expected[f.name], rel=2e-4, abs=2e-5), (day, code, f.name)
                else:
                    assert row[f.name] is None, (day, code, f.name, row[f.name])


def test_every_column_against_a_search_through_all_publications():
    days = QUOTES["date"].unique().sort().to_list()
    around = [shift_trading_days(SKIPPED, n) for n in (-1, 1, 2)]
    against_hand(GOT, ALERTS, [*days[:5], *days[22:138:23], SKIPPED, *around])
    assert_as_declared(GOT, (*FEATURES, *VALIDITY))
    assert 0.2 < GOT["dmi_on_list"].mean() < 0.95


def corrected(
    alerts: pl.DataFrame, seed: int, share: float = 0.05, sources: tuple[str, ...] = ("LongOut", "ShrtOut")
) -> pl.DataFrame:
    """Some balances again, a few days later with other figures: the same AppDate, a newer PubDate."""
    rng = np.random.default_rng(seed)
    again = alerts.filter(pl.Series(rng.random(alerts.height) < share))
    later = [shift_trading_days(d, int(rng.integers(1, 9))) for d in again["date"]]
    again = again.with_columns(
        pl.Series("date", later),
        *((pl.col(c) * pl.Series(rng.uniform(0.5, 2, again.height))).round().alias(c) for c in sources),
    )
    again = with_instants(again.drop("available_at"), [at(d, 16, 30) for d in later]).select(alerts.columns)
    return (
        pl.concat([alerts, again])
        .unique(["date", "code", "AppDate"], keep="first", maintain_order=True)
        .sort("date", "code", "AppDate")
    )


@settings(max_examples=6, deadline=None)
@given(seed=st.integers(0, 1000), place=st.integers(5, 130))
def test_corrections_and_gaps_against_the_same_search(seed, place):
    alerts = corrected(margin_alert(NAMES, FIRST, LAST, seed=seed, on_list=0.6, skipped=[SKIPPED]), seed)
    day = QUOTES["date"].unique().sort()[place]
    against_hand(
        make({**tables(alerts), "rows": QUOTES.select("date", "code").filter(pl.col("date") == day)}), alerts, [day]
    )


@settings(max_examples=5, deadline=None)
@given(seed=st.integers(0, 1000), place=st.integers(10, 135))
def test_what_is_not_out_changes_nothing(seed, place):
    alerts = corrected(ALERTS, seed)
    day = QUOTES["date"].unique().sort()[place]
    cut = {**tables(alerts), "stock": STOCK}
    assert_no_future(make, cut, day, seed)


def test_a_correction_counts_from_its_own_evening_and_never_before():
    code = GOT.filter(pl.col("dmi_on_list") == 1)["code"][0]
    one = ALERTS.filter(pl.col("code") == code)
    before = next(
        row
        for row in one.iter_rows(named=True)
        if {date.fromisoformat(row["AppDate"]), next_trading_day(date.fromisoformat(row["AppDate"]))}
        <= {date.fromisoformat(a) for a in one["AppDate"]}
        and row["date"] > date(2019, 4, 15)
    )
    newer = shift_trading_days(before["date"], 1)  # the next list is out by then
    again = with_instants(
        pl.DataFrame([before], schema=ALERTS.schema)
        .drop("available_at")
        .with_columns(pl.lit(newer).alias("date"), pl.col("LongOut") * 3),
        [at(newer, 16, 30)],
    ).select(ALERTS.columns)
    got = make(tables(pl.concat([ALERTS, again])))
    changed = pl.concat([GOT, got]).filter(pl.col("code") == code)
    seen = [
        day
        for day, rows in changed.group_by("date", maintain_order=True)
        if rows["dmi_d_long_1d"].fill_null(9).n_unique() > 1 or rows["dmi_long_z26"].fill_null(9).n_unique() > 1
    ]
    days = sorted(day for (day,) in seen)
    assert days and days[0] == newer  # the change to the corrected day, from the evening of the correction
    level = changed.filter(pl.col("date") == newer)["dmi_imbalance"]
    assert level.n_unique() == 1  # the newer balance stays the newest


def test_nothing_published_on_one_day_and_two_balance_dates_on_the_next():
    day_before, day_after = shift_trading_days(SKIPPED, -1), shift_trading_days(SKIPPED, 1)
    twice = ALERTS.filter(pl.col("date") == day_after).group_by("code").len()
    assert ALERTS.filter(pl.col("date") == SKIPPED).is_empty() and (twice["len"] == 2).any()
    there = GOT.filter(pl.col("date").is_in([day_before, SKIPPED])).sort("code", "date")
    assert (
        there.group_by("code", maintain_order=True).agg(pl.col("dmi_on_list").n_unique())["dmi_on_list"].to_list()
        == [1] * NAMES
    )
    code = twice.filter(pl.col("len") == 2)["code"][0]
    row = GOT.filter((pl.col("date") == day_after) & (pl.col("code") == code)).row(0, named=True)
    assert row["dmi_d_long_1d"] is not None  # against the balance that came with it


def test_markers_are_no_numbers_and_a_ratio_of_zero_is_no_ratio():
    cells = pl.DataFrame(
        {
            "x": ["*", "-", "", "0.5", None],
            "r": [reasons("Restricted"), reasons("RestrictedByJSF", quote="'"), "-", "", "*"],
        }
    )
    assert cells.select(number_of("x"))["x"].to_list() == [None, None, None, 0.5, None]
    assert cells.select(said("r", "Restricted"))["r"].to_list() == [True, False, None, None, None]
    assert cells.select(said("r", "RestrictedByJSF"))["r"].to_list() == [False, True, None, None, None]
    spoiled = ALERTS.with_columns(pl.lit("0.0").alias("SLRatio"))
    assert make(tables(spoiled)).equals(GOT)  # the sentinel is never read
    stars = ALERTS.with_columns(pl.lit("*").alias("LongOutRatio"), pl.lit("-").alias("PubReason"))
    got = make(tables(stars))
    assert got["dmi_long_to_shares"].null_count() == got.height and got["dmi_imbalance"].equals(GOT["dmi_imbalance"])
    listed = got.filter(pl.col("dmi_on_list") == 1)
    assert listed["dmi_reason_restricted"].null_count() == listed.height
    no_long = ALERTS.with_columns(pl.lit(0.0).alias("LongOut"), pl.lit(0.0).alias("LongStdOut"))
    assert set(make(tables(no_long))["dmi_imbalance"].drop_nulls()) == {-1.0}


def test_the_squeeze_is_judged_among_the_names_of_the_same_day():
    """The highest fifth of the day, not of the panel: later days that are all higher change nothing."""
    late = date(2019, 4, 1)
    grown = ALERTS.with_columns(
        pl.when(pl.col("date") > late).then(pl.col("ShrtOut") * 50).otherwise("ShrtOut").alias("ShrtOut")
    )
    one, two = (frame.filter(pl.col("date") <= late)["dmi_short_squeeze_setup"] for frame in (GOT, make(tables(grown))))
    assert one.equals(two) and one.sum() > 0


def test_a_name_that_left_the_list_is_off_it_at_once_and_its_balance_stands_for_a_week():
    gone = ALERTS.filter((pl.col("code") != "13010") | (pl.col("date") <= date(2019, 2, 28)))
    last = gone.filter(pl.col("code") == "13010")["date"].max()
    got = make(tables(gone)).filter(pl.col("code") == "13010").sort("date")
    after = got.filter(pl.col("date") > last)
    assert set(after["dmi_on_list"]) == {0} and set(after["dmi_reason_restricted"]) == {0}
    assert after.filter(pl.col(FLAG) == 1).height == STALE
    assert after["dmi_imbalance"].drop_nulls().len() == STALE


def test_nothing_known_nothing_said():
    got = make(tables(ALERTS.clear()))
    assert got[FLAG].sum() == 0 and all(got[f.name].null_count() == got.height for f in FEATURES)


def test_a_month_alone_equals_the_month_within_a_longer_history():
    alerts = corrected(ALERTS, 8)
    rows = QUOTES.select("date", "code").filter(pl.col("date") >= date(2019, 7, 1))
    since = date(2019, 3, 1)
    whole = make({**tables(alerts), "rows": rows})
    alone = daily_margin_features(
        alerts.filter(pl.col("date") >= since), QUOTES.filter(pl.col("date") >= since), STOCK, rows
    )
    assert rows.height and differing(whole, alone) == []


def test_inputs_and_the_number_of_columns():
    assert len([f for f in FEATURES if f.model_input]) == 28
    assert timedelta(days=75) > timedelta(days=26 * 7 / 5 + 30)
