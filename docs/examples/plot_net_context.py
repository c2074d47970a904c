"""
Three ways to context
=====================

To know what a pixel shows, a net must look at what is around it. DeepLab looks at several rates,
SegFormer lets cells attend to one another, DDRNet has a second, coarse path.
"""

# sphinx_gallery_thumbnail_number = 4
import matplotlib.pyplot as plt
import numpy as np
import torch
from scipy import ndimage
from skimage import data, filters, segmentation

import segalgos
from segalgos.nets.deeplab import ASPP, RATES
from segalgos.nets.encoders.mit import MiT
from segalgos.plot import overlay

image = data.rocket()[:384, :576]
height, width = image.shape[:2]

# %%
# **DeepLab: rates.** Each branch of the pyramid has nine weights. At rate r they lie r cells of 16
# pixels apart. The points are what the middle of the picture takes in; of the largest rate, the
# outer ones fall beside small images, and the convolution becomes a 1x1 one (right). That is why
# DeepLab v3 adds a branch with the mean of the image.

figure, axes = plt.subplots(1, 2, figsize=(10, 3.6), layout="constrained", width_ratios=(1.15, 1))
axes[0].imshow(image)
for rate, colour in zip(RATES[16], ("tab:orange", "tab:cyan", "tab:pink"), strict=True):
    taps = np.array([-1, 0, 1]) * rate * 16
    x, y = np.meshgrid(width // 2 + taps, height // 2 + taps)
    axes[0].plot(x.ravel(), y.ravel(), "s", color=colour, mec="k", label=f"rate {rate}")
axes[0].set(xlim=(-40, width + 40), ylim=(height + 110, -110), xticks=[], yticks=[])
axes[0].legend(loc="upper center", bbox_to_anchor=(0.5, 0), ncols=3, frameon=False)

sides = np.arange(1, 66)
for rate in RATES[16]:
    # Along one axis, a weight left or right of the middle is used by `sides - rate` cells.
    inside = (sides + 2 * np.clip(sides - rate, 0, None)) / sides
    axes[1].plot(sides * 16, inside**2, label=f"rate {rate}")
axes[1].set(
    xlabel="height and width of the image, pixels", ylabel="weights that fall inside, mean",
    ylim=(0, 9),
)  # fmt: skip
axes[1].legend(fontsize=8)

# %%
# The same seen in the net: one bright cell on a black map, and where each branch answers.

aspp = ASPP(1, RATES[16], c_out=1).eval()
cell = torch.zeros(1, 1, 49, 49)
cell[..., 24, 24] = 1
figure, axes = plt.subplots(1, 5, figsize=(11, 2.5), layout="constrained")
names = ["1x1", *(f"3x3, rate {rate}" for rate in RATES[16]), "image mean"]
with torch.inference_mode():
    for panel, name, branch in zip(axes, names, aspp.convs, strict=True):
        conv = next(layer for layer in branch if isinstance(layer, torch.nn.Conv2d))
        conv.weight.fill_(1.0)
        answer = branch(cell).expand(1, 1, 49, 49)[0, 0] > 0
        panel.imshow(answer, cmap="gray_r", vmin=0, vmax=1)
        panel.set(xticks=[], yticks=[], title=name)

# %%
# **SegFormer: shortened sequences.** Every cell of a stage asks all cells of a shortened map. The
# work of attention is the number of pairs; without the reduction the first stage alone would
# need 64 times as many.

net = MiT("b0", generator=torch.Generator().manual_seed(0)).eval()
figure, axes = plt.subplots(1, 4, figsize=(11, 2.6), layout="constrained")
for panel, stage, stride in zip(axes, net.stages, net.strides, strict=True):
    ratio = getattr(stage.blocks[0].attention.sequence_reduction, "ratio", 1)
    queries = (height // stride) * (width // stride)
    keys = (height // stride // ratio) * (width // stride // ratio)
    panel.imshow(image)
    for at in range(0, width, stride * ratio):
        panel.axvline(at, color="w", lw=0.5)
    for at in range(0, height, stride * ratio):
        panel.axhline(at, color="w", lw=0.5)
    panel.add_patch(plt.Rectangle((320, 192), stride, stride, color="tab:red"))
    panel.plot(320 + stride / 2, 192 + stride / 2, "o", ms=16, mfc="none", color="tab:red")
    panel.set(xticks=[], yticks=[], title=f"1/{stride}: {queries:,} cells\nask {keys:,} keys")

# %%
# The keys of all stages lie 32 pixels apart; what shrinks is the number of those who ask.
#
# SegFormer has no positional encoding. It learns places from the zeros that its 3x3 convolutions
# see beyond the border: for a constant image, maps of an untrained net already differ between
# border and middle.

with torch.inference_mode():
    maps = net(torch.ones(1, 3, 256, 256))
figure, axes = plt.subplots(1, 4, figsize=(10, 2.7), layout="constrained")
for panel, cells, stride in zip(axes, maps, net.strides, strict=True):
    middle = cells[:, :, cells.shape[2] // 2, cells.shape[3] // 2][..., None, None]
    panel.imshow((cells - middle).norm(dim=1)[0], cmap="viridis")
    panel.set(xticks=[], yticks=[], title=f"1/{stride}")
figure.suptitle("A constant image: distance from the features in the middle")

# %%
# **DDRNet: two paths.** A small one learns to find coins in the upper part of a photograph. Then,
# on the lower part, one path at a time is silenced where both meet for the last time: what it
# gives is replaced by its mean, so that only what varies within the image is lost.


def load_coins():
    """Image (H, W) and label map: 0 for the table, 1 for coins. The truth is a watershed's."""
    image = data.coins()
    marks = np.where(image < 30, 1, np.where(image > 150, 2, 0))
    found = segmentation.watershed(filters.sobel(image), marks) == 2
    coins = ndimage.binary_opening(ndimage.binary_fill_holes(found), iterations=2)
    return image, coins.astype(np.int32)


coins, labels = load_coins()
ddrnet = segalgos.DDRNetSegmenter(
    base_channels=8,
    context_channels=16,
    head_channels=16,
    epochs=40,
    crop_size=96,
    learning_rate=1e-2,
    random_state=0,
)
ddrnet.fit(coins[:190], labels[:190])
test = coins[190:]


def predict_without(module):
    """Label map with what `module` gives made constant over the image."""
    hook = module.register_forward_hook(
        lambda module, inputs, output: output.mean((2, 3), keepdim=True).expand_as(output).clone()
    )
    try:
        return ddrnet.predict(test)
    finally:
        hook.remove()


panels = {
    "truth": labels[190:],
    "both paths": ddrnet.predict(test),
    "fine path alone": predict_without(ddrnet.fast_network_.spp),
    "coarse path alone": predict_without(ddrnet.fast_network_.layer5_),
}
figure, axes = plt.subplots(2, 2, figsize=(9, 2.9), layout="constrained")
for panel, (title, label_map) in zip(axes.flat, panels.items(), strict=True):
    panel.imshow(overlay(test, label_map - 1))  # the table is left bare
    panel.set(xticks=[], yticks=[], title=title)

# %%
# The fine path draws the coins. The coarse one cannot by itself: its cells of 64 pixels are larger
# than coins. It only corrects the other a little. Coins are an easy case, which differ from the
# table in every pixel. The more an answer depends on what is around, the more the coarse path
# counts.
