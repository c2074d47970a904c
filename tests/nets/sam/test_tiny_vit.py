"""MobileSAM's image encoder against its layers written out one number at a time."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from segalgos.nets.sam import SAM
from segalgos.nets.sam.tiny_vit import TinyViT

SIZES = {
    "embed_dims": (8, 12, 16, 20),
    "depths": (1, 2, 1, 1),
    "num_heads": (1, 2, 4, 5),
    "window_sizes": (3, 3, 4, 3),
}


def make(generator, image_size=64):
    network = TinyViT(image_size, **SIZES, out_channels=8)
    for name, tensor in network.state_dict().items():
        if name.endswith("running_var"):
            tensor.copy_(0.5 + torch.rand(tensor.shape, generator=generator))
        elif tensor.dtype == torch.float32:
            tensor.add_(0.2 * torch.randn(tensor.shape, generator=generator))
    return network.eval()


@pytest.fixture(scope="module")
def network():
    return make(torch.Generator().manual_seed(0))


# --- the same by the names of weights, and by numpy ---------------------------------------


class ByName:
    """Tiny ViT as functions of a state dict in the authors' names; maps are (H, W, C) arrays."""

    def __init__(self, weights):
        self.w = {name: w.double().numpy() for name, w in weights.items()}

    def conv(self, name, x, *, stride=1):
        """Convolve by summing shifted copies, then normalise as batch normalisation does."""
        kernel = self.w[f"{name}.c.weight"]
        c_out, c_in, size, _ = kernel.shape
        pad = size // 2
        padded = np.pad(x, ((pad, pad), (pad, pad), (0, 0)))
        y = np.zeros((len(x), x.shape[1], c_out))
        for dy in range(size):
            for dx in range(size):
                part = padded[dy : dy + len(x), dx : dx + x.shape[1]]
                if c_in == 1 and x.shape[2] == c_out:  # each channel by itself
                    y += part * kernel[:, 0, dy, dx]
                else:
                    y += part @ kernel[:, :, dy, dx].T
        y = y[::stride, ::stride]
        mean, var = self.w[f"{name}.bn.running_mean"], self.w[f"{name}.bn.running_var"]
        y = (y - mean) / np.sqrt(var + 1e-5)
        return y * self.w[f"{name}.bn.weight"] + self.w[f"{name}.bn.bias"]

    def linear(self, name, x):
        return x @ self.w[f"{name}.weight"].T + self.w[f"{name}.bias"]

    def norm(self, name, x, eps=1e-5):
        x = x - x.mean(-1, keepdims=True)
        x = x / np.sqrt((x**2).mean(-1, keepdims=True) + eps)
        return x * self.w[f"{name}.weight"] + self.w[f"{name}.bias"]

    def attend(self, name, window, heads):
        """Attend in one window (size, size, C), filler and all."""
        size, _, channels = window.shape
        depth = channels // heads
        tokens = self.norm(f"{name}.norm", window.reshape(-1, channels))
        qkv = self.linear(f"{name}.qkv", tokens).reshape(len(tokens), heads, 3 * depth)
        out = np.zeros((len(tokens), heads, depth))
        for h in range(heads):
            q, k, v = np.split(qkv[:, h], 3, axis=1)
            for i in range(len(tokens)):
                logits = np.empty(len(tokens))
                for j in range(len(tokens)):
                    dy, dx = abs(i // size - j // size), abs(i % size - j % size)
                    bias = self.w[f"{name}.attention_biases"][h, dy * size + dx]
                    logits[j] = q[i] @ k[j] / np.sqrt(depth) + bias
                p = np.exp(logits - logits.max())
                out[i, h] = p @ v / p.sum()
        return self.linear(f"{name}.proj", out.reshape(len(tokens), -1)).reshape(window.shape)

    def block(self, name, x, heads, size):
        height, width, channels = x.shape
        padded = np.zeros((-(-height // size) * size, -(-width // size) * size, channels))
        padded[:height, :width] = x
        for r in range(0, height, size):
            for c in range(0, width, size):
                window = padded[r : r + size, c : c + size]
                padded[r : r + size, c : c + size] = self.attend(f"{name}.attn", window, heads)
        x = x + padded[:height, :width]
        x = self.conv(f"{name}.local_conv", x)
        y = self.linear(f"{name}.mlp.fc1", self.norm(f"{name}.mlp.norm", x))
        return x + self.linear(f"{name}.mlp.fc2", gelu(y))

    def bottleneck(self, name, x):
        y = gelu(self.conv(f"{name}.conv1", x))
        y = gelu(self.conv(f"{name}.conv2", y))
        return gelu(x + self.conv(f"{name}.conv3", y))

    def __call__(self, image):
        x = gelu(self.conv("patch_embed.seq.0", image, stride=2))
        x = self.conv("patch_embed.seq.2", x, stride=2)
        for i, depth in enumerate(SIZES["depths"]):
            for j in range(depth):
                name = f"layers.{i}.blocks.{j}"
                if i == 0:
                    x = self.bottleneck(name, x)
                else:
                    x = self.block(name, x, SIZES["num_heads"][i], SIZES["window_sizes"][i])
            if i < 3:
                name = f"layers.{i}.downsample"
                x = gelu(self.conv(f"{name}.conv1", x))
                x = gelu(self.conv(f"{name}.conv2", x, stride=2 if i < 2 else 1))
                x = self.conv(f"{name}.conv3", x)
        x = self.norm("neck.1", x @ self.w["neck.0.weight"][:, :, 0, 0].T, 1e-6)
        kernel, padded = self.w["neck.2.weight"], np.pad(x, ((1, 1), (1, 1), (0, 0)))
        y = sum(
            padded[dy : dy + len(x), dx : dx + x.shape[1]] @ kernel[:, :, dy, dx].T
            for dy in range(3)
            for dx in range(3)
        )
        return self.norm("neck.3", y, 1e-6)


def gelu(x):
    return F.gelu(torch.from_numpy(x)).numpy()


@pytest.mark.parametrize("folded", [True, False])
def test_it_equals_its_layers_written_out(network, folded):
    x = torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    expected = ByName(network.state_dict())(x[0].permute(1, 2, 0).double().numpy())
    with torch.set_grad_enabled(not folded):  # norms are folded into convolutions without
        found = network(x)[0].permute(1, 2, 0).detach().numpy()
    assert found.shape == (4, 4, 8)
    np.testing.assert_allclose(found, expected, atol=2e-4 * np.abs(expected).max())


def names_of_mobile_sam():
    """Names in the image encoder of the authors' file and its shapes, written out from the paper.

    64, 128, 160 and 320 channels, 2, 2, 6 and 2 blocks, windows of 7, 7, 14 and 7.
    """

    def conv(name, c_in, c_out, size=1, groups=1):
        yield f"{name}.c.weight", (c_out, c_in // groups, size, size)
        for end in ("weight", "bias", "running_mean", "running_var"):
            yield f"{name}.bn.{end}", (c_out,)
        yield f"{name}.bn.num_batches_tracked", ()

    def linear(name, c_in, c_out):
        yield f"{name}.weight", (c_out, c_in)
        yield f"{name}.bias", (c_out,)

    def norm(name, channels):
        yield f"{name}.weight", (channels,)
        yield f"{name}.bias", (channels,)

    yield from conv("patch_embed.seq.0", 3, 32, 3)
    yield from conv("patch_embed.seq.2", 32, 64, 3)
    dims, depths = (64, 128, 160, 320), (2, 2, 6, 2)
    for i, (c, depth) in enumerate(zip(dims, depths)):
        for j in range(depth):
            name = f"layers.{i}.blocks.{j}"
            if i == 0:
                yield from conv(f"{name}.conv1", c, 4 * c)
                yield from conv(f"{name}.conv2", 4 * c, 4 * c, 3, 4 * c)
                yield from conv(f"{name}.conv3", 4 * c, c)
                continue
            heads, size = (None, 4, 5, 10)[i], (None, 7, 14, 7)[i]
            yield f"{name}.attn.attention_biases", (heads, size * size)
            yield from norm(f"{name}.attn.norm", c)
            yield from linear(f"{name}.attn.qkv", c, 3 * c)
            yield from linear(f"{name}.attn.proj", c, c)
            yield from norm(f"{name}.mlp.norm", c)
            yield from linear(f"{name}.mlp.fc1", c, 4 * c)
            yield from linear(f"{name}.mlp.fc2", 4 * c, c)
            yield from conv(f"{name}.local_conv", c, c, 3, c)
        if i < 3:
            name, wider = f"layers.{i}.downsample", dims[i + 1]
            yield from conv(f"{name}.conv1", c, wider)
            yield from conv(f"{name}.conv2", wider, wider, 3, wider)
            yield from conv(f"{name}.conv3", wider, wider)
    yield "neck.0.weight", (256, 320, 1, 1)
    yield from norm("neck.1", 256)
    yield "neck.2.weight", (256, 256, 3, 3)
    yield from norm("neck.3", 256)
    # The classifier that it was trained as: in the file, but not in our network.
    yield from norm("norm_head", 320)
    yield from linear("head", 320, 1000)


def test_names_and_shapes_are_those_of_the_authors():
    with torch.device("meta"):
        network = TinyViT()
    expected = dict(names_of_mobile_sam())
    unused = [name for name in expected if "head" in name.split(".")[0]]
    assert len(unused) == 4
    found = {name: tuple(w.shape) for name, w in network.state_dict().items()}
    assert found == {name: shape for name, shape in expected.items() if name not in unused}


def test_the_authors_file_builds_the_network():
    generator = torch.Generator().manual_seed(0)
    with torch.device("meta"):
        whole = SAM.from_variant("vit_t").state_dict()
    weights = {
        name: torch.zeros(w.shape, dtype=w.dtype)
        if not w.is_floating_point()
        else torch.rand(w.shape, generator=generator)
        for name, w in whole.items()
    }
    for name, shape in names_of_mobile_sam():
        weights.setdefault(f"image_encoder.{name}", torch.rand(shape, generator=generator))
    assert len(weights) == len(whole) + 4
    network = SAM.from_checkpoint(weights)
    assert isinstance(network.image_encoder, TinyViT)
    name = "image_encoder.layers.2.blocks.5.attn.attention_biases"
    assert torch.equal(network.state_dict()[name], weights[name])
    del weights[name]
    with pytest.raises(ValueError, match=f"misses 1 .*{name}"):
        SAM.from_checkpoint(weights)


def test_images_of_other_sizes_are_refused():
    with pytest.raises(ValueError, match="image_size is 100, expected a multiple of 16"):
        TinyViT(100)


def test_it_can_be_trained(network):
    x = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    copy = make(torch.Generator().manual_seed(0)).train()
    before = copy.layers[1].blocks[0].local_conv.bn.running_mean.clone()
    copy(x).square().mean().backward()
    assert all(p.grad is not None for p in copy.parameters())
    assert not torch.equal(copy.layers[1].blocks[0].local_conv.bn.running_mean, before)
