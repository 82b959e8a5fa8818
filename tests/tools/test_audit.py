"""`make audit` is green only if every pin was looked up; pip-audit itself is played by a script, and asked once."""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from atft_assets.tools.audit import KNOWN_BAD, AuditError, ask, audited, judge, main, read_pins

REPOSITORY = Path(__file__).parents[2]
HOLE = {"id": "PYSEC-2030-1", "fix_versions": ["2.1", "3.0"], "aliases": []}
BAD = {"name": "Django", "version": KNOWN_BAD[1], "vulns": [HOLE]}
ONE = {"name": "one", "version": "1.0", "vulns": []}
TWO = {"name": "two-words", "version": "2.0", "vulns": []}
ABSENT = "Dependency not found on PyPI and could not be audited: two-words (2.0)"

Run = Callable[..., tuple[int, str]]


@pytest.fixture
def run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Run:
    """Exit code and words of an audit of two pins, where pip-audit prints this and ends with that."""

    def run(*dependencies: dict[str, Any], text: str = "", code: int = 0, error: str = "") -> tuple[int, str]:
        said = text or json.dumps({"dependencies": dependencies, "fixes": []})
        (tmp_path / "pip_audit.py").write_text(
            "import pathlib, sys\n"
            f"pathlib.Path({str(tmp_path / 'asked')!r}).write_text(pathlib.Path(sys.argv[-1]).read_text())\n"
            f"print({said!r})\nsys.stderr.write({error!r})\nsys.exit({code})\n"
        )
        (tmp_path / "constraints.txt").write_text("# pins\none==1.0\nTwo_Words==2.0  # a remark\n\n")
        arguments = ["--pins", str(tmp_path / "constraints.txt")]
        ended = main(arguments, command=[sys.executable, str(tmp_path / "pip_audit.py")])
        return ended, capsys.readouterr().out

    return run


def test_it_is_green_if_every_pin_was_looked_up_and_none_is_vulnerable(run: Run, tmp_path: Path) -> None:
    assert run(BAD, ONE, TWO, code=1) == (
        0, "audit: all 2 pinned packages were looked up, and no vulnerability is known in any.\n",
    )  # fmt: skip
    assert (tmp_path / "asked").read_text() == "django==2.2\none==1.0\ntwo-words==2.0\n"


def test_what_is_vulnerable_is_named_with_the_release_that_mends_it(run: Run) -> None:
    unmended = {"id": "GHSA-x", "fix_versions": []}
    code, said = run(BAD, ONE, {**TWO, "vulns": [HOLE, unmended]}, code=1)
    assert code == 1
    assert "VULNERABLE  two-words 2.0  PYSEC-2030-1  fixed in: 2.1, 3.0\n" in said
    assert "VULNERABLE  two-words 2.0  GHSA-x  fixed in: no release yet\n" in said
    assert "2 known vulnerabilities in 1 of 2 pinned packages" in said


@pytest.mark.parametrize(
    ("dependencies", "why"),
    [
        ([BAD, ONE, {"name": "two-words", "skip_reason": ABSENT}], ABSENT),
        ([BAD, ONE], "pip-audit left it out"),
        ([BAD, ONE, {**TWO, "version": "2.0.1"}], "pip-audit looked up 2.0.1, pinned is 2.0"),
        ([BAD, ONE, {"name": "two-words", "version": "2.0"}], "not even that there is none"),
        ([BAD, ONE, {**TWO, "vulns": None}], "not even that there is none"),
        ([{**BAD, "vulns": []}, ONE, TWO], "knows no vulnerability of django 2.2 either"),
        ([{"name": "django", "skip_reason": "absent"}, ONE, TWO], "knows no vulnerability of django 2.2 either"),
        ([ONE, TWO], "knows no vulnerability of django 2.2 either"),
        ([], "pip-audit left it out"),
    ],
)
@pytest.mark.parametrize("pip_audits_code", [0, 1])
def test_what_was_not_looked_up_is_said_loudly(
    run: Run, dependencies: list[dict[str, Any]], why: str, pip_audits_code: int
) -> None:
    code, said = run(*dependencies, code=pip_audits_code)
    assert code == 2 and "NOT LOOKED UP  two-words 2.0" in said and why in said and "audit: NOT DONE" in said
    assert "no vulnerability is known in any" not in said


def test_a_vulnerable_one_beside_one_that_was_not_looked_up_is_both(run: Run) -> None:
    code, said = run(BAD, {**ONE, "vulns": [HOLE]}, {"name": "two-words", "skip_reason": ABSENT})
    assert code == 1 and "VULNERABLE  one 1.0" in said and "NOT LOOKED UP  two-words 2.0" in said


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        ({"text": "<html>no gateway</html>"}, "gave no list"),
        ({"text": '{"dependencies": 3}'}, "gave no list"),
        ({"text": " ", "code": 1, "error": "ConnectionError: name not known\n"}, "ConnectionError: name not known"),
        ({"text": " ", "code": 1, "error": "No module named pip_audit\n"}, "is not installed"),
        ({"text": "cut off", "code": 3}, "ended with 3"),
    ],
)
def test_no_list_is_no_audit(run: Run, answer: dict[str, Any], why: str) -> None:
    code, said = run(**answer)
    assert code == 2 and said.startswith("audit: NOT DONE") and why in said


def test_no_program_and_no_time_are_no_audit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(AuditError, match="cannot be started"):
        ask({"one": "1"}, [str(tmp_path / "nothing")])
    monkeypatch.setattr("atft_assets.tools.audit.SECONDS", 0.5)
    with pytest.raises(AuditError, match=r"did not end within 0\.5 s"):
        ask({"one": "1"}, [sys.executable, "-c", "import time; time.sleep(60)"])


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("one>=1\n", "pins no version"),
        ("-r other.txt\n", "pins no version"),
        ("# none\n", "pins nothing"),
        (None, "cannot be read"),
    ],
)
def test_a_file_without_pins_is_no_audit(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str | None, why: str
) -> None:
    if text is not None:
        (tmp_path / "pins").write_text(text)
    assert main(["--pins", str(tmp_path / "pins")]) == 2
    assert why in capsys.readouterr().out


def test_every_line_of_our_pins_is_one() -> None:
    text = (REPOSITORY / "constraints.txt").read_text()
    assert len(read_pins(REPOSITORY / "constraints.txt")) == text.count("==") > 100
    assert KNOWN_BAD[0] not in read_pins(REPOSITORY / "constraints.txt")


NAMES = ("a", "b", "c")


@given(
    st.dictionaries(st.sampled_from(NAMES), st.sampled_from(["1", "2"]), min_size=1),
    st.lists(
        st.one_of(
            st.fixed_dictionaries({"name": st.sampled_from(NAMES), "skip_reason": st.text()}),
            st.fixed_dictionaries(
                {"name": st.sampled_from(NAMES), "version": st.sampled_from(["1", "2"])},
                optional={"vulns": st.sampled_from([None, [], [HOLE]])},
            ),
        )
    ),
)
def test_green_means_looked_up_whatever_is_answered(pins: dict[str, str], told: list[dict[str, Any]]) -> None:
    audit = judge(pins, {one["name"]: one for one in told})
    if audit.code == 0:
        for name, version in pins.items():
            assert {"name": name, "version": version, "vulns": []} in told
    assert audit.looked_up | set(audit.missed) == set(pins) and not audit.looked_up & set(audit.missed)


@pytest.mark.deploy
@pytest.mark.slow
def test_the_real_one_is_not_green_for_a_release_that_does_not_exist() -> None:
    """Wherever it runs: with PyPI in reach it is not found, and without it nothing is."""
    pytest.importorskip("pip_audit", reason="the extra `deploy` is not installed")
    audit = audited({"six": "999.9"})
    assert audit.code == 2 and set(audit.missed) == {"six"} and audit.holes == []
