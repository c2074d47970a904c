"""
UCM: all levels of detail in one hierarchy
==========================================

The strength of contours is turned into basins, arcs between them are weighed, and regions merge
along their weakest arcs. What comes out is no single partition but all of them, nested.
"""

import matplotlib.pyplot as plt
import numpy as np
from skimage import data
from skimage.segmentation import mark_boundaries

import segalgos
from segalgos.plot import overlay

image = data.coffee()[60:330, 80:480]

strength = segalgos.gradient_contours(image)
arcs = segalgos.oriented_watershed(strength)
hierarchy = arcs.hierarchy()

figure, axes = plt.subplots(2, 2, figsize=(10, 7), layout="constrained")
axes[0, 0].imshow(strength.max(axis=0), cmap="gray_r")
axes[0, 0].set_title("strength of contours")
axes[0, 1].imshow(mark_boundaries(image, arcs.graph.labels, color=(1, 1, 1), mode="inner"))
axes[0, 1].set_title(f"{arcs.graph.n_regions} basins")
for panel, contours, title in (
    (axes[1, 0], arcs.contours, "arcs, weighed in their orientation"),
    (axes[1, 1], hierarchy.ucm(), "ultrametric contour map"),
):
    # Lines lie between pixels of a map of twice the size: the largest nearby is shown.
    height, width = (n // 2 for n in contours.shape)
    thick = np.maximum.reduce([contours[i::2, j::2][:height, :width] for i, j in np.ndindex(2, 2)])
    panel.imshow(np.sqrt(thick), cmap="gray_r")
    panel.set_title(title)
for panel in axes.flat:
    panel.axis("off")

# %%
# A cut is immediate: by level, by number, or by the area that regions must have.

figure, axes = plt.subplots(1, 3, figsize=(12, 3.2), layout="constrained")
for panel, options in zip(
    axes, ({"level": 16}, {"n_segments": 12}, {"min_area": 400}), strict=True
):
    labels = hierarchy.cut(**options)
    panel.imshow(overlay(image, labels, alpha=0.4))
    ((name, value),) = options.items()
    panel.set_title(f"{name}={value}: {labels.max() + 1} regions")
    panel.axis("off")

# %%
# Strokes choose among the levels: each region takes the label of the lowest ancestor with a stroke.

strokes = np.full(image.shape[:2], -1)
strokes[90:96, 150:230] = 1  # coffee
strokes[35:41, 130:230] = 2  # cup: its inner wall and its rim
strokes[20:90, 98:102] = 2
strokes[10:260, 20:24] = 0  # all the rest
strokes[150:156, 120:250] = 0
labels = hierarchy.cut(scribbles=strokes)

figure, axes = plt.subplots(1, 2, figsize=(10, 3.6), layout="constrained")
axes[0].imshow(overlay(image, strokes, alpha=1))
axes[0].set_title("strokes")
axes[1].imshow(overlay(image, labels, alpha=0.5))
axes[1].set_title("their regions")
for panel in axes:
    panel.axis("off")
