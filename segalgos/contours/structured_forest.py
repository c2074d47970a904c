"""Structured forests: contours by trees that answer with small label maps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache, partial
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted

from segalgos import checks
from segalgos.color import find_data_range, rgb_to_lab
from segalgos.contours._edge_channels import Channels, double, edge_channels, mean_of_cells
from segalgos.contours._lab import check_colours
from segalgos.contours._partitions import check_partitions, pair_up
from segalgos.contours._structured_patches import (
    LABEL,
    Sites,
    draw_sites,
    feature_places,
    find_sites,
    take_patches,
)
from segalgos.contours._structured_trees import DEEPEST, grow
from segalgos.contours._structured_votes import (
    MOST_ROUNDS,
    NO_LABEL,
    Answers,
    count_votes,
    join_questions,
    split_questions,
)
from segalgos.contours.thinning import non_maximum_suppression
from segalgos.parallel import map_items

__all__ = ["StructuredForest", "structured_forest_contours"]

SCALES = (0.5, 1.0, 2.0)
ASKED = 1  # of the library's trees at a place: with three scales more do not see more


class StructuredForest(BaseEstimator):
    """Contours by structured forests [1]_, learned from images and their partitions.

    Parameters
    ----------
    n_trees : int, default=8
        Trees.
    n_evaluated : int, default=4
        Trees that are asked at a place, at most `n_trees`; neighbouring places ask others.
    scales : sequence of {0.5, 1, 2}, default=(1,)
        Sizes at which the image is looked at, and whose answers are averaged. ``(0.5, 1, 2)``
        finds more and takes six times as long.
    sharpen : int, default=2
        Rounds in which an answer is fitted to the colours of the image before it counts, 0 to 2:
        contours then lie within a pixel of where colours change.
    n_patches : int, default=1_000_000
        Patches that a tree learns from, drawn evenly from the images, half of them near contours.
    feature_fraction : float, default=0.25
        Part of the features that a tree knows.
    max_depth : int, default=64
        Depth of a tree, at most.
    min_samples_leaf : int, default=8
        Patches that a leaf has at least.
    data_range : float, optional
        Value of white in the images; found for each by `segalgos.color.data_range_of` if None.
    channel_axis : int, None or "auto", default="auto"
        Which axis holds the channels; None for grey images.
    random_state : int, RandomState instance or None, default=None

    Attributes
    ----------
    nodes_ : (n_nodes, 2) int32
        What each asks, ``(threshold + 256) << 16 | feature``, and its left child, which the right
        one follows; in a leaf, 0 and the complement of its row of `patches_`.
    roots_ : (n_trees,) int32
        First node of each tree.
    patches_ : (n_leaves, 256) uint8
        Labels of 16 x 16 pixels that leaves answer with.

    Notes
    -----
    At every second pixel of every second row a tree looks at 32 x 32 pixels and answers with a
    label map of the 16 x 16 in the middle; what it gives for a pixel is the part of the answers
    over it that have a contour there. Features are values and differences of Lab, of gradients
    and of their orientations at two scales. A node is split by whether pairs of pixels have the
    same label: the pairs' first principal component, taken anew at each node, parts the patches
    in two, and the feature is the one that tells the two apart best.

    Growing takes O(n_trees * n_patches * depth) time, and 2 GB of memory a million patches and
    thread; prediction O(H * W * n_evaluated * depth). The same seed gives the same trees
    whatever the number of threads.

    References
    ----------
    .. [1] P. Dollar and C. L. Zitnick, "Fast edge detection using structured forests", IEEE
       TPAMI 37(8), 1558-1570, 2015, arXiv:1406.5549.

    Examples
    --------
    >>> import numpy as np
    >>> from segalgos import StructuredForest
    >>> image = np.zeros((40, 40)); image[10:30, 10:30] = 1
    >>> forest = StructuredForest(n_trees=2, n_evaluated=2, n_patches=500, random_state=0)
    >>> contours = forest.fit(image, image.astype(int)).predict(image)
    >>> bool(contours[20, 8:12].max() > 2 * contours[20, 18:22].max())
    True
    """

    def __init__(
        self,
        *,
        n_trees: int = 8,
        n_evaluated: int = 4,
        scales: Sequence[float] = (1.0,),
        sharpen: int = 2,
        n_patches: int = 1_000_000,
        feature_fraction: float = 0.25,
        max_depth: int = DEEPEST,
        min_samples_leaf: int = 8,
        data_range: float | None = None,
        channel_axis: int | str | None = "auto",
        random_state: Any = None,
    ):
        self.n_trees = n_trees
        self.n_evaluated = n_evaluated
        self.scales = scales
        self.sharpen = sharpen
        self.n_patches = n_patches
        self.feature_fraction = feature_fraction
        self.max_depth = max_depth
        self.min_samples_leaf = min_samples_leaf
        self.data_range = data_range
        self.channel_axis = channel_axis
        self.random_state = random_state

    @classmethod
    def shipped(cls, **params: Any) -> Self:
        """Take the trees that come with the library.

        They were grown on the 200 training images of BSDS500 and what four people or more drew on
        each, by ``benchmarks/training/structured_forest.py``.

        Parameters
        ----------
        **params
            Parameters of the constructor, of which those of growing have no effect.

        Returns
        -------
        StructuredForest
            Ready to predict.
        """
        forest = cls(**params)
        trees = _shipped()
        forest.roots_, forest.nodes_, forest.patches_ = (
            trees.roots_, trees.nodes_, trees.patches_,
        )  # fmt: skip
        forest._answers = trees._answers
        return forest

    # --- growing -------------------------------------------------------------------------

    def fit(self, images: Any, labels: Any) -> Self:
        """Grow the trees.

        Parameters
        ----------
        images : array_like or sequence of array_like
            Grey (H, W) or colour (H, W, 3), one or many; sizes may differ.
        labels : array_like, or sequence of these or of sequences of them
            For each image its partition (H, W) of ids, -1 where unknown, or a sequence of
            partitions, one an annotator.

        Returns
        -------
        StructuredForest
            Itself.

        Raises
        ------
        ValueError
            If an image, a partition or a parameter is not as expected, or no image has a contour.
        """
        caller = type(self).__name__
        self._check_params()
        images, labels = pair_up(caller, images, labels)
        labs = [self._lab(image, f"images[{i}]") for i, image in enumerate(images)]
        maps = [check_partitions(caller, i, m, labs[i].shape[:2]) for i, m in enumerate(labels)]
        sites = [[find_sites(one) for one in partitions] for partitions in maps]
        if not any(len(one.near) for of_image in sites for one in of_image):
            raise ValueError(
                f"{caller}: no partition has a contour that is known {LABEL // 2} pixels around: "
                "pass partitions of two regions or more."
            )
        channels = [edge_channels(lab) for lab in labs]
        seeds = check_random_state(self.random_state).randint(1, 2**31 - 1, self.n_trees)
        self._join(map_items(partial(self._grow_tree, channels, maps, sites), seeds))
        return self

    def _check_params(self) -> None:
        caller = type(self).__name__
        for name in ("n_trees", "n_patches", "min_samples_leaf"):
            checks.check_int(caller, name, getattr(self, name), low=1)
        checks.check_int(caller, "max_depth", self.max_depth, low=1, high=DEEPEST)
        checks.check_real(caller, "feature_fraction", self.feature_fraction, low=0, high=1)
        self._check_asking()
        if self.n_evaluated > self.n_trees:
            raise ValueError(
                f"{caller}: n_evaluated is {self.n_evaluated}, expected at most n_trees, "
                f"{self.n_trees}."
            )

    def _check_asking(self) -> None:
        caller = type(self).__name__
        checks.check_int(caller, "n_evaluated", self.n_evaluated, low=1)
        checks.check_int(caller, "sharpen", self.sharpen, low=0, high=MOST_ROUNDS)
        if self.data_range is not None:
            checks.check_real(caller, "data_range", self.data_range, above=0)
        scales = self.scales
        if not isinstance(scales, Sequence) or not scales or not set(scales) <= set(SCALES):
            raise ValueError(f"{caller}: scales is {scales!r}, expected some of {SCALES}.")

    def _lab(self, image: ArrayLike, name: str) -> NDArray[np.float32]:
        """Check an image and convert it to Lab."""
        caller = type(self).__name__
        clean = checks.check_image(
            image, caller, channel_axis=self.channel_axis, keep_uint8=True, name=name
        )
        check_colours(clean, caller, name)
        data_range = find_data_range(clean, None, self.data_range, caller)
        if clean.shape[-1] == 1:
            clean = np.repeat(clean, 3, axis=-1)
        return rgb_to_lab(clean, data_range)

    def _grow_tree(
        self,
        channels: list[Channels],
        maps: list[list[NDArray[np.int32]]],
        sites: list[list[Sites]],
        seed: int,
    ) -> tuple[NDArray, ...]:
        """Learn a tree: its nodes' places, thresholds and children, and its leaves' patches."""
        rng = np.random.RandomState(seed)
        places = feature_places()
        n_features = max(1, round(self.feature_fraction * len(places)))
        known = np.sort(rng.choice(len(places), n_features, replace=False))
        n_each = -(-self.n_patches // (2 * len(sites)))
        drawn = [draw_sites(one, n_each, rng) for one in sites]
        ends = np.cumsum([len(one) for one in drawn])
        values = np.empty((n_features, ends[-1]), np.uint8)
        patches = []
        for one, partitions, cells, end in zip(channels, maps, drawn, ends, strict=True):
            values[:, end - len(cells) : end], cut = take_patches(
                one, partitions, cells, places[known]
            )
            patches.append(cut)
        patches = np.concatenate(patches)
        features, children = np.empty((2, 2 * len(patches)), np.int32)
        thresholds = np.empty(2 * len(patches), np.uint8)
        n_nodes = grow(
            values,
            patches,
            max(1, round(np.sqrt(n_features))),
            self.max_depth,
            self.min_samples_leaf,
            np.uint64(seed),
            features,
            thresholds,
            children,
        )
        nodes = np.empty((n_nodes, 2), np.int32)
        is_leaf = features[:n_nodes] < 0
        nodes[:, 0] = join_questions(known[features[:n_nodes]], thresholds[:n_nodes])
        nodes[is_leaf, 0] = 0
        nodes[:, 1] = children[:n_nodes]
        chosen = nodes[is_leaf, 1]
        nodes[is_leaf, 1] = ~np.arange(len(chosen))
        return nodes, patches[chosen]

    def _join(self, trees: list) -> None:
        """Join trees that were grown apart; each distinct patch is kept once."""
        tables, patches = zip(*trees, strict=True)
        self.roots_ = np.cumsum([0, *map(len, tables[:-1])]).astype(np.int32)
        self.patches_, owners = np.unique(np.concatenate(patches), axis=0, return_inverse=True)
        parts = np.split(owners.ravel(), np.cumsum([len(own) for own in patches])[:-1])
        for root, table, own in zip(self.roots_, tables, parts, strict=True):
            is_leaf = table[:, 1] < 0
            table[is_leaf, 1] = ~own[~table[is_leaf, 1]]
            table[:] = _by_depth(table)
            table[table[:, 1] >= 0, 1] += root
        self.nodes_ = np.concatenate(tables)
        self._answers = Answers(self.patches_)

    # --- answers -------------------------------------------------------------------------

    def predict(self, images: Any, *, thin: bool = False) -> Any:
        """Find contours.

        Parameters
        ----------
        images : array_like or sequence of array_like
            Grey (H, W) or colour (H, W, 3), one or many.
        thin : bool, default=False
            Keep the ridges alone, as lines one pixel wide: as contours are scored. Hierarchies
            want them unthinned.

        Returns
        -------
        (H, W) float32, or a list of these
            Strength, 0 to 1: the part of the answers that have a contour at a pixel.

        Raises
        ------
        sklearn.exceptions.NotFittedError
            If it has not been fitted.
        ValueError
            If an image is not as expected.
        """
        check_is_fitted(self)
        self._check_asking()
        if checks.is_batch(images, type(self).__name__):
            return [self._predict(image, f"images[{i}]", thin) for i, image in enumerate(images)]
        return self._predict(images, "image", thin)

    def _predict(self, image: ArrayLike, name: str, thin: bool) -> NDArray[np.float32]:
        lab = self._lab(image, name)
        height, width = lab.shape[:2]
        even = np.pad(lab, ((0, height % 2), (0, width % 2), (0, 0)), mode="symmetric")
        total = np.zeros((height, width), np.float32)
        for scale in self.scales:
            if scale == 1:
                found = self._votes(lab)
            elif scale == 2:
                found = mean_of_cells(self._votes(double(lab))[..., None], 2)[..., 0]
            else:
                found = double(self._votes(mean_of_cells(even, 2))[..., None])[..., 0]
            total += found[:height, :width]
        total /= np.float32(len(self.scales))
        return non_maximum_suppression(total) if thin else total

    def _votes(self, lab: NDArray[np.float32]) -> NDArray[np.float32]:
        found = count_votes(
            edge_channels(lab),
            self.nodes_,
            self.roots_,
            min(self.n_evaluated, len(self.roots_)),
            self.sharpen,
            self._answers,
        )
        return found[: lab.shape[0], : lab.shape[1]]

    # --- model files ---------------------------------------------------------------------

    def get_arrays(self) -> dict[str, NDArray]:
        """Give the trees as small arrays, for a model file.

        Returns
        -------
        dict of str to ndarray
            ``sizes`` of the trees, ``features`` of all nodes in the order of their depth,
            ``thresholds`` of those that are split, ``answers`` of leaves, ``patches``.
        """
        check_is_fitted(self)
        is_leaf = self.nodes_[:, 1] < 0
        features, thresholds = split_questions(self.nodes_[:, 0])
        features[is_leaf] = len(feature_places())
        return {
            "sizes": np.diff(np.append(self.roots_, len(self.nodes_))).astype(np.int32),
            "features": features,
            "thresholds": thresholds[~is_leaf],
            "answers": ~self.nodes_[is_leaf, 1],
            "patches": self.patches_,
        }

    def set_arrays(self, arrays: Mapping[str, NDArray]) -> Self:
        """Take up trees from a model file, checked so that no walk can leave them.

        Parameters
        ----------
        arrays : mapping of str to ndarray
            As `get_arrays` gives them.

        Returns
        -------
        StructuredForest
            Itself.

        Raises
        ------
        ValueError
            If the arrays are no structured forest.
        """
        sizes, features, thresholds, answers, patches = (
            np.asarray(arrays[name])
            for name in ("sizes", "features", "thresholds", "answers", "patches")
        )
        n_features = len(feature_places())
        ok = (
            sizes.dtype == answers.dtype == np.int32
            and features.dtype == np.uint16
            and thresholds.dtype == patches.dtype == np.uint8
            and all(array.ndim == 1 for array in (sizes, features, thresholds, answers))
            and patches.shape[1:] == (LABEL * LABEL,)
            and len(sizes) > 0
            and sizes.min() > 0
            and sizes.sum(dtype=np.int64) == len(features)
            and features.max() <= n_features
            and patches.max(initial=0) < NO_LABEL
            and len(thresholds) + len(answers) == len(features)
            and np.count_nonzero(features < n_features) == len(thresholds)
            and ((answers >= 0) & (answers < len(patches))).all()
        )
        if ok:
            roots = np.cumsum(np.append(0, sizes))[:-1]
            inner = features < n_features
            # The k-th node of a tree that is split has children 2 k + 1 and 2 k + 2.
            before = np.cumsum(inner) - inner
            first = np.repeat(roots, sizes)
            children = first + 1 + 2 * (before - before[first])
            ends = np.repeat(roots + sizes, sizes)
            own = np.arange(len(features))
            ok = ((children > own) & (children + 1 < ends))[inner].all()
        if not ok:
            raise ValueError("its arrays are not those of a structured forest")
        nodes = np.zeros((len(features), 2), np.int32)
        nodes[inner, 0] = join_questions(features[inner], thresholds)
        nodes[inner, 1] = children[inner]
        nodes[~inner, 1] = ~answers
        self.roots_, self.nodes_, self.patches_ = roots.astype(np.int32), nodes, patches
        self._answers = Answers(patches)
        return self


@cache
def _shipped() -> StructuredForest:
    """The trees of the package's own file."""
    with np.load(Path(__file__).with_name("structured_forest.npz"), allow_pickle=False) as file:
        return StructuredForest().set_arrays(dict(file))


def structured_forest_contours(
    image: ArrayLike,
    *,
    scales: Sequence[float] = SCALES,
    sharpen: int = MOST_ROUNDS,
    data_range: float | None = None,
    mask: ArrayLike | None = None,
    channel_axis: int | str | None = "auto",
) -> NDArray[np.float32]:
    """Find the contours of things in a photograph, as people would draw them.

    Parameters
    ----------
    image : (H, W) or (H, W, 3) array_like
    scales : sequence of {0.5, 1, 2}, default=(0.5, 1, 2)
        As in `StructuredForest`.
    sharpen : int, default=2
        As in `StructuredForest`.
    data_range : float, optional
        Value of white in `image`; found by `segalgos.color.data_range_of` if None.
    mask : (H, W) array_like of bool, optional
        True where contours are wanted; elsewhere they are 0.
    channel_axis : int, None or "auto", default="auto"
        Which axis holds the channels; None for a grey image.

    Returns
    -------
    (H, W) float32
        Strength, 0 to 1.

    Raises
    ------
    ValueError
        If an argument is not as expected.

    See Also
    --------
    segalgos.StructuredForest : The trees, which learn from other images, too.
    """
    forest = StructuredForest.shipped(
        n_evaluated=ASKED,
        scales=scales,
        sharpen=sharpen,
        data_range=data_range,
        channel_axis=channel_axis,
    )
    strength = forest.predict(image)
    if mask is not None:
        mask = checks.check_mask(mask, strength.shape, "structured_forest_contours")
        strength = np.where(mask, strength, 0)
    return strength


def _by_depth(table: NDArray[np.int32]) -> NDArray[np.int32]:
    """Put the nodes of a tree in the order of their depth."""
    order, level = [], np.zeros(1, np.int64)
    while len(level):
        order.append(level)
        inner = level[table[level, 1] >= 0]
        level = (table[inner, 1][:, None] + np.arange(2)).ravel()
    table = table[np.concatenate(order)]
    inner = table[:, 1] >= 0
    table[inner, 1] = 1 + 2 * np.arange(np.count_nonzero(inner))
    return table
