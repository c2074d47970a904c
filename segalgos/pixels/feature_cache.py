"""Features of images that were computed before."""

from __future__ import annotations

import hashlib

import numpy as np
from numpy.typing import NDArray

from segalgos.pixels.features import PixelFeatures

__all__ = ["FeatureCache"]


class FeatureCache:
    """Keep the features of images, found again by what the images hold.

    Parameters
    ----------
    n_megabytes : float
        Most memory to take; an image that does not fit any more is not kept.
    """

    def __init__(self, n_megabytes: float):
        self.n_bytes = int(n_megabytes * 1e6)
        self._kept: dict[tuple[bytes, PixelFeatures], NDArray[np.float32]] = {}

    def get(self, image: NDArray, features: PixelFeatures) -> NDArray[np.float32] | None:
        """Find the features of an image.

        Parameters
        ----------
        image : (H, W, C) or (D, H, W, C) uint8 or float32
        features : PixelFeatures
            Which are wanted.

        Returns
        -------
        (H, W, F) or (D, H, W, F) float32, or None
            None if they are not here.

        Notes
        -----
        An image is known by its digest, so that one that was changed in place is not.
        """
        return self._kept.get((_digest(image), features)) if self._kept else None

    def keep(self, image: NDArray, features: PixelFeatures, computed: NDArray[np.float32]) -> None:
        """Keep the features of an image, if there is room.

        Parameters
        ----------
        image, features : as `get` takes them
        computed : as `get` gives it
        """
        if self.has_room(computed.nbytes):
            self._kept[_digest(image), features] = computed

    def has_room(self, n_bytes: int) -> bool:
        """Tell whether so many bytes more may be kept.

        Parameters
        ----------
        n_bytes : int

        Returns
        -------
        bool
        """
        return n_bytes + sum(kept.nbytes for kept in self._kept.values()) <= self.n_bytes


def _digest(image: NDArray) -> bytes:
    digest = hashlib.blake2b(f"{image.shape} {image.dtype}".encode())
    digest.update(np.ascontiguousarray(image))
    return digest.digest()
