"""VGG16: its maps, and weights of classifiers."""

import pytest
import torch
import torch.nn.functional as F

from segalgos.nets.encoders.vgg import VGG16

# Table 1, D: channels of the convolutions, "M" for a pooling.
TABLE = [64, 64, "M", 128, 128, "M", 256, 256, 256, "M", 512, 512, 512, "M", 512, 512, 512, "M"]


def make(in_channels=3, seed=0, **options):
    return VGG16(in_channels, generator=torch.Generator().manual_seed(seed), **options)


def recompute(weights, x, padding):
    """The table's column, with torchvision's numbers of layers."""
    pooled, index = [], 0
    for entry in TABLE:
        if entry == "M":
            x = F.pad(x, (0, x.shape[3] % 2, 0, x.shape[2] % 2), value=-1.0)  # below any ReLU
            x = F.max_pool2d(x, 2)
            pooled.append(x)
            index += 1
        else:
            kernel, bias = (weights[f"features.{index}.{key}"] for key in ("weight", "bias"))
            assert kernel.shape[0] == entry
            x = F.conv2d(x, kernel, bias, padding=padding if index == 0 else 1).clamp(min=0)
            index += 2
    return pooled


@pytest.mark.parametrize("size", [(1, 1), (64, 32), (37, 51)])
@pytest.mark.parametrize("padding", [1, 20])
def test_maps_equal_a_plain_recomputation(size, padding):
    network = make(2, padding=padding)
    x = torch.randn(1, 2, *size, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        found, expected = network(x), recompute(network.state_dict(), x, padding)
    sizes = [n + 2 * (padding - 1) for n in size]
    for a, b, c, s in zip(found, expected, network.channels, network.strides, strict=True):
        assert a.shape == (1, c, -(-sizes[0] // s), -(-sizes[1] // s))
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4)
    assert found[-1].std() > 0.05 or size == (1, 1)  # the variance survives 13 layers


def test_number_of_parameters():
    with torch.device("meta"):
        network = VGG16(3)
    assert sum(p.numel() for p in network.parameters()) == 14_714_688


def test_equal_seeds_give_equal_weights():
    a, b, c = make().state_dict(), make().state_dict(), make(seed=1).state_dict()
    assert all(torch.equal(a[k], b[k]) for k in a)
    assert not torch.equal(a["features.28.weight"], c["features.28.weight"])


@pytest.mark.parametrize("in_channels", [1, 3, 5])
def test_weights_of_a_classifier_are_loaded_without_the_last_layers(in_channels):
    weights = make(seed=5).state_dict()
    last = {f"classifier.{i}.{key}": torch.ones(1) for i in (0, 3, 6) for key in ("weight", "bias")}
    network = make(in_channels)
    assert network.load_imagenet(weights | last) is network
    grey = torch.rand(1, 1, 9, 9)
    torch.testing.assert_close(
        F.conv2d(grey.expand(-1, in_channels, -1, -1), network.features[0].weight),
        F.conv2d(grey.expand(-1, 3, -1, -1), weights["features.0.weight"]),
        rtol=1e-4,
        atol=1e-5,
    )
    assert torch.equal(network.features[28].weight, weights["features.28.weight"])
    with pytest.raises(ValueError, match=r"VGG16: .* left over 1 .* \(features\.29\.weight\)"):
        network.load_imagenet(weights | {"features.29.weight": torch.ones(1)})
