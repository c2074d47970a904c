"""A fully convolutional network on a dilated ResNet: FCN [1]_ in torchvision's form.

References
----------
.. [1] J. Long, E. Shelhamer and T. Darrell, "Fully convolutional networks for semantic
   segmentation", CVPR 2015, arXiv:1411.4038.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from segalgos import checks
from segalgos.nets.encoders.resnet import RESNETS, ResNet
from segalgos.nets.norm import BatchNorm2d
from segalgos.nets.semantic_net import CoarseNet

__all__ = ["FCNHead", "FCNResNet", "reset_head"]


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


class FCNResNet(CoarseNet):
    """A fully convolutional network on a dilated ResNet, with torchvision's parameter names.

    Parameters
    ----------
    in_channels, n_classes : int
    backbone : {"resnet18", "resnet34", "resnet50", "resnet101"}, default="resnet50"
    base_channels : int, default=64
        Channels of the encoder's first map, a multiple of 8.
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

    def __init__(
        self,
        in_channels: int,
        n_classes: int,
        *,
        backbone: str = "resnet50",
        base_channels: int = 64,
        auxiliary: bool = False,
        generator: torch.Generator | None = None,
    ):
        super().__init__()
        checks.check_choice("FCNResNet", "backbone", backbone, tuple(RESNETS))
        self.backbone = ResNet(
            in_channels,
            backbone,
            output_stride=8,
            base_channels=base_channels,
            generator=generator,
        )
        *_, c_aux, c_last = self.backbone.channels
        self.classifier = FCNHead(c_last, n_classes)
        self.aux_classifier = FCNHead(c_aux, n_classes) if auxiliary else None
        self.has_aux = auxiliary
        for head in filter(None, (self.classifier, self.aux_classifier)):
            reset_head(head, generator)
        # The head looks one cell further, and the interpolation from at most 11 pixels off.
        self.halo = -(-(self.backbone.reach + 8 + 11) // 8) * 8

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
        *_, last = self.backbone(x)  # (N, c, H / 8, W / 8)
        return self.classifier(last)

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
            The reference adds 0.5 of their loss.
        """
        *_, third, fourth = self.backbone(x)  # (N, c, H / 8, W / 8)
        return self.classifier(fourth), self.aux_classifier(third)
