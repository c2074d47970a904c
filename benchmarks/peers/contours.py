"""Hierarchies of contours against higra.

    pip install higra
    python benchmarks/peers/contours.py --data DATA --out FOLDER

DATA is the folder that holds BSDS500, whose first validation image is taken; without it a part of
a picture of scikit-image of the same size. The strength of contours is given: both make basins,
weigh arcs in their orientation, merge and draw the double-sized map. higra is used where it is
installed.
"""

from __future__ import annotations

import argparse
import importlib.util

import numpy as np
from measure import Task, main

import segalgos
from segalgos import datasets

SHAPE = (321, 481)
PACKAGES = ("numpy", "numba", "higra")


def load_image(text):
    """An image of BSDS500's size, and a part of it to warm up with."""
    kind, _, path = text.partition(":")
    if kind == "bsds500":
        image = datasets.load("bsds500", root=path, split="val")[0].image
    else:
        from skimage import data

        image = np.ascontiguousarray(data.coffee()[: SHAPE[0], : SHAPE[1]])
    return image, np.ascontiguousarray(image[:96, :128])


def images(arguments):
    """Size -> what `load_image` understands."""
    return {"481 x 321": f"bsds500:{arguments.data}" if arguments.data else "part:"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of this script."""
    parser.add_argument("--data", help="folder that holds BSDS500")


def strengths(image):
    """Strength of contours in each orientation, the largest, and its orientation."""
    strength = segalgos.gradient_contours(image)
    orientation = strength.argmax(axis=0) * np.float32(np.pi / len(strength))
    return strength, strength.max(axis=0), orientation


def ucm_ours(inputs):
    """Double-sized map by segalgos, from all orientations."""
    return segalgos.contour_hierarchy(inputs[0]).ucm()


def ucm_higra(inputs):
    """Double-sized map by higra, from the strongest orientation."""
    import higra

    _, strength, orientation = inputs
    graph = higra.get_4_adjacency_graph(strength.shape)
    weights = higra.weight_graph(graph, strength, higra.WeightFunction.max)
    # It wants the direction across the contour, clockwise as one sees the image.
    sources, _ = graph.edge_list()
    across = (np.float32(np.pi / 2) - orientation.ravel()[sources]).astype(weights.dtype)
    tree, altitudes = higra.mean_pb_hierarchy(graph, weights, strength.shape, across)
    saliency = higra.saliency(tree, altitudes)
    return higra.graph_4_adjacency_2_khalimsky(graph, saliency, strength.shape, True)


def share_of_contours(inputs, contours):
    """Share of the places between pixels at which there is a contour."""
    return {"contours": float(np.count_nonzero(contours > 0) / contours.size)}


def segmenter_ours(image):
    """Labels by segalgos, contours and all."""
    return segalgos.UCMSegmenter().predict(image)


def count_segments(_, labels):
    """Number of ids."""
    return {"segments": len(np.unique(labels))}


SIZES = ("481 x 321",)
UCM = {"segalgos": ucm_ours}
if importlib.util.find_spec("higra"):
    UCM["higra"] = ucm_higra
TASKS = [
    Task("UCM from contours", strengths, UCM, share_of_contours, {"higra": (1, 2)}, SIZES),
    Task(
        "UCMSegmenter", lambda image: image, {"segalgos": segmenter_ours}, count_segments, {}, SIZES
    ),
]

if __name__ == "__main__":
    main(__file__, TASKS, load_image, images, PACKAGES, add_arguments)
