"""A folder of contours or hierarchies for BSDS500, scored as the official evaluation does."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from segalgos.datasets import bsds500
from segalgos.files import atomic_path, read_image, read_labels
from segalgos.metrics import (
    boundary_counts,
    boundary_scores_from_counts,
    level_scores_from_counts,
)
from segalgos.metrics.boundaries import MAX_DISTANCE, hierarchy_counts
from segalgos.parallel import map_items

__all__ = ["FORMS", "Evaluation", "score_folder", "table_rows", "to_json", "write_files"]

#: What a file may hold, and how that is told.
FORMS = {
    "ucm2": "double-sized ultrametric contour maps",
    "segs": "partitions level by level",
    "contours": "contour maps",
    "labels": "label maps",
}
_WITH_REGIONS = ("ucm2", "segs", "labels")
_SUFFIXES = (".mat", ".png", ".npy", ".tif", ".tiff")

_BOUNDARIES = {"ODS": "ods", "OIS": "ois", "AP": "ap", "R50": "r50"}
_REGIONS = {
    "covering": ("covering_ods", "covering_ois", "covering_best"),
    "probabilistic Rand index": ("pri_ods", "pri_ois"),
    "variation of information": ("voi_ods", "voi_ois"),
}


@dataclass(frozen=True)
class Evaluation:
    """The scores of a folder.

    Parameters
    ----------
    form : str
        What its files hold, of `FORMS`.
    split : str
    names : tuple of str
        Of the images, in the order of the scores.
    boundaries : dict
        As `segalgos.metrics.boundary_scores`.
    regions : dict or None
        As `segalgos.metrics.level_scores`; None for contours, which have none.
    """

    form: str
    split: str
    names: tuple[str, ...]
    boundaries: dict[str, Any]
    regions: dict[str, Any] | None


def score_folder(
    predictions: str | Path,
    *,
    root: str | Path | None = None,
    split: str = "val",
    thresholds: int = 99,
    max_distance: float = MAX_DISTANCE,
    on_start: Callable[[int], object] = lambda n_images: None,
    on_image: Callable[[], object] = lambda: None,
) -> Evaluation:
    """Score the predictions for all images of a split.

    Parameters
    ----------
    predictions : path
        A folder with a file for each image, named as the image is; all of one form:

        - ``.mat`` with ``ucm2``, a double-sized map from 0 to 1, or with ``segs``, a cell array of
          label maps, in which 0 is no region;
        - ``.png``: contours, white is 1;
        - ``.npy``: float (H, W), contours from 0 to 1; float (2 H + 1, 2 W + 1), as ``ucm2``; int
          (H, W), a label map; int (n, H, W), label maps level by level. -1 is no region;
        - ``.tif``: a label map.

        Other files are left out.
    root : path, optional
        Where the data set is, as for `segalgos.datasets.bsds500.load`.
    split : {"train", "val", "test"}
    thresholds : int, default=99
        Number of levels of contour maps.
    max_distance : float, default=0.0075
        How far apart boundary pixels that correspond may be, as a part of the diagonal.
    on_start, on_image : callable
        Called with the number of images; called, from any thread, when one is counted.

    Returns
    -------
    Evaluation

    Raises
    ------
    FileNotFoundError
        If there is no such folder, an image has no prediction, or the data set is not here.
    ValueError
        If an image has two predictions, or one is damaged, of another size or form.
    """
    samples = bsds500.load(split=split, root=root)
    names = bsds500.image_names(split=split, root=root)
    files = _find_files(Path(predictions), names, split)
    on_start(len(names))
    first = _read(files[0], samples[0].annotations[0].shape)

    def count(index: int) -> tuple[Any, Any]:
        annotations = samples[index].annotations
        form, found = _read(files[index], annotations[0].shape)
        _check_alike(files[0], first, files[index], (form, found))
        try:
            if form in _WITH_REGIONS:
                boundaries, levels = hierarchy_counts(
                    found,
                    annotations,
                    thresholds=thresholds,
                    max_distance=max_distance,
                    double_sized=form == "ucm2",
                    name="the map",
                    caller="bsds",
                )
            else:
                levels = None
                boundaries = boundary_counts(
                    found, annotations, thresholds=thresholds, max_distance=max_distance
                )
        except (TypeError, ValueError) as error:
            raise ValueError(f"bsds: {files[index]}: {error}") from error
        on_image()
        return boundaries, levels

    boundaries, levels = zip(*map_items(count, range(len(names))), strict=True)
    return Evaluation(
        first[0],
        split,
        tuple(names),
        boundary_scores_from_counts(boundaries),
        level_scores_from_counts(levels) if first[0] in _WITH_REGIONS else None,
    )


def _check_alike(path: Path, content: tuple[str, Any], other: Path, its: tuple[str, Any]) -> None:
    """Check that two files hold the same form, and as many levels."""
    if its[0] != content[0]:
        raise ValueError(
            f"bsds: {path} holds {FORMS[content[0]]}, {other} holds {FORMS[its[0]]}: write all "
            "files in one form."
        )
    if its[0] == "segs" and len(its[1]) != len(content[1]):
        raise ValueError(
            f"bsds: {path} holds {len(content[1])} levels, {other} holds {len(its[1])}: write as "
            "many for each image."
        )


def _find_files(folder: Path, names: list[str], split: str) -> list[Path]:
    """The prediction of each image."""
    if not folder.is_dir():
        raise FileNotFoundError(f"bsds: {folder} is no folder: name that of the predictions.")
    if not names:
        raise FileNotFoundError(f"bsds: there is no image of {split}: get the whole set.")
    found: dict[str, Path] = {}
    for path in sorted(folder.iterdir()):
        if path.suffix.lower() not in _SUFFIXES or path.name.startswith("."):
            continue
        if path.stem in found:
            raise ValueError(
                f"bsds: {found[path.stem]} and {path} are both predictions of {path.stem}: leave "
                "one of them."
            )
        found[path.stem] = path
    missing = [name for name in names if name not in found]
    if missing:
        raise FileNotFoundError(
            f"bsds: {len(missing)} of the {len(names)} images of {split} have no prediction in "
            f"{folder}, such as {missing[0]}.png (or .mat, .npy, .tif): predict them all."
        )
    return [found[name] for name in names]


def _read(path: Path, shape: tuple[int, int]) -> tuple[str, Any]:
    """The form of a file, and what the metrics take."""
    suffix = path.suffix.lower()
    if suffix == ".mat":
        return _read_mat(path)
    if suffix == ".png":
        return "contours", _read_contours(path)
    if suffix == ".npy":
        return _read_array(path, shape)
    return "labels", [read_labels(path)]


def _read_mat(path: Path) -> tuple[str, Any]:
    from scipy.io import loadmat

    try:
        content = loadmat(path)
    except Exception as error:  # scipy raises a dozen types on damaged files
        raise ValueError(
            f"bsds: {path} could not be read as a .mat file ({error}): the file is damaged, or of "
            "version 7.3; save it again with -v7."
        ) from error
    if "ucm2" in content:
        contours = np.asarray(content["ucm2"])
        if contours.dtype == np.uint8:  # MATLAB's double() of them
            contours = contours.astype(np.float64)
        return "ucm2", contours
    if "segs" not in content:
        held = ", ".join(name for name in content if not name.startswith("__")) or "nothing"
        raise ValueError(f"bsds: {path} holds {held}, expected a variable ucm2 or segs.")
    cells = content["segs"]
    if cells.dtype != object or cells.size == 0:
        raise ValueError(
            f"bsds: {path}: segs is {cells.dtype} of shape {cells.shape}, expected a cell array of "
            "label maps."
        )
    partitions = []
    for i, cell in enumerate(cells.ravel()):
        labels = np.asarray(cell)
        is_map = labels.ndim == 2 and labels.dtype.kind in "uif"
        # Beyond that, floats hold no fractions.
        if not is_map or not ((np.trunc(labels) == labels) & (abs(labels) < 2**53)).all():
            raise ValueError(
                f"bsds: {path}: segs{{{i + 1}}} is {labels.dtype} of shape {labels.shape}, "
                "expected a map (H, W) of whole numbers."
            )
        partitions.append(labels.astype(np.int64) - 1)
    return "segs", partitions


def _read_contours(path: Path) -> NDArray:
    contours = read_image(path)
    if contours.ndim == 3 and contours.shape[-1] == 3 and (contours == contours[..., :1]).all():
        contours = contours[..., 0]
    if contours.ndim != 2:
        raise ValueError(
            f"bsds: {path} has shape {contours.shape}, expected a grey picture of contours."
        )
    if contours.dtype.kind in "ui" and contours.dtype != np.uint8:
        contours = contours / 65535  # of 16 bits, which Pillow may give as int32
    return contours


def _read_array(path: Path, shape: tuple[int, int]) -> tuple[str, Any]:
    try:
        with path.open("rb") as file:
            array = np.lib.format.read_array(file, allow_pickle=False)
    except Exception as error:  # numpy raises half a dozen types on damaged headers
        raise ValueError(
            f"bsds: {path} is not a plain array file ({error}): write it with numpy.save."
        ) from error
    if array.dtype.kind in "bf" and array.ndim == 2:
        double = tuple(2 * size + 1 for size in shape)
        return ("ucm2" if array.shape == double else "contours"), array
    if array.dtype.kind in "ui" and array.ndim == 2:
        return "labels", [array]
    if array.dtype.kind in "ui" and array.ndim == 3 and len(array):
        return "segs", list(array)
    raise ValueError(
        f"bsds: {path} holds {array.dtype} of shape {array.shape}, expected float (H, W) or "
        "(2 H + 1, 2 W + 1), or int (H, W) or (n, H, W)."
    )


def table_rows(evaluation: Evaluation) -> list[list[str]]:
    """Write the scores as the rows of a table.

    Parameters
    ----------
    evaluation : Evaluation

    Returns
    -------
    list of list of str
        Titles first.
    """
    rows = [["", "ODS", "OIS", "best", "AP", "R50"]]
    scores = evaluation.boundaries
    cells = {title: _text(scores[name]) for title, name in _BOUNDARIES.items()}
    rows.append(["boundaries, F", *(cells.get(title, "") for title in rows[0][1:])])
    for title, names in _REGIONS.items() if evaluation.regions else ():
        values = [_text(evaluation.regions[name]) for name in names]
        rows.append([title, *values, *[""] * (len(rows[0]) - 1 - len(values))])
    return rows


def _text(value: float) -> str:
    return "–" if math.isnan(value) else f"{value:.4f}"


def to_json(evaluation: Evaluation) -> str:
    """Write the scores as JSON, with null for what is not defined.

    Parameters
    ----------
    evaluation : Evaluation

    Returns
    -------
    str
    """
    content = {
        "form": evaluation.form,
        "split": evaluation.split,
        "images": len(evaluation.names),
        "names": list(evaluation.names),
        "boundaries": _plain(evaluation.boundaries),
        "regions": evaluation.regions and _plain(evaluation.regions),
    }
    return json.dumps(content)


def _plain(scores: dict[str, Any]) -> dict[str, Any]:
    def plain(value):
        return None if math.isnan(value) else float(value)

    return {
        name: [plain(v) for v in value] if isinstance(value, np.ndarray) else plain(value)
        for name, value in scores.items()
    }


def write_files(evaluation: Evaluation, folder: str | Path) -> list[Path]:
    """Write the scores in the files of the official evaluation.

    Parameters
    ----------
    evaluation : Evaluation
    folder : path
        Made if needed; files of these names are replaced.

    Returns
    -------
    list of Path
        ``eval_bdry.txt`` (threshold, recall, precision and F of ODS; recall, precision and F of
        OIS; AP), ``eval_bdry_thr.txt`` and ``eval_bdry_img.txt`` (threshold or number of the
        image and its best threshold, recall, precision, F). If there are regions,
        ``eval_cover.txt`` (threshold, ODS, OIS, best), ``eval_cover_th.txt``,
        ``eval_cover_img.txt``, ``eval_RI_VOI.txt`` (threshold, ODS and OIS of the Rand index; of
        the variation of information), ``eval_RI_VOI_thr.txt``.

    Raises
    ------
    OSError
        If `folder` cannot be written.
    """
    tables = _tables(evaluation)
    written = []
    for name, rows in tables.items():
        path = Path(folder) / f"{name}.txt"
        lines = [" ".join(f"{value:10g}" for value in row).replace("nan", "NaN") for row in rows]
        with atomic_path(path) as temporary:
            temporary.write_text("\n".join([*lines, ""]), encoding="ascii")
        written.append(path)
    return written


def _tables(evaluation: Evaluation) -> dict[str, NDArray[np.float64]]:
    """The rows of each file, by its name."""

    def row(scores, *names):
        return np.array([[scores[name] for name in names]])

    def columns(scores, *names):
        return np.column_stack([scores[name] for name in names])

    def numbered(rows):
        return np.column_stack([np.arange(1, len(rows) + 1), rows])

    found = evaluation.boundaries
    parts = ("threshold", "recall", "precision")
    tables = {
        "eval_bdry": row(
            found,
            *(f"ods_{part}" for part in parts),
            *("ods", "ois_recall", "ois_precision", "ois", "ap"),
        ),
        "eval_bdry_thr": columns(found, "thresholds", "recall", "precision", "f_measure"),
        "eval_bdry_img": numbered(
            columns(found, *(f"{part}_per_image" for part in (*parts, "f_measure")))
        ),
    }
    if evaluation.regions is None:
        return tables
    regions = evaluation.regions
    kinds = ("threshold", "ods", "ois")
    return tables | {
        "eval_cover": row(regions, *(f"covering_{kind}" for kind in (*kinds, "best"))),
        "eval_cover_th": columns(regions, "thresholds", "covering"),
        "eval_cover_img": numbered(
            columns(
                regions,
                "covering_threshold_per_image",
                "covering_per_image",
                "found_covering_per_image",
            )
        ),
        "eval_RI_VOI": row(
            regions, *(f"{name}_{kind}" for name in ("pri", "voi") for kind in kinds)
        ),
        "eval_RI_VOI_thr": columns(
            regions, "thresholds", "probabilistic_rand_index", "variation_of_information"
        ),
    }
