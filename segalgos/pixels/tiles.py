"""Cutting an image into tiles."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import product

__all__ = ["Tile", "cut_into_tiles", "moved"]

Tile = tuple[slice, ...]


def cut_into_tiles(shape: Sequence[int], sides: Sequence[int]) -> Iterator[Tile]:
    """Cut an image into tiles.

    Parameters
    ----------
    shape, sides : sequence of int
        Of the image and of a tile, in pixels along each axis.

    Yields
    ------
    tuple of slice
        A tile's place in the image; those at the ends of an axis may be smaller.
    """
    starts = [range(0, length, side) for length, side in zip(shape, sides, strict=True)]
    for corner in product(*starts):
        yield tuple(
            slice(start, min(start + side, length))
            for start, side, length in zip(corner, sides, shape, strict=True)
        )


def moved(tile: Tile, by: Sequence[int]) -> Tile:
    """Move a tile.

    Parameters
    ----------
    tile : tuple of slice
    by : sequence of int
        Pixels along each axis.

    Returns
    -------
    tuple of slice
    """
    return tuple(slice(t.start + b, t.stop + b) for t, b in zip(tile, by, strict=True))
