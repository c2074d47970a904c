"""Fitted nets trained further, and nets whose last layer is made of prototypes."""

import numpy as np
import pytest
import torch
from sklearn.exceptions import NotFittedError
from torch import nn

import segalgos
from segalgos import datasets

SMALL = {"crop_size": 32, "batch_size": 2, "learning_rate": 1e-2, "random_state": 0}


@pytest.fixture(scope="module")
def data():
    shapes = datasets.load("shapes", n_images=3, size=(48, 64), seed=1)
    return list(shapes.images), list(shapes.labels)


@pytest.fixture(scope="module")
def net(data):
    return segalgos.UNetSegmenter(
        base_channels=4, depth=1, padding="same", batch_norm=True, epochs=6, **SMALL
    ).fit(*data)


def weights(segmenter):
    return {name: t.clone() for name, t in segmenter.network_.state_dict().items()}


def test_same_classes_start_from_all_weights(net, data):
    before = weights(net)
    tuned = segalgos.fine_tune(net, *data, epochs=1, learning_rate=1e-9, random_state=0)
    for name, tensor in weights(tuned).items():
        if "running" not in name and "num_" not in name:
            assert torch.allclose(tensor, before[name], atol=1e-6), name
    assert np.array_equal(tuned.mean_, net.mean_)
    assert all(torch.equal(tensor, before[name]) for name, tensor in weights(net).items())
    # Labels that hold only some of the classes keep the others.
    some = segalgos.fine_tune(
        net, data[0][0], np.zeros((48, 64), int), epochs=1, random_state=0,
        class_weight="balanced",
    )  # fmt: skip
    assert np.array_equal(some.classes_, net.classes_)


def test_other_classes_make_the_last_layer_anew(net, data):
    labels = [np.where(label_map == 1, 9, label_map) for label_map in data[1]]
    tuned = segalgos.fine_tune(net, data[0], labels, epochs=1, learning_rate=1e-9, random_state=0)
    assert 9 in tuned.classes_
    before, after = weights(net), weights(tuned)
    assert all(torch.allclose(after[n], before[n], atol=1e-6) for n in before
               if "running" not in n and "num_" not in n and "head" not in n)  # fmt: skip
    for place, k in enumerate(tuned.classes_.tolist()):
        if k in net.classes_:
            old = before["head.weight"][net.classes_.tolist().index(k)]
            assert torch.allclose(after["head.weight"][place], old, atol=1e-6), k
        else:
            assert not any(torch.allclose(after["head.weight"][place], old, atol=1e-3)
                           for old in before["head.weight"])  # fmt: skip


def test_it_learns_resumes_and_is_a_function_of_the_seed(net, data, tmp_path):
    objects = [(label_map > 0).astype(int) for label_map in data[1]]

    class Stopped(Exception):
        pass

    def stop(row):
        raise Stopped

    how = {"epochs": 6, "learning_rate": 1e-2, "layer_decay": 0.5, "random_state": 3}
    whole = segalgos.fine_tune(net, data[0], objects, **how)
    assert whole.history_[-1]["loss"] < whole.history_[0]["loss"]
    path = tmp_path / "run.ckpt"
    with pytest.raises(Stopped):
        segalgos.fine_tune(net, data[0], objects, checkpoint=path, on_epoch_end=stop, **how)
    resumed = segalgos.fine_tune(net, data[0], objects, checkpoint=path, **how)
    assert all(torch.equal(t, weights(resumed)[n]) for n, t in weights(whole).items())
    with pytest.raises(ValueError, match="belongs to another run"):
        segalgos.fine_tune(net, data[0], objects, checkpoint=path, **(how | {"layer_decay": 0.9}))
    resumed.save(tmp_path / "net.segalgos")
    loaded = segalgos.load(tmp_path / "net.segalgos")
    assert np.array_equal(loaded.predict(data[0][0]), whole.predict(data[0][0]))


def test_frozen_stages_stay_and_rates_fall_towards_the_image(net, data):
    before = weights(net)
    tuned = segalgos.fine_tune(
        net, *data, epochs=1, learning_rate=1e-2, frozen_stages=1, layer_decay=0.1, random_state=0
    )
    after = weights(tuned)
    assert all(torch.equal(after[n], before[n]) for n in before if n.startswith("down.0."))

    def change(prefix):
        return max(float((after[n] - before[n]).abs().max()) for n in before
                   if n.startswith(prefix) and n.endswith(".weight"))  # fmt: skip

    assert change("head") > 3 * change("up.0") > 9 * change("down.1") > 0


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"frozen_stages": 9}, ValueError, "n is 9, expected 0 to 3"),
        ({"layer_decay": 0}, ValueError, "layer_decay"),
        ({"layer_decay": 1.5}, ValueError, "layer_decay"),
        ({"kernel": 3}, TypeError, "UNetSegmenter has no parameter 'kernel'"),
        ({"epochs": None}, ValueError, "epochs and time_budget are both None"),
    ],
)
def test_bad_arguments(arguments, error, message, net, data):
    before = dict(vars(net))
    with pytest.raises(error, match=message):
        segalgos.fine_tune(net, *data, **arguments)
    assert vars(net) == before


def test_bad_segmenters(net, data):
    with pytest.raises(NotFittedError):
        segalgos.fine_tune(segalgos.UNetSegmenter(), *data)
    with pytest.raises(TypeError, match="segmenter is a RandomForestSegmenter"):
        segalgos.fine_tune(segalgos.RandomForestSegmenter(), *data)
    with pytest.raises(ValueError, match="images have 1 channels"):
        segalgos.fine_tune(net, [image[..., 0] for image in data[0]], data[1])
    module = nn.Sequential(nn.Conv2d(3, 2, 1))
    fixed = segalgos.NetSegmenter(module, epochs=1, **SMALL)
    fixed.fit(data[0][0], (data[1][0] > 0).astype(int))
    with pytest.raises(ValueError, match="the module gives 2 scores a pixel"):
        segalgos.fine_tune(fixed, data[0][0], np.arange(48 * 64).reshape(48, 64) % 3)


# --- prototypes ---------------------------------------------------------------------------


def test_scores_are_distances_to_prototypes():
    """On a network whose features are the intensities themselves."""
    module = nn.Sequential(nn.Identity(), nn.Conv2d(3, 2, 1))
    segmenter = segalgos.NetSegmenter.from_trained(module, mean=(0, 0, 0), std=(1, 1, 1))
    rng = np.random.default_rng(0)
    image = rng.normal(size=(12, 20, 3)).astype(np.float32)
    image[:, 10:] += 3
    clicks = np.full((12, 20), -1)
    clicks[3, :4], clicks[7, 14:18] = 0, 1
    found = segalgos.prototype_head(segmenter, image, clicks)
    features = [image[3, :4], image[7, 14:18]]
    prototypes = [rows.mean(0) for rows in features]
    distances = np.stack([((image - p) ** 2).sum(-1) for p in prototypes], axis=-1)
    assert np.array_equal(found.predict(image), distances.argmin(-1))
    variance = np.mean([(rows - p) ** 2 for rows, p in zip(features, prototypes)])
    logits = -distances / (2 * variance)
    expected = np.exp(logits - logits.max(-1, keepdims=True))
    expected /= expected.sum(-1, keepdims=True)
    assert np.allclose(found.predict_proba(image), expected, atol=1e-3)


def test_a_handful_of_pixels_gives_new_classes(net, data, tmp_path):
    image, labels = data[0][0], data[1][0] > 0
    rng = np.random.default_rng(0)
    clicks = np.full(labels.shape, -1)
    for k, inside in ((4, ~labels), (6, labels)):
        places = np.flatnonzero(inside)
        clicks.flat[rng.choice(places, 20, replace=False)] = k
    found = segalgos.prototype_head(net, [image], [clicks])
    assert found.classes_.tolist() == [4, 6]
    assert set(np.unique(found.predict(image))) <= {4, 6}
    assert (found.predict(image) == np.where(labels, 6, 4)).mean() > 0.5
    found.save(tmp_path / "net.segalgos")
    loaded = segalgos.load(tmp_path / "net.segalgos")
    assert np.array_equal(loaded.predict(image), found.predict(image))
    assert segalgos.prototype_head(net, image, labels.astype(int)).classes_.tolist() == [0, 1]


def test_bad_prototypes(net, data):
    with pytest.raises(ValueError, match="no labelled pixel"):
        segalgos.prototype_head(net, data[0][0], np.full((48, 64), -1))
    with pytest.raises(ValueError, match="1 images but 2 labels"):
        segalgos.prototype_head(net, data[0][:1], data[1][:2])
    with pytest.raises(ValueError, match="1 channels"):
        segalgos.prototype_head(net, data[0][0][..., 0], data[1][0])
    segmenter = segalgos.NetSegmenter.from_trained(nn.Conv2d(3, 2, 3, padding=1))
    with pytest.raises(ValueError, match=r"ends in a Conv2d\(3, 3\), expected a convolution"):
        segalgos.prototype_head(segmenter, data[0][0], data[1][0])
