"""
The rendered data sets
======================

``shapes`` and ``pins`` are drawn by the library: nothing to download, and every pixel's truth is
known exactly. Their options make them harder in one way at a time.
"""

import matplotlib.pyplot as plt

from segalgos import datasets
from segalgos.plot import draw_instances, overlay


def show_truths(name):
    """Images of a data set with their three truths: classes, objects, regions."""
    samples = datasets.load(name, split="train", n_images=3)
    _, axes = plt.subplots(4, 3, figsize=(10, 10.2), layout="constrained")
    for column, sample in zip(axes.T, samples, strict=True):
        column[0].imshow(sample.image)
        column[1].imshow(overlay(sample.image, sample.labels))
        column[2].imshow(draw_instances(sample.image, sample.instances, scores=False))
        column[3].imshow(overlay(sample.image, sample.annotations[0]))
    for row, title in zip(axes, ("image", "classes", "objects", "regions"), strict=True):
        row[0].set_ylabel(title)
    for panel in axes.flat:
        panel.set(xticks=[], yticks=[])
        panel.spines[:].set_visible(False)


# %%
# ``shapes``: discs, boxes, triangles, stars and rings. Neither colour nor texture alone gives the
# class away: the outline decides.

show_truths("shapes")

# %%
# ``pins``: rows of thin connector pins on a board, each up, bent or missing. Small parts, and a
# question that people have.

show_truths("pins")

# %%
# The same scene, harder in one way at a time:

figure, axes = plt.subplots(2, 3, figsize=(10, 5.4), layout="constrained")
options = (
    {},
    {"noise": 40.0},
    {"blur": 3.0},
    {"illumination": 1.0},
    {"overlap": 1.0},
    {"scale": 0.5},
)
for panel, option in zip(axes.flat, options, strict=True):
    panel.imshow(datasets.load("shapes", n_images=1, **option)[0].image)
    panel.set_title(", ".join(f"{k}={v}" for k, v in option.items()) or "as it comes")
    panel.axis("off")

# %%
# With ``label_fraction`` below 1 the labels for learning are strokes, as a person would draw them.

sample = datasets.load("shapes", n_images=1, label_fraction=0.05)[0]
figure, axes = plt.subplots(1, 2, figsize=(8, 3.1), layout="constrained")
axes[0].imshow(sample.image)
axes[1].imshow(overlay(sample.image, sample.labels, alpha=1))
for panel in axes:
    panel.axis("off")
