"""What one table of records is made of: its row (`Source`), the days that are out (`Released`), one pull (`Pull`)."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date, datetime, timedelta
from functools import cached_property
from typing import Any

import polars as pl

from atft_assets import calendar
from atft_assets.code_version import code_version
from atft_assets.contracts import FEWEST_ROWS, Contract, ContractViolation, Verdict, failures_frame
from atft_assets.failures import Refusal
from atft_assets.jquants.client import JQuantsClient
from atft_assets.jquants.endpoint import Endpoint
from atft_assets.jquants.plans import window
from atft_assets.raw.beside import Beside
from atft_assets.raw.records import Record, typed_frame
from atft_assets.raw.stamps import Failure
from atft_assets.settings import Plan

# modules whose code decides what is stored, besides the source's own; the rest of the room is wiring
STORED_BY = (
    "atft_assets.raw.records",
    "atft_assets.raw.stamps",
    "atft_assets.raw.columns",
    "atft_assets.jquants.availability",
    "atft_assets.calendar",
)


class EmptyAnswer(Refusal):
    """The service had no records for a trading day whose data must be out."""


@dataclass(frozen=True)
class Source:
    """One month table: the endpoint it comes from, its contract, and what is particular about it.

    A table is asked for day by day. The day is that of the endpoint's date field, unless `day_field` names another: a
    weekly table that is asked for by its publication date lies in the month of that date, whatever its records date
    from.

    Attributes:
        contract: of the table; its unique key is the endpoint's.
        fetch: asks for the given days; yields typed frames with at least those days. Unless `at_once`, it hands on what
            `Pull.by_date` gives: days of a run that is broken off are kept as they came.
        module: `__name__` of the module that states it.
        description: for the UI.
        query: the parameter by which the endpoint is asked for a day.
        day_field: the field of a record that equals that day; default: the endpoint's date field.
        empty_ok: a day without records is normal (events). It is remembered as asked; a month may have no rows.
        closed_days: days on which the exchange is closed are asked for as well (disclosures come on Saturdays too).
        at_once: `fetch` is called once for all months of a run (a range is one request), not month by month.
        latest_only: the service has the newest day alone, whatever the plan's window, that of the next trading day as
            soon as its rule says so. Days that came on other evenings stay; a month without the newest day asks for
            nothing and is published as it stands.
        only: which records of the endpoint the table holds; None for all.
        left_out: fields that are not stored: the server rewrites them backwards, so they are no facts of their day, and
            bulk files do not have them.
        choose: which of the days that are out the table holds; None for all.
        rules: rules over a month that a Pandera column check cannot express, given what stands beside it; yields
            failures.
        reads: raw tables that the rules read, with the months before the judged one that they look back. They are
            built first where they are part of a run; a table that is not there is not read.
        optional: where the plan lacks the endpoint, the asset skips with a sentence instead of failing.
        needed_for: what cannot be had without it, for the message on a plan that lacks it.
        without: what to do instead, for the same message.

    Raises:
        ValueError: the endpoint has no availability rule, or `query` or `day_field` are none of its own.
    """

    endpoint: Endpoint
    contract: Contract
    fetch: Callable[["Pull", Sequence[date]], Iterator[pl.DataFrame]]
    module: str
    description: str
    query: str = "date"
    day_field: str = ""
    empty_ok: bool = False
    closed_days: bool = False
    at_once: bool = False
    latest_only: bool = False
    only: pl.Expr | None = None
    left_out: frozenset[str] = frozenset()
    choose: Callable[[Sequence[date], "Released"], list[date]] | None = None
    rules: Callable[[pl.DataFrame, Beside], Iterable[Failure]] | None = None
    reads: Mapping[str, int] = field(default_factory=dict)
    optional: bool = False
    needed_for: str = ""
    without: str = ""

    def __post_init__(self) -> None:
        row = self.endpoint
        asked = (row.dated_by, *row.rule.fields)
        if self.day_field and self.day_field not in asked:
            raise ValueError(f"{self.name}: day_field is {self.day_field!r}: {row.path} is dated by {', '.join(asked)}")
        if not self.at_once and self.query not in row.parameters:
            takes = ", ".join(row.parameters) or "none"
            raise ValueError(f"{self.name}: {row.path} takes no parameter {self.query!r} (it takes {takes})")
        if (self.contract.schema.unique or []) != row.key_columns:
            raise ValueError(
                f"{self.name}: the contract's unique key is {self.contract.schema.unique}, {row.path} tells its "
                f"records apart by {row.key_columns}"
            )
        fewest = FEWEST_ROWS if self.empty_ok else self.contract.fewest  # events: some months have few
        object.__setattr__(
            self, "contract", replace(self.contract, empty_ok=self.empty_ok or self.optional, fewest=fewest)
        )

    @property
    def name(self) -> str:
        return self.contract.table

    @property
    def day_column(self) -> str:
        """The column that holds the day by which a row was asked for."""
        return self.endpoint.column(self.day_field or self.endpoint.dated_by)

    @property
    def day(self) -> pl.Expr:
        """That day as a Date."""
        column = pl.col(self.day_column)
        return column if self.day_column == "date" else column.str.to_date("%Y-%m-%d").alias(self.day_column)

    @cached_property
    def code_version(self) -> str:
        """Hash of the code that decides the stored bytes, and of the endpoint's row."""
        return stored_version(self.module, self.endpoint)

    def days_of(self, month: str) -> list[date]:
        """Days of a month for which the table is asked."""
        if not self.closed_days:
            return calendar.days_of_month(month)
        first, after = calendar.first_of_month(month), calendar.first_of_month(calendar.shift_month(month, 1))
        return [first + timedelta(days=n) for n in range((after - first).days)]


def stored_version(module: str, endpoint: Endpoint) -> str:
    """The code version of a table that `module` takes from an endpoint; landing files are told apart by it.

    The endpoint's row counts by what it says of records alone: another plan or rate limit changes no byte.
    """
    row = repr((endpoint.fields, endpoint.keys, endpoint.date_field, endpoint.available))
    return code_version(module, *STORED_BY, rooms=(), also=[row])


@dataclass(frozen=True)
class Released:
    """The days that are out at an instant, within the settings' dates and the plan's delay.

    Attributes:
        latest_only: as of the source: the next trading day may be out, and the plan's delay does not count.
    """

    endpoint: Endpoint
    start: date
    end: date | None
    plan: Plan
    now: datetime
    latest_only: bool = False

    @property
    def last(self) -> date:
        """No day after this one can be out."""
        today = self.now.date()
        if self.latest_only:
            ahead = calendar.next_trading_day(today)
            return ahead if self.end is None else min(self.end, ahead)
        covered = window(self.plan, today).last
        return min(day for day in (self.end, covered, today) if day is not None)

    def among(self, days: Iterable[date]) -> list[date]:
        """Those of the days whose data are out, at least in part."""
        return [d for d in days if self.start <= d <= self.last and self.endpoint.published_at(d) <= self.now]

    def complete(self, day: date) -> bool:
        """Whether all that will be out of a day is out."""
        return self.endpoint.rule.complete(day) <= self.now

    def newest(self, count: int) -> list[date]:
        """The last trading days that are out."""
        # twice as many: of a table that lags, the last ones are not
        days = calendar.trading_days(calendar.shift_trading_days(self.last, -2 * count - 1), self.last)
        return self.among(days)[-count:]


@dataclass(frozen=True)
class Pull:
    """One pull: the client, how records become frames, and the days that have come already.

    Attributes:
        arrived: by day, as `by_date` gave them or still will; also those of a try that failed.
    """

    source: Source
    client: JQuantsClient
    arrived: dict[date, pl.DataFrame] = field(default_factory=dict)

    def frame(self, records: Sequence[Record], partition: str) -> pl.DataFrame:
        source = self.source
        return typed_frame(source.endpoint, records, source.contract, partition).drop(source.left_out, strict=False)

    def by_date(self, days: Sequence[date]) -> Iterator[pl.DataFrame]:
        """One listing a day, several in flight, in the order of the days; of an event table possibly without rows.

        A day that has come in an earlier try is not asked for again.

        Raises:
            EmptyAnswer: a day without records.
            ContractViolation: records of another day, or of wrong types.
        """
        source = self.source

        def day_frame(query: Any, records: list[Record]) -> pl.DataFrame:
            day: date = query[source.query]
            key = calendar.month_key(day)
            if not records and not source.empty_ok:
                raise EmptyAnswer(empty_text(source, [day]))
            frame = self.frame(records, key)
            got = frame.select(source.day).to_series()
            others = got.filter(got != day)
            if others.len():
                sample = f"asked for {day}, got {others.unique().sort().head(3).to_list()}"
                failure = (source.day_column, "equals the date that was asked for", others.len(), sample)
                raise ContractViolation(Verdict(source.name, key, failures_frame([failure])))
            self.arrived[day] = frame
            return frame

        rest = [day for day in days if day not in self.arrived]
        here = {day: self.arrived[day] for day in days if day in self.arrived}
        fresh = self.client.fetch_many(source.endpoint, [{source.query: day} for day in rest], day_frame)
        for day in days:
            yield here[day] if day in here else next(fresh)


def empty_text(source: Source, days: Sequence[date]) -> str:
    """The sentence about trading days without records."""
    named = ", ".join(map(str, days[:5])) + (f" … ({len(days)} days)" if len(days) > 5 else "")
    out = source.endpoint.published_at(days[0])
    return (
        f"{source.name}: {source.endpoint.path} has no records for {named}, a trading day whose data must be out since "
        f"{out:%Y-%m-%d %H:%M} JST. Nothing was stored. Run it again later; if the exchange was closed that day, "
        "materialize trading_calendar, which compares the exchange's own calendar with ours"
    )
