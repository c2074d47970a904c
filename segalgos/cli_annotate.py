"""The command ``segalgos annotate``: a page where a person makes a data set."""

from __future__ import annotations

import os
import sys
import threading
from pathlib import Path
from typing import Annotated

import typer

from segalgos.console import emit, say

__all__ = ["add_command"]


def add_command(app: typer.Typer) -> None:
    """Add ``annotate``.

    Parameters
    ----------
    app : typer.Typer
    """
    app.command()(annotate)


def annotate(
    images: Annotated[
        list[Path], typer.Argument(help="Image files or folders of images; they stay untouched.")
    ],
    out: Annotated[
        Path, typer.Option(help="Folder of the data set; a folder that is there is continued.")
    ],
    classes: Annotated[
        str | None, typer.Option(help="Names of classes, like `cell,nucleus`; more in the page.")
    ] = None,
    method: Annotated[
        str | None,
        typer.Option(
            help="Tool to begin with: graph_cut, random_walker, forest or sam; all can be chosen "
            "in the page."
        ),
    ] = None,
    sam: Annotated[
        Path | None, typer.Option(help="Weights of SAM, which its clicks and boxes need.")
    ] = None,
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 for any that is free.")] = 0,
    browser: Annotated[bool, typer.Option(help="Open the page.")] = True,
) -> None:
    """Make a data set by hand, with help: clicks, boxes and scribbles become masks in a local page.

    Every change is saved at once. Ctrl-C ends it; the same command goes on.
    """
    try:
        from segalgos.annotation import server
    except ImportError as error:
        raise ImportError(
            "annotate needs a small web server: pip install 'segalgos[annotate]'."
        ) from error
    from segalgos.annotation.project import DatasetBusyError, Project
    from segalgos.annotation.session import Session
    from segalgos.annotation.useful_order import UsefulOrder

    if sam is not None and not sam.is_file():
        raise FileNotFoundError(
            f"annotate: --sam {sam} does not exist: `segalgos data download sam_vit_b --root DIR` "
            "gets weights."
        )
    names = [name.strip() for name in classes.split(",") if name.strip()] if classes else []
    try:
        project = Project(out, images, names)
    except DatasetBusyError as error:
        raise OSError(str(error)) from error
    with project:
        session = Session(project, sam=sam, method=method, order=UsefulOrder())

        def on_start(address: str) -> None:
            say(f"{len(project.images)} images; every change is saved in {out}; Ctrl-C ends it")
            emit(address)
            sys.stdout.flush()
            if browser:
                import webbrowser

                webbrowser.open(address)

        server.serve(session, server.open_socket(port), server.new_token(), on_start)
    say(f"ended; everything is saved in {out}")
    if threading.active_count() > 1:
        # What still compiles or learns cannot be stopped, and crashes if Python ends beneath it.
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(0)
