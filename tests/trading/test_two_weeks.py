"""Ten evenings as they come: scores, portfolio, orders; one of a broken feature, a promotion and a rollback between."""

from datetime import date
from itertools import pairwise

import dagster as dg
import polars as pl
import pytest

from atft_assets.calendar import next_trading_day, trading_days
from atft_assets.operations.alerts import Alerts
from atft_assets.operations.contract_failures import schema_failure_alert
from atft_assets.operations.run_failures import run_failure_alert
from atft_assets.operations.withheld import withheld_alert
from atft_assets.trading import orders, portfolio
from atft_assets.trading.daily_scores import PUBLISHED, WITHHELD
from atft_assets.trading.rollback import roll_back, target_of
from tests.operations.helpers import read_log
from tests.operations.test_sensors import Ticker
from tests.trading.evenings import TONIGHT, book, evening, put_in_use, table
from tests.training.small_market import World
from tests.training.test_phases import failure

EVENINGS = trading_days(date(2020, 6, 17), TONIGHT)
BROKEN, PROMOTED, BACK = EVENINGS[4], EVENINGS[6], EVENINGS[8]
RULE = {"names": 8, "buffer": 1.25, "tranches": 2}
KINDS = (".parquet", ".csv")


def break_feature(world: World, day: date) -> pl.DataFrame:
    """Let the feature that ranks be missing on an evening, as when its source changed; the month as it was."""
    stored = world.store.table("features", "all_features")
    whole = stored.read([f"{day:%Y-%m}"])
    wrong = pl.when(pl.col("date") == day).then(pl.lit(None, pl.Float32)).otherwise("signal").alias("signal")
    stored.publish([stored.stage(f"{day:%Y-%m}", whole.with_columns(wrong), code_version="t")])
    return whole


def files(world: World) -> dict[str, bytes]:
    folder = world.store.local("trading")
    names = ("daily_scores", "portfolio", "orders")
    found = [path for name in names for path in folder.glob(f"{name}/*") if path.suffix in KINDS]
    return {str(path.relative_to(folder)): path.read_bytes() for path in found}


def of(world: World, name: str, day: date) -> pl.DataFrame:
    return world.store.table("trading", name).read().filter(pl.col("date") == day)


@pytest.mark.usefixtures("trainer_on_path")
def test_two_weeks_of_evenings(judged: World) -> None:
    assert len(EVENINGS) == 10
    put_in_use(judged, "lightgbm", name="c1")
    log = judged.root / "alerts.log"
    checked = [dg.AssetCheckKey(dg.AssetKey(name), "contract") for name in ("daily_scores", "portfolio", "orders")]
    with dg.instance_for_test() as instance:
        sensors = (withheld_alert(), run_failure_alert(), schema_failure_alert(checked))
        tickers = [Ticker(one, instance, alerts=Alerts(log_file=str(log))) for one in sensors]
        for ticker in tickers:
            ticker.tick()

        def go(day: date) -> None:
            """An evening of the refresh."""
            result = evening(judged, instance, day, catch_up=0)
            assert result.success, failure(result)
            rule = {"rule": RULE} if day == EVENINGS[0] else {}
            result = book(judged, instance, day, **rule)
            assert result.success, failure(result)
            for ticker in tickers:
                ticker.tick()

        for day in EVENINGS:
            if day == PROMOTED:
                put_in_use(judged, name="c2")
            if day == BACK:
                _, target = target_of(judged.root)
                roll_back(judged.root, target)
            whole = break_feature(judged, day) if day == BROKEN else None
            go(day)
            if whole is not None:
                judged.publish("features", "all_features", whole)

        # what was said of each evening, and by whom
        said = table(judged).select("date", "model_run", pl.col("status").cast(pl.String)).unique().sort("date")
        status = dict(said.select("date", "status").iter_rows())
        assert status == {day: WITHHELD if day == BROKEN else PUBLISHED for day in EVENINGS}
        by = dict(said.select("date", "model_run").iter_rows())
        assert [by[day] for day in EVENINGS] == ["c1"] * 6 + ["c2"] * 2 + ["c1"] * 2

        # the broken one: no order, one alert, and nothing else was told in two weeks
        (told,) = read_log(log)
        assert told["kind"] == "withheld" and str(BROKEN) in told["what"] and told["where"]["gates"] != "-"
        assert of(judged, portfolio.NAME, BROKEN).is_empty() and of(judged, orders.NAME, BROKEN).is_empty()
        folder = judged.store.local("trading", "orders")
        lines = {
            day: len((folder / f"{next_trading_day(day)}.csv").read_text("utf-8-sig").splitlines()) for day in EVENINGS
        }
        assert lines[BROKEN] == 1
        assert {day: n - 1 for day, n in lines.items()} == {
            day: of(judged, orders.NAME, day).height for day in EVENINGS
        }
        assert sum(n > 1 for n in lines.values()) >= 7, "the ranking moves: most evenings trade"

        # the book: what is held one evening is what was held and filled the evening before
        decided = [day for day in EVENINGS if day != BROKEN]
        for before, day in pairwise(decided):
            earlier, now = of(judged, portfolio.NAME, before), of(judged, portfolio.NAME, day)
            reachable = {row["code"]: sorted((row["held"], row["shares"])) for row in earlier.iter_rows(named=True)}
            for row in now.filter(pl.col("held") != 0).iter_rows(named=True):
                low, high = reachable[row["code"]]
                assert low <= row["held"] <= high
            assert abs(now["nav"][0] / earlier["nav"][0] - 1) < 0.1
        ids = judged.store.table("trading", orders.NAME).read()["order_id"]
        assert ids.is_unique().all()

        # once more, by hand: the same files, and no second alert
        first = files(judged)
        go(TONIGHT)
        assert files(judged) == first and len(read_log(log)) == 1
