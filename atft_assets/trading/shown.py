"""An evening as its page and Dagster's UI show it: beside the evening before, without this machine's paths."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import date

import polars as pl

from atft_assets.calendar import month_key, next_trading_day, shift_month
from atft_assets.reports import evening_page
from atft_assets.store import Store
from atft_assets.trading.champion import Champion
from atft_assets.trading.daily_scores import GROUP, NAME, PUBLISHED, empty
from atft_assets.trading.gates import Gate, blocked


def shown_of(
    store: Store,
    champion: Champion,
    day: date,
    rows: pl.DataFrame,
    gates: Sequence[Gate],
    others: Sequence[pl.DataFrame] = (),
) -> evening_page.Evening:
    """An evening as it is shown.

    Args:
        rows: of the evening.
        others: of evenings that were scored with it and are not in the table yet.
    """
    table, root = store.table(GROUP, NAME), str(store.local())
    held = set(table.keys())
    months = [key for key in (shift_month(month_key(day), -1), month_key(day)) if key in held]
    known = pl.concat([empty(), *(table.read([key]) for key in months), *others])
    ranked, before = beside(day, rows, known)
    return evening_page.Evening(
        day=day,
        trade_date=next_trading_day(day),
        rows=ranked,
        gates=[replace(gate, sentence=gate.sentence.replace(root, "$ATFT_DATA")) for gate in gates],
        withheld=bool(blocked(gates)),
        before=before,
        champion=str(champion),
        provenance={
            "champion": champion.champion_id,
            "features": champion.catalogue_hash,
            "panel it learned from": champion.panel_id,
            "panel of the last days": ranked["panel_id"][0] if ranked.height else "–",
        },
    )


def beside(day: date, rows: pl.DataFrame, known: pl.DataFrame) -> tuple[pl.DataFrame, date | None]:
    """An evening's rows beside the last evening before it that may be used.

    Args:
        rows: of the day, one a name.
        known: rows of other evenings; what is not published, or not before it, is not looked at.

    Returns:
        The rows best first, with `change`, the places won since, null where not known; and the evening before.
    """
    earlier = known.filter((pl.col("date") < day) & (pl.col("status") == PUBLISHED))
    past = earlier.filter(pl.col("date") == pl.col("date").max())
    before = past["date"][0] if past.height else None
    past = past.select("code", pl.col("rank").cast(pl.Int32).alias("was"))
    rows = rows.join(past, on="code", how="left").sort("rank")
    return rows.with_columns((pl.col("was") - pl.col("rank").cast(pl.Int32)).alias("change")).drop("was"), before
