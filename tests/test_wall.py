"""The wall between the packages: only files cross it."""

import subprocess
import sys

import pytest

LOADED = "import sys, {module}; print(' '.join(sorted({{name.split('.')[0] for name in sys.modules}})))"


def loaded_by(module: str) -> set[str]:
    done = subprocess.run(
        [sys.executable, "-c", LOADED.format(module=module)], check=True, capture_output=True, text=True, timeout=120
    )
    return set(done.stdout.split())


def test_the_code_location_loads_without_torch_and_without_heavy_libraries():
    loaded = loaded_by("atft_assets.definitions")
    assert "dagster" in loaded  # the probe sees what is there
    assert not loaded & {"torch", "torch_geometric", "lightgbm", "matplotlib", "scipy", "atft_model"}


@pytest.mark.parametrize("module", ["config", "model", "train", "predict", "__main__"])
def test_the_network_knows_neither_dagster_nor_polars(module):
    loaded = loaded_by(f"atft_model.{module}")
    assert not loaded & {"dagster", "polars", "pandera", "requests", "atft_assets", "torch_geometric"}
