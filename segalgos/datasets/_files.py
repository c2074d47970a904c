"""What the loaders of real data share: where files are, which there are, how they are split."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from pathlib import Path

from numpy.typing import NDArray

from segalgos.checks import check_choice
from segalgos.datasets.base import Info
from segalgos.files import IMAGE_SUFFIXES


def find_folder(folder: str, marks: Sequence[str], root: str | Path | None) -> Path | None:
    """Where a data set's files are, or None.

    Parameters
    ----------
    folder : str
        Usual name of the data set's folder.
    marks : sequence of str
        Paths inside the data set of which one must exist.
    root : path or None
        The data set's folder, or the one that holds it. By default the folder
        named by the environment variable ``SEGALGOS_DATA``.

    Returns
    -------
    Path or None
        The folder in which a mark was found.
    """
    base = root if root is not None else os.environ.get("SEGALGOS_DATA")
    if not base:
        return None
    places = (Path(base), Path(base) / folder)
    return next((p for p in places for mark in marks if (p / mark).exists()), None)


def require_folder(info: Info, folder: str, marks: Sequence[str], root: str | Path | None) -> Path:
    """As :func:`find_folder`; ``FileNotFoundError`` with the remedy when there is none."""
    found = find_folder(folder, marks, root)
    if found is not None:
        return found
    if root is not None:
        where = f"root={str(root)!r} and its subfolder {folder!r}"
    elif os.environ.get("SEGALGOS_DATA"):
        where = f"the folder named by SEGALGOS_DATA, {os.environ['SEGALGOS_DATA']!r}"
    else:
        where = "no place, as neither root= nor SEGALGOS_DATA is set"
    raise FileNotFoundError(
        f"{info.name}: found no folder {folder!r} that holds {' or '.join(marks)} (searched: "
        f"{where}). Get it from {info.source}, unpack it, and pass root= with its folder or set "
        f"SEGALGOS_DATA to the folder that holds {folder!r}."
    )


def require_split(info: Info, split: str, present: Sequence[str], folder: Path) -> None:
    """Raise unless ``split`` is a split of the data set and is among those ``present``."""
    check_choice(info.name, "split", split, info.splits)
    if split not in present:
        raise FileNotFoundError(
            f"{info.name}: {folder} holds no {split!r} part, only {', '.join(present) or 'none'}: "
            f"choose another split or get the whole set from {info.source}."
        )


def list_images(folder: Path) -> list[Path]:
    """The image files of a folder, by name; hidden files and other suffixes left out."""
    return sorted(
        path
        for path in folder.iterdir()
        if path.suffix.lower() in IMAGE_SUFFIXES and not path.name.startswith(".")
    )


def check_same_size(
    caller: str, image: NDArray, image_path: Path, labels: NDArray, label_path: Path
) -> None:
    """Raise ``ValueError``, naming both files, unless labels and image have one size."""
    if labels.shape != image.shape[:2]:
        raise ValueError(
            f"{caller}: {label_path} has size {labels.shape}, its image {image_path} has "
            f"{image.shape[:2]}: expected the same height and width."
        )


def hash_share(name: str) -> float:
    """A number in [0, 1) that depends on ``name`` alone, for splits that never move.

    A split by ``hash_share(name) < share`` puts a file on the same side whatever
    other files there are, on every machine.
    """
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big") / 2**64
