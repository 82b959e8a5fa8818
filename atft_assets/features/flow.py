"""Investor flow: seventeen columns of who bought and sold in a week, by the section of the market that a name belongs to.

A row of day t holds the newest week that was published by its evening: weeks come on the fourth business day after, later around
holidays, and only the publication date says when. Of several publications of a week the newest known counts. Sections changed
on 2022-04-04: the new ones go on where the old ones ended (first section to Prime, second and JASDAQ to Standard, Mothers to
Growth), and a window never holds weeks of both, since the names in them are others; `TokyoNagoya` stands for whatever has no week.
"""

from __future__ import annotations

from datetime import date

import polars as pl

from atft_assets.features.asof import AVAILABLE_AT
from atft_assets.features.events import SINCE, carried, first_versions, z
from atft_assets.features.feature import Feature, family
from atft_assets.features.names import FLOW, INVESTOR_TYPES, UNIVERSE, of
from atft_assets.features.rolling import ratio
from atft_assets.features.table import FeatureTable, Reader
from atft_assets.settings import Plan

LOOKBACK_MONTHS = 15
STALE = 14  # trading days
WHOLE = "TokyoNagoya"
# Mkt of the master -> Section of the flow
SECTIONS = {
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
    "date", "EnDate", "Section", "TotTot", "FrgnTot", "IndTot", *(f"{who}Bal" for who in (*ACTORS, "Bank", "InsCo")),
    *(f"{who}Tot" for who in ("TrstBnk", "InvTr", "Prop")), AVAILABLE_AT,
)  # fmt: skip
KNOWN = "evening of the publication: the fourth business day after the week, or later"

KEYS = (*of(INVESTOR_TYPES, "date", "EnDate", "Section", AVAILABLE_AT), *of(UNIVERSE, "mkt"))


def _flow(name: str, formula: str, weeks: int, *columns: str, **own: object) -> Feature:
    return _feature(name, formula, weeks, reads=(*of(INVESTOR_TYPES, *columns), *KEYS), **own)


_feature = family(
    "flow", kind="event", source="investor_types, listed_info", availability=KNOWN, valid_from=date(2008, 1, 16),
    coverage=0.8, may_be_constant=True,
)  # fmt: skip
_SAME = "; not a model input: equal for all names"
_BAL = ("FrgnBal", "FrgnTot", "IndBal", "IndTot")

FEATURES: tuple[Feature, ...] = (
    _flow("flow_foreign_net_ratio", "purchases less sales of foreigners over both", 1, "FrgnBal", "FrgnTot", low=-1.0, high=1.0),
    _flow("flow_individual_net_ratio", "the same of individuals", 1, "IndBal", "IndTot", low=-1.0, high=1.0),
    _flow("flow_trust_net_ratio", "the same of trust banks", 1, "TrstBnkBal", "TrstBnkTot", low=-1.0, high=1.0),
    _flow("flow_proprietary_net_ratio", "the same of proprietary trading", 1, "PropBal", "PropTot", low=-1.0, high=1.0),
    _flow("flow_foreign_share", "turnover of foreigners over that of all", 1, "FrgnTot", "TotTot", low=0.0, high=1.0),
    _flow("flow_activity", "ln(turnover/mean(turnover, 13 weeks))", 13, "TotTot"),
    _flow("flow_breadth_pos", "share of foreigners, individuals, trust banks, investment trusts and proprietary trading that "
          "bought more than they sold", 1, *(f"{who}Bal" for who in ACTORS), low=0.0, high=1.0),
    _flow("flow_foreign_net_z", "(flow_foreign_net_ratio - mean)/std over 52 weeks, 26 at least", 52, "FrgnBal", "FrgnTot"),
    _flow("flow_individual_net_z", "the same of flow_individual_net_ratio", 52, "IndBal", "IndTot"),
    _flow("flow_foreign_net_z13", "(flow_foreign_net_ratio - mean)/std over 13 weeks", 13, "FrgnBal", "FrgnTot"),
    _flow("flow_smart_idx", "flow_foreign_net_z - flow_individual_net_z", 52, *_BAL),
    _flow("flow_smart_mom4", "flow_smart_idx - mean(flow_smart_idx, 4 weeks)", 56, *_BAL),
    _flow("flow_foreign_persistence", "mean of the sign of the foreigners' balance over 10 weeks", 10, "FrgnBal", low=-1.0, high=1.0),
    _flow("flow_foreign_wow", "flow_foreign_net_ratio less that of the week before", 2, "FrgnBal", "FrgnTot", low=-2.0, high=2.0),
    _flow("flow_concentration", "Herfindahl index of the sizes of the net flows of the five", 1, *(f"{who}Bal" for who in ACTORS), low=0.0, high=1.0),
    _flow("flow_shock_flag", "1 where |flow_smart_idx| >= 2; not a model input: it follows from flow_smart_idx", 52, *_BAL,
          kind="flag", low=0, high=1, model_input=False),
    _flow("flow_days_since", "trading days since the first evening of the week" + _SAME, 1, low=0.0, model_input=False),
)  # fmt: skip
VALIDITY = (
    _flow("is_flow_valid", f"1 where a week of at most {STALE} trading days is known", 1, kind="flag", low=0, high=1,
          model_input=False, family="validity"),
)  # fmt: skip


def flow_features(weeks: pl.DataFrame, rows: pl.DataFrame) -> pl.DataFrame:
    """The flow columns.

    Args:
        weeks: COLUMNS of investor_types, history included; `date` is the publication's.
        rows: date, code, mkt for which they are wanted.

    Returns:
        date, code and the features; null where no week is known, or one that is older than STALE days.
    """
    records = _records(weeks)
    sections = set(records["Section"].to_list())
    named = {mkt: section for mkt, section in SECTIONS.items() if section in sections}
    asked = rows.select("date", "code", pl.col("mkt").replace_strict(named, default=WHOLE).alias("Section"))
    days = asked.select("date", "Section").unique().sort("date", "Section")
    known = carried(records, days, by="EnDate", keys=("Section",))
    fresh = pl.col(SINCE) <= STALE
    known = known.with_columns(
        pl.col(SINCE).alias("flow_days_since"),
        (fresh & pl.col("flow_foreign_net_ratio").is_not_null()).fill_null(False).cast(pl.UInt8).alias("is_flow_valid"),
    )
    stored = [
        pl.when(fresh).then(pl.col(f.name)).cast(pl.UInt8 if f.kind == "flag" else pl.Float32).alias(f.name)
        for f in FEATURES
    ]
    known = known.select("date", "Section", *stored, "is_flow_valid")
    return asked.join(known, on=["date", "Section"], how="left", maintain_order="left").drop("Section")


def _records(weeks: pl.DataFrame) -> pl.DataFrame:
    """A row a publication: what the week says, with windows over the weeks before as they were first known."""
    balance, total = pl.col("FrgnBal"), pl.col("FrgnTot")
    sizes = [pl.col(f"{who}Bal").abs() for who in ACTORS]
    whole = pl.sum_horizontal(sizes)
    week = pl.col("EnDate").str.to_date("%Y-%m-%d")
    every = weeks.select(COLUMNS).with_columns(
        week.alias("EnDate"),
        ratio(balance, total).alias("flow_foreign_net_ratio"),
        ratio(pl.col("IndBal"), pl.col("IndTot")).alias("flow_individual_net_ratio"),
        ratio(pl.col("TrstBnkBal"), pl.col("TrstBnkTot")).alias("flow_trust_net_ratio"),
        ratio(pl.col("PropBal"), pl.col("PropTot")).alias("flow_proprietary_net_ratio"),
        ratio(total, pl.col("TotTot")).alias("flow_foreign_share"),
        (pl.sum_horizontal(pl.col(f"{who}Bal") > 0 for who in ACTORS) / len(ACTORS)).alias("flow_breadth_pos"),
        ratio(pl.sum_horizontal((size / _some(whole)) ** 2 for size in sizes), pl.lit(1.0)).alias("flow_concentration"),
    )
    by = "Section"
    first = (
        first_versions(every, ("Section", "EnDate"))
        .sort("Section", "EnDate")
        .with_columns(
            ratio(pl.col("TotTot"), pl.col("TotTot").rolling_mean(13).over(by)).log().alias("flow_activity"),
            z("flow_foreign_net_ratio", 52, 26, by).alias("flow_foreign_net_z"),
            z("flow_individual_net_ratio", 52, 26, by).alias("flow_individual_net_z"),
            z("flow_foreign_net_ratio", 13, 13, by).alias("flow_foreign_net_z13"),
            balance.sign().rolling_mean(10).over(by).alias("flow_foreign_persistence"),
            (pl.col("flow_foreign_net_ratio") - pl.col("flow_foreign_net_ratio").shift(1).over(by)).alias(
                "flow_foreign_wow"
            ),
        )
    )
    first = first.with_columns(
        (pl.col("flow_foreign_net_z") - pl.col("flow_individual_net_z")).alias("flow_smart_idx")
    ).with_columns(
        (pl.col("flow_smart_idx") - pl.col("flow_smart_idx").rolling_mean(4).over(by)).alias("flow_smart_mom4"),
        (pl.col("flow_smart_idx").abs() >= 2).alias("flow_shock_flag"),
    )
    windows = [name for name in first.columns if name.startswith("flow_") and name not in every.columns]
    return every.join(first.select("Section", "EnDate", *windows), on=["Section", "EnDate"], how="left").select(
        "Section", "EnDate", AVAILABLE_AT, pl.col("^flow_.*$")
    )


def _some(x: pl.Expr) -> pl.Expr:
    return pl.when(x > 0).then(x)


def build(inputs: Reader) -> pl.DataFrame:
    """The flow columns of a block."""
    return flow_features(inputs.read(INVESTOR_TYPES, COLUMNS), inputs.read(UNIVERSE, ("date", "code", "mkt")))


TABLE = FeatureTable(
    name=FLOW,
    description="Who bought and sold in the newest week that is known, by section of the market. Needs the plan Light.",
    build=build,
    features=(*FEATURES, *VALIDITY),
    reads={INVESTOR_TYPES: LOOKBACK_MONTHS, UNIVERSE: 0},
    plan=Plan.LIGHT,
    needs="the purchases and sales by kind of investor",
)
