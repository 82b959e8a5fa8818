"""Damaged and lost files: a published month, the calendar, landed days, the note of the origin. Each heals."""

import logging
from datetime import date

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from upath import UPath

from atft_assets import calendar
from atft_assets.jquants.resource import demo_origin
from atft_assets.raw.landing import ASKED, Asked, AskedDays, Landing
from atft_assets.raw.published import refetch_command
from atft_assets.settings import Plan
from atft_assets.store import Table
from atft_assets.tools.mend import main as mend
from atft_model.interchange.errors import MEND
from tests.jquants.scripted_server import Answer

from .conftest import failure_text, materialized
from .tiny_exchange import CODES

JANUARY = calendar.days_of_month("2024-01")


def damage(path: UPath) -> None:
    """One byte, in the middle."""
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 0xFF
    path.write_bytes(bytes(data))


def test_a_damaged_month_is_repaired_by_the_command_of_its_sentence(lab, capfd):
    lab.run("daily_quotes", "2024-01")
    path = lab.table("daily_quotes").path("2024-01")
    before = path.read_bytes()
    damage(path)
    lab.asked()
    text = failure_text(lab.run("daily_quotes", "2024-01"))
    assert str(path) in text and MEND in text and refetch_command("daily_quotes", "2024-01") in text
    assert lab.asked() == []
    capfd.readouterr()
    assert materialized(lab.run("daily_quotes", "2024-01", refetch=True))["days_asked_for"] == len(JANUARY)
    assert path.read_bytes() == before
    out = "".join(capfd.readouterr())
    assert "daily_quotes 2024-01: its published file is damaged; it is fetched again" in out and "lost" not in out
    assert materialized(lab.run("daily_quotes", "2024-01"))["requests"] == 0


def test_the_command_of_the_sentence_is_one_that_a_shell_takes():
    assert refetch_command("topix", "2024-01") == (
        "dagster asset materialize --select topix --partition 2024-01 "
        """--config-json '{"ops": {"topix": {"config": {"refetch": true}}}}'"""
    )


@pytest.mark.parametrize(("asset", "refetch"), [("topix", False), ("trading_calendar", True)])
def test_a_file_that_is_gone_is_simply_fetched_again(lab, asset, refetch):
    month = "2024-01" if asset == "topix" else ""
    lab.run(asset, month)
    path = lab.table(asset).path(month or "all")
    before = path.read_bytes()
    path.unlink()
    assert lab.run(asset, month, **({"refetch": True} if refetch else {})).success
    assert path.read_bytes() == before


def test_a_damaged_calendar_is_repaired_by_the_command_of_its_sentence(lab):
    lab.run("trading_calendar")
    path = lab.table("trading_calendar").path("all")
    before = path.read_bytes()
    damage(path)
    text = failure_text(lab.run("trading_calendar"))
    assert MEND in text and refetch_command("trading_calendar") in text
    assert lab.run("trading_calendar", refetch=True).success
    assert path.read_bytes() == before


@pytest.mark.parametrize(("asset", "damaged"), [("daily_quotes", False), ("daily_quotes", True), ("topix", True)])
def test_days_that_left_the_plans_window_stay_unless_the_file_is_damaged_and_then_it_is_said(
    lab, capfd, damaged, asset
):
    lab.run(asset, "2024-01")
    lab.run(asset, "2024-02")
    other = lab.table(asset).path("2024-02").read_bytes()
    if damaged:
        damage(lab.table(asset).path("2024-01"))
    lab.plan, lab.now = Plan.LIGHT, "2029-01-20T12:00"  # five years: from 2024-01-20 on
    capfd.readouterr()
    assert lab.run(asset, "2024-01", refetch=True).success
    out = "".join(capfd.readouterr())
    days = lab.read(asset, "2024-01")["date"].unique().sort().to_list()
    if damaged:
        assert days == [day for day in JANUARY if day >= date(2024, 1, 20)]
        assert "for 11 days (2024-01-04 … 2024-01-19)" in out and "is lost" in out and "2024-01-20 ~ today" in out
    else:
        assert days == JANUARY and "lost" not in out
    assert lab.table(asset).path("2024-02").read_bytes() == other


def test_the_calendars_days_before_the_window_are_named_when_they_are_lost(lab, capfd):
    lab.run("trading_calendar")
    damage(lab.table("trading_calendar").path("all"))
    lab.plan, lab.now = Plan.LIGHT, "2029-01-20T12:00"
    assert lab.run("trading_calendar", refetch=True).success
    assert lab.read("trading_calendar")["date"].min() == date(2024, 1, 20)
    assert "19 days (2024-01-01 … 2024-01-19)" in "".join(capfd.readouterr())


# -- landed days


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_a_landed_file_with_any_byte_changed_is_dropped(tmp_path_factory, data):
    landing, path, _ = landed(tmp_path_factory.mktemp("landed"))
    held = bytearray(path.read_bytes())
    held[data.draw(st.integers(0, len(held) - 1))] ^= data.draw(st.integers(1, 255))
    path.write_bytes(bytes(held))
    assert landing.load("2024-01") is None and not path.exists()


@pytest.mark.parametrize("content", [b"", b"PAR1", b"\x00" * 31, b"\x00" * 500])
def test_a_landed_file_that_is_none_is_dropped_with_a_warning(tmp_path, caplog, content):
    landing, path, frame = landed(tmp_path)
    assert landing.load("2024-01").equals(frame) and landing.load("2024-01", ["date"]).columns == ["date"]
    path.write_bytes(content)
    with caplog.at_level(logging.WARNING):
        assert landing.load("2024-01") is None
    assert "is damaged" in caplog.text and "dropped, its days are fetched again" in caplog.text


def landed(folder):
    landing = Landing(Table(UPath(folder), "raw", "bars"), "1")
    frame = pl.DataFrame({"date": JANUARY, "x": [float(n) for n in range(len(JANUARY))]})
    landing.save("2024-01", frame)
    (path,) = landing.table.folder.glob(".*.landed")
    return landing, path, frame


def test_what_a_stopped_run_left_damaged_is_fetched_again(lab):
    lab.exchange.fault = lambda request, number: Answer({}, 403) if request.query.get("date") == "2024-01-24" else None
    assert not lab.run("daily_quotes", "2024-01").success
    (path,) = (lab.root / "raw" / "daily_quotes").glob(".*.landed")
    damage(path)
    lab.exchange.fault = None
    lab.asked()
    assert materialized(lab.run("daily_quotes", "2024-01"))["dagster/row_count"] == len(CODES) * len(JANUARY)
    assert sorted(lab.asked()) == [str(day) for day in JANUARY]


@pytest.mark.parametrize("content", [b"\x80\xff", b"[]", b'{"2024-01": 5}', b'{"2024-01": {"x": "empty"}}', b"null"])
def test_a_damaged_list_of_asked_days_counts_as_none(tmp_path, content):
    asked = AskedDays(Table(UPath(tmp_path), "raw", "bars"))
    path = tmp_path / "raw" / "bars" / ASKED
    path.parent.mkdir(parents=True)
    path.write_bytes(content)
    assert asked.of("2024-01") == {}
    asked.note("2024-01", {JANUARY[0]: Asked.EMPTY})
    assert asked.of("2024-01") == {JANUARY[0]: Asked.EMPTY}


# -- the note of the origin


@pytest.mark.parametrize("content", [b"\x80\xff\xfe", b""])
def test_a_damaged_note_is_told_with_its_remedy(lab, content, monkeypatch):
    monkeypatch.delenv("DAGSTER_HOME", raising=False)
    monkeypatch.setenv("ATFT_DATA", str(lab.root))
    lab.run("topix", "2024-01")
    note = lab.root / "raw" / "origin.txt"
    note.write_bytes(content)
    lab.asked()
    text = failure_text(lab.run("topix", "2024-02"))
    assert f"run: {MEND}" in text and "a server on this machine" in text and lab.asked() == []
    assert mend([]) == 0 and not note.exists()  # as the sentence says
    assert lab.run("topix", "2024-02").success
    assert note.read_text() == "a server on this machine\n"


def test_two_simulated_markets_do_not_mix_and_the_demos_old_note_is_taken_up(lab, monkeypatch):
    said = {"market": demo_origin().removeprefix("the simulated market ")}
    monkeypatch.setattr("atft_assets.jquants.client.JQuantsClient.market", lambda self: said["market"])
    note = lab.root / "raw" / "origin.txt"
    note.parent.mkdir(parents=True)
    note.write_text("a server on this machine\n")
    assert lab.run("topix", "2024-01").success
    lab.run("topix", "2024-01")
    assert note.read_text() == demo_origin() + "\n"  # an older data root of the demo goes on
    said["market"] = "from 2023-01-04, another"
    text = failure_text(lab.run("topix", "2024-02"))
    assert "from 2023-01-04, another" in text and demo_origin() in text
    note.write_text("a server on this machine\n")  # of which market cannot be known: not this one
    assert "came from a server on this machine" in failure_text(lab.run("topix", "2024-02"))


# -- what is not tried again


def test_a_disk_that_cannot_be_written_is_not_a_passing_fault(lab):
    lab.root.mkdir()
    (lab.root / "raw").write_text("a file in the way")
    lab.max_retries = 2
    result = lab.run("topix", "2024-01")
    assert not result.success and lab.asked() == []
    assert not any(event.event_type_value == "STEP_UP_FOR_RETRY" for event in result.all_node_events)


def test_a_range_from_the_last_month_to_the_first_says_so(lab):
    text = failure_text(lab.run("topix", "2024-03", "2024-01"))
    assert "Its first month must not be after its last" in text and lab.asked() == []
