"""A network for contours: side outputs at every scale, joined, and the way contours run."""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from segalgos.nets.encoder_unet import steps_up
from segalgos.nets.net import Net

__all__ = ["ContourLogits", "SideOutputNet"]

#: Part of the pixels that a new network takes for contours.
FIRST_SHARE = 0.05


class ContourLogits(NamedTuple):
    """What the network gives in training.

    Parameters
    ----------
    joined : (N, 1, H, W) Tensor
        Logits of a contour.
    sides : (N, n_sides, H, W) Tensor
        Those of every scale alone, from coarse to fine.
    direction : (N, 2, H, W) Tensor
        Cosine and sine of twice the angle of the contour to the rows, in no unit: the longer,
        the surer.
    """

    joined: Tensor
    sides: Tensor
    direction: Tensor


class SideOutputNet(Net):
    """An encoder, steps up, and an answer at every step (HED [1]_, with the directions of [2]_).

    Parameters
    ----------
    encoder : torch.nn.Module
        Gives a list of maps, from fine to coarse; its attributes `channels` and `strides`
        tell their channels and how many pixels their cells are apart.
    decoder_channels : sequence of int, default=(96, 64, 48, 32)
        Channels of each step up, one for each map but the coarsest.
    generator : torch.Generator, optional
        For the initial weights of the decoder.

    Attributes
    ----------
    stride : int
        Of the coarsest map.
    margin : int
        0: the output is as large as the input.
    halo : None
        What an output depends on is the encoder's matter.

    Raises
    ------
    ValueError
        If there is not one step for each map but the coarsest.

    Notes
    -----
    Each step's map gives a side output by a 1x1 convolution, interpolated to the pixels; the
    joined answer is their weighted sum, with weights that are learned. The finest step answers
    with a value for every pixel of its cells. HED takes side outputs of the encoder's own maps;
    here the coarser steps are part of the finer ones, as in a U-Net.

    References
    ----------
    .. [1] S. Xie and Z. Tu, "Holistically-nested edge detection", ICCV 2015, arXiv:1504.06375.
    .. [2] K.-K. Maninis, J. Pont-Tuset, P. Arbelaez and L. Van Gool, "Convolutional oriented
       boundaries", ECCV 2016, arXiv:1608.02755.

    Examples
    --------
    >>> import torch
    >>> from segalgos.nets.encoders.efficientnet_lite import EfficientNetLite0
    >>> from segalgos.nets.side_output_net import SideOutputNet
    >>> network = SideOutputNet(EfficientNetLite0()).eval()
    >>> network(torch.zeros(1, 3, 37, 50)).shape
    torch.Size([1, 3, 37, 50])
    """

    halo: int | None = None

    def __init__(
        self,
        encoder: nn.Module,
        *,
        decoder_channels: tuple[int, ...] = (96, 64, 48, 32),
        generator: torch.Generator | None = None,
    ):
        super().__init__()
        if len(decoder_channels) != len(encoder.channels) - 1:
            raise ValueError(
                f"SideOutputNet: decoder_channels has {len(decoder_channels)} steps, expected "
                f"{len(encoder.channels) - 1}: one for each map of the encoder but the coarsest."
            )
        self.stride = encoder.strides[-1]
        self.memory_format = getattr(encoder, "memory_format", torch.contiguous_format)
        self.encoder = encoder
        self.up = steps_up(encoder.channels, decoder_channels)
        *coarse, finest = decoder_channels
        self.side_heads = nn.ModuleList(nn.Conv2d(c, 1, kernel_size=1) for c in coarse)
        self.cell = encoder.strides[0]  # side of the finest map's cells
        self.fine_head = nn.Conv2d(finest, self.cell**2, kernel_size=3, padding=1)
        self.direction_head = nn.Conv2d(finest, 2, kernel_size=3, padding=1)
        n_sides = len(decoder_channels)
        self.join = nn.Conv2d(n_sides, 1, kernel_size=1)
        self.reset_parameters(generator)

    def reset_parameters(self, generator: torch.Generator | None = None) -> None:
        """Draw new weights of the decoder from N(0, 2 / fan_in); answers begin small.

        Parameters
        ----------
        generator : torch.Generator, optional
        """
        for module in self.up.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu", generator=generator)
        usual = torch.logit(torch.tensor(FIRST_SHARE)).item()
        for head in (*self.side_heads, self.fine_head):
            nn.init.normal_(head.weight, std=0.01, generator=generator)
            nn.init.constant_(head.bias, usual)
        nn.init.normal_(self.direction_head.weight, std=0.01, generator=generator)
        nn.init.zeros_(self.direction_head.bias)
        nn.init.constant_(self.join.weight, 1 / self.join.in_channels)
        nn.init.zeros_(self.join.bias)

    def forward(self, x: Tensor) -> ContourLogits | Tensor:
        """Compute contours.

        Parameters
        ----------
        x : (N, C, H, W) Tensor

        Returns
        -------
        ContourLogits, or (N, 3, H, W) Tensor
            In training all answers; else `joined` and `direction` of them, one after the other.
        """
        size = x.shape[2:]
        *skips, y = self.encoder(x)  # strides 2 4 8 16, 32
        sides = []
        for i, block in enumerate(self.up):
            y = block(y, skips.pop())  # (N, c, ...): 96 64 48 32 channels
            if i < len(self.side_heads):
                side = self.side_heads[i](y)
                sides.append(F.interpolate(side, size, mode="bilinear"))  # (N, 1, H, W)
        fine = F.pixel_shuffle(self.fine_head(y), self.cell)[:, :, : size[0], : size[1]]
        sides = torch.cat([*sides, fine], dim=1)  # (N, n_sides, H, W)
        joined = self.join(sides)
        direction = F.interpolate(self.direction_head(y), size, mode="bilinear")
        if self.training:
            return ContourLogits(joined, sides, direction)
        return torch.cat([joined, direction], dim=1)  # (N, 3, H, W)
