"""Any network behind the interface of a segmenter."""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Sequence
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor, nn

from segalgos import checks
from segalgos.base import Traits
from segalgos.nets.fast_inference import fuse
from segalgos.nets.mixed_precision import in_precision
from segalgos.nets.semantic import SemanticNetSegmenter
from segalgos.nets.semantic_net import CoarseNet
from segalgos.nets.trained import check_statistics
from segalgos.nets.unet import UNet

__all__ = ["NetSegmenter", "PlainLogits"]


class PlainLogits(CoarseNet):
    """A network whose output is brought to the form that segmenters take.

    Parameters
    ----------
    module : torch.nn.Module
        From (N, C, H, W) to logits (N, K, h, w) of any size; also as ``"out"`` or ``"logits"``
        of a dict, as the attribute ``logits``, or first in a tuple.
    stride : int, default=32
        Images are padded to multiples of it.
    """

    def __init__(self, module: nn.Module, stride: int = 32):
        super().__init__()
        self.module = module
        self.stride = stride

    def coarse_scores(self, x: Tensor) -> Tensor:
        """Compute class scores on the module's own grid.

        Parameters
        ----------
        x : (N, C, H, W) Tensor

        Returns
        -------
        (N, K, h, w) Tensor

        Raises
        ------
        TypeError
            If the module gives nothing that is known to hold logits.
        """
        if isinstance(self.module, CoarseNet) and not self.training:
            return self.module.coarse_scores(x)
        return _find_logits(self.module(x))

    def extent(self, size: tuple[int, int]) -> tuple[int, int]:
        """Find what the grid of scores spans.

        Parameters
        ----------
        size : tuple of int
            Height and width of the input.

        Returns
        -------
        tuple of int
            In pixels.
        """
        if isinstance(self.module, CoarseNet) and not self.training:
            return self.module.extent(size)
        return size


def _find_logits(output: Any) -> Tensor:
    """Take the logits out of what a network gives."""
    found = output
    if isinstance(output, dict):
        found = output.get("out", output.get("logits"))
    elif hasattr(output, "logits"):
        found = output.logits
    elif isinstance(output, tuple | list) and output:
        found = output[0]
    if not isinstance(found, Tensor) or found.ndim != 4:
        kind = f"a tensor of shape {tuple(found.shape)}" if isinstance(found, Tensor) else (
            f"a {type(output).__name__}"
        )  # fmt: skip
        raise TypeError(
            f"NetSegmenter: the module gives {kind}, expected logits (N, K, h, w), or a dict or "
            "object that holds them as 'out' or 'logits': wrap it in a module that gives these."
        )
    return found


class NetSegmenter(SemanticNetSegmenter):
    """Any torch module, or a model of Hugging Face, as a semantic segmenter.

    Parameters
    ----------
    module : torch.nn.Module, optional
        From (N, C, H, W) to logits (N, K, h, w) of any size, K the number of classes; also as
        ``"out"`` or ``"logits"`` of a dict, as the attribute ``logits``, or first in a tuple.
        It is copied: training does not change it. None takes a U-Net with 16 channels in the
        first step.
    stride : int, default=32
        Images are padded to multiples of it.
    tile_size : int, default=1024
        Larger images are predicted in windows of this height and width, which overlap by a
        quarter and are blended.
    **training
        Parameters of every net: those of `SemanticNetSegmenter`.

    Attributes
    ----------
    classes_ : (K,) int32
        Class ids, sorted.
    network_ : PlainLogits
        With the trained copy as ``network_.module``.
    n_parameters_ : int
    history_ : list of dict
        One row an epoch: epoch, steps, loss, learning_rate, seconds and, where it was
        validated, score.
    mean_, std_ : (C,) float64
        Of the training images, by channel; images are standardised with them.

    See Also
    --------
    NetSegmenter.from_trained : For a network that needs no further training.

    Notes
    -----
    A model file holds no code, so that a segmenter with a `module` cannot be saved by
    ``save``: keep its weights, ``segmenter.network_.module.state_dict()``, in a safetensors
    file, or the whole by `pickle` where you trust the file.

    Examples
    --------
    >>> import numpy as np
    >>> from torch import nn
    >>> from segalgos import NetSegmenter
    >>> module = nn.Sequential(nn.Conv2d(1, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 2, 1))
    >>> image = np.zeros((32, 32)); image[8:24, 8:24] = 1
    >>> segmenter = NetSegmenter(module, epochs=30, learning_rate=0.05, random_state=0)
    >>> labels = segmenter.fit(image, image.astype(int)).predict(image)
    >>> bool((labels == image).mean() > 0.9)
    True
    """

    traits = Traits(
        task="semantic",
        family="nets",
        year=2015,
        needs_fit=True,
        needs_labels=True,
        takes_sample_weight=True,
        deterministic=False,
        keeps_uint8=True,
    )

    def __init__(
        self,
        module: nn.Module | None = None,
        *,
        stride: int = 32,
        tile_size: int = 1024,
        **training: Any,
    ):
        super().__init__(tile_size=tile_size, **training)
        self.module = module
        self.stride = stride

    @classmethod
    def small(cls) -> Self:
        """Make an instance with tiny parameters, for tests and demos.

        Returns
        -------
        NetSegmenter
            Of the default network.
        """
        return cls(
            stride=16, epochs=4, batch_size=2, crop_size=32, learning_rate=0.01, random_state=0
        )

    @classmethod
    def from_trained(
        cls,
        module: nn.Module,
        *,
        classes: Sequence[int] | None = None,
        mean: ArrayLike = (123.675, 116.28, 103.53),
        std: ArrayLike = (58.395, 57.12, 57.375),
        **params: Any,
    ) -> Self:
        """Make a fitted segmenter of a network that is trained already.

        Parameters
        ----------
        module : torch.nn.Module
            As above.
        classes : sequence of int, optional
            Id of each of the K classes, ascending; 0 to K - 1 by default.
        mean, std : (C,) array-like
            What images are standardised with; ImageNet's for 8-bit colours by default.
        **params
            Parameters of the segmenter, such as ``tile_size``.

        Returns
        -------
        NetSegmenter
            Ready to predict.

        Raises
        ------
        ValueError
            If the numbers of classes and channels do not fit.
        """
        segmenter = cls(module, **params)
        segmenter._check_params()
        mean, std = check_statistics(f"{cls.__name__}.from_trained", mean, std)
        network = segmenter._new_network(len(mean), None, seed=0)
        n_classes = _count_classes(network, len(mean))
        ids = np.arange(n_classes) if classes is None else classes
        segmenter._take_over(network, n_classes, ids, mean, std)
        return segmenter

    def _check_params(self) -> None:
        super()._check_params()
        checks.check_int(self._caller, "stride", self.stride, low=1)
        if not isinstance(self.module, nn.Module | None):
            raise TypeError(
                f"{self._caller}: module is a {type(self.module).__name__}, expected a "
                "torch.nn.Module."
            )

    def _identity(self, *data: list | None) -> str:
        """Digest of everything that decides what training gives, the module's weights too."""
        digest = hashlib.sha256(super()._identity(*data).encode())
        for name, tensor in (self.module.state_dict() if self.module is not None else {}).items():
            digest.update(f"{name}{tensor.dtype}{tuple(tensor.shape)}".encode())
            digest.update(tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy())
        return digest.hexdigest()

    def _make_fast(self, network: nn.Module) -> nn.Module:
        """Rewrite the network, if it is then the same function on a random image.

        Nobody knows what a module does with its layers besides calling them.
        """
        as_it_is = in_precision(network, self.prediction_precision)
        if next(network.parameters()).device.type != "cpu":
            return as_it_is
        side = network.fit_size(64)
        generator = torch.Generator().manual_seed(0)
        x = torch.randn(1, len(self.mean_), side, side, generator=generator)
        try:
            fast = fuse(network, n_channels=len(self.mean_))
            with torch.inference_mode():
                expected, found = network(x), fast(x)
        except (RuntimeError, ValueError, TypeError, AttributeError):
            return as_it_is
        if (found - expected).abs().max() > 1e-3 * expected.abs().max():
            return as_it_is
        return fast if self.prediction_precision == "float32" else super()._make_fast(network)

    def _build(
        self, n_channels: int, n_classes: int | None, generator: torch.Generator
    ) -> nn.Module:
        if self.module is None:
            module = UNet(
                n_channels, n_classes or 2, base_channels=16, padding="same", generator=generator
            )
            return PlainLogits(module, max(self.stride, module.stride))
        network = PlainLogits(copy.deepcopy(self.module).float(), self.stride)
        if n_classes is not None:
            found = _count_classes(network, n_channels)
            if found != n_classes:
                raise ValueError(
                    f"{self._caller}: the module gives {found} scores a pixel, but the labels "
                    f"have {n_classes} classes: make its last layer fit."
                )
        return network


def _count_classes(network: PlainLogits, n_channels: int) -> int:
    """Run the network on a black image, which tells how many scores it gives."""
    device = next(network.parameters()).device
    side = network.fit_size(64)
    with torch.inference_mode():
        try:
            return network.eval()(torch.zeros(1, n_channels, side, side, device=device)).shape[1]
        except RuntimeError as error:
            raise ValueError(
                f"NetSegmenter: the module failed on {n_channels} channels and {side} x {side} "
                f"pixels ({error}): it must take (N, C, H, W) with the channels of the images."
            ) from error
