"""The order in which images are proposed: first the one that most of the others look like."""

from __future__ import annotations

import io
from threading import Lock, Thread

import numpy as np
from numpy.typing import NDArray

from segalgos.annotation.pictures import Pictures
from segalgos.annotation.project import Project
from segalgos.annotation.proposals import describe_images, propose

__all__ = ["UsefulOrder"]

PROPOSED = 10  # at once: the page opens the first one that can be read


class UsefulOrder:
    """Propose the image that the fewest labelled ones look like, and many others do.

    Notes
    -----
    It is "coverage" of `segalgos.annotation.proposals.propose`, by what thumbnails look like. A
    thread begins to describe them with the first question, and has the say once it is through;
    before that images come in order. Done and skipped images count as seen.
    """

    def __init__(self):
        self._lock = Lock()
        self._thread: Thread | None = None
        self._described: dict[int, NDArray[np.float32] | None] = {}

    def __call__(self, project: Project, pictures: Pictures) -> list[int] | None:
        """Propose images.

        Parameters
        ----------
        project : Project
        pictures : Pictures

        Returns
        -------
        list of int or None
            Some ids of those that are neither done nor skipped; None while it has no opinion.
        """
        with self._lock:
            missing = [i for i in project.images if i not in self._described]
            if missing:
                if self._thread is None or not self._thread.is_alive():
                    self._thread = Thread(
                        target=self._describe, args=(missing, pictures), name="order", daemon=True
                    )
                    self._thread.start()
                return None
            known = [i for i in project.images if self._described[i] is not None]
        seen = [place for place, i in enumerate(known) if project.marks[i] != "open"]
        if len(seen) == len(known):
            return None
        places = propose(
            None,
            known,
            method="coverage",
            n=min(PROPOSED, len(known) - len(seen)),
            labelled=seen,
            descriptors=np.stack([self._described[i] for i in known]),
        )
        return [known[place] for place in places if project.is_here(known[place])] or None

    def _describe(self, image_ids: list[int], pictures: Pictures) -> None:
        from PIL import Image

        for image_id in image_ids:
            try:
                with Image.open(io.BytesIO(pictures.thumbnail(image_id))) as image:
                    pixels = np.asarray(image.convert("RGB"))
                found = describe_images([pixels])[0]
            except (ValueError, OSError):  # cannot be read: its row tells
                found = None
            with self._lock:
                self._described[image_id] = found
