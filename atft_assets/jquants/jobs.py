"""Several requests of one job at once: in order, a few ahead, all ended when one fails or it is interrupted."""

import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import TypeVar

T = TypeVar("T")
Q = TypeVar("Q")

GIVEN_UP = "given up: another request of the same job failed, or it was interrupted"
SECONDS_BETWEEN_WORDS = 2.0


class Cancelled(Exception):
    """A wait was cut short because another part of the same job failed or was interrupted."""


def in_order(
    items: Iterable[Q],
    work: Callable[[Q, threading.Event], T],
    threads: int,
    cut: Callable[[threading.Event], None],
    waiting: Callable[[], None] | None = None,
) -> Generator[T]:
    """What `work` makes of each item, in their order; at most `threads` at work, and twice as many begun or waiting.

    Args:
        work: called in a thread with an item and the event that gives the job up.
        cut: ends what is in flight of the job with that event.
        waiting: called every two seconds while the next result is waited for.

    Raises:
        The first error of `work`, or the interrupt of the caller; what has not begun is dropped, what waits is woken,
        and what is in flight is cut, so that it is raised at once.
    """
    cancel = threading.Event()
    pool = ThreadPoolExecutor(threads, thread_name_prefix="jquants")

    def result(future: Future[T]) -> T:
        while waiting is not None and not wait([future], SECONDS_BETWEEN_WORDS).done:
            waiting()
        return future.result()

    try:
        running: deque[Future[T]] = deque()
        for item in items:
            running.append(pool.submit(work, item, cancel))
            if len(running) >= 2 * threads:
                yield result(running.popleft())
        while running:
            yield result(running.popleft())
    finally:
        cancel.set()
        pool.shutdown(wait=False, cancel_futures=True)
        cut(cancel)
        pool.shutdown(wait=True)
