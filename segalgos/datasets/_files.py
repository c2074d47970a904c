"""What the loaders of real data share: where files are, which there are, how they are split."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Callable, Container, Mapping, Sequence
from functools import partial
from operator import attrgetter
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from segalgos.checks import check_choice
from segalgos.datasets.base import Dataset, Info, Sample
from segalgos.files import IMAGE_SUFFIXES, read_image, read_labels

T = TypeVar("T")

_TRAIN_SHARE = 0.7


def find_folder(
    info: Info, root: str | Path | None, marks: Sequence[str] | None = None
) -> Path | None:
    """Where a data set's files are, or None.

    Parameters
    ----------
    info : Info
    root : path or None
        The data set's folder, or the one that holds it. By default the folder
        named by the environment variable ``SEGALGOS_DATA``.
    marks : sequence of str, optional
        Look for these instead of those of `info`.

    Returns
    -------
    Path or None
        The folder in which a mark was found.
    """
    base = root if root is not None else os.environ.get("SEGALGOS_DATA")
    if not base:
        return None
    places = (Path(base), Path(base) / info.folder)
    marks = info.marks if marks is None else marks
    return next((p for p in places for mark in marks if (p / mark).exists()), None)


def require_folder(info: Info, root: str | Path | None, marks: Sequence[str] | None = None) -> Path:
    """As :func:`find_folder`; ``FileNotFoundError`` with the remedy when there is none."""
    found = find_folder(info, root, marks)
    if found is not None:
        return found
    folder, marks = info.folder, info.marks if marks is None else marks
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
    """The image files of a folder, by name; hidden files and other suffixes left out.

    A folder that is not there has none.
    """
    if not folder.is_dir():
        return []
    return sorted(
        path
        for path in folder.iterdir()
        if path.suffix.lower() in IMAGE_SUFFIXES and not path.name.startswith(".")
    )


def pick_split(
    info: Info,
    split: str,
    images: Sequence[Path],
    parts: Mapping[str, Container[int]],
    folder: Path,
) -> list[Path]:
    """The images of a split, for sets whose splits are told by the numbers of the images.

    Parameters
    ----------
    info : Info
    split : str
    images : sequence of Path
        All images; the last number in a file's name is the image's.
    parts : mapping of str to container of int
        Split -> the numbers of its images.
    folder : Path
        For the message if the split is not here.

    Returns
    -------
    list of Path
        In the order of their numbers.
    """
    numbered = sorted((_number(info, image), image) for image in images)
    present = [name for name, part in parts.items() if any(n in part for n, _ in numbered)]
    require_split(info, split, present, folder)
    return [image for n, image in numbered if n in parts[split]]


def _number(info: Info, path: Path) -> int:
    digits = re.findall(r"\d+", path.stem)
    if not digits:
        raise ValueError(
            f"{info.name}: {path} has no number in its name, which tells its split: "
            "keep the names that the files came with."
        )
    return int(digits[-1])


def pair_files(
    info: Info, images: Sequence[Path], label_of: Callable[[Path], Path]
) -> list[tuple[Path, Path]]:
    """Each image with its label file; ``ValueError`` for an image that has none."""
    pairs = [(image, label_of(image)) for image in images]
    for image, labels in pairs:
        if not labels.is_file():
            raise ValueError(f"{info.name}: {image} has no label file {labels}: get the whole set.")
    return pairs


def semantic_dataset(
    info: Info,
    split: str,
    classes: tuple[str, ...],
    pairs: list[tuple[Path, Path]],
    decode: Callable[[Path], NDArray[np.int32]],
    name_of: Callable[[Path], str] = attrgetter("stem"),
) -> Dataset:
    """A data set of images with label files.

    Parameters
    ----------
    info : Info
    split : str
    classes : tuple of str
    pairs : list of (Path, Path)
        Image and label file.
    decode : callable
        ``decode(label_file)`` gives class ids (H, W); picklable, as is ``name_of``.
    name_of : callable
        ``name_of(image_file)`` gives the sample's name.

    Returns
    -------
    Dataset
        That checks sizes when it reads.
    """
    read = partial(_read_pair, info.name, pairs, decode, name_of)
    return Dataset(read, range(len(pairs)), info, split, classes, ("semantic",))


def _read_pair(
    caller: str,
    pairs: list[tuple[Path, Path]],
    decode: Callable[[Path], NDArray[np.int32]],
    name_of: Callable[[Path], str],
    index: int,
) -> Sample:
    image_path, label_path = pairs[index]
    image, labels = read_image(image_path), decode(label_path)
    check_same_size(caller, image, image_path, labels, label_path)
    return Sample(image, labels=labels, name=name_of(image_path))


def read_classes(caller: str, meaning: Mapping[int, int], path: Path) -> NDArray[np.int32]:
    """Class ids (H, W) of a grey label file, by :func:`to_classes`."""
    return to_classes(caller, path, read_labels(path), meaning)


def read_above(threshold: int, path: Path) -> NDArray[np.int32]:
    """1 where a grey mask is above the threshold, else 0; for masks with blurred edges."""
    return (read_labels(path) > threshold).astype(np.int32)


def pack_colours(image: NDArray[np.uint8]) -> NDArray[np.int32]:
    """Colours (H, W, 3) as one integer a pixel, 0xRRGGBB."""
    return image.astype(np.int32) @ np.array([1 << 16, 1 << 8, 1], np.int32)


def to_classes(
    caller: str, path: Path, values: NDArray, meaning: Mapping[int, int]
) -> NDArray[np.int32]:
    """Replace the values of a label file by class ids.

    Parameters
    ----------
    caller : str
    path : Path
        For the message.
    values : (H, W) int
    meaning : mapping of int to int
        Value -> class id.

    Returns
    -------
    (H, W) int32

    Raises
    ------
    ValueError
        If a value has no meaning.
    """
    known = np.array(sorted(meaning))
    places = np.searchsorted(known, values).clip(max=len(known) - 1)
    strange = values[known[places] != values]
    if len(strange):
        raise ValueError(
            f"{caller}: {path} holds the value {strange[0]}, expected only "
            f"{', '.join(map(str, known))}: the file is damaged or was changed; get it again."
        )
    return np.array([meaning[value] for value in known.tolist()], np.int32)[places]


def check_same_size(
    caller: str, image: NDArray, image_path: Path, labels: NDArray, label_path: Path
) -> None:
    """Raise ``ValueError``, naming both files, unless labels and image have one size."""
    if labels.shape != image.shape[:2]:
        raise ValueError(
            f"{caller}: {label_path} has size {labels.shape}, its image {image_path} has "
            f"{image.shape[:2]}: expected the same height and width."
        )


def split_by_hash(entries: Sequence[T], names: Sequence[str]) -> dict[str, list[T]]:
    """Train (about 70 %) and test by the hashes of names, where there is no split.

    Parameters
    ----------
    entries : sequence
    names : sequence of str
        Of the entries.

    Returns
    -------
    dict of str to list
        "train" and "test"; neither is empty if there are two entries.
    """
    shares = [hash_share(name) for name in names]
    last_train = max(_TRAIN_SHARE, min(shares, default=0.0))  # at least the lowest hash trains
    test = [share > last_train for share in shares]
    if not any(test) and len(entries) > 1:
        test[int(np.argmax(shares))] = True
    return {
        "train": [entry for entry, out in zip(entries, test, strict=True) if not out],
        "test": [entry for entry, out in zip(entries, test, strict=True) if out],
    }


def hash_share(name: str) -> float:
    """A number in [0, 1) that depends on ``name`` alone, for splits that never move.

    A split by ``hash_share(name) < share`` puts a file on the same side whatever
    other files there are, on every machine.
    """
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big") / 2**64
