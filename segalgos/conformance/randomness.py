"""Checks of seeds and threads: the same seed gives the same labels, however it is run."""

from __future__ import annotations

import contextlib
import random
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from threadpoolctl import threadpool_limits

from segalgos.base import Segmenter
from segalgos.conformance._compare import assert_same, assert_valid, fingerprint
from segalgos.conformance._examples import example, fitted, fresh, predict
from segalgos.conformance._promise import promise
from segalgos.parallel import thread_limit


def _is_seeded(segmenter) -> bool:
    return "random_state" in segmenter.get_params(deep=False)


@promise()
def check_same_seed(segmenter: Segmenter) -> None:
    """Two fits with the same seed give the same results, bit by bit."""
    images = example(segmenter).images
    first, second = fitted(segmenter), fitted(segmenter)
    assert_same(predict(first, images), predict(second, images), "two fits with one seed")
    assert_same(predict(first, images), predict(first, images), "two predictions of one fit")


@promise()
def check_random_state_kinds(segmenter: Segmenter) -> None:
    """random_state takes an integer, a RandomState and None."""
    if not _is_seeded(segmenter):
        return
    image = example(segmenter).images[0]
    one = fitted(segmenter, random_state=np.random.RandomState(3))
    other = fitted(segmenter, random_state=np.random.RandomState(3))
    assert_same(predict(one, image), predict(other, image), "two equal RandomStates")
    model = fitted(segmenter, random_state=None)
    assert_valid(model, predict(model, image), image.shape[:2], "random_state=None")


@promise(when=lambda traits: traits.deterministic)
def check_deterministic(segmenter: Segmenter) -> None:
    """A method that calls itself deterministic gives the same result for every seed."""
    images = example(segmenter).images
    seeds = [{"random_state": seed} for seed in (0, 1, 2)] if _is_seeded(segmenter) else [{}, {}]
    expected = predict(fitted(segmenter), images)
    for params in seeds:
        assert_same(predict(fitted(segmenter, **params), images), expected, f"{params or 'again'}")


def _global_random_state() -> dict[str, str]:
    state = {
        "numpy.random": fingerprint(np.random.get_state()),  # noqa: NPY002
        "random": fingerprint(random.getstate()),
    }
    if "torch" in sys.modules:
        state["torch"] = fingerprint(sys.modules["torch"].random.get_rng_state())
    return state


@promise()
def check_global_random_state(segmenter: Segmenter) -> None:
    """With an integer seed the global generators are neither used nor seeded."""
    images = example(segmenter).images
    before = _global_random_state()
    expected = predict(fitted(segmenter), images)
    after = _global_random_state()
    touched = [name for name in before if before[name] != after[name]]
    assert not touched, f"it touched {', '.join(touched)}"
    np.random.random(17)  # noqa: NPY002
    random.random()
    assert_same(predict(fitted(segmenter), images), expected, "the global generators moved on")


@contextlib.contextmanager
def _threads(n: int) -> Iterator[None]:
    """Limit every pool of threads that is loaded."""
    with contextlib.ExitStack() as stack:
        stack.enter_context(thread_limit(n))
        stack.enter_context(threadpool_limits(n))
        torch = sys.modules.get("torch")
        if torch is not None:
            stack.callback(torch.set_num_threads, torch.get_num_threads())
            torch.set_num_threads(n)
        numba = sys.modules.get("numba")
        if numba is not None:
            stack.callback(numba.set_num_threads, numba.get_num_threads())
            numba.set_num_threads(min(n, numba.config.NUMBA_NUM_THREADS))
        yield


@promise()
def check_thread_counts(segmenter: Segmenter) -> None:
    """1, 2 and 4 threads give the same result, in fit and predict."""
    # Larger than the other examples, so that there is something to share out.
    data = example(segmenter, shapes=((61, 83), (48, 40)))
    results = {}
    for n in (1, 2, 4):
        with _threads(n):
            model = fresh(segmenter).fit(data.images, data.targets)
            results[n] = predict(model, data.images)
    for n in (2, 4):
        assert_same(results[1], results[n], f"1 and {n} threads")


@promise()
def check_concurrent_predict(segmenter: Segmenter) -> None:
    """Four Python threads that share one segmenter get the results that one thread gets."""
    images = example(segmenter).images
    model = fitted(segmenter)
    expected = predict(model, images)
    with ThreadPoolExecutor(4) as pool:
        futures = [pool.submit(predict, model, images) for _ in range(8)]
    for future in futures:
        assert_same(future.result(), expected, "four threads and one")


CHECKS = (
    check_same_seed,
    check_random_state_kinds,
    check_deterministic,
    check_global_random_state,
    check_thread_counts,
    check_concurrent_predict,
)
