"""The checks that every segmenter passes, for the library's own and for yours.

In a test module::

    from segalgos.conformance import parametrize_with_checks


    @parametrize_with_checks([MySegmenter()])
    def test_my_segmenter(segmenter, check):
        check(segmenter)

Or at once, ``check_segmenter(MySegmenter())``. Each check is a function of one
segmenter, which it leaves as it is; it raises AssertionError with the promise that broke
and what was seen. Where a promise is made only by some methods, `Segmenter.traits`
decides, never a name.

Notes
-----
The checks try images, so they are for segmenters that have 2 in ``traits.ndims``.
Interactive ones are prompted by clicks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from segalgos.base import Segmenter
from segalgos.conformance import (
    ecosystem,
    images,
    labels,
    parameters,
    persistence,
    randomness,
    results,
    state,
)
from segalgos.conformance._promise import Check
from segalgos.conformance._sklearn import SKLEARN_CHECKS_NOT_APPLICABLE

__all__ = [
    "ALL_CHECKS",
    "SKLEARN_CHECKS_NOT_APPLICABLE",
    "check_segmenter",
    "checks_for",
    "parametrize_with_checks",
]

ALL_CHECKS: tuple[Check, ...] = (
    *parameters.CHECKS,
    *images.CHECKS,
    *labels.CHECKS,
    *results.CHECKS,
    *state.CHECKS,
    *randomness.CHECKS,
    *persistence.CHECKS,
    *ecosystem.CHECKS,
)


def checks_for(segmenter: Segmenter) -> list[Check]:
    """List the checks that apply to a segmenter by its traits.

    Parameters
    ----------
    segmenter : Segmenter
        An instance.

    Returns
    -------
    list of callable
        In the order of `ALL_CHECKS`.

    Raises
    ------
    TypeError
        If it is a class.
    """
    if isinstance(segmenter, type):
        raise TypeError(
            f"checks_for: got the class {segmenter.__name__}, expected an instance: "
            f"pass {segmenter.__name__}() or {segmenter.__name__}.small()."
        )
    return [check for check in ALL_CHECKS if check.applies(segmenter)]


def check_segmenter(segmenter: Segmenter) -> None:
    """Run every check that applies to a segmenter.

    Parameters
    ----------
    segmenter : Segmenter
        An instance; it is cloned and left as it is. Tiny parameters make it quick.

    Raises
    ------
    AssertionError
        At the first broken promise; names it and what was seen.
    """
    for check in checks_for(segmenter):
        check(segmenter)


def parametrize_with_checks(
    segmenters: Iterable[Segmenter],
    *,
    expected_failed_checks: Callable[[Segmenter], Mapping[str, str]] | None = None,
) -> Any:
    """Decorate a pytest test so that it runs once for each segmenter and check.

    Parameters
    ----------
    segmenters : iterable of Segmenter
        Instances.
    expected_failed_checks : callable, optional
        Takes a segmenter and gives ``{check name: reason}``. These checks must fail: one
        that passes fails the test, so that no exemption outlives its reason.

    Returns
    -------
    pytest.MarkDecorator
        For a test of the arguments ``segmenter`` and ``check``. The ids read like
        ``KMeansSegmenter-check_constant_image``.

    Raises
    ------
    ValueError
        If an exemption names no check that applies, or gives no reason.
    """
    import pytest

    cases = []
    for segmenter in segmenters:
        name = type(segmenter).__name__
        checks = checks_for(segmenter)
        exempt = dict(expected_failed_checks(segmenter)) if expected_failed_checks else {}
        unknown = sorted(exempt.keys() - {check.__name__ for check in checks})
        if unknown:
            raise ValueError(
                f"parametrize_with_checks: {name} is exempt from {', '.join(unknown)}, which does "
                "not apply to it: remove the exemption."
            )
        for check in checks:
            marks = ()
            if check.__name__ in exempt:
                reason = exempt[check.__name__]
                if not reason or not isinstance(reason, str):
                    raise ValueError(
                        f"parametrize_with_checks: {name} is exempt from {check.__name__} without "
                        "a reason: say why."
                    )
                marks = pytest.mark.xfail(reason=reason, strict=True, raises=AssertionError)
            cases.append(pytest.param(segmenter, check, marks=marks, id=f"{name}-{check.__name__}"))
    return pytest.mark.parametrize(("segmenter", "check"), cases)
