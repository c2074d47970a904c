"""ONNX files, run by onnxruntime, against the networks and segmenters they were made from."""

import importlib.util
import json

import numpy as np
import pytest
import torch
from torch import nn

import segalgos
from segalgos.nets.ddrnet import DDRNet
from segalgos.nets.deeplab import DeepLab
from segalgos.nets.encoder_unet import EncoderUNet
from segalgos.nets.encoders.efficientnet_lite import EfficientNetLite0
from segalgos.nets.export import export_onnx, quantize_onnx
from segalgos.nets.fcn import FCN, FCNResNet
from segalgos.nets.segformer import SegFormer
from segalgos.nets.unet import UNet, UNetSegmenter

onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")

NETWORKS = {
    "fcn_8s": lambda: FCN(3, 4, fc_channels=8),
    "fcn_16s": lambda: FCN(3, 4, fc_channels=8, padding="same", variant="16s"),
    "fcn_32s": lambda: FCN(3, 4, fc_channels=8, padding="same", variant="32s"),
    "fcn_resnet": lambda: FCNResNet(1, 4, backbone="resnet18", auxiliary=True),
    "deeplab_v3": lambda: DeepLab(3, 4, version="v3", backbone="resnet18"),
    "deeplab_v3+": lambda: DeepLab(3, 4, backbone="resnet18", output_stride=8),
    "unet_valid": lambda: UNet(2, 4, base_channels=4, depth=2),
    "unet_same": lambda: UNet(3, 4, base_channels=4, padding="same", batch_norm=True),
    "encoder_unet": lambda: EncoderUNet(EfficientNetLite0(), 4),
    "segformer": lambda: SegFormer("b0", 4),
    "ddrnet": lambda: DDRNet(3, 4, base_channels=8, head_channels=8),
}


def random_input(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def run(path, image):
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    return session.run(["logits"], {"image": image})[0]


def mirrored_logits(network, image):
    """By numpy's padding, as segmenters show an image to their network."""
    size, margin = image.shape[2:], network.margin
    around = [(margin, network.fit_size(n) - n + margin) for n in size]
    padded = np.pad(image, [(0, 0), (0, 0), *around], mode="symmetric")
    with torch.inference_mode():
        return network(torch.from_numpy(padded))[:, :, : size[0], : size[1]].numpy()


def to_batch(*images):
    return np.stack(images).transpose(0, 3, 1, 2).astype(np.float32)


def disks(n, *, seed=0, size=(40, 48)):
    """Bright disks on dark ground, as intensities that need standardising."""
    rng = np.random.default_rng(seed)
    images, labels = [], []
    for _ in range(n):
        row, column = rng.uniform(10, 30, 2)
        rows, columns = np.ogrid[: size[0], : size[1]]
        disk = (rows - row) ** 2 + (columns - column) ** 2 < 80
        image = 1000 + 200 * disk[..., None] + rng.normal(0, 30, (*size, 2))
        images.append(image.astype(np.float32))
        labels.append(np.where(disk, 7, 2))
    return images, labels


@pytest.fixture(scope="module")
def segmenter():
    images, labels = disks(4)
    return UNetSegmenter(
        base_channels=8, depth=1, epochs=60, crop_size=32, learning_rate=0.01, random_state=0
    ).fit(images, labels)


@pytest.mark.parametrize("name", NETWORKS)
def test_any_size_and_batch(name, tmp_path):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = NETWORKS[name]().eval()
        for parameter in network.parameters():
            if not parameter.any():  # scores of FCN start at zero
                nn.init.normal_(parameter, std=0.05)
    export_onnx(network, tmp_path / "network.onnx")
    n_channels = next(m for m in network.modules() if isinstance(m, nn.Conv2d)).in_channels
    for shape in [(1, 1), (37, 50), (7, 66), (64, 32)]:
        image = random_input(3 if shape == (7, 66) else 1, n_channels, *shape)
        expected = mirrored_logits(network, image)
        found = run(tmp_path / "network.onnx", image)
        assert found.shape == (len(image), 4, *shape)
        assert np.abs(found - expected).max() < 1e-4 * max(np.abs(expected).max(), 1)


@pytest.mark.parametrize("size", [(1, 1), (23, 90)])
def test_a_segmenter_takes_raw_intensities(segmenter, size, tmp_path):
    export_onnx(segmenter, tmp_path / "segmenter.onnx")
    images, _ = disks(2, seed=1, size=size)
    images[0].flat[0] = 1e9  # beyond what the network is shown
    logits = run(tmp_path / "segmenter.onnx", to_batch(*images))
    proba = torch.from_numpy(logits).softmax(dim=1).permute(0, 2, 3, 1).numpy()
    np.testing.assert_allclose(proba, segmenter.predict_proba(images), atol=1e-4)


@pytest.mark.parametrize("size", [(1, 1), (23, 90)])
def test_images_are_standardized_each_alone(segmenter, size, tmp_path):
    images, _ = disks(2, seed=1, size=size)
    images[0] *= 3
    segmenter.set_params(standardize="image")
    try:
        export_onnx(segmenter, tmp_path / "segmenter.onnx")
        logits = run(tmp_path / "segmenter.onnx", to_batch(*images))
        proba = torch.from_numpy(logits).softmax(dim=1).permute(0, 2, 3, 1).numpy()
        np.testing.assert_allclose(proba, segmenter.predict_proba(images), atol=1e-4)
    finally:
        segmenter.set_params(standardize="data")


def test_metadata(segmenter, tmp_path):
    export_onnx(segmenter, tmp_path / "a" / "segmenter.onnx", opset=18)
    model = onnx.load(tmp_path / "a" / "segmenter.onnx")
    metadata = {entry.key: entry.value for entry in model.metadata_props}
    assert json.loads(metadata.pop("classes")) == segmenter.classes_.tolist() == [2, 7]
    assert metadata == {"segalgos_version": segalgos.__version__, "network": "UNet"}
    assert (model.producer_name, model.opset_import[0].version) == ("segalgos", 18)
    (image,), (logits,) = model.graph.input, model.graph.output
    assert [d.dim_param or d.dim_value for d in image.type.tensor_type.shape.dim] == [
        "batch", 2, "height", "width",
    ]  # fmt: skip
    assert (image.name, logits.name) == ("image", "logits")


def test_the_network_is_left_as_it_is(tmp_path):
    network = UNet(2, 3, base_channels=4, depth=1, batch_norm=True).train()
    before = {key: value.clone() for key, value in network.state_dict().items()}
    export_onnx(network, tmp_path / "network.onnx")
    assert network.training
    assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())


def test_errors(segmenter, tmp_path, monkeypatch):
    path = tmp_path / "network.onnx"
    network = UNet(2, 3, base_channels=4, depth=1)
    with pytest.raises(ValueError, match="export_onnx: opset is 11, expected 16 to 20"):
        export_onnx(network, path, opset=11)
    with pytest.raises(ValueError, match="n_channels is 3, but the network takes 2"):
        export_onnx(network, path, n_channels=3)
    with pytest.raises(TypeError, match="model is a dict"):
        export_onnx({}, path)
    with pytest.raises(ValueError, match="not fitted"):
        export_onnx(UNetSegmenter(), path)

    class Unfit(UNet):
        def forward(self, x):
            raise RuntimeError("halfway")

    with pytest.raises(RuntimeError, match="halfway"):
        export_onnx(Unfit(2, 3, base_channels=4, depth=1), path)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ImportError, match=r"onnx is not installed: pip install 'segalgos\[onnx\]'"):
        export_onnx(network, path)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("method", ["minmax", "percentile"])
def test_eight_bits(method, segmenter, tmp_path):
    whole, quantized = tmp_path / "segmenter.onnx", tmp_path / "int8.onnx"
    export_onnx(segmenter, whole)
    images, labels = disks(4)
    quantize_onnx(whole, quantized, images, method=method)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["int8.onnx", "segmenter.onnx"]
    stored = {t.data_type for t in onnx.load(quantized).graph.initializer if len(t.dims) == 4}
    assert stored == {onnx.TensorProto.INT8}
    images, labels = disks(3, seed=5)
    found = segmenter.classes_[run(quantized, to_batch(*images)).argmax(axis=1)]
    expected = segmenter.classes_[run(whole, to_batch(*images)).argmax(axis=1)]
    assert (expected == labels).mean() > 0.95
    assert (found == expected).mean() > 0.98


def test_errors_of_quantization(segmenter, tmp_path):
    whole, quantized = tmp_path / "segmenter.onnx", tmp_path / "int8.onnx"
    export_onnx(segmenter, whole)
    with pytest.raises(ValueError, match="there are no images"):
        quantize_onnx(whole, quantized, [])
    with pytest.raises(
        ValueError, match=r"images\[0\] has shape \(8, 8, 1\), expected \(H, W, 2\)"
    ):
        quantize_onnx(whole, quantized, [np.zeros((8, 8))])
    with pytest.raises(ValueError, match="method"):
        quantize_onnx(whole, quantized, disks(1)[0], method="entropy")
    assert not quantized.exists()
