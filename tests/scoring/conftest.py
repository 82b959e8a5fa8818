"""The small block of this room, made once."""

import pytest

from atft_assets.scoring.block import Block
from atft_assets.scoring.surroundings import Surroundings, surroundings_of
from tests.scoring.small_panel import members, small_block


@pytest.fixture(scope="session")
def block(tmp_path_factory: pytest.TempPathFactory) -> Block:
    return small_block(tmp_path_factory.mktemp("judged") / "small")


@pytest.fixture(scope="session")
def around(block: Block) -> Surroundings:
    return surroundings_of(block, members(block))
