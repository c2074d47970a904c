"""Small images: what a warmed call costs on 8 x 8 pixels, where there is next to no work.

    python benchmarks/peers/small.py --out FOLDER

The time on 8 x 8 pixels is the overhead of a call: checks, hand-over to threads, allocations. The
time on 256 x 256 is given beside it.
"""

from __future__ import annotations

import argparse

import numpy as np
from measure import Task, main

import segalgos

SIZES = {"8 x 8": "8", "256 x 256": "256"}


def load_image(side):
    """The middle of a picture of scikit-image, and a part of it to warm up with."""
    from skimage import data

    side, image = int(side), data.astronaut()
    first = (len(image) - side) // 2
    image = np.ascontiguousarray(image[first : first + side, first : first + side])
    return image, image


def images(arguments):
    """Size -> what `load_image` understands."""
    return SIZES


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """This script has no options of its own."""


def with_seeds(image):
    """An image and a seed of each of two labels."""
    seeds = np.full(image.shape[:2], -1, np.int32)
    seeds[0, 0], seeds[-1, -1] = 0, 1
    return image, seeds


def count_segments(_, labels):
    """Number of ids."""
    return {"segments": len(np.unique(labels))}


def number_of(image):
    """A segment for some 400 pixels."""
    return max(4, image[..., 0].size // 400)


PLAIN = {
    "k-means": lambda image: segalgos.kmeans(image, 4, random_state=0),
    "Gaussian mixture": lambda image: segalgos.gaussian_mixture(image, 3, random_state=0),
    "mean shift": segalgos.mean_shift,
    "SLIC": lambda image: segalgos.slic(image, number_of(image)),
    "ETPS": lambda image: segalgos.etps(image, number_of(image)),
    "Felzenszwalb": segalgos.felzenszwalb,
    "watershed": segalgos.watershed,
    "normalized cuts": lambda image: segalgos.normalized_cuts(image, n_segments=4),
}
SEEDED = {
    "random walker": lambda inputs: segalgos.random_walker(*inputs),
    "graph cut": lambda inputs: segalgos.graph_cut(*inputs),
    "GrabCut": lambda inputs: segalgos.grab_cut(inputs[0], seeds=inputs[1]),
}
TASKS = [
    Task(name, prepare, {"segalgos": call}, count_segments, {}, tuple(SIZES))
    for prepare, calls in ((lambda image: image, PLAIN), (with_seeds, SEEDED))
    for name, call in calls.items()
]

if __name__ == "__main__":
    main(__file__, TASKS, load_image, images, ("numpy", "numba"), add_arguments)
