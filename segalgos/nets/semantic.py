"""What all semantic networks share: parameters, training, prediction, model files.

What they ask of a network is `segalgos.nets.semantic_net.SemanticNet`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import product
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.utils import check_random_state
from torch import Tensor, nn

from segalgos import checks
from segalgos.base import SemanticSegmenter
from segalgos.metrics.semantic import semantic_scores
from segalgos.nets.prediction import for_each_tile, resize, to_tensor
from segalgos.nets.trained import TrainedNet
from segalgos.training.augment import Augmentation, CropSampler
from segalgos.training.losses import LOSS_NAMES, AuxiliaryLoss, make_loss

__all__ = ["SemanticNetSegmenter"]


class SemanticNetSegmenter(TrainedNet, SemanticSegmenter):
    """What every semantic net has: parameters of training and prediction, and both.

    A subclass stores the parameters of its network, hands the others on, and writes ``_build``.

    Parameters
    ----------
    loss : {"cross_entropy", "focal", "dice", "multi", "tversky", "lovasz", "ohem"}, \
            default="cross_entropy"
        See `segalgos.training.losses`.
    class_weight : dict, "balanced" or None, default=None
        Weight of each class id in the loss, 1 where not named. "balanced" is inverse to
        the number of labelled pixels.
    tile_size : int, default=512
        Larger images are predicted in tiles of at most about this height and width. Of nets
        that look at the whole image, and of encoders, which look far, tiles overlap by a quarter
        and are blended.
    prediction_scales : sequence of float, default=(1.0,)
        Sizes to predict at; the probabilities are averaged.
    prediction_flip : bool, default=False
        Average with the prediction of the mirror image.
    **training
        Parameters of every net: those of `TrainedNet`.

    Notes
    -----
    Results do not depend on the number of threads: every part of a batch is computed by one
    thread, every tile of an image by a number that is always the same.
    """

    def __init__(
        self,
        *,
        loss: str = "cross_entropy",
        class_weight: Any = None,
        tile_size: int = 512,
        prediction_scales: Sequence[float] = (1.0,),
        prediction_flip: bool = False,
        **training: Any,
    ):
        super().__init__(**training)
        self.loss = loss
        self.class_weight = class_weight
        self.tile_size = tile_size
        self.prediction_scales = prediction_scales
        self.prediction_flip = prediction_flip

    def _check_params(self) -> None:
        super()._check_params()
        caller = self._caller
        checks.check_int(caller, "tile_size", self.tile_size, low=1)
        checks.check_choice(caller, "loss", self.loss, LOSS_NAMES)
        checks.check_class_weight(caller, self.class_weight)
        scales = self.prediction_scales
        if not isinstance(scales, Sequence) or isinstance(scales, str) or not scales:
            raise TypeError(
                f"{caller}: prediction_scales is {scales!r}, expected factors such as (0.75, 1.0)."
            )
        for scale in scales:
            checks.check_real(caller, "prediction_scales", scale, low=0.1, high=10)
        checks.check_bool(caller, "prediction_flip", self.prediction_flip)

    # --- fit -----------------------------------------------------------------------------

    def _classes_of(self, targets):
        found = super()._classes_of(targets)
        return found if self._origin is None else self._origin.classes(found)

    def _fit(self, images, labels, sample_weight):
        seed = int(check_random_state(self.random_state).randint(2**31 - 1))
        rng = np.random.default_rng(seed)
        identity = "" if self.checkpoint is None else self._identity(images, labels, sample_weight)
        class_weight = self._class_weights(labels)
        network = self._start(images, len(self.classes_), seed)

        training, held_out = self._split(images, rng)
        images_, labels_ = [images[i] for i in training], [labels[i] for i in training]
        if sample_weight is not None:  # what weighs nothing is no place to look at
            labels_ = [np.where(sample_weight[i] > 0, labels[i], -1) for i in training]
        if all((label_map < 0).all() for label_map in labels_):
            raise ValueError(
                f"{self._caller}: no pixel is labelled in the images left for training: lower "
                "validation_fraction."
            )
        height, width = self._crop_shape(network, images_)
        standardisers = [self._standardiser(image) for image in images_]
        sampler = CropSampler(
            images_,
            labels_,
            None if sample_weight is None else [sample_weight[i] for i in training],
            shape=(height, width),
            margin=network.margin,
            prepare=lambda window, i: standardisers[i](window),
            augmentation=Augmentation.of(self.augment, self._caller),
            random_state=rng,
        )
        per_part, n_parts = self._parts(network)

        def draw(rng: np.random.Generator) -> tuple[Tensor, Tensor, Tensor | None]:
            crops = [sampler.draw(rng) for _ in range(per_part)]
            image, label, weight = zip(*crops)
            return (
                to_tensor(np.stack(image)).contiguous(memory_format=network.memory_format),
                torch.from_numpy(np.stack(label)),
                None if sample_weight is None else torch.from_numpy(np.stack(weight)),
            )

        pixels_per_step = n_parts * per_part * height * width
        n_pixels = sum(label_map.size for label_map in labels_)
        steps_per_epoch = max(1, round(n_pixels / pixels_per_step))
        n_held_out = sum(labels[i].size for i in held_out)
        self._train(
            network,
            draw,
            AuxiliaryLoss(make_loss(self.loss, class_weight)).to(self._device()),
            steps_per_epoch=steps_per_epoch,
            n_parts=n_parts,
            validate=self._validation(images, labels, held_out) if held_out else None,
            # A prediction costs a third of a training step: validation takes a quarter at most.
            validate_every=max(1, round(n_held_out / (steps_per_epoch * pixels_per_step))),
            identity=identity,
            seed=seed,
        )

    def _crop_shape(self, network: nn.Module, images: list[NDArray]) -> tuple[int, int]:
        """Height and width of crops: `crop_size`, less where all images are smaller."""
        height, width = (
            network.fit_size(min(self.crop_size, max(image.shape[axis] for image in images)))
            for axis in (0, 1)
        )
        return height, width

    def _validation(self, images: list, labels: list, held_out: list[int]) -> Callable[[], float]:
        truth = [labels[i] for i in held_out]
        indices = np.arange(len(self.classes_), dtype=np.int32)

        def mean_iou() -> float:
            found = [self._label_map(images[i], indices, self.network_) for i in held_out]
            score = semantic_scores(found, truth, len(indices))["mean_iou_dataset"]
            return float(score) if np.isfinite(score) else 0.0

        return mean_iou

    def _class_weights(self, labels: list[NDArray[np.int32]]) -> Tensor | None:
        if self.class_weight is None:
            return None
        n_classes = len(self.classes_)
        if isinstance(self.class_weight, dict):
            weight = np.array([self.class_weight.get(k, 1.0) for k in self.classes_.tolist()])
            if not weight.any():
                raise ValueError(
                    f"{self._caller}: class_weight is 0 for all classes of the labels, "
                    f"{self.classes_.tolist()}: give one of them a weight."
                )
        else:
            counts = sum(np.bincount(m[m >= 0], minlength=n_classes) for m in labels)
            # A network that is trained further may know classes that are not in the labels.
            weight = np.where(counts > 0, counts.sum() / (n_classes * np.maximum(counts, 1)), 0)
        return torch.tensor(weight, dtype=torch.float32)

    # --- predict -------------------------------------------------------------------------

    def _predict_proba(self, image):
        variants = list(product(self.prediction_scales, (False, True)[: 1 + self.prediction_flip]))
        if variants == [(1.0, False)]:
            return self._plain_proba(image)
        size = image.shape[:2]
        total = np.zeros((*size, len(self.classes_)), np.float32)
        for scale, flip in variants:
            scaled = resize(image, tuple(max(1, round(n * scale)) for n in size))
            proba = self._plain_proba(scaled[:, ::-1] if flip else scaled)
            total += resize(proba[:, ::-1] if flip else proba, size)
        return total / len(variants)

    def _plain_proba(self, image: NDArray) -> NDArray[np.float32]:
        """Probabilities of the image as it is."""
        proba = np.empty((*image.shape[:2], len(self.classes_)), np.float32)

        def write(rows: slice, columns: slice, tile: NDArray[np.float32]) -> None:
            proba[rows, columns] = tile

        self._for_each_tile(self._fast_network(), image, write)
        return proba

    def _predict(self, image, mask, prompts):
        if tuple(self.prediction_scales) != (1.0,) or self.prediction_flip:
            return self.classes_[self._predict_proba(image).argmax(axis=-1)]
        return self._label_map(image, self.classes_, self._fast_network())

    def _label_map(
        self, image: NDArray, classes: NDArray[np.int32], network: nn.Module
    ) -> NDArray[np.int32]:
        """Most probable class of each pixel; needs no array of all probabilities."""
        labels = np.empty(image.shape[:2], np.int32)

        def write(rows: slice, columns: slice, tile: NDArray[np.integer]) -> None:
            labels[rows, columns] = classes[tile]

        self._for_each_tile(network, image, write, classes=True)
        return labels

    def _for_each_tile(
        self, network: nn.Module, image: NDArray, write: Callable, *, classes: bool = False
    ) -> None:
        prepare = self._standardiser(image)
        for_each_tile(network, image, prepare, write, tile_size=self.tile_size, classes=classes)
