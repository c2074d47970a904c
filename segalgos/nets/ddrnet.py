"""DDRNet [1]_: a fine and a coarse path side by side that tell each other what they see.

References
----------
.. [1] Y. Hong, H. Pan, W. Sun and Y. Jia, "Deep dual-resolution networks for real-time and
   accurate semantic segmentation of road scenes", 2021, arXiv:2101.06085.
"""

from __future__ import annotations

import os
from typing import Any, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from segalgos import checks
from segalgos.base import Traits
from segalgos.nets.norm import BatchNorm2d
from segalgos.nets.semantic import SemanticNetSegmenter
from segalgos.nets.semantic_net import CoarseNet
from segalgos.nets.trunk import Trunk
from segalgos.pretrained_encoder import PretrainedEncoder

__all__ = ["DDRNet", "DDRNetSegmenter"]


def _conv(c_in: int, c_out: int, kernel_size: int, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(c_in, c_out, kernel_size, stride, padding=kernel_size // 2, bias=False)


def _conv_norm(c_in: int, c_out: int, kernel_size: int, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(_conv(c_in, c_out, kernel_size, stride), BatchNorm2d(c_out))


def _norm_relu_conv(c_in: int, c_out: int, kernel_size: int, *before: nn.Module) -> nn.Sequential:
    return nn.Sequential(
        *before, BatchNorm2d(c_in), nn.ReLU(inplace=True), _conv(c_in, c_out, kernel_size)
    )


def _resize(x: Tensor, like: Tensor) -> Tensor:
    return F.interpolate(x, size=like.shape[2:], mode="bilinear")


class BasicBlock(nn.Module):
    """ReLU, then two 3x3 convolutions, and the input added: RB in the paper's figures.

    Parameters
    ----------
    c_in, c_out : int
        Channels.
    stride : int, default=1
        Of the first convolution.

    Notes
    -----
    The paper draws the ReLU at the end of a block, and leaves it out at the end of a layer,
    where both paths want the values before it. Every layer is followed by a ReLU, so here it
    begins the next block: the same values without the exception.
    """

    def __init__(self, c_in: int, c_out: int, stride: int = 1):
        super().__init__()
        self.conv1 = _conv(c_in, c_out, 3, stride)
        self.bn1 = BatchNorm2d(c_out)
        self.conv2 = _conv(c_out, c_out, 3)
        self.bn2 = BatchNorm2d(c_out)
        same = stride == 1 and c_in == c_out
        self.downsample = None if same else _conv_norm(c_in, c_out, 1, stride)

    def forward(self, x: Tensor) -> Tensor:
        """Apply the block.

        Parameters
        ----------
        x : (N, c_in, H, W) Tensor

        Returns
        -------
        (N, c_out, ceil(H / stride), ceil(W / stride)) Tensor
        """
        x = F.relu(x)
        y = F.relu(self.bn1(self.conv1(x)), inplace=True)  # (N, c_out, H', W')
        y = self.bn2(self.conv2(y))
        return y + (x if self.downsample is None else self.downsample(x))


class Bottleneck(nn.Module):
    """ReLU, 1x1, 3x3 and 1x1 convolutions, and the projected input added: RBB in the figures.

    Parameters
    ----------
    c : int
        Channels of the input; the output has twice as many.
    stride : int, default=1
        Of the 3x3 convolution.
    """

    def __init__(self, c: int, stride: int = 1):
        super().__init__()
        self.conv1 = _conv(c, c, 1)
        self.bn1 = BatchNorm2d(c)
        self.conv2 = _conv(c, c, 3, stride)
        self.bn2 = BatchNorm2d(c)
        self.conv3 = _conv(c, 2 * c, 1)
        self.bn3 = BatchNorm2d(2 * c)
        self.downsample = _conv_norm(c, 2 * c, 1, stride)

    def forward(self, x: Tensor) -> Tensor:
        """Apply the block.

        Parameters
        ----------
        x : (N, c, H, W) Tensor

        Returns
        -------
        (N, 2 c, ceil(H / stride), ceil(W / stride)) Tensor
        """
        x = F.relu(x)
        y = F.relu(self.bn1(self.conv1(x)), inplace=True)  # (N, c, H, W)
        y = F.relu(self.bn2(self.conv2(y)), inplace=True)  # (N, c, H', W')
        return self.bn3(self.conv3(y)) + self.downsample(x)  # (N, 2 c, H', W')


class DAPPM(nn.Module):
    """Deep aggregation pyramid pooling: context of growing extent, each added to the last.

    Parameters
    ----------
    c_in, c_branch, c_out : int
        Channels of the input, of each branch and of the output.

    Notes
    -----
    In training the global branch has one value a
    channel for each image; for a single image it is normalised by the running statistics, as
    `segalgos.nets.norm.BatchNorm2d` does.
    """

    def __init__(self, c_in: int, c_branch: int, c_out: int):
        super().__init__()
        self.scale0 = _norm_relu_conv(c_in, c_branch, 1)
        self.scale1 = _norm_relu_conv(c_in, c_branch, 1, nn.AvgPool2d(5, 2, padding=2))
        self.scale2 = _norm_relu_conv(c_in, c_branch, 1, nn.AvgPool2d(9, 4, padding=4))
        self.scale3 = _norm_relu_conv(c_in, c_branch, 1, nn.AvgPool2d(17, 8, padding=8))
        self.scale4 = _norm_relu_conv(c_in, c_branch, 1, nn.AdaptiveAvgPool2d(1))
        self.process1 = _norm_relu_conv(c_branch, c_branch, 3)
        self.process2 = _norm_relu_conv(c_branch, c_branch, 3)
        self.process3 = _norm_relu_conv(c_branch, c_branch, 3)
        self.process4 = _norm_relu_conv(c_branch, c_branch, 3)
        self.compression = _norm_relu_conv(5 * c_branch, c_out, 1)
        self.shortcut = _norm_relu_conv(c_in, c_out, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Gather context.

        Parameters
        ----------
        x : (N, c_in, H, W) Tensor

        Returns
        -------
        (N, c_out, H, W) Tensor
        """
        y0 = self.scale0(x)  # (N, c_branch, H, W), as are all below
        y1 = self.process1(_resize(self.scale1(x), like=x) + y0)
        y2 = self.process2(_resize(self.scale2(x), like=x) + y1)
        y3 = self.process3(_resize(self.scale3(x), like=x) + y2)
        y4 = self.process4(_resize(self.scale4(x), like=x) + y3)
        y = torch.cat([y0, y1, y2, y3, y4], dim=1)  # (N, 5 c_branch, H, W)
        return self.compression(y) + self.shortcut(x)  # (N, c_out, H, W)


class SegmentationHead(nn.Module):
    """A 3x3 and a 1x1 convolution, each after normalisation and ReLU.

    Parameters
    ----------
    c_in, c, n_classes : int
        Channels of the input, inside and of the output.
    """

    def __init__(self, c_in: int, c: int, n_classes: int):
        super().__init__()
        self.bn1 = BatchNorm2d(c_in)
        self.conv1 = _conv(c_in, c, 3)
        self.bn2 = BatchNorm2d(c)
        self.conv2 = nn.Conv2d(c, n_classes, kernel_size=1)

    def forward(self, x: Tensor) -> Tensor:
        """Score the classes.

        Parameters
        ----------
        x : (N, c_in, H, W) Tensor

        Returns
        -------
        (N, n_classes, H, W) Tensor
        """
        x = self.conv1(F.relu(self.bn1(x), inplace=True))  # (N, c, H, W)
        return self.conv2(F.relu(self.bn2(x), inplace=True))  # (N, n_classes, H, W)


class DDRNet(CoarseNet):
    """DDRNet-23-slim of Hong et al. 2021.

    Parameters
    ----------
    in_channels, n_classes : int
    base_channels : int, default=32
        Channels of the first layers, a multiple of 8; the deepest has 16 times as many.
    context_channels : int, default=128
        Of each branch of the pyramid pooling.
    head_channels : int, default=64
        Inside the heads.
    auxiliary : bool, default=False
        Have a second head on the fine path after the first fusion, for training.
    generator : torch.Generator, optional
        For the initial weights.

    Attributes
    ----------
    stride : int
        8: the logits are computed for cells of 8 x 8 pixels.
    margin : int
        0: the output is as large as the input.
    halo : None
        The pyramid pooling sees the whole image.

    Notes
    -----
    `base_channels` 64 and `head_channels` 128 make DDRNet-23. Names of parameters are those
    of the authors' code, and the values are the same for sizes it takes, multiples of 8. Any
    other height and width is taken, too: the cells at the right and bottom border are then
    cut.

    Weights start from N(0, 2 / fan_out) as the authors' do, biases from zero. Any batch
    size: where one image has a single value a channel left, it is normalised by the running
    statistics.

    `load_checkpoint` also takes files of network and loss together, whose names begin with
    ``model.`` and ``loss.``.

    References
    ----------
    .. [1] Y. Hong, H. Pan, W. Sun and Y. Jia, "Deep dual-resolution networks for real-time
       and accurate semantic segmentation of road scenes", 2021, arXiv:2101.06085.
    """

    stride = 8
    memory_format = torch.channels_last

    def __init__(
        self,
        in_channels: int,
        n_classes: int,
        *,
        base_channels: int = 32,
        context_channels: int = 128,
        head_channels: int = 64,
        auxiliary: bool = False,
        generator: torch.Generator | None = None,
    ):
        super().__init__()
        if base_channels < 8 or base_channels % 8:
            # With 4, oneDNN's gradient of a strided 1x1 convolution writes beyond its memory.
            raise ValueError(f"DDRNet: base_channels is {base_channels}, expected a multiple of 8.")
        c = base_channels
        self.conv1 = nn.Sequential(
            nn.Conv2d(in_channels, c, kernel_size=3, stride=2, padding=1),
            BatchNorm2d(c),
            nn.ReLU(inplace=True),
            nn.Conv2d(c, c, kernel_size=3, stride=2, padding=1),
            BatchNorm2d(c),
        )
        self.layer1 = nn.Sequential(BasicBlock(c, c), BasicBlock(c, c))
        self.layer2 = nn.Sequential(BasicBlock(c, 2 * c, stride=2), BasicBlock(2 * c, 2 * c))

        # The coarse path; a trailing underscore marks the fine one.
        self.layer3 = nn.Sequential(BasicBlock(2 * c, 4 * c, stride=2), BasicBlock(4 * c, 4 * c))
        self.layer4 = nn.Sequential(BasicBlock(4 * c, 8 * c, stride=2), BasicBlock(8 * c, 8 * c))
        self.layer5 = nn.Sequential(Bottleneck(8 * c, stride=2))
        self.spp = DAPPM(16 * c, context_channels, 4 * c)

        self.layer3_ = nn.Sequential(BasicBlock(2 * c, 2 * c), BasicBlock(2 * c, 2 * c))
        self.layer4_ = nn.Sequential(BasicBlock(2 * c, 2 * c), BasicBlock(2 * c, 2 * c))
        self.layer5_ = nn.Sequential(Bottleneck(2 * c))

        self.compression3 = _conv_norm(4 * c, 2 * c, 1)
        self.compression4 = _conv_norm(8 * c, 2 * c, 1)
        self.down3 = _conv_norm(2 * c, 4 * c, 3, stride=2)
        self.down4 = nn.Sequential(
            *_conv_norm(2 * c, 4 * c, 3, stride=2),
            nn.ReLU(inplace=True),
            *_conv_norm(4 * c, 8 * c, 3, stride=2),
        )

        self.has_aux = auxiliary
        self.seghead_extra = (
            SegmentationHead(2 * c, head_channels, n_classes) if auxiliary else None
        )
        self.final_layer = SegmentationHead(4 * c, head_channels, n_classes)
        self.reset_parameters(generator)

    def reset_parameters(self, generator: torch.Generator | None = None) -> None:
        """Draw new weights from N(0, 2 / fan_out); biases become zero.

        Parameters
        ----------
        generator : torch.Generator, optional
        """
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(
                    module.weight, mode="fan_out", nonlinearity="relu", generator=generator
                )
                if module.bias is not None:
                    nn.init.zeros_(module.bias)

    def feature_map(self, x: Tensor) -> Tensor:
        """Compute what the last head takes.

        Parameters
        ----------
        x : (N, in_channels, H, W) Tensor

        Returns
        -------
        (N, 4 * base_channels, H / 8, W / 8) Tensor
            Sides are rounded up.
        """
        return self._paths(x)[0]

    def coarse_scores(self, x: Tensor) -> Tensor:
        """Compute class scores on the network's own grid.

        Parameters
        ----------
        x : (N, in_channels, H, W) Tensor

        Returns
        -------
        (N, n_classes, H / 8, W / 8) Tensor
            Sides are rounded up.
        """
        last, _ = self._paths(x)
        return self.final_layer(last)

    def coarse_scores_with_aux(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Compute class scores, and those of the auxiliary head.

        Parameters
        ----------
        x : (N, in_channels, H, W) Tensor

        Returns
        -------
        scores : (N, n_classes, H / 8, W / 8) Tensor
            Those of `coarse_scores`.
        aux_scores : (N, n_classes, H / 8, W / 8) Tensor
            The authors add their loss, times 0.4.
        """
        last, fused = self._paths(x)
        return self.final_layer(last), self.seghead_extra(fused)

    def extent(self, size: tuple[int, int]) -> tuple[int, int]:
        """Find what the grid of scores spans: cells are 8 pixels, also where the border cuts them.

        Parameters
        ----------
        size : tuple of int
            Height and width of the input.

        Returns
        -------
        tuple of int
            In pixels.
        """
        height, width = (-(-n // self.stride) * self.stride for n in size)
        return height, width

    def _paths(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """What the two heads take: the last fine map, and that after the first exchange."""
        x = self.layer1(self.conv1(x))  # (N, c, H / 4, W / 4)
        x = self.layer2(x)  # (N, 2 c, H / 8, W / 8)

        fine = self.layer3_(x)  # (N, 2 c, H / 8, W / 8)
        coarse = self.layer3(x)  # (N, 4 c, H / 16, W / 16)
        fine, coarse = (
            fine + _resize(self.compression3(F.relu(coarse)), like=fine),
            coarse + self.down3(F.relu(fine)),
        )
        fused = fine

        fine = self.layer4_(fine)  # (N, 2 c, H / 8, W / 8)
        coarse = self.layer4(coarse)  # (N, 8 c, H / 32, W / 32)
        fine, coarse = (
            fine + _resize(self.compression4(F.relu(coarse)), like=fine),
            coarse + self.down4(F.relu(fine)),
        )

        fine = self.layer5_(fine)  # (N, 4 c, H / 8, W / 8)
        coarse = self.spp(self.layer5(coarse))  # (N, 4 c, H / 64, W / 64)
        return fine + _resize(coarse, like=fine), fused

    def _own_names(self, weights: dict[str, Tensor]) -> dict[str, Tensor]:
        """Take the network's weights out of those of network and loss together."""
        if not weights or not all(name.startswith(("model.", "loss.")) for name in weights):
            return weights
        return {
            name.removeprefix("model."): tensor
            for name, tensor in weights.items()
            if name.startswith("model.")
        }


class DDRNetSegmenter(SemanticNetSegmenter):
    """DDRNet-23-slim: a fine and a coarse path side by side, for segmentation in real time.

    Parameters
    ----------
    base_channels : int, default=32
        Channels of the first layers, a multiple of 8. 64 and `head_channels` 128 make
        DDRNet-23.
    context_channels : int, default=128
        Of each branch of the pyramid pooling.
    head_channels : int, default=64
        Inside the heads.
    auxiliary : bool, default=True
        Train a second head on the fine path, by 0.4 times its loss.
    pretrained : path-like or PretrainedEncoder, optional
        Start all but the heads from images without labels: what `segalgos.training.pretrain` gave
        for a segmenter of the same sizes, or a file of it.
    crop_size : int, default=320
        Height and width of the crops trained on, in pixels; rounded up to what the network
        can make.
    tile_size : int, default=1024
        Larger images are predicted in windows of this height and width, which overlap by a
        quarter and are blended.
    **training
        Parameters of every net: those of `SemanticNetSegmenter`.

    Attributes
    ----------
    classes_ : (K,) int32
        Class ids, sorted.
    network_ : DDRNet
    n_parameters_ : int
    history_ : list of dict
        One row an epoch: epoch, steps, loss, learning_rate, seconds and, where it was
        validated, score.
    mean_, std_ : (C,) float64
        Images are standardised with them: of the training images by channel, or with
        `pretrained` of those that it was trained on.

    Notes
    -----
    Images, labels and weights of any size are taken as they are; pixels labelled -1 change
    nothing. The pyramid pooling spans the window: very large images are predicted in
    several. With the same `random_state` and `epochs` the result is the same bit for bit,
    whatever the number of threads.

    References
    ----------
    .. [1] Y. Hong, H. Pan, W. Sun and Y. Jia, "Deep dual-resolution networks for real-time
       and accurate semantic segmentation of road scenes", 2021, arXiv:2101.06085.

    Examples
    --------
    >>> import numpy as np
    >>> from segalgos import DDRNetSegmenter
    >>> image = np.zeros((32, 32)); image[8:24, 8:24] = 1
    >>> segmenter = DDRNetSegmenter.small().fit(image, image.astype(int))
    >>> segmenter.predict(image).shape
    (32, 32)
    """

    traits = Traits(
        task="semantic",
        family="nets",
        year=2021,
        needs_fit=True,
        needs_labels=True,
        takes_sample_weight=True,
        deterministic=False,
        keeps_uint8=True,
    )

    def __init__(
        self,
        *,
        base_channels: int = 32,
        context_channels: int = 128,
        head_channels: int = 64,
        auxiliary: bool = True,
        pretrained: str | os.PathLike | PretrainedEncoder | None = None,
        crop_size: int = 320,
        tile_size: int = 1024,
        **training: Any,
    ):
        super().__init__(crop_size=crop_size, tile_size=tile_size, **training)
        self.base_channels = base_channels
        self.context_channels = context_channels
        self.head_channels = head_channels
        self.auxiliary = auxiliary
        self.pretrained = pretrained

    @classmethod
    def small(cls) -> Self:
        """Make an instance with tiny parameters, for tests and demos.

        Returns
        -------
        DDRNetSegmenter
        """
        return cls(
            base_channels=8,
            context_channels=8,
            head_channels=8,
            auxiliary=False,
            epochs=6,
            batch_size=2,
            crop_size=32,
            learning_rate=0.01,
            random_state=0,
        )

    def _check_params(self) -> None:
        super()._check_params()
        caller = self._caller
        checks.check_int(caller, "base_channels", self.base_channels, low=8)
        if self.base_channels % 8:
            raise ValueError(
                f"{caller}: base_channels is {self.base_channels}, expected a multiple of 8."
            )
        checks.check_int(caller, "context_channels", self.context_channels, low=1)
        checks.check_int(caller, "head_channels", self.head_channels, low=1)
        checks.check_bool(caller, "auxiliary", self.auxiliary)

    def _build(self, n_channels: int, n_classes: int, generator: torch.Generator) -> nn.Module:
        return DDRNet(
            n_channels,
            n_classes,
            base_channels=self.base_channels,
            context_channels=self.context_channels,
            head_channels=self.head_channels,
            auxiliary=self.auxiliary,
            generator=generator,
        )

    def _encoder(self, network: nn.Module) -> nn.Module:
        heads = ("final_layer.", "seghead_extra.")
        return Trunk(network, 4 * self.base_channels, network.stride, heads)
