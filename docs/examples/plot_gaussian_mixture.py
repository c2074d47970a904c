"""
Gaussian mixture: clusters of any shape
=======================================

k-means cuts the space of colours into cells around its centres. A Gaussian mixture gives every
cluster its own size and direction as well, so that a narrow range of colours can be told from a
wide one that surrounds it.
"""

import matplotlib.pyplot as plt
import numpy as np
from skimage import data

import segalgos

image = data.coffee()[::2, ::2]


def paint(labels):
    """Paint every pixel in the mean colour of its cluster."""
    means = np.stack([image[labels == k].mean(axis=0) for k in range(labels.max() + 1)])
    return means[labels].round().astype(np.uint8)


figure, axes = plt.subplots(1, 3, figsize=(9, 3.3), layout="constrained")
axes[0].imshow(image)
axes[0].set_title("image")
axes[1].imshow(paint(segalgos.kmeans(image, 5, random_state=0)))
axes[1].set_title("k-means")
axes[2].imshow(paint(segalgos.gaussian_mixture(image, 5, random_state=0)))
axes[2].set_title("Gaussian mixture")
for panel in axes:
    panel.axis("off")

# %%
# The fitted mixture tells how sure it is: where the largest posterior probability is low, a pixel
# lies between components.

segmenter = segalgos.GaussianMixtureSegmenter(5, random_state=0).fit(image)
posteriors = segmenter.posteriors(image)

figure, axes = plt.subplots(1, 2, figsize=(9, 4.2), layout="constrained")
axes[0].imshow(segalgos.plot.overlay(image, segmenter.predict(image), boundaries=False))
axes[0].set_title("components")
shown = axes[1].imshow(posteriors.max(axis=-1), cmap="gray", vmin=0.4, vmax=1)
axes[1].set_title("largest posterior probability")
figure.colorbar(shown, ax=axes[1], shrink=0.8)
for panel in axes:
    panel.axis("off")
