"""The oriented watershed transform: regions and weighted arcs from the strength of contours."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import numpy as np
from numba import njit
from numpy.typing import ArrayLike, NDArray

from segalgos.checks import check_mask, check_real
from segalgos.finite import as_finite
from segalgos.hierarchy import Hierarchy
from segalgos.parallel import map_strips
from segalgos.region_graph import RegionGraph, region_graph
from segalgos.smoothing import gaussian

__all__ = ["OrientedWatershed", "contour_orientation", "oriented_watershed"]

STRIP = 1 << 15  # pixels
TOLERANCE = 1.0  # pixels
SIGMA = 1.5  # pixels, of what smooths a strength before its direction is found

# Kinds of places between pixels: sides of pixels, then corners of pixels.
OPEN, TRACED = 1, 2  # a contour, before and after it became part of an arc
PASSAGE, JUNCTION = 3, 4  # where an arc goes on, and where arcs end
ROW_STEPS, COLUMN_STEPS = (-1, 1, 0, 0), (0, 0, -1, 1)


# --- arcs --------------------------------------------------------------------------------


@njit(nogil=True, cache=True)
def _mark(labels, places, first, last):
    """Mark sides of pixels that part two regions, and the corners where these meet.

    Parameters
    ----------
    labels : (H + 2, W + 2) int32
        Padded with -1.
    places : (2 H + 3, 2 W + 3) uint8
        All 0; overwritten in part. Pixel (r, c) is at (2 r + 2, 2 c + 2).
    first, last : int
        Range of rows of corners, 0 to H + 1.
    """
    for row in range(first, last):
        for column in range(labels.shape[1] - 1):
            nw, ne = labels[row, column], labels[row, column + 1]
            sw, se = labels[row + 1, column], labels[row + 1, column + 1]
            if nw == ne and ne == se and se == sw:
                continue
            below, right = sw != se and min(sw, se) >= 0, ne != se and min(ne, se) >= 0
            above, left = nw != ne and min(nw, ne) >= 0, nw != sw and min(nw, sw) >= 0
            n_sides = int(below) + int(right) + int(above) + int(left)
            if n_sides == 0:
                continue
            y, x = 2 * row + 1, 2 * column + 1
            if below:
                places[y + 1, x] = OPEN
            if right:
                places[y, x + 1] = OPEN
            a = max(max(nw, ne), max(sw, se))
            b = -1
            n_others = 0  # regions other than a and b
            for label in (nw, ne, sw, se):
                if label >= 0 and label != a:
                    n_others += b >= 0 and label != b
                    b = label
            places[y, x] = PASSAGE if n_sides == 2 and n_others == 0 else JUNCTION


@njit(nogil=True, cache=True)
def _fit_segments(rows, columns, n, tolerance, stack, angle):
    """Approximate an arc by line segments, and give each side its segment's orientation.

    Parameters
    ----------
    rows, columns : (n_places,) int64
        The arc's corners 0..n, in units of half a pixel.
    n : int
        How many sides it has.
    tolerance : float
        Corners may be so far from their segment, in pixels.
    stack : (n_places, 2) int64, overwritten
    angle : (2 H + 3, 2 W + 3) float32, overwritten at the sides

    Notes
    -----
    A segment is cut at its farthest corner while that is too far away, as in [1]_;
    O(n log n) time for arcs that are not wound up.

    References
    ----------
    .. [1] P. Arbelaez et al., "Contour detection and hierarchical image segmentation", IEEE
       Trans. Pattern Anal. Mach. Intell. 33(5), 898-916, 2011.
    """
    stack[0, 0], stack[0, 1] = 0, n
    n_left = 1
    while n_left > 0:
        n_left -= 1
        i, j = stack[n_left]
        dy, dx = rows[j] - rows[i], columns[j] - columns[i]
        length = np.sqrt(np.float64(dy * dy + dx * dx))
        farthest, where = 2 * tolerance, -1
        if length == 0:  # a closed arc has no line: it is cut in any case
            farthest = 0.0
        for k in range(i + 1, j):
            y, x = rows[k] - rows[i], columns[k] - columns[i]
            if length == 0:
                distance = np.sqrt(np.float64(y * y + x * x))
            else:
                distance = abs(dy * x - dx * y) / length
            if distance > farthest:
                farthest, where = distance, k
        if where >= 0:
            stack[n_left, 0], stack[n_left, 1] = i, where
            stack[n_left + 1, 0], stack[n_left + 1, 1] = where, j
            n_left += 2
            continue
        theta = np.arctan2(np.float64(-dy), np.float64(dx)) % np.pi  # rows point down
        for k in range(i, j):
            angle[(rows[k] + rows[k + 1]) // 2, (columns[k] + columns[k + 1]) // 2] = theta


@njit(nogil=True, cache=True)
def _trace(places, tolerance, angle):
    """Follow arcs from junction to junction, then closed ones, and fit segments to them.

    Parameters
    ----------
    places : (2 H + 3, 2 W + 3) uint8
        Made by `_mark`; sides become TRACED.
    tolerance : float
        As in `_fit_segments`.
    angle : (2 H + 3, 2 W + 3) float32
        Overwritten at sides: the orientation of the arc, from 0 to pi.
    """
    n_sides = 0
    for place in places.flat:
        n_sides += place == OPEN
    rows, columns = np.empty(n_sides + 1, np.int64), np.empty(n_sides + 1, np.int64)
    stack = np.empty((n_sides + 2, 2), np.int64)
    for kind in (JUNCTION, PASSAGE):
        for start_y in range(1, places.shape[0], 2):
            for start_x in range(1, places.shape[1], 2):
                if places[start_y, start_x] != kind:
                    continue
                for way in range(4):
                    y, x, n = start_y, start_x, 0
                    rows[0], columns[0] = y, x
                    dy, dx = ROW_STEPS[way], COLUMN_STEPS[way]
                    goes_on = places[y + dy, x + dx] == OPEN
                    while goes_on:
                        places[y + dy, x + dx] = TRACED
                        y, x, n = y + 2 * dy, x + 2 * dx, n + 1
                        rows[n], columns[n] = y, x
                        goes_on = False
                        if places[y, x] == PASSAGE:
                            for onward in range(4):
                                dy, dx = ROW_STEPS[onward], COLUMN_STEPS[onward]
                                if places[y + dy, x + dx] == OPEN:
                                    goes_on = True
                                    break
                    if n > 0:
                        _fit_segments(rows, columns, n, tolerance, stack, angle)


# --- weights -----------------------------------------------------------------------------


@njit(nogil=True, cache=True)
def _weigh_by_channel(angle, strength, contours, first, last):
    """Weigh contours by the strength that is measured in their arc's orientation.

    Parameters
    ----------
    angle : (2 H + 3, 2 W + 3) float32
        Of the arc, -1 where there is none.
    strength : (K, H, W) float32
        Channel k is for the orientation ``k * pi / K``.
    contours : (2 H + 1, 2 W + 1) float32, overwritten in part
    first, last : int
        Range of rows of pixels.

    Notes
    -----
    Between two orientations it is interpolated. Of the two pixels beside a contour the
    stronger counts: a ridge one pixel wide lies on one side of it.
    """
    n_orientations = strength.shape[0]
    for row in range(first, last):
        for column in range(strength.shape[2]):
            for down in range(2):
                y, x = 2 * row + 2 + down, 2 * column + 3 - down
                if angle[y, x] < 0:
                    continue
                position = angle[y, x] * (n_orientations / np.pi)
                low = int(position)
                rest = position - low
                low %= n_orientations
                high = (low + 1) % n_orientations
                row2, column2 = row + down, column + 1 - down
                here = strength[low, row, column] * (1 - rest) + strength[high, row, column] * rest
                there = strength[low, row2, column2] * (1 - rest)
                there += strength[high, row2, column2] * rest
                contours[y - 1, x - 1] = max(here, there)


@njit(nogil=True, cache=True)
def _turned(strength, orientation, theta):
    if np.isnan(orientation):
        return strength
    return strength * abs(np.cos(np.float64(theta - orientation)))


@njit(nogil=True, cache=True)
def _weigh_by_angle(angle, strength, orientation, contours, first, last):
    """Weigh contours by their strength times the cosine of its angle to their arc.

    Parameters
    ----------
    angle, contours, first, last : as in `_weigh_by_channel`
    strength : (H, W) float32
    orientation : (H, W) float32
        In radians; NaN where there is none.
    """
    for row in range(first, last):
        for column in range(strength.shape[1]):
            for down in range(2):
                y, x = 2 * row + 2 + down, 2 * column + 3 - down
                theta = angle[y, x]
                if theta < 0:
                    continue
                here, there = (row, column), (row + down, column + 1 - down)
                contours[y - 1, x - 1] = max(
                    _turned(strength[here], orientation[here], theta),
                    _turned(strength[there], orientation[there], theta),
                )


@njit(nogil=True, cache=True)
def _entry(indptr, indices, a, b):
    """Where region a's border to region b stands."""
    low, high = indptr[a], indptr[a + 1]
    while low < high:
        middle = (low + high) // 2
        if indices[middle] < b:
            low = middle + 1
        else:
            high = middle
    return low


@njit(nogil=True, cache=True)
def _sum_arcs(labels, contours, indptr, indices, total):
    """Add up the weights of contours along the borders of a region graph.

    Parameters
    ----------
    labels : (H, W) int32
    contours : (2 H + 1, 2 W + 1) float32
    indptr, indices : as in `RegionGraph`
    total : (n_entries,) float64
        All 0; overwritten, alike from both sides.
    """
    height, width = labels.shape
    for down in range(2):
        a, b, entry, twin = -1, -1, 0, 0
        for row in range(height - down):
            for column in range(width - 1 + down):
                here, there = labels[row, column], labels[row + down, column + 1 - down]
                if here == there or min(here, there) < 0:
                    continue
                if here != a or there != b:  # borders mostly go on with the same pair
                    a, b = here, there
                    entry, twin = _entry(indptr, indices, a, b), _entry(indptr, indices, b, a)
                weight = contours[2 * row + 1 + down, 2 * column + 2 - down]
                total[entry] += weight
                total[twin] += weight


# --- surface -----------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class OrientedWatershed:
    """Basins of a strength of contours and the arcs between them, as `oriented_watershed` gives.

    Parameters
    ----------
    graph : RegionGraph
        The basins, whose label map is ``graph.labels``, and which of them touch.
    strength : (n_entries,) float64
        Mean weight of each border, one for each of ``graph.indices``.
    contours : (2 H + 1, 2 W + 1) float32
        Weights of the arcs, at even rows and columns between the pixels; 0 elsewhere.
    """

    graph: RegionGraph
    strength: NDArray[np.float64]
    contours: NDArray[np.float32]

    def hierarchy(self) -> Hierarchy:
        """Merge the two regions with the weakest border between them until none is left.

        Returns
        -------
        Hierarchy
            Its levels are the strengths, raised where they would fall. Its map of contours is
            the ultrametric contour map.

        Notes
        -----
        A border's strength is the mean over its length, and is computed anew as borders are
        joined. O(n_borders log n_borders) time if few regions have many neighbours.
        """
        return self.graph.hierarchy(weight=self.strength)


def contour_orientation(
    strength: ArrayLike, sigma: float = SIGMA, *, mask: ArrayLike | None = None
) -> NDArray[np.float32]:
    """Estimate in which direction contours run, from the second derivatives of their strength.

    Parameters
    ----------
    strength : (H, W) array_like
    sigma : float, default=1.5
        Standard deviation in pixels of the Gaussian that smooths it first; 0 for none.
    mask : (H, W) array_like of bool, optional
        True where pixels count.

    Returns
    -------
    (H, W) float32
        Angle in radians between the contour and the rows, counter-clockwise as one sees the
        image, from 0 to pi. NaN where the strength bends up at least as much as down, so that
        there is no ridge: on flat ground, in valleys and at the foot of a stronger contour.

    Raises
    ------
    ValueError
        If an argument is not as expected.

    Notes
    -----
    The direction in which the second derivative is largest: along a ridge it is about 0,
    across it is negative. The sum of both says which prevails.

    Examples
    --------
    >>> import numpy as np
    >>> from segalgos.contours.oriented_watershed import contour_orientation
    >>> strength = np.zeros((9, 9))
    >>> strength[:, 4] = 1  # a contour that runs downwards
    >>> print(round(float(np.degrees(contour_orientation(strength)[4, 4]))))
    90
    """
    caller = "contour_orientation"
    strength = _check_strength(caller, strength)
    if strength.ndim != 2:
        raise ValueError(f"{caller}: strength has shape {strength.shape}, expected (H, W).")
    check_real(caller, "sigma", sigma, low=0, high=1000)
    if mask is not None:
        mask = check_mask(mask, strength.shape, caller)
    return _orientation(strength, sigma, mask)


def _orientation(strength, sigma, mask):
    smooth = gaussian(strength[..., None], sigma, mask)[..., 0]
    wide = np.pad(smooth, 1, mode="edge")
    rows = wide[2:, 1:-1] - 2 * smooth + wide[:-2, 1:-1]
    columns = wide[1:-1, 2:] - 2 * smooth + wide[1:-1, :-2]
    both = (wide[2:, 2:] - wide[2:, :-2] - wide[:-2, 2:] + wide[:-2, :-2]) / 4
    # Along the angle t it is ((c + r) + cos(2 t) (c - r)) / 2 - sin(2 t) b.
    angle = (np.arctan2(-2 * both, columns - rows) / 2) % np.pi
    angle[rows + columns >= 0] = np.nan
    return angle.astype(np.float32)


def _check_strength(caller: str, strength: ArrayLike) -> NDArray[np.float32]:
    ndim = np.ndim(strength)
    if ndim not in (2, 3) or 0 in np.shape(strength):
        raise ValueError(
            f"{caller}: strength has shape {np.shape(strength)}, expected (H, W), or (K, H, W) for "
            "K orientations, with at least one pixel."
        )
    strength = as_finite(strength, np.float32, (None,) * ndim, f"{caller}: strength")
    if (strength < 0).any():
        raise ValueError(
            f"{caller}: strength reaches down to {strength.min():g}, expected at least 0: subtract "
            "its minimum, or cut it off."
        )
    return np.ascontiguousarray(strength)


def oriented_watershed(
    strength: ArrayLike,
    *,
    orientation: ArrayLike | None = None,
    tolerance: float = TOLERANCE,
    mask: ArrayLike | None = None,
) -> OrientedWatershed:
    """Turn the strength of contours into regions and weighted arcs between them.

    Parameters
    ----------
    strength : (H, W) or (K, H, W) array_like
        How strong a contour is at each pixel, of at least 0 and in any unit; or in each of K
        orientations: channel k is for contours at an angle of ``k * pi / K`` to the rows,
        counter-clockwise as one sees the image.
    orientation : (H, W) array_like, optional
        For a strength (H, W): the angle of the contour at each pixel, in radians as above;
        NaN where it has none. None estimates it by `contour_orientation`.
    tolerance : float, default=1.0
        So far may an arc be from the line segments that its orientation is taken from, in
        pixels.
    mask : (H, W) array_like of bool, optional
        True where pixels are to be segmented; all others belong to no region.

    Returns
    -------
    OrientedWatershed

    Raises
    ------
    ValueError
        If an argument is not as expected.

    See Also
    --------
    segalgos.contour_hierarchy : The hierarchy that follows from it.

    Notes
    -----
    Steps of [1]_, section 4.1:

    1. Regions are the basins of the largest strength over all orientations.
    2. Arcs are the borders between them, from junction to junction. They run between pixels;
       the stronger of both sides counts.
    3. An arc is approximated by line segments, cut again and again at the farthest corner.
    4. Each place on it is weighed by the strength in its segment's orientation, interpolated
       between channels; with one strength, by that times the cosine of the angle between
       segment and contour.

    A watershed also puts arcs where no contour is, and these meet contours at all angles: they
    would take over the strength of what they cross or touch.

    O(n_pixels * K) time; tracing is serial, the rest on all cores. Nothing depends on their
    number.

    References
    ----------
    .. [1] P. Arbelaez, M. Maire, C. Fowlkes and J. Malik, "Contour detection and hierarchical
       image segmentation", IEEE Trans. Pattern Anal. Mach. Intell. 33(5), 898-916, 2011.

    Examples
    --------
    >>> import numpy as np
    >>> from segalgos import oriented_watershed
    >>> strength = np.zeros((5, 7))
    >>> strength[:, 3] = 2
    >>> arcs = oriented_watershed(strength)
    >>> arcs.graph.labels[0]
    array([0, 0, 0, 0, 1, 1, 1], dtype=int32)
    >>> arcs.strength
    array([2., 2.])
    """
    caller = "oriented_watershed"
    return _transform(*_check(caller, strength, orientation, tolerance, mask))


def _check(caller, strength, orientation, tolerance, mask):
    strength = _check_strength(caller, strength)
    shape = strength.shape[-2:]
    if orientation is not None:
        if strength.ndim == 3:
            raise ValueError(
                f"{caller}: strength has {len(strength)} orientations already: leave orientation "
                "out, or pass one strength (H, W)."
            )
        orientation = np.asarray(orientation)
        if orientation.shape != shape or orientation.dtype.kind not in "uif":
            raise ValueError(
                f"{caller}: orientation is {orientation.dtype} of shape {orientation.shape}, "
                f"expected angles of shape {shape}."
            )
        if np.isinf(orientation).any():
            raise ValueError(f"{caller}: orientation holds inf: put NaN where there is none.")
        orientation = (orientation % np.pi).astype(np.float32)
    check_real(caller, "tolerance", tolerance, low=0)
    if mask is not None:
        mask = check_mask(mask, shape, caller)
    return strength, orientation, float(tolerance), mask


def _transform(strength, orientation, tolerance, mask):
    """The transform of checked arguments."""
    # Another family, but only by its public name: nothing of its inside is used here.
    from segalgos import watershed

    relief = strength if strength.ndim == 2 else strength.max(axis=0)
    labels = watershed(relief, relief="image", min_depth=0, mask=mask, channel_axis=None)
    height, width = labels.shape
    padded = np.pad(labels, 1, constant_values=-1)
    places = np.zeros((2 * height + 3, 2 * width + 3), np.uint8)
    strip = max(1, STRIP // width)
    map_strips(partial(_mark, padded, places), height + 1, strip)
    angle = np.full(places.shape, -1, np.float32)
    _trace(places, tolerance, angle)
    contours = np.zeros((2 * height + 1, 2 * width + 1), np.float32)
    if strength.ndim == 3:
        weigh = partial(_weigh_by_channel, angle, strength, contours)
    else:
        if orientation is None:
            orientation = _orientation(strength, SIGMA, mask)
        weigh = partial(_weigh_by_angle, angle, strength, orientation, contours)
    map_strips(weigh, height, strip)
    graph = region_graph(labels)
    total = np.zeros(len(graph.indices))
    _sum_arcs(graph.labels, contours, graph.indptr, graph.indices, total)
    return OrientedWatershed(graph, total / graph.length, contours)
