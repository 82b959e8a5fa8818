"""Months by file against months by day: the same bytes, whatever happens to the files."""

import json
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import date, datetime
from pathlib import Path

import polars as pl
import pytest

from atft_assets import calendar
from atft_assets.jquants.bulk import BulkFile
from atft_assets.raw import SOURCES
from atft_assets.sandbox import MarketConfig, SandboxServer, serve, simulate
from atft_assets.sandbox.bulk import DATA_SETS
from atft_assets.sandbox.endpoints import ENDPOINTS
from atft_assets.sandbox.limits import SERVED as SANDBOX_PLANS
from atft_assets.settings import Plan
from tests.patience import until

from .conftest import failure_text, materialized
from .test_with_sandbox import SandboxLab

START, END = date(2023, 12, 4), date(2024, 2, 9)
MONTHS = ("2023-12", "2024-02")
BARS = "/equities/bars/daily"
OVER = 2  # months that are over
SERVED = [source.name for source in SOURCES if source.endpoint.path in ENDPOINTS and source.endpoint.path in DATA_SETS]


class HistoryLab(SandboxLab):
    """As `SandboxLab`, with less patience: some faults here never pass."""

    attempts = 5


@pytest.fixture(scope="module")
def market():
    return simulate(MarketConfig(n_names=24, start=START, end=END, seed=3, splits=0.6, listings=0.3))


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("ATFT_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "bulk"


@pytest.fixture
def lab(market, tmp_path) -> Iterator[HistoryLab]:
    with serve(market, page_rows=15, plan=Plan.PREMIUM) as server:
        yield lab_of(server, tmp_path / "data")


def lab_of(server: SandboxServer, root: Path, plan: Plan = Plan.PREMIUM, by_file: str = "auto") -> HistoryLab:
    evening = datetime.combine(END, datetime.min.time()).replace(hour=19).isoformat()
    return HistoryLab(None, server, root, now=evening, plan=plan, start=START, end=END, by_file=by_file)


@pytest.fixture(scope="module")
def by_day(market, tmp_path_factory) -> Callable[..., dict[str, bytes]]:
    """A table's files as they are by day, from a server where nothing goes wrong."""
    known: dict[tuple[str, Plan], dict[str, bytes]] = {}

    def files(table: str = "daily_quotes", plan: Plan = Plan.PREMIUM) -> dict[str, bytes]:
        if (table, plan) not in known:
            with serve(market, page_rows=15, plan=plan) as server:
                lab = lab_of(server, tmp_path_factory.mktemp("by-day"), plan, by_file="never")
                assert materialized(lab.run(table, *MONTHS))["months_by_file"] == 0
                assert asked(server, "/bulk/list") == 0
                known[table, plan] = lab.files(table)
        return known[table, plan]

    return files


def said_by(capfd: pytest.CaptureFixture[str]) -> str:
    """What a run has logged."""
    return "".join(capfd.readouterr())


def asked(server: SandboxServer, path: str) -> int:
    return sum(count for (one, status), count in server.requests.items() if one == path)


# -- the same bytes ---------------------------------------------------------------------------------------------------


# on a smaller plan: other columns, a name that lies below another's, and a table that is not there
SMALLER = ("daily_quotes", "options_225", "fins_dividend")


@pytest.mark.parametrize(
    ("table", "plan"), [(name, Plan.PREMIUM) for name in SERVED] + [(name, Plan.STANDARD) for name in SMALLER]
)
def test_by_file_and_by_day_a_table_is_the_same(market, tmp_path, table, plan, by_day):
    source = next(source for source in SOURCES if source.name == table)
    with serve(market, page_rows=15, plan=plan, shuffle=True) as server:
        lab = lab_of(server, tmp_path / "data", plan, by_file="always")
        result = lab.run(table, *MONTHS)  # of event tables some months may be empty, and by file all the same
        if not result.get_asset_materialization_events():
            assert source.optional and result.success  # the plan lacks it
            return
        assert materialized(result)["months_by_file"] == OVER
        assert lab.files(table) == by_day(table, plan)
        assert asked(server, "/bulk/file") == OVER


def documents(_, query) -> pl.DataFrame:
    """Statements of a made-up service: several a day, none on some days, one on a Saturday; cells of every oddity."""
    day = date.fromisoformat(query.params["date"])
    busy = day.day % 3 == 0 and (day.weekday() < 5 or day == date(2023, 12, 9)) and day <= query.now.date()
    rows = [
        {
            "DiscDate": str(day), "DiscTime": "15:30:00", "Code": f"{number:04d}0", "DiscNo": f"{day:%Y%m%d}{number}",
            "DocType": "1QFinancialStatements_Consolidated_JP" if number else "",
            "FS": {"売上高": f"{number}.0", "it's": "a \"quote\", a comma\nand a line", "none": None},
        }
        for number in range(3 if busy else 0)
    ]  # fmt: skip
    kinds = {name: pl.String for name in ("DiscDate", "DiscTime", "Code", "DiscNo", "DocType")}
    return pl.DataFrame(rows, schema={**kinds, "FS": pl.Struct(dict.fromkeys(("売上高", "it's", "none"), pl.String))})


def test_an_endpoint_that_the_sandbox_comes_to_serve_has_its_files_by_itself(lab, monkeypatch, tmp_path):
    monkeypatch.setitem(ENDPOINTS, "/fins/details", documents)
    monkeypatch.setitem(SANDBOX_PLANS, "/fins/details", Plan.PREMIUM)
    assert materialized(lab.run("fins_details", *MONTHS))["months_by_file"] == OVER
    frame = lab.read("fins_details")
    assert date(2023, 12, 9) in set(frame["date"]) and set(frame["DocType"]) == {"", frame["DocType"].max()}
    assert json.loads(frame["FS"][1])["売上高"] == "1.0" and '"none": null' in frame["FS"][1]
    other = replace(lab, root=tmp_path / "other", by_file="never")
    assert materialized(other.run("fins_details", *MONTHS))["months_by_file"] == 0
    assert {k: v for k, v in other.files("fins_details").items() if k.endswith(".parquet")} == {
        k: v for k, v in lab.files("fins_details").items() if k.endswith(".parquet")
    }
    assert other.files("fins_details")["asked.json"] == lab.files("fins_details")["asked.json"]


def test_the_sandbox_serves_tables_by_file():
    assert {"listed_info", "daily_quotes", "topix", "sector_indices", "indices"} <= set(SERVED)


def test_a_run_takes_files_of_months_that_are_over_and_days_of_the_one_under_way(lab, by_day):
    done = materialized(lab.run("daily_quotes", *MONTHS))
    february = len(calendar.trading_days(date(2024, 2, 1), END))
    assert done["months_by_file"] == OVER and asked(lab.server, BARS) == 2 * february
    assert asked(lab.server, "/bulk/list") == 1 and asked(lab.server, "/bulk/get") == OVER
    assert lab.files("daily_quotes") == by_day()


def test_files_are_deleted_once_their_rows_are_kept(lab, cache):
    materialized(lab.run("daily_quotes", *MONTHS))
    assert list(cache.iterdir()) == []  # not even the folder of the service


def test_a_complete_month_asks_for_nothing_and_one_that_is_fetched_again_comes_by_file(lab):
    first = materialized(lab.run("daily_quotes", *MONTHS))
    before, files = dict(lab.server.requests), lab.files("daily_quotes")
    again = materialized(lab.run("daily_quotes", "2023-12"))
    assert again["requests"] == 0 and again["months_by_file"] == 0
    assert {key: n for key, n in lab.server.requests.items() if key[0] != "/"} == {
        k: n for k, n in before.items() if k[0] != "/"
    }
    assert materialized(lab.run("daily_quotes", "2023-12", refetch=True))["months_by_file"] == 1
    assert lab.files("daily_quotes") == files and first["months_by_file"] == OVER


def test_the_newest_days_of_a_month_that_is_there_are_asked_for_by_day(lab):
    """Days whose corrections may still come: the API has them first."""
    lab.server.now, lab.now = datetime(2024, 2, 2, 19), "2024-02-02T19:00"
    materialized(lab.run("daily_quotes", "2024-01"))
    lab.server.requests.clear()
    again = materialized(lab.run("daily_quotes", "2024-01"))
    assert again["months_by_file"] == 0 and asked(lab.server, BARS) == 2 * 3  # of the last five days, three
    assert asked(lab.server, "/bulk/list") == 0


def test_the_master_of_every_day_gives_the_weekly_snapshots(lab, by_day):
    materialized(lab.run("listed_info", *MONTHS))
    dates = lab.read("listed_info")["date"].unique()
    assert len(dates) < 15 and lab.files("listed_info") == by_day("listed_info")


def test_of_a_table_that_a_range_gives_at_once_no_file_is_asked_for_unless_told(lab):
    assert materialized(lab.run("topix", *MONTHS))["months_by_file"] == 0
    assert asked(lab.server, "/bulk/list") == 0


def test_never_asks_for_no_file(lab):
    lab.by_file = "never"
    assert materialized(lab.run("daily_quotes", *MONTHS))["months_by_file"] == 0
    assert not [path for path, _ in lab.server.requests if path.startswith("/bulk")]


def test_another_word_is_refused_before_the_first_request(lab):
    lab.by_file = "sometimes"
    assert "use auto, always or never" in failure_text(lab.run("daily_quotes", "2023-12"))
    assert asked(lab.server, BARS) == 0


# -- who may, and when ------------------------------------------------------------------------------------------------


def test_below_light_months_come_by_day_and_the_log_says_so(market, tmp_path, capfd):
    with serve(market, page_rows=15, plan=Plan.FREE, now=datetime(2024, 6, 30, 19)) as server:
        lab = replace(lab_of(server, tmp_path / "data", Plan.FREE), now="2024-06-30T19:00")
        done = materialized(lab.run("daily_quotes", *MONTHS))
    assert done["months_by_file"] == 0 and done["dagster/row_count"] > 0
    assert "3 months could come by file, but files need the plan light and JQUANTS_PLAN is free" in said_by(capfd)
    assert not [path for path, _ in server.requests if path.startswith("/bulk")]


def test_a_key_without_files_whatever_the_setting_says(lab, capfd):
    lab.server.keys[lab.server.api_key] = Plan.FREE
    lab.server.now = datetime(2024, 6, 30, 19)
    lab.now = "2024-06-30T19:00"
    done = materialized(lab.run("daily_quotes", *MONTHS))
    assert done["months_by_file"] == 0
    log = said_by(capfd)
    assert "files of history cannot be had, months come by day" in log and "not available on your subscription" in log


def test_a_file_that_was_written_too_early_is_left(lab, capfd):
    """On the first of a month at six, its file holds all bars, but the exchange may publish a day's table later."""
    late = replace(next(source for source in SOURCES if source.name == "daily_quotes"))
    rule = type(late.endpoint.available)("39:00")  # 15:00 of the next day
    endpoint = replace(late.endpoint, available=rule)
    lab.sources = (replace(late, endpoint=endpoint, reads={}, rules=None),)
    lab.server.now, lab.now = datetime(2024, 2, 1, 16), "2024-02-01T16:00"
    done = materialized(lab.run("daily_quotes", "2023-12", "2024-01"))
    assert done["months_by_file"] == 1
    assert "the files of 2024-01 were written before the months were out: by day" in said_by(capfd)


def test_a_month_without_a_file_comes_by_day(lab, capfd, by_day):
    shelf = lab.server.shelf
    all_files = shelf._files
    shelf._files = lambda query, path: [file for file in all_files(query, path) if "202312" not in file.key]
    done = materialized(lab.run("daily_quotes", *MONTHS))
    assert done["months_by_file"] == OVER - 1 and "there is no file of 2023-12: by day" in said_by(capfd)
    assert lab.files("daily_quotes") == by_day()


def test_a_file_of_days_by_another_date_is_left(lab, capfd, by_day):
    """Rows that were published in the month need not date from it: days at its end would be missing."""
    shelf, frames = lab.server.shelf, lab.server.shelf._frames

    def shifted(file):
        yield from frames(file)
        yield from frames(replace(file, first=date(2023, 12, 28), last=date(2023, 12, 29)))

    shelf._frames = shifted
    done = materialized(lab.run("daily_quotes", "2024-01"))
    assert done["months_by_file"] == 0 and "have Date 2023-12-28, which is not of its month" in said_by(capfd)
    assert lab.files("daily_quotes")["2024-01.parquet"] == by_day()["2024-01.parquet"]


def test_a_file_that_was_damaged_where_it_lies_is_left(lab, capfd, by_day):
    """Its size and its MD5 are those that the service says: only the checksum inside tells."""
    data = lab.server.shelf._data
    lab.server.shelf._data = lambda file: data(file)[:-6] + bytes(6)
    done = materialized(lab.run("daily_quotes", *MONTHS))
    assert done["months_by_file"] == 0 and "it is damaged" in said_by(capfd)
    assert lab.files("daily_quotes") == by_day()


def test_days_that_a_file_lacks_are_asked_for_by_day(lab, by_day):
    shelf, frames = lab.server.shelf, lab.server.shelf._frames
    shelf._frames = lambda file: (day for day in frames(file) if day.filter(pl.col("Date") == "2023-12-14").is_empty())
    done = materialized(lab.run("daily_quotes", "2023-12"))
    assert done["months_by_file"] == 1 and asked(lab.server, BARS) == 2
    shelf._frames = frames
    assert lab.files("daily_quotes")["2023-12.parquet"] == by_day()["2023-12.parquet"]


# -- what goes wrong --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["503", "429", "cut", "reset", "expired", "corrupt", "truncated"])
def test_a_fault_that_passes_leaves_no_trace(lab, kind, by_day):
    lab.server.faults.add(kind, path="/bulk/file", times=2)
    assert materialized(lab.run("daily_quotes", *MONTHS))["months_by_file"] == OVER
    assert lab.server.faults.struck[kind] == 2
    assert lab.files("daily_quotes") == by_day()


@pytest.mark.parametrize("kind", ["500", "429", "truncated", "cut", "reset"])
@pytest.mark.parametrize("path", ["/bulk/list", "/bulk/get"])
def test_a_fault_of_the_list_or_of_an_address_that_passes(lab, path, kind):
    lab.server.faults.add(kind, path=path, times=2)
    assert materialized(lab.run("daily_quotes", *MONTHS))["months_by_file"] == OVER
    assert lab.server.faults.struck[kind] == 2


@pytest.mark.parametrize(
    ("path", "kind", "said"),
    [
        ("/bulk/list", "500", "files of history cannot be had, months come by day"),
        ("/bulk/list", "wrong_size", "the list says"),
        ("/bulk/get", "502", "its file is of no use, it comes by day: J-Quants /bulk/get"),
        ("/bulk/file", "503", "HTTP 503 SlowDown"),
        ("/bulk/file", "expired", "HTTP 403 AccessDenied"),
        ("/bulk/file", "truncated", "the list says"),
        ("/bulk/file", "corrupt", "MD5"),
    ],
)
def test_a_fault_that_does_not_pass_costs_speed_alone(lab, cache, capfd, path, kind, said, by_day):
    lab.server.faults.add(kind, path=path)
    done = materialized(lab.run("daily_quotes", *MONTHS))
    log = said_by(capfd)
    assert done["months_by_file"] == 0 and said in log and "X-Amz" not in log and lab.server.api_key not in log
    assert lab.files("daily_quotes") == by_day()
    assert not [left for left in cache.rglob("*") if left.is_file()]


def test_after_a_file_that_did_not_come_the_others_are_not_waited_for(lab, capfd):
    lab.server.faults.add("reset", path="/bulk/file")
    materialized(lab.run("daily_quotes", *MONTHS))
    assert "the files before it did not come" in said_by(capfd) or asked(lab.server, "/bulk/get") <= OVER


def test_a_cache_that_cannot_be_written_costs_speed_alone(lab, tmp_path, monkeypatch, capfd):
    (tmp_path / "file").write_text("no folder")
    monkeypatch.setenv("ATFT_CACHE", str(tmp_path / "file" / "cache"))
    assert materialized(lab.run("daily_quotes", *MONTHS))["months_by_file"] == 0
    assert "set ATFT_CACHE to another folder" in said_by(capfd)


def test_what_a_broken_contract_left_is_not_taken_up(lab):
    """A file that is right by itself and wrong for the table: nothing is published, nothing is kept."""
    frames = lab.server.shelf._frames
    lab.server.shelf._frames = lambda file: (day.with_columns(Vo=pl.lit(None, pl.Float64)) for day in frames(file))
    assert not lab.run("daily_quotes", "2023-12").success
    assert lab.files("daily_quotes") == {}


# -- ends and neighbours ----------------------------------------------------------------------------------------------

BACKFILL = textwrap.dedent("""
    import sys
    from datetime import date
    import dagster as dg
    from atft_assets.jquants.resource import JQuantsResource
    from atft_assets.raw import definitions
    from atft_assets.settings import Plan, Settings
    from atft_assets.store import Store

    url, key, root, first, last, now = sys.argv[1:]
    first, last = date.fromisoformat(first), date.fromisoformat(last)
    settings = Settings(base_url=url, plan=Plan.PREMIUM, data_root=root, start=first, end=last)
    (bars,) = [one for one in definitions(settings).assets if one.key.to_user_string() == "daily_quotes"]
    jquants = JQuantsResource(
        api_key=key, base_url=url, plan="premium", requests_per_minute=0, now=now, first_wait=0.01, threads=1
    )
    span = "dagster/asset_partition_range_"
    result = dg.materialize(
        [bars], resources={"store": Store(root=root), "jquants": jquants},
        tags={f"{span}start": "2023-12", f"{span}end": "2024-02"},
    )
    sys.exit(0 if result.success else 1)
""")


def test_a_backfill_that_is_killed_in_the_middle_of_a_download_is_taken_up(lab, cache, by_day):
    """The first download breaks in its middle, and whoever asks for the rest is killed while waiting for it."""
    lab.server.faults.add("cut", path="/bulk/file", times=1)
    download = lab.server.shelf.download
    ranges: list[str] = []
    stuck = threading.Event()

    def hanging(target, headers, strike):
        ranges.append(headers.get("range", ""))
        if len(ranges) == 2 and not stuck.is_set():
            stuck.set()
            time.sleep(5)
        return download(target, headers, strike)

    lab.server.shelf.download = hanging
    command = [sys.executable, "-c", BACKFILL, lab.server.base_url, lab.server.api_key, str(lab.root)]
    process = subprocess.Popen(
        [*command, str(START), str(END), lab.now], env=os.environ, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    until(stuck.is_set, "the second download", process=process)
    os.kill(process.pid, signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    (part,) = cache.rglob("*.part")
    there = part.stat().st_size
    assert there > 0 and lab.table("daily_quotes").keys() == []
    ranges.clear()
    assert materialized(lab.run("daily_quotes", *MONTHS))["months_by_file"] == OVER
    assert f"bytes={there}-" in ranges
    assert lab.files("daily_quotes") == by_day()


def test_rows_of_a_file_that_were_kept_are_not_fetched_again(lab, by_day):
    """A run that fails in its last month has kept the months before."""
    lab.server.faults.add("empty", path=BARS, date="2024-02-06")
    assert not lab.run("daily_quotes", *MONTHS).success
    lab.server.faults.clear()
    lab.server.requests.clear()
    done = materialized(lab.run("daily_quotes", *MONTHS))
    assert done["months_by_file"] == 0 and asked(lab.server, "/bulk/file") == 0
    assert lab.files("daily_quotes") == by_day()


def test_two_runs_at_once(lab, tmp_path, by_day):
    """Two roots, one cache: each file comes once or twice, and both tables are right."""
    labs = [replace(lab, root=tmp_path / name) for name in ("one", "two")]
    lab.server.faults.add("slow", path="/bulk/file", seconds=0.2)
    run: Callable = lambda one: materialized(one.run("daily_quotes", *MONTHS))  # noqa: E731
    done: list[dict] = []
    threads = [threading.Thread(target=lambda one=one: done.append(run(one))) for one in labs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [one["months_by_file"] for one in done] == [OVER, OVER]
    assert OVER <= asked(lab.server, "/bulk/file") <= 2 * OVER
    assert labs[0].files("daily_quotes") == labs[1].files("daily_quotes") == by_day()


def test_the_log_says_how_many_months_come_by_file_and_how_large_they_are(lab, capfd):
    lab.server.faults.add("slow", path="/bulk/file", seconds=2.5, times=1)
    lab.read_timeout = 10
    materialized(lab.run("daily_quotes", *MONTHS))
    log = said_by(capfd)
    assert "daily_quotes: 2 months come by file (0." in log
    assert "MB of files have come" in log  # while they are waited for


def test_names_of_kept_files_tell_versions_apart():
    file = BulkFile("k", "2024-01", datetime(2024, 2, 10, tzinfo=calendar.TOKYO), 10)
    others = [replace(file, key="l"), replace(file, size=11), replace(file, modified=file.modified.replace(minute=1))]
    assert len({one.name for one in (file, *others)}) == 4


@pytest.mark.parametrize("table", ["options_225", "margin_interest"])
def test_on_the_first_evening_of_a_month_a_table_that_lags_has_an_empty_month(lab, table):
    """What reads it goes on; the next evening, or the next week, brings the rows."""
    for evening, rows in ((datetime(2024, 2, 1, 18, 30), False), (datetime(2024, 2, 6, 18, 30), True)):
        lab.server.now, lab.now = evening, evening.isoformat()
        assert lab.run(table, "2024-02").success
        assert bool(lab.read(table).height) is rows
