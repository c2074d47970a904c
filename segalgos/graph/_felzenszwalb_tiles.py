"""One tile of Felzenszwalb and Huttenlocher's segmentation, as far as no other tile matters."""

from __future__ import annotations

import numpy as np
from numba import njit

from segalgos.union_find import find

__all__ = ["INDEX_BITS", "REGION", "join", "segment_tile"]

# A key holds an edge's weight above its index; non-negative floats sort like their bits.
INDEX_BITS = 33
# Within a tile the index is a code: the first pixel's, and in the low bits the direction.
CODE_BITS = 32
NO_KEY = np.uint64((1 << 64) - 1)

# What is known of a region, together so that it is in one line of the cache: its size, its
# limit Int(C) + k/|C| of eq. (4), and the weight of the lightest edge that is left for later.
REGION = np.dtype([("limit", np.float64), ("size", np.int32), ("pending", np.float32)])

# Shares of a tile's edges, the lightest first, that are sorted and merged in turn. Many of the
# others then lie within regions, or side by side between two.
SHARES, N_SAMPLES = (0.25, 0.5, 0.75), 32
DIGIT_BITS = 12  # that a pass of sorting looks at, at most
N_RECENT = 1 << 12


# --- edges and their keys ----------------------------------------------------------------


@njit(nogil=True, cache=True)
def _weight(key):
    return np.uint32(key >> np.uint64(CODE_BITS))


@njit(nogil=True, cache=True)
def _code(key):
    return np.int64(key & np.uint64((1 << CODE_BITS) - 1))


@njit(nogil=True, cache=True)
def _load_row(image, mask, z, y, x0, x1, values, inside):
    """Copy a piece of a row, one channel after the other."""
    for x in range(x0, x1):
        inside[x - x0] = mask[z, y, x]
    for c in range(image.shape[3]):
        for x in range(x0, x1):
            values[c, x - x0] = image[z, y, x, c]


@njit(nogil=True, cache=True)
def _measure_edges(image, mask, neighbours, start, stop, weights, regions, crossing):
    """Weigh all edges that begin or end in a tile.

    Parameters
    ----------
    image, mask, neighbours, start, stop : as in `segment_tile`
    weights : (n_pixels, 2**direction_bits) float32
        All inf; gets the weights of edges within the tile and the mask, by their first pixels.
    regions : (n_pixels,) REGION
        One for each pixel; their `pending` gets the weight of the lightest edge to other tiles.
    crossing : (n,) uint64, overwritten
        Gets the keys of the edges from the tile to others.

    Returns
    -------
    int
        Number of edges from the tile to others.
    """
    depth, height, width, n_channels = image.shape
    n_directions = weights.shape[1]
    x0, x1 = max(start[2] - 1, 0), min(stop[2] + 1, width)
    here, there = np.empty((n_channels, x1 - x0)), np.empty((n_channels, x1 - x0))
    here_inside, there_inside = np.empty(x1 - x0, np.bool_), np.empty(x1 - x0, np.bool_)
    squared, weight = np.empty(x1 - x0), np.empty(x1 - x0, np.float32)
    bits = weight.view(np.uint32)
    n_rows, n_columns = stop[1] - start[1], stop[2] - start[2]
    n_crossing = 0
    other_row = -1
    for z in range(max(start[0] - 1, 0), stop[0]):
        for y in range(max(start[1] - 1, 0), min(stop[1] + 1, height)):
            here, there = there, here
            here_inside, there_inside = there_inside, here_inside
            if other_row != z * height + y:
                _load_row(image, mask, z, y, x0, x1, here, here_inside)
            other_row = -1
            is_own = start[0] <= z < stop[0] and start[1] <= y < stop[1]
            # Index within the tile of a pixel x of this row, less x.
            first = ((z - start[0]) * n_rows + y - start[1]) * n_columns - start[2]
            row = (z * height + y) * width
            for n in range(neighbours.shape[0]):
                z2, y2, dx = z + neighbours[n, 0], y + neighbours[n, 1], neighbours[n, 2]
                is_other_own = start[0] <= z2 < stop[0] and start[1] <= y2 < stop[1]
                if z2 >= depth or not 0 <= y2 < height or not (is_own or is_other_own):
                    continue
                is_same_row = z2 == z and y2 == y
                if not is_same_row and other_row != z2 * height + y2:
                    other_row = z2 * height + y2
                    _load_row(image, mask, z2, y2, x0, x1, there, there_inside)
                row_of_targets = here if is_same_row else there
                targets_inside = here_inside if is_same_row else there_inside
                # Pixels x and x + dx, as far as both are there, counted from x0.
                begin, end = max(0, -dx), min(x1 - x0, x1 - x0 - dx)
                size = end - begin
                sums, sources = squared[:size], here_inside[begin:end]
                targets = targets_inside[begin + dx : end + dx]
                sums[:] = 0
                for c in range(n_channels):
                    one, other = here[c, begin:end], row_of_targets[c, begin + dx : end + dx]
                    for i in range(size):
                        difference = one[i] - other[i]
                        sums[i] += difference * difference
                for i in range(size):
                    distance = np.float32(np.sqrt(sums[i]))
                    weight[i] = distance if sources[i] & targets[i] else np.float32(np.inf)
                # From `low` to `high` both ends are in the tile, if the rows are.
                low = high = 0
                if is_own and is_other_own:
                    low = max(start[2], start[2] - dx) - x0 - begin
                    high = min(stop[2], stop[2] - dx) - x0 - begin
                    pixel = first + x0 + begin
                    for i in range(low, high):
                        weights[pixel + i, n] = weight[i]
                other_first = ((z2 - start[0]) * n_rows + y2 - start[1]) * n_columns - start[2]
                for part in range(2):
                    for i in range(0 if part == 0 else high, low if part == 0 else size):
                        x = x0 + begin + i
                        if weight[i] == np.inf:
                            continue
                        if is_own and start[2] <= x < stop[2]:
                            pixel = first + x
                            key = np.uint64(bits[i]) << np.uint64(INDEX_BITS)
                            crossing[n_crossing] = key | np.uint64((row + x) * n_directions + n)
                            n_crossing += 1
                        elif is_other_own and start[2] <= x + dx < stop[2]:
                            pixel = other_first + x + dx
                        else:
                            continue
                        regions[pixel].pending = min(regions[pixel].pending, weight[i])
    return n_crossing


@njit(nogil=True, cache=True)
def _pivots(weights):
    """Choose the weights that part the edges into shares, from a sample."""
    sample = np.sort(weights[:: weights.shape[0] // N_SAMPLES + 1].copy().reshape(-1))
    n = np.searchsorted(sample, np.float32(np.inf))
    pivots = np.full(len(SHARES) + 2, np.inf, np.float32)
    pivots[0] = 0
    if n > 0:
        for s, share in enumerate(SHARES):
            pivots[s + 1] = sample[int(n * share)]
    return pivots


@njit(nogil=True, cache=True)
def _collect(bits, low, high, keys):
    """Write the keys of edges of some weights, in the order of their codes.

    Parameters
    ----------
    bits : (n_codes,) uint32
        Weights.
    low, high : uint32
        Range of weights, `high` excluded.
    keys : (n_codes + 1,) uint64, overwritten

    Returns
    -------
    int
        Number of keys.
    """
    n = 0
    for code in range(bits.shape[0]):
        keys[n] = (np.uint64(bits[code]) << np.uint64(CODE_BITS)) | np.uint64(code)
        n += np.uint32(bits[code] - low) < np.uint32(high - low)
    return n


@njit(nogil=True, cache=True)
def _between_regions(keys, steps, direction_bits, parent):
    """Keep edges between different regions, of those between the same two the lightest.

    Parameters
    ----------
    keys : (n_keys,) uint64
        Overwritten.
    steps, direction_bits : as in `_merge_tile`
    parent : (n_pixels,) int32
        Roots.

    Returns
    -------
    int
        Number of keys that are kept, at the front, in their order. Some heavier ones may be
        among them.

    Notes
    -----
    Only the lightest edge between two regions matters: if it does not join them, then one
    of them cannot grow any more until the last phase, which asks for the lightest again.
    """
    direction_mask = (1 << direction_bits) - 1
    n_different = 0
    for k in range(keys.shape[0]):
        pixel, direction = _code(keys[k]) >> direction_bits, _code(keys[k]) & direction_mask
        keys[n_different] = keys[k]
        n_different += parent[pixel] != parent[pixel + steps[direction]]
    ends, recent = np.full(N_RECENT, -1, np.int64), np.zeros(N_RECENT, np.int64)
    n = 0
    for k in range(n_different):
        key = keys[k]
        pixel, direction = _code(key) >> direction_bits, _code(key) & direction_mask
        one, other = np.int64(parent[pixel]), np.int64(parent[pixel + steps[direction]])
        a, b = min(one, other), max(one, other)
        pair, place = (a << 32) | b, (a * 31 + b) & (N_RECENT - 1)
        # Without branches, which would be guessed wrong.
        k_before = recent[place]
        before = keys[k_before]
        is_new, is_lighter = ends[place] != pair, key < before
        keys[k_before] = before if is_new | (not is_lighter) else NO_KEY
        keys[n] = key
        ends[place] = pair
        is_kept = is_new | is_lighter
        recent[place] = n if is_kept else k_before
        n += is_kept
    n_kept = 0
    for k in range(n):
        keys[n_kept] = keys[k]
        n_kept += keys[k] != NO_KEY
    return n_kept


@njit(nogil=True, cache=True)
def _sort(keys, other, low, high):
    """Sort keys by their weights, stably (radix sort).

    Parameters
    ----------
    keys, other : (n,) uint64
        Both are overwritten.
    low, high : uint32
        Range of weights.

    Returns
    -------
    (n,) uint64
        The one of both arrays that has the result.
    """
    n_bits = 0
    while (high - low) >> n_bits:
        n_bits += 1
    n_passes = max(1, (n_bits + DIGIT_BITS - 1) // DIGIT_BITS)
    digit_bits = np.uint64((n_bits + n_passes - 1) // n_passes)
    mask = (np.uint64(1) << digit_bits) - np.uint64(1)
    offset = np.uint64(low) << np.uint64(CODE_BITS)
    place = np.empty(1 << digit_bits, np.int64)
    for p in range(n_passes):
        shift = np.uint64(CODE_BITS) + digit_bits * np.uint64(p)
        place[:] = 0
        for k in range(keys.shape[0]):
            place[((keys[k] - offset) >> shift) & mask] += 1
        total = 0
        for d in range(place.shape[0]):
            total, place[d] = total + place[d], total
        for k in range(keys.shape[0]):
            digit = ((keys[k] - offset) >> shift) & mask
            other[place[digit]] = keys[k]
            place[digit] += 1
        keys, other = other, keys
    return keys


# --- merging -----------------------------------------------------------------------------


@njit(nogil=True, cache=True)
def join(parent, regions, a, b, weight, scale):
    """Merge two regions.

    Parameters
    ----------
    parent : (n,) int32
    regions : (n,) REGION
        Of the roots.
    a, b : int
        Both roots.
    weight : float
        Of the edge. Edges come in ascending order: it is the region's inner difference.
    scale : float
        The paper's k.
    """
    if regions[b].size > regions[a].size:
        a, b = b, a
    parent[b] = a
    regions[a].size += regions[b].size
    regions[a].limit = weight + scale / regions[a].size
    regions[a].pending = min(regions[a].pending, regions[b].pending)


@njit(nogil=True, cache=True)
def _merge_tile(keys, steps, direction_bits, scale, parent, regions):
    """Merge the regions of a tile along its edges, as far as that is safe.

    Parameters
    ----------
    keys : (n_keys,) uint64
        Sorted.
    steps : (n_neighbours,) intp
        Difference of a tile's flat indices along each kind of edge.
    direction_bits : int
    scale : float
        The paper's k.
    parent : (n_pixels,) int32
    regions : (n_pixels,) REGION

    Notes
    -----
    A decision rests on lighter edges of both regions alone. So it may be taken as soon as
    these are done with, whatever happens elsewhere; else the edge is left, and the heavier
    ones of both regions with it.
    """
    weight = np.empty(1, np.float32)
    bits = weight.view(np.uint32)
    direction_mask = (1 << direction_bits) - 1
    for k in range(keys.shape[0]):
        key = keys[k]
        pixel = _code(key) >> direction_bits
        a = find(parent, pixel)
        b = find(parent, pixel + steps[_code(key) & direction_mask])
        if a == b:
            continue
        bits[0] = _weight(key)
        one, other = regions[a], regions[b]
        if weight[0] >= min(one.pending, other.pending):
            one.pending = min(one.pending, weight[0])
            other.pending = min(other.pending, weight[0])
        elif weight[0] <= min(one.limit, other.limit):  # eq. (3)
            join(parent, regions, a, b, weight[0], scale)


@njit(nogil=True, cache=True)
def _flatten(parent):
    """Replace parents by roots."""
    for i in range(parent.shape[0]):
        parent[i] = find(parent, parent[parent[i]])


@njit(nogil=True, cache=True)
def _number_regions(mask, start, stop, parent, labels):
    """Number the regions of a tile in raster order.

    Parameters
    ----------
    mask, start, stop, labels : as in `segment_tile`
    parent : (n_pixels,) int32
        Roots.

    Returns
    -------
    roots : (n_regions,) int32
    first : (n_regions,) int64
        Flat index of each region's first pixel in the whole image.
    """
    height, width = mask.shape[1:]
    number = np.full(parent.shape[0], -1, np.int32)
    roots, first = np.empty(parent.shape[0], np.int32), np.empty(parent.shape[0], np.int64)
    n_regions, i = 0, 0
    for z in range(start[0], stop[0]):
        for y in range(start[1], stop[1]):
            for x in range(start[2], stop[2]):
                label = -1
                if mask[z, y, x]:
                    root = parent[i]
                    if number[root] < 0:
                        number[root] = n_regions
                        roots[n_regions] = root
                        first[n_regions] = (z * height + y) * width + x
                        n_regions += 1
                    label = number[root]
                labels[z, y, x] = label
                i += 1
    return roots[:n_regions], first[:n_regions].copy()


@njit(nogil=True, cache=True)
def _whole_image_keys(keys, shape, start, stop, direction_bits, out):
    """Write the keys of a tile's edges with their indices in the whole image.

    Parameters
    ----------
    keys : (n_keys,) uint64
    shape : tuple of int
        Of the image.
    start, stop : (3,) intp
        The tile.
    direction_bits : int
    out : (n_keys,) uint64, overwritten
    """
    n_rows, n_columns = np.uint64(stop[1] - start[1]), np.uint64(stop[2] - start[2])
    for k in range(keys.shape[0]):
        code = _code(keys[k])
        pixel = np.uint64(code >> direction_bits)
        row = pixel // n_columns  # unsigned, which is several times as fast
        z = row // n_rows
        x, y = np.int64(pixel - row * n_columns), np.int64(row - z * n_rows)
        row = (np.int64(z) + start[0]) * shape[1] + y + start[1]
        index = (row * shape[2] + x + start[2]) << direction_bits
        index |= code & ((1 << direction_bits) - 1)
        out[k] = (np.uint64(_weight(keys[k])) << np.uint64(INDEX_BITS)) | np.uint64(index)


@njit(nogil=True, cache=True)
def segment_tile(image, mask, neighbours, direction_bits, scale, start, stop, labels):
    """Segment one tile as far as it does not depend on others.

    Parameters
    ----------
    image : (D, H, W, C) float32
    mask : (D, H, W) bool
    neighbours : (n_neighbours, 3) intp
        Sorted, so that those in one row follow each other.
    direction_bits : int
        Bits that hold the number of a neighbour.
    scale : float
        The paper's k.
    start, stop : (3,) intp
        The tile.
    labels : (D, H, W) int32, overwritten in the tile
        Ids from 0 on.

    Returns
    -------
    regions : (n_regions,) REGION
    first : (n_regions,) int64
        Flat index of each region's first pixel.
    keys : (n_edges,) uint64
        Of the edges that are not decided on, within the tile and from it to others.
    """
    extent = stop - start
    n_pixels, n_around = extent.prod(), (extent + 2).prod()
    steps = np.empty(neighbours.shape[0], np.int64)
    for n in range(neighbours.shape[0]):
        dz, dy, dx = neighbours[n]
        steps[n] = (dz * extent[1] + dy) * extent[2] + dx

    weights = np.full((n_pixels, 1 << direction_bits), np.inf, np.float32)
    parent, regions = np.arange(n_pixels).astype(np.int32), np.empty(n_pixels, REGION)
    for i in range(n_pixels):
        # A pixel alone has no inner difference, eq. (5).
        regions[i].limit, regions[i].size, regions[i].pending = scale, 1, np.inf
    crossing = np.empty((n_around - n_pixels) * neighbours.shape[0], np.uint64)
    n_crossing = _measure_edges(image, mask, neighbours, start, stop, weights, regions, crossing)

    pivots = _pivots(weights).view(np.uint32)
    bits = weights.reshape(-1).view(np.uint32)
    n_keys = bits.shape[0] + 1  # apart: rows of one array would be read as if not contiguous
    keys, other = np.empty(n_keys, np.uint64), np.empty(n_keys, np.uint64)
    for share in range(len(SHARES)):
        low, high = pivots[share], pivots[share + 1]
        n = _collect(bits, low, high, keys)
        if share > 0:  # before, each pixel is a region
            n = _between_regions(keys[:n], steps, direction_bits, parent)
        found = _sort(keys[:n], other[:n], low, high)
        _merge_tile(found, steps, direction_bits, scale, parent, regions)
        _flatten(parent)
    # Of the heaviest edges too few could be decided on.
    n_left = _collect(bits, pivots[0], pivots[-1], keys)
    n_left = _between_regions(keys[:n_left], steps, direction_bits, parent)

    roots, first = _number_regions(mask, start, stop, parent, labels)
    out = np.empty(n_crossing + n_left, np.uint64)
    out[:n_crossing] = crossing[:n_crossing]
    _whole_image_keys(keys[:n_left], mask.shape, start, stop, direction_bits, out[n_crossing:])
    return regions[roots], first, out
