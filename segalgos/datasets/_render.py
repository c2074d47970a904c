"""What the rendered data sets draw with: noise, outlines, a canvas that keeps the truth, a camera.

Everything is drawn from signed distances in pixels (negative inside). A distance
gives an antialiased edge, ``clip(0.5 - distance, 0, 1)``, and the truth,
``distance < 0``, at once, so picture and labels cannot disagree.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple
from zlib import crc32

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from segalgos.checks import check_choice, check_int, check_real
from segalgos.datasets.base import Sample
from segalgos.results import Instances

N_IMAGES = {"train": 24, "val": 8, "test": 12}
SPLITS = tuple(N_IMAGES)


@dataclass(frozen=True)
class Setting:
    """What both rendered data sets let their caller choose; see their ``load``."""

    name: str
    split: str
    n_images: int
    size: tuple[int, int]
    blur: float
    noise: float
    illumination: float
    label_fraction: float
    seed: int

    @classmethod
    def check(cls, name: str, **options: Any) -> Setting:
        """The setting, or an error that names the option that cannot be."""
        size, split, n_images = (options.pop(key) for key in ("size", "split", "n_images"))
        check_choice(name, "split", split, SPLITS)
        if not isinstance(size, Sequence) or len(size) != 2:
            raise ValueError(f"{name}: size is {size!r}, expected (height, width) in pixels.")
        n_images = N_IMAGES[split] if n_images is None else n_images
        return cls(
            name=name,
            split=split,
            n_images=check_int(name, "n_images", n_images, low=1),
            size=tuple(check_int(name, "size", n, low=32, high=4096) for n in size),
            blur=check_real(name, "blur", options["blur"], low=0),
            noise=check_real(name, "noise", options["noise"], low=0),
            illumination=check_real(name, "illumination", options["illumination"], low=0, high=1),
            label_fraction=check_real(
                name, "label_fraction", options["label_fraction"], above=0, high=1
            ),
            seed=check_int(name, "seed", options["seed"], low=0),
        )

    def rng(self, index: int) -> np.random.Generator:
        """Generator of one scene: the same for any number of images and any process."""
        entropy = (crc32(self.name.encode()), self.seed, SPLITS.index(self.split), index)
        return np.random.default_rng(np.random.SeedSequence(entropy))


# ---------------------------------------------------------------------------- colour and noise


def oklch(lightness: float, chroma: float, hue: float) -> NDArray[np.float32]:
    """sRGB colour, (3,) float32 in 0 to 1, of an OKLCh colour (hue in radians).

    Equal steps of lightness look equal in every hue, so colours drawn at random
    stay in harmony [1]_.

    References
    ----------
    .. [1] B. Ottosson, "A perceptual color space for image processing", 2020.
    """
    a, b = chroma * np.cos(hue), chroma * np.sin(hue)
    cone = np.array(
        [
            lightness + 0.3963377774 * a + 0.2158037573 * b,
            lightness - 0.1055613458 * a - 0.0638541728 * b,
            lightness - 0.0894841775 * a - 1.2914855480 * b,
        ]
    )
    to_rgb = np.array(
        [
            [4.0767416621, -3.3077115913, 0.2309699292],
            [-1.2684380046, 2.6097574011, -0.3413193965],
            [-0.0041960863, -0.7034186147, 1.7076147010],
        ]
    )
    linear = np.clip(to_rgb @ cone**3, 0, 1)
    encoded = np.where(linear < 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
    return encoded.astype(np.float32)


def mix(
    first: NDArray[np.float32], second: NDArray[np.float32], weight: NDArray[np.float32]
) -> NDArray[np.float32]:
    """``first`` where ``weight`` (H, W) is 0, ``second`` where it is 1: (H, W, 3) float32."""
    return first + (second - first) * weight[..., None]


def _spline(n: int, cell: float, phase: float) -> tuple[NDArray, NDArray]:
    """First knot (n,) and uniform cubic B-spline weights (4, n) of n samples, one a pixel."""
    position = np.arange(n) / cell + phase
    knot = position.astype(np.intp)
    t = (position - knot).astype(np.float32)
    s = 1 - t
    inner = 4 - 6 * t * t + 3 * t * t * t
    return knot, np.stack([s * s * s, inner, 6 - s * s * s - inner - t * t * t, t * t * t]) / 6


def smooth_noise(
    rng: np.random.Generator, shape: tuple[int, int], cell: float | tuple[float, float]
) -> NDArray[np.float32]:
    """Random field (H, W) that varies over about ``cell`` pixels; mean 0, deviation near 1.

    Notes
    -----
    Uniform cubic B-spline through normal knots, four passes over the field.
    """
    cell = np.broadcast_to(cell, 2)
    phase = rng.random(2)
    (i, wi), (j, wj) = (_spline(shape[k], cell[k], phase[k]) for k in (0, 1))
    knots = rng.standard_normal((i[-1] + 4, j[-1] + 4), dtype=np.float32)
    columns = wj[0] * knots[:, j]
    for k in (1, 2, 3):
        columns += wj[k] * knots[:, j + k]
    wi *= np.float32(2.1)  # a B-spline keeps about 0.48 of the knots' deviation
    field = wi[0][:, None] * columns[i]
    for k in (1, 2, 3):
        field += wi[k][:, None] * columns[i + k]
    return field


def fractal_noise(
    rng: np.random.Generator, shape: tuple[int, int], cell: float, octaves: int = 4
) -> NDArray[np.float32]:
    """Sum of smooth noises, each with half the cell and 0.55 of the height of the last."""
    field = np.zeros(shape, np.float32)
    height = 1.0
    for _ in range(octaves):
        field += height * smooth_noise(rng, shape, max(cell, 1.5))
        cell, height = cell / 2, height * 0.55
    return field


# ------------------------------------------------------------------- signed distances in pixels


def ellipse(
    y: NDArray[np.float32], x: NDArray[np.float32], half_height: float, half_width: float
) -> NDArray[np.float32]:
    """Distance to an ellipse about the origin, to first order (exact for a circle)."""
    value = np.hypot(x / half_width, y / half_height)
    slope = np.hypot(x / half_width**2, y / half_height**2)
    return value * (value - 1) / np.maximum(slope, 1e-6)


def box(
    y: NDArray[np.float32],
    x: NDArray[np.float32],
    half_height: float,
    half_width: float,
    rounding: float = 0.0,
) -> NDArray[np.float32]:
    """Distance to a box about the origin with rounded corners."""
    dy, dx = np.abs(y) - (half_height - rounding), np.abs(x) - (half_width - rounding)
    outside = np.hypot(np.maximum(dy, 0), np.maximum(dx, 0))
    return outside + np.minimum(np.maximum(dy, dx), 0) - rounding


def polygon(
    y: NDArray[np.float32], x: NDArray[np.float32], corners: NDArray[np.float32]
) -> NDArray[np.float32]:
    """Distance to a simple polygon; ``corners`` (N, 2) as row, column."""
    squared = np.float32(np.inf)
    inside = np.False_
    for (y0, x0), (y1, x1) in zip(corners, np.roll(corners, -1, axis=0), strict=True):
        ey, ex = y1 - y0, x1 - x0
        dy, dx = y - y0, x - x0
        t = np.clip((dy * ey + dx * ex) / (ey * ey + ex * ex), 0, 1)
        squared = np.minimum(squared, (dy - t * ey) ** 2 + (dx - t * ex) ** 2)
        crosses = (y >= y0) != (y >= y1)  # even-odd rule along a ray in the row
        inside = inside ^ (crosses & ((ex * dy > ey * dx) == (ey > 0)))
    return np.where(inside, -1, 1).astype(np.float32) * np.sqrt(squared)


def path_distance(
    y: NDArray[np.float32], x: NDArray[np.float32], path: NDArray[np.float32]
) -> NDArray[np.float32]:
    """Distance, never negative, to a polyline; ``path`` (N, 2) as row, column, N at least 2."""
    squared = np.float32(np.inf)
    path = np.asarray(path, np.float32)
    for (y0, x0), (ey, ex) in zip(path[:-1], np.diff(path, axis=0), strict=True):
        dy, dx = y - y0, x - x0
        t = np.clip((dy * ey + dx * ex) / max(ey * ey + ex * ex, np.float32(1e-6)), 0, 1)
        squared = np.minimum(squared, (dy - t * ey) ** 2 + (dx - t * ex) ** 2)
    return np.sqrt(squared)


class Stroke(NamedTuple):
    """Where pixels lie about a path: all (H, W) float32."""

    distance: NDArray[np.float32]  # to the path's centre line, in pixels, never negative
    along: NDArray[np.float32]  # 0 at the path's start, 1 at its end
    across: NDArray[np.float32]  # signed distance to the line: left (-) or right (+) of it


def stroke(y: NDArray[np.float32], x: NDArray[np.float32], path: NDArray[np.float32]) -> Stroke:
    """Place pixels about a polyline; ``path`` (N, 2) as row, column, N at least 2."""
    path = np.asarray(path, np.float32)
    start, step = path[:-1], np.diff(path, axis=0)
    length = np.maximum(np.hypot(step[:, 0], step[:, 1]), 1e-6)
    unit = step / length[:, None]
    uy, ux, most = (a[:, None, None] for a in (unit[:, 0], unit[:, 1], length))
    dy, dx = y - start[:, 0, None, None], x - start[:, 1, None, None]
    t = np.clip(dy * uy + dx * ux, 0, most)
    squared = (dy - t * uy) ** 2 + (dx - t * ux) ** 2
    if len(start) == 1:
        return Stroke(np.sqrt(squared[0]), t[0] / length[0], (dx * uy - dy * ux)[0])
    nearest = squared.argmin(axis=0)[None]
    before = np.concatenate([[0], np.cumsum(length)[:-1]]).astype(np.float32)[:, None, None]
    fields = squared, before + t, dx * uy - dy * ux
    squared, along, across = (np.take_along_axis(a, nearest, 0)[0] for a in fields)
    return Stroke(np.sqrt(squared), along / length.sum(), across)


def edge(distance: NDArray[np.float32], width: float = 1.0) -> NDArray[np.float32]:
    """Coverage, 1 inside to 0 outside, across an edge ``width`` pixels wide."""
    return np.clip(0.5 - distance / width, 0, 1)


def soft_edge(distance: NDArray[np.float32], width: float) -> NDArray[np.float32]:
    """As :func:`edge`, with the smooth fall of a shadow's border."""
    t = np.clip(0.5 - distance / width, 0, 1)
    return t * t * (3 - 2 * t)


def rotate(
    y: NDArray[np.float32], x: NDArray[np.float32], angle: float
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Coordinates (H, W) in a frame turned by ``angle`` radians, clockwise in the picture."""
    c, s = np.float32(np.cos(angle)), np.float32(np.sin(angle))
    return c * y - s * x, s * y + c * x


# --------------------------------------------------------------------------------------- canvas


class Window(NamedTuple):
    """A rectangle of the canvas and its pixels' coordinates about a point."""

    area: tuple[slice, slice]
    y: NDArray[np.float32]  # (h, 1) float32, rows below the point
    x: NDArray[np.float32]  # (1, w) float32, columns right of the point

    @property
    def shape(self) -> tuple[int, int]:
        return len(self.y), self.x.shape[1]


class Canvas:
    """A picture and, under it, which part every pixel shows.

    Parameters
    ----------
    size : (int, int)
        Height and width in pixels.

    Attributes
    ----------
    image : (H, W, 3) float32, 0 to 1
    parts : (H, W) int32
        Id of the part seen in each pixel.
    """

    def __init__(self, size: tuple[int, int]) -> None:
        self.image = np.zeros((*size, 3), np.float32)
        self.parts = np.zeros(size, np.int32)
        self._classes: list[int] = []

    @property
    def size(self) -> tuple[int, int]:
        return self.parts.shape

    def add_part(self, class_id: int = 0) -> int:
        """Id of a new part; class 0 is background, any other makes the part an instance."""
        self._classes.append(class_id)
        return len(self._classes) - 1

    def window(self, row: float, col: float, reach: float | tuple[float, float]) -> Window:
        """The pixels within ``reach`` rows and columns of a point, coordinates about it.

        May be empty, where the point is far outside.
        """
        reach_row, reach_col = np.broadcast_to(reach, 2)
        return self._cut(
            row - reach_row, row + reach_row, col - reach_col, col + reach_col, row, col
        )

    def around(self, path: NDArray[np.float32], margin: float) -> Window:
        """The pixels about a path of row, column points, coordinates as the path's."""
        (top, left), (bottom, right) = path.min(axis=0) - margin, path.max(axis=0) + margin
        return self._cut(top, bottom, left, right, 0, 0)

    def whole(self) -> Window:
        """All pixels, with coordinates from the upper left one."""
        return self._cut(0, self.size[0], 0, self.size[1], 0, 0)

    def _cut(
        self, top: float, bottom: float, left: float, right: float, row: float, col: float
    ) -> Window:
        rows, cols = (
            np.arange(max(int(low) - 1, 0), max(min(int(high) + 2, n), 0))
            for low, high, n in zip((top, left), (bottom, right), self.size, strict=True)
        )
        area = tuple(slice(a[0], a[-1] + 1) if len(a) else slice(0, 0) for a in (rows, cols))
        return Window(
            area, (rows - row).astype(np.float32)[:, None], (cols - col).astype(np.float32)[None]
        )

    def paint(
        self,
        window: Window,
        distance: NDArray[np.float32],
        colour: NDArray[np.float32],
        *,
        part: int | None = None,
        opacity: float = 1.0,
    ) -> None:
        """Fill where ``distance`` is negative; the truth follows when ``part`` is given."""
        under = self.image[window.area]
        under += (colour - under) * (opacity * edge(distance))[..., None]
        if part is not None:
            self.parts[window.area][distance < 0] = part

    def darken(self, window: Window, amount: NDArray[np.float32]) -> None:
        """Take away the share ``amount`` (h, w) of the light, as a shadow does."""
        self.image[window.area] *= (1 - amount)[..., None]

    def shoot(self, rng: np.random.Generator, setting: Setting, index: int) -> Sample:
        """The photograph and its truths, all read off the same map of parts."""
        image = photograph(
            self.image,
            rng,
            blur=setting.blur,
            noise=setting.noise,
            illumination=setting.illumination,
        )
        seen = np.flatnonzero(np.bincount(self.parts.ravel(), minlength=len(self._classes)))
        renumber = np.zeros(len(self._classes), np.int32)
        renumber[seen] = np.arange(len(seen))
        partition = renumber[self.parts]
        classes = np.array(self._classes, np.int32)[seen]
        labels = classes[partition]
        objects = np.flatnonzero(classes)
        if setting.split == "train" and setting.label_fraction < 1:
            labels = draw_scribbles(labels, partition, rng, setting.label_fraction)
        return Sample(
            image=image,
            labels=labels,
            instances=Instances(partition == objects[:, None, None], classes=classes[objects]),
            annotations=(partition,),
            name=f"{setting.split}_{index:04d}",
        )


def draw_scribbles(
    labels: NDArray[np.int32],
    partition: NDArray[np.int32],
    rng: np.random.Generator,
    fraction: float,
) -> NDArray[np.int32]:
    """Keep the labels under curved strokes, three pixels wide, inside each region.

    Parameters
    ----------
    labels, partition : (H, W) int32
    rng : Generator
    fraction : float
        Share of every region to label; strokes keep a pixel away from borders
        and every region gets at least one labelled pixel.

    Returns
    -------
    labels : (H, W) int32
        -1 away from the strokes.
    """
    scribbled = np.full_like(labels, -1)
    t = np.linspace(0, 1, 2 * max(labels.shape))[:, None]
    bend = np.concatenate([(1 - t) ** 2, 2 * t * (1 - t), t**2], axis=1)  # quadratic Bezier
    brush = np.array([(i, j) for i in (-1, 0, 1) for j in (-1, 0, 1)])
    for region, box_ in enumerate(ndimage.find_objects(partition + 1)):
        mask = partition[box_] == region
        inner = ndimage.binary_erosion(mask, np.ones((3, 3)))
        inner = inner if inner.any() else mask
        points = np.argwhere(inner)
        wanted = max(1, round(fraction * np.count_nonzero(mask)))
        marked = np.zeros(mask.shape, bool)
        for _ in range(100):
            missing = wanted - np.count_nonzero(marked)
            if missing <= 0:
                break
            curve = np.rint(bend @ points[rng.integers(len(points), size=3)]).astype(np.intp)
            cells = (curve[:, None] + brush).reshape(-1, 2)
            cells = np.clip(cells, 0, np.array(mask.shape) - 1)
            flat = np.ravel_multi_index(cells.T, mask.shape)
            flat = flat[inner.ravel()[flat] & ~marked.ravel()[flat]]
            _, first = np.unique(flat, return_index=True)
            marked.ravel()[flat[np.sort(first)[:missing]]] = True
        scribbled[box_][marked] = labels[box_][marked]
    return scribbled


# --------------------------------------------------------------------------------------- camera


def photograph(
    scene: NDArray[np.float32],
    rng: np.random.Generator,
    *,
    blur: float,
    noise: float,
    illumination: float,
) -> NDArray[np.uint8]:
    """Light the scene unevenly, defocus it, add sensor noise and round to 8 bits.

    Parameters
    ----------
    scene : (H, W, 3) float32, 0 to 1
    rng : Generator
    blur : float
        Standard deviation of the defocus, in pixels.
    noise : float
        Standard deviation of the sensor noise, in grey levels of 255.
    illumination : float
        0 is even white light; 1 is strong: brighter and darker sides, a cast
        shadow's border, other exposure and colour of light in each picture.

    Returns
    -------
    image : (H, W, 3) uint8
    """
    height, width = scene.shape[:2]
    y = np.linspace(-1, 1, height, dtype=np.float32)[:, None]
    x = np.linspace(-1, 1, width, dtype=np.float32)[None]
    side = rotate(y, x, rng.uniform(0, 2 * np.pi))[0]
    field = 0.08 + 0.28 * side + 0.10 * smooth_noise(rng, (height, width), max(height, width) / 2)
    field -= 0.12 * (y * y + x * x)
    if rng.random() < 0.5:  # the border of a shadow thrown by something out of the picture
        border = rotate(y, x, rng.uniform(0, 2 * np.pi))[1] - rng.uniform(-0.5, 0.5)
        field -= 0.35 * soft_edge(border, rng.uniform(0.1, 0.6))
    colour_of_light = np.exp(illumination * rng.normal(0, (0.07, 0.03, 0.07)))
    exposure = float(np.exp(illumination * rng.normal(-0.03, 0.14)))
    gain = np.maximum(1 + illumination * field, 0.1) * exposure
    image = scene * (gain[..., None] * colour_of_light).astype(np.float32)
    if blur > 0:
        image = ndimage.gaussian_filter(image, (blur, blur, 0), truncate=3)
    image *= 255
    if noise > 0:
        image += np.float32(noise) * rng.standard_normal(image.shape, dtype=np.float32)
    np.clip(image, 0, 255, out=image)
    return np.rint(image, out=image).astype(np.uint8)
