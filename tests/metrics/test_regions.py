from itertools import combinations

import numpy as np
import pytest
from scipy.io import loadmat
from skimage.metrics import variation_of_information
from sklearn.metrics import adjusted_rand_score, rand_score

from segalgos.metrics import (
    best_class_labels,
    best_overlaps,
    contingency_table,
    region_scores,
    region_scores_from_tables,
)

NAMES = [
    "covering",
    "probabilistic_rand_index",
    "variation_of_information",
    "voi_oversegmentation",
    "voi_undersegmentation",
    "adjusted_rand_index",
]


def random_partitions(seed, shape=(30, 40)):
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, rng.integers(1, 12), shape)
    noise = rng.integers(0, rng.integers(1, 20), shape)
    return np.where(rng.random(shape) < rng.random(), truth, noise), truth


@pytest.mark.parametrize("seed", range(50))
def test_equals_sklearn_and_skimage(seed):
    labels, truth = random_partitions(seed)
    scores = region_scores(labels, truth)
    flat = truth.ravel(), labels.ravel()
    assert scores["adjusted_rand_index"] == pytest.approx(adjusted_rand_score(*flat), abs=1e-13)
    assert scores["probabilistic_rand_index"] == pytest.approx(rand_score(*flat), abs=1e-13)
    over, under = variation_of_information(truth, labels)  # also in bits
    assert scores["voi_oversegmentation"] == pytest.approx(over, abs=1e-12)
    assert scores["voi_undersegmentation"] == pytest.approx(under, abs=1e-12)
    assert scores["variation_of_information"] == pytest.approx(over + under, abs=1e-12)
    assert scores["n_regions"] == np.unique(labels).size


def brute_force(labels, truth):
    """All scores from pairs of pixels and from masks, one annotator."""
    labels, truth = labels[truth != -1], truth[truth != -1]
    n = labels.size
    pairs = [(labels[i] == labels[j], truth[i] == truth[j]) for i, j in combinations(range(n), 2)]
    both, first, second = (
        sum(a and b for a, b in pairs),
        sum(a for a, _ in pairs),
        sum(b for _, b in pairs),
    )
    expected = first * second / len(pairs)
    most = (first + second) / 2
    covering = 0.0
    for t in np.unique(truth):
        ious = [
            ((labels == k) & (truth == t)).sum() / ((labels == k) | (truth == t)).sum()
            for k in np.unique(labels)
        ]
        covering += (truth == t).sum() / n * max(ious)

    def entropy(*maps):
        counts = np.unique(np.stack(maps), axis=1, return_counts=True)[1]
        return -(counts / n * np.log2(counts / n)).sum()

    over = entropy(labels, truth) - entropy(truth)
    under = entropy(labels, truth) - entropy(labels)
    return {
        "covering": covering,
        "probabilistic_rand_index": sum(a == b for a, b in pairs) / len(pairs),
        "variation_of_information": over + under,
        "voi_oversegmentation": over,
        "voi_undersegmentation": under,
        "adjusted_rand_index": (both - expected) / (most - expected) if most != expected else 1.0,
        "n_regions": np.unique(labels).size,
    }


@pytest.mark.parametrize("seed", range(30))
def test_equals_brute_force_with_ignored_and_unlabelled_pixels(seed):
    rng = np.random.default_rng(seed)
    labels = rng.integers(-1, 4, (4, 6))
    truth = rng.integers(-1, 3, (4, 6))
    truth[0, :2] = 0
    scores = region_scores(labels, truth)
    expected = brute_force(labels, truth)
    assert scores.keys() == expected.keys()
    for name, value in expected.items():
        assert scores[name] == pytest.approx(value, abs=1e-12), name


def test_several_annotators():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 6, (20, 30))
    annotations = [rng.integers(0, n, (20, 30)) for n in (2, 5, 9)]
    annotations[1][:10] = -1  # half the pixels: half the weight in the covering
    each = [region_scores(labels, annotation) for annotation in annotations]
    scores = region_scores(labels, annotations)
    for name in NAMES[1:]:
        assert scores[name] == pytest.approx(np.mean([one[name] for one in each])), name
    covering = np.average([one["covering"] for one in each], weights=[2, 1, 2])
    assert scores["covering"] == pytest.approx(covering)
    tables = [contingency_table(labels, annotation) for annotation in annotations]
    assert region_scores_from_tables(tables) == scores


def test_over_and_undersegmentation_are_told_apart():
    coarse = np.array([[0, 0, 0, 0]])
    fine = np.array([[0, 0, 1, 1]])
    split, merged = region_scores(fine, coarse), region_scores(coarse, fine)
    assert (split["voi_oversegmentation"], split["voi_undersegmentation"]) == (1, 0)
    assert (merged["voi_oversegmentation"], merged["voi_undersegmentation"]) == (0, 1)


def test_equal_partitions_are_perfect():
    for truth in (np.arange(12).reshape(3, 4), np.zeros((3, 4), int), np.eye(4, dtype=int)):
        scores = region_scores(7 * truth + 3, truth)
        assert [scores[name] for name in NAMES] == [1, 1, 0, 0, 0, 1]


def test_undefined_is_nan_and_left_out():
    labels = np.zeros((3, 4), int)
    ignored = np.full((3, 4), -1)
    scores = region_scores(labels, ignored)
    assert np.isnan([scores[name] for name in NAMES]).all()
    assert scores["n_regions"] == 0
    truth = np.arange(12).reshape(3, 4) // 6
    assert region_scores(labels, [truth, ignored]) == region_scores(labels, truth)
    single = region_scores(np.array([[0]]), np.array([[0]]))
    assert np.isnan([single["probabilistic_rand_index"], single["adjusted_rand_index"]]).all()
    assert single["covering"] == 1


def test_large_maps_do_not_overflow():
    # Products of pair counts pass 2**63 here.
    rng = np.random.default_rng(5)
    truth = rng.integers(0, 3, (600, 700))
    labels = np.where(rng.random(truth.shape) < 0.9, truth, rng.integers(0, 3, truth.shape))
    expected = adjusted_rand_score(truth.ravel(), labels.ravel())
    assert region_scores(labels, truth)["adjusted_rand_index"] == pytest.approx(expected, rel=1e-12)


def test_best_overlaps():
    table = contingency_table([[0, 0, 1, 1]], [[0, 0, 0, 5]])
    np.testing.assert_array_equal(best_overlaps(table), [2 / 3, 1 / 2])


def test_best_class_labels():
    labels = np.array([[0, 0, 0, 1, 1, 2, -1]])
    truth = np.array([[2, 2, 1, 3, 1, -1, 4]])
    best = best_class_labels(labels, truth)
    np.testing.assert_array_equal(best, [[2, 2, 2, 1, 1, -1, -1]])
    assert best.dtype == np.int32
    np.testing.assert_array_equal(best_class_labels(labels, 0 * truth - 1), 0 * best - 1)
    gappy = np.where(labels > 0, labels * 10**12, labels)
    np.testing.assert_array_equal(best_class_labels(gappy, truth), best)
    unsigned = np.abs(labels).astype(np.uint64)  # the last pixel joins region 1: a 3-way tie
    np.testing.assert_array_equal(best_class_labels(unsigned, truth), [[2, 2, 2, 1, 1, -1, 1]])


@pytest.mark.parametrize("scale", [1, 10**9])
def test_best_class_labels_equals_brute_force(scale):
    rng = np.random.default_rng(6)
    labels, truth = rng.integers(-1, 30, (15, 20)), rng.integers(-1, 4, (15, 20))
    expected = np.full(labels.shape, -1)
    for k in range(30):
        votes = truth[(labels == k) & (truth >= 0)]
        if votes.size:
            expected[labels == k] = np.bincount(votes).argmax()
    labels[labels > 0] *= scale
    np.testing.assert_array_equal(best_class_labels(labels, truth), expected)


def test_bad_input():
    zeros = np.zeros((3, 4), int)
    with pytest.raises(ValueError, match="region_scores: annotations is empty"):
        region_scores(zeros, [])
    with pytest.raises(ValueError, match=r"labels has shape \(3, 4\), annotations\[1\] has \(4, 3"):
        region_scores(zeros, [zeros, zeros.T])
    with pytest.raises(TypeError, match="region_scores: labels has dtype float64"):
        region_scores(zeros / 2, zeros)
    with pytest.raises(ValueError, match="tables is empty"):
        region_scores_from_tables([])
    with pytest.raises(ValueError, match="best_class_labels: labels has shape"):
        best_class_labels(zeros, zeros.T)
    with pytest.raises(ValueError, match="class 4294967296"):
        best_class_labels(zeros, zeros + 2**32)


# --- the BSDS500 benchmark's own self-test -----------------------------------------------


@pytest.fixture(scope="module")
def selftest(bsds_selftest_root):
    """Tables [image][scale][annotator] both ways round, images in the benchmark's order."""
    covering, reverse = [], []
    # MATLAB's dir lists in the order of the names, and so does the benchmark's per-image table.
    for path in sorted((bsds_selftest_root / "segs").glob("*.mat")):
        scales = loadmat(path)["segs"].ravel()
        cells = loadmat(bsds_selftest_root / "groundTruth" / path.name)["groundTruth"].ravel()
        annotations = [cell["Segmentation"][0, 0] for cell in cells]
        covering.append([[contingency_table(s, a) for a in annotations] for s in scales])
        reverse.append([[contingency_table(a, s) for a in annotations] for s in scales])
    return covering, reverse


def read_figures(path):
    return [line.split() for line in path.read_text().splitlines()]


def figures(rows):
    """Print as the benchmark does, with %g."""
    return [[f"{value:g}" for value in row] for row in rows]


# The benchmark hands each image's figures on through text files of six digits.
as_in_file = np.vectorize(lambda value: float(f"{value:g}"), otypes=[float])


def test_bsds_rand_index_and_voi(selftest, bsds_selftest_root):
    tables, _ = selftest
    scores = [[region_scores_from_tables(scale) for scale in image] for image in tables]
    rand, voi = (
        as_in_file([[scale[name] for scale in image] for image in scores])
        for name in ("probabilistic_rand_index", "variation_of_information")
    )
    per_scale = np.stack([np.arange(1, 6), rand.mean(axis=0), voi.mean(axis=0)], axis=1)
    folder = bsds_selftest_root / "test_5"
    assert figures(per_scale) == read_figures(folder / "eval_RI_VOI_thr.txt")
    at_rand, at_voi = rand.mean(axis=0).argmax(), voi.mean(axis=0).argmin()
    summary = [
        *(at_rand + 1, rand.mean(axis=0).max(), rand.max(axis=1).mean()),
        *(at_voi + 1, voi.mean(axis=0).min(), voi.min(axis=1).mean()),
    ]
    assert figures([summary]) == read_figures(folder / "eval_RI_VOI.txt")


def test_bsds_covering(selftest, bsds_selftest_root):
    tables, reverse = selftest
    folder = bsds_selftest_root / "test_5"

    covered = as_in_file(  # (image, scale): area covered, over all annotators
        [
            [sum(t.truth_sizes @ best_overlaps(t) for t in scale) for scale in image]
            for image in tables
        ]
    )
    area = np.array([sum(t.n_pixels for t in image[0]) for image in tables])
    covering = np.array(
        [[region_scores_from_tables(scale)["covering"] for scale in image] for image in tables]
    )
    np.testing.assert_allclose(covering, covered / area[:, None], rtol=1e-5)
    covering = covered / area[:, None]

    per_scale = covered.sum(axis=0) / area.sum()
    assert figures(enumerate(per_scale, 1)) == read_figures(folder / "eval_cover_th.txt")

    best = sum(  # each annotated region at the scale that suits it best
        as_in_file(
            sum(
                scales[0].truth_sizes @ np.max([best_overlaps(t) for t in scales], axis=0)
                for scales in zip(*image)  # of one annotator
            )
        )
        for image in tables
    )
    ods = per_scale.argmax()
    summary = [ods + 1, per_scale[ods], covered.max(axis=1).sum() / area.sum(), best / area.sum()]
    assert figures([summary]) == read_figures(folder / "eval_cover.txt")

    # Per image: the best scale, its covering, and the covering of the partition by all annotators.
    rows = []
    for i, image in enumerate(reverse):
        scale = covering[i].argmax()
        regions = image[scale]
        back = regions[0].truth_sizes @ np.max([best_overlaps(t) for t in regions], axis=0)
        rows.append([i + 1, scale + 1, covering[i, scale], as_in_file(back) / regions[0].n_pixels])
    assert figures(rows) == read_figures(folder / "eval_cover_img.txt")
