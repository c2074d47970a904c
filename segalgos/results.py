"""What segmenters take and give besides label maps: instances, prompts, hierarchies."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = ["Hierarchy", "Instances", "Prompts"]


def _finite(values: ArrayLike, dtype: type, shape: tuple, what: str) -> NDArray:
    """Array of `dtype` whose shape fits `shape` (None = any length), all finite."""
    try:
        array = np.asarray(values)
    except (ValueError, TypeError) as error:
        raise ValueError(f"{what} cannot be read as one array: {error}") from error
    if array.size == 0 and not all(shape):
        array = array.reshape([n or 0 for n in shape])  # [] for no entries
    fits = array.ndim == len(shape) and all(
        want is None or have == want for have, want in zip(array.shape, shape, strict=True)
    )
    if not fits:
        expected = ", ".join("N" if n is None else str(n) for n in shape)
        raise ValueError(f"{what} has shape {array.shape}, expected ({expected}).")
    if array.dtype.kind not in "buif":
        raise TypeError(f"{what} is {array.dtype}, expected numbers.")
    if not np.isfinite(array).all():
        raise ValueError(f"{what} holds NaN or inf: remove these entries.")
    is_integer = np.dtype(dtype).kind == "i"
    if is_integer and (array != np.trunc(array)).any():
        raise ValueError(f"{what} holds fractions, expected integers: round them first.")
    limits = np.iinfo(dtype) if is_integer else np.finfo(dtype)
    # One above the largest integer is a power of two, which floats hold exactly.
    too_large = array >= int(limits.max) + 1 if is_integer else array > limits.max
    if too_large.any() or (array < limits.min).any():
        raise ValueError(f"{what} holds values beyond {np.dtype(dtype)}: make them smaller.")
    return array.astype(dtype)


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
        object.__setattr__(self, "scores", _finite(scores, np.float32, (n,), "Instances: scores"))
        object.__setattr__(self, "classes", _finite(classes, np.int32, (n,), "Instances: classes"))
        object.__setattr__(self, "boxes", _finite(boxes, np.float32, (n, 4), "Instances: boxes"))
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
    score = _finite(annotation.get("score", 1.0), np.float32, (), f"{where}['score']")
    category = _finite(annotation.get("category_id", 0), np.int32, (), f"{where}['category_id']")
    crowd = annotation.get("iscrowd", 0)
    if crowd not in (0, 1):
        raise ValueError(f"{where}['iscrowd'] is {crowd!r}, expected 0 or 1.")
    return score, category, bool(crowd)


def _read_box(annotation: dict[str, Any], where: str) -> NDArray[np.float64] | None:
    """Box of one COCO annotation, None if it has none."""
    if "bbox" not in annotation:
        return None
    x, y, w, h = _finite(annotation["bbox"], float, (4,), f"{where}['bbox']")
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
            put("points", _finite(self.points, float, (None, n_axes), "Prompts: points"))
            n = len(self.points)
            labels = np.ones(n) if self.point_labels is None else self.point_labels
            put("point_labels", _finite(labels, np.int32, (n,), "Prompts: point_labels"))
            if not np.isin(self.point_labels, (0, 1)).all():
                raise ValueError("Prompts: point_labels holds other values than 1 and 0.")
        elif self.point_labels is not None:
            raise ValueError("Prompts: point_labels without points: pass points=(N, 2) too.")
        if self.boxes is not None:
            boxes = np.atleast_2d(np.asarray(self.boxes))
            n_axes = 3 if boxes.shape[-1] == 6 else 2
            put("boxes", _finite(boxes, float, (None, 2 * n_axes), "Prompts: boxes"))
            if (self.boxes[:, n_axes:] <= self.boxes[:, :n_axes]).any():
                raise ValueError(
                    "Prompts: a box has no area: expected row0 < row1 and col0 < col1."
                )
        if self.scribbles is not None:
            shape = (None,) * (3 if np.ndim(self.scribbles) == 3 else 2)
            put("scribbles", _finite(self.scribbles, np.int32, shape, "Prompts: scribbles"))
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


@dataclass(frozen=True, eq=False)
class Hierarchy:
    """Nested partitions of one image or volume: base regions and the tree of their merges.

    Parameters
    ----------
    regions : (H, W) or (D, H, W) int32
        Base regions 0..n-1; -1 outside the mask.
    merges : (m, 2) int
        Merge i joins two nodes into node ``n + i``. Nodes below n are base regions.
    levels : (m,) float
        Height of each merge, never falling.

    Raises
    ------
    ValueError
        If the merges are no tree or the levels fall.
    """

    regions: NDArray[np.int32]
    merges: NDArray[np.int64]
    levels: NDArray[np.float64]

    def __post_init__(self):
        shape = (None,) * (3 if np.ndim(self.regions) == 3 else 2)
        regions = _finite(self.regions, np.int32, shape, "Hierarchy: regions")
        ids = np.unique(regions[regions >= 0])
        if regions.min(initial=-1) < -1 or (ids != np.arange(len(ids))).any():
            raise ValueError(
                "Hierarchy: regions holds other ids than 0..n-1 and -1: renumber them."
            )
        merges = _finite(self.merges, np.int64, (None, 2), "Hierarchy: merges")
        levels = _finite(self.levels, np.float64, (len(merges),), "Hierarchy: levels")
        n = int(regions.max(initial=-1)) + 1
        own = n + np.arange(len(merges))
        if (merges < 0).any() or (merges >= own[:, None]).any():
            raise ValueError("Hierarchy: a merge names a node that does not exist before it.")
        if len(np.unique(merges)) != merges.size:
            raise ValueError("Hierarchy: a node is merged twice: expected a tree.")
        if (np.diff(levels) < 0).any():
            raise ValueError("Hierarchy: levels fall: sort the merges by level.")
        for name, value in (("regions", regions), ("merges", merges), ("levels", levels)):
            object.__setattr__(self, name, value)

    @property
    def n_regions(self) -> int:
        """Number of base regions."""
        return int(self.regions.max(initial=-1)) + 1

    def _parents(self) -> NDArray[np.int64]:
        """Parent of every node; -1 for roots."""
        parents = np.full(self.n_regions + len(self.merges), -1, np.int64)
        parents[self.merges.ravel()] = np.repeat(self.n_regions + np.arange(len(self.merges)), 2)
        return parents

    def cut(
        self,
        *,
        level: float | None = None,
        n_segments: int | None = None,
        min_area: int | None = None,
    ) -> NDArray[np.int32]:
        """Choose one partition of the hierarchy.

        Parameters
        ----------
        level : float, optional
            Apply every merge at or below this level.
        n_segments : int, optional
            Apply merges in order until this many regions are left.
        min_area : int, optional
            Apply only the merges that a region smaller than this many pixels needs.

        Returns
        -------
        (H, W) or (D, H, W) int32
            Ids 0..k-1 in the order of their first base region; -1 outside the mask.

        Raises
        ------
        ValueError
            If not exactly one of the three is given, or it cannot be met.

        Notes
        -----
        O(n_regions + n_pixels) time.
        """
        options = {"level": level, "n_segments": n_segments, "min_area": min_area}
        given = [name for name, value in options.items() if value is not None]
        if len(given) != 1:
            raise ValueError(
                f"Hierarchy.cut: got {' and '.join(given) or 'nothing'}, expected exactly one of "
                f"{', '.join(options)}."
            )
        n, m = self.n_regions, len(self.merges)
        if level is not None:
            applied = self.levels <= level
        elif n_segments is not None:
            if not n - m <= n_segments <= n:
                raise ValueError(
                    f"Hierarchy.cut: n_segments={n_segments}, this hierarchy has {n - m} to {n}."
                )
            applied = np.arange(m) < n - n_segments
        else:
            applied = self._needed_by_small(min_area)
        root = np.arange(n + m)
        for i in range(m - 1, -1, -1):  # children after their parent, so one pass is enough
            if applied[i]:
                root[self.merges[i]] = root[n + i]
        _, ids = np.unique(root[:n], return_index=True)
        order = np.empty(n + m, np.int32)
        order[root[np.sort(ids)]] = np.arange(len(ids))
        lookup = np.append(order[root[:n]], -1).astype(np.int32)  # [-1] is outside the mask
        return lookup[self.regions]

    def _needed_by_small(self, min_area: int) -> NDArray[np.bool_]:
        n, m = self.n_regions, len(self.merges)
        area = np.zeros(n + m, np.int64)
        area[:n] = np.bincount(self.regions[self.regions >= 0], minlength=n)
        for i in range(m):
            area[n + i] = area[self.merges[i]].sum()
        applied = (area[self.merges] < min_area).any(axis=1)
        for i in range(m - 1, -1, -1):
            if applied[i]:  # a node is joined as a whole, so all below it is joined too
                below = self.merges[i][self.merges[i] >= n] - n
                applied[below] = True
        return applied

    def ucm(self) -> NDArray[np.float32]:
        """Ultrametric contour map, double-sized as in BSDS500.

        Returns
        -------
        (2 H + 1, 2 W + 1) float32
            Odd rows and columns are pixels (0); between two pixels stands the level at
            which their regions merge (inf if never), on crossings the largest beside it.

        Raises
        ------
        ValueError
            If this is the hierarchy of a volume.

        Notes
        -----
        O(H * W + pairs * depth) time. Levels are rounded to float32. Thresholding at t and
        labelling the connected zeros gives ``cut(level=t)`` where its regions are connected.

        References
        ----------
        .. [1] P. Arbelaez, "Boundary extraction in natural images using ultrametric
           contour maps", POCV 2006.
        """
        if self.regions.ndim != 2:
            raise ValueError(
                f"Hierarchy.ucm: regions have shape {self.regions.shape}, contours are of images "
                "(H, W): cut the volume's hierarchy instead."
            )
        height, width = self.regions.shape
        contours = np.zeros((2 * height + 1, 2 * width + 1), np.float32)
        contours[1:-1:2, 2:-1:2] = self._merge_level(self.regions[:, :-1], self.regions[:, 1:])
        contours[2:-1:2, 1:-1:2] = self._merge_level(self.regions[:-1], self.regions[1:])
        beside = np.pad(contours, 1)
        crossings = np.maximum.reduce(
            [beside[1:-1, :-2], beside[1:-1, 2:], beside[:-2, 1:-1], beside[2:, 1:-1]]
        )
        contours[::2, ::2] = crossings[::2, ::2]
        return contours

    def _merge_level(self, a: NDArray, b: NDArray) -> NDArray[np.float64]:
        """Level at which two maps of base regions meet, pixel by pixel."""
        n = self.n_regions
        pairs = np.stack([np.minimum(a, b).ravel(), np.maximum(a, b).ravel()])
        pairs, inverse = np.unique(pairs, axis=1, return_inverse=True)
        low, high = pairs.astype(np.int64)
        parents, levels = self._parents(), np.append(self.levels, np.inf)  # [-1]: never merged
        level = np.zeros(pairs.shape[1])
        open_ = np.flatnonzero(low != high)
        level[open_[low[open_] < 0]] = np.inf  # the edge of the mask never merges
        open_ = open_[low[open_] >= 0]
        while len(open_):
            # Parents have larger ids, so the smaller of the two nodes climbs.
            node = parents[low[open_]]
            level[open_] = levels[np.where(node < 0, -1, node - n)]
            open_, node = open_[node >= 0], node[node >= 0]
            low[open_], high[open_] = np.minimum(node, high[open_]), np.maximum(node, high[open_])
            open_ = open_[low[open_] != high[open_]]
        return level[inverse.ravel()].reshape(a.shape)
