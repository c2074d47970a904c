"""Random forests on plain tables, kept as flat arrays."""

from __future__ import annotations

from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils import check_random_state, compute_sample_weight
from sklearn.utils.validation import check_is_fitted, validate_data

from segalgos._random_kernels import draw_bootstrap
from segalgos.checks import check_bool, check_class_weight, check_int
from segalgos.parallel import map_items, map_strips
from segalgos.pixels._binning import BinnedRows, bin_rows
from segalgos.pixels._trees import grow
from segalgos.pixels._walk import Walkable, add_votes

__all__ = ["RandomForest", "check_forest", "select_features"]

ROWS_A_STRIP = 4096
N_SELECTING = 50  # trees whose importances select features

ARRAYS = ("roots_", "features_", "thresholds_", "children_", "leaves_")


class RandomForest(ClassifierMixin, BaseEstimator):
    """Random forest classifier [1]_ on binned features, with trees as flat arrays.

    Parameters
    ----------
    n_estimators : int, default=100
        Trees.
    max_depth : int, optional
        Without it trees grow until leaves are pure.
    min_samples_split : int, default=2
        Rows that a node needs to be split.
    min_samples_leaf : int, default=1
        Rows that a leaf has at least.
    max_features : {"sqrt", "log2"}, int, float or None, default="sqrt"
        Features looked at for a split: a number, a part of all, or all of them.
    bootstrap : bool, default=True
        Give each tree as many rows as there are, drawn with replacement; else all rows.
    extra_trees : bool, default=False
        Draw one threshold a feature instead of searching for the best: extremely randomized
        trees [2]_, whose authors use them without bootstrap.
    oob_score : bool, default=False
        Score each row by the trees that did not draw it.
    class_weight : dict, {"balanced", "balanced_subsample"} or None, default=None
        "balanced_subsample" balances the rows that a tree draws.
    random_state : int, RandomState instance or None, default=None

    Attributes
    ----------
    classes_ : (K,) ndarray
    n_features_in_ : int
    feature_importances_ : (F,) float64
        Mean decrease in Gini impurity; they add up to 1, or are 0 if no tree has a split.
    oob_score_ : float
        Accuracy of the rows that some tree did not draw; with `oob_score`.
    oob_decision_function_ : (n, K) float32
        Their probabilities, NaN for a row that every tree drew; with `oob_score`.
    roots_ : (n_trees,) int32
        First node of each tree.
    features_ : (n_nodes,) int16 or int32
        Feature that a node splits; -1 in a leaf.
    thresholds_ : (n_nodes,) float32
        A row goes left where its feature is at most this.
    children_ : (n_nodes,) int32
        The left child, which the right one follows; in a leaf, its row of `leaves_`.
    leaves_ : (n_leaves, K) float32
        Parts of the classes in leaves; the first K rows are those of pure ones.

    Notes
    -----
    A feature has 256 bins with about the same number of rows, or one a value if it has no
    more values (1e-7 apart, or less in tables of small values). Thresholds lie in the middle
    between the values at either side of a split. Growing takes
    O(n_estimators * n * max_features * depth) time, prediction O(n_estimators * n * depth).
    The same seed gives the same trees whatever the number of threads.

    References
    ----------
    .. [1] L. Breiman, "Random forests", Machine Learning 45, 5-32, 2001.
    .. [2] P. Geurts, D. Ernst, L. Wehenkel, "Extremely randomized trees", Machine Learning
       63, 3-42, 2006.

    Examples
    --------
    >>> from segalgos.pixels.forest import RandomForest
    >>> forest = RandomForest(10, random_state=0).fit([[0], [1], [8], [9]] * 5, list("aabb") * 5)
    >>> forest.predict([[2], [7]]).tolist()
    ['a', 'b']
    """

    def __init__(
        self,
        n_estimators: int = 100,
        *,
        max_depth: int | None = None,
        min_samples_split: int = 2,
        min_samples_leaf: int = 1,
        max_features: str | float | None = "sqrt",
        bootstrap: bool = True,
        extra_trees: bool = False,
        oob_score: bool = False,
        class_weight: Any = None,
        random_state: Any = None,
    ):
        self.n_estimators = n_estimators
        self.max_depth = max_depth
        self.min_samples_split = min_samples_split
        self.min_samples_leaf = min_samples_leaf
        self.max_features = max_features
        self.bootstrap = bootstrap
        self.extra_trees = extra_trees
        self.oob_score = oob_score
        self.class_weight = class_weight
        self.random_state = random_state

    # --- growing -------------------------------------------------------------------------

    def fit(self, X: ArrayLike, y: ArrayLike, sample_weight: ArrayLike | None = None) -> Self:
        """Grow the trees.

        Parameters
        ----------
        X : (n, F) array_like of float
            Finite.
        y : (n,) array_like
            Classes.
        sample_weight : (n,) array_like of float, optional
            At least 0; rows of weight 0 are left out.

        Returns
        -------
        RandomForest
            Itself.

        Raises
        ------
        ValueError
            If a parameter is not as expected, the table holds NaN or infinite values, or all
            weights are 0.
        """
        caller = type(self).__name__
        check_forest(caller, self)
        X, y = validate_data(self, X, y, dtype=np.float32)
        weights = self._row_weights(X, y, sample_weight)
        used = weights > 0
        if not used.any():
            raise ValueError(f"{caller}: sample_weight is 0 everywhere: give some rows more.")
        rng = check_random_state(self.random_state)
        seeds = rng.randint(1, 2**63 - 1, self.n_estimators, dtype=np.int64).astype(np.uint64)
        self.classes_, classes = np.unique(y[used], return_inverse=True)
        X, classes, weights = X[used], classes.astype(np.int32), weights[used]
        binned = bin_rows(X)

        def one_tree(seed):
            return self._grow_tree(binned, classes, weights, seed)

        trees = map_items(one_tree, seeds)
        self._join(trees)
        if self.oob_score:
            self._score_out_of_bag(X, classes, used, seeds)
        return self

    def _row_weights(self, X, y, sample_weight):
        weights = np.ones(len(X))
        if sample_weight is not None:
            weights = np.array(sample_weight, np.float64)
            if weights.shape != (len(X),) or not np.isfinite(weights).all() or weights.min() < 0:
                raise ValueError(
                    f"{type(self).__name__}: sample_weight has shape {weights.shape} or holds "
                    f"negative, NaN or infinite weights: pass {len(X)} of at least 0."
                )
        if self.class_weight is not None and self.class_weight != "balanced_subsample":
            weights *= compute_sample_weight(self.class_weight, y)
        return weights

    def _n_drawn_features(self) -> int:
        n = self.n_features_in_
        if self.max_features is None:
            return n
        if isinstance(self.max_features, str):
            return max(1, int({"sqrt": np.sqrt, "log2": np.log2}[self.max_features](n)))
        if isinstance(self.max_features, float):
            return max(1, int(self.max_features * n))
        return min(n, self.max_features)

    def _draw(self, n: int, seed: np.uint64) -> NDArray[np.int32]:
        """How often a tree has each row."""
        counts = np.ones(n, np.int32)
        if self.bootstrap:
            draw_bootstrap(seed, counts)
        return counts

    def _grow_tree(self, binned: BinnedRows, classes, weights, seed):
        """One tree's features, thresholds, children, leaves and importances."""
        counts = self._draw(len(classes), seed)
        rows = np.flatnonzero(counts).astype(np.int32)
        kinds, weights = classes[rows], (weights * counts)[rows]
        n_classes, m = len(self.classes_), len(rows)
        if self.class_weight == "balanced_subsample":
            drawn = np.bincount(kinds, counts[rows], n_classes)
            weights *= (drawn.sum() / (np.count_nonzero(drawn) * np.maximum(drawn, 1)))[kinds]
        features, children = np.empty(2 * m, np.int32), np.empty(2 * m, np.int32)
        thresholds = np.empty(2 * m, np.float32)
        leaves = np.empty((n_classes + m, n_classes), np.float32)
        importances = np.empty(self.n_features_in_)
        n_nodes, n_leaves = grow(
            binned.codes,
            binned.low,
            binned.high,
            rows,
            kinds,
            weights,
            n_classes,
            self._n_drawn_features(),
            self.max_depth or 2**62,
            self.min_samples_split,
            self.min_samples_leaf,
            self.extra_trees,
            seed,
            features,
            thresholds,
            children,
            leaves,
            importances,
        )
        arrays = features[:n_nodes], thresholds[:n_nodes], children[:n_nodes], leaves[:n_leaves]
        return *(array.copy() for array in arrays), importances

    def _join(self, trees: list) -> None:
        """Join trees that were grown apart."""
        features, thresholds, children, leaves, importances = zip(*trees, strict=True)
        ends = np.cumsum([len(part) for part in features])
        self.roots_ = np.append(0, ends[:-1]).astype(np.int32)
        n_classes, n_leaves = len(self.classes_), len(self.classes_)
        for first, feature, child, leaf in zip(
            self.roots_, features, children, leaves, strict=True
        ):
            is_leaf = feature < 0
            child[~is_leaf] += first
            child[is_leaf & (child >= n_classes)] += n_leaves - n_classes
            n_leaves += len(leaf) - n_classes
        small = self.n_features_in_ <= np.iinfo(np.int16).max
        self.features_ = np.concatenate(features).astype(np.int16 if small else np.int32)
        self.thresholds_ = np.concatenate(thresholds)
        self.children_ = np.concatenate(children)
        mixed = [leaf[n_classes:] for leaf in leaves]
        self.leaves_ = np.concatenate([leaves[0][:n_classes], *mixed])
        totals = np.array([part.sum() for part in importances])
        parts = [part / total for part, total in zip(importances, totals, strict=True) if total]
        mean = np.mean(parts, axis=0) if parts else np.zeros(self.n_features_in_)
        self.feature_importances_ = mean / (mean.sum() or 1)
        self._prepare_walk()

    def _score_out_of_bag(self, X, classes, used, seeds):
        votes = np.zeros((len(X), len(self.classes_)), np.float32)
        n_votes = np.zeros(len(X), np.int32)
        for tree, seed in enumerate(seeds):
            out = np.flatnonzero(self._draw(len(X), seed) == 0)
            votes[out] += self._votes(X[out], slice(tree, tree + 1))
            n_votes[out] += 1
        with np.errstate(invalid="ignore"):
            proba = votes / n_votes[:, None]
        known = n_votes > 0
        if not known.any():
            raise ValueError(
                f"{type(self).__name__}: oob_score needs rows that some tree did not draw: set "
                "bootstrap=True, or grow more trees."
            )
        self.oob_score_ = float(np.mean(np.argmax(proba[known], axis=1) == classes[known]))
        self.oob_decision_function_ = np.full((len(used), proba.shape[1]), np.nan, np.float32)
        self.oob_decision_function_[used] = proba

    # --- answers -------------------------------------------------------------------------

    def predict_proba(self, X: ArrayLike) -> NDArray[np.float32]:
        """Mean of the trees' leaf distributions.

        Parameters
        ----------
        X : (n, F) array_like of float

        Returns
        -------
        (n, K) float32
        """
        check_is_fitted(self)
        rows = validate_data(self, X, dtype=np.float32, order="C", reset=False)
        return self._votes(rows) / np.float32(len(self.roots_))

    def _votes(self, rows: NDArray[np.float32], trees: slice = slice(None)) -> NDArray[np.float32]:
        """Sum of the leaf distributions of some trees, (n, K)."""
        votes = np.zeros((len(rows), len(self.classes_)), np.float32)
        roots, walkable = self.roots_[trees], self._walkable

        def one_strip(start, stop):
            part = rows[start:stop], walkable.nodes, walkable.edges
            add_votes(*part, roots, self.leaves_, votes[start:stop])

        map_strips(one_strip, len(rows), ROWS_A_STRIP)
        return votes

    def _prepare_walk(self) -> None:
        arrays = self.features_, self.thresholds_, self.children_
        self._walkable = Walkable(*arrays, self.n_features_in_)

    def predict(self, X: ArrayLike) -> NDArray:
        """Most likely class.

        Parameters
        ----------
        X : (n, F) array_like of float

        Returns
        -------
        (n,) ndarray
        """
        proba = self.predict_proba(X)
        return self.classes_[np.argmax(proba, axis=1)]

    def permutation_importances(
        self,
        X: ArrayLike,
        y: ArrayLike,
        *,
        n_repeats: int = 5,
        random_state: Any = None,
    ) -> NDArray[np.float64]:
        """How much accuracy is lost if a feature's values are shuffled.

        Parameters
        ----------
        X : (n, F) array_like of float
            Best rows that the forest has not seen.
        y : (n,) array_like
        n_repeats : int, default=5
            Shuffles a feature.
        random_state : int, RandomState instance or None, default=None

        Returns
        -------
        (F,) float64
            Mean over the shuffles. Features that carry the same share their importance.
        """
        from sklearn.inspection import permutation_importance

        found = permutation_importance(
            self, X, y, n_repeats=n_repeats, random_state=random_state, scoring="accuracy"
        )
        return found.importances_mean

    # --- model files ---------------------------------------------------------------------

    def get_arrays(self) -> dict[str, NDArray]:
        """The trees as arrays, for a model file.

        Returns
        -------
        dict of str to ndarray
        """
        return {name: getattr(self, name) for name in (*ARRAYS, "feature_importances_")}

    def set_arrays(self, arrays: dict[str, NDArray], n_features: int, n_classes: int) -> Self:
        """Take up trees from a model file, checked so that no walk can leave them.

        Parameters
        ----------
        arrays : dict of str to ndarray
            As `get_arrays` gave them.
        n_features, n_classes : int

        Returns
        -------
        RandomForest
            Itself; its classes are 0..n_classes-1.

        Raises
        ------
        ValueError
            If the arrays are no forest.
        """
        roots, features, thresholds, children, leaves = (arrays[name] for name in ARRAYS)
        n = len(features)
        inner = features >= 0
        ok = (
            roots.dtype == children.dtype == np.int32
            and features.dtype in (np.int16, np.int32)
            and thresholds.dtype == leaves.dtype == np.float32
            and features.shape == thresholds.shape == children.shape == (n,)
            and leaves.ndim == 2
            and leaves.shape[1] == n_classes
            and np.array_equal(leaves[:n_classes], np.eye(n_classes))
            and roots.ndim == 1
            and len(roots) > 0
            and ((roots >= 0) & (roots < n)).all()
            and (features < n_features).all()
            # Children after their parent: every walk ends.
            and ((children > np.arange(n)) & (children < n - 1))[inner].all()
            and ((children >= 0) & (children < len(leaves)))[~inner].all()
            and np.isfinite(leaves).all()
            and not np.isnan(thresholds).any()
        )
        if not ok:
            raise ValueError("its arrays are not those of a random forest")
        for name in (*ARRAYS, "feature_importances_"):
            setattr(self, name, arrays[name])
        self.classes_ = np.arange(n_classes)
        self.n_features_in_ = n_features
        self._prepare_walk()
        return self


def select_features(
    rows: NDArray[np.float32],
    classes: NDArray,
    weights: NDArray | None,
    n: int,
    rng: np.random.RandomState,
) -> NDArray[np.int32]:
    """Select the features that matter most to a forest.

    Parameters
    ----------
    rows : (m, F) float32
    classes : (m,) ndarray
    weights : (m,) ndarray or None
    n : int
        At most F.
    rng : RandomState

    Returns
    -------
    (n,) int32
        Their places, ascending.
    """
    forest = RandomForest(N_SELECTING, random_state=rng).fit(rows, classes, weights)
    most = np.argsort(-forest.feature_importances_, kind="stable")[:n]
    return np.sort(most).astype(np.int32)


def check_forest(caller: str, parameters: Any) -> None:
    """Check the parameters of a forest.

    Parameters
    ----------
    caller : str
        For the messages.
    parameters : RandomForest or alike
        Whose attributes they are.

    Raises
    ------
    ValueError
        If one is not as expected.
    TypeError
        If one is of another kind than expected.
    """
    check_int(caller, "n_estimators", parameters.n_estimators, low=1)
    if parameters.max_depth is not None:
        check_int(caller, "max_depth", parameters.max_depth, low=1)
    check_int(caller, "min_samples_split", parameters.min_samples_split, low=2)
    check_int(caller, "min_samples_leaf", parameters.min_samples_leaf, low=1)
    check_bool(caller, "bootstrap", parameters.bootstrap)
    check_bool(caller, "extra_trees", parameters.extra_trees)
    check_bool(caller, "oob_score", parameters.oob_score)
    if parameters.class_weight != "balanced_subsample":
        check_class_weight(caller, parameters.class_weight)
    most = parameters.max_features
    is_number = isinstance(most, int | float | np.number) and not isinstance(most, bool)
    if not (
        most is None
        or (isinstance(most, str) and most in ("sqrt", "log2"))
        or (is_number and most > 0 and (most <= 1 or float(most).is_integer()))
    ):
        raise ValueError(
            f"{caller}: max_features is {most!r}, expected 'sqrt', 'log2', None, a number of "
            "features (integer) or a part of them (above 0, up to 1.0)."
        )
