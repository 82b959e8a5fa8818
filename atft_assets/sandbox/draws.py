"""Random numbers that need no order: a draw depends on the seed, its name and its keys, and on nothing drawn before it.

So a record of one day is made without the days before it, in whatever order they are asked for, and a market that ends
earlier has the records of one that ends later. Keys are whole numbers, arrays of them broadcast.
"""

from collections.abc import Sequence
from zlib import crc32

import numpy as np
from numpy.typing import ArrayLike, NDArray

F64 = NDArray[np.float64]
I64 = NDArray[np.int64]
_U64 = NDArray[np.uint64]

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_FIRST, _SECOND = np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB)
_S30, _S27, _S31, _S11 = (np.uint64(n) for n in (30, 27, 31, 11))


def _mixed(x: _U64) -> _U64:
    """The finaliser of splitmix64: every bit of the input moves half of the output's."""
    x = (x ^ (x >> _S30)) * _FIRST
    x = (x ^ (x >> _S27)) * _SECOND
    return x ^ (x >> _S31)


def bits(seed: int, what: str, *keys: ArrayLike) -> _U64:
    """64 random bits for each combination of the keys."""
    with np.errstate(over="ignore"):
        state = _mixed(np.full((), ((seed << 32) ^ crc32(what.encode())) & (2**64 - 1), np.uint64) + _GOLDEN)
        for key in keys:
            state = _mixed(state ^ (np.asarray(key, np.int64).astype(np.uint64) * _GOLDEN + _FIRST))
    return state


def uniform(seed: int, what: str, *keys: ArrayLike) -> F64:
    """In [0, 1)."""
    out: F64 = (bits(seed, what, *keys) >> _S11).astype(np.float64) * 2.0**-53
    return out


def normal(seed: int, what: str, *keys: ArrayLike) -> F64:
    """Standard normal (Box and Muller 1958)."""
    radius = np.sqrt(-2 * np.log1p(-uniform(seed, what, *keys)))
    angle = uniform(seed, what + "'", *keys)
    out: F64 = radius * np.cos(2 * np.pi * angle)
    return out


def pick(seed: int, what: str, shares: Sequence[float], *keys: ArrayLike) -> I64:
    """A number of 0, 1, … with the given shares, which need not sum to one."""
    edges = np.cumsum(shares)
    out: I64 = np.searchsorted(edges / edges[-1], uniform(seed, what, *keys), side="right")
    return out


def whole(seed: int, what: str, low: int, high: int, *keys: ArrayLike) -> I64:
    """A whole number from `low` to `high`, both included."""
    return low + np.floor(uniform(seed, what, *keys) * (high - low + 1)).astype(np.int64)


def wander(seed: int, what: str, who: ArrayLike, t: ArrayLike, scales: Sequence[int]) -> F64:
    """A path over `t` of unit variance that changes at the given scales: straight lines between normal draws.

    Args:
        who: number of the path; paths are independent.
        t: whole numbers, such as a day's place in the trading calendar.
        scales: steps between the draws of each part; the parts weigh the same.
    """
    at = np.asarray(t, np.int64)
    total = np.zeros(np.broadcast_shapes(np.shape(who), at.shape))
    for scale in scales:
        name = f"{what}/{scale}"
        left = at // scale
        part = (at - left * scale) / scale
        line = (1 - part) * normal(seed, name, who, left) + part * normal(seed, name, who, left + 1)
        total += line / np.sqrt((1 - part) ** 2 + part**2)
    return total / np.sqrt(len(scales))


def turning(seed: int, what: str, t: ArrayLike, scales: Sequence[int]) -> F64:
    """As `wander`, one path that makes up for itself: each second draw is the one before with the other sign.

    Its mean over some twice the longest scale is near zero, so that what turns with it shows nothing on average.
    """
    at = np.asarray(t, np.int64)
    total = np.zeros(at.shape)
    for scale in scales:
        left = at // scale
        part = (at - left * scale) / scale
        ends = [normal(seed, f"{what}/{scale}", node // 2) * np.where(node % 2, -1.0, 1.0) for node in (left, left + 1)]
        # two ends of one pair are opposite, those of two pairs know nothing of each other
        spread = np.where(left % 2, np.sqrt((1 - part) ** 2 + part**2), np.abs(1 - 2 * part))
        line = (1 - part) * ends[0] + part * ends[1]
        total += line / np.maximum(spread, 0.5)
    return total / np.sqrt(len(scales))
