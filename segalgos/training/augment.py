"""Random crops of images and labels together, turned, scaled and re-lit.

Every crop is a function of a random generator alone, so crops can be drawn on any thread
and training can be resumed at any step.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from segalgos import checks

__all__ = ["Augmentation", "CropSampler", "mirrored_window", "relight"]

# Pixels remembered for each image and class, as places to put crops on.
MAX_ANCHORS = 1024


@dataclass(frozen=True)
class Augmentation:
    """How much the crops of training vary.

    Parameters
    ----------
    flip_columns, flip_rows : bool, default=True
        Swap left and right, or top and bottom, of every other crop.
    quarter_turns : bool, default=True
        Rotate by 0, 90, 180 or 270 degrees, if crops are square.
    rotation : float, default=0.0
        Largest rotation beside that, in degrees to either side.
    scale : tuple of float, default=(1.0, 1.0)
        Smallest and largest factor on the size of things, drawn evenly on a log scale.
    brightness : float, default=0.25
        Largest shift, in standard deviations of the training images.
    contrast : float, default=0.25
        Largest relative change of the distance from the mean.
    saturation : float, default=0.0
        Largest relative change of the distance of colours from grey.
    colour : float, default=0.0
        Largest shift of each channel alone, in standard deviations.

    Raises
    ------
    TypeError, ValueError
        If a value is none of these.
    """

    flip_columns: bool = True
    flip_rows: bool = True
    quarter_turns: bool = True
    rotation: float = 0.0
    scale: tuple[float, float] = (1.0, 1.0)
    brightness: float = 0.25
    contrast: float = 0.25
    saturation: float = 0.0
    colour: float = 0.0

    def __post_init__(self):
        for name in ("flip_columns", "flip_rows", "quarter_turns"):
            checks.check_bool("Augmentation", name, getattr(self, name))
        checks.check_real("Augmentation", "rotation", self.rotation, low=0, high=180)
        checks.check_real("Augmentation", "brightness", self.brightness, low=0)
        checks.check_real("Augmentation", "colour", self.colour, low=0)
        for name in ("contrast", "saturation"):
            checks.check_real("Augmentation", name, getattr(self, name), low=0, high=1)
        if not isinstance(self.scale, Sequence) or len(self.scale) != 2:
            raise TypeError(
                f"Augmentation: scale is {self.scale!r}, expected the smallest and the largest "
                "factor, such as (0.5, 2.0)."
            )
        smallest, largest = self.scale
        checks.check_real("Augmentation", "scale[0]", smallest, low=0.1, high=10)
        checks.check_real("Augmentation", "scale[1]", largest, low=0.1, high=10)
        if smallest > largest:
            raise ValueError(f"Augmentation: scale is {self.scale!r}: put the smaller one first.")

    @classmethod
    def of(cls, value: bool | str | Mapping[str, Any], caller: str) -> Augmentation | None:
        """Read the `augment` parameter of a segmenter.

        Parameters
        ----------
        value : bool, str or mapping
            True: the defaults. False: none. "upright": scenes with a sky above and a ground
            below, of things near and far. A mapping changes defaults by name.
        caller : str
            Named in errors.

        Returns
        -------
        Augmentation or None

        Raises
        ------
        TypeError, ValueError
            If it is something else; names what there is.
        """
        if isinstance(value, Mapping):
            names = [field.name for field in fields(cls)]
            for name in value:
                if name not in names:
                    raise ValueError(
                        f"{caller}: augment names {name!r}, expected some of {', '.join(names)}."
                    )
            return cls(**value)
        if isinstance(value, str) and value == "upright":
            return UPRIGHT
        if not isinstance(value, bool | np.bool_):
            raise TypeError(
                f"{caller}: augment is {value!r}, expected True, False, 'upright' or a dict "
                "of changes."
            )
        return cls() if value else None


UPRIGHT = replace(
    Augmentation(), flip_rows=False, quarter_turns=False, scale=(0.5, 2.0), saturation=0.3,
    colour=0.1,
)  # fmt: skip


def mirrored_window(image: NDArray, row: int, column: int, height: int, width: int) -> NDArray:
    """Cut a window that may reach beyond the image, which is mirrored at its border.

    Parameters
    ----------
    image : (H, W, ...) ndarray
        Any size from 1 x 1: a small image is mirrored over and over.
    row, column : int
        Top left corner; may be negative.
    height, width : int

    Returns
    -------
    (height, width, ...) ndarray
        A view if the window lies inside. Equal to a cut from `numpy.pad` with mode
        "symmetric", without padding the whole image.
    """
    if row >= 0 and column >= 0 and row + height <= len(image) and column + width <= image.shape[1]:
        return image[row : row + height, column : column + width]
    rows = _mirror(np.arange(row, row + height), image.shape[0])
    columns = _mirror(np.arange(column, column + width), image.shape[1])
    return image[rows[:, None], columns]


def _mirror(index: NDArray, size: int) -> NDArray:
    index = index % (2 * size)
    return np.minimum(index, 2 * size - 1 - index)


class CropSampler:
    """Draws random training crops.

    Parameters
    ----------
    images : sequence of (H, W, C) ndarray
        Sizes may differ.
    labels : sequence of (H, W) or (H, W, L) int32
        Classes 0..K-1, -1 where ignored; or several layers of other ids with the same meaning
        of -1. At least one pixel is labelled.
    weights : sequence of (H, W) float32, optional
        Weights of pixels.
    classes : sequence of (H, W) int32, optional
        What crops are balanced by. The labels themselves if left out.
    shape : tuple of int
        Height and width of the labels of a crop.
    margin : int, default=0
        Pixels by which the image of a crop reaches beyond its labels on each side.
    prepare : callable, optional
        Called as ``prepare(window, i)`` with a window of the image of index i; gives float32 of
        about zero mean and unit variance. The window as float32 if left out.
    augmentation : Augmentation, optional
    balance : float, default=0.5
        Share of crops placed on a class chosen at random, in an image that has it chosen at
        random; the others fall on any labelled pixel, all as likely.
    outside : int, default=-1
        Label of what lies beyond the border of the image.
    random_state : numpy.random.Generator
        Chooses the pixels to remember as places for crops.
    """

    def __init__(
        self,
        images: Sequence[NDArray],
        labels: Sequence[NDArray[np.int32]],
        weights: Sequence[NDArray[np.float32]] | None = None,
        *,
        classes: Sequence[NDArray[np.int32]] | None = None,
        shape: tuple[int, int],
        margin: int = 0,
        prepare: Callable[[NDArray, int], NDArray[np.float32]] | None = None,
        augmentation: Augmentation | None = None,
        balance: float = 0.5,
        outside: int = -1,
        random_state: np.random.Generator,
    ):
        self.images = images
        self.labels = labels
        self.weights = weights
        self.shape = shape
        self.margin = margin
        self.prepare = prepare
        self.augmentation = augmentation
        self.outside = outside
        found: dict[int, list[tuple[int, int, NDArray]]] = {}  # class: image, count, its pixels
        for i, label_map in enumerate(labels if classes is None else classes):
            for k in np.unique(label_map[label_map >= 0]).tolist():
                pixels = np.flatnonzero(label_map == k)
                count = len(pixels)
                if count > MAX_ANCHORS:
                    pixels = random_state.choice(pixels, MAX_ANCHORS)
                found.setdefault(k, []).append((i, count, pixels))
        total = sum(count for places in found.values() for _, count, _ in places)
        self._places: list[tuple[int, NDArray]] = []
        chances = []
        for _, places in sorted(found.items()):
            for i, count, pixels in places:
                self._places.append((i, pixels))
                at_random = balance / (len(found) * len(places))
                chances.append(at_random + (1 - balance) * count / total)
        self._chances = np.array(chances) / sum(chances)

    def draw(
        self, rng: np.random.Generator
    ) -> tuple[NDArray[np.float32], NDArray[np.int32], NDArray[np.float32] | None]:
        """Draw one crop.

        Parameters
        ----------
        rng : numpy.random.Generator

        Returns
        -------
        image : (h + 2 margin, w + 2 margin, C) float32
            Mirrored beyond the border of the image.
        labels : (h, w) or (h, w, L) int32
            `outside` beyond the border. With at least one labelled pixel, but for crops that are
            scaled or rotated: between their pixels it may be lost.
        weight : (h, w) float32 or None
        """
        look = self.augmentation
        warp = None if look is None else _random_warp(rng, look, self.shape, self.margin)
        shape = self.shape if warp is None else warp.source_shape
        i, row, column = self._place(rng, shape)
        margin = self.margin if warp is None else warp.source_margin
        height, width = shape
        image = mirrored_window(
            self.images[i], row - margin, column - margin, height + 2 * margin, width + 2 * margin
        )
        image = image.astype(np.float32) if self.prepare is None else self.prepare(image, i)
        labels = _cut(self.labels[i], row, column, shape, self.outside)
        weight = None if self.weights is None else _cut(self.weights[i], row, column, shape, 0)
        if warp is not None:
            image, labels = warp.image(image), warp.labels(labels)
            weight = None if weight is None else warp.labels(weight)
        if look is not None:
            turn = _random_turn(rng, look, square=labels.shape[0] == labels.shape[1])
            image, labels = turn(image), turn(labels)
            weight = None if weight is None else turn(weight)
            image = relight(rng, look, image)
        return image, labels, weight

    def _place(self, rng: np.random.Generator, shape: tuple[int, int]) -> tuple[int, int, int]:
        """Choose an image and a window that holds a labelled pixel of it."""
        i, pixels = self._places[rng.choice(len(self._places), p=self._chances)]
        size = self.labels[i].shape[:2]
        corner = []
        for at, crop, length in zip(divmod(int(rng.choice(pixels)), size[1]), shape, size):
            # Inside the image if the crop fits; else the image inside the crop.
            low = max(at - crop + 1, min(0, length - crop))
            high = min(at, max(0, length - crop))
            corner.append(int(rng.integers(low, high + 1)))
        return i, corner[0], corner[1]


def _cut(values: NDArray, row: int, column: int, shape: tuple[int, int], outside: int) -> NDArray:
    """Cut a window, filled with `outside` beyond the border."""
    window = np.full((*shape, *values.shape[2:]), outside, values.dtype)
    top, left = max(row, 0), max(column, 0)
    inside = values[top : row + shape[0], left : column + shape[1]]
    top, left = top - row, left - column
    window[top : top + inside.shape[0], left : left + inside.shape[1]] = inside
    return window


def _random_turn(
    rng: np.random.Generator, look: Augmentation, square: bool
) -> Callable[[NDArray], NDArray]:
    """One of the symmetries of a square, or of a rectangle that is none."""
    flip_columns = look.flip_columns and bool(rng.integers(2))
    flip_rows = look.flip_rows and bool(rng.integers(2))
    quarters = int(rng.integers(4)) if look.quarter_turns and square else 0

    def turn(array: NDArray) -> NDArray:
        array = array[:, ::-1] if flip_columns else array
        array = array[::-1] if flip_rows else array
        return np.rot90(array, quarters)

    return turn


def relight(
    rng: np.random.Generator, look: Augmentation, image: NDArray[np.float32]
) -> NDArray[np.float32]:
    """Change contrast, brightness and colours of a standardised image.

    Parameters
    ----------
    rng : numpy.random.Generator
    look : Augmentation
    image : (H, W, C) float32

    Returns
    -------
    (H, W, C) float32
    """

    def around(centre: float, range_: float, size: int | None = None) -> Any:
        return np.float32(rng.uniform(centre - range_, centre + range_, size))

    image = image * around(1, look.contrast)
    image += around(0, look.brightness)
    n_channels = image.shape[-1]
    if n_channels > 1 and look.saturation:
        grey = image.mean(axis=-1, keepdims=True)
        image = grey + (image - grey) * around(1, look.saturation)
    if n_channels > 1 and look.colour:
        image += around(0, look.colour, n_channels)
    return image


class _Warp:
    """Scale and rotate a window that is large enough, to a window of the shape asked for.

    Parameters
    ----------
    shape : tuple of int
        Height and width of the labels of a crop.
    margin : int
        Pixels by which its image reaches beyond them.
    scale, angle : float
        Factor on sizes, and rotation in radians.
    """

    def __init__(self, shape: tuple[int, int], margin: int, scale: float, angle: float):
        self.shape = shape
        self.margin = margin
        cos, sin = math.cos(angle) / scale, math.sin(angle) / scale
        height, width = (n + 2 * margin for n in shape)
        # The source of the image, with a pixel around to interpolate from; it reaches
        # `source_margin` beyond that of the labels.
        source = [
            math.ceil(abs(cos) * height + abs(sin) * width) + 2,
            math.ceil(abs(sin) * height + abs(cos) * width) + 2,
        ]
        self.source_margin = min(1 + round(margin / scale), (min(source) - 1) // 2)
        self.source_shape = tuple(n - 2 * self.source_margin for n in source)
        # Offsets from the centre, in pixels of the output; then where they come from.
        rows = torch.arange(height)[:, None] - (height - 1) / 2
        columns = torch.arange(width) - (width - 1) / 2
        y, x = cos * rows + sin * columns, cos * columns - sin * rows
        self.grid = torch.stack([2 * x / source[1], 2 * y / source[0]], dim=-1)[None]

    def image(self, image: NDArray[np.float32]) -> NDArray[np.float32]:
        """Interpolate an image bilinearly: (h, w, C) to (shape + 2 margin, C)."""
        x = torch.from_numpy(np.ascontiguousarray(image)).permute(2, 0, 1)[None]
        x = F.grid_sample(x, self.grid, padding_mode="border", align_corners=False)
        return x[0].permute(1, 2, 0).numpy()

    def labels(self, labels: NDArray) -> NDArray:
        """Take the nearest label or weight: (h, w) to `shape`."""
        inside = slice(self.margin, self.margin + self.shape[0])
        across = slice(self.margin, self.margin + self.shape[1])
        grid = self.grid[0, inside, across]
        found = []
        for axis, n in ((1, labels.shape[0]), (0, labels.shape[1])):
            # Of the image's window, labels are the part inside the margin.
            size = n + 2 * self.source_margin
            at = torch.floor((grid[..., axis] + 1) / 2 * size).long() - self.source_margin
            found.append(at.clamp(0, n - 1).numpy())
        return labels[found[0], found[1]]


def _random_warp(
    rng: np.random.Generator, look: Augmentation, shape: tuple[int, int], margin: int
) -> _Warp | None:
    """Draw a scale and a rotation, if there are any to draw."""
    if look.scale == (1.0, 1.0) and look.rotation == 0:
        return None
    scale = math.exp(rng.uniform(*np.log(look.scale)))
    angle = math.radians(rng.uniform(-look.rotation, look.rotation))
    return _Warp(shape, margin, scale, angle)
