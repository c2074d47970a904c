"""SAM's prompt encoder: points, boxes and masks as tokens and maps."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from segalgos.nets.sam.blocks import ChannelNorm

__all__ = ["PositionEmbedding", "PromptEncoder"]

#: Labels of points: filler, outside, inside, and the two corners of a box.
FILLER, OUTSIDE, INSIDE, FIRST_CORNER, SECOND_CORNER = -1, 0, 1, 2, 3


class PositionEmbedding(nn.Module):
    """Sines and cosines of a place, at random frequencies [1]_.

    Parameters
    ----------
    n_frequencies : int

    References
    ----------
    .. [1] M. Tancik et al., "Fourier features let networks learn high frequency functions in
       low dimensional domains", NeurIPS 2020.
    """

    def __init__(self, n_frequencies: int):
        super().__init__()
        # Part of the weights, but nothing that is learned.
        self.register_buffer("positional_encoding_gaussian_matrix", torch.randn(2, n_frequencies))

    def forward(self, places: Tensor) -> Tensor:
        """Embed places.

        Parameters
        ----------
        places : (..., 2) Tensor
            As x and y, 0 to 1 within the image.

        Returns
        -------
        (..., 2 * n_frequencies) Tensor
        """
        angles = 2 * math.pi * ((2 * places - 1) @ self.positional_encoding_gaussian_matrix)
        return torch.cat([angles.sin(), angles.cos()], dim=-1)


class PromptEncoder(nn.Module):
    """Tokens of points and boxes, and a map of a rough mask.

    Parameters
    ----------
    channels : int
        Of tokens and maps.
    image_size, patch_size : int
        Of the image encoder.
    mask_channels : int, default=16
        Within the net that shrinks masks.

    Notes
    -----
    Parameter names are those of the authors' code.
    """

    def __init__(self, channels: int, image_size: int, patch_size: int, *, mask_channels: int = 16):
        super().__init__()
        self.image_size = image_size
        self.map_size = image_size // patch_size
        self.pe_layer = PositionEmbedding(channels // 2)
        self.point_embeddings = nn.ModuleList(nn.Embedding(1, channels) for _ in range(4))
        self.not_a_point_embed = nn.Embedding(1, channels)
        self.mask_downscaling = nn.Sequential(
            nn.Conv2d(1, mask_channels // 4, kernel_size=2, stride=2),
            ChannelNorm(mask_channels // 4),
            nn.GELU(),
            nn.Conv2d(mask_channels // 4, mask_channels, kernel_size=2, stride=2),
            ChannelNorm(mask_channels),
            nn.GELU(),
            nn.Conv2d(mask_channels, channels, kernel_size=1),
        )
        self.no_mask_embed = nn.Embedding(1, channels)

    def map_places(self) -> Tensor:
        """Embed the place of each cell of the image's embedding.

        Returns
        -------
        (1, channels, h, w) Tensor
        """
        matrix = self.pe_layer.positional_encoding_gaussian_matrix
        centres = torch.arange(self.map_size, device=matrix.device, dtype=matrix.dtype)
        centres = (centres + 0.5) / self.map_size
        y, x = torch.meshgrid(centres, centres, indexing="ij")
        return self.pe_layer(torch.stack([x, y], dim=-1)).permute(2, 0, 1)[None]

    def embed_points(self, points: Tensor, labels: Tensor) -> Tensor:
        """Make a token of each point.

        Parameters
        ----------
        points : (B, N, 2) Tensor
            As x and y of pixels in the frame of `image_size`.
        labels : (B, N) Tensor
            1 inside, 0 outside the object; 2 and 3 first and second corner of a box; -1 filler,
            whose place does not count.

        Returns
        -------
        (B, N, channels) Tensor
        """
        tokens = self.pe_layer((points + 0.5) / self.image_size)  # a pixel's place is its centre
        labels = labels[..., None]
        tokens = torch.where(labels == FILLER, self.not_a_point_embed.weight, tokens)
        for label, embedding in enumerate(self.point_embeddings):
            tokens = tokens + embedding.weight * (labels == label)
        return tokens

    def embed_mask(self, mask: Tensor | None) -> Tensor:
        """Make a map of a rough mask.

        Parameters
        ----------
        mask : (B, 1, 4 h, 4 w) Tensor or None
            Logits, as the decoder gives them.

        Returns
        -------
        (B, channels, h, w) Tensor
            (1, channels, 1, 1) if there is no mask.
        """
        if mask is None:
            return self.no_mask_embed.weight[:, :, None, None]
        return self.mask_downscaling(mask)

    def forward(
        self,
        points: Tensor | None,
        labels: Tensor | None,
        boxes: Tensor | None,
        mask: Tensor | None,
    ) -> tuple[Tensor, Tensor]:
        """Embed prompts.

        Parameters
        ----------
        points : (B, N, 2) Tensor or None
        labels : (B, N) Tensor or None
        boxes : (B, 4) Tensor or None
            As x0, y0, x1, y1 in the frame of `image_size`.
        mask : (B, 1, 4 h, 4 w) Tensor or None

        Returns
        -------
        tokens : (B or 1, n, channels) Tensor
            Points, then corners of boxes. Points without a box are followed by a filler.
        dense : (B or 1, channels, h or 1, w or 1) Tensor
        """
        parts = []
        if points is not None:
            if boxes is None:
                points = torch.cat([points, points.new_zeros(len(points), 1, 2)], dim=1)
                labels = torch.cat([labels, labels.new_full((len(labels), 1), FILLER)], dim=1)
            parts.append(self.embed_points(points, labels))
        if boxes is not None:
            corners = boxes.view(-1, 2, 2)
            kinds = torch.tensor([FIRST_CORNER, SECOND_CORNER], device=boxes.device)
            parts.append(self.embed_points(corners, kinds.expand(len(boxes), 2)))
        if not parts:
            parts = [self.no_mask_embed.weight.new_zeros(1, 0, self.no_mask_embed.embedding_dim)]
        return torch.cat(parts, dim=1), self.embed_mask(mask)
