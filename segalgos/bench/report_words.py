"""What the report says in plain words: views, notes, scores, and how numbers are written."""

from __future__ import annotations

import math
from dataclasses import dataclass

__all__ = [
    "MARKS",
    "NOTES",
    "VIEWS",
    "Word",
    "count",
    "duration",
    "explain",
    "interval",
    "megabytes",
    "number",
]


NOTHING = "\N{EN DASH}"  # in place of a value that is not there


@dataclass(frozen=True)
class Word:
    """A name for people.

    Parameters
    ----------
    title : str
        As written over a column.
    meaning : str
        One or two sentences.
    lower_is_better : bool, default=False
    """

    title: str
    meaning: str
    lower_is_better: bool = False


VIEWS = {
    "partition": Word(
        "Partition",
        "Only the regions count, not what they are called: any output can be seen as a partition.",
    ),
    "semantic": Word("Semantic", "Every pixel gets a class, and the classes count."),
    "instance": Word("Instances", "Every object counts on its own, found whole or not."),
}

NOTES = {
    "oracle": "each region gets its best true class; an upper bound, which no prediction without "
    "the truth can claim",
    "connected components": "each connected piece of a class counts as one region or object",
    "one dab in each true region": "the method waits for a person; a simulated one, who knows the "
    "truth, touched each of its regions or classes once with a brush of 5 pixels radius where it "
    "is thickest (with several annotators, the first one's)",
    "basins between learned contours": "the method learned where people draw contours; the basins "
    "between its contours are the regions",
}

#: What is in pictures besides colours.
MARKS = {
    "scores": "The number at an object says how sure the method is of it; surer objects lie on "
    "top. Among many objects there is room for some of the numbers only.",
    "prompts": "Dots with a white and a black rim are where the simulated user touched the image, "
    "in the colour of the class or region there, or white where nothing is coloured.",
}

SCORES = {
    "predict_seconds": Word("time an image", "", lower_is_better=True),
    "covering": Word(
        "covering",
        "Each true region takes its best IoU with any region of the output; the mean of these, "
        "weighted by area, over the regions of all annotators, then over images.",
    ),
    "probabilistic_rand_index": Word(
        "Rand index",
        "Share of the pairs of pixels that output and truth treat alike, together or apart; mean "
        "over annotators and images.",
    ),
    "adjusted_rand_index": Word(
        "adj. Rand",
        "Rand index corrected for chance: 1 for equal partitions, about 0 for independent ones.",
    ),
    "variation_of_information": Word(
        "VoI",
        "Variation of information in bits: what the output does not tell of the truth and the "
        "other way round. The sum of the next two.",
        lower_is_better=True,
    ),
    "voi_oversegmentation": Word(
        "VoI over",
        "The part of the variation of information that comes from cutting regions into pieces.",
        lower_is_better=True,
    ),
    "voi_undersegmentation": Word(
        "VoI under",
        "The part of it that comes from merging regions.",
        lower_is_better=True,
    ),
    "boundary_recall": Word(
        "boundary recall",
        "Share of the true boundary pixels with a boundary of the output within .0025 of the "
        "diagonal; mean over annotators and images. Many small regions find every boundary.",
    ),
    "undersegmentation_error": Word(
        "underseg. error",
        "Area by which regions of the output leak over true regions, the smaller of the parts "
        "inside and outside, as a share of the image (Neubert and Protzel).",
        lower_is_better=True,
    ),
    "achievable_segmentation_accuracy": Word(
        "achievable acc.",
        "Share of pixels that are right if each region takes its most frequent true region.",
    ),
    "explained_variation": Word(
        "expl. variation",
        "Share of the image's variance of colours that the regions' mean colours explain.",
    ),
    "compactness": Word(
        "compactness",
        "Area over that of a circle of the same perimeter, averaged over pixels; .785 for squares.",
    ),
    "n_regions": Word("regions", "Number of regions of the output; mean over images."),
    "mean_iou_dataset": Word(
        "mean IoU",
        "Intersection over union of each class, from the pixels of all images together; mean over "
        "the classes that are there.",
    ),
    "mean_iou_images": Word(
        "IoU by image",
        "The mean over classes of one image's IoU; mean over images.",
    ),
    "mean_dice_dataset": Word(
        "Dice", "As mean IoU, with twice the intersection over the sum of both areas."
    ),
    "mean_dice_images": Word("Dice by image", "The Dice score of one image; mean over images."),
    "pixel_accuracy": Word("pixel acc.", "Correct pixels of all images over all their pixels."),
    "mean_class_accuracy": Word(
        "class acc.", "Share of each true class's pixels that is found; mean over classes."
    ),
    "frequency_weighted_iou": Word(
        "weighted IoU", "IoU of each class weighted by the class's share of the true pixels."
    ),
    "mean_matching_ap": Word(
        "matching AP",
        "Objects are matched one to one at an IoU threshold: TP / (TP + FP + FN) of all images "
        "together; mean over the thresholds 0.50 to 0.95. Not COCO's AP.",
    ),
    "mean_matching_ap_images": Word(
        "AP by image", "The matching AP of one image; mean over images."
    ),
    "matching_ap_50": Word("AP50", "Matching AP at an IoU of 0.50."),
    "matching_ap_75": Word("AP75", "Matching AP at an IoU of 0.75."),
    "precision_50": Word("precision50", "Share of the predicted objects that match, at IoU 0.50."),
    "recall_50": Word("recall50", "Share of the true objects that are matched, at IoU 0.50."),
    "f1_50": Word("F1 50", "Harmonic mean of precision and recall at an IoU of 0.50."),
    "panoptic_quality_50": Word(
        "PQ50", "F1 at an IoU of 0.50 times the mean IoU of the matched objects."
    ),
}


def explain(words: dict[str, Word], name: str) -> Word:
    """Look a name up; an unknown one stands for itself.

    Parameters
    ----------
    words : dict of str to Word
    name : str

    Returns
    -------
    Word
    """
    return words.get(name) or Word(name.replace("_", " "), "")


def number(value: float | None) -> str:
    """Write a score: three decimals, fewer above 10, a dash for nothing.

    Parameters
    ----------
    value : float or None

    Returns
    -------
    str
    """
    if value is None or math.isnan(value):
        return NOTHING
    size = abs(value)
    return f"{value:.{3 if size < 10 else 1 if size < 100 else 0}f}"


def interval(bounds: tuple[float, float] | None) -> str:
    """Write a 95 % interval.

    Parameters
    ----------
    bounds : (low, high) or None

    Returns
    -------
    str
        Empty for None.
    """
    return "" if bounds is None else f"{number(bounds[0])} to {number(bounds[1])}"


def duration(seconds: float | None) -> str:
    """Write a duration in a unit that suits it.

    Parameters
    ----------
    seconds : float or None

    Returns
    -------
    str
    """
    if seconds is None or math.isnan(seconds):
        return NOTHING
    if seconds < 0.9995:
        millis = seconds * 1000
        return f"{millis:.{0 if millis >= 99.5 else 1 if millis >= 9.95 else 2}f} ms"
    if seconds < 120:
        return f"{seconds:.{0 if seconds >= 99.5 else 1 if seconds >= 9.95 else 2}f} s"
    minutes = seconds / 60
    return f"{minutes:.1f} min" if minutes < 120 else f"{minutes / 60:.1f} h"


def megabytes(value: float | None) -> str:
    """Write an amount of memory.

    Parameters
    ----------
    value : float or None
        In units of 10**6 bytes.

    Returns
    -------
    str
    """
    if value is None:
        return NOTHING
    return f"{value:.0f} MB" if value < 9999.5 else f"{value / 1000:.1f} GB"


def count(value: int | None) -> str:
    """Write a large whole number shortly.

    Parameters
    ----------
    value : int or None

    Returns
    -------
    str
    """
    if value is None:
        return NOTHING
    for size, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= size * 0.9995:
            return f"{value / size:.3g} {unit}"
    return str(value)
