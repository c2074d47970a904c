"""Nested partitions of one image: base regions, and the tree of their merges."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from segalgos.finite import as_finite

__all__ = ["Hierarchy"]


@dataclass(frozen=True, eq=False)
class Hierarchy:
    """Nested partitions of one image or volume: base regions and the tree of their merges.

    Parameters
    ----------
    regions : (H, W) or (D, H, W) int32
        Base regions 0..n-1; -1 outside the mask.
    merges : (m, 2) int
        Merge i joins two nodes into node ``n + i``. Nodes below n are base regions.
    levels : (m,) float
        Height of each merge, never falling.

    Raises
    ------
    ValueError
        If the merges are no tree or the levels fall.
    """

    regions: NDArray[np.int32]
    merges: NDArray[np.int64]
    levels: NDArray[np.float64]

    def __post_init__(self):
        shape = (None,) * (3 if np.ndim(self.regions) == 3 else 2)
        regions = as_finite(self.regions, np.int32, shape, "Hierarchy: regions")
        ids = np.unique(regions[regions >= 0])
        if regions.min(initial=-1) < -1 or (ids != np.arange(len(ids))).any():
            raise ValueError(
                "Hierarchy: regions holds other ids than 0..n-1 and -1: renumber them."
            )
        merges = as_finite(self.merges, np.int64, (None, 2), "Hierarchy: merges")
        levels = as_finite(self.levels, np.float64, (len(merges),), "Hierarchy: levels")
        n = int(regions.max(initial=-1)) + 1
        own = n + np.arange(len(merges))
        if (merges < 0).any() or (merges >= own[:, None]).any():
            raise ValueError("Hierarchy: a merge names a node that does not exist before it.")
        if len(np.unique(merges)) != merges.size:
            raise ValueError("Hierarchy: a node is merged twice: expected a tree.")
        if (np.diff(levels) < 0).any():
            raise ValueError("Hierarchy: levels fall: sort the merges by level.")
        for name, value in (("regions", regions), ("merges", merges), ("levels", levels)):
            object.__setattr__(self, name, value)

    @property
    def n_regions(self) -> int:
        """Number of base regions."""
        return int(self.regions.max(initial=-1)) + 1

    def _parents(self) -> NDArray[np.int64]:
        """Parent of every node; -1 for roots."""
        parents = np.full(self.n_regions + len(self.merges), -1, np.int64)
        parents[self.merges.ravel()] = np.repeat(self.n_regions + np.arange(len(self.merges)), 2)
        return parents

    def cut(
        self,
        *,
        level: float | None = None,
        n_segments: int | None = None,
        min_area: int | None = None,
    ) -> NDArray[np.int32]:
        """Choose one partition of the hierarchy.

        Parameters
        ----------
        level : float, optional
            Apply every merge at or below this level.
        n_segments : int, optional
            Apply merges in order until this many regions are left.
        min_area : int, optional
            Apply only the merges that a region smaller than this many pixels needs.

        Returns
        -------
        (H, W) or (D, H, W) int32
            Ids 0..k-1 in the order of their first base region; -1 outside the mask.

        Raises
        ------
        ValueError
            If not exactly one of the three is given, or it cannot be met.

        Notes
        -----
        O(n_regions + n_pixels) time.
        """
        options = {"level": level, "n_segments": n_segments, "min_area": min_area}
        given = [name for name, value in options.items() if value is not None]
        if len(given) != 1:
            raise ValueError(
                f"Hierarchy.cut: got {' and '.join(given) or 'nothing'}, expected exactly one of "
                f"{', '.join(options)}."
            )
        n, m = self.n_regions, len(self.merges)
        if level is not None:
            applied = self.levels <= level
        elif n_segments is not None:
            if not n - m <= n_segments <= n:
                raise ValueError(
                    f"Hierarchy.cut: n_segments={n_segments}, this hierarchy has {n - m} to {n}."
                )
            applied = np.arange(m) < n - n_segments
        else:
            applied = self._needed_by_small(min_area)
        root = np.arange(n + m)
        for i in range(m - 1, -1, -1):  # children after their parent, so one pass is enough
            if applied[i]:
                root[self.merges[i]] = root[n + i]
        _, ids = np.unique(root[:n], return_index=True)
        order = np.empty(n + m, np.int32)
        order[root[np.sort(ids)]] = np.arange(len(ids))
        lookup = np.append(order[root[:n]], -1).astype(np.int32)  # [-1] is outside the mask
        return lookup[self.regions]

    def _needed_by_small(self, min_area: int) -> NDArray[np.bool_]:
        n, m = self.n_regions, len(self.merges)
        area = np.zeros(n + m, np.int64)
        area[:n] = np.bincount(self.regions[self.regions >= 0], minlength=n)
        for i in range(m):
            area[n + i] = area[self.merges[i]].sum()
        applied = (area[self.merges] < min_area).any(axis=1)
        for i in range(m - 1, -1, -1):
            if applied[i]:  # a node is joined as a whole, so all below it is joined too
                below = self.merges[i][self.merges[i] >= n] - n
                applied[below] = True
        return applied

    def ucm(self) -> NDArray[np.float32]:
        """Ultrametric contour map, double-sized as in BSDS500.

        Returns
        -------
        (2 H + 1, 2 W + 1) float32
            Odd rows and columns are pixels (0); between two pixels stands the level at
            which their regions merge (inf if never), on crossings the largest beside it.

        Raises
        ------
        ValueError
            If this is the hierarchy of a volume.

        Notes
        -----
        O(H * W + pairs * depth) time. Levels are rounded to float32. Thresholding at t and
        labelling the connected zeros gives ``cut(level=t)`` where its regions are connected.

        References
        ----------
        .. [1] P. Arbelaez, "Boundary extraction in natural images using ultrametric
           contour maps", POCV 2006.
        """
        if self.regions.ndim != 2:
            raise ValueError(
                f"Hierarchy.ucm: regions have shape {self.regions.shape}, contours are of images "
                "(H, W): cut the volume's hierarchy instead."
            )
        height, width = self.regions.shape
        contours = np.zeros((2 * height + 1, 2 * width + 1), np.float32)
        contours[1:-1:2, 2:-1:2] = self._merge_level(self.regions[:, :-1], self.regions[:, 1:])
        contours[2:-1:2, 1:-1:2] = self._merge_level(self.regions[:-1], self.regions[1:])
        beside = np.pad(contours, 1)
        crossings = np.maximum.reduce(
            [beside[1:-1, :-2], beside[1:-1, 2:], beside[:-2, 1:-1], beside[2:, 1:-1]]
        )
        contours[::2, ::2] = crossings[::2, ::2]
        return contours

    def _merge_level(self, a: NDArray, b: NDArray) -> NDArray[np.float64]:
        """Level at which two maps of base regions meet, pixel by pixel."""
        n = self.n_regions
        pairs = np.stack([np.minimum(a, b).ravel(), np.maximum(a, b).ravel()])
        pairs, inverse = np.unique(pairs, axis=1, return_inverse=True)
        low, high = pairs.astype(np.int64)
        parents, levels = self._parents(), np.append(self.levels, np.inf)  # [-1]: never merged
        level = np.zeros(pairs.shape[1])
        open_ = np.flatnonzero(low != high)
        level[open_[low[open_] < 0]] = np.inf  # the edge of the mask never merges
        open_ = open_[low[open_] >= 0]
        while len(open_):
            # Parents have larger ids, so the smaller of the two nodes climbs.
            node = parents[low[open_]]
            level[open_] = levels[np.where(node < 0, -1, node - n)]
            open_, node = open_[node >= 0], node[node >= 0]
            low[open_], high[open_] = np.minimum(node, high[open_]), np.maximum(node, high[open_])
            open_ = open_[low[open_] != high[open_]]
        return level[inverse.ravel()].reshape(a.shape)
