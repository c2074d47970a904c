"""folder: a user's own images and masks.

Layouts, each with ``masks``, ``labels`` or ``annotations`` as the name of the mask folder::

    DIR/images/a.jpg          DIR/masks/a.png
    DIR/train/images/a.jpg    DIR/train/masks/a.png     (and val, test)

A mask has its image's stem, or that and a usual suffix: ``a_mask.png``.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from segalgos.checks import check_choice, check_int
from segalgos.datasets._files import (
    check_same_size,
    list_images,
    pack_colours,
    split_by_hash,
)
from segalgos.datasets.base import Dataset, Info, Sample
from segalgos.files import read_image, read_labels
from segalgos.parallel import map_items
from segalgos.results import Instances

__all__ = ["INFO", "load", "locate"]

INFO = Info(
    name="folder",
    task="semantic",
    splits=("train", "val", "test", "all"),
    size="as many as it holds",
    licence="your own",
    citation="your own",
    source="your own folder, passed as root=",
    summary="Your own images and masks: DIR/images and DIR/masks, with or without train, val "
    "and test folders above them.",
)

_MASK_FOLDERS = ("masks", "labels", "annotations")
_MASK_ENDINGS = tuple(
    sign + word
    for word in ("mask", "masks", "label", "labels", "gt", "annotation", "seg", "segmentation")
    for sign in "_-"
)
_IMAGE_ENDINGS = ("_image", "-image", "_img", "-img")
_VIEWS = {
    "semantic": ("semantic",),
    "instance": ("semantic", "instance"),
    "partition": ("partition",),
}
_MAX_CLASSES = 256


class _Pair(NamedTuple):
    image: Path
    mask: Path


def locate(root: str | Path | None = None) -> Path | None:
    """``root`` if it has one of the layouts of this module, else None.

    Parameters
    ----------
    root : path, optional
        The folder to look at.

    Returns
    -------
    Path or None
        None too if ``root`` is None.
    """
    return Path(root) if root is not None and _layout(Path(root)) else None


def load(
    *,
    split: str = "train",
    root: str | Path | None = None,
    task: str = "semantic",
    ignore_value: int | str | None = None,
    threshold: int | None = None,
) -> Dataset:
    """Read a folder of images and masks.

    Parameters
    ----------
    split : str
        A folder ``train``, ``val`` or ``test`` below ``root``. Without such folders,
        "train" or "test": about 70 and 30 %, by a hash of each file's stem, so that an
        image stays on its side when others come or go. "all" is everything.
    root : path
        Folder with ``images`` and ``masks`` (or ``labels``, ``annotations``).
    task : {"semantic", "instance", "partition"}
        What the values of a mask are: classes, objects (0 is background) or regions.
    ignore_value : int or "#rrggbb", optional
        Value of void pixels, which become -1.
    threshold : int, optional
        Make two classes of each grey mask: up to this value, and above it. For masks that
        are antialiased or JPEG.

    Returns
    -------
    Dataset
        With ``labels`` (semantic), ``labels`` and ``instances`` (instance) or
        ``annotations`` (partition). Images keep the type they are stored in.

    Raises
    ------
    FileNotFoundError
        If ``root`` has no such layout.
    ValueError
        If an image has no mask, values cannot be classes, or there is no such split;
        when it is read, if a mask is damaged or its size is not the image's.

    Notes
    -----
    Masks hold integers (palette images: their indices) or colours. The values found in all
    masks of all splits, sorted, become class ids 0, 1, ...; ``classes`` names each by its
    value ("value 128", "#ff0000"), so that nothing is renumbered in silence.

    255 is void if the other values are 0, 1, ..., K-1 with K of at least 2; so it is a class
    in masks of 0 and 255. Where classes are named, 255 is void if the other values are all
    below the number of names. ``ignore_value`` decides otherwise.

    Names come from ``classes.txt`` in ``root``, a name a line, or ``classes.json``, a list
    of names or an object ``{"0": "soil", "255": "plant"}`` or ``{"#ff0000": "car"}``. If
    all values are below the number of names they are class ids already, else there must be
    as many names as values.

    Loading reads every mask once, on threads, to find the values.
    """
    check_choice("folder", "task", task, tuple(_VIEWS))
    if root is None:
        raise ValueError("folder: root is None: pass root= with the folder of images and masks.")
    root = Path(root)
    parts = _layout(root)
    if not parts:
        raise FileNotFoundError(
            f"folder: {root} has no folder 'images', nor 'train/images', 'val/images' or "
            "'test/images': put images there and masks of the same names in 'masks' beside it."
        )
    splits = {name: _pairs(part) for name, part in parts.items()}
    everything = [pair for pairs in splits.values() for pair in pairs]
    if "" in splits:
        splits = split_by_hash(everything, [pair.image.stem for pair in everything])
    splits["all"] = everything
    check_choice("folder", "split", split, tuple(splits))
    if not splits[split]:
        raise ValueError(f"folder: {root} holds too few images for a {split!r} part: add some.")

    masks = [pair.mask for pair in everything]
    classes, decode = _find_meaning(root, masks, task, ignore_value, threshold)
    read = partial(_read, splits[split], task, decode)
    return Dataset(read, range(len(splits[split])), INFO, split, classes, _VIEWS[task], task)


def _read(
    pairs: list[_Pair], task: str, decode: Callable[[Path], NDArray[np.int32]], index: int
) -> Sample:
    pair = pairs[index]
    image, ids = read_image(pair.image), decode(pair.mask)
    check_same_size("folder", image, pair.image, ids, pair.mask)
    name = pair.image.stem
    if task == "semantic":
        return Sample(image, labels=ids, name=name)
    if task == "partition":
        return Sample(image, annotations=(ids,), name=name)
    objects = Instances.from_labels(ids)
    objects = Instances(objects.masks, classes=np.ones(len(objects), np.int32))
    return Sample(image, labels=np.minimum(ids, 1), instances=objects, name=name)


# ------------------------------------------------------------------------------- which files


def _layout(root: Path) -> dict[str, Path]:
    """Folders that hold ``images``, by split; the key is "" where there are no splits."""
    parts = {name: root / name for name in ("train", "val", "test")}
    parts = {name: part for name, part in parts.items() if (part / "images").is_dir()}
    if not (root / "images").is_dir():
        return parts
    if parts:
        raise ValueError(
            f"folder: {root} has both 'images' and '{next(iter(parts))}/images': keep one layout."
        )
    return {"": root}


def _pairs(part: Path) -> list[_Pair]:
    """Images of a folder with their masks, by name."""
    pairs = []
    for image, fits in match_masks(part)[0]:
        if len(fits) != 1:
            what = f"{len(fits)} masks, {' and '.join(p.name for p in fits)}" if fits else "no mask"
            raise ValueError(
                f"folder: {image} has {what}, expected one file {image.stem}.png (or .tif, or with "
                f"an ending such as _mask) in {_mask_folder(part)}."
            )
        pairs.append(_Pair(image, fits[0]))
    stem, count = Counter(pair.image.stem for pair in pairs).most_common(1)[0]
    if count > 1:
        raise ValueError(
            f"folder: {count} images in {part / 'images'} are named {stem!r}: rename them."
        )
    return pairs


def match_masks(part: Path) -> tuple[list[tuple[Path, list[Path]]], list[Path]]:
    """Images of a folder, each with the masks that fit its name, and masks that fit none.

    Parameters
    ----------
    part : Path
        A folder that holds ``images`` and a folder of masks.

    Returns
    -------
    images : list of (Path, list of Path)
    lone : list of Path

    Raises
    ------
    FileNotFoundError
        If there is no image, or not one folder of masks.
    """
    images = list_images(part / "images")
    if not images:
        raise FileNotFoundError(f"folder: {part / 'images'} holds no image: put some there.")
    folder = _mask_folder(part)
    masks: dict[str, list[Path]] = {}
    for path in (*list_images(folder), *sorted(folder.glob("*.npy"))):
        masks.setdefault(path.stem, []).append(path)
    lone, found = dict.fromkeys(mask for same in masks.values() for mask in same), []
    for image in images:
        stems = [image.stem]
        stems += [image.stem[: -len(end)] for end in _IMAGE_ENDINGS if image.stem.endswith(end)]
        fits = [
            mask
            for stem in stems
            for end in ("", *_MASK_ENDINGS)
            for mask in masks.get(stem + end, [])
        ]
        found.append((image, fits))
        for mask in fits:
            lone.pop(mask, None)
    return found, list(lone)


def _mask_folder(part: Path) -> Path:
    found = [part / name for name in _MASK_FOLDERS if (part / name).is_dir()]
    if len(found) != 1:
        raise FileNotFoundError(
            f"folder: {part} has {' and '.join(p.name for p in found) or 'no folder of masks'}, "
            f"expected one of {', '.join(_MASK_FOLDERS)} beside 'images'."
        )
    return found[0]


# ---------------------------------------------------------------------- what the values mean


def _find_meaning(
    root: Path,
    masks: list[Path],
    task: str,
    ignore_value: int | str | None,
    threshold: int | None,
) -> tuple[tuple[str, ...], Callable[[Path], NDArray[np.int32]]]:
    """Class names, and the function that reads the ids (H, W) of a mask."""
    if threshold is not None:
        check_int("folder", "threshold", threshold)
        if task != "semantic" or ignore_value is not None:
            raise ValueError(
                "folder: threshold makes two classes of all pixels, so it goes with "
                "task='semantic' and without ignore_value: leave one out."
            )
        names = _read_names(root) or (f"up to {threshold}", f"above {threshold}")
        names = tuple(names.values() if isinstance(names, dict) else names)
        if len(names) != 2:
            raise ValueError(f"folder: {root} names {len(names)} classes, threshold makes 2.")
        return names, partial(_decode_threshold, threshold=threshold)
    if task == "semantic":
        coding = _find_coding(root, masks, ignore_value)
        return coding.names, coding.to_ids
    ground = task == "instance"
    names = ("background", "object") if ground else ()
    return names, partial(_decode_ids, ignore_value=ignore_value, ground=ground)


# A grey level v written as the colour #vvvvvv, so that one coding serves both.
_GREY = 0x010101


@dataclass(frozen=True)
class _Coding:
    """How the values of masks become class ids: by their position in ``values``."""

    values: tuple[int, ...]  # rising; packed as 0xRRGGBB if the masks are in colour
    void: int | None
    names: tuple[str, ...]

    def to_ids(self, path: Path) -> NDArray[np.int32]:
        """Class ids (H, W) of a mask, -1 where it is void."""
        found, _ = _read_values(path)
        known = np.array(self.values, np.int32)
        ids = np.searchsorted(known, found).clip(max=len(known) - 1).astype(np.int32)
        ids[known[ids] != found] = -1
        if not ((ids >= 0) | (found == self.void)).all():
            raise ValueError(f"folder: {path} changed since the folder was loaded: load it again.")
        return ids


def _decode_threshold(path: Path, threshold: int) -> NDArray[np.int32]:
    """Classes 0 and 1 (H, W) of a grey mask."""
    values, colour = _read_values(path)
    if colour:
        if (values != (values & 255) * _GREY).any():
            raise ValueError(f"folder: {path} is in colour, expected grey with threshold=.")
        values &= 255
    return (values > threshold).astype(np.int32)


def _decode_ids(path: Path, ignore_value: int | str | None, ground: bool) -> NDArray[np.int32]:
    """Ids 0, 1, ... (H, W) of a mask; with ``ground``, 0 (black) keeps id 0 even if absent."""
    values, colour = _read_values(path)
    void = _void(ignore_value, colour)
    known = np.unique(np.append(values[values != void], [0] if ground else []).astype(np.int32))
    ids = np.searchsorted(known, values).astype(np.int32)
    ids[values == void] = -1
    return ids


def _read_values(path: Path) -> tuple[NDArray[np.int32], bool]:
    """Values (H, W) of a mask, and whether they are colours, packed as 0xRRGGBB."""
    if not _is_colour(path):
        return read_labels(path), False
    image = read_image(path)
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8:
        raise ValueError(
            f"folder: {path} has shape {image.shape} and type {image.dtype}, expected one integer "
            "a pixel or opaque 8-bit RGB colours: save the mask in one of these."
        )
    return pack_colours(image), True


def _is_colour(path: Path) -> bool:
    """Whether a file has colour channels, mostly from its header; palettes do not count."""
    if path.suffix.lower() == ".npy":
        return False
    if path.suffix.lower() in (".tif", ".tiff"):
        return read_image(path).ndim == 3
    from PIL import Image

    try:
        with Image.open(path) as file:
            return file.mode in ("RGB", "RGBA")
    except (OSError, SyntaxError):
        return False  # read_labels says what is wrong with it


def _distinct(path: Path) -> tuple[NDArray[np.int32], bool]:
    """Sorted values of a mask, and whether they are colours."""
    values, colour = _read_values(path)
    flat = values.ravel()
    changes = np.flatnonzero(flat[1:] != flat[:-1]) + 1  # a mask is made of runs: few to sort
    return np.unique(np.append(flat[:1], flat[changes])), colour


def _find_coding(root: Path, masks: list[Path], ignore_value: int | str | None) -> _Coding:
    """Read all masks and decide what their values mean; see the notes of :func:`load`."""
    lossy = [path for path in masks if path.suffix.lower() in (".jpg", ".jpeg")]
    if lossy:
        raise ValueError(
            f"folder: the mask {lossy[0]} is a JPEG, which changes values: pass threshold=127 for "
            "two classes, or save masks as PNG."
        )
    found = map_items(_distinct, masks)
    colour = found[0][1]
    for path, (_, other) in zip(masks, found, strict=True):
        if other != colour:
            raise ValueError(
                f"folder: {masks[0]} and {path}: one holds colours, the other integers: "
                "save all masks in one form."
            )
    values = np.unique(np.concatenate([v for v, _ in found]))
    names = _read_names(root)
    grey = colour and bool((values == (values & 255) * _GREY).all())
    if grey and max(names if isinstance(names, dict) else (0,)) < 256:
        coding = _decide(values & 255, False, _void(ignore_value, False), names, root)
        void = None if coding.void is None else coding.void * _GREY
        return _Coding(tuple(v * _GREY for v in coding.values), void, coding.names)
    return _decide(values, colour, _void(ignore_value, colour), names, root)


def _decide(
    values: NDArray[np.int32],
    colour: bool,
    void: int | None,
    names: list[str] | dict[int, str] | None,
    root: Path,
) -> _Coding:
    kept = [int(v) for v in values if v != void]
    if void is None and not colour and _is_void_255(kept, names):
        void = 255
        kept.remove(255)
    if not kept:
        raise ValueError(f"folder: all masks in {root} are void: expected class ids.")
    if isinstance(names, dict):
        unknown = [v for v in kept if v not in names]
        if unknown:
            raise ValueError(
                f"folder: masks hold {_title(unknown[0], colour)}, which {root / 'classes.json'} "
                "does not name: add it, or pass it as ignore_value=."
            )
        ids = sorted(names)
        return _Coding(tuple(ids), void, tuple(names[v] for v in ids))
    if names is not None:
        if not colour and kept[-1] < len(names):
            kept = list(range(len(names)))
        if len(kept) != len(names):
            raise ValueError(
                f"folder: {root} names {len(names)} classes, its masks hold {len(kept)} values, "
                f"{_list(kept, colour)}: name each, or map values to names in classes.json."
            )
        return _Coding(tuple(kept), void, tuple(names))
    if len(kept) >= _MAX_CLASSES or (len(kept) > 64 and kept != list(range(len(kept)))):
        raise ValueError(
            f"folder: masks in {root} hold {len(kept)} values, {_list(kept, colour)}: they look "
            "antialiased, not like classes. Pass threshold=127 for two classes, "
            "task='instance' if values are objects, or name the classes in classes.txt."
        )
    return _Coding(tuple(kept), void, tuple(_title(v, colour) for v in kept))


def _is_void_255(values: list[int], names: list[str] | dict[int, str] | None) -> bool:
    """Whether 255 marks void pixels among these values."""
    if 255 not in values or len(values) < 3:
        return False
    if isinstance(names, dict):
        return 255 not in names
    others = [v for v in values if v != 255]
    if names is not None:
        return others[-1] < len(names) <= 255
    return others == list(range(len(others)))


def _void(ignore_value: int | str | None, colour: bool) -> int | None:
    """``ignore_value`` in the form of the masks' values."""
    if ignore_value is None:
        return None
    if isinstance(ignore_value, str):
        value = _parse_colour(ignore_value, "ignore_value")
        if not colour:
            raise ValueError(
                f"folder: ignore_value is {ignore_value!r}, the masks hold integers: pass one."
            )
        return value
    value = check_int("folder", "ignore_value", ignore_value)
    return check_int("folder", "ignore_value", value, low=0, high=255) * _GREY if colour else value


def _parse_colour(text: str, what: str) -> int:
    if not re.fullmatch("#[0-9a-fA-F]{6}", text):
        raise ValueError(f"folder: {what} is {text!r}, expected an integer or '#rrggbb'.")
    return int(text[1:], 16)


def _read_names(root: Path) -> list[str] | dict[int, str] | None:
    """Class names from ``classes.txt`` or ``classes.json``; None if there is neither."""
    text, json_path = root / "classes.txt", root / "classes.json"
    if text.is_file() and json_path.is_file():
        raise ValueError(f"folder: {root} has classes.txt and classes.json: keep one.")
    if text.is_file():
        return [line.strip() for line in text.read_text("utf-8").splitlines() if line.strip()]
    if not json_path.is_file():
        return None
    try:
        names = json.loads(json_path.read_text("utf-8"))
    except ValueError as error:
        raise ValueError(f"folder: {json_path} is no JSON ({error}): correct it.") from error
    if isinstance(names, list) and names:
        return [str(name) for name in names]
    if isinstance(names, dict) and names:
        return {
            int(key) if key.isdecimal() else _parse_colour(key, f"a key of {json_path}"): str(name)
            for key, name in names.items()
        }
    raise ValueError(f"folder: {json_path} holds neither a list nor an object: name the classes.")


def _title(value: int, colour: bool) -> str:
    return f"#{value:06x}" if colour else f"value {value}"


def _list(values: list[int], colour: bool) -> str:
    shown = [_title(v, colour).removeprefix("value ") for v in values]
    return ", ".join(shown if len(shown) <= 6 else (*shown[:5], "...", shown[-1]))
