"""The closing table: what is starred, what is said, and records of before today's rule."""

from copy import deepcopy
from typing import Any

import pytest

from atft_assets.reports.closing_table import HEAD, difference_cell, render, sentence
from tests import readme
from tests.pictures import labels, rank_ic_bars


def pair(mean: float | None, p: float | None, p_holm: float | None, **more: Any) -> dict[str, Any]:
    known = p is not None and mean is not None
    low, high = (mean - 0.01, mean + 0.01) if known else (None, None)
    return {"mean": mean, "low": low, "high": high, "p": p, "p_holm": p_holm, "t": 3.0, "days": 245, **more}


def row(name: str, kind: str, rank_ic: float, previous: str | None = None, **against: Any) -> dict[str, Any]:
    verdict = {"t": 9.1, "critical": 2.45, "p": 0.0004, "low": rank_ic - 0.03, "high": rank_ic + 0.03}
    facts = {"icir": 1.2, "neutral_rank_ic": 0.1, "seconds": 7.0, "previous": previous, "against": against}
    return {"name": name, "kind": kind, "label": "", "rank_ic": rank_ic, **verdict, **facts}


@pytest.fixture
def board() -> dict[str, Any]:
    """One gain that stands after Holm, one whose p alone is below 5 %, one of no size, a baseline not beaten."""
    zero, one, two, three = (f"train_phase{k}" for k in range(4))
    rows = [
        row(zero, "phase", 0.10, ridge=pair(0.02, 0.04, 0.12)),
        row(one, "phase", 0.15, zero, **{zero: pair(0.05, 0.0002, 0.0012)}, ridge=pair(0.07, 0.001, 0.004)),
        row(two, "phase", 0.17, one, **{one: pair(0.02, 0.03, 0.12)}, ridge=pair(0.09, 0.0003, 0.0015)),
        row(three, "phase", 0.17, two, **{two: pair(0.0, 1.0, 1.0)}, ridge=pair(-0.01, 0.3, 0.6)),
        row("ridge", "baseline", 0.08),
    ]
    days = {"first": "2024-01-10", "last": "2025-01-10", "days": 245}
    return {"fold": "main", "block": "validation", **days, "panel_id": "0123456789", "comparisons": 7, "rows": rows}


def older(board: dict[str, Any]) -> dict[str, Any]:
    """The same as an earlier version stored it: no p and interval of a row, a bootstrap's of a difference, no Holm."""
    found = deepcopy(board)
    del found["comparisons"]
    for line in found["rows"]:
        for name in ("critical", "p", "low", "high"):
            del line[name]
        for one in line["against"].values():
            del one["p_holm"]
    return found


def cells(text: str, name: str) -> list[str]:
    return next(line for line in text.splitlines() if line.startswith(name)).split()


def test_a_star_is_what_stays_after_holm(board: dict[str, Any]) -> None:
    text = render(board)
    assert cells(text, "train_phase1")[6:] == ["+0.0500*", "+0.0400", "+0.0600", "<.001", "+0.0700*"]
    assert cells(text, "train_phase2")[6:] == ["+0.0200", "+0.0100", "+0.0300", "0.030", "+0.0900*"]
    assert "* beyond chance: p below 5% after Holm, of 7 comparisons in this table." in text
    assert "beyond 2.45, not 1.96" in text
    assert all(name in text for name in HEAD)


def test_the_sentence_says_what_is_beyond_chance_and_what_is_not(board: dict[str, Any]) -> None:
    said = sentence(board)
    assert "train_phase1 gained on the phase before beyond chance; of train_phase2 and train_phase3 that cannot" in said
    assert "0.0100 below ridge (within chance)" in said
    board["rows"][3]["against"]["ridge"] = pair(-0.01, 0.001, 0.004)
    assert "0.0100 below ridge;" in sentence(board)
    board["rows"][1]["against"]["train_phase0"] = pair(-0.05, 0.0002, 0.0012)  # sure to be worse is no gain
    assert "gained" not in sentence(board)


def test_a_block_too_short_to_tell_shows_differences_alone(board: dict[str, Any]) -> None:
    for line in board["rows"]:
        line["against"] = {name: pair(one["mean"], None, None) for name, one in line["against"].items()}
    text = render(board)
    assert cells(text, "train_phase1")[6:] == ["+0.0500", "+0.0700"]
    assert "gained" not in text and "of train_phase1, train_phase2 and train_phase3 that cannot be said" in text
    assert difference_cell(pair(None, None, None)) == difference_cell(None) == ""


def test_one_phase_alone_is_compared_with_nothing(board: dict[str, Any]) -> None:
    alone = {**board, "comparisons": 0, "rows": [row("train_phase0", "phase", 0.1)]}
    assert "Nothing is compared: there is one phase, and no baseline." in render(alone)
    assert render(older(alone)).count("An earlier version judged this table") == 1


@pytest.mark.parametrize(
    ("place", "command"),
    [
        ({}, "--select evaluation"),
        ({"fold": "previous"}, "--select fold_evaluation --partition previous"),
        ({"block": "test"}, "--select test_evaluation, with the config score_again: true"),
    ],
)
def test_a_table_of_an_earlier_version_is_shown_without_its_verdicts(
    board: dict[str, Any], place: dict[str, str], command: str
) -> None:
    text = render({**older(board), **place})
    assert cells(text, "train_phase1")[6:] == ["+0.0500", "+0.0700"]  # the differences stand, intervals and p do not
    assert "An earlier version judged this table" in text and f"{command}\n" in text
    assert not {"*", "chance;", "(within", "gained"} & set(text.split())


def test_the_readme_keeps_records_of_both_kinds(board: dict[str, Any]) -> None:
    """Table, words and picture can be rendered of what was kept as of what was stored."""
    for stored in (board, older(board)):
        kept = readme.condensed(stored)
        assert ("comparisons" in kept) == ("comparisons" in stored)
        assert readme.condensed({**kept, "panel_id": stored["panel_id"]}) == kept
        table, _, words = readme.block(kept).partition("\n\n* ")
        assert render(stored).startswith(table.removeprefix("```text\n").splitlines()[0].removesuffix("01234567…"))
        assert all(len(line) <= 120 for line in words.splitlines())
        drawn = labels(rank_ic_bars(kept))
        assert any("95 % interval (EWC)" in label for label in drawn) == ("comparisons" in stored)
