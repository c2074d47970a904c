"""Save and load segmenters without pickle.

A model file is a safetensors file: arrays, and JSON metadata that names the class, its
parameters, format and library version, and a checksum. Loading looks the class up in
the catalogue (or among the classes the caller passes) and runs nothing from the file.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from segalgos import catalog
from segalgos.base import Segmenter
from segalgos.files import atomic_path

__all__ = ["load", "save"]

FORMAT = "segalgos-model"
FORMAT_VERSION = 1

# Parameters that are objects of the library: each tells what a file holds of it, and is made
# again of that. A file can name one of these, and bring none.
OBJECTS = {
    "PretrainedEncoder": "segalgos.pretrained_encoder",
    "EncoderFeatures": "segalgos.nets.encoder_features",
}


def save(segmenter: Segmenter, path: str | os.PathLike) -> None:
    """Save a segmenter, fitted or not, to one file.

    Parameters
    ----------
    segmenter : Segmenter
    path : path-like
        By custom it ends in ``.segalgos``. Written whole or not at all.

    Raises
    ------
    TypeError
        If a parameter or learned attribute is code or an object that a file cannot hold
        safely (a callable, a ``RandomState``); names it.
    """
    from safetensors.numpy import save_file

    import segalgos

    arrays: dict[str, NDArray] = {}
    content: dict[str, Any] = {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "library_version": segalgos.__version__,
        **_encode_segmenter(segmenter, arrays, f"{type(segmenter).__name__}.save: "),
    }
    content["sha256"] = _digest(content, arrays)
    # One entry: safetensors writes several in random order, and files could not be compared.
    metadata = {"segalgos": json.dumps(content)}
    with atomic_path(path) as temporary:
        save_file(arrays, temporary, metadata)


def load(path: str | os.PathLike, *, segmenters: Iterable[type[Segmenter]] = ()) -> Segmenter:
    """Load a segmenter that `Segmenter.save` wrote. No code from the file is run.

    Parameters
    ----------
    path : path-like
    segmenters : iterable of Segmenter classes, optional
        Your own classes that the file may name, besides those of the catalogue.

    Returns
    -------
    Segmenter
        Predicts exactly what the saved one did.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    IsADirectoryError
        If it is a folder.
    ValueError
        If it is truncated, damaged, a pickle or another kind of file, or was written by
        a newer version; nothing in it is run.
    """
    from safetensors import SafetensorError, safe_open

    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(f"load: {path} does not exist: check the path.")
    if path.is_dir():
        raise IsADirectoryError(f"load: {path} is a folder, expected a model file.")
    _refuse_foreign(path)
    try:
        with safe_open(path, framework="numpy") as file:
            metadata = file.metadata() or {}
            arrays = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError, ValueError, TypeError) as error:
        raise ValueError(
            f"load: {path} is truncated, damaged or no segalgos model ({error}): save the model "
            "again with .save()."
        ) from error
    if "segalgos" not in metadata:
        raise ValueError(
            f"load: {path} holds tensors but no segalgos model: load weights of a bare network "
            "with its load_checkpoint instead."
        )
    try:
        content = json.loads(metadata["segalgos"])
        if not isinstance(content, dict) or content.get("format") != FORMAT:
            raise ValueError("its metadata is not a segalgos model's")
        if content["format_version"] > FORMAT_VERSION:
            raise ValueError(
                f"it has format {content['format_version']}, this library reads up to "
                f"{FORMAT_VERSION}; update segalgos"
            )
        if content.pop("sha256", None) != _digest(content, arrays):
            raise ValueError("its checksum does not match its content")
        known = {cls.__name__: cls for cls in segmenters}
        segmenter = _decode_segmenter(content, arrays, known)
    except (LookupError, ValueError, TypeError, AttributeError, RuntimeError, MemoryError) as error:
        raise ValueError(
            f"load: {path} is damaged or foreign ({error}): save the model again with .save()."
        ) from error
    return segmenter


def _refuse_foreign(path: Path) -> None:
    """Name the usual kinds of file that are not ours, by their first bytes."""
    with open(path, "rb") as file:
        head = file.read(9)
    if head[8:] == b"{":
        return  # safetensors: a length, which may look like anything, then JSON
    if head[:1] == b"\x80" and len(head) > 1 and head[1] <= 5:
        kind = "a pickle"
    elif head[:2] == b"PK":
        kind = "a zip archive (a torch or skops file?)"
    elif head[:6] == b"\x93NUMPY":
        kind = "a numpy array file"
    else:
        return
    raise ValueError(
        f"load: {path} is {kind}, not a segalgos model; it was not opened, since such a file can "
        "run code: save the model with .save()."
    )


def _digest(content: dict, arrays: dict[str, NDArray]) -> str:
    digest = hashlib.sha256(json.dumps(content, sort_keys=True).encode())
    for key in sorted(arrays):
        array = np.ascontiguousarray(arrays[key])
        digest.update(f"{key}|{array.dtype.str}|{array.shape}|".encode())
        digest.update(array.view(np.uint8) if array.size and array.ndim else array.tobytes())
    return digest.hexdigest()


def _encode_segmenter(
    segmenter: Segmenter, arrays: dict[str, NDArray], where: str
) -> dict[str, Any]:
    """Class, parameters and, if it is fitted, learned state."""
    state = segmenter._get_state() if segmenter.__sklearn_is_fitted__() else None
    return {
        "class": type(segmenter).__name__,
        "parameters": _encode(segmenter.get_params(deep=False), arrays, f"{where}parameter"),
        "state": None if state is None else _encode(state, arrays, f"{where}attribute"),
    }


def _decode_segmenter(
    content: dict[str, Any], arrays: dict[str, NDArray], known: dict[str, type[Segmenter]]
) -> Segmenter:
    name = content["class"]
    cls = known[name] if name in known else catalog.get_segmenter(name)
    segmenter = cls(**_decode(content["parameters"], arrays, known))
    if content["state"] is not None:
        segmenter._check_params()
        state = _decode(content["state"], arrays, known)
        if not isinstance(state, dict):
            raise ValueError("its learned state is no mapping")
        segmenter._set_state(state)
    return segmenter


def _encode(value: Any, arrays: dict[str, NDArray], where: str) -> Any:
    """Turn a value into JSON; arrays go to `arrays` and leave their key behind."""
    if value is None or isinstance(value, bool | str):
        return value
    if isinstance(value, int | float) and not isinstance(value, np.generic):
        return value
    if isinstance(value, np.generic) and value.dtype.kind in "buif":
        return value.item()
    if isinstance(value, os.PathLike):
        return os.fspath(value)  # which is what it comes back as
    if isinstance(value, np.ndarray) and value.dtype.kind in "buif":
        key = str(len(arrays))
        arrays[key] = np.ascontiguousarray(value).reshape(value.shape)
        return {"array": key}
    if isinstance(value, list | tuple):
        items = [_encode(v, arrays, f"{where}[{i}]") for i, v in enumerate(value)]
        return {"tuple": items} if isinstance(value, tuple) else items
    if isinstance(value, dict) and all(isinstance(k, str) for k in value):
        return {"dict": {k: _encode(v, arrays, f"{where} {k}") for k, v in value.items()}}
    if isinstance(value, dict) and all(type(k) is int for k in value):  # class ids
        return {"ids": [[k, _encode(v, arrays, f"{where} {k}")] for k, v in value.items()]}
    if isinstance(value, Segmenter):  # one that works inside another
        return {"segmenter": _encode_segmenter(value, arrays, f"{where}: ")}
    name = type(value).__name__
    if OBJECTS.get(name) == type(value).__module__:
        return {"object": [name, _encode(value.to_model_file(), arrays, where)]}
    raise TypeError(
        f"{where} is a {type(value).__name__}, which a model file cannot hold safely: use "
        "numbers, text, arrays or containers of these (an integer as random_state, for instance)."
    )


def _decode(value: Any, arrays: dict[str, NDArray], known: dict[str, type[Segmenter]]) -> Any:
    if isinstance(value, list):
        return [_decode(v, arrays, known) for v in value]
    if isinstance(value, dict):
        ((kind, content),) = value.items()
        if kind == "array":
            return arrays[content]
        if kind == "tuple":
            return tuple(_decode(v, arrays, known) for v in content)
        if kind == "dict":
            return {k: _decode(v, arrays, known) for k, v in content.items()}
        if kind == "ids":
            return {int(k): _decode(v, arrays, known) for k, v in content}
        if kind == "segmenter":
            return _decode_segmenter(content, arrays, known)
        if kind == "object":
            name, parts = content
            cls = getattr(import_module(OBJECTS[name]), name)
            return cls.from_model_file(_decode(parts, arrays, known))
        raise ValueError(f"its metadata has an entry of unknown kind {kind!r}")
    return value
