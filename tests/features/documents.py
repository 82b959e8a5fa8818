"""Records of fins_summary made by hand, in the shape of the raw table, and random names that disclose."""

from __future__ import annotations

from datetime import date, time, timedelta
from typing import Any

import numpy as np
import polars as pl

from atft_assets.jquants.endpoints import FINS_SUMMARY
from atft_assets.raw.stamps import INSTANT

ENDS = {"1Q": 3, "2Q": 6, "3Q": 9, "FY": 12}  # months of a fiscal year that are over
STANDARD = "Consolidated_JP"
CLOCKS = ("11:30:00", "15:00:00", "15:30:00", "16:00:00", "18:00:00", "19:30:00", "23:00:00")


def month_end(months: int) -> date:
    """The last day of a month that is counted from year 0."""
    year, month = divmod(months - 1, 12)
    return (date(year, month + 1, 28) + timedelta(days=4)).replace(day=1) - timedelta(days=1)


def document(
    code: str,
    day: date,
    period: str,
    year: int,
    *,
    clock: str = "15:30:00",
    number: str = "",
    kind: str = "",
    length: int = 12,
    **figures: Any,
) -> dict[str, Any]:
    """A record as the raw table holds it.

    Args:
        year: last month of the fiscal year, counted from year 0.
        kind: document type; by default results of the period.
        length: months of the fiscal year.
        figures: by field; None and absent fields come as "".
    """  # fmt: skip
    end = min(year - length + ENDS.get(period, 12), year)
    known = {
        "date": day,
        "DiscTime": clock,
        "code": code,
        "DiscNo": number or f"{day:%Y%m%d}{code}{period}{clock}",
        "DocType": kind or f"{period}FinancialStatements_{STANDARD}",
        "CurPerType": period,
        "CurPerSt": str(month_end(year - length) + timedelta(days=1)),
        "CurPerEn": str(month_end(end)),
        "CurFYSt": str(month_end(year - length) + timedelta(days=1)),
        "CurFYEn": str(month_end(year)),
        "available_at": FINS_SUMMARY.rule.at(day, time.fromisoformat(clock)),
    }
    said = {name: "" if value is None else str(value) for name, value in figures.items()}
    blank = {FINS_SUMMARY.column(field.name): "" for field in FINS_SUMMARY.fields}
    assert not set(said) - set(blank), set(said) - set(blank)
    return {**blank, **known, **said}


def frame_of(documents: list[dict[str, Any]]) -> pl.DataFrame:
    """The table of some records, in no particular order."""
    names = [FINS_SUMMARY.column(field.name) for field in FINS_SUMMARY.fields]
    schema = {name: pl.Date if name == "date" else pl.String for name in names} | {"available_at": INSTANT}
    return pl.DataFrame(documents, schema=schema)


def discloser(code: str, rng: np.random.Generator, years: range, last_month: int = 3) -> list[dict[str, Any]]:
    """A name that discloses as names do: gaps, corrections, revisions, several documents in one minute."""
    found: list[dict[str, Any]] = []
    forecast: dict[int, float] = {}
    basis = STANDARD
    for year in (y * 12 + last_month for y in years):
        length = 9 if rng.random() < 0.1 else 12
        if rng.random() < 0.15:
            basis = rng.choice([STANDARD, "Consolidated_IFRS", "NonConsolidated_JP"])
        for period in ENDS:
            end = month_end(min(year - length + ENDS[period], year))
            day = end + timedelta(days=int(rng.integers(20, 60)))
            clock = str(rng.choice(CLOCKS))
            target = year + 12 if period == "FY" else year
            if target not in forecast or rng.random() < 0.3:
                forecast[target] = float(rng.integers(-20, 200))
            prefix = "NxF" if period == "FY" else "F"
            share = ENDS[period] / 12

            def figures(share: float = share, prefix: str = prefix, target: int = target) -> dict[str, Any]:
                sales = float(rng.integers(500, 1500)) * share
                held: dict[str, Any] = {
                    "Sales": sales, "OP": round(sales * rng.normal(0.1, 0.1), 1),
                    "NP": round(sales * rng.normal(0.05, 0.1), 1),
                    "CFO": round(sales * 0.08, 1) if rng.random() < 0.5 else None,
                    "TA": int(rng.integers(1000, 2000)), "EqAR": round(float(rng.uniform(0.1, 0.8)), 3),
                    "CashEq": int(rng.integers(10, 900)), "ShOutFY": int(rng.integers(90, 110)),
                    "TrShFY": 5 if rng.random() < 0.7 else None,
                    **{flag: str(rng.choice(["true", "false", ""])) for flag in ("ChgAcEst", "RetroRst", "ChgByASRev")},
                }  # fmt: skip
                if rng.random() < 0.85:
                    held |= items(prefix, forecast[target], rng)
                gone = [name for name in ("OP", "Sales", "EqAR", "NP") if rng.random() < 0.05]
                return held | dict.fromkeys(gone)

            common: dict[str, Any] = {"length": length, "kind": f"{period}FinancialStatements_{basis}"}
            if rng.random() < 0.9:
                found.append(
                    document(
                        code, day, period, year, clock=clock, number=f"{code}{len(found):05}", **common, **figures()
                    )
                )
                if rng.random() < 0.25:  # corrected, perhaps long after
                    later = day + timedelta(days=int(rng.integers(0, 500)))
                    found.append(
                        document(code, later, period, year, number=f"{code}{len(found):05}", **common, **figures())
                    )
            if rng.random() < 0.4:  # the forecast is revised, in the same minute or later
                later = day + timedelta(days=int(rng.choice([0, 0, 15, 30])))
                forecast[target] += float(rng.integers(-30, 30))
                said = items("F", forecast[target], rng)
                kept = {name: value for name, value in said.items() if rng.random() < 0.7}
                found.append(
                    document(
                        code,
                        later,
                        "FY",
                        target,
                        clock=clock,
                        kind="EarnForecastRevision",
                        number=f"{code}{len(found):05}",
                        **kept,
                    )
                )
    return found


def items(prefix: str, forecast: float, rng: np.random.Generator) -> dict[str, Any]:
    """A whole forecast: `forecast` is of net profit, a hundred shares."""
    return {
        f"{prefix}Sales": int(rng.integers(900, 1200)), f"{prefix}OP": round(forecast * 1.5, 1),
        ("NxFNp" if prefix == "NxF" else f"{prefix}NP"): forecast,
        f"{prefix}EPS": round(forecast / float(rng.choice([100, 100, 200])), 3),
        f"{prefix}DivAnn": float(rng.choice([10, 12, 20, 24])),
        f"{prefix}PayoutRatioAnn": round(float(rng.uniform(0.1, 0.5)), 2),
    }  # fmt: skip
