"""From rows of challenges to curves: each method's score at each difficulty, over seeds."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import t as student_t

from segalgos.bench.challenges import CHALLENGES, Challenge
from segalgos.bench.statistics import UPPER_BOUNDS, VIEWS, Row, as_array, label_runs

__all__ = [
    "SECONDS",
    "Curve",
    "CurvePoint",
    "Result",
    "build_results",
    "point_lines",
    "student_interval",
]

SECONDS = "predict_seconds"
_SHORTEST = 1e-9  # seconds: a clock may say 0
#: Runs of one challenge that differ in one of these are not compared.
_SETTINGS = ("budget", "tune", "max_images")


@dataclass(frozen=True)
class CurvePoint:
    """One method at one difficulty.

    Parameters
    ----------
    place : int
        Of the difficulty among those of the result.
    value : float
        Headline score, or seconds an image: the mean over seeds, of seconds the geometric one.
    interval : (float, float) or None
        95 % interval of `value` over seeds, by Student's t; None for fewer than two.
    n_seeds : int
    """

    place: int
    value: float
    interval: tuple[float, float] | None
    n_seeds: int


@dataclass(frozen=True)
class Curve:
    """One method over the difficulties.

    Parameters
    ----------
    method, note : str
        From the rows; the note says how the view was made, for instance ``"oracle"``.
    upper_bound : bool
        Not reachable by a prediction alone.
    points : tuple of CurvePoint
        From easy to hard; difficulties where every run failed are missing.
    """

    method: str
    note: str
    upper_bound: bool
    points: tuple[CurvePoint, ...]

    def at(self, place: int) -> CurvePoint | None:
        """Give the point at a difficulty, if there is one.

        Parameters
        ----------
        place : int

        Returns
        -------
        CurvePoint or None
        """
        return next((point for point in self.points if point.place == place), None)


@dataclass(frozen=True, eq=False)
class Result:
    """One challenge on one data set: what its figure and its table show.

    Parameters
    ----------
    challenge : Challenge
    label : str
        Of the data set, with settings where they vary.
    view, headline : str
        `headline` is the name of the score, or ``"predict_seconds"``.
    difficulties : tuple of (float, str)
        In the challenge's unit and for people, from easy to hard.
    curves : tuple of Curve
        The best at the hardest difficulty first, upper bounds last.
    rows : list of dict
        All of them, those of failed runs too.
    """

    challenge: Challenge
    label: str
    view: str
    headline: str
    difficulties: tuple[tuple[float, str], ...]
    curves: tuple[Curve, ...]
    rows: list[Row]


def build_results(rows: Iterable[Row]) -> list[Result]:
    """Draw the lessons of a run's challenges.

    Parameters
    ----------
    rows : iterable of dict
        Those without a challenge are passed over. Of several rows of a cell the last counts.

    Returns
    -------
    list of Result
        In the order of `CHALLENGES`, then by data set.
    """
    rows = [row for row in rows if row.get("challenge") in CHALLENGES]
    names = [row["challenge_data"] for row in rows]
    groups = defaultdict(dict)
    for row, label in zip(rows, label_runs(rows, names, _SETTINGS)):
        groups[row["challenge"], label][row["method"], row["difficulty"], row["seed"]] = row
    order = list(CHALLENGES)
    return [
        _build(CHALLENGES[name], label, list(groups[name, label].values()))
        for name, label in sorted(groups, key=lambda key: (order.index(key[0]), key[1]))
    ]


def _build(challenge: Challenge, label: str, rows: list[Row]) -> Result:
    texts = {float(row["difficulty"]): str(row["difficulty_text"]) for row in rows}
    values = sorted(texts, reverse=challenge.small_is_hard)
    done = [row for row in rows if row["status"] == "ok"]
    found = _views(done)
    view = challenge.view if challenge.view in found or not found else found[0]
    headline = SECONDS if challenge.measures_time else _headline(done, view)
    return Result(
        challenge=challenge,
        label=label,
        view=view,
        headline=headline,
        difficulties=tuple((value, texts[value]) for value in values),
        curves=_curves(done, view, headline, values),
        rows=rows,
    )


def _views(done: Sequence[Row]) -> list[str]:
    found = {view for row in done for view in row["views"]}
    return [view for view in VIEWS if view in found] + sorted(found.difference(VIEWS))


def _headline(done: Sequence[Row], view: str) -> str:
    return next((row["views"][view]["headline"] for row in done if view in row["views"]), "")


def _curves(
    done: Sequence[Row], view: str, score: str, difficulties: Sequence[float]
) -> tuple[Curve, ...]:
    by_method = defaultdict(list)
    for row in done:
        if view in row["views"]:
            by_method[row["method"]].append(row)
    curves = []
    for method, own in by_method.items():
        note = "" if score == SECONDS else own[-1]["views"][view].get("note") or ""
        points = tuple(_points(own, view, score, difficulties))
        if points:
            curves.append(Curve(method, note, note in UPPER_BOUNDS, points))
    sign = 1 if score == SECONDS else -1

    def order(curve: Curve) -> tuple:
        last = curve.points[-1]  # whoever came farthest first
        return curve.upper_bound, -last.place, sign * last.value, curve.method

    return tuple(sorted(curves, key=order))


def _points(
    rows: Sequence[Row], view: str, score: str, difficulties: Sequence[float]
) -> Iterator[CurvePoint]:
    for place, difficulty in enumerate(difficulties):
        own = [row for row in rows if row["difficulty"] == difficulty]
        if score == SECONDS:
            values = as_array([row.get(score) for row in own])
        else:
            values = as_array([row["views"][view]["scores"].get(score) for row in own])
        values = values[~np.isnan(values)]
        if not len(values):
            continue
        if score == SECONDS:  # times vary by factors
            values = np.log(np.maximum(values, _SHORTEST))
        bounds = (float(values.mean()), *(student_interval(values) or ()))
        if score == SECONDS:
            bounds = tuple(float(np.exp(bound)) for bound in bounds)
        yield CurvePoint(place, bounds[0], bounds[1:] or None, len(values))


def student_interval(values: NDArray[np.float64]) -> tuple[float, float] | None:
    """Give the 95 % interval of a mean by Student's t.

    Parameters
    ----------
    values : (n,) float64
        One a seed.

    Returns
    -------
    (low, high) or None
        None for fewer than two values.
    """
    n = len(values)
    if n < 2:
        return None
    reach = student_t.ppf(0.975, n - 1) * float(np.std(values, ddof=1)) / n**0.5
    mean = float(values.mean())
    return float(mean - reach), float(mean + reach)


def point_lines(results: Iterable[Result]) -> Iterator[dict[str, Any]]:
    """Give every point of every view, for a table that other programs read.

    Parameters
    ----------
    results : iterable of Result

    Yields
    ------
    dict
        One a challenge, data set, view, method and difficulty; times have no view.
    """
    for result in results:
        done = [row for row in result.rows if row["status"] == "ok"]
        values = [value for value, _ in result.difficulties]
        for view in _views(done):
            scores = [_headline(done, view)] + [SECONDS] * (view == result.view)
            for score in scores:
                for curve in _curves(done, view, score, values):
                    for point in curve.points:
                        low, high = point.interval or (None, None)
                        yield {
                            "challenge": result.challenge.name,
                            "dataset": result.label,
                            "difficulty": result.difficulties[point.place][0],
                            "difficulty_text": result.difficulties[point.place][1],
                            "view": "" if score == SECONDS else view,
                            "score": score,
                            "method": curve.method,
                            "note": curve.note,
                            "mean": point.value,
                            "low": low,
                            "high": high,
                            "n_seeds": point.n_seeds,
                        }
