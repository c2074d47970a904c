"""Clicks and strokes that interactive methods need on single objects.

    python benchmarks/interactive.py --data DATA --out FOLDER
    python benchmarks/interactive.py --data DATA --out FOLDER --marks strokes
    python benchmarks/interactive.py --data DATA --out FOLDER --sets nuclei --marks clicks,strokes

DATA is the folder that holds the data sets (`segalgos data list` says where to get them). A
simulated user (`segalgos.bench.user`) clicks on the largest mistake until the IoU is 90 % or 20
clicks are made, five at least; GrabCut and SAM also get a box once. With ``--marks strokes`` it
draws a stroke through the same place instead (`segalgos.bench.strokes`). All is the same again in
every run. A run that was stopped goes on where it was; ``--sets`` and ``--contenders`` do a part
of it.

Methods that learn from marked pixels get a dab of 5 pixels radius at each click, which stays
within the mistake clicked on, and the image's outermost pixels as background, unless a dab covers
them: without, one click alone says nothing of the background. Strokes are as wide as dabs, and a
tenth of the image's longer side long at most. SAM gets the clicks as they are.

Of the nuclei one object is taken in each of evenly spaced images of val, that of median area among
those that do not touch the image's border. The user looks at a window around it, wider on
each side by the longer side of its box. Other nuclei in there are background, so that of what a
method finds only the pieces that hold a mark on the object count, as in the page of
`segalgos annotate`. The forest finds specks anywhere, so that this holds for it on all sets.
"""

from __future__ import annotations

import argparse
import itertools
import sys
from collections.abc import Callable, Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

import segalgos
from segalgos import (
    GraphCutSegmenter,
    RandomForestSegmenter,
    RandomWalkerSegmenter,
    datasets,
)
from segalgos.bench.scribbler import SHARE_OF_SIDE
from segalgos.bench.store import Store
from segalgos.bench.strokes import Stroke, draw_strokes, stroke_along
from segalgos.bench.user import BRUSH, Click, box_around, click_along, draw_clicks
from segalgos.metrics.interactive import click_scores, object_iou
from segalgos.results import Instances, Prompts

SETS = {"grabcut": "test", "berkeley": "test"}
#: Only run where --sets names them: objects in windows, and what settings are chosen on.
IN_WINDOWS = {"nuclei": "val"}
FOR_SETTINGS = {"weizmann": "train"}
MARKS = ("clicks", "strokes")
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
    # Those of the page of `segalgos annotate`.
    "forest": {"n_estimators": 30, "min_samples_leaf": 2, "class_weight": "balanced"},
}

Image = NDArray[np.uint8]
Mask = NDArray[np.bool_]


# --- contenders: image -> (marks -> mask), and image, box -> mask -----------------------


def draw(given: list[Click] | list[Stroke], shape: tuple[int, int]) -> NDArray[np.int32]:
    """Strokes, or dabs of clicks; -1 where nothing is marked."""
    if given and isinstance(given[0], Stroke):
        return draw_strokes(given, shape)
    return draw_clicks(given, shape)


def marks(given: list[Click] | list[Stroke], shape: tuple[int, int]) -> NDArray[np.int32]:
    """What was drawn on a frame of background one pixel wide; -1 where nothing is marked."""
    drawn = draw(given, shape)
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


def forest(image: Image) -> Callable[[list[Click]], Mask]:
    """A random forest that learns from the marked pixels of the image."""
    segmenter = RandomForestSegmenter(**SETTINGS["forest"], random_state=0)
    fitted = False

    def segment(clicks):
        nonlocal fitted
        drawn = marks(clicks, image.shape[:2])
        if fitted:  # features are not computed again
            segmenter.refit(0, drawn)
        else:
            segmenter.fit([image], [drawn])
            fitted = True
        return pieces_with_marks(segmenter.predict(image) == 1, clicks)

    return segment


def pieces_with_marks(found: Mask, given: list[Click] | list[Stroke]) -> Mask:
    """Those connected pieces that hold a mark on the object."""
    labels, n_pieces = ndimage.label(found)
    touched = np.zeros(n_pieces + 1, bool)
    touched[labels[draw(given, found.shape) == 1]] = True
    touched[0] = False
    return touched[labels]


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
    "forest": (forest, None),
    "SAM": None,  # made by `with_sam` where there is a checkpoint
}


# --- the objects -------------------------------------------------------------------------


def nucleus_of(sample: datasets.Sample) -> datasets.Sample | None:
    """A window around the nucleus of median area; None if all touch the image's border.

    Parameters
    ----------
    sample : Sample

    Returns
    -------
    Sample or None
        With 1 for that nucleus in its labels and 0 for all else.
    """
    size = sample.image.shape[:2]
    boxes = sample.instances.boxes
    free = np.flatnonzero(((boxes[:, :2] > 0) & (boxes[:, 2:] < size)).all(axis=1))
    if not len(free):
        return None
    areas = sample.instances.masks[free].sum(axis=(1, 2))
    chosen = free[np.argsort(areas, kind="stable")[len(free) // 2]]
    box = boxes[chosen].astype(int)
    margin = (box[2:] - box[:2]).max()
    window = tuple(
        slice(max(0, low - margin), min(side, high + margin))
        for low, high, side in zip(box[:2], box[2:], size)
    )
    labels = sample.instances.masks[chosen][window].astype(np.int32)
    return datasets.Sample(np.ascontiguousarray(sample.image[window]), labels, name=sample.name)


def objects(name: str, root: Path | None, max_images: int | None) -> Iterator[datasets.Sample]:
    """The objects of a set.

    Parameters
    ----------
    name : str
    root : Path or None
        Where the data sets are.
    max_images : int or None
        Evenly spaced; all if None.

    Yields
    ------
    Sample
        With 1 for the object in its labels, 0 for the background.
    """
    dataset = datasets.load(name, split=(SETS | IN_WINDOWS | FOR_SETTINGS)[name], root=root)
    if max_images is not None and max_images < len(dataset):
        dataset = dataset.subset(np.linspace(0, len(dataset) - 1, max_images).round().astype(int))
    for sample in dataset:
        single = nucleus_of(sample) if name in IN_WINDOWS else sample
        if single is not None:
            yield single


# --- the run -----------------------------------------------------------------------------


def score(
    contender: tuple[Callable, Callable | None],
    sample: Any,
    kind: str = "clicks",
    *,
    whole: bool = True,
) -> dict[str, Any]:
    """Let the simulated user work with a contender on one object.

    Parameters
    ----------
    contender : tuple of callable
        By clicks or strokes, and by a box or None.
    sample : Sample
    kind : {"clicks", "strokes"}, default="clicks"
    whole : bool, default=True
        Whether all that is found counts, or only pieces with a mark.

    Returns
    -------
    dict
        ``ious`` after each mark; ``clicks`` as [row, column, inside], or ``strokes`` as [row and
        column of one end, row and column of the other, inside]; and for clicks ``box_iou``, None
        for those that take no box.
    """
    by_marks, by_box = contender
    segment = found = by_marks(sample.image)
    if not whole:

        def segment(given):
            return pieces_with_marks(found(given), given)

    if kind == "strokes":
        strokes, ious = stroke_along(
            segment,
            sample.labels,
            max_strokes=MAX_CLICKS,
            min_strokes=MIN_CLICKS,
            enough=ENOUGH,
        )
        ends = [[*stroke.path[0], *stroke.path[-1], int(stroke.inside)] for stroke in strokes]
        return {"ious": ious, "strokes": ends}
    clicks, ious = click_along(
        segment,
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
    kinds: tuple[str, ...] = ("clicks",),
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
    kinds : tuple of {"clicks", "strokes"}, default=("clicks",)

    Yields
    ------
    dict
        Each new row.
    """
    done = {row["key"] for row in store.rows}
    for name, kind, (label, contender) in itertools.product(sets, kinds, contenders.items()):
        start = f"{name} | {label}" + (f" | {kind}" if kind != "clicks" else "")
        row = {"set": name, "contender": label} | ({"marks": kind} if kind != "clicks" else {})
        missing = None if contender is not None else "no checkpoint"
        if label == "SAM" and kind == "strokes":
            missing = "takes no strokes"
        if missing:
            row |= {"key": f"{start} | {missing}", "status": missing}
            if row["key"] not in done:
                store.append(row)
                yield row
            continue
        for i, sample in enumerate(objects(name, root, max_images)):
            key = f"{start} | {sample.name}"
            if key in done:
                continue
            facts = {"settings": _settings(label, kind), "versions": _versions()}
            result = row | {"key": key, "status": "ok", "object": sample.name, "number": i}
            found = score(contender, sample, kind, whole=name not in IN_WINDOWS)
            result |= found | facts
            store.append(result)
            yield result


def _settings(contender: str, kind: str = "clicks") -> dict[str, Any]:
    user = {"brush": BRUSH, "max_clicks": MAX_CLICKS, "min_clicks": MIN_CLICKS, "enough": ENOUGH}
    if kind == "strokes":
        user |= {"length": SHARE_OF_SIDE}
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
    """Scores of every contender by set and kind of marks.

    Parameters
    ----------
    rows : list of dict

    Returns
    -------
    list of list of str
        Titles; a line for each set, kind and contender. Numbers of clicks or strokes are means
        over objects, of which those that never reach the level count all; in brackets how
        many these are.
    """
    titles = ["set", "marks", "method", "objects"]
    titles += [f"IoU after {n}" for n in AFTER]
    titles += [f"marks to {100 * level:g} %" for level in LEVELS]
    lines = [[*titles, "IoU from a box"]]
    for name, kind, label in itertools.product(
        [*SETS, *IN_WINDOWS, *FOR_SETTINGS], MARKS, CONTENDERS
    ):
        here = [
            row
            for row in rows
            if (row["set"], row.get("marks", "clicks"), row["contender"]) == (name, kind, label)
        ]
        scored = [row for row in here if row["status"] == "ok"]
        if not here:
            continue
        line = [name, kind, label, str(len(scored))]
        if not scored:
            lines.append([*line, *[here[0]["status"]] * (len(titles) + 1 - len(line))])
            continue
        scores = click_scores(
            [row["ious"] for row in scored], after=AFTER, levels=LEVELS, max_clicks=MAX_CLICKS
        )
        line += [f"{scores[f'mean_iou_objects_after_{n}']:.3f}" for n in AFTER]
        for level in (f"{100 * level:g}" for level in LEVELS):
            missed = np.isnan(scores[f"clicks_to_{level}"]).sum()
            line.append(f"{scores[f'mean_clicks_objects_to_{level}']:.2f} ({missed} never)")
        boxes = [row["box_iou"] for row in scored if row.get("box_iou") is not None]
        line.append(f"{np.mean(boxes):.3f}" if boxes else "–")
        lines.append(line)
    return lines


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, help="folder of the data sets (SEGALGOS_DATA)")
    parser.add_argument("--out", type=Path, required=True, help="folder for results.jsonl")
    every = ", ".join([*SETS, *IN_WINDOWS, *FOR_SETTINGS])
    parser.add_argument("--sets", default=",".join(SETS), help=f"some of: {every}")
    parser.add_argument("--contenders", default=",".join(CONTENDERS), help="some of: %(default)s")
    parser.add_argument("--marks", default="clicks", help=f"some of: {', '.join(MARKS)}")
    parser.add_argument("--max-images", type=int, help="of each set, evenly spaced")
    parser.add_argument("--sam-checkpoint", type=Path, help="weights of SAM")
    arguments = parser.parse_args()
    contenders = dict(CONTENDERS)
    if arguments.sam_checkpoint is not None:
        contenders["SAM"] = with_sam(arguments.sam_checkpoint)
    sets, labels = arguments.sets.split(","), arguments.contenders.split(",")
    kinds = tuple(arguments.marks.split(","))
    every_set = SETS | IN_WINDOWS | FOR_SETTINGS
    for chosen, known in ((sets, every_set), (labels, contenders), (kinds, MARKS)):
        for name in chosen:
            if name not in known:
                parser.error(f"nothing is called {name!r}: choose from {', '.join(known)}")
    contenders = {label: contenders[label] for label in labels}
    with Store(arguments.out) as store:
        for row in store.rows:
            kind = row.get("marks", "clicks")
            if row["status"] == "ok" and row["settings"] != _settings(row["contender"], kind):
                parser.error(f"{arguments.out} holds rows of other settings: choose another --out")
        new = run(store, sets, contenders, arguments.data, arguments.max_images, kinds)
        for row in new:
            last = f"{len(row['ious'])} marks, {row['ious'][-1]:.3f}" if "ious" in row else ""
            print(f"{row['key']}: {last or row['status']}", file=sys.stderr, flush=True)
        rows = store.rows
    for line in table(rows):
        print(" | ".join(line))


if __name__ == "__main__":
    main()
