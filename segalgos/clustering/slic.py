"""SLIC superpixels."""

from __future__ import annotations

import heapq
from functools import partial

import numpy as np
from numba import njit
from numpy.typing import ArrayLike, NDArray

from segalgos.base import Segmenter, Traits
from segalgos.checks import check_choice, check_image, check_int, check_mask, check_real
from segalgos.color import find_data_range, rescale, rgb_to_lab
from segalgos.parallel import map_strips
from segalgos.smoothing import gaussian

__all__ = ["SLICSegmenter", "slic"]

WHITE = 100.0  # of channels that are not Lab, so that compactness means the same for them


# --- seeds -------------------------------------------------------------------------------


def _spacing(mask, n_segments):
    """Side of the cells that share a mask evenly, in pixels.

    Axes thinner than a cell do not count: a line is cut into pieces, not into squares.
    """
    axes = range(mask.ndim)
    inhabited = [np.flatnonzero(mask.any(axis=tuple(a for a in axes if a != b))) for b in axes]
    extents = sorted(int(np.ptp(planes)) + 1 for planes in inhabited)
    area = np.count_nonzero(mask) / n_segments
    while len(extents) > 1 and extents[0] < area ** (1 / len(extents)):
        area /= extents.pop(0)
    return max(area ** (1 / len(extents)), 1.0)


def _spread(mass, n_seeds, spacing):
    """Place seeds so that each has about the same mass around it.

    The first axis is cut into slabs of about `spacing`, each slab gets seeds by its mass,
    and places them on its other axes in the same way.

    Parameters
    ----------
    mass : (D, H, W), (H, W) or (W,) bool or int
    n_seeds : int
    spacing : float

    Returns
    -------
    (n_seeds, ndim) intp
        Positions where mass is not zero.
    """
    if mass.ndim == 1:
        # The middle of each n-th part, in integers. Of two middles the lower, as ties in
        # distance go to the lower index too: so a plain image gets even cells.
        cumulative = np.cumsum(mass, dtype=np.int64)
        ranks = (2 * np.arange(n_seeds) + 1) * cumulative[-1]
        return np.searchsorted(2 * n_seeds * cumulative, ranks)[:, None]
    of_planes = mass.sum(axis=tuple(range(1, mass.ndim)))
    planes = np.flatnonzero(of_planes)
    n_slabs = min(max(round(len(planes) / spacing), 1), n_seeds, len(planes))
    slabs = np.array_split(planes, n_slabs)
    shares = np.cumsum([of_planes[slab].sum() for slab in slabs]) / of_planes.sum()
    counts = np.diff(np.rint(shares * n_seeds).astype(int), prepend=0)
    seeds = []
    for slab, count in zip(slabs, counts, strict=True):
        if count:
            within = mass[slab[0] : slab[-1] + 1]
            rest = _spread(within.sum(axis=0), count, spacing)
            # In each seed's column, the plane with mass that is nearest to the middle.
            distance = np.abs(np.arange(len(within)) - (len(within) - 1) / 2)[:, None]
            column = within[(slice(None), *rest.T)] > 0
            plane = slab[0] + np.argmin(np.where(column, distance, np.inf), axis=0)
            seeds.append(np.column_stack([plane, rest]))
    return np.concatenate(seeds)


@njit(nogil=True, cache=True)
def _gradient(features, mask, z, y, x):
    total = 0.0
    for dz, dy, dx in ((1, 0, 0), (0, 1, 0), (0, 0, 1)):
        # A neighbour outside the image or the mask is as if it were the pixel itself.
        z1, y1, x1, z2, y2, x2 = z, y, x, z, y, x
        if z >= dz and y >= dy and x >= dx and mask[z - dz, y - dy, x - dx]:
            z1, y1, x1 = z - dz, y - dy, x - dx
        exists = z + dz < mask.shape[0] and y + dy < mask.shape[1] and x + dx < mask.shape[2]
        if exists and mask[z + dz, y + dy, x + dx]:
            z2, y2, x2 = z + dz, y + dy, x + dx
        for c in range(features.shape[0]):
            difference = np.float64(features[c, z2, y2, x2]) - np.float64(features[c, z1, y1, x1])
            total += difference * difference
    return total


@njit(nogil=True, cache=True)
def _settle(features, mask, seeds):
    """Move each seed to the lowest gradient around it, so that none starts on an edge.

    Parameters
    ----------
    features : (C, D, H, W) float32
    mask : (D, H, W) bool
    seeds : (n_seeds, 3) intp, overwritten
    """
    depth, height, width = mask.shape
    for s in range(seeds.shape[0]):
        z, y, x = seeds[s]
        lowest = _gradient(features, mask, z, y, x)
        for z2 in range(max(z - 1, 0), min(z + 2, depth)):
            for y2 in range(max(y - 1, 0), min(y + 2, height)):
                for x2 in range(max(x - 1, 0), min(x + 2, width)):
                    if mask[z2, y2, x2]:
                        gradient = _gradient(features, mask, z2, y2, x2)
                        if gradient < lowest:
                            lowest = gradient
                            seeds[s, 0], seeds[s, 1], seeds[s, 2] = z2, y2, x2


# --- local k-means -----------------------------------------------------------------------


@njit(nogil=True, cache=True)
def _window(position, reach, size):
    return max(int(np.ceil(position - reach)), 0), min(int(position + reach) + 1, size)


@njit(nogil=True, cache=True)
def _assign(features, mask, positions, colors, reach, weight, nearest, labels, first, last):
    """Give the pixels of some rows the nearest centre whose window holds them.

    Parameters
    ----------
    features : (C, D, H, W) float32
    mask : (D, H, W) bool
    positions : (n_centers, 3) float64
    colors : (n_centers, C) float32
    reach : float
        Half the side of a centre's window.
    weight : float32
        Of squared distance in space against squared distance in colour, (m / S)².
    nearest : (D, H, W) float32, overwritten
        Scratch.
    labels : (D, H, W) int32, overwritten
        -1 outside the mask, ``n_centers`` where no window reaches.
    first, last : int
        Range of rows, counted over all slices.

    Notes
    -----
    O(n_pixels * C) time, as each pixel lies in about four (in volumes eight) windows. Ties
    go to the lower index.
    """
    n_channels, depth, height, width = features.shape
    n_centers = positions.shape[0]
    distance = np.empty(width, np.float32)
    for row in range(first, last):
        z, y = row // height, row % height
        for x in range(width):
            inside = mask[z, y, x]
            nearest[z, y, x] = np.inf if inside else -1
            labels[z, y, x] = n_centers if inside else -1
    for k in range(n_centers):
        z0, z1 = _window(positions[k, 0], reach, depth)
        y0, y1 = _window(positions[k, 1], reach, height)
        x0, x1 = _window(positions[k, 2], reach, width)
        cz, cy, cx = positions[k, 0], positions[k, 1], np.float32(positions[k, 2])
        for z in range(max(z0, first // height), min(z1, (last - 1) // height + 1)):
            for y in range(max(y0, first - z * height), min(y1, last - z * height)):
                # Slices, so that the loops below run from 0 and become vectors.
                across = weight * np.float32((z - cz) ** 2 + (y - cy) ** 2)
                span = distance[: x1 - x0]
                for i in range(span.shape[0]):
                    span[i] = across + weight * (np.float32(x0 + i) - cx) ** 2
                for c in range(n_channels):
                    plane, color = features[c, z, y, x0:x1], colors[k, c]
                    for i in range(span.shape[0]):
                        span[i] += (plane[i] - color) ** 2
                near, label = nearest[z, y, x0:x1], labels[z, y, x0:x1]
                for i in range(span.shape[0]):
                    closer = span[i] < near[i]
                    near[i] = span[i] if closer else near[i]
                    label[i] = k if closer else label[i]


@njit(nogil=True, cache=True)
def _update(features, labels, positions, reach, new_positions, new_colors, first, last):
    """Move some centres to the mean of their pixels.

    Parameters
    ----------
    features : (C, D, H, W) float32
    labels : (D, H, W) int32
    positions : (n_centers, 3) float64
    reach : float
        As when the labels were given: a centre's pixels all lie in its window.
    new_positions : (n_centers, 3) float64, overwritten
    new_colors : (n_centers, C) float32, overwritten
        Both stay as they are for a centre without pixels.
    first, last : int
        Range of centres.
    """
    n_channels, depth, height, width = features.shape
    # Sums of each column of the window: unlike one sum, they are vectors.
    counts, of_z, of_y = np.empty(width), np.empty(width), np.empty(width)
    of_color = np.empty((n_channels, width))
    for k in range(first, last):
        z0, z1 = _window(positions[k, 0], reach, depth)
        y0, y1 = _window(positions[k, 1], reach, height)
        x0, x1 = _window(positions[k, 2], reach, width)
        n_columns = x1 - x0
        counts[:n_columns] = 0
        of_z[:n_columns] = 0
        of_y[:n_columns] = 0
        of_color[:, :n_columns] = 0
        for z in range(z0, z1):
            for y in range(y0, y1):
                label = labels[z, y, x0:x1]
                for i in range(label.shape[0]):
                    counts[i] += 1.0 if label[i] == k else 0.0
                    of_z[i] += z if label[i] == k else 0.0
                    of_y[i] += y if label[i] == k else 0.0
                for c in range(n_channels):
                    plane, total = features[c, z, y, x0:x1], of_color[c]
                    for i in range(label.shape[0]):
                        total[i] += plane[i] if label[i] == k else 0.0
        count = counts[:n_columns].sum()
        if count > 0:
            of_x = counts[:n_columns] * np.arange(x0, x1)
            new_positions[k, 0] = of_z[:n_columns].sum() / count
            new_positions[k, 1] = of_y[:n_columns].sum() / count
            new_positions[k, 2] = of_x.sum() / count
            for c in range(n_channels):
                new_colors[k, c] = of_color[c, :n_columns].sum() / count


# --- connectivity ------------------------------------------------------------------------


@njit(nogil=True, cache=True)
def _flood(labels, steps, component, pixels, starts):
    """Number the connected components of equal label in raster order.

    Parameters
    ----------
    labels : (n_padded,) int32
        Below 0 outside the mask and on a border one pixel wide.
    steps : (n_neighbours,) intp
        To neighbours, as differences of flat indices.
    component : (n_padded,) int32, overwritten
        -1 outside the mask.
    pixels : (n_pixels,) intp, overwritten
        Flat indices of the mask's pixels, one component after the other.
    starts : (n_pixels + 1,) intp, overwritten
        Where in `pixels` each component begins.

    Returns
    -------
    int
        How many components there are.
    """
    component[:] = -1
    n_components, n_found = 0, 0
    for origin in range(labels.shape[0]):
        if labels[origin] < 0 or component[origin] >= 0:
            continue
        label = labels[origin]
        starts[n_components] = n_done = n_found
        component[origin] = n_components
        pixels[n_found] = origin
        n_found += 1
        while n_done < n_found:
            pixel = pixels[n_done]
            n_done += 1
            for step in steps:
                other = pixel + step
                if labels[other] == label and component[other] < 0:
                    component[other] = n_components
                    pixels[n_found] = other
                    n_found += 1
        n_components += 1
    starts[n_components] = n_found
    return n_components


@njit(nogil=True, cache=True)
def _find(parent, node):
    while parent[node] != node:
        parent[node] = parent[parent[node]]  # path halving
        node = parent[node]
    return node


@njit(nogil=True, cache=True)
def _join(component, pixels, starts, steps, sums, n_segments, min_size, parent):
    """Join the smallest component to its most similar neighbour until few enough remain.

    Parameters
    ----------
    component, pixels, starts, steps : as in `_flood`
        `starts` cut to ``n_components + 1``.
    sums : (n_components, C) float64
        Sum of features; overwritten.
    n_segments : int
        How many to leave.
    min_size : int
        Smaller components are joined in any case. Those that the mask isolates stay, and
        do not count.
    parent : (n_components,) intp, overwritten
        A tree for each joined component.

    Notes
    -----
    O(n log n) time in the pixels of small components.
    """
    n_components = parent.shape[0]
    size = starts[1:] - starts[:-1]
    # The components that were joined form a chain, to walk over their pixels.
    follower = np.full(n_components, -1)
    tail = np.arange(n_components)
    heap = [size[i] * n_components + i for i in range(n_components)]
    heapq.heapify(heap)
    n_left = n_components
    while heap:
        key = heapq.heappop(heap)
        small, size_then = key % n_components, key // n_components
        if parent[small] != small or size[small] != size_then:
            continue  # it was joined to another, or grew, since
        if n_left <= n_segments and size_then >= min_size:
            break
        best, best_distance = -1, np.inf
        member = small
        while member >= 0:
            for pixel in pixels[starts[member] : starts[member + 1]]:
                for step in steps:
                    if component[pixel + step] < 0:
                        continue
                    other = _find(parent, component[pixel + step])
                    if other in (small, best):
                        continue
                    distance = 0.0
                    for c in range(sums.shape[1]):
                        difference = sums[other, c] / size[other] - sums[small, c] / size[small]
                        distance += difference * difference
                    if distance < best_distance or (distance == best_distance and other < best):
                        best, best_distance = other, distance
            member = follower[member]
        if best < 0:
            n_left -= size_then < min_size
            continue
        parent[small] = best
        size[best] += size[small]
        for c in range(sums.shape[1]):
            sums[best, c] += sums[small, c]
        follower[tail[best]] = small
        tail[best] = tail[small]
        n_left -= 1
        heapq.heappush(heap, size[best] * n_components + best)


@njit(nogil=True, cache=True)
def _sum_features(features, component, sums):
    """Add up the features (C, D, H, W) of each component (D, H, W) in sums (n, C)."""
    for z in range(component.shape[0]):
        for y in range(component.shape[1]):
            for x in range(component.shape[2]):
                i = component[z, y, x]
                if i >= 0:
                    for c in range(features.shape[0]):
                        sums[i, c] += features[c, z, y, x]


@njit(nogil=True, cache=True)
def _number(component, parent, labels):
    """Number joined components in raster order."""
    number = np.full(parent.shape[0], -1, np.int32)
    n = 0
    for z in range(component.shape[0]):
        for y in range(component.shape[1]):
            for x in range(component.shape[2]):
                i = component[z, y, x]
                if i >= 0:
                    root = _find(parent, i)
                    if number[root] < 0:
                        number[root] = n
                        n += 1
                    labels[z, y, x] = number[root]


def _connect(labels, features, n_segments, min_size):
    """Make every label one connected piece, in place.

    Parameters
    ----------
    labels : (D, H, W) int32, overwritten
    features : (C, D, H, W) float32
    n_segments, min_size : int
        As in `_join`.
    """
    pad = [(1, 1) if n > 1 else (0, 0) for n in labels.shape]
    padded = np.pad(labels, pad, constant_values=-1)
    strides = np.array(padded.strides) // padded.itemsize
    steps = np.array([s for s, (p, _) in zip(strides, pad, strict=True) if p], np.intp)
    steps = np.concatenate([-steps, steps])
    n_pixels = np.count_nonzero(labels >= 0)
    component = np.empty(padded.shape, np.int32)
    pixels, starts = np.empty(n_pixels, np.intp), np.empty(n_pixels + 1, np.intp)
    n = _flood(padded.ravel(), steps, component.ravel(), pixels, starts)
    inner = component[tuple(slice(p, p + n) for (p, _), n in zip(pad, labels.shape, strict=True))]
    sums = np.zeros((n, len(features)))
    _sum_features(features, inner, sums)
    parent = np.arange(n)
    starts = starts[: n + 1]
    _join(component.ravel(), pixels, starts, steps, sums, n_segments, min_size, parent)
    _number(inner, parent, labels)


# --- surface -----------------------------------------------------------------------------


def _check_parameters(
    caller, n_segments, compactness, max_iter, sigma, color_space, min_size_factor, data_range
):
    check_int(caller, "n_segments", n_segments, low=1)
    check_real(caller, "compactness", compactness, low=0, high=1e6)
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
        image = rgb_to_lab(image, data_range)
    return np.ascontiguousarray(np.moveaxis(image, -1, 0))


def _segment(
    image,
    mask,
    caller,
    *,
    n_segments,
    compactness,
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

    spacing = _spacing(inside, n_segments)
    seeds = _spread(inside, n_segments, spacing)
    if spacing >= 3:  # nearer ones could fall together
        _settle(features, inside, seeds)
    seeds = np.unique(seeds, axis=0)
    positions = seeds.astype(np.float64)
    colors = features[(slice(None), *seeds.T)].T.copy()

    labels = np.empty(volume, np.int32)
    nearest = np.empty(volume, np.float32)
    weight = np.float32((compactness / spacing) ** 2)
    n_rows = volume[0] * volume[1]
    # At most some hundred strips: each looks at all centres.
    strip = max(1, 32768 // volume[2], n_rows // 256)
    for _ in range(max_iter):
        args = (features, inside, positions, colors, spacing, weight, nearest, labels)
        map_strips(partial(_assign, *args), n_rows, strip)
        new_positions, new_colors = positions.copy(), colors.copy()
        args = (features, labels, positions, spacing, new_positions, new_colors)
        map_strips(partial(_update, *args), len(seeds), max(1, len(seeds) // 16))
        stays = np.array_equal(positions, new_positions) and np.array_equal(colors, new_colors)
        positions, colors = new_positions, new_colors
        if stays:
            break
    min_size = max(1, int(min_size_factor * n_pixels / n_segments))
    _connect(labels, features, n_segments, min_size)
    return labels.reshape(shape)


def slic(
    image: ArrayLike,
    n_segments: int = 250,
    *,
    compactness: float = 10.0,
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
        max_iter: int = 10,
        sigma: float = 0.0,
        color_space: str = "lab",
        min_size_factor: float = 0.1,
        data_range: float | None = None,
        channel_axis: int | str | None = "auto",
    ):
        self.n_segments = n_segments
        self.compactness = compactness
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
