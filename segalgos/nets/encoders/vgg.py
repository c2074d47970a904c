"""VGG16 [1]_ as an encoder.

References
----------
.. [1] K. Simonyan and A. Zisserman, "Very deep convolutional networks for large-scale image
   recognition", ICLR 2015, arXiv:1409.1556.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Self

import torch
from torch import Tensor, nn

from segalgos.nets.encoders.imagenet import load_classifier

__all__ = ["VGG16"]


class VGG16(nn.Module):
    """The convolutions and poolings of VGG16 (Table 1, D), with torchvision's names.

    Parameters
    ----------
    in_channels : int
    padding : int, default=1
        Of the first convolution; the others have 1.
    base_channels : int, default=64
        Channels of the first map; fewer make a small network of the same form.
    generator : torch.Generator, optional
        For the initial weights.

    Attributes
    ----------
    channels : tuple of 5 int
        Of the maps that `forward` gives.
    strides : tuple of 5 int
        Pixels of the image from one cell of a map to the next.
    imagenet_mean, imagenet_std : tuple of float
        What images of 0 to 255 were standardised with for the classifiers of `load_imagenet`.

    Notes
    -----
    Poolings keep the last row and column of an odd size. Any batch size, height and width.

    Initial weights come from N(0, 2 / fan_in), which keeps the variance from layer to layer
    (He et al. 2015): without normalisation, N(0, 2 / fan_out) would shrink it by 20 in the
    first layer alone. Biases are zero.

    References
    ----------
    .. [1] K. Simonyan and A. Zisserman, "Very deep convolutional networks for large-scale
       image recognition", ICLR 2015, arXiv:1409.1556.
    """

    strides = (2, 4, 8, 16, 32)

    imagenet_mean = (123.675, 116.28, 103.53)
    imagenet_std = (58.395, 57.12, 57.375)

    def __init__(
        self,
        in_channels: int,
        *,
        padding: int = 1,
        base_channels: int = 64,
        generator: torch.Generator | None = None,
    ):
        super().__init__()
        self.channels = tuple(base_channels * times for times in (1, 2, 4, 8, 8))
        layers: list[nn.Module] = []
        c_in = in_channels
        for c_out, n_convs in zip(self.channels, (2, 2, 3, 3, 3)):
            for _ in range(n_convs):
                pad = 1 if layers else padding
                layers.append(nn.Conv2d(c_in, c_out, kernel_size=3, padding=pad))
                layers.append(nn.ReLU(inplace=True))
                c_in = c_out
            layers.append(nn.MaxPool2d(kernel_size=2, ceil_mode=True))
        self.features = nn.Sequential(*layers)
        self.reset_parameters(generator)

    def reset_parameters(self, generator: torch.Generator | None = None) -> None:
        """Draw new weights from N(0, 2 / fan_in); biases become zero.

        Parameters
        ----------
        generator : torch.Generator, optional
        """
        for layer in self.features:
            if isinstance(layer, nn.Conv2d):
                nn.init.kaiming_normal_(layer.weight, nonlinearity="relu", generator=generator)
                nn.init.zeros_(layer.bias)

    def forward(self, x: Tensor) -> list[Tensor]:
        """Compute the five pooled maps.

        Parameters
        ----------
        x : (N, in_channels, H, W) Tensor

        Returns
        -------
        list of 5 Tensor
            (N, channels[i], H / strides[i], W / strides[i]), sizes rounded up; H and W are
            those of the image with ``padding - 1`` more on each side.
        """
        pooled = []
        for layer in self.features:
            x = layer(x)  # (N, c, h, w): 64 128 256 512 512 channels
            if isinstance(layer, nn.MaxPool2d):
                pooled.append(x)
        return pooled

    def first_stages(self, n_maps: int) -> list[nn.Module]:
        """Find the modules that make the first maps.

        Parameters
        ----------
        n_maps : int
            From 0 to all.

        Returns
        -------
        list of torch.nn.Module
        """
        pools = [i for i, layer in enumerate(self.features) if isinstance(layer, nn.MaxPool2d)]
        return list(self.features[: pools[n_maps - 1] + 1]) if n_maps else []

    def load_imagenet(self, source: str | os.PathLike | Mapping[str, Tensor]) -> Self:
        """Load the weights of a classifier, such as torchvision's files hold.

        Parameters
        ----------
        source : path-like or mapping of str to Tensor
            A safetensors file, a file of ``torch.save`` (read without unpickling), or a
            state dict. Its ``classifier`` is left out, its first convolution is fitted to
            `in_channels`.

        Returns
        -------
        VGG16
            Itself.

        Raises
        ------
        ValueError
            If any other name is missing or left over, or a shape differs.
        """
        load_classifier(self, source, first_conv="features.0.weight", classifier="classifier.")
        return self
