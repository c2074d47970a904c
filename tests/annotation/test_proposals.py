"""Proposals: what is unsure, what is unlike the rest, and both."""

import itertools

import numpy as np
import pytest
from sklearn.exceptions import NotFittedError

from segalgos import RandomForestSegmenter
from segalgos.annotation.proposals import (
    MEASURES,
    METHODS,
    describe_images,
    propose,
    uncertainty_map,
)


class Says:
    """A segmenter that says what the image holds: its values are the first class's probability."""

    def predict_proba(self, images):
        if isinstance(images, list):
            return [self.predict_proba(image) for image in images]
        image = np.asarray(images, np.float32)
        return np.stack([image, 1 - image], axis=-1)


def flat(*levels):
    """Constant images."""
    return [np.full((6, 8), level, np.float32) for level in levels]


# --- uncertainty -------------------------------------------------------------------------


def test_uncertainty_is_what_its_formula_says():
    rng = np.random.default_rng(0)
    proba = rng.dirichlet([1, 1, 1, 1], (5, 6)).astype(np.float32)
    proba[0, 0] = (1, 0, 0, 0)
    proba[0, 1] = 0.25

    class Four:
        def predict_proba(self, image):
            return proba

    image = np.zeros((5, 6))
    found = {measure: uncertainty_map(Four(), image, measure=measure) for measure in MEASURES}
    for row, column in np.ndindex(5, 6):
        p = sorted(proba[row, column].astype(float), reverse=True)
        expected = {
            "entropy": -sum(q * np.log(q) for q in p if q > 0) / np.log(4),
            "margin": 1 - (p[0] - p[1]),
            "confidence": (1 - p[0]) * 4 / 3,
        }
        for measure in MEASURES:
            assert found[measure][row, column] == pytest.approx(expected[measure], abs=1e-5)
    for unsure in found.values():
        assert unsure.dtype == np.float32
        assert unsure.shape == (5, 6)
        assert unsure[0, 0] == 0
        assert unsure[0, 1] == pytest.approx(1)


def test_uncertainty_of_one_or_many():
    images = flat(0.5, 1.0)
    maps = uncertainty_map(Says(), images)
    assert [float(m.mean()) for m in maps] == [1, 0]
    np.testing.assert_array_equal(uncertainty_map(Says(), images[0]), maps[0])


def test_whoever_knows_one_class_is_sure():
    image = np.random.default_rng(0).random((12, 12))
    segmenter = RandomForestSegmenter.small().fit(image, np.zeros((12, 12), int))
    assert not uncertainty_map(segmenter, image).any()
    assert len(propose(segmenter, [image, image], n=None)) == 2


def test_the_least_sure_part_counts():
    half_unsure = np.ones((6, 8), np.float32)
    half_unsure[:1] = 0.5
    images = [half_unsure, *flat(0.9)]
    options = {"method": "uncertainty", "n": None}
    assert propose(Says(), images, **options).tolist() == [1, 0]
    assert propose(Says(), images, share=0.1, **options).tolist() == [0, 1]


# --- which image -------------------------------------------------------------------------


def test_the_least_sure_image_comes_first():
    images = flat(0.9, 0.5, 1.0, 0.7, 0.3)
    order = propose(Says(), images, method="uncertainty", n=None)
    assert order.tolist() == [1, 3, 4, 0, 2]  # of equals the earlier
    assert propose(Says(), images, method="uncertainty", n=2, labelled=[1]).tolist() == [3, 4]


def test_farthest_first_covers_as_well_as_promised():
    """At most twice the radius of the best centres, which are found by trying all."""
    rng = np.random.default_rng(1)
    for _ in range(10):
        points = rng.normal(size=(9, 2))
        points = (points - points.mean(axis=0)) / points.std(axis=0)
        apart = np.linalg.norm(points[:, None] - points, axis=-1)
        images = flat(*np.zeros(9))
        chosen = propose(None, images, method="diversity", n=3, descriptors=points)
        assert len(set(chosen.tolist())) == 3
        assert chosen[0] == apart.mean(axis=1).argmin()
        best = min(apart[:, list(c)].min(axis=1).max() for c in itertools.combinations(range(9), 3))
        assert apart[:, chosen].min(axis=1).max() <= 2 * best + 1e-12


def test_coverage_lowers_distances_most_and_both_where_it_is_unsure():
    """Against sums over all images, one by one."""
    rng = np.random.default_rng(2)
    for _ in range(10):
        levels = rng.random(8)
        places = rng.normal(size=(8, 2))
        scaled = (places - places.mean(axis=0)) / places.std(axis=0)
        apart = np.linalg.norm(scaled[:, None] - scaled, axis=-1)
        images = flat(*levels)
        unsure = [float(m.mean()) for m in uncertainty_map(Says(), images)]
        for method, weights in (("coverage", [1] * 8), ("both", unsure)):
            found = propose(Says(), images, method=method, n=3, labelled=[6, 7], descriptors=places)
            near = apart[:, [6, 7]].min(axis=1)
            for i in found:
                lowered = [
                    sum(weights[k] * max(0, near[k] - apart[k, j]) for k in range(6))
                    for j in range(6)
                ]
                assert lowered[i] == pytest.approx(max(lowered))
                near = np.minimum(near, apart[i])


def test_the_methods_differ():
    """One image is the least sure, one far from all, and one has many like it."""
    levels = (1.0, 0.5, 0.8, 0.9, 0.9, 0.9)
    places = np.array([[0.0], [0.1], [9.0], [4.0], [4.1], [4.2]])
    options = {"labelled": [0], "descriptors": places}
    found = {
        method: propose(Says(), flat(*levels), method=method, **options).item()
        for method in ("uncertainty", "diversity", "coverage")
    }
    assert found == {"uncertainty": 1, "diversity": 2, "coverage": 4}


def test_nothing_labelled_begins_in_the_middle():
    places = np.array([[0.0], [1.0], [2.0], [3.0], [50.0]])
    for method in ("both", "coverage", "diversity"):
        found = propose(None, flat(*np.zeros(5)), method=method, descriptors=places)
        assert found.tolist() == [2]


def test_a_copy_of_a_labelled_image_comes_last():
    rng = np.random.default_rng(2)
    images = [rng.random((20, 24)) * scale for scale in (0.2, 1.0, 0.6, 0.4)]
    images.insert(1, images[0].copy())
    for segmenter in (None, Says()):
        order = propose(segmenter, images, n=None, labelled=[0])
        assert sorted(order.tolist()) == [1, 2, 3, 4]
        assert order[-1] == 1


def test_whoever_is_sure_of_all_gets_unlike_images():
    places = np.array([[0.0], [1.0], [9.0], [3.0]])
    order = propose(Says(), flat(1, 1, 1, 1), n=None, labelled=[0], descriptors=places)
    assert order.tolist() == [2, 3, 1]


def test_random_order_is_one_and_follows_the_seed():
    images = flat(*np.linspace(0, 1, 12))
    orders = [
        propose(None, images, method="random", n=None, labelled=[3], random_state=s).tolist()
        for s in (0, 0, 1)
    ]
    assert orders[0] == orders[1] != orders[2]
    assert sorted(orders[0]) == [i for i in range(12) if i != 3]


def test_candidates_bound_what_is_looked_at():
    seen = []

    class Watched(Says):
        def predict_proba(self, image):
            seen.append(float(image[0, 0]))
            return super().predict_proba(image)

    levels = np.linspace(0.1, 0.9, 20)
    propose(Watched(), flat(*levels), method="uncertainty", max_candidates=5, n=3, random_state=0)
    assert len(seen) == 5


def test_images_are_read_one_by_one():
    """A folder that opens an image when it is asked for does."""

    class Folder(list):
        def __getitem__(self, i):
            read.append(i)
            return super().__getitem__(i)

    read = []
    propose(Says(), Folder(flat(0.5, 0.6, 0.7)), method="uncertainty", labelled=[1])
    assert read[-2:] == [0, 2]
    assert 1 not in read


# --- descriptors -------------------------------------------------------------------------


def test_images_that_look_alike_have_descriptors_alike():
    rng = np.random.default_rng(3)
    fine = [rng.integers(0, 200, (60, 70, 3)).astype(np.uint8) for _ in range(2)]
    coarse = [np.kron(rng.integers(0, 200, (8, 9, 3)), np.ones((8, 8, 1))) for _ in range(2)]
    found = describe_images([*fine, *(c.astype(np.uint8) for c in coarse)])
    assert found.dtype == np.float32
    found = (found - found.mean(axis=0)) / (found.std(axis=0) + 1e-9)
    apart = np.linalg.norm(found[:, None] - found, axis=-1)
    assert max(apart[0, 1], apart[2, 3]) < apart[:2, 2:].min()


def test_large_images_are_shrunk_first():
    rng = np.random.default_rng(4)
    small = rng.random((50, 96))
    large = np.kron(small, np.ones((7, 7)))
    wide = np.zeros((50 * 7, 96 * 7 + 6))  # a rest that is left out
    wide[:, : 96 * 7] = large
    a, b, c = describe_images([small, large, wide])
    np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(a, c, rtol=1e-4, atol=1e-5)
    assert describe_images([np.zeros((1, 500))]).shape == (1, len(a))


def test_volumes_and_many_channels():
    rng = np.random.default_rng(5)
    volumes = [rng.random((4, 12, 14)) for _ in range(3)]
    assert sorted(propose(None, volumes, n=None, channel_axis=None).tolist()) == [0, 1, 2]
    many = [rng.random((12, 14, 7)) for _ in range(3)]
    assert len(propose(None, many, n=2, channel_axis=-1)) == 2


# --- a forest, from the first image on ---------------------------------------------------


def test_a_forest_asks_for_what_it_has_not_seen():
    """Images of two kinds; it learned from one of them."""
    rng = np.random.default_rng(6)

    def picture(level):
        image = rng.normal(0, 5, (24, 30)) + 20
        image[8:16, 10:20] += level
        return image.clip(0, 255)

    images = [picture(100) for _ in range(4)] + [picture(12)]
    truth = np.zeros((24, 30), int)
    truth[8:16, 10:20] = 1
    segmenter = RandomForestSegmenter.small().fit(images[0], truth)
    for method in ("uncertainty", "both"):
        assert propose(segmenter, images, method=method, labelled=[0]).tolist() == [4]


# --- bad input ---------------------------------------------------------------------------


def test_bad_input_is_named():
    images = flat(0.5, 0.6)
    assert set(METHODS) == {"both", "uncertainty", "coverage", "diversity", "random"}
    with pytest.raises(ValueError, match=r"propose: method is 'best', expected one of 'both'"):
        propose(None, images, method="best")
    with pytest.raises(ValueError, match=r"expected a fitted one: label.*coverage"):
        propose(None, images, method="uncertainty")
    with pytest.raises(TypeError, match="propose: segmenter is object, expected one with predict_"):
        propose(object(), images)
    with pytest.raises(NotFittedError):
        propose(RandomForestSegmenter(), images)
    with pytest.raises(ValueError, match="n is 3, but 2 images are to choose from: pass n=None"):
        propose(None, images, n=3)
    with pytest.raises(ValueError, match="labelled holds 0 to 2, expected places from 0 to 1"):
        propose(None, images, labelled=[0, 2])
    with pytest.raises(TypeError, match=r"labelled is \['a'\], expected places"):
        propose(None, images, labelled=["a"])
    with pytest.raises(ValueError, match="propose: images is empty"):
        propose(None, [])
    with pytest.raises(ValueError, match="propose: images is one image, expected a list"):
        propose(None, images[0])
    with pytest.raises(ValueError, match=r"descriptors has shape \(3, 1\), expected \(2, D\)"):
        propose(None, images, descriptors=np.zeros((3, 1)))
    with pytest.raises(ValueError, match="share is 0, expected a finite number above 0"):
        propose(None, images, share=0)
    with pytest.raises(ValueError, match="uncertainty_map: measure is 'doubt'"):
        uncertainty_map(Says(), images[0], measure="doubt")
    with pytest.raises(ValueError, match=r"describe_images: images\[1\] has 3 channels"):
        describe_images([np.zeros((5, 6)), np.zeros((5, 6, 3))])
    with pytest.raises(ValueError, match=r"describe_images: images\[0\].*NaN"):
        describe_images([np.full((5, 6), np.nan)])
