"""k-means clustering of colours."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import ArrayLike, NDArray
from sklearn.utils import check_random_state

from segalgos.base import Segmenter, Traits
from segalgos.checks import check_choice, check_image, check_int, check_mask, check_real
from segalgos.color import find_data_range, rgb_to_lab
from segalgos.parallel import map_items, map_strips

__all__ = ["KMeansSegmenter", "kmeans"]

BLOCK = 256  # values that stay in the first cache while all centres pass over them
STRIP = 16384


# --- distinct values ---------------------------------------------------------------------


@njit(nogil=True, cache=True)
def _group(bits, weights, slots, origins, totals):
    """Find the distinct rows of a table, by hashing.

    Parameters
    ----------
    bits : (n, C) uint32
        Rows, equal where their bits are.
    weights : (n,) float64
        Rows without weight are left out.
    slots : (2**k,) int32 or int64
        At least twice `n`, all -1; overwritten.
    origins : (n,) intp, overwritten
        Where each distinct row occurs first, in this order.
    totals : (n,) float64, overwritten
        Sum of the weights of each.

    Returns
    -------
    int
        How many there are.
    """
    last_slot = np.uint64(slots.shape[0] - 1)
    n_distinct = 0
    for i in range(bits.shape[0]):
        if weights[i] == 0:
            continue
        code = np.uint64(0)
        for c in range(bits.shape[1]):
            code = (code ^ np.uint64(bits[i, c])) * np.uint64(0x9E3779B97F4A7C15)
            code ^= code >> np.uint64(32)
        slot = code & last_slot
        while True:
            found = slots[slot]
            if found < 0:
                slots[slot] = n_distinct
                origins[n_distinct] = i
                totals[n_distinct] = weights[i]
                n_distinct += 1
                break
            same = True
            for c in range(bits.shape[1]):
                same &= bits[origins[found], c] == bits[i, c]
            if same:
                totals[found] += weights[i]
                break
            slot = (slot + np.uint64(1)) & last_slot
    return n_distinct


def _distinct(values, weights):
    """Distinct rows (n, C) float32 with their total weights, in order of appearance."""
    n = len(values)
    values = values + np.float32(0)  # a copy without -0
    slots = np.full(1 << (2 * n - 1).bit_length(), -1, np.int32 if n < 1 << 31 else np.int64)
    origins, totals = np.empty(n, np.intp), np.empty(n)
    n_distinct = _group(values.view(np.uint32), weights, slots, origins, totals)
    return values[origins[:n_distinct]], totals[:n_distinct].copy()


# --- Lloyd's iterations ------------------------------------------------------------------


@njit(nogil=True, cache=True)
def _nearest(values, centers, begin, end, block, distance, label):
    """Find the nearest centre of at most ``BLOCK`` values.

    Parameters
    ----------
    values : (n, C) float32
    centers : (n_clusters, C) float64
    begin, end : int
        Range of values.
    block : (C, BLOCK) float64, overwritten
        Scratch.
    distance : (2, BLOCK) float64, overwritten
        The first row gets the squared distances, in squared units of intensity.
    label : (BLOCK,) int32, overwritten
        Indices of centres; ties go to the lower one.

    Notes
    -----
    O(BLOCK * n_clusters * C) time. Centres are the outer loop and values the inner one, so
    that the inner one becomes vectors.
    """
    n = end - begin
    for c in range(values.shape[1]):
        for i in range(n):
            block[c, i] = values[begin + i, c]
    best, now, nearest = distance[0, :n], distance[1, :n], label[:n]
    best[:] = np.inf
    for k in range(centers.shape[0]):
        if values.shape[1] == 3:  # colours: one pass instead of four
            red, green, blue = block[0, :n], block[1, :n], block[2, :n]
            r, g, b = centers[k, 0], centers[k, 1], centers[k, 2]
            for i in range(now.shape[0]):
                now[i] = (red[i] - r) ** 2 + (green[i] - g) ** 2 + (blue[i] - b) ** 2
        else:
            now[:] = 0
            for c in range(values.shape[1]):
                column, center = block[c, :n], centers[k, c]
                for i in range(now.shape[0]):
                    now[i] += (column[i] - center) ** 2
        for i in range(now.shape[0]):
            closer = now[i] < best[i]
            best[i] = now[i] if closer else best[i]
            nearest[i] = k if closer else nearest[i]


@njit(nogil=True, cache=True)
def _lloyd_step(values, weights, centers, labels, distances, start, stop):
    """Assign some values to their nearest centres and add them up there.

    Parameters
    ----------
    values : (n, C) float32
    weights : (n,) float64
    centers : (n_clusters, C) float64
    labels : (n,) int32, overwritten in part
    distances : (n,) float64, overwritten in part
        Squared distances to the centres.
    start, stop : int
        Range of values.

    Returns
    -------
    sums : (n_clusters, C + 1) float64
        Of weighted values and, last, of weights.
    inertia : float
        Weighted sum of squared distances.
    n_changed : int
        How many labels differ from before.

    Notes
    -----
    Both halves of an iteration of [1]_: O((stop - start) * n_clusters * C) time.

    References
    ----------
    .. [1] S. Lloyd, "Least squares quantization in PCM", IEEE Trans. Inf. Theory 28(2),
       129-137, 1982.
    """
    n_channels = values.shape[1]
    sums = np.zeros((centers.shape[0], n_channels + 1))
    block = np.empty((n_channels, BLOCK))
    distance = np.empty((2, BLOCK))
    label = np.zeros(BLOCK, np.int32)
    inertia, n_changed = 0.0, 0
    for begin in range(start, stop, BLOCK):
        end = min(begin + BLOCK, stop)
        _nearest(values, centers, begin, end, block, distance, label)
        for i in range(begin, end):
            k, weight = label[i - begin], weights[i]
            n_changed += labels[i] != k
            labels[i] = k
            distances[i] = distance[0, i - begin]
            inertia += weight * distances[i]
            for c in range(n_channels):
                sums[k, c] += weight * values[i, c]
            sums[k, n_channels] += weight
    return sums, inertia, n_changed


@njit(nogil=True, cache=True)
def _label(values, centers, labels, start, stop):
    """Give values (n, C) the index of their nearest centre, in labels[start:stop]."""
    block = np.empty((values.shape[1], BLOCK))
    distance = np.empty((2, BLOCK))
    label = np.zeros(BLOCK, np.int32)
    for begin in range(start, stop, BLOCK):
        end = min(begin + BLOCK, stop)
        _nearest(values, centers, begin, end, block, distance, label)
        labels[begin:end] = label[: end - begin]


def _relocate(sums, values, weights, labels, distances):
    """Move empty clusters to the values farthest from their centres; returns new sums."""
    empty = np.flatnonzero(sums[:, -1] == 0)
    if len(empty) == 0:
        return sums
    far = np.argsort(-distances, kind="stable")[: len(empty)]
    far = far[distances[far] > 0]
    labels = labels.copy()
    labels[far] = empty[: len(far)]
    columns = [weights * column for column in values.T] + [weights]
    return np.stack([np.bincount(labels, column, len(sums)) for column in columns], axis=1)


def _lloyd(values, weights, centers, max_iter, tol):
    """Iterate to convergence; returns centres (k, C), inertia and iterations."""
    labels = np.full(len(values), -1, np.int32)
    distances = np.empty(len(values))

    def step(centers):
        one_strip = partial(_lloyd_step, values, weights, centers, labels, distances)
        sums, inertias, changes = zip(*map_strips(one_strip, len(values), STRIP), strict=True)
        return sum(sums), sum(inertias), sum(changes)

    mean = np.average(values, axis=0, weights=weights)
    variance = np.average((values - mean) ** 2, axis=0, weights=weights)
    threshold = tol * variance.mean()
    n_iter, converged = 0, False
    while n_iter < max_iter and not converged:
        sums, _, n_changed = step(centers)
        sums = _relocate(sums, values, weights, labels, distances)
        filled = sums[:, -1] > 0
        moved = centers.copy()
        moved[filled] = sums[filled, :-1] / sums[filled, -1:]
        shift = ((moved - centers) ** 2).sum()
        centers = moved
        n_iter += 1
        converged = n_changed == 0 or shift <= threshold
    sums, inertia, _ = step(centers)
    return centers[sums[:, -1] > 0], float(inertia), n_iter


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
    potentials = np.zeros(candidates.shape[0])
    now = np.empty(BLOCK)
    block = np.empty((values.shape[1], BLOCK))
    for begin in range(start, stop, BLOCK):
        n = min(begin + BLOCK, stop) - begin
        for c in range(values.shape[1]):
            for i in range(n):
                block[c, i] = values[begin + i, c]
        for k in range(candidates.shape[0]):
            now[:n] = 0
            for c in range(values.shape[1]):
                column, candidate = block[c, :n], candidates[k, c]
                for i in range(n):
                    now[i] += (column[i] - candidate) ** 2
            for i in range(n):
                potentials[k] += weights[begin + i] * min(now[i], closest[begin + i])
    return potentials


@njit(nogil=True, cache=True)
def _approach(values, center, closest, start, stop):
    """Lower the squared distances (n,) of values (n, C) to those to a new centre (C,)."""
    for i in range(start, stop):
        distance = 0.0
        for c in range(values.shape[1]):
            distance += (values[i, c] - center[c]) ** 2
        closest[i] = min(closest[i], distance)


def _plus_plus(values, weights, n_clusters, random_state):
    """Draw distinct values as centres, far from one another: greedy k-means++ [1]_.

    Of ``2 + log(n_clusters)`` candidates, drawn by their weighted squared distance to the
    nearest centre so far, the one that lowers the sum of these most becomes the next.

    References
    ----------
    .. [1] D. Arthur and S. Vassilvitskii, "k-means++: the advantages of careful seeding",
       Symposium on Discrete Algorithms, 1027-1035, 2007.
    """
    n_candidates = 2 + int(np.log(n_clusters))
    closest = np.full(len(values), np.inf)
    chances = weights
    centers = []
    while len(centers) < n_clusters:
        cumulative = np.cumsum(chances)
        if cumulative[-1] == 0:
            break  # every distinct value is a centre
        drawn = random_state.uniform(size=n_candidates if centers else 1) * cumulative[-1]
        # Never one without a chance, not even if rounding draws the very end.
        last = np.searchsorted(cumulative, cumulative[-1])
        indices = np.minimum(np.searchsorted(cumulative, drawn, side="right"), last)
        candidates = values[indices].astype(np.float64)
        best = 0
        if centers:
            sums = map_strips(
                partial(_potentials, values, weights, candidates, closest), len(values), STRIP
            )
            best = int(np.argmin(sum(sums)))
        centers.append(candidates[best])
        map_strips(partial(_approach, values, candidates[best], closest), len(values), STRIP)
        chances = weights * closest
    return np.array(centers)


# --- surface -----------------------------------------------------------------------------


def _check_parameters(caller, n_clusters, init, color_space, data_range, max_iter, tol):
    check_int(caller, "n_clusters", n_clusters, low=1)
    check_choice(caller, "color_space", color_space, ("rgb", "lab"))
    if data_range is not None:
        check_real(caller, "data_range", data_range, above=0)
    check_int(caller, "max_iter", max_iter, low=1)
    check_real(caller, "tol", tol, low=0)
    if isinstance(init, str):
        check_choice(caller, "init", init, ("k-means++",))
        return
    centers = np.asarray(init)
    if centers.dtype.kind not in "buif" or centers.ndim != 2 or len(centers) != n_clusters:
        raise ValueError(
            f"{caller}: init is {centers.dtype} of shape {centers.shape}, expected "
            f'"k-means++" or numbers of shape ({n_clusters}, C): pass one centre a cluster.'
        )
    if not np.isfinite(centers).all():
        raise ValueError(f"{caller}: init holds NaN or infinite values: pass finite centres.")


def _initial_centers(init, n_channels, caller):
    centers = np.array(init, np.float64)
    if centers.shape[1] != n_channels:
        raise ValueError(
            f"{caller}: init has {centers.shape[1]} channels, the image has {n_channels}: pass "
            "centres in the image's channels."
        )
    return centers


def _values(image, mask, color_space, data_range, caller):
    """Pixels (n, C) float32 of a checked image, in the colour space asked for."""
    n_channels = image.shape[-1]
    if color_space == "lab":
        if n_channels != 3:
            raise ValueError(
                f"{caller}: image has {n_channels} channels, color_space='lab' needs 3: use "
                "color_space='rgb', which takes any number."
            )
        if mask is not None:
            image = np.where(mask[..., None], image, 0)
        image = rgb_to_lab(image, data_range)
    return image.reshape(-1, n_channels).astype(np.float32, copy=False)


def _cluster(values, weights, n_clusters, init, max_iter, tol, random_state, caller):
    """Cluster distinct values (n, C) of given weights; centres, inertia and iterations."""
    if isinstance(init, str):
        centers = _plus_plus(values, weights, n_clusters, check_random_state(random_state))
    else:
        centers = np.array(init, np.float64)
        if centers.shape[1] != values.shape[1]:
            raise ValueError(
                f"{caller}: init has {centers.shape[1]} channels, the image has "
                f"{values.shape[1]}: pass centres in the image's channels."
            )
    return _lloyd(values, weights, centers, max_iter, tol)


def _nearest_labels(values, centers, mask, shape):
    """Label map of the nearest centres, numbered without gaps in the centres' order."""
    labels = np.empty(len(values), np.int32)
    map_strips(partial(_label, values, centers, labels), len(values), STRIP)
    labels = labels.reshape(shape)
    occurs = np.bincount(labels.ravel() if mask is None else labels[mask]) > 0
    numbers = np.cumsum(occurs, dtype=np.int32) - 1
    if mask is None:
        return numbers[labels]
    labels[mask] = numbers[labels[mask]]
    labels[~mask] = -1
    return labels


def kmeans(
    image: ArrayLike,
    n_clusters: int = 8,
    *,
    init: str | ArrayLike = "k-means++",
    color_space: str = "rgb",
    data_range: float | None = None,
    max_iter: int = 100,
    tol: float = 1e-4,
    mask: ArrayLike | None = None,
    channel_axis: int | str | None = "auto",
    random_state: int | np.random.RandomState | None = None,
) -> NDArray[np.int32]:
    """Cluster the colours of an image with k-means.

    Parameters
    ----------
    image : (H, W), (H, W, C) or volume, array_like
    n_clusters : int, default=8
        If the image has fewer distinct colours, each gets a cluster of its own.
    init : "k-means++" or (n_clusters, C) array_like, default="k-means++"
        How to begin: greedy k-means++, or these centres.
    color_space : {"rgb", "lab"}, default="rgb"
        "rgb" takes the channels as they are, any number of them; "lab" converts three of
        them to CIE Lab. Given centres are in this space.
    data_range : float, optional
        Value of white, used by "lab" alone; found by `segalgos.color.data_range_of` if
        None.
    max_iter : int, default=100
    tol : float, default=1e-4
        Stop when the centres' squared moves add up to less than this part of the channels'
        mean variance, or when no pixel changes its cluster.
    mask : array_like of bool, optional
        True where pixels are to be segmented; all others get -1 and have no influence.
    channel_axis : int, None or "auto", default="auto"
        Which axis holds the channels; None for a grey image or volume.
    random_state : int, RandomState or None, default=None

    Returns
    -------
    (H, W) or (D, H, W) int32
        Ids 0..n-1 in the order of the centres. A cluster may lie in many places.

    Notes
    -----
    Lloyd's iterations in float64, exactly scikit-learn's result from the same centres, but
    computed on distinct colours with their counts: O(n_distinct * n_clusters * C) time an
    iteration. A cluster that loses all its pixels is moved to the colour farthest from its
    centre, with all pixels of that colour (scikit-learn: one of them). The
    same seed gives the same labels for any dtype and number of threads.

    References
    ----------
    .. [1] S. Lloyd, "Least squares quantization in PCM", IEEE Trans. Inf. Theory 28(2),
       129-137, 1982.
    .. [2] D. Arthur and S. Vassilvitskii, "k-means++: the advantages of careful seeding",
       Symposium on Discrete Algorithms, 1027-1035, 2007.

    Examples
    --------
    >>> from segalgos import kmeans
    >>> kmeans([[0, 1, 9], [1, 0, 8]], n_clusters=2, init=[[0], [9]])
    array([[0, 0, 1],
           [0, 0, 1]], dtype=int32)
    """
    caller = "kmeans"
    _check_parameters(caller, n_clusters, init, color_space, data_range, max_iter, tol)
    image = check_image(image, caller, channel_axis=channel_axis, ndims=(2, 3), keep_uint8=True)
    shape = image.shape[:-1]
    if mask is not None:
        mask = check_mask(mask, shape, caller)
    if color_space == "lab":
        data_range = find_data_range(image, mask, data_range, caller)
    values = _values(image, mask, color_space, data_range, caller)
    weights = np.ones(len(values)) if mask is None else mask.ravel().astype(float)
    colors, counts = _distinct(values, weights)
    centers, _, _ = _cluster(colors, counts, n_clusters, init, max_iter, tol, random_state, caller)
    return _nearest_labels(values, centers, mask, shape)


class KMeansSegmenter(Segmenter):
    """Cluster colours by k-means, learned from one image or many [1]_.

    Parameters
    ----------
    n_clusters : int, default=8
        If the images have fewer distinct colours, each gets a cluster of its own.
    init : "k-means++" or (n_clusters, C) array_like, default="k-means++"
        How to begin: greedy k-means++, or these centres.
    color_space : {"rgb", "lab"}, default="rgb"
        "rgb" takes the channels as they are, any number of them; "lab" converts three of
        them to CIE Lab. All centres are in this space.
    data_range : float, optional
        Value of white, used by "lab" alone; if None, found from the images given to `fit`
        by `segalgos.color.data_range_of`, the largest counts.
    max_iter : int, default=100
        Iterations at most.
    tol : float, default=1e-4
        Stop when the centres' squared moves add up to less than this part of the channels'
        mean variance, or when no pixel changes its cluster.
    channel_axis : int, None or "auto", default="auto"
        Which axis holds the channels; None for a grey image or volume.
    random_state : int, RandomState or None, default=None
        Seed of k-means++.

    Attributes
    ----------
    cluster_centers_ : (n_clusters, C) float64
        Fewer where the images have fewer distinct colours.
    inertia_ : float
        Weighted sum of squared distances to the nearest centres.
    n_iter_ : int
        Iterations that were done.
    data_range_ : float or None
        Value of white that "lab" uses.

    See Also
    --------
    segalgos.kmeans : The same as a function of one image, with the details.

    Notes
    -----
    `predict` gives each pixel its nearest centre and numbers those that occur in the image
    0..n-1, in the order of `cluster_centers_`.

    References
    ----------
    .. [1] S. Lloyd, "Least squares quantization in PCM", IEEE Trans. Inf. Theory 28(2),
       129-137, 1982.
    """

    traits = Traits(
        task="partition",
        family="clustering",
        year=1982,
        needs_fit=True,
        takes_sample_weight=True,
        ndims=(2, 3),
        deterministic=False,
        keeps_uint8=True,
    )

    def __init__(
        self,
        n_clusters: int = 8,
        *,
        init: str | ArrayLike = "k-means++",
        color_space: str = "rgb",
        data_range: float | None = None,
        max_iter: int = 100,
        tol: float = 1e-4,
        channel_axis: int | str | None = "auto",
        random_state: int | np.random.RandomState | None = None,
    ):
        self.n_clusters = n_clusters
        self.init = init
        self.color_space = color_space
        self.data_range = data_range
        self.max_iter = max_iter
        self.tol = tol
        self.channel_axis = channel_axis
        self.random_state = random_state

    @classmethod
    def small(cls) -> KMeansSegmenter:
        """Make an instance with few clusters and iterations.

        Returns
        -------
        KMeansSegmenter
        """
        return cls(n_clusters=3, max_iter=5)

    def _check_params(self):
        _check_parameters(
            self._caller,
            self.n_clusters,
            self.init,
            self.color_space,
            self.data_range,
            self.max_iter,
            self.tol,
        )

    def _fit(self, images, labels, sample_weight):
        caller, data_range = self._caller, None
        if self.color_space == "lab":
            data_range = max(find_data_range(i, None, self.data_range, caller) for i in images)

        def distinct(index):
            values = _values(images[index], None, self.color_space, data_range, caller)
            weights = np.ones(len(values)) if sample_weight is None else sample_weight[index]
            return _distinct(values, weights.ravel().astype(float, copy=False))

        parts = map_items(distinct, range(len(images)))
        values, weights = (np.concatenate(column) for column in zip(*parts, strict=True))
        if len(values) == 0:
            raise ValueError(
                f"{caller}: sample_weight is 0 everywhere: give some pixels a weight above 0."
            )
        if len(parts) > 1:
            values, weights = _distinct(values, weights)
        self.cluster_centers_, self.inertia_, self.n_iter_ = _cluster(
            values,
            weights,
            self.n_clusters,
            self.init,
            self.max_iter,
            self.tol,
            self.random_state,
            caller,
        )
        self.data_range_ = data_range

    def _predict(self, image, mask, prompts):
        values = _values(image, mask, self.color_space, self.data_range_, self._caller)
        return _nearest_labels(values, self.cluster_centers_, mask, image.shape[:-1])

    def _set_state(self, state: dict[str, Any]) -> None:
        names = {"cluster_centers_", "inertia_", "n_iter_", "data_range_", "n_channels_"}
        if not isinstance(state, dict) or set(state) != names:
            raise ValueError(f"its state is not that of a {self._caller}")
        centers = state["cluster_centers_"]
        n_channels = check_int(self._caller, "n_channels_", state["n_channels_"], low=1)
        if (
            not isinstance(centers, np.ndarray)
            or centers.dtype != np.float64
            or centers.ndim != 2
            or not 1 <= len(centers) <= self.n_clusters
            or centers.shape[1] != n_channels
            or not np.isfinite(centers).all()
        ):
            raise ValueError("its cluster centres are not finite float64 of shape (k, C)")
        check_real(self._caller, "inertia_", state["inertia_"], low=0)
        check_int(self._caller, "n_iter_", state["n_iter_"], low=1)
        if self.color_space == "lab":
            check_real(self._caller, "data_range_", state["data_range_"], above=0)
        elif state["data_range_"] is not None:
            raise ValueError("its data_range_ is set, but its color_space is 'rgb'")
        vars(self).update(state)
