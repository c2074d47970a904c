"""A folder of predictions for Cityscapes, scored and set among published results.

The published results are in ``cityscapes_published.json``; the documentation's table is made of
the same file.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from segalgos.checks import check_choice
from segalgos.cityscapes_labels import CATEGORIES, CLASSES, LABELS, to_label_ids
from segalgos.datasets.cityscapes import instance_file, label_files, scene_name
from segalgos.files import read_labels
from segalgos.metrics import CityscapesCounts, cityscapes_counts, cityscapes_scores_from_counts
from segalgos.parallel import map_items

__all__ = [
    "Result",
    "class_rows",
    "own_result",
    "published",
    "rank",
    "result_rows",
    "score_folder",
    "score_text",
    "to_json",
]

_PUBLISHED = Path(__file__).with_name("cityscapes_published.json")


@dataclass(frozen=True)
class Result:
    """One line of the table of results, scores in per cent.

    Parameters
    ----------
    method : str
    split : {"test", "val", "train"}
        The images that it was scored on.
    mean_iou : float or None
        Mean IoU of the 19 classes; None if it is not defined.
    mean_iiou : float or None
        Mean instance-weighted IoU of the classes; None if it is not known, as the next two.
    category_iou, category_iiou : float or None
        The same of the categories.
    remark : str
        What it learned from or how it was run, where that is known.
    paper : str
        Of the method.
    source : str
        Where the figures are from.
    """

    method: str
    split: str
    mean_iou: float | None
    mean_iiou: float | None = None
    category_iou: float | None = None
    category_iiou: float | None = None
    remark: str = ""
    paper: str = ""
    source: str = ""


def published() -> list[Result]:
    """Read the published results.

    Returns
    -------
    list of Result
        The best first.
    """
    return rank([Result(**row) for row in json.loads(_PUBLISHED.read_text(encoding="utf-8"))])


def rank(results: list[Result]) -> list[Result]:
    """Sort results.

    Parameters
    ----------
    results : list of Result

    Returns
    -------
    list of Result
        By mean IoU, the best first, undefined ones last.
    """
    return sorted(results, key=lambda r: math.inf if r.mean_iou is None else -r.mean_iou)


def own_result(name: str, split: str, scores: dict[str, float | np.ndarray]) -> Result:
    """Make the line of one's own predictions.

    Parameters
    ----------
    name : str
    split : str
    scores : dict
        What `score_folder` gives.

    Returns
    -------
    Result
    """
    names = ("iou_classes", "iiou_classes", "iou_categories", "iiou_categories")
    values = (_defined(100 * scores[f"mean_{n}"]) for n in names)
    return Result(name, split, *values, source="your predictions")


def result_rows(results: list[Result]) -> list[list[str]]:
    """Write results as the rows of a table.

    Parameters
    ----------
    results : list of Result

    Returns
    -------
    list of list of str
        Titles first.
    """
    titles = ("mean IoU", "mean iIoU", "category IoU", "category iIoU")
    rows = [["method", "images", *titles, "remark", "paper", "figures from"]]
    for r in results:
        scores = (r.mean_iou, r.mean_iiou, r.category_iou, r.category_iiou)
        rows.append([r.method, r.split, *map(score_text, scores), r.remark, r.paper, r.source])
    return rows


def class_rows(scores: dict[str, float | np.ndarray]) -> list[list[str]]:
    """Write the scores of classes and categories as the rows of a table.

    Parameters
    ----------
    scores : dict
        What `score_folder` gives.

    Returns
    -------
    list of list of str
        Titles first.
    """
    rows = [["class", "category", "IoU", "iIoU"]]
    category_of = {label.name: label.category for label in LABELS}
    places = {
        "class": [(name, category_of[name]) for name in CLASSES],
        "category": [("all of it", name) for name in CATEGORIES],
    }
    for kind, names in places.items():
        for name, *values in zip(names, scores[f"iou_per_{kind}"], scores[f"iiou_per_{kind}"]):
            rows.append([*name, *(score_text(_defined(100 * value)) for value in values)])
    return rows


def to_json(n_images: int, scores: dict[str, float | np.ndarray], results: list[Result]) -> str:
    """Write scores and results as JSON, with null for what is not defined.

    Parameters
    ----------
    n_images : int
    scores : dict
        What `score_folder` gives; they stay shares of 1.
    results : list of Result
        In per cent.

    Returns
    -------
    str
    """
    content: dict[str, object] = {"images": n_images}
    for key, value in scores.items():
        if key.startswith("mean"):
            content[key] = _defined(value)
        else:
            names = CLASSES if key.endswith("class") else CATEGORIES
            content[key] = {name: _defined(v) for name, v in zip(names, value)}
    return json.dumps({**content, "results": [asdict(result) for result in results]})


def _defined(value: float) -> float | None:
    return None if math.isnan(value) else float(value)


def score_text(score: float | None) -> str:
    """Write a score in per cent.

    Parameters
    ----------
    score : float or None

    Returns
    -------
    str
    """
    return "–" if score is None else f"{score:.1f}"


def score_folder(
    predictions: Path,
    *,
    root: str | Path | None = None,
    split: str = "val",
    ids: str = "label",
    on_start: Callable[[int], object] = lambda n_images: None,
    on_image: Callable[[], object] = lambda: None,
) -> tuple[int, dict[str, float | np.ndarray]]:
    """Score the predictions for all images of a split.

    Parameters
    ----------
    predictions : path
        A folder of PNG files, in subfolders or not, whose names begin with city, sequence and
        frame, as the evaluation server takes them. Those of other splits are left out.
    root : path, optional
        Where the data set is, as for `segalgos.datasets.cityscapes.load`. Images are not needed.
    split : {"val", "train"}
        The labels of test are secret.
    ids : {"label", "train"}
        What the files hold. Of train ids, 255 is no answer.
    on_start, on_image : callable
        Called with the number of images; called, from any thread, when one is counted.

    Returns
    -------
    n_images : int
    scores : dict
        As `segalgos.metrics.cityscapes_scores`.

    Raises
    ------
    FileNotFoundError
        If there is no such folder, an image has no prediction, or the data set is not here.
    ValueError
        If an image has two predictions, one is damaged or of another size, or the files do
        not hold what `ids` says.
    """
    check_choice("cityscapes", "ids", ids, ("label", "train"))
    if split == "test":
        raise ValueError(
            "cityscapes: the labels of test are secret: score split 'val' here, and upload those "
            "of test, as label ids, to https://www.cityscapes-dataset.com."
        )
    check_choice("cityscapes", "split", split, ("val", "train"))
    truths = label_files(split=split, root=root)
    if not truths:
        raise FileNotFoundError(
            f"cityscapes: there is no label file of {split}: get the whole set."
        )
    found = _find_predictions(Path(predictions))
    missing = [name for name in map(scene_name, truths) if name not in found]
    if missing:
        raise FileNotFoundError(
            f"cityscapes: {len(missing)} of the {len(truths)} images of {split} have no "
            f"prediction in {predictions}, such as {missing[0]}.png: predict them all."
        )
    on_start(len(truths))

    def count(truth: Path) -> CityscapesCounts:
        counts = _count(found[scene_name(truth)], truth, ids)
        on_image()
        return counts

    counts = map_items(count, truths)
    if ids == "label" and not any(c.pixels[:, len(CLASSES) :].any() for c in counts):
        raise ValueError(
            f"cityscapes: no prediction in {predictions} holds an id above {len(CLASSES) - 1}, as "
            "label ids of cars, persons or the sky are: these are train ids, pass ids='train'."
        )
    return len(truths), cityscapes_scores_from_counts(counts)


def _find_predictions(folder: Path) -> dict[str, Path]:
    """The prediction of each scene."""
    if not folder.is_dir():
        raise FileNotFoundError(f"cityscapes: {folder} is no folder: name that of the predictions.")
    found: dict[str, Path] = {}
    for path in sorted(folder.rglob("*.png")):
        try:
            name = scene_name(path)
        except ValueError:
            continue  # another picture
        if name in found:
            raise ValueError(
                f"cityscapes: {found[name]} and {path} are both predictions of {name}: "
                "leave one of them."
            )
        found[name] = path
    return found


def _count(prediction: Path, truth: Path, ids: str) -> CityscapesCounts:
    predicted = read_labels(prediction)
    try:
        if ids == "train":
            predicted = to_label_ids(np.where(predicted == 255, -1, predicted))
        return cityscapes_counts(
            predicted, read_labels(truth), read_labels(instance_file(truth)), ids="label"
        )
    except ValueError as error:
        raise ValueError(f"cityscapes: {prediction} and {truth.name}: {error}") from error
