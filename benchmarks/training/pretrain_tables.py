"""Tables of the rows of ``pretrain.py``."""

from __future__ import annotations

import statistics
from typing import Any

TITLES = {
    "scratch": "{n_labelled} labelled images, from scratch",
    "self_supervised": "pretrained for {} epochs on {n_unlabelled} unlabelled images, fit for {}",
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


def mean_iou(row: dict[str, Any]) -> float:
    """Mean IoU on what a row was scored on."""
    (scores,) = row["scores"].values()
    return scores["mean_iou"]


def street_table(rows: list[dict[str, Any]]) -> list[list[str]]:
    """As `table`, of runs with ``--tune`` that have one from scratch beside them."""
    labels = {row["run"].split("-tune")[1] for row in rows if row["net"] == "scratch"}
    return table([row for row in rows if row["run"].split("-tune")[1] in labels])


def table(rows: list[dict[str, Any]]) -> list[list[str]]:
    """Mean IoU and CPU time of each net, and the difference to the same from scratch, by seed."""
    lines = [["start", "net", "seeds", "mean IoU", "against scratch", "CPU s, pretraining", "fit"]]
    for segmenter in sorted({row["segmenter"] for row in rows}):
        lines += _lines([row for row in rows if row["segmenter"] == segmenter])
    return lines


def label(row: dict[str, Any]) -> str:
    """What the name of a run says after its seed: runs of the same took as much CPU time."""
    return row["run"].split(f"seed{row['seed']}")[1]


def _lines(rows: list[dict[str, Any]]) -> list[list[str]]:
    """Lines of one segmenter."""
    lines = []
    scratch = {(r["seed"], label(r)): mean_iou(r) for r in rows if r["net"] == "scratch"}
    for net, title in TITLES.items():
        of_net = [row for row in rows if row["net"] == net]
        for name in sorted({label(row) for row in of_net}):
            runs = [row for row in of_net if label(row) == name]
            pairs = [(mean_iou(row), scratch.get((row["seed"], name))) for row in runs]
            gains = [own - other for own, other in pairs if other is not None]
            epochs = ()
            if net == "self_supervised":
                epochs = runs[0]["pretraining"]["epochs"], runs[0]["parameters"]["epochs"]
            lines.append(
                [
                    title.format(*epochs, **runs[0]),
                    f"`{runs[0]['segmenter']}`, {runs[0]['n_parameters'] / 1e6:.1f} M",
                    str(len(runs)),
                    spread([mean_iou(row) for row in runs]),
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


def tuning_table(rows: list[dict[str, Any]]) -> list[list[str]]:
    """Mean IoU on the sequence kept aside, by method and length of pretraining."""
    lines = [["net", "method", "epochs", "mean IoU", "CPU s, pretraining", "fit"]]
    for row in (row for row in rows if row["net"] == "self_supervised" and row["seed"] == 0):
        told = row["pretraining"]
        seconds = row["pretraining_cpu_seconds"], row["cpu_seconds"]
        names = [f"`{row['segmenter']}`", f"`{told['method']}`"]
        lines.append([*names, str(told["epochs"]), f"{mean_iou(row):.3f}"])
        lines[-1] += [f"{value:.0f}" for value in seconds]
    return lines
