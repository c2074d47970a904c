import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.special import expit

from segalgos.pixels.calibration import couple_pairs, fit_sigmoid


def _loss(solution, x, positive, weights):
    n_positive, n_negative = weights[positive].sum(), weights[~positive].sum()
    target = np.where(positive, (n_positive + 1) / (n_positive + 2), 1 / (n_negative + 2))
    z = solution[0] * x + solution[1]
    return weights @ (np.logaddexp(0, z) - target * z)


@pytest.mark.parametrize("scale", [1e-3, 1.0, 50.0])
@pytest.mark.parametrize("overlap", [0.0, 1.0])
def test_sigmoid_is_the_optimum(scale, overlap):
    rng = np.random.default_rng(0)
    positive = rng.random(200) < 0.3
    x = scale * (np.where(positive, 1.0, -1.0) + overlap * rng.normal(size=200))
    weights = rng.uniform(0.5, 2, 200)
    ours = np.array(fit_sigmoid(x, positive, weights))
    best = minimize(
        lambda s: _loss([s[0] / scale, s[1]], x, positive, weights), [1, 0], method="Nelder-Mead"
    )
    assert ours[0] > 0
    assert _loss(ours, x, positive, weights) <= best.fun * (1 + 1e-7)


def test_sigmoid_gives_the_frequencies():
    rng = np.random.default_rng(0)
    x = rng.normal(size=50_000)
    positive = rng.random(len(x)) < expit(1.7 * x - 0.4)
    found = fit_sigmoid(x, positive, np.ones(len(x)))
    np.testing.assert_allclose(found, (1.7, -0.4), atol=0.05)


def test_constant_decisions_give_the_prior():
    slope, offset = fit_sigmoid(np.ones(100), np.arange(100) < 25, np.ones(100))
    # By Platt's targets: 25 times 26 / 27, and 75 times 1 / 77.
    assert expit(slope + offset) == pytest.approx((25 * 26 / 27 + 75 / 77) / 100, abs=1e-6)


@pytest.mark.parametrize("n_classes", [2, 3, 5])
def test_pairs_that_agree_are_coupled_exactly(n_classes):
    rng = np.random.default_rng(0)
    proba = rng.dirichlet(np.ones(n_classes), 100)
    pairs = [(i, j) for i in range(n_classes) for j in range(i + 1, n_classes)]
    firsts = np.stack([proba[:, i] / (proba[:, i] + proba[:, j]) for i, j in pairs], axis=1)
    coupled = couple_pairs(firsts.astype(np.float32), pairs, n_classes)
    np.testing.assert_allclose(coupled, proba, atol=2e-5)


def test_pairs_that_contradict_give_probabilities():
    pairs = [(0, 1), (0, 2), (1, 2)]
    coupled = couple_pairs(np.float32([[1, 0, 1], [0, 0, 0], [0.5, 0.5, 0.5]]), pairs, 3)
    np.testing.assert_allclose(coupled.sum(axis=1), 1, atol=1e-6)
    np.testing.assert_allclose(coupled[0], 1 / 3, atol=1e-6)  # a circle
    np.testing.assert_allclose(coupled[1], [0, 0, 1], atol=1e-5)
    np.testing.assert_allclose(coupled[2], 1 / 3, atol=1e-6)
