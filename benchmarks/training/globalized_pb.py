"""Learn how `segalgos.globalized_pb` weighs its cues, from the training part of BSDS500.

    python benchmarks/training/globalized_pb.py

Samples are drawn as for `segalgos.multiscale_pb` (see ``multiscale_pb.py``), each with the
spectral contour in its direction as well. The spectral contours are those that follow from the
weights of ``segalgos/contours/multiscale_pb.py``. The weights are printed as they stand in
``segalgos/contours/globalized_pb.py``, and how well they predict the pixels of every fifth
validation image, beside a regression without spectral contours.

The regression's weight of spectral contours is not the one with the best contours: it sees pixels
one by one, and not that thin lines are matched. So contours of ten training images are scored with
that weight times some factors:

    python benchmarks/training/globalized_pb.py --factors 1,2.2,3.7,7.35
"""

from __future__ import annotations

import argparse

import numpy as np
from multiscale_pb import GREY, PIXELS, boundary_shares, learn, log_loss

from segalgos import PbGradients, datasets, metrics, non_maximum_suppression, pb_gradients
from segalgos.contours import globalized_pb
from segalgos.contours.globalized_pb import spectral_of_gradients


def sample(gradients, annotations, rng):
    """Cues and the spectral contour (n, n_cues * n_scales + 1), and shares (n,), of one image."""
    cues = gradients.strengths.reshape(-1, *gradients.strengths.shape[2:])
    spectral = spectral_of_gradients(gradients, None, "sample")
    mean = cues.mean(axis=0)
    rows, columns = np.nonzero(non_maximum_suppression(mean))
    drawn = rng.permutation(len(rows))[:PIXELS]
    rows, columns = rows[drawn], columns[drawn]
    directions = mean.argmax(axis=0)[rows, columns]
    values = [*cues[:, directions, rows, columns], spectral[directions, rows, columns]]
    return np.array(values).T, boundary_shares(annotations, rows, columns)


def collect(split, step):
    """Samples of every `step`-th image of a part of BSDS500: with colour, without."""
    parts = [], []
    rng = np.random.default_rng(0)
    dataset = datasets.load("bsds500", split=split)
    for index in range(0, len(dataset), step):
        image, annotations = dataset[index].image, dataset[index].annotations
        colour = pb_gradients(image)
        some = list(GREY)
        grey = PbGradients(
            colour.strengths[some], tuple(colour.cues[i] for i in some), colour.radii[some]
        )
        for part, gradients in zip(parts, (colour, grey), strict=True):
            part.append(sample(gradients, annotations, rng))
        print(f"{split} {index}", flush=True)
    return [tuple(map(np.concatenate, zip(*part, strict=True))) for part in parts]


def transformed(values, of_spectral):
    """Square roots of the cues, and the spectral contour by a function of it."""
    return np.column_stack([np.sqrt(values[:, :-1]), of_spectral(values[:, -1])])


def score_factors(factors):
    """Print scores of contours with the spectral weight times each factor, on ten images."""
    seen = []
    dataset = datasets.load("bsds500", split="train")
    for index in range(5, len(dataset), 20):
        gradients = pb_gradients(dataset[index].image)
        cues = gradients.cues
        local = np.tensordot(globalized_pb.WEIGHTS[cues], np.sqrt(gradients.strengths), 2)
        local += globalized_pb.BIAS[cues]
        spectral = np.sqrt(spectral_of_gradients(gradients, None, "score_factors"))
        seen.append((local, spectral * globalized_pb.SPECTRAL[cues], dataset[index].annotations))
    for factor in factors:
        shift = globalized_pb.SHIFT * factor / globalized_pb.RAISED
        thin = []
        for local, spectral, _ in seen:
            total = (local + shift + factor * spectral) / globalized_pb.SOFTENED
            thin.append(non_maximum_suppression(1 / (1 + np.exp(-total))))
        scores = metrics.boundary_scores(thin, [one[2] for one in seen])
        print(factor, " ".join(f"{key} {scores[key]:.4f}" for key in ("ods", "ois", "ap")))


def main():
    """Print weights and losses."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--step", type=int, default=6, help="learn from every step-th image")
    parser.add_argument("--factors", help="score these factors of the spectral weights instead")
    arguments = parser.parse_args()
    if arguments.factors:
        score_factors([float(factor) for factor in arguments.factors.split(",")])
        return
    train, val = collect("train", arguments.step), collect("val", 5)
    for name, seen, unseen in zip(("colour", "grey"), train, val, strict=True):
        for transform in (np.zeros_like, np.asarray, np.sqrt):
            known, new = transformed(seen[0], transform), transformed(unseen[0], transform)
            used = known.std(axis=0) > 0
            weights, bias = learn(known[:, used], seen[1])
            loss = log_loss(new[:, used], unseen[1], weights, bias)
            print(name, transform.__name__, f"log loss on val {loss:.4f}")
        print(np.array2string(weights[:-1].reshape(-1, 3).round(2), separator=", "))
        print(f"{weights[-1]:.3f}", bias.round(2))


if __name__ == "__main__":
    main()
