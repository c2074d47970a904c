"""wbc: white blood cells, their nuclei and cytoplasm, in two stains."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from segalgos.checks import check_int
from segalgos.datasets._files import (
    list_images,
    pair_files,
    pick_split,
    read_classes,
    require_folder,
    semantic_dataset,
)
from segalgos.datasets.base import Dataset, Info

__all__ = ["CLASSES", "INFO", "load"]

CLASSES = ("background", "cytoplasm", "nucleus")

_MARKS = ("Dataset 1", "Dataset 2")

INFO = Info(
    name="wbc",
    task="semantic",
    splits=("train", "val", "test"),
    size="100 train, 34 val, 266 test",
    licence="GPL-3.0; acknowledge Jiangxi Tecom Science Corporation (data set 1) and the "
    "CellaVision blog (data set 2)",
    citation="X. Zheng, Y. Wang, G. Wang, J. Liu, 'Fast and robust segmentation of white blood "
    "cell images by self-supervised learning', Micron 107, 2018",
    source="segmentation_WBC, https://github.com/zxaoyou/segmentation_WBC",
    summary="Pictures of one white blood cell each, from two laboratories.",
    folder="WBC",
    marks=_MARKS,
)

_PARTS = (
    {"train": range(1, 91), "val": range(91, 121), "test": range(121, 301)},
    {"train": range(1, 11), "val": range(11, 15), "test": range(15, 101)},
)
_MEANING = {0: 0, 128: 1, 255: 2}


def load(
    *, split: str = "train", root: str | Path | None = None, part: int | None = None
) -> Dataset:
    """Read the white blood cells of two laboratories.

    Parameters
    ----------
    split : {"train", "val", "test"}
        By number: 1 to 90, 91 to 120 and the rest of data set 1, then 1 to 10, 11 to 14
        and the rest of data set 2. The set has no split of its own.
    root : path, optional
        ``WBC`` or the folder that holds it; by default the folder named by
        ``SEGALGOS_DATA``.
    part : {1, 2}, optional
        One of the two data sets alone.

    Returns
    -------
    Dataset
        With ``labels``. Images of data set 1 come first: they have about 120 x 120 pixels,
        those of data set 2 have 300 x 300 and another stain.

    Raises
    ------
    FileNotFoundError
        If the set or the split is not here.
    ValueError
        If there is no such part or an image has no mask; when it is read, if that is
        damaged.

    Notes
    -----
    Red blood cells count as background.

    References
    ----------
    .. [1] X. Zheng, Y. Wang, G. Wang, J. Liu, "Fast and robust segmentation of white blood
       cell images by self-supervised learning", Micron 107, 55-71, 2018.
    """
    if part is not None:
        check_int("wbc", "part", part, low=1, high=len(_MARKS))
    wanted = slice(None) if part is None else slice(part - 1, part)
    folder = require_folder(INFO, root, _MARKS[wanted])
    images = [
        image
        for name, parts in zip(_MARKS[wanted], _PARTS[wanted], strict=True)
        if (folder / name).is_dir()
        for image in pick_split(INFO, split, _images(folder / name), parts, folder / name)
    ]
    pairs = pair_files(INFO, images, lambda image: image.with_suffix(".png"))
    decode = partial(read_classes, INFO.name, _MEANING)
    return semantic_dataset(INFO, split, CLASSES, pairs, decode, _name)


def _images(folder: Path) -> list[Path]:
    """The images of one data set; their masks are PNG files beside them."""
    return [path for path in list_images(folder) if path.suffix != ".png"]


def _name(path: Path) -> str:
    """Like "1-001": both data sets count from 001."""
    return f"{path.parent.name.split()[-1]}-{path.stem}"
