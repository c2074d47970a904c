"""Adapt a net that was trained by day to dusk, on CamVid, and score it on frames it never saw.

    SEGALGOS_DATA=DATA python benchmarks/training/adaptation.py --seeds 0,1,2

The source are the 305 day frames of the public train part (the sequences 0006R0 and 0016E5), with
labels. The target is 0001TP, filmed at dusk: 62 frames of train, one a second, cut by time. The
first 30 are what methods adapt to, images alone; four are left out, since neighbours show the same
scene; the last 28 are scored. (The public test part goes on one second after the last of these; it
is not read.)

A source model is trained once for each seed, then every method adapts that same model. No label of
the target is read before the scores, but for the row `target_labels`: an upper bound, fine-tuned
on those of the 30 frames. Settings are the methods' defaults, set beforehand, and were never
changed by what came out here.

Everything resumes where it was after a kill; a row that is there is not measured again.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from camvid import COMMON, NETS, class_weights
from numpy.typing import NDArray
from runs import machine, teller

import segalgos
from segalgos import datasets
from segalgos.files import atomic_path

DUSK = "0001TP"
N_ADAPT, N_GAP = 30, 4

#: Times that training on the day frames sees them: about 12 minutes on two idle cores.
SOURCE_EPOCHS = 7

#: Methods for nets and for the forest; None is the source model as it is.
NET_METHODS = (None, "batch_norm", "self_training", "fourier", "entropy", "coral")
FOREST_METHODS = (None, "importance", "coral")
SOURCE_ONLY, TARGET_LABELS = "source_only", "target_labels"


def read_parts() -> dict[str, list]:
    """Samples of the day, of dusk to adapt to, and of dusk to score on."""
    samples = list(datasets.load("camvid", split="train"))
    dusk = sorted((s for s in samples if DUSK in s.name), key=lambda s: s.name)
    return {
        "day": [s for s in samples if DUSK not in s.name],
        "adapt": dusk[:N_ADAPT],
        "score": dusk[N_ADAPT + N_GAP :],
    }


def images_of(samples: list) -> list[NDArray]:
    """Images alone."""
    return [sample.image for sample in samples]


def labels_of(samples: list) -> list[NDArray[np.int32]]:
    """Label maps alone."""
    return [sample.labels for sample in samples]


# --- scores -------------------------------------------------------------------------------


def overlaps(segmenter: segalgos.base.Segmenter, samples: list) -> dict[str, list]:
    """Intersection and union of each class in each image, (n_images, K)."""
    n_classes = len(datasets.camvid.CLASSES)
    found: dict[str, list] = {"names": [], "intersections": [], "unions": []}
    for sample in samples:
        labels, true = segmenter.predict(sample.image), sample.labels
        pairs = true[true >= 0] * n_classes + labels[true >= 0]
        table = np.bincount(pairs, minlength=n_classes**2).reshape(n_classes, n_classes)
        both = np.diag(table)
        found["names"].append(sample.name)
        found["intersections"].append(both.tolist())
        found["unions"].append((table.sum(0) + table.sum(1) - both).tolist())
    return found


def mean_iou(found: dict[str, list], images: Any = slice(None)) -> float:
    """Mean IoU over the classes of some images, in percent, all their pixels taken together."""
    intersections = np.array(found["intersections"])[images].sum(0)
    unions = np.array(found["unions"])[images].sum(0)
    seen = unions > 0
    return 100 * float(np.mean(intersections[seen] / unions[seen]))


def gain_of(rows: list[dict], source_rows: list[dict], n_draws: int = 2000) -> tuple[float, ...]:
    """Mean gain over the source models of the same seeds, and its 95 % interval.

    Seeds and images are drawn with replacement, the same for both: a paired bootstrap.
    """
    by_seed = {row["seed"]: row["overlaps"] for row in source_rows}
    pairs = [(row["overlaps"], by_seed[row["seed"]]) for row in rows if row["seed"] in by_seed]
    mean = statistics.fmean(mean_iou(a) - mean_iou(b) for a, b in pairs)
    rng = np.random.default_rng(0)
    n_images = len(pairs[0][0]["names"])
    draws = []
    for _ in range(n_draws):
        images = rng.integers(n_images, size=n_images)
        seeds = rng.integers(len(pairs), size=len(pairs))
        draws.append(
            np.mean([mean_iou(pairs[i][0], images) - mean_iou(pairs[i][1], images) for i in seeds])
        )
    return mean, *np.quantile(draws, (0.025, 0.975)).tolist()


def table(rows: list[dict]) -> list[list[str]]:
    """Rows of the table of the docs, titles first."""
    lines = [["net", "method", "seeds", "mean IoU", "gain", "95 % interval", "CPU s"]]
    for net in sorted({row["net"] for row in rows}, reverse=True):
        own = [row for row in rows if row["net"] == net]
        source = [row for row in own if row["method"] == SOURCE_ONLY]
        for method in dict.fromkeys(row["method"] for row in own):
            runs = [row for row in own if row["method"] == method]
            scores = [mean_iou(row["overlaps"]) for row in runs]
            spread = f" ± {statistics.stdev(scores):.1f}" if len(scores) > 1 else ""
            gain = interval = "-"
            if method != SOURCE_ONLY and source:
                middle, low, high = gain_of(runs, source)
                gain, interval = f"{middle:+.1f}", f"{low:+.1f} to {high:+.1f}"
            seconds = [row["cpu_seconds"] for row in runs if row["cpu_seconds"] is not None]
            lines.append(
                [
                    f"`{net}`",
                    f"`{method}`" + (" (upper bound)" if method == TARGET_LABELS else ""),
                    str(len(runs)),
                    f"{statistics.fmean(scores):.1f}{spread}",
                    gain,
                    interval,
                    f"{statistics.fmean(seconds):.0f}" if seconds else "-",
                ]
            )
    return lines


# --- runs ---------------------------------------------------------------------------------


def source_model(args: argparse.Namespace, seed: int, day: list) -> segalgos.base.Segmenter:
    """The source model of a seed, from its file if it was trained before."""
    title = f"{args.net}-source-seed{seed}"
    path = args.out / f"{title}.segalgos"
    if not path.exists():
        images, labels = images_of(day), labels_of(day)
        if args.net == "random_forest":
            segmenter = segalgos.RandomForestSegmenter(random_state=seed)
            segmenter.fit(images, labels)
        else:
            name, params = NETS[args.net]
            params = {"class_weight": class_weights(labels)} | COMMON | params
            segmenter = getattr(segalgos, name)(
                **params,
                epochs=args.source_epochs,
                checkpoint=args.out / f"{title}.checkpoint",
                on_epoch_end=teller(title),
                random_state=seed,
            ).fit(images, labels)
            segmenter.set_params(checkpoint=None, on_epoch_end=None)
        segmenter.save(path)
    return segalgos.load(path)


def adapted_model(
    args: argparse.Namespace,
    seed: int,
    method: str | None,
    segmenter: segalgos.base.Segmenter,
    parts: dict[str, list],
) -> segalgos.base.Segmenter:
    """What a method makes of the source model."""
    if method is None:
        return segmenter
    how: dict[str, Any] = {"random_state": seed}
    if args.net != "random_forest" and method != "batch_norm":
        title = f"{args.net}-{method}-seed{seed}"
        how |= {
            "epochs": args.epochs,
            "checkpoint": args.out / f"{title}.checkpoint",
            "on_epoch_end": teller(title),
        }
    target = parts["adapt"]
    if method == TARGET_LABELS:
        how["frozen_stages"] = segmenter.frozen_stages  # as the other methods
        return segalgos.fine_tune(segmenter, images_of(target), labels_of(target), **how)
    if method != "batch_norm":
        day = parts["day"]
        how |= {"source_images": images_of(day), "source_labels": labels_of(day)}
    return segalgos.adapt(segmenter, images_of(target), method=method, **how)


def measure(
    args: argparse.Namespace, seed: int, method: str | None, parts: Callable[[], dict[str, list]]
) -> dict[str, Any]:
    """One row: a method and a seed."""
    data = parts()
    segmenter = source_model(args, seed, data["day"])
    # Of a run that was resumed nobody knows what it took before.
    whole = not (args.out / f"{args.net}-{method}-seed{seed}.checkpoint").exists()
    start = time.process_time()
    found = adapted_model(args, seed, method, segmenter, data)
    seconds = time.process_time() - start
    counts = overlaps(found, data["score"])
    return {
        "run": f"{args.net}-{method or SOURCE_ONLY}-seed{seed}",
        "net": args.net,
        "method": method or SOURCE_ONLY,
        "seed": seed,
        "mean_iou": mean_iou(counts),
        "overlaps": counts,
        "cpu_seconds": seconds if whole and method else None,
        "source_epochs": args.source_epochs,
        "epochs": args.epochs,
        "n_source": len(data["day"]),
        "n_adapt": len(data["adapt"]),
        "history": getattr(found, "history_", []) if method else [],
        "command": f"python benchmarks/training/adaptation.py --net {args.net} "
        f"--source-epochs {args.source_epochs} --epochs {args.epochs} --seeds {seed}",
        "versions": {package: version(package) for package in ("segalgos", "torch", "numpy")},
        "machine": machine(),
    }


def read_rows(path: Path) -> list[dict]:
    """Rows that were measured before."""
    if not path.exists():
        return []
    return [json.loads(line) for line in path.read_text().splitlines()]


def main() -> None:
    """Measure what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--net", choices=[*NETS, "random_forest"], default="unet_efficientnet")
    parser.add_argument("--source-epochs", type=int, default=SOURCE_EPOCHS)
    parser.add_argument("--epochs", type=int, default=15, help="of adaptation, over its 30 frames")
    parser.add_argument("--methods", help="such as source_only,batch_norm; all if left out")
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--out", type=Path, default=Path("adaptation-runs"))
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    results = args.out / "results.jsonl"
    known = FOREST_METHODS if args.net == "random_forest" else (*NET_METHODS, TARGET_LABELS)
    asked = args.methods.split(",") if args.methods else [m or SOURCE_ONLY for m in known]
    parts: dict[str, list] = {}

    def read() -> dict[str, list]:
        if not parts:
            parts.update(read_parts())
        return parts

    for seed in map(int, args.seeds.split(",")):
        for method in known:
            name = method or SOURCE_ONLY
            rows = read_rows(results)
            if name not in asked or any(
                (row["net"], row["method"], row["seed"]) == (args.net, name, seed) for row in rows
            ):
                continue
            row = measure(args, seed, method, read)
            with atomic_path(results) as temporary:
                temporary.write_text("".join(json.dumps(r) + "\n" for r in [*rows, row]))
            print(f"{row['run']}: {row['mean_iou']:.2f}", flush=True)


if __name__ == "__main__":
    main()
