"""The watershed transform: basins of a relief, flooded from markers or minima."""

from __future__ import annotations

from functools import partial

import numpy as np
from numba import njit
from numpy.typing import ArrayLike, NDArray
from scipy import ndimage

from segalgos.base import Segmenter, Traits
from segalgos.checks import (
    check_choice,
    check_image,
    check_int,
    check_label_map,
    check_mask,
    check_real,
)
from segalgos.color import find_data_range, rescale
from segalgos.graph.basins import find_basins, flood, seed_deep_basins
from segalgos.parallel import map_strips
from segalgos.smoothing import gaussian

__all__ = ["WatershedSegmenter", "watershed"]

WHITE = 255.0  # gradients and depths of photographs are in these units
RELIEFS = ("gradient", "image")


@njit(nogil=True, cache=True)
def _slopes(image, mask, relief, first, last):
    """Measure how steep the image is, by central differences.

    Parameters
    ----------
    image : (D, H, W, C) float32
    mask : (D, H, W) bool
    relief : (D, H, W) float32, overwritten in part
        Length of the vector of all channels' slopes along all axes, per pixel.
    first, last : int
        Range of rows, counted over all slices.

    Notes
    -----
    A neighbour outside the image or the mask is as if it were the pixel itself.
    """
    depth, height, width, n_channels = image.shape
    squared = np.empty(width, np.float32)
    for row in range(first, last):
        z, y = row // height, row % height
        squared[:] = 0
        for dz, dy, dx in ((1, 0, 0), (0, 1, 0), (0, 0, 1)):
            z1, z2 = max(z - dz, 0), min(z + dz, depth - 1)
            y1, y2 = max(y - dy, 0), min(y + dy, height - 1)
            for x in range(width):
                x1, x2 = max(x - dx, 0), min(x + dx, width - 1)
                before = image[z1, y1, x1] if mask[z1, y1, x1] else image[z, y, x]
                after = image[z2, y2, x2] if mask[z2, y2, x2] else image[z, y, x]
                for c in range(n_channels):
                    slope = (after[c] - before[c]) * np.float32(0.5)
                    squared[x] += slope * slope
        for x in range(width):
            relief[z, y, x] = np.sqrt(squared[x])


# --- compact watershed -------------------------------------------------------------------


@njit(nogil=True, cache=True)
def _is_before(costs, pixels, sources, a, b):
    if costs[a] != costs[b]:
        return costs[a] < costs[b]
    if pixels[a] != pixels[b]:
        return pixels[a] < pixels[b]
    return sources[a] < sources[b]


@njit(nogil=True, cache=True)
def _swap(costs, pixels, sources, a, b):
    costs[a], costs[b] = costs[b], costs[a]
    pixels[a], pixels[b] = pixels[b], pixels[a]
    sources[a], sources[b] = sources[b], sources[a]


@njit(nogil=True, cache=True)
def _rise(costs, pixels, sources, k):
    """Move the last entry of a binary heap to its place."""
    while k > 0 and _is_before(costs, pixels, sources, k, (k - 1) // 2):
        _swap(costs, pixels, sources, k, (k - 1) // 2)
        k = (k - 1) // 2


@njit(nogil=True, cache=True)
def _sink(costs, pixels, sources, n):
    """Move the first entry of a binary heap of `n` to its place."""
    k = 0
    while 2 * k + 1 < n:
        child = 2 * k + 1
        if child + 1 < n and _is_before(costs, pixels, sources, child + 1, child):
            child += 1
        if not _is_before(costs, pixels, sources, child, k):
            return
        _swap(costs, pixels, sources, k, child)
        k = child


@njit(nogil=True, cache=True)
def _enlarge(array):
    larger = np.empty(2 * array.shape[0], array.dtype)
    larger[: array.shape[0]] = array
    return larger


@njit(nogil=True, cache=True)
def _distance(i, j, row, plane):
    """Length of the line between two pixels of a flat array."""
    dz, dy = i // plane - j // plane, i % plane // row - j % plane // row
    dx = i % row - j % row
    return np.sqrt(np.float64(dz * dz + dy * dy + dx * dx))


@njit(nogil=True, cache=True)
def _flood_compactly(relief, labels, steps, row, plane, compactness):
    """Flood a relief in the order of height plus distance from the marker.

    Parameters
    ----------
    relief : (n,) float32 or float64
        Flat and padded with inf.
    labels : (n,) int32
        -1 where unlabelled; overwritten with the result.
    steps : (n_neighbours,) intp
    row, plane : int
        Pixels in a padded row and slice, a divisor of the former.
    compactness : float

    Notes
    -----
    O(n log n) time. The queue is in the order of cost, pixel and marker pixel, which is
    total, so the result does not depend on the order of its making.
    """
    n, capacity = 0, 1024
    costs = np.empty(capacity, np.float64)
    pixels, sources = np.empty(capacity, np.int64), np.empty(capacity, np.int64)
    cheapest = np.full(labels.shape[0], np.inf)
    waits = labels == -1
    for i in range(labels.shape[0]):
        if labels[i] >= 0:
            if n == capacity:
                costs, pixels, sources = _enlarge(costs), _enlarge(pixels), _enlarge(sources)
                capacity *= 2
            costs[n], pixels[n], sources[n] = relief[i], i, i
            _rise(costs, pixels, sources, n)
            n += 1
    while n > 0:
        i, source = pixels[0], sources[0]
        n -= 1
        _swap(costs, pixels, sources, 0, n)
        _sink(costs, pixels, sources, n)
        if i != source:
            if not waits[i]:
                continue
            waits[i] = False
            labels[i] = labels[source]
        for s in range(steps.shape[0]):
            j = i + steps[s]
            if not waits[j] or relief[j] == np.inf:
                continue
            cost = relief[j] + compactness * _distance(j, source, row, plane)
            if cost > cheapest[j]:  # an earlier entry comes first
                continue
            cheapest[j] = cost
            if n == capacity:
                costs, pixels, sources = _enlarge(costs), _enlarge(pixels), _enlarge(sources)
                capacity *= 2
            costs[n], pixels[n], sources[n] = cost, j, source
            _rise(costs, pixels, sources, n)
            n += 1


@njit(nogil=True, cache=True)
def _renumber(labels):
    """Number regions from 0 on in the order in which they begin.

    Parameters
    ----------
    labels : (n,) int32, overwritten
        -1 or ids below n.
    """
    number = np.full(labels.max() + 1, -1, np.int32)
    n_regions = 0
    for i in range(labels.shape[0]):
        if labels[i] >= 0:
            if number[labels[i]] < 0:
                number[labels[i]] = n_regions
                n_regions += 1
            labels[i] = number[labels[i]]


# --- the surface -------------------------------------------------------------------------


def _check_parameters(caller, relief, sigma, min_depth, compactness, connectivity, data_range):
    check_choice(caller, "relief", relief, RELIEFS)
    check_real(caller, "sigma", sigma, low=0, high=1000)
    check_real(caller, "min_depth", min_depth, low=0)
    check_real(caller, "compactness", compactness, low=0)
    check_int(caller, "connectivity", connectivity, low=1, high=3)
    if data_range is not None:
        check_real(caller, "data_range", data_range, above=0)


def _gradient(image, mask, sigma, data_range, caller):
    """Length of the gradient of a smoothed image, (H, W) or (D, H, W) float32."""
    data_range = find_data_range(image, mask, data_range, caller)
    if mask is not None:
        image = np.where(mask[..., None], image, 0)
    smooth = gaussian(rescale(image, data_range, WHITE), sigma, mask)
    shape = smooth.shape[:-1]
    volume = smooth.reshape((1,) * (3 - len(shape)) + smooth.shape)
    inside = np.ones(volume.shape[:-1], bool) if mask is None else mask.reshape(volume.shape[:-1])
    relief = np.empty(volume.shape[:-1], np.float32)
    n_rows, width = inside.size // inside.shape[2], inside.shape[2]
    map_strips(partial(_slopes, volume, inside, relief), n_rows, max(1, 32768 // width))
    return relief.reshape(shape)


def _single_channel(image, caller):
    if image.shape[-1] != 1:
        raise ValueError(
            f'{caller}: relief is "image", but the image has {image.shape[-1]} channels: pass one '
            'channel, or relief="gradient".'
        )
    return image[..., 0]


def _segment(relief, mask, markers, min_depth, compactness, connectivity, caller):
    """Flood a checked relief; see `watershed`."""
    shape = relief.shape
    if connectivity > len(shape):
        raise ValueError(
            f"{caller}: connectivity is {connectivity}, expected at most the number of axes, "
            f"{len(shape)}."
        )
    inner = (slice(1, -1),) * len(shape)
    ground = np.full([n + 2 for n in shape], np.inf, np.result_type(relief, np.float32))
    np.copyto(ground[inner], relief, where=True if mask is None else mask)
    labels = np.full(ground.shape, -1, np.int32)
    if markers is not None:
        np.copyto(labels[inner], markers, where=True if mask is None else mask)
        if labels.max() < 0:
            raise ValueError(
                f"{caller}: no pixel that is to be segmented has a marker: mark some with ids "
                "from 0 on, or pass none to have minima taken as markers."
            )
    neighbours = np.argwhere(ndimage.generate_binary_structure(len(shape), connectivity)) - 1
    strides = np.array(ground.strides) // ground.itemsize
    steps = np.sort(neighbours @ strides)
    steps = steps[steps != 0]

    flat = ground.ravel(), labels.ravel(), steps
    if compactness == 0:
        flood(*flat, min_depth)
    else:
        if markers is None:
            seed_deep_basins(find_basins(*flat), *flat[:2], min_depth)
        plane = strides[-3] if len(shape) == 3 else ground.size
        _flood_compactly(*flat, strides[-2], plane, float(compactness))
    labels = np.ascontiguousarray(labels[inner])
    if markers is None:
        _renumber(labels.ravel())
    return labels


def watershed(
    image: ArrayLike,
    markers: ArrayLike | None = None,
    *,
    relief: str = "gradient",
    sigma: float = 2.5,
    min_depth: float = 5.0,
    compactness: float = 0.0,
    connectivity: int = 1,
    data_range: float | None = None,
    mask: ArrayLike | None = None,
    channel_axis: int | str | None = "auto",
) -> NDArray[np.int32]:
    """Segment an image into the basins of a relief, by flooding it from markers or minima.

    Parameters
    ----------
    image : (H, W), (H, W, C) or volume, array_like
    markers : (H, W) or (D, H, W) int, array_like, optional
        Ids of at least 0 where the flood begins, -1 elsewhere. If None it begins at all
        minima that are deep enough.
    relief : {"gradient", "image"}, default="gradient"
        What is flooded: the length of the gradient of the smoothed image, or the image
        itself, of one channel, as it is.
    sigma : float, default=2.5
        Standard deviation in pixels of the Gaussian that smooths the image before its
        gradient is taken; 0 for none.
    min_depth : float, default=5.0
        A minimum is taken as marker if its basin must be filled at least so high before it
        runs over into a lower one; 0 for all minima. In units of the relief: for
        "gradient" grey levels a pixel, where white is 255. Not used with `markers`.
    compactness : float, default=0.0
        Above 0, pixels are flooded in the order of their height plus `compactness` times
        their distance from the marker in pixels [2]_: larger values give rounder regions.
    connectivity : int, default=1
        Along how many axes at once neighbours may differ: in images 1 for 4 neighbours and
        2 for 8, in volumes 1 to 3 for 6, 18 and 26.
    data_range : float, optional
        Value of white in `image`; found by `segalgos.color.data_range_of` if None. Not used
        with ``relief="image"``.
    mask : array_like of bool, optional
        True where pixels are to be segmented; all others get -1 and have no influence.
    channel_axis : int, None or "auto", default="auto"
        Which axis holds the channels; None for a grey image or volume.

    Returns
    -------
    (H, W) or (D, H, W) int32
        The markers' ids, and -1 where the mask cuts a pixel off from all of them. Without
        markers, ids 0..n-1 in the order in which regions begin, row by row.

    Raises
    ------
    ValueError
        If an argument is not as expected, or the mask hides all markers.

    Notes
    -----
    A pixel's level is the lowest height over which it can be reached from a marker. It
    belongs to the region of its neighbour of lowest level. Where no neighbour is lower, in
    a lake, it belongs to the region of the nearest pixel of that level that has a lower
    neighbour or a marker, in steps within the lake. Ties go to the neighbour that comes
    first row by row. So the result is unique; without ties it is that of flooding pixel by
    pixel from a queue [1]_. O(n_pixels) time in practice, about 20 bytes a pixel.

    With `compactness` the flood does run pixel by pixel, O(n_pixels log n_pixels), ties in
    cost going to the pixel, then the marker pixel, that comes first.

    Integers and floats of more than 32 bits keep 64 as ``relief="image"``.

    References
    ----------
    .. [1] F. Meyer, "Un algorithme optimal pour la ligne de partage des eaux", Congrès
       Reconnaissance des Formes et Intelligence Artificielle, 847-857, 1991.
    .. [2] P. Neubert and P. Protzel, "Compact watershed and preemptive SLIC", International
       Conference on Pattern Recognition, 996-1001, 2014.

    Examples
    --------
    >>> import numpy as np
    >>> from segalgos import watershed
    >>> relief = np.array([[1, 3, 5, 2, 0]])
    >>> watershed(relief, relief="image", min_depth=2)
    array([[0, 0, 1, 1, 1]], dtype=int32)
    >>> watershed(relief, [[7, -1, -1, -1, -1]], relief="image")
    array([[7, 7, 7, 7, 7]], dtype=int32)
    """
    caller = "watershed"
    _check_parameters(caller, relief, sigma, min_depth, compactness, connectivity, data_range)
    clean = check_image(image, caller, channel_axis=channel_axis, ndims=(2, 3), keep_uint8=True)
    shape = clean.shape[:-1]
    if mask is not None:
        mask = check_mask(mask, shape, caller)
    if markers is not None:
        markers = check_label_map(markers, shape, caller, "markers")
    if relief == "gradient":
        ground = _gradient(clean, mask, sigma, data_range, caller)
    else:
        ground = _single_channel(clean, caller)
        values = np.asarray(image)
        if not np.can_cast(values.dtype, np.float32):
            ground = values.astype(np.float64).reshape(shape)
    return _segment(ground, mask, markers, min_depth, compactness, connectivity, caller)


class WatershedSegmenter(Segmenter):
    """Watershed of the gradient [1]_, or of an image that is a relief already.

    Parameters
    ----------
    relief : {"gradient", "image"}, default="gradient"
        What is flooded: the length of the gradient of the smoothed image, or the image
        itself, of one channel, as it is.
    sigma : float, default=2.5
        Standard deviation in pixels of the Gaussian that smooths the image before its
        gradient is taken; 0 for none.
    min_depth : float, default=5.0
        Without prompts, the flood begins at all minima whose basins must be filled at least
        so high before they run over into a lower one. In units of the relief: for
        "gradient" grey levels a pixel, where white is 255.
    compactness : float, default=0.0
        Weight of a pixel's distance from its seed against its height, as in [2]_; larger
        values give rounder regions.
    connectivity : int, default=1
        Along how many axes at once neighbours may differ.
    data_range : float, optional
        Value of white in the images; found for each by `segalgos.color.data_range_of` if
        None.
    channel_axis : int, None or "auto", default="auto"
        Which axis holds the channels; None for a grey image or volume.

    See Also
    --------
    segalgos.watershed : The same as a function, with the details.

    Notes
    -----
    With prompts the flood begins at what they mark, as drawn by `Prompts.seeds`, and the
    result has their ids.

    References
    ----------
    .. [1] F. Meyer, "Un algorithme optimal pour la ligne de partage des eaux", Congrès
       Reconnaissance des Formes et Intelligence Artificielle, 847-857, 1991.
    .. [2] P. Neubert and P. Protzel, "Compact watershed and preemptive SLIC", International
       Conference on Pattern Recognition, 996-1001, 2014.
    """

    traits = Traits(
        task="partition",
        family="graph",
        year=1991,
        takes_prompts=True,
        ndims=(2, 3),
        keeps_uint8=True,
    )

    def __init__(
        self,
        *,
        relief: str = "gradient",
        sigma: float = 2.5,
        min_depth: float = 5.0,
        compactness: float = 0.0,
        connectivity: int = 1,
        data_range: float | None = None,
        channel_axis: int | str | None = "auto",
    ):
        self.relief = relief
        self.sigma = sigma
        self.min_depth = min_depth
        self.compactness = compactness
        self.connectivity = connectivity
        self.data_range = data_range
        self.channel_axis = channel_axis

    def _check_params(self):
        _check_parameters(
            self._caller,
            self.relief,
            self.sigma,
            self.min_depth,
            self.compactness,
            self.connectivity,
            self.data_range,
        )

    def _predict(self, image, mask, prompts):
        caller = self._caller
        if self.relief == "gradient":
            ground = _gradient(image, mask, self.sigma, self.data_range, caller)
        else:
            ground = _single_channel(image, caller)
        markers = None if prompts is None else prompts.seeds(ground.shape)
        return _segment(
            ground, mask, markers, self.min_depth, self.compactness, self.connectivity, caller
        )
