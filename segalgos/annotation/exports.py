"""Data sets that are being made, written in the formats that others read."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from pathlib import Path

import numpy as np

from segalgos import rle
from segalgos.files import write_labels
from segalgos.formats import annotated, coco, yolo
from segalgos.formats.base import Annotation, Scene
from segalgos.formats.convert import compare, convert

__all__ = ["FORMATS", "export", "warm_up", "write_class_maps"]

#: Formats by name, and what people call them.
FORMATS = {
    "coco": "COCO (JSON, polygons)",
    "yolo": "YOLO segmentation",
    "voc": "Pascal VOC",
    "labelme": "labelme",
    "label_maps": "Label PNGs: an id for each object",
    "class_maps": "Class PNGs: an id for each class",
}


def export(folder: Path, name: str, target: Path | None = None) -> tuple[Path, list[str]]:
    """Write what is annotated in another format.

    Parameters
    ----------
    folder : Path
        Of the data set that is being made.
    name : str
        A key of `FORMATS`.
    target : Path, optional
        A folder that does not exist yet; ``exports/<name>-<number>`` in `folder` if None.

    Returns
    -------
    target : Path
    lines : list of str
        What was written and what was lost, in words.

    Raises
    ------
    ValueError
        If nothing is annotated, or there is no such format.
    """
    if name not in FORMATS:
        raise ValueError(f"annotate: format is {name!r}, expected one of {', '.join(FORMATS)}.")
    if target is None:
        number = 1
        while (target := folder / "exports" / f"{name}-{number}").exists():
            number += 1
    if not len(annotated.read(folder)[""]):
        raise ValueError(
            "There is nothing to export yet: draw an object, or mark an image as done."
        )
    if name == "class_maps":
        return target, write_class_maps(folder, target)
    report = convert(folder, target, source_format=annotated.NAME, target_format=name)
    return target, report.lines()


def warm_up() -> None:
    """Compile what exports need, on a tiny mask."""
    mask = np.zeros((1, 5, 5), bool)
    mask[0, 1:4, 1:4] = True
    mask[0, 2, 2] = False
    runs = rle.encode(mask)
    scene = Scene("warm", (5, 5), (Annotation(runs.counts, 0),))
    for writer in (coco, yolo):
        compare(scene, writer.encode(scene, ("one",)), ("one",), writer)


def write_class_maps(folder: Path, target: Path) -> list[str]:
    """Write a PNG of class ids for each image, in the layout of the data set ``folder``.

    Parameters
    ----------
    folder, target : Path

    Returns
    -------
    list of str
        What was written, in words.

    Notes
    -----
    ``classes.json`` has background as the first class, 0. Smaller objects are painted over larger
    ones. `target` is there when all is written.
    """
    part = annotated.read(folder)[""]
    target.parent.mkdir(parents=True, exist_ok=True)
    staging = Path(tempfile.mkdtemp(prefix=f".{target.name}-", dir=target.parent))
    inside = staging / target.name
    try:
        n_objects = 0
        (inside / "images").mkdir(parents=True)
        for scene in part:
            write_labels(inside / "masks" / f"{scene.name}.png", paint_classes(scene))
            if scene.image is not None:
                shutil.copyfile(
                    scene.image, inside / "images" / f"{scene.name}{scene.image.suffix}"
                )
            n_objects += len(scene.annotations)
        names = ["background", *part.classes]
        (inside / "classes.json").write_text(json.dumps(names, indent=1), "utf-8")
        os.replace(inside, target)
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    return [f"annotated -> class maps: {len(part)} images, {n_objects} objects"]


def paint_classes(scene: Scene) -> np.ndarray:
    """Paint the classes of a scene, the largest objects first.

    Parameters
    ----------
    scene : Scene

    Returns
    -------
    (H, W) int32
        The place of its class + 1 for each pixel, 0 for background.
    """
    labels = np.zeros(scene.size, np.int32)
    for i in np.argsort(-rle.areas(scene.runs), kind="stable"):
        one = scene.annotations[i]
        mask = rle.decode(rle.Runs.join(scene.size, [one.counts]))[0]
        labels[mask] = one.category + 1
    return labels
