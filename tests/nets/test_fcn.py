"""FCN against a plain re-computation and torchvision's outputs."""

import json
import runpy
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from segalgos.nets.fcn import FCN, bilinear_kernel
from segalgos.nets.fcn_resnet import FCNResNet
from segalgos.training.loop import train
from segalgos.training.losses import CrossEntropyLoss

GOLDEN = Path(__file__).with_name("golden")
torchvision = runpy.run_path(str(GOLDEN / "make_torchvision.py"))


def make(in_channels=2, n_classes=3, seed=0, **options):
    options = {"fc_channels": 16} | options
    return FCN(in_channels, n_classes, generator=torch.Generator().manual_seed(seed), **options)


def random_input(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@torch.no_grad()
def draw_scores(network, seed=1):
    """Give scores and upsampling random weights: those of a new network are zero."""
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in network.named_parameters():
        if "score" in name:
            parameter.normal_(0, 0.1, generator=generator)
    return network.eval()


# --- the paper's, on VGG16 ----------------------------------------------------------------


def recompute(weights, x, variant):
    """The published caffe nets: 100 pixels of padding, and crops by their numbers."""

    def convolve(x, name, padding=0):
        return F.conv2d(x, weights[f"{name}.weight"], weights[f"{name}.bias"], padding=padding)

    def upsample(x, name, step):
        return F.conv_transpose2d(x, weights[f"{name}.weight"], stride=step)

    height, width = x.shape[2:]
    pools, index, padding = [], 0, 100
    for n_convs in (2, 2, 3, 3, 3):
        for _ in range(n_convs):
            x = convolve(x, f"backbone.features.{index}", padding).relu()
            index, padding = index + 2, 1
        x = F.max_pool2d(x, 2, ceil_mode=True)
        pools.append(x)
        index += 1
    x = convolve(convolve(x, "fc6").relu(), "fc7").relu()
    x = convolve(x, "score_fr")
    if variant == "32s":
        return upsample(x, "upscore", 32)[:, :, 19 : 19 + height, 19 : 19 + width]
    x = upsample(x, "upscore2", 2)
    x = x + convolve(pools[3], "score_pool4")[:, :, 5 : 5 + x.shape[2], 5 : 5 + x.shape[3]]
    if variant == "16s":
        return upsample(x, "upscore", 16)[:, :, 27 : 27 + height, 27 : 27 + width]
    x = upsample(x, "upscore_pool4", 2)
    x = x + convolve(pools[2], "score_pool3")[:, :, 9 : 9 + x.shape[2], 9 : 9 + x.shape[3]]
    return upsample(x, "upscore", 8)[:, :, 31 : 31 + height, 31 : 31 + width]


@pytest.mark.parametrize(
    ("variant", "size"), [("32s", (37, 70)), ("16s", (37, 70)), ("8s", (37, 70)), ("8s", (1, 1))]
)
def test_output_equals_a_plain_recomputation(variant, size):
    network, x = draw_scores(make(variant=variant)), random_input(1, 2, *size)
    with torch.inference_mode():
        found, expected = network(x), recompute(network.state_dict(), x, variant)
    assert found.shape == (1, 3, *size)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("variant", ["32s", "8s"])
def test_same_padding_gives_the_same_scores_away_from_the_border(variant):
    full, same = make(variant=variant), make(variant=variant, padding="same")
    draw_scores(full)
    same.eval().load_state_dict(full.state_dict())
    x = random_input(1, 2, 101, 110)
    with torch.inference_mode():
        # 99 zeros on each side are what is left of 100 behind the first convolution.
        around = same(F.pad(x, (99,) * 4))[:, :, 99:-99, 99:-99]
        found = full(x)
    inside = (..., slice(44, -44), slice(44, -44))
    torch.testing.assert_close(found[inside], around[inside], rtol=1e-4, atol=1e-4)
    assert not torch.allclose(found, around, rtol=1e-2, atol=1e-2)


@pytest.mark.parametrize("variant", ["32s", "16s", "8s"])
@pytest.mark.parametrize("padding", ["full", "same"])
def test_any_size_is_kept(variant, padding):
    with torch.device("meta"):
        network = FCN(3, 5, variant=variant, padding=padding)
        for size in [(1, 1), (2, 3), (1, 500), (31, 32), (33, 97), (64, 65), (127, 254)]:
            assert network(torch.empty(2, 3, *size)).shape == (2, 5, *size)
            assert network.fit_size(size[0]) == size[0]


def test_number_of_parameters_is_the_published_one():
    with torch.device("meta"):
        network = FCN(3, 21)
    # VGG16 without its last layer, scores of three maps, and three upsamplings.
    expected = 138_357_544 - 4_097_000 + 21 * (4097 + 513 + 257) + 21**2 * (16 + 16 + 256)
    assert sum(p.numel() for p in network.parameters()) == expected


@pytest.mark.parametrize("step", [2, 8, 16, 32])
def test_upsampling_starts_as_bilinear_interpolation(step):
    kernel = bilinear_kernel(step)[None, None]
    crop = (..., slice(step // 2, -(step // 2)), slice(step // 2, -(step // 2)))
    maps = random_input(1, 1, 5, 7)
    found = F.conv_transpose2d(maps, kernel, stride=step)[crop]
    expected = F.interpolate(maps, scale_factor=step, mode="bilinear")
    inside = (..., slice(step, -step), slice(step, -step))
    torch.testing.assert_close(found[inside], expected[inside], rtol=1e-5, atol=1e-5)
    ramp = torch.arange(7.0).expand(1, 1, 5, 7)
    found = F.conv_transpose2d(ramp, kernel, stride=step)[crop][inside]
    steps = found.diff(dim=3)
    torch.testing.assert_close(steps, torch.full_like(steps, 1 / step), rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("variant", ["32s", "16s", "8s"])
def test_a_new_network_upsamples_a_constant_to_itself(variant):
    network = make(variant=variant, padding="same").eval()
    with torch.no_grad():
        network.score_fr.bias.copy_(torch.tensor([1.0, -2.0, 3.0]))
        found = network(random_input(1, 2, 224, 160))[:, :, 64:-64, 64:-64]
    torch.testing.assert_close(found, network.score_fr.bias[None, :, None, None].expand_as(found))


def test_initial_weights():
    network, same, other = make(), make(), make(seed=1)
    for name, layer in network.named_children():
        if name.startswith("score"):
            assert not layer.weight.any()
            assert not layer.bias.any()
        elif name.startswith("upscore"):
            for k in range(3):
                assert torch.equal(layer.weight[k, k], bilinear_kernel(layer.stride[0]))
            assert torch.equal(layer.weight.sum(1), layer.weight.diagonal().permute(2, 0, 1))
    assert network.fc6.weight.std().item() == pytest.approx((2 / (512 * 49)) ** 0.5, rel=0.02)
    assert all(torch.equal(v, same.state_dict()[k]) for k, v in network.state_dict().items())
    assert not torch.equal(network.fc6.weight, other.fc6.weight)


def test_gradients_reach_all_parameters():
    network = draw_scores(make(padding="same")).train()
    network(random_input(1, 2, 33, 40)).square().mean().backward()
    assert all(p.grad.abs().sum() > 0 for p in network.parameters())


@pytest.mark.parametrize(("variant", "padding"), [("8s", "full"), ("8s", "same"), ("32s", "same")])
def test_tiles_with_a_halo_equal_the_whole_image(variant, padding):
    network = draw_scores(make(1, 2, variant=variant, padding=padding))
    x = random_input(1, 1, 600, 1)
    with torch.inference_mode():
        whole = network(x)[:, :, 288:320]
        halo = network.halo
        tile = network(x[:, :, 288 - halo : 320 + halo])[:, :, halo : halo + 32]
    scale = whole.std()
    torch.testing.assert_close(tile / scale, whole / scale, rtol=1e-4, atol=1e-4)


def rows_that_matter(network, n, pixel):
    """First and last row of an n x 1 image that a pixel's scores depend on, from `pixel`."""
    with torch.no_grad():
        for parameter in network.parameters():  # nothing cancels out, no ReLU is closed
            parameter.abs_()
    rows = []
    for ramp in (torch.linspace(1, 2, n), torch.linspace(2, 1, n)):  # either end wins a pooling
        x = ramp.reshape(1, 1, n, 1).requires_grad_()
        network(x)[0, 0, pixel, 0].backward()
        rows += (x.grad.flatten().nonzero().flatten() - pixel).tolist()
    return min(rows), max(rows)


@pytest.mark.parametrize("variant", ["32s", "16s", "8s"])
def test_halo_covers_what_a_pixel_depends_on(variant):
    network = draw_scores(make(1, 1, variant=variant, padding="same"))
    first, _ = rows_that_matter(network, 672, 320)  # the first of a tile looks furthest back
    _, last = rows_that_matter(network, 672, 351)  # and the last furthest on
    assert -network.halo <= first < -network.halo / 2
    assert network.halo >= last > network.halo / 2


def test_dropout_works_in_training_only():
    network, x = draw_scores(make(padding="same")), random_input(1, 2, 40, 40)
    assert torch.equal(network(x), network(x))
    network.train()
    assert not torch.equal(network(x), network(x))


def test_a_disc_is_learned():
    rows = torch.arange(48)
    disc = ((rows[:, None] - 24) ** 2 + (rows - 24) ** 2 < 15**2).long()[None]
    image = 2.0 * disc[:, None] - 1 + random_input(1, 1, 48, 48) * 0.1
    network = make(1, 2, padding="same", dropout=0.0)
    history = train(
        network, lambda rng: (image, disc, None), CrossEntropyLoss(),
        steps_per_epoch=5, epochs=4, learning_rate=2e-4,
    )  # fmt: skip
    assert history[0]["loss"] > 0.4  # scores start at zero: log 2
    assert history[-1]["loss"] < 0.2
    with torch.inference_mode():
        assert (network(image).argmax(1) == disc).float().mean() > 0.9


@pytest.mark.parametrize("fc_channels", [16, 8])
def test_fully_connected_layers_become_convolutions(fc_channels):
    """A file of a VGG16 with 16 channels in its fully connected layers."""
    network, other = make(1, fc_channels=fc_channels), make(3, seed=5)
    vgg = {f"features.{k}": v for k, v in other.backbone.features.state_dict().items()}
    linear6, linear7 = nn.Linear(512 * 49, 16), nn.Linear(16, 16)
    last = {f"classifier.0.{k}": v for k, v in linear6.state_dict().items()}
    last |= {f"classifier.3.{k}": v for k, v in linear7.state_dict().items()}
    scores = {"classifier.6.weight": torch.ones(10, 16), "classifier.6.bias": torch.ones(10)}
    network.load_imagenet(vgg | last | scores)
    assert torch.equal(network.backbone.features[28].weight, vgg["features.28.weight"])
    if fc_channels == 16:
        maps = random_input(2, 512, 7, 7)
        with torch.inference_mode():
            found = network.fc7(network.fc6(maps)).flatten(1)
            expected = linear7(linear6(maps.flatten(1)))
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    else:
        assert torch.equal(network.fc6.weight, make(1, fc_channels=8).fc6.weight)
    del last["classifier.3.bias"]
    with pytest.raises(ValueError, match=r"FCN: the checkpoint misses classifier\.3\.bias"):
        network.load_imagenet(vgg | last)


def test_load_checkpoint_knows_the_names_of_caffe():
    network = draw_scores(make(padding="same"))
    indices = [0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28]
    names = [f"conv{b}_{c}" for b, n in enumerate((2, 2, 3, 3, 3), 1) for c in range(1, n + 1)]
    caffe = {f"backbone.features.{i}": name for i, name in zip(indices, names, strict=True)}
    caffe["upscore"] = "upscore8"
    weights = {}
    for name, tensor in network.state_dict().items():
        layer, key = name.rsplit(".", 1)
        weights[f"{caffe.get(layer, layer)}.{key}"] = tensor
    assert {"conv1_1.weight", "conv5_3.bias", "upscore8.weight", "fc6.weight"} < weights.keys()
    x = random_input(1, 2, 20, 30)
    for source in (weights, network.state_dict()):
        other = make(padding="same", seed=3).eval()
        assert other.load_checkpoint(source) is other
        assert torch.equal(other(x), network(x))
    with pytest.raises(ValueError, match="FCN: the checkpoint has left over 3"):
        make(variant="16s").load_checkpoint(weights)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"variant": "4s"}, "variant is '4s', expected one of '32s', '16s', '8s'"),
        ({"padding": "valid"}, "padding is 'valid', expected one of 'full', 'same'"),
    ],
)
def test_bad_parameters_are_refused(options, message):
    with pytest.raises(ValueError, match=f"FCN: {message}"):
        make(**options)


# --- torchvision's, on ResNet -------------------------------------------------------------


def make_resnet(in_channels=3, n_classes=4, seed=0, **options):
    generator = torch.Generator().manual_seed(seed)
    options = {"backbone": "resnet18"} | options
    return FCNResNet(in_channels, n_classes, generator=generator, **options)


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


@pytest.mark.parametrize("case", cases("fcn_resnet50"))
def test_output_equals_torchvisions(case):
    with torch.device("meta"):
        network = FCNResNet(3, case["n_classes"], auxiliary=case["auxiliary"])
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


@pytest.mark.parametrize("size", [(1, 1), (1, 300), (37, 64), (131, 17)])
def test_resnet_any_size_is_kept_and_trains(size):
    network = make_resnet(5, auxiliary=True)
    logits, aux_logits = network(random_input(1, 5, *size))
    assert logits.shape == aux_logits.shape == (1, 4, *size)
    (logits.square().mean() + aux_logits.square().mean()).backward()
    assert all(torch.isfinite(p.grad).all() for p in network.parameters())


def test_resnet_gradients_reach_all_parameters():
    network, x = make_resnet(auxiliary=True), random_input(2, 3, 40, 33)
    logits, aux_logits = network.forward_with_aux(x)
    (logits.square().mean() + aux_logits.square().mean()).backward()
    assert all(p.grad.abs().sum() > 0 for p in network.parameters())
    network.eval()
    assert torch.equal(network.forward_with_aux(x)[0], network(x))


def test_resnet_without_auxiliary_head_says_so():
    with pytest.raises(ValueError, match="FCNResNet: there is no auxiliary head: build it with"):
        make_resnet().forward_with_aux(random_input(1, 3, 8, 8))


def test_resnet_tiles_with_a_halo_equal_the_whole_image():
    network = make_resnet(1, 2).eval()
    halo = network.halo
    assert halo % 8 == 0
    n = network.fit_size(2 * halo + 33)
    x = random_input(1, 1, n, 16)
    with torch.inference_mode():
        whole = network(x)[:, :, halo + 8 : halo + 16]
        tile = network(x[:, :, 8 : 16 + 2 * halo])[:, :, halo : halo + 8]
    torch.testing.assert_close(tile, whole, rtol=1e-4, atol=1e-5)


def test_resnet_halo_covers_what_a_pixel_depends_on():
    network = make_resnet(1, 2).eval()
    n = network.fit_size(2 * network.halo + 64)
    pixel = n // 2 // 8 * 8
    first, _ = rows_that_matter(network, n, pixel)  # the first of a tile looks furthest back
    _, last = rows_that_matter(network, n, pixel + 7)  # and the last furthest on
    assert -network.halo <= first < -(network.halo - 8)  # less would not do
    assert last <= network.halo


def test_resnet_equal_seeds_give_equal_weights():
    a, b = make_resnet(auxiliary=True).state_dict(), make_resnet(auxiliary=True).state_dict()
    assert all(torch.equal(a[k], b[k]) for k in a)
    other = make_resnet(seed=1).state_dict()
    assert not torch.equal(a["classifier.4.bias"], other["classifier.4.bias"])
    largest = a["classifier.4.weight"].abs().max().item()
    assert largest == pytest.approx(128**-0.5, rel=0.05)  # torch's bound, for 128 channels


def test_resnet_load_checkpoint_wants_all_names():
    network = make_resnet(auxiliary=True)
    other = make_resnet(auxiliary=True, seed=1)
    assert other.load_checkpoint(network.state_dict()) is other
    assert torch.equal(other.classifier[0].weight, network.classifier[0].weight)
    with pytest.raises(ValueError, match="FCNResNet: the checkpoint has left over 8"):
        make_resnet().load_checkpoint(network.state_dict())
    with pytest.raises(ValueError, match="FCNResNet: backbone is 'resnet5', expected one of"):
        make_resnet(backbone="resnet5")
