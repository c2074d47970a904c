"""Write ``mask_rcnn.json``: what torchvision's Mask R-CNN and its operations give.

    pip install torch==2.14.1 torchvision==0.29.1
    python make_mask_rcnn.py

Weights and images are filled by the formula of ``make_torchvision.py``, so that the tests can make
the same ones. Layers that decide on detections are scaled, so that there are some of many sizes.
"""

import json
import runpy
from pathlib import Path

import torch

PATH = Path(__file__).with_name("mask_rcnn.json")
common = runpy.run_path(str(PATH.with_name("make_torchvision.py")))
uniform, describe, names_digest = (common[k] for k in ("uniform", "describe", "names_digest"))

SIZES = [(97, 143), (131, 65), (64, 201)]
IMAGE_SIZE = 128, 224
SCORE = 0.05
N_DETECTIONS = 8
SCALES = {
    **{f"backbone.fpn.inner_blocks.{i}.0.weight": 0.03 for i in range(4)},
    "rpn.head.cls_logits.weight": 1.0,
    "rpn.head.bbox_pred.weight": 0.3,
    "roi_heads.box_predictor.cls_score.weight": 1.0,
    "roi_heads.box_predictor.bbox_pred.weight": 1.0,
    "roi_heads.mask_predictor.mask_fcn_logits.weight": 2.0,
}

# Pooling: map, boxes and settings.
MAP_SHAPE = 2, 3, 13, 17
POOLINGS = [(7, 2, False), (7, 0, False), (3, 1, True), (14, 2, True), (2, 0, True)]
THRESHOLDS = (0.3, 0.5, 0.7)


def fill(network):
    """Give the network weights by their names."""
    common["fill"](network)
    for name, scale in SCALES.items():
        network.state_dict()[name].mul_(scale)
    return network.eval()


def image(size):
    """Make a colour image, 0 to 1."""
    return uniform(f"image {size}", (3, *size), 0, 1)


def boxes(name, n, largest):
    """Make boxes, some beyond the image, with rounded corners among them."""
    corner = uniform(f"{name} corner", (n, 2), -0.2 * largest, largest)
    size = uniform(f"{name} size", (n, 2), 0, 0.6 * largest)
    found = torch.cat([corner, corner + size], dim=1)
    found[::3] = found[::3].round()
    return found


def suppression_input():
    """Make boxes, scores with ties, and groups."""
    n = 120
    scores = (uniform("scores", (n,), 0, 1) * 20).round() / 20
    return boxes("suppressed", n, 50), scores, (uniform("groups", (n,), 0, 3)).long()


def pooling_input():
    """Make a map, boxes in pixels of an image eight times as large, and their images."""
    images = torch.arange(24) % MAP_SHAPE[0]
    return uniform("map", MAP_SHAPE, -1, 1), boxes("pooled", 24, 110), images


def build(n_classes, frozen):
    """Make the reference, with batch normalisation that is frozen or not."""
    from torchvision.models import resnet50
    from torchvision.models.detection import MaskRCNN
    from torchvision.models.detection.backbone_utils import _resnet_fpn_extractor
    from torchvision.ops.misc import FrozenBatchNorm2d

    norm = FrozenBatchNorm2d if frozen else torch.nn.BatchNorm2d
    body = resnet50(weights=None, norm_layer=norm)
    network = MaskRCNN(
        _resnet_fpn_extractor(body, 5),
        n_classes,
        min_size=IMAGE_SIZE[0],
        max_size=IMAGE_SIZE[1],
        box_score_thresh=SCORE,
    )
    return fill(network)


def run(network, size):
    """Proposals, and detections in the frame of the image."""
    x, _ = network.transform([image(size)])
    pyramid = network.backbone(x.tensors)
    (proposals,), _ = network.rpn(x, pyramid)
    raw = network.roi_heads(pyramid, [proposals], x.image_sizes)[0][0]
    (found,) = network([image(size)])
    return {
        "size": list(size),
        "n_proposals": len(proposals),
        "seen": list(x.image_sizes[0]),
        "first_proposals": [[round(v, 5) for v in box] for box in proposals[:4].tolist()],
        "mean_proposal": [round(v, 4) for v in proposals.double().mean(dim=0).tolist()],
        "n": len(found["boxes"]),
        "boxes": [[round(v, 5) for v in box] for box in found["boxes"][:N_DETECTIONS].tolist()],
        "scores": [round(v, 6) for v in found["scores"][:N_DETECTIONS].tolist()],
        "labels": found["labels"][:N_DETECTIONS].tolist(),
        "masks": [describe(mask) for mask in raw["masks"][:N_DETECTIONS, 0]],
        "areas": (found["masks"][:N_DETECTIONS, 0] > 0.5).sum(dim=(1, 2)).tolist(),
    }


@torch.inference_mode()
def main():
    """Write the file."""
    from torchvision.ops import batched_nms, nms, roi_align

    features, of_map, images = pooling_input()
    rois = torch.cat([images[:, None].float(), of_map], dim=1)
    boxes, scores, groups = suppression_input()
    networks = []
    for n_classes, frozen in ((91, True), (4, False)):
        network = build(n_classes, frozen)
        networks.append(
            {
                "n_classes": n_classes,
                "frozen": frozen,
                "n_names": len(network.state_dict()),
                "names_digest": names_digest(network),
                "images": [run(network, size) for size in SIZES],
            }
        )
    content = {
        "roi_align": [
            describe(roi_align(features, rois, size, 1 / 8, n if n else -1, aligned))
            for size, n, aligned in POOLINGS
        ],
        "nms": [nms(boxes, scores, t).tolist() for t in THRESHOLDS],
        "batched_nms": [batched_nms(boxes, scores, groups, t).tolist() for t in THRESHOLDS],
        "networks": networks,
    }
    PATH.write_text(json.dumps(content, indent=1) + "\n")


if __name__ == "__main__":
    main()
