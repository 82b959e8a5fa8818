"""The table at the end of `make deploy-test`: a row for everything, and nothing passed that was not tried."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.deploy.table import OTHER, ROWS, row_of

REPOSITORY = Path(__file__).parents[2]

pytestmark = pytest.mark.deploy

TESTS = {
    "tests/deploy/test_boot.py": "import pytest\npytest.skip('only root boots a machine', allow_module_level=True)\n",
    "tests/deploy/test_nginx.py": """import pytest
@pytest.fixture
def slow():
    import time
    time.sleep(0.6)
def test_one(slow): pass
@pytest.mark.parametrize("x", [1, 2])
def test_browser(x): pytest.skip("no Chromium")
@pytest.mark.xfail(reason="a fault of nginx", strict=True)
def test_known(): assert False
""",
    "tests/deploy/test_units.py": "def test_wrong(): assert False\n",
    "tests/deploy/test_new.py": "import pytest\npytestmark = pytest.mark.deploy\ndef test_new(): pass\n",
    "tests/raw/test_raw.py": "def test_raw(): raise SystemExit('is not of deploy/')\n",
}


def test_each_row_tells_what_ran_how_long_and_what_was_not_tried_and_why(tmp_path: Path) -> None:
    for name, text in TESTS.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    (tmp_path / "pytest.ini").write_text("[pytest]\nmarkers = deploy\n")
    words = ("-q", "-p", "tests.deploy.table", "-p", "no:cacheprovider", "--import-mode=importlib")
    environ = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *words], cwd=tmp_path, env=environ, capture_output=True, text=True
    )
    assert done.returncode == 1, done.stdout  # a test failed
    table = done.stdout.partition("what of deploy/ was tried here")[2]
    found = {
        match[1]: [int(match[number]) for number in (2, 3, 4)]
        for match in re.finditer(r"^(\S.*?) +(\d+) +(\d+) +(\d+) +[\d.]+$", table, re.M)
    }
    nginx, units, boot = (row_of(f"tests/deploy/test_{name}.py") for name in ("nginx", "units", "boot"))
    assert [found[str(row)] for row in (nginx, units, boot, OTHER)] == [[1, 0, 3], [0, 1, 0], [0, 0, 1], [1, 0, 0]]
    assert set(found) == {*ROWS, OTHER}
    assert "not tried (2): no Chromium" in table and "not tried (1): only root boots a machine" in table
    assert "not tried (1): known to fail: a fault of nginx" in table
    assert table.count("NOT TRIED") == len(ROWS) - 3
    seconds = re.search(rf"^{re.escape(str(nginx))} .* ([\d.]+)$", table, re.M)
    assert seconds and float(seconds[1]) >= 0.6  # what was made for a test counts
    assert "1 deselected" in done.stdout


@pytest.mark.parametrize("row", ROWS)
def test_every_row_has_tests(row: str) -> None:
    files = [file for pattern in ROWS[row] for file in REPOSITORY.glob(pattern.partition("::")[0])]
    assert files and all(row_of(f"{file.relative_to(REPOSITORY)}::test_x") for file in files)
