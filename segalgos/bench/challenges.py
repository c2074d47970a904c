"""The field's challenges: data that gets harder step by step, and the cells that this makes.

Rendered data is made harder by its own knob, real data where it has one: fewer images to learn
from, other light, fewer pixels.
"""

from __future__ import annotations

import difflib
import importlib
import inspect
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np

from segalgos import datasets
from segalgos.bench.suite import Cell, DataChoice, Method, Step, misfit, open_splits

__all__ = ["CHALLENGES", "Challenge", "make_challenge_cells", "parse_challenges"]

#: Values of the knobs of rendered data, from easy to hard.
KNOBS: dict[str, tuple[str, tuple]] = {
    "overlap": ("overlap", (0.0, 0.33, 0.67, 1.0)),
    "noise": ("noise", (0.0, 15.0, 40.0, 80.0)),
    "blur": ("blur", (0.0, 1.5, 3.0, 6.0)),
    "scale": ("scale", (2.0, 1.2, 0.7, 0.4)),
    "domain": ("illumination", (0.0, 0.33, 0.67, 1.0)),
    "semantics": ("n_classes", (2, 3, 4, 6)),
    "speed": ("size", ((192, 256), (384, 512), (768, 1024), (1536, 2048))),
}
IMAGE_SCALES = (1.0, 0.5, 0.25, 0.125)  # of real images
MEGAPIXELS = (0.05, 0.2, 0.8, 3.2)  # that real images are brought to
N_STEPS = 4  # of the number of training images, evenly spaced in its logarithm
N_TIMED = 3  # images a size


@dataclass(frozen=True)
class Challenge:
    """What a challenge is, and how its figure is drawn.

    Parameters
    ----------
    name : str
        For ``--challenge``.
    title : str
    axis : str
        What the difficulty is, with its unit.
    meaning : str
        What changes from step to step, and what does not.
    view : {"partition", "semantic"}
        The view that the figure shows, where the data has it.
    is_log : bool
        Whether difficulties are spaced by their logarithms.
    small_is_hard : bool
        Whether the numbers fall from easy to hard.
    measures_time : bool
        Whether seconds an image are drawn instead of the score.
    """

    name: str
    title: str
    axis: str
    meaning: str
    view: str = "semantic"
    is_log: bool = False
    small_is_hard: bool = False
    measures_time: bool = False


CHALLENGES = {
    challenge.name: challenge
    for challenge in (
        Challenge(
            "few_labels",
            "Few labels",
            "training images with labels",
            "Methods learn from fewer and fewer images, and are scored on the same ones. Each seed "
            "draws other images to learn from.",
            is_log=True,
            small_is_hard=True,
        ),
        Challenge(
            "domain",
            "Another domain",
            "strength of uneven light, 0 to 1",
            "Methods learn from images of one kind of light and are scored in another: rendered "
            "images are learned from in even light (0); of CamVid, day is learned from and dusk "
            "comes next.",
        ),
        Challenge(
            "scale",
            "Small objects",
            "size of objects, relative",
            "Objects get smaller, and more of them fit in an image; of real images, the whole "
            "image shrinks. Methods learn from images of the same scale.",
            view="partition",
            is_log=True,
            small_is_hard=True,
        ),
        Challenge(
            "overlap",
            "Overlap",
            "share of their distance that objects may give up",
            "Objects cover one another more and more: 0 keeps the circles about them apart, 1 "
            "places them anywhere. Methods learn from images of the same overlap.",
            view="partition",
        ),
        Challenge(
            "noise",
            "Noise",
            "standard deviation of the noise, grey levels of 255",
            "The same scenes with more and more sensor noise. Methods learn from images that are "
            "as noisy.",
            view="partition",
        ),
        Challenge(
            "blur",
            "Blurred boundaries",
            "standard deviation of the defocus, pixels",
            "The same scenes more and more out of focus. Methods learn from images that are as "
            "blurred.",
            view="partition",
        ),
        Challenge(
            "speed",
            "Speed",
            "megapixels an image",
            "Time an image as images get larger: the median of three images after the first call, "
            "on the machine named below. Methods learn from images of the smallest size.",
            is_log=True,
            measures_time=True,
        ),
        Challenge(
            "semantics",
            "More classes",
            "classes told apart, background included",
            "The same images and outlines, and finer and finer classes: 2 are objects and "
            "background, the most are all shapes. A guess is right less often among more classes.",
        ),
    )
}


@dataclass(frozen=True)
class _Level:
    """Data at one difficulty; what is None is as without a challenge."""

    difficulty: float
    shown: str
    data: DataChoice
    fit_data: DataChoice | None = None
    test_split: str | None = None
    n_fit_images: int | None = None
    n_images: int | None = None


def parse_challenges(text: str) -> list[Challenge]:
    """Read ``--challenge``: names with commas between them, or ``all``.

    Parameters
    ----------
    text : str

    Returns
    -------
    list of Challenge
        In the order named, without repeats.

    Raises
    ------
    ValueError
        If there is no such challenge.
    """
    names = [name.strip() for name in text.split(",") if name.strip()]
    if not names:
        raise ValueError(f"bench: --challenge is empty: choose from {', '.join(CHALLENGES)}, all.")
    if "all" in names:
        return list(CHALLENGES.values())
    for name in names:
        if name not in CHALLENGES:
            close = difflib.get_close_matches(name, CHALLENGES, n=1, cutoff=0.5)
            hint = f" did you mean {close[0]!r}?" if close else ""
            raise ValueError(
                f"bench: --challenge {name!r} is none of {', '.join(CHALLENGES)}, all:"
                f"{hint or ' check the name.'}"
            )
    return [CHALLENGES[name] for name in dict.fromkeys(names)]


def make_challenge_cells(
    challenges: list[Challenge],
    methods: list[Method],
    choices: list[DataChoice],
    *,
    seeds: int = 3,
    budget: float = 8.0,
    split: str | None = None,
    tune: bool = True,
    max_images: int | None = None,
) -> tuple[list[Cell], list[str]]:
    """Cross challenges and their difficulties with methods, data sets and seeds.

    Parameters
    ----------
    challenges : list of Challenge
    methods : list of Method
    choices : list of DataChoice
    seeds : int, default=3
        Rendered data shows other scenes with every seed, and few labels are drawn by it: there
        every method runs with every seed. Elsewhere methods without randomness run once.
    budget : float, default=8
    split : str, optional
    tune : bool, default=True
    max_images : int, optional
        All four as in `segalgos.bench.suite.make_cells`.

    Returns
    -------
    cells : list of Cell
        Challenge by challenge, each from easy to hard.
    left_out : list of str
        Combinations that make no sense, and why.

    Raises
    ------
    ValueError
        If a data set's options turn the knob themselves, or `split` is given where the challenge
        decides it.
    """
    cells, left_out = [], []
    for data in choices:
        fit_split, test_split, dataset = open_splits(data, split)
        fitting = []
        for method in methods:
            reason = misfit(method, data, dataset)
            (left_out if reason else fitting).append(reason or method)
        for challenge in challenges:
            levels, reason = _levels(challenge, data, dataset, fit_split, split, max_images)
            if reason:
                left_out.append(f"{challenge.name} on {data.label}: {reason}")
            for level in levels:
                step = Step(
                    challenge.name,
                    data.label,
                    level.difficulty,
                    level.shown,
                    level.n_fit_images,
                    level.n_images,
                )
                where = level.test_split or test_split
                for method in fitting:
                    varies = _is_rendered(data) or level.n_fit_images is not None
                    once = method.load().traits.deterministic and not varies
                    for seed in range(1 if once else seeds):
                        own, fit_data = _with_seed(level, challenge, data, seed)
                        parts = (method, own, seed, fit_split, where, budget, tune, max_images)
                        cells.append(Cell(*parts, fit_data, step))
    return cells, left_out


def _is_rendered(data: DataChoice) -> bool:
    return any(info.built_in for info in datasets.available() if info.name == data.name)


def _with_seed(
    level: _Level, challenge: Challenge, data: DataChoice, seed: int
) -> tuple[DataChoice, DataChoice | None]:
    """The data of a level, scenes of rendered data drawn anew by the seed.

    Each level and seed has a label of its own, since pictures are kept by it.
    """
    label = f"{data.label}, {challenge.name} {level.shown}"
    if not _is_rendered(data):
        return replace(level.data, label=label), level.fit_data
    scenes = {"seed": data.options.get("seed", 0) + seed}
    own = replace(
        level.data, label=f"{label}, seed {seed}", options={**level.data.options, **scenes}
    )
    fit_data = level.fit_data
    if fit_data is not None:
        fit_data = replace(fit_data, options={**fit_data.options, **scenes})
    return own, fit_data


def _levels(
    challenge: Challenge,
    data: DataChoice,
    dataset: datasets.Dataset,
    fit_split: str,
    split: str | None,
    max_images: int | None,
) -> tuple[list[_Level], str]:
    """The difficulties on a data set from easy to hard, or why there are none."""
    if challenge.name == "few_labels":
        n_images = len(data.load(fit_split))
        return list(_few_labels(data, min(n_images, max_images or n_images))), ""
    if _is_rendered(data):
        option, values = KNOBS[challenge.name]
        if not _has_option(data, option):
            return [], f"it has no option {option}"
        if option in data.options:
            raise ValueError(
                f"bench: --data {data.label} sets {option} itself, which --challenge "
                f"{challenge.name} turns: leave it out."
            )
        return list(_turn(challenge, data, option, values)), ""
    make: dict[str, Callable[[], Iterator[_Level]]] = {
        "scale": lambda: _shrink(data),
        "speed": lambda: _resize(data, dataset),
    }
    if data.name == "camvid":
        make["domain"] = lambda: _day_and_dusk(data, split)
    if challenge.name not in make:
        known = ", ".join(("few_labels", *make))
        return [], f"images that were taken have no such knob, choose from {known}"
    return list(make[challenge.name]()), ""


def _has_option(data: DataChoice, option: str) -> bool:
    module = importlib.import_module(f"segalgos.datasets.{data.name}")
    return option in inspect.signature(module.load).parameters


def _few_labels(data: DataChoice, n_images: int) -> Iterator[_Level]:
    counts = np.geomspace(n_images, 1, N_STEPS).round().astype(int).tolist()
    for n in dict.fromkeys(counts):
        yield _Level(n, str(n), data, n_fit_images=n)


def _turn(challenge: Challenge, data: DataChoice, option: str, values: tuple) -> Iterator[_Level]:
    """Rendered data, one knob turned; most challenges learn from images of the same setting."""
    easiest = replace(data, options={**data.options, option: values[0]})
    for value in values:
        own = replace(data, options={**data.options, option: value})
        if challenge.name == "speed":
            size = math.prod(value) / 1e6
            yield _Level(size, f"{size:.2g}", own, fit_data=easiest, n_images=N_TIMED)
        else:
            fit_data = easiest if challenge.name == "domain" else None
            yield _Level(value, f"{value:g}", own, fit_data=fit_data)


def _shrink(data: DataChoice) -> Iterator[_Level]:
    for scale in IMAGE_SCALES:
        own = replace(data, image_scale=data.image_scale * scale)
        yield _Level(scale, f"{scale:g}", own)


def _resize(data: DataChoice, dataset: datasets.Dataset) -> Iterator[_Level]:
    height, width = dataset[0].image.shape[:2]
    choices = [
        replace(data, image_scale=math.sqrt(size * 1e6 / (height * width))) for size in MEGAPIXELS
    ]
    for size, own in zip(MEGAPIXELS, choices, strict=True):
        yield _Level(size, f"{size:g}", own, fit_data=choices[0], n_images=N_TIMED)


def _day_and_dusk(data: DataChoice, split: str | None) -> Iterator[_Level]:
    """Learned from by day; the dusk sequence is scored where it is, in the training split."""
    if split is not None or "light" in data.options:
        raise ValueError(
            f"bench: --challenge domain on {data.label} chooses split and light itself: leave out "
            "--split and light."
        )
    day, dusk = (
        replace(data, options={**data.options, "light": light}) for light in ("day", "dusk")
    )
    yield _Level(0, "day", day, fit_data=day)
    yield _Level(1, "dusk", dusk, fit_data=day, test_split="train")
