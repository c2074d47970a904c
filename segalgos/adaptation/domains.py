"""Images of the two domains, checked: the source with labels, the target without."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from segalgos.base import Segmenter
from segalgos.checks import check_label_map, is_batch

__all__ = ["Domains", "check_domains"]


@dataclass(frozen=True, eq=False)
class Domains:
    """Images that a segmenter learned from, and images that it is adapted to.

    Parameters
    ----------
    target : list of (H, W, C) ndarray
        At least one.
    source : list of (H, W, C) ndarray or None
    labels : list of (H, W) int32 or None
        Of the source: places in the segmenter's ``classes_``, -1 where unlabelled.
    """

    target: list[NDArray]
    source: list[NDArray] | None = None
    labels: list[NDArray[np.int32]] | None = None

    def need_source(self, method: str) -> None:
        """Raise if there are no labelled images of the source.

        Parameters
        ----------
        method : str
            Named in the error.

        Raises
        ------
        ValueError
            If there are none.
        """
        if self.source is None:
            raise ValueError(
                f"adapt: method {method!r} learns from labelled images of the source, too: pass "
                "source_images and source_labels, for instance what the segmenter was fitted on."
            )


def check_domains(
    segmenter: Segmenter, target_images: Any, source_images: Any = None, source_labels: Any = None
) -> Domains:
    """Check images and labels as `fit` and `predict` do.

    Parameters
    ----------
    segmenter : Segmenter
        Fitted.
    target_images : array_like or sequence of array_like
    source_images : array_like or sequence of array_like, optional
    source_labels : array_like or sequence of array_like, optional
        Both or neither.

    Returns
    -------
    Domains

    Raises
    ------
    ValueError
        If something is not as expected.
    """
    target = _clean(segmenter, target_images, "target_images")
    if (source_images is None) != (source_labels is None):
        missing = "source_images" if source_images is None else "source_labels"
        raise ValueError(f"adapt: {missing} is None: pass source_images and source_labels, both.")
    if source_images is None:
        return Domains(target)
    if not is_batch(source_images, "adapt"):
        source_labels = [source_labels]
    source = _clean(segmenter, source_images, "source_images")
    if not isinstance(source_labels, Sequence) and not hasattr(source_labels, "__len__"):
        raise TypeError(f"adapt: source_labels is a {type(source_labels).__name__}: pass a list.")
    if len(source_labels) != len(source):
        raise ValueError(
            f"adapt: {len(source)} source_images but {len(source_labels)} source_labels: pass one "
            "for each image."
        )
    labels = [
        _places(segmenter, source_labels[i], image, f"source_labels[{i}]")
        for i, image in enumerate(source)
    ]
    if all((label_map < 0).all() for label_map in labels):
        raise ValueError("adapt: source_labels hold no labelled pixel (all are -1): label some.")
    return Domains(target, source, labels)


def _clean(segmenter: Segmenter, images: Any, name: str) -> list[NDArray]:
    if isinstance(images, Sequence) and len(images) == 0:
        raise ValueError(f"adapt: {name} is empty: pass at least one image.")
    if not is_batch(images, "adapt"):
        images = [images]
    clean = [segmenter._clean(images[i], f"{name}[{i}]") for i in range(len(images))]
    for i, image in enumerate(clean):
        if image.shape[-1] != segmenter.n_channels_:
            raise ValueError(
                f"adapt: {name}[{i}] has {image.shape[-1]} channels, the segmenter was fitted with "
                f"{segmenter.n_channels_}: convert it."
            )
    return clean


def _places(segmenter: Segmenter, labels: Any, image: NDArray, name: str) -> NDArray[np.int32]:
    """Places of labels in the segmenter's classes."""
    checked = check_label_map(labels, image.shape[:-1], "adapt", name)
    known = np.isin(checked, segmenter.classes_) | (checked < 0)
    if not known.all():
        raise ValueError(
            f"adapt: {name} holds class {int(checked[~known].min())}, which the segmenter does not "
            f"know (classes {segmenter.classes_.tolist()}): adaptation keeps the classes; "
            "segalgos.fine_tune learns others."
        )
    places = np.searchsorted(segmenter.classes_, checked).astype(np.int32)
    places[checked < 0] = -1
    return places
