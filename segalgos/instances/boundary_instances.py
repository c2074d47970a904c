"""Instances from any semantic segmenter that has learned their borders as a class."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from sklearn.base import clone
from sklearn.utils import check_random_state

from segalgos import checks
from segalgos.base import Segmenter, SemanticSegmenter, Traits
from segalgos.instances.borders import find_borders, gap_weights, split_foreground
from segalgos.metrics.instances import instance_counts
from segalgos.parallel import map_items
from segalgos.results import Instances

__all__ = ["BoundaryInstanceSegmenter"]

BACKGROUND = 0  # class ids that the semantic segmenter sees; the insides have 1..K
AUTO = "auto"

#: Values tried for each parameter that is "auto", in this order, the usual one first: of two
#: that do as well the earlier is taken.
CANDIDATES: dict[str, tuple[float, ...]] = {
    "marker_threshold": (0.5, 0.4, 0.6, 0.3, 0.7, 0.8),
    "foreground_threshold": (0.5, 0.4, 0.6, 0.3, 0.7),
    "min_contrast": (0.1, 0.05, 0.2, 0.3),
    "sigma": (1.0, 0.5, 2.0, 0.0),
}
MAX_TUNING_IMAGES = 32
TUNING_ROUNDS = 2
TUNED_IOU = 0.5


class _Evidence(NamedTuple):
    """What a semantic segmenter says of an image."""

    insides: NDArray[np.float32]  # (H, W, K)
    foreground: NDArray[np.float32]  # (H, W)

    @property
    def inside(self) -> NDArray[np.float32]:
        """Of any class."""
        return self.insides.sum(axis=-1)


class BoundaryInstanceSegmenter(Segmenter):
    """Find objects one by one by learning their borders, with any semantic segmenter.

    The true instances become classes for it: background, the inside of instances (one class
    for each of theirs) and their border. In its probabilities every peak of "inside" is an
    instance, and a watershed gives it its part of the foreground.

    Parameters
    ----------
    estimator : SemanticSegmenter, optional
        What learns the classes; it is cloned, its ``channel_axis`` replaced. If left out, a
        `UNetSegmenter` of 16 channels that standardises each image alone, which needs the
        extra [torch].
    border_width : int, default=1
        Width of an instance's border, in pixels, all of it inside. Where instances are small
        a wide border leaves nothing within.
    max_gap : int, optional
        Learn a border only where another instance is at most `border_width` plus so many
        pixels away: 0 for instances that touch. None: their whole outline.
    gap_weight : float, default=0.0
        Additional weight of pixels where two instances touch; it falls as the gap between
        them widens [2]_. 10 in the paper.
    gap_sigma : float, default=5.0
        In pixels, how fast it falls.
    foreground_threshold : float or "auto", default="auto"
        Least probability of inside and border together for a pixel of an instance.
    marker_threshold : float or "auto", default="auto"
        Least probability of inside that some pixel of an instance has.
    min_contrast : float or "auto", default="auto"
        Two peaks are two instances if the probability of inside, smoothed, falls at least
        this much between them. Smaller: more instances.
    sigma : float or "auto", default="auto"
        Standard deviation, in pixels, of that smoothing.
    min_size : int or "auto", default="auto"
        Smaller instances, in pixels, are left out. "auto" is half of what all but one in a
        hundred of the training instances have.
    validation_fraction : float, default=0.0
        Share of the images that the estimator does not learn from, to choose values for
        "auto" on. 0 chooses them on the images it learned from, which is good enough for
        a network trained with augmentation.
    channel_axis : int, None or "auto", default="auto"
    random_state : int, RandomState or None, default=None
        Also seeds the estimator if its own ``random_state`` is None.

    Attributes
    ----------
    classes_ : (K,) int32
        Of the instances, sorted.
    estimator_ : SemanticSegmenter
        Fitted: 0 is background, 1 to K the insides of ``classes_`` in their order, K + 1
        the border.
    foreground_threshold_, marker_threshold_, min_contrast_, sigma_ : float
        As given or chosen.
    min_size_ : int
    tuning_score_ : float
        TP / (TP + FP + FN) at an IoU of 0.5 on the images that they were chosen on, all
        classes alike; NaN if nothing was to be chosen.

    See Also
    --------
    segalgos.metrics.instance_scores : How well instances are found.

    Notes
    -----
    Values for "auto" maximise ``tuning_score_``, one parameter after another over a few
    values each, in two rounds, on 32 images at most.

    The score of an instance is the mean probability of inside and border over its pixels,
    its class the most probable inside there. Instances do not overlap; of the training
    instances, the one of higher score has the pixels that two share.

    References
    ----------
    .. [1] J. Caicedo et al., "Evaluation of deep learning strategies for nucleus segmentation
       in fluorescence images", Cytometry A 95, 952-965, 2019.
    .. [2] O. Ronneberger, P. Fischer and T. Brox, "U-Net: convolutional networks for
       biomedical image segmentation", MICCAI 2015, arXiv:1505.04597, eq. (2).

    Examples
    --------
    >>> import numpy as np
    >>> from segalgos import BoundaryInstanceSegmenter, Instances, RandomForestSegmenter
    >>> image = np.zeros((30, 50)); image[8:22, 5:20] = 1; image[8:22, 21:40] = 1
    >>> labels = np.zeros((30, 50), int); labels[8:22, 5:20] = 1; labels[8:22, 21:40] = 2
    >>> forest = RandomForestSegmenter(20, scales=[1, 2], random_state=0)
    >>> segmenter = BoundaryInstanceSegmenter(forest)
    >>> found = segmenter.fit(image, Instances.from_labels(labels)).predict(image)
    >>> len(found)
    2
    """

    traits = Traits(
        task="instance",
        family="instances",
        year=2019,
        needs_fit=True,
        needs_labels=True,
        takes_sample_weight=True,
        deterministic=False,
        keeps_uint8=True,
    )

    def __init__(
        self,
        estimator: SemanticSegmenter | None = None,
        *,
        border_width: int = 1,
        max_gap: int | None = None,
        gap_weight: float = 0.0,
        gap_sigma: float = 5.0,
        foreground_threshold: float | str = "auto",
        marker_threshold: float | str = "auto",
        min_contrast: float | str = "auto",
        sigma: float | str = "auto",
        min_size: int | str = "auto",
        validation_fraction: float = 0.0,
        channel_axis: int | str | None = "auto",
        random_state: Any = None,
    ):
        self.estimator = estimator
        self.border_width = border_width
        self.max_gap = max_gap
        self.gap_weight = gap_weight
        self.gap_sigma = gap_sigma
        self.foreground_threshold = foreground_threshold
        self.marker_threshold = marker_threshold
        self.min_contrast = min_contrast
        self.sigma = sigma
        self.min_size = min_size
        self.validation_fraction = validation_fraction
        self.channel_axis = channel_axis
        self.random_state = random_state

    @classmethod
    def small(cls):
        """Make one with a small random forest.

        Returns
        -------
        BoundaryInstanceSegmenter
        """
        from segalgos.pixels.random_forest import RandomForestSegmenter

        return cls(RandomForestSegmenter.small(), random_state=0)

    def _check_params(self):
        caller = self._caller
        if isinstance(self.estimator, type):
            name = self.estimator.__name__
            raise TypeError(
                f"{caller}: estimator is the class {name}, expected an instance: pass {name}()."
            )
        if self.estimator is not None:
            if not isinstance(self.estimator, SemanticSegmenter):
                raise TypeError(
                    f"{caller}: estimator is a {type(self.estimator).__name__}, expected a "
                    "semantic segmenter, for instance UNetSegmenter()."
                )
            self.estimator._check_params()
        checks.check_int(caller, "border_width", self.border_width, low=1)
        if self.max_gap is not None:
            checks.check_int(caller, "max_gap", self.max_gap, low=0)
        checks.check_real(caller, "gap_weight", self.gap_weight, low=0)
        checks.check_real(caller, "gap_sigma", self.gap_sigma, above=0)
        for name, high in (
            ("foreground_threshold", 1),
            ("marker_threshold", 1),
            ("min_contrast", 1),
            ("sigma", None),
        ):
            if not self._is_auto(name):
                checks.check_real(caller, name, getattr(self, name), low=0, high=high)
        if not self._is_auto("min_size"):
            checks.check_int(caller, "min_size", self.min_size, low=0)
        checks.check_real(caller, "validation_fraction", self.validation_fraction, low=0, high=0.9)

    def _is_auto(self, name: str) -> bool:
        value = getattr(self, name)
        return isinstance(value, str) and value == AUTO

    # --- fit -----------------------------------------------------------------------------

    def _fit(self, images, labels, sample_weight):
        rng = check_random_state(self.random_state)
        crowds = [instances.masks[instances.crowd].any(axis=0) for instances in labels]
        labels = [instances[~instances.crowd] for instances in labels]
        id_maps = [instances.to_labels() for instances in labels]
        unknown = [crowd & (ids == 0) for crowd, ids in zip(crowds, id_maps, strict=True)]
        self.classes_ = np.unique(
            np.concatenate(
                [i.classes[np.unique(m[m > 0]) - 1] for i, m in zip(labels, id_maps, strict=True)]
            )
        ).astype(np.int32)
        if len(self.classes_) == 0:
            raise ValueError(
                f"{self._caller}: labels hold no instance in any image: pass some with instances."
            )
        learning, held_out = self._split(len(images), rng)
        self.estimator_ = self._new_estimator(rng)
        if sample_weight is not None or self.gap_weight > 0:
            weights = [
                self._weights(id_maps[i], None if sample_weight is None else sample_weight[i])
                for i in learning
            ]
        else:
            weights = None
        self.estimator_.fit(
            [images[i] for i in learning],
            [self._class_map(id_maps[i], labels[i].classes, unknown[i]) for i in learning],
            sample_weight=weights,
        )
        if self._is_auto("min_size"):
            areas = np.concatenate([np.bincount(m.ravel())[1:] for m in id_maps])
            self.min_size_ = int(np.percentile(areas[areas > 0], 1) / 2)
        else:
            self.min_size_ = int(self.min_size)
        chosen_on = held_out or learning
        truths = [np.where(unknown[i], -1, id_maps[i]) for i in chosen_on]
        self._choose_thresholds([images[i] for i in chosen_on], truths)

    def _split(self, n: int, rng: np.random.RandomState) -> tuple[list[int], list[int]]:
        """Indices of the images to learn from and of those to choose values on."""
        if self.validation_fraction == 0:
            return list(range(n)), []
        if n < 2:
            raise ValueError(
                f"{self._caller}: validation_fraction is {self.validation_fraction}, but there is "
                "one image: pass more, or 0."
            )
        order = rng.permutation(n)
        n_held_out = min(max(1, round(self.validation_fraction * n)), n - 1)
        return sorted(order[n_held_out:].tolist()), sorted(order[:n_held_out].tolist())

    def _new_estimator(self, rng: np.random.RandomState) -> SemanticSegmenter:
        if self.estimator is None:
            from segalgos.catalog import get_segmenter

            estimator = get_segmenter("unet")(
                base_channels=16, padding="same", dropout=0.0, standardize="image"
            )
        else:
            estimator = clone(self.estimator)
        params = estimator.get_params(deep=False)
        if "random_state" in params and params["random_state"] is None:
            estimator.set_params(random_state=rng.randint(np.iinfo(np.int32).max))
        return estimator.set_params(channel_axis=-1)  # as images come to `_fit`

    def _class_map(
        self, ids: NDArray[np.int32], classes: NDArray[np.int32], unknown: NDArray[np.bool_]
    ) -> NDArray[np.int32]:
        """What the estimator learns: background, insides by class, border; -1 in crowds."""
        inside = np.searchsorted(self.classes_, classes) + 1
        labels = np.append(BACKGROUND, inside).astype(np.int32)[ids]
        labels[find_borders(ids, self.border_width, max_gap=self.max_gap)] = self._border
        labels[unknown] = -1
        return labels

    @property
    def _border(self) -> int:
        return len(self.classes_) + 1

    def _weights(
        self, ids: NDArray[np.int32], given: NDArray[np.float32] | None
    ) -> NDArray[np.float32]:
        if self.gap_weight == 0:
            return given
        weights = gap_weights(ids, self.gap_weight, self.gap_sigma)
        return weights if given is None else weights * given

    def _choose_thresholds(self, images: list[NDArray], truths: list[NDArray[np.int32]]) -> None:
        """Set what is "auto", one after another, to what finds the true instances best."""
        open_ = [name for name in CANDIDATES if self._is_auto(name)]
        for name, (usual, *_) in CANDIDATES.items():
            value = usual if self._is_auto(name) else getattr(self, name)
            setattr(self, f"{name}_", float(value))
        self.tuning_score_ = float("nan")
        if not open_:
            return
        n = min(MAX_TUNING_IMAGES, len(images))
        chosen = np.linspace(0, len(images) - 1, n).round().astype(int)
        evidence = [self._evidence(images[i]) for i in chosen]
        evidence = [(one.inside, one.foreground) for one in evidence]

        def score(**changes: float) -> float:
            def count(i: int) -> NDArray[np.int64]:
                found = self._split_foreground(*evidence[i], **changes)
                return instance_counts(found, truths[chosen[i]], (TUNED_IOU,))[0][0]

            true, false, missed = np.sum(map_items(count, range(n)), axis=0)
            return float(true / max(1, true + false + missed))

        self.tuning_score_ = score()
        for name in TUNING_ROUNDS * open_:
            for value in CANDIDATES[name]:
                reached = score(**{name: value})
                if reached > self.tuning_score_:
                    self.tuning_score_ = reached
                    setattr(self, f"{name}_", float(value))

    # --- predict -------------------------------------------------------------------------

    def _evidence(self, image: NDArray) -> _Evidence:
        proba = self.estimator_.predict_proba(image)
        known = self.estimator_.classes_.tolist()  # no border, where none was to be learned
        insides = np.zeros((*proba.shape[:2], len(self.classes_)), np.float32)
        for k in range(len(self.classes_)):
            if k + 1 in known:
                insides[..., k] = proba[..., known.index(k + 1)]
        foreground = insides.sum(axis=-1)
        if self._border in known:
            foreground += proba[..., known.index(self._border)]
        return _Evidence(insides, foreground)

    def _split_foreground(
        self,
        inside: NDArray[np.float32],
        foreground: NDArray[np.float32],
        mask: NDArray[np.bool_] | None = None,
        **changes: float,
    ) -> NDArray[np.int32]:
        thresholds = {name: getattr(self, f"{name}_") for name in CANDIDATES}
        return split_foreground(
            inside, foreground, **{**thresholds, **changes}, min_size=self.min_size_, mask=mask
        )

    def _predict(self, image, mask, prompts):
        evidence = self._evidence(image)
        ids = self._split_foreground(evidence.inside, evidence.foreground, mask)
        n, flat = int(ids.max()), ids.ravel()

        def total(values: NDArray[np.float32]) -> NDArray[np.float64]:
            return np.bincount(flat, values.ravel(), minlength=n + 1)[1:]

        scores = np.minimum(total(evidence.foreground) / np.bincount(flat, minlength=n + 1)[1:], 1)
        votes = np.stack([total(evidence.insides[..., k]) for k in range(len(self.classes_))])
        return Instances(
            ids == np.arange(1, n + 1)[:, None, None],
            scores=scores,
            classes=self.classes_[votes.argmax(axis=0)],
        )

    # --- state ---------------------------------------------------------------------------

    def _set_state(self, state):
        caller = self._caller
        estimator, classes = state["estimator_"], state["classes_"]
        if not isinstance(estimator, SemanticSegmenter) or not estimator.__sklearn_is_fitted__():
            raise ValueError(f"{caller}: estimator_ is no fitted semantic segmenter.")
        if classes.ndim != 1 or classes.dtype != np.int32 or (np.diff(classes) <= 0).any():
            raise ValueError(f"{caller}: classes_ is not a sorted list of class ids.")
        if estimator.n_channels_ != checks.check_int(
            caller, "n_channels_", state["n_channels_"], low=1
        ):
            raise ValueError(f"{caller}: estimator_ was fitted on another number of channels.")
        for name in CANDIDATES:
            checks.check_real(caller, f"{name}_", state[f"{name}_"], low=0)
        checks.check_int(caller, "min_size_", state["min_size_"], low=0)
        super()._set_state(state)
