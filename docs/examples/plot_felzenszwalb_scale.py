"""
Felzenszwalb: how large are regions?
====================================

``scale`` sets how easily regions merge: the larger, the fewer. It does not set their number,
which depends on the image.
"""

import matplotlib.pyplot as plt
from skimage import data

import segalgos
from segalgos.plot import overlay

image = data.rocket()

figure, axes = plt.subplots(2, 2, figsize=(10, 7), layout="constrained")
axes[0, 0].imshow(image)
axes[0, 0].set_title("image")
for panel, scale in zip(axes.flat[1:], (30, 300, 3000), strict=True):
    labels = segalgos.FelzenszwalbSegmenter(scale=scale).predict(image)
    panel.imshow(overlay(image, labels, alpha=0.7))
    panel.set_title(f"scale={scale}: {labels.max() + 1} regions")
for panel in axes.flat:
    panel.axis("off")

# %%
# ``min_size`` joins what is smaller to its most similar neighbour. ``sigma`` smooths the image
# before, against noise.

for min_size in (1, 20, 200):
    labels = segalgos.FelzenszwalbSegmenter(scale=300, min_size=min_size).predict(image)
    print(f"min_size={min_size}: {labels.max() + 1} regions")
