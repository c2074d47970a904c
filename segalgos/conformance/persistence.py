"""Checks of copies and model files: exact, safe to load, and never half-written."""

from __future__ import annotations

import contextlib
import copy
import io
import os
import pickle
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from segalgos import persistence
from segalgos.base import Segmenter
from segalgos.conformance._compare import assert_same, fingerprint
from segalgos.conformance._examples import example, fitted, fresh, predict, predict_proba
from segalgos.conformance._promise import promise, refused


@contextlib.contextmanager
def _folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="segalgos-") as name:
        yield Path(name)


def _load(path, segmenter):
    return persistence.load(path, segmenters=[type(segmenter)])


def _all_results(model, images):
    results = [predict(model, images)]
    if hasattr(model, "predict_proba"):
        results.append(predict_proba(model, images))
    return results


# --- copies ------------------------------------------------------------------------------


@promise()
def check_deepcopy(segmenter: Segmenter) -> None:
    """A deep copy of a fitted segmenter predicts the same."""
    images = example(segmenter).images
    model = fitted(segmenter)
    twin = copy.deepcopy(model)
    assert_same(_all_results(twin, images), _all_results(model, images), "the copy")


@promise()
def check_pickle(segmenter: Segmenter) -> None:
    """A fitted segmenter goes through pickle in memory, as joblib and dask need, unchanged."""
    images = example(segmenter).images
    model = fitted(segmenter)
    twin = pickle.loads(pickle.dumps(model))
    assert_same(_all_results(twin, images), _all_results(model, images), "the copy")


# --- save and load -----------------------------------------------------------------------


@promise()
def check_save_and_load(segmenter: Segmenter) -> None:
    """A loaded segmenter has the same class and parameters and predicts exactly the same."""
    images = example(segmenter).images
    model = fitted(segmenter)
    with _folder() as folder:
        model.save(folder / "model.segalgos")
        twin = _load(folder / "model.segalgos", segmenter)
    assert type(twin) is type(model), f"loaded a {type(twin).__name__}"
    for name, value in model.get_params(deep=False).items():
        same = fingerprint(getattr(twin, name)) == fingerprint(value)
        assert same, f"{name} was {value!r} and is {getattr(twin, name)!r}"
    assert_same(_all_results(twin, images), _all_results(model, images), "saved and loaded")
    names, expected = sorted(vars(twin)), sorted(vars(model))
    assert names == expected, f"attributes {names}, saved were {expected}"


@promise()
def check_save_unfitted(segmenter: Segmenter) -> None:
    """An unfitted segmenter is saved and loaded unfitted, and learns the same then."""
    data = example(segmenter)
    with _folder() as folder:
        fresh(segmenter).save(folder / "model.segalgos")
        twin = _load(folder / "model.segalgos", segmenter)
    assert not twin.__sklearn_is_fitted__(), "it counts as fitted"
    twin.fit(data.images, data.targets)
    results = predict(twin, data.images)
    assert_same(results, predict(fitted(segmenter), data.images), "loaded and not saved")


@promise()
def check_saved_twice(segmenter: Segmenter) -> None:
    """The same model gives the same file, and a loaded one is saved as it was."""
    model = fitted(segmenter)
    with _folder() as folder:
        first, second, third = (folder / f"{i}.segalgos" for i in range(3))
        model.save(first)
        model.save(second)
        _load(first, segmenter).save(third)
        assert first.read_bytes() == second.read_bytes(), "two saves gave unlike files"
        assert first.read_bytes() == third.read_bytes(), "save, load, save gave an unlike file"


@promise()
def check_truncated_file(segmenter: Segmenter) -> None:
    """A model file cut off anywhere is refused with its name."""
    with _folder() as folder:
        path = folder / "model.segalgos"
        fitted(segmenter).save(path)
        _load(path, segmenter)  # whole, it is accepted
        whole = path.read_bytes()
        for length in (0, 1, 7, 8, 9, len(whole) // 3, len(whole) // 2, len(whole) - 1):
            path.write_bytes(whole[:length])
            with refused(f"{length} of {len(whole)} bytes", naming=(str(path),)):
                _load(path, segmenter)
        path.write_bytes(whole + b"\0")
        with refused("one byte too many", naming=(str(path),)):
            _load(path, segmenter)


def _refusal(path, segmenter) -> str | None:
    try:
        _load(path, segmenter)
    except ValueError as error:
        return str(error)
    return None


@promise()
def check_damaged_file(segmenter: Segmenter) -> None:
    """A model file with one bit flipped anywhere is refused with its name."""
    with _folder() as folder:
        path = folder / "model.segalgos"
        fitted(segmenter).save(path)
        _load(path, segmenter)  # undamaged, it is accepted
        whole = path.read_bytes()
        rng = np.random.default_rng(0)
        for position in (0, len(whole) - 1, *rng.integers(0, len(whole), 30).tolist()):
            damaged = bytearray(whole)
            damaged[position] ^= 1 << int(rng.integers(8))
            path.write_bytes(damaged)
            message = _refusal(path, segmenter)
            if message is None:  # "1e-5" may become "1E-5", which is the same model
                _load(path, segmenter).save(path)
                assert path.read_bytes() == whole, f"a flipped bit in byte {position} was accepted"
            else:
                assert str(path) in message, f"the message does not name {path}: {message}"


class _Marker:
    """Makes a file when it is unpickled."""

    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return (open, (self.path, "w"))


def _foreign_files(marker: Path) -> dict[str, bytes]:
    """Files of other kinds; those that can run code would make the file `marker`."""
    array, archive, nothing = io.BytesIO(), io.BytesIO(), io.BytesIO()
    np.save(array, np.array([_Marker(marker)], object), allow_pickle=True)
    with zipfile.ZipFile(archive, "w") as file:  # the layout of torch.save
        file.writestr("archive/data.pkl", pickle.dumps(_Marker(marker), protocol=2))
        file.writestr("archive/version", "3\n")
    with zipfile.ZipFile(nothing, "w"):
        pass
    pickles = {
        f"a pickle of protocol {protocol}": pickle.dumps(_Marker(marker), protocol=protocol)
        for protocol in range(pickle.HIGHEST_PROTOCOL + 1)
    }
    return pickles | {
        "an object array": array.getvalue(),
        "a torch file": archive.getvalue(),
        "an empty zip": nothing.getvalue(),
        "text": b"not a model\n" * 20,
        "JSON": b'{"format": "segalgos-model"}',
        "zeros": bytes(100),
        "a safetensors file of others": b"\x08\0\0\0\0\0\0\0{}      ",
    }


@promise()
def check_foreign_files(segmenter: Segmenter) -> None:
    """Pickles, torch files, arrays and text are refused by name and nothing in them is run."""
    with _folder() as folder:
        path, marker = folder / "model.segalgos", folder / "marker"
        fitted(segmenter).save(path)
        _load(path, segmenter)  # its own file is accepted
        for what, content in _foreign_files(marker).items():
            path.write_bytes(content)
            with refused(what, naming=(str(path),)):
                _load(path, segmenter)
            assert not marker.exists(), f"{what}: code in it was run"


@promise()
def check_missing_file(segmenter: Segmenter) -> None:
    """Loading from no file raises FileNotFoundError, from a folder IsADirectoryError."""
    with _folder() as folder:
        with refused("no file", FileNotFoundError, naming=("nothing.segalgos",)):
            _load(folder / "nothing.segalgos", segmenter)
        with refused("a folder", IsADirectoryError, naming=(str(folder),)):
            _load(folder, segmenter)


@promise()
def check_save_replaces_whole(segmenter: Segmenter) -> None:
    """save replaces an older file whole and leaves no other file behind."""
    with _folder() as folder:
        path = folder / "model.segalgos"
        path.write_bytes(b"older and longer" * 100_000)
        model = fitted(segmenter)
        model.save(str(path))  # text is a path too
        left = sorted(os.listdir(folder))
        assert left == ["model.segalgos"], f"the folder holds {left}"
        images = example(segmenter).images
        results = predict(_load(path, segmenter), images)
        assert_same(results, predict(model, images), "saved over an older file")


@promise()
def check_failed_save(segmenter: Segmenter) -> None:
    """A save that fails raises, and leaves what was there as it was."""
    with _folder() as folder:
        model = fitted(segmenter)
        file = folder / "file"
        file.write_text("older")
        with refused("a file in place of a folder", OSError):
            model.save(file / "model.segalgos")
        assert file.read_text() == "older", "the file in place of the folder was changed"
        target = folder / "model.segalgos"
        target.mkdir()
        (target / "inside").write_text("older")
        with refused("a folder in place of the file", OSError):
            model.save(target)
        assert (target / "inside").read_text() == "older", "the folder was changed"
        left = sorted(os.listdir(folder))
        assert left == ["file", "model.segalgos"], f"the folder holds {left}"


CHECKS = (
    check_deepcopy,
    check_pickle,
    check_save_and_load,
    check_save_unfitted,
    check_saved_twice,
    check_truncated_file,
    check_damaged_file,
    check_foreign_files,
    check_missing_file,
    check_save_replaces_whole,
    check_failed_save,
)
