"""Hierarchies of contours against higra, eigenvectors of pixels against ARPACK.

    pip install higra
    python benchmarks/peers/contours.py --data DATA --out FOLDER

DATA is the folder that holds BSDS500, whose first validation image is taken; without it a part of
a picture of scikit-image of the same size. The strength of contours is given: both make basins,
weigh arcs in their orientation, merge and draw the double-sized map. higra is used where it is
installed.

The graph of pixels is that of gPb: neighbours up to 5 apart, tied across thinned contours. Both
solvers get the same weights, ours as planes of float32, scipy's eigsh as a sparse matrix of
float64, and the same tolerance. Of both the largest residual is computed anew with that matrix, and
the sum of the 16 eigenvalues, which is the higher the nearer vectors are to the leading ones.

A picture of 10 megapixels, the image mirrored again and again, shows what memory normalized cuts on
pixels take.
"""

from __future__ import annotations

import argparse
import importlib.util

import numpy as np
from measure import Task, main
from scipy import sparse
from scipy.sparse.linalg import eigsh

import segalgos
from segalgos import datasets
from segalgos.spectral.affinity import disc_offsets, pixel_graph
from segalgos.spectral.eigenvectors import leading_eigenvectors

SHAPE = (321, 481)
LARGE = (2592, 3888)
PACKAGES = ("numpy", "numba", "higra", "scipy")
N_EIGENVECTORS, TOL = 16, 1e-3


def load_image(text):
    """An image of BSDS500's size, and a part of it to warm up with."""
    kind, _, path = text.partition(":")
    large = kind.startswith("large-")
    kind = kind.removeprefix("large-")
    if kind == "bsds500":
        image = datasets.load("bsds500", root=path, split="val")[0].image
    else:
        from skimage import data

        image = np.ascontiguousarray(data.coffee()[: SHAPE[0], : SHAPE[1]])
    part = np.ascontiguousarray(image[:96, :128])
    if large:
        rest = [(0, size - have) for size, have in zip(LARGE, image.shape[:2], strict=True)]
        image = np.pad(image, [*rest, (0, 0)], mode="symmetric")
    return image, part


def images(arguments):
    """Size -> what `load_image` understands."""
    text = f"bsds500:{arguments.data}" if arguments.data else "part:"
    return {"481 x 321": text, "3888 x 2592": f"large-{text}"}


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


def forest_at_one_scale(image):
    """Contours by the trees that come with segalgos."""
    return segalgos.structured_forest_contours(image, scales=(1,))


def forest_at_three_scales(image):
    """The same at half, whole and twice the size."""
    return segalgos.structured_forest_contours(image)


def count_segments(_, labels):
    """Number of ids."""
    return {"segments": len(np.unique(labels))}


def pixel_graphs(image):
    """The graph of pixels, and its normalized matrix with the degrees."""
    thin = segalgos.non_maximum_suppression(segalgos.multiscale_pb(image))
    graph = pixel_graph(disc_offsets(5), np.ones(thin.shape, bool), contours=thin)
    weights = graph.to_sparse()
    degree = weights.sum(axis=1)
    scale = sparse.diags_array(1 / np.sqrt(degree))
    return graph, (scale @ weights @ scale).tocsr(), degree


def eigenvectors_ours(inputs):
    """Unit eigenvectors and eigenvalues of the normalized matrix by segalgos."""
    graph, _, degree = inputs
    found = leading_eigenvectors(graph, N_EIGENVECTORS, TOL)[0]
    vectors = found.vectors.reshape(N_EIGENVECTORS, -1) * np.sqrt(degree)
    return 1 - found.values, vectors.T


def eigenvectors_scipy(inputs):
    """The same by ARPACK, from the same start whenever it runs."""
    start = np.random.default_rng(0).random(len(inputs[2]))
    return eigsh(inputs[1], N_EIGENVECTORS, which="LA", tol=TOL, v0=start)


def check_eigenvectors(inputs, found):
    """Largest residual, and sum of the eigenvalues."""
    values, vectors = found
    residuals = np.linalg.norm(inputs[1] @ vectors - vectors * values, axis=0)
    return {"residual": float(residuals.max()), "sum of eigenvalues": float(values.sum())}


def cuts_ours(image):
    """Eight segments by normalized cuts on pixels."""
    return segalgos.normalized_cuts(image, 8, nodes="pixels", method="k_way")


SIZES = ("481 x 321",)
UCM = {"segalgos": ucm_ours}
if importlib.util.find_spec("higra"):
    UCM["higra"] = ucm_higra
TASKS = [
    Task("UCM from contours", strengths, UCM, share_of_contours, {"higra": (1, 2)}, SIZES),
    Task(
        "UCMSegmenter", lambda image: image, {"segalgos": segmenter_ours}, count_segments, {}, SIZES
    ),
    Task(
        "structured forest at one scale",
        lambda image: image,
        {"segalgos": forest_at_one_scale},
        share_of_contours,
        {},
        SIZES,
    ),
    Task(
        "structured forest at three scales",
        lambda image: image,
        {"segalgos": forest_at_three_scales},
        share_of_contours,
        {},
        SIZES,
    ),
    Task(
        "16 eigenvectors of pixels",
        pixel_graphs,
        {"segalgos": eigenvectors_ours, "scipy": eigenvectors_scipy},
        check_eigenvectors,
        {"scipy": (10, 30)},
        SIZES,
    ),
    Task(
        "normalized cuts on pixels",
        lambda image: image,
        {"segalgos": cuts_ours},
        count_segments,
        {},
        ("481 x 321", "3888 x 2592"),
    ),
]

if __name__ == "__main__":
    main(__file__, TASKS, load_image, images, PACKAGES, add_arguments)
