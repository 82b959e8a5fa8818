"""Statements as they are served: summaries (`/fins/summary`, every value text) and details (`/fins/details`).

Oddities of the real ones, each of which occurs: results of the whole year carry the new forecasts in `NxF*` and none
in `F*`; IFRS and US-GAAP have no ordinary profit; quarters mostly have no cash flow, and where they have one it is
finer than the rest; documents with forecasts or dividends alone; two documents in one minute; corrections of which
half repeat the figures; dates within numbers that are those of the registration; numbers as `55967000000.0` and
`55967000000`.
"""

import json
from dataclasses import fields
from datetime import date
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from atft_assets.sandbox import ordinals
from atft_assets.sandbox.draws import F64, I64, pick, uniform, whole
from atft_assets.sandbox.figures import Figures, decided, dividend, figures, fiscal, forecast, million, of_profit
from atft_assets.sandbox.fiscal import CORRECTED, DIVIDEND, FIRST, RESULT, REVISION, SLOTS, Fiscal, seconds_text
from atft_assets.sandbox.process import Bools
from atft_assets.sandbox.wire import RAW

if TYPE_CHECKING:
    from atft_assets.sandbox.market import Market

_PROFIT = ("Sales", "OP", "OdP", "NP", "EPS")
_DIVIDENDS = ("1Q", "2Q", "3Q", "FY", "Ann", "Unit")


def _with(prefix: str, names: tuple[str, ...], suffix: str = "") -> tuple[str, ...]:
    return tuple(f"{prefix}{name}{suffix}" for name in names)


KEY = ("DiscDate", "DiscTime", "Code", "DiscNo", "DocType")
DETAIL_FIELDS = (*KEY, "FS")
SUMMARY_FIELDS: tuple[str, ...] = (
    *KEY, "CurPerType", "CurPerSt", "CurPerEn", "CurFYSt", "CurFYEn", "NxtFYSt", "NxtFYEn",
    *_PROFIT, "DEPS", "TA", "Eq", "EqAR", "BPS", "CFO", "CFI", "CFF", "CashEq",
    *_with("Div", _DIVIDENDS), "DivTotalAnn", "PayoutRatioAnn",
    *_with("FDiv", _DIVIDENDS), "FDivTotalAnn", "FPayoutRatioAnn", *_with("NxFDiv", _DIVIDENDS), "NxFPayoutRatioAnn",
    *_with("F", _PROFIT, "2Q"), "NxFSales2Q", "NxFOP2Q", "NxFOdP2Q", "NxFNp2Q", "NxFEPS2Q",
    *_with("F", _PROFIT), "NxFSales", "NxFOP", "NxFOdP", "NxFNp", "NxFEPS",
    "MatChgSub", "SigChgInC", "ChgByASRev", "ChgNoASRev", "ChgAcEst", "RetroRst", "ShOutFY", "TrShFY", "AvgSh",
    *_with("NC", (*_PROFIT, "TA", "Eq", "EqAR", "BPS")),
    *_with("FNC", _PROFIT, "2Q"), *_with("NxFNC", _PROFIT, "2Q"), *_with("FNC", _PROFIT), *_with("NxFNC", _PROFIT),
    "ShEq", "NCShEq", "ROE", "NCROE",
)  # fmt: skip
FLAGS = ("MatChgSub", "SigChgInC", "ChgByASRev", "ChgNoASRev", "ChgAcEst", "RetroRst")
_FLAG_SHARES = (0.02, 0.03, 0.08, 0.02, 0.05, 0.01)
SCOPE_FLAG_SINCE = date(2024, 7, 22).toordinal()  # SigChgInC
QUARTERS = np.array(["1Q", "2Q", "3Q", "FY"], dtype=object)
FLOWS_SINCE = date(2024, 4, 1).toordinal()  # a quarter of the quarters tells cash flows before, three in ten since
JP, IFRS, US = 0, 1, 2
STANDARDS = np.array(["JP", "IFRS", "US"], dtype=object)


def documents(market: "Market", first: int, last: int, columns: I64 | None = None) -> I64:
    """Places in the fiscal years of the documents disclosed between two ordinals, inclusive, in the order of DiscNo.

    The market's first day is where its data begin.
    """
    known = fiscal(market)
    found = known.between(max(first, int(market.ordinals[0])), last)
    places = np.arange(found.start, max(found.stop, found.start))
    if columns is not None:
        places = places[np.isin(known.col[places], columns)]
    return places[np.argsort(numbers(market, places), kind="stable")]


def numbers(market: "Market", places: I64) -> I64:
    """DiscNo, fourteen digits: the day of registration, which may lie days before, and a number that orders nothing."""
    known, seed = fiscal(market), market.config.seed
    col, year = known.col[places], known.year[places]
    what = known.kind[places] * 4 + known.quarter[places]
    what = np.where(known.version[places] > 0, 12, 0) + np.where(known.version[places] > 0, known.quarter[places], what)
    early = uniform(seed, "registered", col, year, what) < 0.41
    registered = known.when[places] - np.where(early, whole(seed, "registered days", 1, 3, col, year, what), 0)
    stamp = np.array([int(text.replace("-", "")) for text in ordinals.text(registered)], np.int64).reshape(len(places))
    shuffled = (col * 7919 + 104_729) % 31249  # a prime above the number of names that a market may have
    return stamp * 1_000_000 + (shuffled * 32 + (known.years[year] % 2) * 16 + what)


def standards(market: "Market", col: I64) -> tuple[I64, Bools]:
    """Accounting standard and whether a name has subsidiaries to consolidate."""
    seed = market.config.seed
    consolidated = uniform(seed, "consolidated", col) < 0.8
    standard = pick(seed, "standard", (0.88, 0.1, 0.02), col)
    return np.where(consolidated, standard, JP), consolidated


def types(market: "Market", places: I64) -> list[str]:
    """DocType of documents."""
    known = fiscal(market)
    standard, consolidated = standards(market, known.col[places])
    scope = np.where(consolidated, "Consolidated", "NonConsolidated").astype(object)
    results = QUARTERS[known.quarter[places]] + "FinancialStatements_" + scope + "_" + STANDARDS[standard]
    kind = known.kind[places]
    out = np.where(
        kind == RESULT, results, np.where(kind == REVISION, "EarnForecastRevision", "DividendForecastRevision")
    )
    return [str(one) for one in out]


def summary(market: "Market", places: I64) -> pl.DataFrame:
    """Documents in the fields of `/fins/summary`."""
    columns: dict[str, list[str]] = _key(market, places) | _periods(market, places)
    if len(places):
        for part in (_results(market, places), _forecasts(market, places), _dividends(market, places)):
            columns |= part
    blank = [""] * len(places)
    return pl.DataFrame(
        {name: columns.get(name, blank) for name in SUMMARY_FIELDS}, schema=dict.fromkeys(SUMMARY_FIELDS, pl.String)
    )


def _key(market: "Market", places: I64) -> dict[str, list[str]]:
    known = fiscal(market)
    return {
        "DiscDate": list(ordinals.text(known.when[places])),
        "DiscTime": seconds_text(known.clock[places]),
        "Code": market.codes(known.col[places]).to_list(),
        "DiscNo": [f"{number:014d}" for number in numbers(market, places)],
        "DocType": types(market, places),
    }


def _periods(market: "Market", places: I64) -> dict[str, list[str]]:
    """Period, fiscal year, with a whole year's results the next one. Revisions speak of the whole year."""
    known = fiscal(market)
    col, year = known.col[places], known.year[places]
    results = known.kind[places] == RESULT
    quarter = np.where(results, known.quarter[places], 3)
    fy, month = known.years[year], known.month[col]
    begin, end = ordinals.month_end(fy - 1, month) + 1, ordinals.month_end(fy, month)
    next_end = ordinals.month_end(fy + 1, month)
    whole_year = (results & (quarter == 3)).tolist()
    return {
        "CurPerType": QUARTERS[quarter].tolist(),
        "CurPerSt": list(ordinals.text(begin)),
        "CurPerEn": list(ordinals.text(known.end[col, year, quarter])),
        "CurFYSt": list(ordinals.text(begin)),
        "CurFYEn": list(ordinals.text(end)),
        "NxtFYSt": [day if yes else "" for day, yes in zip(ordinals.text(end + 1), whole_year, strict=True)],
        "NxtFYEn": [day if yes else "" for day, yes in zip(ordinals.text(next_end), whole_year, strict=True)],
    }


def _results(market: "Market", places: I64) -> dict[str, list[str]]:
    """Figures of the documents that hold results."""
    known, seed = fiscal(market), market.config.seed
    col, year, quarter = known.col[places], known.year[places], known.quarter[places]
    results = known.kind[places] == RESULT
    f = corrected(market, places, figures(market, col, year, quarter))
    standard, consolidated = standards(market, col)
    annual = results & (quarter == 3)
    shares = np.maximum(f.outstanding, 1)
    draw = uniform(seed, "disclosed items", col, known.years[year], quarter)
    flows = annual | (results & ((quarter == 1) | (draw < np.where(known.when[places] < FLOWS_SINCE, 0.245, 0.305))))
    diluted = results & (uniform(seed, "diluted", col) < np.where(standard == IFRS, 0.8, 0.26))
    net_a_share = f.np_ / np.maximum(f.average, 1)
    alone = annual & consolidated & (uniform(seed, "alone", col) < 0.8)  # a whole year tells the parent's own as well
    equity_ratio = f.sheq / np.maximum(f.ta, 1)
    out = {
        "Sales": yen(f.sales, results), "OP": yen(f.op, results), "OdP": yen(f.odp, results & (standard == JP)),
        "NP": yen(f.np_, results), "EPS": a_share(net_a_share, results), "DEPS": a_share(net_a_share * 0.99, diluted),
        "TA": yen(f.ta, results), "Eq": yen(f.eq, results), "ShEq": yen(f.sheq, results),
        "EqAR": fraction(equity_ratio, results),
        "BPS": a_share(f.sheq / shares, annual | (results & (uniform(seed, "book a share", col) < 0.2))),
        "ROE": fraction(f.np_ / np.maximum(f.sheq, 1), annual), "CFO": yen(f.cfo, flows), "CFI": yen(f.cfi, flows),
        "CFF": yen(f.cff, flows), "CashEq": yen(f.cash, flows), "ShOutFY": yen(f.issued, results),
        "TrShFY": yen(f.treasury, results), "AvgSh": yen(f.average, results),
        "NCSales": yen(million(f.sales * 0.6), alone), "NCOP": yen(million(f.op * 0.5), alone),
        "NCOdP": yen(million(f.odp * 0.6), alone), "NCNP": yen(million(f.np_ * 0.6), alone),
        "NCEPS": a_share(net_a_share * 0.6, alone), "NCTA": yen(million(f.ta * 0.6), alone),
        "NCEq": yen(million(f.sheq * 0.7), alone), "NCShEq": yen(million(f.sheq * 0.7), alone),
        "NCEqAR": fraction(equity_ratio * 1.1, alone), "NCBPS": a_share(f.sheq * 0.7 / shares, alone),
    }  # fmt: skip
    for name, share in zip(FLAGS, _FLAG_SHARES, strict=True):
        shown = results & ((name != "SigChgInC") | (known.when[places] >= SCOPE_FLAG_SINCE))
        yes = uniform(seed, name, col, known.years[year], quarter) < share
        out[name] = [
            "" if not is_shown else "true" if is_so else "false" for is_shown, is_so in zip(shown, yes, strict=True)
        ]
    return out


def corrected(market: "Market", places: I64, f: Figures) -> Figures:
    """The figures, with some of those of corrections changed by a per cent or two."""
    known = fiscal(market)
    factor = np.where(known.version[places] == CORRECTED, 1.01 + 0.01 * (known.col[places] % 3), 1.0)
    if (factor == 1).all():
        return f
    changed = {"op", "odp", "np_"}
    return Figures(**{
        one.name: million(getattr(f, one.name) * factor) if one.name in changed else getattr(f, one.name)
        for one in fields(Figures)
    })  # fmt: skip


def _forecasts(market: "Market", places: I64) -> dict[str, list[str]]:
    """Forecasts of this fiscal year, and in the results of a whole year of the next one."""
    known = fiscal(market)
    col, year, kind = known.col[places], known.year[places], known.kind[places]
    annual = (kind == RESULT) & (known.quarter[places] == 3)
    target = np.minimum(year + annual, len(known.years) - 1)
    state = known.state[places]
    speaks = (kind != DIVIDEND) & decided(market, col, target, state)
    net = forecast(market, col, target, state)
    sales, op, odp = of_profit(market, col, net)
    standard, _ = standards(market, col)
    rows = market.rows_before(known.when[places])
    shares = np.maximum(market.shares_on(rows, col) * 0.985, 1)
    half = uniform(market.config.seed, "half year", col) < 0.35
    out: dict[str, list[str]] = {}
    for prefix, which in (("F", speaks & ~annual), ("NxF", speaks & annual)):
        net_name = "Np" if prefix == "NxF" else "NP"
        first_half = which & half & (annual | (known.quarter[places] == 0))
        for suffix, part, chosen in (("", 1.0, which), ("2Q", 0.48, first_half)):
            out |= {
                f"{prefix}Sales{suffix}": yen(million(sales * part), chosen),
                f"{prefix}OP{suffix}": yen(million(op * part), chosen),
                f"{prefix}OdP{suffix}": yen(million(odp * part), chosen & (standard == JP)),
                f"{prefix}{net_name}{suffix}": yen(million(net * part), chosen),
                f"{prefix}EPS{suffix}": a_share(net * part / shares, chosen),
            }
    return out


def _dividends(market: "Market", places: I64) -> dict[str, list[str]]:
    """Dividends of the year so far and what is forecast of it; with the results of a whole year of the next one too."""
    known = fiscal(market)
    col, year, kind = known.col[places], known.year[places], known.kind[places]
    quarter = known.quarter[places]
    results, annual = kind == RESULT, (kind == RESULT) & (quarter == 3)
    day, nothing = known.when[places], np.zeros(len(places), np.int64)
    state = np.where(annual, 4, known.state[places])
    rate, total = rates(market, col, year, day, state)
    nxt, _ = rates(market, col, np.minimum(year + 1, len(known.years) - 1), day, nothing)
    # the first half's was decided with its results, in shares of that day: where a split came since, the year's sum
    # adds halves of two scales, as it really does
    decided_half = np.minimum(known.day[col, year, 1], day)
    half = np.round(rates(market, col, year, decided_half, np.minimum(state, 2))[0] / 2, 2)
    rest = np.round(rate - np.round(rates(market, col, year, day, np.minimum(state, 2))[0] / 2, 2), 2)
    paid_half = results & (quarter >= 1)
    ahead = ((kind == DIVIDEND) | (results & ~annual)) & (
        uniform(market.config.seed, "dividend undecided", col, known.years[year]) < 0.95
    )
    return {
        "Div2Q": a_share(half, paid_half), "DivFY": a_share(rest, annual), "DivAnn": a_share(half + rest, annual),
        "DivTotalAnn": yen(million(total), annual), "PayoutRatioAnn": fraction(dividend(market, col, year), annual),
        "FDiv2Q": a_share(half, ahead & (quarter < 1)), "FDivFY": a_share(rest, ahead),
        "FDivAnn": a_share(half + rest, ahead), "NxFDiv2Q": a_share(np.round(nxt / 2, 2), annual),
        "NxFDivFY": a_share(nxt - np.round(nxt / 2, 2), annual), "NxFDivAnn": a_share(nxt, annual),
        "NxFPayoutRatioAnn": fraction(dividend(market, col, year), annual),
    }  # fmt: skip


def rates(market: "Market", col: I64, year: I64, day: I64, state: I64) -> tuple[F64, F64]:
    """Dividend of fiscal years, JPY a share as shares are counted on a day, and JPY in all.

    Args:
        state: how many of the occasions to change its forecast have passed.
    """
    known = fiscal(market)
    total = np.maximum(forecast(market, col, year, np.zeros(len(col), np.int64)), 0) * dividend(market, col, year)
    changed = known.paid_more[col, year] & (np.arange(SLOTS)[None, :] < state[:, None])
    step = np.where(uniform(market.config.seed, "dividend step", col, known.years[year]) < 0.7, 1.15, 0.9)
    total = total * step ** changed.sum(axis=1)
    shares = np.maximum(market.shares_on(market.rows_before(day), col), 1)
    return np.round(total / shares, 1), total


def yen(values: F64, shown: Bools) -> list[str]:
    """Whole numbers as text, "" where there is none."""
    return [str(int(value)) if yes else "" for value, yes in zip(values.tolist(), shown.tolist(), strict=True)]


def a_share(values: F64, shown: Bools) -> list[str]:
    """JPY a share with two decimals, shortened as a float is written."""
    return [str(round(value, 2)) if yes else "" for value, yes in zip(values.tolist(), shown.tolist(), strict=True)]


def fraction(values: F64, shown: Bools) -> list[str]:
    """A ratio with three decimals."""
    return [str(round(value, 3)) if yes else "" for value, yes in zip(values.tolist(), shown.tolist(), strict=True)]


# -- details -----------------------------------------------------------------------------------------------------------

_LABELS = {
    "Total assets": "ta", "Net assets": "eq", "Cash and deposits": "cash", "Net sales": "sales",
    "Operating profit (loss)": "op", "Ordinary profit (loss)": "odp",
    "Profit (loss) attributable to owners of parent": "np_",
    "Net cash provided by (used in) operating activities": "cfo",
}  # fmt: skip
_IFRS_LABELS = {
    "Assets (IFRS)": "ta", "Equity (IFRS)": "eq", "Equity attributable to owners of parent (IFRS)": "sheq",
    "Cash and cash equivalents (IFRS)": "cash", "Revenue (IFRS)": "sales", "Operating profit (loss) (IFRS)": "op",
    "Profit (loss) attributable to owners of parent (IFRS)": "np_",
}  # fmt: skip


def details(market: "Market", places: I64) -> pl.DataFrame:
    """Documents with statements in the fields of `/fins/details`; those with forecasts alone are not there."""
    known = fiscal(market)
    places = places[known.kind[places] == RESULT]
    columns = _key(market, places)
    col, year, quarter = known.col[places], known.year[places], known.quarter[places]
    f = corrected(market, places, figures(market, col, year, quarter)) if len(places) else None
    standard, consolidated = standards(market, col)
    cells = []
    for k in range(len(places)):
        labels = _LABELS if standard[k] == JP else _IFRS_LABELS
        # an item that a company has not is no key, and some numbers are written as floats
        items = {label: getattr(f, name)[k] for label, name in labels.items() if (col[k] + len(label)) % 17}
        period = {
            "DocumentType, DEI": columns["DocType"][k],
            "Current fiscal year end date, DEI": str(ordinals.text(known.end[col[k], year[k], 3])),
            "Security code, DEI": columns["Code"][k],
            "Whether consolidated financial statements are prepared, DEI": "true" if consolidated[k] else "false",
        }
        written = {label: str(float(value)) if len(label) % 2 else str(int(value)) for label, value in items.items()}
        cells.append(RAW + json.dumps(period | written, ensure_ascii=False))
    return pl.DataFrame(columns | {"FS": cells}, schema=dict.fromkeys(DETAIL_FIELDS, pl.String))


def first_results(known: Fiscal, places: I64) -> Bools:
    """Whether documents are the first to hold the results of their period."""
    return (known.kind[places] == RESULT) & (known.version[places] == FIRST)
