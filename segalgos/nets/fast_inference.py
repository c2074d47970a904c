"""Networks rewritten for prediction on a CPU: the same function in fewer operations."""

from __future__ import annotations

import copy
from collections import Counter
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from segalgos.nets.mixed_precision import round_weights
from segalgos.nets.norm import FrozenBatchNorm2d
from segalgos.winograd import WinogradConv2d

__all__ = ["fuse"]

CONVOLUTIONS = (nn.Conv2d, nn.ConvTranspose2d)
NORMS = (nn.BatchNorm2d, FrozenBatchNorm2d)

# Height and width of the image that shows which layer follows which.
SAMPLE_SIZE = 32


def fuse(
    network: nn.Module,
    *,
    n_channels: int | None = None,
    winograd: bool = True,
    precision: str = "float32",
) -> nn.Module:
    """Copy a network for prediction on a CPU: the same outputs, faster.

    Parameters
    ----------
    network : torch.nn.Module
        One of `segalgos.nets`, or one with their attributes ``margin`` and ``fit_size``. It
        is left as it is.
    n_channels : int, optional
        Channels of the image. None: what the network's first convolution takes.
    winograd : bool, default=True
        Compute large 3x3 convolutions by `WinogradConv2d`, which holds their weights five
        times. Not in bfloat16, where it is no faster.
    precision : {"float32", "bfloat16"}, default="float32"
        See `segalgos.nets.mixed_precision`.

    Returns
    -------
    torch.nn.Module
        In evaluation mode, on the CPU, weights in channels-last memory and without
        gradients. Its attributes are those of `network`; its state dict is not.

    Raises
    ------
    ValueError
        If the network has no convolution.

    Notes
    -----
    A batch normalisation is a linear map of each channel in evaluation, so where it alone
    takes what a convolution gives it is folded into that convolution's weights. Which takes
    which is seen in one forward pass of a small image. Norms before a convolution stay as
    they are.

    A subclass of `torch.nn.Conv2d` must use its ``bias`` also if it was built without.

    Outputs differ by rounding: about 1e-6 of the largest for folded norms, 1e-5 for
    Winograd's convolutions.
    """
    if n_channels is None:
        first = next((m for m in network.modules() if isinstance(m, nn.Conv2d)), None)
        if first is None:
            raise ValueError("fuse: the network has no Conv2d: there is nothing to make faster.")
        n_channels = first.in_channels
    fused = copy.deepcopy(network).cpu().eval().requires_grad_(False)
    size = fused.fit_size(SAMPLE_SIZE) + 2 * fused.margin
    sample = torch.zeros(1, n_channels, size, size)
    replaced = {}
    for conv, norm in _foldable(fused, sample):
        _fold(conv, norm)
        replaced[norm] = nn.Identity()
    if winograd and precision == "float32":
        replaced |= {m: WinogradConv2d(m) for m in fused.modules() if WinogradConv2d.suits(m)}
    for parent in list(fused.modules()):
        for name, child in parent.named_children():
            if child in replaced:
                setattr(parent, name, replaced[child])
    fused.precision = precision
    if precision == "bfloat16":
        round_weights(fused, sample)
    return fused.to(memory_format=torch.channels_last).eval()


class _Uses(TorchDispatchMode):
    """Count how often operations take each of the tensors that are watched."""

    def __init__(self) -> None:
        super().__init__()
        self.watched: dict[int, Tensor] = {}  # held, so that no other gets the same id
        self.counts: Counter[int] = Counter()

    def watch(self, tensor: Tensor) -> None:
        self.watched[id(tensor)] = tensor

    def __torch_dispatch__(self, operation, types, args=(), kwargs=None) -> Any:
        kwargs = kwargs or {}
        for leaf in tree_leaves((args, kwargs)):
            if id(leaf) in self.watched:
                self.counts[id(leaf)] += 1
        return operation(*args, **kwargs)


def _foldable(network: nn.Module, sample: Tensor) -> list[tuple[nn.Module, nn.Module]]:
    """Pairs of a convolution and the norm that alone takes its output, each run once."""
    uses = _Uses()
    runs: Counter[nn.Module] = Counter()
    made_by: dict[int, nn.Module] = {}
    taken: list[tuple[int, nn.Module]] = []

    def after_convolution(conv: nn.Module, _: tuple, output: Tensor) -> None:
        runs[conv] += 1
        uses.watch(output)
        made_by[id(output)] = conv

    def before_norm(norm: nn.Module, args: tuple) -> None:
        runs[norm] += 1
        if id(args[0]) in made_by:
            taken.append((id(args[0]), norm))

    handles = []
    for module in network.modules():
        if isinstance(module, CONVOLUTIONS):
            handles.append(module.register_forward_hook(after_convolution))
        elif isinstance(module, NORMS) and module.running_mean is not None:
            handles.append(module.register_forward_pre_hook(before_norm))
    try:
        with torch.no_grad(), uses:
            uses.counts.update(id(leaf) for leaf in tree_leaves(network(sample)))
    finally:
        for handle in handles:
            handle.remove()
    return [
        (made_by[output], norm)
        for output, norm in taken
        if uses.counts[output] == runs[made_by[output]] == runs[norm] == 1
    ]


def _fold(conv: nn.Module, norm: nn.Module) -> None:
    """Multiply weights and bias of a convolution by what the norm does to its output."""
    deviation = (norm.running_var.double() + norm.eps).sqrt()
    scale = (1.0 if norm.weight is None else norm.weight.double()) / deviation
    shift = (0.0 if norm.bias is None else norm.bias.double()) - norm.running_mean * scale
    weight = conv.weight.double()
    if isinstance(conv, nn.ConvTranspose2d):  # (c_in, c_out / groups, kh, kw)
        grouped = weight.unflatten(0, (conv.groups, -1))
        weight = (grouped * scale.view(conv.groups, 1, -1, 1, 1)).flatten(0, 1)
    else:  # (c_out, c_in / groups, kh, kw)
        weight = weight * scale.view(-1, 1, 1, 1)
    bias = shift if conv.bias is None else conv.bias.double() * scale + shift
    dtype = conv.weight.dtype
    conv.weight = nn.Parameter(weight.to(dtype), requires_grad=False)
    conv.bias = nn.Parameter(bias.to(dtype), requires_grad=False)
