"""coco: any data set in COCO's instance format, as COCO, Roboflow, CVAT and others export it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from segalgos import formats
from segalgos.datasets._instances import load_part, locate_format, require_format
from segalgos.datasets.base import Dataset, Info

__all__ = ["INFO", "annotations", "load", "locate"]

INFO = Info(
    name="coco",
    task="instance",
    splits=("train", "val", "test", "all"),
    size="as many as it holds; COCO 2017: 118287 train, 5000 val",
    licence="the data's own; COCO: annotations CC BY 4.0, images various",
    citation="T.-Y. Lin et al., 'Microsoft COCO: common objects in context', ECCV 2014",
    source="https://cocodataset.org, or an export of Roboflow, CVAT and others, passed as root=",
    summary="Objects in COCO's format: polygons or run lengths, crowds, any classes.",
    folder="coco",
)


def locate(root: str | Path | None = None) -> Path | None:
    """Where the data set is.

    Parameters
    ----------
    root : path, optional
        As for `load`.

    Returns
    -------
    Path or None
    """
    return locate_format(INFO, "coco", root)


def load(*, split: str = "train", root: str | Path | None = None) -> Dataset:
    """Read a data set in COCO's format.

    Parameters
    ----------
    split : str
        A part that is there. Of a file without a part in its name, "train" or "test": about 70
        and 30 %, by the hashes of images' names. "all" is everything.
    root : path, optional
        A folder in one of the layouts below, or a file; by default ``coco`` in the folder named
        by ``SEGALGOS_DATA``.

    Returns
    -------
    Dataset
        With ``instances``, whose classes are places in ``classes`` (0 is background; ids of
        categories may have gaps, places have none) and whose ``crowd`` tells ``iscrowd``; and
        ``labels``, which are -1 in crowds and where classes overlap.

    Raises
    ------
    FileNotFoundError
        If there is none; when it is read, if an image is not here.
    ValueError
        If a file is damaged; names the file and the entry. Structure is checked at once, a mask
        when its image is read.

    See Also
    --------
    annotations : The file's own dict, for COCO's scores.
    segalgos.datasets.Dataset.to_coco : The same of any data set.

    Notes
    -----
    Layouts: ``annotations/instances_train2017.json`` with ``train2017/*.jpg`` or
    ``images/train2017/*.jpg`` (COCO), ``annotations/instances_default.json`` with ``images``
    (CVAT), ``train/_annotations.coco.json`` beside its images (Roboflow), ``labels.json`` with
    ``data`` (FiftyOne).

    An annotation without a segmentation is its whole box.

    References
    ----------
    .. [1] T.-Y. Lin et al., "Microsoft COCO: common objects in context", ECCV 2014,
       arXiv:1405.0312.
    """
    folder = require_format(INFO, "coco", root, "file in COCO's format")
    return load_part(INFO, split, formats.coco.read(folder), folder)


def annotations(*, split: str = "train", root: str | Path | None = None) -> dict[str, Any]:
    """Read a part's file as it is.

    Parameters
    ----------
    split : str
        A part that has a file; "all" is the only file.
    root : path, optional
        As for `load`.

    Returns
    -------
    dict
        "images", "annotations" and "categories" with the file's own ids and areas: the truth of
        `segalgos.metrics.coco_average_precision`.

    Raises
    ------
    FileNotFoundError
        If there is none.
    ValueError
        If the part has no file, or that is damaged.
    """
    folder = require_format(INFO, "coco", root, "file in COCO's format")
    files = formats.coco.files(folder)
    if split == "all" and len(files) == 1:
        split = next(iter(files))
    if split not in files:
        there = ", ".join(name or "all" for name in files)
        raise ValueError(f"coco: {folder} has no file of the part {split!r}, only of {there}.")
    return formats.coco.read_content(files[split])
