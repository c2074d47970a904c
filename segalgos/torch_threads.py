"""How many threads torch takes for an operation."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

__all__ = ["threads_per_operation"]


@contextmanager
def threads_per_operation(n: int = 1) -> Iterator[None]:
    """Make torch compute each operation with so many threads, inside a ``with`` block.

    Parameters
    ----------
    n : int, default=1
        1 for operations that run side by side, by `map_items`.

    Yields
    ------
    None

    Notes
    -----
    torch keeps the number by thread: a function that `map_items` calls must say it itself.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(n)
    try:
        yield
    finally:
        torch.set_num_threads(before)
