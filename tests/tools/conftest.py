"""This room's tests look at the same kind of instance as those of operations, and break copies of the small market."""

from tests.operations.conftest import instance
from tests.training.conftest import _world, world

__all__ = ["_world", "instance", "world"]
