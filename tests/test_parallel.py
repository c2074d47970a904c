"""Strips and threads: fixed strips, ordered results, limits that nest."""

import os
import threading

import numpy as np
import pytest

from segalgos.parallel import map_items, map_strips, n_threads, one_blas_thread, thread_limit


@pytest.mark.parametrize(
    ("n_items", "strip", "expected"),
    [
        (0, 4, []),
        (1, 4, [(0, 1)]),
        (4, 4, [(0, 4)]),
        (9, 4, [(0, 4), (4, 8), (8, 9)]),
    ],
)
@pytest.mark.parametrize("limit", [1, 3])
def test_strips_do_not_depend_on_threads(n_items, strip, expected, limit):
    with thread_limit(limit):
        assert map_strips(lambda start, stop: (start, stop), n_items, strip) == expected


def test_default_strip():
    strips = map_strips(lambda start, stop: stop - start, 200_000)
    assert strips == [65536, 65536, 65536, 200_000 - 3 * 65536]


def test_strips_cover_an_array():
    values = np.random.default_rng(0).random(1000).astype(np.float32)
    out = np.zeros_like(values)

    def square(start, stop):
        out[start:stop] = values[start:stop] ** 2
        return out[start:stop].sum(dtype=np.float32)

    sums = []
    for limit in (1, 2, 5):
        with thread_limit(limit):
            sums.append(np.float32(sum(map_strips(square, 1000, 64))))
        np.testing.assert_array_equal(out, values**2)
    assert sums[0] == sums[1] == sums[2]  # to the last bit


def test_results_keep_their_order():
    # The first item waits for the last, so they end in another order than they begin.
    last_is_done = threading.Event()

    def work(item):
        if item == 0:
            assert last_is_done.wait(timeout=30)
        if item == 2:
            last_is_done.set()
        return item * 10

    with thread_limit(3):
        assert map_items(work, iter([0, 1, 2])) == [0, 10, 20]


def test_one_thread_stays_on_its_own():
    with thread_limit(1):
        names = map_items(lambda _: threading.get_ident(), range(5))
    assert set(names) == {threading.get_ident()}
    assert map_items(lambda _: threading.get_ident(), [0]) == [threading.get_ident()]


def test_no_more_threads_than_the_limit():
    with thread_limit(2):
        assert len(set(map_items(lambda _: threading.get_ident(), range(50)))) <= 2


def test_workers_do_not_share_cores_again():
    with thread_limit(4):
        assert map_items(lambda _: n_threads(), range(4)) == [1] * 4
        inner = map_items(
            lambda _: set(map_items(lambda _: threading.get_ident(), range(4))), range(3)
        )
    assert all(len(threads) == 1 for threads in inner)


def test_first_error_is_raised():
    def work(item):
        if item in (3, 5):
            raise KeyError(item)
        return item

    for limit in (1, 4):
        with thread_limit(limit), pytest.raises(KeyError, match=r"3"):
            map_items(work, range(8))


def test_limits_nest_and_end():
    outside = n_threads()
    with thread_limit(7):
        assert n_threads() == 7
        with pytest.raises(ZeroDivisionError), thread_limit(2):
            n_threads() / (n_threads() - 2)
        assert n_threads() == 7
    assert n_threads() == outside


def test_limit_belongs_to_its_thread():
    outside = n_threads()
    seen = []
    with thread_limit(outside + 1):
        thread = threading.Thread(target=lambda: seen.append(n_threads()))
        thread.start()
        thread.join()
    assert seen == [outside]


@pytest.mark.parametrize("limit", [0, -1])
def test_bad_limit(limit):
    words = f"thread_limit: limit is {limit}, expected at least 1"
    with pytest.raises(ValueError, match=words), thread_limit(limit):
        pass


def test_limit_is_an_integer():
    for limit in (1.5, "2", None, True):
        with pytest.raises(TypeError), thread_limit(limit):
            pass


def test_environment(monkeypatch):
    monkeypatch.setenv("SEGALGOS_THREADS", "3")
    assert n_threads() == 3
    with thread_limit(2):
        assert n_threads() == 2
    for bad in ("0", "-1", "two", "1.5", " 2"):
        monkeypatch.setenv("SEGALGOS_THREADS", bad)
        with pytest.raises(ValueError, match=r"SEGALGOS_THREADS is .* expected a positive integer"):
            n_threads()
    monkeypatch.setenv("SEGALGOS_THREADS", "")
    assert n_threads() >= 1


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="no affinity on this system")
def test_cores_this_process_may_use(monkeypatch):
    monkeypatch.delenv("SEGALGOS_THREADS", raising=False)
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0, 2, 5})
    assert n_threads() == 3


def test_blas_limits_that_overlap_are_lifted_by_the_last():
    from threadpoolctl import threadpool_info, threadpool_limits

    def blas():
        return {pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"}

    with threadpool_limits(2, user_api="blas"):
        before = blas()
        first, second = one_blas_thread(), one_blas_thread()
        first.__enter__()
        second.__enter__()
        assert blas() == {1}
        first.__exit__(None, None, None)
        assert blas() == {1}
        second.__exit__(None, None, None)
        assert blas() == before
