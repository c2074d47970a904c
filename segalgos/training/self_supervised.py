"""Training an encoder on images alone, by a task that the images themselves set.

It knows no architecture: an encoder is any module that gives a list of maps and tells their
`channels` and `strides`. `segalgos.nets.pretraining` makes encoders by name.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from segalgos.torch_threads import threads_per_operation
from segalgos.training.augment import Augmentation
from segalgos.training.dense_contrast import DenseContrast
from segalgos.training.loop import train
from segalgos.training.masked_images import MaskedImages
from segalgos.training.views import ViewSampler

__all__ = [
    "COLLAPSED",
    "METHODS",
    "embedding_std",
    "look_of",
    "settle_norms",
    "train_encoder",
]

METHODS: dict[str, type[nn.Module]] = {"masked": MaskedImages, "dense": DenseContrast}

# Embeddings that deviate less than this hardly differ from place to place.
COLLAPSED = 0.1
# Images that the deviation of embeddings is measured on.
N_MEASURED = 8
# Batches that running statistics of norms are taken from at the end, and views in each.
N_SETTLING = (8, 8)


def embedding_std(embeddings: Tensor) -> float:
    """Measure how much embeddings differ from place to place, whatever their length.

    Parameters
    ----------
    embeddings : (N, D, h, w) Tensor

    Returns
    -------
    float
        Standard deviation of each number of the unit vectors, their mean, times the root of D:
        1 where directions are spread evenly, 0 where all are the same: the encoder collapsed.
    """
    units = F.normalize(embeddings.float(), dim=1)
    deviations = units.transpose(0, 1).flatten(1).std(dim=1, correction=0)
    return float(deviations.mean()) * units.shape[1] ** 0.5


def look_of(augment: bool | str | Mapping[str, Any], method: str, caller: str) -> Augmentation:
    """Read how views vary.

    Parameters
    ----------
    augment : bool, str or mapping
        As in `Augmentation.of`. What the method changes comes on top of True and "upright"; what
        a mapping names has the last word.
    method : str
        One of `METHODS`.
    caller : str
        Named in errors.

    Returns
    -------
    Augmentation or None

    Raises
    ------
    TypeError, ValueError
        If it is something else.
    """
    look = Augmentation.of(augment, caller)
    if look is None:
        return None
    if isinstance(augment, Mapping):
        return replace(Augmentation(), **{**METHODS[method].look, **augment})
    return replace(look, **METHODS[method].look)


def train_encoder(
    encoder: nn.Module,
    images: Sequence[NDArray],
    method: str,
    *,
    prepare: Callable[[NDArray, int], NDArray[np.float32]],
    crop_size: int,
    batch_size: int,
    augmentation: Augmentation | None,
    memory_format: torch.memory_format = torch.contiguous_format,
    seed: int = 0,
    device: torch.device | str = "cpu",
    epochs: int | None = None,
    time_budget: float | None = None,
    checkpoint: str | os.PathLike | None = None,
    **how: Any,
) -> list[dict[str, float]]:
    """Train an encoder in place on images alone.

    Parameters
    ----------
    encoder : torch.nn.Module
        From (N, C, H, W) to a list of maps; `channels` and `strides` tell of each its channels
        and how many pixels its cells are apart; `size_step`, if it has one, what heights and
        widths of images must be multiples of. Left in evaluation mode.
    images : sequence of (H, W, C) ndarray
        Sizes may differ.
    method : {"dense", "masked"}
        See `segalgos.training.dense_contrast` and `segalgos.training.masked_images`.
    prepare : callable
        See `ViewSampler`.
    crop_size : int
        Height and width of views, rounded up to what the method takes, or those of the largest
        image if they are less.
    batch_size : int
        Images in each step, rounded up to whole parts.
    augmentation : Augmentation or None
    memory_format : torch.memory_format
        In which the encoder is fast.
    seed : int, default=0
    device : torch.device or str, default="cpu"
    epochs : int, optional
    time_budget : float, optional
        Seconds.
    checkpoint : path-like, optional
        All three as in `segalgos.training.loop.train`.
    **how
        Handed to `segalgos.training.loop.train`.

    Returns
    -------
    list of dict
        Rows of `segalgos.training.loop.train`, each with "embedding_std", see `embedding_std`.
    """
    n_channels = images[0].shape[-1]
    with torch.random.fork_rng(devices=[]):  # torch's layers draw from the caller's generator
        torch.manual_seed(seed)
        task = METHODS[method](encoder, n_channels).to(memory_format=memory_format)
    step, least = getattr(encoder, "size_step", encoder.strides[-1]), 1
    if hasattr(task, "square"):  # something must be left to see
        step, least = task.square, 2
    longest = (max(image.shape[axis] for image in images) for axis in (0, 1))
    height, width = (max(-(-min(crop_size, length) // step), least) * step for length in longest)
    sampler = ViewSampler(images, shape=(height, width), prepare=prepare, augmentation=augmentation)
    n_parts = -(-batch_size // task.images_per_part)

    def draw(rng: np.random.Generator) -> tuple[Tensor, Tensor, Tensor | None]:
        views, *target = task.draw(sampler, rng, task.images_per_part)
        views = views.contiguous(memory_format=memory_format)
        return views, target[0], target[1] if len(target) > 1 else None

    measured, *_ = task.draw(sampler, np.random.default_rng([seed, 1]), N_MEASURED)

    @torch.inference_mode()
    def measure() -> dict[str, float]:
        return {"embedding_std": embedding_std(task.embed(measured.to(device)))}

    pixels_per_step = n_parts * task.images_per_part * height * width
    n_pixels = sum(image.shape[0] * image.shape[1] for image in images)
    history = train(
        task,
        draw,
        task.loss,
        steps_per_epoch=max(1, round(n_pixels / pixels_per_step)),
        epochs=epochs,
        time_budget=time_budget,
        n_parts=n_parts,
        schedule="cosine",
        measure=measure,
        checkpoint=checkpoint,
        seed=seed,
        device=device,
        **how,
    )
    plain = ViewSampler(images, shape=(height, width), prepare=prepare)
    settle_norms(encoder, plain, memory_format=memory_format, seed=seed, device=device)
    return history


@torch.no_grad()
def settle_norms(
    encoder: nn.Module,
    sampler: ViewSampler,
    *,
    memory_format: torch.memory_format = torch.contiguous_format,
    seed: int = 0,
    device: torch.device | str = "cpu",
) -> None:
    """Take running statistics of batch normalisation from images as they are.

    In training they come from views with squares hidden or colours changed, which nobody will
    ask the encoder about.

    Parameters
    ----------
    encoder : torch.nn.Module
        On the device. Its statistics are changed; left in evaluation mode.
    sampler : ViewSampler
    memory_format : torch.memory_format
    seed : int, default=0
    device : torch.device or str, default="cpu"
    """
    norms = [m for m in encoder.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # the mean of all batches
    encoder.train()
    n_batches, n_views = N_SETTLING if norms else (0, 0)
    rng = np.random.default_rng([seed, 2])
    with threads_per_operation(1), torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)  # of dropout
        for _ in range(n_batches):
            views = torch.from_numpy(np.stack([sampler.draw(rng) for _ in range(n_views)]))
            views = views.permute(0, 3, 1, 2).contiguous(memory_format=memory_format)
            encoder(views.to(device))
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
    encoder.eval()
