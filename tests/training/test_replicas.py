"""Copies of networks in training."""

import pytest
import torch
from torch import nn

from segalgos.training.replicas import replicate
from segalgos.winograd import TrainableWinogradConv2d


def test_dropout_is_drawn_anew_for_each_part_and_step():
    network = nn.Sequential(nn.Conv2d(3, 2, 1), nn.Dropout(0.5), nn.Dropout2d(0.5))
    replica, generator = replicate(network)
    replica.train()
    x = torch.ones(4, 2, 30, 30)
    generator.manual_seed(1)
    first = replica[1](x)
    assert not torch.equal(first, replica[1](x))
    generator.manual_seed(1)
    assert torch.equal(first, replica[1](x))
    assert set(first.unique().tolist()) == {0.0, 2.0}
    assert 0.45 < float((first > 0).float().mean()) < 0.55
    whole = replica[2](torch.ones(50, 20, 3, 3)).flatten(2)
    assert torch.equal(whole.amin(2), whole.amax(2))
    assert set(whole.unique().tolist()) == {0.0, 2.0}
    assert torch.equal(replica.eval()[1](x), x)
    assert type(network[1]) is nn.Dropout  # the network itself is as it was
    assert replica[0].weight is network[0].weight


def test_large_convolutions_are_trained_the_fast_way_with_the_same_weights():
    network = nn.Sequential(nn.Conv2d(3, 256, 3, padding=1), nn.Conv2d(256, 256, 3, padding=1))
    replica, _ = replicate(network)
    assert type(replica[0]) is nn.Conv2d
    assert type(replica[1]) is TrainableWinogradConv2d
    assert [id(p) for p in replica.parameters()] == [id(p) for p in network.parameters()]
    assert type(network[1]) is nn.Conv2d


@pytest.mark.parametrize("size", [(1, 1), (2, 1), (3, 7), (9, 16)])
@pytest.mark.parametrize("stride", [2, 4])
@pytest.mark.parametrize("kernel", [1, 3, 5, 7])
@pytest.mark.parametrize("groups", [1, 32])
def test_mixed_gradients_of_strided_convolutions(groups, kernel, stride, size):
    conv = nn.Conv2d(32, 32, kernel, stride=stride, padding=kernel // 2, groups=groups)
    network = nn.Sequential(conv)
    replica, _ = replicate(network, mixed=True)
    x = torch.randn(2, 32, *size, generator=torch.Generator().manual_seed(0))
    parameters = list(network.parameters())
    outer = torch.ones_like(network(x))
    expected = torch.autograd.grad(network(x), parameters, outer)
    for _ in range(3):
        found = replica(x)
        assert found.dtype == torch.float32
        for one, other in zip(torch.autograd.grad(found, parameters, outer), expected):
            assert (one - other).norm() < 0.02 * other.norm()


def test_mixed_products_are_of_bfloat16():
    network = nn.Sequential(nn.Conv2d(64, 8, 1), nn.BatchNorm2d(8))
    x = torch.randn(2, 64, 4, 4, generator=torch.Generator().manual_seed(0))
    replica, _ = replicate(network, mixed=True)
    expected, found = network(x), replica(x)
    assert found.dtype == torch.float32
    assert 1e-4 < (found - expected).abs().max() < 0.1
    outputs, _ = replicate(Parts(), mixed=True)
    assert [y.dtype for y in outputs(x)["levels"]] == [torch.float32, torch.float32]
    assert outputs(x)["size"] == (4, 4)


@pytest.mark.parametrize("stride", [1, 2])
def test_depthwise_convolutions_are_of_float32(stride):
    network = nn.Conv2d(8, 16, 3, stride=stride, padding=1, groups=8)
    x = torch.randn(2, 8, 9, 9, generator=torch.Generator().manual_seed(0))
    replica, _ = replicate(nn.Sequential(network), mixed=True)
    with torch.autocast("cpu", torch.bfloat16):
        assert replica.network[0](x.bfloat16()).dtype == torch.float32
    torch.testing.assert_close(replica(x), network(x))


class Parts(nn.Module):
    """A network that gives more than one tensor."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(64, 8, 1)

    def forward(self, x):
        y = self.conv(x)
        assert y.dtype == torch.bfloat16
        return {"levels": [y, y[:, :2]], "size": tuple(x.shape[2:])}
