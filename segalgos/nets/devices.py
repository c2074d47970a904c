"""Where networks compute: on the CPU, or on a device that is here."""

from __future__ import annotations

import torch

from segalgos.training.processes import launched_device

__all__ = ["find_device"]


def find_device(device: str | torch.device | None, caller: str) -> torch.device:
    """Take up a method's ``device``.

    Parameters
    ----------
    device : str, torch.device or None
        None for the one of this process, where a launcher started several, else for a GPU if there
        is one.
    caller : str
        For the message.

    Returns
    -------
    torch.device

    Raises
    ------
    TypeError
        If it is no name.
    ValueError
        If there is no such device here.
    """
    if device is None:
        default = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        found = launched_device() or default
    elif not isinstance(device, str | torch.device):
        raise TypeError(f"{caller}: device is {device!r}, expected a name.")
    else:
        try:
            found = torch.device(device)
            torch.empty(0, device=found)
        except (RuntimeError, AssertionError, NotImplementedError) as error:
            raise ValueError(
                f"{caller}: device is {device!r}, which is not here ({error}): "
                'pass "cpu", or None for a GPU if there is one.'
            ) from error
    return torch.device("cpu") if found.type == "cpu" else found  # torch.load knows no "cpu:0"
