"""What cannot be true of the bars of a month: rules over days and names, each held against the day before.

Every rule is one about which a real market leaves no doubt. The limits stand between what is impossible and what was
measured on nine years of the whole Tokyo market (2013 to 2021, 3,700 names, the crash of March 2020 among them); each
says what the real market reached. What is odd but possible is a warning (`atft_assets.features.quality`), no rule.
"""

from collections.abc import Iterator

import polars as pl

from atft_assets.raw.beside import on_the_next_day, with_before
from atft_assets.raw.stamps import SAMPLES, Failure

TRADED = ("O", "H", "L", "C", "Vo", "Va")

FEWEST = 10  # names that a statistic of a day needs; below, nothing is said
LOST_SHARE = 0.1  # names of the master, or of the day before, that a day may lack; about 0.1 % leave in a week
FEW_LOST = 2  # names that may be gone from a list however short
REPEATED_SHARE = 0.5  # names with the bar of the day before; Tokyo: 6 % at most
ONE_PRICE_SHARE = 0.5  # names that close at one price; Tokyo: 0.4 % at most
FACTOR_SHARE = 0.2  # names with an adjustment on a day; unit changes of 2017 and 2018 reached some 6 %
SHIFT = 1.3  # median of a day's moves, as a factor either way; Tokyo: 1.08
JUMP = 1.5  # a move that price limits allow to a few cheap names only, as a factor either way …
JUMP_SHARE = 0.05  # … and the share of names that may make one; Tokyo: 0.07 % at most
SNAPSHOT_DAYS = "14d"  # a snapshot of the master that is older says nothing of a day's names

KEPT = ("date", "code", "O", "H", "L", "C", "Vo", "AdjFactor")


def half_null(frame: pl.DataFrame) -> Iterator[Failure]:
    """Rows whose prices, volume and value are not null together."""
    nulls = pl.sum_horizontal(pl.col(TRADED).is_null())
    bad = frame.filter(nulls.is_between(1, len(TRADED) - 1))
    if bad.height:
        rows = bad.select("date", "code", *TRADED).head(SAMPLES).iter_rows(named=True)
        sample = " | ".join(" ".join(f"{k}={v}" for k, v in row.items()) for row in rows)
        yield ", ".join(TRADED), "prices, volume and value of a row are null together", bad.height, sample


def lost_names(frame: pl.DataFrame, before: pl.DataFrame | None, master: pl.DataFrame | None) -> Iterator[Failure]:
    """Days that lack names of the day before or of the master, and days of whose names the master lacks many.

    Args:
        before: rows of the day before the month; None: the month's first day is not held against one.
        master: snapshots (date, code) of the month and before it; None where there are none.
    """
    expected = on_the_next_day(with_before(frame.select("date", "code"), before))
    yield from _absent(expected, frame, "a day holds the names of the day before")
    if master is None or master.is_empty():
        return
    snapshots = master.select(pl.col("date").unique().sort(), pl.col("date").unique().sort().alias("snapshot"))
    of_day = (
        frame.select(pl.col("date").unique().sort())
        .join_asof(snapshots, on="date", strategy="backward", tolerance=SNAPSHOT_DAYS)
        .drop_nulls()
    )
    listed = of_day.join(master.select(pl.col("date").alias("snapshot"), "code"), on="snapshot").select("date", "code")
    yield from _absent(listed, frame, "a day holds the names of the master (listed_info)")
    quoted = frame.select("date", "code").join(of_day, on="date").select("date", "code")
    yield from _absent(quoted, listed, "the master (listed_info) holds the names of a day")


def _absent(expected: pl.DataFrame, present: pl.DataFrame, rule: str) -> Iterator[Failure]:
    gone = expected.join(present.select("date", "code"), on=["date", "code"], how="anti")
    counts = expected.group_by("date").len("names").join(gone.group_by("date").len("gone"), on="date").sort("date")
    short = counts.filter((pl.col("gone") > LOST_SHARE * pl.col("names")) & (pl.col("gone") > FEW_LOST))
    if short.height:
        said = ", ".join(f"{day}: {gone} of {names} gone" for day, names, gone in short.head(SAMPLES).iter_rows())
        yield "date, code", f"{rule}, all but {LOST_SHARE:.0%}", int(short["gone"].sum()), said


def impossible_days(frame: pl.DataFrame, before: pl.DataFrame | None) -> Iterator[Failure]:
    """Days whose cross-section no market can have: see the limits above."""
    moves = _moves(frame, before)
    days = (
        moves.group_by("date")
        .agg(
            pl.len().alias("names"),
            pl.col("C").is_not_null().sum().alias("traded"),
            (pl.col("AdjFactor") != 1).sum().alias("adjusted"),
            pl.col("repeated").drop_nulls().sum().alias("repeated"),
            pl.col("repeated").drop_nulls().len().alias("both"),
            pl.col("C").drop_nulls().unique_counts().max().fill_null(0).alias("at_one_price"),
            pl.col("move").drop_nulls().len().alias("moves"),
            pl.col("move").median().alias("shift"),
            (pl.col("move").abs() > pl.lit(SHIFT).log()).sum().alias("far"),
            (pl.col("move").abs() > pl.lit(JUMP).log()).sum().alias("jumped"),
        )
        .sort("date")
    )

    def broken(column: str, rule: str, bad: pl.Expr, rows: str, of: str) -> Iterator[Failure]:
        found = days.filter((pl.col(of) >= FEWEST) & bad)
        if found.height:
            said = (f"{day}: {n} of {total} names" for day, n, total in found.select("date", rows, of).iter_rows())
            yield column, rule, int(found[rows].sum()), ", ".join(list(said)[:SAMPLES])

    yield from broken(
        "O, H, L, C, Vo", f"at most {REPEATED_SHARE:.0%} of the names repeat the bar of the day before",
        pl.col("repeated") > REPEATED_SHARE * pl.col("both"), "repeated", "both",
    )  # fmt: skip
    yield from broken(
        "C", f"at most {ONE_PRICE_SHARE:.0%} of the names close at one price",
        pl.col("at_one_price") > ONE_PRICE_SHARE * pl.col("traded"), "at_one_price", "traded",
    )  # fmt: skip
    yield from broken(
        "AdjFactor", f"at most {FACTOR_SHARE:.0%} of the names have an adjustment on one day",
        pl.col("adjusted") > FACTOR_SHARE * pl.col("names"), "adjusted", "names",
    )  # fmt: skip
    yield from broken(
        "C, AdjFactor", f"the median move of a day lies within a factor of {SHIFT:g}, adjustments taken off",
        pl.col("shift").abs() > pl.lit(SHIFT).log(), "far", "moves",
    )  # fmt: skip
    yield from broken(
        "code, C", f"at most {JUMP_SHARE:.0%} of the names move by more than a factor of {JUMP:g} on one day",
        (pl.col("jumped") > JUMP_SHARE * pl.col("moves")) & (pl.col("jumped") > FEW_LOST), "jumped", "moves",
    )  # fmt: skip


def _moves(frame: pl.DataFrame, before: pl.DataFrame | None) -> pl.DataFrame:
    """Each row of the month with `move`, the logarithm of its close over the name's last one, adjustments taken off,
    and `repeated`, whether it is the bar of the day before; null where there is none to compare.
    """
    rows = with_before(frame.select(KEPT), before).sort("code", "date")
    adjusted = pl.col("C") / pl.col("AdjFactor").cum_prod().over("code")
    same = [pl.col(name) == pl.col(name).shift(1).over("code") for name in ("O", "H", "L", "C", "Vo")]
    return (
        rows.with_columns(adjusted.alias("_adjusted"))
        .with_columns(
            (pl.col("_adjusted") / pl.col("_adjusted").forward_fill().shift(1).over("code")).log().alias("move"),
            pl.all_horizontal(same).alias("repeated"),
        )
        .filter(pl.col("date") >= frame["date"].min())
    )
