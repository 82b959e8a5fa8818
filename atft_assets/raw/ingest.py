"""What all month tables of raw records share: which days to ask for, asking, putting a month together, telling.

A month asks for the days that it lacks and for the last five trading days that are out by now (corrections come
within days). A month of the past that is complete therefore asks for nothing. What the plan lacks, and dates that it
does not cover, are refused before the first request. An empty answer for a day whose data must be out is a failure:
it is never stored as an empty day.
"""

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any

import dagster as dg
import polars as pl
from pydantic import Field

from atft_assets import calendar
from atft_assets.contracts import Contract, ContractViolation, Verdict, failures_frame, write_audit_publish
from atft_assets.jquants.client import JQuantsClient
from atft_assets.jquants.endpoints import Endpoint
from atft_assets.jquants.errors import JQuantsError, MissingField, TransientError
from atft_assets.jquants.plans import require_plan, require_window, window
from atft_assets.jquants.resource import JQuantsResource
from atft_assets.raw.landing import LANDED, Landing
from atft_assets.raw.records import Failure, Record, column_order, typed_frame, unknown_fields
from atft_assets.settings import Plan, Settings
from atft_assets.store import Store, StoreError, Table

GROUP = "raw"
CORRECTION_DAYS = 5
SECONDS_BETWEEN_PROGRESS_LINES = 2.0

# Transient faults that outlive the client's own retries (minutes): the whole step is tried again.
RETRIES = dg.RetryPolicy(max_retries=2, delay=120, backoff=dg.Backoff.EXPONENTIAL, jitter=dg.Jitter.PLUS_MINUS)


class IngestConfig(dg.Config):
    """Options of one run."""

    refetch: bool = Field(default=False, description="Ask again for every day of the months, not only for lacking ones")


class EmptyAnswer(Exception):
    """The service had no records for a trading day whose data must be out."""


@dataclass(frozen=True)
class Source:
    """How a month table comes from an endpoint.

    Attributes:
        contract: of the table.
        fetch: asks for the given days; yields typed frames with at least those days.
        at_once: `fetch` is called once for all months of a run (a range is one request), not month by month.
        choose: which of the trading days that are out the table holds; None for all.
        rules: rules over a month that a Pandera column check cannot express; yields failures.
        code_version: of the asset.
    """

    endpoint: Endpoint
    contract: Contract
    fetch: Callable[["Pull", Sequence[date]], Iterator[pl.DataFrame]]
    at_once: bool = False
    choose: Callable[[Sequence[date], "Calendar"], list[date]] | None = None
    rules: Callable[[pl.DataFrame], Iterable[Failure]] | None = None
    code_version: str = "1"

    @property
    def name(self) -> str:
        return self.contract.table


@dataclass(frozen=True)
class Calendar:
    """The trading days that are out at an instant, within the settings' dates and the plan's delay."""

    endpoint: Endpoint
    start: date
    end: date | None
    plan: Plan
    now: datetime

    @property
    def last(self) -> date:
        """No day after this one can be out."""
        covered = window(self.plan, self.now.date()).last
        return min(day for day in (self.end, covered, self.now.date()) if day is not None)

    def out(self, days: Iterable[date]) -> list[date]:
        """Those of the days whose data are out."""
        return [d for d in days if self.start <= d <= self.last and self.endpoint.published_at(d) <= self.now]

    def newest(self, count: int) -> list[date]:
        """The last trading days that are out."""
        days = calendar.trading_days(calendar.shift_trading_days(self.last, -count - 1), self.last)
        return self.out(days)[-count:]


@dataclass(frozen=True)
class Month:
    """What one month of a run needs.

    Attributes:
        wanted: days that the table holds when the month is done.
        ask: days to ask for.
        resume: an earlier run set down days of the month that need not be asked for.
    """

    key: str
    wanted: list[date]
    ask: list[date]
    resume: bool


@dataclass(frozen=True)
class Pull:
    """One pull: the client, and how records become frames."""

    source: Source
    client: JQuantsClient

    def frame(self, records: Sequence[Record], partition: str) -> pl.DataFrame:
        endpoint = self.source.endpoint
        return typed_frame(endpoint, records, self.source.contract, partition, endpoint.published_at)

    def by_date(self, days: Sequence[date]) -> Iterator[pl.DataFrame]:
        """One listing a day, several in flight, in the order of the days.

        Raises:
            EmptyAnswer: a day without records.
            ContractViolation: records of another day, or of wrong types.
        """

        def day_frame(query: Any, records: list[Record]) -> pl.DataFrame:
            day: date = query["date"]
            key = calendar.month_key(day)
            if not records:
                raise EmptyAnswer(empty_text(self.source, [day]))
            frame = self.frame(records, key)
            others = frame.filter(pl.col("date") != day)
            if others.height:
                sample = f"asked for {day}, got {others['date'].unique().sort().head(3).to_list()}"
                failure = ("date", "equals the date that was asked for", others.height, sample)
                raise ContractViolation(Verdict(self.source.name, key, failures_frame([failure])))
            return frame

        yield from self.client.fetch_many(self.source.endpoint, [{"date": day} for day in days], day_frame)


def empty_text(source: Source, days: Sequence[date]) -> str:
    """The sentence about trading days without records."""
    named = ", ".join(map(str, days[:5])) + (f" … ({len(days)} days)" if len(days) > 5 else "")
    out = source.endpoint.published_at(days[0])
    return (
        f"{source.name}: {source.endpoint.path} has no records for {named}, a trading day whose data must be out since "
        f"{out:%Y-%m-%d %H:%M} JST. Nothing was stored. Run it again later; if the exchange was closed that day, "
        "materialize trading_calendar, which compares the exchange's own calendar with ours"
    )


def ingest(
    context: dg.AssetExecutionContext, source: Source, settings: Settings, store: Store, jquants: JQuantsResource,
    config: IngestConfig,
) -> Iterator[dg.MaterializeResult | dg.AssetCheckResult]:  # fmt: skip
    """Bring the run's months up to date and publish them."""
    table = store.table(GROUP, source.name)
    landing = Landing(table, source.code_version)
    tally = Tally(context, source, jquants)

    def build(keys: list[str]) -> Iterator[tuple[str, pl.DataFrame]]:
        with refusals(source.name):
            require_plan(jquants.subscription, source.endpoint)
            require_origin(table, jquants)
            out = Calendar(source.endpoint, settings.start, settings.end, jquants.subscription, jquants.present())
            months = _months(source, table, landing, out, keys, config.refetch, context)
            asked = [day for month in months for day in month.ask]
            require_window(jquants.subscription, source.endpoint, asked, out.now.date())
            tally.begin(months)
            pull = Pull(source, jquants.client)
            at_once = list(source.fetch(pull, asked)) if source.at_once and asked else []
            for month in months:
                if source.at_once:
                    fresh = [frame.filter(pl.col("date").is_in(month.ask)) for frame in at_once]
                else:
                    fresh = _fetch(source, pull, month, landing)
                frame = _assemble(source, table, month, fresh, out)
                if failures := list(source.rules(frame) if source.rules else []):
                    raise ContractViolation(Verdict(source.name, month.key, failures_frame(failures)))
                tally.done(month, frame)
                yield month.key, frame

    keys = list(context.partition_keys)
    for event in write_audit_publish(
        context, table, source.contract, build, code_version=source.code_version, metadata=tally.metadata
    ):
        if isinstance(event, dg.AssetCheckResult) and not event.passed:
            landing.clear(keys)  # what broke the contract is not to be taken up again
        yield event
    landing.clear(keys)


def require_origin(table: Table, jquants: JQuantsResource) -> None:
    """Keep simulated and real data apart: all raw tables of a data root come from one place.

    Raises:
        dg.Failure: published tables came from elsewhere.
    """
    group = table.folder.parent
    note = group / "origin.txt"
    known = note.read_text().strip() if note.exists() else jquants.origin
    if known != jquants.origin and any(group.glob("*/manifest.json")):
        raise dg.Failure(
            f"{table.name}: the raw tables in {group} came from {known}, but this run would take the lacking days from "
            f"{jquants.origin}. One table must not mix two sources: set ATFT_DATA to another folder, or delete this "
            "one. Nothing was requested",
            allow_retries=False,
        )
    if known != jquants.origin:
        for landed in group.glob(f"*/{LANDED}"):  # of a run that never published
            landed.unlink(missing_ok=True)
    if known != jquants.origin or not note.exists():
        group.mkdir(parents=True, exist_ok=True)
        note.write_text(jquants.origin + "\n")


@contextmanager
def refusals(table: str) -> Iterator[None]:
    """Client errors as what Dagster should do: a broken schema fails the contract, a refusal is not retried."""
    problem: Exception
    try:
        yield
        return
    except MissingField as error:
        instead = f"; unknown instead: {', '.join(error.unknown)}" if error.unknown else ""
        rule = f"present in the records of {error.endpoint}{instead}"
        rows = [(name, rule, error.failing_rows, error.sample) for name in error.fields]
        day = error.query.get("date") or error.query.get("from") or ""
        problem = ContractViolation(Verdict(table, day[:7] or "all", failures_frame(rows)))
    except JQuantsError as error:
        problem = dg.Failure(f"{table}: {error}", allow_retries=isinstance(error, TransientError))
    except (EmptyAnswer, StoreError) as error:
        problem = dg.Failure(str(error), allow_retries=False)
    raise problem


def _months(
    source: Source, table: Table, landing: Landing, out: Calendar, keys: Sequence[str], refetch: bool,
    context: dg.AssetExecutionContext,
) -> list[Month]:  # fmt: skip
    """What each month needs; months without a day that is out are left out.

    Raises:
        dg.Failure: none of the months has one.
    """
    published = set(table.keys())
    corrected = set(out.newest(CORRECTION_DAYS))
    months, early = [], []
    for key in keys:
        days = out.out(calendar.days_of_month(key))
        wanted = source.choose(days, out) if source.choose else days
        if not wanted:
            early.append(key)
            continue
        have = set(table.read([key], ["date"])["date"].unique()) if key in published else set()
        landed = None if refetch else landing.load(key, ["date"])
        if landed is not None:
            have |= set(landed["date"].unique())
        ask = [day for day in wanted if refetch or day not in have or day in corrected]
        months.append(Month(key, wanted, ask, resume=landed is not None))
    if early:
        covered = window(out.plan, out.now.date())
        text = (
            f"{source.name}: no trading day of {', '.join(early)} is out yet at {out.now:%Y-%m-%d %H:%M} JST "
            f"(a day's data come at {source.endpoint.published} JST; dates from {out.start} to {out.end or 'today'}; "
            f"the plan {out.plan} covers {covered})"
        )
        if not months:
            raise dg.Failure(text, allow_retries=False)
        context.log.warning(f"{text}; left out")
    return months


def _fetch(source: Source, pull: Pull, month: Month, landing: Landing) -> list[pl.DataFrame]:
    """The month's days; what came before a fault is set down for the next run."""
    landed = landing.load(month.key) if month.resume else None
    frames: list[pl.DataFrame] = [] if landed is None else [_without(landed, month.ask)]
    before = len(frames)
    try:
        for frame in source.fetch(pull, month.ask) if month.ask else ():
            frames.append(frame)
    finally:  # also on the way out with an error
        if len(frames) > before:
            landing.save(month.key, pl.concat(frames, how="diagonal_relaxed"))
    return frames


def _assemble(source: Source, table: Table, month: Month, fresh: Sequence[pl.DataFrame], out: Calendar) -> pl.DataFrame:
    """The month: what is published, the newer days in place of the older ones, in one order of columns."""
    newer = pl.concat(fresh, how="diagonal_relaxed") if fresh else pl.DataFrame({"date": []}, {"date": pl.Date})
    newer = newer.filter(pl.col("date").is_in(month.wanted))
    days = newer["date"].unique().to_list()
    if lacking := sorted(set(month.ask) - set(days)):
        raise EmptyAnswer(empty_text(source, lacking))
    parts = [newer] if newer.height else []
    if month.key in table.manifest().entries:
        kept = _without(table.read([month.key]), days)
        # a day that the table no longer holds (yesterday's newest snapshot) goes; days out of the range stay
        inside = pl.col("date").is_between(out.start, out.last)
        parts.append(kept.filter(~inside | pl.col("date").is_in(month.wanted)))
    frame = pl.concat(parts, how="diagonal_relaxed")
    order = [name for name in ("date", "code") if name in frame.columns]
    return frame.select(column_order(source.endpoint, frame.columns)).sort(order)


def _without(frame: pl.DataFrame, days: Sequence[date]) -> pl.DataFrame:
    return frame.filter(~pl.col("date").is_in(days))


class Tally:
    """Counts a run's work and says how far it is."""

    def __init__(self, context: dg.AssetExecutionContext, source: Source, jquants: JQuantsResource):
        self._context, self._source, self._counters = context, source, jquants.client.counters
        self._before = (self._counters.requests, self._counters.retries, self._counters.throttled)
        self._began = self._spoke = time.monotonic()
        self._total_days = self._total_months = self._days = self._months = self._rows = 0
        self._new_fields: set[str] = set()

    def begin(self, months: Sequence[Month]) -> None:
        """The months of the run are known."""
        self._total_months, self._total_days = len(months), sum(len(month.ask) for month in months)
        self._context.log.info(
            f"{self._source.name}: {self._total_months} months, {self._total_days} days to ask for, "
            f"{sum(not month.ask for month in months)} months are complete"
        )

    def done(self, month: Month, frame: pl.DataFrame) -> None:
        """A month has been put together."""
        self._months += 1
        self._days += len(month.ask)
        self._rows += frame.height
        self._new_fields |= set(unknown_fields(self._source.endpoint, frame.columns))
        now = time.monotonic()
        if now - self._spoke >= SECONDS_BETWEEN_PROGRESS_LINES or self._months == self._total_months:
            self._spoke = now
            spent = now - self._began
            left = spent / self._days * (self._total_days - self._days) if self._days else 0.0
            requests = self._counters.requests - self._before[0]
            self._context.log.info(
                f"{self._source.name} {month.key}: {self._months}/{self._total_months} months, {self._rows:,} rows, "
                f"{requests} requests ({requests / max(spent, 1e-3):.1f}/s), about {left:.0f} s left"
            )

    def metadata(self) -> dict[str, Any]:
        """For the materialization."""
        requests, retries, throttled = self._before
        return {
            "days_asked_for": self._days,
            "requests": self._counters.requests - requests,
            "retries": self._counters.retries - retries,
            "rate_limited": self._counters.throttled - throttled,
            "seconds": round(time.monotonic() - self._began, 1),
            "new_fields": ", ".join(sorted(self._new_fields)) or "none",
        }
