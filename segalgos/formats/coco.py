"""COCO's instance format, as COCO, Roboflow, CVAT and others write it.

Layouts that are found::

    DIR/annotations/instances_train2017.json    DIR/train2017/*.jpg or DIR/images/train2017/*.jpg
    DIR/annotations/instances_default.json      DIR/images/*.jpg                     (CVAT)
    DIR/train/_annotations.coco.json            DIR/train/*.jpg                      (Roboflow)
    DIR/labels.json                             DIR/data/*.jpg                       (FiftyOne)

and any one file, with its images beside it or in ``images``.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from segalgos import polygons as outlines
from segalgos import rle
from segalgos.files import atomic_path, read_size
from segalgos.formats._reading import (
    check_names,
    expect,
    expect_box,
    expect_size,
    find_image,
    plain_path,
    read_json,
    split_folders,
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
    "files",
    "find",
    "image_place",
    "read",
    "read_content",
    "to_content",
    "write_end",
    "write_scene",
]

NAME = "coco"
_ROBOFLOW = "_annotations.coco.json"
_ALONE = (_ROBOFLOW, "annotations.json", "instances.json", "labels.json", "coco.json")
# Files of COCO's other tasks, which stand beside those of instances.
_OTHER_TASKS = ("panoptic_", "captions_", "person_keypoints_", "stuff_", "image_info_", "semantic_")
_KNOWN = {
    *("id", "image_id", "category_id", "segmentation", "bbox", "area", "iscrowd", "score"),
    *("ignore", "segmented", "width", "height"),
}


def find(path: Path) -> bool:
    """Whether there is a file in this format.

    Parameters
    ----------
    path : Path

    Returns
    -------
    bool
    """
    return bool(files(path))


def files(root: Path) -> dict[str, Path]:
    """Find the files of all parts.

    Parameters
    ----------
    root : Path
        A folder or a file.

    Returns
    -------
    dict of str to Path
        By split, "" where a name tells none; empty if there are none.

    Raises
    ------
    ValueError
        If two files are the same part.
    """
    if root.suffix.lower() == ".json" and root.is_file():
        return {"": root}
    folder = root / "annotations"
    if folder.is_dir():
        found = sorted(p for p in folder.glob("*.json") if not p.name.startswith("."))
        instances = [p for p in found if p.name.startswith("instances_")]
        found = instances or [p for p in found if not p.name.startswith(_OTHER_TASKS)]
        if found:
            return _by_split([(p.stem.removeprefix("instances_"), p) for p in found])
    parts = split_folders(root, _ROBOFLOW)
    if parts:
        return {split: part / _ROBOFLOW for split, part in parts.items()}
    alone = [root / name for name in _ALONE if (root / name).is_file()]
    return {"": alone[0]} if len(alone) == 1 else {}


def _by_split(named: Sequence[tuple[str, Path]]) -> dict[str, Path]:
    found: dict[str, Path] = {}
    for name, path in named:
        split = split_name(name)
        if len(named) == 1 and split in ("instances", "annotations", "coco", "labels"):
            split = ""
        if split in found:
            raise ValueError(
                f"coco: {found[split]} and {path} are both the part {split or 'without a name'!r}: "
                "pass one of the files instead of the folder."
            )
        found[split] = path
    return found


def read(
    path: Path, shape: tuple[int, int] | None = None, problems: Problems | None = None
) -> dict[str, Part]:
    """Read all parts.

    Parameters
    ----------
    path : Path
        A folder or a file.
    shape : (H, W), optional
        Size of images whose file does not tell it.
    problems : Problems, optional
        Where to put errors of single images and annotations, which are then left out; those of
        masks go to ``Scene.problems``.

    Returns
    -------
    dict of str to Part

    Raises
    ------
    FileNotFoundError
        If nothing is there in this format.
    ValueError
        If a file is damaged; names the file and the entry.
    """
    found = files(path)
    if not found:
        raise FileNotFoundError(
            f"coco: {path} is no COCO file and holds none: expected annotations/instances_*.json, "
            f"*/{_ROBOFLOW}, or one of {', '.join(_ALONE)}."
        )
    root = path.parent if path.is_file() else path
    return {
        split: _read_part(
            file, root, shape, (split, file.stem.removeprefix("instances_")), problems
        )
        for split, file in found.items()
    }


def read_content(path: Path, problems: Problems | None = None) -> dict[str, Any]:
    """Read a file as it is, and check its structure.

    Parameters
    ----------
    path : Path
    problems : Problems, optional
        Where to put errors of single annotations; None then stands in their place.

    Returns
    -------
    dict
        With "images", "annotations" and "categories", lists of dicts whose ids fit together.

    Raises
    ------
    ValueError
        If it is damaged; names the entry.
    """
    content = read_json(path, "coco")
    if isinstance(content, list):  # results, or the annotations of one image
        content = {"annotations": content}
    where = f"coco: {path}"
    expect(content, dict, where, "an object with 'images', 'annotations' and 'categories'")
    if "annotations" not in content:
        raise ValueError(f"{where} has no list of annotations: is it COCO's instance format?")
    for key in ("images", "annotations", "categories"):
        for i, entry in enumerate(expect(content.get(key, []), list, f"{where}: {key}", "a list")):
            expect(entry, dict, f"{where}: {key}[{i}]", "an object")
    annotations = content["annotations"]
    if "images" not in content:
        images = dict.fromkeys(_hashable(a.get("image_id", 1), where) for a in annotations)
        content["images"] = [{"id": i} for i in images or (1,)]
    if "categories" not in content:
        ids = sorted(
            {_category(a, f"{where}: annotations[{i}]") for i, a in enumerate(annotations)}
        )
        content["categories"] = [{"id": i, "name": f"class {i}"} for i in ids]
    for key in ("images", "categories"):
        seen: set[Any] = set()
        for i, entry in enumerate(content[key]):
            place = f"{where}: {key}[{i}]"
            number = _hashable(entry.get("id"), place)
            if number is None or number in seen:
                raise ValueError(f"{place} has the id {number!r}, which is missing or used before.")
            seen.add(number)
            if key == "categories":
                expect(number, int, f"{place}['id']", "an integer")
                expect(entry.get("name"), str, f"{place}['name']", "text")
    image_ids = {entry["id"] for entry in content["images"]}
    category_ids = {entry["id"] for entry in content["categories"]}
    only = next(iter(image_ids)) if len(image_ids) == 1 else None
    for i, entry in enumerate(annotations):
        annotations[i] = None
        with catch(problems):
            place = f"{where}: annotations[{i}]"
            _check_ids(entry, place, image_ids, category_ids, only)
            annotations[i] = entry
    return content


def _check_ids(
    entry: dict[str, Any], place: str, image_ids: set, category_ids: set, only: Any
) -> None:
    if _hashable(entry.get("image_id", only), place) not in image_ids:
        raise ValueError(f"{place} is of image {entry.get('image_id')!r}, which is not there.")
    if _category(entry, place) not in category_ids:
        raise UnknownClassError(
            f"{place} is of category {entry.get('category_id')!r}, which is not there."
        )


def _hashable(value: Any, where: str) -> Any:
    return value if value is None else expect(value, (int, str), f"{where}: an id", "an integer")


def _category(annotation: dict[str, Any], where: str) -> int:
    return expect(annotation.get("category_id", 0), int, f"{where}['category_id']", "an integer")


def _read_part(
    path: Path,
    root: Path,
    shape: tuple[int, int] | None,
    splits: tuple[str, ...],
    problems: Problems | None,
) -> Part:
    content = read_content(path, problems)
    categories = sorted(content["categories"], key=lambda entry: entry["id"])
    class_ids = tuple(entry["id"] for entry in categories)
    folders = [path.parent, *(path.parent / s / f for s in splits for f in ("", "images"))]
    folders += [root / "images" / s for s in splits] + [root / s for s in splits]
    folders += [root / "images", root / "data", root]
    by_image: dict[Any, list[tuple[int, dict[str, Any]]]] = {}
    only = content["images"][0]["id"] if len(content["images"]) == 1 else None
    for i, annotation in enumerate(content["annotations"]):
        if annotation is None:
            continue
        by_image.setdefault(annotation.get("image_id", only), []).append((i, annotation))
    entries, names = [], []
    for i, image in enumerate(content["images"]):
        with catch(problems):
            alone = path.stem if len(content["images"]) == 1 else f"image {i}"
            own = by_image.get(image["id"], [])
            where = f"coco: {path}: images[{i}]"
            entries.append(_read_image(image, own, alone, dict.fromkeys(folders), shape, where))
            names.append(entries[-1][0])
    check_names(names, f"coco: {path}")
    places = {number: place for place, number in enumerate(class_ids)}
    read_entry = partial(_read_scene, path, places, problems is not None)
    return Part(tuple(c["name"] for c in categories), entries, read_entry, class_ids)


def _read_image(image, annotations, alone, folders, shape, where) -> tuple:
    """What `_read_scene` needs of an image; ``alone`` is the name of one that has none."""
    name, file, called = alone, None, ""
    if "file_name" in image:
        given = plain_path(image["file_name"], f"{where}['file_name']")
        name, file, called = given.stem, find_image(given, folders), given.name
    size = _read_size(image, file, annotations, shape, where)
    return name, called, file, size, annotations


def _read_size(
    image: dict[str, Any],
    file: Path | None,
    annotations: list[tuple[int, dict[str, Any]]],
    shape: tuple[int, int] | None,
    where: str,
) -> tuple[int, int]:
    if image.get("height") is not None and image.get("width") is not None:
        return expect_size(image["height"], image["width"], where)
    if shape is not None:
        return expect_size(*shape, where)
    for i, annotation in annotations:
        code = annotation.get("segmentation")
        if isinstance(code, dict):
            return rle.read_one(code, f"{where}: annotations[{i}]")[0]
    if file is not None:
        return read_size(file)
    raise ValueError(
        f"{where} has no 'height' and 'width', and its image is not here: put it there, or tell "
        "the size (on the command line --height and --width)."
    )


def _read_scene(path: Path, places: dict[int, int], go_on: bool, entry: tuple) -> Scene:
    name, called, file, size, annotations = entry
    found, problems = [], Problems()
    for i, annotation in annotations:
        where = f"coco: {path}: annotations[{i}]"
        with catch(problems if go_on else None):
            found.append(_read_annotation(annotation, size, places, where))
    return Scene(name, size, tuple(found), file, file_name=called, problems=tuple(problems))


def _read_annotation(
    annotation: dict[str, Any], size: tuple[int, int], places: dict[int, int], where: str
) -> Annotation:
    segmentation, box = annotation.get("segmentation"), None
    if annotation.get("bbox"):
        x, y, width, height = expect_box(annotation["bbox"], f"{where}['bbox']")
        if width < 0 or height < 0:
            raise ValueError(f"{where}['bbox'] has a negative size: expected x, y, width, height.")
        box = (y, x, y + height, x + width)
    box_only, polygons = not segmentation, None
    if box_only:
        if box is None:
            raise ValueError(f"{where} has neither a segmentation nor a box.")
        row0, col0, row1, col1 = box
        segmentation = [[col0, row0, col1, row0, col1, row1, col0, row1]]
    if isinstance(segmentation, dict):
        found, counts = rle.read_one(segmentation, where)
        if found != size:
            raise ValueError(f"{where} is for an image of {found}, its image has {size}.")
    else:
        expect(segmentation, list, f"{where}['segmentation']", "a run-length code or polygons")
        if segmentation and not isinstance(segmentation[0], list):
            raise ValueError(
                f"{where}['segmentation'] is a list of numbers, expected a list of polygons: put "
                "brackets around it."
            )
        try:
            counts = rle.merge(rle.from_polygons(segmentation, size)).counts
        except (ValueError, TypeError, OverflowError) as error:
            raise ValueError(f"{where}: {error}") from error
        polygons = tuple(np.reshape(p, (-1, 2))[:, ::-1].astype(float) for p in segmentation)
    crowd, score = annotation.get("iscrowd", 0), annotation.get("score")
    if crowd not in (0, 1):
        raise ValueError(f"{where}['iscrowd'] is {crowd!r}, expected 0 or 1.")
    if score is not None:
        expect(score, (int, float), f"{where}['score']", "a number")
        if not abs(score) <= 1e30:  # NaN as well
            raise ValueError(f"{where}['score'] is {score}, expected a finite number.")
        score = float(score)
    return Annotation(
        counts,
        places[annotation.get("category_id", 0)],
        bool(crowd),
        score,
        box,
        polygons,
        box_only,
        tuple(key for key in annotation if key not in _KNOWN and _says(annotation[key])),
    )


def _says(value: Any) -> bool:
    """Whether a field holds anything but what programs write where there is nothing to say."""
    if isinstance(value, dict):
        return any(_says(item) for item in value.values())
    return bool(value)


# --- writing -----------------------------------------------------------------------------------


def encode(scene: Scene, classes: Sequence[str], *, codes: bool = False) -> Encoded:
    """Make COCO annotations.

    Parameters
    ----------
    scene : Scene
    classes : sequence of str
    codes : bool, default=False
        Write run lengths packed into text for all; otherwise polygons, those of the source where
        it has any, and for crowds run lengths as a list, as COCO itself does.

    Returns
    -------
    Encoded
        A list of dicts, whose "category_id" is a place among the classes.
    """
    notes, content = [], []
    boxes, areas = rle.bounding_boxes(scene.runs), rle.areas(scene.runs)
    for i, annotation in enumerate(scene.annotations):
        one = rle.Runs.join(scene.size, [annotation.counts])
        if codes or annotation.crowd or areas[i] == 0:
            (segmentation,) = rle.write(one, compressed=codes)
        else:
            polygons = annotation.polygons
            if not polygons:
                ((polygons, _, n_holes),) = outlines.trace(one)
                notes += ["holes cut open"] if n_holes else []
            segmentation = [polygon[:, ::-1].ravel().tolist() for polygon in polygons]
        box = annotation.box or boxes[i].tolist()
        entry = {
            "category_id": annotation.category,
            "segmentation": segmentation,
            "bbox": [box[1], box[0], box[3] - box[1], box[2] - box[0]],
            "area": int(areas[i]),
            "iscrowd": int(annotation.crowd),
        }
        if annotation.score is not None:
            entry["score"] = annotation.score
        content.append(entry)
    return Encoded(content, tuple(range(len(content))), {}, tuple(notes))


def decode(content: list[dict[str, Any]], size: tuple[int, int], classes: Sequence[str]):
    """Read annotations again.

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
    places = {place: place for place in range(len(classes))}
    found = (_read_annotation(entry, size, places, "coco: decode") for entry in content)
    return tuple(found), None


def to_content(
    items: Sequence[Item], classes: Sequence[str], class_ids: Sequence[int] | None = None
) -> dict[str, Any]:
    """Make the content of a COCO file.

    Parameters
    ----------
    items : sequence of Item
    classes : sequence of str
    class_ids : sequence of int, optional
        Their category ids; 1, 2, ... when left out.

    Returns
    -------
    dict
        Ids of images and annotations count from 1.
    """
    ids = class_ids if class_ids is not None else range(1, len(classes) + 1)
    images, annotations = [], []
    for number, item in enumerate(items, start=1):
        image = {"id": number, "file_name": Path(item.image).name}
        images.append({**image, "height": item.size[0], "width": item.size[1]})
        for entry in item.content:
            place = {"id": len(annotations) + 1, "image_id": number}
            annotations.append({**place, **entry, "category_id": ids[entry["category_id"]]})
    categories = [{"id": i, "name": n, "supercategory": ""} for i, n in zip(ids, classes)]
    return {"images": images, "annotations": annotations, "categories": categories}


def image_place(split: str, name: str, suffix: str) -> str:
    """Where an image stands.

    Parameters
    ----------
    split, name, suffix : str

    Returns
    -------
    str
    """
    return f"images/{split}/{name}{suffix}" if split else f"images/{name}{suffix}"


def write_scene(folder: Path, item: Item) -> None:
    """Write nothing: all scenes of a split go to one file.

    Parameters
    ----------
    folder : Path
    item : Item
    """


def write_end(
    folder: Path, classes: Sequence[str], class_ids: Sequence[int] | None, items: Sequence[Item]
) -> None:
    """Write ``annotations/instances_<split>.json``.

    Parameters
    ----------
    folder : Path
        Or a file that ends in ``.json``.
    classes : sequence of str
    class_ids : sequence of int or None
    items : sequence of Item
    """
    for split in Counter(item.split for item in items):
        chosen = [item for item in items if item.split == split]
        path = folder
        if folder.suffix.lower() != ".json":
            path = folder / "annotations" / f"instances_{split or 'default'}.json"
        with atomic_path(path) as temporary:
            text = json.dumps(to_content(chosen, classes, class_ids), separators=(",", ":"))
            temporary.write_text(text, encoding="utf-8")
