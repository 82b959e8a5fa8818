"""`trading_calendar`: the exchange's own calendar, held against ours.

Every calendar day is a row. `HolDiv` 1 and 2 are days of the cash market, 0 is closed, 3 is a holiday with derivatives
trading only. The partitions, schedules and labels of the platform come from exchange-calendars; a day up to today on
which the two disagree fails the contract, a later one (a holiday that was legislated after the package was released) is
reported as a warning and in the metadata.
"""

from collections.abc import Iterator, Sequence
from datetime import date, timedelta

import dagster as dg
import pandera.polars as pa
import polars as pl

from atft_assets import calendar
from atft_assets.contracts import (
    Built,
    Contract,
    Event,
    contract_check,
    write_audit_publish,
)
from atft_assets.groups import RAW
from atft_assets.jquants.endpoints import CALENDAR
from atft_assets.jquants.plans import require_window, window
from atft_assets.jquants.resource import JQuantsResource
from atft_assets.raw.columns import available_at_column, text
from atft_assets.raw.ingest import GROUP, IngestConfig, client_errors
from atft_assets.raw.origin import require_origin
from atft_assets.raw.published import published, replaced_text
from atft_assets.raw.records import column_order, typed_frame
from atft_assets.raw.retries import WAITS, Retries, told_if_interrupted
from atft_assets.raw.source import EmptyAnswer, stored_version
from atft_assets.raw.stamps import Failure, stamped
from atft_assets.settings import Settings
from atft_assets.store import UNPARTITIONED, Store

OPEN = ("1", "2")

CONTRACT = Contract(
    table="trading_calendar",
    schema=pa.DataFrameSchema(
        {
            "date": pa.Column(pl.Date, description="Every calendar day"),
            "HolDiv": text("0 closed, 1 open, 2 half day, 3 derivatives only", pa.Check.isin(["0", "1", "2", "3"])),
            "available_at": available_at_column(),
        },
        unique=CALENDAR.key_columns,
    ),
    constant_ok=frozenset({"date", "HolDiv", "available_at"}),
)


def gaps(frame: pl.DataFrame) -> Iterator[Failure]:
    """Calendar days without a row."""
    days = frame["date"].sort()
    every = pl.date_range(days[0], days[-1], eager=True)
    missing = every.filter(~every.is_in(days.implode()))
    if missing.len():
        yield "date", "every calendar day has a row", missing.len(), ", ".join(map(str, missing.head(5)))


def differences(frame: pl.DataFrame) -> list[tuple[date, str]]:
    """Days on which the exchange's calendar and exchange-calendars disagree, with a sentence each."""
    last_known = calendar.trading_days(calendar.FIRST_DAY, date.max)[-1]
    known = frame.filter(pl.col("date").is_between(calendar.FIRST_DAY, last_known)).sort("date")
    if known.is_empty():
        return []
    ours = set(calendar.trading_days(known["date"][0], known["date"][-1]))
    return [
        (day, f"{day:%Y-%m-%d %a}: HolDiv {kind}, but exchange-calendars has it {'open' if day in ours else 'closed'}")
        for day, kind in known.select("date", "HolDiv").iter_rows()
        if (kind in OPEN) != (day in ours)
    ]


def make_asset(settings: Settings, waits: Sequence[float] = WAITS) -> dg.AssetsDefinition:
    """The asset; unpartitioned, one request."""
    version = stored_version(__name__, CALENDAR)

    @dg.asset(
        name="trading_calendar",
        group_name=RAW,
        # the CLI's --partition-range demands it of every selected asset, also of those without partitions
        backfill_policy=dg.BackfillPolicy.single_run(),
        check_specs=[contract_check("trading_calendar")],
        code_version=version,
        kinds={"jquants", "polars"},
        tags={"layer": "raw"},
        description="The exchange's own calendar, checked against the trading days that the partitions come from.",
    )
    def trading_calendar(
        context: dg.AssetExecutionContext, store: Store, jquants: JQuantsResource, config: IngestConfig
    ) -> Iterator[Event]:
        table = store.table(GROUP, "trading_calendar")
        today = jquants.present().date()
        again = Retries(context.log, table.name, waits)

        def build(keys: list[str]) -> Iterator[Built]:
            with client_errors("trading_calendar"):
                again(lambda: require_origin(table, jquants))
                covered = window(jquants.subscription, today)
                last = min(d for d in (settings.end, covered.last, date(today.year + 1, 12, 31)) if d is not None)
                listed = UNPARTITIONED in table.manifest().entries
                have = published(table, UNPARTITIONED, None, refetch=config.refetch) if listed else None
                first = settings.start
                if listed and (have is None or first in set(have["date"])):
                    first = max(first, covered.first)  # the window's left edge moves on; what is stored stays
                if listed and have is None:
                    lost = [settings.start + timedelta(days=n) for n in range((first - settings.start).days)]
                    context.log.warning(replaced_text(table, UNPARTITIONED, lost, covered))
                require_window(jquants.subscription, CALENDAR, [first, last], today)
                records = again(lambda: jquants.client.fetch(CALENDAR, {"from": first, "to": last}))
                if not records:
                    raise EmptyAnswer(
                        f"trading_calendar: {CALENDAR.path} has no records from {first} to {last}; nothing was stored"
                    )
                frame = typed_frame(CALENDAR, records, CONTRACT, UNPARTITIONED)
            if have is not None:
                old = have.filter(~pl.col("date").is_in(frame["date"].to_list()))
                frame = stamped(CALENDAR, pl.concat([old, frame], how="diagonal_relaxed"), table.name, UNPARTITIONED)
            frame = frame.select(column_order(CALENDAR, frame.columns)).sort("date")
            failures = list(gaps(frame))
            disagree = differences(frame)
            ahead = [said for day, said in disagree if day > today]
            if past := [said for day, said in disagree if day <= today]:
                failures.append(("HolDiv", "agrees with exchange-calendars", len(past), " | ".join(past[:10])))
            for said in ahead:
                context.log.warning(f"trading_calendar: {said}; update exchange-calendars before that day")
            metadata = {"differences_ahead": "\n".join(ahead) or "none"}
            yield Built(UNPARTITIONED, frame, metadata=metadata, failures=tuple(failures))

        with told_if_interrupted(context.log, table.name):
            yield from write_audit_publish(
                context,
                table,
                CONTRACT,
                build,
                code_version=version,
                content_versions=False,  # it grows every day, and no month is computed from it
            )

    return trading_calendar
