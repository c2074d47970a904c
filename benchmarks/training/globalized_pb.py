"""Learn how `segalgos.globalized_pb` weighs its cues, from the training part of BSDS500.

    python benchmarks/training/globalized_pb.py

Samples are the pixels of the thinned contours of `segalgos.multiscale_pb` that are stronger than
.02, each with its cues and the spectral contour in the direction of the strongest. A pixel is a
boundary by as many annotators as have one within three pixels of it. The weights of a logistic
regression are printed as they stand in ``segalgos/contours/globalized_pb.py``, and how well they
predict the pixels of every fifth validation image, beside regressions with the spectral contour
as it is, its square root, and without it.

The regression's weight of spectral contours is not the one with the best contours: it sees pixels
one by one, and not that lines are matched and regions closed. So contours and regions of every
fourth validation image are scored with that weight times some factors:

    python benchmarks/training/globalized_pb.py --factors 1,1.4,1.8,2.4
"""

from __future__ import annotations

import argparse

import numpy as np
from multiscale_pb import GREY, boundary_shares, learn, log_loss

from segalgos import (
    PbGradients,
    contour_hierarchy,
    datasets,
    metrics,
    non_maximum_suppression,
    pb_gradients,
)
from segalgos.contours import globalized_pb
from segalgos.contours.globalized_pb import LEAST_SPECTRAL, join_cues, spectral_of_gradients
from segalgos.contours.multiscale_pb import combine_gradients

FAINTEST = 0.02  # contours that samples are drawn from


def logarithm(spectral):
    """What the weights in the library are for."""
    return np.log(spectral + LEAST_SPECTRAL)


def sample(gradients, annotations):
    """Cues and the spectral contour (n, n_cues * n_scales + 1), and shares (n,), of one image."""
    cues = gradients.strengths.reshape(-1, *gradients.strengths.shape[2:])
    spectral = spectral_of_gradients(gradients, None, "sample")
    local = combine_gradients(gradients)
    rows, columns = np.nonzero(non_maximum_suppression(local) > FAINTEST)
    directions = local.argmax(axis=0)[rows, columns]
    values = [*cues[:, directions, rows, columns], spectral[directions, rows, columns]]
    return np.array(values).T, boundary_shares(annotations, rows, columns)


def collect(split, step):
    """Samples of every `step`-th image of a part of BSDS500: with colour, without."""
    parts = [], []
    dataset = datasets.load("bsds500", split=split)
    for index in range(0, len(dataset), step):
        image, annotations = dataset[index].image, dataset[index].annotations
        colour = pb_gradients(image)
        some = list(GREY)
        grey = PbGradients(
            colour.strengths[some], tuple(colour.cues[i] for i in some), colour.radii[some]
        )
        for part, gradients in zip(parts, (colour, grey), strict=True):
            part.append(sample(gradients, annotations))
        print(f"{split} {index}", flush=True)
    return [tuple(map(np.concatenate, zip(*part, strict=True))) for part in parts]


def transformed(values, of_spectral):
    """Square roots of the cues, and the spectral contour by a function of it."""
    return np.column_stack([np.sqrt(values[:, :-1]), of_spectral(values[:, -1])])


def score_factors(factors):
    """Print scores of contours and regions with the spectral weight times each factor."""
    dataset = datasets.load("bsds500", split="val")
    thin, maps = [[] for _ in factors], [[] for _ in factors]
    truths = []
    for index in range(0, len(dataset), 4):
        gradients = pb_gradients(dataset[index].image)
        spectral = spectral_of_gradients(gradients, None, "score_factors")
        truths.append(dataset[index].annotations)
        for i, factor in enumerate(factors):
            globalized_pb.RAISED = factor
            strength = spectral.copy()
            join_cues(gradients, strength)
            thin[i].append(non_maximum_suppression(strength))
            maps[i].append(contour_hierarchy(strength).ucm())
    for i, factor in enumerate(factors):
        contours = metrics.boundary_scores(thin[i], truths)
        regions = metrics.evaluate_hierarchies(maps[i], truths, double_sized=True)
        line = [f"{key} {contours[key]:.4f}" for key in ("ods", "ois", "ap")]
        line += [f"{key} {regions[key]:.4f}" for key in ("ods", "ap", "covering_ods")]
        print(f"{factor}: contours {' '.join(line[:3])}, regions {' '.join(line[3:])}")


def main():
    """Print weights and losses."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--step", type=int, default=2, help="learn from every step-th image")
    parser.add_argument("--factors", help="score these factors of the spectral weights instead")
    arguments = parser.parse_args()
    if arguments.factors:
        score_factors([float(factor) for factor in arguments.factors.split(",")])
        return
    train, val = collect("train", arguments.step), collect("val", 5)
    for name, seen, unseen in zip(("colour", "grey"), train, val, strict=True):
        for transform in (np.zeros_like, np.asarray, np.sqrt, logarithm):
            known, new = transformed(seen[0], transform), transformed(unseen[0], transform)
            used = known.std(axis=0) > 0
            weights, bias = learn(known[:, used], seen[1])
            loss = log_loss(new[:, used], unseen[1], weights, bias)
            print(name, transform.__name__, f"log loss on val {loss:.4f}")
        print(np.array2string(weights[:-1].reshape(-1, 3).round(2), separator=", "))
        print(f"{weights[-1]:.3f}", bias.round(2))


if __name__ == "__main__":
    main()
