"""`reports/evening.html`: what the champion says of tomorrow, in the order in which a person asks on the evening.

May it be used; what is best and worst; what has changed since yesterday; what it leans on; who says so. Of an evening
that was withheld no rank is shown: what must not be used cannot be copied from here.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Protocol

import dagster as dg
import polars as pl

from atft_assets.reports.markup import document, number, paragraph, section, shown, subheading, table
from atft_assets.reports.pictures import ACCENT, BELOW, PALE, WIDTH, Picture, base64_png, figure, one_axes, plain
from atft_assets.reports.sector_names import SECTOR33

PAGE = "evening.html"
TOP, MOVERS = 20, 10
SECTORS_SHOWN = 12
RANKING_HEAD = ("rank", "change", "code", "name", "sector", "segment", "score", "liquid", "short")
MOVERS_HEAD = ("places", "was", "is", "code", "name", "sector")
GATES_HEAD = ("gate", "verdict", "figure", "what it saw")
TEXT = ("code", "name", "sector", "segment", "liquid", "short", "verdict", "what it saw")
WIDE = ("name", "sector", "what it saw")
JAPANESE = ("name",)
PASSED, WARNED, BLOCKED = "passed", "warning", "WITHHOLDS"


class Verdict(Protocol):
    """What a gate said: see `trading.gates.Gate`."""

    @property
    def name(self) -> str: ...
    @property
    def passed(self) -> bool: ...
    @property
    def blocking(self) -> bool: ...
    @property
    def figure(self) -> float: ...
    @property
    def sentence(self) -> str: ...


@dataclass(frozen=True)
class Evening:
    """An evening as it is shown.

    Attributes:
        day, trade_date: the decision day, and the open day after it on which orders would be filled.
        rows: one a name, best first: rank, change (places won since `before`, null where not known), code, name,
            sector33, segment, score, liquid, shortable, eligible.
        gates: in the order in which they are shown.
        withheld: whether a gate forbids to use it.
        before: the last published evening before; None without one.
        champion: who ranked, one sentence.
        provenance: name and value of what identifies the scores.
    """

    day: date
    trade_date: date
    rows: pl.DataFrame
    gates: Sequence[Verdict]
    withheld: bool
    before: date | None
    champion: str
    provenance: dict[str, str]


def headline(evening: Evening) -> str:
    """The evening in a line: also the title by which the index leads to it."""
    state = "WITHHELD, must not be used" if evening.withheld else f"{evening.rows.height} names ranked"
    return f"Evening of {evening.day}, for the open of {evening.trade_date}: {state}"


def render(evening: Evening) -> str:
    """The page."""
    return document(headline(evening), *_sections(evening))


def _sections(evening: Evening) -> Iterator[str]:
    if evening.withheld:
        yield paragraph(
            "These scores must not be used. A gate found the evening unsound, so its ranking is not shown, no order "
            "comes of it, and the targets of the last published evening stay.",
            "bad",
        )
    else:
        warned = [gate.name for gate in evening.gates if not gate.passed]
        said = f"Published, with a warning of {', '.join(warned)}." if warned else "Published: every gate was passed."
        yield paragraph(said, "warning" if warned else "good")
        yield paragraph(
            f"What is to be traded of it stands in trading/orders/{evening.trade_date}.csv of the data root once the "
            "assets portfolio and orders have run.",
            "left-out",
        )
    yield section(
        "gates",
        "May it be used",
        "Each gate looks at one thing before the evening is published. One that withholds keeps all of it back.",
        table(GATES_HEAD, _gates(evening.gates), text=TEXT, wide=WIDE)
        if evening.gates
        else paragraph("The gates of this evening are not at hand.", "left-out"),
    )
    if evening.withheld:
        yield section("todo", "What to do", "", *_todo(evening))
    else:
        yield from _usable(evening)
    yield section(
        "who",
        "Who says so",
        "",
        paragraph(evening.champion),
        table(("", "of these scores"), list(evening.provenance.items()), text=("of these scores",)),
    )


def _todo(evening: Evening) -> Iterator[str]:
    last = f"The last evening that may be used is that of {evening.before}. " if evening.before else ""
    yield paragraph(
        f"{last}Mend what the gate names (its sentence says what was seen), then score the evening again: "
        f"dagster asset materialize --select daily_scores --partition {evening.day:%Y-%m}. The withheld rows are kept "
        "in the table daily_scores for the search for the cause, marked so that nothing reads them."
    )


def _usable(evening: Evening) -> Iterator[str]:
    rows, since = evening.rows, evening.before
    if not rows.height:
        yield section("ranking", "Best and worst", "", paragraph("No name has a score.", "left-out"))
        return
    ends = [("Best", rows.head(TOP)), ("Worst", rows.tail(TOP))] if rows.height > 2 * TOP else [("All", rows)]
    known = f"change: places won since {since}" if since else "change is not known: there is no evening before"
    yield section(
        "ranking",
        "Best and worst",
        f"Score: standard deviations from the mean of the day; {known}. Liquid: turnover of the last 20 days in the "
        "upper half. Short: may be sold short under standard margin. A name that has left the universe is marked.",
        *(
            part
            for heading, frame in ends
            for part in (subheading(f"{heading}, {frame.height} of {rows.height}"), _ranking(frame))
        ),
        shown(scores_picture(rows)),
    )
    moved = rows.drop_nulls("change")
    won = moved.filter(pl.col("change") > 0).sort(["change", "code"], descending=[True, False]).head(MOVERS)
    lost = moved.filter(pl.col("change") < 0).sort(["change", "code"]).head(MOVERS)
    yield section(
        "movers",
        "What has changed",
        f"Places in the ranking of {rows.height} names since {since}. A name that jumps by half of it has news, or a "
        "broken price: look at it before an order."
        if since
        else "",
        *(
            part
            for heading, frame in (("Rose most", won), ("Fell most", lost))
            if frame.height
            for part in (subheading(heading), _movers(frame))
        ),
        *([paragraph(_comings(rows))] if since else []),
        "" if since else paragraph("Not known: there is no published evening before.", "left-out"),
    )
    yield section(
        "sectors",
        "What it leans on",
        "Share of each sector in the best tenth of the names, beside its share of all ranked names.",
        shown(sectors_picture(rows), "there are too few names for a tenth"),
    )


def sector_weights(rows: pl.DataFrame) -> pl.DataFrame:
    """sector33, top, all: share of each sector in the best tenth of the ranks, and of all names; most ahead first."""
    tenth = max(1, rows.height // 10)
    return (
        rows.group_by("sector33")
        .agg(
            ((pl.col("rank") <= tenth).sum() / tenth).alias("top"),
            (pl.len() / max(rows.height, 1)).alias("all"),
        )
        .sort(pl.col("all") - pl.col("top"), "sector33")
    )


def sectors_picture(rows: pl.DataFrame) -> Picture | None:
    """The sectors that the best tenth holds most more, or less, of than the universe; None below ten names."""
    if rows.height < 10:
        return None
    weights = sector_weights(rows).with_columns((100 * (pl.col("top") - pl.col("all"))).alias("tilt"))
    most = weights.sort(pl.col("tilt").abs(), descending=True).head(SECTORS_SHOWN).sort("tilt", "sector33")
    made, axes = one_axes(1.2 + 0.34 * most.height)
    places = range(most.height)
    axes.barh([p - 0.19 for p in places], 100 * most["all"].to_numpy(), height=0.36, color=PALE)
    colours = [ACCENT if tilt >= 0 else BELOW for tilt in most["tilt"]]
    axes.barh([p + 0.19 for p in places], 100 * most["top"].to_numpy(), height=0.36, color=colours)
    for place, row in zip(places, most.iter_rows(named=True), strict=True):
        end = 100 * max(row["top"], row["all"])
        axes.annotate(f" {row['tilt']:+.1f}", (end, place), va="center", color=colours[place])
    axes.set_yticks(places, [_sector(code) for code in most["sector33"]])
    axes.set(xlabel="share of the best tenth (coloured, with its lead in points) and of all names (grey), %")
    furthest = most.sort(pl.col("tilt").abs(), descending=True).row(0, named=True)
    tilted = f"{abs(furthest['tilt']):.1f} points {'more' if furthest['tilt'] >= 0 else 'less'}"
    title = f"The best tenth holds {tilted} of {_sector(furthest['sector33'])} than the universe"
    return Picture(title, base64_png(made))


def scores_picture(rows: pl.DataFrame) -> Picture:
    """How the scores are spread, and where the best and worst tenth begin."""
    made = figure(WIDTH, 2.6)
    axes = made.subplots()
    plain(axes)
    scores = rows["score"].to_numpy()
    axes.hist(scores, bins=60, color=PALE)
    tenth = max(1, rows.height // 10)
    ends = ((rows["score"][tenth - 1], ACCENT, "best tenth", "left"), (rows["score"][-tenth], BELOW, "worst", "right"))
    for cut, colour, said, side in ends:
        axes.axvline(cut, color=colour)
        place = {"xy": (cut, 0.97), "xycoords": ("data", "axes fraction"), "va": "top", "ha": side}
        axes.annotate(f" {said} ", color=colour, **place)
    axes.set(xlabel="score", ylabel="names")
    title = f"Scores reach from {scores.min():+.2f} to {scores.max():+.2f}; the best is {rows['code'][0]}"
    return Picture(title, base64_png(made))


def records(frame: pl.DataFrame) -> list[dg.TableRecord]:
    """Rows of the ranking for Dagster's UI."""
    return [dg.TableRecord(dict(zip(RANKING_HEAD, _line(row), strict=True))) for row in frame.iter_rows(named=True)]


def gate_records(gates: Sequence[Verdict]) -> list[dg.TableRecord]:
    """The gates for Dagster's UI."""
    return [dg.TableRecord(dict(zip(GATES_HEAD, line, strict=True))) for line in _gates(gates)]


def metadata(evening: Evening) -> dict[str, dg.MetadataValue]:
    """What the UI shows of an evening: the gates, and of one that may be used the ranking and its pictures."""
    told: dict[str, dg.MetadataValue] = {
        "said": dg.MetadataValue.text(headline(evening)),
        "gates": dg.MetadataValue.table(gate_records(evening.gates)),
    }
    if evening.withheld or not evening.rows.height:
        return told
    told["best"] = dg.MetadataValue.table(records(evening.rows.head(TOP)))
    told["worst"] = dg.MetadataValue.table(records(evening.rows.tail(TOP)))
    for name, picture in (("scores", scores_picture(evening.rows)), ("sectors", sectors_picture(evening.rows))):
        if picture:
            told[name] = dg.MetadataValue.md(f"![{picture.title}](data:image/png;base64,{picture.png})")
    return told


def _ranking(frame: pl.DataFrame) -> str:
    lines = [_line(row) for row in frame.iter_rows(named=True)]
    return table(RANKING_HEAD, lines, text=TEXT, wide=WIDE, japanese=JAPANESE)


def _line(row: dict[str, object]) -> tuple[str, ...]:
    change = row["change"]
    return (
        str(row["rank"]),
        "–" if change is None else f"{change:+d}",
        str(row["code"]),
        f"{row['name']}{'' if row['eligible'] else ' (has left the universe)'}",
        _sector(str(row["sector33"])),
        str(row["segment"]),
        f"{row['score']:+.2f}",
        "yes" if row["liquid"] else "no",
        "yes" if row["shortable"] else "no",
    )


def _movers(frame: pl.DataFrame) -> str:
    lines = [
        (
            f"{row['change']:+d}",
            str(row["rank"] + row["change"]),
            str(row["rank"]),
            row["code"],
            row["name"],
            _sector(row["sector33"]),
        )
        for row in frame.iter_rows(named=True)
    ]
    return table(MOVERS_HEAD, lines, text=TEXT, wide=WIDE, japanese=JAPANESE)


def _comings(rows: pl.DataFrame) -> str:
    """How much of the best names is new."""
    best = rows.head(TOP)
    was = best["rank"].cast(pl.Int64) + best["change"]
    stayed, new = int((was <= TOP).sum()), int(best["change"].null_count())
    return f"Of the best {best.height} names {stayed} were among the best {TOP} before; {new} had no score then."


def _gates(gates: Sequence[Verdict]) -> list[tuple[str, ...]]:
    """Those that failed first."""
    ordered = sorted(gates, key=lambda gate: (gate.passed, not gate.blocking))
    return [
        (
            gate.name.replace("_", " "),
            PASSED if gate.passed else BLOCKED if gate.blocking else WARNED,
            number(gate.figure, ".4g"),
            gate.sentence,
        )
        for gate in ordered
    ]


def _sector(code: str) -> str:
    return SECTOR33.get(code, code)
