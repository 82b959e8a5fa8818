"""What a company earns and owns: figures of a fiscal year, invented around the market's prices of the past.

The profit of a year is what the capitalisation of a year before its first day pays at a usual multiple, so that
multiples stay where they are in Tokyo however prices wander, and nothing of the future is in them. Quarters are
cumulative. A forecast is the year's profit less the revisions that are still to come.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from atft_assets.sandbox import ordinals
from atft_assets.sandbox.draws import F64, I64, normal, uniform
from atft_assets.sandbox.fiscal import STEP, Fiscal, fiscal_years
from atft_assets.sandbox.wire import remembered

if TYPE_CHECKING:
    from atft_assets.sandbox.market import Market

ERROR = 0.05  # of the year's net profit: how far the last forecast stays from it
MILLION = 1e6
_SHARE = np.array([0.23, 0.48, 0.74, 1.0])  # of the year's figures by the end of each quarter


@remembered(1)
def fiscal(market: "Market") -> Fiscal:
    """The fiscal years of a market's names."""
    return fiscal_years(market.config, market.names)


@dataclass(frozen=True)
class Figures:
    """Figures of periods in JPY, rounded to millions as statements are; one entry a period.

    Attributes:
        sales, op, odp, np_: results of the period, cumulative within the year.
        ta, eq, sheq, cash: at its end; eq holds minorities, sheq does not.
        cfo, cfi, cff: cash flows, in thousands.
        issued, treasury, average: shares.
    """

    sales: F64
    op: F64
    odp: F64
    np_: F64
    ta: F64
    eq: F64
    sheq: F64
    cash: F64
    cfo: F64
    cfi: F64
    cff: F64
    issued: F64
    treasury: F64
    average: F64

    @property
    def outstanding(self) -> F64:
        """Shares that earnings and book value are counted by."""
        return self.issued - self.treasury


def profit(market: "Market", col: I64, year: I64) -> F64:
    """Net profit of fiscal years, JPY; one in ten is a loss.

    Args:
        col: names.
        year: places in the fiscal years.
    """
    seed, known = market.config.seed, fiscal(market)
    fy = known.years[year]
    begin = ordinals.month_end(fy - 1, known.month[col])
    row = np.minimum(np.maximum(market.rows_before(begin - 365), market.first_row[col]), len(market.days) - 1)
    capital = market.ohlc[3][row, col] / 10 * market.shares[col] / market.split_factor(row, col)
    multiple = 14 * np.exp(0.4 * normal(seed, "multiple", col))
    loss = uniform(seed, "loss", col, fy) < 0.1
    out: F64 = capital / multiple * np.exp(0.1 * normal(seed, "profit", col, fy)) * np.where(loss, -0.5, 1.0)
    return out


def forecast(market: "Market", col: I64, year: I64, state: I64) -> F64:
    """Net profit that the company forecasts for fiscal years, after `state` of the occasions to revise it."""
    known = fiscal(market)
    final = profit(market, col, year)
    steps = known.revised[col, year] * known.surprise[col, year]
    to_come = np.where(np.arange(steps.shape[1])[None, :] >= state[:, None], steps, 0).sum(axis=1)
    error = ERROR * normal(market.config.seed, "forecast error", col, known.years[year])
    return final - np.abs(final) * (error + STEP * to_come)


def decided(market: "Market", col: I64, year: I64, state: I64) -> np.ndarray:
    """Whether there is a forecast by then: one in ten waits for the results of the first half."""
    return ~fiscal(market).undecided[col, year] | (state >= 2)


def of_profit(market: "Market", col: I64, net: F64) -> tuple[F64, F64, F64]:
    """Sales, operating and ordinary profit that go with a net profit of a whole year, in millions."""
    seed = market.config.seed
    op = np.where(net > 0, net * 1.45, net * 0.8)
    sales = np.abs(op) / (0.08 * np.exp(0.45 * normal(seed, "margin", col)))
    odp = np.where(net > 0, net * 1.5, net * 0.85)
    return million(sales), million(op), million(odp)


def million(values: F64) -> F64:
    """Rounded to millions, towards zero, as statements are."""
    return np.trunc(values / MILLION) * MILLION


def thousand(values: F64) -> F64:
    """Rounded to thousands: cash flows are finer than the figures beside them."""
    return np.trunc(values / 1000) * 1000


def figures(market: "Market", col: I64, year: I64, quarter: I64) -> Figures:
    """Results of periods, as they were first disclosed."""
    seed, known = market.config.seed, fiscal(market)
    fy = known.years[year]
    whole = profit(market, col, year)
    season = np.where(quarter < 3, 1 + 0.06 * normal(seed, "season", col, fy, quarter), 1)
    share = _SHARE[quarter] * season
    sales, op, odp = of_profit(market, col, whole)
    yearly = np.maximum(sales, MILLION)
    assets = million(yearly * 1.1 * np.exp(0.3 * normal(seed, "assets", col)) * (1 + 0.01 * quarter))
    # banks and trading houses apart, owners hold 20 to 70 % of the assets
    owners = million(assets * (0.2 + 0.5 * uniform(seed, "equity", col)))
    minorities = million(owners * 0.06 * uniform(seed, "minorities", col) ** 2)
    end_row = market.rows_before(known.end[col, year, quarter])
    begin_row = market.rows_before(ordinals.month_end(fy - 1, known.month[col]))
    issued, before = market.shares_on(end_row, col), market.shares_on(begin_row, col)
    treasury = np.rint(issued * 0.03 * uniform(seed, "treasury", col))
    cfo = share * (whole * 1.3 + 0.02 * yearly * normal(seed, "cash flow", col, fy, quarter))
    cfi = -share * np.abs(whole) * (0.6 + 0.4 * uniform(seed, "investing", col, fy, quarter))
    cff = -share * np.abs(whole) * (0.3 + 0.3 * uniform(seed, "financing", col, fy, quarter))
    return Figures(
        million(sales * share), million(op * share), million(odp * share), million(whole * share), assets,
        owners + minorities, owners, million(assets * 0.15),
        thousand(cfo), thousand(cfi), thousand(cff), issued, treasury,
        np.rint((issued + before) / 2 * (1 - treasury / np.maximum(issued, 1))),
    )  # fmt: skip


def dividend(market: "Market", col: I64, year: I64) -> F64:
    """Dividend of a fiscal year over its net profit; 0 of those that pay none."""
    seed = market.config.seed
    ratio = np.clip(0.32 * np.exp(0.4 * normal(seed, "payout", col)), 0, 0.9)
    return np.where(uniform(seed, "pays", col) < 0.18, 0.0, ratio)
