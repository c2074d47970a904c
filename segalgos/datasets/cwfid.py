"""cwfid: young carrots and weeds from above, seen in red and near infrared."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from segalgos.datasets._files import (
    check_same_size,
    list_images,
    pack_colours,
    pair_files,
    pick_split,
    require_folder,
    semantic_dataset,
    to_classes,
)
from segalgos.datasets.base import Dataset, Info
from segalgos.files import read_image, read_labels

__all__ = ["CLASSES", "INFO", "load"]

CLASSES = ("soil", "crop", "weed")

INFO = Info(
    name="cwfid",
    task="semantic",
    splits=("train", "val", "test"),
    size="25 train, 15 val, 20 test",
    licence="non-commercial research",
    citation="S. Haug, J. Ostermann, 'A Crop/Weed Field Image Dataset for the Evaluation of "
    "Computer Vision Based Precision Agriculture Tasks', ECCV 2014 Workshops",
    source="the Crop/Weed Field Image Dataset, https://github.com/cwfid/dataset",
    summary="Carrot seedlings and weeds in a field, with leaves and soil told apart by pixel.",
    folder="CWFID",
    marks=("annotations",),
)

# The authors' list (train_test_split.yaml) has image 28 in both parts; here it trains.
_TEST = frozenset((1, 3, 4, 9, 10, 13, 15, 21, 22, 26, 29, 30, 32, 35, 39, 44, 47, 48, 54, 60))
_PARTS = {
    "train": frozenset(range(1, 41)) - _TEST,
    "val": frozenset(range(41, 61)) - _TEST,
    "test": _TEST,
}
# Colours of the annotations, packed as 0xRRGGBB.
_MEANING = {0x000000: 0, 0x00FF00: 1, 0xFF0000: 2}


def load(*, split: str = "train", root: str | Path | None = None) -> Dataset:
    """Read the Crop/Weed Field Image Dataset.

    Parameters
    ----------
    split : {"train", "val", "test"}
        Test is the authors' own; their training part is cut into images 1 to 40 (train)
        and 41 to 60 (val).
    root : path, optional
        ``CWFID`` or the folder that holds it; by default the folder named by
        ``SEGALGOS_DATA``.
        Images may be PNG or JPEG.

    Returns
    -------
    Dataset
        With ``labels``; plants that the authors left without a name are -1.

    Raises
    ------
    FileNotFoundError
        If the set or the split is not here.
    ValueError
        If an image has no annotation or no mask; when they are read, if they are damaged.

    Notes
    -----
    Images are no photographs in colour: red and blue hold the red band, green the near
    infrared. Image 28 is in both parts of the authors' list; here it is in train alone.

    References
    ----------
    .. [1] S. Haug, J. Ostermann, "A Crop/Weed Field Image Dataset for the Evaluation of
       Computer Vision Based Precision Agriculture Tasks", ECCV 2014 Workshops.
    """
    folder = require_folder(INFO, root)
    images = pick_split(INFO, split, list_images(folder / "images"), _PARTS, folder)
    pairs = pair_files(INFO, images, lambda image: _beside(image, "annotation"))
    pair_files(INFO, images, lambda image: _beside(image, "mask"))
    return semantic_dataset(INFO, split, CLASSES, pairs, _decode)


def _beside(path: Path, kind: str) -> Path:
    """The "annotation" or "mask" that goes with an image or an annotation."""
    return path.parents[1] / f"{kind}s" / f"{path.stem.split('_')[0]}_{kind}.png"


def _decode(path: Path) -> NDArray[np.int32]:
    colours = read_image(path)
    if colours.ndim != 3 or colours.shape[2] != 3:
        raise ValueError(
            f"cwfid: {path} has shape {colours.shape}, expected a picture in colour (H, W, 3): "
            "the file is damaged or was changed; get it again."
        )
    labels = to_classes("cwfid", path, pack_colours(colours), _MEANING)
    mask_path = _beside(path, "mask")
    plants = read_labels(mask_path) == 0
    check_same_size("cwfid", colours, path, plants, mask_path)
    labels[plants & (labels == 0)] = -1  # small leaves that were left without a name
    return labels
