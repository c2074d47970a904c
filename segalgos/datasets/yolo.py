"""yolo: any data set in YOLO's segmentation format, polygons in text files."""

from __future__ import annotations

from pathlib import Path

from segalgos import formats
from segalgos.datasets._instances import load_part, locate_format, require_format
from segalgos.datasets.base import Dataset, Info

__all__ = ["INFO", "load", "locate"]

INFO = Info(
    name="yolo",
    task="instance",
    splits=("train", "val", "test", "all"),
    size="as many as it holds",
    licence="the data's own",
    citation="the data's own",
    source="your own folder or an export, passed as root=; the format: "
    "https://docs.ultralytics.com/datasets/segment",
    summary="Objects in YOLO's format: data.yaml, images, and labels with a polygon a line.",
    folder="yolo",
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
    return locate_format(INFO, "yolo", root)


def load(*, split: str = "train", root: str | Path | None = None) -> Dataset:
    """Read a data set in YOLO's segmentation format.

    Parameters
    ----------
    split : str
        "train", "val" or "test", as far as ``data.yaml`` names them; "all" is everything.
    root : path, optional
        The folder of ``data.yaml``, or that file; by default ``yolo`` in the folder named by
        ``SEGALGOS_DATA``.

    Returns
    -------
    Dataset
        With ``instances``, whose classes are YOLO's plus 1 (0 is background), and ``labels``,
        which are -1 where classes overlap.

    Raises
    ------
    FileNotFoundError
        If there is none, or a folder that it names is missing.
    ValueError
        If a file is damaged; names the file and the line.

    Notes
    -----
    ``data.yaml`` is read as plain mappings and lists; the rest of YAML is refused. An image
    without a text file has no objects. A line of four numbers is a box, and its mask the whole
    box.
    """
    folder = require_format(INFO, "yolo", root, "data.yaml")
    return load_part(INFO, split, formats.yolo.read(folder), folder)
