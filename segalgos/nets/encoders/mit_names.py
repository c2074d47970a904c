"""Names of a Mix Transformer's weights in published files, and ours."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from segalgos.nets.checkpoints import rename_weights

__all__ = ["rename_mit_weights"]

# Hugging Face's transformers 4, and the files on its hub.
FROM_TRANSFORMERS_4 = (
    (r"^encoder\.patch_embeddings\.(\d)", r"stages.\1.patch_embeddings"),
    (r"^encoder\.block\.(\d)", r"stages.\1.blocks"),
    (r"^encoder\.layer_norm\.(\d)", r"stages.\1.layer_norm"),
    (r"\.layer_norm_1\.", ".layernorm_before."),
    (r"\.layer_norm_2\.", ".layernorm_after."),
    (r"\.attention\.self\.query\.", ".attention.q_proj."),
    (r"\.attention\.self\.key\.", ".attention.k_proj."),
    (r"\.attention\.self\.value\.", ".attention.v_proj."),
    (r"\.attention\.self\.sr\.", ".attention.sequence_reduction.sequence_reduction."),
    (r"\.attention\.self\.layer_norm\.", ".attention.sequence_reduction.layer_norm."),
    (r"\.attention\.output\.dense\.", ".attention.o_proj."),
    (r"\.mlp\.dense([12])\.", r".mlp.fc\1."),
)

# The authors', who count stages from 1.
FROM_NVLABS = (
    (r"^(patch_embed|block|norm)([1-4])\.", lambda found: f"{found[1]}.{int(found[2]) - 1}."),
    (r"^patch_embed\.(\d)\.proj\.", r"stages.\1.patch_embeddings.proj."),
    (r"^patch_embed\.(\d)\.norm\.", r"stages.\1.patch_embeddings.layer_norm."),
    (r"^block\.(\d)", r"stages.\1.blocks"),
    (r"^norm\.(\d)", r"stages.\1.layer_norm"),
    (r"\.norm1\.", ".layernorm_before."),
    (r"\.norm2\.", ".layernorm_after."),
    (r"\.attn\.([qkv])\.", r".attention.\1_proj."),
    (r"\.attn\.sr\.", ".attention.sequence_reduction.sequence_reduction."),
    (r"\.attn\.norm\.", ".attention.sequence_reduction.layer_norm."),
    (r"\.attn\.proj\.", ".attention.o_proj."),
)


def rename_mit_weights(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Give weights of a Mix Transformer the names that `MiT` has.

    Parameters
    ----------
    weights : mapping of str to Tensor
        With the names of NVlabs (``block1.0.attn.q.weight``), transformers 4 and its hub
        (``encoder.block.0.0.attention.self.query.weight``) or transformers 5
        (``stages.0.blocks.0.attention.q_proj.weight``), which are ours.

    Returns
    -------
    dict of str to Tensor
        Names of none of them stay as they are.

    Raises
    ------
    ValueError
        If two names become one.
    """
    # Each name belongs to one dialect only, and ours match nothing in the lists.
    renames = (*FROM_TRANSFORMERS_4, *FROM_NVLABS)
    return rename_weights(_split_keys_from_values(weights), renames)


def _split_keys_from_values(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Cut the layer that NVlabs makes both with: the first half of its rows gives keys."""
    split = {}
    for name, tensor in weights.items():
        if ".attn.kv." in name:
            keys, values = tensor.tensor_split(2)
            split[name.replace(".kv.", ".k.")] = keys
            split[name.replace(".kv.", ".v.")] = values
        else:
            split[name] = tensor
    return split
