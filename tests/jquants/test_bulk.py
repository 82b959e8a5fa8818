"""Files of history: which months there are, and one of them on this machine, whatever happens on the way."""

import hashlib
import json
import logging
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from atft_assets.jquants.bulk import (
    AddressExpired,
    BulkFile,
    DiskFault,
    Downloads,
    FileDamaged,
    monthly_files,
    served,
)
from atft_assets.jquants.client import JQuantsClient, Patience
from atft_assets.jquants.endpoint import Endpoint
from atft_assets.jquants.endpoints import BY_PATH, DAILY_BARS
from atft_assets.jquants.errors import BadRequest, ConnectionFault, JQuantsError, MalformedAnswer, ServerError
from atft_assets.jquants.jobs import in_order
from atft_assets.settings import Plan
from tests.patience import until

from .scripted_server import Answer, Request, ScriptedServer, scripted

KEY, SIGNATURE = "s3cr3t-0123456789-abcdef", "5ignature-9876543210"
DATA = bytes(range(256)) * 2_000  # 512 kB
NAME = "equities/bars/daily/historical/2024/equities_bars_daily_202401.csv.gz"
MODIFIED = datetime.fromisoformat("2024-02-10T06:00:00+09:00")
FILE = BulkFile(NAME, "2024-01", MODIFIED, len(DATA))
FAST = Patience(attempts=3, first_wait=0.001, longest_wait=0.002, throttled=2, first_freeze=(0, 0), next_freeze=0,
                connect=1, read=0.6)  # fmt: skip
EXPIRED = b"<Error><Code>AccessDenied</Code><Message>Request has expired</Message><StringToSign>"


@dataclass
class Bucket:
    """Gives addresses, and the bytes behind them; `fault` may answer instead, by the number of the download.

    Attributes:
        gets: addresses given; ranges: what each download asked for.
    """

    data: bytes = DATA
    fault: Callable[[int, Answer], Answer] = lambda number, answer: answer
    tag: str = ""
    gets: int = 0
    ranges: list[dict[str, str]] = field(default_factory=list)
    listing: list[dict[str, Any]] = field(default_factory=list)
    server: ScriptedServer | None = None

    def __call__(self, request: Request, number: int) -> Answer:
        if request.path == "/bulk/list":
            return Answer({"data": self.listing})
        if request.path == "/bulk/get":
            assert request.headers["x-api-key"] == KEY
            self.gets += 1
            assert self.server
            root = self.server.base_url.removesuffix("/v2")
            return Answer({"url": f"{root}/files/{request.query['key']}?X-Amz-Signature={SIGNATURE}{self.gets}"})
        good = self.part(request)
        return self.fault(len(self.ranges), good)

    def part(self, request: Request) -> Answer:
        sent = request.headers
        assert "x-api-key" not in sent and "authorization" not in sent and sent["accept-encoding"] == "identity"
        self.ranges.append({name: sent[name] for name in ("range", "if-range") if name in sent})
        tag = self.tag or f'"{hashlib.md5(self.data).hexdigest()}"'
        if "range" not in sent or sent.get("if-range", tag) != tag:
            return Answer(self.data, headers={"ETag": tag})
        start = int(sent["range"].removeprefix("bytes=").removesuffix("-"))
        if start >= len(self.data):
            return Answer(b"", 416)
        about = {"ETag": tag, "Content-Range": f"bytes {start}-{len(self.data) - 1}/{len(self.data)}"}
        return Answer(self.data[start:], 206, headers=about)


@contextmanager
def client_of(bucket: Bucket, patience: Patience = FAST, **options: Any) -> Iterator[JQuantsClient]:
    with scripted(bucket) as server:
        bucket.server = server
        options = {"requests_per_minute": 0, **options}
        with JQuantsClient(server.base_url, KEY, Plan.STANDARD, patience=patience, **options) as client:
            yield client


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("ATFT_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def got(client: JQuantsClient, file: BulkFile = FILE) -> bytes:
    downloads = Downloads(client)
    downloads.prepare()
    with downloads.get(file) as come:
        return come.read()


def first(answer: Callable[[Answer], Answer], times: int = 1) -> Callable[[int, Answer], Answer]:
    """A fault of the first downloads."""
    return lambda number, good: answer(good) if number <= times else good


# -- which months there are -------------------------------------------------------------------------------------------


def record(key: str, modified: str = "2024-02-09T21:00:00.000Z", size: float = 100) -> dict[str, Any]:
    return {"Key": key, "LastModified": modified, "Size": size}


def listed(
    records: list[dict[str, Any]], endpoint: Endpoint = DAILY_BARS, plan: Plan = Plan.STANDARD
) -> dict[str, str]:
    bucket = Bucket(listing=records)
    with client_of(bucket) as client:
        client.plan = plan
        found = monthly_files(client, endpoint, ["2024-01", "2024-02"])
        assert bucket.server
        (request,) = bucket.server.requests
        assert request.query == {"endpoint": endpoint.path, "from": "2024-01-01", "to": "2024-02-29"}
    return {month: file.key for month, file in found.items()}


def test_files_of_whole_months_are_found_and_daily_ones_left() -> None:
    folder = "equities/bars/daily"
    months = {f"2024-0{n}": f"{folder}/historical/2024/equities_bars_daily_20240{n}.csv.gz" for n in (1, 2)}
    others = [
        f"{folder}/live/equities_bars_daily_20240131.csv.gz",
        f"{folder}/historical/2024/equities_bars_daily_202403.csv.gz",  # not asked for
        f"{folder}/historical/2024/equities_bars_daily_202413.csv.gz",
        "equities/bars/minute/historical/2024/equities_bars_minute_202401.csv.gz",
        f"{folder}/am/historical/2024/equities_bars_daily_am_202401.csv.gz",
        f"{folder}/readme.txt",
    ]
    assert listed([record(key) for key in [*others, *months.values()]]) == months


def test_an_endpoint_below_another_is_not_taken_for_it() -> None:
    own = "derivatives/bars/daily/options/historical/2024/options_202401.csv.gz"
    other = "derivatives/bars/daily/options/225/historical/2024/options_225_202401.csv.gz"
    records = [record(own), record(other)]
    assert listed(records, BY_PATH["/derivatives/bars/daily/options"]) == {"2024-01": own}
    assert listed(records, BY_PATH["/derivatives/bars/daily/options/225"]) == {"2024-01": other}


@pytest.mark.parametrize(("plan", "taken"), [("premium", "premium/"), ("standard", ""), ("light", "")])
def test_of_two_files_of_a_month_that_of_the_own_plan_is_taken(plan: str, taken: str) -> None:
    keys = [f"equities/bars/daily/{at}historical/2024/bars_202401.csv.gz" for at in ("", "premium/")]
    for order in (keys, keys[::-1]):
        found = listed([record(key) for key in order], plan=Plan(plan))
        assert found == {"2024-01": f"equities/bars/daily/{taken}historical/2024/bars_202401.csv.gz"}


@pytest.mark.parametrize(
    "strange", [{"modified": "yesterday"}, {"size": 0}, {"size": -1}, {"size": 5 << 30}], ids=lambda one: str(one)
)
def test_what_cannot_be_a_file_is_left(strange: dict[str, Any]) -> None:
    assert listed([record(NAME, **strange)]) == {}


def test_an_instant_without_a_zone_is_the_earlier_one() -> None:
    with client_of(Bucket(listing=[record(NAME, "2024-02-10T06:00:00")])) as client:
        assert monthly_files(client, DAILY_BARS, ["2024-01"])["2024-01"].modified == MODIFIED


def test_plans() -> None:
    assert [served(plan) for plan in Plan] == [False, True, True, True]


# -- one file ---------------------------------------------------------------------------------------------------------


def test_a_file_comes_whole_and_is_kept_until_it_is_forgotten(cache: Path) -> None:
    bucket = Bucket()
    with client_of(bucket) as client:
        downloads = Downloads(client)
        downloads.prepare()
        assert downloads.folder.stat().st_mode & 0o777 == 0o700
        for _ in range(2):
            with downloads.get(FILE) as come:
                assert come.read() == DATA
        assert bucket.gets == 1 and bucket.ranges == [{}] and downloads.bytes == len(DATA)
        downloads.forget(FILE)
        assert list(downloads.folder.iterdir()) == []
        downloads.tidy()
        assert not downloads.folder.exists()


def test_an_open_file_outlives_its_deletion() -> None:
    with client_of(Bucket()) as client:
        downloads = Downloads(client)
        downloads.prepare()
        come = downloads.get(FILE)
        downloads.forget(FILE)
        assert come.read() == DATA
        come.close()


def test_a_broken_download_goes_on_where_it_stopped() -> None:
    bucket = Bucket(fault=first(lambda good: Answer(good.body, good.status, cut=200_000, headers=good.headers)))
    with client_of(bucket) as client:
        assert got(client) == DATA
    tag = f'"{hashlib.md5(DATA).hexdigest()}"'
    assert bucket.ranges == [{}, {"range": "bytes=200000-", "if-range": tag}] and bucket.gets == 1


def test_as_long_as_something_comes_it_is_tried_on() -> None:
    """A line that breaks every 30 kB: many more faults than attempts against one."""
    bucket = Bucket(fault=lambda number, good: Answer(good.body, good.status, cut=30_000, headers=good.headers)
                    if len(good.body) > 30_000 else good)  # fmt: skip
    with client_of(bucket) as client:
        assert got(client) == DATA
    assert len(bucket.ranges) == -(-len(DATA) // 30_000)


def test_without_any_progress_it_is_given_up_and_what_there_is_is_kept() -> None:
    bucket = Bucket(fault=lambda number, good: Answer(good.body, good.status, cut=100_000 if number == 1 else 0,
                                                      headers=good.headers))  # fmt: skip
    with client_of(bucket) as client:
        with pytest.raises(ConnectionFault, match=r"the download: .* broke off"):
            got(client)
        assert len(bucket.ranges) == 1 + FAST.attempts - 1  # the first one got on
        bucket.fault = lambda number, good: good
        assert got(client) == DATA  # the next run, another object
    assert bucket.ranges[-1]["range"] == "bytes=100000-"


@pytest.mark.parametrize(
    "change",
    [
        lambda bucket: setattr(bucket, "tag", '"another"'),  # written anew
        lambda bucket: setattr(bucket, "part", lambda request, whole=bucket.part: _unranged(bucket, request)),
    ],
    ids=["another file", "no ranges"],
)
def test_a_file_that_is_no_longer_the_same_is_fetched_from_its_beginning(change: Callable[[Bucket], None]) -> None:
    bucket = Bucket(fault=first(lambda good: Answer(good.body, good.status, cut=70_000, headers=good.headers)))
    old, bucket.data = bucket.data, bytes(len(DATA))

    def fault(number: int, good: Answer) -> Answer:
        if number == 1:
            bucket.data = old
            change(bucket)
            return Answer(good.body, good.status, cut=70_000, headers=good.headers)
        return good

    bucket.fault = fault
    with client_of(bucket) as client:
        assert got(client) == DATA
    assert len(bucket.ranges) == 2


def _unranged(bucket: Bucket, request: Request) -> Answer:
    bucket.ranges.append({})
    return Answer(bucket.data)


def test_another_part_than_was_asked_for_is_not_put_behind_what_is_there() -> None:
    def fault(number: int, good: Answer) -> Answer:
        if number == 1:
            return Answer(good.body, good.status, cut=70_000, headers=good.headers)
        if number == 2:
            return Answer(DATA[1000:], 206, headers={"Content-Range": f"bytes 1000-{len(DATA) - 1}/{len(DATA)}"})
        return good

    bucket = Bucket(fault=fault)
    with client_of(bucket) as client:
        assert got(client) == DATA
    assert bucket.ranges[-1] == {}


def test_more_than_there_is_of_an_earlier_try_begins_anew() -> None:
    bucket = Bucket()
    with client_of(bucket) as client:
        downloads = Downloads(client)
        downloads.prepare()
        (downloads.folder / f"{FILE.name}.part").write_bytes(bytes(len(DATA) + 5))
        assert got(client) == DATA
    assert len(bucket.ranges) == 2  # 416, then all of it


@pytest.mark.parametrize(("size", "said"), [(len(DATA) + 7, "bytes came, the list says"), (len(DATA) - 7, "more came")])
def test_a_size_that_is_not_the_lists_is_told_after_three_tries(size: int, said: str) -> None:
    bucket = Bucket()
    with client_of(bucket) as client:
        with pytest.raises(FileDamaged, match=said):
            got(client, BulkFile(NAME, "2024-01", MODIFIED, size))
        assert len(bucket.ranges) == 3
        left = [path.stat().st_size for path in Downloads(client).folder.iterdir()]
        assert left == [0]


def test_an_md5_that_does_not_fit_is_a_damage_unless_the_tag_is_none() -> None:
    wrong = f'"{"0" * 32}"'
    with client_of(Bucket(tag=wrong)) as client, pytest.raises(FileDamaged, match="MD5"):
        got(client)
    keyed = {"x-amz-server-side-encryption": "aws:kms", "ETag": wrong}
    with client_of(Bucket(fault=lambda number, good: Answer(good.body, headers=keyed))) as client:
        assert got(client) == DATA
    with client_of(Bucket(tag='"0123-17"')) as client:  # of a file in parts
        assert got(client) == DATA


def test_a_damaged_byte_is_fetched_again() -> None:
    bucket = Bucket(fault=first(lambda good: Answer(b"x" + good.body[1:], headers=good.headers)))
    with client_of(bucket) as client:
        assert got(client) == DATA
    assert len(bucket.ranges) == 2


def test_an_address_that_expired_is_replaced() -> None:
    bucket = Bucket(fault=first(lambda good: Answer(EXPIRED, 403), times=2))
    with client_of(bucket) as client:
        assert got(client) == DATA
    assert bucket.gets == 3
    bucket = Bucket(fault=lambda number, good: Answer(EXPIRED, 403))
    with client_of(bucket) as client, pytest.raises(AddressExpired, match="HTTP 403 AccessDenied"):
        got(client)


@pytest.mark.parametrize("status", [429, 500, 503, 408])
def test_faults_that_pass(status: int) -> None:
    bucket = Bucket(fault=first(lambda good: Answer(b"<Code>SlowDown</Code>", status), times=2))
    with client_of(bucket) as client:
        assert got(client) == DATA
        assert client.counters.throttled == 0  # not the API's limit
    assert bucket.gets == 1
    with (
        client_of(Bucket(fault=lambda number, good: Answer(b"<Code>SlowDown</Code>", status))) as client,
        pytest.raises(ServerError, match=f"HTTP {status} SlowDown"),
    ):
        got(client)


def test_what_does_not_pass_is_not_asked_for_again() -> None:
    bucket = Bucket(fault=lambda number, good: Answer(b"<Code>NoSuchKey</Code>", 404))
    with client_of(bucket) as client, pytest.raises(BadRequest, match="HTTP 404 NoSuchKey"):
        got(client)
    assert len(bucket.ranges) == 1


def test_a_download_that_dribbles_ends() -> None:
    slow = Patience(**{**vars(FAST), "attempts": 1, "whole": 0.3})
    bucket = Bucket(DATA[:1000], fault=lambda number, good: Answer(good.body, headers=good.headers, drip=0.01))
    with client_of(bucket, slow) as client, pytest.raises(ConnectionFault, match=r"took more than 0\.3"):
        got(client, BulkFile(NAME, "2024-01", MODIFIED, 1000))


# -- who may see what -------------------------------------------------------------------------------------------------

LEAKY = {
    "all is well": lambda number, good: good,
    "expired": lambda number, good: Answer(EXPIRED + SIGNATURE.encode(), 403),
    "unavailable": lambda number, good: Answer(f"busy, try /x?X-Amz-Signature={SIGNATURE}".encode(), 503),
    "gone": lambda number, good: Answer(SIGNATURE.encode(), 404),
    "cut": lambda number, good: Answer(good.body, cut=0),
    "reset": lambda number, good: Answer(reset=True),
    "timeout": lambda number, good: Answer(good.body, delay=0.8),
    "redirect": lambda number, good: Answer(b"", 302, headers={"Location": f"/other?s={SIGNATURE}"}),
}


@pytest.mark.parametrize("name", LEAKY)
def test_no_log_and_no_message_shows_the_address(name: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    bucket = Bucket(fault=LEAKY[name])
    error: JQuantsError | None = None
    with client_of(bucket) as client:
        try:
            assert got(client) == DATA
        except JQuantsError as raised:
            error = raised
        left = b"".join(path.read_bytes() for path in Downloads(client).folder.iterdir() if path.suffix == ".json")
    assert bucket.ranges and (error is None) == (name == "all is well")
    assert bucket.server and any(
        SIGNATURE in request.query.get("X-Amz-Signature", "") for request in bucket.server.requests
    )
    seen = (
        caplog.text
        + "".join(str(vars(one)) for one in caplog.records)
        + repr(error)
        + str(vars(error) if error else "")
    )
    for secret in (SIGNATURE, KEY):
        assert secret not in seen and secret.encode() not in left
    cause: BaseException | None = error
    while cause is not None:
        assert SIGNATURE not in str(cause)
        cause = cause.__cause__ or cause.__context__
    assert "urllib3" in {record.name.split(".")[0] for record in caplog.records}  # which logs addresses


@pytest.mark.parametrize(
    "answer",
    [
        {"URL": f"https://files.example/x?X-Amz-Signature={SIGNATURE}"},
        {"message": f"see https://files.example/x?X-Amz-Signature={SIGNATURE}"},
        {"url": f"ftp://files.example/x?X-Amz-Signature={SIGNATURE}"},
        {"url": {"href": f"https://files.example/x?X-Amz-Signature={SIGNATURE}"}},
        {"url": f"http://[x?X-Amz-Signature={SIGNATURE}"},
    ],
)
def test_an_answer_in_other_clothes_shows_nothing(answer: dict, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    with scripted(Answer(answer)) as server:
        client = JQuantsClient(server.base_url, KEY, Plan.STANDARD, requests_per_minute=0, patience=FAST)
        with client, pytest.raises(JQuantsError) as caught:
            got(client)
    assert SIGNATURE not in str(caught.value) + str(vars(caught.value)) + caplog.text


def test_from_a_service_over_tls_no_open_address_is_taken() -> None:
    given = {"url": "http://files.example/x?s=1"}
    client: Any = SimpleNamespace(base_url="https://api.example/v2", fetch=lambda *_, **__: [given])
    with pytest.raises(MalformedAnswer):
        Downloads(client)._address(FILE, None)
    given["url"] = "https://files.example/x?s=1"
    assert Downloads(client)._address(FILE, None) == given["url"]


def test_addresses_count_against_the_limit_and_downloads_do_not() -> None:
    slept: list[float] = []
    now = [0.0]

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        now[0] += seconds

    bucket = Bucket()
    with client_of(bucket, requests_per_minute=60, clock=lambda: now[0], sleep=sleep) as client:
        for number in range(8):
            got(client, BulkFile(NAME, "2024-01", MODIFIED.replace(minute=number), len(DATA)))
        assert client.counters.requests == 8 == bucket.gets == len(bucket.ranges)
    assert sum(slept) == pytest.approx((8 - 3) * 60 / 57, rel=0.01)  # three at once, then 57 a minute


# -- several at once, and ends ----------------------------------------------------------------------------------------


def test_two_that_want_one_file_fetch_it_once() -> None:
    bucket = Bucket(fault=lambda number, good: Answer(good.body, good.status, delay=0.3, headers=good.headers))
    with client_of(bucket) as client:
        Downloads(client).prepare()
        found: list[bytes] = []
        threads = [threading.Thread(target=lambda: found.append(got(client))) for _ in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert found == [DATA] * 3 and len(bucket.ranges) == 1


def test_given_up_a_download_ends_at_once() -> None:
    bucket = Bucket(fault=lambda number, good: Answer(good.body, headers=good.headers, drip=0.01))
    patient = Patience(**{**vars(FAST), "read": 60.0})
    with client_of(bucket, patient) as client:
        downloads = Downloads(client)
        downloads.prepare()

        def work(number: int, cancel: threading.Event) -> Any:
            if number == 0:
                until(lambda: len(bucket.ranges) == 1, "a download")
                time.sleep(0.1)
                raise KeyError("another fault of the same job")
            return downloads.get(FILE, cancel)

        began = time.monotonic()
        with pytest.raises(KeyError):
            list(in_order([0, 1], work, 2, client.cut))
        assert time.monotonic() - began < 60  # the file would take hours
        assert (downloads.folder / f"{FILE.name}.part").stat().st_size > 0  # what came of it stays


def test_what_waits_is_told_of() -> None:
    said: list[int] = []
    found = list(
        in_order([1, 2], lambda n, _: time.sleep(2.2 if n == 1 else 0) or n, 2, lambda _: None, lambda: said.append(1))
    )
    assert found == [1, 2] and said


KILLED = textwrap.dedent("""
    import sys
    from datetime import datetime
    from atft_assets.jquants.bulk import BulkFile, Downloads
    from atft_assets.jquants.client import JQuantsClient
    from atft_assets.settings import Plan
    url, key, name, modified, size = sys.argv[1:]
    with JQuantsClient(url, key, Plan.STANDARD, requests_per_minute=0) as client:
        downloads = Downloads(client)
        downloads.prepare()
        downloads.get(BulkFile(name, "2024-01", datetime.fromisoformat(modified), int(size)))
""")


def test_a_killed_download_is_taken_up(cache: Path) -> None:
    bucket = Bucket(
        fault=lambda number, good: Answer(good.body, headers=good.headers, drip=0.0005) if number == 1 else good
    )
    with client_of(bucket) as client:
        command = [sys.executable, "-c", KILLED, client.base_url, KEY, NAME, MODIFIED.isoformat(), str(len(DATA))]
        process = subprocess.Popen(command, env={**os.environ, "ATFT_CACHE": str(cache)})
        part = Downloads(client).folder / f"{FILE.name}.part"
        until(lambda: part.exists() and part.stat().st_size, "the beginning of the file", process=process)
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        there = part.stat().st_size
        assert 0 < there < len(DATA)
        assert got(client) == DATA
    assert bucket.ranges[1]["range"] == f"bytes={there}-" and len(bucket.ranges) == 2


def test_what_nobody_takes_up_goes_after_a_week() -> None:
    with client_of(Bucket()) as client:
        downloads = Downloads(client)
        downloads.prepare()
        left = downloads.folder / "0123.part"
        left.write_bytes(b"half")
        Downloads(client, clock=lambda: time.time() + 6 * 86_400).prepare()
        assert left.exists()
        Downloads(client, clock=lambda: time.time() + 8 * 86_400).prepare()
        assert not left.exists()


def test_a_note_that_is_damaged_costs_the_check_alone() -> None:
    bucket = Bucket(fault=first(lambda good: Answer(good.body, good.status, cut=70_000, headers=good.headers)))
    with client_of(bucket, Patience(**{**vars(FAST), "attempts": 1})) as client:
        with pytest.raises(ConnectionFault):
            got(client)
        note = Downloads(client).folder / f"{FILE.name}.json"
        assert json.loads(note.read_text())["md5"] == hashlib.md5(DATA).hexdigest()
        note.write_text("[half")
        assert got(client) == DATA
    assert bucket.ranges[1] == {"range": "bytes=70000-"}


def test_a_cache_that_cannot_be_written_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("no folder")
    monkeypatch.setenv("ATFT_CACHE", str(tmp_path / "file" / "cache"))
    with client_of(Bucket()) as client, pytest.raises(DiskFault, match="set ATFT_CACHE to another folder"):
        got(client)
