"""The commands ``segalgos bench``, ``report`` and ``cityscapes``: methods and results compared."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape
from rich.table import Table

from segalgos.console import PARTIAL, Json, emit, err, print_table, say

__all__ = ["add_commands"]


def add_commands(app: typer.Typer) -> None:
    """Add ``bench``, ``report`` and ``cityscapes``.

    Parameters
    ----------
    app : typer.Typer
    """
    for command in (bench, report, cityscapes):
        app.command()(command)


def bench(
    data: Annotated[
        str | None,
        typer.Option(help="Data sets by name, or a folder of your own images and masks."),
    ] = None,
    methods: Annotated[
        str | None,
        typer.Option(
            help="Methods, families or tasks, like `kmeans,graph,slic[n_segments=100]`, or "
            "`all`; one of each kind if left out."
        ),
    ] = None,
    seeds: Annotated[int, typer.Option(min=1, help="Runs of a method that is random.")] = 3,
    budget: Annotated[
        str, typer.Option(help="Time to learn, for methods that can be told: 20s, 5m, 1h.")
    ] = "8s",
    out: Annotated[Path, typer.Option(help="Folder of results; a rerun continues there.")] = Path(
        "segalgos-bench"
    ),
    root: Annotated[
        Path | None, typer.Option(help="Where data sets are (else SEGALGOS_DATA).")
    ] = None,
    split: Annotated[str | None, typer.Option(help="Split to score: test, val, train.")] = None,
    max_images: Annotated[
        int | None, typer.Option(min=1, help="At most so many images of each split.")
    ] = None,
    tune: Annotated[
        bool, typer.Option(help="Let untrained methods choose a setting on training images.")
    ] = True,
    time_limit: Annotated[
        str | None, typer.Option(help="Time for one run; by default 10 budgets and 5 minutes.")
    ] = None,
    memory_limit: Annotated[
        str | None, typer.Option(help="Memory for one run, like 4GB; by default 3/4 of all.")
    ] = None,
    cluster: Annotated[
        str | None, typer.Option(help="Address of a dask scheduler to run on.")
    ] = None,
    retry_failed: Annotated[bool, typer.Option(help="Run failed cells again.")] = False,
    challenge: Annotated[
        str | None,
        typer.Option(
            help="Make the data harder step by step: few_labels, domain, scale, overlap, noise, "
            "blur, speed, semantics, several of them, or `all`. On `shapes` if there is no --data."
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Compare methods on the same images, and write a report."""
    from segalgos.bench import challenges, runner, suite
    from segalgos.bench import report as report_room

    learn = _seconds(budget, "--budget")
    limits = runner.Limits(
        _seconds(time_limit, "--time-limit") if time_limit else 10 * learn + 300,
        _bytes(memory_limit) if memory_limit else runner.default_memory(),
    )
    try:
        chosen = suite.parse_methods(methods)
        posed = challenges.parse_challenges(challenge) if challenge is not None else []
        data = "shapes" if posed and data is None else data
        choices = suite.parse_data(data, str(root) if root else None)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error
    how = {"seeds": seeds, "budget": learn, "split": split, "tune": tune, "max_images": max_images}
    if posed:
        cells, left_out = challenges.make_challenge_cells(posed, chosen, choices, **how)
    else:
        cells, left_out = suite.make_cells(chosen, choices, **how)
    for line in left_out:
        say(f"left out: {line}")
    if not cells:
        hint = " or --challenge" if posed else ""
        raise ValueError(f"bench: no method fits the data: choose others with --methods{hint}.")
    rows = _run_with_progress(runner, cells, out, limits, cluster, retry_failed)
    path = report_room.write_report(out)
    failed = [row for row in rows if row["status"] != "ok"]
    if as_json:
        emit(
            json.dumps(
                {"report": str(path), "results": str(out / "results.jsonl"), "failed": len(failed)}
            )
        )
    else:
        for dataset, view, text in report_room.summary_lines(rows):
            emit(f"{dataset} ({view}): {text}")
        for row in failed:
            emit(
                f"failed: {row['method']} on {row['dataset']}, seed {row['seed']}: {row['reason']}"
            )
        emit(f"report: {path}")
    if failed:
        raise typer.Exit(PARTIAL)


def _run_with_progress(runner, cells, out, limits, cluster, retry_failed) -> list[dict]:
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=err, transient=True) as progress:
        task = progress.add_task("starting", total=len(cells))

        def on_start(cell):
            name = f"{cell.method.label} on {cell.data.label}, seed {cell.seed}"
            progress.update(task, description=name)

        def on_row(row):
            progress.advance(task)
            name = f"{row['method']} on {row['dataset']}, seed {row['seed']}"
            if row["status"] == "ok":
                scores = ", ".join(
                    f"{view} {content['scores'][content['headline']]:.3f}"
                    for view, content in row["views"].items()
                    if content["scores"][content["headline"]] is not None
                )
                line = f"{name}: {scores} ({row['seconds']:.1f} s)"
            else:
                line = f"{name}: {row['status']}, {row['reason']}"
            progress.console.print(line, highlight=False, markup=False, soft_wrap=True)

        return runner.run_cells(
            cells,
            out,
            limits,
            cluster=cluster,
            retry_failed=retry_failed,
            on_start=on_start,
            on_row=on_row,
            on_resume=lambda n_done: progress.update(task, completed=n_done),
            on_warm_up=lambda: progress.update(task, description="compiling, once"),
        )


def _seconds(text: str, option: str) -> float:
    units = {"s": 1, "m": 60, "h": 3600}
    number, unit = (text[:-1], text[-1]) if text[-1:] in units else (text, "s")
    try:
        value = float(number) * units[unit]
    except ValueError:
        value = 0
    if not 0 < value < float("inf"):
        raise typer.BadParameter(f"{option} {text!r}: write a time like 20s, 5m or 1h.")
    return value


def _bytes(text: str) -> float:
    units = {"KB": 1e3, "MB": 1e6, "GB": 1e9, "TB": 1e12}
    number, unit = text[:-2], text[-2:].upper()
    try:
        value = float(number) * units[unit]
    except (ValueError, KeyError):
        value = 0
    if not 0 < value < float("inf"):
        raise typer.BadParameter(f"--memory-limit {text!r}: write a size like 500MB or 4GB.")
    return value


def report(
    out: Annotated[Path, typer.Argument(help="Folder that `segalgos bench` wrote.")] = Path(
        "segalgos-bench"
    ),
) -> None:
    """Write the report of a benchmark anew."""
    from segalgos.bench import report as report_room

    emit(str(report_room.write_report(out)))


def cityscapes(
    predictions: Annotated[
        Path, typer.Argument(help="Folder of predicted PNG files, named as the images are.")
    ],
    root: Annotated[
        Path | None, typer.Option(help="Where Cityscapes is (else SEGALGOS_DATA).")
    ] = None,
    split: Annotated[str, typer.Option(help="Images to score: val or train.")] = "val",
    ids: Annotated[
        str,
        typer.Option(
            help="What the files hold: `label` ids, as the benchmark's server takes them, or "
            "`train` ids."
        ),
    ] = "label",
    name: Annotated[
        str | None, typer.Option(help="What to call them in the table; by default the folder.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Score predictions for Cityscapes, and show them among published results."""
    from segalgos.bench import cityscapes as room

    n_images, scores = _score_with_progress(room, predictions, root, split, ids)
    own = room.own_result(name or predictions.resolve().name, split, scores)
    results = room.rank([*room.published(), own])
    if as_json:
        emit(room.to_json(n_images, scores, results))
        return
    _print_rows(room.class_rows(scores))
    _print_rows(room.result_rows(results), bold=results.index(own))
    emit(f"{own.method}: mean IoU {room.score_text(own.mean_iou)}, {n_images} images of {split}")


def _print_rows(rows: list[list[str]], bold: int | None = None) -> None:
    """Print a table: titles, then rows, of which one may be bold."""
    table = Table()
    for title in rows[0]:
        table.add_column(title, justify="right" if "IoU" in title else "left")
    for i, row in enumerate(rows[1:]):
        table.add_row(*map(escape, row), style="bold" if i == bold else None)
    print_table(table)


def _score_with_progress(room, predictions, root, split, ids) -> tuple[int, dict]:
    from rich.progress import Progress

    with Progress(console=err, transient=True) as progress:
        task = progress.add_task("scoring", total=None)
        return room.score_folder(
            predictions,
            root=root,
            split=split,
            ids=ids,
            on_start=lambda n_images: progress.update(task, total=n_images),
            on_image=lambda: progress.advance(task),
        )
