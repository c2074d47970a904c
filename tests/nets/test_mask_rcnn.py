"""Mask R-CNN against torchvision's, and how it trains and predicts."""

import json
import math
import runpy
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

import segalgos
from segalgos import Instances, MaskRCNNSegmenter
from segalgos.nets.detection.masks import paste_masks
from segalgos.nets.detection.targets import DetectionBatch, MaskCrops, Targets
from segalgos.nets.fast_inference import fuse
from segalgos.nets.mask_rcnn import MaskRCNN
from segalgos.nets.norm import FrozenBatchNorm2d

GOLDEN = Path(__file__).with_name("golden")
golden = runpy.run_path(str(GOLDEN / "make_mask_rcnn.py"))
CASES = json.loads((GOLDEN / "mask_rcnn.json").read_text())["networks"]


def assert_described(found, expected, tolerance):
    found = golden["describe"](found)
    assert found["shape"] == expected["shape"]
    assert found["values"] == pytest.approx(expected["values"], abs=tolerance)
    assert found["mean"] == pytest.approx(expected["mean"], abs=tolerance)


@pytest.mark.parametrize("case", CASES, ids=lambda case: str(case["n_classes"]))
def test_output_equals_torchvisions(case):
    network = MaskRCNN(
        3, case["n_classes"] - 1, score_threshold=golden["SCORE"], freeze_norms=case["frozen"]
    )
    assert len(network.state_dict()) == case["n_names"]
    assert golden["names_digest"](network) == case["names_digest"]
    with torch.inference_mode():
        golden["fill"](network)
    segmenter = MaskRCNNSegmenter.from_trained(
        network, mean=[0.485, 0.456, 0.406], std=[0.229, 0.224, 0.225],
        image_size=golden["IMAGE_SIZE"], score_threshold=golden["SCORE"],
    )  # fmt: skip
    for expected in case["images"]:
        image = golden["image"](tuple(expected["size"])).permute(1, 2, 0).numpy()
        seen, padded = prepare(segmenter, image)
        assert list(seen) == expected["seen"]
        with torch.inference_mode():
            pyramid = network.backbone(padded)
            proposals, _ = network.rpn(pyramid, [seen], tuple(padded.shape[2:]))
            found = network.roi_heads(pyramid, proposals, [seen])[0]
        assert len(proposals[0]) == expected["n_proposals"]
        # Of a thousand, many are as good as the next: their order is a matter of rounding.
        first = proposals[0][: len(expected["first_proposals"])]
        np.testing.assert_allclose(first, expected["first_proposals"], atol=1e-3)
        mean = proposals[0].double().mean(dim=0)
        np.testing.assert_allclose(mean, expected["mean_proposal"], atol=0.02)
        assert len(found.boxes) == expected["n"]
        for mask, described in zip(found.masks, expected["masks"]):
            assert_described(mask, described, tolerance=1e-4)
        assert_detections_equal(segmenter._to_instances(found, image.shape[:2], seen), expected)
        # And all at once, as users have it, on the network that was made faster.
        assert_detections_equal(segmenter.predict(image), expected)


def prepare(segmenter, image):
    """What the segmenter shows the network: the size without padding, and the tensor."""
    size = segmenter._network_size(image.shape[:2])
    x = torch.from_numpy(segmenter._standardiser(image)(image)).permute(2, 0, 1)[None]
    x = F.interpolate(x, size, mode="bilinear")
    height, width = (math.ceil(n / 32) * 32 for n in size)
    return size, F.pad(x, (0, width - size[1], 0, height - size[0]))


def assert_detections_equal(found, expected):
    drawn = np.array(expected["areas"]) > 0  # the segmenter leaves others out
    n = drawn.sum()
    boxes = np.array(expected["boxes"])[drawn][:, [1, 0, 3, 2]]
    np.testing.assert_allclose(found.boxes[:n], boxes, atol=5e-3)
    np.testing.assert_allclose(found.scores[:n], np.array(expected["scores"])[drawn], atol=1e-4)
    np.testing.assert_array_equal(found.classes[:n], np.array(expected["labels"])[drawn])
    areas = found.masks[:n].sum(axis=(1, 2))
    np.testing.assert_allclose(areas, np.array(expected["areas"])[drawn], atol=2)


def make(n_classes=2, **options):
    options = {"backbone": "resnet18", "base_channels": 8, "width": 16, "box_width": 32} | options
    generator = torch.Generator().manual_seed(0)
    return MaskRCNN(3, n_classes, generator=generator, **options)


def test_names_of_2019_are_read_with_their_epsilon():
    network = make(freeze_norms=True)
    old = {}
    for name, tensor in network.state_dict().items():
        name = name.replace("rpn.head.conv.0.0.", "rpn.head.conv.")
        for i in range(4):
            name = name.replace(
                f"roi_heads.mask_head.{i}.0.", f"roi_heads.mask_head.mask_fcn{i + 1}."
            )
            for kind in ("inner", "layer"):
                name = name.replace(f"fpn.{kind}_blocks.{i}.0.", f"fpn.{kind}_blocks.{i}.")
        old[name] = tensor + 1 if tensor.is_floating_point() else tensor
    assert old.keys() != network.state_dict().keys()
    other = make(freeze_norms=True)
    assert other.load_checkpoint(old) is other
    for name, tensor in network.state_dict().items():
        torch.testing.assert_close(other.state_dict()[name], tensor + 1)
    norms = [m for m in other.modules() if isinstance(m, FrozenBatchNorm2d)]
    assert norms
    assert all(norm.eps == 0 for norm in norms)
    same = make(freeze_norms=True).load_checkpoint(network.state_dict())
    assert all(m.eps > 0 for m in same.modules() if isinstance(m, FrozenBatchNorm2d))
    del old["rpn.head.conv.weight"]
    with pytest.raises(ValueError, match="MaskRCNN: the checkpoint misses 1"):
        other.load_checkpoint(old)


def batch(images, *, empty=False):
    """Two squares in each image, or nothing."""
    targets = []
    for _ in images:
        boxes = np.array([[8, 8, 30, 40], [32, 16, 60, 62]][: 0 if empty else 2]).reshape(-1, 4)
        masks = [np.ones((r1 - r0, c1 - c0), bool) for r0, c0, r1, c1 in boxes]
        corners = torch.tensor(boxes[:, [1, 0, 3, 2]], dtype=torch.float32)
        classes = torch.arange(len(boxes))
        targets.append(Targets(corners, classes, MaskCrops.of(masks, boxes)))
    return DetectionBatch(images, targets, seed=0)


@pytest.mark.parametrize("frozen", [True, False])
def test_losses_fall_and_find_what_is_there(frozen):
    network = make(freeze_norms=frozen, anchor_sizes=(16, 32, 64, 128, 256), n_proposals=200)
    images = torch.zeros(2, 3, 64, 64)
    images[:, :, 8:30, 8:40], images[:, 1, 32:60, 16:62] = 1, 2
    optimizer = torch.optim.AdamW(network.parameters(), lr=3e-3)
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.01, total_iters=80)
    network.train()
    history = []
    for _ in range(80):
        losses = network(batch(images))
        history.append({name: loss.item() for name, loss in losses.items()})
        optimizer.zero_grad()
        sum(losses.values()).backward()
        optimizer.step()
        schedule.step()
    assert list(history[0]) == ["objectness", "proposals", "classes", "boxes", "masks"]
    for name in ("objectness", "proposals", "classes", "masks"):
        first, last = (np.mean([row[name] for row in rows]) for rows in (history[:5], history[-5:]))
        assert last < 0.7 * first, name
    network.eval()
    with torch.inference_mode():
        found = network(images)[0]
    best = found.classes[:2].tolist()
    assert sorted(best) == [0, 1]
    expected = torch.tensor([[8.0, 8, 40, 30], [16, 32, 62, 60]])
    torch.testing.assert_close(found.boxes[:2], expected[best], atol=4, rtol=0)
    assert (found.scores[:2] > 0.5).all()
    masks = paste_masks(found.masks[:2].numpy(), found.boxes[:2].numpy(), (64, 64))
    for mask, k in zip(masks, best):
        truth = np.zeros((64, 64), bool)
        truth[slice(*((8, 30), (32, 60))[k]), slice(*((8, 40), (16, 62))[k])] = True
        assert (mask & truth).sum() / (mask | truth).sum() > 0.6


def test_losses_depend_on_the_seed_alone():
    network = make().train()
    images = torch.randn(1, 3, 64, 96, generator=torch.Generator().manual_seed(0))
    first, again = (network(batch(images)) for _ in range(2))
    assert {k: v.item() for k, v in first.items()} == {k: v.item() for k, v in again.items()}


def test_images_without_objects_can_be_learned_from():
    network = make().train()
    losses = network(batch(torch.randn(2, 3, 64, 64), empty=True))
    assert losses["proposals"] == losses["boxes"] == losses["masks"] == 0
    sum(losses.values()).backward()
    for parameter in network.parameters():
        assert parameter.grad is None or torch.isfinite(parameter.grad).all()


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


@pytest.mark.parametrize(
    ("params", "error", "message"),
    [
        ({"backbone": "vgg16"}, ValueError, "MaskRCNNSegmenter: backbone"),
        ({"base_channels": 12}, ValueError, "multiple of 8"),
        ({"anchor_sizes": (8, 16)}, ValueError, "anchor_sizes has 2 values, expected 5"),
        ({"anchor_sizes": 8}, TypeError, "anchor_sizes is 8, expected a list"),
        ({"anchor_ratios": (0, 1)}, ValueError, "anchor_ratios"),
        ({"image_size": (800,)}, ValueError, r"expected \(shorter, longer\)"),
        ({"image_size": (800, 600)}, ValueError, r"image_size\[1\]"),
        ({"image_size": 0}, ValueError, "image_size"),
        ({"score_threshold": 2}, ValueError, "score_threshold"),
        ({"frozen_stages": 1}, ValueError, "frozen_stages is 1, but weights are random"),
    ],
)
def test_bad_parameters_are_refused(params, error, message):
    segmenter = MaskRCNNSegmenter.small().set_params(**params)
    with pytest.raises(error, match=message):
        segmenter.fit(np.zeros((8, 8)), Instances(np.ones((1, 8, 8), bool)))


def test_no_object_to_learn_from_is_an_error():
    none = Instances(np.zeros((0, 16, 16), bool))
    with pytest.raises(ValueError, match="MaskRCNNSegmenter: the images to learn from show no"):
        MaskRCNNSegmenter.small().fit(np.zeros((16, 16)), none)


def test_crowds_are_not_learned_from():
    masks = np.zeros((2, 32, 32), bool)
    masks[0, 4:20, 4:20], masks[1, 20:, 20:] = True, True
    image = masks.sum(axis=0).astype(float)
    labels = Instances(masks, classes=[3, 7], crowd=[False, True])
    segmenter = MaskRCNNSegmenter.small().set_params(epochs=1).fit(image, labels)
    assert segmenter.classes_.tolist() == [3]
    without = MaskRCNNSegmenter.small().set_params(epochs=1).fit(image, labels[:1])
    for name, tensor in segmenter.network_.state_dict().items():
        assert torch.equal(tensor, without.network_.state_dict()[name])
    with pytest.raises(ValueError, match="show no object"):
        MaskRCNNSegmenter.small().fit(image, labels[1:])


@pytest.mark.parametrize("eps", [None, 0.0])
def test_segmenters_of_trained_networks_can_be_saved(eps, tmp_path):
    network = make(2, freeze_norms=eps is not None, norm_eps=eps)
    network.roi_heads.box_predictor.cls_score.bias.data[0] += 3  # most is background
    params = {"backbone": "resnet18", "base_channels": 8, "width": 16, "box_width": 32}
    segmenter = MaskRCNNSegmenter.from_trained(
        network, **params, image_size=1.0, score_threshold=0.01
    )
    image = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    expected = segmenter.predict(image)
    assert (expected.scores < 0.05).any()  # what is asked for is not cut off
    segmenter.save(tmp_path / "model.segalgos")
    found = segalgos.load(tmp_path / "model.segalgos").predict(image)
    np.testing.assert_array_equal(found.scores, expected.scores)
    np.testing.assert_array_equal(found.masks, expected.masks)
    with pytest.raises(ValueError, match="build the network with the same options"):
        MaskRCNNSegmenter.from_trained(network, **params | {"width": 8})
    with pytest.raises(TypeError, match="network is a Linear, expected one of"):
        MaskRCNNSegmenter.from_trained(torch.nn.Linear(2, 2))


def test_from_trained_checks_numbers_of_classes():
    network = make(3)
    with pytest.raises(ValueError, match=r"from_trained: classes is \[1, 2\], expected 3"):
        MaskRCNNSegmenter.from_trained(
            network, classes=[1, 2], backbone="resnet18", base_channels=8, width=16, box_width=32
        )
    params = {"backbone": "resnet18", "base_channels": 8, "width": 16, "box_width": 32}
    segmenter = MaskRCNNSegmenter.from_trained(network, classes=[2, 5, 9], **params)
    found = segmenter.predict(np.zeros((40, 30, 3), np.uint8))
    assert set(found.classes.tolist()) <= {2, 5, 9}
    assert segmenter.score_threshold_ == 0.05
