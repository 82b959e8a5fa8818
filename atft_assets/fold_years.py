"""The years of the walk-forward: a typed setting, and the folds that follow from it.

A fold is called after the years of its test block, `2018` or `2018-2019`; its name is the partition of `fold_phase0` …
`fold_scores`. The names follow from the settings alone, neither from a panel nor from Dagster's database: the code
location loads on an empty machine, command line, webserver and daemon agree without having talked to each other, and a
year that was never trained is a partition that is seen to be missing. Dynamic partitions would be rows of one database,
to be added before a command could name them, and lost with it.
"""

from dataclasses import dataclass
from datetime import date
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from atft_model.interchange.fold import MIN_BLOCK_DAYS

Scheme = Literal["expanding", "rolling"]

ROLLING_YEARS = 5
LEAST_YEARS = 2  # whole years of data before the first test year, where nobody says otherwise
LAST_SESSION = (12, 30)  # the exchange's year ends on this day or earlier


@dataclass(frozen=True)
class FoldYears:
    """The test years of one fold, both inclusive.

    Attributes:
        final: its test block is kept for the end.
    """

    first: int
    last: int
    final: bool = False

    @property
    def name(self) -> str:
        return str(self.first) if self.first == self.last else f"{self.first}-{self.last}"

    @property
    def span(self) -> tuple[date, date]:
        """First and last calendar day of the test block."""
        return date(self.first, 1, 1), date(self.last, 12, 31)


class WalkForward(BaseModel):
    """Which years are tested, and how the days before them are divided."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    first: int | None = Field(
        default=None,
        description=f"First test year; by default the one after {LEAST_YEARS} whole years of data, and for rolling "
        "folds after the training years and one more",
    )
    last: int | None = Field(
        default=None, description="Last test year; by default the last year that is over in the data"
    )
    years: int = Field(default=1, ge=1, description="Years of a test block")
    scheme: Scheme = Field(
        default="expanding", description="Training begins with the data (expanding), or moves on (rolling)"
    )
    train_years: int | None = Field(
        default=None, ge=1, description=f"Training years of a rolling fold; by default {ROLLING_YEARS}"
    )
    validation_days: int = Field(
        default=122,
        ge=MIN_BLOCK_DAYS,
        description="Trading days of the validation block, by which epochs are chosen, guards and gains are measured",
    )
    final: tuple[int, ...] = Field(
        default=(),
        description="Test years that are kept for the end, besides those that share days with main's test block",
    )

    @model_validator(mode="after")
    def _consistent(self) -> "WalkForward":
        if self.first is not None and self.last is not None:
            tested = self.last - self.first + 1
            if tested < 1:
                raise ValueError(f"first ({self.first}) is after last ({self.last}): exchange them")
            if tested % self.years:
                raise ValueError(
                    f"{self.first} to {self.last} are {tested} years, which blocks of {self.years} do not fill: "
                    "take another first, last or years"
                )
        if self.scheme == "expanding" and self.train_years is not None:
            raise ValueError("train_years is of rolling folds: add scheme=rolling, or leave it out")
        return self

    @property
    def rolling_years(self) -> int | None:
        """Training years of a fold; None: all that there are."""
        return (self.train_years or ROLLING_YEARS) if self.scheme == "rolling" else None

    def folds(self, start: date, end: date | None, today: date) -> tuple[FoldYears, ...]:
        """The folds of data from `start` to `end`, the earliest first; always one at least.

        A fold whose days the panel then does not hold is left out when the folds are cut, with the reason.

        Args:
            end: last day of the data; None: they go on, and `today` decides which years are over.
        """
        newest = end or today
        over = newest.year if (newest.month, newest.day) >= LAST_SESSION else newest.year - 1
        whole = start.year if (start.month, start.day) <= (1, 10) else start.year + 1
        first = self.first or whole + (LEAST_YEARS if self.rolling_years is None else self.rolling_years + 1)
        last = self.last or max(over, start.year)
        if self.first is None:  # whole blocks back from the last year
            first += (last - first + 1) % self.years if last >= first else 0
        firsts = range(first, last - self.years + 2, self.years) or [max(last - self.years + 1, self.first or 0)]
        return tuple(
            FoldYears(year, (to := year + self.years - 1), any(year <= one <= to for one in self.final))
            for year in firsts
        )

    @classmethod
    def parse(cls, text: str) -> "WalkForward":
        """The setting in words: `first=2018 years=2 scheme=rolling train_years=4 final=2024,2025`.

        Raises:
            ValueError: a word is none of these, or its value cannot be used; the text says which and why.
        """
        given: dict[str, object] = {}
        for word in text.split():
            name, equals, value = word.partition("=")
            if not equals or name not in cls.model_fields or name in given:
                raise ValueError(
                    f"{word!r}: use each of {', '.join(f'{one}=' for one in cls.model_fields)} once at most"
                )
            given[name] = value.split(",") if name == "final" else value
        try:
            return cls.model_validate(given)
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(map(str, first["loc"]))
            raise ValueError(
                f"{where}: {first['msg']}" if where else first["msg"].removeprefix("Value error, ")
            ) from None
