"""
k-means: how many colours?
==========================

k-means groups the colours of an image into as many clusters as you ask for. It knows nothing of
place: a cluster may lie in many parts of the picture.
"""

import matplotlib.pyplot as plt
import numpy as np
from skimage import data

import segalgos

image = data.coffee()[::2, ::2]

# %%
# Painting every pixel in the mean colour of its cluster shows what is kept of the image.

counts = (2, 4, 8)
figure, axes = plt.subplots(2, 2, figsize=(9, 6), layout="constrained")
axes[0, 0].imshow(image)
axes[0, 0].set_title("image")
for panel, n_clusters in zip(axes.flat[1:], counts, strict=True):
    labels = segalgos.KMeansSegmenter(n_clusters, random_state=0).fit_predict(image)
    means = np.stack([image[labels == k].mean(axis=0) for k in range(labels.max() + 1)])
    panel.imshow(means[labels].round().astype(np.uint8))
    panel.set_title(f"{n_clusters} clusters")
for panel in axes.flat:
    panel.axis("off")

# %%
# Distances can be taken in the Lab colour space instead, where they follow what eyes see as
# different.

figure, axes = plt.subplots(1, 2, figsize=(9, 3.2), layout="constrained")
for panel, space in zip(axes, ("rgb", "lab"), strict=True):
    segmenter = segalgos.KMeansSegmenter(4, color_space=space, random_state=0)
    panel.imshow(segalgos.plot.overlay(image, segmenter.fit_predict(image), boundaries=False))
    panel.set_title(f'color_space="{space}"')
    panel.axis("off")
