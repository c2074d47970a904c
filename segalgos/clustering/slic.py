"""SLIC superpixels, with a given or an adaptive compactness (SLICO)."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import numpy as np
from numba import njit
from numpy.typing import ArrayLike, NDArray

from segalgos.base import Segmenter, Traits
from segalgos.checks import (
    check_bool,
    check_choice,
    check_image,
    check_int,
    check_mask,
    check_real,
)
from segalgos.clustering._connect import connect
from segalgos.clustering._seeds import settle, spacing_of, spread
from segalgos.color import find_data_range, rescale, rgb_to_lab
from segalgos.parallel import map_strips
from segalgos.smoothing import gaussian

__all__ = ["SLICSegmenter", "slic"]

WHITE = 100.0  # of channels that are not Lab, so that compactness means the same for them
BLOCK = 16  # pixels whose distances are computed together
CELL_BLOCKS = 9.5  # of pixels along a cell: fewer blur the centres
SMALLEST_RANGE = 1.0  # of colours in a segment, where it takes the place of compactness


# --- kernels -----------------------------------------------------------------------------


@njit(nogil=True, cache=True)
def _window(position, reach, size):
    return max(int(np.ceil(position - reach)), 0), min(int(position + reach) + 1, size)


@njit(nogil=True, cache=True)
def _windows(positions, reach, shape, first, last):
    """Find the centres whose windows meet a range of rows.

    Returns
    -------
    (n, 7) intp
        Index of the centre, and its window's first and last + 1 slice, row and column.
    """
    depth, height, width = shape
    windows = np.empty((positions.shape[0], 7), np.intp)
    n = 0
    for k in range(positions.shape[0]):
        z0, z1 = _window(positions[k, 0], reach, depth)
        y0, y1 = _window(positions[k, 1], reach, height)
        if z0 * height + y0 < last and (z1 - 1) * height + y1 > first:
            x0, x1 = _window(positions[k, 2], reach, width)
            windows[n, 0], windows[n, 1], windows[n, 2], windows[n, 3] = k, z0, z1, y0
            windows[n, 4], windows[n, 5], windows[n, 6] = y1, x0, x1
            n += 1
    return windows[:n].copy()


@njit(nogil=True, cache=True)
def _assign(
    features, mask, positions, colors, tightness, reach, weight, labels, every, first, last
):
    """Give the pixels of some rows the nearest centre whose window holds them.

    Parameters
    ----------
    features : (C, D, H, W) float32
    mask : (D, H, W) uint8, 1 inside
    positions : (n_centers, 3) float64
    colors : (n_centers, C) float32
    tightness : (n_centers,) float32
        Of squared distance in colour to a centre.
    reach : float
        Half the side of a centre's window.
    weight : float32
        Of squared distance in space.
    labels : (D, H, W) int32, overwritten
        -1 outside the mask, ``n_centers`` where no window reaches.
    every : int
        Step from row to row, for a sample of the rows.
    first, last : int
        Range of rows, counted over all slices.

    Returns
    -------
    lowest, highest : int
        Range (half-open) of the centres that may have got pixels.

    Notes
    -----
    O(n_pixels * C) time, as each pixel lies in about four (in volumes eight) windows. Ties
    go to the lower index. A row is worked on in blocks of `BLOCK` pixels: loops of fixed
    length become vectors without a rest.
    """
    n_channels, depth, height, width = features.shape
    n_centers = positions.shape[0]
    windows = _windows(positions, reach, (depth, height, width), first, last)
    n_blocks = (width + BLOCK - 1) // BLOCK
    padded = np.zeros((n_channels, n_blocks * BLOCK), np.float32)
    padded_nearest = np.full(n_blocks * BLOCK, -1, np.float32)
    padded_label = np.full(n_blocks * BLOCK, -1, np.int32)
    blocks = padded.reshape(n_channels, n_blocks, BLOCK)
    nearest, label = padded_nearest.reshape(-1, BLOCK), padded_label.reshape(-1, BLOCK)
    distance = np.empty(BLOCK, np.float32)
    for row in range(first, last, every):
        z, y = row // height, row % height
        for c in range(n_channels):
            source, target = features[c, z, y], padded[c]
            for x in range(width):
                target[x] = source[x]
        inside = mask[z, y]
        for x in range(width):
            padded_nearest[x] = np.inf if inside[x] else -1
            padded_label[x] = n_centers if inside[x] else -1
        for j in range(windows.shape[0]):
            k, z0, z1, y0, y1, x0, x1 = windows[j]
            if not (z0 <= z < z1 and y0 <= y < y1):
                continue
            across = weight * np.float32((z - positions[k, 0]) ** 2 + (y - positions[k, 1]) ** 2)
            scale, index = tightness[k], np.int32(k)
            for b in range(x0 // BLOCK, (x1 + BLOCK - 1) // BLOCK):
                offset = np.float32(b * BLOCK - positions[k, 2])
                begin, end = np.int32(x0 - b * BLOCK), np.int32(x1 - b * BLOCK)
                if n_channels == 3:  # as below, but the distance stays in registers
                    plane0, plane1, plane2 = blocks[0, b], blocks[1, b], blocks[2, b]
                    color0, color1, color2 = colors[k, 0], colors[k, 1], colors[k, 2]
                    for i in range(BLOCK):
                        d = (plane0[i] - color0) ** 2 + (plane1[i] - color1) ** 2
                        distance[i] = d + (plane2[i] - color2) ** 2
                else:
                    distance[:] = 0
                    for c in range(n_channels):
                        plane, color = blocks[c, b], colors[k, c]
                        for i in range(BLOCK):
                            distance[i] += (plane[i] - color) ** 2
                near, best = nearest[b], label[b]
                for i in range(BLOCK):
                    i32 = np.int32(i)
                    along = np.float32(i32) + offset
                    d = distance[i] * scale + (across + weight * (along * along))
                    closer = (d < near[i]) & (i32 >= begin) & (i32 < end)
                    near[i] = d if closer else near[i]
                    best[i] = index if closer else best[i]
        labels[z, y] = padded_label[:width]
    if windows.shape[0] == 0:
        return 0, 0
    return windows[0, 0], windows[-1, 0] + 1


@njit(nogil=True, cache=True)
def _accumulate(features, labels, colors, lowest, adaptive, sums, largest, every, first, last):
    """Add up the pixels of each centre in some rows.

    Parameters
    ----------
    features : (C, D, H, W) float32
    labels : (D, H, W) int32
    colors : (n_centers, C) float32
    lowest : int
        Smallest label to count, at index 0 of the sums.
    adaptive : bool
        Whether to look for the largest distance.
    sums : (n, 4 + C) float64
        Of ones, slices, rows, columns and features; added to.
    largest : (n,) float32
        Squared distance of colour from a centre to its pixels; raised.
    every, first, last : int
        Rows, as in `_assign`.
    """
    n_channels, _, height, width = features.shape
    for row in range(first, last, every):
        z, y = row // height, row % height
        line = labels[z, y]
        end = 0
        while end < width:
            begin, label = end, line[end]
            while end < width and line[end] == label:
                end += 1
            if label < 0 or label == colors.shape[0]:
                continue
            n, total = end - begin, sums[label - lowest]
            total[0] += n
            total[1] += n * z
            total[2] += n * y
            total[3] += n * (begin + end - 1) * 0.5
            for c in range(n_channels):
                plane, of_run = features[c, z, y], 0.0
                for x in range(begin, end):
                    of_run += plane[x]
                total[4 + c] += of_run
            if adaptive:
                for x in range(begin, end):
                    distance = np.float32(0)
                    for c in range(n_channels):
                        distance += (features[c, z, y, x] - colors[label, c]) ** 2
                    largest[label - lowest] = max(largest[label - lowest], distance)


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


# --- rounds ------------------------------------------------------------------------------


def _strip(shape):
    """Rows a strip, at most some dozen strips: each looks at all centres."""
    return max(1, 16384 // shape[2], shape[0] * shape[1] // 64)


@dataclass
class _Level:
    """The image in its full size, or in averages of blocks."""

    features: NDArray[np.float32]  # (C, d, h, w)
    mask: NDArray[np.uint8]  # (d, h, w)
    sides: NDArray[np.intp]  # (3,) of a pixel of this level, in pixels of the image

    def averaged(self, side):
        """Average blocks of so many pixels along each axis longer than one."""
        sides = np.where(np.array(self.mask.shape) > 1, side, 1)
        shape = tuple(-(-np.array(self.mask.shape) // sides))
        features = np.empty((len(self.features), *shape), np.float32)
        mask = np.empty(shape, np.uint8)
        work = partial(_average, self.features, self.mask, sides, features, mask)
        map_strips(work, shape[0] * shape[1], _strip(shape))
        return _Level(features, mask, sides)


@dataclass
class _Centers:
    """Centres of segments, and how distances to them are measured.

    D² = (distance in colour)² / `squared_range` + `weight` * (distance in space)²
    """

    positions: NDArray[np.float64]  # (n_centers, 3), in pixels of the image
    colors: NDArray[np.float32]  # (n_centers, C)
    squared_range: NDArray[np.float32]  # (n_centers,)
    weight: float
    reach: float  # half the side of a window
    adaptive: bool
    n_moves: int = 0

    def settle(self, level, n_rounds, every=1):
        """Move the centres until they stay, and return the labels of the last round."""
        labels = np.empty(level.mask.shape, np.int32)
        for _ in range(n_rounds):
            if not self.assign(level, labels, every, move=True):
                break
        return labels

    def assign(self, level, labels, every=1, *, move):
        """Give each pixel of a level its centre; then move the centres if asked.

        Parameters
        ----------
        level : _Level
        labels : (d, h, w) int32, overwritten
        every : int, default=1
            Look at a sample of the rows, and leave the labels of the others.
        move : bool

        Returns
        -------
        bool
            Whether the centres changed.
        """
        n_centers, n_sums = len(self.colors), 4 + len(level.features)
        positions = (self.positions - (level.sides - 1) / 2) / level.sides
        side = level.sides.max()
        reach, weight = self.reach / side, np.float32(self.weight * side**2)
        tightness = 1 / self.squared_range

        def work(first, last):
            args = (level.features, level.mask, positions, self.colors, tightness)
            lowest, highest = _assign(*args, reach, weight, labels, every, first, last)
            if not move:
                return None
            sums = np.zeros((highest - lowest, n_sums))
            farthest = np.zeros(highest - lowest, np.float32)
            args = (level.features, labels, self.colors, lowest, self.adaptive)
            _accumulate(*args, sums, farthest, every, first, last)
            return slice(lowest, highest), sums, farthest

        n_rows = level.mask.shape[0] * level.mask.shape[1]
        parts = map_strips(work, n_rows, _strip(level.mask.shape))
        if not move:
            return False
        sums, farthest = np.zeros((n_centers, n_sums)), np.zeros(n_centers, np.float32)
        for part, sums_of_strip, farthest_of_strip in parts:
            sums[part] += sums_of_strip
            farthest[part] = np.maximum(farthest[part], farthest_of_strip)
        return self._move(sums, farthest, level.sides)

    def _move(self, sums, farthest, sides):
        before = self.positions, self.colors, self.squared_range
        counts = sums[:, :1]  # a centre without pixels stays
        means = sums / np.maximum(counts, 1)
        positions = means[:, 1:4] * sides + (sides - 1) / 2
        self.positions = np.where(counts > 0, positions, self.positions)
        self.colors = np.where(counts > 0, means[:, 4:].astype(np.float32), self.colors)
        if self.adaptive:
            # The largest so far, as the authors have it; the given one was a first guess.
            least = self.squared_range if self.n_moves else np.float32(SMALLEST_RANGE**2)
            self.squared_range = np.maximum(farthest, least)
        self.n_moves += 1
        after = self.positions, self.colors, self.squared_range
        return not all(map(np.array_equal, before, after))


def _cluster(features, mask, seeds, spacing, compactness, adaptive, max_iter, side):
    """Cluster pixels around seeds, each within a window of twice the spacing.

    Parameters
    ----------
    features : (C, D, H, W) float32
    mask : (D, H, W) bool
    seeds : (n_seeds, 3) intp
    spacing, compactness : float
    adaptive : bool
        Measure the range of colours in each segment instead of taking `compactness`.
    max_iter : int
        Rounds.
    side : int
        Of blocks. With more than one pixel, averages of blocks show the centres their
        places at a fraction of the cost; the last but one round looks at a sample of the
        rows, and only the last at all pixels.

    Returns
    -------
    (D, H, W) int32
        Index of a seed; ``n_seeds`` where no window reaches, -1 outside the mask.
    """
    # Without adaptive ranges the compactness moves to the other side: it may be 0.
    squared_range = max(compactness, SMALLEST_RANGE) ** 2 if adaptive else 1
    centers = _Centers(
        positions=seeds.astype(np.float64),
        colors=features[(slice(None), *seeds.T)].T.copy(),
        squared_range=np.full(len(seeds), squared_range, np.float32),
        weight=((1 if adaptive else compactness) / spacing) ** 2,
        reach=spacing,
        adaptive=adaptive,
    )
    image = _Level(features, mask.view(np.uint8), np.ones(3, int))
    n_rounds = max_iter - 1  # that move the centres
    if side > 1 and n_rounds > 0:
        blocks = image.averaged(side)
        centers.settle(blocks, n_rounds - 1)
        n_rounds = 1
    labels = centers.settle(image, n_rounds, every=side)
    centers.assign(image, labels, move=False)
    return labels


# --- surface -----------------------------------------------------------------------------


def _check_parameters(
    caller,
    n_segments,
    compactness,
    adaptive_compactness,
    max_iter,
    sigma,
    color_space,
    min_size_factor,
    data_range,
):
    check_int(caller, "n_segments", n_segments, low=1)
    check_real(caller, "compactness", compactness, low=0, high=1e6)
    check_bool(caller, "adaptive_compactness", adaptive_compactness)
    check_int(caller, "max_iter", max_iter, low=1)
    check_real(caller, "sigma", sigma, low=0, high=1000)
    check_choice(caller, "color_space", color_space, ("lab", "rgb"))
    check_real(caller, "min_size_factor", min_size_factor, low=0, high=1)
    if data_range is not None:
        check_real(caller, "data_range", data_range, above=0)


def _features(image, mask, sigma, color_space, data_range, caller):
    """Channels first (C, H, W), smoothed, in Lab or in units where white is 100."""
    data_range = find_data_range(image, mask, data_range, caller)
    if mask is not None:
        image = np.where(mask[..., None], image, 0)
    is_lab = color_space == "lab" and image.shape[-1] == 3
    if sigma > 0 or not is_lab:
        image = gaussian(rescale(image, data_range, WHITE), sigma, mask)
        data_range = WHITE
    if is_lab:
        return rgb_to_lab(image, data_range, channels_first=True)
    return np.ascontiguousarray(np.moveaxis(image, -1, 0))


def _segment(
    image,
    mask,
    caller,
    *,
    n_segments,
    compactness,
    adaptive_compactness,
    max_iter,
    sigma,
    color_space,
    min_size_factor,
    data_range,
):
    """Segment a checked image; see `slic`."""
    shape = image.shape[:-1]
    features = _features(image, mask, sigma, color_space, data_range, caller)
    volume = (1,) * (3 - len(shape)) + shape
    features = features.reshape(len(features), *volume)
    inside = np.ones(volume, bool) if mask is None else mask.reshape(volume)
    n_pixels = np.count_nonzero(inside)
    n_segments = min(n_segments, n_pixels)

    spacing = spacing_of(inside, n_segments)
    seeds = spread(inside, n_segments, spacing)
    if spacing >= 3:  # nearer ones could fall together
        settle(features, inside, seeds)
    seeds = np.unique(seeds, axis=0)
    args = (features, inside, seeds, spacing, compactness, adaptive_compactness, max_iter)
    labels = _cluster(*args, side=max(1, int(spacing / CELL_BLOCKS)))
    min_size = max(1, int(min_size_factor * n_pixels / n_segments))
    connect(labels, features, n_segments, min_size)
    return labels.reshape(shape)


def slic(
    image: ArrayLike,
    n_segments: int = 250,
    *,
    compactness: float = 10.0,
    adaptive_compactness: bool = False,
    max_iter: int = 10,
    sigma: float = 0.0,
    color_space: str = "lab",
    min_size_factor: float = 0.1,
    data_range: float | None = None,
    mask: ArrayLike | None = None,
    channel_axis: int | str | None = "auto",
) -> NDArray[np.int32]:
    """Cut an image into compact, connected superpixels of about equal size.

    Parameters
    ----------
    image : (H, W), (H, W, C) or volume, array_like
    n_segments : int, default=250
        How many to make. Fewer come out where seeds lose all their pixels, more where the
        mask has more pieces.
    compactness : float, default=10.0
        Distance of colours that counts as much as the distance of two seeds: larger values
        give squarer segments. In units of Lab, or where white is 100.
    adaptive_compactness : bool, default=False
        SLICO: each segment's colours count relative to the largest distance from its mean
        in the round before; `compactness` is only the guess for the first round.
    max_iter : int, default=10
    sigma : float, default=0.0
        Standard deviation in pixels of a Gaussian that smooths the image first.
    color_space : {"lab", "rgb"}, default="lab"
        "lab" converts images of three channels to CIE Lab; all others, and "rgb", are used
        as they are, in units where white is 100.
    min_size_factor : float, default=0.1
        Pieces smaller than this part of the mean size are joined to a neighbour, unless the
        mask isolates them.
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
    Seeds lie on a grid of equal areas of the mask, each moved to the lowest gradient of its
    3 x 3 neighbourhood. After `max_iter` rounds of k-means, in which a centre sees only a
    window of twice the grid's spacing, the smallest connected pieces are joined one by one
    to the neighbour of most similar mean colour, until `n_segments` are left and none is too
    small. Ties go to the lower index and nothing is random. O(n_pixels * C * max_iter) time.

    References
    ----------
    .. [1] R. Achanta, A. Shaji, K. Smith, A. Lucchi, P. Fua and S. Süsstrunk, "SLIC
       superpixels compared to state-of-the-art superpixel methods", IEEE Trans. Pattern
       Anal. Mach. Intell. 34(11), 2274-2282, 2012.

    Examples
    --------
    >>> import numpy as np
    >>> from segalgos import slic
    >>> slic(np.zeros((4, 4)), n_segments=4)
    array([[0, 0, 1, 1],
           [0, 0, 1, 1],
           [2, 2, 3, 3],
           [2, 2, 3, 3]], dtype=int32)
    """
    caller = "slic"
    options = {
        "n_segments": n_segments,
        "compactness": compactness,
        "adaptive_compactness": adaptive_compactness,
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


class SLICSegmenter(Segmenter):
    """SLIC superpixels: compact, connected segments of about equal size [1]_.

    Parameters
    ----------
    n_segments : int, default=250
        How many to make.
    compactness : float, default=10.0
        Distance of colours that counts as much as the distance of two seeds: larger values
        give squarer segments. In units of Lab, or where white is 100.
    adaptive_compactness : bool, default=False
        SLICO: each segment's colours count relative to the largest distance from its mean
        in the round before; `compactness` is only the guess for the first round.
    max_iter : int, default=10
        Rounds of k-means.
    sigma : float, default=0.0
        Standard deviation in pixels of a Gaussian that smooths the image first.
    color_space : {"lab", "rgb"}, default="lab"
        "lab" converts images of three channels to CIE Lab; all others, and "rgb", are used
        as they are, in units where white is 100.
    min_size_factor : float, default=0.1
        Pieces smaller than this part of the mean size are joined to a neighbour, unless the
        mask isolates them.
    data_range : float, optional
        Value of white in the images; found for each by `segalgos.color.data_range_of` if
        None.
    channel_axis : int, None or "auto", default="auto"
        Which axis holds the channels; None for a grey image or volume.

    See Also
    --------
    segalgos.slic : The same as a function, with the details.

    References
    ----------
    .. [1] R. Achanta, A. Shaji, K. Smith, A. Lucchi, P. Fua and S. Süsstrunk, "SLIC
       superpixels compared to state-of-the-art superpixel methods", IEEE Trans. Pattern
       Anal. Mach. Intell. 34(11), 2274-2282, 2012.
    """

    traits = Traits(
        task="partition", family="clustering", year=2012, ndims=(2, 3), keeps_uint8=True
    )

    def __init__(
        self,
        n_segments: int = 250,
        *,
        compactness: float = 10.0,
        adaptive_compactness: bool = False,
        max_iter: int = 10,
        sigma: float = 0.0,
        color_space: str = "lab",
        min_size_factor: float = 0.1,
        data_range: float | None = None,
        channel_axis: int | str | None = "auto",
    ):
        self.n_segments = n_segments
        self.compactness = compactness
        self.adaptive_compactness = adaptive_compactness
        self.max_iter = max_iter
        self.sigma = sigma
        self.color_space = color_space
        self.min_size_factor = min_size_factor
        self.data_range = data_range
        self.channel_axis = channel_axis

    @classmethod
    def small(cls) -> SLICSegmenter:
        """Make an instance with few segments and rounds.

        Returns
        -------
        SLICSegmenter
        """
        return cls(n_segments=16, max_iter=3)

    def _options(self):
        return {k: v for k, v in self.get_params().items() if k != "channel_axis"}

    def _check_params(self):
        _check_parameters(self._caller, **self._options())

    def _predict(self, image, mask, prompts):
        return _segment(image, mask, self._caller, **self._options())
