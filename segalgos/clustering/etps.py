"""ETPS superpixels: blocks and then pixels change sides, while each superpixel stays connected."""

from __future__ import annotations

from functools import cache
from itertools import product
from math import ceil, prod

import numpy as np
from numba import njit
from numpy.typing import ArrayLike, NDArray

from segalgos.base import Segmenter, Traits
from segalgos.checks import check_choice, check_image, check_int, check_mask, check_real
from segalgos.clustering._blocks import MIXED, OUTSIDE, add_up, make_level
from segalgos.clustering._connect import connect
from segalgos.clustering._ward import join_similar
from segalgos.color import find_data_range, rescale, rgb_to_lab
from segalgos.parallel import map_items
from segalgos.smoothing import gaussian

__all__ = ["ETPSSegmenter", "etps"]

WHITE = 100.0  # of channels that are not Lab, so that compactness means the same for them
GROUP = 1024  # superpixels that one thread moves at a time
JOIN_COMPACTNESS = 3.0  # how much more positions count when cells are joined
GAIN = 1e-6  # of energy for a move, in squared units of Lab: above rounding errors


# --- the first cells ---------------------------------------------------------------------


def _spacing(shape, n_cells):
    """Side of the cells that share a box evenly; axes thinner than a cell do not count."""
    extents = sorted(shape)
    area = prod(shape) / n_cells
    while len(extents) > 1 and extents[0] < area ** (1 / len(extents)):
        area /= extents.pop(0)
    return max(area ** (1 / len(extents)), 1.0)


def _cut(shape, n_cells, spacing, side):
    """Cut a box into slabs, each of these into rows and these into cells.

    Parameters
    ----------
    shape : tuple of int
    n_cells : int
        At most the pixels of the box.
    spacing : float
        About how thick slabs and rows are.
    side : int
        Cells end at multiples of it, or with the box.

    Returns
    -------
    ndarray of int32, of shape `shape`
        Numbers 0..n_cells-1 in raster order. All occur if `side` is 1.
    """
    extent, rest = shape[0], shape[1:]
    if rest:
        n_slabs = max(round(extent / spacing), ceil(n_cells / prod(rest)), 1)
        n_slabs = min(n_slabs, n_cells, extent)
    else:
        n_slabs = n_cells
    edges = np.rint(np.arange(n_slabs + 1) * (extent / n_slabs) / side).astype(np.intp) * side
    edges[-1] = extent
    if not rest:
        return np.repeat(np.arange(n_cells, dtype=np.int32), np.diff(edges))
    cells = np.empty(shape, np.int32)
    firsts = np.rint(np.arange(n_slabs + 1) * (n_cells / n_slabs)).astype(int)
    for i in range(n_slabs):
        slab = _cut(rest, firsts[i + 1] - firsts[i], spacing, side)
        cells[edges[i] : edges[i + 1]] = slab + firsts[i]
    return cells


def _first_labels(features, mask, n_segments, min_size):
    """Share the pixels among connected cells.

    Parameters
    ----------
    features : (D, H, W, C) float32
    mask : (D, H, W) bool or None
    n_segments : int
    min_size : int

    Returns
    -------
    labels : (D, H, W) int32
        Numbers without gaps in raster order, -1 outside the mask.
    side : int
        Of the largest blocks to move, half a cell or less; a power of two.
    """
    shape = features.shape[:3]
    if mask is None:
        spacing = _spacing(shape, n_segments)
        side = 1
        while 4 * side <= spacing:
            side *= 2
        while True:  # smaller blocks, should a cell have fallen between two of their edges
            labels = _cut(shape, n_segments, spacing, side)
            if side == 1 or np.bincount(labels.ravel(), minlength=n_segments).all():
                return labels, side
            side //= 2
    box = tuple(
        slice(where[0], where[-1] + 1)
        for where in (np.flatnonzero(mask.any(axis=(axis - 2, axis - 1))) for axis in range(3))
    )
    within = mask[box]
    # As many cells of the box that the mask's part of them is enough; the smallest join others.
    n_cells = min(ceil(n_segments * within.size / np.count_nonzero(within)), within.size)
    spacing = _spacing(within.shape, n_cells)
    labels = np.full(shape, OUTSIDE, np.int32)
    labels[box] = np.where(within, _cut(within.shape, n_cells, spacing, 1), OUTSIDE)
    connect(labels, np.ascontiguousarray(np.moveaxis(features, -1, 0)), n_segments, min_size)
    side = 1
    while 4 * side <= spacing:
        side *= 2
    return labels, side


# --- topology ----------------------------------------------------------------------------


@cache
def _neighbourhood(ndim):
    """Describe the blocks around one, in raster order.

    Returns
    -------
    offsets : (8 or 26, 3) intp
    faces : int
        Bits of those that share a side with the middle.
    adjacency : (8 or 26,) int64
        For each the bits of those that share a side with it.
    safe : (256,) bool, or (0,) for volumes
        For each set of bits: can the middle leave a superpixel that has just these?
    """
    axes = [(0,)] * (3 - ndim) + [(-1, 0, 1)] * ndim
    offsets = np.array([o for o in product(*axes) if any(o)], np.intp)
    faces = sum(1 << i for i, o in enumerate(offsets) if abs(o).sum() == 1)
    touches = np.abs(offsets[:, None] - offsets).sum(axis=2) == 1
    adjacency = (touches * (np.int64(1) << np.arange(len(offsets)))).sum(axis=1)
    codes = range(256 if ndim == 2 else 0)
    safe = np.array([_stays_connected(code, faces, adjacency) for code in codes], bool)
    return offsets, faces, adjacency, safe


@njit(nogil=True, cache=True)
def _stays_connected(code, faces, adjacency):
    """Tell whether a superpixel remains one piece around a block that leaves it.

    Parameters
    ----------
    code : int
        Bits of the neighbours that belong to it.
    faces : int
    adjacency : (n_neighbours,) int64
        Both of `_neighbourhood`.

    Returns
    -------
    bool
        Whether those that share a side with the middle reach each other through others of
        the neighbours. False if there is none.
    """
    beside = code & faces
    reached = beside & -beside
    fresh = reached
    while fresh:
        grown = np.int64(0)
        for i in range(adjacency.shape[0]):
            if fresh >> i & 1:
                grown |= adjacency[i]
        fresh = grown & code & ~reached
        reached |= fresh
    return beside != 0 and beside & ~reached == 0


# --- moves -------------------------------------------------------------------------------


@njit(nogil=True, cache=True)
def _move(
    blocks, counts, means, seeds, steps, ring, lengths, faces, adjacency, safe,
    sizes, sums, centers, low, high, min_size, max_iter, queued, pending,
):  # fmt: skip
    """Move blocks between the superpixels low..high-1 while that lowers the energy.

    Parameters
    ----------
    blocks : (n_blocks,) int32, changed in place
        With a border of `OUTSIDE`; those that are `MIXED` keep their neighbours in place.
    counts : (n_blocks,) int32
    means : (n_blocks, F) float32
    seeds : (n_seeds,) int64
        Blocks to look at first; those of other superpixels are left to others.
    steps : (4 or 6,) intp
        To neighbours that share a side, as differences of indices.
    ring : (8 or 26,) intp
        To all neighbours, in the order of `_neighbourhood`.
    lengths : (8 or 26,) float64
        Energy of a boundary towards each of these.
    faces, adjacency, safe : as `_neighbourhood` gives them
    sizes : (n_segments,) float64, changed in place
    sums, centers : (n_segments, F) float64, changed in place
        Of a superpixel's pixels the sum and mean.
    low, high : int
    min_size : int
        No superpixel shrinks below it.
    max_iter : int
        Look at this many blocks for each seed, then stop.
    queued : (n_blocks,) uint8, zeros before and after
    pending : (n_blocks,) uint8
        Set to 1 where a superpixel of others takes part.

    Notes
    -----
    First in, first out: seeds in their order, then the neighbours of each block that moved.
    Energy is the squared distance of all pixels to their superpixel's mean, which changes
    with every move, and the boundaries; as each move lowers it, this ends.

    Several of these may run at once, as what one reads of the others' superpixels is only
    that it is theirs.
    """
    n_features = means.shape[1]
    capacity = 64
    while capacity < 2 * seeds.shape[0]:
        capacity *= 2
    queue = np.empty(capacity, np.int64)
    length = 0
    for block in seeds:
        if low <= blocks[block] < high:
            queue[length] = block
            length += 1
            queued[block] = 1
    head, n_left = 0, max_iter * length
    all_around = lengths.sum()
    while length > 0:
        block = queue[head]
        head = (head + 1) & (capacity - 1)
        length -= 1
        queued[block] = 0
        n_left -= 1
        if n_left < 0:
            continue  # to empty the queue
        own, count = blocks[block], counts[block]

        if sizes[own] - count < min_size:
            continue
        code, free = np.int64(0), True
        for i in range(ring.shape[0]):
            other = blocks[block + ring[i]]
            code |= np.int64(other == own) << i
            free &= other != MIXED
        if not free:
            continue
        if not (safe[code] if safe.shape[0] else _stays_connected(code, faces, adjacency)):
            continue

        # What the squared distances lose with the block, and gain with it elsewhere.
        distance = 0.0
        for f in range(n_features):
            difference = means[block, f] - centers[own, f]
            distance += difference * difference
        loss = distance * count * sizes[own] / (sizes[own] - count)
        best, best_gain = own, GAIN
        for step in steps:
            other = blocks[block + step]
            if other in (own, best) or other < 0:
                continue
            if not low <= other < high:
                pending[block] = 1
                continue
            distance = 0.0
            for f in range(n_features):
                difference = means[block, f] - centers[other, f]
                distance += difference * difference
            gain = loss - distance * count * sizes[other] / (sizes[other] + count)
            if gain + all_around <= best_gain:
                continue
            for i in range(ring.shape[0]):
                beside = blocks[block + ring[i]]
                if beside == own:
                    gain -= lengths[i]
                elif beside == other:
                    gain += lengths[i]
            if gain > best_gain:
                best, best_gain = other, gain
        if best == own:
            continue

        blocks[block] = best
        sizes[own] -= count
        sizes[best] += count
        share, best_share = 1 / sizes[own], 1 / sizes[best]
        for f in range(n_features):
            change = np.float64(means[block, f]) * count
            sums[own, f] -= change
            sums[best, f] += change
            centers[own, f] = sums[own, f] * share
            centers[best, f] = sums[best, f] * best_share
        for step in ring:
            near = block + step
            label = blocks[near]
            if label < 0:
                continue
            if not low <= label < high:
                pending[near] = 1
                continue
            if queued[near]:
                continue
            between = False
            for across in steps:
                other = blocks[near + across]
                between |= other >= 0 and other != label
            if between:
                if length == capacity:
                    larger = np.empty(2 * capacity, np.int64)
                    larger[: capacity - head] = queue[head:]
                    larger[capacity - head : capacity] = queue[:head]
                    queue, head, capacity = larger, 0, 2 * capacity
                queue[(head + length) & (capacity - 1)] = near
                length += 1
                queued[near] = 1


def _refine(labels, levels, sums, boundary, min_size, max_iter, ndim):
    """Move blocks of each level in turn, in place.

    Parameters
    ----------
    labels : (D, H, W) int32, changed in place
    levels : sequence of Level
    sums : (n_segments, 1 + F) float64, changed in place
        As `add_up` gives them.
    boundary : float
        Energy of a boundary along one side of a pixel.
    min_size, max_iter : int
        As in `_move`.
    ndim : int
        2 or 3.
    """
    sizes, sums_of_features = sums[:, 0].copy(), sums[:, 1:].copy()
    centers = sums_of_features / sizes[:, None]
    offsets, faces, adjacency, safe = _neighbourhood(ndim)
    distances = np.sqrt((offsets**2).sum(axis=1))
    # Superpixels are numbered in raster order, so neighbours are rarely half a group apart.
    in_first = labels[0] if ndim == 3 else labels[0, 0]
    group = max(GROUP, 8 * int(in_first.max() + 1))
    for level in levels:
        blocks = level.read(labels)
        flat, counts = blocks.ravel(), level.counts.ravel()
        means = level.means.reshape(counts.size, -1)
        ring = offsets @ (np.array(blocks.strides) // blocks.itemsize)
        steps = ring[distances == 1]
        lengths = boundary * level.side ** (ndim - 1) / distances
        queued, pending = np.zeros(flat.size, np.uint8), np.zeros(flat.size, np.uint8)
        seeds = level.find_boundary(blocks, steps)
        for start in (0, -group // 2, 0):  # the second time groups lie across the first ones
            fixed = (flat, counts, means, seeds, steps, ring, lengths, faces, adjacency, safe)
            changing = (sizes, sums_of_features, centers)

            def move(low, fixed=fixed, changing=changing, marks=(queued, pending)):
                _move(*fixed, *changing, low, low + group, min_size, max_iter, *marks)

            map_items(move, range(start, len(sizes), group))
            seeds = np.flatnonzero(pending)
            if len(seeds) == 0:
                break
            pending[:] = 0
        level.write(blocks, labels)
    sums[:, 0], sums[:, 1:] = sizes, sums_of_features


@njit(nogil=True, cache=True)
def _number(labels, n_segments):
    """Number labels (n_pixels,) in the order of their first pixels, in place."""
    number = np.full(n_segments, -1, np.int32)
    n = 0
    for i in range(labels.shape[0]):
        if labels[i] >= 0:
            if number[labels[i]] < 0:
                number[labels[i]] = n
                n += 1
            labels[i] = number[labels[i]]


# --- surface -----------------------------------------------------------------------------


def _check_parameters(
    caller,
    n_segments,
    compactness,
    boundary,
    start_factor,
    max_iter,
    sigma,
    color_space,
    min_size_factor,
    data_range,
):
    check_int(caller, "n_segments", n_segments, low=1)
    check_real(caller, "compactness", compactness, low=0, high=1e6)
    check_real(caller, "boundary", boundary, low=0, high=1e6)
    check_real(caller, "start_factor", start_factor, low=1, high=100)
    check_int(caller, "max_iter", max_iter, low=1)
    check_real(caller, "sigma", sigma, low=0, high=1000)
    check_choice(caller, "color_space", color_space, ("lab", "rgb"))
    check_real(caller, "min_size_factor", min_size_factor, low=0, high=1)
    if data_range is not None:
        check_real(caller, "data_range", data_range, above=0)


def _features(image, mask, sigma, color_space, data_range, caller):
    """Smoothed, in Lab or in units where white is 100; (H, W, C) float32."""
    data_range = find_data_range(image, mask, data_range, caller)
    if mask is not None:
        image = np.where(mask[..., None], image, 0)
    is_lab = color_space == "lab" and image.shape[-1] == 3
    if sigma > 0 or not is_lab:
        image = gaussian(rescale(image, data_range, WHITE), sigma, mask)
        data_range = WHITE
    return rgb_to_lab(image, data_range) if is_lab else image


def _segment(
    image,
    mask,
    caller,
    *,
    n_segments,
    compactness,
    boundary,
    start_factor,
    max_iter,
    sigma,
    color_space,
    min_size_factor,
    data_range,
):
    """Segment a checked image; see `etps`."""
    shape = image.shape[:-1]
    volume = (1,) * (3 - len(shape)) + shape
    features = _features(image, mask, sigma, color_space, data_range, caller)
    features = np.ascontiguousarray(features).reshape(*volume, -1)
    if mask is not None:
        mask = None if mask.all() else mask.reshape(volume)
    n_pixels = prod(volume) if mask is None else np.count_nonzero(mask)
    n_segments = min(n_segments, n_pixels)
    min_size = max(1, int(min_size_factor * n_pixels / n_segments))
    n_cells = min(ceil(start_factor * n_segments), n_pixels)
    labels, side = _first_labels(features, mask, n_cells, min_size)
    ndim = len(shape)
    weight = compactness / _spacing(volume, prod(volume) * (n_segments / n_pixels))
    levels = [make_level(features, weight, 1 << i, ndim) for i in range(side.bit_length())][::-1]
    sums = add_up(labels, features, np.float32(weight), ndim)
    options = (boundary, min_size, max_iter, ndim)
    if len(sums) > n_segments:
        _refine(labels, levels[:2], sums, *options)
        scaled = sums.copy()
        scaled[:, -ndim:] *= JOIN_COMPACTNESS
        labels, number = join_similar(labels, scaled, n_segments)
        joined = np.zeros((number.max() + 1, sums.shape[1]))
        np.add.at(joined, number, sums)
        sums, levels = joined, levels[1:] or levels
    _refine(labels, levels, sums, *options)
    _number(labels.reshape(-1), len(sums))
    return labels.reshape(shape)


def etps(
    image: ArrayLike,
    n_segments: int = 250,
    *,
    compactness: float = 0.5,
    boundary: float = 0.25,
    start_factor: float = 2.0,
    max_iter: int = 10,
    sigma: float = 0.0,
    color_space: str = "lab",
    min_size_factor: float = 0.05,
    data_range: float | None = None,
    mask: ArrayLike | None = None,
    channel_axis: int | str | None = "auto",
) -> NDArray[np.int32]:
    """Cut an image into connected superpixels that follow its edges closely.

    Parameters
    ----------
    image : (H, W), (H, W, C) or volume, array_like
    n_segments : int, default=250
        How many to make. Just as many come out, unless a mask has more pieces.
    compactness : float, default=0.5
        Distance of colours that counts as much as the distance of two superpixels: larger
        values give rounder segments. In units of Lab, or where white is 100.
    boundary : float, default=0.25
        Price of a boundary along one side of a pixel, in squared units of Lab: larger values
        give smoother outlines.
    start_factor : float, default=2.0
        How many cells to begin with for each segment. The most similar are joined on the way,
        so that segments gather where the image has most to tell apart. The paper has 1.
    max_iter : int, default=10
        On each level, stop after looking this many times at as many blocks as lie along
        boundaries. Most images need less.
    sigma : float, default=0.0
        Standard deviation in pixels of a Gaussian that smooths the image first.
    color_space : {"lab", "rgb"}, default="lab"
        "lab" converts images of three channels to CIE Lab; all others, and "rgb", are used
        as they are, in units where white is 100.
    min_size_factor : float, default=0.05
        No segment shrinks below this part of the mean size.
    data_range : float, optional
        Value of white in `image`; found by `segalgos.color.data_range_of` if None.
    mask : array_like of bool, optional
        True where pixels are to be segmented; all others get -1 and have no influence.
    channel_axis : int, None or "auto", default="auto"
        Which axis holds the channels; None for a grey image or volume.

    Returns
    -------
    (H, W) or (D, H, W) int32
        Ids 0..n-1 in raster order. Each is one piece, connected over the sides of pixels
        (4 neighbours, in volumes 6).

    Notes
    -----
    The image is cut into even cells. Then blocks of up to half a cell's side move to a
    neighbouring superpixel where that lowers an energy: the squared distance of all pixels to
    the mean colour and position of their superpixel, and the length of boundaries, those to
    diagonal neighbours included. A block moves only if what it leaves stays connected around
    it, which its 8 (in volumes 26) neighbours tell [1]_. When no block is left to move, they
    are halved, down to pixels. Blocks wait in a queue, in raster order at first, and a moved
    one puts its neighbours behind it.

    The defaults favour outlines that miss no edge; ``compactness=5, boundary=20`` gives smooth
    and still accurate segments.

    Two things go beyond the paper. A block's gain is exact: it counts that both means change
    with it, so that the energy falls with every move. And there are more cells at first; after
    two sizes of blocks the pairs whose union costs least energy are joined (Ward's method,
    with three times the compactness), and the blocks start again from the second size.

    O(n_pixels * C) time for each size, of which there are log2 of a cell's side. Nothing is
    random. Superpixels move in groups of a thousand on threads, then in groups that lie across
    these, so that the result is the same for any number of threads.

    References
    ----------
    .. [1] J. Yao, M. Boben, S. Fidler and R. Urtasun, "Real-time coarse-to-fine topologically
       preserving segmentation", CVPR, 2947-2955, 2015.

    Examples
    --------
    >>> import numpy as np
    >>> from segalgos import etps
    >>> image = np.zeros((4, 6))
    >>> image[1:3, 2:5] = 1
    >>> etps(image, n_segments=2)
    array([[0, 0, 0, 0, 0, 0],
           [0, 0, 1, 1, 1, 0],
           [0, 0, 1, 1, 1, 0],
           [0, 0, 0, 0, 0, 0]], dtype=int32)
    """
    caller = "etps"
    options = {
        "n_segments": n_segments,
        "compactness": compactness,
        "boundary": boundary,
        "start_factor": start_factor,
        "max_iter": max_iter,
        "sigma": sigma,
        "color_space": color_space,
        "min_size_factor": min_size_factor,
        "data_range": data_range,
    }
    _check_parameters(caller, **options)
    image = check_image(image, caller, channel_axis=channel_axis, ndims=(2, 3), keep_uint8=True)
    if mask is not None:
        mask = check_mask(mask, image.shape[:-1], caller)
    return _segment(image, mask, caller, **options)


class ETPSSegmenter(Segmenter):
    """ETPS superpixels: connected segments that follow edges closely [1]_.

    Parameters
    ----------
    n_segments : int, default=250
        How many to make.
    compactness : float, default=0.5
        Distance of colours that counts as much as the distance of two superpixels: larger
        values give rounder segments. In units of Lab, or where white is 100.
    boundary : float, default=0.25
        Price of a boundary along one side of a pixel, in squared units of Lab: larger values
        give smoother outlines.
    start_factor : float, default=2.0
        How many cells to begin with for each segment. The most similar are joined on the way,
        so that segments gather where the image has most to tell apart. The paper has 1.
    max_iter : int, default=10
        On each level, stop after looking this many times at as many blocks as lie along
        boundaries.
    sigma : float, default=0.0
        Standard deviation in pixels of a Gaussian that smooths the image first.
    color_space : {"lab", "rgb"}, default="lab"
        "lab" converts images of three channels to CIE Lab; all others, and "rgb", are used
        as they are, in units where white is 100.
    min_size_factor : float, default=0.05
        No segment shrinks below this part of the mean size.
    data_range : float, optional
        Value of white in the images; found for each by `segalgos.color.data_range_of` if
        None.
    channel_axis : int, None or "auto", default="auto"
        Which axis holds the channels; None for a grey image or volume.

    See Also
    --------
    segalgos.etps : The same as a function, with the details.

    References
    ----------
    .. [1] J. Yao, M. Boben, S. Fidler and R. Urtasun, "Real-time coarse-to-fine topologically
       preserving segmentation", CVPR, 2947-2955, 2015.
    """

    traits = Traits(
        task="partition", family="clustering", year=2015, ndims=(2, 3), keeps_uint8=True
    )

    def __init__(
        self,
        n_segments: int = 250,
        *,
        compactness: float = 0.5,
        boundary: float = 0.25,
        start_factor: float = 2.0,
        max_iter: int = 10,
        sigma: float = 0.0,
        color_space: str = "lab",
        min_size_factor: float = 0.05,
        data_range: float | None = None,
        channel_axis: int | str | None = "auto",
    ):
        self.n_segments = n_segments
        self.compactness = compactness
        self.boundary = boundary
        self.start_factor = start_factor
        self.max_iter = max_iter
        self.sigma = sigma
        self.color_space = color_space
        self.min_size_factor = min_size_factor
        self.data_range = data_range
        self.channel_axis = channel_axis

    @classmethod
    def small(cls) -> ETPSSegmenter:
        """Make an instance with few segments.

        Returns
        -------
        ETPSSegmenter
        """
        return cls(n_segments=16)

    def _options(self):
        return {k: v for k, v in self.get_params().items() if k != "channel_axis"}

    def _check_params(self):
        _check_parameters(self._caller, **self._options())

    def _predict(self, image, mask, prompts):
        return _segment(image, mask, self._caller, **self._options())
