"""Training and prediction in mixed precision, by every segmenter that trains a network."""

import numpy as np
import pytest
import torch

import segalgos
from segalgos import Instances, UNetSegmenter
from segalgos.catalog import ENTRIES
from segalgos.nets.fast_inference import fuse
from segalgos.nets.mask_rcnn import MaskRCNN
from segalgos.parallel import thread_limit

TRAINED = [
    entry.name for entry in ENTRIES if entry.family == "nets" and not entry.name.startswith("SAM")
]


def make_data(task):
    rng = np.random.default_rng(0)
    images, labels = [], []
    for _ in range(2):
        truth = np.zeros((64, 64), np.int32)
        row, column = rng.integers(4, 28, 2)
        truth[row : row + 24, column : column + 28] = 1
        noise = rng.normal(0, 0.2, (64, 64, 3))
        images.append((truth[..., None] + noise).astype(np.float32))
        labels.append(Instances.from_labels(truth) if task == "instance" else truth)
    return images, labels


@pytest.mark.parametrize("name", TRAINED)
def test_mixed_precision_follows_float32(name):
    cls = next(entry for entry in ENTRIES if entry.name == name).load()
    images, labels = make_data(cls.traits.task)

    def fit(precision, threads=2):
        segmenter = cls.small().set_params(precision=precision, epochs=4)
        with thread_limit(threads):
            return segmenter.fit(images, labels)

    exact, mixed, again = fit("float32"), fit("bfloat16"), fit("bfloat16", threads=1)
    weights = [one.network_.state_dict() for one in (exact, mixed, again)]
    assert all(w.dtype == weights[0][key].dtype for key, w in weights[1].items())
    assert all(w.equal(weights[2][key]) for key, w in weights[1].items())
    assert not all(w.equal(weights[0][key]) for key, w in weights[1].items())
    first, other = exact.history_[0]["loss"], mixed.history_[0]["loss"]
    assert first != other
    assert other == pytest.approx(first, rel=0.25)  # norms of two values change signs
    assert mixed.predict(images[0]) is not None


def outputs(segmenter, image):
    """Arrays of floats that a prediction is made of."""
    if segmenter.traits.task == "semantic":
        return [segmenter.predict_proba(image)]
    found = segmenter._detect(segmenter._fast_network(), image)
    return [found.masks, found.scores, found.boxes]


@pytest.mark.parametrize("name", TRAINED)
def test_prediction_in_bfloat16_follows_float32(name, tmp_path):
    cls = next(entry for entry in ENTRIES if entry.name == name).load()
    images, labels = make_data(cls.traits.task)
    segmenter = cls.small().set_params(epochs=15).fit(images, labels)
    image = images[0][:57, :61]
    exact = outputs(segmenter, image)
    segmenter.set_params(prediction_precision="bfloat16")
    rounded = outputs(segmenter, image)
    assert not all(map(np.array_equal, exact, rounded))
    if cls.traits.task == "semantic":
        assert rounded[0].dtype == np.float32
        np.testing.assert_allclose(rounded[0], exact[0], atol=0.06)
        np.testing.assert_allclose(rounded[0].sum(axis=-1), 1, atol=1e-5)
    else:
        np.testing.assert_allclose(rounded[1][0], exact[1][0], atol=0.06)
        np.testing.assert_allclose(rounded[2][0], exact[2][0], atol=3)
    with thread_limit(1):
        assert all(map(np.array_equal, outputs(segmenter, image), rounded))

    segmenter.save(tmp_path / "model.segalgos")
    loaded = segalgos.load(tmp_path / "model.segalgos")
    assert loaded.prediction_precision == "bfloat16"
    assert all(map(np.array_equal, outputs(loaded, image), rounded))

    weights = segmenter.network_.state_dict().values()
    assert not any(w.dtype == torch.bfloat16 for w in weights)
    segmenter.set_params(prediction_precision="float32")
    assert all(map(np.array_equal, outputs(segmenter, image), exact))


def test_layers_hold_bfloat16_where_it_is_wanted():
    network = fuse(MaskRCNN(3, 2, backbone="resnet18", base_channels=8, width=16).eval())
    assert {w.dtype for w in network.state_dict().values()} == {torch.float32}
    network = fuse(network, precision="bfloat16")
    assert network.backbone.body.conv1.weight.dtype == torch.bfloat16
    heads = network.roi_heads
    assert heads.box_head.fc6.weight.dtype == torch.bfloat16
    assert heads.box_predictor.bbox_pred.weight.dtype == torch.float32  # boxes want all digits


@pytest.mark.parametrize("name", ["precision", "prediction_precision"])
def test_unknown_precision(name):
    images, labels = make_data("semantic")
    segmenter = UNetSegmenter.small()
    with pytest.raises(ValueError, match=f"{name} is 'half'"):
        segmenter.set_params(**{name: "half"}).fit(images, labels)
    segmenter.set_params(**{name: "float32"}, epochs=1).fit(images, labels)
    segmenter.set_params(prediction_precision="half")
    with pytest.raises(ValueError, match="prediction_precision is 'half'"):
        segmenter.predict(images[0])
