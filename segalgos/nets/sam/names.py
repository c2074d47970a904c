"""Names of SAM's weights in published files, and ours, which are the authors'."""

from __future__ import annotations

import re
from collections.abc import Mapping

import torch
from torch import Tensor

from segalgos.nets.checkpoints import rename_weights

__all__ = ["rename_sam_weights"]

# Hugging Face's transformers, whose files hold the table of frequencies once or twice.
FREQUENCIES = "prompt_encoder.pe_layer.positional_encoding_gaussian_matrix"
FREQUENCIES_OF_TRANSFORMERS = (
    "shared_image_embedding.positional_embedding",
    "prompt_encoder.shared_embedding.positional_embedding",
)
FROM_TRANSFORMERS = (
    (r"^vision_encoder\.layers\.", "image_encoder.blocks."),
    (r"^vision_encoder\.patch_embed\.projection\.", "image_encoder.patch_embed.proj."),
    (r"^vision_encoder\.neck\.conv1\.", "image_encoder.neck.0."),
    (r"^vision_encoder\.neck\.layer_norm1\.", "image_encoder.neck.1."),
    (r"^vision_encoder\.neck\.conv2\.", "image_encoder.neck.2."),
    (r"^vision_encoder\.neck\.layer_norm2\.", "image_encoder.neck.3."),
    (r"^vision_encoder\.", "image_encoder."),
    (r"^prompt_encoder\.point_embed\.", "prompt_encoder.point_embeddings."),
    (r"^prompt_encoder\.mask_embed\.conv1\.", "prompt_encoder.mask_downscaling.0."),
    (r"^prompt_encoder\.mask_embed\.layer_norm1\.", "prompt_encoder.mask_downscaling.1."),
    (r"^prompt_encoder\.mask_embed\.conv2\.", "prompt_encoder.mask_downscaling.3."),
    (r"^prompt_encoder\.mask_embed\.layer_norm2\.", "prompt_encoder.mask_downscaling.4."),
    (r"^prompt_encoder\.mask_embed\.conv3\.", "prompt_encoder.mask_downscaling.6."),
    (r"^mask_decoder\.upscale_conv1\.", "mask_decoder.output_upscaling.0."),
    (r"^mask_decoder\.upscale_layer_norm\.", "mask_decoder.output_upscaling.1."),
    (r"^mask_decoder\.upscale_conv2\.", "mask_decoder.output_upscaling.3."),
    (r"\.layer_norm_final_attn\.", ".norm_final_attn."),
    (r"\.layer_norm(\d)\.", r".norm\1."),
)
# Perceptrons of the decoder: transformers calls the first and last layer by other names.
PERCEPTRON = r"^(mask_decoder\.(?:output_hypernetworks_mlps\.\d+|iou_prediction_head))\."

# The classifier that MobileSAM's encoder was trained as; it is in the file and never used.
CLASSIFIER = ("image_encoder.norm_head.", "image_encoder.head.")


def rename_sam_weights(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Give weights the names that `SAM` has.

    Parameters
    ----------
    weights : mapping of str to Tensor
        With the names of the authors (``image_encoder.blocks.0.attn.qkv.weight``), which are
        ours, of MobileSAM, or of transformers
        (``vision_encoder.layers.0.attn.qkv.weight``), with or without ``sam.`` before them.

    Returns
    -------
    dict of str to Tensor
        Names of none of them stay as they are. MobileSAM's classifier is left out.

    Raises
    ------
    ValueError
        If two names become one, or the two tables of frequencies that transformers keeps
        differ.
    """
    weights = rename_weights(weights, [(r"^sam\.", "")])
    if any(name.startswith("vision_encoder.") for name in weights):
        weights = _join_frequencies(weights)
        weights = _number_layers(rename_weights(weights, FROM_TRANSFORMERS))
    return {name: w for name, w in weights.items() if not name.startswith(CLASSIFIER)}


def _join_frequencies(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Keep one of the equal tables of frequencies, under our name."""
    tables = [weights[name] for name in FREQUENCIES_OF_TRANSFORMERS if name in weights]
    rest = {k: w for k, w in weights.items() if k not in FREQUENCIES_OF_TRANSFORMERS}
    if len(tables) == 2 and not torch.equal(*tables):
        one, other = FREQUENCIES_OF_TRANSFORMERS
        raise ValueError(
            f"rename_sam_weights: {one} and {other} differ, but are two names of one table: "
            "remove the wrong one."
        )
    return rest | ({FREQUENCIES: tables[0]} if tables else {})


def _number_layers(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Number the layers of perceptrons: ``proj_in``, ``layers.0`` ..., ``proj_out``."""
    inner: dict[str, int] = {}
    for name in weights:
        found = re.match(PERCEPTRON + r"layers\.(\d+)\.", name)
        if found:
            inner[found[1]] = max(inner.get(found[1], 0), int(found[2]) + 1)
    return rename_weights(
        weights,
        (
            (PERCEPTRON + r"layers\.(\d+)\.", lambda m: f"{m[1]}.layers.{int(m[2]) + 1}."),
            (PERCEPTRON + r"proj_in\.", r"\1.layers.0."),
            (PERCEPTRON + r"proj_out\.", lambda m: f"{m[1]}.layers.{inner.get(m[1], 0) + 1}."),
        ),
    )
