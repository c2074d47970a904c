"""Distinct values of pixels."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from segalgos import distinct
from segalgos.distinct import all_rows, distinct_rows, group_rows
from segalgos.parallel import thread_limit


def _assert_groups(rows, mask=None):
    """Compare with numpy; returns the groups."""
    groups = group_rows(rows, mask)
    inside = np.ones(len(rows), bool) if mask is None else mask
    expected, counts = np.unique(rows[inside], axis=0, return_counts=True)
    order = np.lexsort(groups.values.T[::-1])
    np.testing.assert_array_equal(groups.values[order], expected)
    np.testing.assert_array_equal(groups.counts[order], counts)
    assert groups.values.dtype == np.float32
    assert groups.counts.dtype == np.float64
    inverse = groups.inverse()
    assert inverse.dtype == np.int32
    np.testing.assert_array_equal(groups.values[inverse[inside]], rows[inside])
    assert (inverse[~inside] == -1).all()
    return groups


@pytest.fixture(params=[False, True], ids=["hashed", "counted"])
def counted(request, monkeypatch):
    """Let small tables be counted in the table of all colours, too."""
    if request.param:
        monkeypatch.setattr(distinct, "SMALL", 0)
    return request.param


@settings(max_examples=300, derandomize=True, deadline=None)
@given(st.data())
def test_equals_numpy(data):
    n = data.draw(st.integers(1, 60))
    n_channels = data.draw(st.integers(1, 6))
    n_levels = data.draw(st.integers(1, 6))
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32)))
    levels = data.draw(
        st.sampled_from(["bytes", "0..1", "0..255", "0..65535", "signed", "normal", "huge"])
    )
    rows = rng.integers(0, n_levels, (n, n_channels)).astype(np.uint8) * np.uint8(51)
    white = {"0..1": 255, "0..255": 1, "0..65535": 1 / 257}
    if levels in white:
        rows = (rows / white[levels]).astype(np.float32)
    elif levels == "signed":
        rows = rows.astype(np.float32) - 51
    elif levels == "normal":
        rows = rng.normal(size=n_levels)[rows // 51].astype(np.float32)
    elif levels == "huge":
        rows = rows.astype(np.float32) * np.float32(1e36)
    mask = rng.random(n) < 0.7 if data.draw(st.booleans()) else None
    _assert_groups(rows, mask)


@pytest.mark.parametrize("n_channels", [1, 2, 3])
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("spread", [3, 20, 128])
def test_sorted_colors(n_channels, masked, spread):
    """Few colours, which fill their cells, up to many, of which each is alone in one."""
    rng = np.random.default_rng(n_channels)
    middle = rng.integers(spread, 257 - spread, (1, n_channels))
    rows = (middle + rng.integers(-spread, spread, (4000, n_channels))).astype(np.uint8)
    _assert_groups(rows, rng.random(len(rows)) < 0.7 if masked else None)


@pytest.mark.parametrize("n_channels", [1, 2, 3])
def test_table_of_colors(n_channels, monkeypatch):
    monkeypatch.setattr(distinct, "SMALL", 0)
    rng = np.random.default_rng(n_channels)
    # One colour far more often than a byte counts, and by parts of 255 exactly.
    rows = np.concatenate(
        [
            rng.integers(0, 256, (5000, n_channels)),
            np.full((255 * 7, n_channels), 255),
            np.full((256, n_channels), 3),
            np.full((255, n_channels), 254),
        ]
    ).astype(np.uint8)
    rng.shuffle(rows)
    groups = _assert_groups(rows)
    masked = _assert_groups(rows, rng.random(len(rows)) < 0.5)
    # Both ways to look up: 8 and 32 bits a colour.
    for n_numbers in (256, 70000):
        numbers = (np.arange(len(groups.values)) % n_numbers).astype(np.int32)
        np.testing.assert_array_equal(groups.expand(numbers), numbers[groups.inverse()])
    assert masked.counts.sum() < groups.counts.sum()


@pytest.mark.parametrize("white", [1, 255, 65535])
def test_floats_of_bytes_come_in_the_order_of_bytes(white, counted):
    rng = np.random.default_rng(0)
    codes = rng.integers(0, 256, (3000, 3), dtype=np.uint8)
    expected = group_rows(codes)
    rows = (codes * (white / 255)).astype(np.float32)
    groups = _assert_groups(rows)
    np.testing.assert_array_equal(groups.counts, expected.counts)
    np.testing.assert_array_equal(groups.inverse(), expected.inverse())
    # Outside the mask anything may lie.
    mask = rng.random(3000) < 0.5
    rows[~mask] = rng.normal(size=(3000, 3))[~mask] * 1e30
    masked = _assert_groups(rows, mask)
    np.testing.assert_array_equal(masked.inverse(), group_rows(codes, mask).inverse())


def test_floats_near_bytes_are_not_taken_for_them(counted):
    step = np.float32(1 / 255)
    near = np.nextafter(step, np.float32(1))
    _assert_groups(np.array([[step], [near], [step]]))
    _assert_groups(np.array([[0], [0.5], [0.002]], np.float32))
    _assert_groups(np.array([[-0.001], [0.0]], np.float32))


def test_negative_zero_is_zero(counted):
    rows = np.array([[0.0, 1], [-0.0, 1], [0.3, -0.0]], np.float32)
    groups = _assert_groups(rows)
    assert len(groups.values) == 2
    assert not np.signbit(groups.values).any()


def test_many_strips(monkeypatch):
    monkeypatch.setattr(distinct, "SMALL", 100)
    monkeypatch.setattr(distinct, "HASH_STRIP", 500)
    monkeypatch.setattr(distinct, "COUNT_STRIP", 700)
    rng = np.random.default_rng(1)
    few = rng.normal(size=(90, 4)).astype(np.float32)
    rows = few[rng.integers(0, 90, 3210)]
    codes = rng.integers(0, 20, (3210, 3)).astype(np.uint8) * np.uint8(12)
    mask = rng.random(3210) < 0.8
    for limit in (1, 2, 4):
        with thread_limit(limit):
            found = [_assert_groups(rows), _assert_groups(rows, mask), _assert_groups(codes, mask)]
        if limit == 1:
            expected = found
        for one, other in zip(found, expected, strict=True):
            np.testing.assert_array_equal(one.values, other.values)
            np.testing.assert_array_equal(one.inverse(), other.inverse())


def test_rows_that_differ_are_left_alone(monkeypatch):
    monkeypatch.setattr(distinct, "HASH_STRIP", 100)
    rows = np.random.default_rng(2).normal(size=(1000, 3)).astype(np.float32)
    rows[500:] = rows[:500]
    groups = group_rows(rows)
    np.testing.assert_array_equal(groups.values, rows)
    np.testing.assert_array_equal(groups.inverse(), np.arange(1000))
    mask = np.arange(1000) % 3 > 0
    groups = group_rows(rows, mask)
    np.testing.assert_array_equal(groups.values, rows[mask])
    np.testing.assert_array_equal(groups.inverse()[mask], np.arange(mask.sum()))
    assert (groups.inverse()[~mask] == -1).all()


def test_all_rows():
    rows = np.array([[7], [7], [9]], np.uint8)
    groups = all_rows(rows, np.array([True, False, True]))
    np.testing.assert_array_equal(groups.values, [[7], [9]])
    np.testing.assert_array_equal(groups.expand(np.array([4, 5], np.int32)), [4, -1, 5])


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_nothing_inside_the_mask(dtype, counted):
    groups = group_rows(np.zeros((5, 3), dtype), np.zeros(5, bool))
    assert groups.values.shape == (0, 3)
    np.testing.assert_array_equal(groups.inverse(), np.full(5, -1))


def test_weights(counted):
    rng = np.random.default_rng(3)
    rows = rng.integers(0, 3, (2000, 3)).astype(np.uint8)
    weights = rng.integers(0, 3, 2000).astype(np.float32) / 2
    values, totals, inverse = distinct_rows(rows, weights)
    expected, numbers = np.unique(rows[weights > 0], axis=0, return_inverse=True)
    order = np.lexsort(values.T[::-1])
    np.testing.assert_array_equal(values[order], expected)
    sums = np.bincount(numbers.ravel(), weights[weights > 0])
    np.testing.assert_array_equal(totals[order], sums)
    np.testing.assert_array_equal(values[inverse[weights > 0]], rows[weights > 0])
    assert (inverse[weights == 0] == -1).all()
