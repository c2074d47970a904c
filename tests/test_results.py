"""Instances and prompts against brute force and the COCO codec."""

import json
import random
import warnings

import numpy as np
import pytest
from scipy import ndimage

from segalgos import Instances, Prompts

# --- instances ---------------------------------------------------------------------------


def _random_instances(rng, n=5, shape=(13, 17)):
    masks = ndimage.uniform_filter(rng.random((n, *shape)), (0, 3, 3)) > 0.55
    scores, classes = rng.random(n).astype(np.float32), rng.integers(0, 9, n)
    return Instances(masks, scores, classes, crowd=rng.random(n) < 0.5)


def _same(a, b):
    for name in ("masks", "scores", "classes", "boxes", "crowd"):
        np.testing.assert_array_equal(getattr(a, name), getattr(b, name), err_msg=name)
        assert getattr(a, name).dtype == getattr(b, name).dtype


def test_defaults():
    masks = np.zeros((2, 5, 6), np.uint8)
    masks[0, 1:3, 2:6] = 1
    objects = Instances(masks)
    assert len(objects) == 2
    assert objects.shape == (5, 6)
    assert objects.masks.dtype == bool
    assert objects.scores.tolist() == [1, 1]
    assert objects.classes.tolist() == [0, 0]
    assert objects.boxes.tolist() == [[1, 2, 3, 6], [0, 0, 0, 0]]
    assert [a.dtype for a in (objects.scores, objects.classes, objects.boxes)] == [
        np.float32,
        np.int32,
        np.float32,
    ]


def test_no_objects():
    empty = Instances(np.zeros((0, 4, 5), bool))
    assert len(empty) == 0
    assert empty.boxes.shape == (0, 4)
    assert (empty.to_labels() == np.zeros((4, 5))).all()
    assert empty.to_coco() == []
    _same(Instances.from_coco([], shape=(4, 5)), empty)
    _same(Instances.from_labels(np.zeros((4, 5), int)), empty)
    _same(Instances(np.zeros((0, 4, 5), bool), [], [], []), empty)


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        ((np.zeros((4, 5), bool),), ValueError, r"masks has shape \(4, 5\), expected \(N, H, W\)"),
        ((np.zeros((1, 4, 5)),), TypeError, "masks is float64, expected bool"),
        ((np.full((1, 4, 5), 2),), TypeError, "masks is int64, expected bool"),
        ((np.ones((2, 4, 5), bool), [1]), ValueError, r"scores has shape \(1,\)"),
        ((np.ones((1, 4, 5), bool), [np.nan]), ValueError, "scores holds NaN"),
        ((np.ones((1, 4, 5), bool), [1e300]), ValueError, "scores holds values beyond float32"),
        ((np.ones((1, 4, 5), bool), ["high"]), TypeError, "scores is <U4"),
        ((np.ones((1, 4, 5), bool), None, [0.5]), ValueError, "classes holds fractions"),
        ((np.ones((1, 4, 5), bool), None, [2**31]), ValueError, "classes holds values beyond"),
        ((np.ones((1, 4, 5), bool), None, [-1e20]), ValueError, "classes holds values beyond"),
        ((np.ones((1, 4, 5), bool), None, None, None, [0, 1]), ValueError, "crowd has shape"),
        ((np.ones((1, 4, 5), bool), None, None, None, [2]), TypeError, "crowd is int64"),
        ((np.ones((1, 4, 5), bool), None, None, None, ["no"]), TypeError, "crowd is <U2"),
        ((np.ones((1, 4, 5), bool), None, None, [1, 2, 3, 4]), ValueError, "boxes has shape"),
        ((np.ones((1, 4, 5), bool), None, None, [[1], [2, 3]]), ValueError, "boxes cannot be read"),
    ],
)
def test_bad_instances(arguments, error, words):
    with pytest.raises(error, match=words):
        Instances(*arguments)


def test_selection():
    objects = _random_instances(np.random.default_rng(0))
    _same(objects[[3, 1]], Instances(*(a[[3, 1]] for a in _arrays(objects))))
    _same(objects[2], objects[2:3])
    _same(objects[objects.scores > 0.5], objects[np.flatnonzero(objects.scores > 0.5)])
    assert len(list(objects)) == 5  # iteration ends
    with pytest.raises(IndexError):
        objects[5]


def _arrays(objects):
    return objects.masks, objects.scores, objects.classes, objects.boxes, objects.crowd


def test_to_labels_paints_the_best_on_top():
    masks = np.zeros((3, 1, 5), bool)
    masks[0, 0, :3], masks[1, 0, 1:4], masks[2, 0, 2:] = True, True, True
    assert Instances(masks, [0.1, 0.9, 0.5]).to_labels().tolist() == [[1, 2, 2, 2, 3]]
    assert Instances(masks, [0.5, 0.5, 0.5]).to_labels().tolist() == [[1, 1, 1, 2, 3]]
    assert Instances(masks).to_labels().dtype == np.int32


def test_from_labels():
    labels = np.array([[-1, 0, 7], [3, 3, 7]])
    objects = Instances.from_labels(labels, classes=[30, 70])
    np.testing.assert_array_equal(objects.masks, [labels == 3, labels == 7])
    assert objects.classes.tolist() == [30, 70]
    assert objects.to_labels().tolist() == [[0, 0, 2], [1, 1, 2]]
    assert Instances.from_labels(labels, classes={7: 70, 3: 30, 9: 1}).classes.tolist() == [30, 70]
    with pytest.raises(ValueError, match=r"classes has shape"):
        Instances.from_labels(labels, classes=[1])
    with pytest.raises(ValueError, match=r"the id 7, which has no class"):
        Instances.from_labels(labels, classes={3: 30})
    for bad in (labels.astype(float), labels[0]):
        with pytest.raises(ValueError, match=r"expected integers"):
            Instances.from_labels(bad)


def test_a_thousand_objects():
    """One pixel each, of large ids, on a map of which masks would fill 250 MB."""
    labels = np.zeros((500, 500), np.int64)
    labels[::12, ::10][:25, :40] = 2_000_000_000 - np.arange(1000).reshape(25, 40)
    objects = Instances.from_labels(labels)
    assert len(objects) == 1000
    rows, columns = np.nonzero(labels)
    order = np.argsort(labels[rows, columns])
    boxes = np.stack([rows, columns, rows + 1, columns + 1], axis=1)[order]
    np.testing.assert_array_equal(objects.boxes, boxes)
    again = Instances.from_coco(objects.to_coco(), (500, 500))
    np.testing.assert_array_equal(again.boxes, boxes)
    np.testing.assert_array_equal(again.to_labels() > 0, labels > 0)


def test_boxes_outside_the_image_stay():
    boxes = [[-3, -4.5, 90, 2], [50, 60, 70, 80]]
    objects = Instances(np.zeros((2, 4, 5), bool), boxes=boxes)
    np.testing.assert_array_equal(objects.boxes, np.float32(boxes))
    _same(Instances.from_coco(objects.to_coco()), objects)


# --- COCO --------------------------------------------------------------------------------


@pytest.mark.parametrize("compressed", [True, False])
@pytest.mark.parametrize("shape", [(13, 17), (1, 1), (1, 40), (40, 1), (70, 90)])
def test_coco_round_trip(compressed, shape):
    for seed in range(5):
        objects = _random_instances(np.random.default_rng(seed), shape=shape)
        annotations = json.loads(json.dumps(objects.to_coco(7, compressed=compressed)))
        assert {a["image_id"] for a in annotations} == {7}
        _same(Instances.from_coco(annotations), objects)
        _same(Instances.from_coco(annotations, shape=shape), objects)


def test_coco_fields():
    masks = np.zeros((1, 4, 6), bool)
    masks[0, 1:3, 2:5] = True
    (annotation,) = Instances(masks, [0.25], [9]).to_coco(compressed=False)
    assert annotation["bbox"] == [2, 1, 3, 2]
    assert annotation["area"] == 6
    assert annotation["category_id"] == 9
    assert annotation["score"] == 0.25
    assert annotation["segmentation"] == {"size": [4, 6], "counts": [9, 2, 2, 2, 2, 2, 5]}


def test_codec_equals_coco():
    codec = pytest.importorskip("faster_coco_eval.core.mask")
    rng = np.random.default_rng(0)
    for shape in ((1, 1), (3, 5), (64, 48), (200, 300)):
        for density in (0, 0.01, 0.5, 0.99, 1):
            mask = rng.random(shape) < density
            smooth = ndimage.uniform_filter(mask.astype(float), 5) > 0.5
            for one in (mask, smooth):
                (ours,) = Instances(one[None]).to_coco()
                theirs = codec.encode(np.asfortranarray(one.astype(np.uint8)))
                counts = theirs["counts"]
                text = counts.decode() if isinstance(counts, bytes) else counts
                assert ours["segmentation"]["counts"] == text
                assert list(theirs["size"]) == ours["segmentation"]["size"]
                back = Instances.from_coco([{"segmentation": theirs}])
                np.testing.assert_array_equal(back.masks[0], one)
                decoded = codec.decode(ours["segmentation"])
                np.testing.assert_array_equal(decoded.astype(bool), one)


def test_polygons():
    square = [1, 1, 5, 1, 5, 4, 1, 4]  # x, y: columns 1 to 4, rows 1 to 3
    part = [6, 0, 8, 0, 8, 2, 6, 2]
    objects = Instances.from_coco([{"segmentation": [square, part]}], shape=(6, 9))
    expected = np.zeros((6, 9), bool)
    expected[1:4, 1:5] = True
    expected[0:2, 6:8] = True
    np.testing.assert_array_equal(objects.masks[0], expected)
    beyond = Instances.from_coco([{"segmentation": [[-50, -50, 90, -50, 90, 90, -50, 90]]}], (6, 9))
    assert beyond.masks.all()


RLE = {"size": [4, 6], "counts": [9, 2, 2, 2, 2, 2, 5]}


@pytest.mark.parametrize(
    ("annotation", "words"),
    [
        ({}, "no 'segmentation'"),
        (None, "no 'segmentation'"),
        ({"segmentation": None}, "malformed"),
        ({"segmentation": 5}, "malformed"),
        ({"segmentation": {}}, "size"),
        ({"segmentation": {"size": [4, 6]}}, "counts"),
        ({"segmentation": {"size": [4, 6], "counts": [9]}}, "do not add up"),
        ({"segmentation": {"size": [4, 6], "counts": [25, -1]}}, "do not add up"),
        ({"segmentation": {"size": [4, 6], "counts": [2**62] * 4}}, "no sizes of runs"),
        ({"segmentation": {"size": [4, 6], "counts": [2**70]}}, "expected a list of integers"),
        ({"segmentation": {"size": [4, 6], "counts": [23.5, 0.5]}}, "fractions"),
        ({"segmentation": {"size": [4, 6], "counts": "`````"}}, "ends within a number"),
        ({"segmentation": {"size": [4, 6], "counts": "\u20ac"}}, "damaged"),
        ({"segmentation": {"size": [4, 6], "counts": b"\xff"}}, "damaged"),
        ({"segmentation": {"size": [4, 6], "counts": "o" * 40}}, "damaged"),
        ({"segmentation": {"size": [-4, -6], "counts": [24]}}, "expected height and width"),
        ({"segmentation": {"size": [6, 4], "counts": [24]}}, r"\(6, 4\), expected \(4, 6\)"),
        ({"segmentation": {"size": [1, 2, 3], "counts": [6]}}, "size"),
        ({"segmentation": [[1, 2, 3, 4]]}, r"shape \(4,\), expected x0, y0"),
        ({"segmentation": [[1, 2, 3, 4, 5, 6, 7]]}, r"shape \(7,\), expected x0, y0"),
        ({"segmentation": [[1, 2, 3, 4, 5, np.nan]]}, "vertex that is no number"),
        ({"segmentation": [[1, 2, 3, 4, 5, 1e300]]}, "beyond 10 times"),
        ({"segmentation": ["polygon"]}, "polygon"),
        ({"segmentation": RLE, "iscrowd": 2}, r"\['iscrowd'\] is 2, expected 0 or 1"),
        ({"segmentation": RLE, "score": None}, "score"),
        ({"segmentation": RLE, "score": "0.5"}, "score"),
        ({"segmentation": RLE, "score": np.inf}, "score"),
        ({"segmentation": RLE, "category_id": 2**40}, "category_id"),
        ({"segmentation": RLE, "category_id": 1.5}, "category_id"),
        ({"segmentation": RLE, "bbox": [1, 2, 3]}, "bbox"),
        ({"segmentation": RLE, "bbox": [1, 2, -3, 4]}, "negative size"),
        ({"segmentation": RLE, "bbox": None}, "bbox"),
    ],
)
def test_malformed_coco(annotation, words):
    good = {"segmentation": RLE}
    with pytest.raises(ValueError, match=r"annotations\[1\].*" + words):
        Instances.from_coco([good, annotation], shape=(4, 6))


@pytest.mark.parametrize("side", [10**6, 2**31, 2**40, 10**30])
def test_huge_claims_take_no_memory(side):
    rle = {"size": [side, side], "counts": [side * side]}
    with pytest.raises(ValueError, match=r"annotations\[0\]"):
        Instances.from_coco([{"segmentation": rle}])


def test_shape_is_needed():
    with pytest.raises(ValueError, match=r"pass shape="):
        Instances.from_coco([])
    with pytest.raises(ValueError, match=r"polygon: pass shape="):
        Instances.from_coco([{"segmentation": [[0, 0, 1, 0, 1, 1]]}])


def _mutate(rng, value):
    """Damage one place of a JSON value."""
    odd = (
        None,
        -1,
        0,
        2**31,
        2**63,
        2**80,
        1e308,
        float("nan"),
        "x",
        "\u20ac",
        [],
        {},
        True,
        [[1]],
    )
    if isinstance(value, dict) and value and rng.random() < 0.8:
        key = rng.choice(sorted(value))
        if rng.random() < 0.15:
            return {k: v for k, v in value.items() if k != key}
        return value | {key: _mutate(rng, value[key])}
    if isinstance(value, list) and value and rng.random() < 0.8:
        i = rng.randrange(len(value))
        if rng.random() < 0.2:
            return value[:i] + value[i + 1 :]
        return [*value[:i], _mutate(rng, value[i]), *value[i + 1 :]]
    if isinstance(value, str) and value and rng.random() < 0.7:
        i = rng.randrange(len(value))
        return value[:i] + chr(rng.randrange(1, 300)) + value[i + rng.randrange(2) :]
    return rng.choice(odd)


def test_fuzzed_coco_is_read_or_refused():
    rng = random.Random(0)
    refused = 0
    objects = _random_instances(np.random.default_rng(1), n=2, shape=(9, 7))
    seeds = [objects.to_coco(), objects.to_coco(compressed=False)]
    seeds.append(
        [{"segmentation": [[1, 1, 5, 1, 5, 6]], "bbox": [1, 1, 4, 5]}, objects.to_coco()[1]]
    )
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for _ in range(2000):
            annotations = rng.choice(seeds)
            for _ in range(rng.randrange(1, 4)):
                annotations = _mutate(rng, annotations)
            annotations = annotations if isinstance(annotations, list) else [annotations]
            try:
                read = Instances.from_coco(annotations, shape=(9, 7))
            except ValueError:
                refused += 1
            else:
                assert read.masks.shape == (len(annotations), 9, 7)
                assert np.isfinite(read.boxes).all()
    assert 200 < refused < 2000  # the damage is neither harmless nor always fatal


# --- prompts -----------------------------------------------------------------------------


def test_prompts():
    prompts = Prompts(points=[[1, 2], [3, 4]], boxes=[0, 0, 2, 2], scribbles=[[0, -1]])
    assert prompts.points.dtype == np.float64
    assert prompts.point_labels.tolist() == [1, 1]
    assert prompts.point_labels.dtype == np.int32
    assert prompts.boxes.shape == (1, 4)
    assert prompts.scribbles.dtype == np.int32


def test_prompts_are_painted_as_seeds():
    scribbles = np.full((4, 6), -1)
    scribbles[0] = 7
    prompts = Prompts(
        points=[[0, 0], [3.9, 5.9]],
        point_labels=[1, 0],
        boxes=[[0.5, 1, 3, 4], [1, 3, 2, 6]],
        scribbles=scribbles,
    )
    seeds = prompts.seeds((4, 6))
    assert seeds.dtype == np.int32
    np.testing.assert_array_equal(
        seeds,
        [[1, 7, 7, 7, 7, 7], [0, -1, -1, -1, -1, -1], [0, -1, -1, -1, 0, 0], [0, 0, 0, 0, 0, 0]],
    )
    assert (Prompts(mask=np.ones((4, 6), bool)).seeds((4, 6)) == -1).all()


def test_prompts_for_volumes():
    prompts = Prompts(points=[[1, 2, 3]], boxes=[0, 1, 2, 2, 3, 4])
    seeds = prompts.seeds((3, 4, 5))
    assert seeds[1, 2, 3] == 1
    assert (seeds == -1).sum() == 7
    assert (seeds == 0).sum() == 52
    scribbles = np.zeros((3, 4, 5), int)
    assert (Prompts(scribbles=scribbles).seeds((3, 4, 5)) == 0).all()
    with pytest.raises(ValueError, match="no area"):
        Prompts(boxes=[0, 1, 2, 2, 1, 4])


@pytest.mark.parametrize(
    ("keywords", "error", "words"),
    [
        ({}, ValueError, "nothing given"),
        ({"points": [1, 2]}, ValueError, r"points has shape \(2,\), expected \(N, 2\)"),
        ({"points": [[1, np.nan]]}, ValueError, "points holds NaN"),
        ({"points": [["a", "b"]]}, TypeError, "points is"),
        ({"points": [[1, 2]], "point_labels": [2]}, ValueError, "other values than 1 and 0"),
        ({"points": [[1, 2]], "point_labels": [1, 0]}, ValueError, "point_labels has shape"),
        ({"point_labels": [1]}, ValueError, "point_labels without points"),
        ({"boxes": [[1, 1, 1, 3]]}, ValueError, "no area"),
        ({"boxes": [1, 2, 3]}, ValueError, r"boxes has shape \(1, 3\)"),
        ({"scribbles": np.zeros(4, int)}, ValueError, "scribbles has shape"),
        ({"scribbles": np.full((2, 2), 0.5)}, ValueError, "fractions"),
        ({"mask": np.zeros((2, 2))}, ValueError, "mask is float64"),
        ({"mask": np.zeros(4, bool)}, ValueError, "mask is bool of shape"),
    ],
)
def test_bad_prompts(keywords, error, words):
    with pytest.raises(error, match=words):
        Prompts(**keywords)
