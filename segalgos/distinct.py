"""Distinct values of pixels: a photograph of millions of pixels has few colours.

Clusterings and colour models work on the distinct values with their counts, and look
the results up for the pixels.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
from numba import njit
from numpy.typing import NDArray

from segalgos.color import USUAL_RANGES
from segalgos.parallel import map_strips

__all__ = ["DistinctRows", "all_rows", "distinct_rows", "group_rows"]

BLOCK = 2048  # indices that stay in the first cache between two loops
STRIP = 1 << 18

N_COLORS = 1 << 24
CELL = 512  # 8 x 8 x 8 colours lie together, since a photograph fills few such cells
COUNT_STRIP = 1 << 22  # rows a table of counts
CELL_STRIP = 4096
SMALL = 1 << 18  # up to so many rows sorting is faster than a table of all colours

HASH_STRIP = 1 << 18
MANY = 0.6  # part of the first strip's rows: if more differ, grouping the rest is no gain

NEAR = 1e-3  # a float stands for a byte if it is so near to it


@dataclass(frozen=True, eq=False)
class DistinctRows:
    """Distinct rows of a table, and how to come back to its rows.

    Parameters
    ----------
    values : (m, C) float32
        No two are equal, unless most rows differ and were left alone.
    counts : (m,) float64
        How often each occurs, at least once.
    expand : callable
        ``expand(numbers)`` with numbers (m,) int32 gives each row the number of its
        value: (n,) int32, -1 outside the mask.
    """

    values: NDArray[np.float32]
    counts: NDArray[np.float64]
    expand: Callable[[NDArray[np.int32]], NDArray[np.int32]]

    def inverse(self) -> NDArray[np.int32]:
        """Index of each row's value.

        Returns
        -------
        (n,) int32
            -1 outside the mask.
        """
        return self.expand(np.arange(len(self.values), dtype=np.int32))

    def totals(self, weights: NDArray) -> NDArray[np.float64]:
        """Add up weights of the rows, for each value.

        Parameters
        ----------
        weights : (n,) ndarray

        Returns
        -------
        (m,) float64
        """
        inverse = self.inverse()
        inside = inverse >= 0
        return np.bincount(inverse[inside], weights[inside], len(self.values))


# --- colours of 8 bits a channel ---------------------------------------------------------


@njit(nogil=True, cache=True)
def _color_indices(codes, n_channels, indices):
    """Number colours so that the 512 of a cell of 8 x 8 x 8 follow one another.

    Parameters
    ----------
    codes : (n * n_channels,) uint8
    n_channels : int
        1 to 3.
    indices : (n,) uint32, overwritten
        Below ``N_COLORS``.
    """
    three, seven = np.uint32(3), np.uint32(7)
    if n_channels == 3:
        for i in range(indices.shape[0]):
            r = np.uint32(codes[3 * i])
            g = np.uint32(codes[3 * i + 1])
            b = np.uint32(codes[3 * i + 2])
            high = (r >> three) << np.uint32(10) | (g >> three) << np.uint32(5) | b >> three
            low = (r & seven) << np.uint32(6) | (g & seven) << three | b & seven
            indices[i] = high << np.uint32(9) | low
    elif n_channels == 2:
        for i in range(indices.shape[0]):
            indices[i] = np.uint32(codes[2 * i]) << np.uint32(8) | np.uint32(codes[2 * i + 1])
    else:
        for i in range(indices.shape[0]):
            indices[i] = codes[i]


@njit(nogil=True, cache=True)
def _color_values(indices, meanings, values):
    """Write the colours that `_color_indices` has numbered.

    Parameters
    ----------
    indices : (m,) uint32
    meanings : (C, 256) float32
        What each byte stands for.
    values : (m, C) float32, overwritten
    """
    three, seven = np.uint32(3), np.uint32(7)
    n_channels = values.shape[1]
    for i in range(values.shape[0]):
        if n_channels == 3:
            high, low = indices[i] >> np.uint32(9), indices[i] & np.uint32(511)
            r = (high >> np.uint32(10)) << three | low >> np.uint32(6)
            g = (high >> np.uint32(5) & np.uint32(31)) << three | (low >> three & seven)
            b = (high & np.uint32(31)) << three | low & seven
            values[i, 0] = meanings[0, r]
            values[i, 1] = meanings[1, g]
            values[i, 2] = meanings[2, b]
        else:
            for c in range(n_channels):
                shift = np.uint32(8 * (n_channels - 1 - c))
                values[i, c] = meanings[c, indices[i] >> shift & np.uint32(255)]


@njit(nogil=True, cache=True)
def _count(codes, mask, table, full):
    """Count colours, in bytes: a table of these stays in cache.

    Parameters
    ----------
    codes : (n, C) uint8
    mask : (n,) or (0,) bool
        Rows that count; empty for all.
    table : (N_COLORS,) uint8
        Zeros; gets the counts, less 255 for each time one was full.
    full : (n // 255 + 1,) uint32, overwritten
        Colours whose count was full, once each time.

    Returns
    -------
    int
        How many entries of `full` are in use.
    """
    n_full = 0
    indices = np.empty(BLOCK, np.uint32)
    for begin in range(0, codes.shape[0], BLOCK):
        end = min(begin + BLOCK, codes.shape[0])
        block = indices[: end - begin]
        _color_indices(codes[begin:end].reshape(-1), codes.shape[1], block)
        for i in range(block.shape[0]):
            if mask.shape[0] and not mask[begin + i]:
                continue
            count = np.uint8(table[block[i]] + np.uint8(1))
            if count == 0:
                full[n_full] = block[i]
                n_full += 1
                count = np.uint8(1)
            table[block[i]] = count
    return n_full


@njit(nogil=True, cache=True)
def _count_cells(tables, n_colors, start, stop):
    """Count the colours that occur in some of the cells.

    Parameters
    ----------
    tables : (n_tables, N_COLORS) uint8
    n_colors : (N_COLORS // CELL,) int32, overwritten in part
    start, stop : int
        Range of cells.
    """
    occurs = np.empty(CELL, np.uint8)
    for cell in range(start, stop):
        occurs[:] = 0
        for t in range(tables.shape[0]):
            counts = tables[t, cell * CELL : (cell + 1) * CELL]
            for i in range(CELL):
                occurs[i] |= counts[i]
        n = 0
        for i in range(CELL):
            n += occurs[i] != 0
        n_colors[cell] = n


@njit(nogil=True, cache=True)
def _list_cells(tables, ends, colors, counts, start, stop):
    """List the colours that occur in some of the cells, and how often.

    Parameters
    ----------
    tables : (n_tables, N_COLORS) uint8
    ends : (N_COLORS // CELL,) int64
        How many colours there are in a cell and all before it.
    colors : (m,) uint32, overwritten in part
    counts : (m,) float64, overwritten in part
    start, stop : int
        Range of cells.
    """
    total = np.empty(CELL, np.int32)
    colors_within = np.empty(CELL + 1, np.int32)
    n_before = ends[start - 1] if start else 0
    for cell in range(start, stop):
        n = ends[cell] - n_before
        if n:
            total[:] = 0
            for t in range(tables.shape[0]):
                row = tables[t, cell * CELL : (cell + 1) * CELL]
                for i in range(CELL):
                    total[i] += row[i]
            found = 0
            for i in range(CELL):  # without a branch, which could not be foreseen
                colors_within[found] = i
                found += total[i] != 0
            for j in range(n):
                i = colors_within[j]
                colors[n_before + j] = cell * CELL + i
                counts[n_before + j] = total[i]
        n_before = ends[cell]


@njit(nogil=True, cache=True)
def _look_up(codes, mask, table, out, start, stop):
    """Give rows the number of their colour.

    Parameters
    ----------
    codes, mask : as in `_count`
    table : (N_COLORS,) uint8 or int32
    out : (n,) int32, overwritten in part
    start, stop : int
        Range of rows.
    """
    indices = np.empty(BLOCK, np.uint32)
    for begin in range(start, stop, BLOCK):
        end = min(begin + BLOCK, stop)
        block, target = indices[: end - begin], out[begin:end]
        _color_indices(codes[begin:end].reshape(-1), codes.shape[1], block)
        for i in range(block.shape[0]):
            target[i] = table[block[i]]
        if mask.shape[0]:
            inside = mask[begin:end]
            for i in range(target.shape[0]):
                target[i] = target[i] if inside[i] else -1


def _group_colors(codes, mask):
    """Distinct colours: indices (m,), counts (m,) and a function like `DistinctRows.expand`."""
    n = len(codes)
    strip = max(COUNT_STRIP, -(-n // 8))
    n_strips = -(-n // strip)
    tables = np.zeros((n_strips, N_COLORS), np.uint8)

    def count(start, stop):
        full = np.empty((stop - start) // 255 + 1, np.uint32)
        n_full = _count(codes[start:stop], mask[start:stop], tables[start // strip], full)
        return full[:n_full]

    full = np.concatenate(map_strips(count, n, strip))
    n_colors = np.empty(N_COLORS // CELL, np.int32)
    map_strips(partial(_count_cells, tables, n_colors), len(n_colors), CELL_STRIP)
    ends = np.cumsum(n_colors, dtype=np.int64)
    colors, counts = np.empty(ends[-1], np.uint32), np.empty(ends[-1])
    map_strips(partial(_list_cells, tables, ends, colors, counts), len(ends), CELL_STRIP)
    full, times = np.unique(full, return_counts=True)
    counts[np.searchsorted(colors, full)] += 255.0 * times
    return colors, counts, partial(_expand_colors, codes, mask, colors)


def _expand_colors(codes, mask, colors, numbers):
    small = len(numbers) == 0 or (numbers.min() >= 0 and numbers.max() < 256)
    table = np.empty(N_COLORS, np.uint8 if small else np.int32)
    table[colors] = numbers
    out = np.empty(len(codes), np.int32)
    map_strips(partial(_look_up, codes, mask, table, out), len(codes), STRIP)
    return out


@njit(nogil=True, cache=True)
def _sort_by_cell(mask, indices, ends, entries):
    """Sort the pixels of a small image by the cells of their colours.

    Parameters
    ----------
    mask : (n,) or (0,) bool
        Pixels that count; empty for all.
    indices : (n,) uint32
        Colours as `_color_indices` numbers them.
    ends : (N_COLORS // CELL,) int32
        Zeros; gets where each cell's entries end.
    entries : (n,) uint32, overwritten
        A pixel's index times ``CELL`` plus the place of its colour within the cell.
    """
    for i in range(indices.shape[0]):
        ends[indices[i] >> np.uint32(9)] += mask.shape[0] == 0 or mask[i]
    total = 0
    for cell in range(ends.shape[0]):
        n, ends[cell] = ends[cell], total
        total += n
    for i in range(indices.shape[0]):
        if mask.shape[0] == 0 or mask[i]:
            cell = indices[i] >> np.uint32(9)
            entries[ends[cell]] = np.uint32(i) << np.uint32(9) | indices[i] & np.uint32(511)
            ends[cell] += 1


@njit(nogil=True, cache=True)
def _number_colors(ends, entries, colors, totals, inverse):
    """Number the colours that occur, cell by cell.

    Parameters
    ----------
    ends, entries : as `_sort_by_cell` left them
    colors, totals : (n + 1,) uint32 and float64
        Overwritten with the colours, ascending, and how often each occurs.
    inverse : (n,) int32
        Overwritten with the number of each entry's colour.

    Returns
    -------
    int
        How many colours there are.
    """
    counts, numbers = np.zeros(CELL, np.int32), np.empty(CELL, np.int32)
    occurs = np.zeros(CELL >> 3, np.bool_)  # one of eight colours that follow one another
    n = start = 0
    for cell in range(ends.shape[0]):
        stop = ends[cell]
        if start == stop:
            continue
        for j in range(start, stop):
            place = entries[j] & np.uint32(511)
            counts[place] += 1
            occurs[place >> np.uint32(3)] = True
        for group in range(occurs.shape[0]):
            if not occurs[group]:
                continue
            occurs[group] = False
            for place in range(8 * group, 8 * group + 8):  # inside without a branch
                colors[n], totals[n] = cell * CELL + place, counts[place]
                numbers[place] = n
                n += counts[place] != 0
                counts[place] = 0
        for j in range(start, stop):
            inverse[entries[j] >> np.uint32(9)] = numbers[entries[j] & np.uint32(511)]
        start = stop
    return n


def _group_few(codes, mask):
    """As `_group_colors`, for at most ``SMALL`` rows: these are sorted by cell."""
    n = len(codes)
    indices, entries = np.empty(n, np.uint32), np.empty(n, np.uint32)
    ends = np.zeros(N_COLORS // CELL, np.int32)
    _color_indices(codes.reshape(-1), codes.shape[1], indices)
    _sort_by_cell(mask, indices, ends, entries)
    colors, totals = np.empty(n + 1, np.uint32), np.empty(n + 1)
    inverse = indices.view(np.int32)  # whose colours stand in the entries now
    n_colors = _number_colors(ends, entries, colors, totals, inverse)
    if len(mask):
        inverse[~mask] = -1
    return colors[:n_colors], totals[:n_colors], partial(_expand_inverse, inverse)


# --- floats that stand for bytes ---------------------------------------------------------


@njit(nogil=True, cache=True)
def _encode(values, mask, scale, codes, meanings, start, stop):
    """Write floats as bytes, if each stands for one.

    Parameters
    ----------
    values : (n, C) float32
    mask : (n,) or (0,) bool
        Rows that count; empty for all.
    scale : float32
        What a step between bytes is multiplied with.
    codes : (n, C) uint8, overwritten in part
    meanings : (C, 256) float32
        The float that each byte stands for; NaN until one has come.
    start, stop : int
        Range of rows.

    Returns
    -------
    bool
        Whether no float is off the steps and no byte stands for two.
    """
    n_channels = values.shape[1]
    n_rows = max(1, BLOCK // n_channels)
    off = np.empty(n_rows * n_channels, np.float32)
    for begin in range(start, stop, n_rows):
        end = min(begin + n_rows, stop)
        here, code = values[begin:end].reshape(-1), codes[begin:end].reshape(-1)
        for i in range(here.shape[0]):
            step = here[i] * scale
            nearest = np.int32(step + np.float32(0.5))
            code[i] = nearest
            off[i] = abs(step - np.float32(nearest & 255))
        odd = mask.shape[0] > 0
        for c in range(n_channels):
            meaning = meanings[c]
            for i in range(c, here.shape[0], n_channels):
                odd |= (meaning[code[i]] != here[i]) | (off[i] > NEAR)
        if not odd:
            continue
        for i in range(here.shape[0]):  # some came for the first time
            if mask.shape[0] and not mask[begin + i // n_channels]:
                continue
            meaning = meanings[i % n_channels]
            known = meaning[code[i]]
            if not off[i] <= NEAR or (known == known and known != here[i]):
                return False
            meaning[code[i]] = here[i] + np.float32(0)  # never -0
    return True


def _as_codes(values, mask):
    """Bytes (n, C) that stand for floats and what they mean (C, 256), or None."""
    n_channels = values.shape[1]
    codes = np.empty(values.shape, np.uint8)

    def encode(scale, start, stop):
        meanings = np.full((n_channels, 256), np.nan, np.float32)
        fits = _encode(values, mask, np.float32(scale), codes, meanings, start, stop)
        return meanings if fits else None

    for white in USUAL_RANGES:
        scale = 255 / white
        if encode(scale, 0, min(len(values), STRIP)) is None:
            continue
        parts = map_strips(partial(encode, scale), len(values), STRIP)
        if any(part is None for part in parts):
            continue
        low, high = np.fmin.reduce(parts), np.fmax.reduce(parts)
        if ((low == high) | np.isnan(low)).all():
            return codes, low
    return None


# --- any values --------------------------------------------------------------------------


@njit(nogil=True, cache=True)
def _group(bits, mask, slots, origins, counts, inverse):
    """Find the distinct rows of a table, by hashing.

    Parameters
    ----------
    bits : (n, C) uint32
        Rows, equal where their bits are.
    mask : (n,) or (0,) bool
        Rows that count; empty for all.
    slots : (2**k,) int32
        At least 4/3 of `n`, all -1; overwritten.
    origins : (n,) int32, overwritten
        Where each distinct row occurs first, in this order.
    counts : (n,) int32, overwritten
        How often each occurs.
    inverse : (n,) int32, overwritten
        Index of each row among the distinct ones; -1 outside the mask.

    Returns
    -------
    int
        How many there are.
    """
    last_slot = np.uint64(slots.shape[0] - 1)
    n_distinct = 0
    for i in range(bits.shape[0]):
        if mask.shape[0] and not mask[i]:
            inverse[i] = -1
            continue
        code = np.uint64(0)
        for c in range(bits.shape[1]):
            code = (code ^ np.uint64(bits[i, c])) * np.uint64(0x9E3779B97F4A7C15)
            code ^= code >> np.uint64(32)
        slot = code & last_slot
        while True:
            found = slots[slot]
            if found < 0:
                found = slots[slot] = n_distinct
                origins[found] = i
                counts[found] = 1
                n_distinct += 1
                break
            same = True
            for c in range(bits.shape[1]):
                same &= bits[origins[found], c] == bits[i, c]
            if same:
                counts[found] += 1
                break
            slot = (slot + np.uint64(1)) & last_slot
        inverse[i] = found
    return n_distinct


def _hash(rows, mask):
    """Distinct rows of (n, C) float32 or uint32: their origins, counts and the inverse."""
    n = len(rows)
    if rows.dtype == np.float32:
        rows = (rows + np.float32(0)).view(np.uint32)  # without -0
    slots = np.full(1 << (n + n // 3).bit_length(), -1, np.int32)
    origins, counts, inverse = (np.empty(n, np.int32) for _ in range(3))
    n_distinct = _group(rows, mask, slots, origins, counts, inverse)
    return origins[:n_distinct], counts[:n_distinct], inverse


def _hash_strips(rows, mask):
    """As `_hash`, but on threads; None if so many rows differ that it does not pay."""
    if len(rows) <= HASH_STRIP:
        return _hash(rows, mask)
    first = _hash(rows[:HASH_STRIP], mask[:HASH_STRIP])
    if len(first[0]) > MANY * first[1].sum():
        return None

    def hash_strip(start, stop):
        return _hash(rows[start:stop], mask[start:stop]) if start else first

    parts = map_strips(hash_strip, len(rows), HASH_STRIP)
    origins = np.concatenate([part[0] + i * HASH_STRIP for i, part in enumerate(parts)])
    counts = np.concatenate([part[1] for part in parts])
    kept, _, number = _hash(rows[origins], mask[:0])
    ends = np.cumsum([len(part[0]) for part in parts])
    inverse = np.empty(len(rows), np.int32)

    def renumber(start, stop):
        part = parts[start // HASH_STRIP]
        end = ends[start // HASH_STRIP]
        inverse[start:stop] = np.append(number[end - len(part[0]) : end], -1)[part[2]]

    map_strips(renumber, len(rows), HASH_STRIP)
    return origins[kept], np.bincount(number, counts, len(kept)), inverse


def _expand_inverse(inverse, numbers):
    numbers = np.append(numbers, np.int32(-1))
    out = np.empty(len(inverse), np.int32)

    def expand(start, stop):
        out[start:stop] = numbers[inverse[start:stop]]

    map_strips(expand, len(out), STRIP)
    return out


def _expand_rows(mask, numbers):
    if mask is None:
        return numbers.astype(np.int32)
    out = np.full(len(mask), -1, np.int32)
    out[mask] = numbers
    return out


# --- surface -----------------------------------------------------------------------------


def group_rows(rows: NDArray, mask: NDArray[np.bool_] | None = None) -> DistinctRows:
    """Group equal rows of a table, for instance the pixels of an image by colour.

    Parameters
    ----------
    rows : (n, C) uint8 or float32, C-contiguous
        Finite.
    mask : (n,) ndarray of bool, optional
        Rows that count; the others have no influence.

    Returns
    -------
    DistinctRows
        -0 counts as 0. Large tables of floats of which most differ are left alone: each
        row is then a value of its own.

    Notes
    -----
    O(n) time. Up to three channels of bytes are counted in a table of colours, other rows by
    hashing. The floats of an 8-bit image (0..1, 0..255 or 0..65535) are counted as
    bytes, so that the values come in the same order.
    """
    mask = np.empty(0, bool) if mask is None else mask
    n_channels = rows.shape[1]
    meanings = np.tile(np.arange(256, dtype=np.float32), (n_channels, 1))
    codes = rows if rows.dtype == np.uint8 else None
    if codes is None:
        coded = _as_codes(rows, mask)
        codes, meanings = (None, None) if coded is None else coded
    if codes is not None and n_channels <= 3:
        group = _group_colors if len(rows) > SMALL else _group_few
        colors, counts, expand = group(codes, mask)
        values = np.empty((len(colors), n_channels), np.float32)
        _color_values(colors, meanings, values)
        return DistinctRows(values, counts, expand)
    keys = rows
    if codes is not None:
        keys = np.empty((len(rows), -(-n_channels // 4)), np.uint32)
        _pack(codes, keys)
    found = _hash_strips(keys, mask)
    if found is None:
        return all_rows(rows, mask if len(mask) else None)
    origins, counts, inverse = found
    values = rows[origins].astype(np.float32) + np.float32(0)
    return DistinctRows(values, counts.astype(np.float64), partial(_expand_inverse, inverse))


def all_rows(rows: NDArray, mask: NDArray[np.bool_] | None = None) -> DistinctRows:
    """Treat the rows of a table as if no two were equal.

    Parameters
    ----------
    rows : (n, C) uint8 or float32
    mask : (n,) ndarray of bool, optional
        Rows that count.

    Returns
    -------
    DistinctRows
    """
    values = (rows if mask is None else rows[mask]).astype(np.float32, copy=False)
    return DistinctRows(values, np.ones(len(values)), partial(_expand_rows, mask))


@njit(nogil=True, cache=True)
def _pack(codes, keys):
    """Write rows of bytes (n, C) as rows of uint32, four bytes each."""
    keys[:] = 0
    for i in range(codes.shape[0]):
        for c in range(codes.shape[1]):
            keys[i, c >> 2] |= np.uint32(codes[i, c]) << np.uint32(8 * (c & 3))


def distinct_rows(
    values: NDArray, weights: NDArray | None = None
) -> tuple[NDArray[np.float32], NDArray[np.float64], NDArray[np.int32]]:
    """Find the distinct rows of a table with their total weights.

    Parameters
    ----------
    values : (n, C) uint8 or float32, C-contiguous
        Finite.
    weights : (n,) ndarray, optional
        At least 0, ones if None; rows without weight are left out.

    Returns
    -------
    values : (m, C) float32
    totals : (m,) float64
        Sum of the weights of each.
    inverse : (n,) int32
        Index of each row among the distinct ones; -1 for rows left out.

    See Also
    --------
    group_rows : The same without the inverse, which takes most of the time.

    Examples
    --------
    >>> import numpy as np
    >>> from segalgos.distinct import distinct_rows
    >>> distinct_rows(np.array([[3], [5], [3]], np.float32))[1:]
    (array([2., 1.]), array([0, 1, 0], dtype=int32))
    """
    groups = group_rows(values, None if weights is None else weights > 0)
    totals = groups.counts if weights is None else groups.totals(weights)
    return groups.values, totals, groups.inverse()
