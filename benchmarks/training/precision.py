"""How do trained nets agree with themselves in bfloat16? On CamVid's 101 val images.

    SEGALGOS_DATA=DATA python benchmarks/training/precision.py RUNS/*.segalgos --out FOLDER

Takes segmenters that ``camvid.py`` saved, and predicts every image with ``prediction_precision``
float32 and bfloat16. Rows go to ``results.jsonl`` in the folder `--out`, one a segmenter: the
share of pixels with the same class, mean IoU in both precisions, and the median time of an image.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

import camvid
import numpy as np
import torch
from runs import add_row, machine

import segalgos
from segalgos import datasets
from segalgos.metrics.semantic import semantic_scores
from segalgos.nets.semantic import SemanticNetSegmenter

PRECISIONS = ("float32", "bfloat16")


def compare(segmenter: SemanticNetSegmenter, images: list, labels: list) -> dict[str, Any]:
    """Predict images in both precisions."""
    predictions: dict[str, list] = {}
    seconds: dict[str, list[float]] = {}
    for precision in PRECISIONS:
        segmenter.set_params(prediction_precision=precision)
        segmenter.predict(images[0])  # makes the network for it
        predictions[precision], seconds[precision] = [], []
        for image in images:
            start = time.perf_counter()
            predictions[precision].append(segmenter.predict(image))
            seconds[precision].append(time.perf_counter() - start)
    same = [np.mean(a == b) for a, b in zip(*predictions.values(), strict=True)]
    return {
        "n_images": len(images),
        "agreement": float(np.mean(same)),
        "least_agreement": float(np.min(same)),
        "mean_iou": {
            precision: semantic_scores(found, labels, datasets.camvid.CLASSES)["mean_iou_dataset"]
            for precision, found in predictions.items()
        },
        "seconds": {precision: statistics.median(times) for precision, times in seconds.items()},
    }


def main() -> None:
    """Run what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("segmenters", type=Path, nargs="+", help="files that camvid.py saved")
    parser.add_argument("--out", type=Path, default=Path("precision-runs"))
    args = parser.parse_args()
    images, labels = camvid.read("val")
    for path in args.segmenters:
        segmenter = segalgos.load(path)
        row = {
            "run": path.stem,
            "segmenter": type(segmenter).__name__,
            "n_parameters": segmenter.n_parameters_,
            **compare(segmenter, images, labels),
            "command": f"python benchmarks/training/precision.py {path.name}",
            "versions": {name: version(name) for name in ("segalgos", "torch", "numpy")},
            "machine": machine(),
            "threads": torch.get_num_threads(),
        }
        add_row(args.out, row)
        print(json.dumps(row), flush=True)


if __name__ == "__main__":
    main()
