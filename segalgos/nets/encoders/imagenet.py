"""Start an encoder from a classifier's weights."""

from __future__ import annotations

import os
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from segalgos.nets.checkpoints import load_weights, read_weights

__all__ = ["adapt_channels", "load_classifier"]


def adapt_channels(weight: Tensor, in_channels: int) -> Tensor:
    """Fit the first convolution of a colour network to another number of channels.

    Parameters
    ----------
    weight : (c_out, c_in, kh, kw) Tensor
    in_channels : int

    Returns
    -------
    (c_out, in_channels, kh, kw) Tensor
        The same weight if ``c_in == in_channels``. Else the mean over its channels, repeated
        and scaled by ``c_in / in_channels``: a grey image gives the same responses as before,
        however many equal channels it has.
    """
    c_in = weight.shape[1]
    if c_in == in_channels:
        return weight
    mean = weight.mean(dim=1, keepdim=True)
    return mean.repeat(1, in_channels, 1, 1) * (c_in / in_channels)


def load_classifier(
    encoder: nn.Module,
    source: str | os.PathLike | Mapping[str, Tensor],
    *,
    first_conv: str,
    classifier: str,
) -> list[str]:
    """Load all weights of a classifier but those of its last layers.

    Parameters
    ----------
    encoder : torch.nn.Module
        Unchanged after an error.
    source : path-like or mapping of str to Tensor
        As in `read_weights`.
    first_conv : str
        Name of the weight that sees the image; `adapt_channels` fits it.
    classifier : str
        What the names of the layers start with that an encoder has no use for.

    Returns
    -------
    list of str
        The names that were left out.

    Raises
    ------
    ValueError
        If any other name is missing or left over, or a shape differs.
    """
    weights, own = read_weights(source), encoder.state_dict()
    left_out = [name for name in weights if name.startswith(classifier)]
    weights = {name: tensor for name, tensor in weights.items() if name not in left_out}
    for name in own.keys() - weights:
        if name.endswith("num_batches_tracked"):  # files older than torch 0.4.1 lack it
            weights[name] = torch.zeros_like(own[name])
    if first_conv in weights and weights[first_conv].ndim == 4:
        weights[first_conv] = adapt_channels(weights[first_conv], own[first_conv].shape[1])
    load_weights(encoder, weights)
    return left_out
