"""What all segmenters share that train a network: parameters, and how to begin, save and load.

What they ask of a network is `segalgos.nets.net.Net`.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import nn

import segalgos
from segalgos import checks
from segalgos.nets.checkpoints import load_weights
from segalgos.nets.devices import find_device
from segalgos.nets.encoders.efficientnet_lite import EfficientNetLite0
from segalgos.nets.fast_inference import fuse
from segalgos.nets.handed_on import show_handed_on
from segalgos.nets.mixed_precision import in_precision
from segalgos.nets.pretraining import find_pretrained, load_pretrained, white_of
from segalgos.nets.standardization import LARGEST_INTENSITY, channel_statistics
from segalgos.pretrained_encoder import PretrainedEncoder
from segalgos.training.augment import Augmentation
from segalgos.training.loop import OPTIMIZERS, PRECISIONS, train
from segalgos.training.schedule import SCHEDULES

__all__ = ["TrainedNet", "check_statistics"]

# Maps of an encoder, at most.
MOST_STAGES = 5


class Origin(Protocol):
    """A trained network that another one begins with."""

    def give(self, segmenter: TrainedNet, network: nn.Module) -> None:
        """Hand weights and statistics of intensities on to a new network and its segmenter."""

    def rates(self, network: nn.Module) -> Mapping[str, float]:
        """Factors on the learning rates, by the names of parameters."""

    def digest(self) -> bytes:
        """What tells origins apart."""


class TrainedNet:
    """Parameters of training, and what every network needs before and after it.

    It stands beside a `segalgos.base.Segmenter` among the bases of a class, which hands these
    parameters on and writes ``_build``.

    Parameters
    ----------
    epochs : int or None, default=50
        Times that training sees as many pixels as the images have. None: until
        `time_budget` is used up.
    time_budget : float, optional
        Seconds that training may take; the learning rate follows it. The last step and a
        last validation may overrun it.
    batch_size : int, default=4
        Crops per step; rounded up to an even number for nets with batch normalisation.
    crop_size : int, default=256
        Height and width of the crops trained on, in pixels of the output; rounded up to
        what the network can make.
    precision : {"float32", "bfloat16"}, default="float32"
        Of convolutions and products of matrices in training; weights, norms and losses are
        float32 in any case. "bfloat16" takes a quarter less time for ResNets on CPUs that have
        instructions for it, hardly less for networks of many thin layers (EfficientNet).
    prediction_precision : {"float32", "bfloat16"}, default="float32"
        The same in prediction; may be changed after training. Probabilities have three digits in
        bfloat16.
    optimizer : {"adamw", "sgd"}, default="adamw"
        "sgd" has Nesterov momentum 0.9 and wants a learning rate some ten times higher.
    learning_rate : float, default=1e-3
        At the end of the warm-up.
    schedule : {"poly", "cosine", "constant"}, default="poly"
        How the learning rate falls after that.
    weight_decay : float, default=1e-4
    ema_decay : float, optional
        Keep an exponential moving average of the weights instead of the last ones; each step
        keeps this share of it, such as 0.999.
    augment : bool, "upright" or dict, default=True
        Flip crops, rotate them by right angles, change brightness and contrast. "upright" is
        for scenes with a sky above: flips left to right, other sizes and colours. A dict
        changes some of `segalgos.training.augment.Augmentation`: ``{"scale": (0.7, 1.4)}``.
    standardize : {"data", "image"}, default="data"
        Where the mean and the deviation come from that intensities are standardised with, by
        channel: all training images, or each image alone. "image" suits kinds of images that
        differ in light, stain or microscope, and hides what brightness itself would tell.
    validation_fraction : float, default=0.0
        Share of the images kept aside to choose the best epoch by the task's score.
    patience : int, optional
        Stop after so many validations in a row without a better score.
    checkpoint : path-like, optional
        File that training is saved to after every epoch and resumed from.
    on_epoch_end : callable, optional
        Called with each new row of `history_`. Set it to None before saving the segmenter.
    device : str, optional
        Like "cpu" or "cuda:1". None takes a GPU if there is one.
    channel_axis : int, None or "auto", default="auto"
    random_state : int, RandomState or None, default=None
    verbose : bool, default=False
        Show a progress bar on stderr.

    Attributes
    ----------
    network_ : torch.nn.Module
        On the CPU or the GPU, in evaluation mode.
    fast_network_ : torch.nn.Module
        The same function, rewritten for prediction.
    n_parameters_ : int
    history_ : list of dict
        See `segalgos.training.loop.train`.
    mean_, std_ : (C,) float64
        Of the training images, by channel, or with `pretrained` what the encoder was trained
        with (ImageNet's know three channels). Images are standardised with them if `standardize`
        is "data".
    """

    pretrained: bool | str | os.PathLike | PretrainedEncoder | None = False
    frozen_stages: int = 0
    # What training begins with in place of new weights.
    _origin: Origin | None = None

    def __init__(
        self,
        *,
        epochs: int | None = 50,
        time_budget: float | None = None,
        batch_size: int = 4,
        crop_size: int = 256,
        precision: str = "float32",
        prediction_precision: str = "float32",
        optimizer: str = "adamw",
        learning_rate: float = 1e-3,
        schedule: str = "poly",
        weight_decay: float = 1e-4,
        ema_decay: float | None = None,
        augment: Any = True,
        standardize: str = "data",
        validation_fraction: float = 0.0,
        patience: int | None = None,
        checkpoint: str | os.PathLike | None = None,
        on_epoch_end: Callable[[dict[str, float]], None] | None = None,
        device: str | None = None,
        channel_axis: int | str | None = "auto",
        random_state: Any = None,
        verbose: bool = False,
    ):
        self.epochs = epochs
        self.time_budget = time_budget
        self.batch_size = batch_size
        self.crop_size = crop_size
        self.precision = precision
        self.prediction_precision = prediction_precision
        self.optimizer = optimizer
        self.learning_rate = learning_rate
        self.schedule = schedule
        self.weight_decay = weight_decay
        self.ema_decay = ema_decay
        self.augment = augment
        self.standardize = standardize
        self.validation_fraction = validation_fraction
        self.patience = patience
        self.checkpoint = checkpoint
        self.on_epoch_end = on_epoch_end
        self.device = device
        self.channel_axis = channel_axis
        self.random_state = random_state
        self.verbose = verbose

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        show_handed_on(cls)

    def _build(self, n_channels: int, n_classes: int, generator: torch.Generator) -> nn.Module:
        """Make the network, with initial weights from the generator."""
        raise TypeError(f"{self._caller} has no _build hook: write one.")

    def _encoder(self, network: nn.Module) -> nn.Module:
        """What of the network `pretrained` is for: it has ``load_imagenet``."""
        raise TypeError(f"{self._caller} has no _encoder hook: write one.")

    def _map_encoder(self, network: nn.Module) -> nn.Module:
        """What of the network gives a list of maps, and can be pretrained without labels."""
        return self._encoder(network)

    def _check_params(self) -> None:
        caller = self._caller
        if self.epochs is None and self.time_budget is None:
            raise ValueError(f"{caller}: epochs and time_budget are both None: give at least one.")
        if self.epochs is not None:
            checks.check_int(caller, "epochs", self.epochs, low=1)
        if self.time_budget is not None:
            checks.check_real(caller, "time_budget", self.time_budget, above=0)
        checks.check_int(caller, "batch_size", self.batch_size, low=1)
        checks.check_int(caller, "crop_size", self.crop_size, low=1)
        checks.check_choice(caller, "precision", self.precision, PRECISIONS)
        checks.check_choice(caller, "prediction_precision", self.prediction_precision, PRECISIONS)
        checks.check_choice(caller, "optimizer", self.optimizer, OPTIMIZERS)
        checks.check_real(caller, "learning_rate", self.learning_rate, above=0)
        checks.check_choice(caller, "schedule", self.schedule, SCHEDULES)
        checks.check_real(caller, "weight_decay", self.weight_decay, low=0)
        if self.ema_decay is not None:
            checks.check_real(caller, "ema_decay", self.ema_decay, low=0, high=0.99999)
        Augmentation.of(self.augment, caller)
        checks.check_choice(caller, "standardize", self.standardize, ("data", "image"))
        checks.check_real(caller, "validation_fraction", self.validation_fraction, low=0, high=0.9)
        if self.patience is not None:
            checks.check_int(caller, "patience", self.patience, low=1)
            if self.validation_fraction == 0:
                raise ValueError(
                    f"{caller}: patience is {self.patience}, but nothing is validated: set "
                    "validation_fraction, or patience to None."
                )
        checks.check_bool(caller, "verbose", self.verbose)
        if self.on_epoch_end is not None and not callable(self.on_epoch_end):
            raise TypeError(
                f"{caller}: on_epoch_end is {self.on_epoch_end!r}, expected a function or None."
            )
        if not isinstance(self.checkpoint, str | os.PathLike | None):
            raise TypeError(f"{caller}: checkpoint is {self.checkpoint!r}, expected a path.")
        if not isinstance(self.pretrained, bool | str | os.PathLike | PretrainedEncoder | None):
            raise TypeError(
                f"{caller}: pretrained is {self.pretrained!r}, expected a path, what "
                "segalgos.training.pretrain gave, True or False."
            )
        checks.check_int(caller, "frozen_stages", self.frozen_stages, low=0, high=MOST_STAGES)
        if self.frozen_stages > 0 and not self.pretrained:
            raise ValueError(
                f"{caller}: frozen_stages is {self.frozen_stages}, but weights are random: set "
                "pretrained, or frozen_stages to 0."
            )
        self._device()

    def _device(self) -> torch.device:
        return find_device(self.device, self._caller)

    # --- before training -----------------------------------------------------------------

    def _start(self, images: list[NDArray], n_classes: int, seed: int) -> nn.Module:
        """Make the network, with what is pretrained, and tell how to standardise images."""
        self.mean_, self.std_ = channel_statistics(images)
        network = self._new_network(images[0].shape[-1], n_classes, seed)
        if self._origin is not None:
            self._origin.give(self, network)
        elif self.pretrained not in (None, False):
            self._load_pretrained(network, white_of(images))
            if self.frozen_stages:
                network.freeze(self._encoder(network).first_stages(self.frozen_stages))
        self.network_ = network.to(self._device())
        self.n_parameters_ = sum(p.numel() for p in network.parameters())
        return self.network_

    def _load_pretrained(self, network: nn.Module, white: float) -> None:
        """Start the encoder from weights, and take over what it expects of images."""
        found = find_pretrained(self.pretrained)
        if found is not None:
            load_pretrained(self._map_encoder(network), found, self._caller)
            self.mean_, self.std_ = found.statistics(white)
            return
        encoder = self._encoder(network)
        if self.pretrained is True:
            self._load_packaged(encoder)
        else:
            encoder.load_imagenet(self.pretrained)
        if len(self.mean_) == 3:  # it knows how bright each of its colours is
            unit = white / 255
            self.mean_ = np.broadcast_to(np.float64(encoder.imagenet_mean) * unit, 3).copy()
            self.std_ = np.broadcast_to(np.float64(encoder.imagenet_std) * unit, 3).copy()

    def _load_packaged(self, encoder: nn.Module) -> None:
        """Load the weights that can be installed with pip."""
        if not isinstance(encoder, EfficientNetLite0):
            name = type(getattr(encoder, "network", encoder)).__name__  # of a trunk
            raise ValueError(
                f"{self._caller}: pretrained is True, but there is no package of weights for "
                f"{name}: pass the path of a file of weights, or take the "
                'encoder "efficientnet_lite0".'
            )
        encoder.load_imagenet()

    def _new_network(self, n_channels: int, n_classes: int, seed: int) -> nn.Module:
        # torch's layers draw first weights from the global generator, which is the caller's.
        with torch.random.fork_rng(devices=[]):
            network = self._build(n_channels, n_classes, torch.Generator().manual_seed(seed))
        return network.to(memory_format=network.memory_format).eval()

    def _empty_network(self, n_channels: int, n_classes: int, state: dict[str, Any]) -> nn.Module:
        """Make the network that a saved state has weights for."""
        return self._new_network(n_channels, n_classes, seed=0)

    def _split(self, images: list[NDArray], rng: np.random.Generator) -> tuple[list, list]:
        """Indices of the images to train on and to validate on."""
        if self.validation_fraction == 0:
            return list(range(len(images))), []
        if len(images) < 2:
            raise ValueError(
                f"{self._caller}: validation_fraction is {self.validation_fraction}, but there is "
                "one image: pass more, or 0."
            )
        order = rng.permutation(len(images))
        n = min(max(1, round(self.validation_fraction * len(images))), len(images) - 1)
        return sorted(order[n:].tolist()), sorted(order[:n].tolist())

    def _identity(self, *data: list | None) -> str:
        """Digest of everything that decides what training gives."""
        digest = hashlib.sha256(segalgos.__version__.encode())
        ignored = (
            "checkpoint", "device", "on_epoch_end", "prediction_flip", "prediction_precision",
            "prediction_scales",
            "verbose",
        )  # fmt: skip
        params = {k: v for k, v in self.get_params().items() if k not in ignored}
        digest.update(repr(sorted(params.items())).encode())
        for arrays in data:
            for array in arrays or ():
                digest.update(f"{array.shape}{array.dtype}".encode())
                digest.update(np.ascontiguousarray(array))
        if self._origin is not None:
            digest.update(self._origin.digest())
        return digest.hexdigest()

    def _standardiser(self, image: NDArray) -> Callable[[NDArray], NDArray[np.float32]]:
        """Make the function that windows of the image go through before the network."""
        mean, std = self.mean_, self.std_
        if self.standardize == "image":
            mean, std = channel_statistics([image])

        def standardise(window: NDArray) -> NDArray[np.float32]:
            values = (window.astype(np.float64) - mean) / std
            return np.clip(values, -LARGEST_INTENSITY, LARGEST_INTENSITY).astype(np.float32)

        return standardise

    def _take_over(
        self,
        network: nn.Module,
        n_classes: int,
        classes: Sequence[int] | NDArray,
        mean: NDArray[np.float64],
        std: NDArray[np.float64],
    ) -> None:
        """Become fitted by a network that is trained already."""
        ids = np.asarray(classes)
        if ids.shape != (n_classes,) or ids.dtype.kind not in "iu" or (np.diff(ids) <= 0).any():
            raise ValueError(
                f"{self._caller}.from_trained: classes is {classes!r}, expected {n_classes} "
                "ascending ids, one for each class of the network."
            )
        self.classes_ = ids.astype(np.int32)
        self.n_channels_ = len(mean)
        self.mean_, self.std_ = mean, std
        self.network_ = network.to(self._device())
        self.fast_network_ = self._make_fast(self.network_)
        self.n_parameters_ = sum(p.numel() for p in network.parameters())
        self.history_ = []

    # --- training ------------------------------------------------------------------------

    def _parts(self, network: nn.Module) -> tuple[int, int]:
        """Crops in each part of a batch, and parts.

        Batch statistics need more than one crop; else small parts use the cores best.
        """
        has_norm = any(isinstance(m, nn.modules.batchnorm._BatchNorm) for m in network.modules())
        per_part = 2 if has_norm else 1
        return per_part, -(-self.batch_size // per_part)

    def _train(self, network: nn.Module, draw: Callable, loss: Callable, **how: Any) -> None:
        """Train with the parameters of the segmenter, and make the network fast."""
        self.history_ = train(
            network,
            draw,
            loss,
            epochs=self.epochs,
            time_budget=self.time_budget,
            precision=self.precision,
            optimizer=self.optimizer,
            learning_rate=self.learning_rate,
            schedule=self.schedule,
            weight_decay=self.weight_decay,
            ema_decay=self.ema_decay,
            patience=self.patience,
            on_epoch_end=self.on_epoch_end,
            checkpoint=self.checkpoint,
            device=self._device(),
            verbose=bool(self.verbose),
            rate_factors=None if self._origin is None else self._origin.rates(network),
            **how,
        )
        self.fast_network_ = self._make_fast(network)

    def _make_fast(self, network: nn.Module) -> nn.Module:
        """Rewrite the network for prediction, where that makes it faster."""
        precision = self.prediction_precision
        if next(network.parameters()).device.type == "cpu":
            return fuse(network, n_channels=len(self.mean_), precision=precision)
        return in_precision(network, precision)

    def _fast_network(self) -> nn.Module:
        """The network for prediction, in the precision that is wanted now."""
        checks.check_choice(
            self._caller, "prediction_precision", self.prediction_precision, PRECISIONS
        )
        if self.fast_network_.precision != self.prediction_precision:
            self.fast_network_ = self._make_fast(self.network_)
        return self.fast_network_

    # --- state ---------------------------------------------------------------------------

    def _get_state(self) -> dict[str, Any]:
        state = super()._get_state()
        del state["fast_network_"]  # made of the weights again
        weights = state.pop("network_").state_dict()
        state["weights"] = {k: v.detach().cpu().contiguous().numpy() for k, v in weights.items()}
        return state

    def _set_state(self, state: dict[str, Any]) -> None:
        state = dict(state)
        weights = {k: torch.from_numpy(v.copy()) for k, v in state.pop("weights").items()}
        n_channels = checks.check_int(self._caller, "n_channels_", state["n_channels_"], low=1)
        classes = state["classes_"]
        if classes.ndim != 1 or classes.dtype != np.int32 or (np.diff(classes) <= 0).any():
            raise ValueError(f"{self._caller}: classes_ is not a sorted list of class ids.")
        for name in ("mean_", "std_"):
            values = state[name]
            if values.shape != (n_channels,) or not np.isfinite(values).all():
                raise ValueError(f"{self._caller}: {name} is not one finite number a channel.")
        if not (state["std_"] > 0).all():
            raise ValueError(f"{self._caller}: std_ is not positive.")
        network = self._empty_network(n_channels, len(classes), state)
        load_weights(network, weights)
        super()._set_state({**state, "network_": network.to(self._device())})
        self.fast_network_ = self._make_fast(self.network_)


def check_statistics(
    caller: str, mean: ArrayLike, std: ArrayLike
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Check what images shall be standardised with.

    Parameters
    ----------
    caller : str
        Named in errors.
    mean, std : (C,) array-like

    Returns
    -------
    mean : (C,) float64
    std : (C,) float64

    Raises
    ------
    ValueError
        If they are not one number and one positive number for each channel.
    """
    mean, std = (np.atleast_1d(np.asarray(values, np.float64)) for values in (mean, std))
    if mean.ndim != 1 or mean.shape != std.shape or not (std > 0).all():
        raise ValueError(
            f"{caller}: mean {mean.tolist()} and std {std.tolist()} are not one number and one "
            "positive number for each channel."
        )
    return mean, std
