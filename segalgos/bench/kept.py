"""Objects and prompts as the runner keeps them for pictures: JSON with run lengths.

Objects are COCO annotations, so masks may overlap and every object keeps its score. Both are read
as what anybody may have written: checked before memory is taken, and made as small as the picture
object by object.
"""

from __future__ import annotations

import json
from operator import index
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from segalgos import rle
from segalgos.checks import check_prompts
from segalgos.results import Instances, Prompts

__all__ = ["read_objects", "read_prompts", "write_objects", "write_prompts"]

MOST_OBJECTS = 1000  # in a picture: the surest
MOST_BYTES = 1 << 26  # of a file
MOST_IDS = 1 << 16  # each id needs a colour


def write_objects(objects: Instances) -> bytes:
    """Write the objects found in an image.

    Parameters
    ----------
    objects : Instances

    Returns
    -------
    bytes
        What `read_objects` reads.
    """
    return _dump({"size": list(objects.shape), "objects": objects.to_coco()})


def read_objects(path: Path, size: tuple[int, int], shape: tuple[int, int]) -> Instances:
    """Read objects for a picture of their image.

    Parameters
    ----------
    path : Path
    size : (H, W)
        Of the image.
    shape : (h, w)
        Of the picture.

    Returns
    -------
    Instances
        Masks and boxes at the picture's size; of more than a thousand objects the surest.

    Raises
    ------
    OSError, ValueError
        If the file cannot be read, is damaged or is of an image of another size.
    """
    content = _load(path, size)
    annotations = content.get("objects")
    if not isinstance(annotations, list):
        raise ValueError(f"read_objects: {path} holds no list of objects.")
    small = []
    for annotation in annotations:
        one = Instances.from_coco([annotation], size)  # one mask at a time is as large as the image
        small.append((_shrink_mask(one.masks[0], shape), one))
        if len(small) > 2 * MOST_OBJECTS:
            small = _surest(small)
    small = _surest(small)
    factors = np.tile(np.divide(shape, size), 2)
    return Instances(
        np.array([mask for mask, _ in small], bool).reshape(len(small), *shape),
        [one.scores[0] for _, one in small],
        [one.classes[0] for _, one in small],
        np.array([one.boxes[0] * factors for _, one in small]).reshape(-1, 4),
    )


def _surest(objects: list[tuple[NDArray, Instances]]) -> list[tuple[NDArray, Instances]]:
    """The objects of the highest scores, in the order they were in."""
    scores = np.array([one.scores[0] for _, one in objects])
    chosen = np.sort(np.argsort(-scores, kind="stable")[:MOST_OBJECTS])
    return [objects[i] for i in chosen]


def write_prompts(prompts: Prompts, size: tuple[int, int]) -> bytes:
    """Write the prompts of an image.

    Parameters
    ----------
    prompts : Prompts
    size : (H, W)
        Of the image.

    Returns
    -------
    bytes
        What `read_prompts` reads.
    """
    content: dict[str, Any] = {"size": list(size)}
    for name in ("points", "point_labels", "boxes"):
        if getattr(prompts, name) is not None:
            content[name] = getattr(prompts, name).tolist()
    if prompts.scribbles is not None:
        ids = np.unique(prompts.scribbles[prompts.scribbles >= 0]).tolist()
        content["scribbles"] = [[k, _write_mask(prompts.scribbles == k)] for k in ids]
    if prompts.mask is not None:
        content["mask"] = _write_mask(prompts.mask)
    return _dump(content)


def _write_mask(mask: NDArray[np.bool_]) -> dict[str, Any]:
    return rle.write(rle.encode(mask[None]))[0]


def read_prompts(path: Path, size: tuple[int, int], shape: tuple[int, int]) -> Prompts:
    """Read prompts for a picture of their image.

    Parameters
    ----------
    path : Path
    size : (H, W)
        Of the image.
    shape : (h, w)
        Of the picture.

    Returns
    -------
    Prompts
        At the picture's size. Of scribbles every pixel is kept: a stroke may be thicker than it
        was, but never vanishes.

    Raises
    ------
    OSError, ValueError
        If the file cannot be read, is damaged or is of an image of another size, or nothing is
        left to be seen.
    """
    content = _load(path, size)
    try:
        scribbles = _read_scribbles(content["scribbles"], size) if "scribbles" in content else None
        mask = _read_mask(content["mask"], size) if "mask" in content else None
        names = ("points", "point_labels", "boxes")
        whole = Prompts(*(content.get(name) for name in names), scribbles, mask)
        check_prompts(whole, size, "read_prompts")
    except (TypeError, OverflowError) as error:
        raise ValueError(f"read_prompts: {path} is damaged: {error}") from error
    return _shrink_prompts(whole, size, shape)


def _read_scribbles(strokes: Any, size: tuple[int, int]) -> NDArray[np.int32]:
    scribbles = np.full(size, -1, np.int32)
    for label, code in strokes:
        if not 0 <= index(label) < MOST_IDS:
            raise ValueError(f"read_prompts: a scribble has the id {label}, out of bounds.")
        scribbles[_read_mask(code, size)] = label
    return scribbles


def _read_mask(code: Any, size: tuple[int, int]) -> NDArray[np.bool_]:
    own, counts = rle.read_one(code, "read_prompts: a mask")
    if own != size:
        raise ValueError(f"read_prompts: a mask is of an image of {own}, expected {size}.")
    return rle.decode(rle.Runs.join(size, [counts]))[0]


def _shrink_prompts(prompts: Prompts, size: tuple[int, int], shape: tuple[int, int]) -> Prompts:
    factor = np.divide(shape, size)
    points, boxes, scribbles, mask = prompts.points, prompts.boxes, None, None
    if points is not None:
        points = (np.floor(points) + 0.5) * factor
    if boxes is not None:
        boxes = boxes * np.tile(factor, 2)
    if prompts.scribbles is not None:
        scribbles = np.full(shape, -1, np.int32)
        rows, columns = np.nonzero(prompts.scribbles >= 0)
        places = (rows * factor[0]).astype(int), (columns * factor[1]).astype(int)
        scribbles[places] = prompts.scribbles[rows, columns]
    if prompts.mask is not None:
        mask = _shrink_mask(prompts.mask, shape)
        mask = mask if mask.any() else None  # too small to be seen
    return Prompts(points, prompts.point_labels, boxes, scribbles, mask)


def _shrink_mask(mask: NDArray[np.bool_], shape: tuple[int, int]) -> NDArray[np.bool_]:
    """Keep the pixels of which at least half is in the mask."""
    grey = Image.fromarray(mask.view(np.uint8) * 255).resize(shape[::-1], Image.Resampling.BOX)
    return np.array(grey) >= 128


def _load(path: Path, size: tuple[int, int]) -> dict[str, Any]:
    """Read one of our files, of an image of this size."""
    if path.stat().st_size > MOST_BYTES:
        raise ValueError(f"{path} has more than {MOST_BYTES} bytes: it is none of ours.")
    try:
        content = json.loads(path.read_bytes())
    except RecursionError as error:
        raise ValueError(f"{path} is nested too deeply: it is none of ours.") from error
    if not isinstance(content, dict) or content.get("size") != list(size):
        raise ValueError(f"{path} is of no image of {size}.")
    return content


def _dump(content: dict[str, Any]) -> bytes:
    return json.dumps(content, separators=(",", ":")).encode()
