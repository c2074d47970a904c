"""berkeley: objects of the Berkeley photographs, to be cut out interactively."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from segalgos.datasets._files import (
    list_images,
    pair_files,
    require_folder,
    require_split,
    semantic_dataset,
)
from segalgos.datasets.base import Dataset, Info
from segalgos.files import read_image

__all__ = ["CLASSES", "INFO", "load"]

CLASSES = ("background", "object")

INFO = Info(
    name="berkeley",
    task="semantic",
    splits=("test",),
    size="100 test",
    licence="non-commercial research and education (the photographs are of BSDS)",
    citation="K. McGuinness, N. O'Connor, 'A comparative evaluation of interactive segmentation "
    "algorithms', Pattern Recognition 43(2), 2010",
    source="the objects of McGuinness and O'Connor, "
    "https://github.com/SamsungLabs/ritm_interactive_segmentation (Berkeley.zip)",
    summary="Objects of the Berkeley photographs, to be cut out by interactive methods.",
    folder="Berkeley",
    marks=("masks",),
)

_HALF = 128  # a few masks have coloured pixels along the outline


def load(*, split: str = "test", root: str | Path | None = None) -> Dataset:
    """Read the objects of McGuinness and O'Connor on Berkeley photographs.

    Parameters
    ----------
    split : {"test"}
        It has one part, to be scored: nothing is to be learned or chosen on it.
    root : path, optional
        ``Berkeley`` or the folder that holds it; by default the folder named by
        ``SEGALGOS_DATA``.

    Returns
    -------
    Dataset
        With ``labels``: 1 the object, 0 the background. A photograph with several objects is
        there once for each.

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
    .. [1] K. McGuinness, N. E. O'Connor, "A comparative evaluation of interactive
       segmentation algorithms", Pattern Recognition 43(2), 434-444, 2010.
    """
    folder = require_folder(INFO, root)
    images = list_images(folder / "images")
    require_split(INFO, split, INFO.splits if images else (), folder)
    pairs = pair_files(INFO, images, lambda image: folder / "masks" / f"{image.stem}.png")
    return semantic_dataset(INFO, split, CLASSES, pairs, _decode)


def _decode(path: Path) -> NDArray[np.int32]:
    grey = read_image(path)
    if grey.ndim == 3:
        grey = grey.mean(axis=-1)
    return (grey >= _HALF).astype(np.int32)
