"""Mix Transformer (MiT) B0 to B5, the encoder of SegFormer [1]_.

References
----------
.. [1] E. Xie, W. Wang, Z. Yu, A. Anandkumar, J. M. Alvarez and P. Luo, "SegFormer: simple and
   efficient design for semantic segmentation with transformers", NeurIPS 2021,
   arXiv:2105.15203.
"""

from __future__ import annotations

import itertools
import math
import os
from collections.abc import Mapping
from typing import Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from segalgos import checks
from segalgos.nets.checkpoints import load_weights, read_weights
from segalgos.nets.encoders.imagenet import load_classifier
from segalgos.nets.encoders.mit_names import rename_mit_weights

__all__ = ["MiT"]

# Of the four stages, by size: channels and numbers of blocks (Table 6).
SIZES = {
    "b0": ((32, 64, 160, 256), (2, 2, 2, 2)),
    "b1": ((64, 128, 320, 512), (2, 2, 2, 2)),
    "b2": ((64, 128, 320, 512), (3, 4, 6, 3)),
    "b3": ((64, 128, 320, 512), (3, 4, 18, 3)),
    "b4": ((64, 128, 320, 512), (3, 8, 27, 3)),
    "b5": ((64, 128, 320, 512), (3, 6, 40, 3)),
}
# The same for all sizes.
KERNELS = (7, 3, 3, 3)
STRIDES = (4, 2, 2, 2)
HEADS = (1, 2, 5, 8)
REDUCTIONS = (8, 4, 2, 1)
EXPANSION = 4


class PatchEmbeddings(nn.Module):
    """Shrink a map by a convolution whose patches overlap, and normalise.

    Parameters
    ----------
    c_in, c_out : int
        Channels.
    kernel_size, stride : int
    """

    def __init__(self, c_in: int, c_out: int, kernel_size: int, stride: int):
        super().__init__()
        self.proj = nn.Conv2d(c_in, c_out, kernel_size, stride, padding=kernel_size // 2)
        self.layer_norm = nn.LayerNorm(c_out)

    def forward(self, x: Tensor) -> Tensor:
        """Embed the patches.

        Parameters
        ----------
        x : (N, H, W, c_in) Tensor

        Returns
        -------
        (N, ceil(H / stride), ceil(W / stride), c_out) Tensor
        """
        return self.layer_norm(_convolve(self.proj, x))


class SequenceReduction(nn.Module):
    """Shorten the sequence that is attended to: one token of ratio x ratio ones.

    Parameters
    ----------
    channels, ratio : int
    """

    def __init__(self, channels: int, ratio: int):
        super().__init__()
        self.ratio = ratio
        self.sequence_reduction = nn.Conv2d(channels, channels, kernel_size=ratio, stride=ratio)
        self.layer_norm = nn.LayerNorm(channels)

    def forward(self, x: Tensor) -> Tensor:
        """Reduce the sequence.

        Parameters
        ----------
        x : (N, H, W, channels) Tensor

        Returns
        -------
        (N, floor(H / ratio), floor(W / ratio), channels) Tensor
            At least one token: maps smaller than ratio are padded with zeros up to it.
        """
        rows, columns = (max(self.ratio - n, 0) for n in x.shape[1:3])
        if rows or columns:
            x = F.pad(x, (0, 0, 0, columns, 0, rows))
        return self.layer_norm(_convolve(self.sequence_reduction, x))


class EfficientSelfAttention(nn.Module):
    """Multi-head attention of every token to a shortened sequence (Sec. 3.1).

    Parameters
    ----------
    channels, n_heads : int
    ratio : int
        By which height and width of the sequence are reduced.
    """

    def __init__(self, channels: int, n_heads: int, ratio: int):
        super().__init__()
        self.n_heads = n_heads
        self.q_proj = nn.Linear(channels, channels)
        self.k_proj = nn.Linear(channels, channels)
        self.v_proj = nn.Linear(channels, channels)
        self.o_proj = nn.Linear(channels, channels)
        if ratio > 1:
            self.sequence_reduction = SequenceReduction(channels, ratio)
        else:
            self.sequence_reduction = nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """Attend.

        Parameters
        ----------
        x : (N, H, W, channels) Tensor

        Returns
        -------
        (N, H, W, channels) Tensor
        """
        short = self.sequence_reduction(x)  # (N, h, w, c)
        q = self._heads(self.q_proj(x))  # (N, heads, H W, c / heads)
        k = self._heads(self.k_proj(short))  # (N, heads, h w, c / heads)
        v = self._heads(self.v_proj(short))  # (N, heads, h w, c / heads)
        y = F.scaled_dot_product_attention(q, k, v)  # eq. (1); (N, heads, H W, c / heads)
        return self.o_proj(y.transpose(1, 2).reshape(x.shape))  # (N, H, W, c)

    def _heads(self, x: Tensor) -> Tensor:
        """(N, h, w, c) to (N, heads, h w, c / heads), without a copy."""
        return x.flatten(1, 2).unflatten(-1, (self.n_heads, -1)).transpose(1, 2)


class DepthwiseConv(nn.Module):
    """A 3x3 convolution of each channel by itself.

    Parameters
    ----------
    channels : int
    """

    def __init__(self, channels: int):
        super().__init__()
        self.dwconv = nn.Conv2d(channels, channels, kernel_size=3, padding=1, groups=channels)

    def forward(self, x: Tensor) -> Tensor:
        """Convolve.

        Parameters
        ----------
        x : (N, H, W, channels) Tensor

        Returns
        -------
        (N, H, W, channels) Tensor
        """
        return _convolve(self.dwconv, x)


class MixFFN(nn.Module):
    """Feed-forward net whose depth-wise convolution tells tokens where they are (eq. 3).

    Parameters
    ----------
    channels : int
    """

    def __init__(self, channels: int):
        super().__init__()
        self.fc1 = nn.Linear(channels, EXPANSION * channels)
        self.dwconv = DepthwiseConv(EXPANSION * channels)
        self.fc2 = nn.Linear(EXPANSION * channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        """Apply the net to every token.

        Parameters
        ----------
        x : (N, H, W, channels) Tensor

        Returns
        -------
        (N, H, W, channels) Tensor
        """
        x = self.dwconv(self.fc1(x))  # (N, H, W, 4 c)
        return self.fc2(F.gelu(x))  # (N, H, W, c)


class DropPath(nn.Module):
    """In training, leave a residual branch out for some of the images.

    Parameters
    ----------
    rate : float
        Share of the images; the branch counts more for the others.
    """

    def __init__(self, rate: float):
        super().__init__()
        self.dropout = nn.Dropout(rate)

    def forward(self, x: Tensor) -> Tensor:
        """Keep or drop the branch of each image.

        Parameters
        ----------
        x : (N, H, W, C) Tensor

        Returns
        -------
        (N, H, W, C) Tensor
        """
        if not self.training:
            return x
        return x * self.dropout(x.new_ones(len(x), 1, 1, 1))


class Block(nn.Module):
    """Transformer block: attention and Mix-FFN, each normalised before and added after.

    Parameters
    ----------
    channels, n_heads, ratio : int
        As in `EfficientSelfAttention`.
    drop_path : float
    """

    def __init__(self, channels: int, n_heads: int, ratio: int, drop_path: float):
        super().__init__()
        self.layernorm_before = nn.LayerNorm(channels)
        self.attention = EfficientSelfAttention(channels, n_heads, ratio)
        self.layernorm_after = nn.LayerNorm(channels)
        self.mlp = MixFFN(channels)
        self.drop_path = DropPath(drop_path)

    def forward(self, x: Tensor) -> Tensor:
        """Apply the block.

        Parameters
        ----------
        x : (N, H, W, channels) Tensor

        Returns
        -------
        (N, H, W, channels) Tensor
        """
        x = x + self.drop_path(self.attention(self.layernorm_before(x)))
        return x + self.drop_path(self.mlp(self.layernorm_after(x)))


class Stage(nn.Module):
    """Embed patches of the map before, transform them, normalise.

    Parameters
    ----------
    c_in, c_out : int
        Channels.
    kernel_size, stride : int
        Of the patches.
    n_heads, ratio : int
        As in `EfficientSelfAttention`.
    drop_paths : list of float
        One rate a block.
    """

    def __init__(
        self,
        c_in: int,
        c_out: int,
        kernel_size: int,
        stride: int,
        n_heads: int,
        ratio: int,
        drop_paths: list[float],
    ):
        super().__init__()
        self.patch_embeddings = PatchEmbeddings(c_in, c_out, kernel_size, stride)
        self.blocks = nn.ModuleList(Block(c_out, n_heads, ratio, rate) for rate in drop_paths)
        self.layer_norm = nn.LayerNorm(c_out)

    def forward(self, x: Tensor) -> Tensor:
        """Compute the map of this stage.

        Parameters
        ----------
        x : (N, H, W, c_in) Tensor

        Returns
        -------
        (N, ceil(H / stride), ceil(W / stride), c_out) Tensor
        """
        x = self.patch_embeddings(x)
        for block in self.blocks:
            x = block(x)
        return self.layer_norm(x)


class MiT(nn.Module):
    """Mix Transformer: maps at strides 4, 8, 16 and 32.

    Parameters
    ----------
    size : {"b0", "b1", "b2", "b3", "b4", "b5"}, default="b0"
    in_channels : int, default=3
    drop_path : float, default=0.1
        Rate at which the last block's branches are dropped in training; it grows linearly
        from 0 at the first block.
    generator : torch.Generator, optional
        For the initial weights.

    Attributes
    ----------
    channels : tuple of int
        Of the four maps.
    strides : tuple of int
        Of the four maps: 4, 8, 16, 32.
    imagenet_mean, imagenet_std : tuple of float
        The ImageNet weights expect ``(x - mean) / std`` of RGB from 0 to 255.

    Notes
    -----
    Any batch size, height and width. Where a map is smaller than the ratio that attention
    shortens it by, below 29 pixels at stage 1, it is padded with zeros; the reference cannot
    compute such images.

    Names of parameters are those of the modules of Hugging Face's transformers 5, and so is
    the epsilon of layer normalisation, 1e-5 everywhere. The authors' code adds 1e-6 in blocks
    and at the end of stages, which changes logits by about 1e-5 of their size.

    Weights start as in the authors' code: normal with deviation 0.02 in linear layers,
    N(0, 2 / fan_out) in convolutions.

    References
    ----------
    .. [1] E. Xie, W. Wang, Z. Yu, A. Anandkumar, J. M. Alvarez and P. Luo, "SegFormer: simple
       and efficient design for semantic segmentation with transformers", NeurIPS 2021,
       arXiv:2105.15203.
    """

    strides = (4, 8, 16, 32)
    imagenet_mean = (123.675, 116.28, 103.53)
    imagenet_std = (58.395, 57.12, 57.375)

    def __init__(
        self,
        size: str = "b0",
        in_channels: int = 3,
        *,
        drop_path: float = 0.1,
        generator: torch.Generator | None = None,
    ):
        super().__init__()
        checks.check_choice("MiT", "size", size, tuple(SIZES))
        self.channels, depths = SIZES[size]
        last = sum(depths) - 1
        rates = (drop_path * block / last for block in itertools.count())
        self.stages = nn.ModuleList(
            Stage(*options, drop_paths=list(itertools.islice(rates, depth)))
            for *options, depth in zip(
                (in_channels, *self.channels),
                self.channels,
                KERNELS,
                STRIDES,
                HEADS,
                REDUCTIONS,
                depths,
            )
        )
        self.reset_parameters(generator)

    def reset_parameters(self, generator: torch.Generator | None = None) -> None:
        """Draw new weights; biases become zero, norms the identity.

        Parameters
        ----------
        generator : torch.Generator, optional
        """
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.trunc_normal_(module.weight, std=0.02, generator=generator)
                nn.init.zeros_(module.bias)
            elif isinstance(module, nn.Conv2d):
                fan_out = module.weight[:, 0].numel() // module.groups
                nn.init.normal_(module.weight, std=math.sqrt(2 / fan_out), generator=generator)
                nn.init.zeros_(module.bias)
            elif isinstance(module, nn.LayerNorm):
                module.reset_parameters()

    def forward(self, x: Tensor) -> list[Tensor]:
        """Compute the maps.

        Parameters
        ----------
        x : (N, in_channels, H, W) Tensor

        Returns
        -------
        list of (N, channels[i], ceil(H / strides[i]), ceil(W / strides[i])) Tensor
            In channels-last memory.
        """
        # Channels go last, where linear layers and norms want them: convolutions take such
        # maps as they are, so nothing is copied on the way.
        x = x.permute(0, 2, 3, 1).contiguous()  # (N, H, W, C)
        maps = []
        for stage in self.stages:
            x = stage(x)  # (N, H / 4, W / 4, c1), (N, H / 8, W / 8, c2), ...
            maps.append(x.permute(0, 3, 1, 2))
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
        return list(self.stages[:n_maps])

    def load_checkpoint(self, source: str | os.PathLike | Mapping[str, Tensor]) -> Self:
        """Load weights of the encoder alone; nothing may be missing or left over.

        Parameters
        ----------
        source : path-like or mapping of str to Tensor
            A safetensors file, a file of ``torch.save`` (read without unpickling), or a
            state dict, in any of the dialects of `rename_mit_weights`.

        Returns
        -------
        MiT
            Itself.

        Raises
        ------
        ValueError
            If names or shapes differ, or the file is damaged.
        """
        load_weights(self, rename_mit_weights(read_weights(source)))
        return self

    def load_imagenet(self, source: str | os.PathLike | Mapping[str, Tensor]) -> Self:
        """Load the weights of the classifier that was trained on ImageNet.

        Parameters
        ----------
        source : path-like or mapping of str to Tensor
            Weights of the whole classifier, as NVlabs or Hugging Face publish them; its head
            is left out, its first convolution is fitted to `in_channels`.

        Returns
        -------
        MiT
            Itself.

        Raises
        ------
        ValueError
            If names or shapes differ, or the file is damaged.
        """
        weights = {
            name.removeprefix("segformer."): tensor
            for name, tensor in read_weights(source).items()
            if not name.startswith(("head.", "classifier."))
        }
        load_classifier(
            self,
            rename_mit_weights(weights),
            first_conv="stages.0.patch_embeddings.proj.weight",
            classifier=(),
        )
        return self


def _convolve(conv: nn.Conv2d, x: Tensor) -> Tensor:
    """Convolve a map with channels last, (N, H, W, C), which is as torch lays it out."""
    return conv(x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
