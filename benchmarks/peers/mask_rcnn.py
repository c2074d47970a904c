"""Mask R-CNN against torchvision's: from intensities to masks of the image.

    pip install torch==2.14.1 torchvision==0.29.1
    python benchmarks/peers/mask_rcnn.py --out FOLDER

Both sides have the same weights and the same photograph (scikit-image's coffee, 400 x 600, which
both enlarge to 800 x 1200). Ours is ``predict`` of a segmenter; the peer's an eager fp32 pass of
``maskrcnn_resnet50_fpn`` in inference mode, and the masks compared with 0.5. The quality is the
mean IoU of its masks with the most alike of ours.

Weights are random, with norms that follow the image and layers of scores scaled so that there are a
hundred detections, the most it gives: published weights are not needed to measure time. They are to
compare masks in bfloat16: scores of random weights are all but equal, so that rounding decides
which hundred are given.
"""

from __future__ import annotations

import argparse

import numpy as np
import torch
from measure import Task, main
from torch import Tensor, nn

from segalgos import MaskRCNNSegmenter
from segalgos.nets.mask_rcnn import MaskRCNN
from segalgos.parallel import n_threads

PACKAGES = ("torch", "torchvision", "numpy")
MEAN, STD = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)
N_CLASSES = 90
SCALES = {
    "rpn.head.cls_logits.weight": 30.0,
    "rpn.head.bbox_pred.weight": 3.0,
    "roi_heads.box_predictor.cls_score.weight": 10.0,
    "roi_heads.mask_predictor.mask_fcn_logits.weight": 3.0,
}


def load_image(text):
    """The image and a small part of it."""
    from skimage import data

    image = data.coffee()
    return image, image[:96, :128]


def images(arguments):
    """Size -> what `load_image` understands."""
    return {"400 x 600": "coffee"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """This script has no options of its own."""


def ours() -> MaskRCNN:
    """Our network with weights drawn from a seed, and norms that know the image."""
    generator = torch.Generator().manual_seed(0)
    network = MaskRCNN(3, N_CLASSES, freeze_norms=False, generator=generator)
    image, _ = load_image("")
    values = (image.astype(np.float32) - np.float32(MEAN)) / np.float32(STD)
    x = torch.from_numpy(values.transpose(2, 0, 1))[None].contiguous()
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = None  # the plain mean of all passes
    with torch.no_grad():
        network.backbone.train()(x)
        for name, scale in SCALES.items():
            network.state_dict()[name].mul_(scale)
    return network.eval()


def reference(weights: dict[str, Tensor]) -> nn.Module:
    """The reference's network with our weights; norms that train, in evaluation."""
    from torchvision.models.detection import maskrcnn_resnet50_fpn

    network = maskrcnn_resnet50_fpn(weights=None, weights_backbone=None, num_classes=N_CLASSES + 1)
    network.load_state_dict(weights)
    return network.eval()


def prepare(image):
    """Both networks, ready to predict, and the image."""
    network = ours()
    weights = {k: v.clone() for k, v in network.state_dict().items()}
    return {
        "image": image,
        "ours": MaskRCNNSegmenter.from_trained(network, mean=MEAN, std=STD),
        "reference": reference(weights),
    }


def predict_ours(inputs):
    """Predict by a segmenter: masks by falling score."""
    return inputs["ours"].predict(inputs["image"]).masks


def predict_rounded(inputs):
    """Predict by a segmenter in bfloat16."""
    inputs["ours"].set_params(prediction_precision="bfloat16")
    return predict_ours(inputs)


def predict_reference(inputs):
    """Predict by an eager fp32 pass."""
    torch.set_num_threads(n_threads())
    x = torch.from_numpy(inputs["image"].transpose(2, 0, 1).astype(np.float32) / 255)
    with torch.inference_mode():
        (found,) = inputs["reference"]([x])
        return (found["masks"][:, 0] > 0.5).numpy()


def agreement(inputs, output):
    """Mean over the reference's masks of the IoU with the most alike of these."""
    expected = predict_reference(inputs)
    expected = expected[expected.any(axis=(1, 2))]
    best = [max((a & b).sum() / (a | b).sum() for b in output) for a in expected]
    return {"IoU": float(np.mean(best)), "masks": len(output), "expected": len(expected)}


def make_tasks() -> list[Task]:
    """Prediction of one photograph, in two precisions."""
    ours = {"": {"segalgos": predict_ours}, " in bfloat16": {"segalgos": predict_rounded}}
    return [
        Task(
            "predict maskrcnn_resnet50_fpn" + how,
            prepare,
            contenders | {"torchvision": predict_reference},
            agreement,
            goals={"torchvision": (2.0, 3.0)},
            sizes=("400 x 600",),
        )
        for how, contenders in ours.items()
    ]


if __name__ == "__main__":
    main(__file__, make_tasks(), load_image, images, PACKAGES, add_arguments)
