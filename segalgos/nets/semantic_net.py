"""What segmenters ask of a semantic network, whatever its architecture."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from segalgos.nets.net import Net

__all__ = ["CoarseNet", "SemanticNet"]


class SemanticNet(Net):
    """A network from images (N, C, H, W) to logits (N, K, h, w).

    Attributes
    ----------
    stride : int
        Windows aligned to it give the same output as the whole image.
    margin : int
        Pixels that the output is smaller than the input, on each side.
    halo : int or None
        Pixels around an output that it depends on, at most; a multiple of `stride`. None if
        it depends on the whole image.
    size_step : int or None
        Outputs have heights and widths that are multiples of it; None stands for `stride`.
    """

    halo: int | None = None
    size_step: int | None = None

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
        step = self.size_step or self.stride
        return -(-size // step) * step


class CoarseNet(SemanticNet):
    """A semantic network whose scores lie on a coarse grid, interpolated to the pixels.

    A subclass has `coarse_scores`, and `coarse_scores_with_aux` if it can have an auxiliary
    head. Who needs just the largest score of each pixel can do without interpolating most.

    Attributes
    ----------
    has_aux : bool
        Whether there is an auxiliary head, trained along with the network's own.
    """

    has_aux: bool = False

    def coarse_scores(self, x: Tensor) -> Tensor:
        """Compute class scores on the network's own grid.

        Parameters
        ----------
        x : (N, C, H, W) Tensor

        Returns
        -------
        (N, K, h, w) Tensor
        """
        raise TypeError(f"{type(self).__name__} has no coarse_scores: write one.")

    def coarse_scores_with_aux(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Compute class scores, and those of the auxiliary head.

        Parameters
        ----------
        x : (N, C, H, W) Tensor

        Returns
        -------
        scores : (N, K, h, w) Tensor
            Those of `coarse_scores`.
        aux_scores : (N, K, h', w') Tensor
        """
        raise TypeError(f"{type(self).__name__} has no coarse_scores_with_aux: write one.")

    def extent(self, size: tuple[int, int]) -> tuple[int, int]:
        """Find what the grid of scores spans.

        Parameters
        ----------
        size : tuple of int
            Height and width of the input.

        Returns
        -------
        tuple of int
            In pixels, from the input's first: not less than `size`.
        """
        return size

    def forward(self, x: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        """Compute class scores.

        Parameters
        ----------
        x : (N, C, H, W) Tensor

        Returns
        -------
        (N, K, H, W) Tensor, or two of them
            Logits. In training with an auxiliary head: those of `forward_with_aux`.
        """
        if self.training and self.has_aux:
            return self.forward_with_aux(x)
        return self._enlarge(self.coarse_scores(x), x)

    def forward_with_aux(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Compute class scores twice, for a loss that sums up both.

        Parameters
        ----------
        x : (N, C, H, W) Tensor

        Returns
        -------
        logits : (N, K, H, W) Tensor
            Those of the network's own head.
        aux_logits : (N, K, H, W) Tensor
            Of the auxiliary head.

        Raises
        ------
        ValueError
            If there is no auxiliary head.
        """
        if not self.has_aux:
            name = type(self).__name__
            raise ValueError(f"{name}: there is no auxiliary head: build it with auxiliary=True.")
        scores, aux_scores = self.coarse_scores_with_aux(x)
        return self._enlarge(scores, x), self._enlarge(aux_scores, x)

    def _enlarge(self, scores: Tensor, x: Tensor) -> Tensor:
        """Interpolate scores to the pixels of the input."""
        height, width = x.shape[2:]
        extent = self.extent((height, width))
        if tuple(scores.shape[2:]) != tuple(extent):
            scores = F.interpolate(scores, extent, mode="bilinear")
        return scores[:, :, :height, :width]
