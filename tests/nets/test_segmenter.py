"""Any module as a segmenter."""

import copy
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from sklearn.base import clone
from torch import nn

from segalgos import NetSegmenter


def scene(seed=0):
    rng = np.random.default_rng(seed)
    labels = np.zeros((40, 52), np.int32)
    labels[10:30, 15:40] = 1
    image = rng.normal(0, 0.2, (*labels.shape, 3)) + labels[..., None]
    return image.astype(np.float32), labels


def module(n_classes=2, n_channels=3, stride=1, seed=0):
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Conv2d(n_channels, 8, 3, stride=stride, padding=1),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.Conv2d(8, n_classes, 1),
    )


class Wrapped(nn.Module):
    """Gives logits in one of the forms that libraries use."""

    def __init__(self, form, inner):
        super().__init__()
        self.form, self.inner = form, inner

    def forward(self, x):
        logits = self.inner(x)
        return {
            "out": {"out": logits, "aux": logits[:, :1]},
            "dict": {"logits": logits},
            "object": SimpleNamespace(logits=logits, loss=None),
            "tuple": (logits, logits[:, :1]),
            "tensor": logits,
            "nothing": None,
            "vector": logits.mean((2, 3)),
        }[self.form]


def learner(module, **options):
    options = {"epochs": 8, "batch_size": 2, "crop_size": 32, "learning_rate": 0.05} | options
    return NetSegmenter(module, random_state=0, **options)


@pytest.mark.parametrize("form", ["out", "dict", "object", "tuple", "tensor"])
def test_a_module_learns_whatever_holds_its_logits(form):
    image, labels = scene()
    given = Wrapped(form, module(stride=2))
    before = copy.deepcopy(given.state_dict())
    segmenter = learner(given).fit(image, labels)
    assert (segmenter.predict(image) == labels).mean() > 0.9
    assert segmenter.predict_proba(image).shape == (*labels.shape, 2)
    # The user's module is not trained itself.
    assert all(torch.equal(v, before[k]) for k, v in given.state_dict().items())
    assert type(segmenter.network_.module) is Wrapped


@pytest.mark.parametrize("form", ["nothing", "vector"])
def test_an_output_without_logits_is_refused(form):
    with pytest.raises(TypeError, match=r"the module gives .*, expected logits \(N, K, h, w\)"):
        learner(Wrapped(form, module())).fit(*scene())


def test_wrong_numbers_of_classes_and_channels_are_refused():
    with pytest.raises(ValueError, match="gives 3 scores a pixel, but the labels have 2 classes"):
        learner(module(n_classes=3)).fit(*scene())
    with pytest.raises(ValueError, match="the module failed on 3 channels"):
        learner(module(n_channels=4)).fit(*scene())
    with pytest.raises(TypeError, match=r"module is a str, expected a torch\.nn\.Module"):
        learner("resnet").fit(*scene())


def test_a_trained_module_predicts_at_once():
    image, labels = scene()
    trained = learner(module()).fit(image, labels)
    again = NetSegmenter.from_trained(
        trained.network_.module, classes=[3, 7], mean=trained.mean_, std=trained.std_
    )
    expected = np.array([3, 7])[trained.predict(image)]
    np.testing.assert_array_equal(again.predict(image), expected)
    np.testing.assert_array_equal(again.classes_, [3, 7])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"classes": [1]}, "expected 2 ascending ids"),
        ({"classes": [2, 1]}, "expected 2 ascending ids"),
        ({"mean": [0, 0], "std": [1, 1]}, "the module failed on 2 channels"),
        ({"mean": [0, 0, 0], "std": [1, 1, 0]}, "one positive number for each channel"),
        ({"mean": 0, "std": [1, 1, 0]}, "one positive number for each channel"),
    ],
)
def test_a_trained_module_that_does_not_fit_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        NetSegmenter.from_trained(module(), **options)


class ByHand(nn.Module):
    """Uses weights of a layer beside calling it, which no rewriting can know of."""

    def __init__(self):
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 2, 1), nn.BatchNorm2d(2)

    def forward(self, x):
        return self.norm(self.conv(x)) + torch.einsum(
            "nchw,kc->nkhw", x, self.conv.weight[..., 0, 0]
        )


def test_a_module_that_cannot_be_rewritten_is_run_as_it_is():
    image, labels = scene()
    segmenter = learner(ByHand()).fit(image, labels)
    network = segmenter.network_
    assert segmenter.fast_network_ is network
    assert learner(module()).fit(image, labels).fast_network_ is not network
    x = torch.from_numpy(segmenter._standardiser(image)(image)).permute(2, 0, 1)[None]
    x = F.pad(x, (0, 12, 0, 24), mode="replicate")
    with torch.inference_mode():
        expected = network(x)[0, :, :40, :52].softmax(0).permute(1, 2, 0).numpy()
    np.testing.assert_allclose(segmenter.predict_proba(image), expected, atol=1e-5)

    rounded = segmenter.set_params(prediction_precision="bfloat16").predict_proba(image)
    assert segmenter.network_.precision == "float32"
    assert not np.array_equal(rounded, expected)
    np.testing.assert_allclose(rounded, expected, atol=0.06)


def test_clones_are_untrained_and_apart():
    segmenter = learner(module()).fit(*scene())
    copied = clone(segmenter)
    assert not hasattr(copied, "network_")
    assert copied.module is not segmenter.module


def test_a_module_is_not_saved(tmp_path):
    segmenter = learner(module(), epochs=1).fit(*scene())
    with pytest.raises(TypeError, match="module is a Sequential, which a model file cannot hold"):
        segmenter.save(tmp_path / "model")
    assert list(tmp_path.iterdir()) == []


def test_a_checkpoint_is_of_the_modules_weights_too(tmp_path):
    path = tmp_path / "run"
    learner(module(), epochs=1, checkpoint=path).fit(*scene())
    with pytest.raises(ValueError, match="belongs to another run"):
        learner(module(seed=1), epochs=1, checkpoint=path).fit(*scene())


def test_a_model_of_transformers():
    transformers = pytest.importorskip("transformers")
    config = transformers.SegformerConfig(
        hidden_sizes=[8, 16, 16, 32], depths=[1, 1, 1, 1], decoder_hidden_size=16, num_labels=2
    )
    image, labels = scene()
    segmenter = learner(transformers.SegformerForSemanticSegmentation(config), epochs=3)
    assert segmenter.fit(image, labels).predict(image).shape == labels.shape
