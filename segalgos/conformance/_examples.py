"""Small made-up images, labels and prompts that any segmenter can be tried on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.base import clone

from segalgos.base import Segmenter
from segalgos.results import Instances, Prompts

SHAPES = ((24, 32), (21, 27))


@dataclass(frozen=True)
class Example:
    """Two images of unlike size and what `fit` learns from them.

    Parameters
    ----------
    images : list of (H, W, C) uint8
    classes : list of (H, W) int32
        0 background, 1 and 2 the blobs, nothing unlabelled.
    targets : list
        What ``fit`` takes as labels: label maps with some -1, or `Instances`.
    """

    images: list[NDArray]
    classes: list[NDArray[np.int32]]
    targets: list[Any]


def example(segmenter: Segmenter, *, channels: int | None = 3, shapes=SHAPES) -> Example:
    """Make training data for the segmenter's task; `channels` None gives grey (H, W)."""
    images, classes = zip(*(_scene(s, channels, seed) for seed, s in enumerate(shapes)))
    targets = []
    for ids in classes:
        if segmenter.traits.task == "instance":
            targets.append(Instances.from_labels(ids, classes=np.unique(ids)[1:]))
        else:
            target = ids.copy()
            target[:2] = -1  # void, as at the border of many data sets
            targets.append(target)
    return Example(list(images), list(classes), targets)


def _scene(shape: tuple[int, ...], channels: int | None, seed: int):
    rng = np.random.default_rng(seed)
    where = np.stack(np.meshgrid(*(np.linspace(0, 1, n) for n in shape), indexing="ij"))
    ids = np.zeros(shape, np.int32)
    for i, centre in ((1, 0.3), (2, 0.75)):
        ids[((where - centre) ** 2).sum(axis=0) < 0.05] = i
    n = 1 if channels is None else channels
    brightness = np.array([60, 140, 220])[:, None]
    hue = 30 * np.cos(2 * np.pi * (np.arange(3)[:, None] + np.arange(n)) / 3 + 0.4)
    colours = brightness + hue
    image = colours[ids] + rng.normal(0, 4, (*shape, n))
    image = np.clip(np.round(image), 0, 255).astype(np.uint8)
    return (image[..., 0] if channels is None else image), ids


def fresh(segmenter: Segmenter, **params: Any) -> Segmenter:
    """Copy the segmenter unfitted, with a fixed seed and the default channel axis."""
    copy = clone(segmenter)
    fixed = {"random_state": 0, "channel_axis": "auto"}
    known = copy.get_params(deep=False)
    return copy.set_params(**{k: v for k, v in fixed.items() if k in known} | params)


def fitted(segmenter: Segmenter, *, channels: int | None = 3, **params: Any) -> Segmenter:
    """Copy the segmenter and fit the copy on the example."""
    data = example(segmenter, channels=channels)
    return fresh(segmenter, **params).fit(data.images, data.targets)


def predict(segmenter: Segmenter, images: Any, **kwargs: Any) -> Any:
    """Predict, with clicks where the method waits for them."""
    if segmenter.traits.task == "interactive" and "prompts" not in kwargs:
        kwargs["prompts"] = prompts_for(images)
    return segmenter.predict(images, **kwargs)


def predict_proba(segmenter: Segmenter, images: Any) -> Any:
    """Class probabilities, with clicks where the method waits for them."""
    if segmenter.traits.task == "interactive":
        return segmenter.predict_proba(images, prompts=prompts_for(images))
    return segmenter.predict_proba(images)


def prompts_for(images: Any) -> Prompts | list[Prompts]:
    """Clicks for one image or for each of many."""
    one = isinstance(images, np.ndarray) and images.dtype != object
    if one or not isinstance(images[0], np.ndarray):
        return clicks(images)
    return [clicks(images[i]) for i in range(len(images))]


def clicks(image: Any) -> Prompts:
    """Click on the middle of an image, and outside the object in its corner."""
    height, width = (*np.shape(image), 1, 1)[:2]
    middle = [height // 2, width // 2]
    if middle == [0, 0]:
        return Prompts(points=[middle])
    return Prompts(points=[middle, [0, 0]], point_labels=[1, 0])
