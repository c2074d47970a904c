"""SegFormer [1]_: a Mix Transformer, and a decoder that is nothing but linear layers.

References
----------
.. [1] E. Xie, W. Wang, Z. Yu, A. Anandkumar, J. M. Alvarez and P. Luo, "SegFormer: simple and
   efficient design for semantic segmentation with transformers", NeurIPS 2021,
   arXiv:2105.15203.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from segalgos import checks
from segalgos.base import Traits
from segalgos.nets.checkpoints import rename_weights
from segalgos.nets.encoders.mit import SIZES, MiT
from segalgos.nets.encoders.mit_names import rename_mit_weights
from segalgos.nets.norm import BatchNorm2d
from segalgos.nets.semantic import SemanticNetSegmenter
from segalgos.nets.semantic_net import CoarseNet
from segalgos.pretrained_encoder import PretrainedEncoder

__all__ = ["SegFormer", "SegFormerSegmenter"]

# Channels of the decoder, by size (Table 6).
WIDTHS = {"b0": 256, "b1": 256, "b2": 768, "b3": 768, "b4": 768, "b5": 768}


class AllMLPDecoder(nn.Module):
    """Project all maps to one width, enlarge, fuse and classify them (eq. 4).

    Parameters
    ----------
    channels : sequence of int
        Of the maps, the largest first.
    width : int
        Channels inside.
    n_classes : int
    dropout : float
        Share of channels dropped before classification, in training.

    Notes
    -----
    The paper enlarges the projected maps, concatenates them (the deepest first) and fuses
    them by a linear layer. Bilinear interpolation is linear too, has weights that add up to 1
    and acts on each channel alone, so it may as well come last: each map is multiplied by the
    product of its two layers while it is small, then enlarged and added. That is the same
    function at a tenth of the cost, and holds in training as in evaluation.
    """

    def __init__(self, channels: Sequence[int], width: int, n_classes: int, dropout: float):
        super().__init__()
        self.linear_projections = nn.ModuleList(
            nn.ModuleDict({"proj": nn.Linear(c, width)}) for c in channels
        )
        self.linear_fuse = nn.Conv2d(len(channels) * width, width, kernel_size=1, bias=False)
        self.batch_norm = BatchNorm2d(width)
        self.dropout = nn.Dropout2d(dropout)
        self.classifier = nn.Conv2d(width, n_classes, kernel_size=1)

    def reset_parameters(self, generator: torch.Generator | None = None) -> None:
        """Draw new weights; the norm becomes the identity.

        Parameters
        ----------
        generator : torch.Generator, optional
        """
        for layer in [*(p.proj for p in self.linear_projections), self.classifier]:
            bound = layer.weight[0].numel() ** -0.5  # torch's own, which the authors keep
            nn.init.uniform_(layer.weight, -bound, bound, generator=generator)
            nn.init.uniform_(layer.bias, -bound, bound, generator=generator)
        nn.init.kaiming_normal_(
            self.linear_fuse.weight, mode="fan_out", nonlinearity="relu", generator=generator
        )
        self.batch_norm.reset_parameters()

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        """Compute class scores.

        Parameters
        ----------
        maps : sequence of (N, channels[i], h[i], w[i]) Tensor
            The largest first.

        Returns
        -------
        (N, n_classes, h[0], w[0]) Tensor
            Logits.
        """
        weights, bias = self._fused_layers()
        # Added up in a map of its own: in place on a view, as `_project` gives it, autograd copies.
        x = F.interpolate(_project(maps[-1], weights[-1]), size=maps[0].shape[2:], mode="bilinear")
        for small, weight in zip(maps[-2:0:-1], weights[-2:0:-1]):
            small = _project(small, weight)  # (N, width, h[i], w[i])
            x += F.interpolate(small, size=x.shape[2:], mode="bilinear")
        x += _project(maps[0], weights[0], bias)  # (N, width, h, w)
        if self.training:
            x = self.batch_norm(x)
        x = self.dropout(F.relu(x, inplace=True))  # (N, width, h, w)
        return _project(x, self.classifier.weight.flatten(1), self.classifier.bias)

    def _fused_layers(self) -> tuple[list[Tensor], Tensor]:
        """Weights (width, channels[i]) of each map's layers in one, and the bias of all.

        In evaluation the norm is a linear layer as well, and is in them.
        """
        layers = [projection.proj for projection in self.linear_projections]
        fuse, norm = self.linear_fuse.weight.flatten(1), self.batch_norm  # (width, 4 width)
        shift = fuse.new_zeros(())
        if not self.training:
            scale = norm.weight * torch.rsqrt(norm.running_var + norm.eps)
            fuse, shift = scale[:, None] * fuse, norm.bias - scale * norm.running_mean
        fuse = fuse.chunk(len(layers), dim=1)[::-1]  # the deepest map comes first in it
        weights = [f @ layer.weight for f, layer in zip(fuse, layers)]
        return weights, sum((f @ layer.bias for f, layer in zip(fuse, layers)), shift)


def _project(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Apply a linear layer to the channels of (N, c, h, w) maps in channels-last memory."""
    return F.linear(x.permute(0, 2, 3, 1), weight, bias).permute(0, 3, 1, 2)


class SegFormer(CoarseNet):
    """SegFormer B0 to B5.

    Parameters
    ----------
    size : {"b0", "b1", "b2", "b3", "b4", "b5"}
    n_classes : int
    in_channels : int, default=3
    drop_path : float, default=0.1
        See `MiT`.
    dropout : float, default=0.1
        Share of channels dropped before classification, in training.
    generator : torch.Generator, optional
        For the initial weights.

    Attributes
    ----------
    segformer : MiT
        The encoder.
    stride : int
        32, of the encoder's smallest map.
    margin : int
        0: the output is as large as the input.
    halo : None
        Attention sees the whole image.

    Notes
    -----
    Any batch size, height and width; see `MiT` for very small ones. The decoder's output, at
    a quarter of the input's height and width, is enlarged bilinearly, as the authors do for
    evaluation. Its sides are rounded up, so for sizes that 4 does not divide the output is
    scaled by slightly less than 4.

    `load_checkpoint` understands the names of NVlabs (``backbone.block1.0.attn.q.weight``), of
    transformers 4 and its hub (``segformer.encoder.block.0.0.attention.self.query.weight``), and
    of transformers 5 (``segformer.stages.0.blocks.0.attention.q_proj.weight``), which are ours.

    References
    ----------
    .. [1] E. Xie, W. Wang, Z. Yu, A. Anandkumar, J. M. Alvarez and P. Luo, "SegFormer: simple
       and efficient design for semantic segmentation with transformers", NeurIPS 2021,
       arXiv:2105.15203.
    """

    stride = 32
    size_step = 1

    def __init__(
        self,
        size: str,
        n_classes: int,
        in_channels: int = 3,
        *,
        drop_path: float = 0.1,
        dropout: float = 0.1,
        generator: torch.Generator | None = None,
    ):
        super().__init__()
        checks.check_choice("SegFormer", "size", size, tuple(SIZES))
        self.segformer = MiT(size, in_channels, drop_path=drop_path, generator=generator)
        self.decode_head = AllMLPDecoder(self.segformer.channels, WIDTHS[size], n_classes, dropout)
        self.decode_head.reset_parameters(generator)

    def reset_parameters(self, generator: torch.Generator | None = None) -> None:
        """Draw new weights, as the authors do.

        Parameters
        ----------
        generator : torch.Generator, optional
        """
        self.segformer.reset_parameters(generator)
        self.decode_head.reset_parameters(generator)

    def coarse_scores(self, x: Tensor) -> Tensor:
        """Compute class scores on the network's own grid.

        Parameters
        ----------
        x : (N, in_channels, H, W) Tensor

        Returns
        -------
        (N, n_classes, H / 4, W / 4) Tensor
            Sides are rounded up.
        """
        return self.decode_head(self.segformer(x))

    def _own_names(self, weights: dict[str, Tensor]) -> dict[str, Tensor]:
        """Rename weights of NVlabs and of transformers 4."""
        return _rename(weights)


# Names in the files of NVlabs, who count stages from 1, and of transformers 4.
FROM_OTHERS = (
    (r"^backbone\.", "segformer."),
    (r"^(decode_head\.linear_c)([1-4])\.", lambda found: f"{found[1]}.{int(found[2]) - 1}."),
    (r"^decode_head\.linear_c\.", "decode_head.linear_projections."),
    (r"^decode_head\.linear_fuse\.conv\.", "decode_head.linear_fuse."),
    (r"^decode_head\.linear_fuse\.bn\.", "decode_head.batch_norm."),
    (r"^decode_head\.linear_pred\.", "decode_head.classifier."),
)


def _rename(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Give weights of a published file the names that `SegFormer` has."""
    encoder, others = {}, {}
    for name, tensor in rename_weights(weights, FROM_OTHERS).items():
        if name.startswith("segformer."):
            encoder[name.removeprefix("segformer.")] = tensor
        elif not name.startswith("decode_head.conv_seg."):
            # conv_seg belongs to a base class of the authors' decoder, which never uses it.
            others[name] = tensor
    encoder = rename_mit_weights(encoder)
    return others | {f"segformer.{name}": tensor for name, tensor in encoder.items()}


class SegFormerSegmenter(SemanticNetSegmenter):
    """SegFormer: a transformer that sees the whole image, with a light decoder.

    Parameters
    ----------
    size : {"b0", "b1", "b2", "b3", "b4", "b5"}, default="b0"
        3.7 to 85 million parameters.
    drop_path : float, default=0.1
        Rate of residual branches left out in training, at the last block.
    pretrained : path-like or PretrainedEncoder, optional
        File of weights of an ImageNet classifier that the encoder starts from, as NVlabs or
        Hugging Face publish them.
        Or what `segalgos.training.pretrain` gave, or a file of it.
    learning_rate : float, default=6e-4
        At the end of the warm-up.
    weight_decay : float, default=0.01
    tile_size : int, default=1024
        Larger images are predicted in windows of this height and width, which overlap by a
        quarter and are blended.
    **training
        Parameters of every net: those of `SemanticNetSegmenter`.

    Attributes
    ----------
    classes_ : (K,) int32
        Class ids, sorted.
    network_ : SegFormer
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
    nothing. Attention spans the window: very large images are predicted in several. With
    the same `random_state` and `epochs` the result is the same bit for bit, whatever the
    number of threads.

    References
    ----------
    .. [1] E. Xie, W. Wang, Z. Yu, A. Anandkumar, J. M. Alvarez and P. Luo, "SegFormer: simple
       and efficient design for semantic segmentation with transformers", NeurIPS 2021,
       arXiv:2105.15203.

    Examples
    --------
    >>> import numpy as np
    >>> from segalgos import SegFormerSegmenter
    >>> image = np.zeros((32, 32)); image[8:24, 8:24] = 1
    >>> segmenter = SegFormerSegmenter.small().fit(image, image.astype(int))
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
        size: str = "b0",
        *,
        drop_path: float = 0.1,
        pretrained: str | os.PathLike | PretrainedEncoder | None = None,
        learning_rate: float = 6e-4,
        weight_decay: float = 0.01,
        tile_size: int = 1024,
        **training: Any,
    ):
        super().__init__(
            learning_rate=learning_rate, weight_decay=weight_decay, tile_size=tile_size, **training
        )
        self.size = size
        self.drop_path = drop_path
        self.pretrained = pretrained

    @classmethod
    def small(cls) -> Self:
        """Make an instance with tiny parameters, for tests and demos.

        Returns
        -------
        SegFormerSegmenter
        """
        return cls(
            "b0",
            epochs=3,
            batch_size=2,
            crop_size=32,
            learning_rate=0.01,
            random_state=0,
        )

    def _check_params(self) -> None:
        super()._check_params()
        checks.check_choice(self._caller, "size", self.size, tuple(SIZES))
        checks.check_real(self._caller, "drop_path", self.drop_path, low=0, high=0.99)

    def _build(self, n_channels: int, n_classes: int, generator: torch.Generator) -> nn.Module:
        return SegFormer(
            self.size, n_classes, n_channels, drop_path=self.drop_path, generator=generator
        )

    def _encoder(self, network: nn.Module) -> nn.Module:
        return network.segformer
