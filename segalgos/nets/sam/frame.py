"""Between images of any size, in rows and columns, and the frame in which SAM sees them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

__all__ = ["Frame"]

#: A rough mask of True and False is as sure as this share of a cell: logits of -6.9 to 6.9.
SUREST = 0.999


@dataclass(frozen=True)
class Frame:
    """Where an image lies in the square that the network sees.

    Parameters
    ----------
    shape : tuple of int
        Height and width of the image, at least 1.
    side : int
        Of the square.
    mask_side : int
        Height and width of the network's masks, which span the square.

    Notes
    -----
    The longer side of the image is resized to that of the square, the rest of the square
    stays empty: to the right or below.
    """

    shape: tuple[int, int]
    side: int
    mask_side: int

    @property
    def inner(self) -> tuple[int, int]:
        """Height and width of the image within the square: rounded, at least 1."""
        scale = self.side / max(self.shape)
        return tuple(max(1, int(n * scale + 0.5)) for n in self.shape)

    def resize(self, image: NDArray) -> Tensor:
        """Resize an image to its size within the square.

        Parameters
        ----------
        image : (H, W, 3) uint8 or float32

        Returns
        -------
        (1, 3, h, w) float32 Tensor
            Bilinear, averaged over what a pixel covers where the image shrinks.
        """
        x = torch.from_numpy(image).permute(2, 0, 1)[None].float()
        if self.inner == self.shape:
            return x.contiguous()
        return F.interpolate(x, self.inner, mode="bilinear", antialias=True)

    def points(self, points: NDArray[np.float64]) -> NDArray[np.float32]:
        """Take points to the square.

        Parameters
        ----------
        points : (N, 2) float
            Row and column in the image.

        Returns
        -------
        (N, 2) float32
            x and y.
        """
        scaled = points * (np.array(self.inner) / self.shape)
        return np.ascontiguousarray(scaled[:, ::-1], dtype=np.float32)

    def boxes(self, boxes: NDArray[np.float64]) -> NDArray[np.float32]:
        """Take boxes to the square.

        Parameters
        ----------
        boxes : (N, 4) float
            As row0, col0, row1, col1 in the image.

        Returns
        -------
        (N, 2, 2) float32
            x and y of both corners.
        """
        return self.points(boxes.reshape(-1, 2)).reshape(-1, 2, 2)

    def logits_of(self, mask: NDArray[np.bool_]) -> Tensor:
        """Make of a rough mask what the network takes: logits as of an earlier mask.

        Parameters
        ----------
        mask : (H, W) bool

        Returns
        -------
        (1, 1, mask_side, mask_side) float32 Tensor
            Of the share of each cell that is True.
        """
        height, width = self.inner
        share = torch.from_numpy(mask.astype(np.float32))[None, None]
        share = F.interpolate(share, self.inner, mode="bilinear", antialias=True)
        share = F.pad(share, (0, self.side - width, 0, self.side - height))
        share = F.adaptive_avg_pool2d(share, self.mask_side)
        return share.clamp(1 - SUREST, SUREST).logit()

    def to_image(self, logits: Tensor) -> Tensor:
        """Enlarge masks to the size of the image.

        Parameters
        ----------
        logits : (N, mask_side, mask_side) Tensor

        Returns
        -------
        (N, H, W) Tensor
            Interpolated bilinearly, first to the square and then, without what is beyond the
            image, to its size, as in the authors' code.
        """
        height, width = self.inner
        x = F.interpolate(logits[None], (self.side, self.side), mode="bilinear")
        x = x[..., :height, :width]
        if self.inner != self.shape:
            x = F.interpolate(x, self.shape, mode="bilinear")
        return x[0]
