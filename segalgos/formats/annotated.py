"""What `segalgos annotate` keeps: images by reference, a JSON file of masks for each.

::

    DIR/project.json                {"version": 1, "classes": [...], "images": [...]}
    DIR/objects/000001.json         {"version": 1, "size": [H, W], "mark": "done", "items": [...]}

`segalgos.formats.convert` reads it like any format; `segalgos.annotation` alone writes it.
"""

from __future__ import annotations

import re
from collections import Counter
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from segalgos import rle
from segalgos.formats._reading import expect, expect_size, read_json
from segalgos.formats.base import Annotation, Part, Scene

__all__ = [
    "FILE",
    "FOLDER",
    "MARKS",
    "NAME",
    "VERSION",
    "ClassInfo",
    "ImageInfo",
    "annotation_path",
    "find",
    "read",
    "read_annotation",
    "read_class",
    "read_item",
    "read_project",
]

NAME = "annotated"
FILE = "project.json"
FOLDER = "objects"
VERSION = 1
#: What a person may say of an image besides its objects.
MARKS = ("open", "done", "skipped")


class ClassInfo(NamedTuple):
    """A class of a data set that is being made.

    Parameters
    ----------
    id : int
        At least 1; 0 is background.
    name : str
    color : str
        Like ``#e69f00``.
    countable : bool
        Whether its objects are told apart; else all that an image holds of it is one area.
    """

    id: int
    name: str
    color: str
    countable: bool = True


class ImageInfo(NamedTuple):
    """An image of a data set that is being made.

    Parameters
    ----------
    id : int
        At least 1.
    file : str
        Its path as seen from the data set's folder, or an absolute one.
    """

    id: int
    file: str


def annotation_path(folder: Path, image_id: int) -> Path:
    """Tell where the objects of an image are kept.

    Parameters
    ----------
    folder : Path
    image_id : int

    Returns
    -------
    Path
    """
    return folder / FOLDER / f"{image_id:06d}.json"


def find(path: Path) -> bool:
    """Whether the folder is one that `segalgos annotate` made.

    Parameters
    ----------
    path : Path

    Returns
    -------
    bool
    """
    return (path / FILE).is_file() and (path / FOLDER).is_dir()


def _expect_version(content: Any, where: str) -> dict[str, Any]:
    expect(content, dict, where, "an object")
    version = expect(content.get("version"), int, f"{where}: 'version'", "a number")
    if version != VERSION:
        raise ValueError(
            f"{where} has version {version}, expected {VERSION}: it was written by another version "
            "of segalgos."
        )
    return content


def read_project(folder: Path) -> tuple[list[ClassInfo], list[ImageInfo], int]:
    """Read which classes and images there are.

    Parameters
    ----------
    folder : Path

    Returns
    -------
    classes : list of ClassInfo
    images : list of ImageInfo
    revision : int
        How often classes were changed.

    Raises
    ------
    ValueError
        If the file is damaged; names the entry.
    """
    where = f"annotated: {folder / FILE}"
    content = _expect_version(read_json(folder / FILE, "annotated"), where)
    classes = []
    for i, entry in enumerate(expect(content.get("classes"), list, f"{where}: classes", "a list")):
        classes.append(read_class(entry, f"{where}: classes[{i}]"))
    images = []
    for i, entry in enumerate(expect(content.get("images"), list, f"{where}: images", "a list")):
        place = f"{where}: images[{i}]"
        expect(entry, dict, place, "an object")
        number = expect(entry.get("id"), int, f"{place}['id']", "a number")
        images.append(ImageInfo(number, expect(entry.get("file"), str, f"{place}['file']", "text")))
    for what, ids in (("classes", [c.id for c in classes]), ("images", [i.id for i in images])):
        if len(set(ids)) < len(ids) or min(ids, default=1) < 1:
            raise ValueError(f"{where}: ids of {what} are used twice or below 1: it is damaged.")
    revision = expect(content.get("revision", 0), int, f"{where}: 'revision'", "a number")
    return classes, images, revision


def read_class(entry: Any, where: str) -> ClassInfo:
    """Check a class.

    Parameters
    ----------
    entry : object
        A dict with the fields of `ClassInfo`.
    where : str
        What errors begin with.

    Returns
    -------
    ClassInfo

    Raises
    ------
    ValueError
        If it is none.
    """
    expect(entry, dict, where, "an object")
    color = expect(entry.get("color"), str, f"{where}['color']", "text")
    if not re.fullmatch("#[0-9a-f]{6}", color):
        raise ValueError(f"{where}['color'] is {color[:40]!r}, expected one like '#e69f00'.")
    return ClassInfo(
        expect(entry.get("id"), int, f"{where}['id']", "a number"),
        expect(entry.get("name"), str, f"{where}['name']", "text"),
        color,
        expect(entry.get("countable", True), bool, f"{where}['countable']", "true or false"),
    )


def read_annotation(path: Path) -> dict[str, Any]:
    """Read the file of one image, and check what all readers need of it.

    Parameters
    ----------
    path : Path

    Returns
    -------
    dict
        With "size", "mark" and "items"; the masks of objects are arrays "counts".

    Raises
    ------
    ValueError
        If the file is damaged; names the entry.
    """
    where = f"annotated: {path}"
    content = _expect_version(read_json(path, "annotated"), where)
    size = expect(content.get("size"), list, f"{where}: 'size'", "height and width")
    if len(size) != 2:
        raise ValueError(f"{where}: 'size' is {size!r}, expected height and width.")
    content["size"] = expect_size(*size, where)
    if content.get("mark") not in MARKS:
        raise ValueError(f"{where}: 'mark' is {content.get('mark')!r}, expected one of {MARKS}.")
    for i, entry in enumerate(expect(content.get("items"), list, f"{where}: items", "a list")):
        read_item(entry, content["size"], f"{where}: items[{i}]")
    return content


def read_item(entry: Any, size: tuple[int, int], where: str) -> dict[str, Any]:
    """Check an object or scribble, and unpack its mask in place.

    Parameters
    ----------
    entry : object
    size : tuple of int
    where : str
        What errors begin with.

    Returns
    -------
    dict
        `entry`.

    Raises
    ------
    ValueError
        If it is damaged.
    """
    expect(entry, dict, where, "an object")
    expect(entry.get("id"), int, f"{where}['id']", "a number")
    expect(entry.get("class"), int, f"{where}['class']", "a number")
    if entry.get("type") not in ("object", "scribble"):
        raise ValueError(f"{where}['type'] is {entry.get('type')!r}: expected object or scribble.")
    if entry["type"] == "object":
        code = {"size": list(size), "counts": entry.get("counts")}
        entry["counts"] = rle.read_one(code, where)[1]
    return entry


def read(path: Path) -> dict[str, Part]:
    """Read the images that are done, and those that have objects and are not skipped.

    Parameters
    ----------
    path : Path

    Returns
    -------
    dict of str to Part
        One part. What an image holds of a class that is not countable is one object.

    Raises
    ------
    FileNotFoundError
        If there is no such folder.
    ValueError
        If a file is damaged.
    """
    if not find(path):
        raise FileNotFoundError(f"annotated: {path} has no {FILE}: expected what annotate wrote.")
    classes, images, _ = read_project(path)
    stems = Counter(Path(image.file).stem for image in images)
    entries = []
    for image in images:
        file = annotation_path(path, image.id)
        if not file.exists():
            continue
        content = read_annotation(file)
        has_objects = any(item["type"] == "object" for item in content["items"])
        if content["mark"] == "done" or (has_objects and content["mark"] == "open"):
            stem = Path(image.file).stem
            name = stem if stems[stem] == 1 else f"{stem}-{image.id}"
            entries.append((file, path / image.file, name))
    return {"": Part(tuple(c.name for c in classes), entries, partial(_read_scene, classes))}


def _read_scene(classes: list[ClassInfo], entry: tuple[Path, Path, str]) -> Scene:
    file, image, name = entry
    content = read_annotation(file)
    places = {c.id: place for place, c in enumerate(classes)}
    areas: dict[int, list[np.ndarray]] = {}
    found = []
    for item in content["items"]:
        if item["type"] != "object":
            continue
        if item["class"] not in places:
            raise ValueError(f"annotated: {file}: an object has the class {item['class']}.")
        place = places[item["class"]]
        if classes[place].countable:
            found.append(Annotation(item["counts"], place))
        else:
            areas.setdefault(place, []).append(item["counts"])
    for place, parts in areas.items():
        joined = rle.merge(rle.Runs.join(content["size"], parts))
        found.append(Annotation(joined.counts, place))
    here = image if image.is_file() else None
    return Scene(name, content["size"], tuple(found), here, file_name=image.name)
