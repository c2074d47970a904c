"""Half-disc histogram differences against sums over every pixel of every half-disc."""

import numpy as np
import pytest

from segalgos.contours._half_discs import half_disc_gradients, make_discs
from segalgos.parallel import thread_limit


def halves(radius, k):
    """Weights (2 * radius + 1, 2 * radius + 1) of the pixels of either half."""
    rows, columns = np.mgrid[-radius : radius + 1, -radius : radius + 1]
    disc = rows**2 + columns**2 <= radius**2
    angle = k * np.pi / 8
    side = columns * np.sin(angle) + rows * np.cos(angle)  # rows go down
    side[np.abs(side) < 1e-9] = 0
    return disc * (1 + np.sign(side)) / 2, disc * (1 - np.sign(side)) / 2


def brute_force(codes, weights, radius, mask=None):
    height, width = codes.shape
    inside = np.ones(codes.shape) if mask is None else mask.astype(float)
    bins = np.concatenate([weights[:, codes] * inside, inside[None]])
    bins = np.pad(bins, ((0, 0), (radius, radius), (radius, radius)), mode="symmetric")
    out = np.empty((8, height, width))
    for k in range(8):
        sums = []
        for half in halves(radius, k):
            total = np.zeros((len(bins), height, width))
            for i, j in zip(*np.nonzero(half)):
                total += half[i, j] * bins[:, i : i + height, j : j + width]
            sums.append(total)
        (*first, n_first), (*second, n_second) = sums
        g = np.array(first) / np.maximum(n_first, 1e-9)
        h = np.array(second) / np.maximum(n_second, 1e-9)
        distance = 0.5 * ((g - h) ** 2 / np.where(g + h > 0, g + h, 1)).sum(axis=0)
        fewer, more = np.minimum(n_first, n_second), np.maximum(n_first, n_second)
        out[k] = distance * fewer / np.maximum(more, 1e-9)
    return out


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("shape", [(25, 31), (3, 40), (1, 9), (20, 1), (1, 1), (5, 270), (66, 5)])
@pytest.mark.parametrize("radii", [(1, 2, 4), (3, 5, 10), (7,)])
def test_equals_brute_force(shape, radii, masked):
    rng = np.random.default_rng(0)
    codes = rng.integers(0, 5, shape)
    mask = rng.random(shape) > 0.4 if masked else None
    got = half_disc_gradients(codes, np.eye(5), radii, mask)
    assert got.shape == (len(radii), 8, *shape)
    assert got.dtype == np.float32
    for scale, radius in enumerate(radii):
        expected = brute_force(codes, np.eye(5), radius, mask)
        np.testing.assert_allclose(got[scale], expected, atol=1e-6)


def test_soft_bins_are_exact_to_their_rounding():
    rng = np.random.default_rng(1)
    codes = rng.integers(0, 40, (30, 30))
    weights = np.exp(-0.5 * ((np.arange(10)[:, None] - np.arange(40) / 4) / 1.2) ** 2)
    weights /= weights.sum(axis=0)
    got = half_disc_gradients(codes, weights, (5, 20))
    for scale, radius in enumerate((5, 20)):
        np.testing.assert_allclose(got[scale], brute_force(codes, weights, radius), atol=5e-3)
    # Codes that fill the same bin to the last pixel: the largest sums there may be.
    one = half_disc_gradients(np.zeros((70, 70), int), np.ones((1, 1)), (45,))
    assert not one.any()


def test_large_discs_do_not_overflow():
    codes = np.zeros((60, 260), int)
    codes[:, 130:] = 1
    got = half_disc_gradients(codes, np.array([[0.9, 0.1], [0.1, 0.9]]), (120,))
    # Upright, in the middle: g = .9, h = .1 less the share on the diameter, half to either side.
    assert got[0, 4, 30, 130] == pytest.approx(0.64, abs=0.01)
    assert got[0, 4].max() == got[0, 4, 30].max() > got[0, [3, 5]].max()


def test_halves_are_equal_and_fill_the_disc():
    for radius in (1, 3, 5, 10, 20):
        for k in range(8):
            first, second = halves(radius, k)
            assert first.sum() == second.sum()
            np.testing.assert_array_equal(first, second[::-1, ::-1])
        assert make_discs((radius,)).areas[0] == (first + second).sum()


def test_turned_and_mirrored_images():
    codes = np.random.default_rng(2).integers(0, 4, (40, 70))
    before = half_disc_gradients(codes, np.eye(4), (3, 8))
    turned = half_disc_gradients(np.rot90(codes), np.eye(4), (3, 8))
    np.testing.assert_array_equal(turned, np.rot90(np.roll(before, 4, axis=1), axes=(2, 3)))
    mirrored = half_disc_gradients(codes[:, ::-1], np.eye(4), (3, 8))
    np.testing.assert_array_equal(mirrored, before[:, -np.arange(8) % 8, :, ::-1])


def test_masked_pixels_have_no_influence():
    rng = np.random.default_rng(3)
    codes, mask = rng.integers(0, 4, (30, 40)), rng.random((30, 40)) > 0.5
    other = np.where(mask, codes, 3 - codes)
    np.testing.assert_array_equal(
        half_disc_gradients(codes, np.eye(4), (4, 9), mask),
        half_disc_gradients(other, np.eye(4), (4, 9), mask),
    )
    everything = half_disc_gradients(codes, np.eye(4), (4, 9), np.ones_like(mask))
    np.testing.assert_allclose(everything, half_disc_gradients(codes, np.eye(4), (4, 9)), atol=1e-6)


def test_any_number_of_threads():
    codes = np.random.default_rng(4).integers(0, 300, (70, 300))  # more than a byte holds
    with thread_limit(1):
        one = half_disc_gradients(codes, np.eye(300), (2, 5))
    with thread_limit(3):
        np.testing.assert_array_equal(half_disc_gradients(codes, np.eye(300), (2, 5)), one)
