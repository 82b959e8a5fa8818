"""An evening as `portfolio` and `orders` see it: its scores, the market of the last days, the band of tomorrow."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date

import dagster as dg
import numpy as np
import polars as pl
from numpy.typing import NDArray
from pydantic import Field

from atft_assets.calendar import first_of_month, month_key, next_trading_day, shift_trading_days
from atft_assets.features.names import UNIVERSE
from atft_assets.panel.config import day_setting
from atft_assets.store import Store
from atft_assets.trading import daily_scores
from atft_assets.trading.daily_scores import PUBLISHED
from atft_assets.trading.loading import market_of
from atft_assets.trading.market import Market
from atft_assets.trading.names import master_of
from atft_assets.trading.portfolio import Tomorrow, tomorrow_of
from atft_assets.trading.rules import fine_categories
from atft_assets.trading.scores_asset import TRADING_DAY
from atft_assets.trading.standing import PortfolioRefused

DAYS, WARM_UP = 40, 20  # trading days: of the market, and before it
MAIN = "main"


class EveningConfig(dg.Config):
    """Which evening, and whose book."""

    day: str | None = Field(
        None, description="The evening, YYYY-MM-DD, a day of the months of the run; by default the newest with scores."
    )
    strategy: str = Field(
        MAIN, pattern="^[a-z0-9_]+$", description="Name of the book: small letters, digits, underscores."
    )


@dataclass(frozen=True)
class Tonight:
    """An evening and what was said of it.

    Attributes:
        rows: of `daily_scores`; none of a withheld evening.
    """

    day: date
    rows: pl.DataFrame

    @property
    def trade_date(self) -> date:
        return next_trading_day(self.day)

    @property
    def published(self) -> bool:
        return not self.rows.is_empty()

    def of_codes(self, column: str) -> dict[str, float]:
        """A column by code."""
        return dict(self.rows.select("code", column).iter_rows())


def tonight_of(store: Store, keys: Sequence[str], config: EveningConfig, tags: Mapping[str, str]) -> Tonight | None:
    """The evening that a run is about: the config's, else that of the refresh, else the newest with scores.

    Args:
        keys: months of the run.
        tags: of the run.

    Returns:
        None where there is no evening in these months: there was no champion yet.

    Raises:
        PortfolioRefused: the day that is asked for is none of these months.
    """
    table = store.table(daily_scores.GROUP, daily_scores.NAME)
    held = set(table.keys())
    there = [key for key in keys if key in held]
    rows = table.read(there) if there else daily_scores.empty()
    tag = tags.get(TRADING_DAY)
    asked = day_setting(config.day, "day") or (date.fromisoformat(tag) if tag else None)
    if rows.is_empty():
        return None
    newest = rows["date"].max()
    assert isinstance(newest, date)
    day = asked or newest
    if month_key(day) not in keys:
        raise PortfolioRefused(f"{day} is no day of the months of this run, {keys[0]} to {keys[-1]}")
    usable = (pl.col("date") == day) & (pl.col("status") == PUBLISHED)
    return Tonight(day, rows.filter(usable).sort("code"))


@dataclass(frozen=True)
class View:
    """What is known on an evening.

    Attributes:
        market: of the last days; the evening is its last.
        scores: of the evening, NaN for none and for what tomorrow's master does not list [N].
        names: Japanese names by code, by the master that the evening knows.
    """

    market: Market
    scores: NDArray[np.float32]
    tomorrow: Tomorrow
    names: dict[str, str]

    @property
    def t(self) -> int:
        return len(self.market.dates) - 1


def view_of(store: Store, tonight: Tonight, since: date | None = None) -> View:
    """The view of an evening; nothing after it is read.

    Args:
        since: a day that the market must hold, where it lies further back than usual.

    Raises:
        Refusal: a table is not there, or does not hold the days.
    """
    first = shift_trading_days(tonight.day, 1 - DAYS)
    first = min(first, since) if since else first
    first = max(first, first_of_month(store.table("features", UNIVERSE).keys()[0]))
    market = market_of(store, first, tonight.day, warm_up=WARM_UP)
    master = master_of(store, tonight.day)
    codes = pl.DataFrame({"code": market.codes}, schema={"code": pl.String})
    known = codes.join(master, on="code", how="left", maintain_order="left")
    fine = known["ScaleCat"].is_in(fine_categories(tonight.trade_date)).fill_null(False).to_numpy()
    listed = known["CoName"].is_not_null().to_numpy()
    of_tonight = tonight.rows.filter("eligible").select("code", "score")
    scores = codes.join(of_tonight, on="code", how="left", maintain_order="left")["score"]
    return View(
        market=market,
        scores=scores.fill_null(np.nan).to_numpy().astype(np.float32),
        tomorrow=tomorrow_of(market, len(market.dates) - 1, tonight.trade_date, fine, listed),
        names=dict(known.filter(pl.col("CoName").is_not_null()).select("code", "CoName").iter_rows()),
    )
