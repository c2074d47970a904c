"""isbi2012: cells and their membranes under an electron microscope (ISBI 2012)."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from segalgos.datasets._files import (
    list_images,
    pair_files,
    pick_split,
    read_classes,
    require_folder,
    semantic_dataset,
)
from segalgos.datasets.base import Dataset, Info

__all__ = ["CLASSES", "INFO", "load"]

CLASSES = ("membrane", "cell")

INFO = Info(
    name="isbi2012",
    task="semantic",
    splits=("train", "val", "test"),
    size="18 train, 6 val, 6 test",
    licence="non-commercial research",
    citation="I. Arganda-Carreras et al., 'Crowdsourcing the creation of image segmentation "
    "algorithms for connectomics', Frontiers in Neuroanatomy 9, 2015; A. Cardona et al., PLoS "
    "Biology 8(10), 2010",
    source="the labelled stack of the ISBI 2012 challenge, as PNG in "
    "https://github.com/zhixuhao/unet (data/membrane/train)",
    summary="Slices of a fly's nerve cord, the insides of cells told from membranes.",
    folder="ISBI2012",
    marks=("train/label",),
)

_PARTS = {"train": range(18), "val": range(18, 24), "test": range(24, 30)}
_MEANING = {0: 0, 255: 1}


def load(*, split: str = "train", root: str | Path | None = None) -> Dataset:
    """Read the labelled slices of the ISBI 2012 challenge.

    Parameters
    ----------
    split : {"train", "val", "test"}
        By number: slices 0 to 17, 18 to 23 and 24 to 29 of the 30 that have public labels.
        The challenge's own test stack has none.
    root : path, optional
        ``ISBI2012`` or the folder that holds it; by default the folder named by
        ``SEGALGOS_DATA``.

    Returns
    -------
    Dataset
        With ``labels``. Images are grey, 512 x 512.

    Raises
    ------
    FileNotFoundError
        If the set or the split is not here.
    ValueError
        If a slice has no label file; when it is read, if that is damaged.

    Notes
    -----
    Slices follow one another through one block and neighbours look alike, so splits are
    ranges. Those on both sides of a cut are still neighbours.

    References
    ----------
    .. [1] I. Arganda-Carreras et al., "Crowdsourcing the creation of image segmentation
       algorithms for connectomics", Frontiers in Neuroanatomy 9:142, 2015.
    .. [2] A. Cardona et al., "An Integrated Micro- and Macroarchitectural Analysis of the
       Drosophila Brain by Computer-Assisted Serial Section Electron Microscopy", PLoS
       Biology 8(10), 2010.
    """
    folder = require_folder(INFO, root)
    slices = pick_split(INFO, split, list_images(folder / "train" / "image"), _PARTS, folder)
    pairs = pair_files(INFO, slices, lambda image: image.parents[1] / "label" / f"{image.stem}.png")
    decode = partial(read_classes, INFO.name, _MEANING)
    return semantic_dataset(INFO, split, CLASSES, pairs, decode)
