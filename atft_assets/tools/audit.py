"""Is a vulnerability known in a package that is pinned? `make audit`, or `python -m atft_assets.tools.audit`.

pip-audit asks the database of PyPI. By itself it ends with 0 and "No known vulnerabilities found" where it could look
up nothing at all; with --strict it stops at the first package that it could not look up, and tells of no other. So its
list is judged here: every pin must be in it, at its version, looked up. A release with old, famous holes is asked about
along with them: a service that knows none in it (a mirror that leaves them out) is not believed.

Exit codes: 0 every pin was looked up and none is vulnerable; 1 a vulnerability is known; 2 not every pin was looked up.
"""

import argparse
import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

PINS = Path("constraints.txt")
COMMAND = (sys.executable, "-m", "pip_audit")
OPTIONS = ("--no-deps", "--disable-pip", "--progress-spinner", "off", "--format", "json")
SECONDS = 900
KNOWN_BAD = ("django", "2.2")  # none of ours; PyPI knows dozens of holes in it
SHOWN = 10  # reasons, of which mostly one is all


class AuditError(Exception):
    """Nothing can be said: no pins, no pip-audit, or an answer that is none."""


@dataclass(frozen=True)
class Hole:
    """A known vulnerability of a pin."""

    package: str
    version: str
    known_as: str
    fixed_in: tuple[str, ...]


@dataclass
class Audit:
    """What was found out.

    Attributes:
        looked_up: names of pins of which the database told.
        missed: pins of which it did not, and why.
    """

    looked_up: set[str] = field(default_factory=set)
    missed: dict[str, str] = field(default_factory=dict)
    holes: list[Hole] = field(default_factory=list)

    @property
    def code(self) -> int:
        return 1 if self.holes else 2 if self.missed or not self.looked_up else 0


def canonical(name: str) -> str:
    """A distribution's name as indexes compare it (PEP 503)."""
    return re.sub(r"[-_.]+", "-", name).lower()


def read_pins(path: Path) -> dict[str, str]:
    """Version by canonical name.

    Raises:
        AuditError: the file cannot be read, or a line pins nothing.
    """
    try:
        lines = [line.partition("#")[0].strip() for line in path.read_text().splitlines()]
    except OSError as error:
        raise AuditError(f"{path} cannot be read ({error.strerror}): give the file of pins by --pins") from error
    pins = {}
    for line in filter(None, lines):
        found = re.fullmatch(r"([A-Za-z0-9][\w.-]*)==([\w.!+-]+)", line)
        if not found:
            raise AuditError(f"{path} has the line {line!r}, which pins no version: write name==version")
        pins[canonical(found[1])] = found[2]
    if not pins:
        raise AuditError(f"{path} pins nothing, so there is nothing to look up")
    return pins


def ask(pins: Mapping[str, str], command: Sequence[str] = COMMAND) -> dict[str, dict[str, Any]]:
    """What pip-audit says of each package, by canonical name.

    Args:
        command: starts pip-audit.

    Raises:
        AuditError: it did not start, took too long, or printed no list of packages.
    """
    with tempfile.TemporaryDirectory(prefix="atft-audit-") as folder:
        asked = Path(folder, "pins.txt")
        asked.write_text("".join(f"{name}=={version}\n" for name, version in pins.items()))
        try:
            done = subprocess.run(
                [*command, *OPTIONS, "--requirement", str(asked)],
                capture_output=True, text=True, check=False, timeout=SECONDS,
            )  # fmt: skip
        except subprocess.TimeoutExpired as error:
            raise AuditError(f"pip-audit did not end within {SECONDS} s: is the network slow, or half shut?") from error
        except OSError as error:
            raise AuditError(f"{command[0]} cannot be started ({error.strerror})") from error
    if "No module named pip_audit" in done.stderr:
        raise AuditError("pip-audit is not installed: .venv/bin/pip install -c constraints.txt -e '.[deploy]'")
    try:
        return {canonical(one["name"]): one for one in json.loads(done.stdout)["dependencies"]}
    except (ValueError, KeyError, TypeError) as error:
        said = " ".join(done.stderr.strip().splitlines()[-3:]) or "nothing"
        raise AuditError(f"pip-audit ended with {done.returncode} and gave no list; it said: {said}") from error


def judge(pins: Mapping[str, str], told: Mapping[str, Mapping[str, Any]]) -> Audit:
    """Hold the list against the pins."""
    audit = Audit()
    for name, version in pins.items():
        one = told.get(name)
        if one is None:
            audit.missed[name] = "pip-audit left it out"
        elif "skip_reason" in one:
            audit.missed[name] = str(one["skip_reason"])
        elif one.get("version") != version:
            audit.missed[name] = f"pip-audit looked up {one.get('version')}, pinned is {version}"
        elif not isinstance(one.get("vulns"), list):
            audit.missed[name] = "pip-audit tells of no vulnerabilities, not even that there is none"
        else:
            audit.looked_up.add(name)
            audit.holes += [
                Hole(name, version, str(hole.get("id")), tuple(hole.get("fix_versions", ()))) for hole in one["vulns"]
            ]
    return audit


def audited(pins: Mapping[str, str], command: Sequence[str] = COMMAND) -> Audit:
    """Ask about the pins and a release that must be found bad.

    Raises:
        AuditError: as `ask`.
    """
    name, version = KNOWN_BAD
    told = ask({name: version, **pins}, command)
    audit = judge(pins, told)
    if audit.looked_up and name not in pins and not judge({name: version}, told).holes:
        why = f"not believed: the service knows no vulnerability of {name} {version} either"
        audit.missed |= dict.fromkeys(sorted(audit.looked_up), why)
    return audit


def report(audit: Audit, pins: Mapping[str, str]) -> None:
    """Print it: what is vulnerable, what was not looked up, and the verdict."""
    for hole in audit.holes:
        fixed = ", ".join(hole.fixed_in) or "no release yet"
        print(f"VULNERABLE  {hole.package} {hole.version}  {hole.known_as}  fixed in: {fixed}")
    for name, why in list(audit.missed.items())[:SHOWN]:
        print(f"NOT LOOKED UP  {name} {pins[name]}  {why}")
    if len(audit.missed) > SHOWN:
        print(f"NOT LOOKED UP  and {len(audit.missed) - SHOWN} more")
    if audit.missed:
        print(
            f"audit: NOT DONE: {len(audit.missed)} of {len(pins)} pinned packages were not looked up, so nothing is "
            "known of them. Run it where PyPI's own service is reached; an index or mirror of your own may not know "
            "vulnerabilities."
        )
    if audit.holes:
        packages = {hole.package for hole in audit.holes}
        print(
            f"audit: {len(audit.holes)} known vulnerabilities in {len(packages)} of {len(pins)} pinned packages: "
            f"move their pins in {PINS} (its first lines say how)."
        )
    if audit.code == 0:
        print(f"audit: all {len(pins)} pinned packages were looked up, and no vulnerability is known in any.")


def main(argv: Sequence[str] | None = None, command: Sequence[str] = COMMAND) -> int:
    """Audit the pins; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m atft_assets.tools.audit", description=(__doc__ or "").split("\n")[0]
    )
    parser.add_argument("--pins", type=Path, default=PINS, help=f"file of name==version (default: {PINS})")
    arguments = parser.parse_args(argv)
    try:
        pins = read_pins(arguments.pins)
        audit = audited(pins, command)
    except AuditError as error:
        print(f"audit: NOT DONE: {error}")
        return 2
    report(audit, pins)
    return audit.code


if __name__ == "__main__":
    sys.exit(main())
