"""SAM as a pair of ONNX files in the public layout, which other programs read."""

from __future__ import annotations

import copy
import importlib.util
import os
import warnings
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from segalgos.files import atomic_path
from segalgos.nets.sam.backends import DECODER_INPUTS
from segalgos.nets.sam.sam import SAM

__all__ = ["export_onnx"]

DECODER_OUTPUTS = ("masks", "iou_predictions", "low_res_masks")


def export_onnx(
    sam: SAM,
    encoder_path: str | os.PathLike,
    decoder_path: str | os.PathLike,
    *,
    opset: int = 17,
) -> None:
    """Write SAM as two ONNX files: the image encoder, and all that prompts need.

    Parameters
    ----------
    sam : SAM
        It is left as it is.
    encoder_path, decoder_path : path-like
        By custom they end in ``.onnx``. Each is written whole or not at all.
    opset : int, default=17
        Version of ONNX's operators.

    Raises
    ------
    ImportError
        If the package ``onnx`` is not installed.

    See Also
    --------
    segalgos.SAMSegmenter : Takes both files as its ``checkpoint``.

    Notes
    -----
    The encoder maps ``image``, (1, 3, S, S) float32, standardised and filled up with zeros, to
    ``image_embeddings``. The decoder has the layout of the authors' exporter:

    ====================  ====================  ============================================
    ``image_embeddings``  (1, C, h, w)          from the encoder
    ``point_coords``      (1, N, 2)             x, y in the frame of S; any N from 1
    ``point_labels``      (1, N)                1, 0; 2 and 3 corners of a box; -1 filler, which
                                                has to be there where there is no box
    ``mask_input``        (1, 1, 4 h, 4 w)      logits of an earlier mask
    ``has_mask_input``    (1,)                  1 to use it, else 0
    ``orig_im_size``      (2,)                  height and width of the image
    ``masks``             (1, M, H, W)          logits of the image's size
    ``iou_predictions``   (1, M)                expected IoUs
    ``low_res_masks``     (1, M, 4 h, 4 w)      logits; the first mask is for clear prompts
    ====================  ====================  ============================================

    All are float32.

    Examples
    --------
    >>> from segalgos.nets.sam import SAM
    >>> from segalgos.nets.sam.export import export_onnx
    >>> sam = SAM.from_checkpoint("sam_vit_b_01ec64.pth")  # doctest: +SKIP
    >>> export_onnx(sam, "encoder.onnx", "decoder.onnx")  # doctest: +SKIP
    """
    if importlib.util.find_spec("onnx") is None:
        raise ImportError("export_onnx: onnx is not installed: pip install 'segalgos[onnx]'.")
    sam = copy.deepcopy(sam).cpu().float().eval().requires_grad_(False)
    side, cells, small = sam.image_size, sam.prompt_encoder.map_size, sam.mask_size
    image = torch.zeros(1, 3, side, side)
    with atomic_path(encoder_path) as temporary:
        _trace(sam.image_encoder, (image,), temporary, opset, ["image"], ["image_embeddings"], {})
    inputs = (
        torch.zeros(1, sam.image_encoder.out_channels, cells, cells),
        torch.zeros(1, 5, 2),
        torch.tensor([[1.0, 0.0, 2.0, 3.0, -1.0]]),
        torch.zeros(1, 1, small, small),
        torch.ones(1),
        torch.tensor([side / 2, side]),
    )
    axes = {
        "point_coords": {1: "num_points"},
        "point_labels": {1: "num_points"},
        "masks": {2: "height", 3: "width"},
    }
    with atomic_path(decoder_path) as temporary:
        _trace(_Decoder(sam), inputs, temporary, opset, DECODER_INPUTS, DECODER_OUTPUTS, axes)


def _trace(
    graph: nn.Module,
    inputs: tuple[Tensor, ...],
    path: Path,
    opset: int,
    input_names: Any,
    output_names: Any,
    axes: dict,
) -> None:
    with warnings.catch_warnings(), torch.no_grad():
        # Checks of sizes in Python are followed once, and hold for all of these inputs.
        warnings.simplefilter("ignore")
        torch.onnx.export(
            graph,
            inputs,
            os.fspath(path),
            dynamo=False,  # the other exporter needs more packages
            opset_version=opset,
            input_names=list(input_names),
            output_names=list(output_names),
            dynamic_axes=axes,
        )


class _Decoder(nn.Module):
    """All that stands between an embedding, prompts and masks, in traceable operations."""

    def __init__(self, sam: SAM):
        super().__init__()
        self.prompt_encoder, self.mask_decoder = sam.prompt_encoder, sam.mask_decoder
        self.side = sam.image_size

    def forward(
        self,
        embedding: Tensor,
        points: Tensor,
        labels: Tensor,
        mask: Tensor,
        has_mask: Tensor,
        size: Tensor,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Inputs and outputs as `export_onnx` lists them."""
        tokens = self.prompt_encoder.embed_points(points, labels)
        dense = has_mask * self.prompt_encoder.embed_mask(mask)
        dense = dense + (1 - has_mask) * self.prompt_encoder.embed_mask(None)
        places = self.prompt_encoder.map_places()
        logits, ious = self.mask_decoder(embedding, places, tokens, dense)
        large = F.interpolate(logits, (self.side, self.side), mode="bilinear")
        inner = (size * (self.side / size.max()) + 0.5).floor().to(torch.int64)
        large = large[..., : inner[0], : inner[1]]
        height, width = size.to(torch.int64)
        return F.interpolate(large, (height, width), mode="bilinear"), ious, logits
