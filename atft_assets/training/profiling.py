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
from atft_assets.reports import pages
from atft_assets.reports.evaluation_page import rankings, render
from atft_assets.reports.scoreboard import Row
from atft_assets.scoring.block import Block
from atft_assets.scoring.profile import profile
from atft_assets.scoring.profiles import Profiles, meanings
from atft_assets.scoring.surroundings import surroundings_of
from atft_assets.store import MissingColumns, MissingTable, Store
from atft_model.interchange.fold import MAIN

UNIVERSE = ("features", "universe")  # before the panel on the road: there is no panel without it
MEMBER_COLUMNS = ("date", "code", "mkt", "scale_cat", "liquidity_rank")
MOST_TRADED = 1000  # names of a year that a portfolio can hold without moving the price
LEFT_OUT = 0.1  # share of the eligible rows that must lie outside for the question to mean anything


def profiles_of(rows: Sequence[Row], block: Block, members: pl.DataFrame | None) -> Profiles:
    """The profile of each line of the table that has scores.

    Args:
        members: what `members_of` says of the block.
    """
    around = surroundings_of(block, members)
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
    """Segment, size class and liquidity rank of the universe on the block's days; None if a month or a column of it is
    not there.

    Raises:
        DamagedTable: a month of the universe is not as it was published.
    """
    first, last = block.panel.dates[block.days[0]], block.panel.dates[block.days[-1]]
    try:
        return store.table(*UNIVERSE).read(months_between(month_key(first), month_key(last)), MEMBER_COLUMNS)
    except (MissingTable, MissingColumns):
        return None


def most_traded(block: Block, members: pl.DataFrame | None) -> NDArray[np.bool_] | None:
    """The names [D,N] that were among the 1,000 most traded of the year before each day.

    Args:
        members: what `members_of` says of the block.

    Returns:
        None where nothing is known of them, or nearly everybody is among them.
    """
    if members is None:
        return None
    rows = block.placed(members.filter(pl.col("liquidity_rank") <= MOST_TRADED))
    among = np.zeros(block.eligible.shape, bool)
    among[rows["d"].to_numpy(), rows["n"].to_numpy()] = True
    known = among.any(axis=1)  # the first year of the data has no year before it
    outside = block.eligible[known] & ~among[known]
    return among if outside.sum() > LEFT_OUT * block.eligible[known].sum() else None


def write_page(store: Store, board: Mapping[str, Any], profiles: Profiles) -> Path:
    """Write the page of an evaluation; that of the fold `main` is `reports/evaluation.html`."""
    return pages.write_page(store, page_name(board["fold"]), render(board, profiles))


def page_name(fold: str = MAIN) -> str:
    """The file of the page of a fold's evaluation."""
    return "evaluation.html" if fold == MAIN else f"evaluation-{fold}.html"


def shown(page: Path, board: Mapping[str, Any], profiles: Profiles) -> dict[str, Any]:
    """What the UI shows of the profiles: one line a score, and where the page lies."""
    lines: Any = dg.MetadataValue.table(rankings(board, profiles)) if profiles.scores else "nothing was profiled"
    return {"rankings": lines, "page": dg.MetadataValue.path(str(page))}
