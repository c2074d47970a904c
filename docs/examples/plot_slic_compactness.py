"""
SLIC: superpixels that follow edges, or a grid
==============================================

``n_segments`` says how many pieces, ``compactness`` how much they keep their shape.
"""

import matplotlib.pyplot as plt
from skimage import data

import segalgos
from segalgos.plot import overlay

image = data.chelsea()

figure, axes = plt.subplots(2, 3, figsize=(10, 5), layout="constrained")
for row, n_segments in zip(axes, (60, 250), strict=True):
    for panel, compactness in zip(row, (1.0, 10.0, 40.0), strict=True):
        segmenter = segalgos.SLICSegmenter(n_segments, compactness=compactness)
        labels = segmenter.predict(image)
        panel.imshow(overlay(image, labels, alpha=0.25))
        panel.set_title(f"n_segments={n_segments}, compactness={compactness:g}", fontsize=9)
        panel.axis("off")

# %%
# Superpixels are a beginning. Here every one is painted in its mean colour: 250 numbers instead of
# 135 300 pixels, and the cat is still there.

import numpy as np

labels = segalgos.SLICSegmenter(250).predict(image)
means = np.stack([image[labels == k].mean(axis=0) for k in range(labels.max() + 1)])

figure, axes = plt.subplots(1, 2, figsize=(10, 3.6), layout="constrained")
axes[0].imshow(image)
axes[1].imshow(means[labels].round().astype(np.uint8))
for panel in axes:
    panel.axis("off")
