"""The block that ends a failed command: its words, and real commands whose last lines it is."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from atft_assets import closing_words
from atft_assets.closing_words import AGAIN, CORRECT, Note, block, note, note_interrupt, note_of, say, words_of
from atft_assets.failures import PermanentFailure, permanent
from atft_model.interchange.errors import RunError

RULE = "─" * 60
OURS = ("-m", "atft_assets.definitions")

STRUCK = """
import os, signal, threading, time
import dagster as dg
from atft_assets.closing_words import refused_at_load

def strike():
    os.kill(os.getpid(), signal.{signal})

@dg.asset
def first():
    strike() if {inside} else threading.Timer(0.005, strike).start()

@dg.asset(deps=[first])
def second():
    time.sleep(60)

with refused_at_load():
    defs = dg.Definitions([first, second], executor=dg.in_process_executor)
"""


@pytest.fixture(autouse=True)
def nothing_noted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(closing_words, "_notes", [])


@pytest.mark.parametrize(
    ("sentence", "expected"),
    [
        ("train cannot start: no panel yet; run: make road", ("train cannot start", "no panel yet", "make road")),
        ("labels: it is gone: dagster asset list", ("labels failed", "it is gone", "dagster asset list")),
        ("a b: the file c is bad. Mend it; run: python -m x.y", ("a b", "the file c is bad. Mend it", "python -m x.y")),
        ("a b: use one of: free, light", ("a b", "use one of: free, light", AGAIN)),
        ("it went wrong", ("this command", "it went wrong", AGAIN)),
    ],
)
def test_a_sentence_is_taken_apart(sentence: str, expected: tuple[str, str, str]) -> None:
    found = note_of(sentence)
    assert (found.what, found.why, found.todo) == expected


def test_prose_is_broken_and_commands_are_not(capsys: pytest.CaptureFixture[str]) -> None:
    command = "dagster " + "x" * 200
    note(Note("it", "word " * 60, command, "here"))
    note(Note("it", "word " * 60, command, "here"))  # the same again
    say()
    lines = capsys.readouterr().err.strip().splitlines()
    assert lines[0] == lines[-1] == RULE
    assert [line[:9].strip() for line in lines[1:-1]] == ["what:", "why:", "", "", "where:", "do this:"]
    assert max(len(line) for line in lines[:-2]) <= 110 and lines[-2].endswith(command)
    say()
    assert capsys.readouterr().err == ""  # once


def test_many_failures_are_counted() -> None:
    text = block([Note(f"asset {n}", "why") for n in range(5)])
    assert "asset 2" in text and "asset 3" not in text and "and 2 more, see above" in text


def test_refusals_are_noted_and_whoever_knows_how_to_go_on_speaks_alone(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(PermanentFailure), permanent("train_phase1 cannot start"):
        raise RunError("no parent; run: make road")
    with pytest.raises(KeyboardInterrupt), permanent("train_phase1 cannot start"):
        note_interrupt("train_phase1", "resume it")
        raise KeyboardInterrupt
    say()
    said = capsys.readouterr().err
    assert "why:      no parent" in said and "do this:  make road" in said
    assert said.count("train_phase1 was interrupted") == 1 and "do this:  resume it" in said


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["/x/bin/dagster", "asset", "materialize", "--select", "a"], ("asset", "materialize")),
        (["/x/dagster/__main__.py", "job", "execute"], ("job", "execute")),
        (["/x/dagster", "dev"], ("dev",)),
        (["/x/pytest/__main__.py", "asset", "materialize"], None),
        (["-c"], None),
        ([], None),
    ],
)
def test_command_lines_of_dagster_are_known(arguments: list[str], words: tuple[str, ...] | None) -> None:
    assert words_of(arguments) == words


def ended(tmp_path: Path, *words: str, **exported: str) -> list[str]:
    """The rows of the block that is the last of a failed command's lines."""
    (tmp_path / "home").mkdir()
    environ = {k: v for k, v in os.environ.items() if not k.startswith(("JQUANTS_", "ATFT_", "DAGSTER_"))}
    environ |= {"DAGSTER_HOME": str(tmp_path / "home"), "ATFT_DATA": str(tmp_path / "data"), **exported}
    done = subprocess.run(
        [sys.executable, "-m", "dagster", *words],
        env=environ,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),  # as in a terminal
    )
    assert done.returncode == 1
    above, rows, below = done.stderr.rsplit(RULE, 2)
    assert above and below.strip() == "", done.stderr[-2000:]
    return rows.strip().splitlines()


def test_a_wrong_setting(tmp_path: Path) -> None:
    rows = ended(tmp_path, "asset", "materialize", *OURS, "--select", "topix", JQUANTS_PLAN="foo")
    assert rows[0] == "what:     the settings cannot be used"
    assert rows[1].startswith("why:      JQUANTS_PLAN is 'foo': use one of free")
    assert rows[-1] == f"do this:  {CORRECT}"


def test_a_step_that_refuses(tmp_path: Path) -> None:
    rows = ended(tmp_path, "job", "execute", *OURS, "-j", "train")
    what, why, run, root, todo = rows
    assert what == "what:     training_panel cannot be built"
    assert why == "why:      the table features/universe has not been published"
    assert run.startswith("where:    run ") and root.endswith(f"data root {tmp_path / 'data'}")
    assert todo == "do this:  dagster asset materialize --select universe"


@pytest.mark.parametrize(("name", "inside"), [("SIGINT", True), ("SIGTERM", False)])
def test_an_interrupt_wherever_it_strikes(tmp_path: Path, name: str, inside: bool) -> None:
    """In the middle of a step, and while Dagster is between two, where no code of ours runs."""
    (tmp_path / "defs.py").write_text(STRUCK.format(signal=name, inside=inside))
    rows = ended(tmp_path, "asset", "materialize", "-f", "defs.py", "--select", "*")
    assert rows[0] == "what:     the command was interrupted"
    assert rows[-1] == "do this:  run the same command again: it goes on"
