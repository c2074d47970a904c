"""BSDS500's scores of contours and of hierarchies: the time for 100 images at 99 levels.

    python benchmarks/peers/bsds.py --data DATA --out FOLDER

DATA is the folder that holds BSDS500, of which val is taken. Contours are the gradient of the
smoothed image, over its maximum, without suppression: at low thresholds there are tens of
thousands of boundary pixels in an image, more than any method leaves. Hierarchies are superpixels
that are merged by the difference of their mean colours. Both are made before the clock starts.
There is no other package here: the official evaluation is a MATLAB program, whose C++ solver takes
.05 to .3 s for one pair of maps; here are some 50,000.
"""

from __future__ import annotations

import argparse

import numpy as np
from measure import Task, main
from scipy import ndimage

import segalgos
from segalgos import datasets, metrics


def load_image(path):
    """All samples of val, and one of them."""
    val = datasets.load("bsds500", root=path, split="val")
    return list(val), [val[0]]


def images(arguments):
    """The only size."""
    return {"100 val images": arguments.data}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of this script."""
    parser.add_argument("--data", required=True, help="folder that holds BSDS500")


def gradients(samples):
    """Contours and annotations."""
    contours = []
    for sample in samples:
        grey = sample.image.astype(np.float64).mean(axis=2)
        gradient = ndimage.gaussian_gradient_magnitude(grey, 2.0)
        contours.append(gradient / gradient.max())
    return contours, [sample.annotations for sample in samples]


def hierarchies(samples):
    """Double-sized contour maps and annotations."""
    maps = []
    for sample in samples:
        labels = segalgos.slic(sample.image, 1000)
        graph = segalgos.region_graph(labels, sample.image)
        ucm = graph.hierarchy().ucm()
        maps.append(ucm / ucm.max())
    return maps, [sample.annotations for sample in samples]


def boundaries_ours(inputs):
    """Scores of boundaries."""
    return metrics.boundary_scores(*inputs)


def hierarchies_ours(inputs):
    """Scores of boundaries and of regions."""
    return metrics.evaluate_hierarchies(*inputs, double_sized=True)


def regions_ours(inputs):
    """Scores of regions."""
    return metrics.level_scores(*inputs, double_sized=True)


def figures(*names):
    """Some of the scores."""
    return lambda _, scores: {name: scores[name] for name in names}


SIZES = ("100 val images",)
TASKS = [
    Task(
        "contours",
        gradients,
        {"segalgos": boundaries_ours},
        figures("ods", "ois", "ap"),
        sizes=SIZES,
    ),
    Task(
        "hierarchies",
        hierarchies,
        {"segalgos": hierarchies_ours},
        figures("ods", "ois", "ap", "covering_ods", "pri_ods", "voi_ods"),
        sizes=SIZES,
    ),
    Task(
        "regions of hierarchies",
        hierarchies,
        {"segalgos": regions_ours},
        figures("covering_ods", "covering_ois", "covering_best", "pri_ods", "voi_ods"),
        sizes=SIZES,
    ),
]

if __name__ == "__main__":
    main(__file__, TASKS, load_image, images, ("numpy", "scipy", "numba"), add_arguments)
