"""Winograd's convolution against the direct one."""

import numpy as np
import pytest
import torch
from torch import nn

from segalgos import winograd
from segalgos.winograd import TrainableWinogradConv2d, WinogradConv2d


def random_input(*shape, seed=0):
    return torch.tensor(np.random.default_rng(seed).normal(size=shape), dtype=torch.float32)


@pytest.fixture
def never_direct(monkeypatch):
    monkeypatch.setattr(winograd, "LARGEST_SHARE", np.inf)


@pytest.mark.parametrize("most_tiles", [1, 5, 128])
@pytest.mark.parametrize("dilation", [1, 2, 3])
@pytest.mark.parametrize("padding", [0, 2, 5])
@pytest.mark.parametrize("size", [(7, 9), (16, 23)])
def test_equals_the_direct_convolution(
    size, padding, dilation, most_tiles, never_direct, monkeypatch
):
    monkeypatch.setattr(winograd, "MOST_TILES", most_tiles)
    conv = nn.Conv2d(5, 3, 3, padding=padding, dilation=dilation, bias=padding != 2)
    x = random_input(2, 5, *size)
    with torch.inference_mode():
        expected, found = conv(x), WinogradConv2d(conv)(x)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    assert found.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("band_values", [1, 6_000_000])
@pytest.mark.parametrize("dilation", [1, 2, 3])
@pytest.mark.parametrize("padding", [0, 2, 5])
@pytest.mark.parametrize("size", [(7, 9), (16, 23)])
def test_gradients_equal_those_of_the_direct_convolution(
    size, padding, dilation, band_values, never_direct, monkeypatch
):
    monkeypatch.setattr(winograd, "BAND_VALUES", band_values)
    conv = nn.Conv2d(5, 3, 3, padding=padding, dilation=dilation, bias=padding != 2).double()
    x = random_input(2, 5, *size).double().requires_grad_()
    expected, found = conv(x), TrainableWinogradConv2d(conv)(x)
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)
    outer = torch.randn_like(expected)
    variables = [x, *conv.parameters()]
    for one, other in zip(
        torch.autograd.grad(found, variables, outer),
        torch.autograd.grad(expected, variables, outer),
        strict=True,
    ):
        torch.testing.assert_close(one, other, rtol=1e-11, atol=1e-11)


def test_gradients_only_where_they_are_wanted(never_direct):
    conv = nn.Conv2d(5, 3, 3, padding=1)
    x = random_input(1, 5, 8, 8)
    TrainableWinogradConv2d(conv)(x).sum().backward()
    assert x.grad is None
    conv.requires_grad_(False)
    assert not TrainableWinogradConv2d(conv)(x).requires_grad


def test_gradients_in_float32_are_near_those_of_float64():
    conv = nn.Conv2d(256, 256, 3, padding=1)
    x = random_input(1, 256, 16, 16).requires_grad_()
    outer = random_input(1, 256, 16, 16, seed=1)
    found = torch.autograd.grad(TrainableWinogradConv2d(conv)(x), [x, conv.weight], outer)
    exact = conv.double()
    x = x.detach().double().requires_grad_()
    expected = torch.autograd.grad(exact(x), [x, exact.weight], outer.double())
    for one, other in zip(found, expected, strict=True):
        error = (one - other).abs().max() / other.abs().max()
        assert error < 2e-5


def test_transforms_are_exact():
    """In float64 nothing but rounding is left."""
    conv = nn.Conv2d(256, 256, 3, padding=2, dilation=2).double()
    x = random_input(1, 256, 32, 32).double()
    with torch.inference_mode():
        found = WinogradConv2d(conv)(x)
        torch.testing.assert_close(found, conv(x), rtol=1e-12, atol=1e-12)


def test_small_maps_are_convolved_directly():
    conv = nn.Conv2d(256, 256, 3, padding=4, dilation=4)
    x = random_input(1, 256, 6, 6)  # tiles would hold two values at most
    with torch.inference_mode():
        assert torch.equal(WinogradConv2d(conv)(x), conv(x))
        with pytest.raises(RuntimeError, match="Kernel size"):
            WinogradConv2d(nn.Conv2d(256, 256, 3))(x[..., :2])


def test_which_convolutions_suit():
    def suits(*channels, **options):
        return WinogradConv2d.suits(nn.Conv2d(*channels, **({"kernel_size": 3} | options)))

    assert suits(256, 256)
    assert suits(256, 512, padding=4, dilation=4)
    assert suits(256, 256, padding=(3, 3))
    for options in (
        {"stride": 2}, {"groups": 256}, {"kernel_size": 1}, {"padding": "same"},
        {"padding": (1, 2)}, {"dilation": (1, 2)}, {"dilation": 12},
        {"padding": 1, "padding_mode": "reflect"},
    ):  # fmt: skip
        assert not suits(256, 256, **options)
    hooked = nn.Conv2d(256, 256, 3)
    hooked.register_forward_pre_hook(lambda module, inputs: None)  # as weight_norm has one
    assert not WinogradConv2d.suits(hooked)
    assert not WinogradConv2d.suits(nn.Conv2d(256, 256, 3, dtype=torch.bfloat16))
    assert not suits(64, 256)
    assert not suits(256, 64)
    assert not WinogradConv2d.suits(nn.ConvTranspose2d(256, 256, 3))
