"""One image of a data set looked at: its file, its objects, whether they fit."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from segalgos.datasets._findings import Finding
from segalgos.datasets._image_hash import hash_image
from segalgos.datasets._sources import Entry, Truth, kind_of
from segalgos.files import read_image

__all__ = ["Facts", "look_at"]

# Outlines may reach so many pixels beyond an image, as other programs round them.
_SLACK = 1.0
# Smaller outlines have no inside, in square pixels.
_LEAST_AREA = 0.5
# Masks of one class with a greater IoU are one object, drawn twice.
_SAME = 0.95
_SUFFIXES = {
    "PNG": (".png",),
    "JPEG": (".jpg", ".jpeg", ".jpe", ".jfif"),
    "MPO": (".jpg", ".jpeg", ".mpo"),
    "BMP": (".bmp",),
    "GIF": (".gif",),
    "WEBP": (".webp",),
    "TIFF": (".tif", ".tiff"),
    "PPM": (".pgm", ".ppm", ".pbm", ".pnm"),
}


@dataclass
class Facts:
    """What was seen of one image; small, so that those of a whole set fit into memory.

    Parameters
    ----------
    split, name : str
    file : Path, optional
    size : tuple of int, optional
        Of the image, or of its labels where it cannot be read.
    digest : bytes, optional
        Of its pixels.
    hashes : (8, 4) uint64, optional
    objects : list of (int, int)
        Class and area of each.
    n_crowds : int
    pixels : dict of int to int
        Pixels of each value of a label map, or class.
    findings : list of Finding
    """

    split: str
    name: str
    file: Path | None = None
    size: tuple[int, int] | None = None
    digest: bytes | None = None
    hashes: NDArray[np.uint64] | None = None
    objects: list[tuple[int, int]] = field(default_factory=list)
    n_crowds: int = 0
    pixels: Counter[int] = field(default_factory=Counter)
    findings: list[Finding] = field(default_factory=list)

    def add(self, kind: str, detail: str) -> None:
        """Add a finding."""
        self.findings.append(Finding(kind, detail, self.split, self.name))


def look_at(entry: Entry, values: Sequence[int] | None) -> Facts:
    """Read an image and its labels, and check both.

    Parameters
    ----------
    entry : Entry
    values : sequence of int, optional
        What a label map may hold; anything if left out.

    Returns
    -------
    Facts
    """
    facts = Facts(entry.split, entry.name)
    truth = Truth()
    try:
        truth = entry.read()
    except (ValueError, OSError) as error:
        facts.add(kind_of(error), str(error))
        facts.file = _image_of(entry.key)
        if facts.file is not None:
            truth = Truth(image=facts.file)
    facts.size, facts.name = truth.size, truth.name or entry.name
    if truth.scene is not None:
        _look_at_objects(facts, truth.scene)
    if truth.labels is not None:
        _look_at_labels(facts, truth.labels, values)
    if isinstance(truth.image, Path):
        _look_at_file(facts, truth.image, truth.size)
    elif truth.image is not None:
        _look_at_image(facts, truth.image, truth.size, "the image")
    elif truth.scene is not None:
        called = truth.scene.file_name or truth.scene.name
        facts.add("labels without image", f"the image {called!r} is not here")
    return facts


def _image_of(key: object) -> Path | None:
    """The image of an entry that could not be read, where its key says which."""
    from segalgos.files import IMAGE_SUFFIXES

    first = key[0] if isinstance(key, tuple) and key else key
    is_image = isinstance(first, Path) and first.suffix.lower() in IMAGE_SUFFIXES
    return first if is_image and first.is_file() else None


# --- the file ------------------------------------------------------------------------------------


def _look_at_file(facts: Facts, path: Path, expected: tuple[int, int] | None) -> None:
    facts.file = path
    try:
        image = read_image(path)
    except (ValueError, OSError) as error:
        facts.add("broken image", str(error))
        return
    kind, orientation = _header(path)
    if kind in _SUFFIXES and path.suffix.lower() not in _SUFFIXES[kind]:
        facts.add("wrong extension", f"{path} is a {kind} file")
    turned = orientation in (5, 6, 7, 8)
    raw = image.shape[1::-1] if turned else image.shape[:2]
    if orientation != 1:
        tag = f"{path} has EXIF orientation {orientation}"
        if turned and expected == raw != image.shape[:2]:
            facts.add("turned by its EXIF tag", f"{tag}: its labels are for the image as stored")
            expected = None
        else:
            facts.add("EXIF tag of orientation", f"{tag}: not all programs turn the image")
    _look_at_image(facts, image, expected, str(path))


def _header(path: Path) -> tuple[str, int]:
    """Format and EXIF orientation, "" and 1 of what Pillow does not read."""
    from PIL import Image

    try:
        with Image.open(path) as file:
            return file.format or "", int(file.getexif().get(0x0112, 1) or 1)
    except Exception:  # a TIFF of a kind that only tifffile reads, a damaged tag
        return "", 1


def _look_at_image(
    facts: Facts, image: NDArray, expected: tuple[int, int] | None, what: str
) -> None:
    facts.size = image.shape[:2]
    if expected is not None and expected != image.shape[:2]:
        shown = f"{image.shape[0]} x {image.shape[1]}"
        detail = f"{what} is {shown}, its labels are for {expected[0]} x {expected[1]}"
        facts.add("size differs", detail)
    digest = hashlib.blake2b(repr((image.shape, image.dtype.str)).encode(), digest_size=16)
    digest.update(np.ascontiguousarray(image).data)
    facts.digest, facts.hashes = digest.digest(), hash_image(image)
    if image.size and image.min() == image.max():
        facts.add("image of one value", f"{what} is {image.flat[0]} everywhere")


# --- labels --------------------------------------------------------------------------------------


def _look_at_labels(facts: Facts, labels: NDArray[np.int32], values: Sequence[int] | None) -> None:
    found, counts = np.unique(labels, return_counts=True)
    facts.pixels.update(dict(zip(found.tolist(), counts.tolist())))
    if values is not None:
        known = {*values, -1, 255}
        strange = [value for value in found.tolist() if value not in known]
        if strange:
            shown = ", ".join(map(str, strange[:5])) + (", ..." if len(strange) > 5 else "")
            facts.add("label out of range", f"the mask holds {shown}, which no class has")
    if len(found) == 1:
        facts.add("image without objects", f"its mask is {found[0]} everywhere")


def _look_at_objects(facts: Facts, scene) -> None:
    from segalgos import rle

    for error in scene.problems:
        facts.add(kind_of(error), str(error))
    runs = scene.runs
    areas = rle.areas(runs)
    for i, annotation in enumerate(scene.annotations):
        facts.objects.append((annotation.category, int(areas[i])))
        facts.n_crowds += annotation.crowd
        facts.pixels[annotation.category] += int(areas[i])
        _look_at_outline(facts, annotation, i, int(areas[i]), scene.size)
    _find_twice(facts, scene, runs, areas)
    if not scene.annotations and not scene.problems:
        facts.add("image without objects", "it has no annotation")


def _look_at_outline(facts: Facts, annotation, i: int, area: int, size: tuple[int, int]) -> None:
    polygons = annotation.polygons or ()
    thin = [p for p in polygons if len(np.unique(p, axis=0)) < 3 or _area(p) < _LEAST_AREA]
    if thin:
        facts.add("degenerate outline", f"object {i}: {len(thin)} of {len(polygons)} outlines")
    elif area == 0:
        facts.add("object without a pixel", f"object {i}")
    corners = [*polygons]
    if annotation.box is not None:
        corners.append(np.reshape(annotation.box, (2, 2)))
    if corners:
        points = np.concatenate(corners)
        over = float(max((-points).max(), (points - size).max()))
        if over > _SLACK:
            facts.add("beyond the image", f"object {i} by {over:.1f} pixels")


def _area(polygon: NDArray) -> float:
    rows, columns = polygon[:, 0], polygon[:, 1]
    return abs(float(rows @ np.roll(columns, 1) - columns @ np.roll(rows, 1))) / 2


def _find_twice(facts: Facts, scene, runs, areas: NDArray[np.int64]) -> None:
    """Objects of one class that lie on one another."""
    from segalgos import rle

    categories = np.array([a.category for a in scene.annotations])
    single = np.array([not a.crowd for a in scene.annotations], bool)
    for category in np.unique(categories[single & (areas > 0)]) if len(categories) else ():
        places = np.flatnonzero(single & (areas > 0) & (categories == category))
        if len(places) < 2:
            continue
        parts = [scene.annotations[i].counts for i in places]
        own = rle.Runs.join(scene.size, parts)
        ious = np.triu(rle.iou(own, own), 1)
        for i, j in np.argwhere(ious >= _SAME):
            detail = f"objects {places[i]} and {places[j]}, IoU {ious[i, j]:.3f}"
            facts.add("annotated twice", detail)
