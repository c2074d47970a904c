"""shapes: rendered textured objects on textured ground, with exact truth of every kind."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import numpy as np
from numpy.typing import NDArray

from segalgos.checks import check_int, check_real
from segalgos.datasets._render import (
    SPLITS,
    Canvas,
    Setting,
    Window,
    box,
    edge,
    ellipse,
    fractal_noise,
    mix,
    oklch,
    polygon,
    rotate,
    smooth_noise,
    soft_edge,
)
from segalgos.datasets.base import VIEWS, Dataset, Info, Sample
from segalgos.results import Instances

__all__ = ["CLASSES", "INFO", "load"]

CLASSES = ("background", "disc", "box", "triangle", "star", "ring")

INFO = Info(
    name="shapes",
    task="semantic",
    splits=SPLITS,
    size="24 train, 8 val, 12 test by default, as many as asked for",
    licence="none needed: rendered by segalgos",
    citation="segalgos, rendered data set 'shapes'",
    source="built in: rendered on demand, no download",
    summary="Textured objects of five shapes on textured ground; overlap, blur, noise, light, "
    "scale, the number of classes and the share of labelled pixels are options.",
    built_in=True,
)

# What is told apart with fewer classes: groups of shapes, split one after another.
_GROUPS = {
    2: (("disc", "box", "triangle", "star", "ring"),),
    3: (("disc", "ring"), ("box", "triangle", "star")),
    4: (("disc", "ring"), ("box",), ("triangle", "star")),
    5: (("disc",), ("ring",), ("box",), ("triangle", "star")),
    6: tuple((name,) for name in CLASSES[1:]),
}
_TEXTURES = ("spots", "checks", "stripes", "plain", "marble")
# Each class has one texture that it shows in this share of cases; else another at random.
_USUAL_TEXTURE = dict(zip(CLASSES[1:], _TEXTURES, strict=True))
_USUAL_SHARE = 0.7
_GROUNDS = ("paper", "wood", "weave", "sand", "marble", "tiles", "blotches", "fibres")


def load(
    *,
    split: str = "train",
    n_images: int | None = None,
    size: tuple[int, int] = (192, 256),
    overlap: float = 0.3,
    blur: float = 0.7,
    noise: float = 6.0,
    illumination: float = 0.6,
    scale: float = 1.0,
    n_classes: int = len(CLASSES),
    label_fraction: float = 1.0,
    seed: int = 0,
) -> Dataset:
    """Render scenes of textured objects: discs, boxes, triangles, stars and rings.

    Parameters
    ----------
    split : {"train", "val", "test"}
        Splits never share a scene.
    n_images : int, optional
        By default 24, 8 or 12. Image i is the same however many are asked for.
    size : (int, int)
        Height and width in pixels, at least 32; objects grow with the smaller one.
    overlap : float, 0 to 1
        How far objects may cover one another: 0 keeps the circles about them apart,
        1 places them anywhere.
    blur : float
        Standard deviation of the defocus, in pixels.
    noise : float
        Standard deviation of the sensor noise, in grey levels of 255.
    illumination : float, 0 to 1
        Unevenness of the light within a picture and its change between pictures.
    scale : float
        Size of the objects; smaller ones come in greater number.
    n_classes : int, 2 to 6
        Classes told apart, the background included: fewer than 6 are groups of shapes, 2 are
        objects and background. The pictures stay the same.
    label_fraction : float, 0 < label_fraction <= 1
        Below 1 the labels of the train split are strokes over about this share of every
        region, -1 elsewhere. Instances and annotations stay complete.
    seed : int
        Another seed gives other scenes.

    Returns
    -------
    Dataset
        With ``labels`` (classes in ``CLASSES``, or groups of them), ``instances`` (visible
        parts) and ``annotations`` (one partition: each object and each of two to four grounds).

    Notes
    -----
    Colours are drawn without regard to the class and the texture agrees with it in 70 %
    of the objects, so colour and texture alone give no more than a part of the classes
    away: the outline decides. A region that is seen on two sides of an object keeps one id.
    """
    setting = Setting.check(
        "shapes",
        split=split,
        n_images=n_images,
        size=size,
        blur=blur,
        noise=noise,
        illumination=illumination,
        label_fraction=label_fraction,
        seed=seed,
    )
    overlap = check_real("shapes", "overlap", overlap, low=0, high=1)
    scale = check_real("shapes", "scale", scale, low=0.1, high=3)
    n_classes = check_int("shapes", "n_classes", n_classes, low=2, high=len(CLASSES))
    groups = _GROUPS[n_classes]
    read = partial(_render, setting, overlap, scale, groups)
    classes = ("background", *map(_group_name, groups))
    return Dataset(read, range(setting.n_images), INFO, split, classes, VIEWS)


def _group_name(group: tuple[str, ...]) -> str:
    if len(group) == len(CLASSES) - 1:
        return "object"
    return " or ".join(filter(None, (", ".join(group[:-1]), group[-1])))


def _render(
    setting: Setting,
    overlap: float,
    scale: float,
    groups: tuple[tuple[str, ...], ...],
    index: int,
) -> Sample:
    rng = setting.rng(index)
    canvas = Canvas(setting.size)
    _draw_grounds(canvas, rng)
    sun = rng.uniform(0, 2 * np.pi)  # direction the light comes from
    for row, col, radius in _place(rng, setting.size, overlap, scale):
        _draw_object(canvas, rng, row, col, radius, sun)
    sample = canvas.shoot(rng, setting, index)
    return sample if len(groups) == len(CLASSES) - 1 else _group(sample, groups)


def _group(sample: Sample, groups: tuple[tuple[str, ...], ...]) -> Sample:
    """The sample with the classes of groups in place of those of single shapes."""
    group_of = {name: i for i, group in enumerate(groups, 1) for name in group}
    # The last entry answers for -1.
    table = np.array([0, *(group_of[name] for name in CLASSES[1:]), -1], np.int32)
    objects = sample.instances
    instances = Instances(objects.masks, classes=table[objects.classes])
    return replace(sample, labels=table[sample.labels], instances=instances)


def _place(
    rng: np.random.Generator, size: tuple[int, int], overlap: float, scale: float
) -> list[tuple[float, float, float]]:
    """Row, column and radius of each object, by rejection of those that come too close."""
    height, width = size
    unit = min(size) * scale
    placed: list[tuple[float, float, float]] = []
    for _ in range(round(min(rng.integers(7, 14) / scale, 60))):
        radius = unit * rng.uniform(0.085, 0.205)
        for _ in range(25):
            row, col = rng.uniform(0.02, 0.98) * height, rng.uniform(0.02, 0.98) * width
            if all(
                np.hypot(row - r, col - c) >= (1 - overlap) * (radius + other)
                for r, c, other in placed
            ):
                placed.append((row, col, radius))
                break
    return placed


# -------------------------------------------------------------------------------------- ground


def _draw_grounds(canvas: Canvas, rng: np.random.Generator) -> None:
    """Cut the canvas by smooth curves into two to four grounds of different material."""
    height, width = canvas.size
    window = canvas.whole()
    materials = rng.permutation(_GROUNDS)[: rng.integers(2, 5)]
    hue, direction = rng.uniform(0, 2 * np.pi, 2)
    for k, material in enumerate(materials):
        if k == 0:
            inside = np.full(canvas.size, -1, np.float32)
        else:
            # A wavy line, its normal turned by more than a third of a circle each time.
            row, col = rng.uniform(0.25, 0.75) * height, rng.uniform(0.25, 0.75) * width
            normal = direction + k * rng.uniform(2.1, 2.6)
            inside, _ = rotate(window.y - row, window.x - col, normal)
            inside += (
                0.1 * min(height, width) * smooth_noise(rng, canvas.size, min(height, width) / 3)
            )
        lightness = rng.uniform(0.42, 0.86)
        chroma = rng.uniform(0.015, 0.09)
        tint = hue + rng.choice([0.0, 0.5, -0.5, np.pi])
        tone = _ground(rng, str(material), window)
        contrast = rng.uniform(0.10, 0.22)
        dark = oklch(lightness - contrast / 2, chroma, tint)
        light = oklch(min(lightness + contrast / 2, 0.97), chroma * 0.8, tint + rng.normal(0, 0.15))
        canvas.paint(window, inside, mix(dark, light, tone), part=canvas.add_part())


def _ground(rng: np.random.Generator, material: str, window: Window) -> NDArray[np.float32]:
    """Tone (H, W), mostly in 0 to 1, of a ground material."""
    shape = window.shape
    unit = min(shape) / 192  # materials grow with the picture, as objects do
    angle = rng.uniform(0, np.pi)
    y, x = rotate(window.y, window.x, angle)
    grain = rng.standard_normal(shape, dtype=np.float32)
    if material == "paper":
        tone = 0.5 + 0.16 * fractal_noise(rng, shape, 40 * unit)
    elif material == "wood":
        warp = smooth_noise(rng, shape, 60 * unit) + 0.25 * smooth_noise(rng, shape, 14 * unit)
        rings = (y + 9 * unit * warp) / (rng.uniform(9, 15) * unit)
        rings -= np.floor(rings)
        tone = 0.85 - 0.75 * rings**1.5 * soft_edge(rings - 0.93, 0.14) + 0.05 * grain
    elif material == "weave":
        period = rng.uniform(5, 9) * unit
        u, v = np.sin(2 * np.pi / period * y), np.sin(2 * np.pi / period * x)
        tone = 0.5 + 0.22 * (u + v) + 0.25 * u * v + 0.12 * smooth_noise(rng, shape, 30 * unit)
    elif material == "sand":
        tone = 0.5 + 0.22 * grain + 0.18 * fractal_noise(rng, shape, 8 * unit, 2)
    elif material == "marble":
        veins = np.sin(y / (11 * unit) + 2.2 * fractal_noise(rng, shape, 50 * unit, 5))
        tone = 1.0 - 0.9 * (1 - np.abs(veins)) ** 2.5
    elif material == "tiles":
        side = rng.uniform(22, 40) * unit
        v = y + side / 2 * (np.floor(x / side) % 2)
        gap = side / 2 - np.maximum(np.abs(v % side - side / 2), np.abs(x % side - side / 2))
        each = np.sin(12.9898 * np.floor(v / side) + 78.233 * np.floor(x / side)) * 43758.5453
        tone = 0.45 + 0.4 * (each - np.floor(each)) + 0.06 * fractal_noise(rng, shape, 20 * unit)
        tone = tone * (0.35 + 0.65 * soft_edge(1.4 * unit - gap, 1.5))
    elif material == "blotches":
        field = fractal_noise(rng, shape, 24 * unit, 3)
        tone = 0.25 + 0.5 * edge(-8 * field, 2) + 0.06 * grain
    else:  # fibres
        field = smooth_noise(rng, shape, (2.2 * unit, 18 * unit)[:: rng.choice([-1, 1])])
        tone = 0.5 + 0.25 * field + 0.12 * smooth_noise(rng, shape, 40 * unit)
    return tone


# -------------------------------------------------------------------------------------- objects


def _draw_object(
    canvas: Canvas, rng: np.random.Generator, row: float, col: float, radius: float, sun: float
) -> None:
    class_id = int(rng.integers(1, len(CLASSES)))
    outline = _outline(rng, CLASSES[class_id], radius)
    height = rng.uniform(0.06, 0.2) * radius  # how far it stands off the ground
    window = canvas.window(row, col, 1.3 * radius + height)

    light_y, light_x = np.float32(np.sin(sun)), np.float32(np.cos(sun))
    cast = outline(window.y + height * light_y, window.x + height * light_x)
    canvas.darken(window, 0.5 * soft_edge(cast, 1.2 * height + 1))

    distance = outline(window.y, window.x)
    tone = _texture(rng, _texture_of(rng, class_id), window, radius)
    lightness, chroma, hue = rng.uniform(0.35, 0.88), rng.uniform(0.03, 0.15), rng.uniform(0, 6.3)
    step = rng.uniform(0.14, 0.30) * (1 if lightness < 0.6 else -1)
    other = oklch(lightness + step, chroma * rng.uniform(0.4, 1), hue + rng.normal(0, 0.5))
    colour = mix(oklch(lightness, chroma, hue), other, tone)

    # A rounded rim facing the light, and a body slightly domed towards it.
    slope_y, slope_x = np.gradient(distance) if min(window.shape) > 1 else (0, 0)
    rim = np.exp(-(((distance + 0.06 * radius) / (0.09 * radius + 1)) ** 2))
    shade = 1 + 0.38 * rim * (slope_y * light_y + slope_x * light_x)
    shade += 0.16 / radius * (window.y * light_y + window.x * light_x)
    canvas.paint(window, distance, colour * shade[..., None], part=canvas.add_part(class_id))


def _outline(rng: np.random.Generator, kind: str, radius: float):
    """A function (y, x) -> signed distance of a random object that fits a circle."""
    angle = rng.uniform(0, 2 * np.pi)
    if kind == "disc":
        flat = rng.uniform(0.7, 1)
        return lambda y, x: ellipse(*rotate(y, x, angle), radius * flat, radius)
    if kind == "box":
        half = radius * rng.uniform(0.38, 0.64), radius * rng.uniform(0.58, 0.76)
        rounding = radius * rng.uniform(0, 0.12)
        return lambda y, x: box(*rotate(y, x, angle), *half, rounding)
    if kind == "ring":
        hole = rng.uniform(0.38, 0.62)
        middle, half_width = radius * (1 + hole) / 2, radius * (1 - hole) / 2
        return lambda y, x: np.abs(np.hypot(y, x) - middle) - half_width
    if kind == "triangle":
        turns = angle + 2 * np.pi / 3 * (np.arange(3) + rng.uniform(-0.18, 0.18, 3))
        reach = np.full(3, 0.97 * radius)
    else:  # star
        n_points = int(rng.integers(5, 8))
        turns = angle + np.pi / n_points * np.arange(2 * n_points)
        reach = 0.97 * radius * np.tile([1, rng.uniform(0.42, 0.55)], n_points)
    corners = (reach * (np.sin(turns), np.cos(turns))).T.astype(np.float32)
    rounding = 0.03 * radius
    return lambda y, x: polygon(y, x, corners) - rounding


def _texture_of(rng: np.random.Generator, class_id: int) -> str:
    usual = _USUAL_TEXTURE[CLASSES[class_id]]
    if rng.random() < _USUAL_SHARE:
        return usual
    return str(rng.choice([t for t in _TEXTURES if t != usual]))


def _texture(
    rng: np.random.Generator, kind: str, window: Window, radius: float
) -> NDArray[np.float32]:
    """Tone (h, w), mostly in 0 to 1, of an object's surface."""
    y, x = rotate(window.y, window.x, rng.uniform(0, 2 * np.pi))
    period = max(radius * rng.uniform(0.3, 0.55), 4.0)
    wear = 0.05 * fractal_noise(rng, window.shape, max(radius / 2, 3), 2)
    if kind == "stripes":
        return edge(_bands(y + 8 * wear, period)) + wear
    if kind == "checks":
        first, second = edge(_bands(y, 1.2 * period)), edge(_bands(x, 1.2 * period))
        return first + second - 2 * first * second + wear
    if kind == "spots":
        line = np.floor(y / period)
        dy = y - (line + 0.5) * period
        dx = (x + period / 2 * (line % 2)) % period - period / 2
        return edge(np.hypot(dy, dx) - 0.3 * period) + wear
    if kind == "marble":
        field = fractal_noise(rng, window.shape, max(0.7 * radius, 4), 4)
        return 0.5 + 0.5 * np.sin(2 * np.pi / (1.6 * period) * y + 2.0 * field)
    return 0.3 + 2 * wear  # plain


def _bands(position: NDArray[np.float32], period: float) -> NDArray[np.float32]:
    """Distance to bands half a period wide, negative inside them."""
    return np.abs(position % period - period / 2) - period / 4
