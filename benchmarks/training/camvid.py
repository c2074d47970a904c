"""Train semantic nets on CamVid, 480 x 360 and 11 classes, for a fixed time on this machine.

    SEGALGOS_DATA=DATA python benchmarks/training/camvid.py --net unet_efficientnet --seeds 0,1,2

A run is net x minutes x seed. It trains on the 367 images of the public train part and is scored
on the 101 of val; the test images are read only with ``--test``. It is saved after every epoch and
resumed where it was, so it may be killed at any time; a finished one is not run again. Its row goes
to ``results.jsonl`` in the folder `--out`, the model beside it.

Settings were chosen as with ``--tune``: two of the three filmed sequences of train to learn from,
the third, 0006R0, to score. Frames follow one another, so a random part of train would share its
scenes with the rest. (The val part is no stranger to train either: it is all of the sequence
0016E5. The short runs were scored on it, too.)
"""

from __future__ import annotations

import argparse
import json
import time
from typing import Any

import numpy as np
from runs import add_arguments, limit, row_of, run_seeds, teller

import segalgos
from segalgos import datasets
from segalgos.metrics.semantic import semantic_scores

#: What every net is trained with, unless its own line says otherwise.
COMMON: dict[str, Any] = {
    "augment": "upright",
    "crop_size": 256,
    "batch_size": 4,
    "ema_decay": 0.99,
    "precision": "bfloat16",  # more steps in as much time, on CPUs with instructions for it
}

NETS: dict[str, tuple[str, dict[str, Any]]] = {
    # From ImageNet weights.
    "unet_efficientnet": (
        "UNetSegmenter",
        {
            "encoder": "efficientnet_lite0",
            "pretrained": True,
            "frozen_stages": 2,
            "base_channels": 32,
            "depth": 3,
        },
    ),
    # From scratch.
    "ddrnet": ("DDRNetSegmenter", {"learning_rate": 2e-3}),
    "segformer": ("SegFormerSegmenter", {}),
    "unet": (
        "UNetSegmenter",
        {"base_channels": 16, "padding": "same", "batch_norm": True, "dropout": 0.0},
    ),
    "deeplab": ("DeepLabSegmenter", {"backbone": "resnet18", "base_channels": 32}),
    "fcn": ("FCNSegmenter", {"base_channels": 16, "fc_channels": 256}),
    # As published, too large for little time: for how prediction rounds.
    "fcn_resnet50": (
        "FCNSegmenter",
        {"variant": "resnet50", "learning_rate": 1e-3},
    ),
    "deeplab_resnet50": (
        "DeepLabSegmenter",
        {"version": "v3", "output_stride": 8},
    ),
}

TUNING_SEQUENCE = "0006R0"


def read(part: str) -> tuple[list, list]:
    """Images and label maps of a part of the data set."""
    samples = datasets.load("camvid", split=part)
    return [sample.image for sample in samples], [sample.labels for sample in samples]


def read_tuning() -> tuple[tuple[list, list], tuple[list, list]]:
    """What to learn from and what to score while settings are chosen."""
    samples = datasets.load("camvid", split="train")
    parts = ([], []), ([], [])
    for sample in samples:
        images, labels = parts[TUNING_SEQUENCE in sample.name]
        images.append(sample.image)
        labels.append(sample.labels)
    return parts


def class_weights(labels: list) -> dict[int, float]:
    """The root of ENet's weights, ``1 / log(1.02 + share of the pixels)`` (arXiv:1606.02147).

    Half of the crops are placed on a class drawn evenly: with the whole weights, rare classes
    are found where they are not.
    """
    counts = sum(np.bincount(m[m >= 0], minlength=len(datasets.camvid.CLASSES)) for m in labels)
    shares = counts / counts.sum()
    return {k: float(np.log(1.02 + share) ** -0.5) for k, share in enumerate(shares)}


def scores_of(segmenter: segalgos.base.Segmenter, images: list, labels: list) -> dict[str, Any]:
    """Score predictions of single images, as a user would make them."""
    start = time.perf_counter()
    predictions = [segmenter.predict(image) for image in images]
    seconds = time.perf_counter() - start
    found = semantic_scores(predictions, labels, datasets.camvid.CLASSES)
    return {
        "mean_iou": found["mean_iou_dataset"],
        "pixel_accuracy": found["pixel_accuracy"],
        "mean_class_accuracy": found["mean_class_accuracy"],
        "iou_per_class": dict(
            zip(datasets.camvid.CLASSES, np.round(found["iou_per_class"], 5).tolist(), strict=True)
        ),
        "seconds_per_image": seconds / len(images),
        "n_images": len(images),
    }


def run(args: argparse.Namespace, seed: int) -> dict[str, Any]:
    """Train one net and score it."""
    name, params = NETS[args.net]
    params = COMMON | params | json.loads(args.set)
    title = f"{args.net}-{args.minutes:g}min-seed{seed}" + ("-tune" if args.tune else "")
    if args.set != "{}":
        title += f"-{args.label}"
    (train_images, train_labels), *scored = read_tuning() if args.tune else (read("train"),)
    parts = {"tuning": scored[0]} if args.tune else {"val": read("val")}
    if args.test:
        parts["test"] = read("test")
    params = {"class_weight": class_weights(train_labels)} | params

    segmenter = getattr(segalgos, name)(
        **(params | limit(args)),
        checkpoint=args.out / f"{title}.checkpoint",
        on_epoch_end=teller(title),
        random_state=seed,
    )
    segmenter.fit(train_images, train_labels)
    row = row_of(
        title,
        args,
        seed,
        segmenter,
        parameters=params,
        train="train without " + TUNING_SEQUENCE if args.tune else "train",
        n_train=len(train_images),
        scores={part: scores_of(segmenter, *data) for part, data in parts.items()},
    )
    segmenter.set_params(on_epoch_end=None, checkpoint=None).save(args.out / f"{title}.segalgos")
    return row


def main() -> None:
    """Run what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    add_arguments(parser, NETS, minutes=45.0, out="camvid-runs")
    parser.add_argument("--tune", action="store_true", help="score a part of train, not val")
    parser.add_argument("--test", action="store_true", help="score the test part, too")
    parser.add_argument("--set", default="{}", help="JSON of parameters to change")
    run_seeds(parser.parse_args(), run)


if __name__ == "__main__":
    main()
