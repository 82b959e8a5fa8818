"""The command that prints an evening: best and worst, places won, withheld evenings, words where there is nothing."""

import subprocess
import sys
from datetime import date
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from atft_assets.store import Store
from atft_assets.trading import today
from atft_assets.trading.champion import Champion, Promotion, install
from atft_assets.trading.daily_scores import GROUP, NAME, PUBLISHED, WITHHELD, Provenance, empty, rows_of

MAY, FIRST, SECOND = date(2020, 5, 29), date(2020, 6, 1), date(2020, 6, 2)
CODES = [f"{1000 + n}0" for n in range(30)]


def rows(score: np.ndarray, day: date, status: str = PUBLISHED) -> pl.DataFrame:
    names = pl.Series(
        "name", ["とても長い名前の株式会社ホールディングス・ジャパン", *(f"会社{n}" for n in range(1, 30))]
    )
    facts = pl.DataFrame(
        {"code": CODES, "name": names, "eligible": [True] * 29 + [False], "liquid": [True, False] * 15,
         "shortable": [True] * 15 + [False] * 15, "sector33": "5250", "segment": "Prime"}
    )  # fmt: skip
    values, of = score.astype(np.float32), Provenance("20200601T1200-abc", "p", "h")
    return rows_of(day, date(2020, 6, 3), CODES, np.tile(values, (4, 1)), values, facts, of, status)


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    for name in ("JQUANTS_API_KEY", "JQUANTS_BASE_URL", "JQUANTS_PLAN", "ATFT_START", "ATFT_END"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("ATFT_DATA", str(tmp_path))
    return Store(root=str(tmp_path))


def publish(store: Store, *frames: pl.DataFrame, month: str = "2020-06") -> None:
    table = store.table(GROUP, NAME)
    table.publish([table.stage(month, pl.concat([empty(), *frames]), code_version="t")])


def printed(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, list[str]]:
    code = today.main(list(arguments))
    out = capsys.readouterr()
    return code, (out.out or out.err).splitlines()


def test_best_and_worst_of_the_newest_evening(store: Store, capsys) -> None:
    falling = -np.arange(30.0)
    publish(store, rows(falling, MAY), month="2020-05")
    publish(store, rows(falling[::-1], FIRST))
    code, lines = printed(capsys, "--top", "2")
    assert code == 0
    assert lines[0] == "Evening of 2020-06-01, for the open of 2020-06-03: 30 names, ranked by 20200601T1200-abc"
    best = lines.index("best")
    assert lines[best + 1].split() == ["rank", "change", "code", "name", "sector", "segment", "score", "flags"]
    assert lines[best + 3].split() == [
        "1", "+29", "10290", "会社29", "Information", "&", "Communicati…", "Prime", "-0.00", "x",
    ]  # fmt: skip
    assert lines[best + 4].split()[:4] == ["2", "+27", "10280", "会社28"] and lines[best + 4].endswith("L")
    worst = lines.index("worst")
    assert [line.split()[0] for line in lines[worst + 3 : worst + 5]] == ["29", "30"]
    assert lines[worst + 4].split()[1] == "-29" and lines[worst + 4].endswith("LS") and "…" in lines[worst + 4]
    assert any("places won since 2020-05-29" in line for line in lines)  # the month before
    assert lines[-2] == f"All names, and the scores by horizon: {store.table(GROUP, NAME).path('2020-06')}"
    assert lines[-1] == f"The newest evening as a page: {store.local('reports', 'evening.html')}"


def test_columns_stand_below_each_other_though_a_japanese_letter_is_wide(store: Store, capsys) -> None:
    publish(store, rows(np.arange(30.0), FIRST))
    _, lines = printed(capsys, "--top", "20")  # both ends overlap: one table of all names
    assert "best" not in lines and "worst" not in lines
    head = next(place for place, line in enumerate(lines) if line.split()[:1] == ["rank"])
    assert len([line for line in lines[head + 2 :] if line.split()[:1] and line.split()[0].isdigit()]) == 30
    places = {today._width(line[: line.index("Prime")]) for line in lines[head + 2 : head + 32]}
    assert places == {today._width(lines[head][: lines[head].index("segment")])}


def test_an_evening_that_was_withheld_says_so_and_is_no_yesterday(store: Store, capsys) -> None:
    publish(store, rows(np.arange(30.0), FIRST), rows(-np.arange(30.0), SECOND, WITHHELD))
    code, lines = printed(capsys)
    assert code == 3 and any(line.startswith("WITHHELD: a gate forbids") for line in lines)
    code, lines = printed(capsys, "--date", "2020-06-01")
    assert code == 0 and lines[0].startswith("Evening of 2020-06-01")
    assert any("not known: there is no evening before" in line for line in lines)
    publish(store, rows(np.arange(30.0), FIRST, WITHHELD), rows(-np.arange(30.0), SECOND))
    assert any("not known" in line for line in printed(capsys)[1])


def champion(store: Store) -> None:
    made = Champion("c1", "network", "main", "r", "p", "h", date(2020, 5, 29), phase="phase3", runs=("one",))
    install(store.local(GROUP), Promotion("2020-06-01T12:00:00+00:00", "champion", made))


def test_words_where_there_is_nothing(store: Store, capsys) -> None:
    assert printed(capsys) == (
        1,
        [
            "there are no scores yet (there is no champion yet: one is chosen when the phases are judged); run: make "
            "demo, or: make road"
        ],
    )
    champion(store)
    code, (line,) = printed(capsys)
    assert code == 1 and "(c1: phase3 one, data to 2020-05-29)" in line and "--select daily_scores --partition" in line
    publish(store)
    assert printed(capsys)[1] == [
        "daily_scores holds no evening yet; run: dagster asset materialize --select daily_scores --partition 2020-06"
    ]
    publish(store, rows(np.arange(30.0), FIRST))
    code, (line,) = printed(capsys, "--date", "2020-05-07")
    assert code == 1 and "holds no scores of 2020-05-07; its newest evening is 2020-06-01" in line
    assert '--partition 2020-05 --config-json \'{"ops": {"daily_scores"' in line
    publish(store, month="2020-07")  # an empty month after it hides nothing
    assert printed(capsys)[0] == 0


@pytest.mark.parametrize(
    ("given", "said"), [(("--date", "June"), "use YYYY-MM-DD"), (("--top", "0"), "one name at least")]
)
def test_a_wrong_option_is_a_sentence(store: Store, capsys, given, said: str) -> None:
    code, (line,) = printed(capsys, *given)
    assert code == 1 and said in line


@pytest.mark.parametrize("command", ["today", "rollback"])
def test_the_command_line_says_nothing_but_what_it_was_asked(command: str) -> None:
    """Python warns of a module that its own package has imported before it runs."""
    done = subprocess.run(
        [sys.executable, "-m", f"atft_assets.trading.{command}", "--help"], capture_output=True, text=True, check=True
    )
    assert done.stderr == "" and done.stdout.startswith(f"usage: python -m atft_assets.trading.{command}")
