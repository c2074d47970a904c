"""weizmann: one horse in each photograph (Weizmann horses)."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from segalgos.datasets._files import (
    list_images,
    pair_files,
    pick_split,
    read_above,
    require_folder,
    semantic_dataset,
)
from segalgos.datasets.base import Dataset, Info

__all__ = ["CLASSES", "INFO", "load"]

CLASSES = ("background", "horse")

INFO = Info(
    name="weizmann",
    task="semantic",
    splits=("train", "val", "test"),
    size="171 train, 29 val, 128 test",
    licence="none stated; published for research",
    citation="E. Borenstein, S. Ullman, 'Class-specific, top-down segmentation', ECCV 2002",
    source="the Weizmann horses, https://github.com/shenshutao/image_segmentation "
    "(weizmann_horse_db; scale the images to the size of their masks)",
    summary="Horses in many poses and coats, each cut out by hand.",
    folder="weizmann_horse_db",
    marks=("figure_ground",),
)

# Three of the first 200 photographs are there twice (004 and 146, 006 and 018, 118 and 171):
# a cut behind 171 parts none of them.
_PARTS = {"train": range(1, 172), "val": range(172, 201), "test": range(201, 329)}


def load(*, split: str = "train", root: str | Path | None = None) -> Dataset:
    """Read the Weizmann horses.

    Parameters
    ----------
    split : {"train", "val", "test"}
        By number: 1 to 171, 172 to 200, and the rest. The set has no split of its own.
    root : path, optional
        ``weizmann_horse_db`` or the folder that holds it; by default the folder named by
        ``SEGALGOS_DATA``.
        Images must have the size of their masks.

    Returns
    -------
    Dataset
        With ``labels``.

    Raises
    ------
    FileNotFoundError
        If the set or the split is not here.
    ValueError
        If an image has no mask; when it is read, if that is damaged or of another size.

    Notes
    -----
    Some photographs are there twice; train and val share none. Masks are JPEG files, cut at
    half their height.

    References
    ----------
    .. [1] E. Borenstein, S. Ullman, "Class-specific, top-down segmentation", ECCV 2002.
    """
    folder = require_folder(INFO, root)
    images = pick_split(INFO, split, list_images(folder / "rgb"), _PARTS, folder)
    pairs = pair_files(INFO, images, lambda image: folder / "figure_ground" / image.name)
    return semantic_dataset(INFO, split, CLASSES, pairs, partial(read_above, 127))
