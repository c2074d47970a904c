"""3x3 convolutions by Winograd's minimal filtering [1]_: a quarter of the multiplications.

References
----------
.. [1] A. Lavin and S. Gray, "Fast algorithms for convolutional neural networks", CVPR 2016,
   arXiv:1509.09308.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
import torch
from numba import njit
from numpy.typing import NDArray
from torch import Tensor, nn

from segalgos.parallel import map_items, map_strips
from segalgos.torch_threads import threads_per_operation

__all__ = ["TrainableWinogradConv2d", "WinogradConv2d"]

# F(4x4, 3x3) of Sec. 4.3: tiles of 6 values give 4 outputs, 4 apart.
TILE, STEP = 6, 4
INPUT = [
    [4, 0, -5, 0, 1, 0],
    [0, -4, -4, 1, 1, 0],
    [0, 4, -4, -1, 1, 0],
    [0, -2, -1, 2, 1, 0],
    [0, 2, -1, -2, 1, 0],
    [0, 4, 0, -5, 0, 1],
]
KERNEL = [
    [1 / 4, 0, 0],
    [-1 / 6, -1 / 6, -1 / 6],
    [-1 / 6, 1 / 6, -1 / 6],
    [1 / 24, 1 / 12, 1 / 6],
    [1 / 24, -1 / 12, 1 / 6],
    [0, 0, 1],
]
OUTPUT = [
    [1, 1, 1, 1, 1, 0],
    [0, 1, -1, 2, -2, 0],
    [0, 1, 1, 4, 4, 0],
    [0, 1, -1, 8, -8, 1],
]

# Below, transforming the maps costs half of what the multiplications saved are worth, or more.
FEWEST_CHANNELS = 128
# Beyond, the phases of usual maps are smaller than a few tiles.
LARGEST_DILATION = 4
# Share of the direct convolution's multiplications from which on that one is faster.
LARGEST_SHARE = 0.6
# Tiles that a thread transforms, multiplies and transforms back in prediction, at most and at
# least: they stay in its cache, and the kernel is read for many.
MOST_TILES, FEWEST_TILES = 128, 16
# Values of a transformed map held at a time in training. With fewer, the kernel would be read
# from memory again and again: that of 2048 to 512 channels has 38 million values.
BAND_VALUES = 24_000_000
# Between the 36 values of a tile: at a power of two, they would share few places of the cache.
SPARE = 144
# Channels of a tile that are transformed at a time.
LANES = 128
# Tiles that a thread transforms at a time.
TILES_OF_A_STRIP = 32


class _Matrices(NamedTuple):
    """Transforms of lines, which are applied to rows, then to columns: float arrays (n, 6)."""

    to_tiles: NDArray  # (6, 6), B^T of the paper
    back_to_map: NDArray  # (6, 6), B
    kernel: NDArray  # (6, 6), G and three columns of zeros
    back_to_kernel: NDArray  # (3, 6), G^T
    from_tiles: NDArray  # (4, 6), A^T
    spread: NDArray  # (6, 6), A and two columns of zeros


@lru_cache(maxsize=4)
def _matrices(dtype: np.dtype) -> _Matrices:
    to_tiles, kernel, from_tiles = (np.array(m, dtype) for m in (INPUT, KERNEL, OUTPUT))

    def wide(matrix: NDArray) -> NDArray:
        return np.pad(matrix, ((0, 0), (0, TILE - matrix.shape[1])))

    return _Matrices(
        to_tiles,
        np.ascontiguousarray(to_tiles.T),
        wide(kernel),
        np.ascontiguousarray(kernel.T),
        from_tiles,
        wide(from_tiles.T),
    )


def _transform_kernel(weight: Tensor) -> Tensor:
    """(c_out, c_in, 3, 3) to (36, c_out, c_in), G g G^T of eq. (8)."""
    values = _channels_last(weight)  # (c_out, 3, 3, c_in), which is how nets hold it
    tiling = _Tiling(len(values), (3, 3), 1, 1)  # a tile for each channel of the output
    return tiling.transformed(values, _matrices(values.dtype).kernel, 3, 0, (0, len(values)))


def _kernel_gradient(products: Tensor) -> Tensor:
    """Gradient (c_out, c_in, 3, 3) from that of the transformed kernel."""
    _, c_out, c_in = products.shape
    found = np.zeros((c_out, 3, 3, c_in), products.numpy().dtype)
    tiling = _Tiling(c_out, (3, 3), 1, 1)
    tiling.add(products, _matrices(found.dtype).back_to_kernel, 0, found, (0, c_out))
    return torch.from_numpy(found).permute(0, 3, 1, 2)


@dataclass(frozen=True)
class _Tiling:
    """Where the tiles of a convolution lie.

    A convolution dilated by d is d * d ordinary ones, of the map's every d-th row and column:
    its phases p, q. Cell ((4 i + u) d + p, (4 j + v) d + q) of the padded map is cell (u, v) of
    tile i, j of the phase. Tiles are numbered by image, i, p, j, q.

    Parameters
    ----------
    n : int
        Images.
    size : tuple of int
        Height and width of the map.
    dilation, padding : int
    """

    n: int
    size: tuple[int, int]
    dilation: int
    padding: int

    @property
    def size_out(self) -> tuple[int, int]:
        """Height and width of the output."""
        height, width = (n + 2 * (self.padding - self.dilation) for n in self.size)
        return height, width

    @property
    def shape(self) -> tuple[int, int, int]:
        """Rows and columns of tiles of each phase, and the dilation."""
        rows, columns = (-(-n // (STEP * self.dilation)) for n in self.size_out)
        return rows, columns, self.dilation

    @property
    def n_tiles(self) -> int:
        """Tiles of all images and phases."""
        rows, columns, _ = self.shape
        return self.n * rows * columns * self.dilation**2

    @property
    def share(self) -> float:
        """Multiplications, over those of the direct convolution."""
        height, width = self.size_out
        if height < 1 or width < 1:
            return float("inf")
        return TILE**2 * self.n_tiles / (9 * self.n * height * width)

    def shares(self) -> list[tuple[int, int]]:
        """First and last tile, exclusive, of what a thread computes: at least two, if it can be."""
        step = min(max(-(-self.n_tiles // 2), FEWEST_TILES), MOST_TILES)
        return [(i, min(i + step, self.n_tiles)) for i in range(0, self.n_tiles, step)]

    def bands(self, n_channels: int) -> Iterator[tuple[int, int]]:
        """First and last tile, exclusive, of what is computed at a time in training."""
        step = max(1, BAND_VALUES // (TILE**2 * n_channels))
        for start in range(0, self.n_tiles, step):
            yield start, min(start + step, self.n_tiles)

    def transformed(
        self, x: NDArray, matrix: NDArray, n_cells: int, padding: int, band: tuple[int, int]
    ) -> Tensor:
        """Cut a band of tiles from a map (n, H, W, c), and transform them to (36, tiles, c)."""
        start, stop = band
        n, c = stop - start, x.shape[-1]
        tiles = np.empty((TILE**2, n * c + SPARE), x.dtype)

        def fill(first: int, last: int) -> None:
            _cut_tiles(x, matrix, n_cells, padding, self.shape, start, first, last, tiles)

        map_strips(fill, n, TILES_OF_A_STRIP)
        return torch.from_numpy(tiles)[:, : n * c].view(TILE**2, n, c)

    def add(
        self, products: Tensor, matrix: NDArray, padding: int, y: NDArray, band: tuple[int, int]
    ) -> None:
        """Transform products (36, tiles, c) back, and add them to a map (n, H', W', c).

        Tiles of 6 cells overlap: no two threads may add to the same.
        """
        start, stop = band
        nothing = np.empty(0, y.dtype)
        _join_tiles(
            products.numpy(), matrix, padding, self.shape, start, 0, stop - start, nothing, y
        )

    def write(
        self, products: Tensor, matrix: NDArray, base: NDArray, y: NDArray, band: tuple[int, int]
    ) -> None:
        """Transform products (36, tiles, c) back to tiles that do not overlap, and add (c,)."""
        start, stop = band
        tiles = products.numpy()

        def fill(first: int, last: int) -> None:
            _join_tiles(tiles, matrix, 0, self.shape, start, first, last, base, y)

        map_strips(fill, stop - start, TILES_OF_A_STRIP)


def _channels_last(x: Tensor) -> NDArray:
    """(n, c, H, W) to (n, H, W, c), contiguous."""
    return x.detach().permute(0, 2, 3, 1).contiguous().numpy()


def _convolve(x: Tensor, kernel: Tensor, bias: Tensor | None, tiling: _Tiling) -> Tensor:
    """Eq. (8), summed over channels by eq. (12), with the transformed kernel (36, c_in, c_out)."""
    c_out = kernel.shape[2]
    values = _channels_last(x)
    matrices = _matrices(values.dtype)
    base = np.zeros(c_out, values.dtype) if bias is None else bias.detach().numpy()
    y = np.empty((tiling.n, *tiling.size_out, c_out), values.dtype)

    def compute(band: tuple[int, int]) -> None:
        with threads_per_operation(1):
            tiles = tiling.transformed(values, matrices.to_tiles, TILE, tiling.padding, band)
            tiling.write(torch.bmm(tiles, kernel), matrices.from_tiles, base, y, band)

    map_items(compute, tiling.shares())
    return torch.from_numpy(y).permute(0, 3, 1, 2)


def _gradients(
    x: Tensor, kernel: Tensor, gradient: Tensor, tiling: _Tiling, wanted: tuple[bool, bool]
) -> tuple[Tensor | None, Tensor | None]:
    """Gradients of the map, and (c_out, c, 3, 3) of the weights, by the kernel (36, c_out, c).

    Each step of `_convolve` is linear: these are its transposes, in reverse order.
    """
    _, c_out, c = kernel.shape
    values, gradients = _channels_last(x), _channels_last(gradient)
    matrices = _matrices(values.dtype)
    x_gradient, products = np.zeros_like(values) if wanted[0] else None, None
    for band in tiling.bands(max(c, c_out)):
        outputs = tiling.transformed(gradients, matrices.spread, STEP, 0, band)
        if x_gradient is not None:
            inputs = torch.bmm(outputs, kernel)
            tiling.add(inputs, matrices.back_to_map, tiling.padding, x_gradient, band)
        if wanted[1]:
            inputs = tiling.transformed(values, matrices.to_tiles, TILE, tiling.padding, band)
            found = torch.bmm(outputs.transpose(1, 2), inputs)
            products = found if products is None else products.add_(found)
    return (
        None if x_gradient is None else torch.from_numpy(x_gradient).permute(0, 3, 1, 2),
        None if products is None else _kernel_gradient(products),
    )


# --- kernels ------------------------------------------------------------------------------
#
# LANES channels of a tile at a time, so that the processor's first cache holds them. Indices
# are unsigned: a negative one would count from the end, and the test for it keeps a loop from
# being done by vector instructions.


@njit(nogil=True, cache=True, fastmath={"contract"})
def _combine(weights, source, start, step, target, at, width):
    """Weighted sum of 6 vectors that lie `step` apart."""
    a, b, c, d, e, f = weights
    two, three, four, five = np.uint64(2), np.uint64(3), np.uint64(4), np.uint64(5)
    for k in range(width):
        s = start + k
        target[at + k] = (
            a * source[s]
            + b * source[s + step]
            + c * source[s + two * step]
            + d * source[s + three * step]
            + e * source[s + four * step]
            + f * source[s + five * step]
        )


@njit(nogil=True, cache=True)
def _row(matrix, r):
    """A row of a matrix of 6 columns, as numbers that stay in registers."""
    return matrix[r, 0], matrix[r, 1], matrix[r, 2], matrix[r, 3], matrix[r, 4], matrix[r, 5]


@njit(nogil=True, cache=True)
def _transform(matrix, source, half, target, at, step_row, step_column, width):
    """Multiply a tile of 6 x 6 vectors by a matrix from the left, and by its transpose."""
    lanes = np.uint64(LANES)
    n_rows = np.uint64(len(matrix))
    six = np.uint64(6)
    for r in range(n_rows):
        weights = _row(matrix, r)
        for v in range(six):
            start, to = v * lanes, (r * six + v) * lanes
            _combine(weights, source, start, six * lanes, half, to, width)
    for v in range(n_rows):
        weights = _row(matrix, v)
        for r in range(n_rows):
            to = at + r * step_row + v * step_column
            _combine(weights, half, r * six * lanes, lanes, target, to, width)


@njit(nogil=True, cache=True)
def _place(number, shape):
    """Image, row and column of the first cell of a tile in a map without padding."""
    rows, columns, d = shape
    number, q = divmod(number, d)
    number, j = divmod(number, columns)
    number, p = divmod(number, d)
    image, i = divmod(number, rows)
    return image, STEP * i * d + p, STEP * j * d + q


@njit(nogil=True, cache=True)
def _cut_tiles(x, matrix, n_cells, padding, shape, start, first, last, tiles):
    """Tiles of `n_cells` x `n_cells` cells, transformed to 6 x 6, to ``tiles[:, first:last]``."""
    _, height, width, n_channels = x.shape
    d = shape[2]
    flat, step = tiles.reshape(-1), np.uint64(tiles.shape[1])
    patch = np.zeros(TILE * TILE * LANES, x.dtype)
    half = np.empty_like(patch)
    for t in range(first, last):
        image, row, column = _place(start + t, shape)
        for c in range(0, n_channels, LANES):
            lanes = np.uint64(min(LANES, n_channels - c))
            for u in range(n_cells):
                y_at = row + u * d - padding
                for v in range(n_cells):
                    x_at = column + v * d - padding
                    at = np.uint64((u * TILE + v) * LANES)
                    if 0 <= y_at < height and 0 <= x_at < width:
                        cell = x[image, y_at, x_at]
                        for k in range(lanes):
                            patch[at + k] = cell[np.uint64(c) + k]
                    else:
                        for k in range(lanes):
                            patch[at + k] = 0
            at = np.uint64(t * n_channels + c)
            _transform(matrix, patch, half, flat, at, np.uint64(TILE) * step, step, lanes)


@njit(nogil=True, cache=True)
def _join_tiles(products, matrix, padding, shape, start, first, last, base, y):
    """``products[:, first:last]``, transformed to square tiles that are added to a map.

    They take its place, with a base (c,) added, if there is one.
    """
    _, height, width, n_channels = y.shape
    n_cells, d = len(matrix), shape[2]
    flat, step = products.reshape(-1), products.shape[1] * n_channels
    patch = np.empty(TILE * TILE * LANES, y.dtype)
    half, cells = np.empty_like(patch), np.empty_like(patch)
    size, size_row = np.uint64(LANES), np.uint64(TILE * LANES)
    for t in range(first, last):
        image, row, column = _place(start + t, shape)
        for c in range(0, n_channels, LANES):
            lanes = np.uint64(min(LANES, n_channels - c))
            for r in range(TILE * TILE):
                at, found = np.uint64(r * LANES), np.uint64(r * step + t * n_channels + c)
                for k in range(lanes):
                    patch[at + k] = flat[found + k]
            _transform(matrix, patch, half, cells, np.uint64(0), size_row, size, lanes)
            for u in range(n_cells):
                y_at = row + u * d - padding
                for v in range(n_cells):
                    x_at = column + v * d - padding
                    if 0 <= y_at < height and 0 <= x_at < width:
                        cell = y[image, y_at, x_at]
                        at = np.uint64((u * TILE + v) * LANES)
                        if len(base):
                            for k in range(lanes):
                                cell[np.uint64(c) + k] = base[np.uint64(c) + k] + cells[at + k]
                        else:
                            for k in range(lanes):
                                cell[np.uint64(c) + k] += cells[at + k]


class _Convolution(torch.autograd.Function):
    """A 3x3 convolution whose output and gradients are computed in tiles."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, tiling: _Tiling) -> Tensor:
        kernel = _transform_kernel(weight)
        ctx.save_for_backward(x, kernel)
        ctx.tiling = tiling
        return _convolve(x, kernel.transpose(1, 2), None, tiling)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        x, kernel = ctx.saved_tensors
        wanted = ctx.needs_input_grad[:2]
        return *_gradients(x, kernel, gradient, ctx.tiling, wanted), None


class _TiledConv2d(nn.Module):
    """A 3x3 convolution of stride 1 that is computed in tiles where that is faster."""

    def __init__(self, conv: nn.Conv2d):
        super().__init__()
        self.conv = conv

    @staticmethod
    def suits(conv: nn.Module) -> bool:
        """Tell if a layer is a convolution that can be computed this way, and is faster then.

        Parameters
        ----------
        conv : torch.nn.Module

        Returns
        -------
        bool
        """
        return (
            type(conv) is nn.Conv2d
            and conv.kernel_size == (3, 3)
            and conv.stride == (1, 1)
            and conv.groups == 1
            and conv.padding_mode == "zeros"
            and conv.dilation[0] == conv.dilation[1] <= LARGEST_DILATION
            and not isinstance(conv.padding, str)
            and conv.padding[0] == conv.padding[1]
            and min(conv.in_channels, conv.out_channels) >= FEWEST_CHANNELS
            and conv.weight.dtype in (torch.float32, torch.float64)  # or rounding would show
            # Hooks would not be called; those of weight normalisation make the weights.
            and not (conv._forward_pre_hooks or conv._forward_hooks or conv._backward_hooks)
        )

    def forward(self, x: Tensor) -> Tensor:
        """Convolve.

        Parameters
        ----------
        x : (N, c_in, H, W) Tensor

        Returns
        -------
        (N, c_out, H', W') Tensor
            In channels-last memory where it is computed in tiles. As large as the input if
            padding equals dilation.
        """
        conv = self.conv
        tiling = _Tiling(len(x), tuple(x.shape[2:]), conv.dilation[0], conv.padding[0])
        if tiling.share > LARGEST_SHARE:
            return conv(x)  # which also says what is wrong
        return self._in_tiles(x, tiling)

    def _in_tiles(self, x: Tensor, tiling: _Tiling) -> Tensor:
        raise TypeError(f"{type(self).__name__} has no _in_tiles hook: write one.")


class WinogradConv2d(_TiledConv2d):
    """A 3x3 convolution of stride 1 for prediction, faster than the direct one on a CPU.

    Parameters
    ----------
    conv : torch.nn.Conv2d
        One that `suits`. Its weights are taken as they are now.

    Notes
    -----
    Each tile of 6 x 6 values is transformed, multiplied value by value with the transformed
    kernel and transformed back to 4 x 4 outputs: 36 multiplications in place of 144. Values
    differ from the direct convolution's by rounding, about 1e-5 of the largest.

    A convolution dilated by d is d * d ordinary ones of the map's every d-th row and column;
    tiles are cut from these.

    Where tiles would reach far beyond the map, the direct convolution is computed. Memory:
    the transformed kernel is 4 times as large as the kernel, which is kept as well.

    References
    ----------
    .. [1] A. Lavin and S. Gray, "Fast algorithms for convolutional neural networks", CVPR
       2016, arXiv:1509.09308.
    """

    def __init__(self, conv: nn.Conv2d):
        super().__init__(conv)
        kernel = _transform_kernel(conv.weight.double()).to(conv.weight.dtype)
        self.register_buffer("kernel", kernel.transpose(1, 2).contiguous(), persistent=False)

    def _in_tiles(self, x: Tensor, tiling: _Tiling) -> Tensor:
        return _convolve(x, self.kernel, self.conv.bias, tiling)


class TrainableWinogradConv2d(_TiledConv2d):
    """A 3x3 convolution of stride 1 for training, faster than the direct one on a CPU.

    Parameters
    ----------
    conv : torch.nn.Conv2d
        One that `suits`. Its weights are used, and learned, where they are.

    Notes
    -----
    As `WinogradConv2d`, but the kernel is transformed anew in each pass. Both gradients need a
    quarter of the multiplications, too, from the gradient of the output in tiles: that of the
    map is their products with the transformed kernel, that of the kernel the sum over tiles of
    their products with the transformed map, each transformed back. The transformed kernel is
    kept from one pass to the other.

    There are no second derivatives.
    """

    def _in_tiles(self, x: Tensor, tiling: _Tiling) -> Tensor:
        y = _Convolution.apply(x, self.conv.weight, tiling)
        return y if self.conv.bias is None else y + self.conv.bias[:, None, None]
