"""Names of the tables that features read and write, and their columns as a declaration writes them: `table.column`."""

from __future__ import annotations

GROUP = "features"  # where feature tables lie in the store; what is not in the registry lies in RAW
RAW = "raw"

DAILY_QUOTES = "daily_quotes"
LISTED_INFO = "listed_info"
TOPIX = "topix"
FINS_SUMMARY = "fins_summary"
EARNINGS_DATE = "earnings_date"
MARGIN_INTEREST = "margin_interest"
MARGIN_ALERT = "margin_alert"
SHORT_RATIO = "short_ratio"
SHORT_SALE_REPORT = "short_sale_report"
BREAKDOWN = "breakdown"
INVESTOR_TYPES = "investor_types"
OPTIONS_225 = "options_225"
FUTURES = "futures"

UNIVERSE = "universe"
STOCK = "stock_features"
MARKET = "market_features"
STOCK_MARKET = "stock_market_features"
SECTOR = "sector_features"
OPTION = "option_features"
FLOW = "flow_features"
MARGIN = "margin_features"
ALERT = "daily_margin_features"
SHORT = "short_features"
STATEMENT = "statement_features"
EARNINGS = "earnings_features"
BREAKDOWN_FEATURES = "breakdown_features"
FUTURE = "futures_features"
INTERACTION = "interaction_features"
ALL = "all_features"
LABELS = "labels"

Columns = tuple[str, ...]


def of(table: str, *columns: str) -> Columns:
    """Columns of a table."""
    return tuple(f"{table}.{column}" for column in columns)


def same_day(*columns: str) -> Columns:
    """Raw columns of a bar that are held against each other within one day: the adjustment cancels."""
    return of(DAILY_QUOTES, *columns)


def adjusted(*columns: str) -> Columns:
    """Raw columns of bars of several days, which the factor brings on one basis."""
    return of(DAILY_QUOTES, *columns, "AdjFactor")
