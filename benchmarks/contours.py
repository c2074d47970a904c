"""Score contours, hierarchies of regions and methods that find regions on BSDS500's val part.

    SEGALGOS_DATA=DATA python benchmarks/contours.py --out FOLDER

For each kind of contours that `segalgos.UCMSegmenter` knows: its thinned strengths (boundaries),
and the ultrametric contour maps made from them (boundaries and regions), at 99 levels. A row of
``results.jsonl`` is one kind.

For each method of METHODS: partitions from fine to coarse, as one of its settings goes through its
values (boundaries and regions). A row of ``regions.jsonl`` is one method. All other settings are
the same for all images and levels. They were chosen on every tenth image of the train part by
``--tune``, which scores all choices together, at every second level, into ``tuning.jsonl``: the
best has the largest sum of ODS of the boundaries and of the covering.

Rows of others stay. ``--contours`` and ``--regions`` name a part of all; "none" is none of them.
Times are a mean over the images, one after the other: of contours and their hierarchies by the
clock on all cores, of METHODS what all cores spend for all levels.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import platform
import time
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

import segalgos
from segalgos import datasets, metrics
from segalgos.color import rgb_to_lab
from segalgos.contours.ucm import CONTOURS
from segalgos.files import atomic_path

SHOWN = ("ods", "ois", "ap", "r50")
SHOWN_OF_REGIONS = (
    "covering_ods", "covering_ois", "covering_best", "pri_ods", "pri_ois", "voi_ods", "voi_ois",
)  # fmt: skip


# --- contours, and hierarchies made from them --------------------------------------------


class Kind(NamedTuple):
    """How a kind of contours is scored.

    Parameters
    ----------
    white : float
        Strength at the highest level.
    power : float
        Levels lie evenly in this power of the strength: most contours are weak.
    scales : tuple of float
        Of `UCMSegmenter`.
    """

    white: float
    power: float = 1.0
    scales: tuple[float, ...] = (1.0,)

    def to_levels(self, strength: NDArray) -> NDArray:
        """Bring strengths to a range from 0 to 1."""
        return np.clip(strength / self.white, 0, 1) ** self.power


KINDS = {
    "gradient": Kind(white=80.0, scales=(1.0, 0.5)),
    "mpb": Kind(white=1.0),
    "gpb": Kind(white=1.0),
    "structured_forest": Kind(white=0.9, power=0.5, scales=(1.0, 0.5)),
    "net": Kind(white=1.0, power=0.5),
}


def score(name: str, samples: list[datasets.base.Sample]) -> dict[str, Any]:
    """Measure, score and time one kind."""
    kind = KINDS[name]
    measure = CONTOURS[name].load()
    segmenter = segalgos.UCMSegmenter(name, scales=kind.scales)
    seconds = np.zeros(2)
    thin, maps = [], []
    segmenter.predict(samples[0].image)  # compiles
    for sample in samples:
        start = time.perf_counter()
        strength = measure(sample.image)
        middle = time.perf_counter()
        hierarchy = segmenter.hierarchy(sample.image)
        seconds += middle - start, time.perf_counter() - middle
        thin.append(kind.to_levels(segalgos.non_maximum_suppression(strength)))
        maps.append(kind.to_levels(hierarchy.ucm()))
    truths = [sample.annotations for sample in samples]
    start = time.perf_counter()
    contours = metrics.boundary_scores(thin, truths)
    regions = metrics.evaluate_hierarchies(maps, truths, double_sized=True)
    return {
        "contours": name,
        **kind._asdict(),
        "n_images": len(samples),
        "boundaries_of_contours": {key: float(contours[key]) for key in SHOWN},
        "boundaries_of_regions": {key: float(regions[key]) for key in SHOWN},
        "regions": {key: float(regions[key]) for key in SHOWN_OF_REGIONS},
        "best_level_of_regions": kind.white
        * float(regions["covering_threshold"]) ** (1 / kind.power),
        "seconds_contours": seconds[0] / len(samples),
        "seconds_whole": seconds[1] / len(samples),
        "seconds_scoring": time.perf_counter() - start,
    }


# --- methods that find regions -----------------------------------------------------------

Partitions = list[NDArray[np.int32]]


class Method(NamedTuple):
    """A method whose partitions for the values of one setting are the levels.

    Parameters
    ----------
    segment : callable
        Called as ``segment(image, values, **settings)``; gives a label map for each value.
    setting : str
        What has these values.
    values : tuple of float
        From fine to coarse.
    settings : dict
        The rest.
    choices : dict
        What ``--tune`` tries of each of these.
    """

    segment: Callable[..., Partitions]
    setting: str
    values: tuple[float, ...]
    settings: dict[str, Any]
    choices: dict[str, tuple]


def geometric(low: float, high: float, n: int) -> tuple[float, ...]:
    """Spread n values evenly in their logarithm, rounded to three digits."""
    return tuple(float(f"{value:.3g}") for value in np.geomspace(low, high, n))


def felzenszwalb(
    image: NDArray, values: Sequence[float], *, sigma: float, size_per_scale: float
) -> Partitions:
    """Felzenszwalb and Huttenlocher's; the smallest size is a share of the scale."""
    return [
        segalgos.felzenszwalb(image, v, sigma=sigma, min_size=round(size_per_scale * v))
        for v in values
    ]


def mean_shift(image: NDArray, values: Sequence[float], **settings: Any) -> Partitions:
    """Comaniciu and Meer's, by the bandwidth of colours."""
    return [segalgos.mean_shift(image, range_bandwidth=v, **settings) for v in values]


def normalized_cuts(image: NDArray, values: Sequence[float], **settings: Any) -> Partitions:
    """Shi and Malik's, on superpixels."""
    return [segalgos.normalized_cuts(image, int(v), **settings) for v in values]


def slic_merging(
    image: NDArray, values: Sequence[float], *, n_superpixels: int, compactness: float
) -> Partitions:
    """SLIC's superpixels merged into one hierarchy, which is cut at levels.

    Two are as far apart as the geometric mean of the contrast at their border and of the distance
    of their mean colours in Lab. Merged regions keep the mean along their border.
    """
    superpixels = segalgos.slic(image, n_superpixels, compactness=compactness)
    graph = segalgos.region_graph(superpixels, rgb_to_lab(image, 255.0))
    contrast = graph.border_means(segalgos.gradient_contours(image).max(axis=0))
    one = np.repeat(np.arange(graph.n_regions), np.diff(graph.indptr))
    distance = np.linalg.norm(graph.color[one] - graph.color[graph.indices], axis=1)
    hierarchy = graph.hierarchy(weight=np.sqrt(contrast * distance))
    return [hierarchy.cut(level=v) for v in values]


def pixel_cuts(image: NDArray, values: Sequence[float], **settings: Any) -> Partitions:
    """Normalized cuts of pixels."""
    cuts = segalgos.NormalizedCutsSegmenter(nodes="pixels", **settings)
    return [cuts.set_params(n_segments=int(v)).predict(image) for v in values]


METHODS = {
    "felzenszwalb": Method(
        felzenszwalb,
        "scale",
        geometric(20, 12000, 20),
        {"sigma": 1.2, "size_per_scale": 1.0},
        {"sigma": (0.5, 0.8, 1.2), "size_per_scale": (0.2, 0.5, 1.0)},
    ),
    "mean_shift": Method(
        mean_shift,
        "range_bandwidth",
        geometric(2, 60, 16),
        {"spatial_bandwidth": 16.0, "min_size": 400, "sigma": 1.6},
        {"spatial_bandwidth": (16.0, 32.0), "min_size": (400,), "sigma": (0.0, 1.0, 1.6, 2.2)},
    ),
    "normalized_cuts": Method(
        normalized_cuts,
        "n_segments",
        (200, 140, 100, 75, 55, 42, 32, 25, 19, 14, 10, 7, 5, 4, 3, 2),
        {"n_superpixels": 400, "sigma": 10.0},
        {"n_superpixels": (250, 400), "sigma": (5.0, 7.0, 10.0)},
    ),
    "slic_merging": Method(
        slic_merging,
        "level",
        geometric(1, 80, 20),
        {"n_superpixels": 250, "compactness": 20.0},
        {"n_superpixels": (250, 400), "compactness": (5.0, 10.0, 20.0, 40.0)},
    ),
    "pixel_cuts": Method(
        pixel_cuts,
        "n_segments",
        (32, 22, 15, 10, 7, 5, 3, 2),
        {"sigma": 7.0, "rho": 0.1},
        {"sigma": (7.0, 20.0), "rho": (0.05, 0.1)},
    ),
}


def score_regions(name: str, samples: list[datasets.base.Sample], method: Method) -> dict[str, Any]:
    """Segment, score and time with one method."""
    settings = method.settings
    seconds = np.zeros(2)
    boundaries, levels, n_regions = [], [], []
    method.segment(samples[0].image, method.values[-1:], **settings)  # compiles
    for sample in samples:
        start = time.process_time()
        partitions = method.segment(sample.image, method.values, **settings)
        middle = time.process_time()
        boundaries.append(metrics.boundary_counts(partitions, sample.annotations))
        levels.append(metrics.level_counts(partitions, sample.annotations))
        seconds += middle - start, time.process_time() - middle
        n_regions.append([len(np.unique(labels)) for labels in partitions])
    contours = metrics.boundary_scores_from_counts(boundaries)
    regions = metrics.level_scores_from_counts(levels)
    return {
        "method": name,
        "setting": method.setting,
        "values": list(method.values),
        "settings": settings,
        "n_images": len(samples),
        "boundaries": {key: float(contours[key]) for key in SHOWN},
        "regions": {key: float(regions[key]) for key in SHOWN_OF_REGIONS},
        "best_value_of_boundaries": method.values[round(contours["ods_threshold"]) - 1],
        "best_value_of_regions": method.values[int(regions["covering_threshold"]) - 1],
        "n_regions": np.mean(n_regions, axis=0).round(1).tolist(),
        "cpu_seconds": seconds[0] / len(samples),
        "cpu_seconds_scoring": seconds[1] / len(samples),
    }


def tune(name: str, samples: list[datasets.base.Sample], path: Path) -> None:
    """Score all choices of settings; those with a row are done."""
    method = METHODS[name]
    for values in itertools.product(*method.choices.values()):
        tried = method._replace(
            settings=dict(zip(method.choices, values)), values=method.values[::2]
        )
        done = [(r["method"], r["settings"], r["n_images"]) for r in read(path)]
        if (name, tried.settings, len(samples)) not in done:
            add(score_regions(name, samples, tried), path, ("method", "settings"))


# --- rows --------------------------------------------------------------------------------


def read(path: Path) -> list[dict[str, Any]]:
    """Rows of a file, none if there is no file."""
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def add(row: dict[str, Any], path: Path, keys: tuple[str, ...]) -> None:
    """Put a row into a file, in place of one with the same keys."""
    row = row | {
        "versions": {package: version(package) for package in ("segalgos", "numba", "numpy")},
        "machine": f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores",
    }
    rows = [other for other in read(path) if any(other[key] != row[key] for key in keys)] + [row]
    with atomic_path(path) as temporary:
        temporary.write_text("".join(json.dumps(r) + "\n" for r in rows))
    print(json.dumps(row), flush=True)


def main() -> None:
    """Score what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--contours", default=",".join(KINDS), help="such as gradient,mpb")
    parser.add_argument("--regions", default=",".join(METHODS), help="such as mean_shift")
    parser.add_argument("--tune", action="store_true", help="choose settings of --regions on train")
    parser.add_argument("--every", type=int, help="take every n-th image; 1, with --tune 10")
    parser.add_argument("--out", type=Path, default=Path("contours"))
    args = parser.parse_args()
    samples = datasets.load("bsds500", split="train" if args.tune else "val")
    samples = list(samples)[:: args.every or (10 if args.tune else 1)]
    args.out.mkdir(parents=True, exist_ok=True)
    methods = [name for name in args.regions.split(",") if name != "none"]
    if args.tune:
        for name in methods:
            tune(name, samples, args.out / "tuning.jsonl")
        return
    for name in args.contours.split(","):
        if name != "none":
            add(score(name, samples), args.out / "results.jsonl", ("contours",))
    for name in methods:
        row = score_regions(name, samples, METHODS[name])
        add(row, args.out / "regions.jsonl", ("method",))


if __name__ == "__main__":
    main()
