"""What the list of names says (`/equities/master`), and the calendar (`/markets/calendar`)."""

from datetime import date, timedelta

import numpy as np
import polars as pl

from atft_assets import calendar
from atft_assets.sandbox import codes as tables
from atft_assets.sandbox.names import ETF, Names

HOLIDAY_TRADING_SINCE = date(2022, 9, 23)  # derivatives trade on some public holidays: HolDiv 3

MASTER_FIELDS = (
    "Date", "Code", "CoName", "CoNameEn", "S17", "S17Nm", "S33", "S33Nm", "ScaleCat", "Mkt", "MktNm", "Mrgn", "MrgnNm",
    "ProdCat",
)  # fmt: skip


def master_fields(n: Names) -> pl.DataFrame:
    """What the list of names says of each and does not change, and its market before and after the reform."""
    sectors = [tables.SECTORS[s] if s >= 0 else (*tables.NO_SECTOR, 0, "") for s in n.sector]
    old = (("0101", "0101"), ("0102", "0106"), ("0104", "0107"), ("0109", "0109"))
    margin = np.where(n.segment == 0, "2", "1")
    return pl.DataFrame(
        {
            "Code": n.code,
            "CoName": [f"模擬銘柄{i:04d}" if k != ETF else "模擬ＴＯＰＩＸ上場投信" for i, k in enumerate(n.kind)],
            "CoNameEn": [f"Sandbox {i:04d} Co." if k != ETF else "Sandbox TOPIX ETF" for i, k in enumerate(n.kind)],
            "S17": [s[2] for s in sectors],
            "S17Nm": [tables.SECTOR17_NAMES[s[2]] for s in sectors],
            "S33": [s[0] for s in sectors],
            "S33Nm": [s[1] for s in sectors],
            "ScaleCat": [tables.SCALE_CATEGORIES[s] for s in n.scale],
            "Mrgn": margin.tolist(),
            "MrgnNm": [tables.MARGIN_NAMES[m] for m in margin],
            "ProdCat": ["014" if k == ETF else "011" for k in n.kind],
            "_old": [old[s][m] for s, m in zip(n.segment, n.old_market, strict=True)],
            "_new": [("0111", "0112", "0113", "0109")[s] for s in n.segment],
        }
    )


def calendar_frame(first: date, last: date) -> pl.DataFrame:
    """Date and HolDiv of every calendar day between two days, inclusive, in the fields of `/markets/calendar`."""
    days = [first + timedelta(days=i) for i in range((last - first).days + 1)]
    open_days = set(calendar.trading_days(first, last))

    def division(day: date) -> str:
        if day in open_days:
            return "2" if day in calendar.HALF_DAYS else "1"
        new_year = (day.month, day.day) >= (12, 31) or (day.month, day.day) <= (1, 3)
        return "3" if day >= HOLIDAY_TRADING_SINCE and day.weekday() < 5 and not new_year else "0"

    return pl.DataFrame(
        {"Date": [day.isoformat() for day in days], "HolDiv": [division(day) for day in days]},
        schema={"Date": pl.String, "HolDiv": pl.String},
    )
