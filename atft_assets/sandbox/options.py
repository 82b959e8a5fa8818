"""Listed options: of the Nikkei 225 (`…/bars/daily/options/225` of `/derivatives`), and all (`…/bars/daily/options`).

A strike is listed once the index has come near enough to it, so new ones come on the day of a move, with an empty
night session. Most are not traded; some are outside the auction alone, with a volume and no price. Settlements are at
least 1, implied volatilities cut at 1 and 320, where they are no figures. On days of a large move emergency margin
settles the near contracts twice.

The market's index of 225 names is fourteen times its TOPIX. A small market lists a few hundred options, a full one
thousands.
"""

from dataclasses import dataclass
from string import digits
from typing import TYPE_CHECKING

import numpy as np
import polars as pl
from scipy.special import ndtr

from atft_assets.sandbox import codes as tables
from atft_assets.sandbox import implied, ordinals
from atft_assets.sandbox.contracts import EMERGENCY, REGULAR, Expiry, dated, expiries, filled, sessions, text
from atft_assets.sandbox.draws import F64, I64, normal, uniform
from atft_assets.sandbox.names import ORDINARY
from atft_assets.sandbox.process import Bools
from atft_assets.sandbox.wire import remembered

if TYPE_CHECKING:
    from atft_assets.sandbox.market import Market

NIKKEI = 14.0  # times the TOPIX
LEAST_IV, MOST_IV = 1.0, 320.0
FULL = 1000  # names from which on a market lists as many strikes as Tokyo does
EMERGENCY_MOVE = 0.03  # of the index in a day
PUT, CALL = "1", "2"
FIELDS_225 = (
    "Date", "Code", "O", "H", "L", "C", "EO", "EH", "EL", "EC", "AO", "AH", "AL", "AC", "Vo", "OI", "Va", "CM",
    "Strike", "VoOA", "EmMrgnTrgDiv", "PCDiv", "LTD", "SQD", "Settle", "Theo", "BaseVol", "UnderPx", "IV", "IR",
)  # fmt: skip
FIELDS = (
    "Code", "ProdCat", "UndSSO", "Date", "O", "H", "L", "C", "MO", "MH", "ML", "MC", "EO", "EH", "EL", "EC", "AO",
    "AH", "AL", "AC", "Vo", "OI", "Va", "CM", "Strike", "VoOA", "EmMrgnTrgDiv", "PCDiv", "LTD", "SQD", "Settle", "Theo",
    "BaseVol", "UnderPx", "IV", "IR", "CCMFlag",
)  # fmt: skip
_DIGITS = digits + "ABCDEFGHJKLMNPRSTUVWXY"


@dataclass(frozen=True)
class Product:
    """What the options of one underlying are like.

    Attributes:
        category: ProdCat; suffix: the last two characters of a code.
        path: [days] level of the underlying; step: between strikes; width: how far from the level strikes are listed.
        coarse: of the quarterly months, which are listed for years: how many steps lie between their strikes.
        months, quarters: how far ahead expiries are.
        share: code of the underlying share, "-" for none; traded: how often an option at the money is.
    """

    category: str
    suffix: str
    path: F64
    step: float
    width: float
    months: int
    quarters: int
    share: str = "-"
    traded: float = 0.5
    coarse: int = 1


def nikkei(market: "Market") -> F64:
    """[days] level of the market's index of 225 names."""
    level: F64 = np.round(NIKKEI * market.indices[tables.TOPIX_INDEX][:, 3], 2)
    return level


def _nikkei_options(market: "Market") -> Product:
    if market.config.n_names >= FULL:
        return Product("NK225E", "18", nikkei(market), 125.0, 0.30, 8, 40, traded=0.9, coarse=3)
    return Product("NK225E", "18", nikkei(market), 500.0, 0.12, 4, 13)


@remembered(8)
def options_225(market: "Market", row: int) -> pl.DataFrame:
    """All options of the Nikkei 225 of a day, in the fields of their own endpoint."""
    return _chain(market, row, _nikkei_options(market)).select(FIELDS_225)


@remembered(4)
def options(market: "Market", row: int) -> pl.DataFrame:
    """All options of a day: of indices, weekly ones, government bonds and single shares."""
    full = market.config.n_names >= FULL
    topix = market.indices[tables.TOPIX_INDEX][:, 3]
    seed = market.config.seed
    bonds = 145 + 0.02 * np.cumsum(normal(seed, "bonds", market.ordinals))
    products = [
        _nikkei_options(market),
        Product("TOPIXE", "08", topix, 25.0, 0.2 if full else 0.06, 3, 7, traded=0.05),
        Product("JGBLFE", "22", bonds, 0.5, 0.03, 3, 6, traded=0.2),
        Product("NK225MWE", "K8", nikkei(market), 250.0 if full else 500.0, 0.1, 1, 1, traded=0.3),
        *_shares(market, 40 if full else 6),
    ]
    return pl.concat([_chain(market, row, product) for product in products]).select(FIELDS).sort("Code", "EmMrgnTrgDiv")


def _shares(market: "Market", count: int) -> list[Product]:
    """Options of the largest shares of the first day."""
    names = market.names
    there = np.flatnonzero((names.kind == ORDINARY) & market.alive[0])
    chosen = there[np.argsort(-names.size[there], kind="stable")][:count]
    out = []
    for k, column in enumerate(chosen):
        path = market.ohlc[3][:, column] / 10
        step = float(10 ** np.floor(np.log10(path[0] / 4)))
        suffix = _DIGITS[k // len(_DIGITS)] + _DIGITS[k % len(_DIGITS)]
        out.append(Product("EQOP", suffix, path, step * 2.5, 0.1, 2, 4, share=names.code[column], traded=0.03))
    return out


def _listed(market: "Market", row: int, product: Product) -> tuple[list[Expiry], I64, F64, Bools]:
    """Expiries, and of each listed strike its expiry's place, level, and whether this is its first day.

    A strike comes when the underlying has been near enough since its month is listed, a quarter of them some months
    later.
    """
    today = int(market.ordinals[row])
    known = expiries(today, product.months, product.quarters)
    places, strikes, new = [np.zeros(0, np.int64)], [np.zeros(0)], [np.zeros(0, bool)]
    for place, one in enumerate(known):
        lo = min(int(np.searchsorted(market.ordinals, one.listed)), row)
        step = product.step * (product.coarse if one.month % 3 == 0 else 1)
        near = product.path[lo : row + 1]
        grid = np.arange(np.ceil(near.min() * (1 - product.width) / step), near.max() * (1 + product.width) // step + 1)
        key = (grid.astype(np.int64), one.year * 12 + one.month)
        delay = (one.last - one.listed) / 2 * uniform(market.config.seed, f"{product.suffix} listed", *key)
        late = uniform(market.config.seed, f"{product.suffix} late", *key) < 0.25
        due = np.where(late, one.listed + delay, one.listed)
        there = due <= today
        if lo < row:  # of the first day of the market nobody knows what was there before
            before = near[:-1]
            low, high = before.min() * (1 - product.width), before.max() * (1 + product.width)
            had = (grid * step >= low) & (grid * step <= high) & (due <= market.ordinals[row - 1])
        else:
            had = np.full(len(grid), one.listed < today)
        places.append(np.full(int(there.sum()), place))
        strikes.append(grid[there] * step)
        new.append(~had[there])
    return known, np.concatenate(places), np.concatenate(strikes), np.concatenate(new)


def _chain(market: "Market", row: int, product: Product) -> pl.DataFrame:
    """All options of one underlying on a day: puts and calls of every listed strike."""
    seed, today = market.config.seed, int(market.ordinals[row])
    known, place, strike, new = _listed(market, row, product)
    place, strike, new = np.tile(place, 2), np.tile(strike, 2), np.tile(new, 2)
    call = np.arange(len(strike)) >= len(strike) // 2
    under = float(product.path[row])
    last = np.array([one.last for one in known], np.int64)[place]
    years = np.maximum(last - today, 0.5) / 365
    rate = 0.1 + 0.35 * np.minimum(years, 3)  # % a year, by maturity
    vol = _volatility(market, row, product, np.log(strike / under), years)
    theory = black(under, strike, years, vol / 100, rate / 100, call)
    settle = np.maximum(np.round(theory), 1.0) if product.step >= 25 else np.maximum(np.round(theory, 2), 0.01)
    far = np.log(strike / under) / np.sqrt(years) / (vol / 100)
    shown = np.where(np.where(call, far, -far) > 4, MOST_IV, np.where(np.where(call, far, -far) < -4, LEAST_IV, vol))
    keys = (np.full(len(strike), today), np.rint(strike * 100).astype(np.int64), place * 2 + call)

    chance = product.traded * np.exp(-2.2 * np.abs(far) - 3 * years)
    traded = uniform(seed, f"{product.suffix} traded", *keys) < np.maximum(chance, 0.004)
    volume = np.where(traded, np.ceil(600 * chance * np.exp(normal(seed, f"{product.suffix} volume", *keys))), 0.0)
    off = traded & (uniform(seed, f"{product.suffix} off auction", *keys) < 0.06)
    interest = np.rint(
        800
        * product.traded
        * np.exp(-1.2 * np.abs(far))
        * np.exp(0.6 * normal(seed, "interest", keys[1], keys[2], today // 20))
    )
    move = settle * 0.2 * normal(seed, f"{product.suffix} move", *keys)
    prices = sessions(seed, product.suffix, keys, settle, move, volume, off, new, 1.0 if product.step >= 25 else 0.01)
    multiplier = 1000.0 if product.share == "-" else 100.0
    text_of = [one.text if product.category != "NK225MWE" else f"{one.year}-{4 * one.month - 2:02d}" for one in known]
    base = vol_at_the_money(market, row, product)
    data = {
        "Date": text([market.days[row].isoformat()] * len(strike)),
        "Code": text(_codes(known, product, place, strike, call)),
        "ProdCat": text([product.category] * len(strike)), "UndSSO": text([product.share] * len(strike)),
        **prices,
        "Vo": pl.Series(volume), "OI": pl.Series(interest), "Va": pl.Series(np.rint(volume * settle * multiplier)),
        "CM": text([text_of[k] for k in place]), "Strike": pl.Series(strike),
        "VoOA": filled(np.where(off, 0.0, volume), today), "EmMrgnTrgDiv": text([REGULAR] * len(strike)),
        "PCDiv": text(np.where(call, CALL, PUT)), "LTD": dated(last, today),
        "SQD": dated(np.array([one.quotation for one in known], np.int64)[place], today),
        "Settle": filled(settle, today), "Theo": filled(np.round(theory, 4), today),
        "BaseVol": filled(np.full(len(strike), round(base, 4)), today),
        "UnderPx": filled(np.full(len(strike), under), today),
        "IV": filled(np.round(np.clip(shown, LEAST_IV, MOST_IV), 4), today), "IR": filled(np.round(rate, 4), today),
        "CCMFlag": text(np.where(place == 0, "1", "0")),
    }  # fmt: skip
    frame = pl.DataFrame(data)
    if row and abs(under / float(product.path[row - 1]) - 1) >= EMERGENCY_MOVE and product.category == "NK225E":
        extra = frame.filter(pl.Series(place == 0)).with_columns(pl.lit(EMERGENCY).alias("EmMrgnTrgDiv"))
        frame = pl.concat([frame, extra])
    return frame.sort("Code", "EmMrgnTrgDiv")


def vol_at_the_money(market: "Market", row: int, product: Product) -> float:
    """Volatility of the money in thirty days, % a year; of single shares half as much again, of bonds little."""
    level = float(implied.level(market.config, ordinals.place(market.ordinals[row : row + 1]))[0])
    return level * (1.5 if product.category == "EQOP" else 0.2 if product.category == "JGBLFE" else 1.0)


def _volatility(market: "Market", row: int, product: Product, away: F64, years: F64) -> F64:
    """Implied volatility, % a year: the state fades over longer terms, and what lies below the money costs more."""
    near = vol_at_the_money(market, row, product)
    usual = (
        implied.USUAL
        * near
        / max(float(implied.level(market.config, ordinals.place(market.ordinals[row : row + 1]))[0]), 1e-9)
    )
    weight = np.exp(-np.maximum(years - 30 / 365, 0) * 1.5)
    at_money = np.exp(weight * np.log(near) + (1 - weight) * np.log(usual))
    distance = np.clip(away / np.sqrt(np.maximum(years, 0.03)), -2, 2)
    return at_money * np.clip(1 - 0.35 * distance + 0.3 * distance**2, 0.5, 3)


def black(under: float, strike: F64, years: F64, vol: F64, rate: F64, call: Bools) -> F64:
    """Price of European options on a forward (Black 1976)."""
    deviation = vol * np.sqrt(years)
    forward = under * np.exp(rate * years)
    up = (np.log(forward / strike) + deviation**2 / 2) / deviation
    down = up - deviation
    side = np.where(call, 1.0, -1.0)
    out: F64 = np.exp(-rate * years) * side * (forward * ndtr(side * up) - strike * ndtr(side * down))
    return np.maximum(out, 0.0)


def _codes(known: list[Expiry], product: Product, place: I64, strike: F64, call: Bools) -> list[str]:
    """Nine characters: 13 put or 14 call, the last digit of the year counted from 2025, month, strike, underlying."""
    number = np.rint(strike / product.step).astype(np.int64) % len(_DIGITS) ** 2
    high, low = np.divmod(number, len(_DIGITS))
    month = [f"{(one.year - 2025) % 10}{one.month:02d}" for one in known]
    return [
        f"{14 if is_call else 13}{month[k]}{_DIGITS[a]}{_DIGITS[b]}{product.suffix}"
        for is_call, k, a, b in zip(call.tolist(), place.tolist(), high.tolist(), low.tolist(), strict=True)
    ]
