"""SAM's mask decoder: a transformer in both directions, and masks by products of vectors."""

from __future__ import annotations

from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from segalgos.nets.sam.blocks import ChannelNorm, MLPBlock

__all__ = ["DecoderAttention", "MaskDecoder", "TwoWayBlock", "TwoWayTransformer"]


class DecoderAttention(nn.Module):
    """Multi-head attention in fewer channels than its tokens have.

    Parameters
    ----------
    channels, num_heads : int
    reduction : int, default=1
        By which channels are divided.
    """

    def __init__(self, channels: int, num_heads: int, reduction: int = 1):
        super().__init__()
        self.num_heads = num_heads
        inner = channels // reduction
        self.q_proj = nn.Linear(channels, inner)
        self.k_proj = nn.Linear(channels, inner)
        self.v_proj = nn.Linear(channels, inner)
        self.out_proj = nn.Linear(inner, channels)

    def forward(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Attend.

        Parameters
        ----------
        q : (B or 1, n, channels) Tensor
        k, v : (B or 1, m, channels) Tensor
            A batch of one is shared by all, and projected once.

        Returns
        -------
        (B, n, channels) Tensor
        """
        q, k, v = self._heads(self.q_proj(q)), self._heads(self.k_proj(k)), self._heads(
            self.v_proj(v)
        )  # fmt: skip
        n = max(len(q), len(k))
        q, k, v = (x.expand(n, -1, -1, -1) for x in (q, k, v))
        y = F.scaled_dot_product_attention(q, k, v)  # (B, heads, n, c)
        return self.out_proj(y.transpose(1, 2).flatten(2))

    def _heads(self, x: Tensor) -> Tensor:
        """(B, n, inner) to (B, heads, n, inner / heads), without a copy."""
        return x.unflatten(-1, (self.num_heads, -1)).transpose(1, 2)


class TwoWayBlock(nn.Module):
    """Tokens attend to each other and to the image, the image attends to them (Fig. 14).

    Parameters
    ----------
    channels, num_heads, mlp_channels : int
    first : bool
        Whether it is the first block: there the tokens are what their places would be added to.
    """

    def __init__(self, channels: int, num_heads: int, mlp_channels: int, first: bool):
        super().__init__()
        self.first = first
        self.self_attn = DecoderAttention(channels, num_heads)
        self.norm1 = nn.LayerNorm(channels)
        self.cross_attn_token_to_image = DecoderAttention(channels, num_heads, reduction=2)
        self.norm2 = nn.LayerNorm(channels)
        self.mlp = MLPBlock(channels, mlp_channels, "relu")
        self.norm3 = nn.LayerNorm(channels)
        self.norm4 = nn.LayerNorm(channels)
        self.cross_attn_image_to_token = DecoderAttention(channels, num_heads, reduction=2)

    def forward(
        self, tokens: Tensor, image: Tensor, token_places: Tensor, image_places: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Apply the block.

        Parameters
        ----------
        tokens : (B, n, channels) Tensor
        image : (B or 1, h w, channels) Tensor
        token_places : (B, n, channels) Tensor
        image_places : (1, h w, channels) Tensor

        Returns
        -------
        tokens : (B, n, channels) Tensor
        image : (B, h w, channels) Tensor
        """
        if self.first:
            tokens = self.self_attn(tokens, tokens, tokens)
        else:
            placed = tokens + token_places
            tokens = tokens + self.self_attn(placed, placed, tokens)
        tokens = self.norm1(tokens)
        placed_image = image + image_places
        tokens = tokens + self.cross_attn_token_to_image(tokens + token_places, placed_image, image)
        tokens = self.norm2(tokens)
        tokens = self.norm3(tokens + self.mlp(tokens))
        image = image + self.cross_attn_image_to_token(placed_image, tokens + token_places, tokens)
        return tokens, self.norm4(image)


class TwoWayTransformer(nn.Module):
    """Some blocks in both directions, and a last look of the tokens at the image.

    Parameters
    ----------
    depth, channels, num_heads, mlp_channels : int
    """

    def __init__(self, depth: int, channels: int, num_heads: int, mlp_channels: int):
        super().__init__()
        self.layers = nn.ModuleList(
            TwoWayBlock(channels, num_heads, mlp_channels, first=i == 0) for i in range(depth)
        )
        self.final_attn_token_to_image = DecoderAttention(channels, num_heads, reduction=2)
        self.norm_final_attn = nn.LayerNorm(channels)

    def forward(self, image: Tensor, image_places: Tensor, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """Transform tokens and image.

        Parameters
        ----------
        image : (B or 1, h w, channels) Tensor
            One image is shared by all prompts: it is projected once, until the prompts change it.
        image_places : (1, h w, channels) Tensor
        tokens : (B, n, channels) Tensor
            They are their own places.

        Returns
        -------
        tokens : (B, n, channels) Tensor
        image : (B, h w, channels) Tensor
        """
        places = tokens
        for layer in self.layers:
            tokens, image = layer(tokens, image, places, image_places)
        tokens = tokens + self.final_attn_token_to_image(
            tokens + places, image + image_places, image
        )
        return self.norm_final_attn(tokens), image


class _Perceptron(nn.Module):
    """Linear layers with ReLU between them."""

    def __init__(self, sizes: list[int]):
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(a, b) for a, b in pairwise(sizes))

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers[:-1]:
            x = F.relu(layer(x))
        return self.layers[-1](x)


class MaskDecoder(nn.Module):
    """Masks of what is prompted, and how good they are thought to be.

    Parameters
    ----------
    channels : int, default=256
        Of tokens and maps.
    depth, num_heads, mlp_channels : int
        Of the transformer.
    num_multimask_outputs : int, default=3
        Masks for an ambiguous prompt; there is one more for prompts that are not.
    iou_head_depth, iou_head_channels : int
        Of the net that estimates IoUs.

    Notes
    -----
    Parameter names are those of the authors' code.
    """

    def __init__(
        self,
        channels: int = 256,
        *,
        depth: int = 2,
        num_heads: int = 8,
        mlp_channels: int = 2048,
        num_multimask_outputs: int = 3,
        iou_head_depth: int = 3,
        iou_head_channels: int = 256,
    ):
        super().__init__()
        n_masks = num_multimask_outputs + 1
        self.transformer = TwoWayTransformer(depth, channels, num_heads, mlp_channels)
        self.iou_token = nn.Embedding(1, channels)
        self.mask_tokens = nn.Embedding(n_masks, channels)
        self.output_upscaling = nn.Sequential(
            nn.ConvTranspose2d(channels, channels // 4, kernel_size=2, stride=2),
            ChannelNorm(channels // 4),
            nn.GELU(),
            nn.ConvTranspose2d(channels // 4, channels // 8, kernel_size=2, stride=2),
            nn.GELU(),
        )
        self.output_hypernetworks_mlps = nn.ModuleList(
            _Perceptron([channels, channels, channels, channels // 8]) for _ in range(n_masks)
        )
        hidden = [iou_head_channels] * (iou_head_depth - 1)
        self.iou_prediction_head = _Perceptron([channels, *hidden, n_masks])

    def forward(
        self, embedding: Tensor, places: Tensor, tokens: Tensor, dense: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Predict all masks.

        Parameters
        ----------
        embedding : (B or 1, channels, h, w) Tensor
            Of the image.
        places : (1, channels, h, w) Tensor
            Of the cells of `embedding`.
        tokens : (B or 1, n, channels) Tensor
            Of the prompts.
        dense : (B or 1, channels, h or 1, w or 1) Tensor

        Returns
        -------
        logits : (B, num_multimask_outputs + 1, 4 h, 4 w) Tensor
            The first is that for prompts that are not ambiguous.
        ious : (B, num_multimask_outputs + 1) Tensor
        """
        image = embedding + dense
        channels, height, width = image.shape[1:]
        n = max(len(image), len(tokens))
        own = torch.cat([self.iou_token.weight, self.mask_tokens.weight])
        tokens = torch.cat([own.expand(n, -1, -1), tokens.expand(n, -1, -1)], dim=1)
        tokens, image = self.transformer(
            image.flatten(2).transpose(1, 2), places.flatten(2).transpose(1, 2), tokens
        )
        # (B, h w, channels) is a map in channels-last memory: nothing is copied.
        image = image.view(n, height, width, channels).permute(0, 3, 1, 2)
        image = self.output_upscaling(image)  # (B, channels / 8, 4 h, 4 w)
        mixtures = torch.stack(
            [mlp(tokens[:, 1 + i]) for i, mlp in enumerate(self.output_hypernetworks_mlps)], dim=1
        )  # (B, masks, channels / 8)
        logits = mixtures @ image.flatten(2)
        return logits.unflatten(2, image.shape[2:]), self.iou_prediction_head(tokens[:, 0])
