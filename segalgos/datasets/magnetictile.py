"""magnetictile: defects on the surfaces of magnetic tiles."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from segalgos.datasets._files import (
    list_images,
    pair_files,
    pick_split,
    read_above,
    require_folder,
    semantic_dataset,
)
from segalgos.datasets.base import Dataset, Info

__all__ = ["CLASSES", "INFO", "KINDS", "load"]

KINDS = ("blowhole", "break", "crack", "fray", "uneven")
CLASSES = ("intact", "defect")

_MARKS = tuple(f"MT_{kind.title()}" for kind in (*KINDS, "free"))

INFO = Info(
    name="magnetictile",
    task="semantic",
    splits=("train", "val"),
    size="1344 images, split by their numbers",
    licence="none stated; the authors welcome its use and ask to be cited",
    citation="Y. Huang, C. Qiu, Y. Guo, X. Wang, K. Yuan, 'Surface Defect Saliency of Magnetic "
    "Tile', CASE 2018; The Visual Computer 36, 2020",
    source="Magnetic-Tile-Defect, https://github.com/abin24/Magnetic-tile-defect-datasets.",
    summary="Grey pictures of tile surfaces with five kinds of defects, most of them small.",
    folder="MagneticTile",
    marks=_MARKS,
)

# Close running numbers are exposures of one tile; there is a wide gap around this one.
_FIRST_VAL = 255_000
_PARTS = {"train": range(_FIRST_VAL), "val": range(_FIRST_VAL, 10_000_000)}


def load(*, split: str = "train", root: str | Path | None = None, kinds: bool = False) -> Dataset:
    """Read the magnetic tiles, with or without defects.

    Parameters
    ----------
    split : {"train", "val"}
        By the running number in a file's name: below 255000, and the rest. The set has no
        split of its own.
    root : path, optional
        ``MagneticTile`` or the folder that holds it; by default the folder named by
        ``SEGALGOS_DATA``.
    kinds : bool, default=False
        Name the kinds of defects: "intact", "blowhole", "break", "crack", "fray" and
        "uneven" instead of "intact" and "defect".

    Returns
    -------
    Dataset
        With ``labels``. Images are grey and of many sizes.

    Raises
    ------
    FileNotFoundError
        If the set or the split is not here.
    ValueError
        If an image has no mask; when it is read, if that is damaged.

    Notes
    -----
    A tile was photographed in several exposures, whose running numbers are close. The split
    is a range of numbers, so that all exposures of a tile are on one side. Masks have
    smoothed edges and are cut at half their height.

    References
    ----------
    .. [1] Y. Huang, C. Qiu, Y. Guo, X. Wang, K. Yuan, "Surface Defect Saliency of Magnetic
       Tile", CASE 2018; The Visual Computer 36, 85-96, 2020.
    """
    folder = require_folder(INFO, root)
    present = [folder / mark / "Imgs" for mark in _MARKS if (folder / mark / "Imgs").is_dir()]
    # Masks are PNG files beside their images, which are JPEG.
    images = [path for part in present for path in list_images(part) if path.suffix != ".png"]
    images = pick_split(INFO, split, images, _PARTS, folder)
    pairs = pair_files(INFO, images, lambda image: image.with_suffix(".png"))
    classes = (CLASSES[0], *KINDS) if kinds else CLASSES
    return semantic_dataset(INFO, split, classes, pairs, partial(_decode, kinds))


def _decode(kinds: bool, path: Path) -> NDArray[np.int32]:
    labels = read_above(127, path)
    kind = path.parents[1].name.removeprefix("MT_").lower()
    return labels * np.int32(1 + KINDS.index(kind)) if kinds and kind in KINDS else labels
