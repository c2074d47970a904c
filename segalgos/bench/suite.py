"""What a benchmark runs: methods, data sets, and the cells they make.

A cell is method x data set x seed. It is plain data, so that it can be sent to another
process or machine, and its key says whether it has been run before.
"""

from __future__ import annotations

import ast
import contextlib
import hashlib
import importlib
import json
import os
import re
import sys
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from segalgos import __version__, catalog, datasets
from segalgos.base import Segmenter

__all__ = [
    "Cell",
    "DataChoice",
    "Method",
    "Step",
    "make_cells",
    "misfit",
    "open_splits",
    "parse_data",
    "parse_methods",
    "settings_to_try",
]

_SMALL_DETECTOR: dict[str, Any] = {
    "backbone": "resnet18",
    "base_channels": 32,
    "width": 64,
    "anchor_sizes": (16, 32, 64, 128, 256),
    "image_size": 1.0,
    "crop_size": 192,
    "epochs": None,
}

#: Parameters that a method runs with where its defaults, the paper's, need hours on a CPU.
PRESETS: dict[str, dict[str, Any]] = {
    "UNetSegmenter": {
        "base_channels": 8,
        "depth": 3,
        "padding": "same",
        "crop_size": 128,
        "learning_rate": 0.003,
        "epochs": None,  # the budget decides
    },
    "FCNSegmenter": {"base_channels": 16, "fc_channels": 256, "crop_size": 128, "epochs": None},
    "DeepLabSegmenter": {
        "backbone": "resnet18",
        "base_channels": 32,
        "crop_size": 128,
        "epochs": None,
    },
    "SegFormerSegmenter": {"crop_size": 128, "epochs": None},
    # Its coarsest maps are 1/64 of the size: of less, they are too small for batch norm.
    "DDRNetSegmenter": {"crop_size": 256, "epochs": None},
    "NetSegmenter": {"crop_size": 128, "learning_rate": 0.003, "epochs": None},
    "MaskRCNNSegmenter": {**_SMALL_DETECTOR, "box_width": 256, "n_sampled": 128},
    "YOLACTSegmenter": _SMALL_DETECTOR,
    "BoundaryInstanceSegmenter": {
        "estimator": "unet" if catalog.get_entry("unet").installed else "random_forest",
    },
}

#: Settings tried on the training images by methods that learn nothing else: one that
#: matters a lot and has no default that suits all images.
GRIDS: dict[str, dict[str, tuple]] = {
    "KMeansSegmenter": {"n_clusters": (2, 4, 8)},
    "GaussianMixtureSegmenter": {"n_clusters": (2, 4, 8)},
    "MeanShiftSegmenter": {"range_bandwidth": (6.0, 9.0, 14.0)},
    "SLICSegmenter": {"n_segments": (12, 50, 250)},
    "ETPSSegmenter": {"n_segments": (12, 50, 250)},
    "FelzenszwalbSegmenter": {"scale": (100.0, 300.0, 1000.0)},
    "WatershedSegmenter": {"min_depth": (2.5, 5.0, 10.0)},
    "NormalizedCutsSegmenter": {"max_ncut": (0.002, 0.005, 0.02)},
    "UCMSegmenter": {"level": (0.625, 1.0, 1.625)},  # times the level of its contours
}
#: Parameters that ask for the same in another way: where one is given, nothing is tried.
INSTEAD: dict[str, tuple[str, ...]] = {
    "NormalizedCutsSegmenter": ("n_segments",),
    "UCMSegmenter": ("n_segments", "min_area"),
}

_METHOD = re.compile(r"\s*([\w.:]+)\s*(?:\[(.*)\])?\s*", re.DOTALL)


@dataclass(frozen=True)
class Method:
    """A segmenter class and the parameters it is asked to run with.

    Parameters
    ----------
    label : str
        What tables call it.
    target : str
        A name of the catalogue, or ``module:Class`` for somebody's own.
    params : dict
        Constructor arguments.
    """

    label: str
    target: str
    params: dict[str, Any] = field(default_factory=dict)

    def load(self) -> type[Segmenter]:
        """Import the class.

        Returns
        -------
        type
        """
        if ":" not in self.target:
            return catalog.get_segmenter(self.target)
        module, name = self.target.split(":")
        if os.getcwd() not in sys.path:  # as python -m does; the installed command does not
            sys.path.insert(0, os.getcwd())
        cls = getattr(importlib.import_module(module), name)
        if not (isinstance(cls, type) and issubclass(cls, Segmenter)):
            raise TypeError(f"bench: {self.target} is no Segmenter class: derive it from one.")
        return cls


def settings_to_try(name: str, params: dict[str, Any]) -> dict[str, tuple]:
    """List the settings of a class to try on training images: those that `params` leaves open.

    Parameters
    ----------
    name : str
        Of a segmenter class.
    params : dict
        What the user asked for.

    Returns
    -------
    dict
        Parameter -> values; empty where there is nothing to choose.
    """
    if any(params.get(other) is not None for other in INSTEAD.get(name, ())):
        return {}
    grid = {key: values for key, values in GRIDS.get(name, {}).items() if key not in params}
    if name == "UCMSegmenter" and grid:
        from segalgos.contours.ucm import CONTOURS

        level = CONTOURS[params.get("contours", "gradient")].level
        grid["level"] = tuple(factor * level for factor in grid["level"])
    return grid


@dataclass(frozen=True)
class DataChoice:
    """A data set and how to load it.

    Parameters
    ----------
    label : str
        What tables call it.
    name : str
        For `segalgos.datasets.load`.
    root : str, optional
    options : dict
        Further arguments of ``load``.
    image_scale : float
        New over old height and width of its images, by `segalgos.datasets.rescale`.
    """

    label: str
    name: str
    root: str | None = None
    options: dict[str, Any] = field(default_factory=dict)
    image_scale: float = 1.0

    def load(self, split: str) -> datasets.Dataset:
        """Open one of its splits.

        Parameters
        ----------
        split : str

        Returns
        -------
        Dataset
        """
        dataset = datasets.load(self.name, split=split, root=self.root, **self.options)
        return datasets.rescale(dataset, self.image_scale)


@dataclass(frozen=True)
class Step:
    """One difficulty of one of the field's challenges.

    Parameters
    ----------
    challenge : str
        Its name, see `segalgos.bench.challenges`.
    data : str
        What the data set is called without the difficulty.
    difficulty : float
        In the unit of the challenge.
    shown : str
        The same for people.
    n_fit_images : int, optional
        Learn from so many images only, drawn with the cell's seed.
    n_images : int, optional
        Score so many images only, evenly spaced.
    """

    challenge: str
    data: str
    difficulty: float
    shown: str
    n_fit_images: int | None = None
    n_images: int | None = None


@dataclass(frozen=True)
class Cell:
    """One run of one method on one data set with one seed.

    Parameters
    ----------
    method : Method
    data : DataChoice
    seed : int
    fit_split, test_split : str
    budget : float
        Seconds that a method which can be told may learn.
    tune : bool
        Whether methods without learning choose a setting on the training images.
    max_images : int, optional
        Use at most so many images of each split, evenly spaced.
    fit_data : DataChoice, optional
        What is learned from, where that is not `data`.
    step : Step, optional
        The difficulty that this is a run of.
    """

    method: Method
    data: DataChoice
    seed: int
    fit_split: str
    test_split: str
    budget: float
    tune: bool = True
    max_images: int | None = None
    fit_data: DataChoice | None = None
    step: Step | None = None

    @property
    def key(self) -> str:
        """Sixteen hex digits that change with anything that can change the scores."""
        content = json.dumps([asdict(self), __version__], sort_keys=True, default=str)
        return hashlib.sha256(content.encode()).hexdigest()[:16]

    def to_dict(self) -> dict[str, Any]:
        """Give plain data for another process.

        Returns
        -------
        dict
        """
        return asdict(self)

    @classmethod
    def from_dict(cls, content: dict[str, Any]) -> Cell:
        """Read what `to_dict` gave.

        Parameters
        ----------
        content : dict

        Returns
        -------
        Cell
        """
        parts = {"method": Method, "data": DataChoice, "fit_data": DataChoice, "step": Step}
        made = {name: make(**content[name]) for name, make in parts.items() if content.get(name)}
        return cls(**{**content, **made})


#: What a run compares that names no method: one of each kind, in a few minutes.
QUICK = ("kmeans", "slic", "felzenszwalb", "random_forest", "unet")


def parse_methods(text: str | None) -> list[Method]:
    """Read ``--methods``: names, families, tasks, ``all``, with parameters in brackets.

    Parameters
    ----------
    text : str or None
        Like ``"kmeans,graph,slic[n_segments=100],my_module:MySegmenter"``. None is what is
        installed of ``QUICK``.

    Returns
    -------
    list of Method
        In the order named, without repeats.

    Raises
    ------
    ValueError
        If a name or parameter is unknown.
    """
    methods: dict[str, Method] = {}
    quick = [name for name in QUICK if catalog.get_entry(name).installed]
    for part in _split_outside_brackets(text or ",".join(quick)):
        match = _METHOD.fullmatch(part)
        if not match:
            raise ValueError(
                f"bench: --methods has {part!r}, expected names like kmeans or "
                "slic[n_segments=100]."
            )
        name, brackets = match.groups()
        group = [e for e in catalog.ENTRIES if name in ("all", e.family, e.task)]
        if group:
            targets = [entry.key for entry in group if entry.installed]
        elif ":" in name:
            targets = [name]
        else:
            targets = [catalog.get_entry(name).key]
        params = _parse_params(brackets, part)
        for target in targets:
            label = target.split(":")[-1] + (f"[{brackets}]" if brackets else "")
            method = Method(label, target, params)
            _check_params_exist(method)
            methods[label] = method
    return list(methods.values())


def _split_outside_brackets(text: str) -> list[str]:
    parts = re.split(r",(?![^\[\]]*\])", text)
    return [part for part in parts if part.strip()]


def _parse_params(text: str | None, part: str) -> dict[str, Any]:
    """``a=1,b='x'`` as a dict, by the parser of Python's literals: nothing is run."""
    if not text:
        return {}
    try:
        call = ast.parse(f"f({text})", mode="eval").body
        if call.args:
            raise ValueError("a value without a name")
        return {keyword.arg: ast.literal_eval(keyword.value) for keyword in call.keywords}
    except (SyntaxError, ValueError, AttributeError) as error:
        raise ValueError(
            f"bench: {part!r} has parameters that cannot be read ({error}): write "
            "name=value, text in quotes."
        ) from error


def _check_params_exist(method: Method) -> None:
    try:
        cls = method.load()
    except (ImportError, AttributeError) as error:
        raise ValueError(f"bench: {method.target} cannot be imported: {error}") from error
    known = cls._get_param_names()
    for name in method.params:
        if name not in known:
            raise ValueError(
                f"bench: {method.label} has no parameter {name!r}: choose from {', '.join(known)}."
            )


def parse_data(text: str | None, root: str | None = None) -> list[DataChoice]:
    """Read ``--data``: names of data sets or folders of one's own, with options.

    Parameters
    ----------
    text : str or None
        Like ``"shapes[noise=0.2],camvid,/home/me/leaves"``. None is the built-in ones.
    root : str, optional
        Where real data sets are, instead of ``SEGALGOS_DATA``.

    Returns
    -------
    list of DataChoice

    Raises
    ------
    ValueError
        If there is no data set and no folder of that name.
    """
    infos = {info.name: info for info in datasets.available()}
    if text is None:
        return [DataChoice(info.name, info.name) for info in infos.values() if info.built_in]
    choices = []
    for part in _split_outside_brackets(text):
        match = re.fullmatch(r"\s*(.*?)\s*(?:\[(.*)\])?\s*", part, re.DOTALL)
        name, options = match.group(1), _parse_params(match.group(2), part)
        label = part.strip()
        if name in infos and name != "folder":
            choices.append(DataChoice(label, name, None if infos[name].built_in else root, options))
        elif Path(name).is_dir():
            folder = Path(name).resolve()
            choices.append(DataChoice(folder.name, "folder", str(folder), options))
        else:
            raise ValueError(
                f"bench: --data {name!r} is neither a data set ({', '.join(infos)}) nor a folder: "
                "check the name or path."
            )
    return choices


def make_cells(
    methods: list[Method],
    choices: list[DataChoice],
    *,
    seeds: int = 3,
    budget: float = 8.0,
    split: str | None = None,
    tune: bool = True,
    max_images: int | None = None,
) -> tuple[list[Cell], list[str]]:
    """Cross methods, data sets and seeds.

    Parameters
    ----------
    methods : list of Method
    choices : list of DataChoice
    seeds : int, default=3
        For methods with randomness; others run once.
    budget : float, default=8
        Seconds of learning.
    split : str, optional
        What to score; by default "test" where it exists, else "val".
    tune : bool, default=True
    max_images : int, optional

    Returns
    -------
    cells : list of Cell
        Data set by data set, cheap families first.
    left_out : list of str
        Combinations that make no sense, and why.
    """
    cells, left_out = [], []
    for data in choices:
        fit_split, test_split, dataset = open_splits(data, split)
        for method in methods:
            if reason := misfit(method, data, dataset):
                left_out.append(reason)
                continue
            for seed in range(1 if method.load().traits.deterministic else seeds):
                cells.append(
                    Cell(method, data, seed, fit_split, test_split, budget, tune, max_images)
                )
    return cells, left_out


def misfit(method: Method, data: DataChoice, dataset: datasets.Dataset) -> str:
    """Say why a method cannot be scored on a data set.

    Parameters
    ----------
    method : Method
    data : DataChoice
    dataset : Dataset
        `data`, opened.

    Returns
    -------
    str
        Empty if it can.
    """
    task = method.load().traits.task
    if task != "instance" or "instance" in dataset.views:
        return ""
    return (
        f"{method.label} on {data.label}: it is {task}, the data set has {', '.join(dataset.views)}"
    )


def open_splits(data: DataChoice, split: str | None) -> tuple[str, str, datasets.Dataset]:
    """Choose the splits to learn from and to score, and open the latter.

    Parameters
    ----------
    data : DataChoice
    split : str or None
        What to score; None is "test" where it exists, else "val".

    Returns
    -------
    fit_split, test_split : str
    dataset : Dataset
        The one to score.
    """
    first, last = (split, split) if split else ("test", "val")
    with contextlib.suppress(ValueError, FileNotFoundError):
        return "train", first, data.load(first)
    return "train", last, data.load(last)
