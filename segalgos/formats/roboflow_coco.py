"""Roboflow's COCO layout: images of a split in one folder with ``_annotations.coco.json``.

::

    DIR/train/_annotations.coco.json    DIR/train/*.jpg
    DIR/valid/_annotations.coco.json    DIR/valid/*.jpg

Content and reader are those of `segalgos.formats.coco`.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from segalgos.files import atomic_path
from segalgos.formats._reading import roboflow_split
from segalgos.formats.base import Item
from segalgos.formats.coco import decode, encode, find, read, to_content

__all__ = ["NAME", "decode", "encode", "find", "image_place", "read", "write_end", "write_scene"]

NAME = "roboflow_coco"


def image_place(split: str, name: str, suffix: str) -> str:
    """Where an image stands: beside the file of its split.

    Parameters
    ----------
    split, name, suffix : str

    Returns
    -------
    str
    """
    return f"{roboflow_split(split)}/{name}{suffix}"


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
    """Write ``<split>/_annotations.coco.json``.

    Parameters
    ----------
    folder : Path
    classes : sequence of str
    class_ids : sequence of int or None
    items : sequence of Item
    """
    for split in Counter(roboflow_split(item.split) for item in items):
        chosen = [item for item in items if roboflow_split(item.split) == split]
        with atomic_path(folder / split / "_annotations.coco.json") as temporary:
            text = json.dumps(to_content(chosen, classes, class_ids), separators=(",", ":"))
            temporary.write_text(text, encoding="utf-8")
