"""What the page can ask for: each request a method, plain lists and dicts in and out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from threading import Lock, Thread
from typing import Any

import numpy as np

from segalgos.annotation import exports
from segalgos.annotation.forest import ForestTrainer, make_forest, pieces_of
from segalgos.annotation.masks import (
    box_of,
    outline_of,
    runs_of_window,
    stroke_box,
    stroke_mask,
    subtract,
    union,
)
from segalgos.annotation.pictures import Picture, Pictures
from segalgos.annotation.project import Project, StaleError
from segalgos.annotation.state import (
    Annotated,
    Item,
    Object,
    Pointing,
    Scribble,
    Stroke,
    stroke_of,
)
from segalgos.annotation.state import box_of as read_box
from segalgos.annotation.tools import METHODS, Tools, View
from segalgos.formats._reading import expect
from segalgos.formats.annotated import read_class
from segalgos.polygons import fill

__all__ = ["Order", "Session", "in_order"]

#: Gives the ids of images that are neither done nor skipped, the most useful to label first, or
#: None for the next in order.
Order = Callable[[Project, Pictures], Sequence[int] | None]

MAX_POINTS = 200  # strokes of one object
_ACTIONS = ("point", "paint", "polygon", "delete", "reclass", "scribble", "accept")


def in_order(project: Project, pictures: Pictures) -> list[int]:
    """Propose images as they come.

    Parameters
    ----------
    project : Project
    pictures : Pictures

    Returns
    -------
    list of int
        Ids of those that are neither done nor skipped.
    """
    return [i for i in project.images if project.marks[i] == "open" and project.is_here(i)]


class Session:
    """A project, and all that is needed to work on it.

    Parameters
    ----------
    project : Project
    sam : Path, optional
        Weights of SAM.
    method : str
        The tool that the page begins with: one of `METHODS`, or "forest".
    order : callable
        Which image is proposed next.

    Raises
    ------
    ValueError
        If there is no such method.
    """

    def __init__(
        self,
        project: Project,
        *,
        sam: Path | None = None,
        method: str | None = None,
        order: Order = in_order,
    ):
        self.project = project
        self.pictures = Pictures(project.path)
        self.tools = Tools(sam)
        names = [*self.tools.names, "forest"]
        self.method = method or ("sam" if sam is not None else "graph_cut")
        if self.method not in names:
            hint = ": pass --sam CHECKPOINT" if self.method == "sam" else ""
            raise ValueError(f"annotate: method is {method!r}, expected one of {names}{hint}.")
        self.forest = ForestTrainer(project, self.pictures)
        self._order = order
        self._unreadable: dict[int, str] = {}
        self._exporting = Lock()
        self.warm = False
        self.warm_error: str | None = None

    def close(self) -> None:
        """End the threads and let others work on the folder."""
        self.forest.close()
        self.project.close()

    # --- warming up ------------------------------------------------------------------------

    def warm_up(self) -> None:
        """Compile what the first clicks need, in a thread."""
        Thread(target=self._warm_up, name="warm-up", daemon=True).start()

    def _warm_up(self) -> None:
        try:
            self._warm_clicks()
            self.warm = True
            _warm_forest()
            exports.warm_up()
        except Exception as error:  # the page goes on without, and tells
            self.warm_error = f"{type(error).__name__}: {error}"
        self.warm = True

    def _warm_clicks(self) -> None:
        pixels = np.random.default_rng(0).integers(0, 60, (300, 320, 3)).astype(np.uint8)
        pixels[80:200, 90:220] += 120
        picture = Picture(pixels)
        click = Pointing((Stroke(((120.0, 150.0),), 3.0),))
        for method in ("graph_cut", "random_walker"):
            counts = self.tools.find(picture, click, method)
        self.tools.find(picture, Pointing((), (60.0, 70.0, 220.0, 240.0)), "graph_cut")
        nothing = subtract(counts, counts, picture.size)
        outline_of(union(counts, nothing, picture.size), picture.size)
        if "sam" in self.tools.names:
            self.tools.look_at(picture)

    # --- looking ---------------------------------------------------------------------------

    def overview(self) -> dict[str, Any]:
        """Tell what the page shows at first.

        Returns
        -------
        dict
        """
        return {
            "title": self.project.folder.name,
            "methods": {name: METHODS[name] for name in self.tools.names},
            "method": self.method,
            "formats": exports.FORMATS,
            "images": [self._image_row(i) for i in self.project.images],
            **self.classes(),
            **self.status(),
        }

    def classes(self) -> dict[str, Any]:
        """Tell the classes and how many objects each has.

        Returns
        -------
        dict
        """
        n_objects = {info.id: 0 for info in self.project.classes}
        for counts in self.project.counts.values():
            for class_id, n in counts.items():
                n_objects[class_id] = n_objects.get(class_id, 0) + n
        rows = [{**info._asdict(), "objects": n_objects[info.id]} for info in self.project.classes]
        return {"classes": rows, "classes_revision": self.project.revision}

    def status(self) -> dict[str, Any]:
        """Tell whether everything is compiled.

        Returns
        -------
        dict
        """
        return {"warm": self.warm, "warm_error": self.warm_error}

    def _image_row(self, image_id: int) -> dict[str, Any]:
        project = self.project
        error = project.error(image_id) or self._unreadable.get(image_id)
        if error is None and not project.is_here(image_id):
            error = "not among the images that were given"
        return {
            "id": image_id,
            "name": Path(project.images[image_id].file).name,
            "mark": project.marks[image_id],
            "objects": sum(project.counts[image_id].values()),
            "error": error,
        }

    def image(self, image_id: int) -> dict[str, Any]:
        """Open an image.

        Parameters
        ----------
        image_id : int

        Returns
        -------
        dict
            Its size, tiles, objects and scribbles.

        Raises
        ------
        KeyError
            If there is no such image.
        ValueError, OSError
            If it, or what is known of it, cannot be read.
        """
        state = self.project.get(image_id)
        picture = self._picture(image_id)
        if state.is_drawn and state.size != picture.size:
            raise ValueError(
                f"This file is {picture.size[1]} x {picture.size[0]} pixels, but was annotated at "
                f"{state.size[1]} x {state.size[0]}: put the old file back."
            )
        if "sam" in self.tools.names:
            Thread(target=self.tools.look_at, args=(picture,), daemon=True).start()
        if state.scribbles:
            self.forest.ask(image_id)
        return {
            "image": self._image_row(image_id),
            "height": picture.size[0],
            "width": picture.size[1],
            "levels": [list(level.shape[:2]) for level in picture.levels],
            "items": [self._plain(item, picture.size) for item in state.items.values()],
            **_history(state),
        }

    def next_image(self, after: int) -> int | None:
        """Propose the image to label next.

        Parameters
        ----------
        after : int
            The one that is open, which is proposed last.

        Returns
        -------
        int or None
            None if all that can be read are done or skipped.
        """
        found = self._order(self.project, self.pictures)
        proposed = in_order(self.project, self.pictures) if found is None else list(found)
        others = [i for i in proposed if i != after]
        if found is None or self._order is in_order:  # go on from here, then from the first
            others.sort(key=lambda i: (i < after, i))
        for image_id in [*others, *(i for i in proposed if i == after)]:
            try:
                self._picture(image_id)  # it is opened next anyway
            except (ValueError, OSError):
                continue
            return image_id
        return None

    def _picture(self, image_id: int) -> Picture:
        """The picture of an image; remembers which cannot be read."""
        try:
            picture = self.pictures.get(image_id)
        except (ValueError, OSError) as error:
            self._unreadable[image_id] = str(error)
            raise
        self._unreadable.pop(image_id, None)
        return picture

    # --- changing --------------------------------------------------------------------------

    def change(self, image_id: int, request: dict[str, Any]) -> dict[str, Any]:
        """Change an image.

        Parameters
        ----------
        image_id : int
        request : dict
            "revision", "action" and what that takes.

        Returns
        -------
        dict
            Items that are new or changed ("put"), ids of those that are gone ("removed").

        Raises
        ------
        StaleError
            If the image was changed since "revision".
        ValueError
            If the request is not as expected.
        """
        expect(request, dict, "annotate: a change", "an object")
        revision = expect(request.get("revision"), int, "annotate: revision", "a number")
        action = request.get("action")
        before = self.project.get(image_id)
        if revision != before.revision:  # found out before any work
            raise StaleError(
                "This image was changed elsewhere, perhaps in another tab. What is there now is "
                "shown; your last change was not made: please do it again."
            )
        what: str | None = None
        if action in ("undo", "redo"):
            step_back = self.project.undo if action == "undo" else self.project.redo
            after, step = step_back(image_id, revision)
            what = step.what if step else None
        elif action == "mark":
            size = self.pictures.get(image_id).size
            after = self.project.set_mark(image_id, revision, request.get("mark"), size)
        elif action in _ACTIONS:
            picture = self.pictures.get(image_id)
            what, old, new = getattr(self, f"_{action}")(image_id, before, picture, request)
            after = self.project.change(image_id, revision, what, old, new, size=picture.size)
        else:
            raise ValueError(f"annotate: action is {str(action)[:40]!r}, expected one that exists.")
        if before.scribbles != after.scribbles:
            self.forest.ask(image_id)
        size = after.size
        put = [i for key, i in after.items.items() if before.items.get(key) is not i]
        return {
            "put": [self._plain(item, size) for item in put],
            "removed": [key for key in before.items if key not in after.items],
            "what": what,
            "image": self._image_row(image_id),
            **self.classes(),
            **_history(after),
        }

    def set_classes(self, request: dict[str, Any]) -> dict[str, Any]:
        """Replace the classes.

        Parameters
        ----------
        request : dict
            "revision" and "classes".

        Returns
        -------
        dict
            As `classes`.
        """
        expect(request, dict, "annotate: classes", "an object")
        revision = expect(request.get("revision"), int, "annotate: revision", "a number")
        rows = expect(request.get("classes"), list, "annotate: classes", "a list")
        found = [read_class(row, f"annotate: classes[{i}]") for i, row in enumerate(rows)]
        self.project.set_classes(revision, found)
        return self.classes()

    def _class_of(self, request: dict[str, Any], *, background: bool = False) -> int:
        class_id = expect(request.get("class"), int, "annotate: class", "a number")
        known = {info.id for info in self.project.classes} | ({0} if background else set())
        if class_id not in known:
            raise ValueError("Choose a class first: add one with the button below the list.")
        return class_id

    def _object_of(self, state: Annotated, request: dict[str, Any]) -> Object | None:
        number = request.get("object")
        if number is None:
            return None
        found = state.items.get(expect(number, int, "annotate: object", "a number"))
        if not isinstance(found, Object):
            raise ValueError(f"annotate: there is no object {number}.")
        return found

    def _point(self, image_id, state, picture, request):
        """A click, scribble or box: a new object, or one that is refined."""
        old = self._object_of(state, request)
        seen = read_box(request.get("view"), "annotate: view")
        method = expect(request.get("method"), str, "annotate: method", "text")
        box = read_box(request.get("box"), "annotate: box")
        stroke = None
        if request.get("stroke") is not None:
            stroke = _within(stroke_of(request["stroke"], "annotate"), picture.size)
        if (box is None) == (stroke is None):
            raise ValueError("annotate: expected a box or a stroke.")
        if box is not None:
            box = _box_within(box, picture.size)
            pointing, found = Pointing((), box), None
        elif old is None or old.method == "hand":
            # What was drawn by hand stays: a click adds to it, or takes from it.
            pointing, found = Pointing((stroke,)), None
        else:
            pointing = old.pointing._replace(strokes=(*old.pointing.strokes, stroke))
            found = old.counts
        if len(pointing.strokes) > MAX_POINTS:
            raise ValueError("This object has many marks: press Enter and edit it by brush.")
        edits_hand = old is not None and old.method == "hand" and box is None
        if edits_hand:
            flipped = Pointing((stroke._replace(inside=True),))
            counts = self.tools.find(picture, flipped, method, seen)
            join = union if stroke.inside else subtract
            counts = join(old.counts, counts, picture.size)
        else:
            counts = self.tools.find(picture, pointing, method, seen, found)
        if old is None or box is not None:
            new = Object(state.next_id, self._class_of(request), counts, method, pointing)
            return "new object", (), _not_empty(new)
        new = old._replace(counts=counts)
        if not edits_hand:
            new = new._replace(pointing=pointing, method=method)
        return "refine object", (old,), _not_empty(new)

    def _paint(self, image_id, state, picture, request):
        """A stroke of the brush or the eraser."""
        old = self._object_of(state, request)
        stroke = stroke_of(request.get("stroke"), "annotate")
        points = np.array(stroke.points)
        box = stroke_box(points, stroke.radius, picture.size)
        if (box[2] - box[0]) * (box[3] - box[1]) == 0:
            raise ValueError("The stroke lies beside the image.")
        counts = runs_of_window(stroke_mask(points, stroke.radius, box), picture.size, box)
        if not stroke.inside:
            return self._erase(state, picture, old, counts)
        if old is None:
            new = Object(state.next_id, self._class_of(request), counts)
            return "new object", (), _not_empty(new)
        joined = union(old.counts, counts, picture.size)
        return "brush", (old,), (Object(old.id, old.class_id, joined),)

    def _erase(self, state, picture, old, counts):
        """From one object, or from all."""
        before, after = [], []
        for one in [old] if old is not None else state.objects:
            left = subtract(one.counts, counts, picture.size)
            if not np.array_equal(left, one.counts):
                before.append(one)
                after += _not_empty(Object(one.id, one.class_id, left))
        if not before:
            raise ValueError("There is nothing to erase here.")
        return "erase", before, after

    def _polygon(self, image_id, state, picture, request):
        stroke = stroke_of({"points": request.get("points"), "radius": 0}, "annotate")
        if len(stroke.points) < 3:
            raise ValueError("A polygon has three corners at least.")
        stroke = _within(stroke, picture.size, margin=1)
        counts = fill([np.array(stroke.points)], picture.size).counts
        old = self._object_of(state, request)
        if old is not None:
            joined = union(old.counts, counts, picture.size)
            return "polygon", (old,), (Object(old.id, old.class_id, joined),)
        new = Object(state.next_id, self._class_of(request), counts)
        return "new object", (), _not_empty(new)

    def _delete(self, image_id, state, picture, request):
        items = _items_of(state, request)
        return "delete" if len(items) == 1 else f"delete {len(items)} items", items, ()

    def _reclass(self, image_id, state, picture, request):
        items = [item for item in _items_of(state, request) if isinstance(item, Object)]
        class_id = self._class_of(request)
        return "change class", items, [item._replace(class_id=class_id) for item in items]

    def _scribble(self, image_id, state, picture, request):
        stroke = _within(stroke_of(request.get("stroke"), "annotate"), picture.size)
        class_id = self._class_of(request, background=True)
        return "scribble", (), (Scribble(state.next_id, class_id, stroke),)

    def _accept(self, image_id, state, picture, request):
        """Make objects of what the forest found: all of it, or the piece at a point."""
        _, result, _ = self.forest.status(image_id)
        if result is None:
            raise ValueError("The forest has found nothing yet: scribble on two classes first.")
        scale = 1 << result.level
        level = View((0, 0, *picture.size), result.level)
        point = request.get("point")
        if point is not None:
            stroke = _within(stroke_of({"points": [point], "radius": 0}, "annotate"), picture.size)
            row, col = (int(v) // scale for v in stroke.points[0])
            row, col = min(row, result.labels.shape[0] - 1), min(col, result.labels.shape[1] - 1)
            class_id = int(result.labels[row, col])
            if class_id == 0:
                raise ValueError("The forest takes this for background.")
            pieces = pieces_of(result.labels == class_id, 0)
            masks = [(class_id, next(piece for piece in pieces if piece[row, col]))]
        else:
            masks = []
            for info in self.project.classes:
                of_class = result.labels == info.id
                if not of_class.any():
                    continue
                pieces = pieces_of(of_class) if info.countable else [of_class]
                masks += [(info.id, piece) for piece in pieces]
        if not masks:
            raise ValueError("The forest found nothing but background.")
        new = [
            Object(state.next_id + i, class_id, level.runs(mask, picture.size), "forest")
            for i, (class_id, mask) in enumerate(masks)
        ]
        return "take from the forest", (), new

    # --- what the forest says --------------------------------------------------------------

    def forest_status(self, image_id: int, seen_version: int) -> dict[str, Any]:
        """Tell what the forest found in an image.

        Parameters
        ----------
        image_id : int
        seen_version : int
            What the page has already; nothing is sent twice.

        Returns
        -------
        dict
        """
        working, result, error = self.forest.status(image_id)
        answer: dict[str, Any] = {"working": working, "error": error, "version": 0}
        if result is None:
            return answer
        answer["version"] = result.version
        if result.version != seen_version:
            shape = result.labels.shape
            whole = (0, 0, *shape)
            answer["scale"] = 1 << result.level
            answer["areas"] = [
                {
                    "class": info.id,
                    "paths": outline_of(
                        runs_of_window(result.labels == info.id, shape, whole), shape
                    ),
                }
                for info in self.project.classes
                if (result.labels == info.id).any()
            ]
        return answer

    def uncertainty(self, image_id: int) -> bytes:
        """Draw where the forest is unsure, as PNG: the more, the more opaque.

        Parameters
        ----------
        image_id : int

        Returns
        -------
        bytes

        Raises
        ------
        KeyError
            If the forest has not seen the image.
        """
        from segalgos.annotation.pictures import to_png

        _, result, _ = self.forest.status(image_id)
        if result is None:
            raise KeyError(image_id)
        pixels = np.empty((*result.uncertainty.shape, 4), np.uint8)
        pixels[..., :3] = (255, 0, 200)
        # Squared, so that what is nearly sure stays clear.
        pixels[..., 3] = (result.uncertainty.astype(np.uint32) ** 2 * 150 // 255**2).astype(
            np.uint8
        )
        return to_png(pixels)

    # --- exporting -------------------------------------------------------------------------

    def export(self, request: dict[str, Any]) -> dict[str, Any]:
        """Write all images in another format, into a new folder beside the annotations.

        Parameters
        ----------
        request : dict
            "format".

        Returns
        -------
        dict
            Where it is, and in words what is in it and what was lost.
        """
        expect(request, dict, "annotate: an export", "an object")
        name = request.get("format")
        if name not in exports.FORMATS:
            raise ValueError(
                f"annotate: format is {str(name)[:40]!r}, expected one of {list(exports.FORMATS)}."
            )
        with self._exporting:
            target, lines = exports.export(self.project.folder, name)
        return {"folder": str(target), "lines": lines}

    def _plain(self, item: Item, size: tuple[int, int]) -> dict[str, Any]:
        if isinstance(item, Scribble):
            stroke = _plain_stroke(item.stroke)
            return {"id": item.id, "type": "scribble", "class": item.class_id, "stroke": stroke}
        return {
            "id": item.id,
            "type": "object",
            "class": item.class_id,
            "method": item.method,
            "area": int(item.counts[1::2].sum()),
            "bounds": box_of(item.counts, size),
            "paths": outline_of(item.counts, size),
            "strokes": [_plain_stroke(stroke) for stroke in item.pointing.strokes],
            "box": item.pointing.box,
        }


def _warm_forest() -> None:
    """Compile what the forest needs, on a tiny image."""
    image = np.zeros((24, 24, 3), np.uint8)
    image[:, 12:] = 200
    labels = np.full((24, 24), -1, np.int32)
    labels[4], labels[4, 12:] = 0, 1
    make_forest().fit(image, labels).refit(0, labels).predict_proba(image)


def _plain_stroke(stroke: Stroke) -> dict[str, Any]:
    return {"points": stroke.points, "radius": stroke.radius, "inside": stroke.inside}


def _history(state: Annotated) -> dict[str, Any]:
    return {
        "revision": state.revision,
        "undo": state.undo[-1].what if state.undo else None,
        "redo": state.redo[-1].what if state.redo else None,
    }


def _not_empty(item: Object) -> tuple[Object, ...]:
    return (item,) if item.counts[1::2].any() else ()


def _items_of(state: Annotated, request: dict[str, Any]) -> list[Item]:
    ids = expect(request.get("ids"), list, "annotate: ids", "a list")
    items = [state.items[i] for i in ids if isinstance(i, int) and i in state.items]
    if not items or len(items) < len(ids):
        raise ValueError("annotate: ids names items that are not there.")
    return items


def _within(stroke: Stroke, size: tuple[int, int], margin: float = 0) -> Stroke:
    """Move points that a hand drew beside the image to its edge."""
    low, high = -margin, np.array(size) - 0.01 + margin
    points = np.clip(np.array(stroke.points), low, high)
    return stroke._replace(points=tuple(map(tuple, points.tolist())))


def _box_within(box, size: tuple[int, int]):
    row0, row1 = np.clip((box[0], box[2]), 0, size[0]).tolist()
    col0, col1 = np.clip((box[1], box[3]), 0, size[1]).tolist()
    if row1 - row0 < 2 or col1 - col0 < 2:
        raise ValueError("The box has hardly any area within the image: draw a larger one.")
    return row0, col0, row1, col1
