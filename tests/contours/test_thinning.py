"""Non-maximum suppression."""

import numpy as np
import pytest

from segalgos.contours.thinning import non_maximum_suppression


def reference(strengths):
    """The same pixel by pixel, by bilinear interpolation of the map of peaks."""
    n, height, width = strengths.shape
    peaks, best = strengths.max(axis=0), strengths.argmax(axis=0)
    padded = np.pad(peaks, 1, mode="edge").astype(float)

    def read(row, column):
        r, c = int(np.floor(row)), int(np.floor(column))
        y, x = row - r, column - c
        total = 0.0
        for i, wy in ((r, 1 - y), (r + 1, y)):
            for j, wx in ((c, 1 - x), (c + 1, x)):
                total += wy * wx * (padded[i + 1, j + 1] if wy * wx > 0 else 0)
        return total

    out = np.zeros_like(peaks)
    for i in range(height):
        for j in range(width):
            angle = best[i, j] * np.pi / n
            step = np.array([np.cos(angle), np.sin(angle)])
            step = np.round(step, 12)
            before, after = read(i - step[0], j - step[1]), read(i + step[0], j + step[1])
            row, column = i + step[0], j + step[1]
            inside = 0 <= row <= height - 1 and 0 <= column <= width - 1
            least = after - 1e-6 if inside else after + 1e-6
            if peaks[i, j] > before + 1e-6 and peaks[i, j] >= least:
                out[i, j] = peaks[i, j]
    return out


@pytest.mark.parametrize("n_orientations", [1, 2, 4, 8, 12])
@pytest.mark.parametrize("shape", [(20, 23), (1, 9), (9, 1), (1, 1)])
def test_equals_bilinear_reference(shape, n_orientations):
    strengths = np.random.default_rng(0).random((n_orientations, *shape)).astype(np.float32)
    np.testing.assert_array_equal(non_maximum_suppression(strengths), reference(strengths))


@pytest.mark.parametrize("k", range(8))
def test_a_straight_ridge_becomes_a_thin_line(k):
    rows, columns = np.mgrid[-20:21, -20:21]
    angle = k * np.pi / 8
    across = columns * np.sin(angle) + rows * np.cos(angle)
    strengths = np.zeros((8, 41, 41), np.float32)
    strengths[k] = np.exp(-0.5 * (across / 3) ** 2)
    thin = non_maximum_suppression(strengths) > 0.5
    assert np.abs(across[thin]).max() < 1
    assert 41 <= thin.sum() <= 60
    assert thin[20, 20]


@pytest.mark.parametrize("side", range(4))
def test_all_borders_are_alike(side):
    strengths = np.zeros((2, 12, 12), np.float32)
    strengths[0, 0] = 1  # along the border
    strengths[0, 5] = 1
    strengths[1, 7:, 4] = 1  # into the border
    thin = np.rot90(non_maximum_suppression(strengths), side)
    turned = np.rot90(strengths, side, axes=(1, 2))
    turned = turned[::-1] if side % 2 else turned
    np.testing.assert_array_equal(non_maximum_suppression(turned), thin)
    assert non_maximum_suppression(strengths).sum() == 12 + 5


def test_nothing_of_nothing():
    assert not non_maximum_suppression(np.zeros((8, 5, 6))).any()
    assert not non_maximum_suppression(np.ones((8, 5, 6))).any()


def test_input_is_left_alone():
    strengths = np.random.default_rng(1).random((8, 9, 9))
    strengths.flags.writeable = False
    np.testing.assert_array_equal(
        non_maximum_suppression(strengths), non_maximum_suppression(strengths.astype(np.float32))
    )


@pytest.mark.parametrize("k", range(8))
def test_a_ridge_without_orientations_becomes_the_same_line(k):
    rows, columns = np.mgrid[-20:21, -20:21]
    angle = k * np.pi / 8
    across = columns * np.sin(angle) + rows * np.cos(angle)
    strength = np.exp(-0.5 * (across / 3) ** 2).astype(np.float32)
    strengths = np.zeros((8, 41, 41), np.float32)
    strengths[k] = strength
    inner = slice(4, -4)
    thin = non_maximum_suppression(strength)[inner, inner] > 0.5
    np.testing.assert_array_equal(thin, non_maximum_suppression(strengths)[inner, inner] > 0.5)


def test_without_orientations_nothing_remains_where_no_ridge_is():
    assert not non_maximum_suppression(np.ones((5, 6))).any()
    slope = np.tile(np.arange(20.0), (20, 1)) ** 2
    assert not non_maximum_suppression(slope)[:, :-3].any()
    assert non_maximum_suppression(np.ones((1, 1))).tolist() == [[0]]


def test_errors():
    with pytest.raises(ValueError, match=r"shape \(5,\), expected .n_orientations, H, W. or"):
        non_maximum_suppression(np.zeros(5))
    with pytest.raises(ValueError, match="at least one pixel"):
        non_maximum_suppression(np.zeros((8, 0, 3)))
    with pytest.raises(ValueError, match="NaN or inf"):
        non_maximum_suppression(np.full((8, 3, 3), np.nan))
    with pytest.raises(ValueError, match=r"beyond .*float32"):
        non_maximum_suppression(np.full((8, 3, 3), 1e300))
