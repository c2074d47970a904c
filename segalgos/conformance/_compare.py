"""Compare results and states bit by bit; judge whether a result is valid."""

from __future__ import annotations

import hashlib
import pickle
import sys
from typing import Any

import numpy as np
from numpy.typing import NDArray

from segalgos.base import Segmenter
from segalgos.results import Instances

_PLAIN = (type(None), bool, int, float, complex, str, bytes, type)


def fingerprint(value: Any) -> str:
    """Hash everything that an object holds: arrays, tensors, containers and attributes."""
    digest = hashlib.sha256()
    _feed(digest.update, value, set())
    return digest.hexdigest()


def _feed(update: Any, value: Any, above: set[int]) -> None:
    update(f"<{type(value).__name__}>".encode())
    if isinstance(value, _PLAIN):
        update(repr(value).encode())
        return
    if id(value) in above:
        return  # a circle: the object is being hashed already
    above = above | {id(value)}
    torch = sys.modules.get("torch")
    if isinstance(value, np.ndarray) and value.dtype != object:
        update(f"{value.dtype}{value.shape}".encode() + value.tobytes())
    elif torch is not None and isinstance(value, torch.Tensor):
        flat = value.detach().cpu().contiguous().reshape(-1).view(torch.uint8)
        update(f"{value.dtype}{tuple(value.shape)}".encode() + flat.numpy().tobytes())
    elif isinstance(value, dict):
        for key, item in value.items():
            _feed(update, key, above)
            _feed(update, item, above)
    elif isinstance(value, list | tuple | np.ndarray):
        for item in value:
            _feed(update, item, above)
    elif isinstance(value, set | frozenset):
        update("".join(sorted(fingerprint(item) for item in value)).encode())
    elif hasattr(value, "__dict__"):
        _feed(update, vars(value), above)
    else:
        try:
            update(pickle.dumps(value))
        except Exception:  # no state that could be seen, such as a lock
            update(str(id(value)).encode())


def state_of(segmenter: Segmenter) -> dict[str, str]:
    """Fingerprint of every attribute."""
    return {name: fingerprint(value) for name, value in vars(segmenter).items()}


def assert_same_state(before: dict[str, str], segmenter: Segmenter, what: str) -> None:
    """Assert that no attribute was created, removed or changed."""
    after = state_of(segmenter)
    changes = [f"created {name}" for name in after.keys() - before.keys()]
    changes += [f"removed {name}" for name in before.keys() - after.keys()]
    changes += [f"changed {n}" for n in before.keys() & after.keys() if before[n] != after[n]]
    assert not changes, f"{what} {', '.join(sorted(changes))}"


def assert_same(a: Any, b: Any, what: str) -> None:
    """Assert that two results, or lists of results, are equal bit by bit."""
    if isinstance(a, list) and isinstance(b, list):
        assert len(a) == len(b), f"{what}: {len(a)} results and {len(b)}"
        for i, (one, other) in enumerate(zip(a, b, strict=True)):
            assert_same(one, other, f"{what}, result {i}")
        return
    assert type(a) is type(b), f"{what}: {type(a).__name__} and {type(b).__name__}"
    if isinstance(a, Instances):
        for name in ("masks", "scores", "classes", "boxes"):
            assert_same(getattr(a, name), getattr(b, name), f"{what}, {name}")
        return
    assert a.shape == b.shape, f"{what}: shapes {a.shape} and {b.shape}"
    assert a.dtype == b.dtype, f"{what}: dtypes {a.dtype} and {b.dtype}"
    differ = int((a != b).sum())
    assert differ == 0, f"{what}: {differ} of {a.size} values differ"


def assert_valid(
    segmenter: Segmenter,
    result: Any,
    shape: tuple[int, ...],
    what: str,
    mask: NDArray[np.bool_] | None = None,
) -> None:
    """Assert that a result is of the form that the task promises."""
    task = segmenter.traits.task
    if task == "instance" or (task == "interactive" and isinstance(result, Instances)):
        assert isinstance(result, Instances), f"{what}: got {type(result).__name__}, not Instances"
        assert result.shape == tuple(shape), f"{what}: masks of {result.shape}, image of {shape}"
        return
    assert isinstance(result, np.ndarray), f"{what}: got {type(result).__name__}, not an array"
    assert result.dtype == np.int32, f"{what}: label map is {result.dtype}, not int32"
    assert result.shape == tuple(shape), f"{what}: label map of {result.shape}, image of {shape}"
    assert result.flags.c_contiguous, f"{what}: the label map is not C-contiguous"
    inside = result if mask is None else result[mask]
    assert (inside >= 0).all(), f"{what}: {int((inside < 0).sum())} pixels got no label"
    if mask is not None:
        stray = int((result[~mask] != -1).sum())
        assert stray == 0, f"{what}: {stray} pixels outside the mask have a label other than -1"
    ids = np.unique(inside)
    if task == "partition":
        assert (ids == np.arange(len(ids))).all(), f"{what}: ids {ids.tolist()} have gaps"
    elif task == "semantic":
        unknown = np.setdiff1d(ids, segmenter.classes_)
        assert len(unknown) == 0, f"{what}: ids {unknown.tolist()} are not in classes_"
