"""At which hour each raw table is asked for, as it follows from the rule of its endpoint.

The evening's run asks for all of them. A table of which something may come after that is asked for once more in the
night: its records count from the next evening on, so neither features nor scores wait for it.
"""

from collections.abc import Iterable
from datetime import date, datetime, timedelta

from atft_assets.calendar import next_trading_day
from atft_assets.jquants.availability import clock_on
from atft_assets.raw import Source

EVENING, NIGHT = "18:30", "27:30"  # of a trading day; the latest batches of the service are 24:30 and 27:00
LATE = timedelta(minutes=30)  # hours of the schedule are not promised: what is due at 18:00 was seen minutes after it

ORDINARY = date(2024, 6, 12)  # a Wednesday without a holiday near


def last_of(source: Source, day: date) -> datetime:
    """The instant at which the last records are due that a trading day brings: of a list of the next day, that list."""
    rule = source.endpoint.rule
    return rule.complete(next_trading_day(day) if rule.foretells else day)


def asked_at_night(sources: Iterable[Source], day: date = ORDINARY) -> list[str]:
    """Names of the tables that are asked for once more in the night, in the order of `sources`; none of an add-on."""
    evening = clock_on(day, EVENING)
    asked = (source for source in sources if not source.endpoint.addon)
    return [source.name for source in asked if last_of(source, day) + LATE >= evening]
