import pytest
import torch
from torch import nn

from segalgos.nets.norm import BatchNorm2d, FrozenBatchNorm2d, freeze_norms


def make(norm_class):
    norm = norm_class(3)
    values = torch.rand(4, 3, generator=torch.Generator().manual_seed(0)) + 0.5
    for name, value in zip(("weight", "bias", "running_mean", "running_var"), values):
        getattr(norm, name).data.copy_(value)
    return norm


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("shape", [(2, 3, 1, 1), (1, 3, 1, 2), (2, 3, 4, 5)])
def test_maps_of_several_values_are_normalised_as_by_torch(shape, training):
    x = torch.randn(shape, generator=torch.Generator().manual_seed(1))
    ours, torchs = (make(cls).train(training) for cls in (BatchNorm2d, nn.BatchNorm2d))
    assert torch.equal(ours(x), torchs(x))
    assert all(torch.equal(v, torchs.state_dict()[k]) for k, v in ours.state_dict().items())


def test_a_single_value_is_normalised_as_in_evaluation():
    x = torch.tensor([1.0, -2.0, 3.0]).reshape(1, 3, 1, 1).requires_grad_()
    norm = make(BatchNorm2d)
    expected = norm.eval()(x)
    before = {k: v.clone() for k, v in norm.state_dict().items()}
    found = norm.train()(x)
    assert torch.equal(found, expected)
    assert all(torch.equal(v, before[k]) for k, v in norm.state_dict().items())
    found.sum().backward()
    assert (x.grad != 0).all()
    with pytest.raises(ValueError, match="more than 1 value per channel"):
        make(nn.BatchNorm2d).train()(x)


def test_frozen_norms_stay_as_they_are():
    network = nn.Sequential(nn.Conv2d(3, 4, 1), BatchNorm2d(4), nn.Sequential(BatchNorm2d(4)))
    x = torch.randn(2, 3, 5, 5, generator=torch.Generator().manual_seed(0))
    network(x)  # statistics of its own
    expected = network.eval()(x)
    freeze_norms(network)
    norms = [m for m in network.modules() if isinstance(m, FrozenBatchNorm2d)]
    assert len(norms) == 2
    before = {k: v.clone() for k, v in network.state_dict().items()}
    torch.testing.assert_close(network.train()(x), expected)
    assert all(torch.equal(before[k], v) for k, v in network.state_dict().items())
    assert {name.split(".")[0] for name, _ in network.named_parameters()} == {"0"}
    freeze_norms(network, eps=0.5)  # nothing is left to freeze
    assert norms[0].eps == 1e-5
    other = nn.Sequential(nn.BatchNorm2d(4))
    freeze_norms(other, eps=0.5)
    assert other[0].eps == 0.5
