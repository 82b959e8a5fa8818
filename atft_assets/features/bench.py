"""How long the features take: `python -m atft_assets.features.bench` (make bench-features).

Simulates a market, publishes its raw months, then builds every feature table from raw to `phase2_features`, contracts
judged, at a quarter, a half and all of the size, and refreshes the newest month. Each size runs in a process of its
own, so that the peak memory is its own.
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from datetime import date, timedelta

import polars as pl

from atft_assets import calendar
from atft_assets.contracts import Contract
from atft_assets.features.build import GROUP, Builder, Frames
from atft_assets.features.schemas import LABELS, UNIVERSE, feature_contract
from atft_assets.sandbox import Market, MarketConfig, simulate
from atft_assets.store import Store

NAMES, DAYS = 4484, 2450
FIRST_DAY = date(2015, 1, 5)

TABLES: tuple[tuple[Contract, Callable[[Builder, list[str]], Frames]], ...] = (
    (UNIVERSE, Builder.universe),
    (feature_contract("phase1_features"), Builder.phase1),
    (feature_contract("market_features"), Builder.market),
    (feature_contract("stock_market_features"), Builder.stock_market),
    (feature_contract("sector_features"), Builder.sector),
    (feature_contract("phase2_features"), Builder.phase2),
)


def fill_raw(store: Store, market: Market) -> list[str]:
    """Publish a simulated market as raw months; returns the months."""
    quotes = market.quotes().with_columns(_evening(0, 16, 30).alias("available_at"))
    topix = (
        market.index_bars("0000")
        .rename({"Date": "date"})
        .drop("Code")
        .with_columns(pl.col("date").str.to_date(), pl.col("O", "H", "L", "C").cast(pl.Float64))
        .with_columns(_evening(0, 16, 30).alias("available_at"))
    )
    keys = calendar.months_between(calendar.month_key(market.days[0]), calendar.month_key(market.days[-1]))
    weeks = {day.isocalendar()[:2]: day for day in reversed(market.days)}
    snapshots = pl.concat(market.master(day) for day in sorted({*weeks.values(), market.days[-1]}))
    listed = (
        snapshots.rename({"Date": "date", "Code": "code"})
        .with_columns(pl.col("date").str.to_date())
        .with_columns(_evening(-1, 17, 30).alias("available_at"))
    )
    for name, frame in (("daily_quotes", quotes), ("topix", topix), ("listed_info", listed)):
        _publish(store, "raw", name, _months(frame, keys))
    return keys


def _evening(days: int, hour: int, minute: int) -> pl.Expr:
    """Hour and minute in Tokyo, so many calendar days after the row's date."""
    local = pl.col("date").cast(pl.Datetime("us")) + timedelta(days=days, hours=hour, minutes=minute)
    return local.dt.replace_time_zone("Asia/Tokyo")


def _months(frame: pl.DataFrame, keys: list[str]) -> Iterator[tuple[str, pl.DataFrame]]:
    frame = frame.with_columns(pl.col("date").dt.strftime("%Y-%m").alias("_month"))
    parts = frame.partition_by("_month", as_dict=True, include_key=False)
    yield from ((key, parts[(key,)]) for key in keys if (key,) in parts)


def _publish(store: Store, group: str, name: str, frames: Iterator[tuple[str, pl.DataFrame]]) -> None:
    table = store.table(group, name)
    table.publish([table.stage(key, frame, code_version="bench") for key, frame in frames])


def build_tables(store: Store, keys: list[str], start: date) -> dict[str, float]:
    """Build and publish every feature table but the labels; seconds by table.

    Raises:
        ValueError: a table broke its contract.
    """
    seconds = {}
    for contract, build in TABLES:
        since = time.perf_counter()
        builder = Builder(store, calendar.month_key(start), start)
        _publish(store, GROUP, contract.table, _audited(builder, contract, build(builder, keys)))
        seconds[contract.table] = time.perf_counter() - since
    return seconds


def build_labels(store: Store, start: date) -> float:
    """Build and publish the labels; seconds."""
    since = time.perf_counter()
    builder = Builder(store, calendar.month_key(start), start)
    _publish(store, GROUP, "labels", _audited(builder, LABELS, builder.labels(["all"])))
    return time.perf_counter() - since


def _audited(builder: Builder, contract: Contract, frames: Frames) -> Frames:
    for key, frame in frames:
        verdict = contract.audit(frame, key, builder.history_days(key))
        if not verdict.passed:
            raise ValueError(str(verdict))
        yield key, frame


def measure(names: int, days: int) -> dict[str, float]:
    """Seconds by step, rows and peak memory (GB) of one size."""
    sessions = calendar.trading_days(FIRST_DAY, FIRST_DAY + timedelta(days=days * 2))[:days]
    with tempfile.TemporaryDirectory(prefix="atft-bench-") as root:
        store = Store(root=root)
        since = time.perf_counter()
        market = simulate(MarketConfig(n_names=names, start=sessions[0], end=sessions[-1]))
        simulated = time.perf_counter() - since
        keys = fill_raw(store, market)
        start = market.days[0]
        del market
        baseline = _peak()
        steps = build_tables(store, keys, start)
        features = sum(steps.values())
        refresh = sum(build_tables(store, keys[-1:], start).values())
        steps["labels"] = build_labels(store, start)
        rows = sum(e.rows for e in store.table(GROUP, "phase2_features").manifest().entries.values())
    return {
        "names": names,
        "days": days,
        "rows": rows,
        "simulate_s": simulated,
        **{f"{table}_s": s for table, s in steps.items()},
        "raw_to_phase2_s": features,
        "refresh_month_s": refresh,
        "peak_before_gb": baseline,
        "peak_gb": _peak(),
    }


def _peak() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--names", type=int, default=NAMES)
    parser.add_argument("--days", type=int, default=DAYS)
    parser.add_argument("--one", action="store_true", help="measure this size only, in this process, as JSON")
    given = parser.parse_args()
    if given.one:
        print(json.dumps(measure(given.names, given.days)))
        return
    sizes = [
        (n, d) for n, d in ((given.names // 4, given.days), (given.names // 2, given.days), (given.names, given.days))
    ]
    sizes[1:1] = [(given.names, given.days // 4), (given.names, given.days // 2)]
    for names, days in sizes:
        command = [
            sys.executable,
            "-m",
            "atft_assets.features.bench",
            "--one",
            "--names",
            str(names),
            "--days",
            str(days),
        ]
        answer = subprocess.run(command, check=True, capture_output=True, text=True)
        one = json.loads(answer.stdout.splitlines()[-1])
        each = one["raw_to_phase2_s"] / one["rows"] * 1e6
        print(
            f"{names:5d} names x {days:5d} days: {one['rows']:>10,} rows, raw to phase2_features "
            f"{one['raw_to_phase2_s']:6.1f} s ({each:5.1f} us a row), newest month again "
            f"{one['refresh_month_s']:5.1f} s, labels {one['labels_s']:5.1f} s, peak {one['peak_gb']:5.1f} GB"
        )
        steps = {k[:-2]: v for k, v in one.items() if k.endswith("_features_s") or k == "universe_s"}
        print("      " + ", ".join(f"{table} {seconds:.1f} s" for table, seconds in steps.items()))


if __name__ == "__main__":
    main()
