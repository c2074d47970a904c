"""The commands ``segalgos data check`` and ``data split``."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table
from rich.text import Text

from segalgos.console import PARTIAL, Json, emit, err, print_table, say

if TYPE_CHECKING:
    from segalgos.datasets import HealthReport
    from segalgos.datasets.splitting import Split

__all__ = ["add_commands"]

_STYLES = {"error": "bold red", "warning": "yellow", "note": "dim"}

Layout = Annotated[
    str | None,
    typer.Option(
        help="folder (images and label maps), coco, voc, yolo, labelme, pennfudan, cityscapes, "
        "label_maps or annotated; found out if left out."
    ),
]
Task = Annotated[
    str, typer.Option(help="What the values of label maps are: semantic (classes) or instance.")
]
Root = Annotated[Path | None, typer.Option(help="Where data sets are.")]
Near = Annotated[
    int,
    typer.Option(help="Bits of 255 in which copies may differ; -1 looks for no copies.", min=-1),
]


def add_commands(app: typer.Typer) -> None:
    """Add the commands to ``segalgos data``.

    Parameters
    ----------
    app : typer.Typer
    """
    app.command("check")(data_check)
    app.command("split")(data_split)


def data_check(
    source: Annotated[str, typer.Argument(help="A folder or file of your own, or a data set.")],
    layout: Layout = None,
    task: Task = "semantic",
    root: Root = None,
    near: Near = 64,
    examples: Annotated[
        int, typer.Option(help="How many of each kind of finding to show.", min=0)
    ] = 3,
    as_json: Json = False,
) -> None:
    """Look through a data set for what makes training or scores go wrong.

    Broken files, labels that do not fit, objects drawn twice, copies that leak between splits,
    classes and sizes. Exit code 3 if there are errors or warnings.
    """
    from segalgos import datasets

    _check_names(task)
    with _progress("checking") as hooks:
        report = datasets.check(
            source, layout=layout, task=task, root=root, near=_near(near), **hooks
        )
    if as_json:
        emit(json.dumps(_without_nan(report.to_dict())))
    else:
        _show(report, examples)
    if not report.healthy:
        raise typer.Exit(PARTIAL)


def data_split(
    source: Annotated[str, typer.Argument(help="A folder or file of your own, or a data set.")],
    out: Annotated[
        Path, typer.Option(help="New folder for the split data set, or with --lists for lists.")
    ],
    fractions: Annotated[
        str, typer.Option(help="Parts and their shares of the images.")
    ] = "train=0.7,val=0.15,test=0.15",
    group_by: Annotated[
        str | None,
        typer.Option(
            help="Keep together: `folder`, or what this regular expression finds in names."
        ),
    ] = None,
    lists: Annotated[
        bool, typer.Option("--lists", help="Write lists of names, train.txt and so on.")
    ] = False,
    target_format: Annotated[
        str | None,
        typer.Option("--to", help="Another label format for the new data set."),
    ] = None,
    images: Annotated[
        str, typer.Option(help="Image files in a new folder: `copy`, `link` (hard) or `none`.")
    ] = "copy",
    layout: Layout = None,
    task: Task = "semantic",
    root: Root = None,
    near: Near = 64,
    seed: Annotated[int, typer.Option(help="Which of the equally good splits.")] = 0,
    as_json: Json = False,
) -> None:
    """Split a data set: by class as evenly as possible, groups and copies kept together.

    The old data set stays as it is.
    """
    from segalgos import datasets

    _check_names(task)
    shares = _fractions(fractions)
    with _progress("reading") as hooks:
        plan = datasets.split(
            source,
            shares,
            group_by=group_by,
            near=_near(near),
            layout=layout,
            task=task,
            root=root,
            random_state=seed,
            **hooks,
        )
    if lists:
        plan.write_lists(out)
        report = None
    else:
        report = plan.write(out, target_format, images=images)
    for line in report.lines() if report is not None and not report.lossless else ():
        say(_printable(line))
    if as_json:
        emit(json.dumps(plan.to_dict()))
    else:
        _show_split(plan)


def _check_names(task: str) -> None:
    if task not in ("semantic", "instance"):
        raise typer.BadParameter(f"--task is {task!r}: expected semantic or instance.")


def _near(bits: int) -> int | None:
    return None if bits < 0 else bits


def _fractions(text: str) -> dict[str, float]:
    try:
        pairs = [part.split("=") for part in text.split(",")]
        return {name.strip(): float(share) for name, share in pairs}
    except ValueError:
        raise typer.BadParameter(
            f"--fractions is {text!r}: expected such as train=0.8,val=0.2."
        ) from None


@contextmanager
def _progress(what: str) -> Iterator[dict[str, Callable]]:
    from rich.progress import Progress

    with Progress(console=err, transient=True) as progress:
        task = progress.add_task(what, total=None)
        yield {
            "on_start": lambda n_images: progress.update(task, total=n_images),
            "on_image": lambda: progress.advance(task),
        }


# --- output --------------------------------------------------------------------------------------


def _printable(text: str) -> str:
    """Text of files without what would steer a terminal."""
    return "".join(c if c.isprintable() else f"\\x{ord(c):02x}" for c in text)


def _table(title: str, *columns: str) -> Table:
    table = Table(title=title, title_justify="left")
    for i, column in enumerate(columns):
        table.add_column(column, justify="left" if i == 0 else "right", overflow="fold")
    return table


def _add(table: Table, *cells: object) -> None:
    table.add_row(*(Text(_printable(str(cell))) for cell in cells))


def _show(report: HealthReport, examples: int) -> None:
    parts = _table(
        f"{_printable(report.source)}, layout {_printable(report.layout)}",
        *("part", "images", "without objects", "objects", "crowds"),
        *("smallest image", "median", "largest"),
    )
    for name, stats in report.splits.items():
        sizes = (stats.smallest, stats.median, stats.largest)
        shown = ["-" if size is None else f"{size[0]} x {size[1]}" for size in sizes]
        counts = (stats.images, stats.without_objects, stats.objects, stats.crowds)
        _add(parts, name or "all", *counts, *shown)
    print_table(parts)
    if report.classes:
        classes = _table(
            "classes", "class", "images", "objects", "pixels", "share", "small", "medium", "large"
        )
        for stats in report.classes:
            share = "-" if math.isnan(stats.share) else f"{100 * stats.share:.2f} %"
            sizes = (stats.small, stats.medium, stats.large)
            _add(classes, stats.name, stats.images, stats.objects, stats.pixels, share, *sizes)
        print_table(classes)
    if not report.findings:
        emit("nothing was found")
        return
    print_table(_findings(report, examples))
    emit("healthy: notes only" if report.healthy else "not healthy")


def _findings(report: HealthReport, examples: int) -> Table:
    table = Table(title="findings", title_justify="left", show_lines=True)
    for column in ("", "what", "times", "remedy", "such as"):
        table.add_column(column, overflow="fold")
    for kind, count in report.counts.items():
        found = [finding for finding in report.findings if finding.kind == kind]
        severity = found[0].severity
        shown = "\n".join(
            _printable(f"{f.image}: {f.detail}" if f.image else f.detail) for f in found[:examples]
        )
        cells = (kind, str(count), found[0].remedy, shown)
        table.add_row(Text(severity, style=_STYLES[severity]), *(Text(cell) for cell in cells))
    return table


def _show_split(plan: Split) -> None:
    table = _table(f"{plan.n_groups} groups", "", *plan.entries)
    _add(table, "images", *(len(own) for own in plan.entries.values()))
    for title, shares in plan.shares.items():
        what = "share of images" if title == "images" else title
        _add(table, what, *(f"{100 * shares[part]:.1f} %" for part in plan.entries))
    print_table(table)


def _without_nan(value: Any) -> Any:
    """JSON has no NaN: an undefined share is null."""
    if isinstance(value, float) and math.isnan(value):
        return None
    if isinstance(value, dict):
        return {key: _without_nan(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_without_nan(inner) for inner in value]
    return value
