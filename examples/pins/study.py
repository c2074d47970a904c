"""What the steps share: pictures, objects of class maps, scores by size, costs, rows."""

from __future__ import annotations

import argparse
import json
import resource
import shlex
import sys
import time
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from segalgos import Instances, datasets
from segalgos.files import atomic_path

CLASSES = ("background", "up", "bent", "missing")
#: What a person needs, after published measurements: an outline of an object in COCO takes 79.2
#: seconds (Lin et al. 2014, 22 hours for 1000), a squiggle on one 10.9 (Bearman et al. 2016).
SECONDS_OUTLINE, SECONDS_STROKE = 79.2, 10.9
#: Pixels of an object: below the first it is small, from the second on it is large.
SIZES = (90, 130)
SMALLEST = 12  # pixels; smaller pieces are dust


def arguments(description: str, **more: Any) -> argparse.Namespace:
    """Read what every step takes: ``--data``, ``--seed``, ``--out``, and numbers of its own."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--data", help="folder of annotated photographs; else the built-in pins")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("pins-study"))
    for name, default in more.items():
        option = f"--{name.replace('_', '-')}"
        parser.add_argument(option, type=type(default), default=default)
    return parser.parse_args()


def open_data(folder: str | None, split: str) -> datasets.Dataset:
    """Open the built-in pins, or a folder as ``segalgos annotate`` leaves it."""
    if folder is None:
        return datasets.load("pins", split=split)
    data = datasets.load("folder", root=folder, split=split)
    if data.classes != CLASSES:
        raise SystemExit(
            f"{folder} has the classes {', '.join(data.classes)}, expected {', '.join(CLASSES)}: "
            "name them so in classes.txt, a name a line."
        )
    return data


def true_objects(sample: datasets.Sample) -> Instances:
    """The annotated objects; of a class map its connected pieces."""
    if sample.instances is not None and len(sample.instances):
        return sample.instances
    return to_objects(sample.labels)


def to_objects(labels: NDArray[np.int32]) -> Instances:
    """Pins and empty holes as connected pieces of a class map, of its most frequent class each."""
    from scipy import ndimage

    masks, classes = [], []
    for wanted in ((1, 2), (3,)):
        pieces, n = ndimage.label(np.isin(labels, wanted), np.ones((3, 3)))
        for k in range(1, n + 1):
            mask = pieces == k
            if mask.sum() >= SMALLEST:
                masks.append(mask)
                classes.append(int(np.bincount(labels[mask]).argmax()))
    return Instances(np.array(masks, bool).reshape(-1, *labels.shape), classes=classes)


def score(predictions: Sequence[Instances], truths: Sequence[Instances]) -> dict[str, Any]:
    """Count the objects found at an IoU above .5, by size, and the states that are right.

    Above .5 at most one object matches another where masks do not overlap; where predicted ones
    do, the best takes the true object. Gives shares, and None where there is nothing to count.
    """
    n_true, n_found = np.zeros(3, int), np.zeros(3, int)
    n_predicted = n_right = 0
    for found, truth in zip(predictions, truths, strict=True):
        n_predicted += len(found)
        areas = truth.masks.sum(axis=(1, 2))
        sizes = np.digitize(areas, SIZES)
        flat = (objects.masks.astype(np.float32) for objects in (truth, found))
        overlaps = np.tensordot(*flat, axes=([1, 2], [1, 2]))
        unions = areas[:, None] + found.masks.sum(axis=(1, 2)) - overlaps
        ious = overlaps / np.maximum(unions, 1)
        taken: set[int] = set()
        for i in range(len(truth)):
            n_true[sizes[i]] += 1
            order = [k for k in np.argsort(-ious[i]) if k not in taken and ious[i, k] > 0.5]
            if order:
                taken.add(order[0])
                n_found[sizes[i]] += 1
                n_right += int(found.classes[order[0]] == truth.classes[i])
    hits = int(n_found.sum())
    shares = {
        name: share(int(n), int(all_))
        for name, n, all_ in zip(("small", "medium", "large"), n_found, n_true, strict=True)
    }
    return {
        "recall_by_size": shares,
        "n_by_size": n_true.tolist(),
        "recall": share(hits, int(n_true.sum())),
        "precision": share(hits, n_predicted),
        "f1": share(2 * hits, int(n_true.sum()) + n_predicted),
        "state_right": share(n_right, hits),
    }


def share(part: int, whole: int) -> float | None:
    """A part of a whole, None of nothing."""
    return part / whole if whole else None


def measure(
    method: str,
    options: argparse.Namespace,
    predict: Callable[[NDArray], Instances],
    *,
    label_seconds: float,
    fit_cpu_seconds: float,
    settings: dict[str, Any],
) -> None:
    """Predict the test pictures, score them, keep the objects and add a row to results.jsonl."""
    test = open_data(options.data, "test")
    samples = [test[i] for i in range(len(test))]
    started = cpu_seconds()
    predictions = [predict(sample.image) for sample in samples]
    spent = cpu_seconds() - started
    row = {
        "method": method,
        "data": options.data or "pins",
        "seed": options.seed,
        "n_images": len(samples),
        "settings": settings,
        "label_minutes": label_seconds / 60,
        "fit_cpu_seconds": fit_cpu_seconds,
        "cpu_seconds_per_image": spent / len(samples),
        "scores": score(predictions, [true_objects(sample) for sample in samples]),
    }
    keep(options.out / "objects" / f"{method}.npz", predictions)
    add_row(options.out / "results.jsonl", row)
    print(json.dumps(row["scores"]))


def keep(path: Path, predictions: Sequence[Instances]) -> None:
    """Keep the objects of all test pictures, for the report of the last step."""
    arrays = {}
    for i, found in enumerate(predictions):
        arrays |= {f"{i}_masks": np.packbits(found.masks, axis=-1), f"{i}_classes": found.classes}
        arrays[f"{i}_shape"] = np.array(found.masks.shape)
    with atomic_path(path) as temporary, open(temporary, "wb") as file:
        np.savez_compressed(file, **arrays)


def kept(path: Path, n_images: int) -> list[Instances]:
    """Read what `keep` wrote."""
    with np.load(path, allow_pickle=False) as arrays:
        return [
            Instances(
                np.unpackbits(arrays[f"{i}_masks"], axis=-1, count=arrays[f"{i}_shape"][2]) > 0,
                classes=arrays[f"{i}_classes"],
            )
            for i in range(n_images)
        ]


def add_row(path: Path, row: dict[str, Any]) -> None:
    """Add a row, or put it in the place of an earlier one of the same method and seed.

    The command that made it, the versions and the time go with it.
    """
    row = {
        **row,
        "command": " ".join(["python", Path(sys.argv[0]).name, *map(shlex.quote, sys.argv[1:])]),
        "versions": {name: version(name) for name in ("segalgos", "numpy", "scikit-image")},
        "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    }
    rows = []
    if path.exists():
        rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    same = ("method", "data", "seed")
    rows = [old for old in rows if any(old[name] != row[name] for name in same)] + [row]
    with atomic_path(path) as temporary:
        temporary.write_text("".join(json.dumps(r) + "\n" for r in rows), encoding="utf-8")


def cpu_seconds() -> float:
    """Seconds of processor that this process has used, which other work does not lengthen."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime
