"""What runs SAM for the segmenter: the network itself, or ONNX files of it."""

from __future__ import annotations

import importlib.util
import os
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from segalgos.nets.sam.fast_encoder import FastEncoder
from segalgos.nets.sam.image_encoder import ImageEncoderViT
from segalgos.nets.sam.prompt_encoder import FILLER
from segalgos.nets.sam.sam import SAM

__all__ = ["Backend", "NetworkBackend", "OnnxBackend"]

#: torch and onnxruntime sum in an order that depends on the number of threads: it is fixed.
THREADS = 2

DECODER_INPUTS = (
    "image_embeddings",
    "point_coords",
    "point_labels",
    "mask_input",
    "has_mask_input",
    "orig_im_size",
)


class Backend(ABC):
    """What the segmenter asks of whatever runs SAM.

    Attributes
    ----------
    image_size, mask_size : int
        Sides of the square that the network sees, and of its masks.
    """

    image_size: int
    mask_size: int

    @abstractmethod
    def encode(self, image: Tensor) -> Any:
        """Embed an image.

        Parameters
        ----------
        image : (1, 3, h, w) float32 Tensor
            RGB from 0 to 255, as `Frame.resize` gives it.

        Returns
        -------
        object
            The embedding, for `decode`.
        """

    @abstractmethod
    def decode(
        self, embedding: Any, points: Tensor, labels: Tensor, mask: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """Predict masks.

        Parameters
        ----------
        embedding : object
            What `encode` gave.
        points : (B, N, 2) float32 Tensor
            As x and y in the square; N is at least 1.
        labels : (B, N) Tensor
            1 inside, 0 outside, 2 and 3 first and second corner of a box, -1 filler.
        mask : (B, 1, mask_size, mask_size) Tensor or None

        Returns
        -------
        logits : (B, M, mask_size, mask_size) Tensor
            The first mask is for prompts that are not ambiguous, the others are for those that
            are. M is 1 if the network was exported with one.
        ious : (B, M) Tensor
        """


class NetworkBackend(Backend):
    """SAM computed by torch.

    Parameters
    ----------
    network : SAM
        In evaluation mode.
    precision : {"float32", "bfloat16"}, default="float32"
        Of products of matrices in the image encoder, on a CPU.
    """

    def __init__(self, network: SAM, precision: str = "float32"):
        self.network = network
        self.image_size, self.mask_size = network.image_size, network.mask_size
        self.device = network.mask_decoder.iou_token.weight.device
        self._encoder = network.image_encoder
        if self.device.type == "cpu" and isinstance(network.image_encoder, ImageEncoderViT):
            self._encoder = FastEncoder(network.image_encoder, getattr(torch, precision))

    def encode(self, image: Tensor) -> Tensor:
        """Embed an image.

        Parameters
        ----------
        image : (1, 3, h, w) float32 Tensor

        Returns
        -------
        (1, C, h, w) Tensor
        """
        return self._encoder(self.network.preprocess(image.to(self.device)))

    def decode(
        self, embedding: Tensor, points: Tensor, labels: Tensor, mask: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """Predict masks.

        Parameters
        ----------
        embedding, points, labels, mask : as `Backend.decode` takes them

        Returns
        -------
        logits : (B, M, mask_size, mask_size) Tensor
        ious : (B, M) Tensor
            Both on the CPU.
        """
        prompts, decoder = self.network.prompt_encoder, self.network.mask_decoder
        tokens = prompts.embed_points(points.to(self.device), labels.to(self.device))
        dense = prompts.embed_mask(None if mask is None else mask.to(self.device))
        logits, ious = decoder(embedding, prompts.map_places(), tokens, dense)
        return logits.cpu(), ious.cpu()


class OnnxBackend(Backend):
    """SAM computed by onnxruntime, from the two files that the authors' exporter makes.

    Parameters
    ----------
    encoder : path-like
        From an image (1, 3, S, S), standardised and filled up with zeros, to its embedding.
    decoder : path-like
        The public layout: from `DECODER_INPUTS` to ``masks``, ``iou_predictions`` and
        ``low_res_masks``, one mask or all four.

    Raises
    ------
    ImportError
        If onnxruntime is not installed.
    FileNotFoundError
        If there is no such file.
    ValueError
        If a file is damaged or has another layout.
    """

    def __init__(self, encoder: str | os.PathLike, decoder: str | os.PathLike):
        self._encoder, self._decoder = (_open(path) for path in (encoder, decoder))
        found = self._encoder.get_inputs()
        shape = found[0].shape if len(found) == 1 else []
        side = shape[-1] if len(shape) == 4 else None
        if not isinstance(side, int) or shape[1:] != [3, side, side]:
            raise ValueError(
                f"SAMSegmenter: {encoder} takes {[(i.name, i.shape) for i in found]}, expected one "
                "image (1, 3, S, S) of a fixed size: export the image encoder alone, for instance "
                "with segalgos.nets.sam.export.export_onnx."
            )
        names = {i.name: i.shape for i in self._decoder.get_inputs()}
        outputs = {o.name for o in self._decoder.get_outputs()}
        missing = [name for name in DECODER_INPUTS if name not in names]
        missing += [n for n in ("iou_predictions", "low_res_masks") if n not in outputs]
        if missing:
            raise ValueError(
                f"SAMSegmenter: {decoder} has no {', '.join(missing)}, expected the public layout "
                f"of decoders, with inputs {', '.join(DECODER_INPUTS)}: export it, for instance by "
                "segalgos.nets.sam.export.export_onnx."
            )
        self.image_size, self.mask_size = side, names["mask_input"][-1]

    def encode(self, image: Tensor) -> np.ndarray:
        """Embed an image.

        Parameters
        ----------
        image : (1, 3, h, w) float32 Tensor

        Returns
        -------
        (1, C, h, w) float32 ndarray
        """
        mean, std = (torch.tensor(v)[:, None, None] for v in (SAM.pixel_mean, SAM.pixel_std))
        height, width = image.shape[2:]
        x = F.pad((image - mean) / std, (0, self.image_size - width, 0, self.image_size - height))
        (name,) = (i.name for i in self._encoder.get_inputs())
        return self._encoder.run(None, {name: x.numpy()})[0]

    def decode(
        self, embedding: np.ndarray, points: Tensor, labels: Tensor, mask: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """Predict masks, of one prompt after the other: the files take one at a time.

        Parameters
        ----------
        embedding, points, labels, mask : as `Backend.decode` takes them

        Returns
        -------
        logits : (B, M, mask_size, mask_size) Tensor
        ious : (B, M) Tensor
        """
        side = np.float32(self.mask_size)
        found = []
        for i in range(len(points)):
            one = np.zeros((1, 1, self.mask_size, self.mask_size), np.float32)
            inputs = {
                "image_embeddings": embedding,
                "point_coords": points[i : i + 1].numpy().astype(np.float32),
                "point_labels": labels[i : i + 1].numpy().astype(np.float32),
                "mask_input": one if mask is None else mask[i : i + 1].numpy(),
                "has_mask_input": np.full(1, mask is not None, np.float32),
                # Masks of the image's size are made elsewhere, for all backends alike.
                "orig_im_size": np.array([side, side], np.float32),
            }
            found.append(self._decoder.run(["low_res_masks", "iou_predictions"], inputs))
        logits, ious = zip(*found)
        return torch.from_numpy(np.concatenate(logits)), torch.from_numpy(np.concatenate(ious))


def _open(path: str | os.PathLike) -> Any:
    """Open an ONNX file for a fixed number of threads."""
    if importlib.util.find_spec("onnxruntime") is None:
        raise ImportError(
            "SAMSegmenter: onnxruntime is not installed, which ONNX files need: "
            "pip install 'segalgos[onnx]'."
        )
    import onnxruntime

    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(f"SAMSegmenter: {path} does not exist: check the path.")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = THREADS
    options.log_severity_level = 3
    try:
        return onnxruntime.InferenceSession(
            os.fspath(path), options, providers=["CPUExecutionProvider"]
        )
    except Exception as error:  # onnxruntime's own kinds of errors have no public base
        raise ValueError(
            f"SAMSegmenter: {path} is damaged or no ONNX file ({error}): export it again."
        ) from error


def with_filler(points: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Add the filler that the network was trained to see where there is no box.

    Parameters
    ----------
    points : (B, N, 2) Tensor
    labels : (B, N) Tensor

    Returns
    -------
    points : (B, N + 1, 2) Tensor
    labels : (B, N + 1) Tensor
    """
    points = torch.cat([points, points.new_zeros(len(points), 1, 2)], dim=1)
    return points, torch.cat([labels, labels.new_full((len(labels), 1), FILLER)], dim=1)
