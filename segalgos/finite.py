"""Numbers as arrays of one dtype and shape, all of them finite."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = ["as_finite"]


def as_finite(values: ArrayLike, dtype: type, shape: tuple, what: str) -> NDArray:
    """Read numbers into an array of a given dtype and shape, refusing whatever does not fit.

    Parameters
    ----------
    values : array_like
    dtype : type
        Of the result.
    shape : tuple of int or None
        What it must have; None for any length.
    what : str
        For the messages: the caller and the argument.

    Returns
    -------
    ndarray of `dtype`

    Raises
    ------
    ValueError
        If the shape is another, or a number is not finite, a fraction where integers are
        wanted, or beyond `dtype`.
    TypeError
        If it holds anything but numbers.
    """
    try:
        array = np.asarray(values)
    except (ValueError, TypeError) as error:
        raise ValueError(f"{what} cannot be read as one array: {error}") from error
    if array.size == 0 and not all(shape):
        array = array.reshape([n or 0 for n in shape])  # [] for no entries
    fits = array.ndim == len(shape) and all(
        want is None or have == want for have, want in zip(array.shape, shape, strict=True)
    )
    if not fits:
        expected = ", ".join("N" if n is None else str(n) for n in shape)
        raise ValueError(f"{what} has shape {array.shape}, expected ({expected}).")
    if array.dtype.kind not in "buif":
        raise TypeError(f"{what} is {array.dtype}, expected numbers.")
    if not np.isfinite(array).all():
        raise ValueError(f"{what} holds NaN or inf: remove these entries.")
    is_integer = np.dtype(dtype).kind == "i"
    if is_integer and (array != np.trunc(array)).any():
        raise ValueError(f"{what} holds fractions, expected integers: round them first.")
    limits = np.iinfo(dtype) if is_integer else np.finfo(dtype)
    # One above the largest integer is a power of two, which floats hold exactly.
    too_large = array >= int(limits.max) + 1 if is_integer else array > limits.max
    if too_large.any() or (array < limits.min).any():
        raise ValueError(f"{what} holds values beyond {np.dtype(dtype)}: make them smaller.")
    return array.astype(dtype)
