"""crackforest: cracks in roads, a few pixels wide (CrackForest)."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from segalgos.datasets._files import (
    list_images,
    pair_files,
    pick_split,
    require_folder,
    semantic_dataset,
    to_classes,
)
from segalgos.datasets.base import Dataset, Info

__all__ = ["CLASSES", "INFO", "load"]

CLASSES = ("road", "crack")

INFO = Info(
    name="crackforest",
    task="semantic",
    splits=("train", "val", "test"),
    size="55 train, 17 val, 46 test",
    licence="non-commercial research",
    citation="Y. Shi, L. Cui, Z. Qi, F. Meng, Z. Chen, 'Automatic Road Crack Detection Using "
    "Random Structured Forests', IEEE T-ITS 17(12), 2016",
    source="CrackForest, https://github.com/cuilimeng/CrackForest-dataset",
    summary="Photographs of road surfaces with thin, hand-drawn cracks.",
    folder="CrackForest",
    marks=("groundTruth",),
)

# Between 55 and 56 the photographs change to another road.
_PARTS = {"train": range(1, 56), "val": range(56, 73), "test": range(73, 119)}
# A few spots are neither road nor crack (3 and 4).
_MEANING = {1: 0, 2: 1, 3: -1, 4: -1}


def load(*, split: str = "train", root: str | Path | None = None) -> Dataset:
    """Read CrackForest, cracks in roads.

    Parameters
    ----------
    split : {"train", "val", "test"}
        By number: 1 to 55, 56 to 72, and the rest. The set has no split of its own.
    root : path, optional
        ``CrackForest`` or the folder that holds it; by default the folder named by
        ``SEGALGOS_DATA``.

    Returns
    -------
    Dataset
        With ``labels``; the few spots that are neither road nor crack are -1.

    Raises
    ------
    FileNotFoundError
        If the set or the split is not here.
    ValueError
        If an image has no ``.mat`` file; when it is read, if that is damaged.

    Notes
    -----
    Cracks are one to a few pixels wide and drawn somewhat off; published figures allow for
    a distance of 2 or 5 pixels. Photographs follow one another along a road, so splits are
    ranges, cut where the road changes.

    References
    ----------
    .. [1] Y. Shi, L. Cui, Z. Qi, F. Meng, Z. Chen, "Automatic Road Crack Detection Using
       Random Structured Forests", IEEE T-ITS 17(12), 3434-3445, 2016.
    """
    folder = require_folder(INFO, root)
    images = pick_split(INFO, split, list_images(folder / "image"), _PARTS, folder)
    truths = folder / "groundTruth"
    pairs = pair_files(INFO, images, lambda image: truths / f"{image.stem}.mat")
    return semantic_dataset(INFO, split, CLASSES, pairs, _decode)


def _decode(path: Path) -> NDArray[np.int32]:
    from scipy.io import loadmat

    try:
        values = loadmat(path)["groundTruth"][0, 0]["Segmentation"].astype(np.int32)
    except Exception as error:  # scipy raises a dozen types on damaged files
        raise ValueError(
            f"crackforest: {path} could not be read as a label file ({error}): "
            "the file is damaged; get it again."
        ) from error
    return to_classes("crackforest", path, values, _MEANING)
