"""The encoders that an option can name."""

from __future__ import annotations

import torch
from torch import nn

from segalgos import checks
from segalgos.nets.encoders.efficientnet_lite import EfficientNetLite0
from segalgos.nets.encoders.mit import MiT
from segalgos.nets.encoders.resnet import RESNETS, ResNet
from segalgos.nets.encoders.vgg import VGG16

__all__ = ["ENCODERS", "make_encoder"]

MITS = tuple(f"mit_b{i}" for i in range(6))
ENCODERS = ("efficientnet_lite0", *RESNETS, "vgg16", *MITS)


def make_encoder(
    name: str, in_channels: int, *, generator: torch.Generator | None = None
) -> nn.Module:
    """Make an encoder.

    Parameters
    ----------
    name : str
        One of `ENCODERS`.
    in_channels : int
    generator : torch.Generator, optional
        For the initial weights.

    Returns
    -------
    torch.nn.Module
        From (N, in_channels, H, W) to a list of maps, from fine to coarse. It has
        `channels`, `strides`, ``load_imagenet(path)`` and ``first_stages(n_maps)``.

    Raises
    ------
    ValueError
        If there is no such encoder.
    """
    checks.check_choice("make_encoder", "name", name, ENCODERS)
    if name == "efficientnet_lite0":
        return EfficientNetLite0(in_channels, generator=generator)
    if name == "vgg16":
        return VGG16(in_channels, generator=generator)
    if name in RESNETS:
        return ResNet(in_channels, name, generator=generator)
    return MiT(name.removeprefix("mit_"), in_channels, generator=generator)
