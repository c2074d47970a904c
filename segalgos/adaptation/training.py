"""Training on two domains: labelled crops of the source beside crops of the target.

A method gives a module that sees both, how to draw a part of a batch, and its loss; the
steps are those of `segalgos.training.loop.train`.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.utils import check_random_state
from torch import Tensor, nn

from segalgos import checks
from segalgos.adaptation.domains import Domains
from segalgos.adaptation.fitted import weights_digest
from segalgos.nets.prediction import to_tensor
from segalgos.nets.semantic import SemanticNetSegmenter
from segalgos.nets.stages import freeze_stages
from segalgos.training.augment import Augmentation, CropSampler
from segalgos.training.loop import train
from segalgos.training.losses import AuxiliaryLoss, make_loss

__all__ = [
    "BothDomains",
    "Training",
    "TwoDomainRun",
    "crop_sampler",
    "keep_statistics",
    "main_scores",
]


@dataclass(frozen=True)
class Training:
    """How long a method trains, from which random numbers, and what it tells of it.

    Parameters
    ----------
    epochs : int or None
        Times that training sees as many pixels as the target has.
    time_budget : float or None
        Seconds.
    learning_rate : float or None
        None: a tenth of the segmenter's.
    random_state : int, RandomState or None
    checkpoint : path-like or None
    on_epoch_end : callable or None
    verbose : bool
    """

    epochs: int | None = 20
    time_budget: float | None = None
    learning_rate: float | None = None
    random_state: Any = None
    checkpoint: str | os.PathLike | None = None
    on_epoch_end: Callable[[dict[str, float]], None] | None = None
    verbose: bool = False

    def check(self) -> None:
        """Raise on a value that is none of these.

        Raises
        ------
        TypeError, ValueError
        """
        if self.epochs is None and self.time_budget is None:
            raise ValueError("adapt: epochs and time_budget are both None: give at least one.")
        if self.epochs is not None:
            checks.check_int("adapt", "epochs", self.epochs, low=1)
        if self.time_budget is not None:
            checks.check_real("adapt", "time_budget", self.time_budget, above=0)
        if self.learning_rate is not None:
            checks.check_real("adapt", "learning_rate", self.learning_rate, above=0)
        if not isinstance(self.checkpoint, str | os.PathLike | None):
            raise TypeError(f"adapt: checkpoint is {self.checkpoint!r}, expected a path.")
        if self.on_epoch_end is not None and not callable(self.on_epoch_end):
            raise TypeError(f"adapt: on_epoch_end is {self.on_epoch_end!r}, expected a function.")
        checks.check_bool("adapt", "verbose", self.verbose)


def crop_sampler(
    segmenter: SemanticNetSegmenter,
    network: nn.Module,
    images: Sequence[NDArray],
    labels: Sequence[NDArray[np.int32]] | None = None,
    *,
    shape: tuple[int, int] | None = None,
    augmentation: Augmentation | None = None,
    seed: int,
) -> CropSampler:
    """Make what draws crops, standardised and of a size that suits the network.

    Parameters
    ----------
    segmenter : SemanticNetSegmenter
        Tells the size of crops and how images are standardised.
    network : torch.nn.Module
    images : sequence of (H, W, C) ndarray
    labels : sequence of (H, W) int32, optional
        Zeros if left out: crops then lie anywhere.
    shape : tuple of int, optional
        Of the labels of a crop.
    augmentation : Augmentation, optional
    seed : int

    Returns
    -------
    CropSampler
        Labels of its crops have the size of the images, margins of the network included.
    """
    if labels is None:
        labels = [np.zeros(image.shape[:2], np.int32) for image in images]
    height, width = shape or segmenter._crop_shape(network, images)
    standardisers = [segmenter._standardiser(image) for image in images]
    return CropSampler(
        images,
        labels,
        shape=(height + 2 * network.margin, width + 2 * network.margin),
        prepare=lambda window, i: standardisers[i](window),
        augmentation=augmentation,
        random_state=np.random.default_rng(seed),
    )


@contextmanager
def keep_statistics(network: nn.Module) -> Iterator[None]:
    """Let batch statistics of what goes through the network leave no trace in a ``with`` block.

    Parameters
    ----------
    network : torch.nn.Module

    Yields
    ------
    None
    """
    norms = [m for m in network.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    before = [norm.momentum for norm in norms]
    for norm in norms:
        norm.momentum = 0.0
    try:
        yield
    finally:
        for norm, momentum in zip(norms, before):
            norm.momentum = momentum


class BothDomains(nn.Module):
    """A network that crops of the source and of the target go through one after the other.

    Parameters
    ----------
    network : torch.nn.Module
    n_source : int
        The first so many crops are of the source.

    Notes
    -----
    Batch statistics are those of each domain alone; running ones follow the target, which is
    what the network is for.
    """

    def __init__(self, network: nn.Module, n_source: int):
        super().__init__()
        self.network = network
        self.n_source = n_source

    def forward(self, images: Tensor) -> tuple[Any, Tensor]:
        """Compute class scores.

        Parameters
        ----------
        images : (N, C, H, W) Tensor

        Returns
        -------
        source
            What the network gives in training: with an auxiliary head, two tensors.
        target : (M, K, h, w) Tensor
        """
        with keep_statistics(self.network):
            source = self.network(images[: self.n_source])
        return source, main_scores(self.network(images[self.n_source :]))


def main_scores(output: Tensor | tuple[Tensor, ...]) -> Tensor:
    """Take the scores of a network's own head, whether or not there is an auxiliary one.

    Parameters
    ----------
    output : Tensor or tuple of Tensor
        What the network gives.

    Returns
    -------
    (N, K, H, W) Tensor
    """
    return output[0] if isinstance(output, tuple) else output


class TwoDomainRun:
    """A network on its way from one domain to the other.

    Parameters
    ----------
    segmenter : SemanticNetSegmenter
        Fitted.
    network : torch.nn.Module
        Copy of its network. Changed in place.
    domains : Domains
        With labelled images of the source.
    training : Training
    method : str
        With its options, told apart in checkpoints.

    Attributes
    ----------
    n_source : int
        Crops of each domain in a part of a batch.
    source_loss : torch.nn.Module
        The segmenter's loss, with its class weights.
    """

    def __init__(
        self,
        segmenter: SemanticNetSegmenter,
        network: nn.Module,
        domains: Domains,
        training: Training,
        method: str,
    ):
        self.segmenter = segmenter
        self.network = network
        self.domains = domains
        self.training = training
        self.method = method
        if segmenter.frozen_stages:
            freeze_stages(network, segmenter.frozen_stages)
        self.n_source, self.n_parts = segmenter._parts(network)
        self.seed = int(check_random_state(training.random_state).randint(2**31 - 1))
        self.shape = segmenter._crop_shape(network, [*domains.source, *domains.target])
        look = Augmentation.of(segmenter.augment, "adapt")
        self.source_crops = self._sampler(domains.source, domains.labels, look)
        self.target_crops = self._sampler(domains.target, None, look)
        loss = make_loss(segmenter.loss, segmenter._class_weights(domains.labels))
        self.source_loss = AuxiliaryLoss(loss).to(segmenter._device())
        # Before training changes the weights: a run that is resumed must find the same.
        self.identity = "" if training.checkpoint is None else self._identity()

    def _sampler(self, images: list, labels: list | None, look: Augmentation | None) -> CropSampler:
        return crop_sampler(
            self.segmenter,
            self.network,
            images,
            labels,
            shape=self.shape,
            augmentation=look,
            seed=self.seed,
        )

    def draw_source(self, rng: np.random.Generator) -> tuple[NDArray, NDArray]:
        """Draw crops of the source for one part of a batch.

        Parameters
        ----------
        rng : numpy.random.Generator

        Returns
        -------
        images : (n_source, h, w, C) float32
        labels : (n_source, h, w) int32
            With the margins of the network.
        """
        crops = [self.source_crops.draw(rng) for _ in range(self.n_source)]
        return np.stack([crop[0] for crop in crops]), np.stack([crop[1] for crop in crops])

    def draw_target(self, rng: np.random.Generator) -> tuple[NDArray, NDArray]:
        """Draw crops of the target for one part of a batch.

        Parameters
        ----------
        rng : numpy.random.Generator

        Returns
        -------
        images : (n_source, h, w, C) float32
        known : (n_source, h, w) int32
            0, and -1 beyond the border of an image.
        """
        crops = [self.target_crops.draw(rng) for _ in range(self.n_source)]
        return np.stack([crop[0] for crop in crops]), np.stack([crop[1] for crop in crops])

    def draw_both(self, rng: np.random.Generator) -> tuple[Tensor, Tensor, None]:
        """Draw a part of a batch: crops of the source, then as many of the target.

        Parameters
        ----------
        rng : numpy.random.Generator

        Returns
        -------
        images : (2 n_source, C, h, w) Tensor
        labels : (n_source, h, w) Tensor
            Of the source.
        weights : None
        """
        source, labels = self.draw_source(rng)
        target, _ = self.draw_target(rng)
        return self.images(source, target), self.labels(labels), None

    def images(self, *crops: NDArray) -> Tensor:
        """Put crops together as the network takes them.

        Parameters
        ----------
        *crops : (n, h, w, C) float32

        Returns
        -------
        (N, C, h, w) Tensor
        """
        x = to_tensor(np.concatenate(crops))
        return x.contiguous(memory_format=self.network.memory_format)

    def labels(self, labels: NDArray) -> Tensor:
        """Cut the margins of the network off labels, or anything else of pixels.

        Parameters
        ----------
        labels : (n, h, w) ndarray

        Returns
        -------
        (n, h', w') Tensor
        """
        margin = self.network.margin
        inside = slice(margin, labels.shape[1] - margin), slice(margin, labels.shape[2] - margin)
        return torch.from_numpy(np.ascontiguousarray(labels[:, inside[0], inside[1]]))

    def train(
        self,
        module: nn.Module,
        draw: Callable,
        loss: Callable,
        *,
        ema_decay: float | None,
        on_step_end: Callable[[], None] | None = None,
    ) -> list[dict[str, float]]:
        """Train a module that holds the network.

        Parameters
        ----------
        module : torch.nn.Module
        draw, loss : callable
            As `segalgos.training.loop.train` takes them.
        ema_decay : float or None
        on_step_end : callable, optional

        Returns
        -------
        list of dict
            One row an epoch.
        """
        segmenter, how = self.segmenter, self.training
        height, width = self.shape
        pixels_per_step = self.n_parts * self.n_source * height * width
        n_pixels = sum(image.shape[0] * image.shape[1] for image in self.domains.target)
        rate = how.learning_rate
        return train(
            module,
            draw,
            loss,
            steps_per_epoch=max(1, round(n_pixels / pixels_per_step)),
            epochs=how.epochs,
            time_budget=how.time_budget,
            n_parts=self.n_parts,
            precision=segmenter.precision,
            optimizer=segmenter.optimizer,
            learning_rate=segmenter.learning_rate / 10 if rate is None else rate,
            weight_decay=segmenter.weight_decay,
            schedule=segmenter.schedule,
            ema_decay=ema_decay,
            on_step_end=on_step_end,
            on_epoch_end=how.on_epoch_end,
            checkpoint=how.checkpoint,
            identity=self.identity,
            seed=self.seed,
            device=segmenter._device(),
            verbose=bool(how.verbose),
        )

    def _identity(self) -> str:
        """Digest of everything that decides what adaptation gives."""
        both = self.domains
        own = self.segmenter._identity(both.source, both.labels, both.target)
        how = (self.training.epochs, self.training.time_budget, self.training.learning_rate)
        text = f"{own} {self.method} {how} {self.seed}".encode()
        return hashlib.sha256(text + weights_digest(self.network)).hexdigest()
