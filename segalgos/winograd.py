"""3x3 convolutions by Winograd's minimal filtering [1]_: a quarter of the multiplications.

References
----------
.. [1] A. Lavin and S. Gray, "Fast algorithms for convolutional neural networks", CVPR 2016,
   arXiv:1509.09308.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

__all__ = ["WinogradConv2d"]

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


class WinogradConv2d(nn.Module):
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
        super().__init__()
        self.conv = conv
        weight = conv.weight.detach().double()
        transform = torch.tensor(KERNEL, dtype=weight.dtype)
        kernel = torch.einsum("ui,vj,ocij->uvco", transform, transform, weight)
        self.register_buffer("kernel", kernel.flatten(0, 1).to(conv.weight), persistent=False)
        for name, matrix in (("to_tiles", INPUT), ("from_tiles", OUTPUT)):
            matrix = torch.tensor(matrix, dtype=conv.weight.dtype)
            # Rows, then columns: both in one matrix, applied to tiles as vectors of 36.
            self.register_buffer(name, torch.kron(matrix, matrix), persistent=False)

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
        )

    def forward(self, x: Tensor) -> Tensor:
        """Convolve.

        Parameters
        ----------
        x : (N, c_in, H, W) Tensor

        Returns
        -------
        (N, c_out, H', W') Tensor
            In channels-last memory. As large as the input if padding equals dilation.
        """
        n, c = x.shape[:2]
        d, pad = self.conv.dilation[0], self.conv.padding[0]
        height, width = (size + 2 * (pad - d) for size in x.shape[2:])  # of the output
        if height < 1 or width < 1:
            return self.conv(x)  # which says what is wrong
        rows, columns = -(-height // (STEP * d)), -(-width // (STEP * d))  # tiles of each phase
        tiles_a_row = n * d * columns * d
        if TILE**2 * rows * tiles_a_row > LARGEST_SHARE * 9 * n * height * width:
            return self.conv(x)
        below, right = (
            (STEP * n_tiles + 2) * d - pad - size
            for n_tiles, size in zip((rows, columns), x.shape[2:])
        )
        x = F.pad(x.permute(0, 2, 3, 1), (0, 0, pad, right, pad, below))  # whole tiles
        s_n, s_h, s_w, s_c = x.stride()
        # Cell (row, column) = ((4 i + u) d + p, (4 j + v) d + q): u, v within tile i, j of phase
        # p, q. A view: tiles overlap by 2.
        tiles = x.as_strided(
            (TILE, TILE, n, rows, d, columns, d, c),  # u v n i p j q c
            (d * s_h, d * s_w, s_n, STEP * d * s_h, s_h, STEP * d * s_w, s_w, s_c),
        )
        c_out = self.conv.out_channels
        y = x.new_empty(n, rows, STEP, d, columns, STEP, d, c_out)  # n i u p j v q c
        band = max(1, BAND_VALUES // (TILE**2 * tiles_a_row * max(c, c_out)))
        for start in range(0, rows, band):
            part = tiles[:, :, :, start : start + band]
            found = self._convolve_tiles(part.reshape(TILE**2, -1, c))  # (16, tiles, c_out)
            found = found.view(STEP, STEP, *part.shape[2:7], c_out).permute(2, 3, 0, 4, 5, 1, 6, 7)
            target = y[:, start : start + band]
            if self.conv.bias is None:
                target.copy_(found)
            else:
                torch.add(found, self.conv.bias, out=target)
        y = y.view(n, rows * STEP * d, columns * STEP * d, c_out)[:, :height, :width]
        return y.permute(0, 3, 1, 2).contiguous(memory_format=torch.channels_last)

    def _convolve_tiles(self, tiles: Tensor) -> Tensor:
        """(36, tiles, c) to (16, tiles, c_out): eq. (8), summed over channels by eq. (12)."""
        transformed = (self.to_tiles @ tiles.flatten(1)).view_as(tiles)
        products = torch.bmm(transformed, self.kernel)  # (36, tiles, c_out)
        return (self.from_tiles @ products.flatten(1)).unflatten(1, products.shape[1:])
