"""What is said of scores beside the table: their profiles, the page on which a person reads them, and which names count
where only the most traded do.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import dagster as dg
import numpy as np
import polars as pl
from numpy.typing import NDArray

from atft_assets.baselines.registry import LIGHTGBM
from atft_assets.calendar import month_key, months_between
from atft_assets.reports.evaluation_page import rankings, render
from atft_assets.reports.scoreboard import Row
from atft_assets.scoring.block import Block
from atft_assets.scoring.profile import profile
from atft_assets.scoring.profiles import Profiles, meanings
from atft_assets.scoring.surroundings import surroundings_of
from atft_assets.store import MissingColumns, MissingTable, Store
from atft_model.interchange.fold import MAIN
from atft_model.interchange.records import write_text

UNIVERSE = ("features", "universe")  # before the panel on the road: there is no panel without it
MEMBER_COLUMNS = ("date", "code", "mkt", "scale_cat")
MOST_TRADED = 1000  # names of a year that a portfolio can hold without moving the price
LEFT_OUT = 0.1  # share of the eligible rows that must lie outside for the question to mean anything


def profiles_of(rows: Sequence[Row], block: Block, store: Store) -> Profiles:
    """The profile of each line of the table that has scores.

    Raises:
        DamagedTable: a month of the universe is not as it was published.
    """
    around = surroundings_of(block, members_of(store, block))
    dense = {row.name: block.dense(row.scores) for row in rows if row.name == LIGHTGBM and row.scores is not None}
    found = []
    for row in rows:
        if row.scores is not None:
            other = None if row.name == LIGHTGBM else dense.get(LIGHTGBM)
            found.append(profile(row.name, block.dense(row.scores), row.score, around, other))
    return Profiles(
        dates=tuple(map(str, around.dates)),
        horizons=around.horizons,
        scores=tuple(found),
        left_out=around.left_out,
        meanings=meanings(),
    )


def members_of(store: Store, block: Block) -> pl.DataFrame | None:
    """Segment and size class of the universe on the block's days; None if a month or a column of it is not there."""
    return _universe(store, block, MEMBER_COLUMNS)


def most_traded(store: Store, block: Block) -> NDArray[np.bool_] | None:
    """The names [D,N] that were among the 1,000 most traded of the year before each day.

    Returns:
        None where the universe is not to be had, or nearly everybody is among them.

    Raises:
        DamagedTable: a month of the universe is not as it was published.
    """
    members = _universe(store, block, ("date", "code", "liquidity_rank"))
    if members is None:
        return None
    rows = block.placed(members.filter(pl.col("liquidity_rank") <= MOST_TRADED))
    among = np.zeros(block.eligible.shape, bool)
    among[rows["d"].to_numpy(), rows["n"].to_numpy()] = True
    known = among.any(axis=1)  # the first year of the data has no year before it
    outside = block.eligible[known] & ~among[known]
    return among if outside.sum() > LEFT_OUT * block.eligible[known].sum() else None


def _universe(store: Store, block: Block, columns: Sequence[str]) -> pl.DataFrame | None:
    """Columns of the universe on the block's days; None if a month or a column of it is not there."""
    first, last = block.panel.dates[block.days[0]], block.panel.dates[block.days[-1]]
    try:
        return store.table(*UNIVERSE).read(months_between(month_key(first), month_key(last)), columns)
    except (MissingTable, MissingColumns):
        return None


def write_page(store: Store, board: Mapping[str, Any], profiles: Profiles) -> Path:
    """Write the page of an evaluation; that of the fold `main` is `reports/evaluation.html`."""
    page = page_of(store, board["fold"])
    write_text(page, render(board, profiles))
    return page


def page_of(store: Store, fold: str = MAIN) -> Path:
    """Where the page of a fold's evaluation lies."""
    return store.local("reports", "evaluation.html" if fold == MAIN else f"evaluation-{fold}.html")


def shown(page: Path, board: Mapping[str, Any], profiles: Profiles) -> dict[str, Any]:
    """What the UI shows of the profiles: one line a score, and where the page lies."""
    lines: Any = dg.MetadataValue.table(rankings(board, profiles)) if profiles.scores else "nothing was profiled"
    return {"rankings": lines, "page": dg.MetadataValue.path(str(page))}
