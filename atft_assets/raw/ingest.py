"""How a month table of raw records is brought up to date: which days to ask for, asking, putting a month together.

A month asks for the days that it lacks and for the last five trading days that are out by now (corrections come
within days). A month of the past that is complete therefore asks for nothing. What the plan lacks, and dates that it
does not cover, are refused before the first request. An empty answer for a day whose data must be out is a failure:
it is never stored as an empty day. Of an event table (`Source.empty_ok`) it is the normal case: the day is noted as
asked for (`landing.AskedDays`), and asked for once more only while it is among the last five.

A month that is over comes by file instead of by day where there is one (`history`), with the same rows.

A month whose file is gone is fetched as if it had never been there. One whose file is damaged is refused, unless the
run says `refetch`, which needs nothing of what it replaces.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date

import dagster as dg
import polars as pl
from pydantic import Field

from atft_assets.contracts import Built, ContractViolation, Event, Verdict, failures_frame, write_audit_publish
from atft_assets.failures import Refusal
from atft_assets.jquants.errors import MissingField, TransientError
from atft_assets.jquants.plans import require_plan, require_window, window
from atft_assets.jquants.resource import JQuantsResource
from atft_assets.partitions import CORRECTION_DAYS
from atft_assets.raw.beside import Beside, Surroundings
from atft_assets.raw.history import AUTO, History
from atft_assets.raw.landing import Asked, AskedDays, Landing
from atft_assets.raw.origin import require_origin
from atft_assets.raw.progress import Tally
from atft_assets.raw.published import published, replaced_text
from atft_assets.raw.records import column_order, row_order
from atft_assets.raw.retries import WAITS, GivenUp, Retries, told_if_interrupted
from atft_assets.raw.source import EmptyAnswer, Pull, Released, Source, empty_text
from atft_assets.raw.stamps import stamped
from atft_assets.settings import Settings
from atft_assets.store import Store, Table

GROUP = "raw"
ISO_DATE = re.compile(r"\d{4}-\d\d-\d\d")


class IngestConfig(dg.Config):
    """Options of one run."""

    refetch: bool = Field(
        default=False, description="Ask again for every day, not only for lacking ones; replaces a damaged file too"
    )


class MonthConfig(IngestConfig):
    """Options of one run of a month table."""

    files: str = Field(
        default=AUTO,
        description="Months that are over by monthly file: auto where the plan has files and it saves requests, always "
        "wherever there is one, never",
    )


class NothingOut(Refusal):
    """None of the months has a day whose data are out."""


@dataclass(frozen=True)
class MonthPlan:
    """What one month of a run needs.

    Attributes:
        wanted: days that the table holds when the month is done (of an event table: as far as there are records).
        ask: days to ask for; those before `corrected_from` are lacking.
        resume: an earlier run set down days of the month that need not be asked for.
        upon: the published file can be read, and its other days stay.
    """

    key: str
    wanted: list[date]
    ask: list[date]
    resume: bool
    upon: bool
    corrected_from: date

    @property
    def lacking(self) -> list[date]:
        """Days to ask for, but for those that are there and asked for because of corrections."""
        return self.ask if not (self.upon or self.resume) else [day for day in self.ask if day < self.corrected_from]


def ingest(
    context: dg.AssetExecutionContext, source: Source, settings: Settings, store: Store, jquants: JQuantsResource,
    config: MonthConfig, waits: Sequence[float] = WAITS,
) -> Iterator[Event]:  # fmt: skip
    """Bring the run's months up to date and publish them.

    Args:
        waits: seconds before each further try after a passing fault.
    """
    table = store.table(GROUP, source.name)
    landing = Landing(table, source.code_version)
    again = Retries(context.log, source.name, waits)
    tally = Tally(context, source, jquants)

    def build(keys: list[str]) -> Iterator[Built]:
        with client_errors(source.name):
            require_plan(jquants.subscription, source.endpoint)
            again(lambda: require_origin(table, jquants))
            released = Released(
                source.endpoint, settings.start, settings.end, jquants.subscription, jquants.present(),
                latest_only=source.latest_only,
            )  # fmt: skip
            months = _months(source, table, landing, released, keys, config.refetch, context)
            ask = [day for month in months for day in month.ask]
            if not source.latest_only:
                require_window(jquants.subscription, source.endpoint, ask, released.now.date())
            tally.begin([len(month.ask) for month in months])
            surroundings = Surroundings(store, GROUP, source.name, source.reads)
            lacking = {month.key: month.lacking for month in months}
            wanted = {month.key: month.wanted for month in months}
            with History(source, jquants.client, released, context.log, config.files, lacking, wanted) as history:
                at_once = _at_once(Pull(source, jquants.client), months, history.files, again)
                for month in months:
                    pull = Pull(source, jquants.client)
                    fresh = _fetch(pull, month, landing, again, history, at_once)
                    _note_asked(source, table, month, fresh, released)
                    frame = _assemble(pull, table, month, fresh, released)
                    beside = surroundings.of(month.key) if source.rules else Beside()
                    failures = tuple(source.rules(frame, beside)) if source.rules else ()
                    surroundings.keep(month.key, frame)
                    tally.done(month.key, len(month.ask), frame)
                    metadata = {**tally.metadata(), "months_by_file": history.used, "judged_beside": str(beside)}
                    yield Built(month.key, frame, metadata=metadata, failures=failures)

    keys = list(context.partition_keys)
    with told_if_interrupted(context.log, source.name):
        for event in write_audit_publish(context, table, source.contract, build, code_version=source.code_version):
            if isinstance(event, dg.AssetCheckResult) and not event.passed:
                landing.clear(keys)  # what broke the contract is not to be taken up again
            yield event
    landing.clear(keys)


@contextmanager
def client_errors(table: str) -> Iterator[None]:
    """Client errors as refusals: a broken schema fails the contract, a passing fault has been tried often enough.

    What the service refuses for good is a `Refusal` as it comes.

    Raises:
        ContractViolation: records lack a declared field.
        GivenUp: a fault that may pass did not.
    """
    problem: Exception
    try:
        yield
        return
    except MissingField as error:
        instead = f"; unknown instead: {', '.join(error.unknown)}" if error.unknown else ""
        rule = f"present in the records of {error.endpoint}{instead}"
        rows = [(name, rule, error.failing_rows, error.sample) for name in error.fields]
        day = next(filter(ISO_DATE.fullmatch, error.query.values()), "")
        problem = ContractViolation(Verdict(table, day[:7] or "all", failures_frame(rows)))
    except TransientError as error:
        problem = GivenUp(f"{error}. It was tried again in vain; what has come of {table} is kept")
    raise problem  # outside the handlers: nothing of the request is chained to it


def _months(
    source: Source, table: Table, landing: Landing, released: Released, keys: Sequence[str], refetch: bool,
    context: dg.AssetExecutionContext,
) -> list[MonthPlan]:  # fmt: skip
    """What each month needs; months without a day that is out are left out.

    Raises:
        NothingOut: none of the months has one.
    """
    listed, covered = set(table.keys()), window(released.plan, released.now.date())
    asked_days = AskedDays(table)
    corrected_from = min(released.newest(CORRECTION_DAYS), default=date.max)
    months, early = [], []
    for key in keys:
        days = released.among(source.days_of(key))
        wanted = source.choose(days, released) if source.choose else days
        begun = any(released.start <= day <= released.last for day in source.days_of(key))
        # a table of an evening that lags has an empty month until its first records are out: what reads it goes on
        if not wanted and not source.latest_only and not (begun and source.optional):
            early.append(key)
            continue
        landed = None if refetch else landing.load(key, [source.day_column])
        old = published(table, key, [source.day_column], refetch=refetch) if key in listed else None
        held = [frame for frame in (old, landed) if frame is not None]
        have = {day for frame in held for day in frame.select(source.day.unique()).to_series()}
        for day, what in asked_days.of(key).items():
            (have.add if what is Asked.EMPTY else have.discard)(day)
        ask = [day for day in wanted if refetch or day not in have or day >= corrected_from]
        if refetch or (key in listed and old is None):  # what has left the plan's window cannot be asked for again
            ask = [day for day in ask if day in covered] or ask
        if key in listed and old is None:
            gone = [day for day in (wanted if source.choose else source.days_of(key)) if day not in {*ask, *have}]
            lost = [day for day in gone if day <= released.last]
            context.log.warning(replaced_text(table, key, lost, covered))
        months.append(
            MonthPlan(key, wanted, ask, resume=landed is not None, upon=old is not None, corrected_from=corrected_from)
        )
    if early:
        text = (
            f"no trading day of {', '.join(early)} is out yet at {released.now:%Y-%m-%d %H:%M} JST "
            f"(a day's data come {source.endpoint.available}; dates from {released.start} to "
            f"{released.end or 'today'}; the plan {released.plan} covers {covered})"
        )
        if not months:
            raise NothingOut(text)
        context.log.warning(f"{source.name}: {text}; left out")
    return months


def _at_once(
    pull: Pull, months: Sequence[MonthPlan], by_file: Mapping[str, object], again: Retries
) -> list[pl.DataFrame] | None:
    """Of a table that a range gives, all the days of a run in one go, but for months that come by file; else None."""
    if not pull.source.at_once:
        return None
    return _asked(pull, [day for month in months if month.key not in by_file for day in month.ask], again)


def _asked(pull: Pull, days: Sequence[date], again: Retries) -> list[pl.DataFrame]:
    return again(lambda: list(pull.source.fetch(pull, days))) if days else []


def _fetch(
    pull: Pull, month: MonthPlan, landing: Landing, again: Retries, history: History,
    at_once: Sequence[pl.DataFrame] | None,
) -> list[pl.DataFrame]:  # fmt: skip
    """The month's days; what came before a fault or an interrupt is set down for the next run."""
    day = pull.source.day
    by_file, file = [], history.month(month.key)
    if file is not None:
        by_file = [file]
        there = set(file.select(day.unique()).to_series())
        # of a table of events a day without a row is one on which nothing happened
        rest = [d for d in month.ask if d not in (month.lacking if pull.source.empty_ok else there)]
    else:
        rest = month.ask
    if at_once is not None:
        come = at_once if month.key not in history.files else _asked(pull, rest, again)
        history.done(month.key)
        return [*by_file, *(frame.filter(day.is_in(rest)) for frame in come)]
    landed = landing.load(month.key) if month.resume else None
    kept = [*([] if landed is None else [landed.filter(~day.is_in(month.ask))]), *by_file]
    try:
        return [*kept, *_asked(pull, rest, again)]
    finally:  # also on the way out with an error
        if by_file or pull.arrived:
            come = [pull.arrived[day] for day in sorted(pull.arrived)]
            landing.save(month.key, pl.concat([*kept, *come], how="diagonal_relaxed"))
        history.done(month.key)


def _note_asked(
    source: Source, table: Table, month: MonthPlan, fresh: Sequence[pl.DataFrame], released: Released
) -> None:
    """Set down of the days asked for what the table's rows will not show."""
    answered = {day for frame in fresh for day in frame.select(source.day.unique()).to_series()}

    def about(day: date) -> Asked | None:
        if not released.complete(day):
            return Asked.EARLY
        return None if day in answered else Asked.EMPTY

    if source.empty_ok:
        AskedDays(table).note(month.key, {day: about(day) for day in month.ask})


def _assemble(
    pull: Pull, table: Table, month: MonthPlan, fresh: Sequence[pl.DataFrame], released: Released
) -> pl.DataFrame:
    """The month: what is published, the newer days in place of the older ones, in one order of columns.

    Instants are computed for all of it, so that a rule that was corrected holds for older rows as well.
    """
    source, day = pull.source, pull.source.day
    newer = pl.concat([*fresh, pull.frame([], month.key)], how="diagonal_relaxed").filter(day.is_in(month.wanted))
    newer = newer if source.only is None else newer.filter(source.only)
    answered = newer.select(day.unique()).to_series().to_list()
    lacking = sorted(set(month.ask) - set(answered))
    if lacking and not source.empty_ok:
        raise EmptyAnswer(empty_text(source, lacking))
    parts = [newer]
    old = published(table, month.key, None, refetch=False) if month.upon else None
    if old is not None:
        old = old.drop(source.left_out, strict=False)
        kept = old.filter(~day.is_in([*answered, *month.ask]))
        # a day that the table no longer holds (yesterday's newest snapshot) goes; days out of the range stay
        inside = day.is_between(released.start, released.last)
        parts.append(kept if source.latest_only else kept.filter(~inside | day.is_in(month.wanted)))
    frame = _without_empty(source, pl.concat(parts, how="diagonal_relaxed"))
    frame = stamped(source.endpoint, frame, source.name, month.key)
    frame = frame.select(column_order(source.endpoint, frame.columns))
    return frame.sort(row_order(source.endpoint, frame.columns), maintain_order=True)


def _without_empty(source: Source, frame: pl.DataFrame) -> pl.DataFrame:
    """The frame without fields that an answer may lack and of which no record has a value: of a file they are columns
    of empty cells, of the API no keys."""
    may_lack = {source.endpoint.column(field.name) for field in source.endpoint.fields if field.optional}
    schema = source.contract.schema.columns
    names = [name for name in frame.columns if name in may_lack and not (name in schema and schema[name].required)]
    return frame.drop(name for name in names if frame[name].null_count() == frame.height)
