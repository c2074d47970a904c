"""The contract: what every segmenter promises, and the checks done for all of them.

An algorithm file derives from `Segmenter` (or `SemanticSegmenter`) and writes hooks
that see one clean array at a time:

=================  ===========================================================
``_check_params``  raise on a bad constructor argument
``_fit``           learn from a list of images; set attributes ending in ``_``
``_predict``       one image in, one label map or `Instances` out
=================  ===========================================================
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_is_fitted

from segalgos import checks
from segalgos.results import Instances, Prompts

__all__ = ["Segmenter", "SemanticSegmenter", "Traits"]

Task = Literal["partition", "semantic", "instance", "interactive"]
TASKS: tuple[str, ...] = ("partition", "semantic", "instance", "interactive")


@dataclass(frozen=True, kw_only=True)
class Traits:
    """What a segmenter can do, for tests, the benchmark and readers.

    Parameters
    ----------
    task : {"partition", "semantic", "instance", "interactive"}
        Decides what ``predict`` gives and what ``fit`` learns from.
    family : str
        Where it lives: "clustering", "graph", "contours", "pixels", "nets" or
        "instances".
    year : int
        Of the paper.
    needs_fit : bool
        ``predict`` before ``fit`` raises ``NotFittedError``.
    needs_labels : bool
        ``fit`` without labels raises ``ValueError``.
    takes_prompts : bool
        ``predict`` takes ``prompts=``.
    takes_mask : bool
        ``predict`` takes ``mask=``.
    takes_sample_weight : bool
        ``fit`` takes ``sample_weight=``.
    ndims : tuple of int
        (2,) for images, (2, 3) for volumes too.
    deterministic : bool
        The result does not depend on ``random_state``.
    keeps_uint8 : bool
        Hooks get uint8 images as they came; all others arrive as float32.
    max_channels : int or None
        Images with more channels are refused, for methods that know what their channels
        mean; None takes any number.
    """

    task: Task
    family: str
    year: int
    needs_fit: bool = False
    needs_labels: bool = False
    takes_prompts: bool = False
    takes_mask: bool = True
    takes_sample_weight: bool = False
    ndims: tuple[int, ...] = (2,)
    deterministic: bool = True
    keeps_uint8: bool = False
    max_channels: int | None = None

    def __post_init__(self):
        if self.task not in TASKS:
            raise ValueError(f"Traits: task is {self.task!r}, expected one of {TASKS}.")
        if not set(self.ndims) <= {2, 3} or not self.ndims:
            raise ValueError(f"Traits: ndims is {self.ndims}, expected (2,), (3,) or (2, 3).")


class Segmenter(BaseEstimator):
    """Base of all segmenters: one contract for every method.

    Subclasses set ``traits``, store constructor arguments untouched (one of them
    ``channel_axis="auto"``) and write the hooks ``_check_params``, ``_fit`` and
    ``_predict``. Everything public here checks its input once and calls them.

    See Also
    --------
    segalgos.conformance.check_segmenter : The checks that every segmenter passes.
    """

    traits: ClassVar[Traits]
    channel_axis: int | str | None = "auto"

    # --- hooks ---------------------------------------------------------------------------

    def _check_params(self) -> None:
        """Raise on a bad constructor argument."""

    def _fit(
        self,
        images: list[NDArray],
        labels: list | None,
        sample_weight: list[NDArray[np.float32]] | None,
    ) -> None:
        """Learn from images (H, W, C); nothing by default."""

    def _predict(
        self, image: NDArray, mask: NDArray[np.bool_] | None, prompts: Prompts | None
    ) -> NDArray[np.int32] | Instances:
        """Segment one image (H, W, C)."""
        raise TypeError(f"{type(self).__name__} has no _predict hook: write one.")

    def _get_state(self) -> dict[str, Any]:
        """What ``fit`` learned, as numbers, text, arrays and containers of these."""
        return {k: v for k, v in vars(self).items() if k.endswith("_") and not k.startswith("_")}

    def _set_state(self, state: dict[str, Any]) -> None:
        """Take up what `_get_state` gave, read back from a file: check it first."""
        odd = [name for name in state if not name.endswith("_") or name.startswith("_")]
        if odd:  # a crafted file might replace parameters or methods
            raise ValueError(f"{self._caller}: {odd} are no learned attributes.")
        vars(self).update(state)

    # --- public --------------------------------------------------------------------------

    @classmethod
    def small(cls) -> Self:
        """Make an instance with tiny parameters, for tests and demos.

        Returns
        -------
        Segmenter
        """
        return cls()

    def fit(self, images: Any, labels: Any = None, *, sample_weight: Any = None) -> Self:
        """Learn from images, and from labels where the method needs them.

        Parameters
        ----------
        images : array_like or sequence of array_like
            One image or many; sizes may differ.
        labels : array_like, Instances or sequence of these, optional
            Semantic: label maps (H, W) of class ids, -1 where unlabelled. Instance:
            `Instances`. Methods that learn without labels ignore them.
        sample_weight : float, array_like or sequence of these, optional
            Weight of each image, or of each pixel (H, W).

        Returns
        -------
        Segmenter
            Itself. After an error it is as it was before.

        Raises
        ------
        ValueError
            If an image, a label map or a parameter is not as expected.
        TypeError
            If something is of another kind than expected.
        """
        with self._as_before_after_an_error():
            self._fit_checked(images, labels, sample_weight)
        return self

    def predict(self, images: Any, *, prompts: Any = None, mask: Any = None) -> Any:
        """Segment one image or many.

        Parameters
        ----------
        images : array_like or sequence of array_like
            One image or many; sizes may differ.
        prompts : Prompts or sequence of Prompts, optional
            For interactive methods.
        mask : array_like of bool or sequence of these, optional
            True where pixels are to be segmented; all others get -1.

        Returns
        -------
        (H, W) int32, Instances, or a list of these
            A list for many images. Partition: ids 0..n-1 without gaps. Semantic: class
            ids. Instance: `Instances`.

        Raises
        ------
        sklearn.exceptions.NotFittedError
            If the method learns and has not been fitted.
        ValueError
            If an image, mask or prompt is not as expected.
        """
        return self._map(self._predict_checked, images, prompts, mask)

    def fit_predict(self, images: Any, labels: Any = None) -> Any:
        """Fit, then segment the same images.

        Parameters
        ----------
        images : array_like or sequence of array_like
        labels : optional
            As in `fit`.

        Returns
        -------
        (H, W) int32, Instances, or a list of these
        """
        return self.fit(images, labels).predict(images)

    def score(self, images: Any, labels: Any) -> float:
        """Score predictions against the truth; higher is better.

        Parameters
        ----------
        images : array_like or sequence of array_like
        labels : array_like, Instances or sequence of these
            The truth. For a partition, one image's truth may be a list of label maps,
            one an annotator.

        Returns
        -------
        float
            Partition: covering, averaged over images. Semantic: IoU averaged over the
            classes of the data set. Instance: matching AP averaged over IoU thresholds
            .50 to .95.
        """
        from segalgos import metrics

        many = checks.is_batch(images, self._caller)
        predictions = self.predict(images)
        if not many:
            predictions, labels = [predictions], [labels]
        self._check_length(labels, len(predictions), "labels")
        if self.traits.task == "partition":
            pairs = zip(predictions, labels, strict=True)
            return float(np.mean([metrics.region_scores(p, t)["covering"] for p, t in pairs]))
        if self.traits.task == "semantic":
            n_classes = 1 + max(
                max(int(np.max(maps)) for maps in predictions),
                max(int(np.max(maps)) for maps in labels),
            )
            scores = metrics.semantic_scores(predictions, list(labels), n_classes)
            return float(scores["mean_iou_dataset"])
        if isinstance(predictions[0], Instances):
            return float(metrics.instance_scores(predictions, list(labels))["mean_matching_ap"])
        raise TypeError(f"{self._caller}.score: interactive methods are scored with prompts.")

    def save(self, path: str | os.PathLike) -> None:
        """Save to one file that runs no code when it is loaded.

        Parameters
        ----------
        path : path-like
            Written whole or not at all. Read it with `segalgos.load`.
        """
        from segalgos import persistence

        persistence.save(self, path)

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.requires_fit = self.traits.needs_fit
        tags.non_deterministic = not self.traits.deterministic
        tags.target_tags.required = self.traits.needs_labels
        tags.input_tags.two_d_array = 2 in self.traits.ndims
        tags.input_tags.three_d_array = True
        return tags

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "n_channels_")

    # --- the checks behind them ----------------------------------------------------------

    @property
    def _caller(self) -> str:
        return type(self).__name__

    @contextmanager
    def _as_before_after_an_error(self) -> Iterator[None]:
        """Put the segmenter back as it was if an error ends the ``with`` block."""
        before = dict(vars(self))
        try:
            yield
        except BaseException:
            vars(self).clear()
            vars(self).update(before)
            raise

    def _check_length(self, values: Any, n: int, name: str) -> None:
        if not hasattr(values, "__len__") or len(values) != n:
            count = len(values) if hasattr(values, "__len__") else type(values).__name__
            raise ValueError(
                f"{self._caller}: {n} images but {count} {name}: pass one for each image."
            )

    def _clean(self, image: ArrayLike, name: str) -> NDArray:
        clean = checks.check_image(
            image,
            self._caller,
            channel_axis=self.channel_axis,
            ndims=self.traits.ndims,
            keep_uint8=self.traits.keeps_uint8,
            name=name,
        )
        most = self.traits.max_channels
        if most is not None and clean.shape[-1] > most:
            raise ValueError(
                f"{self._caller}: {name} has {clean.shape[-1]} channels, expected {most} at most: "
                "choose those that show what is to be segmented, for instance image[..., :3]."
            )
        return clean

    def _fit_checked(self, images: Any, labels: Any, sample_weight: Any) -> None:
        caller, traits = self._caller, self.traits
        self._check_params()
        many = checks.is_batch(images, caller)
        if not many:
            images, labels = [images], None if labels is None else [labels]
            sample_weight = None if sample_weight is None else [sample_weight]
        batch = [self._clean(images[i], f"images[{i}]") for i in range(len(images))]
        channels = sorted({image.shape[-1] for image in batch})
        if len(channels) > 1:
            raise ValueError(
                f"{caller}: images have {' and '.join(map(str, channels))} channels, expected the "
                "same number in all: convert them, for instance grey to colour."
            )
        if traits.needs_labels and labels is None:
            what = "Instances" if traits.task == "instance" else "a label map"
            raise ValueError(
                f"{caller}: labels is None, but this method learns from labels: pass {what} for "
                "each image."
            )
        targets = weights = None
        if traits.needs_labels:
            self._check_length(labels, len(batch), "labels")
            check = checks.check_instances if traits.task == "instance" else checks.check_label_map
            targets = [
                check(labels[i], image.shape[:-1], caller, f"labels[{i}]")
                for i, image in enumerate(batch)
            ]
        if sample_weight is not None:
            if not traits.takes_sample_weight:
                raise TypeError(f"{caller}: fit takes no sample_weight: leave it out.")
            self._check_length(sample_weight, len(batch), "sample_weight")
            weights = [
                checks.check_weight(
                    sample_weight[i], image.shape[:-1], caller, f"sample_weight[{i}]"
                )
                for i, image in enumerate(batch)
            ]
        self._learn(batch, targets, weights)
        self.n_channels_ = channels[0]

    def _learn(self, batch: list[NDArray], targets: list | None, weights: list | None) -> None:
        self._fit(batch, targets, weights)

    def _map(self, one: Any, images: Any, prompts: Any = None, mask: Any = None) -> Any:
        """Call ``one(image, mask, prompts, name)`` for one image or each of many."""
        caller, traits = self._caller, self.traits
        self._check_params()
        if traits.needs_fit:
            check_is_fitted(self)
        if prompts is not None and not traits.takes_prompts:
            raise TypeError(f"{caller}: predict takes no prompts: leave them out.")
        if prompts is None and traits.task == "interactive":
            raise ValueError(
                f"{caller}: prompts is None, but this method waits for them: pass for instance "
                "prompts=Prompts(points=[[row, column]])."
            )
        if mask is not None and not traits.takes_mask:
            raise TypeError(f"{caller}: predict takes no mask: leave it out.")
        if not checks.is_batch(images, caller):
            return one(images, mask, prompts, "image")
        for name, values in (("mask", mask), ("prompts", prompts)):
            if values is not None:
                self._check_length(values, len(images), name)
        return [
            one(
                images[i],
                None if mask is None else mask[i],
                None if prompts is None else prompts[i],
                f"images[{i}]",
            )
            for i in range(len(images))
        ]

    def _clean_predict_input(
        self, image: Any, mask: Any, prompts: Any, name: str
    ) -> tuple[NDArray, NDArray[np.bool_] | None, Prompts | None]:
        image = self._clean(image, name)
        shape = image.shape[:-1]
        if self.traits.needs_fit and image.shape[-1] != self.n_channels_:
            raise ValueError(
                f"{self._caller}: {name} has {image.shape[-1]} channels, fitted with "
                f"{self.n_channels_}: convert it, or fit on such images."
            )
        if mask is not None:
            mask = checks.check_mask(mask, shape, self._caller)
        if prompts is not None:
            prompts = checks.check_prompts(prompts, shape, self._caller)
        return image, mask, prompts

    def _predict_checked(
        self, image: Any, mask: Any, prompts: Any, name: str
    ) -> NDArray[np.int32] | Instances:
        image, mask, prompts = self._clean_predict_input(image, mask, prompts, name)
        result = self._predict(image, mask, prompts)
        if isinstance(result, Instances):
            return checks.check_instances(result, image.shape[:-1], f"{self._caller}._predict")
        labels = checks.check_label_map(result, image.shape[:-1], f"{self._caller}._predict")
        if mask is not None:
            labels[~mask] = -1
        return labels


class SemanticSegmenter(Segmenter):
    """Base of segmenters that give every pixel a class.

    Hooks see labels as indices 0..K-1 into ``classes_`` (-1 unlabelled) and write
    ``_predict_proba`` instead of ``_predict``.

    Attributes
    ----------
    classes_ : (K,) int32
        Class ids that occur in the labels, sorted.
    """

    def _predict_proba(self, image: NDArray) -> NDArray[np.float32]:
        """Class probabilities (H, W, K) of one image (H, W, C)."""
        raise TypeError(f"{type(self).__name__} has no _predict_proba hook: write one.")

    def _predict(self, image, mask, prompts):
        return self.classes_[np.argmax(self._predict_proba(image), axis=-1)]

    def _classes_of(self, targets: list[NDArray[np.int32]]) -> NDArray[np.int32]:
        """Ids of the classes to learn, sorted."""
        found = np.unique(np.concatenate([np.unique(target) for target in targets]))
        return found[found >= 0].astype(np.int32)

    def _learn(self, batch, targets, weights):
        self.classes_ = self._classes_of(targets)
        if len(self.classes_) == 0:
            raise ValueError(
                f"{self._caller}: labels hold no labelled pixel (all are -1): label some pixels "
                "with class ids from 0 on."
            )
        indices = [np.searchsorted(self.classes_, t).astype(np.int32) for t in targets]
        for index, target in zip(indices, targets, strict=True):
            index[target < 0] = -1
        self._fit(batch, indices, weights)

    def predict_proba(self, images: Any, *, mask: Any = None) -> Any:
        """Class probabilities of every pixel.

        Parameters
        ----------
        images : array_like or sequence of array_like
            One image or many; sizes may differ.
        mask : array_like of bool or sequence of these, optional
            Pixels where it is False get zeros.

        Returns
        -------
        (H, W, K) float32, or a list of these
            In the order of ``classes_``; they add up to one.
        """
        return self._map(self._proba_checked, images, None, mask)

    def _proba_checked(self, image: Any, mask: Any, prompts: Any, name: str) -> NDArray[np.float32]:
        image, mask, _ = self._clean_predict_input(image, mask, prompts, name)
        proba = np.ascontiguousarray(self._predict_proba(image), dtype=np.float32)
        if mask is not None:
            proba[~mask] = 0
        return proba
