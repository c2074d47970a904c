"""Networks as ONNX files, which other runtimes read; and those files in 8 bits."""

from __future__ import annotations

import copy
import importlib.util
import json
import os
import warnings
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from sklearn.utils.validation import check_is_fitted
from torch import Tensor, nn

import segalgos
from segalgos import checks
from segalgos.files import atomic_path
from segalgos.nets.encoders.mit import SequenceReduction
from segalgos.nets.semantic import SemanticNetSegmenter
from segalgos.nets.standardization import LARGEST_INTENSITY

__all__ = ["export_onnx", "quantize_onnx"]

OPSETS = range(16, 21)

# Batch, height and width of the image that the network is followed on: any but 1.
SAMPLE_SHAPE = (2, 35, 45)


def export_onnx(
    model: SemanticNetSegmenter | nn.Module,
    path: str | os.PathLike,
    *,
    opset: int = 17,
    n_channels: int | None = None,
) -> None:
    """Write a fitted segmenter, or a bare network, as an ONNX file.

    Parameters
    ----------
    model : SemanticNetSegmenter or torch.nn.Module
        A fitted segmenter, or a network of `segalgos.nets`. It is left as it is.
    path : path-like
        By custom it ends in ``.onnx``. Written whole or not at all.
    opset : int, default=17
        Version of ONNX's operators, 16 to 20.
    n_channels : int, optional
        Channels of the image. None: what the first convolution of the network takes.

    Raises
    ------
    ImportError
        If the package ``onnx`` is not installed.
    TypeError
        If `model` is neither a segmenter nor a network.
    ValueError
        If `opset` or `n_channels` do not fit.
    sklearn.exceptions.NotFittedError
        If the segmenter is not fitted.

    Notes
    -----
    The file maps ``image``, (N, C, H, W) float32, to ``logits``, (N, K, H, W) float32, for
    any N, H and W from 1. A segmenter takes intensities as its ``predict`` does, since the
    graph standardises them; a bare network takes them standardised. The graph mirrors the
    image at its border up to a size that the network fits, and cuts the logits, as
    segmenters do.

    Metadata: ``segalgos_version``, ``network``, and of a segmenter ``classes``, the class id
    of each of the K logits as a JSON list.

    Examples
    --------
    >>> from segalgos.nets.export import export_onnx
    >>> export_onnx(segmenter, "cells.onnx")  # doctest: +SKIP
    """
    _require("export_onnx", "onnx")
    if opset not in OPSETS:
        raise ValueError(
            f"export_onnx: opset is {opset!r}, expected {OPSETS.start} to {OPSETS.stop - 1}."
        )
    metadata = {"segalgos_version": segalgos.__version__}
    if isinstance(model, SemanticNetSegmenter):
        check_is_fitted(model)
        network, mean, std = model.network_, model.mean_, model.std_
        by_image = model.standardize == "image"
        metadata["classes"] = json.dumps(model.classes_.tolist())
    elif isinstance(model, nn.Module):
        network, mean, std, by_image = model, None, None, False
    else:
        raise TypeError(
            f"export_onnx: model is a {type(model).__name__}, expected a fitted segmenter of "
            "segalgos.nets or a network."
        )
    metadata["network"] = type(network).__name__
    first = next((m for m in network.modules() if isinstance(m, nn.Conv2d)), None)
    expected = n_channels if first is None else first.in_channels
    if n_channels is None:
        n_channels = expected
    if n_channels is None or n_channels != expected:
        raise ValueError(
            f"export_onnx: n_channels is {n_channels}, but the network takes {expected} channels."
        )
    batch, height, width = SAMPLE_SHAPE
    sample = torch.zeros(batch, n_channels, height, width)
    with atomic_path(path) as temporary:
        _trace(_Graph(network, mean, std, by_image), sample, temporary, opset)
        _write_metadata(temporary, metadata)


def _require(caller: str, *packages: str) -> None:
    for package in packages:
        if importlib.util.find_spec(package) is None:
            raise ImportError(
                f"{caller}: {package} is not installed: pip install 'segalgos[onnx]'."
            )


def _trace(graph: nn.Module, sample: Tensor, path: Path, opset: int) -> None:
    axes = {0: "batch", 2: "height", 3: "width"}
    with warnings.catch_warnings(), torch.no_grad():
        # Checks of sizes in Python are followed once, and hold for all: `_Graph` sees to it.
        warnings.simplefilter("ignore")
        torch.onnx.export(
            graph,
            (sample,),
            os.fspath(path),
            dynamo=False,  # the other exporter fixes sizes, and needs more packages
            opset_version=opset,
            input_names=["image"],
            output_names=["logits"],
            dynamic_axes={"image": axes, "logits": axes},
        )


def _write_metadata(path: Path, metadata: dict[str, str]) -> None:
    import onnx

    model = onnx.load(path)
    onnx.helper.set_model_props(model, metadata)
    model.producer_name = "segalgos"
    model.producer_version = segalgos.__version__
    onnx.checker.check_model(model)
    onnx.save(model, path)


class _Graph(nn.Module):
    """All that stands between an image of any size and its logits, in traceable operations.

    Tracing keeps what tensors go through and forgets what Python decides, so whatever depends
    on the size must be computed by tensors.
    """

    def __init__(
        self,
        network: nn.Module,
        mean: NDArray[np.float64] | None,
        std: NDArray[np.float64] | None,
        by_image: bool,
    ):
        super().__init__()
        self.network = copy.deepcopy(network).cpu().float().eval()
        for parent in list(self.network.modules()):
            for name, child in parent.named_children():
                if isinstance(child, SequenceReduction):
                    setattr(parent, name, _TraceableReduction(child))
        self.standardises = mean is not None
        self.by_image = by_image
        if mean is not None:
            for name, values in (("mean", mean), ("std", std)):
                values = torch.tensor(values, dtype=torch.float32)[:, None, None]
                self.register_buffer(name, values)
        # Sizes that fit are evenly spaced, from the smallest one on.
        self.smallest = network.fit_size(1)
        self.spacing = network.fit_size(self.smallest + 1) - self.smallest

    def forward(self, image: Tensor) -> Tensor:
        """(N, C, H, W) intensities to (N, K, H, W) logits."""
        x = image
        if self.standardises:
            mean, std = _statistics(x) if self.by_image else (self.mean, self.std)
            x = ((x - mean) / std).clamp(-LARGEST_INTENSITY, LARGEST_INTENSITY)
        if self.spacing > 1 or self.network.margin:
            for axis in (2, 3):
                x = x.index_select(axis, self._mirrored(x.shape[axis]))
        return self.network(x)[:, :, : image.shape[2], : image.shape[3]]

    def _mirrored(self, size: Tensor | int) -> Tensor:
        """Index of the pixel of each place along an axis that is mirrored up to a fitting size."""
        size = torch.as_tensor(size)
        beyond = (size - self.smallest + self.spacing - 1).clamp(min=0)
        fitting = self.smallest + torch.div(beyond, self.spacing, rounding_mode="trunc") * (
            self.spacing
        )
        margin = self.network.margin
        index = (torch.arange(fitting + 2 * margin) - margin) % (2 * size)
        return torch.minimum(index, 2 * size - 1 - index)


def _statistics(x: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and deviation of each image and channel; the deviation is 1 where it is none."""
    mean = x.mean((2, 3), keepdim=True)  # (N, C, 1, 1)
    std = ((x - mean) ** 2).mean((2, 3), keepdim=True).sqrt()
    return mean, torch.where(std > 1e-6 * mean.abs(), std, torch.ones_like(std))


class _TraceableReduction(nn.Module):
    """`SequenceReduction` that pads small maps without asking in Python if they are small."""

    def __init__(self, reduction: SequenceReduction):
        super().__init__()
        self.reduction = reduction

    def forward(self, x: Tensor) -> Tensor:
        """(N, H, W, c) to (N, h, w, c)."""
        ratio = self.reduction.ratio
        height, width = (torch.as_tensor(n).clamp(min=ratio) for n in x.shape[1:3])
        x = F.pad(x, (0, 0, 0, ratio, 0, ratio))[:, :height, :width]
        return self.reduction(x)


def quantize_onnx(
    path: str | os.PathLike,
    quantized_path: str | os.PathLike,
    images: Iterable[NDArray],
    *,
    method: str = "minmax",
) -> None:
    """Write an ONNX file whose convolutions and matrix products compute in 8 bits.

    Parameters
    ----------
    path : path-like
        What `export_onnx` wrote.
    quantized_path : path-like
        The new file; that of a network of some size is about a quarter as large. Written
        whole or not at all.
    images : iterable of (H, W) or (H, W, C) ndarray
        Some images as the network will see them; the ranges of all maps are measured on them.
    method : {"minmax", "percentile"}, default="minmax"
        Map all values to 8 bits, or cut the most extreme ones (0.001 %).

    Raises
    ------
    ImportError
        If ``onnx`` or ``onnxruntime`` are not installed.
    ValueError
        If there is no image, or one does not fit the network.

    Notes
    -----
    Weights get one scale for each output channel, and 7 bits: sums of 8-bit products
    overflow on processors that have only 16 bits for them. Metadata is kept.

    On processors without 8-bit dot products the file is smaller but hardly faster.
    """
    _require("quantize_onnx", "onnx", "onnxruntime")
    from onnxruntime import quantization

    checks.check_choice("quantize_onnx", "method", method, ("minmax", "percentile"))
    methods = quantization.CalibrationMethod
    batches = _calibration_batches(Path(path), images)
    with atomic_path(quantized_path) as temporary:
        quantization.quantize_static(
            os.fspath(path),
            os.fspath(temporary),
            _reader(quantization.CalibrationDataReader, batches),
            quant_format=quantization.QuantFormat.QDQ,
            op_types_to_quantize=["Conv", "ConvTranspose", "MatMul", "Gemm"],
            per_channel=True,
            reduce_range=True,
            calibrate_method=methods.MinMax if method == "minmax" else methods.Percentile,
        )


def _calibration_batches(path: Path, images: Iterable[NDArray]) -> list[dict[str, Any]]:
    import onnx

    dims = onnx.load(path, load_external_data=False).graph.input[0].type.tensor_type.shape.dim
    n_channels = dims[1].dim_value
    batches = []
    for i, image in enumerate(images):
        image = np.asarray(image, np.float32)
        image = image[..., None] if image.ndim == 2 else image
        if image.ndim != 3 or image.shape[-1] != n_channels:
            raise ValueError(
                f"quantize_onnx: images[{i}] has shape {image.shape}, expected (H, W, "
                f"{n_channels})."
            )
        batches.append({"image": np.ascontiguousarray(image.transpose(2, 0, 1)[None])})
    if not batches:
        raise ValueError("quantize_onnx: there are no images: pass some to measure ranges on.")
    return batches


def _reader(base: type, batches: list[dict[str, Any]]) -> Any:
    """Make what onnxruntime asks for the next batch; its class is known only at run time."""

    class Reader(base):
        def __init__(self):
            self.batches = iter(batches)

        def get_next(self):
            return next(self.batches, None)

    return Reader()
