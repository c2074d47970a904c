"""Train instances of nuclei (Data Science Bowl 2018) for a fixed time.

    SEGALGOS_DATA=DATA python benchmarks/training/nuclei.py --net unet --minutes 30 --seeds 0,1,2

A run is net x minutes x seed. The U-Nets learn the borders of nuclei as a class of their own, Mask
R-CNN and YOLACT find them one by one. A fifth of the images is held out: of each kind of
microscopy and size, images are put in order by their background, so that fields of one slide stand
together, and every fifth group of three is left out whole; of a kind with too few images, one. The
score is TP / (TP + FP + FN) at an IoU of 0.5, the sums taken over all held-out images, and by
kind. Runs are saved after every epoch and resumed. With --tune the held-out images are left alone
and a fifth of the others stands for them: settings are chosen so.
"""

from __future__ import annotations

import argparse
import json
import time
from typing import Any

import numpy as np
from runs import add_arguments, limit, row_of, run_seeds, teller

from segalgos import (
    BoundaryInstanceSegmenter,
    MaskRCNNSegmenter,
    UNetSegmenter,
    YOLACTSegmenter,
    datasets,
)
from segalgos.base import Segmenter
from segalgos.datasets.base import Sample
from segalgos.metrics.instances import instance_counts

COMMON: dict[str, Any] = {
    "crop_size": 256,
    "batch_size": 4,
    "ema_decay": 0.998,
    "standardize": "image",
    "augment": {"scale": (0.6, 1.6), "rotation": 15.0, "saturation": 0.3, "colour": 0.1},
}

#: Nuclei are some 8 to 60 pixels wide; detectors see them at twice that, up to 375 in an image.
DETECTORS: dict[str, dict[str, Any]] = {
    "mask_rcnn": {
        "backbone": "efficientnet_lite0",
        "pretrained": True,
        "width": 64,
        "box_width": 256,
        "anchor_sizes": (16, 32, 64, 128, 256),
        "anchor_ratios": (0.6, 1.0, 1.7),
        "n_sampled": 128,
        "n_detections": 500,
        "image_size": 2.0,
        "crop_size": 384,
    },
    "yolact": {
        "backbone": "efficientnet_lite0",
        "pretrained": True,
        "width": 64,
        "anchor_sizes": (22, 36, 60, 100, 170),
        "anchor_ratios": (0.5, 1.0, 2.0),
        "square_anchors": False,
        "n_candidates": 1000,
        "n_detections": 500,
        "image_size": 2.0,
        "crop_size": 384,
    },
}
DETECTOR_CLASSES = {"mask_rcnn": MaskRCNNSegmenter, "yolact": YOLACTSegmenter}

NETS: dict[str, dict[str, Any]] = {
    "unet": {"base_channels": 16, "padding": "same", "dropout": 0.0},
    "unet_efficientnet": {"encoder": "efficientnet_lite0", "pretrained": True, "base_channels": 16},
}

#: How nuclei become classes, where not as usual.
BORDERS: dict[str, dict[str, Any]] = {"unet_efficientnet": {"border_width": 2, "gap_weight": 5.0}}

THRESHOLDS = (0.5, 0.75)
CHOSEN = (
    "foreground_threshold", "marker_threshold", "min_contrast", "sigma", "min_size",
    "tuning_score", "score_threshold",
)  # fmt: skip
GROUP, EVERY = 3, 5
TUNING_FOLD = 4  # with --tune; others would leave no large image of tissue to learn from


def kind_of(image: np.ndarray) -> str:
    """What microscopy an image looks like."""
    if np.ptp(image.astype(float), axis=-1).mean() > 1:
        return "stained"
    return "fluorescence" if image.mean() < 100 else "bright field"


def split(samples: list[Sample], fold: int = EVERY // 2) -> tuple[list[int], list[int]]:
    """Indices of the samples to learn from and of those held out."""
    groups: dict[tuple, list[int]] = {}
    for i, sample in enumerate(samples):
        groups.setdefault((kind_of(sample.image), sample.image.shape), []).append(i)

    def background(i: int) -> tuple:
        image = samples[i].image
        return (*np.median(image.reshape(-1, image.shape[-1]), axis=0), float(image.std()))

    held_out, counter = set(), 0
    for key in sorted(groups):
        order = sorted(groups[key], key=background)
        for start in range(0, len(order), GROUP):
            if counter % EVERY == fold:
                held_out.update(order[start : start + GROUP])
            counter += 1
    kinds = [kind_of(sample.image) for sample in samples]
    for kind in set(kinds) - {kinds[i] for i in held_out}:  # too few for a group
        held_out.add(kinds.index(kind))
    return [i for i in range(len(samples)) if i not in held_out], sorted(held_out)


def score(segmenter: Segmenter, samples: list[Sample]) -> dict[str, Any]:
    """AP of the held-out samples: of all together, by kind, and its mean over images."""
    start = time.perf_counter()
    found = [segmenter.predict(sample.image) for sample in samples]
    seconds = time.perf_counter() - start
    counts = np.stack(
        [
            instance_counts(one, sample.instances, THRESHOLDS)[0]
            for one, sample in zip(found, samples, strict=True)
        ]
    )  # (n, thresholds, 3): true, false, missed
    kinds = np.array([kind_of(sample.image) for sample in samples])
    row: dict[str, Any] = {"seconds_per_image": seconds / len(samples), "n_images": len(samples)}
    for kind in ("all", *sorted(set(kinds.tolist()))):
        sums = counts[(kinds == kind) | (kind == "all")].sum(axis=0)
        row[kind] = {
            f"AP{round(100 * t)}": float(s[0] / s.sum())
            for t, s in zip(THRESHOLDS, sums, strict=True)
        }
        row[kind]["n"] = int(((kinds == kind) | (kind == "all")).sum())
    by_image = counts[:, 0, 0] / counts[:, 0].sum(axis=-1)
    row["all"]["mean_AP50_of_images"] = float(by_image.mean())
    return row


def run(args: argparse.Namespace, seed: int) -> dict[str, Any]:
    """Train one net and score it."""
    title = f"{args.net}-{args.minutes:g}min-seed{seed}"
    if args.set != "{}" or args.set_net != "{}":
        title += f"-{args.label}"
    if args.tune:
        title += "-tune"
    samples = [s for part in ("train", "val") for s in datasets.load("nuclei", split=part)]
    learning, held_out = split(samples)
    if args.tune:
        test, (_, held_out) = set(held_out), split(samples, fold=TUNING_FOLD)
        held_out = [i for i in held_out if i not in test]
        learning = [i for i in learning if i not in held_out]

    images, objects = ([getattr(samples[i], k) for i in learning] for k in ("image", "instances"))
    detector = args.net in DETECTORS
    borders = BORDERS.get(args.net, {}) | json.loads(args.set)
    params = COMMON | (DETECTORS if detector else NETS)[args.net] | json.loads(args.set_net)
    net = DETECTOR_CLASSES.get(args.net, UNetSegmenter)(
        **(params | limit(args)),
        checkpoint=args.out / f"{title}.checkpoint",
        on_epoch_end=teller(title),
        random_state=seed,
    )
    segmenter: Segmenter = net
    if not detector:
        segmenter = BoundaryInstanceSegmenter(net, random_state=seed, **borders)
    segmenter.fit(images, objects)
    trained = segmenter if detector else segmenter.estimator_
    row = row_of(
        title,
        args,
        seed,
        trained,
        parameters=params,
        instance_parameters=borders,
        n_train=len(learning),
        thresholds={
            name: getattr(segmenter, f"{name}_")
            for name in CHOSEN
            if hasattr(segmenter, f"{name}_")
        },
        scores=score(segmenter, [samples[i] for i in held_out]),
    )
    for one in (net, trained):
        one.set_params(on_epoch_end=None, checkpoint=None)
    segmenter.save(args.out / f"{title}.segalgos")
    return row


def main() -> None:
    """Run what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    add_arguments(parser, NETS | DETECTORS, minutes=30.0, out="nuclei-runs")
    parser.add_argument("--set", default="{}", help="JSON of parameters of the instances")
    parser.add_argument("--tune", action="store_true", help="leave the held-out images alone")
    parser.add_argument("--set-net", default="{}", help="JSON of parameters of the net")
    run_seeds(parser.parse_args(), run)


if __name__ == "__main__":
    main()
