"""Eigenvectors of graphs of pixels against dense and sparse solvers of scipy."""

import numpy as np
import pytest
from scipy import linalg, sparse
from scipy.sparse.linalg import eigsh
from skimage import data, transform

from segalgos import multiscale_pb, non_maximum_suppression, pixel_eigenvectors, thread_limit
from segalgos.spectral import eigenvectors as module
from segalgos.spectral._stencil import Level, coarsened
from segalgos.spectral.affinity import disc_offsets, pixel_graph
from segalgos.spectral.eigenvectors import leading_eigenvectors


@pytest.fixture(scope="module")
def graph():
    """A graph of 60 x 80 pixels, by colours and contours."""
    image = transform.resize(data.coffee(), (60, 80), anti_aliasing=True)
    thin = non_maximum_suppression(multiscale_pb(image))
    planes = np.moveaxis(image, -1, 0).astype(np.float32).copy()
    mask = np.ones(image.shape[:2], bool)
    return pixel_graph(disc_offsets(5), mask, contours=thin, planes=planes, sigma=0.5)


def normalized(graph):
    """``D**-1/2 W D**-1/2`` in float64, and the degrees."""
    weights = graph.to_sparse()
    degree = weights.sum(axis=1)
    scale = sparse.diags_array(1 / np.sqrt(degree))
    return (scale @ weights @ scale).tocsr(), degree


def unit_vectors(found, degree):
    """Unit vectors x of the generalised eigenvectors y."""
    return (found.vectors.reshape(len(found.vectors), -1) * np.sqrt(degree)).T.astype(float)


def test_products_equal_those_of_the_matrix(graph):
    level = Level(graph, graph.degree())
    rim = graph.rim
    x = np.zeros((4, *level.degree.shape), np.float32)
    x[:, rim:-rim, rim:-rim] = np.random.default_rng(0).normal(size=(4, *graph.shape))
    z = x[::-1].copy()
    weights, before = graph.to_sparse(), z[:, rim:-rim, rim:-rim].reshape(4, -1).T
    inside = x[:, rim:-rim, rim:-rim].reshape(4, -1).T
    expected = 1.5 * (weights @ inside / weights.sum(axis=1)[:, None] - 0.25 * inside) - before
    level.step(x, z, 1.5, 0.25, 1)
    got = z[:, rim:-rim, rim:-rim].reshape(4, -1).T
    np.testing.assert_allclose(got, expected, atol=1e-5)
    assert level.n_products == 1


@pytest.mark.parametrize("shape", [(13, 18), (1, 9), (8, 1), (2, 2)])
def test_coarser_graphs_add_up_blocks(shape):
    rng = np.random.default_rng(3)
    planes = rng.normal(size=(1, *shape)).astype(np.float32)
    graph = pixel_graph(disc_offsets(5), np.ones(shape, bool), planes=planes, sigma=2)
    for _ in range(2):
        rows, columns = np.indices(graph.shape)
        across = (graph.shape[1] + 1) // 2
        block = (rows // 2 * across + columns // 2).ravel()
        member = sparse.csr_array((np.ones(block.size), (np.arange(block.size), block)))
        expected = (member.T @ graph.to_sparse() @ member).toarray()
        graph = coarsened(graph)
        np.testing.assert_allclose(graph.to_sparse().toarray(), expected, rtol=1e-5)


@pytest.mark.parametrize("tol", [1e-3, 1e-4])
def test_eigenvectors_reach_their_residual(graph, tol):
    found, n_products = leading_eigenvectors(graph, 12, tol)
    matrix, degree = normalized(graph)
    x = unit_vectors(found, degree)
    residuals = np.linalg.norm(matrix @ x - x * (1 - found.values), axis=0)
    assert residuals.max() <= tol * 1.01
    np.testing.assert_allclose(residuals, found.residuals, atol=2e-6)
    np.testing.assert_allclose(x.T @ x, np.eye(12), atol=1e-5)
    assert (np.diff(found.values) >= 0).all()
    exact = 1 - eigsh(matrix, 12, which="LA", tol=1e-10, v0=np.ones(len(degree)))[0][::-1]
    np.testing.assert_allclose(found.values, exact, atol=tol)
    if tol == 1e-3:
        assert n_products <= 70


def test_tight_tolerance_gives_the_vectors_themselves(graph):
    found, _ = leading_eigenvectors(graph, 6, 1e-5)
    matrix, degree = normalized(graph)
    values, vectors = eigsh(matrix, 8, which="LA", tol=1e-12, v0=np.ones(len(degree)))
    values, vectors = values[::-1], vectors[:, ::-1]
    gap = values[5] - values[6]
    np.testing.assert_allclose(1 - found.values, values[:6], atol=1e-6)
    angle = linalg.subspace_angles(unit_vectors(found, degree), vectors[:, :6]).max()
    assert np.sin(angle) <= 1e-5 * np.sqrt(6) / gap + 1e-4  # Davis and Kahan
    assert angle < 0.05


def test_small_graphs_are_solved_exactly():
    image = np.random.default_rng(0).random((7, 9))
    found = pixel_eigenvectors(image, 5)
    graph = module.graph_of_image(
        image[..., None].astype(np.float32), None, None, 0.1, 20.0, 5, False, None, ""
    )
    matrix, _ = normalized(graph)
    exact = 1 - linalg.eigvalsh(matrix.toarray())[::-1][:5]
    np.testing.assert_allclose(found.values, exact, atol=1e-6)
    assert found.residuals.max() < 1e-6


def test_any_number_of_threads_gives_the_same_bits(graph):
    found = []
    for n in (1, 2):
        with thread_limit(n):
            found.append(leading_eigenvectors(graph, 8, 1e-3)[0])
    for one, two in zip(*found, strict=True):
        np.testing.assert_array_equal(one, two)


@pytest.mark.parametrize("shape", [(1, 1), (1, 2), (1, 40), (2000, 1), (1, 1500), (3, 5)])
def test_thin_and_tiny_images(shape):
    found = pixel_eigenvectors(np.arange(np.prod(shape)).reshape(shape) % 7 / 7, 6, sigma=50)
    n = min(6, np.prod(shape))
    assert found.vectors.shape == (n, *shape)
    assert found.values.shape == found.residuals.shape == (n,)
    assert abs(found.values[0]) < 1e-6
    assert found.residuals.max() <= 1e-3
    np.testing.assert_allclose(found.vectors[0], found.vectors[0].flat[0], rtol=0.1)


def test_constant_images_give_waves():
    found = pixel_eigenvectors(np.full((40, 70), 0.3), 3, tol=1e-4)
    profile = found.vectors[1]
    assert np.abs(profile - profile.mean(axis=0)).max() < 0.1 * np.abs(profile).max()
    assert (np.abs(np.diff(np.sign(profile.mean(axis=0)))) > 0).sum() == 1


def test_pieces_of_a_mask_have_the_value_zero():
    mask = np.zeros((50, 90), bool)
    mask[5:45, 3:30] = mask[10:40, 40:60] = mask[0:50, 70:88] = True
    found = pixel_eigenvectors(np.zeros((50, 90)), 5, mask=mask)
    assert (found.vectors[:, ~mask] == 0).all()
    assert np.abs(found.values[:3]).max() < 1e-5
    assert found.values[3] > 1e-4
    for piece in (np.s_[5:45, 3:30], np.s_[10:40, 40:60], np.s_[0:50, 70:88]):
        spread = np.ptp(found.vectors[(slice(3), *piece)].reshape(3, -1), axis=1)
        assert spread.max() < 0.05 * np.abs(found.vectors[:3]).max()


def test_more_pieces_than_eigenvectors():
    mask = np.zeros((60, 120), bool)
    for row in range(0, 60, 12):
        for column in range(0, 120, 12):
            mask[row : row + 6, column : column + 6] = True
    found = pixel_eigenvectors(np.zeros(mask.shape), 4, mask=mask)
    np.testing.assert_allclose(found.values, 0, atol=1e-6)
    assert found.residuals.max() <= 1e-3


def test_what_does_not_converge_is_an_error(graph, monkeypatch):
    monkeypatch.setattr(module, "MAX_PRODUCTS", 5)
    with pytest.raises(RuntimeError, match=r"after 19 products a residual is .* larger tol"):
        leading_eigenvectors(graph, 12, 1e-5)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"n_eigenvectors": 0}, "n_eigenvectors is 0"),
        ({"sigma": None}, "contours and sigma are None"),
        ({"sigma": 0}, "sigma is 0"),
        ({"rho": -1}, "rho is -1"),
        ({"radius": 0.5}, "radius is 0.5"),
        ({"tol": 1e-9}, "tol is 1e-09"),
        ({"contours": np.zeros((3, 4))}, r"contours has shape \(3, 4\)"),
        ({"contours": -np.ones((8, 8))}, "strengths of at least 0"),
        ({"mask": np.ones((2, 2), bool)}, "mask"),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        pixel_eigenvectors(np.zeros((8, 8)), **arguments)
