"""The README's pictures: the graph of assets from the definitions, the RankIC of a demo from its record.

Letters are drawn as outlines, so a picture looks the same whatever fonts the reader has; matplotlib leaves each text
beside its outline as a comment, and every arrow has a name, so a test can read what a picture says.
"""

import io
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from typing import Any

import dagster as dg
import matplotlib
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch
from matplotlib.path import Path

from atft_assets import groups
from atft_assets.build import PARTITIONS_TAG, build_defs
from atft_assets.settings import Plan, Settings

SETTINGS = Settings(base_url=None, plan=Plan.STANDARD, data_root="data", start=date(2022, 1, 4), end=date(2024, 12, 30))
STYLE = {
    "font.family": "DejaVu Sans",  # comes with matplotlib
    "svg.fonttype": "path",
    "svg.hashsalt": "atft",  # ids that do not change from one rendering to the next
}
PIXEL = 72 / 96  # in points, as a browser counts
WIDTH = 800
INK, GREY, LINE = "#1f2328", "#656d76", "#8c959f"
FILLS = ("#ddf4ff", "#dafbe1", "#fff8c5", "#fbefff", "#ffe8d9", "#eaeef2")
EDGES = ("#54aeff", "#4ac26b", "#d4a72c", "#c297ff", "#e16f24", "#8c959f")

# pixels of the asset graph
ROW, BOX, MARGIN, GUTTER, GAP, PAD, LINE_HEIGHT, HEAD = 46, 27, 14, 34, 46, 10, 15, 34
LOWER = 6  # what leaves a group leaves its box below what comes in from the same side
CURVE = (Path.MOVETO, Path.CURVE4, Path.CURVE4, Path.CURVE4)
FONT, LETTER = 10.8, 6.4  # of the names


def svg(figure: Figure) -> str:
    """A figure as text, without a date."""
    out = io.StringIO()
    with matplotlib.rc_context(STYLE):
        FigureCanvasSVG(figure).print_svg(out, metadata={"Date": None})
    return "\n".join(line.rstrip() for line in out.getvalue().splitlines()) + "\n"


def labels(picture: str) -> list[str]:
    """Every text of a picture, in order."""
    return re.findall(r"<!-- (.*?) -->", picture, re.DOTALL)


def arrows(picture: str) -> set[str]:
    """Names of the arrows, `from--to`."""
    return set(re.findall(r'id="(\w+--\w+)"', picture))


def canvas(width: float, height: float) -> tuple[Figure, Axes]:
    """A white sheet measured in pixels, the origin at the upper left."""
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(width / 96, height / 96), facecolor="white")
        axes = figure.add_axes((0, 0, 1, 1))
    axes.set(xlim=(0, width), ylim=(height, 0))
    axes.axis("off")
    return figure, axes


@dataclass
class Node:
    """A box: one asset, or those of a group that are divided by folds and stand together.

    Attributes:
        depth: its row; half rows stand in the side column.
    """

    names: tuple[str, ...]
    group: str
    parents: set[str] = field(default_factory=set)
    depth: float = 0
    x: float = 0
    y: float = 0
    width: float = 0

    @property
    def name(self) -> str:
        return self.names[0]

    @property
    def height(self) -> float:
        return BOX + (len(self.names) - 1) * LINE_HEIGHT


def nodes_of(definitions: dg.Definitions) -> dict[str, Node]:
    """Boxes of the road, each with the boxes that it rests on directly: what another arrow says is left out."""
    specs = [s for s in definitions.resolve_all_asset_specs() if (s.group_name or "") != groups.OPERATIONS]
    together: dict[str, list[str]] = {}
    home: dict[str, str] = {}
    for spec in sorted(specs, key=lambda s: s.key.to_user_string()):
        name = spec.key.to_user_string()
        key = f"{spec.group_name} by fold" if spec.tags[PARTITIONS_TAG] == "other" else name
        together.setdefault(key, []).append(name)
        home[name] = together[key][0]
    nodes: dict[str, Node] = {}
    for spec in specs:
        name = home[spec.key.to_user_string()]
        members = next(tuple(names) for names in together.values() if names[0] == name)
        node = nodes.setdefault(name, Node(members, spec.group_name or ""))
        reads = {dep.asset_key.to_user_string() for dep in spec.deps}
        node.parents |= {home[read] for read in reads if read in home} - {name}  # what is upkeep has no box
    above = {name: _ancestors(nodes, name) for name in nodes}
    for node in nodes.values():
        node.parents -= {p for p in node.parents if any(p in above[other] for other in node.parents)}
    return dict(sorted(nodes.items()))


def _ancestors(nodes: Mapping[str, Node], name: str) -> set[str]:
    return {a for parent in nodes[name].parents for a in {parent} | _ancestors(nodes, parent)}


def _chain(nodes: Mapping[str, Node]) -> list[Node]:
    """The longest way through a group."""
    best: dict[str, list[Node]] = {}

    def way(name: str) -> list[Node]:
        if name not in best:
            ways = [way(p) for p in sorted(nodes[name].parents) if p in nodes]
            best[name] = [*max(ways, key=len, default=[]), nodes[name]]
        return best[name]

    return max((way(name) for name in nodes), key=len)


def _column(nodes: Mapping[str, Node]) -> tuple[list[Node], list[Node]]:
    """Rows of a group: its longest way below each other, the rest half a row lower in a column to the left."""
    chain = _chain(nodes)
    for place, node in enumerate(chain):
        node.depth = place
    depths: dict[str, float] = {node.name: node.depth for node in chain}

    def depth(name: str) -> float:
        if name not in depths:
            depths[name] = max((int(depth(p)) + 1 for p in nodes[name].parents if p in nodes), default=0)
        return depths[name]

    side = sorted((n for n in nodes.values() if n not in chain), key=lambda n: (depth(n.name), len(n.names), n.name))
    free = 0.0
    for node in side:
        top = max(depth(node.name) + 0.5, free)
        extra = (node.height - BOX) / ROW
        node.depth = top + extra / 2
        free = top + extra + 1
    return chain, side


def asset_graph(definitions: dg.Definitions | None = None) -> str:
    """The graph of assets: a column a group; a group of one box stands below the group before it."""
    nodes = nodes_of(definitions or build_defs(SETTINGS))
    bands: list[tuple[str, float, float, float, float]] = []  # group, left, top, right, bottom
    x, top = float(MARGIN), float(MARGIN)
    for group in sorted({node.group for node in nodes.values()}):
        chain, side = _column({n.name: n for n in nodes.values() if n.group == group})
        if len(chain) + len(side) == 1 and bands:
            _, left, _, right, bottom = bands[-1]
            start = bottom + MARGIN
            chain[0].x, chain[0].width = right - PAD - _width(chain), _width(chain)
        else:
            left, start = x, top
            right = left + PAD
            for part in (side, chain):
                for node in part:
                    node.x, node.width = right, _width(part)
                right += _width(part) + (GUTTER if part is side else 0) if part else 0
            right += PAD
            x = right + GAP - 2 * PAD
        for node in (*chain, *side):
            node.y = start + HEAD + BOX / 2 + node.depth * ROW
        bands.append((group, left, start, right, max(n.y + n.height / 2 for n in (*chain, *side)) + PAD))
    figure, axes = canvas(x - GAP + 2 * PAD + MARGIN, max(bottom for *_, bottom in bands) + MARGIN)
    colours = {}
    for i, (group, left, start, right, bottom) in enumerate(bands):
        colours[group] = EDGES[i % len(EDGES)]
        paint = {"facecolor": FILLS[i % len(FILLS)], "edgecolor": "none", "alpha": 0.5}
        axes.add_patch(_box(left, start, right - left, bottom - start, 8, paint))
        axes.text(left + PAD, start + 16, group, size=12 * PIXEL, weight="bold", color=INK, va="center")
    for node in nodes.values():
        for parent in sorted(node.parents):
            axes.add_patch(_arrow(nodes[parent], node, nodes.values()))
    for node in nodes.values():
        paint = {"facecolor": "white", "edgecolor": colours[node.group], "linewidth": 1.2 * PIXEL}
        axes.add_patch(_box(node.x, node.y - node.height / 2, node.width, node.height, 5, paint))
        for line, name in enumerate(node.names):
            y = node.y + (line - (len(node.names) - 1) / 2) * LINE_HEIGHT
            axes.text(node.x + node.width / 2, y, name, size=FONT * PIXEL, color=INK, ha="center", va="center")
    return svg(figure)


def _width(part: Sequence[Node]) -> float:
    return max((len(name) for node in part for name in node.names), default=0) * LETTER + 12


def _box(x: float, y: float, width: float, height: float, corner: float, paint: Mapping[str, Any]) -> FancyBboxPatch:
    return FancyBboxPatch((x, y), width, height, boxstyle=f"round,pad=0,rounding_size={corner}", **paint)


def _arrow(start: Node, end: Node, nodes: Collection[Node]) -> FancyArrowPatch:
    """Where an arrow runs so that no box hides it.

    Down to the box below, or around what stands between; through the gutter between the two columns of a group; between
    groups along the row of the start, up to the gap before the group of the end.
    """
    below = abs(start.x + start.width - end.x - end.width) < 1
    between = [n for n in nodes if n.x == start.x and start.y < n.y < end.y]
    if below and not between:
        middle = start.x + start.width / 2
        path = Path([(middle, start.y + start.height / 2), (middle, end.y - end.height / 2)])
    elif below:
        right = any(n.x < start.x for n in nodes if n.group == start.group)  # on the outer side of its column
        x0, x1 = ((n.x + n.width if right else n.x) for n in (start, end))
        bend = max(x0, x1) + 26 if right else min(x0, x1) - 10
        path = Path([(x0, start.y), (bend, start.y), (bend, end.y), (x1, end.y)], CURVE)
    elif start.group == end.group:
        backwards = end.x < start.x
        x0, x1 = (start.x, end.x + end.width) if backwards else (start.x + start.width, end.x)
        middle = (x0 + x1) / 2
        path = Path([(x0, start.y), (middle, start.y), (middle, end.y), (x1, end.y)], CURVE)
    else:
        door = min(n.x for n in nodes if n.group == end.group) - PAD
        x0, x1 = door - GAP + 3 * PAD, door
        x0, middle = max(x0, start.x + start.width), (x0 + x1) / 2
        y = start.y + LOWER
        points = [(start.x + start.width, y), (x0, y), (middle, y), (middle, end.y), (x1, end.y)]
        path = Path([*points, (end.x, end.y)], [Path.MOVETO, Path.LINETO, *CURVE[1:], Path.LINETO])
    style = "-|>,head_length=3.4,head_width=1.8"
    arrow = FancyArrowPatch(path=path, arrowstyle=style, color=LINE, linewidth=1.2 * PIXEL, shrinkA=0, shrinkB=0)
    arrow.set_gid(f"{start.name}--{end.name}")
    return arrow


def rank_ic_bars(board: Mapping[str, Any]) -> str:
    """RankIC of each row of a stored comparison, with its 95 % interval (EWC); of an older one without intervals."""
    rows: Sequence[Mapping[str, Any]] = board["rows"]
    colours = {"phase": "#54aeff", "baseline": "#8c959f", "blend": "#4ac26b", "oracle": "#d4a72c"}
    height = 74 + 30 * len(rows)
    figure, sheet = canvas(WIDTH, height)
    title = f"RankIC in the demo: {board['block']} block, {board['first']} to {board['last']}, {board['days']} days"
    sheet.text(16, 20, title, size=13 * PIXEL, weight="bold", color=INK, va="center")
    intervals = [_interval(row) for row in rows]
    words = "Bars: mean over days." + (" Lines: 95 % interval (EWC)." if any(intervals) else "")
    sheet.text(16, 40, words, size=11 * PIXEL, color=GREY, va="center")
    ends = [interval or (row["rank_ic"], row["rank_ic"]) for row, interval in zip(rows, intervals, strict=True)]
    low = min(0.0, *(end for end, _ in ends))
    high = max(0.0, *(end for _, end in ends))
    left, right = 232, WIDTH - 80

    def place(value: float) -> float:
        return left + (value - low) / (high - low) * (right - left)

    for i, (row, interval, (_, upper)) in enumerate(zip(rows, intervals, ends, strict=True)):
        y, value = 72 + 30 * i, row["rank_ic"]
        start, stop = sorted((place(0), place(value)))
        paint = {"facecolor": colours[row["kind"]], "edgecolor": "none"}
        sheet.add_patch(_box(start, y - 8, stop - start, 16, 0, paint))
        if interval:
            sheet.plot([place(end) for end in interval], [y, y], color=INK, linewidth=1.4 * PIXEL)
        name = f"{row['name']} {row['label']}".strip()
        sheet.text(16, y, name, size=12 * PIXEL, color=INK, va="center")
        sheet.text(place(max(upper, value, 0)) + 8, y, f"{value:.4f}", size=12 * PIXEL, color=INK, va="center")
    sheet.plot([place(0), place(0)], [58, height - 16], color=INK, linewidth=PIXEL)
    return svg(figure)


def _interval(row: Mapping[str, Any]) -> tuple[float, float] | None:
    """The 95 % interval of a row's RankIC; None on days too few for one, and in records of an older rule."""
    low, high = row.get("low"), row.get("high")
    return None if low is None or high is None else (low, high)
