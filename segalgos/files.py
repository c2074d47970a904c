"""Read and write images and label maps; replace files atomically.

Decoding is bounded: a file that claims more pixels than `MAX_PIXELS` is refused
before its pixels are allocated.
"""

from __future__ import annotations

import math
import os
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "IMAGE_SUFFIXES",
    "MAX_PIXELS",
    "atomic_path",
    "find_images",
    "lock_file",
    "read_image",
    "read_labels",
    "read_size",
    "write_image",
    "write_labels",
]

#: Pillow's own limit for an error: about 179 megapixels.
MAX_PIXELS = 178_956_970

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".gif", ".webp", ".pgm", ".ppm")

_TIFF = (".tif", ".tiff")
_WITHOUT_ALPHA = (".jpg", ".jpeg", ".pgm", ".ppm")


@contextmanager
def atomic_path(path: str | os.PathLike) -> Iterator[Path]:
    """Write a file whole or not at all.

    Parameters
    ----------
    path : path-like
        Where the file shall be. Its folder is made if needed.

    Yields
    ------
    pathlib.Path
        A temporary path beside it (same suffix) to write to. When the block ends
        without an error the file is synced and renamed to `path`; after an error
        it is removed and an older file at `path` is untouched.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=f".{path.stem}-", suffix=path.suffix, dir=path.parent)
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        # mkstemp makes files private; a result gets the permissions of any other new file.
        umask = os.umask(0)
        os.umask(umask)
        temporary.chmod(0o666 & ~umask)
        with open(temporary, "rb+") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def lock_file(file: IO) -> None:
    """Hold a file alone, until it is closed or this process ends, however that comes.

    Parameters
    ----------
    file : file object
        Open for writing.

    Raises
    ------
    OSError
        If another process holds it.
    """
    try:
        import fcntl
    except ImportError:  # no such call on Windows: msvcrt locks the first byte instead
        import msvcrt

        msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
    else:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


def find_images(paths: str | os.PathLike | list[str | os.PathLike]) -> list[Path]:
    """List image files: files as given, folders by their sorted images.

    Parameters
    ----------
    paths : path-like or list of path-like

    Returns
    -------
    list of pathlib.Path

    Raises
    ------
    FileNotFoundError
        If a path does not exist or a folder holds no image.
    """
    found: list[Path] = []
    for path in [paths] if isinstance(paths, str | os.PathLike) else paths:
        path = Path(path)
        if path.is_dir():
            images = sorted(p for p in path.iterdir() if p.suffix.lower() in IMAGE_SUFFIXES)
            if not images:
                raise FileNotFoundError(
                    f"find_images: {path} holds no image: expected files ending in "
                    f"{', '.join(IMAGE_SUFFIXES)}."
                )
            found += images
        elif path.exists():
            found.append(path)
        else:
            raise FileNotFoundError(f"find_images: {path} does not exist: check the path.")
    return found


def _decode(path: Path, caller: str, *, as_labels: bool, max_pixels: int) -> NDArray:
    if not path.exists():
        raise FileNotFoundError(f"{caller}: {path} does not exist: check the path.")
    if path.is_dir():
        raise IsADirectoryError(f"{caller}: {path} is a folder, expected an image file.")
    try:
        if path.suffix.lower() in _TIFF:
            return _decode_tiff(path, caller, as_labels, max_pixels)
        return _decode_pillow(path, caller, as_labels, max_pixels)
    except _TooLargeError:
        raise
    except Exception as error:
        # Decoders raise anything on damaged files; the cause is kept in the chain.
        raise ValueError(
            f"{caller}: {path} could not be decoded as an image ({error}): "
            "the file is damaged or in another format; save it again as PNG or TIFF."
        ) from error


class _TooLargeError(ValueError):
    """The file claims more pixels than allowed."""


def _check_size(n_pixels: int, path: Path, caller: str, max_pixels: int) -> None:
    if n_pixels > max_pixels:
        raise _TooLargeError(
            f"{caller}: {path} has {n_pixels:,} pixels, more than the limit of {max_pixels:,}: "
            "pass max_pixels= to allow it, or cut the image into tiles."
        )


def _decode_tiff(path: Path, caller: str, as_labels: bool, max_pixels: int) -> NDArray:
    import tifffile

    with tifffile.TiffFile(path) as file:
        series = file.series[0]
        spatial = series.shape[:-1] if series.shape[-1] <= 4 else series.shape
        _check_size(math.prod(spatial), path, caller, max_pixels)
        photometric = getattr(series.keyframe, "photometric", None)
        if photometric is not None and photometric.name == "PALETTE":
            return _decode_pillow(path, caller, as_labels, max_pixels)
        return series.asarray()


def _decode_pillow(path: Path, caller: str, as_labels: bool, max_pixels: int) -> NDArray:
    from PIL import Image, ImageOps

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # our own limit comes next
        try:
            file = Image.open(path)
        except Image.DecompressionBombError as error:
            raise _TooLargeError(
                f"{caller}: {path} has more pixels than Pillow's limit of {MAX_PIXELS:,} "
                f"({error}): cut the image into tiles, or save it as TIFF and pass max_pixels=."
            ) from error
        with file:
            _check_size(file.width * file.height, path, caller, max_pixels)
            if as_labels:
                return np.array(file)  # a palette image gives its indices: they are the labels
            file = ImageOps.exif_transpose(file)
            if file.mode in ("P", "PA"):
                file = file.convert("RGBA" if "transparency" in file.info else "RGB")
            elif file.mode in ("CMYK", "YCbCr", "LAB", "HSV"):
                file = file.convert("RGB")
            elif file.mode == "1":
                file = file.convert("L")
            return np.array(file)


def read_image(path: str | os.PathLike, *, max_pixels: int = MAX_PIXELS) -> NDArray:
    """Read an image file as it is meant to be seen.

    Parameters
    ----------
    path : path-like
        PNG, JPEG, BMP, GIF (first frame), WebP, PNM or TIFF.
    max_pixels : int, default=178956970
        A larger image is refused before its pixels are decoded.

    Returns
    -------
    ndarray, (H, W) or (H, W, C)
        Intensities as stored. The camera's orientation tag is applied, palettes are
        expanded to RGB, and an alpha channel is left out when it is opaque everywhere.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If the file is damaged, no image, or too large; names the file.
    """
    path = Path(path)
    image = _decode(path, "read_image", as_labels=False, max_pixels=max_pixels)
    if image.ndim == 3 and image.shape[-1] in (2, 4) and image.dtype.kind in "ui":
        opaque = np.iinfo(image.dtype).max
        if (image[..., -1] == opaque).all():
            image = image[..., 0] if image.shape[-1] == 2 else image[..., :3]
    return np.ascontiguousarray(image)


def read_size(path: str | os.PathLike) -> tuple[int, int]:
    """Read the height and width of an image, from its header alone.

    Parameters
    ----------
    path : path-like

    Returns
    -------
    tuple of int
        Of what `read_image` gives: the camera's orientation tag is applied.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If the file is damaged, no image, or too large.
    """
    path = Path(path)
    if path.suffix.lower() in _TIFF or not path.is_file():
        return read_image(path).shape[:2]  # or its error
    from PIL import Image

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # our own limit comes next
            with Image.open(path) as file:
                width, height = file.size
                turned = file.getexif().get(0x0112, 1) in (5, 6, 7, 8)
    except Exception as error:
        raise ValueError(
            f"read_size: {path} could not be decoded as an image ({error}): the file is damaged."
        ) from error
    _check_size(height * width, path, "read_size", MAX_PIXELS)
    return (width, height) if turned else (height, width)


def read_labels(path: str | os.PathLike, *, max_pixels: int = MAX_PIXELS) -> NDArray[np.int32]:
    """Read a label map: PNG or TIFF (values or palette indices), or ``.npy``.

    Parameters
    ----------
    path : path-like
    max_pixels : int, default=178956970

    Returns
    -------
    (H, W) int32
        Ids as stored; signed formats keep -1 as "unlabelled".

    Raises
    ------
    ValueError
        If the file is no image, has colour channels, or holds no integers.
    """
    path = Path(path)
    if path.suffix.lower() == ".npy":
        try:
            labels = np.load(path, allow_pickle=False)
        except (ValueError, EOFError) as error:
            raise ValueError(
                f"read_labels: {path} is not a plain array file ({error}): "
                "write it with numpy.save from an integer array."
            ) from error
    else:
        labels = _decode(path, "read_labels", as_labels=True, max_pixels=max_pixels)
    if labels.ndim == 3 and labels.shape[-1] in (3, 4) and labels.dtype == np.uint8:
        # A grey mask saved as RGB is unambiguous; a coloured one is not.
        if not (labels[..., :1] == labels[..., :3]).all():
            raise ValueError(
                f"read_labels: {path} is a colour picture, expected one integer a pixel: "
                "convert its colours to class ids first (the folder data set does so)."
            )
        labels = labels[..., 0]
    if labels.ndim != 2:
        raise ValueError(
            f"read_labels: {path} has shape {labels.shape}, expected (H, W): one id a pixel."
        )
    if labels.dtype.kind not in "bui":
        raise ValueError(
            f"read_labels: {path} holds {labels.dtype}, expected integers: save ids, not scores."
        )
    _check_int32(labels, f"read_labels: {path}")
    return np.ascontiguousarray(labels, dtype=np.int32)


def _check_int32(labels: NDArray, where: str) -> None:
    low, high = (int(labels.min()), int(labels.max())) if labels.size else (0, 0)
    limits = np.iinfo(np.int32)
    if low < limits.min or high > limits.max:
        beyond = high if high > limits.max else low
        raise ValueError(f"{where} holds the id {beyond}, beyond int32: renumber the ids.")


def write_labels(path: str | os.PathLike, labels: NDArray) -> None:
    """Write a label map so that `read_labels` gives it back exactly.

    Parameters
    ----------
    path : path-like
        ``.png`` (ids 0 to 65535), ``.tif``/``.tiff`` or ``.npy`` (any int32, -1 included).
    labels : (H, W) int
        Label map.

    Raises
    ------
    ValueError
        If the format cannot hold the ids; nothing is written then.
    """
    path = Path(path)
    labels = np.asarray(labels)
    suffix = path.suffix.lower()
    if labels.ndim != 2 or labels.dtype.kind not in "bui":
        raise ValueError(
            f"write_labels: labels is {labels.dtype} of shape {labels.shape}, expected integers "
            "(H, W): pass one label map."
        )
    _check_int32(labels, "write_labels: labels")
    if suffix == ".npy":
        with atomic_path(path) as temporary, open(temporary, "wb") as file:
            np.save(file, labels.astype(np.int32), allow_pickle=False)
    elif suffix in _TIFF:
        import tifffile

        with atomic_path(path) as temporary:
            tifffile.imwrite(temporary, labels.astype(np.int32), compression="zlib")
    elif suffix == ".png":
        from PIL import Image

        low, high = (int(labels.min()), int(labels.max())) if labels.size else (0, 0)
        if low < 0 or high > 65535:
            raise ValueError(
                f"write_labels: ids {low} to {high} do not fit a PNG (0 to 65535): "
                "write .tif or .npy instead."
            )
        with atomic_path(path) as temporary:
            dtype = np.uint8 if high <= 255 else np.uint16
            Image.fromarray(labels.astype(dtype)).save(temporary)
    else:
        raise ValueError(
            f"write_labels: {path} ends in {suffix or 'nothing'!r}, expected .png, .tif or .npy: "
            "these keep ids exactly."
        )


def write_image(path: str | os.PathLike, image: NDArray[np.uint8]) -> None:
    """Write an 8-bit picture whole or not at all.

    Parameters
    ----------
    path : path-like
        Its suffix names the format: ``.png``, ``.jpg``, ``.webp``, ...
    image : (H, W) or (H, W, 3 or 4) uint8

    Raises
    ------
    ValueError
        If the image is not 8-bit or the format is unknown.
    """
    from PIL import Image

    path = Path(path)
    image = np.asarray(image)
    if image.dtype != np.uint8:
        raise ValueError(f"write_image: image is {image.dtype}, expected uint8: scale it first.")
    if image.ndim != 2 and (image.ndim != 3 or image.shape[-1] not in (3, 4)):
        raise ValueError(
            f"write_image: image has shape {image.shape}, expected (H, W), (H, W, 3) or (H, W, 4)."
        )
    if path.suffix.lower() in _WITHOUT_ALPHA and image.shape[2:] == (4,):
        raise ValueError(
            f"write_image: {path} cannot hold an alpha channel: write .png, or leave it out."
        )
    if path.suffix.lower() not in IMAGE_SUFFIXES:
        raise ValueError(
            f"write_image: {path} ends in {path.suffix!r}, expected one of "
            f"{', '.join(IMAGE_SUFFIXES)}: rename the output."
        )
    with atomic_path(path) as temporary:
        Image.fromarray(image).save(temporary)
