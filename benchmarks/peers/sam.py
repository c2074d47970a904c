"""SAM against transformers': embedding an image, and a click after that.

    pip install torch==2.14.1 transformers==5.23.0
    python benchmarks/peers/sam.py --out FOLDER

Both sides have the same random weights and the same image of 1024 x 1024 pixels (scikit-image's
astronaut, enlarged), standardised beforehand. Embedding is one pass of the image encoder: ours as
`SAMSegmenter` runs it, the peer's an eager fp32 forward pass in inference mode, once with the
attention that it takes by default and once with ``attn_implementation="eager"``. A click is one
point, from its place to three masks of the image's size and their IoUs.

The quality of an embedding is the IoU of the masks that the peer's decoder makes of it with those
of the peer's own embedding, averaged over 64 clicks on a grid; that of a click is the IoU of its
masks with the peer's. Weights are random, with the variance that trained ones keep, and with
relative positions that matter, since published weights are not needed to measure time.
"""

from __future__ import annotations

import argparse

import numpy as np
import torch
import torch.nn.functional as F
from measure import Task, main
from torch import Tensor

from segalgos import Prompts
from segalgos.nets.sam import SAM
from segalgos.nets.sam.backends import NetworkBackend
from segalgos.nets.sam.embedded import EmbeddedImage, Habits
from segalgos.nets.sam.frame import Frame
from segalgos.parallel import n_threads

PACKAGES = ("torch", "transformers", "numpy")
SIDE = 1024
CLICKS_PER_SIDE = 8
CLICK = (400.0, 500.0)  # row, column

CONFIGURATIONS = {
    "vit_b": {},
    "vit_l": {
        "hidden_size": 1024,
        "num_hidden_layers": 24,
        "num_attention_heads": 16,
        "global_attn_indexes": [5, 11, 17, 23],
    },
}


def load_image(text):
    """The image, and again: the network sees one size only."""
    from skimage import data

    image = data.astronaut().repeat(2, axis=0).repeat(2, axis=1)
    return image, image


def images(arguments):
    """Size -> what `load_image` understands."""
    return {"1024 x 1024": "astronaut"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """This script has no options of its own."""


# --- networks ----------------------------------------------------------------------------


def reference(variant: str, attention: str = "sdpa"):
    """Transformers' network, with weights drawn from a seed."""
    from transformers import SamConfig, SamModel

    config = SamConfig(vision_config=CONFIGURATIONS[variant], attn_implementation=attention)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = SamModel(config).eval()
        generator = torch.Generator().manual_seed(0)
        for name, weight in network.named_parameters():
            if name.endswith(("rel_pos_h", "rel_pos_w", "pos_embed")):
                torch.nn.init.normal_(weight, std=0.1, generator=generator)
            elif weight.ndim > 1:
                std = 1.0 if "embed" in name or "token" in name else weight[0].numel() ** -0.5
                torch.nn.init.normal_(weight, std=std, generator=generator)
    return network


def ours(network) -> SAM:
    """Our network with the same weights."""
    return SAM.from_checkpoint(network.state_dict())


def frame_of(image: np.ndarray) -> Tensor:
    """(1024, 1024, 3) intensities to a standardised (1, 3, 1024, 1024) tensor."""
    values = (image.astype(np.float32) - np.float32(SAM.pixel_mean)) / np.float32(SAM.pixel_std)
    return torch.from_numpy(np.ascontiguousarray(values.transpose(2, 0, 1)))[None]


def masks_of(network, embedding: Tensor, points: Tensor) -> Tensor:
    """Masks (P, 3, 256, 256) of the reference's decoder for points (P, 2) in x, y."""
    with torch.inference_mode():
        found = network(image_embeddings=embedding, input_points=points[None, :, None])
    return found.pred_masks[0] > 0


def mean_iou(found: Tensor, expected: Tensor) -> float:
    """IoU of masks, averaged over those that are not empty."""
    shared = (found & expected).flatten(-2).sum(-1).double()
    union = (found | expected).flatten(-2).sum(-1).double()
    return float((shared[union > 0] / union[union > 0]).mean())


# --- the image ---------------------------------------------------------------------------


class Embedding:
    """Embedding of an image by one network, by ours and by the reference."""

    def __init__(self, variant: str):
        self.variant = variant

    def prepare(self, image):
        """All networks and the image, in the frame."""
        network = reference(self.variant)
        return {
            "image": torch.from_numpy(image).permute(2, 0, 1)[None].float(),
            "frame": frame_of(image),
            "ours": NetworkBackend(ours(network)),
            "bfloat16": NetworkBackend(ours(network), precision="bfloat16"),
            "reference": network,
            "eager": reference(self.variant, "eager"),
        }

    def ours(self, inputs, name="ours"):
        """Embed as `SAMSegmenter` does."""
        with torch.inference_mode():
            return inputs[name].encode(inputs["image"])

    def bfloat16(self, inputs):
        """Embed as `SAMSegmenter` does with ``precision="bfloat16"``."""
        return self.ours(inputs, "bfloat16")

    def reference(self, inputs, name="reference"):
        """Embed by a forward pass."""
        torch.set_num_threads(n_threads())
        with torch.inference_mode():
            return inputs[name].get_image_embeddings(inputs["frame"])

    def eager(self, inputs):
        """Embed by a forward pass that holds all products of queries and keys."""
        return self.reference(inputs, "eager")

    def agreement(self, inputs, output):
        """IoU of masks that are made of the embedding with those of the reference's own."""
        steps = (torch.arange(CLICKS_PER_SIDE) + 0.5) / CLICKS_PER_SIDE * SIDE
        points = torch.cartesian_prod(steps, steps)
        expected = masks_of(inputs["reference"], self.reference(inputs), points)
        found = masks_of(inputs["reference"], output, points)
        return {"mask IoU": mean_iou(found, expected)}


# --- a click -----------------------------------------------------------------------------


class Click:
    """A click on an image that was embedded before."""

    def prepare(self, image):
        """Both networks, and the embedding."""
        network = reference("vit_b")
        with torch.inference_mode():
            embedding = network.get_image_embeddings(frame_of(image))
        backend = NetworkBackend(ours(network))
        frame = Frame(image.shape[:2], SIDE, backend.mask_size)
        return {
            "embedding": embedding,
            "ours": EmbeddedImage(backend, frame, embedding, Habits()),
            "reference": network,
        }

    def ours(self, inputs):
        """Three masks of the image's size, in order of their expected IoU."""
        return inputs["ours"].candidates(Prompts(points=[CLICK])).instances.masks

    def reference(self, inputs):
        """The same by transformers, whose postprocessing enlarges masks alike."""
        torch.set_num_threads(n_threads())
        points = torch.tensor([CLICK[::-1]])[None, None]
        with torch.inference_mode():
            found = inputs["reference"](image_embeddings=inputs["embedding"], input_points=points)
            large = F.interpolate(found.pred_masks[0], (SIDE, SIDE), mode="bilinear")
            order = found.iou_scores[0, 0].argsort(descending=True)
            return (large[0, order] > 0).numpy()

    def agreement(self, inputs, output):
        """IoU with the reference's masks."""
        found, expected = (torch.from_numpy(x) for x in (output, self.reference(inputs)))
        return {"mask IoU": mean_iou(found, expected)}


def make_tasks() -> list[Task]:
    """Embedding by ViT-B and ViT-L, and a click."""
    tasks = []
    for variant in CONFIGURATIONS:
        work = Embedding(variant)
        tasks.append(
            Task(
                f"embed {variant}",
                work.prepare,
                {
                    "segalgos": work.ours,
                    "segalgos, bfloat16": work.bfloat16,
                    "transformers": work.reference,
                    "transformers eager": work.eager,
                },
                work.agreement,
                goals={"transformers eager": (2.0, 3.0), "transformers": (1.0, 2.0)},
                sizes=("1024 x 1024",),
            )
        )
    click = Click()
    tasks.append(
        Task(
            "click vit_b",
            click.prepare,
            {"segalgos": click.ours, "transformers": click.reference},
            click.agreement,
            goals={"transformers": (1.0, 2.0)},
            sizes=("1024 x 1024",),
        )
    )
    return tasks


if __name__ == "__main__":
    main(__file__, make_tasks(), load_image, images, PACKAGES, add_arguments)
