"""Arrays larger than memory, seen as the clean images that pixel classifiers take."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from segalgos.checks import channels_last, check_image
from segalgos.pixels.features import peak_of
from segalgos.pixels.tiles import Tile, moved

__all__ = ["LazyImage", "label_chunks"]


class LazyImage:
    """An array that is read window by window: a memmap, or an array of zarr, HDF5 or dask.

    Parameters
    ----------
    source : array-like
        With ``shape``, ``dtype`` and slicing.
    caller : str
        For the messages.
    channel_axis : int, None or "auto"
        As in `segalgos.checks.check_image`.
    offset : tuple of int, optional
        Where `source` begins in the image, if it is a window of that.
    shape : tuple of int, optional
        Of the image, (H, W, C) or (D, H, W, C), if `source` is a window of it.

    Raises
    ------
    TypeError
        If it is no such array.
    ValueError
        If its shape is not understood.
    """

    def __init__(
        self,
        source: Any,
        caller: str,
        channel_axis: int | str | None,
        *,
        offset: tuple[int, ...] | None = None,
        shape: tuple[int, ...] | None = None,
    ):
        if not all(hasattr(source, name) for name in ("shape", "dtype", "__getitem__")):
            raise TypeError(
                f"{caller}: source is a {type(source).__name__}, expected an array with shape, "
                "dtype and slices, like numpy.memmap or zarr.Array."
            )
        self.source, self.caller, self.channel_axis = source, caller, channel_axis
        # Nothing of this is read: one number, seen in the array's shape.
        outline = np.broadcast_to(np.zeros((), np.uint8), source.shape)
        self.shape = shape or channels_last(outline, caller, channel_axis, (2, 3), "source").shape
        self.ndim = len(self.shape)
        self._offset = offset or (0,) * (self.ndim - 1)

    def __getitem__(self, window: Tile) -> NDArray:
        """Read a window.

        Parameters
        ----------
        window : tuple of slice
            One an axis of space.

        Returns
        -------
        (h, w, C) or (d, h, w, C) uint8 or float32
            Checked as any image is.
        """
        here = self.with_channels(moved(window, [-start for start in self._offset]))
        return check_image(
            np.asarray(self.source[here]),
            self.caller,
            channel_axis=self.channel_axis,
            ndims=(2, 3),
            keep_uint8=True,
            name=f"source[{', '.join(f'{part.start}:{part.stop}' for part in window)}]",
        )

    def with_channels(self, window: tuple[Any, ...], every: Any = slice(None)) -> tuple[Any, ...]:
        """Add an entry for the channels to one entry an axis of space, if `source` has any.

        Parameters
        ----------
        window : tuple
        every : object, default=slice(None)
            What to add.

        Returns
        -------
        tuple
        """
        if self.channel_axis is None or self.source.ndim < self.ndim:
            return window
        axis = -1 if self.channel_axis == "auto" else self.channel_axis
        axis %= self.ndim
        return (*window[:axis], every, *window[axis:])

    def peak(self, tiles: list[Tile]) -> float:
        """Read all tiles once, and find the largest absolute value.

        Parameters
        ----------
        tiles : list of tuple of slice
            They cover the image.

        Returns
        -------
        float

        Raises
        ------
        ValueError
            If a value is NaN, infinite or beyond float32.
        """
        return max(peak_of(self[tile]) for tile in tiles)


def label_chunks(
    image: LazyImage,
    halo: tuple[int, ...] | None,
    label: Callable[[LazyImage, Tile, float], NDArray[np.int32]],
) -> Any:
    """Label the chunks of a dask array when they are asked for.

    Parameters
    ----------
    image : LazyImage
        Of a dask array.
    halo : tuple of int or None
        How far beyond a chunk `label` looks; None for the whole image.
    label : callable
        ``label(image, part, peak)`` gives the labels of a part.

    Returns
    -------
    (H, W) or (D, H, W) dask.array.Array of int32
        With the chunks of the source.
    """
    import dask
    import dask.array as da

    source, shape = image.source, image.shape[:-1]
    axes = image.with_channels(tuple(range(len(shape))), None)
    chunks = [n for axis, n in zip(axes, source.chunks, strict=True) if axis is not None]
    least, most = source.min(), source.max()

    def one_chunk(array, wide, part, least, most):
        offset = tuple(w.start for w in wide)
        window = LazyImage(
            array, image.caller, image.channel_axis, offset=offset, shape=image.shape
        )
        return label(window, part, max(abs(float(least)), abs(float(most))))

    blocks = np.empty([len(lengths) for lengths in chunks], object)
    for place in np.ndindex(blocks.shape):
        starts = [sum(lengths[:number]) for lengths, number in zip(chunks, place, strict=True)]
        size = [lengths[number] for lengths, number in zip(chunks, place, strict=True)]
        part = tuple(slice(start, start + n) for start, n in zip(starts, size, strict=True))
        wide = tuple(
            slice(max(0, p.start - reach), min(length, p.stop + reach))
            for p, reach, length in zip(part, halo or shape, shape, strict=True)
        )
        array = source[image.with_channels(wide)]
        labels = dask.delayed(one_chunk)(array, wide, part, least, most)
        blocks[place] = da.from_delayed(labels, size, np.int32)
    return da.block(blocks.tolist())
