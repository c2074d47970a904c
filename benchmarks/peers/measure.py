"""Measure ours and a peer on the same input, each in a process of its own.

A script defines `Task` objects and hands them to `main`. For every task and contender a fresh
process prepares the input, calls once on a small part of it (which compiles, loads libraries and
starts threads), then calls on the whole several times. It gives the median time, the peak memory
beyond what was there before, and the quality of the result, computed by one function for all
contenders of the task.
"""

from __future__ import annotations

import argparse
import gc
import importlib.metadata
import json
import os
import platform
import re
import shlex
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import segalgos
from segalgos import parallel
from segalgos.files import atomic_path

REPEATS = 7  # calls of a fast contender; a slow one is called less often
ENOUGH = 20.0  # seconds of calls after which no further one is made


@dataclass(frozen=True)
class Task:
    """One line of work that ours and its peers do.

    Parameters
    ----------
    name : str
    prepare : callable
        ``prepare(image) -> inputs``, the same for all; not timed.
    contenders : dict of str to callable
        ``contender(inputs) -> output``; the first is ours.
    quality : callable
        ``quality(inputs, output) -> dict`` of numbers to be equal or better.
    goals : dict of str to (float, float)
        Peer -> ratio to reach at least, ratio aimed at.
    sizes : tuple of str
        Which images it runs on.
    """

    name: str
    prepare: Callable[[Any], Any]
    contenders: dict[str, Callable[[Any], Any]]
    quality: Callable[[Any, Any], dict[str, float]]
    goals: dict[str, tuple[float, float]] = field(default_factory=dict)
    sizes: tuple[str, ...] = ("photo", "small")


def measure(task: Task, contender: str, image: Any, warm_image: Any) -> dict[str, Any]:
    """Measure one contender in this process.

    Parameters
    ----------
    task : Task
    contender : str
    image, warm_image : ndarray
        The input and a small one of the same kind.

    Returns
    -------
    dict
        ``seconds`` (median), ``calls``, ``extra_mb`` and ``quality``.
    """
    call = task.contenders[contender]
    call(task.prepare(warm_image))
    inputs = task.prepare(image)
    gc.collect()
    before = _reset_peak()
    seconds = []
    while len(seconds) < REPEATS and (not seconds or sum(seconds) < ENOUGH):
        output = None  # two results at once would count as memory of the method
        started = time.perf_counter()
        output = call(inputs)
        seconds.append(time.perf_counter() - started)
    extra = _status("VmHWM") - before
    return {
        "seconds": statistics.median(seconds),
        "calls": len(seconds),
        "extra_mb": round(extra / 1e6, 1),
        "quality": task.quality(inputs, output),
    }


def _status(key: str) -> int:
    """A number of bytes that Linux keeps of this process."""
    text = Path("/proc/self/status").read_text()
    return int(re.search(rf"{key}:\s+(\d+) kB", text).group(1)) * 1024


def _reset_peak() -> int:
    """Forget the peak so far; gives the memory in use now."""
    Path("/proc/self/clear_refs").write_text("5")
    return _status("VmRSS")


def versions(packages: tuple[str, ...]) -> dict[str, str]:
    """Versions of the packages that are installed, and of Python."""
    found = {"python": platform.python_version(), "segalgos": segalgos.__version__}
    for name in packages:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def machine() -> dict[str, Any]:
    """Describe this machine."""
    cpuinfo = Path("/proc/cpuinfo").read_text()
    cpu = re.search(r"model name\s*:\s*(.*)", cpuinfo)
    return {
        "cpu": cpu.group(1) if cpu else platform.machine(),
        "threads": parallel.n_threads(),
        "system": platform.platform(),
    }


def about(script: str, packages: tuple[str, ...]) -> dict[str, Any]:
    """What to note beside rows: the command, versions and the machine."""
    command = f"python benchmarks/peers/{Path(script).name} {shlex.join(sys.argv[1:])}"
    return {"command": command, "versions": versions(packages), "machine": machine()}


def write_notes(folder: Path, notes: dict[str, Any], more: bool) -> None:
    """Write ``about.json``; with `more` rows were added by a further command."""
    path = folder / "about.json"
    if more and path.exists():
        before = json.loads(path.read_text())
        again = [*before.get("again", []), notes["command"]]
        notes = notes | {"command": before["command"], "again": again}
    path.write_text(json.dumps(notes, indent=1) + "\n")


def run(
    script: str, tasks: dict[str, Task], images: dict[str, str], wanted: list[str], out: Path | None
) -> list[dict[str, Any]]:
    """Measure every contender of the wanted tasks, one process after the other.

    Parameters
    ----------
    script : str
        Path of the script whose tasks these are.
    tasks : dict of str to Task
    images : dict of str to str
        Size -> what its ``load_image`` understands.
    wanted : list of str
        Names of tasks.
    out : Path or None
        Folder that gets ``results.jsonl``, a row a measurement. Rows of other tasks that are
        there already stay, and those of other images.

    Returns
    -------
    list of dict
        The rows.
    """
    kept = []
    if out is not None and (out / "results.jsonl").exists():
        lines = (out / "results.jsonl").read_text().splitlines()
        kept = [
            row
            for row in map(json.loads, lines)
            if row["task"] not in wanted or row["image"] not in images
        ]
    order = {name: place for place, name in enumerate(tasks)}
    rows = []
    for name in wanted:
        for size in tasks[name].sizes:
            if size not in images:
                continue
            for contender in tasks[name].contenders:
                at_least, aim = tasks[name].goals.get(contender, (None, None))
                row = {"task": name, "image": size, "contender": contender}
                row |= {"at_least": at_least, "aim": aim}
                row |= _in_process(script, name, contender, images[size])
                rows.append(row)
                took = f"{row['seconds'] * 1e3:.1f} ms" if "seconds" in row else row["reason"]
                print(f"{name} on {size}: {contender}: {took}", file=sys.stderr, flush=True)
                if out is not None:
                    out.mkdir(parents=True, exist_ok=True)
                    everything = sorted([*kept, *rows], key=lambda row: order[row["task"]])
                    with atomic_path(out / "results.jsonl") as temporary:
                        temporary.write_text("".join(json.dumps(row) + "\n" for row in everything))
    return rows


def _in_process(script: str, task: str, contender: str, image: str) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        result = Path(folder) / "result.json"
        arguments = ["--child", task, contender, image, str(result)]
        done = subprocess.run(
            [sys.executable, script, *arguments],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        )
        if done.returncode or not result.exists():
            last = (done.stderr.strip().splitlines() or ["no message"])[-1]
            return {"status": "failed", "reason": last[:300]}
        return {"status": "ok", **json.loads(result.read_text())}


def table(rows: list[dict[str, Any]]) -> list[list[str]]:
    """Put ours and each peer side by side.

    Parameters
    ----------
    rows : list of dict

    Returns
    -------
    list of list of str
        Titles, then a line a peer. The ratio is the peer's time over ours.
    """
    titles = ["method", "image", "peer", "ours", "peer's", "ratio", "at least", "aim"]
    titles += ["our quality", "the peer's", "our memory", "the peer's"]
    lines = [titles]
    by_place: dict[tuple, list] = {}
    for row in rows:
        by_place.setdefault((row["task"], row["image"]), []).append(row)
    for (name, size), group in by_place.items():
        ours, *peers = group
        for peer in peers or [{}]:
            ratio = "–"
            if "seconds" in ours and "seconds" in peer:
                value = peer["seconds"] / ours["seconds"]
                short = peer["at_least"] is not None and value < peer["at_least"]
                ratio = f"{value:.1f}" + (" (short)" if short else "")
            goals = [f"{peer[key]:g}" if peer.get(key) else "–" for key in ("at_least", "aim")]
            cells = [name, size, peer.get("contender", "–"), _time(ours), _time(peer), ratio]
            cells += [*goals, _quality(ours), _quality(peer), _memory(ours), _memory(peer)]
            lines.append(cells)
    return lines


def markdown(lines: list[list[str]]) -> str:
    """Write a table in Markdown."""
    text = ["| " + " | ".join(line) + " |" for line in lines]
    return "\n".join([text[0], "|" + "-|" * len(lines[0]), *text[1:]]) + "\n"


def _time(row: dict[str, Any]) -> str:
    if "seconds" not in row:
        return row.get("reason", "–")
    seconds = row["seconds"]
    return f"{seconds:.2f} s" if seconds >= 1 else f"{seconds * 1e3:.3g} ms"


def _quality(row: dict[str, Any]) -> str:
    return ", ".join(f"{k} {v:.6g}" for k, v in row.get("quality", {}).items()) or "–"


def _memory(row: dict[str, Any]) -> str:
    return f"{row['extra_mb']:.0f} MB" if "extra_mb" in row else "–"


def main(
    script: str,
    tasks: list[Task],
    load_image: Callable[[str], tuple[Any, Any]],
    images: Callable[[argparse.Namespace], dict[str, str]],
    packages: tuple[str, ...],
    add_arguments: Callable[[argparse.ArgumentParser], None],
) -> None:
    """Run a script of peers from the command line.

    Parameters
    ----------
    script : str
        Its ``__file__``.
    tasks : list of Task
    load_image : callable
        ``load_image(text) -> (image, small image of the same kind)``.
    images : callable
        ``images(arguments) -> {size: text}``.
    packages : tuple of str
        Whose versions to note.
    add_arguments : callable
        Adds the script's own options to the parser.
    """
    by_name = {task.name: task for task in tasks}
    if sys.argv[1:2] == ["--child"]:
        _, _, name, contender, image, result = sys.argv
        Path(result).write_text(json.dumps(measure(by_name[name], contender, *load_image(image))))
        return
    parser = argparse.ArgumentParser(description=sys.modules["__main__"].__doc__.splitlines()[0])
    parser.add_argument("--tasks", help=f"some of: {', '.join(by_name)}")
    parser.add_argument("--out", type=Path, help="folder for results.jsonl and about.json")
    add_arguments(parser)
    arguments = parser.parse_args()
    wanted = arguments.tasks.split(",") if arguments.tasks else list(by_name)
    unknown = [name for name in wanted if name not in by_name]
    if unknown:
        parser.error(f"no task is called {unknown[0]!r}: choose from {', '.join(by_name)}")
    found = images(arguments)
    for name in wanted if arguments.tasks else ():
        if not set(by_name[name].sizes) & set(found):
            sizes = ", ".join(by_name[name].sizes)
            parser.error(f"{name!r} runs on {sizes}: give the option that such an image comes from")
    rows = run(script, by_name, found, wanted, arguments.out)
    text = markdown(table(rows))
    print(text)
    if arguments.out is not None:
        # Of some tasks again the others' command stays.
        write_notes(arguments.out, about(script, packages), more=bool(arguments.tasks))
