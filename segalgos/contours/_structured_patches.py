"""What structured forests learn from: features of patches, and the label maps in their middle."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from itertools import combinations
from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt

from segalgos.contours._edge_channels import CELL, N_CHANNELS, PADDING, Channels

__all__ = ["LABEL", "PATCH", "Sites", "draw_sites", "edges_of", "feature_places", "find_sites",
           "take_patches"]  # fmt: skip

PATCH = 2 * PADDING // CELL  # cells to a side of what a tree looks at
LABEL = 16  # pixels to a side of what it answers, in the middle of the patch
GRID = 5  # points to a side of a patch whose differences are features


class Sites(NamedTuple):
    """Cells of one annotation around which patches can be taken, each (n, 2) int32.

    Parameters
    ----------
    near, far : ndarray
        With a contour in the label patch's circle, and without.
    """

    near: NDArray[np.int32]
    far: NDArray[np.int32]


@cache
def feature_places() -> NDArray[np.int32]:
    """Tell where in a patch features look.

    Returns
    -------
    (n_features, 2) int32, read-only
        Places, ``row << 16 | column * N_CHANNELS + channel``. A feature is the value at the first
        place, or, where the second is not -1, the difference of both.
    """

    def place(row: int, column: int, channel: int) -> int:
        return row << 16 | (column * N_CHANNELS + channel)

    values = [
        (place(row, column, channel), -1)
        for row in range(PATCH)
        for column in range(PATCH)
        for channel in range(N_CHANNELS)
    ]
    steps = np.round((np.arange(GRID) + 0.5) * PATCH / GRID - 0.5).astype(int).tolist()
    points = [(row, column) for row in steps for column in steps]
    differences = [
        (place(*first, channel), place(*second, channel))
        for first, second in combinations(points, 2)
        for channel in range(N_CHANNELS)
    ]
    places = np.array(values + differences, np.int32)
    places.flags.writeable = False
    return places


def edges_of(labels: NDArray) -> NDArray[np.bool_]:
    """Find pixels of label maps (..., H, W) that touch another label above, below or beside."""
    edges = np.zeros(labels.shape, bool)
    for axis in (-2, -1):
        values, found = (np.moveaxis(array, axis, 0) for array in (labels, edges))
        differs = values[1:] != values[:-1]
        found[1:] |= differs
        found[:-1] |= differs
    return edges


def find_sites(labels: NDArray[np.int32]) -> Sites:
    """Find where patches of a label map can be taken.

    Parameters
    ----------
    labels : (H, W) int32
        -1 where unknown: patches that would show it are left out.

    Returns
    -------
    Sites
    """
    edges = edges_of(labels)
    near = np.zeros(edges.shape, bool)
    if edges.any():
        near = distance_transform_edt(~edges) < LABEL / 2
    known = np.ones(edges.shape, bool)
    if (labels < 0).any():
        padded = np.pad(labels < 0, LABEL // 2, mode="symmetric")
        sums = np.pad(padded, ((1, 0), (1, 0))).cumsum(axis=0, dtype=np.int64).cumsum(axis=1)
        inside = sums[LABEL:, LABEL:] - sums[LABEL:, :-LABEL]
        inside -= sums[:-LABEL, LABEL:] - sums[:-LABEL, :-LABEL]
        known = inside[: len(known), : known.shape[1]] == 0
    near, known = near[::CELL, ::CELL], known[::CELL, ::CELL]
    return Sites(*(np.argwhere(part & known).astype(np.int32) for part in (near, ~near)))


def draw_sites(
    annotations: Sequence[Sites], n: int, rng: np.random.RandomState
) -> NDArray[np.int32]:
    """Draw places of one image near contours and as many far from any.

    Parameters
    ----------
    annotations : sequence of Sites
    n : int
        Of each kind, at most.
    rng : RandomState

    Returns
    -------
    (m, 3) int32
        Annotation, row and column of the cell.
    """
    drawn = []
    for kind in range(2):
        cells = np.concatenate([sites[kind] for sites in annotations])
        owners = np.repeat(np.arange(len(annotations)), [len(s[kind]) for s in annotations])
        chosen = rng.choice(len(cells), min(n, len(cells)), replace=False)
        drawn.append(np.column_stack([owners[chosen], cells[chosen]]))
    return np.concatenate(drawn).astype(np.int32)


@njit(nogil=True, cache=True)
def _take_features(fine, coarse, origins, places, values):
    """Look at patches of one image.

    Parameters
    ----------
    fine, coarse : (h, w, N_CHANNELS) uint8
    origins : (m, 2) int32
        First row and column of each patch.
    places : (F, 2) int32
        As `feature_places` gives them.
    values : (F, m) uint8, overwritten
        Differences are halved, with 128 for none.
    """
    stride = fine.shape[1] * N_CHANNELS
    flat, smooth = fine.reshape(-1), coarse.reshape(-1)
    for f in range(places.shape[0]):
        first = (places[f, 0] >> 16) * stride + (places[f, 0] & 0xFFFF)
        second = (places[f, 1] >> 16) * stride + (places[f, 1] & 0xFFFF)
        for k in range(origins.shape[0]):
            base = origins[k, 0] * stride + origins[k, 1] * N_CHANNELS
            if places[f, 1] < 0:
                values[f, k] = flat[base + first]
            else:
                change = np.int32(smooth[base + first]) - np.int32(smooth[base + second])
                values[f, k] = (change + 256) >> 1


@njit(nogil=True, cache=True)
def _take_labels(labels, corners, patches):
    """Cut out label patches, numbered from 0 in the order of their pixels.

    Parameters
    ----------
    labels : (H, W) int32
    corners : (m, 2) int32
    patches : (m, LABEL * LABEL) uint8, overwritten
        255 and beyond are not told apart.
    """
    known = np.empty(LABEL * LABEL, np.int32)
    for k in range(corners.shape[0]):
        n_known = 0
        for i in range(LABEL):
            for j in range(LABEL):
                label = labels[corners[k, 0] + i, corners[k, 1] + j]
                number = 0
                while number < n_known and known[number] != label:
                    number += 1
                if number == n_known:
                    known[n_known] = label
                    n_known += 1
                patches[k, i * LABEL + j] = min(number, 254)


def take_patches(
    channels: Channels,
    annotations: Sequence[NDArray[np.int32]],
    drawn: NDArray[np.int32],
    places: NDArray[np.int32],
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Take the patches of one image that were drawn.

    Parameters
    ----------
    channels : Channels
    annotations : sequence of (H, W) int32
    drawn : (m, 3) int32
        As `draw_sites` gives them.
    places : (F, 2) int32
        Of the features.

    Returns
    -------
    values : (F, m) uint8
    patches : (m, LABEL * LABEL) uint8
    """
    values = np.empty((len(places), len(drawn)), np.uint8)
    # A cell is the middle of its patch: so many cells on in the padded image, and as many back.
    _take_features(channels.fine, channels.coarse, drawn[:, 1:], places, values)
    patches = np.empty((len(drawn), LABEL * LABEL), np.uint8)
    for k, labels in enumerate(annotations):
        own = drawn[:, 0] == k
        cut = np.empty((np.count_nonzero(own), LABEL * LABEL), np.uint8)
        padded = np.pad(labels, LABEL // 2, mode="symmetric")
        _take_labels(padded, drawn[own, 1:] * CELL, cut)
        patches[own] = cut
    return values, patches
