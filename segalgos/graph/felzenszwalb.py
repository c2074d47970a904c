"""Felzenszwalb and Huttenlocher's graph-based segmentation."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from itertools import product

import numpy as np
from numba import njit
from numpy.typing import ArrayLike, NDArray

from segalgos.base import Segmenter, Traits
from segalgos.checks import check_image, check_int, check_mask, check_real
from segalgos.color import find_data_range, rescale
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

# A key holds an edge's weight above its index; non-negative floats sort like their bits.
INDEX_BITS = 33
# Within a tile it holds the weight above a code: of an edge, or else of a pixel on the border.
CODE_BITS = 32
EDGE = 1 << 31

TILE_2D, TILE_3D = (1, 256, 256), (32, 40, 48)  # their regions and edges stay in the cache
N_RECENT = 1 << 14
# Shares of a tile's edges after which the heavier ones are looked through again.
SHARES, N_SAMPLES = (0.25, 0.5, 0.75), 1024


# --- tiles -------------------------------------------------------------------------------


@njit(nogil=True, cache=True)
def _load_row(image, mask, z, y, x0, x1, values, inside):
    """Copy a piece of a row, one channel after the other."""
    for x in range(x0, x1):
        inside[x - x0] = mask[z, y, x]
    for c in range(image.shape[3]):
        for x in range(x0, x1):
            values[c, x - x0] = image[z, y, x, c]


@njit(nogil=True, cache=True)
def _tile_edges(image, mask, neighbours, direction_bits, start, stop, keys, crossing):
    """Write the keys of all edges that begin or end in a tile.

    Parameters
    ----------
    image : (D, H, W, C) float32
    mask : (D, H, W) bool
    neighbours : (n_neighbours, 3) intp
        Sorted, so that those in one row follow each other.
    direction_bits : int
        Bits that hold the number of a neighbour.
    start, stop : (3,) intp
        The tile.
    keys : (n,) uint64, overwritten
        Gets edges within the tile, and the pixels at which others leave it.
    crossing : (n,) uint64, overwritten
        Gets the edges from the tile to others, with their index in the whole image.

    Returns
    -------
    n_keys, n_crossing : int
    """
    depth, height, width, n_channels = image.shape
    x0, x1 = max(start[2] - 1, 0), min(stop[2] + 1, width)
    here, there = np.empty((2, n_channels, x1 - x0))
    here_inside, there_inside = np.empty((2, x1 - x0), np.bool_)
    squared, weight = np.empty(x1 - x0), np.empty(x1 - x0, np.float32)
    bits = weight.view(np.uint32)
    n_rows, n_columns = stop[1] - start[1], stop[2] - start[2]
    n_keys = n_crossing = 0
    for z in range(max(start[0] - 1, 0), stop[0]):
        for y in range(max(start[1] - 1, 0), min(stop[1] + 1, height)):
            _load_row(image, mask, z, y, x0, x1, here, here_inside)
            is_own = start[0] <= z < stop[0] and start[1] <= y < stop[1]
            first_of_row = ((z - start[0]) * n_rows + y - start[1]) * n_columns - start[2]
            row = (z * height + y) * width
            other_row = -1
            for n in range(neighbours.shape[0]):
                z2, y2, dx = z + neighbours[n, 0], y + neighbours[n, 1], neighbours[n, 2]
                is_other_own = start[0] <= z2 < stop[0] and start[1] <= y2 < stop[1]
                if z2 >= depth or not 0 <= y2 < height or not (is_own or is_other_own):
                    continue
                if other_row != z2 * height + y2:
                    other_row = z2 * height + y2
                    _load_row(image, mask, z2, y2, x0, x1, there, there_inside)
                # Pixels x and x + dx, as far as both are there, counted from x0.
                begin, end = max(0, -dx), min(x1 - x0, x1 - x0 - dx)
                size = end - begin
                sums, sources = squared[:size], here_inside[begin:end]
                targets = there_inside[begin + dx : end + dx]
                sums[:] = 0
                for c in range(n_channels):
                    one, other = here[c, begin:end], there[c, begin + dx : end + dx]
                    for i in range(size):
                        difference = one[i] - other[i]
                        sums[i] += difference * difference
                for i in range(size):
                    weight[i] = np.sqrt(sums[i])
                # From `low` to `high` both ends are in the tile, if the rows are.
                low = high = 0
                if is_own and is_other_own:
                    low = max(start[2], start[2] - dx) - x0 - begin
                    high = min(stop[2], stop[2] - dx) - x0 - begin
                    code = ((first_of_row + x0 + begin) << direction_bits) + n + EDGE
                    for i in range(low, high):
                        key = np.uint64(bits[i]) << np.uint64(CODE_BITS)
                        keys[n_keys] = key | np.uint64(code + (i << direction_bits))
                        n_keys += sources[i] & targets[i]
                other_first = ((z2 - start[0]) * n_rows + y2 - start[1]) * n_columns - start[2]
                for part in range(2):
                    for i in range(0 if part == 0 else high, low if part == 0 else size):
                        if not (sources[i] and targets[i]):
                            continue
                        x = x0 + begin + i
                        key = np.uint64(bits[i]) << np.uint64(CODE_BITS)
                        if is_own and start[2] <= x < stop[2]:
                            keys[n_keys] = key | np.uint64(first_of_row + x)
                            n_keys += 1
                            key = np.uint64(bits[i]) << np.uint64(INDEX_BITS)
                            index = ((row + x) << direction_bits) + n
                            crossing[n_crossing] = key | np.uint64(index)
                            n_crossing += 1
                        elif is_other_own and start[2] <= x + dx < stop[2]:
                            keys[n_keys] = key | np.uint64(other_first + x + dx)
                            n_keys += 1
    return n_keys, n_crossing


@njit(nogil=True, cache=True)
def _join(parent, size, limit, a, b, weight, scale):
    """Merge two regions; returns the root."""
    if size[b] > size[a]:
        a, b = b, a
    parent[b] = a
    size[a] += size[b]
    # Edges come in ascending order: this one is the region's inner difference.
    limit[a] = weight + scale / size[a]
    return a


@njit(nogil=True, cache=True)
def _merge_tile(keys, steps, direction_bits, scale, parent, size, limit, waits):
    """Merge the regions of a tile along its edges, as far as that is safe.

    Parameters
    ----------
    keys : (n_keys,) uint64
        Sorted; overwritten.
    steps : (n_neighbours,) intp
        Difference of a tile's flat indices along each kind of edge.
    direction_bits : int
    scale : float
        The paper's k.
    parent, size : (n_pixels,) int32
    limit : (n_pixels,) float64
        Int(C) + k/|C| of each root, eq. (4).
    waits : (n_pixels,) bool
        Whether a root has an edge that is left for later.

    Returns
    -------
    int
        Number of edges that are left, at the front.

    Notes
    -----
    A decision rests on lighter edges of both regions alone. So it may be taken as soon as
    these are done with, whatever happens elsewhere; else the edge is left, and the heavier
    ones of both regions with it.
    """
    weight = np.empty(1, np.float32)
    bits = weight.view(np.uint32)
    code_mask = (np.uint64(1) << np.uint64(CODE_BITS)) - np.uint64(1)
    direction_mask = (1 << direction_bits) - 1
    n_left = 0
    for k in range(keys.shape[0]):
        code = np.int64(keys[k] & code_mask)
        if code < EDGE:
            waits[find(parent, code)] = True
            continue
        code -= EDGE
        pixel = code >> direction_bits
        a = find(parent, pixel)
        b = find(parent, pixel + steps[code & direction_mask])
        if a == b:
            continue
        if waits[a] or waits[b]:
            waits[a] = waits[b] = True
        else:
            bits[0] = np.uint32(keys[k] >> np.uint64(CODE_BITS))
            if weight[0] <= min(limit[a], limit[b]):  # eq. (3)
                _join(parent, size, limit, a, b, weight[0], scale)
                continue
        keys[n_left] = keys[k]
        n_left += 1
    return n_left


@njit(nogil=True, cache=True)
def _split(keys, pivot, light):
    """Move keys below a pivot to another array; returns how many are left and moved."""
    n_left = n_light = 0
    for k in range(keys.shape[0]):
        key = keys[k]
        light[n_light] = key
        keys[n_left] = key
        n_light += key < pivot
        n_left += key >= pivot
    return n_left, n_light


@njit(nogil=True, cache=True)
def _between_regions(keys, steps, direction_bits, parent):
    """Keep edges between different regions, of those between the same two the lightest.

    Parameters
    ----------
    keys : (n_keys,) uint64
        Overwritten. Pixels on the border are kept.
    steps, direction_bits : as in `_merge_tile`
    parent : (n_pixels,) int32
        Overwritten: each pixel's parent becomes its root.

    Returns
    -------
    int
        Number of keys that are kept, at the front. Some heavier ones may be among them.

    Notes
    -----
    Only the lightest edge between two regions matters: if it does not join them, then one
    of them cannot grow any more until the last phase, which asks for the lightest again.
    """
    for i in range(parent.shape[0]):
        parent[i] = find(parent, i)
    code_mask = (np.uint64(1) << np.uint64(CODE_BITS)) - np.uint64(1)
    direction_mask = (1 << direction_bits) - 1
    n_different = 0
    for k in range(keys.shape[0]):
        key = keys[k]
        code = np.int64(key & code_mask)
        keys[n_different] = key
        if code < EDGE:
            n_different += 1
        else:
            pixel = (code - EDGE) >> direction_bits
            n_different += parent[pixel] != parent[pixel + steps[code & direction_mask]]
    ends = np.full((N_RECENT, 2), -1, np.int32)
    recent = np.empty(N_RECENT, np.int64)
    n_kept = 0
    for k in range(n_different):
        key = keys[k]
        code = np.int64(key & code_mask)
        if code >= EDGE:
            code -= EDGE
            pixel = code >> direction_bits
            a, b = parent[pixel], parent[pixel + steps[code & direction_mask]]
            a, b = min(a, b), max(a, b)
            place = (a * 31 + b) & (N_RECENT - 1)
            if ends[place, 0] == a and ends[place, 1] == b:
                keys[recent[place]] = min(keys[recent[place]], key)
                continue
            recent[place] = n_kept
            ends[place, 0], ends[place, 1] = a, b
        keys[n_kept] = key
        n_kept += 1
    return n_kept


@njit(nogil=True, cache=True)
def _number_tile(mask, start, stop, parent, labels, first):
    """Number the regions of a tile in raster order.

    Parameters
    ----------
    mask : (D, H, W) bool
    start, stop : (3,) intp
    parent : (n_pixels,) int32
    labels : (D, H, W) int32, overwritten in the tile
    first : (n_pixels,) int64, overwritten in part
        Gets the flat index of each region's first pixel.

    Returns
    -------
    roots : (n_regions,) int32
    """
    height, width = mask.shape[1:]
    number = np.full(parent.shape[0], -1, np.int32)
    roots = np.empty(parent.shape[0], np.int32)
    n_regions, i = 0, 0
    for z in range(start[0], stop[0]):
        for y in range(start[1], stop[1]):
            for x in range(start[2], stop[2]):
                label = -1
                if mask[z, y, x]:
                    root = find(parent, i)
                    if number[root] < 0:
                        number[root] = n_regions
                        roots[n_regions] = root
                        first[n_regions] = (z * height + y) * width + x
                        n_regions += 1
                    label = number[root]
                labels[z, y, x] = label
                i += 1
    return roots[:n_regions]


@njit(nogil=True, cache=True)
def _whole_image_keys(keys, shape, start, stop, direction_bits, out):
    """Write the keys of a tile's edges with their indices in the whole image.

    Parameters
    ----------
    keys : (n_keys,) uint64
        Those of pixels on the border are skipped.
    shape : (3,) intp
        Of the image.
    start, stop : (3,) intp
        The tile.
    direction_bits : int
    out : (n,) uint64, overwritten

    Returns
    -------
    int
        Number of edges.
    """
    n_rows, n_columns = stop[1] - start[1], stop[2] - start[2]
    code_mask = (np.uint64(1) << np.uint64(CODE_BITS)) - np.uint64(1)
    n = 0
    for k in range(keys.shape[0]):
        code = np.int64(keys[k] & code_mask)
        if code >= EDGE:
            code -= EDGE
            pixel = code >> direction_bits
            x, row = pixel % n_columns + start[2], pixel // n_columns
            y, z = row % n_rows + start[1], row // n_rows + start[0]
            index = ((z * shape[1] + y) * shape[2] + x) << direction_bits
            index |= code & ((1 << direction_bits) - 1)
            weight = keys[k] >> np.uint64(CODE_BITS)
            out[n] = (weight << np.uint64(INDEX_BITS)) | np.uint64(index)
            n += 1
    return n


@dataclass
class _Tile:
    """What is left of a tile: its regions, and the edges not decided on.

    Parameters
    ----------
    box : tuple of slice
    size : (n_regions,) int32
    limit : (n_regions,) float64
    first : (n_regions,) int64
        Flat index of each region's first pixel.
    keys : (n_edges,) uint64
        Within the tile, and from it to others.
    """

    box: tuple[slice, slice, slice]
    size: NDArray[np.int32]
    limit: NDArray[np.float64]
    first: NDArray[np.int64]
    keys: NDArray[np.uint64]


def _segment_tile(image, mask, neighbours, direction_bits, scale, labels, tile, start):
    """Segment one tile as far as it does not depend on others.

    Parameters
    ----------
    image, mask, neighbours, direction_bits : as in `_tile_edges`
    scale : float
    labels : (D, H, W) int32, overwritten in the tile
        Ids from 0 on.
    tile : (3,) tuple of int
        Size of tiles.
    start : (3,) tuple of int

    Returns
    -------
    _Tile
    """
    start = np.array(start)
    stop = np.minimum(start + tile, mask.shape)
    extent = stop - start
    n_pixels = int(np.prod(extent))
    n_around = int(np.prod(extent + 2))
    keys = np.empty(n_around * len(neighbours), np.uint64)
    crossing = np.empty((n_around - n_pixels) * len(neighbours), np.uint64)
    n_keys, n_crossing = _tile_edges(
        image, mask, neighbours, direction_bits, start, stop, keys, crossing
    )
    keys = keys[:n_keys]
    parent, size = np.arange(n_pixels, dtype=np.int32), np.ones(n_pixels, np.int32)
    # A pixel alone has no inner difference, eq. (5).
    limit, waits = np.full(n_pixels, scale), np.zeros(n_pixels, bool)
    steps = neighbours @ np.array([extent[1] * extent[2], extent[2], 1])

    def merge(keys):
        return _merge_tile(keys, steps, direction_bits, scale, parent, size, limit, waits)

    # The lightest edges go first. Many of the others then lie within regions or side by side
    # between two, and only the rest is sorted.
    sample = np.sort(keys[:: max(1, n_keys // N_SAMPLES)])
    light = np.empty(n_keys + 1, np.uint64)
    parts = []
    for share in SHARES if n_keys else ():
        n_heavy, n_light = _split(keys, sample[int(len(sample) * share)], light)
        lightest = light[:n_light]
        lightest.sort()
        parts.append(lightest[: merge(lightest)].copy())
        keys = keys[: _between_regions(keys[:n_heavy], steps, direction_bits, parent)]
    keys.sort()
    left = np.concatenate([*parts, keys[: merge(keys)]])
    left = left[: _between_regions(left, steps, direction_bits, parent)]

    first = np.empty(n_pixels, np.int64)
    roots = _number_tile(mask, start, stop, parent, labels, first)
    out = np.empty(len(left) + n_crossing, np.uint64)
    out[:n_crossing] = crossing[:n_crossing]
    shape = np.array(mask.shape)
    n_inner = _whole_image_keys(left, shape, start, stop, direction_bits, out[n_crossing:])
    return _Tile(
        tuple(map(slice, start, stop)),
        size[roots],
        limit[roots],
        first[: len(roots)].copy(),
        out[: n_crossing + n_inner].copy(),
    )


# --- the whole image ---------------------------------------------------------------------


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
def _merge(keys, ends, order, scale, min_size, size, limit, parent):
    """Merge regions along their edges.

    Parameters
    ----------
    keys : (n_edges,) uint64
        Weights above indices.
    ends : (n_edges, 2) int32
    order : (n_edges,) intp
        Sorts the keys; overwritten.
    scale : float
        The paper's k.
    min_size : int
        Smaller regions are merged along their lightest edge.
    size : (n_regions,) int32
    limit : (n_regions,) float64
    parent : (n_regions,) int32, overwritten

    Notes
    -----
    O(n_edges α(n_regions)) time. Serial by nature: each decision rests on all before it.
    """
    weight = np.empty(1, np.float32)
    bits = weight.view(np.uint32)
    n_left = 0
    for k in range(order.shape[0]):
        edge = order[k]
        a, b = find(parent, ends[edge, 0]), find(parent, ends[edge, 1])
        if a == b:
            continue
        bits[0] = np.uint32(keys[edge] >> np.uint64(INDEX_BITS))
        if weight[0] <= min(limit[a], limit[b]):  # eq. (3)
            _join(parent, size, limit, a, b, weight[0], scale)
        else:
            order[n_left] = edge
            n_left += 1
    for k in range(n_left):
        a, b = find(parent, ends[order[k], 0]), find(parent, ends[order[k], 1])
        if a != b and min(size[a], size[b]) < min_size:
            _join(parent, size, limit, a, b, np.float32(0), scale)


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
    for k, r in enumerate(np.argsort(first[roots])):
        numbers[roots[r]] = k
    for i in range(n):
        numbers[i] = numbers[find(parent, i)]
    return numbers


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
    tile = TILE_2D if len(shape) == 2 else TILE_3D
    starts = product(*(range(0, n, size) for n, size in zip(inside.shape, tile)))
    segment = partial(
        _segment_tile, volume, inside, neighbours, direction_bits, float(scale), labels, tile
    )
    tiles = map_items(segment, starts)
    ids = np.cumsum([0, *(len(part.size) for part in tiles)])

    def renumber(i):
        labels[tiles[i].box] += np.where(inside[tiles[i].box], np.int32(ids[i]), np.int32(0))

    map_items(renumber, range(len(tiles)))
    keys = np.concatenate([part.keys for part in tiles])
    ends = np.empty((len(keys), 2), np.int32)
    steps = neighbours @ np.array([inside[0].size, inside.shape[2], 1])

    def find_ends(start, stop):
        _find_ends(keys[start:stop], steps, direction_bits, labels.ravel(), ends[start:stop])

    map_strips(find_ends, len(keys))
    size, limit, first = (
        np.concatenate([getattr(part, name) for part in tiles])
        for name in ("size", "limit", "first")
    )
    parent = np.arange(len(size), dtype=np.int32)
    _merge(keys, ends, np.argsort(keys), float(scale), min_size, size, limit, parent)
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
