"""
Mean shift: what is near in space and in colour
===============================================

Every pixel climbs to a mode of the density of pixels in space and colour together.
``spatial_bandwidth`` (pixels) and ``range_bandwidth`` (units of Lab) say what is near; nobody
says how many regions there are.
"""

import matplotlib.pyplot as plt
from skimage import data

import segalgos
from segalgos.plot import overlay

image = data.coffee()

figure, axes = plt.subplots(2, 3, figsize=(10, 5), layout="constrained")
for row, spatial_bandwidth in zip(axes, (8, 24), strict=True):
    for panel, range_bandwidth in zip(row, (5, 9, 14), strict=True):
        labels = segalgos.mean_shift(image, spatial_bandwidth, range_bandwidth)
        panel.imshow(overlay(image, labels, alpha=0.5))
        panel.set_title(
            f"{spatial_bandwidth} px, {range_bandwidth} Lab: {labels.max() + 1} regions", fontsize=9
        )
        panel.axis("off")

# %%
# Painted in the colours of their modes, pixels make a smoother image that keeps its edges.

cup = image[60:300, 150:450]

figure, axes = plt.subplots(1, 3, figsize=(10, 3), layout="constrained")
axes[0].imshow(cup)
axes[0].set_title("image", fontsize=9)
for panel, kernel, spatial_bandwidth, range_bandwidth in (
    (axes[1], "flat", 8, 10),
    (axes[2], "gaussian", 4, 5),
):
    panel.imshow(segalgos.mean_shift_filter(cup, spatial_bandwidth, range_bandwidth, kernel=kernel))
    panel.set_title(f'kernel="{kernel}"', fontsize=9)
for panel in axes:
    panel.axis("off")
