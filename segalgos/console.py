"""What all commands share: where text goes, and exit codes."""

from __future__ import annotations

import sys
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

__all__ = [
    "BAD_INPUT",
    "INTERRUPTED",
    "PARTIAL",
    "USAGE",
    "Json",
    "emit",
    "err",
    "print_table",
    "say",
]

USAGE, PARTIAL, BAD_INPUT, INTERRUPTED = 2, 3, 4, 130

Json = Annotated[bool, typer.Option("--json", help="Print results as JSON.")]

err = Console(stderr=True)


def emit(text: str) -> None:
    """Print a result.

    Parameters
    ----------
    text : str
    """
    sys.stdout.write(text + "\n")


def say(text: str) -> None:
    """Tell something on standard error.

    Parameters
    ----------
    text : str
    """
    err.print(text, highlight=False, markup=False, soft_wrap=True)


def print_table(table: Table) -> None:
    """Print a table as a result, wide enough for files and pipes.

    Parameters
    ----------
    table : rich.table.Table
    """
    console = Console()
    if not console.is_terminal:
        console.width = 160
    console.print(table)
