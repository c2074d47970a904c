"""Labels from every format to every other one and back: what comes back, what was told.

    python benchmarks/round_trips.py --data DATA --out FOLDER

DATA is the folder that holds the data sets (`segalgos data list` says where to get them). Each
set is written in format A, then to B, and from there to A again. What A held before and after is
compared object by object here, without what `segalgos.formats.convert` compares with: masks pixel
by pixel, classes, crowd flags and scores. Each difference must have been told by the report of one
of the two conversions, for that image, as often as it is there; what was not is a bug.

``generated`` is drawn from a seed: holes, parts, overlaps, crowds, scores, void, single pixels,
objects at borders, images without any. A run that was stopped goes on where it was; ``--sets``,
``--first`` and ``--second`` do a part of it.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from scipy import ndimage
from scipy.optimize import linear_sum_assignment

import segalgos
from segalgos import datasets, formats, rle
from segalgos.bench.store import Store
from segalgos.formats import Annotation, Part, Scene
from segalgos.formats.convert import FORMATS, WRITERS, Report, convert, write

SETS = ("generated", "coco128", "dsb2018")
SEED = 0
CLASSES = ("person", "car", "train")
#: Of the comparison here -> how the report of a conversion begins to call it.
TOLD_AS = {
    "objects left out": ("objects: ",),
    "masks": ("masks changed", "parts of masks under other objects"),
    "classes": ("classes",),
    "crowd flags": ("crowd flags",),
    "scores": ("scores",),
    "void pixels": ("void pixels",),
}


# --- the sets ------------------------------------------------------------------------------------


def generated(folder: Path, n_images: int = 30, seed: int = SEED) -> Part:
    """Scenes of what formats find hard, and images for them."""
    from segalgos.files import write_image

    rng = np.random.default_rng(seed)
    scenes = []
    for i in range(n_images):
        size = tuple(int(n) for n in rng.integers(1 if i % 7 == 6 else 12, 70, 2))
        masks = np.concatenate([_random_masks(rng, size), _special_masks(rng, size)])
        masks = masks[rng.random(len(masks)) < (0.0 if i % 10 == 9 else 0.7)]
        annotations = [
            Annotation(
                rle.encode(mask[None]).counts,
                int(rng.integers(len(CLASSES))),
                bool(rng.random() < 0.2),
                float(rng.random()) if i % 3 == 0 else None,
            )
            for mask in masks
        ]
        void = None
        if i % 5 == 0:
            unknown = (rng.random(size) < 0.1) & ~masks.any(axis=0)
            void = rle.encode(unknown[None]).counts if unknown.any() else None
        image = folder / f"scene{i:03d}.png"
        write_image(image, rng.integers(0, 256, (*size, 3)).astype(np.uint8))
        scenes.append(Scene(image.stem, size, tuple(annotations), image, void))
    return Part(CLASSES, scenes, _same)


def _same(scene: Scene) -> Scene:
    return scene


def _random_masks(rng: np.random.Generator, size: tuple[int, int], n: int = 5) -> np.ndarray:
    """Noise, and blobs with holes and parts; they overlap."""
    noise = rng.random((2, *size)) < rng.random((2, 1, 1))
    width = int(rng.integers(3, 9))
    blobs = ndimage.uniform_filter(rng.random((n, *size)), (0, width, width)) > 0.5
    return np.concatenate([noise, blobs])


def _special_masks(rng: np.random.Generator, size: tuple[int, int]) -> np.ndarray:
    """One pixel, nothing, everything, the border, a corner, rings in rings, two the same."""
    masks = np.zeros((8, *size), bool)
    masks[0, rng.integers(size[0]), rng.integers(size[1])] = True
    masks[2] = True
    masks[3, [0, -1]] = masks[3, :, [0, -1]] = True
    masks[4, : size[0] // 2, size[1] // 2 :] = True
    rows, columns = np.indices(size)
    depth = np.minimum.reduce([rows, columns, size[0] - 1 - rows, size[1] - 1 - columns])
    masks[5] = depth % 3 == 1
    masks[6] = masks[7] = np.hypot(rows - size[0] / 2, columns - size[1] / 3) < min(size) / 4
    return masks


def coco128(data: Path) -> Part:
    """COCO128's file as it is."""
    (part,) = formats.coco.read(data / "COCO128").values()
    return part


def dsb2018(data: Path) -> Part:
    """All nuclei of both parts of DSB2018."""
    entries = [
        (dataset, i)
        for split in ("train", "val")
        for dataset in [datasets.load("nuclei", root=data, split=split)]
        for i in range(len(dataset))
    ]
    stage = datasets.locate("nuclei", data) / "stage1_train"

    def read(entry: tuple[datasets.Dataset, int]) -> Scene:
        dataset, i = entry
        sample = dataset[i]
        runs = rle.encode(sample.instances.masks)
        counts = [runs.counts[a:b] for a, b in zip(runs.starts[:-1], runs.starts[1:])]
        (image,) = (stage / sample.name / "images").glob("*.png")
        annotations = tuple(Annotation(c, 0) for c in counts)
        return Scene(sample.name, sample.image.shape[:2], annotations, image)

    return Part(("nucleus",), entries, read)


# --- what is different ---------------------------------------------------------------------------


def differences(
    before: Scene, after: Scene, classes: Sequence[str], classes_after: Sequence[str]
) -> tuple[Counter[str], float]:
    """What two scenes differ in, and the lowest IoU of two objects that belong together.

    Objects belong together if all is the same, else if their masks are. The others are assigned
    so that most of them have a partner with pixels in common; among such assignments, classes are
    counted in the one that keeps most classes, flags in the one that keeps most flags, and IoU in
    that of the masks that lie best in one another: the least that can have happened to each.
    """
    if before.size != after.size:
        raise ValueError(f"{before.name}: {before.size} before, {after.size} after.")
    ones, others = _without_same(before.annotations, after.annotations, classes, classes_after)
    ious, inside = _overlaps(before.size, ones, others)
    found: Counter[str] = Counter()
    by_mask = _assign(ious, inside + 0.1 * ious)
    found["masks"] += sum(bool(ious[i, j] < 1) for i, j in by_mask)
    found["objects left out"] += len(ones) - len(by_mask)
    found["objects from nowhere"] += len(others) - len(by_mask)
    kept = {
        "classes": lambda a, b: classes[a.category] == classes_after[b.category],
        "crowd flags": lambda a, b: a.crowd == b.crowd,
        "scores": lambda a, b: a.score is None or a.score == b.score,
    }
    for what, same in kept.items():
        table = np.array([[same(a, b) for b in others] for a in ones], bool).reshape(ious.shape)
        found[what] += sum(not bool(table[i, j]) for i, j in _assign(ious, table))
    lowest = min((float(ious[i, j]) for i, j in by_mask), default=1.0)
    if before.void is not None:
        void = rle.decode(rle.Runs.join(before.size, [before.void]))[0]
        if after.void is not None:
            void &= ~rle.decode(rle.Runs.join(before.size, [after.void]))[0]
        found["void pixels"] += int(void.sum())
    return +found, lowest


def _without_same(before, after, classes, classes_after) -> tuple[list, list]:
    """What is left of two lists of objects if those that are wholly the same are taken out."""

    def whole(a: Annotation, names: Sequence[str]) -> tuple:
        return a.counts.tobytes(), names[a.category], a.crowd, a.score

    there = Counter(whole(other, classes_after) for other in after)
    same = Counter(whole(one, classes) for one in before) & there
    return _leave_out(before, classes, same, whole), _leave_out(after, classes_after, same, whole)


def _leave_out(annotations, names, same: Counter, whole) -> list[Annotation]:
    rest, left = same.copy(), []
    for annotation in annotations:
        key = whole(annotation, names)
        if rest[key] > 0:
            rest[key] -= 1
        else:
            left.append(annotation)
    return left


def _overlaps(size, ones, others) -> tuple[np.ndarray, np.ndarray]:
    """IoU, and the share of each of the others that lies in each of the ones."""
    runs, other_runs = (rle.Runs.join(size, [a.counts for a in side]) for side in (ones, others))
    inside = rle.iou(other_runs, runs, np.ones(len(ones), bool)).T
    return rle.iou(runs, other_runs), inside


def _assign(ious: np.ndarray, gain: np.ndarray) -> list[tuple[int, int]]:
    """Pairs with pixels in common: as many as can be, then of equal masks, then by gain."""
    value = np.where(ious > 0, 100 + 10.0 * (ious == 1) + gain, 0)
    return [(i, j) for i, j in zip(*linear_sum_assignment(-value)) if ious[i, j] > 0]


def untold(found: Mapping[str, int], told: Sequence[Counter[str]]) -> Counter[str]:
    """What is different more often than it was told."""
    missing: Counter[str] = Counter()
    for what, count in found.items():
        names = TOLD_AS.get(what, ())
        said = sum(
            n for losses in told for key, n in losses.items() if key.startswith(names or "-")
        )
        missing[what] = max(count - said, 0)
    return +missing


def _losses(report: Report) -> dict[str, Counter[str]]:
    return {image.name: image.losses for image in report.images}


def round_trip(start: Path, first: str, second: str, folder: Path) -> dict[str, Any]:
    """Convert a folder to another format and back, and compare.

    Parameters
    ----------
    start : Path
        A data set in the format `first`.
    first, second : str
        Keys of `WRITERS`.
    folder : Path
        Where to work; what is written there stays.

    Returns
    -------
    dict
        Counts of a row.
    """
    # Roboflow's layouts are read as what they are layouts of.
    reader, between = (name.removeprefix("roboflow_") for name in (first, second))
    there = convert(
        start, folder / "there", source_format=reader, target_format=second, images="link"
    )
    back = convert(
        folder / "there", folder / "back", source_format=between, target_format=first, images="link"
    )
    (before,) = FORMATS[reader].read(start).values()
    (after,) = FORMATS[reader].read(folder / "back").values()
    renamed = {}
    for name in {"cityscapes"} & {first, second}:
        renamed = {scene.name: WRITERS[name].scene_name(scene.name) for scene in before}
    afterwards = {scene.name: scene for scene in after}
    total, missing, lowest, n_exact = Counter(), Counter(), 1.0, 0
    for scene in before:
        name = renamed.get(scene.name, scene.name)
        found, low = differences(scene, afterwards.pop(name), before.classes, after.classes)
        told = [_losses(there).get(scene.name, Counter()), _losses(back).get(name, Counter())]
        total += found
        missing += untold(found, told)
        lowest, n_exact = min(lowest, low), n_exact + (not found)
    if afterwards:
        missing["images from nowhere"] += len(afterwards)
    if before.classes != after.classes:
        total["list of classes"] += 1
        told = (*there.losses, *there.notes, *back.losses, *back.notes)
        missing["list of classes"] += not any(word.startswith("class names") for word in told)
    return {
        "images": len(before),
        "objects": there.n_instances,
        "exact_images": n_exact,
        "differences": dict(total),
        "untold": dict(+missing),
        "lowest_iou": lowest,
        "told_there": dict(there.losses),
        "told_back": dict(back.losses),
    }


# --- the run -------------------------------------------------------------------------------------


def main() -> int:
    """Measure what is asked for; 1 if something was lost and not told."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data", type=Path, help="the folder of data sets")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--sets", nargs="+", default=SETS, choices=SETS)
    parser.add_argument("--first", nargs="+", default=list(WRITERS), choices=list(WRITERS))
    parser.add_argument("--second", nargs="+", default=list(WRITERS), choices=list(WRITERS))
    options = parser.parse_args()
    if options.data is None and set(options.sets) != {"generated"}:
        parser.error("--data is needed for sets that are not generated")
    store, failed = Store(options.out), False
    done = {row["key"] for row in store.rows}
    with tempfile.TemporaryDirectory(prefix="round_trips-") as work:
        for name in options.sets:
            failed |= _run_set(name, options, store, done, Path(work) / name)
    return int(failed)


def _run_set(name, options, store: Store, done: set[str], work: Path) -> bool:
    work.mkdir()
    source = None
    failed = False
    for first in options.first:
        keys = {second: f"{name} {first} {second}" for second in options.second if second != first}
        if done.issuperset(keys.values()):
            continue
        if source is None:
            source = generated(work) if name == "generated" else globals()[name](options.data)
        report = write({"train": source}, work / first, first)
        for second, key in keys.items():
            if key in done:
                continue
            started, folder = time.process_time(), work / "trip"
            counts = round_trip(work / first, first, second, folder)
            shutil.rmtree(folder)
            failed |= bool(counts["untold"])
            command = f"python benchmarks/round_trips.py --data DATA --sets {name}"
            row = {"key": key, "set": name, "first": first, "second": second, **counts}
            row |= {"lost_at_first": dict(report.losses)}
            row |= {"cpu_seconds": round(time.process_time() - started, 2), "seed": SEED}
            row |= {"command": command, "segalgos": segalgos.__version__}
            store.append(row | {"numpy": np.__version__})
            print(f"{key}: {counts['differences'] or 'exact'}, untold {counts['untold'] or 'none'}")
    return failed


if __name__ == "__main__":
    sys.exit(main())
