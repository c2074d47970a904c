"""Tables of the rows of ``pretrain.py``."""

from __future__ import annotations

import statistics
from typing import Any

TITLES = {
    "scratch": "37 labelled images, from scratch",
    "self_supervised": "pretrained on 367 images without labels",
    "imagenet": "U-Net on EfficientNet-Lite0, pretrained on ImageNet",
}


def spread(values: list[float], digits: int = 3) -> str:
    """Mean over seeds, and the standard deviation where there are several."""
    mean = f"{statistics.fmean(values):.{digits}f}"
    return mean if len(values) < 2 else f"{mean} ± {statistics.stdev(values):.{digits}f}"


def interval(values: list[float]) -> str:
    """Mean of differences, and its 95 % interval by Student's t where there are several."""
    from scipy.stats import t

    mean = statistics.fmean(values)
    if len(values) < 2:
        return f"{mean:+.3f}"
    half = t.ppf(0.975, len(values) - 1) * statistics.stdev(values) / len(values) ** 0.5
    return f"{mean:+.3f} [{mean - half:+.3f}, {mean + half:+.3f}]"


def table(rows: list[dict[str, Any]]) -> list[list[str]]:
    """Mean IoU and CPU time of each net, and the difference to scratch, seed by seed."""
    lines = [
        ["start", "net", "seeds", "mean IoU, val", "against scratch", "CPU s, pretraining", "fit"]
    ]
    scores = {(row["net"], row["seed"]): row["scores"]["val"]["mean_iou"] for row in rows}
    for net, title in TITLES.items():
        runs = [row for row in rows if row["net"] == net]
        if not runs:
            continue
        seeds = [row["seed"] for row in runs if ("scratch", row["seed"]) in scores]
        gains = [scores[net, seed] - scores["scratch", seed] for seed in seeds]
        lines.append(
            [
                title,
                f"`{runs[0]['segmenter']}`, {runs[0]['n_parameters'] / 1e6:.1f} M",
                str(len(runs)),
                spread([row["scores"]["val"]["mean_iou"] for row in runs]),
                interval(gains) if gains and net != "scratch" else "-",
                f"{statistics.fmean(row['pretraining_cpu_seconds'] for row in runs):.0f}",
                f"{statistics.fmean(row['cpu_seconds'] for row in runs):.0f}",
            ]
        )
    return lines


def probe_table(rows: list[dict[str, Any]]) -> list[list[str]]:
    """Probes of frozen features, by method."""
    lines = [["method", "seeds", "linear probe", "k-means probe", "CPU s", "deviation"]]
    for method in sorted({row["method"] for row in rows}):
        runs = [row for row in rows if row["method"] == method]
        deviations = [row["embedding_std"] for row in runs if row["embedding_std"] is not None]
        lines.append(
            [
                f"`{method}`",
                str(len(runs)),
                spread([row["probes"]["linear"] for row in runs]),
                spread([row["probes"]["kmeans"] for row in runs]),
                f"{statistics.fmean(row['pretraining_cpu_seconds'] for row in runs):.0f}",
                spread(deviations, 2) if deviations else "-",
            ]
        )
    return lines
