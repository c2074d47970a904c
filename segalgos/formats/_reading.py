"""What readers of formats share: JSON, names of files, images, splits."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from segalgos.files import IMAGE_SUFFIXES, MAX_PIXELS

# What other programs call splits.
_SPLITS = {"training": "train", "valid": "val", "validation": "val", "testing": "test"}


def read_json(path: Path, caller: str) -> Any:
    """The content of a JSON file; ``ValueError`` that names the file if it is damaged."""
    try:
        return json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:  # UnicodeDecodeError is one of the former
        raise ValueError(f"{caller}: {path} is no JSON ({error}): it is damaged.") from error


def split_name(text: str) -> str:
    """The name of a split as this library writes it: ``Valid`` and ``val2017`` are ``val``."""
    text = re.sub(r"[_-]?(19|20)\d\d$", "", text.lower())
    return _SPLITS.get(text, "" if text in ("default", "all") else text)


def roboflow_split(split: str) -> str:
    """The folder that Roboflow has for a split; images without one are to be trained on."""
    return {"": "train", "val": "valid"}.get(split, split)


def expect(value: Any, kind: type | tuple[type, ...], where: str, what: str) -> Any:
    """`value`, if it is of a kind; bool passes for no number."""
    kinds = kind if isinstance(kind, tuple) else (kind,)
    if not isinstance(value, kinds) or (isinstance(value, bool) and bool not in kinds):
        raise ValueError(f"{where} is {shown(value)}, expected {what}.")
    return value


def shown(value: Any) -> str:
    """A value of a file for an error: no longer than a line."""
    try:
        text = repr(value)
    except ValueError:  # an integer of thousands of digits
        text = "a huge number"
    return text if len(text) <= 60 else text[:57] + "..."


def expect_size(height: Any, width: Any, where: str) -> tuple[int, int]:
    """Height and width of an image; whole floats pass."""
    for value in (height, width):
        if isinstance(value, bool) or not isinstance(value, int | float) or value != value // 1:
            raise ValueError(
                f"{where} has the size {shown(height)} x {shown(width)}, expected integers."
            )
    if min(height, width) < 1 or height * width > MAX_PIXELS:
        raise ValueError(
            f"{where} has the size {shown(height)} x {shown(width)}, expected at least 1 x 1 and "
            f"at most {MAX_PIXELS} pixels."
        )
    return int(height), int(width)


def expect_box(values: Any, where: str) -> tuple[float, float, float, float]:
    """Four finite numbers, as floats."""
    try:
        box = tuple(float(expect(v, (int, float), where, "four numbers")) for v in values)
    except (TypeError, OverflowError) as error:
        raise ValueError(f"{where} is {shown(values)}, expected four numbers.") from error
    if len(box) != 4 or not all(abs(value) <= 1e9 for value in box):  # NaN as well
        raise ValueError(f"{where} is {shown(values)}, expected four numbers.")
    return box


def plain_path(text: Any, where: str) -> PurePosixPath:
    """A path that a file names, which must lead down from its folder."""
    expect(text, str, where, "the name of a file")
    path = PurePosixPath(text.replace("\\", "/"))
    if not path.name or path.is_absolute() or ".." in path.parts or "\0" in text or ":" in text:
        raise ValueError(
            f"{where} is {shown(text)}, expected a path that leads down from the data set's folder."
        )
    return path


def find_image(name: PurePosixPath, folders: Iterable[Path]) -> Path | None:
    """The first of the files that a name may mean; in the end, without its own folders."""
    folders = tuple(folders)
    for tail in dict.fromkeys((name, PurePosixPath(name.name))):
        for folder in folders:
            if (folder / tail).is_file():
                return folder / tail
    return None


def image_by_stem(folder: Path, stem: str) -> Path | None:
    """An image file of that stem in a folder, by the order of usual endings."""
    for suffix in IMAGE_SUFFIXES:
        for ending in (suffix, suffix.upper()):
            if (folder / (stem + ending)).is_file():
                return folder / (stem + ending)
    return None


def check_names(names: Sequence[str], where: str) -> None:
    """Raise if two images of a part have one name."""
    seen: set[str] = set()
    for name in names:
        if name in seen:
            raise ValueError(f"{where}: two images are called {name!r}: rename one.")
        seen.add(name)


def split_folders(root: Path, mark: str) -> dict[str, Path]:
    """Folders that hold `mark`: `root` itself as "", or its folders, by split."""
    if (root / mark).exists():
        return {"": root}
    if not root.is_dir():
        return {}
    found = sorted(path for path in root.iterdir() if path.is_dir() and (path / mark).exists())
    return {split_name(path.name) or path.name: path for path in found}
