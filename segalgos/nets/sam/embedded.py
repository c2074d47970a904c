"""An image that SAM has seen once, and can be asked about by any number of prompts."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from segalgos import checks
from segalgos.nets.sam.backends import THREADS, Backend, with_filler
from segalgos.nets.sam.frame import Frame
from segalgos.nets.sam.objects import PromptedObject, objects_of
from segalgos.results import Instances, Prompts
from segalgos.torch_threads import threads_per_operation

__all__ = ["Candidates", "EmbeddedImage", "Habits", "embed_image"]


@dataclass(frozen=True)
class Habits:
    """How an `EmbeddedImage` answers.

    Parameters
    ----------
    multimask : bool or "auto", default="auto"
        As in `SAMSegmenter`.
    n_refinements : int, default=0
        As in `SAMSegmenter`.
    output : {"labels", "instances"}, default="labels"
        As in `SAMSegmenter`.
    caller : str, default="SAMSegmenter"
        For messages.
    """

    multimask: bool | str = "auto"
    n_refinements: int = 0
    output: str = "labels"
    caller: str = "SAMSegmenter"


@dataclass(frozen=True, eq=False)
class Candidates:
    """Several masks for one prompt, the likeliest first.

    Parameters
    ----------
    instances : Instances
        M masks of the image's size; scores are the IoUs that the network expects.
    low_res : (M, s, s) float32
        Their logits as the network gives them; one of them may be handed back to
        `EmbeddedImage.candidates` to be refined.
    """

    instances: Instances
    low_res: NDArray[np.float32]


@contextmanager
def _asking() -> Iterator[None]:
    """Without gradients, and by a number of threads that is the same on any machine."""
    with threads_per_operation(THREADS), torch.inference_mode():
        yield


class EmbeddedImage:
    """An image that the image encoder has seen; prompts then cost the mask decoder alone.

    Made by `SAMSegmenter.embed`.

    Parameters
    ----------
    backend : Backend
        What runs the network.
    frame : Frame
        Where the image lies in what the network sees.
    embedding : object
        What `backend` made of the image.
    habits : Habits

    Attributes
    ----------
    shape : tuple of int
        Height and width of the image.

    See Also
    --------
    segalgos.SAMSegmenter.embed : Makes one.
    """

    def __init__(self, backend: Backend, frame: Frame, embedding: Any, habits: Habits):
        self.frame = frame
        self._backend = backend
        self._embedding = embedding
        self._habits = habits

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width of the image."""
        return self.frame.shape

    def predict(self, prompts: Prompts) -> NDArray[np.int32] | Instances:
        """Segment what is pointed at, as `SAMSegmenter.predict` does.

        Parameters
        ----------
        prompts : Prompts

        Returns
        -------
        (H, W) int32 or Instances

        Raises
        ------
        ValueError
            If prompts lie outside the image, or it is not clear what they belong to.
        """
        prompts = checks.check_prompts(prompts, self.shape, self._habits.caller)
        objects = objects_of(prompts, self._habits.caller)
        with _asking():
            found = [self._best_mask(one) for one in objects]
            if self._habits.output == "labels":
                return self._label_map([one.label for one in objects], [m for m, _ in found])
            masks = [self.frame.to_image(m[None])[0] > 0 for m, _ in found]
        masks = np.stack(masks) if masks else np.zeros((0, *self.shape), bool)
        return Instances(masks, [iou for _, iou in found], [one.label for one in objects])

    def candidates(
        self, prompts: Prompts, *, low_res: NDArray[np.float32] | None = None
    ) -> Candidates:
        """Predict several masks of one object, for a person to choose from.

        Parameters
        ----------
        prompts : Prompts
            For one object.
        low_res : (s, s) float32, optional
            Logits of an earlier mask of it, to be refined: one of `Candidates`.

        Returns
        -------
        Candidates
            Three for what was trained to answer ambiguous prompts.

        Raises
        ------
        ValueError
            If prompts are for no object or for several.
        """
        caller = f"{self._habits.caller}.candidates"
        prompts = checks.check_prompts(prompts, self.shape, caller)
        objects = objects_of(prompts, caller)
        if len(objects) != 1:
            raise ValueError(
                f"{caller}: prompts point at {len(objects)} objects, expected one: pass for "
                "instance Prompts(points=[[row, column]])."
            )
        side = self.frame.mask_side
        if low_res is not None:
            low_res = np.asarray(low_res, np.float32)
            if low_res.shape != (side, side) or not np.isfinite(low_res).all():
                raise ValueError(
                    f"{caller}: low_res has shape {low_res.shape}, expected finite logits "
                    f"({side}, {side}): pass one of those that candidates gave."
                )
            low_res = torch.from_numpy(low_res)[None, None]
        with _asking():
            logits, ious = self._decode(objects[0], low_res)
            if len(logits) > 1:
                logits, ious = logits[1:], ious[1:]
            order = torch.argsort(ious, descending=True, stable=True)
            logits, ious = logits[order], ious[order]
            masks = self.frame.to_image(logits) > 0
            # Clones, since tensors of the inference mode lend their memory to no one.
            return Candidates(
                Instances(masks.numpy(), ious.numpy(), np.ones(len(ious), np.int32)),
                logits.numpy().copy(),
            )

    def click_each(self, points: NDArray[np.float64]) -> tuple[Tensor, Tensor]:
        """Predict all masks of many clicks, each of another object.

        Parameters
        ----------
        points : (P, 2) float
            Row and column.

        Returns
        -------
        logits : (P, M, s, s) Tensor
            For `Frame.to_image`; M is 3, or 1 where the network was exported with one.
        ious : (P, M) Tensor
        """
        with _asking():
            x = torch.from_numpy(self.frame.points(points))[:, None]
            x, labels = with_filler(x, torch.ones(len(points), 1))
            logits, ious = self._backend.decode(self._embedding, x, labels, None)
        return (logits[:, 1:], ious[:, 1:]) if logits.shape[1] > 1 else (logits, ious)

    def _decode(self, one: PromptedObject, low_res: Tensor | None) -> tuple[Tensor, Tensor]:
        """All masks of one object, (M, s, s), and their expected IoUs, (M,)."""
        points = torch.from_numpy(self.frame.points(one.points))[None]
        labels = torch.from_numpy(one.point_labels)[None]
        if not one.has_box:
            points, labels = with_filler(points, labels)
        if low_res is None and one.mask is not None:
            low_res = self.frame.logits_of(one.mask)
        logits, ious = self._backend.decode(self._embedding, points, labels, low_res)
        return logits[0], ious[0]

    def _best_mask(self, one: PromptedObject) -> tuple[Tensor, float]:
        """The mask that is expected to be best, refined: its logits (s, s) and IoU."""
        several = one.ambiguous if self._habits.multimask == "auto" else self._habits.multimask
        logits, ious = self._decode(one, None)
        best = 1 + int(ious[1:].argmax()) if several and len(ious) > 1 else 0
        for _ in range(self._habits.n_refinements):
            logits, ious = self._decode(one, logits[best][None, None])
            best = 0
        return logits[best], float(ious[best])

    def _label_map(self, labels: list[int], logits: list[Tensor]) -> NDArray[np.int32]:
        """Paint the objects; where they overlap the larger logit is on top."""
        painted = np.zeros(self.shape, np.int32)
        highest = np.zeros(self.shape, np.float32)
        for label, one in zip(labels, logits):
            score = self.frame.to_image(one[None])[0].numpy()
            on_top = score > highest
            painted[on_top] = label
            np.copyto(highest, score, where=on_top)
        return painted


def embed_image(backend: Backend, image: NDArray) -> tuple[Frame, Any]:
    """Let the image encoder see an image.

    Parameters
    ----------
    backend : Backend
    image : (H, W, 3) uint8 or float32
        RGB from 0 to 255.

    Returns
    -------
    frame : Frame
    embedding : object
    """
    frame = Frame(image.shape[:2], backend.image_size, backend.mask_size)
    with _asking():
        return frame, backend.encode(frame.resize(image))
