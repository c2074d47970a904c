"""YOLACT against the authors' code, and how it trains and predicts."""

import json
import re
import runpy
from pathlib import Path

import numpy as np
import pytest
import torch

import segalgos
from segalgos import Instances, YOLACTSegmenter, thread_limit
from segalgos.nets.detection.targets import DetectionBatch, MaskCrops, Targets
from segalgos.nets.fast_inference import fuse
from segalgos.nets.norm import FrozenBatchNorm2d
from segalgos.nets.yolact import YOLACT

GOLDEN = Path(__file__).with_name("golden")
golden = runpy.run_path(str(GOLDEN / "make_yolact.py"))
EXPECTED = json.loads((GOLDEN / "yolact.json").read_text())

SMALL = {"backbone": "resnet18", "base_channels": 8, "width": 16, "n_prototypes": 8}


def official(name):
    """What the authors call a weight."""
    return re.sub(r"^backbone\.layer(\d)", lambda m: f"backbone.layers.{int(m[1]) - 1}", name)


def official_weights(network):
    """Weights of the formula, under the authors' names."""
    weights = {official(name): tensor for name, tensor in network.state_dict().items()}
    return golden["weights_of"](weights)


def assert_described(found, expected, tolerance):
    found = golden["describe"](found)
    assert found["shape"] == expected["shape"]
    assert found["values"] == pytest.approx(expected["values"], abs=tolerance)
    assert found["mean"] == pytest.approx(expected["mean"], abs=tolerance)


# --- the same as the authors' ---------------------------------------------------------------


@pytest.mark.parametrize("backbone", ["resnet50", "resnet101"])
def test_names_and_shapes_are_the_authors(backbone):
    with torch.device("meta"):
        network = YOLACT(3, 80, backbone=backbone)
    weights = {official(name): tensor for name, tensor in network.state_dict().items()}
    expected = EXPECTED["names"][backbone]
    assert len(weights) == expected["n_names"]

    class Holder:
        def state_dict(self):
            return weights

    assert golden["names_digest"](Holder()) == expected["names_digest"]


@pytest.fixture(scope="module")
def network():
    network = YOLACT(3, golden["N_CLASSES"], backbone="resnet50").eval()
    return network.load_checkpoint(official_weights(network))


@pytest.mark.parametrize("i", range(len(EXPECTED["raw"])))
def test_raw_outputs_equal_the_authors(network, i):
    expected = EXPECTED["raw"][i]
    size = tuple(expected["size"])
    with torch.inference_mode():
        pyramid = network.pyramid(golden["standard_image"](size))
        judged = network.judge(pyramid, size)
        semantic = network.semantic_seg_conv(pyramid[0])
    assert_described(judged.deltas, expected["loc"], 1e-4)
    assert_described(judged.logits, expected["conf"], 1e-4)
    assert_described(judged.coefficients, expected["mask"], 1e-4)
    assert_described(judged.prototypes, expected["proto"], 1e-4)
    assert_described(semantic, expected["segm"], 1e-4)


@pytest.mark.parametrize("i", range(len(EXPECTED["detections"])))
def test_detections_equal_the_authors(network, i):
    expected = EXPECTED["detections"][i]
    side, size = expected["side"], tuple(expected["size"])
    segmenter = YOLACTSegmenter.from_trained(
        network, backbone="resnet50", image_size=(side, side), score_threshold=0.05
    )
    image = golden["image"](size)[0].permute(1, 2, 0).numpy()
    x = torch.from_numpy(segmenter._standardiser(image)(image)).permute(2, 0, 1)[None]
    x = torch.nn.functional.interpolate(x, (side, side), mode="bilinear")
    with torch.inference_mode():
        (found,) = network(x)
        segmenter.network_.n_detections = 10**6
        assert len(segmenter.network_(x)[0].boxes) == expected["n_without_limit"]
    n = len(expected["boxes"])
    assert len(found.boxes) == expected["n"] > n
    boxes = np.array(expected["boxes"]).clip(0, side)
    np.testing.assert_allclose(found.boxes[:n], boxes, atol=2e-3)
    np.testing.assert_allclose(found.scores, expected["scores"], atol=1e-4)
    # Detections as probable as the next come in any order.
    apart = np.diff(expected["scores"]) < -1e-4
    clear = np.append(apart, True) & np.append(True, apart)
    assert clear.sum() > n
    np.testing.assert_array_equal(
        found.classes.numpy()[clear], np.array(expected["classes"])[clear]
    )
    for mask, described in zip(found.masks, expected["masks"]):
        assert_described(mask, described, tolerance=1e-4)
    # And all at once, as users have it, on the network that was made faster.
    # The segmenter leaves out what has no pixel, and what the authors keep for another class.
    drawn = (np.array(expected["areas"]) > 0) & (np.array(expected["scores"]) >= 0.05)
    instances = segmenter.predict(image)
    assert len(instances) == drawn.sum()
    np.testing.assert_allclose(instances.scores, np.array(expected["scores"])[drawn], atol=2e-4)
    areas = instances.masks.sum(axis=(1, 2))[clear[drawn]]
    np.testing.assert_allclose(areas, np.array(expected["areas"])[drawn & clear], atol=2)


def true_batch():
    images, objects = golden["batch"]()
    targets = []
    for boxes, classes, masks in objects:
        parts = [mask[r0:r1, c0:c1] for mask, (r0, c0, r1, c1) in zip(masks, boxes, strict=True)]
        corners = torch.tensor(boxes[:, [1, 0, 3, 2]], dtype=torch.float32)
        targets.append(Targets(corners, torch.tensor(classes), MaskCrops.of(parts, boxes)))
    return DetectionBatch(images, targets, seed=0)


def test_losses_equal_the_authors():
    network = YOLACT(3, golden["N_CLASSES"], backbone="resnet50", freeze_norms=True)
    unfrozen = YOLACT(3, golden["N_CLASSES"], backbone="resnet50")
    network.load_checkpoint(official_weights(unfrozen))  # with counters, which it has no use for
    losses = network.train()(true_batch())
    names = {"classes": "C", "boxes": "B", "masks": "M", "semantic": "S"}
    assert list(losses) == list(names)
    for name, loss in losses.items():
        assert loss.item() == pytest.approx(EXPECTED["losses"][names[name]], rel=1e-4), name


def make(n_classes=2, **options):
    generator = torch.Generator().manual_seed(0)
    return YOLACT(3, n_classes, generator=generator, **SMALL | options)


def test_files_of_all_versions_are_read():
    network = make()
    weights = {official(name): t + 1 for name, t in network.state_dict().items()}
    for name in list(weights):  # as the first version has them: twice, and a map more
        if name.startswith("backbone.layers."):
            old = f"backbone.layer{int(name[16]) + 1}{name[17:]}"
            weights[old] = weights[name]
    for kind in ("weight", "bias"):
        weights[f"fpn.downsample_layers.2.{kind}"] = torch.zeros(1)
    without = {k: v for k, v in weights.items() if not k.endswith("num_batches_tracked")}
    for given in (weights, without):
        other = make()
        assert other.load_checkpoint(given) is other
        for name, tensor in network.state_dict().items():
            if not name.endswith("num_batches_tracked"):
                torch.testing.assert_close(other.state_dict()[name], tensor + 1)
    own = make().load_checkpoint(network.state_dict()).state_dict()
    assert all(torch.equal(own[name], tensor) for name, tensor in network.state_dict().items())
    del weights["proto_net.0.weight"]
    with pytest.raises(ValueError, match="YOLACT: the checkpoint misses 1"):
        other.load_checkpoint(weights)


# --- training -------------------------------------------------------------------------------


def disc_scene():
    """Two discs that touch, of two classes, and a third."""
    y, x = np.mgrid[:64, :64] + 0.5
    centres = [(20, 18, 12, 0), (22, 42, 11, 1), (48, 40, 9, 0)]
    masks = np.stack([(y - r) ** 2 + (x - c) ** 2 < radius**2 for r, c, radius, _ in centres])
    classes = np.array([k for *_, k in centres])
    image = np.zeros((64, 64, 3), np.float32)
    for mask, k in zip(masks, classes, strict=True):
        image[mask] = (1, 2 * k, 0.5)
    return image, Instances(masks, classes=classes + 3)


def best_ious(found, truth):
    """IoU of each true object with the best object of its class."""
    best = np.zeros(len(truth))
    for k in range(len(truth)):
        for mask in found.masks[found.classes == truth.classes[k]]:
            shared, joined = (mask & truth.masks[k]).sum(), (mask | truth.masks[k]).sum()
            best[k] = max(best[k], shared / joined)
    return best


def fit_discs(**params):
    image, truth = disc_scene()
    segmenter = YOLACTSegmenter.small().set_params(augment=False, validation_fraction=0.0, **params)
    return segmenter.fit(image, truth), image, truth


def test_discs_are_learned():
    segmenter, image, truth = fit_discs(epochs=150, learning_rate=0.005)
    untrained, *_ = fit_discs(epochs=1, learning_rate=1e-9, score_threshold=0.05)
    first, last = segmenter.history_[0]["loss"], segmenter.history_[-1]["loss"]
    assert last < 0.3 * first
    found = segmenter.predict(image)
    assert set(found.classes.tolist()) <= {3, 4}
    assert best_ious(found, truth).min() > 0.7
    assert best_ious(untrained.predict(image), truth).mean() < 0.5
    assert len(found) <= 6


def test_threads_change_nothing():
    states = []
    for n in (1, 2):
        with thread_limit(n):
            segmenter, image, _ = fit_discs(epochs=3)
            states.append((segmenter.network_.state_dict(), segmenter.predict(image)))
    (one, found_one), (two, found_two) = states
    assert all(torch.equal(one[name], two[name]) for name in one)
    np.testing.assert_array_equal(found_one.masks, found_two.masks)
    np.testing.assert_array_equal(found_one.scores, found_two.scores)


def batch(images, boxes, *, seed=0):
    """The same rectangles in each image."""
    boxes = np.array(boxes).reshape(-1, 4)
    masks = [np.ones((r1 - r0, c1 - c0), bool) for r0, c0, r1, c1 in boxes]
    corners = torch.tensor(boxes[:, [1, 0, 3, 2]], dtype=torch.float32)
    one = Targets(corners, torch.zeros(len(boxes), dtype=torch.int64), MaskCrops.of(masks, boxes))
    return DetectionBatch(images, [one] * len(images), seed)


@pytest.mark.parametrize("boxes", [[], [[5, 7, 6, 8]], [[0, 0, 64, 96]], [[9, 9, 10, 60]] * 3])
def test_losses_of_odd_objects_are_finite(boxes):
    network = make().train()
    images = torch.randn(2, 3, 64, 96, generator=torch.Generator().manual_seed(0))
    losses = network(batch(images, boxes))
    if not boxes:
        assert losses["boxes"] == losses["masks"] == 0
        assert losses["classes"] > 0  # the background is learned from
    else:
        assert all(loss > 0 for loss in losses.values())
    sum(losses.values()).backward()
    for name, parameter in network.named_parameters():
        if boxes or "mask_layer" not in name:  # no object, no coefficients
            assert torch.isfinite(parameter.grad).all(), name


def test_losses_depend_on_the_seed_alone():
    network = make(anchor_sizes=(16, 16, 16, 16, 16)).train()
    images = torch.randn(1, 3, 96, 96, generator=torch.Generator().manual_seed(0))
    boxes = [(r, c, r + 18, c + 18) for r in range(0, 78, 8) for c in range(0, 78, 8)]
    first, again, other = (network(batch(images, boxes, seed=seed)) for seed in (1, 1, 2))
    assert {k: v.item() for k, v in first.items()} == {k: v.item() for k, v in again.items()}
    assert first["masks"] != other["masks"]  # more anchors on objects than masks are compared
    assert first["classes"] == other["classes"]


def test_no_object_to_learn_from_is_an_error():
    none = Instances(np.zeros((0, 16, 16), bool))
    with pytest.raises(ValueError, match="YOLACTSegmenter: the images to learn from show no"):
        YOLACTSegmenter.small().fit(np.zeros((16, 16)), none)


def test_images_without_objects_and_objects_of_a_pixel_can_be_among_others():
    image, truth = disc_scene()
    pixel = np.zeros((1, 64, 64), bool)
    pixel[0, 30, 30] = True
    empty = Instances(np.zeros((0, 64, 64), bool))
    segmenter = YOLACTSegmenter.small().fit(
        [image, image * 0, image], [truth, empty, Instances(pixel, classes=[3])]
    )
    assert np.isfinite([row["loss"] for row in segmenter.history_]).all()
    assert segmenter.predict(image * 0).shape == (64, 64)


# --- prediction -----------------------------------------------------------------------------


@pytest.mark.parametrize("image_size", [1.0, 2.0, (50, 70)])
def test_images_of_any_size(image_size):
    segmenter = YOLACTSegmenter.from_trained(
        make(), **SMALL, image_size=image_size, score_threshold=0.01
    )
    rng = np.random.default_rng(0)
    for size in [(1, 1), (1, 37), (33, 1), (7, 5), (61, 43)]:
        found = segmenter.predict(rng.integers(0, 256, (*size, 3), dtype=np.uint8))
        assert found.shape == size
        assert found.masks.any(axis=(1, 2)).all()
        assert (found.boxes >= 0).all()
        assert (found.boxes <= np.tile(size, 2)).all()


def test_padding_is_no_place_for_boxes():
    network = make(score_threshold=0.0).eval()
    x = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        whole, cut = network(x, [(64, 64), (40, 30)])
        (again,) = network(x[:1])
    torch.testing.assert_close(whole.boxes, again.boxes, atol=1e-3, rtol=0)
    assert (whole.boxes[:, 2] > 30).any()
    assert (cut.boxes[:, 2] <= 30).all()
    assert (cut.boxes[:, 3] <= 40).all()


def test_the_fused_network_finds_the_same():
    network = make(freeze_norms=True, score_threshold=0.3).eval()
    for name, tensor in network.state_dict().items():
        if name.endswith("running_mean"):
            tensor.copy_(torch.randn(tensor.shape, generator=torch.Generator().manual_seed(1)))
    fast = fuse(network)
    assert not any(isinstance(m, FrozenBatchNorm2d) for m in fast.modules())
    x = torch.randn(1, 3, 64, 96, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        (expected,), (found,) = network(x), fast(x)
    assert len(found.boxes) > 10
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b, atol=1e-3, rtol=0)


@pytest.mark.parametrize("frozen", [True, False])
def test_segmenters_of_trained_networks_can_be_saved(frozen, tmp_path):
    network = make(freeze_norms=frozen)
    segmenter = YOLACTSegmenter.from_trained(
        network, **SMALL, image_size=1.0, score_threshold=0.01, classes=[2, 7]
    )
    image = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    expected = segmenter.predict(image)
    assert len(expected) > 3
    assert set(expected.classes.tolist()) <= {2, 7}
    segmenter.save(tmp_path / "model.segalgos")
    found = segalgos.load(tmp_path / "model.segalgos").predict(image)
    np.testing.assert_array_equal(found.scores, expected.scores)
    np.testing.assert_array_equal(found.masks, expected.masks)
    with pytest.raises(ValueError, match="build the network with the same options"):
        YOLACTSegmenter.from_trained(network, **SMALL | {"width": 8})


def test_efficientnet_can_be_the_encoder():
    network = YOLACT(1, 1, backbone="efficientnet_lite0", width=16).eval()
    with torch.inference_mode():
        pyramid = network.pyramid(torch.zeros(1, 1, 65, 40))
    assert [tuple(x.shape[1:]) for x in pyramid] == [
        (16, 9, 5), (16, 5, 3), (16, 3, 2), (16, 2, 1), (16, 1, 1)
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("params", "error", "message"),
    [
        ({"backbone": "vgg16"}, ValueError, "YOLACTSegmenter: backbone"),
        ({"base_channels": 12}, ValueError, "multiple of 8"),
        ({"n_prototypes": 0}, ValueError, "n_prototypes"),
        ({"anchor_sizes": (8, 16)}, ValueError, "anchor_sizes has 2 values, expected 5"),
        ({"anchor_ratios": 1}, TypeError, "anchor_ratios is 1, expected a list"),
        ({"image_size": (550,)}, ValueError, r"expected \(height, width\)"),
        ({"image_size": (550, 0)}, ValueError, r"image_size\[1\]"),
        ({"square_anchors": "yes"}, TypeError, "square_anchors"),
        ({"frozen_stages": 1}, ValueError, "frozen_stages is 1, but weights are random"),
    ],
)
def test_bad_parameters_are_refused(params, error, message):
    segmenter = YOLACTSegmenter.small().set_params(**params)
    with pytest.raises(error, match=message):
        segmenter.fit(np.zeros((8, 8)), Instances(np.ones((1, 8, 8), bool)))


@torch.no_grad()
def test_new_weights_say_little():
    generator = torch.Generator().manual_seed(0)
    network = YOLACT(3, 5, backbone="resnet18", base_channels=8, width=16, generator=generator)
    pyramid = network.eval().pyramid(torch.randn(1, 3, 64, 64, generator=generator))
    judged = network.judge(pyramid, (64, 64))
    background = judged.logits.softmax(dim=-1)[..., 0]
    assert background.mean() == pytest.approx(0.75, abs=0.05)
    assert judged.deltas.abs().mean() < 0.3
    assert judged.coefficients.abs().mean() < 0.3
    classes = network.semantic_seg_conv(pyramid[0]).sigmoid()
    assert classes.mean() == pytest.approx(0.05, abs=0.03)
