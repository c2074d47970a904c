"""Encoders whose first stages are kept from training."""

import numpy as np
import pytest
import torch

import segalgos
from segalgos import DeepLabSegmenter, UNetSegmenter
from segalgos.nets.checkpoints import read_weights
from segalgos.nets.encoders.by_name import ENCODERS, make_encoder
from segalgos.nets.encoders.resnet import ResNet


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """A file of weights such as torchvision's."""
    encoder = ResNet(3, "resnet18", generator=torch.Generator().manual_seed(3))
    path = tmp_path_factory.mktemp("weights") / "resnet18.pth"
    torch.save(encoder.state_dict(), path)
    return path


@pytest.mark.parametrize("name", [name for name in ENCODERS if name not in ("mit_b4", "mit_b5")])
def test_first_stages_are_what_the_first_maps_depend_on(name):
    encoder = make_encoder(name, 3, generator=torch.Generator().manual_seed(0)).eval()
    x = torch.rand(1, 3, 64, 64)
    for n_maps in range(len(encoder.channels) + 1):
        own = {id(p) for module in encoder.first_stages(n_maps) for p in module.parameters()}
        maps = encoder(x)
        names, parameters = zip(*encoder.named_parameters())
        if n_maps:
            total = sum(m.square().sum() for m in maps[:n_maps])
            found = torch.autograd.grad(total, parameters, allow_unused=True)
            used = {id(p) for p, gradient in zip(parameters, found) if gradient is not None}
        else:
            used = set()
        assert own == used, [n for n, p in zip(names, parameters) if id(p) in own ^ used]


@pytest.mark.parametrize(
    ("make", "encoder"),
    [
        (lambda **o: UNetSegmenter(encoder="resnet18", base_channels=4, **o), "encoder"),
        (lambda **o: DeepLabSegmenter(backbone="resnet18", **o), "backbone"),
    ],
)
def test_frozen_stages_stay_as_they_were_and_the_others_learn(make, encoder, weights, tmp_path):
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (48, 48, 3), dtype=np.uint8)
    labels = (image[..., 0] > 128).astype(int)
    before = read_weights(weights)
    options = {"epochs": 2, "crop_size": 32, "batch_size": 4, "random_state": 0}
    segmenter = make(pretrained=weights, frozen_stages=2, ema_decay=0.9, **options)
    after = getattr(segmenter.fit(image, labels).network_, encoder).state_dict()
    for name, old in before.items():
        frozen = name.startswith(("conv1.", "bn1.", "layer1."))
        assert torch.equal(old, after[name]) == frozen, name

    # A model file knows nothing of it, and predicts the same.
    segmenter.save(tmp_path / "net.segalgos")
    copy = segalgos.load(tmp_path / "net.segalgos")
    assert np.array_equal(copy.predict(image), segmenter.predict(image))


def test_resumed_training_keeps_them_too(weights, tmp_path):
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (48, 48, 3), dtype=np.uint8)
    labels = (image[..., 0] > 128).astype(int)

    class Stopped(Exception):
        pass

    def stop(row):
        if row["epoch"] == 1:
            raise Stopped

    def make(**options):
        return UNetSegmenter(
            encoder="resnet18", pretrained=weights, frozen_stages=3, base_channels=4, epochs=3,
            crop_size=32, random_state=0, **options,
        )  # fmt: skip

    whole = make().fit(image, labels).network_.state_dict()
    checkpoint = tmp_path / "run.ckpt"
    with pytest.raises(Stopped):
        make(checkpoint=checkpoint, on_epoch_end=stop).fit(image, labels)
    resumed = make(checkpoint=checkpoint).fit(image, labels).network_.state_dict()
    assert all(torch.equal(tensor, resumed[name]) for name, tensor in whole.items())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"frozen_stages": 2}, "frozen_stages is 2, but weights are random"),
        ({"frozen_stages": -1, "pretrained": True}, "frozen_stages"),
        ({"frozen_stages": 6, "pretrained": True}, "frozen_stages"),
    ],
)
def test_bad_numbers_are_refused(options, message):
    segmenter = UNetSegmenter(encoder="efficientnet_lite0", **options)
    with pytest.raises(ValueError, match=message):
        segmenter.fit(np.zeros((32, 32, 3)), np.zeros((32, 32), int))
