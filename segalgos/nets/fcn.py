"""Fully convolutional networks [1]_: a classifier that slides, and its scores made dense.

References
----------
.. [1] J. Long, E. Shelhamer and T. Darrell, "Fully convolutional networks for semantic
   segmentation", CVPR 2015, arXiv:1411.4038.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from segalgos import checks
from segalgos.nets.checkpoints import load_weights, read_weights
from segalgos.nets.encoders.resnet import RESNETS, ResNet
from segalgos.nets.encoders.vgg import VGG16
from segalgos.nets.norm import BatchNorm2d

__all__ = ["FCN", "FCNHead", "FCNResNet", "bilinear_kernel", "reset_head"]

# Side of the cells that the last upsampling starts from, in pixels.
LAST_STEP = {"32s": 32, "16s": 16, "8s": 8}
PADDINGS = ("full", "same")

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


class FCN(nn.Module):
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

    Notes
    -----
    As in the paper: scores by 1x1 convolutions that start at zero, added from coarse to
    fine; upsampling by transposed convolutions that start as bilinear interpolation and are
    learned. The paper starts from a trained VGG16 (`load_imagenet`). Without one, weights
    come from N(0, 2 / fan_in).

    Any batch size, height and width.

    References
    ----------
    .. [1] J. Long, E. Shelhamer and T. Darrell, "Fully convolutional networks for semantic
       segmentation", CVPR 2015, arXiv:1411.4038.
    """

    stride = 32
    margin = 0
    halo = 256

    def __init__(
        self,
        in_channels: int,
        n_classes: int,
        *,
        variant: str = "8s",
        padding: str = "full",
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
        self.backbone = VGG16(in_channels, padding=100 if full else 1)
        self.fc6 = nn.Conv2d(512, fc_channels, kernel_size=7, padding=0 if full else 3)
        self.fc7 = nn.Conv2d(fc_channels, fc_channels, kernel_size=1)
        self.dropout = nn.Dropout(dropout)
        self.score_fr = nn.Conv2d(fc_channels, n_classes, kernel_size=1)
        if variant in ("16s", "8s"):
            self.upscore2 = _upsampling(n_classes, 2)
            self.score_pool4 = nn.Conv2d(512, n_classes, kernel_size=1)
        if variant == "8s":
            self.upscore_pool4 = _upsampling(n_classes, 2)
            self.score_pool3 = nn.Conv2d(256, n_classes, kernel_size=1)
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

    def fit_size(self, size: int) -> int:
        """Find the smallest height or width of output that is at least `size`.

        Parameters
        ----------
        size : int
            At least 1.

        Returns
        -------
        int
            `size`: every size fits.
        """
        return size

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

    def load_checkpoint(self, source: str | os.PathLike | Mapping[str, Tensor]) -> Self:
        """Load weights; nothing may be missing or left over.

        Parameters
        ----------
        source : path-like or mapping of str to Tensor
            A safetensors file, a file of ``torch.save`` (read without unpickling), or a
            state dict; the caffe models' names (``conv1_1``, ``upscore8``) are understood.

        Returns
        -------
        FCN
            Itself.

        Raises
        ------
        ValueError
            If names or shapes differ, or the file is damaged.
        """
        weights = {}
        for name, tensor in read_weights(source).items():
            layer, dot, key = name.rpartition(".")
            weights[_PORT_NAMES.get(layer, layer) + dot + key] = tensor
        load_weights(self, weights)
        return self


def _add(x: Tensor, start: int, skip: Tensor) -> tuple[Tensor, int]:
    """Add scores of a pooling to upsampled ones that begin at its cell `start`."""
    if start < 0:
        x, start = _crop(x, -start, skip.shape[2:]), 0
    return x + _crop(skip, start, x.shape[2:]), start


class FCNHead(nn.Sequential):
    """A 3x3 convolution to a quarter of the channels, then scores.

    Parameters
    ----------
    c_in, n_classes : int
    """

    def __init__(self, c_in: int, n_classes: int):
        super().__init__(
            nn.Conv2d(c_in, c_in // 4, kernel_size=3, padding=1, bias=False),
            BatchNorm2d(c_in // 4),
            nn.ReLU(inplace=True),
            nn.Dropout(0.1),
            nn.Conv2d(c_in // 4, n_classes, kernel_size=1),
        )


def reset_head(head: nn.Module, generator: torch.Generator | None = None) -> None:
    """Draw new weights for the layers on top of an encoder; norms become the identity.

    Parameters
    ----------
    head : torch.nn.Module
    generator : torch.Generator, optional

    Notes
    -----
    Weights and biases come from U(-a, a) with ``a = 1 / sqrt(fan_in)``: torch's first weights,
    which the reference leaves as they are.
    """
    for module in head.modules():
        if isinstance(module, nn.Conv2d):
            bound = module.weight[0].numel() ** -0.5
            for parameter in module.parameters():
                nn.init.uniform_(parameter, -bound, bound, generator=generator)
        elif isinstance(module, BatchNorm2d):
            module.reset_parameters()


class FCNResNet(nn.Module):
    """A fully convolutional network on a dilated ResNet, with torchvision's parameter names.

    Parameters
    ----------
    in_channels, n_classes : int
    backbone : {"resnet18", "resnet34", "resnet50", "resnet101"}, default="resnet50"
    auxiliary : bool, default=False
        Add a second head on the third stage, ``aux_classifier``: see `forward_with_aux`.
    generator : torch.Generator, optional
        For the initial weights.

    Attributes
    ----------
    stride : int
        8: windows aligned to it give the same output as the whole image.
    margin : int
        0: the output is as large as the input.
    halo : int
        Pixels around an output that it depends on, at most; a multiple of `stride`.

    Notes
    -----
    The network behind torchvision's ``fcn_resnet50`` and ``fcn_resnet101``: the last two
    strides of the encoder dilated instead, scores at an eighth of the image, interpolated
    bilinearly without skips.

    Any batch size, height and width. Sizes that are no multiple of 8 are interpolated by
    another factor, so windows agree with the whole image only on multiples (`fit_size`).

    References
    ----------
    .. [1] J. Long, E. Shelhamer and T. Darrell, "Fully convolutional networks for semantic
       segmentation", CVPR 2015, arXiv:1411.4038.
    """

    stride = 8
    margin = 0

    def __init__(
        self,
        in_channels: int,
        n_classes: int,
        *,
        backbone: str = "resnet50",
        auxiliary: bool = False,
        generator: torch.Generator | None = None,
    ):
        super().__init__()
        checks.check_choice("FCNResNet", "backbone", backbone, tuple(RESNETS))
        self.backbone = ResNet(in_channels, backbone, output_stride=8, generator=generator)
        *_, c_aux, c_last = self.backbone.channels
        self.classifier = FCNHead(c_last, n_classes)
        self.aux_classifier = FCNHead(c_aux, n_classes) if auxiliary else None
        for head in filter(None, (self.classifier, self.aux_classifier)):
            reset_head(head, generator)
        # The head looks one cell further, and the interpolation from at most 11 pixels off.
        self.halo = -(-(self.backbone.reach + 8 + 11) // 8) * 8

    def fit_size(self, size: int) -> int:
        """Find the smallest multiple of 8 that is at least `size`.

        Parameters
        ----------
        size : int
            At least 1.

        Returns
        -------
        int
        """
        return -(-size // 8) * 8

    def forward(self, x: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        """Compute class scores.

        Parameters
        ----------
        x : (N, in_channels, H, W) Tensor

        Returns
        -------
        (N, n_classes, H, W) Tensor, or two of them
            Logits. In training with an auxiliary head: those of `forward_with_aux`.
        """
        if self.training and self.aux_classifier is not None:
            return self.forward_with_aux(x)
        size = x.shape[2:]
        *_, x = self.backbone(x)  # (N, c, H / 8, W / 8)
        x = self.classifier(x)  # (N, n_classes, H / 8, W / 8)
        return F.interpolate(x, size, mode="bilinear")  # (N, n_classes, H, W)

    def forward_with_aux(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Compute class scores twice, for a loss that sums up both.

        Parameters
        ----------
        x : (N, in_channels, H, W) Tensor

        Returns
        -------
        logits : (N, n_classes, H, W) Tensor
            Those of `forward`.
        aux_logits : (N, n_classes, H, W) Tensor
            Of the auxiliary head. The reference adds 0.5 of their loss.

        Raises
        ------
        ValueError
            If there is no auxiliary head.
        """
        if self.aux_classifier is None:
            raise ValueError("FCNResNet: there is no auxiliary head: build it with auxiliary=True.")
        *_, third, fourth = self.backbone(x)  # (N, c, H / 8, W / 8)
        logits, aux_logits = (
            F.interpolate(scores, x.shape[2:], mode="bilinear")
            for scores in (self.classifier(fourth), self.aux_classifier(third))
        )
        return logits, aux_logits  # (N, n_classes, H, W)

    def load_checkpoint(self, source: str | os.PathLike | Mapping[str, Tensor]) -> Self:
        """Load weights, such as torchvision's; nothing may be missing or left over.

        Parameters
        ----------
        source : path-like or mapping of str to Tensor
            A safetensors file, a file of ``torch.save`` (read without unpickling), or a
            state dict.

        Returns
        -------
        FCNResNet
            Itself.

        Raises
        ------
        ValueError
            If names or shapes differ, or the file is damaged.
        """
        load_weights(self, source)
        return self
