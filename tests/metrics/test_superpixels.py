"""Superpixel scores."""

from itertools import pairwise, product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from segalgos.datasets import bsds500
from segalgos.metrics import superpixel_scores
from segalgos.parallel import thread_limit

OF_TRUTHS = [
    "boundary_recall",
    "undersegmentation_error",
    "achievable_segmentation_accuracy",
    "undersegmentation_error_levin",
]


# --- brute force -------------------------------------------------------------------------


def neighbours(pixel, shape):
    for axis, step in product(range(len(shape)), (-1, 1)):
        other = tuple(p + step * (a == axis) for a, p in enumerate(pixel))
        if 0 <= other[axis] < shape[axis]:
            yield other


def boundary(ids):
    marks = np.zeros(ids.shape, bool)
    for pixel in np.ndindex(*ids.shape):
        for other in neighbours(pixel, ids.shape):
            marks[pixel] |= ids[pixel] >= 0 and ids[other] >= 0 and ids[pixel] != ids[other]
    return marks


def brute_force(labels, truth, tolerance):
    """The four scores against one annotator, from the definitions."""
    ignored = (labels < 0) | (truth < 0)
    labels, truth = np.where(ignored, -1, labels), np.where(ignored, -1, truth)
    sought, edges = np.argwhere(boundary(truth)), np.argwhere(boundary(labels))
    found = [
        len(edges) > 0 and np.abs(edges - pixel).max(axis=1).min() <= tolerance for pixel in sought
    ]
    recall = np.mean(found) if len(sought) else np.nan
    n_pixels = (~ignored).sum()
    if n_pixels == 0:
        return [recall, np.nan, np.nan, np.nan]
    superpixels = [labels == k for k in np.unique(labels[~ignored])]
    regions = [truth == t for t in np.unique(truth[~ignored])]
    error, levin = 0, []
    for region in regions:
        met = [s for s in superpixels if (s & region).any()]
        error += sum(min((s & region).sum(), (s & ~region).sum()) for s in met)
        levin.append((sum(s.sum() for s in met) - region.sum()) / region.sum())
    right = sum(max((s & region).sum() for region in regions) for s in superpixels)
    return [recall, error / n_pixels, right / n_pixels, np.mean(levin)]


def brute_force_of_shapes(labels, image):
    known = labels >= 0
    ids = np.unique(labels[known])
    if len(ids) == 0:
        return [np.nan, np.nan, 0]
    pixels = image.reshape(*labels.shape, -1).astype(float)
    mean = pixels[known].mean(axis=0)
    total = ((pixels[known] - mean) ** 2).sum()
    explained, compactness = 0.0, 0.0
    for k in ids:
        own = labels == k
        explained += own.sum() * ((pixels[own].mean(axis=0) - mean) ** 2).sum()
        sides = 0
        for pixel in np.argwhere(own):
            same = sum(own[other] for other in neighbours(tuple(pixel), labels.shape))
            sides += 2 * labels.ndim - same
        area = own.sum()
        if labels.ndim == 2:
            compactness += area * 4 * np.pi * area / sides**2
        else:
            compactness += area * 36 * np.pi * area**2 / sides**3
    return [explained / total if total > 0 else np.nan, compactness / known.sum(), len(ids)]


@settings(max_examples=150, derandomize=True, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    shape=st.sampled_from([(1, 1), (1, 7), (6, 1), (5, 7), (9, 8), (3, 4, 5), (1, 4, 4)]),
    tolerance=st.integers(0, 3),
    low=st.sampled_from([-1, 0]),
    n_annotators=st.integers(1, 3),
)
def test_equals_brute_force(seed, shape, tolerance, low, n_annotators):
    rng = np.random.default_rng(seed)
    labels = rng.integers(low, rng.integers(1, 6), shape)
    truths = [rng.integers(low, rng.integers(1, 4), shape) for _ in range(n_annotators)]
    image = rng.integers(0, 256, (*shape, 3)).astype(np.uint8)
    scores = superpixel_scores(labels, truths, image, tolerance=tolerance)
    each = np.array([brute_force(labels, truth, tolerance) for truth in truths])
    for name, values in zip(OF_TRUTHS, each.T, strict=True):
        known = values[~np.isnan(values)]
        expected = known.mean() if len(known) else np.nan
        assert scores[name] == pytest.approx(expected, abs=1e-12, nan_ok=True), name
        if name != "undersegmentation_error_levin":
            worst = max if name == "undersegmentation_error" else min
            expected = worst(known, default=np.nan)
            value = scores[f"{name}_worst_annotator"]
            assert value == pytest.approx(expected, abs=1e-12, nan_ok=True), name
    explained, compactness, n_segments = brute_force_of_shapes(labels, image)
    assert scores["explained_variation"] == pytest.approx(explained, abs=1e-12, nan_ok=True)
    assert scores["compactness"] == pytest.approx(compactness, abs=1e-12, nan_ok=True)
    assert scores["n_segments"] == n_segments


# --- by hand -----------------------------------------------------------------------------


def test_by_hand():
    labels = np.kron([[0, 1], [2, 3]], np.ones((2, 3), int))  # four of 2 x 3 pixels
    truth = np.zeros((4, 6), int)
    truth[:, 4:] = 1  # a third of the right ones
    image = np.kron([[0, 0], [0, 8]], np.ones((2, 3)))
    scores = superpixel_scores(labels, truth, image, tolerance=0)
    # The boundary is in columns 3 and 4. Labels have theirs in 2 and 3 and in both middle rows.
    assert scores["boundary_recall"] == 6 / 8
    # Both right superpixels have 4 of 6 pixels in the region: 2 twice, seen from either side.
    assert scores["undersegmentation_error"] == 8 / 24
    assert scores["achievable_segmentation_accuracy"] == 20 / 24
    assert scores["undersegmentation_error_levin"] == pytest.approx(
        ((24 - 16) / 16 + (12 - 8) / 8) / 2
    )
    assert scores["explained_variation"] == 1
    assert scores["compactness"] == pytest.approx(4 * np.pi * 6 / 10**2)
    assert scores["n_segments"] == 4
    assert superpixel_scores(labels, truth, tolerance=1)["boundary_recall"] == 1


def test_several_annotators_mean_and_worst():
    labels = np.repeat([[0, 0, 0, 1, 1, 1]], 6, axis=0)
    right, wrong = labels, np.repeat([[0, 1, 1, 1, 1, 1]], 6, axis=0)
    scores = superpixel_scores(labels, [right, wrong], tolerance=0)
    assert scores["boundary_recall"] == 0.5
    assert scores["boundary_recall_worst_annotator"] == 0
    assert scores["undersegmentation_error"] == 1 / 6
    assert scores["undersegmentation_error_worst_annotator"] == 2 / 6
    assert scores["achievable_segmentation_accuracy"] == pytest.approx(11 / 12)
    assert scores["achievable_segmentation_accuracy_worst_annotator"] == 5 / 6


def test_truth_itself_is_perfect():
    truth = np.random.default_rng(0).integers(0, 5, (20, 30))
    scores = superpixel_scores(truth, truth, truth)
    assert scores["boundary_recall"] == scores["achievable_segmentation_accuracy"] == 1
    assert scores["explained_variation"] == pytest.approx(1)
    assert scores["undersegmentation_error"] == scores["undersegmentation_error_levin"] == 0


def test_cubes_are_the_most_compact():
    labels = np.arange(8).reshape(2, 2, 2).repeat(3, 0).repeat(3, 1).repeat(3, 2)
    assert superpixel_scores(labels, labels)["compactness"] == pytest.approx(np.pi / 6)


def test_default_tolerance_is_of_the_diagonal():
    truth = np.zeros((321, 481), np.int32)
    truth[:, 200:] = 1

    def recall(shift, truth=truth):
        return superpixel_scores(np.roll(truth, shift, axis=1), truth)["boundary_recall"]

    # A boundary is two pixels wide: found at a shift of 2, half of it; not at all at 3.
    np.testing.assert_array_equal([recall(1), recall(2), recall(3)], [1, 0.5, 0])
    large = truth.repeat(2, 0).repeat(2, 1)  # a tolerance of 3
    np.testing.assert_array_equal([recall(3, large), recall(4, large)], [1, 0.5])


# --- what touches nothing ----------------------------------------------------------------


@pytest.mark.parametrize("shape", [(9, 11), (4, 5, 6)])
def test_pixels_of_minus_one_touch_nothing(shape):
    rng = np.random.default_rng(1)
    labels, truth = rng.integers(0, 5, shape), rng.integers(0, 3, shape)
    image = rng.random(shape)
    outside = rng.random(shape) < 0.3
    labels[outside] = -1
    expected = superpixel_scores(labels, truth, image)
    other = np.where(outside, rng.integers(-1, 9, shape), truth)
    assert superpixel_scores(labels, other, np.where(outside, 1e6, image)) == expected
    # And what an annotator left out, for the scores against him.
    unknown = np.where(rng.random(shape) < 0.3, -1, truth)
    before = superpixel_scores(labels, unknown, tolerance=2)
    changed = np.where(unknown < 0, rng.integers(0, 9, shape), labels)
    after = superpixel_scores(changed, unknown, tolerance=2)
    for name in OF_TRUTHS:
        assert after[name] == before[name], name


def test_nothing_defined():
    empty = np.full((3, 4), -1)
    scores = superpixel_scores(empty, empty, np.zeros((3, 4)))
    assert scores.pop("n_segments") == 0
    assert np.isnan(list(scores.values())).all()
    # An annotator without boundaries is left out, one who knows nothing likewise.
    labels = np.array([[0, 0, 1, 1]])
    scores = superpixel_scores(labels, [np.zeros((1, 4), int), labels, np.full((1, 4), -1)])
    assert scores["boundary_recall"] == scores["boundary_recall_worst_annotator"] == 1
    assert scores["achievable_segmentation_accuracy_worst_annotator"] == 1
    assert np.isnan(superpixel_scores(labels, labels, np.full((1, 4), 0.1))["explained_variation"])


# --- ids, threads, dtypes ----------------------------------------------------------------


def test_ids_do_not_matter():
    rng = np.random.default_rng(2)
    labels, truth = rng.integers(-1, 5, (20, 30)), rng.integers(-1, 4, (20, 30))
    image = rng.random((20, 30, 3))
    expected = superpixel_scores(labels, truth, image)
    wide, deep = np.array([7, 2**60, 3, 2**40, 500, -1]), np.array([2**32, 0, 9, 2**60, -1])
    assert superpixel_scores(wide[labels], deep[truth], image) == pytest.approx(expected, rel=1e-9)
    small = superpixel_scores(labels.astype(np.int8), truth.astype(np.int16), image)
    assert small == expected
    unsigned = np.abs(truth).astype(np.uint8)
    expected = superpixel_scores(labels, unsigned.astype(int), image)
    assert superpixel_scores(labels, unsigned, image) == expected


def test_any_number_of_threads():
    rng = np.random.default_rng(3)
    labels, truths = rng.integers(0, 50, (60, 70)), list(rng.integers(0, 9, (6, 60, 70)))
    with thread_limit(1):
        one = superpixel_scores(labels, truths, labels)
    with thread_limit(4):
        assert superpixel_scores(labels, truths, labels) == one


def test_explained_variation_whatever_the_range():
    rng = np.random.default_rng(4)
    labels = rng.integers(0, 9, (30, 40))
    image = rng.integers(0, 256, (30, 40, 4)).astype(np.uint8)
    expected = superpixel_scores(labels, labels, image)["explained_variation"]
    for stored in (image / 255, image.astype(np.float32) * 100, image.astype(np.int64)):
        value = superpixel_scores(labels, labels, stored)["explained_variation"]
        assert value == pytest.approx(expected, rel=1e-6)


def test_inputs_stay_as_they_are():
    rng = np.random.default_rng(5)
    arrays = [rng.integers(-1, 5, (8, 9)), rng.integers(-1, 5, (8, 9)), rng.random((8, 9, 2))]
    for array in arrays:
        array.flags.writeable = False
    superpixel_scores(*arrays)
    superpixel_scores(arrays[0].T, arrays[1].T, arrays[2].swapaxes(0, 1))


def test_finer_grids_are_better_on_bsds(data_root):
    sample = bsds500.load(split="val", root=data_root)[0]
    rows, columns = np.indices(sample.image.shape[:2])
    scores = [
        superpixel_scores(rows // side * 1000 + columns // side, sample.annotations, sample.image)
        for side in (40, 20, 10)
    ]
    for coarse, fine in pairwise(scores):
        assert fine["boundary_recall"] > coarse["boundary_recall"]
        assert fine["explained_variation"] > coarse["explained_variation"]
        assert fine["undersegmentation_error"] < coarse["undersegmentation_error"]
        for name in ("boundary_recall", "achievable_segmentation_accuracy"):
            assert 0 < fine[f"{name}_worst_annotator"] < fine[name] < 1


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (([[0.5]], [[0]]), TypeError, "labels has dtype float64"),
        (
            ([0, 1], np.zeros((1, 2), int)),
            ValueError,
            r"labels has shape \(2,\), expected \(H, W\)",
        ),
        ((np.zeros((2, 2), int), np.zeros((2, 3), int)), ValueError, r"truths\[0\] has \(2, 3\)"),
        ((np.zeros((2, 2), int), []), ValueError, "truths is empty"),
        ((np.full((2, 2), -2), np.zeros((2, 2), int)), ValueError, "labels holds the id -2"),
        (
            (np.zeros((2, 2), int), np.zeros((2, 2), int), np.zeros((3, 2))),
            ValueError,
            r"image has shape \(3, 2\), labels has \(2, 2\)",
        ),
        (
            (np.zeros((2, 2), int), np.zeros((2, 2), int), np.full((2, 2), np.nan)),
            ValueError,
            "image holds 4 NaN",
        ),
    ],
)
def test_bad_input(arguments, error, message):
    with pytest.raises(error, match=message):
        superpixel_scores(*arguments)


@pytest.mark.parametrize(("tolerance", "error"), [(-1, ValueError), (1.5, TypeError)])
def test_bad_tolerance(tolerance, error):
    with pytest.raises(error, match="superpixel_scores: tolerance is"):
        superpixel_scores(np.zeros((2, 2), int), np.zeros((2, 2), int), tolerance=tolerance)
