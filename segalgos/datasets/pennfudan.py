"""pennfudan: pedestrians in streets, a mask each (Penn-Fudan)."""

from __future__ import annotations

from pathlib import Path

from segalgos import formats
from segalgos.datasets._instances import load_part, locate_format, require_format
from segalgos.datasets.base import Dataset, Info

__all__ = ["INFO", "load", "locate"]

INFO = Info(
    name="pennfudan",
    task="instance",
    splits=("train", "test", "all"),
    size="170 images, about 70 % train, 30 % test",
    licence="none stated",
    citation="L. Wang, J. Shi, G. Song, I.-F. Shen, 'Object detection combining recognition and "
    "segmentation', ACCV 2007",
    source="https://www.cis.upenn.edu/~jshi/ped_html/",
    summary="Pedestrians around two campuses, 345 of them, a mask each.",
    folder="PennFudanPed",
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
    return locate_format(INFO, "pennfudan", root)


def load(*, split: str = "train", root: str | Path | None = None) -> Dataset:
    """Read the pedestrians.

    Parameters
    ----------
    split : {"train", "test", "all"}
        The set has no official split: the hash of an image's name puts it on one side.
    root : path, optional
        The folder that holds ``PNGImages`` and ``PedMasks``, or the one that holds that as
        ``PennFudanPed``; by default the folder named by ``SEGALGOS_DATA``.

    Returns
    -------
    Dataset
        With ``instances`` (class 1) and ``labels``, their union.

    Raises
    ------
    FileNotFoundError
        If the set is not here; when it is read, if an image is not.
    ValueError
        If a file is damaged; names it.

    References
    ----------
    .. [1] L. Wang, J. Shi, G. Song, I.-F. Shen, "Object detection combining recognition and
       segmentation", ACCV 2007.
    """
    folder = require_format(INFO, "pennfudan", root, "folder PedMasks")
    return load_part(INFO, split, formats.pennfudan.read(folder), folder)
