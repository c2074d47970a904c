"""Nets adapted to rendered images in another light."""

import numpy as np
import pytest
import torch
from sklearn.exceptions import NotFittedError
from torch import nn

import segalgos
from segalgos import datasets
from segalgos.adaptation import coral, entropy, fourier, self_training
from segalgos.adaptation.batch_norm import estimate_statistics
from segalgos.adaptation.fitted import copy_network, find_head

METHODS = ("batch_norm", "coral", "fourier", "entropy", "self_training")
TRAINED = METHODS[1:]


def scenes(n, seed, split="train"):
    """Images and label maps, 0 the ground and 1 the objects."""
    shapes = datasets.load(
        "shapes", split=split, n_images=n, size=(48, 64), illumination=0.0, seed=seed, noise=3
    )
    return list(shapes.images), [(label_map > 0).astype(int) for label_map in shapes.labels]


def darken(image):
    """A strong change of gain and offset."""
    return (image * 0.3 + 5).astype(np.uint8)


@pytest.fixture(scope="module")
def source():
    return scenes(8, seed=0)


@pytest.fixture(scope="module")
def target():
    """Dark images to adapt to, and others with labels to score."""
    images, _ = scenes(4, seed=5)
    held_out, labels = scenes(6, seed=5, split="test")
    return [darken(image) for image in images], [darken(image) for image in held_out], labels


@pytest.fixture(scope="module")
def net(source):
    return segalgos.UNetSegmenter(
        base_channels=8, depth=1, padding="same", batch_norm=True, dropout=0.0, epochs=20,
        crop_size=32, batch_size=4, learning_rate=1e-2, random_state=0,
    ).fit(*source)  # fmt: skip


def adapted(net, source, target, method, **options):
    images, labels = source
    return segalgos.adapt(
        net, target[0], method=method, source_images=images, source_labels=labels,
        **({"random_state": 0} | ({} if method == "batch_norm" else {"epochs": 1}) | options),
    )  # fmt: skip


def weights(segmenter):
    return segmenter.network_.state_dict()


def test_statistics_of_the_target_undo_a_change_of_light(net, target):
    images, held_out, labels = target
    before = {name: tensor.clone() for name, tensor in weights(net).items()}
    found = segalgos.adapt(net, images, method="batch_norm", random_state=0)
    assert found.score(held_out, labels) > net.score(held_out, labels) + 0.05
    # Weights are the same, statistics are not, and the given segmenter has its own still.
    for name, tensor in weights(found).items():
        is_statistic = "running" in name or "num_batches" in name
        assert torch.equal(tensor, before[name]) == (not is_statistic), name
    assert all(torch.equal(tensor, before[name]) for name, tensor in weights(net).items())


def test_statistics_are_those_of_the_crops(net, target):
    """Of the first layer they can be computed from the crops alone."""
    network = copy_network(net)
    constant = [np.full((32, 32, 3), level, np.uint8) for level in (50, 150)]
    estimate_statistics(net, network, constant, seed=0)
    first = next(m for m in network.modules() if isinstance(m, nn.BatchNorm2d))
    conv = next(m for m in network.modules() if isinstance(m, nn.Conv2d))
    values = []
    for image in constant:
        x = torch.from_numpy(net._standardiser(image)(image)).permute(2, 0, 1)[None]
        values.append(conv(x))
    low, high = (v.mean((0, 2, 3)) for v in values)
    span = torch.stack([low, high])
    # The share of each image is drawn, so the mean is between those of both.
    assert (first.running_mean >= span.amin(0) - 1e-4).all()
    assert (first.running_mean <= span.amax(0) + 1e-4).all()
    share = (first.running_mean - low) / (high - low)
    assert torch.allclose(share, share[0].expand_as(share), atol=1e-3)


def test_a_prior_mixes_both_statistics(net, target):
    images = target[0]
    alone = segalgos.adapt(net, images, method="batch_norm", random_state=0)
    mixed = segalgos.adapt(
        net, images, method="batch_norm", prior_strength=len(images), random_state=0
    )
    name = next(name for name in weights(net) if name.endswith("running_mean"))
    half = (weights(alone)[name] + weights(net)[name]) / 2
    assert torch.allclose(weights(mixed)[name], half, atol=1e-6)


@pytest.mark.parametrize("method", TRAINED)
def test_methods_that_train(method, net, source, target, tmp_path):
    """They are better than the source alone, leave it as it was, and go on after a stop."""
    _, held_out, labels = target
    before = {name: tensor.clone() for name, tensor in weights(net).items()}
    whole = adapted(net, source, target, method, epochs=2)
    assert whole.score(held_out, labels) > net.score(held_out, labels) + 0.03
    assert all(torch.equal(tensor, before[name]) for name, tensor in weights(net).items())
    assert [row["epoch"] for row in whole.history_] == [1, 2]

    class Stopped(Exception):
        pass

    def stop(row):
        raise Stopped

    path = tmp_path / "run.ckpt"
    with pytest.raises(Stopped):
        adapted(net, source, target, method, epochs=2, checkpoint=path, on_epoch_end=stop)
    resumed = adapted(net, source, target, method, epochs=2, checkpoint=path)
    assert all(torch.equal(tensor, weights(resumed)[name]) for name, tensor in
               weights(whole).items())  # fmt: skip
    with pytest.raises(ValueError, match="belongs to another run"):
        adapted(net, source, target, method, epochs=2, checkpoint=path, random_state=1)

    whole.save(tmp_path / "net.segalgos")
    copy = segalgos.load(tmp_path / "net.segalgos")
    assert np.array_equal(copy.predict(held_out[0]), whole.predict(held_out[0]))


@pytest.mark.parametrize("method", TRAINED)
def test_labelled_source_is_asked_for(method, net, target):
    with pytest.raises(ValueError, match=f"{method}.*labelled images of the source"):
        segalgos.adapt(net, target[0], method=method)


SMALL = {"epochs": 1, "crop_size": 32, "batch_size": 2, "random_state": 0}


@pytest.mark.parametrize(
    "make",
    [
        pytest.param(
            lambda: segalgos.UNetSegmenter(base_channels=2, depth=1, **SMALL), id="margin"
        ),
        pytest.param(
            lambda: segalgos.DDRNetSegmenter(base_channels=8, **SMALL),
            id="auxiliary head",
            marks=pytest.mark.slow,
        ),
        pytest.param(
            lambda: segalgos.NetSegmenter(
                nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4), nn.Conv2d(4, 2, 1)),
                stride=8,
                **SMALL,
            ),
            id="module",
        ),
    ],
)
def test_nets_of_other_kinds(make, source, target):
    images, labels = source[0][:2], source[1][:2]
    segmenter = make().fit(images, labels)
    for method in ("coral", "self_training"):
        found = adapted(segmenter, (images, labels), target, method)
        assert found.predict(target[1][0]).shape == (48, 64), method


def test_no_batch_normalisation(source, target):
    plain = segalgos.UNetSegmenter.small().fit(*source)
    with pytest.raises(ValueError, match="needs batch normalisation, but the UNet"):
        segalgos.adapt(plain, target[0], method="batch_norm")


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"method": "advent"}, ValueError, "method is 'advent', expected one of 'batch_norm'"),
        ({"prior_strenght": 1}, TypeError, "did you mean prior_strength"),
        ({"prior_strength": -1}, ValueError, "prior_strength"),
        ({"epochs": 3}, ValueError, "epochs is 3, but method 'batch_norm' takes no steps"),
        ({"method": "entropy", "epochs": 0}, ValueError, "epochs"),
        ({"method": "entropy", "learning_rate": 0}, ValueError, "learning_rate"),
        ({"method": "entropy", "on_epoch_end": 3}, TypeError, "on_epoch_end"),
        ({"source_images": [np.zeros((8, 8, 3))]}, ValueError, "source_labels is None"),
        (
            {"source_images": [np.zeros((8, 8, 3))], "source_labels": [np.full((8, 8), 7)]},
            ValueError,
            "holds class 7, which the segmenter does not know",
        ),
        (
            {"source_images": [np.zeros((8, 8, 3))], "source_labels": []},
            ValueError,
            "1 source_images but 0 source_labels",
        ),
        (
            {"source_images": [np.zeros((8, 8, 3))], "source_labels": [np.full((8, 8), -1)]},
            ValueError,
            "no labelled pixel",
        ),
    ],
)
def test_bad_arguments(arguments, error, message, net, target):
    with pytest.raises(error, match=message):
        segalgos.adapt(net, target[0], **({"method": "batch_norm"} | arguments))


def test_bad_segmenters_and_images(net):
    with pytest.raises(NotFittedError):
        segalgos.adapt(segalgos.UNetSegmenter(), np.zeros((8, 8, 3)), method="batch_norm")
    with pytest.raises(TypeError, match="segmenter is a KMeansSegmenter"):
        segalgos.adapt(segalgos.KMeansSegmenter(), np.zeros((8, 8, 3)), method="batch_norm")
    with pytest.raises(TypeError, match="segmenter is a MaskRCNNSegmenter"):
        segalgos.adapt(segalgos.MaskRCNNSegmenter(), np.zeros((8, 8, 3)), method="batch_norm")
    with pytest.raises(ValueError, match=r"target_images\[0\] has 1 channels"):
        segalgos.adapt(net, np.zeros((8, 8)), method="batch_norm")
    with pytest.raises(ValueError, match="target_images"):
        segalgos.adapt(net, [], method="batch_norm")


# --- parts of the methods -----------------------------------------------------------------


def test_amplitudes_are_swapped_below_the_band_and_nowhere_else():
    rng = np.random.default_rng(0)
    a, b = rng.random((2, 20, 30, 3), dtype=np.float32)
    found = np.fft.fft2(fourier.swap_amplitudes(a, b, 0.1), axes=(0, 1))
    own, other = np.fft.fft2(a, axes=(0, 1)), np.fft.fft2(b, axes=(0, 1))
    rows, columns = np.fft.fftfreq(20, 1 / 20), np.fft.fftfreq(30, 1 / 30)
    low = (np.abs(rows)[:, None] <= 2) & (np.abs(columns) <= 2)
    assert np.allclose(np.abs(found[low]), np.abs(other[low]), atol=1e-3)
    assert np.allclose(found[~low], own[~low], atol=1e-3)
    assert np.allclose(np.angle(found[low] / own[low]), 0, atol=1e-3)
    assert np.allclose(fourier.swap_amplitudes(a, a, 0.1), a, atol=1e-5)
    # Of the mean alone it is a factor on the mean.
    mean = fourier.swap_amplitudes(a, b, 0.0).mean((0, 1))
    assert np.allclose(mean, b.mean((0, 1)), atol=1e-5)


def test_coral_loss_by_numpy():
    rng = np.random.default_rng(0)
    a, b = rng.random((2, 2, 3, 4, 5), dtype=np.float32)
    rows = [x.transpose(0, 2, 3, 1).reshape(-1, 3) for x in (a, b)]
    expected = ((np.cov(rows[0].T) - np.cov(rows[1].T)) ** 2).sum() / (4 * 3**2)
    found = coral.coral_loss(torch.from_numpy(a), torch.from_numpy(b))
    assert np.isclose(float(found), expected, rtol=1e-4)
    assert float(coral.coral_loss(torch.from_numpy(a), torch.from_numpy(a + 7))) < 1e-8


def test_entropy_is_0_where_sure_and_1_where_not():
    logits = torch.tensor([[0.0, 100.0], [0.0, 0.0], [0.0, 0.0]])[None, :, :, None]
    found = entropy.pixel_entropy(logits)
    assert torch.allclose(found[0, :, 0], torch.tensor([1.0, 0.0]), atol=1e-6)


def test_half_of_the_classes_are_picked():
    labels = np.array([[0, 0, 1], [2, 2, -1]])
    picked = [
        frozenset(labels[self_training.pick_classes(np.random.default_rng(i), labels)].tolist())
        for i in range(50)
    ]
    assert set(picked) == {frozenset({0, 1}), frozenset({0, 2}), frozenset({1, 2})}
    assert not self_training.pick_classes(np.random.default_rng(0), np.full((2, 2), -1)).any()


def test_teacher_follows_by_its_decay():
    both = self_training.StudentAndTeacher(nn.BatchNorm2d(2), 1, decay=0.75, threshold=0.9)
    with torch.no_grad():
        both.network.weight.fill_(5.0)
        both.network.running_mean.fill_(8.0)
    both.update_teacher()
    assert torch.allclose(both.teacher.weight, torch.tensor(2.0))
    assert torch.allclose(both.teacher.running_mean, torch.tensor(2.0))
    assert not both.train().teacher.training
    assert both.network.training


def test_head_is_the_last_layer_of_scores(net):
    assert find_head(net, "test") == "head"
    segmenter = segalgos.NetSegmenter.from_trained(
        nn.Sequential(nn.Conv2d(3, 2, 1), nn.Conv2d(2, 2, 1), nn.AvgPool2d(1))
    )
    assert find_head(segmenter, "test") == "module.1"
    without = segalgos.NetSegmenter.from_trained(_Doubled())
    with pytest.raises(ValueError, match="no layer of the PlainLogits"):
        find_head(without, "test")


class _Doubled(nn.Module):
    """Ends in no layer that gives one score for each class."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 1, 1)

    def forward(self, x):
        x = self.conv(x)
        return torch.cat([x, -x], dim=1)
