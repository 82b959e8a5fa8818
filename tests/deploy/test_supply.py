"""The bill of materials: every distribution of the environment with its version, as CycloneDX that validates."""

import json
import re
import site
import subprocess
import sys
from importlib.metadata import distributions
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]

pytestmark = [pytest.mark.deploy, pytest.mark.slow]  # half a minute of computing


def canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def command() -> list[str]:
    """Words of the Makefile's recipe, for the interpreter that runs this, and without the name of its output."""
    recipe = re.search(r"^sbom:.*\n\t(.*)\n", (REPOSITORY / "Makefile").read_text(), re.M)
    assert recipe, "the Makefile has no sbom"
    words = recipe[1].replace("$(BIN)/python", sys.executable).split()
    at = words.index("-o")
    return words[:at] + words[at + 2 :]


@pytest.mark.machine
def test_it_lists_every_distribution_and_is_valid(tmp_path: Path) -> None:
    pytest.importorskip("cyclonedx_py", reason="the extra `deploy` is not installed: pip install -e '.[deploy]'")
    from cyclonedx.schema import SchemaVersion
    from cyclonedx.validation.json import JsonStrictValidator

    out = tmp_path / "sbom.json"
    done = subprocess.run(
        [*command(), "-o", str(out)], cwd=REPOSITORY, env={"PATH": "/usr/bin:/bin"}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    text = out.read_text()
    document = json.loads(text)
    assert document["bomFormat"] == "CycloneDX"
    listed = {(canonical(one["name"]), one["version"]) for one in document["components"]}
    # not of sys.path, to which Ray adds what it brings along once it is imported
    ours = distributions(path=site.getsitepackages())
    installed = {(canonical(one.metadata["Name"]), one.version) for one in ours}
    assert installed - listed <= {("atft", version) for name, version in installed if name == "atft"}
    assert document["metadata"]["component"]["name"] == "atft"
    assert {name for name, _ in listed} >= {"dagster", "polars", "lightgbm", "safetensors"}
    assert str(REPOSITORY) not in text, "a path of this machine"
    validator = JsonStrictValidator(SchemaVersion.from_version(document["specVersion"]))
    assert validator.validate_str(text) is None
    assert validator.validate_str(text.replace('"bomFormat"', '"bomFormt"')) is not None  # the control


def test_what_is_pinned_and_installed_is_of_that_version() -> None:
    """What the bill says of this environment is true of whoever installs by the pins."""
    pins = dict(re.findall(r"^([\w.-]+)==(\S+)$", (REPOSITORY / "constraints.txt").read_text(), re.M))
    pinned = {canonical(name): version for name, version in pins.items()}
    installed = {canonical(one.metadata["Name"]): one.version for one in distributions()}
    other = {
        name: (installed[name], version)
        for name, version in pinned.items()
        if name in installed and installed[name].partition("+")[0] != version
    }
    assert other == {} and len(set(pinned) & set(installed)) > 80
