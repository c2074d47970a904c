"""Perceptual hashes: images that look the same have nearly the same bits.

The hash is the one known as pHash: signs of the lowest coefficients of the cosine transform of a
small grey picture, here 255 of them instead of 63. ``benchmarks/near_duplicates.py`` measures how
well it tells copies from other images, which `NEAR` was chosen by.
"""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

from segalgos.parallel import map_strips

__all__ = ["NEAR", "find_near", "hash_image"]

#: Bits of 255 in which copies of one image may differ.
NEAR = 64

_SIDE = 32  # of the small picture
_KEPT = 16  # coefficients along each axis
_WORDS = 4
_SYMMETRIES = 8
# Below this contrast, in shares of the range of intensities, bits are noise.
_FLAT = 1e-3
_BITS = np.uint64(1) << np.arange(64, dtype=np.uint64)


def hash_image(image: NDArray) -> NDArray[np.uint64] | None:
    """Hash an image and its mirrored and turned copies.

    Parameters
    ----------
    image : (H, W) or (H, W, C)

    Returns
    -------
    (8, 4) uint64 or None
        255 bits each; first those of the image, then those of its turned and mirrored copies.
        None for an image without structure.
    """
    from PIL import Image
    from scipy.fft import dctn

    grey = image.mean(axis=2, dtype=np.float32) if image.ndim == 3 else image
    small = Image.fromarray(np.asarray(grey, np.float32))
    picture = np.asarray(small.resize((_SIDE, _SIDE), Image.Resampling.BOX), np.float64)
    span = np.iinfo(image.dtype).max if image.dtype.kind in "ui" else max(abs(picture).max(), 1.0)
    if not np.isfinite(picture).all() or picture.std() < _FLAT * span:
        return None
    low = dctn(picture)[:_KEPT, :_KEPT]
    odd = np.where(np.arange(_KEPT) % 2, -1.0, 1.0)
    found = []
    for turned in (low, low.T):
        for rows in (1.0, odd[:, None]):  # the transform of a mirrored picture: other signs
            for columns in (1.0, odd):
                found.append(_pack(turned * rows * columns))
    return np.array(found, np.uint64)


def _pack(coefficients: NDArray[np.float64]) -> NDArray[np.uint64]:
    values = coefficients.ravel()[1:]  # the first is the mean
    bits = np.append(values > np.median(values), False)
    return (bits.reshape(_WORDS, 64) * _BITS).sum(axis=1, dtype=np.uint64)


@njit(nogil=True, cache=True)
def _popcount(word):
    word -= (word >> np.uint64(1)) & np.uint64(0x5555555555555555)
    word = (word & np.uint64(0x3333333333333333)) + (
        (word >> np.uint64(2)) & np.uint64(0x3333333333333333)
    )
    word = (word + (word >> np.uint64(4))) & np.uint64(0x0F0F0F0F0F0F0F0F)
    return np.int64((word * np.uint64(0x0101010101010101)) >> np.uint64(56))


@njit(nogil=True, cache=True)
def _find(hashes, start, stop, most, pairs):
    """Pairs of an image in a range and a later one; the count goes on past the room there is.

    Parameters
    ----------
    hashes : (n, 8, 4) uint64
    start, stop : int
    most : int
        Bits that may differ.
    pairs : (m, 4) int64, overwritten
        Image, later image, differing bits, and by which symmetry.

    Returns
    -------
    n : int
        How many there are.

    Notes
    -----
    O(n) a row and 8 symmetries; most pairs are settled by two or three of the four words.
    """
    n = 0
    for i in range(start, stop):
        for j in range(i + 1, hashes.shape[0]):
            best, kind = most + 1, -1
            for s in range(hashes.shape[1]):
                distance = 0
                for w in range(hashes.shape[2]):
                    distance += _popcount(hashes[i, 0, w] ^ hashes[j, s, w])
                    if distance >= best:
                        break
                if distance < best:
                    best, kind = distance, s
            if kind >= 0:
                if n < len(pairs):
                    pairs[n, 0], pairs[n, 1], pairs[n, 2], pairs[n, 3] = i, j, best, kind
                n += 1
    return n


def find_near(hashes: NDArray[np.uint64], most: int = NEAR) -> NDArray[np.int64]:
    """Find all pairs of images that are nearly the same.

    Parameters
    ----------
    hashes : (n, 8, 4) uint64
        See `hash_image`.
    most : int
        Bits that may differ.

    Returns
    -------
    (m, 4) int64
        Places i < j, differing bits, and 0 if they look alike as they are, else 1 to 7 for a
        mirrored or turned copy; by i, then j.

    Notes
    -----
    Compares all pairs, on threads: O(n^2).
    """
    hashes = np.ascontiguousarray(hashes, np.uint64).reshape(-1, _SYMMETRIES, _WORDS)

    def find(start: int, stop: int) -> NDArray[np.int64]:
        pairs = np.empty((256, 4), np.int64)
        n = _find(hashes, start, stop, most, pairs)
        if n > len(pairs):
            pairs = np.empty((n, 4), np.int64)
            _find(hashes, start, stop, most, pairs)
        return pairs[:n]

    found = map_strips(find, len(hashes), strip=64)
    return np.concatenate([np.empty((0, 4), np.int64), *found])
