"""Weekly margin: what is held and sold on margin, against a name's own past and what it trades.

One definition over the change of 2026-09-28, when the table turned from weekly to daily: the balance of the last
trading day of each week of three sessions or more, for those are the balances that the weekly edition had. It counts
from the evening on which it was published: the second business day after in the weekly edition, the first in the daily
one. A window counts such weeks.

Volumes come unadjusted; a split between two balances, or between a balance and today's volume, is undone by the
factors of the days between.
"""

from __future__ import annotations

from datetime import date, timedelta

import polars as pl

from atft_assets.contracts import require_columns
from atft_assets.features.asof import AVAILABLE_AT
from atft_assets.features.evenings import log_ratio
from atft_assets.features.event_feature import event_family
from atft_assets.features.events import SINCE, carried
from atft_assets.features.feature import Feature
from atft_assets.features.histories import back, histories, mean_of, placed, states, z_of
from atft_assets.features.names import DAILY_QUOTES, MARGIN, MARGIN_INTEREST, UNIVERSE, of
from atft_assets.features.rolling import TINY, ratio
from atft_assets.features.share_basis import QUOTE_COLUMNS, on_basis, with_basis
from atft_assets.features.table import FeatureTable, Reader
from atft_assets.features.weeks import trading_weeks
from atft_assets.settings import Plan

LOOKBACK_MONTHS = 15  # 52 weeks of balances, the newest of which may be five weeks old
REACH = timedelta(days=52 * 7 + 28)
STALE = 14  # trading days: two weeks without a balance
LEAST_SESSIONS = 3  # of a week that has a balance
COLUMNS = (
    "date",
    "code",
    "IssType",
    "ShrtVol",
    "LongVol",
    "ShrtStdVol",
    "LongStdVol",
    AVAILABLE_AT,
)

FLAG = "is_margin_valid"
BORROWABLE = "2"  # IssType of names that can be sold short by standardised margin
BALANCES = of(MARGIN_INTEREST, "LongVol", "ShrtVol")
ADJUSTED = of(DAILY_QUOTES, "AdjFactor")
SOURCE = {
    "availability": "evening on which the week's balance is published: the second business day of the week after",
    "valid_from": date(2012, 2, 10),
    "among": FLAG,
}

_feature = event_family("margin", kind="event", source="margin_interest", reads=BALANCES, coverage=0.9, **SOURCE)
_week = event_family(  # over several weeks: on one basis of shares
    "margin",
    kind="event",
    source="margin_interest, daily_quotes",
    reads=(*BALANCES, *ADJUSTED),
    coverage=0.6,
    **SOURCE,
)
_SHARES = {"long": "L", "short": "S", "gross": "L + S", "imbalance": "margin_imbalance"}


def _basis(column: str) -> tuple[str, ...]:
    return BALANCES if column == "imbalance" else (*_side(column), *ADJUSTED)


def _side(column: str) -> tuple[str, ...]:
    return {"long": BALANCES[:1], "short": BALANCES[1:]}.get(column, BALANCES)


FEATURES: tuple[Feature, ...] = (
    _feature(
        "margin_credit_ratio",
        "ln((L + 1)/(S + 1)), L long and S short positions in shares; not a model input: close to margin_imbalance",
        model_input=False,
    ),
    _feature("margin_imbalance", "(L - S)/(L + S)", low=-1.0, high=1.0),
    *(
        _week(
            f"margin_d_{name}_wow",
            f"ln(({what} + 1)/({what}[-1 week] + 1)), on the newest basis of shares",
            2,
            10,
            reads=(*_side(name), *ADJUSTED),
        )
        for name, what in (("long", "L"), ("short", "S"))
    ),
    _feature(
        "margin_d_imbalance_wow",
        "margin_imbalance - margin_imbalance[-1 week]",
        2,
        10,
        low=-2.0,
        high=2.0,
        coverage=0.6,
    ),
    *(
        _week(
            f"margin_d_{name}_4w",
            f"ln(({what} + 1)/({what}[-4 weeks] + 1)), on the newest basis of shares",
            5,
            30,
            reads=(*_side(name), *ADJUSTED),
        )
        for name, what in (("long", "L"), ("short", "S"))
    ),
    _week("margin_gross_mom4", "ln(G/mean(G, 4 weeks)), G = L + S on one basis of shares, 3 weeks at least", 4, 25),
    *(
        _week(
            f"margin_{name}_z52",
            f"({what} - mean)/std over 52 weeks, 26 at least"
            + ("" if name == "imbalance" else ", on one basis of shares"),
            52,
            150,
            reads=_basis(name),
        )
        for name, what in _SHARES.items()
    ),
    *(
        _week(
            f"margin_{name}_to_adv20",
            f"{what}/mean(Vo, 20), on one basis of shares",
            20,
            30,
            low=0.0,
            reads=(*_side(name), *of(DAILY_QUOTES, "Vo", "AdjFactor")),
        )
        for name, what in (("long", "L"), ("short", "S"))
    ),
    _week(
        "margin_net_to_adv20",
        "(L - S)/mean(Vo, 20), on one basis of shares",
        20,
        30,
        reads=(*BALANCES, *of(DAILY_QUOTES, "Vo", "AdjFactor")),
    ),
    *(
        _week(
            f"margin_d_{name}_to_adv20",
            f"({what} - {what}[-1 week])/(5 mean(Vo, 20)), on one basis of shares",
            20,
            30,
            reads=(*_side(name), *of(DAILY_QUOTES, "Vo", "AdjFactor")),
        )
        for name, what in (("long", "L"), ("short", "S"))
    ),
    *(
        _feature(
            f"margin_std_share_{name}",
            f"the standardised part of {what}; the rest is negotiable",
            low=0.0,
            high=1.0,
            may_be_constant=True,
            coverage=0.5,
            reads=of(MARGIN_INTEREST, f"{side}StdVol", f"{side}Vol"),
        )
        for name, what, side in (("long", "L", "Long"), ("short", "S", "Shrt"))
    ),
    _feature(
        "margin_is_borrowable",
        f"1 where the name can be sold short by standardised margin (IssType {BORROWABLE})",
        kind="flag",
        low=0,
        high=1,
        reads=of(MARGIN_INTEREST, "IssType"),
    ),
    _feature(
        "margin_impulse",
        "1 on the first evening of a balance; not a model input: equal for all names",
        kind="flag",
        low=0,
        high=1,
        model_input=False,
        reads=of(MARGIN_INTEREST, "date", AVAILABLE_AT),
    ),
    _feature(
        "margin_days_since",
        "trading days since the first evening of the balance; not a model input: equal for all names",
        low=0.0,
        model_input=False,
        may_be_constant=True,
        reads=of(MARGIN_INTEREST, "date", AVAILABLE_AT),
    ),
)
VALIDITY = (
    _feature(
        FLAG,
        f"1 where a balance of at most {STALE} trading days is known",
        kind="flag",
        low=0,
        high=1,
        lookback=5,
        model_input=False,
        family="validity",
        reads=of(MARGIN_INTEREST, "date", AVAILABLE_AT),
        among="",
    ),
)


def balance_weeks(days: pl.Series) -> pl.DataFrame:
    """The days on which weeks with a balance end, up to the last of some dates: date, `_week` Int32, their number."""
    last = days.max()
    ends = trading_weeks(days, LEAST_SESSIONS).select("date", "_week")
    return ends.filter(pl.col("date") <= last) if isinstance(last, date) else ends


def margin_features(
    balances: pl.DataFrame, quotes: pl.DataFrame, rows: pl.DataFrame, partition: str = "-"
) -> pl.DataFrame:
    """The weekly margin columns.

    Args:
        balances: COLUMNS of margin_interest, history included.
        quotes: QUOTE_COLUMNS of daily_quotes, history included; volumes unadjusted, with the factor of each day.
        rows: date, code for which they are wanted.

    Returns:
        date, code and the features; null where no balance is known, or one that is older than STALE trading days.

    Raises:
        ContractViolation: an input lacks a column, or a bar came after the decision of its day.
    """
    require_columns(balances, COLUMNS, table=MARGIN_INTEREST, partition=partition)
    traded = with_basis(quotes, partition=partition)
    weekly = balances.select(COLUMNS).join(balance_weeks(balances["date"]), on="date")
    chains = placed(histories(weekly, by="date", keys=["code"], reach=REACH), "_week")
    long, short, gross = pl.col("_l"), pl.col("_s"), pl.col("_l") + pl.col("_s")
    records = (
        on_basis(chains, traded)
        .sort("_place")
        .with_columns(
            (pl.col("LongVol") / pl.col("_basis")).alias("_l"), (pl.col("ShrtVol") / pl.col("_basis")).alias("_s")
        )
        .with_columns(gross.alias("_g"), ratio(long - short, gross).alias("margin_imbalance"))
        .with_columns(
            ((pl.col("LongVol") + 1) / (pl.col("ShrtVol") + 1)).log().alias("margin_credit_ratio"),
            *(
                _grown(side, steps).alias(f"margin_d_{name}_{label}")
                for name, side in (("long", "_l"), ("short", "_s"))
                for steps, label in ((1, "wow"), (4, "4w"))
            ),
            (pl.col("margin_imbalance") - back("margin_imbalance", 1)).alias("margin_d_imbalance_wow"),
            log_ratio(pl.col("_g"), mean_of("_g", 4, 3)).alias("margin_gross_mom4"),  # null where nothing is held
            *(
                z_of(column, 52, 26).alias(f"margin_{name}_z52")
                for name, column in (
                    ("long", "_l"),
                    ("short", "_s"),
                    ("gross", "_g"),
                    ("imbalance", "margin_imbalance"),
                )
            ),
            (long - back("_l", 1)).alias("_dl"),
            (short - back("_s", 1)).alias("_ds"),
            ratio(pl.col("LongStdVol"), pl.col("LongVol")).alias("margin_std_share_long"),
            ratio(pl.col("ShrtStdVol"), pl.col("ShrtVol")).alias("margin_std_share_short"),
            (pl.col("IssType") == BORROWABLE).alias("margin_is_borrowable"),
        )
    )
    # a balance is repeated on many rows: what nothing multiplies there is stored as it will be
    made = [_stored(f) for f in FEATURES if f.name in records.columns]
    wanted = states(
        records.select("date", "code", AVAILABLE_AT, "_known_at", "_chain", "_state", "_l", "_s", "_dl", "_ds", *made)
    )
    adv = pl.col("_adv20")
    fresh = pl.col(SINCE) <= STALE
    frame = (
        carried(wanted, rows.select("date", "code"), by="date")
        .join(traded.select("date", "code", "_adv20"), on=["date", "code"], how="left", maintain_order="left")
        .with_columns(
            ratio(long, adv, TINY).alias("margin_long_to_adv20"),
            ratio(short, adv, TINY).alias("margin_short_to_adv20"),
            ratio(long - short, adv, TINY).alias("margin_net_to_adv20"),
            ratio(pl.col("_dl"), 5 * adv, TINY).alias("margin_d_long_to_adv20"),
            ratio(pl.col("_ds"), 5 * adv, TINY).alias("margin_d_short_to_adv20"),
            (pl.col(SINCE) == 0).alias("margin_impulse"),
            pl.col(SINCE).alias("margin_days_since"),
        )
    )
    stored = (pl.when(fresh).then(_stored(f)).alias(f.name) for f in FEATURES)
    return frame.select("date", "code", *stored, fresh.fill_null(False).cast(pl.UInt8).alias(FLAG))


def _stored(feature: Feature) -> pl.Expr:
    return pl.col(feature.name).cast(pl.UInt8 if feature.kind == "flag" else pl.Float32)


def _grown(side: str, steps: int) -> pl.Expr:
    """ln((x + 1)/(x[-steps] + 1)) in shares of the newest balance's day."""
    now, then = pl.col(side) * pl.col("_basis"), back(side, steps) * pl.col("_basis")
    return ((now + 1) / (then + 1)).log()


def build(inputs: Reader) -> pl.DataFrame:
    """The weekly margin columns of a block."""
    balances, quotes = inputs.read(MARGIN_INTEREST, COLUMNS), inputs.read(DAILY_QUOTES, (*QUOTE_COLUMNS, AVAILABLE_AT))
    return margin_features(balances, quotes, inputs.rows(), inputs.span)


TABLE = FeatureTable(
    name=MARGIN,
    description="Weekly margin positions against their own past and what trades a day. Needs the plan Standard.",
    build=build,
    features=(*FEATURES, *VALIDITY),
    reads={MARGIN_INTEREST: LOOKBACK_MONTHS, DAILY_QUOTES: LOOKBACK_MONTHS, UNIVERSE: 0},
    plan=Plan.STANDARD,
    needs="margin positions",
)
