"""A random forest that learns while somebody scribbles, and shows where it is unsure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from threading import Condition, Thread
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from segalgos.annotation.masks import stroke_mask
from segalgos.annotation.pictures import Picture, Pictures
from segalgos.annotation.project import Project
from segalgos.annotation.proposals import uncertainty_of
from segalgos.annotation.state import Scribble

__all__ = ["ForestResult", "ForestTrainer", "make_forest", "pieces_of"]

#: Pixels of the copy of an image that the forest learns from and predicts.
WORK_PIXELS = 300_000
#: Scribbled images that it learns from at once: the newest.
MAX_IMAGES = 6
CACHE_MB = 400
#: Pieces smaller than this part of the image are not made objects.
SMALLEST_PIECE = 2e-4


@dataclass(frozen=True, eq=False)
class ForestResult:
    """What the forest says of an image.

    Parameters
    ----------
    image_id : int
    version : int
        Rises with each result.
    level : int
        Of the picture that it saw.
    labels : (h, w) int32
        Class ids; 0 is background.
    uncertainty : (h, w) uint8
        Entropy of the probabilities: 0 sure, 255 all classes alike.
    """

    image_id: int
    version: int
    level: int
    labels: NDArray[np.int32]
    uncertainty: NDArray[np.uint8]


@dataclass
class _Learned:
    """The forest and what it was fitted on."""

    segmenter: Any = None
    image_ids: tuple[int, ...] = ()
    scribbles: dict[int, tuple[Scribble, ...]] = field(default_factory=dict)


def make_forest() -> Any:
    """Make the forest of a session.

    Returns
    -------
    RandomForestSegmenter
    """
    from segalgos.pixels.random_forest import RandomForestSegmenter

    return RandomForestSegmenter(
        30, min_samples_leaf=2, class_weight="balanced", cache_mb=CACHE_MB, random_state=0
    )


def work_level(picture: Picture) -> int:
    """Choose the level of a picture that the forest sees.

    Parameters
    ----------
    picture : Picture

    Returns
    -------
    int
    """
    for level, pixels in enumerate(picture.levels):
        if pixels.shape[0] * pixels.shape[1] <= WORK_PIXELS:
            return level
    return len(picture.levels) - 1


def draw_scribbles(
    scribbles: Sequence[Scribble], shape: tuple[int, int], scale: int
) -> NDArray[np.int32]:
    """Draw scribbles on a label map; later ones lie above.

    Parameters
    ----------
    scribbles : sequence of Scribble
    shape : tuple of int
        Height and width of the map.
    scale : int
        Side of its pixels, in pixels of the image.

    Returns
    -------
    (h, w) int32
        Class ids, -1 where nothing was drawn.
    """
    labels = np.full(shape, -1, np.int32)
    window = (0, 0, shape[0] * scale, shape[1] * scale)
    for scribble in scribbles:
        points = np.array(scribble.stroke.points)
        labels[stroke_mask(points, scribble.stroke.radius, window, scale)] = scribble.class_id
    return labels


def pieces_of(mask: NDArray[np.bool_], smallest: float = SMALLEST_PIECE) -> list[NDArray[np.bool_]]:
    """Take a mask apart into connected pieces.

    Parameters
    ----------
    mask : (h, w) bool
    smallest : float
        Part of the image that a piece has at least; smaller ones are left out.

    Returns
    -------
    list of (h, w) bool
        The largest first.
    """
    labels, n_pieces = ndimage.label(mask)
    areas = np.bincount(labels.ravel(), minlength=n_pieces + 1)
    areas[0] = 0
    order = np.argsort(-areas, kind="stable")
    return [labels == i for i in order if areas[i] > 0 and areas[i] >= smallest * mask.size]


class ForestTrainer:
    """Learn in a thread of its own, always from the newest scribbles.

    Parameters
    ----------
    project : Project
    pictures : Pictures

    Notes
    -----
    It learns from the image that is open and from the scribbled ones that were changed last. Their
    features are kept up to `CACHE_MB`, so that one more scribble costs a fit and a prediction.
    """

    def __init__(self, project: Project, pictures: Pictures):
        self._project = project
        self._pictures = pictures
        self._changed = Condition()
        self._wanted: int | None = None
        self._working: int | None = None
        self._closed = False
        self._result: ForestResult | None = None
        self._error: tuple[int, str] | None = None
        self._learned = _Learned()
        self._recent: list[int] = []  # scribbled images, the newest last
        self._thread = Thread(target=self._run, name="forest", daemon=True)
        self._thread.start()

    def ask(self, image_id: int) -> None:
        """Ask for a result of an image as it is now; an older wish is forgotten.

        Parameters
        ----------
        image_id : int
        """
        with self._changed:
            self._wanted = image_id
            self._changed.notify_all()

    def status(self, image_id: int) -> tuple[bool, ForestResult | None, str | None]:
        """Tell how things stand with an image.

        Parameters
        ----------
        image_id : int

        Returns
        -------
        working : bool
            Whether a newer result is on its way.
        result : ForestResult or None
            The last one.
        error : str or None
            Why there is none.
        """
        with self._changed:
            working = image_id in (self._wanted, self._working)
            result = self._result
            error = self._error
        of_image = result if result is not None and result.image_id == image_id else None
        return working, of_image, error[1] if error and error[0] == image_id else None

    def close(self) -> None:
        """End the thread once it has done what it is at."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def _run(self) -> None:
        while True:
            with self._changed:
                self._working = None
                self._changed.notify_all()
                while self._wanted is None and not self._closed:
                    self._changed.wait()
                if self._closed:
                    return
                image_id = self._working = self._wanted
                self._wanted = None
            try:
                result, error = self._predict(image_id), None
            except Exception as problem:  # the page tells; another scribble may do better
                result, error = None, (image_id, str(problem) or type(problem).__name__)
            with self._changed:
                self._result, self._error = result, error

    def _predict(self, image_id: int) -> ForestResult | None:
        """Learn what is new and label an image; None where too little is known."""
        picture = self._pictures.get(image_id)
        level = work_level(picture)
        if not self._learn(image_id):
            return None
        proba = self._learned.segmenter.predict_proba(picture.levels[level])
        classes = self._learned.segmenter.classes_
        version = self._result.version + 1 if self._result else 1
        return ForestResult(
            image_id,
            version,
            level,
            classes[proba.argmax(axis=-1)].astype(np.int32),
            (255 * uncertainty_of(proba)).astype(np.uint8),
        )

    def _learn(self, image_id: int) -> bool:
        """Bring the forest up to date; False if there are not two classes to tell apart."""
        recent = [i for i in self._recent if i != image_id] + [image_id]
        scribbles = {i: tuple(self._project.get(i).scribbles) for i in recent}
        self._recent = [i for i in recent if scribbles[i]][-MAX_IMAGES:]
        scribbles = {i: scribbles[i] for i in self._recent}
        learned = self._learned
        if scribbles == learned.scribbles and learned.segmenter is not None:
            return True
        if len({s.class_id for drawn in scribbles.values() for s in drawn}) < 2:
            return False
        levels, maps = {}, {}
        for i, drawn in scribbles.items():
            picture = self._pictures.get(i)
            level = work_level(picture)
            levels[i] = picture.levels[level]
            maps[i] = draw_scribbles(drawn, levels[i].shape[:2], 1 << level)
        if len(np.unique(np.concatenate([m[m >= 0] for m in maps.values()]))) < 2:
            return False
        ids = tuple(sorted(scribbles))
        changed = [i for i in ids if scribbles[i] != learned.scribbles.get(i)]
        if ids == learned.image_ids and len(changed) == 1:
            learned.segmenter.refit(ids.index(changed[0]), maps[changed[0]])
        else:
            learned.segmenter = make_forest()
            learned.image_ids = ()
            learned.segmenter.fit([levels[i] for i in ids], [maps[i] for i in ids])
        learned.image_ids, learned.scribbles = ids, scribbles
        return True
