"""Alerts: one line in the alert log for each, and a message to every target of `ATFT_ALERT_URLS`.

The alert log is written first and is also the memory: whether something was told already is read from its lines, so a
restart, a second process or a tick that died half way neither repeats nor forgets an alert. A target that cannot be
reached never breaks a sensor: its message waits in the outbox and is sent when the target answers again.
"""

import hashlib
import json
import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import dagster as dg
from filelock import FileLock, Timeout
from pydantic import Field, PrivateAttr
from tenacity import RetryError, Retrying, retry_if_result, stop_after_attempt, wait_exponential

from atft_assets.operations.masking import masked
from atft_assets.settings import ALERT_URLS_VARIABLE, secrets
from atft_model.interchange.disk import keep_private

LOG_NAME = "alerts.log"

logger = logging.getLogger(__name__)


class Severity(StrEnum):
    """How urgent an alert is; the values are Apprise's notification types."""

    INFO = "info"
    WARNING = "warning"
    FAILURE = "failure"


@dataclass(frozen=True)
class Alert:
    """What a person needs in order to act.

    Attributes:
        kind: the sensor's subject (schema_failure, data_warning, run_failure, disk_usage, data_freshness, late_table).
        fingerprint: equal for alerts that say the same; the repetition is held back.
        what: what failed, in one sentence.
        where: table, partition, column, step, volume …
        why: the cause.
        todo: the next step, with a command where there is one.
        run_id: the run in which it happened.
        rows: offending rows, as text.
        repeat_after: how long a repetition is held back; None means for ever.
    """

    kind: str
    fingerprint: str
    what: str
    where: Mapping[str, str]
    why: str
    todo: str
    severity: Severity = Severity.FAILURE
    run_id: str | None = None
    rows: Sequence[Mapping[str, Any]] = field(default_factory=tuple)
    repeat_after: timedelta | None = timedelta(hours=1)


@dataclass(frozen=True)
class Delivery:
    """What became of a message to one target.

    Attributes:
        target: its address without what may be secret in it.
        delivered: whether it took the message.
        why: what went wrong, masked; empty if nothing did.
    """

    target: str
    delivered: bool
    why: str = ""


class Alerts(dg.ConfigurableResource):
    """Where alerts go. Resource key: `alerts`.

    Raises nothing on delivery: what goes wrong is logged and kept for another try.
    """

    urls: str = Field(
        default="",
        repr=False,
        description="Apprise URLs, separated by blanks; they hold tokens, so they come from the environment",
        json_schema_extra={"dagster__is_secret": True},
    )
    log_file: str = Field(default="", description=f"The alert log; empty: {LOG_NAME} in Dagster's home")
    ui_url: str = Field(default="http://127.0.0.1:3000", description="Dagster's UI, for the links to runs")
    max_bytes: int = Field(default=1_000_000, gt=0, description="Size at which the log is rotated")
    keep: int = Field(default=4, ge=1, description="Rotated logs that are kept")
    attempts: int = Field(default=3, ge=1, description="Tries of a delivery before it waits in the outbox")
    first_wait: float = Field(default=0.5, ge=0, description="Seconds before the second try; doubles")
    outbox_hours: float = Field(default=24, gt=0, description="Age at which an undelivered message is dropped")

    _home: Path = PrivateAttr(default=Path("."))
    _silent: set[str] = PrivateAttr(default_factory=set)  # targets that failed in this tick: not waited for again

    def setup_for_execution(self, context: dg.InitResourceContext) -> None:
        """Learn Dagster's home: the log's place without `log_file`, and the second place if the first is full.

        What is written here is for this user alone.
        """
        keep_private()
        if context.instance is not None and not context.instance.is_ephemeral:
            self._home = Path(context.instance.root_directory)

    @property
    def log_path(self) -> Path:
        """The alert log."""
        return Path(self.log_file) if self.log_file else self._home / LOG_NAME

    def send(self, alert: Alert, now: datetime | None = None) -> bool:
        """Tell an alert once.

        Returns:
            True if it was told, False if the same was told within `repeat_after`.
        """
        now = now or datetime.now(UTC)
        record = self._record(alert, now)
        if not self._write(record, alert, now):
            return False
        self._flush_outbox(now)
        title, body = _message(record)
        for url in self._targets():
            if not self._reached(url, title, body, alert.severity):
                self._postpone(
                    [{"at": now.isoformat(), "to": _digest(url), "title": title, "body": body, "type": alert.severity}]
                )
        return True

    def deliver(self, alert: Alert, now: datetime | None = None) -> list[Delivery]:
        """Tell an alert as `send` does, and say of each target whether it took it; nothing waits in the outbox."""
        now = now or datetime.now(UTC)
        record = self._record(alert, now)
        self._write(record, alert, now)
        title, body = _message(record)
        return [self._deliver(url, title, body, alert.severity) for url in self._targets()]

    def told(self) -> Iterator[dict[str, Any]]:
        """The records of the alert log and its rotated predecessors, newest first."""
        for path in self._logs():
            try:
                lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
            except OSError:  # not there, or not readable: the other places still are
                continue
            for line in reversed(lines):
                try:
                    record = json.loads(line)
                except ValueError:
                    continue  # a line that a full disk cut short
                if isinstance(record, dict):
                    yield record

    def flush(self, now: datetime | None = None) -> None:
        """Try again what could not be delivered."""
        self._flush_outbox(now or datetime.now(UTC))

    def _record(self, alert: Alert, now: datetime) -> dict[str, Any]:
        record: dict[str, Any] = {
            "at": now.astimezone().isoformat(timespec="seconds"),
            "severity": alert.severity.value,
            "kind": alert.kind,
            "what": alert.what,
            "where": dict(alert.where),
            "why": alert.why,
            "todo": alert.todo,
        }
        if alert.rows:
            record["rows"] = [dict(row) for row in alert.rows]
        if alert.run_id:
            record["run"] = f"{self.ui_url.rstrip('/')}/runs/{alert.run_id}"
        return masked({**record, "fingerprint": alert.fingerprint})

    def _write(self, record: Mapping[str, Any], alert: Alert, now: datetime) -> bool:
        """Append the record unless it was told already; False if it was."""
        line = json.dumps(record, ensure_ascii=False, default=str) + "\n"
        for path in dict.fromkeys([self.log_path, self._home / LOG_NAME]):
            try:
                path.parent.mkdir(parents=True, exist_ok=True)
                with FileLock(f"{path}.lock", timeout=10):
                    if self._told_before(record["fingerprint"], alert.repeat_after, now):
                        return False
                    self._rotate(path)
                    with path.open("a", encoding="utf-8") as file:
                        file.write(line)
                return True
            except (OSError, Timeout) as error:  # a full or read-only disk is what some alerts are about
                logger.error("the alert log %s cannot be written (%s)", path, error)
        logger.error("alert without a log: %s", line)
        return True

    def _told_before(self, fingerprint: str, repeat_after: timedelta | None, now: datetime) -> bool:
        for record in self.told():
            if record.get("fingerprint") == fingerprint:
                return repeat_after is None or now - datetime.fromisoformat(record["at"]) < repeat_after
        return False

    def _logs(self) -> list[Path]:
        return [
            path if not n else path.with_name(f"{path.name}.{n}")
            for path in dict.fromkeys([self.log_path, self._home / LOG_NAME])
            for n in range(self.keep + 1)
        ]

    def _rotate(self, path: Path) -> None:
        if not path.exists() or path.stat().st_size < self.max_bytes:
            return
        for n in range(self.keep, 0, -1):
            older = path.with_name(f"{path.name}.{n}")
            newer = path.with_name(f"{path.name}.{n - 1}") if n > 1 else path
            if newer.exists():
                newer.replace(older)

    def _targets(self) -> list[str]:
        return self.urls.split()

    def _reached(self, url: str, title: str, body: str, severity: str, attempts: int | None = None) -> bool:
        """Deliver a message; a failure is logged, for nobody waits for the answer."""
        found = self._deliver(url, title, body, severity, attempts)
        if not found.delivered:
            logger.error("alert not delivered to %s (%s); it waits in %s", found.target, found.why, self._outbox)
        return found.delivered

    def _deliver(self, url: str, title: str, body: str, severity: str, attempts: int | None = None) -> Delivery:
        import apprise  # 0.4 s: paid by the first alert, not by the code location

        if url in self._silent:
            return Delivery(shown(url), False, "it did not answer a moment ago")
        messenger = apprise.Apprise()
        with apprise.LogCapture(level=logging.WARNING, fmt="%(message)s") as complaints:
            if not messenger.add(url):
                return Delivery(shown(url), False, f"Apprise does not understand this address in {ALERT_URLS_VARIABLE}")
            retrying = Retrying(
                stop=stop_after_attempt(attempts or self.attempts),
                wait=wait_exponential(self.first_wait, max=5),
                retry=retry_if_result(lambda sent: not sent),
            )
            try:
                retrying(messenger.notify, body=body, title=title, notify_type=severity)
                return Delivery(shown(url), True)
            except RetryError:
                self._silent.add(url)
                said = [line for line in complaints.getvalue().splitlines() if line.strip()]
                return Delivery(shown(url), False, _without(url, said[-1]) if said else "it did not take the message")

    @property
    def _outbox(self) -> Path:
        return self.log_path.with_name(self.log_path.name + ".outbox")

    def _postpone(self, messages: Iterable[Mapping[str, Any]]) -> None:
        try:
            with self._outbox.open("a", encoding="utf-8") as file:
                file.writelines(json.dumps(message, ensure_ascii=False) + "\n" for message in messages)
        except OSError as error:
            logger.error("an undelivered alert cannot be kept for another try (%s); it is in the alert log", error)

    def _flush_outbox(self, now: datetime) -> None:
        targets = {_digest(url): url for url in self._targets()}
        try:
            waiting = [json.loads(line) for line in self._outbox.read_text(encoding="utf-8").splitlines()]
            self._outbox.unlink()
        except (FileNotFoundError, NotADirectoryError):
            return
        except (OSError, ValueError) as error:
            logger.error("the outbox %s cannot be read (%s)", self._outbox, error)
            return
        fresh = [
            message
            for message in waiting
            if message["to"] in targets
            and now - datetime.fromisoformat(message["at"]) < timedelta(hours=self.outbox_hours)
        ]
        self._postpone(
            message
            for message in fresh
            if not self._reached(targets[message["to"]], message["title"], message["body"], message["type"], attempts=1)
        )


def alerts_resource(urls_given: bool, data_root: str) -> Alerts:
    """The resource of the settings.

    Args:
        urls_given: whether `ATFT_ALERT_URLS` is exported; it is named here, and read when an alert is sent.
        data_root: of the tables; the log stands there unless it is a bucket.
    """
    return Alerts(
        urls=dg.EnvVar(ALERT_URLS_VARIABLE) if urls_given else "",
        log_file="" if "://" in data_root else str(Path(data_root) / LOG_NAME),
    )


def shown(url: str) -> str:
    """A target that can be told from others, and nothing that may be a token: kind and host, as Apprise masks them."""
    import apprise

    messenger = apprise.Apprise()
    if not messenger.add(url):
        return f"{url.split(':')[0]}…"
    parts = urlsplit(messenger.urls(privacy=True)[0])
    host = parts.netloc.rpartition("@")[2]
    if "." not in host and "localhost" not in host:  # no host, but whatever stands in its place: a topic, say
        host = f"{host[:1]}…"
    return str(masked(f"{parts.scheme}://{host}/…"))


def _without(url: str, complaint: str) -> str:
    """What Apprise says of a target, without any piece of its address but kind and host: a topic is one word."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return "it did not take the message"
    host = parts.netloc if "." not in parts.netloc and "localhost" not in parts.netloc else ""
    values = [value for _, value in parse_qsl(parts.query)]
    pieces = {host, parts.username or "", parts.password or "", *parts.path.split("/"), parts.fragment, *values}
    known = sorted({*secrets(), *(piece for piece in pieces if len(piece) > 2)}, key=len, reverse=True)
    return str(masked(complaint, known))


def _message(record: Mapping[str, Any]) -> tuple[str, str]:
    """Title and body of a record's message."""
    return f"ATFT: {record['what']}", as_text(record)


def as_text(record: Mapping[str, Any]) -> str:
    """The message of a record, for a person's eyes."""
    lines = [record["what"], ""]
    lines += [f"{name}: {value}" for name, value in record["where"].items()]
    lines += [f"why: {record['why']}", f"what to do: {record['todo']}"]
    lines += ["  " + ", ".join(f"{k}={v}" for k, v in row.items()) for row in record.get("rows", [])]
    return "\n".join([*lines, *([f"run: {record['run']}"] if "run" in record else [])])


def _digest(url: str) -> str:
    return hashlib.sha256(url.encode()).hexdigest()[:12]
