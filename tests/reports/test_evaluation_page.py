"""The page of an evaluation: every section, one file, nothing of this machine, titles that say what is seen."""

import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from atft_assets.reports.evaluation_page import RANKING_HEAD, rankings, render, subject_of
from atft_assets.reports.pictures import apart
from atft_assets.reports.scoreboard import Row, table
from atft_assets.scoring.block import Block
from atft_assets.scoring.profile import profile
from atft_assets.scoring.profiles import Profiles, meanings
from atft_assets.scoring.surroundings import surroundings_of
from tests.scoring.small_panel import members, persistent_scores, small_block

SECTIONS = [
    "rankings", "steadiness", "deciles", "decay", "where", "exposures", "beside", "left-out", "meanings",
]  # fmt: skip
Judged = tuple[dict[str, Any], Profiles]


def judged(block: Block, whole: bool = True) -> Judged:
    """Two phases and LightGBM on the small block; `whole` with the universe beside it."""
    around = surroundings_of(block, members(block) if whole else None)
    known = {"train_phase0": 0.2, "train_phase1": 0.5, "lightgbm": 0.3}
    scores = {name: persistent_scores(block, 0.9, skill, seed=i) for i, (name, skill) in enumerate(known.items())}
    rows = [
        Row(name, "baseline" if name == "lightgbm" else "phase", block.score_dense(s), "<label>")
        for name, s in scores.items()
    ]
    found = [
        profile(row.name, scores[row.name], row.score, around, None if row.name == "lightgbm" else scores["lightgbm"])
        for row in rows
    ]
    told = Profiles(tuple(map(str, around.dates)), around.horizons, tuple(found), around.left_out, meanings())
    return table(rows, block, "main"), told


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Judged:
    return judged(small_block(tmp_path_factory.mktemp("page") / "small"))


@pytest.fixture(scope="module")
def page(whole: Judged) -> str:
    return render(*whole)


def captions(page: str) -> list[str]:
    return re.findall(r"<figcaption>(.*?)</figcaption>", page)


def test_every_section_and_picture_is_there(page: str) -> None:
    assert re.findall(r'<h2 id="([a-z-]+)">', page) == SECTIONS
    assert page.count("data:image/png;base64,") == len(captions(page)) == 11
    assert len(page) < 2_000_000


def test_titles_say_what_is_seen(page: str, whole: Judged) -> None:
    best = whole[1].scores[1]
    said = captions(page)
    assert f"The RankIC of train_phase1 is {best.decay[0]:+.4f} on the first day" in said[6]
    assert f"halves in {best.half_life:.1f} days" in said[7]
    assert all(re.search(r"train_phase1|tenth|differences", one) for one in said)


def test_the_page_fetches_nothing_and_knows_no_path(page: str, whole: Judged, tmp_path_factory) -> None:
    without_pictures = re.sub(r"base64,[^\"]+", "", page)
    assert not re.search(r"https?://|(src|href)=\"(?!data:)|<script", without_pictures)
    assert str(tmp_path_factory.getbasetemp()) not in page and str(Path.home()) not in without_pictures
    assert "&lt;label&gt;" in page and "<label>" not in page

    class Balanced(HTMLParser):
        def __init__(self) -> None:
            super().__init__()
            self.open: list[str] = []

        def handle_starttag(self, tag: str, attrs: object) -> None:
            if tag not in ("meta", "img"):
                self.open.append(tag)

        def handle_endtag(self, tag: str) -> None:
            assert self.open.pop() == tag

    parser = Balanced()
    parser.feed(page)
    assert parser.open == []


def test_the_page_is_the_same_twice(page: str, whole: Judged) -> None:
    assert render(*whole) == page


def test_one_line_a_score(page: str, whole: Judged) -> None:
    board, told = whole
    lines = [record.data for record in rankings(board, told)]
    assert [line[""] for line in lines] == [f"{one.name} <label>" for one in told.scores]
    assert list(lines[0]) == list(RANKING_HEAD)
    for one, line in zip(told.scores, lines, strict=True):
        assert float(line["spread, bp"]) == pytest.approx(1e4 * one.spread, abs=0.05)
        assert line["turnover"] == f"{one.turnover:.1%}" and line["RankIC"] == f"{one.rank_ic:.4f}"
    assert subject_of(board, told) is told.scores[1]  # the last phase


def test_what_is_missing_is_said_and_not_drawn(tmp_path: Path) -> None:
    board, told = judged(small_block(tmp_path / "bare", features=("noise",)), whole=False)
    page = render(board, told)
    assert len(captions(page)) == 10  # no map of liquidity
    for name, why in told.left_out.items():
        assert f"<dt>{name}</dt><dd>{why}</dd>" in page
    assert "lightgbm: contribution" in page


def test_without_scores_there_is_the_verdict_alone(whole: Judged) -> None:
    board, told = whole
    page = render(board, Profiles(told.dates, told.horizons, ()))
    assert "train_phase1 reaches a RankIC of" in page and "<h2" not in page


@given(st.lists(st.floats(0, 1), max_size=12).map(sorted))
def test_names_of_lines_are_moved_apart_and_no_further(places: list[float]) -> None:
    moved = apart(places, 0.1)
    assert len(moved) == len(places)
    assert (np.diff(moved) >= 0.1 - 1e-9).all()
    assert sum(moved) == pytest.approx(sum(places))
    if (np.diff(places) >= 0.1).all():
        assert moved == places


@pytest.mark.parametrize("days", [1, 3, 30])
def test_a_short_block_and_scores_that_say_nothing_have_a_page(tmp_path: Path, days: int) -> None:
    """Figures that cannot be had are dashes, not errors; a block below sixty days has no rolling picture."""
    whole = small_block(tmp_path / "small")
    block = Block(whole.panel, range(100, 100 + days), "validation")
    around = surroundings_of(block, members(block))
    nothing, constant = np.full((4, *block.eligible.shape), np.nan), np.zeros((4, *block.eligible.shape))
    rows = [Row(str(i), "phase", block.score_dense(s)) for i, s in enumerate((nothing, constant))]
    for row, scores in zip(rows, (nothing, constant), strict=True):
        found = profile(row.name, scores, row.score, around)
        told = Profiles(tuple(map(str, around.dates)), around.horizons, (found,), around.left_out, meanings())
        page = render(table([row], block, "main"), told)
        assert "no 60-day mean" in page and "<td>–</td>" in page and "nan" not in re.sub(r"base64,[^\"]+", "", page)
