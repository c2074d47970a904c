"""Pixel features against the packages a user would otherwise pick.

    pip install 'segalgos[peers]'
    python benchmarks/peers/pixels.py --photo PHOTO --data DATA --out FOLDER

PHOTO is any photograph of at least 2048 x 2048 pixels, of which the middle is taken; without it a
picture of scikit-image is enlarged. DATA is the folder that holds BSDS500; without it the small
image is a part of a picture of scikit-image.
"""

from __future__ import annotations

import argparse

import numpy as np
from measure import Task, main

import segalgos
from segalgos import datasets
from segalgos.parallel import n_threads
from segalgos.pixels.features import feature_names

PHOTO = (2048, 2048)
SMALL = (321, 481)
PACKAGES = ("numpy", "scipy", "numba", "scikit-image")


# --- images ------------------------------------------------------------------------------


def middle(image, shape):
    """The part of that shape, at most, around an image's middle."""
    starts = [max(0, (have - want) // 2) for have, want in zip(image.shape, shape)]
    return np.ascontiguousarray(
        image[tuple(slice(start, start + want) for start, want in zip(starts, shape))]
    )


def load_image(text):
    """An image and a small one of the same kind."""
    kind, _, path = text.partition(":")
    if kind == "small":
        image = datasets.load("bsds500", root=path, split="val")[0].image
    elif kind == "photo":
        image = middle(segalgos.read_image(path), PHOTO)
        if image.shape != (*PHOTO, 3):
            raise ValueError(f"pixels: {path} is {image.shape}, expected at least {PHOTO}.")
    else:
        from skimage import data, transform

        image = middle(data.coffee(), SMALL)
        if kind == "enlarged":
            image = np.round(transform.resize(image, PHOTO, order=1) * 255).astype(np.uint8)
    return image, middle(image, (96, 128))


def images(arguments):
    """Size -> what `load_image` understands."""
    return {
        "photo": f"photo:{arguments.photo}" if arguments.photo else "enlarged:",
        "small": f"small:{arguments.data}" if arguments.data else "part:",
    }


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of this script."""
    parser.add_argument("--photo", help="a photograph of at least 2048 x 2048 pixels")
    parser.add_argument("--data", help="folder that holds BSDS500")


# --- features ----------------------------------------------------------------------------

SIGMAS = (0.5, 1, 2, 4, 8, 16)
KINDS = ("gaussian", "gradient", "hessian")


def features_ours(image):
    """Features by segalgos: those of a scale beside one another."""
    return segalgos.pixel_features(image, SIGMAS, features=KINDS, per_channel=True)


def features_skimage(image):
    """The same by scikit-image: those of a channel beside one another, white is 1."""
    from skimage.feature import multiscale_basic_features

    return multiscale_basic_features(image, workers=n_threads(), channel_axis=-1)


def features_error(image, features):
    """Largest difference to scikit-image, relative to the range of each feature."""
    reference = features_skimage(image)
    if np.array_equal(features, reference):
        return {"error/range": 0.0}
    names = feature_names(3, SIGMAS, features=KINDS, per_channel=True)
    same = [
        names.index(f"{kind}[{channel}] {sigma:g}")
        for channel in range(3)
        for sigma in SIGMAS
        for kind in ("gaussian", "gradient", "hessian0", "hessian1")
    ]
    errors = [
        np.abs(features[..., ours] / 255 - reference[..., theirs]).max()
        / np.ptp(reference[..., theirs])
        for theirs, ours in enumerate(same)
    ]
    return {"error/range": float(max(errors))}


FEATURES = Task(
    "multiscale features",
    lambda image: image,
    {"segalgos": features_ours, "scikit-image": features_skimage},
    features_error,
    {"scikit-image": (5, 10)},
)


TASKS = [FEATURES]

if __name__ == "__main__":
    main(__file__, TASKS, load_image, images, PACKAGES, add_arguments)
