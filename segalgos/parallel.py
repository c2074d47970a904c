"""Strips and threads: the only place that knows how many cores there are.

Work is cut into strips whose size depends on the problem alone, and reductions
are summed in strip order, so a result never depends on the number of threads.
Kernels release the GIL (``nogil=True``), so plain threads are enough.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import contextmanager
from contextvars import ContextVar
from numbers import Integral
from threading import Lock
from typing import Any

__all__ = ["map_items", "map_strips", "n_threads", "one_blas_thread", "thread_limit"]

_limit: ContextVar[int | None] = ContextVar("segalgos_thread_limit", default=None)


def n_threads() -> int:
    """Number of threads in use.

    Returns
    -------
    int
        The innermost `thread_limit`, else the environment variable
        ``SEGALGOS_THREADS``, else the cores this process may run on.

    Raises
    ------
    ValueError
        If ``SEGALGOS_THREADS`` is set to anything but a positive integer.
    """
    limit = _limit.get()
    if limit is not None:
        return limit
    setting = os.environ.get("SEGALGOS_THREADS")
    if setting:
        if not setting.isdecimal() or int(setting) < 1:
            raise ValueError(
                f"n_threads: SEGALGOS_THREADS is {setting!r}, expected a positive integer: "
                "set it to the number of threads, or unset it to use every core."
            )
        return int(setting)
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


@contextmanager
def thread_limit(limit: int) -> Iterator[None]:
    """Use at most `limit` threads inside a ``with`` block.

    Parameters
    ----------
    limit : int
        At least 1. Results are the same for every value.

    Raises
    ------
    TypeError
        If `limit` is no integer.
    ValueError
        If `limit` is below 1.
    """
    if isinstance(limit, bool) or not isinstance(limit, Integral):
        raise TypeError(f"thread_limit: limit is {limit!r}, expected an integer: pass 1 or more.")
    if limit < 1:
        raise ValueError(f"thread_limit: limit is {limit}, expected at least 1: pass 1 or more.")
    token = _limit.set(int(limit))
    try:
        yield
    finally:
        _limit.reset(token)


def map_items(function: Callable[..., Any], items: Iterable[Any]) -> list[Any]:
    """Apply a function to every item, on threads, and keep the order.

    Parameters
    ----------
    function : callable
        Called as ``function(item)``. It should release the GIL for most of its time.
    items : iterable

    Returns
    -------
    list
        Results in the order of `items`. The first error is raised again.
    """
    items = list(items)
    workers = min(n_threads(), len(items))
    if workers <= 1:
        return [function(item) for item in items]
    futures = [_pool(workers).submit(function, item) for item in items]
    try:
        return [future.result() for future in futures]
    finally:  # after an error too, nothing of this call runs on
        for future in futures:
            future.cancel()
        wait(futures)


_pools: dict[int, ThreadPoolExecutor] = {}
_pools_lock = Lock()


def _pool(workers: int) -> ThreadPoolExecutor:
    """A kept pool: an algorithm maps dozens of times, starting threads would cost more."""
    with _pools_lock:
        if workers not in _pools:
            # A worker that maps again does so on its own thread: cores are shared out once.
            _pools[workers] = ThreadPoolExecutor(
                workers, "segalgos", initializer=_limit.set, initargs=(1,)
            )
        return _pools[workers]


if hasattr(os, "register_at_fork"):  # threads do not survive a fork
    os.register_at_fork(after_in_child=_pools.clear)


def map_strips(function: Callable[[int, int], Any], n_items: int, strip: int = 65536) -> list[Any]:
    """Cut ``range(n_items)`` into strips of a fixed size and run them on threads.

    Parameters
    ----------
    function : callable
        Called as ``function(start, stop)``; writes its part of preallocated arrays
        and may return a partial sum.
    n_items : int
        Length of the range; 0 gives an empty list.
    strip : int, default=65536
        Items per strip. It must not depend on the number of threads, or results would.

    Returns
    -------
    list
        One result a strip, in strip order: summing it in order is reproducible.
    """
    starts = range(0, n_items, strip)
    return map_items(lambda start: function(start, min(start + strip, n_items)), starts)


_blas_lock = Lock()
_blas_users = 0
_blas_limit: Any = None


@contextmanager
def one_blas_thread() -> Iterator[None]:
    """Keep BLAS to one thread inside a ``with`` block.

    Strips run on threads of their own, and a product that is shared out may be summed in
    another order.

    Notes
    -----
    The limit holds for the whole process, so blocks that overlap on several threads share
    it: the last to end lifts it.
    """
    global _blas_users, _blas_limit
    from threadpoolctl import threadpool_limits

    with _blas_lock:
        if _blas_users == 0:
            _blas_limit = threadpool_limits(1, user_api="blas")
        _blas_users += 1
    try:
        yield
    finally:
        with _blas_lock:
            _blas_users -= 1
            if _blas_users == 0:
                _blas_limit.restore_original_limits()
