"""Encoders by name, trained on images alone, and put into the networks of segmenters.

The methods and the loop are in `segalgos.training`, which knows no architecture.
"""

from __future__ import annotations

import hashlib
import os
import warnings
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from sklearn.base import clone
from sklearn.utils import check_random_state
from torch import nn

import segalgos
from segalgos import checks
from segalgos.color import data_range_of
from segalgos.nets.checkpoints import load_weights
from segalgos.nets.devices import find_device
from segalgos.nets.encoders.by_name import ENCODERS, make_encoder
from segalgos.nets.standardization import LARGEST_INTENSITY, channel_statistics
from segalgos.nets.trunk import Trunk
from segalgos.pretrained_encoder import PretrainedEncoder
from segalgos.training.loop import PRECISIONS
from segalgos.training.self_supervised import COLLAPSED, METHODS, look_of, train_encoder

__all__ = ["find_pretrained", "load_pretrained", "pretrain", "white_of"]

# Where neither epochs nor time_budget is given.
EPOCHS = 100


def pretrain(
    images: Any,
    *,
    encoder: Any = "resnet18",
    method: str = "dense",
    epochs: int | None = None,
    time_budget: float | None = None,
    batch_size: int = 8,
    crop_size: int = 160,
    learning_rate: float = 1e-3,
    weight_decay: float = 1e-4,
    precision: str = "float32",
    augment: bool | str | Mapping[str, Any] = True,
    checkpoint: str | os.PathLike | None = None,
    on_epoch_end: Callable[[dict[str, float]], None] | None = None,
    device: str | None = None,
    channel_axis: int | str | None = "auto",
    random_state: int | np.random.RandomState | None = None,
    verbose: bool = False,
) -> PretrainedEncoder:
    """Train an encoder on images without labels, for `fit` to start from.

    Parameters
    ----------
    images : array_like or sequence of array_like, (H, W) or (H, W, C)
        Sizes may differ, channels may not. Any number of channels.
    encoder : str or segmenter, default="resnet18"
        "efficientnet_lite0", "resnet18", "resnet34", "resnet50", "resnet101", "vgg16" or "mit_b0"
        to "mit_b5". Or a segmenter of `segalgos.nets` that is not fitted, whose encoder it shall
        be; one without an encoder of its own, such as ``UNetSegmenter(padding="same")`` or
        ``DDRNetSegmenter()``, is trained up to its head. Its `pretrained` is where it starts.
    method : {"dense", "masked"}, default="dense"
        "dense": a point that is seen in two views is told from others, by its surroundings.
        "masked": what squares hide is painted in.
    epochs : int, optional
        Times that as many pixels are seen as the images have. 100 if `time_budget` is None, too.
    time_budget : float, optional
        Seconds that training may take; the learning rate follows it.
    batch_size : int, default=8
        Images in each step, rounded up to a multiple of four; of each, "dense" sees two views.
    crop_size : int, default=160
        Height and width of views, in pixels.
    learning_rate : float, default=1e-3
        At the end of the warm-up; it falls to 0 along a cosine.
    weight_decay : float, default=1e-4
    precision : {"float32", "bfloat16"}, default="float32"
    augment : bool, "upright" or dict, default=True
        How views vary: see `segalgos.training.augment.Augmentation`. Each method adds to True
        ("upright" for scenes with a sky above) what it needs; a dict has the last word.
    checkpoint : path-like, optional
        File that training is saved to after every epoch and resumed from.
    on_epoch_end : callable, optional
        Called with each new row of the history.
    device : str, optional
        Like "cpu" or "cuda:1". None takes a GPU if there is one.
    channel_axis : int, None or "auto", default="auto"
    random_state : int, RandomState or None, default=None
    verbose : bool, default=False
        Show a progress bar on stderr.

    Returns
    -------
    PretrainedEncoder
        For the parameter `pretrained` of segmenters; its ``save`` writes a file that this takes,
        too. Rows of its `history` have "embedding_std", see
        `segalgos.training.self_supervised.embedding_std`.

    Raises
    ------
    TypeError, ValueError
        If an image or an option is not as expected.

    Warns
    -----
    RuntimeWarning
        If the encoder collapsed: it gives nearly the same for every place of every image.

    See Also
    --------
    segalgos.training.linear_probe, segalgos.training.kmeans_probe : Scores of features.
    segalgos.nets.encoder_features.EncoderFeatures : Features for pixel classifiers.

    Notes
    -----
    With the same `random_state` and `epochs` the weights are the same bit for bit, whatever the
    number of threads; with a `time_budget` they depend on the machine's speed.

    Examples
    --------
    >>> import numpy as np
    >>> from segalgos import UNetSegmenter
    >>> from segalgos.training import pretrain
    >>> unlabelled = list(np.random.default_rng(0).random((4, 32, 32)))
    >>> encoder = pretrain(unlabelled, encoder="mit_b0", epochs=1, random_state=0)
    >>> segmenter = UNetSegmenter(encoder="mit_b0", pretrained=encoder, base_channels=4, epochs=1)
    >>> segmenter.fit(unlabelled[0], unlabelled[0] > 0.5).predict(unlabelled[1]).shape
    (32, 32)
    """
    caller = "pretrain"
    options = _check_options(
        caller, method, epochs, time_budget, batch_size, crop_size, learning_rate, weight_decay,
        precision, augment, checkpoint, on_epoch_end, verbose,
    )  # fmt: skip
    arrays = _check_images(caller, images, channel_axis)
    seed = int(check_random_state(random_state).randint(2**31 - 1))
    device = find_device(device, caller)
    name, module, mean, std = _make(caller, encoder, arrays, seed)
    module.to(device)
    look = look_of(augment, method, caller)

    def prepare(window: NDArray, i: int) -> NDArray[np.float32]:
        values = (window.astype(np.float64) - mean) / std
        return np.clip(values, -LARGEST_INTENSITY, LARGEST_INTENSITY).astype(np.float32)

    identity = ""
    if checkpoint is not None:
        settings = {**options, "encoder": _told(encoder), "method": method, "seed": seed}
        identity = _identity(settings, arrays)
    history = train_encoder(
        module,
        arrays,
        method,
        prepare=prepare,
        augmentation=look,
        memory_format=getattr(module, "memory_format", torch.contiguous_format),
        seed=seed,
        device=device,
        checkpoint=checkpoint,
        identity=identity,
        on_epoch_end=on_epoch_end,
        verbose=bool(verbose),
        **{k: v for k, v in options.items() if k != "augment"},
    )
    spread = history[-1]["embedding_std"]
    if spread < COLLAPSED:
        warnings.warn(
            f"pretrain: the encoder collapsed: the deviation of its embeddings is {spread:.3f}, "
            f"expected {COLLAPSED} or more of 1: it tells no place of an image from another. Train "
            "longer, with a lower learning_rate, or on images that show more.",
            RuntimeWarning,
            stacklevel=2,
        )
    return PretrainedEncoder(
        encoder=name,
        method=method,
        mean=mean,
        std=std,
        data_range=white_of(arrays),
        weights=_weights_of(module),
        history=history,
    )


def _check_options(
    caller, method, epochs, time_budget, batch_size, crop_size, learning_rate, weight_decay,
    precision, augment, checkpoint, on_epoch_end, verbose,
):  # fmt: skip
    """Check all that needs no image; gives what the loop takes."""
    checks.check_choice(caller, "method", method, tuple(METHODS))
    if epochs is None and time_budget is None:
        epochs = EPOCHS
    if epochs is not None:
        checks.check_int(caller, "epochs", epochs, low=1)
    if time_budget is not None:
        checks.check_real(caller, "time_budget", time_budget, above=0)
    checks.check_int(caller, "batch_size", batch_size, low=1)
    checks.check_int(caller, "crop_size", crop_size, low=1)
    checks.check_real(caller, "learning_rate", learning_rate, above=0)
    checks.check_real(caller, "weight_decay", weight_decay, low=0)
    checks.check_choice(caller, "precision", precision, PRECISIONS)
    look_of(augment, next(iter(METHODS)), caller)
    if not isinstance(checkpoint, str | os.PathLike | None):
        raise TypeError(f"{caller}: checkpoint is {checkpoint!r}, expected a path.")
    if on_epoch_end is not None and not callable(on_epoch_end):
        raise TypeError(f"{caller}: on_epoch_end is {on_epoch_end!r}, expected a function or None.")
    checks.check_bool(caller, "verbose", verbose)
    return {
        "epochs": epochs,
        "time_budget": time_budget,
        "batch_size": batch_size,
        "crop_size": crop_size,
        "learning_rate": learning_rate,
        "weight_decay": weight_decay,
        "precision": precision,
        "augment": augment,
    }


def _check_images(caller: str, images: ArrayLike, channel_axis: Any) -> list[NDArray]:
    many = checks.is_batch(images, caller)
    arrays = [
        checks.check_image(
            image,
            caller,
            channel_axis=channel_axis,
            keep_uint8=True,
            name=f"images[{i}]" if many else "images",
        )
        for i, image in enumerate(images if many else [images])
    ]
    if not arrays:
        raise ValueError(f"{caller}: images is empty, expected at least one.")
    for i, array in enumerate(arrays):
        if array.shape[-1] != arrays[0].shape[-1]:
            raise ValueError(
                f"{caller}: images[{i}] has {array.shape[-1]} channels, images[0] has "
                f"{arrays[0].shape[-1]}: pass images of one kind."
            )
    return arrays


def _make(
    caller: str, encoder: Any, images: list[NDArray], seed: int
) -> tuple[str, nn.Module, NDArray[np.float64], NDArray[np.float64]]:
    """Name, module and statistics of images of the encoder that is asked for."""
    if isinstance(encoder, str):
        checks.check_choice(caller, "encoder", encoder, ENCODERS)
        n_channels = images[0].shape[-1]
        with torch.random.fork_rng(devices=[]):
            module = make_encoder(
                encoder, n_channels, generator=torch.Generator().manual_seed(seed)
            )
        return encoder, module, *channel_statistics(images)
    from segalgos.nets.trained import TrainedNet

    if not isinstance(encoder, TrainedNet):
        raise TypeError(
            f"{caller}: encoder is {encoder!r}, expected one of {', '.join(ENCODERS)} or a "
            "segmenter of segalgos.nets."
        )
    segmenter = clone(encoder)
    if segmenter.frozen_stages:  # that is for `fit`
        segmenter.set_params(frozen_stages=0)
    segmenter._check_params()
    network = segmenter._start(images, 2, seed)  # heads are left out: any number of classes
    module = segmenter._map_encoder(network)
    if network.margin:
        raise ValueError(
            f"{caller}: encoder is a {type(encoder).__name__} whose map is smaller than the image: "
            'pass it with padding="same"; what it learns fits padding="valid", too.'
        )
    name = getattr(encoder, "encoder", None) or type(encoder).__name__
    return name, module, segmenter.mean_, segmenter.std_


def _told(encoder: Any) -> str:
    """What of the encoder's choice decides what training gives."""
    if isinstance(encoder, str):
        return encoder
    ignored = ("checkpoint", "device", "on_epoch_end", "verbose")
    params = {k: v for k, v in encoder.get_params().items() if k not in ignored}
    return f"{type(encoder).__name__} {sorted(params.items())!r}"


def _identity(settings: dict[str, Any], images: list[NDArray]) -> str:
    """Digest of everything that decides what training gives."""
    digest = hashlib.sha256(segalgos.__version__.encode())
    digest.update(repr(sorted(settings.items())).encode())
    for array in images:
        digest.update(f"{array.shape}{array.dtype}".encode())
        digest.update(array)
    return digest.hexdigest()


def white_of(images: list[NDArray]) -> float:
    """Guess the value of white of a set of images.

    Parameters
    ----------
    images : list of (H, W, C) ndarray

    Returns
    -------
    float
        See `segalgos.color.data_range_of`.
    """
    return data_range_of(np.array([image.max() for image in images]))


def _weights_of(encoder: nn.Module) -> dict[str, NDArray]:
    """Copies of what an encoder has learned, by name."""
    module, heads = (
        (encoder.network, encoder.heads) if isinstance(encoder, Trunk) else (encoder, ())
    )
    return {
        name: tensor.detach().cpu().contiguous().numpy().copy()
        for name, tensor in module.state_dict().items()
        if not name.startswith(tuple(heads))
    }


def find_pretrained(source: Any) -> PretrainedEncoder | None:
    """Take `pretrained` of a segmenter for an encoder of `pretrain`, if it is one.

    Parameters
    ----------
    source : object
        Such an encoder, a path, or anything else.

    Returns
    -------
    PretrainedEncoder or None
        None for weights of other origin.
    """
    if isinstance(source, PretrainedEncoder):
        return source
    if isinstance(source, str | os.PathLike) and os.path.isfile(source):
        return PretrainedEncoder.load_if_one(source)
    return None


def load_pretrained(encoder: nn.Module, pretrained: PretrainedEncoder, caller: str) -> None:
    """Load an encoder of `pretrain` into a network.

    Parameters
    ----------
    encoder : torch.nn.Module
        Of the network, or a `Trunk` of it, whose heads stay as they are. Unchanged after an
        error.
    pretrained : PretrainedEncoder
    caller : str
        Named in errors.

    Raises
    ------
    ValueError
        If it is another encoder.
    """
    module, heads = (
        (encoder.network, encoder.heads) if isinstance(encoder, Trunk) else (encoder, ())
    )
    weights = {name: torch.from_numpy(np.array(v)) for name, v in pretrained.weights.items()}
    own = module.state_dict()
    weights |= {name: v for name, v in own.items() if name.startswith(tuple(heads))}
    for name in weights.keys() ^ own.keys():
        if name.endswith("num_batches_tracked"):  # frozen norms count nothing
            if name in own:
                weights[name] = torch.zeros_like(own[name])
            else:
                del weights[name]
    try:
        load_weights(module, weights)
    except ValueError as error:
        raise ValueError(
            f"{caller}: pretrained is an encoder {pretrained.encoder!r} for "
            f"{pretrained.n_channels} channels, which does not fit: {error}"
        ) from error
