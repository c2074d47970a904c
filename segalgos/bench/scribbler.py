"""A deterministic simulated annotator, who draws a few strokes on the truth of some images."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from segalgos.bench.user import depth_inside
from segalgos.checks import check_int, check_label_map

__all__ = ["SHARE_OF_SIDE", "draw_scribbles", "draw_scribbles_on", "draw_through"]

SHARE_OF_SIDE = 0.1  # of an image's longer side: how long a stroke is at most
CANDIDATES = 12  # places looked at before a stroke is begun
STIFFNESS = 40.0  # what a turn against the hand's own bend costs, in pixels of depth
SHARPER = 4  # in narrow places: times sharper turns, where there is no other way on
_TURNS = np.linspace(-0.2, 0.2, 9)  # radians a pixel: no circle narrower than five pixels
_HEADINGS = np.arange(16) * (np.pi / 8)


def draw_scribbles(
    labels: ArrayLike,
    n_strokes: int,
    *,
    random_state: int,
    length: int | None = None,
    width: int = 3,
) -> NDArray[np.int32]:
    """Draw strokes on an image's truth, as a person would to teach a method.

    Parameters
    ----------
    labels : (H, W) int array_like
        Classes; -1 where nothing is known.
    n_strokes : int
        How many strokes, over all classes.
    random_state : int
        The same seed draws the same strokes.
    length : int, optional
        The most pixels along a stroke; each takes half of it to all of it, if there is
        room. By default a tenth of the image's longer side.
    width : int, default=3
        Pixels across a stroke; in narrow places it is thinner.

    Returns
    -------
    (H, W) int32
        The classes under the strokes, -1 elsewhere (everywhere, if nothing is known).

    Raises
    ------
    TypeError, ValueError
        If an argument is not as expected.

    See Also
    --------
    draw_scribbles_on : The same on several images.

    Notes
    -----
    Every class gets a stroke, the largest first; the others go to the classes in proportion
    to the square root of their areas, by the method of equal proportions [1]_. A person
    draws more on large classes, but not by as much as they are larger.

    A stroke begins at the one of several random places that is farthest from the earlier
    strokes of its class [2]_ and from the image's border. It moves with inertia, bends a
    little, and keeps away from its class's border by a pixel more than its width, where the
    class is thick enough, or else by half the depth of its beginning. It never covers a
    pixel of another class or of -1, and never touches another stroke of its own class; where
    there is no room for a stroke it is left out. More strokes only add to those of a smaller
    number.

    O(H * W) time for each class and O(n_strokes ** 2 * length) for the strokes.

    References
    ----------
    .. [1] E. Huntington, "The apportionment of representatives in Congress", Trans.
       American Mathematical Society 30, 85-110, 1928.
    .. [2] D. Mitchell, "Spectrally optimal sampling for distribution ray tracing",
       SIGGRAPH 1991.

    Examples
    --------
    >>> import numpy as np
    >>> from segalgos.bench.scribbler import draw_scribbles
    >>> truth = np.repeat([0, 1], 50)[None].repeat(80, axis=0)
    >>> scribbles = draw_scribbles(truth, 4, random_state=0)
    >>> np.unique(scribbles)
    array([-1,  0,  1], dtype=int32)
    """
    return draw_scribbles_on(
        [labels], n_strokes, random_state=random_state, length=length, width=width
    )[0]


def draw_scribbles_on(
    labels: Sequence[ArrayLike],
    n_strokes: int,
    *,
    random_state: int,
    length: int | None = None,
    width: int = 3,
) -> list[NDArray[np.int32]]:
    """Draw strokes on the truths of several images, as `draw_scribbles` does on one.

    Parameters
    ----------
    labels : sequence of (H, W) int array_like
        Truths, of any sizes.
    n_strokes : int
        How many strokes, over all classes and images.
    random_state : int
    length : int, optional
        By default a tenth of each image's longer side.
    width : int, default=3

    Returns
    -------
    list of (H, W) int32
        One map for each truth.

    Raises
    ------
    TypeError, ValueError
        If an argument is not as expected.

    Notes
    -----
    The strokes of a class go to other images before any gets a second one, in a random order
    that favours those where the class is large; then in proportion to the square root of its
    area in each.
    """
    caller = "draw_scribbles"
    check_int(caller, "n_strokes", n_strokes, low=0)
    check_int(caller, "random_state", random_state, low=0)
    check_int(caller, "width", width, low=1)
    if length is not None:
        check_int(caller, "length", length, low=1)
    truths = [check_truth(caller, truth, f"labels[{i}]") for i, truth in enumerate(labels)]
    drawn = [np.full_like(truth, -1) for truth in truths]
    classes, weights = _square_roots_of_areas(truths)
    shares = _share_out(n_strokes, weights.sum(axis=0), -weights.sum(axis=0))
    for k, n_class in enumerate(shares):
        rng = np.random.default_rng([random_state, classes[k]])
        with np.errstate(divide="ignore"):
            turns = rng.exponential(size=len(truths)) / weights[:, k]
        for i, n in enumerate(_share_out(n_class, weights[:, k], turns)):
            if n > 0:
                most = length or max(1, round(SHARE_OF_SIDE * max(truths[i].shape)))
                own = np.random.default_rng([random_state, classes[k], i])
                drawn[i][_draw_strokes(truths[i] == classes[k], n, most, width, own)] = classes[k]
    return drawn


def check_truth(caller: str, truth: ArrayLike, name: str) -> NDArray[np.int32]:
    """Check one class map (H, W)."""
    truth = np.asarray(truth)
    if truth.ndim != 2:
        raise ValueError(
            f"{caller}: {name} has shape {truth.shape}, expected (H, W): pass one class a pixel."
        )
    return check_label_map(truth, truth.shape, caller, name)


def _square_roots_of_areas(
    truths: list[NDArray[np.int32]],
) -> tuple[list[int], NDArray[np.float64]]:
    """The classes that occur, and the square root of their areas (n_images, K)."""
    areas = []
    for truth in truths:
        classes, counts = np.unique(truth[truth >= 0], return_counts=True)
        areas.append(dict(zip(classes.tolist(), counts.tolist(), strict=True)))
    found = sorted(set().union(*areas))
    table = [[area.get(k, 0) for k in found] for area in areas]
    return found, np.sqrt(np.array(table, np.float64).reshape(len(areas), len(found)))


def _share_out(n: int, weights: NDArray[np.float64], turns: NDArray[np.float64]) -> list[int]:
    """Share out n things by equal proportions.

    Parameters
    ----------
    n : int
    weights : (K,) float
        Who has none gets nothing.
    turns : (K,) float
        Who has the least of these gets the first one first.

    Returns
    -------
    list of int
        Everybody gets one before anybody gets two.
    """
    counts = [0] * len(weights)
    entitled = [k for k in np.argsort(turns, kind="stable").tolist() if weights[k] > 0]
    for k in entitled[:n]:
        counts[k] = 1
    for _ in range(n - len(entitled) if entitled else 0):
        best = max(entitled, key=lambda k: weights[k] ** 2 / (counts[k] * (counts[k] + 1)))
        counts[best] += 1
    return counts


def _draw_strokes(
    inside: NDArray[np.bool_], n_strokes: int, length: int, width: int, rng: np.random.Generator
) -> NDArray[np.bool_]:
    """The pixels under strokes in one class of one image.

    Parameters
    ----------
    inside : (H, W) bool
        The class.
    n_strokes, length, width : int
    rng : Generator

    Returns
    -------
    (H, W) bool
    """
    hand = _Hand(inside, length, width, rng)
    for _ in range(n_strokes):
        start = hand.choose_start()
        if start is None:
            break
        hand.paint(hand.move(start))
    return hand.painted[hand.frame]


def draw_through(
    inside: NDArray[np.bool_],
    place: tuple[int, int],
    *,
    length: int,
    width: int,
    rng: np.random.Generator,
) -> tuple[NDArray[np.intp], NDArray[np.bool_]]:
    """Draw one stroke that passes a pixel, by the hand of `draw_scribbles`.

    Parameters
    ----------
    inside : (H, W) bool
        Where it may be.
    place : tuple of int
        Row and column of a pixel that is inside.
    length : int
        The most pixels along it.
    width : int
        Pixels across it, where there is room.
    rng : Generator

    Returns
    -------
    path : (n, 2) intp
        The pixels that its middle passes.
    painted : (H, W) bool
    """
    hand = _Hand(inside, length, width, rng)
    origin = np.array([side.start for side in hand.frame])
    path = hand.move(origin + place)
    hand.paint(path)
    return path - origin, hand.painted[hand.frame]


class _Hand:
    """Draws strokes in one class of one image.

    Attributes
    ----------
    depth : (H + 2 margin, W + 2 margin) float
        Distance to what is not of the class, in pixels; 0 there, and too near to a stroke.
    painted : bool array of that shape
    frame : tuple of slice
        Where the image is in them.
    """

    def __init__(
        self, inside: NDArray[np.bool_], length: int, width: int, rng: np.random.Generator
    ):
        self.length, self.width, self.rng = length, width, rng
        self.away = width + 1  # how far from a border a stroke is as good as anywhere
        self.ahead = np.arange(1, 2 * self.away + 1)  # how far the eye looks, in pixels
        margin = 2 * self.away + 2  # so that it never looks beyond the array
        self.depth = depth_inside(np.pad(inside, margin))
        self.painted = np.zeros(self.depth.shape, bool)
        self.frame = (slice(margin, -margin),) * 2
        self.places = np.argwhere(self.depth > 0)
        self.chances = np.cumsum(np.minimum(self.depth[self.depth > 0], self.away) ** 2)
        self.earlier = np.empty((0, 2), np.intp)  # centres of the strokes so far

    def choose_start(self) -> NDArray[np.intp] | None:
        """A place far from earlier strokes, or None if there is none."""
        drawn = self.rng.random(CANDIDATES) * self.chances[-1]
        places = self.places[np.searchsorted(self.chances, drawn, side="right")]
        places = places[self.depth[tuple(places.T)] > 0]
        if len(places) == 0:
            free = np.argwhere(self.depth > 0)
            if len(free) == 0:
                return None
            places = self.rng.choice(free, CANDIDATES)
        places = np.array([self._deepen(place) for place in places])
        if len(self.earlier) == 0:
            return places[0]
        apart = np.sqrt(((places[:, None] - self.earlier) ** 2).sum(axis=-1).min(axis=1))
        # Without this, corners are the farthest places.
        apart = np.minimum(apart, 2 * self._to_frame(places))
        return places[apart.argmax()]

    def _to_frame(self, places: NDArray[np.intp]) -> NDArray[np.intp]:
        """Distances (N,) of places (N, 2) to the border of the image, in pixels."""
        rows, columns = self.frame
        first = places - (rows.start, columns.start)
        last = np.add(self.depth.shape, (rows.stop, columns.stop)) - 1 - places
        return np.minimum(first, last).min(axis=1) + 1

    def _deepen(self, place: NDArray[np.intp]) -> NDArray[np.intp]:
        """The deepest place near one that is close to the border."""
        if self.depth[tuple(place)] >= self.away:
            return place
        corner = place - self.away
        window = self.depth[tuple(slice(c, c + 2 * self.away + 1) for c in corner)]
        return corner + np.unravel_index(window.argmax(), window.shape)

    def move(self, start: NDArray[np.intp]) -> NDArray[np.intp]:
        """The pixels (N, 2) that a stroke's centre passes, from `start` to both sides."""
        length = int(self.rng.integers((self.length + 1) // 2, self.length + 1))
        heading = self._choose_heading(start)
        # Where the class becomes thin the hand stops, unless it began in a thin place.
        floor = min(self.away, max(1.0, self.depth[tuple(start)] / 2))
        there = self._walk(start, heading, int(self.rng.integers(length)), floor)
        back = self._walk(start, heading + np.pi, length - 1 - len(there), floor)
        return np.array([*reversed(back), tuple(start), *there])

    def _choose_heading(self, start: NDArray[np.intp]) -> float:
        """The direction in which there is most room, to both sides; one of the best."""
        room = self._look(start, _HEADINGS).sum(axis=0)
        room = room + np.roll(room, len(room) // 2)
        room += self.rng.uniform(0, self.away, len(room))
        return float(_HEADINGS[room.argmax()] + self.rng.uniform(-0.2, 0.2))

    def _look(self, place: ArrayLike, headings: NDArray[np.float64]) -> NDArray[np.float64]:
        """Depths ahead (n_ahead, n_headings), as far as they matter."""
        rows = np.rint(place[0] + self.ahead[:, None] * np.sin(headings)).astype(np.intp)
        columns = np.rint(place[1] + self.ahead[:, None] * np.cos(headings)).astype(np.intp)
        return np.minimum(self.depth[rows, columns], self.away)

    def _walk(
        self, start: NDArray[np.intp], heading: float, n_steps: int, floor: float
    ) -> list[tuple[int, int]]:
        """At most n_steps pixels that follow `start`, none shallower than `floor`."""
        # Left to itself a stroke of full length turns by about a radian.
        wobble = 0.1 / np.sqrt(self.length)
        narrow = floor < self.away
        choices = (_TURNS, SHARPER * _TURNS) if narrow else (_TURNS,)
        position, bend, path = start.astype(float), 0.0, [tuple(start)]
        while len(path) <= n_steps:
            bend = 0.9 * bend + self.rng.normal(0, wobble)
            for turns in choices:
                depths = self._look(position, heading + turns)
                free = depths[0] >= floor
                if free.any():
                    break
            else:
                break
            worth = depths.mean(axis=0) - STIFFNESS * (turns - bend) ** 2
            heading += turns[np.where(free, worth, -np.inf).argmax()]
            position += np.sin(heading), np.cos(heading)
            pixel = tuple(np.rint(position).astype(np.intp))
            if pixel != path[-1]:
                path.append(pixel)
        return path[1:]

    def paint(self, path: NDArray[np.intp]) -> None:
        """Paint a stroke along a path, and keep later ones away from it."""
        reach = self.width + 2
        offsets = np.indices((2 * reach + 1,) * 2).reshape(2, -1).T - reach
        squared = (offsets**2).sum(axis=1)
        around = path[:, None] + offsets
        # All pixels nearer than the depth are of the class; its square is an integer.
        room = np.rint(self.depth[tuple(path.T)] ** 2)[:, None]
        brush = (squared <= (self.width / 2) ** 2) & (squared < room)
        self.painted[tuple(around[brush].T)] = True
        self.depth[tuple(around[:, squared <= (self.width + 1.5) ** 2].reshape(-1, 2).T)] = 0
        self.earlier = np.concatenate([self.earlier, path])
