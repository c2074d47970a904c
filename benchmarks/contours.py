"""Score contours and hierarchies of regions on the val part of BSDS500.

    SEGALGOS_DATA=DATA python benchmarks/contours.py --out FOLDER

For each kind of contours that `segalgos.UCMSegmenter` knows: its thinned strengths (boundaries),
and the ultrametric contour maps made from them (boundaries and regions), at 99 levels. A row of
``results.jsonl`` is one kind; rows of others stay. Times are a mean over the images, on all cores,
one image after the other.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

import segalgos
from segalgos import datasets, metrics
from segalgos.contours.ucm import CONTOURS
from segalgos.files import atomic_path


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
    "structured_forest": Kind(white=0.9, power=0.5),
    "net": Kind(white=1.0, power=0.5),
}
SHOWN = ("ods", "ois", "ap", "r50")
SHOWN_OF_REGIONS = (
    "covering_ods", "covering_ois", "covering_best", "pri_ods", "pri_ois", "voi_ods", "voi_ois",
)  # fmt: skip


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


def main() -> None:
    """Score what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--contours", default=",".join(KINDS), help="such as gradient,mpb")
    parser.add_argument("--every", type=int, default=1, help="take every n-th image")
    parser.add_argument("--out", type=Path, default=Path("contours"))
    args = parser.parse_args()
    samples = list(datasets.load("bsds500", split="val"))[:: args.every]
    args.out.mkdir(parents=True, exist_ok=True)
    path = args.out / "results.jsonl"
    for name in args.contours.split(","):
        row = score(name, samples) | {
            "versions": {package: version(package) for package in ("segalgos", "numba", "numpy")},
            "machine": f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores",
        }
        rows = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
        rows = [other for other in rows if other["contours"] != name] + [row]
        with atomic_path(path) as temporary:
            temporary.write_text("".join(json.dumps(r) + "\n" for r in rows))
        print(json.dumps(row), flush=True)


if __name__ == "__main__":
    main()
