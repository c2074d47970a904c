"""Nets against their reference implementations: prediction of an image, and a training step.

    pip install torch==2.14.1 torchvision==0.29.1 transformers==5.23.0
    python benchmarks/peers/nets.py --out FOLDER
    SEGALGOS_DATA=DATA python benchmarks/peers/nets.py --trained RUNS --out FOLDER \\
        --tasks 'predict trained fcn_resnet50,predict trained deeplabv3_resnet50'

Both sides have the same weights and the same image of 512 x 512 pixels (scikit-image's astronaut).
Prediction is from intensities to classes: ours by ``predict`` of a segmenter, the peer's by
standardising, an eager fp32 forward pass in inference mode, interpolation and argmax. The quality
is the share of pixels whose class is that of the peer.

A training step is of four crops of 256 x 256 pixels: ours by `segalgos.training.loop.train`, the
peer's by the loop that tutorials show: forward pass, cross-entropy, ``backward``, AdamW, on
contiguous fp32 tensors, with all threads inside operations. Its quality is the loss. "Mixed
training" is ours with ``precision="bfloat16"``, against the same loop in fp32.

Weights are random, with statistics of norms that follow the image, so that activations have the
size they have in trained nets: published weights are not needed to measure time.

How classes agree in bfloat16 needs trained weights: scores of random ones are all but equal. With
``--trained``, nets are taken from the folder that ``benchmarks/training/camvid.py`` has written for
``fcn_resnet50`` and ``deeplab_resnet50``; the image is then the first of CamVid's val part, brought
to 512 x 512 pixels.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from measure import Task, main
from numpy.typing import ArrayLike
from torch import Tensor, nn

import segalgos
from segalgos import NetSegmenter, datasets
from segalgos.nets.deeplab import DeepLab
from segalgos.nets.fcn_resnet import FCNResNet
from segalgos.nets.segformer import SegFormer
from segalgos.parallel import n_threads
from segalgos.training.loop import train
from segalgos.training.losses import CrossEntropyLoss

PACKAGES = ("torch", "torchvision", "transformers", "numpy")
MEAN, STD = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)
STEPS, BATCH, CROP = 3, 4, 256

N_CLASSES = {"fcn_resnet50": 21, "deeplabv3_resnet50": 21, "segformer_b0": 150}


#: Names of `benchmarks/training/camvid.py`.
TRAINED = {"fcn_resnet50": "fcn_resnet50", "deeplabv3_resnet50": "deeplab_resnet50"}


class TrainedImage(NamedTuple):
    """An image, and the folder of nets that know what it shows."""

    image: np.ndarray
    folder: Path


def load_image(text):
    """The image and a small part of it; with a folder of nets in place of "astronaut"."""
    from skimage import data, transform

    if text == "astronaut":
        image = data.astronaut()
        return image, image[:96, :128]
    frame = datasets.load("camvid", split="val")[0].image
    image = transform.resize(frame, (512, 512), preserve_range=True).round().astype(np.uint8)
    return TrainedImage(image, Path(text)), TrainedImage(image[:96, :128], Path(text))


def images(arguments):
    """Size -> what `load_image` understands."""
    found = {"512 x 512": "astronaut"}
    return found if arguments.trained is None else found | {"CamVid": str(arguments.trained)}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of this script alone."""
    parser.add_argument("--trained", type=Path, help="folder of nets trained on CamVid")


# --- networks ----------------------------------------------------------------------------


def ours(name: str) -> nn.Module:
    """Our network with weights drawn from a seed, and norms that know the image."""
    generator = torch.Generator().manual_seed(0)
    n_classes = N_CLASSES[name]
    if name == "fcn_resnet50":
        network = FCNResNet(3, n_classes, generator=generator)
    elif name == "deeplabv3_resnet50":
        network = DeepLab(3, n_classes, version="v3", output_stride=8, generator=generator)
    else:
        network = SegFormer("b0", n_classes, generator=generator)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = None  # the plain mean of all passes
    network.train()
    with torch.no_grad():
        network(standardised(load_image("astronaut")[0])[:, :, ::2, ::2])
    return network.eval()


def reference(name: str, weights: dict[str, Tensor], n_classes: int | None = None) -> nn.Module:
    """The reference's network with our weights."""
    n_classes = n_classes or N_CLASSES[name]
    if name == "segformer_b0":
        from transformers import SegformerConfig, SegformerForSemanticSegmentation

        network = SegformerForSemanticSegmentation(SegformerConfig(num_labels=n_classes))
    else:
        import torchvision.models.segmentation as models

        network = getattr(models, name)(
            weights=None, weights_backbone=None, num_classes=n_classes, aux_loss=False
        )
    network.load_state_dict(weights)
    return network.eval()


def reference_classes(network: nn.Module, x: Tensor) -> np.ndarray:
    """Classes of a standardised image by an eager fp32 pass."""
    torch.set_num_threads(n_threads())
    with torch.inference_mode():
        return logits_of(network, x).argmax(1)[0].numpy()


def logits_of(network: nn.Module, x: Tensor) -> Tensor:
    """Logits of the size of the image, whatever holds them."""
    found = network(x)
    found = found["out"] if isinstance(found, dict) and "out" in found else found
    found = found.logits if hasattr(found, "logits") else found
    return F.interpolate(found, x.shape[2:], mode="bilinear", align_corners=False)


def standardised(image: np.ndarray, mean: ArrayLike = MEAN, std: ArrayLike = STD) -> Tensor:
    """(H, W, 3) intensities to a (1, 3, H, W) tensor."""
    values = (image.astype(np.float32) - np.float32(mean)) / np.float32(std)
    return torch.from_numpy(np.ascontiguousarray(values.transpose(2, 0, 1)))[None]


# --- prediction --------------------------------------------------------------------------


class Prediction:
    """Prediction of one network, by ours and by the reference."""

    def __init__(self, name: str):
        self.name = name

    def prepare(self, image):
        """Both networks, ready to predict, and the image."""
        network = ours(self.name)
        weights = {k: v.clone() for k, v in network.state_dict().items()}
        return {
            "image": image,
            "ours": NetSegmenter.from_trained(network, mean=MEAN, std=STD, stride=1),
            "reference": reference(self.name, weights),
        }

    def ours(self, inputs):
        """Predict by a segmenter."""
        return inputs["ours"].predict(inputs["image"])

    def reference(self, inputs):
        """Predict by an eager fp32 pass."""
        return reference_classes(inputs["reference"], standardised(inputs["image"]))

    def agreement(self, inputs, output):
        """Share of pixels with the reference's class."""
        return {"agreement": float((output == self.reference(inputs)).mean())}


class TrainedPrediction(Prediction):
    """Prediction of a trained network, ours in bfloat16."""

    def prepare(self, source):
        """Both networks, ready to predict, and the image."""
        pattern = f"{TRAINED[self.name]}-*.segalgos"
        paths = list(source.folder.glob(pattern))
        if len(paths) != 1:
            raise SystemExit(f"{source.folder} has {len(paths)} files {pattern}, expected one.")
        segmenter = segalgos.load(paths[0]).set_params(prediction_precision="bfloat16")
        weights = segmenter.network_.state_dict()
        return {
            "image": source.image,
            "ours": segmenter,
            "reference": reference(self.name, weights, len(segmenter.classes_)),
        }

    def reference(self, inputs):
        """Predict by an eager fp32 pass."""
        ours = inputs["ours"]
        x = standardised(inputs["image"], ours.mean_, ours.std_)
        return reference_classes(inputs["reference"], x)

    def exact(self, inputs):
        """Predict by a segmenter in float32."""
        return inputs["ours"].set_params(prediction_precision="float32").predict(inputs["image"])


# --- training ----------------------------------------------------------------------------


class TrainingStep:
    """Some steps of training one network, by our loop and by an ordinary one."""

    def __init__(self, name: str):
        self.name = name

    def prepare(self, image):
        """Networks in training, and crops with labels."""
        network = ours(self.name)
        weights = {k: v.clone() for k, v in network.state_dict().items()}
        rng = np.random.default_rng(0)
        side = min(CROP, *image.shape[:2])
        crops = torch.cat(
            [
                standardised(image)[:, :, r : r + side, c : c + side]
                for r, c in rng.integers(0, np.array(image.shape[:2]) - side + 1, (BATCH, 2))
            ]
        )
        labels = torch.from_numpy(rng.integers(0, N_CLASSES[self.name], (BATCH, side, side)))
        return {
            "crops": crops,
            "labels": labels,
            "ours": network.to(memory_format=network.memory_format),
            "reference": reference(self.name, weights),
        }

    def mixed(self, inputs):
        """Train by our loop in mixed precision."""
        return self.ours(inputs, "bfloat16")

    def ours(self, inputs, precision="float32"):
        """Train by our loop; the loss of the last step."""
        crops = inputs["crops"].contiguous(memory_format=inputs["ours"].memory_format)
        labels = inputs["labels"]
        halves = [slice(0, BATCH // 2), slice(BATCH // 2, BATCH)]

        def draw(rng: np.random.Generator):
            # Any half: which one is drawn changes nothing of the time.
            half = halves[rng.integers(2)]
            return crops[half], labels[half], None

        history = train(
            inputs["ours"],
            draw,
            CrossEntropyLoss(),
            steps_per_epoch=1,
            epochs=STEPS,
            n_parts=2,
            precision=precision,
            learning_rate=1e-4,
            warmup=0.0,
        )
        return history[-1]["loss"]

    def reference(self, inputs):
        """Train by an ordinary loop; the loss of the last step."""
        torch.set_num_threads(n_threads())
        network = inputs["reference"].train()
        optimizer = torch.optim.AdamW(network.parameters(), lr=1e-4, weight_decay=1e-4)
        for _ in range(STEPS):
            optimizer.zero_grad()
            loss = F.cross_entropy(logits_of(network, inputs["crops"]), inputs["labels"])
            loss.backward()
            nn.utils.clip_grad_norm_(network.parameters(), 1.0)
            optimizer.step()
        return loss.item()

    @staticmethod
    def loss(inputs, output):
        """The loss, which must be finite and about the same."""
        return {"loss": output}


def make_tasks() -> list[Task]:
    """Prediction and training of each net."""
    tasks = []
    for name in N_CLASSES:
        peer = "transformers" if name == "segformer_b0" else "torchvision"
        work = Prediction(name)
        tasks.append(
            Task(
                f"predict {name}",
                work.prepare,
                {"segalgos": work.ours, peer: work.reference},
                work.agreement,
                goals={peer: (2.0, 3.0)},
                sizes=("512 x 512",),
            )
        )
    for name in TRAINED:
        work = TrainedPrediction(name)
        tasks.append(
            Task(
                f"predict trained {name}",
                work.prepare,
                {
                    "segalgos, bfloat16": work.ours,
                    "torchvision": work.reference,
                    "segalgos, float32": work.exact,
                },
                work.agreement,
                goals={"torchvision": (2.0, 3.0)},
                sizes=("CamVid",),
            )
        )
    for name in N_CLASSES:
        peer = "transformers" if name == "segformer_b0" else "torchvision"
        step = TrainingStep(name)
        for how, train_ours in (("training", step.ours), ("mixed training", step.mixed)):
            tasks.append(
                Task(
                    f"{STEPS} steps of {how} {name}",
                    step.prepare,
                    {"segalgos": train_ours, peer: step.reference},
                    step.loss,
                    goals={peer: (1.5, 2.5)},
                    sizes=("512 x 512",),
                )
            )
    return tasks


if __name__ == "__main__":
    main(__file__, make_tasks(), load_image, images, PACKAGES, add_arguments)
