"""Weights of an encoder that was trained on images alone, and files of them without pickle."""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from segalgos.files import atomic_path

__all__ = ["PretrainedEncoder"]

FORMAT = "segalgos-encoder"
FORMAT_VERSION = 1
_ABOUT = ("encoder", "method", "mean", "std", "data_range", "history")


@dataclass(frozen=True, eq=False, repr=False)
class PretrainedEncoder:
    """What `segalgos.training.pretrain` gives, and ``pretrained=`` of the nets takes.

    Parameters
    ----------
    encoder : str
        Its name, like "resnet18", or the class of the segmenter whose network it is of.
    method : str
        How it was trained.
    mean, std : (C,) float64
        What images were standardised with, by channel.
    data_range : float
        White in the images that it was trained on: 1, 255 or 65535. Images of another range are
        standardised accordingly.
    weights : dict of str to ndarray
        By the names of the encoder's parameters and buffers.
    history : list of dict
        Of its training.

    Attributes
    ----------
    sha256 : str
        Digest of all but the history.
    """

    encoder: str
    method: str
    mean: NDArray[np.float64]
    std: NDArray[np.float64]
    data_range: float
    weights: dict[str, NDArray]
    history: list[dict[str, float]] = field(default_factory=list)

    def __post_init__(self):
        for name in ("mean", "std"):
            values = np.asarray(getattr(self, name), np.float64)
            if values.ndim != 1 or not np.isfinite(values).all():
                raise ValueError(
                    f"PretrainedEncoder: {name} is {values!r}, expected a finite number a channel."
                )
            object.__setattr__(self, name, values)
        if self.mean.shape != self.std.shape or not (self.std > 0).all():
            raise ValueError(
                f"PretrainedEncoder: std is {self.std.tolist()}, expected a positive number for "
                f"each of the {len(self.mean)} channels of mean."
            )
        for name, values in self.weights.items():
            if not isinstance(name, str) or np.asarray(values).dtype.kind not in "buif":
                raise TypeError(
                    f"PretrainedEncoder: weights[{name!r}] is no array of numbers: pass arrays by "
                    "the names of parameters."
                )

    @property
    def n_channels(self) -> int:
        """Channels of the images that it takes.

        Returns
        -------
        int
        """
        return len(self.mean)

    @property
    def sha256(self) -> str:
        """Digest of the weights and of all that tells how to use them.

        Returns
        -------
        str
        """
        about = {**self.about(), "history": None}
        digest = hashlib.sha256(json.dumps(about, sort_keys=True).encode())
        for name, values in sorted(self.weights.items()):
            digest.update(f"{name}|{values.dtype.str}|{values.shape}|".encode())
            digest.update(np.ascontiguousarray(values).tobytes())
        return digest.hexdigest()

    def __repr__(self) -> str:
        return (
            f"PretrainedEncoder(encoder={self.encoder!r}, method={self.method!r}, "
            f"n_channels={self.n_channels}, sha256={self.sha256[:16]!r})"
        )

    def about(self) -> dict[str, Any]:
        """Gather all but the weights, as JSON can hold it.

        Returns
        -------
        dict
        """
        values = {name: getattr(self, name) for name in _ABOUT}
        return values | {"mean": self.mean.tolist(), "std": self.std.tolist()}

    @classmethod
    def of(cls, about: dict[str, Any], weights: dict[str, NDArray]) -> Self:
        """Put together what `about` and the weights of one tell.

        Parameters
        ----------
        about : dict
        weights : dict of str to ndarray

        Returns
        -------
        PretrainedEncoder

        Raises
        ------
        ValueError
            If anything is missing, left over or of another kind.
        """
        if not isinstance(about, dict) or set(about) != set(_ABOUT):
            raise ValueError(
                f"PretrainedEncoder: expected {', '.join(_ABOUT)}, got {about!r:.200}."
            )
        if not isinstance(about["encoder"], str) or not isinstance(about["method"], str):
            raise ValueError("PretrainedEncoder: encoder and method are no text.")
        return cls(**about, weights=weights)

    def to_model_file(self) -> dict[str, Any]:
        """Tell what a model file holds of it.

        Returns
        -------
        dict
        """
        return {"about": json.dumps(self.about()), "weights": self.weights}

    @classmethod
    def from_model_file(cls, content: dict[str, Any]) -> Self:
        """Make it again.

        Parameters
        ----------
        content : dict
            What `to_model_file` gave.

        Returns
        -------
        PretrainedEncoder
        """
        return cls.of(json.loads(content["about"]), content["weights"])

    def statistics(self, white: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Tell what images are standardised with.

        Parameters
        ----------
        white : float
            Of these images: `segalgos.color.data_range_of` their largest value.

        Returns
        -------
        mean : (C,) float64
        std : (C,) float64
        """
        unit = white / self.data_range
        return self.mean * unit, self.std * unit

    def save(self, path: str | os.PathLike) -> None:
        """Save it to a safetensors file.

        Parameters
        ----------
        path : path-like
            By custom it ends in ``.safetensors``. Written whole or not at all.
        """
        from safetensors.numpy import save_file

        import segalgos

        content = {
            "format": FORMAT,
            "format_version": FORMAT_VERSION,
            "library_version": segalgos.__version__,
            "sha256": self.sha256,
            **self.about(),
        }
        with atomic_path(path) as temporary:
            save_file(self.weights, temporary, {"segalgos": json.dumps(content)})

    @classmethod
    def load(cls, path: str | os.PathLike) -> Self:
        """Load what `save` wrote. Nothing in the file is run.

        Parameters
        ----------
        path : path-like

        Returns
        -------
        PretrainedEncoder

        Raises
        ------
        FileNotFoundError
            If there is no such file.
        ValueError
            If it is damaged, of another kind or written by a newer version.
        """
        path = Path(path)
        if not path.is_file():
            raise FileNotFoundError(f"PretrainedEncoder.load: {path} is no file: check the path.")
        found = cls.load_if_one(path)
        if found is None:
            raise ValueError(
                f"PretrainedEncoder.load: {path} is no encoder that segalgos.training.pretrain "
                "gave: pass a file that its save wrote."
            )
        return found

    @classmethod
    def load_if_one(cls, path: str | os.PathLike) -> Self | None:
        """Load what `save` wrote, unless the file is of another kind.

        Parameters
        ----------
        path : path-like

        Returns
        -------
        PretrainedEncoder or None
            None for weights of other origin.

        Raises
        ------
        ValueError
            If it says to be one, but is damaged or was written by a newer version.
        """
        from safetensors import SafetensorError, safe_open

        try:
            with safe_open(path, framework="numpy") as file:
                text = (file.metadata() or {}).get("segalgos", "")
                content = json.loads(text) if text else None
                if not isinstance(content, dict) or content.get("format") != FORMAT:
                    return None
                weights = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
        except (SafetensorError, OSError, ValueError, TypeError):
            return None
        if content["format_version"] > FORMAT_VERSION:
            raise ValueError(
                f"PretrainedEncoder.load: {path} has format {content['format_version']}, this "
                f"library reads up to {FORMAT_VERSION}: update segalgos."
            )
        try:
            found = cls.of({name: content[name] for name in _ABOUT}, weights)
            intact = found.sha256 == content["sha256"]
        except (LookupError, TypeError, ValueError) as error:
            raise ValueError(
                f"PretrainedEncoder.load: {path} is damaged ({error}): save it again."
            ) from error
        if not intact:
            raise ValueError(
                f"PretrainedEncoder.load: {path} is damaged (its checksum does not match its "
                "content): save it again."
            )
        return found
