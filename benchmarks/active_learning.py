"""How many images have to be labelled, if they are proposed and if they come in random order.

    python benchmarks/active_learning.py --data DATA --out FOLDER
    python benchmarks/active_learning.py --data DATA --out FOLDER --part choose    # settings only

DATA is the folder that holds the data sets. A simulated annotator labels image after image of a
pool, with the whole truth or with some strokes; after each round a random forest is fitted on what
is labelled, scored on held-out images, and asked which images come next
(`segalgos.annotation.proposals.propose`). A run is set x labels x method x seed; a seed draws the
pool, the random order and the forests. Each gives a row; a run that was stopped goes on
where it was.

Held-out images share no scene with the pool where that can be known. CamVid: of each of the three
filmed sequences of train, the first 60 % of the frames are the pool's and the last 30 % are held
out. Nuclei: train and val. With ``--part choose`` both come from the side of the pool: settings are
compared there, and nothing of it is scored.

Features are computed on whole images and then kept at every few pixels, about 2000 an image, which
is what makes some hundred forests a matter of minutes. The forest gets them as they are.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats

import segalgos
from segalgos import RandomForestSegmenter, datasets, pixel_features
from segalgos.annotation.proposals import describe_images, propose
from segalgos.bench.cell import machine
from segalgos.bench.scribbler import draw_scribbles
from segalgos.bench.store import Store
from segalgos.metrics.semantic import semantic_scores

SETS = ("nuclei", "camvid")
LABELS = ("full", "strokes")
BANK = 90  # images of which a seed draws its pool
POOL = 60
HELD_OUT = 30
GRID_PIXELS = 2500  # at most, of an image
N_STROKES = 12
ROUNDS = (1, 2, 3, 4, 6, 8, 12, 16)  # images labelled
LEVELS = (0.90, 0.95)
FOREST = {"n_estimators": 20}

#: What is measured, and what was compared with it on other images.
METHODS: dict[str, dict[str, Any]] = {
    "random": {"method": "random"},
    "uncertainty": {"method": "uncertainty"},
    "diversity": {"method": "diversity"},
    "coverage": {"method": "coverage"},
    "both": {"method": "both"},
}
TO_CHOOSE: dict[str, dict[str, Any]] = METHODS | {
    "uncertainty, margin": {"method": "uncertainty", "measure": "margin"},
    "uncertainty, least sure tenth": {"method": "uncertainty", "share": 0.1},
    "both, margin": {"method": "both", "measure": "margin"},
}
ALL = "all images"


# --- the images --------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Picture:
    """What is kept of an image.

    Parameters
    ----------
    name : str
    features : (h, w, F) float32
        At the pixels of a grid.
    labels : (h, w) int32
        The truth there.
    stroke_features : (1, n, F) float32
        At the pixels of the strokes.
    stroke_labels : (1, n) int32
    descriptor : (D,) float32
    """

    name: str
    features: NDArray[np.float32]
    labels: NDArray[np.int32]
    stroke_features: NDArray[np.float32]
    stroke_labels: NDArray[np.int32]
    descriptor: NDArray[np.float32]


def look_at(sample: Any) -> Picture:
    """Compute what is kept of an image.

    Parameters
    ----------
    sample : Sample

    Returns
    -------
    Picture
    """
    image = sample.image
    features = pixel_features(image)
    step = int(np.ceil(np.sqrt(image.shape[0] * image.shape[1] / GRID_PIXELS)))
    drawn = draw_scribbles(sample.labels, N_STROKES, random_state=0)
    rows, columns = np.nonzero(drawn >= 0)
    return Picture(
        sample.name,
        np.ascontiguousarray(features[step // 2 :: step, step // 2 :: step]),
        np.ascontiguousarray(sample.labels[step // 2 :: step, step // 2 :: step]),
        features[rows, columns][None],
        drawn[rows, columns][None],
        describe_images([image])[0],
    )


def evenly(n: int, n_wanted: int) -> NDArray[np.intp]:
    """Places of evenly spaced ones of n things; all if there are no more."""
    return np.unique(np.linspace(0, n - 1, min(n, n_wanted)).round().astype(np.intp))


def cut_sequence(places: NDArray[np.intp]) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """First 60 % of a sequence, for a pool, and its last 30 %, held out."""
    return places[: round(0.6 * len(places))], places[round(0.7 * len(places)) :]


def read(name: str, part: str, root: Path | None) -> tuple[list[Picture], list[Picture]]:
    """Read a set.

    Parameters
    ----------
    name : str
    part : {"measure", "choose"}
    root : Path or None

    Returns
    -------
    bank, held_out : list of Picture
    """
    train = datasets.load(name, split="train", root=root)
    scored = train
    if name == "nuclei":
        side = np.arange(len(train))
        pool, held = (side[side % 4 > 0], side[::4])
        if part == "measure":
            scored = datasets.load(name, split="val", root=root)
            pool, held = side, np.arange(len(scored))
    else:
        sequences: dict[str, list[int]] = {}
        for i, sample in enumerate(train):
            sequences.setdefault(sample.name.split("_")[0], []).append(i)
        parts = [cut_sequence(np.array(places)) for places in sequences.values()]
        if part == "choose":
            parts = [cut_sequence(of_pool) for of_pool, _ in parts]
        pool, held = (np.concatenate(side) for side in zip(*parts))
    bank = [look_at(train[int(i)]) for i in pool[evenly(len(pool), BANK)]]
    return bank, [look_at(scored[int(i)]) for i in held[evenly(len(held), HELD_OUT)]]


# --- the annotator -----------------------------------------------------------------------


def as_they_are(image: NDArray[np.float32]) -> NDArray[np.float32]:
    """Features that were computed before."""
    return image


as_they_are.halo = 0  # looks at no neighbour


def make_forest(seed: int) -> RandomForestSegmenter:
    """Make a forest for features that were computed before."""
    return RandomForestSegmenter(
        **FOREST, features=(), extra=as_they_are, channel_axis=-1, random_state=seed
    )


def learn(pool: list[Picture], chosen: list[int], labels: str, seed: int) -> RandomForestSegmenter:
    """Fit a forest on the images that are labelled."""
    pictures = [pool[i] for i in chosen]
    if labels == "strokes":
        images = [p.stroke_features for p in pictures]
        return make_forest(seed).fit(images, [p.stroke_labels for p in pictures])
    return make_forest(seed).fit([p.features for p in pictures], [p.labels for p in pictures])


def score(segmenter: RandomForestSegmenter, held_out: list[Picture], n_classes: int) -> float:
    """Mean IoU of classes over all held-out pixels."""
    found = segmenter.predict([p.features for p in held_out])
    return float(
        semantic_scores(found, [p.labels for p in held_out], n_classes)["mean_iou_dataset"]
    )


def annotate(
    pool: list[Picture],
    held_out: list[Picture],
    n_classes: int,
    labels: str,
    options: dict[str, Any],
    seed: int,
) -> tuple[list[int], list[float]]:
    """Let the simulated annotator label as many images as `ROUNDS` says.

    Parameters
    ----------
    pool, held_out : list of Picture
    n_classes : int
    labels : {"full", "strokes"}
    options : dict
        Of `propose`.
    seed : int

    Returns
    -------
    chosen : list of int
        Places in the pool, in the order of labelling.
    scores : list of float
        After each round.
    """
    rng = np.random.RandomState(seed)
    descriptors = np.stack([p.descriptor for p in pool])
    images = [p.features for p in pool]
    chosen: list[int] = []
    scores: list[float] = []
    segmenter = None
    for n in ROUNDS:
        method = options
        if segmenter is None and options["method"] == "uncertainty":
            method = options | {"method": "coverage"}  # nothing to be unsure of yet
        new = propose(
            segmenter,
            images,
            n=n - len(chosen),
            labelled=chosen,
            descriptors=descriptors,
            random_state=rng,
            **method,
        )
        chosen += new.tolist()
        segmenter = learn(pool, chosen, labels, seed)
        scores.append(score(segmenter, held_out, n_classes))
    return chosen, scores


# --- the run -----------------------------------------------------------------------------


def run(
    store: Store,
    sets: list[str],
    kinds: list[str],
    methods: dict[str, dict[str, Any]],
    seeds: list[int],
    part: str,
    root: Path | None,
) -> Iterator[dict[str, Any]]:
    """Measure what is not in the store yet, and add it row by row.

    Parameters
    ----------
    store : Store
    sets, kinds : list of str
        Data sets, and how images are labelled.
    methods : dict of str to dict
        Options of `propose` by name.
    seeds : list of int
    part : {"measure", "choose"}
    root : Path or None
        Where the data sets are.

    Yields
    ------
    dict
        Each new row.
    """
    done = {row["key"] for row in store.rows}
    read_once = cache(read)
    for seed, name, labels in ((s, d, k) for s in seeds for d in sets for k in kinds):
        for method in (ALL, *methods):
            key = f"{part} | {name} | {labels} | {method} | {seed}"
            if key in done:
                continue
            bank, held_out = read_once(name, part, root)
            n_classes = len(datasets.load(name, root=root).classes)
            drawn = np.random.default_rng(seed).permutation(len(bank))[:POOL]
            pool = [bank[i] for i in drawn]
            row: dict[str, Any] = {"key": key, "part": part, "set": name, "labels": labels}
            row |= {"method": method, "seed": seed, "n_pool": len(pool), "n_held": len(held_out)}
            if method == ALL:
                segmenter = learn(pool, list(range(len(pool))), labels, seed)
                row["scores"] = [score(segmenter, held_out, n_classes)]
            else:
                options = methods[method]
                chosen, row["scores"] = annotate(pool, held_out, n_classes, labels, options, seed)
                row |= {"rounds": list(ROUNDS), "chosen": [pool[i].name for i in chosen]}
                row["options"] = options
            row |= {"settings": settings(), "versions": versions(), "machine": machine()}
            store.append(row)
            yield row


def settings() -> dict[str, Any]:
    """What every run shares."""
    names = ("BANK", "POOL", "HELD_OUT", "GRID_PIXELS", "N_STROKES")
    return {name.lower(): globals()[name] for name in names} | FOREST


def versions() -> dict[str, str]:
    """Versions of what computes."""
    return {name: version(name) for name in ("numpy", "scipy", "numba")} | {
        "segalgos": segalgos.__version__
    }


# --- the table ---------------------------------------------------------------------------


def images_to(scores: list[float], rounds: list[int], goal: float) -> float:
    """Images labelled until a score is reached for good; NaN if it never is.

    Parameters
    ----------
    scores : list of float
        After each round.
    rounds : list of int
        Images labelled then.
    goal : float

    Returns
    -------
    float
    """
    below = [n for n, value in enumerate(scores) if value < goal]
    first = below[-1] + 1 if below else 0
    return float(rounds[first]) if first < len(rounds) else float("nan")


def interval(values: list[float]) -> tuple[float, float]:
    """Mean, and half of Student's 95 % interval of it; NaN for less than two values."""
    if len(values) < 2:
        return float(np.mean(values)), float("nan")
    half = stats.t.ppf(0.975, len(values) - 1) * np.std(values, ddof=1) / np.sqrt(len(values))
    return float(np.mean(values)), float(half)


def share_of_full(row: dict[str, Any], full: float) -> float:
    """Score by that of all images, averaged over the numbers of labelled images from 1 on."""
    counts = np.arange(row["rounds"][0], row["rounds"][-1] + 1)
    return float(np.interp(counts, row["rounds"], row["scores"]).mean() / full)


def table(rows: list[dict[str, Any]], part: str = "measure") -> list[list[str]]:
    """Images needed by set, labels and method.

    Parameters
    ----------
    rows : list of dict
    part : {"measure", "choose"}

    Returns
    -------
    list of list of str
        Titles; a line for each set, kind of labels and method. Means over seeds; where a level is
        never reached all images that were labelled count, and brackets say how often.
        Differences are to random order with the same seed, with 95 % intervals.
    """
    titles = ["set", "labels", "order", "seeds", "mean IoU, all images"]
    titles += [f"images to {100 * level:g} % of it" for level in LEVELS]
    titles += [f"fewer than random, {100 * level:g} %" for level in LEVELS]
    lines = [[*titles, "share of it on the way", "more than random"]]
    rows = [row for row in rows if row["part"] == part]
    for name in SETS:
        for labels in LABELS:
            here = [row for row in rows if row["set"] == name and row["labels"] == labels]
            full = {row["seed"]: row["scores"][0] for row in here if row["method"] == ALL}
            found = {}
            for row in here:
                if row["method"] != ALL:
                    found.setdefault(row["method"], {})[row["seed"]] = _facts(row, full)
            for method in (method for method in TO_CHOOSE if method in found):
                by_seed = found[method]
                line = [name, labels, method, str(len(by_seed))]
                lines.append(line + _cells(by_seed, found.get("random", {}), full))
    return lines


def _facts(row: dict[str, Any], full: dict[int, float]) -> dict[str, float]:
    """Images to each level and the mean share of one run."""
    goal = full[row["seed"]]
    facts = {
        f"to {level}": images_to(row["scores"], row["rounds"], level * goal) for level in LEVELS
    }
    return facts | {"share": share_of_full(row, goal), "last": float(row["rounds"][-1])}


def _cells(
    ours: dict[int, dict[str, float]], random: dict[int, dict[str, float]], full: dict[int, float]
) -> list[str]:
    """Texts of one line of the table."""
    both = sorted(ours.keys() & random.keys()) if ours is not random else []
    cells = [f"{np.mean([full[seed] for seed in ours]):.3f}"]
    differences = []
    for level in LEVELS:
        counted = {
            seed: facts["last"] if np.isnan(facts[f"to {level}"]) else facts[f"to {level}"]
            for seed, facts in ours.items()
        }
        never = sum(np.isnan(facts[f"to {level}"]) for facts in ours.values())
        mean, half = interval(list(counted.values()))
        text = f"{mean:.1f}" + (f" ± {half:.1f}" if len(counted) > 1 else "")
        text += f" ({never} never)" if never else ""
        cells.append(text)
        theirs = [np.nan_to_num(random[s][f"to {level}"], nan=random[s]["last"]) for s in both]
        gains = [theirs[k] - counted[seed] for k, seed in enumerate(both)]
        differences.append(_signed(gains, "{:+.1f} ± {:.1f}"))
    shares = [facts["share"] for facts in ours.values()]
    cells += [*differences, f"{np.mean(shares):.3f}"]
    gains = [ours[seed]["share"] - random[seed]["share"] for seed in both]
    return [*cells, _signed(gains, "{:+.3f} ± {:.3f}")]


def _signed(gains: list[float], form: str) -> str:
    return form.format(*interval(gains)) if len(gains) > 1 else "–"


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, help="folder of the data sets (SEGALGOS_DATA)")
    parser.add_argument("--out", type=Path, required=True, help="folder for results.jsonl")
    parser.add_argument("--part", choices=("measure", "choose"), default="measure")
    parser.add_argument("--sets", default=",".join(SETS), help="some of: %(default)s")
    parser.add_argument("--labels", default=",".join(LABELS), help="some of: %(default)s")
    parser.add_argument("--seeds", default="0,1,2", help="default: %(default)s")
    parser.add_argument("--methods", help="some of them, separated by semicolons")
    arguments = parser.parse_args()
    methods = METHODS if arguments.part == "measure" else TO_CHOOSE
    names = arguments.methods.split(";") if arguments.methods else list(methods)
    sets, kinds = arguments.sets.split(","), arguments.labels.split(",")
    for chosen, known in ((sets, SETS), (kinds, LABELS), (names, methods)):
        for name in chosen:
            if name not in known:
                parser.error(f"nothing is called {name!r}: choose from {', '.join(known)}")
    methods = {name: methods[name] for name in names}
    seeds = [int(seed) for seed in arguments.seeds.split(",")]
    with Store(arguments.out) as store:
        if any(row["settings"] != settings() for row in store.rows):
            parser.error(f"{arguments.out} holds rows of other settings: choose another --out")
        for row in run(store, sets, kinds, methods, seeds, arguments.part, arguments.data):
            scores = " ".join(f"{value:.3f}" for value in row["scores"])
            print(f"{row['key']}: {scores}", file=sys.stderr, flush=True)
        rows = store.rows
    for line in table(rows, arguments.part):
        print(" | ".join(line))


if __name__ == "__main__":
    main()
