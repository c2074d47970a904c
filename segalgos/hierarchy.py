"""Nested partitions of one image: base regions, and the tree of their merges."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from numbers import Real

import numpy as np
from numpy.typing import ArrayLike, NDArray

from segalgos.finite import as_finite
from segalgos.parallel import map_strips

__all__ = ["Hierarchy"]

STRIP = 1 << 16  # pixels


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
        n = int(regions.max(initial=-1)) + 1
        inside = regions[regions >= 0]
        gap = n > len(inside) or (np.bincount(inside, minlength=n) == 0).any()
        if regions.min(initial=-1) < -1 or gap:
            raise ValueError(
                "Hierarchy: regions holds other ids than 0..n-1 and -1: renumber them."
            )
        merges = as_finite(self.merges, np.int64, (None, 2), "Hierarchy: merges")
        levels = as_finite(self.levels, np.float64, (len(merges),), "Hierarchy: levels")
        own = n + np.arange(len(merges))
        if (merges < 0).any() or (merges >= own[:, None]).any():
            raise ValueError("Hierarchy: a merge names a node that does not exist before it.")
        if np.bincount(merges.ravel()).max(initial=0) > 1:
            raise ValueError("Hierarchy: a node is merged twice: expected a tree.")
        if (np.diff(levels) < 0).any():
            raise ValueError("Hierarchy: levels fall: sort the merges by level.")
        for name, value in (("regions", regions), ("merges", merges), ("levels", levels)):
            object.__setattr__(self, name, np.ascontiguousarray(value))

    @property
    def n_regions(self) -> int:
        """Number of base regions."""
        return int(self.regions.max(initial=-1)) + 1

    def cut(
        self,
        *,
        level: float | None = None,
        n_segments: int | None = None,
        min_area: int | None = None,
        scribbles: ArrayLike | None = None,
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
        scribbles : (H, W) or (D, H, W) array_like of int, optional
            Give each base region the label of what is scribbled on it, or within the lowest
            of its ancestors that holds a scribble; -1 where nothing is drawn.

        Returns
        -------
        (H, W) or (D, H, W) int32
            Ids 0..k-1 in the order of their first base region, or the scribbles' own; -1
            outside the mask, and where no ancestor holds a scribble.

        Raises
        ------
        ValueError
            If not exactly one of the four is given, or it cannot be met.
        TypeError
            If the scribbles are no integers, or another argument is no number.

        Notes
        -----
        O(n_regions + n_pixels) time, with scribbles O(s log s) more for s drawn pixels.

        Where labels compete, that with more scribbled pixels wins (a tie goes to the lower
        label within a base region, to the part named first in a merge): within a base region
        it takes the region; where two parts merge each keeps what it has, and the winner
        stands for both in every merge above.
        """
        options = {
            "level": level,
            "n_segments": n_segments,
            "min_area": min_area,
            "scribbles": scribbles,
        }
        given = [name for name, value in options.items() if value is not None]
        if len(given) != 1:
            raise ValueError(
                f"Hierarchy.cut: got {' and '.join(given) or 'nothing'}, expected exactly one of "
                f"{', '.join(options)}."
            )
        from segalgos._hierarchy_kernels import find_segments
        from segalgos.checks import check_int, check_real  # which needs the results

        n, m = self.n_regions, len(self.merges)
        if scribbles is not None:
            segments = self._labels_of(scribbles)
        else:
            if level is not None:
                if not (isinstance(level, Real) and np.isinf(level)):
                    check_real("Hierarchy.cut", "level", level)
                applied = self.levels <= level
            elif n_segments is not None:
                check_int("Hierarchy.cut", "n_segments", n_segments)
                if not n - m <= n_segments <= n:
                    raise ValueError(
                        f"Hierarchy.cut: n_segments={n_segments}, this hierarchy has {n - m} to "
                        f"{n}."
                    )
                applied = np.arange(m) < n - n_segments
            else:
                check_int("Hierarchy.cut", "min_area", min_area)
                applied = self._needed_by_small(min_area)
            segments = find_segments(self.merges, applied, n)
        return segments[self.regions]  # the last one, at -1, is outside the mask

    def _needed_by_small(self, min_area: int) -> NDArray[np.bool_]:
        """Merges that leave no region smaller than `min_area`, where that can be."""
        from segalgos._hierarchy_kernels import add_areas, join_below

        n = self.n_regions
        area = np.zeros(n + len(self.merges), np.int64)
        area[:n] = np.bincount(self.regions[self.regions >= 0], minlength=n)
        add_areas(self.merges, area)
        applied = (area[self.merges] < min_area).any(axis=1)
        join_below(self.merges, n, applied)
        return applied

    def _labels_of(self, scribbles: ArrayLike) -> NDArray[np.int32]:
        """Label of each base region by scribbles, (n + 1,), -1 at the end."""
        from segalgos._hierarchy_kernels import spread_labels
        from segalgos.checks import check_label_map  # which itself needs the results

        scribbles = check_label_map(scribbles, self.regions.shape, "Hierarchy.cut", "scribbles")
        n = self.n_regions
        drawn = (scribbles >= 0) & (self.regions >= 0)
        pairs = self.regions[drawn].astype(np.int64) << 32 | scribbles[drawn]
        pairs, votes = np.unique(pairs, return_counts=True)
        order = np.lexsort((pairs, -votes))[::-1]  # what is written last stays: the most votes
        label = np.full(n + len(self.merges), -1, np.int32)
        count = np.zeros(len(label), np.int64)
        label[pairs[order] >> 32] = pairs[order] & 0xFFFFFFFF
        count[pairs[order] >> 32] = votes[order]
        spread_labels(self.merges, label, count)
        return np.append(label[:n], np.int32(-1))

    def merge_levels(self, first: ArrayLike, second: ArrayLike) -> NDArray[np.float64]:
        """Look up the levels at which base regions merge.

        Parameters
        ----------
        first, second : array_like of int
            Base regions, of one shape.

        Returns
        -------
        ndarray of float64
            Of that shape: an ultrametric distance. 0 from a region to itself, inf for two that
            never merge.

        Raises
        ------
        ValueError
            If the shapes differ, or there is no such region.

        Notes
        -----
        O(n_regions + pairs * log n_regions) time.
        """
        from segalgos._hierarchy_kernels import levels_between

        shape = np.shape(first)
        pair = [
            as_finite(values, np.int32, shape, f"Hierarchy.merge_levels: {name}")
            for name, values in (("first", first), ("second", second))
        ]
        for values in pair:
            if values.min(initial=0) < 0 or values.max(initial=-1) >= self.n_regions:
                raise ValueError(
                    f"Hierarchy.merge_levels: regions from {values.min()} to {values.max()}, "
                    f"expected 0 to {self.n_regions - 1}."
                )
        out = np.zeros(shape)
        levels_between(*self._linked(), *(values.ravel() for values in pair), out.ravel())
        return out

    def _linked(self) -> tuple[NDArray, NDArray, NDArray]:
        """What kernels need to find the level at which two base regions merge."""
        from segalgos._hierarchy_kernels import link

        return *link(self.merges, self.n_regions), np.append(self.levels, np.inf)

    def ucm(self, *, double_sized: bool = True) -> NDArray[np.float32]:
        """Draw the ultrametric contour map.

        Parameters
        ----------
        double_sized : bool, default=True
            Keep the places between pixels, as BSDS500's ``ucm2`` does.

        Returns
        -------
        (2 H + 1, 2 W + 1) or (H, W) float32
            Odd rows and columns are pixels (0); between two pixels stands the level at
            which their regions merge (inf if never), on crossings the largest beside it. Not
            double-sized each pixel shows the crossing at its lower right corner.

        Raises
        ------
        ValueError
            If this is the hierarchy of a volume.

        Notes
        -----
        O(H * W + contours * log n_regions) time. Levels are rounded to float32. Thresholding
        the double-sized map at t and labelling what is not above it gives ``cut(level=t)``
        where its regions are connected. The map of the image's size is rows and columns
        ``2::2`` of it, which is what BSDS500's evaluation looks at.

        References
        ----------
        .. [1] P. Arbelaez, "Boundary extraction in natural images using ultrametric
           contour maps", POCV 2006.
        """
        from segalgos._hierarchy_kernels import fill_contours

        if self.regions.ndim != 2:
            raise ValueError(
                f"Hierarchy.ucm: regions have shape {self.regions.shape}, contours are of images "
                "(H, W): cut the volume's hierarchy instead."
            )
        height, width = self.regions.shape
        contours = np.zeros((2 * height + 1, 2 * width + 1), np.float32)
        fill = partial(fill_contours, self.regions, *self._linked(), contours)
        map_strips(fill, height, max(1, STRIP // max(1, width)))
        crossings, across, along = contours[::2, ::2], contours[::2, 1::2], contours[1::2, ::2]
        for part, beside in (
            (crossings[:, 1:], across),
            (crossings[:, :-1], across),
            (crossings[1:], along),
            (crossings[:-1], along),
        ):
            np.maximum(part, beside, out=part)
        return contours if double_sized else contours[2::2, 2::2].copy()
