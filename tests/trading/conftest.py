"""The small market and the small trainer of `tests/training`, traded on."""

from tests.training.conftest import _world, instance, trainer_on_path, world

__all__ = ["_world", "instance", "trainer_on_path", "world"]
