"""Felzenszwalb and Huttenlocher's graph-based segmentation."""

from __future__ import annotations

from functools import partial

import numpy as np
from numba import njit
from numpy.typing import ArrayLike, NDArray

from segalgos.base import Segmenter, Traits
from segalgos.checks import check_image, check_int, check_mask, check_real
from segalgos.color import find_data_range, rescale
from segalgos.parallel import map_strips
from segalgos.smoothing import gaussian

__all__ = ["FelzenszwalbSegmenter", "felzenszwalb"]

WHITE = 255.0  # the paper's `scale` and its weights are in these units

# Half of the 8 or 26 neighbours (slice, row, column): each edge is looked at once.
NEIGHBOURS_2D = np.array([(0, 0, 1), (0, 1, -1), (0, 1, 0), (0, 1, 1)])
NEIGHBOURS_3D = np.array(
    [
        *NEIGHBOURS_2D.tolist(),
        *((1, row, column) for row in (-1, 0, 1) for column in (-1, 0, 1)),
    ]
)

# A key holds an edge's weight above its index; non-negative floats sort like their bits.
INDEX_BITS = 33


@njit(nogil=True, cache=True)
def _edge_keys(image, mask, neighbours, direction_bits, keys, first, last):
    """Write the keys of all edges that begin in a range of rows.

    Parameters
    ----------
    image : (D, H, W, C) float32
    mask : (D, H, W) bool
    neighbours : (n_neighbours, 3) intp
    direction_bits : int
        Bits that hold the number of a neighbour.
    keys : (n_rows, W * n_neighbours) uint64
        Overwritten in part, from row `first` on without gaps.
    first, last : int
        Range of rows, counted over all slices.

    Returns
    -------
    int
        How many keys were written.
    """
    depth, height, width, n_channels = image.shape
    squared = np.empty(width)
    weight = np.empty(width, np.float32)
    bits = weight.view(np.uint32)
    out = keys[first:last].reshape(-1)
    n_keys = 0
    for row in range(first, last):
        z, y = row // height, row % height
        for n in range(neighbours.shape[0]):
            z2, y2, dx = z + neighbours[n, 0], y + neighbours[n, 1], neighbours[n, 2]
            if z2 >= depth or not 0 <= y2 < height:
                continue
            here, there = image[z, y], image[z2, y2]
            begin, end = max(0, -dx), min(width, width - dx)
            squared[:] = 0
            for c in range(n_channels):
                for x in range(begin, end):
                    difference = np.float64(here[x, c]) - np.float64(there[x + dx, c])
                    squared[x] += difference * difference
            for x in range(begin, end):
                weight[x] = np.sqrt(squared[x])
            for x in range(begin, end):
                index = (np.uint64(row * width + x) << np.uint64(direction_bits)) | np.uint64(n)
                if mask[z, y, x] and mask[z2, y2, x + dx]:
                    out[n_keys] = (np.uint64(bits[x]) << np.uint64(INDEX_BITS)) | index
                    n_keys += 1
    return n_keys


@njit(nogil=True, cache=True)
def _find(parent, node):
    while parent[node] != node:
        parent[node] = parent[parent[node]]  # path halving
        node = parent[node]
    return node


@njit(nogil=True, cache=True)
def _merge(keys, steps, direction_bits, scale, min_size, mask, parent, size, labels):
    """Merge regions along sorted edges and number them in raster order.

    Parameters
    ----------
    keys : (n_edges,) uint64
        Sorted; overwritten.
    steps : (n_neighbours,) intp
        Difference of flat indices along each kind of edge.
    direction_bits : int
        As in `_edge_keys`.
    scale : float
        The paper's k.
    min_size : int
        Smaller regions are merged along their cheapest edge.
    mask : (n_pixels,) bool
    parent : (n_pixels,) int32 or int64
        Each pixel's own index; overwritten.
    size : (n_pixels,) of the same dtype
        Ones; overwritten.
    labels : (n_pixels,) int32, overwritten

    Notes
    -----
    O(n_edges α(n_pixels)) time. Serial by nature: each decision rests on all before it.
    """
    n_pixels = labels.shape[0]
    # Int(C) + k/|C|; a pixel alone has no inner difference, eq. (4) and (5)
    limit = np.full(n_pixels, scale)
    weight = np.empty(1, np.float32)
    bits = weight.view(np.uint32)
    index_mask = (np.uint64(1) << np.uint64(INDEX_BITS)) - np.uint64(1)
    direction_mask = (np.uint64(1) << np.uint64(direction_bits)) - np.uint64(1)
    n_kept = 0
    for e in range(keys.shape[0]):
        key = keys[e]
        index = key & index_mask
        pixel = np.intp(index >> np.uint64(direction_bits))
        a = _find(parent, pixel)
        b = _find(parent, pixel + steps[np.intp(index & direction_mask)])
        if a == b:
            continue
        bits[0] = np.uint32(key >> np.uint64(INDEX_BITS))
        if weight[0] <= min(limit[a], limit[b]):  # eq. (3)
            if size[b] > size[a]:
                a, b = b, a
            parent[b] = a
            size[a] += size[b]
            # Edges come in ascending order: this one is the region's inner difference.
            limit[a] = weight[0] + scale / size[a]
        else:
            keys[n_kept] = key
            n_kept += 1
    for e in range(n_kept):
        index = keys[e] & index_mask
        pixel = np.intp(index >> np.uint64(direction_bits))
        a = _find(parent, pixel)
        b = _find(parent, pixel + steps[np.intp(index & direction_mask)])
        if a != b and min(size[a], size[b]) < min_size:
            if size[b] > size[a]:
                a, b = b, a
            parent[b] = a
            size[a] += size[b]
    n_regions = 0
    number = np.full(n_pixels, -1, np.int32)
    for i in range(n_pixels):
        labels[i] = -1
        if mask[i]:
            root = _find(parent, i)
            if number[root] < 0:
                number[root] = n_regions
                n_regions += 1
            labels[i] = number[root]


def _check_parameters(caller, scale, sigma, min_size, data_range):
    check_real(caller, "scale", scale, low=0)
    check_real(caller, "sigma", sigma, low=0, high=1000)
    check_int(caller, "min_size", min_size, low=0)
    if data_range is not None:
        check_real(caller, "data_range", data_range, above=0)


def _segment(image, mask, scale, sigma, min_size, data_range, caller):
    """Segment a checked image; see `felzenszwalb`."""
    shape = image.shape[:-1]
    data_range = find_data_range(image, mask, data_range, caller)
    if mask is not None:
        image = np.where(mask[..., None], image, 0)
    smooth = gaussian(rescale(image, data_range, WHITE), sigma, mask)
    volume = smooth.reshape((1,) * (3 - len(shape)) + smooth.shape)
    inside = np.ones(volume.shape[:-1], bool) if mask is None else mask.reshape(volume.shape[:-1])

    neighbours = NEIGHBOURS_2D if len(shape) == 2 else NEIGHBOURS_3D
    direction_bits = (len(neighbours) - 1).bit_length()
    if inside.size > 1 << (INDEX_BITS - direction_bits):
        raise ValueError(
            f"{caller}: image has {inside.size} pixels, expected at most "
            f"{1 << (INDEX_BITS - direction_bits)}: cut it into parts."
        )
    n_rows, width = inside.size // inside.shape[2], inside.shape[2]
    keys = np.empty((n_rows, width * len(neighbours)), np.uint64)
    strip = max(1, 32768 // width)
    write = partial(_edge_keys, volume, inside, neighbours, direction_bits, keys)
    counts = map_strips(write, n_rows, strip)
    parts = [keys[i * strip : (i + 1) * strip].ravel()[:n] for i, n in enumerate(counts)]
    keys = np.concatenate(parts)
    keys.sort()

    index = np.int32 if inside.size < 1 << 31 else np.int64
    parent, size = np.arange(inside.size, dtype=index), np.ones(inside.size, index)
    steps = neighbours @ np.array([inside[0].size, width, 1])
    labels = np.empty(inside.size, np.int32)
    flat = inside.ravel()
    _merge(keys, steps, direction_bits, float(scale), min_size, flat, parent, size, labels)
    return labels.reshape(shape)


def felzenszwalb(
    image: ArrayLike,
    scale: float = 300.0,
    *,
    sigma: float = 0.8,
    min_size: int = 20,
    data_range: float | None = None,
    mask: ArrayLike | None = None,
    channel_axis: int | str | None = "auto",
) -> NDArray[np.int32]:
    """Segment an image by merging pixels along a minimum spanning tree.

    Two regions are merged when the cheapest edge between them is no heavier than the
    heaviest edge inside each, plus a tolerance ``scale / size``.

    Parameters
    ----------
    image : (H, W), (H, W, C) or volume, array_like
    scale : float, default=300.0
        The paper's k: larger values give larger regions. Distance of colours, where white
        is 255, times pixels.
    sigma : float, default=0.8
        Standard deviation in pixels of the Gaussian that smooths the image first; 0 for
        none.
    min_size : int, default=20
        Regions of fewer pixels are merged along their cheapest edge, unless the mask
        isolates them.
    data_range : float, optional
        Value of white in `image`; found by `segalgos.color.data_range_of` if None.
    mask : array_like of bool, optional
        True where pixels are to be segmented; all others get -1 and have no influence.
    channel_axis : int, None or "auto", default="auto"
        Which axis holds the channels; None for a grey image or volume.

    Returns
    -------
    (H, W) or (D, H, W) int32
        Ids 0..n-1 in the order in which regions begin, row by row.

    Notes
    -----
    Neighbours are the 8 (in volumes 26) around a pixel, weights the Euclidean distance of
    their colours in float32. Edges of equal weight come in the order of their first pixel,
    so the result is unique. O(n_pixels log n_pixels) time, 8 bytes an edge.

    References
    ----------
    .. [1] P. F. Felzenszwalb and D. P. Huttenlocher, "Efficient graph-based image
       segmentation", International Journal of Computer Vision 59(2), 167-181, 2004.

    Examples
    --------
    >>> import numpy as np
    >>> from segalgos import felzenszwalb
    >>> image = np.zeros((8, 8))
    >>> image[:, 5:] = 1
    >>> felzenszwalb(image, scale=100, sigma=0)[0]
    array([0, 0, 0, 0, 0, 1, 1, 1], dtype=int32)
    """
    caller = "felzenszwalb"
    _check_parameters(caller, scale, sigma, min_size, data_range)
    image = check_image(image, caller, channel_axis=channel_axis, ndims=(2, 3), keep_uint8=True)
    if mask is not None:
        mask = check_mask(mask, image.shape[:-1], caller)
    return _segment(image, mask, scale, sigma, min_size, data_range, caller)


class FelzenszwalbSegmenter(Segmenter):
    """Felzenszwalb and Huttenlocher's graph-based segmentation [1]_.

    Parameters
    ----------
    scale : float, default=300.0
        Larger values give larger regions; distance of colours, where white is 255, times
        pixels.
    sigma : float, default=0.8
        Standard deviation in pixels of the Gaussian that smooths the image first; 0 for
        none.
    min_size : int, default=20
        Regions of fewer pixels are merged along their cheapest edge, unless the mask
        isolates them.
    data_range : float, optional
        Value of white in the images; found for each by `segalgos.color.data_range_of` if
        None.
    channel_axis : int, None or "auto", default="auto"
        Which axis holds the channels; None for a grey image or volume.

    See Also
    --------
    segalgos.felzenszwalb : The same as a function, with the details.

    References
    ----------
    .. [1] P. F. Felzenszwalb and D. P. Huttenlocher, "Efficient graph-based image
       segmentation", International Journal of Computer Vision 59(2), 167-181, 2004.
    """

    traits = Traits(task="partition", family="graph", year=2004, ndims=(2, 3), keeps_uint8=True)

    def __init__(
        self,
        scale: float = 300.0,
        *,
        sigma: float = 0.8,
        min_size: int = 20,
        data_range: float | None = None,
        channel_axis: int | str | None = "auto",
    ):
        self.scale = scale
        self.sigma = sigma
        self.min_size = min_size
        self.data_range = data_range
        self.channel_axis = channel_axis

    def _check_params(self):
        _check_parameters(self._caller, self.scale, self.sigma, self.min_size, self.data_range)

    def _predict(self, image, mask, prompts):
        return _segment(
            image, mask, self.scale, self.sigma, self.min_size, self.data_range, self._caller
        )
