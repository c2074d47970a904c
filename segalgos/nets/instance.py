"""What all networks share that find objects one by one: training, prediction, model files.

A network takes a `segalgos.nets.detection.targets.DetectionBatch` in training and gives its losses
by name; in prediction it takes images and their sizes without padding, and gives `Detections`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, Self

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import ArrayLike, NDArray
from sklearn.utils import check_random_state
from torch import Tensor, nn

from segalgos import checks
from segalgos.base import Segmenter
from segalgos.metrics.instances import instance_counts, instance_scores
from segalgos.nets.checkpoints import load_weights
from segalgos.nets.detection.boxes import clip_boxes
from segalgos.nets.detection.detections import Detections
from segalgos.nets.detection.masks import paste_masks
from segalgos.nets.detection.targets import DetectionBatch, MaskCrops, Targets
from segalgos.nets.mixed_precision import predicting
from segalgos.nets.net import Net
from segalgos.nets.norm import FrozenBatchNorm2d, freeze_norms
from segalgos.nets.prediction import THREADS_OF_A_LONE_TILE, to_tensor
from segalgos.nets.trained import TrainedNet, check_statistics
from segalgos.results import Instances
from segalgos.torch_threads import threads_per_operation
from segalgos.training.augment import Augmentation
from segalgos.training.object_crops import ObjectCropSampler, lay_out

__all__ = ["InstanceNetSegmenter"]

AUTO = "auto"

#: Least scores that "auto" chooses from, on so many training images at most.
SCORES = tuple(percent / 100 for percent in range(10, 100, 5))
MAX_TUNING_IMAGES = 32
TUNED_IOU = 0.5
#: What a network gives before anything is chosen, and what published weights are scored at.
LOWEST_SCORE = 0.05


class InstanceNetSegmenter(TrainedNet, Segmenter):
    """What every network has that finds objects: parameters of training and prediction, and both.

    A subclass stores the parameters of its network, hands the others on, and writes ``_build``.

    Parameters
    ----------
    image_size : (int, int) or float, default=(800, 1333)
        How large the network sees images: height or width, whichever is shorter, becomes the
        first number, unless the other would then exceed the second. A number is a factor on all
        sizes: better where the scale means something, as under a microscope.
    score_threshold : float or "auto", default="auto"
        Detections of a lower score are left out. "auto" finds, after training, what maximises
        TP / (TP + FP + FN) at an IoU of 0.5 on training images.
    mask_threshold : float, default=0.5
        Least probability of a pixel of an object.
    **training
        Parameters of every net: those of `TrainedNet`.
    """

    def __init__(
        self,
        *,
        image_size: tuple[int, int] | float = (800, 1333),
        score_threshold: float | str = AUTO,
        mask_threshold: float = 0.5,
        **training: Any,
    ):
        super().__init__(**training)
        self.image_size = image_size
        self.score_threshold = score_threshold
        self.mask_threshold = mask_threshold

    @classmethod
    def from_trained(
        cls,
        network: nn.Module,
        *,
        classes: Sequence[int] | None = None,
        mean: ArrayLike = (123.675, 116.28, 103.53),
        std: ArrayLike = (58.395, 57.12, 57.375),
        **params: Any,
    ) -> Self:
        """Make a fitted segmenter of a network that is trained already.

        Parameters
        ----------
        network : segalgos.nets.net.Net
            Such as this segmenter trains, of the form that `params` describe. It is copied.
        classes : sequence of int, optional
            Id of each of the K classes, ascending; 1 to K by default, as published weights
            count them beside a background of 0.
        mean, std : (C,) array-like
            What images are standardised with; ImageNet's for 8-bit colours by default.
        **params
            Parameters of the segmenter. A `score_threshold` of "auto" becomes 0.05.

        Returns
        -------
        InstanceNetSegmenter
            Ready to predict.

        Raises
        ------
        TypeError
            If the network is none of this library's.
        ValueError
            If numbers of classes or channels do not fit, or `params` describe another network.
        """
        caller = f"{cls.__name__}.from_trained"
        segmenter = cls(**params)
        segmenter._check_params()
        if not isinstance(network, Net):
            raise TypeError(
                f"{caller}: network is a {type(network).__name__}, expected one of segalgos.nets: "
                "build that and call its load_checkpoint with the state dict of yours."
            )
        mean, std = check_statistics(caller, mean, std)
        ids = np.arange(1, network.n_classes + 1) if classes is None else classes
        state = {"norm_eps_": _frozen_eps(network)}
        own = segmenter._empty_network(len(mean), network.n_classes, state)
        load_weights(own, network.state_dict())
        segmenter.norm_eps_ = state["norm_eps_"]
        segmenter._take_over(own, network.n_classes, ids, mean, std)
        given = segmenter.score_threshold
        segmenter.score_threshold_ = LOWEST_SCORE if given == AUTO else float(given)
        return segmenter

    def _check_params(self) -> None:
        super()._check_params()
        caller = self._caller
        if isinstance(self.image_size, Sequence):
            if len(self.image_size) != 2:
                raise ValueError(
                    f"{caller}: image_size is {self.image_size!r}, expected {self._two_sizes}, "
                    "or a factor."
                )
            self._check_sizes()
        else:
            checks.check_real(caller, "image_size", self.image_size, low=0.01, high=100)
        if self.score_threshold != AUTO:
            checks.check_real(caller, "score_threshold", self.score_threshold, low=0, high=1)
        checks.check_real(caller, "mask_threshold", self.mask_threshold, low=0, high=1)

    #: What the two numbers of `image_size` are, for errors.
    _two_sizes = "(shorter, longer), such as (800, 1333)"

    def _check_sizes(self) -> None:
        """Check the two numbers of `image_size`."""
        shorter, longer = self.image_size
        checks.check_int(self._caller, "image_size[0]", shorter, low=1)
        checks.check_int(self._caller, "image_size[1]", longer, low=shorter)

    def _check_anchors(self) -> None:
        """Check the parameters of those that guess at five scales."""
        caller = self._caller
        for name in ("anchor_sizes", "anchor_ratios"):
            values = getattr(self, name)
            if not isinstance(values, Sequence) or isinstance(values, str) or not values:
                raise TypeError(f"{caller}: {name} is {values!r}, expected a list of numbers.")
            for value in values:
                checks.check_real(caller, name, value, above=0)
        if len(self.anchor_sizes) != 5:
            raise ValueError(
                f"{caller}: anchor_sizes has {len(self.anchor_sizes)} values, expected 5, one for "
                "each map of the pyramid."
            )

    def _lowest_score(self) -> float:
        """Of what the network gives."""
        asked = LOWEST_SCORE if self.score_threshold == AUTO else float(self.score_threshold)
        return min(asked, LOWEST_SCORE)

    def _empty_network(self, n_channels: int, n_classes: int, state: dict[str, Any]) -> nn.Module:
        network = super()._empty_network(n_channels, n_classes, state)
        if state["norm_eps_"] is not None:
            freeze_norms(network)
            for module in network.modules():
                if isinstance(module, FrozenBatchNorm2d):
                    module.eps = state["norm_eps_"]
        return network

    # --- fit -----------------------------------------------------------------------------

    def _fit(self, images, labels, sample_weight):
        seed = int(check_random_state(self.random_state).randint(2**31 - 1))
        rng = np.random.default_rng(seed)
        training, held_out = self._split(images, rng)
        truth, labels = labels, [one[~one.crowd] for one in labels]
        self.classes_ = np.unique(np.concatenate([labels[i].classes for i in training]))
        if not len(self.classes_):
            raise ValueError(
                f"{self._caller}: the images to learn from show no object: pass Instances with "
                "some, or lower validation_fraction."
            )
        identity = "" if self.checkpoint is None else self._identity(images, labels)
        network = self._start(images, len(self.classes_), seed)
        self.norm_eps_ = _frozen_eps(network)
        resized = [_resize(images[i], self._network_size(images[i].shape[:2])) for i in training]
        layers = [
            _resize_nearest(lay_out(labels[i].masks), image.shape[:2])
            for i, image in zip(training, resized, strict=True)
        ]
        classes = [np.searchsorted(self.classes_, labels[i].classes) for i in training]
        height, width = (
            network.fit_size(min(self.crop_size, max(image.shape[axis] for image in resized)))
            for axis in (0, 1)
        )
        standardisers = [self._standardiser(image) for image in resized]
        sampler = ObjectCropSampler(
            resized,
            layers,
            classes,
            len(self.classes_),
            shape=(height, width),
            prepare=lambda window, i: standardisers[i](window),
            augmentation=Augmentation.of(self.augment, self._caller),
            random_state=rng,
        )
        per_part, n_parts = self._parts(network)

        def draw(rng: np.random.Generator) -> tuple[DetectionBatch, None, None]:
            crops = [sampler.draw(rng) for _ in range(per_part)]
            x = to_tensor(np.stack([crop.image for crop in crops]))
            x = x.contiguous(memory_format=network.memory_format)
            targets = [
                Targets(
                    torch.from_numpy(crop.boxes[:, [1, 0, 3, 2]].astype(np.float32)),
                    torch.from_numpy(crop.classes),
                    MaskCrops.of(crop.masks, crop.boxes),
                )
                for crop in crops
            ]
            return DetectionBatch(x, targets, int(rng.integers(2**62))), None, None

        pixels_per_step = n_parts * per_part * height * width
        steps_per_epoch = max(1, round(sum(map(_area, resized)) / pixels_per_step))
        n_held_out = sum(math.prod(self._network_size(images[i].shape[:2])) for i in held_out)
        self.score_threshold_ = LOWEST_SCORE
        self._train(
            network,
            draw,
            _add_up,
            steps_per_epoch=steps_per_epoch,
            n_parts=n_parts,
            validate=self._validation(images, truth, held_out) if held_out else None,
            # A prediction costs a third of a training step: validation takes a quarter at most.
            validate_every=max(1, round(n_held_out / (steps_per_epoch * pixels_per_step))),
            identity=identity,
            seed=seed,
        )
        self.score_threshold_ = self._choose_score(images, truth, rng)

    def _identity(self, *data: list | None) -> str:
        images, labels = data
        parts = [[getattr(one, name) for one in labels] for name in ("masks", "classes", "boxes")]
        return super()._identity(images, *parts)

    def _validation(self, images: list, labels: list, held_out: list[int]) -> Callable[[], float]:
        truth = [labels[i] for i in held_out]

        def matching_ap() -> float:
            # At the score that suits the network as it is now.
            found = [self._detect(self.network_, images[i]) for i in held_out]
            return max(
                _zero_if_undefined(
                    instance_scores([f[f.scores >= t] for f in found], truth, [TUNED_IOU])
                )
                for t in SCORES
            )

        return matching_ap

    def _choose_score(self, images: list, labels: list, rng: np.random.Generator) -> float:
        """Find the least score that does best on training images; the lower of equals."""
        if self.score_threshold != AUTO:
            return float(self.score_threshold)
        chosen = rng.permutation(len(images))[:MAX_TUNING_IMAGES]
        counts = np.zeros((len(SCORES), 3), np.int64)
        for i in chosen:
            found = self._detect(self._fast_network(), images[i])
            for k, t in enumerate(SCORES):
                kept = found[found.scores >= t]
                counts[k] += instance_counts(kept, labels[i], [TUNED_IOU])[0][0]
        hits, false, missed = counts.T
        return SCORES[int(np.argmax(hits / np.maximum(hits + false + missed, 1)))]

    # --- predict -------------------------------------------------------------------------

    def _network_size(self, size: tuple[int, int]) -> tuple[int, int]:
        """Height and width at which the network sees an image."""
        if isinstance(self.image_size, Sequence):
            shorter, longer = self.image_size
            factor = min(shorter / min(size), longer / max(size))
        else:
            factor = self.image_size
        return tuple(max(1, math.floor(n * factor)) for n in size)

    def _predict(self, image, mask, prompts):
        found = self._detect(self._fast_network(), image)
        return found[found.scores >= self.score_threshold_]

    def _detect(self, network: nn.Module, image: NDArray) -> Instances:
        """Find objects of any score."""
        size = self._network_size(image.shape[:2])
        x = to_tensor(self._standardiser(image)(image)[None])
        x = F.interpolate(x, size, mode="bilinear") if size != image.shape[:2] else x
        height, width = (network.fit_size(n) for n in size)
        x = F.pad(x, (0, width - size[1], 0, height - size[0]))
        x = x.contiguous(memory_format=network.memory_format)
        parameter = next(network.parameters())
        with predicting(network), threads_per_operation(THREADS_OF_A_LONE_TILE):
            found = network(x.to(parameter.device), [size])[0]
        return self._to_instances(found, image.shape[:2], size)

    def _to_instances(
        self, found: Detections, size: tuple[int, int], scaled: tuple[int, int]
    ) -> Instances:
        """Bring detections to the size of the image; those without any pixel are left out."""
        scale = torch.tensor([size[1] / scaled[1], size[0] / scaled[0]]).repeat(2)
        boxes = clip_boxes(found.boxes.cpu() * scale, size).numpy()
        masks = self._draw_masks(found, boxes, size)
        seen = masks.any(axis=(1, 2))
        return Instances(
            masks[seen],
            found.scores.cpu().numpy()[seen],
            self.classes_[found.classes.cpu().numpy()[seen]],
            boxes[seen][:, [1, 0, 3, 2]],
        )

    def _draw_masks(
        self, found: Detections, boxes: NDArray[np.float32], size: tuple[int, int]
    ) -> NDArray[np.bool_]:
        """Draw the masks of detections, whose boxes are in pixels of the image."""
        return paste_masks(found.masks.cpu().numpy(), boxes, size, self.mask_threshold)


def _frozen_eps(network: nn.Module) -> float | None:
    """What frozen norms add to variances; None where norms train."""
    frozen = (m for m in network.modules() if isinstance(m, FrozenBatchNorm2d))
    return next((float(norm.eps) for norm in frozen), None)


def _add_up(losses: dict[str, Tensor], *_: None) -> Tensor:
    return torch.stack(list(losses.values())).sum()


def _area(image: NDArray) -> int:
    return image.shape[0] * image.shape[1]


def _zero_if_undefined(scores: dict[str, Any]) -> float:
    return float(np.nan_to_num(scores["matching_ap_50"]))


def _resize(image: NDArray, size: tuple[int, int]) -> NDArray[np.float32]:
    """Interpolate (H, W, C) intensities bilinearly, as prediction does."""
    if image.shape[:2] == size:
        return image
    x = F.interpolate(to_tensor(image[None].astype(np.float32)), size, mode="bilinear")
    return x[0].permute(1, 2, 0).numpy()


def _resize_nearest(layers: NDArray[np.int32], size: tuple[int, int]) -> NDArray[np.int32]:
    """Take the nearest value of (H, W, L) layers."""
    rows, columns = (
        np.minimum((np.arange(n) + 0.5) * length // n, length - 1).astype(int)
        for n, length in zip(size, layers.shape[:2], strict=True)
    )
    return layers[rows[:, None], columns]
