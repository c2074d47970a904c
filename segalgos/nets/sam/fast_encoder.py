"""SAM's image encoder in parts that cores compute side by side: the same function, faster.

Blocks whose attention is within windows need nothing from beyond a window, so each window
goes through all blocks up to the next one with global attention at once, and stays in the
caches. In blocks with global attention a part is some rows of the map.

Parts are the same on any machine, and each is computed by one thread, so that the result
does not depend on how many cores there are.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import groupby, product
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from segalgos.nets.sam.blocks import fill_up
from segalgos.nets.sam.image_encoder import Block, ImageEncoderViT, relative_rows
from segalgos.parallel import map_items
from segalgos.torch_threads import threads_per_operation

__all__ = ["FastEncoder", "encode_by_parts"]

# Tokens of a part, where it is made of rows: enough for products of matrices at full speed.
TOKENS_PER_PART = 256


class FastEncoder:
    """An image encoder, ready to be computed in parts on a CPU.

    Parameters
    ----------
    encoder : ImageEncoderViT
        In evaluation mode, on the CPU. Its weights are used as they are, if `dtype` is theirs.
    dtype : {torch.float32, torch.bfloat16}, default=torch.float32
        Of products of matrices. Sums of residuals and norms are float32.

    Notes
    -----
    With bfloat16 the linear layers of blocks are held twice. Time: as many products as the
    reference, but for filler tokens of windows, which are not computed: a sixth of two linear
    layers in windowed blocks of 14 on a map of 64. Memory: queries, keys and values of one
    map, and the attention bias of `TOKENS_PER_PART` queries and one head a thread (4 MB),
    where the reference takes 12 times 64 MB for each of three copies.
    """

    def __init__(self, encoder: ImageEncoderViT, dtype: torch.dtype = torch.float32):
        self.encoder = encoder
        self.dtype = dtype
        with torch.no_grad():
            self._weights = {
                module: (module.weight.to(dtype), module.bias.to(dtype))
                for module in encoder.blocks.modules()
                if isinstance(module, nn.Linear)
            }

    def __call__(self, images: Tensor) -> Tensor:
        """Embed images.

        Parameters
        ----------
        images : (N, 3, image_size, image_size) float32 Tensor
            Standardised.

        Returns
        -------
        (N, out_channels, h, w) float32 Tensor
        """
        with threads_per_operation(1):
            return torch.cat([self._encode(image[None]) for image in images])

    def _encode(self, image: Tensor) -> Tensor:
        """(1, 3, S, S) to (1, out_channels, h, w)."""
        encoder = self.encoder
        size = encoder.pos_embed.shape[1]
        x = torch.empty(encoder.pos_embed.shape[1:])  # (h, w, C)
        n_rows = max(1, TOKENS_PER_PART // size)
        strips = [slice(y, min(y + n_rows, size)) for y in range(0, size, n_rows)]
        patch = encoder.patch_size

        def embed(rows: slice) -> None:
            pixels = image[:, :, rows.start * patch : rows.stop * patch]
            x[rows] = encoder.patch_embed(pixels)[0] + encoder.pos_embed[0, rows]

        _run(embed, strips)
        for window_size, blocks in groupby(encoder.blocks, key=lambda block: block.window_size):
            if window_size:
                self._through_windows(list(blocks), x, window_size)
            else:
                for block in blocks:
                    self._through_whole(block, x, strips)
        return _neck(encoder.neck, x, strips)

    def _linear(self, layer: nn.Linear, x: Tensor) -> Tensor:
        weight, bias = self._weights[layer]
        return F.linear(x.to(self.dtype), weight, bias)

    def _through_windows(self, blocks: list[Block], x: Tensor, size: int) -> None:
        """Change the map (h, w, C) as consecutive blocks with windows do."""
        tables = [self._tables(block, size) for block in blocks]
        starts = range(0, len(x), size)

        def compute(corner: tuple[int, int]) -> None:
            window = tuple(slice(start, start + size) for start in corner)
            y = x[window].contiguous()
            for block, (by_row, by_column) in zip(blocks, tables):
                qkv = self._linear(block.attn.qkv, block.norm1(y))
                q, k, v = self._fill(block, qkv, size)
                bias = _bias(q, by_row, by_column)
                attended = F.scaled_dot_product_attention(
                    q.flatten(1, 2)[None], k[None], v[None], attn_mask=bias[None]
                )
                y = self._finish(block, y, attended[0].transpose(0, 1).reshape(y.shape))
            x[window] = y

        _run(compute, product(starts, starts))

    def _fill(self, block: Block, qkv: Tensor, size: int) -> tuple[Tensor, Tensor, Tensor]:
        """Queries of the tokens of a window, (heads, h, w, c), and keys and values of a full one.

        A window beyond the border of the map is filled up with tokens of zeros, whose keys and
        values are the bias of the linear layer.
        """
        height, width = qkv.shape[:2]
        whole = fill_up(qkv[None], self._weights[block.attn.qkv][1], size, size)
        heads = block.attn.num_heads
        q, k, v = whole.view(size, size, 3, heads, -1).permute(2, 3, 0, 1, 4)
        return q[:, :height, :width], k.flatten(1, 2), v.flatten(1, 2)

    def _through_whole(self, block: Block, x: Tensor, strips: list[slice]) -> None:
        """Change the map (h, w, C) as a block with global attention does."""
        height, width, channels = x.shape
        heads = block.attn.num_heads
        qkv = torch.empty(3, heads, height, width, channels // heads, dtype=self.dtype)
        by_row, by_column = self._tables(block, height)

        def project(rows: slice) -> None:
            part = self._linear(block.attn.qkv, block.norm1(x[rows]))
            qkv[:, :, rows] = part.unflatten(-1, (3, heads, -1)).permute(2, 3, 0, 1, 4)

        def attend(rows: slice) -> None:
            q, (k, v) = qkv[0, :, rows], qkv[1:].flatten(2, 3)
            y = torch.empty(x[rows].shape, dtype=self.dtype)
            # Of one head, for all: the system takes longer to find new memory than the sums do.
            bias = torch.empty(1, q[0].shape[:2].numel(), height * width, dtype=self.dtype)
            for head in range(heads):
                some = slice(head, head + 1)
                _bias(q[some], by_row[rows], by_column, out=bias)
                attended = F.scaled_dot_product_attention(
                    q[some].flatten(1, 2)[None], k[None, some], v[None, some], attn_mask=bias[None]
                )
                y.view(-1, heads, channels // heads)[:, head] = attended[0, 0]
            x[rows] = self._finish(block, x[rows], y)

        _run(project, strips)
        _run(attend, strips)

    def _finish(self, block: Block, x: Tensor, attended: Tensor) -> Tensor:
        """All that a block does after attention, on some of its tokens."""
        x = x + self._linear(block.attn.proj, attended)
        hidden = F.gelu(self._linear(block.mlp.lin1, block.norm2(x)))
        return x + self._linear(block.mlp.lin2, hidden)

    def _tables(self, block: Block, size: int) -> tuple[Tensor, Tensor]:
        """Embeddings of distances by place of query and key, looked up once for all parts."""
        return tuple(
            relative_rows(table, size).to(self.dtype)
            for table in (block.attn.rel_pos_h, block.attn.rel_pos_w)
        )


def _bias(q: Tensor, by_row: Tensor, by_column: Tensor, out: Tensor | None = None) -> Tensor:
    """What relative places add to logits of queries (heads, h, w, c): (heads, h w, H W)."""
    of_rows = torch.einsum("hyxc,ykc->hyxk", q, by_row[: q.shape[1]])
    of_columns = torch.einsum("hyxc,xkc->hyxk", q, by_column[: q.shape[2]])
    if out is None:
        out = torch.empty(
            len(q), q.shape[1] * q.shape[2], by_row.shape[1] * by_column.shape[1], dtype=q.dtype
        )
    whole = out.view(*of_rows.shape, by_column.shape[1])  # (heads, h, w, H, W)
    torch.add(of_rows[..., :, None], of_columns[..., None, :], out=whole)
    return out


def _neck(neck: nn.Sequential, x: Tensor, strips: list[slice]) -> Tensor:
    """(h, w, C) to (1, out_channels, h, w)."""
    narrow, norm, conv, last_norm = neck
    height, width = x.shape[:2]
    # One zero around the map, as the convolution pads it.
    y = torch.zeros(1, narrow.out_channels, height + 2, width + 2).contiguous(
        memory_format=torch.channels_last
    )
    out = torch.empty(1, conv.out_channels, height, width)

    def project(rows: slice) -> None:
        part = F.linear(x[rows], narrow.weight.flatten(1))
        inside = y[0, :, rows.start + 1 : rows.stop + 1, 1:-1].permute(1, 2, 0)
        inside.copy_(F.layer_norm(part, norm.normalized_shape, norm.weight, norm.bias, norm.eps))

    def convolve(rows: slice) -> None:
        part = y[:, :, rows.start : rows.stop + 2]
        out[:, :, rows] = last_norm(F.conv2d(part, conv.weight))

    _run(project, strips)
    _run(convolve, strips)
    return out


def _run(compute: Callable[[Any], None], parts: Iterable[Any]) -> None:
    """Compute parts side by side, one thread each."""
    # Modes of torch hold for a thread: workers get the caller's.
    mode = torch.inference_mode if torch.is_inference_mode_enabled() else torch.no_grad

    def run(part: Any) -> None:
        torch.set_num_threads(1)
        with mode():
            compute(part)

    map_items(run, parts)


def encode_by_parts(encoder: ImageEncoderViT, images: Tensor) -> Tensor:
    """Embed images in parts, in float32.

    Parameters
    ----------
    encoder : ImageEncoderViT
        In evaluation mode, on the CPU.
    images : (N, 3, image_size, image_size) float32 Tensor
        Standardised.

    Returns
    -------
    (N, out_channels, h, w) float32 Tensor
    """
    return FastEncoder(encoder)(images)
