"""
What the parts of a U-Net do
============================

A small U-Net learns for seconds to tell coins from the table, from the upper part of one
photograph. On the lower part we then look inside: at the maps of each depth, and at what becomes
of the result when a skip is cut.
"""

# sphinx_gallery_thumbnail_number = 2
import matplotlib.pyplot as plt
import numpy as np
from scipy import ndimage
from skimage import data, filters, segmentation

import segalgos
from segalgos.plot import overlay


def load_coins():
    """Image (H, W) and label map: 0 for the table, 1 for coins. The truth is a watershed's."""
    image = data.coins()
    marks = np.where(image < 30, 1, np.where(image > 150, 2, 0))
    found = segmentation.watershed(filters.sobel(image), marks) == 2
    coins = ndimage.binary_opening(ndimage.binary_fill_holes(found), iterations=2)
    return image, coins.astype(np.int32)


image, labels = load_coins()
test_image, test_labels = image[190:], labels[190:]

net = segalgos.UNetSegmenter(
    base_channels=8,
    depth=3,
    padding="same",
    batch_norm=True,
    dropout=0.0,
    epochs=15,
    crop_size=64,
    learning_rate=1e-2,
    random_state=0,
)
net.fit(image[:190], labels[:190])
print(f"mean IoU {net.score(test_image, test_labels):.3f}")

# %%
# Hooks of torch catch what each module gives. Of each map, the four channels that vary most, away
# from the border, are shown. Downwards, cells grow and channels tell more and more about *what* is
# there; upwards, the skips bring back *where*.

maps = {}
network = net.fast_network_  # the one that predicts


def keep(name):
    """Make a hook that remembers an output."""

    def hook(module, inputs, output):
        maps[name] = output.detach()[0]

    return hook


hooks = [
    module.register_forward_hook(keep(name))
    for name, module in network.named_modules()
    if name in ("down.0", "down.1", "down.2", "down.3", "up.0", "up.1", "up.2")
]
result = net.predict(test_image)
for hook in hooks:
    hook.remove()

figure, axes = plt.subplots(4, 7, figsize=(11, 3), layout="constrained")
for column, (name, channels) in zip(axes.T, maps.items(), strict=True):
    strongest = channels[:, 2:-2, 2:-2].flatten(1).std(1).argsort(descending=True)[:4]
    column[0].set_title(f"{name}\n{len(channels)} x {channels.shape[1]} x {channels.shape[2]}")
    for panel, channel in zip(column, strongest, strict=True):
        panel.imshow(channels[channel], cmap="viridis")
        panel.set(xticks=[], yticks=[])

# %%
# To cut a skip, give the block above the mean of its channels instead. What is lost is what only
# this skip tells. The finest carries the outlines: without it, coins dissolve. The coarser ones
# matter little here, since coins are told from the table by their brightness.


def predict_without(step):
    """Label map with the skip into `step` of the expanding path made constant."""

    def flatten(block, inputs):
        below, skip = inputs
        return below, skip.mean((2, 3), keepdim=True).expand_as(skip)

    hook = network.up[step].register_forward_pre_hook(flatten)
    try:
        return net.predict(test_image)
    finally:
        hook.remove()


panels = {"truth": test_labels, "all skips": result}
for step, scale in enumerate(("1/4", "1/2", "1")):
    panels[f"no skip at scale {scale}"] = predict_without(step)
figure, axes = plt.subplots(3, 2, figsize=(9, 4.4), layout="constrained")
axes[0, 0].imshow(test_image, cmap="gray")
axes[0, 0].set_title("image")
for panel, (title, label_map) in zip(axes.flat[1:], panels.items(), strict=True):
    panel.imshow(overlay(test_image, label_map - 1))  # the table is left bare
    panel.set_title(title)
for panel in axes.flat:
    panel.set(xticks=[], yticks=[])

# %%
# The paper weighs pixels: more where two objects nearly touch, so that the net learns the gap
# between them. ``sample_weight`` takes such maps. This is equation (2) of the paper, with its
# values w0 = 10 and sigma = 5, on cells that nearly touch.


def border_weights(objects, w0=10.0, sigma=5.0):
    """Weights (H, W) float32 that rise where two objects are near."""
    ids = np.unique(objects[objects > 0])
    distances = np.stack([ndimage.distance_transform_edt(objects != i) for i in ids])
    nearest, second = np.sort(distances, axis=0)[:2]
    weight = 1 + w0 * np.exp(-((nearest + second) ** 2) / (2 * sigma**2)) * (objects == 0)
    return weight.astype(np.float32)


rng = np.random.default_rng(3)
seeds = rng.integers(0, 96, (14, 2))
rows, columns = np.indices((96, 96))
distances = np.hypot(rows[..., None] - seeds[:, 0], columns[..., None] - seeds[:, 1])
first, second = np.sort(distances, axis=-1)[..., :2].transpose(2, 0, 1)
cells = np.where((second - first > 5) & (first < 17), distances.argmin(-1) + 1, 0)

figure, (left, right) = plt.subplots(1, 2, figsize=(7, 3.2), layout="constrained")
left.imshow(overlay(np.zeros(cells.shape), cells - 1, alpha=0.9))
left.set_title("objects")
shown = right.imshow(border_weights(cells), cmap="inferno")
right.set_title("weights of pixels")
figure.colorbar(shown)
for panel in (left, right):
    panel.set(xticks=[], yticks=[])

small = segalgos.UNetSegmenter.small()
small.fit(np.float32(cells > 0), np.int32(cells > 0), sample_weight=border_weights(cells))
