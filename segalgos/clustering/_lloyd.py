"""k-means of weighted values: Lloyd's iterations by filtering, and k-means++.

Values that lie near one another share a box. In each iteration most boxes lie wholly in
one centre's cell and are assigned by their sums, without a look at their values.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import numpy as np
from numba import njit
from numpy.typing import NDArray

from segalgos.parallel import map_strips

__all__ = ["lloyd", "nearest_centers", "plus_plus"]

BLOCK = 256  # values that stay in the first cache while all centres pass over them
STRIP = 1 << 15
SORT_STRIP = 1 << 17
FILTER_STRIP = 1 << 16  # values; few of them are looked at
VALUES_PER_CELL = 8
MAX_BITS = 18


# --- boxes -------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class _Boxes:
    """Values sorted into boxes.

    Parameters
    ----------
    order : (n,) int32 or int64
        Index of each sorted value among the given ones.
    columns : (C, n) float32
        Sorted values.
    weights : (n,) float64
    starts : (n_boxes + 1,) int64
        Where each box begins; none is empty.
    low, high : (n_boxes, C) float64
        Bounds of their values.
    sums : (n_boxes, C + 1) float64
        Of weighted values and, last, of weights.
    """

    order: NDArray
    columns: NDArray[np.float32]
    weights: NDArray[np.float64]
    starts: NDArray[np.int64]
    low: NDArray[np.float64]
    high: NDArray[np.float64]
    sums: NDArray[np.float64]

    @property
    def strip(self) -> int:
        """Boxes a strip: at least about ``FILTER_STRIP`` values, and at most 8 strips."""
        n_boxes = len(self.sums)
        return max(-(-n_boxes // 8), FILTER_STRIP * n_boxes // len(self.order))


@njit(nogil=True, cache=True)
def _moments(values, weights, start, stop):
    """Add up weights, weighted values and their squares, the values less the first of all.

    Parameters
    ----------
    values : (n, C) float32
    weights : (n,) float64
    start, stop : int
        Range of values.

    Returns
    -------
    (3, C) float64
    """
    moments = np.zeros((3, values.shape[1]))
    for c in range(values.shape[1]):
        total = first = second = 0.0
        for i in range(start, stop):
            value = np.float64(values[i, c]) - np.float64(values[0, c])
            total += weights[i]
            first += weights[i] * value
            second += weights[i] * value * value
        moments[0, c], moments[1, c], moments[2, c] = total, first, second
    return moments


@njit(nogil=True, cache=True)
def _grid_keys(values, origin, scale, bits, keys, counts, start, stop):
    """Number the cells of a regular grid in which values lie.

    Parameters
    ----------
    values : (n, C) float32
    origin, scale : (C,) float64
        A value's place along an axis is ``(value - origin) * scale``.
    bits : (C,) int64
        The grid has ``2 ** bits`` cells along each axis; what lies beyond is in the last.
    keys : (n,) int32, overwritten in part
    counts : (n_cells,) int32
        Zeros; gets the number of values in each cell.
    start, stop : int
        Range of values.
    """
    for i in range(start, stop):
        key = 0
        for c in range(values.shape[1]):
            last = (1 << bits[c]) - 1
            place = (values[i, c] - origin[c]) * scale[c]
            key = key << bits[c] | np.int64(min(max(place, 0.0), float(last)))
        keys[i] = key
        counts[key] += 1


@njit(nogil=True, cache=True)
def _sort_by_key(keys, values, weights, places, order, columns, sorted_weights, start, stop):
    """Move values to their places, sorted by key.

    Parameters
    ----------
    keys : (n,) int32
    values : (n, C) float32
    weights : (n,) float64
    places : (n_cells,) int64, overwritten
        Where the next value of each cell goes.
    order, columns, sorted_weights : as in `_Boxes`, overwritten in part
    start, stop : int
        Range of values.
    """
    for i in range(start, stop):
        place = places[keys[i]]
        places[keys[i]] += 1
        order[place] = i
        sorted_weights[place] = weights[i]
        for c in range(values.shape[1]):
            columns[c, place] = values[i, c]


@njit(nogil=True, cache=True)
def _measure_boxes(columns, weights, starts, low, high, sums, start, stop):
    """Write bounds and sums of some boxes; see `_Boxes`."""
    n_channels = columns.shape[0]
    for box in range(start, stop):
        first, last = starts[box], starts[box + 1]
        total = 0.0
        for i in range(first, last):
            total += weights[i]
        sums[box, n_channels] = total
        for c in range(n_channels):
            least = most = columns[c, first]
            total = 0.0
            for i in range(first, last):
                value = columns[c, i]
                least, most = min(least, value), max(most, value)
                total += weights[i] * value
            low[box, c], high[box, c], sums[box, c] = least, most, total


def _grid(mean, deviation, n):
    """Origin, scale and bits of a grid over most of the values, with cells near cubes."""
    bits = np.zeros(len(mean), np.int64)
    width = 5 * deviation  # from -2.5 to 2.5 standard deviations
    for _ in range(min(MAX_BITS, max(0, int(np.log2(n / VALUES_PER_CELL))))):
        if not (width > 0).any():
            break
        widest = np.argmax(width)
        bits[widest] += 1
        width[widest] /= 2
    with np.errstate(over="ignore"):
        scale = np.where(width > 0, 1 / np.where(width > 0, width, 1), 0)
    return mean - 2.5 * deviation, np.where(np.isfinite(scale), scale, 0), bits


def _make_boxes(values, weights, mean, variance):
    n, n_channels = values.shape
    origin, scale, bits = _grid(mean, np.sqrt(variance), n)
    n_cells = 1 << int(bits.sum())
    strip = max(SORT_STRIP, -(-n // 8))
    counts = np.zeros((-(-n // strip), n_cells), np.int32)
    keys = np.empty(n, np.int32)

    def count(start, stop):
        _grid_keys(values, origin, scale, bits, keys, counts[start // strip], start, stop)

    map_strips(count, n, strip)
    places = np.cumsum(counts.T.ravel(), dtype=np.int64).reshape(n_cells, -1)
    ends = places[:, -1]
    starts = np.append(0, ends[counts.any(axis=0)])
    places = np.ascontiguousarray((places - counts.T).T)
    order = np.empty(n, np.int32 if n < 1 << 31 else np.int64)
    columns, sorted_weights = np.empty((n_channels, n), np.float32), np.empty(n)

    def sort(start, stop):
        free = places[start // strip]
        _sort_by_key(keys, values, weights, free, order, columns, sorted_weights, start, stop)

    map_strips(sort, n, strip)
    n_boxes = len(starts) - 1
    low, high = np.empty((n_boxes, n_channels)), np.empty((n_boxes, n_channels))
    sums = np.empty((n_boxes, n_channels + 1))
    boxes = _Boxes(order, columns, sorted_weights, starts, low, high, sums)
    measure = partial(_measure_boxes, columns, sorted_weights, starts, low, high, sums)
    map_strips(measure, n_boxes, boxes.strip)
    return boxes


# --- Lloyd's iterations ------------------------------------------------------------------


@njit(nogil=True, cache=True)
def _candidates(low, high, centers, distances, found):
    """List the centres that may be nearest to a point of a box.

    Parameters
    ----------
    low, high : (C,) float64
        The box.
    centers : (C, n_clusters) float64
    distances : (n_clusters,) float64, overwritten
        Scratch.
    found : (n_clusters,) int32, overwritten
        Indices, ascending.

    Returns
    -------
    int
        How many there are, at least one.

    Notes
    -----
    The filtering of [1]_: a centre is out if another one, nearest to the middle of the
    box, is nearer to the corner that lies furthest towards it. Near ties stay in.

    References
    ----------
    .. [1] T. Kanungo et al., "An efficient k-means clustering algorithm: analysis and
       implementation", IEEE Trans. PAMI 24(7), 881-892, 2002.
    """
    n_channels, n_clusters = centers.shape
    distances[:] = 0
    radius = 0.0
    for c in range(n_channels):
        middle = 0.5 * low[c] + 0.5 * high[c]
        radius += (0.5 * high[c] - 0.5 * low[c]) ** 2
        row = centers[c]
        for k in range(n_clusters):
            distances[k] += (row[k] - middle) ** 2
    nearest = 0
    for k in range(n_clusters):
        if distances[k] < distances[nearest]:
            nearest = k
    # Beyond this distance from the middle no centre reaches the ball around the box.
    reach = (np.sqrt(distances[nearest]) + 2 * np.sqrt(radius)) ** 2 * (1 + 1e-12)
    n = 0
    for k in range(n_clusters):
        if distances[k] > reach:
            continue
        # How much farther this centre is than the nearest, at the corner best for it.
        gain = size = 0.0
        for c in range(n_channels):
            here, there = centers[c, nearest], centers[c, k]
            at_low = (here - there) * ((low[c] - here) + (low[c] - there))
            at_high = (here - there) * ((high[c] - here) + (high[c] - there))
            gain += min(at_low, at_high)
            size += abs(at_low) + abs(at_high)
        if k == nearest or gain <= 1e-13 * size:
            found[n] = k
            n += 1
    return n


@njit(nogil=True, cache=True)
def _choose(columns, first, last, centers, candidates, now, best, label):
    """Give at most ``BLOCK`` values the nearest of some centres.

    Parameters
    ----------
    columns : (C, n) float32
    first, last : int
        Range of values.
    centers : (C, n_clusters) float64
    candidates : (n_candidates,) int32
        Indices of centres, ascending: ties go to the lower one.
    now : (BLOCK,) float64, overwritten
        Scratch.
    best : (BLOCK,) float64, overwritten
        Gets the squared distances, in squared units of intensity.
    label : (BLOCK,) int32, overwritten

    Notes
    -----
    O(BLOCK * n_candidates * C) time. Centres are the outer loop and values the inner one,
    so that the inner one becomes vectors.
    """
    n_channels, n = columns.shape[0], last - first
    now, best, label = now[:n], best[:n], label[:n]
    best[:] = np.inf
    for k in candidates:
        if n_channels == 3:  # colours: one pass instead of four
            red, green, blue = (
                columns[0, first:last],
                columns[1, first:last],
                columns[2, first:last],
            )
            r, g, b = centers[0, k], centers[1, k], centers[2, k]
            for i in range(n):
                now[i] = (red[i] - r) ** 2 + (green[i] - g) ** 2 + (blue[i] - b) ** 2
        else:
            now[:] = 0
            for c in range(n_channels):
                column, center = columns[c, first:last], centers[c, k]
                for i in range(n):
                    now[i] += (column[i] - center) ** 2
        for i in range(n):
            closer = now[i] < best[i]
            best[i] = now[i] if closer else best[i]
            label[i] = k if closer else label[i]


@njit(nogil=True, cache=True)
def _filter(columns, weights, starts, low, high, box_sums, centers, owners, labels, start, stop):
    """Assign the values of some boxes to their nearest centres and add them up there.

    Parameters
    ----------
    columns, weights, starts, low, high, box_sums : as in `_Boxes`
    centers : (C, n_clusters) float64
    owners : (n_boxes,) int32, overwritten in part
        The cluster of all values of a box; -1 where they differ.
    labels : (n,) int32, overwritten in part
        Clusters of sorted values; of no meaning in boxes with an owner.
    start, stop : int
        Range of boxes.

    Returns
    -------
    sums : (n_clusters, C + 1) float64
        Of weighted values and, last, of weights.
    n_changed : int
        How many values went to another cluster than before.
    """
    n_channels, n_clusters = centers.shape
    sums = np.zeros((n_clusters, n_channels + 1))
    distances, found = np.empty(n_clusters), np.empty(n_clusters, np.int32)
    now, best, label = np.empty(BLOCK), np.empty(BLOCK), np.zeros(BLOCK, np.int32)
    n_changed = 0
    for box in range(start, stop):
        n = _candidates(low[box], high[box], centers, distances, found)
        first, last, owner = starts[box], starts[box + 1], owners[box]
        if n == 1:
            k = found[0]
            for c in range(n_channels + 1):
                sums[k, c] += box_sums[box, c]
            if owner < 0:
                for i in range(first, last):
                    n_changed += labels[i] != k
            elif owner != k:
                n_changed += last - first
            owners[box] = k
            continue
        if owner >= 0:
            labels[first:last] = owner
        owners[box] = -1
        for begin in range(first, last, BLOCK):
            end = min(begin + BLOCK, last)
            _choose(columns, begin, end, centers, found[:n], now, best, label)
            before = labels[begin:end]
            for i in range(before.shape[0]):
                n_changed += before[i] != label[i]
                before[i] = label[i]
            for i in range(before.shape[0]):
                weight, k = weights[begin + i], label[i]
                for c in range(n_channels):
                    sums[k, c] += weight * columns[c, begin + i]
                sums[k, n_channels] += weight
    return sums, n_changed


@njit(nogil=True, cache=True)
def _settle(columns, weights, starts, centers, owners, labels, distances, start, stop):
    """Write labels and squared distances of the values of some boxes.

    Parameters
    ----------
    columns, weights, starts : as in `_Boxes`
    centers : (C, n_clusters) float64
    owners, labels : as `_filter` left them
        Labels are completed.
    distances : (n,) float64, overwritten in part
    start, stop : int
        Range of boxes.

    Returns
    -------
    float
        Weighted sum of squared distances.
    """
    inertia = 0.0
    for box in range(start, stop):
        first, last = starts[box], starts[box + 1]
        if owners[box] >= 0:
            labels[first:last] = owners[box]
        for i in range(first, last):
            distance = 0.0
            for c in range(columns.shape[0]):
                distance += (columns[c, i] - centers[c, labels[i]]) ** 2
            distances[i] = distance
            inertia += weights[i] * distance
    return inertia


def _relocate(values, weights, labels, distances, empty, n_clusters):
    """Move empty clusters to the values farthest from their centres; returns new sums."""
    distances = np.where(weights > 0, distances, 0)
    for k in empty:
        far = np.argmax(distances)
        if distances[far] == 0:
            break
        same = (values == values[far]).all(axis=1)
        labels[same], distances[same] = k, 0
    columns = [weights * column for column in values.T] + [weights]
    return np.stack([np.bincount(labels, column, n_clusters) for column in columns], axis=1)


def lloyd(
    values: NDArray[np.float32],
    weights: NDArray[np.float64],
    centers: NDArray[np.float64],
    max_iter: int,
    tol: float,
) -> tuple[NDArray[np.float64], NDArray[np.int32], float, int]:
    """Move centres to the means of what is nearest to them, until they stay.

    Parameters
    ----------
    values : (n, C) float32, C-contiguous
    weights : (n,) float64
        At least 0, not all 0.
    centers : (n_clusters, C) float64
        Where to begin.
    max_iter : int
        Iterations at most.
    tol : float
        Stop when the centres' squared moves add up to less than this part of the
        channels' mean variance.

    Returns
    -------
    centers : (k, C) float64
        Without those to which no value of any weight is nearest.
    labels : (n,) int32
        Indices of the nearest centres; ties go to the lower one.
    inertia : float
        Weighted sum of squared distances.
    n_iter : int

    Notes
    -----
    The results are those of [1]_; the values of boxes that lie in one cluster are not
    looked at. A cluster that loses all its values is moved to the one farthest from its
    centre.

    References
    ----------
    .. [1] S. Lloyd, "Least squares quantization in PCM", IEEE Trans. Inf. Theory 28(2),
       129-137, 1982.
    """
    total, first, second = sum(map_strips(partial(_moments, values, weights), len(values), STRIP))
    mean = first / total
    variance = np.maximum(second / total - mean**2, 0)
    threshold = tol * variance.mean()
    boxes = _make_boxes(values, weights, mean + values[0], variance)
    owners = np.full(len(boxes.sums), -1, np.int32)
    labels = np.full(len(values), -1, np.int32)
    distances = np.empty(len(values))

    def assign(centers):
        one_strip = partial(
            _filter,
            boxes.columns,
            boxes.weights,
            boxes.starts,
            boxes.low,
            boxes.high,
            boxes.sums,
            np.ascontiguousarray(centers.T),
            owners,
            labels,
        )
        sums, changes = zip(*map_strips(one_strip, len(owners), boxes.strip), strict=True)
        return sum(sums), sum(changes)

    def settle(centers):
        one_strip = partial(
            _settle,
            boxes.columns,
            boxes.weights,
            boxes.starts,
            np.ascontiguousarray(centers.T),
            owners,
            labels,
            distances,
        )
        return float(sum(map_strips(one_strip, len(owners), boxes.strip)))

    def in_given_order(sorted_array):
        array = np.empty_like(sorted_array)
        array[boxes.order] = sorted_array
        return array

    n_iter, converged = 0, False
    while n_iter < max_iter and not converged:
        sums, n_changed = assign(centers)
        empty = np.flatnonzero(sums[:, -1] == 0)
        if len(empty):
            settle(centers)
            far = in_given_order(labels), in_given_order(distances)
            sums = _relocate(values, weights, *far, empty, len(centers))
        filled = sums[:, -1] > 0
        moved = centers.copy()
        moved[filled] = sums[filled, :-1] / sums[filled, -1:]
        shift = ((moved - centers) ** 2).sum()
        centers = moved
        n_iter += 1
        converged = n_changed == 0 or shift <= threshold
    sums, _ = assign(centers)
    inertia = settle(centers)
    labels = in_given_order(labels)
    used = sums[:, -1] > 0
    if not used.all():  # values without weight may be nearest to a centre that goes
        centers = centers[used]
        labels = nearest_centers(values, centers)
    return centers, labels, inertia, n_iter


@njit(nogil=True, cache=True)
def _label(values, centers, everyone, labels, start, stop):
    """Write the nearest of `centers` (C, k) of values (n, C) in a range."""
    columns = np.empty((values.shape[1], BLOCK), np.float32)
    now, best, label = np.empty(BLOCK), np.empty(BLOCK), np.zeros(BLOCK, np.int32)
    for begin in range(start, stop, BLOCK):
        n = min(begin + BLOCK, stop) - begin
        for c in range(values.shape[1]):
            for i in range(n):
                columns[c, i] = values[begin + i, c]
        _choose(columns, 0, n, centers, everyone, now, best, label)
        labels[begin : begin + n] = label[:n]


def nearest_centers(values: NDArray[np.float32], centers: NDArray[np.float64]) -> NDArray[np.int32]:
    """Find the nearest centre of each value.

    Parameters
    ----------
    values : (n, C) float32, C-contiguous
    centers : (n_clusters, C) float64

    Returns
    -------
    (n,) int32
        Ties go to the lower index.

    Notes
    -----
    O(n * n_clusters * C) time.
    """
    labels = np.empty(len(values), np.int32)
    everyone = np.arange(len(centers), dtype=np.int32)
    one_strip = partial(_label, values, np.ascontiguousarray(centers.T), everyone, labels)
    map_strips(one_strip, len(values), STRIP)
    return labels


# --- k-means++ ---------------------------------------------------------------------------


@njit(nogil=True, cache=True)
def _potentials(values, weights, candidates, closest, start, stop):
    """Sum of weighted squared distances if each candidate became a centre.

    Parameters
    ----------
    values : (n, C) float32
    weights : (n,) float64
    candidates : (n_candidates, C) float64
    closest : (n,) float64
        Squared distance to the nearest centre so far.
    start, stop : int
        Range of values.

    Returns
    -------
    (n_candidates,) float64
    """
    sums = np.zeros((candidates.shape[0], BLOCK))
    now = np.empty(BLOCK)
    block = np.empty((values.shape[1], BLOCK))
    for begin in range(start, stop, BLOCK):
        n = min(begin + BLOCK, stop) - begin
        for c in range(values.shape[1]):
            for i in range(n):
                block[c, i] = values[begin + i, c]
        near, weight = closest[begin : begin + n], weights[begin : begin + n]
        for k in range(candidates.shape[0]):
            now[:n] = 0
            for c in range(values.shape[1]):
                column, candidate = block[c, :n], candidates[k, c]
                for i in range(n):
                    now[i] += (column[i] - candidate) ** 2
            total = sums[k, :n]
            for i in range(n):
                total[i] += weight[i] * min(now[i], near[i])
    potentials = np.empty(candidates.shape[0])
    for k in range(candidates.shape[0]):
        potentials[k] = sums[k].sum()
    return potentials


@njit(nogil=True, cache=True)
def _approach(values, weights, center, closest, start, stop):
    """Lower the squared distances of values to the nearest centre, given a new one.

    Parameters
    ----------
    values : (n, C) float32
    weights : (n,) float64
    center : (C,) float64
    closest : (n,) float64, overwritten in part
    start, stop : int
        Range of values.

    Returns
    -------
    float
        Weighted sum of the distances.
    """
    total = 0.0
    for i in range(start, stop):
        distance = 0.0
        for c in range(values.shape[1]):
            distance += (values[i, c] - center[c]) ** 2
        closest[i] = min(closest[i], distance)
        total += weights[i] * closest[i]
    return total


def _draw(chances, strip_totals, n_drawn, random_state):
    """Draw indices by their chances, of which the sums over strips are known."""
    ends = np.cumsum(strip_totals)
    drawn, sums = [], {}
    for place in random_state.uniform(size=n_drawn) * ends[-1]:
        # Never one without a chance, not even if rounding draws the very end.
        last = np.searchsorted(ends, ends[-1])
        strip = min(np.searchsorted(ends, place, side="right"), last)
        start = strip * STRIP
        if strip not in sums:
            sums[strip] = np.cumsum(chances(start, start + STRIP))
        within = sums[strip]
        place -= ends[strip - 1] if strip else 0
        last = np.searchsorted(within, within[-1])
        drawn.append(start + min(np.searchsorted(within, place, side="right"), last))
    return drawn


def plus_plus(
    values: NDArray[np.float32],
    weights: NDArray[np.float64],
    n_clusters: int,
    random_state: np.random.RandomState,
) -> NDArray[np.float64]:
    """Draw values as centres, far from one another: greedy k-means++ [1]_.

    Parameters
    ----------
    values : (n, C) float32, C-contiguous
    weights : (n,) float64
    n_clusters : int
    random_state : RandomState

    Returns
    -------
    (k, C) float64
        All different: fewer if there are fewer values.

    Notes
    -----
    Of ``2 + log(n_clusters)`` candidates, drawn by their weighted squared distance to the
    nearest centre so far, the one that lowers the sum of these most becomes the next.
    O(n * n_clusters * log(n_clusters) * C) time.

    References
    ----------
    .. [1] D. Arthur and S. Vassilvitskii, "k-means++: the advantages of careful seeding",
       Symposium on Discrete Algorithms, 1027-1035, 2007.
    """
    n = len(values)
    n_candidates = 2 + int(np.log(n_clusters))
    closest = np.ones(n)
    totals = np.add.reduceat(weights, np.arange(0, n, STRIP))

    def chances(start, stop):
        return weights[start:stop] * closest[start:stop]

    centers = []
    while len(centers) < n_clusters and max(totals) > 0:  # at 0 every value is a centre
        drawn = _draw(chances, totals, n_candidates if centers else 1, random_state)
        candidates = values[drawn].astype(np.float64)
        best = 0
        if centers:
            sums = map_strips(partial(_potentials, values, weights, candidates, closest), n, STRIP)
            best = int(np.argmin(sum(sums)))
        else:
            closest.fill(np.inf)
        centers.append(candidates[best])
        approach = partial(_approach, values, weights, candidates[best], closest)
        totals = map_strips(approach, n, STRIP)
    return np.array(centers)
