"""
Normalized cuts: how much may a cut cost?
=========================================

Superpixels are cut apart where little similarity is lost, in relation to what stays together.
``max_ncut`` sets how much a cut may cost; ``n_segments`` asks for a number instead.
"""

import matplotlib.pyplot as plt
from skimage import data

import segalgos
from segalgos.plot import overlay

image = data.chelsea()

figure, axes = plt.subplots(2, 2, figsize=(10, 7), layout="constrained")
axes[0, 0].imshow(image)
axes[0, 0].set_title("image")
for panel, max_ncut in zip(axes.flat[1:], (0.002, 0.01, 0.05), strict=True):
    labels = segalgos.NormalizedCutsSegmenter(max_ncut=max_ncut).predict(image)
    panel.imshow(overlay(image, labels, alpha=0.5))
    panel.set_title(f"max_ncut={max_ncut}: {labels.max() + 1} segments")
for panel in axes.flat:
    panel.axis("off")

# %%
# Superpixels of your own are used as they are, here 100 in place of 400.

labels = segalgos.normalized_cuts(image, 5, labels=segalgos.slic(image, 100))
print(f"{labels.max() + 1} segments")
