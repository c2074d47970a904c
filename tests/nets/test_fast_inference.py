"""Fused networks against the networks they were made from."""

import copy

import numpy as np
import pytest
import torch
from torch import nn

from segalgos.nets.ddrnet import DDRNet
from segalgos.nets.deeplab import DeepLab
from segalgos.nets.encoder_unet import EncoderUNet
from segalgos.nets.encoders.efficientnet_lite import EfficientNetLite0
from segalgos.nets.fast_inference import fuse
from segalgos.nets.fcn import FCN, FCNResNet
from segalgos.nets.norm import BatchNorm2d
from segalgos.nets.segformer import SegFormer
from segalgos.nets.unet import UNet
from segalgos.winograd import WinogradConv2d

# Of each network: how it is made, how many norms cannot be folded, and its 3x3 convolutions
# that are large enough for Winograd's algorithm.
NETWORKS = {
    "fcn": (lambda: FCN(3, 4, fc_channels=8, padding="same"), 0, 10),
    "fcn_resnet18": (lambda: FCNResNet(1, 4, backbone="resnet18"), 0, 12),
    "deeplab_v3": (
        lambda: DeepLab(3, 4, version="v3", backbone="resnet18", output_stride=8), 0, 12,
    ),
    "deeplab_v3+": (lambda: DeepLab(3, 4, backbone="resnet18"), 0, 12),
    "unet": (lambda: UNet(2, 4, base_channels=8, depth=2, batch_norm=True), 0, 0),
    "unet_same": (
        lambda: UNet(3, 4, base_channels=64, depth=2, padding="same", batch_norm=True), 0, 5,
    ),
    "encoder_unet": (lambda: EncoderUNet(EfficientNetLite0(), 4), 0, 4),
    # Its norm is computed as part of a linear layer already.
    "segformer": (lambda: SegFormer("b0", 4), 1, 0),
    # Norms before convolutions: eleven of the pyramid pooling, one of the head; and both of
    # the auxiliary head, which runs in training only.
    "ddrnet": (lambda: DDRNet(3, 4, base_channels=8, head_channels=8, auxiliary=True), 14, 4),
}  # fmt: skip


def with_random_norms(network, seed=0):
    """As after training: with norms that are no identity."""
    generator = torch.Generator().manual_seed(seed)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5, generator=generator)
            nn.init.normal_(module.bias, std=0.3, generator=generator)
            nn.init.normal_(module.running_mean, std=0.3, generator=generator)
            nn.init.uniform_(module.running_var, 0.5, 2, generator=generator)
    return network.eval()


def random_input(*shape, seed=0):
    return torch.tensor(np.random.default_rng(seed).normal(size=shape), dtype=torch.float32)


def kinds(network, *types):
    return [module for module in network.modules() if isinstance(module, types)]


@pytest.mark.parametrize("name", NETWORKS)
def test_outputs_are_those_of_the_network(name):
    make, n_left, n_winograd = NETWORKS[name]
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = with_random_norms(make())
    if isinstance(network, FCN):  # whose scores start at zero
        nn.init.normal_(network.score_pool3.weight, std=0.05, generator=torch.Generator())
    before = copy.deepcopy(network.state_dict())
    fused = fuse(network)
    assert len(kinds(fused, nn.BatchNorm2d)) == n_left
    assert len(kinds(fused, WinogradConv2d)) == n_winograd
    assert not any(p.requires_grad for p in fused.parameters())
    for attribute in ("stride", "margin", "halo"):
        assert getattr(fused, attribute) == getattr(network, attribute)
    assert fused.fit_size(50) == network.fit_size(50)

    n_channels = kinds(network, nn.Conv2d)[0].in_channels
    sizes = [n + 2 * network.margin for n in (network.fit_size(50), network.fit_size(33))]
    image = random_input(2, n_channels, *sizes)
    with torch.inference_mode():
        expected, found = network(image), fused(image)
    assert expected.std() > 0
    assert found.shape == expected.shape
    assert (found - expected).abs().max() < 1e-4 * max(expected.abs().max(), 1)
    for key, value in network.state_dict().items():
        assert torch.equal(value, before[key])


class Odd(nn.Module):
    """Norms that look foldable by their places, and are not."""

    margin = 0

    def __init__(self):
        super().__init__()
        self.conv1, self.norm1 = nn.Conv2d(3, 8, 3, padding=1), BatchNorm2d(8)
        self.conv2, self.norm2 = nn.Conv2d(8, 8, 3, padding=1), BatchNorm2d(8)
        self.conv3, self.norm3 = nn.Conv2d(8, 8, 3, padding=1), BatchNorm2d(8)
        self.conv4, self.norm4 = nn.Conv2d(8, 8, 3, padding=1), BatchNorm2d(8)
        self.conv5, self.norm5 = nn.Conv2d(8, 8, 1), nn.BatchNorm2d(8, affine=False)

    def fit_size(self, size):
        return size

    def forward(self, x):
        x = self.conv1(x)
        x = x + self.norm1(x)  # the convolution's own output is used as well
        x = self.norm2(self.conv2(x).relu_())  # a layer in between, in place
        x = self.norm3(self.conv3(self.conv3(x)))  # a convolution used twice
        x = self.norm4(self.norm4(self.conv4(x)))  # a norm used twice
        return self.norm5(self.conv5(x))  # foldable, without weights of its own


class Both(nn.Module):
    """Gives what goes into the norm, too."""

    margin = 0

    def __init__(self):
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 8, 3), BatchNorm2d(8)

    def fit_size(self, size):
        return size

    def forward(self, x):
        x = self.conv(x)
        return x, self.norm(x)


def test_a_norm_is_left_where_it_is_needed():
    network = Odd()
    for module in kinds(network, nn.BatchNorm2d):
        nn.init.normal_(module.running_mean)
    network.eval()
    fused = fuse(network)
    image = random_input(1, 3, 9, 7)
    with torch.inference_mode():
        torch.testing.assert_close(fused(image), network(image), rtol=1e-5, atol=1e-5)
    assert kinds(fused, nn.BatchNorm2d) == [fused.norm1, fused.norm2, fused.norm3, fused.norm4]
    assert isinstance(fused.norm5, nn.Identity)
    assert len(kinds(fuse(Both()), nn.BatchNorm2d)) == 1


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("groups", [1, 2, 4])
@pytest.mark.parametrize("convolution", [nn.Conv2d, nn.ConvTranspose2d])
def test_folding_of_all_kinds_of_convolution(convolution, groups, bias):
    class Pair(nn.Sequential):
        margin = 0

        def fit_size(self, size):
            return size

    layers = convolution(4, 8, 3, stride=2, padding=1, groups=groups, bias=bias), BatchNorm2d(8)
    network = with_random_norms(Pair(*layers))
    fused = fuse(network, n_channels=4)
    assert not kinds(fused, nn.BatchNorm2d)
    image = random_input(2, 4, 9, 12)
    with torch.inference_mode():
        torch.testing.assert_close(fused(image), network(image), rtol=1e-5, atol=1e-5)


def test_plain_convolutions_and_networks_without_any():
    network = FCNResNet(3, 4, backbone="resnet18").eval()
    assert not kinds(fuse(network, winograd=False), WinogradConv2d)
    with pytest.raises(ValueError, match=r"fuse: the network has no Conv2d"):
        fuse(nn.Sequential(nn.ReLU()))
