"""What a check is: a function of a segmenter that raises AssertionError when a promise broke."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from segalgos.base import Segmenter, Traits

Check = Callable[[Segmenter], None]

_SECTIONS = """Parameters
----------
segmenter : Segmenter
    An instance; it is left as it is.

Raises
------
AssertionError
    If the promise is broken; says how.
"""


def promise(*, when: Callable[[Traits], bool] | None = None) -> Callable[[Check], Check]:
    """Make a check: its first docstring line is the promise it proves.

    Parameters
    ----------
    when : callable, optional
        Tells from the traits whether the promise is made; always when left out.

    Returns
    -------
    callable
        Decorator. The check returns at once where it does not apply, and any failure is
        an AssertionError that names the class, the promise and what was seen.
    """

    def decorate(function: Check) -> Check:
        title = (function.__doc__ or "").strip().splitlines()[0]

        def applies(segmenter: Segmenter) -> bool:
            traits = getattr(segmenter, "traits", None)
            # Without traits every check runs, so that their absence is seen.
            return when is None or not isinstance(traits, Traits) or when(traits)

        @functools.wraps(function)
        def check(segmenter: Segmenter) -> None:
            if not applies(segmenter):
                return
            broken = f"{type(segmenter).__name__} breaks the promise {title!r} "
            broken += f"({function.__name__})"
            try:
                function(segmenter)
            except AssertionError as error:
                raise AssertionError(f"{broken}: {error}") from error
            except Exception as error:
                raise AssertionError(f"{broken}: {type(error).__name__}: {error}") from error

        check.__doc__ = f"{title}\n\n{_SECTIONS}"
        check.applies = applies
        return check

    return decorate


@contextmanager
def refused(
    what: str,
    kinds: type[Exception] | tuple[type[Exception], ...] = ValueError,
    *,
    naming: tuple[str, ...] = (),
) -> Iterator[None]:
    """Expect an error of these kinds, whose message holds the words in `naming`."""
    expected = " or ".join(k.__name__ for k in (kinds if isinstance(kinds, tuple) else (kinds,)))
    try:
        yield
    except kinds as error:
        message = str(error)
    except Exception as error:
        raise AssertionError(
            f"{what}: expected {expected}, got {type(error).__name__}: {error}"
        ) from error
    else:
        raise AssertionError(f"{what}: expected {expected}, but it was accepted")
    missing = [word for word in naming if word not in message]
    assert not missing, f"{what}: the message does not name {missing}; it says {message}"
