"""
What a coarse map can still draw
================================

A net that scores cells of 32 pixels has to make a picture of them again. How well could it do, if
its scores were perfect? Here the truth itself takes the place of the scores: it is averaged over
cells, enlarged with the initial weights of :class:`FCN <segalgos.nets.fcn.FCN>`, and compared with
what it was.
"""

import matplotlib.pyplot as plt
import numpy as np
import torch
import torch.nn.functional as F

from segalgos import FCNSegmenter, datasets
from segalgos.metrics.semantic import semantic_scores
from segalgos.nets.fcn import bilinear_kernel
from segalgos.plot import overlay

data = datasets.load("shapes", split="test", n_images=8, size=(192, 256))
images, labels = list(data.images), [np.asarray(label_map) for label_map in data.labels]
n_classes = len(data.classes)

# %%
# A transposed convolution of stride s whose kernel is a tent of 2 s x 2 s values interpolates
# bilinearly. FCN starts so, and may learn something better.

STRIDES = (32, 16, 8, 4)


def best_possible(label_map, stride):
    """Label map that perfect scores of cells give."""
    truth = F.one_hot(torch.from_numpy(label_map).long(), n_classes).permute(2, 0, 1)[:, None]
    cells = F.avg_pool2d(truth.float(), stride)  # (K, 1, H / stride, W / stride)
    cells = F.pad(cells, (1, 1, 1, 1), mode="replicate")
    scores = F.conv_transpose2d(cells, bilinear_kernel(stride)[None, None], stride=stride)
    crop = stride + stride // 2
    return scores[:, 0, crop:-crop, crop:-crop].argmax(0).numpy().astype(np.int32)


results = {stride: [best_possible(label_map, stride) for label_map in labels] for stride in STRIDES}

figure, axes = plt.subplots(1, 5, figsize=(11, 2.2), layout="constrained")
axes[0].imshow(overlay(images[0], labels[0]))
axes[0].set_title("truth")
for panel, (stride, found) in zip(axes[1:], results.items(), strict=True):
    score = semantic_scores(found, labels, n_classes)["mean_iou_dataset"]
    panel.imshow(overlay(images[0], found[0]))
    panel.set_title(f"cells of {stride}: IoU {score:.2f}")
for panel in axes:
    panel.set(xticks=[], yticks=[])

# %%
# The coarser the map, the rounder the objects; small ones vanish. FCN-16s and FCN-8s add scores
# of earlier, finer maps for that reason. DeepLab keeps cells of 16 or 8 pixels by dilation,
# SegFormer and DeepLab v3+ decode at 4, DDRNet at 8, and U-Net at single pixels.

figure, (left, right) = plt.subplots(1, 2, figsize=(8, 3), layout="constrained")
left.imshow(bilinear_kernel(8), cmap="viridis")
left.set_title("weights for stride 8")
scores = [
    semantic_scores(results[stride], labels, n_classes)["iou_per_class"] for stride in STRIDES
]
for name, values in zip(data.classes, np.transpose(scores), strict=True):
    right.plot(range(len(STRIDES)), values, ".-", label=name)
right.set_xticks(range(len(STRIDES)), STRIDES)
right.set(xlabel="pixels from cell to cell", ylabel="best possible IoU", ylim=(0, 1.02))
right.legend(fontsize=8)

# %%
# Now three real nets, small and trained for seconds on one picture only: enough to see the size
# of their cells, not what FCN can do.

image, truth = images[0][:96, :128], np.minimum(labels[0][:96, :128], 1)
figure, axes = plt.subplots(1, 4, figsize=(11, 2.4), layout="constrained")
axes[0].imshow(overlay(image, truth - 1))  # the background is left bare
axes[0].set_title("truth")
for panel, variant in zip(axes[1:], ("32s", "16s", "8s"), strict=True):
    net = FCNSegmenter(
        variant=variant,
        base_channels=12,
        fc_channels=64,
        dropout=0.0,
        epochs=40,
        batch_size=1,
        crop_size=128,
        learning_rate=3e-3,
        augment=False,
        random_state=0,
    )
    net.fit(image, truth)
    panel.imshow(overlay(image, net.predict(image) - 1))
    panel.set_title(f"FCN-{variant}")
for panel in axes:
    panel.set(xticks=[], yticks=[])
