"""Read weights of bare networks from files, without unpickling anything."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

__all__ = ["load_weights", "read_weights", "rename_weights"]

Renames = Iterable[tuple[str, str | Callable[[re.Match], str]]]


def read_weights(source: str | os.PathLike | Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Read a state dict from a file, or take one as it is.

    Parameters
    ----------
    source : path-like or mapping of str to Tensor
        A safetensors file (``.safetensors``), a file of ``torch.save``, or a state dict. A
        state dict under the name "state_dict", as frameworks save it beside their settings,
        is taken out.

    Returns
    -------
    dict of str to Tensor
        On the CPU.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If the file is damaged, holds anything but tensors by name, or would run code.
    """
    if isinstance(source, Mapping):
        weights = dict(source)
    else:
        weights = _read_file(Path(source))
    if isinstance(weights.get("state_dict"), Mapping):
        weights = dict(weights["state_dict"])
    if not all(isinstance(k, str) and isinstance(v, Tensor) for k, v in weights.items()):
        raise ValueError(
            "read_weights: the checkpoint holds more than tensors by name: pass the state dict "
            "inside it."
        )
    return weights


def _read_file(path: Path) -> dict[str, Tensor]:
    if not path.exists():
        raise FileNotFoundError(f"read_weights: {path} does not exist: check the path.")
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            return load_file(path)
        weights = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # decoders raise nearly anything on damaged or hostile files
        raise ValueError(
            f"read_weights: {path} is damaged, or holds more than weights "
            f"({type(error).__name__}): save the network's state_dict() with safetensors or "
            "torch.save."
        ) from error
    if not isinstance(weights, Mapping):
        raise ValueError(
            f"read_weights: {path} holds a {type(weights).__name__}, expected a state dict: save "
            "the network's state_dict()."
        )
    return dict(weights)


def rename_weights(weights: Mapping[str, Tensor], renames: Renames) -> dict[str, Tensor]:
    """Give weights other names.

    Parameters
    ----------
    weights : mapping of str to Tensor
    renames : iterable of (str, str or callable)
        Regular expressions and what to put in place of each match, as for `re.sub`; all are
        applied to each name, in order.

    Returns
    -------
    dict of str to Tensor
        The same tensors.

    Raises
    ------
    ValueError
        If two names become one.
    """
    renamed, before = {}, {}
    for name, tensor in weights.items():
        new = name
        for pattern, replacement in renames:
            new = re.sub(pattern, replacement, new)
        if new in renamed:
            raise ValueError(
                f"rename_weights: the checkpoint holds both {before[new]} and {name}, two names "
                "of one weight: remove the wrong one."
            )
        renamed[new], before[new] = tensor, name
    return renamed


def load_weights(network: nn.Module, source: str | os.PathLike | Mapping[str, Tensor]) -> None:
    """Load weights into a network: every one of them, and nothing else.

    Parameters
    ----------
    network : torch.nn.Module
        Unchanged after an error.
    source : path-like or mapping of str to Tensor
        As in `read_weights`.

    Raises
    ------
    ValueError
        If a name is missing or left over, a shape differs, or a value is NaN or infinite.
    """
    caller = type(network).__name__
    weights, own = read_weights(source), network.state_dict()
    for what, names in (("misses", own.keys() - weights), ("has left over", weights.keys() - own)):
        if names:
            some = ", ".join(sorted(names)[:5]) + (", ..." if len(names) > 5 else "")
            raise ValueError(
                f"{caller}: the checkpoint {what} {len(names)} of the network's names ({some}): "
                "build the network with the options it was saved with."
            )
    for name, tensor in weights.items():
        if tensor.shape != own[name].shape:
            raise ValueError(
                f"{caller}: {name} has shape {tuple(tensor.shape)} in the checkpoint, "
                f"{tuple(own[name].shape)} here: build the network with the same options."
            )
        if not torch.isfinite(tensor).all():
            raise ValueError(f"{caller}: {name} holds NaN or infinite values: the file is damaged.")
    network.load_state_dict(weights)
