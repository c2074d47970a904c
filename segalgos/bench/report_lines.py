"""Lay out the report's figures of challenges: a line a method, its name at the line's end."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from segalgos.bench.challenge_curves import Curve, CurvePoint, Result
from segalgos.bench.report_scatter import CHARACTER, round_range, time_ticks

_LINE_HEIGHT = 15.0
_DODGE = 4.0  # pixels between the whiskers of two methods
_WIDEST = 24.0  # pixels for all of them at one difficulty
_LONGEST = {"wide": 26, "narrow": 15}  # characters of a label
N_STYLES = 8  # colours and forms of marks; more methods take them again


@dataclass(frozen=True)
class Line:
    """A method's line at its place, in pixels from the upper left corner.

    Attributes
    ----------
    curve : Curve
    style : int
        Of its colour and the form of its marks.
    path : str
        For the ``d`` of a path.
    marks : list of (x, y, CurvePoint)
    whiskers : list of (x, top, bottom)
    text : str
        The name, shortened if need be.
    text_y : float
        Base line of the name, which begins at the chart's `text_x`.
    leader : (x0, y0, x1, y1)
        From the last mark to the name.
    """

    curve: Curve
    style: int
    path: str
    marks: list[tuple[float, float, CurvePoint]]
    whiskers: list[tuple[float, float, float]]
    text: str
    text_y: float
    leader: tuple[float, float, float, float]


@dataclass(frozen=True)
class LineChart:
    """A figure ready to be drawn.

    Attributes
    ----------
    width, height : int
    left, right, top, bottom : float
        The frame of the plot.
    text_x : float
        Left end of the names.
    x_ticks, y_ticks : list of (position, text)
    lines : list of Line
    """

    width: int
    height: int
    left: float
    right: float
    top: float
    bottom: float
    text_x: float
    x_ticks: list[tuple[float, str]]
    y_ticks: list[tuple[float, str]]
    lines: list[Line]


def lay_out_lines(result: Result, size: str) -> LineChart | None:
    """Place the lines, ticks and names of a challenge.

    Parameters
    ----------
    result : Result
    size : {"wide", "narrow"}

    Returns
    -------
    LineChart or None
        None if no run ended well.

    Notes
    -----
    Easy is on the left, hard on the right, whichever way the numbers run. Lines that share a
    difficulty stand a few pixels apart, so that their whiskers do not hide one another.
    """
    curves = result.curves
    if not curves:
        return None
    width, height = (760, 400) if size == "wide" else (360, 380)
    texts = [_shorten(curve.method, _LONGEST[size]) for curve in curves]
    margin = max(map(len, texts)) * CHARACTER + 34
    left, right, top, bottom = 50.0, width - margin, 30.0, height - 44.0
    to_x = _x_scale(result, left + 16, right - 16)
    to_y, y_ticks = _y_scale(result, top, bottom)
    middle = (len(curves) - 1) / 2
    lines = []
    ends = []
    for i, curve in enumerate(curves):
        shift = min(_DODGE, _WIDEST / len(curves)) * (i - middle)
        marks = [(to_x[p.place] + shift, to_y(p.value), p) for p in curve.points]
        ends.append(marks[-1])
        lines.append((curve, marks))
    heights = _spread([y for _, y, _ in ends], top, bottom)
    text_x = right + 22
    return LineChart(
        width=width,
        height=height,
        left=left,
        right=right,
        top=top,
        bottom=bottom,
        text_x=text_x,
        x_ticks=[(x, text) for x, (_, text) in zip(to_x, result.difficulties)],
        y_ticks=y_ticks,
        lines=[
            Line(
                curve=curve,
                style=style(result, curve.method),
                path="M" + "L".join(f"{x:.1f} {y:.1f}" for x, y, _ in marks),
                marks=marks,
                whiskers=[
                    (x, to_y(point.interval[1]), to_y(point.interval[0]))
                    for x, _, point in marks
                    if point.interval
                ],
                text=text,
                text_y=y + 4,
                leader=(marks[-1][0] + 7, marks[-1][1], text_x - 4, y),
            )
            for (curve, marks), text, y in zip(lines, texts, heights)
        ],
    )


def style(result: Result, method: str) -> int:
    """Give a method's colour and mark: the same in every figure with the same methods.

    Parameters
    ----------
    result : Result
    method : str

    Returns
    -------
    int
        Below `N_STYLES`.
    """
    return sorted({curve.method for curve in result.curves}).index(method) % N_STYLES


def _shorten(name: str, longest: int) -> str:
    return name if len(name) <= longest else f"{name[: longest - 1]}…"


def _x_scale(result: Result, left: float, right: float) -> list[float]:
    """Place each difficulty, from easy on the left to hard on the right."""
    values = [value for value, _ in result.difficulties]
    if result.challenge.is_log:
        values = [math.log(value) for value in values]
    reach = values[-1] - values[0]
    if not reach:
        return [(left + right) / 2] * len(values)
    return [left + (value - values[0]) / reach * (right - left) for value in values]


def _y_scale(
    result: Result, top: float, bottom: float
) -> tuple[Callable[[float], float], list[tuple[float, str]]]:
    """A function from values to pixels, cut at the frame, and ticks."""
    points = [point for curve in result.curves for point in curve.points]
    is_log = result.challenge.measures_time
    if is_log:
        low = math.log10(min(p.value for p in points)) - 0.15
        high = math.log10(max(p.value for p in points)) + 0.15
        ticks = time_ticks(low, high)
    else:
        # Scores lie between 0 and 1; intervals from few seeds may say more than that.
        lows = [max((p.interval or (p.value,))[0], 0.0) for p in points]
        highs = [min((p.interval or (p.value,))[-1], 1.0) for p in points]
        step, low, high = round_range(min(lows), max(highs))
        digits = max(1, -math.floor(math.log10(step) + 1e-9))
        n_ticks = round((high - low) / step) + 1
        ticks = [(low + i * step, f"{low + i * step:.{digits}f}") for i in range(n_ticks)]

    def place(value: float) -> float:
        return bottom - min(max((value - low) / (high - low), 0.0), 1.0) * (bottom - top)

    def to_y(value: float) -> float:
        return place(math.log10(value) if is_log else value)

    return to_y, [(place(value), text) for value, text in ticks]


def _spread(wanted: Sequence[float], top: float, bottom: float) -> list[float]:
    """Move heights apart until each has a line of its own, as little as that needs."""
    order = sorted(range(len(wanted)), key=lambda i: wanted[i])
    groups: list[list] = []  # [sum of wanted heights less their offsets, members]
    for i in order:
        groups.append([wanted[i], [i]])
        while len(groups) > 1 and _first(groups[-1]) < _first(groups[-2]) + _LINE_HEIGHT * len(
            groups[-2][1]
        ):
            later = groups.pop()
            offset = _LINE_HEIGHT * len(groups[-1][1]) * len(later[1])
            groups[-1] = [groups[-1][0] + later[0] - offset, groups[-1][1] + later[1]]
    placed = [0.0] * len(wanted)
    for group in groups:
        for k, i in enumerate(group[1]):
            placed[i] = _first(group) + k * _LINE_HEIGHT
    highest = max(placed)
    lift = max(0.0, highest - bottom) if min(placed) >= top else min(placed) - top
    return [y - lift for y in placed]


def _first(group: list) -> float:
    return group[0] / len(group[1])
