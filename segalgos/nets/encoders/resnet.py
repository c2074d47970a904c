"""ResNet [1]_ as an encoder, with atrous convolutions in place of strides [2]_ where asked for.

References
----------
.. [1] K. He, X. Zhang, S. Ren and J. Sun, "Deep residual learning for image recognition",
   CVPR 2016, arXiv:1512.03385.
.. [2] L.-C. Chen, G. Papandreou, F. Schroff and H. Adam, "Rethinking atrous convolution for
   semantic image segmentation", arXiv:1706.05587, 2017.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from segalgos import checks
from segalgos.nets.encoders.imagenet import load_classifier
from segalgos.nets.norm import BatchNorm2d

__all__ = ["RESNETS", "BasicBlock", "Bottleneck", "ResNet"]


def _conv3x3(c_in: int, c_out: int, stride: int, dilation: int) -> nn.Conv2d:
    return nn.Conv2d(
        c_in, c_out, kernel_size=3, stride=stride, padding=dilation, dilation=dilation, bias=False
    )


def _conv1x1(c_in: int, c_out: int, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(c_in, c_out, kernel_size=1, stride=stride, bias=False)


def _shortcut(c_in: int, c_out: int, stride: int) -> nn.Sequential | None:
    """Option B of the paper: a projection where the shape changes, else the identity."""
    if stride == 1 and c_in == c_out:
        return None
    return nn.Sequential(_conv1x1(c_in, c_out, stride), BatchNorm2d(c_out))


class BasicBlock(nn.Module):
    """Two 3x3 convolutions and a shortcut (Fig. 5, left).

    Parameters
    ----------
    c_in, width : int
        Channels of the input, and of the convolutions and the result.
    stride : int
        Of the first convolution and the shortcut.
    dilation, next_dilation : int
        Of the first and of the second convolution.
    """

    expansion = 1
    n_conv3x3 = 2

    def __init__(self, c_in: int, width: int, stride: int, dilation: int, next_dilation: int):
        super().__init__()
        self.conv1 = _conv3x3(c_in, width, stride, dilation)
        self.bn1 = BatchNorm2d(width)
        self.conv2 = _conv3x3(width, width, 1, next_dilation)
        self.bn2 = BatchNorm2d(width)
        self.downsample = _shortcut(c_in, width, stride)

    def forward(self, x: Tensor) -> Tensor:
        """Add what the convolutions find to the input.

        Parameters
        ----------
        x : (N, c_in, H, W) Tensor

        Returns
        -------
        (N, width, H / stride, W / stride) Tensor
            Sizes rounded up.
        """
        shortcut = x if self.downsample is None else self.downsample(x)
        x = F.relu(self.bn1(self.conv1(x)), inplace=True)
        x = self.bn2(self.conv2(x))
        x += shortcut
        return F.relu(x, inplace=True)


class Bottleneck(nn.Module):
    """1x1, 3x3 and 1x1 convolutions and a shortcut (Fig. 5, right).

    Parameters
    ----------
    c_in, width : int
        Channels of the input, and of the 3x3 convolution; the result has ``4 * width``.
    stride : int
        Of the 3x3 convolution and the shortcut.
    dilation : int
        Of the 3x3 convolution.
    next_dilation : int
        Unused: no 3x3 convolution follows in the block.

    Notes
    -----
    The stride is at the 3x3 convolution, as in the published weights; the paper has it at
    the first 1x1 convolution.
    """

    expansion = 4
    n_conv3x3 = 1

    def __init__(self, c_in: int, width: int, stride: int, dilation: int, next_dilation: int):
        super().__init__()
        c_out = self.expansion * width
        self.conv1 = _conv1x1(c_in, width)
        self.bn1 = BatchNorm2d(width)
        self.conv2 = _conv3x3(width, width, stride, dilation)
        self.bn2 = BatchNorm2d(width)
        self.conv3 = _conv1x1(width, c_out)
        self.bn3 = BatchNorm2d(c_out)
        self.downsample = _shortcut(c_in, c_out, stride)

    def forward(self, x: Tensor) -> Tensor:
        """Add what the convolutions find to the input.

        Parameters
        ----------
        x : (N, c_in, H, W) Tensor

        Returns
        -------
        (N, 4 * width, H / stride, W / stride) Tensor
            Sizes rounded up.
        """
        shortcut = x if self.downsample is None else self.downsample(x)
        x = F.relu(self.bn1(self.conv1(x)), inplace=True)
        x = F.relu(self.bn2(self.conv2(x)), inplace=True)
        x = self.bn3(self.conv3(x))
        x += shortcut
        return F.relu(x, inplace=True)


# Kind of block, and blocks in each of the four stages (Table 1).
RESNETS = {
    "resnet18": (BasicBlock, (2, 2, 2, 2)),
    "resnet34": (BasicBlock, (3, 4, 6, 3)),
    "resnet50": (Bottleneck, (3, 4, 6, 3)),
    "resnet101": (Bottleneck, (3, 4, 23, 3)),
}


class ResNet(nn.Module):
    """The convolutions of a ResNet, with torchvision's parameter names.

    Parameters
    ----------
    in_channels : int
    variant : {"resnet18", "resnet34", "resnet50", "resnet101"}, default="resnet50"
    output_stride : {8, 16, 32}, default=32
        Of the last map. Below 32, the last one or two strides are left out, and the
        convolutions behind them dilated instead.
    base_channels : int, default=64
        Channels of the first map, a multiple of 8; fewer make a small network of the same form.
    generator : torch.Generator, optional
        For the initial weights.

    Attributes
    ----------
    channels : tuple of 5 int
        Of the maps that `forward` gives.
    strides : tuple of 5 int
        Pixels of the image from one cell of a map to the next.
    reach : int
        Pixels that a cell of the last map depends on, on each side of the pixel
        ``strides[-1] * cell``.
    imagenet_mean, imagenet_std : tuple of float
        What images of 0 to 255 were standardised with for the classifiers of `load_imagenet`.

    Notes
    -----
    Dilation changes no weight and no value: the dense maps hold the values of the strided
    ones at every second or fourth cell.

    Any batch size, height and width. Initial weights of convolutions come from
    N(0, 2 / fan_out), as in the reference.

    References
    ----------
    .. [1] K. He, X. Zhang, S. Ren and J. Sun, "Deep residual learning for image
       recognition", CVPR 2016, arXiv:1512.03385.
    """

    imagenet_mean = (123.675, 116.28, 103.53)
    imagenet_std = (58.395, 57.12, 57.375)

    def __init__(
        self,
        in_channels: int,
        variant: str = "resnet50",
        *,
        output_stride: int = 32,
        base_channels: int = 64,
        generator: torch.Generator | None = None,
    ):
        super().__init__()
        checks.check_choice("ResNet", "variant", variant, RESNETS)
        if base_channels < 8 or base_channels % 8:
            # With 4, oneDNN's gradient of a strided 1x1 convolution writes beyond its memory.
            raise ValueError(f"ResNet: base_channels is {base_channels}, expected a multiple of 8.")
        if output_stride not in (8, 16, 32):
            raise ValueError(f"ResNet: output_stride is {output_stride!r}, expected 8, 16 or 32.")
        block, n_blocks = RESNETS[variant]
        c = base_channels
        self.conv1 = nn.Conv2d(in_channels, c, kernel_size=7, stride=2, padding=3, bias=False)
        self.bn1 = BatchNorm2d(c)
        self.maxpool = nn.MaxPool2d(kernel_size=3, stride=2, padding=1)
        channels, strides = [c], [2]
        self.reach = 3 + 2 * 1  # of conv1, and of the pooling behind a stride of 2
        before = 4  # full stride of the map that enters a stage
        stages = []
        for width, n, full in zip((c, 2 * c, 4 * c, 8 * c), n_blocks, (4, 8, 16, 32)):
            # A stride that is left out makes later convolutions take wider steps instead.
            stride_in, stride_out = min(before, output_stride), min(full, output_stride)
            first, later = before // stride_in, full // stride_out
            blocks = [block(channels[-1], width, stride_out // stride_in, first, later)]
            c_out = block.expansion * width
            blocks += [block(c_out, width, 1, later, later) for _ in range(n - 1)]
            stages.append(nn.Sequential(*blocks))
            channels.append(c_out)
            strides.append(stride_out)
            self.reach += before + full * (n * block.n_conv3x3 - 1)
            before = full
        self.layer1, self.layer2, self.layer3, self.layer4 = stages
        self.channels = tuple(channels)
        self.strides = tuple(strides)
        self.reset_parameters(generator)

    def reset_parameters(self, generator: torch.Generator | None = None) -> None:
        """Draw new weights from N(0, 2 / fan_out); norms become the identity.

        Parameters
        ----------
        generator : torch.Generator, optional
        """
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(
                    module.weight, mode="fan_out", nonlinearity="relu", generator=generator
                )
            elif isinstance(module, BatchNorm2d):
                module.reset_parameters()

    def forward(self, x: Tensor) -> list[Tensor]:
        """Compute the map of each stage.

        Parameters
        ----------
        x : (N, in_channels, H, W) Tensor

        Returns
        -------
        list of 5 Tensor
            (N, channels[i], H / strides[i], W / strides[i]), sizes rounded up: before the
            first pooling, then behind each of the four stages.
        """
        maps = [F.relu(self.bn1(self.conv1(x)), inplace=True)]  # (N, 64, H / 2, W / 2)
        x = self.maxpool(maps[0])  # (N, 64, H / 4, W / 4)
        for stage in (self.layer1, self.layer2, self.layer3, self.layer4):
            x = stage(x)  # (N, c, h, w): 256 512 1024 2048 channels from bottlenecks
            maps.append(x)
        return maps

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
        if n_maps == 0:
            return []
        later = [self.layer1, self.layer2, self.layer3, self.layer4]
        return [self.conv1, self.bn1, *later[: n_maps - 1]]

    def load_imagenet(self, source: str | os.PathLike | Mapping[str, Tensor]) -> Self:
        """Load the weights of a classifier, such as torchvision's files hold.

        Parameters
        ----------
        source : path-like or mapping of str to Tensor
            A safetensors file, a file of ``torch.save`` (read without unpickling), or a
            state dict. Its ``fc`` is left out, its first convolution is fitted to
            `in_channels`.

        Returns
        -------
        ResNet
            Itself.

        Raises
        ------
        ValueError
            If any other name is missing or left over, or a shape differs.
        """
        load_classifier(self, source, first_conv="conv1.weight", classifier="fc.")
        return self
