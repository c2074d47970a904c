"""Thinning of masks to lines one pixel wide, as MATLAB's ``bwmorph(mask, 'thin', Inf)`` does."""

from __future__ import annotations

from functools import cache

import numpy as np
from numba import njit
from numpy.typing import NDArray

__all__ = ["thin"]


def thin(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Thin a mask until nothing changes.

    Parameters
    ----------
    mask : (H, W) bool array

    Returns
    -------
    (H, W) bool array
        Lines of one pixel, of which as many are connected as in the mask, and holes as well.

    Notes
    -----
    Two passes take turns, each removing pixels by what their eight neighbours were before the pass
    [1]_. A pixel is looked at again only after a neighbour was removed: O(n_pixels) time, however
    wide the mask is.

    References
    ----------
    .. [1] Z. Guo, R. W. Hall, "Parallel thinning with two-subiteration algorithms", Comm. ACM
       32(3), 359-373, 1989, algorithm A1.
    """
    padded = np.pad(np.ascontiguousarray(mask), 1).view(np.uint8)
    _thin(padded, *_removable())
    return padded[1:-1, 1:-1].astype(bool)


@cache
def _removable():
    """Which neighbourhoods each of the two passes removes, two (256,) bool arrays.

    Bit k of the index is neighbour k + 1 of [1]: x1 is right of the pixel, x2 above x1, and so on
    counter-clockwise.
    """
    x = [None, *((np.arange(256) >> k & 1).astype(bool) for k in range(8))]
    x.append(x[1])  # x9 is x1
    pairs = range(1, 5)
    crossings = sum((~x[2 * i - 1] & (x[2 * i] | x[2 * i + 1])).astype(int) for i in pairs)
    first = sum((x[2 * i - 1] | x[2 * i]).astype(int) for i in pairs)
    second = sum((x[2 * i] | x[2 * i + 1]).astype(int) for i in pairs)
    fewer = np.minimum(first, second)
    both = (crossings == 1) & (fewer >= 2) & (fewer <= 3)
    return (
        both & ~((x[2] | x[3] | ~x[8]) & x[1]),
        both & ~((x[6] | x[7] | ~x[4]) & x[5]),
    )


@njit(nogil=True, cache=True)
def _thin(mask, removable_first, removable_second):
    """Thin in place.

    Parameters
    ----------
    mask : (H + 2, W + 2) uint8, C-contiguous, a border of zeros; changed
    removable_first, removable_second : (256,) bool
    """
    width = mask.shape[1]
    flat = mask.reshape(-1)
    # Steps to x1 .. x8; a pixel is neighbour (b + 4) % 8 of its neighbour b.
    steps = np.array([1, 1 - width, -width, -1 - width, -1, width - 1, width, width + 1])
    removable = np.zeros(256, np.uint8)  # bit p: pass p removes it
    for code in range(256):
        removable[code] = removable_first[code] | removable_second[code] << 1
    codes = np.zeros(flat.size, np.uint8)
    inner = slice(width + 1, flat.size - width - 1)
    for b in range(8):
        shifted = flat[inner.start + steps[b] : inner.stop + steps[b]]
        for i in range(shifted.size):
            codes[inner.start + i] |= shifted[i] << b

    # What each pass has to look at; bit p of `queued` is whether a pixel is in the queue of pass p.
    queues = np.empty((2, flat.size), np.int32)
    lengths = np.zeros(2, np.int64)
    queued = np.zeros(flat.size, np.uint8)
    for i in range(flat.size):
        if flat[i] and removable[codes[i]]:
            queued[i] = removable[codes[i]]
            for p in range(2):
                if queued[i] >> p & 1:
                    queues[p, lengths[p]] = i
                    lengths[p] += 1
    turn = 0
    while lengths[0] or lengths[1]:
        n_removed = 0
        for k in range(lengths[turn]):
            i = queues[turn, k]
            queued[i] &= 2 - turn  # leaves the bit of the other pass
            if flat[i] and removable[codes[i]] >> turn & 1:
                queues[turn, n_removed] = i
                n_removed += 1
        removed = queues[turn, :n_removed].copy()
        lengths[turn] = 0
        for i in removed:
            flat[i] = 0
        for i in removed:
            for b in range(8):
                j = i + steps[b]
                codes[j] &= ~(1 << (b + 4) % 8)
                new = removable[codes[j]] & ~queued[j]
                if flat[j] and new:
                    queued[j] |= new
                    for p in range(2):
                        if new >> p & 1:
                            queues[p, lengths[p]] = j
                            lengths[p] += 1
        turn = 1 - turn
