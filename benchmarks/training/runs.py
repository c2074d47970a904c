"""What the training scripts share: seeds one after the other, rows kept whole, provenance."""

from __future__ import annotations

import argparse
import json
import os
import platform
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from segalgos.base import Segmenter
from segalgos.files import atomic_path


def row_of(
    title: str, args: argparse.Namespace, seed: int, segmenter: Segmenter, **also: Any
) -> dict[str, Any]:
    """What is kept of a run: the trained segmenter's figures, what `also` tells, provenance."""
    return {
        "run": title,
        "net": args.net,
        "segmenter": type(segmenter).__name__,
        "n_parameters": segmenter.n_parameters_,
        "minutes": args.minutes,
        **({} if args.epochs is None else {"epochs": args.epochs}),
        "seed": seed,
        "seconds": segmenter.history_[-1]["seconds"],
        "steps": segmenter.history_[-1]["steps"],
        **also,
        "history": segmenter.history_,
        "versions": {package: version(package) for package in ("segalgos", "torch", "numpy")},
        "machine": machine(),
        "threads": torch.get_num_threads(),
    }


def machine() -> str:
    """What a run was made on."""
    return f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores"


def teller(title: str) -> Callable[[dict[str, float]], None]:
    """A function that prints every row of the history of a run."""

    def tell(row: dict[str, float]) -> None:
        print(title, json.dumps({k: round(v, 5) for k, v in row.items()}), flush=True)

    return tell


def add_arguments(parser: argparse.ArgumentParser, nets: dict, minutes: float, out: str) -> None:
    """Options of every training script."""
    parser.add_argument("--net", choices=nets, required=True)
    parser.add_argument("--minutes", type=float, default=minutes)
    parser.add_argument(
        "--epochs",
        type=int,
        help="stop by them, not by the clock: what another seed did in these minutes",
    )
    parser.add_argument("--seeds", default="0", help="such as 0,1,2")
    parser.add_argument("--label", default="changed", help="of a run with changed parameters")
    parser.add_argument("--out", type=Path, default=Path(out))


def limit(args: argparse.Namespace) -> dict[str, Any]:
    """The parameters that say when a training ends: by the clock, or after as much work."""
    if args.epochs is not None:
        return {"epochs": args.epochs, "time_budget": None}
    return {"epochs": None, "time_budget": 60 * args.minutes}


def run_seeds(
    args: argparse.Namespace, run: Callable[[argparse.Namespace, int], dict[str, Any]]
) -> None:
    """Run every seed, and put its row in place of one of the same name in ``results.jsonl``."""
    args.out.mkdir(parents=True, exist_ok=True)
    for seed in map(int, args.seeds.split(",")):
        row = run(args, seed)
        add_row(args.out, row)
        print(f"{row['run']}: {json.dumps(row['scores'])}", flush=True)


def add_row(folder: Path, row: dict[str, Any]) -> None:
    """Put a row in place of one of the same name in ``results.jsonl``."""
    folder.mkdir(parents=True, exist_ok=True)
    results = folder / "results.jsonl"
    rows = []
    if results.exists():
        rows = [json.loads(line) for line in results.read_text().splitlines()]
    rows = [other for other in rows if other["run"] != row["run"]] + [row]
    with atomic_path(results) as temporary:
        temporary.write_text("".join(json.dumps(r) + "\n" for r in rows))
