"""Convert labels between formats, and say what is lost.

Nothing is said from a list of what formats can do. Every scene is encoded, decoded by the reader
of the target and compared with what was there, object by object.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from segalgos import polygons as outlines
from segalgos import rle
from segalgos.checks import check_choice
from segalgos.files import read_labels, write_labels
from segalgos.formats import (
    annotated,
    cityscapes,
    coco,
    label_maps,
    labelme,
    pennfudan,
    roboflow_coco,
    roboflow_yolo,
    voc,
    yolo,
)
from segalgos.formats.base import Annotation, Encoded, Item, Part, Scene

__all__ = [
    "FORMATS",
    "SOURCES",
    "WRITERS",
    "ImageReport",
    "Report",
    "compare",
    "convert",
    "detect",
    "staging",
    "write",
]

#: All formats by name.
FORMATS: dict[str, ModuleType] = {
    module.NAME: module for module in (coco, voc, yolo, labelme, pennfudan, cityscapes, label_maps)
}
#: Those and what `segalgos annotate` keeps, which is read here and written by it alone.
SOURCES = {**FORMATS, annotated.NAME: annotated}
#: What can be written: the formats, and the layouts that Roboflow gives two of them.
WRITERS = FORMATS | {module.NAME: module for module in (roboflow_coco, roboflow_yolo)}
# Those that write run lengths if asked, and category ids as they were.
_COCO = (coco, roboflow_coco)
# Files that hold one scene, or (COCO) several; everything else is a folder.
_FILES = {".json": "coco", ".png": "label_maps", ".tif": "label_maps", ".tiff": "label_maps"}
_FILES |= {".npy": "label_maps"}
_IN_FILES = ("coco", "labelme", "label_maps")
_MAPS = ("voc", "pennfudan", "cityscapes", "label_maps")
_IMAGES = ("copy", "link", "none")


@dataclass
class ImageReport:
    """What became of one image's objects.

    Parameters
    ----------
    split, name : str
    n_instances : int
    losses : Counter of str
        What is lost, and how often.
    notes : Counter of str
        What is written in another form, and not lost.
    iou : dict of int to float
        Of the objects, by their place, whose pixels changed: IoU before and after. 0 for those
        that are left out.
    """

    split: str
    name: str
    n_instances: int
    losses: Counter[str] = field(default_factory=Counter)
    notes: Counter[str] = field(default_factory=Counter)
    iou: dict[int, float] = field(default_factory=dict)


@dataclass
class Report:
    """What became of all objects.

    Parameters
    ----------
    source, target : Path
    source_format, target_format : str
    n_images, n_instances : int
    losses, notes : Counter of str
        As in `ImageReport`, of all images and of the whole.
    images : list of ImageReport
        Those with a loss or note.
    written : bool
        Whether the target was written.
    """

    source: Path
    target: Path
    source_format: str
    target_format: str
    n_images: int = 0
    n_instances: int = 0
    losses: Counter[str] = field(default_factory=Counter)
    notes: Counter[str] = field(default_factory=Counter)
    images: list[ImageReport] = field(default_factory=list)
    written: bool = False

    @property
    def lossless(self) -> bool:
        """Whether nothing is lost."""
        return not self.losses

    @property
    def ious(self) -> list[tuple[float, str, int]]:
        """IoU below 1, name of the image and place of the object, lowest first."""
        found = [(iou, image.name, i) for image in self.images for i, iou in image.iou.items()]
        return sorted(found)

    def to_dict(self) -> dict[str, Any]:
        """Make plain dicts and lists of it.

        Returns
        -------
        dict
            For JSON.
        """
        images = [
            {
                "split": image.split,
                "name": image.name,
                "instances": image.n_instances,
                "losses": dict(image.losses),
                "notes": dict(image.notes),
                "iou": {str(i): value for i, value in image.iou.items()},
            }
            for image in self.images
        ]
        return {
            "source": str(self.source),
            "target": str(self.target),
            "source_format": self.source_format,
            "target_format": self.target_format,
            "written": self.written,
            "lossless": self.lossless,
            "images": self.n_images,
            "instances": self.n_instances,
            "losses": dict(self.losses),
            "notes": dict(self.notes),
            "per_image": images,
        }

    def lines(self) -> list[str]:
        """Say it in words.

        Returns
        -------
        list of str
        """
        formats = f"{self.source_format} -> {self.target_format}"
        lines = [f"{formats}: {self.n_images} images, {self.n_instances} objects"]
        for word, counts in (("lost", self.losses), ("kept in another form", self.notes)):
            for what, count in counts.most_common():
                where = sum(what in (i.losses if word == "lost" else i.notes) for i in self.images)
                lines.append(f"{word}: {what}: {count}" + (f", in {where} images" if where else ""))
        below = self.ious
        if below:
            worst = ", ".join(f"{iou:.3f} ({name}, object {i})" for iou, name, i in below[:3])
            lines.append(f"IoU below 1: {len(below)} objects, the lowest {worst}")
        if self.lossless:
            lines.append("nothing is lost")
        return lines


def detect(
    path: str | os.PathLike,
    *,
    caller: str = "convert",
    remedy: str = "source_format= (on the command line --from)",
) -> str:
    """Find out which format something is in.

    Parameters
    ----------
    path : path
        A file or folder.
    caller, remedy : str
        Named in errors: who asks, and where the format is told.

    Returns
    -------
    str
        A key of `FORMATS`, or "annotated".

    Raises
    ------
    FileNotFoundError
        If there is nothing.
    ValueError
        If it looks like no format, or like several.
    """
    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(f"{caller}: {path} does not exist: check the path.")
    found = [name for name, module in SOURCES.items() if module.find(path)]
    if path.is_file() and "labelme" in found:
        return "labelme"  # every JSON file might be COCO's
    if len(found) != 1:
        what = f"may be {' or '.join(found)}" if found else "is in none of the formats"
        raise ValueError(f"{caller}: {path} {what}: say {remedy}, one of {', '.join(FORMATS)}.")
    return found[0]


def convert(
    source: str | os.PathLike,
    target: str | os.PathLike,
    *,
    source_format: str | None = None,
    target_format: str | None = None,
    strict: bool = False,
    images: str = "copy",
    codes: bool = False,
    shape: tuple[int, int] | None = None,
    on_start: Callable[[int], None] | None = None,
    on_scene: Callable[[], None] | None = None,
) -> Report:
    """Convert the labels of images, and report what is lost.

    Parameters
    ----------
    source : path
        A folder in one of the formats, or a file.
    target : path
        A folder that does not exist yet or is empty; or a file: ``.json`` (COCO, or labelme for
        one image), ``.png``, ``.tif`` or ``.npy`` (a label map, for one image).
    source_format, target_format : str, optional
        Keys of `SOURCES` and of `WRITERS`; found out where they can be. The source may also be
        "annotated", what `segalgos annotate` made.
    strict : bool, default=False
        Write nothing if anything is lost; `Report.written` tells.
    images : {"copy", "link", "none"}, default="copy"
        What to do with image files, where the target is a folder: copy them, make hard links, or
        leave them where they are.
    codes : bool, default=False
        To COCO: write run lengths instead of polygons.
    shape : (H, W), optional
        Size of images of a COCO file that does not tell it.
    on_start, on_scene : callable, optional
        Told how many scenes there are, and that one is done.

    Returns
    -------
    Report

    Raises
    ------
    FileNotFoundError
        If there is nothing to read.
    FileExistsError
        If the target holds something.
    ValueError
        If the source is damaged, or the target cannot be written at all; nothing is then written.

    Notes
    -----
    What is written stands in a folder beside the target until all is done. One scene is in memory
    at a time, for COCO also the annotations that were made. Where parts named train and val are
    there, one named trainval is left out.
    """
    source, target = Path(source), Path(target)
    check_choice("convert", "images", images, _IMAGES)
    source_format = source_format or detect(source)
    to_file = target.suffix.lower() in _FILES and not target.is_dir()
    target_format = target_format or (_FILES[target.suffix.lower()] if to_file else None)
    _check_format("source_format", source_format, SOURCES, "--from")
    _check_format("target_format", target_format, WRITERS, "--to")
    if source.is_file() and to_file and source_format == target_format == "label_maps":
        return _copy_map(source, target)
    reader = SOURCES[source_format]
    parts = reader.read(source, shape) if reader is coco else reader.read(source)
    if {"train", "val"} <= set(parts):
        parts.pop("trainval", None)
    report = Report(source, target, source_format, target_format)
    options = {"strict": strict, "images": images, "codes": codes}
    return write(
        parts, target, target_format, report, **options, on_start=on_start, on_scene=on_scene
    )


def write(
    parts: Mapping[str, Part],
    target: str | os.PathLike,
    target_format: str,
    report: Report | None = None,
    *,
    strict: bool = False,
    images: str = "copy",
    codes: bool = False,
    on_start: Callable[[int], None] | None = None,
    on_scene: Callable[[], None] | None = None,
) -> Report:
    """Write scenes in a format, and report what is lost.

    Parameters
    ----------
    parts : mapping of str to Part
        By split, "" where there is none.
    target : path
        As for `convert`.
    target_format : str
        A key of `WRITERS`.
    report : Report, optional
        To fill; says where scenes come from.
    strict : bool, default=False
        Write nothing if anything is lost.
    images : {"copy", "link", "none"}, default="copy"
        What to do with image files.
    codes : bool, default=False
        To COCO: write run lengths instead of polygons.
    on_start, on_scene : callable, optional
        As for `convert`.

    Returns
    -------
    Report

    Raises
    ------
    FileExistsError
        If the target holds something.
    ValueError
        If the target cannot be written at all; nothing is then written.
    """
    target = Path(target)
    check_choice("convert", "images", images, _IMAGES)
    _check_format("target_format", target_format, WRITERS, "--to")
    writer = WRITERS[target_format]
    to_file = target.suffix.lower() in _FILES and not target.is_dir()
    _check_target(parts, target, target_format, to_file)
    if report is None:
        report = Report(Path(), target, "", target_format)
    if on_start is not None:
        on_start(sum(map(len, parts.values())))
    with staging(target) as inside:
        items: list[Item] = []
        seen: set[str] = set()
        for split, part in parts.items():
            for scene in part:
                encoded = _encode(writer, scene, part.classes, codes, target.suffix.lower())
                image, name = compare(scene, encoded, part.classes, writer), scene.name
                image.split = split
                if hasattr(writer, "scene_name"):
                    name = writer.scene_name(scene.name)
                    image.notes["images renamed"] += name != scene.name
                place = _place(writer, split, name, scene)
                if writer.image_place(split, name, "") in seen:
                    raise ValueError(
                        f"convert: two images would be called {name!r} in {target}: rename one."
                    )
                seen.add(writer.image_place(split, name, ""))
                if not to_file:
                    _bring_image(scene, inside / place, images, image)
                called = place if not to_file else scene.file_name or Path(place).name
                item = Item(split, name, scene.size, called, encoded.content)
                writer.write_scene(inside, item)
                items.append(item if writer in _COCO else item._replace(content=None))
                _add(report, image)
                if on_scene is not None:
                    on_scene()
        classes, class_ids = _classes_of(parts)
        _compare_classes(report, classes, class_ids, writer)
        if strict and not report.lossless:
            return report
        writer.write_end(inside, classes, class_ids, items)
        os.replace(inside, target)
    report.written = True
    return report


def _check_format(name: str, value: str | None, known: dict[str, ModuleType], option: str) -> None:
    if value not in known:
        raise ValueError(
            f"convert: {name} is {value!r}, expected one of {', '.join(known)} (on the command "
            f"line {option})."
        )


def _copy_map(source: Path, target: Path) -> Report:
    """One label map to another file: ids stay as they are."""
    labels = read_labels(source)
    report = Report(source, target, "label_maps", "label_maps", n_images=1)
    report.n_instances = int(np.count_nonzero(np.unique(labels) > 0))
    write_labels(target, labels)
    report.written = True
    return report


def _check_target(
    parts: Mapping[str, Part], target: Path, target_format: str, to_file: bool
) -> None:
    n_scenes = sum(map(len, parts.values()))
    if n_scenes == 0:
        raise ValueError("convert: the source holds no image.")
    if to_file:
        if target_format not in _IN_FILES:
            raise ValueError(f"convert: {target_format} is written to a folder, not {target}.")
        if n_scenes > 1 and (target_format != "coco" or len(parts) > 1):
            raise ValueError(
                f"convert: {target} holds one image, but there are {n_scenes}: name a folder (on "
                "the command line with --to)."
            )
        return
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise FileExistsError(f"convert: {target} holds something: name a new folder.")
    allowed = getattr(WRITERS[target_format], "SPLITS", None)
    strange = [split for split in parts if allowed and split and split not in allowed]
    if strange:
        raise ValueError(
            f"convert: {target_format} has no part {strange[0]!r}, only {', '.join(allowed)}: "
            "convert that part alone, under another name."
        )


@contextmanager
def staging(target: Path) -> Iterator[Path]:
    """Make a place beside a target, of its name, which is removed with all that is left there.

    Parameters
    ----------
    target : Path

    Yields
    ------
    Path
        A new folder, or where a file may be written; to be moved to the target.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix=f".{target.name}-", dir=target.parent))
    inside = folder / target.name
    try:
        if target.suffix.lower() not in _FILES or target.is_dir():
            inside.mkdir()
        yield inside
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _encode(
    writer: ModuleType, scene: Scene, classes: tuple[str, ...], codes: bool, suffix: str
) -> Encoded:
    encode = writer.encode
    if writer in _COCO:
        encode = partial(encode, codes=codes)
    elif writer is label_maps and suffix in (".tif", ".tiff", ".npy"):
        encode = partial(encode, keep_void=True)
    return encode(scene, classes)


def _place(writer: ModuleType, split: str, name: str, scene: Scene) -> str:
    """Where the image will stand; of one that is not here only its name is known."""
    suffix = Path(scene.image or scene.file_name or "a.jpg").suffix
    return writer.image_place(split, name, suffix)


def _bring_image(scene: Scene, place: Path, images: str, report: ImageReport) -> None:
    if images == "none":
        return
    if scene.image is None:
        report.notes["images that are not here"] += 1
        return
    place.parent.mkdir(parents=True, exist_ok=True)
    if images == "link":
        os.link(scene.image, place)
    else:
        shutil.copyfile(scene.image, place)


def _add(report: Report, image: ImageReport) -> None:
    image.losses, image.notes = +image.losses, +image.notes  # without zeros
    report.n_images += 1
    report.n_instances += image.n_instances
    report.losses += image.losses
    report.notes += image.notes
    if image.losses or image.notes:
        report.images.append(image)


def _classes_of(parts: Mapping[str, Part]) -> tuple[tuple[str, ...], tuple[int, ...] | None]:
    first, *others = parts.values()
    for part in others:
        if (part.classes, part.class_ids) != (first.classes, first.class_ids):
            raise ValueError(
                "convert: the parts of the source have other classes: convert them one by one."
            )
    return first.classes, first.class_ids


def _compare_classes(
    report: Report, classes: tuple[str, ...], class_ids: tuple[int, ...] | None, writer: ModuleType
) -> None:
    fixed = getattr(writer, "FIXED_CLASSES", None)
    if fixed is not None:
        gone = sum(name not in fixed for name in classes)
        report.losses += Counter({"class names": gone})
        report.notes += Counter(
            {"class names that only the target has": len(set(fixed) - {*classes})}
        )
    if class_ids is not None and writer not in _COCO:
        report.notes += Counter({"classes numbered anew": len(classes)})


def compare(
    scene: Scene, encoded: Encoded, classes: tuple[str, ...], writer: ModuleType
) -> ImageReport:
    """Find what a scene loses by being written.

    Parameters
    ----------
    scene : Scene
    encoded : Encoded
        What ``writer.encode`` made of it.
    classes : tuple of str
    writer : module
        One of `WRITERS`.

    Returns
    -------
    ImageReport
    """
    found, void = writer.decode(encoded.content, scene.size, classes)
    if len(found) != len(encoded.kept):
        raise RuntimeError(
            f"convert: {writer.NAME} gave back {len(found)} objects of {len(encoded.kept)}: this "
            "is a bug."
        )
    report = ImageReport("", scene.name, len(scene.annotations))
    report.notes.update(encoded.notes)
    report.losses.update(f"objects: {reason}" for reason in encoded.dropped.values())
    report.iou.update(dict.fromkeys(sorted(encoded.dropped), 0.0))
    found_classes = getattr(writer, "FIXED_CLASSES", classes)
    for i, after in zip(encoded.kept, found, strict=True):
        before = scene.annotations[i]
        iou = _iou(before, after, scene.size)
        if iou < 1:
            report.iou[i] = iou
            hidden = "parts of masks under other objects"
            report.losses[hidden if writer.NAME in _MAPS else "masks changed"] += 1
        report.losses["classes"] += classes[before.category] != found_classes[after.category]
        report.losses["crowd flags"] += before.crowd != after.crowd
        report.losses["scores"] += before.score is not None and before.score != after.score
        report.losses["boxes"] += _box_differs(before, after, scene.size)
        report.losses["sub-pixel outlines"] += _outline_differs(before, after)
    for annotation in scene.annotations:
        report.losses.update(f"field {name!r}" for name in annotation.others)
        report.notes["boxes drawn as masks"] += annotation.box_only
    report.losses.update(f"shapes without area: {kind}" for kind in scene.left_out)
    if scene.void is not None:
        void = [scene.void] if void is None else [scene.void, void]
        before_void, *after_void = rle.areas(rle.Runs.join(scene.size, void)).tolist()
        report.losses["void pixels"] += before_void - sum(after_void)
    return report


def _iou(before: Annotation, after: Annotation, size: tuple[int, int]) -> float:
    if np.array_equal(before.counts, after.counts):
        return 1.0
    one, other = (rle.Runs.join(size, [a.counts]) for a in (before, after))
    if not rle.areas(one)[0] and not rle.areas(other)[0]:
        return 1.0
    return float(rle.iou(one, other)[0, 0])


def _box_differs(before: Annotation, after: Annotation, size: tuple[int, int]) -> bool:
    """Whether a box of its own is off by more than a pixel."""
    if before.box is None:
        return False
    box = after.box
    if box is None:
        box = rle.bounding_boxes(rle.Runs.join(size, [after.counts]))[0]
    return bool(np.abs(np.subtract(before.box, box)).max() > 1)


def _outline_differs(before: Annotation, after: Annotation) -> bool:
    """Whether vertices between the corners of pixels are gone."""
    if not before.polygons or all((p == np.rint(p)).all() for p in before.polygons):
        return False
    if not after.polygons:
        return True
    one, other = outlines.chain(before.polygons), outlines.chain(after.polygons)
    return one.shape != other.shape or bool(np.abs(one - other).max() > 1e-3)
