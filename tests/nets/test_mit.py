"""The Mix Transformer: its maps, ImageNet files, and parts against plain formulas."""

import runpy
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from segalgos.nets.encoders.mit import (
    DropPath,
    EfficientSelfAttention,
    MiT,
    SequenceReduction,
)
from segalgos.nets.encoders.mit_names import rename_mit_weights

script = runpy.run_path(str(Path(__file__).parent / "golden" / "make_segformer.py"))
fill, make_image, names = (script[name] for name in ("fill", "make_image", "names"))


def make(in_channels=3):
    network = MiT("b0", in_channels).eval()
    weights = network.state_dict()
    network.load_state_dict({n: fill(f"segformer.{n}", w.shape) for n, w in weights.items()})
    return network


@pytest.mark.parametrize("size", script["SIZES"])
def test_maps_have_the_sizes_they_promise(size):
    with torch.device("meta"):
        network = MiT(size, 2)
    channels, depths, _ = script["SIZES"][size]
    assert network.channels == channels
    assert tuple(len(stage.blocks) for stage in network.stages) == depths
    for shape in [(64, 96), (33, 47), (1, 1)]:
        maps = network(torch.empty(2, 2, *shape, device="meta"))
        for m, c, stride in zip(maps, network.channels, network.strides, strict=True):
            assert m.shape == (2, c, *(-(-n // stride) for n in shape))


def test_attention_equals_eq_1():
    attention = EfficientSelfAttention(12, n_heads=3, ratio=2)
    x = make_image((2, 5, 6, 12))
    layer, reduction = F.linear, attention.sequence_reduction
    # Sequence reduction as the paper has it: 2 x 2 tokens in a row, and a linear layer.
    kernels = reduction.sequence_reduction.weight.permute(0, 2, 3, 1).flatten(1)
    rows = x[:, :4].reshape(2, 2, 2, 3, 2, 12).transpose(2, 3).reshape(2, 6, 48)
    short = layer(rows, kernels, reduction.sequence_reduction.bias)
    short = F.layer_norm(short, (12,), eps=1e-5)
    q, k, v = (
        layer(tokens, p.weight, p.bias).reshape(2, -1, 3, 4)
        for tokens, p in [
            (x.flatten(1, 2), attention.q_proj),
            (short, attention.k_proj),
            (short, attention.v_proj),
        ]
    )
    share = (torch.einsum("nihc,njhc->nhij", q, k) / 2).softmax(-1)
    y = torch.einsum("nhij,njhc->nihc", share, v).reshape(2, 5, 6, 12)
    expected = layer(y, attention.o_proj.weight, attention.o_proj.bias)
    torch.testing.assert_close(attention(x), expected, rtol=0, atol=1e-5)


def test_small_maps_are_padded_and_others_are_not():
    reduction = SequenceReduction(3, ratio=4)
    assert reduction(make_image((1, 1, 9, 3))).shape == (1, 1, 2, 3)
    x = make_image((1, 4, 3, 3))
    padded = torch.cat([x, torch.zeros(1, 4, 1, 3)], dim=2)
    torch.testing.assert_close(reduction(x), reduction(padded))
    x = make_image((1, 7, 4, 3))
    torch.testing.assert_close(reduction(x), reduction(x[:, :4]))


def test_drop_path_keeps_the_mean():
    drop_path = DropPath(0.25)
    x = torch.ones(4000, 2, 1, 3)
    torch.manual_seed(0)
    y = drop_path(x)
    first = y[:, 0, 0, 0]
    assert (y == first[:, None, None, None]).all()  # whole images
    torch.testing.assert_close(first.unique(), torch.tensor([0, 4 / 3]))
    assert first.mean().item() == pytest.approx(1, abs=0.03)
    assert drop_path.eval()(x) is x


def test_drop_path_grows_linearly():
    network = MiT("b2", drop_path=0.3)
    rates = [block.drop_path.dropout.p for stage in network.stages for block in stage.blocks]
    np.testing.assert_allclose(rates, np.linspace(0, 0.3, 16), atol=1e-7)


def test_initial_weights_are_the_authors():
    block = MiT("b1").stages[1].blocks[0]
    assert block.mlp.fc1.weight.std().item() == pytest.approx(0.02, rel=0.02)
    reduction = block.attention.sequence_reduction.sequence_reduction
    assert reduction.weight.std().item() == pytest.approx((2 / (16 * 128)) ** 0.5, rel=0.02)
    assert block.mlp.dwconv.dwconv.weight.std().item() == pytest.approx((2 / 9) ** 0.5, rel=0.05)
    assert not block.mlp.fc1.bias.any()
    assert (block.layernorm_before.weight == 1).all()


# --- published files ----------------------------------------------------------------------


def imagenet_file(weights, dialect):
    """Weights of the classifier as NVlabs or Hugging Face publish them."""
    file = {}
    for five, four, nvlabs in names((2, 2, 2, 2)):
        if five.startswith("segformer."):
            own = weights[five.removeprefix("segformer.")]
            name = four if dialect == "transformers 4" else nvlabs.removeprefix("backbone.")
            file[name] = torch.cat([file[name], own]) if name in file else own
    head = "classifier" if dialect == "transformers 4" else "head"
    return {**file, f"{head}.weight": torch.ones(1000, 256), f"{head}.bias": torch.ones(1000)}


@pytest.mark.parametrize("dialect", ["NVlabs", "transformers 4"])
def test_imagenet_files_load(dialect):
    expected = make()
    network = MiT("b0").eval()
    assert network.load_imagenet(imagenet_file(expected.state_dict(), dialect)) is network
    own, other = network.state_dict(), expected.state_dict()
    assert all(torch.equal(own[name], other[name]) for name in other)


@pytest.mark.parametrize("in_channels", [1, 2, 4, 6, 7])
def test_imagenet_weights_are_adapted_to_other_channels(in_channels):
    """Equal channels give the maps that they give in RGB."""
    expected = make()
    file = imagenet_file(expected.state_dict(), "NVlabs")
    network = MiT("b0", in_channels).eval().load_imagenet(file)
    x = make_image((1, 1, 33, 40))
    with torch.inference_mode():
        maps = network(x.expand(-1, in_channels, -1, -1))
        for found, m in zip(maps, expected(x.expand(-1, 3, -1, -1)), strict=True):
            torch.testing.assert_close(found, m, rtol=0, atol=1e-4)


def test_colours_stay_where_they_are_if_channels_are_added():
    expected = make().stages[0].patch_embeddings.proj.weight
    file = imagenet_file(make().state_dict(), "NVlabs")
    found = MiT("b0", 4).load_imagenet(file).stages[0].patch_embeddings.proj.weight
    torch.testing.assert_close(found[:, [1, 2]], expected[:, [1, 2]])
    torch.testing.assert_close(found[:, [0, 3]], expected[:, [0, 0]] / 2)


def test_broken_imagenet_files_are_refused():
    file = imagenet_file(make().state_dict(), "NVlabs")
    bias = file.pop("patch_embed1.proj.bias")
    with pytest.raises(ValueError, match=r"MiT: .* misses 1 .*stages\.0\.patch_embeddings\.proj"):
        MiT("b0").load_imagenet(file)
    with pytest.raises(ValueError, match=r"MiT: .* has left over 1 .*patch_embed5\.proj\.bias"):
        MiT("b0").load_imagenet(
            {**file, "patch_embed1.proj.bias": bias, "patch_embed5.proj.bias": bias}
        )


def test_the_encoder_alone_is_loaded_whole():
    expected = make(2)
    network = MiT("b0", 2).load_checkpoint(expected.state_dict())
    x = make_image((1, 2, 40, 40))
    with torch.inference_mode():
        for a, b in zip(network.eval()(x), expected(x), strict=True):
            assert torch.equal(a, b)
    file = imagenet_file(make().state_dict(), "NVlabs")
    with pytest.raises(ValueError, match=r"has left over 2 .*head\.bias, head\.weight"):
        MiT("b0").load_checkpoint(file)


def test_names_of_no_dialect_stay():
    weights = {"layer1.0.conv1.weight": torch.ones(1)}
    assert rename_mit_weights(weights) == weights


def test_unknown_sizes_are_refused():
    with pytest.raises(ValueError, match="MiT: size is 'b9', expected one of 'b0'"):
        MiT("b9")
