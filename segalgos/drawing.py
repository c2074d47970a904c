"""Objects with their scores, and prompts, drawn on a picture."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from segalgos.checks import check_image, check_instances, check_prompts, check_real
from segalgos.palette import label_colors
from segalgos.results import Instances, Prompts

__all__ = ["LINE_LIGHTEN", "boundaries", "displayed", "draw_instances", "draw_prompts"]

#: Boundaries are the label's colour, this far on the way to white.
LINE_LIGHTEN = 0.35


def boundaries(labels: ArrayLike) -> NDArray[np.bool_]:
    """Mark where one label ends and another begins.

    Parameters
    ----------
    labels : (H, W) int
        Label map.

    Returns
    -------
    (H, W) bool
        True at pixels whose right or lower neighbour has another label: lines one pixel thick.
    """
    labels = np.asarray(labels)
    if labels.ndim != 2:
        raise ValueError(
            f"boundaries: labels has shape {labels.shape}, expected (H, W): pass one label map."
        )
    edges = np.zeros(labels.shape, bool)
    edges[:, :-1] |= labels[:, :-1] != labels[:, 1:]
    edges[:-1] |= labels[:-1] != labels[1:]
    return edges


def displayed(image: ArrayLike, caller: str) -> NDArray[np.uint8]:
    """Turn any image into a picture, as the notes of `segalgos.plot.overlay` say.

    Parameters
    ----------
    image : (H, W) or (H, W, C)
    caller : str
        Named in errors.

    Returns
    -------
    (H, W, 3) uint8
    """
    array = check_image(image, caller, keep_uint8=True)
    if array.dtype != np.uint8:
        low, high = float(array.min()), float(array.max())
        is_unit = np.asarray(image).dtype.kind in "bf" and low >= 0 and high <= 1
        low, high = (0.0, 1.0) if is_unit else (low, high)
        scale = 255 / (high - low) if high > low else 0.0
        array = ((array - low) * scale).round().astype(np.uint8)
    return np.repeat(array[..., :1], 3, axis=-1) if array.shape[-1] < 3 else array[..., :3].copy()


def draw_instances(
    image: ArrayLike,
    instances: Instances,
    *,
    classes: Sequence[str] | None = None,
    alpha: float = 0.45,
    scores: bool = True,
) -> NDArray[np.uint8]:
    """Paint objects over their image, each with its outline and score.

    Parameters
    ----------
    image : (H, W) or (H, W, C)
        Displayed as by `overlay`.
    instances : Instances
        Objects of the image; higher scores are painted on top.
    classes : sequence of str, optional
        Class names by id, written before the score.
    alpha : float, default=0.45
        Opacity of the colours.
    scores : bool, default=True
        Write each object's score (and class) at its left, above it where there is room.

    Returns
    -------
    (H, W, 3) uint8

    Raises
    ------
    TypeError, ValueError
        If an argument is not as expected, or an object's class has no name.

    See Also
    --------
    draw_prompts : Show what a person pointed at.

    Notes
    -----
    Outlines and text grow with the image, so that they can be read when it is shown small. Among
    many objects there is no room for all the text: higher scores are written first, and what
    would cover other text, or more than a third of an object's box, is left out.
    """
    caller = "draw_instances"
    picture = displayed(image, caller)
    instances = check_instances(instances, picture.shape[:2], caller, "instances")
    alpha = check_real(caller, "alpha", alpha, low=0, high=1)
    names = _class_names(instances.classes, classes, caller) if scores else []
    ranking = np.argsort(-instances.scores, kind="stable")
    colors = label_colors(len(instances))
    for i in ranking[::-1]:
        _paint_object(picture, instances.masks[i], colors[i], alpha)
    if not scores or not len(instances):
        return picture
    texts = [f"{name} {score:.2f}".lstrip() for name, score in zip(names, instances.scores)]
    return _write_at_boxes(picture, texts, instances.boxes, colors, ranking)


def _class_names(ids: NDArray[np.int32], classes: Sequence[str] | None, caller: str) -> list[str]:
    """Name of each object's class; nothing where there are no names."""
    if classes is None:
        return [""] * len(ids)
    wrong = ids[(ids < 0) | (ids >= len(classes))]
    if len(wrong):
        raise ValueError(
            f"{caller}: an object has class {wrong[0]}, but classes has {len(classes)} names: pass "
            "a name for each id from 0 on."
        )
    return [str(classes[i]) for i in ids]


def _line_width(shape: tuple[int, ...]) -> int:
    """Pixels of a thin line that is seen however large the picture is."""
    return max(1, round(max(shape[:2]) / 800))


def _paint_object(
    picture: NDArray[np.uint8], mask: NDArray[np.bool_], color: NDArray, alpha: float
) -> None:
    """Paint one object into the picture."""
    from scipy import ndimage

    width = _line_width(picture.shape)
    window = _window_of(mask, width)
    if window is None:
        return
    own, outline = picture[window], boundaries(mask[window])
    if width > 1:
        outline = ndimage.maximum_filter(outline, width)
    _blend(own, alpha * mask[window], color)
    own[outline] = (color + LINE_LIGHTEN * (255 - color.astype(np.float32))).round()


def _window_of(mask: NDArray[np.bool_], margin: int) -> tuple[slice, slice] | None:
    """The part of the image that holds a mask, and some pixels around it; None if empty."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if not len(rows):
        return None
    return (
        slice(max(rows[0] - margin, 0), rows[-1] + margin + 1),
        slice(max(columns[0] - margin, 0), columns[-1] + margin + 1),
    )


def _blend(picture: NDArray[np.uint8], weight: NDArray, color: ArrayLike) -> None:
    """Paint a colour into a picture, as far as the weight of each pixel (H, W) says."""
    weight = np.asarray(weight, np.float32)[..., None]
    mixed = (1 - weight) * picture + weight * np.asarray(color, np.float32)
    picture[:] = mixed.round()


def _write_at_boxes(picture, texts, boxes, colors, ranking):
    """Write a text at each box: in this order, above, below, right of it or inside."""
    from PIL import Image, ImageDraw, ImageFont

    height, width = picture.shape[:2]
    short, long = sorted((height, width))
    unit = _line_width(picture.shape)
    canvas = Image.fromarray(picture)
    draw = ImageDraw.Draw(canvas)
    font = ImageFont.load_default(size=float(max(9, min(short / 24, 22), long / 55)))
    boxes, taken = boxes.astype(float), np.zeros((0, 4))
    for i in ranking:
        left, top, right, bottom = draw.textbbox((0, 0), texts[i], font=font)
        size = np.array([bottom - top + 3 * unit, right - left + 4 * unit])
        row0, col0, row1, col1 = boxes[i]
        corners = [(row0 - size[0], col0), (row1, col0), (row0, col1), (row0, col0)]
        for corner in corners:
            # Within the picture, as far as it is large enough.
            corner = np.clip(np.round(corner), 0, np.maximum((height, width) - size, 0))
            place = np.concatenate([corner, corner + size])
            if not _common_area(place, taken).any() and not _hides_box(place, boxes):
                break
        else:
            continue
        taken = np.concatenate([taken, place[None]])
        fill = tuple(int(value) for value in colors[i])
        draw.rectangle((*place[1::-1], place[3] - 1, place[2] - 1), fill=fill)
        ink = "black" if colors[i] @ (0.299, 0.587, 0.114) > 110 else "white"
        at = (place[1] + 2 * unit - left, place[0] + unit - top)
        draw.text(at, texts[i], fill=ink, font=font)
    return np.array(canvas)


def _common_area(place: NDArray, boxes: NDArray) -> NDArray[np.float64]:
    """Area that a box shares with each of others."""
    sides = np.minimum(place[2:], boxes[:, 2:]) - np.maximum(place[:2], boxes[:, :2])
    return sides.clip(0).prod(axis=1)


def _hides_box(place: NDArray, boxes: NDArray) -> bool:
    areas = (boxes[:, 2:] - boxes[:, :2]).prod(axis=1)
    return bool((_common_area(place, boxes) > areas / 3).any())


def draw_prompts(
    image: ArrayLike, prompts: Prompts, *, colors: ArrayLike | None = None
) -> NDArray[np.uint8]:
    """Draw what a person pointed at over the image or over any picture of it.

    Parameters
    ----------
    image : (H, W) or (H, W, C)
        Displayed as by `overlay`; what `overlay` or `draw_instances` gave is drawn on as it is.
    prompts : Prompts
        Points inside the object are discs, points outside of it crosses; boxes are frames;
        scribbles are shown as they were drawn, or a little wider; the rough mask has a dashed
        outline.
    colors : (n, 3) array_like of uint8, optional
        Colours (sRGB) of ids; those of `label_colors` by default. Scribbles take their ids', points
        outside that of id 0, points inside, boxes and the mask that of id 1.

    Returns
    -------
    (H, W, 3) uint8

    Raises
    ------
    TypeError, ValueError
        If an argument is not as expected, or the prompts do not lie on the image.

    See Also
    --------
    overlay : Paints the same ids in the same colours.

    Notes
    -----
    Marks have a white and a black rim, so that they are seen on any ground, and grow with the
    image, so that they are seen when it is shown small.

    Examples
    --------
    >>> from segalgos.results import Prompts
    >>> prompts = Prompts(points=[[20, 30], [5, 50]], point_labels=[1, 0])
    >>> draw_prompts(np.zeros((40, 60)), prompts).shape
    (40, 60, 3)
    """
    caller = "draw_prompts"
    picture = displayed(image, caller)
    prompts = check_prompts(prompts, picture.shape[:2], caller)
    palette = _colors_of_prompts(prompts, colors, caller)
    long = max(picture.shape[:2])
    radius = max(min(max(0.035 * long, 2), 3.5), 0.011 * long)
    rim = max(1, radius / 4)
    if prompts.mask is not None:
        _draw_rough_mask(picture, prompts.mask, palette[1], max(1, round(rim)))
    if prompts.scribbles is not None:
        _draw_scribbles(picture, prompts.scribbles, palette, rim)
    for box in () if prompts.boxes is None else prompts.boxes:
        _draw_frame(picture, box, palette[1], rim)
    if prompts.points is not None:
        for point, label in zip(prompts.points, prompts.point_labels):
            _draw_point(picture, point, label == 1, palette[label], radius, rim)
    return picture


def _colors_of_prompts(
    prompts: Prompts, colors: ArrayLike | None, caller: str
) -> NDArray[np.uint8]:
    """Check the colours of prompts; there must be one for each id."""
    has_object = not all(v is None for v in (prompts.points, prompts.boxes, prompts.mask))
    highest = max(
        -1 if prompts.scribbles is None else int(prompts.scribbles.max(initial=-1)),
        1 if has_object else -1,
    )
    if colors is None:
        return label_colors(highest + 1)
    palette = np.asarray(colors)
    if palette.ndim != 2 or palette.shape[1] != 3 or len(palette) <= highest:
        raise ValueError(
            f"{caller}: colors has shape {palette.shape}, expected (n, 3) with n of at least "
            f"{highest + 1}: pass a colour for each id."
        )
    if palette.dtype.kind not in "ui" or (palette < 0).any() or (palette > 255).any():
        raise ValueError(
            f"{caller}: colors is {palette.dtype} or not within 0 to 255, expected uint8: pass "
            "sRGB values."
        )
    return palette.astype(np.uint8)


def _draw_point(picture, point, inside, color, radius, rim):
    """Draw a disc or a cross around the centre of the pixel that holds the point."""
    reach = int(np.ceil(radius + 2 * rim)) + 1
    row, column = np.floor(point).astype(int)
    window = (
        slice(max(row - reach, 0), row + reach + 1),
        slice(max(column - reach, 0), column + reach + 1),
    )
    own = picture[window]
    rows = np.arange(own.shape[0])[:, None] + window[0].start - row
    columns = np.arange(own.shape[1]) + window[1].start - column
    if inside:
        distance = np.hypot(rows, columns) - radius
    else:
        distance = np.full(own.shape[:2], np.inf)
        arm, half = 0.75 * radius, 0.3 * radius
        for sign in (1, -1):
            along = ((rows + sign * columns) / 2).clip(-arm, arm)  # of the nearest place of the bar
            near = np.hypot(rows - along, columns - sign * along) - half
            distance = np.minimum(distance, near)
    _paint_rimmed(own, distance, color, rim)


def _paint_rimmed(picture, distance, color, rim):
    """Paint a form, given each pixel's distance to it (below 0 inside), with its rims."""
    for beyond, paint in ((1.75 * rim, (0, 0, 0)), (rim, (255, 255, 255)), (0, color)):
        _blend(picture, (0.5 + beyond - distance).clip(0, 1), paint)


def _draw_frame(picture, box, color, rim):
    """Draw the sides of a box, just within the pixels that it has any part in."""
    height, length = picture.shape[:2]
    top, left = np.floor(box[:2]).astype(int)
    bottom, right = np.ceil(box[2:]).astype(int)
    line = int(np.ceil(rim))
    for beyond, paint in ((max(1, round(rim)), (0, 0, 0)), (0, color)):
        row0, row1 = max(top - beyond, 0), min(bottom + beyond, height)
        col0, col1 = max(left - beyond, 0), min(right + beyond, length)
        thick = line + beyond
        picture[row0 : top + thick, col0:col1] = paint
        picture[max(bottom - thick, row0) : row1, col0:col1] = paint
        picture[row0:row1, col0 : left + thick] = paint
        picture[row0:row1, max(right - thick, col0) : col1] = paint


def _draw_scribbles(picture, scribbles, palette, rim):
    """Draw scribbles; all rims lie below all strokes."""
    from scipy import ndimage

    wider = (rim - 1) / 2
    margin = int(np.ceil(wider + 2 * rim)) + 1
    rows, columns = np.nonzero(scribbles >= 0)
    drawn = scribbles[rows, columns]
    strokes = []
    for k in np.unique(drawn):
        own = tuple(
            slice(max(places.min() - margin, 0), places.max() + margin + 1)
            for places in (rows[drawn == k], columns[drawn == k])
        )
        # From the edge of a pixel, half a pixel before its neighbour's centre.
        distance = ndimage.distance_transform_edt(scribbles[own] != k) - 0.5 - wider
        strokes.append((picture[own], distance.astype(np.float32), palette[k]))
    for beyond, paint in ((1.75 * rim, (0, 0, 0)), (rim, (255, 255, 255)), (0, None)):
        for own, distance, color in strokes:
            weight = (0.5 + beyond - distance).clip(0, 1)
            _blend(own, weight, color if paint is None else paint)


def _draw_rough_mask(picture, mask, color, width):
    """Tint a mask and draw its outline in dashes, black and white in turn."""
    from scipy import ndimage

    window = _window_of(mask, 1)
    own, inside = picture[window], np.pad(mask[window], 1)
    depth = ndimage.distance_transform_edt(inside)[1:-1, 1:-1]
    _blend(own, 0.3 * mask[window], color)
    rows, columns = np.indices(depth.shape)
    is_black = (rows + columns) // (4 * width) % 2 == 1
    for beyond, paint in ((2 * width, color), (width, (255, 255, 255))):
        own[(depth > 0) & (depth <= beyond)] = paint
    own[(depth > 0) & (depth <= width) & is_black] = 0
