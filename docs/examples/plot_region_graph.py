"""
Region graph: which superpixels touch, and how alike they are
=============================================================

`segalgos.region_graph` turns a label map into a graph: regions with their mean colours,
borders with their lengths and contrasts. Merging on it is quick, since it no longer looks at
pixels.
"""

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.collections import LineCollection
from skimage import data

from segalgos import slic
from segalgos.plot import overlay
from segalgos.region_graph import region_graph

image = data.coffee()
graph = region_graph(slic(image, 300), image)
pairs, entries = graph.edges()

figure, axes = plt.subplots(2, 2, figsize=(10, 7), layout="constrained")
axes[0, 0].imshow(graph.color[graph.labels].astype(np.uint8))
centres = graph.centroid[:, ::-1]  # x, y
lines = LineCollection(centres[pairs], array=graph.contrast[entries], cmap="plasma", linewidths=1)
axes[0, 0].add_collection(lines)
axes[0, 0].set_title(f"{graph.n_regions} regions, {len(pairs)} borders and their contrast")

# %%
# The two most similar neighbours are merged again and again. The tree of merges is kept:
# another number of segments costs nothing more.

hierarchy = graph.hierarchy(weight="color")
for panel, n_segments in zip(axes.flat[1:], (100, 30, 8), strict=True):
    panel.imshow(overlay(image, hierarchy.cut(n_segments=n_segments), alpha=0.5))
    panel.set_title(f"n_segments={n_segments}")
for panel in axes.flat:
    panel.axis("off")

# %%
# For other algorithms on graphs there is networkx.

print(graph.to_networkx())
