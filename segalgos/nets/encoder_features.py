"""The maps of an encoder as features of pixels, for classifiers that learn from few of them."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from typing import Any, Self

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from segalgos import checks
from segalgos.nets.encoders.by_name import ENCODERS, make_encoder
from segalgos.nets.encoders.efficientnet_lite import EfficientNetLite0
from segalgos.nets.prediction import THREADS_OF_A_LONE_TILE
from segalgos.nets.pretraining import find_pretrained, load_pretrained, white_of
from segalgos.nets.standardization import LARGEST_INTENSITY
from segalgos.pretrained_encoder import PretrainedEncoder
from segalgos.torch_threads import threads_per_operation
from segalgos.training.augment import mirrored_window

__all__ = ["EncoderFeatures"]


class EncoderFeatures:
    """Features of every pixel: what a pretrained encoder sees there.

    Parameters
    ----------
    pretrained : PretrainedEncoder or path-like or True
        What `segalgos.training.pretrain` gave for an encoder by name, or a file of it. True: the
        ImageNet weights of EfficientNet-Lite0 that come with ``segalgos[pretrained]``.
    strides : sequence of int, optional
        Which maps, by how many pixels their cells are apart: such as (4, 8, 16). All if None.
    data_range : float, optional
        White in the images. By default it is guessed for each image, see
        `segalgos.color.data_range_of`.

    Notes
    -----
    Pass it as `extra` to a pixel classifier. The encoder looks far, so it has no ``halo``: images
    are worked on as a whole, and features of all maps are interpolated to the pixels, which takes
    4 bytes a pixel and channel: 133 MB for 480 x 360 and the 192 channels of strides (4, 8) of a
    ResNet-18. `n_features_to_select` of the classifiers keeps those that matter.

    A model file of the classifier holds it, weights and all.

    Examples
    --------
    >>> import numpy as np
    >>> from segalgos import RandomForestSegmenter
    >>> from segalgos.nets.encoder_features import EncoderFeatures
    >>> from segalgos.training import pretrain
    >>> image = np.random.default_rng(0).random((32, 32))
    >>> encoder = pretrain(image, encoder="mit_b0", epochs=1, random_state=0)
    >>> features = EncoderFeatures(encoder, strides=(4, 8))
    >>> forest = RandomForestSegmenter(5, scales=[1], extra=features, random_state=0)
    >>> forest.fit(image, image > 0.5).predict(image).shape
    (32, 32)
    """

    def __init__(
        self,
        pretrained: PretrainedEncoder | str | os.PathLike | bool,
        *,
        strides: Sequence[int] | None = None,
        data_range: float | None = None,
    ):
        caller = "EncoderFeatures"
        found = find_pretrained(pretrained)
        if found is None and pretrained is not True:
            raise ValueError(
                f"{caller}: pretrained is {pretrained!r}, expected True, what "
                "segalgos.training.pretrain gave, or a file of it."
            )
        if data_range is not None:
            checks.check_real(caller, "data_range", data_range, above=0)
        self.pretrained = True if found is None else found
        self.data_range = data_range
        self._encoder = _packaged() if found is None else _encoder_of(found, caller)
        known = self._encoder.strides
        self.strides = tuple(known) if strides is None else tuple(strides)
        if not self.strides or not set(self.strides) <= set(known):
            raise ValueError(
                f"{caller}: strides is {strides!r}, expected some of {', '.join(map(str, known))}."
            )

    def __repr__(self) -> str:
        return f"EncoderFeatures({self.pretrained!r}, strides={self.strides})"

    def __deepcopy__(self, memo: dict) -> Self:
        return self  # nothing of it changes, and weights are large

    def coarse(self, image: NDArray) -> NDArray[np.float32]:
        """Compute the features of an image at the cells of the finest map, for probes.

        Parameters
        ----------
        image : (H, W, C) ndarray

        Returns
        -------
        (h, w, F) float32
            Cells span the image, sides rounded up to whole cells.
        """
        return self._features(image, self._maps(image), min(self.strides))

    def __call__(self, image: NDArray) -> NDArray[np.float32]:
        """Compute the features of every pixel.

        Parameters
        ----------
        image : (H, W, C) ndarray

        Returns
        -------
        (H, W, F) float32
            Those of the finest map first.
        """
        return self._features(image, self._maps(image), 1)

    def _maps(self, image: NDArray) -> list[Tensor]:
        """The chosen maps (1, c, h, w), of an image that is mirrored to whole cells."""
        n_channels = image.shape[-1]
        if self.pretrained is True:
            mean, std, white, known = 127.0, 128.0, 255.0, 3
        else:
            mean, std, white = self.pretrained.mean, self.pretrained.std, self.pretrained.data_range
            known = self.pretrained.n_channels
        if n_channels != known:
            raise ValueError(
                f"EncoderFeatures: the image has {n_channels} channels, the encoder was trained "
                f"with {known}: convert it, or pretrain on such images."
            )
        unit = (self.data_range or white_of([image])) / white
        step = math.lcm(*self._encoder.strides)
        height, width = (-(-n // step) * step for n in image.shape[:2])
        window = mirrored_window(image, 0, 0, height, width).astype(np.float64)
        values = np.clip(
            (window - mean * unit) / (std * unit), -LARGEST_INTENSITY, LARGEST_INTENSITY
        )
        x = torch.from_numpy(values.astype(np.float32)).permute(2, 0, 1)[None]
        with threads_per_operation(THREADS_OF_A_LONE_TILE), torch.inference_mode():
            maps = self._encoder(x)
        return [m for m, stride in zip(maps, self._encoder.strides) if stride in self.strides]

    def _features(self, image: NDArray, maps: list[Tensor], step: int) -> NDArray[np.float32]:
        """Interpolate maps to cells of `step` pixels."""
        height, width = (-(-n // step) for n in image.shape[:2])
        stride = max(self._encoder.strides)
        whole = [-(-n // stride) * stride // step for n in image.shape[:2]]
        out = np.empty((height, width, sum(m.shape[1] for m in maps)), np.float32)
        first = 0
        for features in maps:
            if list(features.shape[2:]) != whole:
                features = F.interpolate(features, tuple(whole), mode="bilinear")
            last = first + features.shape[1]
            out[..., first:last] = features[0, :, :height, :width].permute(1, 2, 0).numpy()
            first = last
        return out

    # --- model files ---------------------------------------------------------------------

    def to_model_file(self) -> dict[str, Any]:
        """Tell what a model file holds of it.

        Returns
        -------
        dict
        """
        return {
            "pretrained": self.pretrained,
            "strides": self.strides,
            "data_range": self.data_range,
        }

    @classmethod
    def from_model_file(cls, content: dict[str, Any]) -> Self:
        """Make it again.

        Parameters
        ----------
        content : dict
            What `to_model_file` gave.

        Returns
        -------
        EncoderFeatures
        """
        return cls(**content)


def _packaged() -> nn.Module:
    return EfficientNetLite0().load_imagenet().eval()


def _encoder_of(pretrained: PretrainedEncoder, caller: str) -> nn.Module:
    if pretrained.encoder not in ENCODERS:
        raise ValueError(
            f"{caller}: pretrained is an encoder {pretrained.encoder!r}, expected one that has a "
            f"name: {', '.join(ENCODERS)}."
        )
    with torch.random.fork_rng(devices=[]):
        encoder = make_encoder(pretrained.encoder, pretrained.n_channels)
    load_pretrained(encoder, pretrained, caller)
    return encoder.eval()
