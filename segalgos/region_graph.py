"""Which regions touch, how long their borders are and how unlike they look."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
from numba import njit
from numpy.typing import ArrayLike, NDArray

from segalgos.checks import (
    check_bool,
    check_choice,
    check_image,
    check_int,
    check_label_map,
    check_real,
)
from segalgos.finite import as_finite
from segalgos.hierarchy import Hierarchy
from segalgos.parallel import map_strips
from segalgos.union_find import find

if TYPE_CHECKING:
    import networkx

__all__ = ["RegionGraph", "region_graph"]

STRIP = 1 << 18  # pixels
EMPTY = np.int64(-1)
LOW_BITS = 32  # a key holds the smaller node of a pair above the larger


# --- scan --------------------------------------------------------------------------------


@njit(nogil=True, cache=True)
def _slot(keys, key):
    """Find where a key is, or would be, in a hash table whose length is a power of two."""
    last = keys.shape[0] - 1
    mixed = np.uint64(key) * np.uint64(0x9E3779B97F4A7C15)
    i = np.int64(mixed >> np.uint64(32)) & last
    while keys[i] != key and keys[i] != EMPTY:
        i = (i + 1) & last
    return i


@njit(nogil=True, cache=True)
def _doubled(keys, sums):
    """Move a full table to one of twice the size."""
    larger = np.full(2 * keys.shape[0], EMPTY)
    larger_sums = np.zeros((2 * keys.shape[0], 2))
    for i in range(keys.shape[0]):
        if keys[i] != EMPTY:
            slot = _slot(larger, keys[i])
            larger[slot] = keys[i]
            larger_sums[slot] = sums[i]
    return larger, larger_sums


@njit(nogil=True, cache=True)
def _compare(left, right, left_values, right_values, keys, sums):
    """Add the borders between two rows of pixels to a hash table.

    Parameters
    ----------
    left, right : (n,) int32
        Labels; -1 is ignored.
    left_values, right_values : (n, C)
        Colours.
    keys : (n_slots,) int64, overwritten
        Pairs of labels, ``smaller << LOW_BITS | larger``, or EMPTY.
    sums : (n_slots, 2) float64, overwritten
        Pairs of pixels, and the sum of the distances of their colours.

    Returns
    -------
    int
        How many keys are new.
    """
    latest, slot, n_new = EMPTY, 0, 0
    for x in range(left.shape[0]):
        a, b = left[x], right[x]
        if a == b or a < 0 or b < 0:
            continue
        squared = 0.0
        for c in range(left_values.shape[1]):
            difference = np.float64(left_values[x, c]) - np.float64(right_values[x, c])
            squared += difference * difference
        key = (np.int64(min(a, b)) << LOW_BITS) | np.int64(max(a, b))
        if key != latest:  # borders mostly go on with the same pair
            slot, latest = _slot(keys, key), key
            if keys[slot] == EMPTY:
                keys[slot] = key
                n_new += 1
        sums[slot, 0] += 1
        sums[slot, 1] += np.sqrt(squared)
    return n_new


@njit(nogil=True, cache=True)
def _scan(labels, image, neighbours, first, last):
    """Sum up regions and borders over a range of rows.

    Parameters
    ----------
    labels : (D, H, W) int32
        -1 is ignored.
    image : (D, H, W, C) uint8 or float32
    neighbours : (n_neighbours, 3) intp
        Half of all steps (slice, row, column) to a neighbour.
    first, last : int
        Range of rows, counted over all slices.

    Returns
    -------
    low : int
        Smallest label that occurs.
    regions : (n, 4 + C) float64
        Of the labels from `low` on: pixels, sums of slice, row, column and of each channel.
    keys, borders : (n_pairs,) int64 and (n_pairs, 2) float64
        As in `_compare`.

    Notes
    -----
    O(n_pixels * (C + n_neighbours)) time; labels are taken up run by run.
    """
    depth, height, width, n_channels = image.shape
    low, high = np.int32(2**31 - 1), np.int32(-1)
    for row in range(first, last):
        for label in labels[row // height, row % height]:
            if label >= 0:
                low, high = min(low, label), max(high, label)
    regions = np.zeros((max(0, high - low + 1), 4 + n_channels))
    n_slots = 4
    while n_slots < 2 * width:
        n_slots *= 2
    keys, sums, n_pairs = np.full(n_slots, EMPTY), np.zeros((n_slots, 2)), 0
    for row in range(first, last):
        z, y = row // height, row % height
        here, values = labels[z, y], image[z, y]
        begin = 0
        while begin < width:
            label, end = here[begin], begin + 1
            while end < width and here[end] == label:
                end += 1
            if label >= 0:
                region = regions[label - low]
                region[0] += end - begin
                region[1] += z * (end - begin)
                region[2] += y * (end - begin)
                region[3] += (begin + end - 1) * (end - begin) / 2
                for c in range(n_channels):
                    total = 0.0
                    for x in range(begin, end):
                        total += values[x, c]
                    region[4 + c] += total
            begin = end
        for n in range(neighbours.shape[0]):
            z2, y2, dx = z + neighbours[n, 0], y + neighbours[n, 1], neighbours[n, 2]
            if z2 >= depth or not 0 <= y2 < height:
                continue
            if 2 * (n_pairs + width) > keys.shape[0]:  # as if each pixel had a new pair
                keys, sums = _doubled(keys, sums)
            begin, end = max(0, -dx), min(width, width - dx)
            n_pairs += _compare(
                here[begin:end],
                labels[z2, y2, begin + dx : end + dx],
                values[begin:end],
                image[z2, y2, begin + dx : end + dx],
                keys,
                sums,
            )
    used = np.flatnonzero(keys != EMPTY)
    return low, regions, keys[used], sums[used]


# --- merge -------------------------------------------------------------------------------


@njit(nogil=True, cache=True)
def _before(weight, a, b):
    return weight[a] < weight[b] or (weight[a] == weight[b] and a < b)


@njit(nogil=True, cache=True)
def _sift(heap, place, weight, n, i):
    """Move the entry at `i` up or down to where it belongs among the first `n`."""
    edge = heap[i]
    while i > 0 and _before(weight, edge, heap[(i - 1) // 2]):
        heap[i] = heap[(i - 1) // 2]
        place[heap[i]] = i
        i = (i - 1) // 2
    while 2 * i + 1 < n:
        child = 2 * i + 1
        if child + 1 < n and _before(weight, heap[child + 1], heap[child]):
            child += 1
        if not _before(weight, heap[child], edge):
            break
        heap[i] = heap[child]
        place[heap[i]] = i
        i = child
    heap[i] = edge
    place[edge] = i


@njit(nogil=True, cache=True)
def _remove(heap, place, weight, n, edge):
    """Take an edge out of a heap of `n`; gives how many are left."""
    i, n = place[edge], n - 1
    if i < n:
        heap[i] = heap[n]
        place[heap[i]] = i
        _sift(heap, place, weight, n, i)
    return n


@njit(nogil=True, cache=True)
def _agglomerate(pairs, weight, order, length, size, color, by_color, merges, levels):
    """Merge the two closest regions again and again, with weights kept up to date.

    Parameters
    ----------
    pairs : (n_edges, 2) int64
        Nodes of each edge; overwritten.
    weight : (n_edges,) float64
        Overwritten.
    order : (n_edges,) int64
        Edges by rising weight.
    length : (n_edges,) float64
        Overwritten.
    size : (2 * n,) float64
        Pixels of the n regions, then room for merged ones; overwritten.
    color : (2 * n, C) float64
        Mean colours, alike.
    by_color : bool
        True: the weight between merged regions is the distance of their mean colours.
        False: it is the mean of the weights along their border.
    merges : (n - 1, 2) int64, overwritten in part
        Merge i joins two nodes into node ``n + i``.
    levels : (n - 1,) float64, overwritten in part
        The weight of each merge, but never below the one before.

    Returns
    -------
    int
        How many merges there are.

    Notes
    -----
    Each node has a linked list of half-edges, ``2 * edge + side``; those of dead edges are
    left out when the list is next walked. A merge costs O(d log n_edges) time for the d
    neighbours of both nodes. Equal weights are merged by the lower edge.
    """
    n_edges, n = pairs.shape[0], size.shape[0] // 2
    head, tail = np.full(2 * n, -1), np.full(2 * n, -1)
    following = np.full(2 * n_edges, -1)
    for half in range(2 * n_edges - 1, -1, -1):
        node = pairs[half // 2, half % 2]
        following[half] = head[node]
        if head[node] < 0:
            tail[node] = half
        head[node] = half
    heap, place = order.copy(), np.empty(n_edges, np.int64)  # sorted, and so a heap
    place[heap] = np.arange(n_edges)
    alive = np.ones(n_edges, np.bool_)
    first_edge = np.full(2 * n, -1)  # to each neighbour of the node just made
    n_open, n_merges, level = n_edges, 0, -np.inf
    while n_open > 0:
        edge = heap[0]
        n_open = _remove(heap, place, weight, n_open, edge)
        alive[edge] = False
        a, b, new = pairs[edge, 0], pairs[edge, 1], n + n_merges
        level = max(level, weight[edge])
        merges[n_merges, 0], merges[n_merges, 1], levels[n_merges] = min(a, b), max(a, b), level
        n_merges += 1
        size[new] = size[a] + size[b]
        for c in range(color.shape[1]):
            color[new, c] = (size[a] * color[a, c] + size[b] * color[b, c]) / size[new]

        following[tail[a]] = head[b]
        half, end = head[a], -1
        while half >= 0:
            e, side, next_half = half // 2, half % 2, following[half]
            if alive[e]:
                other = pairs[e, 1 - side]
                twin = first_edge[other]
                if twin >= 0:  # both had this neighbour: the lower edge takes up the other
                    low, high = min(e, twin), max(e, twin)
                    total = length[low] + length[high]
                    weight[low] = weight[low] * length[low] + weight[high] * length[high]
                    weight[low] /= total
                    length[low] = total
                    _sift(heap, place, weight, n_open, place[low])
                    n_open = _remove(heap, place, weight, n_open, high)
                    alive[high] = False
                    first_edge[other] = low
                else:
                    first_edge[other] = e
                pairs[e, side] = new
                if end < 0:
                    head[new] = half
                else:
                    following[end] = half
                end = half
            half = next_half
        if end >= 0:
            following[end] = -1
            tail[new] = end
        half = head[new]
        while half >= 0:
            e = half // 2
            if alive[e]:
                other = pairs[e, 1 - half % 2]
                first_edge[other] = -1
                if by_color:
                    squared = 0.0
                    for c in range(color.shape[1]):
                        squared += (color[new, c] - color[other, c]) ** 2
                    weight[e] = np.sqrt(squared)
                    _sift(heap, place, weight, n_open, place[e])
            half = following[half]
    return n_merges


@njit(nogil=True, cache=True)
def _join_in_order(pairs, weight, order, n, merges, levels):
    """Merge along edges of fixed weights, the lightest first (Kruskal).

    Parameters
    ----------
    pairs : (n_edges, 2) int64
    weight : (n_edges,) float64
    order : (n_edges,) int64
        Edges by rising weight.
    n : int
        Number of regions.
    merges, levels : as in `_agglomerate`

    Returns
    -------
    int
    """
    parent = np.arange(2 * n)
    n_merges = 0
    for edge in order:
        a, b = find(parent, pairs[edge, 0]), find(parent, pairs[edge, 1])
        if a != b:
            merges[n_merges, 0], merges[n_merges, 1] = min(a, b), max(a, b)
            levels[n_merges] = weight[edge]
            parent[a] = parent[b] = n + n_merges
            n_merges += 1
    return n_merges


# --- surface -----------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class RegionGraph:
    """Regions of one image and the borders between them, as made by `region_graph`.

    Regions are nodes 0..n-1. Borders are stored from both sides: those of node i are the
    entries ``indptr[i]:indptr[i + 1]`` of `indices`, `length` and `contrast`, with rising
    neighbours (compressed sparse rows).

    Parameters
    ----------
    labels : (H, W) or (D, H, W) int32
        Node of each pixel; -1 where it is ignored.
    ids : (n,) int32
        Each node's id in the label map it was made from, rising.
    indptr : (n + 1,) int64
    indices : (n_entries,) int32
        The neighbour.
    length : (n_entries,) int64
        Pairs of neighbouring pixels; sides of pixels if only these make neighbours.
    contrast : (n_entries,) float64 or None
        Euclidean distance of colours between both sides, averaged along the border, in
        the image's units.
    size : (n,) int64
        Pixels.
    centroid : (n, 2) or (n, 3) float64
        (Slice,) row and column.
    color : (n, C) float64 or None
        Mean colour, in the image's units.
    connectivity : int
        Which pixels are neighbours, as `region_graph` takes it.
    """

    labels: NDArray[np.int32]
    ids: NDArray[np.int32]
    indptr: NDArray[np.int64]
    indices: NDArray[np.int32]
    length: NDArray[np.int64]
    contrast: NDArray[np.float64] | None
    size: NDArray[np.int64]
    centroid: NDArray[np.float64]
    color: NDArray[np.float64] | None
    connectivity: int = 1

    @property
    def n_regions(self) -> int:
        """Number of regions."""
        return len(self.ids)

    def edges(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """List every border once.

        Returns
        -------
        pairs : (n_edges, 2) int64
            Its two nodes, the lower first; sorted.
        entries : (n_edges,) int64
            Where it stands in `indices`, so that ``length[entries]`` are the lengths.
        """
        rows = np.repeat(np.arange(self.n_regions), np.diff(self.indptr))
        entries = np.flatnonzero(rows < self.indices)
        return np.stack([rows[entries], self.indices[entries]], axis=1), entries

    def border_means(self, values: ArrayLike) -> NDArray[np.float64]:
        """Average a map of values, such as the strength of contours, along every border.

        Parameters
        ----------
        values : (H, W) or (D, H, W) array_like
            A number at each pixel.

        Returns
        -------
        (n_entries,) float64
            One for each of `indices`, the same from both sides: `hierarchy` and `merge` take it
            as `weight`.

        Raises
        ------
        ValueError
            If the shape is another than that of `labels`, or values are not finite.
        TypeError
            If values are no numbers.

        Notes
        -----
        The mean is over the pairs of neighbouring pixels on both sides of the border, of which
        the larger value counts, since the ridge of a contour lies on one of them.
        O(n_pixels * neighbours * log n_entries) time.

        Examples
        --------
        >>> from segalgos.region_graph import region_graph
        >>> graph = region_graph([[0, 0, 1, 1, 2]])
        >>> graph.border_means([[0, 5, 0, 0, 1]])
        array([5., 5., 1., 1.])
        """
        shape = self.labels.shape
        values = as_finite(values, np.float64, shape, "RegionGraph.border_means: values")
        pairs, entries = self.edges()
        keys = pairs[:, 0] << LOW_BITS | pairs[:, 1]
        total = np.zeros(len(keys))
        for step in _steps(len(shape), self.connectivity):
            here, there = (
                tuple(slice(max(0, s), n + min(0, s)) for s, n in zip(side, shape))
                for side in (-step, step)
            )
            a, b = self.labels[here], self.labels[there]
            border = (a != b) & (a >= 0) & (b >= 0)
            a, b = a[border].astype(np.int64), b[border].astype(np.int64)
            places = np.searchsorted(keys, np.minimum(a, b) << LOW_BITS | np.maximum(a, b))
            larger = np.maximum(values[here][border], values[there][border])
            total += np.bincount(places, larger, len(keys))
        means = np.zeros(len(self.indices))
        means[entries] = total / self.length[entries]
        return means + means[self._twins()]

    def _twins(self) -> NDArray[np.intp]:
        """Where each entry's border stands from the other side."""
        rows = np.repeat(np.arange(self.n_regions), np.diff(self.indptr))
        return np.lexsort((rows, self.indices))

    def to_networkx(self) -> networkx.Graph:
        """Copy the graph to networkx.

        Returns
        -------
        networkx.Graph
            Nodes are the ids, with attributes ``size``, ``centroid`` and ``color``; edges
            have ``length`` and ``contrast``. Without an image there is neither color nor
            contrast.
        """
        import networkx

        graph = networkx.Graph()
        for i, name in enumerate(self.ids.tolist()):
            graph.add_node(name, size=int(self.size[i]), centroid=tuple(self.centroid[i].tolist()))
            if self.color is not None:
                graph.nodes[name]["color"] = tuple(self.color[i].tolist())
        pairs, entries = self.edges()
        for (a, b), entry in zip(self.ids[pairs].tolist(), entries, strict=True):
            graph.add_edge(a, b, length=int(self.length[entry]))
            if self.contrast is not None:
                graph[a][b]["contrast"] = float(self.contrast[entry])
        return graph

    def hierarchy(self, *, weight: str | ArrayLike = "color", update: bool = True) -> Hierarchy:
        """Merge the two closest neighbours until nothing is left to merge.

        Parameters
        ----------
        weight : {"color", "contrast"} or (n_entries,) array_like, default="color"
            What makes neighbours distant: the distance of their mean colours, the contrast
            along their border, or numbers of your own, one for each of `indices` and the
            same from both sides, such as `border_means` gives.
        update : bool, default=True
            Compute the weights of a merged region anew: from its mean colour, or as the
            mean of the weights along its border. False leaves all as they are at first.

        Returns
        -------
        Hierarchy
            Any number of segments can be cut from it at no further cost.

        Raises
        ------
        ValueError
            If the weights need an image, or are not finite and the same from both sides.

        Notes
        -----
        Equal weights are merged in the order of `edges`. Where a weight falls below one
        already merged, as mean colours may make it, its level is that one: cutting at a
        level gives what merging up to it would. O(n_entries log n_entries) time if few
        regions have many neighbours.

        References
        ----------
        .. [1] A. Trémeau and P. Colantoni, "Regions adjacency graph applied to color image
           segmentation", IEEE Trans. Image Processing 9(4), 735-744, 2000.
        """
        merges, levels = self._merges("RegionGraph.hierarchy", weight, update)
        return Hierarchy(self.labels, merges, levels)

    def merge(
        self,
        *,
        threshold: float | None = None,
        n_segments: int | None = None,
        weight: str | ArrayLike = "color",
        update: bool = True,
    ) -> NDArray[np.int32]:
        """Merge neighbours that are close.

        Parameters
        ----------
        threshold : float, optional
            Merge up to this weight.
        n_segments : int, optional
            Merge until this many regions are left.
        weight, update : optional
            As in `hierarchy`. With ``update=False`` a threshold joins whatever is connected
            by borders of at most that weight.

        Returns
        -------
        (H, W) or (D, H, W) int32
            Ids 0..k-1 in the order of their first node; -1 where ignored.

        Raises
        ------
        ValueError
            If not exactly one of `threshold` and `n_segments` is given, or so many segments
            cannot be had.
        """
        caller = "RegionGraph.merge"
        if (threshold is None) == (n_segments is None):
            raise ValueError(
                f"{caller}: got {'neither' if threshold is None else 'both'} of threshold and "
                "n_segments, expected exactly one."
            )
        if threshold is not None:
            check_real(caller, "threshold", threshold)
        merges, levels = self._merges(caller, weight, update)
        n = self.n_regions
        if n_segments is not None:
            check_int(caller, "n_segments", n_segments, low=n - len(merges), high=n)
        # The regions themselves are the image of this hierarchy: cheap.
        row = Hierarchy(np.arange(n, dtype=np.int32)[None], merges, levels)
        segments = row.cut(level=threshold, n_segments=n_segments).ravel()
        return np.append(segments, np.int32(-1))[self.labels]

    def _merges(self, caller: str, weight: str | ArrayLike, update: bool):
        """Merges and levels of a hierarchy; see there."""
        check_bool(caller, "update", update)
        pairs, entries = self.edges()
        by_color = isinstance(weight, str) and weight == "color"
        values = self._weights(caller, weight, pairs, entries)
        order = np.argsort(values, kind="stable")
        n = self.n_regions
        merges = np.empty((max(0, n - 1), 2), np.int64)
        levels = np.empty(max(0, n - 1))
        if update:
            color = np.empty((2 * n, self.color.shape[1] if by_color else 0))
            size = np.empty(2 * n)
            size[:n] = self.size
            if by_color:
                color[:n] = self.color
            length = self.length[entries].astype(float)
            m = _agglomerate(pairs, values, order, length, size, color, by_color, merges, levels)
        else:
            m = _join_in_order(pairs, values, order, n, merges, levels)
        return merges[:m], levels[:m]

    def _weights(self, caller, weight, pairs, entries):
        """One weight for each of `edges`."""
        if isinstance(weight, str):
            check_choice(caller, "weight", weight, ("color", "contrast"))
            if self.color is None:
                raise ValueError(
                    f"{caller}: weight is {weight!r}, but this graph was made without an image: "
                    "pass the image to region_graph, or an array of weights."
                )
            if weight == "contrast":
                return self.contrast[entries]
            return np.linalg.norm(self.color[pairs[:, 0]] - self.color[pairs[:, 1]], axis=1)
        values = np.asarray(weight, dtype=float)
        if values.shape != self.indices.shape or not np.isfinite(values).all():
            raise ValueError(
                f"{caller}: weight has shape {values.shape}, expected {self.indices.shape} finite "
                "numbers: pass one for each of indices."
            )
        if (values[self._twins()] != values).any():
            raise ValueError(
                f"{caller}: weight differs between the two sides of a border: pass the same "
                "number from both."
            )
        return values[entries]


def region_graph(
    labels: ArrayLike,
    image: ArrayLike | None = None,
    *,
    connectivity: int = 1,
    channel_axis: int | str | None = "auto",
) -> RegionGraph:
    """Find which regions of a label map touch, and measure them.

    Parameters
    ----------
    labels : (H, W) or (D, H, W) array_like of int
        Region of each pixel; -1 is ignored. Ids may have gaps, regions may lie in pieces.
    image : (H, W), (H, W, C) or volume, array_like, optional
        Gives colours and contrasts.
    connectivity : int, default=1
        Pixels are neighbours if at most this many of their coordinates differ, each by
        one: 1 takes sides, 2 corners too (in volumes edges), 3 a volume's corners.
    channel_axis : int, None or "auto", default="auto"
        Which axis of `image` holds the channels; None for a grey image or volume.

    Returns
    -------
    RegionGraph

    Raises
    ------
    ValueError
        If shapes disagree or an id is below -1.
    TypeError
        If labels are no integers.

    See Also
    --------
    RegionGraph : What can be done with it.

    Notes
    -----
    O(n_pixels * (C + neighbours)) time in one pass, on all cores; sums are in float64 and
    in a fixed order. Beside the labels it takes memory for regions and borders only.

    Examples
    --------
    >>> from segalgos.region_graph import region_graph
    >>> graph = region_graph([[0, 0, 1], [0, 2, 2]], [[5, 5, 9], [5, 7, 9]])
    >>> graph.size, graph.color.ravel()
    (array([3, 1, 2]), array([5., 9., 8.]))
    >>> pairs, entries = graph.edges()
    >>> pairs.tolist(), graph.length[entries], graph.contrast[entries]
    ([[0, 1], [0, 2], [1, 2]], array([1, 2, 1]), array([4., 2., 0.]))
    >>> graph.merge(n_segments=2)
    array([[0, 0, 1],
           [0, 1, 1]], dtype=int32)
    """
    caller = "region_graph"
    labels = check_label_map(labels, np.shape(labels), caller)
    if labels.ndim not in (2, 3) or labels.size == 0:
        raise ValueError(
            f"{caller}: labels has shape {labels.shape}, expected (H, W) or (D, H, W) with at "
            "least one pixel."
        )
    connectivity = check_int(caller, "connectivity", connectivity, low=1, high=labels.ndim)
    if image is None:
        return _graph(labels, None, connectivity)
    if isinstance(channel_axis, str) and np.shape(image) == labels.shape:
        channel_axis = None  # the labels say that no axis is one of channels
    image = check_image(
        image, caller, channel_axis=channel_axis, ndims=(labels.ndim,), keep_uint8=True
    )
    check_label_map(labels, image.shape[:-1], caller)
    return _graph(labels, image, connectivity)


def _graph(labels, image, connectivity=1):
    """Graph of a checked label map and image (H, W, C) or (D, H, W, C), or None."""
    shape = labels.shape
    ids = None
    if labels.max() >= labels.size:  # tables as long as the largest id would be too long
        ids, labels = np.unique(labels, return_inverse=True)
        n_ignored = int(ids[0] == -1)
        ids, labels = ids[n_ignored:], (labels - n_ignored).astype(np.int32).reshape(shape)
    values = np.empty((*shape, 0), np.uint8) if image is None else image
    volume = labels.reshape((1,) * (3 - labels.ndim) + shape)
    steps = _steps(len(shape), connectivity)
    neighbours = np.pad(steps, ((0, 0), (3 - len(shape), 0)))
    scan = partial(_scan, volume, values.reshape(*volume.shape, -1), neighbours)
    n_rows, width = volume.shape[0] * volume.shape[1], volume.shape[2]
    strips = map_strips(scan, n_rows, max(1, STRIP // width))

    n = max((int(low) + len(regions) for low, regions, _, _ in strips if len(regions)), default=0)
    sums = np.zeros((n, 4 + values.shape[-1]))
    for low, regions, _, _ in strips:
        sums[low : low + len(regions)] += regions
    keys = np.concatenate([keys for _, _, keys, _ in strips])
    borders = np.concatenate([borders for _, _, _, borders in strips])

    found = sums[:, 0] > 0
    if not found.all():
        ids, sums = np.flatnonzero(found), sums[found]
        lookup = np.append(np.cumsum(found, dtype=np.int32) - 1, np.int32(-1))
        low, high = lookup[keys >> LOW_BITS], lookup[keys & ((1 << LOW_BITS) - 1)]
        keys, labels = low.astype(np.int64) << LOW_BITS | high, lookup[labels]
        n = len(ids)
    pairs, borders = _sum_equal(keys, borders)
    rows, columns = np.concatenate([pairs, pairs[:, ::-1]]).T
    order = np.lexsort((columns, rows))
    length, total = np.concatenate([borders, borders])[order].T
    size = sums[:, :1]
    return RegionGraph(
        labels=labels,
        ids=np.arange(n, dtype=np.int32) if ids is None else ids.astype(np.int32),
        indptr=np.searchsorted(rows[order], np.arange(n + 1)).astype(np.int64),
        indices=columns[order].astype(np.int32),
        length=length.astype(np.int64),
        contrast=None if image is None else total / length,
        size=sums[:, 0].astype(np.int64),
        centroid=(sums[:, 1:4] / size)[:, 3 - len(shape) :],
        color=None if image is None else sums[:, 4:] / size,
        connectivity=connectivity,
    )


def _steps(ndim, connectivity):
    """Half of all steps to a neighbour, (n_neighbours, ndim): each pair is looked at once."""
    steps = itertools.product((-1, 0, 1), repeat=ndim)
    zero = (0,) * ndim
    return np.array([s for s in steps if s > zero and np.count_nonzero(s) <= connectivity])


def _sum_equal(keys, borders):
    """Add up the borders of each pair, in the order in which they come."""
    order = np.argsort(keys, kind="stable")
    keys, borders = keys[order], borders[order]
    starts = np.flatnonzero(np.diff(keys, prepend=EMPTY))
    if len(starts):
        keys, borders = keys[starts], np.add.reduceat(borders, starts)
    return np.stack([keys >> LOW_BITS, keys & ((1 << LOW_BITS) - 1)], axis=1), borders
