"""Pixel classifiers against scikit-image's trainable segmenter and scikit-learn's classifiers.

    pip install 'segalgos[peers]'
    python benchmarks/peers/pixels.py --photo PHOTO --data DATA --out FOLDER

PHOTO is any photograph of at least 2048 x 2048 pixels, of which the middle is taken; without it a
picture of scikit-image is enlarged. DATA is the folder that holds BSDS500; without it the small
image is a part of a picture of scikit-image. Classes come from the photograph by a rule of colour
and texture (see `true_classes`), and one label in ten is wrong, so that trees grow deep.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import numpy as np
from classical import SMALL, middle
from measure import Task, main

import segalgos
from segalgos import datasets
from segalgos.parallel import n_threads
from segalgos.pixels._kernel_machine import KernelMachine
from segalgos.pixels.features import feature_names
from segalgos.pixels.forest import RandomForest

SIDE = 2048  # 4 megapixels
PACKAGES = ("numpy", "scipy", "numba", "scikit-image", "scikit-learn")


# --- images ------------------------------------------------------------------------------


def load_image(text):
    """An image and a small one of the same kind."""
    kind, _, path = text.partition(":")
    if kind == "small":
        image = datasets.load("bsds500", root=path, split="val")[0].image
    elif kind == "part":
        from skimage import data

        image = middle(data.coffee(), SMALL)
    else:
        image = photograph(path)
        if kind == "1 Mpx":
            image = middle(image, (1024, 1024))
        if kind == "100 Mpx":
            image = np.tile(image, (5, 5, 1))[:10_000, :10_000]
    return image, middle(image, (128, 160))


def photograph(path):
    """The middle of a photograph, or of an enlarged picture of scikit-image."""
    if path:
        image = middle(segalgos.read_image(path), (SIDE, SIDE))
        if image.shape != (SIDE, SIDE, 3):
            raise ValueError(f"pixels: {path} is {image.shape}, expected at least {SIDE} a side.")
        return image
    from skimage import data, transform

    image = transform.resize(data.coffee(), (SIDE, SIDE), order=1)
    return np.round(image * 255).astype(np.uint8)


def images(arguments):
    """Size -> what `load_image` understands."""
    found = {size: f"{size}:{arguments.photo or ''}" for size in ("4 Mpx", "1 Mpx", "100 Mpx")}
    return found | {"small": f"small:{arguments.data}" if arguments.data else "part:"}


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
    ("4 Mpx", "small"),
)


# --- forests -----------------------------------------------------------------------------

N_TREES = 100
N_ROWS = 100_000
N_HELD_OUT = 50_000
WRONG = 0.1  # of the labels


def true_classes(image):
    """Four classes of pixels: dark or bright at a large scale, smooth or rough at a middle one."""
    grey = image.mean(axis=-1, keepdims=True)
    values = segalgos.pixel_features(grey, (4, 12), features=("gaussian", "gradient"))
    bright, rough = values[..., 2], values[..., 1]
    return (bright > np.median(bright)) + 2 * (rough > np.median(rough)).astype(np.int32)


def rows_of(image, n, seed):
    """Features and labels of pixels drawn at random; one in ten labels is wrong."""
    rng = np.random.default_rng(seed)
    drawn = rng.choice(image[..., 0].size, min(n, image[..., 0].size // 2), replace=False)
    labels = true_classes(image).ravel()[drawn]
    wrong = rng.random(len(drawn)) < WRONG
    labels[wrong] = rng.integers(0, 4, wrong.sum())
    return features_ours(image).reshape(-1, 72)[drawn], labels


def fit_inputs(image):
    """Rows to learn from and rows held out."""
    rows, labels = rows_of(image, N_ROWS + N_HELD_OUT, 0)
    cut = len(rows) * N_ROWS // (N_ROWS + N_HELD_OUT)
    return rows[:cut], labels[:cut], rows[cut:], labels[cut:]


def fit_ours(inputs):
    """A forest of segalgos."""
    return RandomForest(N_TREES, random_state=0).fit(*inputs[:2])


def fit_sklearn(inputs):
    """A forest of scikit-learn."""
    from sklearn.ensemble import RandomForestClassifier

    return RandomForestClassifier(N_TREES, n_jobs=2, random_state=0).fit(*inputs[:2])


def held_out_accuracy(inputs, forest):
    """Accuracy on rows that were not learned from."""
    return {"held-out accuracy": float(forest.score(*inputs[2:]))}


FIT = Task(
    "forest fit",
    fit_inputs,
    {"segalgos": fit_ours, "scikit-learn": fit_sklearn},
    held_out_accuracy,
    {"scikit-learn": (8, 20)},
    ("4 Mpx",),
)


def prediction_inputs(image):
    """Both forests, learned from the same 25,000 rows, and all rows of the image."""
    few = rows_of(image, N_ROWS // 4, 0)
    return fit_ours(few), fit_sklearn(few), features_ours(image).reshape(-1, 72), image


def accuracy_of(inputs, proba):
    """Agreement with the rule, and how large the forests are."""
    truth = true_classes(inputs[3]).ravel()
    ours, theirs = inputs[:2]
    return {
        "accuracy": float((proba.argmax(axis=1) == truth).mean()),
        "nodes of ours": len(ours.features_),
        "of theirs": sum(tree.tree_.node_count for tree in theirs.estimators_),
    }


PREDICTION = Task(
    "forest prediction",
    prediction_inputs,
    {
        "segalgos": lambda inputs: inputs[0].predict_proba(inputs[2]),
        "scikit-learn": lambda inputs: inputs[1].predict_proba(inputs[2]),
    },
    accuracy_of,
    {"scikit-learn": (3, 8)},
    ("4 Mpx",),
)


# --- support vector machines -------------------------------------------------------------

N_LEARNED = 4000
N_CLASSIFIED = 100_000  # scikit-learn takes minutes for a million


def svm_inputs(image):
    """A machine fitted by libsvm, its support vectors taken over, and rows to classify."""
    from sklearn.svm import SVC

    rows = segalgos.pixel_features(image).reshape(image[..., 0].size, -1)
    rows = np.ascontiguousarray((rows - rows.mean(axis=0)) / rows.std(axis=0))
    drawn = np.random.default_rng(0).permutation(len(rows))
    chosen = drawn[: min(N_LEARNED, len(rows) // 4)]
    svc = SVC(gamma=1 / rows.shape[1]).fit(rows[chosen], true_classes(image).ravel()[chosen])
    return svc, KernelMachine.from_svc(svc), rows[drawn[-N_CLASSIFIED:]]


def svm_agreement(inputs, labels):
    """Share of a sample that has libsvm's label, and the number of support vectors."""
    svc, _, rows = inputs
    part = slice(None, None, max(1, len(rows) // 20_000))
    same = float((svc.predict(rows[part]) == labels[part]).mean())
    return {"as libsvm": same, "vectors": len(svc.support_vectors_)}


SVM = Task(
    "RBF SVM prediction",
    svm_inputs,
    {
        "segalgos": lambda inputs: inputs[1].predict(inputs[2]),
        "scikit-learn": lambda inputs: inputs[0].predict(inputs[2]),
    },
    svm_agreement,
    {"scikit-learn": (20, 60)},
    ("1 Mpx",),
)


# --- scribbles ---------------------------------------------------------------------------


def scribbles(image, n_pixels=5000):
    """Labels of the rule along lines, about so many pixels."""
    truth = true_classes(image)
    labels = np.full(truth.shape, -1, np.int32)
    n_lines = max(2, round(n_pixels * 8 / truth.shape[1]))
    rows = np.linspace(0, len(truth) - 1, n_lines + 2).astype(int)[1:-1]
    for i, row in enumerate(rows):  # an eighth of each line, here and there
        begin = (i * 37 % 8) * truth.shape[1] // 8
        part = slice(begin, begin + truth.shape[1] // 8)
        labels[row, part] = truth[row, part]
    return image, labels, truth


def forest_of_segments(random_state=0):
    """50 trees on the 72 channels."""
    return segalgos.RandomForestSegmenter(
        50,
        scales=SIGMAS,
        features=KINDS,
        per_channel=True,
        random_state=random_state,
    )


def scribble_ours(inputs):
    """Scribbles to labels by segalgos."""
    image, labels, _ = inputs
    return forest_of_segments().fit(image, labels).predict(image)


def scribble_skimage(inputs):
    """The same by scikit-image's trainable segmenter on scikit-learn's forest."""
    from skimage.future import TrainableSegmenter
    from sklearn.ensemble import RandomForestClassifier

    image, labels, _ = inputs
    forest = RandomForestClassifier(50, n_jobs=2, random_state=0)
    segmenter = TrainableSegmenter(clf=forest, features_func=features_skimage)
    segmenter.fit(image, labels + 1)  # there 0 is unlabelled
    return segmenter.predict(image) - 1


def agreement(inputs, labels):
    """Part of the pixels that get the rule's class."""
    return {"accuracy": float((labels == inputs[2]).mean())}


SCRIBBLE = Task(
    "scribble to result",
    scribbles,
    {"segalgos": scribble_ours, "scikit-image": scribble_skimage},
    agreement,
    {"scikit-image": (6, 15)},
    ("1 Mpx",),
)


def refit_inputs(image):
    """A segmenter that has learned, and its labels with one more scribble."""
    image, labels, truth = scribbles(image)
    segmenter = forest_of_segments().fit(image, labels)
    more = labels.copy()
    more[: len(more) // 3, len(more) // 2] = truth[: len(more) // 3, len(more) // 2]
    return image, segmenter, truth, more


def refit(inputs):
    """One more scribble, and the whole image again."""
    image, segmenter, _, more = inputs
    return segmenter.refit(0, more).predict(image)


REFIT = Task(
    "one more scribble",
    refit_inputs,
    {"segalgos": refit},
    agreement,
    {},
    ("1 Mpx",),
)


def save_and_load(inputs):
    """Write a model file and read it again."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.segalgos"
        inputs[1].save(path)
        segalgos.load(path)
        return path.stat().st_size


MODEL_FILE = Task(
    "model file",
    refit_inputs,
    {"segalgos": save_and_load},
    lambda _, size: {"megabytes": size / 1e6},
    {},
    ("1 Mpx",),
)


def large_inputs(image):
    """A segmenter of default features that learned from a corner, and a large image."""
    corner = np.ascontiguousarray(image[:1024, :1024])
    _, labels, _ = scribbles(corner)
    segmenter = segalgos.RandomForestSegmenter(50, cache_mb=0, random_state=0)
    return segmenter.fit(corner, labels), image


LARGE = Task(
    "large prediction",
    large_inputs,
    {"segalgos": lambda inputs: inputs[0].predict(inputs[1])},
    lambda _, labels: {"classes": len(np.unique(labels))},
    {},
    ("100 Mpx",),
)


TASKS = [FEATURES, FIT, PREDICTION, SVM, SCRIBBLE, REFIT, MODEL_FILE, LARGE]

if __name__ == "__main__":
    main(__file__, TASKS, load_image, images, PACKAGES, add_arguments)
