"""Investor flow: who bought and sold in the newest week that was published, in the market and in a name's section.

A week comes on the fourth business day after, later around holidays: only the publication says when. Of several
publications of a week the newest known counts, in the windows too. Levels and windows are those of `TokyoNagoya`, the
whole market, which goes on over the reform of 2022-04-04; a section is held against it within one week, so that no
window spans two sections that hold other names. `TokyoNagoya` is not the sum of the sections.

Columns of the whole market are equal for all names of a day: they say in which regime the day lies. Thousand JPY.
"""

from __future__ import annotations

from datetime import date, timedelta

import polars as pl

from atft_assets.contracts import require_columns
from atft_assets.features.asof import AVAILABLE_AT
from atft_assets.features.event_feature import event_family
from atft_assets.features.events import SINCE, carried
from atft_assets.features.feature import Feature
from atft_assets.features.histories import back, histories, mean_of, placed, states, z_of
from atft_assets.features.names import FLOW, INVESTOR_TYPES, UNIVERSE, of
from atft_assets.features.rolling import ratio
from atft_assets.features.table import FeatureTable, Reader
from atft_assets.features.weeks import monday, trading_weeks
from atft_assets.settings import Plan

LOOKBACK_MONTHS = 15  # 56 weeks, of which the newest may be five old
REACH = timedelta(days=56 * 7 + 45)
STALE = 14  # trading days
WHOLE = "TokyoNagoya"
SECTIONS = {  # Mkt of the master -> Section of the flow
    "0101": "TSE1st",
    "0102": "TSE2nd",
    "0104": "TSEMothers",
    "0106": "TSEJASDAQ",
    "0107": "TSEJASDAQ",
    "0111": "TSEPrime",
    "0112": "TSEStandard",
    "0113": "TSEGrowth",
}
ACTORS = ("Frgn", "Ind", "TrstBnk", "InvTr", "Prop")
COLUMNS = (
    "EnDate",
    "Section",
    "TotTot",
    *(f"{who}Bal" for who in ACTORS),
    "FrgnTot",
    "IndTot",
    "TrstBnkTot",
    "PropTot",
    AVAILABLE_AT,
)
ROW_COLUMNS = ("date", "code", "mkt")

FLAG = "is_flow_valid"
WEEK = of(INVESTOR_TYPES, "EnDate", "Section", AVAILABLE_AT)
KNOWN = "evening of the publication: the fourth business day after the week, or later"
SOURCE = {"source": "investor_types", "availability": KNOWN, "valid_from": date(2008, 1, 16)}

_market = event_family("flow", kind="market", coverage=0.9, among=FLAG, may_be_constant=True, **SOURCE)
# In April 2022 new sections come on the 4th, and their first week on the 14th: eight of the month's days know no week.
_section = event_family(
    "flow",
    kind="sector",
    coverage=0.4,
    among=FLAG,
    low=-2.0,
    high=2.0,
    may_be_constant=True,
    **(SOURCE | {"source": "investor_types, listed_info"}),
)


def _reads(*columns: str) -> tuple[str, ...]:
    return (*of(INVESTOR_TYPES, *columns), *WEEK)


FRGN, IND = ("FrgnBal", "FrgnTot"), ("IndBal", "IndTot")
BALANCES = tuple(f"{who}Bal" for who in ACTORS)

FEATURES: tuple[Feature, ...] = (
    _market(
        "flow_foreign_net_ratio",
        "purchases less sales of foreigners over both",
        low=-1.0,
        high=1.0,
        reads=_reads(*FRGN),
    ),
    _market("flow_individual_net_ratio", "the same of individuals", low=-1.0, high=1.0, reads=_reads(*IND)),
    _market(
        "flow_trust_net_ratio", "the same of trust banks", low=-1.0, high=1.0, reads=_reads("TrstBnkBal", "TrstBnkTot")
    ),
    _market(
        "flow_proprietary_net_ratio",
        "the same of proprietary trading",
        low=-1.0,
        high=1.0,
        reads=_reads("PropBal", "PropTot"),
    ),
    _market(
        "flow_foreign_share",
        "turnover of foreigners over that of all",
        low=0.0,
        high=1.0,
        reads=_reads("FrgnTot", "TotTot"),
    ),
    _market(
        "flow_activity",
        "ln(turnover a session/mean(turnover a session, 13 weeks)), 10 at least",
        13,
        70,
        reads=_reads("TotTot"),
    ),
    _market(
        "flow_breadth_pos",
        "share of foreigners, individuals, trust banks, investment trusts and proprietary trading that "
        "bought more than they sold",
        low=0.0,
        high=1.0,
        reads=_reads(*BALANCES),
    ),
    _market(
        "flow_concentration",
        "Herfindahl index of the sizes of their net purchases",
        low=0.0,
        high=1.0,
        reads=_reads(*BALANCES),
    ),
    _market(
        "flow_foreign_wow",
        "flow_foreign_net_ratio - flow_foreign_net_ratio[-1 week]",
        2,
        20,
        low=-2.0,
        high=2.0,
        coverage=0.5,
        reads=_reads(*FRGN),
    ),
    _market(
        "flow_foreign_persistence",
        "mean of the sign of the foreigners' balance over 10 weeks, 8 at least",
        10,
        60,
        low=-1.0,
        high=1.0,
        reads=_reads("FrgnBal"),
    ),
    _market(
        "flow_foreign_net_z13",
        "(flow_foreign_net_ratio - mean)/std over 13 weeks, 10 at least",
        13,
        70,
        reads=_reads(*FRGN),
    ),
    _market(
        "flow_foreign_net_z",
        "(flow_foreign_net_ratio - mean)/std over 52 weeks, 26 at least",
        52,
        150,
        reads=_reads(*FRGN),
    ),
    _market("flow_individual_net_z", "the same of flow_individual_net_ratio", 52, 150, reads=_reads(*IND)),
    _market(
        "flow_smart_idx",
        "flow_foreign_net_z - flow_individual_net_z",
        52,
        150,
        reads=("flow_foreign_net_z", "flow_individual_net_z"),
    ),
    _market(
        "flow_smart_mom4",
        "flow_smart_idx - mean(flow_smart_idx, 4 weeks), 3 at least",
        56,
        170,
        reads=("flow_smart_idx",),
    ),
    _section(
        "flow_section_foreign_rel",
        "flow_foreign_net_ratio of the name's section less that of the whole market, of one week",
        reads=(*_reads(*FRGN), *of(UNIVERSE, "mkt")),
    ),
    _section(
        "flow_section_individual_rel",
        "the same of flow_individual_net_ratio",
        reads=(*_reads(*IND), *of(UNIVERSE, "mkt")),
    ),
    _market(
        "flow_shock_flag",
        "1 where |flow_smart_idx| >= 2; not a model input: it follows from flow_smart_idx",
        52,
        150,
        kind="flag",
        low=0,
        high=1,
        model_input=False,
        reads=("flow_smart_idx",),
    ),
    _market(
        "flow_days_since",
        "trading days since the first evening of the week; not a model input: the day of the week says it",
        low=0.0,
        high=float(STALE),
        model_input=False,
        reads=WEEK,
    ),
)
VALIDITY = (
    _market(
        FLAG,
        f"1 where a week of at most {STALE} trading days is known",
        1,
        15,
        kind="flag",
        low=0,
        high=1,
        model_input=False,
        family="validity",
        among="",
        coverage=0.8,
        reads=of(INVESTOR_TYPES, "Section", AVAILABLE_AT),
    ),
)


def flow_features(weeks: pl.DataFrame, rows: pl.DataFrame, partition: str = "-") -> pl.DataFrame:
    """The flow columns.

    Args:
        weeks: COLUMNS of investor_types, history included.
        rows: ROW_COLUMNS of the universe, for which they are wanted.

    Returns:
        date, code and the features; null where no week is known, or one that is older than STALE trading days; those of
        the section where it has no such week, or another than the whole market.

    Raises:
        ContractViolation: an input lacks a column.
    """
    require_columns(weeks, COLUMNS, table=INVESTOR_TYPES, partition=partition)
    require_columns(rows, ROW_COLUMNS, table=UNIVERSE, partition=partition)
    records = _records(weeks)
    days = rows.select(pl.col("date").unique().sort())
    whole = _fresh(carried(records.filter(pl.col("Section") == WHOLE).drop("Section"), days, by="EnDate", keys=[]))
    asked = rows.select(
        "date", "code", pl.col("mkt").replace_strict(SECTIONS, default=None, return_dtype=pl.String).alias("Section")
    )
    cells = asked.select("date", "Section").unique().drop_nulls().sort("date", "Section")
    parts = records.filter(pl.col("Section") != WHOLE).select(
        "Section", "EnDate", AVAILABLE_AT, "_known_at", "flow_foreign_net_ratio", "flow_individual_net_ratio"
    )
    sections = (
        _fresh(carried(parts, cells, by="EnDate", keys=["Section"]))
        .join(
            whole.select("date", "EnDate", "flow_foreign_net_ratio", "flow_individual_net_ratio"),
            on=["date", "EnDate"],
            suffix="_whole",
        )
        .select(
            "date",
            "Section",
            *(
                (pl.col(f"flow_{who}_net_ratio") - pl.col(f"flow_{who}_net_ratio_whole")).alias(
                    f"flow_section_{who}_rel"
                )
                for who in ("foreign", "individual")
            ),
        )
    )
    # a day and a section are repeated on many rows: stored before, not after
    return (
        asked.join(_stored(whole, "date"), on="date", how="left", maintain_order="left")
        .join(_stored(sections, "date", "Section"), on=["date", "Section"], how="left", maintain_order="left")
        .select("date", "code", *(f.name for f in (*FEATURES, *VALIDITY)))
    )


def _stored(frame: pl.DataFrame, *keys: str) -> pl.DataFrame:
    """The keys and the features of a frame, as they are stored."""
    made = [f for f in (*FEATURES, *VALIDITY) if f.name in frame.columns]
    return frame.select(*keys, *(pl.col(f.name).cast(pl.UInt8 if f.kind == "flag" else pl.Float32) for f in made))


def _records(weeks: pl.DataFrame) -> pl.DataFrame:
    """What each state of a section's weeks says, with windows over the state's history."""
    dated = weeks.select(COLUMNS).with_columns(pl.col("EnDate").str.to_date("%Y-%m-%d"))
    dated = dated.with_columns(monday("EnDate")).join(
        trading_weeks(dated["EnDate"]).select("monday", "sessions", "_week"), on="monday"
    )
    chains = placed(histories(dated, by="EnDate", keys=["Section"], reach=REACH), "_week")
    sizes = [pl.col(name).abs() for name in BALANCES]
    whole = pl.sum_horizontal(sizes)
    net, smart = pl.col("flow_foreign_net_ratio"), pl.col("flow_smart_idx")
    made = (
        chains.with_columns(
            *(
                ratio(pl.col(f"{who}Bal"), pl.col(f"{who}Tot")).alias(f"flow_{name}_net_ratio")
                for name, who in (
                    ("foreign", "Frgn"),
                    ("individual", "Ind"),
                    ("trust", "TrstBnk"),
                    ("proprietary", "Prop"),
                )
            ),
            ratio(pl.col("FrgnTot"), pl.col("TotTot")).alias("flow_foreign_share"),
            (pl.col("TotTot") / pl.col("sessions")).alias("_turnover"),
            (pl.sum_horizontal((pl.col(name) > 0).cast(pl.Float64) for name in BALANCES) / len(BALANCES)).alias(
                "flow_breadth_pos"
            ),
            ratio(pl.sum_horizontal(size**2 for size in sizes), whole**2).alias("flow_concentration"),
            pl.col("FrgnBal").sign().alias("_sign"),
        )
        .with_columns(
            ratio(pl.col("_turnover"), mean_of("_turnover", 13, 10)).log().alias("flow_activity"),
            (net - back(net, 1)).alias("flow_foreign_wow"),
            mean_of("_sign", 10, 8).alias("flow_foreign_persistence"),
            z_of("flow_foreign_net_ratio", 13, 10).alias("flow_foreign_net_z13"),
            z_of("flow_foreign_net_ratio", 52, 26).alias("flow_foreign_net_z"),
            z_of("flow_individual_net_ratio", 52, 26).alias("flow_individual_net_z"),
        )
        .with_columns((pl.col("flow_foreign_net_z") - pl.col("flow_individual_net_z")).alias("flow_smart_idx"))
        .with_columns(
            (smart - mean_of("flow_smart_idx", 4, 3)).alias("flow_smart_mom4"),
            (smart.abs() >= 2).alias("flow_shock_flag"),
        )
    )
    return states(made).select("Section", "EnDate", AVAILABLE_AT, "_known_at", pl.col("^flow_.*$"))


def _fresh(known: pl.DataFrame) -> pl.DataFrame:
    """What is no older than STALE; with the flag and the age."""
    fresh = pl.col(SINCE) <= STALE
    return known.with_columns(
        pl.when(fresh).then(pl.col("^flow_.*$")),
        pl.when(fresh).then(pl.col(SINCE)).alias("flow_days_since"),
        fresh.fill_null(False).alias(FLAG),
    ).drop(SINCE)


def build(inputs: Reader) -> pl.DataFrame:
    """The flow columns of a block."""
    return flow_features(inputs.read(INVESTOR_TYPES, COLUMNS), inputs.read(UNIVERSE, ROW_COLUMNS), inputs.span)


TABLE = FeatureTable(
    name=FLOW,
    description="Who bought and sold in the newest week that is known, in the market and by section. Needs Light.",
    build=build,
    features=(*FEATURES, *VALIDITY),
    reads={INVESTOR_TYPES: LOOKBACK_MONTHS, UNIVERSE: 0},
    plan=Plan.LIGHT,
    needs="the purchases and sales by kind of investor",
)
