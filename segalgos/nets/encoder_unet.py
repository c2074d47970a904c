"""U-Net on an encoder: the expanding path of [1]_ on maps that any encoder computes.

References
----------
.. [1] O. Ronneberger, P. Fischer and T. Brox, "U-Net: convolutional networks for
   biomedical image segmentation", MICCAI 2015, arXiv:1505.04597.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from segalgos.nets.blocks import DoubleConv
from segalgos.nets.semantic_net import CoarseNet

__all__ = ["EncoderUNet", "steps_up"]


class UpBlock(nn.Module):
    """Enlarge the map from below, join the skip, convolve twice.

    Parameters
    ----------
    c_in, c_skip, c_out : int
        Channels of the map from below, of the skip and of the result.
    """

    def __init__(self, c_in: int, c_skip: int, c_out: int):
        super().__init__()
        self.convs = DoubleConv(c_in + c_skip, c_out, padding="same", batch_norm=True)

    def forward(self, x: Tensor, skip: Tensor) -> Tensor:
        """Join the map from below with the skip.

        Parameters
        ----------
        x : (N, c_in, h, w) Tensor
        skip : (N, c_skip, H, W) Tensor

        Returns
        -------
        (N, c_out, H, W) Tensor
        """
        x = F.interpolate(x, size=skip.shape[2:], mode="nearest")  # (N, c_in, H, W)
        x = torch.cat([skip, x], dim=1)  # (N, c_skip + c_in, H, W)
        return self.convs(x)  # (N, c_out, H, W)


def steps_up(channels: Sequence[int], decoder_channels: Sequence[int]) -> nn.ModuleList:
    """Make the steps from the coarsest of an encoder's maps to finer ones.

    Parameters
    ----------
    channels : sequence of int
        Of the maps, from fine to coarse.
    decoder_channels : sequence of int
        Of each step, from coarse to fine; at most one for each map but the coarsest.

    Returns
    -------
    ModuleList of UpBlock
    """
    *skips, lowest = channels  # 16 24 40 112, 320 of EfficientNet-Lite0
    return nn.ModuleList(
        UpBlock(c_in, c_skip, c_out)
        for c_in, c_skip, c_out in zip(
            [lowest, *decoder_channels], reversed(skips), decoder_channels
        )
    )


class EncoderUNet(CoarseNet):
    """U-Net whose contracting path is an encoder, such as one trained on ImageNet.

    Parameters
    ----------
    encoder : torch.nn.Module
        Gives a list of maps, from fine to coarse; its attributes `channels` and `strides`
        tell their channels and how many pixels their cells are apart. Its `memory_format`,
        if it has one, becomes that of the network.
    n_classes : int
    decoder_channels : sequence of int, default=(256, 128, 64, 32)
        Channels of each step up: fewer than there are maps. Where there are fewer steps than
        maps to join, the finest maps are left out, and scores are interpolated from a coarser
        one.
    generator : torch.Generator, optional
        For the initial weights of the decoder.

    Attributes
    ----------
    stride : int
        Of the coarsest map.
    margin : int
        0: the output is as large as the input.
    halo : None
        What an output depends on is the encoder's matter: the whole image is taken.

    Raises
    ------
    ValueError
        If there are more steps than maps to join, or none.

    Notes
    -----
    Unlike `segalgos.nets.unet.UNet`, maps are enlarged by repeating values, not by an
    up-convolution, convolutions are padded and normalised, and the last step, to the pixels
    of the input, is bilinear: encoders have no map at stride 1.

    Any batch size, height and width. Sizes that are not multiples of `stride` stretch maps
    by less than a cell to make them join; `fit_size` names the next that is one.

    Weights of the decoder start from N(0, 2 / fan_in); those of the encoder are left as they
    are.

    References
    ----------
    .. [1] O. Ronneberger, P. Fischer and T. Brox, "U-Net: convolutional networks for
       biomedical image segmentation", MICCAI 2015, arXiv:1505.04597.

    Examples
    --------
    >>> import torch
    >>> from segalgos.nets.encoder_unet import EncoderUNet
    >>> from segalgos.nets.encoders.efficientnet_lite import EfficientNetLite0
    >>> network = EncoderUNet(EfficientNetLite0(), n_classes=2).eval()
    >>> network(torch.zeros(1, 3, 37, 50)).shape
    torch.Size([1, 2, 37, 50])
    """

    def __init__(
        self,
        encoder: nn.Module,
        n_classes: int,
        *,
        decoder_channels: tuple[int, ...] = (256, 128, 64, 32),
        generator: torch.Generator | None = None,
    ):
        super().__init__()
        if not 1 <= len(decoder_channels) < len(encoder.channels):
            raise ValueError(
                f"EncoderUNet: decoder_channels has {len(decoder_channels)} steps, expected 1 to "
                f"{len(encoder.channels) - 1}: one between each two maps of the encoder."
            )
        self.stride = encoder.strides[-1]
        self.memory_format = getattr(encoder, "memory_format", torch.contiguous_format)
        self.encoder = encoder
        self.up = steps_up(encoder.channels, decoder_channels)
        self.head = nn.Conv2d(decoder_channels[-1], n_classes, kernel_size=1)
        self.reset_parameters(generator)

    def reset_parameters(self, generator: torch.Generator | None = None) -> None:
        """Draw new weights of the decoder from N(0, 2 / fan_in); biases become zero.

        Parameters
        ----------
        generator : torch.Generator, optional
        """
        for module in [*self.up.modules(), self.head]:
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu", generator=generator)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)

    def coarse_scores(self, x: Tensor) -> Tensor:
        """Compute class scores on the finest map of the decoder.

        Parameters
        ----------
        x : (N, C, H, W) Tensor

        Returns
        -------
        (N, n_classes, H / 2, W / 2) Tensor
            Coarser after fewer steps. Sides are rounded up.
        """
        *skips, x = self.encoder(x)  # strides 2 4 8 16, 32
        for block in self.up:
            x = block(x, skips.pop())  # (N, c, ...): 256 128 64 32 channels
        return self.head(x)
