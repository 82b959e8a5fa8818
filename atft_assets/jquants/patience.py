"""How long a client waits and how often it tries, and what it has done so far."""

import threading
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Patience:
    """How long the client waits and how often it tries; seconds. Tests make it short.

    Attributes:
        attempts: tries of one request against transient faults.
        first_wait, longest_wait: exponential back-off between them, with as much jitter as `first_wait`.
        throttled: 429 answers to one request before it is given up.
        first_freeze: least and most seconds of silence after a 429.
        next_freeze: seconds after every further 429 in a row; the service's own penalty lasts about 300.
        listings: times a listing is begun again when its pages repeat.
        connect, read: socket timeouts: for a connection, and between two pieces of an answer.
        whole: time for one request from its beginning to the last byte of its answer, however it dribbles.
    """

    attempts: int = 10
    first_wait: float = 0.5
    longest_wait: float = 30.0
    throttled: int = 8
    first_freeze: tuple[float, float] = (60.0, 120.0)
    next_freeze: float = 310.0
    listings: int = 6
    connect: float = 5.0
    read: float = 60.0
    whole: float = 300.0


@dataclass
class Counters:
    """What the client has done so far."""

    requests: int = 0
    records: int = 0
    retries: int = 0
    throttled: int = 0
    bytes: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def add(self, **counts: int) -> None:
        with self._lock:
            for name, count in counts.items():
                setattr(self, name, getattr(self, name) + count)
