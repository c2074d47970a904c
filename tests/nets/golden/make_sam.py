"""Write sam.json: what transformers' SAM gives for weights made by a formula.

pip install torch==2.14.1 transformers==5.23.0
python tests/nets/golden/make_sam.py
"""

import hashlib
import json
import zlib
from pathlib import Path

import numpy as np
import torch

PATH = Path(__file__).with_name("sam.json")

# As segalgos and as transformers call them: (value, part of the configuration, its name there).
SIZES = {
    "tiny": {
        "embed_dim": 32,
        "depth": 3,
        "num_heads": 2,
        "global_attn_indexes": (1,),
        "image_size": 128,
        "patch_size": 16,
        "window_size": 3,
        "mlp_ratio": 2.0,
        "prompt_channels": 32,
        "mask_channels": 8,
        "decoder_depth": 2,
        "decoder_heads": 2,
        "decoder_mlp_channels": 48,
        "num_multimask_outputs": 3,
        "iou_head_depth": 4,
        "iou_head_channels": 24,
    },
    "vit_b": {"embed_dim": 768, "depth": 12, "num_heads": 12, "global_attn_indexes": (2, 5, 8, 11)},
    "vit_l": {
        "embed_dim": 1024,
        "depth": 24,
        "num_heads": 16,
        "global_attn_indexes": (5, 11, 17, 23),
    },
    "vit_h": {
        "embed_dim": 1280,
        "depth": 32,
        "num_heads": 16,
        "global_attn_indexes": (7, 15, 23, 31),
    },
}
DEFAULTS = SIZES["tiny"] | {
    "image_size": 1024,
    "window_size": 14,
    "mlp_ratio": 4.0,
    "prompt_channels": 256,
    "mask_channels": 16,
    "decoder_heads": 8,
    "decoder_mlp_channels": 2048,
    "iou_head_depth": 3,
    "iou_head_channels": 256,
}
COMPUTED = ("tiny", "vit_b")

# Points, labels and boxes, as shares of the frame, and whether there is a mask. x before y.
POINTS = [[[0.3, 0.4], [0.8, 0.15], [0.31, 0.77]], [[0.6, 0.6], [0.05, 0.99], [0.5, 0.2]]]
LABELS = [[1, 0, 1], [1, 1, -1]]
BOXES = [[0.1, 0.2, 0.7, 0.55], [0.4, 0.0, 1.0, 0.9]]
CASES = {
    "points": (POINTS, LABELS, None, False),
    "boxes": (None, None, BOXES, False),
    "points and boxes": (POINTS, LABELS, BOXES, False),
    "points and mask": (POINTS[:1], LABELS[:1], None, True),
    "boxes and mask": (None, None, BOXES[:1], True),
}


def options(size):
    """All options of a network of a size, by segalgos' names."""
    return DEFAULTS | SIZES[size]


def fill(name, shape):
    """Make a parameter out of its name, as large as a trained one's."""
    u = np.random.default_rng(zlib.crc32(name.encode())).uniform(-1, 1, shape)
    if name.endswith(("pos_embed", "gaussian_matrix")) or "embed" in name.split(".")[-2]:
        pass
    elif "token" in name.split(".")[-2]:
        u = 2 * u
    elif name.endswith("weight") and len(shape) == 1:
        u = 1 + 0.3 * u
    elif len(shape) == 1:
        u = 0.3 * u
    else:
        u = u * np.sqrt(3 / np.prod(shape[1:]))
    return torch.tensor(u, dtype=torch.float32)


def make_image(size, n=1):
    """Make a standardised image for a network of a size."""
    shape = (n, 3, options(size)["image_size"], options(size)["image_size"])
    return torch.tensor(np.random.default_rng(shape).normal(size=shape), dtype=torch.float32)


def make_prompts(size, case):
    """Points (B, N, 2), labels (B, N), boxes (B, 4) and mask (B, 1, h, w) of a case, or None."""
    side = options(size)["image_size"]
    points, labels, boxes, with_mask = CASES[case]
    mask_side = 4 * side // options(size)["patch_size"]
    mask = np.random.default_rng(mask_side).normal(scale=5, size=(1, 1, mask_side, mask_side))
    return (
        None if points is None else side * torch.tensor(points),
        None if labels is None else torch.tensor(labels),
        None if boxes is None else side * torch.tensor(boxes),
        torch.tensor(mask, dtype=torch.float32) if with_mask else None,
    )


def names(size):
    """Yield each parameter's name in the authors' code and in transformers."""
    o = options(size)
    both = ("weight", "bias")

    def layers(*pairs):
        for one, other in pairs:
            for end in both:
                yield f"{one}.{end}", f"{other}.{end}"

    yield "image_encoder.pos_embed", "vision_encoder.pos_embed"
    yield from layers(("image_encoder.patch_embed.proj", "vision_encoder.patch_embed.projection"))
    for i in range(o["depth"]):
        one, other = f"image_encoder.blocks.{i}", f"vision_encoder.layers.{i}"
        for table in ("rel_pos_h", "rel_pos_w"):
            yield f"{one}.attn.{table}", f"{other}.attn.{table}"
        same = ("attn.qkv", "attn.proj", "mlp.lin1", "mlp.lin2")
        yield from layers(*((f"{one}.{a}", f"{other}.{a}") for a in same))
        yield from layers(*((f"{one}.norm{n}", f"{other}.layer_norm{n}") for n in (1, 2)))
    one, other = "image_encoder.neck", "vision_encoder.neck"
    yield f"{one}.0.weight", f"{other}.conv1.weight"
    yield f"{one}.2.weight", f"{other}.conv2.weight"
    yield from layers((f"{one}.1", f"{other}.layer_norm1"), (f"{one}.3", f"{other}.layer_norm2"))

    one, other = "prompt_encoder.mask_downscaling", "prompt_encoder.mask_embed"
    yield from layers(
        (f"{one}.0", f"{other}.conv1"),
        (f"{one}.1", f"{other}.layer_norm1"),
        (f"{one}.3", f"{other}.conv2"),
        (f"{one}.4", f"{other}.layer_norm2"),
        (f"{one}.6", f"{other}.conv3"),
    )
    for i in range(4):
        yield (
            f"prompt_encoder.point_embeddings.{i}.weight",
            f"prompt_encoder.point_embed.{i}.weight",
        )
    for same in ("prompt_encoder.not_a_point_embed", "prompt_encoder.no_mask_embed",
                 "mask_decoder.iou_token", "mask_decoder.mask_tokens"):  # fmt: skip
        yield f"{same}.weight", f"{same}.weight"
    frequencies = "prompt_encoder.pe_layer.positional_encoding_gaussian_matrix"
    yield frequencies, "prompt_encoder.shared_embedding.positional_embedding"
    yield frequencies, "shared_image_embedding.positional_embedding"

    attentions = ("q_proj", "k_proj", "v_proj", "out_proj")
    for i in range(o["decoder_depth"]):
        same = f"mask_decoder.transformer.layers.{i}"
        for a in ("self_attn", "cross_attn_token_to_image", "cross_attn_image_to_token"):
            yield from layers(*((f"{same}.{a}.{p}", f"{same}.{a}.{p}") for p in attentions))
        yield from layers(*((f"{same}.mlp.{p}", f"{same}.mlp.{p}") for p in ("lin1", "lin2")))
        for n in (1, 2, 3, 4):
            yield from layers((f"{same}.norm{n}", f"{same}.layer_norm{n}"))
    same = "mask_decoder.transformer.final_attn_token_to_image"
    yield from layers(*((f"{same}.{p}", f"{same}.{p}") for p in attentions))
    yield from layers(
        ("mask_decoder.transformer.norm_final_attn",
         "mask_decoder.transformer.layer_norm_final_attn"),
        ("mask_decoder.output_upscaling.0", "mask_decoder.upscale_conv1"),
        ("mask_decoder.output_upscaling.1", "mask_decoder.upscale_layer_norm"),
        ("mask_decoder.output_upscaling.3", "mask_decoder.upscale_conv2"),
    )  # fmt: skip
    heads = [(f"output_hypernetworks_mlps.{i}", 3) for i in range(o["num_multimask_outputs"] + 1)]
    for head, depth in [*heads, ("iou_prediction_head", o["iou_head_depth"])]:
        middle = [f"layers.{i}" for i in range(depth - 2)]
        for i, layer in enumerate(["proj_in", *middle, "proj_out"]):
            yield from layers((f"mask_decoder.{head}.layers.{i}", f"mask_decoder.{head}.{layer}"))


def describe(shapes):
    """Number of values, and a digest of all names and shapes."""
    lines = sorted(f"{name} {tuple(shape)}" for name, shape in shapes.items())
    return {
        "n_values": int(sum(np.prod(shape) for shape in shapes.values())),
        "sha256": hashlib.sha256("\n".join(lines).encode()).hexdigest(),
    }


def summarise(tensor):
    """Mean, mean size and twelve values of a tensor."""
    values = tensor.double().flatten()
    picked = values[torch.linspace(0, len(values) - 1, 12).long()]
    return {
        "shape": list(tensor.shape),
        "mean": values.mean().item(),
        "mean_size": values.abs().mean().item(),
        "values": [round(v, 6) for v in picked.tolist()],
    }


def make_reference(size):
    """Build transformers' network, with weights by the formula if it is computed.

    It needs transformers.
    """
    from transformers import SamConfig, SamModel

    o = options(size)
    places = {"image_size": o["image_size"], "patch_size": o["patch_size"]}
    config = SamConfig(
        vision_config={
            "hidden_size": o["embed_dim"],
            "num_hidden_layers": o["depth"],
            "num_attention_heads": o["num_heads"],
            "global_attn_indexes": list(o["global_attn_indexes"]),
            "window_size": o["window_size"],
            "mlp_ratio": o["mlp_ratio"],
            "output_channels": o["prompt_channels"],
            "num_pos_feats": o["prompt_channels"] // 2,
            **places,
        },
        prompt_encoder_config={
            "hidden_size": o["prompt_channels"],
            "mask_input_channels": o["mask_channels"],
            **places,
        },
        mask_decoder_config={
            "hidden_size": o["prompt_channels"],
            "mlp_dim": o["decoder_mlp_channels"],
            "num_hidden_layers": o["decoder_depth"],
            "num_attention_heads": o["decoder_heads"],
            "num_multimask_outputs": o["num_multimask_outputs"],
            "iou_head_depth": o["iou_head_depth"],
            "iou_head_hidden_dim": o["iou_head_channels"],
        },
    )
    if size not in COMPUTED:
        with torch.device("meta"):
            return SamModel(config)
    network = SamModel(config).eval()
    own = {other: one for one, other in names(size)}
    weights = network.state_dict()
    network.load_state_dict({name: fill(own[name], w.shape) for name, w in weights.items()})
    return network


@torch.inference_mode()
def predict(network, embedding, prompts, multimask):
    """Masks (B, M, h, w) and IoUs (B, M) of transformers' network."""
    points, labels, boxes, mask = prompts
    found = network(
        image_embeddings=embedding,
        input_points=None if points is None else points[None],
        input_labels=None if labels is None else labels[None],
        input_boxes=None if boxes is None else boxes[None],
        input_masks=mask,
        multimask_output=multimask,
    )
    return found.pred_masks[0], found.iou_scores[0]


def main():
    """Write the file."""
    import transformers

    content = {
        "transformers": transformers.__version__,
        "torch": torch.__version__,
        "parameters": {},
        "embeddings": {},
        "masks": [],
    }
    for size in SIZES:
        network = make_reference(size)
        shapes = {name: tuple(w.shape) for name, w in network.state_dict().items()}
        of_authors = {other: one for one, other in names(size)}
        assert sorted(shapes) == sorted(of_authors), size
        content["parameters"][size] = describe(
            {of_authors[name]: shape for name, shape in shapes.items()}
        )
        if size not in COMPUTED:
            continue
        with torch.inference_mode():
            embedding = network.get_image_embeddings(make_image(size))
        content["embeddings"][size] = summarise(embedding)
        for case in CASES:
            for multimask in (True, False):
                logits, ious = predict(network, embedding, make_prompts(size, case), multimask)
                content["masks"].append(
                    {
                        "size": size,
                        "case": case,
                        "multimask": multimask,
                        "logits": summarise(logits),
                        "ious": [[round(v, 6) for v in row] for row in ious.tolist()],
                    }
                )
    PATH.write_text(json.dumps(content, indent=1) + "\n")


if __name__ == "__main__":
    main()
