"""k-means clustering of colours."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.utils import check_random_state

from segalgos.base import Segmenter, Traits
from segalgos.checks import (
    check_choice,
    check_image,
    check_int,
    check_mask,
    check_real,
    check_weight,
)
from segalgos.clustering._lloyd import lloyd, nearest_centers, plus_plus
from segalgos.clustering._values import (
    check_space,
    clustering_values,
    join_values,
    without_gaps,
)
from segalgos.color import data_range_of
from segalgos.parallel import map_items

__all__ = ["KMeansSegmenter", "kmeans"]

WEIGHT_SOME = "give some pixels a weight above 0."


def _check_parameters(
    caller, n_clusters, init, color_space, spatial_weight, data_range, max_iter, tol
):
    check_int(caller, "n_clusters", n_clusters, low=1)
    check_space(caller, color_space, data_range, spatial_weight)
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


def _cluster(values, weights, n_clusters, init, max_iter, tol, random_state, caller):
    """Cluster weighted values (n, C); see `lloyd` for what it gives."""
    if isinstance(init, str):
        centers = plus_plus(values, weights, n_clusters, check_random_state(random_state))
    else:
        centers = np.array(init, np.float64)
        if centers.shape[1] != values.shape[1]:
            raise ValueError(
                f"{caller}: init has {centers.shape[1]} channels, the image has "
                f"{values.shape[1]} (with spatial_weight one for each axis more): pass centres "
                "in the image's channels."
            )
    return lloyd(values, weights, centers, max_iter, tol)


def kmeans(
    image: ArrayLike,
    n_clusters: int = 8,
    *,
    init: str | ArrayLike = "k-means++",
    color_space: str = "rgb",
    spatial_weight: float = 0.0,
    data_range: float | None = None,
    max_iter: int = 100,
    tol: float = 1e-4,
    sample_weight: ArrayLike | None = None,
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
        them to CIE Lab. Given centres are in this space, with `spatial_weight` followed by
        row and column (slice, row and column) in its units.
    spatial_weight : float, default=0.0
        Above 0 the places of pixels count too: the distance of two that are the image's
        longest side apart is this many times the distance of white from 0 in one channel
        (in Lab: of 100).
    data_range : float, optional
        Value of white, used by "lab" and `spatial_weight` alone; found by
        `segalgos.color.data_range_of` if None.
    max_iter : int, default=100
    tol : float, default=1e-4
        Stop when the centres' squared moves add up to less than this part of the channels'
        mean variance, or when no pixel changes its cluster.
    sample_weight : float or array_like, optional
        Weight of each pixel, at least 0; ones if None. Pixels of weight 0 are labelled,
        but have no influence.
    mask : array_like of bool, optional
        True where pixels are to be segmented; all others get -1 and have no influence.
    channel_axis : int, None or "auto", default="auto"
        Which axis holds the channels; None for a grey image or volume.
    random_state : int, RandomState or None, default=None
        Seed of k-means++.

    Returns
    -------
    (H, W) or (D, H, W) int32
        Ids 0..n-1 in the order of the centres. A cluster may lie in many places.

    Notes
    -----
    Lloyd's iterations in float64, exactly scikit-learn's result from the same centres, but
    computed on the distinct colours of an 8-bit image with their counts, and by filtering
    [3]_: near colours share a box, and a box that lies in one cluster is assigned as a
    whole. O(n_pixels) time to count and to label, O(n_distinct * n_clusters * C) an
    iteration at worst. A cluster that loses all its pixels is moved to the colour farthest
    from its centre, with all pixels of that colour (scikit-learn: one of them). The same
    seed gives the same labels for any dtype and number of threads.

    References
    ----------
    .. [1] S. Lloyd, "Least squares quantization in PCM", IEEE Trans. Inf. Theory 28(2),
       129-137, 1982.
    .. [2] D. Arthur and S. Vassilvitskii, "k-means++: the advantages of careful seeding",
       Symposium on Discrete Algorithms, 1027-1035, 2007.
    .. [3] T. Kanungo et al., "An efficient k-means clustering algorithm: analysis and
       implementation", IEEE Trans. PAMI 24(7), 881-892, 2002.

    Examples
    --------
    >>> from segalgos import kmeans
    >>> kmeans([[0, 1, 9], [1, 0, 8]], n_clusters=2, init=[[0], [9]])
    array([[0, 0, 1],
           [0, 0, 1]], dtype=int32)
    """
    caller = "kmeans"
    _check_parameters(
        caller, n_clusters, init, color_space, spatial_weight, data_range, max_iter, tol
    )
    image = check_image(image, caller, channel_axis=channel_axis, ndims=(2, 3), keep_uint8=True)
    shape = image.shape[:-1]
    if mask is not None:
        mask = check_mask(mask, shape, caller)
    groups, _ = clustering_values(image, mask, color_space, data_range, spatial_weight, caller)
    weights = groups.counts
    if sample_weight is not None:
        weights = groups.totals(check_weight(sample_weight, shape, caller).ravel())
    if not weights.any():
        if mask is not None and not mask.any():
            return np.full(shape, -1, np.int32)
        raise ValueError(f"{caller}: sample_weight is 0 everywhere: {WEIGHT_SOME}")
    _, labels, _, _ = _cluster(
        groups.values, weights, n_clusters, init, max_iter, tol, random_state, caller
    )
    return groups.expand(without_gaps(labels)).reshape(shape)


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
        them to CIE Lab. All centres are in this space, with `spatial_weight` followed by
        row and column (slice, row and column) in its units.
    spatial_weight : float, default=0.0
        Above 0 the places of pixels count too: the distance of two that are the image's
        longest side apart is this many times the distance of white from 0 in one channel
        (in Lab: of 100).
    data_range : float, optional
        Value of white, used by "lab" and `spatial_weight` alone; if None, found from the
        images given to `fit` by `segalgos.color.data_range_of`, the largest counts.
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
        Value of white that "lab" and `spatial_weight` use.

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
        spatial_weight: float = 0.0,
        data_range: float | None = None,
        max_iter: int = 100,
        tol: float = 1e-4,
        channel_axis: int | str | None = "auto",
        random_state: int | np.random.RandomState | None = None,
    ):
        self.n_clusters = n_clusters
        self.init = init
        self.color_space = color_space
        self.spatial_weight = spatial_weight
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
            self.spatial_weight,
            self.data_range,
            self.max_iter,
            self.tol,
        )

    def _values(self, image, mask, data_range):
        return clustering_values(
            image, mask, self.color_space, data_range, self.spatial_weight, self._caller
        )

    def _fit(self, images, labels, sample_weight):
        data_range = self.data_range
        if data_range is None and (self.color_space == "lab" or self.spatial_weight):
            data_range = max(data_range_of(image) for image in images)

        def weighted_values(index):
            if sample_weight is None:
                groups, _ = self._values(images[index], None, data_range)
                return groups.values, groups.counts
            weight = sample_weight[index]
            groups, _ = self._values(images[index], weight > 0, data_range)
            return groups.values, groups.totals(weight.ravel())

        parts = map_items(weighted_values, range(len(images)))
        values, weights = join_values(*map(list, zip(*parts, strict=True)), self._caller)
        if len(values) == 0:
            raise ValueError(f"{self._caller}: sample_weight is 0 everywhere: {WEIGHT_SOME}")
        self.cluster_centers_, _, self.inertia_, self.n_iter_ = _cluster(
            values,
            weights,
            self.n_clusters,
            self.init,
            self.max_iter,
            self.tol,
            self.random_state,
            self._caller,
        )
        used = self.color_space == "lab" or self.spatial_weight > 0
        self.data_range_ = float(data_range) if used else None

    def _predict(self, image, mask, prompts):
        groups, _ = self._values(image, mask, self.data_range_)
        if groups.values.shape[1] != self.cluster_centers_.shape[1]:
            raise ValueError(
                f"{self._caller}: image has {image.ndim - 1} axes besides the channels, with "
                "spatial_weight it needs as many as those given to fit: pass such images."
            )
        labels = nearest_centers(groups.values, self.cluster_centers_)
        return groups.expand(without_gaps(labels)).reshape(image.shape[:-1])

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
            or centers.shape[1] - n_channels not in ((2, 3) if self.spatial_weight else (0,))
            or not np.isfinite(centers).all()
        ):
            raise ValueError("its cluster centres are not finite float64 of shape (k, C)")
        check_real(self._caller, "inertia_", state["inertia_"], low=0)
        check_int(self._caller, "n_iter_", state["n_iter_"], low=1)
        if self.color_space == "lab" or self.spatial_weight:
            check_real(self._caller, "data_range_", state["data_range_"], above=0)
        elif state["data_range_"] is not None:
            raise ValueError("its data_range_ is set, but neither Lab nor places are used")
        vars(self).update(state)
