"""DeepLab against torchvision's outputs, and a decoder computed again."""

import json
import runpy
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from segalgos.nets.deeplab import ASPP, Decoder, DeepLab
from segalgos.training.loop import train
from segalgos.training.losses import AuxiliaryLoss, CrossEntropyLoss

GOLDEN = Path(__file__).with_name("golden")
torchvision = runpy.run_path(str(GOLDEN / "make_torchvision.py"))


def make(in_channels=3, n_classes=4, seed=0, **options):
    generator = torch.Generator().manual_seed(seed)
    return DeepLab(
        in_channels, n_classes, generator=generator, **({"backbone": "resnet18"} | options)
    )


def random_input(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


VERSIONS = pytest.mark.parametrize("version", ["v3", "v3+"])


def cases(name):
    rows = json.loads((GOLDEN / "torchvision.json").read_text())
    return [
        pytest.param(row, id=f"{row['n_classes']}-{'aux' if row['auxiliary'] else 'plain'}")
        for row in rows
        if row["network"] == name
    ]


def assert_described(logits, expected):
    """Compare with what ``make_torchvision.py`` wrote down."""
    found = torchvision["describe"](logits)
    assert found["shape"] == expected["shape"]
    assert found["values"] == pytest.approx(expected["values"], abs=1e-4)
    assert found["mean"] == pytest.approx(expected["mean"], abs=1e-4)
    assert found["mean_square"] == pytest.approx(expected["mean_square"], rel=1e-5)


@pytest.mark.parametrize("case", cases("deeplabv3_resnet50"))
def test_output_equals_torchvisions(case):
    with torch.device("meta"):
        network = DeepLab(
            3, case["n_classes"], version="v3", output_stride=8, auxiliary=case["auxiliary"]
        )
    assert len(network.state_dict()) == case["n_names"]
    assert torchvision["names_digest"](network) == case["names_digest"]
    network.to_empty(device="cpu")
    with torch.inference_mode():
        torchvision["fill"](network)
        for size, expected in zip(torchvision["SIZES"], case["outputs"], strict=True):
            x = torchvision["image"](size)
            if case["auxiliary"]:
                logits, aux_logits = network.forward_with_aux(x)
                assert_described(aux_logits, expected["aux"])
            else:
                logits = network(x)
            assert_described(logits, expected["out"])


def refine(weights, features, low):
    """The decoder of v3+ from its figure: upsample, join 48 channels, two 3x3, score."""

    def block(x, name, index, padding=0):
        x = F.conv2d(x, weights[f"{name}.{index}.weight"], padding=padding)
        mean, var, gain, bias = (
            weights[f"{name}.{index + 1}.{key}"][:, None, None]
            for key in ("running_mean", "running_var", "weight", "bias")
        )
        return ((x - mean) / torch.sqrt(var + 1e-5) * gain + bias).clamp(min=0)

    low = block(low, "project", 0)
    assert low.shape[1] == 48
    features = F.interpolate(features, low.shape[2:], mode="bilinear", align_corners=False)
    x = torch.cat([low, features], 1)
    x = block(block(x, "classifier", 0, padding=1), "classifier", 3, padding=1)
    return F.conv2d(x, weights["classifier.6.weight"], weights["classifier.6.bias"])


def test_decoder_equals_a_plain_recomputation():
    decoder = Decoder(32, 24, 5, (2, 4, 6)).eval()
    with torch.inference_mode():
        torchvision["fill"](decoder)
        x, low = random_input(2, 32, 4, 5), random_input(2, 24, 15, 18)
        expected = refine(decoder.state_dict(), decoder.aspp(x), low)
        torch.testing.assert_close(decoder(x, low), expected, rtol=1e-4, atol=1e-4)


def test_decoder_joins_the_first_stage_with_the_last():
    network, x = make().eval(), random_input(1, 3, 50, 70)
    with torch.inference_mode():
        _, low, _, _, last = network.backbone(x)
        assert low.shape[2:] == (13, 18)
        assert last.shape[2:] == (4, 5)
        expected = F.interpolate(
            network.classifier(last, low), (50, 70), mode="bilinear", align_corners=False
        )
        assert torch.equal(network(x), expected)


@pytest.mark.parametrize(("output_stride", "rates"), [(16, (6, 12, 18)), (8, (12, 24, 36))])
@VERSIONS
def test_rates_follow_the_output_stride(version, output_stride, rates):
    with torch.device("meta"):
        network = DeepLab(3, 2, version=version, output_stride=output_stride)
    assert network.stride == network.backbone.strides[-1] == output_stride
    [aspp] = [module for module in network.modules() if isinstance(module, ASPP)]
    convs = [branch[0] for branch in aspp.convs[1:4]]
    assert [conv.dilation for conv in convs] == [(r, r) for r in rates]
    assert [conv.padding for conv in convs] == [(r, r) for r in rates]


@VERSIONS
@pytest.mark.parametrize("output_stride", [8, 16])
@pytest.mark.parametrize("size", [(1, 1), (1, 300), (37, 64), (131, 17)])
def test_any_size_is_kept(version, output_stride, size):
    with torch.device("meta"):
        network = DeepLab(
            5, 4, version=version, output_stride=output_stride, backbone="resnet18", auxiliary=True
        )
        for outputs in (
            [network.eval()(torch.empty(2, 5, *size))],
            network.forward_with_aux(torch.empty(1, 5, *size)),
        ):
            assert {tuple(o.shape[1:]) for o in outputs} == {(4, *size)}
    assert network.fit_size(size[0]) == size[0]


@VERSIONS
@pytest.mark.parametrize("size", [(1, 1), (9, 5), (40, 33)])
def test_one_image_trains_whatever_its_size(version, size):
    network = make(version=version, auxiliary=True)
    before = {k: v.clone() for k, v in network.state_dict().items()}
    logits, aux_logits = network.forward_with_aux(random_input(1, 3, *size))
    (logits.square().mean() + aux_logits.square().mean()).backward()
    assert all(torch.isfinite(p.grad).all() for p in network.parameters())
    after = network.state_dict()
    assert all(torch.isfinite(v).all() for v in after.values())
    pooled = [k for k in after if "convs.4" in k and "running" in k]
    assert len(pooled) == 2
    assert all(torch.equal(after[k], before[k]) for k in pooled)  # one value is no statistic


@VERSIONS
def test_gradients_reach_all_parameters(version):
    network = make(version=version, auxiliary=True)
    logits, aux_logits = network.forward_with_aux(random_input(2, 3, 200, 230))
    (logits.square().mean() + aux_logits.square().mean()).backward()
    assert all(p.grad.abs().sum() > 0 for p in network.parameters())


@VERSIONS
def test_auxiliary_scores_are_of_the_third_stage(version):
    network, x = make(version=version, auxiliary=True).eval(), random_input(1, 3, 40, 33)
    logits, aux_logits = network.forward_with_aux(x)
    assert torch.equal(logits, network(x))
    nn.init.zeros_(network.backbone.layer4[0].conv1.weight)
    again, aux_again = network.forward_with_aux(x)
    assert torch.equal(aux_logits, aux_again)
    assert not torch.equal(logits, again)
    with pytest.raises(ValueError, match="DeepLab: there is no auxiliary head: build it with"):
        make(version=version).forward_with_aux(x)


def test_a_disc_is_learned_with_the_auxiliary_head():
    rows = torch.arange(32)
    disc = ((rows[:, None] - 16) ** 2 + (rows - 16) ** 2 < 10**2).long()[None]
    images = 2.0 * disc[:, None] - 1 + random_input(2, 1, 32, 32) * 0.1
    labels, loss = disc.expand(2, -1, -1), AuxiliaryLoss(CrossEntropyLoss(), 0.5)
    network = make(1, 2, auxiliary=True)
    before = network.aux_classifier[4].weight.detach().clone()
    history = train(
        network, lambda rng: (images, labels, None), loss,
        steps_per_epoch=5, epochs=5, learning_rate=2e-3,
    )  # fmt: skip
    assert history[-1]["loss"] < 0.5 * history[0]["loss"]
    assert not torch.equal(before, network.aux_classifier[4].weight)


def test_equal_seeds_give_equal_weights():
    a, b = make(auxiliary=True).state_dict(), make(auxiliary=True).state_dict()
    assert all(torch.equal(a[k], b[k]) for k in a)
    c = make(seed=1).state_dict()
    for name in ("backbone.conv1.weight", "classifier.aspp.convs.2.0.weight"):
        assert not torch.equal(a[name], c[name])


@VERSIONS
def test_load_checkpoint_wants_all_names(version):
    network, other = make(version=version), make(version=version, seed=1)
    x = random_input(1, 3, 20, 30)
    assert other.load_checkpoint(network.state_dict()) is other
    assert torch.equal(other.eval()(x), network.eval()(x))
    with pytest.raises(ValueError, match=r"DeepLab: the checkpoint misses 8 .*aux_classifier"):
        make(version=version, auxiliary=True).load_checkpoint(network.state_dict())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"version": "v2"}, "version is 'v2', expected one of 'v3', 'v3\\+'"),
        ({"backbone": "xception"}, "backbone is 'xception', expected one of 'resnet18'"),
        ({"output_stride": 32}, "output_stride is 32, expected 16 or 8"),
    ],
)
def test_bad_parameters_are_refused(options, message):
    with pytest.raises(ValueError, match=f"DeepLab: {message}"):
        make(**options)
