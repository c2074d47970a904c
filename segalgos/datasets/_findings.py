"""What can be found wrong with a data set: kinds, how bad they are, and what to do."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

__all__ = ["KINDS", "SEVERITIES", "Finding", "Kind"]

SEVERITIES = ("error", "warning", "note")


class Kind(NamedTuple):
    """A kind of finding.

    Parameters
    ----------
    severity : {"error", "warning", "note"}
        Training or scores go wrong; somebody should look; good to know.
    remedy : str
    """

    severity: str
    remedy: str


#: All kinds, in the order of reports.
KINDS = {
    "broken image": Kind("error", "get the file again, or take it out"),
    "labels cannot be read": Kind("error", "correct the entry, or export the labels again"),
    "labels without image": Kind("error", "put the image there, or take the labels out"),
    "size differs": Kind("error", "use the image that was annotated, or scale the labels"),
    "turned by its EXIF tag": Kind("error", "turn the pixels, save without the tag"),
    "label out of range": Kind("error", "name the class, or correct the labels"),
    "leak between splits": Kind("error", "keep copies in one split: segalgos data split"),
    "image without labels": Kind("warning", "annotate it, or say that it has no object"),
    "EXIF tag of orientation": Kind("warning", "turn the pixels, save without the tag"),
    "wrong extension": Kind("warning", "rename the file: programs that trust names fail"),
    "beyond the image": Kind("warning", "clip the outline; check that labels fit the image"),
    "object without a pixel": Kind("warning", "draw it again, or take it out"),
    "degenerate outline": Kind("warning", "draw it again, or take it out"),
    "annotated twice": Kind("warning", "take one of the two out"),
    "duplicate images": Kind("warning", "keep one: copies weigh more in training and scores"),
    "class missing in train": Kind("warning", "split anew by class: segalgos data split"),
    "image without objects": Kind("note", "fine if nothing is there to be seen"),
    "class without objects": Kind("note", "annotate some, or leave the class out"),
    "image of one value": Kind("note", "look at it: is it a picture?"),
}


@dataclass(frozen=True)
class Finding:
    """One thing that was found.

    Parameters
    ----------
    kind : str
        A key of `KINDS`.
    detail : str
        What exactly.
    split : str
        "" where there is none.
    image : str
        Name of the image, "" if it is of the whole.
    """

    kind: str
    detail: str
    split: str = ""
    image: str = ""

    @property
    def severity(self) -> str:
        """How bad it is."""
        return KINDS[self.kind].severity

    @property
    def remedy(self) -> str:
        """What to do."""
        return KINDS[self.kind].remedy
