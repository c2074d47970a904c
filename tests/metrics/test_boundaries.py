"""Boundary precision and recall: the official self-test, by hand, and what must not matter."""

import numpy as np
import pytest
from PIL import Image
from scipy import ndimage
from scipy.io import loadmat
from scipy.sparse import csr_matrix
from scipy.sparse.csgraph import maximum_bipartite_matching
from skimage import data
from skimage.morphology import thin

from segalgos.metrics import (
    BoundaryCounts,
    boundary_counts,
    boundary_scores,
    boundary_scores_from_counts,
    evaluate_hierarchies,
    level_scores,
    partition_boundaries,
)
from segalgos.parallel import thread_limit


def counts_of(recalled, n_true, correct, found):
    arrays = [np.array(a, np.int64) for a in (recalled, correct, found)]
    n = len(recalled)
    return BoundaryCounts(np.arange(1, n + 1) / (n + 1), arrays[0], n_true, *arrays[1:])


# --- the BSDS500 benchmark's own self-test -----------------------------------------------


@pytest.fixture(scope="module")
def selftest(bsds_selftest_root):
    """Contours of each form, and annotations, of five images."""
    names = [path.stem for path in sorted((bsds_selftest_root / "ucm2").glob("*.mat"))]
    folder = bsds_selftest_root

    def partitions(path, key):
        return [c.astype(np.int32) - 1 for c in loadmat(path)[key].ravel()]

    truths = [
        loadmat(folder / "groundTruth" / f"{name}.mat")["groundTruth"].ravel() for name in names
    ]
    return {
        "ucm2": [loadmat(folder / "ucm2" / f"{name}.mat")["ucm2"] for name in names],
        "png": [np.array(Image.open(folder / "png" / f"{name}.png")) for name in names],
        "segs": [partitions(folder / "segs" / f"{name}.mat", "segs") for name in names],
        "truths": [
            [c["Segmentation"][0, 0].astype(np.int32) - 1 for c in cells] for cells in truths
        ],
        "boundaries": [[c["Boundaries"][0, 0] for c in cells] for cells in truths],
    }


@pytest.mark.parametrize(
    ("test", "form"),
    [("test_1", "ucm2"), ("test_2", "png"), ("test_3", "segs"), ("test_4", "segs")],
)
def test_official_figures(selftest, bsds_selftest_root, test, form):
    scores = boundary_scores(
        selftest[form], selftest["truths"], thresholds=5, double_sized=form == "ucm2"
    )

    def read(name):
        return np.loadtxt(bsds_selftest_root / test / f"{name}.txt")

    names = ("threshold", "recall", "precision")
    summary = [
        *(scores[f"ods_{name}"] for name in names),
        *(scores[name] for name in ("ods", "ois_recall", "ois_precision", "ois", "ap")),
    ]
    np.testing.assert_allclose(summary, read("eval_bdry"), atol=0.001)
    levels = [scores[name] for name in ("thresholds", "recall", "precision", "f_measure")]
    np.testing.assert_allclose(np.transpose(levels), read("eval_bdry_thr"), atol=0.001)
    images = [scores[f"{name}_per_image"] for name in (*names, "f_measure")]
    images = np.column_stack([np.arange(1, 6), *images])
    np.testing.assert_allclose(images, read("eval_bdry_img"), atol=0.005)


def test_annotated_boundaries_are_the_official_ones(selftest):
    for truths, boundaries in zip(selftest["truths"], selftest["boundaries"], strict=True):
        for labels, expected in zip(truths, boundaries, strict=True):
            np.testing.assert_array_equal(partition_boundaries(labels), expected)


# --- counts --------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def scene():
    """A gradient, and two rough partitions of the same photograph."""
    image = ndimage.gaussian_filter(data.camera()[::4, ::4].astype(float), 1)
    contours = ndimage.gaussian_gradient_magnitude(image, 1)
    truths = [ndimage.label(image > level)[0] for level in (60, 120)]
    return contours / contours.max(), truths


def brute_force(contours, truths, thresholds, distance):
    """Recalled and found pixels, by other code."""
    found, recalled = [], []
    for threshold in thresholds:
        mask = thin(contours >= threshold)
        found.append(mask.sum())
        first, n = np.argwhere(mask), 0
        for truth in truths:
            second = np.argwhere(partition_boundaries(truth))
            apart = np.hypot(*(first[:, None] - second[None]).T).T
            near = apart <= distance
            n += (maximum_bipartite_matching(csr_matrix(near), perm_type="column") >= 0).sum()
        recalled.append(n)
    return recalled, found


def test_recalled_and_found_pixels(scene):
    contours, truths = scene
    counts = boundary_counts(contours, truths, thresholds=5, max_distance=0.015)
    np.testing.assert_allclose(counts.thresholds, np.arange(1, 6) / 6)
    recalled, found = brute_force(
        contours, truths, counts.thresholds, 0.015 * np.hypot(*contours.shape)
    )
    np.testing.assert_array_equal(counts.recalled, recalled)
    np.testing.assert_array_equal(counts.found, found)
    assert counts.n_true == sum(partition_boundaries(t).sum() for t in truths)
    assert (counts.correct <= counts.found).all()
    assert (counts.correct > 0).all()
    # One annotator alone: as many pixels correspond in one map as in the other.
    alone = boundary_counts(contours, truths[0], thresholds=5)
    np.testing.assert_array_equal(alone.recalled, alone.correct)


def test_precision_takes_any_annotator():
    left, right = (np.zeros((40, 60), int) for _ in range(2))
    left[:, 20:] = 1
    right[:, 40:] = 1
    contours = np.zeros((40, 60))
    contours[:, [19, 39]] = 1
    contours[:10, 50] = 1
    counts = boundary_counts(contours, [left, right], thresholds=1)
    assert counts.n_true == 80
    assert (counts.recalled, counts.correct, counts.found) == (80, 80, 90)


def test_levels_without_a_change_and_other_thresholds(scene):
    contours, truths = scene
    few, many = (boundary_counts(contours, truths, thresholds=n) for n in (4, 19))
    for name in ("recalled", "correct", "found"):
        np.testing.assert_array_equal(getattr(few, name), getattr(many, name)[3::4])
    # Three values: four maps, whatever the number of levels.
    steps = np.round(contours * 3) / 3
    fine = boundary_counts(steps, truths, thresholds=99)
    for level in (0, 32, 33, 65, 66, 98):
        mask = thin(steps >= fine.thresholds[level])
        assert fine.found[level] == mask.sum()
    assert np.unique(fine.found).size == 3


def test_bytes_bools_and_a_threshold_that_is_met(scene):
    contours, truths = scene
    grey = np.round(contours * 255).astype(np.uint8)
    first, second = (boundary_counts(c, truths, thresholds=9) for c in (grey, grey / 255))
    np.testing.assert_array_equal(first.recalled, second.recalled)
    mask = boundary_counts(contours > 0.3, truths, thresholds=9)
    assert np.unique(mask.found).size == 1
    line = np.zeros((30, 30), np.uint8)
    line[:, 10] = 51  # .2
    assert boundary_counts(line, truths[0][:30, :30], thresholds=4).found.tolist() == [30, 0, 0, 0]


def test_partitions_level_by_level(scene):
    _, truths = scene
    counts = boundary_counts(truths[::-1], truths)
    assert counts.thresholds.tolist() == [1, 2]
    sizes = [partition_boundaries(t).sum() for t in truths]
    assert counts.found.tolist() == sizes[::-1]
    assert counts.n_true == sum(sizes)
    np.testing.assert_array_equal(counts.correct, counts.found)  # each is one annotator's


def test_double_sized_maps(scene):
    contours, truths = scene
    double = np.full([2 * size + 1 for size in contours.shape], 0.77)
    double[2::2, 2::2] = contours
    for one, other in zip(
        boundary_counts(double, truths, thresholds=7, double_sized=True),
        boundary_counts(contours, truths, thresholds=7),
        strict=True,
    ):
        np.testing.assert_array_equal(one, other)


def test_without_thinning(scene):
    contours, truths = scene
    counts = boundary_counts(contours, truths, thresholds=5, thin=False)
    expected = [(contours >= t).sum() for t in counts.thresholds]
    assert counts.found.tolist() == expected


def test_ignored_pixels_touch_nothing(scene):
    contours, truths = scene
    height, width = contours.shape
    # What everybody ignores is as if outside the image, up to where lines end.
    cut = [np.where(np.arange(width) < 90, t, -1) for t in truths]
    counts = boundary_counts(contours, cut, thresholds=5, thin=False)
    near = 0.0075 * np.hypot(height, width) / np.hypot(height, 90)
    inside = boundary_counts(
        contours[:, :90], [t[:, :90] for t in truths], thresholds=5, thin=False, max_distance=near
    )
    np.testing.assert_array_equal(counts.found, inside.found)
    np.testing.assert_array_equal(counts.recalled, inside.recalled)
    assert counts.n_true == inside.n_true
    # What one ignores may be another one's.
    half = boundary_counts(contours, [cut[0], truths[0]], thresholds=5)
    whole = boundary_counts(contours, truths[0], thresholds=5)
    np.testing.assert_array_equal(half.found, whole.found)
    assert (half.correct >= whole.correct).all()
    nobody = boundary_counts(contours, np.full(contours.shape, -1), thresholds=5)
    assert nobody.n_true == 0
    assert not nobody.found.any()


def test_threads_and_inputs_change_nothing(scene):
    contours, truths = scene
    expected = boundary_counts(contours, truths, thresholds=9)
    contours.flags.writeable = False
    for limit, map_ in ((1, np.asfortranarray(contours)), (3, contours[::1]), (2, contours)):
        with thread_limit(limit):
            for one, other in zip(expected, boundary_counts(map_, truths, thresholds=9)):
                np.testing.assert_array_equal(one, other)


# --- scores --------------------------------------------------------------------------------


def test_empty_and_constant_maps(scene):
    _, truths = scene
    nothing = boundary_scores([np.zeros(truths[0].shape)], [truths])
    for name in ("ods", "ois", "ap", "ods_recall", "ods_precision", "ois_precision"):
        assert nothing[name] == 0, name
    assert np.isnan(nothing["r50"])
    everything = boundary_scores([np.ones(truths[0].shape)], [truths])
    assert np.unique(everything["f_measure"]).size == 1
    assert everything["ap"] == 0  # one point is no curve


def test_nobody_drew_a_boundary():
    contours = np.zeros((20, 30))
    contours[:, 9] = 0.5
    flat = np.zeros((20, 30), int)
    scores = boundary_scores([contours], [flat])
    for name in ("ods", "ois", "ap", "r50", "ods_recall"):
        assert np.isnan(scores[name]), name
    truth = flat.copy()
    truth[:, 10:] = 1
    # Beside an image with boundaries, what was found counts as false.
    both = boundary_scores([contours, contours], [flat, [truth]])
    assert both["ods_recall"] == 1
    assert both["ods_precision"] == both["ois_precision"] == 0.5
    assert both["ods"] == both["ois"] == pytest.approx(2 / 3)
    assert np.isnan(both["f_measure_per_image"]).tolist() == [True, False]


def test_curves_by_hand():
    counts = [
        counts_of([90, 50, 10], 100, [80, 50, 12], [160, 60, 12]),
        counts_of([10, 6, 0], 100, [20, 9, 0], [20, 10, 0]),
    ]
    scores = boundary_scores_from_counts(counts)
    recall, precision = np.array([0.5, 0.28, 0.05]), np.array([100 / 180, 59 / 70, 1.0])
    np.testing.assert_allclose(scores["recall"], recall)
    np.testing.assert_allclose(scores["precision"], precision)
    share = np.linspace(0, 1, 100)
    between = [v[0] + share * (v[1] - v[0]) for v in (recall, precision)]
    f = 2 * between[0] * between[1] / (between[0] + between[1])
    assert scores["ods"] == pytest.approx(f.max())
    assert scores["ods_threshold"] == pytest.approx(0.25 + 0.25 * share[f.argmax()])
    # Image by image: the first level of the first image (F .643, then .625), as of the second.
    assert scores["ois_recall"] == pytest.approx(0.5)
    assert scores["ois_precision"] == pytest.approx(100 / 180)
    at = np.arange(5, 51) / 100
    curve = np.interp(at, recall[::-1], precision[::-1])
    assert scores["ap"] == pytest.approx(curve.sum() / 100)
    assert scores["r50"] == pytest.approx(0.5)  # never below .5
    low = boundary_scores_from_counts([counts_of([80, 40], 100, [80, 40], [320, 50])])
    assert low["r50"] == pytest.approx(np.interp(0.5, [0.25, 0.8], [0.8, 0.4]))
    worse = boundary_scores_from_counts([counts_of([80, 40], 100, [80, 40], [320, 100])])
    assert np.isnan(worse["r50"])


def test_all_scores_of_hierarchies(scene):
    contours, truths = scene
    contours = np.where(contours < 0.1, 0, contours)
    scores = evaluate_hierarchies([contours, contours], [truths, truths[0]], thresholds=9)
    boundaries = boundary_scores([contours, contours], [truths, truths[0]], thresholds=9)
    levels = level_scores([contours, contours], [truths, truths[0]], thresholds=9)
    assert set(scores) == set(boundaries) | set(levels)
    for name, value in {**boundaries, **levels}.items():
        np.testing.assert_array_equal(scores[name], value)
    for name in ("covering_ods", "covering_ois", "covering_best", "pri_ods", "voi_ods", "ods"):
        assert isinstance(scores[name], float)
    assert scores["f_measure_per_image"].shape == scores["covering_per_image"].shape == (2,)


def test_boundaries_of_partitions():
    labels = np.zeros((6, 7), int)
    labels[:, 3:] = 4
    boundaries = partition_boundaries(labels)
    assert np.flatnonzero(boundaries.all(axis=0)).tolist() == [2]
    assert boundaries.sum() == 6
    assert np.flatnonzero(partition_boundaries(labels.T).all(axis=1)).tolist() == [2]
    labels[:2, 3:] = -1  # nobody knows whether there is a boundary
    # The last row of known pixels is also below the pixel before it.
    assert np.argwhere(partition_boundaries(labels)).tolist() == [[y, 2] for y in range(1, 6)]
    assert not partition_boundaries(np.full((4, 5), 7)).any()


# --- errors --------------------------------------------------------------------------------


def test_bad_input():
    contours, truth = np.zeros((6, 8)), np.zeros((6, 8), int)
    with pytest.raises(ValueError, match=r"boundary_counts: contours has shape \(6, 7\).*\(6, 8\)"):
        boundary_counts(contours[:, 1:], truth)
    with pytest.raises(ValueError, match="pass double_sized=True"):
        boundary_counts(np.zeros((13, 17)), truth)
    with pytest.raises(ValueError, match=r"contours holds 1\.5, expected values from 0 to 1"):
        boundary_counts(contours + 1.5, truth)
    with pytest.raises(ValueError, match="contours holds nan"):
        boundary_counts(contours * np.nan, truth)
    with pytest.raises(TypeError, match=r"contours is int64.*pass \[contours\]"):
        boundary_counts(truth, truth)
    with pytest.raises(TypeError, match=r"contours\[0\] has dtype float64"):
        boundary_counts([contours], truth)
    with pytest.raises(ValueError, match=r"contours\[1\] has shape \(5, 8\)"):
        boundary_counts([truth, truth[1:]], truth)
    with pytest.raises(ValueError, match="annotations is empty"):
        boundary_counts(contours, [])
    with pytest.raises(ValueError, match=r"annotations\[1\] has \(5, 8\)"):
        boundary_counts(contours, [truth, truth[1:]])
    with pytest.raises(ValueError, match="levels are scored on images"):
        boundary_counts(contours, truth[None])
    with pytest.raises(ValueError, match="thresholds is 0"):
        boundary_counts(contours, truth, thresholds=0)
    with pytest.raises(ValueError, match="max_distance"):
        boundary_counts(contours, truth, max_distance=-0.1)
    with pytest.raises(ValueError, match=r"max_distance is 1e[+]300, expected .* from 0 to 1"):
        boundary_counts(contours, truth, max_distance=1e300)
    with pytest.raises(ValueError, match=r"max_distance is 4\.3, expected .* from 0 to 1"):
        evaluate_hierarchies([contours], [truth], max_distance=4.3)
    with pytest.raises(TypeError, match="boundary_scores: contours is a ndarray"):
        boundary_scores(contours, [truth])
    with pytest.raises(ValueError, match="got 1 contours and annotations of 2 images"):
        boundary_scores([contours], [truth, truth])
    with pytest.raises(ValueError, match="counts is empty"):
        boundary_scores_from_counts([])
    with pytest.raises(ValueError, match=r"counts\[1\] has 2 levels"):
        boundary_scores_from_counts(
            [counts_of([1], 2, [1], [1]), counts_of([1, 1], 2, [1, 1], [1, 1])]
        )
    with pytest.raises(ValueError, match="evaluate_hierarchies: ucms holds 2"):
        evaluate_hierarchies([contours + 2], [truth])
    with pytest.raises(ValueError, match=r"partition_boundaries: labels has shape \(8,\)"):
        partition_boundaries(truth[0])
