"""The simulated annotator: right labels only, as many strokes as asked for, smooth and apart."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from segalgos.bench.scribbler import draw_scribbles, draw_scribbles_on
from segalgos.bench.user import depth_inside


def _strokes(scribbles, k):
    """The connected strokes of a class, each as its pixels (N, 2)."""
    found, n = ndimage.label(scribbles == k, np.ones((3, 3)))
    return [np.argwhere(found == i + 1) for i in range(n)]


def _counts(scribbles, n_classes):
    return [len(_strokes(scribbles, k)) for k in range(n_classes)]


@pytest.fixture(scope="module")
def blobs():
    """Three classes in rounded regions of all sizes, and some void."""
    rng = np.random.default_rng(5)
    field = ndimage.gaussian_filter(rng.normal(size=(150, 220)), 8)
    labels = np.searchsorted(np.quantile(field, [0.5, 0.9]), field).astype(np.int32)
    labels[ndimage.gaussian_filter(rng.normal(size=labels.shape), 6) > 0.06] = -1
    return labels


@pytest.mark.parametrize("width", [1, 2, 3, 5])
@pytest.mark.parametrize("n_strokes", [1, 3, 17])
def test_only_right_labels_and_as_many_strokes_as_asked_for(blobs, n_strokes, width):
    for seed in range(3):
        scribbles = draw_scribbles(blobs, n_strokes, random_state=seed, width=width)
        drawn = scribbles >= 0
        assert scribbles.dtype == np.int32
        np.testing.assert_array_equal(scribbles[drawn], blobs[drawn])
        counts = _counts(scribbles, 3)
        assert sum(counts) == n_strokes
        assert min(counts) >= (n_strokes >= 3)


@given(
    rows=st.lists(st.integers(-1, 3), min_size=1, max_size=120),
    height=st.integers(1, 9),
    n_strokes=st.integers(0, 12),
    width=st.integers(1, 6),
    length=st.none() | st.integers(1, 20),
)
@settings(max_examples=60, deadline=None)
def test_never_a_wrong_pixel(rows, height, n_strokes, width, length):
    labels = np.resize(rows, (height, -(-len(rows) // height)))
    scribbles = draw_scribbles(labels, n_strokes, random_state=1, width=width, length=length)
    assert scribbles.shape == labels.shape
    assert np.isin(scribbles - labels, 0)[scribbles >= 0].all()
    classes = np.unique(labels[labels >= 0])
    assert len(np.unique(scribbles[scribbles >= 0])) == min(n_strokes, len(classes))
    assert sum(_counts(scribbles, 4)) <= n_strokes


def test_more_strokes_only_add(blobs):
    truths = [blobs, blobs[:, ::-1], blobs[20:100, 30:150]]
    before = draw_scribbles_on(truths, 4, random_state=7)
    for n_strokes in (5, 9, 30, 60):
        after = draw_scribbles_on(truths, n_strokes, random_state=7)
        for a, b in zip(before, after, strict=True):
            np.testing.assert_array_equal(b[a >= 0], a[a >= 0])
        assert sum((s >= 0).sum() for s in after) > sum((s >= 0).sum() for s in before)
        before = after


def test_the_seed_decides(blobs):
    first, again, other = (draw_scribbles(blobs, 8, random_state=s) for s in (3, 3, 4))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)


def test_more_strokes_on_larger_classes_by_the_square_root_of_the_area():
    labels = np.zeros((200, 500), np.int32)
    labels[:, 400:] = 1  # a quarter of the other: half as many strokes
    assert _counts(draw_scribbles(labels, 18, random_state=0), 2) == [12, 6]
    assert _counts(draw_scribbles(labels, 1, random_state=0), 2) == [1, 0]


def test_strokes_are_slender_and_no_longer_than_allowed():
    labels = np.zeros((300, 300), np.int32)
    for seed in range(5):
        scribbles = draw_scribbles(labels, 8, random_state=seed, length=40, width=3)
        strokes = _strokes(scribbles, 0)
        assert len(strokes) == 8
        for pixels in strokes:
            extent = np.hypot(*np.ptp(pixels, axis=0))
            assert 0.5 * 20 < extent < 40 * np.sqrt(2) + 3
            assert 2 <= len(pixels) / extent <= 6
        extents = [np.hypot(*np.ptp(pixels, axis=0)) for pixels in strokes]
        assert len({round(e) for e in extents}) > 3


def test_long_strokes_are_curved():
    """Neither straight nor curled up: the ends are apart by most of the way along."""
    labels = np.zeros((400, 400), np.int32)
    ratios = []
    for seed in range(20):
        (pixels,) = _strokes(draw_scribbles(labels, 1, random_state=seed, length=80, width=1), 0)
        centred = pixels - pixels.mean(axis=0)
        along = np.linalg.svd(centred, full_matrices=False)[2][0]
        position = centred @ along
        bent = centred - position[:, None] * along
        ratios.append(np.ptp(bent @ bent[np.hypot(*bent.T).argmax()]) / np.ptp(position))
        assert np.ptp(position) > 0.5 * len(pixels)
    assert np.median(ratios) > 0.05


def test_strokes_keep_away_from_borders_where_there_is_room():
    labels = np.zeros((120, 160), np.int32)
    labels[30:90, 40:120] = 1
    for seed in range(5):
        scribbles = draw_scribbles(labels, 12, random_state=seed, width=3)
        for k in (0, 1):
            # The centre is four pixels from the border at least, the brush reaches one farther.
            assert depth_inside(labels == k)[scribbles == k].min() >= 4 - np.sqrt(2)


def test_strokes_spread():
    """Twenty strokes reach every third of a square, both ways."""
    labels = np.zeros((150, 150), np.int32)
    for seed in range(5):
        rows, columns = np.nonzero(draw_scribbles(labels, 20, random_state=seed) >= 0)
        assert len(set(zip(rows // 50, columns // 50, strict=True))) == 9


def test_a_thin_class_gets_thin_strokes():
    columns = np.arange(300)
    line = np.rint(60 + 25 * np.sin(columns / 40)).astype(int)
    labels = np.zeros((120, 300), np.int32)
    for shift in (0, 1):
        labels[line + shift, columns] = 1
    scribbles = draw_scribbles(labels, 24, random_state=2, length=40)
    np.testing.assert_array_equal(scribbles[scribbles >= 0], labels[scribbles >= 0])
    strokes = _strokes(scribbles, 1)
    assert len(strokes) >= 2
    assert max(len(pixels) for pixels in strokes) >= 20  # it follows the line


def test_regions_of_one_pixel():
    labels = np.zeros((40, 50), np.int32)
    labels[10, 20], labels[0, 0] = 1, 2
    scribbles = draw_scribbles(labels, 30, random_state=0)
    assert np.argwhere(scribbles == 1).tolist() == [[10, 20]]
    assert np.argwhere(scribbles == 2).tolist() == [[0, 0]]
    assert draw_scribbles([[4]], 3, random_state=0).tolist() == [[4]]


def test_one_class_only():
    scribbles = draw_scribbles(np.full((60, 60), 7), 5, random_state=0)
    assert set(np.unique(scribbles)) == {-1, 7}
    assert len(_strokes(scribbles, 7)) == 5


def test_nothing_known_or_nothing_asked_for(blobs):
    nothing = np.full((9, 11), -1, np.int32)
    np.testing.assert_array_equal(draw_scribbles(nothing, 5, random_state=0), nothing)
    assert (draw_scribbles(blobs, 0, random_state=0) == -1).all()
    first, second = draw_scribbles_on([nothing, blobs], 5, random_state=0)
    assert (first == -1).all()
    assert sum(_counts(second, 3)) == 5
    assert draw_scribbles_on([], 5, random_state=0) == []


def test_several_images_share_the_strokes(blobs):
    rare = np.where(blobs == 2, 1, blobs)
    rare[:10, :10] = 2  # here class 2 is a corner
    truths = [blobs, rare, np.zeros((80, 90), np.int32)]
    drawn = draw_scribbles_on(truths, 48, random_state=0)
    counts = np.array([_counts(scribbles, 3) for scribbles in drawn])
    assert counts.sum() == 48
    assert (counts.sum(axis=0) >= 2).all()
    assert (counts.sum(axis=1) >= 2).all()
    assert counts[0, 2] > counts[1, 2] >= 1
    for truth, scribbles in zip(truths, drawn, strict=True):
        np.testing.assert_array_equal(scribbles[scribbles >= 0], truth[scribbles >= 0])


def test_a_class_goes_to_other_images_before_it_comes_back():
    drawn = draw_scribbles_on([np.zeros((50, 60), int)] * 6, 6, random_state=1)
    assert [len(_strokes(scribbles, 0)) for scribbles in drawn] == [1] * 6
    assert not np.array_equal(drawn[0], drawn[1])


def test_bad_arguments_are_named(blobs):
    with pytest.raises(ValueError, match=r"labels\[0\] has shape \(3,\), expected \(H, W\)"):
        draw_scribbles([1, 2, 3], 4, random_state=0)
    with pytest.raises(TypeError, match="expected integers"):
        draw_scribbles(blobs / 2, 4, random_state=0)
    for name, options in {
        "n_strokes": {"n_strokes": -1},
        "width": {"width": 0},
        "length": {"length": 0},
        "random_state": {"random_state": -2},
    }.items():
        with pytest.raises(ValueError, match=f"draw_scribbles: {name} is"):
            draw_scribbles(blobs, **{"n_strokes": 4, "random_state": 0, **options})
    with pytest.raises(TypeError, match="random_state is None"):
        draw_scribbles(blobs, 4, random_state=None)
