import numpy as np
import pytest
from sklearn.datasets import load_breast_cancer, load_digits
from sklearn.ensemble import RandomForestClassifier
from sklearn.exceptions import NotFittedError

from segalgos import thread_limit
from segalgos.pixels.forest import ARRAYS, RandomForest


@pytest.mark.parametrize("load", [load_digits, load_breast_cancer])
def test_probabilities_are_scikit_learns(load):
    X, y = load(return_X_y=True)
    X = X.astype(np.float32)
    ours = RandomForest(20, random_state=0).fit(X[::2], y[::2])
    theirs = RandomForestClassifier(20, random_state=0).fit(X[::2], y[::2])
    np.testing.assert_allclose(ours.predict_proba(X), theirs.predict_proba(X), atol=1e-6)
    np.testing.assert_allclose(ours.feature_importances_, theirs.feature_importances_)
    assert ours.score(X[1::2], y[1::2]) > 0.9


def test_a_value_on_a_threshold_goes_the_way_it_did_in_training():
    # Thresholds are midpoints in float64; neighbours in float32 must stay apart.
    X = np.array([[100], [np.nextafter(np.float32(100), np.float32(200))]], np.float32)
    X = np.repeat(X, 50, axis=0)
    y = np.repeat([0, 1], 50)
    forest = RandomForest(10, random_state=0).fit(X, y)
    np.testing.assert_array_equal(forest.predict(X), y)


def test_threads_change_nothing():
    X, y = load_digits(return_X_y=True)
    results = []
    for n in (1, 2, 4):
        with thread_limit(n):
            results.append(RandomForest(10, random_state=0).fit(X, y).predict_proba(X))
    np.testing.assert_array_equal(results[0], results[1])
    np.testing.assert_array_equal(results[0], results[2])


def test_sample_weight_and_class_weight_reach_the_trees():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(400, 2))
    y = (X[:, 0] + rng.normal(size=400) > 0).astype(int)
    forest = RandomForest(10, max_depth=3, random_state=0)
    plain = forest.fit(X, y).predict(X).mean()
    assert forest.fit(X, y, np.where(y == 1, 10, 1)).predict(X).mean() > plain + 0.1
    forest.set_params(class_weight={0: 1, 1: 10})
    assert forest.fit(X, y).predict(X).mean() > plain + 0.1


def test_arrays_round_trip_and_hostile_ones_are_refused():
    X, y = load_digits(return_X_y=True)
    forest = RandomForest(3, max_depth=4, random_state=0).fit(X, y)
    arrays = forest.get_arrays()
    again = RandomForest(3).set_arrays(arrays, 64, 10)
    np.testing.assert_array_equal(again.predict_proba(X), forest.predict_proba(X))

    def broken(name, change):
        bad = {key: value.copy() for key, value in arrays.items()}
        bad[name] = change(bad[name])
        return bad

    def put(index, value):
        def change(array):
            array[index] = value
            return array

        return change

    hostile = [
        ("roots_", put(0, 10**6)),
        ("features_", put(0, 64)),
        ("children_", put(0, 0)),  # a node that is its own child: an endless walk
        ("children_", put((-1, 0), 10**6)),
        ("children_", lambda a: a.astype(np.int64)),
        ("leaves_", lambda a: a[:, :-1]),
        ("leaves_", put(0, np.nan)),
        ("thresholds_", lambda a: a[:-1]),
    ]
    assert {name for name, _ in hostile} == set(ARRAYS)
    for name, change in hostile:
        with pytest.raises(ValueError, match="not those of a random forest"):
            RandomForest(3).set_arrays(broken(name, change), 64, 10)


def test_unfitted_is_refused():
    with pytest.raises(NotFittedError):
        RandomForest().predict(np.zeros((2, 2)))
