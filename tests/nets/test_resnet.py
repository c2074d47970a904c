"""ResNet: its maps, its dilations, and weights of classifiers."""

import pytest
import torch
from torch import nn

from segalgos.nets.encoders.imagenet import adapt_channels
from segalgos.nets.encoders.resnet import ResNet
from segalgos.nets.norm import BatchNorm2d


def make(in_channels=3, variant="resnet18", seed=0, **options):
    generator = torch.Generator().manual_seed(seed)
    return ResNet(in_channels, variant, generator=generator, **options)


def random_input(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("output_stride", [8, 16, 32])
@pytest.mark.parametrize("variant", ["resnet18", "resnet50"])
def test_maps_have_the_published_channels_and_strides(variant, output_stride):
    with torch.device("meta"):
        network = ResNet(4, variant, output_stride=output_stride)
        assert network.strides == (2, 4, 8, min(16, output_stride), output_stride)
        widths = (64, 128, 256, 512) if variant == "resnet18" else (256, 512, 1024, 2048)
        assert network.channels == (64, *widths)
        for height, width in [(1, 1), (64, 96), (37, 131)]:
            maps = network(torch.empty(2, 4, height, width))
            assert [tuple(m.shape) for m in maps] == [
                (2, c, -(-height // s), -(-width // s))
                for c, s in zip(network.channels, network.strides)
            ]


@pytest.mark.parametrize(
    ("variant", "n_parameters"),  # of the paper's networks without their last layer
    [
        ("resnet18", 11_176_512),
        ("resnet34", 21_284_672),
        ("resnet50", 23_508_032),
        ("resnet101", 42_500_160),
    ],
)
def test_numbers_of_parameters(variant, n_parameters):
    with torch.device("meta"):
        network = ResNet(3, variant)
    assert sum(p.numel() for p in network.parameters()) == n_parameters


@pytest.mark.parametrize(
    ("variant", "output_stride", "size"),
    [
        ("resnet18", 16, (75, 41)),
        ("resnet18", 8, (64, 32)),
        ("resnet18", 8, (75, 41)),
        ("resnet50", 8, (43, 35)),
    ],
)
def test_dilation_leaves_the_values_of_strided_maps(variant, output_stride, size):
    strided, dense = (
        make(variant=variant).eval(),
        make(variant=variant, output_stride=output_stride),
    )
    dense.load_state_dict(strided.state_dict())
    x = random_input(1, 3, *size)
    with torch.inference_mode():
        maps = zip(strided(x), strided.strides, dense.eval()(x), dense.strides)
        for coarse, coarse_stride, fine, fine_stride in maps:
            step = coarse_stride // fine_stride
            torch.testing.assert_close(fine[:, :, ::step, ::step], coarse, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("variant", "output_stride"), [("resnet18", 8), ("resnet34", 32)])
def test_reach_is_what_the_last_map_depends_on(variant, output_stride):
    network = make(1, variant, output_stride=output_stride).eval()
    with torch.no_grad():
        for parameter in network.parameters():  # nothing cancels out, no ReLU is closed
            parameter.abs_()
    n = 2 * (network.reach // 32 + 2) * 32
    cell = n // 2 // output_stride
    rows = []
    for ramp in (torch.linspace(1, 2, n), torch.linspace(2, 1, n)):  # either end wins a pooling
        x = ramp.reshape(1, 1, n, 1).requires_grad_()
        *_, last = network(x)
        last[0, 0, cell, 0].backward()
        rows += x.grad.flatten().nonzero().flatten().tolist()
    assert min(rows) - cell * output_stride == -network.reach
    assert max(rows) - cell * output_stride == network.reach


def test_initial_weights_are_those_of_the_reference():
    network = make()
    weight = network.layer2[0].conv1.weight  # 64 to 128 channels
    assert weight.std().item() == pytest.approx((2 / (128 * 9)) ** 0.5, rel=0.02)
    same, other = make(), make(seed=1)
    assert all(torch.equal(v, same.state_dict()[k]) for k, v in network.state_dict().items())
    assert not torch.equal(other.conv1.weight, network.conv1.weight)


def test_gradients_reach_all_parameters():
    network = make(2, output_stride=8)
    sum(m.square().mean() for m in network(random_input(2, 2, 33, 17))).backward()
    assert all(p.grad.abs().sum() > 0 for p in network.parameters())


def classifier_weights(in_channels=3, **more):
    """What a published file holds: an encoder and a last layer."""
    return make(in_channels, seed=5).state_dict() | {
        "fc.weight": torch.ones(10, 512),
        "fc.bias": torch.ones(10),
        **more,
    }


def test_weights_of_a_classifier_are_loaded_without_the_last_layer(tmp_path):
    weights = classifier_weights()
    torch.save(weights, tmp_path / "resnet18.pth")
    network = make()
    assert network.load_imagenet(tmp_path / "resnet18.pth") is network
    assert all(torch.equal(v, weights[k]) for k, v in network.state_dict().items())
    old = {k: v for k, v in weights.items() if not k.endswith("num_batches_tracked")}
    assert torch.equal(make().load_imagenet(old).conv1.weight, weights["conv1.weight"])


@pytest.mark.parametrize("in_channels", [1, 2, 4, 7])
def test_conv1_is_fitted_to_other_channels(in_channels):
    weights = classifier_weights()
    network = make(in_channels)
    network.load_imagenet(weights)
    grey = random_input(2, 1, 20, 20)
    expected = nn.functional.conv2d(grey.expand(-1, 3, -1, -1), weights["conv1.weight"])
    found = nn.functional.conv2d(grey.expand(-1, in_channels, -1, -1), network.conv1.weight)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    assert torch.equal(network.layer4[1].conv2.weight, weights["layer4.1.conv2.weight"])


def test_conv1_of_the_same_channels_is_taken_as_it_is():
    weight = random_input(4, 3, 3, 3)
    assert torch.equal(adapt_channels(weight, 3), weight)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda w: w.pop("layer1.0.bn1.bias"), r"misses 1 .* \(layer1\.0\.bn1\.bias\)"),
        (lambda w: w.update({"layer5.weight": torch.ones(1)}), r"left over 1 .* \(layer5\.weight"),
        (lambda w: w.update({"conv1.weight": torch.ones(64, 3, 5, 5)}), r"conv1\.weight has shape"),
    ],
    ids=["missing", "left over", "shape"],
)
def test_other_files_are_refused(change, message):
    weights, network = classifier_weights(), make()
    change(weights)
    with pytest.raises(ValueError, match=f"ResNet: .*{message}"):
        network.load_imagenet(weights)
    assert torch.equal(network.conv1.weight, make().conv1.weight)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"variant": "resnet19"}, "variant is 'resnet19', expected one of 'resnet18'"),
        ({"output_stride": 4}, "output_stride is 4, expected 8, 16 or 32"),
    ],
)
def test_bad_parameters_are_refused(options, message):
    with pytest.raises(ValueError, match=f"ResNet: {message}"):
        make(**options)


# --- the norm -----------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(2, 3, 1, 1), (1, 3, 1, 2), (4, 3, 5, 6)])
def test_norm_equals_torchs_where_torch_has_one(shape):
    ours, torchs, x = BatchNorm2d(3), nn.BatchNorm2d(3), random_input(*shape)
    assert torch.equal(ours(x), torchs(x))
    assert all(torch.equal(v, torchs.state_dict()[k]) for k, v in ours.state_dict().items())
    assert torch.equal(ours.eval()(x), torchs.eval()(x))


def test_norm_of_a_single_value_takes_the_running_statistics():
    norm, x = BatchNorm2d(3), random_input(1, 3, 1, 1)
    norm(random_input(4, 3, 5, 5, seed=1))
    before = {k: v.clone() for k, v in norm.state_dict().items()}
    found = norm(x)
    assert all(torch.equal(v, before[k]) for k, v in norm.state_dict().items())
    assert torch.equal(found, norm.eval()(x))
