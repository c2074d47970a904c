"""Images of 100 megapixels: time and memory of the methods that are made for them.

    python benchmarks/peers/large.py --photo PHOTO --out FOLDER

The photograph is repeated, mirrored, up to 10,000 x 10,000 pixels.
"""

from __future__ import annotations

import argparse

import numpy as np
from measure import Task, main

import segalgos

SIDE = 10_000


def load_image(path):
    """The large image, and a small part of it."""
    image = segalgos.read_image(path)[..., :3]
    pad = [(0, max(0, SIDE - n)) for n in image.shape[:2]]
    image = np.pad(image, [*pad, (0, 0)], mode="symmetric")[:SIDE, :SIDE]
    return np.ascontiguousarray(image), np.ascontiguousarray(image[:256, :256])


def images(arguments):
    """The only size."""
    return {"100 Mpx": arguments.photo}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of this script."""
    parser.add_argument("--photo", required=True, help="any photograph")


def count_segments(_, labels):
    """Number of ids."""
    return {"segments": int(labels.max()) + 1}


CALLS = {
    "k-means": lambda image: segalgos.kmeans(image, 8, random_state=0),
    "SLIC": lambda image: segalgos.slic(image, 20_000),
    "Felzenszwalb": segalgos.felzenszwalb,
    "watershed": segalgos.watershed,
}
TASKS = [
    Task(name, lambda image: image, {"segalgos": call}, count_segments, {}, ("100 Mpx",))
    for name, call in CALLS.items()
]

if __name__ == "__main__":
    main(__file__, TASKS, load_image, images, ("numpy", "numba"), add_arguments)
