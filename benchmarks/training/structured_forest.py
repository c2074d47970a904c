"""Grow the structured forest that comes with the library, on the training part of BSDS500.

    SEGALGOS_DATA=DATA python benchmarks/training/structured_forest.py --out FOLDER

It writes ``structured_forest.npz``, the file of the package, and ``results.jsonl``. Settings were
chosen on the val part; the test part is not read.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from segalgos import StructuredForest, datasets
from segalgos.files import atomic_path

FILE = "structured_forest.npz"
PARAMETERS: dict[str, Any] = {
    "n_trees": 8,
    "n_patches": 1_000_000,
    "min_samples_leaf": 8,
    "random_state": 0,
}


def main() -> None:
    """Grow, write, and tell how long it took."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--out", type=Path, default=Path("structured-forest"))
    parser.add_argument("--set", default="{}", help="JSON of parameters to change")
    args = parser.parse_args()
    params = PARAMETERS | json.loads(args.set)
    args.out.mkdir(parents=True, exist_ok=True)
    samples = list(datasets.load("bsds500", split="train"))
    start = time.perf_counter()
    forest = StructuredForest(**params)
    forest.fit([s.image for s in samples], [list(s.annotations) for s in samples])
    seconds = time.perf_counter() - start
    path = args.out / FILE
    with atomic_path(path) as temporary, open(temporary, "wb") as file:
        np.savez_compressed(file, **forest.get_arrays())
    row = {
        "run": "structured_forest",
        "parameters": params,
        "n_train": len(samples),
        "seconds": seconds,
        "n_nodes": len(forest.nodes_),
        "n_label_patches": len(forest.patches_),
        "bytes": path.stat().st_size,
        "versions": {package: version(package) for package in ("segalgos", "numba", "numpy")},
        "machine": f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores",
    }
    with atomic_path(args.out / "results.jsonl") as temporary:
        temporary.write_text(json.dumps(row) + "\n")
    print(json.dumps(row))


if __name__ == "__main__":
    main()
