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

import torch
import torch.nn.functional as F
from torch import Tensor, nn

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

# Below, transforming the maps costs about what the multiplications saved are worth.
FEWEST_CHANNELS = 256
# Beyond, the phases of usual maps are smaller than a few tiles.
LARGEST_DILATION = 4
# Share of the direct convolution's multiplications from which on that one is faster.
LARGEST_SHARE = 0.6
# Values of a transformed map held at a time: they stay in the processor's cache.
BAND_VALUES = 6_000_000


class _Matrices(NamedTuple):
    """Transforms of rows, then columns: both in one matrix, applied to tiles as vectors."""

    to_tiles: Tensor  # (36, 36)
    kernel: Tensor  # (36, 9)
    from_tiles: Tensor  # (16, 36)


@lru_cache(maxsize=4)
def _matrices(dtype: torch.dtype) -> _Matrices:
    # Not within inference mode, whose tensors no gradient may be computed with.
    with torch.inference_mode(False), torch.device("cpu"):
        matrices = (torch.tensor(m, dtype=torch.float64) for m in (INPUT, KERNEL, OUTPUT))
        return _Matrices(*(torch.kron(m, m).to(dtype) for m in matrices))


def _transform_kernel(weight: Tensor) -> Tensor:
    """(c_out, c_in, 3, 3) to (36, c_in, c_out), G g G^T of eq. (8)."""
    c_out, c_in = weight.shape[:2]
    flat = weight.permute(2, 3, 1, 0).reshape(9, c_in * c_out)
    return (_matrices(weight.dtype).kernel @ flat).view(TILE**2, c_in, c_out)


@dataclass(frozen=True)
class _Tiling:
    """Where the tiles of a convolution lie.

    A convolution dilated by d is d * d ordinary ones, of the map's every d-th row and column:
    its phases p, q. Cell ((4 i + u) d + p, (4 j + v) d + q) of the padded map is cell (u, v) of
    tile i, j of the phase.

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
    def n_tiles(self) -> tuple[int, int]:
        """Rows and columns of tiles of each phase."""
        rows, columns = (-(-n // (STEP * self.dilation)) for n in self.size_out)
        return rows, columns

    @property
    def share(self) -> float:
        """Multiplications, over those of the direct convolution."""
        height, width = self.size_out
        if height < 1 or width < 1:
            return float("inf")
        rows, columns = self.n_tiles
        return TILE**2 * rows * columns * self.dilation**2 / (9 * height * width)

    def bands(self, n_channels: int) -> Iterator[slice]:
        """Rows of tiles to be computed at a time."""
        rows, columns = self.n_tiles
        values_a_row = TILE**2 * self.n * self.dilation**2 * columns * n_channels
        step = max(1, BAND_VALUES // values_a_row)
        for start in range(0, rows, step):
            yield slice(start, min(start + step, rows))

    def tiles(self, x: Tensor) -> Tensor:
        """(n, c, H, W) to a view (6, 6, n, rows, d, columns, d, c): u v n i p j q c."""
        d, pad = self.dilation, self.padding
        n_tiles = self.n_tiles
        below, right = ((STEP * n_tiles[axis] + 2) * d - pad - self.size[axis] for axis in (0, 1))
        x = F.pad(x.permute(0, 2, 3, 1), (0, 0, pad, right, pad, below)).contiguous()
        s_n, s_h, s_w, s_c = x.stride()
        return x.as_strided(  # tiles overlap by 2
            (TILE, TILE, self.n, n_tiles[0], d, n_tiles[1], d, x.shape[-1]),
            (d * s_h, d * s_w, s_n, STEP * d * s_h, s_h, STEP * d * s_w, s_w, s_c),
        )

    def new_output(self, like: Tensor, c_out: int) -> Tensor:
        """Empty blocks of the output, (n, rows, 4, d, columns, 4, d, c): n i u p j v q c."""
        rows, columns = self.n_tiles
        d = self.dilation
        return like.new_empty(self.n, rows, STEP, d, columns, STEP, d, c_out)

    def output(self, blocks: Tensor) -> Tensor:
        """The blocks as a map (n, c, H', W') in channels-last memory."""
        rows, columns = self.n_tiles
        height, width = self.size_out
        step = STEP * self.dilation
        y = blocks.view(self.n, rows * step, columns * step, -1)[:, :height, :width]
        return y.permute(0, 3, 1, 2).contiguous(memory_format=torch.channels_last)

    def blocks(self, y: Tensor) -> Tensor:
        """A map of the output's size to a view (4, 4, n, rows, d, columns, d, c)."""
        rows, columns = self.n_tiles
        d = self.dilation
        below, right = (STEP * d * count - n for count, n in zip((rows, columns), self.size_out))
        y = F.pad(y.permute(0, 2, 3, 1), (0, 0, 0, right, 0, below)).contiguous()
        y = y.view(self.n, rows, STEP, d, columns, STEP, d, y.shape[-1])  # n i u p j v q c
        return y.permute(2, 5, 0, 1, 3, 4, 6, 7)


def _convolve(x: Tensor, kernel: Tensor, bias: Tensor | None, tiling: _Tiling) -> Tensor:
    """Eq. (8), summed over channels by eq. (12): the kernel is transformed already."""
    _, c, c_out = kernel.shape
    to_tiles, _, from_tiles = _matrices(x.dtype)
    tiles, y = tiling.tiles(x), tiling.new_output(x, c_out)
    for band in tiling.bands(max(c, c_out)):
        part = tiles[:, :, :, band]
        values = part.reshape(TILE**2, -1)
        transformed = (to_tiles @ values).view(TILE**2, -1, c)
        products = torch.bmm(transformed, kernel).flatten(1)  # (36, tiles * c_out)
        found = (from_tiles @ products).view(STEP, STEP, *part.shape[2:7], c_out)
        found = found.permute(2, 3, 0, 4, 5, 1, 6, 7)  # n i u p j v q c
        target = y[:, band]
        if bias is None:
            target.copy_(found)
        else:
            torch.add(found, bias, out=target)
    return tiling.output(y)


def _weight_gradient(x: Tensor, gradient: Tensor, tiling: _Tiling) -> Tensor:
    """Gradient (c_out, c, 3, 3) of the weights, from the same tiles as the output."""
    c, c_out = x.shape[1], gradient.shape[1]
    to_tiles, kernel, from_tiles = _matrices(x.dtype)
    tiles, blocks = tiling.tiles(x), tiling.blocks(gradient)
    products = x.new_zeros(TILE**2, c, c_out)
    for band in tiling.bands(max(c, c_out)):
        values = tiles[:, :, :, band].reshape(TILE**2, -1)
        inputs = (to_tiles @ values).view(TILE**2, -1, c)
        values = blocks[:, :, :, band].reshape(STEP**2, -1)
        outputs = (from_tiles.T @ values).view(TILE**2, -1, c_out)
        products.baddbmm_(inputs.transpose(1, 2), outputs)
    weight = (kernel.T @ products.flatten(1)).view(3, 3, c, c_out)
    return weight.permute(3, 2, 0, 1).contiguous()


class _Convolution(torch.autograd.Function):
    """A 3x3 convolution whose output and gradients are computed in tiles."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, tiling: _Tiling) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.tiling = tiling
        return _convolve(x, _transform_kernel(weight), None, tiling)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        x, weight = ctx.saved_tensors
        tiling = ctx.tiling
        x_gradient = weight_gradient = None
        if ctx.needs_input_grad[0]:
            # Correlation becomes convolution: the kernel is turned round, channels swapped.
            turned = weight.flip(2, 3).transpose(0, 1)
            back = _Tiling(
                tiling.n, tiling.size_out, tiling.dilation, 2 * tiling.dilation - tiling.padding
            )
            x_gradient = _convolve(gradient, _transform_kernel(turned), None, back)
        if ctx.needs_input_grad[1]:
            weight_gradient = _weight_gradient(x, gradient, tiling)
        return x_gradient, weight_gradient, None


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
        kernel = _transform_kernel(conv.weight.detach().double()).to(conv.weight)
        self.register_buffer("kernel", kernel, persistent=False)

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
    quarter of the multiplications, too: that of the map is a convolution with the kernel turned
    round; that of the kernel is the sum over tiles of the products of the transformed map and
    the transformed gradient of the output, transformed back.

    There are no second derivatives.
    """

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
        # With more padding, the gradient of the map would have to be cut.
        return _TiledConv2d.suits(conv) and conv.padding[0] <= 2 * conv.dilation[0]

    def _in_tiles(self, x: Tensor, tiling: _Tiling) -> Tensor:
        y = _Convolution.apply(x, self.conv.weight, tiling)
        return y if self.conv.bias is None else y + self.conv.bias[:, None, None]
