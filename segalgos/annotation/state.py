"""What is known of an image that is being annotated, and how its file holds it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from segalgos import rle
from segalgos.formats import annotated
from segalgos.formats._reading import expect

__all__ = [
    "Annotated",
    "Item",
    "Object",
    "Pointing",
    "Scribble",
    "Step",
    "Stroke",
    "box_of",
    "read_state",
    "state_content",
    "stroke_of",
]


class Stroke(NamedTuple):
    """A line drawn by hand.

    Parameters
    ----------
    points : tuple of tuple of float
        Rows and columns; the centre of the first pixel is at 0.5, 0.5.
    radius : float
        Half its width, in pixels.
    inside : bool
        Whether it lies on the object or beside it.
    """

    points: tuple[tuple[float, float], ...]
    radius: float
    inside: bool = True


class Pointing(NamedTuple):
    """How a person pointed at an object.

    Parameters
    ----------
    strokes : tuple of Stroke
        A click is a stroke of one point.
    box : tuple of float, optional
        Rows and columns: row0, col0, row1, col1.
    """

    strokes: tuple[Stroke, ...] = ()
    box: tuple[float, float, float, float] | None = None


class Object(NamedTuple):
    """An object, or a piece of an area.

    Parameters
    ----------
    id : int
        Never used again for another item of the image.
    class_id : int
    counts : (n,) int64
        Its mask as runs, see `segalgos.rle`.
    method : str
        What found it; "hand" once it was drawn or edited.
    pointing : Pointing
        What led to the mask; empty after an edit by hand.
    """

    id: int
    class_id: int
    counts: NDArray[np.int64]
    method: str = "hand"
    pointing: Pointing = Pointing()


class Scribble(NamedTuple):
    """A line that shows the forest pixels of a class.

    Parameters
    ----------
    id : int
    class_id : int
        0 is background.
    stroke : Stroke
    """

    id: int
    class_id: int
    stroke: Stroke


Item = Object | Scribble


class Step(NamedTuple):
    """A change that can be undone.

    Parameters
    ----------
    what : str
        For people.
    before, after : tuple of Item
        The items that it touched, as they were and as they became.
    """

    what: str
    before: tuple[Item, ...]
    after: tuple[Item, ...]


@dataclass(frozen=True, eq=False)
class Annotated:
    """What is known of one image.

    Parameters
    ----------
    size : tuple of int
        Height and width; (1, 1) as long as they are not known.
    items : dict of int to Item
        By id, rising.
    mark : {"open", "done", "skipped"}
    revision : int
        How many changes there were.
    next_id : int
    undo, redo : tuple of Step
        The last one comes first to be undone or redone.
    """

    size: tuple[int, int] = (1, 1)
    items: dict[int, Item] = field(default_factory=dict)
    mark: str = "open"
    revision: int = 0
    next_id: int = 1
    undo: tuple[Step, ...] = ()
    redo: tuple[Step, ...] = ()

    @property
    def objects(self) -> list[Object]:
        """The objects, in the order in which they were made."""
        return [item for item in self.items.values() if isinstance(item, Object)]

    @property
    def scribbles(self) -> list[Scribble]:
        """The scribbles, in the order in which they were drawn."""
        return [item for item in self.items.values() if isinstance(item, Scribble)]

    @property
    def is_drawn(self) -> bool:
        """Whether there is, or was, an item: the size of the image holds from then on."""
        return bool(self.items or self.undo or self.redo)

    def changed(self, before: Iterable[Item], after: Iterable[Item]) -> dict[int, Item]:
        """Give the items with some replaced.

        Parameters
        ----------
        before, after : iterable of Item

        Returns
        -------
        dict of int to Item
        """
        items = dict(self.items)
        for item in before:
            items.pop(item.id, None)
        items.update((item.id, item) for item in after)
        return dict(sorted(items.items()))


# --- to and from files -------------------------------------------------------------------------


def state_content(state: Annotated) -> dict[str, Any]:
    """Make what the file of an image holds, of what JSON knows.

    Parameters
    ----------
    state : Annotated

    Returns
    -------
    dict
    """
    codes: dict[int, str] = {}

    def plain(item: Item) -> dict[str, Any]:
        if isinstance(item, Scribble):
            return {"type": "scribble", "id": item.id, "class": item.class_id,
                    "stroke": _plain_stroke(item.stroke)}  # fmt: skip
        key = id(item.counts)  # the same array is in several steps
        if key not in codes:
            one = rle.Runs.join(state.size, [item.counts])
            codes[key] = rle.write(one)[0]["counts"]
        entry = {"type": "object", "id": item.id, "class": item.class_id, "counts": codes[key]}
        entry |= {"method": item.method}
        if item.pointing.strokes:
            entry["strokes"] = [_plain_stroke(stroke) for stroke in item.pointing.strokes]
        if item.pointing.box is not None:
            entry["box"] = list(item.pointing.box)
        return entry

    def steps(history: tuple[Step, ...]) -> list[dict[str, Any]]:
        return [
            {
                "what": s.what,
                "before": list(map(plain, s.before)),
                "after": list(map(plain, s.after)),
            }
            for s in history
        ]

    return {
        "version": annotated.VERSION,
        "revision": state.revision,
        "size": list(state.size),
        "mark": state.mark,
        "next_id": state.next_id,
        "items": [plain(item) for item in state.items.values()],
        "undo": steps(state.undo),
        "redo": steps(state.redo),
    }


def _plain_stroke(stroke: Stroke) -> dict[str, Any]:
    points = [[round(row, 2), round(col, 2)] for row, col in stroke.points]
    return {"radius": stroke.radius, "inside": stroke.inside, "points": points}


def read_state(path: Path) -> Annotated:
    """Read the file of an image, and check all of it.

    Parameters
    ----------
    path : Path

    Returns
    -------
    Annotated

    Raises
    ------
    ValueError, OSError
        If it is damaged, or cannot be read.
    """
    where = f"annotated: {path}"
    content = annotated.read_annotation(path)
    size = content["size"]
    items = [_item_of(entry, f"{where}: items") for entry in content["items"]]
    histories = []
    for name in ("undo", "redo"):
        steps = []
        for i, entry in enumerate(
            expect(content.get(name, []), list, f"{where}: {name}", "a list")
        ):
            place = f"{where}: {name}[{i}]"
            expect(entry, dict, place, "an object")
            sides = (
                tuple(
                    _item_of(annotated.read_item(item, size, place), place)
                    for item in expect(entry.get(side), list, f"{place}['{side}']", "a list")
                )
                for side in ("before", "after")
            )
            steps.append(Step(expect(entry.get("what"), str, place, "text"), *sides))
        histories.append(tuple(steps))
    numbers = (
        expect(content.get(key), int, f"{where}: '{key}'", "a number")
        for key in ("revision", "next_id")
    )
    return Annotated(size, {item.id: item for item in items}, content["mark"], *numbers, *histories)


def _item_of(entry: dict[str, Any], where: str) -> Item:
    if entry["type"] == "scribble":
        return Scribble(entry["id"], entry["class"], stroke_of(entry.get("stroke"), where))
    strokes = expect(entry.get("strokes", []), list, f"{where}: strokes", "a list")
    pointing = Pointing(
        tuple(stroke_of(s, where) for s in strokes), box_of(entry.get("box"), where)
    )
    method = expect(entry.get("method", "hand"), str, f"{where}: method", "text")
    return Object(entry["id"], entry["class"], entry["counts"], method, pointing)


def stroke_of(entry: Any, where: str) -> Stroke:
    """Read a stroke, from a file or a page.

    Parameters
    ----------
    entry : object
    where : str
        What errors begin with.

    Returns
    -------
    Stroke

    Raises
    ------
    ValueError
        If it is none.
    """
    expect(entry, dict, f"{where}: a stroke", "an object")
    points = expect(entry.get("points"), list, f"{where}: points", "a list")
    if not 0 < len(points) <= 20_000:
        raise ValueError(f"{where}: a stroke has {len(points)} points, expected 1 to 20000.")
    radius = _finite(entry.get("radius"), f"{where}: radius")
    if not 0 <= radius <= 10_000:
        raise ValueError(f"{where}: radius is {radius}, expected 0 to 10000.")
    inside = expect(entry.get("inside", True), bool, f"{where}: inside", "true or false")
    pairs = []
    for point in points:
        if not isinstance(point, list) or len(point) != 2:
            raise ValueError(f"{where}: a point is {str(point)[:40]!r}, expected row and column.")
        pairs.append(
            (_finite(point[0], f"{where}: a row"), _finite(point[1], f"{where}: a column"))
        )
    return Stroke(tuple(pairs), radius, inside)


def box_of(entry: Any, where: str) -> tuple[float, float, float, float] | None:
    """Read a box, from a file or a page.

    Parameters
    ----------
    entry : object
        None for no box.
    where : str
        What errors begin with.

    Returns
    -------
    tuple of float or None

    Raises
    ------
    ValueError
        If it is none.
    """
    if entry is None:
        return None
    expect(entry, list, f"{where}: box", "four numbers")
    box = tuple(_finite(value, f"{where}: box") for value in entry)
    if len(box) != 4 or not (box[0] < box[2] and box[1] < box[3]):
        raise ValueError(f"{where}: box is {entry!r}, expected row0 < row1 and col0 < col1.")
    return box


def _finite(value: Any, where: str) -> float:
    number = float(expect(value, (int, float), where, "a number"))
    if not abs(number) <= 1e7:  # NaN as well
        raise ValueError(f"{where} is {number}, expected a number of pixels.")
    return number
