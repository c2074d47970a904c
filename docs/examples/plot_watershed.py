"""
Watershed: where does the flood begin?
======================================

The gradient of an image is a landscape with walls along contours. Water rises from its lowest
places, and where two floods meet there is a boundary. Without further word, the flood begins at
every minimum that is deep enough.
"""

import matplotlib.pyplot as plt
import numpy as np
from skimage import data

import segalgos
from segalgos.plot import overlay

image = data.coins()

figure, axes = plt.subplots(2, 2, figsize=(9, 7.5), layout="constrained")
axes[0, 0].imshow(image, cmap="gray")
axes[0, 0].set_title("image")
for panel, depth in zip(axes.flat[1:], (1, 5, 12), strict=True):
    labels = segalgos.WatershedSegmenter(min_depth=depth).predict(image)
    panel.imshow(overlay(image, labels))
    panel.set_title(f"min_depth={depth}: {labels.max() + 1} regions")
for panel in axes.flat:
    panel.axis("off")

# %%
# Better than a guess at depths is a word from you: one stroke on each coin and one on the
# background give one region each, with the strokes' ids. The coin at the right of the third row
# has walls within: there a longer stroke would help.

scribbles = np.full(image.shape, -1)
coins = {
    52: (50, 106, 163, 222, 280, 348),
    127: (45, 102, 158, 217, 278, 332),
    198: (45, 105, 158, 218, 275, 346),
    268: (46, 112, 171, 240, 299, 354),
}
for row, columns in coins.items():
    for column in columns:
        stroke = scribbles[row - 6 : row + 6, column - 6 : column + 6]
        stroke[:] = max(scribbles.max(), 0) + 1
for row in (5, 90, 163, 232, 298):
    scribbles[row - 2 : row + 2, 5:-5] = 0

prompts = segalgos.Prompts(scribbles=scribbles)
labels = segalgos.WatershedSegmenter().predict(image, prompts=prompts)

# %%
# ``compactness`` weighs the distance from the seed against the walls. With seeds on a grid that
# gives superpixels.

grid = np.full(image.shape, -1)
grid[12::24, 12::24] = np.arange(grid[12::24, 12::24].size).reshape(grid[12::24, 12::24].shape)
superpixels = segalgos.watershed(image, grid, sigma=1, compactness=0.5)

figure, axes = plt.subplots(1, 3, figsize=(12, 3.6), layout="constrained")
axes[0].imshow(overlay(image, scribbles, alpha=1))
axes[0].set_title("strokes")
axes[1].imshow(overlay(image, labels))
axes[1].set_title("their regions")
axes[2].imshow(overlay(image, superpixels, alpha=0.3))
axes[2].set_title("compact regions from a grid of seeds")
for panel in axes:
    panel.axis("off")
