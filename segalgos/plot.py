"""Pictures of segmentations: overlays, objects, prompts, comparison grids; and of training.

Overlays are plain ``uint8`` arrays, so they can be saved, shown or drawn on with anything.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike, NDArray

from segalgos.checks import (
    check_choice,
    check_image,
    check_instances,
    check_label_map,
    check_prompts,
    check_real,
)
from segalgos.results import Instances, Prompts

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = [
    "boundaries",
    "comparison_grid",
    "draw_instances",
    "draw_prompts",
    "label_colors",
    "learning_curve",
    "overlay",
]

# Okabe and Ito's colours without black: orange, sky blue, green, yellow, blue, red, purple.
_FIRST_COLORS = (
    (230, 159, 0),
    (86, 180, 233),
    (0, 158, 115),
    (240, 228, 66),
    (0, 114, 178),
    (213, 94, 0),
    (204, 121, 167),
)

# What complete protanopia and deuteranopia make of linear RGB: Machado et al. 2009, table 1.
_PROTANOPIA = (
    (0.152286, 1.052583, -0.204868),
    (0.114503, 0.786281, 0.099216),
    (-0.003882, -0.048116, 1.051998),
)
_DEUTERANOPIA = (
    (0.367322, 0.860646, -0.227968),
    (0.280085, 0.672501, 0.047413),
    (-0.011820, 0.042940, 0.968881),
)

_LINE_LIGHTEN = 0.35  # boundaries are the label's colour, this far on the way to white
_IMAGE_INCHES = 2.2  # width of one picture in a comparison grid


def label_colors(labels: int | ArrayLike) -> NDArray[np.uint8]:
    """Give every label id a colour, always the same one.

    Parameters
    ----------
    labels : int or array_like of int
        The number of colours n, or a label map, whose highest id asks for n = id + 1.

    Returns
    -------
    (n, 3) uint8
        sRGB colour of each id. A shorter palette is the beginning of a longer one.

    Raises
    ------
    TypeError
        If `labels` is neither an int nor integers.
    ValueError
        If the number is negative.

    Notes
    -----
    The first seven are the colours of Okabe and Ito [1]_. Every further one is, of about a
    thousand candidates of medium lightness, the one farthest in CIELAB from all before it, as
    seen by the worst off of normal, protanopic and deuteranopic eyes [2]_. When candidates run
    out the palette begins again.

    References
    ----------
    .. [1] M. Okabe, K. Ito, "Color Universal Design: how to make figures and presentations that
       are friendly to colorblind people", 2008.
    .. [2] G. M. Machado, M. M. Oliveira, L. A. F. Fernandes, "A Physiologically-based Model for
       Simulation of Color Vision Deficiency", IEEE Trans. Vis. Comput. Graph. 15(6), 2009.
    """
    array = np.asarray(labels)
    if array.dtype.kind not in "ui":
        raise TypeError(
            f"label_colors: labels is {array.dtype}, expected a number of colours or a label map "
            "of integers."
        )
    n_colors = int(array) if array.ndim == 0 else int(array.max(initial=-1)) + 1
    if n_colors < 0:
        raise ValueError(f"label_colors: asked for {n_colors} colours: pass at least 0.")
    palette = _palette(64 if n_colors <= 64 else None)
    return palette[np.arange(n_colors) % len(palette)]


@lru_cache
def _palette(n_colors: int | None) -> NDArray[np.uint8]:
    """Choose colours greedily; None for as many as there are candidates."""
    from skimage.color import rgb2lab

    levels = np.linspace(0, 255, 12).round().astype(np.uint8)
    grid = np.stack(np.meshgrid(levels, levels, levels, indexing="ij"), axis=-1).reshape(-1, 3)
    lightness, a, b = rgb2lab(grid / 255).T
    usable = (lightness > 35) & (lightness < 90) & (np.hypot(a, b) > 25)
    candidates = np.concatenate([np.array(_FIRST_COLORS, np.uint8), grid[usable]])

    linear = _linear(candidates / 255)
    views = [
        rgb2lab(_gamma((linear @ np.transpose(eye)).clip(0, 1)))
        for eye in (np.eye(3), _PROTANOPIA, _DEUTERANOPIA)
    ]
    chosen: list[int] = []
    nearest = np.full(len(candidates), np.inf)  # distance of each candidate to the chosen ones
    for i in range(min(n_colors or len(candidates), len(candidates))):
        pick = i if i < len(_FIRST_COLORS) else int(nearest.argmax())
        chosen.append(pick)
        for view in views:
            np.minimum(nearest, np.linalg.norm(view - view[pick], axis=1), out=nearest)
        nearest[pick] = -1
    palette = candidates[chosen]
    palette.flags.writeable = False
    return palette


def _linear(rgb):
    return np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)


def _gamma(linear):
    return np.where(linear <= 0.0031308, linear * 12.92, 1.055 * linear ** (1 / 2.4) - 0.055)


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


def overlay(
    image: ArrayLike, labels: ArrayLike, *, alpha: float = 0.5, boundaries: bool = True
) -> NDArray[np.uint8]:
    """Paint a label map over its image.

    Parameters
    ----------
    image : (H, W) or (H, W, C)
        Any real dtype, C of 1 to 4: see Notes for how it is displayed.
    labels : (H, W) int
        Each id gets its colour of `label_colors`; pixels of -1 show the image alone.
    alpha : float, default=0.5
        Opacity of the colours, 0 to 1.
    boundaries : bool, default=True
        Draw a line one pixel thick, in a lighter colour, where labels meet.

    Returns
    -------
    (H, W, 3) uint8

    Notes
    -----
    uint8 is displayed as it is. Booleans and floats within 0 to 1 are multiplied by 255. All
    else (16-bit images, floats beyond 0 to 1) is stretched from its own minimum to its own
    maximum; a constant image is then black. Of two channels the first is shown in grey; a fourth
    channel is not shown.
    """
    caller = "overlay"
    picture = _displayed(image, caller)
    labels = check_label_map(labels, picture.shape[:2], caller)
    alpha = check_real(caller, "alpha", alpha, low=0, high=1)
    return _paint(picture, labels, alpha, boundaries)


def _displayed(image: ArrayLike, caller: str) -> NDArray[np.uint8]:
    """Turn any image into an (H, W, 3) uint8 picture, as the notes of `overlay` say."""
    array = check_image(image, caller, keep_uint8=True)
    if array.dtype != np.uint8:
        low, high = float(array.min()), float(array.max())
        is_unit = np.asarray(image).dtype.kind in "bf" and low >= 0 and high <= 1
        low, high = (0.0, 1.0) if is_unit else (low, high)
        scale = 255 / (high - low) if high > low else 0.0
        array = ((array - low) * scale).round().astype(np.uint8)
    return np.repeat(array[..., :1], 3, axis=-1) if array.shape[-1] < 3 else array[..., :3].copy()


def _paint(picture, labels, alpha, lines):
    # The id -1 takes the last color of all, black, with no weight.
    colors = np.append(label_colors(labels), [[0, 0, 0]], axis=0).astype(np.float32)
    weight = np.where(labels >= 0, np.float32(alpha), np.float32(0))[..., None]
    painted = (1 - weight) * picture + weight * colors[labels]
    if lines:
        # Where only the right or lower neighbour is labelled, the line takes that one's colour.
        own = labels.copy()
        own[:, :-1] = np.maximum(own[:, :-1], np.where(own[:, :-1] < 0, labels[:, 1:], -1))
        own[:-1] = np.maximum(own[:-1], np.where(own[:-1] < 0, labels[1:], -1))
        line = boundaries(labels)
        painted[line] = colors[own[line]] + _LINE_LIGHTEN * (255 - colors[own[line]])
    return painted.round().astype(np.uint8)


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
    picture = _displayed(image, caller)
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
    own[outline] = (color + _LINE_LIGHTEN * (255 - color.astype(np.float32))).round()


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
    picture = _displayed(image, caller)
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


def comparison_grid(
    images: Sequence[ArrayLike],
    rows: Sequence[Sequence[ArrayLike | Instances]],
    titles: Sequence[str],
    *,
    names: Sequence[str] | None = None,
    alpha: float = 0.5,
) -> Figure:
    """Show what several methods make of several images: a row a method, a column an image.

    Parameters
    ----------
    images : sequence of n_images images
        Displayed in the first row, as by `overlay`. Sizes may differ.
    rows : sequence of n_methods sequences
        What each method found in each image: a label map (H, W), or `Instances`.
    titles : sequence of n_methods str
        Names of the methods, written left of their rows.
    names : sequence of n_images str, optional
        Names of the images, written above their columns.
    alpha : float, default=0.5
        Opacity of the colours.

    Returns
    -------
    matplotlib.figure.Figure
        Not registered with pyplot: show it in a notebook or call its ``savefig``.

    Raises
    ------
    ValueError
        If the numbers of rows and titles, or of results and images, differ.

    Examples
    --------
    >>> image = np.zeros((4, 6))
    >>> figure = comparison_grid([image], [[np.zeros((4, 6), int)]], ["one region"])
    >>> len(figure.axes)
    2
    """
    from matplotlib.figure import Figure

    caller = "comparison_grid"
    _check_lengths(caller, images, rows, titles, names)
    pictures = [[_displayed(image, caller) for image in images]]
    for row in rows:
        pictures.append(
            [
                draw_instances(image, result, alpha=alpha)
                if isinstance(result, Instances)
                else overlay(image, result, alpha=alpha)
                for image, result in zip(images, row)
            ]
        )
    # Columns are equally wide; each row is as high as its highest picture.
    aspect = max(picture.shape[0] / picture.shape[1] for picture in pictures[0])
    figure = Figure(
        figsize=(_IMAGE_INCHES * len(images) + 0.5, _IMAGE_INCHES * aspect * len(pictures) + 0.3),
        layout="constrained",
    )
    figure.get_layout_engine().set(w_pad=0.02, h_pad=0.02, wspace=0, hspace=0)
    axes = figure.subplots(len(pictures), len(images), squeeze=False)
    for i, (title, row) in enumerate(zip(["image", *titles], pictures)):
        for j, picture in enumerate(row):
            panel = axes[i, j]
            panel.imshow(picture, interpolation="nearest" if max(picture.shape) < 100 else None)
            panel.set(xticks=[], yticks=[])
            panel.spines[:].set_visible(False)
        axes[i, 0].set_ylabel(title, fontsize=9)
    for panel, name in zip(axes[0], names or ()):
        panel.set_title(name, fontsize=9)
    return figure


def _check_lengths(caller, images, rows, titles, names):
    if not len(images):
        raise ValueError(f"{caller}: images is empty: pass at least one image.")
    if len(rows) != len(titles):
        raise ValueError(
            f"{caller}: got {len(rows)} rows and {len(titles)} titles: pass a title for each row."
        )
    for title, row in zip(titles, rows):
        if len(row) != len(images):
            raise ValueError(
                f"{caller}: the row {title!r} has {len(row)} results for {len(images)} images: "
                "pass one for each image."
            )
    if names is not None and len(names) != len(images):
        raise ValueError(
            f"{caller}: got {len(names)} names for {len(images)} images: pass one for each image."
        )


def learning_curve(
    history: Sequence[Mapping[str, float]], ax: Axes | None = None, *, x: str = "epoch"
) -> Axes:
    """Show how training went: the loss, the score where it was validated, the learning rate.

    Parameters
    ----------
    history : sequence of mapping
        The attribute ``history_`` of a net: one row an epoch, with "loss" and `x`; "score" and
        "learning_rate" are drawn where a row has them.
    ax : matplotlib.axes.Axes, optional
        Where to draw. A new figure, not registered with pyplot, by default.
    x : {"epoch", "steps", "seconds"}, default="epoch"
        What runs from left to right.

    Returns
    -------
    matplotlib.axes.Axes
        That of the loss. The score has an axis of its own at the right; a circle marks its
        best value, the later of equals, whose weights are those that training keeps. The
        learning rate is a thin line, scaled to the height of the axes.

    Raises
    ------
    ValueError
        If the history is empty, a row misses a value, or there is no such `x`.

    Examples
    --------
    >>> rows = [{"epoch": 1, "loss": 0.7}, {"epoch": 2, "loss": 0.4, "score": 0.8}]
    >>> learning_curve(rows).get_xlabel()
    'epoch'
    """
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    caller = "learning_curve"
    check_choice(caller, "x", x, ("epoch", "steps", "seconds"))
    if not len(history):
        raise ValueError(f"{caller}: history is empty: pass history_ of a net that was trained.")
    for i, row in enumerate(history):
        for name in (x, "loss"):
            if name not in row:
                raise ValueError(
                    f"{caller}: history[{i}] has {', '.join(row)}, but no {name!r}: pass history_ "
                    "of a net."
                )
    if ax is None:
        ax = Figure(figsize=(5.5, 3.2), layout="constrained").subplots()
    loss_color, score_color = np.array(_FIRST_COLORS[4:6]) / 255  # dark enough for lines

    def points(name: str) -> tuple[list[float], list[float]]:
        rows = [row for row in history if name in row]
        return [row[x] for row in rows], [row[name] for row in rows]

    marker = "o" if len(history) == 1 else ""
    lines = ax.plot(*points("loss"), marker=marker, color=loss_color, label="loss")
    ax.set(xlabel=x, ylabel="loss")
    if x != "seconds":
        ax.xaxis.set_major_locator(MaxNLocator(integer=True))

    at, rates = points("learning_rate")
    if rates and max(rates) > 0:
        heights = [rate / max(rates) for rate in rates]
        label = f"learning rate, up to {max(rates):.2g}"
        lines += ax.plot(
            at, heights, transform=ax.get_xaxis_transform(), color="0.55", lw=1, ls=":", label=label
        )
    at, scores = points("score")
    if scores:
        right = ax.twinx()
        lines += right.plot(at, scores, ".-", color=score_color, ms=4, label="score")
        best = len(scores) - 1 - int(np.argmax(scores[::-1]))
        right.plot(at[best], scores[best], "o", mfc="none", color=score_color, ms=9)
        right.set_ylabel("score")
    above = {"loc": "lower center", "bbox_to_anchor": (0.5, 1.0), "frameon": False}
    ax.legend(handles=lines, ncols=len(lines), fontsize=8, **above)
    return ax
