"""Label maps: one file an image, 0 for background and another number for each object.

The layout of the data set ``folder``: ``images`` and ``masks`` side by side, below folders such
as ``train`` and ``val`` or not. Or one file.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from segalgos import rle
from segalgos.files import IMAGE_SUFFIXES, read_labels, write_labels
from segalgos.formats._reading import check_names, image_by_stem, split_folders
from segalgos.formats.base import Annotation, Encoded, Item, Part, Scene, paint_map, split_map

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

NAME = "label_maps"
#: Label maps say which pixels are one object, not what it is.
FIXED_CLASSES = ("object",)
_MASKS = "masks"
_SUFFIXES = (".png", ".tif", ".tiff", ".npy")
_MOST = 65535


def find(path: Path) -> bool:
    """Whether there is a label map, or a folder ``masks``.

    Parameters
    ----------
    path : Path

    Returns
    -------
    bool
    """
    if path.is_file():
        return path.suffix.lower() in (*_SUFFIXES, *IMAGE_SUFFIXES)
    return bool(split_folders(path, _MASKS))


def read(path: Path) -> dict[str, Part]:
    """Read every id of at least 1 as an object.

    Parameters
    ----------
    path : Path
        A file, or a folder with ``masks`` or with ``train/masks``, ``val/masks``, ...

    Returns
    -------
    dict of str to Part

    Raises
    ------
    FileNotFoundError
        If there are no label maps.
    ValueError
        When a scene is read, if its map is damaged or in colour.
    """
    if path.is_file():
        return {"": Part(FIXED_CLASSES, [(path, None)], _read_scene)}
    parts = {}
    for split, folder in split_folders(path, _MASKS).items():
        masks = sorted(
            p
            for p in (folder / _MASKS).iterdir()
            if p.suffix.lower() in _SUFFIXES and not p.name.startswith(".")
        )
        check_names([mask.stem for mask in masks], f"label_maps: {folder / _MASKS}")
        entries = [(mask, image_by_stem(folder / "images", mask.stem)) for mask in masks]
        parts[split] = Part(FIXED_CLASSES, entries, _read_scene)
    if not parts:
        raise FileNotFoundError(f"label_maps: {path} is no label map and holds no folder {_MASKS}.")
    return parts


def _read_scene(entry: tuple[Path, Path | None]) -> Scene:
    path, image = entry
    labels = read_labels(path)
    annotations, void = _decode(labels)
    return Scene(path.stem, labels.shape, annotations, image, void)


def _decode(labels: NDArray) -> tuple[tuple[Annotation, ...], NDArray[np.int64] | None]:
    ids, runs = split_map(np.maximum(labels, -1))
    parts = [runs.counts[a:b] for a, b in zip(runs.starts[:-1], runs.starts[1:])]
    annotations = tuple(Annotation(part, 0) for i, part in zip(ids, parts) if i > 0)
    return annotations, next((part for i, part in zip(ids, parts) if i < 0), None)


# --- writing -----------------------------------------------------------------------------------


def encode(scene: Scene, classes: Sequence[str], *, keep_void: bool = False) -> Encoded:
    """Paint a label map.

    Parameters
    ----------
    scene : Scene
    classes : sequence of str
    keep_void : bool, default=False
        Write -1 where nothing is known, which PNG files cannot hold.

    Returns
    -------
    Encoded
        A map (H, W) int32, in which object i is ``i + 1``.
    """
    n = len(scene.annotations)
    chosen = range(min(n, _MOST))
    labels = paint_map(scene, {i: i + 1 for i in chosen})
    visible = np.bincount(labels.ravel(), minlength=n + 1)
    if keep_void and scene.void is not None:
        labels[rle.decode(rle.Runs.join(scene.size, [scene.void]))[0] & (labels == 0)] = -1
    dropped = dict.fromkeys(range(len(chosen), n), "more than 65535 in an image")
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
    void : (n,) int64 or None
    """
    return _decode(content)


def image_place(split: str, name: str, suffix: str) -> str:
    """Where an image stands.

    Parameters
    ----------
    split, name, suffix : str

    Returns
    -------
    str
    """
    return f"{split}/images/{name}{suffix}" if split else f"images/{name}{suffix}"


def write_scene(folder: Path, item: Item) -> None:
    """Write a map.

    Parameters
    ----------
    folder : Path
        Or a file that ends in ``.png``, ``.tif`` or ``.npy``.
    item : Item
    """
    path = folder
    if folder.suffix.lower() not in _SUFFIXES:
        path = folder / item.split / _MASKS / f"{item.name}.png"
    write_labels(path, item.content)


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
