"""SAM as a bare network: embed an image once, then ask for masks by prompts."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from segalgos import checks
from segalgos.nets.checkpoints import load_weights, read_weights
from segalgos.nets.sam.fast_encoder import encode_by_parts
from segalgos.nets.sam.image_encoder import Attention, ImageEncoderViT
from segalgos.nets.sam.mask_decoder import MaskDecoder
from segalgos.nets.sam.names import rename_sam_weights
from segalgos.nets.sam.prompt_encoder import FILLER, SECOND_CORNER, PromptEncoder
from segalgos.nets.sam.tiny_vit import TinyViT

__all__ = ["SAM", "VARIANTS"]

#: Sizes of the published image encoders; "vit_t" is MobileSAM's.
VARIANTS: dict[str, dict[str, Any]] = {
    "vit_t": {},
    "vit_b": {
        "embed_dim": 768,
        "depth": 12,
        "num_heads": 12,
        "global_attn_indexes": (2, 5, 8, 11),
    },
    "vit_l": {
        "embed_dim": 1024,
        "depth": 24,
        "num_heads": 16,
        "global_attn_indexes": (5, 11, 17, 23),
    },
    "vit_h": {
        "embed_dim": 1280,
        "depth": 32,
        "num_heads": 16,
        "global_attn_indexes": (7, 15, 23, 31),
    },
}


class SAM(nn.Module):
    """Segment Anything: an image encoder, a prompt encoder and a mask decoder.

    Parameters
    ----------
    embed_dim, depth, num_heads : int, default=768, 12, 12
        Of the image encoder; the default is ViT-B.
    global_attn_indexes : sequence of int, default=(2, 5, 8, 11)
        Its blocks whose attention spans the whole image.
    image_size, patch_size, window_size, mlp_ratio : default=1024, 16, 14, 4.0
        Of the image encoder.
    image_encoder : torch.nn.Module, optional
        In place of all these, for instance `TinyViT`; it has the attributes ``image_size``,
        ``patch_size`` and ``out_channels``.
    prompt_channels : int, default=256
        Of tokens and of the image's embedding.
    mask_channels : int, default=16
        Within the net that shrinks masks.
    decoder_depth, decoder_heads, decoder_mlp_channels : int, default=2, 8, 2048
    num_multimask_outputs : int, default=3
        Masks for an ambiguous prompt.
    iou_head_depth, iou_head_channels : int, default=3, 256
    generator : torch.Generator, optional
        For the initial weights.

    Attributes
    ----------
    image_size : int
        Height and width of the frame that images and prompts are in.
    mask_size : int
        Height and width of masks: a quarter of it.
    pixel_mean, pixel_std : tuple of float
        Images are standardised with them, as RGB from 0 to 255.

    Notes
    -----
    The network of [1]_. Places are x, y, as in the authors' code; `SAMSegmenter` speaks row,
    column. Parameter names are the authors'. `load_checkpoint` also understands those of
    MobileSAM and of transformers.

    Layer norms of the decoder add 1e-5, as the authors' code does. Transformers adds 1e-6 in
    most of them, which changes logits by about 1e-5 of their size.

    References
    ----------
    .. [1] A. Kirillov et al., "Segment anything", ICCV 2023, arXiv:2304.02643.

    Examples
    --------
    >>> import torch
    >>> from segalgos.nets.sam import SAM
    >>> sam = SAM(32, 2, 2, (1,), image_size=64, prompt_channels=32, decoder_heads=2).eval()
    >>> with torch.inference_mode():
    ...     embedding = sam.encode(torch.zeros(1, 3, 64, 64))
    ...     masks, ious = sam.predict_masks(embedding, points=torch.tensor([[10.0, 20.0]]))
    >>> masks.shape, ious.shape
    (torch.Size([1, 3, 16, 16]), torch.Size([1, 3]))
    """

    pixel_mean = (123.675, 116.28, 103.53)
    pixel_std = (58.395, 57.12, 57.375)

    def __init__(
        self,
        embed_dim: int = 768,
        depth: int = 12,
        num_heads: int = 12,
        global_attn_indexes: Sequence[int] = (2, 5, 8, 11),
        *,
        image_size: int = 1024,
        patch_size: int = 16,
        window_size: int = 14,
        mlp_ratio: float = 4.0,
        image_encoder: nn.Module | None = None,
        prompt_channels: int = 256,
        mask_channels: int = 16,
        decoder_depth: int = 2,
        decoder_heads: int = 8,
        decoder_mlp_channels: int = 2048,
        num_multimask_outputs: int = 3,
        iou_head_depth: int = 3,
        iou_head_channels: int = 256,
        generator: torch.Generator | None = None,
    ):
        super().__init__()
        if image_encoder is None:
            image_encoder = ImageEncoderViT(
                embed_dim,
                depth,
                num_heads,
                global_attn_indexes,
                image_size=image_size,
                patch_size=patch_size,
                window_size=window_size,
                mlp_ratio=mlp_ratio,
                out_channels=prompt_channels,
            )
        elif image_encoder.out_channels != prompt_channels:
            raise ValueError(
                f"SAM: image_encoder gives {image_encoder.out_channels} channels, expected "
                f"prompt_channels ({prompt_channels}): build it with as many."
            )
        self.image_encoder = image_encoder
        self.prompt_encoder = PromptEncoder(
            prompt_channels,
            image_encoder.image_size,
            image_encoder.patch_size,
            mask_channels=mask_channels,
        )
        self.mask_decoder = MaskDecoder(
            prompt_channels,
            depth=decoder_depth,
            num_heads=decoder_heads,
            mlp_channels=decoder_mlp_channels,
            num_multimask_outputs=num_multimask_outputs,
            iou_head_depth=iou_head_depth,
            iou_head_channels=iou_head_channels,
        )
        if generator is not None:
            self.reset_parameters(generator)

    @classmethod
    def from_variant(cls, name: str, **options: Any) -> Self:
        """Build a network of a published size, with weights at random.

        Parameters
        ----------
        name : {"vit_t", "vit_b", "vit_l", "vit_h"}
            "vit_t" is MobileSAM, 10 million parameters; the others have 94, 312 and 641 million.
        **options
            Of the constructor.

        Returns
        -------
        SAM
        """
        checks.check_choice("SAM.from_variant", "name", name, tuple(VARIANTS))
        if name == "vit_t":
            return cls(image_encoder=TinyViT(), **options)
        return cls(**VARIANTS[name], **options)

    @property
    def image_size(self) -> int:
        """Height and width of the frame that images and prompts are in."""
        return self.image_encoder.image_size

    @property
    def mask_size(self) -> int:
        """Height and width of masks."""
        return 4 * self.prompt_encoder.map_size

    def reset_parameters(self, generator: torch.Generator | None = None) -> None:
        """Draw new weights; biases become zero, norms the identity.

        Parameters
        ----------
        generator : torch.Generator, optional
        """
        for module in self.modules():
            if isinstance(module, nn.Linear | nn.Conv2d | nn.ConvTranspose2d):
                fan_in = module.weight[0].numel()
                nn.init.normal_(module.weight, std=fan_in**-0.5, generator=generator)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
            elif isinstance(module, nn.Embedding):
                nn.init.normal_(module.weight, generator=generator)
            elif isinstance(module, nn.LayerNorm | nn.BatchNorm2d):
                module.reset_parameters()
            elif isinstance(module, Attention):
                nn.init.zeros_(module.rel_pos_h)
                nn.init.zeros_(module.rel_pos_w)
            elif isinstance(module, ImageEncoderViT):
                nn.init.zeros_(module.pos_embed)
            elif hasattr(module, "attention_biases"):
                nn.init.zeros_(module.attention_biases)
        frequencies = self.prompt_encoder.pe_layer.positional_encoding_gaussian_matrix
        nn.init.normal_(frequencies, generator=generator)

    # --- the image -----------------------------------------------------------------------

    def preprocess(self, images: Tensor) -> Tensor:
        """Standardise images and fill them up to the frame, as the network was trained.

        Parameters
        ----------
        images : (N, 3, H, W) Tensor
            RGB from 0 to 255, H and W at most `image_size`.

        Returns
        -------
        (N, 3, image_size, image_size) float32 Tensor
            Zeros to the right and below.
        """
        height, width = images.shape[2:]
        if max(height, width) > self.image_size:
            raise ValueError(
                f"SAM.preprocess: images are {height} x {width}, expected at most "
                f"{self.image_size}: resize them so that the longer side has that length."
            )
        mean, std = (
            torch.tensor(values, device=images.device)[:, None, None]
            for values in (self.pixel_mean, self.pixel_std)
        )
        x = (images.float() - mean) / std
        return F.pad(x, (0, self.image_size - width, 0, self.image_size - height))

    def encode(self, images: Tensor) -> Tensor:
        """Embed images, once for all prompts.

        Parameters
        ----------
        images : (N, 3, image_size, image_size) Tensor
            Standardised and in the frame, as `preprocess` gives them.

        Returns
        -------
        (N, prompt_channels, h, w) Tensor
            Cells are ``patch_size`` pixels wide.

        Raises
        ------
        ValueError
            If images have another size.

        Notes
        -----
        On a CPU and without gradients it is computed in parts, on all cores: see
        `segalgos.nets.sam.fast_encoder`. The result is the same, but for rounding.
        """
        expected = (3, self.image_size, self.image_size)
        if images.ndim != 4 or tuple(images.shape[1:]) != expected:
            raise ValueError(
                f"SAM.encode: images have shape {tuple(images.shape)}, expected (N, 3, "
                f"{self.image_size}, {self.image_size}): use preprocess, or SAMSegmenter for "
                "images of any size."
            )
        fast = not (torch.is_grad_enabled() or self.training) and images.device.type == "cpu"
        if fast and isinstance(self.image_encoder, ImageEncoderViT):
            return encode_by_parts(self.image_encoder, images)
        return self.image_encoder(images)

    # --- masks ---------------------------------------------------------------------------

    def predict_masks(
        self,
        embedding: Tensor,
        points: Tensor | None = None,
        point_labels: Tensor | None = None,
        boxes: Tensor | None = None,
        mask: Tensor | None = None,
        multimask: bool = True,
    ) -> tuple[Tensor, Tensor]:
        """Predict the masks of B prompts on one image, or of one prompt on each of B images.

        Parameters
        ----------
        embedding : (1 or B, prompt_channels, h, w) Tensor
            What `encode` gives.
        points : (B, N, 2) Tensor, optional
            As x and y in the frame of `image_size`. (N, 2) is one prompt.
        point_labels : (B, N) Tensor, optional
            1 inside the object, 0 outside, -1 filler; all 1 when left out.
        boxes : (B, 4) Tensor, optional
            As x0, y0, x1, y1 in the frame. (4,) is one prompt.
        mask : (B, 1, mask_size, mask_size) Tensor, optional
            Logits of an earlier mask. (B, mask_size, mask_size) and (mask_size, mask_size) are
            understood too.
        multimask : bool, default=True
            Several masks, for a prompt that is ambiguous, such as one point; else one.

        Returns
        -------
        logits : (B, M, mask_size, mask_size) Tensor
            Above 0 inside the object. M is `num_multimask_outputs` or 1.
        ious : (B, M) Tensor
            Estimated intersection over union of each mask with the object.

        Raises
        ------
        ValueError
            If shapes do not fit.
        """
        points, point_labels, boxes, mask = self._check_prompts(
            embedding, points, point_labels, boxes, mask
        )
        tokens, dense = self.prompt_encoder(points, point_labels, boxes, mask)
        places = self.prompt_encoder.map_places()
        logits, ious = self.mask_decoder(embedding, places, tokens, dense)
        wanted = slice(1, None) if multimask else slice(0, 1)
        return logits[:, wanted], ious[:, wanted]

    def _check_prompts(self, embedding, points, labels, boxes, mask):
        """Give prompts the shapes that the encoder takes."""
        caller = "SAM.predict_masks"
        device = embedding.device
        size, channels = self.prompt_encoder.map_size, self.image_encoder.out_channels
        if embedding.ndim != 4 or tuple(embedding.shape[1:]) != (channels, size, size):
            raise ValueError(
                f"{caller}: embedding has shape {tuple(embedding.shape)}, expected (N, {channels}, "
                f"{size}, {size}): pass what encode gives."
            )
        if points is None and labels is not None:
            raise ValueError(f"{caller}: point_labels without points: pass points=(B, N, 2) too.")
        if points is not None:
            points = torch.as_tensor(points, dtype=torch.float32, device=device)
            points = points[None] if points.ndim == 2 else points
            if points.ndim != 3 or points.shape[2] != 2:
                raise _bad_shape(caller, "points", points, "(B, N, 2)")
            if labels is None:
                labels = points.new_ones(points.shape[:2])
            labels = torch.as_tensor(labels, device=device)
            labels = labels[None] if labels.ndim == 1 else labels
            if labels.shape != points.shape[:2]:
                raise _bad_shape(caller, "point_labels", labels, tuple(points.shape[:2]))
            if not ((labels >= FILLER) & (labels <= SECOND_CORNER)).all():
                raise ValueError(
                    f"{caller}: point_labels holds {labels.unique().tolist()}, expected 1 inside, "
                    "0 outside or -1 filler."
                )
        if boxes is not None:
            boxes = torch.as_tensor(boxes, dtype=torch.float32, device=device)
            boxes = boxes[None] if boxes.ndim == 1 else boxes
            if boxes.ndim != 2 or boxes.shape[1] != 4:
                raise _bad_shape(caller, "boxes", boxes, "(B, 4)")
        if mask is not None:
            mask = torch.as_tensor(mask, dtype=torch.float32, device=device)
            mask = mask[None, None] if mask.ndim == 2 else mask
            mask = mask[:, None] if mask.ndim == 3 else mask
            if mask.ndim != 4 or tuple(mask.shape[1:]) != (1, self.mask_size, self.mask_size):
                raise _bad_shape(
                    caller, "mask", mask, f"(B, 1, {self.mask_size}, {self.mask_size})"
                )
        counts = {len(x) for x in (points, boxes, mask) if x is not None}
        if len(counts) > 1 or (counts and len(embedding) not in (1, *counts)):
            raise ValueError(
                f"{caller}: there are {len(embedding)} embeddings and prompts for "
                f"{' and '.join(map(str, sorted(counts)))}: pass one embedding or one a prompt, "
                "and as many points, boxes and masks, where they are given."
            )
        return points, labels, boxes, mask

    # --- weights -------------------------------------------------------------------------

    def load_checkpoint(self, source: str | os.PathLike | Mapping[str, Tensor]) -> Self:
        """Load weights; nothing may be missing or left over.

        Parameters
        ----------
        source : path-like or mapping of str to Tensor
            A safetensors file, a file of ``torch.save`` (read without unpickling), or a state
            dict, in any of the dialects of `rename_sam_weights`.

        Returns
        -------
        SAM
            Itself.

        Raises
        ------
        ValueError
            If names or shapes differ, or the file is damaged.
        """
        load_weights(self, rename_sam_weights(read_weights(source)))
        return self

    @classmethod
    def from_checkpoint(cls, source: str | os.PathLike | Mapping[str, Tensor]) -> Self:
        """Build the network that weights are of, and load them.

        Parameters
        ----------
        source : path-like or mapping of str to Tensor
            As in `load_checkpoint`. Of a published size, or of another one whose windows,
            heads and blocks with global attention can be told from the weights' shapes; the
            decoder then has 8 heads.

        Returns
        -------
        SAM
            In evaluation mode.

        Raises
        ------
        ValueError
            If they are weights of no SAM, or of one whose sizes cannot be told.
        """
        weights = rename_sam_weights(read_weights(source))
        with torch.device("meta"):  # no memory and no random numbers for what is replaced
            network = cls(**_options_of(weights))
        network.to_empty(device="cpu")
        load_weights(network, weights)
        return network.eval()


def _bad_shape(caller: str, name: str, found: Tensor, expected: Any) -> ValueError:
    return ValueError(f"{caller}: {name} has shape {tuple(found.shape)}, expected {expected}.")


def _options_of(weights: Mapping[str, Tensor]) -> dict[str, Any]:
    """Find out what network weights are of, by their shapes."""

    def shape(name: str) -> torch.Size:
        if name not in weights:
            raise ValueError(
                f"SAM.from_checkpoint: the checkpoint has no {name}, so it is of no SAM: pass a "
                "checkpoint of ViT-B, ViT-L, ViT-H or MobileSAM."
            )
        return weights[name].shape

    def count(pattern: str) -> int:
        n = 0
        while pattern.format(n) in weights:
            n += 1
        return n

    hidden = shape("mask_decoder.iou_prediction_head.layers.0.weight")
    options = {
        "prompt_channels": shape("mask_decoder.iou_token.weight")[1],
        "mask_channels": shape("prompt_encoder.mask_downscaling.3.weight")[0],
        "decoder_depth": count("mask_decoder.transformer.layers.{}.norm1.weight"),
        "decoder_mlp_channels": shape("mask_decoder.transformer.layers.0.mlp.lin1.weight")[0],
        "num_multimask_outputs": shape("mask_decoder.mask_tokens.weight")[0] - 1,
        "iou_head_depth": count("mask_decoder.iou_prediction_head.layers.{}.weight"),
        "iou_head_channels": hidden[0],
    }
    if "image_encoder.patch_embed.seq.0.c.weight" in weights:
        return options | {"image_encoder": TinyViT(out_channels=options["prompt_channels"])}
    _, map_size, _, embed_dim = shape("image_encoder.pos_embed")
    depth = count("image_encoder.blocks.{}.norm1.weight")
    lengths = [shape(f"image_encoder.blocks.{i}.attn.rel_pos_h")[0] for i in range(depth)]
    whole = 2 * map_size - 1
    windows = {length for length in lengths if length != whole}
    if len(windows) > 1:
        raise ValueError(
            f"SAM.from_checkpoint: blocks have windows of {sorted(windows)}, expected one size: "
            "build SAM(...) with the right options and use its load_checkpoint."
        )
    head_channels = shape("image_encoder.blocks.0.attn.rel_pos_h")[1]
    patch_size = shape("image_encoder.patch_embed.proj.weight")[2]
    return options | {
        "embed_dim": embed_dim,
        "depth": depth,
        "num_heads": embed_dim // head_channels,
        "global_attn_indexes": [i for i, length in enumerate(lengths) if length == whole],
        "image_size": map_size * patch_size,
        "patch_size": patch_size,
        "window_size": (windows.pop() + 1) // 2 if windows else 0,
        "mlp_ratio": shape("image_encoder.blocks.0.mlp.lin1.weight")[0] / embed_dim,
    }
