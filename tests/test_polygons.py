"""Outlines of masks against masks: every pixel comes back."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import ndimage

from segalgos import Instances, polygons, rle

MASKS = st.tuples(st.integers(1, 4), st.integers(1, 12), st.integers(1, 12)).flatmap(
    lambda shape: arrays(bool, shape)
)


def check_outlines(masks):
    """Trace masks, count their parts and holes otherwise, and draw them again."""
    runs, size = rle.encode(masks), masks.shape[1:]
    for join in (False, True):
        for mask, outline in zip(masks, polygons.trace(runs, join=join), strict=True):
            assert np.array_equal(rle.decode(polygons.fill(outline.polygons, size))[0], mask)
            assert outline.n_parts == ndimage.label(mask)[1]
            ground = np.pad(~mask, 1, constant_values=True)
            assert outline.n_holes == ndimage.label(ground, np.ones((3, 3)))[1] - 1
            assert len(outline.polygons) == (min(1, outline.n_parts) if join else outline.n_parts)
            for polygon in outline.polygons:
                assert polygon.dtype == np.int64
                steps = np.roll(polygon, -1, axis=0) - polygon
                assert steps.any(axis=1).all()  # no corner twice
                if not join:  # along rows and columns only
                    assert (steps == 0).any(axis=1).all()


@settings(max_examples=150, deadline=None)
@given(MASKS)
def test_masks_come_back(masks):
    check_outlines(masks)


@pytest.mark.slow
@settings(max_examples=5000, deadline=None)
@given(MASKS)
def test_many_masks_come_back(masks):
    check_outlines(masks)


def test_noise_and_nested_holes():
    rng = np.random.default_rng(0)
    noise = rng.random((3, 60, 70)) < np.array([0.3, 0.6, 0.9])[:, None, None]
    smooth = ndimage.uniform_filter(rng.random((3, 60, 70)), (0, 5, 5)) > 0.5
    rings = np.indices((61, 61)) - 30
    rings = (np.hypot(*rings) // 3 % 2 == 0)[None]
    for masks in (noise, smooth, rings):
        check_outlines(masks)


# Of pycocotools, with numpy 2.
@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
def test_pycocotools_draws_the_same():
    codec = pytest.importorskip("pycocotools.mask", reason="compares with pycocotools")
    rng = np.random.default_rng(1)
    for _ in range(50):
        height, width = (int(n) for n in rng.integers(1, 30, 2))
        mask = rng.random((height, width)) < rng.random()
        (outline,) = polygons.trace(rle.encode(mask[None]), join=True)
        if outline.polygons:
            flat = [p[:, ::-1].ravel().astype(float).tolist() for p in outline.polygons]
            drawn = codec.decode(codec.merge(codec.frPyObjects(flat, height, width)))
            assert np.array_equal(drawn.astype(bool), mask)


def test_a_pixel_a_corner_and_nothing():
    masks = np.zeros((3, 4, 5), bool)
    masks[0, 3, 4] = True
    masks[1, 0, 0] = masks[1, 1, 1] = True  # they touch at a corner
    one, two, none = polygons.trace(rle.encode(masks))
    assert one.polygons[0].tolist() == [[3, 4], [3, 5], [4, 5], [4, 4]]
    assert (two.n_parts, len(two.polygons)) == (2, 2)
    assert none == ((), 0, 0)
    (joined,) = polygons.trace(rle.encode(masks[1:2]), join=True)[0].polygons
    assert len(joined) == 8  # the way from one to the other has no length


def test_a_hole_is_reached_by_a_cut():
    mask = np.ones((3, 3), bool)
    mask[1, 1] = False
    (outline,) = polygons.trace(rle.encode(mask[None]))
    assert (outline.n_parts, outline.n_holes) == (1, 1)
    corners = [tuple(corner) for corner in outline.polygons[0].tolist()]
    assert corners.count((0, 1)) == 2  # there and back


def test_chain():
    rng = np.random.default_rng(2)
    squares = [np.array([[0, 0], [0, 2], [2, 2], [2, 0]]) + 3 * np.array([i, j]) + rng.random(2)
               for i, j in ((0, 0), (3, 1), (1, 4), (0, 2))]  # fmt: skip
    size = (14, 16)
    apart, together = polygons.fill(squares, size), polygons.fill([polygons.chain(squares)], size)
    assert np.array_equal(apart.counts, together.counts)
    assert polygons.chain(squares[:1]) is squares[0]
    with pytest.raises(ValueError, match="got no polygon"):
        polygons.chain([])


def test_bad_polygons():
    with pytest.raises(ValueError, match=r"polygons\[1\] has shape \(3,\), expected rows"):
        polygons.fill([[[0, 0], [0, 1], [1, 1]], [1, 2, 3]], (4, 4))
    with pytest.raises(ValueError, match=r"polygons\[0\] cannot be read"):
        polygons.fill([[[0, 0], [1]]], (4, 4))
    with pytest.raises(ValueError, match="expected x0, y0"):
        polygons.fill([[[0, 0], [0, 1]]], (4, 4))


# --- instances -------------------------------------------------------------------------------


def test_instances_to_polygons_and_back():
    masks = np.random.default_rng(3).random((6, 9, 11)) < 0.6
    masks[2] = False
    masks[3, :, 5:], masks[3, :, :5] = True, False
    for join in (False, True):
        outlines = Instances(masks).to_polygons(join=join)
        assert outlines[2] == ()
        back = Instances.from_polygons(outlines, (9, 11), classes=range(6), crowd=[0, 1] * 3)
        assert np.array_equal(back.masks, masks)
        assert back.classes.tolist() == list(range(6))
        assert back.crowd.tolist() == [False, True] * 3
    none = Instances(masks[:0])
    assert none.to_polygons() == []
    assert Instances.from_polygons([], (9, 11)).masks.shape == (0, 9, 11)
    with pytest.raises(ValueError, match="from_polygons: object 1: fill"):
        Instances.from_polygons([[], [[0, 1, 2]]], (4, 5))
