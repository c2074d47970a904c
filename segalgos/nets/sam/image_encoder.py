"""SAM's image encoder: a vision transformer whose attention is mostly within windows."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from segalgos.nets.sam.blocks import MLPBlock, Neck, from_windows, to_windows

__all__ = ["Attention", "Block", "ImageEncoderViT", "PatchEmbed", "relative_rows"]

# Numbers of the bias that attention holds at once: 16 MB, so that they stay in the caches.
LARGEST_BIAS = 1 << 22


def relative_rows(table: Tensor, size: int) -> Tensor:
    """Look up the embedding of each distance between two places along an axis.

    Parameters
    ----------
    table : (2 * size - 1, C) Tensor
        One row a distance, from ``1 - size`` to ``size - 1``.
    size : int
        Places along the axis.

    Returns
    -------
    (size, size, C) Tensor
        By place of the query and of the key.
    """
    places = torch.arange(size, device=table.device)
    return table[places[:, None] - places + size - 1]


class Attention(nn.Module):
    """Attention of all places of a map to each other, aware of how far apart they are.

    Parameters
    ----------
    channels, num_heads : int
    size : int
        Height and width of the map.

    Notes
    -----
    The logit of a query and a key gets ``q . rel_h[dy] + q . rel_w[dx]``: one vector for each
    distance along an axis [1]_. That is H + W numbers a query in place of H * W, which is
    how it is kept here: the bias of all pairs is only made for as many queries at once as
    fit into the caches.

    References
    ----------
    .. [1] Y. Li et al., "MViTv2: improved multiscale vision transformers for classification
       and detection", CVPR 2022, arXiv:2112.01526, eq. (4) and (5).
    """

    def __init__(self, channels: int, num_heads: int, size: int):
        super().__init__()
        self.num_heads = num_heads
        self.qkv = nn.Linear(channels, 3 * channels)
        self.proj = nn.Linear(channels, channels)
        self.rel_pos_h = nn.Parameter(torch.zeros(2 * size - 1, channels // num_heads))
        self.rel_pos_w = nn.Parameter(torch.zeros(2 * size - 1, channels // num_heads))

    def attend(self, qkv: Tensor) -> Tensor:
        """Attend within each map.

        Parameters
        ----------
        qkv : (N, H, W, 3 * channels) Tensor
            What the layer `qkv` gives.

        Returns
        -------
        (N, H, W, channels) Tensor
        """
        n, height, width = qkv.shape[:3]
        qkv = qkv.view(n, height, width, 3, self.num_heads, -1)
        q, k, v = qkv.permute(3, 0, 4, 1, 2, 5)  # each (N, heads, H, W, c)
        rows = relative_rows(self.rel_pos_h, height)
        columns = relative_rows(self.rel_pos_w, width)
        by_row = torch.einsum("nhyxc,ykc->nhyxk", q, rows)  # (N, heads, H, W, H)
        by_column = torch.einsum("nhyxc,xkc->nhyxk", q, columns)  # (N, heads, H, W, W)
        k, v = k.flatten(2, 3), v.flatten(2, 3)  # (N, heads, H W, c)

        # As many maps at once as fit, or else some rows of the queries of all.
        per_map = self.num_heads * (height * width) ** 2
        if per_map <= LARGEST_BIAS:
            step, axis = LARGEST_BIAS // per_map, 0
            parts = [x.split(step) for x in (q, by_row, by_column, k, v)]
        else:
            step, axis = max(1, LARGEST_BIAS * height // (n * per_map)), 2
            parts = [x.split(step, dim=axis) for x in (q, by_row, by_column)]
            parts += [[k] * len(parts[0]), [v] * len(parts[0])]
        y = torch.cat([_attend_some(*part) for part in zip(*parts)], dim=axis)
        return y.permute(0, 2, 3, 1, 4).flatten(3)  # (N, H, W, heads c)

    def forward(self, x: Tensor) -> Tensor:
        """Attend within each map.

        Parameters
        ----------
        x : (N, H, W, channels) Tensor

        Returns
        -------
        (N, H, W, channels) Tensor
        """
        return self.proj(self.attend(self.qkv(x)))


def _attend_some(q: Tensor, by_row: Tensor, by_column: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Attend from some rows of queries: (N, heads, rows, W, c), as `q` is."""
    bias = by_row[..., :, None] + by_column[..., None, :]  # (N, heads, rows, W, H, W)
    y = F.scaled_dot_product_attention(
        q.flatten(2, 3), k, v, attn_mask=bias.flatten(4).flatten(2, 3)
    )
    return y.view(q.shape)


class Block(nn.Module):
    """Transformer block: attention and MLP, each normalised before and added after.

    Parameters
    ----------
    channels, num_heads : int
    mlp_channels : int
    size : int
        Height and width of the map.
    window_size : int
        Height and width of the windows that attention is limited to; 0 for the whole map.
    """

    def __init__(
        self, channels: int, num_heads: int, mlp_channels: int, size: int, window_size: int
    ):
        super().__init__()
        self.window_size = window_size
        self.norm1 = nn.LayerNorm(channels, eps=1e-6)
        self.attn = Attention(channels, num_heads, window_size or size)
        self.norm2 = nn.LayerNorm(channels, eps=1e-6)
        self.mlp = MLPBlock(channels, mlp_channels)

    def forward(self, x: Tensor) -> Tensor:
        """Apply the block.

        Parameters
        ----------
        x : (N, H, W, channels) Tensor

        Returns
        -------
        (N, H, W, channels) Tensor
        """
        y = self.norm1(x)
        x = x + (self._windowed(y) if self.window_size else self.attn(y))
        return x + self.mlp(self.norm2(x))

    def _windowed(self, x: Tensor) -> Tensor:
        """Attend within windows; those at the lower and right border are filled up with zeros.

        Zeros are tokens like others for the reference: keys and values that are the layer's
        bias. They are put in after that layer, which so computes the map's own tokens alone.
        """
        windows = to_windows(self.attn.qkv(x), self.window_size, self.attn.qkv.bias)
        return self.attn.proj(from_windows(self.attn.attend(windows), *x.shape[1:3]))


class PatchEmbed(nn.Module):
    """Cut the image into square patches and make a token of each.

    Parameters
    ----------
    patch_size, channels : int
    """

    def __init__(self, patch_size: int, channels: int):
        super().__init__()
        self.proj = nn.Conv2d(3, channels, kernel_size=patch_size, stride=patch_size)

    def forward(self, x: Tensor) -> Tensor:
        """Embed the patches.

        Parameters
        ----------
        x : (N, 3, H, W) Tensor

        Returns
        -------
        (N, H / patch_size, W / patch_size, channels) Tensor

        Notes
        -----
        Patches do not overlap, so that the convolution is one product of matrices.
        """
        n, _, height, width = x.shape
        size = self.proj.kernel_size[0]
        patches = x.view(n, 3, height // size, size, width // size, size)
        patches = patches.permute(0, 2, 4, 1, 3, 5).flatten(3)  # (N, h, w, 3 size^2)
        return F.linear(patches, self.proj.weight.flatten(1), self.proj.bias)


class ImageEncoderViT(nn.Module):
    """Vision transformer with windows, by which SAM sees an image [1]_.

    Parameters
    ----------
    embed_dim : int
        Channels of tokens.
    depth : int
        Number of blocks.
    num_heads : int
    global_attn_indexes : sequence of int
        Blocks whose attention spans the whole map; that of all others is within windows.
    image_size : int, default=1024
        Height and width of the input.
    patch_size : int, default=16
    window_size : int, default=14
        Height and width of windows, in patches.
    mlp_ratio : float, default=4.0
        Channels within the MLP, as a multiple of `embed_dim`.
    out_channels : int, default=256

    Attributes
    ----------
    image_size, patch_size, out_channels : int

    Notes
    -----
    Parameter names are those of the authors' code. Plain vision transformer as backbone of
    Li et al., "Exploring plain vision transformer backbones for object detection", ECCV 2022.

    References
    ----------
    .. [1] A. Kirillov et al., "Segment anything", ICCV 2023, arXiv:2304.02643.
    """

    def __init__(
        self,
        embed_dim: int,
        depth: int,
        num_heads: int,
        global_attn_indexes: Sequence[int],
        *,
        image_size: int = 1024,
        patch_size: int = 16,
        window_size: int = 14,
        mlp_ratio: float = 4.0,
        out_channels: int = 256,
    ):
        super().__init__()
        caller = "ImageEncoderViT"
        if image_size % patch_size:
            raise ValueError(
                f"{caller}: image_size is {image_size}, expected a multiple of patch_size "
                f"({patch_size}): change one of them."
            )
        if embed_dim % num_heads:
            raise ValueError(
                f"{caller}: embed_dim is {embed_dim}, expected a multiple of num_heads "
                f"({num_heads}): change one of them."
            )
        beyond = [i for i in global_attn_indexes if not 0 <= i < depth]
        if beyond:
            raise ValueError(
                f"{caller}: global_attn_indexes holds {beyond}, but there are {depth} blocks, "
                f"expected 0 to {depth - 1}: leave these out."
            )
        self.image_size, self.patch_size = image_size, patch_size
        self.out_channels = out_channels
        size = image_size // patch_size
        self.patch_embed = PatchEmbed(patch_size, embed_dim)
        self.pos_embed = nn.Parameter(torch.zeros(1, size, size, embed_dim))
        self.blocks = nn.ModuleList(
            Block(
                embed_dim,
                num_heads,
                int(mlp_ratio * embed_dim),
                size,
                0 if i in global_attn_indexes else window_size,
            )
            for i in range(depth)
        )
        self.neck = Neck(embed_dim, out_channels)

    def forward(self, x: Tensor) -> Tensor:
        """Embed images.

        Parameters
        ----------
        x : (N, 3, image_size, image_size) Tensor
            Standardised.

        Returns
        -------
        (N, out_channels, image_size / patch_size, image_size / patch_size) Tensor
        """
        x = self.patch_embed(x) + self.pos_embed  # (N, h, w, C)
        for block in self.blocks:
            x = block(x)
        return self.neck(x.permute(0, 3, 1, 2))  # (N, out_channels, h, w)
