"""Listed futures (`/derivatives/bars/daily/futures`): indices, government bonds, currencies since 2026-04-13.

A future stands at its underlying and some carry until its last day; its night moves with what the market opens with
the next morning.
"""

from dataclasses import dataclass
from datetime import date
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from atft_assets.sandbox import codes as tables
from atft_assets.sandbox import implied, ordinals
from atft_assets.sandbox.contracts import EMERGENCY, REGULAR, dated, expiries, filled, sessions, text
from atft_assets.sandbox.draws import F64, normal
from atft_assets.sandbox.options import EMERGENCY_MOVE, nikkei
from atft_assets.sandbox.wire import remembered

if TYPE_CHECKING:
    from atft_assets.sandbox.market import Market

CURRENCIES_SINCE = date(2026, 4, 13).toordinal()
FIELDS = (
    "Code", "ProdCat", "Date", "O", "H", "L", "C", "MO", "MH", "ML", "MC", "EO", "EH", "EL", "EC", "AO", "AH", "AL",
    "AC", "Vo", "OI", "Va", "CM", "VoOA", "EmMrgnTrgDiv", "LTD", "SQD", "Settle", "CCMFlag",
)  # fmt: skip


@dataclass(frozen=True)
class Product:
    """One category.

    Attributes:
        category: ProdCat; suffix: the last four characters of a code.
        tick: smallest change of the price; size: JPY a point; volume: contracts of the nearest month in a usual day.
        months, quarters: how far ahead months are listed.
        since: first day, an ordinal.
    """

    category: str
    suffix: str
    tick: float
    size: float
    volume: float
    months: int
    quarters: int
    since: int = 0


PRODUCTS = (
    Product("NK225F", "0018", 10.0, 1000.0, 30_000, 0, 13),
    Product("NK225MF", "0019", 5.0, 100.0, 900_000, 3, 13),
    Product("NK225MCF", "0065", 5.0, 10.0, 100_000, 3, 4, date(2023, 5, 29).toordinal()),
    Product("TOPIXF", "0005", 0.5, 10_000.0, 70_000, 0, 13),
    Product("TOPIXMF", "0006", 0.25, 1000.0, 20_000, 0, 7),
    Product("JN400F", "0030", 5.0, 100.0, 10_000, 0, 7),
    Product("MOTF", "0040", 1.0, 1000.0, 3000, 0, 7),
    Product("REITF", "0060", 0.5, 1000.0, 1000, 0, 7),
    Product("DJIAF", "0070", 1.0, 100.0, 300, 0, 7),
    Product("NKVIF", "0072", 0.05, 10_000.0, 30, 4, 0),
    Product("NKYDF", "0073", 1.0, 1000.0, 5, 0, 25),
    Product("JGBLF", "0042", 0.01, 1_000_000.0, 25_000, 0, 4),
    Product("TOA3MF", "00S1", 0.0025, 250_000.0, 500, 0, 7, date(2023, 5, 29).toordinal()),
    Product("UDJY", "00C0", 0.01, 10_000.0, 2000, 0, 7, CURRENCIES_SINCE),
    Product("CHJY", "00C1", 0.001, 100_000.0, 100, 0, 7, CURRENCIES_SINCE),
    Product("ERJY", "00C2", 0.01, 10_000.0, 300, 0, 7, CURRENCIES_SINCE),
)


@remembered(8)
def futures(market: "Market", row: int) -> pl.DataFrame:
    """All futures of a day."""
    today = int(market.ordinals[row])
    frames = [_chain(market, row, product) for product in PRODUCTS if product.since <= today]
    return pl.concat(frames).select(FIELDS).sort("Code", "EmMrgnTrgDiv")


@remembered(32)
def path(market: "Market", category: str) -> F64:
    """[days] level of the underlying of a category; what the market does not have walks by itself."""
    topix = market.indices[tables.TOPIX_INDEX][:, 3]
    if category.startswith("TOPIX"):
        return topix
    if category in ("NK225F", "NK225MF", "NK225MCF"):
        return nikkei(market)
    if category == "NKVIF":
        return implied.level(market.config, ordinals.place(market.ordinals))
    if category in ("JN400F", "MOTF", "REITF"):
        return topix * {"JN400F": 9.0, "MOTF": 0.35, "REITF": 0.9}[category]
    first, daily = {
        "DJIAF": (38_000.0, 0.01), "NKYDF": (800.0, 0.002), "JGBLF": (145.0, 0.002), "TOA3MF": (99.5, 0.0002),
        "UDJY": (150.0, 0.005), "CHJY": (21.0, 0.004), "ERJY": (165.0, 0.005),
    }[category]  # fmt: skip
    return first * np.exp(daily * np.cumsum(normal(market.config.seed, f"path {category}", market.ordinals)))


def _chain(market: "Market", row: int, product: Product) -> pl.DataFrame:
    """All months of one category on a day."""
    seed, today = market.config.seed, int(market.ordinals[row])
    known = expiries(today, product.months, product.quarters)
    levels = path(market, product.category)
    under, before = float(levels[row]), float(levels[max(row - 1, 0)])
    last = np.array([one.last for one in known], np.int64)
    years = np.maximum(last - today, 0) / 365
    month = np.array([one.year * 12 + one.month for one in known], np.int64)
    keys = (np.full(len(known), today), month)
    settle = np.rint(under * np.exp(0.002 * years) / product.tick) * product.tick
    rank = np.arange(len(known))
    volume = np.floor(product.volume * np.exp(-2.2 * rank + 0.3 * normal(seed, f"{product.suffix} volume", *keys)))
    off = (volume > 0) & (volume < 3)  # a trade or two of a far month are made outside the auction
    new = np.array([one.listed == today for one in known], bool)
    moved = np.full(len(known), under - before)
    prices = sessions(seed, product.suffix, keys, settle, moved, volume, off, new, product.tick)
    interest = np.rint(
        product.volume * 3 * np.exp(-1.5 * rank + 0.2 * normal(seed, "future interest", month, today // 5))
    )
    data = {
        "Code": text([f"16{(one.year - 2025) % 10}{one.month:02d}{product.suffix}" for one in known]),
        "ProdCat": text([product.category] * len(known)),
        "Date": text([market.days[row].isoformat()] * len(known)), **prices, "Vo": pl.Series(volume, dtype=pl.Float64),
        "OI": pl.Series(interest, dtype=pl.Float64),
        "Va": pl.Series(np.rint(volume * settle * product.size), dtype=pl.Float64),
        "CM": text([one.text for one in known]),
        "VoOA": filled(np.where(off, 0.0, volume), today), "EmMrgnTrgDiv": text([REGULAR] * len(known)),
        "LTD": dated(last, today), "SQD": dated(np.array([one.quotation for one in known], np.int64), today),
        "Settle": filled(settle, today), "CCMFlag": text(np.where(rank == 0, "1", "0")),
    }  # fmt: skip
    frame = pl.DataFrame(data)
    if abs(under / before - 1) >= EMERGENCY_MOVE and product.category.startswith(("NK225", "TOPIX")):
        frame = pl.concat([frame, frame.head(1).with_columns(pl.lit(EMERGENCY).alias("EmMrgnTrgDiv"))])
    return frame
