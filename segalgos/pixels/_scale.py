"""One scale of an image: planes that are filtered as a whole, and features read off them."""

from __future__ import annotations

import numpy as np
from numba import njit

from segalgos.parallel import map_strips
from segalgos.pixels import _eigenvalues, _stencils
from segalgos.pixels._filters import box_spread, box_taps, gaussian_taps, weigh

__all__ = ["STRIP", "Scale", "interleave", "split", "whole_step"]

STRIP = 16384  # pixels whose features at one scale stay in the second cache, or nearly


class Scale:
    """All planes of an image at one scale; a method a kind reads features off them.

    The methods take the number of a plane and rows (n_rows,) intp, counted over depth and
    height, and write (n_columns, n_rows, W) float32.

    Parameters
    ----------
    planes : (P, D, H, W) float32
        Channels, or their mean, or both; the image itself.
    kinds : set of str
        What will be asked for.
    texture : slice
        Planes that kinds of texture are taken of.
    ndim : {2, 3}
        An image is one slice, D = 1.
    sigmas : sequence of three float
        The scale in pixels along each axis.
    weights : (3,) float32
        What each axis' derivative is multiplied by.
    smaller : Scale or None
        The next smaller scale.
    """

    def __init__(self, planes, kinds, texture, ndim, sigmas, weights, smaller):
        self.ndim, self.weights = ndim, weights
        if "difference" in kinds:
            self.smaller = planes if smaller is None else smaller.smooth
        self.steps = np.array([whole_step(sigma) for sigma in sigmas])
        self.texture = texture
        self.smooth = None
        if not kinds <= {"mean", "deviation"}:
            self.taps = [gaussian_taps(sigma) for sigma in sigmas]
            self.smooth = weigh(planes, self.taps)
        if "mean" in kinds:
            self.means = weigh(planes, [box_taps(step) for step in self.steps])
        if "deviation" in kinds:
            self.deviations = np.sqrt(box_spread(planes[texture], self.steps))
        if "structure" in kinds:
            self.tensors = self._structure_tensors()

    def _structure_tensors(self):
        smooth = self.smooth[self.texture]
        n, depth, height, width = smooth.shape
        n_columns = self.ndim * (self.ndim + 1) // 2
        products = np.empty((n, n_columns, depth * height, width), np.float32)

        def multiply(first, last):
            rows = np.arange(first, last)
            out = np.empty((n_columns, len(rows), width), np.float32)
            for p in range(n):
                _stencils.gradient_products(smooth[p], self.ndim, self.weights, rows, out)
                products[p, :, first:last] = out

        map_strips(multiply, depth * height, max(1, STRIP // width))
        tensors = weigh(products.reshape(-1, depth, height, width), self.taps)
        return tensors.reshape(n, n_columns, depth * height, width)

    def gaussian(self, plane, rows, out):
        _stencils.take(self.smooth[plane], rows, out)

    def gradient(self, plane, rows, out):
        _stencils.sobel_magnitude(self.smooth[plane], self.ndim, self.weights, rows, out)

    def mean(self, plane, rows, out):
        _stencils.take(self.means[plane], rows, out)

    def _hessian(self, plane, rows, width):
        tensor = np.empty((self.ndim * (self.ndim + 1) // 2, len(rows), width), np.float32)
        _stencils.hessian(self.smooth[plane], self.ndim, self.weights, rows, tensor)
        return tensor

    def laplacian(self, plane, rows, out):
        tensor = self._hessian(plane, rows, out.shape[2])
        out[0] = tensor[0]
        for diagonal in (2,) if self.ndim == 2 else (3, 5):
            out[0] += tensor[diagonal]

    def hessian(self, plane, rows, out):
        _eigenvalues.eigenvalues(self._hessian(plane, rows, out.shape[2]), out)

    def difference(self, plane, rows, out):
        _stencils.subtract(self.smooth[plane], self.smaller[plane], rows, out)

    def structure(self, plane, rows, out):
        tensor = self.tensors[plane - self.texture.start][:, rows]
        _eigenvalues.eigenvalues(np.ascontiguousarray(tensor), out)
        np.sqrt(np.maximum(out, 0, out=out), out=out)

    def deviation(self, plane, rows, out):
        _stencils.take(self.deviations[plane - self.texture.start], rows, out)

    def median(self, plane, rows, out):
        _stencils.local_median(self.smooth[plane], self.ndim, self.steps, rows, out)


def whole_step(sigma: float) -> int:
    """A scale in whole pixels, at least one."""
    return max(1, int(sigma + 0.5))


@njit(nogil=True, cache=True)
def split(pixels, unit, planes):
    """Divide pixels by a unit and give each channel, and their mean, a plane.

    Parameters
    ----------
    pixels : (n, C) uint8 or float32
    unit : float32
    planes : (C, n), (C + 1, n) or (1, n) float32, overwritten
        Channels, with their mean last, or the mean alone.
    """
    n_channels, n_planes = pixels.shape[1], planes.shape[0]
    for i in range(pixels.shape[0]):
        total = np.float32(0)
        for c in range(n_channels):
            value = np.float32(pixels[i, c]) / unit
            total += value
            if n_planes >= n_channels:
                planes[c, i] = value
        if n_planes != n_channels:
            planes[n_planes - 1, i] = total / np.float32(n_channels)


@njit(nogil=True, cache=True)
def interleave(columns, units, begin, out, first):
    """Write rows of features beside one another, each in its unit.

    Parameters
    ----------
    columns : (n, n_rows, W) float32
    units : (n,) float32
        What each feature is multiplied by.
    begin : int
        First pixel of the rows that is wanted.
    out : (n_rows, w, F) float32, overwritten in part
    first : int
        Place of the first feature.

    Notes
    -----
    Four columns at a time: a line of `out` is then written while it is in the cache, and
    rows that lie a power of two apart do not push one another out.
    """
    n, n_features = columns.shape[0], out.shape[2]
    for i in range(out.shape[0]):
        flat = out[i].reshape(-1)
        for a in range(0, out.shape[1], 64):
            size = min(64, out.shape[1] - a)
            left, right = begin + a, begin + a + size
            k = 0
            while k + 3 < n:
                c0, c1 = columns[k, i, left:right], columns[k + 1, i, left:right]
                c2, c3 = columns[k + 2, i, left:right], columns[k + 3, i, left:right]
                u0, u1, u2, u3 = units[k], units[k + 1], units[k + 2], units[k + 3]
                target = flat[a * n_features + first + k :]
                for x in range(size):
                    target[x * n_features] = c0[x] * u0
                    target[x * n_features + 1] = c1[x] * u1
                    target[x * n_features + 2] = c2[x] * u2
                    target[x * n_features + 3] = c3[x] * u3
                k += 4
            while k < n:
                column, unit = columns[k, i, left:right], units[k]
                target = flat[a * n_features + first + k :]
                for x in range(size):
                    target[x * n_features] = column[x] * unit
                k += 1
