"""Make the report's pictures from the samples and predictions that the runner kept."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from segalgos.bench.kept import read_objects, read_prompts
from segalgos.bench.store import safe_name
from segalgos.files import read_image, read_labels
from segalgos.parallel import map_items
from segalgos.plot import draw_instances, draw_prompts, label_colors, overlay
from segalgos.results import Instances, Prompts

__all__ = ["Picture", "SamplePictures", "hides_first", "write_pictures"]

VOID = 65535  # how label files write -1

# All pictures together shall take a few megabytes, at some 0.25 byte a pixel: few pictures can
# be larger than many.
_PIXELS_IN_ALL = 12e6
_SMALLEST, _LARGEST = 160, 480  # of the longer side
_ASPECT = 0.7

_ALPHA = 0.55
_WHITE = 255
_LONGEST_NAME = 14  # letters of a class that are written into a picture


@dataclass(frozen=True)
class Picture:
    """A picture file of the report.

    Parameters
    ----------
    path : str
        Relative to the report.
    width, height : int
    shows : tuple of str, default=()
        What it shows besides colours: "scores" of objects, "prompts".
    """

    path: str
    width: int
    height: int
    shows: tuple[str, ...] = ()


@dataclass(frozen=True)
class SamplePictures:
    """All pictures of one image.

    Parameters
    ----------
    name : str
        Of the image in its data set.
    image : Picture
    truths : dict of str to Picture
        By view.
    predictions : dict of (method, view) to Picture
    """

    name: str
    image: Picture
    truths: dict[str, Picture]
    predictions: dict[tuple[str, str], Picture]


@dataclass(frozen=True)
class _Files:
    """Where the maps of one image are, before they become pictures."""

    name: str
    image: Path
    truths: dict[str, Path]
    predictions: dict[tuple[str, str], Path]
    classes: tuple[str, ...]

    def __len__(self):
        return 1 + len(self.truths) + len(self.predictions)


def hides_first(classes: Any) -> bool:
    """Say whether class 0 is a background, which pictures leave uncoloured.

    Parameters
    ----------
    classes : sequence of str

    Returns
    -------
    bool
    """
    return bool(classes) and str(classes[0]).lower() == "background"


def write_pictures(
    out_dir: Path,
    folder: Path,
    cells: dict[str, list[dict[str, Any]]],
    only: Mapping[str, str] | None = None,
) -> dict[str, list[SamplePictures]]:
    """Write a picture of every kept image, truth and prediction.

    Parameters
    ----------
    out_dir : Path
        The benchmark's folder, with ``samples/`` and ``predictions/``.
    folder : Path
        The report's folder; pictures go to its ``pictures/``.
    cells : dict of str to list of dict
        Rows of each data set, as `segalgos.bench.statistics.group_cells` gives them.
    only : mapping of str to str, optional
        Data sets of which one image is enough, and the view that it is shown in.

    Returns
    -------
    dict of str to list of SamplePictures
        For each data set; an empty list where nothing was kept. Of the seeds of a method the
        lowest is shown. Files that are missing or damaged are left out.

    Notes
    -----
    Runs of one data set with different settings share a folder, which holds the pictures of the
    latest: only that one has pictures.
    """
    latest: dict[str, str] = {}
    for label, own in sorted(cells.items(), key=lambda item: _last_start(item[1])):
        latest[own[0]["dataset"]] = label
    listed = {
        label: _find_files(out_dir, own) if latest[own[0]["dataset"]] == label else []
        for label, own in cells.items()
    }
    for label, view in (only or {}).items():
        listed[label] = [_only_view(files, view) for files in listed[label][:1]]
    (folder / "pictures").mkdir()
    everything = [files for samples in listed.values() for files in samples]
    n_pictures = max(sum(map(len, everything)), 1)
    side = int(np.clip(np.sqrt(_PIXELS_IN_ALL / n_pictures / _ASPECT), _SMALLEST, _LARGEST))
    made = iter(map_items(lambda item: _draw(folder, *item, side), enumerate(everything)))
    drawn = {label: [next(made) for _ in samples] for label, samples in listed.items()}
    return {label: [sample for sample in own if sample] for label, own in drawn.items()}


def _only_view(files: _Files, view: str) -> _Files:
    truths = {name: path for name, path in files.truths.items() if name == view}
    predictions = {key: path for key, path in files.predictions.items() if key[1] == view}
    return replace(files, truths=truths, predictions=predictions)


def _last_start(cells):
    return max(str(cell.get("started") or "") for cell in cells)


def _find_files(out_dir, cells):
    dataset = safe_name(cells[0]["dataset"])
    kept = out_dir / "samples" / dataset
    try:
        text = (kept / "samples.json").read_text(encoding="utf-8")
        listed = [(int(s["index"]), str(s["name"]), list(s["views"])) for s in json.loads(text)]
    except (OSError, ValueError, TypeError, KeyError):
        return []
    done = sorted(
        (cell for cell in cells if cell["status"] == "ok"), key=lambda c: (c["method"], c["seed"])
    )
    classes = tuple(map(str, done[0].get("classes") or ())) if done else ()
    samples = []
    for index, name, views in listed:
        truths = {str(view): kept / safe_name(f"{index}-truth-{view}.png") for view in views}
        predictions: dict[tuple[str, str], Path] = {}
        for cell in done:
            run = safe_name(f"{cell['method']}-{cell['seed']}")
            for view in cell["views"]:
                path = out_dir / "predictions" / dataset / run / safe_name(f"{index}-{view}.png")
                if path.exists():
                    predictions.setdefault((cell["method"], view), path)
        image = kept / f"{index}-image.png"
        samples.append(_Files(name, image, truths, predictions, classes))
    return samples


def _draw(folder: Path, number: int, files: _Files, side: int) -> SamplePictures | None:
    """Draw the pictures of one image; None without the image itself."""
    try:
        image = Image.fromarray(read_image(files.image)).convert("RGB")
    except (OSError, ValueError, TypeError):
        return None
    size = image.size[::-1]
    image.thumbnail((side, side), Image.Resampling.LANCZOS)
    pixels = np.array(image)
    maps = [((view,), view, path) for view, path in files.truths.items()]
    maps += [(key, key[1], path) for key, path in files.predictions.items()]
    drawn = {}
    for i, (key, view, path) in enumerate(maps):
        picture, shows = _paint(pixels, size, view, path, files.classes)
        if picture is not None:
            name = f"pictures/{number:03}-{i + 1:03}.webp"
            drawn[key] = _save(folder, name, picture, shows)
    return SamplePictures(
        name=files.name,
        image=_save(folder, f"pictures/{number:03}-000.webp", pixels),
        truths={key[0]: picture for key, picture in drawn.items() if len(key) == 1},
        predictions={key: picture for key, picture in drawn.items() if len(key) == 2},
    )


def _paint(
    pixels: NDArray[np.uint8],
    size: tuple[int, int],
    view: str,
    path: Path,
    classes: tuple[str, ...],
) -> tuple[NDArray[np.uint8] | None, tuple[str, ...]]:
    """Paint a truth or prediction over its image of once `size`, and say what else is shown."""
    shape, hide_first = pixels.shape[:2], hides_first(classes)
    objects = _read_beside(path, "objects", size, shape) if view == "instance" else None
    if objects is None:
        labels, shows = _shrunk_labels(path, shape, view == "semantic", hide_first), ()
        if labels is None:
            return None, ()
        picture = overlay(pixels, labels, alpha=_ALPHA)
    else:
        labels, shows = objects.to_labels() - 1, ("scores",)
        names = _short_names(objects, classes)
        picture = draw_instances(pixels, objects, classes=names, alpha=_ALPHA)
    prompts = _read_beside(path, "prompts", size, shape)
    if prompts is not None:
        colors = _prompt_colors(prompts, labels, view == "semantic", hide_first)
        picture, shows = draw_prompts(picture, prompts, colors=colors), (*shows, "prompts")
    return picture, shows


def _read_beside(
    path: Path, kind: str, size: tuple[int, int], shape: tuple[int, int]
) -> Instances | Prompts | None:
    """Read what was kept with a label map; None where nothing was, or it is damaged."""
    beside = path.with_name(f"{path.name.partition('-')[0]}-{kind}.json")
    try:
        return (read_objects if kind == "objects" else read_prompts)(beside, size, shape)
    except (OSError, ValueError):
        return None


def _short_names(objects: Instances, classes: tuple[str, ...]) -> list[str] | None:
    """Class names to write at objects; none where all objects are of the same kind."""
    n_kinds = len(classes) - hides_first(classes)
    known = (objects.classes >= 0) & (objects.classes < len(classes))
    if n_kinds < 2 or not known.all():
        return None
    return [" ".join(name.split())[:_LONGEST_NAME] for name in classes]


def _prompt_colors(
    prompts: Prompts, labels: NDArray[np.int32], is_semantic: bool, hide_first: bool
) -> NDArray[np.uint8]:
    """Colours of prompts: as their class has or the region that they are in; else white."""
    scribbles = prompts.scribbles
    highest = 1 if scribbles is None else max(int(scribbles.max()), 1)
    colors = label_colors(highest + 1)
    if is_semantic:
        colors[: int(hide_first)] = _WHITE
    elif scribbles is not None:
        painted = label_colors(labels)
        for k in np.unique(scribbles[scribbles >= 0]):
            under = labels[(scribbles == k) & (labels >= 0)]
            colors[k] = painted[np.bincount(under).argmax()] if len(under) else _WHITE
    return colors


def _shrunk_labels(
    path: Path, shape: tuple[int, int], is_semantic: bool, hide_first: bool
) -> NDArray[np.int32] | None:
    """Read a label map at the size of a picture, -1 where nothing shall be painted."""
    try:
        labels = read_labels(path)
    except (OSError, ValueError):
        return None
    small = Image.fromarray(labels).resize(shape[::-1], Image.Resampling.NEAREST)
    labels = np.array(small, dtype=np.int32)
    void = labels == VOID
    if is_semantic:
        void |= hide_first & (labels == 0)
    else:
        # Ids of regions and objects say nothing: neighbours get the most distinct colours.
        labels = np.unique(labels, return_inverse=True)[1].reshape(shape).astype(np.int32)
    labels[void] = -1
    return labels


def _save(
    folder: Path, path: str, pixels: NDArray[np.uint8], shows: tuple[str, ...] = ()
) -> Picture:
    Image.fromarray(pixels).save(folder / path, quality=78, method=3)
    return Picture(path, pixels.shape[1], pixels.shape[0], shows)
