"""History as files: which months there are (`/bulk/list`), and one of them on this machine, whole and as it was sent.

A file comes in two steps: `/bulk/get` gives an address that is good for five minutes, and the address gives the file.
The address is a password for that file: it stands in no log and no message, and the key is not sent to it. What has
come of a file stays on this machine when the program ends, however it ends, and the next one goes on from there by a
range, as long as the service says that it is the same file. A file is taken only in the size that the list says and,
where the answer names its MD5, with that; its gzip carries a checksum of the contents, to which the reader holds them.

Files of a month that is over: `equities/bars/daily/historical/2025/equities_bars_daily_202501.csv.gz`, with the plan
before `historical` where a smaller plan does not have the month. `live` files, one a day of the newest weeks, repeat
what months hold and are not used: the API gives the same days.
"""

import contextlib
import fcntl
import hashlib
import json
import os
import random
import re
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import BinaryIO
from urllib.parse import urlsplit

from atft_assets.calendar import TOKYO, first_of_month, shift_month
from atft_assets.failures import Refusal
from atft_assets.jquants.client import JQuantsClient
from atft_assets.jquants.endpoint import Endpoint
from atft_assets.jquants.endpoints import BULK_GET, BULK_LIST
from atft_assets.jquants.errors import BadRequest, ConnectionFault, MalformedAnswer, ServerError, TransientError
from atft_assets.jquants.jobs import GIVEN_UP, Cancelled
from atft_assets.jquants.line import LineFault
from atft_assets.jquants.plans import covers
from atft_assets.settings import Plan, cache_folder

SMALLEST_PLAN = Plan.LIGHT
SLOWEST = 64 << 10  # bytes a second, below which a download is given up and taken up again
LONGEST = 4 << 30  # bytes of a file; the largest, a month of minute bars, are some hundred MiB
KEPT_SECONDS = 7 * 86_400.0  # that half a file waits for the run that takes it up
DAMAGED_TRIES = 3
LOCK_WAIT = 0.2

_KEY = re.compile(r"(?:(?P<plan>free|light|standard|premium)/)?historical/(?:\d{4}/)?[^/]*?(?P<month>\d{6})\.csv\.gz")


@dataclass(frozen=True)
class BulkFile:
    """A month of an endpoint as a file.

    Attributes:
        month: `YYYY-MM`.
        modified: when the service wrote it.
        size: bytes.
        plan: the plan that its key names, if it names one.
    """

    key: str
    month: str
    modified: datetime
    size: int
    plan: Plan | None = None

    @property
    def name(self) -> str:
        """A name for what is kept of it; a file that was written anew has another."""
        return hashlib.sha256(f"{self.key}|{self.modified.isoformat()}|{self.size}".encode()).hexdigest()[:24]


class AddressExpired(TransientError):
    """The signed address is no longer good; another is asked for."""


class FileDamaged(TransientError):
    """What came is not the file that the list names."""

    remedy = "The service may be writing it anew: run the same command later"


class DiskFault(Refusal):
    """The file cannot be written on this machine."""


def served(plan: Plan) -> bool:
    """Whether a plan has files."""
    return covers(plan, SMALLEST_PLAN)


def monthly_files(client: JQuantsClient, endpoint: Endpoint, months: Sequence[str]) -> dict[str, BulkFile]:
    """The files of whole months that the service has, by month; one request.

    Of two files of a month that is taken whose key names the client's plan, then the one that names none.

    Raises:
        PermanentError, TransientError: as `JQuantsClient.fetch`.
    """
    last = first_of_month(shift_month(max(months), 1)) - timedelta(days=1)
    query: dict[str, str | date] = {"endpoint": endpoint.path, "from": first_of_month(min(months)), "to": last}
    found: dict[str, BulkFile] = {}
    for record in client.fetch(BULK_LIST, query):
        file = _parsed(endpoint, record)
        if file and file.month in months:
            rivals = (found.get(file.month), file)
            found[file.month] = max(filter(None, rivals), key=lambda one: _preference(one, client.plan))
    return found


def _preference(file: BulkFile, plan: Plan) -> tuple[int, datetime]:
    return 2 if file.plan is plan else 1 if file.plan is None else 0, file.modified


def _parsed(endpoint: Endpoint, record: Mapping[str, object]) -> BulkFile | None:
    """A record of the list as a month's file; None for what is none, or cannot be understood."""
    key, size = str(record["Key"]), record["Size"]
    found = _KEY.fullmatch(key.removeprefix("/").removeprefix(f"{endpoint.path[1:]}/"))
    if not found or not isinstance(size, int | float) or not 0 < size <= LONGEST:
        return None
    month = f"{found['month'][:4]}-{found['month'][4:]}"
    try:
        modified = datetime.fromisoformat(str(record["LastModified"]))
        first_of_month(month)
    except ValueError:
        return None
    # without a zone it is read as Tokyo's, the earlier instant
    modified = modified if modified.tzinfo else modified.replace(tzinfo=TOKYO)
    return BulkFile(key, month, modified, int(size), Plan(found["plan"]) if found["plan"] else None)


@dataclass
class Downloads:
    """Files on this machine, below the user's cache: one folder a service.

    Attributes:
        client: asks for addresses and fetches from them.
        clock: seconds since the epoch.
        bytes: that have come.
    """

    client: JQuantsClient
    clock: Callable[[], float] = time.time
    bytes: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    @property
    def folder(self) -> Path:
        return cache_folder() / "bulk" / hashlib.sha256(self.client.base_url.encode()).hexdigest()[:12]

    def prepare(self) -> None:
        """Make the folder, readable by its user alone, and drop what nobody has taken up for a week.

        Raises:
            DiskFault: it cannot be made.
        """
        with _writing(self.folder):
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            for left in self.folder.iterdir():
                with contextlib.suppress(FileNotFoundError):
                    if self.clock() - left.stat().st_mtime > KEPT_SECONDS:
                        left.unlink()

    def get(self, file: BulkFile, cancel: threading.Event | None = None) -> BinaryIO:
        """The file, open at its beginning; it can be read until it is closed, whoever deletes it.

        What an earlier run has of it is not asked for again. Two runs that want the same file wait for one another.

        Raises:
            TransientError: it did not come, after every try.
            PermanentError: the service refused.
            DiskFault: it cannot be written.
            Cancelled: `cancel` was set.
        """
        whole = self.folder / f"{file.name}.csv.gz"
        with self._held(self.folder / f"{file.name}.part", whole, cancel) as part:
            if part is not None:
                self._fill(part, file, cancel)
                with _writing(whole):
                    part.flush()
                    os.fsync(part.fileno())
                    os.replace(part.name, whole)
                    self._note(file).unlink(missing_ok=True)
                part.seek(0)
                return os.fdopen(os.dup(part.fileno()), "rb")
        try:
            return whole.open("rb")
        except FileNotFoundError:  # another run was done with it just now
            return self.get(file, cancel)

    def forget(self, file: BulkFile) -> None:
        """Delete the file: its rows are kept elsewhere, or it is of no use."""
        for path in (self.folder / f"{file.name}.csv.gz", self.folder / f"{file.name}.part", self._note(file)):
            path.unlink(missing_ok=True)

    def tidy(self) -> None:
        """Take an empty folder away."""
        with contextlib.suppress(OSError):
            self.folder.rmdir()

    def _note(self, file: BulkFile) -> Path:
        """What the service said of the file whose beginning is there: its entity tag."""
        return self.folder / f"{file.name}.json"

    @contextlib.contextmanager
    def _held(self, path: Path, whole: Path, cancel: threading.Event | None) -> Iterator[BinaryIO | None]:
        """The beginning of a file, for this run alone; None if all of it is there."""
        while not whole.exists():
            with _writing(path):
                part = path.open("a+b")
            with part:
                if _locked(part):
                    # whoever held it before may have finished it, or have deleted it
                    if path.exists() and os.fstat(part.fileno()).st_ino == path.stat().st_ino:
                        yield part
                        return
                    continue
            self.client.waiter(cancel)(LOCK_WAIT)
        yield None

    def _fill(self, part: BinaryIO, file: BulkFile, cancel: threading.Event | None) -> None:
        """Fetch what is lacking of a file, as often as it takes while something comes."""
        patience, wait = self.client.patience, self.client.waiter(cancel)
        address, failures, damaged = "", 0, 0
        for _ in range(10 * patience.attempts):
            before, failure = _length(part), None
            address = address or self._address(file, cancel)  # which is tried with patience of its own
            try:
                self._rest(part, file, address, cancel)
                self._verify(part, file)
                return
            except TransientError as error:
                failure = error.with_traceback(None)
            if isinstance(failure, FileDamaged):
                damaged += 1
                with _writing(self.folder):
                    part.truncate(0)
                    self._note(file).unlink(missing_ok=True)
            failures = 1 if _length(part) > before else failures + 1
            if isinstance(failure, AddressExpired | FileDamaged):
                address = ""
            if failures >= patience.attempts or damaged >= DAMAGED_TRIES:
                break
            self.client.counters.add(retries=1)
            pause = min(patience.longest_wait, patience.first_wait * 2 ** (failures - 1))
            wait(pause + random.uniform(0, patience.first_wait))
        assert failure is not None  # the loop is left by it or by its end
        raise failure

    def _address(self, file: BulkFile, cancel: threading.Event | None) -> str:
        (answer,) = self.client.fetch(BULK_GET, {"key": file.key}, cancel=cancel)
        address = answer["url"]
        try:
            url = urlsplit(str(address))
            good = bool(url.hostname) and url.scheme in ("https", urlsplit(self.client.base_url).scheme)
        except ValueError:
            good = False
        if not good:  # not shown: it may be a good one in other clothes
            raise MalformedAnswer(BULK_GET.path, {"key": file.key}, "what it gives is not the address of a file")
        return str(address)

    def _rest(self, part: BinaryIO, file: BulkFile, address: str, cancel: threading.Event | None) -> None:
        """Append what the service has of the file beyond what is there."""
        start = _length(part)
        if start == file.size:
            return
        tag = self._tag(file) if start else ""
        headers = {"Range": f"bytes={start}-", **({"If-Range": tag} if tag else {})} if start else {}
        what = {"key": file.key}

        def take(status: int, about: Mapping[str, str], chunks: Iterator[bytes]) -> None:
            if status not in (200, 206):
                raise _refused(what, status, next(chunks, b""))
            if status == 200 or not about.get("Content-Range", "").startswith(f"bytes {start}-"):
                if status == 206:
                    raise FileDamaged(BULK_GET.path, what, "another part came than was asked for")
                with _writing(self.folder):
                    part.truncate(0)
            with _writing(self.folder):
                self._note(file).write_text(json.dumps({"tag": about.get("ETag", ""), "md5": _md5_of(about)}))
            for chunk in chunks:
                if cancel is not None and cancel.is_set():
                    raise Cancelled(GIVEN_UP)
                with _writing(self.folder):
                    part.write(chunk)
                with self._lock:
                    self.bytes += len(chunk)
                self.client.counters.add(bytes=len(chunk))
                if part.tell() > file.size:
                    raise FileDamaged(BULK_GET.path, what, f"more came than the {file.size:,} bytes of the list")

        seconds = self.client.patience.whole + (file.size - start) / SLOWEST
        try:
            self.client.stream(address, headers, take, seconds, cancel)
        except LineFault as error:
            said, remedy, fatal = str(error), error.remedy, error.permanent
        else:
            return
        finally:
            with _writing(self.folder):
                part.flush()
        if fatal:  # no request could be made of the address
            raise MalformedAnswer(BULK_GET.path, what, "what it gives is not the address of a file")
        raise ConnectionFault(BULK_GET.path, what, f"the download: {said}", remedy)

    def _tag(self, file: BulkFile) -> str:
        return self._noted(file).get("tag", "")

    def _noted(self, file: BulkFile) -> dict[str, str]:
        try:
            noted = json.loads(self._note(file).read_bytes())
            return {str(name): str(value) for name, value in noted.items()}
        except (OSError, ValueError, AttributeError):
            return {}

    def _verify(self, part: BinaryIO, file: BulkFile) -> None:
        what = {"key": file.key}
        if _length(part) != file.size:
            said = f"{_length(part):,} bytes came, the list says {file.size:,}"
            raise FileDamaged(BULK_GET.path, what, said)
        if wanted := self._noted(file).get("md5"):
            digest = hashlib.md5(usedforsecurity=False)
            part.seek(0)
            while chunk := part.read(1 << 20):
                digest.update(chunk)
            if digest.hexdigest() != wanted:
                raise FileDamaged(BULK_GET.path, what, "its MD5 is not the one that the service says")


def _md5_of(about: Mapping[str, str]) -> str:
    """The MD5 that an answer names: S3's entity tag is one unless the file came in parts or is encrypted by a key."""
    tag = about.get("ETag", "").strip('"').lower()
    keyed = about.get("x-amz-server-side-encryption", "AES256") != "AES256"
    return tag if re.fullmatch(r"[0-9a-f]{32}", tag) and not keyed else ""


def _refused(what: Mapping[str, str], status: int, body: bytes) -> TransientError | BadRequest:
    """The error of an answer that is no file. Of its body only the code is shown: S3 repeats signatures there."""
    code = re.search(rb"<Code>([A-Za-z]{1,40})</Code>", body)
    said = f"the download: HTTP {status}" + (f" {code[1].decode()}" if code else "")
    if status in (400, 401, 403):
        return AddressExpired(BULK_GET.path, what, said, "Is this machine's clock right? Else run it later")
    if status == 416:
        return FileDamaged(BULK_GET.path, what, f"{said}: what is here is longer than the file")
    if status in (408, 429) or status >= 500:
        return ServerError(BULK_GET.path, what, said)
    return BadRequest(BULK_GET.path, what, said)


def _length(part: BinaryIO) -> int:
    return part.seek(0, os.SEEK_END)


def _locked(part: BinaryIO) -> bool:
    """Take the file for this process; the kernel gives it back when the process ends, however it ends."""
    try:
        fcntl.flock(part, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


@contextlib.contextmanager
def _writing(path: Path) -> Iterator[None]:
    """A disk that cannot be written is not a fault of the network, and is told.

    Raises:
        DiskFault
    """
    try:
        yield
    except OSError as error:
        raise DiskFault(
            f"{path} cannot be written ({error.strerror}): files of history are kept there while they come. Make room, "
            "or set ATFT_CACHE to another folder"
        ) from None
