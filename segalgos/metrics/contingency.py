"""The one pass over the pixels that all scores of label maps share."""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import ArrayLike

_INT32_MAX = np.iinfo(np.int32).max


@dataclass(frozen=True, eq=False)
class ContingencyTable:
    """How many pixels each pair of a label and a true id has in common.

    Only pairs that occur are stored, so thousands of regions on either side stay cheap.

    Parameters
    ----------
    label_ids : (n_labels,) int64 array
        Ids that `labels` has at pixels that are not ignored, ascending. -1, if there, comes first.
    truth_ids : (n_truth,) int64 array
        Ids of the truth, ascending, never -1.
    rows, columns : (n_pairs,) intp arrays
        Positions in `label_ids` and `truth_ids`, ordered by row, then by column.
    counts : (n_pairs,) int64 array
        Pixels of each pair, all positive.
    """

    label_ids: np.ndarray
    truth_ids: np.ndarray
    rows: np.ndarray
    columns: np.ndarray
    counts: np.ndarray

    @cached_property
    def label_sizes(self) -> np.ndarray:
        """Pixels of each label, (n_labels,) int64."""
        return _sums(self.rows, self.counts, self.label_ids.size)

    @cached_property
    def truth_sizes(self) -> np.ndarray:
        """Pixels of each true id, (n_truth,) int64."""
        return _sums(self.columns, self.counts, self.truth_ids.size)

    @cached_property
    def n_pixels(self) -> int:
        """Pixels that are not ignored."""
        return int(self.counts.sum())

    def pair_ious(self) -> np.ndarray:
        """Intersection over union of each stored pair.

        Returns
        -------
        (n_pairs,) float64 array
            In the order of `counts`. Pairs that are not stored have an IoU of 0.
        """
        union = self.label_sizes[self.rows] + self.truth_sizes[self.columns] - self.counts
        return self.counts / union

    def to_dense(self) -> np.ndarray:
        """Write the table out, zeros included.

        Returns
        -------
        (n_labels, n_truth) int64 array
        """
        dense = np.zeros((self.label_ids.size, self.truth_ids.size), np.int64)
        dense[self.rows, self.columns] = self.counts
        return dense


def contingency_table(labels: ArrayLike, truth: ArrayLike) -> ContingencyTable:
    """Count how often each label meets each true id.

    Parameters
    ----------
    labels : int array of any shape
        Predicted ids, -1 or more. Here -1 (unlabelled) is an id like any other: where the truth is
        known, not to have answered is a mistake and not a reason to leave the pixel out. In
        semantic scores it is a miss of the true class; in region scores the unlabelled pixels
        are one region of their own.
    truth : int array of the same shape
        True ids. Pixels of id -1 are ignored: they touch no count and no id.

    Returns
    -------
    ContingencyTable

    Raises
    ------
    TypeError
        If an array does not hold integers.
    ValueError
        If the shapes differ or an id is below -1.

    Notes
    -----
    O(n_pixels) time. Small ids are counted in a dense table; large, gappy or very many ids in
    a hash table that is asked once per run of equal pairs, not once per pixel.

    Examples
    --------
    >>> table = contingency_table([[0, 0, 5]], [[1, 1, -1]])
    >>> table.label_ids, table.truth_ids, table.counts
    (array([0]), array([1]), array([2]))
    """
    labels = check_ids(labels, "labels", "contingency_table")
    truth = check_ids(truth, "truth", "contingency_table")
    check_same_shape(labels, truth, "labels", "truth", "contingency_table")
    return tabulate(labels, truth)


def tabulate(labels: np.ndarray, truth: np.ndarray) -> ContingencyTable:
    """Do what `contingency_table` does, for maps that have been checked.

    Parameters
    ----------
    labels, truth : int arrays of equal shape, ids -1 or more

    Returns
    -------
    ContingencyTable
    """
    n_labels = largest_id(labels) + 2  # ids from -1
    n_truth = largest_id(truth) + 1  # ids from 0
    # A dense table costs a sweep over its cells: worth it while they are no more than the pixels.
    # The bound on its sides keeps both maps within int32, and so one compiled kernel.
    if n_labels * n_truth <= max(labels.size, 1 << 16) and max(n_labels, n_truth) <= _INT32_MAX:
        dense = np.zeros((n_labels, n_truth), np.int64)
        _count_dense(_flat(labels, np.int32), _flat(truth, np.int32), dense)
        rows, columns = np.nonzero(dense)
        counts = dense[rows, columns]
        rows -= 1  # back to ids
    else:
        rows, columns, counts = _count_hashed(_flat(labels, np.int64), _flat(truth, np.int64))
        order = np.lexsort((columns, rows))
        rows, columns, counts = rows[order], columns[order], counts[order]
    label_ids, rows = np.unique(rows, return_inverse=True)
    truth_ids, columns = np.unique(columns, return_inverse=True)
    return ContingencyTable(label_ids, truth_ids, rows, columns, counts)


def merge_labels(table: ContingencyTable, ids: np.ndarray) -> ContingencyTable:
    """Count anew after labels were given other ids, some of them the same.

    Parameters
    ----------
    table : ContingencyTable
    ids : (n_labels,) int array
        New id of each of ``table.label_ids``, -1 or more.

    Returns
    -------
    ContingencyTable

    Notes
    -----
    The pixels are not looked at again: O(n_pairs log(n_pairs)) time, and O(n_pairs) if the new
    table is not much emptier than this one.
    """
    label_ids, rows = rank_ids(ids)
    n_truth = table.truth_ids.size
    n_cells = label_ids.size * n_truth
    cells = rows[table.rows] * n_truth + table.columns
    if n_cells <= max(16 * cells.size, 1 << 16):
        dense = _sums(cells, table.counts, n_cells)
        cells = np.flatnonzero(dense)
        counts = dense[cells]
    else:
        cells, places = np.unique(cells, return_inverse=True)
        counts = _sums(places, table.counts, cells.size)
    rows, columns = np.divmod(cells, max(n_truth, 1))
    return ContingencyTable(label_ids, table.truth_ids, rows, columns, counts)


def rank_ids(ids: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """List the ids that occur, without sorting where they are small.

    Parameters
    ----------
    ids : (n,) int array
        -1 or more.

    Returns
    -------
    different : (n_different,) int64 array
        Ascending.
    ranks : (n,) int64 array
        Place of each id in `different`.
    """
    n_places = largest_id(ids) + 2
    if n_places > max(16 * ids.size, 1 << 16):
        return np.unique(ids, return_inverse=True)
    occurs = np.zeros(n_places, bool)
    occurs[ids + 1] = True
    return np.flatnonzero(occurs) - 1, (np.cumsum(occurs) - 1)[ids + 1]


@njit(nogil=True, cache=True)
def _count_dense(labels, truth, counts):
    """Count pairs into a dense table.

    Parameters
    ----------
    labels, truth : (n_pixels,) int32
    counts : (max label + 2, max truth + 1) int64, zeros; row 0 is the label -1
    """
    for i in range(labels.size):
        if truth[i] >= 0:
            counts[labels[i] + 1, truth[i]] += 1


def _count_hashed(labels, truth):
    """Count pairs in a hash table that doubles when half full.

    Parameters
    ----------
    labels, truth : (n_pixels,) int64

    Returns
    -------
    pair_labels, pair_truth, counts : (n_pairs,) int64, in no particular order
    """
    slots = np.zeros((3, 4096), np.int64)  # label, true id and count; a count of 0 is a free slot
    position = _fill(labels, truth, 0, slots, slots.shape[1] // 2)
    while position < labels.size:
        larger = np.zeros((3, 2 * slots.shape[1]), np.int64)
        _move(slots, larger)
        slots = larger
        position = _fill(labels, truth, position, slots, slots.shape[1] // 4)
    return slots[:, slots[2] > 0]


@njit(nogil=True, cache=True)
def _fill(labels, truth, position, slots, n_free):
    """Count pixels from a position on, until the pairs take up that many more slots.

    Parameters
    ----------
    labels, truth : (n_pixels,) int64
    position : int
    slots : (3, n_slots) int64, changed in place
    n_free : int

    Returns
    -------
    position : int
        The first pixel that is not counted; n_pixels when all are.
    """
    while position < labels.size and n_free > 0:
        label, true = labels[position], truth[position]
        start = position
        position += 1
        while position < labels.size and labels[position] == label and truth[position] == true:
            position += 1
        if true >= 0:
            slot = _find_slot(slots, label, true)
            if slots[2, slot] == 0:
                slots[0, slot], slots[1, slot] = label, true
                n_free -= 1
            slots[2, slot] += position - start
    return position


@njit(nogil=True, cache=True)
def _move(slots, larger):
    """Enter the pairs of a hash table into a larger, empty one."""
    for i in range(slots.shape[1]):
        if slots[2, i]:
            larger[:, _find_slot(larger, slots[0, i], slots[1, i])] = slots[:, i]


@njit(nogil=True, cache=True)
def _find_slot(slots, label, true):
    """Find the slot of a pair, or the free one where it belongs.

    Parameters
    ----------
    slots : (3, n_slots) int64, n_slots a power of two, not full
    label, true : int64

    Returns
    -------
    slot : int

    Notes
    -----
    Linear probing. The hash multiplies by large odd numbers and takes the high half of the product,
    whose bits depend on all bits of both ids.
    """
    last = slots.shape[1] - 1
    key = label * np.int64(0x1E3779B97F4A7C15) + true
    key = (key ^ (key >> 32)) * np.int64(0x42B2AE3D27D4EB4F)
    slot = (key >> 32) & last
    while slots[2, slot] and not (slots[0, slot] == label and slots[1, slot] == true):
        slot = (slot + 1) & last
    return slot


def _flat(labels, dtype):
    # One memory layout, writeable too, is one compiled kernel; copies only if it has to.
    return np.require(labels, dtype, ["C", "W"]).reshape(-1)


def _sums(positions, counts, size):
    sums = np.zeros(size, np.int64)
    np.add.at(sums, positions, counts)  # bincount would go through float64
    return sums


def check_ids(labels: ArrayLike, name: str, caller: str) -> np.ndarray:
    """Check that an argument holds integer ids, none below -1.

    Parameters
    ----------
    labels : array-like
        Any shape; a boolean mask is taken as the ids 0 and 1.
    name, caller : str
        The argument's and the function's name, for the message.

    Returns
    -------
    int array
    """
    if np.ma.isMaskedArray(labels) and np.ma.getmaskarray(labels).any():
        raise ValueError(
            f"{caller}: {name} has masked pixels: pass {name}.filled(-1) to have them ignored."
        )
    labels = np.asarray(labels)
    if labels.dtype == bool:
        return labels.view(np.uint8)
    if labels.dtype.kind not in "iu":
        raise TypeError(
            f"{caller}: {name} has dtype {labels.dtype}, expected integer ids: "
            f"pass {name}.astype(np.int32)."
        )
    low, high = int(labels.min(initial=0)), int(labels.max(initial=0))
    if low < -1 or high >= np.iinfo(np.int64).max:
        raise ValueError(
            f"{caller}: {name} holds the id {low if low < -1 else high}, expected ids from -1 "
            "(unlabelled, ignored) to 2**63 - 2: renumber the map."
        )
    return labels


def largest_id(labels: np.ndarray) -> int:
    """Find the largest id of a map.

    Parameters
    ----------
    labels : int array

    Returns
    -------
    int
        -1 for a map without pixels.
    """
    return int(labels.max()) if labels.size else -1


def check_same_shape(
    first: np.ndarray, second: np.ndarray, first_name: str, second_name: str, caller: str
) -> None:
    """Check that two maps lie on the same pixels.

    Parameters
    ----------
    first, second : arrays
    first_name, second_name, caller : str
        Names for the message.
    """
    if first.shape != second.shape:
        raise ValueError(
            f"{caller}: {first_name} has shape {first.shape}, {second_name} has {second.shape}: "
            "pass maps of the same pixels."
        )


def list_maps(maps: Any, name: str, caller: str) -> list[np.ndarray]:
    """Take one label map or a sequence of them as a list of checked maps.

    Parameters
    ----------
    maps : array, or sequence of arrays
        An array is one map, whatever its number of dimensions; a list or tuple is several.
    name, caller : str
        Names for the message.

    Returns
    -------
    list of int arrays with at least two dimensions
    """
    if hasattr(maps, "__array__"):
        named = [(name, maps)]
    elif isinstance(maps, Iterable):
        named = [(f"{name}[{i}]", labels) for i, labels in enumerate(maps)]
    else:
        raise TypeError(
            f"{caller}: {name} is a {type(maps).__name__}: pass a label map or a list of them."
        )
    if not named:
        raise ValueError(f"{caller}: {name} is empty: pass at least one label map.")
    checked = [check_ids(labels, label_name, caller) for label_name, labels in named]
    for labels, (label_name, _) in zip(checked, named):
        if labels.ndim < 2:
            raise ValueError(
                f"{caller}: {label_name} has shape {labels.shape}, a label map has at least two "
                "dimensions: pass np.asarray(...) of a nested list that is one map."
            )
    return checked
