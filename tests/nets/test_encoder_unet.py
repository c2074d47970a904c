"""U-Net on encoders, against a plain re-computation of its decoder."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from segalgos.nets.encoder_unet import EncoderUNet
from segalgos.nets.encoders.efficientnet_lite import EfficientNetLite0


class Pyramid(nn.Module):
    """A tiny encoder: each map is a 3x3 convolution of the finer one."""

    def __init__(self, strides=(2, 4, 8, 16, 32), channels=(3, 4, 5, 6, 7), in_channels=3):
        super().__init__()
        self.strides, self.channels = strides, channels
        steps = [b // a for a, b in zip((1, *strides), strides)]
        self.convs = nn.ModuleList(
            nn.Conv2d(a, b, 3, step, padding=1)
            for a, b, step in zip((in_channels, *channels), channels, steps)
        )

    def forward(self, x):
        maps = []
        for conv in self.convs:
            x = torch.tanh(conv(x))
            maps.append(x)
        return maps


def make(encoder=None, **options):
    torch.manual_seed(0)
    options = {"decoder_channels": (8, 7, 6, 5)} | options
    generator = torch.Generator().manual_seed(0)
    return EncoderUNet(encoder or Pyramid(), 4, generator=generator, **options).eval()


def random_input(*shape, seed=0):
    return torch.tensor(np.random.default_rng(seed).normal(size=shape), dtype=torch.float32)


def recompute(network, x):
    """The decoder as a plain function of the encoder's maps, for sizes that fit."""
    weights, size = network.state_dict(), x.shape[2:]
    *skips, x = network.encoder(x)
    for step, skip in enumerate(reversed(skips[-len(network.up) :])):
        ratio = skip.shape[2] // x.shape[2]
        x = x.repeat_interleave(ratio, 2).repeat_interleave(ratio, 3)
        x = torch.cat([skip, x], 1)
        for i in (1, 2):
            name = f"up.{step}.convs"
            x = F.conv2d(x, weights[f"{name}.conv{i}.weight"], padding="same")
            mean, var, gain, bias = (
                weights[f"{name}.norm{i}.{key}"][:, None, None]
                for key in ("running_mean", "running_var", "weight", "bias")
            )
            x = ((x - mean) / torch.sqrt(var + 1e-5) * gain + bias).clamp(min=0)
    x = torch.einsum("nihw,oi->nohw", x, weights["head.weight"][:, :, 0, 0])
    x = x + weights["head.bias"][:, None, None]
    # Halfway between cells, each pixel is 3/4 of its cell and 1/4 of the next one.
    for axis in (2, 3) if x.shape[2] * 2 == size[0] else ():
        x = x.movedim(axis, -1)
        padded = torch.cat([x[..., :1], x, x[..., -1:]], -1)
        pair = [padded[..., :-2] / 4 + x * 3 / 4, padded[..., 2:] / 4 + x * 3 / 4]
        x = torch.stack(pair, -1).flatten(-2).movedim(-1, axis)
    return x if x.shape[2:] == size else F.interpolate(x, size, mode="bilinear")


@pytest.mark.parametrize(
    ("strides", "channels", "decoder_channels"),
    [
        ((2, 4, 8, 16, 32), (3, 4, 5, 6, 7), (8, 7, 6, 5)),
        ((2, 4, 8, 16, 16), (3, 4, 5, 6, 7), (8, 7, 6, 5)),  # dilated
        ((2, 8), (4, 6), (5,)),
        ((2, 4, 8, 16, 32), (3, 4, 5, 6, 7), (8, 7)),  # the finest maps are left out
    ],
)
def test_output_equals_a_plain_recomputation(strides, channels, decoder_channels):
    network = make(Pyramid(strides, channels), decoder_channels=decoder_channels)
    rng = np.random.default_rng(1)
    for tensor in network.up.state_dict().values():
        if tensor.ndim == 1:
            tensor.copy_(torch.tensor(rng.uniform(0.5, 1.5, tensor.shape)))
    x = random_input(2, 3, 64, 96)
    with torch.inference_mode():
        torch.testing.assert_close(network(x), recompute(network, x), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("size", [(1, 1), (2, 9), (37, 50), (32, 64), (61, 1)])
def test_any_size(size):
    for encoder in (Pyramid(in_channels=2), EfficientNetLite0(2, output_stride=16)):
        network = make(encoder)
        with torch.inference_mode():
            assert network(random_input(1, 2, *size)).shape == (1, 4, *size)


def test_attributes_follow_the_encoder():
    network = make()
    assert (network.stride, network.margin, network.halo) == (32, 0, None)
    assert [network.fit_size(n) for n in (1, 32, 33)] == [32, 32, 64]
    assert make(EfficientNetLite0(output_stride=16)).stride == 16
    assert make(Pyramid((4, 8), (3, 4)), decoder_channels=(5,)).fit_size(9) == 16


def test_all_maps_matter():
    network = make(EfficientNetLite0())
    maps = network.encoder(random_input(1, 3, 64, 64))
    leaves = [m.detach().requires_grad_() for m in maps]
    network.encoder.register_forward_hook(lambda *_: leaves)
    network(torch.zeros(1, 3, 64, 64)).square().sum().backward()
    assert all((m.grad != 0).any() for m in leaves)


def test_a_batch_of_one_small_image_trains():
    network = make(EfficientNetLite0()).train()
    network(random_input(1, 3, 9, 9)).square().mean().backward()
    assert all(torch.isfinite(p.grad).all() for p in network.parameters())


def test_initial_weights_follow_their_generator_and_spare_the_encoder():
    encoder = Pyramid()
    before = {k: v.clone() for k, v in encoder.state_dict().items()}
    torch.manual_seed(1)
    networks = [
        EncoderUNet(encoder, 4, generator=torch.Generator().manual_seed(0)) for _ in range(2)
    ]
    a, b = (network.state_dict() for network in networks)
    assert all(torch.equal(v, b[k]) for k, v in a.items())
    assert all(torch.equal(v, before[k]) for k, v in encoder.state_dict().items())
    weight = a["up.0.convs.conv2.weight"]
    assert weight.std().item() == pytest.approx((2 / (256 * 9)) ** 0.5, rel=0.02)
    assert (a["head.bias"] == 0).all()


def test_load_checkpoint():
    a, b, x = make(), make(), random_input(1, 3, 32, 32)
    b.reset_parameters()
    assert b.load_checkpoint(a.state_dict()) is b
    assert torch.equal(a(x), b(x))
    with pytest.raises(ValueError, match="EncoderUNet: the checkpoint has left over"):
        make(Pyramid((2, 4), (3, 4)), decoder_channels=(5,)).load_checkpoint(a.state_dict())


def test_a_decoder_that_does_not_fit_is_refused():
    with pytest.raises(ValueError, match="decoder_channels has 5 steps, expected 1 to 4"):
        make(decoder_channels=(8, 7, 6, 5, 4))
    with pytest.raises(ValueError, match="decoder_channels has 0 steps, expected 1 to 4"):
        make(decoder_channels=())
