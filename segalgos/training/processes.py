"""Several processes that train one network together, each on a device of its own.

``accelerate launch`` or ``torchrun`` starts them; what they exchange goes through `accelerate`.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor

__all__ = ["Processes", "launched_device"]

# What both launchers tell every process.
LAUNCHED = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "MASTER_ADDR")


def _state() -> Any:
    """What `accelerate` knows of the processes; None if there is this one alone."""
    if any(name not in os.environ for name in LAUNCHED) or os.environ["WORLD_SIZE"] == "1":
        return None
    try:
        from accelerate import PartialState
        from accelerate.utils import parse_flag_from_env
    except ImportError as error:
        raise ImportError(
            "Training by several processes needs accelerate: pip install 'segalgos[torch]'."
        ) from error
    return PartialState(cpu=parse_flag_from_env("ACCELERATE_USE_CPU"))


def launched_device() -> torch.device | None:
    """Tell which device a launcher meant for this process.

    Returns
    -------
    torch.device or None
        None if no launcher started several processes.
    """
    state = _state()
    return None if state is None else state.device


class Processes:
    """The processes of a training: this one alone, or all that were launched.

    All call the same methods in the same order. With one process nothing is exchanged.

    Attributes
    ----------
    rank, count : int
        Which of how many this process is.
    """

    def __init__(self) -> None:
        self._state = _state()
        self.rank, self.count = 0, 1
        if self._state is not None:
            self.rank, self.count = self._state.process_index, self._state.num_processes

    def own(self, n_parts: int) -> range:
        """Choose the parts of a batch that this process computes.

        Parameters
        ----------
        n_parts : int

        Returns
        -------
        range

        Raises
        ------
        ValueError
            If there are fewer parts than processes.
        """
        if n_parts < self.count:
            raise ValueError(
                f"train: {self.count} processes share a batch of {n_parts} parts, so that some "
                f"have nothing to do: raise batch_size {self.count / n_parts:.2g} times, or launch "
                "fewer."
            )
        return range(self.rank, n_parts, self.count)

    def agree(self, value: Any) -> Any:
        """Take over what the first process has.

        Parameters
        ----------
        value : object
            Of numbers, texts, lists and dicts.

        Returns
        -------
        object
        """
        if self.count == 1:
            return value
        from accelerate.utils import broadcast_object_list

        return broadcast_object_list([value])[0]

    def add_up(self, tensors: Sequence[Tensor]) -> list[Tensor]:
        """Add up tensors over all processes.

        Parameters
        ----------
        tensors : sequence of Tensor
            Of shapes that all processes have.

        Returns
        -------
        list of Tensor
            In float32. Those given are left alone.
        """
        if self.count == 1:
            return list(tensors)
        from accelerate.utils import reduce

        # As one: each exchange has its delay.
        flat = torch.cat([tensor.detach().reshape(-1).float() for tensor in tensors])
        sums = reduce(flat.to(self._state.device), "sum").to(flat.device)
        parts = sums.split([tensor.numel() for tensor in tensors])
        return [part.view(t.shape) for part, t in zip(parts, tensors, strict=True)]

    @torch.no_grad()
    def hand_out(self, tensors: Iterable[Tensor]) -> None:
        """Overwrite tensors with those of the first process.

        Parameters
        ----------
        tensors : iterable of Tensor
        """
        if self.count == 1:
            return
        from accelerate.utils import broadcast

        for tensor in tensors:
            tensor.copy_(broadcast(tensor.detach().to(self._state.device)))
