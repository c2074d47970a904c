"""YOLACT [1]_: masks as sums of prototypes, in one stage.

References
----------
.. [1] D. Bolya, C. Zhou, F. Xiao and Y. J. Lee, "YOLACT: real-time instance segmentation",
   ICCV 2019, arXiv:1904.02689.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Sequence
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor, nn

from segalgos import checks
from segalgos.base import Traits
from segalgos.nets.checkpoints import rename_weights
from segalgos.nets.detection.anchors import make_centred_anchors, match_each
from segalgos.nets.detection.boxes import clip_boxes, decode_boxes
from segalgos.nets.detection.detections import Detections
from segalgos.nets.detection.fpn import StridedPyramid
from segalgos.nets.detection.masks import enlarge_masks
from segalgos.nets.detection.nms import fast_nms
from segalgos.nets.detection.prototypes import (
    PrototypeNet,
    assemble_masks,
    mask_loss,
    semantic_loss,
)
from segalgos.nets.detection.single_stage import (
    BOX_WEIGHTS,
    NEGATIVES,
    AnchorPredictions,
    PredictionHead,
    box_loss,
    class_loss,
)
from segalgos.nets.detection.targets import DetectionBatch
from segalgos.nets.encoders.efficientnet_lite import EfficientNetLite0
from segalgos.nets.encoders.resnet import RESNETS, ResNet
from segalgos.nets.instance import InstanceNetSegmenter
from segalgos.nets.net import Net
from segalgos.nets.norm import freeze_norms as freeze
from segalgos.pretrained_encoder import PretrainedEncoder

__all__ = ["YOLACT", "YOLACTSegmenter"]

BACKBONES = (*RESNETS, "efficientnet_lite0")

# An anchor is on an object from the larger IoU on, and on the background below the smaller.
LOW, HIGH = 0.4, 0.5
# Of the losses of boxes and of masks; those of classes and of the semantic maps count once.
BOX_FACTOR, MASK_FACTOR = 1.5, 6.125
# What a class's odds are at a cell before anything is learned.
RARE = 0.05

# The reference's files count stages from 0; those of its first version hold each stage twice.
OFFICIAL_STAGE = "backbone.layers."
OLD_STAGE = re.compile(r"backbone\.layer\d")
DOWNSAMPLE = re.compile(r"fpn\.downsample_layers\.(\d+)\.")
COUNTER = "num_batches_tracked"


class YOLACT(Net):
    """YOLACT, with the reference's parameter names but for the encoder's.

    Parameters
    ----------
    in_channels, n_classes : int
        `n_classes` without the background.
    backbone : {"resnet18", "resnet34", "resnet50", "resnet101", "efficientnet_lite0"}
        "resnet101" by default.
    base_channels : int, default=64
        Channels of a ResNet's first map, a multiple of 8.
    width : int, default=256
        Channels of the pyramid and of the convolutions behind it.
    n_prototypes : int, default=32
        Masks of the whole image that those of objects are added up from.
    anchor_sizes : sequence of 5 float, default=(24, 48, 96, 192, 384)
        Root of the area of the anchors at strides 8, 16, 32, 64 and 128, in pixels.
    anchor_ratios : sequence of float, default=(1, 0.5, 2)
        Width over height; of square anchors, factors on the area.
    square_anchors : bool, default=True
        All anchors are squares, as the published weights want it.
    score_threshold : float, default=0.05
        Least probability of the likeliest class of a box that is looked at.
    iou_threshold : float, default=0.5
        A box is dropped if a likelier one of its class has a larger IoU with it.
    n_candidates : int, default=200
        Likeliest boxes of each class that are looked at.
    n_detections : int, default=100
        Of an image, at most.
    freeze_norms : bool, default=False
        Keep the encoder's batch normalisation as it is loaded: training sees few images at
        once.
    generator : torch.Generator, optional
        For the initial weights.

    Attributes
    ----------
    stride : int
        1: images are not padded.
    n_classes : int

    Notes
    -----
    ``YOLACT(3, 80)`` is the reference's ``yolact_base``, ``YOLACT(3, 80, backbone="resnet50")``
    its ``yolact_resnet50``. `load_checkpoint` takes its files, and those of this class.

    Boxes are x0, y0, x1, y1 in pixels of the input, which is standardised and as large as the
    network shall see it: sizes and intensities are the segmenter's matter.

    Suppression is the reference's: a box that is itself dropped still drops others, and a box may
    stand for a class less probable than `score_threshold` if another of its classes is not. A box
    is at most 62.5 times as wide and as high as its anchor; the reference knows no bound.

    References
    ----------
    .. [1] D. Bolya, C. Zhou, F. Xiao and Y. J. Lee, "YOLACT: real-time instance segmentation",
       ICCV 2019, arXiv:1904.02689.

    Examples
    --------
    >>> import torch
    >>> from segalgos.nets.yolact import YOLACT
    >>> network = YOLACT(3, 2, backbone="resnet18", base_channels=8, width=16).eval()
    >>> found = network(torch.zeros(1, 3, 64, 96))[0]
    >>> found.boxes.shape[1], found.masks.shape[1:]
    (4, torch.Size([16, 24]))
    """

    stride = 1
    memory_format = torch.channels_last

    def __init__(
        self,
        in_channels: int,
        n_classes: int,
        *,
        backbone: str = "resnet101",
        base_channels: int = 64,
        width: int = 256,
        n_prototypes: int = 32,
        anchor_sizes: Sequence[float] = (24, 48, 96, 192, 384),
        anchor_ratios: Sequence[float] = (1.0, 0.5, 2.0),
        square_anchors: bool = True,
        score_threshold: float = 0.05,
        iou_threshold: float = 0.5,
        n_candidates: int = 200,
        n_detections: int = 100,
        freeze_norms: bool = False,
        generator: torch.Generator | None = None,
    ):
        super().__init__()
        checks.check_choice("YOLACT", "backbone", backbone, BACKBONES)
        if len(anchor_sizes) != 5:
            raise ValueError(
                f"YOLACT: anchor_sizes has {len(anchor_sizes)} values, expected 5, one for each "
                "map of the pyramid."
            )
        self.n_classes = n_classes
        self.anchor_sizes = tuple(anchor_sizes)
        self.anchor_ratios = tuple(anchor_ratios)
        self.square_anchors = square_anchors
        self.score_threshold = score_threshold
        self.iou_threshold = iou_threshold
        self.n_candidates = n_candidates
        self.n_detections = n_detections
        if backbone == "efficientnet_lite0":
            self.backbone = EfficientNetLite0(in_channels, generator=generator)
        else:
            self.backbone = ResNet(
                in_channels, backbone, base_channels=base_channels, generator=generator
            )
        self.fpn = StridedPyramid(self.backbone.channels[2:], width)
        self.proto_net = PrototypeNet(width, n_prototypes)
        head = PredictionHead(width, n_classes, len(anchor_ratios), n_prototypes)
        self.prediction_layers = nn.ModuleList([head])  # one for all maps
        self.semantic_seg_conv = nn.Conv2d(width, n_classes, kernel_size=1)
        self.reset_parameters(generator)
        if freeze_norms:
            freeze(self.backbone)

    def reset_parameters(self, generator: torch.Generator | None = None) -> None:
        """Draw new weights for all but the encoder: U(-a, a), a = sqrt(6 / (fan_in + fan_out)).

        The reference does so in every layer. Here the last ones are drawn from N(0, 0.01**2), and
        the background is a likely class from the start: training then begins with answers that
        say little, not with wrong ones that say much.

        Parameters
        ----------
        generator : torch.Generator, optional
        """
        parts = (self.fpn, self.proto_net, self.prediction_layers, self.semantic_seg_conv)
        for module in (m for part in parts for m in part.modules()):
            if isinstance(module, nn.Conv2d):
                nn.init.xavier_uniform_(module.weight, generator=generator)
                nn.init.zeros_(module.bias)
        head = self.prediction_layers[0]
        for last in (head.bbox_layer, head.conf_layer, head.mask_layer, self.semantic_seg_conv):
            nn.init.normal_(last.weight, std=0.01, generator=generator)
        n_classes = self.semantic_seg_conv.out_channels
        background = head.conf_layer.bias.detach().view(head.n_anchors, n_classes + 1)[:, 0]
        background.fill_(math.log(NEGATIVES * n_classes))
        nn.init.constant_(self.semantic_seg_conv.bias, math.log(RARE))

    def pyramid(self, images: Tensor) -> list[Tensor]:
        """Compute the maps that everything else is read from.

        Parameters
        ----------
        images : (N, in_channels, H, W) Tensor

        Returns
        -------
        list of 5 (N, width, h, w) Tensor
            At strides 8, 16, 32, 64 and 128, sizes rounded up.
        """
        return self.fpn(self.backbone(images)[2:])

    def judge(self, pyramid: list[Tensor], size: tuple[int, int]) -> AnchorPredictions:
        """Say of every anchor what is there.

        Parameters
        ----------
        pyramid : list of 5 (N, width, h, w) Tensor
        size : (int, int)
            Height and width of the images.

        Returns
        -------
        AnchorPredictions
        """
        anchors = make_centred_anchors(
            [tuple(x.shape[2:]) for x in pyramid],
            size,
            self.anchor_sizes,
            self.anchor_ratios,
            square=self.square_anchors,
        ).to(pyramid[0].device)
        return AnchorPredictions(
            anchors, *self.prediction_layers[0](pyramid), self.proto_net(pyramid[0])
        )

    def forward(
        self, x: Tensor | DetectionBatch, sizes: list[tuple[int, int]] | None = None
    ) -> list[Detections] | dict[str, Tensor]:
        """Detect objects; in training, say how wrong that is.

        Parameters
        ----------
        x : (N, in_channels, H, W) Tensor, or DetectionBatch
            A batch with its targets in training.
        sizes : list of N (int, int), optional
            Height and width of each image, where it is padded; boxes end there. All of it by
            default.

        Returns
        -------
        list of N Detections, or dict of () Tensor
            Masks have the cells of the prototypes, twice those at stride 8. In training the
            losses "classes", "boxes", "masks" and "semantic".
        """
        images = x.images if self.training else x
        size = tuple(images.shape[2:])
        pyramid = [level.float() for level in self.pyramid(images)]
        with torch.autocast(images.device.type, enabled=False):  # boxes want all digits
            judged = self.judge(pyramid, size)
            if self.training:
                return self._losses(pyramid, judged, x)
            sizes = [size] * len(images) if sizes is None else sizes
            return [self._choose(judged, i, size, own) for i, own in enumerate(sizes)]

    def _choose(
        self, judged: AnchorPredictions, i: int, size: tuple[int, int], own_size: tuple[int, int]
    ) -> Detections:
        """Detections of one image."""
        scores = judged.logits[i].softmax(dim=-1)[:, 1:]
        likely = torch.nonzero(scores.amax(dim=1) > self.score_threshold)[:, 0]
        boxes = decode_boxes(judged.deltas[i, likely], judged.anchors[likely], BOX_WEIGHTS)
        scores = scores[likely].T  # (K, n)
        keep, classes = fast_nms(boxes, scores, self.iou_threshold, self.n_candidates)
        kept_scores = scores[classes, keep]
        best = kept_scores.argsort(descending=True, stable=True)[: self.n_detections]
        keep, classes = keep[best], classes[best]
        boxes, coefficients = boxes[keep], judged.coefficients[i, likely[keep]]
        masks = assemble_masks(judged.prototypes[i], coefficients, boxes, size)
        return Detections(clip_boxes(boxes, own_size), kept_scores[best], classes, masks)

    def _losses(
        self, pyramid: list[Tensor], judged: AnchorPredictions, batch: DetectionBatch
    ) -> dict[str, Tensor]:
        """Compare what is said of the anchors with the truth, per anchor on an object."""
        targets, size = batch.targets, tuple(batch.images.shape[2:])
        matches = [match_each(judged.anchors, t.boxes, low=LOW, high=HIGH) for t in targets]
        n = max(1, sum(int((owner >= 0).sum()) for owner in matches))
        rng = np.random.default_rng(batch.seed)
        masks = mask_loss(judged.prototypes, judged.coefficients, matches, targets, size, rng)
        boxes = box_loss(judged.deltas, judged.anchors, matches, targets)
        return {
            "classes": class_loss(judged.logits, matches, targets) / n,
            "boxes": BOX_FACTOR * boxes / n,
            "masks": MASK_FACTOR * masks / n,
            "semantic": semantic_loss(self.semantic_seg_conv(pyramid[0]), targets, size),
        }

    def _own_names(self, weights: dict[str, Tensor]) -> dict[str, Tensor]:
        """Rename weights of the reference's files, and leave out what its own loader does."""
        if not any(name.startswith(OFFICIAL_STAGE) for name in weights):
            return weights
        n_coarser = len(self.fpn.downsample_layers)
        kept = {}
        for name, tensor in weights.items():
            coarser = DOWNSAMPLE.match(name)
            if not OLD_STAGE.match(name) and (coarser is None or int(coarser[1]) < n_coarser):
                kept[name] = tensor
        kept = rename_weights(
            kept, [(r"^backbone\.layers\.(\d+)", lambda m: f"backbone.layer{int(m[1]) + 1}")]
        )
        own = self.state_dict()
        for name in [name for name in kept if name.endswith(COUNTER) and name not in own]:
            del kept[name]  # frozen norms count nothing
        for name in own.keys() - kept:
            if name.endswith(COUNTER):  # files older than torch 0.4.1 lack it
                kept[name] = torch.zeros_like(own[name])
        return kept


class YOLACTSegmenter(InstanceNetSegmenter):
    """YOLACT: masks of the whole image, and how much of each makes an object.

    Parameters
    ----------
    backbone : {"resnet18", "resnet34", "resnet50", "resnet101", "efficientnet_lite0"}
        "resnet101" by default.
    base_channels : int, default=64
        Channels of a ResNet's first map, a multiple of 8; fewer make a small network of the
        same form, to which no published weights fit.
    width : int, default=256
        Channels of the feature pyramid and of the convolutions behind it.
    n_prototypes : int, default=32
        Masks of the whole image that those of objects are added up from.
    anchor_sizes : sequence of 5 float, default=(24, 48, 96, 192, 384)
        Sides of the first guesses at strides 8, 16, 32, 64 and 128, in pixels of what the
        network sees: about as large as objects are.
    anchor_ratios : sequence of float, default=(1, 0.5, 2)
        Width over height; of square anchors, factors on the area.
    square_anchors : bool, default=True
        All anchors are squares, as the published weights want it.
    n_candidates : int, default=200
        Likeliest boxes of each class that are looked at.
    n_detections : int, default=100
        Of an image, at most.
    iou_threshold : float, default=0.5
        A box is dropped if a likelier one of its class has a larger IoU with it, also one that
        is itself dropped.
    pretrained : bool, path-like or PretrainedEncoder, default=False
        Start the encoder from an ImageNet classifier: a file of weights, for a ResNet with
        torchvision's names, or True for those of "efficientnet_lite0", which come with the
        extra ``segalgos[pretrained]``. Or from images without labels: what
        `segalgos.training.pretrain` gave, or a file of it. Batch normalisation then stays as it is.
    frozen_stages : int, default=0
        The layers that make the first so many maps of the encoder keep what they learned from
        ImageNet.
    image_size : (int, int) or float, default=(550, 550)
        Height and width at which the network sees every image, whatever its own proportions. A
        number is a factor on all sizes: better where the scale means something, as under a
        microscope.
    **training
        Parameters of every net that finds objects: those of `InstanceNetSegmenter`.

    Attributes
    ----------
    classes_ : (K,) int32
        Of the objects, sorted.
    network_ : YOLACT
    n_parameters_ : int
    score_threshold_ : float
        As given or chosen.
    history_ : list of dict
        One row an epoch: epoch, steps, loss, learning_rate, seconds and, where it was
        validated, score.
    mean_, std_ : (C,) float64
        Images are standardised with them: of the training images by channel, or with
        `pretrained` what the encoder was trained with.

    See Also
    --------
    YOLACTSegmenter.from_trained : For a network with published weights.
    segalgos.MaskRCNNSegmenter : In two stages, with finer masks of small objects.

    Notes
    -----
    Images of any size. Objects may overlap, in training too; crowds are left out there. With the
    same `random_state` and `epochs` the result is the same bit for bit, whatever the number of
    threads.

    Masks have cells of 4 pixels of what the network sees, interpolated to the image. Detections
    whose mask has no pixel are left out.

    An object of which a crop shows less than two rows or columns is taken for background there.

    References
    ----------
    .. [1] D. Bolya, C. Zhou, F. Xiao and Y. J. Lee, "YOLACT: real-time instance segmentation",
       ICCV 2019, arXiv:1904.02689.

    Examples
    --------
    >>> import numpy as np
    >>> from segalgos import Instances, YOLACTSegmenter
    >>> image = np.zeros((32, 32)); image[8:24, 8:24] = 1
    >>> segmenter = YOLACTSegmenter.small()
    >>> found = segmenter.fit(image, Instances.from_labels(image.astype(int))).predict(image)
    >>> found.shape
    (32, 32)
    """

    traits = Traits(
        task="instance",
        family="nets",
        year=2019,
        needs_fit=True,
        needs_labels=True,
        deterministic=False,
        keeps_uint8=True,
    )

    def __init__(
        self,
        *,
        backbone: str = "resnet101",
        base_channels: int = 64,
        width: int = 256,
        n_prototypes: int = 32,
        anchor_sizes: Sequence[float] = (24, 48, 96, 192, 384),
        anchor_ratios: Sequence[float] = (1.0, 0.5, 2.0),
        square_anchors: bool = True,
        n_candidates: int = 200,
        n_detections: int = 100,
        iou_threshold: float = 0.5,
        pretrained: bool | str | os.PathLike | PretrainedEncoder = False,
        frozen_stages: int = 0,
        image_size: tuple[int, int] | float = (550, 550),
        **training: Any,
    ):
        super().__init__(image_size=image_size, **training)
        self.backbone = backbone
        self.base_channels = base_channels
        self.width = width
        self.n_prototypes = n_prototypes
        self.anchor_sizes = anchor_sizes
        self.anchor_ratios = anchor_ratios
        self.square_anchors = square_anchors
        self.n_candidates = n_candidates
        self.n_detections = n_detections
        self.iou_threshold = iou_threshold
        self.pretrained = pretrained
        self.frozen_stages = frozen_stages

    @classmethod
    def small(cls) -> Self:
        """Make an instance with tiny parameters, for tests and demos.

        Returns
        -------
        YOLACTSegmenter
        """
        return cls(
            backbone="resnet18",
            base_channels=8,
            width=16,
            n_prototypes=8,
            anchor_sizes=(8, 16, 32, 64, 128),
            image_size=1.0,
            epochs=3,
            batch_size=2,
            crop_size=64,
            learning_rate=0.003,
            random_state=0,
        )

    @classmethod
    def from_trained(
        cls,
        network: nn.Module,
        *,
        classes: Sequence[int] | None = None,
        mean: ArrayLike = (123.68, 116.78, 103.94),
        std: ArrayLike = (58.40, 57.12, 57.38),
        **params: Any,
    ) -> Self:
        """Make a fitted segmenter of a network that is trained already.

        Parameters
        ----------
        network : YOLACT
            Of the form that `params` describe. It is copied.
        classes : sequence of int, optional
            Id of each of the K classes, ascending; 1 to K by default. The published weights count
            the 80 classes of COCO without gaps.
        mean, std : (C,) array-like
            What images are standardised with; by default as the published weights want it, for
            8-bit colours.
        **params
            Parameters of the segmenter. A `score_threshold` of "auto" becomes 0.05.

        Returns
        -------
        YOLACTSegmenter
            Ready to predict.

        Raises
        ------
        TypeError
            If the network is none of this library's.
        ValueError
            If numbers of classes or channels do not fit, or `params` describe another network.
        """
        return super().from_trained(network, classes=classes, mean=mean, std=std, **params)

    def _check_params(self) -> None:
        super()._check_params()
        caller = self._caller
        checks.check_choice(caller, "backbone", self.backbone, BACKBONES)
        checks.check_int(caller, "base_channels", self.base_channels, low=8)
        if self.base_channels % 8:
            raise ValueError(
                f"{caller}: base_channels is {self.base_channels}, expected a multiple of 8."
            )
        for name in ("width", "n_prototypes", "n_candidates", "n_detections"):
            checks.check_int(caller, name, getattr(self, name), low=1)
        self._check_anchors()
        checks.check_bool(caller, "square_anchors", self.square_anchors)
        checks.check_real(caller, "iou_threshold", self.iou_threshold, low=0, high=1)

    _two_sizes = "(height, width), such as (550, 550)"

    def _check_sizes(self) -> None:
        for i, n in enumerate(self.image_size):
            checks.check_int(self._caller, f"image_size[{i}]", n, low=1)

    def _network_size(self, size: tuple[int, int]) -> tuple[int, int]:
        if isinstance(self.image_size, Sequence):
            return tuple(self.image_size)
        return super()._network_size(size)

    def _build(self, n_channels: int, n_classes: int, generator: torch.Generator) -> nn.Module:
        return YOLACT(
            n_channels,
            n_classes,
            backbone=self.backbone,
            base_channels=self.base_channels,
            width=self.width,
            n_prototypes=self.n_prototypes,
            anchor_sizes=self.anchor_sizes,
            anchor_ratios=self.anchor_ratios,
            square_anchors=bool(self.square_anchors),
            score_threshold=self._lowest_score(),
            iou_threshold=self.iou_threshold,
            n_candidates=self.n_candidates,
            n_detections=self.n_detections,
            freeze_norms=bool(self.pretrained),
            generator=generator,
        )

    def _encoder(self, network: nn.Module) -> nn.Module:
        return network.backbone

    def _draw_masks(
        self, found: Detections, boxes: NDArray[np.float32], size: tuple[int, int]
    ) -> NDArray[np.bool_]:
        return enlarge_masks(found.masks.cpu().numpy(), size, self.mask_threshold)
