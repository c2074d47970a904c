"""Which image to label next: where a segmenter is unsure, and what was not seen yet."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.spatial.distance import cdist
from sklearn.utils import check_random_state

from segalgos.checks import check_choice, check_image, check_int, check_real, is_batch
from segalgos.pixels.features import pixel_features

__all__ = ["MEASURES", "METHODS", "describe_images", "propose", "uncertainty_map", "uncertainty_of"]

METHODS = ("both", "uncertainty", "coverage", "diversity", "random")
MEASURES = ("entropy", "margin", "confidence")

LONGER_SIDE = 96  # pixels of the copy of an image that is described
SCALES = (1, 2, 4)  # of its features, in pixels of the copy


# --- uncertainty -------------------------------------------------------------------------


def uncertainty_map(segmenter: Any, images: Any, *, measure: str = "entropy") -> Any:
    """Show where a segmenter is unsure.

    Parameters
    ----------
    segmenter : SemanticSegmenter
        A fitted one: anything with ``predict_proba``.
    images : array_like or sequence of array_like
        One image or many; sizes may differ.
    measure : {"entropy", "margin", "confidence"}, default="entropy"
        Of the classes' probabilities p [1]_: their entropy, by the largest that it can be; how
        little the two largest differ, ``1 - (p1 - p2)``; or how far the largest is from 1,
        ``(1 - p1) K / (K - 1)``.

    Returns
    -------
    (H, W) float32, or a list of these
        0 where it is sure, 1 where all classes (with "margin" two) are alike. All 0 if it knows
        but one class.

    Raises
    ------
    TypeError
        If the segmenter gives no probabilities.
    ValueError
        If there is no such measure, or an image is not as the segmenter expects.
    sklearn.exceptions.NotFittedError
        If it has not been fitted.

    See Also
    --------
    propose : The image that is most worth labelling.

    References
    ----------
    .. [1] B. Settles, "Active learning literature survey", Computer Sciences Technical Report
       1648, University of Wisconsin-Madison, 2009, section 3.1.

    Examples
    --------
    >>> import numpy as np
    >>> from segalgos import RandomForestSegmenter
    >>> from segalgos.annotation.proposals import uncertainty_map
    >>> image = np.linspace(0, 1, 20)[None].repeat(20, axis=0)
    >>> scribbles = np.full((20, 20), -1); scribbles[5, :3] = 0; scribbles[5, -3:] = 1
    >>> segmenter = RandomForestSegmenter(50, features=["gaussian"], scales=[1], random_state=0)
    >>> unsure = uncertainty_map(segmenter.fit(image, scribbles), image)
    >>> bool(unsure[:, 9:11].mean() > unsure[:, :2].mean())
    True
    """
    caller = "uncertainty_map"
    check_choice(caller, "measure", measure, MEASURES)
    _check_segmenter(caller, segmenter)
    if is_batch(images, caller):
        return [uncertainty_of(segmenter.predict_proba(image), measure) for image in images]
    return uncertainty_of(segmenter.predict_proba(images), measure)


def _check_segmenter(caller: str, segmenter: Any) -> None:
    if not callable(getattr(segmenter, "predict_proba", None)):
        raise TypeError(
            f"{caller}: segmenter is {type(segmenter).__name__}, expected one with predict_proba: "
            "take a semantic segmenter, for instance RandomForestSegmenter."
        )


def uncertainty_of(proba: NDArray[np.floating], measure: str = "entropy") -> NDArray[np.float32]:
    """Show where probabilities are unsure, as `uncertainty_map`.

    Parameters
    ----------
    proba : (H, W, K) float
    measure : {"entropy", "margin", "confidence"}, default="entropy"

    Returns
    -------
    (H, W) float32
    """
    n_classes = proba.shape[-1]
    if n_classes == 1:
        return np.zeros(proba.shape[:-1], np.float32)
    if measure == "entropy":
        logs = np.log(np.maximum(proba, np.finfo(np.float32).tiny))
        unsure = -(proba * logs).sum(axis=-1) / np.log(n_classes)
    else:
        two = np.partition(proba, n_classes - 2, axis=-1)[..., -2:]  # the second, then the first
        if measure == "margin":
            unsure = 1 - (two[..., 1] - two[..., 0])
        else:
            unsure = (1 - two[..., 1]) * (n_classes / (n_classes - 1))
    return np.clip(unsure, 0, 1).astype(np.float32)


def _least_sure(unsure: NDArray[np.float32], share: float) -> float:
    """Mean over the least sure pixels, a share of all."""
    values = unsure.ravel()
    n = max(1, round(share * values.size))
    return float(np.partition(values, values.size - n)[values.size - n :].mean(dtype=np.float64))


# --- diversity ---------------------------------------------------------------------------


def describe_images(
    images: Sequence[ArrayLike], *, channel_axis: int | str | None = "auto"
) -> NDArray[np.float32]:
    """Describe what images look like, each by one vector.

    Parameters
    ----------
    images : sequence of array_like
        Of any sizes, but with the same number of channels. They are looked at one by one.
    channel_axis : int, None or "auto", default="auto"
        None for volumes (D, H, W), -1 for many channels.

    Returns
    -------
    (N, D) float32
        Mean and standard deviation of each of the `segalgos.pixel_features` over an image.

    Raises
    ------
    TypeError, ValueError
        If an image is not as expected, or they differ in channels.

    Notes
    -----
    An image is first shrunk by averaging square blocks, to a longer side of 96 to 191 pixels if
    it is larger. Intensities count as they are: dark images are unlike bright ones.
    """
    caller = "describe_images"
    _check_images(caller, images)
    found: list[NDArray[np.float32]] = []
    for i in range(len(images)):
        image = check_image(
            images[i], caller, channel_axis=channel_axis, ndims=(2, 3), name=f"images[{i}]"
        )
        features = pixel_features(_shrink(image), SCALES, channel_axis=-1)
        rows = features.reshape(-1, features.shape[-1])
        found.append(np.concatenate([rows.mean(axis=0), rows.std(axis=0)]))
        if len(found[-1]) != len(found[0]):
            raise ValueError(
                f"{caller}: images[{i}] has {image.shape[-1]} channels, expected as many as "
                "images[0] has: convert them, for instance grey to colour."
            )
    return np.stack(found).astype(np.float32)


def _check_images(caller: str, images: Any) -> None:
    if not is_batch(images, caller):
        raise ValueError(f"{caller}: images is one image, expected a list: pass [image].")


def _shrink(image: NDArray[np.float32]) -> NDArray[np.float32]:
    """Averages of square blocks; a rest beyond the last block is left out."""
    step = max(image.shape[:-1]) // LONGER_SIDE
    for axis in range(image.ndim - 1):
        wide = min(max(step, 1), image.shape[axis])
        n_blocks = image.shape[axis] // wide
        whole = np.take(image, range(n_blocks * wide), axis)
        shape = (*whole.shape[:axis], n_blocks, wide, *whole.shape[axis + 1 :])
        image = whole.reshape(shape).mean(axis=axis + 1)
    return image


def _standardise(descriptors: NDArray[np.float64]) -> NDArray[np.float64]:
    """Bring all columns to mean 0 and deviation 1; constant ones to 0."""
    spread = descriptors.std(axis=0)
    return (descriptors - descriptors.mean(axis=0)) / np.where(spread > 0, spread, np.inf)


# --- the proposal ------------------------------------------------------------------------


def propose(
    segmenter: Any,
    images: Sequence[ArrayLike],
    *,
    method: str = "both",
    n: int | None = 1,
    labelled: Sequence[int] = (),
    measure: str = "entropy",
    share: float = 1.0,
    descriptors: ArrayLike | None = None,
    max_candidates: int | None = None,
    channel_axis: int | str | None = "auto",
    random_state: Any = None,
) -> NDArray[np.intp]:
    """Propose which images to label next.

    Parameters
    ----------
    segmenter : SemanticSegmenter or None
        One that was fitted on what is labelled so far: a pixel classifier, a net, anything with
        ``predict_proba``. None while nothing is labelled.
    images : sequence of array_like
        All images, labelled ones too. They are read one by one, or only counted where there are
        `descriptors` and no segmenter.
    method : {"both", "uncertainty", "coverage", "diversity", "random"}, default="both"
        What makes an image worth labelling: that the segmenter is unsure of it and of those
        that look like it; that it is unsure of the image itself; that many look like it, and
        none of the labelled ones; that it is unlike all the labelled ones; or nothing.
    n : int or None, default=1
        How many to propose; None for all that are not labelled.
    labelled : sequence of int, optional
        Places of the images that are labelled or are to be left out otherwise.
    measure : {"entropy", "margin", "confidence"}, default="entropy"
        Uncertainty of a pixel, see `uncertainty_map`.
    share : float, default=1.0
        Uncertainty is averaged over this part of an image's pixels, the least sure ones.
    descriptors : (N, D) array_like, optional
        What the images look like, as `describe_images` gives it, to be computed only once; or
        other features, of a net for instance.
    max_candidates : int, optional
        Look at so many unlabelled images only, drawn at random, to bound the time.
    channel_axis : int, None or "auto", default="auto"
        As the segmenter's, where images are described.
    random_state : int, RandomState instance or None, default=None
        For "random" and `max_candidates`; all else is deterministic.

    Returns
    -------
    (n,) intp
        Places of the images, the one to be labelled first first.

    Raises
    ------
    TypeError
        If the segmenter gives no probabilities.
    ValueError
        If an argument or an image is not as expected, `method` is "uncertainty" without a
        segmenter, or fewer than `n` images are left.

    See Also
    --------
    uncertainty_map : Where in an image.

    Notes
    -----
    With d the distance to the nearest labelled or proposed image, labelling an image lowers
    d of those that look like it. "coverage" takes the image that lowers the sum of d most,
    greedy facility location [1]_. "both" weighs each d by how unsure the segmenter is of
    that image: a way of information density [2]_. "diversity" takes the image whose own d is
    largest, the greedy 2-approximation of k-centres that core-set selection begins with [3]_
    [4]_; it finds outliers first. Of equals the one that covers more is taken, then the
    earlier. With nothing labelled all three begin with the most central image.

    Distances are Euclidean between descriptors whose columns were brought to mean 0 and
    deviation 1. Core-set selection takes features of the net that is trained; here they are
    features of the image, which need no net, and are the same whatever was learned.

    "uncertainty" [2]_ proposes images that are alike when several are asked for, and those that
    nobody could label.

    With "both" and no segmenter all images count alike: it is "coverage" then.

    A prediction for each candidate with "both" and "uncertainty"; O(N**2 (n + D)) time and
    O(N**2) memory for N candidates with all but "uncertainty" and "random".

    References
    ----------
    .. [1] K. Wei, R. Iyer and J. Bilmes, "Submodularity in data subset selection and active
       learning", ICML 2015.
    .. [2] B. Settles, "Active learning literature survey", Computer Sciences Technical Report
       1648, University of Wisconsin-Madison, 2009.
    .. [3] T. Gonzalez, "Clustering to minimize the maximum intercluster distance", Theoretical
       Computer Science 38, 293-306, 1985.
    .. [4] O. Sener and S. Savarese, "Active learning for convolutional neural networks: a
       core-set approach", ICLR 2018, arXiv:1708.00489.

    Examples
    --------
    >>> import numpy as np
    >>> from segalgos.annotation.proposals import propose
    >>> rng = np.random.default_rng(0)
    >>> images = [rng.normal(0, noise, (16, 16)) for noise in (1, 1, 9, 9, 9)]
    >>> int(propose(None, images, labelled=[0])[0]) in (2, 3, 4)
    True
    """
    caller = "propose"
    check_choice(caller, "method", method, METHODS)
    check_choice(caller, "measure", measure, MEASURES)
    check_real(caller, "share", share, above=0, high=1)
    if descriptors is None or segmenter is not None:
        _check_images(caller, images)
    if segmenter is None and method == "uncertainty":
        raise ValueError(
            f"{caller}: segmenter is None, but method is 'uncertainty', expected a fitted one: "
            "label an image that method='coverage' proposes and fit one on it."
        )
    if segmenter is not None:
        _check_segmenter(caller, segmenter)
    rng = check_random_state(random_state)
    labelled = _check_places(caller, labelled, len(images))
    candidates = np.setdiff1d(np.arange(len(images)), labelled)
    if max_candidates is not None:
        check_int(caller, "max_candidates", max_candidates, low=1)
        if max_candidates < len(candidates):
            candidates = np.sort(rng.choice(candidates, max_candidates, replace=False))
    n = len(candidates) if n is None else check_int(caller, "n", n, low=1)
    if n > len(candidates):
        raise ValueError(
            f"{caller}: n is {n}, but {len(candidates)} images are to choose from: pass n=None for "
            "all of them."
        )
    if method == "random":
        return rng.permutation(candidates)[:n].astype(np.intp)
    unsure = np.ones(len(images))
    if method in ("both", "uncertainty") and segmenter is not None:
        for i in candidates.tolist():
            unsure[i] = _least_sure(
                uncertainty_of(segmenter.predict_proba(images[i]), measure), share
            )
    if method == "uncertainty":
        return candidates[np.argsort(-unsure[candidates], kind="stable")][:n]
    descriptors = _check_descriptors(caller, descriptors, images, channel_axis)
    return _spread(descriptors, unsure, candidates, labelled, n, farthest=method == "diversity")


def _check_places(caller: str, labelled: Any, n_images: int) -> NDArray[np.intp]:
    places = np.asarray(labelled)
    if places.ndim != 1 or (places.size and places.dtype.kind not in "iu"):
        raise TypeError(
            f"{caller}: labelled is {labelled!r}, expected places of images, like [0, 4]: pass "
            "those of the images that are labelled."
        )
    if places.size and (places.min() < 0 or places.max() >= n_images):
        raise ValueError(
            f"{caller}: labelled holds {places.min()} to {places.max()}, expected places from 0 to "
            f"{n_images - 1}."
        )
    return np.unique(places).astype(np.intp)


def _check_descriptors(
    caller: str, descriptors: Any, images: Any, channel_axis: Any
) -> NDArray[np.float64]:
    if descriptors is None:
        descriptors = describe_images(images, channel_axis=channel_axis)
    found = np.asarray(descriptors, np.float64)
    if found.ndim != 2 or len(found) != len(images) or not np.isfinite(found).all():
        raise ValueError(
            f"{caller}: descriptors has shape {found.shape}, expected ({len(images)}, D), all "
            "finite: pass describe_images(images)."
        )
    return found


def _spread(
    descriptors: NDArray[np.float64],
    unsure: NDArray[np.float64],
    candidates: NDArray[np.intp],
    labelled: NDArray[np.intp],
    n: int,
    *,
    farthest: bool,
) -> NDArray[np.intp]:
    """Choose n candidates: the farthest ones, or those that bring the unsure ones nearest."""
    vectors = _standardise(descriptors)
    apart = cdist(vectors[candidates], vectors[candidates])
    if len(labelled):
        near = cdist(vectors[candidates], vectors[labelled]).min(axis=1)
    else:
        near = np.full(len(candidates), apart.max())  # all alike
    weights = unsure[candidates]
    left, chosen = np.ones(len(candidates), bool), []
    while len(chosen) < n:
        nearer = np.maximum(near[:, None] - apart, 0)  # by how much a choice brings each one
        covered = nearer.sum(axis=0)
        if farthest:
            worth = near if len(labelled) or chosen else covered
        else:
            worth = weights @ nearer
        order = np.lexsort((-covered, -worth))
        best = order[left[order]][0]
        left[best] = False
        chosen.append(best)
        near = np.minimum(near, apart[best])
    return candidates[chosen]
