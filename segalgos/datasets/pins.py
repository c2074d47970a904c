"""pins: rendered rows of thin connector pins, up, bent or missing, on a cluttered board."""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from segalgos.checks import check_real
from segalgos.datasets._render import (
    SPLITS,
    Canvas,
    Setting,
    box,
    edge,
    ellipse,
    fractal_noise,
    mix,
    oklch,
    path_distance,
    rotate,
    smooth_noise,
    soft_edge,
    stroke,
)
from segalgos.datasets.base import VIEWS, Dataset, Info, Sample

__all__ = ["CLASSES", "INFO", "load"]

CLASSES = ("background", "up", "bent", "missing")
_UP, _BENT, _MISSING = 1, 2, 3

INFO = Info(
    name="pins",
    task="semantic",
    splits=SPLITS,
    size="24 train, 8 val, 12 test by default, as many as asked for",
    licence="none needed: rendered by segalgos",
    citation="segalgos, rendered data set 'pins'",
    source="built in: rendered on demand, no download",
    summary="Rows of thin connector pins, each up, bent or missing, on a cluttered circuit board.",
    built_in=True,
)


class _Style(NamedTuple):
    """What all connectors of one picture share."""

    unit: float  # pixels per pixel of the default size
    sun: NDArray[np.float32]  # (2,) row, column: towards the light
    lean: float  # direction of an upright pin in the picture, radians from up
    metal: NDArray[np.float32]  # (3,) colour of the pins
    plastic: NDArray[np.float32]  # (3,) colour of the housings
    square: bool  # square pins show two faces, round ones a band of light


def load(
    *,
    split: str = "train",
    n_images: int | None = None,
    size: tuple[int, int] = (240, 320),
    bent: float = 0.22,
    missing: float = 0.15,
    clutter: float = 1.0,
    blur: float = 0.6,
    noise: float = 5.0,
    illumination: float = 0.6,
    scale: float = 1.0,
    label_fraction: float = 1.0,
    seed: int = 0,
) -> Dataset:
    """Render connectors whose pins are up, bent or missing.

    Parameters
    ----------
    split : {"train", "val", "test"}
        Splits never share a scene.
    n_images : int, optional
        By default 24, 8 or 12. Image i is the same however many are asked for.
    size : (int, int)
        Height and width in pixels, at least 32; parts grow with the smaller one.
        Pins are 3 to 7 pixels wide at the default size.
    bent, missing : float, 0 to 1
        Shares of the sockets whose pin is bent or missing; together at most 1.
    clutter : float, 0 to 2
        Amount of traces, components, marks, solder and dust; 0 is a bare board.
    blur : float
        Standard deviation of the defocus, in pixels.
    noise : float
        Standard deviation of the sensor noise, in grey levels of 255.
    illumination : float, 0 to 1
        Unevenness of the light within a picture and its change between pictures.
    scale : float
        Size of the connectors; smaller ones have more pins.
    label_fraction : float, 0 < label_fraction <= 1
        Below 1 the labels of the train split are strokes over about this share of every
        region, -1 elsewhere. Instances and annotations stay complete.
    seed : int
        Another seed gives other scenes.

    Returns
    -------
    Dataset
        With ``labels`` (classes in ``CLASSES``), ``instances`` (every visible pin and empty
        hole) and ``annotations`` (one partition: zones of the board, components, housings,
        pins, empty holes).

    Notes
    -----
    A missing pin is the visible part of its empty hole. The rim of a hole that a pin stands
    in belongs to the housing. Printed ticks and the leads of chips look like pins and are
    background.
    """
    setting = Setting.check(
        "pins",
        split=split,
        n_images=n_images,
        size=size,
        blur=blur,
        noise=noise,
        illumination=illumination,
        label_fraction=label_fraction,
        seed=seed,
    )
    bent = check_real("pins", "bent", bent, low=0, high=1)
    missing = check_real("pins", "missing", missing, low=0, high=1)
    if bent + missing > 1:
        raise ValueError(
            f"pins: bent={bent} and missing={missing} add up to more than 1: lower one of them."
        )
    clutter = check_real("pins", "clutter", clutter, low=0, high=2)
    scale = check_real("pins", "scale", scale, low=0.4, high=3)
    read = partial(_render, setting, (1 - bent - missing, bent, missing), clutter, scale)
    return Dataset(read, range(setting.n_images), INFO, split, CLASSES, VIEWS)


def _render(
    setting: Setting,
    states: tuple[float, float, float],
    clutter: float,
    scale: float,
    index: int,
) -> Sample:
    rng = setting.rng(index)
    canvas = Canvas(setting.size)
    style = _draw_style(rng, setting.size)
    connectors = _place_connectors(rng, setting.size, scale)
    _draw_board(canvas, rng, style, clutter)
    _draw_components(canvas, rng, style, clutter, connectors)
    for connector in connectors:
        _draw_connector(canvas, rng, style, connector, states)
    _draw_dust(canvas, rng, style, clutter)
    return canvas.shoot(rng, setting, index)


def _draw_style(rng: np.random.Generator, size: tuple[int, int]) -> _Style:
    sun = rng.uniform(0, 2 * np.pi)
    metals = ((0.86, 0.095, 1.45), (0.87, 0.008, 4.5), (0.80, 0.05, 1.2), (0.90, 0.02, 1.7))
    plastics = (
        (0.27, 0.01, 4.7), (0.30, 0.02, 1.0), (0.88, 0.02, 1.6), (0.80, 0.05, 1.5),
        (0.48, 0.12, 4.5), (0.55, 0.12, 2.6), (0.52, 0.16, 0.5), (0.80, 0.14, 1.7),
        (0.62, 0.01, 4.0), (0.66, 0.14, 0.9),
    )  # fmt: skip
    return _Style(
        unit=min(size) / 240,
        sun=np.array([np.sin(sun), np.cos(sun)], np.float32),
        lean=rng.uniform(-0.35, 0.35),
        metal=oklch(*metals[rng.integers(len(metals))]),
        plastic=oklch(*plastics[rng.integers(len(plastics))]),
        square=bool(rng.random() < 0.5),
    )


# --------------------------------------------------------------------------------------- board


def _draw_board(canvas: Canvas, rng: np.random.Generator, style: _Style, clutter: float) -> None:
    """Solder mask with a copper zone, traces, vias and printed marks."""
    masks = (
        (0.42, 0.10, 2.6), (0.47, 0.09, 2.75), (0.36, 0.08, 2.5), (0.38, 0.10, 4.5),
        (0.30, 0.03, 4.6), (0.42, 0.13, 0.45), (0.38, 0.11, 5.3), (0.80, 0.02, 1.8),
    )  # fmt: skip
    lightness, chroma, hue = masks[rng.integers(len(masks))]
    base = oklch(lightness, chroma, hue)
    zone = oklch(lightness + 0.07, chroma, hue - 0.1)
    lines = oklch(lightness + 0.12, chroma * 1.05, hue - 0.15)
    unit, whole = style.unit, canvas.whole()
    height, width = canvas.size

    weave = np.sin(whole.y * (1.9 / unit)) * np.sin(whole.x * (1.9 / unit))
    tone = 1 + 0.05 * fractal_noise(rng, canvas.size, 60 * unit, 5) + 0.02 * weave
    solder_mask = base * tone[..., None]
    canvas.image[:] = solder_mask
    canvas.parts[:] = canvas.add_part()
    # A copper area, cut along one to two of the eight directions that boards use.
    row, col = rng.uniform(0.3, 0.7) * height, rng.uniform(0.3, 0.7) * width
    turn = np.pi / 4 * rng.integers(8)
    y, x = rotate(whole.y - row, whole.x - col, turn)
    area = np.maximum(y, x) if rng.random() < 0.5 else y + 0 * x
    canvas.paint(whole, area, zone * tone[..., None], part=canvas.add_part())

    for _ in range(round(clutter * rng.integers(2, 5))):
        _draw_traces(canvas, rng, unit, lines * tone[..., None])
    for _ in range(round(clutter * rng.integers(10, 26))):
        _draw_via(canvas, rng, unit, style.metal)
    ink = oklch(0.93, 0.01, 1.8) if lightness < 0.7 else oklch(0.25, 0.01, 4.5)
    for _ in range(round(clutter * rng.integers(3, 7))):
        _draw_print(canvas, rng, unit, ink)


def _draw_traces(
    canvas: Canvas, rng: np.random.Generator, unit: float, colour: NDArray[np.float32]
) -> None:
    """A bundle of parallel traces: bands of the distance to one bent line."""
    height, width = canvas.size
    path = [rng.uniform(0, 1, 2) * (height, width)]
    turn = int(rng.integers(8))
    for _ in range(3):
        angle = np.pi / 4 * turn
        step = rng.uniform(0.2, 0.5) * width
        path.append(path[-1] + step * np.array([np.sin(angle), np.cos(angle)]))
        turn += int(rng.choice([-1, 1]))
    path = np.array(path, np.float32)
    pitch = rng.uniform(5, 10) * unit
    half = pitch * rng.uniform(0.16, 0.28)
    outermost = int(rng.integers(1, 4)) * pitch + half
    window = canvas.around(path, outermost)
    distance = path_distance(window.y, window.x, path)
    bands = np.abs((distance + pitch / 2) % pitch - pitch / 2) - half
    traces = np.maximum(bands, distance - outermost)
    canvas.paint(window, traces, colour[window.area], opacity=0.85)


def _draw_via(
    canvas: Canvas, rng: np.random.Generator, unit: float, metal: NDArray[np.float32]
) -> None:
    row, col = rng.uniform(0, 1, 2) * canvas.size
    radius = rng.uniform(2.2, 4.5) * unit
    window = canvas.window(row, col, radius + 1)
    distance = np.hypot(window.y, window.x)
    canvas.paint(window, distance - radius, metal * rng.uniform(0.75, 0.95))
    canvas.paint(window, distance - 0.45 * radius, metal * 0.12)


def _draw_print(
    canvas: Canvas, rng: np.random.Generator, unit: float, ink: NDArray[np.float32]
) -> None:
    """Silk screen: an outline, a word, or a row of ticks much like pins."""
    row, col = rng.uniform(0.03, 0.97, 2) * canvas.size
    kind = rng.choice(["outline", "word", "ticks", "ticks"])
    reach = rng.uniform(14, 30) * unit
    window = canvas.window(row, col, 1.2 * reach)
    y, x = rotate(window.y, window.x, np.pi / 2 * rng.integers(4) + rng.normal(0, 0.02))
    if kind == "outline":
        corner = rng.uniform(0.4, 1) * reach
        mark = np.abs(box(y, x, corner, reach, 3 * unit)) - 0.8 * unit
    elif kind == "word":
        mark = _word(rng, y, x, rng.uniform(7, 11) * unit, reach)
    else:
        pitch = rng.uniform(8, 15) * unit
        count = max(int(1.6 * reach / pitch), 3)
        nearest = np.clip(np.rint(x / pitch), -(count // 2), count // 2) * pitch
        long = rng.uniform(0.5, 1.0) * pitch
        mark = box(y, x - nearest, long, rng.uniform(0.09, 0.16) * pitch, 0.8 * unit)
    worn = 0.88 - 0.1 * np.maximum(smooth_noise(rng, window.shape, 9 * unit), 0)
    under = canvas.image[window.area]
    under += (ink - under) * (edge(mark) * worn)[..., None]


def _word(
    rng: np.random.Generator,
    y: NDArray[np.float32],
    x: NDArray[np.float32],
    height: float,
    reach: float,
) -> NDArray[np.float32]:
    """Distance to a row of letter-like signs, three to five strokes each on a 3 x 2 grid."""
    mark = np.full(np.broadcast(y, x).shape, np.inf, np.float32)
    for left in np.arange(-reach, reach, 0.85 * height):
        node = int(rng.integers(6))
        for other in rng.permutation(6)[: rng.integers(3, 6)]:
            ends = [(height * (k % 3 - 1) / 2, left + height * (k // 3) / 2) for k in (node, other)]
            if node != other:
                mark = np.minimum(mark, path_distance(y, x, np.array(ends)))
            node = int(other)
    return mark - 0.09 * height


# ---------------------------------------------------------------------------------- components


def _draw_components(
    canvas: Canvas,
    rng: np.random.Generator,
    style: _Style,
    clutter: float,
    connectors: list[_Connector],
) -> None:
    """Chips, resistors, capacitors and solder where no connector stands."""
    wanted = (
        [_draw_chip] * round(clutter * rng.integers(1, 4))
        + [_draw_can] * round(clutter * rng.integers(0, 3))
        + [_draw_resistor] * round(clutter * rng.integers(4, 11))
        + [_draw_blob] * round(clutter * rng.integers(3, 9))
    )
    reaches = {
        _draw_chip: (18, 34),
        _draw_can: (11, 19),
        _draw_resistor: (6, 11),
        _draw_blob: (3, 6),
    }
    placed: list[tuple[float, float, float]] = []
    for draw in wanted:
        reach = rng.uniform(*reaches[draw]) * style.unit
        for _ in range(12):
            row, col = rng.uniform(0, 1, 2) * canvas.size
            apart = all(np.hypot(row - r, col - c) > reach + other for r, c, other in placed)
            if apart and all(connector.distance(row, col) > reach for connector in connectors):
                placed.append((row, col, reach))
                draw(canvas, rng, style, row, col, reach)
                break


def _solid(
    canvas: Canvas,
    style: _Style,
    row: float,
    col: float,
    reach: float,
    outline,
    colour: NDArray[np.float32],
    height: float,
    part: int,
) -> None:
    """Something that stands off the board: its shadow, its face and a lit rim."""
    window = canvas.window(row, col, reach + 2 * height)
    sun_y, sun_x = style.sun
    cast = outline(window.y + height * sun_y, window.x + height * sun_x)
    canvas.darken(window, 0.55 * soft_edge(cast, height + 1))
    distance = outline(window.y, window.x)
    if min(distance.shape) < 2:
        return
    slope_y, slope_x = np.gradient(distance)
    rim = np.exp(-(((distance + 1.2 * style.unit) / (1.6 * style.unit)) ** 2))
    shade = 1 + 0.45 * rim * (slope_y * sun_y + slope_x * sun_x)
    shade += 0.10 / reach * (window.y * sun_y + window.x * sun_x)
    canvas.paint(window, distance, colour * shade[..., None], part=part)


def _draw_chip(
    canvas: Canvas, rng: np.random.Generator, style: _Style, row: float, col: float, reach: float
) -> None:
    """A dark body with rows of leads on two or four sides, which look like pins."""
    angle = np.pi / 2 * rng.integers(4) + rng.normal(0, 0.03)
    tall, wide = reach * rng.uniform(0.36, 0.62), reach * rng.uniform(0.6, 0.72)
    pitch = rng.uniform(5, 8.5) * style.unit
    part = canvas.add_part()
    lead = 0.24 * reach
    window = canvas.window(row, col, 1.1 * reach + lead)
    y, x = rotate(window.y, window.x, angle)
    last = int((wide - 0.4 * pitch) / pitch)
    nearest = np.clip(np.rint(x / pitch), -last, last) * pitch
    leads = box(y, x - nearest, tall + lead, 0.24 * pitch, 0.5 * style.unit)
    if rng.random() < 0.4:
        last = int((tall - 0.4 * pitch) / pitch)
        nearest = np.clip(np.rint(y / pitch), -last, last) * pitch
        leads = np.minimum(leads, box(y - nearest, x, 0.24 * pitch, wide + lead, 0.5 * style.unit))
    canvas.darken(window, 0.35 * soft_edge(leads - style.unit, 3 * style.unit))
    out = np.maximum(np.abs(y) - tall, np.abs(x) - wide) / lead
    tin = (
        oklch(0.86, 0.01, 4.4)
        * (1.05 - 0.5 * np.clip(out, 0, 1) + 0.1 * np.float32(out > 0.5))[..., None]
    )
    canvas.paint(window, leads, tin, part=part)

    def body(y, x):
        return box(*rotate(y, x, angle), tall, wide, 1.5 * style.unit)

    _solid(canvas, style, row, col, 1.3 * reach, body, oklch(rng.uniform(0.22, 0.32), 0.01, 4.5),
           4 * style.unit, part)  # fmt: skip
    notch = np.hypot(y + 0.6 * tall, x + 0.78 * wide) - 0.13 * tall
    canvas.paint(window, notch, oklch(0.16, 0.01, 4.5))
    word = _word(rng, y - 0.1 * tall, x, 0.42 * tall, 0.55 * wide)
    canvas.paint(window, word, oklch(0.75, 0.01, 1.6), opacity=0.6)


def _draw_resistor(
    canvas: Canvas, rng: np.random.Generator, style: _Style, row: float, col: float, reach: float
) -> None:
    """A small block with metal ends; dark ones are resistors, tan ones capacitors."""
    angle = np.pi / 2 * rng.integers(2) + rng.normal(0, 0.05)
    tall, wide = 0.5 * reach, 0.95 * reach
    part = canvas.add_part()

    def pads(y, x):
        return box(*rotate(y, x, angle), 1.15 * tall, 1.15 * wide, style.unit)

    def body(y, x):
        return box(*rotate(y, x, angle), tall, wide, style.unit)

    def middle(y, x):
        return box(*rotate(y, x, angle), tall, 0.58 * wide)

    tin = oklch(0.83, 0.012, 4.0)
    colour = oklch(0.27, 0.01, 4.5) if rng.random() < 0.55 else oklch(0.66, 0.06, 1.2)
    window = canvas.window(row, col, 1.5 * reach)
    canvas.paint(window, pads(window.y, window.x), 0.8 * tin, part=part)
    _solid(canvas, style, row, col, 1.3 * reach, body, tin, 2 * style.unit, part)
    canvas.paint(window, middle(window.y, window.x), colour)


def _draw_can(
    canvas: Canvas, rng: np.random.Generator, style: _Style, row: float, col: float, reach: float
) -> None:
    """An electrolytic capacitor from above: an aluminium disc with a dark mark."""
    part = canvas.add_part()
    radius = 0.9 * reach
    angle = rng.uniform(0, 2 * np.pi)
    _solid(canvas, style, row, col, 1.2 * reach, lambda y, x: np.hypot(y, x) - radius,
           oklch(0.80, 0.008, 4.4), 6 * style.unit, part)  # fmt: skip
    window = canvas.window(row, col, 1.2 * reach)
    y, x = rotate(window.y, window.x, angle)
    distance = np.hypot(y, x)
    brushed = 0.14 * np.cos(2 * np.arctan2(y, x))
    face = oklch(0.86, 0.006, 4.4) * (1 + brushed)[..., None]
    canvas.paint(window, distance - 0.8 * radius, face)
    mark = np.maximum(distance - 0.8 * radius, 0.35 * radius - x)
    canvas.paint(window, mark, oklch(0.3, 0.05, 4.6), opacity=0.9)


def _draw_blob(
    canvas: Canvas, rng: np.random.Generator, style: _Style, row: float, col: float, reach: float
) -> None:
    """A drop of solder with its highlight."""
    flat, angle = rng.uniform(0.65, 1), rng.uniform(0, np.pi)

    def outline(y, x):
        return ellipse(*rotate(y, x, angle), reach * flat * 0.9, reach * 0.9)

    _solid(canvas, style, row, col, 1.3 * reach, outline, oklch(0.72, 0.01, 4.4), 2 * style.unit,
           canvas.add_part())  # fmt: skip
    window = canvas.window(row, col, reach)
    y, x = window.y - 0.3 * reach * style.sun[0], window.x - 0.3 * reach * style.sun[1]
    shine = np.exp(-(y * y + x * x) / (0.3 * reach) ** 2)
    canvas.image[window.area] += 0.35 * shine[..., None]


def _draw_dust(canvas: Canvas, rng: np.random.Generator, style: _Style, clutter: float) -> None:
    """Specks and fibres on top of everything; the truth below stays as it is."""
    height, width = canvas.size
    for _ in range(round(clutter * rng.integers(10, 40))):
        row, col = rng.uniform(0, 1, 2) * (height, width)
        window = canvas.window(row, col, 3 * style.unit)
        speck = np.hypot(window.y, window.x) - rng.uniform(0.3, 1.0) * style.unit
        canvas.paint(window, speck, oklch(rng.uniform(0.6, 0.95), 0.02, 1.5), opacity=0.55)
    for _ in range(round(clutter * rng.integers(0, 3))):
        start = rng.uniform(0, 1, 2) * (height, width)
        bends = np.cumsum(rng.normal(0, 12 * style.unit, (3, 2)), axis=0)
        t = np.linspace(0, 1, 8)[:, None]
        path = 3 * t * (1 - t) ** 2 * bends[0] + 3 * t**2 * (1 - t) * bends[1] + t**3 * bends[2]
        path = (start + path).astype(np.float32)
        window = canvas.around(path, style.unit)
        hair = path_distance(window.y, window.x, path) - 0.45 * style.unit
        canvas.paint(window, hair, oklch(rng.uniform(0.5, 0.9), 0.02, 1.5), opacity=0.6)


# ---------------------------------------------------------------------------------- connectors


class _Connector(NamedTuple):
    """A housing with a grid of sockets; lengths in pixels."""

    row: float
    col: float
    angle: float
    n_rows: int
    n_cols: int
    pitch: float  # between sockets of a row
    row_pitch: float
    pin_length: float
    pin_width: float

    @property
    def half_size(self) -> tuple[float, float]:
        """Half height and half width of the housing."""
        margin = 0.42 * self.pitch
        return (
            (self.n_rows - 1) / 2 * self.row_pitch + 0.5 * self.pitch + margin,
            self.n_cols / 2 * self.pitch + margin,
        )

    def distance(self, row: float, col: float) -> float:
        """From a point to the housing, pins of the upper row included."""
        y, x = rotate(row - self.row, col - self.col, -self.angle)
        tall, wide = self.half_size
        return float(box(y + 0.5 * self.pin_length, x, tall + 0.5 * self.pin_length, wide))

    def sockets(self) -> NDArray[np.float32]:
        """Row and column of each socket, (n, 2), from the far row to the near one."""
        i = np.arange(self.n_rows) - (self.n_rows - 1) / 2
        j = np.arange(self.n_cols) - (self.n_cols - 1) / 2
        v, u = (a.ravel() for a in np.meshgrid(i * self.row_pitch, j * self.pitch, indexing="ij"))
        row, col = rotate(v, u, self.angle)
        return np.stack([self.row + row, self.col + col], axis=1).astype(np.float32)


def _place_connectors(
    rng: np.random.Generator, size: tuple[int, int], scale: float
) -> list[_Connector]:
    """One connector of one to three rows, or two of one or two rows, one above the other."""
    height, width = size
    unit = min(size) / 240
    n_connectors = int(rng.integers(1, 3))
    connectors = []
    for k in range(n_connectors):
        pitch = rng.uniform(15, 21) * unit * scale
        length = pitch * rng.uniform(1.1, 1.5)
        row_pitch = max(length * rng.uniform(0.85, 1.1), pitch)
        room = height / n_connectors - length - 1.9 * pitch
        most_rows = 1 + max(int(room / row_pitch), 0)
        n_rows = int(rng.integers(1, min(most_rows, 4 - n_connectors) + 1))
        most_cols = max(int((0.92 * width - pitch) / pitch), 2)
        n_cols = int(rng.integers(min(max(most_cols // 2, 4), most_cols), most_cols + 1))
        slack_x = max(width - (n_cols + 1) * pitch, 0) / 2
        band = height / n_connectors
        slack_y = max(band - (n_rows - 1) * row_pitch - 1.9 * pitch - length, 0) / 2
        connectors.append(
            _Connector(
                row=(k + 0.5) * band + length / 2 + rng.uniform(-0.8, 0.8) * slack_y,
                col=width / 2 + rng.uniform(-0.8, 0.8) * slack_x,
                angle=rng.uniform(-0.16, 0.16) / n_connectors,
                n_rows=n_rows,
                n_cols=n_cols,
                pitch=pitch,
                row_pitch=row_pitch,
                pin_length=length,
                pin_width=pitch * rng.uniform(0.21, 0.33),
            )
        )
    return connectors


def _draw_connector(
    canvas: Canvas,
    rng: np.random.Generator,
    style: _Style,
    connector: _Connector,
    states: tuple[float, float, float],
) -> None:
    part = canvas.add_part()
    _draw_housing(canvas, rng, style, connector, part)
    sockets = connector.sockets()
    drawn = rng.choice([_UP, _BENT, _MISSING], len(sockets), p=states)
    for socket, state in zip(sockets, drawn, strict=True):
        hole = canvas.add_part(_MISSING) if state == _MISSING else part
        _draw_hole(canvas, style, connector, socket, hole)
    pins = [
        (socket, int(state), _pin_path(rng, style, connector, state == _BENT))
        for socket, state in zip(sockets, drawn, strict=True)
        if state != _MISSING
    ]
    for socket, _, path in pins:
        _draw_pin_shadow(canvas, style, connector, socket, path)
    for socket, state, path in pins:
        _draw_pin(canvas, rng, style, connector, socket, path, canvas.add_part(state))


def _draw_housing(
    canvas: Canvas, rng: np.random.Generator, style: _Style, connector: _Connector, part: int
) -> None:
    """The plastic body: near wall, top face with a raised rim, channels along the rows."""
    tall, wide = connector.half_size
    wall = rng.uniform(0.3, 0.55) * connector.pitch  # height of the near side in the picture
    rim = 0.16 * connector.pitch
    rounding = rng.uniform(0.08, 0.22) * connector.pitch
    tilt = abs(np.sin(connector.angle))
    reach = tall + 1.8 * wall + wide * tilt, wide + 1.4 * wall + tall * tilt
    window = canvas.window(connector.row, connector.col, reach)
    y, x = rotate(window.y, window.x, -connector.angle)
    cast = box(
        y - wall / 2 + 0.5 * wall * style.sun[0], x + 0.6 * wall * style.sun[1],
        tall + wall / 2, wide, rounding,
    )  # fmt: skip
    canvas.darken(window, 0.6 * soft_edge(cast - 0.1 * wall, 0.9 * wall))
    moulding = 1 + 0.035 * fractal_noise(rng, window.shape, 10 * style.unit, 3)
    plastic = style.plastic * moulding[..., None]
    canvas.paint(window, box(y - wall / 2, x, tall + wall / 2, wide, rounding), 0.55 * plastic,
                 part=part)  # fmt: skip
    top = box(y, x, tall, wide, rounding)
    floor = box(y, x, tall - rim, wide - rim, 0.6 * rounding)
    lit = style.sun[0] * np.sign(y) + 0.6 * style.sun[1] * np.sign(x)
    canvas.paint(window, top, plastic * (1.12 + 0.06 * lit)[..., None])
    depth = soft_edge(floor + 0.22 * connector.pitch * (1 + lit), 0.4 * connector.pitch)
    canvas.paint(window, floor, plastic * (0.62 + 0.24 * depth)[..., None])
    if rng.random() < 0.6:  # a key in the middle of the near rim
        key = box(y - tall + rim / 2, x, 0.9 * rim, 0.8 * connector.pitch, 1)
        canvas.paint(window, key, 0.8 * plastic)
    # A dot of ink marks the first pin.
    dot = np.hypot(y + tall - 0.6 * rim, x + wide - 0.6 * rim) - 0.45 * rim
    canvas.paint(window, dot, oklch(0.9, 0.02, 1.7) * (1 if style.plastic[0] < 0.6 else 0.3))


def _draw_hole(
    canvas: Canvas,
    style: _Style,
    connector: _Connector,
    socket: NDArray[np.float32],
    part: int,
) -> None:
    """A funnel in the plastic, its far wall in shadow; the dark inside is the hole."""
    half = 0.29 * connector.pitch
    window = canvas.window(*socket, 1.8 * half)
    y, x = rotate(window.y, window.x, -connector.angle)
    funnel = box(y, x, 1.22 * half, 1.22 * half, 0.4 * half)
    facing = (y * style.sun[0] + x * style.sun[1]) / half
    canvas.paint(window, funnel, style.plastic * (0.72 - 0.3 * np.clip(facing, -1, 1))[..., None])
    inside = box(y, x, half, half, 0.3 * half)
    gloom = 0.10 + 0.12 * np.clip(-facing, 0, 1.4)
    canvas.paint(window, inside, (style.plastic + 0.15) * gloom[..., None], part=part)


def _pin_path(
    rng: np.random.Generator, style: _Style, connector: _Connector, bent: bool
) -> NDArray[np.float32]:
    """Centre line (N, 2) of a pin from its socket, as row and column offsets.

    An upright pin follows the direction of its picture within three degrees; a bent one
    leans at least 17 degrees away from it or curves by at least 30.
    """
    length = connector.pin_length
    upright = style.lean + connector.angle
    if not bent:
        turns = np.array([upright + rng.uniform(-0.05, 0.05)])
        length *= rng.uniform(0.95, 1.05)
    elif rng.random() < 0.4:
        turns = np.array([upright + rng.choice([-1, 1]) * rng.uniform(0.30, 0.75)])
        length *= rng.uniform(0.8, 1.0)
    else:
        curve = rng.choice([-1, 1]) * rng.uniform(0.55, 2.0)
        turns = upright + curve * np.array([0, 0.1, 0.35, 0.7, 0.95, 1.0])
        length *= rng.uniform(0.85, 1.1)
    steps = length / len(turns) * np.stack([-np.cos(turns), np.sin(turns)], axis=1)
    return np.concatenate([np.zeros((1, 2)), np.cumsum(steps, axis=0)]).astype(np.float32)


def _draw_pin_shadow(
    canvas: Canvas,
    style: _Style,
    connector: _Connector,
    socket: NDArray[np.float32],
    path: NDArray[np.float32],
) -> None:
    """The pin's shadow on the housing: its height turned away from the light."""
    upright = style.lean + connector.angle
    up = np.array([-np.cos(upright), np.sin(upright)], np.float32)
    height = np.maximum(path @ up, 0)[:, None]
    fallen = path - height * up - 0.75 * height * style.sun
    window = canvas.around(socket + fallen, connector.pin_width)
    near = stroke(window.y, window.x, socket + fallen)
    width = 0.5 * connector.pin_width
    softness = 1.5 + 0.5 * connector.pin_width * near.along
    canvas.darken(window, (0.5 - 0.22 * near.along) * soft_edge(near.distance - width, softness))


def _draw_pin(
    canvas: Canvas,
    rng: np.random.Generator,
    style: _Style,
    connector: _Connector,
    socket: NDArray[np.float32],
    path: NDArray[np.float32],
    part: int,
) -> None:
    """A metal rod with a tapered tip, light on one side and dark on the other."""
    half = connector.pin_width / 2
    window = canvas.around(socket + path, half)
    near = stroke(window.y, window.x, socket + path)
    tip = np.clip((near.along - 0.82) / 0.18, 0, 1)
    radius = half * (1 - 0.5 * tip)
    side = near.across / radius
    # Which of the pin's sides faces the light, from its average direction.
    along = path[-1] / np.hypot(*path[-1])
    facing = along[0] * style.sun[1] - along[1] * style.sun[0]
    if style.square:
        lit, unlit = (1.0, 0.55) if facing > 0 else (0.55, 1.0)
        shine = lit + (unlit - lit) * edge(side + 0.1, 0.4)
        shine += 0.3 * np.exp(-(((side + 0.1) / 0.18) ** 2))
    else:
        shine = 0.42 + 0.5 * np.exp(-(((side - 0.35 * facing) / 0.55) ** 2))
        shine += 0.45 * np.exp(-(((side - 0.35 * facing) / 0.16) ** 2))
    glint = rng.uniform(0.3, 0.9)  # where along the pin the light is mirrored
    shine *= 0.72 + 0.28 * near.along
    shine += 0.35 * np.exp(-(((near.along - glint) / 0.10) ** 2)) * (np.abs(side) < 0.8)
    shine *= rng.uniform(0.88, 1.06) * (0.55 + 0.45 * np.clip(near.along / 0.2, 0, 1))
    white = np.clip(shine - 0.95, 0, 0.5)
    colour = mix(style.metal * shine[..., None], np.ones(3, np.float32), white)
    canvas.paint(window, near.distance - radius, colour, part=part)
