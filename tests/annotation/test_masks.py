"""Masks changed within windows, against masks drawn whole."""

from itertools import pairwise

import numpy as np
import pytest

from segalgos import rle
from segalgos.annotation import masks
from segalgos.annotation.masks import (
    outline_of,
    runs_of_window,
    stroke_box,
    stroke_mask,
    subtract,
    union,
    window_of,
)
from segalgos.polygons import fill


def counts_of(mask):
    return rle.encode(mask[None]).counts


def drawn(counts, size):
    return rle.decode(rle.Runs.join(size, [counts]))[0]


@pytest.mark.parametrize("seed", range(30))
def test_windows_hold_what_the_image_holds(seed):
    rng = np.random.default_rng(seed)
    size = tuple(rng.integers(1, 12, 2).tolist())
    whole = rng.random(size) < rng.random()
    row0, col0 = (int(rng.integers(0, n)) for n in size)
    row1, col1 = int(rng.integers(row0 + 1, size[0] + 1)), int(rng.integers(col0 + 1, size[1] + 1))
    box = (row0, col0, row1, col1)
    part = window_of(counts_of(whole), size, box)
    np.testing.assert_array_equal(part, whole[row0:row1, col0:col1])
    alone = np.zeros(size, bool)
    alone[row0:row1, col0:col1] = part
    counts = runs_of_window(part, size, box)
    np.testing.assert_array_equal(drawn(counts, size), alone)
    assert counts.sum() == whole.size


@pytest.mark.parametrize("seed", range(20))
def test_union_and_subtract_equal_those_of_masks(seed):
    rng = np.random.default_rng(seed)
    size = (7, 5)
    one, other = rng.random((2, *size)) < rng.choice([0, 0.5, 1], (2, 1, 1))
    a, b = counts_of(one), counts_of(other)
    np.testing.assert_array_equal(drawn(union(a, b, size), size), one | other)
    np.testing.assert_array_equal(drawn(subtract(a, b, size), size), one & ~other)


def test_a_stroke_is_all_pixels_near_the_line():
    points, radius, size = np.array([[3.2, 4.1], [9.0, 15.5], [20.0, 2.0]]), 2.5, (18, 20)
    box = stroke_box(points, radius, size)
    found = np.zeros(size, bool)
    found[box[0] : box[2], box[1] : box[3]] = stroke_mask(points, radius, box)
    parts = np.linspace(0, 1, 2000)[:, None]
    along = np.concatenate([a + parts * (b - a) for a, b in pairwise(points)])
    centres = np.stack(np.mgrid[: size[0], : size[1]], axis=-1) + 0.5
    distance = np.linalg.norm(centres[:, :, None] - along, axis=-1).min(axis=-1)
    sure = np.abs(distance - radius) > 0.01
    np.testing.assert_array_equal(found[sure], (distance <= radius)[sure])


def test_a_stroke_beyond_the_image_has_no_area():
    row0, col0, row1, col1 = stroke_box(np.array([[-30.0, 5.0]]), 3, (10, 10))
    assert (row1 - row0) * (col1 - col0) == 0


def test_outlines_draw_the_mask(monkeypatch):
    rng = np.random.default_rng(0)
    mask = rng.random((30, 40)) < 0.5
    mask[:4] = False
    parts = outline_of(counts_of(mask), mask.shape)
    even_odd = np.zeros(mask.shape, bool)
    for part in parts:
        one = fill([np.reshape(part, (-1, 2))[:, ::-1]], mask.shape)
        even_odd ^= drawn(one.counts, mask.shape)
    np.testing.assert_array_equal(even_odd, mask)
    monkeypatch.setattr(masks, "MAX_VERTICES", 200)
    thinned = outline_of(counts_of(mask), mask.shape)
    assert sum(map(len, thinned)) <= 400
    assert outline_of(counts_of(np.zeros((3, 3), bool)), (3, 3)) == []
