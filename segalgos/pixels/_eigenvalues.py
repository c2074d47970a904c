"""Eigenvalues of symmetric 2 x 2 and 3 x 3 matrices in closed form."""

from __future__ import annotations

import math

import numpy as np
from numba import njit

__all__ = ["eigenvalues", "eigenvalues_2x2", "eigenvalues_3x3"]


@njit(nogil=True, cache=True)
def eigenvalues_2x2(tensor, values):
    """Compute the eigenvalues of many symmetric 2 x 2 matrices.

    Parameters
    ----------
    tensor : (3, n_rows, n) float32
        Upper triangles, row by row.
    values : (2, n_rows, n) float32, overwritten
        Largest first.
    """
    half = np.float32(0.5)
    for i in range(tensor.shape[1]):
        aa, ab, bb = tensor[0, i], tensor[1, i], tensor[2, i]
        high, low = values[0, i], values[1, i]
        for j in range(aa.shape[0]):
            apart = half * (aa[j] - bb[j])
            high[j] = np.sqrt(apart * apart + ab[j] * ab[j])
        for j in range(aa.shape[0]):
            middle = half * (aa[j] + bb[j])
            low[j] = middle - high[j]
            high[j] = middle + high[j]


@njit(nogil=True, cache=True)
def eigenvalues_3x3(tensor, values):
    """Compute the eigenvalues of many symmetric 3 x 3 matrices.

    Parameters
    ----------
    tensor : (6, n_rows, n) float32
        Upper triangles, row by row.
    values : (3, n_rows, n) float32, overwritten
        Largest first.

    Notes
    -----
    The characteristic polynomial's roots by cosines [1]_. In float64, which leaves the
    error at equal eigenvalues, where an arc cosine has a steep end, below float32's.

    References
    ----------
    .. [1] O. K. Smith, "Eigenvalues of a symmetric 3 x 3 matrix", Communications of the
       ACM 4(4), 1961.
    """
    for i in range(tensor.shape[1]):
        for j in range(tensor.shape[2]):
            a, d, f = np.float64(tensor[0, i, j]), tensor[3, i, j], tensor[5, i, j]
            b, c, e = np.float64(tensor[1, i, j]), np.float64(tensor[2, i, j]), tensor[4, i, j]
            mean = (a + d + f) / 3
            a, d, f = a - mean, d - mean, f - mean
            outside = b * b + c * c + np.float64(e) * e
            radius = math.sqrt((a * a + d * d + f * f + 2 * outside) / 6)
            if radius == 0:
                values[0, i, j] = values[1, i, j] = values[2, i, j] = mean
                continue
            determinant = a * (d * f - np.float64(e) * e) - b * (b * f - c * e)
            determinant += c * (b * e - c * d)
            cosine = determinant / (2 * radius * radius * radius)
            angle = math.acos(min(max(cosine, -1.0), 1.0)) / 3
            high = mean + 2 * radius * math.cos(angle)
            low = mean + 2 * radius * math.cos(angle + 2 * math.pi / 3)
            values[0, i, j] = high
            values[1, i, j] = min(max(3 * mean - high - low, low), high)
            values[2, i, j] = low


def eigenvalues(tensor, values):
    """Compute the eigenvalues of many symmetric matrices of either size.

    Parameters
    ----------
    tensor : (3, n_rows, n) or (6, n_rows, n) float32
        Upper triangles, row by row.
    values : (2, n_rows, n) or (3, n_rows, n) float32, overwritten
        Largest first.
    """
    (eigenvalues_2x2 if len(values) == 2 else eigenvalues_3x3)(tensor, values)
