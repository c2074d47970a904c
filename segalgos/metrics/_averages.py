"""Quotients and means in which the undefined is NaN and stays out of averages."""

import numpy as np


def ratio(numerator, denominator):
    """Divide, giving NaN where the denominator is 0."""
    numerator, denominator = np.broadcast_arrays(numerator, denominator)
    undefined = np.full(numerator.shape, np.nan)
    return np.divide(numerator, denominator, out=undefined, where=denominator != 0)


def mean_of_defined(values, axis=-1):
    """Average the values that are not NaN; NaN where there are none."""
    values = np.asarray(values, dtype=np.float64)
    defined = ~np.isnan(values)
    return ratio(np.where(defined, values, 0.0).sum(axis=axis), defined.sum(axis=axis))
