from pathlib import Path

import numpy as np
import pytest
from scipy.ndimage import distance_transform_cdt, map_coordinates
from skimage import data

from segalgos import StructuredForest, UCMSegmenter, structured_forest_contours
from segalgos.color import rgb_to_lab
from segalgos.contours import _edge_channels, structured_forest
from segalgos.contours._edge_channels import (
    CELL,
    N_CHANNELS,
    PADDING,
    double,
    edge_channels,
    mean_of_cells,
)
from segalgos.contours._structured_patches import (
    LABEL,
    PATCH,
    edges_of,
    feature_places,
    find_sites,
    take_patches,
)
from segalgos.contours._structured_trees import grow
from segalgos.contours._structured_votes import Answers, count_votes
from segalgos.parallel import thread_limit

SMALL = {"n_trees": 3, "n_evaluated": 2, "n_patches": 2000, "random_state": 0}


def scene(seed, size=(60, 70)):
    """Textured rectangles, and which pixel is of which."""
    rng = np.random.default_rng(seed)
    labels = np.zeros(size, np.int32)
    image = np.full((*size, 3), rng.random(3))
    for k in range(1, 4):
        (top, left), (height, width) = rng.integers(0, 40, 2), rng.integers(12, 30, 2)
        labels[top : top + height, left : left + width] = k
        image[labels == k] = rng.random(3)
    return np.clip(image + rng.normal(0, 0.03, image.shape), 0, 1), labels


@pytest.fixture(scope="module")
def forest():
    images, labels = zip(*(scene(seed) for seed in range(8)), strict=True)
    return StructuredForest(**SMALL).fit(list(images), list(labels))


def direct_value(channels, origin, place):
    """A feature by its definition."""

    def at(array, code):
        row, column = code >> 16, code & 0xFFFF
        return int(array[origin[0] + row, origin[1] + column // N_CHANNELS, column % N_CHANNELS])

    if place[1] < 0:
        return at(channels.fine, place[0])
    return at(channels.coarse, place[0]) - at(channels.coarse, place[1])


def test_patches_are_cut_from_where_they_lie():
    image, labels = scene(0)
    labels = labels.copy()
    labels[40:, 50:] = 7
    channels = edge_channels(rgb_to_lab(image.astype(np.float32), 1.0))
    places = feature_places()
    assert len(places) == PATCH**2 * N_CHANNELS + 25 * 24 // 2 * N_CHANNELS
    chosen = places[np.random.default_rng(0).choice(len(places), 50)]
    drawn = np.array([[0, 10, 12], [0, 0, 0], [0, 29, 34], [0, 20, 25]], np.int32)
    values, patches = take_patches(channels, [labels], drawn, chosen)
    for k, (_, row, column) in enumerate(drawn):
        found = [direct_value(channels, (row, column), place) for place in chosen]
        expected = [v if p[1] < 0 else (v + 256) // 2 for v, p in zip(found, chosen, strict=True)]
        np.testing.assert_array_equal(values[:, k], expected)
    # In the middle of a patch of 32 pixels lie 16 of the map, around its cell.
    own = labels[20 - 8 : 20 + 8, 24 - 8 : 24 + 8]
    numbers = {label: k for k, label in enumerate(dict.fromkeys(own.ravel().tolist()))}
    assert len(numbers) > 1
    np.testing.assert_array_equal(patches[0], [numbers[label] for label in own.ravel()])


def test_channels_do_not_depend_on_the_padding_of_odd_images():
    rng = np.random.default_rng(0)
    lab = rng.random((41, 52, 3), dtype=np.float32) * 100
    whole, part = edge_channels(lab), edge_channels(lab[:, :41])
    cells = PADDING // CELL
    inner = slice(cells, cells + 10)
    np.testing.assert_array_equal(whole.fine[inner, inner], part.fine[inner, inner])
    assert whole.fine.shape == whole.coarse.shape
    assert whole.lab.shape[0] == CELL * whole.fine.shape[0]


def test_gradient_channels_follow_the_edge():
    lab = np.zeros((64, 64, 3), np.float32)
    lab[:, 32:, 0] = 60
    channels = edge_channels(lab).fine[:, :, 3:].astype(int)
    row = channels[16]
    middle = (32 + PADDING) // CELL
    assert abs(row[:, 0].argmax() - middle) <= 1
    assert row[:, 0].max() > 100
    # The gradient points along the row: the first of four orientations.
    peak = row[row[:, 0].argmax(), 1:5]
    assert peak[0] > 10 * max(peak[1:])
    assert row[middle - 10, 0] == 0


def test_gradients_are_those_of_the_definition():
    lab = np.random.default_rng(0).normal(0, 20, (31, 40, 3)).astype(np.float32)
    lab[:8] = 5  # no gradient
    lab[10:14] = np.arange(40)[:, None]  # along the rows, ...
    lab[16:22] = -np.arange(6)[:, None, None]  # ... along the columns
    strength, angle = np.empty((31, 40, 1), np.float32), np.empty((31, 40), np.float32)
    _edge_channels._differentiate(lab, strength, angle, 0, 31)
    padded = np.pad(lab.astype(float), ((1, 1), (1, 1), (0, 0)), mode="edge")
    down, along = padded[2:, 1:-1] - padded[:-2, 1:-1], padded[1:-1, 2:] - padded[1:-1, :-2]
    best = np.hypot(down, along).argmax(axis=2)[..., None]
    down, along = (np.take_along_axis(part, best, 2)[..., 0] for part in (down, along))
    np.testing.assert_allclose(strength[..., 0], np.hypot(down, along) / 200, rtol=1e-5)
    turned = angle - np.arctan2(down, along) / np.pi * 4
    np.testing.assert_allclose((turned + 2) % 4 - 2, 0, atol=1e-5)
    assert angle.min() == 0
    assert 3.9 < angle.max() <= 4


def test_twice_the_size_and_back():
    rng = np.random.default_rng(0)
    image = rng.random((5, 7, 2), dtype=np.float32)
    large = double(image)
    rows, columns = np.mgrid[:10, :14] / 2 - 0.25
    for c in range(2):
        expected = map_coordinates(image[..., c], [rows, columns], order=1, mode="nearest")
        np.testing.assert_allclose(large[..., c], expected, atol=1e-6)
    np.testing.assert_allclose(
        mean_of_cells(large, 2), large.reshape(5, 2, 7, 2, 2).mean(axis=(1, 3)), rtol=1e-6
    )


def test_sites_are_near_contours_and_known():
    labels = np.zeros((40, 60), np.int32)
    labels[:, 30:] = 1
    sites = find_sites(labels)
    assert (np.abs(sites.near[:, 1] * CELL - 29.5) < 8.6).all()
    assert (np.abs(sites.far[:, 1] * CELL - 29.5) > 7.4).all()
    assert len(sites.near) + len(sites.far) == 20 * 30
    labels[:5] = -1
    known = find_sites(labels)
    rows = np.concatenate([known.near, known.far])[:, 0] * CELL
    assert rows.min() - LABEL // 2 >= 5
    assert set(rows) == set(range(14, 40, 2))


def test_a_tree_finds_what_tells_label_maps_apart():
    rng = np.random.default_rng(0)
    left, top = np.zeros((2, LABEL, LABEL), np.uint8)
    left[:, 8:] = 1
    top[8:] = 1
    kinds = rng.integers(0, 3, 600)
    patches = np.stack([left, top, np.zeros_like(top)])[kinds].reshape(600, -1)
    values = rng.integers(0, 256, (5, 600)).astype(np.uint8)
    values[2] = 60 * kinds + rng.integers(0, 50, 600)
    features, children = np.empty((2, 1200), np.int32)
    thresholds = np.empty(1200, np.uint8)
    n = grow(values, patches, 30, 64, 5, np.uint64(3), features, thresholds, children)
    assert n == 5
    assert set(features[:n]) == {2, -1}
    for k in range(600):
        node = 0
        while features[node] >= 0:
            node = children[node] + (values[features[node], k] > thresholds[node])
        np.testing.assert_array_equal(patches[children[node]], patches[k])


def test_growing_stops_at_depth_and_leaf_size():
    rng = np.random.default_rng(0)
    patches = rng.integers(0, 2, (300, LABEL * LABEL)).astype(np.uint8)
    values = rng.integers(0, 256, (10, 300)).astype(np.uint8)
    features, children = np.empty((2, 600), np.int32)
    thresholds = np.empty(600, np.uint8)
    grown = [features, thresholds, children]
    assert grow(values, patches, 5, 1, 1, np.uint64(1), *grown) == 3
    n = grow(values, patches, 5, 64, 20, np.uint64(1), *grown)
    counts = np.zeros(n, int)
    for k in range(300):
        node = 0
        while features[node] >= 0:
            node = children[node] + (values[features[node], k] > thresholds[node])
        counts[node] += 1
    assert counts[features[:n] < 0].min() >= 20
    assert n > 5


def fitted_to(lab, patch, n_rounds):
    """A label patch after rounds of fitting, by the definition."""
    labels = patch.astype(int)
    means = {k: lab[labels == k].mean(axis=0) for k in np.unique(labels)}
    reached = edges_of(labels)
    for _ in range(n_rounds):
        changed = labels.copy()
        for y, x in np.argwhere(reached):
            around = [(y - 1, x), (y, x - 1), (y, x + 1), (y + 1, x)]
            inside = [p for p in around if min(p) >= 0 and max(p) < LABEL]
            others = [labels[y, x], *(labels[p] for p in inside)]
            changed[y, x] = min(others, key=lambda k: ((lab[y, x] - means[k]) ** 2).sum())
        labels = changed
        grown = np.pad(reached, 1)
        reached = reached | grown[2:, 1:-1] | grown[:-2, 1:-1] | grown[1:-1, 2:] | grown[1:-1, :-2]
    return edges_of(labels)


@pytest.mark.parametrize("n_rounds", [0, 1, 2])
def test_votes_are_those_of_the_definition(forest, n_rounds):
    image, _ = scene(20, (19, 22))
    lab = rgb_to_lab(image.astype(np.float32), 1.0)
    channels = edge_channels(lab)
    found = count_votes(channels, forest.nodes_, forest.roots_, 2, n_rounds, forest._answers)
    votes = np.zeros(channels.lab.shape[:2])
    for i in range(channels.fine.shape[0] - PATCH + 1):
        for j in range(channels.fine.shape[1] - PATCH + 1):
            for t in range(2):
                node = forest.roots_[((i + j) * 2 + t) % 3]
                while forest.nodes_[node, 1] >= 0:
                    question, child = forest.nodes_[node]
                    value = direct_value(channels, (i, j), feature_places()[question & 0xFFFF])
                    node = child + (value > (question >> 16) - 256)
                patch = forest.patches_[~forest.nodes_[node, 1]].reshape(LABEL, LABEL)
                top, left = 2 * i + 8, 2 * j + 8
                place = slice(top, top + LABEL), slice(left, left + LABEL)
                votes[place] += fitted_to(channels.lab[place].astype(float), patch, n_rounds)
    expected = votes[PADDING:-PADDING, PADDING:-PADDING] / (64 * 2)
    # Rounding may decide between colours that are equally near.
    assert np.mean(np.abs(found - expected) < 1e-6) > 0.99
    assert expected.max() > 0.1


def test_answers_hold_every_run():
    rng = np.random.default_rng(0)
    patches = rng.integers(0, 3, (6, LABEL * LABEL)).astype(np.uint8)
    answers = Answers(patches)
    ends = answers.run_ends
    for k, patch in enumerate(patches):
        drawn = np.full((LABEL, LABEL), 9)
        for row, first, last, label in answers.runs[ends[k] : ends[k + 1]]:
            assert (drawn[row, first : last + 1] == 9).all()
            drawn[row, first : last + 1] = label
        np.testing.assert_array_equal(drawn.ravel(), patch)


def test_answers_hold_the_pixels_near_contours():
    rng = np.random.default_rng(1)
    patches = np.zeros((5, LABEL, LABEL), np.uint8)
    patches[0, :, 7:], patches[1, 3:9, 4:6], patches[2, 0, 0] = 1, 2, 1
    patches[3] = rng.random((LABEL, LABEL)) < 0.03
    answers = Answers(patches.reshape(5, -1))
    for k, patch in enumerate(patches):
        edges = edges_of(patch)
        shown = answers.edges[k].reshape(LABEL + 2, LABEL + 2)[1:-1, 1:-1]
        np.testing.assert_array_equal(shown, edges)
        away = distance_transform_cdt(~edges, "taxicab") if edges.any() else edges + 99
        begin = answers.ends[k, -1]
        for steps in range(3):
            found = answers.near[begin : answers.ends[k + 1, steps]].astype(int)
            rows, columns = np.divmod(found, LABEL + 2)
            assert sorted(zip(rows - 1, columns - 1, strict=True)) == sorted(
                zip(*np.nonzero(away <= steps), strict=True)
            )


@pytest.mark.parametrize("scales", [(1.0,), (0.5,), (2.0,), (0.5, 1.0, 2.0)])
def test_contours_are_found_where_they_are(forest, scales):
    image, labels = scene(30)
    forest.set_params(scales=scales)
    try:
        found = forest.predict(image)
    finally:
        forest.set_params(scales=(1.0,))
    assert found.shape == labels.shape
    assert found.dtype == np.float32
    edges = edges_of(labels)
    assert found[edges].mean() > 3 * found[~edges].mean()
    assert 0 <= found.min() <= found.max() <= 1


def test_threads_change_nothing(forest):
    images, labels = zip(*(scene(seed) for seed in range(8)), strict=True)
    with thread_limit(1):
        alone = StructuredForest(**SMALL).fit(list(images), list(labels))
        contours = alone.predict(images[0])
    np.testing.assert_array_equal(alone.nodes_, forest.nodes_)
    np.testing.assert_array_equal(alone.patches_, forest.patches_)
    np.testing.assert_array_equal(contours, forest.predict(images[0]))


@pytest.mark.parametrize("shape", [(1, 1), (1, 40), (37, 1), (2, 3), (17, 33)])
def test_any_size(forest, shape):
    rng = np.random.default_rng(0)
    for image in (rng.random(shape), rng.integers(0, 256, (*shape, 3)).astype(np.uint8)):
        for scales in ((1.0,), (0.5, 2.0)):
            found = forest.set_params(scales=scales).predict(image)
            assert found.shape == shape
            assert np.isfinite(found).all()
    forest.set_params(scales=(1.0,))


def test_a_constant_image_has_no_contours(forest):
    assert forest.predict(np.full((50, 60), 0.5)).max() < 0.1


def test_kinds_of_images_agree(forest):
    image = data.coffee()[100:200, 100:220]
    found = forest.predict(image)
    for other in (image / 255, image.astype(np.uint16) * 257, image.astype(np.float32)):
        assert np.abs(forest.predict(other) - found).mean() < 2e-3
    grey = image[..., :1]
    np.testing.assert_array_equal(forest.predict(grey), forest.predict(np.repeat(grey, 3, axis=-1)))


def test_several_annotators_and_unknown_pixels():
    image, labels = scene(3)
    other = (labels > 0).astype(int)
    other[:30] = -1
    forest = StructuredForest(**SMALL).fit([image], labels[None])  # an array of maps is a list
    forest = StructuredForest(**SMALL).fit([image], [[labels, other]])
    assert forest.predict([image])[0].shape == labels.shape


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"n_trees": 0}, "n_trees"),
        ({"n_evaluated": 9}, "n_evaluated is 9, expected at most n_trees"),
        ({"scales": (3.0,)}, "scales"),
        ({"sharpen": 3}, "sharpen"),
        ({"max_depth": 65}, "max_depth"),
        ({"feature_fraction": 2}, "feature_fraction"),
    ],
)
def test_bad_parameters_are_refused(params, message):
    image, labels = scene(0)
    with pytest.raises(ValueError, match=message):
        StructuredForest(**params).fit(image, labels)


def test_bad_data_are_refused(forest):
    image, labels = scene(0)
    with pytest.raises(ValueError, match="no partition has a contour"):
        StructuredForest().fit(image, np.zeros_like(labels))
    with pytest.raises(ValueError, match="1 images but labels is NoneType"):
        StructuredForest().fit([image], None)
    with pytest.raises(ValueError, match="1 images but labels is 2"):
        StructuredForest().fit([image], [labels, labels])
    with pytest.raises(ValueError, match=r"labels\[0\] is empty, expected a partition"):
        StructuredForest().fit([image], [[]])
    with pytest.raises(ValueError, match="shape"):
        StructuredForest().fit(image, labels[:-1])
    with pytest.raises(ValueError, match=r"4 channels, expected 1 \(grey\) or 3 \(RGB\)"):
        forest.predict(np.zeros((20, 20, 4)))


def test_arrays_there_and_back(forest):
    arrays = forest.get_arrays()
    again = StructuredForest(**SMALL).set_arrays(arrays)
    for name in ("nodes_", "roots_", "patches_"):
        np.testing.assert_array_equal(getattr(again, name), getattr(forest, name))
    image, _ = scene(9)
    np.testing.assert_array_equal(again.predict(image), forest.predict(image))


@pytest.mark.parametrize("name", ["sizes", "features", "thresholds", "answers", "patches"])
def test_damaged_arrays_are_refused(forest, name):
    rng = np.random.default_rng(0)
    arrays = forest.get_arrays()
    for changed in (arrays[name][:-1], arrays[name].astype(np.int64), arrays[name][None]):
        with pytest.raises(ValueError, match="not those of a structured forest"):
            StructuredForest().set_arrays(arrays | {name: changed})
    image, _ = scene(9, (24, 24))
    refused = 0
    for _ in range(60):
        changed = arrays[name].copy()
        at = rng.integers(len(changed), size=3)
        changed[at] = rng.integers(0, 2**8 if changed.dtype == np.uint8 else 2**15, 3)[
            (...,) + (None,) * (changed.ndim - 1)
        ]
        try:
            again = StructuredForest(**SMALL).set_arrays(arrays | {name: changed})
        except ValueError:
            refused += 1
        else:  # another forest, but one that can be walked
            assert np.isfinite(again.predict(image)).all()
    assert refused > 0 or name in ("thresholds", "patches")


def test_thin_contours_are_ridges_of_the_strength(forest):
    image, labels = scene(30)
    strength, thin = forest.predict(image), forest.predict(image, thin=True)
    kept = thin > 0
    assert 0 < kept.mean() < 0.5 * (strength > 0).mean()
    edges = edges_of(labels)
    assert thin[edges].mean() > 3 * thin[~edges].mean()


def test_shipped_trees_find_things(forest):
    image, labels = scene(30)
    strength = structured_forest_contours(image)
    edges = edges_of(labels)
    assert strength[edges].mean() > 4 * strength[~edges].mean()
    mask = np.zeros(labels.shape, bool)
    mask[20:40, 10:60] = True
    inside = structured_forest_contours(image, mask=mask)
    np.testing.assert_array_equal(inside[mask], strength[mask])
    assert (inside[~mask] == 0).all()
    again = StructuredForest.shipped(n_evaluated=1, scales=(0.5, 1.0, 2.0))
    np.testing.assert_array_equal(again.predict(image), strength)


def test_shipped_trees_are_small():
    path = Path(structured_forest.__file__).with_name("structured_forest.npz")
    assert path.stat().st_size < 4_000_000


def test_regions_by_shipped_trees():
    image = data.coffee()[:200, :250]
    mask = np.ones(image.shape[:2], bool)
    mask[:, :90] = False
    segmenter = UCMSegmenter("structured_forest", n_segments=6)
    assert len(np.unique(segmenter.predict(image))) == 6
    labels = segmenter.predict(image, mask=mask)
    assert (labels[~mask] == -1).all()
    assert len(np.unique(labels[mask])) == 6


def test_smoothing_leaves_fewer_basins():
    image = data.coffee()[:200, :250]
    rough = UCMSegmenter(structured_forest_contours, n_segments=6).hierarchy(image)
    smooth = UCMSegmenter("structured_forest").hierarchy(image)
    assert 6 < smooth.n_regions < 0.7 * rough.n_regions
