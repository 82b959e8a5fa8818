"""`feature_report`: every model input's rank correlation with the labels, as a table, a picture and an HTML page."""

import html
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import dagster as dg
import pandera.polars as pa
import polars as pl
from pydantic import Field

from atft_assets import calendar
from atft_assets.code_version import code_version
from atft_assets.contracts import Built, Contract, Event, contract_check, write_audit_publish
from atft_assets.features.catalogue import feature_set
from atft_assets.features.feature import Feature
from atft_assets.features.labels import CLOSE_LABELS
from atft_assets.features.names import ALL, GROUP, LABELS
from atft_assets.features.registry import TABLES
from atft_assets.features.table import FeatureTable
from atft_assets.groups import FEATURES
from atft_assets.reports.markup import document, paragraph
from atft_assets.reports.pages import write_page
from atft_assets.reports.pictures import base64_png, figure
from atft_assets.reports.shown import rounded
from atft_assets.reports.univariate import LEAST_NAMES, daily_rank_ic, summary
from atft_assets.scoring.limits import LEAK_ALARM
from atft_assets.store import Store
from atft_model.interchange.horizons import HORIZONS
from atft_model.interchange.statistics import LEVEL

NAME = "feature_report"
PAGE = f"{NAME}.html"
LEAK_CHECK = "leak_alarm"
COLOURS = 10  # families whose decay has a colour of its own
COMPUTING = ("atft_assets.reports", "atft_model.interchange.statistics", "atft_model.interchange.student")

CONTRACT = Contract(
    table=NAME,
    schema=pa.DataFrameSchema(
        {
            "feature": pa.Column(pl.String, nullable=False, description="Column of the catalogue"),
            "family": pa.Column(pl.String, nullable=False, description="Its family"),
            "horizon": pa.Column(pl.Int64, pa.Check.isin(HORIZONS), description="Trading days of y_cc"),
            "rank_ic": pa.Column(pl.Float64, pa.Check.in_range(-1, 1), nullable=True, description="Mean of the days"),
            "t_newey_west": pa.Column(pl.Float64, nullable=True, description="Of the mean, serially correlated days"),
            "p": pa.Column(
                pl.Float64,
                pa.Check.in_range(0, 1),
                nullable=True,
                description="Of the mean, two-sided, of this column alone",
            ),
            "p_holm": pa.Column(
                pl.Float64,
                pa.Check.in_range(0, 1),
                nullable=True,
                description="After Holm, of all columns at this horizon",
            ),
            "icir": pa.Column(pl.Float64, nullable=True, description="Mean over standard deviation of the days"),
            "days": pa.Column(pl.Int64, description=f"Days with {LEAST_NAMES} names or more"),
            "kept": pa.Column(pl.Float64, nullable=True, description="|IC| over the |IC| of one day: the decay"),
        },
        strict=True,
        unique=["feature", "horizon"],
    ),
    constant_ok=frozenset({"days", "family", "horizon", "p_holm"}),
    nullable_ok=frozenset({"rank_ic", "t_newey_west", "p", "p_holm", "icir", "kept"}),
)


class ReportConfig(dg.Config):
    """Options of one run."""

    left_out: float = Field(
        default=0.15, ge=0, lt=1, description="Newest share of the days that is not looked at: models are tested there"
    )


def feature_report_asset(tables: Iterable[FeatureTable] = TABLES) -> dg.AssetsDefinition:
    """The asset; unpartitioned, it reads every published month."""
    features = ranking_features(tables)
    version = code_version(univariate, summary, rooms=COMPUTING)

    @dg.asset(
        name=NAME,
        group_name=FEATURES,
        deps=[ALL, LABELS],
        check_specs=[
            contract_check(NAME),
            dg.AssetCheckSpec(
                LEAK_CHECK,
                asset=NAME,
                description=f"No |RankIC| with y_cc_1d exceeds {LEAK_ALARM}; beyond it, a leak is likelier than skill.",
            ),
        ],
        code_version=version,
        kinds={"polars", "matplotlib"},
        tags={"layer": "features"},
        description="What single columns say about later returns. Rank correlation of every model input with the "
        "labels by horizon, whether it is more than chance, and decay; also as an HTML page.",
    )
    def feature_report(context: dg.AssetExecutionContext, store: Store, config: ReportConfig) -> Iterator[Event]:
        table = store.table(GROUP, NAME)
        yield from write_audit_publish(
            context,
            table,
            CONTRACT,
            lambda keys: [_built(key, univariate(store, features, config.left_out), features, store) for key in keys],
            code_version=version,
        )
        yield leak_alarm(table.read())

    return feature_report


def _built(key: str, result: pl.DataFrame, features: Sequence[Feature], store: Store) -> Built:
    """The table, its HTML page, and what the UI shows of both."""
    picture = plot(result)
    page = write_page(store, PAGE, render(result, features, picture))
    top = result.filter(pl.col("horizon") == 1).head(15)
    strongest = [
        dg.TableRecord({"column": r["feature"], "RankIC": _number(r["rank_ic"]), "t": _t(r)})
        for r in top.iter_rows(named=True)
    ]
    shown = {
        "page": dg.MetadataValue.path(str(page)),
        "strongest_with_y_cc_1d": dg.MetadataValue.table(strongest),
        "picture": dg.MetadataValue.md(f"![RankIC](data:image/png;base64,{picture})"),
    }
    return Built(key, result, metadata=shown)


def univariate(store: Store, features: Sequence[Feature], left_out: float) -> pl.DataFrame:
    """The summary over all published months but the newest share of the days.

    Raises:
        MissingTable: all_features or labels have not been published.
    """
    table = store.table(GROUP, ALL)
    keys = table.keys()
    if not keys:
        table.version(["all"])  # raises, and says what to run
    label_frame = store.table(GROUP, LABELS).read(["all"], ("date", "code", *CLOSE_LABELS))
    days = label_frame["date"].unique().sort()
    last = days[int(len(days) * (1 - left_out)) - 1]
    daily = []
    for key in (k for k in keys if k <= calendar.month_key(last)):
        frame = table.read([key], ("date", "code", *(f.name for f in features))).filter(pl.col("date") <= last)
        joined = frame.join(label_frame, on=["date", "code"])
        daily.append(daily_rank_ic(joined, [f.name for f in features], CLOSE_LABELS))
    return summary(pl.concat(daily), features, HORIZONS)


def ranking_features(tables: Iterable[FeatureTable] = TABLES) -> list[Feature]:
    """Model inputs that differ between the names of a day; what is equal for all of them ranks nothing."""
    return [f for f in feature_set("full", tables) if f.kind != "market" and f.family not in ("market", "calendar")]


def leak_alarm(result: pl.DataFrame) -> dg.AssetCheckResult:
    """Whether any column knows too much about tomorrow."""
    at_once = result.filter(pl.col("horizon") == HORIZONS[0])
    loud = at_once.filter(pl.col("rank_ic").abs() > LEAK_ALARM)
    strongest = at_once.filter(pl.col("rank_ic").is_not_null()).head(1)
    return dg.AssetCheckResult(
        passed=loud.is_empty(),
        asset_key=NAME,
        check_name=LEAK_CHECK,
        severity=dg.AssetCheckSeverity.ERROR,
        description=(
            f"{', '.join(loud['feature'])} rank tomorrow's returns better than {LEAK_ALARM}: look for a later record "
            "in their formula before anything else"
            if loud.height
            else f"the strongest of {at_once.height} columns is {', '.join(strongest['feature'])}"
        ),
        metadata={"largest_abs_rank_ic": rounded(float(strongest["rank_ic"].abs().max() or 0.0))},  # type: ignore[arg-type]
    )


def plot(result: pl.DataFrame, count: int = 40) -> str:
    """The strongest columns by horizon, as a base64 PNG."""
    names = result.filter(pl.col("horizon") == HORIZONS[0])["feature"].head(count).to_list()
    made = figure(11.5, 0.24 * len(names) + 1.2, dpi=90)
    bars, decay = made.subplots(1, 2, width_ratios=[2, 1])
    for i, h in enumerate(HORIZONS):
        values = dict(result.filter(pl.col("horizon") == h).select("feature", "rank_ic").iter_rows())
        places = [j + (i - 1.5) * 0.2 for j in range(len(names))]
        bars.barh(places, [values[n] or 0.0 for n in names], height=0.2, label=f"{h} d")
    bars.set_yticks(range(len(names)), names, fontsize=7)
    bars.invert_yaxis()
    bars.axvline(0, color="black", linewidth=0.5)
    bars.set_xlabel("mean daily RankIC with y_cc")
    bars.legend(fontsize=7)
    families = result.group_by("family", "horizon").agg(pl.col("rank_ic").abs().mean()).sort("family", "horizon")
    largest = families.group_by("family").agg(pl.col("rank_ic").max())
    largest = largest.sort("rank_ic", "family", descending=[True, False], nulls_last=True)
    told = largest["family"].head(COLOURS).to_list()
    for part in families.partition_by("family", maintain_order=True):
        name = part["family"][0]
        line = {"label": name} if name in told else {"color": "lightgrey", "zorder": 1}
        decay.plot(part["horizon"].to_list(), part["rank_ic"].to_list(), marker="o", ms=3, **line)
    decay.set_xticks(HORIZONS)
    decay.set_xlabel("horizon, days")
    decay.set_ylabel("mean |RankIC| of a family")
    decay.legend(fontsize=7, framealpha=0.6)
    if largest.height > len(told):
        decay.set_title(f"the {len(told)} largest of {largest.height} families; grey: the others", fontsize=8)
    return base64_png(made)


def render(result: pl.DataFrame, features: Sequence[Feature], picture: str) -> str:
    """The report as one HTML file."""
    formulas = {f.name: f for f in features}
    rows = []
    for part in result.partition_by("feature", maintain_order=True):
        name: str = part["feature"][0]
        cells = [f"<td title='{html.escape(formulas[name].formula, quote=True)}'>{html.escape(name)}</td>"]
        cells.append(f'<td class="text">{html.escape(part["family"][0])}</td>')
        cells.append(f"<td>{part.sort('horizon')['days'][0]}</td>")
        for r in part.sort("horizon").iter_rows(named=True):
            cells.append(f"<td>{_number(r['rank_ic'])}</td><td>{_t(r)}</td>")
        cells.append(f"<td>{_number(part.sort('horizon')['kept'][-1], 2)}</td>")
        rows.append(f"<tr>{''.join(cells)}</tr>")
    heads = "".join(f"<th>IC {h}d</th><th>t</th>" for h in HORIZONS)
    days = int(result["days"].max())  # type: ignore[arg-type]
    said = (
        f"Mean daily rank correlation with close-to-close returns over up to {days} days, t after Newey and West, and "
        f"how much of the one-day correlation is left at {HORIZONS[-1]} days. A star: beyond chance, though "
        f"{result['feature'].n_unique()} columns were looked at (p below {LEVEL:.0%} after Holm). Days are those on "
        f"which {LEAST_NAMES} names or more have the column: a large correlation of few days and few names is often "
        "chance. The newest days, on which models are tested, are not looked at."
    )
    return document(
        "What single columns say about later returns",
        paragraph(said),
        f'<img alt="RankIC by column and horizon" src="data:image/png;base64,{picture}">',
        f'<div><table><tr><th>column</th><th class="text">family</th><th>days</th>{heads}<th>kept</th></tr>',
        *rows,
        "</table></div>",
    )


def _number(value: float | None, digits: int = 4) -> str:
    return "" if value is None else f"{value:.{digits}f}"


def _t(row: Mapping[str, Any]) -> str:
    """The t of a row, with a star where the correlation is beyond chance among all columns."""
    p = row["p_holm"]
    return _number(row["t_newey_west"], 1) + ("*" if p is not None and p < LEVEL else "")
