"""A checked request: its parameters, the window of its plan, and the clock by which rows appear."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta

from atft_assets.settings import Plan, plan_window

FROM_AFTER_TO = "'from' must be older than 'to'"
BAD_CODE = "'code' must be 4 or 5 digits."


class Refusal(Exception):
    """An answer that is not 200."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status, self.message = status, message


@dataclass(frozen=True)
class Query:
    """One checked request."""

    path: str
    plan: Plan
    now: datetime
    params: Mapping[str, str]

    @property
    def today(self) -> date:
        return self.now.date()

    def need(self, *names: str) -> None:
        """400 unless one of the parameters is there."""
        if not any(name in self.params for name in names):
            raise Refusal(400, f"This API requires at least 1 parameter as follows; {', '.join(names)}")

    def day(self, name: str, windowed: bool = True) -> date | None:
        """A date parameter in either notation; 400 when it is no date, or `windowed` and outside the plan's window."""
        text = self.params.get(name)
        if text is None:
            return None
        if not re.fullmatch(r"\d{8}|\d{4}-\d{2}-\d{2}", text):
            raise Refusal(400, f"'{name}' must be YYYYMMDD or YYYY-MM-DD.")
        try:
            day = date.fromisoformat(text)
        except ValueError:
            raise Refusal(400, f"'{name}' is not a valid date.") from None
        first, last = plan_window(self.plan, self.today)
        if windowed and (day < first or (last and day > last)):
            raise Refusal(
                400,
                f"Your subscription covers the following dates: {first} ~ {last or ''}. "
                "If you want more data, please check other plans:https://jpx-jquants.com/#dataset",
            )
        return day

    def span(self, since: str = "from", until: str = "to") -> tuple[date, date | None]:
        """`from` and `to`; 400 when they are the wrong way round. Sides left out are the window's."""
        first, last = self.day(since), self.day(until)
        if first and last and first > last:
            raise Refusal(400, FROM_AFTER_TO)
        lower, upper = plan_window(self.plan, self.today)
        return first or lower, last or upper

    def code(self) -> str | None:
        """The equity code in five characters; four mean the ordinary share."""
        code = self.params.get("code")
        if code is None:
            return None
        if not re.fullmatch(r"[0-9]{3}[0-9A-Z][0-9]?", code):
            raise Refusal(400, BAD_CODE)
        return code if len(code) == 5 else f"{code}0"


def published(query: Query, at: time) -> date:
    """Newest day whose rows, which appear at `at`, are there."""
    return query.today if query.now.time() >= at else query.today - timedelta(days=1)
