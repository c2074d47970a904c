"""Data sets opened for `segalgos.datasets.check` and `split`: any layout, going on after damage."""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from segalgos.checks import check_choice
from segalgos.datasets import folder
from segalgos.datasets._files import list_images
from segalgos.datasets._findings import Finding
from segalgos.datasets._instances import _name_of
from segalgos.datasets.base import Dataset, Sample

if TYPE_CHECKING:
    from segalgos.formats import Part, Scene

__all__ = ["Entry", "Source", "Truth", "kind_of", "lone_images", "open_any"]

# Data sets whose files are in a format of that name.
_OBJECTS = ("coco", "voc", "yolo", "labelme", "pennfudan")


@dataclass(frozen=True, eq=False)
class Truth:
    """What is known of one image.

    Parameters
    ----------
    size : tuple of int, optional
        Height and width that the labels are for.
    scene : Scene, optional
        Objects.
    labels : (H, W) int32, optional
        Values of pixels, -1 where void.
    image : Path or ndarray, optional
        None if it is not here.
    name : str
        Of the image, "" where the entry has it.
    """

    size: tuple[int, int] | None = None
    scene: Scene | None = None
    labels: NDArray[np.int32] | None = None
    image: Path | NDArray | None = None
    name: str = ""


@dataclass(frozen=True, eq=False)
class Entry:
    """One image of a data set.

    Parameters
    ----------
    split, name : str
    read : callable
        ``read()`` gives its `Truth`; raises ``ValueError`` or ``OSError``.
    key : object
        What the format calls it.
    """

    split: str
    name: str
    read: Callable[[], Truth] = field(repr=False)
    key: object = None


@dataclass(eq=False)
class Source:
    """A data set, opened.

    Parameters
    ----------
    path : Path
    layout : str
        A key of `segalgos.formats.convert.SOURCES`, "folder", or the name of a data set.
    classes : tuple of str
        Of objects, or of the values of label maps; empty where values have no names.
    entries : list of Entry
    findings : list of Finding
        What is wrong with the whole.
    parts : dict of str to Part
        Where the layout is a format.
    values : range or tuple of int, optional
        What label maps may hold.
    """

    path: Path
    layout: str
    classes: tuple[str, ...]
    entries: list[Entry]
    findings: list[Finding] = field(default_factory=list)
    parts: dict[str, Part] = field(default_factory=dict)
    values: Sequence[int] | None = None


def open_any(
    source: str | os.PathLike, layout: str | None, task: str, root: str | os.PathLike | None
) -> Source:
    """Open a folder if there is one, else the data set of that name; see `check`."""
    check_choice("check", "task", task, ("semantic", "instance"))
    path = Path(source)
    is_name = isinstance(source, str) and path.name == source and not path.exists()
    if is_name and layout is None:
        return open_named(source, None if root is None else Path(root))
    return open_folder(path, layout, task)


def open_folder(path: Path, layout: str | None, task: str) -> Source:
    """Open whatever lies in a folder.

    Parameters
    ----------
    path : Path
        A folder, or a file of a format.
    layout : str, optional
        Which layout it is; found out if left out.
    task : {"semantic", "instance"}
        What the values of label maps are.

    Returns
    -------
    Source

    Raises
    ------
    FileNotFoundError
        If nothing is there.
    ValueError
        If the layout is unclear, or a file of the whole set is damaged.
    """
    layout = layout or _detect(path, task)
    if layout == "folder":
        return _open_masks(path)
    return _open_format(path, layout)


def _detect(path: Path, task: str) -> str:
    from segalgos.formats.convert import SOURCES, detect

    if not path.exists():
        raise FileNotFoundError(f"check: {path} does not exist: check the path.")
    found = [name for name, module in SOURCES.items() if module.find(path)]
    if path.is_dir() and folder._layout(path) and not set(found) - {"label_maps"}:
        return "label_maps" if task == "instance" and found else "folder"
    return detect(path, caller="check", remedy="layout= (on the command line --layout)")


# --- formats of objects --------------------------------------------------------------------------


def _open_format(path: Path, layout: str) -> Source:
    from segalgos.formats.base import Problems
    from segalgos.formats.convert import SOURCES

    if layout not in SOURCES:
        raise ValueError(
            f"check: layout is {layout!r}, expected one of {', '.join([*SOURCES, 'folder'])}."
        )
    reader, problems = SOURCES[layout], Problems()
    options = (
        {"problems": problems} if "problems" in inspect.signature(reader.read).parameters else {}
    )
    parts = reader.read(path, **options)
    if {"train", "val"} <= set(parts):
        parts.pop("trainval", None)
    source = Source(path, layout, next(iter(parts.values())).classes, [], parts=parts)
    source.findings += [Finding(kind_of(error), str(error)) for error in problems]
    for split, part in parts.items():
        for i, key in enumerate(part.entries):
            source.entries.append(Entry(split, _name_of(key), partial(_read_scene, part, i), key))
    if layout == "yolo":
        for file in reader.lone_labels(parts):
            source.findings.append(Finding("labels without image", f"{file} belongs to no image"))
    return source


def _read_scene(part: Part, index: int) -> Truth:
    scene = part[index]
    return Truth(scene.size, scene, None, scene.image, scene.name)


def kind_of(error: Exception) -> str:
    """The kind of finding that an error of a reader is."""
    from segalgos.formats.base import BeyondImageError, UnknownClassError

    if isinstance(error, UnknownClassError):
        return "label out of range"
    return "beyond the image" if isinstance(error, BeyondImageError) else "labels cannot be read"


def lone_images(source: Source, images: Iterable[Path]) -> list[Path]:
    """Images that stand beside those of a set and are not of it.

    Parameters
    ----------
    source : Source
    images : iterable of Path
        Those of the set.

    Returns
    -------
    list of Path
    """
    known = {path.absolute() for path in images}
    folders = sorted({path.parent for path in known})
    if source.layout in ("voc", "yolo", "folder"):  # lists may leave images out, which is meant
        return []
    return [p for place in folders for p in list_images(place) if p.absolute() not in known]


# --- images and label maps -----------------------------------------------------------------------


def _open_masks(path: Path) -> Source:
    parts = folder._layout(path)
    if not parts:
        raise FileNotFoundError(
            f"check: {path} holds no folder 'images', nor 'train/images': name another layout."
        )
    names = folder._read_names(path)
    source = Source(path, "folder", (), [])
    if isinstance(names, list):
        source.classes, source.values = tuple(names), range(len(names))
    elif isinstance(names, dict):
        source.classes, source.values = tuple(names.values()), tuple(names)
    for split, part in parts.items():
        pairs, lone = folder.match_masks(part)
        for image, masks in pairs:
            if len(masks) > 1:
                detail = f"{image} has {len(masks)} masks, {' and '.join(p.name for p in masks)}"
                source.findings.append(Finding("labels cannot be read", detail, split, image.stem))
            if masks:
                read = partial(_read_mask, image, masks[0])
                source.entries.append(Entry(split, image.stem, read, (image, masks[0])))
            else:
                detail = f"{image} has no mask"
                source.findings.append(Finding("image without labels", detail, split, image.stem))
        for mask in lone:
            detail = f"{mask} belongs to no image"
            source.findings.append(Finding("labels without image", detail, split, mask.stem))
    return source


def _read_mask(image: Path, mask: Path) -> Truth:
    values, colour = folder._read_values(mask)
    if colour:  # a grey mask saved in colour holds its values
        grey = (values & 255) * folder._GREY
        values = values & 255 if (values == grey).all() else values
    return Truth(values.shape, None, values, image)


# --- data sets by name ---------------------------------------------------------------------------


def open_named(name: str, root: Path | None) -> Source:
    """Open all parts of a data set that `segalgos.datasets.load` knows.

    Parameters
    ----------
    name : str
    root : Path, optional

    Returns
    -------
    Source

    Raises
    ------
    ValueError
        If there is no such data set.
    FileNotFoundError
        If no part of it is here.
    """
    from segalgos.datasets import catalog

    info = next((info for info in catalog.available() if info.name == name), None)
    if info is None:
        catalog.load(name)  # says what is near
    if name in _OBJECTS:  # whatever parts there are
        place = catalog.locate(name, root)
        if place is None:
            catalog.load(name, root=root)  # says where it was looked for
        return open_folder(place, name, "instance")
    source, missing = Source(Path(name), name, (), []), []
    for split in info.splits:
        if split == "all" and source.entries:
            continue
        try:
            dataset = catalog.load(name, split=split, root=root)
        except (FileNotFoundError, ValueError) as error:
            missing.append(error)
            continue
        source.classes = dataset.classes
        for i in range(len(dataset)):
            read = partial(_read_sample, dataset, i)
            source.entries.append(Entry(split, f"{split}[{i}]", read))
    if not source.entries:
        raise FileNotFoundError(f"check: no part of {name} can be read: {missing[0]}") from missing[
            0
        ]
    source.values = range(len(source.classes))
    return source


def _read_sample(dataset: Dataset, index: int) -> Truth:
    sample: Sample = dataset[index]
    scene = None if sample.instances is None else _scene_of(sample)
    labels = sample.labels if scene is None else None
    size = sample.image.shape[:2] if labels is None else labels.shape
    return Truth(size, scene, labels, sample.image, sample.name)


def _scene_of(sample: Sample) -> Scene:
    from segalgos import rle
    from segalgos.formats import Annotation, Scene

    objects = sample.instances
    runs = rle.encode(objects.masks)
    annotations = tuple(
        Annotation(runs.counts[a:b], int(category), bool(crowd))
        for a, b, category, crowd in zip(
            runs.starts[:-1], runs.starts[1:], objects.classes, objects.crowd, strict=True
        )
    )
    return Scene(sample.name, objects.shape, annotations)
