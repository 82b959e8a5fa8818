"""Two panels that the tests of this room share and do not change."""

import pytest

from atft_model.interchange.panel import Panel
from tests.baselines.made import interaction, linear, made_panel


@pytest.fixture(scope="session")
def planted() -> Panel:
    """A line in noise."""
    return made_panel(linear, noise=3.0)


@pytest.fixture(scope="session")
def crossed() -> Panel:
    """An interaction in noise."""
    return made_panel(interaction, noise=2.0)
