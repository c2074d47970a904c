"""Write segformer.json: what transformers' SegFormer gives for weights made by a formula.

    pip install torch==2.13.0 transformers==5.23.0
    python tests/nets/golden/make_segformer.py

With transformers 4 (4.57.6) it writes nothing and checks that names and logits of that
version agree with the file.
"""

import hashlib
import json
import zlib
from pathlib import Path

import numpy as np
import torch

PATH = Path(__file__).with_name("segformer.json")
N_CLASSES = 7

# Channels and blocks of the four stages, channels of the decoder.
SIZES = {
    "b0": ((32, 64, 160, 256), (2, 2, 2, 2), 256),
    "b1": ((64, 128, 320, 512), (2, 2, 2, 2), 256),
    "b2": ((64, 128, 320, 512), (3, 4, 6, 3), 768),
    "b3": ((64, 128, 320, 512), (3, 4, 18, 3), 768),
    "b4": ((64, 128, 320, 512), (3, 8, 27, 3), 768),
    "b5": ((64, 128, 320, 512), (3, 6, 40, 3), 768),
}
CASES = [
    ("b0", (2, 3, 33, 47)),
    ("b0", (1, 3, 97, 61)),
    ("b0", (1, 3, 64, 131)),
    *((size, (1, 3, 37, 53)) for size in ("b1", "b2", "b3", "b4", "b5")),
]


def fill(name, shape):
    """Make a parameter out of its name, as large as a trained one's."""
    u = np.random.default_rng(zlib.crc32(name.encode())).uniform(-1, 1, shape)
    if name.endswith("num_batches_tracked"):
        return torch.tensor(1)
    if name.endswith("running_var") or (name.endswith("weight") and len(shape) == 1):
        u = 1 + 0.3 * u
    elif len(shape) == 1:
        u = 0.3 * u
    else:
        u = u * np.sqrt(3 / np.prod(shape[1:]))
    return torch.tensor(u, dtype=torch.float32)


def make_image(shape):
    """Make an input out of its shape."""
    return torch.tensor(np.random.default_rng(shape).normal(size=shape), dtype=torch.float32)


def names(depths):
    """Yield each parameter's name in transformers 5, in transformers 4 and in NVlabs' files.

    Keys and values are one parameter in the latter, so its name comes twice.
    """
    for i, depth in enumerate(depths):
        five, four, nv = f"segformer.stages.{i}", "segformer.encoder", "backbone"
        modules = [
            ("patch_embeddings.proj", f"patch_embeddings.{i}.proj", f"patch_embed{i + 1}.proj"),
            ("patch_embeddings.layer_norm", f"patch_embeddings.{i}.layer_norm",
             f"patch_embed{i + 1}.norm"),
            ("layer_norm", f"layer_norm.{i}", f"norm{i + 1}"),
        ]  # fmt: skip
        for j in range(depth):
            inside = [
                ("layernorm_before", "layer_norm_1", "norm1"),
                ("attention.q_proj", "attention.self.query", "attn.q"),
                ("attention.k_proj", "attention.self.key", "attn.kv"),
                ("attention.v_proj", "attention.self.value", "attn.kv"),
                ("attention.o_proj", "attention.output.dense", "attn.proj"),
                ("layernorm_after", "layer_norm_2", "norm2"),
                ("mlp.fc1", "mlp.dense1", "mlp.fc1"),
                ("mlp.dwconv.dwconv", "mlp.dwconv.dwconv", "mlp.dwconv.dwconv"),
                ("mlp.fc2", "mlp.dense2", "mlp.fc2"),
            ]
            if i < 3:
                inside += [
                    ("attention.sequence_reduction.sequence_reduction", "attention.self.sr",
                     "attn.sr"),
                    ("attention.sequence_reduction.layer_norm", "attention.self.layer_norm",
                     "attn.norm"),
                ]  # fmt: skip
            for a, b, c in inside:
                modules.append((f"blocks.{j}.{a}", f"block.{i}.{j}.{b}", f"block{i + 1}.{j}.{c}"))
        for a, b, c in modules:
            for end in ("weight", "bias"):
                yield f"{five}.{a}.{end}", f"{four}.{b}.{end}", f"{nv}.{c}.{end}"
    head = [
        *((f"linear_projections.{i}.proj.{end}", f"linear_c.{i}.proj.{end}",
           f"linear_c{i + 1}.proj.{end}") for i in range(4) for end in ("weight", "bias")),
        ("linear_fuse.weight", "linear_fuse.weight", "linear_fuse.conv.weight"),
        *((f"batch_norm.{end}", f"batch_norm.{end}", f"linear_fuse.bn.{end}") for end in
          ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")),
        *((f"classifier.{end}", f"classifier.{end}", f"linear_pred.{end}")
          for end in ("weight", "bias")),
    ]  # fmt: skip
    for triple in head:
        yield tuple(f"decode_head.{name}" for name in triple)


def describe(weights):
    """Number of parameters, and a digest of all names and shapes."""
    lines = sorted(f"{name} {tuple(tensor.shape)}" for name, tensor in weights.items())
    return {
        "n_values": sum(tensor.numel() for tensor in weights.values()),
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


def make_reference(size, n_classes=N_CLASSES):
    """Build transformers' network with weights by the formula; it needs transformers."""
    from transformers import SegformerConfig, SegformerForSemanticSegmentation

    channels, depths, width = SIZES[size]
    config = SegformerConfig(
        hidden_sizes=channels, depths=depths, decoder_hidden_size=width, num_labels=n_classes
    )
    network = SegformerForSemanticSegmentation(config).eval()
    weights = network.state_dict()
    in_five = {name: five for triple in names(depths) for five, name in zip(triple[:1] * 2, triple)}
    network.load_state_dict({name: fill(in_five[name], w.shape) for name, w in weights.items()})
    return network


@torch.inference_mode()
def compute_logits(network, x):
    """Logits of transformers' network, enlarged to the size of the input as it does itself."""
    logits = network(x).logits
    return torch.nn.functional.interpolate(
        logits, size=x.shape[2:], mode="bilinear", align_corners=False
    )


def main():
    """Write the file, or check it."""
    import transformers

    version = int(transformers.__version__.split(".")[0])
    content = {
        "transformers": transformers.__version__,
        "torch": torch.__version__,
        "parameters": {},
        "logits": [],
    }
    for size, (_, depths, _) in SIZES.items():
        network = make_reference(size)
        expected = [triple[0 if version == 5 else 1] for triple in names(depths)]
        assert sorted(network.state_dict()) == sorted(expected), size
        content["parameters"][size] = describe(network.state_dict())
        for shape in [shape for s, shape in CASES if s == size]:
            x = make_image(shape)
            content["logits"].append({"size": size, **summarise(compute_logits(network, x))})
            if size == "b0" and "maps" not in content:
                with torch.inference_mode():
                    maps = network.segformer(x, output_hidden_states=True).hidden_states
                content["maps"] = [summarise(m) for m in maps]
    if version == 5:
        PATH.write_text(json.dumps(content, indent=1) + "\n")
        return
    for found, stored in zip(content["logits"], json.loads(PATH.read_text())["logits"]):
        np.testing.assert_allclose(found["values"], stored["values"], atol=1e-4)


if __name__ == "__main__":
    main()
