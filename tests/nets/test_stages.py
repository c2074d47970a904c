"""Networks parted into stages, which are frozen or learn slower."""

import pytest
import torch
from torch import nn

from segalgos.nets.ddrnet import DDRNet
from segalgos.nets.deeplab import DeepLab
from segalgos.nets.encoder_unet import EncoderUNet
from segalgos.nets.encoders.by_name import make_encoder
from segalgos.nets.segformer import SegFormer
from segalgos.nets.segmenter import PlainLogits
from segalgos.nets.stages import freeze_stages, layer_rates, stages_of
from segalgos.nets.unet import UNet
from segalgos.training.loop import train


def generator():
    return torch.Generator().manual_seed(0)


NETS = {
    "unet": lambda: UNet(3, 2, base_channels=2, depth=2, padding="same", generator=generator()),
    "encoder": lambda: EncoderUNet(
        make_encoder("resnet18", 3, generator=generator()), 2, decoder_channels=(4, 4)
    ),
    "deeplab": lambda: DeepLab(3, 2, backbone="resnet18", generator=generator()),
    "segformer": lambda: SegFormer("b0", 2, generator=generator()),
    "ddrnet": lambda: DDRNet(3, 2, base_channels=8, generator=generator()),
    "module": lambda: PlainLogits(nn.Sequential(nn.Conv2d(3, 4, 1), nn.Conv2d(4, 2, 1)), 1),
}


@pytest.mark.parametrize("name", NETS)
def test_every_parameter_is_in_one_stage(name):
    network = NETS[name]()
    found = [id(p) for stage in stages_of(network) for m in stage for p in m.parameters()]
    assert len(found) == len(set(found))
    assert set(found) == {id(p) for p in network.parameters()}
    assert len(stages_of(network)) >= 2
    rates = layer_rates(network, 0.5)
    assert rates.keys() == dict(network.named_parameters()).keys()
    assert max(rates.values()) == 1
    assert min(rates.values()) == 0.5 ** (len(stages_of(network)) - 1)


def test_stages_of_known_networks():
    assert len(stages_of(NETS["unet"]())) == 6  # three steps down, two up, the head
    assert len(stages_of(NETS["encoder"]())) == 5 + 1
    assert len(stages_of(NETS["module"]())) == 2


def test_freezing_anew_lets_the_others_learn():
    network = NETS["unet"]()
    freeze_stages(network, 3)
    assert not any(p.requires_grad for p in network.down.parameters())
    assert all(p.requires_grad for p in network.up.parameters())
    freeze_stages(network, 1)
    assert all(p.requires_grad for p in network.down[1].parameters())
    assert not network.train().down[0].training
    network.unfreeze()
    assert all(p.requires_grad for p in network.parameters())
    assert network.down[0].training
    with pytest.raises(ValueError, match="n is 6, expected 0 to 5"):
        freeze_stages(network, 6)


def test_rates_are_factors_of_a_step():
    network = nn.Sequential(nn.Linear(1, 1, bias=False), nn.Linear(1, 1, bias=False))
    before = [p.detach().clone() for p in network.parameters()]
    train(
        network,
        lambda rng: (torch.ones(1, 1), torch.zeros(1), None),
        lambda found, labels, weights: (found - 5).square().mean(),
        steps_per_epoch=1,
        epochs=1,
        learning_rate=1e-3,
        weight_decay=0.0,
        warmup=0.0,
        rate_factors={"0.weight": 0.25},
    )
    first, second = (float((p.detach() - q).abs()) for p, q in zip(network.parameters(), before))
    # Adam's first step is the learning rate, whatever the gradient.
    assert first == pytest.approx(0.25e-3, rel=1e-3)
    assert second == pytest.approx(1e-3, rel=1e-3)
