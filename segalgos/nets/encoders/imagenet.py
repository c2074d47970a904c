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
    weight : (c_out, 3, kh, kw) Tensor
    in_channels : int

    Returns
    -------
    (c_out, in_channels, kh, kw) Tensor
        Shared out, so that an image whose channels are all equal gives what it gives in RGB:
        channels take the kernels of red, green, blue, red ... divided by how many have the
        same one; one or two channels take all three added up, divided by their number.
    """
    if in_channels < 3:
        return weight.sum(1, keepdim=True).repeat(1, in_channels, 1, 1) / in_channels
    colour = torch.arange(in_channels) % 3
    return weight[:, colour] / colour.bincount()[colour, None, None]


def load_classifier(
    encoder: nn.Module,
    source: str | os.PathLike | Mapping[str, Tensor],
    *,
    first_conv: str,
    classifier: str | tuple[str, ...],
) -> None:
    """Load all weights of a classifier but those of its last layers.

    Parameters
    ----------
    encoder : torch.nn.Module
        Unchanged after an error.
    source : path-like or mapping of str to Tensor
        As in `read_weights`.
    first_conv : str
        Name of the weight that sees the image; `adapt_channels` fits it.
    classifier : str or tuple of str
        What the names of the layers start with that an encoder has no use for.

    Raises
    ------
    ValueError
        If any other name is missing or left over, or a shape differs.
    """
    weights, own = read_weights(source), encoder.state_dict()
    weights = {name: w for name, w in weights.items() if not name.startswith(classifier)}
    for name in weights.keys() - own:
        if name.endswith("num_batches_tracked"):  # frozen norms count nothing
            del weights[name]
    for name in own.keys() - weights:
        if name.endswith("num_batches_tracked"):  # files older than torch 0.4.1 lack it
            weights[name] = torch.zeros_like(own[name])
    if first_conv in weights and weights[first_conv].shape[1:2] == (3,):
        weights[first_conv] = adapt_channels(weights[first_conv], own[first_conv].shape[1])
    load_weights(encoder, weights)
