"""From a network and an image of any size to probabilities, tile by tile.

A network that says how far its outputs depend on its inputs (its ``halo``) is computed in
tiles that give what the whole image would. One that looks at the whole image sees all of
it up to a size, and beyond that windows that overlap and are blended.

Nothing depends on the number of cores: several tiles are computed side by side, each by
one thread, and a lone one by two threads on any machine, since how torch sums depends on
how many there are.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from segalgos.nets.class_map import class_map
from segalgos.nets.mixed_precision import predicting
from segalgos.nets.semantic_net import CoarseNet
from segalgos.parallel import map_items
from segalgos.torch_threads import threads_per_operation
from segalgos.training.augment import mirrored_window

__all__ = ["THREADS_OF_A_LONE_TILE", "for_each_tile", "resize", "to_tensor"]

#: Always the same number, or results would depend on that of the cores.
THREADS_OF_A_LONE_TILE = 2
#: Share of a window that the next one overlaps, if they are blended.
OVERLAP = 0.25

Write = Callable[[slice, slice, NDArray], None]
Prepare = Callable[[NDArray], NDArray[np.float32]]
Activate = Callable[[Tensor], Tensor]


def to_tensor(images: NDArray[np.float32]) -> Tensor:
    """Turn images into a tensor in channels-last memory, without a copy.

    Parameters
    ----------
    images : (N, H, W, C) float32

    Returns
    -------
    (N, C, H, W) Tensor
    """
    return torch.from_numpy(np.ascontiguousarray(images)).permute(0, 3, 1, 2)


def resize(image: NDArray, size: tuple[int, int]) -> NDArray:
    """Interpolate bilinearly, and average where pixels become fewer.

    Parameters
    ----------
    image : (H, W, C) ndarray
    size : tuple of int
        Height and width wanted.

    Returns
    -------
    (h, w, C) float32
        The image itself, of its own dtype, if it has that size.
    """
    if image.shape[:2] == size:
        return image
    x = to_tensor(image[None].astype(np.float32))
    x = F.interpolate(x, size, mode="bilinear", antialias=True)
    return x[0].permute(1, 2, 0).numpy()


def for_each_tile(
    network: nn.Module,
    image: NDArray,
    prepare: Prepare,
    write: Write,
    *,
    tile_size: int,
    classes: bool = False,
    activate: Activate | None = None,
) -> None:
    """Compute the probabilities of classes in tiles that make up an image.

    Parameters
    ----------
    network : SemanticNet
        In evaluation mode, with the attributes of `SemanticNet`.
    image : (H, W, C) ndarray
    prepare : callable
        Makes what the network takes of a window of the image, float32.
    write : callable
        Called as ``write(rows, columns, probabilities)`` with two slices and a
        (h, w, K) float32 array, on any thread. Tiles do not overlap.
    tile_size : int
        Largest height and width of a tile or window.
    classes : bool, default=False
        Write the index of the most probable class in place of probabilities, (h, w) int.
        That is faster.
    activate : callable, optional
        Makes of the outputs (K, h, w) what is written. None: probabilities, by softmax.
    """
    if network.halo is None and max(image.shape[:2]) > tile_size:
        if classes:
            write = _with_largest(write)
        _blend_windows(network, image, prepare, write, tile_size, activate)
        return
    compute_window = _class_map if classes else partial(_activated, activate=activate)
    size = image.shape[:2]

    def compute(tile: tuple[slice, slice]) -> None:
        (row, height, top), (column, width, left) = (
            _window(network, part, n) for part, n in zip(tile, size)
        )
        inside = (
            slice(top, top + tile[0].stop - tile[0].start),
            slice(left, left + tile[1].stop - tile[1].start),
        )
        window = mirrored_window(image, row, column, height, width)
        write(*tile, compute_window(network, prepare(window), inside))

    _map_tiles(compute, _tiles(network, size, tile_size))


def _map_tiles(compute: Callable[[tuple], object], tiles: list[tuple]) -> list:
    """Compute tiles side by side, or a lone one by threads inside of its operations."""
    threads = THREADS_OF_A_LONE_TILE if len(tiles) == 1 else 1

    def run(tile: tuple) -> object:
        torch.set_num_threads(threads)  # torch keeps this setting by thread
        return compute(tile)

    with threads_per_operation(threads):
        return map_items(run, tiles)


def _activated(
    network: nn.Module,
    window: NDArray[np.float32],
    inside: tuple[slice, slice],
    activate: Activate | None,
) -> NDArray[np.float32]:
    """What `activate` makes of the logits of a window, where they are asked for: (h, w, K)."""
    device = next(network.parameters()).device
    with predicting(network):
        logits = network(to_tensor(window[None]).to(device))
        logits = logits[0, :, inside[0], inside[1]].float()  # (K, h, w)
        proba = logits.softmax(dim=0) if activate is None else activate(logits)
    return proba.permute(1, 2, 0).cpu().numpy()


def _class_map(
    network: nn.Module, window: NDArray[np.float32], inside: tuple[slice, slice]
) -> NDArray[np.integer]:
    """Index of the largest logit of a window, where it is asked for: (h, w)."""
    device = next(network.parameters()).device
    with predicting(network):
        x = to_tensor(window[None]).to(device)
        if isinstance(network, CoarseNet):
            scores = network.coarse_scores(x)[0].float()
            return class_map(scores, network.extent(window.shape[:2]), inside)
        logits = network(x)[0].float()
        return class_map(logits, logits.shape[1:], inside)


def _with_largest(write: Write) -> Write:
    """Make a function that takes probabilities of one that takes indices of classes."""
    return lambda rows, columns, proba: write(rows, columns, proba.argmax(axis=-1))


# --- tiles that give what the whole image would ------------------------------------------


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


# --- windows that are blended ------------------------------------------------------------


def _blend_windows(
    network: nn.Module,
    image: NDArray,
    prepare: Prepare,
    write: Write,
    tile_size: int,
    activate: Activate | None,
) -> None:
    """Average windows, each weighed less towards its border where another takes over.

    Windows are computed a row at a time, and rows of pixels written as soon as no further
    window reaches them, so that probabilities of the whole image are never held.
    """
    rows, columns = (_windows(n, tile_size) for n in image.shape[:2])
    row_weights, column_weights = (
        _blend_weights(windows, n) for windows, n in zip((rows, columns), image.shape[:2])
    )
    everywhere = slice(0, image.shape[1])
    pending = None  # (h, W, K): what is known of the rows from rows[i].start on
    for i, row in enumerate(rows):

        def compute(column: slice, row: slice = row) -> NDArray[np.float32]:
            height, width = row.stop - row.start, column.stop - column.start
            window = mirrored_window(
                image, row.start, column.start, network.fit_size(height), network.fit_size(width)
            )
            inside = slice(0, height), slice(0, width)
            return _activated(network, prepare(window), inside, activate)

        found = _map_tiles(compute, columns)
        total = np.zeros((row.stop - row.start, image.shape[1], found[0].shape[-1]), np.float32)
        for column, proba, weight in zip(columns, found, column_weights):  # in order
            total[:, column] += proba * (row_weights[i][:, None] * weight)[..., None]
        if pending is not None:
            total[: len(pending)] += pending
        stop = rows[i + 1].start if i + 1 < len(rows) else row.stop
        done = stop - row.start
        write(slice(row.start, stop), everywhere, total[:done])
        pending = total[done:]


def _windows(size: int, tile_size: int) -> list[slice]:
    """Windows of equal length that overlap by `OVERLAP` at least."""
    if size <= tile_size:
        return [slice(0, size)]
    step = max(1, round(tile_size * (1 - OVERLAP)))
    n_windows = 1 + -(-(size - tile_size) // step)
    starts = np.linspace(0, size - tile_size, n_windows).round().astype(int).tolist()
    return [slice(start, start + tile_size) for start in starts]


def _blend_weights(windows: list[slice], size: int) -> list[NDArray[np.float32]]:
    """Weights along each window that add up to 1 at every place of a length."""
    hats = []
    for window in windows:
        at = np.arange(1, window.stop - window.start + 1, dtype=np.float64)
        hats.append(np.minimum(at, at[::-1]))  # distance from the nearer end
    total = np.zeros(size)
    for window, hat in zip(windows, hats):
        total[window] += hat
    return [(hat / total[window]).astype(np.float32) for window, hat in zip(windows, hats)]
