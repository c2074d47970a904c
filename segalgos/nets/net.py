"""What segmenters ask of any network, whatever its task."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from typing import Self

import torch
from torch import Tensor, nn

from segalgos.nets.checkpoints import load_weights, read_weights

__all__ = ["Net"]


class Net(nn.Module):
    """A network whose parts can be frozen, and that loads published weights.

    Attributes
    ----------
    stride : int
        Inputs are padded to multiples of it.
    margin : int
        Pixels that the output is smaller than the input, on each side.
    memory_format : torch.memory_format
        In which training is fastest on a CPU, as measured: wide 3x3 convolutions are fastest
        with `torch.contiguous_format`, many thin layers with `torch.channels_last`.
    precision : {"float32", "bfloat16"}
        Of convolutions and products of matrices in prediction, see
        `segalgos.nets.mixed_precision.predicting`.
    """

    stride: int
    margin: int = 0
    memory_format: torch.memory_format = torch.contiguous_format
    precision: str = "float32"

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

    def unfreeze(self) -> None:
        """Let training change every module again."""
        for module in self._frozen:
            module.requires_grad_(True)
        self._frozen = []
        self.train(self.training)

    def train(self, mode: bool = True) -> Self:
        """Set the mode of all modules that are not frozen.

        Parameters
        ----------
        mode : bool, default=True
            False for evaluation.

        Returns
        -------
        Net
            Itself.
        """
        super().train(mode)
        for module in self._frozen:
            module.eval()
        return self

    def fit_size(self, size: int) -> int:
        """Find the smallest height or width that is at least `size` and needs no padding.

        Parameters
        ----------
        size : int
            At least 1.

        Returns
        -------
        int
        """
        return -(-size // self.stride) * self.stride

    def load_checkpoint(self, source: str | os.PathLike | Mapping[str, Tensor]) -> Self:
        """Load weights; nothing may be missing or left over.

        Parameters
        ----------
        source : path-like or mapping of str to Tensor
            A safetensors file, a file of ``torch.save`` (read without unpickling), or a
            state dict. The class tells which names it may have.

        Returns
        -------
        Net
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
