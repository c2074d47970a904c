"""What all formats are read into: annotations, of scenes, of the parts of a data set.

A format is a module with these functions, which `segalgos.formats.convert` calls:

``find(path)``
    Whether something lies there in this format; looks at names, not into images.
``read(path)``
    Its parts by name, "" where there is only one. Structure is checked at once, masks are drawn
    when a scene is asked for. Some take ``problems``, see `Problems`.
``encode(scene, classes)``
    What will be written of a scene.
``decode(content, size, classes)``
    The annotations and void pixels that a reader will find in that.
``image_place(split, name, suffix)``
    Where an image stands in the written folder.
``FIXED_CLASSES``, ``SPLITS``, ``scene_name(name)``
    Optional: the only classes, splits and names of scenes that it has.
``write_scene(folder, item)`` and ``write_end(folder, classes, class_ids, items)``
    Write it, scene by scene, and what is written of all of them together.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from segalgos import rle
from segalgos.results import Instances

__all__ = [
    "Annotation",
    "BeyondImageError",
    "Encoded",
    "Item",
    "Part",
    "Problems",
    "Scene",
    "UnknownClassError",
]


class UnknownClassError(ValueError):
    """An annotation is of a class that there is not."""


class BeyondImageError(ValueError):
    """An annotation lies beyond its image."""


class Problems(list[ValueError]):
    """Errors of entries that a reader leaves out, where it is to go on without them.

    Readers take it as ``problems``; with None they raise.

    Parameters
    ----------
    iterable : iterable of ValueError
        What is in it from the start.
    """

    @contextmanager
    def catch(self) -> Iterator[None]:
        """Keep an error and go on behind the block."""
        try:
            yield
        except ValueError as error:
            self.append(error)


def catch(problems: Problems | None) -> AbstractContextManager[None]:
    """A block whose errors are kept if they can be."""
    return nullcontext() if problems is None else problems.catch()


@dataclass(frozen=True, eq=False)
class Annotation:
    """One object, as a file holds it.

    Parameters
    ----------
    counts : (n,) int64
        Its mask as runs, see `segalgos.rle.Runs`.
    category : int
        Place of its class among the classes.
    crowd : bool
        Whether many objects are outlined as one.
    score : float, optional
    box : tuple of float, optional
        Half-open, row0, col0, row1, col1, where the file has a box of its own.
    polygons : tuple of (n, 2) float64, optional
        Rows and columns, where the mask was drawn from polygons; their union is the mask.
    box_only : bool
        Whether the file has nothing but the box, so that the mask is the whole box.
    others : tuple of str
        What else the file says of the object and no other format could keep.
    """

    counts: NDArray[np.int64]
    category: int
    crowd: bool = False
    score: float | None = None
    box: tuple[float, float, float, float] | None = None
    polygons: tuple[NDArray[np.float64], ...] | None = None
    box_only: bool = False
    others: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class Scene:
    """One image's objects.

    Parameters
    ----------
    name : str
        Name of the image without folder and ending.
    size : tuple of int
        Height and width.
    annotations : tuple of Annotation
    image : Path, optional
        The image file, if it is here.
    void : (n,) int64, optional
        Pixels of which nothing is known, as runs.
    left_out : tuple of str
        What the file holds besides objects, one word for each: "line", "point".
    file_name : str
        What the file calls the image, "" if it does not.
    problems : tuple of ValueError
        What was left out because it is damaged, where the reader was to go on.
    """

    name: str
    size: tuple[int, int]
    annotations: tuple[Annotation, ...]
    image: Path | None = None
    void: NDArray[np.int64] | None = None
    left_out: tuple[str, ...] = ()
    file_name: str = ""
    problems: tuple[ValueError, ...] = ()

    @property
    def runs(self) -> rle.Runs:
        """The masks of all annotations."""
        return rle.Runs.join(self.size, [a.counts for a in self.annotations])

    def to_instances(self, first_class: int = 0) -> Instances:
        """Draw the masks.

        Parameters
        ----------
        first_class : int, default=0
            What is added to the places of classes.

        Returns
        -------
        Instances
            With boxes from the file, where it has any.
        """
        runs = self.runs
        boxes = rle.bounding_boxes(runs).astype(np.float32)
        for box, annotation in zip(boxes, self.annotations, strict=True):
            if annotation.box is not None:
                box[:] = annotation.box
        return Instances(
            rle.decode(runs),
            [1.0 if a.score is None else a.score for a in self.annotations],
            [a.category + first_class for a in self.annotations],
            boxes,
            [a.crowd for a in self.annotations],
        )


@dataclass(frozen=True, eq=False)
class Part(Sequence[Scene]):
    """A lazy sequence of scenes: masks are drawn when one is asked for.

    Parameters
    ----------
    classes : tuple of str
        Names of the classes, background not among them.
    entries : sequence
        What to pass to `read`, one for each scene.
    read : callable
        ``read(entry)`` gives a `Scene`; picklable.
    class_ids : tuple of int, optional
        The numbers that the file gives the classes.
    """

    classes: tuple[str, ...]
    entries: Sequence[Any] = field(repr=False)
    read: Callable[[Any], Scene] = field(repr=False)
    class_ids: tuple[int, ...] | None = None

    def __len__(self) -> int:
        return len(self.entries)

    def __getitem__(self, key: int | slice) -> Scene | Part:
        if isinstance(key, slice):
            return replace(self, entries=self.entries[key])
        return self.read(self.entries[key])


class Encoded(NamedTuple):
    """What will be written of a scene.

    Parameters
    ----------
    content : object
        The format's own.
    kept : tuple of int
        Which annotation each object is that will be read from it, in that order.
    dropped : dict of int to str
        Why the other annotations are left out.
    notes : tuple of str
        What is written in another form and not lost, one for each annotation that it is true of.
    """

    content: Any
    kept: tuple[int, ...]
    dropped: dict[int, str]
    notes: tuple[str, ...] = ()


class Item(NamedTuple):
    """A scene on its way into a folder.

    Parameters
    ----------
    split : str
    name : str
    size : tuple of int
    image : str
        Where its image stands in the folder, or what it is called if it is not there.
    content : object
        What `Encoded` has.
    """

    split: str
    name: str
    size: tuple[int, int]
    image: str
    content: Any


def split_map(labels: NDArray) -> tuple[NDArray[np.int64], rle.Runs]:
    """Take a label map apart without drawing a mask for each id.

    Parameters
    ----------
    labels : (H, W) int

    Returns
    -------
    ids : (N,) int64
        All that are there, rising.
    runs : Runs
        A mask for each.

    Notes
    -----
    O(H W + n log n) for n runs.
    """
    flat = labels.T.ravel()
    begins = np.flatnonzero(np.concatenate([[True], flat[1:] != flat[:-1]])[: len(flat)])
    ends = np.append(begins[1:], len(flat))[: len(begins)]
    values = flat[begins]
    order = np.argsort(values, kind="stable")
    ids, firsts = np.unique(values[order], return_index=True)
    parts = []
    for chosen in np.split(order, firsts[1:]) if len(ids) else ():
        edges = np.stack([begins[chosen], ends[chosen]], axis=1).ravel()
        parts.append(np.diff(edges, prepend=0, append=len(flat)))
    return ids.astype(np.int64), rle.Runs.join(labels.shape, parts)


def paint_map(
    scene: Scene, ids: Mapping[int, int], *, below: Sequence[int] = ()
) -> NDArray[np.int32]:
    """Paint annotations on one map.

    Parameters
    ----------
    scene : Scene
    ids : mapping of int to int
        Annotation -> its value.
    below : sequence of int, optional
        Annotations to paint before the others.

    Returns
    -------
    (H, W) int32
        0 where there is none. From below to above: `below`, crowds, lower scores, larger masks,
        later ones; so a small object on a large one can be seen.
    """
    areas = rle.areas(scene.runs)

    def depth(i: int) -> tuple:
        a = scene.annotations[i]
        score = 1.0 if a.score is None else a.score
        return i not in below, not a.crowd, score, -areas[i], -i

    flat = np.zeros(scene.size[0] * scene.size[1], np.int32)
    for i in sorted(ids, key=depth):
        edges = np.cumsum(scene.annotations[i].counts)
        for begin, end in zip(edges[:-1:2].tolist(), edges[1::2].tolist()):
            flat[begin:end] = ids[i]
    return np.ascontiguousarray(flat.reshape(scene.size[::-1]).T)
