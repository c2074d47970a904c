import json

import numpy as np
import pytest
import torch
from safetensors.numpy import save_file
from sklearn.base import clone

import segalgos
from segalgos import (
    DDRNetSegmenter,
    DeepLabSegmenter,
    FCNSegmenter,
    MaskRCNNSegmenter,
    RandomForestSegmenter,
    SegFormerSegmenter,
    UNetSegmenter,
)
from segalgos.nets import pretraining
from segalgos.nets.encoder_features import EncoderFeatures
from segalgos.nets.encoders.by_name import make_encoder
from segalgos.nets.trained import TrainedNet
from segalgos.parallel import thread_limit
from segalgos.pretrained_encoder import PretrainedEncoder
from segalgos.training import linear_probe, pretrain

TINY = {"epochs": 1, "batch_size": 4, "crop_size": 32, "random_state": 0}
FIT = {"epochs": 1, "batch_size": 2, "crop_size": 32, "random_state": 0}
IMAGES = [
    np.random.default_rng(i).integers(0, 256, (40 + i, 33, 3), dtype=np.uint8) for i in range(3)
]
LABELS = [(image[..., 0] > 128).astype(int) for image in IMAGES]
# Of two channels and one epoch little can be asked.
may_collapse = pytest.mark.filterwarnings("ignore:pretrain. the encoder collapsed:RuntimeWarning")


@pytest.fixture(scope="module")
def resnet():
    return pretrain(IMAGES, encoder="resnet18", **TINY)


@pytest.fixture(scope="module")
def mit():
    return pretrain(IMAGES, encoder="mit_b0", method="masked", **TINY)


def holds(module, pretrained):
    state = module.state_dict()
    return all(np.array_equal(state[name].numpy(), v) for name, v in pretrained.weights.items())


# --- pretrain ----------------------------------------------------------------------------


def test_it_tells_what_it_is_and_has_learned(resnet, mit):
    assert (resnet.encoder, resnet.method) == ("resnet18", "dense")
    assert (mit.encoder, mit.method) == ("mit_b0", "masked")
    assert set(mit.history[-1]) >= {"loss", "embedding_std", "steps"}
    seed = int(np.random.RandomState(0).randint(2**31 - 1))
    fresh = make_encoder("mit_b0", 3, generator=torch.Generator().manual_seed(seed))
    assert not holds(fresh, mit)  # it learned


def test_the_same_seed_gives_the_same_weights_on_any_number_of_threads(mit):
    before = torch.random.get_rng_state()
    with thread_limit(1):
        again = pretrain(IMAGES, encoder="mit_b0", method="masked", **TINY)
    other = pretrain(IMAGES, encoder="mit_b0", method="masked", **TINY | {"random_state": 1})
    assert again.sha256 == mit.sha256 != other.sha256
    assert torch.equal(before, torch.random.get_rng_state())


@pytest.mark.parametrize("n_channels", [1, 5])
def test_images_of_any_size_range_and_number_of_channels(n_channels):
    rng = np.random.default_rng(0)
    images = [1e6 * rng.random((size, 50, n_channels)) for size in (1, 37)]
    found = pretrain(images, encoder="mit_b0", channel_axis=-1, **TINY)
    assert found.n_channels == n_channels
    assert all(np.isfinite(v).all() for v in found.weights.values())
    segmenter = UNetSegmenter(
        encoder="mit_b0", base_channels=4, pretrained=found, channel_axis=-1, **FIT
    )
    segmenter.fit(images[1], (images[1][..., 0] > 5e5).astype(int))
    assert segmenter.predict(images[0]).shape == (1, 50)


@may_collapse
@pytest.mark.parametrize(
    "make",
    [
        lambda: "mit_b0",
        lambda: UNetSegmenter(
            base_channels=2, depth=1, padding="same", on_epoch_end=lambda row: None
        ),
    ],
)
def test_a_killed_run_goes_on(make, tmp_path):
    def kill(row):
        raise KeyboardInterrupt

    options = TINY | {"epochs": 2, "checkpoint": tmp_path / "run"}
    with pytest.raises(KeyboardInterrupt):
        pretrain(IMAGES, encoder=make(), on_epoch_end=kill, **options)
    resumed = pretrain(IMAGES, encoder=make(), **options)
    assert resumed.sha256 == pretrain(IMAGES, encoder=make(), **TINY | {"epochs": 2}).sha256
    with pytest.raises(ValueError, match="belongs to another run"):
        pretrain(IMAGES[:2], encoder=make(), **options)


def test_a_collapsed_encoder_is_told(monkeypatch):
    monkeypatch.setattr(pretraining, "COLLAPSED", 2.0)  # which none can reach
    with pytest.warns(RuntimeWarning, match="the encoder collapsed"):
        pretrain(IMAGES, encoder="mit_b0", **TINY)


@pytest.mark.parametrize(
    ("images", "options", "error", "match"),
    [
        ([], {}, ValueError, "images is empty"),
        ([IMAGES[0], IMAGES[1][..., 0]], {}, ValueError, r"images\[1\] has 1 channels"),
        ([np.full((9, 9), np.nan)], {}, ValueError, r"images\[0\].*NaN"),
        (IMAGES, {"encoder": "resnet19"}, ValueError, "encoder is 'resnet19'"),
        (
            IMAGES,
            {"encoder": RandomForestSegmenter()},
            TypeError,
            "or a segmenter of segalgos.nets",
        ),
        (IMAGES, {"encoder": UNetSegmenter()}, ValueError, 'pass it with padding="same"'),
        (IMAGES, {"method": "simclr"}, ValueError, "method is 'simclr'"),
        (IMAGES, {"epochs": 0}, ValueError, "epochs is 0"),
        (IMAGES, {"time_budget": -1}, ValueError, "time_budget is -1"),
        (IMAGES, {"augment": "upside"}, TypeError, "augment is 'upside'"),
        (IMAGES, {"checkpoint": 3}, TypeError, "checkpoint is 3"),
        (IMAGES, {"on_epoch_end": 3}, TypeError, "on_epoch_end is 3"),
    ],
)
def test_bad_input_is_refused(images, options, error, match):
    with pytest.raises(error, match=f"^pretrain: .*{match}"):
        pretrain(images, **{"encoder": "mit_b0", **options})


# --- segmenters start from it ------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "encoder"),
    [
        (lambda **o: UNetSegmenter(encoder="resnet18", base_channels=4, **o), "encoder"),
        (lambda **o: DeepLabSegmenter(backbone="resnet18", **o), "backbone"),
    ],
)
def test_fit_starts_from_it_or_its_file(make, encoder, resnet, tmp_path):
    path = tmp_path / "encoder.safetensors"
    resnet.save(path)
    for pretrained in (resnet, path, str(path)):
        segmenter = make(pretrained=pretrained, **FIT)
        segmenter._check_params()
        network = segmenter._start(IMAGES, 2, seed=0)
        assert holds(getattr(network, encoder), resnet)
        assert np.array_equal(segmenter.mean_, resnet.mean)


def test_images_of_another_range_are_standardised_alike(resnet):
    segmenter = UNetSegmenter(encoder="resnet18", pretrained=resnet)
    segmenter._start([image / 255 for image in IMAGES], 2, seed=0)
    np.testing.assert_allclose(255 * segmenter.mean_, resnet.mean)
    np.testing.assert_allclose(255 * segmenter.std_, resnet.std)


@may_collapse
@pytest.mark.parametrize(
    "segmenter",
    [
        UNetSegmenter(base_channels=2, depth=2, padding="same", **FIT),
        DDRNetSegmenter.small(),
        SegFormerSegmenter.small(),
        FCNSegmenter.small(),
        MaskRCNNSegmenter.small(),
    ],
    ids=lambda segmenter: type(segmenter).__name__,
)
def test_segmenters_are_encoders_without_their_heads(segmenter):
    assert isinstance(segmenter, TrainedNet)
    found = pretrain(IMAGES[:1], encoder=segmenter, **TINY)
    assert found.encoder == type(segmenter).__name__
    started = clone(segmenter).set_params(pretrained=found)
    network = started._start(IMAGES, 5, seed=0)
    weights = started._map_encoder(network).state_dict()
    weights = {name.removeprefix("network."): tensor for name, tensor in weights.items()}
    for name, values in found.weights.items():
        if not name.endswith("num_batches_tracked"):
            assert np.array_equal(weights[name], values), name
    assert len(found.weights) > 10


@may_collapse
def test_the_papers_u_net_starts_from_one_that_was_padded():
    padded = UNetSegmenter(base_channels=2, depth=2, padding="same")
    found = pretrain(IMAGES[:1], encoder=padded, **TINY)
    segmenter = UNetSegmenter(base_channels=2, depth=2, pretrained=found, **FIT)
    assert segmenter.fit(IMAGES[0], LABELS[0]).predict(IMAGES[1]).shape == IMAGES[1].shape[:2]


@pytest.mark.parametrize(
    ("make", "match"),
    [
        (lambda p: UNetSegmenter(encoder="resnet34", pretrained=p), "'resnet18'.*does not fit"),
        (lambda p: UNetSegmenter(base_channels=4, pretrained=p), "'resnet18'.*does not fit"),
        (lambda p: UNetSegmenter(pretrained=True), "there is no encoder"),
        (lambda p: UNetSegmenter(pretrained=p, frozen_stages=1), "there is no encoder"),
        (lambda p: DDRNetSegmenter(pretrained=p), "'resnet18'.*does not fit"),
    ],
)
def test_an_encoder_that_does_not_fit_is_refused(make, match, resnet):
    with pytest.raises(ValueError, match=match):
        make(resnet).fit(IMAGES[0], LABELS[0])


def test_images_with_other_channels_are_refused(resnet):
    with pytest.raises(ValueError, match="for 3 channels, which does not fit"):
        UNetSegmenter(encoder="resnet18", pretrained=resnet).fit(IMAGES[0][..., 0], LABELS[0])


# --- files -------------------------------------------------------------------------------


def test_files_hold_all_of_it(mit, tmp_path):
    path = tmp_path / "encoder.safetensors"
    mit.save(path)
    loaded = PretrainedEncoder.load(path)
    assert loaded.sha256 == mit.sha256
    assert repr(loaded) == repr(mit)
    assert loaded.history == mit.history
    assert all(np.array_equal(loaded.weights[k], v) for k, v in mit.weights.items())


def test_damaged_files_are_refused(mit, tmp_path):
    path = tmp_path / "encoder.safetensors"
    mit.save(path)
    whole = path.read_bytes()
    path.write_bytes(whole[:-1] + bytes([whole[-1] ^ 64]))
    with pytest.raises(ValueError, match="checksum"):
        PretrainedEncoder.load(path)
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match="no encoder that segalgos"):
        PretrainedEncoder.load(path)
    content = {"format": "segalgos-encoder", "format_version": 99}
    save_file({"a": np.zeros(1)}, path, {"segalgos": json.dumps(content)})
    with pytest.raises(ValueError, match="update segalgos"):
        PretrainedEncoder.load(path)
    content["format_version"] = 1
    save_file({"a": np.zeros(1)}, path, {"segalgos": json.dumps(content)})
    with pytest.raises(ValueError, match="damaged"):
        PretrainedEncoder.load(path)
    with pytest.raises(FileNotFoundError, match="check the path"):
        PretrainedEncoder.load(tmp_path / "other")


def test_a_model_file_holds_the_encoder_that_fit_started_from(mit, tmp_path):
    segmenter = UNetSegmenter(encoder="mit_b0", base_channels=4, pretrained=mit, **FIT)
    segmenter.fit(IMAGES, LABELS).save(tmp_path / "net.segalgos")
    assert not holds(segmenter.network_.encoder, mit)  # it went on learning
    loaded = segalgos.load(tmp_path / "net.segalgos")
    assert loaded.pretrained.sha256 == mit.sha256
    assert np.array_equal(loaded.predict(IMAGES[0]), segmenter.predict(IMAGES[0]))


# --- features of pixels ------------------------------------------------------------------


def test_features_are_the_maps_at_the_pixels(mit):
    image = IMAGES[0].astype(np.float32)
    every = EncoderFeatures(mit)
    assert every(image).shape == (40, 33, 32 + 64 + 160 + 256)
    fine = EncoderFeatures(mit, strides=(4,))
    assert np.array_equal(fine(image), every(image)[..., :32])
    assert fine.coarse(image).shape == (10, 9, 32)
    # The corner lies outside of the middles of cells, where the nearest one goes on.
    assert np.array_equal(fine(image)[0, 0], fine.coarse(image)[0, 0])
    assert not np.array_equal(fine(image)[0, 0], fine(image)[0, 4])


def test_features_do_not_depend_on_the_range_of_images(mit):
    features = EncoderFeatures(mit, strides=(8,))
    image = IMAGES[0].astype(np.float32)
    np.testing.assert_allclose(features(image / 255), features(image), atol=1e-3)


def test_a_forest_takes_them_and_its_file_holds_them(mit, tmp_path):
    features = EncoderFeatures(mit, strides=(4, 8))
    forest = RandomForestSegmenter(5, scales=[1], extra=features, random_state=0)
    forest.fit(IMAGES, LABELS)
    assert sum(name.startswith("extra") for name in forest.feature_names_) == 32 + 64
    forest.save(tmp_path / "forest.segalgos")
    loaded = segalgos.load(tmp_path / "forest.segalgos")
    assert np.array_equal(loaded.predict(IMAGES[0]), forest.predict(IMAGES[0]))
    assert clone(forest).extra.pretrained.sha256 == mit.sha256


def test_a_forest_on_any_other_function_says_that_a_file_cannot_hold_it(tmp_path):
    forest = RandomForestSegmenter(2, scales=[1], extra=lambda image: image)
    with pytest.raises(TypeError, match="parameter extra is a function"):
        forest.fit(IMAGES[0], LABELS[0]).save(tmp_path / "forest.segalgos")


def test_features_go_to_probes(mit):
    features = EncoderFeatures(mit, strides=(4, 8))
    scores = linear_probe(features.coarse, IMAGES[:2], LABELS[:2], IMAGES[2:], LABELS[2:])
    assert 0 < scores["mean_iou_dataset"] < 1


@pytest.mark.parametrize(
    ("make", "match"),
    [
        (lambda p: EncoderFeatures("missing.safetensors"), "expected True"),
        (lambda p: EncoderFeatures(p, strides=(3,)), r"strides is \(3,\)"),
        (lambda p: EncoderFeatures(p)(np.zeros((8, 8, 1))), "the image has 1 channels"),
    ],
)
def test_bad_features_are_refused(make, match, mit):
    with pytest.raises(ValueError, match=f"^EncoderFeatures: .*{match}"):
        make(mit)
