"""Fitted nets: checked, copied, and what their last layer sees."""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Callable
from typing import Any

import torch
from sklearn.base import clone
from sklearn.utils.validation import check_is_fitted
from torch import Tensor, nn

from segalgos.nets.semantic import SemanticNetSegmenter

__all__ = [
    "call_with_features",
    "check_fitted_net",
    "copy_network",
    "copy_of",
    "find_head",
    "weights_digest",
    "with_network",
]

#: Layers that can end a network: one score for each class.
HEADS = (nn.Conv2d, nn.ConvTranspose2d, nn.Linear)


def check_fitted_net(segmenter: Any, caller: str) -> None:
    """Check that something is a fitted semantic net.

    Parameters
    ----------
    segmenter : object
    caller : str
        Named in errors.

    Raises
    ------
    TypeError
        If it is something else.
    sklearn.exceptions.NotFittedError
        If it was not fitted.
    """
    if not isinstance(segmenter, SemanticNetSegmenter):
        raise TypeError(
            f"{caller}: segmenter is a {type(segmenter).__name__}, expected a semantic net such as "
            "UNetSegmenter, SegFormerSegmenter or NetSegmenter."
        )
    check_is_fitted(segmenter)


def copy_of(segmenter: Any) -> Any:
    """Copy a fitted segmenter: the copy shares no array that adaptation changes.

    Parameters
    ----------
    segmenter : Segmenter
        Fitted.

    Returns
    -------
    Segmenter
    """
    new = clone(segmenter)
    vars(new).update({k: v for k, v in vars(segmenter).items() if k.endswith("_")})
    return new


def with_network(
    segmenter: SemanticNetSegmenter, network: nn.Module, history: list[dict[str, float]]
) -> SemanticNetSegmenter:
    """Copy a fitted net, with another network of the same kind.

    Parameters
    ----------
    segmenter : SemanticNetSegmenter
        Fitted.
    network : torch.nn.Module
        In evaluation mode.
    history : list of dict
        Rows of the training that led to it.

    Returns
    -------
    SemanticNetSegmenter
    """
    new = copy_of(segmenter)
    new.network_ = network
    new.fast_network_ = new._make_fast(network)
    new.history_ = history
    return new


def copy_network(segmenter: SemanticNetSegmenter) -> nn.Module:
    """Copy the network of a segmenter, all of it free to learn.

    Parameters
    ----------
    segmenter : SemanticNetSegmenter
        Fitted.

    Returns
    -------
    torch.nn.Module
        In evaluation mode.
    """
    network = copy.deepcopy(segmenter.network_)
    network.unfreeze()
    return network.requires_grad_(True).eval()


def weights_digest(network: nn.Module) -> bytes:
    """Compute a digest of all weights and statistics of a network.

    Parameters
    ----------
    network : torch.nn.Module

    Returns
    -------
    bytes
    """
    digest = hashlib.sha256()
    for name, tensor in network.state_dict().items():
        digest.update(f"{name}{tensor.dtype}{tuple(tensor.shape)}".encode())
        digest.update(tensor.detach().cpu().contiguous().numpy())
    return digest.digest()


def find_head(segmenter: SemanticNetSegmenter, caller: str) -> str:
    """Find the last layer that gives one score for each class.

    Parameters
    ----------
    segmenter : SemanticNetSegmenter
        Fitted.
    caller : str
        Named in errors.

    Returns
    -------
    str
        Name of the layer in the network.

    Raises
    ------
    ValueError
        If there is none.

    Notes
    -----
    The network is run once, on a black image, to see which layers are called.
    """
    network, called = segmenter.network_, []
    hooks = [
        module.register_forward_hook(
            lambda m, x, y, name=name: called.append((name, tuple(y.shape)))
        )
        for name, module in network.named_modules()
        if isinstance(module, HEADS)
    ]
    try:
        side = network.fit_size(32) + 2 * network.margin
        device = next(network.parameters()).device
        with torch.inference_mode():
            network(torch.zeros(1, segmenter.n_channels_, side, side, device=device))
    finally:
        for hook in hooks:
            hook.remove()
    n_classes = len(segmenter.classes_)
    for name, shape in reversed(called):
        axis = -1 if isinstance(network.get_submodule(name), nn.Linear) else 1
        if shape[axis] == n_classes:
            return name
    raise ValueError(
        f"{caller}: no layer of the {type(network).__name__} gives one score for each of the "
        f"{n_classes} classes: it must end in a convolution or a linear layer."
    )


def call_with_features(
    network: nn.Module, head: str, call: Callable[[], Any]
) -> tuple[Any, Tensor]:
    """Call a network, and keep what its last layer was given.

    Parameters
    ----------
    network : torch.nn.Module
    head : str
        Name of that layer, from `find_head`.
    call : callable
        Runs the network.

    Returns
    -------
    output
        Of the call.
    features : (N, C, h, w) Tensor
        What the last layer saw the last time.
    """
    seen = []
    hook = network.get_submodule(head).register_forward_pre_hook(lambda m, x: seen.append(x[0]))
    try:
        output = call()
    finally:
        hook.remove()
    return output, seen[-1]
