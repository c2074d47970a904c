"""What the data sets of objects share, whose files `segalgos.formats` reads."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from segalgos import formats
from segalgos.checks import check_choice
from segalgos.datasets._files import check_same_size, split_by_hash
from segalgos.datasets.base import Dataset, Info, Sample
from segalgos.files import read_image
from segalgos.results import Instances

# Formats load compiled kernels, which a list of data sets can do without.
if TYPE_CHECKING:
    from segalgos.formats import Part, Scene

_VIEWS = ("semantic", "instance")


def locate_format(
    info: Info, name: str, root: str | Path | None, *, find: str = "find"
) -> Path | None:
    """Where a data set in a format is: in `root`, its folder below, or SEGALGOS_DATA.

    Parameters
    ----------
    info : Info
    name : str
        A module of `segalgos.formats`.
    root : path or None
    find : str
        Which of its functions tells whether it is there.

    Returns
    -------
    Path or None
    """
    base = root if root is not None else os.environ.get("SEGALGOS_DATA")
    if not base:
        return None
    # The folder of all data sets is no data set itself, and its folders are no splits.
    places = [Path(base) / info.folder, *([Path(base)] if root is not None else [])]
    there = (place for place in places if place.exists())
    return next((p for p in there if getattr(getattr(formats, name), find)(p)), None)


def require_format(
    info: Info, name: str, root: str | Path | None, layout: str, *, find: str = "find"
) -> Path:
    """As `locate_format`; ``FileNotFoundError`` with the remedy when there is none."""
    found = locate_format(info, name, root, find=find)
    if found is not None:
        return found
    if root is not None:
        where = f"root={str(root)!r} and its subfolder {info.folder!r}"
    elif os.environ.get("SEGALGOS_DATA"):
        where = f"{info.folder!r} in the folder named by SEGALGOS_DATA"
    else:
        where = "no place, as neither root= nor SEGALGOS_DATA is set"
    raise FileNotFoundError(
        f"{info.name}: found no {layout} (searched: {where}). Pass root= with the folder that "
        "holds it."
    )


def load_part(info: Info, split: str, parts: Mapping[str, Part], folder: Path) -> Dataset:
    """The data set of a split.

    Parameters
    ----------
    info : Info
    split : str
        A part; "all" is all of them; "train" and "test" of a part without a name are made by
        the hashes of its images' names.
    parts : mapping of str to Part
        What the format's ``read`` gives.
    folder : Path
        For messages.

    Returns
    -------
    Dataset
        Class 0 is background.
    """
    names = {part.classes for part in parts.values()}
    if len(names) > 1:
        raise ValueError(f"{info.name}: the parts of {folder} have other classes: load them alone.")
    chosen = dict(parts)
    if "" in chosen:
        part = chosen.pop("")
        named = [str(i) for i in range(len(part))] if not len(part) else _names(part)
        for name, entries in split_by_hash(part.entries, named).items():
            if name not in chosen:
                chosen[name] = replace(part, entries=entries)
        chosen.setdefault("all", part)
    elif "all" not in chosen:
        whole = {k: p for k, p in chosen.items() if k != "trainval" or "train" not in chosen}
        entries = [(split_, entry) for split_, p in whole.items() for entry in p.entries]
        readers = {name: p.read for name, p in whole.items()}
        first = next(iter(chosen.values()))
        chosen["all"] = replace(first, entries=entries, read=partial(_read_any, readers))
    check_choice(info.name, "split", split, tuple(chosen))
    part = chosen[split]
    if not len(part):
        raise ValueError(f"{info.name}: {folder} holds no image for the part {split!r}: add some.")
    read = partial(_read, info.name, part)
    classes = ("background", *part.classes)
    return Dataset(read, range(len(part)), info, split, classes, _VIEWS, "instance")


def _read_any(readers: Mapping[str, object], entry: tuple) -> Scene:
    split, own = entry
    return readers[split](own)


def _names(part: Part) -> list[str]:
    """Names of a part's scenes, which all formats keep in their entries without drawing."""
    return [_name_of(entry) for entry in part.entries]


def _name_of(entry: object) -> str:
    first = entry[0] if isinstance(entry, tuple) else entry
    return first.stem if isinstance(first, Path) else str(first)


def _read(caller: str, part: Part, index: int) -> Sample:
    scene = part[index]
    if scene.image is None:
        raise FileNotFoundError(
            f"{caller}: the image {scene.file_name or scene.name!r} is not here: put it beside its "
            "labels, as the layout says."
        )
    image = read_image(scene.image)
    instances = scene.to_instances(first_class=1)
    check_same_size(caller, image, scene.image, instances, Path(f"labels of {scene.name}"))
    return Sample(image, semantic_labels(instances, scene.void), instances, name=scene.name)


def semantic_labels(instances: Instances, void: NDArray[np.int64] | None) -> NDArray[np.int32]:
    """Classes of pixels, as far as objects tell them.

    Parameters
    ----------
    instances : Instances
    void : (n,) int64 or None
        Pixels of which nothing is known, as runs.

    Returns
    -------
    (H, W) int32
        0 where there is no object; -1 in void, in crowds, and where objects of several classes
        overlap.
    """
    from segalgos import rle

    labels = np.zeros(instances.shape, np.int32)
    if void is not None:
        labels[rle.decode(rle.Runs.join(instances.shape, [void]))[0]] = -1
    labels[instances.masks[instances.crowd].any(axis=0)] = -1
    taken = np.zeros(instances.shape, bool)
    for i in np.flatnonzero(~instances.crowd):
        mask, own = instances.masks[i], instances.classes[i]
        labels[mask] = np.where(taken[mask] & (labels[mask] != own), -1, own)
        taken |= mask
    return labels
