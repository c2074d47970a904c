import pytest
import torch

from segalgos.nets.encoders.efficientnet_lite import EfficientNetLite0
from segalgos.nets.encoders.resnet import ResNet
from segalgos.nets.fast_inference import fuse
from segalgos.nets.side_output_net import FIRST_SHARE, SideOutputNet


@pytest.fixture(scope="module")
def network():
    generator = torch.Generator().manual_seed(0)
    return SideOutputNet(EfficientNetLite0(generator=generator), generator=generator)


@pytest.mark.parametrize("size", [(1, 1), (37, 50), (64, 96)])
def test_answers_are_as_large_as_the_image(network, size):
    assert network.eval()(torch.rand(2, 3, *size)).shape == (2, 3, *size)


def test_training_gives_all_answers(network):
    found = network.train()(torch.rand(2, 3, 64, 64))
    assert [tuple(values.shape) for values in found] == [
        (2, 1, 64, 64), (2, 4, 64, 64), (2, 2, 64, 64),
    ]  # fmt: skip
    mean = found.sides.mean(dim=1, keepdim=True)  # what a new network joins them by
    assert torch.allclose(found.joined, mean, atol=1e-5)
    assert found.joined.sigmoid().mean().item() == pytest.approx(FIRST_SHARE, rel=0.5)


def test_every_parameter_gets_a_gradient(network):
    found = network.train()(torch.rand(2, 3, 64, 64))
    sum(values.square().sum() for values in found).backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in network.parameters())
    network.zero_grad()


def test_fast_form_gives_the_same(network):
    x = torch.rand(1, 3, 64, 96)
    network.eval()
    with torch.inference_mode():
        assert torch.allclose(fuse(network)(x), network(x), atol=1e-4)


def test_any_encoder():
    network = SideOutputNet(ResNet(1, "resnet18"), decoder_channels=(64, 32, 32, 16)).eval()
    assert network(torch.rand(1, 1, 45, 33)).shape == (1, 3, 45, 33)


def test_steps_must_fit_the_encoder():
    with pytest.raises(ValueError, match="decoder_channels has 2 steps, expected 4"):
        SideOutputNet(EfficientNetLite0(), decoder_channels=(64, 32))
