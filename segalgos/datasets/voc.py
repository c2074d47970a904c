"""voc: Pascal VOC, objects of 20 classes, and whatever else is in its layout."""

from __future__ import annotations

from pathlib import Path

from segalgos import formats
from segalgos.checks import check_choice
from segalgos.datasets._instances import load_part, locate_format, require_format
from segalgos.datasets.base import Dataset, Info

__all__ = ["INFO", "load", "locate"]

INFO = Info(
    name="voc",
    task="instance",
    splits=("train", "val", "trainval", "all"),
    size="VOC 2012: 1464 train, 1449 val",
    licence="its own: images are of Flickr, under its terms",
    citation="M. Everingham et al., 'The Pascal visual object classes challenge: a "
    "retrospective', IJCV 111, 2015",
    source="https://host.robots.ox.ac.uk/pascal/VOC/voc2012/",
    summary="Objects of 20 classes in photographs, with void outlines.",
    folder="VOCdevkit",
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
    return locate_format(INFO, "voc", root)


def load(
    *, split: str = "train", root: str | Path | None = None, annotations: str = "masks"
) -> Dataset:
    """Read Pascal VOC in its official layout.

    Parameters
    ----------
    split : str
        "train", "val" or "trainval", or any other list in ``ImageSets``; "all" is everything.
        Without lists, "train" or "test", by the hashes of images' names.
    root : path, optional
        The folder that holds ``JPEGImages`` and ``SegmentationObject``, or holds that as
        ``VOCdevkit/VOC2012``; by default the folder named by ``SEGALGOS_DATA``.
    annotations : {"masks", "boxes"}
        Objects of the images that have masks, or those of the XML files of all images, whose
        masks are their whole boxes.

    Returns
    -------
    Dataset
        With ``instances`` (0 is background) and ``labels``, -1 in void pixels and where classes
        overlap. Difficult objects, which VOC does not score, are crowds.

    Raises
    ------
    FileNotFoundError
        If the set is not here; when it is read, if an image is not.
    ValueError
        If a list names what is not there, or a file is damaged; names it.

    Notes
    -----
    ``labelmap.txt``, which CVAT writes, names other classes and the colours that stand for them.
    XML is read without document types and entities: a file that declares any is refused.

    References
    ----------
    .. [1] M. Everingham et al., "The Pascal visual object classes challenge: a retrospective",
       IJCV 111, 98-136, 2015.
    """
    check_choice(INFO.name, "annotations", annotations, ("masks", "boxes"))
    if annotations == "masks":
        folder = require_format(INFO, "voc", root, "folder SegmentationObject")
        return load_part(INFO, split, formats.voc.read(folder), folder)
    folder = require_format(INFO, "voc", root, "folder Annotations", find="find_boxes")
    return load_part(INFO, split, formats.voc.read_boxes(folder), folder)
