"""Hierarchies of contours: merging by brute force, their promises, combination, the segmenter."""

import functools
import importlib.util

import numpy as np
import pytest
from scipy import ndimage

from segalgos import (
    Hierarchy,
    Prompts,
    UCMSegmenter,
    combine_hierarchies,
    contour_hierarchy,
    gradient_contours,
    oriented_watershed,
)
from segalgos.contours.ucm import CONTOURS

SIDES = ndimage.generate_binary_structure(2, 1)


def _strength(seed, shape=(15, 18)):
    rng = np.random.default_rng(seed)
    rough = rng.random((4, *shape)) if seed % 2 else rng.random(shape)
    mask = rng.random(shape) < 0.85 if seed % 3 == 0 else None
    return rough, mask


def _merge_by_brute_force(labels, contours):
    """Merge the pair with the weakest mean border again and again: (level, partition) each.

    Ties go to the border that holds the first of the borders there were at the beginning.
    """
    current = labels.copy()
    height, width = labels.shape
    steps, level = [], -np.inf
    while True:
        total, length, first = {}, {}, {}
        for r in range(height):
            for c in range(width):
                for r2, c2 in ((r, c + 1), (r + 1, c)):
                    if r2 < height and c2 < width:
                        a, b = sorted((current[r, c], current[r2, c2]))
                        if 0 <= a != b:
                            border = tuple(sorted((labels[r, c], labels[r2, c2])))
                            first[a, b] = min(first.get((a, b), border), border)
                            total[a, b] = total.get((a, b), 0) + contours[r + r2 + 1, c + c2 + 1]
                            length[a, b] = length.get((a, b), 0) + 1
        if not total:
            return steps
        mean, _, (a, b) = min((total[p] / length[p], first[p], p) for p in total)
        level = max(level, mean)
        current = np.where(current == b, a, current)
        steps.append((level, current))


def _same_partition(one, other):
    pairs = np.unique(np.stack([one.ravel(), other.ravel()]), axis=1)
    return len(np.unique(pairs[0])) == pairs.shape[1] == len(np.unique(pairs[1]))


@pytest.mark.parametrize("seed", range(12))
def test_merging_by_brute_force(seed):
    strength, mask = _strength(seed)
    arcs = oriented_watershed(strength, mask=mask)
    hierarchy = arcs.hierarchy()
    steps = _merge_by_brute_force(arcs.graph.labels, arcs.contours.astype(float))
    np.testing.assert_allclose(hierarchy.levels, [level for level, _ in steps], rtol=1e-9)
    for i, (_, partition) in enumerate(steps):
        cut = hierarchy.cut(n_segments=hierarchy.n_regions - i - 1)
        assert _same_partition(cut, partition)
    direct = contour_hierarchy(strength, mask=mask)
    np.testing.assert_array_equal(direct.levels, hierarchy.levels)


def _promises(hierarchy, mask=None):
    """Connected at every level, nested, an ultrametric, and equal to its own map."""
    regions = hierarchy.regions
    assert ((regions >= 0) == (True if mask is None else mask)).all()
    ucm = hierarchy.ucm()
    levels = [-1.0, 0.0, *np.unique(hierarchy.levels)[:: max(1, len(hierarchy.levels) // 12)], 1e9]
    before = regions
    for level in sorted(levels):
        cut = hierarchy.cut(level=level)
        assert ((cut >= 0) == (regions >= 0)).all()
        for finer in (regions, before):
            inside = regions >= 0
            pairs = np.unique(np.stack([finer[inside], cut[inside]]), axis=1)
            assert len(np.unique(pairs[0])) == pairs.shape[1]  # each lies in one region
        for i in range(cut.max() + 1):
            assert ndimage.label(cut == i, SIDES)[1] == 1
        if level >= 0:
            level32 = np.float32(level)  # as in the map
            parts, _ = ndimage.label(ucm <= level32)
            alike = hierarchy.levels.astype(np.float32) <= level32
            cut = hierarchy.cut(n_segments=hierarchy.n_regions - np.count_nonzero(alike))
            parts, cut = parts[1::2, 1::2][regions >= 0], cut[regions >= 0]
            assert _same_partition(parts, cut)
        before = hierarchy.cut(level=level)
    some = np.arange(hierarchy.n_regions)[:: max(1, hierarchy.n_regions // 40)]
    distance = hierarchy.merge_levels(*np.meshgrid(some, some, indexing="ij"))
    np.testing.assert_array_equal(distance, distance.T)
    assert (distance[:, :, None] <= np.maximum(distance[:, None, :], distance[None, :, :])).all()


@pytest.mark.parametrize("seed", range(12))
def test_promises_on_noise(seed):
    strength, mask = _strength(seed, (21, 26))
    _promises(contour_hierarchy(strength, mask=mask), mask)


def _image(kind):
    rng = np.random.default_rng(0)
    if kind == "constant":
        return np.full((9, 11, 3), 7, np.uint8)
    if kind == "row":
        return rng.random((1, 40))
    if kind == "column":
        return rng.random((40, 1))
    if kind == "pixel":
        return np.ones((1, 1))
    image = np.zeros((24, 30))
    image[4:12, 5:14], image[10:20, 16:26] = 0.4, 0.9
    if kind == "flat regions":
        return image
    if kind == "grey":
        return np.round(255 * image + rng.normal(0, 4, image.shape)).clip(0, 255).astype(np.uint8)
    n = {"colour": 3, "float colour": 3, "many channels": 7}[kind]
    image = image[..., None] * rng.random(n) + rng.normal(0, 0.02, (24, 30, n))
    return (image.clip(0, 1) * 255).astype(np.uint8) if kind == "colour" else image


KINDS = (
    "constant",
    "row",
    "column",
    "pixel",
    "flat regions",
    "grey",
    "colour",
    "float colour",
    "many channels",
)


@pytest.mark.parametrize("scales", [(1,), (1.0, 0.5), (2, 1, 0.4)])
@pytest.mark.parametrize("kind", KINDS)
def test_promises_on_images(kind, scales):
    image = _image(kind)
    axis = -1 if kind == "many channels" else "auto"
    segmenter = UCMSegmenter(scales=scales, channel_axis=axis)
    _promises(segmenter.hierarchy(image))
    mask = np.random.default_rng(1).random(image.shape[:2]) < 0.8
    mask[0, 0] = True
    _promises(segmenter.hierarchy(image, mask=mask), mask)


def test_flat_regions_are_found_exactly():
    image = _image("flat regions")
    labels = UCMSegmenter(functools.partial(gradient_contours, sigmas=[0]), n_segments=3)
    truth = np.unique(image, return_inverse=True)[1].reshape(image.shape)
    # Contours without smoothing are two pixels wide, so the outermost pixel may go either way.
    inner = np.stack([ndimage.binary_erosion(truth == i, border_value=1) for i in range(3)]).any(0)
    cut = labels.predict(image)
    assert _same_partition(cut[inner], truth[inner])
    assert _same_partition(UCMSegmenter(n_segments=3).predict(image)[inner], truth[inner])


# --- combination -------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(6))
def test_combined_with_itself_it_stays(seed):
    strength, mask = _strength(seed)
    hierarchy = contour_hierarchy(strength, mask=mask)
    same = combine_hierarchies([hierarchy, hierarchy, hierarchy], weights=[1, 2, 0.5])
    for n in range(hierarchy.n_regions - len(hierarchy.merges), hierarchy.n_regions + 1):
        np.testing.assert_array_equal(same.cut(n_segments=n), hierarchy.cut(n_segments=n))
    np.testing.assert_allclose(same.levels, hierarchy.levels)


def _stretched(regions, shape):
    rows = [int((r + 0.5) * regions.shape[0] / shape[0]) for r in range(shape[0])]
    columns = [int((c + 0.5) * regions.shape[1] / shape[1]) for c in range(shape[1])]
    return regions[rows][:, columns]


def _partners(regions, n, onto):
    """By counting: the region of `onto` that takes most of each region."""
    onto = _stretched(onto, regions.shape)
    out = []
    for i in range(n):
        ids, areas = np.unique(onto[(regions == i) & (onto >= 0)], return_counts=True)
        out.append(int(ids[areas.argmax()]) if len(ids) else -1)
    return out


@pytest.mark.parametrize("seed", range(6))
def test_combination_by_brute_force(seed):
    rng = np.random.default_rng(seed)
    first = contour_hierarchy(*_strength(seed, (20, 24))[:1])
    finer = contour_hierarchy(rng.random((31, 40)))
    mask = rng.random((13, 14)) < 0.7
    coarse = contour_hierarchy(rng.random((13, 14)), mask=mask)
    coarser = contour_hierarchy(rng.random((6, 7)))
    assert finer.n_regions > first.n_regions > coarse.n_regions > coarser.n_regions
    weights = rng.random(4) + 0.1
    combined = combine_hierarchies([first, coarser, finer, coarse], weights=weights)

    n = first.n_regions
    to_finer = _partners(first.regions, n, finer.regions)
    to_coarse = _partners(first.regions, n, coarse.regions)
    on = _partners(coarse.regions, coarse.n_regions, coarser.regions)
    to_coarser = [on[i] if i >= 0 else -1 for i in to_coarse]
    steps = ((first, list(range(n))), (coarser, to_coarser), (finer, to_finer), (coarse, to_coarse))
    contours = np.zeros(tuple(2 * s + 1 for s in first.regions.shape))
    height, width = first.regions.shape
    for r in range(height):
        for c in range(width):
            for r2, c2 in ((r, c + 1), (r + 1, c)):
                if r2 >= height or c2 >= width or first.regions[r, c] == first.regions[r2, c2]:
                    continue
                total = count = 0.0
                for (hierarchy, partner), weight in zip(steps, weights, strict=True):
                    a, b = partner[first.regions[r, c]], partner[first.regions[r2, c2]]
                    if a >= 0 and b >= 0:
                        level = min(hierarchy.merge_levels(a, b), hierarchy.levels[-1])
                        total, count = total + weight * level, count + weight
                contours[r + r2 + 1, c + c2 + 1] = total / count
    expected = _merge_by_brute_force(first.regions, contours)
    np.testing.assert_allclose(combined.levels, [level for level, _ in expected], rtol=1e-9)
    np.testing.assert_array_equal(combined.regions, first.regions)
    _promises(combined)


@pytest.mark.parametrize(
    ("hierarchies", "weights", "error", "words"),
    [
        ([], None, ValueError, "hierarchies is empty"),
        ([3], None, TypeError, r"hierarchies\[0\] is a int"),
        (1, [1, 1], ValueError, r"weights is \[1\.0, 1\.0\], expected 1 finite numbers"),
        (1, [0], ValueError, r"weights is \[0\.0\]"),
        (3, None, ValueError, r"hierarchies\[0\] is of a volume \(1, 1, 2\)"),
    ],
)
def test_bad_combinations(hierarchies, weights, error, words):
    if hierarchies == 1:
        hierarchies = [Hierarchy(np.array([[0, 1]]), [[0, 1]], [1.0])]
    elif hierarchies == 3:
        hierarchies = [Hierarchy(np.array([[[0, 1]]]), [[0, 1]], [1.0])]
    with pytest.raises(error, match="combine_hierarchies: " + words):
        combine_hierarchies(hierarchies, weights=weights)


# --- the segmenter -----------------------------------------------------------------------


def test_ways_to_cut():
    image = _image("colour")
    hierarchy = UCMSegmenter().hierarchy(image)
    for cut in ({"n_segments": 5}, {"level": 9.0}, {"min_area": 30}):
        found = UCMSegmenter(**cut).predict(image)
        np.testing.assert_array_equal(found, hierarchy.cut(**cut))
    np.testing.assert_array_equal(UCMSegmenter().predict(image), hierarchy.cut(level=16.0))
    assert UCMSegmenter(n_segments=10**6).predict(image).max() + 1 == hierarchy.n_regions
    mask = np.ones(image.shape[:2], bool)
    mask[:, 15] = False
    assert UCMSegmenter(n_segments=1).predict(image, mask=mask).max() + 1 == 2


def test_hierarchies_of_many_images():
    images = [_image("colour"), _image("flat regions")]
    images[1] = np.stack([images[1]] * 3, axis=-1)
    segmenter = UCMSegmenter().fit(images)
    before = dict(vars(segmenter))
    many = segmenter.hierarchy(images, mask=[np.ones((24, 30), bool)] * 2)
    assert [type(h) for h in many] == [Hierarchy, Hierarchy]
    assert vars(segmenter) == before
    np.testing.assert_allclose(many[1].levels, segmenter.hierarchy(images[1]).levels, rtol=1e-5)


def test_scribbles_of_prompts():
    image = _image("grey")
    scribbles = np.full(image.shape, -1)
    scribbles[8, 8:10], scribbles[15, 18:22], scribbles[1, 3:28] = 4, 2, 9
    labels = UCMSegmenter().predict(image, prompts=Prompts(scribbles=scribbles))
    assert set(np.unique(labels)) == {2, 4, 9}
    truth = np.full(image.shape, 9)
    truth[4:12, 5:14], truth[10:20, 16:26] = 4, 2
    assert (labels == truth).mean() > 0.95


@pytest.mark.parametrize("name", ["mpb", "structured_forest"])
def test_known_contours_are_smoothed(name):
    image = _image("colour")
    source = CONTOURS[name]
    strength = source.load()(image)
    sigmas = (0,) * (strength.ndim - 2) + (source.sigma,) * 2
    smooth = ndimage.gaussian_filter(strength.astype(float), sigmas)
    found, expected = UCMSegmenter(name).hierarchy(image), contour_hierarchy(smooth)
    assert _same_partition(found.regions, expected.regions)
    np.testing.assert_allclose(found.levels, expected.levels, rtol=1e-4)


def test_own_contours():
    def step(image):
        assert image.shape == (24, 30, 1)
        return np.abs(np.diff(image[..., 0].astype(float), axis=1, prepend=0))

    image = _image("grey")
    labels = UCMSegmenter(step, n_segments=4).predict(image)
    strength = np.abs(np.diff(image.astype(float), axis=1, prepend=0))
    np.testing.assert_array_equal(labels, contour_hierarchy(strength).cut(n_segments=4))


@pytest.mark.parametrize(
    ("params", "words"),
    [
        ({"contours": "canny"}, "contours is 'canny', expected one of 'gradient', 'mpb'"),
        ({"contours": 3}, "contours is 3, expected one of 'gradient'"),
        ({"n_segments": 3, "level": 1.0}, "got n_segments and level, expected one of"),
        ({"contours": np.abs}, "contours is a function, .* pass n_segments, level or min_area"),
        ({"n_segments": 0}, "n_segments is 0"),
        ({"scales": (0.5,)}, r"scales is \(0\.5,\), expected numbers of which one is 1"),
        ({"scales": 1}, "scales is 1, expected numbers"),
        ({"scales": (1, 0)}, r"scales\[1\] is 0"),
        ({"tolerance": -1}, "tolerance is -1"),
        ({"data_range": 0}, "data_range is 0"),
        (
            {"contours": lambda image: image[1:, :, 0], "level": 1.0},
            r"contours gave a strength of shape \(3, 5\) for an image of \(4, 5\)",
        ),
    ],
)
def test_bad_parameters(params, words):
    with pytest.raises(ValueError, match="UCMSegmenter: " + words):
        UCMSegmenter(**params).predict(np.zeros((4, 5)))


@pytest.mark.skipif(importlib.util.find_spec("higra") is None, reason="higra is not installed")
@pytest.mark.parametrize("seed", range(3))
def test_merging_equals_higra(seed):
    import higra

    rng = np.random.default_rng(seed)
    graph = oriented_watershed(rng.random((60, 70))).graph
    pairs, entries = graph.edges()
    weight = np.zeros(len(graph.indices))
    weight[entries] = rng.random(len(pairs))  # no ties, which may be broken in many ways
    rows = np.repeat(np.arange(graph.n_regions), np.diff(graph.indptr))
    weight += weight[np.lexsort((rows, graph.indices))]  # from the other side
    ours = graph.hierarchy(weight=weight).merge_levels(pairs[:, 0], pairs[:, 1])

    bare = higra.UndirectedGraph(graph.n_regions)
    bare.add_edges(pairs[:, 0], pairs[:, 1])
    tree, altitudes = higra.binary_partition_tree_average_linkage(
        bare, weight[entries], graph.length[entries].astype(float)
    )
    altitudes = np.maximum.accumulate(altitudes)  # in the order of merging
    theirs = altitudes[tree.lowest_common_ancestor(pairs[:, 0], pairs[:, 1])]
    np.testing.assert_allclose(ours, theirs, rtol=1e-9)
