"""Contours by a network that learns what people draw."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted
from torch import Tensor, nn

from segalgos import checks
from segalgos.color import find_data_range, rescale
from segalgos.contours._lab import check_colours
from segalgos.contours._partitions import check_partitions, contour_targets, pair_up
from segalgos.contours.thinning import non_maximum_suppression
from segalgos.metrics.boundaries import boundary_scores
from segalgos.nets.encoders.efficientnet_lite import EfficientNetLite0
from segalgos.nets.norm import BatchNorm2d
from segalgos.nets.prediction import for_each_tile, resize, to_tensor
from segalgos.nets.side_output_net import ContourLogits, SideOutputNet
from segalgos.nets.trained import TrainedNet
from segalgos.training.augment import Augmentation, CropSampler

__all__ = ["ContourNet", "net_contours"]

WHITE = 255.0  # images are brought to units where white is this
N_ORIENTATIONS = 8
SIDES_SHARE = 0.5  # what all side outputs together count beside the joined one
DIRECTION_SHARE = 0.2


class ContourNet(TrainedNet, BaseEstimator):
    """Contours by an encoder with side outputs at all scales, as in HED [1]_ and COB [2]_.

    Parameters
    ----------
    pretrained : bool or path-like, default=False
        Start EfficientNet-Lite0, the encoder, from ImageNet weights: True takes those of the
        extra ``pretrained``, a path those of a file. Their normalisation is then kept as it is.
    scales : sequence of float, default=(1.0,)
        Sizes at which the image is looked at, and whose answers are averaged.
    tile_size : int, default=1024
        Larger images are looked at in windows of at most this height and width, which overlap
        by a quarter and are blended.
    data_range : float, optional
        Value of white in the images; found for each by `segalgos.color.data_range_of` if None.
    crop_size : int, default=320
        Height and width of the crops trained on, rounded up to a multiple of 32.
    batch_size : int, default=8
        Crops per step; rounded up to an even number.
    **training
        Parameters of every net: those of `TrainedNet`.

    Attributes
    ----------
    network_ : SideOutputNet

    See Also
    --------
    segalgos.StructuredForest : Contours without a network.
    segalgos.net_contours : The network that comes with the library.

    Notes
    -----
    With t(x) the part of the annotators that drew a contour at pixel x, on either side of it, the
    loss is the cross-entropy between t and the joined answer, plus half its mean over the side
    outputs, plus a fifth of the squared distance between the cosine and the sine of twice the
    angle of the contour and those that were answered, weighted by t. Cross-entropy with a share
    makes the answer the share that is to be expected; no class is weighted.

    Grey images are taken as three equal channels. Prediction takes O(H * W) time.

    References
    ----------
    .. [1] S. Xie and Z. Tu, "Holistically-nested edge detection", ICCV 2015, arXiv:1504.06375.
    .. [2] K.-K. Maninis, J. Pont-Tuset, P. Arbelaez and L. Van Gool, "Convolutional oriented
       boundaries", ECCV 2016, arXiv:1608.02755.

    Examples
    --------
    >>> import numpy as np
    >>> from segalgos import ContourNet
    >>> image = np.zeros((40, 40)); image[10:30, 10:30] = 1
    >>> net = ContourNet(epochs=1, batch_size=2, crop_size=32, random_state=0)
    >>> net.fit(image, image.astype(int)).predict(image).shape
    (40, 40)
    """

    def __init__(
        self,
        *,
        pretrained: bool | str = False,
        scales: Sequence[float] = (1.0,),
        tile_size: int = 1024,
        data_range: float | None = None,
        crop_size: int = 320,
        batch_size: int = 8,
        **training: Any,
    ):
        super().__init__(crop_size=crop_size, batch_size=batch_size, **training)
        self.pretrained = pretrained
        self.scales = scales
        self.tile_size = tile_size
        self.data_range = data_range

    @property
    def _caller(self) -> str:
        return type(self).__name__

    @classmethod
    def shipped(cls, **params: Any) -> Self:
        """Take the network that comes with the library.

        It was trained on the 200 training images of BSDS500 and what four people or more drew on
        each, from the published ImageNet weights of EfficientNet-Lite0 (Apache License 2.0), by
        ``benchmarks/training/contour_net.py``.

        Parameters
        ----------
        **params
            Parameters of the constructor, of which those of training have no effect.

        Returns
        -------
        ContourNet
            Ready to predict.
        """
        return cls(**params)._take(_shipped())

    # --- training ------------------------------------------------------------------------

    def fit(self, images: Any, labels: Any) -> Self:
        """Train the network.

        Parameters
        ----------
        images : array_like or sequence of array_like
            Grey (H, W) or colour (H, W, 3), one or many; sizes may differ.
        labels : array_like, or sequence of these or of sequences of them
            For each image its partition (H, W) of ids, -1 where unknown, or a sequence of
            partitions, one an annotator.

        Returns
        -------
        ContourNet
            Itself.

        Raises
        ------
        ValueError
            If an image, a partition or a parameter is not as expected.
        ImportError
            If `pretrained` is True and the extra is not installed.
        """
        caller = self._caller
        self._check_params()
        images, labels = pair_up(caller, images, labels)
        colours = [self._colours(image, f"images[{i}]") for i, image in enumerate(images)]
        maps = [
            np.stack(check_partitions(caller, i, m, colours[i].shape[:2]), axis=-1)
            for i, m in enumerate(labels)
        ]
        seed = int(check_random_state(self.random_state).randint(2**31 - 1))
        identity = "" if self.checkpoint is None else self._identity(colours, maps)
        network = self._new_network(3, 1, seed)
        if self.pretrained not in (None, False):
            network.encoder.load_imagenet(None if self.pretrained is True else self.pretrained)
            network.freeze(m for m in network.encoder.modules() if isinstance(m, BatchNorm2d))
        self._take(network)
        rng = np.random.default_rng(seed)
        training, held_out = self._split(colours, rng)
        maps_ = [maps[i] for i in training]
        if all((partitions < 0).all() for partitions in maps_):
            raise ValueError(
                f"{caller}: no pixel is known in the images left for training: lower "
                "validation_fraction."
            )
        shape = tuple(
            network.fit_size(min(self.crop_size, max(m.shape[axis] for m in maps_)))
            for axis in (0, 1)
        )
        standardisers = [self._standardiser(colours[i]) for i in training]
        sampler = CropSampler(
            [colours[i] for i in training],
            maps_,
            classes=[m.max(axis=-1).clip(-1, 0) for m in maps_],  # all known pixels alike
            shape=shape,
            prepare=lambda window, i: standardisers[i](window),
            augmentation=Augmentation.of(self.augment, caller),
            random_state=rng,
        )
        per_part, n_parts = self._parts(network)

        def draw(rng: np.random.Generator) -> tuple[Tensor, Tensor, None]:
            crops = [sampler.draw(rng) for _ in range(per_part)]
            image = to_tensor(np.stack([crop[0] for crop in crops]))
            target = np.stack([contour_targets(crop[1]) for crop in crops])
            image = image.contiguous(memory_format=network.memory_format)
            return image, torch.from_numpy(target), None

        n_pixels = sum(m.shape[0] * m.shape[1] for m in maps_)
        self._train(
            network,
            draw,
            _loss,
            steps_per_epoch=max(1, round(n_pixels / (n_parts * per_part * np.prod(shape)))),
            n_parts=n_parts,
            validate=self._validation(colours, maps, held_out) if held_out else None,
            identity=identity,
            seed=seed,
        )
        return self

    def _check_params(self) -> None:
        super()._check_params()
        checks.check_int(self._caller, "tile_size", self.tile_size, low=32)
        self._check_looking()

    def _check_looking(self) -> None:
        caller, scales = self._caller, self.scales
        if self.data_range is not None:
            checks.check_real(caller, "data_range", self.data_range, above=0)
        if not isinstance(scales, Sequence) or isinstance(scales, str) or not scales:
            raise TypeError(f"{caller}: scales is {scales!r}, expected factors such as (0.5, 1.0).")
        for scale in scales:
            checks.check_real(caller, "scales", scale, low=0.1, high=10)

    def _build(self, n_channels: int, n_classes: int, generator: torch.Generator) -> nn.Module:
        encoder = EfficientNetLite0(n_channels, generator=generator)
        return SideOutputNet(encoder, generator=generator)

    def _take(self, network: nn.Module) -> Self:
        """Become fitted by a network."""
        self.network_ = network.to(self._device())
        self.n_parameters_ = sum(p.numel() for p in network.parameters())
        self.mean_ = np.full(3, network.encoder.imagenet_mean)
        self.std_ = np.full(3, network.encoder.imagenet_std)
        self.fast_network_ = self._make_fast(self.network_)
        return self

    def _colours(self, image: ArrayLike, name: str) -> NDArray[np.float32]:
        """Check an image, and bring it to three channels where white is `WHITE`."""
        clean = checks.check_image(
            image, self._caller, channel_axis=self.channel_axis, keep_uint8=True, name=name
        )
        check_colours(clean, self._caller, name)
        data_range = find_data_range(clean, None, self.data_range, self._caller)
        clean = rescale(clean, data_range, WHITE)
        return np.repeat(clean, 3, axis=-1) if clean.shape[-1] == 1 else clean

    def _validation(self, colours: list, maps: list, held_out: list[int]) -> Callable[[], float]:
        truths = [list(np.moveaxis(maps[i], -1, 0)) for i in held_out]

        def ods() -> float:
            found = [self._answers(self.network_, colours[i]) for i in held_out]
            thin = [non_maximum_suppression(_oriented(*_parted(one))) for one in found]
            return float(boundary_scores(thin, truths)["ods"])

        return ods

    # --- answers -------------------------------------------------------------------------

    def predict(self, images: Any, *, thin: bool = False) -> Any:
        """Find contours.

        Parameters
        ----------
        images : array_like or sequence of array_like
            Grey (H, W) or colour (H, W, 3), one or many.
        thin : bool, default=False
            Keep the ridges alone, as lines one pixel wide: as contours are scored.

        Returns
        -------
        (H, W) float32, or a list of these
            Strength, 0 to 1: the part of people who would draw a contour there.

        Raises
        ------
        sklearn.exceptions.NotFittedError
            If it has not been fitted.
        ValueError
            If an image is not as expected.
        """

        def one(image: ArrayLike, name: str) -> NDArray[np.float32]:
            strength, direction = self._look(image, name)
            return non_maximum_suppression(_oriented(strength, direction)) if thin else strength

        return self._map(one, images)

    def predict_oriented(self, images: Any) -> Any:
        """Find contours by orientation.

        Parameters
        ----------
        images : array_like or sequence of array_like
            Grey (H, W) or colour (H, W, 3), one or many.

        Returns
        -------
        (8, H, W) float32, or a list of these
            From 0 to 1. Orientation k is that of contours which rise by ``k * 180 / 8`` degrees
            from the rows, as one sees the image. The largest is what `predict` gives, or a little
            less.

        Raises
        ------
        sklearn.exceptions.NotFittedError
            If it has not been fitted.
        ValueError
            If an image is not as expected.
        """
        return self._map(lambda image, name: _oriented(*self._look(image, name)), images)

    def _map(self, function: Callable[[ArrayLike, str], NDArray], images: Any) -> Any:
        check_is_fitted(self, "network_")
        self._check_looking()
        if checks.is_batch(images, self._caller):
            return [function(image, f"images[{i}]") for i, image in enumerate(images)]
        return function(images, "image")

    def _look(self, image: ArrayLike, name: str) -> tuple[NDArray[np.float32], ...]:
        """Strength (H, W) and direction (2, H, W) of an image, at all scales."""
        colours = self._colours(image, name)
        size = colours.shape[:2]
        total = np.zeros((*size, 3), np.float32)
        for scale in self.scales:
            scaled = resize(colours, tuple(max(1, round(n * scale)) for n in size))
            total += resize(self._answers(self._fast_network(), scaled), size)
        total /= np.float32(len(self.scales))
        return _parted(total)

    def _answers(self, network: nn.Module, colours: NDArray[np.float32]) -> NDArray[np.float32]:
        answers = np.empty(colours.shape, np.float32)

        def write(rows: slice, columns: slice, tile: NDArray[np.float32]) -> None:
            answers[rows, columns] = tile

        for_each_tile(
            network,
            colours,
            self._standardiser(colours),
            write,
            tile_size=self.tile_size,
            activate=_activate,
        )
        return answers

    # --- model files ---------------------------------------------------------------------

    def get_arrays(self) -> dict[str, NDArray]:
        """Give the weights as small arrays, for a model file.

        Returns
        -------
        dict of str to ndarray
            ``integers`` int8 of all weights of convolutions, of each output channel in units of
            one of the ``scales`` float32; ``numbers`` float32, everything else.

        Notes
        -----
        So rounded a weight is off by at most 1/254 of the largest of its channel.
        """
        check_is_fitted(self, "network_")
        integers, scales, numbers = [], [], []
        for tensor in _stored(self.network_).values():
            values = tensor.detach().cpu().float()
            if values.ndim < 2:
                numbers.append(values)
                continue
            rows = values.flatten(1)
            scale = (rows.abs().amax(dim=1) / 127).clamp_min(torch.finfo(torch.float32).tiny)
            integers.append((rows / scale[:, None]).round().flatten())
            scales.append(scale)
        return {
            "integers": torch.cat(integers).to(torch.int8).numpy(),
            "scales": torch.cat(scales).numpy(),
            "numbers": torch.cat(numbers).numpy(),
        }

    def set_arrays(self, arrays: Mapping[str, NDArray]) -> Self:
        """Take up weights from a model file.

        Parameters
        ----------
        arrays : mapping of str to ndarray
            As `get_arrays` gives them.

        Returns
        -------
        ContourNet
            Itself.

        Raises
        ------
        ValueError
            If the arrays are not those of this network.
        """
        dtypes = {"integers": np.int8, "scales": np.float32, "numbers": np.float32}
        network = self._new_network(3, 1, seed=0)
        stored = _stored(network)
        kernels = [tensor for tensor in stored.values() if tensor.ndim >= 2]
        sizes = {
            "integers": sum(tensor.numel() for tensor in kernels),
            "scales": sum(len(tensor) for tensor in kernels),
            "numbers": sum(tensor.numel() for tensor in stored.values() if tensor.ndim < 2),
        }
        given = {name: np.asarray(arrays[name]) for name in dtypes}
        if not all(
            given[name].dtype == dtype
            and given[name].shape == (sizes[name],)
            and np.isfinite(given[name]).all()
            for name, dtype in dtypes.items()
        ):
            raise ValueError("its arrays are not those of a contour net")
        rest = {name: torch.from_numpy(values.copy()) for name, values in given.items()}
        with torch.no_grad():
            for tensor in stored.values():
                if tensor.ndim < 2:
                    values, rest["numbers"] = _first(rest["numbers"], tensor.numel())
                else:
                    values, rest["integers"] = _first(rest["integers"], tensor.numel())
                    scale, rest["scales"] = _first(rest["scales"], len(tensor))
                    values = values.float().reshape(len(tensor), -1) * scale[:, None]
                tensor.copy_(values.reshape(tensor.shape))
        return self._take(network)


def _stored(network: nn.Module) -> dict[str, Tensor]:
    """The weights and statistics of a network by name."""
    state = network.state_dict()
    return {k: v for k, v in state.items() if not k.endswith("num_batches_tracked")}


def _first(values: Tensor, n: int) -> tuple[Tensor, Tensor]:
    """The first n values, and the others."""
    return values[:n], values[n:]


def _loss(found: ContourLogits, target: Tensor, weight: None) -> Tensor:
    """The loss of `ContourNet`; pixels that nobody knows are inert."""
    share = target[:, :1]  # (N, 1, H, W)
    known = (share >= 0).float()
    share = share.clamp_min(0)
    n_known = known.sum().clamp_min(1)

    def cross_entropy(logits: Tensor) -> Tensor:
        values = F.binary_cross_entropy_with_logits(
            logits.float(), share.expand_as(logits), reduction="none"
        )
        return (values * known).sum() / (n_known * logits.shape[1])

    miss = (_bounded(found.direction.float()) - target[:, 1:]) ** 2
    off = (miss.sum(dim=1, keepdim=True) * share * known).sum() / share.sum().clamp_min(1)
    joined, sides = cross_entropy(found.joined), cross_entropy(found.sides)
    return joined + SIDES_SHARE * sides + DIRECTION_SHARE * off


def _bounded(direction: Tensor) -> Tensor:
    """Shorten vectors (N, 2, H, W) to less than 1."""
    return direction / (1 + (direction**2).sum(dim=-3, keepdim=True)).sqrt()


def _parted(answers: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Strength (H, W) and direction (2, H, W) from answers (H, W, 3)."""
    return answers[..., 0], np.moveaxis(answers[..., 1:], -1, 0)


def _activate(logits: Tensor) -> Tensor:
    """Strength and direction from what the network gives, (3, H, W)."""
    return torch.cat([logits[:1].sigmoid(), _bounded(logits[1:])])


def _oriented(strength: NDArray[np.float32], direction: NDArray[np.float32]) -> NDArray[np.float32]:
    """Strength by orientation: all of it along the contour, less across the surer it is.

    With an angle t to the contour and a direction of length r, ``1 - r * sin(t)**2`` of it.
    """
    length = np.sqrt((direction**2).sum(axis=0))
    angles = 2 * np.pi * np.arange(N_ORIENTATIONS, dtype=np.float32) / N_ORIENTATIONS
    along = np.einsum("dk,dhw->khw", np.stack([np.cos(angles), np.sin(angles)]), direction)
    return np.clip(strength * (1 - (length - along) / 2), 0, 1, dtype=np.float32)


@cache
def _shipped() -> nn.Module:
    """The network of the package's own file."""
    with np.load(Path(__file__).with_name("contour_net.npz"), allow_pickle=False) as file:
        return ContourNet(device="cpu").set_arrays(dict(file)).network_


def net_contours(
    image: ArrayLike,
    *,
    scales: Sequence[float] = (1.0,),
    data_range: float | None = None,
    mask: ArrayLike | None = None,
    channel_axis: int | str | None = "auto",
) -> NDArray[np.float32]:
    """Find the contours of things in a photograph by a network, as people would draw them.

    Parameters
    ----------
    image : (H, W) or (H, W, 3) array_like
    scales : sequence of float, default=(1.0,)
        As in `ContourNet`.
    data_range : float, optional
        Value of white in `image`; found by `segalgos.color.data_range_of` if None.
    mask : (H, W) array_like of bool, optional
        True where contours are wanted; elsewhere they are 0.
    channel_axis : int, None or "auto", default="auto"
        Which axis holds the channels; None for a grey image.

    Returns
    -------
    (8, H, W) float32
        As ``ContourNet.predict_oriented`` gives them.

    Raises
    ------
    ValueError
        If an argument is not as expected.

    See Also
    --------
    segalgos.ContourNet : The network, which learns from other images, too.
    segalgos.non_maximum_suppression : Thin contours from this.
    """
    net = ContourNet.shipped(scales=scales, data_range=data_range, channel_axis=channel_axis)
    strengths = net.predict_oriented(image)
    if mask is not None:
        mask = checks.check_mask(mask, strengths.shape[1:], "net_contours")
        strengths[:, ~mask] = 0
    return strengths
