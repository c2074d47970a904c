"""Clicks, boxes and scribbles made into a mask, at a cost that does not grow with the image.

A tool looks at a window: what the person sees, or the box drawn and its surroundings, and where the
object was found before. A copy of it of some tens of thousands of pixels is segmented, and then a
band along the border that was found there is cut anew in the window itself.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from threading import RLock
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from segalgos.annotation.masks import (
    Box,
    box_of,
    runs_of_window,
    stroke_mask,
)
from segalgos.annotation.pictures import Picture
from segalgos.annotation.state import Pointing

__all__ = ["METHODS", "Tools", "View", "choose_window"]

#: Methods by name, and what people call them.
METHODS = {
    "graph_cut": "Graph cut",
    "random_walker": "Random walker",
    "sam": "SAM",
}

#: Pixels of a window, and of the copy of it that is segmented first.
FINE_PIXELS = 1 << 20
COARSE_PIXELS = 30_000
#: Pixels of a border's surroundings that are cut anew.
BAND_PIXELS = 250_000
MARGIN = 0.5  # of a box's sides, what is seen around it

UNKNOWN = -1


@dataclass(frozen=True)
class View:
    """A window of an image, at a level of its picture.

    Parameters
    ----------
    box : tuple of int
        Rows and columns of the image, multiples of ``scale`` but at its lower and right end.
    level : int
    """

    box: Box
    level: int

    @property
    def scale(self) -> int:
        """Side of a pixel of that level, in pixels of the image."""
        return 1 << self.level

    def pixels(self, picture: Picture) -> NDArray[np.uint8]:
        """Cut the window out.

        Parameters
        ----------
        picture : Picture

        Returns
        -------
        (h, w, 3) uint8
        """
        row0, col0, row1, col1 = self.box
        rows = slice(row0 >> self.level, max(row1 >> self.level, (row0 >> self.level) + 1))
        cols = slice(col0 >> self.level, max(col1 >> self.level, (col0 >> self.level) + 1))
        return np.ascontiguousarray(picture.levels[self.level][rows, cols])

    def runs(self, mask: NDArray[np.bool_], size: tuple[int, int]) -> NDArray[np.int64]:
        """Find the runs of a mask of the window in the image.

        Parameters
        ----------
        mask : (h, w) bool
        size : tuple of int
            Height and width of the image.

        Returns
        -------
        (n,) int64
        """
        rows, cols = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
        if len(rows) == 0:
            return np.array([size[0] * size[1]], np.int64)
        part = mask[rows[0] : rows[-1] + 1, cols[0] : cols[-1] + 1]
        row0, col0 = self.box[0] + (rows[0] << self.level), self.box[1] + (cols[0] << self.level)
        # An odd row or column that the level leaves out is like the one before it.
        row1, col1 = (
            end if last == n - 1 else min(end, begin + ((last + 1) << self.level))
            for begin, end, last, n in zip(
                self.box[:2], self.box[2:], (rows[-1], cols[-1]), mask.shape, strict=True
            )
        )
        shape = (row1 - row0, col1 - col0)
        if self.level:
            part = np.repeat(np.repeat(part, self.scale, 0), self.scale, 1)
            short = [max(0, n - m) for n, m in zip(shape, part.shape)]
            part = np.pad(part, [(0, n) for n in short], mode="edge")
        box = (int(row0), int(col0), int(row1), int(col1))
        return runs_of_window(part[: shape[0], : shape[1]], size, box)


def choose_window(
    picture: Picture, pointing: Pointing, seen: Box | None, found: Box | None = None
) -> View:
    """Choose where a tool looks.

    Parameters
    ----------
    picture : Picture
    pointing : Pointing
    seen : tuple of int or None
        What the person sees; the whole image if None.
    found : tuple of int, optional
        The box around the mask that is there already.

    Returns
    -------
    View
        At most `FINE_PIXELS` at its level, if the picture has such a level.
    """
    height, width = picture.size
    if pointing.box is not None:
        boxes = [_grown(pointing.box, MARGIN)]
    elif height * width <= FINE_PIXELS or seen is None:
        boxes = [(0, 0, height, width)]
    else:
        boxes = [_grown(seen, MARGIN / 2)]
    for stroke in pointing.strokes:
        points, reach = np.array(stroke.points), stroke.radius + 8
        boxes.append((*(points.min(axis=0) - reach), *(points.max(axis=0) + reach + 1)))
    if found is not None and found[2] > found[0]:
        boxes.append(found)
    corners = np.array(boxes, float)
    low = corners[:, :2].min(axis=0).clip(0, (height - 1, width - 1))
    high = np.maximum(corners[:, 2:].max(axis=0), low + 1).clip(None, (height, width))
    level = 0
    while level + 1 < len(picture.levels) and np.prod(high - low) > FINE_PIXELS << (2 * level):
        level += 1
    step = 1 << level
    row0, col0 = (np.clip(np.floor(low / step) * step, 0, None)).astype(int).tolist()
    row1, col1 = np.minimum(np.ceil(high / step) * step, (height, width)).astype(int).tolist()
    # At least one pixel of the level, where an odd row is all that is left.
    row0, col0 = min(row0, max(0, row1 - step)), min(col0, max(0, col1 - step))
    return View((row0, col0, row1, col1), level)


def _grown(box: Any, part: float) -> tuple[float, float, float, float]:
    row0, col0, row1, col1 = box
    rows, cols = part * (row1 - row0) + 4, part * (col1 - col0) + 4
    return row0 - rows, col0 - cols, row1 + rows, col1 + cols


@dataclass(frozen=True, eq=False)
class _Marks:
    """What was pointed at, drawn on a copy of the window."""

    known: NDArray[np.int32]  # 1 object, 0 background, -1 not said
    box: tuple[float, float, float, float] | None

    @property
    def inside(self) -> NDArray[np.bool_]:
        return self.known == 1


def _draw_marks(pointing: Pointing, view: View, shape: tuple[int, int], scale: float) -> _Marks:
    """Draw strokes on a copy (h, w) whose pixels are `scale` pixels of the image wide."""
    known = np.full(shape, UNKNOWN, np.int32)
    row0, col0 = view.box[:2]
    window = (row0, col0, row0 + shape[0] * scale, col0 + shape[1] * scale)
    for stroke in pointing.strokes:
        drawn = stroke_mask(np.array(stroke.points), stroke.radius, window, scale)
        known[drawn[: shape[0], : shape[1]]] = int(stroke.inside)
    box = None
    if pointing.box is not None:
        low = np.maximum((np.array(pointing.box[:2]) - (row0, col0)) / scale, 0)
        high = np.minimum((np.array(pointing.box[2:]) - (row0, col0)) / scale, shape)
        high = np.maximum(high, low + 1)
        box = (*low.tolist(), *high.tolist())
        outside = np.ones(shape, bool)
        outside[tuple(slice(int(a), int(np.ceil(b))) for a, b in zip(low, high))] = False
        known[outside & (known != 1)] = 0
    return _Marks(known, box)


def _with_frame(marks: _Marks) -> NDArray[np.int32]:
    """Take the frame of the window for background, but for sides near a mark on the object."""
    known = marks.known.copy()
    rows, cols = np.nonzero(marks.inside)
    if len(rows) == 0:
        return known
    height, width = known.shape
    near = max(3, min(height, width) // 20)
    sides = [
        (rows.min() > near, np.s_[0, :]),
        (rows.max() < height - 1 - near, np.s_[-1, :]),
        (cols.min() > near, np.s_[:, 0]),
        (cols.max() < width - 1 - near, np.s_[:, -1]),
    ]
    for is_far, side in sides:
        if is_far:
            line = known[side]
            line[line == UNKNOWN] = 0
    return known


def _pieces(mask: NDArray[np.bool_], inside: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """The connected pieces that hold a mark; with no mark at all, every piece."""
    if not inside.any():
        return mask
    labels, n_pieces = ndimage.label(mask)
    touched = np.zeros(n_pieces + 1, bool)
    touched[labels[inside]] = True
    touched[0] = False
    return touched[labels]


def _reduce(pixels: NDArray[np.uint8]) -> tuple[NDArray[np.uint8], int]:
    """A copy of some `COARSE_PIXELS`, and how many pixels wide each of its pixels is."""
    height, width = pixels.shape[:2]
    step = max(1, int(np.ceil(np.sqrt(height * width / COARSE_PIXELS))))
    step = min(step, height, width)
    if step == 1:
        return pixels, 1
    from PIL import Image

    copy = Image.fromarray(pixels).reduce(step)
    return np.asarray(copy), step


# --- methods -----------------------------------------------------------------------------------


def _by_graph_cut(pixels: NDArray[np.uint8], marks: _Marks) -> NDArray[np.bool_]:
    """GrabCut, from what graph cuts find first where there is no box."""
    from segalgos.graph.grab_cut import grab_cut

    if marks.box is not None:
        if (marks.known == UNKNOWN).any():
            return grab_cut(pixels, seeds=marks.known, n_iter=3) == 1
        return marks.inside
    known = _with_frame(marks)
    if not (known == UNKNOWN).any():
        return marks.inside
    least = 4 * np.count_nonzero(marks.inside)
    for guess in _guesses(pixels, known):
        guess = _pieces(guess, marks.inside)
        if np.count_nonzero(guess) >= least:
            found = _pieces(grab_cut(pixels, seeds=known, guess=guess, n_iter=2) == 1, marks.inside)
            return found if np.count_nonzero(found) >= least else guess
    return marks.inside


def _guesses(pixels: NDArray[np.uint8], known: NDArray[np.int32]) -> Iterator[NDArray[np.bool_]]:
    """What the object may be, for GrabCut to start from.

    Where contrast cuts off no more than the marks, colours are worth more, and where these tell
    nothing either, how near a pixel is.
    """
    from segalgos.graph.graph_cut import graph_cut
    from segalgos.graph.random_walker import random_walker

    yield graph_cut(pixels, known) == 1
    yield graph_cut(pixels, known, smoothness=20, region_weight=1) == 1
    yield random_walker(pixels, known) == 1


def _with_core(marks: _Marks) -> NDArray[np.int32]:
    """Marks for methods that must be shown both sides: of a box alone, its middle."""
    known = _with_frame(marks)
    if marks.box is not None and not marks.inside.any():
        rows, cols = (
            slice(int(a + 0.4 * (b - a)), int(np.ceil(a + 0.6 * (b - a))))
            for a, b in (marks.box[::2], marks.box[1::2])
        )
        known[rows, cols] = 1
    return known


def _by_random_walker(pixels: NDArray[np.uint8], marks: _Marks) -> NDArray[np.bool_]:
    from segalgos.graph.random_walker import random_walker

    return random_walker(pixels, _with_core(marks)) == 1


def _refine(
    pixels: NDArray[np.uint8], coarse: NDArray[np.bool_], step: int, marks: _Marks
) -> NDArray[np.bool_]:
    """Cut a band along the border of a mask that a coarse copy gave, by contrast alone."""
    from segalgos.graph.graph_cut import graph_cut

    shape = pixels.shape[:2]
    mask = np.repeat(np.repeat(coarse, step, 0), step, 1)[: shape[0], : shape[1]]
    border = ndimage.binary_dilation(coarse) & ~ndimage.binary_erosion(coarse, border_value=1)
    band = np.repeat(np.repeat(border, step, 0), step, 1)[: shape[0], : shape[1]]
    if not band.any() or np.count_nonzero(band) > BAND_PIXELS:
        return (mask | marks.inside) & ~(marks.known == 0)
    rows, cols = np.flatnonzero(band.any(axis=1)), np.flatnonzero(band.any(axis=0))
    part = np.s_[max(0, rows[0] - 1) : rows[-1] + 2, max(0, cols[0] - 1) : cols[-1] + 2]
    around = ndimage.binary_dilation(band[part])  # known pixels beside the band, to be cut from
    seeds = np.where(band[part], UNKNOWN, mask[part]).astype(np.int32)
    np.copyto(seeds, marks.known[part], where=marks.known[part] != UNKNOWN)
    if (seeds[around] >= 0).any() and (seeds[around] == UNKNOWN).any():
        cut = graph_cut(np.ascontiguousarray(pixels[part]), seeds, region_weight=0, mask=around)
        mask[part] = np.where(around & (cut >= 0), cut == 1, mask[part])
    return (mask | marks.inside) & ~(marks.known == 0)


def _by_pixels(picture: Picture, pointing: Pointing, method: str, view: View) -> NDArray[np.bool_]:
    """Find a mask on a coarse copy of the window, and refine its border."""
    pixels = view.pixels(picture)
    small, step = _reduce(pixels)
    marks = _draw_marks(pointing, view, small.shape[:2], step * view.scale)
    if method == "graph_cut":
        mask = _by_graph_cut(small, marks)
    else:
        mask = _by_random_walker(small, marks)
    fine = _draw_marks(pointing, view, pixels.shape[:2], view.scale)
    if step > 1:
        mask = _refine(pixels, _pieces(mask, marks.inside), step, fine)
    mask = (mask | fine.inside) & ~(fine.known == 0)
    return _pieces(mask, fine.inside)


class Tools:
    """Find masks from clicks, boxes and scribbles.

    Parameters
    ----------
    sam : Path, optional
        Weights of SAM; without them there is no such method.
    make_sam : callable, optional
        ``make_sam(checkpoint)`` gives a segmenter with ``embed``; `segalgos.SAMSegmenter`.

    Notes
    -----
    SAM keeps embeddings of the last few images; nothing else is kept. Methods may be called from
    any thread.
    """

    def __init__(self, sam: Path | None = None, make_sam: Callable[[Path], Any] | None = None):
        self.names = [name for name in METHODS if name != "sam" or sam is not None]
        self._sam = None
        self._sam_path, self._make_sam = sam, make_sam or _load_sam
        self._sam_lock = RLock()

    def find(
        self,
        picture: Picture,
        pointing: Pointing,
        method: str,
        seen: Box | None = None,
        before: NDArray[np.int64] | None = None,
    ) -> NDArray[np.int64]:
        """Find the mask of what is pointed at.

        Parameters
        ----------
        picture : Picture
        pointing : Pointing
            All that was said of the object so far.
        method : str
            One of `METHODS`.
        seen : tuple of int, optional
            What the person sees of the image; all of it if None.
        before : (n,) int64, optional
            The mask so far: where the tool looks too.

        Returns
        -------
        (n,) int64
            Its runs.

        Raises
        ------
        ValueError
            If nothing is pointed at, or there is no such method.
        """
        if method not in self.names:
            raise ValueError(f"annotate: method is {method!r}, expected one of {self.names}.")
        if pointing.box is None and not any(stroke.inside for stroke in pointing.strokes):
            raise ValueError("Click on the object first, then beside it.")
        size = picture.size
        around = None if before is None else box_of(before, size)
        view = choose_window(picture, pointing, seen, around)
        if method == "sam":
            mask = self._by_sam(picture, pointing, view)
        else:
            mask = _by_pixels(picture, pointing, method, view)
        return view.runs(mask, size)

    # --- SAM -------------------------------------------------------------------------------

    def look_at(self, picture: Picture) -> None:
        """Let SAM see an image before anybody clicks.

        Parameters
        ----------
        picture : Picture
        """
        if "sam" in self.names:
            self._embed(picture)

    def _embed(self, picture: Picture) -> tuple[Any, int]:
        """What SAM knows of an image, and which level of it it saw."""
        level = len(picture.levels) - 1
        while level > 0 and max(picture.levels[level].shape[:2]) < 1024:
            level -= 1
        with self._sam_lock:
            if self._sam is None:
                self._sam = self._make_sam(self._sam_path)
            return self._sam.embed(picture.levels[level]), level

    def _by_sam(self, picture: Picture, pointing: Pointing, view: View) -> NDArray[np.bool_]:
        from segalgos.results import Prompts

        embedded, level = self._embed(picture)
        scale = 1 << level
        shape = picture.levels[level].shape[:2]
        points, labels = [], []
        for stroke in pointing.strokes:
            for point in _some(stroke.points):
                place = np.clip(np.array(point) / scale, 0, np.array(shape) - 1)
                points.append(place.tolist())
                labels.append(int(stroke.inside))
        box = None
        if pointing.box is not None:
            low = np.clip(np.array(pointing.box[:2]) / scale, 0, np.array(shape) - 1)
            high = np.clip(np.array(pointing.box[2:]) / scale, low + 1, shape)
            box = [*low, *high]
        prompts = Prompts(points=points or None, point_labels=labels or None, boxes=box)
        with self._sam_lock:
            mask = embedded.predict(prompts) == 1
        # From the level that SAM saw to that of the window, smoothly.
        row0, col0 = view.box[:2]
        target = view.pixels(picture).shape[:2]
        rows = (row0 + (np.arange(target[0]) + 0.5) * view.scale) / scale - 0.5
        cols = (col0 + (np.arange(target[1]) + 0.5) * view.scale) / scale - 0.5
        grid = np.meshgrid(rows, cols, indexing="ij")
        return ndimage.map_coordinates(mask.astype(np.float32), grid, order=1, mode="nearest") > 0.5


def _load_sam(checkpoint: Path) -> Any:
    from segalgos.nets.sam.segmenter import SAMSegmenter

    return SAMSegmenter(checkpoint)


def _some(points: tuple, at_most: int = 8) -> list:
    """Points spread along a stroke."""
    places = np.linspace(0, len(points) - 1, min(at_most, len(points))).round().astype(int)
    return [points[place] for place in places]
