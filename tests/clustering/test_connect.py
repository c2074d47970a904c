"""Superpixels made connected."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from skimage import measure

from segalgos.clustering._connect import connect
from segalgos.parallel import thread_limit


def _pieces(labels):
    """Connected pieces 0..n-1 of equal label in raster order, -1 outside."""
    pieces = measure.label(labels, connectivity=1, background=-1) - 1
    order, firsts = np.unique(pieces[pieces >= 0], return_index=True)
    numbers = np.full(pieces.size + 1, -1)
    numbers[order] = np.argsort(np.argsort(firsts))
    return numbers[pieces]


def _neighbours(pieces, i):
    found = set()
    for axis in range(pieces.ndim):
        a, b = (np.moveaxis(pieces, axis, 0)[part] for part in (slice(1, None), slice(-1)))
        found |= set(b[a == i].tolist()) | set(a[b == i].tolist())
    return found - {i, -1}


def _brute_force(labels, features, n_segments, min_size):
    pieces = _pieces(labels)
    alone = set()
    while True:
        left = [i for i in np.unique(pieces) if i >= 0]
        sizes = {i: int((pieces == i).sum()) for i in left}
        waiting = sorted((sizes[i], i) for i in left if i not in alone)
        n_left = len(left) - sum(sizes[i] < min_size for i in alone)
        if not waiting or (n_left <= n_segments and waiting[0][0] >= min_size):
            break
        small = waiting[0][1]
        means = {i: features[:, pieces == i].mean(axis=1) for i in left}
        near = [(((means[i] - means[small]) ** 2).sum(), i) for i in _neighbours(pieces, small)]
        if near:
            pieces[pieces == small] = min(near)[1]
        else:
            alone.add(small)
    return _pieces(pieces)


@settings(max_examples=300, derandomize=True, deadline=None)
@given(
    shape=st.one_of(
        st.tuples(st.just(1), st.integers(1, 9), st.integers(1, 9)),
        st.tuples(st.integers(1, 4), st.integers(1, 4), st.integers(1, 6)),
    ),
    n_labels=st.integers(1, 4),
    density=st.sampled_from([0.4, 0.8, 1.0]),
    n_segments=st.integers(1, 8),
    min_size=st.integers(1, 5),
    seed=st.integers(0, 2**32 - 1),
)
def test_equals_brute_force(shape, n_labels, density, n_segments, min_size, seed):
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, n_labels, shape, dtype=np.int32)
    labels[rng.random(shape) >= density] = -1
    # Integers: their sums and so the ties are exact, but hardly any two means are equal.
    features = rng.integers(0, 100000, (2, *shape)).astype(np.float32)
    expected = _brute_force(labels, features, n_segments, min_size)
    connect(labels, features, n_segments, min_size)
    np.testing.assert_array_equal(labels, expected)


@pytest.mark.parametrize("shape", [(1, 300, 400), (20, 70, 80), (200, 3, 150), (1, 1, 70000)])
def test_strips_and_threads_change_nothing(shape):
    rng = np.random.default_rng(1)
    labels = rng.integers(0, 3, shape, dtype=np.int32)
    labels[rng.random(shape) < 0.1] = -1
    features = np.zeros((1, *shape), np.float32)
    results = []
    for limit in (1, 2, 4):
        with thread_limit(limit):
            results.append(labels.copy())
            connect(results[-1], features, labels.size, 1)
    np.testing.assert_array_equal(results[0], _pieces(labels))
    np.testing.assert_array_equal(results[1], results[0])
    np.testing.assert_array_equal(results[2], results[0])


def test_joins_the_most_similar_neighbour():
    labels = np.zeros((1, 5, 9), np.int32)
    labels[0, :, 6:] = 1
    labels[0, 2, 5] = 2
    features = np.array([10.0, 90.0, 60.0], np.float32)[labels][None]
    connect(labels, features, 2, 2)
    assert labels[0, 2].tolist() == [0, 0, 0, 0, 0, 1, 1, 1, 1]
    assert labels[0, 1].tolist() == [0, 0, 0, 0, 0, 0, 1, 1, 1]


def test_nothing_inside():
    labels = np.full((1, 3, 4), -5, np.int32)
    connect(labels, np.zeros((1, 1, 3, 4), np.float32), 3, 1)
    assert (labels == -1).all()
