"""YOLO's segmentation format: ``data.yaml``, ``images`` and a text file an image in ``labels``.

A line of text is the number of a class and the vertices of one polygon, x before y, as shares of
the image's width and height. Four numbers behind the class are a box: centre, width, height.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from segalgos import polygons as outlines
from segalgos import rle
from segalgos.files import IMAGE_SUFFIXES, atomic_path, read_size
from segalgos.formats._reading import check_names
from segalgos.formats._yaml import quote, read_yaml
from segalgos.formats.base import (
    Annotation,
    BeyondImageError,
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
    "SPLITS",
    "decode",
    "encode",
    "find",
    "image_place",
    "lone_labels",
    "read",
    "write_end",
    "write_scene",
]

NAME = "yolo"
#: Names that `data.yaml` has for parts; convert writes no others.
SPLITS = ("train", "val", "test")
_SPLITS = {"train": "train", "val": "val", "valid": "val", "test": "test"}
# Shares may lie a little beyond the image, as other programs round them.
_SLACK = 0.01
_YAMLS = ("data.yaml", "data.yml", "dataset.yaml", "dataset.yml")


def find(path: Path) -> bool:
    """Whether there is a description in YAML, with names of classes and a split.

    Parameters
    ----------
    path : Path

    Returns
    -------
    bool
    """
    return _find_yaml(path) is not None


def _find_yaml(root: Path) -> Path | None:
    if root.suffix.lower() in (".yaml", ".yml") and root.is_file():
        return root
    if not root.is_dir():
        return None
    named = [root / name for name in _YAMLS if (root / name).is_file()]
    found = named or sorted(p for p in root.iterdir() if p.suffix.lower() in (".yaml", ".yml"))
    return found[0] if len(found) == 1 else None


def read(path: Path, problems: Problems | None = None) -> dict[str, Part]:
    """Read all parts.

    Parameters
    ----------
    path : Path
        A folder with ``data.yaml``, or that file.
    problems : Problems, optional
        If there are any, errors of single lines go to ``Scene.problems``, and the lines are left
        out.

    Returns
    -------
    dict of str to Part

    Raises
    ------
    FileNotFoundError
        If there is none, or a folder that it names is missing.
    ValueError
        If a file is damaged; names it and the line.

    Notes
    -----
    An image without a text file has no objects, as in the original. Paths that lead nowhere are
    looked for beside the YAML file, since many exports hold ``../train/images`` or the path on
    the machine that wrote them.
    """
    yaml = _find_yaml(path)
    if yaml is None:
        raise FileNotFoundError(f"yolo: {path} holds no data.yaml, or several YAML files.")
    content = read_yaml(yaml, "yolo")
    classes = _read_names(content.get("names"), f"yolo: {yaml}: names")
    count = content.get("nc")
    if count is not None and count != str(len(classes)):
        raise ValueError(f"yolo: {yaml}: nc is {count!r}, but there are {len(classes)} names.")
    base = yaml.parent
    if isinstance(content.get("path"), str) and (base / content["path"]).is_dir():
        base = base / content["path"]
    parts: dict[str, Part] = {}
    for key, split in _SPLITS.items():
        if content.get(key) is None:
            continue
        if split in parts:
            raise ValueError(f"yolo: {yaml} has both 'val' and 'valid': keep one.")
        images = _list_images(content[key], base, yaml, key)
        check_names([image.stem for image in images], f"yolo: {yaml}: {key}")
        parts[split] = Part(classes, images, partial(_read_scene, classes, problems is not None))
    if not parts:
        raise ValueError(f"yolo: {yaml} names no images: expected 'train:', 'val:' or 'test:'.")
    return parts


def _read_names(names: Any, where: str) -> tuple[str, ...]:
    if isinstance(names, dict):
        numbers = [str(i) for i in range(len(names))]
        if set(names) != set(numbers):
            raise ValueError(f"{where} has the keys {', '.join(names)}, expected 0, 1, 2, ...")
        names = [names[number] for number in numbers]
    if not isinstance(names, list) or not names or not all(isinstance(n, str) for n in names):
        raise ValueError(f"{where} is no list of class names.")
    return tuple(names)


def _list_images(given: Any, base: Path, yaml: Path, key: str) -> list[Path]:
    places = given if isinstance(given, list) else [given]
    images: list[Path] = []
    for place in places:
        if not isinstance(place, str):
            raise ValueError(f"yolo: {yaml}: {key} is {given!r}, expected a folder or a text file.")
        plain = place
        while plain.startswith(("../", "./")):
            plain = plain.split("/", 1)[1]
        candidates = (base / place, yaml.parent / place, yaml.parent / plain)
        there = [p for p in candidates if p.exists()]
        found = next((p for p in there if _is_below(p, yaml.parent)), None)
        if found is None and there:
            raise ValueError(
                f"yolo: {yaml}: {key} is {place!r}, which leads out of the folder of that file: "
                "put it into the folder that holds the images."
            )
        if found is None:
            raise FileNotFoundError(f"yolo: {yaml}: {key} is {place!r}, which is not there.")
        if found.is_dir():
            if not any(p.suffix.lower() in IMAGE_SUFFIXES for p in found.iterdir()):
                found = found / "images" if (found / "images").is_dir() else found
            images += sorted(
                p
                for p in found.iterdir()
                if p.suffix.lower() in IMAGE_SUFFIXES and not p.name.startswith(".")
            )
            continue
        try:
            lines = found.read_text(encoding="utf-8").splitlines()
        except UnicodeDecodeError as error:
            raise ValueError(f"yolo: {found} is no text ({error}): it is damaged.") from error
        for number, line in enumerate(lines, start=1):
            if not line.strip():
                continue
            options = (found.parent / line.strip(), base / line.strip(), yaml.parent / line.strip())
            image = next((p for p in options if p.is_file()), None)
            if image is not None and not _is_below(image, yaml.parent):
                raise ValueError(
                    f"yolo: {found}, line {number}: {line!r} leads out of the folder of "
                    f"{yaml.name}: put images there."
                )
            if image is None:
                raise FileNotFoundError(f"yolo: {found}, line {number}: {line!r} is not there.")
            images.append(image)
    return images


def _is_below(path: Path, folder: Path) -> bool:
    """Whether a path stays in a folder; links to other places were put there by the user."""
    inside = Path(os.path.abspath(path))
    return inside.is_relative_to(os.path.abspath(folder))


def _label_file(image: Path) -> Path:
    """The text file of an image: ``images`` becomes ``labels`` where it stands last."""
    parts = list(image.parent.parts)
    for i in reversed(range(len(parts))):
        if parts[i] == "images":
            parts[i] = "labels"
            return Path(*parts) / f"{image.stem}.txt"
    return image.with_suffix(".txt")


def lone_labels(parts: Mapping[str, Part]) -> list[Path]:
    """Text files of labels that belong to no image.

    Parameters
    ----------
    parts : mapping of str to Part
        What `read` gave.

    Returns
    -------
    list of Path
    """
    known = {_label_file(image) for part in parts.values() for image in part.entries}
    folders = sorted({file.parent for file in known if "labels" in file.parent.parts})
    return [
        file for folder in folders for file in sorted(folder.glob("*.txt")) if file not in known
    ]


def _read_scene(classes: tuple[str, ...], go_on: bool, image: Path) -> Scene:
    size, labels = read_size(image), _label_file(image)
    problems = Problems()
    annotations: tuple[Annotation, ...] = ()
    if labels.is_file():
        try:
            lines = labels.read_text(encoding="utf-8").splitlines()
        except UnicodeDecodeError as error:
            raise ValueError(f"yolo: {labels} is no text ({error}): it is damaged.") from error
        where = f"yolo: {labels}"
        annotations = _read_lines(lines, size, classes, where, problems if go_on else None)
    return Scene(image.stem, size, annotations, image, problems=tuple(problems))


def _read_lines(
    lines: Sequence[str],
    size: tuple[int, int],
    classes: Sequence[str],
    where: str,
    problems: Problems | None = None,
) -> tuple[Annotation, ...]:
    found = []
    for number, line in enumerate(lines, start=1):
        with catch(problems):
            if line.strip():
                found.append(_read_line(line, size, classes, f"{where}, line {number}"))
    return tuple(found)


def _read_line(line: str, size: tuple[int, int], classes: Sequence[str], place: str) -> Annotation:
    try:
        category, *values = [float(word) for word in line.split()]
    except ValueError as error:
        raise ValueError(f"{place} holds something that is no number: {error}.") from error
    if not category.is_integer() or not 0 <= category < len(classes):
        raise UnknownClassError(
            f"{place} begins with {line.split()[0]}, expected a class from 0 to {len(classes) - 1}."
        )
    if len(values) != 4 and (len(values) < 6 or len(values) % 2):
        raise ValueError(
            f"{place} has {len(values)} numbers behind the class, expected x and y of 3 "
            "vertices or more, or the 4 of a box."
        )
    if not all(-_SLACK <= value <= 1 + _SLACK for value in values):  # NaN as well
        raise BeyondImageError(
            f"{place} holds numbers beyond 0 to 1, expected shares of width and height: divide "
            "them by these."
        )
    box_only = len(values) == 4
    if box_only:
        x, y, width, height = values
        left, right, top, bottom = x - width / 2, x + width / 2, y - height / 2, y + height / 2
        values = [left, top, right, top, right, bottom, left, bottom]
    polygon = np.reshape(values, (-1, 2))[:, ::-1] * size
    box = (*polygon[0], *polygon[2]) if box_only else None
    counts = outlines.fill([polygon], size).counts
    return Annotation(counts, int(category), False, None, box, (polygon,), box_only=box_only)


# --- writing -----------------------------------------------------------------------------------


def encode(scene: Scene, classes: Sequence[str]) -> Encoded:
    """Make lines of text, one polygon each.

    Parameters
    ----------
    scene : Scene
    classes : sequence of str

    Returns
    -------
    Encoded
        A list of str. Parts and holes are joined by cuts of no width, see
        `segalgos.polygons.trace`.
    """
    lines, kept, dropped, notes = [], [], {}, []
    traced = outlines.trace(scene.runs, join=True)
    for i, annotation in enumerate(scene.annotations):
        polygon = _one_polygon(annotation, scene.size)
        if not traced[i].polygons:
            dropped[i] = "no pixel"
            continue
        if polygon is None:
            (polygon,) = traced[i].polygons
            notes += ["holes cut open"] if traced[i].n_holes else []
        if traced[i].n_parts > 1:
            notes.append("parts joined by a cut")
        kept.append(i)
        shares = _off_ties(polygon)[:, ::-1] / scene.size[::-1]
        lines.append(" ".join([str(annotation.category), *(f"{v:.9g}" for v in shares.ravel())]))
    return Encoded(lines, tuple(kept), dropped, tuple(notes))


def _one_polygon(annotation: Annotation, size: tuple[int, int]) -> NDArray[np.float64] | None:
    """The polygons of the source as one, None if that would be another mask."""
    if not annotation.polygons:
        return None
    polygon = outlines.chain(annotation.polygons)
    reach = np.array(size) * _SLACK
    if (polygon < -reach).any() or (polygon > size + reach).any():
        return None
    drawn = outlines.fill([polygon], size)
    same = rle.iou(drawn, rle.Runs.join(size, [annotation.counts]))[0, 0]
    return polygon if same == 1 else None


def _off_ties(polygon: NDArray[np.float64]) -> NDArray[np.float64]:
    """Move vertices by at most 1e-4 pixels, so that rounded shares are drawn as they are.

    Drawing rounds to fifths of a pixel; a vertex in the middle between two would go to either.
    """
    places = rle.FINER * polygon + 0.5
    cells = np.trunc(places)
    low = np.where(places < 0, cells - 1, cells)
    margin = 1e-4
    return (np.clip(places, low + margin, low + 1 - margin) - 0.5) / rle.FINER


def decode(content: Sequence[str], size: tuple[int, int], classes: Sequence[str]):
    """Read lines again.

    Parameters
    ----------
    content : sequence of str
    size : tuple of int
    classes : sequence of str

    Returns
    -------
    annotations : tuple of Annotation
    void : None
    """
    return _read_lines(content, size, classes, "yolo: decode"), None


def image_place(split: str, name: str, suffix: str) -> str:
    """Where an image stands.

    Parameters
    ----------
    split, name, suffix : str

    Returns
    -------
    str
    """
    return f"images/{split or 'train'}/{name}{suffix}"


def write_scene(folder: Path, item: Item) -> None:
    """Write the text file of a scene.

    Parameters
    ----------
    folder : Path
    item : Item
    """
    with atomic_path(folder / f"labels/{item.split or 'train'}/{item.name}.txt") as temporary:
        temporary.write_text("".join(f"{line}\n" for line in item.content), encoding="utf-8")


def write_end(
    folder: Path, classes: Sequence[str], class_ids: Sequence[int] | None, items: Sequence[Item]
) -> None:
    """Write ``data.yaml``.

    Parameters
    ----------
    folder : Path
    classes : sequence of str
    class_ids : sequence of int or None
        Not kept: classes are numbered from 0.
    items : sequence of Item
    """
    splits = dict.fromkeys(item.split or "train" for item in items)
    lines = ["path: .", *(f"{split}: images/{split}" for split in splits), "names:"]
    lines += [f"  {i}: {quote(name)}" for i, name in enumerate(classes)]
    for split in splits:
        (folder / "images" / split).mkdir(parents=True, exist_ok=True)
    with atomic_path(folder / "data.yaml") as temporary:
        temporary.write_text("\n".join(lines) + "\n", encoding="utf-8")
