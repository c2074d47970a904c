"""What all semantic networks share: from arrays to tensors, training, tiles, model files.

A network is a `torch.nn.Module` from (N, C, H, W) to logits (N, K, h, w) that says how it
sees an image:

===================  =================================================================
``stride``           windows aligned to it give the same output as the whole image
``margin``           pixels that the output is smaller than the input, on each side
``halo``             pixels around an output that it depends on, at most; a multiple of
                     ``stride``. None if it depends on the whole image
``fit_size(size)``   the smallest output of at least `size`, made of an input of
                     ``2 * margin`` more
===================  =================================================================
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.utils import check_random_state
from torch import Tensor, nn

import segalgos
from segalgos import checks
from segalgos.base import SemanticSegmenter
from segalgos.color import data_range_of
from segalgos.metrics.semantic import semantic_scores
from segalgos.nets.checkpoints import load_weights
from segalgos.parallel import map_items
from segalgos.training.augment import CropSampler, mirrored_window
from segalgos.training.loop import one_thread_per_operation, train
from segalgos.training.losses import LOSS_NAMES, AuxiliaryLoss, make_loss

__all__ = ["SemanticNetSegmenter"]

# Standardised intensities are cut here, or huge ones would overflow inside the network.
LARGEST_INTENSITY = 1e4


class SemanticNetSegmenter(SemanticSegmenter):
    """Base of semantic segmenters that train a network.

    A subclass stores the parameters that `UNetSegmenter` documents and writes ``_build``.

    Attributes
    ----------
    network_ : torch.nn.Module
        On the CPU or the GPU, in evaluation mode.
    n_parameters_ : int
    history_ : list of dict
        See `segalgos.training.loop.train`.
    mean_, std_ : (C,) float64
        Of the training images, by channel.

    Notes
    -----
    Results do not depend on the number of threads: every part of a batch and every tile
    of an image is computed by one thread.
    """

    pretrained: str | os.PathLike | None = None
    epochs: int | None
    time_budget: float | None
    batch_size: int
    crop_size: int
    learning_rate: float
    weight_decay: float
    loss: str
    class_weight: Any
    augment: bool
    validation_fraction: float
    tile_size: int
    checkpoint: str | os.PathLike | None
    device: str | None
    random_state: Any
    verbose: bool

    def _build(self, n_channels: int, n_classes: int, generator: torch.Generator) -> nn.Module:
        """Make the network, with initial weights from the generator."""
        raise TypeError(f"{self._caller} has no _build hook: write one.")

    def _encoder(self, network: nn.Module) -> nn.Module:
        """What of the network `pretrained` is for: it has ``load_imagenet``."""
        raise TypeError(f"{self._caller} has no _encoder hook: write one.")

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
        checks.check_int(caller, "tile_size", self.tile_size, low=1)
        checks.check_real(caller, "learning_rate", self.learning_rate, above=0)
        checks.check_real(caller, "weight_decay", self.weight_decay, low=0)
        checks.check_real(caller, "validation_fraction", self.validation_fraction, low=0, high=0.9)
        checks.check_choice(caller, "loss", self.loss, LOSS_NAMES)
        checks.check_class_weight(caller, self.class_weight)
        checks.check_bool(caller, "augment", self.augment)
        checks.check_bool(caller, "verbose", self.verbose)
        for name in ("checkpoint", "pretrained"):
            path = getattr(self, name)
            if not isinstance(path, str | os.PathLike | None):
                raise TypeError(f"{caller}: {name} is {path!r}, expected a path.")
        self._device()

    def _device(self) -> torch.device:
        if self.device is None:
            return torch.device("cuda" if torch.cuda.is_available() else "cpu")
        if not isinstance(self.device, str | torch.device):
            raise TypeError(f"{self._caller}: device is {self.device!r}, expected a name.")
        try:
            device = torch.device(self.device)
            torch.empty(0, device=device)
        except (RuntimeError, AssertionError, NotImplementedError) as error:
            raise ValueError(
                f"{self._caller}: device is {self.device!r}, which is not here ({error}): "
                'pass "cpu", or None for a GPU if there is one.'
            ) from error
        return device

    # --- fit -----------------------------------------------------------------------------

    def _fit(self, images, labels, sample_weight):
        seed = int(check_random_state(self.random_state).randint(2**31 - 1))
        rng = np.random.default_rng(seed)
        identity = "" if self.checkpoint is None else self._identity(images, labels, sample_weight)
        self.mean_, self.std_ = _channel_statistics(images)
        n_classes = len(self.classes_)
        class_weight = self._class_weights(labels)
        network = self._new_network(images[0].shape[-1], n_classes, seed)
        if self.pretrained is not None:
            encoder = self._encoder(network).load_imagenet(self.pretrained)
            if len(self.mean_) == 3:  # it knows how bright each of its colours is
                unit = data_range_of(np.array([image.max() for image in images])) / 255
                self.mean_ = np.broadcast_to(np.float64(encoder.imagenet_mean) * unit, 3).copy()
                self.std_ = np.broadcast_to(np.float64(encoder.imagenet_std) * unit, 3).copy()
        self.network_ = network = network.to(self._device())
        self.n_parameters_ = sum(p.numel() for p in network.parameters())

        training, held_out = self._split(images, rng)
        images_, labels_ = [images[i] for i in training], [labels[i] for i in training]
        if all((label_map < 0).all() for label_map in labels_):
            raise ValueError(
                f"{self._caller}: no pixel is labelled in the images left for training: lower "
                "validation_fraction."
            )
        height, width = (
            network.fit_size(min(self.crop_size, max(image.shape[axis] for image in images_)))
            for axis in (0, 1)
        )
        sampler = CropSampler(
            images_,
            labels_,
            None if sample_weight is None else [sample_weight[i] for i in training],
            shape=(height, width),
            margin=network.margin,
            prepare=self._standardise,
            augment=self.augment,
            random_state=rng,
        )
        # Batch statistics need more than one crop; else small parts use the cores best.
        has_norm = any(isinstance(m, nn.modules.batchnorm._BatchNorm) for m in network.modules())
        per_part = 2 if has_norm else 1
        n_parts = -(-self.batch_size // per_part)

        def draw(rng: np.random.Generator) -> tuple[Tensor, Tensor, Tensor | None]:
            crops = [sampler.draw(rng) for _ in range(per_part)]
            image, label, weight = zip(*crops)
            return (
                _to_tensor(np.stack(image)),
                torch.from_numpy(np.stack(label)),
                None if sample_weight is None else torch.from_numpy(np.stack(weight)),
            )

        pixels_per_step = n_parts * per_part * height * width
        n_pixels = sum(label_map.size for label_map in labels_)
        steps_per_epoch = max(1, round(n_pixels / pixels_per_step))
        n_held_out = sum(labels[i].size for i in held_out)
        self.history_ = train(
            network,
            draw,
            AuxiliaryLoss(make_loss(self.loss, class_weight)).to(self._device()),
            steps_per_epoch=steps_per_epoch,
            epochs=self.epochs,
            time_budget=self.time_budget,
            n_parts=n_parts,
            learning_rate=self.learning_rate,
            weight_decay=self.weight_decay,
            validate=self._validation(images, labels, held_out) if held_out else None,
            # A prediction costs a third of a training step: validation takes a quarter at most.
            validate_every=max(1, round(n_held_out / (steps_per_epoch * pixels_per_step))),
            checkpoint=self.checkpoint,
            identity=identity,
            seed=seed,
            device=self._device(),
            verbose=bool(self.verbose),
        )

    def _new_network(self, n_channels: int, n_classes: int, seed: int) -> nn.Module:
        # torch's layers draw first weights from the global generator, which is the caller's.
        with torch.random.fork_rng(devices=[]):
            network = self._build(n_channels, n_classes, torch.Generator().manual_seed(seed))
        return network.to(memory_format=torch.channels_last).eval()

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

    def _validation(self, images: list, labels: list, held_out: list[int]) -> Callable[[], float]:
        truth = [labels[i] for i in held_out]
        indices = np.arange(len(self.classes_), dtype=np.int32)

        def mean_iou() -> float:
            found = [self._label_map(images[i], indices) for i in held_out]
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
            weight = counts.sum() / (n_classes * counts)
        return torch.tensor(weight, dtype=torch.float32)

    def _identity(self, *data: list[NDArray] | None) -> str:
        """Digest of everything that decides what training gives."""
        digest = hashlib.sha256(segalgos.__version__.encode())
        ignored = ("checkpoint", "device", "tile_size", "verbose")
        params = {k: v for k, v in self.get_params().items() if k not in ignored}
        digest.update(repr(sorted(params.items())).encode())
        for arrays in data:
            for array in arrays or ():
                digest.update(f"{array.shape}{array.dtype}".encode())
                digest.update(np.ascontiguousarray(array))
        return digest.hexdigest()

    # --- predict -------------------------------------------------------------------------

    def _standardise(self, window: NDArray) -> NDArray[np.float32]:
        values = (window.astype(np.float64) - self.mean_) / self.std_
        return np.clip(values, -LARGEST_INTENSITY, LARGEST_INTENSITY).astype(np.float32)

    def _predict_proba(self, image):
        proba = np.empty((*image.shape[:2], len(self.classes_)), np.float32)

        def write(rows: slice, columns: slice, tile: NDArray[np.float32]) -> None:
            proba[rows, columns] = tile

        self._for_each_tile(image, write)
        return proba

    def _predict(self, image, mask, prompts):
        return self._label_map(image, self.classes_)

    def _label_map(self, image: NDArray, classes: NDArray[np.int32]) -> NDArray[np.int32]:
        """Most probable class of each pixel; needs no array of all probabilities."""
        labels = np.empty(image.shape[:2], np.int32)

        def write(rows: slice, columns: slice, tile: NDArray[np.float32]) -> None:
            labels[rows, columns] = classes[tile.argmax(axis=-1)]

        self._for_each_tile(image, write)
        return labels

    def _for_each_tile(
        self, image: NDArray, write: Callable[[slice, slice, NDArray[np.float32]], None]
    ) -> None:
        """Call ``write(rows, columns, probabilities)`` for tiles that make up the image."""
        network, size = self.network_, image.shape[:2]
        device = next(network.parameters()).device

        def compute(tile: tuple[slice, slice]) -> None:
            if device.type == "cpu":
                torch.set_num_threads(1)  # torch keeps this setting by thread
            windows = [_window(network, s, n) for s, n in zip(tile, size)]
            (row, height, top), (column, width, left) = windows
            window = self._standardise(mirrored_window(image, row, column, height, width))
            with torch.inference_mode():
                logits = network(_to_tensor(window[None]).to(device))
                inside = logits[
                    0,
                    :,
                    top : top + tile[0].stop - tile[0].start,
                    left : left + tile[1].stop - tile[1].start,
                ]
                proba = inside.float().softmax(dim=0)  # (K, h, w)
            write(*tile, proba.permute(1, 2, 0).cpu().numpy())

        with one_thread_per_operation():
            map_items(compute, _tiles(network, size, self.tile_size))

    # --- state ---------------------------------------------------------------------------

    def _get_state(self) -> dict[str, Any]:
        state = super()._get_state()
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
        network = self._new_network(n_channels, len(classes), seed=0)
        load_weights(network, weights)
        super()._set_state({**state, "network_": network.to(self._device())})


def _to_tensor(images: NDArray[np.float32]) -> Tensor:
    """(N, H, W, C) array to (N, C, H, W) tensor in channels-last memory, without a copy."""
    return torch.from_numpy(np.ascontiguousarray(images)).permute(0, 3, 1, 2)


def _channel_statistics(images: list[NDArray]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Mean and standard deviation of each channel, in two passes of float64."""
    n = sum(image.shape[0] * image.shape[1] for image in images)
    mean = sum(image.sum(axis=(0, 1), dtype=np.float64) for image in images) / n
    squares = 0.0
    for image in images:
        for row in image:  # a row at a time: no float64 copy of a large image
            squares = squares + ((row - mean) ** 2).sum(axis=0)
    std = np.sqrt(squares / n)
    # A constant channel has no scale; rounding must not be taken for one.
    return mean, np.where(std > 1e-7 * np.abs(mean), std, 1.0)


def _tiles(network: nn.Module, size: tuple[int, int], tile_size: int) -> list[tuple[slice, slice]]:
    """Cut an image into tiles, by its size alone."""
    if network.halo is None:
        return [(slice(0, size[0]), slice(0, size[1]))]
    rows, columns = (list(_cuts(n, tile_size, network.stride)) for n in size)
    if len(rows) == len(columns) == 1 and max(size) >= 4 * network.halo:
        # Two tiles, so that two cores have work; below that size the overlap eats the gain.
        half = -(-max(size) // 2)
        if size[0] >= size[1]:
            rows = list(_cuts(size[0], half, network.stride))
        else:
            columns = list(_cuts(size[1], half, network.stride))
    return [(row, column) for row in rows for column in columns]


def _cuts(size: int, tile_size: int, stride: int) -> Iterator[slice]:
    """Cut a length into pieces of about the same size that start at multiples of `stride`."""
    n_pieces = -(-size // tile_size)
    step = -(-size // (n_pieces * stride)) * stride
    return (slice(start, min(start + step, size)) for start in range(0, size, step))


def _window(network: nn.Module, tile: slice, size: int) -> tuple[int, int, int]:
    """Start and length of the input for a tile, and where the tile begins in the output."""
    if network.margin:
        length = network.fit_size(tile.stop - tile.start) + 2 * network.margin
        return tile.start - network.margin, length, 0
    full = network.fit_size(size)  # the network's own padding must begin where it would
    if network.halo is None:
        return 0, full, tile.start
    start = max(0, tile.start - network.halo)
    stop = full if tile.stop == size else min(full, tile.stop + network.halo)
    return start, stop - start, tile.start - start
