"""Filter responses that describe a pixel by its surroundings, at several scales."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import ndimage

from segalgos.checks import check_image, check_real
from segalgos.parallel import map_items

__all__ = ["PixelFeatures", "feature_names", "halo", "pixel_features"]

TRUNCATE = 3.0  # Gaussian radius in standard deviations
COLOUR = ("intensity", "gradient")


def _texture(ndim: int) -> list[str]:
    return [
        "laplacian",
        "deviation",
        *(f"structure{i}" for i in range(ndim)),
        *(f"hessian{i}" for i in range(ndim)),
    ]


def feature_names(
    n_channels: int, scales: Sequence[float] = (1, 2, 4, 8), ndim: int = 2
) -> list[str]:
    """Name the features in the order of `pixel_features`.

    Parameters
    ----------
    n_channels : int
    scales : sequence of float, default=(1, 2, 4, 8)
    ndim : {2, 3}, default=2
        Spatial axes.

    Returns
    -------
    list of str
        Like ``"gradient[0] 2"``: filter, channel, scale in pixels.
    """
    names = []
    for scale in scales:
        names += [f"{name}[{c}] {scale:g}" for c in range(n_channels) for name in COLOUR]
        names += [f"{name} {scale:g}" for name in _texture(ndim)]
    return names


def halo(scales: Sequence[float]) -> int:
    """Count the pixels around a tile that its features depend on.

    Parameters
    ----------
    scales : sequence of float

    Returns
    -------
    int
    """
    return 2 * int(TRUNCATE * max(scales) + 0.5) + 2


def _gaussian(field: NDArray[np.float32], scale: float) -> NDArray[np.float32]:
    return ndimage.gaussian_filter(field, scale, mode="reflect", truncate=TRUNCATE)


def _derivative(field: NDArray[np.float32], axis: int) -> NDArray[np.float32]:
    return ndimage.correlate1d(field, np.array([-0.5, 0, 0.5]), axis, mode="reflect")


def _eigenvalues(tensor: list[list[NDArray]]) -> list[NDArray]:
    """Eigenvalues of a symmetric 2 x 2 or 3 x 3 field, largest first."""
    if len(tensor) == 2:
        (a, b), (_, c) = tensor
        half = np.sqrt(((a - c) / 2) ** 2 + b**2)
        mean = (a + c) / 2
        return [mean + half, mean - half]
    stacked = np.stack([np.stack(row, -1) for row in tensor], -2)
    values = np.linalg.eigvalsh(stacked)
    return [values[..., i] for i in (2, 1, 0)]


def _features_at(image: NDArray[np.float32], scale: float, out: NDArray[np.float32]) -> None:
    """Fill `out` (..., n) with all features of `image` (..., C) at one scale."""
    ndim = image.ndim - 1
    column = 0

    def put(*values: NDArray) -> None:
        nonlocal column
        for value in values:
            out[..., column] = value
            column += 1

    for c in range(image.shape[-1]):
        smooth = _gaussian(image[..., c], scale)
        gradient = [_derivative(smooth, axis) for axis in range(ndim)]
        put(smooth, np.sqrt(sum(g * g for g in gradient)))
    # Texture is taken from the channels' mean: it differs little between them.
    grey = image.mean(axis=-1)
    smooth = _gaussian(grey, scale)
    gradient = [_derivative(smooth, axis) for axis in range(ndim)]
    hessian = [[_derivative(gradient[i], j) for j in range(ndim)] for i in range(ndim)]
    variance = _gaussian(grey * grey, scale) - smooth * smooth
    structure = [
        [_gaussian(gradient[min(i, j)] * gradient[max(i, j)], scale) for j in range(ndim)]
        for i in range(ndim)
    ]
    put(sum(hessian[i][i] for i in range(ndim)), np.sqrt(np.maximum(variance, 0)))
    # Square roots keep every feature in the image's own unit.
    put(*(np.sqrt(np.maximum(v, 0)) for v in _eigenvalues(structure)))
    put(*_eigenvalues(hessian))


def compute_features(image: NDArray, scales: Sequence[float]) -> NDArray[np.float32]:
    """`pixel_features` of an image (..., C) that has been checked."""
    image = image.astype(np.float32, copy=False)
    # Work near 1 so that squares of huge values stay finite; a power of two is exact.
    largest = float(np.abs(image).max())
    unit = np.float32(2.0 ** np.floor(np.log2(largest))) if largest > 0 else np.float32(1)
    scaled = image / unit
    per_scale = len(feature_names(image.shape[-1], [1], image.ndim - 1))
    out = np.empty((*image.shape[:-1], len(scales) * per_scale), np.float32)
    parts = [out[..., i * per_scale : (i + 1) * per_scale] for i in range(len(scales))]
    map_items(lambda i: _features_at(scaled, scales[i], parts[i]), range(len(scales)))
    with np.errstate(over="ignore"):
        out *= unit
    if largest > 1e37:  # a derivative may leave float32's range; it stays finite and ordered
        np.clip(out, -np.finfo(np.float32).max, np.finfo(np.float32).max, out=out)
    return out


@dataclass(frozen=True)
class PixelFeatures:
    """Which features describe a pixel, checked.

    Parameters
    ----------
    scales : tuple of float
        Standard deviations of the Gaussians, in pixels.
    """

    scales: tuple[float, ...]

    @classmethod
    def checked(cls, caller: str, scales: Any) -> Self:
        """Check what a user chose.

        Parameters
        ----------
        caller : str
            For the messages.
        scales : sequence of float

        Returns
        -------
        PixelFeatures

        Raises
        ------
        ValueError
            If a choice is not as expected.
        """
        return cls(tuple(check_scales(caller, scales)))

    def names(self, n_channels: int, ndim: int) -> list[str]:
        """Name the features, in their order.

        Parameters
        ----------
        n_channels : int
        ndim : {2, 3}
            Spatial axes.

        Returns
        -------
        list of str
        """
        return feature_names(n_channels, self.scales, ndim)

    def halo(self, ndim: int) -> tuple[int, ...]:
        """Count the pixels around a tile that its features depend on, along each axis.

        Parameters
        ----------
        ndim : {2, 3}

        Returns
        -------
        tuple of int
        """
        return (halo(self.scales),) * ndim

    def compute(self, image: NDArray) -> NDArray[np.float32]:
        """Compute the features of an image that has been checked.

        Parameters
        ----------
        image : (H, W, C) or (D, H, W, C) uint8 or float32

        Returns
        -------
        (H, W, F) or (D, H, W, F) float32
        """
        return compute_features(image, self.scales)


def pixel_features(
    image: ArrayLike,
    scales: Sequence[float] = (1, 2, 4, 8),
    *,
    channel_axis: int | str | None = "auto",
) -> NDArray[np.float32]:
    """Describe every pixel by filters of its surroundings, at several scales.

    Parameters
    ----------
    image : array_like, (H, W), (H, W, C) or (D, H, W)
        Any real dtype; intensities keep their range.
    scales : sequence of float, default=(1, 2, 4, 8)
        Standard deviations of the Gaussians, in pixels.
    channel_axis : int, None or "auto", default="auto"
        None for a volume (D, H, W), -1 for many channels.

    Returns
    -------
    (H, W, F) or (D, H, W, F) float32
        In the image's unit. Per scale, for each channel: Gaussian and gradient
        magnitude; for the channels' mean: Laplacian, local standard deviation, square
        roots of the structure tensor's eigenvalues, the Hessian's eigenvalues (largest
        first). `feature_names` names them.

    Notes
    -----
    O(H * W * C * sum(scales)) time and one output array of memory. Scales run on
    threads. The filters are those that ilastik and scikit-image's trainable
    segmentation made standard.

    References
    ----------
    .. [1] S. Berg et al., "ilastik: interactive machine learning for (bio)image
       analysis", Nature Methods 16, 2019.
    """
    image = check_image(image, "pixel_features", channel_axis=channel_axis, ndims=(2, 3))
    return compute_features(image, check_scales("pixel_features", scales))


def check_scales(caller: str, scales: Sequence[float]) -> list[float]:
    """Check the scales: a non-empty sequence of positive numbers."""
    if isinstance(scales, str) or not hasattr(scales, "__len__") or len(scales) == 0:
        raise ValueError(
            f"{caller}: scales is {scales!r}, expected a sequence of standard deviations in "
            "pixels, like (1, 2, 4)."
        )
    return [check_real(caller, f"scales[{i}]", s, above=0) for i, s in enumerate(scales)]
