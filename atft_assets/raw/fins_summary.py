"""`fins_summary`: figures and forecasts of each disclosure, a row a document. Every plan.

Every value comes as text, "" where there is none. The key is `DiscNo` alone: a name files several documents in one
minute, and the date within a document's number is that of its registration, so order goes by (`DiscDate`, `DiscTime`,
`DiscNo`). A document may hold forecasts or dividends and no results. Results are cumulative within the fiscal year;
with those of a whole year the new forecasts stand in `NxF*` and `F*` is empty. IFRS and US-GAAP have no ordinary
profit. A correction is a document of its own. Preliminary at 18:00, final at 24:30.
"""

from collections.abc import Iterator, Mapping, Sequence
from datetime import date

import pandera.polars as pa
import polars as pl

from atft_assets.contracts import Contract
from atft_assets.jquants.endpoints import FINS_SUMMARY
from atft_assets.raw.columns import DATED, available_at_column, code_column, date_column, day_text, number_text, text
from atft_assets.raw.source import Pull, Source

DATES = {
    "CurPerSt": "First day of the period",
    "CurPerEn": "Last day of the period",
    "CurFYSt": "First day of the fiscal year",
    "CurFYEn": "Last day of the fiscal year",
    "NxtFYSt": "First day of the next fiscal year",
    "NxtFYEn": "Last day of the next fiscal year",
}
FLAGS = {
    "MatChgSub": "Material change of subsidiaries",
    "SigChgInC": "Significant change in the scope of consolidation (since 2024-07-22)",
    "ChgByASRev": "Change of accounting policy by a revised standard",
    "ChgNoASRev": "Other change of accounting policy",
    "ChgAcEst": "Change of accounting estimates",
    "RetroRst": "Restatement",
}
PERIODS = ("1Q", "2Q", "3Q", "4Q", "5Q", "FY", "")
ITEMS = {
    "Sales": "net sales, JPY",
    "OP": "operating profit, JPY",
    "OdP": "ordinary profit, JPY",
    "NP": "net profit, JPY",
    "Np": "net profit, JPY",
    "EPS": "earnings per share, JPY",
    "DEPS": "diluted earnings per share, JPY",
    "TA": "total assets, JPY",
    "Eq": "net assets with minorities, JPY",
    "ShEq": "equity of the owners, JPY",
    "EqAR": "equity of the owners over total assets, a fraction",
    "BPS": "book value per share, JPY",
    "ROE": "return on equity, a fraction",
    "CFO": "cash flow from operations, JPY",
    "CFI": "cash flow from investing, JPY",
    "CFF": "cash flow from financing, JPY",
    "CashEq": "cash and equivalents, JPY",
    "ShOutFY": "shares issued at the end of the period",
    "TrShFY": "treasury shares at the end of the period",
    "AvgSh": "average shares of the period",
    "PayoutRatioAnn": "pay-out ratio, a fraction",
    "Div1Q": "dividend of the first quarter, JPY a share",
    "Div2Q": "dividend of the second quarter, JPY a share",
    "Div3Q": "dividend of the third quarter, JPY a share",
    "DivFY": "dividend of the year's end, JPY a share",
    "DivAnn": "dividend of the year, JPY a share",
    "DivUnit": "dividend of a unit (REIT), JPY",
    "DivTotalAnn": "dividends of the year, JPY",
}
_PREFIXES = {
    "NxFNC": "forecast of the next year, without subsidiaries",
    "FNC": "forecast of the year, without subsidiaries",
    "NxF": "forecast of the next year",
    "NC": "without subsidiaries",
    "F": "forecast of the year",
    "": "",
}


def what(name: str) -> str | None:
    """A figure in words; None where the field is none."""
    for prefix, said in _PREFIXES.items():
        rest = name.removeprefix(prefix)
        half = rest.endswith("2Q") and rest not in ITEMS
        item = ITEMS.get(rest.removesuffix("2Q") if half else rest)
        if name.startswith(prefix) and item:
            words = [item, said, "first half" if half else ""]
            text = "; ".join(word for word in words if word)
            return text[0].upper() + text[1:]
    return None


def _columns() -> Mapping[str, pa.Column]:
    known = {
        "date": date_column(),
        "DiscTime": text("Time of the disclosure, HH:MM:SS"),
        "code": code_column(),
        "DiscNo": text("Number of the document", pa.Check.str_matches(r"^\S+$")),
        "DocType": text("Type of the document", pa.Check.str_matches(r"^\S+$")),
        "CurPerType": text("Period of the figures", pa.Check.isin(PERIODS)),
        **{name: day_text(said, undecided=True) for name, said in DATES.items()},
        **{name: text(said, pa.Check.isin(["true", "false", ""])) for name, said in FLAGS.items()},
        "available_at": available_at_column(),
    }
    optional = {field.name for field in FINS_SUMMARY.fields if field.optional}
    columns = {}
    for field in FINS_SUMMARY.fields:
        name = FINS_SUMMARY.column(field.name)
        columns[name] = known.get(name) or number_text(what(name) or name, nullable=True)
        if field.name in optional:
            columns[name].required, columns[name].nullable = False, True
    return {**columns, "available_at": known["available_at"]}


SCHEMA = _columns()

CONTRACT = Contract(
    table="fins_summary",
    schema=pa.DataFrameSchema(dict(SCHEMA), unique=FINS_SUMMARY.key_columns),
    constant_ok=DATED | frozenset(SCHEMA),
    nullable_ok=frozenset(name for name, column in SCHEMA.items() if column.nullable),
    empty_ok=True,
)


def fetch(pull: Pull, days: Sequence[date]) -> Iterator[pl.DataFrame]:
    """All documents of each day; there are some on Saturdays."""
    yield from pull.by_date(days)


SOURCE = Source(
    FINS_SUMMARY,
    CONTRACT,
    fetch,
    module=__name__,
    description="Results, forecasts and dividends of each disclosed document, as text.",
    empty_ok=True,
    closed_days=True,
)
