"""bsds500: the Berkeley Segmentation Data Set, photographs cut by several people each."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from segalgos.datasets._files import (
    check_same_size,
    list_images,
    pair_files,
    require_folder,
    require_split,
)
from segalgos.datasets.base import Dataset, Info, Sample
from segalgos.files import read_image

__all__ = ["INFO", "image_names", "load"]

INFO = Info(
    name="bsds500",
    task="partition",
    splits=("train", "val", "test"),
    size="200 train, 100 val, 200 test",
    licence="non-commercial research and education",
    citation="P. Arbelaez, M. Maire, C. Fowlkes, J. Malik, 'Contour Detection and Hierarchical "
    "Image Segmentation', IEEE TPAMI 33(5), 2011",
    source="the Berkeley Segmentation Data Set, "
    "https://www2.eecs.berkeley.edu/Research/Projects/CS/vision/grouping/resources.html",
    summary="Photographs of nature and people, each cut into regions by four to nine people.",
    folder="BSDS500",
    marks=("data/groundTruth", "groundTruth"),
)


def load(*, split: str = "train", root: str | Path | None = None) -> Dataset:
    """Read the Berkeley Segmentation Data Set from its public layout.

    Parameters
    ----------
    split : {"train", "val", "test"}
    root : path, optional
        ``BSDS500``, ``BSDS500/data`` or the folder that holds ``BSDS500``; by default
        the folder named by ``SEGALGOS_DATA``.

    Returns
    -------
    Dataset
        With ``annotations``: the partitions of all annotators of an image, ids from 0.

    Raises
    ------
    FileNotFoundError
        If the set or the split is not here.
    ValueError
        If an image has no ``.mat`` file; when it is read, if that is damaged.

    Notes
    -----
    Annotators disagree in how fine they cut. Score against all of them [1]_.

    References
    ----------
    .. [1] P. Arbelaez, M. Maire, C. Fowlkes, J. Malik, "Contour Detection and Hierarchical
       Image Segmentation", IEEE TPAMI 33(5), 898-916, 2011.
    """
    folder = _find_split(split, root)
    annotations = folder / "groundTruth" / split
    pairs = pair_files(
        INFO,
        list_images(folder / "images" / split),
        lambda image: annotations / f"{image.stem}.mat",
    )
    return Dataset(partial(_read, pairs), range(len(pairs)), INFO, split, (), ("partition",))


def image_names(*, split: str = "train", root: str | Path | None = None) -> list[str]:
    """List the names of the images, without reading any.

    Parameters
    ----------
    split : {"train", "val", "test"}
    root : path, optional
        As for `load`.

    Returns
    -------
    list of str
        In the order of the samples.

    Raises
    ------
    FileNotFoundError
        If the set or the split is not here.
    """
    return [path.stem for path in list_images(_find_split(split, root) / "images" / split)]


def _find_split(split: str, root: str | Path | None) -> Path:
    """The folder that holds ``images`` and ``groundTruth`` with that split."""
    folder = require_folder(INFO, root)
    folder = folder / "data" if (folder / "data").is_dir() else folder
    present = [s for s in INFO.splits if (folder / "images" / s).is_dir()]
    require_split(INFO, split, present, folder)
    return folder


def _read(pairs: list[tuple[Path, Path]], index: int) -> Sample:
    image_path, truth_path = pairs[index]
    image = read_image(image_path)
    annotations = _read_annotations(truth_path)
    for labels in annotations:
        check_same_size("bsds500", image, image_path, labels, truth_path)
    return Sample(image, annotations=annotations, name=image_path.stem)


def _read_annotations(path: Path) -> tuple[NDArray[np.int32], ...]:
    """The partition of each annotator in a ``.mat`` file, ids from 0."""
    from scipy.io import loadmat

    try:
        cells = loadmat(path)["groundTruth"].ravel()
        annotations = tuple(cell["Segmentation"][0, 0].astype(np.int32) - 1 for cell in cells)
        if not annotations or any(a.ndim != 2 or a.min() < 0 for a in annotations):
            raise ValueError("ids below 1, or none")
    except Exception as error:  # scipy raises a dozen types on damaged files
        raise ValueError(
            f"bsds500: {path} could not be read as BSDS500 annotations ({error}): "
            "the file is damaged; get it again."
        ) from error
    return annotations
