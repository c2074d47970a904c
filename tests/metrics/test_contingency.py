import subprocess
import sys

import numpy as np
import pytest
from skimage.metrics import contingency_table as skimage_contingency_table

from segalgos.metrics import contingency_table


def dense_brute_force(labels, truth):
    pairs = {}
    for label, true in zip(labels.ravel().tolist(), truth.ravel().tolist()):
        if true != -1:
            pairs[label, true] = pairs.get((label, true), 0) + 1
    return pairs


def as_dict(table):
    return {
        (int(table.label_ids[row]), int(table.truth_ids[column])): int(count)
        for row, column, count in zip(table.rows, table.columns, table.counts)
    }


@pytest.mark.parametrize("dtype", ["int8", "uint8", "int16", "uint16", "int32", "int64", "uint64"])
def test_any_integer_dtype(dtype):
    rng = np.random.default_rng(0)
    labels, truth = rng.integers(0, 9, (2, 13, 7)).astype(dtype)
    assert as_dict(contingency_table(labels, truth)) == dense_brute_force(labels, truth)


@pytest.mark.parametrize("scale", [1, 1000, 10**8, 10**17])
@pytest.mark.parametrize("shape", [(40,), (9, 11), (4, 5, 6), (150, 200)])
def test_small_and_gappy_ids_equal_brute_force(shape, scale):
    rng = np.random.default_rng(1)
    labels = rng.integers(-1, 60, shape)
    truth = rng.integers(-1, 40, shape)
    labels[labels > 0] *= scale
    truth[truth > 0] *= scale + 1
    table = contingency_table(labels, truth)
    assert as_dict(table) == dense_brute_force(labels, truth)
    assert table.n_pixels == (truth >= 0).sum()
    np.testing.assert_array_equal(table.label_ids, np.unique(labels[truth >= 0]))
    np.testing.assert_array_equal(table.truth_ids, np.unique(truth[truth >= 0]))
    np.testing.assert_array_equal(table.label_sizes, table.to_dense().sum(axis=1))
    np.testing.assert_array_equal(table.truth_sizes, table.to_dense().sum(axis=0))


def test_hash_table_grows():
    # 30,000 pairs in 30,000 pixels: the table has to double several times.
    labels = np.arange(30_000) * 10**12
    truth = labels[::-1]
    table = contingency_table(labels, truth)
    np.testing.assert_array_equal(table.label_ids, labels)
    np.testing.assert_array_equal(table.truth_ids[table.columns], truth)
    assert (table.counts == 1).all()


def test_equals_skimage():
    rng = np.random.default_rng(2)
    labels, truth = rng.integers(0, 20, (2, 64, 48))
    ours = contingency_table(labels, truth).to_dense()
    np.testing.assert_array_equal(ours, skimage_contingency_table(labels, truth).toarray())


def test_ious_of_pairs():
    table = contingency_table([[1, 1, 2, 2]], [[0, 1, 1, 1]])
    np.testing.assert_array_equal(table.pair_ious(), [1 / 2, 1 / 4, 2 / 3])


def test_ignored_pixels_touch_nothing_but_unlabelled_ones_count():
    table = contingency_table([[0, 7, -1, -1]], [[3, -1, 3, -1]])
    assert as_dict(table) == {(0, 3): 1, (-1, 3): 1}


@pytest.mark.parametrize("shape", [(0,), (0, 5)])
def test_no_pixels(shape):
    table = contingency_table(np.zeros(shape, int), np.zeros(shape, int))
    assert table.n_pixels == table.label_ids.size == table.counts.size == 0


def test_views_and_masks_are_taken_as_they_are():
    rng = np.random.default_rng(3)
    labels, truth = rng.integers(0, 5, (2, 30, 20))
    expected = as_dict(contingency_table(labels[::2, ::-3].copy(), truth[::2, ::-3].copy()))
    labels.flags.writeable = False
    fortran = np.asfortranarray(truth[::2, ::-3])
    assert as_dict(contingency_table(labels[::2, ::-3], fortran)) == expected
    assert as_dict(contingency_table(labels > 2, labels > 2)).keys() == {(0, 0), (1, 1)}


def test_bad_input():
    zeros = np.zeros((3, 4), int)
    with pytest.raises(TypeError, match=r"contingency_table: labels has dtype float64.*astype"):
        contingency_table(zeros.astype(float), zeros)
    with pytest.raises(TypeError, match="truth has dtype float64"):
        contingency_table(zeros, zeros.astype(float))
    with pytest.raises(ValueError, match=r"shape \(3, 4\), truth has \(4, 3\)"):
        contingency_table(zeros, zeros.T)
    with pytest.raises(ValueError, match="truth holds the id -2"):
        contingency_table(zeros, zeros - 2)
    with pytest.raises(ValueError, match="labels holds the id 18446744073709551615"):
        contingency_table(np.full((3, 4), 2**64 - 1, np.uint64), zeros)
    with pytest.raises(ValueError, match=r"masked pixels: pass truth\.filled"):
        contingency_table(zeros, np.ma.masked_equal(zeros, 0))


def test_importing_the_room_compiles_nothing():
    code = (
        "import sys, segalgos.metrics as m\n"
        "assert 'region_scores' in dir(m)\n"
        "assert not {'numba', 'sklearn', 'torch'} & set(sys.modules)\n"
        "m.region_scores, m.instance_scores, m.semantic_scores\n"
        "assert not {'sklearn', 'torch'} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
