"""Prediction of a support vector machine, ours and scikit-learn's, from the same support vectors.

python benchmarks/peers/pixels_svm.py --out FOLDER
"""

from __future__ import annotations

import argparse
from functools import cache

import numpy as np
from classical import SMALL, middle
from measure import Task, main

from segalgos import pixel_features
from segalgos.pixels._kernel_machine import KernelMachine

PACKAGES = ("numpy", "scikit-image", "scikit-learn")
SCALES = (1, 2, 4, 8)
N_LEARNED = 4000
N_ROWS = 100_000  # scikit-learn takes minutes for a million


def load_image(text):
    """The middle of a picture of scikit-image, and a small part to warm up with."""
    from skimage import data

    image = middle(data.coffee(), SMALL)
    return image, middle(image, (40, 60))


def images(arguments):
    """Size -> what `load_image` understands."""
    return {"small": "coffee"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """This script has no options of its own."""


@cache
def machines():
    """A machine fitted by libsvm, and its support vectors taken over."""
    from sklearn.svm import SVC

    image, _ = load_image("coffee")
    rows = standardised(image)
    rng = np.random.default_rng(0)
    chosen = rng.choice(len(rows), N_LEARNED, replace=False)
    # Three shades of the smoothed image, blurred by chance: about half are support vectors.
    shade = rows[:, 0] + rng.normal(0, 0.5, len(rows)).astype(np.float32)
    shades = np.digitize(shade, np.quantile(shade, [1 / 3, 2 / 3]))
    svc = SVC(gamma=1 / rows.shape[1]).fit(rows[chosen], shades[chosen])
    return svc, KernelMachine.from_svc(svc)


def standardised(image):
    """Features of all pixels with mean 0 and deviation 1, (n, F) float32."""
    rows = pixel_features(image, SCALES).reshape(image[..., 0].size, -1)
    return np.ascontiguousarray((rows - rows.mean(axis=0)) / rows.std(axis=0))


def svm_inputs(image):
    """The machines, and rows to classify."""
    return *machines(), standardised(image)[:N_ROWS]


def svm_ours(inputs):
    """Labels by segalgos."""
    _, machine, rows = inputs
    return machine.predict(rows)


def svm_sklearn(inputs):
    """Labels by scikit-learn."""
    svc, _, rows = inputs
    return svc.predict(rows)


def agreement(inputs, labels):
    """Share of a sample that has libsvm's label, and the number of support vectors."""
    svc, _, rows = inputs
    part = slice(None, None, max(1, len(rows) // 20_000))
    same = float((svc.predict(rows[part]) == labels[part]).mean())
    return {"as libsvm": same, "vectors": len(svc.support_vectors_)}


SVM = Task(
    "RBF SVM prediction",
    svm_inputs,
    {"segalgos": svm_ours, "scikit-learn": svm_sklearn},
    agreement,
    {"scikit-learn": (20, 60)},
    ("small",),
)

if __name__ == "__main__":
    main(__file__, [SVM], load_image, images, PACKAGES, add_arguments)
