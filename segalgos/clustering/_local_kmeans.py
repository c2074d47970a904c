"""k-means in space and colour, in which a centre sees only its surroundings: SLIC's rounds."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from segalgos.parallel import map_strips

__all__ = ["cluster"]

# Pixels are looked at in tiles: which centres may be nearest is found once for all of them.
TILE = 64  # pixels: 8 x 8, in volumes 4 x 4 x 4
STRIP = 32768  # pixels
STILL = 0.06  # of their reach: rounds end where centres move less (chosen on training images)
# Squared ranges of colours in a segment, where they take the place of compactness: the least,
# and the first guess, as a part of the mean of the largest in square cells.
SMALLEST_RANGE, FIRST_RANGE = np.float32(1), 0.05
ROUNDING = np.float32(1 + 1e-5)  # of bounds, so that ties are left to the pixels


class _Tiles(NamedTuple):
    """An image, in its full size or in averages of blocks, and how it is cut into tiles.

    Parameters
    ----------
    features : (C, D, H, W) float32
    mask : (D, H, W) uint8, 1 inside
    sides : (3,) intp
        Of a tile; those at the end of an axis may be smaller.
    counts : (3,) intp
        Tiles along each axis.
    offsets : (3, TILE) float32
        Of the pixels of a tile from its corner.
    """

    features: NDArray[np.float32]
    mask: NDArray[np.uint8]
    sides: NDArray[np.intp]
    counts: NDArray[np.intp]
    offsets: NDArray[np.float32]


def _tiles_of(features, mask):
    """Cut an image into tiles; gives how many rows of them there are and make a strip too."""
    sides = np.array((1, 8, 8) if len(mask) == 1 else (4, 4, 4))
    counts = -(-np.array(mask.shape) // sides)
    offsets = np.indices(sides).reshape(3, TILE).astype(np.float32)
    # At most some dozen strips, since each begins with a look at all centres.
    n_rows = int(counts[0] * counts[1])
    strip = max(STRIP // (TILE * int(counts[2])), n_rows // 64, 1)
    return _Tiles(features, mask, sides, counts, offsets), n_rows, strip


class _View(NamedTuple):
    """Centres as seen from a level.

    D² = `tightness` * (distance in colour)² + `weight` * (distance in space)²

    Parameters
    ----------
    positions : (n_centers, 3) float64
        In pixels of the level.
    colors : (n_centers, C) float32
    tightness : (n_centers,) float32
    weight : float32
    reach : float
        How far from a tile a centre is looked for, along each axis.
    n_cells : (3,) intp
        Centres are sorted into cells of space with sides of `reach`.
    starts : (prod(n_cells) + 1,) intp
        Where the members of each cell begin.
    members : (n_centers,) int32
        Centres, rising in each cell.
    """

    positions: NDArray[np.float64]
    colors: NDArray[np.float32]
    tightness: NDArray[np.float32]
    weight: np.float32
    reach: float
    n_cells: NDArray[np.intp]
    starts: NDArray[np.intp]
    members: NDArray[np.int32]


# --- the nearest centre of each pixel ----------------------------------------------------


@njit(nogil=True, cache=True)
def _sort_into_cells(positions, side, n_cells, starts, members):
    """Sort centres into cells; `starts`, zeros, and `members` as in `_View`."""
    places = np.empty(positions.shape[0], np.intp)
    for k in range(positions.shape[0]):
        place = 0
        for axis in range(3):
            place = place * n_cells[axis] + min(int(positions[k, axis] / side), n_cells[axis] - 1)
        places[k] = place
        starts[place + 1] += 1
    for place in range(starts.shape[0] - 1):
        starts[place + 1] += starts[place]
    filled = starts[:-1].copy()
    for k in range(positions.shape[0]):
        members[filled[places[k]]] = k
        filled[places[k]] += 1


@njit(nogil=True, cache=True)
def _load_row(features, shape, begin, end, sides, values, lowest, highest):
    """Copy the pixels of a row of tiles, and find ranges that hold each tile's colours.

    Parameters
    ----------
    features : (C * D * H * W,) float32
    shape : (3,) tuple of int
        D, H and W.
    begin, end : (2,) tuple of int
        Range of slices and of rows.
    sides : (3,) intp
        Of a whole tile.
    values : (n_tiles, C, TILE) float32
        Overwritten, but for parts of tiles that are outside the image.
    lowest, highest : (n_tiles, C) float32, overwritten

    Notes
    -----
    Unsigned indices and a length that is known beforehand make the row of a tile one move.
    """
    least, most = np.empty((2, TILE // 2), np.float32)
    n_channels, flat = values.shape[1], values.reshape(-1)
    for t in range(values.shape[0]):
        x = t * sides[2]
        width = min(sides[2], shape[2] - x)
        for c in range(n_channels):
            for z in range(begin[0], end[0]):
                for y in range(begin[1], end[1]):
                    source = np.uintp(((c * shape[0] + z) * shape[1] + y) * shape[2] + x)
                    row = (z - begin[0]) * sides[1] + y - begin[1]
                    target = np.uintp((t * n_channels + c) * TILE + row * sides[2])
                    if width == 8:
                        for i in range(np.uintp(8)):
                            flat[target + i] = features[source + i]
                    else:
                        for i in range(np.uintp(width)):
                            flat[target + i] = features[source + i]
            tile, n = values[t, c], TILE // 2
            for i in range(n):
                least[i] = tile[i] if tile[i] < tile[i + n] else tile[i + n]
                most[i] = tile[i] if tile[i] > tile[i + n] else tile[i + n]
            while n > 1:
                n //= 2
                for i in range(n):
                    least[i] = least[i] if least[i] < least[i + n] else least[i + n]
                    most[i] = most[i] if most[i] > most[i + n] else most[i + n]
            lowest[t, c], highest[t, c] = least[0], most[0]


@njit(nogil=True, cache=True)
def _cells_around(first, last, reach, n_cells):
    """Range of the cells, along an axis, whose centres some pixels may look at."""
    return max(int((first - reach) / reach), 0), min(int((last + reach) / reach) + 1, n_cells)


@njit(nogil=True, cache=True)
def _find_nearest(values, lowest, highest, begin, end, width, tiles, view, found, near, best):
    """Find the nearest centre of each pixel of a row of tiles.

    Parameters
    ----------
    values, lowest, highest, begin, end : as in `_load_row`
    width : int
        Of the image.
    tiles : _Tiles
    view : _View
    found, near : (n_centers,) int32 and float32, scratch
    best : (n_tiles, TILE) int32, overwritten
        ``n_centers`` where there is no centre around.

    Notes
    -----
    Few centres are around a tile. Of these, those are left out that are farther from all of
    the tile's range, in space and colour, than another one is from any of it. Ties go to the
    lower index.
    """
    sides, offsets = tiles.sides, tiles.offsets
    positions, colors, tightness, weight, reach, n_cells, starts, members = view
    n_channels, is_flat = values.shape[1], sides[0] == 1
    smallest, distance = np.empty((2, TILE), np.float32)
    first, last = np.empty(3), np.empty(3)
    first[0], first[1] = begin
    last[0], last[1] = end[0] - 1, end[1] - 1
    first_z, last_z = _cells_around(first[0], last[0], reach, n_cells[0])
    first_y, last_y = _cells_around(first[1], last[1], reach, n_cells[1])
    for t in range(values.shape[0]):
        first[2] = t * sides[2]
        last[2] = min(first[2] + sides[2], width) - 1
        first_x, last_x = _cells_around(first[2], last[2], reach, n_cells[2])
        bound, n = np.float32(np.inf), 0
        for z in range(first_z, last_z):
            for y in range(first_y, last_y):
                row = (z * n_cells[1] + y) * n_cells[2]
                for place in range(starts[row + first_x], starts[row + last_x]):
                    k = members[place]
                    nearest, farthest, is_seen = np.float32(0), np.float32(0), True
                    for axis in range(3):
                        below = np.float32(first[axis] - positions[k, axis])
                        above = np.float32(positions[k, axis] - last[axis])
                        outside, across = max(below, above), min(below, above)
                        is_seen &= outside <= reach
                        nearest += max(outside, np.float32(0)) ** 2
                        farthest += across**2
                    if not is_seen:
                        continue
                    nearest, farthest = nearest * weight, farthest * weight
                    for c in range(n_channels):
                        below, above = lowest[t, c] - colors[k, c], colors[k, c] - highest[t, c]
                        outside, across = max(below, above), min(below, above)
                        nearest += max(outside, np.float32(0)) ** 2 * tightness[k]
                        farthest += across**2 * tightness[k]
                    if nearest <= bound:
                        bound = min(bound, farthest * ROUNDING)
                        i = n
                        while i > 0 and found[i - 1] > k:
                            found[i], near[i] = found[i - 1], near[i - 1]
                            i -= 1
                        found[i], near[i] = k, nearest
                        n += 1
        n_left = 0
        for i in range(n):
            if near[i] <= bound:
                found[n_left] = found[i]
                n_left += 1

        names = best[t]
        names[:] = found[0] if n_left > 0 else positions.shape[0]
        if n_left < 2:
            continue
        smallest[:] = np.inf
        for i in range(n_left):
            k = found[i]
            scale = tightness[k]
            row = np.float32(positions[k, 1] - first[1])
            column = np.float32(positions[k, 2] - first[2])
            if n_channels == 3 and is_flat:  # as below, but the distance stays in a register
                plane0, plane1, plane2 = values[t, 0], values[t, 1], values[t, 2]
                color0, color1, color2 = colors[k, 0], colors[k, 1], colors[k, 2]
                rows, columns = offsets[1], offsets[2]
                for j in range(TILE):
                    d = (plane0[j] - color0) ** 2 + (plane1[j] - color1) ** 2
                    d = scale * (d + (plane2[j] - color2) ** 2)
                    d += weight * ((rows[j] - row) ** 2 + (columns[j] - column) ** 2)
                    closer = d < smallest[j]
                    smallest[j] = d if closer else smallest[j]
                    names[j] = k if closer else names[j]
                continue
            distance[:] = 0
            for c in range(n_channels):
                plane, color = values[t, c], colors[k, c]
                for j in range(TILE):
                    distance[j] += scale * (plane[j] - color) ** 2
            for axis in range(3):
                plane, position = offsets[axis], np.float32(positions[k, axis] - first[axis])
                for j in range(TILE):
                    distance[j] += weight * (plane[j] - position) ** 2
            for j in range(TILE):
                closer = distance[j] < smallest[j]
                smallest[j] = distance[j] if closer else smallest[j]
                names[j] = k if closer else names[j]


@njit(nogil=True, cache=True)
def _store_row(best, mask, shape, begin, end, sides, labels):
    """Write the labels of a row of tiles; as `_load_row`, the other way round.

    Parameters
    ----------
    best : (n_tiles, TILE) int32
    mask : (D * H * W,) uint8, 1 inside
    shape, begin, end, sides : as in `_load_row`
    labels : (D * H * W,) int32
        Overwritten in the tiles, with -1 outside the mask.
    """
    flat = best.reshape(-1)
    for z in range(begin[0], end[0]):
        for y in range(begin[1], end[1]):
            row = (z - begin[0]) * sides[1] + y - begin[1]
            for t in range(best.shape[0]):
                x = t * sides[2]
                target = np.uintp((z * shape[1] + y) * shape[2] + x)
                source = np.uintp(t * TILE + row * sides[2])
                width = min(sides[2], shape[2] - x)
                if width == 8:
                    for i in range(np.uintp(8)):
                        labels[target + i] = flat[source + i] if mask[target + i] else np.int32(-1)
                else:
                    for i in range(np.uintp(width)):
                        labels[target + i] = flat[source + i] if mask[target + i] else np.int32(-1)


@njit(nogil=True, cache=True)
def _row_of_tiles(tiles, row):
    """Range of slices and rows that a row of tiles takes up: (begin, end)."""
    z, y = row // tiles.counts[1] * tiles.sides[0], row % tiles.counts[1] * tiles.sides[1]
    _, depth, height, _ = tiles.features.shape
    return (z, y), (min(z + tiles.sides[0], depth), min(y + tiles.sides[1], height))


@njit(nogil=True, cache=True)
def _room_for_row(tiles, view):
    """Room for `_find_row`: values, lowest, highest, found, near and best."""
    (n_centers, n_channels), n_tiles = view.colors.shape, tiles.counts[2]
    values = np.zeros((n_tiles, n_channels, TILE), np.float32)
    lowest, highest = np.empty((2, n_tiles, n_channels), np.float32)
    found, near = np.empty(n_centers, np.int32), np.empty(n_centers, np.float32)
    return values, lowest, highest, found, near, np.empty((n_tiles, TILE), np.int32)


@njit(nogil=True, cache=True)
def _find_row(features, shape, begin, end, tiles, view, room):
    """Load a row of tiles and find the nearest centres; see `_load_row`, `_find_nearest`."""
    values, lowest, highest, found, near, best = room
    _load_row(features, shape, begin, end, tiles.sides, values, lowest, highest)
    found_by = lowest, highest, begin, end, shape[2], tiles, view, found, near, best
    _find_nearest(values, *found_by)


@njit(nogil=True, cache=True)
def _assign(tiles, view, labels, first, last):
    """Give the pixels of some rows of tiles the nearest of the centres around the tile.

    Parameters
    ----------
    tiles : _Tiles
    view : _View
    labels : (D, H, W) int32, overwritten
        -1 outside the mask, ``n_centers`` where there is no centre around.
    first, last : int
        Range of rows of tiles.

    Notes
    -----
    O(n_pixels * C) time.
    """
    room = _room_for_row(tiles, view)
    best, features, mask = room[-1], tiles.features.reshape(-1), tiles.mask.reshape(-1)
    for row in range(first, last):
        begin, end = _row_of_tiles(tiles, row)
        _find_row(features, labels.shape, begin, end, tiles, view, room)
        _store_row(best, mask, labels.shape, begin, end, tiles.sides, labels.reshape(-1))


# --- new centres -------------------------------------------------------------------------


@njit(nogil=True, cache=True)
def _add_up(tiles, view, adaptive, first, last):
    """Add up the pixels of each centre in some rows of tiles.

    Parameters
    ----------
    tiles : _Tiles
    view : _View
    adaptive : bool
        Whether to look for the largest distance of colour.
    first, last : int
        Range of rows of tiles.

    Returns
    -------
    centers : (n,) int32
        Those that have pixels here.
    sums : (n, 4 + C) float64
        Of ones, slices, rows, columns and features.
    largest : (n,) float32
        Squared distance of colour from the centre to its pixels; 0 if not adaptive.
    """
    (n_centers, n_channels), n_tiles = view.colors.shape, tiles.counts[2]
    room = _room_for_row(tiles, view)
    values, best = room[0], room[-1]
    features, mask, sides = tiles.features.reshape(-1), tiles.mask, tiles.sides
    # Most centres are far away: rows of sums are handed out to those that get pixels.
    row_of, centers = np.full(n_centers + 1, -1, np.int32), np.empty(n_centers, np.int32)
    sums, largest = np.empty((n_centers, 4 + n_channels)), np.zeros(n_centers, np.float32)
    n_rows = 0
    for row in range(first, last):
        begin, end = _row_of_tiles(tiles, row)
        _find_row(features, mask.shape, begin, end, tiles, view, room)
        for t in range(n_tiles):
            x = t * sides[2]
            width = min(sides[2], mask.shape[2] - x)
            for z in range(begin[0], end[0]):
                for y in range(begin[1], end[1]):
                    start = ((z - begin[0]) * sides[1] + y - begin[1]) * sides[2]
                    for i in range(start, start + width):
                        k = best[t, i]
                        if not mask[z, y, x + i - start] or k == n_centers:
                            continue
                        if row_of[k] < 0:
                            row_of[k], centers[n_rows], sums[n_rows] = n_rows, k, 0
                            n_rows += 1
                        total = sums[row_of[k]]
                        total[0] += 1
                        total[1] += z
                        total[2] += y
                        total[3] += x + i - start
                        for c in range(n_channels):
                            total[4 + c] += values[t, c, i]
                        if adaptive:
                            squared = np.float32(0)
                            for c in range(n_channels):
                                squared += (values[t, c, i] - view.colors[k, c]) ** 2
                            largest[row_of[k]] = max(largest[row_of[k]], squared)
    return centers[:n_rows].copy(), sums[:n_rows].copy(), largest[:n_rows].copy()


@njit(nogil=True, cache=True, error_model="numpy")  # a test for zero would stop vectors
def _average(features, mask, sides, small, small_mask, first, last):
    """Average blocks of pixels, inside the mask.

    Parameters
    ----------
    features : (C, D, H, W) float32
    mask : (D, H, W) uint8, 1 inside
    sides : (3,) intp
        Of a block; those at the end of an axis may be smaller.
    small : (C, d, h, w) float32, overwritten
    small_mask : (d, h, w) uint8, overwritten
        1 where any pixel of the block is inside.
    first, last : int
        Range of rows of blocks, counted over all slices.
    """
    n_channels, depth, height, width = features.shape
    h, w = small.shape[2], small.shape[3]
    step = sides[2]
    weights, counts = np.empty(width, np.float32), np.zeros(w * step, np.float32)
    totals = np.zeros((n_channels, w * step), np.float32)
    for row in range(first, last):
        z, y = row // h, row % h
        counts[:] = 0
        totals[:] = 0
        for z2 in range(z * sides[0], min((z + 1) * sides[0], depth)):
            for y2 in range(y * sides[1], min((y + 1) * sides[1], height)):
                inside = mask[z2, y2]
                for x in range(width):
                    weights[x] = inside[x]
                    counts[x] += weights[x]
                for c in range(n_channels):
                    plane, total = features[c, z2, y2], totals[c]
                    for x in range(width):
                        total[x] += weights[x] * plane[x]
        for x in range(w):
            count = counts[x * step : (x + 1) * step].sum()
            small_mask[z, y, x] = count > 0
            for c in range(n_channels):
                total = totals[c, x * step : (x + 1) * step].sum()
                small[c, z, y, x] = total / max(count, np.float32(1))


@njit(nogil=True, cache=True)
def _reduce(centers, sums, largest, all_sums, all_largest):
    """Add what `_add_up` gave for some rows to what there is of all centres."""
    for row in range(centers.shape[0]):
        k = centers[row]
        all_sums[k] += sums[row]
        all_largest[k] = max(all_largest[k], largest[row])


@njit(nogil=True, cache=True)
def _move(total, sides, positions, colors):
    """Move centres to the means of their pixels; those without pixels stay.

    Parameters
    ----------
    total : (n_centers, 4 + C) float64
    sides : (3,) intp
        Of the level's pixels, in pixels of the image.
    positions, colors : as in `_Centers`, overwritten

    Returns
    -------
    float
        Mean squared distance by which they moved.
    """
    squared = 0.0
    for k in range(total.shape[0]):
        if total[k, 0] > 0:
            for axis in range(3):
                position = total[k, 1 + axis] / total[k, 0] * sides[axis] + (sides[axis] - 1) / 2
                squared += (position - positions[k, axis]) ** 2
                positions[k, axis] = position
            for c in range(colors.shape[1]):
                colors[k, c] = total[k, 4 + c] / total[k, 0]
    return squared / total.shape[0]


# --- rounds ------------------------------------------------------------------------------


@dataclass
class _Centers:
    """Centres of segments, and how distances to them are measured.

    D² = (distance in colour)² / `squared_range` + `weight` * (distance in space)²
    """

    positions: NDArray[np.float64]  # (n_centers, 3), in pixels of the image
    colors: NDArray[np.float32]  # (n_centers, C)
    squared_range: NDArray[np.float32]  # (n_centers,)
    weight: float
    reach: float
    adaptive: bool

    def seen_from(self, shape, sides):
        """How a level of that shape, whose pixels have these sides, sees the centres."""
        side = int(sides.max())
        reach = self.reach / side
        positions = (self.positions - (sides - 1) / 2) / sides
        n_cells = (np.array(shape) / reach).astype(np.intp) + 1
        starts = np.zeros(int(np.prod(n_cells)) + 1, np.intp)
        members = np.empty(len(positions), np.int32)
        _sort_into_cells(positions, reach, n_cells, starts, members)
        tightness, weight = 1 / self.squared_range, np.float32(self.weight * side**2)
        return _View(positions, self.colors, tightness, weight, reach, n_cells, starts, members)

    def sums(self, level):
        """Add up the pixels of each centre, and find the largest squared distance of colour."""
        features, mask, sides = level
        tiles, n_rows, strip = _tiles_of(features, mask)
        add_up = partial(_add_up, tiles, self.seen_from(mask.shape, sides), self.adaptive)
        total = np.zeros((len(self.colors), 4 + len(features)))
        largest = np.zeros(len(self.colors), np.float32)
        for part in map_strips(add_up, n_rows, strip):
            _reduce(*part, total, largest)
        return total, largest

    def guess_range(self, level):
        """Guess the range of colours from that in square cells, the same for all segments."""
        self.squared_range[:] = np.inf
        largest = self.sums(level)[1]
        self.squared_range[:] = max(FIRST_RANGE * largest.mean(), SMALLEST_RANGE)

    def settle(self, level, n_rounds):
        """Move the centres until they hardly move."""
        for i in range(n_rounds):
            total, largest = self.sums(level)
            if self.adaptive:  # the largest so far, as the authors have it, but for the guess
                self.squared_range = np.maximum(
                    largest, self.squared_range if i else SMALLEST_RANGE
                )
            if _move(total, level[2], self.positions, self.colors) < (STILL * self.reach) ** 2:
                break

    def assign(self, features, mask):
        """Give each pixel its centre, (D, H, W) int32."""
        tiles, n_rows, strip = _tiles_of(features, mask)
        labels = np.empty(mask.shape, np.int32)
        view = self.seen_from(mask.shape, np.ones(3, np.intp))
        map_strips(partial(_assign, tiles, view, labels), n_rows, strip)
        return labels


def _averaged(features, mask, side):
    """Average blocks of so many pixels along each axis longer than one; gives a level."""
    if side == 1:
        return features, mask, np.ones(3, np.intp)
    sides = np.where(np.array(mask.shape) > 1, side, 1)
    shape = tuple(-(-np.array(mask.shape) // sides))
    small, small_mask = np.empty((len(features), *shape), np.float32), np.empty(shape, np.uint8)
    work = partial(_average, features, mask, sides, small, small_mask)
    map_strips(work, shape[0] * shape[1], max(1, STRIP // (shape[2] * side**2)))
    return small, small_mask, sides


def cluster(
    features: NDArray[np.float32],
    mask: NDArray[np.bool_],
    seeds: NDArray[np.intp],
    spacing: float,
    compactness: float | None,
    max_iter: int,
    side: int,
) -> NDArray[np.int32]:
    """Cluster pixels around seeds.

    Parameters
    ----------
    features : (C, D, H, W) float32
    mask : (D, H, W) bool
    seeds : (n_seeds, 3) intp
    spacing : float
        A tile of pixels looks at the centres that are no farther away along any axis.
    compactness : float or None
        Distance in colour that counts as much as `spacing` does in space; None to take for
        each segment the largest distance from its mean.
    max_iter : int
        Rounds at most.
    side : int
        Of blocks. With more than one pixel, averages of blocks show the centres their
        places at a fraction of the cost, and only the last round looks at all pixels.

    Returns
    -------
    (D, H, W) int32
        Index of a seed; ``n_seeds`` where no centre is near enough, -1 outside the mask.

    Notes
    -----
    O(n_pixels * C * max_iter) time.
    """
    mask, is_adaptive = mask.view(np.uint8), compactness is None
    # Without adaptive ranges the compactness moves to the other side: it may be 0.
    centers = _Centers(
        positions=seeds.astype(np.float64),
        colors=features[(slice(None), *seeds.T)].T.copy(),
        squared_range=np.ones(len(seeds), np.float32),
        weight=((1 if is_adaptive else compactness) / spacing) ** 2,
        reach=spacing,
        adaptive=is_adaptive,
    )
    level = _averaged(features, mask, side)
    if is_adaptive:
        centers.guess_range(level)
    centers.settle(level, max_iter - 1)
    return centers.assign(features, mask)
