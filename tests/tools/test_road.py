"""The terminal front of the road: which commands it starts, what it shows of them, and how it ends."""

import io
import os
import signal
import subprocess
import sys
from datetime import date
from pathlib import Path

import pytest
from rich.console import Console

from atft_assets.groups import MONTHLY
from atft_assets.jquants.plans import includes
from atft_assets.partitions import months
from atft_assets.raw import SOURCES
from atft_assets.settings import Plan, Settings
from atft_assets.store import Store
from atft_assets.tools.forecast import forecast, requests_lacking
from atft_assets.tools.road import Step, Walk, duration, heard, main, steps, to_buy, way_in
from tests.patience import PATIENCE, until

LINE = (
    "2026-11-26 00:05:24 +0000 - dagster - INFO - __ASSET_JOB - 73db2111-0770-4ff4-82cc-810f749cd361 - topix - "
    "topix 2022-12: 12/12 months"
)


def of(root: Path, **changes) -> Settings:
    given = {
        "base_url": None,
        "plan": Plan.STANDARD,
        "data_root": str(root),
        "start": date(2022, 1, 4),
        "end": date(2023, 12, 29),
    }
    return Settings(**(given | changes))


def test_the_commands_are_those_that_a_person_would_type(tmp_path):
    first, *months, last, evening, backtest = steps(of(tmp_path), 12, "train.yaml")
    assert str(first) == "dagster asset materialize --select trading_calendar"
    assert [step.command[-2:] for step in months] == [
        ("--partition-range", "2022-01...2022-12"),
        ("--partition-range", "2023-01...2023-12"),
    ]
    assert {step.command[4] for step in months} == {MONTHLY}
    assert last.command[-2:] == ("--config", "train.yaml") and "feature_report" in last.command[4].split(",")
    assert str(evening).endswith("--select daily_scores,portfolio,orders --partition-range 2023-11...2023-12")
    assert str(backtest) == "dagster asset materialize --select backtest"
    assert len(steps(of(tmp_path), 6)) == 4 + 4 and steps(of(tmp_path), 6)[-3].command[-1] == last.command[4]


def test_a_single_month_is_a_range_too(tmp_path):
    *_, evening, _ = steps(of(tmp_path, start=date(2023, 12, 1)), 12)
    assert evening.command[-2:] == ("--partition-range", "2023-12...2023-12")


def test_the_last_line_leads_to_all_pages(tmp_path):
    """Also of a root that was filled before there was an index."""
    (tmp_path / "reports").mkdir()
    (tmp_path / "reports" / "evaluation.html").write_text("<title>Of before</title>")
    line = way_in(Store(root=str(tmp_path)))
    assert "\n" not in line and line.endswith(f"open {tmp_path / 'reports' / 'index.html'}")
    assert "Of before" in (tmp_path / "reports" / "index.html").read_text()


def test_the_closing_words_name_the_newest_orders(tmp_path):
    store = Store(root=str(tmp_path))
    assert to_buy(store).startswith("There are no orders yet")
    folder = tmp_path / "trading" / "orders"
    folder.mkdir(parents=True)
    for day, lines in (("2024-12-30", 5), ("2025-01-06", 3)):
        (folder / f"{day}.csv").write_text("\n".join(["head", *["order"] * (lines - 1)]), encoding="utf-8-sig")
    assert to_buy(store) == f"Orders for the open of 2025-01-06, 2 of them, by the paper book: {folder}/2025-01-06.csv"


def test_of_dagsters_lines_only_what_they_say_is_shown():
    assert heard(LINE) == "topix - topix 2022-12: 12/12 months"
    assert heard("Traceback (most recent call last):\n") == "" == heard("")


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.4, "0 s"), (59.6, "1 min 0 s"), (213, "3 min 33 s"), (7_300, "2 h 1 min")]
)
def test_seconds_for_people(seconds, text):
    assert duration(seconds) == text


def test_a_step_is_one_line_and_what_the_trainings_came_to():
    screen, log = io.StringIO(), io.StringIO()
    said = LINE.replace("topix 2022-12: 12/12 months", "phase 1 GAT finished: validation RankIC +0.1 -> /runs/x")
    step = Step("two lines", (sys.executable, "-c", f"print({LINE!r}); print({said!r})"))
    assert Walk(Console(file=screen, soft_wrap=True), log).take(2, 5, step) == 0
    first, second = screen.getvalue().splitlines()
    assert first.startswith("[2/5] two lines  ") and second.strip() == "phase 1 GAT finished: validation RankIC +0.1"
    assert str(step) in log.getvalue() and LINE in log.getvalue() and said in log.getvalue()


def test_a_failed_step_has_its_exit_code_and_says_so():
    screen = io.StringIO()
    code = Walk(Console(file=screen, soft_wrap=True), io.StringIO()).take(
        1, 1, Step("x", (sys.executable, "-c", "raise SystemExit(3)"))
    )
    assert code == 3 and screen.getvalue().rstrip().endswith("failed")


@pytest.fixture
def place(tmp_path):
    """A data root, and a `dagster` on the path that is a script of the test."""

    def run(script: str, *options: str, **exports: str) -> subprocess.Popen[str]:
        dagster = tmp_path / "bin" / "dagster"
        dagster.parent.mkdir(exist_ok=True)
        dagster.write_text(f"#!{sys.executable}\n{script}\n")
        dagster.chmod(0o700)
        environ = {name: value for name, value in os.environ.items() if not name.startswith(("ATFT", "JQUANTS"))}
        environ |= {"PATH": f"{dagster.parent}:{os.environ['PATH']}", "ATFT_DATA": str(tmp_path / "data"), **exports}
        return subprocess.Popen(
            [sys.executable, "-m", "atft_assets.tools.road", *options],
            env=environ,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )

    return run


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_reaches_the_step_and_the_last_line_says_how_to_go_on(place, tmp_path, number):
    struck = tmp_path / "struck"
    script = (
        "import pathlib, signal, sys, time\n"
        f"def end(number, _):\n    pathlib.Path({str(struck)!r}).write_text(str(number)); sys.exit(1)\n"
        "signal.signal(signal.SIGINT, end); signal.signal(signal.SIGTERM, end)\n"
        f"pathlib.Path({str(tmp_path / 'begun')!r}).touch()\n"
        "time.sleep(600)"
    )
    process = place(script, "--called", "make demo")
    until((tmp_path / "begun").exists, "the first step", process=process)
    process.send_signal(number)
    out, _ = process.communicate(timeout=PATIENCE)
    assert process.returncode == 130 and struck.read_text() == str(int(number))
    assert "[1/8] trading calendar" in out and "interrupted" in out and "[2/8]" not in out
    assert out.rstrip().splitlines()[-1].endswith("Run `make demo` again: it goes on.")


def test_a_failed_step_shows_the_end_of_its_words_and_nothing_after_it_begins(place, tmp_path):
    process = place("print('noise\\n' * 50); print('daily_quotes 2022-01 breaks its contract'); raise SystemExit(1)")
    out, _ = process.communicate(timeout=PATIENCE)
    assert process.returncode == 1 and "daily_quotes 2022-01 breaks its contract" in out and "[2/8]" not in out
    assert out.count("noise") < 15 and "it goes on" in out.rstrip().splitlines()[-1]
    (log,) = (tmp_path / "data" / "logs").glob("road-*.log")
    assert log.read_text().count("noise") == 50 and log.stat().st_mode & 0o077 == 0


def test_orders_or_a_back_test_that_fail_do_not_keep_the_table_back(place, tmp_path):
    """Four trained phases are worth telling of, whatever the steps after them come to."""
    table = tmp_path / "data" / "evaluation" / "main" / "validation.json"
    table.parent.mkdir(parents=True)
    table.write_text((Path(__file__).parents[2] / "docs" / "demo.json").read_text())
    script = "import sys\nif 'backtest' in sys.argv:\n    print('the tables do not add up'); raise SystemExit(1)"
    process = place(script, "--called", "make demo")
    out, _ = process.communicate(timeout=PATIENCE)
    assert process.returncode == 1 and "the tables do not add up" in out and "[8/8]" in out
    assert "When that is mended, run: dagster asset materialize --select backtest" in out
    assert out.index("do not add up") < out.index("Fine-tuning") < out.index("index.html")


def test_a_road_to_its_end_names_the_way_in_last(place, tmp_path):
    """The table as the README's demo left it; each step is a command that does nothing."""
    table = tmp_path / "data" / "evaluation" / "main" / "validation.json"
    table.parent.mkdir(parents=True)
    table.write_text((Path(__file__).parents[2] / "docs" / "demo.json").read_text())
    out, _ = place("pass", "--called", "make demo").communicate(timeout=PATIENCE)
    index = tmp_path / "data" / "reports" / "index.html"
    assert out.rstrip().splitlines()[-1].endswith(f"open {index}") and index.exists()


@pytest.mark.parametrize(
    ("exports", "options", "said"),
    [
        ({"ATFT_START": "2022/01/04"}, [], "ATFT_START is '2022/01/04'"),
        ({"ATFT_START": "2023-01-04", "ATFT_END": "2022-01-04"}, [], "is after ATFT_END"),
        ({"JQUANTS_PLAN": "foo"}, [], "JQUANTS_PLAN is 'foo'"),
        ({}, ["--months-per-run", "0"], "MONTHS_PER_RUN is 0"),
        ({}, ["--config", "/nowhere/x.yaml"], "CONFIG is /nowhere/x.yaml"),
    ],
)
def test_a_wrong_setting_is_one_line_and_nothing_begins(monkeypatch, capsys, tmp_path, exports, options, said):
    for name in ("ATFT_START", "ATFT_END", "JQUANTS_PLAN", "JQUANTS_API_KEY", "JQUANTS_BASE_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("ATFT_DATA", str(tmp_path / "data"))
    for name, value in exports.items():
        monkeypatch.setenv(name, value)
    assert main(options) == 2
    out = capsys.readouterr().out.strip()
    assert out.startswith("make road cannot begin: ") and said in out and "\n" not in out
    assert not (tmp_path / "data").exists()


def test_the_forecast_counts_what_is_lacking(tmp_path):
    sandbox = of(tmp_path, end=date(2024, 12, 30))
    assert forecast(sandbox, Store(root=str(tmp_path))) == "about 4 minutes on two cores"
    real = of(tmp_path, base_url="https://api.jquants.com/v2", plan=Plan.STANDARD, start=date(2025, 1, 1), end=None)
    store = Store(root=str(tmp_path))
    asked = requests_lacking(real, store)
    assert f"about {asked:,} requests at 108 a minute (plan standard)" in forecast(real, store)
    tables = [source for source in SOURCES if includes(Plan.STANDARD, source.endpoint) and source.endpoint.in_bulk]
    months_over = len(months(real).get_partition_keys()) - 1
    assert months_over < asked < (2 * months_over + 2 * 23) * len(tables) + 2 * 23  # files, and the days of this month
    # without files a day is a request or two, even if weeks before today are behind the delay
    free = real.model_copy(update={"plan": Plan.FREE})
    assert requests_lacking(free, store) > 2 * 250
