"""Train networks that find objects on COCO128 for a fixed time: 69 classes, 100 images.

    SEGALGOS_DATA=DATA python benchmarks/training/coco128.py --net mask_rcnn --seeds 0,1,2

A run is net x minutes x seed. Every fifth image is held out. So few images cannot teach what 69
classes look like: what is learned from shows whether a net can learn at all, what is held out
whether anything of that carries over. Both are scored by COCO's average precision of masks, and so
is the same net after a single step. Runs are saved after every epoch and resumed.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from pathlib import Path
from typing import Any

import numpy as np
from runs import add_arguments, limit, row_of, run_seeds, teller
from skimage.color import gray2rgb

import segalgos
from segalgos import datasets
from segalgos.base import Segmenter
from segalgos.metrics import coco_average_precision

COMMON: dict[str, Any] = {
    "backbone": "efficientnet_lite0",
    "pretrained": True,
    "width": 64,
    "image_size": (320, 533),
    "crop_size": 320,
    "batch_size": 4,
    "ema_decay": 0.99,
    # Little is changed: at so few steps a net must meet the same thing again to know it.
    "augment": {"flip_rows": False, "quarter_turns": False, "scale": (0.8, 1.25)},
    "score_threshold": 0.05,  # all of the curve of precision
}

NETS: dict[str, tuple[str, dict[str, Any]]] = {
    "mask_rcnn": (
        "MaskRCNNSegmenter",
        {"box_width": 256, "anchor_sizes": (16, 32, 64, 128, 256), "n_sampled": 128},
    ),
    # Half as large as published, for images of little more than half the size.
    "yolact": ("YOLACTSegmenter", {"anchor_sizes": (16, 32, 64, 128, 256)}),
}

SHOWN = ("AP", "AP50", "AP75", "AR100")
EVERY = 5


def in_colour(image: np.ndarray) -> np.ndarray:
    """Three channels: one of the photographs is grey."""
    return gray2rgb(image.squeeze()) if image.ndim == 2 or image.shape[-1] == 1 else image


def score(segmenter: Segmenter, dataset: datasets.Dataset, chosen: list[int]) -> dict[str, Any]:
    """COCO's numbers for the masks found in some of the images."""
    truth = dataset.to_coco()
    wanted = set(chosen)
    for name, key in (("images", "id"), ("annotations", "image_id")):
        truth[name] = [entry for entry in truth[name] if entry[key] in wanted]
    start = time.perf_counter()
    found = [segmenter.predict(in_colour(dataset[i].image)) for i in chosen]
    seconds = time.perf_counter() - start
    detections = [one for i, some in zip(chosen, found, strict=True) for one in some.to_coco(i)]
    numbers = coco_average_precision(truth, detections)
    return {
        **{name: float(numbers[name]) for name in SHOWN},
        "n_images": len(chosen),
        "seconds_per_image": seconds / len(chosen),
    }


def run(args: argparse.Namespace, seed: int) -> dict[str, Any]:
    """Train one net and score it."""
    name, params = NETS[args.net]
    params = COMMON | params | json.loads(args.set)
    title = f"{args.net}-{args.minutes:g}min-seed{seed}"
    if args.set != "{}":
        title += f"-{args.label}"
    dataset = datasets.load("coco", root=Path(os.environ["SEGALGOS_DATA"]) / "COCO128")
    held_out = list(range(EVERY // 2, len(dataset), EVERY))
    learning = [i for i in range(len(dataset)) if i not in held_out]
    images = [in_colour(dataset[i].image) for i in learning]
    objects = [dataset[i].instances for i in learning]

    def make(**budget: Any) -> Segmenter:
        return getattr(segalgos, name)(**params | budget, random_state=seed)

    one_step = make(epochs=None, time_budget=1e-9).fit(images, objects)
    segmenter = make(
        **limit(args),
        checkpoint=args.out / f"{title}.checkpoint",
        on_epoch_end=teller(title),
    ).fit(images, objects)
    row = row_of(
        title,
        args,
        seed,
        segmenter,
        parameters=params,
        n_train=len(learning),
        scores={
            "learned from": score(segmenter, dataset, learning),
            "held out": score(segmenter, dataset, held_out),
            "learned from, after one step": score(one_step, dataset, learning),
        },
    )
    segmenter.set_params(on_epoch_end=None, checkpoint=None).save(args.out / f"{title}.segalgos")
    return row


def main() -> None:
    """Run what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    add_arguments(parser, NETS, minutes=15.0, out="coco128-runs")
    parser.add_argument("--set", default="{}", help="JSON of parameters to change")
    args = parser.parse_args()
    if "SEGALGOS_DATA" not in os.environ:
        parser.error("set SEGALGOS_DATA to the folder that holds COCO128")
    run_seeds(args, run)


if __name__ == "__main__":
    main()
