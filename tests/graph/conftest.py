"""This room's tests break copies of the small market of the trainings."""

from tests.training.conftest import _world, world

__all__ = ["_world", "world"]
