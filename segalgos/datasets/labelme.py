"""labelme: any data set in labelme's format, a JSON file an image."""

from __future__ import annotations

from pathlib import Path

from segalgos import formats
from segalgos.datasets._instances import load_part, locate_format, require_format
from segalgos.datasets.base import Dataset, Info

__all__ = ["INFO", "load", "locate"]

INFO = Info(
    name="labelme",
    task="instance",
    splits=("train", "val", "test", "all"),
    size="as many as it holds",
    licence="your own",
    citation="your own",
    source="your own folder, passed as root=; the tool: https://github.com/wkentaro/labelme",
    summary="Objects drawn with labelme: polygons, rectangles, circles and masks.",
    folder="labelme",
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
    return locate_format(INFO, "labelme", root)


def load(*, split: str = "train", root: str | Path | None = None) -> Dataset:
    """Read a folder of labelme's files.

    Parameters
    ----------
    split : str
        A folder of files below ``root``. Without such folders, "train" or "test": about 70 and
        30 %, by the hashes of files' names. "all" is everything.
    root : path, optional
        The folder of the JSON files; by default ``labelme`` in the folder named by
        ``SEGALGOS_DATA``.

    Returns
    -------
    Dataset
        With ``instances`` (0 is background, the labels follow by the alphabet, or as
        ``labels.txt`` has them) and ``labels``, which are -1 where classes overlap.

    Raises
    ------
    FileNotFoundError
        If there is none; when it is read, if an image is not here.
    ValueError
        If a file is damaged; names the file and the shape.

    Notes
    -----
    Shapes of one label and ``group_id`` are one object. Lines and points are left out. The copy
    of the image inside a file is not looked at. All files are read once to find the labels.
    """
    folder = require_format(INFO, "labelme", root, "JSON file of labelme")
    return load_part(INFO, split, formats.labelme.read(folder), folder)
