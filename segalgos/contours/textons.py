"""Textons: what kinds of texture an image has, and which one each pixel is of."""

from __future__ import annotations

from functools import cache, partial

import numpy as np
from numba import njit
from numpy.typing import ArrayLike, NDArray

from segalgos.checks import check_image, check_int, check_mask, check_real
from segalgos.clustering.kmeans import kmeans
from segalgos.color import find_data_range
from segalgos.contours._lab import lab_planes
from segalgos.parallel import map_strips, one_blas_thread

__all__ = ["textons"]

N_ORIENTATIONS = 8
N_FILTERS = 2 * N_ORIENTATIONS + 1
ELONGATION = 3.0  # of the oriented filters, along their direction
REACH = 3.0  # of the filters, in standard deviations
CHUNK = 1024
STRIP = 16  # rows
SAMPLES = 128  # pixels a texton that k-means looks at
MAX_ITER = 10


@cache
def _bank(sigma: float) -> tuple[NDArray[np.int64], NDArray[np.float32], NDArray[np.int64]]:
    """Offsets (n, 2) and weights (n,) of all filters, and where each begins, in fours."""
    reach = int(np.ceil(REACH * ELONGATION * sigma))
    grid = np.arange(-reach, reach + 1)
    rows, columns = np.meshgrid(grid, grid, indexing="ij")
    filters = []
    for k in range(N_ORIENTATIONS):
        sine, cosine = np.sin(k * np.pi / N_ORIENTATIONS), np.cos(k * np.pi / N_ORIENTATIONS)
        across = (columns * sine + rows * cosine) / sigma
        along = (columns * cosine - rows * sine) / (ELONGATION * sigma)
        inside = np.maximum(np.abs(across), np.abs(along)) <= REACH + 1e-9
        bell = np.exp(-0.5 * (across**2 + along**2))
        filters += [(inside, (across**2 - 1) * bell), (inside, across * bell)]
    distance = (rows**2 + columns**2) / sigma**2
    centre, around = np.exp(-0.5 * distance), np.exp(-0.25 * distance)
    inside = distance <= 2 * REACH**2 + 1e-9
    filters.append((inside, centre / centre[inside].sum() - around / around[inside].sum()))
    offsets, weights, starts = [], [], [0]
    for inside, values in filters:
        kept = values[inside] - values[inside].mean()
        kept /= np.abs(kept).sum()
        fill = -len(kept) % 4
        offsets.append(np.pad(np.stack([rows[inside], columns[inside]], 1), ((0, fill), (0, 0))))
        weights.append(np.pad(kept, (0, fill)))
        starts.append(starts[-1] + len(kept) + fill)
    return np.concatenate(offsets), np.concatenate(weights).astype(np.float32), np.array(starts)


@njit(nogil=True, cache=True, fastmath={"contract"})
def _filter_strip(window, n_columns, reach, offsets, weights, starts, out):
    """Write the responses of all filters at the pixels of a strip.

    Parameters
    ----------
    window : (n,) float32
        Rows of `n_columns` values, `reach` more on all sides than the strip has, and behind them
        a chunk and twice `reach` of anything: so far the last chunk may look.
    n_columns, reach : int
    offsets : (n_taps,) int64
        Between places of the window.
    weights : (n_taps,) float32
    starts : (n_filters + 1,) int64
        Where the taps of each filter begin; their numbers are multiples of four.
    out : (n_rows, W, n_filters) float32, overwritten
    """
    n_rows, width, n_filters = out.shape
    sums = np.empty((n_filters, CHUNK), np.float32)
    for begin in range(0, n_rows * n_columns, CHUNK):
        place = reach * (n_columns + 1) + begin
        for f in range(n_filters):
            total = sums[f]
            for i in range(CHUNK):
                total[i] = 0
            for t in range(starts[f], starts[f + 1], 4):
                a, b = window[place + offsets[t] :], window[place + offsets[t + 1] :]
                c, d = window[place + offsets[t + 2] :], window[place + offsets[t + 3] :]
                wa, wb, wc, wd = weights[t], weights[t + 1], weights[t + 2], weights[t + 3]
                for i in range(CHUNK):
                    total[i] += wa * a[i] + wb * b[i] + wc * c[i] + wd * d[i]
        for i in range(min(CHUNK, n_rows * n_columns - begin)):
            row, column = (begin + i) // n_columns, (begin + i) % n_columns
            if column < width:
                for f in range(n_filters):
                    out[row, column, f] = sums[f, i]


def _responses(plane: NDArray[np.float32], sigma: float) -> NDArray[np.float32]:
    """Responses (H, W, N_FILTERS) of the filter bank; beyond its border the plane is mirrored."""
    places, weights, starts = _bank(sigma)
    reach = int(np.abs(places).max())
    padded = np.pad(plane, reach, mode="symmetric")
    n_columns = padded.shape[1]
    offsets = places[:, 0] * n_columns + places[:, 1]
    out = np.empty((*plane.shape, N_FILTERS), np.float32)

    def work(top, bottom):
        rows = padded[top : bottom + 2 * reach]
        window = np.zeros(rows.size + CHUNK + 2 * reach, np.float32)
        window[: rows.size] = rows.ravel()
        _filter_strip(window, n_columns, reach, offsets, weights, starts, out[top:bottom])

    map_strips(work, len(plane), STRIP)
    return out


def _nearest(vectors, centers, start, stop):
    """Index of each vector's nearest centre, from products of matrices."""
    return np.argmax(vectors[start:stop] @ centers.T - 0.5 * (centers**2).sum(axis=1), axis=1)


def find_textons(
    plane: NDArray[np.float32],
    n_textons: int,
    sigma: float,
    mask: NDArray[np.bool_] | None,
    random_state: int,
) -> NDArray[np.int32]:
    """Do what `textons` does for checked input: a plane of L."""
    if mask is not None and not mask.all():
        from scipy.ndimage import distance_transform_edt

        # Beyond the mask the plane goes on with its outermost values.
        nearest = distance_transform_edt(~mask, return_distances=False, return_indices=True)
        plane = plane[tuple(nearest)]
    vectors = _responses(plane, sigma).reshape(-1, N_FILTERS)
    inside = vectors if mask is None else vectors[mask.ravel()]
    sample = inside[:: max(1, len(inside) // (SAMPLES * n_textons))]
    found = kmeans(
        sample[None],
        n_textons,
        max_iter=MAX_ITER,
        channel_axis=-1,
        random_state=random_state,
    )[0]
    sums = np.stack([np.bincount(found, column) for column in sample.T], axis=1)
    centers = (sums / np.bincount(found)[:, None]).astype(np.float32)
    with one_blas_thread():
        parts = map_strips(partial(_nearest, vectors, centers), len(vectors), 8192)
    labels = np.concatenate(parts).astype(np.int32).reshape(plane.shape)
    return labels if mask is None else np.where(mask, labels, np.int32(-1))


def textons(
    image: ArrayLike,
    n_textons: int = 64,
    *,
    sigma: float = 1.0,
    data_range: float | None = None,
    mask: ArrayLike | None = None,
    channel_axis: int | str | None = "auto",
    random_state: int = 0,
) -> NDArray[np.int32]:
    """Give each pixel its texton: the kind of texture around it [1]_.

    Parameters
    ----------
    image : (H, W) or (H, W, 3) array_like
        Grey, or RGB, of which L of CIE Lab is looked at.
    n_textons : int, default=64
        Fewer are found in an image with fewer different surroundings.
    sigma : float, default=1.0
        Standard deviation of the filters across their direction, in pixels.
    data_range : float, optional
        Value of white; found by `segalgos.color.data_range_of` if None.
    mask : (H, W) array_like of bool, optional
        Pixels outside it have no influence, and get -1.
    channel_axis : int, None or "auto", default="auto"
        Which axis holds the channels; None for a grey image.
    random_state : int, default=0
        Seed of k-means++.

    Returns
    -------
    (H, W) int32
        Ids of textons, from 0 on.

    Raises
    ------
    ValueError
        If the image has neither one nor three channels, or a parameter is out of its range.

    Notes
    -----
    Seventeen filters look at each pixel: first and second derivatives of a Gaussian, three
    times as long as wide, at eight orientations, and the difference of a narrow and a wide
    round Gaussian. Each has mean 0 and absolute values that sum to 1. Their responses are
    clustered by k-means on a regular sample of pixels; then every pixel gets its nearest
    centre. O(H * W * (sigma ** 2 + n_textons)) time.

    References
    ----------
    .. [1] D. Martin, C. Fowlkes, J. Malik, "Learning to Detect Natural Image Boundaries Using
       Local Brightness, Color, and Texture Cues", IEEE TPAMI 26(5), 530-549, 2004.

    Examples
    --------
    >>> import numpy as np
    >>> from segalgos import textons
    >>> image = np.zeros((40, 40))
    >>> image[::2, :20] = image[:, 20::2] = 1  # stripes to the left, upright ones to the right
    >>> labels = textons(image, 8)
    >>> bool(set(labels[:, :10].ravel()) & set(labels[:, 30:].ravel()))
    False
    """
    caller = "textons"
    check_int(caller, "n_textons", n_textons, low=1, high=4096)
    check_real(caller, "sigma", sigma, low=0.5, high=16)
    if data_range is not None:
        check_real(caller, "data_range", data_range, above=0)
    check_int(caller, "random_state", random_state, low=0, high=2**32 - 1)
    image = check_image(image, caller, channel_axis=channel_axis, keep_uint8=True)
    if mask is not None:
        mask = check_mask(mask, image.shape[:2], caller)
        image = np.where(mask[..., None], image, 0).astype(image.dtype)
    data_range = find_data_range(image, mask, data_range, caller)
    plane = lab_planes(image, data_range, caller)[0]
    return find_textons(plane, n_textons, sigma, mask, random_state)
