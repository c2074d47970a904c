"""What the page shows of images: 8-bit pictures at halved sizes, cut into tiles.

The tools work on the same pictures, so that they see what a person sees.
"""

from __future__ import annotations

import io
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from threading import Lock, RLock

import numpy as np
from numpy.typing import NDArray

from segalgos.files import read_image

__all__ = ["TILE", "Picture", "Pictures", "read_picture", "thumbnail", "to_png"]

#: Side of a tile in pixels.
TILE = 512
#: Bytes of decoded pictures that are kept.
KEPT_BYTES = 1_000_000_000
KEPT_THUMBNAILS = 4000
_SMALLEST = 256  # no further halving below this side


def read_picture(path: Path) -> NDArray[np.uint8]:
    """Read an image as an 8-bit colour picture.

    Parameters
    ----------
    path : Path

    Returns
    -------
    (H, W, 3) uint8
        8-bit values as they are; others from their .5 to their 99.5 percentile. Transparency is
        left out; of two channels the first is shown.

    Raises
    ------
    ValueError
        If the file is damaged, or neither grey nor colour.
    """
    image = read_image(path)
    if image.ndim == 2:
        image = image[..., None]
    if image.ndim != 3 or image.shape[-1] > 4:
        raise ValueError(
            f"annotate: {path.name} has shape {image.shape}, expected a grey or colour image: "
            "save each of its planes as an image of its own."
        )
    image = image[..., :1] if image.shape[-1] == 2 else image[..., :3]
    if image.dtype != np.uint8:
        image = _to_bytes(image)
    return np.ascontiguousarray(np.broadcast_to(image, (*image.shape[:2], 3)))


def _to_bytes(image: NDArray) -> NDArray[np.uint8]:
    values = image.astype(np.float32)
    sample = values[:: max(1, len(values) // 1000), :: max(1, values.shape[1] // 1000)]
    sample = sample[np.isfinite(sample)]
    low, high = np.percentile(sample, [0.5, 99.5]) if sample.size else (0, 1)
    values -= low
    values *= 255 / max(float(high - low), 1e-12)
    return np.nan_to_num(values, nan=0, posinf=255, neginf=0).clip(0, 255).astype(np.uint8)


class Picture:
    """A picture and its copies of half the size, a quarter, and so on.

    Parameters
    ----------
    pixels : (H, W, 3) uint8

    Attributes
    ----------
    levels : list of (h, w, 3) uint8
        ``levels[k]`` is reduced by 2**k; a last odd row or column is left out.
    """

    def __init__(self, pixels: NDArray[np.uint8]):
        self.levels = [pixels]
        while max(self.levels[-1].shape[:2]) > 2 * _SMALLEST:
            self.levels.append(_halve(self.levels[-1]))

    @property
    def size(self) -> tuple[int, int]:
        """Height and width."""
        return self.levels[0].shape[:2]

    @property
    def n_bytes(self) -> int:
        """Memory that it takes."""
        return sum(level.nbytes for level in self.levels)

    def tile(self, level: int, row: int, col: int) -> bytes:
        """Cut a tile out and write it as PNG.

        Parameters
        ----------
        level, row, col : int

        Returns
        -------
        bytes

        Raises
        ------
        IndexError
            If there is no such tile.
        """
        if not 0 <= level < len(self.levels) or row < 0 or col < 0:
            raise IndexError(f"annotate: there is no tile {level}, {row}, {col}.")
        part = self.levels[level][row * TILE : (row + 1) * TILE, col * TILE : (col + 1) * TILE]
        if part.size == 0:
            raise IndexError(f"annotate: there is no tile {level}, {row}, {col}.")
        return to_png(part)


def _halve(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Means of 2 x 2 pixels, in bands of rows so that little is held at once."""
    height, width = pixels.shape[0] // 2, pixels.shape[1] // 2
    if height == 0 or width == 0:  # a line of pixels
        return pixels[:: min(2, pixels.shape[0]), :: min(2, pixels.shape[1])][
            : max(1, height), : max(1, width)
        ]
    half = np.empty((height, width, 3), np.uint8)
    for top in range(0, height, 256):
        band = pixels[2 * top : 2 * min(top + 256, height), : 2 * width].astype(np.uint16)
        sums = band[::2, ::2] + band[1::2, ::2] + band[::2, 1::2] + band[1::2, 1::2]
        half[top : top + 256] = (sums + 2) // 4
    return half


def to_png(pixels: NDArray[np.uint8]) -> bytes:
    """Write pixels as PNG, packed little, since they go no farther than this computer.

    Parameters
    ----------
    pixels : (H, W, 3 or 4) uint8

    Returns
    -------
    bytes
    """
    from PIL import Image

    file = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(pixels)).save(file, "PNG", compress_level=1)
    return file.getvalue()


def thumbnail(path: Path, side: int = 144) -> bytes:
    """Make a small JPEG of an image.

    Parameters
    ----------
    path : Path
    side : int, default=144
        Longest side in pixels.

    Returns
    -------
    bytes
    """
    from PIL import Image

    pixels = read_picture(path) if path.suffix.lower() != ".jpg" else _quick_picture(path, side)
    image = Image.fromarray(pixels)
    image.thumbnail((side, side), reducing_gap=2.0)
    file = io.BytesIO()
    image.save(file, "JPEG", quality=85)
    return file.getvalue()


def _quick_picture(path: Path, side: int) -> NDArray[np.uint8]:
    """A JPEG file decoded at an eighth of its size or so, which saves most of the work."""
    from PIL import Image, ImageOps

    try:
        with Image.open(path) as file:
            file.draft("RGB", (2 * side, 2 * side))
            return np.asarray(ImageOps.exif_transpose(file).convert("RGB"))
    except Exception:  # decoders raise anything; reading it in full tells the reason
        return read_picture(path)


class Pictures:
    """Pictures by image, decoded when they are asked for; those used last are kept.

    Parameters
    ----------
    path_of : callable
        ``path_of(image_id)`` gives the file.
    kept_bytes : int
        Most memory for pictures that are kept; one alone may take more.
    """

    def __init__(self, path_of: Callable[[int], Path], kept_bytes: int = KEPT_BYTES):
        self._path_of = path_of
        self._kept_bytes = kept_bytes
        self._kept: OrderedDict[int, Picture] = OrderedDict()
        self._thumbnails: OrderedDict[int, bytes] = OrderedDict()
        self._lock = Lock()
        self._decoding = RLock()  # one at a time: memory is bounded by that

    def get(self, image_id: int) -> Picture:
        """Get the picture of an image.

        Parameters
        ----------
        image_id : int

        Returns
        -------
        Picture

        Raises
        ------
        ValueError, OSError
            If it cannot be read.
        """
        found = self._find(image_id)
        if found is not None:
            return found
        with self._decoding:
            found = self._find(image_id)
            if found is None:
                found = Picture(read_picture(self._path_of(image_id)))
                self._keep(image_id, found)
            return found

    def _find(self, image_id: int) -> Picture | None:
        with self._lock:
            if image_id in self._kept:
                self._kept.move_to_end(image_id)
            return self._kept.get(image_id)

    def _keep(self, image_id: int, picture: Picture) -> None:
        with self._lock:
            self._kept[image_id] = picture
            while len(self._kept) > 1 and self.n_bytes > self._kept_bytes:
                self._kept.popitem(last=False)

    @property
    def n_bytes(self) -> int:
        """Memory of the pictures that are kept."""
        return sum(picture.n_bytes for picture in self._kept.values())

    def thumbnail(self, image_id: int) -> bytes:
        """Get a small JPEG of an image.

        Parameters
        ----------
        image_id : int

        Returns
        -------
        bytes
        """
        with self._lock:
            if image_id in self._thumbnails:
                return self._thumbnails[image_id]
        with self._decoding:
            made = thumbnail(self._path_of(image_id))
        with self._lock:
            self._thumbnails[image_id] = made
            while len(self._thumbnails) > KEPT_THUMBNAILS:
                self._thumbnails.popitem(last=False)
        return made
