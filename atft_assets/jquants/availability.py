"""When a record could first be known: one rule an endpoint, as data that the endpoint table states.

A rule reads one or two fields of a record and gives an instant in Tokyo. Where it must choose, it takes the later
instant: a value that is stamped too late is used a day late, one that is stamped too early leaks the future. Clocks are
hours and minutes after a day's midnight, so "27:00" is 03:00 of the next day; Tokyo has no summer time.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from typing import ClassVar

from atft_assets.calendar import TOKYO, is_trading_day, next_trading_day, previous_trading_day, shift_trading_days

Value = date | time | None


def clock_on(day: date, clock: str) -> datetime:
    """The instant in Tokyo of a clock ("16:30", "27:00") that counts from the midnight with which `day` begins."""
    hours, minutes = map(int, clock.split(":"))
    days, hour = divmod(hours, 24)
    return datetime.combine(day + timedelta(days=days), time(hour, minutes), TOKYO)


class Rule(ABC):
    """How the instant of a record follows from its fields.

    Attributes:
        foretells: the record is known before the date that it bears (tomorrow's master), so that is no contradiction.
    """

    foretells: ClassVar[bool] = False

    @property
    @abstractmethod
    def fields(self) -> tuple[str, ...]:
        """Names of the fields that it reads, as the API has them."""

    @property
    def clock_fields(self) -> frozenset[str]:
        """Those of them that hold a time of the day; the others hold dates."""
        return frozenset()

    @property
    def absent_ok(self) -> frozenset[str]:
        """Those of them that a record may lack."""
        return frozenset()

    @abstractmethod
    def at(self, *values: Value) -> datetime:
        """The instant from which a record with these values of `fields` can be had.

        Raises:
            ValueError: a date lies outside the trading calendar.
        """

    @abstractmethod
    def first(self, day: date) -> datetime:
        """The earliest instant at which records of a day that is asked for can be had."""

    def complete(self, day: date) -> datetime:
        """The instant from which all of them can be had."""
        return self.first(day)


class DayRule(Rule):
    """A rule that is a function of one date of the record."""

    date_field: str

    @property
    def fields(self) -> tuple[str, ...]:
        return (self.date_field,)

    def at(self, *values: Value) -> datetime:
        (day,) = values
        assert isinstance(day, date)  # the one field is a date, and never absent
        return self.first(day)


@dataclass(frozen=True)
class FixedClock(DayRule):
    """A clock time of the day that the record describes."""

    clock: str
    date_field: str = "Date"

    def first(self, day: date) -> datetime:
        return clock_on(day, self.clock)

    def __str__(self) -> str:
        return f"at {self.clock} JST"


@dataclass(frozen=True)
class DayBefore(DayRule):
    """A clock time of the trading day before the one that the record applies to."""

    foretells: ClassVar[bool] = True

    clock: str
    date_field: str = "Date"

    def first(self, day: date) -> datetime:
        return clock_on(previous_trading_day(day), self.clock)

    def __str__(self) -> str:
        return f"at {self.clock} JST of the trading day before"


@dataclass(frozen=True)
class EndOfMarchBefore(DayRule):
    """31 March of the year before: the exchange adds a year's calendar at the end of March; taken as 18:00."""

    foretells: ClassVar[bool] = True

    date_field: str = "Date"

    def first(self, day: date) -> datetime:
        return clock_on(date(day.year - 1, 3, 31), "18:00")

    def __str__(self) -> str:
        return "at the end of March of the year before"


@dataclass(frozen=True)
class BusinessDaysAfter(DayRule):
    """A clock time of the `days`-th trading day after the record's own."""

    days: int
    clock: str
    date_field: str = "Date"

    def __post_init__(self) -> None:
        if self.days < 1:
            raise ValueError(f"{self.days} trading days after: use 1 or more, or FixedClock for the day itself")

    def first(self, day: date) -> datetime:
        return clock_on(shift_trading_days(day, self.days), self.clock)

    def __str__(self) -> str:
        return f"at {self.clock} JST of trading day {self.days} after"


@dataclass(frozen=True)
class Publication(Rule):
    """A clock time of the date on which the record says that it was published.

    Attributes:
        otherwise: the rule of records that bear no publication date; the day that is asked for is then the date that
            this rule reads. None: every record bears one, and it is the day that is asked for.
    """

    date_field: str
    clock: str
    otherwise: DayRule | None = None

    @property
    def fields(self) -> tuple[str, ...]:
        return (self.date_field, *(self.otherwise.fields if self.otherwise else ()))

    @property
    def absent_ok(self) -> frozenset[str]:
        return frozenset({self.date_field} if self.otherwise else ())

    def at(self, *values: Value) -> datetime:
        published, *rest = values
        if published is None and self.otherwise:
            return self.otherwise.at(*rest)
        assert isinstance(published, date)
        return clock_on(published, self.clock)

    def first(self, day: date) -> datetime:
        return clock_on(day, self.clock)

    def complete(self, day: date) -> datetime:
        return self.otherwise.complete(day) if self.otherwise else self.first(day)

    def __str__(self) -> str:
        return f"at {self.clock} JST of {self.date_field}" + (
            f", without one {self.otherwise}" if self.otherwise else ""
        )


@dataclass(frozen=True)
class Disclosure(Rule):
    """The date and time at which a document was disclosed, and the service's next batch after that.

    Attributes:
        batches: clocks of a trading day at which the service takes in what was disclosed before; what comes on a closed
            day, or after the last of them, waits for the first batch of the next trading day. Without batches a
            document is there as it is disclosed.
    """

    date_field: str
    time_field: str
    batches: tuple[str, ...] = ()

    @property
    def fields(self) -> tuple[str, ...]:
        return (self.date_field, self.time_field)

    @property
    def clock_fields(self) -> frozenset[str]:
        return frozenset({self.time_field})

    def at(self, *values: Value) -> datetime:
        day, clock = values
        assert isinstance(day, date) and isinstance(clock, time)
        disclosed = datetime.combine(day, clock, TOKYO)
        if not self.batches:
            return disclosed
        if is_trading_day(day):
            for batch in self.batches:
                if (out := clock_on(day, batch)) > disclosed:  # at the very minute it may just miss the batch
                    return out
        return clock_on(next_trading_day(day), self.batches[0])

    def first(self, day: date) -> datetime:
        return self.at(day, time.min)

    def complete(self, day: date) -> datetime:
        return self.at(day, time.max) if self.batches else clock_on(day, "24:00")

    def __str__(self) -> str:
        batches = f", in the next batch of {', '.join(self.batches)} JST" if self.batches else ""
        return f"at {self.date_field} {self.time_field}{batches}"
