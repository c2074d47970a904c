import numpy as np
import pytest
from numpy.lib.stride_tricks import sliding_window_view
from scipy import ndimage

from segalgos.parallel import thread_limit
from segalgos.pixels import _stencils
from segalgos.pixels._eigenvalues import eigenvalues
from segalgos.pixels._filters import box_spread, box_taps, gaussian_taps, weigh

SHAPES = [(1, 1, 1), (1, 1, 9), (1, 9, 1), (3, 1, 2), (2, 700, 3), (4, 6, 530), (1, 40, 1100)]
CASES = [
    *((2, (1, *shape)) for shape in [(1, 1), (1, 9), (9, 1), (2, 2), (9, 11)]),
    *((3, shape) for shape in [(1, 1, 1), (1, 9, 1), (3, 1, 2), (2, 2, 2), (5, 6, 7)]),
]


def planes(shape, seed=0):
    return np.random.default_rng(seed).normal(size=(2, *shape)).astype(np.float32)


def all_rows(shape):
    return np.arange(shape[0] * shape[1])


def edge_windows(plane, radii):
    padded = np.pad(plane.astype(float), [(r, r) for r in radii], mode="edge")
    return sliding_window_view(padded, [2 * r + 1 for r in radii])


# --- windows -----------------------------------------------------------------------------


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("sigmas", [(0.1, 0.5, 1), (1.3, 2, 0.7), (6, 5.5, 7)])
def test_gaussian_is_scipys_in_float64(shape, sigmas):
    image = planes(shape)
    ours = weigh(image, [gaussian_taps(sigma) for sigma in sigmas])
    for plane, mine in zip(image, ours, strict=True):
        theirs = ndimage.gaussian_filter(plane.astype(float), sigmas, mode="nearest", truncate=4)
        np.testing.assert_allclose(mine, theirs, atol=2e-6)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("radii", [(1, 1, 1), (0, 2, 5), (3, 12, 8)])
def test_box_mean_and_variance_are_numpys(shape, radii):
    image = planes(shape)
    means, variances = weigh(image, [box_taps(r) for r in radii]), box_spread(image, radii)
    # Along an axis of one pixel every window holds copies of it: no matter how many.
    radii = [r if n > 1 else 0 for r, n in zip(radii, shape, strict=True)]
    for p in range(2):
        windows = edge_windows(image[p], radii)
        np.testing.assert_allclose(means[p], windows.mean(axis=(3, 4, 5)), atol=2e-6)
        np.testing.assert_allclose(variances[p], windows.var(axis=(3, 4, 5)), atol=4e-6)


def test_variance_survives_a_large_offset():
    noise = planes((1, 60, 70))
    offset = noise + np.float32(10000)
    exact = edge_windows(offset[0], (0, 3, 3)).var(axis=(3, 4, 5))
    np.testing.assert_allclose(box_spread(offset, (0, 3, 3))[0], exact, rtol=3e-3)
    naive = weigh(offset**2, [box_taps(r) for r in (0, 3, 3)])
    naive -= weigh(offset, [box_taps(r) for r in (0, 3, 3)]) ** 2
    assert np.abs(naive[0] - exact).max() > 1  # what the plain formula would give


def test_input_stays_and_threads_change_nothing():
    image = planes((3, 300, 700))
    before = image.copy()
    taps = [gaussian_taps(s) for s in (1, 3, 5)]
    with thread_limit(1):
        alone = weigh(image, taps), box_spread(image, (1, 2, 3))
    with thread_limit(4):
        together = weigh(image, taps), box_spread(image, (1, 2, 3))
    np.testing.assert_array_equal(alone[0], together[0])
    np.testing.assert_array_equal(alone[1], together[1])
    np.testing.assert_array_equal(image, before)
    flat = planes((1, 1, 1))
    assert not np.shares_memory(weigh(flat, taps), flat)


# --- stencils ----------------------------------------------------------------------------


def gradient_along(plane, axis):
    return np.gradient(plane, axis=axis) if plane.shape[axis] > 1 else np.zeros_like(plane)


@pytest.mark.parametrize(("ndim", "shape"), CASES)
def test_derivatives_are_numpys(ndim, shape):
    plane = planes(shape)[0]
    weights = np.array([0.5, 1, 0.25], np.float32)
    axes = range(3 - ndim, 3)
    first = {a: weights[a] * gradient_along(plane.astype(float), a) for a in axes}
    pairs = [(a, b) for a in axes for b in axes if a <= b]
    out = np.empty((len(pairs), shape[0] * shape[1], shape[2]), np.float32)
    _stencils.hessian(plane, ndim, weights, all_rows(shape), out)
    for (a, b), mine in zip(pairs, out, strict=True):
        wanted = weights[b] * gradient_along(first[a], b)
        np.testing.assert_allclose(mine.reshape(shape), wanted, atol=1e-6)
    _stencils.gradient_products(plane, ndim, weights, all_rows(shape), out)
    for (a, b), mine in zip(pairs, out, strict=True):
        np.testing.assert_allclose(mine.reshape(shape), first[a] * first[b], atol=1e-5)


@pytest.mark.parametrize(("ndim", "shape"), CASES)
def test_sobel_is_scipys(ndim, shape):
    plane = planes(shape)[0]
    weights = np.array([0.5, 1, 0.25], np.float32)
    squares = np.zeros(shape)
    for axis in range(3 - ndim, 3):
        slope = ndimage.correlate1d(plane.astype(float), [-1, 0, 1], axis, mode="reflect")
        for other in set(range(3 - ndim, 3)) - {axis}:
            slope = ndimage.correlate1d(slope, [0.25, 0.5, 0.25], other, mode="reflect")
        squares += (weights[axis] * slope) ** 2
    out = np.empty((1, shape[0] * shape[1], shape[2]), np.float32)
    _stencils.sobel_magnitude(plane, ndim, weights, all_rows(shape), out)
    np.testing.assert_allclose(out.reshape(shape), np.sqrt(squares / ndim), atol=1e-6)


@pytest.mark.parametrize(("ndim", "shape"), CASES)
@pytest.mark.parametrize("steps", [(1, 1, 1), (2, 3, 8)])
def test_median_is_numpys(ndim, shape, steps):
    plane = planes(shape)[0]
    radii = [step if axis >= 3 - ndim else 0 for axis, step in enumerate(steps)]
    every = tuple(slice(None, None, max(r, 1)) for r in radii)
    points = edge_windows(plane, radii)[(..., *every)]
    assert points.shape[3:] == ((1, 3, 3) if ndim == 2 else (3, 3, 3))
    out = np.empty((1, shape[0] * shape[1], shape[2]), np.float32)
    _stencils.local_median(plane, ndim, np.array(steps), all_rows(shape), out)
    wanted = np.median(points, axis=(3, 4, 5)).astype(np.float32)
    np.testing.assert_array_equal(out.reshape(shape), wanted)


def test_only_the_wanted_rows_are_computed():
    plane = planes((4, 5, 6))[0]
    wanted, weights = np.array([19, 0, 7]), np.ones(3, np.float32)
    for kernel, n in ((_stencils.hessian, 6), (_stencils.sobel_magnitude, 1)):
        every, some = np.empty((n, 20, 6), np.float32), np.empty((n, 3, 6), np.float32)
        kernel(plane, 3, weights, all_rows((4, 5)), every)
        kernel(plane, 3, weights, wanted, some)
        np.testing.assert_array_equal(some, every[:, wanted])


# --- eigenvalues -------------------------------------------------------------------------


def rotated(values, seed):
    """Symmetric matrices with these eigenvalues (..., 3), in float64."""
    rng = np.random.default_rng(seed)
    axes = np.linalg.qr(rng.normal(size=(*values.shape, values.shape[-1])))[0]
    return axes * values[..., None, :] @ np.swapaxes(axes, -1, -2)


@pytest.mark.parametrize("n", [2, 3])
@pytest.mark.parametrize("kind", ["any", "equal", "pair", "rank one", "nearly equal", "diagonal"])
def test_eigenvalues_are_numpys(n, kind):
    values = np.random.default_rng(n).normal(size=(4, 50, n))
    if kind == "equal":
        values[...] = values[..., :1]
    elif kind == "pair":
        values[..., 1] = values[..., 0]
    elif kind == "rank one":
        values[..., 1:] = 0
    elif kind == "nearly equal":
        values = 1 + 1e-5 * values
    matrices = np.zeros((4, 50, n, n))
    if kind == "diagonal":
        matrices[..., range(n), range(n)] = values
    else:
        matrices = rotated(values, 1)
    upper = np.triu_indices(n)
    tensor = np.ascontiguousarray(np.moveaxis(matrices[..., *upper], -1, 0), np.float32)
    exact = np.zeros((4, 50, n, n))
    exact[..., *upper] = np.moveaxis(tensor, 0, -1)
    out = np.empty((n, 4, 50), np.float32)
    eigenvalues(tensor, out)
    wanted = np.moveaxis(np.linalg.eigvalsh(exact, UPLO="U"), -1, 0)[::-1]
    np.testing.assert_allclose(out, wanted, atol=4e-7 * np.abs(wanted).max())
    assert (np.diff(out, axis=0) <= 0).all()


@pytest.mark.parametrize("n", [2, 3])
def test_eigenvalues_of_nothing_are_zero(n):
    out = np.ones((n, 1, 2), np.float32)
    eigenvalues(np.zeros((n * (n + 1) // 2, 1, 2), np.float32), out)
    assert (out == 0).all()
