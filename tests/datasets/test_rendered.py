"""shapes and pins: determinism, truths that agree, and options that do what they say."""

import pickle
from itertools import pairwise

import numpy as np
import pytest
from scipy import ndimage

from segalgos.datasets import _render as render
from segalgos.datasets import load

NAMES = ("shapes", "pins")
SMALL = {"size": (96, 128)}


def _same(first, second):
    return (
        np.array_equal(first.image, second.image)
        and np.array_equal(first.labels, second.labels)
        and np.array_equal(first.annotations[0], second.annotations[0])
        and np.array_equal(first.instances.masks, second.instances.masks)
    )


@pytest.mark.parametrize("name", NAMES)
def test_image_depends_on_seed_split_and_index_only(name):
    few, many = load(name, n_images=2, **SMALL), load(name, n_images=5, **SMALL)
    assert _same(few[1], many[1])
    assert _same(many[4], many[4])
    assert _same(pickle.loads(pickle.dumps(many))[3], many[3])
    others = [
        many[0],
        load(name, seed=1, n_images=1, **SMALL)[0],
        load(name, split="val", n_images=1, **SMALL)[0],
        load(name, split="test", n_images=1, **SMALL)[0],
    ]
    for other in others:
        assert not np.array_equal(few[1].image, other.image)


@pytest.mark.parametrize("name", NAMES)
def test_splits_share_no_scene(name):
    kinds = ("train", "val", "test")
    scenes = [
        s.annotations[0].tobytes() for k in kinds for s in load(name, split=k, n_images=6, **SMALL)
    ]
    assert len(set(scenes)) == 18


@pytest.mark.parametrize("name", NAMES)
def test_default_sizes(name):
    assert [len(load(name, split=s)) for s in ("train", "val", "test")] == [24, 8, 12]
    sample = load(name)[0]
    assert sample.image.shape == {"shapes": (192, 256, 3), "pins": (240, 320, 3)}[name]


@pytest.mark.parametrize("name", NAMES)
def test_truths_agree(name):
    dataset = load(name, n_images=6)
    assert dataset.views == ("partition", "semantic", "instance")
    for sample in dataset:
        image, labels, partition = sample.image, sample.labels, sample.annotations[0]
        assert image.dtype == np.uint8
        assert labels.dtype == partition.dtype == np.int32
        assert labels.shape == partition.shape == image.shape[:2]
        assert labels.min() == 0
        assert labels.max() < len(dataset.classes)
        # Regions are numbered without gaps and each lies in one class.
        regions = np.unique(partition)
        assert np.array_equal(regions, np.arange(len(regions)))
        pairs = np.unique(partition * 100 + labels)
        assert len(pairs) == len(regions)
        # Each instance is one region of its class; together they are the foreground.
        masks, classes = sample.instances.masks, sample.instances.classes
        assert len(masks) > 0
        for mask, class_id in zip(masks, classes, strict=True):
            assert (labels[mask] == class_id).all()
            region = np.unique(partition[mask])
            assert len(region) == 1
            assert np.count_nonzero(partition == region[0]) == np.count_nonzero(mask)
        assert np.array_equal(masks.sum(axis=0), labels > 0)


@pytest.mark.parametrize("name", NAMES)
def test_every_class_is_seen(name):
    dataset = load(name)
    seen = np.bincount(np.concatenate([i.classes for i in dataset.instances]))
    assert len(seen) == len(dataset.classes)
    assert seen[1:].min() >= 20


@pytest.mark.parametrize("name", NAMES)
def test_noise_has_its_size(name):
    options = {"n_images": 3, "blur": 0.0, "illumination": 0.0}
    clean, noisy = load(name, noise=0, **options), load(name, noise=8, **options)
    for a, b in zip(clean.images, noisy.images, strict=True):
        middle = (a > 40) & (a < 215)  # away from where the range ends
        difference = (b.astype(float) - a)[middle]
        assert abs(difference.std() - 8) < 0.2
        assert abs(difference.mean()) < 0.2
    assert np.array_equal(clean.labels[0], noisy.labels[0])


@pytest.mark.parametrize("name", NAMES)
def test_blur_softens_edges_and_leaves_truth(name):
    sharp, soft = (load(name, blur=b, noise=0, n_images=3) for b in (0, 2))
    for a, b in zip(sharp, soft, strict=True):
        assert np.array_equal(a.annotations[0], b.annotations[0])
        steps = [np.abs(np.diff(s.image.astype(float), axis=0)).mean() for s in (a, b)]
        assert steps[1] < 0.7 * steps[0]


@pytest.mark.parametrize("name", NAMES)
def test_illumination_shifts_light(name):
    even, flat, strong = (
        load(name, illumination=i, noise=0, blur=0, n_images=8) for i in (0.0, 0.0, 1.0)
    )
    ratios = []
    for a, b, c in zip(even.images, flat.images, strong.images, strict=True):
        assert np.array_equal(a, b)
        usable = (a > 30).all(axis=2) & (c < 250).all(axis=2)
        ratio = c.astype(float).sum(axis=2) / np.maximum(a.astype(float).sum(axis=2), 1)
        ratios.append(ratio[usable])
    assert np.mean([r.std() for r in ratios]) > 0.1  # within a picture
    assert np.std([r.mean() for r in ratios]) > 0.08  # between pictures


def test_overlap_of_shapes():
    def crowding(overlap):
        """Pairs of instances with common borders, a picture."""
        n_pairs = 0
        for objects in load("shapes", overlap=overlap, n_images=10).instances:
            labels = objects.to_labels()
            below, right = (labels[:-1], labels[1:]), (labels[:, :-1], labels[:, 1:])
            sides = np.concatenate([np.stack([a.ravel(), b.ravel()]) for a, b in (below, right)], 1)
            sides = np.sort(sides[:, (sides[0] != sides[1]) & (sides > 0).all(axis=0)], axis=0)
            n_pairs += np.unique(sides, axis=1).shape[1]
        return n_pairs / 10

    apart, some, much = (crowding(v) for v in (0.0, 0.3, 1.0))
    assert apart < 0.5  # circles that just meet
    assert some > 1
    assert much > some + 1


@pytest.mark.parametrize("name", NAMES)
def test_scale_changes_size_and_number(name):
    area, count = [], []
    for scale in (0.5, 1.5):
        masks = [objects.masks for objects in load(name, scale=scale, n_images=6).instances]
        area.append(np.median(np.concatenate([m.sum(axis=(1, 2)) for m in masks])))
        count.append(np.mean([len(m) for m in masks]))
    assert area[1] > 3 * area[0]
    assert count[1] < 0.7 * count[0]


def test_colour_and_texture_do_not_settle_the_class_of_shapes():
    # The mean colour of an object says next to nothing about its class.
    colours, classes = [], []
    for sample in load("shapes", n_images=24, noise=0, illumination=0):
        for mask, class_id in zip(sample.instances.masks, sample.instances.classes, strict=True):
            colours.append(sample.image[mask].mean(axis=0))
            classes.append(class_id)
    colours, classes = np.array(colours), np.array(classes)
    means = np.array([colours[classes == c].mean(axis=0) for c in range(1, 6)])
    assert means.std(axis=0).max() < 0.4 * colours.std(axis=0).min()


def test_shares_of_pins():
    def shares(**options):
        classes = np.concatenate(
            [i.classes for i in load("pins", n_images=12, **options).instances]
        )
        return np.bincount(classes, minlength=4)[1:] / len(classes)

    assert np.abs(shares(bent=0.22, missing=0.15) - (0.63, 0.22, 0.15)).max() < 0.08
    assert shares(bent=0, missing=0).tolist() == [1, 0, 0]
    assert shares(bent=0, missing=1).tolist() == [0, 0, 1]


def test_pins_are_thin():
    widths = []
    for sample in load("pins", n_images=12, bent=0, missing=0):
        for mask in sample.instances.masks:
            widths.append(2 * ndimage.distance_transform_edt(mask).max())
    assert np.percentile(widths, 5) >= 3
    assert np.percentile(widths, 95) <= 8


def test_clutter_of_pins():
    def n_components(clutter):
        """Regions a picture that are no pins; a bare board has two zones and its housings."""
        samples = load("pins", clutter=clutter, n_images=4)
        return np.mean([s.annotations[0].max() + 1 - len(s.instances) for s in samples])

    assert n_components(0) <= 4
    assert n_components(0.5) > 6
    assert n_components(1.5) > n_components(0.5) + 6


@pytest.mark.parametrize("name", NAMES)
def test_scribbles_are_on_the_train_split_only(name):
    fraction = 0.05
    for index in range(3):
        scribbled = load(name, label_fraction=fraction, n_images=3)[index]
        dense = load(name, n_images=3)[index]
        marked = scribbled.labels >= 0
        assert abs(marked.mean() / fraction - 1) < 0.3
        assert np.array_equal(scribbled.labels[marked], dense.labels[marked])
        assert set(np.unique(scribbled.labels)) >= set(np.unique(dense.labels))
        assert len(np.unique(scribbled.annotations[0][marked])) == dense.annotations[0].max() + 1
        assert np.array_equal(scribbled.image, dense.image)
        assert np.array_equal(scribbled.annotations[0], dense.annotations[0])
    for split in ("val", "test"):
        assert load(name, split=split, label_fraction=fraction, n_images=1)[0].labels.min() == 0


def test_distances_match_brute_force():
    y, x = np.mgrid[:40, :40].astype(np.float32)
    corners = np.array([[5, 8], [30, 4], [20, 18], [34, 33], [8, 30]], np.float32)
    outline = np.concatenate(
        [np.linspace(a, b, 2000) for a, b in zip(corners, np.roll(corners, -1, 0), strict=True)]
    )
    points = np.stack([y.ravel(), x.ravel()], axis=1)
    brute = np.array([np.hypot(*(outline - p).T).min() for p in points]).reshape(40, 40)
    signed = render.polygon(y, x, corners)
    assert np.abs(np.abs(signed) - brute).max() < 0.02
    from skimage.draw import polygon2mask

    clear = brute > 0.6
    assert np.array_equal((signed < 0)[clear], polygon2mask((40, 40), corners)[clear])

    path = corners[:4]
    line = np.concatenate([np.linspace(a, b, 2000) for a, b in pairwise(path)])
    brute = np.array([np.hypot(*(line - p).T).min() for p in points]).reshape(40, 40)
    assert np.abs(render.path_distance(y, x, path) - brute).max() < 0.02
    place = render.stroke(y, x, path)
    assert np.abs(place.distance - brute).max() < 0.02
    assert place.along.min() == 0
    assert place.along.max() == pytest.approx(1)


def test_smooth_noise_is_standard_and_smooth():
    rng = np.random.default_rng(0)
    field = render.smooth_noise(rng, (300, 300), 6)
    assert field.dtype == np.float32
    assert abs(field.mean()) < 0.05
    assert abs(field.std() - 1) < 0.05
    assert np.abs(np.diff(field, axis=0)).max() < 1


@pytest.mark.parametrize(
    ("options", "error", "match"),
    [
        ({"split": "training"}, ValueError, "shapes: split is 'training'"),
        ({"n_images": 0}, ValueError, "n_images"),
        ({"n_images": 2.5}, TypeError, "n_images"),
        ({"size": 64}, ValueError, r"size is 64, expected \(height, width\)"),
        ({"size": (16, 64)}, ValueError, "size is 16"),
        ({"overlap": 1.5}, ValueError, "overlap is 1.5"),
        ({"blur": -1}, ValueError, "blur"),
        ({"noise": float("nan")}, ValueError, "noise"),
        ({"illumination": 2}, ValueError, "illumination"),
        ({"scale": 0}, ValueError, "scale"),
        ({"label_fraction": 0}, ValueError, "label_fraction"),
        ({"seed": -1}, ValueError, "seed"),
        ({"bent": 0.1}, TypeError, "'shapes' has no option 'bent'"),
    ],
)
def test_wrong_options(options, error, match):
    with pytest.raises(error, match=match):
        load("shapes", **options)


def test_too_many_bad_pins():
    with pytest.raises(ValueError, match="add up to more than 1"):
        load("pins", bent=0.7, missing=0.4)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("size", [(32, 32), (33, 200), (200, 40)])
def test_odd_sizes(name, size):
    for sample in load(name, size=size, n_images=4):
        assert sample.image.shape == (*size, 3)


def test_fewer_classes_of_the_same_pictures():
    full = load("shapes", n_images=3, **SMALL)
    for n_classes in range(2, 7):
        grouped = load("shapes", n_images=3, n_classes=n_classes, **SMALL)
        assert len(grouped.classes) == n_classes
        for fine, coarse in zip(full, grouped, strict=True):
            assert np.array_equal(fine.image, coarse.image)
            pairs = set(zip(fine.labels.ravel().tolist(), coarse.labels.ravel().tolist()))
            for kind, group in pairs:
                assert full.classes[kind] in grouped.classes[group] or n_classes == 2
            assert len(pairs) == len({kind for kind, _ in pairs})  # each kind has one group
            assert np.array_equal(fine.labels > 0, coarse.labels > 0)
            middle = [coarse.labels[mask] for mask in coarse.instances.masks]
            for values, group in zip(middle, coarse.instances.classes, strict=True):
                assert (values == group).all()
    two = load("shapes", n_images=1, n_classes=2, label_fraction=0.02, **SMALL)
    assert two.classes == ("background", "object")
    assert set(np.unique(two.labels[0])) == {-1, 0, 1}
    with pytest.raises(ValueError, match="n_classes"):
        load("shapes", n_classes=7)
