"""Felzenszwalb and Huttenlocher's graph-based segmentation."""

from __future__ import annotations

from itertools import pairwise, product

import numpy as np
from numba import njit
from numpy.typing import ArrayLike, NDArray

from segalgos.base import Segmenter, Traits
from segalgos.checks import check_image, check_int, check_mask, check_real
from segalgos.color import find_data_range, rescale
from segalgos.graph._felzenszwalb_tiles import INDEX_BITS, join, segment_tile
from segalgos.parallel import map_items, map_strips
from segalgos.smoothing import gaussian
from segalgos.union_find import find

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

# About so large are tiles, so that their regions and edges stay in the cache.
TILE_2D, TILE_3D = (1, 192, 192), (16, 32, 32)


@njit(nogil=True, cache=True)
def _find_ends(keys, steps, direction_bits, labels, ends):
    """Look up the regions at both ends of edges.

    Parameters
    ----------
    keys : (n_edges,) uint64
    steps : (n_neighbours,) intp
        Difference of the image's flat indices along each kind of edge.
    direction_bits : int
    labels : (n_pixels,) int32
    ends : (n_edges, 2) int32, overwritten
    """
    index_mask = (np.uint64(1) << np.uint64(INDEX_BITS)) - np.uint64(1)
    direction_mask = (1 << direction_bits) - 1
    for k in range(keys.shape[0]):
        index = np.int64(keys[k] & index_mask)
        pixel = index >> direction_bits
        ends[k, 0] = labels[pixel]
        ends[k, 1] = labels[pixel + steps[index & direction_mask]]


@njit(nogil=True, cache=True)
def _merge(keys, ends, scale, min_size, regions, parent):
    """Merge regions along their edges.

    Parameters
    ----------
    keys : (n_edges,) uint64
        Weights above indices, sorted.
    ends : (n_edges, 2) int32
        Overwritten.
    scale : float
        The paper's k.
    min_size : int
        Smaller regions are merged along their lightest edge.
    regions : (n_regions,) REGION
        Overwritten.
    parent : (n_regions,) int32, overwritten

    Notes
    -----
    O(n_edges α(n_regions)) time. Serial by nature: each decision rests on all before it.
    """
    weight = np.empty(1, np.float32)
    bits = weight.view(np.uint32)
    n_left = 0
    for k in range(keys.shape[0]):
        a, b = find(parent, ends[k, 0]), find(parent, ends[k, 1])
        if a == b:
            continue
        bits[0] = np.uint32(keys[k] >> np.uint64(INDEX_BITS))
        if weight[0] <= min(regions[a].limit, regions[b].limit):  # eq. (3)
            join(parent, regions, a, b, weight[0], scale)
        else:
            ends[n_left, 0], ends[n_left, 1] = a, b
            n_left += 1
    for k in range(n_left):
        a, b = find(parent, ends[k, 0]), find(parent, ends[k, 1])
        if a != b and min(regions[a].size, regions[b].size) < min_size:
            join(parent, regions, a, b, np.float32(0), scale)


@njit(nogil=True, cache=True)
def _region_numbers(parent, first):
    """Number merged regions in the order of their first pixels.

    Parameters
    ----------
    parent : (n_regions,) int32
    first : (n_regions,) int64
        Flat index of the first pixel; overwritten.

    Returns
    -------
    (n_regions,) int32
    """
    n = parent.shape[0]
    for i in range(n):
        root = find(parent, i)
        first[root] = min(first[root], first[i])
    roots = np.flatnonzero(parent == np.arange(n))
    numbers = np.empty(n, np.int32)
    for k, r in enumerate(np.argsort(first[roots], kind="mergesort")):
        numbers[roots[r]] = k
    for i in range(n):
        numbers[i] = numbers[find(parent, i)]
    return numbers


def _tiles(shape, size):
    """Cut a volume into tiles that are nearly alike; gives where they start and stop."""
    axes = []
    for n, wanted in zip(shape, size):
        bounds = np.linspace(0, n, max(1, round(n / wanted)) + 1).astype(int)
        axes.append(list(pairwise(bounds)))
    bounds = np.array(list(product(*axes)))
    return bounds[:, :, 0], bounds[:, :, 1]


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
    labels = np.empty(inside.shape, np.int32)
    starts, stops = _tiles(inside.shape, TILE_2D if len(shape) == 2 else TILE_3D)

    def segment(i):
        return segment_tile(
            volume, inside, neighbours, direction_bits, float(scale), starts[i], stops[i], labels
        )

    tiles = map_items(segment, range(len(starts)))
    regions, first, keys = (np.concatenate(arrays) for arrays in zip(*tiles))
    ids = np.cumsum([0, *(len(part[0]) for part in tiles)])

    def renumber(i):
        part = tuple(map(slice, starts[i], stops[i]))
        np.add(labels[part], np.int32(ids[i]), out=labels[part], where=inside[part])

    map_items(renumber, range(len(tiles)))
    keys.sort()
    ends = np.empty((len(keys), 2), np.int32)
    steps = neighbours @ np.array([inside[0].size, inside.shape[2], 1])

    def find_ends(start, stop):
        _find_ends(keys[start:stop], steps, direction_bits, labels.ravel(), ends[start:stop])

    map_strips(find_ends, len(keys))
    parent = np.arange(len(regions), dtype=np.int32)
    _merge(keys, ends, float(scale), min_size, regions, parent)
    numbers = np.append(_region_numbers(parent, first), np.int32(-1))  # -1 stays -1
    flat = labels.ravel()

    def write(start, stop):
        np.take(numbers, flat[start:stop], out=flat[start:stop], mode="wrap")

    map_strips(write, flat.size)
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
    so the result is unique. A decision on an edge rests on the lighter edges of both its
    regions alone: tiles are therefore segmented independently as far as their borders have no
    part in it, and only what is left is sorted and merged for the whole image.
    O(n_pixels log n_pixels) time.

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
