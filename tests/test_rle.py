"""Run lengths against masks drawn out, and against COCO's own codec."""

import random
import re

import numpy as np
import pytest
from scipy import ndimage

from segalgos import rle

SHAPES = [(1, 1), (1, 7), (6, 1), (5, 9), (40, 31)]


def random_masks(rng, n, shape):
    masks = rng.random((n, *shape)) < rng.random((n, 1, 1))
    smooth = ndimage.uniform_filter(masks.astype(float), (0, 3, 3)) > 0.5
    return np.concatenate([masks, smooth, np.zeros((1, *shape), bool), np.ones((1, *shape), bool)])


@pytest.fixture(params=["pycocotools.mask", "faster_coco_eval.core.mask"])
def codec(request):
    return pytest.importorskip(request.param, reason=f"compares with {request.param}")


@pytest.mark.parametrize("shape", SHAPES)
def test_equals_what_masks_give(shape):
    rng = np.random.default_rng(0)
    masks, others = random_masks(rng, 4, shape), random_masks(rng, 2, shape)
    runs, other_runs = rle.encode(masks), rle.encode(others)
    for compressed in (True, False):
        assert np.array_equal(rle.decode(rle.read(rle.write(runs, compressed=compressed))), masks)
    assert np.array_equal(rle.areas(runs), masks.sum(axis=(1, 2)))
    for mask, box in zip(masks, rle.bounding_boxes(runs), strict=True):
        rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
        expected = (rows[0], columns[0], rows[-1] + 1, columns[-1] + 1) if len(rows) else (0,) * 4
        assert tuple(box) == expected
    crowd = rng.random(len(others)) < 0.5
    both = (masks[:, None] & others).sum(axis=(2, 3))
    union = np.where(crowd, masks.sum(axis=(1, 2))[:, None], (masks[:, None] | others).sum((2, 3)))
    expected = np.divide(both, union, out=np.zeros(both.shape), where=both > 0)
    assert np.array_equal(rle.iou(runs, other_runs, crowd), expected)
    assert np.array_equal(rle.decode(rle.merge(runs))[0], masks.any(0))
    assert np.array_equal(rle.decode(rle.merge(runs, intersect=True))[0], masks.all(0))


def test_no_masks():
    runs = rle.encode(np.zeros((0, 4, 5), bool))
    assert len(runs) == 0
    assert rle.decode(runs).shape == (0, 4, 5)
    assert rle.write(runs) == []
    assert len(rle.read([], (4, 5))) == 0
    assert rle.iou(runs, runs).shape == (0, 0)
    assert rle.areas(rle.merge(runs)).tolist() == [0]
    with pytest.raises(ValueError, match="pass size="):
        rle.read([])


@pytest.mark.parametrize("shape", SHAPES)
def test_codes_equal_coco(codec, shape):
    masks = random_masks(np.random.default_rng(1), 6, shape)
    for mask, code in zip(masks, rle.write(rle.encode(masks)), strict=True):
        theirs = codec.encode(np.asfortranarray(mask.astype(np.uint8)))["counts"]
        assert code["counts"] == (theirs.decode() if isinstance(theirs, bytes) else theirs)


# Of pycocotools, with numpy 2.
@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
def test_polygons_equal_coco(codec):
    rng = np.random.default_rng(2)
    for _ in range(300):
        height, width = (int(n) for n in rng.integers(1, 60, 2))
        n = rng.integers(3, 9)
        vertices = rng.uniform(-0.3, 1.3, (n, 2)) * (width, height)
        polygon = vertices.round(rng.integers(0, 4)).ravel().tolist()
        (theirs,) = codec.frPyObjects([polygon], height, width)
        found = rle.from_polygons([polygon], (height, width))
        assert np.array_equal(rle.decode(found)[0], codec.decode(theirs).astype(bool)), polygon


def test_a_square_and_its_hole():
    outer = rle.from_polygons([[1, 1, 7, 1, 7, 6, 1, 6]], (8, 9))
    expected = np.zeros((8, 9), bool)
    expected[1:6, 1:7] = True
    assert np.array_equal(rle.decode(outer)[0], expected)
    there_and_back = rle.from_polygons([[0, 0, 5, 0, 0, 0]], (8, 9))  # no area
    assert rle.areas(there_and_back).tolist() == [0]


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (None, "is no code"),
        ({"size": [2, 2]}, "is no code"),
        ({"size": [2, 2, 2], "counts": [8]}, "expected height and width"),
        ({"size": [10**6, 10**6], "counts": [10**12]}, "expected height and width"),
        ({"size": [2.5, 2], "counts": [5]}, "fractions"),
        ({"size": "ab", "counts": [4]}, "expected a list of integers"),
        ({"size": [2, 2], "counts": [3]}, "do not add up"),
        ({"size": [2, 2], "counts": [2, -1, 3]}, "negative run"),
        ({"size": [2, 2], "counts": [float("nan"), 4]}, "no sizes of runs"),
        ({"size": [2, 2], "counts": [2**62, 2**62, 4]}, "no sizes of runs"),
        ({"size": [2, 2], "counts": ["a"]}, "expected a list of integers"),
        ({"size": [2, 2], "counts": [[4]]}, "expected a list of integers"),
        ({"size": [2, 2], "counts": "~"}, "no code has"),
        ({"size": [2, 2], "counts": "\u20ac"}, "no code has"),
        ({"size": [2, 2], "counts": "`"}, "ends within a number"),
        ({"size": [2, 2], "counts": "o" * 40}, "number that no image has"),
    ],
)
def test_damaged_codes_are_refused(code, words):
    good = {"size": [2, 2], "counts": [4]}
    with pytest.raises(ValueError, match=r"codes\[1\].*" + words):
        rle.read([good, code])


@pytest.mark.parametrize(
    ("polygon", "words"),
    [
        ([0, 0, 1, 1], "shape"),
        ([10**400] * 6, "cannot be read"),
        ([0, 0, 1, 1, 2, 2, 3], "shape"),
        ([[0, 0], [1, 1], [2, 2]], "shape"),
        ("polygon", "cannot be read"),
        ([0, 0, 1, 1, None, 2], "cannot be read as numbers"),
        ([0, 0, 1, 1, "2", 2], "cannot be read as numbers"),
        ([0, 0, 1, 1, 10**400, 2], "cannot be read as numbers"),
        ([0, 0, 1, 1, float("nan"), 2], "no number"),
        ([0, 0, 1, 1, 2, float("inf")], "beyond 10 times"),
        ([0, 0, 1, 1, 2, 1e8], "beyond 10 times"),
    ],
)
def test_damaged_polygons_are_refused(polygon, words):
    with pytest.raises(ValueError, match=r"polygons\[1\].*" + words):
        rle.from_polygons([[0, 0, 1, 0, 1, 1], polygon], (5, 5))


@pytest.mark.parametrize("n", [3_000, pytest.param(100_000, marks=pytest.mark.slow)])
def test_noise_is_read_or_refused(n):
    """Whatever is read adds up to its image; nothing else is drawn."""
    rng = random.Random(0)
    refused = 0
    for _ in range(n):
        size = [rng.choice([0, 1, 3, 17, -1, 2**31]) for _ in range(2)]
        kind = rng.randrange(3)
        if kind == 0:
            counts = "".join(chr(rng.randrange(40, 120)) for _ in range(rng.randrange(8)))
        elif kind == 1:
            counts = [rng.choice([0, 1, 2, 9, 17, -3, 2**40]) for _ in range(rng.randrange(5))]
        else:
            good = rle.write(rle.encode(np.ones((1, 3, 17), bool) & (np.arange(17) % 3 > 0)))[0]
            text = list(good["counts"])
            text[rng.randrange(len(text))] = chr(rng.randrange(48, 112))
            size, counts = good["size"], "".join(text)
        try:
            runs = rle.read([{"size": size, "counts": counts}])
        except ValueError:
            refused += 1
        else:
            assert runs.counts.sum() == size[0] * size[1]
            assert rle.decode(runs).shape == (1, *size)
            assert rle.areas(runs)[0] == rle.decode(runs).sum()
    assert 0.2 * n < refused < n


def strange_polygon(rng):
    """Numbers mostly, of any size; words, lists and nothing among them, or in their place."""
    numbers = [0, 1, 2.5, -3, 17, True, 49.99, 1e-300]
    strange = [1e9, -1e9, 2**70, 10**400, float("nan"), float("inf"), None, "1", "", b"2", [], [3]]
    strange += [{}, 1j, (4, 5), object()]
    kind = rng.randrange(8)
    if kind == 0:
        return rng.choice(
            [*strange, "123456", b"123456", {1: 2}, [[0, 0], [1, 1], [2, 2]], range(6)]
        )
    choices = numbers if kind < 5 else numbers + strange
    return [rng.choice(choices) for _ in range(rng.choice([0, 1, 5, 6, 7, 8, 12]))]


@pytest.mark.parametrize("n", [1_500, pytest.param(100_000, marks=pytest.mark.slow)])
def test_noise_of_polygons_is_drawn_or_refused(n):
    """One by one and as parts of objects: the same is refused, and the same is drawn."""
    rng = random.Random(1)
    refused = 0
    for _ in range(n):
        size = tuple(rng.choice([0, 1, 5, 23]) for _ in range(2))
        polygon = strange_polygon(rng)
        words = ""
        try:
            runs = rle.from_polygons([polygon], size)
        except ValueError as error:
            words = str(error)
        if words:
            refused += 1
            assert words.startswith("rle.from_polygons: polygons[0] ")
            with pytest.raises(ValueError, match=re.escape(words)):
                rle.gather([[polygon]], [size])
        else:
            assert runs.counts.sum() == size[0] * size[1]
            assert rle.areas(runs)[0] == rle.decode(runs).sum()
            assert np.array_equal(rle.gather([[polygon]], [size])[0], runs.counts)
    assert 0.3 * n < refused < 0.9 * n


@pytest.mark.parametrize("polygons", [None, 3, "ab", {}, [None], [[]], [{}], [3.5]])
def test_what_is_no_list_of_polygons(polygons):
    with pytest.raises((ValueError, TypeError), match=r"^\[0\]|is no code"):
        rle.gather([polygons if isinstance(polygons, dict) else [polygons]], [(4, 5)])


def test_bad_arguments():
    with pytest.raises(ValueError, match="float64 of shape"):
        rle.encode(np.zeros((2, 3)))
    small, large = (rle.encode(np.zeros((1, n, n), bool)) for n in (2, 3))
    with pytest.raises(ValueError, match="sizes differ"):
        rle.iou(small, large)
    with pytest.raises(ValueError, match=r"crowd has shape \(3,\)"):
        rle.iou(small, small, [0, 1, 0])
    with pytest.raises(ValueError, match=r"is for an image of \(3, 3\)"):
        rle.read(rle.write(large), (2, 2))


def test_many_at_once_equal_one_by_one():
    rng = np.random.default_rng(3)
    segmentations, sizes, expected = [], [], []
    for i in range(60):
        height, width = (int(n) for n in rng.integers(1, 30, 2))
        size = (height, width)
        if i % 3:
            runs = rle.encode(rng.random((1, *size)) < 0.5)
            (code,) = rle.write(runs, compressed=i % 3 == 1)
            segmentations.append(code)
        else:
            polygons = (rng.random((rng.integers(1, 4), 8)) * max(size)).tolist()
            runs = rle.merge(rle.from_polygons(polygons, size))
            segmentations.append(polygons)
        sizes.append(size)
        expected.append(runs.counts)
    counts, starts = rle.gather(segmentations, sizes)
    for i, runs in enumerate(expected):
        assert np.array_equal(counts[starts[i] : starts[i + 1]], runs)
    damage = [{"size": list(sizes[7]), "counts": "~"}, [[0, 0, 1]], [["a"] * 6], None]
    damage += [["012345"], [["0"] * 6], [[0, 0, 9, 0, 9, "9"]], [[[0, 0], [9, 0], [9, 9]]]]
    for wrong in damage:
        damaged = [*segmentations[:7], wrong, *segmentations[8:]]
        with pytest.raises(ValueError, match=r"^\[7\]"):
            rle.gather(damaged, sizes)
