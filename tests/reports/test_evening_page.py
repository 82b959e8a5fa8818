"""The page of an evening: ranking, changes, gates; nothing that can be used of an evening that was withheld."""

from dataclasses import dataclass, replace
from datetime import date
from math import nan

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from atft_assets.reports import evening_page as page
from atft_assets.reports.evening_page import Evening
from tests.reports.page import checked

DAY, TRADE, BEFORE = date(2026, 11, 26), date(2026, 11, 27), date(2026, 11, 25)
SECTORS = ("3050", "3650", "5250", "unknown")


@dataclass(frozen=True)
class Said:
    name: str
    passed: bool
    blocking: bool
    figure: float
    sentence: str


GATES = [
    Said("kill_switch", True, True, 0.0, "no file $ATFT_DATA/trading/STOP"),
    Said("coverage", True, True, 0.998, "3900 of 3908 <eligible> names have a score"),
    Said("champion_age", False, False, 61.0, "the champion was trained 61 days ago"),
    Said("matured_rank_ic", True, False, nan, "12 evenings have matured: not judged"),
]


def rows_of(count: int, before: bool = True) -> pl.DataFrame:
    rank = np.arange(1, count + 1)
    was = np.roll(rank, 3) if count > 3 else rank
    return pl.DataFrame(
        {
            "rank": rank.astype(np.uint16),
            "change": (was - rank).astype(np.int32) if before else pl.Series([None] * count, dtype=pl.Int32),
            "code": [f"{1000 + n}0" for n in range(count)],
            "name": [f"会社<{n}>" for n in range(count)],
            "sector33": [SECTORS[n % 4] for n in range(count)],
            "segment": "Prime",
            "score": np.linspace(2.5, -2.5, count).astype(np.float32),
            "liquid": [n % 2 == 0 for n in range(count)],
            "shortable": [n % 3 == 0 for n in range(count)],
            "eligible": [n != 1 for n in range(count)],
        }
    )


def of(rows: pl.DataFrame, **changes: object) -> Evening:
    given = {
        "day": DAY, "trade_date": TRADE, "rows": rows, "gates": GATES, "withheld": False, "before": BEFORE,
        "champion": "c1: phase3 r1, data to 2026-10-01", "provenance": {"champion": "c1", "features": "h1"},
    }  # fmt: skip
    return Evening(**{**given, **changes})


def cells(text: str, code: str) -> list[str]:
    """The first line of a table that holds a code."""
    line = next(one for one in text.splitlines() if f">{code}<" in one)
    return [cell.rpartition(">")[2] for cell in line.split("</td>")[:-1]]


def test_best_and_worst_with_all_that_a_person_asks() -> None:
    text = checked(page.render(of(rows_of(100))))
    assert "Evening of 2026-11-26, for the open of 2026-11-27: 100 names ranked" in text
    assert cells(text, "10000") == [
        "1", "+97", "10000", "会社&lt;0&gt;", "Foods", "Prime", "+2.50", "yes", "yes",
    ]  # fmt: skip
    assert cells(text, "10010")[3:5] == ["会社&lt;1&gt; (has left the universe)", "Electric Appliances"]
    assert cells(text, "10990")[:3] == ["100", "-3", "10990"] and cells(text, "10990")[-2:] == ["no", "yes"]
    ranking = text.partition('id="ranking"')[2].partition('id="movers"')[0]
    assert ranking.count('<td class="text">Prime') == 40 and ">10200<" not in ranking and ">10800<" in ranking
    assert 'lang="ja"' in ranking
    assert "c1: phase3 r1" in text and '<td>features</td><td class="text">h1' in text


def test_the_gates_that_failed_stand_first_with_their_sentences() -> None:
    text = checked(page.render(of(rows_of(100))))
    gates = text.partition('id="gates"')[2].partition('id="ranking"')[0]
    order = [gates.index(name) for name in ("champion age", "kill switch", "coverage", "matured rank ic")]
    assert order == sorted(order) and "Published, with a warning of champion_age" in text
    assert "3900 of 3908 &lt;eligible&gt; names" in gates and ">warning<" in gates and ">–<" in gates
    clean = checked(page.render(of(rows_of(100), gates=GATES[:2])))
    assert "Published: every gate was passed." in clean


def test_what_has_moved() -> None:
    text = page.render(of(rows_of(100)))
    movers = text.partition('id="movers"')[2].partition('id="sectors"')[0]
    assert cells(movers, "10000")[:3] == ["+97", "98", "1"]
    assert "Of the best 20 names 17 were among the best 20 before; 0 had no score then." in movers
    first = checked(page.render(of(rows_of(100, before=False), before=None)))
    assert "there is no published evening before" in first and "Rose most" not in first


def test_of_a_withheld_evening_nothing_can_be_used() -> None:
    broken = [Said("coverage", False, True, 0.41, "1602 of 3908 eligible names have a score"), *GATES[2:]]
    evening = of(rows_of(100), withheld=True, gates=broken)
    text = checked(page.render(evening))
    assert "WITHHELD, must not be used" in text and ">WITHHOLDS<" in text and "1602 of 3908" in text
    assert 'class="bad"' in text and "2026-11-25" in text
    assert "--select daily_scores --partition 2026-11" in text
    assert "<img" not in text and "会社" not in text
    assert not any(f"{code}" in text for code in evening.rows["code"])
    assert set(page.metadata(evening)) == {"said", "gates"}


@pytest.mark.parametrize("count", [0, 1, 9, 10, 40, 41])
@pytest.mark.parametrize("before", [True, False])
def test_few_names_have_a_page(count: int, before: bool) -> None:
    evening = of(rows_of(count, before), before=BEFORE if before else None)
    text = checked(page.render(evening))
    assert (">All, " in text) == (0 < count <= 40) and ("No name has a score" in text) == (count == 0)
    assert ("too few names for a tenth" in text) == (0 < count < 10)


def test_without_gates_at_hand_the_page_says_so() -> None:
    assert "not at hand" in checked(page.render(of(rows_of(50), gates=[])))


@given(st.lists(st.sampled_from(SECTORS), min_size=1, max_size=80))
def test_sector_weights_are_shares(sectors: list[str]) -> None:
    rows = pl.DataFrame({"rank": np.arange(1, len(sectors) + 1), "sector33": sectors})
    weights = page.sector_weights(rows)
    assert weights["top"].sum() == pytest.approx(1) and weights["all"].sum() == pytest.approx(1)
    best = sectors[: max(1, len(sectors) // 10)]
    for row in weights.iter_rows(named=True):
        assert row["top"] == pytest.approx(best.count(row["sector33"]) / len(best))
        assert row["all"] == pytest.approx(sectors.count(row["sector33"]) / len(sectors))
    assert (weights["top"] - weights["all"]).is_sorted(descending=True)


def test_the_ui_has_the_ranking_the_gates_and_the_pictures() -> None:
    told = page.metadata(of(rows_of(100)))
    assert list(told) == ["said", "gates", "best", "worst", "scores", "sectors"]
    assert [record.data["code"] for record in told["best"].value.records[:2]] == ["10000", "10010"]
    assert told["worst"].value.records[-1].data["rank"] == "100"
    assert all(told[name].value.startswith("![") for name in ("scores", "sectors"))
    assert page.render(replace(of(rows_of(100)))) == page.render(of(rows_of(100))), "the same twice"
