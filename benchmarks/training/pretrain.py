"""Does pretraining without labels help where labels are few? CamVid with 37 labelled images.

    SEGALGOS_DATA=DATA python benchmarks/training/pretrain.py --net self_supervised \\
        --segmenter segformer --seeds 0,1,2

`self_supervised` is pretrained on the 367 images of the public train part without their labels,
then fine-tuned on every tenth of them with labels, 37 in all. `scratch` is the same net with the
same 37 labelled images, and at least as many seconds of CPU time as pretraining and fine-tuning of
the same seed took together: it needs the row of that. `imagenet` is a U-Net on an
EfficientNet-Lite0 that learned from 1.2 million labelled photographs, fine-tuned on the 37: what
to take where its weights may be used. `probe_masked` and `probe_dense` pretrain on two sequences of
train for a short while, and probe the frozen features on the third; `probe_random` and
`probe_settled` probe weights that learned nothing.

Times are of the CPU (``time.process_time``, all threads), since other programs run beside it.
Everything is saved after every epoch and goes on where it was after a kill; what was lost with it
is not counted. A finished run gives its row at once. Rows go to ``results.jsonl`` in the folder
`--out`.

Settings were chosen with ``--tune``: on two of the three filmed sequences of train, scored on the
third, 0006R0. The val part is of the sequence 0016E5, of which train has frames, too.
"""

from __future__ import annotations

import argparse
import json
import math
import shlex
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import camvid
import numpy as np
import torch
from numpy.typing import NDArray
from runs import machine, run_seeds, teller

import segalgos
from segalgos import datasets
from segalgos.files import atomic_path
from segalgos.pretrained_encoder import PretrainedEncoder
from segalgos.training import kmeans_probe, linear_probe, pretrain
from segalgos.training.self_supervised import settle_norms
from segalgos.training.views import ViewSampler

LABELLED = slice(None, None, 10)

#: Nets of `scratch`, `self_supervised` and the probes.
SEGMENTERS: dict[str, tuple[str, dict[str, Any]]] = {
    "ddrnet": (
        "DDRNetSegmenter",
        {
            "base_channels": 16,
            "context_channels": 64,
            "head_channels": 32,
            "learning_rate": 2e-3,
        },
    ),
    "segformer": ("SegFormerSegmenter", {}),
}
PRETRAINING: dict[str, Any] = {
    "method": "dense",
    "batch_size": 8,
    "crop_size": 128,
    "learning_rate": 2e-3,
    "augment": "upright",
}
#: What of that another net is pretrained with.
PRETRAINING_OF: dict[str, dict[str, Any]] = {"ddrnet": {}, "segformer": {"learning_rate": 1e-3}}
PRETRAINING_EPOCHS = 8
#: What all nets are fine-tuned with.
COMMON: dict[str, Any] = {
    "augment": "upright",
    "crop_size": 256,
    "batch_size": 4,
    "ema_decay": 0.99,
}
EPOCHS = 40
IMAGENET = camvid.NETS["unet_efficientnet"]
IMAGENET_EPOCHS = 20

# Seconds of an epoch vary; so many more epochs are planned that CPU time is not less.
SPARE = 1.1

#: What of `PRETRAINING` each method is probed with.
PROBED: dict[str, dict[str, Any] | None] = {
    "random": None,
    "settled": None,
    "dense": {"method": "dense"},
    "masked": {"method": "masked"},
}
#: "dense" looks at two views of each image, so that each epoch takes twice as long.
PROBE_EPOCHS = {"random": 0, "settled": 0, "dense": 1, "masked": 2}
#: Every so many frames of the sequence that is kept aside are probed.
PROBE_STEP = 6

NETS = ("self_supervised", "scratch", "imagenet", *(f"probe_{method}" for method in PROBED))


class CpuClock:
    """Counts the CPU time of a run, also of one that was killed and went on.

    Parameters
    ----------
    path : Path
        File of what was counted so far.
    """

    def __init__(self, path: Path):
        self.path = path
        self.seconds = json.loads(path.read_text()) if path.exists() else 0.0
        self._last = time.process_time()

    def lap(self) -> float:
        """Count what was used since the last lap; gives all seconds."""
        now = time.process_time()
        self.seconds += now - self._last
        self._last = now
        with atomic_path(self.path) as temporary:
            temporary.write_text(json.dumps(self.seconds))
        return self.seconds


def counted(clock: CpuClock, title: str) -> Callable[[dict[str, float]], None]:
    """A function that counts every epoch of a run, and prints its row."""
    tell = teller(title)

    def count(row: dict[str, float]) -> None:
        tell({**row, "cpu_seconds": clock.lap()})

    return count


def make_segmenter(args: argparse.Namespace, **params: Any) -> Any:
    """The net that is compared, not yet fitted."""
    name, own = SEGMENTERS[args.segmenter]
    return getattr(segalgos, name)(**(own | params))


def pretrained_encoder(
    args: argparse.Namespace, title: str, images: list, seed: int
) -> tuple[PretrainedEncoder, float]:
    """Pretrain, or read what was pretrained; and the CPU seconds that it took."""
    path = args.out / f"{title}.safetensors"
    clock = CpuClock(args.out / f"{title}.pretraining_cpu.json")
    if path.exists():
        return PretrainedEncoder.load(path), clock.seconds
    encoder = pretrain(
        images,
        encoder=make_segmenter(args),
        epochs=args.pretraining_epochs,
        checkpoint=args.out / f"{title}.pretraining",
        on_epoch_end=counted(clock, f"{title} pretraining"),
        random_state=seed,
        **args.pretraining,
    )
    clock.lap()
    encoder.save(path)
    return encoder, clock.seconds


def fit(
    args: argparse.Namespace, title: str, segmenter: Any, images: list, labels: list
) -> tuple[Any, float]:
    """Train on labelled images; and the CPU seconds that it took."""
    clock = CpuClock(args.out / f"{title}.cpu.json")
    segmenter.set_params(
        checkpoint=args.out / f"{title}.checkpoint",
        on_epoch_end=counted(clock, title),
        class_weight=camvid.class_weights(labels),
    )
    segmenter.fit(images, labels)
    return segmenter, clock.lap()


def row_named(args: argparse.Namespace, name: str) -> dict[str, Any]:
    """The row of a run that was finished before."""
    path = args.out / "results.jsonl"
    lines = path.read_text().splitlines() if path.exists() else []
    rows = {row["run"]: row for row in map(json.loads, lines)}
    if name not in rows:
        raise SystemExit(f"scratch needs the row {name} in {path}: run self_supervised first.")
    return rows[name]


def title_of(args: argparse.Namespace, net: str, seed: int) -> str:
    """Name of a run."""
    return f"{named(args, net)}-seed{seed}" + ("-tune" if args.tune else "") + args.label


def named(args: argparse.Namespace, net: str) -> str:
    """The net, and the segmenter where that is not the first of `SEGMENTERS`."""
    return net if net == "imagenet" or args.segmenter == "ddrnet" else f"{net}-{args.segmenter}"


def probe(args: argparse.Namespace, seed: int) -> dict[str, Any]:
    """Pretrain by one method on two sequences of train, and probe frozen features on the third."""
    (images, labels), (others, their_labels) = camvid.read_tuning()
    title = f"{named(args, args.net)}-seed{seed}{args.label}"
    method = args.net.removeprefix("probe_")
    changes = PROBED[method]
    segmenter = make_segmenter(args, epochs=1, random_state=seed)
    seconds, history = 0.0, []
    if changes is not None:
        args.pretraining = args.pretraining | changes
        args.pretraining_epochs = PROBE_EPOCHS[method]
        encoder, seconds = pretrained_encoder(args, title, images, seed)
        segmenter.set_params(pretrained=encoder)
        history = encoder.history
    features = frozen_features(segmenter, images, seed, settle=method == "settled")
    few, known = images[LABELLED], labels[LABELLED]
    new, truth = others[::PROBE_STEP], their_labels[::PROBE_STEP]
    linear = linear_probe(features, few, known, new, truth, random_state=seed)
    clusters = kmeans_probe(features, new, truth, random_state=seed)
    scores = {"linear": linear["mean_iou_dataset"], "kmeans": clusters["mean_iou_dataset"]}
    return {
        "run": title,
        "net": args.net,
        "method": method,
        "seed": seed,
        "pretraining_cpu_seconds": seconds,
        "pretraining": args.pretraining | {"epochs": PROBE_EPOCHS[method]},
        "embedding_std": history[-1]["embedding_std"] if history else None,
        "probes": scores,
        "scores": scores,
        "history": history,
        **provenance(args, seed),
    }


def frozen_features(
    segmenter: Any, images: list, seed: int, *, settle: bool
) -> Callable[[NDArray], NDArray]:
    """A function that gives what the head of a net takes, before `fit`."""
    network = segmenter._start(images, len(datasets.camvid.CLASSES), seed)
    if settle:
        size, standardise = PRETRAINING["crop_size"], segmenter._standardiser(images[0])
        sampler = ViewSampler(images, shape=(size, size), prepare=lambda x, i: standardise(x))
        settle_norms(network, sampler, seed=seed)

    def features(image: NDArray) -> NDArray:
        values = ((image - segmenter.mean_) / segmenter.std_).astype(np.float32)
        with torch.inference_mode():
            found = network.feature_map(torch.from_numpy(values).permute(2, 0, 1)[None])
        return found[0].permute(1, 2, 0).numpy()

    return features


def provenance(args: argparse.Namespace, seed: int) -> dict[str, Any]:
    """What made a row."""
    options = ["--net", args.net, "--seeds", str(seed)] + ["--tune"] * args.tune
    if args.net.startswith("self_supervised"):
        options += ["--pretraining", json.dumps(args.pretraining)]
        options += ["--pretraining-epochs", str(args.pretraining_epochs)]
    if named(args, args.net) != args.net:
        options += ["--segmenter", args.segmenter]
    if args.net in ("self_supervised", "scratch"):
        options += ["--epochs", str(args.epochs)]
    if args.net == "imagenet":
        options += ["--imagenet-epochs", str(args.imagenet_epochs)]
    if args.label:
        options.append(f"--label={args.label}")
    return {
        "command": "python benchmarks/training/pretrain.py " + shlex.join(options),
        "versions": {package: version(package) for package in ("segalgos", "torch", "numpy")},
        "machine": machine(),
    }


def run(args: argparse.Namespace, seed: int) -> dict[str, Any]:
    """Train one net and score it."""
    if args.net.startswith("probe_"):
        return probe(args, seed)
    (images, labels), *scored = camvid.read_tuning() if args.tune else (camvid.read("train"),)
    scored = scored[0] if args.tune else camvid.read("val")
    few, their_labels = images[LABELLED], labels[LABELLED]
    title = title_of(args, args.net, seed)
    params = COMMON | {"epochs": args.epochs, "random_state": seed}
    own = {} if args.net == "imagenet" else SEGMENTERS[args.segmenter][1]
    also: dict[str, Any] = {"pretraining_cpu_seconds": 0.0}
    if args.net == "imagenet":
        params |= IMAGENET[1] | {"epochs": args.imagenet_epochs}
        segmenter = getattr(segalgos, IMAGENET[0])(**params)
        segmenter, seconds = fit(args, title, segmenter, few, their_labels)
    elif args.net == "self_supervised":
        encoder, before = pretrained_encoder(args, title, images, seed)
        segmenter = make_segmenter(args, **params, pretrained=encoder)
        segmenter, seconds = fit(args, title, segmenter, few, their_labels)
        also = {
            "pretraining_cpu_seconds": before,
            "pretraining": args.pretraining | {"epochs": args.pretraining_epochs},
            "n_unlabelled": len(images),
            "pretraining_history": encoder.history,
        }
    else:
        other = row_named(args, title_of(args, "self_supervised", seed))
        wanted = other["pretraining_cpu_seconds"] + other["cpu_seconds"]
        a_second = other["parameters"]["epochs"] / other["cpu_seconds"]
        epochs = math.ceil(SPARE * wanted * a_second)
        while True:
            params["epochs"] = epochs
            whole = f"{title}-{epochs}epochs"
            segmenter = make_segmenter(args, **params)
            segmenter, seconds = fit(args, whole, segmenter, few, their_labels)
            if seconds >= wanted:
                break
            epochs = math.ceil(SPARE * epochs * wanted / seconds)  # it was faster: begin anew
        also["cpu_seconds_of_self_supervised"] = wanted
    return {
        "run": title,
        "net": args.net,
        "segmenter": type(segmenter).__name__,
        "n_parameters": segmenter.n_parameters_,
        "seed": seed,
        "cpu_seconds": seconds,
        **also,
        "n_labelled": len(few),
        "train": "train without " + camvid.TUNING_SEQUENCE if args.tune else "train",
        "parameters": own | params,
        "scores": {"tuning" if args.tune else "val": camvid.scores_of(segmenter, *scored)},
        "history": segmenter.history_,
        **provenance(args, seed),
    }


def main() -> None:
    """Run what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--net", choices=NETS, required=True)
    parser.add_argument("--segmenter", choices=SEGMENTERS, default="ddrnet")
    parser.add_argument("--seeds", default="0", help="such as 0,1,2")
    parser.add_argument("--out", type=Path, default=Path("pretrain-runs"))
    parser.add_argument("--tune", action="store_true", help="score a part of train, not val")
    parser.add_argument("--pretraining", type=json.loads, default={}, help="JSON of changes")
    parser.add_argument("--pretraining-epochs", type=int, default=PRETRAINING_EPOCHS)
    parser.add_argument("--epochs", type=int, default=EPOCHS)
    parser.add_argument("--imagenet-epochs", type=int, default=IMAGENET_EPOCHS)
    parser.add_argument("--label", default="", help="of a run with changed settings")
    args = parser.parse_args()
    args.pretraining = PRETRAINING | PRETRAINING_OF[args.segmenter] | args.pretraining
    run_seeds(args, run)


if __name__ == "__main__":
    main()
