"""The segmenter around SegFormer: weights it starts from, and what it refuses."""

import numpy as np
import pytest
import torch

from segalgos import SegFormerSegmenter, load
from segalgos.nets.encoders.mit import MiT


@pytest.fixture(scope="module")
def classifier(tmp_path_factory):
    """A file of an encoder's weights and the head of a classifier."""
    path = tmp_path_factory.mktemp("weights") / "mit_b0.pth"
    encoder = MiT("b0", generator=torch.Generator().manual_seed(7))
    weights = encoder.state_dict() | {"head.weight": torch.zeros(10, 256)}
    torch.save(weights, path)
    return path, encoder.state_dict()


@pytest.fixture(scope="module")
def halves():
    rng = np.random.default_rng(0)
    image = rng.integers(0, 60, (32, 40, 3)).astype(np.uint8)
    image[:, 20:] += 150
    labels = np.zeros((32, 40), np.int32)
    labels[:, 20:] = 5
    return image, labels


def test_learns_and_goes_through_a_file(halves, tmp_path):
    image, labels = halves
    segmenter = SegFormerSegmenter.small().set_params(epochs=15).fit(image, labels)
    assert segmenter.score(image, labels) > 0.9
    segmenter.save(tmp_path / "model")
    again = load(tmp_path / "model")
    np.testing.assert_array_equal(again.predict_proba(image), segmenter.predict_proba(image))


def test_starts_from_the_weights_of_a_classifier(classifier, halves, tmp_path):
    path, weights = classifier
    image, labels = halves
    segmenter = SegFormerSegmenter.small()
    segmenter.set_params(pretrained=path, epochs=1, learning_rate=1e-9, weight_decay=0)
    segmenter.fit(image, labels)
    for name, tensor in segmenter.network_.segformer.state_dict().items():
        torch.testing.assert_close(tensor, weights[name], rtol=0, atol=1e-6)
    # It sees images as the classifier saw them, whatever white is.
    np.testing.assert_allclose(segmenter.mean_, [123.675, 116.28, 103.53])
    np.testing.assert_allclose(segmenter.std_, [58.395, 57.12, 57.375])
    segmenter.fit(image / np.float32(255), labels)
    np.testing.assert_allclose(segmenter.mean_, np.array([123.675, 116.28, 103.53]) / 255)
    # Other channels: the first kernels are shared out, images standardised by themselves.
    segmenter.fit(image[..., 0], labels)
    np.testing.assert_allclose(segmenter.mean_, image[..., 0].mean())
    segmenter.save(tmp_path / "model")
    path.rename(path.with_suffix(".moved"))
    try:
        load(tmp_path / "model").predict(image[..., 0])  # needs no file but its own
    finally:
        path.with_suffix(".moved").rename(path)


@pytest.mark.parametrize(
    ("options", "error", "match"),
    [
        ({"size": "b9"}, ValueError, "size is 'b9'"),
        ({"drop_path": 1.0}, ValueError, r"drop_path is 1\.0"),
        ({"pretrained": 3}, TypeError, "pretrained is 3, expected a path"),
        ({"pretrained": "nowhere.pth"}, FileNotFoundError, "nowhere.pth does not exist"),
    ],
)
def test_bad_parameters_are_named(options, error, match, halves):
    with pytest.raises(error, match=match):
        SegFormerSegmenter.small().set_params(**options).fit(*halves)
