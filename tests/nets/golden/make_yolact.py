"""Write ``yolact.json``: what the authors' YOLACT computes from weights given by a formula.

    git clone https://github.com/dbolya/yolact
    pip install torch opencv-python pycocotools
    python make_yolact.py yolact

Weights and images are filled by the formula of ``make_torchvision.py``, so that the tests can make
the same ones. Layers that decide on detections are scaled, so that there are some of many sizes.
"""

import json
import runpy
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import torch
import torch.nn.functional as F

PATH = Path(__file__).with_name("yolact.json")
common = runpy.run_path(str(PATH.with_name("make_torchvision.py")))
uniform, describe, names_digest = (common[k] for k in ("uniform", "describe", "names_digest"))

N_CLASSES = 4
SIZES = [(97, 143), (131, 65), (64, 201)]  # of what the network sees
# An image, and the side of the square that the network sees.
SQUARES = [((83, 120), 97), ((101, 57), 130), ((64, 64), 161)]
N_DETECTIONS = 8
SCALES = {
    **{f"fpn.lat_layers.{i}.weight": 0.03 for i in range(3)},
    "prediction_layers.0.conf_layer.weight": 0.5,
    "prediction_layers.0.bbox_layer.weight": 0.5,
    "prediction_layers.0.mask_layer.weight": 0.2,
    "semantic_seg_conv.weight": 0.2,
    "proto_net.10.weight": 0.2,
}

# A batch to learn from: row0, col0, row1, col1 and class of the ellipses in each image.
BATCH_SIDE = 150
OBJECTS = [
    [(3, 11, 40, 38, 0), (52, 60, 131, 147, 2), (20, 95, 29, 101, 3), (60, 66, 90, 119, 2)],
    [(101, 4, 149, 61, 1)],
]


def weights_of(state_dict):
    """Make weights of these names, of the reference, and shapes."""
    weights = {name: torch.empty_like(tensor) for name, tensor in state_dict.items()}
    common["fill"](SimpleNamespace(state_dict=lambda: weights, eval=lambda: None))
    for name, scale in SCALES.items():
        weights[name].mul_(scale)
    return weights


def standard_image(size):
    """Make what a network sees."""
    return uniform(f"image {size}", (1, 3, *size), -2, 2)


def image(size):
    """Make a colour image, 0 to 255."""
    return uniform(f"picture {size}", (1, 3, *size), 0, 255)


def batch():
    """Make images to learn from, and the boxes, classes and masks in each."""
    images = uniform("batch", (len(OBJECTS), 3, BATCH_SIDE, BATCH_SIDE), -2, 2)
    grid = np.arange(BATCH_SIDE) + 0.5
    objects = []
    for of_image in OBJECTS:
        masks = []
        for row0, col0, row1, col1, _ in of_image:
            y = (grid - (row0 + row1) / 2) / ((row1 - row0) / 2)
            x = (grid - (col0 + col1) / 2) / ((col1 - col0) / 2)
            masks.append(y[:, None] ** 2 + x**2 < 1)
        rows = np.array(of_image)
        objects.append((rows[:, :4], rows[:, 4], np.stack(masks)))
    return images, objects


def load(path):
    """Import the reference, without CUDA and without the compiler of its modules."""
    torch.cuda.current_device = lambda: 0
    torch.cuda.device_count = lambda: 2
    sys.path.insert(0, path)
    import data
    import yolact
    from layers import box_utils, output_utils
    from layers.modules import MultiBoxLoss

    return SimpleNamespace(
        cfg=data.cfg, set_cfg=data.set_cfg, MEANS=data.MEANS, STD=data.STD, Yolact=yolact.Yolact,
        crop=box_utils.crop, decode=box_utils.decode, postprocess=output_utils.postprocess,
        MultiBoxLoss=MultiBoxLoss,
    )  # fmt: skip


def names(reference, config):
    """Names and shapes of a published network."""
    reference.set_cfg(config)
    network = reference.Yolact()
    return {"n_names": len(network.state_dict()), "names_digest": names_digest(network)}


def raw(network, size):
    """What is said of all anchors, as the losses take it."""
    network.train()
    network.freeze_bn()
    found = network(standard_image(size))
    found["proto"], found["segm"] = found["proto"].permute(0, 3, 1, 2), found["segm"]
    outputs = {name: describe(found[name]) for name in ("loc", "conf", "mask", "proto", "segm")}
    return {"size": list(size), **outputs}


def detect(reference, network, size, side):
    """Detections, masks before and behind their interpolation."""
    reference.cfg.max_size = side
    network.eval()
    x = F.interpolate(image(size), (side, side), mode="bilinear", align_corners=False)
    of_channels = (reference.MEANS, reference.STD)  # blue first
    mean, std = (torch.tensor(values[::-1])[:, None, None] for values in of_channels)
    x = (x - mean) / std
    most, reference.cfg.max_num_detections = reference.cfg.max_num_detections, 10**6
    n_without_limit = len(network(x)[0]["detection"]["box"])
    reference.cfg.max_num_detections = most
    (found,) = network(x)
    one = found["detection"]
    boxes, coefficients = one["box"].clone(), one["mask"].clone()
    masks = reference.crop((one["proto"] @ coefficients.T).sigmoid(), boxes).permute(2, 0, 1)
    _, _, _, drawn = reference.postprocess([found], size[1], size[0])
    return {
        "size": list(size),
        "side": side,
        "n_without_limit": n_without_limit,
        "n": len(boxes),
        "boxes": [[round(v, 5) for v in box] for box in (boxes * side)[:N_DETECTIONS].tolist()],
        "scores": [round(v, 6) for v in one["score"].tolist()],
        "classes": one["class"].tolist(),
        "masks": [describe(mask) for mask in masks[:N_DETECTIONS]],
        "areas": drawn.sum(dim=(1, 2)).int().tolist(),
    }


def learn(reference, network):
    """Losses of a batch."""
    cfg = reference.cfg
    cfg.max_size = BATCH_SIDE
    network.train()
    network.freeze_bn()
    images, objects = batch()
    targets = [
        torch.tensor(np.column_stack([boxes[:, [1, 0, 3, 2]] / BATCH_SIDE, classes])).float()
        for boxes, classes, _ in objects
    ]
    masks = [torch.tensor(masks).float() for *_, masks in objects]
    criterion = reference.MultiBoxLoss(
        num_classes=cfg.num_classes,
        pos_threshold=cfg.positive_iou_threshold,
        neg_threshold=cfg.negative_iou_threshold,
        negpos_ratio=cfg.ohem_negpos_ratio,
    )
    losses = criterion(network, network(images), targets, masks, [0] * len(objects))
    return {name: round(loss.item(), 5) for name, loss in losses.items()}


def main(path):
    """Write the file."""
    reference = load(path)
    content = {
        "names": {
            backbone: names(reference, f"yolact_{config}_config")
            for backbone, config in (("resnet101", "base"), ("resnet50", "resnet50"))
        }
    }
    reference.cfg.num_classes = N_CLASSES + 1
    network = reference.Yolact()
    network.load_state_dict(weights_of(network.state_dict()))
    network.detect.use_fast_nms = True
    with torch.no_grad():
        content["raw"] = [raw(network, size) for size in SIZES]
        content["detections"] = [detect(reference, network, *one) for one in SQUARES]
        content["losses"] = learn(reference, network)
    PATH.write_text(json.dumps(content, indent=1) + "\n")


if __name__ == "__main__":
    main(sys.argv[1])
