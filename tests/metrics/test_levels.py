"""Scores of regions over levels: the official self-test, and level by level by other code."""

import numpy as np
import pytest
from scipy import ndimage
from scipy.io import loadmat
from skimage import data

from segalgos.metrics import (
    best_overlaps,
    contingency_table,
    level_counts,
    level_scores,
    level_scores_from_counts,
    partition_boundaries,
    region_scores,
)
from segalgos.metrics.contingency import merge_labels, rank_ids
from segalgos.metrics.levels import connect, level_thresholds


@pytest.mark.parametrize(
    ("test", "form"), [("test_1", "ucm2"), ("test_4", "segs"), ("test_5", "segs")]
)
def test_official_figures(bsds_selftest_root, test, form):
    maps, truths = [], []
    for path in sorted((bsds_selftest_root / form).glob("*.mat")):
        found = loadmat(path)[form]
        maps.append(found if form == "ucm2" else [c.astype(int) - 1 for c in found.ravel()])
        cells = loadmat(bsds_selftest_root / "groundTruth" / path.name)["groundTruth"].ravel()
        truths.append([cell["Segmentation"][0, 0].astype(int) - 1 for cell in cells])
    scores = level_scores(maps, truths, thresholds=5, double_sized=form == "ucm2")

    def compare(values, name):
        expected = np.loadtxt(bsds_selftest_root / test / f"{name}.txt")
        np.testing.assert_allclose(values, expected, rtol=1e-5)

    names = ("covering_threshold", "covering_ods", "covering_ois", "covering_best")
    compare([scores[name] for name in names], "eval_cover")
    compare(np.transpose([scores["thresholds"], scores["covering"]]), "eval_cover_th")
    names = ("covering_threshold", "covering", "found_covering")
    images = np.transpose([scores[f"{name}_per_image"] for name in names])
    compare(np.column_stack([np.arange(1, 6), images]), "eval_cover_img")
    names = ("threshold", "ods", "ois")
    compare([scores[f"{kind}_{name}"] for kind in ("pri", "voi") for name in names], "eval_RI_VOI")
    names = ("thresholds", "probabilistic_rand_index", "variation_of_information")
    compare(np.transpose([scores[name] for name in names]), "eval_RI_VOI_thr")


def random_ucm(rng, shape):
    """A double-sized map of levels that need not be ultrametric, closed at its pixels."""
    ucm = np.round(rng.random([2 * size + 1 for size in shape]), 1)
    ucm[1::2, 1::2] = 0
    return ucm


def regions_at(ucm, threshold):
    labels = ndimage.label(ucm <= threshold, np.ones((3, 3)))[0]
    return labels[1::2, 1::2] - 1


def check_levels(counts, partitions, truths):
    best = [np.zeros(contingency_table(t, t).truth_ids.size) for t in truths]
    for i, labels in enumerate(partitions):
        scores = region_scores(labels, truths)
        for name in ("probabilistic_rand_index", "variation_of_information"):
            value = getattr(counts, name.removeprefix("probabilistic_"))[i]
            assert value == pytest.approx(scores[name], abs=1e-12)
        covered, back = 0, {}
        for own, truth in zip(best, truths):
            tables = contingency_table(np.where(labels < 0, labels.max() + 1, labels), truth)
            ious = np.where(tables.label_ids[tables.rows] > labels.max(), 0, tables.pair_ious())
            overlaps = np.zeros(own.size)
            np.maximum.at(overlaps, tables.columns, ious)
            np.maximum(own, overlaps, out=own)
            covered += tables.truth_sizes @ overlaps
            for row, iou in zip(tables.label_ids[tables.rows], ious):
                back[row] = max(iou, back.get(row, 0))
        assert counts.covered[i] == pytest.approx(covered)
        sizes = {k: (labels == k).sum() for k in back if k <= labels.max()}
        assert counts.found_covered[i] == pytest.approx(sum(sizes[k] * back[k] for k in sizes))
        assert counts.found_area[i] == sum(sizes.values())
    sizes = [contingency_table(t, t).truth_sizes for t in truths]
    assert counts.covered_best == pytest.approx(sum(s @ b for s, b in zip(sizes, best)))
    assert counts.area == sum(s.sum() for s in sizes)


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("open_pixels", [True, False])
def test_double_sized_maps_level_by_level(seed, open_pixels):
    rng = np.random.default_rng(seed)
    shape = tuple(rng.integers(1, 14, 2))
    ucm = random_ucm(rng, shape)
    if not open_pixels:  # pixels above thresholds are in no region there
        ucm[1::2, 1::2] = np.round(rng.random(shape), 1)
    truths = [rng.integers(0, 4, shape) for _ in range(2)]
    counts = level_counts(ucm, truths, thresholds=7, double_sized=True)
    check_levels(counts, [regions_at(ucm, t) for t in counts.thresholds], truths)


def test_label_maps_level_by_level():
    rng = np.random.default_rng(0)
    truths = [rng.integers(0, 5, (20, 30)) for _ in range(3)]
    partitions = [rng.integers(-1, n, (20, 30)) for n in (2, 9, 400)]
    check_levels(level_counts(partitions, truths), partitions, truths)
    far = [np.where(p < 0, p, 10**12 + 7 * p) for p in partitions]
    for one, other in zip(level_counts(far, truths), level_counts(partitions, truths)):
        np.testing.assert_allclose(one, other)


def test_lines_of_maps_that_are_not_double_sized():
    image = ndimage.gaussian_filter(data.coins().astype(float), 3)
    labels = ndimage.label(image > 110)[0]
    for k in np.unique(labels):  # no part so thin that it is nothing but line
        if ndimage.binary_opening(labels == k, np.ones((3, 3))).sum() < 50:
            labels[labels == k] = 0
    edges = np.zeros(labels.shape, bool)
    edges[:-1, :-1] = (labels[:-1, :-1] != labels[1:, :-1]) | (labels[:-1, :-1] != labels[:-1, 1:])
    contours = np.where(edges | partition_boundaries(labels), 0.5, 0.0)
    parts, regions = connect(contours, level_thresholds(9), False)
    scores = region_scores(regions[0][parts], labels)
    assert scores["covering"] > 0.98
    assert parts.min() == 0
    assert np.unique(regions[-1]).size == 1
    # Straight lines are where they were.
    labels = np.zeros((30, 40), int)
    labels[12:] = 1
    labels[12:, 17:] = 2
    contours = np.where(partition_boundaries(labels), 0.25, 0.0)
    scores = level_scores([contours], [labels])
    assert scores["covering_ods"] == scores["pri_ods"] == 1
    assert scores["voi_ods"] == 0
    assert scores["covering_threshold"] == 0.01
    counts = level_counts(contours, labels, thresholds=3)  # .25 is still joined at .25
    np.testing.assert_allclose(counts.rand_index[0], counts.rand_index[2])


def test_maps_of_nothing_but_lines():
    truth = np.arange(12).reshape(3, 4) // 6
    single = level_counts(np.ones((3, 4)), truth, thresholds=4)
    assert single.covered.tolist() == [6 / 12 * 12] * 4
    double = level_counts(np.full((7, 9), np.inf), truth, thresholds=4, double_sized=True)
    assert double.covered.tolist() == [0] * 4
    assert double.found_area.tolist() == [0] * 4
    np.testing.assert_allclose(double.rand_index, single.rand_index)


def test_scores_from_counts_by_hand():
    coarse, fine = np.array([[0, 0, 0, 0]]), np.array([[0, 0, 1, 2]])
    truth = np.array([[0, 0, 1, 1]])
    scores = level_scores([[fine, coarse], [coarse, fine]], [[truth], [truth, coarse]])
    # Covered pixels: 3 and 2 of 4; 2 + 4 and 3 + 2 of 8.
    np.testing.assert_allclose(scores["covering"], [9 / 12, 7 / 12])
    assert scores["covering_ods"] == scores["covering_ois"] == 9 / 12
    assert scores["covering_best"] == pytest.approx((3 + 3 + 4) / 12)
    assert scores["covering_threshold"] == 1
    np.testing.assert_allclose(scores["covering_per_image"], [3 / 4, 6 / 8])
    rand = [[5 / 6, 1 / 3], [(1 / 3 + 1) / 2, (5 / 6 + 1 / 6) / 2]]
    np.testing.assert_allclose(scores["probabilistic_rand_index"], np.mean(rand, axis=0))
    assert scores["pri_ois"] == pytest.approx((5 / 6 + 2 / 3) / 2)
    voi = [[0.5, 1.0], [0.5, (0.5 + 1.5) / 2]]
    np.testing.assert_allclose(scores["variation_of_information"], np.mean(voi, axis=0))
    assert (scores["voi_ods"], scores["voi_threshold"]) == (0.5, 1)


def test_nothing_is_known():
    scores = level_scores([[np.zeros((3, 4), int)]], [np.full((3, 4), -1)])
    for name in ("covering_ods", "covering_ois", "covering_best", "pri_ods", "voi_ois"):
        assert np.isnan(scores[name]), name


@pytest.mark.parametrize("seed", range(20))
def test_merged_labels(seed):
    rng = np.random.default_rng(seed)
    labels = rng.integers(-1, rng.integers(1, 3000), (40, 50))
    truth = rng.integers(-1, rng.integers(1, 60), (40, 50))
    new = rng.integers(-1, rng.integers(1, 2000) * (1 if seed % 2 else 10**6), labels.max() + 2)
    table = contingency_table(labels, truth)
    merged = merge_labels(table, new[table.label_ids])
    expected = contingency_table(new[labels], truth)
    for name in ("label_ids", "truth_ids", "rows", "columns", "counts"):
        np.testing.assert_array_equal(getattr(merged, name), getattr(expected, name))
    np.testing.assert_allclose(best_overlaps(merged), best_overlaps(expected))


def test_ranks():
    for ids in ([3, -1, 3, 0], [10**15, 4, 10**15], [], [-1]):
        different, ranks = rank_ids(np.array(ids, np.int64))
        expected = np.unique(np.array(ids, np.int64), return_inverse=True)
        np.testing.assert_array_equal(different, expected[0])
        np.testing.assert_array_equal(ranks, expected[1])


def test_bad_input():
    truth = np.zeros((6, 8), int)
    with pytest.raises(ValueError, match=r"level_counts: hierarchy has shape .*double_sized=True"):
        level_counts(np.zeros((13, 17)), truth)
    with pytest.raises(TypeError, match="level_scores: hierarchies is a ndarray"):
        level_scores(np.zeros((6, 8)), [truth])
    with pytest.raises(ValueError, match="counts is empty"):
        level_scores_from_counts([])
    one, other = level_counts([truth], truth), level_counts([truth, truth], truth)
    with pytest.raises(ValueError, match=r"counts\[1\] has 2 levels up to 2, counts\[0\] has 1"):
        level_scores_from_counts([one, other])
