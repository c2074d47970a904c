"""Self-training: a network learns from what its own running average finds in the target."""

from __future__ import annotations

import copy
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from segalgos.adaptation.batch_norm import estimate_statistics
from segalgos.adaptation.domains import Domains
from segalgos.adaptation.fitted import copy_network, with_network
from segalgos.adaptation.training import (
    Training,
    TwoDomainRun,
    keep_statistics,
    main_scores,
)
from segalgos.checks import check_real
from segalgos.nets.semantic import SemanticNetSegmenter
from segalgos.training.augment import Augmentation, relight

__all__ = ["StudentAndTeacher", "adapt_self_training", "pick_classes"]

#: Stands for the teacher's label, where a mixed image shows the target.
BY_TEACHER = -2
#: How the light of mixed images varies.
MIXED_LIGHT = Augmentation(brightness=0.5, contrast=0.4, saturation=0.4, colour=0.2)


def adapt_self_training(
    segmenter: SemanticNetSegmenter,
    domains: Domains,
    training: Training,
    *,
    teacher_decay: float = 0.99,
    threshold: float = 0.968,
) -> SemanticNetSegmenter:
    """Train on the source, and on mixed images that a teacher has labelled in part [1]_.

    Parameters
    ----------
    segmenter : SemanticNetSegmenter
        Fitted.
    domains : Domains
        With labelled images of the source.
    training : Training
    teacher_decay : float, default=0.99
        Each step keeps this share of the teacher's weights, the rest is the student's [3]_.
    threshold : float, default=0.968
        A crop's pseudo-labels weigh as much as the share of its pixels of which the teacher is
        more certain than that.

    Returns
    -------
    SemanticNetSegmenter
        The teacher.

    Raises
    ------
    ValueError
        If there are no labelled images of the source.

    Notes
    -----
    Half of the classes of a source crop are pasted onto a target crop [2]_, which mixes scenes
    along the outlines of objects and is re-lit; the rest of it is labelled by the teacher, that
    looks at the target crop as it is. The loss is that of the source crop plus that of the
    mixed one.

    Both start with statistics of the target in batch normalisation, where there is any, so that
    the first pseudo-labels are those of an adapted network. The teacher's statistics follow
    the student's as its weights do.

    References
    ----------
    .. [1] W. Tranheden et al., "DACS: domain adaptation via cross-domain mixed sampling",
       WACV 2021, arXiv:2007.08702.
    .. [2] V. Olsson et al., "ClassMix: segmentation-based data augmentation for
       semi-supervised learning", WACV 2021, arXiv:2007.07936.
    .. [3] A. Tarvainen and H. Valpola, "Mean teachers are better role models", NeurIPS 2017,
       arXiv:1703.01780.
    """
    domains.need_source("self_training")
    check_real("adapt", "teacher_decay", teacher_decay, low=0, high=0.99999)
    check_real("adapt", "threshold", threshold, low=0, high=1)
    network = copy_network(segmenter)
    method = f"self_training {teacher_decay} {threshold}"
    run = TwoDomainRun(segmenter, network, domains, training, method)
    estimate_statistics(segmenter, network, domains.target, seed=run.seed)
    both = StudentAndTeacher(network, run.n_source, teacher_decay, threshold)
    light = MIXED_LIGHT if segmenter.augment else None

    def draw(rng: np.random.Generator) -> tuple[Tensor, Tensor, None]:
        source, labels = run.draw_source(rng)
        target, known = run.draw_target(rng)
        mixed, mixed_labels = zip(
            *(_mix(rng, *crops, light) for crops in zip(source, labels, target, known))
        )
        images = run.images(source, np.stack(mixed), target)
        return images, run.labels(np.concatenate([labels, np.stack(mixed_labels)])), None

    def loss(outputs: tuple[Any, Any, Tensor, Tensor], labels: Tensor, weights: None) -> Tensor:
        source, mixed, pseudo, certainty = outputs
        own, of_mixed = labels[: run.n_source], labels[run.n_source :]
        guessed = of_mixed == BY_TEACHER
        weight = torch.where(guessed, certainty[:, None, None], 1.0)
        of_mixed = torch.where(guessed, pseudo.to(of_mixed.dtype), of_mixed)
        # The mean is over all pixels, or weights would not lower it where all are guessed.
        on_source = run.source_loss(source, own)
        return on_source + weight.mean() * run.source_loss(mixed, of_mixed, weight)

    history = run.train(both, draw, loss, ema_decay=None, on_step_end=both.update_teacher)
    teacher = both.teacher.requires_grad_(True).eval()
    estimate_statistics(segmenter, teacher, domains.target, seed=run.seed)
    return with_network(segmenter, teacher, history)


class StudentAndTeacher(nn.Module):
    """A network that learns, and the running average of its weights.

    Parameters
    ----------
    network : torch.nn.Module
        The student.
    n_crops : int
        Crops of each kind: of the source, mixed, and of the target.
    decay : float
        Share of the teacher that each step keeps.
    threshold : float
        Probability beyond which the teacher is certain.
    """

    def __init__(self, network: nn.Module, n_crops: int, decay: float, threshold: float):
        super().__init__()
        self.network = network
        self.teacher = copy.deepcopy(network).requires_grad_(False)
        self.n_crops = n_crops
        self.decay = decay
        self.threshold = threshold

    def train(self, mode: bool = True) -> Self:
        """Set the mode of the student; the teacher does not train.

        Parameters
        ----------
        mode : bool, default=True

        Returns
        -------
        StudentAndTeacher
            Itself.
        """
        super().train(mode)
        self.teacher.eval()
        return self

    def forward(self, images: Tensor) -> tuple[Any, Any, Tensor, Tensor]:
        """Compute the student's scores, and the teacher's labels.

        Parameters
        ----------
        images : (3 n, C, H, W) Tensor
            Crops of the source, mixed ones, and those of the target.

        Returns
        -------
        source, mixed
            What the network gives in training.
        pseudo : (n, h, w) Tensor of int64
            The teacher's labels of the target.
        certainty : (n,) Tensor
            Share of the pixels that it is certain of.
        """
        source, mixed, target = images.split(self.n_crops)
        with torch.no_grad():
            proba = main_scores(self.teacher(target)).float().softmax(dim=1)
            highest, pseudo = proba.max(dim=1)
            certainty = (highest > self.threshold).float().mean(dim=(1, 2))
        with keep_statistics(self.network):
            of_source = self.network(source)
        return of_source, self.network(mixed), pseudo, certainty

    @torch.no_grad()
    def update_teacher(self) -> None:
        """Move the teacher towards the student: weights, and statistics of batches."""
        own = self.network.state_dict()
        for name, tensor in self.teacher.state_dict().items():
            if tensor.is_floating_point():
                tensor.lerp_(own[name], 1 - self.decay)
            else:
                tensor.copy_(own[name])


def pick_classes(rng: np.random.Generator, labels: NDArray[np.int32]) -> NDArray[np.bool_]:
    """Choose half of the classes of a crop at random.

    Parameters
    ----------
    rng : numpy.random.Generator
    labels : (H, W) int32
        -1 where unlabelled.

    Returns
    -------
    (H, W) bool
        Their pixels. Of an odd number of classes, one more than half.
    """
    present = np.unique(labels[labels >= 0])
    chosen = rng.permutation(present)[: -(-len(present) // 2)]
    return np.isin(labels, chosen)


def _mix(
    rng: np.random.Generator,
    source: NDArray[np.float32],
    labels: NDArray[np.int32],
    target: NDArray[np.float32],
    known: NDArray[np.int32],
    light: Augmentation | None,
) -> tuple[NDArray[np.float32], NDArray[np.int32]]:
    """Paste classes of a source crop onto a target crop; labels are `BY_TEACHER` elsewhere."""
    pasted = pick_classes(rng, labels)
    image = np.where(pasted[..., None], source, target)
    elsewhere = np.where(known < 0, np.int32(-1), np.int32(BY_TEACHER))
    mixed_labels = np.where(pasted, labels, elsewhere)
    return (image if light is None else relight(rng, light, image)), mixed_labels
