import numpy as np
import pytest
from sklearn.svm import SVC

from segalgos.parallel import thread_limit
from segalgos.pixels import _kernel_machine
from segalgos.pixels._kernel_machine import Kernel, KernelMachine, vote

KERNELS = ("linear", "rbf", "poly", "sigmoid")


def _rows(n_classes, n=300, n_features=7, seed=0):
    rng = np.random.default_rng(seed)
    y = rng.integers(0, n_classes, n)
    centres = rng.normal(size=(n_classes, n_features))
    return (centres[y] + rng.normal(size=(n, n_features))).astype(np.float32), y


def _svc(kernel, n_classes, shift=0.0):
    X, y = _rows(n_classes)
    svc = SVC(kernel=kernel, gamma=0.1, coef0=0.3, C=2.0, decision_function_shape="ovo")
    return svc.fit(X + np.float32(shift), np.array([3, 7, 20, 21])[y])


@pytest.mark.parametrize("n_classes", [2, 3, 4])
@pytest.mark.parametrize("kernel", KERNELS)
def test_equals_libsvm(kernel, n_classes):
    svc = _svc(kernel, n_classes)
    X = _rows(n_classes, 5000, seed=1)[0]
    machine = KernelMachine.from_svc(svc)
    expected = svc.decision_function(X)
    decisions = machine.decision_function(X)
    assert decisions.shape == expected.shape
    assert decisions.dtype == np.float32
    scale = np.abs(svc.dual_coef_).sum() if kernel != "poly" else np.abs(expected).max()
    np.testing.assert_allclose(decisions, expected, rtol=0, atol=3e-6 * max(scale, 1))
    predicted, true = machine.predict(X), svc.predict(X)
    assert predicted.dtype == true.dtype
    assert (predicted != true).mean() <= 1e-4


@pytest.mark.parametrize("kernel", KERNELS)
def test_a_row_is_the_same_alone_and_among_others(kernel):
    machine = KernelMachine.from_svc(_svc(kernel, 3))
    X = _rows(3, 4500, seed=1)[0]
    every = machine.decisions(X)
    tolerance = {"rtol": 1e-5, "atol": 1e-6 * np.abs(every).max()}
    for i in (0, 1, 4499):
        np.testing.assert_allclose(machine.decisions(X[i : i + 1])[0], every[i], **tolerance)
    np.testing.assert_allclose(machine.decisions(X[1000:1777]), every[1000:1777], **tolerance)
    assert machine.decisions(X[:0]).shape == (0, 3)


def test_threads_change_nothing(monkeypatch):
    monkeypatch.setattr(_kernel_machine, "STRIP_BLOCKS", 1)
    machine = KernelMachine.from_svc(_svc("rbf", 3))
    X = _rows(3, 4500, seed=1)[0]
    results = []
    for n in (1, 2, 4):
        with thread_limit(n):
            results.append(machine.decisions(X))
    np.testing.assert_array_equal(results[0], results[1])
    np.testing.assert_array_equal(results[0], results[2])


def test_far_from_the_origin_distances_do_not_cancel():
    svc = _svc("rbf", 2, shift=3000.0)
    X = _rows(2, 1000, seed=1)[0] + np.float32(3000)
    decisions = KernelMachine.from_svc(svc).decision_function(X)
    np.testing.assert_allclose(decisions, svc.decision_function(X), atol=1e-4)
    far = np.full((1, 7), 1e15, np.float32)  # no kernel reaches there
    np.testing.assert_allclose(
        KernelMachine.from_svc(svc).decision_function(far), svc.intercept_, rtol=1e-5
    )


def test_exponentials_are_accurate():
    x = np.linspace(-125.9, 125.9, 100_001, dtype=np.float32)
    ours = x.copy()
    _kernel_machine._exp2(ours, np.float32(126))
    np.testing.assert_allclose(ours, np.exp2(x.astype(np.float64)), rtol=2.5e-7)
    x = np.float32([-1e30, -np.inf, 0.5, 1e30])
    _kernel_machine._exp2(x, np.float32(0))
    np.testing.assert_allclose(x, [2.0**-126, 2.0**-126, 1, 1], rtol=2.5e-7)
    x = np.linspace(-50, 50, 10_001, dtype=np.float32)
    ours = x * np.float32(2 / np.log(2))
    _kernel_machine._tanh(ours)
    np.testing.assert_allclose(ours, np.tanh(x.astype(np.float64)), atol=5e-6)


def test_votes_go_to_the_first_of_equals():
    # Pairs (0, 1), (0, 2), (1, 2): each class wins once.
    np.testing.assert_array_equal(vote(np.float32([[1, -1, 1], [-1, -1, -1]]), 3), [0, 2])
    np.testing.assert_array_equal(vote(np.float32([[0], [1e-9]]), 2), [0, 1])


def test_what_no_machine_can_be_made_of():
    X, y = _rows(2)
    with pytest.raises(ValueError, match="gamma is 'scale'"):
        KernelMachine.from_svc(SVC().fit(X, y))
    with pytest.raises(ValueError, match="the kernel is 'precomputed'"):
        KernelMachine.from_svc(SVC(kernel="precomputed").fit(X @ X.T, y))


def test_state_goes_round():
    for machine in (
        KernelMachine.from_svc(_svc("poly", 3)),
        KernelMachine(
            np.ones((4, 7), np.float32),
            np.ones((4, 3), np.float32),
            np.zeros(3, np.float32),
            Kernel("cosine"),
            np.arange(4, dtype=np.float32),
        ),
    ):
        X = _rows(3)[0]
        again = KernelMachine.from_state(machine.get_state(), 7, 3)
        np.testing.assert_array_equal(again.decisions(X), machine.decisions(X))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("vectors", np.zeros((0, 7), np.float32)),
        ("vectors", np.zeros((5, 6), np.float32)),
        ("vectors", np.zeros((5, 7))),
        ("coefficients", np.full((5, 3), np.nan, np.float32)),
        ("coefficients", np.zeros((5, 2), np.float32)),
        ("intercepts", np.zeros(2, np.float32)),
        ("offsets", np.zeros(5, np.float32)),
        ("kernel", ["cosine", 1.0, 3, 0.0]),
        ("kernel", ["gauss", 1.0, 3, 0.0]),
        ("kernel", ["rbf", float("nan"), 3, 0.0]),
        ("kernel", ["poly", 1.0, 10**9, 0.0]),
        ("kernel", ["rbf", 1.0, 3]),
    ],
)
def test_bad_states_are_refused(name, value):
    state = {
        "vectors": np.zeros((5, 7), np.float32),
        "coefficients": np.zeros((5, 3), np.float32),
        "intercepts": np.zeros(3, np.float32),
        "offsets": None,
        "kernel": ["rbf", 1.0, 3, 0.0],
    }
    KernelMachine.from_state(state, 7, 3)
    with pytest.raises((ValueError, AttributeError)):
        KernelMachine.from_state(state | {name: value}, 7, 3)
