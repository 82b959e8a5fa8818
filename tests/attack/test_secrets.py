"""After an attack the key is nowhere at rest; nothing loads code from data, and nothing listens but on loopback."""

import ast
from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest

from atft_assets.sandbox import MarketConfig, SandboxServer, serve
from tests.attack.cases import CASES
from tests.attack.hostile import Proxy, proxy
from tests.attack.lab import BEFORE, END, KEY, START, Lab
from tests.attack.leaks import leaks

REPOSITORY = Path(__file__).parents[2]
FAULTS = ("403 that shows the key", "HTML with status 503, always", "a redirect", "a body cut short", "another day")
LOADERS = {"pickle", "cPickle", "dill", "cloudpickle", "joblib", "marshal", "shelve"}
CALLS = {"eval", "exec", "os.system", "os.popen", "torch.load", "yaml.load", "tempfile.mktemp", "numpy.load", "np.load"}


@pytest.fixture(scope="module")
def sandbox() -> Iterator[SandboxServer]:
    with serve(MarketConfig(n_names=40, start=START, end=END, seed=5), page_rows=30, api_key=KEY) as server:
        yield server


def test_the_key_is_in_no_file_after_an_attack(sandbox: SandboxServer, tmp_path: Path) -> None:
    """Dagster on SQLite as on a disk of a user: runs, events, compute logs; the data root; the alert log."""
    home = tmp_path / "home"
    home.mkdir()
    with proxy(sandbox) as hostile, dg.instance_for_test(temp_dir=str(home)) as instance:
        lab = Lab(hostile, instance, tmp_path / "lab")
        lab.prepare({"daily_quotes": [BEFORE, "2022-02"]})
        for case in CASES:
            if case.name in FAULTS:
                assert not lab.attack(case).success, case.name
        files = [path for path in tmp_path.rglob("*") if path.is_file()]
        assert any(path.suffix == ".db" for path in files) and (lab.root / "alerts.log") in files
        told = leaks(tmp_path, {"key": KEY})
    assert told == []


def modules() -> list[Path]:
    return sorted(path for package in ("atft_assets", "atft_model") for path in (REPOSITORY / package).rglob("*.py"))


def test_no_module_runs_what_it_reads() -> None:
    assert len(modules()) > 100
    assert [found for path in modules() for found in unsafe(path)] == []


def unsafe(path: Path) -> Iterator[str]:
    """Imports and calls that could run what they are given."""
    for node in ast.walk(ast.parse(path.read_text())):
        where = f"{path.relative_to(REPOSITORY)}:{getattr(node, 'lineno', 0)}"
        if isinstance(node, ast.Import | ast.ImportFrom):
            names = [alias.name for alias in node.names] + [getattr(node, "module", None) or ""]
            if loaders := LOADERS & {name.partition(".")[0] for name in names}:
                yield f"{where} imports {', '.join(loaders)}"
        if isinstance(node, ast.Call):
            if ast.unparse(node.func) in CALLS:
                yield f"{where} calls {ast.unparse(node.func)}"
            for argument in node.keywords:
                if argument.arg in ("shell", "allow_pickle") and ast.unparse(argument.value) != "False":
                    yield f"{where} gives {ast.unparse(argument)}"


def test_servers_listen_on_loopback_alone(sandbox: SandboxServer) -> None:
    hosts = {str(sandbox._http.server_address[0])}
    with proxy(sandbox) as hostile:
        assert isinstance(hostile, Proxy)
        hosts.add(str(hostile.server_address[0]))
    assert hosts == {"127.0.0.1"}
    everywhere = [path for path in modules() if "0.0.0.0" in path.read_text() or '"::"' in path.read_text()]
    assert everywhere == []
