"""MobileSAM's light image encoder: Tiny ViT, convolutions first and attention in windows after."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from segalgos.nets.sam.blocks import Neck, from_windows, to_windows

__all__ = ["ConvNorm", "InvertedBottleneck", "PatchMerging", "TinyViT", "TinyViTBlock"]

PATCH_SIZE = 16
EXPANSION = 4


class ConvNorm(nn.Module):
    """A convolution and a batch normalisation, which are one convolution in evaluation.

    Parameters
    ----------
    c_in, c_out : int
    kernel_size : int, default=1
    stride, groups : int, default=1
    """

    def __init__(
        self, c_in: int, c_out: int, kernel_size: int = 1, *, stride: int = 1, groups: int = 1
    ):
        super().__init__()
        self.c = nn.Conv2d(
            c_in, c_out, kernel_size, stride, kernel_size // 2, groups=groups, bias=False
        )
        self.bn = nn.BatchNorm2d(c_out)

    def forward(self, x: Tensor) -> Tensor:
        """Convolve and normalise.

        Parameters
        ----------
        x : (N, c_in, H, W) Tensor

        Returns
        -------
        (N, c_out, H / stride, W / stride) Tensor
        """
        if self.training or torch.is_grad_enabled():
            return self.bn(self.c(x))
        scale = self.bn.weight * (self.bn.running_var + self.bn.eps).rsqrt()
        weight = self.c.weight * scale[:, None, None, None]
        bias = self.bn.bias - self.bn.running_mean * scale
        return F.conv2d(x, weight, bias, self.c.stride, self.c.padding, groups=self.c.groups)


class InvertedBottleneck(nn.Module):
    """Widen, convolve each channel by itself, narrow, and add what came in.

    Parameters
    ----------
    channels : int
    """

    def __init__(self, channels: int):
        super().__init__()
        hidden = EXPANSION * channels
        self.conv1 = ConvNorm(channels, hidden)
        self.conv2 = ConvNorm(hidden, hidden, 3, groups=hidden)
        self.conv3 = ConvNorm(hidden, channels)

    def forward(self, x: Tensor) -> Tensor:
        """Apply the block.

        Parameters
        ----------
        x : (N, channels, H, W) Tensor

        Returns
        -------
        (N, channels, H, W) Tensor
        """
        y = F.gelu(self.conv1(x))  # (N, 4 channels, H, W)
        y = F.gelu(self.conv2(y))
        return F.gelu(x + self.conv3(y))


class PatchMerging(nn.Module):
    """From the map of one stage to that of the next.

    Parameters
    ----------
    c_in, c_out : int
        Channels.
    stride : int
    """

    def __init__(self, c_in: int, c_out: int, stride: int):
        super().__init__()
        self.conv1 = ConvNorm(c_in, c_out)
        self.conv2 = ConvNorm(c_out, c_out, 3, stride=stride, groups=c_out)
        self.conv3 = ConvNorm(c_out, c_out)

    def forward(self, x: Tensor) -> Tensor:
        """Make the next map.

        Parameters
        ----------
        x : (N, c_in, H, W) Tensor

        Returns
        -------
        (N, c_out, H / stride, W / stride) Tensor
        """
        x = F.gelu(self.conv1(x))
        return self.conv3(F.gelu(self.conv2(x)))


class _WindowAttention(nn.Module):
    """Attention in windows, whose logits know how far apart two places are."""

    def __init__(self, channels: int, num_heads: int, window_size: int):
        super().__init__()
        self.num_heads, self.window_size = num_heads, window_size
        self.norm = nn.LayerNorm(channels)
        self.qkv = nn.Linear(channels, 3 * channels)
        self.proj = nn.Linear(channels, channels)
        self.attention_biases = nn.Parameter(torch.zeros(num_heads, window_size**2))

    def bias(self) -> Tensor:
        """Bias of each pair of places of a window: (heads, size^2, size^2).

        One number for each pair of distances, whose signs do not count.
        """
        places = torch.arange(self.window_size, device=self.attention_biases.device)
        apart = (places[:, None] - places).abs()  # (size, size)
        index = apart[:, None, :, None] * self.window_size + apart[None, :, None, :]
        return self.attention_biases[:, index.flatten(2).flatten(0, 1)]

    def forward(self, x: Tensor) -> Tensor:
        """Attend within windows: (N, H, W, channels) to the same.

        Windows at the lower and right border are filled up with zeros before the norm, so
        that their tokens all have the same queries, keys and values: these are put in after
        the linear layer, which so computes the map's own tokens alone.
        """
        size, channels = self.window_size, x.shape[3]
        qkv = to_windows(self.qkv(self.norm(x)), size, self.qkv(self.norm.bias))
        qkv = qkv.reshape(-1, size * size, self.num_heads, 3, channels // self.num_heads)
        q, k, v = qkv.permute(3, 0, 2, 1, 4)  # each (windows, heads, size^2, c)
        y = F.scaled_dot_product_attention(q, k, v, attn_mask=self.bias()[None])
        y = y.transpose(1, 2).reshape(-1, size, size, channels)
        return self.proj(from_windows(y, *x.shape[1:3]))


class _NormedMLP(nn.Module):
    """Layer normalisation and two linear layers."""

    def __init__(self, channels: int):
        super().__init__()
        self.norm = nn.LayerNorm(channels)
        self.fc1 = nn.Linear(channels, EXPANSION * channels)
        self.fc2 = nn.Linear(EXPANSION * channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(F.gelu(self.fc1(self.norm(x))))


class TinyViTBlock(nn.Module):
    """Attention in windows, a convolution across their borders, and an MLP.

    Parameters
    ----------
    channels, num_heads : int
    window_size : int
        Height and width of windows.
    """

    def __init__(self, channels: int, num_heads: int, window_size: int):
        super().__init__()
        self.attn = _WindowAttention(channels, num_heads, window_size)
        self.local_conv = ConvNorm(channels, channels, 3, groups=channels)
        self.mlp = _NormedMLP(channels)

    def forward(self, x: Tensor) -> Tensor:
        """Apply the block.

        Parameters
        ----------
        x : (N, channels, H, W) Tensor

        Returns
        -------
        (N, channels, H, W) Tensor
            In channels-last memory.
        """
        x = x.permute(0, 2, 3, 1)  # (N, H, W, channels)
        x = x + self.attn(x)
        x = self.local_conv(x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
        return (x + self.mlp(x)).permute(0, 3, 1, 2)


class _Stage(nn.Module):
    """Blocks at one scale, and what leads to the next."""

    def __init__(self, blocks: list[nn.Module], downsample: nn.Module | None):
        super().__init__()
        self.blocks = nn.ModuleList(blocks)
        self.downsample = downsample

    def forward(self, x: Tensor) -> Tensor:
        for block in self.blocks:
            x = block(x)
        return x if self.downsample is None else self.downsample(x)


class TinyViT(nn.Module):
    """Tiny ViT [1]_ as MobileSAM's image encoder [2]_: 5 million parameters.

    Parameters
    ----------
    image_size : int, default=1024
        Height and width of the input, a multiple of 16.
    embed_dims : sequence of int, default=(64, 128, 160, 320)
        Channels of the four stages.
    depths, num_heads, window_sizes : sequence of int
        Blocks of each stage, heads of attention and sizes of its windows; the first stage has
        convolutions only.
    out_channels : int, default=256

    Attributes
    ----------
    image_size, patch_size, out_channels : int

    Notes
    -----
    Parameter names are those of the authors' file, but for the classifier that it was trained
    as. The last stage does not shrink the map, so that it has the scale of `ImageEncoderViT`.

    References
    ----------
    .. [1] K. Wu et al., "TinyViT: fast pretraining distillation for small vision
       transformers", ECCV 2022, arXiv:2207.10666.
    .. [2] C. Zhang et al., "Faster segment anything: towards lightweight SAM for mobile
       applications", arXiv:2306.14289, 2023.
    """

    patch_size = PATCH_SIZE

    def __init__(
        self,
        image_size: int = 1024,
        *,
        embed_dims: Sequence[int] = (64, 128, 160, 320),
        depths: Sequence[int] = (2, 2, 6, 2),
        num_heads: Sequence[int] = (2, 4, 5, 10),
        window_sizes: Sequence[int] = (7, 7, 14, 7),
        out_channels: int = 256,
    ):
        super().__init__()
        if image_size % PATCH_SIZE:
            raise ValueError(
                f"TinyViT: image_size is {image_size}, expected a multiple of {PATCH_SIZE}: "
                "change it."
            )
        self.image_size, self.out_channels = image_size, out_channels
        first = embed_dims[0]
        self.patch_embed = nn.Module()
        self.patch_embed.seq = nn.Sequential(
            ConvNorm(3, first // 2, 3, stride=2),
            nn.GELU(),
            ConvNorm(first // 2, first, 3, stride=2),
        )
        self.layers = nn.ModuleList()
        for i, (channels, depth) in enumerate(zip(embed_dims, depths)):
            if i == 0:
                blocks = [InvertedBottleneck(channels) for _ in range(depth)]
            else:
                blocks = [
                    TinyViTBlock(channels, num_heads[i], window_sizes[i]) for _ in range(depth)
                ]
            last = i == len(depths) - 1
            to_last = i == len(depths) - 2
            downsample = (
                None if last else PatchMerging(channels, embed_dims[i + 1], 1 if to_last else 2)
            )
            self.layers.append(_Stage(blocks, downsample))
        self.neck = Neck(embed_dims[-1], out_channels)

    def forward(self, x: Tensor) -> Tensor:
        """Embed images.

        Parameters
        ----------
        x : (N, 3, image_size, image_size) Tensor
            Standardised.

        Returns
        -------
        (N, out_channels, image_size / 16, image_size / 16) Tensor
        """
        x = self.patch_embed.seq(x.contiguous(memory_format=torch.channels_last))
        for layer in self.layers:
            x = layer(x)  # strides 8, 16, 16, 16
        return self.neck(x)
