"""Alerts: told once, never lost, never with a secret, and never a reason for a sensor to fail."""

import json
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from hypothesis import given
from hypothesis import strategies as st

from atft_assets.operations.alerts import Alert, Alerts, alerts_resource, as_text, masked, shown
from tests.operations.helpers import read_log

NOW = datetime(2026, 11, 24, 10, 0, tzinfo=UTC)


def an_alert(fingerprint: str = "f", **changes: Any) -> Alert:
    given: dict[str, Any] = {
        "kind": "run_failure",
        "fingerprint": fingerprint,
        "what": "run 12345678 of nightly_refresh failed in daily_quotes",
        "where": {"table": "daily_quotes", "partition": "2026-11", "column": "C"},
        "why": "the server answered 503 ten times",
        "todo": "run it again",
        "run_id": "12345678-0000",
    }
    return Alert(**(given | changes))


class Receiver(HTTPServer):
    """A web hook on loopback that answers with `status` and keeps what it was sent."""

    status = 200

    def __init__(self, port: int = 0) -> None:
        super().__init__(("127.0.0.1", port), Hook)
        self.received: list[dict[str, Any]] = []

    @property
    def url(self) -> str:
        return f"json://127.0.0.1:{self.server_port}/hook"


class Hook(BaseHTTPRequestHandler):
    server: Receiver

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if self.server.status == 200:
            self.server.received.append(body)
        self.send_response(self.server.status)
        self.end_headers()

    def log_message(self, format: str, *args: Any) -> None: ...


@contextmanager
def receiver() -> Iterator[Receiver]:
    with Receiver() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


def alerts_in(folder: Path, **changes: Any) -> Alerts:
    return Alerts(log_file=str(folder / "alerts.log"), first_wait=0, **changes)


def test_an_alert_is_one_line_that_says_what_where_why_and_what_to_do(tmp_path: Path) -> None:
    assert alerts_in(tmp_path).send(an_alert(rows=[{"code": "13010", "C": "-1.0"}]), now=NOW)
    (record,) = read_log(tmp_path / "alerts.log")
    assert record["what"].startswith("run 12345678") and record["why"] == "the server answered 503 ten times"
    assert record["where"] == {"table": "daily_quotes", "partition": "2026-11", "column": "C"}
    assert record["run"] == "http://127.0.0.1:3000/runs/12345678-0000"
    assert record["rows"] == [{"code": "13010", "C": "-1.0"}]
    for part in ("daily_quotes", "2026-11", "503", "run it again", "13010", "/runs/12345678"):
        assert part in as_text(record)


def test_the_log_is_for_its_user_alone_and_survives_damage(tmp_path: Path) -> None:
    before = os.umask(0o022)
    try:
        alerts = Alerts(log_file=str(tmp_path / "root" / "alerts.log"))
        with dg.build_init_resource_context() as context:
            alerts.setup_for_execution(context)
        assert alerts.send(an_alert("a"), NOW)
    finally:
        os.umask(before)
    for path in (tmp_path / "root").iterdir():
        assert path.stat().st_mode & 0o077 == 0, path
    with alerts.log_path.open("ab") as file:
        file.write(b"\xff\xfe\x00\n[]\n3\n")
    assert not alerts.send(an_alert("a"), NOW) and alerts.send(an_alert("b"), NOW)


def test_the_same_alert_is_held_back_for_its_time_also_by_another_process(tmp_path: Path) -> None:
    assert alerts_in(tmp_path).send(an_alert(), now=NOW)
    for minutes, told in ((1, False), (59, False), (61, True), (62, False)):
        assert alerts_in(tmp_path).send(an_alert(), now=NOW + timedelta(minutes=minutes)) is told
    assert alerts_in(tmp_path).send(an_alert("another"), now=NOW)
    assert len(read_log(tmp_path / "alerts.log")) == 3


def test_what_may_be_told_only_once_is_never_repeated(tmp_path: Path) -> None:
    once = an_alert(repeat_after=None)
    assert [alerts_in(tmp_path).send(once, now=NOW + timedelta(days=d)) for d in (0, 1, 400)] == [True, False, False]


def test_threads_tell_it_once(tmp_path: Path) -> None:
    answers: list[bool] = []
    alerts = alerts_in(tmp_path)
    threads = [threading.Thread(target=lambda: answers.append(alerts.send(an_alert(), now=NOW))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(answers) == [False] * 7 + [True]
    assert len(read_log(tmp_path / "alerts.log")) == 1


def test_the_log_rotates_and_still_remembers(tmp_path: Path) -> None:
    alerts = alerts_in(tmp_path, max_bytes=2000, keep=3)
    for n in range(40):
        assert alerts.send(an_alert(f"f{n}", repeat_after=None), now=NOW)
    files = sorted(path.name for path in tmp_path.glob("alerts.log*") if path.suffix != ".lock")
    assert files == ["alerts.log", "alerts.log.1", "alerts.log.2", "alerts.log.3"]
    assert all((tmp_path / name).stat().st_size < 3000 for name in files)
    assert not alerts.send(an_alert("f39", repeat_after=None), now=NOW)
    assert [record["fingerprint"] for record in alerts.told()][:2] == ["f39", "f38"]


def test_a_line_cut_short_by_a_full_disk_does_not_hide_the_others(tmp_path: Path) -> None:
    alerts = alerts_in(tmp_path)
    alerts.send(an_alert(), now=NOW)
    with (tmp_path / "alerts.log").open("a") as file:
        file.write('{"at": "2026-\n')
    assert not alerts.send(an_alert(), now=NOW)


def test_every_target_gets_the_message(tmp_path: Path) -> None:
    with receiver() as one, receiver() as two:
        assert alerts_in(tmp_path, urls=f"{one.url} {two.url}").send(an_alert(), now=NOW)
        for server in (one, two):
            (message,) = server.received
            assert "daily_quotes" in message["message"] and message["type"] == "failure"
            assert message["title"].startswith("ATFT: run 12345678")


def test_a_target_that_is_down_gets_the_message_when_it_is_back(tmp_path: Path) -> None:
    with receiver() as server:
        server.status = 500
        assert alerts_in(tmp_path, urls=server.url, attempts=2).send(an_alert(), now=NOW)
        assert read_log(tmp_path / "alerts.log") and not server.received
        outbox = (tmp_path / "alerts.log.outbox").read_text()
        assert str(server.server_port) not in outbox  # the target's address may hold a token: it is not written down
        alerts_in(tmp_path, urls=server.url).flush(now=NOW + timedelta(minutes=5))  # still down: it goes on waiting
        server.status = 200
        alerts_in(tmp_path, urls=server.url).flush(now=NOW + timedelta(minutes=10))
        alerts_in(tmp_path, urls=server.url).flush(now=NOW + timedelta(minutes=15))
        assert len(server.received) == 1
        assert not (tmp_path / "alerts.log.outbox").exists() or not (tmp_path / "alerts.log.outbox").read_text()


def test_a_message_too_old_for_the_outbox_is_dropped(tmp_path: Path) -> None:
    with receiver() as server:
        server.status = 500
        alerts_in(tmp_path, urls=server.url, attempts=1).send(an_alert(), now=NOW)
        server.status = 200
        alerts_in(tmp_path, urls=server.url).flush(now=NOW + timedelta(hours=25))
        assert not server.received


@pytest.mark.parametrize("urls", ["json://127.0.0.1:1/hook", "nonsense://x", "not-a-url"])
def test_an_unreachable_or_senseless_target_breaks_nothing(tmp_path: Path, urls: str) -> None:
    alerts = alerts_in(tmp_path, urls=urls, attempts=2)
    assert alerts.send(an_alert(), now=NOW) and alerts.send(an_alert("second"), now=NOW)
    assert len(read_log(tmp_path / "alerts.log")) == 2


def test_a_log_that_cannot_be_written_falls_back_to_dagsters_home(tmp_path: Path) -> None:
    blocked = tmp_path / "blocked"
    blocked.write_text("a file where the folder should be")
    home = tmp_path / "home"
    with dg.instance_for_test(temp_dir=str(_made(home))) as instance:
        alerts = Alerts(log_file=str(blocked / "alerts.log"))
        with dg.build_resources({"alerts": alerts}, instance=instance) as resources:
            assert resources.alerts.send(an_alert(), now=NOW)
            assert not resources.alerts.send(an_alert(), now=NOW)
        assert len(read_log(home / "alerts.log")) == 1


def _made(folder: Path) -> Path:
    folder.mkdir()
    return folder


@pytest.mark.parametrize(
    ("text", "secret"),
    [
        ("GET https://user:hunter22@host/v2 failed", "hunter22"),  # pragma: allowlist secret
        ("https://h/v2?code=1301&token=abcd1234&x=1", "abcd1234"),
        ("https://h/v2?key=abcd1234", "abcd1234"),
        ("{'x-api-key': 'abcd1234efgh'}", "abcd1234efgh"),  # pragma: allowlist secret
        ("JQUANTS_API_KEY=abcd1234efgh", "abcd1234efgh"),  # pragma: allowlist secret
        ("Authorization: Bearer abcd.1234", "abcd.1234"),  # pragma: allowlist secret
        ('"client_secret": "abcd1234"', "abcd1234"),  # pragma: allowlist secret
        ("https://hooks.slack.com/services/T0/B0/abcd1234", "abcd1234"),  # pragma: allowlist secret
    ],
)
def test_secrets_are_masked_wherever_they_stand(tmp_path: Path, text: str, secret: str) -> None:
    assert secret not in masked(text) and "***" in masked(text)
    with receiver() as server:
        alert = an_alert(why=text, what=text, todo=text, where={"x": text}, rows=[{"y": text}])
        alerts_in(tmp_path, urls=server.url).send(alert, now=NOW)
        assert secret not in (tmp_path / "alerts.log").read_text()
        assert secret not in json.dumps(server.received)


FORMS = {
    "as it is": "Invalid header value abc+d/12 x",
    "as bytes": r"Invalid header value b'abc+d/12\r'",
    "in a URL": "GET http://host/v2?k=abc%2Bd%2F12",
    "in a URL's path": "GET http://host/abc%2Bd/12",
    "of an alert address": "cannot reach jsons://taro:pa55wort@host/x",  # pragma: allowlist secret
    "its password alone": "user pa55wort was refused",
}


@pytest.mark.parametrize("form", FORMS)
def test_the_secrets_of_this_process_are_masked_whatever_form_they_stand_in(
    monkeypatch: pytest.MonkeyPatch, form: str
) -> None:
    """The form of a text cannot tell that a word is the key; its value can."""
    monkeypatch.setenv("JQUANTS_API_KEY", "abc+d/12\r")
    monkeypatch.setenv("ATFT_ALERT_URLS", "jsons://taro:pa55wort@host/x")  # pragma: allowlist secret
    text = masked({"why": [FORMS[form]]})["why"][0]
    assert "***" in text and "12" not in text and "pa55wort" not in text


@given(st.text(alphabet="abcdefghij 0123456789.,;()|=:-\n", max_size=200))
def test_ordinary_text_is_left_alone(text: str) -> None:
    assert masked(text) == text  # none of the words that announce a secret can be spelt with these letters


def test_contract_words_are_not_taken_for_secrets() -> None:
    text = "columns date, code: unique key: 2 rows, key=13010|2026-11-24, primary key: date"
    assert masked(text) == text


@pytest.mark.parametrize(
    ("url", "text"),
    [
        ("json://127.0.0.1:9000/hook/mytoken?+X-Key=mytoken", "json://127.0.0.1:9000/…"),
        ("json://taro:mytoken@localhost/x", "json://localhost/…"),  # pragma: allowlist secret
        ("ntfys://mytoken", "ntfys://m…/…"),
        ("ntfys://ntfy.example.org/mytoken", "ntfys://ntfy.example.org/…"),
        ("mailtos://taro:mytoken@example.org", "mailtos://example.org/…"),  # pragma: allowlist secret
        ("nonsense://mytoken", "nonsense…"),
    ],
)
def test_a_target_is_told_from_others_without_its_secrets(url: str, text: str) -> None:
    assert shown(url) == text


def test_what_a_target_answers_is_told_without_its_topic(tmp_path: Path) -> None:
    with receiver() as server:
        server.status = 500
        url = f"ntfy://127.0.0.1:{server.server_port}/mytopic"
        (one,) = alerts_in(tmp_path, urls=url, attempts=1).deliver(an_alert(), NOW)
    assert not one.delivered and "500" in one.why and "***" in one.why and "mytopic" not in one.why + one.target


def test_the_targets_are_not_shown_in_the_ui(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The resource names the variable; its value enters only when an alert is sent."""
    monkeypatch.setenv("ATFT_ALERT_URLS", "slack://tokenA/tokenB/tokenC")
    resource = alerts_resource(True, str(tmp_path))
    definitions = dg.Definitions(resources={"alerts": resource})
    shown = repr(definitions.get_repository_def().get_top_level_resources()["alerts"].configurable_resource_cls)
    assert "tokenA" not in repr(resource) + shown + str(resource._resolved_config_dict)
    with dg.build_resources({"alerts": resource}) as resources:
        assert resources.alerts.urls == "slack://tokenA/tokenB/tokenC"


def test_the_log_of_a_bucket_stands_in_dagsters_home(instance: dg.DagsterInstance) -> None:
    with dg.build_resources({"alerts": alerts_resource(False, "s3://bucket/atft")}, instance=instance) as resources:
        assert resources.alerts.log_path == Path(instance.root_directory) / "alerts.log"
