"""cityscapes: streets of 50 cities seen from a car, each pixel labelled with one of 19 classes."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from segalgos import formats
from segalgos.checks import check_choice
from segalgos.cityscapes_labels import CLASSES, to_train_ids
from segalgos.datasets._files import (
    check_same_size,
    list_images,
    pair_files,
    require_folder,
    require_split,
    semantic_dataset,
)
from segalgos.datasets.base import Dataset, Info, Sample
from segalgos.files import read_image, read_labels

__all__ = [
    "INFO",
    "LabelMaps",
    "instance_file",
    "instance_ids",
    "label_files",
    "load",
    "scene_name",
]

_IMAGES = "leftImg8bit"
_SPLITS = {"fine": ("train", "val", "test"), "coarse": ("train", "val", "train_extra")}

INFO = Info(
    name="cityscapes",
    task="semantic",
    splits=("train", "val", "test", "train_extra"),
    size="2975 train, 500 val, 1525 test, 20000 train_extra",
    licence="its own: for non-commercial use, after registration",
    citation="M. Cordts et al., 'The Cityscapes Dataset for Semantic Urban Scene Understanding', "
    "CVPR 2016",
    source="leftImg8bit and gtFine (or gtCoarse) of https://www.cityscapes-dataset.com",
    summary="Street scenes of 50 cities at 2048 x 1024, 19 classes; the field's benchmark for "
    "driving.",
    folder="cityscapes",
    marks=(_IMAGES, "gtFine", "gtCoarse"),
)


def load(
    *,
    split: str = "train",
    root: str | Path | None = None,
    annotations: str = "fine",
    task: str = "semantic",
) -> Dataset:
    """Read Cityscapes in its official layout.

    Parameters
    ----------
    split : {"train", "val", "test", "train_extra"}
    root : path, optional
        The folder that holds ``leftImg8bit`` and ``gtFine`` or ``gtCoarse``, or the one that
        holds that as ``cityscapes``; by default the folder named by ``SEGALGOS_DATA``.
    annotations : {"fine", "coarse"}
        Outlines drawn with care, of train, val and test; or rough ones, of train, val and
        train_extra.
    task : {"semantic", "instance"}
        "instance" reads the objects as well, from the files of instance ids.

    Returns
    -------
    Dataset
        With ``labels``: train ids 0 to 18, in the order of
        ``segalgos.cityscapes_labels.CLASSES``, and -1 for the labels that are not scored. With
        ``task="instance"`` also with ``instances`` of those of these classes whose objects are
        told apart, also by train id; groups of objects are crowds.

    Raises
    ------
    FileNotFoundError
        If the set or the split is not here.
    ValueError
        If an image has no label file, or the split no such annotations; when it is read, if
        that is damaged.

    See Also
    --------
    instance_ids : The objects, for `segalgos.metrics.cityscapes_scores`.

    Notes
    -----
    The labels of test are secret: its files hold nothing but ignored labels, so all are -1.
    Predictions go to the benchmark's server, with the ids that
    `segalgos.cityscapes_labels.to_label_ids` gives.

    References
    ----------
    .. [1] M. Cordts et al., "The Cityscapes Dataset for Semantic Urban Scene Understanding",
       CVPR 2016.
    """
    check_choice(INFO.name, "task", task, ("semantic", "instance"))
    folder = _find(split, root, annotations)
    kind = f"gt{annotations.capitalize()}"
    _require(split, folder, _IMAGES)
    images = [
        path for path in _list_cities(folder / _IMAGES / split) if path.stem.endswith(f"_{_IMAGES}")
    ]

    def labels_of(image: Path) -> Path:
        city = folder / kind / split / image.parent.name
        return city / f"{scene_name(image)}_{kind}_labelIds.png"

    pairs = pair_files(INFO, images, labels_of)
    if task == "semantic":
        return semantic_dataset(INFO, split, CLASSES, pairs, _decode, scene_name)
    triples = [
        (image, labels, objects)
        for (image, labels), (_, objects) in zip(
            pairs, pair_files(INFO, [labels for _, labels in pairs], instance_file), strict=True
        )
    ]
    views = ("semantic", "instance")
    read = partial(_read_objects, triples)
    return Dataset(read, range(len(triples)), INFO, split, CLASSES, views, task)


def _read_objects(triples: list[tuple[Path, Path, Path]], index: int) -> Sample:
    image_path, label_path, object_path = triples[index]
    image, labels, values = read_image(image_path), _decode(label_path), read_labels(object_path)
    for other, path in ((labels, label_path), (values, object_path)):
        check_same_size("cityscapes", image, image_path, other, path)
    found = formats.cityscapes.objects_of(values, f"cityscapes: {object_path}")
    names = formats.cityscapes.FIXED_CLASSES
    scored = [
        replace(a, category=CLASSES.index(names[a.category]))
        for a in found
        if names[a.category] in CLASSES
    ]
    name = scene_name(image_path)
    scene = formats.Scene(name, values.shape, tuple(scored))
    return Sample(image, labels, scene.to_instances(), name=name)


def label_files(
    *, split: str = "val", root: str | Path | None = None, annotations: str = "fine"
) -> list[Path]:
    """List the label files of a split; its images need not be here.

    Parameters
    ----------
    split : {"train", "val", "test", "train_extra"}
    root : path, optional
        As for `load`.
    annotations : {"fine", "coarse"}
        As for `load`.

    Returns
    -------
    list of Path
        Files of label ids, by city and name: in the order of the images of `load`.

    Raises
    ------
    FileNotFoundError
        If the set or the split is not here.
    ValueError
        If the split has no such annotations.
    """
    folder, kind = _find(split, root, annotations), f"gt{annotations.capitalize()}"
    _require(split, folder, kind)
    ending = f"_{kind}_labelIds"
    return [path for path in _list_cities(folder / kind / split) if path.stem.endswith(ending)]


def instance_ids(
    *, split: str = "val", root: str | Path | None = None, annotations: str = "fine"
) -> LabelMaps:
    """Read the true objects of a split, as the scores of Cityscapes need them.

    Parameters
    ----------
    split : {"train", "val", "test", "train_extra"}
    root : path, optional
        As for `load`.
    annotations : {"fine", "coarse"}
        As for `load`.

    Returns
    -------
    LabelMaps
        One map for each image of `load`, in the same order: 1000 times the label id plus a
        number for each pixel of an object, the label id alone elsewhere.

    Raises
    ------
    FileNotFoundError
        If the set or the split is not here.
    ValueError
        If the split has no such annotations, or a file is missing.
    """
    files = label_files(split=split, root=root, annotations=annotations)
    pairs = pair_files(INFO, files, instance_file)
    return LabelMaps(tuple(instances for _, instances in pairs))


def instance_file(label_file: Path) -> Path:
    """Tell where the objects of a scene are.

    Parameters
    ----------
    label_file : Path
        Its file of label ids.

    Returns
    -------
    Path
        Its file of instance ids, beside that.
    """
    return label_file.with_name(label_file.name.replace("_labelIds", "_instanceIds"))


def scene_name(path: str | Path) -> str:
    """What the files of one scene have in common: ``<city>_<sequence>_<frame>``.

    Parameters
    ----------
    path : path
        An image, a label file or a prediction.

    Returns
    -------
    str

    Raises
    ------
    ValueError
        If its name does not begin like that.
    """
    match = re.match(r"[^_]+_\d{6}_\d{6}(?!\d)", Path(path).name)
    if match is None:
        raise ValueError(
            f"cityscapes: the name of {path} does not begin with city, sequence and frame, like "
            "frankfurt_000000_000294: keep the names that the files came with."
        )
    return match[0]


@dataclass(frozen=True, eq=False)
class LabelMaps(Sequence[NDArray[np.int32]]):
    """A lazy sequence of label maps: a file is read when it is asked for.

    Parameters
    ----------
    paths : tuple of Path
    """

    paths: tuple[Path, ...] = field(repr=False)

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, key: int | slice) -> NDArray[np.int32] | LabelMaps:
        if isinstance(key, slice):
            return replace(self, paths=self.paths[key])
        return read_labels(self.paths[key])


def _find(split: str, root: str | Path | None, annotations: str) -> Path:
    check_choice(INFO.name, "annotations", annotations, tuple(_SPLITS))
    check_choice(INFO.name, "split", split, INFO.splits)
    if split not in _SPLITS[annotations]:
        (other,) = set(_SPLITS) - {annotations}
        raise ValueError(
            f"cityscapes: {split!r} has no {annotations} annotations, only {other} ones: pass "
            f"annotations={other!r}, or one of {', '.join(_SPLITS[annotations])}."
        )
    return require_folder(INFO, root)


def _require(split: str, folder: Path, part: str) -> None:
    present = [s for s in INFO.splits if (folder / part / s).is_dir()]
    require_split(INFO, split, present, folder / part)


def _list_cities(folder: Path) -> list[Path]:
    """The image files of all cities, by city and name."""
    cities = sorted(city for city in folder.iterdir() if city.is_dir())
    return [path for city in cities for path in list_images(city)]


def _decode(path: Path) -> NDArray[np.int32]:
    labels = read_labels(path)
    try:
        return to_train_ids(labels)
    except ValueError as error:
        raise ValueError(f"cityscapes: {path}: {error}") from error
