"""U-Net [1]_: a contracting path, an expanding path, and skips between them.

References
----------
.. [1] O. Ronneberger, P. Fischer and T. Brox, "U-Net: convolutional networks for
   biomedical image segmentation", MICCAI 2015, arXiv:1505.04597.
"""

from __future__ import annotations

import math
import os
from typing import Any, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from segalgos import checks
from segalgos.base import Traits
from segalgos.nets.blocks import DoubleConv
from segalgos.nets.encoder_unet import EncoderUNet
from segalgos.nets.encoders.by_name import ENCODERS, make_encoder
from segalgos.nets.semantic import SemanticNetSegmenter
from segalgos.nets.semantic_net import SemanticNet
from segalgos.nets.trunk import Trunk
from segalgos.pretrained_encoder import PretrainedEncoder

__all__ = ["UNet", "UNetSegmenter"]

PADDINGS = ("valid", "same")


class UpBlock(nn.Module):
    """Up-convolve, join the cropped skip, convolve twice: one step of the expanding path.

    Parameters
    ----------
    c_in, c_out : int
        Channels of the map from below, and of the skip and the result.
    padding : {"valid", "same"}
    batch_norm : bool
    """

    def __init__(self, c_in: int, c_out: int, padding: str, batch_norm: bool):
        super().__init__()
        self.up = nn.ConvTranspose2d(c_in, c_out, kernel_size=2, stride=2)
        self.convs = DoubleConv(2 * c_out, c_out, padding, batch_norm)

    def forward(self, x: Tensor, skip: Tensor) -> Tensor:
        """Join the map from below with the skip.

        Parameters
        ----------
        x : (N, c_in, h, w) Tensor
        skip : (N, c_out, H, W) Tensor
            With H >= 2h and W >= 2w.

        Returns
        -------
        (N, c_out, 2h - 4, 2w - 4) Tensor
            Twice the size of x if padding is "same".
        """
        x = self.up(x)  # (N, c_out, 2h, 2w)
        top = (skip.shape[2] - x.shape[2]) // 2
        left = (skip.shape[3] - x.shape[3]) // 2
        skip = skip[:, :, top : top + x.shape[2], left : left + x.shape[3]]
        x = torch.cat([skip, x], dim=1)  # (N, 2 c_out, 2h, 2w)
        return self.convs(x)  # (N, c_out, 2h - 4, 2w - 4), or 2h, 2w if "same"


class UNet(SemanticNet):
    """The U-Net of Ronneberger et al. 2015 (Fig. 1).

    Parameters
    ----------
    in_channels, n_classes : int
    base_channels : int, default=64
        Channels of the first step; each step down doubles them.
    depth : int, default=4
        Number of poolings.
    padding : {"valid", "same"}, default="valid"
        "valid" is the paper's: 572 x 572 pixels in, 388 x 388 out. "same" pads each
        convolution with zeros, so the output is as large as the input.
    batch_norm : bool, default=False
        Batch normalisation before each ReLU; not in the paper.
    dropout : float, default=0.5
        Share of values dropped at the end of the contracting path, in training.
    generator : torch.Generator, optional
        For the initial weights.

    Attributes
    ----------
    stride : int
        2 ** depth: windows aligned to it give the same output as the whole image.
    margin : int
        Pixels that the output is smaller than the input, on each side.
    halo : int
        Pixels around an output that it depends on, at most; a multiple of `stride`.

    Notes
    -----
    As in the paper: weights drawn from N(0, 2 / fan_in), no padding, two 3x3
    convolutions a step, 2x2 max pooling, 2x2 up-convolution halving the channels, skips
    cropped and concatenated, one 1x1 convolution at the end. The paper names the place of
    dropout but not its rate; it is applied once, after the lowest convolutions.

    Any batch size. Heights and widths: ``fit_size(n) + 2 * margin`` for any n.

    References
    ----------
    .. [1] O. Ronneberger, P. Fischer and T. Brox, "U-Net: convolutional networks for
       biomedical image segmentation", MICCAI 2015, arXiv:1505.04597.
    """

    def __init__(
        self,
        in_channels: int,
        n_classes: int,
        *,
        base_channels: int = 64,
        depth: int = 4,
        padding: str = "valid",
        batch_norm: bool = False,
        dropout: float = 0.5,
        generator: torch.Generator | None = None,
    ):
        super().__init__()
        checks.check_choice("UNet", "padding", padding, PADDINGS)
        self.padding = padding
        self.stride = 2**depth
        self.halo = 6 * self.stride
        self.margin = self.halo - 4 if padding == "valid" else 0
        widths = [base_channels * 2**step for step in range(depth + 1)]  # 64 128 256 512 1024
        self.down = nn.ModuleList(
            DoubleConv(c_in, c_out, padding, batch_norm)
            for c_in, c_out in zip([in_channels, *widths], widths)
        )
        self.dropout = nn.Dropout(dropout)
        self.up = nn.ModuleList(
            UpBlock(c_in, c_out, padding, batch_norm)
            for c_in, c_out in zip(widths[:0:-1], widths[-2::-1])
        )
        self.head = nn.Conv2d(base_channels, n_classes, kernel_size=1)
        self.reset_parameters(generator)

    def reset_parameters(self, generator: torch.Generator | None = None) -> None:
        """Draw new weights from N(0, 2 / fan_in); biases become zero.

        Parameters
        ----------
        generator : torch.Generator, optional
        """
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                fan_in = module.weight[0].numel()
            elif isinstance(module, nn.ConvTranspose2d):
                fan_in = module.in_channels  # stride 2, kernel 2: one tap reaches each output
            else:
                continue
            nn.init.normal_(module.weight, std=math.sqrt(2 / fan_in), generator=generator)
            if module.bias is not None:
                nn.init.zeros_(module.bias)

    def fit_size(self, size: int) -> int:
        """Find the smallest height or width of output that is at least `size`.

        Parameters
        ----------
        size : int
            At least 1.

        Returns
        -------
        int
            The input for it has ``2 * margin`` more.
        """
        offset = 4 if self.margin else 0  # valid outputs are 4, 4 + stride, 4 + 2 stride ...
        steps = max(-(-(size - offset) // self.stride), 0 if self.margin else 1)
        return offset + steps * self.stride

    def feature_map(self, x: Tensor) -> Tensor:
        """Compute what the last convolution, the head, takes.

        Parameters
        ----------
        x : (N, in_channels, H, W) Tensor

        Returns
        -------
        (N, base_channels, H - 2 * margin, W - 2 * margin) Tensor

        Raises
        ------
        ValueError
            If H or W does not fit; names the next that does.
        """
        for size in x.shape[2:]:
            fitting = self.fit_size(max(size - 2 * self.margin, 1)) + 2 * self.margin
            if size != fitting:
                raise ValueError(
                    f"UNet: input has size {tuple(x.shape[2:])}, which does not pool evenly: pad "
                    f"{size} to {fitting}."
                )
        skips = []
        for step, convs in enumerate(self.down):
            if step > 0:
                skips.append(x)
                x = F.max_pool2d(x, kernel_size=2)  # (N, c, h / 2, w / 2)
            x = convs(x)  # (N, 2c, ...): 64 128 256 512 1024 channels
        x = self.dropout(x)
        for block in self.up:
            x = block(x, skips.pop())  # (N, c, ...): 512 256 128 64 channels
        return x  # (N, base_channels, H - 2 margin, W - 2 margin)

    def forward(self, x: Tensor) -> Tensor:
        """Compute class scores.

        Parameters
        ----------
        x : (N, in_channels, H, W) Tensor

        Returns
        -------
        (N, n_classes, H - 2 * margin, W - 2 * margin) Tensor
            Logits.

        Raises
        ------
        ValueError
            If H or W does not fit; names the next that does.
        """
        return self.head(self.feature_map(x))  # (N, n_classes, H - 2 margin, W - 2 margin)


class UNetSegmenter(SemanticNetSegmenter):
    """U-Net trained on the images at hand.

    Parameters
    ----------
    encoder : str, optional
        None is the paper's network. "efficientnet_lite0", "resnet18", "resnet34", "resnet50",
        "resnet101", "vgg16" or "mit_b0" to "mit_b5" take the place of its contracting path;
        the options `padding`, `batch_norm` and `dropout` are then without effect.
    pretrained : bool, path-like or PretrainedEncoder, default=False
        Start the encoder from an ImageNet classifier: a file of weights, or True for those of
        "efficientnet_lite0", which come with the extra ``segalgos[pretrained]``. Or from images
        without labels: what `segalgos.training.pretrain` gave, or a file of it; that is also
        for the paper's network, up to its head.
    frozen_stages : int, default=0
        The layers that make the first so many maps of the encoder keep what they learned from
        ImageNet. Each step of training is then faster, most of all with 2, whose maps are the
        largest, and batch statistics of few crops do no harm there.
    base_channels : int, default=64
        Channels of the first step, and the last; each step down doubles them. 16 is enough
        for small data and 16 times faster.
    depth : int, default=4
        Number of poolings. With an encoder, number of steps up, as far as there are maps to
        join: fewer are faster, and scores are then interpolated from a coarser map.
    padding : {"valid", "same"}, default="valid"
        "valid" is the paper's: no padding inside the network; images are mirrored at
        their border instead, and large ones are predicted seamlessly in tiles. "same"
        pads with zeros and is up to five times faster on small crops.
    batch_norm : bool, default=False
        Batch normalisation; not in the paper. It speeds up learning from images that look
        alike, and misleads where kinds of images are mixed: parts of a batch then differ
        too much from the running averages that prediction uses.
    dropout : float, default=0.5
        At the end of the contracting path, in training.
    **training
        Parameters of every net: those of `SemanticNetSegmenter`.

    Attributes
    ----------
    classes_ : (K,) int32
        Class ids, sorted.
    network_ : UNet or EncoderUNet
    n_parameters_ : int
    history_ : list of dict
        One row an epoch: epoch, steps, loss, learning_rate, seconds and, where it was
        validated, score.
    mean_, std_ : (C,) float64
        Images are standardised with them: of the training images by channel, or with
        `pretrained` what the encoder was trained with.

    Notes
    -----
    Labels, weights and images of any size are taken as they are; pixels labelled -1
    change nothing. Training runs on random crops, half of them placed on a random class.
    With the same `random_state` and `epochs` the result is the same bit for bit, whatever
    the number of threads; with a `time_budget` it depends on the machine's speed.

    Standardised intensities beyond 10,000 are cut there, so that no activation can
    overflow.

    References
    ----------
    .. [1] O. Ronneberger, P. Fischer and T. Brox, "U-Net: convolutional networks for
       biomedical image segmentation", MICCAI 2015, arXiv:1505.04597.

    Examples
    --------
    >>> import numpy as np
    >>> from segalgos.nets.unet import UNetSegmenter
    >>> image = np.zeros((32, 32)); image[8:24, 8:24] = 1
    >>> segmenter = UNetSegmenter(
    ...     base_channels=4, depth=1, epochs=60, learning_rate=0.01, random_state=0
    ... )
    >>> labels = segmenter.fit(image, image.astype(int)).predict(image)
    >>> bool((labels == image).mean() > 0.95)
    True
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
        *,
        encoder: str | None = None,
        pretrained: bool | str | os.PathLike | PretrainedEncoder = False,
        frozen_stages: int = 0,
        base_channels: int = 64,
        depth: int = 4,
        padding: str = "valid",
        batch_norm: bool = False,
        dropout: float = 0.5,
        **training: Any,
    ):
        super().__init__(**training)
        self.encoder = encoder
        self.pretrained = pretrained
        self.frozen_stages = frozen_stages
        self.base_channels = base_channels
        self.depth = depth
        self.padding = padding
        self.batch_norm = batch_norm
        self.dropout = dropout

    @classmethod
    def small(cls) -> Self:
        """Make an instance with tiny parameters, for tests and demos.

        Returns
        -------
        UNetSegmenter
        """
        return cls(
            base_channels=4,
            depth=1,
            epochs=5,
            batch_size=2,
            crop_size=32,
            learning_rate=0.01,
            random_state=0,
        )

    def _check_params(self) -> None:
        super()._check_params()
        caller = type(self).__name__
        if self.encoder is not None:
            checks.check_choice(caller, "encoder", self.encoder, ENCODERS)
        elif self.pretrained is True or self.frozen_stages:
            raise ValueError(
                f"{caller}: pretrained is {self.pretrained!r} and frozen_stages is "
                f"{self.frozen_stages}, but there is no encoder: name one, or leave them out."
            )
        checks.check_int(caller, "base_channels", self.base_channels, low=1)
        checks.check_int(caller, "depth", self.depth, low=1, high=8)
        checks.check_choice(caller, "padding", self.padding, PADDINGS)
        checks.check_bool(caller, "batch_norm", self.batch_norm)
        checks.check_real(caller, "dropout", self.dropout, low=0, high=0.99)

    def _build(self, n_channels: int, n_classes: int, generator: torch.Generator) -> nn.Module:
        if self.encoder is not None:
            encoder = make_encoder(self.encoder, n_channels, generator=generator)
            n_steps = min(self.depth, len(encoder.channels) - 1)
            return EncoderUNet(
                encoder,
                n_classes,
                decoder_channels=tuple(self.base_channels * 2**i for i in range(n_steps))[::-1],
                generator=generator,
            )
        return UNet(
            n_channels,
            n_classes,
            base_channels=self.base_channels,
            depth=self.depth,
            padding=self.padding,
            batch_norm=self.batch_norm,
            dropout=self.dropout,
            generator=generator,
        )

    def _encoder(self, network: nn.Module) -> nn.Module:
        if self.encoder is None:
            return Trunk(network, self.base_channels, 1, heads=("head.",))
        return network.encoder
