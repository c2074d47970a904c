"""Checks of what fit and predict do to the segmenter and to the process around it."""

from __future__ import annotations

import contextlib
import io
import os
import sys
import tempfile
import warnings
from collections.abc import Iterator

import numpy as np
from sklearn.base import clone
from sklearn.exceptions import NotFittedError

from segalgos.base import Segmenter
from segalgos.conformance._compare import assert_same, assert_same_state, assert_valid, state_of
from segalgos.conformance._examples import example, fitted, fresh, predict, predict_proba
from segalgos.conformance._promise import promise, refused


@promise()
def check_fit_returns_self(segmenter: Segmenter) -> None:
    """fit returns the segmenter itself."""
    data = example(segmenter)
    model = fresh(segmenter)
    given = model.fit(data.images, data.targets)
    assert given is model, f"it returned {given!r}"


@promise()
def check_learned_names(segmenter: Segmenter) -> None:
    """fit adds only attributes whose name ends in an underscore and does not begin with one."""
    model = fresh(segmenter)
    before = set(vars(model))
    data = example(segmenter)
    model.fit(data.images, data.targets)
    odd = [n for n in set(vars(model)) - before if not n.endswith("_") or n.startswith("_")]
    assert not odd, f"it added {', '.join(sorted(odd))}"


@promise()
def check_n_channels(segmenter: Segmenter) -> None:
    """fit sets n_channels_, and only then the segmenter counts as fitted."""
    model = fresh(segmenter)
    assert not model.__sklearn_is_fitted__(), "it counts as fitted before fit"
    data = example(segmenter)
    model.fit(data.images, data.targets)
    assert model.__sklearn_is_fitted__(), "it does not count as fitted after fit"
    assert model.n_channels_ == 3, f"n_channels_ is {model.n_channels_}, images have 3"


@promise()
def check_predict_before_fit(segmenter: Segmenter) -> None:
    """predict before fit raises NotFittedError, or works where nothing is to be learned."""
    model = fresh(segmenter)
    image = example(segmenter).images[0]
    if not model.traits.needs_fit:
        assert_valid(model, predict(model, image), image.shape[:2], "before fit")
        return
    with refused("predict before fit", NotFittedError):
        predict(model, image)
    if hasattr(model, "predict_proba"):
        with refused("predict_proba before fit", NotFittedError):
            model.predict_proba(image)


@promise(when=lambda traits: traits.needs_fit)
def check_clone_is_unfitted(segmenter: Segmenter) -> None:
    """A clone of a fitted segmenter must be fitted again before it predicts."""
    with refused("predict of the clone", NotFittedError):
        predict(clone(fitted(segmenter)), example(segmenter).images[0])


@promise()
def check_predict_leaves_state(segmenter: Segmenter) -> None:
    """predict and predict_proba create, remove and change no attribute."""
    model = fitted(segmenter)
    images = example(segmenter).images
    before = state_of(model)
    predict(model, images)
    if hasattr(model, "predict_proba"):
        predict_proba(model, images)
    assert_same_state(before, model, "predict")
    if not model.traits.needs_fit:
        unfitted = fresh(segmenter)
        before = state_of(unfitted)
        predict(unfitted, images)
        assert_same_state(before, unfitted, "predict before fit")


@promise()
def check_failed_fit(segmenter: Segmenter) -> None:
    """After a failed fit the segmenter is as it was, fitted or not."""
    data = example(segmenter)
    bad = [data.images[0], np.full(data.images[1].shape, np.nan, np.float32)]
    for model in (fresh(segmenter), fitted(segmenter)):
        before = state_of(model)
        with refused("fit on NaN"):
            model.fit(bad, data.targets)
        assert_same_state(before, model, "the failed fit")


class _StopsLearning(Exception):
    """Raised at the end of learning, as Ctrl-C or a full memory would be."""


@promise()
def check_interrupted_fit(segmenter: Segmenter) -> None:
    """After a fit that failed while learning the segmenter is as it was, fitted or not."""
    data = example(segmenter)
    cls = type(segmenter)

    def _fit(self, *args):
        cls._fit(self, *args)
        raise _StopsLearning

    for model in (fresh(segmenter), fitted(segmenter)):
        before = state_of(model)
        # A subclass made here, so that the segmenter's own attributes stay as they are.
        model.__class__ = type(cls.__name__, (cls,), {"_fit": _fit})
        try:
            model.fit(data.images, data.targets)
        except _StopsLearning:
            pass
        else:
            raise AssertionError("fit swallowed the error, or never called _fit")
        assert_same_state(before, model, "the interrupted fit")


@promise()
def check_refit_forgets(segmenter: Segmenter) -> None:
    """A second fit forgets the first: it equals a fit of a new segmenter."""
    first, second = example(segmenter, channels=4), example(segmenter)
    again = fresh(segmenter).fit(first.images, first.targets).fit(second.images, second.targets)
    once = fresh(segmenter).fit(second.images, second.targets)
    names, expected = sorted(vars(again)), sorted(vars(once))
    assert names == expected, f"attributes {names}, after one fit {expected}"
    results = predict(again, second.images)
    assert_same(results, predict(once, second.images), "fitted twice and once")


# --- the process around it ---------------------------------------------------------------


@contextlib.contextmanager
def _captured() -> Iterator[list[str]]:
    """Collect what is written to the standard streams, by Python or by native code."""
    text: list[str] = []
    streams = io.StringIO(), io.StringIO()
    sys.stdout.flush()
    sys.stderr.flush()
    with contextlib.ExitStack() as stack:
        files = []
        for descriptor in (1, 2):
            file = stack.enter_context(tempfile.TemporaryFile())
            saved = os.dup(descriptor)
            stack.callback(os.close, saved)
            stack.callback(os.dup2, saved, descriptor)
            os.dup2(file.fileno(), descriptor)
            files.append(file)
        with contextlib.redirect_stdout(streams[0]), contextlib.redirect_stderr(streams[1]):
            yield text
        for file in files:
            file.seek(0)
            text.append(file.read().decode(errors="replace"))
    text.extend(stream.getvalue() for stream in streams)


@promise()
def check_silent(segmenter: Segmenter) -> None:
    """fit and predict print nothing, neither to stdout nor to stderr."""
    images = example(segmenter).images
    with _captured() as text:
        predict(fitted(segmenter), images)
    printed = "".join(text)
    assert not printed, f"they printed {printed[:200]!r}"


@promise()
def check_no_warnings(segmenter: Segmenter) -> None:
    """fit and predict on ordinary images give no warning."""
    images = example(segmenter).images
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        predict(fitted(segmenter), images)
    found = [f"{w.category.__name__}: {w.message}" for w in caught]
    assert not found, f"they gave {'; '.join(found)}"


@promise()
def check_error_messages(segmenter: Segmenter) -> None:
    """An error names the class, says what came, and ends with a remedy."""
    data = example(segmenter)
    model = fitted(segmenter)
    nan = np.full((4, 5, 3), np.nan)
    cases = {
        "fit on NaN": lambda: fresh(segmenter).fit([nan], data.targets[:1]),
        "fit on text": lambda: fresh(segmenter).fit("photo.png"),
        "fit on nothing": lambda: fresh(segmenter).fit([], []),
        "fit on (5, 20, 20)": lambda: fresh(segmenter).fit(np.ones((5, 20, 20)), data.targets[0]),
        "predict on NaN": lambda: predict(model, nan),
        "predict on complex numbers": lambda: predict(model, np.ones((4, 5), complex)),
        "a mask of the wrong shape": lambda: predict(model, data.images[0], mask=np.ones(3, bool)),
        "a bad channel_axis": lambda: fresh(segmenter, channel_axis="up").fit(
            data.images, data.targets
        ),
    }
    if segmenter.traits.needs_labels:
        cases["fit without labels"] = lambda: fresh(segmenter).fit(data.images)
        cases["too few labels"] = lambda: fresh(segmenter).fit(data.images, data.targets[:1])
    name = type(segmenter).__name__
    for what, call in cases.items():
        try:
            call()
        except (ValueError, TypeError) as error:
            message = str(error)
        else:
            raise AssertionError(f"{what} was accepted")
        assert message.startswith(name), (
            f"{what}: the message does not begin with {name}: {message}"
        )
        assert ", expected" in message or ": " in message.removeprefix(f"{name}: "), (
            f"{what}: the message gives no remedy after a colon: {message}"
        )
        assert message.endswith("."), f"{what}: the message does not end in a full stop: {message}"


CHECKS = (
    check_fit_returns_self,
    check_learned_names,
    check_n_channels,
    check_predict_before_fit,
    check_clone_is_unfitted,
    check_predict_leaves_state,
    check_failed_fit,
    check_interrupted_fit,
    check_refit_forgets,
    check_silent,
    check_no_warnings,
    check_error_messages,
)
