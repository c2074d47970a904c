"""What segmenters ask of a semantic network, whatever its architecture."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from typing import Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from segalgos.nets.checkpoints import load_weights, read_weights

__all__ = ["CoarseNet", "SemanticNet"]


class SemanticNet(nn.Module):
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
    memory_format : torch.memory_format
        In which training is fastest on a CPU, as measured: wide 3x3 convolutions are fastest
        with `torch.contiguous_format`, many thin layers with `torch.channels_last`.
    """

    stride: int
    margin: int = 0
    halo: int | None = None
    size_step: int | None = None
    memory_format: torch.memory_format = torch.contiguous_format

    def __init__(self):
        super().__init__()
        self._frozen: list[nn.Module] = []

    def freeze(self, modules: Iterable[nn.Module]) -> None:
        """Keep some modules as they are: training changes neither weights nor statistics.

        Parameters
        ----------
        modules : iterable of torch.nn.Module
            Of this network. They stay in evaluation mode.
        """
        self._frozen = list(modules)
        for module in self._frozen:
            module.requires_grad_(False)
        self.train(self.training)

    def train(self, mode: bool = True) -> Self:
        """Set the mode of all modules that are not frozen.

        Parameters
        ----------
        mode : bool, default=True
            False for evaluation.

        Returns
        -------
        SemanticNet
            Itself.
        """
        super().train(mode)
        for module in self._frozen:
            module.eval()
        return self

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

    def load_checkpoint(self, source: str | os.PathLike | Mapping[str, Tensor]) -> Self:
        """Load weights; nothing may be missing or left over.

        Parameters
        ----------
        source : path-like or mapping of str to Tensor
            A safetensors file, a file of ``torch.save`` (read without unpickling), or a
            state dict. The class tells which names it may have.

        Returns
        -------
        SemanticNet
            Itself.

        Raises
        ------
        ValueError
            If names or shapes differ, or the file is damaged.
        """
        load_weights(self, self._own_names(read_weights(source)))
        return self

    def _own_names(self, weights: dict[str, Tensor]) -> dict[str, Tensor]:
        """Rename weights of published files to the parameters of this network."""
        return weights


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
