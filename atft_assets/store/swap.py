"""A file of a bucket that several machines replace: each write names the version that it was made from.

A bucket has no lock, and whoever reads a manifest, adds to it and writes it back may overwrite what another publisher
wrote in between. So a write is conditional (`If-Match` with the ETag that was read, `If-None-Match: *` for a new file);
a store of objects that knows no conditions is refused by `python -m atft_assets.tools.doctor`.
"""

from collections.abc import Callable
from typing import Any

from fsspec.asyn import sync
from tenacity import retry, retry_if_exception_type, stop_after_delay, wait_random_exponential
from upath import UPath

from atft_assets.store.errors import StoreError

PATIENCE_SECONDS = 120.0
# what S3 answers to a condition that does not hold: 412, or 409 where another write of the same name is under way
UNMET = ("PreconditionFailed", "ConditionalRequestConflict")


class Changed(Exception):
    """Another publisher has replaced the file since it was read."""


def read(path: UPath) -> tuple[bytes | None, str | None]:
    """A file with its version, of one answer; None and None where there is none.

    Args:
        path: in a bucket of S3's kind; elsewhere the version is None and writes are not conditional.
    """
    if not _is_s3(path):
        try:
            return path.read_bytes(), None
        except FileNotFoundError:
            return None, None
    bucket, key = path.path.split("/", 1)
    try:
        answer = _asked(path, "get_object", Bucket=bucket, Key=key)
        return sync(path.fs.loop, answer["Body"].read), answer["ETag"]
    except FileNotFoundError:
        return None, None


def write(path: UPath, data: bytes, version: str | None) -> str | None:
    """Replace a file if it still is of a version, or make it if it is still not there; the version that was written.

    Args:
        version: what `read` gave; None: it was not there.

    Raises:
        Changed: another publisher was first.
    """
    if not _is_s3(path):
        path.write_bytes(data)
        return None
    bucket, key = path.path.split("/", 1)
    condition = {"IfMatch": version} if version else {"IfNoneMatch": "*"}
    try:
        answer = _asked(path, "put_object", Bucket=bucket, Key=key, Body=data, **condition)
    except OSError as error:
        gone = isinstance(error, FileNotFoundError) and version is not None  # since it was read
        if gone or _unmet(error):
            raise Changed(str(path)) from error
        raise
    path.fs.invalidate_cache(path.path)
    return str(answer["ETag"])


def update(path: UPath, change: Callable[[bytes | None], bytes]) -> str | None:
    """Replace a file by what a function makes of it, again until nobody was in between; the version that was written.

    Args:
        change: from the content, None for no file, to the new one. May be called several times.

    Raises:
        StoreError: others were first for two minutes.
    """

    @retry(
        retry=retry_if_exception_type(Changed),
        wait=wait_random_exponential(multiplier=0.05, max=2.0),
        stop=stop_after_delay(PATIENCE_SECONDS),
        reraise=True,
    )
    def attempt() -> str | None:
        data, version = read(path)
        return write(path, change(data), version)

    try:
        return attempt()
    except Changed:
        raise StoreError(
            f"{path} was replaced by others again and again for {PATIENCE_SECONDS:.0f} s, and what they wrote stands: "
            "look at the runs in progress that publish into this table, then start this one again"
        ) from None


def _asked(path: UPath, what: str, **arguments: Any) -> Any:
    """What the store answers; that it does not is an OSError, as on a disk.

    Raises:
        OSError: it does not answer, refuses us, or refuses what was asked.
    """
    from botocore.exceptions import BotoCoreError

    try:
        return path.fs.call_s3(what, **arguments)
    except BotoCoreError as error:  # no credentials, no such host
        raise ConnectionError(f"{path}: {error}") from error


def _is_s3(path: UPath) -> bool:
    return path.protocol in ("s3", "s3a")


def _unmet(error: OSError) -> bool:
    """Whether a condition did not hold; s3fs turns the answer into an OSError whose cause has the code."""
    answer: Any = getattr(error.__cause__, "response", None) or {}
    code = str(answer.get("Error", {}).get("Code", ""))
    return code in UNMET or code in ("412", "409") or "pre-conditions" in str(error).lower()
