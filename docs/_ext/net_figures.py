"""``.. net-figure:: unet``: the figure of a net, drawn from the net itself.

A figure lists boxes by the names of modules, and arrows between them. The net is built without
memory (on torch's "meta" device) and run once; channels, sizes and the row of each box are those
of the maps that its module gave. A figure so cannot fall behind the code: a module that is
renamed ends the build.

Rows are scales, from the image at the top to the coarsest map. Colours are classes of
``_static/segalgos.css``, which knows a light and a dark theme.
"""

from __future__ import annotations

import html
import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from docutils import nodes
from sphinx.util.docutils import SphinxDirective
from torch import Tensor, nn

from segalgos.nets.ddrnet import DDRNet
from segalgos.nets.deeplab import DeepLab
from segalgos.nets.fcn import FCN
from segalgos.nets.segformer import SegFormer
from segalgos.nets.unet import UNet

N_CLASSES = 21

# Pixels of the drawing.
COLUMN, BOX_WIDTH = 94, 80
LINE, PADDING, GAP = 14, 6, 26
LEFT, TOP = 52, 10
JOIN = 12  # radius
LEGEND = {
    "step": "layers at one scale",
    "down": "to a coarser scale",
    "up": "to a finer scale",
    "skip": "handed across",
}


@dataclass
class Box:
    """A map, or what becomes of it.

    Parameters
    ----------
    key : str
        What arrows call it; the name of the module that gives the map, unless `module` has it.
    column : float
    title : str
    kind : {"input", "encoder", "context", "decoder", "head", "join"}
    module : str, optional
    code : str, optional
        What the figure calls the module, if not its key.
    beside : str, optional
        Key of a box in whose row it stands, if not in that of its own map.
    lines : sequence of str
        Further text.
    """

    key: str
    column: float
    title: str
    kind: str
    module: str | None = None
    code: str | None = None
    beside: str | None = None
    lines: tuple[str, ...] = ()


@dataclass
class Figure:
    """How a net is drawn.

    Parameters
    ----------
    build : callable
        Makes the net.
    title : str
        Read aloud in place of the picture.
    boxes : list of Box
    arrows : list of (from, to, kind) or (from, to, kind, label)
        Keys of boxes, and one of `LEGEND`.
    size : int
        Height and width of the image.
    show_sizes : bool
        Write heights of maps into the boxes, where rows do not tell them.
    """

    build: Callable[[], nn.Module]
    title: str
    boxes: list[Box]
    arrows: list[tuple[str, ...]]
    size: int = 512
    show_sizes: bool = False


def _unet() -> Figure:
    boxes = [Box("image", 0, "image", "input")]
    boxes += [Box(f"down.{i}", i + 1, "2 conv 3×3", "encoder") for i in range(5)]
    boxes += [Box(f"up.{i}", i + 6, "2 conv 3×3", "decoder") for i in range(4)]
    boxes += [Box("head", 10, "conv 1×1", "head")]
    arrows = [("image", "down.0", "step"), ("up.3", "head", "step")]
    arrows += [(f"down.{i}", f"down.{i + 1}", "down") for i in range(4)]
    arrows += [("down.4", "up.0", "up")] + [(f"up.{i}", f"up.{i + 1}", "up") for i in range(3)]
    arrows += [(f"down.{i}", f"up.{3 - i}", "skip", "crop, concatenate") for i in range(4)]
    return Figure(
        lambda: UNet(1, 2),
        "U-Net: five scales, down at the left, up at the right, skips between them",
        boxes,
        arrows,
        size=572,
        show_sizes=True,
    )


def _fcn() -> Figure:
    pools = {1: 4, 2: 9, 3: 16, 4: 23, 5: 30}  # indices in VGG16
    convs = {1: 2, 2: 2, 3: 3, 4: 3, 5: 3}
    boxes = [Box("image", 0, "image", "input")]
    boxes += [
        Box(
            f"pool{i}", i, f"pool{i}", "encoder", module=f"backbone.features.{index}",
            code=f"features.{index}", lines=(f"after {convs[i]} conv",),
        )
        for i, index in pools.items()
    ]  # fmt: skip
    boxes += [
        Box("fc6", 6, "conv 7×7", "context"),
        Box("fc7", 7, "conv 1×1", "context"),
        Box("score_fr", 8, "conv 1×1", "head"),
        Box("score_pool4", 8, "conv 1×1", "head"),
        Box("score_pool3", 8, "conv 1×1", "head"),
        Box("sum4", 9, "+", "join", beside="score_pool4"),
        Box("sum3", 10, "+", "join", beside="score_pool3"),
        Box("upscore", 11, "logits", "head", beside="image"),
    ]
    arrows = [("image", "pool1", "down")]
    arrows += [(f"pool{i}", f"pool{i + 1}", "down") for i in range(1, 5)]
    arrows += [
        ("pool5", "fc6", "step"),
        ("fc6", "fc7", "step"),
        ("fc7", "score_fr", "step"),
        ("pool4", "score_pool4", "skip"),
        ("pool3", "score_pool3", "skip"),
        ("score_fr", "sum4", "up", "upscore2"),
        ("score_pool4", "sum4", "step"),
        ("sum4", "sum3", "up", "upscore_pool4"),
        ("score_pool3", "sum3", "step"),
        ("sum3", "upscore", "up", "upscore"),
    ]
    return Figure(
        lambda: FCN(3, N_CLASSES, padding="same"),
        "FCN-8s: VGG16 down to a 32nd of the image, scores added at a 16th and an 8th",
        boxes,
        arrows,
    )


def _deeplab() -> Figure:
    network = _built(_build_deeplab)
    branches = []
    for branch in network.classifier.aspp.convs:
        conv = next(layer for layer in branch if isinstance(layer, nn.Conv2d))
        side, rate = conv.kernel_size[0], conv.dilation[0]
        if isinstance(branch[0], nn.AdaptiveAvgPool2d):
            branches.append("image mean")
        else:
            branches.append(f"{side}×{side}" + (f", rate {rate}" if side > 1 else ""))
    rate = network.backbone.layer4[1].conv2.dilation[0]
    boxes = [
        Box("image", 0, "image", "input"),
        Box("stem", 1, "conv 7×7", "encoder", module="backbone.conv1", code="conv1"),
        Box("layer1", 2, "3 blocks", "encoder", module="backbone.layer1"),
        Box("layer2", 3, "4 blocks", "encoder", module="backbone.layer2"),
        Box("layer3", 4, "6 blocks", "encoder", module="backbone.layer3"),
        Box("layer4", 5, "3 blocks", "encoder", module="backbone.layer4", lines=(f"rate {rate}",)),
        Box(
            "aspp", 6, "ASPP", "context", module="classifier.aspp.convs.0", code="aspp.convs",
            lines=tuple(branches),
        ),
        Box("aspp.project", 7, "conv 1×1", "context", module="classifier.aspp.project"),
        Box("project", 7, "conv 1×1", "decoder", module="classifier.project"),
        Box("join", 8, "cat", "join", beside="project"),
        Box("classifier", 9, "3 convs", "head", module="classifier.classifier"),
        Box("logits", 10, "logits", "head", module="", beside="image"),
    ]  # fmt: skip
    arrows = [
        ("image", "stem", "down"),
        ("stem", "layer1", "down"),
        ("layer1", "layer2", "down"),
        ("layer2", "layer3", "down"),
        ("layer3", "layer4", "step"),
        ("layer4", "aspp", "step"),
        ("aspp", "aspp.project", "step"),
        ("layer1", "project", "skip"),
        ("project", "join", "step"),
        ("aspp.project", "join", "up"),
        ("join", "classifier", "step"),
        ("classifier", "logits", "up"),
    ]
    return Figure(
        _build_deeplab,
        "DeepLab v3+: a ResNet down to a 16th, five branches side by side, a decoder at a 4th",
        boxes,
        arrows,
    )


def _build_deeplab() -> nn.Module:
    return DeepLab(3, N_CLASSES)


def _segformer() -> Figure:
    network = _built(_build_segformer)
    boxes = [Box("image", 0, "image", "input")]
    arrows = [("image", "stages.0", "down")]
    for i, stage in enumerate(network.segformer.stages):
        attention = stage.blocks[0].attention
        ratio = getattr(attention.sequence_reduction, "ratio", 1)
        heads = f"{attention.n_heads} head" + "s" * (attention.n_heads > 1)
        text = (f"{len(stage.blocks)} blocks", heads, f"keys 1/{ratio}²")
        if ratio == 1:
            text = (*text[:2], "all keys")
        boxes.append(
            Box(f"stages.{i}", i + 1, "stage", "encoder", module=f"segformer.stages.{i}",
                lines=text)
        )  # fmt: skip
        boxes.append(
            Box(f"linear.{i}", 5.3, "linear", "decoder", beside=f"stages.{i}",
                module=f"decode_head.linear_projections.{i}.proj", code=f"projections.{i}")
        )  # fmt: skip
        arrows.append((f"stages.{i}", f"linear.{i}", "skip"))
        if i > 0:
            arrows.append((f"stages.{i - 1}", f"stages.{i}", "down"))
            arrows.append((f"linear.{i}", "join", "up"))
    boxes += [
        Box("join", 6.4, "cat", "join", beside="stages.0"),
        Box(
            "linear_fuse",
            7.3,
            "linear",
            "decoder",
            module="decode_head.linear_fuse",
            beside="stages.0",
        ),
        Box("classifier", 8.3, "linear", "head", module="decode_head"),
        Box("logits", 9.3, "logits", "head", module="", beside="image"),
    ]
    arrows += [
        ("linear.0", "join", "step"),
        ("join", "linear_fuse", "step"),
        ("linear_fuse", "classifier", "step"),
        ("classifier", "logits", "up"),
    ]
    return Figure(
        _build_segformer,
        "SegFormer-B0: four stages of a transformer, whose maps linear layers bring together",
        boxes,
        arrows,
    )


def _build_segformer() -> nn.Module:
    return SegFormer("b0", N_CLASSES)


def _ddrnet() -> Figure:
    boxes = [
        Box("image", 0, "image", "input"),
        Box("conv1", 1, "conv, conv", "encoder"),
        Box("layer1", 2, "2 blocks", "encoder"),
        Box("layer2", 3, "2 blocks", "encoder"),
        Box("layer3_", 4, "2 blocks", "decoder"),
        Box("layer3", 4, "2 blocks", "context"),
        Box("fine1", 5.4, "+", "join", beside="layer3_"),
        Box("coarse1", 5.4, "+", "join", beside="layer3"),
        Box("layer4_", 6.4, "2 blocks", "decoder"),
        Box("layer4", 6.4, "2 blocks", "context"),
        Box("fine2", 7.8, "+", "join", beside="layer4_"),
        Box("coarse2", 7.8, "+", "join", beside="layer4"),
        Box("layer5_", 8.8, "bottleneck", "decoder"),
        Box("layer5", 8.8, "bottleneck", "context"),
        Box("spp", 9.8, "DAPPM", "context"),
        Box("fine3", 10.1, "+", "join", beside="layer5_"),
        Box("final_layer", 11, "3×3, 1×1", "head"),
        Box("logits", 12, "logits", "head", module="", beside="image"),
    ]
    arrows = [
        ("image", "conv1", "down"),
        ("conv1", "layer1", "step"),
        ("layer1", "layer2", "down"),
        ("layer2", "layer3_", "step"),
        ("layer2", "layer3", "down"),
        ("layer3_", "fine1", "step"),
        ("layer3", "coarse1", "step"),
        ("layer3", "fine1", "up", "compression3"),
        ("layer3_", "coarse1", "down", "down3"),
        ("fine1", "layer4_", "step"),
        ("coarse1", "layer4", "down"),
        ("layer4_", "fine2", "step"),
        ("layer4", "coarse2", "step"),
        ("layer4", "fine2", "up", "compression4"),
        ("layer4_", "coarse2", "down", "down4"),
        ("fine2", "layer5_", "step"),
        ("coarse2", "layer5", "down"),
        ("layer5", "spp", "step"),
        ("layer5_", "fine3", "step"),
        ("spp", "fine3", "up"),
        ("fine3", "final_layer", "step"),
        ("final_layer", "logits", "up"),
    ]
    return Figure(
        lambda: DDRNet(3, N_CLASSES),
        "DDRNet-23-slim: a path that stays at an 8th above one that goes to a 64th",
        boxes,
        arrows,
    )


FIGURES = {
    "fcn": _fcn,
    "unet": _unet,
    "deeplab": _deeplab,
    "segformer": _segformer,
    "ddrnet": _ddrnet,
}


def _built(build: Callable[[], nn.Module]) -> nn.Module:
    """Build a net without memory for its weights."""
    with torch.device("meta"):
        return build().eval()


def measure(figure: Figure) -> dict[str, tuple[int, int]]:
    """Run the net and look at the maps of the modules in a figure.

    Returns
    -------
    dict of str to (channels, height)
        By the key of the box.
    """
    network = _built(figure.build)
    n_channels = next(m for m in network.modules() if isinstance(m, nn.Conv2d)).in_channels
    found = {"image": (n_channels, figure.size)}

    def look(key: str) -> Callable:
        def hook(module: nn.Module, inputs: tuple, output: Tensor) -> None:
            # Transformers have their channels last.
            channels, height = output.shape[1:3]
            if "stages" in key:
                height, channels = output.shape[2:]
            found[key] = (channels, height)

        return hook

    for box in figure.boxes:
        if box.kind in ("input", "join"):
            continue
        name = box.key if box.module is None else box.module
        module = network.get_submodule(name)
        module.register_forward_hook(look(box.key))
        out = getattr(module, "out_features", getattr(module, "out_channels", None))
        if out is not None:  # what is never called, since its weights are used elsewhere
            found[box.key] = (out, 0)
    network(torch.empty(1, n_channels, figure.size, figure.size, device="meta"))
    return found


def draw(figure: Figure) -> str:
    """Draw a figure.

    Returns
    -------
    str
        An SVG element.
    """
    maps = measure(figure)
    by_key = {box.key: box for box in figure.boxes}
    scales = {
        box.key: math.floor(math.log2(figure.size / maps[box.beside or box.key][1]))
        for box in figure.boxes
    }
    texts = {box.key: _text(box, maps, figure.show_sizes) for box in figure.boxes}

    rows, y = {}, TOP
    for scale in sorted(set(scales.values())):
        height = max(_height(texts[key]) for key, value in scales.items() if value == scale)
        rows[scale] = (y, y + height + GAP)
        y += height + GAP
    width = LEFT + (max(box.column for box in figure.boxes) + 1) * COLUMN
    height = y + 30

    boxes = {}
    for key, box in by_key.items():
        top, bottom = rows[scales[key]]
        x = LEFT + (box.column + 0.5) * COLUMN
        half = (JOIN, JOIN) if box.kind == "join" else (BOX_WIDTH / 2, _height(texts[key]) / 2)
        boxes[key] = (x, (top + bottom) / 2, *half)

    parts = [
        f'<svg class="net" viewBox="0 0 {width:g} {height:g}" style="width: {width:g}px" '
        f'role="img" aria-label="{html.escape(figure.title)}">',
        "<defs>",
        *(
            f'<marker id="net-{kind}" class="net-{kind}" viewBox="0 0 8 8" refX="7" refY="4" '
            'markerWidth="7" markerHeight="7" orient="auto"><path d="M0 0.5 8 4 0 7.5z"/></marker>'
            for kind in LEGEND
        ),
        "</defs>",
    ]
    for i, (scale, (top, bottom)) in enumerate(rows.items()):
        name = "1" if scale == 0 else f"1/{2**scale}"
        parts.append(
            f'<rect class="net-row{i % 2}" x="0" y="{top:g}" width="{width:g}" '
            f'height="{bottom - top:g}"/>'
            f'<text class="net-scale" x="10" y="{(top + bottom) / 2 + 4:g}">{name}</text>'
        )
    parts += [_arrow(boxes, *arrow) for arrow in figure.arrows]
    for key, box in by_key.items():
        parts.append(_box(box, boxes[key], texts[key]))
    x = LEFT
    for kind, text in LEGEND.items():
        parts.append(
            f'<path class="net-arrow net-{kind}" d="M{x} {height - 12:g}h28" '
            f'marker-end="url(#net-{kind})"/><text class="net-label" x="{x + 34}" '
            f'y="{height - 8:g}" style="text-anchor: start">{text}</text>'
        )
        x += 170
    return "\n".join([*parts, "</svg>"])


def _text(box: Box, maps: dict[str, tuple[int, int]], show_sizes: bool) -> list[tuple[str, str]]:
    """Lines of a box, each with its class."""
    if box.kind == "join":
        return [("net-title", box.title)]
    channels, size = maps[box.key]
    lines = [("net-title", box.title)]
    if box.kind != "input" and box.title != "logits":
        lines.append(("net-code", box.code or box.key))
    lines += [("net-text", line) for line in box.lines]
    lines.append(("net-channels", f"{channels} ch." + (f", {size}²" if show_sizes else "")))
    return lines


def _height(lines: list) -> int:
    return LINE * len(lines) + 2 * PADDING


def _box(box: Box, place: tuple[float, ...], lines: list[tuple[str, str]]) -> str:
    x, y, half_width, half_height = place
    if box.kind == "join":
        return (
            f'<circle class="net-box net-join" cx="{x:g}" cy="{y:g}" r="{JOIN}"/>'
            f'<text class="net-sign" x="{x:g}" y="{y + 4:g}">{box.title}</text>'
        )
    parts = [
        f'<rect class="net-box net-{box.kind}" x="{x - half_width:g}" y="{y - half_height:g}" '
        f'width="{2 * half_width:g}" height="{2 * half_height:g}" rx="5"/>'
    ]
    for i, (style, line) in enumerate(lines):
        at = y - half_height + PADDING + LINE * (i + 0.78)
        parts.append(f'<text class="{style}" x="{x:g}" y="{at:g}">{html.escape(line)}</text>')
    return "".join(parts)


def _arrow(boxes: dict, start: str, end: str, kind: str, label: str = "") -> str:
    x0, y0, half_width0, half_height0 = boxes[start]
    x1, y1, half_width1, half_height1 = boxes[end]
    is_join = half_width1 == JOIN
    side, text = "middle", ""
    if y0 == y1:
        path = f"M{x0 + half_width0:g} {y0:g}H{x1 - half_width1:g}"
        x, y = (x0 + half_width0 + x1 - half_width1) / 2, y0 - 5
    elif y1 > y0 and not is_join:  # down, then right
        path = f"M{x0:g} {y0 + half_height0:g}V{y1:g}H{x1 - half_width1:g}"
        x, y = x0, (y0 + y1) / 2
    else:  # right, then up or down; side by side at a join
        down = y1 > y0
        x = x1 + is_join * (4 if down else -4)
        path = (
            f"M{x0 + half_width0:g} {y0:g}H{x:g}V{y1 + (-half_height1 if down else half_height1):g}"
        )
        y = (y0 + y1) / 2 + 4
        x, side = (x + 6, "start") if down else (x - 6, "end")
    if label:
        place = f'x="{x:g}" y="{y:g}" style="text-anchor: {side}"'
        text = f'<text class="net-label" {place}>{label}</text>'
    return f'<path class="net-arrow net-{kind}" d="{path}" marker-end="url(#net-{kind})"/>{text}'


class NetFigure(SphinxDirective):
    """Draw a net; the content is the caption."""

    required_arguments = 1
    has_content = True

    def run(self):
        svg = draw(FIGURES[self.arguments[0]]())
        drawing = nodes.raw("", f'<div class="net-scroll">{svg}</div>', format="html")
        caption = nodes.container("", *self.parse_content_to_nodes(), classes=["net-caption"])
        return [drawing, caption]


def setup(app):
    """Register the directive."""
    app.add_directive("net-figure", NetFigure)
    return {"parallel_read_safe": True}
