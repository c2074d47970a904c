"""Hierarchies: cuts and contour maps against brute force."""

import numpy as np
import pytest
from scipy import ndimage

from segalgos import Hierarchy


def _random_hierarchy(seed, shape=(9, 11), masked=True):
    """Connected base regions, merged at random along their borders; levels are eighths."""
    rng = np.random.default_rng(seed)
    noise = ndimage.uniform_filter(rng.random(shape), 3)
    coarse = (noise * 12).astype(int)
    regions = np.full(shape, -1, np.int32)
    n = 0
    for value in np.unique(coarse):
        parts, count = ndimage.label(coarse == value)
        regions[parts > 0] = parts[parts > 0] - 1 + n
        n += count
    if masked:
        regions[regions == rng.integers(n)] = -1
        ids = np.unique(regions[regions >= 0])
        regions[regions >= 0] = np.searchsorted(ids, regions[regions >= 0])
        n = len(ids)
    node = np.arange(n)
    merges = []
    for _ in range(rng.integers(n)):
        current = np.where(regions >= 0, node[regions], -1)
        a = np.concatenate([current[:, :-1].ravel(), current[:-1].ravel()])
        b = np.concatenate([current[:, 1:].ravel(), current[1:].ravel()])
        pairs = np.unique(np.stack([a, b])[:, (a != b) & (a >= 0) & (b >= 0)], axis=1)
        if pairs.shape[1] == 0:
            break
        pair = pairs[:, rng.integers(pairs.shape[1])]
        node[np.isin(node, pair)] = n + len(merges)
        merges.append(pair)
    levels = np.sort(rng.integers(0, 20, len(merges))) / 8
    return Hierarchy(regions, np.array(merges, int).reshape(-1, 2), levels)


def _leaves(hierarchy):
    """Set of base regions under every node."""
    sets = [{i} for i in range(hierarchy.n_regions)]
    for a, b in hierarchy.merges:
        sets.append(sets[a] | sets[b])
    return sets


def _partition(hierarchy, merged):
    """Label map in which the nodes of `merged` are joined, by sets and loops."""
    leaves = _leaves(hierarchy)
    groups = [{i} for i in range(hierarchy.n_regions)]
    for node in merged:
        joined = leaves[node]
        groups = [g for g in groups if not g <= joined] + [joined]
    out = np.full(hierarchy.regions.shape, -1)
    for i, group in enumerate(sorted(groups, key=min)):
        out[np.isin(hierarchy.regions, list(group))] = i
    return out


SEEDS = range(25)


@pytest.mark.parametrize("seed", SEEDS)
def test_cut_by_level(seed):
    tree = _random_hierarchy(seed)
    n = tree.n_regions
    for level in (-1, 0, 0.5, 1.25, 1.3, 99, *tree.levels[:3]):
        merged = [n + i for i, own in enumerate(tree.levels) if own <= level]
        cut = tree.cut(level=level)
        np.testing.assert_array_equal(cut, _partition(tree, merged))
        assert cut.dtype == np.int32


@pytest.mark.parametrize("seed", SEEDS)
def test_cut_by_number(seed):
    tree = _random_hierarchy(seed)
    n, m = tree.n_regions, len(tree.merges)
    for k in range(n - m, n + 1):
        cut = tree.cut(n_segments=k)
        assert cut.max() + 1 == k
        np.testing.assert_array_equal(cut, _partition(tree, range(n, n + n - k)))
    for k in (n - m - 1, n + 1):
        with pytest.raises(ValueError, match=f"n_segments={k}, this hierarchy has {n - m} to {n}"):
            tree.cut(n_segments=k)


@pytest.mark.parametrize("seed", SEEDS)
def test_cut_by_area(seed):
    tree = _random_hierarchy(seed)
    n, leaves = tree.n_regions, _leaves(tree)
    area = [int(np.isin(tree.regions, list(group)).sum()) for group in leaves]
    roots = set(range(len(leaves))) - set(tree.merges.ravel().tolist())
    for least in (0, 1, 3, 7, 20, 1000):
        needed = [n + i for i, pair in enumerate(tree.merges) if min(area[j] for j in pair) < least]
        cut = tree.cut(min_area=least)
        np.testing.assert_array_equal(cut, _partition(tree, needed))
        # What is still too small had nothing left to merge with.
        for i in range(cut.max() + 1):
            if (cut == i).sum() < least:
                group = set(np.unique(tree.regions[cut == i]).tolist())
                assert any(leaves[root] == group for root in roots)


@pytest.mark.parametrize("seed", SEEDS)
def test_ucm_by_brute_force(seed):
    tree = _random_hierarchy(seed)
    leaves = _leaves(tree)
    height, width = tree.regions.shape

    def level(a, b):
        if a == b:
            return 0
        for i, own in enumerate(tree.levels):  # the first node that holds both
            if {a, b} <= leaves[tree.n_regions + i]:
                return own
        return np.inf

    expected = np.zeros((2 * height + 1, 2 * width + 1))
    for r in range(height):
        for c in range(width):
            if c + 1 < width:
                expected[2 * r + 1, 2 * c + 2] = level(*tree.regions[r, c : c + 2])
            if r + 1 < height:
                expected[2 * r + 2, 2 * c + 1] = level(*tree.regions[r : r + 2, c])
    padded = np.pad(expected, 1)
    for r in range(0, 2 * height + 1, 2):
        for c in range(0, 2 * width + 1, 2):
            cross = padded[r, c + 1], padded[r + 2, c + 1], padded[r + 1, c], padded[r + 1, c + 2]
            expected[r, c] = max(cross)
    ucm = tree.ucm()
    assert ucm.dtype == np.float32
    np.testing.assert_array_equal(ucm, expected)


@pytest.mark.parametrize("seed", SEEDS)
def test_thresholded_ucm_is_the_cut(seed):
    tree = _random_hierarchy(seed)
    ucm = tree.ucm()
    for level in (0, 0.125, 0.5, 1, 2, 3):
        parts, _ = ndimage.label(ucm <= level)
        parts = parts[1::2, 1::2]
        cut = tree.cut(level=level)
        # Equal as partitions inside the mask: each pair of ids occurs once on either side.
        pairs = np.unique(np.stack([parts[cut >= 0], cut[cut >= 0]]), axis=1)
        assert len(np.unique(pairs[0])) == pairs.shape[1] == len(np.unique(pairs[1]))


@pytest.mark.parametrize("seed", SEEDS)
def test_merge_levels_are_an_ultrametric(seed):
    tree = _random_hierarchy(seed)
    n, leaves = tree.n_regions, _leaves(tree)
    first, second = np.meshgrid(np.arange(n), np.arange(n), indexing="ij")
    distance = tree.merge_levels(first, second)
    for a in range(n):
        for b in range(n):
            own = (lev for i, lev in enumerate(tree.levels) if {a, b} <= leaves[n + i])
            assert distance[a, b] == (0 if a == b else next(own, np.inf))
    over_third = np.maximum(distance[:, :, None], distance[None, :, :]).min(axis=1)
    assert (distance <= over_third).all()
    assert tree.merge_levels(0, n - 1) == distance[0, n - 1]


def test_merge_levels_of_no_region():
    with pytest.raises(ValueError, match=r"merge_levels: regions from 0 to 9, expected 0 to"):
        Hierarchy(np.array([[0, 1]]), [[0, 1]], [1.0]).merge_levels([0, 9], [1, 1])
    with pytest.raises(ValueError, match=r"merge_levels: second has shape \(1,\), expected \(2\)"):
        Hierarchy(np.array([[0, 1]]), [[0, 1]], [1.0]).merge_levels([0, 1], [1])


@pytest.mark.parametrize("seed", SEEDS)
def test_ucm_of_the_images_size(seed):
    tree = _random_hierarchy(seed)
    double = tree.ucm()
    ucm = tree.ucm(double_sized=False)
    assert ucm.shape == tree.regions.shape
    for r in range(ucm.shape[0]):
        for c in range(ucm.shape[1]):
            corner = double[2 * r + 1 : 2 * r + 4, 2 * c + 1 : 2 * c + 4]
            assert ucm[r, c] == corner.max()


def _labels_by_scribbles(tree, scribbles):
    """Climb from every base region to the lowest node that holds a scribble."""
    n = tree.n_regions
    own = []  # (label, votes) of every node, or None
    for region in range(n):
        drawn = scribbles[(tree.regions == region) & (scribbles >= 0)]
        ids, votes = np.unique(drawn, return_counts=True)
        own.append((ids[votes.argmax()], votes.max()) if len(ids) else None)
    parents = {}
    for i, (a, b) in enumerate(tree.merges):
        parents[a] = parents[b] = n + i
        one, other = own[a], own[b]
        if one is None or other is None:
            own.append(one or other)
        elif one[0] == other[0]:
            own.append((one[0], one[1] + other[1]))
        else:
            own.append(max(one, other, key=lambda pair: pair[1]))
    out = np.full(tree.regions.shape, -1)
    for region in range(n):
        node = region
        while own[node] is None and node in parents:
            node = parents[node]
        if own[node] is not None:
            out[tree.regions == region] = own[node][0]
    return out


@pytest.mark.parametrize("seed", SEEDS)
def test_cut_by_scribbles(seed):
    tree = _random_hierarchy(seed)
    rng = np.random.default_rng(seed)
    for share in (0, 0.02, 0.1, 0.5):
        labels = rng.choice([0, 3, 7, 2**31 - 1], tree.regions.shape)
        scribbles = np.where(rng.random(tree.regions.shape) < share, labels, -1)
        cut = tree.cut(scribbles=scribbles)
        np.testing.assert_array_equal(cut, _labels_by_scribbles(tree, scribbles))
        assert cut.dtype == np.int32


def test_scribbles_in_order():
    regions = np.array([[0, 0, 1, 2, 3, 4]])
    tree = Hierarchy(regions, [[0, 1], [2, 3], [5, 6]], [1, 2, 3])
    cut = tree.cut(scribbles=np.array([[5, -1, -1, -1, -1, -1]]))
    assert cut.tolist() == [[5, 5, 5, 5, 5, -1]]  # 4 never merges
    cut = tree.cut(scribbles=np.array([[-1, -1, 5, 6, -1, 7]]))
    assert cut.tolist() == [[5, 5, 5, 6, 6, 7]]
    cut = tree.cut(scribbles=np.array([[5, 5, 6, -1, -1, -1]]))
    assert cut.tolist() == [[5, 5, 6, 5, 5, -1]]  # two pixels against one


@pytest.mark.parametrize(
    ("scribbles", "error", "words"),
    [
        (np.zeros((1, 3), int), ValueError, r"Hierarchy\.cut: scribbles has shape \(1, 3\)"),
        (np.zeros((1, 2)), TypeError, r"Hierarchy\.cut: scribbles is float64"),
        (np.full((1, 2), -2), ValueError, r"Hierarchy\.cut: scribbles holds ids from -2"),
    ],
)
def test_bad_scribbles(scribbles, error, words):
    with pytest.raises(error, match=words):
        Hierarchy(np.array([[0, 1]]), [[0, 1]], [1.0]).cut(scribbles=scribbles)


def test_single_region_and_nothing():
    tree = Hierarchy(np.zeros((2, 3), int), np.zeros((0, 2), int), [])
    assert tree.cut(level=5).tolist() == [[0, 0, 0], [0, 0, 0]]
    assert (tree.ucm() == 0).all()
    nothing = Hierarchy(np.full((2, 3), -1), [], [])
    assert nothing.n_regions == 0
    assert (nothing.cut(min_area=3) == -1).all()


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"level": np.nan}, ValueError),
        ({"level": "high"}, TypeError),
        ({"level": [1, 2]}, TypeError),
        ({"n_segments": 2.5}, TypeError),
        ({"min_area": np.nan}, TypeError),
    ],
)
def test_cut_refuses_what_is_no_number(options, error):
    (name,) = options
    with pytest.raises(error, match=f"Hierarchy.cut: {name} is .*expected"):
        _random_hierarchy(0).cut(**options)


def test_cut_above_all_levels():
    hierarchy = _random_hierarchy(0)
    expected = hierarchy.cut(level=hierarchy.levels.max())
    np.testing.assert_array_equal(hierarchy.cut(level=np.inf), expected)


@pytest.mark.parametrize("options", [{}, {"level": 1, "n_segments": 1}])
def test_cut_needs_one_option(options):
    with pytest.raises(
        ValueError, match=r"expected exactly one of level, n_segments, min_area, scribbles"
    ):
        _random_hierarchy(0).cut(**options)


@pytest.mark.parametrize(
    ("regions", "merges", "levels", "words"),
    [
        ([0, 1], [[0, 1]], [1], r"regions has shape \(2,\)"),
        ([[0, 2]], [[0, 1]], [1], "other ids than 0..n-1"),
        ([[0, -2]], [], [], "other ids than 0..n-1"),
        ([[0, 1]], [[0, 2]], [1], "a node that does not exist"),
        ([[0, 1]], [[-1, 0]], [1], "a node that does not exist"),
        ([[0, 1]], [[0, 0]], [1], "merged twice"),
        ([[0, 1, 2]], [[0, 1], [1, 2]], [1, 2], "merged twice"),
        ([[0, 1, 2]], [[0, 1], [2, 3]], [2, 1], "levels fall"),
        ([[0, 1]], [[0, 1]], [np.nan], "levels holds NaN"),
        ([[0, 1]], [[0, 1]], [1, 2], r"levels has shape \(2,\)"),
        ([[0, 1]], [[0, 1, 2]], [1], r"merges has shape \(1, 3\)"),
    ],
)
def test_bad_hierarchies(regions, merges, levels, words):
    with pytest.raises(ValueError, match=words):
        Hierarchy(np.array(regions), merges, levels)
