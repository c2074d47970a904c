"""SegFormer against transformers' (recorded, and live where it is installed) and the paper."""

import json
import runpy
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import save_file

from segalgos.nets.segformer import SegFormer
from segalgos.training.loop import train

GOLDEN = Path(__file__).parent / "golden"
RECORDED = json.loads((GOLDEN / "segformer.json").read_text())
script = runpy.run_path(str(GOLDEN / "make_segformer.py"))
fill, make_image, names, N_CLASSES = (
    script[name] for name in ("fill", "make_image", "names", "N_CLASSES")
)
TOLERANCE = {"rtol": 0, "atol": 1e-4}


def make_weights(network):
    return {name: fill(name, tensor.shape) for name, tensor in network.state_dict().items()}


def make(size="b0"):
    network = SegFormer(size, N_CLASSES).eval()
    network.load_state_dict(make_weights(network))
    return network


@pytest.fixture(scope="module")
def b0():
    return make()


@torch.inference_mode()
def compute(network, shape):
    return network(make_image(shape))


# --- equality -----------------------------------------------------------------------------

deep = [pytest.param(size, marks=pytest.mark.slow) for size in ("b3", "b4", "b5")]


def is_close_to_recorded(found, recorded):
    """Compare a tensor with what `summarise` of the script kept of another."""
    assert list(found.shape) == recorded["shape"]
    values = found.double().flatten()
    picked = values[torch.linspace(0, len(values) - 1, len(recorded["values"])).long()]
    np.testing.assert_allclose(picked, recorded["values"], **TOLERANCE)
    assert values.mean().item() == pytest.approx(recorded["mean"], abs=1e-5)
    assert values.abs().mean().item() == pytest.approx(recorded["mean_size"], abs=1e-5)
    return True


@pytest.mark.parametrize("size", ["b0", "b1", "b2", *deep])
def test_logits_equal_the_recorded_ones_of_transformers(size):
    network = make(size)
    records = [record for record in RECORDED["logits"] if record["size"] == size]
    assert len(records) == (3 if size == "b0" else 1)
    for record in records:
        n, _, height, width = record["shape"]
        assert is_close_to_recorded(compute(network, (n, 3, height, width)), record)
        assert record["mean_size"] > 0.4  # or 1e-4 would be a loose tolerance


def test_maps_equal_the_recorded_ones_of_transformers(b0):
    n, _, height, width = RECORDED["logits"][0]["shape"]
    with torch.inference_mode():
        maps = b0.segformer(make_image((n, 3, height, width)))
    assert all(is_close_to_recorded(m, r) for m, r in zip(maps, RECORDED["maps"], strict=True))


@pytest.mark.parametrize("size", ["b0", "b1", "b2", *deep])
def test_logits_equal_those_of_transformers(size):
    pytest.importorskip("transformers")
    reference = script["make_reference"](size)
    network = SegFormer(size, N_CLASSES).eval().load_checkpoint(reference.state_dict())
    for shape in [shape for s, shape in script["CASES"] if s == size]:
        expected = script["compute_logits"](reference, make_image(shape))
        torch.testing.assert_close(compute(network, shape), expected, **TOLERANCE)


@pytest.mark.parametrize("size", RECORDED["parameters"])
def test_names_and_shapes_equal_the_recorded_ones_of_transformers(size):
    with torch.device("meta"):
        network = SegFormer(size, N_CLASSES)
    assert script["describe"](network.state_dict()) == RECORDED["parameters"][size]


@pytest.mark.parametrize("training", [False, True])
def test_the_decoder_equals_the_paper_s(b0, training):
    """Project, enlarge, concatenate from the deepest map on, fuse: as eq. (4) is written."""
    head = make().decode_head.train(training)
    head.dropout.p = 0.0
    expected_head = make().decode_head.train(training)
    sizes = [(9, 12), (5, 6), (3, 3), (2, 2)]
    maps = [make_image((2, c, *size)) for c, size in zip(b0.segformer.channels, sizes)]
    projected = [
        F.interpolate(
            torch.einsum("nchw,dc->ndhw", x, p.proj.weight) + p.proj.bias[:, None, None],
            size=sizes[0],
            mode="bilinear",
            align_corners=False,
        )
        for x, p in zip(maps, expected_head.linear_projections)
    ]
    fused = expected_head.batch_norm(expected_head.linear_fuse(torch.cat(projected[::-1], dim=1)))
    expected = expected_head.classifier(fused.clamp(min=0))
    found = head(maps)
    torch.testing.assert_close(found, expected, **TOLERANCE)
    for a, b in zip(head.buffers(), expected_head.buffers(), strict=True):
        torch.testing.assert_close(a, b)
    found.square().mean().backward()
    expected.square().mean().backward()
    for (name, a), b in zip(head.named_parameters(), expected_head.parameters(), strict=True):
        scale = b.grad.abs().max().item()
        torch.testing.assert_close(a.grad, b.grad, rtol=0, atol=1e-4 * scale + 1e-6, msg=name)


# --- checkpoints --------------------------------------------------------------------------

DIALECTS = ("transformers 5", "transformers 4", "NVlabs")


def translate(weights, dialect):
    """Give weights the names of a dialect, by the script's list, and fuse keys with values."""
    translated = {}
    for triple in names((2, 2, 2, 2)):
        own, other = triple[0], triple[DIALECTS.index(dialect)]
        if other in translated:
            translated[other] = torch.cat([translated[other], weights[own]])
        else:
            translated[other] = weights[own]
    if dialect == "NVlabs":  # never used, but in the files
        translated["decode_head.conv_seg.weight"] = torch.ones(N_CLASSES, 256, 1, 1)
        translated["decode_head.conv_seg.bias"] = torch.ones(N_CLASSES)
    return translated


@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize("container", ["mapping", ".safetensors", ".pth", "wrapped.pth"])
def test_all_dialects_load(tmp_path, b0, dialect, container):
    source = weights = translate(b0.state_dict(), dialect)
    assert len(weights) == (194 if dialect == "NVlabs" else 208)
    if container != "mapping":
        source = tmp_path / f"weights{container}"
        if container == ".safetensors":
            save_file({name: w.contiguous() for name, w in weights.items()}, source)
        elif container == ".pth":
            torch.save(weights, source)
        else:
            torch.save({"meta": {"CLASSES": ("road",), "epoch": 3}, "state_dict": weights}, source)
    network = SegFormer("b0", N_CLASSES).eval()
    assert network.load_checkpoint(source) is network
    shape = (1, 3, 33, 47)
    assert torch.equal(compute(network, shape), compute(b0, shape))


MISSING = {
    "transformers 5": "segformer.stages.2.blocks.1.mlp.fc1.bias",
    "transformers 4": "segformer.encoder.block.2.1.mlp.dense1.bias",
    "NVlabs": "backbone.block3.1.mlp.fc1.bias",
}


@pytest.mark.parametrize("dialect", DIALECTS)
def test_broken_checkpoints_are_refused_by_name(b0, dialect):
    network = SegFormer("b0", N_CLASSES)
    before = {name: w.clone() for name, w in network.state_dict().items()}
    good = translate(b0.state_dict(), dialect)

    def refuses(change, message):
        weights = dict(good)
        change(weights)
        with pytest.raises(ValueError, match=message):
            network.load_checkpoint(weights)

    missing = (
        r"SegFormer: the checkpoint misses 1 .* \(segformer\.stages\.2\.blocks\.1\.mlp\.fc1\.bias"
    )
    refuses(lambda w: w.pop(MISSING[dialect]), missing)
    refuses(lambda w: w.update(extra=torch.ones(1)), r"has left over 1 .* \(extra\)")
    prefix = MISSING[dialect].rpartition(".")[0]
    refuses(lambda w: w.update({f"{prefix}.gain": torch.ones(1)}), r"has left over 1 .*fc1\.gain")
    refuses(
        lambda w: w.update({MISSING[dialect]: torch.ones(3)}),
        r"mlp\.fc1\.bias has shape \(3,\) in the checkpoint, \(640,\) here",
    )
    assert all(torch.equal(w, before[name]) for name, w in network.state_dict().items())


def test_missing_keys_and_values_are_named(b0):
    weights = translate(b0.state_dict(), "NVlabs")
    del weights["backbone.block4.0.attn.kv.weight"]
    with pytest.raises(ValueError, match=r"misses 2 .*3.*k_proj\.weight.*v_proj\.weight"):
        SegFormer("b0", N_CLASSES).load_checkpoint(weights)


@pytest.mark.parametrize("dialect", DIALECTS[1:])
@pytest.mark.parametrize(
    "name", ["segformer.stages.0.layer_norm.bias", "decode_head.linear_projections.3.proj.bias"]
)
def test_two_names_of_one_weight_are_refused(b0, dialect, name):
    weights = {**translate(b0.state_dict(), dialect), name: b0.state_dict()[name]}
    with pytest.raises(ValueError, match=r"holds both .*bias and .*bias, two names of one weight"):
        SegFormer("b0", N_CLASSES).load_checkpoint(weights)


@pytest.mark.parametrize("size", ["b0", "b1"])
def test_checkpoints_of_another_network_are_refused(b0, size):
    network = SegFormer(size, N_CLASSES + 1)
    with pytest.raises(ValueError, match=r"in the checkpoint, .* here: build the network with"):
        network.load_checkpoint(b0.state_dict())


# --- what the network promises ------------------------------------------------------------


@pytest.mark.parametrize("shape", [(1, 1), (1, 50), (2, 3), (28, 29), (61, 7), (4, 128)])
@pytest.mark.parametrize("in_channels", [1, 3, 5])
def test_any_size_and_channels(shape, in_channels):
    network = SegFormer("b0", 4, in_channels).eval()
    with torch.inference_mode():
        y = network(make_image((2, in_channels, *shape)))
    assert y.shape == (2, 4, *shape)
    assert y.isfinite().all()
    assert (network.stride, network.margin, network.halo) == (32, 0, None)
    assert [network.fit_size(n) for n in shape] == list(shape)


def test_memory_layout_and_batch_change_nothing(b0):
    x = make_image((3, 3, 45, 38))
    with torch.inference_mode():
        expected = b0(x)
        torch.testing.assert_close(b0(x[1:2]), expected[1:2], rtol=0, atol=1e-5)
        channels_last = make().to(memory_format=torch.channels_last)
        found = channels_last(x.to(memory_format=torch.channels_last))
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)


def test_equal_seeds_give_equal_weights():
    def weights(seed, global_seed):
        torch.manual_seed(global_seed)
        return SegFormer("b0", 3, generator=torch.Generator().manual_seed(seed)).state_dict()

    a, b, c = weights(0, 1), weights(0, 2), weights(1, 1)
    assert all(torch.equal(a[name], b[name]) for name in a)
    drawn = [name for name in a if not torch.equal(a[name], c[name])]
    assert len(drawn) == sum(a[name].ndim > 1 for name in a) + 5  # biases of the decoder


def test_initial_weights_of_the_decoder():
    head = SegFormer("b0", 50).decode_head
    assert head.linear_fuse.weight.std().item() == pytest.approx((2 / 256) ** 0.5, rel=0.02)
    for layer, fan_in in [(head.linear_projections[2].proj, 160), (head.classifier, 256)]:
        for values in (layer.weight, layer.bias):
            assert 0.8 * fan_in**-0.5 < values.abs().max() <= fan_in**-0.5


def test_parts_of_a_batch_train_reproducibly():
    """Nothing random in training draws from torch's global generator."""

    def weights(global_seed):
        torch.manual_seed(global_seed)
        network = SegFormer("b0", 2, 1, generator=torch.Generator().manual_seed(0))

        def draw(rng):
            images = torch.tensor(rng.normal(size=(2, 1, 24, 24)), dtype=torch.float32)
            return images, (images[:, 0] > 0).long(), None

        loss = lambda logits, labels, _: F.cross_entropy(logits, labels)  # noqa: E731
        train(network, draw, loss, steps_per_epoch=2, epochs=1, n_parts=2)
        return network.state_dict()

    a, b = weights(1), weights(2)
    assert all(torch.equal(a[name], b[name]) for name in a)


def test_dropping_happens_in_training_only(b0):
    network, x = make(), make_image((4, 3, 32, 32))
    with torch.no_grad():
        assert torch.equal(network(x), network(x))
        network.train()
        assert not torch.equal(network(x), network(x))


def test_unknown_sizes_are_refused():
    with pytest.raises(ValueError, match="SegFormer: size is 'b6', expected one of 'b0'"):
        SegFormer("b6", 3)
