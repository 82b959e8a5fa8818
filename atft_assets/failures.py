"""The two kinds of failure of a step: what may pass by itself, and what retrying cannot mend.

Every room raises errors of its own, whose text is a sentence with the remedy. Those that derive from `Refusal` here, or
from `InterchangeError` on the other side of the wall, stay what they are until the edge of an asset; there `permanent`
turns them into the one failure that Dagster does not retry.
"""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import dagster as dg

from atft_assets.closing_words import note, note_interrupt, note_of
from atft_model.interchange.disk import disk_error
from atft_model.interchange.errors import InterchangeError


class Refusal(Exception):
    """Something was refused, and will be again until a person has done what the text says."""


class PermanentFailure(dg.Failure):
    """A failed step that Dagster must not try again: the same would happen. It is what the command says last."""

    def __init__(self, description: str, metadata: Mapping[str, Any] | None = None):
        super().__init__(description, metadata=metadata, allow_retries=False)
        note(note_of(description, _where()))


def _where() -> str:
    """The running step's run, and the data root; empty outside of a step."""
    try:
        run = dg.AssetExecutionContext.get().run
    except dg.DagsterError:
        return ""
    return f"run {run.run_id}\ndata root {os.environ.get('ATFT_DATA') or './data'}"


@contextmanager
def permanent(subject: str) -> Iterator[None]:
    """Turn a refusal of any room, or of the file system, into a `PermanentFailure`; an interrupt passes, and is noted.

    Args:
        subject: what it prevents, with its verb ("train_phase2 cannot start"); put before the refusal's own sentence.
    """
    try:
        yield
    except (Refusal, InterchangeError) as error:
        raise PermanentFailure(f"{subject}: {error}") from error
    except (KeyboardInterrupt, dg.DagsterExecutionInterruptedError):
        note_interrupt(subject)
        raise
    except OSError as error:
        if (refused := disk_error(error)) is None:
            raise
        raise PermanentFailure(f"{subject}: {refused}") from None  # where it was written says nothing more
