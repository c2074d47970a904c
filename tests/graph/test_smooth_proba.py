import numpy as np
import pytest
from scipy import sparse
from scipy.sparse.linalg import spsolve

from segalgos import alpha_expansion, grid_cut, smooth_proba, thread_limit
from segalgos.graph.contrast import contrast_beta, contrast_weights
from segalgos.graph.max_flow import half_neighborhood
from segalgos.graph.random_walker import _couplings


def problem(seed, shape, n_classes):
    rng = np.random.default_rng(seed)
    image = rng.random((*shape, 2)).astype(np.float32)
    proba = rng.dirichlet(np.ones(n_classes), shape).astype(np.float32)
    return image, proba, rng.random(shape) < 0.8


@pytest.mark.parametrize("shape", [(9, 13), (4, 5, 6), (1, 7)])
@pytest.mark.parametrize("masked", [False, True])
def test_walks_solve_gradys_equations(shape, masked):
    image, proba, mask = problem(0, shape, 3)
    inside = mask if masked else np.ones(shape, bool)
    volume = image.reshape((1,) * (3 - len(shape)) + image.shape)
    lifted = inside.reshape(volume.shape[:-1])
    weights = _couplings(volume, lifted, 130.0, np.ones(len(shape)), 1.0)
    n = inside.size
    index = np.arange(n).reshape(lifted.shape)
    rows, columns, values = [], [], []
    for plane, axis in zip(weights, (2, 1, 0), strict=False):
        here, there = np.moveaxis(index, axis, 0)[:-1], np.moveaxis(index, axis, 0)[1:]
        rows.append(here.ravel())
        columns.append(there.ravel())
        values.append(np.moveaxis(plane, axis, 0)[:-1].ravel())
    links = sparse.coo_array(
        (np.concatenate(values), (np.concatenate(rows), np.concatenate(columns))), (n, n)
    )
    links = (links + links.T).tocsr()
    smoothness = 3.0
    prior = np.full(n, 1 / smoothness)
    system = sparse.diags_array(links.sum(axis=1) + prior) - links
    expected = spsolve(
        system.tocsc(), prior[:, None] * np.where(inside.ravel()[:, None], proba.reshape(n, 3), 0)
    )
    expected = np.where(inside.ravel()[:, None], expected, 0).reshape(proba.shape)
    found = smooth_proba(
        image, proba, smoothness=smoothness, mask=mask if masked else None, channel_axis=-1
    )
    np.testing.assert_allclose(found, expected, atol=1e-3)
    np.testing.assert_allclose(found.sum(axis=-1), inside, atol=1e-5)


@pytest.mark.parametrize("n_classes", [2, 4])
def test_cuts_lower_the_energy(n_classes):
    image, proba, mask = problem(1, (12, 15), n_classes)
    found = smooth_proba(image, proba, "graph_cut", smoothness=0.7, mask=mask, channel_axis=-1)
    assert set(np.unique(found)) <= {0, 1}
    np.testing.assert_array_equal(found.sum(axis=-1), mask)
    offsets = half_neighborhood(2, 8)
    planes = contrast_weights(image, offsets, contrast_beta(image, offsets, mask), 0.7)
    cut = grid_cut if n_classes == 2 else alpha_expansion
    costs = -np.log(np.where(mask[..., None], np.maximum(proba, 1e-4), 1)).astype(np.float32)
    expected = cut(costs, planes, neighbors=8, mask=mask)[0]
    np.testing.assert_array_equal(np.where(mask, found.argmax(axis=-1), -1), expected)
    differ = (found.argmax(axis=-1) != proba.argmax(axis=-1))[mask]
    assert 0 < differ.mean() < 0.9


@pytest.mark.parametrize("method", ["graph_cut", "random_walker"])
def test_noise_goes_and_edges_stay(method):
    rng = np.random.default_rng(0)
    truth = np.zeros((40, 60), int)
    truth[:, 30:] = 1
    image = (truth * 100 + rng.normal(scale=5, size=truth.shape)).clip(0, 255).astype(np.uint8)
    proba = np.stack([1 - truth, truth], -1) * 0.3 + 0.35
    proba += rng.normal(scale=0.25, size=truth.shape)[..., None] * [1, -1]
    proba = proba.clip(0, 1)
    proba /= proba.sum(axis=-1, keepdims=True)
    assert (proba.argmax(axis=-1) == truth).mean() < 0.8
    found = smooth_proba(image, proba, method, smoothness=5).argmax(axis=-1)
    assert (found == truth).mean() > 0.98
    none = smooth_proba(image, proba, method, smoothness=0)
    np.testing.assert_array_equal(none.argmax(axis=-1), proba.argmax(axis=-1))


def test_threads_change_nothing():
    image, proba, _ = problem(2, (50, 60), 3)
    for method in ("graph_cut", "random_walker"):
        results = []
        for n in (1, 2, 4):
            with thread_limit(n):
                results.append(smooth_proba(image, proba, method, channel_axis=-1))
        np.testing.assert_array_equal(results[0], results[1])
        np.testing.assert_array_equal(results[0], results[2])


@pytest.mark.parametrize("method", ["graph_cut", "random_walker"])
def test_one_class(method):
    image = np.zeros((4, 5))
    np.testing.assert_array_equal(smooth_proba(image, np.ones((4, 5, 1)), method), 1)


@pytest.mark.parametrize(
    ("proba", "options", "match"),
    [
        (np.ones((4, 5)), {}, "proba has shape"),
        (np.ones((5, 4, 1)), {}, "proba has shape"),
        (np.full((4, 5, 2), 0.4), {}, "proba adds up to 0.8"),
        (np.full((4, 5, 1), np.nan), {}, "proba holds negative, NaN"),
        (np.ones((4, 5, 1)), {"method": "median"}, "method is 'median'"),
        (np.ones((4, 5, 1)), {"smoothness": -1}, "smoothness is -1"),
    ],
)
def test_bad_input_is_named(proba, options, match):
    with pytest.raises(ValueError, match=f"smooth_proba: {match}"):
        smooth_proba(np.zeros((4, 5)), proba, **options)
