"""A column of a table of events: it is judged where its table has something to say."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from atft_assets.features.feature import Feature


@dataclass(frozen=True)
class EventFeature(Feature):
    """A column whose coverage and variation are judged on the rows where a flag is 1.

    A type of its own: the one of all columns counts in the version of every table, and says nothing of events.

    Attributes:
        among: the validity flag, a column of the same table; empty: on all rows.
        may_be_absent: a month, which on its first evening is a day, may have no value at all: the strikes that it asks
            for were not there, nothing was traded at night.
    """

    among: str = ""
    may_be_absent: bool = False


def event_family(name: str, **common: Any) -> Callable[..., EventFeature]:
    """As `feature.family`, of event columns."""

    def row(column: str, formula: str, window: int = 1, lookback: int = 0, **own: Any) -> EventFeature:
        given = {"family": name, **common, **own}
        return EventFeature(column, **given, formula=formula, window=window, lookback=lookback)

    return row
