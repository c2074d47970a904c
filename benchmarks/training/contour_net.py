"""Train the contour net that comes with the library, on the training part of BSDS500.

    SEGALGOS_DATA=DATA python benchmarks/training/contour_net.py --out FOLDER

It writes ``contour_net.npz``, the file of the package, and ``results.jsonl``. Training is saved
after every epoch and resumed where it was. Settings were chosen on the val part; the test part is
not read. The extra ``pretrained`` must be installed.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from runs import teller

from segalgos import ContourNet, datasets
from segalgos.files import atomic_path

FILE = "contour_net.npz"
PARAMETERS: dict[str, Any] = {
    "pretrained": True,
    "learning_rate": 5e-4,
    "ema_decay": 0.998,
    "augment": {
        "flip_rows": False,
        "quarter_turns": False,
        "rotation": 30.0,
        "scale": (0.6, 1.6),
        "saturation": 0.3,
        "colour": 0.1,
    },
}


def main() -> None:
    """Train, write, and tell how long it took."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--out", type=Path, default=Path("contour-net"))
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--set", default="{}", help="JSON of parameters to change")
    args = parser.parse_args()
    params = PARAMETERS | json.loads(args.set)
    args.out.mkdir(parents=True, exist_ok=True)
    samples = list(datasets.load("bsds500", split="train"))
    net = ContourNet(
        epochs=None,
        time_budget=60 * args.minutes,
        checkpoint=args.out / "training.pt",
        on_epoch_end=teller(f"contour_net-seed{args.seed}"),
        random_state=args.seed,
        **params,
    )
    net.fit([s.image for s in samples], [list(s.annotations) for s in samples])
    path = args.out / FILE
    with atomic_path(path) as temporary, open(temporary, "wb") as file:
        np.savez_compressed(file, **net.get_arrays())
    row = {
        "run": f"contour_net-{args.minutes:g}min-seed{args.seed}",
        "parameters": params,
        "minutes": args.minutes,
        "seed": args.seed,
        "n_train": len(samples),
        "seconds": net.history_[-1]["seconds"],
        "steps": net.history_[-1]["steps"],
        "n_parameters": net.n_parameters_,
        "bytes": path.stat().st_size,
        "history": net.history_,
        "versions": {package: version(package) for package in ("segalgos", "torch", "numpy")},
        "machine": f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores",
    }
    with atomic_path(args.out / "results.jsonl") as temporary:
        temporary.write_text(json.dumps(row) + "\n")
    print(json.dumps({k: v for k, v in row.items() if k != "history"}))


if __name__ == "__main__":
    main()
