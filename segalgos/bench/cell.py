"""Run one cell in a process of its own: learn, segment, score, write one file.

    python -m segalgos.bench.cell CELL.json RESULT.json

The result is written atomically at the end. Whatever happens before, a crash or an
endless loop, is seen by the keeper from outside.
"""

from __future__ import annotations

import base64
import importlib.metadata
import io
import json
import os
import platform
import resource
import statistics
import sys
import time
import traceback
from collections.abc import Callable
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.base import clone

import segalgos
from segalgos import parallel
from segalgos.base import Segmenter
from segalgos.bench.kept import write_objects, write_prompts
from segalgos.bench.store import safe_name
from segalgos.bench.suite import PRESETS, Cell, settings_to_try
from segalgos.bench.user import dab
from segalgos.bench.views import (
    NOTES,
    PROMPTED,
    ViewScorer,
    contour_labels,
    partition_from_contours,
    see_as,
    truth_map,
)
from segalgos.catalog import get_segmenter
from segalgos.datasets import Dataset, Sample
from segalgos.files import atomic_path
from segalgos.results import Instances, Prompts

N_PICTURES = 6  # images of a data set that the report shows
N_TUNING = 6  # training images that settings are tried on
THRESHOLDS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6)  # of contour probability, tried on those images

#: (task, view) pairs that `see_as` knows.
SEEN = {
    ("partition", "partition"),
    ("partition", "semantic"),
    ("contours", "partition"),
    ("semantic", "partition"),
    ("semantic", "semantic"),
    ("semantic", "instance"),
    ("instance", "partition"),
    ("instance", "semantic"),
    ("instance", "instance"),
}


class InvalidOutputError(Exception):
    """The method gave something that is not what its task promises."""


def thin(dataset: Dataset, n: int | None) -> Dataset:
    """At most `n` images, evenly spaced."""
    if n is None or len(dataset) <= n:
        return dataset
    return dataset.subset(np.linspace(0, len(dataset) - 1, n).round().astype(int).tolist())


def open_test(cell: Cell) -> Dataset:
    """What a cell is scored on."""
    test = thin(cell.data.load(cell.test_split), cell.max_images)
    return thin(test, cell.step.n_images) if cell.step else test


def open_fit(cell: Cell) -> Dataset:
    """What a cell learns from."""
    fit_set = thin((cell.fit_data or cell.data).load(cell.fit_split), cell.max_images)
    if cell.step is None or cell.step.n_fit_images is None:
        return fit_set
    # Fewer images are always a part of more.
    order = np.random.default_rng(cell.seed).permutation(len(fit_set))
    return fit_set.subset(sorted(order[: cell.step.n_fit_images].tolist()))


class Contestant:
    """A segmenter made ready for a data set: how it learns and how it segments.

    Parameters
    ----------
    segmenter : Segmenter
    dataset : Dataset
        Of the images to segment.

    Attributes
    ----------
    task : str
        Of its outputs: that of the segmenter, "contours", or for an interactive one what the
        simulated user points at.
    """

    def __init__(self, segmenter: Segmenter, dataset: Dataset):
        self.segmenter = segmenter
        self.dataset = dataset
        self.task = segmenter.traits.task
        self.prompted = self.task == "interactive"
        if self.prompted:
            self.task = "semantic" if "semantic" in dataset.views else "partition"
        elif self.task == "semantic" and "semantic" not in dataset.views:
            self.task = "contours"
        self.threshold = 0.5

    def learn(self, samples: list[Sample]) -> None:
        """Fit on the samples' labels, if it learns from labels at all."""
        if not self.segmenter.traits.needs_labels:
            return
        if self.task == "contours":
            targets = [contour_labels(sample.annotations) for sample in samples]
        elif self.task == "instance":
            targets = [sample.instances for sample in samples]
        else:
            targets = [sample.labels for sample in samples]
        self.segmenter.fit([sample.image for sample in samples], targets)

    def segment(self, sample: Sample) -> NDArray[np.int32] | Instances:
        """Segment one image as a user of the method would; only a prompted one sees its truth."""
        image = sample.image
        if self.prompted:
            return self.segmenter.predict(image, prompts=self.prompts(sample))
        if not self.segmenter.traits.needs_labels:
            # Learns nothing that lasts: each image is segmented on its own.
            return clone(self.segmenter).fit_predict(image)
        if self.task == "contours":
            return partition_from_contours(self.contours(image), self.threshold)
        return self.segmenter.predict(image)

    def prompts(self, sample: Sample) -> Prompts:
        """What the simulated user points at."""
        return dab(truth_map(self.task, sample))

    def note(self, view: str) -> str:
        """What a reader must know of its scores in a view."""
        return PROMPTED if self.prompted else NOTES.get((self.task, view), "")

    def contours(self, image: NDArray) -> NDArray[np.float32]:
        """Contour probability; a method that saw no contour gives none."""
        column = np.flatnonzero(self.segmenter.classes_ == 1)
        proba = self.segmenter.predict_proba(image)
        return proba[..., column[0]] if len(column) else np.zeros(proba.shape[:2], np.float32)

    def score_on(self, samples: list[Sample]) -> float:
        """Headline score in the data set's first view, to choose a setting by."""
        view = self.dataset.views[0]
        scorer = ViewScorer(view, len(self.dataset.classes))
        for sample in samples:
            scorer.add(see_as(view, self.segment(sample), self.task, sample), sample)
        return scorer.headline()

    def tune(self, samples: list[Sample], grid: dict[str, tuple]) -> dict[str, Any]:
        """Choose settings on training images; gives what was chosen."""
        if self.task == "contours":
            maps = [self.contours(sample.image) for sample in samples]
            best = -np.inf
            for threshold in THRESHOLDS:
                scorer = ViewScorer("partition", 0)
                for probability, sample in zip(maps, samples, strict=True):
                    scorer.add(partition_from_contours(probability, threshold), sample)
                if scorer.headline() > best:
                    best, self.threshold = scorer.headline(), threshold
            return {"contour_threshold": self.threshold}
        scores = {}
        for values in product(*grid.values()):
            self.segmenter.set_params(**dict(zip(grid, values, strict=True)))
            scores[values] = self.score_on(samples)
        chosen = dict(zip(grid, max(scores, key=scores.get), strict=True)) if grid else {}
        self.segmenter.set_params(**chosen)
        return chosen


def check_output(output: Any, image: NDArray, task: str) -> None:
    """Raise unless the output is what the task promises."""
    shape = image.shape[:2]
    if task == "instance":
        if not isinstance(output, Instances) or output.shape != shape:
            raise InvalidOutputError(f"predict gave {type(output).__name__}, expected Instances")
        return
    if not isinstance(output, np.ndarray) or output.dtype.kind not in "iu":
        what = getattr(output, "dtype", type(output).__name__)
        raise InvalidOutputError(f"predict gave {what}, expected an integer label map")
    if output.shape != shape:
        raise InvalidOutputError(
            f"predict gave shape {output.shape} for an image of {image.shape}, expected {shape}"
        )


def make_segmenter(cls: type[Segmenter], params: dict[str, Any], cell: Cell) -> Segmenter:
    """Make a segmenter with the cell's seed and budget, its preset, and over them `params`.

    An ``estimator`` that is a name of the catalogue is made in the same way.
    """
    known = cls._get_param_names()
    of_cell = {"random_state": cell.seed, "time_budget": cell.budget}
    of_cell = {name: value for name, value in of_cell.items() if name in known}
    params = {**PRESETS.get(cls.__name__, {}), **of_cell, **params}
    if isinstance(params.get("estimator"), str):
        params["estimator"] = make_segmenter(get_segmenter(params["estimator"]), {}, cell)
    return cls(**params)


def run(cell: Cell) -> dict[str, Any]:
    """Run a cell in this process.

    Parameters
    ----------
    cell : Cell

    Returns
    -------
    dict
        ``row``: its part of the results row; ``pictures``: file name -> file in base64, PNG or
        JSON.
    """
    cls = cell.method.load()
    segmenter = make_segmenter(cls, cell.method.params, cell)
    traits = segmenter.traits
    test = open_test(cell)
    contestant = Contestant(segmenter, test)
    row: dict[str, Any] = {"classes": list(test.classes), "n_images": len(test)}

    first_seconds = None
    if not traits.needs_labels:  # before tuning, so that it holds what compiling costs
        first_seconds, _ = _timed(contestant.segment, test[0])
    grid = settings_to_try(cls.__name__, cell.method.params)
    learns = traits.needs_labels
    tunes = cell.tune and (grid or contestant.task == "contours")
    if learns or tunes:
        fit_set = open_fit(cell)
        if not learns:
            fit_set = thin(fit_set, N_TUNING)
        samples = parallel.map_items(fit_set.__getitem__, range(len(fit_set)))
        row["n_fit_images"] = len(samples)
        seconds, _ = _timed(contestant.learn, samples)
        if tunes:
            places = np.linspace(0, len(samples) - 1, min(N_TUNING, len(samples)))
            some = [samples[int(i)] for i in places.round()]
            more, row["tuned"] = _timed(contestant.tune, some, grid)
            seconds += more
        row["fit_seconds"] = seconds
    if first_seconds is None:
        first_seconds, _ = _timed(contestant.segment, test[0])

    views = [view for view in test.views if (contestant.task, view) in SEEN]
    scorers = {view: ViewScorer(view, len(test.classes)) for view in views}
    n_shown = min(1 if cell.step else N_PICTURES, len(test))
    shown = set(np.linspace(0, len(test) - 1, n_shown).round().astype(int))
    pictures: dict[str, str] = {}
    data_name = safe_name(cell.data.label)
    predictions = f"predictions/{data_name}/{safe_name(f'{cell.method.label}-{cell.seed}')}"
    about_pictures, names, seconds = [], [], []
    for index, sample in enumerate(test):
        took, output = _timed(contestant.segment, sample)
        seconds.append(took)
        names.append(sample.name)
        check_output(output, sample.image, contestant.task)
        for view in views:
            seen = see_as(view, output, contestant.task, sample)
            scorers[view].add(seen, sample)
            if index in shown:
                pictures[f"{predictions}/{index}-{view}.png"] = _label_png(seen)
        if index in shown:
            if isinstance(output, Instances):
                pictures[f"{predictions}/{index}-objects.json"] = _encode(write_objects(output))
            if contestant.prompted:
                prompts = write_prompts(contestant.prompts(sample), sample.image.shape[:2])
                pictures[f"{predictions}/{index}-prompts.json"] = _encode(prompts)
            pictures |= _sample_pictures(data_name, index, sample, test.views)
            height, width = sample.image.shape[:2]
            about = {"index": index, "name": sample.name, "height": height, "width": width}
            about_pictures.append({**about, "views": list(test.views)})
    pictures[f"samples/{data_name}/samples.json"] = _encode(json.dumps(about_pictures).encode())
    row |= {
        "status": "ok",
        "params": {k: _plain(v) for k, v in segmenter.get_params().items()},
        "views": {
            view: {"note": contestant.note(view), **scorers[view].result()} for view in views
        },
        "image_names": names,
        "image_seconds": seconds,
        "first_predict_seconds": first_seconds,
        "predict_seconds": statistics.median(seconds),
        "n_parameters": getattr(segmenter, "n_parameters_", None),
    }
    return {"row": row, "pictures": pictures}


def _timed(function: Callable, *args: Any) -> tuple[float, Any]:
    started = time.perf_counter()
    result = function(*args)
    return time.perf_counter() - started, result


def _plain(value: Any) -> Any:
    """A parameter as JSON can hold it, to be read by people."""
    try:
        json.dumps(value)
    except TypeError:
        return repr(value)
    return value


def _encode(content: bytes) -> str:
    return base64.b64encode(content).decode("ascii")


def _png(array: NDArray) -> str:
    from PIL import Image

    file = io.BytesIO()
    Image.fromarray(array).save(file, "PNG")
    return _encode(file.getvalue())


def _label_png(labels: NDArray) -> str:
    """Label map as a 16-bit PNG, -1 as 65535; objects are numbered from 0."""
    _, numbered = np.unique(labels, return_inverse=True)
    numbered = numbered.reshape(labels.shape)
    if labels.min() < 0:
        numbered -= 1
    ids = labels if labels.max() < 65535 else numbered
    return _png(np.where(labels < 0, 65535, ids).astype(np.uint16))


def _sample_pictures(data: str, index: int, sample: Sample, views: tuple) -> dict[str, str]:
    image = np.asarray(sample.image)
    if image.dtype != np.uint8:
        low, high = float(image.min()), float(image.max())
        image = ((image - low) / max(high - low, 1e-12) * 255).astype(np.uint8)
    pictures = {f"samples/{data}/{index}-image.png": _png(image)}
    for view in views:
        pictures[f"samples/{data}/{index}-truth-{view}.png"] = _label_png(truth_map(view, sample))
    return pictures


def machine() -> dict[str, Any]:
    """Describe this machine."""
    cpu = platform.processor() or platform.machine()
    memory = None
    if os.path.exists("/proc/cpuinfo"):
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        names = [line for line in lines if line.startswith("model name")]
        cpu = names[0].partition(":")[2].strip() if names else cpu
    if hasattr(os, "sysconf") and "SC_PHYS_PAGES" in os.sysconf_names:
        memory = round(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 1e9, 1)
    return {
        "cpu": cpu,
        "cores": os.cpu_count(),
        "threads": parallel.n_threads(),
        "memory_gb": memory,
        "system": platform.platform(),
    }


def versions() -> dict[str, str]:
    """Versions of what computes."""
    found = {"python": platform.python_version(), "segalgos": segalgos.__version__}
    names = ("numpy", "scipy", "numba", "scikit-learn", "scikit-image", "torch")
    for name in names:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def main(cell_path: str, result_path: str) -> None:
    """Run the cell described in one file and write its result to another."""
    cell = Cell.from_dict(json.loads(Path(cell_path).read_text()))
    try:
        result = run(cell)
    except InvalidOutputError as error:
        result = {"row": {"status": "invalid", "reason": str(error)}}
    except MemoryError as error:
        result = {"row": {"status": "oom", "reason": str(error) or "out of memory"}}
    except Exception as error:
        traceback.print_exc()  # kept as the row's output tail
        reason = f"{type(error).__name__}: {error}".splitlines()[0]
        result = {"row": {"status": "error", "reason": reason[:500]}}
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    result["row"] |= {
        "peak_bytes": peak * (1 if sys.platform == "darwin" else 1024),
        "versions": versions(),
        "machine": machine(),
    }
    with atomic_path(result_path) as temporary:
        temporary.write_text(json.dumps(result), encoding="utf-8")
    sys.stdout.flush()
    # Threads that a method left running must not keep the cell alive.
    os._exit(0)


if __name__ == "__main__":
    main(*sys.argv[1:])
