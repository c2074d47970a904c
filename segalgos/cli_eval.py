"""The commands ``segalgos eval``: files of predictions, scored as a benchmark does."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from segalgos.console import Json, emit, err, print_table, say
from segalgos.parallel import thread_limit

__all__ = ["eval_app"]

eval_app = typer.Typer(help="Score files of predictions as a benchmark does.")


@eval_app.callback()
def _root() -> None:
    """Score files of predictions as a benchmark does."""


@eval_app.command()
def bsds(
    predictions: Annotated[
        Path,
        typer.Option(
            "--pred",
            help="Folder with a file for each image: `.mat` (ucm2 or segs), `.png` (contours), "
            "`.npy` or `.tif`.",
        ),
    ],
    root: Annotated[
        Path | None, typer.Option(help="Where BSDS500 is (else SEGALGOS_DATA).")
    ] = None,
    split: Annotated[str, typer.Option(help="Images to score: val, test or train.")] = "val",
    thresholds: Annotated[int, typer.Option(min=1, help="Number of levels of contour maps.")] = 99,
    out: Annotated[
        Path | None, typer.Option(help="Folder for the files of the official evaluation.")
    ] = None,
    workers: Annotated[
        int | None, typer.Option(min=1, help="Images at the same time; by default all cores.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Score contours or hierarchies on BSDS500: boundaries, and regions where there are any."""
    from rich.progress import Progress

    from segalgos.bench import bsds as room

    for path in () if out is None else (out, *out.parents):
        if path.exists() and not path.is_dir():
            raise typer.BadParameter(f"--out {out}: {path} is a file: name a folder.")
    limit = thread_limit(workers) if workers else nullcontext()
    with limit, Progress(console=err, transient=True) as progress:
        task = progress.add_task("scoring", total=None)
        evaluation = room.score_folder(
            predictions,
            root=root,
            split=split,
            thresholds=thresholds,
            on_start=lambda n_images: progress.update(task, total=n_images),
            on_image=lambda: progress.advance(task),
        )
    written = room.write_files(evaluation, out) if out is not None else []
    if as_json:
        emit(room.to_json(evaluation))
        return
    n_levels = evaluation.boundaries["thresholds"].size
    _print_rows(room.table_rows(evaluation))
    emit(
        f"{len(evaluation.names)} images of {split}, {room.FORMS[evaluation.form]}, "
        f"{n_levels} level{'' if n_levels == 1 else 's'}"
    )
    if evaluation.regions is None:
        say("contours have no regions: write ucm2 or segs to have them scored too")
    for path in written:
        emit(str(path))


def _print_rows(rows: list[list[str]]) -> None:
    """Print a table of scores: titles, then rows that begin with a name."""
    table = Table()
    for i, title in enumerate(rows[0]):
        table.add_column(title, justify="right" if i else "left")
    for row in rows[1:]:
        table.add_row(*row)
    print_table(table)
