"""The road in a terminal: `python -m atft_assets.tools.road`, which `make demo` and `make road` run.

Each step is the ordinary `dagster` command that a person could type; `--print-commands` shows them. This front only
starts them one after another, shows a line for each, and keeps Dagster's own words in a file. What is there already is
not fetched or built again by it, because the assets do not: begun again, the road goes on.
"""

import argparse
import re
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from types import FrameType
from typing import TextIO

from rich.console import Console
from rich.status import Status

from atft_assets.features.names import LABELS
from atft_assets.groups import MONTHLY
from atft_assets.operations.training_job import SELECTED
from atft_assets.partitions import months, runs_of
from atft_assets.reports import closing_table, feature_report, pages
from atft_assets.settings import Settings, SettingsError
from atft_assets.store import Store
from atft_assets.tools.forecast import forecast
from atft_assets.trading import daily_scores, orders, portfolio
from atft_assets.trading.backtest_asset import NAME as BACKTEST
from atft_assets.trading.orders_asset import newest_csv
from atft_model.interchange.disk import keep_private

WHOLE = (LABELS, feature_report.NAME, *SELECTED)  # what has no months: one run
EVENING = (daily_scores.NAME, portfolio.NAME, orders.NAME)
LOGS = "logs"
LOGS_KEPT = 20
LINES_SHOWN = 12
INTERRUPTED = 130

# 2026-11-26 00:05:24 +0000 - dagster - INFO - job - run - asset - what it says
LOGGED = re.compile(r"^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d \S+ - dagster - (?P<level>[A-Z]+) - (?P<rest>.*)$")
RUN_ID = re.compile(r"^.*?[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12} - ")
TOLD = re.compile(r"^phase \d .* finished: ")  # what stays on the screen of a step that is done


@dataclass(frozen=True)
class Step:
    """One command of the road.

    Attributes:
        title: what it does, for the screen.
        command: what a person would type.
        needed: what comes after needs it; else a failure is told, and the road goes on.
    """

    title: str
    command: tuple[str, ...]
    needed: bool = True

    def __str__(self) -> str:
        return shlex.join(self.command)


def steps(settings: Settings, months_per_run: int, config: str = "") -> list[Step]:
    """The commands of the road in order: the calendar, the months in ranges, what has no months in one run, and what
    the champion, who won the evaluation, says of the last evening, with the orders that follow and a back-test.
    """
    materialize = ("dagster", "asset", "materialize", "--select")
    keys = list(months(settings).get_partition_keys())
    ranges = runs_of(keys, months_per_run)
    last = (*materialize, ",".join(WHOLE))
    return [
        Step("trading calendar", (*materialize, "trading_calendar")),
        *(
            Step(
                f"raw data and features, {' to '.join(span.split('...'))}",
                (*materialize, MONTHLY, "--partition-range", span),
            )
            for span in ranges
        ),
        Step("panel, four phases, baselines, evaluation, report", (*last, *(("--config", config) if config else ()))),
        # of two months: on the first morning of a month the last evening lies in the month before
        Step(
            "scores and orders of the last evening",
            (*materialize, ",".join(EVENING), "--partition-range", runs_of(keys[-2:], 2)[0]),
            needed=False,
        ),
        # behind the evening, which chooses the first champion
        Step("back-test of what it says", (*materialize, BACKTEST), needed=False),
    ]


def heard(line: str) -> str:
    """What a line of Dagster's log says, without time, job and run; empty for what says nothing to a person."""
    found = LOGGED.match(line)
    return RUN_ID.sub("", found["rest"]).strip() if found else ""


class Walk:
    """Walks the steps and tells of them.

    Args:
        console: the screen; where it is no terminal, a line begins with a step and one ends it.
        log: takes everything that Dagster prints.
    """

    def __init__(self, console: Console, log: TextIO):
        self.console, self.log = console, log
        self.interrupted = False
        self._process: subprocess.Popen[str] | None = None

    def take(self, number: int, total: int, step: Step) -> int:
        """Run one step to its end; returns its exit code."""
        began, kept = time.monotonic(), ""
        name = f"[{number}/{total}] {step.title}"
        self.log.write(f"\n$ {step}\n")
        self.log.flush()
        with self._status(name) as status:
            for line in self._lines(step.command):
                self.log.write(line)
                self.log.flush()
                said = heard(line)
                _, _, message = said.partition(" - ")
                if TOLD.match(message):
                    kept += f"      {message.partition(' -> ')[0]}\n"
                if status is not None and said:
                    status.update(f"{name}  [dim]{said[: max(20, self.console.width - len(name) - 6)]}[/dim]")
        code = self._process.wait() if self._process else 1
        verdict = "" if code == 0 else ("  interrupted" if self.interrupted else "  failed")
        self.console.print(f"{name}  {duration(time.monotonic() - began)}{verdict}", highlight=False, markup=False)
        if kept:
            self.console.print(kept.rstrip(), highlight=False, markup=False)
        return code

    def interrupt(self, number: int, _: FrameType | None) -> None:
        """Hand an interrupt on to the step; Dagster ends the run and publishes nothing after."""
        self.interrupted = True
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(number)

    def _lines(self, command: Sequence[str]) -> Iterator[str]:
        # a session of its own: Ctrl-C reaches the step once, from here
        self._process = subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            start_new_session=True,
        )
        assert self._process.stdout is not None
        yield from self._process.stdout

    def _status(self, name: str) -> AbstractContextManager[Status | None]:
        """A line that moves, where there is a terminal."""
        return self.console.status(name, spinner="line") if self.console.is_terminal else nullcontext()


def duration(seconds: float) -> str:
    """Seconds for people."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s" if minutes else f"{rest} s"


def walk(settings: Settings, todo: Sequence[Step], console: Console, called: str) -> int:
    """Walk the road; returns the exit code of the command line: 1 also where only a step failed that none needs."""
    store, began, worst = Store(root=settings.data_root), time.monotonic(), 0
    path = _new_log(store)
    console.print(
        f"{called}: {len(todo)} steps, {forecast(settings, store)}. Dagster's own words: {path}", markup=False
    )
    with path.open("w", encoding="utf-8") as log:
        walker = Walk(console, log)
        for one in (signal.SIGINT, signal.SIGTERM):
            signal.signal(one, walker.interrupt)
        for number, step in enumerate(todo, 1):
            code = walker.take(number, len(todo), step)
            if code == 0 and not walker.interrupted:
                continue
            if walker.interrupted:
                console.print(f"\nInterrupted; nothing half-done was published. Run `{called}` again: it goes on.")
                return INTERRUPTED
            console.print(f"\n{last_words(path.read_text(encoding='utf-8'))}", markup=False, highlight=False)
            if step.needed:
                console.print(
                    f"\nAll of it: {path}. When that is mended, run `{called}` again: it goes on.", markup=False
                )
                return 1
            worst = 1
            console.print(f"\nAll of it: {path}. When that is mended, run: {step}\n", markup=False, highlight=False)
    console.print()
    if code := closing_table.main([]):
        return code
    console.print(f"\nTook {duration(time.monotonic() - began)}.", highlight=False)
    console.print("\nNext:\n" + "\n".join(f"  {command:<62}  # {what}" for command, what in NEXT), markup=False)
    console.print(f"\n{to_buy(store)}\n{way_in(store)}", markup=False, highlight=False)
    return worst


NEXT = (
    (". ./env.sh && python -m atft_assets.trading.today", "what the champion says of the next open day"),
    ("make ui", "what was built, in the browser"),
    (". ./env.sh && dagster asset materialize --select train_phase2", "train a phase anew"),
    (". ./env.sh && python examples/read_table.py", "the tables as frames"),
)


def to_buy(store: Store) -> str:
    """Where the orders of the last evening are."""
    path = newest_csv(store)
    if path is None:
        return "There are no orders yet: docs/how-to/trade.md says what they are made from."
    lines = len(path.read_text(encoding="utf-8-sig").splitlines()) - 1
    return f"Orders for the open of {path.stem}, {lines} of them, by the paper book: {path}"


def way_in(store: Store) -> str:
    """The last line: the page that leads to all others."""
    index = pages.write_index(pages.page_path(store, pages.INDEX).parent)  # also of a root that had none
    return f"What each model is worth, where and for how long, and everything else to read: open {index}"


def last_words(text: str) -> str:
    """The last lines of a failed step: Dagster's trace ends with our sentence."""
    return "\n".join(text.rstrip().splitlines()[-LINES_SHOWN:])


def _new_log(store: Store) -> Path:
    """A file for this walk; of older ones the newest are kept."""
    folder = store.local(LOGS)
    folder.mkdir(parents=True, exist_ok=True)
    for old in sorted(folder.glob("road-*.log"))[: -LOGS_KEPT + 1]:
        old.unlink(missing_ok=True)
    return folder / f"road-{datetime.now():%Y%m%dT%H%M%S}.log"


def main(arguments: list[str] | None = None) -> int:
    """The command line: 0 when the end was reached, 130 when it was interrupted."""
    parser = argparse.ArgumentParser(prog="python -m atft_assets.tools.road", description=__doc__)
    parser.add_argument("--months-per-run", type=int, default=12, metavar="N", help="months of a Dagster run")
    parser.add_argument("--config", default="", metavar="FILE", help="run config (YAML) of the last step")
    parser.add_argument("--called", default="make road", help="the command that a person typed, for the messages")
    parser.add_argument("--print-commands", action="store_true", help="only print the commands of the steps")
    given = parser.parse_args(arguments)
    console = Console(soft_wrap=True)
    try:
        settings = Settings.from_env()
        if given.months_per_run < 1:
            raise SettingsError(f"MONTHS_PER_RUN is {given.months_per_run}: a run needs one month at least")
        if given.config and not Path(given.config).is_file():
            raise SettingsError(f"CONFIG is {given.config}, which is no file: give the path of a YAML file")
        todo = steps(settings, given.months_per_run, given.config)
    except SettingsError as error:
        console.print(f"{given.called} cannot begin: {error}", markup=False, highlight=False)
        return 2
    if given.print_commands:
        for step in todo:
            print(step)
        return 0
    keep_private()
    return walk(settings, todo, console, given.called)


if __name__ == "__main__":
    sys.exit(main())
