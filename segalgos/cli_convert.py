"""The command ``segalgos convert``: labels from one format to another."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from segalgos.console import PARTIAL, Json, emit, err, say

__all__ = ["add_command"]


def add_command(app: typer.Typer) -> None:
    """Add ``convert``.

    Parameters
    ----------
    app : typer.Typer
    """
    app.command()(convert)


def convert(
    source: Annotated[Path, typer.Argument(help="Folder or file of labels.")],
    target: Annotated[
        Path,
        typer.Argument(
            help="New folder; or a file: .json (COCO), or .png, .tif, .npy (one label map)."
        ),
    ],
    source_format: Annotated[
        str | None,
        typer.Option(
            "--from",
            help="coco, voc, yolo, labelme, pennfudan, cityscapes, label_maps or annotated; found "
            "out if left out.",
        ),
    ] = None,
    target_format: Annotated[
        str | None,
        typer.Option(
            "--to",
            help="The same names, or roboflow_coco and roboflow_yolo; needed for a folder.",
        ),
    ] = None,
    strict: Annotated[
        bool, typer.Option("--strict", help="Write nothing and exit with 3 if anything is lost.")
    ] = False,
    images: Annotated[
        str, typer.Option(help="Image files in a new folder: `copy`, `link` (hard) or `none`.")
    ] = "copy",
    codes: Annotated[
        bool, typer.Option("--codes", help="To COCO: run lengths instead of polygons.")
    ] = False,
    height: Annotated[int | None, typer.Option(help="For COCO files without a size.")] = None,
    width: Annotated[int | None, typer.Option(help="For COCO files without a size.")] = None,
    as_json: Json = False,
) -> None:
    """Convert labels between formats, and report what is lost."""
    from rich.progress import Progress

    from segalgos.formats import convert as room

    choices = (("--from", source_format, room.SOURCES), ("--to", target_format, room.WRITERS))
    for option, name, known in choices:
        if name is not None and name not in known:
            expected = ", ".join(known)
            raise typer.BadParameter(f"{option} {name!r}: expected one of {expected}.")
    with Progress(console=err, transient=True) as progress:
        task = progress.add_task("converting", total=None)
        report = room.convert(
            source,
            target,
            source_format=source_format,
            target_format=target_format,
            strict=strict,
            images=images,
            codes=codes,
            shape=(height, width) if height and width else None,
            on_start=lambda n_images: progress.update(task, total=n_images),
            on_scene=lambda: progress.advance(task),
        )
    emit(json.dumps(report.to_dict()) if as_json else "\n".join(report.lines()))
    if not report.written:
        say(f"{target} was not written, as --strict asks")
        raise typer.Exit(PARTIAL)
