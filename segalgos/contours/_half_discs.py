"""Differences of histograms between the halves of discs, exactly, at eight orientations.

An image of codes is cut into tiles. For each bin of the histograms, sums along rows turn a
disc into its outline: a row of it is the difference of two sums, one on each side. The
outline is added up in bands of rows that end where a diameter meets the circle, so that all
eight halvings share it, and what remains of each is the sum along its diameter. Bins that do
not occur in a tile are left out.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise, product

import numpy as np
from numba import njit
from numpy.typing import NDArray

from segalgos.parallel import map_items

__all__ = ["N_ORIENTATIONS", "half_disc_gradients"]

N_ORIENTATIONS = 8
N_BANDS = 4  # of rows above the middle one, and as many below it
CHUNK = 512  # places that are looked at together: all their sums stay in the first cache
COARSEST, FINEST = 32, 1024  # what the weights of a pixel add up to, as integers
TILE_HEIGHT, TILE_WIDTH = 32, 256  # sums of a tile stay in the second cache

# Where the sums of a chunk stand. Those of the outline: right and left side of the middle row,
# of each band below it, of each band above it.
MIDDLE, RIGHT_BELOW, LEFT_BELOW, RIGHT_ABOVE, LEFT_ABOVE = 0, 2, 6, 10, 14
# Those along diameters: four steep or flat ones, the middle, and the straight and diagonal ones.
SLANTED, CENTRE, DOWN, RISING, FALLING = 18, 22, 23, 24, 25
N_SUMS = 26


@dataclass(frozen=True, eq=False)
class _Discs:
    """Discs of several radii around the same pixel, and where diameters cut their rows.

    Parameters
    ----------
    radii : (n_scales,) int64
        Ascending.
    chords : (n_scales, radius + 1) int64
        How far each disc reaches to either side, by the distance from its middle row; -1
        beyond it.
    limits : (n_scales, 1 + N_BANDS) int64
        Rows at which bands end: the last ones that are cut by diameters at 0, 22.5, 45, 67.5
        and 90 degrees to the rows.
    cuts : (2, radius + 1) int64
        Columns, rounded down, at which diameters of 22.5 and 67.5 degrees cross each row.
    areas : (n_scales,) int64
        Pixels of each disc.
    """

    radii: NDArray[np.int64]
    chords: NDArray[np.int64]
    limits: NDArray[np.int64]
    cuts: NDArray[np.int64]
    areas: NDArray[np.int64]


def make_discs(radii: tuple[int, ...]) -> _Discs:
    """Lay out the discs of ascending radii."""
    rows = np.arange(radii[-1] + 1)
    slopes = np.array([np.sqrt(2) + 1, np.sqrt(2) - 1])  # columns a row
    cuts = np.floor(np.multiply.outer(slopes, rows)).astype(np.int64)
    chords = np.full((len(radii), len(rows)), -1)
    limits = np.zeros((len(radii), 1 + N_BANDS), np.int64)
    for scale, radius in enumerate(radii):
        chord = np.floor(np.sqrt(radius**2 - rows[: radius + 1] ** 2 + 0.5)).astype(np.int64)
        chords[scale, : radius + 1] = chord
        columns = [cuts[0] + 1, rows, cuts[1] + 1]  # a slanted diameter never meets a pixel
        for band, column in enumerate(columns, 1):
            limits[scale, band] = np.flatnonzero(column[1 : radius + 1] <= chord[1:]).size
        limits[scale, N_BANDS] = radius
    areas = (2 * chords + 1).clip(0)
    areas = 2 * areas.sum(axis=1) - areas[:, 0]
    return _Discs(np.array(radii), chords, limits, cuts, areas)


# --- sums over planes --------------------------------------------------------------------


@njit(nogil=True, cache=True)
def _add_up(plane, start, offsets, first, last, work, place):
    """Add up a plane at several offsets from each place of a chunk.

    Parameters
    ----------
    plane : (n,) int16 or int32
    start : int
        The chunk's first place.
    offsets : (n_offsets,) intp
    first, last : int
        Range of `offsets`.
    work : (N_SUMS * CHUNK,) of the same dtype, overwritten in part
        Sums wrap around; those of whole half-discs fit.
    place : int
        Which of the sums is added to.
    """
    out = work[place * CHUNK : (place + 1) * CHUNK]
    k = first
    while k + 4 <= last:
        a = plane[start + offsets[k] :][:CHUNK]
        b = plane[start + offsets[k + 1] :][:CHUNK]
        c = plane[start + offsets[k + 2] :][:CHUNK]
        d = plane[start + offsets[k + 3] :][:CHUNK]
        for i in range(CHUNK):
            out[i] += a[i] + b[i] + c[i] + d[i]
        k += 4
    while k < last:
        a = plane[start + offsets[k] :][:CHUNK]
        for i in range(CHUNK):
            out[i] += a[i]
        k += 1


@njit(nogil=True, cache=True)
def _subtract(plane, high, low, work, place):
    """Write the differences of a plane between two places and all that follow in a chunk."""
    out = work[place * CHUNK : (place + 1) * CHUNK]
    a, b = plane[high : high + CHUNK], plane[low : low + CHUNK]
    for i in range(CHUNK):
        out[i] = a[i] - b[i]


@njit(nogil=True, cache=True)
def _sum_rows(codes, top, left, weights, sums, stride):
    """Write the sums of a bin's weights along rows, each from the window's left side.

    Parameters
    ----------
    codes : (H, W) uint8 or uint16
    top, left : int
        Where the window begins.
    weights : (n_codes,) int16 or int32
        Of the bin.
    sums : (n_rows, stride) of the same dtype, overwritten
        A column more than the window has.
    """
    for row in range(sums.shape[0]):
        source, target = codes[top + row, left : left + stride - 1], sums[row]
        total = target[0] = 0
        for j in range(source.shape[0]):
            total += weights[source[j]]
            target[j + 1] = total


@njit(nogil=True, cache=True)
def _add_above(above, middle, below):
    for j in range(below.shape[0]):
        below[j] = above[j] + middle[j]


@njit(nogil=True, cache=True)
def _sum_lines(planes, n_rows, stride):
    """Sum along columns and diagonals what `_sum_rows` wrote into the first plane.

    Parameters
    ----------
    planes : (5, n) int16 or int32
        Rows one after the other. Overwritten are the second, with sums of neighbours, and the
        others, with sums of these: down, down to the left and down to the right.
    n_rows, stride : int
    """
    rows, pairs, down, rising, falling = planes[0], planes[1], planes[2], planes[3], planes[4]
    n = n_rows * stride
    _add_above(rows[:n], rows[1 : n + 1], pairs[:n])
    down[:stride] = 0
    rising[: stride + 1] = 0
    falling[: stride + 1] = 0
    for row in range(n_rows):
        here, next_row = row * stride, (row + 1) * stride
        middle = pairs[here:next_row]
        _add_above(down[here:next_row], middle, down[next_row : next_row + stride])
        _add_above(rising[here + 1 : next_row + 1], middle, rising[next_row : next_row + stride])
        _add_above(falling[here:next_row], middle, falling[next_row + 1 : next_row + 1 + stride])


# --- from sums to differences of histograms ----------------------------------------------


@njit(nogil=True, cache=True)
def _combine(work):
    """Write discs and differences of their halves, from the sums of one scale.

    Parameters
    ----------
    work : (N_SUMS * CHUNK,) int16 or int32, overwritten in part
        The sum of each disc, then right less left half, or lower less upper one, of all
        orientations. Pixels on a diameter belong half to either side.
    """
    # Constant places in one array: the compiler sees that none is read after it was written.
    # Each sum is cut to the dtype at once, so that vectors hold as many as they can.
    narrow = work.dtype.type
    for i in range(CHUNK):
        right0, left0 = work[i], work[CHUNK + i]
        below1 = narrow(work[2 * CHUNK + i] - work[6 * CHUNK + i])
        below2 = narrow(work[3 * CHUNK + i] - work[7 * CHUNK + i])
        below3 = narrow(work[4 * CHUNK + i] - work[8 * CHUNK + i])
        below4 = narrow(work[5 * CHUNK + i] - work[9 * CHUNK + i])
        above1 = narrow(work[10 * CHUNK + i] - work[14 * CHUNK + i])
        above2 = narrow(work[11 * CHUNK + i] - work[15 * CHUNK + i])
        above3 = narrow(work[12 * CHUNK + i] - work[16 * CHUNK + i])
        above4 = narrow(work[13 * CHUNK + i] - work[17 * CHUNK + i])
        # A band's both sides are twice its left side and its chords.
        cut0 = narrow(right0 + left0)
        cut1 = narrow(cut0 + below1 + above1 + 2 * (work[6 * CHUNK + i] + work[14 * CHUNK + i]))
        cut2 = narrow(cut1 + below2 + above2 + 2 * (work[7 * CHUNK + i] + work[15 * CHUNK + i]))
        cut3 = narrow(cut2 + below3 + above3 + 2 * (work[8 * CHUNK + i] + work[16 * CHUNK + i]))
        cut4 = narrow(cut3 + below4 + above4 + 2 * (work[9 * CHUNK + i] + work[17 * CHUNK + i]))
        whole4 = narrow(below4 - above4)
        whole3 = narrow(whole4 + below3 - above3)
        whole2 = narrow(whole3 + below2 - above2)
        whole1 = narrow(whole2 + below1 - above1)
        below = narrow(below1 + below2 + below3 + below4)
        above = narrow(above1 + above2 + above3 + above4)
        centre = work[22 * CHUNK + i]
        work[i] = right0 - left0 + below + above
        work[1 * CHUNK + i] = whole1
        work[2 * CHUNK + i] = cut1 - 2 * work[18 * CHUNK + i] - centre + whole2
        work[3 * CHUNK + i] = cut2 - work[24 * CHUNK + i] + whole3
        work[4 * CHUNK + i] = cut3 - 2 * work[19 * CHUNK + i] - centre + whole4
        work[5 * CHUNK + i] = cut4 - work[23 * CHUNK + i]
        work[6 * CHUNK + i] = cut3 - 2 * work[20 * CHUNK + i] - centre - whole4
        work[7 * CHUNK + i] = cut2 - work[25 * CHUNK + i] - whole3
        work[8 * CHUNK + i] = cut1 - 2 * work[21 * CHUNK + i] - centre - whole2


# A test for zero would stop vectors.
@njit(nogil=True, cache=True, error_model="numpy", fastmath={"contract"})
def _add_squares(work, strengths):
    """Add a bin's squared differences, each over the bin's part of the disc.

    Parameters
    ----------
    work : (N_SUMS * CHUNK,) int16 or int32
        As `_combine` leaves it.
    strengths : (N_ORIENTATIONS * CHUNK,) float32, added to
    """
    for i in range(CHUNK):
        # Halves of nothing do not differ: there, any divisor will do.
        share = np.float32(1) / (np.float32(work[i]) + np.float32(1e-20))
        for k in range(N_ORIENTATIONS):
            difference = np.float32(work[(1 + k) * CHUNK + i])
            strengths[k * CHUNK + i] += difference * difference * share


@njit(nogil=True, cache=True, error_model="numpy")
def _add_squares_of_shares(work, counts, strengths):
    """Do what `_add_squares` does where halves have different numbers of pixels.

    Parameters
    ----------
    work : (N_SUMS * CHUNK,) int16 or int32
        As `_combine` leaves it.
    counts : (2 * N_ORIENTATIONS * CHUNK,) float32
        What the bins of either half add up to, by orientation.
    strengths : (N_ORIENTATIONS * CHUNK,) float32, added to
    """
    half = np.float32(0.5)
    for k in range(N_ORIENTATIONS):
        for i in range(CHUNK):
            disc, difference = np.float32(work[i]), np.float32(work[(1 + k) * CHUNK + i])
            right = half * (disc + difference) / counts[2 * k * CHUNK + i]
            left = half * (disc - difference) / counts[(2 * k + 1) * CHUNK + i]
            change = right - left
            strengths[k * CHUNK + i] += change * change / (right + left + np.float32(1e-20))


@njit(nogil=True, cache=True)
def _keep_counts(work, counts):
    """Write what the halves hold altogether, at least a little; as `_add_squares_of_shares` asks.

    Parameters
    ----------
    work : (N_SUMS * CHUNK,) int16 or int32
        As `_combine` leaves it, for a bin that holds all pixels.
    counts : (2 * N_ORIENTATIONS * CHUNK,) float32, overwritten
    """
    half, least = np.float32(0.5), np.float32(1e-3)
    for k in range(N_ORIENTATIONS):
        for i in range(CHUNK):
            disc, difference = np.float32(work[i]), np.float32(work[(1 + k) * CHUNK + i])
            right, left = half * (disc + difference), half * (disc - difference)
            counts[2 * k * CHUNK + i] = right if right > least else least
            counts[(2 * k + 1) * CHUNK + i] = left if left > least else least


@njit(nogil=True, cache=True)
def _offsets(chords, cuts, stride):
    """Turn rows and columns into offsets between places of rows of `stride` places.

    Parameters
    ----------
    chords, cuts : as in `_Discs`
    stride : int

    Returns
    -------
    outline : (n_scales, 4, radius + 1) intp
        Right and left side below the middle, right and left above it, by row.
    slanted : (4, 2 * radius) intp
        The four slanted diameters; below and above the middle in turn.
    """
    n_scales, n_rows = chords.shape
    outline = np.zeros((n_scales, 4, n_rows), np.intp)
    slanted = np.zeros((4, 2 * n_rows), np.intp)
    for row in range(n_rows):
        for scale in range(n_scales):
            right, left = chords[scale, row] + 1, -chords[scale, row]
            outline[scale, 0, row] = row * stride + right
            outline[scale, 1, row] = row * stride + left
            outline[scale, 2, row] = -row * stride + right
            outline[scale, 3, row] = -row * stride + left
        for k in range(4):
            # Columns at and right of the diameter, which leans to the right or to the left.
            cut = cuts[min(k, 3 - k), row]
            below, above = (-cut, cut + 1) if k < 2 else (cut + 1, -cut)
            slanted[k, 2 * row] = row * stride + below
            slanted[k, 2 * row + 1] = -row * stride + above
    return outline, slanted


@njit(nogil=True, cache=True)
def _sum_halves(planes, start, stride, scale, limits, outline, slanted, work):
    """Fill `work` with discs and differences of one bin, at one scale of a chunk.

    Parameters
    ----------
    planes : (5, n) int16 or int32
        As `_sum_lines` leaves them.
    start : int
        The chunk's first place.
    stride : int
        Places of a row.
    scale : int
        Called for each in turn: sums along slanted diameters go on from the scale before.
    limits : as in `_Discs`
    outline, slanted : as `_offsets` gives them
    work : (N_SUMS * CHUNK,) int16 or int32, overwritten
    """
    rows, pairs, down, rising, falling = planes[0], planes[1], planes[2], planes[3], planes[4]
    for i in range(SLANTED * CHUNK):
        work[i] = 0
    if scale == 0:
        for i in range(SLANTED * CHUNK, CENTRE * CHUNK):
            work[i] = 0
        for i in range(CHUNK):
            work[CENTRE * CHUNK + i] = pairs[start + i]
    _add_up(rows, start, outline[scale, 0], 0, 1, work, MIDDLE)
    _add_up(rows, start, outline[scale, 1], 0, 1, work, MIDDLE + 1)
    for band in range(N_BANDS):
        first, last = limits[scale, band] + 1, limits[scale, band + 1] + 1
        if first < last:
            _add_up(rows, start, outline[scale, 0], first, last, work, RIGHT_BELOW + band)
            _add_up(rows, start, outline[scale, 1], first, last, work, LEFT_BELOW + band)
            _add_up(rows, start, outline[scale, 2], first, last, work, RIGHT_ABOVE + band)
            _add_up(rows, start, outline[scale, 3], first, last, work, LEFT_ABOVE + band)
    for k in range(4):
        band = 1 if k in (0, 3) else 3
        first = limits[scale - 1, band] + 1 if scale else 1
        _add_up(
            rows, start, slanted[k], 2 * first, 2 * (limits[scale, band] + 1), work, SLANTED + k
        )
    radius, reach = limits[scale, N_BANDS], limits[scale, 2]
    _subtract(down, start + (radius + 1) * stride, start - radius * stride, work, DOWN)
    high, low = start + (reach + 1) * stride - reach, start - reach * stride + reach + 1
    _subtract(rising, high, low, work, RISING)
    high, low = start + (reach + 1) * (stride + 1), start - reach * (stride + 1)
    _subtract(falling, high, low, work, FALLING)
    _combine(work)


@njit(nogil=True, cache=True)
def _compare_tile(codes, weights, inside, top, left, discs, out):
    """Write the gradients of a tile.

    Parameters
    ----------
    codes : (H + 2 * radius, W + 2 * radius) uint8 or uint16
        Of the image and of what lies around it, as far as the largest disc reaches.
    weights : (n_bins, n_codes) int16 or int32
        Of each code in each bin.
    inside : (n_codes,) of the same dtype
        What the bins of each code add up to; of length 0 if that is the same for all codes.
    top, left : int
        The tile's first pixel.
    discs : tuple of arrays
        ``chords, limits, cuts, totals``, the last being what the bins of each disc add up to.
    out : (n_scales, N_ORIENTATIONS, height, width) float32, overwritten
        The tile's part of the result.
    """
    chords, limits, cuts, totals = discs
    n_scales, _, height, width = out.shape
    radius = chords.shape[1] - 1
    n_rows, stride = height + 2 * radius, width + 2 * radius + 1
    outline, slanted = _offsets(chords, cuts, stride)
    n_chunks = -(-height * stride // CHUNK)
    first_place = radius * (stride + 1)
    planes = np.zeros((5, (n_rows + 2) * stride + CHUNK), weights.dtype)
    work = np.empty(N_SUMS * CHUNK, weights.dtype)
    strengths = np.zeros((n_chunks, n_scales, N_ORIENTATIONS * CHUNK), np.float32)
    masked = inside.shape[0] > 0
    n_kept = n_chunks if masked else 0
    counts = np.empty((n_kept, n_scales, 2 * N_ORIENTATIONS * CHUNK), np.float32)

    present = np.zeros(weights.shape[1], np.bool_)
    for row in range(top, top + n_rows):
        for column in range(left, left + stride - 1):
            present[codes[row, column]] = True
    for b in range(-1 if masked else 0, weights.shape[0]):
        bin_weights = inside if b < 0 else weights[b]
        occurs = False
        for code in range(present.shape[0]):
            occurs |= present[code] and bin_weights[code] != 0
        if not occurs and b >= 0:
            continue
        sums = planes[0, : n_rows * stride].reshape(n_rows, stride)
        _sum_rows(codes, top, left, bin_weights, sums, stride)
        _sum_lines(planes, n_rows, stride)
        for chunk in range(n_chunks):
            start = first_place + chunk * CHUNK
            for scale in range(n_scales):
                _sum_halves(planes, start, stride, scale, limits, outline, slanted, work)
                if b < 0:
                    _keep_counts(work, counts[chunk, scale])
                elif masked:
                    _add_squares_of_shares(work, counts[chunk, scale], strengths[chunk, scale])
                else:
                    _add_squares(work, strengths[chunk, scale])

    for scale in range(n_scales):
        for k in range(N_ORIENTATIONS):
            for i in range(height):
                for j in range(width):
                    chunk, place = divmod(i * stride + j, CHUNK)
                    strength = strengths[chunk, scale, k * CHUNK + place]
                    if masked:
                        right = counts[chunk, scale, 2 * k * CHUNK + place]
                        left_ = counts[chunk, scale, (2 * k + 1) * CHUNK + place]
                        fewer, more = min(right, left_), max(right, left_)
                        strength *= np.float32(0.5) * fewer / more
                        if fewer < np.float32(0.25):
                            strength = np.float32(0)
                    else:
                        strength /= totals[scale]
                    out[scale, k, i, j] = strength


def half_disc_gradients(
    codes: NDArray[np.integer],
    weights: NDArray[np.float64],
    radii: tuple[int, ...],
    mask: NDArray[np.bool_] | None = None,
) -> NDArray[np.float32]:
    """Compare the histograms of both halves of discs around every pixel.

    Parameters
    ----------
    codes : (H, W) integers
        At least 0.
    weights : (n_bins, n_codes) float64
        How much a pixel of each code adds to each bin, at least 0; the bins of a code add up
        to 1.
    radii : tuple of int
        Ascending, in pixels.
    mask : (H, W) bool, optional
        Pixels outside it are in no histogram.

    Returns
    -------
    (n_scales, N_ORIENTATIONS, H, W) float32
        Half of the chi-squared distance, from 0 to 1. Orientation k is that of a contour
        which rises by ``k * 180 / 8`` degrees from the rows, as one sees the image.

    Notes
    -----
    A half-disc holds the pixels whose centres are at most the radius away and lie on its side
    of the diameter; those on the diameter belong half to either. Beyond its border the image
    is mirrored. `weights` are rounded to integers so large that sums stay within int16 or, for
    large discs, int32; everything but the last division is exact.

    With a mask, each histogram is divided by its own sum. Where one half has fewer pixels than
    the other, the distance is multiplied by the ratio of both numbers, for a histogram of a
    few pixels is mostly chance.

    O(H * W * n_bins * sum(radii)) time for all orientations together.
    """
    discs = make_discs(radii)
    height, width = codes.shape
    weights, inside = _integer_weights(weights, int(discs.areas[-1]), mask is not None)
    if mask is not None:
        codes = np.where(mask, codes, weights.shape[1] - 1)
    codes = np.pad(codes, radii[-1], mode="symmetric")
    codes = codes.astype(np.uint8 if weights.shape[1] <= 256 else np.uint16)
    totals = (discs.areas * weights[:, 0].sum(dtype=np.int64)).astype(np.float32)
    geometry = discs.chords, discs.limits, discs.cuts, totals
    out = np.empty((len(radii), N_ORIENTATIONS, height, width), np.float32)

    def compare(tile):
        (top, bottom), (left, right) = tile
        part = out[:, :, top:bottom, left:right]
        _compare_tile(codes, weights, inside, top, left, geometry, part)

    map_items(compare, product(_parts(height, TILE_HEIGHT), _parts(width, TILE_WIDTH)))
    return out


def _parts(length: int, longest: int) -> list[tuple[int, int]]:
    """Cut a length into equal parts, as nearly as may be."""
    n_parts = -(-length // longest)
    ends = [length * part // n_parts for part in range(n_parts + 1)]
    return list(pairwise(ends))


def _integer_weights(weights, area, masked):
    """Round weights so that sums over a disc of `area` pixels fit their dtype.

    With a mask, a code is added that is in no bin, and the bins' sums are given too.
    """
    # With a mask, all bins together are summed as one is.
    largest = area * (1 if masked else weights.max())
    coarsest, finest = (1, 1) if (weights == np.round(weights)).all() else (COARSEST, FINEST)
    dtype = np.int16 if coarsest * (largest + 1) <= np.iinfo(np.int16).max else np.int32
    scale = int(min(np.iinfo(dtype).max // (largest + 1), finest))
    n_codes = weights.shape[1]
    integers = np.floor(weights * scale)
    # What is missing in a code's sum goes to the bins that rounding cut most.
    order = np.argsort(integers - weights * scale, axis=0, kind="stable")
    ranks = np.argsort(order, axis=0, kind="stable")
    integers += ranks < (scale - integers.sum(axis=0)).round()
    integers = np.pad(integers, ((0, 0), (0, int(masked)))).astype(dtype)
    inside = np.full(n_codes + 1, scale, dtype) if masked else np.empty(0, dtype)
    inside[n_codes:] = 0
    return np.ascontiguousarray(integers), inside
