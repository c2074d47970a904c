"""What segmenters take and give besides label maps: instances, prompts, hierarchies."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from segalgos.finite import as_finite
from segalgos.hierarchy import Hierarchy

__all__ = ["Hierarchy", "Instances", "Prompts"]


@dataclass(frozen=True, eq=False)
class Instances:
    """Objects found in, or annotated on, one image.

    Parameters
    ----------
    masks : (N, H, W) bool
        One mask an object; they may overlap. For no objects pass an array of
        shape (0, H, W).
    scores : (N,) float32, optional
        Confidence, higher first in every ranking; ones when left out.
    classes : (N,) int32, optional
        Class ids; zeros when left out.
    boxes : (N, 4) float32, optional
        Rows and columns in pixels, half-open: row0, col0, row1, col1. The masks'
        bounding boxes when left out, zeros for an empty mask. They may be larger than the
        masks and reach beyond the image: nothing clips them.
    crowd : (N,) bool, optional
        True where many objects are outlined as one, in which nothing is counted as found or
        missed: COCO's ``iscrowd``. False when left out.

    Raises
    ------
    ValueError
        If shapes disagree or a number is not finite.
    TypeError
        If `masks` is neither boolean nor integers of 0 and 1, or `crowd` neither.

    Notes
    -----
    Masks that are made here (`from_labels`, `from_coco`, `from_polygons`) take memory only for
    the pages that hold a pixel of an object, as far as the operating system gives them on
    demand. `segalgos.rle.Runs` holds thousands of large masks.
    """

    masks: NDArray[np.bool_]
    scores: NDArray[np.float32] | None = None
    classes: NDArray[np.int32] | None = None
    boxes: NDArray[np.float32] | None = None
    crowd: NDArray[np.bool_] | None = None

    def __post_init__(self):
        masks = np.asarray(self.masks)
        if masks.ndim != 3:
            raise ValueError(
                f"Instances: masks has shape {masks.shape}, expected (N, H, W): stack one mask "
                "an object, or pass an array of shape (0, H, W) for none."
            )
        if masks.dtype != bool:
            if masks.dtype.kind not in "ui" or not np.isin(masks, (0, 1)).all():
                raise TypeError(
                    f"Instances: masks is {masks.dtype}, expected bool: compare it with a "
                    "threshold first."
                )
            masks = masks.astype(bool)
        n = len(masks)
        scores = np.ones(n) if self.scores is None else self.scores
        classes = np.zeros(n, np.int32) if self.classes is None else self.classes
        boxes = _boxes_of(masks) if self.boxes is None else self.boxes
        object.__setattr__(self, "masks", masks)
        object.__setattr__(self, "scores", as_finite(scores, np.float32, (n,), "Instances: scores"))
        object.__setattr__(
            self, "classes", as_finite(classes, np.int32, (n,), "Instances: classes")
        )
        object.__setattr__(self, "boxes", as_finite(boxes, np.float32, (n, 4), "Instances: boxes"))
        object.__setattr__(self, "crowd", _flags(self.crowd, n))

    def __len__(self) -> int:
        return len(self.masks)

    def __getitem__(self, index) -> Instances:
        """Select objects by slice, integer array or boolean array."""
        index = [index] if isinstance(index, int | np.integer) else index
        fields = (self.masks, self.scores, self.classes, self.boxes, self.crowd)
        return Instances(*(values[index] for values in fields))

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width of the image."""
        return self.masks.shape[1:]

    def to_labels(self) -> NDArray[np.int32]:
        """Paint the objects on one label map.

        Returns
        -------
        (H, W) int32
            0 is background, ``i + 1`` object i. Where objects overlap the higher score
            is on top (ties: the earlier object), so overlaps are lost, and so is an object that
            is hidden altogether. Scores, classes, boxes and flags are not in the map.
        """
        labels = np.zeros(self.shape, np.int32)
        for i in np.argsort(-self.scores, kind="stable")[::-1]:
            labels[self.masks[i]] = i + 1
        return labels

    @classmethod
    def from_labels(
        cls, labels: ArrayLike, classes: ArrayLike | Mapping[int, int] | None = None
    ) -> Instances:
        """Take every id of at least 1 as one object.

        Parameters
        ----------
        labels : (H, W) int
            0 is background and -1 ignored. Ids may have gaps.
        classes : (N,) int or mapping of int to int, optional
            Class of each object, in the order of rising ids; or of each id.

        Returns
        -------
        Instances
            One object an id, in the order of rising ids, whether its pixels are connected or
            not. Nothing but the ids themselves is lost.

        Raises
        ------
        ValueError
            If `labels` holds no integers (H, W), or an id has no class.

        Notes
        -----
        O(H W log(H W)) and the pixels of the objects' boxes.
        """
        labels = np.asarray(labels)
        if labels.ndim != 2 or labels.dtype.kind not in "bui":
            raise ValueError(
                f"Instances.from_labels: labels is {labels.dtype} of shape {labels.shape}, "
                "expected integers (H, W): pass one label map."
            )
        from scipy.ndimage import find_objects

        ids, places = np.unique(labels, return_inverse=True)
        places = places.reshape(labels.shape) - np.count_nonzero(ids <= 0) + 1
        ids = ids[ids > 0]
        if isinstance(classes, Mapping):
            missing = next((i for i in ids.tolist() if i not in classes), None)
            if missing is not None:
                raise ValueError(
                    f"Instances.from_labels: labels holds the id {missing}, which has no class: "
                    "add it to classes."
                )
            classes = [classes[i] for i in ids.tolist()]
        masks = np.zeros((len(ids), *labels.shape), bool)
        boxes = np.zeros((len(ids), 4), np.float32)
        for i, (rows, columns) in enumerate(find_objects(np.maximum(places, 0))):
            masks[i, rows, columns] = places[rows, columns] == i + 1
            boxes[i] = rows.start, columns.start, rows.stop, columns.stop
        return cls(masks, classes=classes, boxes=boxes)

    def to_polygons(self, *, join: bool = False) -> list[tuple[NDArray[np.int64], ...]]:
        """Outline the objects along the edges of their pixels.

        Parameters
        ----------
        join : bool, default=False
            Make one polygon an object, however many parts it has.

        Returns
        -------
        list of tuple of (n, 2) int64
            Of each object the polygons of its parts: rows and columns of corners. None for an
            empty mask.

        See Also
        --------
        from_polygons : Gives the same masks back.
        segalgos.polygons.trace : How holes and parts are cut open; that is also where they are
            counted.
        """
        from segalgos import polygons, rle  # compiled kernels, as in to_coco

        return [outline.polygons for outline in polygons.trace(rle.encode(self.masks), join=join)]

    @classmethod
    def from_polygons(
        cls,
        polygons: Sequence[Sequence[ArrayLike]],
        shape: tuple[int, int],
        scores: ArrayLike | None = None,
        classes: ArrayLike | None = None,
        boxes: ArrayLike | None = None,
        crowd: ArrayLike | None = None,
    ) -> Instances:
        """Draw polygons.

        Parameters
        ----------
        polygons : sequence of sequence of (n, 2) float
            Of each object the polygons of its parts, which are joined: rows and columns, where
            the centre of the first pixel is at 0.5, 0.5.
        shape : (H, W)
            Of the image. What is beyond it is not drawn.
        scores, classes, boxes, crowd : optional
            As in the class.

        Returns
        -------
        Instances

        Raises
        ------
        ValueError
            If a polygon has fewer than 3 vertices, or a vertex is not finite or far beyond the
            image; names the object.

        Notes
        -----
        Drawn as by COCO's evaluation, with vertices rounded to fifths of a pixel: corners of
        pixels are exact, other places are not.
        """
        from segalgos import polygons as room  # compiled kernels, as in to_coco
        from segalgos import rle

        parts = []
        for i, outline in enumerate(polygons):
            try:
                parts.append(room.fill(outline, shape).counts)
            except ValueError as error:
                raise ValueError(f"Instances.from_polygons: object {i}: {error}") from error
        masks = rle.decode(rle.Runs.join(tuple(shape), parts))
        return cls(masks, scores, classes, boxes, crowd)

    def to_coco(self, image_id: int = 1, *, compressed: bool = True) -> list[dict[str, Any]]:
        """Write the objects as COCO annotations.

        Parameters
        ----------
        image_id : int, default=1
        compressed : bool, default=True
            Run lengths as COCO's string, else as a plain list of counts.

        Returns
        -------
        list of dict
            With ``image_id, category_id, segmentation`` (run-length code, column-major),
            ``bbox`` (x, y, width, height), ``area`` (of the mask), ``score``, ``iscrowd``.
            Nothing is lost.
        """
        from segalgos import rle  # compiled kernels, which most of who imports this can do without

        runs = rle.encode(self.masks)
        codes, areas = rle.write(runs, compressed=compressed), rle.areas(runs)
        annotations = []
        for i in range(len(self)):
            row0, col0, row1, col1 = (float(v) for v in self.boxes[i])
            annotations.append(
                {
                    "id": i + 1,
                    "image_id": image_id,
                    "category_id": int(self.classes[i]),
                    "segmentation": codes[i],
                    "bbox": [col0, row0, col1 - col0, row1 - row0],
                    "area": int(areas[i]),
                    "score": float(self.scores[i]),
                    "iscrowd": int(self.crowd[i]),
                }
            )
        return annotations

    @classmethod
    def from_coco(
        cls, annotations: Sequence[dict[str, Any]], shape: tuple[int, int] | None = None
    ) -> Instances:
        """Read the COCO annotations of one image.

        Parameters
        ----------
        annotations : sequence of dict
            ``segmentation`` is a run-length code (list or string) or a list of polygons;
            ``category_id``, ``score`` and ``iscrowd`` are kept, ``bbox`` is used where present.
            Other fields are left out.
        shape : (H, W), optional
            Needed for polygons and for an empty sequence.

        Returns
        -------
        Instances

        Raises
        ------
        ValueError
            If a code does not add up to its image, a vertex is not finite or far beyond the
            image, or sizes disagree; names the annotation.

        Notes
        -----
        Polygons are drawn as by COCO's evaluation, with vertices rounded to fifths of a pixel;
        parts of one annotation are joined.
        """
        from segalgos import rle  # compiled kernels, which most of who imports this can do without

        parts, scores, classes, boxes, crowd = [], [], [], [], []
        for i, annotation in enumerate(annotations):
            where = f"Instances.from_coco: annotations[{i}]"
            if not isinstance(annotation, dict) or "segmentation" not in annotation:
                raise ValueError(f"{where} has no 'segmentation': expected a COCO annotation.")
            try:
                size, counts = _read_segmentation(annotation["segmentation"], shape, where)
                score, category, is_crowd = _read_annotation(annotation, where)
                box = _read_box(annotation, where)
            except TypeError as error:  # text in place of a number, and the like
                raise ValueError(f"{where} is malformed: {error}") from error
            shape = size if shape is None else shape
            parts.append(counts)
            scores.append(score)
            classes.append(category)
            boxes.append(box)
            crowd.append(is_crowd)
        if shape is None:
            raise ValueError(
                "Instances.from_coco: no annotations and no shape: pass shape=(H, W) of the image."
            )
        runs = rle.Runs.join(tuple(shape), parts)
        own = rle.bounding_boxes(runs)
        boxes = [own[i] if box is None else box for i, box in enumerate(boxes)]
        return cls(rle.decode(runs), scores, classes, boxes, crowd)


def _flags(values: ArrayLike | None, n: int) -> NDArray[np.bool_]:
    """The flags of n objects, False when left out."""
    flags = np.zeros(n, bool) if values is None else np.asarray(values)
    if flags.shape != (n,):
        raise ValueError(f"Instances: crowd has shape {flags.shape}, expected ({n},).")
    if flags.size and not (flags.dtype.kind in "bui" and np.isin(flags, (0, 1)).all()):
        raise TypeError(f"Instances: crowd is {flags.dtype}, expected bool.")
    return flags.astype(bool)


def _read_annotation(annotation: dict[str, Any], where: str):
    """Score, class and crowd flag of one COCO annotation."""
    score = as_finite(annotation.get("score", 1.0), np.float32, (), f"{where}['score']")
    category = as_finite(annotation.get("category_id", 0), np.int32, (), f"{where}['category_id']")
    crowd = annotation.get("iscrowd", 0)
    if crowd not in (0, 1):
        raise ValueError(f"{where}['iscrowd'] is {crowd!r}, expected 0 or 1.")
    return score, category, bool(crowd)


def _read_box(annotation: dict[str, Any], where: str) -> NDArray[np.float64] | None:
    """Box of one COCO annotation, None if it has none."""
    if "bbox" not in annotation:
        return None
    x, y, w, h = as_finite(annotation["bbox"], float, (4,), f"{where}['bbox']")
    if w < 0 or h < 0:
        raise ValueError(f"{where}['bbox'] has a negative size: expected x, y, width, height.")
    return np.array([y, x, y + h, x + w])


def _boxes_of(masks: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Half-open bounding boxes of masks (N, H, W); zeros for an empty mask."""
    boxes = np.zeros((len(masks), 4), np.float32)
    for i, mask in enumerate(masks):
        rows, cols = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
        if len(rows):
            boxes[i] = rows[0], cols[0], rows[-1] + 1, cols[-1] + 1
    return boxes


def _read_segmentation(
    segmentation: Any, shape: tuple[int, int] | None, where: str
) -> tuple[tuple[int, int], NDArray[np.int64]]:
    """Size and runs of a COCO ``segmentation``; all is checked before memory is taken."""
    from segalgos import rle  # compiled kernels, which most of who imports this can do without

    if isinstance(segmentation, dict):
        size, counts = rle.read_one(segmentation, where)
        if shape is not None and size != tuple(shape):
            raise ValueError(f"{where} is for an image of {size}, expected {tuple(shape)}.")
        return size, counts
    if shape is None:
        raise ValueError(f"{where} is a polygon: pass shape=(H, W) of the image.")
    try:
        return tuple(shape), rle.merge(rle.from_polygons(segmentation, shape)).counts
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from error


@dataclass(frozen=True, eq=False)
class Prompts:
    """What a person points at: the input of interactive segmenters.

    Everything may be given for a volume too; the slice then comes before the row.

    Parameters
    ----------
    points : (N, 2) or (N, 3) float, optional
        Row and column in pixels.
    point_labels : (N,) int, optional
        1 inside the object, 0 outside; all 1 when left out.
    boxes : (M, 4) or (M, 6) float, optional
        Half-open: row0, col0, row1, col1. One box may be given as (4,).
    scribbles : (H, W) or (D, H, W) int, optional
        A label map; -1 where nothing was drawn.
    mask : (H, W) or (D, H, W) bool, optional
        A rough mask to start from.

    Raises
    ------
    ValueError
        If nothing is given, a shape is wrong or a box has no area.
    """

    points: NDArray[np.float64] | None = None
    point_labels: NDArray[np.int32] | None = None
    boxes: NDArray[np.float64] | None = None
    scribbles: NDArray[np.int32] | None = None
    mask: NDArray[np.bool_] | None = None

    def __post_init__(self):
        def put(name, value):
            object.__setattr__(self, name, value)

        if self.points is not None:
            n_axes = 3 if np.shape(self.points)[-1:] == (3,) else 2
            put("points", as_finite(self.points, float, (None, n_axes), "Prompts: points"))
            n = len(self.points)
            labels = np.ones(n) if self.point_labels is None else self.point_labels
            put("point_labels", as_finite(labels, np.int32, (n,), "Prompts: point_labels"))
            if not np.isin(self.point_labels, (0, 1)).all():
                raise ValueError("Prompts: point_labels holds other values than 1 and 0.")
        elif self.point_labels is not None:
            raise ValueError("Prompts: point_labels without points: pass points=(N, 2) too.")
        if self.boxes is not None:
            boxes = np.atleast_2d(np.asarray(self.boxes))
            n_axes = 3 if boxes.shape[-1] == 6 else 2
            put("boxes", as_finite(boxes, float, (None, 2 * n_axes), "Prompts: boxes"))
            if (self.boxes[:, n_axes:] <= self.boxes[:, :n_axes]).any():
                raise ValueError(
                    "Prompts: a box has no area: expected row0 < row1 and col0 < col1."
                )
        if self.scribbles is not None:
            shape = (None,) * (3 if np.ndim(self.scribbles) == 3 else 2)
            put("scribbles", as_finite(self.scribbles, np.int32, shape, "Prompts: scribbles"))
        if self.mask is not None:
            mask = np.asarray(self.mask)
            if mask.ndim not in (2, 3) or mask.dtype != bool:
                raise ValueError(
                    f"Prompts: mask is {mask.dtype} of shape {mask.shape}, expected bool (H, W) "
                    "or (D, H, W)."
                )
            put("mask", mask)
        if all(v is None for v in (self.points, self.boxes, self.scribbles, self.mask)):
            raise ValueError("Prompts: nothing given: pass points, boxes, scribbles or a mask.")

    def seeds(self, shape: tuple[int, ...]) -> NDArray[np.int32]:
        """Draw what is known of each pixel; `mask`, which is only a guess, is left out.

        Parameters
        ----------
        shape : tuple of int
            Of the image, (H, W) or (D, H, W).

        Returns
        -------
        ndarray of int32
            Of that shape. Ids of scribbles, over them 1 and 0 at points, under them 0
            outside all boxes; -1 where nothing is known.
        """
        seeds = np.full(shape, -1, np.int32)
        if self.boxes is not None:
            seeds[:] = 0
            n_axes = len(shape)
            # A pixel is inside if its square, half-open as the box, has any part in it.
            starts = np.floor(self.boxes[:, :n_axes]).astype(int)
            stops = np.ceil(self.boxes[:, n_axes:]).astype(int)
            for start, stop in zip(starts, stops, strict=True):
                seeds[tuple(map(slice, start, stop))] = -1
        if self.scribbles is not None:
            np.copyto(seeds, self.scribbles, where=self.scribbles >= 0)
        if self.points is not None:
            pixels = self.points.astype(int)
            seeds[tuple(pixels.T)] = self.point_labels
        return seeds
