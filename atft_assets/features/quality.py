"""Data quality: what a person should look at before trusting a month, as asset checks that warn and do not block.

Contracts say what may be stored; these say what looks odd although it may be stored (`oddities`). Each judges the
months of its run, and its text says where to look. A finding that a person has accepted (`contracts.acceptance`) is
told no more; the asset `data_release` refuses a month while one that stops stands unaccepted.
"""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain

import dagster as dg
import polars as pl

from atft_assets import calendar
from atft_assets.contracts.acceptance import Acceptance, accepted_findings
from atft_assets.features.bars import RAW_COLUMNS, adjusted_bars
from atft_assets.features.catalogue import feature_set
from atft_assets.features.names import ALL, DAILY_QUOTES, GROUP, LISTED_INFO, RAW, UNIVERSE
from atft_assets.features.oddities import (
    DRIFT_DAYS,
    drift,
    market_against_names,
    missing_names,
    sector_jumps,
    stale_prices,
    unexplained_returns,
    untraded_days,
)
from atft_assets.partitions import months_of_tags
from atft_assets.store import Store

FINDINGS_SHOWN = 20


@dataclass(frozen=True)
class Quality:
    """One check: the table it belongs to, what it finds in a month, and what to do about it.

    Attributes:
        find: from the store, a month and all months of the table, the rows that it finds.
        same_by: columns that tell one finding of a month from another; none: a month has one at most.
        stops: a month with an unaccepted finding is not released. What markets do by themselves is only told.
        newest_only: of the months of a run only the last is judged.
    """

    name: str
    asset: str
    group: str
    find: Callable[[Store, str, list[str]], pl.DataFrame]
    same_by: tuple[str, ...]
    advice: str
    description: str
    stops: bool = True
    newest_only: bool = False

    @property
    def key(self) -> dg.AssetCheckKey:
        """Key of the check."""
        return dg.AssetCheckKey(dg.AssetKey(self.asset), self.name)

    def accept(self, month: str) -> str:
        """The command by which a person accepts what it found in a month."""
        return f"python -m atft_assets.tools.accept {self.asset} {month} --check {self.name} --reason TEXT"


def _table(
    store: Store, group: str, name: str, keys: list[str], columns: tuple[str, ...] | None = None
) -> pl.DataFrame:
    table = store.table(group, name)
    published = set(table.keys())
    return table.read([k for k in keys if k in published], columns)


def _recent(key: str, keys: list[str], months: int) -> list[str]:
    return [k for k in keys if calendar.shift_month(key, -months) <= k <= key]


def _find_missing(store: Store, key: str, keys: list[str]) -> pl.DataFrame:
    quotes = _table(store, RAW, DAILY_QUOTES, [key], ("date", "code"))
    return missing_names(quotes, _table(store, RAW, LISTED_INFO, _recent(key, keys, 1)))


def _find_stale(store: Store, key: str, keys: list[str]) -> pl.DataFrame:
    quotes = _table(store, RAW, DAILY_QUOTES, _recent(key, keys, 1), RAW_COLUMNS)
    return stale_prices(adjusted_bars(quotes, key)).filter(pl.col("date") >= calendar.first_of_month(key))


def _find_outliers(store: Store, key: str, keys: list[str]) -> pl.DataFrame:
    quotes = _table(store, RAW, DAILY_QUOTES, _recent(key, keys, 1), ("date", "code", "C", "AdjFactor"))
    return unexplained_returns(quotes).filter(pl.col("date") >= calendar.first_of_month(key))


def _find_untraded(store: Store, key: str, keys: list[str]) -> pl.DataFrame:
    return untraded_days(_table(store, RAW, DAILY_QUOTES, [key], ("date", "code", "C")))


def _find_jumps(store: Store, key: str, keys: list[str]) -> pl.DataFrame:
    members = _table(store, GROUP, UNIVERSE, _recent(key, keys, 1), ("date", "code", "s33"))
    return sector_jumps(members).filter(pl.col("date") >= calendar.first_of_month(key))


def _find_market(store: Store, key: str, keys: list[str]) -> pl.DataFrame:
    columns = ("date", "returns_1d", "log_turnover", "mkt_ret_1d")
    frame = _table(store, GROUP, ALL, _recent(key, keys, 1), columns)
    return market_against_names(frame.select(columns[:3]), frame.select("date", "mkt_ret_1d").unique("date"))


def _find_drift(store: Store, key: str, keys: list[str]) -> pl.DataFrame:
    # What all names of a day share moves with the market: the day's median is taken off. Columns with windows of months
    # have few independent values in one, and a leave-one-out mean has one a sector: both are left out.
    slow = 20
    columns = [
        f.name
        for f in feature_set("full")
        if f.kind in ("time_series", "cross_section") and f.lookback <= slow and not f.name.endswith("_eq_loo")
    ]
    past = [k for k in _recent(key, keys, 12) if k != key]
    if len(past) < 6:
        return pl.DataFrame(schema={"column": pl.String, "psi": pl.Float64})

    def against_the_day(k: str) -> pl.DataFrame:
        frame = _table(store, GROUP, ALL, [k], ("date", *columns))
        return frame.select("date", *(pl.col(c) - pl.col(c).median().over("date") for c in columns))

    # so many days as a month has: the first of a month alone is no sample of a year
    last = against_the_day(past[-1])
    now = pl.concat([last, against_the_day(key)])
    first = now["date"].unique().sort().tail(DRIFT_DAYS)[0]
    before = chain(map(against_the_day, past[:-1]), [last])
    year = pl.concat(frame.filter(pl.col("date") < first).gather_every(10) for frame in before)
    return drift(now.filter(pl.col("date") >= first), year, columns)


CHECKS = (
    Quality(
        "missing_names",
        UNIVERSE,
        GROUP,
        _find_missing,
        ("date", "missing"),
        "fetch these days of daily_quotes again (refetch: true); if the rows stay away, compare listed_info with the "
        "exchange's own list",
        "On every day at least 98 % of the master's names have a row.",
    ),
    Quality(
        "stale_prices",
        DAILY_QUOTES,
        RAW,
        _find_stale,
        ("code", "date"),
        "look the names up: a suspended name should have null prices, not repeated ones",
        "No name repeats its prices and volume for ten traded days.",
    ),
    Quality(
        "unexplained_returns",
        DAILY_QUOTES,
        RAW,
        _find_outliers,
        ("date", "code", "move"),
        "look for a split or consolidation on the date whose AdjFactor is missing, else for a wrong price",
        "No daily return beyond +100 % or -40 % without a corporate action.",
    ),
    Quality(
        "untraded_days",
        DAILY_QUOTES,
        RAW,
        _find_untraded,
        ("date", "untraded"),
        "look whether the exchange halted trading; if it did not, the prices are lacking: fetch these days again "
        "(refetch: true)",
        "On every day three quarters of the names trade; halts of the exchange that are known are left out.",
    ),
    Quality(
        "sector_jumps",
        UNIVERSE,
        GROUP,
        _find_jumps,
        ("date", "code", "after"),
        "compare the two snapshots of listed_info around the dates: so many names do not change their sector at once",
        "At most 2 % of the names change their sector within a month.",
    ),
    Quality(
        "market_against_names",
        ALL,
        GROUP,
        _find_market,
        ("finding",),
        "compare the dates of topix and daily_quotes: an index shifted by a day is the usual cause",
        "The TOPIX moves with the turnover-weighted mean of its names (correlation above 0.6 over two months), and "
        "better than with that of the day before or after.",
    ),
    Quality(
        "drift",
        ALL,
        GROUP,
        _find_drift,
        (),
        "look at the columns' formulas and their raw inputs of the month; after a market shock this passes by itself",
        "No column's distribution of the last 20 days leaves that of the trailing year (population stability index at "
        "most 0.5).",
        stops=False,
        newest_only=True,
    ),
)

STOPPING = tuple(one for one in CHECKS if one.stops)


@dataclass(frozen=True)
class Finding:
    """What a check found in a month.

    Attributes:
        rows: what it found, as the check gives it.
        open: those of the rows that nobody has accepted.
        prints: a fingerprint of each open row; equal rows of equal months have equal ones.
        accepted: who accepted the others.
    """

    quality: Quality
    month: str
    rows: pl.DataFrame
    open: pl.DataFrame
    prints: tuple[str, ...]
    accepted: tuple[Acceptance, ...]

    def __str__(self) -> str:
        said = ", ".join(f"{name} {value}" for name, value in self.open.row(0, named=True).items())
        more = f" and {self.open.height - 1} more" if self.open.height > 1 else ""
        return f"{self.quality.name} of {self.quality.asset} {self.month}: {said}{more}"


def findings(store: Store, instance: dg.DagsterInstance, quality: Quality, months: Sequence[str]) -> list[Finding]:
    """What a check finds in those of the months that its table holds; a month without rows is not among them."""
    keys = store.table(quality.group, quality.asset).keys()
    published = [month for month in months if month in keys]
    accepted: Mapping[str, Acceptance] | None = None
    found = []
    for month in published[-1:] if quality.newest_only else published:
        rows = quality.find(store, month, keys)
        if rows.is_empty():
            continue
        accepted = accepted_findings(instance, quality.key) if accepted is None else accepted
        prints = [_fingerprint(quality, month, row) for row in rows.iter_rows(named=True)]
        new = [place for place, one in enumerate(prints) if one not in accepted]
        by = {accepted[one] for one in prints if one in accepted}
        found.append(
            Finding(quality, month, rows, rows[new], tuple(dict.fromkeys(prints[place] for place in new)), tuple(by))
        )
    return found


def _fingerprint(quality: Quality, month: str, row: Mapping[str, object]) -> str:
    values = [row[name] for name in quality.same_by]
    told = [f"{value:.3g}" if isinstance(value, float) else str(value) for value in values]
    return hashlib.sha256("/".join([quality.asset, quality.name, month, *told]).encode()).hexdigest()[:12]


def quality_checks() -> list[dg.AssetChecksDefinition]:
    """The asset checks."""
    return [_asset_check(quality) for quality in CHECKS]


def _asset_check(quality: Quality) -> dg.AssetChecksDefinition:
    @dg.asset_check(asset=quality.asset, name=quality.name, blocking=False, description=quality.description)
    def check(context: dg.AssetCheckExecutionContext, store: Store) -> dg.AssetCheckResult:
        keys = store.table(quality.group, quality.asset).keys()
        months = [month for month in months_of_tags(context.run.tags) if month in keys] or keys[-1:]
        return result_of(quality, months, findings(store, context.instance, quality, months))

    return check


def result_of(quality: Quality, months: Sequence[str], found: Sequence[Finding]) -> dg.AssetCheckResult:
    """The verdict of a check: it passes if nothing was found, or if all of it has been accepted."""
    still_open = [one for one in found if one.prints]
    judged = months[-1:] if quality.newest_only else months or ["-"]
    span = judged[0] if len(judged) == 1 else f"{judged[0]} … {judged[-1]}"
    rows = [
        dg.TableRecord({"month": one.month, **{k: str(v) for k, v in row.items()}})
        for one in found
        for row in one.rows.head(FINDINGS_SHOWN).iter_rows(named=True)
    ]
    if still_open:
        text = "; ".join(map(str, still_open)) + f". What to do: {quality.advice}"
    elif found:
        text = f"{span}: accepted. " + "; ".join(str(who) for one in found for who in one.accepted)
    else:
        text = f"{span}: nothing found"
    return dg.AssetCheckResult(
        passed=not still_open,
        severity=dg.AssetCheckSeverity.WARN,
        description=text,
        metadata={
            "partition": (still_open or found)[-1].month if found else judged[-1],
            "months": span,
            "findings": sum(one.rows.height for one in found),
            "open": dg.MetadataValue.json({one.month: list(one.prints) for one in still_open}),
            **({"sample": dg.MetadataValue.table(rows[:FINDINGS_SHOWN])} if rows else {}),
        },
    )


def open_findings(
    store: Store, instance: dg.DagsterInstance, months: Sequence[str], checks: Sequence[Quality] = STOPPING
) -> list[Finding]:
    """Findings of the months that nobody has accepted, by default of all checks that stop their release.

    They are made from the tables as they stand.
    """
    every = (one for quality in checks for one in findings(store, instance, quality, months))
    return [one for one in every if one.prints]
