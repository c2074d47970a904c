"""Cutting an image into tiles that see as much of their surroundings as they need."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import product

__all__ = ["Tile", "cut_into_tiles"]

Tile = tuple[tuple[slice, ...], tuple[slice, ...], tuple[slice, ...]]


def cut_into_tiles(
    shape: Sequence[int], sides: Sequence[int], halo: Sequence[int]
) -> Iterator[Tile]:
    """Cut an image into tiles.

    Parameters
    ----------
    shape, sides, halo : sequence of int
        Of the image, of a tile, and how much a tile sees beyond each of its sides, in
        pixels along each axis.

    Yields
    ------
    target : tuple of slice
        The tile's place in the image.
    source : tuple of slice
        The same with its halo, as far as the image goes.
    inner : tuple of slice
        The tile's place within its source.
    """
    starts = [range(0, length, side) for length, side in zip(shape, sides, strict=True)]
    for corner in product(*starts):
        target, source, inner = [], [], []
        for start, length, side, margin in zip(corner, shape, sides, halo, strict=True):
            stop = min(start + side, length)
            first, last = max(0, start - margin), min(length, stop + margin)
            target.append(slice(start, stop))
            source.append(slice(first, last))
            inner.append(slice(start - first, stop - first))
        yield tuple(target), tuple(source), tuple(inner)
