"""Pascal VOC's layout: label maps of objects and of classes, lists of images, boxes in XML [1]_.

::

    DIR/JPEGImages/a.jpg
    DIR/SegmentationObject/a.png    1, 2, ... for each object, 0 background, 255 void
    DIR/SegmentationClass/a.png     their classes
    DIR/ImageSets/Segmentation/train.txt
    DIR/Annotations/a.xml           boxes
    DIR/labelmap.txt                names of classes, where they are not VOC's (CVAT)

DIR may be ``VOCdevkit/VOC2012`` below the path.

References
----------
.. [1] M. Everingham et al., "The Pascal visual object classes challenge: a retrospective", IJCV
   111, 98-136, 2015.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple
from xml.sax.saxutils import escape

import numpy as np
from numpy.typing import NDArray

from segalgos import rle
from segalgos.files import atomic_path, read_image, read_labels, read_size
from segalgos.formats._reading import check_names, expect_size, image_by_stem, shown, split_name
from segalgos.formats._xml import Element, read_xml
from segalgos.formats.base import (
    Annotation,
    Encoded,
    Item,
    Part,
    Problems,
    Scene,
    UnknownClassError,
    catch,
    paint_map,
    split_map,
)

__all__ = [
    "CLASSES",
    "NAME",
    "colour_map",
    "decode",
    "encode",
    "find",
    "find_boxes",
    "image_place",
    "locate",
    "read",
    "read_boxes",
    "write_end",
    "write_scene",
]

NAME = "voc"
#: The 20 classes of VOC, in the order of their numbers from 1.
CLASSES = (
    *("aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow"),
    *("diningtable", "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa"),
    *("train", "tvmonitor"),
)
_VOID = 255
# Characters that neither XML nor a line of a list can hold.
_NO_TEXT = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff\ufffe\uffff]")
_OBJECTS, _CLASSES = "SegmentationObject", "SegmentationClass"


def colour_map() -> NDArray[np.uint8]:
    """The colours that VOC gives the numbers 0 to 255.

    Returns
    -------
    (256, 3) uint8
        The bits of a number, three at a time, are the upper bits of red, green and blue.
    """
    numbers = np.arange(256)
    colours = np.zeros((256, 3), np.uint8)
    for bit in range(8):
        for channel in range(3):
            value = numbers >> (3 * bit + channel) & 1
            colours[:, channel] |= (value << (7 - bit)).astype(np.uint8)
    return colours


def locate(path: Path) -> Path | None:
    """Where the folder with ``SegmentationObject`` or ``Annotations`` is.

    Parameters
    ----------
    path : Path

    Returns
    -------
    Path or None
        The path, or the newest ``VOCdevkit/VOC*`` or ``VOC*`` below it.
    """
    for base in (path, path / "VOCdevkit"):
        if any((base / part).is_dir() for part in (_OBJECTS, "JPEGImages")):
            return base
        years = sorted(p for p in base.glob("VOC*") if (p / "JPEGImages").is_dir())
        if years:
            return years[-1]
    return None


def find(path: Path) -> bool:
    """Whether there is a folder of object maps.

    Parameters
    ----------
    path : Path

    Returns
    -------
    bool
    """
    folder = locate(path)
    return folder is not None and (folder / _OBJECTS).is_dir()


def find_boxes(path: Path) -> bool:
    """Whether there is a folder of boxes in XML; images need have no maps.

    Parameters
    ----------
    path : Path

    Returns
    -------
    bool
    """
    folder = locate(path)
    return folder is not None and (folder / "Annotations").is_dir()


def read(path: Path, problems: Problems | None = None) -> dict[str, Part]:
    """Read objects from label maps.

    Parameters
    ----------
    path : Path
    problems : Problems, optional
        Where to put errors of lines that name an image without maps; they are then left out.

    Returns
    -------
    dict of str to Part
        By the lists in ``ImageSets/Segmentation``; without any, all maps as "".

    Raises
    ------
    FileNotFoundError
        If there are no object maps.
    ValueError
        If a list names an image whose maps are missing, or a file is damaged; names it.

    Notes
    -----
    Maps may be palette images, grey, or in VOC's colours (CVAT writes these); the colours of
    classes are then those of ``labelmap.txt``. An object's class is the most frequent one of its
    pixels. The i-th object of the XML file, if its name is the class of the object with number i,
    adds its box and whether it is difficult, which is kept as a crowd: both are not scored.
    """
    folder = locate(path)
    if folder is None or not (folder / _OBJECTS).is_dir():
        raise FileNotFoundError(f"voc: {path} holds no folder {_OBJECTS}, nor VOCdevkit/VOC*/ one.")
    names, table = _read_labelmap(folder)
    read_scene = partial(_read_scene, table)
    return _read_lists(folder, "Segmentation", _OBJECTS, ".png", names, read_scene, problems)


def read_boxes(path: Path) -> dict[str, Part]:
    """Read objects from the boxes in XML files.

    Parameters
    ----------
    path : Path

    Returns
    -------
    dict of str to Part
        By the lists in ``ImageSets/Main``; without any, all files as "". Masks are whole boxes.

    Raises
    ------
    FileNotFoundError
        If there is no folder ``Annotations``.
    ValueError
        If a file is damaged, or has a class that there is not; names it.
    """
    folder = locate(path)
    if folder is None or not (folder / "Annotations").is_dir():
        raise FileNotFoundError(f"voc: {path} holds no folder Annotations with boxes.")
    names, _ = _read_labelmap(folder)
    return _read_lists(folder, "Main", "Annotations", ".xml", names, _read_box_scene)


def _read_lists(folder, kind, needed, suffix, names, read_scene, problems=None) -> dict[str, Part]:
    lists = sorted((folder / "ImageSets" / kind).glob("*.txt"))
    if kind == "Main":  # beside lists of all images there is one for each class
        lists = [p for p in lists if not p.stem.startswith(tuple(f"{name}_" for name in names))]
    parts = {}
    for file in lists:
        stems = []
        for number, line in enumerate(_lines(file), start=1):
            with catch(problems):
                if line.strip():
                    stems.append(_stem_of(line.strip(), folder / needed, suffix, file, number))
        check_names(stems, f"voc: {file}")
        parts[split_name(file.stem) if len(lists) == 1 else file.stem] = stems
    if not parts:
        parts[""] = sorted(p.stem for p in (folder / needed).glob("*" + suffix))
    read = partial(read_scene, folder, names)
    return {split: Part(names, stems, read) for split, stems in parts.items()}


def _stem_of(line: str, folder: Path, suffix: str, file: Path, number: int) -> str:
    """The image that a line of a list names: the line, which may hold spaces, or its first word."""
    for stem in (line, line.split()[0]):
        if not re.search(r"[/\\\0]", stem) and (folder / (stem + suffix)).is_file():
            return stem
    raise ValueError(
        f"voc: {file}, image {number}: there is no {folder.name}/{shown(line)}{suffix}: get the "
        "whole set."
    )


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise ValueError(f"voc: {path} is no text ({error}): it is damaged.") from error


class _Table(NamedTuple):
    """What the values of a map mean: colours of numbers, and numbers of a palette's indices."""

    colours: NDArray[np.uint8]
    numbers: NDArray[np.int32]


def _read_labelmap(folder: Path) -> tuple[tuple[str, ...], _Table]:
    """Names of classes, and what stands for them in maps."""
    path = next((p / "labelmap.txt" for p in (folder, folder.parent)
                 if (p / "labelmap.txt").is_file()), None)  # fmt: skip
    if path is None:
        return CLASSES, _Table(colour_map(), np.arange(256, dtype=np.int32))
    names, colours = [], []
    for number, line in enumerate(_lines(path), start=1):
        if not line.strip() or line.startswith("#"):
            continue
        name, *fields = line.split(":")
        try:
            colour = [int(word) for word in fields[0].split(",")] if fields and fields[0] else None
            if colour is not None and (len(colour) != 3 or not all(0 <= v < 256 for v in colour)):
                raise ValueError
        except ValueError:
            raise ValueError(
                f"voc: {path}, line {number} is {line!r}, expected name:red,green,blue:: ."
            ) from None
        names.append(name)
        colours.append(colour)
    if not 2 <= len(names) <= _VOID or names.count("background") != 1:
        raise ValueError(
            f"voc: {path} names {len(names)} classes, expected background and 1 to 254 others."
        )
    ground = names.index("background")
    order = [ground, *(i for i in range(len(names)) if i != ground)]
    table = _Table(colour_map(), np.arange(256, dtype=np.int32))
    for number, i in enumerate(order):
        table.numbers[i] = number
        if colours[i] is not None:
            table.colours[number] = colours[i]
    return tuple(names[i] for i in order[1:]), table


def _read_map(path: Path, table: _Table, *, objects: bool) -> NDArray[np.int32]:
    """Numbers (H, W) of a map, by its palette's indices or its colours."""
    from PIL import Image

    try:
        with Image.open(path) as file:
            in_colour = file.mode in ("RGB", "RGBA")
    except (OSError, SyntaxError, Image.DecompressionBombError):
        in_colour = False  # read_labels says what is wrong with it
    if not in_colour:
        values = read_labels(path)
        known = (values >= 0) & (values < 256)
        return np.where(known, table.numbers[np.where(known, values, 0)], values)
    image = read_image(path)
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8:
        raise ValueError(
            f"voc: {path} has shape {image.shape}, expected one number or colour a pixel."
        )
    packed, places = np.unique(_pack(image), return_inverse=True)
    numbers = {int(colour): i for i, colour in reversed(list(enumerate(_pack(table.colours))))}
    free = iter(range(256, 256 + len(packed)))
    values = []
    for colour in packed.tolist():
        if colour not in numbers and not objects:
            raise ValueError(
                f"voc: {path} holds the colour #{colour:06x}, which is that of no class: add a "
                "labelmap.txt that says what it is."
            )
        values.append(numbers[colour] if colour in numbers else next(free))
    return np.array(values, np.int32)[places].reshape(image.shape[:2])


def _pack(colours: NDArray[np.uint8]) -> NDArray[np.int32]:
    return colours.astype(np.int32) @ np.array([1 << 16, 1 << 8, 1], np.int32)


def _read_scene(table: _Table, folder: Path, names: tuple[str, ...], stem: str) -> Scene:
    path, class_path = folder / _OBJECTS / f"{stem}.png", folder / _CLASSES / f"{stem}.png"
    if not class_path.is_file():
        raise ValueError(f"voc: {path} has no map of classes {class_path}: get the whole set.")
    # Objects have VOC's colours whatever those of classes are.
    plain = _Table(colour_map(), np.arange(256, dtype=np.int32))
    objects = _read_map(path, plain, objects=True)
    classes = _read_map(class_path, table, objects=False)
    if objects.shape != classes.shape:
        raise ValueError(
            f"voc: {path} has size {objects.shape}, {class_path} {classes.shape}: expected one."
        )
    xml = folder / "Annotations" / f"{stem}.xml"
    boxes = _read_objects(read_xml(xml, "voc"), xml)[1] if xml.is_file() else []
    found, void = _decode(objects, classes, boxes, names, f"voc: {path}")
    image = image_by_stem(folder / "JPEGImages", stem)
    return Scene(stem, objects.shape, found, image, void)


def _decode(objects, classes, boxes, names, where):
    unknown = (objects == _VOID) | (classes == _VOID)
    ids, runs = split_map(objects)
    found = []
    flat_classes = classes.T.ravel()
    for i, number in enumerate(ids.tolist()):
        if number in (0, _VOID):
            continue
        counts = runs.counts[runs.starts[i] : runs.starts[i + 1]]
        edges = np.cumsum(counts)
        inside = np.concatenate([flat_classes[a:b] for a, b in zip(edges[:-1:2], edges[1::2])])
        inside = inside[(inside != 0) & (inside != _VOID)]
        category = int(np.bincount(inside).argmax()) - 1 if len(inside) else -1
        if not 0 <= category < len(names):
            what = f"class {category + 1}" if len(inside) else "no class"
            raise UnknownClassError(
                f"{where}: object {number} has {what}, expected 1 to {len(names)}: name more "
                "classes in labelmap.txt, or get the file again."
            )
        crowd, box = False, None
        if number <= len(boxes) and boxes[number - 1][0] == names[category]:
            _, box, crowd = boxes[number - 1]
        found.append(Annotation(counts, category, crowd, None, box))
    void = None
    if unknown.any():
        values, void_runs = split_map(unknown.astype(np.uint8))
        chosen = int(np.flatnonzero(values == 1)[0])
        void = void_runs.counts[void_runs.starts[chosen] : void_runs.starts[chosen + 1]]
    return tuple(found), void


def _read_objects(root: Element, path: Path):
    """Size, if it is told, and name, box and difficulty of each object."""
    if root.tag != "annotation":
        raise ValueError(f"voc: {path} begins with <{root.tag}>, expected <annotation>.")
    size, shape = root.find("size"), None
    if size is not None and size.find_text("height") not in (None, "", "0"):
        where = f"voc: {path}: <size>"
        shape = expect_size(_number(size, "height", where), _number(size, "width", where), where)
    found = []
    for i, child in enumerate(c for c in root.children if c.tag == "object"):
        where, box = f"voc: {path}: object {i + 1}", child.find("bndbox")
        name = child.find_text("name")
        if not name or box is None:
            raise ValueError(f"{where} has no name or no <bndbox>.")
        x0, y0, x1, y1 = (_number(box, tag, where) for tag in ("xmin", "ymin", "xmax", "ymax"))
        if x1 < x0 or y1 < y0:
            raise ValueError(f"{where} has a box of no size: {x0:g}, {y0:g} to {x1:g}, {y1:g}.")
        # Pixels count from 1 there, and the last one is in the box.
        found.append((name, (y0 - 1, x0 - 1, y1, x1), child.find_text("difficult") == "1"))
    return shape, found


def _number(element: Element, tag: str, where: str) -> float:
    text = element.find_text(tag)
    try:
        value = float(text or "")
    except ValueError:
        value = np.nan
    if not abs(value) <= 1e9:
        raise ValueError(f"{where}: <{tag}> is {text!r}, expected a number.")
    return value


def _read_box_scene(folder: Path, names: tuple[str, ...], stem: str) -> Scene:
    path, image = folder / "Annotations" / f"{stem}.xml", image_by_stem(folder / "JPEGImages", stem)
    size, objects = _read_objects(read_xml(path, "voc"), path)
    if size is None and image is None:
        raise ValueError(
            f"voc: {path} tells no <size>, and JPEGImages has no {stem}: put it there."
        )
    size = size or read_size(image)
    found = []
    for i, (name, box, difficult) in enumerate(objects):
        if name not in names:
            raise ValueError(
                f"voc: {path}: object {i + 1} is a {name!r}, which is no class: add a labelmap.txt "
                "that names it."
            )
        row0, col0, row1, col1 = box
        outline = [[col0, row0, col1, row0, col1, row1, col0, row1]]
        try:
            counts = rle.from_polygons(outline, size).counts
        except ValueError as error:
            raise ValueError(f"voc: {path}: object {i + 1}: {error}") from error
        found.append(
            Annotation(counts, names.index(name), difficult, None, box, None, box_only=True)
        )
    return Scene(stem, size, tuple(found), image)


# --- writing -----------------------------------------------------------------------------------


def encode(scene: Scene, classes: Sequence[str]) -> Encoded:
    """Paint maps of objects and classes.

    Parameters
    ----------
    scene : Scene
    classes : sequence of str
        At most 254.

    Returns
    -------
    Encoded
        Maps of objects and of classes (H, W) uint8, and name, box and difficulty of each object.

    Raises
    ------
    ValueError
        If there are more classes than a map can hold, or one has a name that no list can hold.
    """
    odd = next((name for name in classes if ":" in name or _NO_TEXT.search(name)), None)
    if odd is not None:
        raise ValueError(f"voc: the class {odd!r} does not fit labelmap.txt or XML: rename it.")
    if len(classes) >= _VOID:
        raise ValueError(f"voc: {len(classes)} classes do not fit a map of 8 bits, at most 254 do.")
    chosen = range(min(len(scene.annotations), _VOID - 1))
    dropped = dict.fromkeys(range(len(chosen), len(scene.annotations)), "more than 254 in an image")
    objects = paint_map(scene, {i: i + 1 for i in chosen}).astype(np.uint8)
    numbers = np.array([0, *(a.category + 1 for a in scene.annotations)], np.uint8)
    maps = [objects, numbers[objects]]
    if scene.void is not None:
        unknown = rle.decode(rle.Runs.join(scene.size, [scene.void]))[0] & (objects == 0)
        for labels in maps:
            labels[unknown] = _VOID
    visible = np.bincount(objects.ravel(), minlength=256)
    kept = tuple(i for i in chosen if visible[i + 1])
    dropped |= {i: "hidden by others, or no pixel" for i in chosen if not visible[i + 1]}
    boxes = rle.bounding_boxes(scene.runs)
    entries = []
    for i in chosen:
        annotation = scene.annotations[i]
        # Whole pixels, of which the first is written as 1.
        box = tuple(round(float(v)) for v in annotation.box or boxes[i])
        box = (*box[:2], max(box[2], box[0] + 1), max(box[3], box[1] + 1))
        entries.append((classes[annotation.category], box, annotation.crowd))
    notes = ("written as difficult",) * sum(scene.annotations[i].crowd for i in kept)
    return Encoded((*maps, entries), kept, dropped, notes)


def decode(content: tuple, size: tuple[int, int], classes: Sequence[str]):
    """Read maps again.

    Parameters
    ----------
    content : tuple
    size : tuple of int
    classes : sequence of str

    Returns
    -------
    annotations : tuple of Annotation
    void : (n,) int64 or None
    """
    objects, numbers, entries = content
    return _decode(objects.astype(np.int32), numbers.astype(np.int32), entries, classes, "voc")


def image_place(split: str, name: str, suffix: str) -> str:
    """Where an image stands.

    Parameters
    ----------
    split, name, suffix : str

    Returns
    -------
    str
    """
    return f"JPEGImages/{name}{suffix}"


def write_scene(folder: Path, item: Item) -> None:
    """Write the maps and boxes of a scene.

    Parameters
    ----------
    folder : Path
    item : Item
    """
    from PIL import Image

    objects, classes, entries = item.content
    for part, labels in ((_OBJECTS, objects), (_CLASSES, classes)):
        picture = Image.fromarray(labels)
        picture.putpalette(colour_map().ravel().tolist())
        with atomic_path(folder / part / f"{item.name}.png") as temporary:
            picture.save(temporary)
    lines = ["<annotation>"]
    image = _NO_TEXT.sub("_", Path(item.image).name)
    lines.append(f"  <filename>{escape(image)}</filename>")
    height, width = item.size
    lines.append(f"  <size><width>{width}</width><height>{height}</height><depth>3</depth></size>")
    lines.append("  <segmented>1</segmented>")
    for name, (row0, col0, row1, col1), difficult in entries:
        lines.append("  <object>")
        lines.append(f"    <name>{escape(name)}</name>")
        lines.append(f"    <difficult>{int(difficult)}</difficult>")
        corners = (("xmin", col0 + 1), ("ymin", row0 + 1), ("xmax", col1), ("ymax", row1))
        inside = "".join(f"<{tag}>{value}</{tag}>" for tag, value in corners)
        lines.append(f"    <bndbox>{inside}</bndbox>")
        lines.append("  </object>")
    lines.append("</annotation>")
    with atomic_path(folder / "Annotations" / f"{item.name}.xml") as temporary:
        temporary.write_text("\n".join(lines) + "\n", encoding="utf-8")


def write_end(
    folder: Path, classes: Sequence[str], class_ids: Sequence[int] | None, items: Sequence[Item]
) -> None:
    """Write the lists of images, and ``labelmap.txt`` if classes are not VOC's.

    Parameters
    ----------
    folder : Path
    classes : sequence of str
    class_ids : sequence of int or None
        Not kept: classes are numbered from 1.
    items : sequence of Item
    """
    for split in Counter(item.split for item in items):
        path = folder / "ImageSets" / "Segmentation" / f"{split or 'default'}.txt"
        odd = next((item.name for item in items if _NO_TEXT.search(item.name)), None)
        if odd is not None:
            raise ValueError(f"voc: the image {odd!r} does not fit a list: rename it.")
        with atomic_path(path) as temporary:
            names = [f"{item.name}\n" for item in items if item.split == split]
            temporary.write_text("".join(names), encoding="utf-8")
    if tuple(classes) != CLASSES:
        colours = colour_map()
        with atomic_path(folder / "labelmap.txt") as temporary:
            lines = ["# label:color_rgb:parts:actions"]
            for name, colour in zip(("background", *classes), colours):
                lines.append(f"{name}:{','.join(map(str, colour))}::")
            temporary.write_text("\n".join(lines) + "\n", encoding="utf-8")
