"""labelme's format: a JSON file an image, which holds shapes with a label each.

Shapes of one label and one ``group_id`` are parts of one object. ``imageData`` is never read.
"""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from segalgos import polygons as outlines
from segalgos import rle
from segalgos.files import MAX_PIXELS, atomic_path, read_size
from segalgos.formats._reading import (
    check_names,
    expect,
    expect_size,
    find_image,
    image_by_stem,
    plain_path,
    read_json,
    split_name,
)
from segalgos.formats.base import (
    Annotation,
    Encoded,
    Item,
    Part,
    Problems,
    Scene,
    UnknownClassError,
    catch,
)

__all__ = [
    "NAME",
    "decode",
    "encode",
    "find",
    "image_place",
    "read",
    "write_end",
    "write_scene",
]

NAME = "labelme"
_WITHOUT_AREA = ("line", "linestrip", "point", "points")
_FOLDERS = ("", "images", "../images")
_NAMES = "labels.txt"


def find(path: Path) -> bool:
    """Whether there is a JSON file with shapes, here or one folder below.

    Parameters
    ----------
    path : Path

    Returns
    -------
    bool
    """
    for file in (path,) if path.is_file() else _list_files(path):
        try:
            content = read_json(file, "labelme")
        except (ValueError, OSError):
            continue
        return isinstance(content, dict) and "shapes" in content
    return False


def _list_files(root: Path) -> list[Path]:
    if not root.is_dir():
        return []
    found = [*root.glob("*.json"), *root.glob("*/*.json")]
    return sorted(path for path in found if not path.name.startswith("."))


def read(path: Path, problems: Problems | None = None) -> dict[str, Part]:
    """Read all parts.

    Parameters
    ----------
    path : Path
        A folder of JSON files, or of folders ``train``, ``val``, ... of them; or one file.
    problems : Problems, optional
        Where to put errors of single files, which are then left out; those of shapes go to
        ``Scene.problems``.

    Returns
    -------
    dict of str to Part
        Classes are the lines of ``labels.txt``, or the labels that occur in any file, sorted.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If a file is damaged; names it and the shape.

    Notes
    -----
    All files are read once to find the labels. Polygons, rectangles, circles and masks are
    objects; lines and points have no area and are left out, which `Scene.left_out` tells.
    """
    groups: dict[str, list[Path]] = {}
    for file in (path,) if path.is_file() else _list_files(path):
        here = path.is_file() or file.parent == path
        split = "" if here else split_name(file.parent.name) or file.parent.name
        groups.setdefault(split, []).append(file)
    if not groups:
        raise FileNotFoundError(f"labelme: {path} holds no JSON file.")
    labels: set[str] = set()
    for split, files in groups.items():
        check_names([file.stem for file in files], f"labelme: {files[0].parent}")
        good = []
        for file in files:
            with catch(problems):
                labels.update(shape["label"] for shape in _read_content(file)["shapes"])
                good.append(file)
        groups[split] = good
    classes = _read_names(path) or tuple(sorted(labels))
    for strange in sorted(labels - set(classes)):
        with catch(problems):
            raise UnknownClassError(
                f"labelme: {path / _NAMES} does not list {strange!r}, which is a label: add it."
            )
    read_file = partial(_read_scene, classes, problems is not None)
    return {split: Part(classes, files, read_file) for split, files in groups.items()}


def _read_names(root: Path) -> tuple[str, ...]:
    """Lines of ``labels.txt`` that name classes; those of labelme's own meaning are left out."""
    path = root / _NAMES
    if not path.is_file():
        return ()
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise ValueError(f"labelme: {path} is no text ({error}): it is damaged.") from error
    names = [line.strip() for line in lines if line.strip()]
    return tuple(dict.fromkeys(n for n in names if n not in ("__ignore__", "_background_")))


def _read_content(path: Path) -> dict[str, Any]:
    where = f"labelme: {path}"
    content = expect(read_json(path, "labelme"), dict, where, "an object with 'shapes'")
    if "shapes" not in content:
        raise ValueError(f"{where} has no list of shapes: is it labelme's format?")
    for i, shape in enumerate(expect(content["shapes"], list, f"{where}: shapes", "a list")):
        expect(shape, dict, f"{where}: shapes[{i}]", "an object")
        expect(shape.get("label"), str, f"{where}: shapes[{i}]['label']", "text")
    return content


def _read_scene(classes: tuple[str, ...], go_on: bool, path: Path) -> Scene:
    content, where = _read_content(path), f"labelme: {path}"
    image = _find_image(content, path, where)
    height, width = content.get("imageHeight"), content.get("imageWidth")
    if height is not None and width is not None:
        size = expect_size(height, width, where)
    elif image is not None:
        size = read_size(image)
    else:
        raise ValueError(f"{where} tells no imageHeight and imageWidth, and its image is not here.")
    problems = Problems()
    kept = problems if go_on else None
    annotations, left_out = _read_shapes(content["shapes"], size, classes, where, kept)
    called = str(content.get("imagePath") or "").replace("\\", "/").rsplit("/", 1)[-1]
    return Scene(path.stem, size, annotations, image, None, left_out, called, tuple(problems))


def _find_image(content: dict[str, Any], path: Path, where: str) -> Path | None:
    if content.get("imagePath"):
        text = expect(content["imagePath"], str, f"{where}: imagePath", "the name of a file")
        # Many files name the image by where it was when it was drawn on: only its name counts.
        name = plain_path(text.replace("\\", "/").rsplit("/", 1)[-1], f"{where}: imagePath")
        found = find_image(name, [path.parent / folder for folder in _FOLDERS])
        if found is not None:
            return found
    places = (image_by_stem(path.parent / folder, path.stem) for folder in _FOLDERS)
    return next((place for place in places if place is not None), None)


def _read_shapes(
    shapes: Sequence[dict[str, Any]],
    size: tuple[int, int],
    classes: Sequence[str],
    where: str,
    problems: Problems | None = None,
) -> tuple[tuple[Annotation, ...], tuple[str, ...]]:
    groups: dict[Any, list[tuple[int, dict[str, Any]]]] = {}
    left_out = []
    for i, shape in enumerate(shapes):
        kind = shape.get("shape_type", "polygon")
        if kind in _WITHOUT_AREA:
            left_out.append(kind)
            continue
        group = shape.get("group_id")
        if group is None:
            key: Any = i
        else:
            key = shape["label"], expect(group, (int, str), f"{where}: shapes[{i}]", "a group_id")
        groups.setdefault(key, []).append((i, shape))
    found = []
    for members in groups.values():
        with catch(problems):
            found.append(_read_group(members, size, classes, where))
    return tuple(found), tuple(left_out)


def _read_group(
    members: Sequence[tuple[int, dict[str, Any]]],
    size: tuple[int, int],
    classes: Sequence[str],
    where: str,
) -> Annotation:
    """The object that shapes of one label and group are."""
    label = members[0][1]["label"]
    if label not in classes:
        raise UnknownClassError(f"{where}: shapes[{members[0][0]}] is a {label!r}, not a class.")
    counts, polygons, others = [], [], set()
    for i, shape in members:
        place = f"{where}: shapes[{i}]"
        runs, polygon = _read_shape(shape, size, place)
        counts.append(runs.counts)
        polygons.append(polygon)
        if polygon is None and shape.get("shape_type") == "circle":
            others.add("circle")
        flags = expect(shape.get("flags") or {}, dict, f"{place}['flags']", "an object")
        others.update(str(key) for key, value in flags.items() if value and key != "crowd")
        others.update(("description",) if shape.get("description") else ())
    crowd = any((shape.get("flags") or {}).get("crowd") is True for _, shape in members)
    mask = rle.merge(rle.Runs.join(size, counts)).counts
    outline = None if any(p is None for p in polygons) else tuple(polygons)
    category = classes.index(label)
    return Annotation(mask, category, crowd, None, None, outline, others=tuple(sorted(others)))


def _read_shape(
    shape: dict[str, Any], size: tuple[int, int], where: str
) -> tuple[rle.Runs, NDArray[np.float64] | None]:
    """The mask of a shape, and its polygon if it is one; rows before columns."""
    try:
        points = np.array(shape.get("points"), np.float64)
    except (ValueError, TypeError, OverflowError) as error:
        raise ValueError(f"{where}['points'] cannot be read as numbers: {error}") from error
    if points.ndim != 2 or points.shape[1] != 2 or not np.isfinite(points).all():
        raise ValueError(f"{where}['points'] is no list of pairs x, y.")
    if (np.abs(points) > rle.REACH * max(size)).any():
        raise ValueError(
            f"{where}['points'] are beyond {rle.REACH} times the image: it is damaged."
        )
    points = points[:, ::-1]
    kind = shape.get("shape_type", "polygon")
    if kind == "polygon":
        if len(points) < 3:
            raise ValueError(f"{where} is a polygon of {len(points)} points, expected 3 or more.")
        return outlines.fill([points], size), points
    if kind == "rectangle":
        if len(points) not in (2, 4):
            raise ValueError(f"{where} is a rectangle of {len(points)} points, expected 2 or 4.")
        if len(points) == 2:
            (row0, row1), (col0, col1) = np.sort(points, axis=0).T
            points = np.array([(row0, col0), (row0, col1), (row1, col1), (row1, col0)])
        return outlines.fill([points], size), points
    if kind == "circle":
        if len(points) != 2:
            raise ValueError(f"{where} is a circle of {len(points)} points, expected 2.")
        (row, column), radius = points[0], np.hypot(*(points[1] - points[0]))
        rows, columns = (np.arange(n) + 0.5 for n in size)
        inside = (rows[:, None] - row) ** 2 + (columns - column) ** 2 <= radius**2
        return rle.encode(inside[None]), None
    if kind == "mask":
        return _read_mask(shape, points, size, where), None
    raise ValueError(
        f"{where} has the shape_type {kind!r}, expected polygon, rectangle, circle, mask, "
        f"{', '.join(_WITHOUT_AREA)}."
    )


def _read_mask(
    shape: dict[str, Any], points: NDArray, size: tuple[int, int], where: str
) -> rle.Runs:
    """A small picture that is laid on the image at its first point."""
    from PIL import Image

    text = expect(shape.get("mask"), str, f"{where}['mask']", "a picture in base64")
    try:
        with Image.open(io.BytesIO(base64.b64decode(text, validate=True))) as file:
            if file.width * file.height > MAX_PIXELS:
                raise ValueError("it is too large")
            picture = np.array(file.convert("L")) > 0
    except Exception as error:  # decoders raise anything on damaged files
        raise ValueError(f"{where}['mask'] is no picture in base64: {error}") from error
    row, column = np.floor(points.min(axis=0)).astype(int) if len(points) else (0, 0)
    mask = np.zeros(size, bool)
    if (
        row < 0
        or column < 0
        or row + picture.shape[0] > size[0]
        or column + picture.shape[1] > size[1]
    ):
        raise ValueError(
            f"{where}['mask'] of {picture.shape} at {row}, {column} is beyond the image's {size}."
        )
    mask[row : row + picture.shape[0], column : column + picture.shape[1]] = picture
    return rle.encode(mask[None])


# --- writing -----------------------------------------------------------------------------------


def encode(scene: Scene, classes: Sequence[str]) -> Encoded:
    """Make shapes, a polygon for each part of an object.

    Parameters
    ----------
    scene : Scene
    classes : sequence of str

    Returns
    -------
    Encoded
        A list of dicts. Parts of one object share a ``group_id``; crowds have the flag "crowd".
    """
    shapes, kept, dropped, notes = [], [], {}, []
    for i, (annotation, traced) in enumerate(zip(scene.annotations, outlines.trace(scene.runs))):
        if not traced.polygons:
            dropped[i] = "no pixel"
            continue
        kept.append(i)
        polygons = annotation.polygons or traced.polygons
        if not annotation.polygons and traced.n_holes:
            notes.append("holes cut open")
        for polygon in polygons:
            shapes.append(
                {
                    "label": classes[annotation.category],
                    "points": polygon[:, ::-1].tolist(),
                    "group_id": i + 1 if len(polygons) > 1 else None,
                    "description": "",
                    "shape_type": "polygon",
                    "flags": {"crowd": True} if annotation.crowd else {},
                }
            )
    return Encoded(shapes, tuple(kept), dropped, tuple(notes))


def decode(content: list[dict[str, Any]], size: tuple[int, int], classes: Sequence[str]):
    """Read shapes again.

    Parameters
    ----------
    content : list of dict
    size : tuple of int
    classes : sequence of str

    Returns
    -------
    annotations : tuple of Annotation
    void : None
    """
    return _read_shapes(content, size, classes, "labelme: decode")[0], None


def image_place(split: str, name: str, suffix: str) -> str:
    """Where an image stands: beside its file.

    Parameters
    ----------
    split, name, suffix : str

    Returns
    -------
    str
    """
    return f"{split}/{name}{suffix}" if split else f"{name}{suffix}"


def write_scene(folder: Path, item: Item) -> None:
    """Write the file of a scene.

    Parameters
    ----------
    folder : Path
        Or a file that ends in ``.json``.
    item : Item
    """
    path = folder
    if folder.suffix.lower() != ".json":
        path = folder / item.split / f"{item.name}.json"
    content = {
        "version": "5.5.0",
        "flags": {},
        "shapes": item.content,
        "imagePath": Path(item.image).name,
        "imageData": None,
        "imageHeight": item.size[0],
        "imageWidth": item.size[1],
    }
    with atomic_path(path) as temporary:
        temporary.write_text(json.dumps(content, indent=1), encoding="utf-8")


def write_end(
    folder: Path, classes: Sequence[str], class_ids: Sequence[int] | None, items: Sequence[Item]
) -> None:
    """Write ``labels.txt``, so that classes without objects are known.

    Parameters
    ----------
    folder : Path
    classes : sequence of str
    class_ids : sequence of int or None
    items : sequence of Item
    """
    if folder.suffix.lower() != ".json":
        with atomic_path(folder / _NAMES) as temporary:
            temporary.write_text("".join(f"{name}\n" for name in classes), encoding="utf-8")
