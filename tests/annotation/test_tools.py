"""Clicks, boxes and scribbles: what they find, and what they cost."""

import numpy as np
import pytest

from segalgos.annotation.masks import window_of
from segalgos.annotation.pictures import Picture
from segalgos.annotation.state import Pointing, Stroke
from segalgos.annotation.tools import FINE_PIXELS, Tools, choose_window


def click(row, col, inside=True):
    return Stroke(((float(row), float(col)),), 3.0, inside)


def iou(one, other):
    return (one & other).sum() / (one | other).sum()


def found(picture, pointing, method="graph_cut", **options):
    counts = Tools().find(picture, pointing, method, **options)
    return window_of(counts, picture.size, (0, 0, *picture.size))


@pytest.mark.parametrize("shape", [(120, 160), (600, 801)])
@pytest.mark.parametrize("method", ["graph_cut", "random_walker"])
@pytest.mark.parametrize("how", ["click", "box", "scribble"])
def test_a_disc_is_found(scene, shape, method, how):
    pixels, disc = scene(shape)
    height, width = shape
    pointing = {
        "click": Pointing((click(0.5 * height, 0.5 * width),)),
        "box": Pointing((), (0.2 * height, 0.2 * width, 0.8 * height, 0.8 * width)),
        "scribble": Pointing(
            (Stroke(((0.45 * height, 0.45 * width), (0.55 * height, 0.55 * width)), 4.0),)
        ),
    }[how]
    assert iou(found(Picture(pixels), pointing, method), disc) > 0.97


def test_clicks_are_obeyed_to_the_pixel(scene):
    pixels, _ = scene((300, 400))
    pointing = Pointing((click(150, 200), click(150, 230, False), click(20, 20)))
    mask = found(Picture(pixels), pointing)
    assert mask[149:152, 199:202].all()
    assert not mask[148:152, 228:232].any()
    assert mask[20, 20]


def test_zoomed_in_a_click_is_as_fine_as_what_is_seen(scene):
    pixels, disc = scene((1500, 1600))
    pixels[748:753, 1500:1505] = 255
    picture = Picture(pixels)
    pointing = Pointing((click(750.5, 1502.5)._replace(radius=0.5),))
    assert choose_window(picture, pointing, (0, 0, 1500, 1600)).level == 1
    view = choose_window(picture, pointing, (740, 1490, 760, 1520))
    assert view.level == 0
    mask = found(picture, pointing, seen=(740, 1490, 760, 1520))
    assert mask.sum() == 25
    assert not (mask & disc).any()
    assert choose_window(picture, pointing, (740, 1490, 760, 1520), (0, 0, 1500, 1)).level == 1


@pytest.mark.parametrize("seed", range(20))
def test_windows_are_bounded_and_hold_all_marks(seed):
    rng = np.random.default_rng(seed)
    shape = tuple(rng.integers(1, 3000, 2).tolist())
    picture = Picture(np.zeros((*shape, 3), np.uint8))
    place = rng.random(2) * shape
    view = choose_window(picture, Pointing((click(*place),)), (0, 0, *shape))
    row0, col0, row1, col1 = view.box
    assert 0 <= row0 <= place[0] < row1 <= shape[0]
    assert 0 <= col0 <= place[1] < col1 <= shape[1]
    pixels = view.pixels(picture)
    assert 0 < pixels.shape[0] * pixels.shape[1] <= 1.1 * FINE_PIXELS
    mask = np.ones(pixels.shape[:2], bool)
    assert view.runs(mask, shape)[1::2].sum() == (row1 - row0) * (col1 - col0)


def test_only_clicks_beside_are_refused(scene):
    pixels, _ = scene()
    with pytest.raises(ValueError, match="Click on the object first"):
        found(Picture(pixels), Pointing((click(5, 5, False),)))
    with pytest.raises(ValueError, match="method is 'sam'"):
        found(Picture(pixels), Pointing((click(5, 5),)), "sam")


def test_sam_gets_points_and_boxes_in_its_own_frame(scene, tmp_path):
    pixels, disc = scene((700, 900))
    asked = []

    class Embedded:
        def __init__(self, image):
            self.image = image

        def predict(self, prompts):
            asked.append(prompts)
            return (self.image[..., 0] > 120).astype(np.int32)

    class Sam:
        def embed(self, image):
            return Embedded(image)

    tools = Tools(tmp_path, lambda path: Sam())
    picture = Picture(np.repeat(np.repeat(pixels, 4, 0), 4, 1))
    pointing = Pointing((click(1400, 1800), click(10, 20, False)), (40.0, 60.0, 2000.0, 3000.0))
    counts = tools.find(picture, pointing, "sam")
    level = np.log2(picture.size[0] / 700) - 1  # the smallest whose longer side has 1024 pixels
    scale = 2 ** int(level)
    np.testing.assert_allclose(
        asked[0].points, [[1400 / scale, 1800 / scale], [10 / scale, 20 / scale]]
    )
    np.testing.assert_array_equal(asked[0].point_labels, [1, 0])
    np.testing.assert_allclose(asked[0].boxes[0], np.array([40, 60, 2000, 3000]) / scale)
    mask = window_of(counts, picture.size, (0, 0, *picture.size))
    assert iou(mask[::4, ::4], disc) > 0.97
