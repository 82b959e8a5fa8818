"""The pages under `reports/`: every one is written here, and with it `index.html`, which leads to all of them.

The index is made of what lies in the folder, so a page that a person copies in or removes is right in it from the next
page on. It says of what each page is, when it was written, what is not there, and which command makes it.
"""

import html
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from fnmatch import fnmatch
from pathlib import Path
from urllib.parse import quote

from atft_assets.calendar import TOKYO
from atft_assets.reports.markup import document, paragraph, section, table
from atft_assets.store import Store
from atft_model.interchange.records import write_text

FOLDER, INDEX = "reports", "index.html"
TITLE = re.compile(r"<title>(.*?)</title>", re.DOTALL)
HEAD_BYTES = 8192  # of a page, in which its title stands
ROUNDS = 10  # of writing the index while others write pages


@dataclass(frozen=True)
class Kind:
    """A page that the platform makes.

    Attributes:
        name: its file under `reports/`; with a star, of each of several.
        called: how it is named where there is none.
        says: what a person learns from it, one sentence.
        command: which makes it.
    """

    name: str
    called: str
    says: str
    command: str


# in the order in which a person asks
KINDS: tuple[Kind, ...] = (
    Kind(
        "evening.html",
        "evening.html",
        "What the champion says of tomorrow: the ranking, what changed since yesterday, and whether it may be used.",
        "dagster asset materialize --select daily_scores --partition YYYY-MM",
    ),
    Kind(
        "backtest*.html",
        "backtest.html",
        "What a portfolio of the scores would have earned after costs, beside the market, and how much of it is luck.",
        "dagster asset materialize --select backtest",
    ),
    Kind(
        "evaluation.html",
        "evaluation.html",
        "What each model is worth on the validation block, where it works, and for how long.",
        "make road",
    ),
    Kind(
        "evaluation-walk_forward.html",
        "evaluation-walk_forward.html",
        "The same over all folds, end to end: days that no model has learned from.",
        "dagster asset materialize --select walk_forward",
    ),
    Kind(
        "evaluation-*.html",
        "evaluation-FOLD.html",
        "The same of one fold.",
        "dagster asset materialize --select fold_evaluation --partition FOLD",
    ),
    Kind(
        "runs.html",
        "runs.html",
        "Every training beside the others: settings, figures, and two of them over each other.",
        "dagster asset materialize --select runs_report",
    ),
    Kind(
        "feature_report.html",
        "feature_report.html",
        "What each column says about later returns.",
        "dagster asset materialize --select feature_report",
    ),
    Kind(
        "ablation*.html",
        "ablation.html",
        "What each family of features is worth: to a model, and column by column.",
        "dagster asset materialize --select ablation",
    ),
    Kind(
        "hpo-*.html",
        "hpo-STUDY.html",
        "What a search for better knobs tried, which knobs decide, and what to train with.",
        "dagster asset materialize --select hpo",
    ),
)
OTHER = Kind("*", "", "A page that the platform does not know.", "")


@dataclass(frozen=True)
class Page:
    """A page that is there.

    Attributes:
        title: as the page gives it.
        written: nanoseconds since 1970, of the file.
    """

    name: str
    title: str
    written: int

    @property
    def when(self) -> str:
        """When it was written, in Tokyo."""
        return datetime.fromtimestamp(self.written / 1e9, TOKYO).strftime("%Y-%m-%d %H:%M")


def page_path(store: Store, name: str) -> Path:
    """Where a page lies, there or not."""
    return store.local(FOLDER, name)


def write_page(store: Store, name: str, text: str) -> Path:
    """Write a page in one step, and the index anew.

    Raises:
        DiskFull, Unwritable: there is no room for it, or nobody may write there.
    """
    path = page_path(store, name)
    write_text(path, text)
    write_index(path.parent)
    store.push("reports")
    return path


def write_index(folder: Path) -> Path:
    """Write `index.html` of a folder, again while pages come or go meanwhile: whoever writes last has seen them all."""
    path, listed = folder / INDEX, None
    for _ in range(ROUNDS):
        found = pages(folder)
        if found == listed:
            break
        write_text(path, render(found))
        listed = found
    return path


def pages(folder: Path) -> list[Page]:
    """Every page of a folder, by name; one that goes away meanwhile is left out."""
    return [page for path in sorted(folder.glob("[!.]*.html")) if path.name != INDEX for page in _read(path)]


def render(found: Sequence[Page]) -> str:
    """The index: what is there in the order of `KINDS`, then what is not."""
    by_kind = {kind: [page for page in found if kind_of(page.name) is kind] for kind in (*KINDS, OTHER)}
    lines = [line for kind, members in by_kind.items() for line in _lines(kind, members)]
    there = f"<dl>{chr(10).join(lines)}</dl>" if lines else paragraph("There is no page yet.", "left-out")
    missing = [(kind.called, kind.says, kind.command) for kind in KINDS if not by_kind[kind]]
    lacking = section(
        "missing",
        "Not there yet",
        "",
        table(("page", "what it would say", "the command that makes it"), missing, text=LEFT, wide=LEFT)
        if missing
        else paragraph("Nothing: every page that the platform makes is here.", "left-out"),
    )
    return document("Reports", there, lacking)


LEFT = ("what it would say", "the command that makes it")


def kind_of(name: str) -> Kind:
    """What kind of page a file is; the first that fits."""
    return next((kind for kind in KINDS if fnmatch(name, kind.name)), OTHER)


def _lines(kind: Kind, members: Sequence[Page]) -> Iterator[str]:
    for page in members:
        written = f'<span class="left-out">{html.escape(f"{page.name}, written {page.when}")}</span>'
        yield (
            f'<dt><a href="{quote(page.name)}">{html.escape(page.title)}</a></dt>'
            f"<dd>{html.escape(kind.says)}<br>{written}</dd>"
        )


def _read(path: Path) -> Iterator[Page]:
    try:
        with path.open("rb") as file:
            head = file.read(HEAD_BYTES).decode(errors="replace")
            written = os.fstat(file.fileno()).st_mtime_ns
    except FileNotFoundError:
        return
    title = TITLE.search(head)
    yield Page(path.name, html.unescape(title[1]).strip() if title else path.name, written)
