"""Weekly flow by kind of investor (`/equities/investor-types`): who bought and sold, by section of the market.

A week is published on the fourth business day after it as a rule, and later now and then; a corrected one is published
again. What foreigners do turns within weeks and follows nothing that prices show (`known_state`).
"""

from dataclasses import dataclass
from datetime import date
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from atft_assets.sandbox import codes as tables
from atft_assets.sandbox import ordinals
from atft_assets.sandbox.config import MarketConfig
from atft_assets.sandbox.draws import F64, I64, normal, turning, uniform
from atft_assets.sandbox.process import Bools
from atft_assets.sandbox.wire import remembered

if TYPE_CHECKING:
    from atft_assets.sandbox.market import Market

GROUPS = ("Prop", "Brk", "Tot", "Ind", "Frgn", "SecCo", "InvTr", "BusCo", "OthCo", "InsCo", "Bank", "TrstBnk", "OthFin")
CLIENTS = GROUPS[3:]
SIDES = ("Sell", "Buy", "Tot", "Bal")
FIELDS = ("PubDate", "StDate", "EnDate", "Section", *(f"{who}{what}" for who in GROUPS for what in SIDES))
WHOLE = "TokyoNagoya"
OLD, NEW = ("TSE1st", "TSE2nd", "TSEMothers", "TSEJASDAQ"), ("TSEPrime", "TSEStandard", "TSEGrowth")
CORRECTED_SINCE = date(2023, 4, 3).toordinal()  # before that a correction replaced what it corrects
SCALES = (3, 7)  # weeks over which the flow of foreigners turns
PROPRIETARY = 0.12  # of turnover
# share of the clients' turnover, in the order of `CLIENTS`
_SHARES = np.array([0.22, 0.62, 0.01, 0.02, 0.012, 0.004, 0.002, 0.003, 0.1, 0.009])
_SHARES /= _SHARES.sum()


@dataclass(frozen=True)
class Weeks:
    """Weeks with at least one session between two days.

    Attributes:
        number: counts Mondays, the same for every market.
        start, end: first and last session, ordinals.
        published: publication, an ordinal; again: that of a correction, 0 for none.
    """

    number: I64
    start: I64
    end: I64
    published: I64
    again: I64


def weeks(config: MarketConfig) -> Weeks:
    """The weeks of a market."""
    known = ordinals.sessions()
    inside = known[(known >= config.start.toordinal()) & (known <= config.end.toordinal())]
    number = (inside - 1) // 7
    numbers, first = np.unique(number, return_index=True)
    last = np.append(first[1:], len(inside)) - 1
    # the week's own last session, also where the market ends before it
    end = ordinals.on_or_before(numbers * 7 + 7)
    late = uniform(config.seed, "late week", numbers)
    days = 4 + (late < 0.08) + (late < 0.03) + (late < 0.01)
    published = ordinals.shift(end, days)
    corrected = (uniform(config.seed, "corrected week", numbers) < 0.03) & (published >= CORRECTED_SINCE)
    again = ordinals.shift(published, 3 + np.floor(uniform(config.seed, "correction", numbers) * 30).astype(np.int64))
    whole = inside[last] == end  # a week that the market does not see to its end is not there yet
    return Weeks(*(values[whole] for values in (numbers, inside[first], end, published, np.where(corrected, again, 0))))


def state(config: MarketConfig, number: I64) -> F64:
    """What foreigners do in weeks, about standard normal."""
    return turning(config.seed, "flow", number, SCALES)


def known_state(config: MarketConfig, days: list[date]) -> F64:
    """[days] sign of the newest published week's state, softened around zero, of unit variance; 0 before any."""
    known = weeks(config)
    rows = np.array([day.toordinal() for day in days])
    order = np.argsort(known.published, kind="stable")
    newest = np.maximum.accumulate(order)  # week by publication: one that comes late is no longer the newest
    come = np.searchsorted(known.published[order], rows, side="right")
    softened = np.append(np.tanh(1.5 * state(config, known.number)) / 0.74, 0.0)
    return softened[np.append(len(order), newest)[come]]


def investor_types(market: "Market", first: date | None, last: date | None, section: str | None) -> pl.DataFrame:
    """Rows of the weeks published between two dates, inclusive, by publication and section."""
    whole = _published(market)
    lo, hi = (first or date.min).isoformat(), (last or date.max).isoformat()
    frame = whole.filter(pl.col("PubDate").is_between(pl.lit(lo), pl.lit(hi)))
    return frame.filter(pl.col("Section") == section) if section else frame


@remembered(1)
def _published(market: "Market") -> pl.DataFrame:
    """All rows: some thousands in ten years."""
    config, known = market.config, weeks(market.config)
    turnover = _turnover(market, known)
    frames = []
    for version, published in enumerate((known.published, known.again)):
        use = published > 0
        for section in (*OLD, *NEW, WHOLE):
            listed = use & _has(section, known.end) & (_of(section, turnover) > 0)
            if listed.any():
                where = np.flatnonzero(listed)
                figures = _figures(config, section, known.number[where], _of(section, turnover)[where], version)
                days = {
                    "PubDate": ordinals.text(published[where]),
                    "StDate": ordinals.text(known.start[where]),
                    "EnDate": ordinals.text(known.end[where]),
                }
                text = {name: pl.Series(values, dtype=pl.String) for name, values in days.items()}
                frames.append(pl.DataFrame({**text, "Section": [section] * len(where), **figures}).select(FIELDS))
    if not frames:
        return pl.DataFrame(schema=dict.fromkeys(FIELDS[:4], pl.String) | dict.fromkeys(FIELDS[4:], pl.Int64))
    return pl.concat(frames).sort("PubDate", "EnDate", "Section")


def _has(section: str, end: I64) -> Bools:
    """Whether a section is published of weeks with these last days."""
    reform = tables.MARKET_REFORM.toordinal()
    return end < reform if section in OLD else (end >= reform) | (section == WHOLE)


def _turnover(market: "Market", known: Weeks) -> F64:
    """[weeks, 5] thousand JPY by old section: first, second, Mothers, JASDAQ that became Standard, and Growth."""
    names = market.names
    segment = np.where(names.segment == 0, 0, np.where(names.segment < 3, names.segment + 2 * names.old_market, 9))
    out = np.zeros((len(known.number), 5))
    rows = market.ordinals
    for week, (start, end) in enumerate(zip(known.start, known.end, strict=True)):
        lo, hi = np.searchsorted(rows, start), np.searchsorted(rows, end, side="right")
        for row in range(lo, hi):
            columns = np.flatnonzero(market.traded[row] & (segment < 9))
            _, _, value = market.trade(np.full(len(columns), row), columns)
            out[week] += np.bincount(segment[columns], weights=value, minlength=5)[:5]
    return out / 1000


def _of(section: str, turnover: F64) -> F64:
    """[weeks] a section's turnover; the whole holds other exchanges on top of the sections."""
    first, second, mothers, standard, growth = turnover.T
    return {
        "TSE1st": first, "TSE2nd": second, "TSEMothers": mothers, "TSEJASDAQ": standard + growth, "TSEPrime": first,
        "TSEStandard": second + standard, "TSEGrowth": mothers + growth,
        WHOLE: turnover.sum(axis=1) * 1.0001,
    }[section]  # fmt: skip


def _figures(config: MarketConfig, section: str, number: I64, turnover: F64, version: int) -> dict[str, I64]:
    """Sales and purchases of each kind; sums hold exactly, as they do in what is published.

    Args:
        turnover: [weeks] thousand JPY that changed hands; each side of it is one sale and one purchase.
        version: 1 for a correction, in which some figures differ.
    """
    seed, place = config.seed, np.arange(len(number))
    lean = np.zeros((len(CLIENTS), len(number)))  # purchases over sales, log
    foreign = state(config, number)
    for k, who in enumerate(CLIENTS):
        lean[k] = 0.05 * normal(seed, f"lean {who} {section}", number)
    lean[CLIENTS.index("Frgn")] = 0.07 * foreign + 0.012 * normal(seed, f"foreign {section}", number)
    lean[CLIENTS.index("Ind")] -= 0.04 * foreign  # somebody takes the other side
    size = np.exp(0.15 * normal(seed, f"activity {section}", number[None, :], np.arange(len(CLIENTS))[:, None]))
    size *= _SHARES[:, None] * (1 - PROPRIETARY) * turnover[None, :]
    if version:
        size[place % len(CLIENTS), place] *= 1.001
    out: dict[str, I64] = {}
    for k, who in enumerate(CLIENTS):
        _both(out, who, np.rint(size[k] * np.exp(-lean[k] / 2)), np.rint(size[k] * np.exp(lean[k] / 2)))
    own = PROPRIETARY * turnover * np.exp(0.1 * normal(seed, f"proprietary {section}", number))
    tilt = 0.03 * normal(seed, f"lean Prop {section}", number)
    _both(out, "Prop", np.rint(own * np.exp(-tilt)), np.rint(own * np.exp(tilt)))
    _both(out, "Brk", *(np.sum([out[f"{who}{side}"] for who in CLIENTS], axis=0) for side in ("Sell", "Buy")))
    _both(out, "Tot", *(out[f"Prop{side}"] + out[f"Brk{side}"] for side in ("Sell", "Buy")))
    return out


def _both(out: dict[str, I64], who: str, sell: F64 | I64, buy: F64 | I64) -> None:
    sold, bought = np.asarray(sell, np.int64), np.asarray(buy, np.int64)
    for what, values in zip(SIDES, (sold, bought, sold + bought, bought - sold), strict=True):
        out[f"{who}{what}"] = values
