"""What the labels of Cityscapes mean, for its loader, its scores and submissions to its server.

Files hold *label ids*, 0 to 33. Nets learn and predict *train ids*, 0 to 18: the classes that
are scored, in the order of their label ids. The other labels are ignored, and so is the licence
plate, whose id -1 stands in no label file.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = ["CATEGORIES", "CLASSES", "LABELS", "Label", "to_label_ids", "to_train_ids"]


class Label(NamedTuple):
    """One label of Cityscapes; its id is its place in `LABELS`.

    Parameters
    ----------
    name : str
    category : str
        The coarser class that it belongs to.
    scored : bool
        Whether it is one of the 19 classes; the others are ignored.
    has_instances : bool
        Whether its objects are told apart.
    """

    name: str
    category: str
    scored: bool = True
    has_instances: bool = False


#: The 34 labels, in the order of their ids.
LABELS = (
    Label("unlabeled", "void", scored=False),
    Label("ego vehicle", "void", scored=False),
    Label("rectification border", "void", scored=False),
    Label("out of roi", "void", scored=False),
    Label("static", "void", scored=False),
    Label("dynamic", "void", scored=False),
    Label("ground", "void", scored=False),
    Label("road", "flat"),
    Label("sidewalk", "flat"),
    Label("parking", "flat", scored=False),
    Label("rail track", "flat", scored=False),
    Label("building", "construction"),
    Label("wall", "construction"),
    Label("fence", "construction"),
    Label("guard rail", "construction", scored=False),
    Label("bridge", "construction", scored=False),
    Label("tunnel", "construction", scored=False),
    Label("pole", "object"),
    Label("polegroup", "object", scored=False),
    Label("traffic light", "object"),
    Label("traffic sign", "object"),
    Label("vegetation", "nature"),
    Label("terrain", "nature"),
    Label("sky", "sky"),
    Label("person", "human", has_instances=True),
    Label("rider", "human", has_instances=True),
    Label("car", "vehicle", has_instances=True),
    Label("truck", "vehicle", has_instances=True),
    Label("bus", "vehicle", has_instances=True),
    Label("caravan", "vehicle", scored=False, has_instances=True),
    Label("trailer", "vehicle", scored=False, has_instances=True),
    Label("train", "vehicle", has_instances=True),
    Label("motorcycle", "vehicle", has_instances=True),
    Label("bicycle", "vehicle", has_instances=True),
)

#: The 19 classes that are scored; train ids are places in it.
CLASSES = tuple(label.name for label in LABELS if label.scored)

#: The 7 categories that are scored, in the order of their classes.
CATEGORIES = tuple(dict.fromkeys(label.category for label in LABELS if label.scored))

# Train id of the label ids -1, 0, 1, ..., and label id of the train ids -1, 0, 1, ...
_TRAIN_IDS = np.array(
    [-1, *(CLASSES.index(label.name) if label.scored else -1 for label in LABELS)], np.int32
)
_LABEL_IDS = np.array([0, *(i for i, label in enumerate(LABELS) if label.scored)], np.int32)


def to_train_ids(label_ids: ArrayLike) -> NDArray[np.int32]:
    """Replace label ids by train ids.

    Parameters
    ----------
    label_ids : int array
        Of any shape, -1 (licence plate) to 33.

    Returns
    -------
    int32 array of the same shape
        Train ids 0 to 18, -1 where the label is ignored.

    Raises
    ------
    TypeError
        If the ids are no integers.
    ValueError
        If there is no such label.
    """
    return _look_up(_TRAIN_IDS, label_ids, "to_train_ids", "label")


def to_label_ids(train_ids: ArrayLike) -> NDArray[np.int32]:
    """Replace train ids by label ids, as the evaluation server wants them.

    Parameters
    ----------
    train_ids : int array
        Of any shape, -1 to 18.

    Returns
    -------
    int32 array of the same shape
        Label ids, 0 ("unlabeled") where the train id is -1.

    Raises
    ------
    TypeError
        If the ids are no integers.
    ValueError
        If there is no such class.
    """
    return _look_up(_LABEL_IDS, train_ids, "to_label_ids", "train")


def _look_up(table: NDArray[np.int32], ids: ArrayLike, caller: str, kind: str) -> NDArray[np.int32]:
    ids = np.asarray(ids)
    if ids.dtype.kind not in "iu":
        raise TypeError(f"{caller}: {kind}_ids is {ids.dtype}, expected integer ids.")
    low, high = int(ids.min(initial=0)), int(ids.max(initial=0))
    highest = len(table) - 2
    if low < -1 or high > highest:
        raise ValueError(
            f"{caller}: {kind}_ids holds {low if low < -1 else high}, expected {kind} ids from -1 "
            f"to {highest}: are these ids of another kind?"
        )
    return table[ids.astype(np.intp) + 1]
