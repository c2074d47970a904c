"""Parabolas fitted across contours."""

import numpy as np
import pytest
from scipy import ndimage

from segalgos.contours import _oriented_fit as module
from segalgos.contours._oriented_fit import fit_parabolas
from segalgos.parallel import thread_limit


def least_squares_kernel(radius, k):
    """Response of the fit to a single pixel, from numpy's least squares."""
    rows, columns = np.mgrid[-radius : radius + 1, -radius : radius + 1]
    angle = k * np.pi / 8
    across = columns * np.sin(angle) + rows * np.cos(angle)
    along = columns * np.cos(angle) - rows * np.sin(angle)
    inside = (along / radius) ** 2 + (across / max(1.5, radius / 4)) ** 2 <= 1 + 1e-9
    design = np.stack([np.ones(inside.sum()), across[inside], across[inside] ** 2], axis=1)
    kernel = np.zeros(inside.shape)
    kernel[inside] = np.linalg.lstsq(design, np.eye(inside.sum()), rcond=None)[0][0]
    return kernel


@pytest.mark.parametrize("radius", [1, 2, 3, 5, 10, 20])
def test_equals_least_squares(radius):
    strengths = np.random.default_rng(0).random((8, 50, 53)).astype(np.float32)
    got = fit_parabolas(strengths, radius)
    inner = slice(radius, -radius)
    for k in range(8):
        expected = ndimage.correlate(strengths[k].astype(float), least_squares_kernel(radius, k))
        np.testing.assert_allclose(got[k, inner, inner], expected.clip(0)[inner, inner], atol=2e-6)


def test_mirrored_beyond_the_borders():
    rng = np.random.default_rng(1)
    strengths = rng.random((8, 12, 15)).astype(np.float32)
    across = strengths[-np.arange(8) % 8][..., ::-1]
    wide = np.concatenate([across, strengths, across], axis=2)
    both = np.concatenate([wide[-np.arange(8) % 8][:, ::-1], wide], axis=1)
    both = np.concatenate([both, both[:, :12]], axis=1)
    expected = fit_parabolas(both, 5)[:, 12:24, 15:30]
    np.testing.assert_allclose(fit_parabolas(strengths, 5), expected, atol=2e-6)


@pytest.mark.parametrize("shape", [(1, 1), (1, 30), (30, 1), (2, 3)])
def test_constant_stays(shape):
    strengths = np.full((8, *shape), 0.25, np.float32)
    np.testing.assert_allclose(fit_parabolas(strengths, 10), 0.25, atol=1e-6)


@pytest.mark.parametrize("width", [980, 987, 995, 1004])
def test_the_last_chunk_looks_at_nothing_beyond_its_window(width, monkeypatch):
    calls = []

    def check(window, n_columns, reach, offsets, weights, out):
        first = reach * (n_columns + 1)
        last = first + (out.shape[0] * n_columns - 1) // module.CHUNK * module.CHUNK
        assert first + offsets.min() >= 0
        assert last + offsets.max() + module.CHUNK <= window.size
        calls.append(width)

    monkeypatch.setattr(module, "_weigh_window", check)
    fit_parabolas(np.zeros((8, 1, width), np.float32), 20)
    assert len(calls) == 8


def test_a_noisy_ridge_becomes_smooth_and_keeps_its_height():
    rng = np.random.default_rng(2)
    profile = 1 - (np.arange(60) - 30.0) ** 2 / 100
    ridge = np.broadcast_to(profile.clip(0), (60, 60))
    strengths = np.repeat((ridge + rng.normal(0, 0.1, ridge.shape))[None], 8, axis=0)
    smooth = fit_parabolas(strengths.astype(np.float32), 10)[4]
    inner = slice(12, -12)
    assert np.abs(smooth - ridge)[inner, 28:33].max() < 0.08
    assert np.abs(strengths[4] - ridge)[inner, 28:33].max() > 0.2


def test_any_number_of_threads():
    strengths = np.random.default_rng(3).random((8, 70, 40)).astype(np.float32)
    with thread_limit(1):
        one = fit_parabolas(strengths, 5)
    with thread_limit(3):
        np.testing.assert_array_equal(fit_parabolas(strengths, 5), one)
