"""Learn how `segalgos.multiscale_pb` weighs its cues, from the training part of BSDS500.

    python benchmarks/training/multiscale_pb.py

Gradients of every third training image are computed, and their mean over all cues is thinned.
Of the pixels that are left, up to 3000 an image are drawn, each with its cues in the direction
in which their mean is largest. A pixel is a boundary by as many annotators as have one within
three pixels of it. Square roots of the cues go into a logistic regression; its weights are
printed as they stand in ``segalgos/contours/multiscale_pb.py``, and how well they and those of
the cues themselves predict the pixels of every fifth validation image.

The weights for grey images are learned in the same way from L and texture alone.
"""

from __future__ import annotations

import argparse

import numpy as np
from scipy.ndimage import distance_transform_edt
from sklearn.linear_model import LogisticRegression

from segalgos import datasets, non_maximum_suppression, pb_gradients

GREY = (0, 3)  # L and texture among the cues of a colour image
DISTANCE = 3.0  # pixels
PIXELS = 3000  # an image


def boundary_shares(annotations, rows, columns):
    """Share of annotators who have a boundary near each pixel."""
    shares = np.zeros(len(rows))
    for labels in annotations:
        boundary = np.zeros(labels.shape, bool)
        boundary[:, 1:] |= labels[:, 1:] != labels[:, :-1]
        boundary[1:] |= labels[1:] != labels[:-1]
        if boundary.any():
            distance = distance_transform_edt(~boundary)
            shares += distance[rows, columns] <= DISTANCE
    return shares / len(annotations)


def sample(strengths, annotations, rng):
    """Cues (n, n_cues * n_scales) and shares (n,) of thin pixels of one image."""
    cues = strengths.reshape(-1, *strengths.shape[2:])
    mean = cues.mean(axis=0)
    rows, columns = np.nonzero(non_maximum_suppression(mean))
    drawn = rng.permutation(len(rows))[:PIXELS]
    rows, columns = rows[drawn], columns[drawn]
    directions = mean.argmax(axis=0)[rows, columns]
    return cues[:, directions, rows, columns].T, boundary_shares(annotations, rows, columns)


def collect(split, step):
    """Samples of every `step`-th image of a part of BSDS500: with colour, without."""
    colour, grey = [], []
    rng = np.random.default_rng(0)
    dataset = datasets.load("bsds500", split=split)
    for index in range(0, len(dataset), step):
        image, annotations = dataset[index].image, dataset[index].annotations
        strengths = pb_gradients(image).strengths
        colour.append(sample(strengths, annotations, rng))
        grey.append(sample(strengths[list(GREY)], annotations, rng))
        print(f"{split} {index}", flush=True)
    return [tuple(map(np.concatenate, zip(*part, strict=True))) for part in (colour, grey)]


def learn(values, shares):
    """Weights and bias of a logistic regression on values of any size."""
    spread = values.std(axis=0)
    twice = np.concatenate([values, values]) / spread
    target = np.repeat([1, 0], len(values))
    model = LogisticRegression(max_iter=1000)
    model.fit(twice, target, sample_weight=np.concatenate([shares, 1 - shares]))
    return model.coef_[0] / spread, model.intercept_[0]


def log_loss(values, shares, weights, bias):
    """Mean of the negative logarithm of the probabilities that are given to the truth."""
    score = values @ weights + bias
    return (np.logaddexp(0, score) - shares * score).mean()


def main():
    """Print weights and losses."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--step", type=int, default=3, help="learn from every step-th image")
    arguments = parser.parse_args()
    train, val = collect("train", arguments.step), collect("val", 5)
    for name, seen, unseen in zip(("colour", "grey"), train, val, strict=True):
        for transform in (np.asarray, np.sqrt):
            weights, bias = learn(transform(seen[0]), seen[1])
            loss = log_loss(transform(unseen[0]), unseen[1], weights, bias)
            print(name, transform.__name__, f"log loss on val {loss:.4f}")
        print(np.array2string(weights.reshape(-1, 3).round(2), separator=", "), bias.round(2))


if __name__ == "__main__":
    main()
