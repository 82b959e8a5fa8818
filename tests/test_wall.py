"""The wall between the packages: only files cross it."""

import subprocess
import sys
from pathlib import Path

from tests.patience import PATIENCE

LOADED = "import sys, {module}; print(' '.join(sorted(sys.modules)))"
DOOR = "atft_model.interchange"
DOOR_MODULES = sorted(
    path.stem for path in (Path(__file__).parents[1] / "atft_model/interchange").glob("*.py") if path.stem != "__init__"
)


def modules_loaded_by(module: str) -> set[str]:
    done = subprocess.run(
        [sys.executable, "-c", LOADED.format(module=module)],
        check=True,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )
    return set(done.stdout.split())


def loaded_by(module: str) -> set[str]:
    """Packages, by their first name."""
    return {name.partition(".")[0] for name in modules_loaded_by(module)}


def test_the_code_location_loads_without_torch_and_without_heavy_libraries():
    loaded = loaded_by("atft_assets.definitions")
    assert "dagster" in loaded  # the probe sees what is there
    assert not loaded & {"torch", "torch_geometric", "lightgbm", "matplotlib", "scipy"}


def test_of_the_network_the_code_location_loads_the_door_alone():
    loaded = {name for name in modules_loaded_by("atft_assets.definitions") if name.startswith("atft_model.")}
    assert DOOR in loaded
    assert [name for name in sorted(loaded) if name != DOOR and not name.startswith(f"{DOOR}.")] == []


def test_the_door_needs_numpy_and_the_standard_library_alone():
    loaded = loaded_by(", ".join(f"{DOOR}.{name}" for name in DOOR_MODULES)) - {"atft_model"}
    bare = loaded_by("numpy")
    assert "numpy" in loaded
    assert not {name for name in loaded - bare - set(sys.stdlib_module_names) if not name.startswith("_")}


def test_the_network_knows_neither_dagster_nor_polars():
    loaded = loaded_by(", ".join(f"atft_model.{name}" for name in ("model", "train", "predict", "__main__")))
    assert "torch" in loaded
    assert not loaded & {"dagster", "polars", "pandera", "requests", "atft_assets", "torch_geometric"}
