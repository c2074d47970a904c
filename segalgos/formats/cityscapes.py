"""Cityscapes' maps of objects, ``gtFine/<split>/<city>/*_gtFine_instanceIds.png``.

An object's pixels hold 1000 times its label id plus a number; other pixels the label id alone.
Where a class has objects, pixels without a number are a group of them that cannot be told
apart: a crowd [1]_.

References
----------
.. [1] M. Cordts et al., "The Cityscapes Dataset for Semantic Urban Scene Understanding", CVPR
   2016.
"""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from segalgos.cityscapes_labels import LABELS
from segalgos.files import read_labels, write_labels
from segalgos.formats._reading import check_names, image_by_stem, split_name
from segalgos.formats.base import Annotation, Encoded, Item, Part, Scene, paint_map, split_map

__all__ = [
    "FIXED_CLASSES",
    "NAME",
    "decode",
    "encode",
    "find",
    "image_place",
    "objects_of",
    "read",
    "scene_name",
    "write_end",
    "write_scene",
]

NAME = "cityscapes"
#: The classes whose objects are told apart, in the order of their label ids.
FIXED_CLASSES = tuple(label.name for label in LABELS if label.has_instances)
_LABEL_IDS = {label.name: i for i, label in enumerate(LABELS)}
_NUMBERS = 1000
_SCENE = re.compile(r"[^_]+_\d{6}_\d{6}")
_KINDS = ("gtFine", "gtCoarse")


def find(path: Path) -> bool:
    """Whether there is a folder ``gtFine`` or ``gtCoarse``.

    Parameters
    ----------
    path : Path

    Returns
    -------
    bool
    """
    return any((path / kind).is_dir() for kind in _KINDS)


def read(path: Path) -> dict[str, Part]:
    """Read objects and groups of them.

    Parameters
    ----------
    path : Path
        The folder that holds ``gtFine`` (or else ``gtCoarse``).

    Returns
    -------
    dict of str to Part
        Pixels of other classes are left out.

    Raises
    ------
    FileNotFoundError
        If there is no such folder.
    ValueError
        When a scene is read, if its map is damaged.
    """
    kind = next((k for k in _KINDS if (path / k).is_dir()), None)
    if kind is None:
        raise FileNotFoundError(f"cityscapes: {path} holds no folder {' or '.join(_KINDS)}.")
    ending, parts = f"_{kind}_instanceIds.png", {}
    for folder in sorted(p for p in (path / kind).iterdir() if p.is_dir()):
        entries = []
        for file in sorted(folder.glob(f"*/*{ending}")):
            name = file.name.removesuffix(ending)
            images = path / "leftImg8bit" / folder.name / file.parent.name
            entries.append((name, file, image_by_stem(images, f"{name}_leftImg8bit")))
        check_names([name for name, _, _ in entries], f"cityscapes: {folder}")
        parts[split_name(folder.name) or folder.name] = Part(FIXED_CLASSES, entries, _read_scene)
    return parts


def _read_scene(entry: tuple[str, Path, Path | None]) -> Scene:
    name, path, image = entry
    labels = read_labels(path)
    return Scene(name, labels.shape, objects_of(labels, f"cityscapes: {path}"), image)


def objects_of(labels: NDArray, where: str) -> tuple[Annotation, ...]:
    """Take a map apart into objects and groups.

    Parameters
    ----------
    labels : (H, W) int
        Instance ids.
    where : str
        What errors begin with.

    Returns
    -------
    tuple of Annotation
        By rising ids; categories are places in `FIXED_CLASSES`.

    Raises
    ------
    ValueError
        If the map holds an id that cannot be.
    """
    ids, runs = split_map(labels)
    found = []
    for i, value in enumerate(ids.tolist()):
        label_id = value // _NUMBERS if value >= _NUMBERS else value
        if not -1 <= label_id < len(LABELS) or (
            value >= _NUMBERS and not LABELS[label_id].has_instances
        ):
            raise ValueError(
                f"{where} holds the value {value}, expected label ids, and 1000 times those of "
                f"{', '.join(FIXED_CLASSES)} plus a number: the file is damaged or of another kind."
            )
        if label_id >= 0 and LABELS[label_id].has_instances:
            counts = runs.counts[runs.starts[i] : runs.starts[i + 1]]
            category = FIXED_CLASSES.index(LABELS[label_id].name)
            found.append(Annotation(counts, category, crowd=value < _NUMBERS))
    return tuple(found)


# --- writing -----------------------------------------------------------------------------------


def encode(scene: Scene, classes: Sequence[str]) -> Encoded:
    """Paint a map of instance ids.

    Parameters
    ----------
    scene : Scene
    classes : sequence of str
        Matched with Cityscapes' by name.

    Returns
    -------
    Encoded
        A map (H, W) int32; label id 0, "unlabeled", where there is nothing.
    """
    values: dict[int, int] = {}
    dropped: dict[int, str] = {}
    numbers: Counter[int] = Counter()
    ground, groups = [], {}
    for i, annotation in enumerate(scene.annotations):
        label_id = _LABEL_IDS.get(classes[annotation.category])
        if label_id is None:
            dropped[i] = "class that Cityscapes has not"
        elif not LABELS[label_id].has_instances:
            values[i] = label_id
            ground.append(i)
            dropped[i] = "class whose objects are not told apart"
        elif annotation.crowd:
            values[i] = label_id
            if groups.setdefault(label_id, i) != i:
                dropped[i] = "joined with another crowd of its class"
        elif numbers[label_id] == _NUMBERS:
            dropped[i] = "more than 1000 of a class in an image"
        else:
            values[i] = _NUMBERS * label_id + numbers[label_id]
            numbers[label_id] += 1
    labels = paint_map(scene, values, below=ground)
    visible = set(np.unique(labels).tolist())
    order = sorted((value, i) for i, value in values.items() if i not in dropped)
    dropped |= {i: "hidden by others, or no pixel" for value, i in order if value not in visible}
    return Encoded(labels, tuple(i for _, i in order if i not in dropped), dropped)


def decode(content: NDArray, size: tuple[int, int], classes: Sequence[str]):
    """Read a map again.

    Parameters
    ----------
    content : (H, W) int32
    size : tuple of int
    classes : sequence of str
        Not needed: categories are places in `FIXED_CLASSES`.

    Returns
    -------
    annotations : tuple of Annotation
    void : None
    """
    return objects_of(content, "cityscapes: decode"), None


def scene_name(name: str) -> str:
    """A name as Cityscapes has it: ``<city>_<sequence>_<frame>``.

    Parameters
    ----------
    name : str

    Returns
    -------
    str
        The name itself if it has that form, else one with the city ``other`` that depends on
        nothing but the name.
    """
    if _SCENE.fullmatch(name):
        return name
    digest = int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big")
    return f"other_{digest // 10**6 % 10**6:06d}_{digest % 10**6:06d}"


def image_place(split: str, name: str, suffix: str) -> str:
    """Where an image stands.

    Parameters
    ----------
    split, name, suffix : str

    Returns
    -------
    str
    """
    city = name.split("_")[0]
    return f"leftImg8bit/{split or 'train'}/{city}/{name}_leftImg8bit{suffix}"


def write_scene(folder: Path, item: Item) -> None:
    """Write the maps of instance ids and label ids.

    Parameters
    ----------
    folder : Path
    item : Item
    """
    start = folder / "gtFine" / (item.split or "train") / item.name.split("_")[0] / item.name
    labels = item.content
    ids = np.where(labels >= _NUMBERS, labels // _NUMBERS, labels)
    write_labels(f"{start}_gtFine_instanceIds.png", labels)
    write_labels(f"{start}_gtFine_labelIds.png", ids)


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
