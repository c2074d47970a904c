"""From rows of results to table entries: averages, intervals, ranks with ties, answers.

Pure functions of the rows, which are dictionaries as the runner writes them (one a cell: method
× data set × seed). Nothing here reads or writes a file.
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from segalgos.metrics._averages import mean_of_defined, ratio

Row = dict[str, Any]

#: Views in the order in which tables are shown.
VIEWS = ("partition", "semantic", "instance")
#: Notes of views that no prediction could reach by itself.
UPPER_BOUNDS = frozenset({"oracle"})
#: "Fast" means a median prediction under this, in seconds an image.
FAST_SECONDS = 0.1
#: Resamples of the bootstrap.
N_RESAMPLES = 2000
#: Runs of one data set that differ in one of these are not compared.
SETTINGS = ("split", "fit_split", "options", "budget", "tune", "max_images")
_SEED = 20260101  # of the resamples: the same rows give the same report
_LEVELS = (2.5, 97.5)  # percentiles that bound a 95 % interval
_ROUNDING = 1e-12  # a difference as small as this is none


@dataclass(frozen=True, eq=False)
class Standing:
    """How one method did in one view of one data set, all seeds together.

    Attributes
    ----------
    method, segmenter, family, task, note : str
        From the rows; the note says how the view was made, for instance ``"oracle"``.
    year : int or None
    trained : bool
        Whether it learned from labels.
    score : float
        Headline score, averaged over seeds.
    interval : (low, high) or None
        95 % bootstrap interval of `score` over images; None with fewer than two images.
    seed_std : float or None
        Standard deviation of the headline score between seeds; None for a single seed.
    scores : dict of str to float
        Every score, averaged over seeds; NaN where undefined.
    score_lists : dict of str to (n,) float64
        Scores of each class (or threshold), averaged over the seeds where they are defined.
    image_scores : (n_images,) float64
        One score an image, averaged over seeds: what the worst cases are chosen by.
    n_seeds, n_failed : int
        Cells that ended well, and that did not.
    fit_seconds, first_seconds, predict_seconds : float or None
        Averages over seeds.
    peak_memory_mb : float or None
        The largest of all seeds.
    n_parameters : int or None
    upper_bound : bool
        Not reachable by a prediction alone (see `UPPER_BOUNDS`).
    rank : int or None
        1 is best. None for upper bounds beside methods that are none, and for undefined scores.
    tied : bool
        Whether others share the rank.
    resampled : (N_RESAMPLES,) float64 or None
        Headline score of every resample of the images; the same resamples for all methods.
    """

    method: str
    segmenter: str
    family: str
    task: str
    note: str
    year: int | None
    trained: bool
    score: float
    interval: tuple[float, float] | None
    seed_std: float | None
    scores: dict[str, float]
    score_lists: dict[str, NDArray[np.float64]]
    image_scores: NDArray[np.float64]
    n_seeds: int
    n_failed: int
    fit_seconds: float | None
    first_seconds: float | None
    predict_seconds: float | None
    peak_memory_mb: float | None
    n_parameters: int | None
    upper_bound: bool
    rank: int | None = None
    tied: bool = False
    resampled: NDArray[np.float64] | None = field(default=None, repr=False)


@dataclass(frozen=True, eq=False)
class Table:
    """All methods in one view of one data set.

    Attributes
    ----------
    dataset, view, headline : str
    classes : tuple of str
    image_names : tuple of str
    standings : tuple of Standing
        By rank, then by score; those without a rank last.
    failed : dict of str to str
        Methods that would belong here but have no cell that ended well, and how they ended.
    """

    dataset: str
    view: str
    headline: str
    classes: tuple[str, ...]
    image_names: tuple[str, ...]
    standings: tuple[Standing, ...]
    failed: dict[str, str]


@dataclass(frozen=True, eq=False)
class Answer:
    """One answer that a person came for.

    Attributes
    ----------
    question : {"accurate", "fast", "untrained"}
    best : Standing or None
        None if no method qualifies.
    tied : tuple of str
        Other qualifying methods that cannot be told from the best.
    upper_bound : Standing or None
        If nothing qualifies: the best upper bound that otherwise would.
    """

    question: str
    best: Standing | None
    tied: tuple[str, ...] = ()
    upper_bound: Standing | None = None


# --- cells -------------------------------------------------------------------------------


def group_cells(rows: Iterable[Row]) -> dict[str, list[Row]]:
    """Sort rows by data set and keep those that can be compared.

    Parameters
    ----------
    rows : iterable of dict
        In the order of the file.

    Returns
    -------
    dict of str to list of dict
        Cells of each data set. Runs of one data set with different splits, budgets or other
        settings are different data sets, told apart by a suffix. Of several rows of the same cell
        the last counts. A cell scored on other images than most of its data set gets the status
        ``"other images"`` and no views.
    """
    rows = list(rows)
    labels = label_runs(rows, [row["dataset"] for row in rows], SETTINGS)
    groups = defaultdict(dict)
    for row, label in zip(rows, labels):
        groups[label][row["method"], row["seed"]] = row
    return {label: _same_images(list(groups[label].values())) for label in sorted(groups)}


def label_runs(rows: Sequence[Row], names: Sequence[str], settings: Sequence[str]) -> list[str]:
    """Tell runs of one name but with different settings apart by a suffix.

    Parameters
    ----------
    rows : sequence of dict
    names : sequence of str
        One a row.
    settings : sequence of str
        Fields of rows.

    Returns
    -------
    list of str
        One a row: its name, with those settings that vary under this name.
    """
    found = [
        {name: json.dumps(row.get(name), sort_keys=True).strip('"') for name in settings}
        for row in rows
    ]
    seen = defaultdict(lambda: defaultdict(set))
    for own, setting in zip(names, found):
        for name, value in setting.items():
            seen[own][name].add(value)
    labels = []
    for own, setting in zip(names, found):
        varying = [name for name, values in seen[own].items() if len(values) > 1]
        suffix = ", ".join(f"{name.replace('_', ' ')} {setting[name]}" for name in varying)
        labels.append(f"{own} ({suffix})" if suffix else own)
    return labels


def _same_images(cells):
    subjects = Counter(_subject(cell) for cell in cells if cell["status"] == "ok")
    if len(subjects) < 2:
        return cells
    usual = subjects.most_common(1)[0][0]
    reason = "scored on other images or classes than most cells of this data set, so left out"
    return [
        {**cell, "status": "other images", "reason": reason, "views": {}}
        if cell["status"] == "ok" and _subject(cell) != usual
        else cell
        for cell in cells
    ]


def _subject(cell):
    return tuple(cell["image_names"]), tuple(cell.get("classes") or ())


def failed_cells(rows: Iterable[Row]) -> list[tuple[str, Row]]:
    """List the cells that did not end well.

    Parameters
    ----------
    rows : iterable of dict

    Returns
    -------
    list of (data set, row)
        Sorted by data set, method and seed.
    """
    failed = [
        (dataset, cell)
        for dataset, cells in group_cells(rows).items()
        for cell in cells
        if cell["status"] != "ok"
    ]
    return sorted(failed, key=lambda item: (item[0], item[1]["method"], item[1]["seed"]))


# --- tables ------------------------------------------------------------------------------


def build_tables(rows: Iterable[Row]) -> list[Table]:
    """Compare the methods in every view of every data set.

    Parameters
    ----------
    rows : iterable of dict

    Returns
    -------
    list of Table
        By data set, then in the order of `VIEWS`.

    Notes
    -----
    The 95 % interval of a score is the percentile bootstrap [1]_ over images: images are drawn
    with replacement `N_RESAMPLES` times, and the score is computed anew from the drawn images,
    for scores of a whole data set (mean IoU, matching AP) from the sums of their counts. All
    methods see the same draws, so two of them are compared in pairs: they cannot be told apart
    if the 95 % interval of the difference of their scores holds 0.

    Ranks: the method of the highest score and all that cannot be told from it share rank 1. They
    are set aside, and what is left is ranked likewise, from the number of methods set aside plus
    one. With fewer than two images nothing can be told apart. No correction is made for the
    number of comparisons.

    O(N_RESAMPLES * n_images) time and memory for each score of each cell.

    References
    ----------
    .. [1] B. Efron, R. Tibshirani, "An Introduction to the Bootstrap", 1993, chapter 13.
    """
    tables = []
    for dataset, cells in group_cells(rows).items():
        done = [cell for cell in cells if cell["status"] == "ok"]
        found = {view for cell in done for view in cell["views"]}
        for view in sorted(found, key=lambda v: (VIEWS.index(v) if v in VIEWS else len(VIEWS), v)):
            tables.append(_build_table(dataset, view, cells))
    return tables


def _build_table(dataset, view, cells):
    by_method = defaultdict(list)
    for cell in cells:
        by_method[cell["method"]].append(cell)
    done = [cell for cell in cells if cell["status"] == "ok"]
    here = [cell for cell in done if view in cell["views"]]
    # A method that always failed is missed here unless methods of its task only have other views.
    elsewhere = {cell.get("task") for cell in done} - {cell.get("task") for cell in here}
    standings, failed = [], {}
    for method, own in by_method.items():
        scored = [cell for cell in own if cell["status"] == "ok" and view in cell["views"]]
        n_failed = sum(cell["status"] != "ok" for cell in own)
        if scored:
            standings.append(_stand(scored, view, n_failed))
        elif n_failed == len(own) and own[0].get("task") not in elsewhere:
            failed[method] = ", ".join(sorted({cell["status"] for cell in own}))
    first = here[0]
    return Table(
        dataset=dataset,
        view=view,
        headline=first["views"][view]["headline"],
        classes=tuple(map(str, first.get("classes") or ())),
        image_names=tuple(first["image_names"]),
        standings=tuple(rank(standings)),
        failed=dict(sorted(failed.items())),
    )


def _stand(cells, view, n_failed):
    last = cells[-1]
    views = [cell["views"][view] for cell in cells]
    headline = views[-1]["headline"]
    per_seed = as_array([v["scores"].get(headline) for v in views])
    resampled = [resample(v, len(cell["image_names"])) for v, cell in zip(views, cells)]
    resampled = None if any(r is None for r in resampled) else mean_of_defined(resampled, axis=0)
    names = dict.fromkeys(name for v in views for name in v["scores"])
    averages = {name: _average(name, views) for name in names}
    note = views[-1].get("note") or ""
    return Standing(
        method=last["method"],
        segmenter=last.get("segmenter") or "",
        family=last.get("family") or "",
        task=last.get("task") or "",
        note=note,
        year=last.get("year"),
        trained=bool(last.get("trained")),
        score=float(mean_of_defined(per_seed)),
        interval=None if resampled is None else _interval(resampled),
        seed_std=float(np.std(per_seed, ddof=1)) if len(per_seed) > 1 else None,
        scores={name: float(value) for name, value in averages.items() if value.ndim == 0},
        score_lists={name: value for name, value in averages.items() if value.ndim == 1},
        image_scores=mean_of_defined([image_scores(v)[1] for v in views], axis=0),
        n_seeds=len(cells),
        n_failed=n_failed,
        fit_seconds=_mean(_known(cells, "fit_seconds")),
        first_seconds=_mean(_known(cells, "first_predict_seconds")),
        predict_seconds=_mean(_known(cells, "predict_seconds")),
        peak_memory_mb=max(_known(cells, "peak_memory_mb"), default=None),
        n_parameters=last.get("n_parameters"),
        upper_bound=note in UPPER_BOUNDS,
        resampled=resampled,
    )


def _average(name, views):
    """Average a score over the seeds that have it."""
    values = [v["scores"][name] for v in views if v["scores"].get(name) is not None]
    return mean_of_defined(as_array(values or [None]), axis=0)


def _known(cells, name):
    return [cell[name] for cell in cells if cell.get(name) is not None]


def _mean(values):
    return float(np.mean(values)) if values else None


def as_array(values: Any) -> NDArray[np.float64]:
    """Turn numbers from JSON into an array, None becoming NaN.

    Parameters
    ----------
    values : nested list of float or None

    Returns
    -------
    ndarray of float64
    """
    return np.asarray(values, dtype=np.float64)


def image_scores(view: dict[str, Any]) -> tuple[str, NDArray[np.float64]]:
    """Give the score of each image that stands for the headline score.

    Parameters
    ----------
    view : dict
        One view of a row.

    Returns
    -------
    name : str
        The headline itself, or ``mean_iou_images`` where one image has no such score.
    scores : (n_images,) float64
        NaN where undefined.
    """
    images, headline = view["images"], view["headline"]
    for name in (headline, "mean_iou_images"):
        if name in images:
            return name, as_array(images[name])
    counts = as_array(images["counts"])
    if headline == "mean_matching_ap":
        return headline, _matching_ap(counts)
    return "mean_iou_images", _mean_iou(counts)


# --- bootstrap ---------------------------------------------------------------------------


def resample(view: dict[str, Any], n_images: int) -> NDArray[np.float64] | None:
    """Compute the headline score of every bootstrap resample of the images.

    Parameters
    ----------
    view : dict
        One view of a row.
    n_images : int

    Returns
    -------
    (N_RESAMPLES,) float64 or None
        None with fewer than two images, or if the row does not hold what the score is made of.
    """
    images, headline = view["images"], view["headline"]
    if n_images < 2:
        return None
    weights = draw(n_images)
    if "counts" in images and headline in _FROM_COUNTS:
        counts = as_array(images["counts"])  # (n_images, 3, K) or (n_images, n_thresholds, 3)
        sums = weights @ counts.reshape(n_images, -1)
        return _FROM_COUNTS[headline](sums.reshape(-1, *counts.shape[1:]))
    if headline not in images:
        return None
    values = as_array(images[headline])
    defined = ~np.isnan(values)
    return ratio(weights @ np.where(defined, values, 0), weights @ defined)


@lru_cache(maxsize=4)
def draw(n_images: int) -> NDArray[np.float64]:
    """Draw the resamples that all methods share.

    Parameters
    ----------
    n_images : int

    Returns
    -------
    (N_RESAMPLES, n_images) float64
        How often each resample holds each image; rows sum to `n_images`.
    """
    drawn = np.random.default_rng(_SEED).integers(n_images, size=(N_RESAMPLES, n_images))
    drawn += np.arange(N_RESAMPLES)[:, None] * n_images
    weights = np.bincount(drawn.ravel(), minlength=N_RESAMPLES * n_images)
    return weights.reshape(N_RESAMPLES, n_images).astype(np.float64)


def _mean_iou(counts):
    """Mean over the classes that are there: counts (..., 3, K) to (...)."""
    hits, false, missed = counts[..., 0, :], counts[..., 1, :], counts[..., 2, :]
    return mean_of_defined(ratio(hits, hits + false + missed))


def _matching_ap(counts):
    """Mean over thresholds of TP / (TP + FP + FN): counts (..., n_thresholds, 3) to (...)."""
    return mean_of_defined(ratio(counts[..., 0], counts.sum(axis=-1)))


# Headline scores that are no average over images: they are made from the sums of counts.
_FROM_COUNTS = {"mean_iou_dataset": _mean_iou, "mean_matching_ap": _matching_ap}


def _interval(resampled):
    defined = resampled[~np.isnan(resampled)]
    if not defined.size:
        return None
    low, high = np.percentile(defined, _LEVELS)
    return float(low), float(high)


def is_tie(a: Standing, b: Standing) -> bool:
    """Say whether two methods cannot be told apart.

    Parameters
    ----------
    a, b : Standing
        Of the same table.

    Returns
    -------
    bool
        True if the 95 % interval of the paired difference of their headline scores holds 0, or
        if there is no such interval.
    """
    if a is b or a.resampled is None or b.resampled is None:
        return True
    interval = _interval(a.resampled - b.resampled)
    return interval is None or (interval[0] <= _ROUNDING and interval[1] >= -_ROUNDING)


def rank(standings: Sequence[Standing]) -> list[Standing]:
    """Order methods and give them ranks, ties shown as ties.

    Parameters
    ----------
    standings : sequence of Standing

    Returns
    -------
    list of Standing
        Copies with `rank` and `tied`, ranked as `build_tables` says. Upper bounds are ranked only
        if there is nothing else.
    """
    contenders = _contenders(standings)
    others = sorted(
        (s for s in standings if s not in contenders),
        key=lambda s: (np.isnan(s.score), -s.score, s.method),
    )
    left = sorted(contenders, key=lambda s: (-s.score, s.method))
    ranked: list[Standing] = []
    while left:
        group = [s for s in left if is_tie(left[0], s)]
        left = [s for s in left if s not in group]
        position = len(ranked) + 1
        ranked += [replace(s, rank=position, tied=len(group) > 1) for s in group]
    return ranked + others


def _contenders(standings):
    """Those with a score that are no upper bound; upper bounds if there is nothing else."""
    scored = [s for s in standings if not np.isnan(s.score)]
    return [s for s in scored if not s.upper_bound] or scored


# --- answers -----------------------------------------------------------------------------

_QUESTIONS = {
    "accurate": lambda s: True,
    "fast": lambda s: s.predict_seconds is not None and s.predict_seconds < FAST_SECONDS,
    "untrained": lambda s: not s.trained,
}


def answers(table: Table) -> list[Answer]:
    """Answer what a person came for: most accurate, best when fast, best without training.

    Parameters
    ----------
    table : Table

    Returns
    -------
    list of Answer
        To "accurate", "fast" (a median under `FAST_SECONDS` an image) and "untrained" (learned
        from no labels). Upper bounds answer only where every method of the table is one.
    """
    contenders = _contenders(table.standings)
    result = []
    for question, qualifies in _QUESTIONS.items():
        able = sorted(filter(qualifies, contenders), key=lambda s: (-s.score, s.method))
        if able:
            tied = tuple(s.method for s in able[1:] if is_tie(able[0], s))
            result.append(Answer(question, able[0], tied))
        else:
            bounds = [s for s in table.standings if s.upper_bound and qualifies(s)]
            bounds = [s for s in bounds if not np.isnan(s.score)]
            best = max(bounds, key=lambda s: s.score, default=None)
            result.append(Answer(question, None, upper_bound=best))
    return result
