"""The layout of the Penn-Fudan pedestrians: ``PNGImages/a.png`` and ``PedMasks/a_mask.png``.

A mask is a label map of 8 bits: 0 background, 1, 2, ... for each pedestrian [1]_.

References
----------
.. [1] L. Wang, J. Shi, G. Song, I.-F. Shen, "Object detection combining recognition and
   segmentation", ACCV 2007.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from segalgos.files import read_labels, write_labels
from segalgos.formats import label_maps
from segalgos.formats._reading import check_names, image_by_stem, split_folders
from segalgos.formats.base import Encoded, Item, Part, Scene, paint_map

__all__ = [
    "FIXED_CLASSES",
    "NAME",
    "decode",
    "encode",
    "find",
    "image_place",
    "read",
    "write_end",
    "write_scene",
]

NAME = "pennfudan"
FIXED_CLASSES = ("person",)
_IMAGES, _MASKS, _ENDING = "PNGImages", "PedMasks", "_mask"
_MOST = 255


def find(path: Path) -> bool:
    """Whether there is a folder ``PedMasks``.

    Parameters
    ----------
    path : Path

    Returns
    -------
    bool
    """
    return bool(split_folders(path, _MASKS))


def read(path: Path) -> dict[str, Part]:
    """Read every pedestrian.

    Parameters
    ----------
    path : Path
        A folder with ``PedMasks`` or with ``train/PedMasks``, ``val/PedMasks``, ...

    Returns
    -------
    dict of str to Part

    Raises
    ------
    FileNotFoundError
        If there is no such folder.
    ValueError
        If a mask's name does not end in ``_mask``; when a scene is read, if it is damaged.
    """
    parts = {}
    for split, folder in split_folders(path, _MASKS).items():
        masks = sorted(p for p in (folder / _MASKS).glob("*.png") if not p.name.startswith("."))
        for mask in masks:
            if not mask.stem.endswith(_ENDING):
                raise ValueError(f"pennfudan: {mask} does not end in {_ENDING}.png: rename it.")
        names = [mask.stem.removesuffix(_ENDING) for mask in masks]
        check_names(names, f"pennfudan: {folder / _MASKS}")
        images = [image_by_stem(folder / _IMAGES, name) for name in names]
        parts[split] = Part(FIXED_CLASSES, list(zip(names, masks, images)), _read_scene)
    if not parts:
        raise FileNotFoundError(f"pennfudan: {path} holds no folder {_MASKS}.")
    return parts


def _read_scene(entry: tuple[str, Path, Path | None]) -> Scene:
    name, mask, image = entry
    labels = read_labels(mask)
    annotations, _ = label_maps.decode(labels, labels.shape, FIXED_CLASSES)
    return Scene(name, labels.shape, annotations, image)


# --- writing -----------------------------------------------------------------------------------


def encode(scene: Scene, classes: Sequence[str]) -> Encoded:
    """Paint a label map of 8 bits.

    Parameters
    ----------
    scene : Scene
    classes : sequence of str

    Returns
    -------
    Encoded
        A map (H, W) int32 of at most 255 objects.
    """
    n = len(scene.annotations)
    chosen = range(min(n, _MOST))
    labels = paint_map(scene, {i: i + 1 for i in chosen})
    visible = np.bincount(labels.ravel(), minlength=n + 1)
    dropped = dict.fromkeys(range(len(chosen), n), "more than 255 in an image")
    dropped |= {i: "hidden by others, or no pixel" for i in chosen if not visible[i + 1]}
    return Encoded(labels, tuple(i for i in chosen if visible[i + 1]), dropped)


def decode(content: NDArray, size: tuple[int, int], classes: Sequence[str]):
    """Read a map again.

    Parameters
    ----------
    content : (H, W) int32
    size : tuple of int
    classes : sequence of str

    Returns
    -------
    annotations : tuple of Annotation
    void : None
    """
    return label_maps.decode(content, size, classes)


def image_place(split: str, name: str, suffix: str) -> str:
    """Where an image stands.

    Parameters
    ----------
    split, name, suffix : str

    Returns
    -------
    str
    """
    return f"{split}/{_IMAGES}/{name}{suffix}" if split else f"{_IMAGES}/{name}{suffix}"


def write_scene(folder: Path, item: Item) -> None:
    """Write a mask.

    Parameters
    ----------
    folder : Path
    item : Item
    """
    write_labels(folder / item.split / _MASKS / f"{item.name}{_ENDING}.png", item.content)


def write_end(
    folder: Path, classes: Sequence[str], class_ids: Sequence[int] | None, items: Sequence[Item]
) -> None:
    """Write nothing more.

    Parameters
    ----------
    folder : Path
    classes : sequence of str
    class_ids : sequence of int or None
    items : sequence of Item
    """
