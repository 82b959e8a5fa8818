"""This room's tests read the small simulated market of the features."""

from tests.features.conftest import published, workspace

__all__ = ["published", "workspace"]
