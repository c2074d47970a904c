"""Clicks that interactive methods need on the GrabCut and Berkeley objects.

    python benchmarks/interactive.py --data DATA --out FOLDER

DATA is the folder that holds the data sets (`segalgos data list` says where to get them). A
simulated user (`segalgos.bench.user`) clicks on the largest mistake until the IoU is 90 % or 20
clicks are made, five at least; GrabCut and SAM also get a box once. Nothing is random. A run
that was stopped goes on where it was; ``--sets`` and ``--contenders`` do a part of it.

Methods that learn from marked pixels get a dab of 5 pixels radius at each click, which stays
within the mistake clicked on, and the image's outermost pixels as background, unless a dab covers
them: without, one click alone says nothing of the background. SAM gets the clicks as they are.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import segalgos
from segalgos import GraphCutSegmenter, RandomWalkerSegmenter, datasets
from segalgos.bench.store import Store
from segalgos.bench.user import BRUSH, Click, box_around, click_along, draw_clicks
from segalgos.metrics.interactive import click_scores, object_iou
from segalgos.results import Instances, Prompts

SETS = {"grabcut": "test", "berkeley": "test"}
#: To choose settings on, never scored: not in SETS, so only run where --sets names it.
FOR_SETTINGS = {"weizmann": "train"}
MAX_CLICKS, MIN_CLICKS, ENOUGH = 20, 5, 0.9
LEVELS = (0.85, 0.90)
AFTER = (1, 3, 5)
BOX_MARGIN = 0.05

# The classes' defaults. Only the frame of background was chosen, on 12 images of weizmann's train
# part (--sets weizmann --max-images 12): graph cut needs 12.7 clicks to 90 % without, 9.7 with it.
SETTINGS = {
    "graph cut": {"smoothness": 50.0, "region_weight": 0.3},
    "random walker": {"beta": 1000.0},
    "GrabCut": {"smoothness": 50.0, "n_iter": 5},
}

Image = NDArray[np.uint8]
Mask = NDArray[np.bool_]


# --- contenders: image -> (clicks -> mask), and image, box -> mask -----------------------


def marks(clicks: list[Click], shape: tuple[int, int]) -> NDArray[np.int32]:
    """Dabs of the clicks on a frame of background one pixel wide; -1 where nothing is marked."""
    drawn = draw_clicks(clicks, shape)
    frame = np.full(shape, -1, np.int32)
    frame[[0, -1]] = frame[:, [0, -1]] = 0
    return np.where(drawn >= 0, drawn, frame)


def graph_cut(image: Image) -> Callable[[list[Click]], Mask]:
    """Boykov and Jolly's cut, with colours learned from the marked pixels."""
    segmenter = GraphCutSegmenter(**SETTINGS["graph cut"])

    def segment(clicks):
        return segmenter.predict(image, prompts=_scribbles(marks(clicks, image.shape[:2]))) == 1

    return segment


def random_walker(image: Image) -> Callable[[list[Click]], Mask]:
    """Grady's random walker from the marked pixels."""
    segmenter = RandomWalkerSegmenter(**SETTINGS["random walker"])

    def segment(clicks):
        return segmenter.predict(image, prompts=_scribbles(marks(clicks, image.shape[:2]))) == 1

    return segment


def grab_cut(image: Image) -> Callable[[list[Click]], Mask]:
    """GrabCut, which starts from what graph cut makes of the same marks."""
    segmenter, start = GraphCutSegmenter(**SETTINGS["GrabCut"]), graph_cut(image)

    def segment(clicks):
        prompts = _scribbles(marks(clicks, image.shape[:2]), mask=start(clicks))
        return segmenter.predict(image, prompts=prompts) == 1

    return segment


def grab_cut_in_box(image: Image, box: Prompts) -> Mask:
    """GrabCut from a box alone."""
    return GraphCutSegmenter(**SETTINGS["GrabCut"]).predict(image, prompts=box) == 1


def _scribbles(drawn: NDArray[np.int32], mask: Mask | None = None) -> Prompts:
    return Prompts(scribbles=drawn, mask=mask)


def with_sam(checkpoint: Path) -> tuple[Callable, Callable]:
    """SAM with the weights of a file, by clicks and by a box."""
    segmenter = segalgos.SAMSegmenter(checkpoint=checkpoint)

    def object_of(output: Any) -> Mask:
        if isinstance(output, Instances):
            return output.masks[int(np.argmax(output.scores))]
        return np.asarray(output) == 1

    def by_clicks(image):
        def segment(clicks):
            prompts = Prompts(
                points=[(click.row, click.column) for click in clicks],
                point_labels=[int(click.inside) for click in clicks],
            )
            return object_of(segmenter.predict(image, prompts=prompts))

        return segment

    def by_box(image, box):
        return object_of(segmenter.predict(image, prompts=box))

    return by_clicks, by_box


CONTENDERS: dict[str, tuple[Callable, Callable | None] | None] = {
    "random walker": (random_walker, None),
    "graph cut": (graph_cut, None),
    "GrabCut": (grab_cut, grab_cut_in_box),
    "SAM": None,  # made by `with_sam` where there is a checkpoint
}


# --- the run -----------------------------------------------------------------------------


def score(contender: tuple[Callable, Callable | None], sample: Any) -> dict[str, Any]:
    """Let the simulated user work with a contender on one object.

    Parameters
    ----------
    contender : tuple of callable
        By clicks, and by a box or None.
    sample : Sample

    Returns
    -------
    dict
        ``ious`` after each click, ``clicks`` as [row, column, inside], and ``box_iou``, None for
        those that take no box.
    """
    by_clicks, by_box = contender
    clicks, ious = click_along(
        by_clicks(sample.image),
        sample.labels,
        max_clicks=MAX_CLICKS,
        min_clicks=MIN_CLICKS,
        enough=ENOUGH,
    )
    box_iou = None
    if by_box is not None:
        box = box_around(sample.labels, BOX_MARGIN)
        box_iou = object_iou(by_box(sample.image, box), sample.labels)
    return {
        "ious": ious,
        "clicks": [[click.row, click.column, int(click.inside)] for click in clicks],
        "box_iou": box_iou,
    }


def run(
    store: Store,
    sets: list[str],
    contenders: dict[str, Any],
    root: Path | None,
    max_images: int | None = None,
) -> Iterator[dict[str, Any]]:
    """Measure what is not in the store yet, and add it row by row.

    Parameters
    ----------
    store : Store
    sets : list of str
    contenders : dict of str to callables or None
        None where a checkpoint is missing: that is noted, and no score.
    root : Path or None
        Where the data sets are.
    max_images : int, optional
        Evenly spaced; all if left out.

    Yields
    ------
    dict
        Each new row.
    """
    done = {row["key"] for row in store.rows}
    for name in sets:
        split = (SETS | FOR_SETTINGS)[name]
        dataset = datasets.load(name, split=split, root=root)
        if max_images is not None and max_images < len(dataset):
            dataset = dataset.subset(
                np.linspace(0, len(dataset) - 1, max_images).round().astype(int)
            )
        for label, contender in contenders.items():
            row = {"set": name, "contender": label}
            if contender is None:
                row |= {"key": f"{name} | {label} | no checkpoint", "status": "no checkpoint"}
                if row["key"] not in done:
                    store.append(row)
                    yield row
                continue
            for i, sample in enumerate(dataset):
                key = f"{name} | {label} | {sample.name}"
                if key in done:
                    continue
                facts = {"settings": _settings(label), "versions": _versions()}
                result = row | {"key": key, "status": "ok", "object": sample.name}
                result |= {"number": i} | score(contender, sample) | facts
                store.append(result)
                yield result


def _settings(contender: str) -> dict[str, Any]:
    user = {"brush": BRUSH, "max_clicks": MAX_CLICKS, "min_clicks": MIN_CLICKS, "enough": ENOUGH}
    return user | {"box_margin": BOX_MARGIN} | SETTINGS.get(contender, {})


def _versions() -> dict[str, str]:
    found = {"segalgos": segalgos.__version__}
    for name in ("numpy", "scipy", "numba"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def table(rows: list[dict[str, Any]]) -> list[list[str]]:
    """Scores of every contender by set.

    Parameters
    ----------
    rows : list of dict

    Returns
    -------
    list of list of str
        Titles; a line for each set and contender. Clicks are means over objects, of which those
        that never reach the level count all clicks; in brackets how many these are.
    """
    titles = ["set", "method", "objects"]
    titles += [f"IoU after {n} click{'s' * (n > 1)}" for n in AFTER]
    titles += [f"clicks to {100 * level:g} %" for level in LEVELS]
    lines = [[*titles, "IoU from a box"]]
    for name in [*SETS, *FOR_SETTINGS]:
        for label in CONTENDERS:
            here = [row for row in rows if row["set"] == name and row["contender"] == label]
            scored = [row for row in here if row["status"] == "ok"]
            if not here:
                continue
            line = [name, label, str(len(scored))]
            if not scored:
                lines.append([*line, *[here[0]["status"]] * (len(titles) - 2)])
                continue
            scores = click_scores(
                [row["ious"] for row in scored], after=AFTER, levels=LEVELS, max_clicks=MAX_CLICKS
            )
            line += [f"{scores[f'mean_iou_objects_after_{n}']:.3f}" for n in AFTER]
            for level in (f"{100 * level:g}" for level in LEVELS):
                missed = np.isnan(scores[f"clicks_to_{level}"]).sum()
                line.append(f"{scores[f'mean_clicks_objects_to_{level}']:.2f} ({missed} never)")
            boxes = [row["box_iou"] for row in scored if row["box_iou"] is not None]
            line.append(f"{np.mean(boxes):.3f}" if boxes else "–")
            lines.append(line)
    return lines


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, help="folder of the data sets (SEGALGOS_DATA)")
    parser.add_argument("--out", type=Path, required=True, help="folder for results.jsonl")
    every = ", ".join([*SETS, *FOR_SETTINGS])
    parser.add_argument("--sets", default=",".join(SETS), help=f"some of: {every}")
    parser.add_argument("--contenders", default=",".join(CONTENDERS), help="some of: %(default)s")
    parser.add_argument("--max-images", type=int, help="of each set, evenly spaced")
    parser.add_argument("--sam-checkpoint", type=Path, help="weights of SAM")
    arguments = parser.parse_args()
    contenders = dict(CONTENDERS)
    if arguments.sam_checkpoint is not None:
        contenders["SAM"] = with_sam(arguments.sam_checkpoint)
    sets, labels = arguments.sets.split(","), arguments.contenders.split(",")
    for chosen, known in ((sets, SETS | FOR_SETTINGS), (labels, contenders)):
        for name in chosen:
            if name not in known:
                parser.error(f"nothing is called {name!r}: choose from {', '.join(known)}")
    contenders = {label: contenders[label] for label in labels}
    with Store(arguments.out) as store:
        for row in store.rows:
            if row["status"] == "ok" and row["settings"] != _settings(row["contender"]):
                parser.error(f"{arguments.out} holds rows of other settings: choose another --out")
        for row in run(store, sets, contenders, arguments.data, arguments.max_images):
            last = f"{len(row['ious'])} clicks, {row['ious'][-1]:.3f}" if "ious" in row else ""
            print(f"{row['key']}: {last or row['status']}", file=sys.stderr, flush=True)
        rows = store.rows
    for line in table(rows):
        print(" | ".join(line))


if __name__ == "__main__":
    main()
