"""Random numbers for kernels: xorshift64* of Vigna (2016), of which the caller keeps the state."""

from __future__ import annotations

import numpy as np
from numba import njit

__all__ = ["draw_below", "draw_bootstrap", "draw_fraction"]


@njit(nogil=True, cache=True)
def _next(state):
    """Draw 64 random bits; `state` (1,) uint64 is not 0."""
    x = state[0]
    x ^= x >> np.uint64(12)
    x ^= x << np.uint64(25)
    x ^= x >> np.uint64(27)
    state[0] = x
    return x * np.uint64(2685821657736338717)


@njit(nogil=True, cache=True)
def draw_below(state, n):
    """Draw an integer of 0..n-1, n below 2**31."""
    return np.int64(((_next(state) >> np.uint64(32)) * np.uint64(n)) >> np.uint64(32))


@njit(nogil=True, cache=True)
def draw_fraction(state):
    """Draw a number of [0, 1)."""
    return np.float64(_next(state) >> np.uint64(11)) / 9007199254740992.0  # 2**53


@njit(nogil=True, cache=True)
def draw_bootstrap(seed, counts):
    """Draw as many rows as there are, with replacement.

    Parameters
    ----------
    seed : uint64
        Not 0.
    counts : (n,) int32, overwritten
        How often each row was drawn.
    """
    state = np.array([seed], np.uint64)
    counts[:] = 0
    for _ in range(counts.shape[0]):
        counts[draw_below(state, counts.shape[0])] += 1
