import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.datasets import load_digits
from sklearn.ensemble import ExtraTreesClassifier, RandomForestClassifier
from sklearn.exceptions import NotFittedError
from sklearn.tree import DecisionTreeClassifier

from segalgos import thread_limit
from segalgos.pixels._binning import bin_rows
from segalgos.pixels.forest import ARRAYS, RandomForest


def walk(forest, rows):
    """Indices of the rows in each node, by root: [(node, depth, indices), ...]."""
    found = []
    for root in forest.roots_:
        stack = [(root, 0, np.arange(len(rows)))]
        while stack:
            node, depth, here = stack.pop()
            found.append((node, depth, here))
            if forest.features_[node] >= 0:
                left = rows[here, forest.features_[node]] <= forest.thresholds_[node]
                child = forest.children_[node]
                stack += [(child, depth + 1, here[left]), (child + 1, depth + 1, here[~left])]
    return found


def purity(classes, weights, left):
    """What a split is to make large, as scikit-learn has it; -inf if a side has no weight."""
    total = 0.0
    for side in (left, ~left):
        counts = np.bincount(classes[side], weights[side])
        if counts.sum() == 0:
            return -np.inf
        total += (counts**2).sum() / counts.sum()
    return total


@settings(max_examples=150, deadline=None, derandomize=True)
@given(
    st.integers(0, 2**32 - 1),
    st.integers(2, 120),
    st.integers(1, 9),
    st.integers(1, 4),
    st.sampled_from(["whole", "fractions", "large"]),  # of which each is added up otherwise
)
def test_every_split_is_the_best_there_is(seed, n, n_classes, min_leaf, kind):
    rng = np.random.default_rng(seed)
    X = rng.integers(0, rng.integers(2, 90), (n, 3)).astype(np.float32)
    y = rng.integers(0, n_classes, n)
    weights = rng.integers(1, 4, n).astype(float)
    weights = {"whole": weights, "fractions": weights + 0.25, "large": weights * 5000}[kind]
    options = {"bootstrap": False, "max_features": None, "min_samples_leaf": min_leaf}
    forest = RandomForest(1, random_state=0, **options).fit(X, y, weights)
    _, y = np.unique(y, return_inverse=True)
    for node, _, here in walk(forest, X):
        classes, weight, rows = y[here], weights[here], X[here]
        splits = [
            (purity(classes, weight, rows[:, f] <= t), f)
            for f in range(3)
            for t in np.unique(rows[:, f])[:-1]
            if min_leaf <= (rows[:, f] <= t).sum() <= len(here) - min_leaf
        ]
        feature = forest.features_[node]
        if feature < 0:
            assert not splits or len(np.unique(classes)) == 1
            expected = np.bincount(classes, weight, len(forest.classes_)) / weight.sum()
            np.testing.assert_allclose(forest.leaves_[forest.children_[node]], expected, rtol=1e-6)
            continue
        left = rows[:, feature] <= forest.thresholds_[node]
        assert min_leaf <= left.sum() <= len(here) - min_leaf
        assert purity(classes, weight, left) == pytest.approx(max(splits)[0], rel=1e-6)
        below, above = rows[left, feature].max(), rows[~left, feature].min()
        assert below <= forest.thresholds_[node] < above


def test_importances_are_those_of_scikit_learns_tree():
    rng = np.random.default_rng(0)
    X = rng.integers(0, 200, (400, 4)).astype(np.float32)
    y = (X[:, 0] > 90).astype(int) + (X[:, 2] > 120)
    forest = RandomForest(1, bootstrap=False, max_features=None, min_samples_leaf=3).fit(X, y)
    tree = DecisionTreeClassifier(min_samples_leaf=3, random_state=0).fit(X, y)
    np.testing.assert_array_equal(forest.predict(X), tree.predict(X))
    assert len(forest.features_) == tree.tree_.node_count
    np.testing.assert_allclose(forest.feature_importances_, tree.feature_importances_, atol=1e-12)


def test_many_values_are_binned_without_loss_of_accuracy():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(6000, 12)).astype(np.float32)
    y = (X[:, 0] + X[:, 1] * X[:, 2] + 0.3 * rng.normal(size=6000) > 0).astype(int)
    train, test = slice(0, 3000), slice(3000, None)
    ours = RandomForest(60, random_state=0).fit(X[train], y[train])
    theirs = RandomForestClassifier(60, random_state=0).fit(X[train], y[train])
    assert ours.score(X[test], y[test]) > theirs.score(X[test], y[test]) - 0.01
    # Which features matter is known: the first three, the first most.
    assert np.argmax(ours.feature_importances_) == 0
    assert set(np.argsort(ours.feature_importances_)[-3:]) == {0, 1, 2}
    np.testing.assert_allclose(ours.feature_importances_, theirs.feature_importances_, atol=0.02)
    shuffled = ours.permutation_importances(X[test], y[test], random_state=0)
    assert set(np.argsort(shuffled)[-3:]) == {0, 1, 2}
    assert np.abs(shuffled[3:]).max() < 0.02 < shuffled[0]


@pytest.mark.parametrize("n_classes", [2, 3, 30])
@pytest.mark.parametrize("n", [1, 63, 64, 65, 777, 1100])
def test_rows_walk_as_the_arrays_say(n, n_classes):
    """Rows in order, which walk together for long, and at random."""
    rng = np.random.default_rng(n_classes)
    X = rng.normal(size=(400, 4)).round(1).astype(np.float32)
    y = rng.integers(0, n_classes, 400)
    forest = RandomForest(4, min_samples_leaf=n_classes % 3 + 1, random_state=0).fit(X, y)
    rows = rng.normal(size=(n, 4)).astype(np.float32)
    rows[::3] = X[rng.integers(0, 400, len(rows[::3]))]
    rows[::5, 0] = rng.choice(forest.thresholds_, len(rows[::5]))  # a threshold itself goes left
    for table in (rows, rows[np.argsort(rows[:, 1])]):
        expected = np.zeros((n, n_classes))
        for node, _, here in walk(forest, table):
            if forest.features_[node] < 0:
                expected[here] += forest.leaves_[forest.children_[node]]
        np.testing.assert_allclose(forest.predict_proba(table), expected / 4, atol=1e-6)


def test_limits_hold():
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(500, 5)).astype(np.float32), rng.integers(0, 3, 500)
    options = {"max_depth": 4, "min_samples_leaf": 7, "min_samples_split": 30}
    forest = RandomForest(5, bootstrap=False, random_state=0, **options).fit(X, y)
    nodes = walk(forest, X)
    assert max(depth for _, depth, _ in nodes) == 4
    for node, _, here in nodes:
        assert len(here) >= 7
        assert forest.features_[node] < 0 or len(here) >= 30


def test_bootstrap_draws_as_many_rows_as_there_are():
    n = 20_000
    counts = np.array([RandomForest()._draw(n, np.uint64(seed)) for seed in range(1, 6)])
    assert (counts.sum(axis=1) == n).all()
    # Poisson of mean 1, to four standard errors.
    for k, part in enumerate([0.3679, 0.3679, 0.1839]):
        assert np.mean(counts == k) == pytest.approx(part, abs=4 * np.sqrt(part / counts.size))
    assert not (counts[0] == counts[1]).all()


def test_out_of_bag_score_is_that_of_rows_a_tree_did_not_draw():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(1500, 6)).astype(np.float32)
    y = (X[:, 0] + 0.8 * rng.normal(size=1500) > 0).astype(int)
    forest = RandomForest(30, oob_score=True, random_state=0).fit(X, y)
    theirs = RandomForestClassifier(30, oob_score=True, random_state=0).fit(X, y)
    assert forest.oob_score_ == pytest.approx(theirs.oob_score_, abs=0.03)
    assert forest.score(X, y) > forest.oob_score_ + 0.1
    seeds = np.random.RandomState(0).randint(1, 2**63 - 1, 30, dtype=np.int64).astype(np.uint64)
    out = np.array([forest._draw(1500, seed) == 0 for seed in seeds])
    alone = [RandomForest(1).set_arrays(tree_arrays(forest, t), 6, 2) for t in range(30)]
    votes = np.array([tree.predict_proba(X) for tree in alone])
    expected = (votes * out[..., None]).sum(axis=0) / out.sum(axis=0)[:, None]
    np.testing.assert_allclose(forest.oob_decision_function_, expected, atol=1e-6)
    with pytest.raises(ValueError, match="oob_score needs rows"):
        RandomForest(3, oob_score=True, bootstrap=False).fit(X, y)


def tree_arrays(forest, tree):
    return {**forest.get_arrays(), "roots_": forest.roots_[tree : tree + 1]}


def test_extremely_randomized_trees_draw_their_thresholds():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(3000, 8)).astype(np.float32)
    y = (X[:, 0] + X[:, 1] > 0).astype(int)
    train, test = slice(0, 1500), slice(1500, None)
    options = {"extra_trees": True, "bootstrap": False, "random_state": 0}
    ours = RandomForest(60, **options).fit(X[train], y[train])
    theirs = ExtraTreesClassifier(60, random_state=0).fit(X[train], y[train])
    assert ours.score(X[test], y[test]) > theirs.score(X[test], y[test]) - 0.01
    # A root's threshold is anywhere between the least and the largest value.
    is_first = ours.features_[ours.roots_] == 0
    thresholds = RandomForest(200, max_depth=1, max_features=None, **options)
    thresholds = thresholds.fit(X[train, :1], y[train]).thresholds_[::3]
    assert is_first.any()
    assert thresholds.std() > 1
    assert abs(thresholds).max() < abs(X[train, 0]).max()


def test_weights_count_as_repeated_rows():
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(200, 4)).astype(np.float32), rng.integers(0, 2, 200)
    weights = rng.integers(0, 4, 200)
    options = {"bootstrap": False, "max_features": None, "max_depth": 5, "random_state": 0}
    weighted = RandomForest(1, **options).fit(X, y, weights)
    repeated = RandomForest(1, **options).fit(np.repeat(X, weights, 0), np.repeat(y, weights))
    np.testing.assert_allclose(weighted.predict_proba(X), repeated.predict_proba(X), atol=1e-6)
    with pytest.raises(ValueError, match="sample_weight is 0 everywhere"):
        weighted.fit(X, y, np.zeros(200))


def test_one_class_and_constant_features():
    X = np.random.default_rng(0).normal(size=(50, 3)).astype(np.float32)
    forest = RandomForest(3, random_state=0).fit(X, np.full(50, 7))
    assert set(forest.predict(X)) == {7}
    assert not forest.feature_importances_.any()
    y = np.arange(50) % 2
    forest = RandomForest(50, random_state=0).fit(np.ones((50, 3)), y)
    np.testing.assert_allclose(forest.predict_proba(np.ones((1, 3)))[0], 0.5, atol=0.1)
    # Constant features are passed over, however few are to be looked at.
    X = np.zeros((50, 30))
    X[:, 17] = y
    forest = RandomForest(5, max_features=1, bootstrap=False, random_state=0).fit(X, y)
    np.testing.assert_array_equal(forest.predict(X), y)


@settings(max_examples=100, deadline=None, derandomize=True)
@given(st.integers(0, 2**32 - 1), st.integers(1, 3000), st.sampled_from([2, 200, 256, 257, 5000]))
def test_bins_keep_the_order_and_share_the_rows(seed, n, n_values):
    rng = np.random.default_rng(seed)
    column = rng.normal(size=n_values)[rng.integers(0, n_values, n)].astype(np.float32)
    if seed % 2:
        column[rng.random(n) < 0.8] = 0.5
    binned = bin_rows(column[:, None])
    codes, low, high = binned.codes[0], binned.low[0], binned.high[0]
    values = np.unique(column)
    if len(values) <= 256:
        np.testing.assert_array_equal(values[codes], column)
    n_bins = int(codes.max()) + 1
    sizes = np.bincount(codes)
    for b in range(n_bins):
        inside = column[codes == b]
        assert low[b] == inside.min()
        assert high[b] == inside.max()
    assert (low[1:n_bins] > high[: n_bins - 1]).all()
    if len(values) > 256:
        counts = np.unique(column, return_counts=True)[1]
        shared = counts[counts * 256 < n]
        # Bins hold an even share of what is not alone, and at most one value more.
        share = shared.sum() / (256 - len(counts) + len(shared))
        assert sizes[low[:n_bins] < high[:n_bins]].max() <= share + shared.max() + 1


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"n_estimators": 0}, "n_estimators is 0"),
        ({"max_depth": 0}, "max_depth is 0"),
        ({"min_samples_split": 1}, "min_samples_split is 1"),
        ({"min_samples_leaf": 0}, "min_samples_leaf is 0"),
        ({"max_features": "all"}, "max_features is 'all'"),
        ({"max_features": 0}, "max_features is 0"),
        ({"max_features": 1.5}, "max_features is 1.5"),
        ({"class_weight": "rare"}, "class_weight is 'rare'"),
        ({"bootstrap": 2}, "bootstrap is 2"),
    ],
)
def test_bad_parameters_are_named(options, match):
    with pytest.raises((ValueError, TypeError), match=f"RandomForest: {match}"):
        RandomForest(**options).fit(np.zeros((4, 2)), [0, 1, 0, 1])


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


@pytest.mark.parametrize("min_leaf", [1, 3])
@pytest.mark.parametrize("seed", range(3))
def test_weights_of_any_size_leave_importances_finite(seed, min_leaf):
    rng = np.random.default_rng(seed)
    X, y = rng.normal(size=(400, 4)), rng.integers(0, 3, 400)
    weights = np.exp(rng.uniform(-35, 3, 400))  # the least are lost beside the largest
    forest = RandomForest(10, min_samples_leaf=min_leaf, random_state=seed).fit(X, y, weights)
    assert abs(forest.feature_importances_.sum() - 1) < 1e-9


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
        ("children_", put(-1, 10**6)),
        ("children_", lambda a: a.astype(np.int64)),
        ("leaves_", lambda a: a[:, :-1]),
        ("leaves_", put(0, np.nan)),
        ("thresholds_", lambda a: a[:-1]),
    ]
    assert {name for name, _ in hostile} == set(ARRAYS)
    for name, change in hostile:
        with pytest.raises(ValueError, match="not those of a random forest"):
            RandomForest(3).set_arrays(broken(name, change), 64, 10)


def test_more_trees_than_a_byte_counts():
    """Every tree votes for the same class: 300 votes for it."""
    X = np.repeat([[0.0], [1.0]], 40, axis=0)
    y = np.repeat([0, 1], 40)
    forest = RandomForest(300, random_state=0).fit(X, y)
    np.testing.assert_array_equal(forest.predict_proba(X), np.eye(2)[y])


def test_more_thresholds_than_a_byte_ranks_are_refused():
    n = 300  # a tree that parts a leaf from the rest again and again
    arrays = {
        "roots_": np.zeros(1, np.int32),
        "features_": np.array([0, *[-1, 0] * (n - 1), -1, -1], np.int16),
        "thresholds_": np.repeat(np.arange(n + 1), 2)[:-1].astype(np.float32),
        "children_": np.zeros(2 * n + 1, np.int32),
        "leaves_": np.eye(2, dtype=np.float32),
        "feature_importances_": np.ones(1),
    }
    arrays["children_"][arrays["features_"] == 0] = np.arange(1, 2 * n, 2)
    with pytest.raises(ValueError, match="at most 255 thresholds, here are 300"):
        RandomForest(1).set_arrays(arrays, 1, 2)


def test_unfitted_is_refused():
    with pytest.raises(NotFittedError):
        RandomForest().predict(np.zeros((2, 2)))
