"""
Scribbles and a random forest
=============================

A few strokes a class are enough to begin. Where the result is wrong, draw some more.
"""

import matplotlib.pyplot as plt
import numpy as np
from skimage import data

import segalgos
from segalgos.plot import overlay

image = data.coins()

# %%
# Scribbles are a label map that is -1 wherever nothing was drawn. Here class 0 is the background
# and class 1 are coins.

scribbles = np.full(image.shape, -1)
scribbles[85:88, 20:240] = 0
scribbles[222:225, 100:300] = 0
scribbles[52:55, 28:60] = 1
scribbles[125:128, 145:168] = 1
drawn = (scribbles >= 0).mean()
print(f"{drawn:.1%} of the pixels have a label")

forest = segalgos.RandomForestSegmenter(random_state=0)
forest.fit(image, scribbles)
first = forest.predict(image)

# %%
# It says itself where it is least sure. Look there and where it is wrong, and correct it: here
# at the upper border, where the background is bright, and on the dark coins. `refit` learns
# from all scribbles again, without computing features anew.

unsure = forest.uncertainty(image)
where = forest.suggest_scribbles(image, n_points=5)

scribbles[8:11, 20:290] = 0
scribbles[20:24, 70:74] = 0
scribbles[150:153, 60:300] = 0
scribbles[265:268, 28:68] = 1
scribbles[265:268, 150:195] = 1
scribbles[185:188, 325:370] = 1
forest.refit(0, scribbles)
second = forest.predict(image)

figure, axes = plt.subplots(2, 2, figsize=(9, 7.5), layout="constrained")
axes[0, 0].imshow(unsure, cmap="gray")
axes[0, 0].plot(where[:, 1], where[:, 0], "r+", markersize=12, markeredgewidth=2)
axes[0, 0].set_title("uncertainty, and where to scribble next")
axes[0, 1].imshow(overlay(image, scribbles, alpha=1))
axes[0, 1].set_title("all scribbles")
for panel, labels, title in zip(axes[1], (first, second), ("first", "second"), strict=True):
    panel.imshow(overlay(image, labels))
    panel.set_title(f"{title} result")
for panel in axes.flat:
    panel.axis("off")

# %%
# The forest also says how sure it is, and what it looked at.

proba = forest.predict_proba(image)
figure, panel = plt.subplots(figsize=(6, 4.4), layout="constrained")
shown = panel.imshow(proba[..., 1], vmin=0, vmax=1, cmap="gray")
figure.colorbar(shown, label="probability of a coin")
panel.axis("off")

best = np.argsort(forest.feature_importances_)[::-1][:5]
for i in best:
    print(f"{forest.feature_names_[i]:>16}  {forest.feature_importances_[i]:.2f}")
