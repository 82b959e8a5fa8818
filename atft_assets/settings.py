"""What a person may export: the only module that reads the environment.

Every setting has a default; with nothing exported the platform runs on the embedded sandbox. The key itself is looked
at here, not held: the J-Quants resource takes it through `dg.EnvVar`, so that it never stands in a config, a log or a
repr.
"""

import os
import re
from collections.abc import Mapping
from datetime import date, timedelta
from enum import StrEnum
from pathlib import Path
from urllib.parse import parse_qsl, unquote, urlsplit

from pydantic import BaseModel, ConfigDict

from atft_assets.fold_years import FoldYears, WalkForward

KEY_VARIABLE = "JQUANTS_API_KEY"
SANDBOX_KEY_VARIABLE = "ATFT_SANDBOX_KEY"
ALERT_URLS_VARIABLE = "ATFT_ALERT_URLS"
CACHE_VARIABLE = "ATFT_CACHE"
WALK_FORWARD_VARIABLE = "ATFT_WALK_FORWARD"
PG_URL_VARIABLE = "ATFT_PG_URL"
TRAININGS_VARIABLE = "ATFT_TRAININGS"
RAY_URL_VARIABLE = "ATFT_RAY_URL"
PLAIN_SECRETS = ("PGPASSWORD", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "RAY_AUTH_TOKEN")  # of clients we use
SHORTEST_SECRET = 6  # shorter pieces of an address are words ("json", "chat"), and masking them would eat sentences

JQUANTS_URL = "https://api.jquants.com/v2"
DEMO_START, DEMO_END = date(2022, 1, 4), date(2025, 9, 30)


class Plan(StrEnum):
    """J-Quants subscription plans, cheapest first (https://jpx-jquants.com, data plans)."""

    FREE = "free"
    LIGHT = "light"
    STANDARD = "standard"
    PREMIUM = "premium"


HISTORY_YEARS = {Plan.FREE: 2, Plan.LIGHT: 5, Plan.STANDARD: 10, Plan.PREMIUM: 20}
FREE_DELAY = timedelta(weeks=12)


class SettingsError(ValueError):
    """A setting that cannot be used; the text names the variable, its value (never a key's) and what is accepted."""


class RayTask(BaseModel):
    """What a training takes of a host."""

    model_config = ConfigDict(frozen=True)

    cpus: int = 1
    gpus: float = 0.0


class Settings(BaseModel):
    """The settings of one process, read once from the environment.

    Attributes:
        base_url: where J-Quants answers; None means the sandbox that a run starts itself.
        plan: rate limit, history window and gated endpoints.
        data_root: absolute path or bucket URL of tables, panels and runs.
        start, end: first and last date of the months that exist as partitions; `end` None means "up to today".
        walk_forward: which years the folds test, and how the days before them are divided.
        alert_urls: where alerts go, in Apprise's notation; none means the alert log alone.
        trainings: how many trainings of one step run at a time on this machine.
        lock_folder: where the locks of this machine's GPUs stand; empty means its temporary folder.
        ray_url: where Ray's Jobs API answers; None means that trainings run on this machine.
        ray_task: what a training takes of a host of that cluster.
        ray_token_path: file with the token of that API; empty where it asks for none.
        has_key: a key was exported.
        empty_key: the key's variable was exported with nothing in it, as a secret that did not arrive leaves it.
    """

    model_config = ConfigDict(frozen=True)

    base_url: str | None
    plan: Plan
    data_root: str
    start: date
    end: date | None
    walk_forward: WalkForward = WalkForward()
    alert_urls: tuple[str, ...] = ()
    trainings: int = 1
    lock_folder: str = ""
    ray_url: str | None = None
    ray_token_path: str = ""
    ray_task: RayTask = RayTask()
    has_key: bool = False
    empty_key: bool = False

    @property
    def sandbox(self) -> bool:
        """True when neither a key nor a base URL was exported."""
        return self.base_url is None

    @property
    def fans_out(self) -> bool:
        """True where one step may train more than one network at a time."""
        return self.trainings > 1 or self.ray_url is not None

    def fold_years(self, today: date | None = None) -> tuple[FoldYears, ...]:
        """The folds of the walk-forward, the earliest first."""
        return self.walk_forward.folds(self.start, self.end, today or date.today())

    @classmethod
    def from_env(cls, environ: Mapping[str, str] | None = None, today: date | None = None) -> "Settings":
        """Read the settings; an empty variable counts as absent.

        Raises:
            SettingsError: a variable holds what cannot be used.
        """
        exported = os.environ if environ is None else environ
        given = {k: v.strip() for k, v in exported.items() if v.strip()}
        has_key = bool(clean_key(exported.get(KEY_VARIABLE, "")))
        today = today or date.today()
        base_url = _address(given, "JQUANTS_BASE_URL", JQUANTS_URL) or (JQUANTS_URL if has_key else None)
        sandbox = base_url is None
        plan = _plan(given.get("JQUANTS_PLAN"), default=Plan.STANDARD if sandbox else Plan.LIGHT)
        end = _date(given, "ATFT_END") or (DEMO_END if sandbox else None)
        if plan is Plan.FREE and not sandbox:
            end = min(end or today, today - FREE_DELAY)
        start = _date(given, "ATFT_START") or (DEMO_START if sandbox else _window_start(plan, today))
        if end and start > end:
            raise SettingsError(f"ATFT_START ({start}) is after ATFT_END ({end}): exchange them or drop one")
        return cls(
            base_url=base_url.rstrip("/") if base_url else None,
            plan=plan,
            data_root=data_root_of(exported),
            start=start,
            end=end,
            walk_forward=_walk_forward(given.get(WALK_FORWARD_VARIABLE, "")),
            trainings=_trainings(given),
            lock_folder=lock_folder_of(exported),
            ray_url=_ray_url(given),
            ray_token_path=given.get("ATFT_RAY_TOKEN_PATH", ""),
            ray_task=_ray_task(given.get("ATFT_RAY_TASK", "")),
            alert_urls=tuple(given.get(ALERT_URLS_VARIABLE, "").split()),
            has_key=has_key,
            empty_key=KEY_VARIABLE in exported and not has_key,
        )


def cache_folder(environ: Mapping[str, str] | None = None) -> Path:
    """Where this machine keeps what it fetched from a bucket: ATFT_CACHE, else below the user's cache folder."""
    exported = os.environ if environ is None else environ
    given = exported.get(CACHE_VARIABLE, "").strip()
    base = exported.get("XDG_CACHE_HOME", "").strip()
    return Path(given).expanduser() if given else (Path(base) if base else Path.home() / ".cache") / "atft"


def clean_key(text: str, variable: str = KEY_VARIABLE) -> str:
    """A key as it may stand in a header: blanks and line ends around it are dropped; empty where there is none.

    Raises:
        SettingsError: it could not be sent. The text names the variable and what is wrong, never the value.
    """
    key = text.strip()
    wrong = [
        (not key.isascii(), "a letter outside ASCII"),
        (any(c in key for c in "\r\n"), "a line break inside it"),
        (re.search(r"[^\S\r\n]", key), "a blank inside it"),
        (re.search(r"[\x00-\x08\x0e-\x1b\x7f]", key), "a control character"),
    ]
    if found := [what for is_so, what in wrong if is_so]:
        raise SettingsError(
            f"{variable} has {' and '.join(found)} ({len(key)} characters; the value is not shown), so it cannot be "
            "the key: copy it again from where it was issued, without quotes, and export it alone"
        )
    return key


def secrets(environ: Mapping[str, str] | None = None) -> list[str]:
    """The secrets that this process was given, longest first: keys, passwords, and what addresses hold of passwords and
    tokens. For whoever must keep them out of a text."""
    exported = os.environ if environ is None else environ
    found = {exported.get(name, "") for name in (KEY_VARIABLE, SANDBOX_KEY_VARIABLE, *PLAIN_SECRETS)}
    for url in exported.get(ALERT_URLS_VARIABLE, "").split():
        found |= _parts_of(url)
    base = urlsplit(exported.get("JQUANTS_BASE_URL", "").strip())
    found |= {base.username or "", base.password or "", *(value for _, value in parse_qsl(base.query))}
    found |= _password_of(exported.get(PG_URL_VARIABLE, ""))
    found |= {secret.strip() for secret in found}
    return sorted((one for one in found if len(one) >= SHORTEST_SECRET), key=len, reverse=True)


def _parts_of(url: str) -> set[str]:
    """Whatever of an alert address may be a token: Apprise puts them into every part, the host's place included."""
    try:
        parts = urlsplit(url)
        password = parts.password or ""
    except ValueError:
        return {url}
    host = "" if "." in parts.netloc or "localhost" in parts.netloc else parts.netloc
    pieces = [host, *parts.path.split("/"), parts.fragment, *(value for _, value in parse_qsl(parts.query))]
    # a piece of small letters alone is a word of the address ("services", "webhook")
    return {url, parts.username or "", password} | {one for one in pieces if not (one.isalpha() and one.islower())}


def _password_of(url: str) -> set[str]:
    """The password in a database's address, as it is written there and as it is meant."""
    written = re.match(r"[\w+]+://[^:@/]*:([^@]*)@", url.strip())
    return {written[1], unquote(written[1])} if written else set()


def _trainings(given: Mapping[str, str]) -> int:
    text = given.get(TRAININGS_VARIABLE, "1")
    if not re.fullmatch(r"[1-9]\d{0,2}", text):
        raise SettingsError(f"{TRAININGS_VARIABLE} is {text!r}: use a whole number of trainings at a time, from 1 on")
    return int(text)


def _ray_url(given: Mapping[str, str]) -> str | None:
    url = _address(given, RAY_URL_VARIABLE, "http://head:8265")
    if url and "@" in urlsplit(url).netloc:  # not shown: it holds a password
        raise SettingsError(
            f"{RAY_URL_VARIABLE} holds a password, which would stand in messages: Ray asks for a token instead, in the "
            "file that ATFT_RAY_TOKEN_PATH names"
        )
    return url.rstrip("/") if url else None


def _ray_task(text: str) -> RayTask:
    words = dict(word.partition("=")[::2] for word in text.split())
    cpus, gpus = words.pop("cpus", "1"), words.pop("gpus", "0")
    if words or not re.fullmatch(r"[1-9]\d{0,2}", cpus) or not re.fullmatch(r"\d|0?\.\d+", gpus):
        raise SettingsError(f"ATFT_RAY_TASK is {text!r}: use words such as cpus=4 gpus=1, both numbers of one host")
    return RayTask(cpus=int(cpus), gpus=float(gpus))


def _address(given: Mapping[str, str], name: str, example: str) -> str | None:
    text = given.get(name)
    try:
        parts = urlsplit(text or "")
        good = parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port or 1) > 0
    except ValueError:
        good = False
    if text and not good:  # not shown: it may hold a password
        raise SettingsError(f"{name} is not an address such as {example}: correct it, or unset it")
    return text


def _plan(text: str | None, default: Plan) -> Plan:
    if text is None:
        return default
    try:
        return Plan(text.lower())
    except ValueError:
        raise SettingsError(f"JQUANTS_PLAN is {text!r}: use one of {', '.join(Plan)}") from None


def _walk_forward(text: str) -> WalkForward:
    try:
        return WalkForward.parse(text)
    except ValueError as error:
        raise SettingsError(f"{WALK_FORWARD_VARIABLE} is {text!r}: {error}") from None


def _date(given: Mapping[str, str], name: str) -> date | None:
    if name not in given:
        return None
    try:
        return date.fromisoformat(given[name])
    except ValueError:
        raise SettingsError(f"{name} is {given[name]!r}: use YYYY-MM-DD") from None


def plan_window(plan: Plan, today: date) -> tuple[date, date | None]:
    """First and last date that a plan covers today, in calendar days; None where it reaches to the newest data.

    Free ends twelve weeks ago and begins two years before that (https://jpx-jquants.com, data plans).
    """
    last = today - FREE_DELAY if plan is Plan.FREE else None
    return years_before(last or today, HISTORY_YEARS[plan]), last


def years_before(day: date, years: int) -> date:
    """The same calendar day some years earlier; 28 February for a 29th that the year lacks."""
    try:
        return day.replace(year=day.year - years)
    except ValueError:  # 29 February
        return day.replace(year=day.year - years, day=28)


def _window_start(plan: Plan, today: date) -> date:
    """First of the month after the plan's rolling left edge, so that the whole first month is covered."""
    edge, _ = plan_window(plan, today)
    return (edge.replace(day=1) + timedelta(days=32)).replace(day=1)


def lock_folder_of(environ: Mapping[str, str]) -> str:
    """Where the locks of this machine's GPUs stand: an absolute path; empty means its temporary folder."""
    text = environ.get("ATFT_LOCKS", "").strip()
    return str(Path(text).expanduser().resolve()) if text else ""


def data_root_of(environ: Mapping[str, str]) -> str:
    """The data root alone: an absolute path, or a bucket's address without a slash at its end."""
    text = environ.get("ATFT_DATA", "").strip() or "data"
    return text.rstrip("/") if "://" in text else str(Path(text).expanduser().resolve())
