"""Roboflow's YOLO layout: ``data.yaml`` beside ``train``, ``valid`` and ``test``.

::

    DIR/data.yaml
    DIR/train/images/*.jpg    DIR/train/labels/*.txt
    DIR/valid/images/*.jpg    DIR/valid/labels/*.txt

Content and reader are those of `segalgos.formats.yolo`.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from segalgos.files import atomic_path
from segalgos.formats._reading import roboflow_split
from segalgos.formats._yaml import quote
from segalgos.formats.base import Item
from segalgos.formats.yolo import SPLITS, decode, encode, find, read

__all__ = [
    "NAME",
    "SPLITS",
    "decode",
    "encode",
    "find",
    "image_place",
    "read",
    "write_end",
    "write_scene",
]

NAME = "roboflow_yolo"


def image_place(split: str, name: str, suffix: str) -> str:
    """Where an image stands.

    Parameters
    ----------
    split, name, suffix : str

    Returns
    -------
    str
    """
    return f"{roboflow_split(split)}/images/{name}{suffix}"


def write_scene(folder: Path, item: Item) -> None:
    """Write the text file of a scene.

    Parameters
    ----------
    folder : Path
    item : Item
    """
    path = folder / roboflow_split(item.split) / "labels" / f"{item.name}.txt"
    with atomic_path(path) as temporary:
        temporary.write_text("".join(f"{line}\n" for line in item.content), encoding="utf-8")


def write_end(
    folder: Path, classes: Sequence[str], class_ids: Sequence[int] | None, items: Sequence[Item]
) -> None:
    """Write ``data.yaml``, with paths as Roboflow has them: from the folder of a split.

    Parameters
    ----------
    folder : Path
    classes : sequence of str
    class_ids : sequence of int or None
        Not kept: classes are numbered from 0.
    items : sequence of Item
    """
    splits = list(dict.fromkeys(item.split or "train" for item in items))
    for split in splits:
        (folder / roboflow_split(split) / "images").mkdir(parents=True, exist_ok=True)
    lines = [f"{split}: ../{roboflow_split(split)}/images" for split in splits]
    lines += [f"nc: {len(classes)}", "names:", *(f"- {quote(name)}" for name in classes)]
    with atomic_path(folder / "data.yaml") as temporary:
        temporary.write_text("\n".join(lines) + "\n", encoding="utf-8")
