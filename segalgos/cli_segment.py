"""The commands ``segalgos segment``, ``fit`` and ``predict``: methods run on files."""

from __future__ import annotations

import ast
import json
import time
from pathlib import Path
from typing import Annotated, Any

import typer

from segalgos import catalog, files
from segalgos.console import BAD_INPUT, PARTIAL, Json, emit, err, say

__all__ = ["add_commands"]

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


def add_commands(app: typer.Typer) -> None:
    """Add ``segment``, ``fit`` and ``predict``.

    Parameters
    ----------
    app : typer.Typer
    """
    for command in (segment, fit, predict):
        app.command()(command)


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
