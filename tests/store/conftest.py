"""The bucket of `tests.store.bucket`."""

from tests.store.bucket import bucket, server  # noqa: F401
