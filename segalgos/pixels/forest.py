"""Random forests on plain tables, kept as flat arrays."""

from __future__ import annotations

from typing import Any, Self

import numpy as np
from numba import njit
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.ensemble import RandomForestClassifier
from sklearn.utils.validation import check_is_fitted, validate_data

from segalgos.parallel import map_strips, n_threads

__all__ = ["RandomForest"]

ROWS_A_STRIP = 4096  # a strip's rows stay in the second-level cache while all trees pass

ARRAYS = ("roots_", "features_", "thresholds_", "children_", "leaves_")


@njit(nogil=True, cache=True)
def _add_votes(rows, roots, features, thresholds, children, leaves, votes):
    """Add the leaf distribution of every tree to every row's votes.

    Parameters
    ----------
    rows : (n, F) float32
    roots : (n_trees,) int32
    features : (n_nodes,) int32
        Feature that a node splits; -1 in a leaf.
    thresholds : (n_nodes,) float32
        A row goes left when its feature is at most this.
    children : (n_nodes, 2) int32
        Nodes to the left and right; in a leaf, its row of `leaves` twice.
    leaves : (n_leaves, K) float32
    votes : (n, K) float32, added to

    Notes
    -----
    O(n * n_trees * depth). Trees are the outer loop, so a tree's nodes stay in the
    cache; the order of additions is that of the trees, whatever the strip.
    """
    for tree in range(len(roots)):
        for i in range(len(rows)):
            node = roots[tree]
            feature = features[node]
            while feature >= 0:
                right = 0 if rows[i, feature] <= thresholds[node] else 1
                node = children[node, right]
                feature = features[node]
            leaf = children[node, 0]
            for k in range(votes.shape[1]):
                votes[i, k] += leaves[leaf, k]


class RandomForest(ClassifierMixin, BaseEstimator):
    """Random forest classifier whose trees are flat arrays.

    Trees are grown by scikit-learn and kept as five arrays, which are small to save,
    safe to load and fast to walk.

    Parameters
    ----------
    n_estimators : int, default=100
        Trees.
    max_depth : int, optional
        Without it trees grow until leaves are pure.
    min_samples_leaf : int, default=1
    max_features : {"sqrt", "log2"}, int, float or None, default="sqrt"
        Features looked at for a split.
    class_weight : dict, {"balanced", "balanced_subsample"} or None, default=None
    random_state : int, RandomState instance or None, default=None

    Attributes
    ----------
    classes_ : (K,) ndarray
    n_features_in_ : int
    feature_importances_ : (F,) float64
        Mean decrease in impurity.
    roots_, features_, thresholds_, children_, leaves_ : ndarray
        The trees: see the source.

    References
    ----------
    .. [1] L. Breiman, "Random forests", Machine Learning 45, 2001.
    """

    def __init__(
        self,
        n_estimators: int = 100,
        *,
        max_depth: int | None = None,
        min_samples_leaf: int = 1,
        max_features: str | float | None = "sqrt",
        class_weight: Any = None,
        random_state: Any = None,
    ):
        self.n_estimators = n_estimators
        self.max_depth = max_depth
        self.min_samples_leaf = min_samples_leaf
        self.max_features = max_features
        self.class_weight = class_weight
        self.random_state = random_state

    def fit(self, X: ArrayLike, y: ArrayLike, sample_weight: ArrayLike | None = None) -> Self:
        """Grow the trees.

        Parameters
        ----------
        X : (n, F) array_like of float
        y : (n,) array_like
            Classes.
        sample_weight : (n,) array_like of float, optional

        Returns
        -------
        RandomForest
            Itself.
        """
        X, y = validate_data(self, X, y, dtype=np.float32)
        grower = RandomForestClassifier(**self.get_params(), n_jobs=n_threads())
        grower.fit(X, y, sample_weight)
        self.classes_ = grower.classes_
        self.feature_importances_ = grower.feature_importances_
        self._flatten([estimator.tree_ for estimator in grower.estimators_])
        return self

    def _flatten(self, trees: list) -> None:
        sizes = [tree.node_count for tree in trees]
        offsets = np.concatenate([[0], np.cumsum(sizes)])
        features = np.concatenate([tree.feature for tree in trees]).astype(np.int32)
        is_leaf = np.concatenate([tree.children_left for tree in trees]) < 0
        features[is_leaf] = -1
        children = np.empty((offsets[-1], 2), np.int32)
        for tree, offset in zip(trees, offsets[:-1], strict=True):
            part = children[offset : offset + tree.node_count]
            part[:, 0] = tree.children_left + offset
            part[:, 1] = tree.children_right + offset
        children[is_leaf] = np.arange(is_leaf.sum())[:, None]
        exact = np.concatenate([tree.threshold for tree in trees])
        thresholds = exact.astype(np.float32)
        # x <= t in float64 is x <= (the largest float32 that is at most t) for float32 x.
        above = thresholds > exact
        thresholds[above] = np.nextafter(thresholds[above], np.float32(-np.inf))
        leaves = np.concatenate([tree.value[:, 0] for tree in trees])[is_leaf]
        leaves /= leaves.sum(axis=1, keepdims=True)
        self.roots_ = offsets[:-1].astype(np.int32)
        self.features_, self.thresholds_, self.children_ = features, thresholds, children
        self.leaves_ = leaves.astype(np.float32)

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
        return self._votes(validate_data(self, X, dtype=np.float32, order="C", reset=False))

    def _votes(self, rows: NDArray[np.float32]) -> NDArray[np.float32]:
        votes = np.zeros((len(rows), len(self.classes_)), np.float32)
        arrays = [getattr(self, name) for name in ARRAYS]
        map_strips(lambda a, b: _add_votes(rows[a:b], *arrays, votes[a:b]), len(rows), ROWS_A_STRIP)
        votes /= len(self.roots_)
        return votes

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
        own = np.arange(n)[:, None]
        ok = (
            all(a.dtype == np.int32 for a in (roots, features, children))
            and thresholds.dtype == leaves.dtype == np.float32
            and features.shape == thresholds.shape == (n,)
            and children.shape == (n, 2)
            and leaves.ndim == 2
            and leaves.shape[1] == n_classes
            and roots.ndim == 1
            and len(roots) > 0
            and ((roots >= 0) & (roots < n)).all()
            and (features < n_features).all()
            # Children after their parent: every walk ends.
            and ((children > own) & (children < n))[inner].all()
            and ((children >= 0) & (children < len(leaves)))[~inner].all()
            and np.isfinite(leaves).all()
            and not np.isnan(thresholds).any()
        )
        if not ok:
            raise ValueError("its arrays are not those of a random forest")
        for name, value in arrays.items():
            if name in (*ARRAYS, "feature_importances_"):
                setattr(self, name, value)
        self.classes_ = np.arange(n_classes)
        self.n_features_in_ = n_features
        return self
