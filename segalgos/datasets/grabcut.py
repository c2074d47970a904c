"""grabcut: one object in each photograph, cut out with a band left open (GrabCut)."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from segalgos.datasets._files import (
    list_images,
    pair_files,
    read_classes,
    require_folder,
    require_split,
    semantic_dataset,
)
from segalgos.datasets.base import Dataset, Info

__all__ = ["CLASSES", "INFO", "load"]

CLASSES = ("background", "object")

INFO = Info(
    name="grabcut",
    task="semantic",
    splits=("test",),
    size="50 test",
    licence="none stated; published for research",
    citation="C. Rother, V. Kolmogorov, A. Blake, 'GrabCut: interactive foreground extraction "
    "using iterated graph cuts', ACM Transactions on Graphics 23(3), 2004",
    source="the GrabCut data set of Microsoft Research, "
    "https://github.com/SamsungLabs/ritm_interactive_segmentation (GrabCut.zip)",
    summary="Objects to be cut out by interactive methods, from clicks or a box.",
    folder="GrabCut",
    marks=("boundary_GT",),
)

# The band along an object's outline, where the two mix, belongs to neither.
_MEANING = {0: 0, 128: -1, 255: 1}


def load(*, split: str = "test", root: str | Path | None = None) -> Dataset:
    """Read the GrabCut data set.

    Parameters
    ----------
    split : {"test"}
        It has one part, to be scored: nothing is to be learned or chosen on it.
    root : path, optional
        ``GrabCut`` or the folder that holds it; by default the folder named by
        ``SEGALGOS_DATA``.

    Returns
    -------
    Dataset
        With ``labels``: 1 the object, 0 the background, -1 the band along its outline,
        which most images have.

    Raises
    ------
    FileNotFoundError
        If the set is not here.
    ValueError
        If an image has no mask; when it is read, if that is damaged or of another size.

    See Also
    --------
    segalgos.bench.user.next_click : The simulated user, who clicks on the largest mistake.

    References
    ----------
    .. [1] C. Rother, V. Kolmogorov and A. Blake, "GrabCut: interactive foreground
       extraction using iterated graph cuts", ACM Transactions on Graphics 23(3), 309-314,
       2004.
    """
    folder = require_folder(INFO, root)
    images = list_images(folder / "data_GT")
    require_split(INFO, split, INFO.splits if images else (), folder)
    pairs = pair_files(INFO, images, lambda image: folder / "boundary_GT" / f"{image.stem}.bmp")
    return semantic_dataset(INFO, split, CLASSES, pairs, partial(read_classes, INFO.name, _MEANING))
