"""The plain list of all data sets, and the three functions that use it."""

from __future__ import annotations

import difflib
import inspect
from pathlib import Path
from types import ModuleType
from typing import Any

from segalgos.datasets import (
    berkeley,
    bsds500,
    camvid,
    cityscapes,
    coco,
    crackforest,
    cwfid,
    folder,
    grabcut,
    isbi2012,
    labelme,
    magnetictile,
    nuclei,
    pennfudan,
    pins,
    shapes,
    voc,
    wbc,
    weizmann,
    yolo,
)
from segalgos.datasets._files import find_folder
from segalgos.datasets.base import Dataset, Info

__all__ = ["available", "load", "locate"]

# Each module has INFO and load().
_MODULES = (
    shapes,
    pins,
    folder,
    bsds500,
    camvid,
    cityscapes,
    nuclei,
    cwfid,
    crackforest,
    magnetictile,
    wbc,
    isbi2012,
    weizmann,
    grabcut,
    berkeley,
    coco,
    voc,
    pennfudan,
    yolo,
    labelme,
)
_INDEX = {module.INFO.name: module for module in _MODULES}


def available() -> list[Info]:
    """What data sets there are, here or not.

    Returns
    -------
    list of Info
        Built-in ones first.
    """
    return [module.INFO for module in _MODULES]


def locate(name: str, root: str | Path | None = None) -> Path | None:
    """Where the files of a data set are.

    Parameters
    ----------
    name : str
        One of those of :func:`available`.
    root : path, optional
        The data set's folder or the one that holds it. By default the folder named by
        the environment variable ``SEGALGOS_DATA``.

    Returns
    -------
    Path or None
        None if it is not here, and for built-in sets, which need no files.
    """
    module = _module("locate", name)
    if hasattr(module, "locate"):  # what has no fixed names of files
        return module.locate(root)
    return find_folder(module.INFO, root)


def load(
    name: str, *, split: str = "train", root: str | Path | None = None, **options: Any
) -> Dataset:
    """Open a data set; nothing is decoded or rendered before it is asked for.

    Parameters
    ----------
    name : str
        One of those of :func:`available`.
    split : str
        Most sets have "train", "val" and "test"; see ``Info.splits``.
    root : path, optional
        The data set's folder or the one that holds it. By default the folder named by
        the environment variable ``SEGALGOS_DATA``. Built-in sets need none.
    **options
        What the data set's own ``load`` takes: ``segalgos.datasets.shapes.load``,
        ``pins.load``, ``folder.load``, ``camvid.load``, ``cityscapes.load``, ``magnetictile.load``,
        ``wbc.load``, ``voc.load``.

    Returns
    -------
    Dataset
        A lazy sequence of samples.

    Raises
    ------
    ValueError
        If there is no such data set or split, or a label file is missing.
    TypeError
        If the data set has no such option.
    FileNotFoundError
        If the data set is not here; says where it can be had.
    """
    module = _module("load", name)
    known = [p for p in inspect.signature(module.load).parameters if p not in ("split", "root")]
    for option in options:
        if option not in known:
            raise TypeError(
                f"load: data set {name!r} has no option {option!r}, "
                f"expected {', '.join(known) or 'none'}."
            )
    if not module.INFO.built_in:
        options["root"] = root
    return module.load(split=split, **options)


def _module(caller: str, name: str) -> ModuleType:
    if name in _INDEX:
        return _INDEX[name]
    close = difflib.get_close_matches(str(name), _INDEX, n=1, cutoff=0.5)
    hint = f"did you mean {close[0]!r}?" if close else f"expected one of {', '.join(_INDEX)}."
    raise ValueError(f"{caller}: there is no data set {name!r}: {hint}")
