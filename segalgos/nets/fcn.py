"""Fully convolutional networks [1]_: a classifier that slides, and its scores made dense.

References
----------
.. [1] J. Long, E. Shelhamer and T. Darrell, "Fully convolutional networks for semantic
   segmentation", CVPR 2015, arXiv:1411.4038.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from segalgos import checks
from segalgos.base import Traits
from segalgos.nets.checkpoints import read_weights
from segalgos.nets.encoders.vgg import VGG16
from segalgos.nets.fcn_resnet import FCNResNet
from segalgos.nets.semantic import SemanticNetSegmenter
from segalgos.nets.semantic_net import SemanticNet
from segalgos.pretrained_encoder import PretrainedEncoder

__all__ = ["FCN", "FCNSegmenter", "bilinear_kernel"]

# Side of the cells that the last upsampling starts from, in pixels.
LAST_STEP = {"32s": 32, "16s": 16, "8s": 8}
PADDINGS = ("full", "same")
RESNET_VARIANTS = ("resnet50", "resnet101")

# Names in the caffe models and their ports, and ours.
_PORT_NAMES = {"upscore8": "upscore", "upscore16": "upscore"} | {
    f"conv{block}_{conv}": f"backbone.features.{index}"
    for block, indices in enumerate(
        [(0, 2), (5, 7), (10, 12, 14), (17, 19, 21), (24, 26, 28)], start=1
    )
    for conv, index in enumerate(indices, start=1)
}


def bilinear_kernel(step: int) -> Tensor:
    """Make the weights by which a transposed convolution of stride `step` interpolates.

    Parameters
    ----------
    step : int
        Even.

    Returns
    -------
    (2 * step, 2 * step) Tensor
    """
    position = torch.arange(2 * step) - (step - 0.5)  # from the middle of the kernel
    line = 1 - position.abs() / step
    return line[:, None] * line


def _upsampling(n_classes: int, step: int) -> nn.ConvTranspose2d:
    return nn.ConvTranspose2d(n_classes, n_classes, kernel_size=2 * step, stride=step, bias=False)


def _crop(x: Tensor, start: int, size: torch.Size) -> Tensor:
    return x[:, :, start : start + size[0], start : start + size[1]]


class FCN(SemanticNet):
    """FCN-32s, FCN-16s and FCN-8s of Long et al. 2015 (Fig. 3), on VGG16.

    Parameters
    ----------
    in_channels, n_classes : int
    variant : {"8s", "16s", "32s"}, default="8s"
        Pixels of the last upsampling. "16s" adds scores of the fourth pooling, "8s" of the
        third as well.
    padding : {"full", "same"}, default="full"
        "full" is the published models': 100 pixels of zeros around the image, so that the
        7x7 convolution needs none. "same" pads each convolution by half its size, for about
        40 % of the work on 256 x 256 pixels, 15 % on 96 x 96. Weights trained with one suit
        the other, away from the border.
    base_channels : int, default=64
        Channels of VGG16's first map.
    fc_channels : int, default=4096
        Of the two layers that were fully connected in the classifier. They hold nearly all
        weights: fewer channels make a small network.
    dropout : float, default=0.5
        After each of these layers, in training.
    generator : torch.Generator, optional
        For the initial weights.

    Attributes
    ----------
    stride : int
        32: windows aligned to it give the same output as the whole image.
    margin : int
        0: the output is as large as the input.
    halo : int
        256: pixels around an output that it depends on, at most.
    imagenet_mean, imagenet_std : tuple of float
        Those of `VGG16`.

    Notes
    -----
    As in the paper: scores by 1x1 convolutions that start at zero, added from coarse to
    fine; upsampling by transposed convolutions that start as bilinear interpolation and are
    learned. The paper starts from a trained VGG16 (`load_imagenet`). Without one, weights
    come from N(0, 2 / fan_in).

    Any batch size, height and width. `load_checkpoint` understands the names of the caffe models
    (``conv1_1``, ``upscore8``) and ours.

    References
    ----------
    .. [1] J. Long, E. Shelhamer and T. Darrell, "Fully convolutional networks for semantic
       segmentation", CVPR 2015, arXiv:1411.4038.
    """

    stride = 32
    halo = 256
    size_step = 1
    imagenet_mean = VGG16.imagenet_mean
    imagenet_std = VGG16.imagenet_std

    def __init__(
        self,
        in_channels: int,
        n_classes: int,
        *,
        variant: str = "8s",
        padding: str = "full",
        base_channels: int = 64,
        fc_channels: int = 4096,
        dropout: float = 0.5,
        generator: torch.Generator | None = None,
    ):
        super().__init__()
        checks.check_choice("FCN", "variant", variant, tuple(LAST_STEP))
        checks.check_choice("FCN", "padding", padding, PADDINGS)
        self.variant = variant
        full = padding == "full"
        self.border = 99 if full else 0  # cells of conv1_1 before the first pixel
        self.lost = 3 if full else 0  # cells of pool5 before the first of fc6
        self.backbone = VGG16(in_channels, padding=100 if full else 1, base_channels=base_channels)
        _, _, c_pool3, c_pool4, c_pool5 = self.backbone.channels
        self.fc6 = nn.Conv2d(c_pool5, fc_channels, kernel_size=7, padding=0 if full else 3)
        self.fc7 = nn.Conv2d(fc_channels, fc_channels, kernel_size=1)
        self.dropout = nn.Dropout(dropout)
        self.score_fr = nn.Conv2d(fc_channels, n_classes, kernel_size=1)
        if variant in ("16s", "8s"):
            self.upscore2 = _upsampling(n_classes, 2)
            self.score_pool4 = nn.Conv2d(c_pool4, n_classes, kernel_size=1)
        if variant == "8s":
            self.upscore_pool4 = _upsampling(n_classes, 2)
            self.score_pool3 = nn.Conv2d(c_pool3, n_classes, kernel_size=1)
        self.upscore = _upsampling(n_classes, LAST_STEP[variant])
        self.reset_parameters(generator)

    def reset_parameters(self, generator: torch.Generator | None = None) -> None:
        """Draw new weights: scores become zero, upsampling bilinear.

        Parameters
        ----------
        generator : torch.Generator, optional
        """
        self.backbone.reset_parameters(generator)
        for name, layer in self.named_children():
            if name in ("fc6", "fc7"):
                nn.init.kaiming_normal_(layer.weight, nonlinearity="relu", generator=generator)
                nn.init.zeros_(layer.bias)
            elif name.startswith("score"):
                nn.init.zeros_(layer.weight)
                nn.init.zeros_(layer.bias)
            elif name.startswith("upscore"):
                with torch.no_grad():  # each class from its own scores alone
                    layer.weight.zero_()
                    classes = torch.arange(layer.in_channels)
                    layer.weight[classes, classes] = bilinear_kernel(layer.stride[0]).to(
                        layer.weight
                    )

    def forward(self, x: Tensor) -> Tensor:
        """Compute class scores.

        Parameters
        ----------
        x : (N, in_channels, H, W) Tensor

        Returns
        -------
        (N, n_classes, H, W) Tensor
            Logits.
        """
        size = x.shape[2:]
        _, _, pool3, pool4, pool5 = self.backbone(x)  # (N, 256 512 512, h / 8 16 32, ...)
        x = self.dropout(F.relu(self.fc6(pool5), inplace=True))  # (N, fc_channels, h / 32, ...)
        x = self.dropout(F.relu(self.fc7(x), inplace=True))
        x = self.score_fr(x)  # (N, n_classes, h / 32, w / 32)
        start = self.lost  # of x, in cells of the pooling at its scale
        if self.variant in ("16s", "8s"):
            x, start = _add(self.upscore2(x), 2 * start - 1, self.score_pool4(pool4))  # h / 16
        if self.variant == "8s":
            x, start = _add(self.upscore_pool4(x), 2 * start - 1, self.score_pool3(pool3))  # h / 8
        step = LAST_STEP[self.variant]
        x = self.upscore(x)  # starts half a step early
        return _crop(x, self.border - (step * start - step // 2), size)  # (N, n_classes, H, W)

    def load_imagenet(self, source: str | os.PathLike | Mapping[str, Tensor]) -> Self:
        """Load a VGG16 classifier, its fully connected layers as convolutions.

        Parameters
        ----------
        source : path-like or mapping of str to Tensor
            With torchvision's names, as in `VGG16.load_imagenet`. Its last layer is left out,
            and so are the two before it if they have not `fc_channels` channels.

        Returns
        -------
        FCN
            Itself.

        Raises
        ------
        ValueError
            If any other name is missing or left over, or a shape differs.
        """
        weights, taken = read_weights(source), {}
        for layer, name in ((self.fc6, "classifier.0"), (self.fc7, "classifier.3")):
            for key, own in layer.named_parameters():
                tensor = weights.get(f"{name}.{key}")
                if tensor is None:
                    raise ValueError(
                        f"FCN: the checkpoint misses {name}.{key}: pass all of a VGG16, or use "
                        "backbone.load_imagenet."
                    )
                if tensor.numel() == own.numel():  # the same sums, slid over the map
                    taken[f"{name}.{key}"] = own, tensor.reshape(own.shape)
        if len(taken) < 4:
            taken = {}
        self.backbone.load_imagenet(weights)
        with torch.no_grad():
            for own, tensor in taken.values():
                own.copy_(tensor)
        return self

    def _own_names(self, weights: dict[str, Tensor]) -> dict[str, Tensor]:
        """Rename weights of the caffe models and their ports."""
        renamed = {}
        for name, tensor in weights.items():
            layer, dot, key = name.rpartition(".")
            renamed[_PORT_NAMES.get(layer, layer) + dot + key] = tensor
        return renamed


def _add(x: Tensor, start: int, skip: Tensor) -> tuple[Tensor, int]:
    """Add scores of a pooling to upsampled ones that begin at its cell `start`."""
    if start < 0:
        x, start = _crop(x, -start, skip.shape[2:]), 0
    return x + _crop(skip, start, x.shape[2:]), start


class FCNSegmenter(SemanticNetSegmenter):
    """FCN: a classifier that slides over the image, its coarse scores refined by finer ones.

    Parameters
    ----------
    variant : {"8s", "16s", "32s", "resnet50", "resnet101"}, default="8s"
        The paper's on VGG16, by the stride of its finest scores, or torchvision's on a
        ResNet, at stride 8.
    base_channels : int, default=64
        Channels of the first map, on ResNets a multiple of 8. Fewer make a small network of
        the same form, to which no published weights fit.
    fc_channels : int, default=4096
        Of the two widest layers on VGG16. They hold nearly all weights.
    dropout : float, default=0.5
        After each of these, in training.
    pretrained : path-like or PretrainedEncoder, optional
        File of weights of an ImageNet classifier that the encoder starts from, with
        torchvision's names.
        Or what `segalgos.training.pretrain` gave, or a file of it.
    learning_rate : float, default=1e-4
        At the end of the warm-up.
    **training
        Parameters of every net: those of `SemanticNetSegmenter`.

    Attributes
    ----------
    classes_ : (K,) int32
        Class ids, sorted.
    network_ : FCN or FCNResNet
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
    nothing. Convolutions are padded by half their size, for much less work on small crops
    than with the published 100 pixels. With the same `random_state` and `epochs` the result
    is the same bit for bit, whatever the number of threads.

    References
    ----------
    .. [1] J. Long, E. Shelhamer and T. Darrell, "Fully convolutional networks for semantic
       segmentation", CVPR 2015, arXiv:1411.4038.

    Examples
    --------
    >>> import numpy as np
    >>> from segalgos import FCNSegmenter
    >>> image = np.zeros((32, 32)); image[8:24, 8:24] = 1
    >>> segmenter = FCNSegmenter.small().fit(image, image.astype(int))
    >>> segmenter.predict(image).shape
    (32, 32)
    """

    traits = Traits(
        task="semantic",
        family="nets",
        year=2015,
        needs_fit=True,
        needs_labels=True,
        takes_sample_weight=True,
        deterministic=False,
        keeps_uint8=True,
    )

    def __init__(
        self,
        variant: str = "8s",
        *,
        base_channels: int = 64,
        fc_channels: int = 4096,
        dropout: float = 0.5,
        pretrained: str | os.PathLike | PretrainedEncoder | None = None,
        learning_rate: float = 1e-4,
        **training: Any,
    ):
        super().__init__(learning_rate=learning_rate, **training)
        self.variant = variant
        self.base_channels = base_channels
        self.fc_channels = fc_channels
        self.dropout = dropout
        self.pretrained = pretrained

    @classmethod
    def small(cls) -> Self:
        """Make an instance with tiny parameters, for tests and demos.

        Returns
        -------
        FCNSegmenter
        """
        return cls(
            "32s",
            base_channels=4,
            fc_channels=8,
            epochs=3,
            batch_size=2,
            crop_size=32,
            learning_rate=0.01,
            random_state=0,
        )

    def _check_params(self) -> None:
        super()._check_params()
        caller = self._caller
        checks.check_choice(caller, "variant", self.variant, (*LAST_STEP, *RESNET_VARIANTS))
        checks.check_int(caller, "base_channels", self.base_channels, low=1)
        if self.variant in RESNET_VARIANTS and self.base_channels % 8:
            raise ValueError(
                f"{caller}: base_channels is {self.base_channels}, expected a multiple of 8 for "
                f"{self.variant}."
            )
        checks.check_int(caller, "fc_channels", self.fc_channels, low=1)
        checks.check_real(caller, "dropout", self.dropout, low=0, high=0.99)

    def _build(self, n_channels: int, n_classes: int, generator: torch.Generator) -> nn.Module:
        if self.variant in RESNET_VARIANTS:
            return FCNResNet(
                n_channels,
                n_classes,
                backbone=self.variant,
                base_channels=self.base_channels,
                generator=generator,
            )
        return FCN(
            n_channels,
            n_classes,
            variant=self.variant,
            padding="same",
            base_channels=self.base_channels,
            fc_channels=self.fc_channels,
            dropout=self.dropout,
            generator=generator,
        )

    def _encoder(self, network: nn.Module) -> nn.Module:
        return network if isinstance(network, FCN) else network.backbone

    def _map_encoder(self, network: nn.Module) -> nn.Module:
        return network.backbone
