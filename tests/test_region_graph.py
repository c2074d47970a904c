"""Region graphs and merging on them."""

import itertools

import networkx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from skimage import data
from skimage import graph as skimage_graph

from segalgos.clustering.slic import slic
from segalgos.parallel import thread_limit
from segalgos.region_graph import region_graph


def _brute_force(labels, image, connectivity):
    """Dictionaries of sizes, centroids, colours and, for each pair, all contrasts."""
    steps = [
        s
        for s in itertools.product((-1, 0, 1), repeat=labels.ndim)
        if s > (0,) * labels.ndim and np.count_nonzero(s) <= connectivity
    ]
    borders = {}
    for pixel in np.ndindex(*labels.shape):
        for step in steps:
            other = tuple(np.add(pixel, step))
            if not all(0 <= i < n for i, n in zip(other, labels.shape)):
                continue
            a, b = sorted((int(labels[pixel]), int(labels[other])))
            if a >= 0 and a != b:
                contrast = np.linalg.norm(image[pixel].astype(float) - image[other])
                borders.setdefault((a, b), []).append(contrast)
    regions = {
        int(i): (np.sum(labels == i), np.argwhere(labels == i).mean(0), image[labels == i].mean(0))
        for i in np.unique(labels[labels >= 0])
    }
    return regions, borders


@settings(max_examples=100, derandomize=True, deadline=None)
@given(
    shape=st.sampled_from([(5, 6), (1, 9), (9, 1), (3, 4, 5), (2, 1, 4)]),
    n_channels=st.integers(1, 4),
    connectivity=st.integers(1, 3),
    ids=st.sampled_from([(-1, 0), (0, 1, 2, 3), (-1, 0, 5, 9), (7, 8, 10**9), (-1,)]),
    dtype=st.sampled_from([np.uint8, np.float32]),
    seed=st.integers(0, 10**6),
)
def test_equals_brute_force(shape, n_channels, connectivity, ids, dtype, seed):
    rng = np.random.default_rng(seed)
    labels = rng.choice(ids, shape)
    image = rng.integers(0, 256, (*shape, n_channels)).astype(dtype)
    connectivity = min(connectivity, len(shape))
    graph = region_graph(labels, image, connectivity=connectivity, channel_axis=-1)
    regions, borders = _brute_force(labels, image, connectivity)

    assert graph.ids.tolist() == sorted(regions)
    np.testing.assert_array_equal(np.append(graph.ids, -1)[graph.labels], labels)
    for i, name in enumerate(graph.ids.tolist()):
        size, centroid, color = regions[name]
        assert graph.size[i] == size
        np.testing.assert_allclose(graph.centroid[i], centroid)
        np.testing.assert_allclose(graph.color[i], color)
    pairs, entries = graph.edges()
    assert [tuple(pair) for pair in graph.ids[pairs].tolist()] == sorted(borders)
    for entry, pair in zip(entries, graph.ids[pairs].tolist(), strict=True):
        contrasts = borders[tuple(pair)]
        assert graph.length[entry] == len(contrasts)
        np.testing.assert_allclose(graph.contrast[entry], np.mean(contrasts))
    _check_symmetric(graph)


def _check_symmetric(graph):
    rows = np.repeat(np.arange(graph.n_regions), np.diff(graph.indptr))
    both = {(i, j): k for k, (i, j) in enumerate(zip(rows, graph.indices, strict=True))}
    assert list(both) == sorted(both)
    for (i, j), k in both.items():
        assert graph.length[both[j, i]] == graph.length[k]
        assert graph.contrast[both[j, i]] == graph.contrast[k]


def _tiles(shape, n, seed):
    """A mosaic of small random regions, in raster order and without gaps."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, n, tuple(-(-s // 3) for s in shape))
    labels = np.kron(coarse, np.ones((3,) * len(shape), int))[tuple(map(slice, shape))]
    return np.unique(labels, return_inverse=True)[1].reshape(shape)


def _merge_slowly(graph, weight, update):
    """Search all pairs of neighbours for each merge."""
    pairs, entries = graph.edges()
    n = graph.n_regions
    size, color = dict(enumerate(graph.size.tolist())), dict(enumerate(graph.color))
    edges = {}
    for k, (a, b) in enumerate(pairs.tolist()):
        distance = np.linalg.norm(color[a] - color[b])
        first = distance if weight == "color" else graph.contrast[entries[k]]
        edges[a, b] = [first, k, float(graph.length[entries[k]])]
    merges, levels = [], []
    while edges:
        (a, b), _ = min(edges.items(), key=lambda item: tuple(item[1][:2]))
        new = n + len(merges)
        merges.append(sorted((a, b)))
        levels.append(max([*levels[-1:], edges.pop((a, b))[0]]))
        size[new] = size[a] + size[b]
        color[new] = (size[a] * color[a] + size[b] * color[b]) / size[new]
        for i, j in [e for e in edges if a in e or b in e]:
            value, k, length = edges.pop((i, j))
            other = j if i in (a, b) else i
            if (other, new) in edges:
                value2, k2, length2 = edges[other, new]
                if update:
                    value = (value * length + value2 * length2) / (length + length2)
                else:
                    value, k, k2 = min((value, k, k2), (value2, k2, k))
                k, length = min(k, k2) if update else k, length + length2
            edges[other, new] = [value, k, length]
        if update and weight == "color":
            for (i, j), edge in edges.items():
                if j == new:
                    edge[0] = np.linalg.norm(color[i] - color[j])
    return merges, levels


@settings(max_examples=100, derandomize=True, deadline=None)
@given(
    shape=st.sampled_from([(15, 18), (12, 30), (6, 9, 9)]),
    n=st.integers(1, 25),
    weight=st.sampled_from(["color", "contrast"]),
    update=st.booleans(),
    seed=st.integers(0, 10**6),
)
def test_merges_equal_search_of_all_pairs(shape, n, weight, update, seed):
    labels = _tiles(shape, n, seed)
    image = np.random.default_rng(seed).random((*shape, 3)).astype(np.float32)
    graph = region_graph(labels, image, channel_axis=-1)
    merges, levels = graph._merges("test", weight, update)
    expected, expected_levels = _merge_slowly(graph, weight, update)
    assert merges.tolist() == expected
    np.testing.assert_allclose(levels, expected_levels)


def test_equal_weights_merge_in_the_order_of_edges():
    labels = np.arange(12).reshape(3, 4)
    graph = region_graph(labels, np.zeros((3, 4)))
    for update in (False, True):
        merges, levels = graph._merges("test", "color", update)
        assert merges.tolist() == _merge_slowly(graph, "color", update)[0]
        assert (levels == 0).all()


@pytest.fixture(scope="module")
def coffee():
    image = data.coffee()[:200, :300]
    return image, slic(image, 150)


@pytest.mark.parametrize("connectivity", [1, 2])
def test_agrees_with_skimage(coffee, connectivity):
    image, labels = coffee
    ours = region_graph(labels, image, connectivity=connectivity).to_networkx()
    theirs = skimage_graph.rag_mean_color(image, labels, connectivity=connectivity)
    assert {frozenset(e) for e in ours.edges} == {frozenset(e) for e in theirs.edges}
    for node, values in theirs.nodes(data=True):
        assert ours.nodes[node]["size"] == values["pixel count"]
        np.testing.assert_allclose(ours.nodes[node]["color"], values["mean color"])


def test_threshold_equals_skimage_cut(coffee):
    image, labels = coffee
    theirs = skimage_graph.cut_threshold(labels, skimage_graph.rag_mean_color(image, labels), 20)
    ours = region_graph(labels, image, connectivity=2).merge(threshold=20, update=False)
    np.testing.assert_array_equal(ours, np.unique(theirs, return_inverse=True)[1])


def test_merging_equals_skimage_hierarchical(coffee):
    image, labels = coffee

    def weight(graph, src, dst, n):
        return {
            "weight": np.linalg.norm(graph.nodes[dst]["mean color"] - graph.nodes[n]["mean color"])
        }

    def merge(graph, src, dst):
        nodes = graph.nodes
        nodes[dst]["total color"] += nodes[src]["total color"]
        nodes[dst]["pixel count"] += nodes[src]["pixel count"]
        nodes[dst]["mean color"] = nodes[dst]["total color"] / nodes[dst]["pixel count"]

    theirs = skimage_graph.merge_hierarchical(
        labels,
        skimage_graph.rag_mean_color(image, labels),
        thresh=35,
        rag_copy=False,
        in_place_merge=True,
        merge_func=merge,
        weight_func=weight,
    )
    ours = region_graph(labels, image, connectivity=2).merge(threshold=35)
    joint = set(zip(ours.ravel().tolist(), theirs.ravel().tolist(), strict=True))
    assert len(joint) == ours.max() + 1 == len(np.unique(theirs))


def test_hierarchy_gives_what_merge_gives(coffee):
    image, labels = coffee
    graph = region_graph(labels, image)
    for weight in ("color", "contrast"):
        hierarchy = graph.hierarchy(weight=weight)
        for n in (1, 7, 150):
            merged = graph.merge(n_segments=n, weight=weight)
            assert merged.max() + 1 == n
            np.testing.assert_array_equal(hierarchy.cut(n_segments=n), merged)
        level = float(np.median(hierarchy.levels))
        np.testing.assert_array_equal(
            hierarchy.cut(level=level), graph.merge(threshold=level, weight=weight)
        )


def test_weights_of_your_own(coffee):
    image, labels = coffee
    graph = region_graph(labels, image)
    expected = graph.merge(n_segments=9, weight="contrast")
    np.testing.assert_array_equal(graph.merge(n_segments=9, weight=graph.contrast), expected)
    bare = region_graph(labels)
    assert bare.color is None
    assert bare.contrast is None
    np.testing.assert_array_equal(bare.merge(n_segments=9, weight=graph.contrast), expected)
    one_sided = graph.contrast.copy()
    one_sided[0] += 1
    with pytest.raises(ValueError, match="differs between the two sides"):
        graph.merge(n_segments=9, weight=one_sided)


@pytest.mark.parametrize(("shape", "connectivity"), [((7, 9), 1), ((7, 9), 2), ((3, 4, 5), 3)])
def test_border_means_equal_brute_force(shape, connectivity):
    rng = np.random.default_rng(connectivity)
    labels = rng.integers(-1, 6, shape)
    values = rng.random(shape)
    pairs = {}
    for one, other in itertools.combinations(np.ndindex(shape), 2):
        step = np.abs(np.subtract(one, other))
        a, b = labels[one], labels[other]
        if a != b and min(a, b) >= 0 and step.max() == 1 and step.sum() <= connectivity:
            for key in ((a, b), (b, a)):
                pairs.setdefault(key, []).append(max(values[one], values[other]))
    graph = region_graph(labels, connectivity=connectivity)
    rows = np.repeat(graph.ids, np.diff(graph.indptr))
    expected = [np.mean(pairs[a, b]) for a, b in zip(rows, graph.ids[graph.indices])]
    means = graph.border_means(values)
    np.testing.assert_allclose(means, expected)
    assert graph.merge(n_segments=2, weight=means).max() == 1


def test_border_means_of_no_border_and_bad_values():
    graph = region_graph([[0, -1, 1]])
    assert graph.border_means([[1, 2, 3]]).shape == (0,)
    with pytest.raises(ValueError, match=r"RegionGraph\.border_means: values .*\(1, 2\)"):
        graph.border_means([[1, 2]])
    with pytest.raises(ValueError, match=r"RegionGraph\.border_means: values"):
        graph.border_means([[1, np.nan, 3]])


def test_ignored_pixels_and_pieces():
    labels = np.array([[0, -1, 1], [0, -1, 1]])
    graph = region_graph(labels, np.zeros((2, 3)))
    assert len(graph.indices) == 0
    np.testing.assert_array_equal(graph.merge(threshold=1), labels)
    with pytest.raises(ValueError, match="n_segments is 1, expected an integer from 2 to 2"):
        graph.merge(n_segments=1)
    nothing = region_graph(np.full((2, 3), -1))
    assert nothing.n_regions == 0
    assert (nothing.merge(threshold=1, weight=[]) == -1).all()


def test_networkx_keeps_ids_and_values():
    graph = region_graph([[3, 3, 8]], [[1, 3, 7]]).to_networkx()
    assert isinstance(graph, networkx.Graph)
    assert graph.nodes[3] == {"size": 2, "centroid": (0.0, 0.5), "color": (2.0,)}
    assert graph[3][8] == {"length": 1, "contrast": 4.0}
    assert region_graph([[3, 3, 8]]).to_networkx()[3][8] == {"length": 1}


def test_any_number_of_threads():
    rng = np.random.default_rng(0)
    labels = np.kron(rng.integers(0, 5000, (150, 200)), np.ones((5, 5), int))
    image = rng.random((*labels.shape, 3)).astype(np.float32)
    results = []
    for limit in (1, 2, 4):
        with thread_limit(limit):
            results.append(region_graph(labels, image))
    for other in results[1:]:
        for name in ("indptr", "indices", "length", "contrast", "size", "centroid", "color"):
            np.testing.assert_array_equal(getattr(other, name), getattr(results[0], name))


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"labels": [[0.5]]}, TypeError, "region_graph: labels is float64"),
        ({"labels": [0, 1]}, ValueError, r"region_graph: labels has shape \(2,\)"),
        ({"labels": [[-2]]}, ValueError, "region_graph: labels holds ids from -2"),
        ({"labels": [[0]], "connectivity": 3}, ValueError, "region_graph: connectivity is 3"),
        ({"labels": [[0]], "image": [[1, 2]]}, ValueError, "region_graph: labels has shape"),
    ],
)
def test_bad_arguments(arguments, error, message):
    with pytest.raises(error, match=message):
        region_graph(**arguments)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "got neither of threshold and n_segments"),
        ({"threshold": 1, "n_segments": 1}, "got both of threshold and n_segments"),
        ({"n_segments": 3, "weight": [1, 1]}, "n_segments is 3, expected an integer from 1 to 2"),
        ({"n_segments": 1, "weight": "length"}, "weight is 'length'"),
        ({"n_segments": 1, "weight": [1.0]}, r"weight has shape \(1,\)"),
        ({"n_segments": 1}, "made without an image"),
    ],
)
def test_bad_options_of_merge(options, message):
    with pytest.raises(ValueError, match="RegionGraph.merge: .*" + message):
        region_graph([[0, 1]]).merge(**options)


def test_hierarchy_of_a_volume():
    rng = np.random.default_rng(0)
    labels = slic(rng.random((6, 12, 14)), 30, channel_axis=None)
    graph = region_graph(labels, rng.random(labels.shape), channel_axis=None)
    hierarchy = graph.hierarchy()
    for n_segments in (1, 5, graph.n_regions):
        expected = graph.merge(n_segments=n_segments)
        np.testing.assert_array_equal(hierarchy.cut(n_segments=n_segments), expected)
        assert len(np.unique(expected)) == n_segments
    with pytest.raises(ValueError, match=r"Hierarchy\.ucm: .*cut the volume's hierarchy"):
        hierarchy.ucm()
