"""Run cells one by one, or on a dask cluster, and keep every finished row.

Kernels are compiled before, so that no cell's time has a part of that.

Each cell is a process watched by a keeper (see ``keeper.py``): a method that crashes,
hangs, eats memory or floods its output spoils its own row and nothing else.
"""

from __future__ import annotations

import base64
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from segalgos.bench.store import Store, safe_name
from segalgos.bench.suite import Cell
from segalgos.files import atomic_path
from segalgos.warmup import warm_up

__all__ = ["Limits", "default_memory", "run_cell", "run_cells"]

KEEPER = Path(__file__).with_name("keeper.py")


@dataclass(frozen=True)
class Limits:
    """What a cell may use.

    Parameters
    ----------
    seconds : float
        Wall-clock time.
    bytes : float
        Resident memory of its processes together.
    """

    seconds: float
    bytes: float


def default_memory() -> float:
    """Three quarters of this machine's memory, in bytes.

    Returns
    -------
    float
    """
    return 0.75 * os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def run_cell(content: dict[str, Any], seconds: float, max_bytes: float) -> dict[str, Any]:
    """Run one cell in a watched process.

    Parameters
    ----------
    content : dict
        ``Cell.to_dict()``: plain data, so that this can run on another machine.
    seconds, max_bytes : float
        Limits.

    Returns
    -------
    dict
        ``row`` and ``pictures``, as in `segalgos.bench.cell.run`, whatever happened.
    """
    cell = Cell.from_dict(content)
    started = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    with tempfile.TemporaryDirectory(prefix="segalgos-cell-") as folder:
        cell_path, result_path = Path(folder, "cell.json"), Path(folder, "result.json")
        cell_path.write_text(json.dumps(content))
        limits = json.dumps({"seconds": seconds, "bytes": max_bytes})
        work = [sys.executable, "-m", "segalgos.bench.cell", str(cell_path), str(result_path)]
        keeper = subprocess.Popen(
            [sys.executable, "-I", "-S", str(KEEPER), limits, *work],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,  # Ctrl-C is for us; the keeper hears of it from us
        )
        try:
            output, _ = keeper.stdout.read(), keeper.wait()
        finally:
            keeper.stdin.close()  # the keeper's sign to kill the cell, if it still runs
            keeper.wait()
            keeper.stdout.close()
        result = {"row": {}, "pictures": {}}
        if result_path.exists():
            result |= json.loads(result_path.read_text(encoding="utf-8"))
    verdict = json.loads(output) if output.strip() else {"ended": "lost"}
    row = result["row"]
    if not row or verdict["ended"] in ("timeout", "oom"):
        row = {**_failure(verdict, seconds, max_bytes), **_only_facts(row)}
    if row["status"] != "ok":
        row["output_tail"] = verdict.get("output_tail", "")
    peak = max(row.pop("peak_bytes", 0), verdict.get("peak_bytes", 0))
    row = {
        **_identity(cell),
        **row,
        "peak_memory_mb": peak / 1e6,
        "seconds": verdict.get("seconds"),
        "started": started,
    }
    return {"row": row, "pictures": result.get("pictures", {}) if row["status"] == "ok" else {}}


def _only_facts(row: dict[str, Any]) -> dict[str, Any]:
    return {k: row[k] for k in ("versions", "machine") if k in row}


def _failure(verdict: dict[str, Any], seconds: float, max_bytes: float) -> dict[str, str]:
    ended = verdict["ended"]
    if ended == "timeout":
        return {"status": "timeout", "reason": f"took more than {seconds:g} s"}
    if ended == "oom":
        return {"status": "oom", "reason": f"used more than {max_bytes / 1e9:.2g} GB of memory"}
    if ended == "signal":
        number = -verdict["code"]
        try:
            name = signal.Signals(number).name
        except ValueError:
            name = f"signal {number}"
        return {"status": "crash", "reason": f"killed by {name}"}
    if ended == "lost":
        return {"status": "crash", "reason": "its keeper was killed"}
    return {"status": "crash", "reason": f"left with exit code {verdict['code']} and no result"}


def _identity(cell: Cell) -> dict[str, Any]:
    cls = cell.method.load()
    traits = cls.traits
    return {
        "format": 1,
        "key": cell.key,
        "method": cell.method.label,
        "segmenter": cls.__name__,
        "family": traits.family,
        "task": traits.task,
        "year": traits.year,
        "trained": traits.needs_labels,
        "params": cell.method.params,
        "dataset": cell.data.label,
        "split": cell.test_split,
        "fit_split": cell.fit_split,
        "options": cell.data.options,
        "seed": cell.seed,
        "budget": cell.budget,
        "tune": cell.tune,
        "max_images": cell.max_images,
        "reason": "",
        **_about_step(cell),
    }


def _about_step(cell: Cell) -> dict[str, Any]:
    """What only the rows of challenges hold."""
    if cell.step is None:
        return {}
    return {
        "challenge": cell.step.challenge,
        "challenge_data": cell.step.data,
        "difficulty": cell.step.difficulty,
        "difficulty_text": cell.step.shown,
        "image_scale": cell.data.image_scale,
        "fit_options": None if cell.fit_data is None else cell.fit_data.options,
    }


@contextmanager
def _interruptible() -> Iterator[None]:
    """Let a polite kill end a run as Ctrl-C does."""

    def interrupt(number: int, frame: Any) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def run_cells(
    cells: list[Cell],
    out: str | os.PathLike,
    limits: Limits,
    *,
    cluster: str | None = None,
    retry_failed: bool = False,
    on_resume: Callable[[int], None] = lambda n_done: None,
    on_warm_up: Callable[[], None] = lambda: None,
    on_start: Callable[[Cell], None] = lambda cell: None,
    on_row: Callable[[dict[str, Any]], None] = lambda row: None,
) -> list[dict[str, Any]]:
    """Run the cells that have no row yet.

    Parameters
    ----------
    cells : list of Cell
    out : path-like
        Folder of ``results.jsonl``; rows that are there already are kept.
    limits : Limits
    cluster : str, optional
        Address of a dask scheduler that runs the cells instead of this process.
    retry_failed : bool, default=False
        Run cells again whose last row is not "ok".
    on_resume, on_warm_up, on_start, on_row : callable
        Told how many cells are done already, that kernels are being compiled, of each cell
        that begins and of each row that is stored, for progress.

    Returns
    -------
    list of dict
        The rows of `cells`, the last one of each.
    """
    wanted = {cell.key: cell for cell in cells}
    with Store(out) as store, _interruptible():
        latest = {row["key"]: row for row in store.rows if row["key"] in wanted}
        done = {key for key, row in latest.items() if row["status"] == "ok" or not retry_failed}
        todo = [cell for key, cell in wanted.items() if key not in done]
        on_resume(len(done))
        ours = sorted({cell.method.target for cell in todo if ":" not in cell.method.target})
        if ours and not cluster:
            on_warm_up()
            warm_up(ours)  # what fails here fails in its cell too, and is told there
        finished = _on_cluster(todo, limits, cluster) if cluster else _here(todo, limits, on_start)
        for result in finished:
            for name, content in result["pictures"].items():
                _write_picture(Path(out), name, content)
            store.append(result["row"])
            latest[result["row"]["key"]] = result["row"]
            on_row(result["row"])
        return [latest[key] for key in wanted]


def _write_picture(out: Path, name: str, content: str) -> None:
    # The name comes from another process: no part of it may lead out of the folder.
    with atomic_path(out.joinpath(*map(safe_name, name.split("/")))) as temporary:
        temporary.write_bytes(base64.b64decode(content))


def _here(
    cells: list[Cell], limits: Limits, on_start: Callable[[Cell], None]
) -> Iterator[dict[str, Any]]:
    for cell in cells:
        on_start(cell)
        yield run_cell(cell.to_dict(), limits.seconds, limits.bytes)


def _on_cluster(cells: list[Cell], limits: Limits, address: str) -> Iterator[dict[str, Any]]:
    """Hand the cells to dask workers; one that dies has its cell run by another."""
    try:
        from distributed import Client, as_completed
    except ImportError as error:
        raise ImportError(
            "bench: --cluster needs dask's distributed, which is not installed: "
            "pip install 'segalgos[large]'."
        ) from error

    with Client(address, timeout="10s", set_as_default=False) as client:
        futures = {
            client.submit(
                run_cell,
                cell.to_dict(),
                limits.seconds,
                limits.bytes,
                key=f"segalgos-{cell.key}-{time.time_ns()}",
                pure=False,
            ): cell
            for cell in cells
        }
        try:
            for future in as_completed(futures, loop=client.loop):
                error = future.exception()
                if error is None:
                    yield future.result()
                else:
                    failed = {"status": "crash", "reason": f"{type(error).__name__}: {error}"}
                    yield {"row": {**_identity(futures[future]), **failed}, "pictures": {}}
        finally:
            client.cancel(list(futures))
