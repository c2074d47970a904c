"""Held-out quality of pixel classifiers that learn from a few strokes, ours and scikit-image's.

    pip install 'segalgos[peers]'
    python benchmarks/peers/scribbles.py --data DATA --out FOLDER

DATA is the folder that holds the data sets (`segalgos data list` says where to get them). A
simulated person draws 5, 20 or 100 strokes on a few training images, or some pixels of the full
truth are drawn; every contender learns from the same pixels and segments the same images of
another split. A run that was stopped goes on where it was; `--sets` and `--seeds` do a part of it.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from measure import about, markdown, write_notes
from numpy.typing import NDArray

from segalgos import RandomForestSegmenter, datasets, parallel
from segalgos.bench.scribbler import draw_scribbles_on
from segalgos.bench.store import Store
from segalgos.metrics import semantic_scores

SETS = ("nuclei", "cwfid", "crackforest", "magnetictile", "wbc", "isbi2012", "weizmann")
OPTIONS = {"wbc": {"part": 1}}  # its two parts differ in stain: one cannot teach the other
AMOUNTS = ("5", "20", "100", "full")  # strokes over all training images
PACKAGES = ("numpy", "scipy", "numba", "scikit-image", "scikit-learn")

SIGMAS = (0.5, 1, 2, 4, 8, 16)  # the peer's default
SETTINGS = {
    "n_train": 3,
    "n_test": 4,
    "max_pixels": 320_000,  # larger images are halved until they have at most so many
    "n_trees": 50,
    "full_pixels": 10_000,  # drawn from the full truth of all training images together
}

Image = NDArray[np.uint8]
Labels = NDArray[np.int32]


# --- data --------------------------------------------------------------------------------


@dataclass(frozen=True)
class Problem:
    """Images to learn from and to be scored on.

    Parameters
    ----------
    name : str
    classes : tuple of str
    train, test : list of (image, labels)
    """

    name: str
    classes: tuple[str, ...]
    train: list[tuple[Image, Labels]]
    test: list[tuple[Image, Labels]]


def load_problem(name: str, root: Path | None, seed: int, settings: dict[str, int]) -> Problem:
    """Choose the images of a data set.

    Those to be scored are the same for every seed, evenly spaced over the validation part, and
    those to learn from are drawn by the seed; all of them show all classes.

    Parameters
    ----------
    name : str
    root : Path or None
    seed : int
    settings : dict
        As `SETTINGS`.

    Returns
    -------
    Problem
    """
    options = OPTIONS.get(name, {})
    train = datasets.load(name, split="train", root=root, **options)
    test = datasets.load(name, split="val", root=root, **options)
    size = settings["max_pixels"]

    def showing_all(dataset, order):
        for i in order:
            sample = dataset[i]
            image, labels = shrink(sample.image, sample.labels, size)
            if len(np.unique(labels[labels >= 0])) == len(dataset.classes):
                yield image, labels

    drawn = np.random.default_rng(seed).permutation(len(train))
    chosen = list(islice(showing_all(train, drawn), settings["n_train"]))
    able = list(showing_all(test, range(len(test))))
    n_test = min(settings["n_test"], len(able))
    spaced = np.linspace(0, len(able) - 1, n_test).round().astype(int)
    return Problem(name, train.classes, chosen, [able[i] for i in spaced])


def shrink(image: Image, labels: Labels, max_pixels: int) -> tuple[Image, Labels]:
    """Halve an image and its labels until they have at most so many pixels.

    A pixel is the mean of four; it is unknown (-1) where the four are of several classes.
    """
    while labels.size > max_pixels:
        height, width = (side - side % 2 for side in labels.shape)
        corners = [(slice(i, height, 2), slice(j, width, 2)) for i in (0, 1) for j in (0, 1)]
        image = np.mean([image[c] for c in corners], axis=0).round().astype(np.uint8)
        first, *others = (labels[c] for c in corners)
        labels = np.where(np.all([first == other for other in others], axis=0), first, -1)
    return image, labels


def choose_pixels(problem: Problem, amount: str, seed: int, full_pixels: int) -> list[Labels]:
    """The labels to learn from, one map for each training image.

    Parameters
    ----------
    problem : Problem
    amount : str
        One of `AMOUNTS`.
    seed : int
    full_pixels : int
        At most so many pixels are drawn for "full".

    Returns
    -------
    list of (H, W) int32
        -1 where a contender must not look.
    """
    truths = [labels for _, labels in problem.train]
    if amount != "full":
        return draw_scribbles_on(truths, int(amount), random_state=seed)
    flat = np.concatenate([labels.ravel() for labels in truths])
    known = np.flatnonzero(flat >= 0)
    rng = np.random.default_rng(seed)
    drawn = rng.choice(known, min(full_pixels, len(known)), replace=False)
    kept = np.full_like(flat, -1)
    kept[drawn] = flat[drawn]
    parts = np.split(kept, np.cumsum([labels.size for labels in truths])[:-1])
    return [part.reshape(labels.shape) for part, labels in zip(parts, truths, strict=True)]


# --- contenders: (training images, their labels, images, seed, number of trees) -> labels ----


def ours(train, labels, images, seed, n_trees, **options):
    """RandomForestSegmenter on all pixels that have a label."""
    segmenter = RandomForestSegmenter(
        n_trees, max_samples=sum(part.size for part in labels), random_state=seed, **options
    )
    segmenter.fit(train, labels)
    return [segmenter.predict(image) for image in images]


def ours_same_features(*arguments):
    """The same on the peer's features."""
    kinds = ("gaussian", "gradient", "hessian")
    return ours(*arguments, scales=SIGMAS, features=kinds, per_channel=True)


def scikit_image(train, labels, images, seed, n_trees):
    """The trainable segmenter of scikit-image's gallery, taught on several images."""
    from skimage.feature import multiscale_basic_features
    from skimage.future import fit_segmenter, predict_segmenter
    from sklearn.ensemble import RandomForestClassifier

    def features(image):
        return multiscale_basic_features(
            image,
            sigma_min=min(SIGMAS),
            sigma_max=max(SIGMAS),
            num_sigma=len(SIGMAS),
            workers=parallel.n_threads(),
            channel_axis=-1 if image.ndim == 3 else None,
        )

    rows = [
        features(image)[part >= 0]
        for image, part in zip(train, labels, strict=True)
        if part.max() >= 0
    ]
    classes = np.concatenate([part[part >= 0] for part in labels])
    forest = RandomForestClassifier(n_trees, n_jobs=parallel.n_threads(), random_state=seed)
    # It takes 0 for "no label".
    forest = fit_segmenter(classes + 1, np.concatenate(rows), forest)
    return [predict_segmenter(features(image), forest) - 1 for image in images]


CONTENDERS: dict[str, Callable] = {
    "segalgos, same features": ours_same_features,
    "segalgos": ours,
    "scikit-image": scikit_image,
}
PEER = "scikit-image"


# --- the run -----------------------------------------------------------------------------


def score(problem: Problem, contender: str, labels: list[Labels], seed: int, n_trees: int):
    """Let a contender learn and segment, and score it.

    Parameters
    ----------
    problem : Problem
    contender : str
        One of `CONTENDERS`.
    labels : list of (H, W) int32
        What `choose_pixels` gave.
    seed, n_trees : int

    Returns
    -------
    dict
        ``mean_iou``, ``iou_per_class`` and ``seconds`` of wall time.
    """
    train = [image for image, _ in problem.train]
    images, truths = zip(*problem.test, strict=True)
    started = time.perf_counter()
    predictions = CONTENDERS[contender](train, labels, images, seed, n_trees)
    seconds = time.perf_counter() - started
    scores = semantic_scores(predictions, truths, problem.classes)
    return {
        "mean_iou": scores["mean_iou_dataset"],
        "iou_per_class": dict(zip(problem.classes, scores["iou_per_class"].tolist(), strict=True)),
        "seconds": round(seconds, 2),
    }


def key_of(name: str, amount: str, seed: int, contender: str) -> str:
    """What tells a row from all others."""
    return f"{name} | {amount} | {seed} | {contender}"


def run(
    store: Store, sets: list[str], seeds: int, root: Path | None, facts: dict[str, Any]
) -> Iterator[dict[str, Any]]:
    """Measure what is not in the store yet, and add it row by row.

    Parameters
    ----------
    store : Store
    sets : list of str
    seeds : int
        Seeds 0, 1, ... are taken.
    root : Path or None
        Where the data sets are.
    facts : dict
        What each row says beside the result: settings and versions.

    Yields
    ------
    dict
        Each new row.
    """
    done = {row["key"] for row in store.rows}
    settings = facts["settings"]
    for name in sets:
        for seed in range(seeds):
            cells = [(a, c) for a in AMOUNTS for c in CONTENDERS]
            cells = [(a, c) for a, c in cells if key_of(name, a, seed, c) not in done]
            if not cells:
                continue
            problem = load_problem(name, root, seed, settings)
            pixels = {
                amount: choose_pixels(problem, amount, seed, settings["full_pixels"])
                for amount in {amount for amount, _ in cells}
            }
            for amount, contender in cells:
                row = {"key": key_of(name, amount, seed, contender), "set": name}
                row |= {"strokes": amount, "seed": seed, "contender": contender}
                row |= {"n_pixels": sum(int((part >= 0).sum()) for part in pixels[amount])}
                row |= score(problem, contender, pixels[amount], seed, settings["n_trees"])
                store.append(row | facts)
                yield row


# --- the tables --------------------------------------------------------------------------


def differences(rows: list[dict[str, Any]]) -> dict[tuple[str, str, str], list[float]]:
    """How much more than the peer a contender scored, by (set, strokes, contender), a seed each."""
    scores = {(r["set"], r["strokes"], r["seed"], r["contender"]): r["mean_iou"] for r in rows}
    found: dict[tuple[str, str, str], list[float]] = {}
    for (name, amount, seed, contender), value in scores.items():
        peer = scores.get((name, amount, seed, PEER))
        if contender != PEER and peer is not None:
            found.setdefault((name, amount, contender), []).append(value - peer)
    return found


def table(rows: list[dict[str, Any]]) -> list[list[str]]:
    """Mean IoU of every contender by set and strokes, and how much more than the peer's.

    Parameters
    ----------
    rows : list of dict

    Returns
    -------
    list of list of str
        Titles; for each set a line a number of strokes and one for their mean, means over seeds
        (± their standard deviation); then means over sets (± theirs).
    """
    apart = differences(rows)
    rivals = [contender for contender in CONTENDERS if contender != PEER]
    lines = [["set", "strokes", "seeds", *CONTENDERS, *(f"{rival}: more" for rival in rivals)]]
    means: dict[tuple[str, str], list[float]] = {}
    for name in SETS:
        of_set = [row for row in rows if row["set"] == name]
        amounts = [amount for amount in AMOUNTS if any(r["strokes"] == amount for r in of_set)]
        for amount in [*amounts, "mean"] if len(amounts) > 1 else amounts:
            here = [row for row in of_set if amount in ("mean", row["strokes"])]
            line = [name, amount, str(len({row["seed"] for row in here}))]
            for contender in CONTENDERS:
                values = [row["mean_iou"] for row in here if row["contender"] == contender]
                line.append(f"{statistics.mean(values):.3f}" if values else "–")
            for rival in rivals:
                parts = [apart.get((name, a, rival), []) for a in amounts if amount in ("mean", a)]
                # Of each seed the mean over the amounts.
                values = [statistics.mean(of_seed) for of_seed in zip(*parts, strict=False)]
                if values:
                    means.setdefault((amount, rival), []).append(statistics.mean(values))
                line.append(_with_spread(values))
            lines.append(line)
    for amount in (*AMOUNTS, "mean"):
        over = [means.get((amount, rival), []) for rival in rivals]
        if any(over):
            line = [f"mean of {len(over[0])}", amount, "", *[""] * len(CONTENDERS)]
            lines.append(line + [_with_spread(values) for values in over])
    return lines


def _with_spread(values: list[float]) -> str:
    if not values:
        return "–"
    spread = f" ± {statistics.stdev(values):.3f}" if len(values) > 1 else ""
    return f"{statistics.mean(values):+.3f}{spread}"


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, help="folder of the data sets (SEGALGOS_DATA)")
    parser.add_argument("--out", type=Path, required=True, help="folder for results.jsonl")
    parser.add_argument("--sets", default=",".join(SETS), help="some of: %(default)s")
    parser.add_argument("--seeds", type=int, default=3)
    arguments = parser.parse_args()
    sets = arguments.sets.split(",")
    unknown = [name for name in sets if name not in SETS]
    if unknown:
        parser.error(f"no set is called {unknown[0]!r}: choose from {', '.join(SETS)}")
    notes = about(__file__, PACKAGES)
    facts = {"settings": SETTINGS | {"sigmas": list(SIGMAS)}, "versions": notes["versions"]}
    with Store(arguments.out) as store:
        if any(row["settings"] != facts["settings"] for row in store.rows):
            parser.error(f"{arguments.out} holds rows of other settings: choose another --out")
        for row in run(store, sets, arguments.seeds, arguments.data, facts):
            print(f"{row['key']}: {row['mean_iou']:.3f}, {row['seconds']} s", file=sys.stderr)
        rows = store.rows
    write_notes(arguments.out, notes, more=True)
    print(markdown(table(rows)))


if __name__ == "__main__":
    main()
