"""Which pin is bent or missing: the shape of each pin, and the row that it should stand in."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

UP, BENT, MISSING = 1, 2, 3
STATES = {UP: "up", BENT: "bent", MISSING: "missing"}

MOST_LEAN = 12.0  # degrees from the other pins of the picture
MOST_BOW = 0.10  # of a pin's length, that its middle may stand off the line between its ends
_N_PARTS = 6  # a pin is looked at in so many parts along its length
_HIGHEST = 0.45  # of the pitch, that a base may stand off its row
_LONGEST_GAP = 3  # missing pins side by side


@dataclass(frozen=True)
class Pin:
    """The shape of one pin, in pixels.

    Parameters
    ----------
    base : (2,) float
        Row and column of its lower end, where it leaves the socket.
    lean : float
        Direction from base to tip: degrees clockwise from straight up.
    bow : float
        Largest distance of its middle from the line between its ends, over its length.
    length : float
    """

    base: NDArray[np.float64]
    lean: float
    bow: float
    length: float


@dataclass(frozen=True)
class Site:
    """A place where a pin is expected, and what is there.

    Parameters
    ----------
    row, place : int
        Row of pins and position in it, from the upper left.
    at : (2,) float
        Row and column of the socket, in pixels.
    state : int
        `UP`, `BENT` or `MISSING`.
    reason : str
        What was measured.
    """

    row: int
    place: int
    at: NDArray[np.float64]
    state: int
    reason: str


def measure(mask: NDArray[np.bool_]) -> Pin | None:
    """Measure one pin; None for fewer than a dozen pixels, which have no shape."""
    points = np.argwhere(mask).astype(float)
    if len(points) < 12:
        return None
    centre = points.mean(axis=0)
    _, _, axes = np.linalg.svd(points - centre, full_matrices=False)
    axis = axes[0] if axes[0][0] > 0 else -axes[0]  # downwards, to the socket
    along = (points - centre) @ axis
    across = (points - centre) @ np.array([-axis[1], axis[0]])
    order = np.argsort(along, kind="stable")
    parts = np.array_split(order, _N_PARTS)
    middle = np.array([[along[part].mean(), across[part].mean()] for part in parts])
    chord = middle[-1] - middle[0]
    length = float(along.max() - along.min()) + 1
    off = np.abs(
        chord[0] * (middle - middle[0])[:, 1] - chord[1] * (middle - middle[0])[:, 0]
    ) / max(np.hypot(*chord), 1e-9)
    base = centre + along.max() * axis + middle[-1, 1] * np.array([-axis[1], axis[0]])
    lean = float(np.degrees(np.arctan2(-axis[1], axis[0])))
    return Pin(base, lean, float(off.max()) / length, length)


def judge(pin: Pin, usual_lean: float) -> tuple[int, str]:
    """Say whether a pin is up or bent, and why."""
    lean = (pin.lean - usual_lean + 90) % 180 - 90
    reason = f"leans {lean:+.0f} degrees, bow {100 * pin.bow:.0f} % of its length"
    return (BENT if abs(lean) > MOST_LEAN or pin.bow > MOST_BOW else UP), reason


def inspect(
    pins: Sequence[NDArray[np.bool_]], holes: Sequence[NDArray[np.bool_]] = ()
) -> list[Site]:
    """Compare the pins of a picture with the rows that they should stand in.

    Parameters
    ----------
    pins : sequence of (H, W) bool
        A mask a pin.
    holes : sequence of (H, W) bool
        Empty sockets, where a method can see them.

    Returns
    -------
    list of Site
        Row by row. A pin is missing where a hole was seen, or where a row has a gap of a whole
        number of pitches. A gap at the end of a row shows only by its hole.

    Notes
    -----
    Pins lean with the camera, so that straight is what most pins of the picture do: the median.
    """
    found = [pin for pin in map(measure, pins) if pin is not None]
    usual = float(np.median([pin.lean for pin in found])) if found else 0.0
    seen = [(pin.base, *judge(pin, usual)) for pin in found]
    for hole in holes:
        seen.append((np.argwhere(hole).mean(axis=0), MISSING, "an empty hole"))
    if not seen:
        return []
    places = np.array([at for at, _, _ in seen])
    pitch = estimate_pitch(places)
    sites = []
    for number, members in enumerate(find_rows(places, pitch), 1):
        place = 1
        for before, here in zip([None, *members[:-1]], members, strict=True):
            if before is not None:
                n_steps = max(1, round((places[here, 1] - places[before, 1]) / pitch))
                for k in range(1, n_steps):
                    at = places[before] + (places[here] - places[before]) * k / n_steps
                    sites.append(Site(number, place, at, MISSING, "a gap in the row"))
                    place += 1
            sites.append(Site(number, place, *seen[here]))
            place += 1
    return sites


def estimate_pitch(places: NDArray[np.float64]) -> float:
    """The usual distance to the next place to the right, in pixels."""
    steps = []
    for place in places:
        right = places[:, 1] - place[1]
        near = (right > 3) & (np.abs(places[:, 0] - place[0]) < 0.35 * right)
        if near.any():
            steps.append(right[near].min())
    return float(np.median(steps)) if steps else np.inf


def find_rows(places: NDArray[np.float64], pitch: float) -> list[list[int]]:
    """Chains of places, each followed by the nearest one to its right in about its direction."""
    rows: list[list[int]] = []
    for i in np.argsort(places[:, 1], kind="stable").tolist():
        best, nearest = None, np.inf
        for row in rows:
            step = places[i] - places[row[-1]]
            slope = _slope(places[row])
            off = abs(step[0] - slope * step[1])
            if 0.5 * pitch < step[1] < (_LONGEST_GAP + 1.4) * pitch and off < _HIGHEST * pitch:
                cost = off + 0.2 * step[1]
                if cost < nearest:
                    best, nearest = row, cost
        if best is None:
            rows.append([i])
        else:
            best.append(i)
    return sorted(rows, key=lambda row: places[row, 0].mean())


def _slope(places: NDArray[np.float64]) -> float:
    """Rows a column along a chain; 0 until there are three places to tell it from."""
    if len(places) < 3:
        return 0.0
    return float(np.polyfit(places[-6:, 1], places[-6:, 0], 1)[0])
