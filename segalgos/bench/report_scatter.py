"""Lay out the report's chart of accuracy against time: ticks, marks, labels that do not collide."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

_FONT_SIZE = 12.0
CHARACTER = 0.56 * _FONT_SIZE  # mean width of a letter of a sans-serif face
_LINE_HEIGHT = 15.0
_MARK = 6.0  # half the width of a mark
_LONGEST = 26  # characters of a label


@dataclass(frozen=True)
class Point:
    """One method: what is known of it and what is drawn of it.

    Parameters
    ----------
    name : str
    seconds : float
        Above 0.
    score : float
    interval : (low, high) or None
    kind : str
        Decides the colour of the mark.
    hollow : bool
        Draw the outline only.
    """

    name: str
    seconds: float
    score: float
    interval: tuple[float, float] | None
    kind: str
    hollow: bool


@dataclass(frozen=True)
class Mark:
    """A point at its place, in pixels from the upper left corner.

    Attributes
    ----------
    point : Point
    x, y : float
    whisker : (top, bottom) or None
        Ends of the vertical line of the interval.
    text : str
        The name, shortened if need be.
    text_x, text_y : float
        Left end of the label's base line.
    leader : (x0, y0, x1, y1) or None
        Line from the mark to a label that is not beside it.
    """

    point: Point
    x: float
    y: float
    whisker: tuple[float, float] | None
    text: str
    text_x: float
    text_y: float
    leader: tuple[float, float, float, float] | None


@dataclass(frozen=True)
class Scatter:
    """A chart ready to be drawn.

    Attributes
    ----------
    width, height : int
    left, right, top, bottom : float
        The frame of the plot.
    x_ticks, y_ticks : list of (position, text)
    guide : float or None
        Where the line of the "fast" limit runs, if it is in range.
    marks : list of Mark
    """

    width: int
    height: int
    left: float
    right: float
    top: float
    bottom: float
    x_ticks: list[tuple[float, str]]
    y_ticks: list[tuple[float, str]]
    guide: float | None
    marks: list[Mark]


def lay_out(points: Sequence[Point], width: int, height: int, guide: float) -> Scatter | None:
    """Place points, ticks and labels.

    Parameters
    ----------
    points : sequence of Point
    width, height : int
        Of the whole chart, in pixels.
    guide : float
        Seconds at which a vertical line is drawn.

    Returns
    -------
    Scatter or None
        None if there is no point.

    Notes
    -----
    Labels are placed one after another, each where it covers the least of what is already
    there; O(n_points**2) for a fixed number of candidate places.
    """
    if not points:
        return None
    left, right, top, bottom = 46.0, width - 14.0, 30.0, height - 44.0
    # One ninth of a decade of air on either side, and at least a decade and a half in all.
    x_low = min(math.log10(p.seconds) for p in points) - 0.12
    x_high = max(math.log10(p.seconds) for p in points) + 0.12
    air = max(0.0, 1.5 - (x_high - x_low)) / 2
    x_low, x_high = x_low - air, x_high + air
    lows = [p.interval[0] if p.interval else p.score for p in points]
    highs = [p.interval[1] if p.interval else p.score for p in points]
    y_step, y_low, y_high = round_range(min(lows), max(highs))

    def to_x(log_seconds):
        return left + (log_seconds - x_low) / (x_high - x_low) * (right - left)

    def to_y(score):
        return bottom - (score - y_low) / (y_high - y_low) * (bottom - top)

    x_ticks = [(to_x(log), text) for log, text in time_ticks(x_low, x_high)]
    n_steps = round((y_high - y_low) / y_step)
    digits = max(1, -math.floor(math.log10(y_step) + 1e-9))
    y_values = [y_low + i * y_step for i in range(n_steps + 1)]
    log_guide = math.log10(guide)
    guide_x = to_x(log_guide) if x_low < log_guide < x_high else None
    marks = _label(points, to_x, to_y, (left, top, right, bottom), guide_x)
    return Scatter(
        width=width,
        height=height,
        left=left,
        right=right,
        top=top,
        bottom=bottom,
        x_ticks=x_ticks,
        y_ticks=[(to_y(value), f"{value:.{digits}f}") for value in y_values],
        guide=guide_x,
        marks=marks,
    )


def round_range(low: float, high: float) -> tuple[float, float, float]:
    """Give a tick step of 1, 2 or 5 and the range, widened to at least three whole steps."""
    span = max(high - low, 0.02)
    power = 10.0 ** math.floor(math.log10(span / 4))
    step = next(m * power for m in (1, 2, 5, 10) if m * power >= span / 5)
    low_steps, high_steps = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    high_steps = max(high_steps, low_steps + 3)
    if high <= 1 < high_steps * step - 1e-9:  # scores end at 1, so the air goes below
        low_steps, high_steps = low_steps - (high_steps - round(1 / step)), round(1 / step)
    return step, low_steps * step, high_steps * step


def time_ticks(low: float, high: float) -> list[tuple[float, str]]:
    """Ticks at powers of ten, and at 2 and 5 times them where there is room."""
    factors = (1, 2, 5) if high - low < 2.4 else (1,)
    ticks = []
    for power in range(math.floor(low), math.ceil(high) + 1):
        for factor in factors:
            log = power + math.log10(factor)
            if low <= log <= high:
                ticks.append((log, _duration(factor, power)))
    return ticks


def _duration(factor: int, power: int) -> str:
    for unit, first in (("s", 0), ("ms", -3), ("µs", -6)):
        if power >= first:
            return f"{factor * 10 ** (power - first)} {unit}"
    return f"{factor}e{power} s"


def _label(points, to_x, to_y, frame, guide):
    places = [(to_x(math.log10(p.seconds)), to_y(p.score)) for p in points]
    whiskers = [p.interval and (to_y(p.interval[1]), to_y(p.interval[0])) for p in points]
    taken = [(x - _MARK, y - _MARK, x + _MARK, y + _MARK, 4.0) for x, y in places]
    taken += [(x - 1, w[0], x + 1, w[1], 6.0) for (x, _), w in zip(places, whiskers) if w]
    if guide is not None:
        taken.append((guide - 2, frame[1], guide + 2, frame[3], 1.0))
    marks: list[Mark | None] = [None] * len(points)
    for i in sorted(range(len(points)), key=lambda i: places[i][1]):
        x, y = places[i]
        name = points[i].name
        text = name if len(name) <= _LONGEST else f"{name[: _LONGEST - 1]}…"
        size = len(text) * CHARACTER, _LINE_HEIGHT
        corner, distance = min(
            _candidates(x, y, *size),
            key=lambda c: _cost(c[0], size, c[1], taken, frame),
        )
        box = (*corner, corner[0] + size[0], corner[1] + size[1])
        taken.append((*box, 5.0))
        # The line ends where the label's box is nearest to the mark.
        near = min(max(x, box[0]), box[2]), min(max(y, box[1]), box[3])
        leader = (x, y, *near) if distance > 10 else None
        base_line = corner[1] + 0.78 * _LINE_HEIGHT
        marks[i] = Mark(points[i], x, y, whiskers[i], text, corner[0], base_line, leader)
    return marks


def _candidates(x, y, width, height):
    """Upper left corners for a label around (x, y), near ones first, with their distances."""
    for distance in (4.0, 14.0, 26.0, 40.0, 56.0, 74.0):
        reach = _MARK + distance
        for dx, dy in ((1, 0), (-1, 0), (0, -1), (0, 1), (1, -1), (1, 1), (-1, -1), (-1, 1)):
            shrink = 0.75 if dx and dy else 1.0
            corner_x = x + dx * reach * shrink + (0 if dx > 0 else -width if dx < 0 else -width / 2)
            corner_y = y + dy * reach * shrink - height / 2 + dy * height * 0.35
            yield (corner_x, corner_y), distance


def _cost(corner, size, distance, taken, frame):
    x0, y0, x1, y1 = (*corner, corner[0] + size[0], corner[1] + size[1])
    cost = distance * 0.5
    for left, top, right, bottom, weight in taken:
        overlap = max(0.0, min(x1, right) - max(x0, left)) * max(
            0.0, min(y1, bottom) - max(y0, top)
        )
        cost += weight * overlap
    outside = max(0, frame[0] - x0) + max(0, x1 - frame[2])
    outside += max(0, frame[1] - y0) + max(0, y1 - frame[3])
    return cost + 40 * outside
