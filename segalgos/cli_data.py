"""The commands ``segalgos data``: what there is, where it comes from, whether it is whole."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from segalgos.cli_health import add_commands
from segalgos.console import BAD_INPUT, Json, emit, err, print_table, say

if TYPE_CHECKING:
    from segalgos.datasets import Info

__all__ = ["data_app", "place_of"]

data_app = typer.Typer(help="Data sets: what there is, whether it is whole and healthy, splits.")
add_commands(data_app)


@data_app.command("list")
def data_list(
    root: Annotated[Path | None, typer.Option(help="Where data sets are.")] = None,
    as_json: Json = False,
) -> None:
    """List the data sets: task, splits, size, licence, source, and whether it is here."""
    from dataclasses import asdict

    from segalgos import datasets

    found = [(info, place_of(info, root)) for info in datasets.available()]
    if as_json:
        emit(json.dumps([{**asdict(info), "place": place} for info, place in found]))
        return
    table = _table("name", "task", "splits", "size", "licence", "comes from", "here")
    for info, place in found:
        cells = (info.name, info.task, ", ".join(info.splits), info.size, info.licence)
        table.add_row(*cells, info.source, place or "no")
    print_table(table)


def _table(*titles: str) -> Table:
    table = Table(show_lines=True)
    for title in titles:
        table.add_column(title, overflow="fold")
    return table


def place_of(info: Info, root: Path | None) -> str | None:
    """Find where a data set is, in words.

    Parameters
    ----------
    info : segalgos.datasets.Info
    root : Path, optional

    Returns
    -------
    str or None
    """
    from segalgos import datasets

    if info.built_in:
        return "built in"
    place = datasets.locate(info.name, root)
    return str(place) if place else None


@data_app.command("download")
def data_download(
    what: Annotated[
        str,
        typer.Argument(help="Weights, by their name, or the address of a .zip or .tar.gz archive."),
    ],
    root: Annotated[Path, typer.Option(help="Folder for the weights, or to unpack into.")],
    sha256: Annotated[
        str | None, typer.Option(help="Digest of the archive, from somebody you trust.")
    ] = None,
) -> None:
    """Download weights or an archive, check the digest, and unpack an archive safely.

    `segalgos data list` names where each data set comes from, `segalgos data weights` which
    weights there are.
    """
    from segalgos import datasets
    from segalgos.datasets.download import download

    if "/" not in what:
        if sha256 is not None:
            raise typer.BadParameter("--sha256 is for addresses: that of weights is known.")
        try:
            emit(str(datasets.download_weights(what, root)))
        except ValueError as error:
            if "there are no weights" in str(error):
                raise typer.BadParameter(str(error)) from error
            raise
        return
    if sha256 is None:
        raise typer.BadParameter("--sha256 is missing: an address needs the digest of its file.")
    emit(str(download(what, sha256, root)))


@data_app.command("weights")
def data_weights(as_json: Json = False) -> None:
    """List the published weights that `segalgos data download NAME` fetches."""
    from dataclasses import asdict

    from segalgos import datasets

    found = datasets.available_weights()
    if as_json:
        emit(json.dumps([{**asdict(weights), "file": weights.file} for weights in found]))
        return
    table = _table("name", "what it is", "method", "MB", "licence", "comes from")
    for weights in found:
        size = f"{weights.n_bytes / 1e6:.0f}"
        cells = (weights.name, weights.summary, weights.method, size, weights.licence)
        table.add_row(*cells, weights.url)
    print_table(table)


@data_app.command("verify")
def data_verify(
    name: Annotated[str, typer.Argument(help="Data set, or a folder of your own.")],
    root: Annotated[Path | None, typer.Option(help="Where data sets are.")] = None,
    as_json: Json = False,
) -> None:
    """Read every image and label of a data set and check that they fit."""
    from rich.progress import track

    from segalgos import datasets
    from segalgos.bench import suite

    try:
        choice = suite.parse_data(name, str(root) if root else None)[0]
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error
    splits = {info.name: info for info in datasets.available()}[choice.name].splits
    counts, problems = {}, []
    for split in (name for name in splits if name != "all"):
        try:
            dataset = choice.load(split)
        except (ValueError, FileNotFoundError) as error:
            say(f"{split}: {error}")
            continue
        counts[split] = len(dataset)
        indices = range(len(dataset))
        for i in track(indices, description=split, console=err, transient=True):
            try:
                _check_sample(dataset[i])
            except (ValueError, OSError) as error:
                problems.append(f"{split}[{i}]: {error}")
    if not counts:
        raise FileNotFoundError(f"data verify: no split of {name} is here.")
    if as_json:
        emit(json.dumps({"name": name, "images": counts, "problems": problems}))
    else:
        for problem in problems:
            emit(problem)
        emit(f"{name}: " + ", ".join(f"{n} {split}" for split, n in counts.items()))
    if problems:
        raise typer.Exit(BAD_INPUT)


def _check_sample(sample: Any) -> None:
    shape = sample.image.shape[:2]
    truths = [sample.labels, *(sample.annotations or ())]
    if sample.instances is not None:
        truths.append(sample.instances)
    for truth in truths:
        if truth is not None and truth.shape != shape:
            raise ValueError(f"{sample.name}: labels are {truth.shape}, the image is {shape}")
