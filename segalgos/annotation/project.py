"""The folder of a data set that is being made: every change is on disk before it is answered.

Images stay where they are. What is known of one is a file of its own, with the steps that led
there, so that undoing goes on after a restart. See `segalgos.formats.annotated` for the layout.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from threading import RLock
from typing import Any

from segalgos.annotation.state import (
    Annotated,
    Item,
    Object,
    Step,
    read_state,
    state_content,
)
from segalgos.files import atomic_path, find_images, lock_file
from segalgos.formats import annotated
from segalgos.formats._reading import expect
from segalgos.formats.annotated import ClassInfo, ImageInfo
from segalgos.palette import label_colors

__all__ = ["DatasetBusyError", "Project", "StaleError"]

MAX_STEPS = 100
MAX_HISTORY_RUNS = 1_000_000  # of all masks in the steps of an image: some megabytes of text
MAX_CLASSES = 1000


class StaleError(RuntimeError):
    """A change was made on a state that another one has replaced."""


class DatasetBusyError(RuntimeError):
    """Another process is annotating the same data set."""


class Project:
    """A data set that is being made, held by one process at a time.

    Parameters
    ----------
    folder : path-like
        Made if needed.
    images : path-like or list of path-like
        Image files and folders. No other file is ever opened as an image.
    classes : sequence of str, optional
        Names of classes; those that are not there yet are added.

    Raises
    ------
    DatasetBusyError
        If another process holds the folder.
    ValueError
        If ``project.json`` is damaged. A damaged file of one image spoils that image alone, and
        is left as it is.

    Notes
    -----
    A change names the revision that it was made on. `StaleError` refuses one that came too late,
    so that of two tabs none overwrites what the other did. Methods may be called from any thread.
    """

    def __init__(
        self,
        folder: str | os.PathLike,
        images: str | os.PathLike | list[str | os.PathLike],
        classes: Sequence[str] = (),
    ):
        self.folder = Path(os.path.abspath(folder))
        paths = [Path(os.path.abspath(path)) for path in find_images(images)]
        (self.folder / annotated.FOLDER).mkdir(parents=True, exist_ok=True)
        self._lock = RLock()
        self._held = open(self.folder / ".lock", "a")  # noqa: SIM115 (held while we live)
        try:
            lock_file(self._held)
        except OSError as error:
            self._held.close()
            raise DatasetBusyError(
                f"annotate: another program is working on {self.folder}: close it, or choose "
                "another --out."
            ) from error
        try:
            self._open(list(dict.fromkeys(paths)), classes)
        except BaseException:
            self.close()
            raise

    def _open(self, paths: list[Path], classes: Sequence[str]) -> None:
        for pattern in (".project-*.json", f"{annotated.FOLDER}/.[0-9]*-*.json"):
            for leftover in self.folder.glob(pattern):  # of a kill while writing
                leftover.unlink()
        self.classes: tuple[ClassInfo, ...] = ()
        self.images: dict[int, ImageInfo] = {}
        self.revision = 0
        if (self.folder / annotated.FILE).exists():
            found, images, self.revision = annotated.read_project(self.folder)
            self.classes, self.images = tuple(found), {image.id: image for image in images}
        self._paths = self._find_paths(paths)
        known = {info.name for info in self.classes}
        added = [name for name in dict.fromkeys(classes) if name not in known]
        self.classes = (*self.classes, *self._new_classes(added))
        self._cache: dict[int, Annotated] = {}
        self._errors: dict[int, str] = {}
        self.counts: dict[int, Counter[int]] = {}
        self.marks: dict[int, str] = {}
        for image_id in self.images:
            self._look_at(image_id)
        self._write_project()

    def _find_paths(self, paths: list[Path]) -> dict[int, Path]:
        """Which file each image is; images that are new get the next ids."""
        by_path = {os.path.normpath(self.folder / i.file): i.id for i in self.images.values()}
        found = {}
        for path in paths:
            if str(path) not in by_path:
                number = max(self.images, default=0) + 1
                try:
                    file = os.path.relpath(path, self.folder).replace(os.sep, "/")
                except ValueError:  # on another drive
                    file = str(path)
                self.images[number] = ImageInfo(number, file)
                by_path[str(path)] = number
            found[by_path[str(path)]] = path
        return found

    def _new_classes(self, names: Sequence[str]) -> list[ClassInfo]:
        first = max((info.id for info in self.classes), default=0) + 1
        colors = label_colors(len(self.classes) + len(names))[len(self.classes) :]
        rows = zip(range(first, first + len(names)), names, colors, strict=True)
        return [ClassInfo(i, check_name(name), "#%02x%02x%02x" % tuple(c)) for i, name, c in rows]  # noqa: UP031

    # --- reading ---------------------------------------------------------------------------

    def path(self, image_id: int) -> Path:
        """Tell which file an image is.

        Parameters
        ----------
        image_id : int

        Returns
        -------
        Path

        Raises
        ------
        KeyError
            If there is no such image.
        FileNotFoundError
            If it is not among the images that were given.
        """
        image = self.images[image_id]
        if image_id not in self._paths:
            raise FileNotFoundError(
                f"annotate: {Path(image.file).name} is not among the images that were given: add "
                "its folder to the command."
            )
        return self._paths[image_id]

    def is_here(self, image_id: int) -> bool:
        """Tell whether an image is among those that were given.

        Parameters
        ----------
        image_id : int

        Returns
        -------
        bool
        """
        return image_id in self._paths

    def get(self, image_id: int) -> Annotated:
        """Give what is known of an image.

        Parameters
        ----------
        image_id : int

        Returns
        -------
        Annotated

        Raises
        ------
        KeyError
            If there is no such image.
        ValueError
            If its file is damaged.
        """
        with self._lock:
            self.images[image_id]
            if image_id in self._errors:
                raise ValueError(self._errors[image_id])
            if image_id not in self._cache:
                path = annotated.annotation_path(self.folder, image_id)
                self._cache[image_id] = read_state(path) if path.exists() else Annotated()
                while len(self._cache) > 64:
                    self._cache.pop(next(iter(self._cache)))
            return self._cache[image_id]

    def _look_at(self, image_id: int) -> None:
        """Count the objects of an image."""
        try:
            self._count(image_id, self.get(image_id))
        except ValueError as error:
            self._errors[image_id] = str(error)
            self.counts[image_id], self.marks[image_id] = Counter(), "open"

    def _count(self, image_id: int, state: Annotated) -> None:
        self.counts[image_id] = Counter(item.class_id for item in state.objects)
        self.marks[image_id] = state.mark

    def error(self, image_id: int) -> str | None:
        """Tell why the file of an image cannot be read.

        Parameters
        ----------
        image_id : int

        Returns
        -------
        str or None
        """
        return self._errors.get(image_id)

    # --- changing --------------------------------------------------------------------------

    def change(
        self,
        image_id: int,
        revision: int,
        what: str,
        before: Iterable[Item] = (),
        after: Iterable[Item] = (),
        *,
        size: tuple[int, int] | None = None,
    ) -> Annotated:
        """Replace items of an image, in a step that can be undone.

        Parameters
        ----------
        image_id : int
        revision : int
            What the change was made on.
        what : str
            For people.
        before, after : iterable of Item
            Items as they are, and what they become. New ones have the ids `Annotated.next_id` ...
        size : tuple of int, optional
            Height and width of the image, at the first change.

        Returns
        -------
        Annotated

        Raises
        ------
        StaleError
            If the image was changed since that revision.
        """
        with self._lock:
            state = self._current(image_id, revision)
            step = Step(what, tuple(before), tuple(after))
            if size is not None and state.is_drawn and state.size != tuple(size):
                raise ValueError(
                    f"annotate: {self.path(image_id).name} is {size[0]} x {size[1]} pixels now, "
                    f"but was annotated at {state.size[0]} x {state.size[1]}: put the old file "
                    "back."
                )
            last = max((item.id for item in step.after), default=0)
            return self._commit(
                image_id,
                replace(
                    state,
                    size=tuple(size or state.size),
                    items=state.changed(step.before, step.after),
                    next_id=max(state.next_id, last + 1),
                    undo=_recent((*state.undo, step)),
                    redo=(),
                ),
            )

    def undo(self, image_id: int, revision: int) -> tuple[Annotated, Step | None]:
        """Take the last step back.

        Parameters
        ----------
        image_id, revision : int

        Returns
        -------
        state : Annotated
        step : Step or None
            Which one; None if there is none.
        """
        return self._step(image_id, revision, back=True)

    def redo(self, image_id: int, revision: int) -> tuple[Annotated, Step | None]:
        """Do again what was undone.

        Parameters
        ----------
        image_id, revision : int

        Returns
        -------
        state : Annotated
        step : Step or None
            Which one; None if there is none.
        """
        return self._step(image_id, revision, back=False)

    def _step(self, image_id: int, revision: int, *, back: bool) -> tuple[Annotated, Step | None]:
        with self._lock:
            state = self._current(image_id, revision)
            taken, other = ("undo", "redo") if back else ("redo", "undo")
            steps = getattr(state, taken)
            if not steps:
                return state, None
            step = steps[-1]
            ends = (step.after, step.before) if back else (step.before, step.after)
            lists = {taken: steps[:-1], other: (*getattr(state, other), step)}
            changed = replace(state, items=state.changed(*ends), **lists)
            return self._commit(image_id, changed), step

    def set_mark(
        self, image_id: int, revision: int, mark: str, size: tuple[int, int] | None = None
    ) -> Annotated:
        """Say that an image is done, skipped, or open again.

        Parameters
        ----------
        image_id, revision : int
        mark : {"open", "done", "skipped"}
        size : tuple of int, optional
            As in `change`.

        Returns
        -------
        Annotated
        """
        if mark not in annotated.MARKS:
            raise ValueError(f"annotate: mark is {mark!r}, expected one of {annotated.MARKS}.")
        with self._lock:
            state = self._current(image_id, revision)
            size = state.size if state.is_drawn else tuple(size or state.size)
            return self._commit(image_id, replace(state, mark=mark, size=size))

    def _current(self, image_id: int, revision: int) -> Annotated:
        state = self.get(image_id)
        if revision != state.revision:
            raise StaleError(
                "This image was changed elsewhere, perhaps in another tab. What is there now is "
                "shown; your last change was not made: please do it again."
            )
        return state

    def _commit(self, image_id: int, state: Annotated) -> Annotated:
        """Write a new state; what was there before stays if that fails."""
        state = replace(state, revision=state.revision + 1)
        with atomic_path(annotated.annotation_path(self.folder, image_id)) as temporary:
            temporary.write_text(json.dumps(state_content(state), separators=(",", ":")), "utf-8")
        self._cache.pop(image_id, None)
        self._cache[image_id] = state
        self._count(image_id, state)
        return state

    def set_classes(self, revision: int, classes: Sequence[ClassInfo]) -> None:
        """Replace the classes: rename, colour, add, or remove ones without objects.

        Parameters
        ----------
        revision : int
            What the change was made on.
        classes : sequence of ClassInfo
            An id of 0 asks for a new one.

        Raises
        ------
        StaleError
            If classes were changed since that revision.
        ValueError
            If two have one name, or a class that has objects would go.
        """
        with self._lock:
            if revision != self.revision:
                raise StaleError(
                    "The classes were changed elsewhere, perhaps in another tab. What is there now "
                    "is shown; your last change was not made: please do it again."
                )
            if len(classes) > MAX_CLASSES:
                raise ValueError(f"annotate: at most {MAX_CLASSES} classes.")
            names = [check_name(info.name) for info in classes]
            if len(set(names)) < len(names):
                twice = next(name for name in names if names.count(name) > 1)
                raise ValueError(f"annotate: two classes are called {twice!r}: rename one.")
            old = {info.id: info for info in self.classes}
            strange = [info.id for info in classes if info.id and info.id not in old]
            if strange:
                raise ValueError(f"annotate: there is no class {strange[0]}.")
            for gone in old.keys() - {info.id for info in classes}:
                self._check_unused(old[gone])
            next_id = max(old, default=0) + 1
            kept = []
            for info, name in zip(classes, names, strict=True):
                kept.append(info._replace(id=info.id or next_id, name=name))
                next_id += not info.id
            before = self.classes, self.revision
            self.classes, self.revision = tuple(kept), self.revision + 1
            try:
                self._write_project()
            except BaseException:
                self.classes, self.revision = before
                raise

    def _check_unused(self, info: ClassInfo) -> None:
        n_objects = sum(counts[info.id] for counts in self.counts.values())
        if n_objects:
            raise ValueError(
                f"annotate: {n_objects} objects are of class {info.name!r}: give them another "
                "class or delete them first."
            )

    def _write_project(self) -> None:
        content = {
            "version": annotated.VERSION,
            "revision": self.revision,
            "classes": [info._asdict() for info in self.classes],
            "images": [image._asdict() for image in self.images.values()],
        }
        with atomic_path(self.folder / annotated.FILE) as temporary:
            temporary.write_text(json.dumps(content, indent=1), "utf-8")

    def close(self) -> None:
        """Let others work on the folder."""
        self._held.close()

    def __enter__(self) -> Project:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def check_name(name: Any) -> str:
    """Check the name of a class.

    Parameters
    ----------
    name : object

    Returns
    -------
    str
        Without spaces around it.
    """
    name = " ".join(expect(name, str, "annotate: the name of a class", "text").split())
    if not name or len(name) > 100 or not name.isprintable():
        raise ValueError(
            f"annotate: {name[:40]!r} is no name for a class: expected 1 to 100 printable "
            "characters."
        )
    return name


def _recent(steps: tuple[Step, ...]) -> tuple[Step, ...]:
    """The last steps, as many as may be kept."""
    kept, n_runs = [], 0
    for step in reversed(steps[-MAX_STEPS:]):
        items = (*step.before, *step.after)
        n_runs += sum(len(item.counts) for item in items if isinstance(item, Object))
        if kept and n_runs > MAX_HISTORY_RUNS:
            break
        kept.append(step)
    return tuple(reversed(kept))
